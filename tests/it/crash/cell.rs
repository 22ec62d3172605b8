//! One cell: an agent, a deployment that fails its smoke test, a step of one family, and one fault at one boundary.

use super::matrix::Who;
use crate::contract::Command;
use crate::contract::family::{Family, Rule, Seen};
use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use rules::action::EffectClass;
use std::fmt;
use std::time::Duration;
use tests::daemon::Daemon;
use tests::gate::Mode;
use tests::victim::{Release, Victim};
use tests::wait;

/// For anything that comes by itself, on a machine at several times its load.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a step may take where the agent stands still …
const SHORT: Duration = Duration::from_secs(8);
/// … and how long it stands still.
const STILL: Duration = Duration::from_secs(10);

/// Where in a step the fault comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    BeforeIntent,
    AfterIntent,
    /// Leave is given and nothing is sent.
    BeforeDispatch,
    /// The effect is on its way.
    InDispatch,
    /// The target has had the effect and the agent has not heard of it.
    BeforeReply,
    /// The agent has heard of it and has not written it down.
    BeforeOutcome,
    AfterOutcome,
    InVerification,
    /// An undo has had its effect and is not written down.
    InCompensation,
}

impl Boundary {
    pub const ALL: [Boundary; 9] = [
        Boundary::BeforeIntent,
        Boundary::AfterIntent,
        Boundary::BeforeDispatch,
        Boundary::InDispatch,
        Boundary::BeforeReply,
        Boundary::BeforeOutcome,
        Boundary::AfterOutcome,
        Boundary::InVerification,
        Boundary::InCompensation,
    ];

    /// Its name inside of the agent; `None` where the fault comes from outside, while the gate holds the effect.
    pub fn point(self) -> Option<&'static str> {
        Some(match self {
            Boundary::BeforeIntent => "before-intent",
            Boundary::AfterIntent => "after-intent",
            Boundary::BeforeDispatch => "before-effect",
            Boundary::InDispatch | Boundary::BeforeReply => return None,
            Boundary::BeforeOutcome => "before-outcome",
            Boundary::AfterOutcome => "after-outcome",
            Boundary::InVerification => "in-verification",
            Boundary::InCompensation => "in-compensation",
        })
    }

    /// Whether an agent that ends here leaves nobody who knows if there was an effect.
    fn in_doubt(self) -> bool {
        match self {
            Boundary::AfterIntent | Boundary::BeforeDispatch | Boundary::InDispatch => true,
            Boundary::BeforeReply | Boundary::BeforeOutcome => true,
            Boundary::BeforeIntent | Boundary::AfterOutcome => false,
            Boundary::InVerification | Boundary::InCompensation => false,
        }
    }
}

/// What happens to the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `SIGKILL`, and a new start.
    Kill,
    /// `SIGABRT`, and a new start.
    Abort,
    /// `SIGSTOP`, for longer than the step may take, and `SIGCONT`.
    Pause,
}

impl Way {
    fn armed(self, point: &str) -> String {
        match self {
            Way::Kill => format!("{point}=return"),
            Way::Abort => format!("{point}=return(abort)"),
            Way::Pause => format!("{point}=1*return(stop)"),
        }
    }

    fn signal(self) -> Signal {
        match self {
            Way::Kill => Signal::SIGKILL,
            Way::Abort => Signal::SIGABRT,
            Way::Pause => Signal::SIGSTOP,
        }
    }
}

/// Which cell of the matrix.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    pub who: Who,
    pub boundary: Boundary,
    pub way: Way,
    /// Where the agent is killed once more while it recovers, if it comes by there.
    pub second: Option<Boundary>,
}

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} {:?} {:?}", self.who, self.boundary, self.way)?;
        self.second.map_or(Ok(()), |second| write!(out, " then {second:?}"))
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Ended {
    pub seen: Seen,
    pub phase: String,
}

