//! The class rules, held against a journal that the programs write themselves.

use super::*;
use rules::action::{CommandSpec, InspectSpec, Reversibility, SecretRef};
use std::collections::BTreeMap;

struct World {
    directory: tempfile::TempDir,
    switch: watch::Sender<bool>,
    secrets: Secrets,
}

impl World {
    fn new() -> Self {
        let (switch, _) = watch::channel(false);
        Self {
            directory: tempfile::tempdir().unwrap(),
            switch,
            secrets: Secrets::from_variables(BTreeMap::new()),
        }
    }

    fn journal(&self) -> Vec<String> {
        let path = self.directory.path().join("journal");
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// A shell script that runs in the world's directory.
    fn script(&self, text: &str) -> ActionSpec {
        ActionSpec::Command(CommandSpec {
            argv: vec!["/bin/sh".into(), "-c".into(), text.into()],
            env: BTreeMap::new(),
            secret_env: BTreeMap::new(),
            directory: Some(self.directory.path().to_str().unwrap().into()),
            success: vec![0],
            retryable: vec![75],
        })
    }

    fn step(&self, class: EffectClass, then: &str, look: Option<&str>) -> Step {
        Step {
            name: StepName::new("turn").unwrap(),
            from: None,
            undoes: Default::default(),
            asks: false,
            action: self.script(&format!("echo apply $TURNBACK_KEY >> journal; {then}")),
            class,
            inspect: look
                .map(|look| InspectSpec { action: self.script(&format!("echo look >> journal; {look}")) }),
            verify: None,
            undo: Undo::Action(self.script("echo undo $TURNBACK_KEY >> journal")),
            timeout: Span::from_seconds(20),
            reversibility: Reversibility::Reversible,
            key: "key-1".into(),
        }
    }

    async fn run(&self, step: &Step, direction: Direction, recovering: bool) -> StepOutcome {
        let plan = PlanId::new("p-1").unwrap();
        run_step(&plan, step, direction, recovering, self.switch.subscribe(), &self.secrets).await
    }
}

fn kind(outcome: &StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Done { changed: true, .. } => "done",
        StepOutcome::Done { changed: false, .. } => "there already",
        StepOutcome::Failed { kind: FailureKind::Retryable, .. } => "failed, retryable",
        StepOutcome::Failed { kind: FailureKind::Permanent, .. } => "failed, permanent",
        StepOutcome::Unknown { .. } => "unknown",
        StepOutcome::NotBegun { .. } => "not begun",
    }
}

#[tokio::test]
async fn each_class_is_repeated_as_it_may_be() {
    use EffectClass::{CompareAndSet, Keyed, Lookup, OneShot};
    const FIRST: bool = false;
    const AGAIN: bool = true;
    let apply = "apply key-1";
    let cases: [(EffectClass, bool, &str, &str, &[&str]); 17] = [
        (OneShot, FIRST, "", "done", &[apply]),
        (OneShot, FIRST, "exit 75", "failed, retryable", &[apply]),
        (OneShot, FIRST, "exit 3", "failed, permanent", &[apply]),
        (OneShot, FIRST, "kill -9 $$", "unknown", &[apply]),
        (OneShot, AGAIN, "", "unknown", &[]),
        (Keyed, FIRST, "", "done", &[apply]),
        (Keyed, AGAIN, "", "done", &[apply]),
        (Keyed, AGAIN, "exit 75", "unknown", &[apply]),
        (Keyed, AGAIN, "exit 3", "unknown", &[apply]),
        (Lookup, FIRST, "look: exit 0", "there already", &["look"]),
        (Lookup, FIRST, "look: exit 1", "done", &["look", apply]),
        (Lookup, FIRST, "look: exit 2", "failed, retryable", &["look"]),
        (Lookup, AGAIN, "look: exit 0", "there already", &["look"]),
        (Lookup, AGAIN, "look: exit 1", "done", &["look", apply]),
        (Lookup, AGAIN, "look: exit 2", "unknown", &["look"]),
        (CompareAndSet, AGAIN, "look: exit 1", "done", &["look", apply]),
        (CompareAndSet, AGAIN, "look: exit 2", "unknown", &["look"]),
    ];
    for (class, recovering, behaviour, expected, journal) in cases {
        let world = World::new();
        let look = behaviour.strip_prefix("look: ");
        let step = world.step(class, if look.is_some() { "" } else { behaviour }, look);
        let outcome = world.run(&step, Direction::Apply, recovering).await;
        let case = format!("{class:?}, recovering: {recovering}, {behaviour:?}: {outcome:?}");
        assert_eq!(kind(&outcome), expected, "{case}");
        assert_eq!(world.journal(), journal, "{case}");
    }
}

