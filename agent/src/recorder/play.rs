//! The play: each example in every case that a vendor can make of it, and what must come of it.
//!
//! | case | the other side | what must come of it |
//! | --- | --- | --- |
//! | done | takes it | done; exactly the example's request, once; looked before, verified after |
//! | refused | says no | failed, or unknown where a refusal looks like success at first; never done |
//! | lost | takes it and is silent | unknown, never failed |
//! | again | the step goes on after a lost reply | `one_shot` sends nothing; the others the same with the same key |
//! | there | the look says that it is done | done without a change; nothing is sent |
//! | undone | takes the undo | done; exactly the example's undo |

use super::exchange::without_surroundings;
use super::{Received, Recorder, Reply, Role};
use crate::actions::{Direction, run_step};
use rules::action::{ActionSpec, EffectClass, HttpSuccess, InspectSpec, StepOutcome, Undo};
use rules::ids::{PlanId, StepName};
use rules::plan::Step;
use rules::preset::{Answer, Example, Expanded, Preset, Sent};
use rules::units::Span;
use serde_json::{Value, json};
use std::io;
use tokio::sync::watch;

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// The vendor does it.
    Done,
    /// The vendor refuses.
    Refused,
    /// The reply is lost.
    Lost,
    /// The step goes on after a lost reply.
    Again,
    /// It is done already.
    There,
    /// It is taken back.
    Undone,
}

/// Why a play could not be, or did not go as it must.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The example does not fit its preset.
    #[error("the example cannot be filled in: {0}")]
    Example(String),
    /// There is no port, or no room for files.
    #[error("the recorder cannot be used")]
    Recorder(#[from] io::Error),
    /// Something else came of it, or something else was sent.
    #[error("{0}")]
    Play(String),
}

const CASES: [Case; 6] = [Case::Done, Case::Refused, Case::Lost, Case::Again, Case::There, Case::Undone];

/// Long enough for a busy machine to start a program; no play waits for its end.
const TIMEOUT: Span = Span::from_seconds(30);

impl Case {
    /// As one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Case::Done => "done",
            Case::Refused => "refused",
            Case::Lost => "lost",
            Case::Again => "again",
            Case::There => "there",
            Case::Undone => "undone",
        }
    }
}

/// Plays every case that there is for an example, and tells which. The error is the first that went wrong.
pub async fn check(preset: &Preset, example: &Example) -> Result<Vec<Case>, Fault> {
    let out = preset.carried_out(&example.with).map_err(Fault::Example)?;
    let cases = CASES.into_iter().filter(|case| match case {
        Case::There => out.inspect.is_some(),
        Case::Undone => matches!(out.undo, Undo::Action(_)),
        Case::Done | Case::Refused | Case::Lost | Case::Again => true,
    });
    let cases: Vec<Case> = cases.collect();
    for case in &cases {
        let mut recorder = Recorder::start().await?;
        let step = stage(&mut recorder, &out, example, *case)?;
        let (outcome, received) = run(&recorder, &step, *case).await?;
        judge(&out, example, *case, &outcome, &received)
            .map_err(|words| Fault::Play(format!("in the case `{}` {words}", case.as_str())))?;
    }
    Ok(cases)
}

