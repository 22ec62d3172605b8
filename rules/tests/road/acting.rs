//! Guards, steps and clocks: what holds a plan back, and what becomes of one that is carried out.

use super::*;
use rules::deployment::DeployEvent;
use rules::watch::Watch;

#[test]
fn without_a_baseline_a_person_is_asked() {
    let change = |world: &mut World| world.outages.push((Timestamp::MIN, at(1)));
    let mut world = World::with(impatient(Auto), WELL, BAD, 20.0, 21, change);
    world.proven("v1");
    world.run_to(300);
    let decided = world.watch.decision.clone().unwrap();
    assert_eq!(decided.decision, Decision::Propose { approval: true }, "{:?}", decided.holds);
    assert!(decided.holds.iter().any(|hold| hold.reason == HoldReason::NoBaseline), "{:?}", decided.holds);
}

#[test]
fn stale_evidence_is_not_acted_on() {
    let mut world = bad_release(Approve);
    world.run_to(200);
    world.outages.push((at(200), at(99_999)));
    world.run_to(320);
    world.approve();
    let refusal = world.answers.last().unwrap().clone().unwrap_err();
    assert!(refusal.contains("older than"), "{refusal}");
    assert!(world.begun.is_empty());
}

#[test]
fn a_guard_that_comes_and_goes_is_told_once() {
    let mut world = bad_release(Auto);
    world.silent_sources.push("prometheus".into());
    for second in (100..2_000).step_by(50) {
        world.run_to(second);
        world.silent_sources.truncate(0);
        if second % 100 == 0 {
            world.silent_sources.push("prometheus".into());
            world.pull_kill_switch();
        } else {
            world.silent_sources.push("prometheus".into());
            world.release_kill_switch();
        }
    }
    assert!(world.told(NoticeKind::Held) <= 2, "{:#?}", world.titles());
}

fn steps(outcomes: &[StepOutcome], book: &[(&str, EffectClass, Undo)]) -> World {
    let mut rules = impatient(Auto);
    rules.runbook = Some(runbook(book));
    let mut world = World::new(rules, WELL, BAD, 20.0, 22);
    world.script.extend(outcomes.iter().cloned().map(Some));
    world.run_to(AN_HOUR);
    world
}

#[test]
fn steps_fail_in_their_own_ways() {
    use EffectClass::{Keyed, Lookup, OneShot};
    use FailureKind::{Permanent, Retryable};
    let (again, never) = (failed(Retryable), failed(Permanent));
    let ok = world::done();

    let world = steps(&[again.clone(), ok.clone()], &[("one", Keyed, undo())]);
    assert_eq!((world.begun.len(), world.outcome()), (2, Some(&Outcome::RolledBack)));

    let world =
        steps(&[ok.clone(), never.clone(), ok.clone()], &[("one", Keyed, undo()), ("two", Keyed, undo())]);
    let did: Vec<(usize, bool)> = world
        .begun
        .iter()
        .map(|permit| (permit.index, permit.direction == rules::execution::Direction::Undo))
        .collect();
    assert_eq!(did, [(0, false), (1, false), (0, true)]);
    assert!(matches!(world.outcome(), Some(Outcome::Unwound(_))));
    assert_eq!(world.told(NoticeKind::NeedsPerson), 1);

    let world =
        steps(&[ok.clone(), never.clone(), never.clone()], &[("one", Keyed, undo()), ("two", Keyed, undo())]);
    assert!(matches!(world.outcome(), Some(Outcome::Stuck(_))));
    assert!(world.fleet.auto_suspended().is_some());

    let world = steps(&[unknown()], &[("one", OneShot, undo())]);
    assert_eq!(world.begun.len(), 1, "a one-shot step is never repeated");
    assert!(matches!(world.outcome(), Some(Outcome::Stuck(_))));

    let world = steps(&[again], &[("one", OneShot, undo())]);
    assert_eq!(world.begun.len(), 1);
    assert!(matches!(world.outcome(), Some(Outcome::Unwound(_))));

    let world = steps(&[unknown(), unknown(), unknown(), unknown()], &[("one", Keyed, undo())]);
    assert_eq!(world.begun.len(), 3);
    assert!(world.begun.iter().all(|permit| permit.step.key == world.begun[0].step.key), "the same key");
    assert_eq!(world.begun.iter().map(|permit| permit.unknown).collect::<Vec<_>>(), [false, true, true]);
    assert!(matches!(world.outcome(), Some(Outcome::Stuck(_))));

    // The last attempt certainly failed, the first may have worked: that is no clean failure.
    let world = steps(&[unknown(), never.clone()], &[("one", Keyed, undo())]);
    assert!(matches!(world.outcome(), Some(Outcome::Stuck(_))), "{:?}", world.outcome());
    // Who looks first knows.
    let world = steps(&[unknown(), never], &[("one", Lookup, undo())]);
    assert!(matches!(world.outcome(), Some(Outcome::Unwound(_))), "{:?}", world.outcome());

    let ended = |fact: &&FleetEntry| matches!(fact, FleetEntry::RollbackEnded { .. });
    assert_eq!(world.facts.iter().filter(ended).count(), 1, "every plan that began ends for the fleet");
}