struct Case<F> {
    family: F,
    daemon: Daemon,
    cell: Cell,
    _service: Victim,
}

fn class(class: EffectClass) -> &'static str {
    match class {
        EffectClass::CompareAndSet => "compare_and_set",
        EffectClass::Keyed => "keyed",
        EffectClass::Lookup => "lookup",
        EffectClass::OneShot => "one_shot",
    }
}

impl<F: Family> Case<F> {
    async fn new(cell: Cell, one_shot: bool, guards: &str) -> Result<Case<F>> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let family = F::set_up().await?;
        let service = Victim::start(&Release::healthy("v2")).await?;
        let mut daemon = Daemon::prepare("")?;
        let (action, class) = match one_shot {
            true => (family.action().replace("--once-per-key, ", ""), class(EffectClass::OneShot)),
            false => (family.action(), class(F::ROW.class)),
        };
        let timeout = if cell.way == Way::Pause { SHORT } else { PATIENCE }.as_secs();
        let undo = family.undo().map_or(String::new(), |undo| format!(", undo: {{ action: {{ {undo} }} }}"));
        let mut steps = format!(
            "    - {{ name: switch, class: {class}, timeout: {timeout}s, action: {{ {action} }}{undo} }}\n"
        );
        if cell.boundary == Boundary::InCompensation {
            // The next step fails when it is run, and not when it is rehearsed, so that the first one is undone.
            let failing = "action: { command: { argv: [/bin/false] } }";
            steps.push_str(&format!("    - {{ name: fail, class: one_shot, {failing} }}\n"));
        }
        daemon.reconfigure(&config(&service, &steps, guards))?;
        daemon.set_environment(&family.secrets());
        match (cell.boundary.point(), cell.boundary) {
            (Some(point), _) => daemon.launch(Some(&cell.way.armed(point)))?,
            (None, boundary) => {
                let mode = if boundary == Boundary::InDispatch { Mode::HoldBefore } else { Mode::HoldAnswer };
                family.gate().arm(F::ROW.effect, mode)?;
                daemon.launch(None)?;
            }
        }
        daemon.ready().await?;
        Ok(Case { family, daemon, cell, _service: service })
    }

    /// A deployment whose smoke test fails: a P1 row that holds without statistics, so that the step begins at once.
    async fn go_bad(&self) -> Result<()> {
        self.daemon.deployed("shop", "v2", Some("v1")).await?;
        let report = serde_json::json!({ "service": "shop", "report": "smoke_test_failed", "state": "firing", "id": "smoke-1" });
        // The agent may be gone before it answers: whether this is on disk is the agent's own matter, and it must be
        // if it was acknowledged.
        match self.daemon.post("/v1/events", &report).await {
            Ok((status, answer)) => ensure!(status == 202, "{status}: {answer}"),
            Err(_gone) => {}
        }
        Ok(())
    }

    /// Waits until the fault is due, and brings it if it comes from outside.
    async fn strike(&self) -> Result<()> {
        if let Some(point) = self.cell.boundary.point() {
            let hit = format!("crash point {point} hit");
            return wait::until(&hit, PATIENCE, async || Ok(self.daemon.log().contains(&hit).then_some(())))
                .await;
        }
        wait::until("the effect at the gate", PATIENCE, async || {
            let held = self.family.gate().hits() > 0;
            let there = self.cell.boundary == Boundary::InDispatch || self.family.seen().await?.applied > 0;
            Ok((held && there).then_some(()))
        })
        .await?;
        self.process()?.signal(self.cell.way.signal())
    }

    fn process(&self) -> Result<&tests::process::Process> {
        self.daemon.process().context("the agent was started")
    }

    /// What follows the fault, up to a running agent, and whether a second fault was met on the way.
    async fn come_back(&mut self) -> Result<bool> {
        if self.cell.way == Way::Pause {
            let stat = format!("/proc/{}/stat", self.process()?.pid());
            wait::until("the agent to stand still", PATIENCE, async || {
                let stat = std::fs::read_to_string(&stat).context("asking for the agent's state")?;
                Ok(stat
                    .rsplit(')')
                    .next()
                    .is_some_and(|rest| rest.trim_start().starts_with('T'))
                    .then_some(()))
            })
            .await?;
            tokio::time::sleep(STILL / 2).await;
            // The world goes on meanwhile.
            self.family.gate().release()?;
            tokio::time::sleep(STILL / 2).await;
            self.process()?.signal(Signal::SIGCONT)?;
            return Ok(false);
        }
        self.daemon.ended(PATIENCE).await?;
        // What was on its way arrives, be there somebody to hear of it or not. A program that the agent ran is dead.
        self.family.gate().release()?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let Some(second) = self.cell.second.and_then(Boundary::point) else {
            self.daemon.launch(None)?;
            return Ok(false);
        };
        self.daemon.launch(Some(second))?;
        // It may not come by there, for example because the plan is stuck.
        let due = wait::until("a second end, or the end of the plan", PATIENCE, async || {
            if self.process()?.has_ended()? {
                return Ok(Some(true));
            }
            Ok(self.daemon.watch("shop").await.is_ok_and(|watch| watch["closed"] == true).then_some(false))
        });
        let met = due.await?;
        if met {
            let log = self.daemon.ended(PATIENCE).await?;
            ensure!(log.contains(&format!("crash point {second} hit")), "it ended by itself: {log}");
            self.daemon.launch(None)?;
        }
        Ok(met)
    }
}

