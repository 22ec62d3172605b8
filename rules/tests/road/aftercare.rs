//! After a rollback that helped: checkpoints, bounds, and what happens when it does not hold.

use super::*;
use proptest::prelude::*;
use rules::checkpoint::{Checkpoint, Standing, Taken, Target};
use rules::ruleset::RuleSet;
use rules::units::{Quantity, Unit};
use rules::watch::{Notice, Watch};
use std::collections::BTreeMap;

/// Checkpoints by name and seconds after the rollback, each with the usual bounds.
pub fn checkpoints(named: &[(&str, u64)]) -> BTreeMap<String, Checkpoint> {
    let bounds: BTreeMap<_, _> = [
        ("errors", Target::Below(Quantity { value: 0.02, unit: Unit::Percent })),
        ("latency", Target::Below(Quantity { value: 0.5, unit: Unit::Time })),
        ("queue_depth", Target::Below(Quantity { value: 50.0, unit: Unit::Plain })),
    ]
    .into_iter()
    .map(|(name, target)| (world::signal(name), target))
    .collect();
    let checkpoint = |seconds| Checkpoint { after: Span::from_seconds(seconds), bounds: bounds.clone() };
    named.iter().map(|(name, seconds)| ((*name).to_owned(), checkpoint(*seconds))).collect()
}

fn looked_after(named: &[(&str, u64)]) -> RuleSet {
    RuleSet {
        watch: rules::ruleset::WatchSettings { checkpoints: checkpoints(named), ..rules(Auto).watch },
        ..impatient(Auto)
    }
}

const THREE: [(&str, u64); 3] = [("soon", 300), ("later", 1_800), ("last", 7_200)];

fn turned_back(named: &[(&str, u64)], seed: u64) -> World {
    let mut world = World::new(looked_after(named), WELL, BAD, 20.0, seed);
    while !world.watch.in_aftercare() {
        let next = world.now.as_second() - at(0).as_second() + 1;
        assert!(next < AN_HOUR, "it never recovered: {:#?}", world.titles());
        world.run_to(next);
    }
    world
}

fn taken(world: &World) -> Vec<Taken> {
    let all = world.entries.iter().filter_map(|(_, entry)| match entry {
        Entry::CheckpointTaken { taken, .. } => Some((**taken).clone()),
        _ => None,
    });
    all.collect()
}

fn seconds(world: &World) -> i64 {
    world.now.as_second() - at(0).as_second()
}

fn of_kind(world: &World, kind: NoticeKind) -> Vec<&Notice> {
    world.notices.iter().filter(|(_, notice)| notice.kind == kind).map(|(_, notice)| notice).collect()
}

#[test]
fn every_checkpoint_is_taken_in_its_time_and_the_last_closes() {
    let mut world = turned_back(&THREE, 41);
    assert!(world.watch.incident.as_ref().unwrap().recovered.is_some());
    assert_eq!(world.situation().active_here, None, "for the fleet the plan is over");
    assert!(!world.watch.health().ails);
    assert_eq!(world.watch.health().seen_until, None, "others do not wait for its rare looks");
    let ended = world.watch.aftercare.as_ref().unwrap().ended;
    world.run_to(seconds(&world) + 3 * AN_HOUR);
    assert_eq!(world.outcome(), Some(&Outcome::RolledBack), "{:#?}", world.titles());
    let taken = taken(&world);
    let names: Vec<(&str, Timestamp)> =
        taken.iter().map(|taken| (taken.checkpoint.as_str(), taken.due)).collect();
    let due = |seconds| Span::from_seconds(seconds).after(ended);
    assert_eq!(names, [("soon", due(300)), ("later", due(1_800)), ("last", due(7_200))]);
    for taken in &taken {
        assert_eq!(taken.late, None);
        assert_eq!(taken.verdict, Verdict::Healthy, "{taken:#?}");
        let standings: Vec<Standing> = taken.bounds.iter().map(|bound| bound.standing).collect();
        assert_eq!(standings, [Standing::Kept, Standing::Kept], "{taken:#?}");
        assert_eq!(taken.without_signal, [world::signal("queue_depth")]);
    }
    assert_eq!(world.told(NoticeKind::Checkpoint), 3, "{:#?}", world.titles());
    assert_eq!(world.told(NoticeKind::NeedsPerson), 0);
    let looks = world.count(|entry| matches!(entry, Entry::Measured { .. }));
    assert!(looks < 450, "after half an hour it is looked once a minute: {looks}");
}

#[test]
fn without_checkpoints_it_ends_with_the_recovery() {
    let mut world = World::new(impatient(Auto), WELL, BAD, 20.0, 42);
    world.run_to(AN_HOUR);
    assert_eq!(world.outcome(), Some(&Outcome::RolledBack));
    assert_eq!(world.count(|entry| matches!(entry, Entry::AftercareBegan { .. })), 0);
}

