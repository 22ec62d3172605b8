//! What is not the release's fault: what began before it, and what another deployment brought.

use super::world::signal;
use super::*;
use rules::deployment::Deployment;
use rules::ids::{ServiceName, SourceName, WatchId};

/// The reasons that stood against acting alone, ever.
fn reasons(world: &World) -> Vec<HoldReason> {
    world.watch.decision.iter().flat_map(|decided| &decided.holds).map(|hold| hold.reason).collect()
}

fn other_deployment(service: &str, seconds: i64) -> FleetEntry {
    let service = ServiceName::new(service).unwrap();
    let deployment = Deployment {
        service,
        environment: environment(),
        release: release("v9"),
        previous: None,
        at: at(seconds),
        source: SourceName::new("ci").unwrap(),
        sequence: None,
        changes: None,
        security_fix: false,
    };
    let watch = WatchId::of(
        &deployment.source,
        &format!("{}-{seconds}", deployment.service),
        &deployment.service,
        &deployment.environment,
    );
    FleetEntry::Deployed { deployment, watch }
}

#[test]
fn what_began_before_the_deployment_is_not_turned_back_alone() {
    let early = |world: &mut World| world.loads[1] = (at(-240), BAD);
    let mut world = World::with(impatient(AutonomyLevel::Auto), WELL, BAD, 20.0, 3, early);
    world.run_to(600);
    let dated = world.watch.evidence.signals[&signal("errors")].beginning();
    assert_eq!(world.begun.len(), 0, "{dated:?} {:?}", world.watch.timeline);
    let evidence = &world.watch.evidence.signals[&signal("errors")];
    if let Some(began) = evidence.beginning() {
        assert!(began.before > 0.9 && began.seconds < -100.0, "{began:?}");
        assert!(reasons(&world).contains(&HoldReason::BeganBefore), "{:?}", world.watch.decision);
    } else {
        // The minutes before were bad, too: then it is not even shown to be worse.
        assert!(!matches!(world.watch.verdict, Some((Verdict::Degraded(Severity::P1), _))));
    }
}

#[test]
fn what_began_with_the_deployment_is_dated_to_it() {
    let mut world = World::new(impatient(AutonomyLevel::Observe), WELL, BAD, 20.0, 4);
    world.run_to(120);
    let began = world.watch.evidence.signals[&signal("errors")].beginning().unwrap();
    assert!(began.before < 0.1 && began.seconds.abs() < 30.0, "{began:?}");
    assert!(began.earliest <= began.seconds && began.seconds <= began.latest, "{began:?}");
}

#[test]
fn a_dependency_that_was_deployed_at_the_same_time_asks_for_a_person() {
    let turned_back_alone = |depends: bool| {
        let mut rules = impatient(AutonomyLevel::Auto);
        if depends {
            rules.depends_on.push(ServiceName::new("payments").unwrap());
        }
        let mut world = World::new(rules, WELL, BAD, 20.0, 5);
        world.fact(other_deployment("payments", -10));
        world.run_to(400);
        (world.begun.len(), reasons(&world))
    };
    let (begun, reasons) = turned_back_alone(true);
    assert_eq!(begun, 0);
    assert!(reasons.contains(&HoldReason::SharedBlame), "{reasons:?}");
    // A service that has nothing to do with it is no suspect.
    let (begun, reasons) = turned_back_alone(false);
    assert_eq!(begun, 1, "{reasons:?}");
}

/// The matrix for canaries asks for "worse, and above a floor": a release that was above the floor, and not worse than
/// itself, was not bad. A release that was beyond a bound that stands alone was.
#[test]
fn a_floor_beneath_a_comparison_does_not_spoil_the_proof_of_what_ran_before() {
    for (before, held) in [(0.005, false), (0.15, true)] {
        let mut rules = impatient(Auto);
        rules.matrix = rules::ruleset::shipped_matrix("canary").unwrap();
        let mut world =
            World::new(rules, Load { errors: before, ..WELL }, Load { errors: 0.6, ..WELL }, 20.0, 1);
        world.run_to(600);
        let unproven = |hold: &rules::guard::Hold| hold.reason == HoldReason::UnprovenTarget;
        let holds = world.watch.decision.as_ref().map_or(&[][..], |decided| &decided.holds);
        assert_eq!(
            (holds.iter().any(unproven), world.begun.len()),
            (held, usize::from(!held)),
            "{before}: {holds:?}"
        );
    }
}
