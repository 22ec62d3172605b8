//! The crash matrix: `kill -9` of the agent at every boundary of a step, for a keyed and for a one-shot action. What
//! really happened is read from a journal that the effects write themselves, outside the agent.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tests::daemon::Daemon;
use tests::journal::{self, Effect};
use tests::victim::{Release, Victim};
use tests::{binaries, wait};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long the effect's program stays before and after its effect: the door for a `kill -9` from outside.
const DOOR: Duration = Duration::from_millis(1_500);

/// What may be seen in the journal and as the end of the watch.
struct Expected {
    effects: std::ops::RangeInclusive<usize>,
    stuck: bool,
}

/// Where the agent is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kill {
    /// At a named point inside the agent.
    At(&'static str),
    /// From outside, before the program that it runs has had its effect.
    DuringBeforeEffect,
    /// From outside, after the effect, while the program still runs.
    DuringAfterEffect,
}

const KILLS: [Kill; 9] = [
    Kill::At("before-intent"),
    Kill::At("after-intent"),
    Kill::At("before-effect"),
    Kill::DuringBeforeEffect,
    Kill::DuringAfterEffect,
    Kill::At("after-effect"),
    Kill::At("before-outcome"),
    Kill::At("after-outcome"),
    Kill::At("in-verification"),
];

/// What safety demands. A keyed step is had exactly once in the end: a second run with the same key is recognised by the
/// target. A one-shot step is had at most once, and when nobody can know, the plan is stuck and a person is called.
fn expected(class: &str, kill: Kill) -> Expected {
    let in_doubt = match kill {
        Kill::At("before-intent" | "after-outcome" | "in-verification") => false,
        Kill::At(_) | Kill::DuringBeforeEffect | Kill::DuringAfterEffect => true,
    };
    if class == "keyed" || !in_doubt {
        return Expected { effects: 1..=1, stuck: false };
    }
    let happened = match kill {
        Kill::At("after-effect" | "before-outcome") | Kill::DuringAfterEffect => 1..=1,
        Kill::At(_) | Kill::DuringBeforeEffect => 0..=0,
    };
    Expected { effects: happened, stuck: true }
}

fn config(class: &str, service: SocketAddr, effect: &Path, journal: &Path, slow: Option<&str>) -> String {
    let mut argv = format!("\"{}\", --journal, \"{}\", --name, switch", effect.display(), journal.display());
    argv.push_str(", --plan, \"{{plan}}\", --key, \"{{key}}\"");
    if class == "keyed" {
        argv.push_str(", --once-per-key");
    }
    if let Some(slow) = slow {
        argv.push_str(&format!(", {slow}, \"{}\"", DOOR.as_millis()));
    }
    // Ten addresses of the same service: ten samples a second instead of one.
    let targets: Vec<String> =
        (0..10).map(|number| format!("\"http://{service}/healthz?{number}\"")).collect();
    let targets = targets.join(", ");
    format!(
        r#"
signals:
  probe:
    health: {{ targets: [{targets}], interval: 1s, timeout: 1s }}
runbooks:
  switch:
    steps:
    - {{ name: switch, class: {class}, timeout: 20s, action: {{ command: {{ argv: [{argv}] }} }} }}
services:
  shop:
    runbook: switch
    autonomy: {{ level: auto }}
    signals:
      availability: {{ source: health, measure: {{ availability: {{ up: probe_success }} }} }}
    watch: {{ look_every: 500ms, watch_for: 1h, verify_for: 30s, verify_soak: 1s, soak: 1s, max_sample_age: 3s }}
    guards: {{ known_good_for: 0s, known_good_requests: 0 }}
"#
    )
}

struct Case {
    daemon: Daemon,
    journal: PathBuf,
    _service: Victim,
}

impl Case {
    async fn new(class: &str, kill: Kill) -> Result<Case> {
        let service = Victim::start(&Release::healthy("v2")).await?;
        let mut daemon = Daemon::prepare("")?;
        let journal = daemon.folder().join("effects");
        journal::create(&journal)?;
        let slow = match kill {
            Kill::DuringBeforeEffect => Some("--sleep-before-ms"),
            Kill::DuringAfterEffect => Some("--sleep-after-ms"),
            Kill::At(_) => None,
        };
        daemon.reconfigure(&config(class, service.address(), &binaries::path("effect")?, &journal, slow))?;
        daemon.launch(if let Kill::At(point) = kill { Some(point) } else { None })?;
        Ok(Case { daemon, journal, _service: service })
    }

    fn effects(&self) -> Result<Vec<Effect>> {
        journal::read(&self.journal)
    }

