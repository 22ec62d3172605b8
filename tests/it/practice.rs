//! What is done before it counts: the dry run of a plan, a drill on a target declared safe, and the sign of life.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use tests::daemon::{Daemon, TOKEN};
use tests::journal::{self, Effect};
use tests::vendors::{Answer, Vendors};
use tests::victim::{Release, Victim};
use tests::{binaries, wait};

const PATIENCE: Duration = Duration::from_secs(60);

struct Shop {
    daemon: Daemon,
    journal: PathBuf,
    _service: Victim,
}

impl Shop {
    async fn open() -> Result<Shop> {
        let service = Victim::start(&Release::healthy("v2")).await?;
        let mut daemon = Daemon::prepare("")?;
        let journal = daemon.folder().join("effects");
        journal::create(&journal)?;
        let (effect, effects) = (binaries::path("effect")?, journal.display());
        // Ten addresses of the same service: ten samples a second instead of one.
        let targets: Vec<String> =
            (0..10).map(|number| format!("\"http://{}/healthz?{number}\"", service.address())).collect();
        let (targets, effect) = (targets.join(", "), effect.display());
        daemon.reconfigure(&format!(
            r#"
signals:
  probe:
    health: {{ targets: [{targets}], interval: 1s, timeout: 1s }}
runbooks:
  switch:
    steps:
    - name: switch
      undoes: [code]
      class: keyed
      action: {{ command: {{ argv: ["{effect}", --journal, "{effects}", --name, "{{{{to.version}}}}", --plan, "{{{{plan}}}}",
        --key, "{{{{key}}}}", --once-per-key] }} }}
    - name: gone
      undoes: [flags]
      class: keyed
      action: {{ command: {{ argv: [/nowhere/flag-off] }} }}
services:
  shop:
    environments: [production, staging]
    safe_to_drill: [staging]
    runbook: switch
    signals:
      availability: {{ source: health, measure: {{ availability: {{ up: probe_success }} }} }}
    watch: {{ look_every: 500ms, watch_for: 1h, verify_for: 30s, verify_soak: 1s, soak: 1s, max_sample_age: 3s }}
"#
        ))?;
        daemon.launch(None)?;
        daemon.ready().await?;
        let shop = Shop { daemon, journal, _service: service };
        for environment in ["production", "staging"] {
            let news = json!({ "service": "shop", "environment": environment, "version": "v2", "previous": "v1",
                "changes": ["code"], "id": environment });
            let (status, answer) = shop.daemon.post("/v1/events", &news).await?;
            ensure!(status == 202, "{status}: {answer}");
        }
        Ok(shop)
    }

    async fn turnback(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binaries::path("turnback-under-test")?);
        command.args(arguments).env("TURNBACK_URL", self.daemon.url("")).env("TURNBACK_TOKEN", TOKEN);
        let output = tokio::task::spawn_blocking(move || command.output()).await?;
        output.context("starting turnback")
    }

    fn effects(&self) -> Result<Vec<Effect>> {
        journal::read(&self.journal)
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn a_plan_is_shown_and_tried_before_anybody_decided_it() -> Result<()> {
    let shop = Shop::open().await?;
    let output = shop.turnback(&["plan", "shop"]).await?;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in
        ["v2 back to v1", "this is the plan that would be drawn up now", "all 1 steps would go through"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("/nowhere/flag-off"), "the deployment brought no flag: {text}");
    assert_eq!(shop.effects()?, [], "a dry run does nothing");
    // The same for a deployment that does not say what it brought: the whole runbook, whose second program is missing.
    let news = json!({ "service": "shop", "version": "v3", "previous": "v2", "id": "v3" });
    ensure!(shop.daemon.post("/v1/events", &news).await?.0 == 202);
    let text = said(&shop.turnback(&["plan", "shop", "--dry-run", "--to", "v1"]).await?);
    assert!(
        text.contains("1 of 2 steps would fail: gone: the program /nowhere/flag-off cannot be run"),
        "{text}"
    );
    assert_eq!(shop.effects()?, []);
    let records = shop.daemon.verified_records().await?;
    assert!(records.iter().all(|record| record.kind != "plan_drawn"), "showing writes nothing down");
    Ok(())
}

#[tokio::test]
async fn a_drill_runs_where_that_is_safe_and_files_a_report() -> Result<()> {
    let shop = Shop::open().await?;
    let output = shop.turnback(&["drill", "shop", "--environment", "production"]).await?;
    assert_eq!(output.status.code(), Some(6), "{}", said(&output));
    assert!(said(&output).contains("not declared safe to practise on"), "{}", said(&output));
    assert_eq!(shop.effects()?, []);

    let file = shop.daemon.folder().join("drill.md");
    let report = file.to_str().context("a path")?;
    let output = shop.turnback(&["drill", "shop", "--report", report]).await?;
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("rolled back, recovered"), "{text}");
    let effects = shop.effects()?;
    assert_eq!((effects.len(), effects[0].name.as_str()), (1, "v1"));
    let filed = std::fs::read_to_string(&file)?;
    assert!(filed.contains("a drill") && filed.contains("switch"), "{filed}");

    let listed = said(&shop.turnback(&["drill"]).await?);
    for part in ["shop@staging", "rolled back, recovered", "shop@production", "never"] {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    // It says nothing about the release: nobody holds it against v2 when it comes again.
    let records = shop.daemon.verified_records().await?;
    let began = records.iter().find(|record| record.kind == "rollback_began").context("it began")?;
    assert_eq!(began.body["rollback_began"]["drill"], true);
    assert_eq!(records.iter().filter(|record| record.kind == "drilled").count(), 1);
    Ok(())
}

#[tokio::test]
async fn the_sign_of_life_stops_with_the_agent() -> Result<()> {
    let vendors = Vendors::start().await?;
    vendors.answers("watchdog", "POST", "/*", Answer::empty(200));
    let url = vendors.url("watchdog");
    let daemon =
        Daemon::start(&format!("heartbeat: {{ every: 1s, webhook: {{ url: \"{url}/beat\" }} }}\n")).await?;
    let beats = || vendors.lines("watchdog").len();
    let until = async |more: usize| {
        wait::until("signs of life", PATIENCE, async || Ok((beats() >= more).then_some(()))).await
    };
    until(3).await?;
    let process = daemon.process().context("it runs")?;
    process.signal(Signal::SIGSTOP)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let still = beats();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(beats(), still, "it stands still, and says that it is alive");
    process.signal(Signal::SIGCONT)?;
    until(still + 2).await?;
    // Each beat went through the ledger.
    let records = daemon.verified_records().await?;
    let written = records.iter().filter(|record| record.kind == "beat").count();
    assert!(written + 1 >= beats() && written >= 5, "{written} of {}", beats());
    Ok(())
}