#[tokio::test]
async fn a_class_that_looks_first_does_nothing_without_eyes() {
    for recovering in [false, true] {
        let world = World::new();
        let step = world.step(EffectClass::Lookup, "", None);
        let outcome = world.run(&step, Direction::Apply, recovering).await;
        assert_eq!(kind(&outcome), if recovering { "unknown" } else { "failed, permanent" });
        assert!(world.journal().is_empty());
    }
}

#[tokio::test]
async fn the_key_is_the_same_for_each_attempt_and_another_for_undo() {
    let world = World::new();
    let step = world.step(EffectClass::Keyed, "", None);
    for recovering in [false, true, true] {
        assert_eq!(kind(&world.run(&step, Direction::Apply, recovering).await), "done");
    }
    for recovering in [false, true] {
        assert_eq!(kind(&world.run(&step, Direction::Undo, recovering).await), "done");
    }
    let applied = "apply key-1";
    let undone = "undo key-1-undo";
    assert_eq!(world.journal(), [applied, applied, applied, undone, undone]);
}

#[tokio::test]
async fn undoing_depends_on_what_the_step_says() {
    let world = World::new();
    // A one-shot action may have an undo that can run twice.
    let mut step = world.step(EffectClass::OneShot, "", None);
    assert_eq!(kind(&world.run(&step, Direction::Undo, true).await), "done");
    step.undo = Undo::NotNeeded;
    assert_eq!(kind(&world.run(&step, Direction::Undo, false).await), "there already");
    step.undo = Undo::Impossible;
    assert_eq!(kind(&world.run(&step, Direction::Undo, false).await), "failed, permanent");
    assert_eq!(world.journal(), ["undo key-1-undo"]);
}

#[tokio::test]
async fn nothing_begins_while_the_kill_switch_is_pulled() {
    for class in [EffectClass::OneShot, EffectClass::Keyed, EffectClass::Lookup, EffectClass::CompareAndSet] {
        for (recovering, expected) in [(false, "not begun"), (true, "unknown")] {
            for direction in [Direction::Apply, Direction::Undo] {
                let world = World::new();
                let step = world.step(class, "", Some("exit 1"));
                world.switch.send_replace(true);
                assert_eq!(kind(&world.run(&step, direction, recovering).await), expected);
                assert!(world.journal().is_empty());
            }
        }
    }
}

#[tokio::test]
async fn a_switch_pulled_while_looking_stops_the_action() {
    let world = World::new();
    let step = world.step(
        EffectClass::Lookup,
        "",
        Some("trap 'exit 1' TERM; touch looking; while :; do sleep 0.02; done"),
    );
    let pull = async {
        while !world.directory.path().join("looking").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        world.switch.send_replace(true);
    };
    let (outcome, ()) = tokio::join!(world.run(&step, Direction::Apply, false), pull);
    assert_eq!(kind(&outcome), "not begun");
    assert_eq!(world.journal(), ["look"]);
}

