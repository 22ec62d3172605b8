//! The road of one deployment through the deciding half, scenario by scenario, in a made-up world.

#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

#[path = "road/acting.rs"]
mod acting;
#[path = "road/aftercare.rs"]
mod aftercare;
#[path = "road/blame.rs"]
mod blame;
#[path = "road/checks.rs"]
mod checks;
#[path = "road/flapping.rs"]
mod flapping;
#[path = "road/laws.rs"]
mod laws;
#[path = "road/planning.rs"]
mod planning;
#[path = "road/reports.rs"]
mod reports;
#[path = "road/storm.rs"]
mod storm;
#[path = "road/words.rs"]
mod words;
mod world;

use jiff::Timestamp;
use rules::action::{EffectClass, FailureKind, StepOutcome, Undo};
use rules::decision::{AutonomyLevel, Decision};
use rules::deployment::ReportState;
use rules::fleet::{Fleet, FleetEntry, Freeze};
use rules::guard::HoldReason;
use rules::ids::{PlanDigest, PlanId};
use rules::matrix::Severity;
use rules::units::Span;
use rules::verdict::Verdict;
use rules::watch::{Entry, Input, NoticeKind, Outcome, Phase};
use world::{
    BAD, Load, WELL, World, at, environment, failed, impatient, release, report, rules, runbook, service,
    undo, unknown,
};

use AutonomyLevel::{Approve, Auto, Observe, Recommend};

fn bad_release(level: AutonomyLevel) -> World {
    World::new(impatient(level), Load { errors: 0.01, ..WELL }, BAD, 20.0, 1)
}

const AN_HOUR: i64 = 3_700;
#[test]
fn each_autonomy_level_does_what_its_name_says() {
    let table = [
        (Observe, NoticeKind::WouldRollBack, 0, Outcome::Degraded(Severity::P1)),
        (Recommend, NoticeKind::Recommended, 0, Outcome::Degraded(Severity::P1)),
        (Approve, NoticeKind::ApprovalNeeded, 0, Outcome::Degraded(Severity::P1)),
        (Auto, NoticeKind::RollbackBegan, 1, Outcome::RolledBack),
    ];
    for (level, notice, steps, outcome) in table {
        let mut world = bad_release(level);
        world.run_to(AN_HOUR);
        assert_eq!(world.outcome(), Some(&outcome), "{level}: {:#?}", world.titles());
        assert_eq!(world.begun.len(), steps, "{level}");
        assert_eq!(world.told(notice), 1, "{level}: {:#?}", world.titles());
        assert_eq!(
            world.told(NoticeKind::Degraded),
            if level == Auto { 1 } else { 2 },
            "{level}: {:#?}",
            world.titles()
        );
        let began =
            world.facts.iter().filter(|fact| matches!(fact, FleetEntry::RollbackBegan { .. })).count();
        let ended =
            world.facts.iter().filter(|fact| matches!(fact, FleetEntry::RollbackEnded { .. })).count();
        assert_eq!((began, ended), (steps, steps), "{level}");
    }
}

#[test]
fn a_stale_digest_is_refused_and_the_right_one_executes() {
    let mut world = bad_release(Approve);
    world.run_to(200);
    assert!(matches!(world.watch.phase, Phase::AwaitingApproval { .. }), "{:#?}", world.titles());
    world.tell(Input::Approved { by: "eve".into(), digest: PlanDigest::of("another plan") });
    assert!(world.answers.last().unwrap().as_ref().unwrap_err().contains("stale"));
    assert!(world.begun.is_empty());
    world.approve();
    assert!(world.answers.last().unwrap().is_ok(), "{:?}", world.answers);
    world.run_to(AN_HOUR);
    assert_eq!((world.begun.len(), world.outcome()), (1, Some(&Outcome::RolledBack)));
    assert!(world.begun[0].by_person);
    world.approve();
    assert!(world.answers.last().unwrap().is_err(), "a second word for the same plan does nothing");
    assert_eq!(world.begun.len(), 1);
}