/// The step as a plan would hold it, every role of it redirected.
fn stage(recorder: &mut Recorder, out: &Expanded, example: &Example, case: Case) -> Result<Step, Fault> {
    let applied = match case {
        Case::Lost => Reply::Lost,
        Case::Refused => match (&out.action, &example.refused) {
            (ActionSpec::Command(_), _) => Reply::Exit(1),
            (
                ActionSpec::Git(_) | ActionSpec::Sql(_) | ActionSpec::Redis(_) | ActionSpec::Kubernetes(_),
                _,
            ) => Reply::Lost,
            (ActionSpec::Http(_), Some(answer)) => told(answer),
            (ActionSpec::Http(_), None) => Reply::Answer { status: 403, body: "{}".into() },
        },
        Case::Done | Case::Again | Case::There | Case::Undone => match &example.done {
            Some(answer) => told(answer),
            None => yes(&out.action),
        },
    };
    let question =
        |role, question: &Option<InspectSpec>, reply: fn(&ActionSpec) -> Reply, recorder: &mut Recorder| {
            let redirected =
                question.as_ref().map(|one| recorder.redirect(role, &one.action, reply(&one.action)));
            redirected.transpose().map(|action| action.map(|action| InspectSpec { action }))
        };
    let looked = if case == Case::There { yes } else { no };
    Ok(Step {
        name: StepName::new("example").map_err(|bad| Fault::Example(bad.to_string()))?,
        from: None,
        undoes: Default::default(),
        asks: false,
        action: recorder.redirect(Role::Apply, &out.action, applied)?,
        class: out.class,
        inspect: question(Role::Inspect, &out.inspect, looked, recorder)?,
        verify: question(Role::Verify, &out.verify, yes, recorder)?,
        undo: match &out.undo {
            Undo::Action(action) => Undo::Action(recorder.redirect(Role::Undo, action, yes(action))?),
            other => other.clone(),
        },
        timeout: TIMEOUT,
        reversibility: out.reversibility,
        key: key(),
    })
}

async fn run(recorder: &Recorder, step: &Step, case: Case) -> Result<(StepOutcome, Vec<Received>), Fault> {
    let plan = PlanId::new("p-0a1b2c-1").map_err(|bad| Fault::Example(bad.to_string()))?;
    let (_switch, cancel) = watch::channel(false);
    let direction = if case == Case::Undone { Direction::Undo } else { Direction::Apply };
    let secrets = recorder.secrets();
    let mut received = Vec::new();
    let outcome = tokio::select! {
        outcome = run_step(&plan, step, direction, case == Case::Again, cancel, &secrets) => outcome,
        error = recorder.serve(&mut received) => match error {
            Ok(never) => match never {},
            Err(error) => return Err(error.into()),
        },
    };
    received.extend(recorder.noted()?);
    Ok((outcome, received))
}

fn key() -> String {
    Example::VALUES
        .iter()
        .find(|(name, _)| *name == "key")
        .map(|(_, key)| (*key).to_owned())
        .unwrap_or_default()
}

fn told(answer: &Answer) -> Reply {
    let body = match &answer.body {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(json) => json.to_string(),
    };
    Reply::Answer { status: answer.status, body }
}

/// An answer that is the declared success, and no more.
fn yes(action: &ActionSpec) -> Reply {
    match action {
        ActionSpec::Git(_) | ActionSpec::Sql(_) | ActionSpec::Redis(_) | ActionSpec::Kubernetes(_) => {
            Reply::Lost
        }
        ActionSpec::Command(command) => Reply::Exit(command.success.first().copied().unwrap_or(0)),
        ActionSpec::Http(http) => {
            let HttpSuccess { status, json } = &http.success;
            let mut body = json!({});
            for (pointer, value) in json {
                put(&mut body, pointer.split('/').skip(1), value);
            }
            Reply::Answer { status: status.first().copied().unwrap_or(200), body: body.to_string() }
        }
    }
}

/// An answer that is good and says something else.
fn no(action: &ActionSpec) -> Reply {
    match action {
        ActionSpec::Git(_) | ActionSpec::Sql(_) | ActionSpec::Redis(_) | ActionSpec::Kubernetes(_) => {
            Reply::Lost
        }
        ActionSpec::Command(_) => Reply::Exit(1),
        ActionSpec::Http(http) if http.success.json.is_empty() => {
            Reply::Answer { status: 404, body: "{}".into() }
        }
        ActionSpec::Http(http) => {
            Reply::Answer { status: http.success.status.first().copied().unwrap_or(200), body: "{}".into() }
        }
    }
}