#[test]
fn what_does_not_hold_is_a_page_and_never_another_rollback() {
    for seed in 43..46 {
        let mut world = turned_back(&THREE, seed);
        world.run_to(seconds(&world) + 600);
        let now = world.now;
        world.loads.push((now, BAD));
        world.run_to(seconds(&world) + 900);
        assert!(
            matches!(world.outcome(), Some(Outcome::DidNotHold(why)) if why.contains("error-rate")),
            "{:?}",
            world.outcome()
        );
        let pages = of_kind(&world, NoticeKind::NeedsPerson);
        assert_eq!(pages.len(), 1, "{:#?}", world.titles());
        assert!(pages[0].text.contains("the rollback did not hold"), "{}", pages[0].text);
        assert!(world.fleet.auto_suspended().unwrap().contains("did not hold"));
        assert_eq!(world.begun.len(), 1, "a rollback is never rolled back");
    }
}

#[test]
fn a_late_checkpoint_says_that_it_is_late() {
    let mut world = turned_back(&THREE, 47);
    // The agent is down: nothing is heard for an hour.
    let back = at(seconds(&world) + AN_HOUR);
    world.now = back;
    world.restart();
    world.run_to(seconds(&world) + 60);
    let all = taken(&world);
    let names: Vec<&str> = all.iter().map(|taken| taken.checkpoint.as_str()).collect();
    assert_eq!(names, ["soon", "later"]);
    assert!(all.iter().all(|taken| taken.late.is_some_and(|late| late > Span::from_minutes(20))), "{all:#?}");
    assert_eq!(all[0].bounds, all[1].bounds, "both speak of the same time");
    let told = of_kind(&world, NoticeKind::Checkpoint);
    assert!(told[0].text.contains("late"), "{}", told[0].text);
    let line = world.watch.timeline.iter().find(|(_, words)| words.starts_with("checkpoint soon"));
    assert!(line.unwrap().1.contains("late"), "{line:?}");
}

#[test]
fn a_newer_deployment_ends_it_quietly() {
    let mut world = turned_back(&THREE, 48);
    let told = world.notices.len();
    world.supersede();
    assert_eq!(world.outcome(), Some(&Outcome::RolledBack));
    assert_eq!(world.notices.len(), told, "{:#?}", world.titles());
    // The same when the agent ends between hearing it and closing.
    let heard =
        world.entries.iter().position(|(_, entry)| matches!(entry, Entry::Superseded { .. })).unwrap();
    world.entries.truncate(heard + 1);
    world.restart();
    assert_eq!(world.outcome(), Some(&Outcome::RolledBack));
}

#[test]
fn a_person_cannot_turn_the_rollback_back_here() {
    let mut world = turned_back(&THREE, 49);
    world.tell(Input::RollbackAsked { by: "ann".into(), to: None, drill: false });
    assert!(world.answers.last().unwrap().as_ref().unwrap_err().contains("next checkpoint soon"));
    assert!(world.watch.in_aftercare());
}

#[test]
fn news_of_a_report_counts_and_old_ones_do_not() {
    let mut world = turned_back(&THREE, 50);
    let old = seconds(&world) - 60;
    world.tell(Input::Reported(report("smoke_test_failed", ReportState::Firing, old)));
    world.run_to(seconds(&world) + 120);
    assert!(world.watch.in_aftercare(), "what was reported before the recovery is no news");
    let now = seconds(&world);
    world.tell(Input::Reported(report("smoke_test_failed", ReportState::Firing, now)));
    assert!(matches!(world.outcome(), Some(Outcome::DidNotHold(_))), "{:?}", world.watch.phase);
}

#[test]
fn a_broken_bound_is_a_page_of_its_own() {
    let mut world = turned_back(&THREE, 51);
    let now = world.now;
    // More than the checkpoint allows, and not enough for any row that turns back.
    world.loads.push((now, Load { errors: 0.04, ..WELL }));
    world.run_to(seconds(&world) + 1_810);
    let later = taken(&world).remove(1);
    assert_eq!(later.standing(), Some(Standing::Broken), "{later:#?}");
    assert!(later.words().contains("broken: errors below 2%"), "{}", later.words());
    let pages = of_kind(&world, NoticeKind::CheckpointMissed);
    let page = pages.last().unwrap();
    assert!(page.kind.pages() && page.title.contains("checkpoint later missed"), "{page:?}");
    assert!(world.watch.in_aftercare(), "a bound that is missed is no verdict");
}

#[test]
fn a_ledger_from_before_checkpoints_can_be_read() {
    let mut world = World::new(impatient(Auto), WELL, BAD, 20.0, 52);
    world.run_to(AN_HOUR);
    let old = |entry: &Entry| {
        let mut written = serde_json::to_value(entry).unwrap();
        if let Some(rules) = written.pointer_mut("/opened/rules") {
            let watch = rules["watch"].as_object_mut().unwrap();
            assert!(watch.remove("checkpoints").is_some() && watch.remove("progress_every").is_some());
            assert!(rules.get("contacts").is_none(), "left out while there are none");
        }
        serde_json::from_value::<Entry>(written).unwrap()
    };
    let entries: Vec<(Timestamp, Entry)> =
        world.entries.iter().map(|(at, entry)| (*at, old(entry))).collect();
    let restored = Watch::restore(world.watch.id.clone(), &entries).unwrap();
    assert_eq!(restored.phase, world.watch.phase);
}