fn config(service: &Victim, steps: &str, guards: &str) -> String {
    // Ten addresses of the same service: ten samples a second instead of one.
    let targets: Vec<String> =
        (0..10).map(|number| format!("\"http://{}/healthz?{number}\"", service.address())).collect();
    let targets = targets.join(", ");
    format!(
        r#"
signals:
  probe:
    health: {{ targets: [{targets}], interval: 1s, timeout: 1s }}
runbooks:
  switch:
    steps:
{steps}
services:
  shop:
    runbook: switch
    autonomy: {{ level: auto }}
    signals:
      availability: {{ source: health, measure: {{ availability: {{ up: probe_success }} }} }}
    watch: {{ look_every: 500ms, watch_for: 1h, verify_for: 30s, verify_soak: 1s, soak: 1s, max_sample_age: 3s, checkpoints: {{}} }}
    guards: {{ known_good_for: 0s, known_good_requests: 0{guards} }}
"#
    )
}

/// `None`: the family cannot have this cell.
pub async fn run<F: Family>(cell: Cell, one_shot: bool) -> Result<Option<Ended>> {
    let undoes = cell.boundary == Boundary::InCompensation;
    if let (true, Rule::NotPossible(_)) = (undoes, F::ROW.undo) {
        return Ok(None);
    }
    let mut case = Case::<F>::new(cell, one_shot, "").await?;
    let (told, struck) = tokio::join!(case.go_bad(), async {
        let struck = case.strike().await;
        // Whoever stands still answers nobody.
        struck.map_err(|error| error.context(case.daemon.log()))
    });
    told?;
    struck?;
    let second = case.come_back().await?;
    case.daemon.ready().await?;
    let closed = case.daemon.until_closed("shop", PATIENCE).await?;
    let story = case.daemon.story("shop").await;
    let ended = Ended {
        seen: case.family.seen().await?,
        phase: closed["phase"].as_str().unwrap_or_default().to_owned(),
    };
    judge(cell, one_shot, second, &ended).with_context(|| format!("{ended:?}\n{story}"))?;
    let pages = case.daemon.log().matches("a person is needed").count();
    ensure!(!ended.phase.starts_with("closed: stuck") || pages >= 1, "nobody was called\n{story}");
    let records = case.daemon.verified_records().await?;
    let intents = records.iter().filter(|record| record.kind == "step_intended").count();
    ensure!(intents >= 1, "an effect without an intent\n{story}");
    Ok(Some(ended))
}

