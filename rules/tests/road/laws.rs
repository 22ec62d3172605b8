//! Laws that hold on every road: what is restored is what was, nothing happens twice, holes say nothing.

use super::world::{
    BAD, Dice, Load, WELL, World, at, done, failed, impatient, release, report, rules, runbook, signal, undo,
    unknown,
};
use jiff::Timestamp;
use proptest::prelude::*;
use rules::action::{EffectClass, FailureKind, StepOutcome, Undo};
use rules::decision::AutonomyLevel;
use rules::deployment::ReportState;
use rules::evidence::Evidence;
use rules::execution::{Direction, Execution, Next};
use rules::ids::PlanDigest;
use rules::matrix::Truth;
use rules::plan::RollbackPlan;
use rules::signal::{Measurement, Observation, Reading};
use rules::units::Span;
use rules::watch::{Effect, Entry, Input, Watch};
use std::collections::BTreeMap;

fn outcome(dice: &mut Dice) -> Option<StepOutcome> {
    match dice.next() % 8 {
        0 => Some(unknown()),
        1 => Some(failed(FailureKind::Retryable)),
        2 => Some(failed(FailureKind::Permanent)),
        3 => None,
        _ => Some(done()),
    }
}

fn three_steps(level: AutonomyLevel) -> rules::ruleset::RuleSet {
    let mut rules = impatient(level);
    rules.runbook = Some(runbook(&[
        ("keyed", EffectClass::Keyed, undo()),
        ("once", EffectClass::OneShot, Undo::NotNeeded),
        ("lookup", EffectClass::Lookup, Undo::Impossible),
    ]));
    rules.watch.watch_for = Span::from_minutes(20);
    rules
}

/// A random world with a random past, and a random thing that happens to it at each turn.
fn random_world(seed: u64) -> (World, Dice) {
    let mut dice = Dice::new(seed);
    let level = [
        AutonomyLevel::Observe,
        AutonomyLevel::Recommend,
        AutonomyLevel::Approve,
        AutonomyLevel::Auto,
        AutonomyLevel::Auto,
    ];
    let level = level[(dice.next() % 5) as usize];
    let mut rules = if dice.one_in(3) { rules(level) } else { impatient(level) };
    rules.runbook = three_steps(level).runbook;
    rules.watch.watch_for = Span::from_minutes(20);
    if dice.one_in(2) {
        rules.watch.checkpoints =
            super::aftercare::checkpoints(&[("soon", 120), ("later", 400), ("last", 900)]);
    }
    let loads =
        [WELL, BAD, Load { slow: 4.0, ..WELL }, Load { up: 0.0, ..WELL }, Load { errors: 0.07, ..WELL }];
    let mut load = || loads[(dice.next() % 5) as usize];
    let (after, cure) = (load(), load());
    let mut world = World::new(rules, WELL, after, 8.0, seed);
    world.cure = cure;
    for _ in 0..12 {
        world.script.push_back(outcome(&mut dice));
    }
    (world, dice)
}

