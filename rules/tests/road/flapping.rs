//! Flapping: a pipeline that does not know better deploys the bad release again and again. It is turned back once.

use super::*;

#[test]
fn a_release_that_comes_back_ten_times_is_turned_back_alone_once() {
    // Nothing but the memory of the release stands in the way: no cool-down, no rate.
    let mut rules = impatient(Auto);
    rules.guards.cool_down = Span::default();
    (rules.guards.per_service_per_day, rules.guards.per_hour, rules.guards.per_day) = (100, 100, 100);
    let mut fleet = Fleet::default();
    let mut begun = Vec::new();
    for again in 0..10 {
        let before = fleet.clone();
        let mut world = World::with(rules.clone(), WELL, BAD, 20.0, again, |world| {
            world.fleet = before;
            world.proven("v1");
        });
        world.run_to(300);
        begun.push(world.begun.len());
        if again > 0 {
            let decided = world.watch.decision.clone().unwrap();
            assert_eq!(decided.decision, Decision::Propose { approval: true }, "time {again}");
            let reasons: Vec<HoldReason> = decided.holds.iter().map(|hold| hold.reason).collect();
            assert!(reasons.contains(&HoldReason::CameBack), "time {again}: {reasons:?}");
            assert_eq!(
                world.told(NoticeKind::ApprovalNeeded),
                1,
                "somebody is woken up: {:#?}",
                world.titles()
            );
        }
        fleet = world.fleet;
    }
    assert_eq!(begun, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}