#[test]
fn an_approval_expires_and_is_never_upgraded_to_an_action() {
    let mut world = bad_release(Auto);
    let freeze = Freeze {
        service: None,
        from: at(-60),
        until: Some(at(600)),
        reason: "launch".into(),
        by: "ann".into(),
    };
    world.fact(FleetEntry::Frozen(freeze));
    world.run_to(AN_HOUR);
    // The freeze was over while people were asked; that does not make their silence a yes.
    assert_eq!(world.begun.len(), 0, "{:#?}", world.titles());
    assert_eq!(world.told(NoticeKind::ApprovalNeeded), 1);
    assert_eq!(world.count(|entry| *entry == Entry::ApprovalExpired), 1);
    world.approve();
    assert!(world.answers.last().unwrap().is_err());
}

#[test]
fn an_expired_approval_is_called_out_twice_and_then_handed_over() {
    let mut world = bad_release(Approve);
    world.run_to(1_500);
    assert_eq!(world.watch.phase, Phase::HandedOver);
    let about = |words: &str| world.titles().iter().filter(|title| title.contains(words)).count();
    assert_eq!(about("still waits for an approval"), 1, "{:#?}", world.titles());
    assert_eq!(about("nobody approved in time"), 1);
    world.approve();
    assert!(world.answers.last().unwrap().is_err());
    assert!(world.begun.is_empty());
}

#[test]
fn an_approval_of_something_that_is_over_is_refused() {
    let mut world = World::new(impatient(Approve), WELL, WELL, 20.0, 2);
    world.run_to(60);
    world.tell(Input::Reported(report("smoke_test_failed", ReportState::Firing, 60)));
    assert!(matches!(world.watch.phase, Phase::AwaitingApproval { .. }));
    world.run_to(100);
    world.tell(Input::Reported(report("smoke_test_failed", ReportState::Resolved, 60)));
    assert_eq!(world.watch.phase, Phase::Watching);
    world.approve();
    assert!(world.answers.last().unwrap().is_err());
    world.run_to(AN_HOUR);
    assert_eq!(world.begun.len(), 0);
    assert_eq!(world.told(NoticeKind::Escalation), 0, "what is over has no clocks: {:#?}", world.titles());
    assert_eq!(world.outcome(), Some(&Outcome::Healthy));
}

#[test]
fn well_is_shown_by_its_own_test_and_remembered() {
    let mut world = World::new(rules(Auto), WELL, WELL, 20.0, 3);
    world.run_to(290);
    assert_ne!(world.watch.verdict.as_ref().map(|(verdict, _)| *verdict), Some(Verdict::Healthy), "soak");
    world.run_to(AN_HOUR);
    assert_eq!(world.outcome(), Some(&Outcome::Healthy));
    assert_eq!(world.told(NoticeKind::Healthy), 1);
    assert_eq!(world.notices.len(), 1, "{:#?}", world.titles());
    let known = world.fleet.situation(&service(), &environment(), world.now).known_good;
    assert_eq!(known.len(), 1);
    assert!(known[0].requests > 60_000.0 && known[0].ran_for >= Span::from_minutes(60));
    let judged = world.count(|entry| matches!(entry, Entry::Judged { .. } | Entry::Decided(_)));
    assert!(judged <= 6, "{judged} changes of mind about a healthy release");
}

#[test]
fn no_traffic_is_neither_good_nor_bad() {
    let mut world = World::new(rules(Auto), WELL, WELL, 20.0, 4);
    world.requests_per_second = 0.0;
    world.run_to(AN_HOUR);
    assert_eq!(world.outcome(), Some(&Outcome::Inconclusive), "{:#?}", world.titles());
    assert!(!world.facts.iter().any(|fact| matches!(fact, FleetEntry::ProvedGood { .. })));
}

#[test]
fn a_metrics_outage_is_told_once_and_acted_on_never() {
    let mut world = World::new(impatient(Auto), WELL, WELL, 20.0, 5);
    world.outages.push((at(600), at(99_999)));
    world.run_to(AN_HOUR);
    assert_eq!(world.told(NoticeKind::Blind), 1, "{:#?}", world.titles());
    assert_eq!((world.permits.len(), world.outcome()), (0, Some(&Outcome::Blind)));
    let mut world = World::new(impatient(Auto), WELL, WELL, 20.0, 5);
    world.outages.push((at(600), at(1_200)));
    world.run_to(AN_HOUR);
    assert_eq!((world.told(NoticeKind::Blind), world.told(NoticeKind::SightBack)), (1, 1));
    assert_eq!(world.outcome(), Some(&Outcome::Healthy));
}