fn happen(world: &mut World, dice: &mut Dice) {
    let seconds = world.now.as_second() - at(0).as_second();
    let when = seconds - (dice.next() % 30) as i64;
    let whats = ["smoke_test_failed", "service_down", "performance_degraded", "nonsense"];
    let what = whats[(dice.next() % 4) as usize];
    let digest = match (&world.watch.plan, dice.next() % 4) {
        (Some((_, digest)), 0..3) => digest.clone(),
        _ => PlanDigest::of("something else"),
    };
    match dice.next() % 18 {
        0 => world.tell(Input::Reported(report(what, ReportState::Firing, when))),
        1 => world.tell(Input::Reported(report(what, ReportState::Resolved, when))),
        2 | 3 => world.tell(Input::Approved { by: "ann".into(), digest }),
        4 if dice.one_in(4) => world.tell(Input::Refused { by: "ann".into(), digest, reason: "no".into() }),
        5 if dice.one_in(4) => world.tell(Input::RollbackAsked { by: "ann".into(), to: None, drill: false }),
        6 if dice.one_in(8) => world.supersede(),
        7 => world.pull_kill_switch(),
        8 | 9 => world.release_kill_switch(),
        10 => world.outages.push((world.now, at(seconds + 200))),
        11 => {
            // An echo, or an invention.
            if let Some(permit) = world.permits.last().cloned() {
                let attempt = 1 + (dice.next() % 3) as u32;
                let step = (dice.next() % 4) as usize;
                // Only news of attempts that are certainly not in flight: the executor does not lie about those.
                let flying = world.watch.execution.as_ref().and_then(Execution::in_flight);
                if flying.is_none_or(|(index, _, number)| (index, number) != (step, attempt)) {
                    world.tell(Input::StepEnded { plan: permit.plan, step, attempt, outcome: done() });
                }
            }
        }
        12 => world.tell(Input::Tick),
        13 => {
            let now = world.now;
            let from = at(seconds - (dice.next() % 300) as i64);
            let again = vec![world.measure(&signal("errors"), from, now)];
            world.tell(Input::Samples(again));
        }
        14 => world.tell(Input::Baseline(BTreeMap::new())),
        15 => world.silent_sources = if dice.one_in(2) { vec!["prometheus".into()] } else { vec![] },
        _ => {}
    }
    world.run_to(seconds + 1 + (dice.next() % 40) as i64);
}

/// A one-shot step is begun once; nothing is begun while something else is; an attempt is begun at most three times.
fn nothing_twice(world: &World) {
    let once = world.begun.iter().filter(|permit| permit.step.class == EffectClass::OneShot);
    let once: Vec<_> = once.filter(|permit| permit.direction == Direction::Apply).collect();
    assert!(once.len() <= 1, "{once:#?}");
    let mut attempts: BTreeMap<(usize, bool), u32> = BTreeMap::new();
    for permit in &world.begun {
        *attempts.entry((permit.index, permit.direction == Direction::Undo)).or_default() += 1;
    }
    assert!(attempts.values().all(|count| *count <= 3), "{attempts:?}");
    let mut flying = false;
    for (_, entry) in &world.entries {
        match entry {
            Entry::StepIntended { .. } => assert!(!std::mem::replace(&mut flying, true), "two steps at once"),
            Entry::StepEnded { .. } => flying = false,
            _ => {}
        }
    }
    let plans = world.count(|entry| matches!(entry, Entry::ExecutionBegan { .. }));
    assert!(plans <= 1, "a rollback is never repeated by its own watch");
    if world.watch.is_closed() && plans == 1 {
        let situation = world.situation();
        assert_eq!(situation.active_here, None, "{:?}", world.watch.phase);
    }
}