#[test]
fn a_plan_that_takes_too_long_stops_at_the_next_step() {
    let mut rules = impatient(Auto);
    rules.runbook =
        Some(runbook(&[("one", EffectClass::Keyed, undo()), ("two", EffectClass::Keyed, undo())]));
    let mut world = World::new(rules, WELL, BAD, 20.0, 23);
    world.step_seconds = 16 * 60;
    world.run_to(AN_HOUR);
    assert_eq!(world.begun.len(), 1);
    assert!(
        matches!(world.outcome(), Some(Outcome::Stuck(why)) if why.contains("15m")),
        "{:?}",
        world.outcome()
    );
}

#[test]
fn a_rollback_that_does_not_help_is_not_repeated() {
    let mut world = bad_release(Auto);
    world.cure = BAD;
    world.run_to(AN_HOUR);
    assert!(matches!(world.outcome(), Some(Outcome::NotRecovered(_))), "{:?}", world.outcome());
    assert_eq!((world.begun.len(), world.told(NoticeKind::NeedsPerson)), (1, 1));
    assert!(world.fleet.auto_suspended().is_some());
    world.run_to(AN_HOUR * 3);
    assert_eq!(world.begun.len(), 1);
}

#[test]
fn the_last_errors_of_the_release_that_is_gone_are_not_held_against_the_old_one() {
    let mut world = World::new(impatient(Auto), WELL, BAD, 100.0, 24);
    while world.watch.phase != Phase::Executing {
        let next = world.now.as_second() - at(0).as_second() + 1;
        world.run_to(next);
    }
    // For some seconds behind the last step the source still delivers what was counted before.
    let after = Span::from_seconds(20).after(world.now);
    world.run_to(world.now.as_second() - at(0).as_second() + 6);
    world.loads.push((world.now, BAD));
    world.loads.push((after, WELL));
    world.run_to(AN_HOUR);
    assert_eq!(world.outcome(), Some(&Outcome::RolledBack), "{:#?}", world.titles());
}

#[test]
fn a_rollback_nobody_can_see_is_unverified() {
    let mut world = bad_release(Auto);
    while world.watch.phase != Phase::Executing {
        let next = world.now.as_second() - at(0).as_second() + 1;
        world.run_to(next);
    }
    world.outages.push((world.now, at(99_999)));
    world.run_to(AN_HOUR);
    assert!(matches!(world.outcome(), Some(Outcome::Unverified(_))), "{:?}", world.outcome());
    assert_eq!(world.told(NoticeKind::NeedsPerson), 1);
    assert_eq!(world.told(NoticeKind::SightBack), 0);
    assert!(world.fleet.auto_suspended().is_some());
}

#[test]
fn fresh_evidence_is_no_sight() {
    let mut world = World::new(impatient(Auto), WELL, WELL, 20.0, 25);
    world.outages.push((at(100), at(99_999)));
    world.run_to(400);
    assert_eq!(world.told(NoticeKind::Blind), 1);
    world.tell(Input::Reported(report("security_exposure", ReportState::Firing, 400)));
    world.run_to(AN_HOUR);
    assert_eq!(world.begun.len(), 1, "{:#?}", world.titles());
    assert_eq!(
        (world.told(NoticeKind::Blind), world.told(NoticeKind::SightBack)),
        (1, 0),
        "{:#?}",
        world.titles()
    );
}