#[test]
fn a_short_hole_takes_no_pass_back() {
    let mut world = World::new(rules(Auto), WELL, WELL, 20.0, 6);
    for start in (400..3_000).step_by(100) {
        world.outages.push((at(start), at(start + 15)));
    }
    world.run_to(AN_HOUR);
    assert_eq!((world.outcome(), world.told(NoticeKind::Healthy)), (Some(&Outcome::Healthy), 1));
    let judged = world.count(|entry| matches!(entry, Entry::Judged { .. }));
    assert!(judged <= 3, "{judged} verdicts");
}

#[test]
fn late_news_do_not_make_blind() {
    let mut world = World::new(rules(Auto), WELL, WELL, 20.0, 7);
    let situation = world.situation();
    let (watch, _effects) =
        rules::watch::Watch::open(&world::deploy("v2", "late", -600), rules(Auto), &situation, at(5));
    world.watch = watch;
    world.tell(Input::Tick);
    assert_eq!(world.told(NoticeKind::Blind), 0, "{:#?}", world.titles());
}

#[test]
fn slow_is_tried_to_be_mitigated_and_then_turned_back() {
    let mut world = World::new(rules(Auto), WELL, Load { slow: 3.0, ..WELL }, 20.0, 8);
    world.run_to(300);
    let incident = world.watch.incident.clone().unwrap();
    assert_eq!((incident.severity, incident.row.as_str()), (Severity::P2, "response-time-doubled"));
    assert!(matches!(&world.watch.phase, Phase::Mitigating { name, .. } if name == "scale"));
    assert!(world.begun.is_empty());
    world.run_to(AN_HOUR);
    assert_eq!(world.told(NoticeKind::Mitigation), 3, "{:#?}", world.titles());
    assert_eq!(world.begun.len(), 1);
    let began = world.notices.iter().find(|(_, notice)| notice.kind == NoticeKind::RollbackBegan).unwrap().0;
    assert!(began >= Span::from_minutes(15).after(incident.opened), "three times five minutes of patience");
}

#[test]
fn a_mitigation_that_helps_ends_the_matter() {
    let mut world = World::new(rules(Auto), WELL, BAD, 50.0, 9);
    world.loads.push((at(150), WELL));
    world.run_to(AN_HOUR);
    assert_eq!(world.permits.len(), 0, "{:#?}", world.titles());
    assert_eq!(world.told(NoticeKind::Recovered), 1, "{:#?}", world.titles());
    assert_eq!(world.told(NoticeKind::Escalation), 0, "clocks stop when it is over: {:#?}", world.titles());
    assert!(world.watch.incident.as_ref().unwrap().recovered.is_some());
    assert_eq!(world.outcome(), Some(&Outcome::Healthy));
}

#[test]
fn what_comes_back_after_a_mitigation_is_news_again() {
    let mut world = World::new(rules(Auto), WELL, BAD, 50.0, 9);
    world.loads.extend([(at(150), WELL), (at(1_000), BAD)]);
    world.run_to(AN_HOUR);
    assert_eq!(world.told(NoticeKind::Mitigation), 2, "{:#?}", world.titles());
    let accused = world.titles().iter().filter(|title| title.contains("error-rate-above-10-percent")).count();
    assert_eq!(accused, 2, "{:#?}", world.titles());
    assert_eq!(world.outcome(), Some(&Outcome::RolledBack));
}

#[test]
fn between_five_and_ten_percent_is_maybe() {
    let mut world = World::new(rules(Auto), WELL, Load { errors: 0.075, ..WELL }, 50.0, 10);
    world.run_to(600);
    assert_eq!(world.watch.incident.as_ref().unwrap().row, "error-rate-above-5-percent");
    assert!(matches!(&world.watch.phase, Phase::Mitigating { .. }));
    assert!(world.begun.is_empty());
}

#[test]
fn a_service_that_always_failed_is_not_blamed() {
    let always = Load { errors: 0.12, ..WELL };
    let mut world = World::new(impatient(Auto), always, always, 20.0, 11);
    world.run_to(AN_HOUR);
    assert!(world.permits.is_empty());
    assert!(world.watch.incident.is_none(), "{:?}", world.watch.incident);
}

