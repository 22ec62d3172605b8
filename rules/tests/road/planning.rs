//! Before acting: the dry run, what the deployment brought, and releases that must not come back.

use super::*;
use rules::deployment::{Change, DeployEvent};
use rules::ids::Version;
use rules::plan::CannotPlan;
use rules::watch::Watch;

fn reasons(world: &World) -> Vec<HoldReason> {
    world.watch.decision.iter().flat_map(|decided| &decided.holds).map(|hold| hold.reason).collect()
}

/// A bad release whose source says what it brought.
fn that_brought(changes: &[Change]) -> World {
    let mut world = bad_release(Auto);
    let deployment = &mut world.watch.deployment;
    deployment.changes = Some(changes.iter().copied().collect());
    let fact = FleetEntry::Deployed { deployment: deployment.clone(), watch: world.watch.id.clone() };
    world.fact(fact);
    world
}

#[test]
fn a_plan_is_rehearsed_before_it_is_carried_out_and_once() {
    let mut world = bad_release(Auto);
    world.run_to(AN_HOUR);
    let place =
        |wanted: fn(&Entry) -> bool| world.entries.iter().position(|(_, entry)| wanted(entry)).unwrap();
    let rehearsed = place(|entry| matches!(entry, Entry::Rehearsed { .. }));
    assert!(rehearsed < place(|entry| matches!(entry, Entry::PlanDrawn { .. })));
    assert_eq!(world.count(|entry| matches!(entry, Entry::Rehearsed { .. })), 1);
    assert_eq!(world.outcome(), Some(&Outcome::RolledBack));
    // It is no reason to wake anybody up.
    assert_eq!(world.told(NoticeKind::Held), 0, "{:#?}", world.titles());
}

#[test]
fn what_would_fail_is_put_before_a_person() {
    let mut world = bad_release(Auto);
    world.would_fail.insert("switch".into(), "403 forbidden".into());
    world.run_to(300);
    assert!(world.begun.is_empty());
    let decided = world.watch.decision.clone().unwrap();
    assert_eq!(decided.decision, Decision::Propose { approval: true }, "{:?}", decided.holds);
    assert!(
        decided.holds.iter().any(|hold| hold.words.contains("switch: 403 forbidden")),
        "{:?}",
        decided.holds
    );
    // A person's word counts for more than a trial.
    world.approve();
    world.run_to(AN_HOUR);
    assert_eq!(world.begun.len(), 1);
}

#[test]
fn a_rehearsal_that_never_comes_back_is_not_waited_for() {
    let mut world = bad_release(Auto);
    world.rehearsals_come = false;
    world.run_to(600);
    assert!(world.begun.is_empty());
    assert!(reasons(&world).contains(&HoldReason::DryRunFails), "{:?}", reasons(&world));
    assert_eq!(world.told(NoticeKind::ApprovalNeeded), 1, "{:#?}", world.titles());
}

#[test]
fn after_a_restart_it_is_asked_for_again() {
    let mut world = bad_release(Auto);
    world.rehearsals_come = false;
    for second in 0..600 {
        world.run_to(second);
        if reasons(&world).contains(&HoldReason::NotRehearsed) {
            break;
        }
    }
    assert!(reasons(&world).contains(&HoldReason::NotRehearsed));
    world.restart();
    world.rehearsals_come = true;
    world.run_to(AN_HOUR);
    assert_eq!(world.outcome(), Some(&Outcome::RolledBack), "{:#?}", world.titles());
}

#[test]
fn a_migration_that_cannot_be_taken_back_is_fixed_forward() {
    let mut world = that_brought(&[Change::Code, Change::IrreversibleMigrations]);
    world.run_to(AN_HOUR);
    assert!(world.begun.is_empty());
    let refused =
        |entry: &Entry| matches!(entry, Entry::CannotPlan { reason: CannotPlan::SchemaMoved { .. } });
    assert_eq!(world.count(refused), 1, "{:#?}", world.titles());
    let (_, notice) = world.notices.iter().find(|(_, notice)| notice.kind == NoticeKind::CannotPlan).unwrap();
    assert!(notice.text.contains("fix forward"), "{}", notice.text);
}