#[test]
fn each_clock_is_called_out_once() {
    let mut world = World::new(impatient(Recommend), WELL, Load { errors: 0.5, ..WELL }, 50.0, 1);
    world.watch.rules.watch.watch_for = Span::from_minutes(120);
    world.run_to(AN_HOUR * 2);
    let mut clocks: Vec<&str> = world
        .entries
        .iter()
        .filter_map(|(_, entry)| match entry {
            Entry::Escalated { clock } => Some(clock.as_str()),
            _ => None,
        })
        .collect();
    clocks.sort_unstable();
    let expected = [
        "the time to act is nearly over",
        "the time to act is over",
        "the time to decide is nearly over",
        "the time to decide is over",
    ];
    assert_eq!(clocks, expected);
    assert_eq!(world.told(NoticeKind::Escalation), 4, "{:#?}", world.titles());
}

#[test]
fn worse_than_what_was_handed_over_is_decided_anew() {
    let mut world = World::new(impatient(Recommend), WELL, Load { slow: 4.0, ..WELL }, 20.0, 26);
    world.run_to(600);
    assert_eq!((&world.watch.phase, world.told(NoticeKind::Recommended)), (&Phase::HandedOver, 1));
    world.loads.push((at(600), Load { slow: 4.0, up: 0.0, ..WELL }));
    world.run_to(1_200);
    assert_eq!(world.told(NoticeKind::Recommended), 2, "{:#?}", world.titles());

    // After a refusal nothing is done alone any more, however bad.
    let mut world = World::new(impatient(Approve), WELL, Load { slow: 4.0, ..WELL }, 20.0, 26);
    world.run_to(600);
    let digest = world.digest();
    world.tell(Input::Refused { by: "ann".into(), digest, reason: "we scale".into() });
    world.watch.rules.autonomy.level = Auto;
    world.loads.push((at(600), Load { slow: 4.0, up: 0.0, ..WELL }));
    world.run_to(1_200);
    assert_eq!((world.begun.len(), world.told(NoticeKind::ApprovalNeeded)), (0, 2), "{:#?}", world.titles());
}

#[test]
fn a_person_may_ask_for_a_rollback() {
    let ask = |world: &mut World, to: Option<&str>| {
        let to = to.map(|version| release(version).version);
        world.tell(Input::RollbackAsked { by: "ann".into(), to, drill: false });
    };
    let mut world = World::new(rules(Observe), WELL, WELL, 20.0, 27);
    world.run_to(60);
    ask(&mut world, Some("v2"));
    assert!(world.answers.last().unwrap().is_err(), "the release that runs");
    assert!(
        world.watch.incident.is_none() && world.watch.phase == Phase::Watching,
        "a mistyped wish changes nothing"
    );
    assert!(world.notices.is_empty(), "{:#?}", world.titles());
    ask(&mut world, Some("v0"));
    assert!(world.answers.last().unwrap().is_ok());
    assert_eq!(world.watch.plan.as_ref().unwrap().0.to, release("v0"));
    ask(&mut world, None);
    assert!(world.answers.last().unwrap().is_err(), "it is being turned back already");
    world.run_to(AN_HOUR);
    assert_eq!((world.begun.len(), world.outcome()), (1, Some(&Outcome::RolledBack)));

    let mut world = World::new(rules(Observe), WELL, WELL, 20.0, 28);
    world.run_to(60);
    world.pull_kill_switch();
    ask(&mut world, None);
    assert!(world.answers.last().unwrap().as_ref().unwrap_err().contains("kill switch"));
    world.release_kill_switch();
    ask(&mut world, None);
    assert_eq!(world.watch.plan.as_ref().unwrap().0.to, release("v1"));
}

#[test]
fn echoes_of_steps_are_ignored() {
    let mut world = bad_release(Auto);
    while world.begun.is_empty() {
        let next = world.now.as_second() - at(0).as_second() + 1;
        world.run_to(next);
    }
    let permit = world.begun[0].clone();
    let ended = |attempt| Input::StepEnded {
        plan: permit.plan.clone(),
        step: 0,
        attempt,
        outcome: failed(FailureKind::Permanent),
    };
    world.tell(ended(2));
    assert_eq!(world.watch.phase, Phase::Executing);
    let now = world.now.as_second() - at(0).as_second();
    world.run_to(now + 6);
    assert!(matches!(world.watch.phase, Phase::Verifying { .. }));
    let before = world.entries.len();
    world.tell(ended(1));
    assert_eq!(world.entries.len(), before);
    world.run_to(AN_HOUR);
    assert_eq!(world.outcome(), Some(&Outcome::RolledBack));
}