#[test]
fn a_short_history_of_failing_is_a_history_too() {
    // 2 requests a minute: 240 in the whole past, below the size at which the prior is forgotten.
    let always = Load { errors: 0.5, ..WELL };
    for seed in 0..5 {
        let mut world = World::new(impatient(Auto), always, always, 0.033, seed);
        world.run_to(20);
        let baseline = &world.watch.evidence.signals[&world::signal("errors")].baseline;
        let share = &baseline.known().unwrap().share;
        assert!(share.requests < 1_000.0 && share.upper > 0.5, "{share:?}");
        world.requests_per_second = 2.0;
        world.run_to(AN_HOUR);
        assert!(world.watch.incident.is_none(), "{seed}: {:?}", world.watch.incident);
    }
}

#[test]
fn one_error_in_three_requests_is_nothing() {
    let mut world = World::new(impatient(Auto), WELL, BAD, 20.0, 12);
    world.requests_per_second = 0.0;
    world.run_to(60);
    let mut measured = world.measure(&world::signal("errors"), at(60), at(70));
    let reading = rules::signal::Reading::Counts { bad: 1.0, total: 3.0 };
    measured.observation = rules::signal::Observation::Seen { reading, newest: at(70) };
    world.now = at(70);
    world.tell(Input::Samples(vec![measured]));
    assert!(world.watch.incident.is_none());
    assert!(world.notices.is_empty());
}

#[test]
fn down_is_p0() {
    let mut world = World::new(rules(Auto), WELL, Load { up: 0.0, ..WELL }, 20.0, 13);
    world.run_to(600);
    let incident = world.watch.incident.clone().unwrap();
    assert_eq!((incident.severity, incident.row.as_str()), (Severity::P0, "service-down"));
    assert_eq!(world.outcome(), Some(&Outcome::RolledBack), "{:#?}", world.titles());
    // That the evidence is a minute old is no reason to wake somebody.
    assert_eq!(world.told(NoticeKind::Held), 0, "{:#?}", world.titles());
}

#[test]
fn a_failed_smoke_test_needs_no_statistics() {
    let mut world = World::new(rules(Auto), WELL, WELL, 20.0, 14);
    world.run_to(15);
    world.tell(Input::Reported(report("smoke_test_failed", ReportState::Firing, 14)));
    assert_eq!(world.watch.incident.as_ref().unwrap().severity, Severity::P1);
    assert_eq!(world.begun.len(), 1, "{:#?}", world.titles());
}

#[test]
fn what_began_before_the_deployment_does_not_count() {
    let mut world = World::new(rules(Auto), WELL, WELL, 20.0, 15);
    world.run_to(60);
    world.tell(Input::Reported(report("smoke_test_failed", ReportState::Firing, -600)));
    world.run_to(300);
    assert!(world.watch.incident.is_none());
    assert!(world.permits.is_empty());
}

#[test]
fn one_of_two_reporters_does_not_speak_for_both() {
    let mut world = World::new(rules(Observe), WELL, WELL, 20.0, 15);
    world.run_to(60);
    let mut other = report("service_down", ReportState::Firing, 60);
    other.id = "another-pod".into();
    world.tell(Input::Reported(report("service_down", ReportState::Firing, 60)));
    world.tell(Input::Reported(other.clone()));
    other.state = ReportState::Resolved;
    world.tell(Input::Reported(other));
    assert_eq!(world.watch.verdict.as_ref().unwrap().0, Verdict::Degraded(Severity::P0));
    world.tell(Input::Reported(report("service_down", ReportState::Resolved, 60)));
    assert_ne!(world.watch.verdict.as_ref().unwrap().0, Verdict::Degraded(Severity::P0));
}

#[test]
fn a_flood_of_reports_stops_neither_the_looking_nor_the_timeline() {
    let mut world = World::new(rules(Observe), WELL, WELL, 20.0, 16);
    let before = world.count(|entry| matches!(entry, Entry::Measured { .. }));
    for second in 10..1_000 {
        world.run_to(second);
        world.tell(Input::Reported(report("something_else", ReportState::Firing, second)));
    }
    let looks = world.count(|entry| matches!(entry, Entry::Measured { .. })) - before;
    assert!(looks > 90, "{looks} looks in 990 seconds");
    assert!(world.watch.reports.is_empty(), "what no row asks for is not kept");
    assert!(world.watch.timeline.len() <= 500);
    assert!(world.watch.timeline[0].1.contains("deployed"));
    assert_eq!(world.watch.timeline.last().unwrap().0, at(999));
}