/// What safety demands; `second` says whether the second fault was met.
fn judge(cell: Cell, one_shot: bool, second: bool, ended: &Ended) -> Result<()> {
    let seen = ended.seen;
    let ended_as = |words: &str| ended.phase.starts_with(words);
    if cell.boundary == Boundary::InCompensation {
        ensure!(seen == Seen { applied: 1, undone: 1 }, "the step once and its undo once");
        ensure!(ended_as("closed: rollback failed and undone"), "everything is undone");
        return Ok(());
    }
    ensure!(seen.applied <= 1 && seen.undone == 0, "at most one effect");
    if !one_shot {
        ensure!(seen.applied == 1, "exactly one effect");
        ensure!(ended_as("closed: rolled back, recovered"), "it can always be found out");
        return Ok(());
    }
    // Nobody can look for the effect of a one-shot step.
    let second_doubt = second && cell.second.is_some_and(Boundary::in_doubt);
    let doubt = cell.boundary.in_doubt() || second_doubt;
    let stuck = ended_as("closed: stuck");
    match cell.way {
        Way::Kill | Way::Abort if doubt => ensure!(stuck, "nobody can know, and it does not say so"),
        Way::Kill | Way::Abort => ensure!(!stuck, "it can be known"),
        Way::Pause => {}
    }
    if !stuck {
        ensure!(
            seen.applied == 1 && ended_as("closed: rolled back, recovered"),
            "done, or stuck with a page"
        );
    }
    if cell.second.is_none() && cell.way != Way::Pause && doubt {
        let happened = matches!(cell.boundary, Boundary::BeforeReply | Boundary::BeforeOutcome);
        ensure!(seen.applied == usize::from(happened), "the program dies with the agent, and not before");
    }
    Ok(())
}

/// A step that takes the agent down with each attempt is not tried for ever.
pub async fn three_times(boundary: Boundary) -> Result<()> {
    let cell = Cell { who: Who::Command, boundary, way: Way::Kill, second: None };
    let mut case = Case::<Command>::new(cell, false, "").await?;
    case.go_bad().await?;
    for _ in 0..2 {
        case.daemon.ended(PATIENCE).await?;
        case.daemon.launch(boundary.point())?;
    }
    case.daemon.ended(PATIENCE).await?;
    case.daemon.launch(boundary.point())?;
    case.daemon.ready().await?;
    let closed = case.daemon.until_closed("shop", PATIENCE).await?;
    let phase = closed["phase"].as_str().unwrap_or_default();
    ensure!(phase.starts_with("closed: stuck"), "{phase}");
    ensure!(case.family.seen().await? == Seen { applied: 0, undone: 0 });
    Ok(())
}

/// What was intended before the agent stood still is not done when it wakes after the plan's time.
pub async fn beyond_the_plans_time() -> Result<()> {
    let cell = Cell { who: Who::Command, boundary: Boundary::AfterIntent, way: Way::Pause, second: None };
    let mut case = Case::<Command>::new(cell, false, ", plan_limit: 8s").await?;
    let (told, struck) = tokio::join!(case.go_bad(), case.strike());
    told?;
    struck?;
    case.come_back().await?;
    case.daemon.ready().await?;
    let closed = case.daemon.until_closed("shop", PATIENCE).await?;
    let story = case.daemon.story("shop").await;
    ensure!(
        case.family.seen().await? == Seen { applied: 0, undone: 0 },
        "an effect of a plan whose time is over\n{story}"
    );
    ensure!(story.contains("the plan has taken more than"), "nobody is told why\n{story}");
    let phase = closed["phase"].as_str().unwrap_or_default();
    ensure!(!phase.starts_with("closed: rolled back"), "{phase}\n{story}");
    ensure!(case.daemon.log().contains("a person is needed"), "nobody was called\n{story}");
    Ok(())
}
