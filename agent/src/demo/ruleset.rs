//! What the demo's agent lives by: the shipped matrix and safe defaults, with the times shortened so that a demo is not
//! an hour long. What is shortened is said on the screen ([`SHORTENED`]).

use super::Scenario;
use anyhow::Context as _;
use rules::action::{
    ActionSpec, CommandSpec, EffectClass, HttpSpec, HttpSuccess, InspectSpec, Reversibility, Undo,
};
use rules::decision::{Autonomy, AutonomyLevel};
use rules::ids::{EnvironmentName, ServiceName, SignalName, StepName};
use rules::ruleset::{GuardSettings, RuleSet, Statistics, WatchSettings, shipped_matrix};
use rules::runbook::{Runbook, RunbookStep};
use rules::signal::{Measure, Role, Signal};
use rules::units::{Quantity, Span, Unit};
use std::collections::BTreeMap;
use std::path::Path;

/// The service.
pub const SERVICE: &str = "checkout";
/// Where it runs.
pub const ENVIRONMENT: &str = "demo";
/// The source that reads the service's own metrics.
pub const SCRAPE: &str = "scrape";
/// The source that asks whether it answers.
pub const PROBE: &str = "probe";

/// How much of the past is collected before the deployment.
pub const BASELINE: Span = Span::from_seconds(12);
/// Between the end of that past and the deployment's news: the time that replacing the process takes, and more.
pub const GAP: Span = Span::from_seconds(1);
/// How long the demo's approval may be given.
pub const APPROVAL: Span = Span::from_seconds(50);
/// How long people may try to scale before a slow release is turned back.
const TRY_SCALING: Span = Span::from_seconds(3);

/// What differs from the defaults, in honest words.
pub const SHORTENED: &str = "Shortened for the demo (usual value): a look every 1 s (10 s), 12 s of past (2 h), watched for 20 s (1 h),
healthy after 8 s (5 min), blind after 6 s (2 min), latency counts after 2 s (2 min), verified for 4 s (30 s),
known good after 5 s (1 h), 3 windows are enough (5), no patience for quick fixes (5 min), an approval expires in 50 s (15 min).
The requests are independent by construction, so each counts fully. All else is as it ships.";

/// Addresses and names that the rules need.
pub struct Place<'a> {
    /// This program: it runs the steps' commands.
    pub program: &'a Path,
    /// The deployment system's directory.
    pub dir: &'a Path,
    /// `host:port` of the service.
    pub address: &'a str,
}

/// The rules of the demo's service.
pub fn rule_set(scenario: Scenario, autonomy: AutonomyLevel, place: &Place<'_>) -> anyhow::Result<RuleSet> {
    Ok(RuleSet {
        service: ServiceName::new(SERVICE)?,
        environment: EnvironmentName::new(ENVIRONMENT)?,
        signals: signals()?,
        matrix: shipped_matrix("standard").context("the standard matrix does not ship")?,
        runbook: Some(runbook(place)?),
        autonomy: Autonomy { level: autonomy, ..Autonomy::default() },
        watch: watch_settings(),
        guards: GuardSettings {
            known_good_for: Span::from_seconds(5),
            min_windows: 3,
            ..GuardSettings::default()
        },
        statistics: Statistics {
            healthy_below: Quantity { value: 0.02, unit: Unit::Percent },
            dispersion: Some(1.0),
            ..Statistics::default()
        },
        patience: patience(scenario),
        compare: None,
        depends_on: Vec::new(),
        safe_to_drill: false,
        contacts: BTreeMap::new(),
    })
}

fn watch_settings() -> WatchSettings {
    WatchSettings {
        look_every: Span::from_seconds(1),
        watch_for: Span::from_seconds(20),
        soak: Span::from_seconds(8),
        warm_up: Span::from_seconds(2),
        warm_up_requests: 100,
        instance: None,
        baseline_span: BASELINE,
        baseline_gap: GAP,
        baseline_window: Span::from_seconds(1),
        seasonal_days: 0,
        blind_after: Span::from_seconds(6),
        max_sample_age: Span::from_seconds(3),
        verify_for: Span::from_seconds(30),
        verify_soak: Span::from_seconds(4),
        approval_expires: APPROVAL,
        progress_every: Span::from_seconds(15),
        // The demo ends when recovery is shown.
        checkpoints: BTreeMap::new(),
    }
}

/// Nobody is there to try anything; only scaling is shown, where the service is slow.
fn patience(scenario: Scenario) -> BTreeMap<String, Span> {
    let names = ["quick-fix", "investigate", "scale", "check-cache", "check-queue"];
    let mut patience: BTreeMap<String, Span> =
        names.into_iter().map(|name| (name.to_owned(), Span::default())).collect();
    if scenario == Scenario::Slow {
        patience.insert("scale".into(), TRY_SCALING);
    }
    patience
}