#[test]
fn the_most_severe_row_wins() {
    let mut world = World::new(rules(Observe), WELL, Load { errors: 0.3, up: 0.0, ..WELL }, 20.0, 17);
    world.run_to(600);
    assert_eq!(world.watch.verdict.as_ref().unwrap().1.as_deref(), Some("service-down"));
}

#[test]
fn a_newer_deployment_ends_the_watch() {
    let mut world = World::new(rules(Auto), WELL, WELL, 20.0, 18);
    world.run_to(100);
    world.supersede();
    assert_eq!(world.outcome(), Some(&Outcome::Superseded));
    assert!(world.notices.is_empty());

    let mut world = bad_release(Approve);
    world.run_to(200);
    assert!(matches!(world.watch.phase, Phase::AwaitingApproval { .. }));
    world.supersede();
    world.approve();
    assert!(world.answers.last().unwrap().is_err());
    assert_eq!((world.begun.len(), world.outcome()), (0, Some(&Outcome::Superseded)));
    assert!(world.titles().last().unwrap().contains("newer deployment"), "who was asked is told");
}

#[test]
fn a_newer_deployment_stops_a_plan_at_the_next_step() {
    let mut rules = impatient(Auto);
    rules.runbook =
        Some(runbook(&[("one", EffectClass::Keyed, undo()), ("two", EffectClass::Keyed, undo())]));
    let mut world = World::new(rules, WELL, BAD, 20.0, 19);
    while world.begun.is_empty() {
        let next = world.now.as_second() - at(0).as_second() + 1;
        world.run_to(next);
    }
    world.supersede();
    world.run_to(AN_HOUR);
    assert_eq!(world.begun.len(), 1);
    assert!(matches!(world.outcome(), Some(Outcome::Stuck(_))), "{:?}", world.outcome());
    assert_eq!(world.fleet.situation(&service(), &environment(), world.now).active_here, None);
    assert_eq!(world.told(NoticeKind::NeedsPerson), 1);
}

#[test]
fn a_newer_deployment_during_the_last_step_is_not_verified() {
    let mut world = bad_release(Auto);
    while world.begun.is_empty() {
        let next = world.now.as_second() - at(0).as_second() + 1;
        world.run_to(next);
    }
    world.supersede();
    world.run_to(AN_HOUR);
    assert_eq!(world.outcome(), Some(&Outcome::Superseded));
    assert_eq!(world.told(NoticeKind::NeedsPerson), 1);
    let running = world.fleet.situation(&service(), &environment(), world.now).running;
    assert_eq!(running, Some(release("v3")), "the plan's target is not believed to run");
}

#[test]
fn the_kill_switch_holds_before_a_plan() {
    let mut world = bad_release(Auto);
    world.pull_kill_switch();
    world.run_to(400);
    assert_eq!(world.permits.len(), 0);
    assert_eq!(world.told(NoticeKind::Held), 1, "{:#?}", world.titles());
    world.release_kill_switch();
    world.run_to(AN_HOUR);
    assert_eq!((world.begun.len(), world.outcome()), (1, Some(&Outcome::RolledBack)));
}

#[test]
fn the_kill_switch_holds_within_a_plan() {
    let mut rules = impatient(Auto);
    rules.runbook =
        Some(runbook(&[("one", EffectClass::Keyed, undo()), ("two", EffectClass::OneShot, undo())]));
    let mut world = World::new(rules, WELL, BAD, 20.0, 20);
    while world.begun.is_empty() {
        let next = world.now.as_second() - at(0).as_second() + 1;
        world.run_to(next);
    }
    world.pull_kill_switch();
    let now = world.now.as_second() - at(0).as_second();
    world.run_to(now + 300);
    assert_eq!((world.begun.len(), world.told(NoticeKind::Held)), (1, 1), "{:#?}", world.titles());
    let intents = world.count(|entry| matches!(entry, Entry::StepIntended { .. }));
    assert_eq!(intents, 2, "a plan that is held does not fill the ledger");
    world.release_kill_switch();
    world.run_to(AN_HOUR);
    assert_eq!(world.begun.len(), 2);
    assert_eq!(world.outcome(), Some(&Outcome::RolledBack), "{:#?}", world.titles());
}

