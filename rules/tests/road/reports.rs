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

/// Two servers of a pair see one outbreak begin at different times, and each has a messenger of its own.
#[test]
fn an_end_is_the_end_of_whatever_began_before_it_under_the_same_name() {
    let ended = |began, seconds| {
        let end = report("service_down", ReportState::Resolved, began);
        rules::deployment::Report { ended: Some(at(seconds)), ..end }
    };
    let degraded = |world: &World| matches!(world.watch.verdict, Some((Verdict::Degraded(Severity::P0), _)));
    let mut world = World::new(rules(Observe), WELL, WELL, 20.0, 19);
    world.run_to(60);
    world.tell(Input::Reported(report("service_down", ReportState::Firing, 20)));
    world.tell(Input::Reported(ended(20, 55)));
    assert!(!degraded(&world));
    world.tell(Input::Reported(report("service_down", ReportState::Firing, 40)));
    assert!(!degraded(&world), "the other one has not heard of the end yet");
    world.tell(Input::Reported(report("service_down", ReportState::Firing, 58)));
    assert!(degraded(&world), "it began anew");
    world.tell(Input::Reported(ended(40, 56)));
    assert!(degraded(&world), "the other one is late with an end that was");
    let mut another = ended(10, 60);
    another.id = "another-pod".into();
    world.tell(Input::Reported(another));
    assert!(degraded(&world), "the end of something older speaks for itself");
    world.tell(Input::Reported(ended(58, 60)));
    assert!(!degraded(&world));
}