#[test]
fn long_plans_tell_how_far_they_are() {
    let mut rules = impatient(Auto);
    rules.guards.plan_limit = Span::from_minutes(120);
    rules.contacts.insert("on_call".into(), "Ada, ext. 4711".into());
    let names = ["one", "two", "three", "four"];
    rules.runbook = Some(runbook(&names.map(|name| (name, EffectClass::Keyed, undo()))));
    let mut world = World::new(rules, WELL, BAD, 20.0, 53);
    world.step_seconds = 10 * 60;
    while world.told(NoticeKind::Progress) == 0 {
        let next = seconds(&world) + 10;
        world.run_to(next);
    }
    world.restart();
    world.run_to(AN_HOUR);
    let told = of_kind(&world, NoticeKind::Progress);
    assert_eq!(told.len(), 3, "four steps of ten minutes, one of them twice: {:#?}", world.titles());
    insta::assert_snapshot!("progress_of_a_long_plan", format!("{}\n{}", told[0].title, told[0].text));
    let began = of_kind(&world, NoticeKind::RollbackBegan)[0];
    assert!(began.text.ends_with("Contacts: on_call: Ada, ext. 4711\n"), "{}", began.text);
    insta::assert_snapshot!("a_rollback_begins", began.text);
}

#[test]
fn the_words_of_the_aftercare() {
    let mut world = turned_back(&THREE, 54);
    let recovered = of_kind(&world, NoticeKind::Recovered)[0];
    insta::assert_snapshot!("the_resolution", recovered.text);
    world.run_to(seconds(&world) + 400);
    insta::assert_snapshot!("a_checkpoint", of_kind(&world, NoticeKind::Checkpoint)[0].text);
    let now = world.now;
    insta::assert_snapshot!(
        "the_card_in_the_aftercare",
        rules::report::why_card(&world.watch, now).to_string()
    );
    insta::assert_snapshot!("the_postmortem_in_the_aftercare", rules::report::postmortem(&world.watch, now));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whenever the agent ends, it goes on as if it had not: every checkpoint once, in order, nothing begun again.
    #[test]
    fn a_restart_at_any_entry_changes_nothing(seed in 100_u64..10_000, cut in 0.0..1.0_f64) {
        let mut world = turned_back(&[("soon", 120), ("later", 400), ("last", 900)], seed);
        world.run_to(seconds(&world) + 1_200);
        prop_assert!(world.watch.is_closed());
        let whole = taken(&world);
        for end in 1..=world.entries.len() {
            let stored: Vec<(Timestamp, Entry)> = world.entries[..end]
                .iter()
                .map(|(at, entry)| (*at, serde_json::from_str(&serde_json::to_string(entry).unwrap()).unwrap()))
                .collect();
            let restored = Watch::restore(world.watch.id.clone(), &stored).unwrap();
            prop_assert_eq!(restored, Watch::restore(world.watch.id.clone(), &world.entries[..end]).unwrap());
        }
        let first = world.entries.iter().position(|(_, entry)| matches!(entry, Entry::AftercareBegan { .. })).unwrap();
        let end = first + 1 + ((world.entries.len() - first - 1) as f64 * cut) as usize;
        world.entries.truncate(end);
        world.now = world.entries.last().unwrap().0;
        world.begun.clear();
        world.restart();
        world.run_to(seconds(&world) + 1_500);
        prop_assert_eq!(world.outcome(), Some(&Outcome::RolledBack), "{:#?}", world.titles());
        prop_assert!(world.begun.is_empty());
        let names = |all: Vec<Taken>| all.into_iter().map(|taken| taken.checkpoint).collect::<Vec<_>>();
        prop_assert_eq!(names(taken(&world)), names(whole));
    }

    /// Absence of data keeps no bound and breaks none; the checkpoint is taken all the same, and says what it could not
    /// see.
    #[test]
    fn what_was_not_seen_says_nothing(seed in 100_u64..10_000, bad in any::<bool>()) {
        let mut world = turned_back(&[("soon", 400), ("last", 900)], seed);
        let now = seconds(&world);
        if bad {
            world.loads.push((at(now), Load { errors: 0.04, ..WELL }));
        }
        world.outages.push((at(now), at(99_999)));
        world.run_to(now + 900);
        let all = taken(&world);
        prop_assert_eq!(all.len(), 2);
        for taken in &all {
            for bound in &taken.bounds {
                prop_assert_eq!(bound.standing, Standing::Unknown, "{:?}", bound);
                prop_assert!(bound.missing.as_ref().unwrap().contains("refused"), "{:?}", bound);
            }
        }
        prop_assert_eq!(all[1].verdict, Verdict::Blind);
        prop_assert_eq!(world.told(NoticeKind::Blind), 1, "{:#?}", world.titles());
        prop_assert_eq!(world.told(NoticeKind::CheckpointMissed), 0);
        prop_assert_eq!(world.outcome(), Some(&Outcome::RolledBack));
    }
}