#[test]
fn an_answer_from_before_is_not_counted_twice() {
    let mut world = World::new(rules(Auto), WELL, WELL, 20.0, 29);
    world.run_to(300);
    let counts = |world: &World| world.watch.evidence.signals[&world::signal("errors")].counts();
    let before = counts(&world);
    let again: Vec<_> =
        ["errors", "latency"].map(|name| world.measure(&world::signal(name), at(100), at(290))).into();
    world.tell(Input::Samples(again));
    assert_eq!(counts(&world), before);
}

#[test]
fn a_baseline_that_comes_late_is_waited_for() {
    let always = Load { errors: 0.3, ..WELL };
    let change = |world: &mut World| world.baseline_comes = false;
    let mut world = World::with(impatient(Auto), always, always, 20.0, 30, change);
    world.run_to(60);
    assert!(world.notices.is_empty(), "{:#?}", world.titles());
    world.run_to(400);
    // It never came: then people are told, and asked.
    assert!(world.told(NoticeKind::Degraded) == 1 && world.begun.is_empty(), "{:#?}", world.titles());
}

#[test]
fn a_decision_that_a_crash_cut_short_is_carried_out() {
    let mut world = bad_release(Auto);
    while world.begun.is_empty() {
        let next = world.now.as_second() - at(0).as_second() + 1;
        world.run_to(next);
    }
    let decided = world
        .entries
        .iter()
        .position(|(_, entry)| matches!(entry, Entry::Decided(d) if d.decision == Decision::RollBack))
        .unwrap();
    world.entries.truncate(decided + 1);
    world.begun.clear();
    world.fleet = Fleet::default();
    world.restart();
    world.run_to(AN_HOUR);
    assert_eq!(
        (world.begun.len(), world.outcome()),
        (1, Some(&Outcome::RolledBack)),
        "{:#?}",
        world.titles()
    );
}

#[test]
fn a_freeze_to_come_does_not_lift_the_one_in_force() {
    let mut fleet = Fleet::default();
    let freeze = |from, until| {
        FleetEntry::Frozen(Freeze {
            service: None,
            from: at(from),
            until: Some(at(until)),
            reason: "r".into(),
            by: "b".into(),
        })
    };
    fleet.apply(&freeze(0, 1_000));
    fleet.apply(&freeze(5_000, 6_000));
    let frozen = |seconds| fleet.situation(&service(), &environment(), at(seconds)).frozen.is_some();
    assert_eq!([frozen(500), frozen(2_000), frozen(5_500)], [true, false, true]);
}

#[test]
fn a_release_that_ran_for_minutes_is_no_proof() {
    let mut world = World::new(impatient(Auto), WELL, BAD, 20.0, 31);
    let deployment = world.watch.deployment.clone();
    let young = rules::deployment::Deployment { release: release("v1"), at: at(-300), ..deployment };
    let watch = world.watch.id.clone();
    world.fleet = Fleet::default();
    world.fleet.apply(&FleetEntry::Deployed { deployment: young, watch });
    let situation = world.situation();
    let (watch, effects) =
        rules::watch::Watch::open(&world::deploy("v2", "e-1", 0), impatient(Auto), &situation, at(2));
    world.watch = watch;
    world.entries.clear();
    for effect in effects {
        if let rules::watch::Effect::Record { entry, fleet } = effect {
            fleet.into_iter().for_each(|fact| world.fact(fact));
            world.entries.push((at(2), entry));
        }
    }
    world.restart();
    world.run_to(300);
    let decided = world.watch.decision.clone().unwrap();
    assert_eq!(decided.decision, Decision::Propose { approval: true }, "{:#?}", world.titles());
    assert!(
        decided.holds.iter().any(|hold| hold.reason == HoldReason::UnprovenTarget),
        "{:?}",
        decided.holds
    );
}