fn signals() -> anyhow::Result<BTreeMap<SignalName, Signal>> {
    let errors = Measure::Proportion {
        of: format!("http_requests_total{{job=\"{SCRAPE}\"}}"),
        bad: BTreeMap::from([("code".to_owned(), "5..".to_owned())]),
    };
    let latency = Measure::Latency {
        buckets: format!("http_request_duration_seconds_bucket{{job=\"{SCRAPE}\"}}"),
        quantile: 0.95,
    };
    let availability = Measure::Availability { up: format!("probe_success{{job=\"{PROBE}\"}}") };
    let up = format!("up{{job=\"{SCRAPE}\"}}");
    let all = [
        ("errors", Role::Critical, SCRAPE, errors, Some(up.clone())),
        ("latency", Role::Supporting, SCRAPE, latency, Some(up)),
        ("availability", Role::Critical, PROBE, availability, None),
    ];
    let signal = |(name, role, source, measure, targets): (&str, Role, &str, Measure, Option<String>)| {
        let name = SignalName::new(name)?;
        Ok((name.clone(), Signal { role, targets, ..Signal::new(name, source, measure) }))
    };
    all.into_iter().map(signal).collect()
}

/// Announce, restart the good version, look whether it answers.
fn runbook(place: &Place<'_>) -> anyhow::Result<Runbook> {
    let timeout = Span::from_seconds(30);
    let step = |name: &str, action, class, inspect: Option<ActionSpec>, undo| {
        let inspect = inspect.map(|action| InspectSpec { action });
        let reversibility = Reversibility::Reversible;
        anyhow::Ok(RunbookStep {
            name: StepName::new(name)?,
            from: None,
            undoes: Default::default(),
            asks: false,
            action,
            class,
            inspect,
            verify: None,
            undo,
            timeout,
            reversibility,
        })
    };
    let announce = ["--announce", "{{plan}}"];
    let announced = ["--announce", "{{plan}}", "--check"];
    let steps = vec![
        step(
            "announce",
            place.deploy("{{to.version}}", &announce),
            EffectClass::Lookup,
            Some(place.deploy("{{to.version}}", &announced)),
            Undo::NotNeeded,
        )?,
        step(
            "restart-good-version",
            place.deploy("{{to.version}}", &[]),
            EffectClass::Lookup,
            Some(place.deploy("{{to.version}}", &["--check"])),
            Undo::Action(place.deploy("{{from.version}}", &[])),
        )?,
        step("smoke-test", place.healthz(), EffectClass::Keyed, None, Undo::NotNeeded)?,
    ];
    Ok(Runbook { summary: Some("restart the version that was good".into()), steps })
}

impl Place<'_> {
    fn deploy(&self, version: &str, more: &[&str]) -> ActionSpec {
        let program = self.program.display().to_string();
        let dir = self.dir.display().to_string();
        let mut argv = vec![program, "demo-deploy".into(), "--dir".into(), dir];
        argv.extend(["--version".to_owned(), version.to_owned()]);
        argv.extend(more.iter().map(|argument| (*argument).to_owned()));
        ActionSpec::Command(CommandSpec {
            argv,
            env: BTreeMap::new(),
            secret_env: BTreeMap::new(),
            directory: None,
            success: vec![0],
            retryable: Vec::new(),
        })
    }

    fn healthz(&self) -> ActionSpec {
        ActionSpec::Http(HttpSpec {
            method: "GET".into(),
            url: format!("http://{}/healthz", self.address),
            headers: BTreeMap::new(),
            secret_headers: BTreeMap::new(),
            secret_prefixes: BTreeMap::new(),
            body: None,
            success: HttpSuccess { status: vec![200], json: BTreeMap::new() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_have_no_problems() {
        let place = Place { program: Path::new("/bin/x"), dir: Path::new("/tmp/d"), address: "127.0.0.1:80" };
        for scenario in [Scenario::BadErrors, Scenario::Slow] {
            let rules = rule_set(scenario, AutonomyLevel::Auto, &place).unwrap();
            assert_eq!(rules.watch.problems(), Vec::new());
            assert_eq!(rules.statistics.problems(), Vec::new());
            assert_eq!(rules::runbook::problems(&rules.runbook.unwrap()), Vec::new());
            assert_eq!(rules.patience["scale"] == TRY_SCALING, scenario == Scenario::Slow);
        }
    }
}