fn same_when_restored(world: &World) {
    let stored: Vec<(Timestamp, Entry)> = world
        .entries
        .iter()
        .map(|(at, entry)| (*at, serde_json::from_str(&serde_json::to_string(entry).unwrap()).unwrap()))
        .collect();
    let restored = Watch::restore(world.watch.id.clone(), &stored).unwrap();
    assert_eq!(restored, world.watch);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_restored_is_what_was(seed in any::<u64>()) {
        let (mut world, mut dice) = random_world(seed);
        for _ in 0..30 {
            happen(&mut world, &mut dice);
            same_when_restored(&world);
        }
        for end in 1..=world.entries.len() {
            prop_assert!(Watch::restore(world.watch.id.clone(), &world.entries[..end]).is_ok());
        }
    }

    #[test]
    fn whatever_happens_nothing_happens_twice(seed in any::<u64>()) {
        let (mut world, mut dice) = random_world(seed);
        for _ in 0..60 {
            happen(&mut world, &mut dice);
            if dice.one_in(6) {
                world.restart();
            }
            if dice.one_in(4) {
                world.killed_in = Some(dice.next() % 12);
            }
            nothing_twice(&world);
        }
        nothing_twice(&world);
        // Whatever began comes to an end, if only the agent runs and the switch is released.
        world.release_kill_switch();
        world.script.clear();
        world.killed_in = None;
        world.restart();
        let now = world.now.as_second() - at(0).as_second();
        world.run_to(now + 6_000);
        prop_assert!(world.watch.is_closed(), "{:?}", world.watch.phase);
        nothing_twice(&world);
    }

    #[test]
    fn holes_say_nothing(seed in any::<u64>(), kind in 0..3) {
        let mut world = World::new(rules(AutonomyLevel::Observe), WELL, WELL, 8.0, seed);
        world.run_to(60);
        let before = world.watch.evidence.clone();
        let observation = match kind {
            0 => Observation::Absent { reason: "nothing".into() },
            1 => Observation::Partial { reporting: 1, expected: 3 },
            _ => Observation::Failed { reason: "no".into() },
        };
        let names: Vec<_> = before.signals.keys().cloned().collect();
        let hole = |name| Measurement::plain(name, at(62), at(72), observation.clone());
        world.now = at(72);
        world.tell(Input::Samples(names.into_iter().map(hole).collect()));
        let mut after = world.watch.evidence.clone();
        for (name, evidence) in &mut after.signals {
            prop_assert!(evidence.hole.is_some());
            prop_assert_eq!(evidence.lost, before.signals[name].lost + 1);
            evidence.hole.clone_from(&before.signals[name].hole);
            evidence.lost -= 1;
        }
        prop_assert_eq!(after, before);
    }

    #[test]
    fn the_order_within_a_look_does_not_matter(seed in any::<u64>()) {
        let mut world = World::new(rules(AutonomyLevel::Observe), WELL, BAD, 8.0, seed);
        world.run_to(20);
        let mut dice = Dice::new(seed);
        let mut look = vec![];
        for name in ["errors", "latency", "availability"].map(signal) {
            let from = world.watch.evidence.signals[&name].measured_until;
            for (from, to) in [(from, at(30)), (at(30), at(40))] {
                look.push(world.measure(&name, from, to));
            }
        }
        let mut shuffled = look.clone();
        for place in (1..shuffled.len()).rev() {
            shuffled.swap(place, (dice.next() % (place as u64 + 1)) as usize);
        }
        let taken = |look: Vec<Measurement>| -> Evidence {
            let mut watch = world.watch.clone();
            let _effects: Vec<Effect> = watch.on(Input::Samples(look), &world.situation(), at(40));
            watch.evidence
        };
        prop_assert_eq!(taken(look), taken(shuffled));
    }

    #[test]
    fn no_numbers_poison_a_test(bad in any::<f64>(), total in any::<f64>(), level in any::<f64>()) {
        for reading in [
            Reading::Counts { bad, total },
            Reading::Level { value: level },
            Reading::Buckets { bounds: vec![bad, total], counts: vec![level, bad, total] },
        ] {
            if reading.problem().is_none() {
                continue;
            }
            let mut world = World::new(rules(AutonomyLevel::Observe), WELL, WELL, 8.0, 1);
            world.tell(Input::Tick);
            let observation = Observation::Seen { reading, newest: at(12) };
            let measurement = Measurement::plain(signal("errors"), at(0), at(12), observation);
            let before = world.watch.evidence.signals[&signal("errors")].counts();
            world.now = at(12);
            world.tell(Input::Samples(vec![measurement]));
            prop_assert_eq!(world.watch.evidence.signals[&signal("errors")].counts(), before);
            same_when_restored(&world);
        }
    }

    #[test]
    fn kleene(values in prop::collection::vec(0..3_u8, 0..6)) {
        let truths: Vec<Truth> = values.iter().map(|value| [Truth::Holds, Truth::Fails, Truth::Unknown][usize::from(*value)]).collect();
        let not = |truth: &Truth| match truth { Truth::Holds => Truth::Fails, Truth::Fails => Truth::Holds, Truth::Unknown => Truth::Unknown };
        // De Morgan, and: knowing more never turns a known value around.
        prop_assert_eq!(not(&Truth::all(truths.clone())), Truth::any(truths.iter().map(not)));
        for (place, value) in truths.iter().enumerate() {
            if *value == Truth::Unknown {
                for known in [Truth::Holds, Truth::Fails] {
                    let mut more = truths.clone();
                    more[place] = known;
                    let (before, after) = (Truth::all(truths.clone()), Truth::all(more));
                    prop_assert!(before == Truth::Unknown || before == after);
                }
            }
        }
    }

    #[test]
    fn an_execution_only_takes_legal_steps(moves in prop::collection::vec((0..4_usize, any::<bool>(), 1..4_u32, 0..5_u8), 0..40)) {
        let mut execution = Execution::new(plan(), false, at(0));
        for (number, (step, undo, attempt, what)) in moves.into_iter().enumerate() {
            let now = at(number as i64 * 100);
            let direction = if undo { Direction::Undo } else { Direction::Apply };
            let before = execution.clone();
            let proposed = execution.next(now);
            if what == 0 {
                let flying = execution.in_flight();
                let result = execution.ended(step, &done(), now);
                prop_assert_eq!(result.is_ok(), flying.is_some_and(|(index, _, _)| index == step));
                if result.is_err() {
                    prop_assert_eq!(&execution, &before);
                }
            } else if let Next::Run { step, direction, attempt, .. } = proposed {
                prop_assert!(execution.intended(step, direction, attempt).is_ok(), "what it proposes is legal");
            } else if execution.intended(step, direction, attempt).is_err() {
                prop_assert_eq!(&execution, &before);
            }
        }
    }
}