/// The release in between moved the schema, and this one is bad: going back behind both is refused.
#[test]
fn a_migration_of_a_release_in_between_counts_too() {
    let mut world = bad_release(Approve);
    let (mut between, id) = (world.watch.deployment.clone(), world.watch.id.clone());
    let own = FleetEntry::Deployed { deployment: between.clone(), watch: id.clone() };
    between.release = release("v1-5");
    between.changes = Some([Change::IrreversibleMigrations].into());
    world.proven("v1");
    for fact in [FleetEntry::Deployed { deployment: between, watch: id }, own] {
        world.fact(fact);
    }
    let plan = |to: &str| world.watch.draft(Some(&Version::new(to).unwrap()), &world.situation(), at(60));
    assert!(matches!(plan("v1"), Err(CannotPlan::SchemaMoved { version }) if version == "v1-5"));
    assert!(plan("v1-5").is_ok(), "that one has the schema as it is");
}

#[test]
fn a_security_fix_is_not_taken_back_alone() {
    let mut world = bad_release(Auto);
    world.watch.deployment.security_fix = true;
    world.run_to(300);
    assert!(world.begun.is_empty());
    assert!(reasons(&world).contains(&HoldReason::SecurityFix), "{:?}", reasons(&world));
    assert_eq!(world.told(NoticeKind::ApprovalNeeded), 1);
}

#[test]
fn a_release_below_the_floor_does_not_come_back_whoever_asks() {
    let mut rules = impatient(Auto);
    rules.guards.never_return_to = vec![Version::new("v1").unwrap()];
    let mut world = World::new(rules, WELL, BAD, 20.0, 3);
    world.run_to(300);
    assert!(world.begun.is_empty());
    world.tell(Input::RollbackAsked { by: "ann".into(), to: None, drill: false });
    let refusal = world.answers.last().unwrap().clone().unwrap_err();
    assert!(refusal.contains("never_return_to"), "{refusal}");
    assert!(world.begun.is_empty());
}

#[test]
fn what_the_agent_stands_on_is_not_turned_back_alone() {
    let mut rules = impatient(Auto);
    rules.guards.own_ground = Some(true);
    let mut world = World::new(rules, WELL, BAD, 20.0, 4);
    world.run_to(300);
    assert!(world.begun.is_empty());
    assert_eq!(world.told(NoticeKind::Recommended), 1, "{:#?}", world.titles());
}

/// Two services were turned back within the hour: of so few, that is more than one may do alone.
#[test]
fn a_second_service_within_the_hour_is_a_persons() {
    let other = |world: &mut World| {
        world.fact(FleetEntry::RollbackBegan {
            service: rules::ids::ServiceName::new("billing").unwrap(),
            environment: environment(),
            plan: PlanId::new("p-other").unwrap(),
            from: Version::new("v9").unwrap(),
            by_person: false,
            drill: false,
            at: at(-600),
        });
        world.fact(FleetEntry::RollbackEnded {
            service: rules::ids::ServiceName::new("billing").unwrap(),
            environment: environment(),
            plan: PlanId::new("p-other").unwrap(),
            running: None,
            at: at(-500),
        });
    };
    let mut world = World::with(impatient(Auto), WELL, BAD, 20.0, 5, other);
    world.run_to(300);
    assert!(world.begun.is_empty());
    assert!(reasons(&world).contains(&HoldReason::BlastRadius), "{:?}", reasons(&world));
}

/// What an event says it brought goes the whole way into the watch.
#[test]
fn the_changes_of_an_event_are_those_of_the_watch() {
    let event = DeployEvent { changes: Some([Change::Flags].into()), ..world::deploy("v2", "deploy-9", 0) };
    let (watch, _effects) = Watch::open(&event, impatient(Auto), &Default::default(), at(1));
    assert!(watch.deployment.brought(Change::Flags) && !watch.deployment.brought(Change::Code));
}