/// Puts a value where a JSON pointer leads; numbers are places in lists.
fn put<'a>(into: &mut Value, mut steps: impl Iterator<Item = &'a str>, value: &Value) {
    let Some(step) = steps.next() else {
        *into = value.clone();
        return;
    };
    let step = step.replace("~1", "/").replace("~0", "~");
    // Ten places are enough for what one looks at; a larger number is a name.
    match step.parse::<usize>().ok().filter(|place| *place < 10) {
        Some(place) => {
            if !into.is_array() {
                *into = json!([]);
            }
            if let Some(list) = into.as_array_mut() {
                while list.len() <= place {
                    list.push(Value::Null);
                }
                put(&mut list[place], steps, value);
            }
        }
        None => {
            if !into.is_object() {
                *into = json!({});
            }
            if let Some(map) = into.as_object_mut() {
                put(map.entry(step).or_insert(Value::Null), steps, value);
            }
        }
    }
}

fn judge(
    out: &Expanded,
    example: &Example,
    case: Case,
    outcome: &StepOutcome,
    received: &[Received],
) -> Result<(), String> {
    let one_shot_again = case == Case::Again && out.class == EffectClass::OneShot;
    // A refusal with a status that means success cannot be told from an effect.
    let disguised = match (&out.action, &example.refused) {
        (ActionSpec::Http(http), Some(refused)) => http.success.status.contains(&refused.status),
        _ => false,
    };
    let good = match (case, outcome) {
        (Case::Lost, StepOutcome::Unknown { .. }) => true,
        (Case::Refused, StepOutcome::Unknown { .. }) => disguised,
        (Case::Refused, StepOutcome::Failed { .. }) => !disguised,
        (Case::Again, StepOutcome::Unknown { .. }) => one_shot_again,
        (Case::Again, StepOutcome::Done { .. }) => !one_shot_again,
        (Case::Done | Case::Undone, StepOutcome::Done { changed: true, .. }) => true,
        (Case::There, StepOutcome::Done { changed: false, .. }) => true,
        _ => false,
    };
    if !good {
        return Err(format!("this came of it: {outcome:?}"));
    }
    let looks = matches!(out.class, EffectClass::Lookup | EffectClass::CompareAndSet) && case != Case::Undone;
    let sends = !one_shot_again && !matches!(case, Case::There | Case::Undone);
    let verifies = !one_shot_again && matches!(case, Case::Done | Case::Again | Case::There);
    let expected = [
        (Role::Inspect, example.looks.as_ref().filter(|_| looks)),
        (Role::Apply, Some(&example.sends).filter(|_| sends)),
        (Role::Verify, example.verifies.as_ref().filter(|_| verifies)),
        (Role::Undo, example.undoes.as_ref().filter(|_| case == Case::Undone)),
    ];
    for (role, expected) in expected {
        let mut found = received.iter().filter(|one| one.role == role);
        compare(role, expected, found.next(), out.class)?;
        if found.next().is_some() {
            return Err(format!("`{}` was sent more than once", role.name()));
        }
    }
    Ok(())
}

fn compare(
    role: Role,
    expected: Option<&Sent>,
    found: Option<&Received>,
    class: EffectClass,
) -> Result<(), String> {
    let (expected, found) = match (expected, found) {
        (None, None) => return Ok(()),
        (None, Some(found)) => {
            return Err(format!("`{}` was sent, and must not be: {:?}", role.name(), found.sent));
        }
        (Some(_), None) => return Err(format!("`{}` was not sent", role.name())),
        (Some(expected), Some(found)) => (expected, found),
    };
    let sent = without_surroundings(&found.sent, expected);
    if sent != *expected {
        return Err(format!("`{}` should send\n  {expected:?}\nand sends\n  {sent:?}", role.name()));
    }
    let wanted = match role {
        Role::Undo => format!("{}-undo", key()),
        Role::Apply | Role::Inspect | Role::Verify => key(),
    };
    let must_carry = matches!(role, Role::Apply | Role::Undo) && class == EffectClass::Keyed;
    if must_carry && found.key.as_ref() != Some(&wanted) {
        return Err(format!("`{}` carries the key {:?} and not {wanted}", role.name(), found.key));
    }
    Ok(())
}