#[tokio::test]
async fn a_switch_that_nobody_holds_counts_as_pulled() {
    let World { directory, switch, secrets } = World::new();
    let cancel = switch.subscribe();
    let world = World { directory, switch: watch::channel(false).0, secrets };
    drop(switch);
    let step = world.step(EffectClass::OneShot, "", None);
    let plan = PlanId::new("p-1").unwrap();
    let outcome = run_step(&plan, &step, Direction::Apply, false, cancel, &world.secrets).await;
    assert_eq!(outcome, StepOutcome::NotBegun { reason: "the agent is shutting down".into() });
    assert!(world.journal().is_empty());
}

#[tokio::test]
async fn looking_takes_half_of_the_time_at_most() {
    let world = World::new();
    let mut step = world.step(EffectClass::Lookup, "", Some("sleep 30"));
    step.timeout = Span::from_seconds(8);
    let began = Instant::now();
    let outcome = world.run(&step, Direction::Apply, false).await;
    assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
    let took = began.elapsed().as_secs_f64();
    assert!((4.0..8.0).contains(&took), "{took} s: {outcome:?}");
    assert_eq!(world.journal(), ["look"]);
}

#[tokio::test]
async fn a_missing_secret_is_found_before_anything_happens() {
    let world = World::new();
    let mut step = world.step(EffectClass::Lookup, "", Some("exit 1"));
    let ActionSpec::Command(command) = &mut step.action else { panic!("a command") };
    command.secret_env.insert("TOKEN".into(), SecretRef::Env("NOT_SET".into()));
    match world.run(&step, Direction::Apply, false).await {
        StepOutcome::Failed { kind: FailureKind::Permanent, reason, .. } => {
            assert_eq!(
                reason,
                "the action cannot be begun: command.secret_env.TOKEN cannot be filled in: the secret in the \
                 environment variable NOT_SET is not there; set NOT_SET for the agent"
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(world.journal().is_empty());
}

#[tokio::test]
async fn done_is_what_the_verification_says() {
    // A question that says no, no, yes: it is asked until it says yes, and only after an action that was done.
    let world = World::new();
    let mut step = world.step(EffectClass::OneShot, "", None);
    step.verify =
        Some(InspectSpec { action: world.script("echo ask >> journal; test $(grep -c ask journal) -ge 2") });
    assert_eq!(kind(&world.run(&step, Direction::Apply, false).await), "done");
    assert_eq!(world.journal(), ["apply key-1", "ask", "ask"]);
    step.action = world.script("exit 3");
    assert_eq!(kind(&world.run(&step, Direction::Apply, false).await), "failed, permanent");
    assert_eq!(kind(&world.run(&step, Direction::Undo, false).await), "done");
    assert_eq!(
        world.journal(),
        ["apply key-1", "ask", "ask", "undo key-1"].map(|line| line.replace("undo key-1", "undo key-1-undo"))
    );
}

#[tokio::test]
async fn a_verification_that_never_says_yes_leaves_it_unknown() {
    for answer in ["exit 1", "exit 2", "sleep 30"] {
        let world = World::new();
        let mut step = world.step(EffectClass::Lookup, "", Some("exit 0"));
        step.verify = Some(InspectSpec { action: world.script(answer) });
        step.timeout = Span::from_seconds(6);
        let began = Instant::now();
        let outcome = world.run(&step, Direction::Apply, false).await;
        let StepOutcome::Unknown { reason, .. } = &outcome else { panic!("{outcome:?}") };
        assert!(
            reason.starts_with("the action says that it is done, and the verification does not"),
            "{reason}"
        );
        // The time of the step, and what a program that is asked to end may take.
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{answer}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_switch_pulled_while_verifying_ends_it() {
    let world = World::new();
    let mut step = world.step(EffectClass::OneShot, "", None);
    step.verify = Some(InspectSpec { action: world.script("touch asked; exit 1") });
    let pull = async {
        while !world.directory.path().join("asked").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        world.switch.send_replace(true);
    };
    let began = Instant::now();
    let (outcome, ()) = tokio::join!(world.run(&step, Direction::Apply, false), pull);
    assert_eq!(kind(&outcome), "unknown");
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{outcome:?}");
}
