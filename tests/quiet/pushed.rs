//! Samples that are pushed, by real senders: a Prometheus server by remote write, an OpenTelemetry SDK by OTLP. A bad
//! deployment is decided within a second of the sample that shows it, although the watch would look by itself only every
//! ten seconds; and no sender that hangs, stammers or is somebody else makes anything happen.

mod faults;
mod machine;
mod otel;
mod prometheus;

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use machine::Machine;
use rules::units::Span;
use serde_json::Value;
use tests::daemon::Daemon;

const PATIENCE: Duration = Duration::from_secs(90);
/// What senders show.
const PUSH_TOKEN: &str = "a-token-for-those-who-push";
/// From the time of the sample to the record of what was decided from it, by their own times.
const AT_ONCE: Span = Span::from_seconds(1);
/// The past that the baseline is taken from.
const PAST: Duration = Duration::from_secs(25);

/// A daemon that is pushed to, with one service whose errors are in `series`; not started yet. Rolling back copies
/// nothing anywhere: what is looked at is when it was decided.
fn daemon(series: &str) -> Result<Daemon> {
    let mut daemon = Daemon::prepare("")?;
    daemon.set_environment(&[("PUSH_TOKEN", PUSH_TOKEN.to_owned())]);
    daemon.reconfigure(&format!(
        r#"
signals:
  pushed:
    main: {{ credential: {{ bearer: {{ env: PUSH_TOKEN }} }}, settle: 300ms }}
runbooks:
  switch:
    summary: Point the switch at the release before
    steps:
    - {{ name: switch-back, class: keyed, timeout: 10s, action: {{ command: {{ argv: [/bin/true] }} }} }}
services:
  shop:
    runbook: switch
    autonomy: {{ level: auto }}
    patience: {{ quick-fix: 0s, investigate: 0s }}
    signals:
      errors: {{ source: main, measure: {{ proportion: {{ of: '{series}', bad: {{ code: "5.." }} }} }} }}
    watch:
      {{ look_every: 10s, watch_for: 60s, soak: 10s, baseline_span: 25s, baseline_gap: 1s, baseline_window: 1s,
        seasonal_days: 0, blind_after: 10s, max_sample_age: 3s, verify_for: 10s, verify_soak: 5s, checkpoints: {{}} }}
    guards: {{ known_good_for: 10s, known_good_requests: 100 }}
    statistics: {{ healthy_below: 3%, dispersion: 1 }}
"#
    ))?;
    Ok(daemon)
}

/// What `/readyz` says of the source.
async fn health(daemon: &Daemon) -> Result<Value> {
    let ready = daemon.get("/readyz").await?;
    ready["sources"].get("main").cloned().context("the source is in /readyz")
}

/// Goes of a measurement by the clock: a machine that was busy with something else gets another one, and says so.
const GOES: usize = 5;

/// When what was decided, and from which sample.
struct Moment {
    what: &'static str,
    sample: Timestamp,
    took: Span,
}

/// When the incident was opened and when the rollback was decided, each the first time, and the sample before it.
fn moments(records: &[agent::ledger::Record]) -> Result<Vec<Moment>> {
    let mut newest: Option<Timestamp> = None;
    let mut found: Vec<Moment> = Vec::new();
    for record in records.iter().filter(|record| record.stream.starts_with("watch/")) {
        let measured = record.body.pointer("/measured/measurements/0/observation/seen/newest");
        if let Some(at) = measured.and_then(Value::as_str) {
            newest = Some(at.parse().context("the time of a sample")?);
        }
        let what = match record.kind.as_str() {
            "incident_opened" => "incident opened",
            "decided" if record.body.pointer("/decided/decision") == Some(&"roll_back".into()) => {
                "rollback decided"
            }
            _ => continue,
        };
        if found.iter().all(|moment| moment.what != what) {
            let sample = newest.with_context(|| format!("{what} without a sample"))?;
            found.push(Moment { what, sample, took: Span::between(sample, record.at) });
        }
    }
    Ok(found)
}

/// Says how long after the sample that showed it the decision was made, and whether this was at once.
async fn decided_at_once(daemon: &Daemon, sender: &str, machine: Machine) -> Result<bool> {
    // The service stays as it is, so that the rollback does not help; what is looked at is when it was decided.
    daemon.until_closed("shop", PATIENCE).await?;
    let story = daemon.story("shop").await;
    let records = daemon.verified_records().await?;
    let told = moments(&records).with_context(|| story.clone())?;
    for Moment { what, sample, took } in &told {
        println!("{sender}: {what} {took} after the sample of {sample} that showed it");
    }
    let kinds: Vec<&str> = told.iter().map(|moment| moment.what).collect();
    assert_eq!(kinds, ["incident opened", "rollback decided"], "{story}");
    assert!(records.iter().any(|record| record.kind == "execution_began"), "{story}");
    println!("{sender}: {}", machine.words(told[1].sample)?);
    let pushed = &health(daemon).await?["pushed"];
    assert_eq!(pushed["unreadable"], 0, "{pushed}");
    println!("{sender}: {}", pushed["samples"]);
    // Some come after the look at their moment: their counters say it again with the next sample. Many do only where the
    // sender or the agent were held up.
    let number = |name: &str| pushed["samples"][name].as_u64().unwrap_or_default();
    let in_time = number("late") * 20 < number("kept");
    let at_once = told.iter().all(|moment| moment.took <= AT_ONCE);
    if !(in_time && at_once) {
        println!("{sender}: more than {AT_ONCE} after the sample, or many samples came late\n{story}");
    }
    Ok(in_time && at_once)
}