fn plan() -> RollbackPlan {
    let mut world = World::new(three_steps(AutonomyLevel::Observe), WELL, WELL, 8.0, 1);
    world.tell(Input::Tick);
    world.tell(Input::RollbackAsked { by: "ann".into(), to: None, drill: false });
    world.watch.plan.clone().unwrap().0
}

#[test]
fn the_digest_covers_every_field() {
    let plan = plan();
    let digest = plan.digest();
    let whole = serde_json::to_value(&plan).unwrap();
    let mut changed = 0;
    change_each(&whole, &mut |other| {
        // What cannot be read as a plan any more cannot be approved either.
        if let Ok(other) = serde_json::from_value::<RollbackPlan>(other.clone()) {
            assert_ne!(other.digest(), digest);
            changed += 1;
        }
    });
    assert!(changed > 30, "{changed} changes");
    let mut fewer = plan.clone();
    fewer.steps.pop();
    assert_ne!(fewer.digest(), digest);
    let mut other = plan;
    other.steps.swap(0, 2);
    assert_ne!(other.digest(), digest);
    assert_eq!(other.to, release("v1"));
}

/// Calls `look` with a copy of `whole` for each text or number in it, that one changed.
fn change_each(whole: &serde_json::Value, look: &mut impl FnMut(&serde_json::Value)) {
    fn paths(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                map.iter().for_each(|(key, inner)| paths(inner, &format!("{at}/{key}"), found))
            }
            serde_json::Value::Array(list) => {
                list.iter().enumerate().for_each(|(n, inner)| paths(inner, &format!("{at}/{n}"), found))
            }
            _ => found.push(at.to_owned()),
        }
    }
    let mut found = vec![];
    paths(whole, "", &mut found);
    for path in found {
        let mut other = whole.clone();
        let place = other.pointer_mut(&path).unwrap();
        *place = match place.clone() {
            serde_json::Value::String(text) if text.ends_with('m') => "7m".into(),
            serde_json::Value::String(text) if text.ends_with('Z') => "2001-01-01T00:00:00Z".into(),
            serde_json::Value::String(text) if text == "keyed" => "one_shot".into(),
            serde_json::Value::String(text) if text == "reversible" => "destructive".into(),
            serde_json::Value::String(text) => format!("{text}x").into(),
            serde_json::Value::Number(number) => (number.as_i64().unwrap() + 1).into(),
            other => other,
        };
        if &other != whole {
            look(&other);
        }
    }
}
