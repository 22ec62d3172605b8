//! Messengers that come late or speak for others: a beginning after its end, an end of something older.

use super::*;

#[test]
fn the_beginning_that_comes_after_the_end_opens_nothing_again() {
    let mut world = World::new(rules(Observe), WELL, WELL, 20.0, 17);
    let degraded = |world: &World| matches!(world.watch.verdict, Some((Verdict::Degraded(Severity::P0), _)));
    world.run_to(60);
    world.tell(Input::Reported(report("service_down", ReportState::Resolved, 50)));
    world.tell(Input::Reported(report("service_down", ReportState::Firing, 50)));
    assert!(!degraded(&world), "the other messenger was late");
    world.run_to(70);
    world.tell(Input::Reported(report("service_down", ReportState::Firing, 70)));
    assert!(degraded(&world), "it began anew");
}

#[test]
fn the_end_of_what_began_before_speaks_for_itself() {
    let mut world = World::new(rules(Observe), WELL, WELL, 20.0, 18);
    world.run_to(60);
    world.tell(Input::Reported(report("service_down", ReportState::Firing, 60)));
    let mut older = report("service_down", ReportState::Resolved, 5);
    older.id = "another-pod".into();
    world.tell(Input::Reported(older));
    assert_eq!(world.watch.verdict.as_ref().unwrap().0, Verdict::Degraded(Severity::P0));
    let mut passed = report("service_down", ReportState::Resolved, 65);
    passed.id = "the-next-run".into();
    world.tell(Input::Reported(passed));
    assert_ne!(world.watch.verdict.as_ref().unwrap().0, Verdict::Degraded(Severity::P0));
}