    /// A deployment whose smoke test fails: a P1 row that holds without statistics, so that the step begins at once.
    async fn go_bad(&self) -> Result<()> {
        self.daemon.deployed("shop", "v2", Some("v1")).await?;
        let report = serde_json::json!({ "service": "shop", "report": "smoke_test_failed", "state": "firing", "id": "smoke-1" });
        // The agent may be killed before it answers: whether this is on disk is the agent's own matter, and it must be
        // if it was acknowledged.
        match self.daemon.post("/v1/events", &report).await {
            Ok((status, answer)) => ensure!(status == 202, "{status}: {answer}"),
            Err(_killed) => {}
        }
        Ok(())
    }

    async fn die(&mut self, kill: Kill) -> Result<()> {
        match kill {
            Kill::At(point) => {
                let log = self.daemon.ended(PATIENCE).await?;
                ensure!(log.contains(&format!("crash point {point} hit")), "the point was not hit: {log}");
                Ok(())
            }
            Kill::DuringBeforeEffect => {
                wait::until("the program to run", PATIENCE, async || {
                    Ok(runs("--sleep-before-ms", &self.journal)?.then_some(()))
                })
                .await?;
                self.daemon.kill()
            }
            Kill::DuringAfterEffect => {
                wait::until("the effect", PATIENCE, async || Ok((!self.effects()?.is_empty()).then_some(())))
                    .await?;
                self.daemon.kill()
            }
        }
    }
}

/// Whether a program with this argument and this journal runs.
fn runs(argument: &str, journal: &Path) -> Result<bool> {
    let journal = journal.to_string_lossy();
    for entry in std::fs::read_dir("/proc").context("listing processes")? {
        let Ok(line) = std::fs::read_to_string(entry?.path().join("cmdline")) else { continue };
        if line.contains(argument) && line.contains(journal.as_ref()) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn run(class: &'static str, kill: Kill) -> Result<()> {
    let mut case = Case::new(class, kill).await?;
    case.daemon.ready().await?;
    case.go_bad().await?;
    case.die(kill).await?;
    // The program that the agent ran dies with it; give it the time that would let it have its effect if it did not.
    tokio::time::sleep(Duration::from_millis(300)).await;
    case.daemon.launch(None)?;
    case.daemon.ready().await?;
    let closed = case.daemon.until_closed("shop", PATIENCE).await?;
    let story = case.daemon.story("shop").await;
    let expected = expected(class, kill);
    let effects = case.effects()?;
    ensure!(
        expected.effects.contains(&effects.len()),
        "{class} {kill:?}: {} effects\n{story}",
        effects.len()
    );
    let phase = closed["phase"].as_str().unwrap_or_default();
    let ending = if expected.stuck { "closed: stuck" } else { "closed: rolled back, recovered" };
    ensure!(phase.starts_with(ending), "{class} {kill:?}: {phase}, expected {ending}\n{story}");
    let pages = case.daemon.log().matches("a person is needed").count();
    ensure!(!expected.stuck || pages >= 1, "{class} {kill:?}: nobody was called\n{story}");
    let records = case.daemon.verified_records().await?;
    let intents = records.iter().filter(|record| record.kind == "step_intended").count();
    ensure!(
        intents >= 1 && (class == "keyed" || intents == 1),
        "{class} {kill:?}: {intents} intents\n{story}"
    );
    Ok(())
}

async fn matrix(class: &'static str) -> Result<()> {
    let mut failures = Vec::new();
    for kill in KILLS {
        if let Err(error) = run(class, kill).await {
            failures.push(format!("{class} {kill:?}: {error:#}"));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

#[tokio::test]
async fn a_keyed_step_happens_once_wherever_the_agent_is_killed() -> Result<()> {
    matrix("keyed").await
}

#[tokio::test]
async fn a_one_shot_step_happens_at_most_once_wherever_the_agent_is_killed() -> Result<()> {
    matrix("one_shot").await
}

#[tokio::test]
async fn a_step_that_takes_the_agent_down_three_times_is_stuck() -> Result<()> {
    let mut case = Case::new("keyed", Kill::At("before-effect")).await?;
    case.daemon.ready().await?;
    case.go_bad().await?;
    case.die(Kill::At("before-effect")).await?;
    for _ in 0..2 {
        case.daemon.launch(Some("before-effect"))?;
        case.die(Kill::At("before-effect")).await?;
    }
    case.daemon.launch(Some("before-effect"))?;
    case.daemon.ready().await?;
    let closed = case.daemon.until_closed("shop", PATIENCE).await?;
    let phase: &Value = &closed["phase"];
    ensure!(phase.as_str().is_some_and(|phase| phase.starts_with("closed: stuck")), "{phase}");
    ensure!(case.effects()?.is_empty());
    Ok(())
}