#[test]
fn numbers_that_are_none_are_a_hole() {
    let mut world = World::new(rules(Auto), WELL, WELL, 20.0, 32);
    world.run_to(100);
    let errors = world::signal("errors");
    let before = world.watch.evidence.signals[&errors].clone();
    for reading in [
        rules::signal::Reading::Counts { bad: f64::NAN, total: 5.0 },
        rules::signal::Reading::Counts { bad: 6.0, total: 5.0 },
        rules::signal::Reading::Counts { bad: -1.0, total: f64::INFINITY },
        rules::signal::Reading::Level { value: f64::NAN },
        rules::signal::Reading::Buckets { bounds: vec![1.0, 0.5], counts: vec![1.0, 1.0, 1.0] },
    ] {
        let from = world.watch.evidence.signals[&errors].measured_until;
        let observation = rules::signal::Observation::Seen { reading, newest: at(110) };
        let measurement = rules::signal::Measurement::plain(errors.clone(), from, at(110), observation);
        world.tell(Input::Samples(vec![measurement]));
        let after = &world.watch.evidence.signals[&errors];
        assert_eq!(
            (after.counts(), after.worse_log_e(), after.pass(0.05)),
            (before.counts(), before.worse_log_e(), before.pass(0.05))
        );
        assert!(after.hole.is_some());
    }
    for (_, entry) in &world.entries {
        let text = serde_json::to_string(entry).unwrap();
        assert_eq!(&serde_json::from_str::<Entry>(&text).unwrap(), entry);
    }
}

#[test]
fn killed_at_any_moment_it_still_turns_back() {
    for effects in 0..150 {
        let mut world = bad_release(Auto);
        world.killed_in = Some(effects);
        world.run_to(AN_HOUR);
        assert_eq!(world.outcome(), Some(&Outcome::RolledBack), "{effects}: {:#?}", world.titles());
        assert!(world.begun.len() <= 2, "{effects}");
        assert!(world.begun.iter().all(|permit| permit.step.key == world.begun[0].step.key), "{effects}");
        assert_eq!(world.situation().active_here, None, "{effects}");
        assert!(world.told(NoticeKind::Degraded) + world.told(NoticeKind::Restarted) >= 1, "{effects}");
    }
}

#[test]
fn nobody_returns_to_a_release_that_was_found_bad_and_replaced() {
    // v2 fails its smoke test while the agent only observes; then v3 comes, and is bad too.
    let mut world = bad_release(Observe);
    world.tell(Input::Reported(report("smoke_test_failed", ReportState::Firing, 1)));
    world.supersede();
    assert_eq!(world.outcome(), Some(&Outcome::Superseded));
    let situation = world.situation();
    let bad: Vec<&str> = situation.found_bad.iter().map(|(version, _)| version.as_str()).collect();
    assert_eq!(bad, ["v2"]);

    let event = DeployEvent { previous: Some(release("v2")), ..world::deploy("v3", "deploy-3", 60) };
    let (watch, _) = Watch::open(&event, rules(Approve), &situation, at(60));
    let target = watch.target(&situation, None).unwrap();
    assert_eq!(target.release.version.as_str(), "v2", "there is no other, and it says so");
    assert!(target.words().contains("found bad here (P1: smoke-test-failed)"), "{}", target.words());

    world.proven("v1");
    let situation = world.situation();
    let target = watch.target(&situation, None).unwrap();
    assert_eq!((target.release.version.as_str(), target.found_bad), ("v1", None));
    // A person may insist, and is told.
    let insisted = watch.target(&situation, Some(&release("v2").version)).unwrap();
    assert!(insisted.found_bad.is_some());
}

#[test]
fn what_was_never_seen_is_not_said_to_have_run_well() {
    let world = World::new(rules(Approve), WELL, WELL, 20.0, 1);
    let target = world.watch.target(&world.situation(), Some(&release("v0").version)).unwrap();
    assert!(target.words().contains("how well it ran is not known"), "{}", target.words());
}

#[test]
fn a_plan_that_is_held_too_long_before_its_first_step_changed_nothing() {
    // The switch is pulled between the decision and the first step.
    let mut world = bad_release(Approve);
    world.run_to(200);
    let digest = world.digest();
    let situation = world.situation();
    let effects = world.watch.on(Input::Approved { by: "ann".into(), digest }, &situation, world.now);
    for effect in effects {
        match effect {
            rules::watch::Effect::Record { entry, fleet } => {
                fleet.into_iter().for_each(|fact| world.fact(fact));
                world.entries.push((world.now, entry));
            }
            rules::watch::Effect::RunStep(permit) => {
                let outcome = StepOutcome::NotBegun { reason: "stopped".into() };
                world.pull_kill_switch();
                world.tell(Input::StepEnded { plan: permit.plan, step: 0, attempt: 1, outcome });
                break;
            }
            _ => {}
        }
    }
    world.run_to(AN_HOUR);
    assert!(world.begun.is_empty());
    assert!(
        matches!(world.outcome(), Some(Outcome::Unwound(_))),
        "nothing was touched: {:?}",
        world.outcome()
    );
}