/// What is changed in the world before the bad release is seen, and what is expected to be decided because of it.
type GuardCase = (&'static str, fn(&mut World), Decision, HoldReason);

#[test]
fn each_guard_does_its_part() {
    let ask = Decision::Propose { approval: true };
    let tell = Decision::Propose { approval: false };
    fn rollbacks(world: &mut World, whose: &str, versions: &[&str], seconds: i64, ends: bool) {
        for (number, version) in versions.iter().enumerate() {
            let name = rules::ids::ServiceName::new(whose).unwrap();
            let plan = PlanId::new(format!("p-{whose}-{number}")).unwrap();
            let when = at(seconds);
            let (service, environment) = (name, environment());
            world.fact(FleetEntry::RollbackBegan {
                service: service.clone(),
                environment: environment.clone(),
                plan: plan.clone(),
                from: release(version).version,
                by_person: false,
                drill: false,
                at: when,
            });
            if ends {
                world.fact(FleetEntry::RollbackEnded { service, environment, plan, running: None, at: when });
            }
        }
    }
    let cases: [GuardCase; 14] = [
        (
            "frozen",
            |w| {
                let freeze = Freeze {
                    service: Some(service()),
                    from: at(-9),
                    until: None,
                    reason: "x".into(),
                    by: "y".into(),
                };
                w.fact(FleetEntry::Frozen(freeze));
            },
            ask.clone(),
            HoldReason::Frozen,
        ),
        (
            "cooling down",
            |w| rollbacks(w, "checkout", &["v0"], -600, true),
            ask.clone(),
            HoldReason::CoolingDown,
        ),
        (
            "per service",
            |w| rollbacks(w, "checkout", &["v0", "v-0"], -7_200, true),
            ask.clone(),
            HoldReason::TooMany,
        ),
        (
            "per hour",
            |w| rollbacks(w, "other", &["a", "b", "c", "d", "e"], -600, true),
            ask.clone(),
            HoldReason::TooMany,
        ),
        (
            "another here",
            |w| rollbacks(w, "checkout", &["v0"], -7_200, false),
            Decision::Hold,
            HoldReason::AnotherRollback,
        ),
        (
            "at once",
            |w| {
                rollbacks(w, "one", &["a"], -100, false);
                rollbacks(w, "two", &["a"], -100, false);
            },
            Decision::Hold,
            HoldReason::AnotherRollback,
        ),
        (
            "deploy window",
            |w| w.watch.rules.guards.deploy_window = Span::from_seconds(1),
            tell,
            HoldReason::OutsideDeployWindow,
        ),
        ("no target", |w| w.watch.deployment.previous = None, Decision::Hold, HoldReason::NoTarget),
        (
            "unproven",
            |w| w.watch.deployment.previous = Some(release("v1")),
            ask.clone(),
            HoldReason::UnprovenTarget,
        ),
        (
            "came back",
            |w| rollbacks(w, "checkout", &["v2"], -80_000, true),
            ask.clone(),
            HoldReason::CameBack,
        ),
        (
            "target was bad",
            |w| rollbacks(w, "checkout", &["v1"], -80_000, true),
            ask.clone(),
            HoldReason::TargetWasBad,
        ),
        (
            "suspended",
            |w| w.fact(FleetEntry::AutoSuspended { reason: "x".into(), at: at(-9) }),
            ask.clone(),
            HoldReason::AutoSuspended,
        ),
        (
            "not heard",
            |w| w.silent_sources.push("prometheus".into()),
            Decision::Hold,
            HoldReason::SourceNotHeard,
        ),
        (
            "too little",
            |w| w.watch.rules.guards.min_requests = 1_000_000,
            Decision::Hold,
            HoldReason::TooLittleEvidence,
        ),
    ];
    for (name, change, decision, reason) in cases {
        let mut world = bad_release(Auto);
        if name == "unproven" {
            world.watch.rules.guards.known_good_for = Span::from_minutes(100_000);
        }
        change(&mut world);
        world.run_to(300);
        let decided = world.watch.decision.clone().unwrap();
        let reasons: Vec<HoldReason> = decided.holds.iter().map(|hold| hold.reason).collect();
        assert_eq!(decided.decision, decision, "{name}: {reasons:?}");
        assert!(reasons.contains(&reason), "{name}: {reasons:?}");
        assert!(decided.holds.iter().all(|hold| hold.words.len() > 10), "{name}");
        assert!(world.begun.is_empty(), "{name}");
    }
}
