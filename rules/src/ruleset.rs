//! The rules that one watch lives by: everything the configuration says about a service, in one value.
//!
//! A watch keeps its own copy from the moment it opens, so that a changed configuration never changes a plan that runs,
//! and the ledger alone is enough to restore it.

use crate::action::Reversibility;
use crate::checkpoint::{self, Checkpoint};
use crate::compare::Compare;
use crate::decision::{Autonomy, AutonomyLevel};
use crate::ids::{EnvironmentName, ServiceName, SignalName, Version};
use crate::matrix::{Matrix, Severity};
use crate::runbook::Runbook;
use crate::signal::Signal;
use crate::units::{Quantity, Span, Unit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that is configured for one service in one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSet {
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// What is measured.
    pub signals: BTreeMap<SignalName, Signal>,
    /// What is bad.
    pub matrix: Matrix,
    /// How it is turned back; without one nothing can be.
    pub runbook: Option<Runbook>,
    /// What may be done alone.
    pub autonomy: Autonomy,
    /// How it is watched.
    pub watch: WatchSettings,
    /// What holds the agent back.
    pub guards: GuardSettings,
    /// How sure one must be.
    pub statistics: Statistics,
    /// Patience for mitigations by name, instead of the matrix's; `0s` leaves one out.
    pub patience: BTreeMap<String, Span>,
    /// How canary and control are told apart, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
    /// Services that this one calls: their deployments may be the cause of what it suffers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<ServiceName>,
    /// Whether a rollback may be practised here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub safe_to_drill: bool,
    /// Whom to call, by role; named in every page.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub contacts: BTreeMap<String, String>,
}

/// How a deployment is watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchSettings {
    /// Time between two looks.
    pub look_every: Span,
    /// How long a deployment is watched.
    pub watch_for: Span,
    /// Nothing is called healthy before.
    pub soak: Span,
    /// Latency of a release this young is not counted: caches are cold.
    pub warm_up: Span,
    /// … and neither is that of its first requests, so many.
    pub warm_up_requests: u32,
    /// The label that tells a service's instances apart, so that one bad instance is not taken for a bad release; `pod`
    /// or `instance` if none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// How far back the baseline reaches.
    pub baseline_span: Span,
    /// How long before the deployment the baseline ends: a rollout takes time, and its news may come at its end.
    pub baseline_gap: Span,
    /// The length of one window of the baseline.
    pub baseline_window: Span,
    /// The same hours of how many earlier days are looked at, so that a busy time of day is not taken for a regression.
    pub seasonal_days: u32,
    /// Without data of a critical signal for this long, the watch is blind and somebody is paged.
    pub blind_after: Span,
    /// A newest sample older than this is stale.
    pub max_sample_age: Span,
    /// How long a rollback has to show that it helped.
    pub verify_for: Span,
    /// A recovery is not believed before.
    pub verify_soak: Span,
    /// How long an approval may be given.
    pub approval_expires: Span,
    /// How often people are told how far a plan is while it is carried out.
    pub progress_every: Span,
    /// When the service is looked at again after a rollback that helped, by name; with none the watch ends when recovery
    /// is shown.
    pub checkpoints: BTreeMap<String, Checkpoint>,
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            look_every: Span::from_seconds(10),
            watch_for: Span::from_minutes(60),
            soak: Span::from_minutes(5),
            warm_up: Span::from_minutes(2),
            warm_up_requests: 200,
            instance: None,
            baseline_span: Span::from_minutes(120),
            baseline_gap: Span::from_minutes(1),
            baseline_window: Span::from_minutes(5),
            seasonal_days: 7,
            blind_after: Span::from_minutes(2),
            // Two scrapes at the usual 15 s.
            max_sample_age: Span::from_seconds(30),
            verify_for: Span::from_minutes(5),
            verify_soak: Span::from_seconds(30),
            approval_expires: Span::from_minutes(15),
            progress_every: Span::from_minutes(15),
            checkpoints: checkpoint::standard(),
        }
    }
}

/// What holds the agent back. The defaults are the safe ones; unset means safe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardSettings {
    /// After this time since the deployment nothing is turned back alone: by then the cause is likely another one.
    pub deploy_window: Span,
    /// Requests that the verdict must rest on.
    pub min_requests: u32,
    /// Windows with fresh data that it must rest on.
    pub min_windows: u32,
    /// How long a release must have run well before it counts as known good.
    pub known_good_for: Span,
    /// Requests it must have served in that time.
    pub known_good_requests: u32,
    /// Time after a rollback in which the same service is not turned back again alone.
    pub cool_down: Span,
    /// Rollbacks of one service in 24 hours that are done alone.
    pub per_service_per_day: u32,
    /// Rollbacks of all services in one hour that are done alone.
    pub per_hour: u32,
    /// Rollbacks of all services in 24 hours that are done alone.
    pub per_day: u32,
    /// Rollbacks of different services at the same time.
    pub at_once: u32,
    /// A plan that is not through by then stops at the next step and pages.
    pub plan_limit: Span,
    /// The share of all services that may be turned back alone within an hour; at least one may.
    pub blast_radius: Quantity,
    /// Releases that must not come back, whoever asks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never_return_to: Vec<Version>,
    /// The oldest release that may come back, by semantic versioning: older ones have known holes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Version>,
    /// Whether the agent itself needs this service in order to act (metrics, brokers, names, identities); told by the
    /// service's name if not given. Such a service is never turned back alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_ground: Option<bool>,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            deploy_window: Span::from_minutes(60),
            min_requests: 100,
            min_windows: 5,
            known_good_for: Span::from_minutes(60),
            known_good_requests: 100,
            cool_down: Span::from_minutes(30),
            per_service_per_day: 2,
            per_hour: 5,
            per_day: 10,
            at_once: 2,
            plan_limit: Span::from_minutes(15),
            blast_radius: Quantity { value: 0.10, unit: Unit::Percent },
            never_return_to: Vec::new(),
            floor: None,
            own_ground: None,
        }
    }
}

/// How sure one must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Statistics {
    /// False rollbacks per healthy release, over all signals and all looks.
    pub alpha: f64,
    /// False "healthy" per bad release.
    pub beta: f64,
    /// How much more than the baseline is tolerated: the margin stands in the null hypothesis.
    pub margin: f64,
    /// Healthy means: shown to be less than this many times the baseline …
    pub tolerated_ratio: f64,
    /// … or shown to be below this share of bad events.
    pub healthy_below: Quantity,
    /// The probability that the next hour of the *old* release exceeds the baseline's upper bound; adds to alpha.
    pub delta: f64,
    /// How many events fail together (retry storms, one client). Estimated from the baseline if not given; 3 if that
    /// cannot be estimated.
    pub dispersion: Option<f64>,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            beta: 0.05,
            margin: 1.25,
            tolerated_ratio: 2.0,
            healthy_below: Quantity { value: 0.01, unit: Unit::Percent },
            delta: 0.01,
            dispersion: None,
        }
    }
}

impl Statistics {
    /// Everything wrong, each with the key at fault.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut check = |key: &str, value: f64, good: bool, expected: &str| {
            if !good {
                found.push((key.to_owned(), format!("is {value}; {expected}")));
            }
        };
        check(
            "alpha",
            self.alpha,
            self.alpha > 0.0 && self.alpha <= 0.2,
            "expected more than 0 and at most 0.2",
        );
        check("beta", self.beta, self.beta > 0.0 && self.beta <= 0.2, "expected more than 0 and at most 0.2");
        check(
            "delta",
            self.delta,
            self.delta > 0.0 && self.delta <= 0.2,
            "expected more than 0 and at most 0.2",
        );
        check("margin", self.margin, (1.0..=10.0).contains(&self.margin), "expected 1 to 10");
        let ratio = self.tolerated_ratio;
        check("tolerated_ratio", ratio, ratio > 1.0 && ratio <= 10.0, "expected more than 1 and at most 10");
        let below = self.healthy_below.value;
        check("healthy_below", below, below > 0.0 && below < 1.0, "expected a share between 0% and 100%");
        let dispersion = self.dispersion.unwrap_or(1.0);
        check("dispersion", dispersion, (1.0..=1000.0).contains(&dispersion), "expected 1 to 1000");
        found
    }
}

impl GuardSettings {
    /// Everything wrong, each with the key at fault.
    pub fn problems(&self) -> Vec<(String, String)> {
        let share = self.blast_radius.value;
        let text = || format!("is {}; expected a share from 0% to 100%, such as 10%", self.blast_radius);
        (!(0.0..=1.0).contains(&share)).then(|| ("blast_radius".to_owned(), text())).into_iter().collect()
    }
}

impl WatchSettings {
    /// Everything wrong, each with the key at fault.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut at_least = |key: &str, value: Span, least: Span| {
            if value < least {
                found.push((key.to_owned(), format!("is {value}; expected at least {least}")));
            }
        };
        let second = Span::from_seconds(1);
        // Looking more often than ten times a second only loads the sources.
        at_least("look_every", self.look_every, Span::from_milliseconds(100));
        at_least("watch_for", self.watch_for, self.look_every);
        at_least("watch_for", self.watch_for, self.soak);
        at_least("baseline_window", self.baseline_window, second);
        at_least("baseline_span", self.baseline_span, self.baseline_window);
        at_least("blind_after", self.blind_after, self.look_every);
        at_least("max_sample_age", self.max_sample_age, Span::from_milliseconds(100));
        at_least("verify_for", self.verify_for, self.verify_soak);
        at_least("approval_expires", self.approval_expires, second);
        at_least("progress_every", self.progress_every, second);
        found.extend(checkpoint::problems(&self.checkpoints).into_iter().map(|(key, text)| {
            let key = if key.is_empty() { "checkpoints".to_owned() } else { format!("checkpoints.{key}") };
            (key, text)
        }));
        if self.seasonal_days > MOST_SEASONAL_DAYS {
            let text = format!("is {}; at most {MOST_SEASONAL_DAYS} days are looked at", self.seasonal_days);
            found.push(("seasonal_days".into(), text));
        }
        if self.baseline_span.milliseconds() / self.baseline_window.milliseconds().max(1)
            > MOST_BASELINE_WINDOWS
        {
            let text =
                format!("baseline_span / baseline_window is more than {MOST_BASELINE_WINDOWS} windows");
            found.push(("baseline_window".into(), text));
        }
        found
    }
}

/// Four weeks: what was before is another season.
const MOST_SEASONAL_DAYS: u32 = 28;
/// A day of five-minute windows: more is not read by anybody and bloats the ledger's record.
const MOST_BASELINE_WINDOWS: u64 = 288;

impl RuleSet {
    /// The rules of a service nobody has configured: it is observed, and nothing can be done.
    pub fn unconfigured(service: ServiceName, environment: EnvironmentName, matrix: Matrix) -> Self {
        Self {
            service,
            environment,
            signals: BTreeMap::new(),
            matrix,
            runbook: None,
            autonomy: Autonomy::default(),
            watch: WatchSettings::default(),
            guards: GuardSettings::default(),
            statistics: Statistics::default(),
            patience: BTreeMap::new(),
            compare: None,
            depends_on: Vec::new(),
            safe_to_drill: false,
            contacts: BTreeMap::new(),
        }
    }

    /// What may be done alone about something this bad with steps this hard to take back: the strictest wins.
    pub fn autonomy_for(&self, severity: Severity, reversibility: Reversibility) -> AutonomyLevel {
        self.autonomy.for_situation(severity, reversibility)
    }
}

/// A matrix that ships.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// Its text, as in `rules/library/matrices/`.
    pub text: &'static str,
}

/// The matrices that ship.
pub const SHIPPED_MATRICES: [Shipped; 3] = [
    Shipped { name: "standard", text: include_str!("../library/matrices/standard.yaml") },
    Shipped { name: "canary", text: include_str!("../library/matrices/canary.yaml") },
    Shipped { name: "cautious", text: include_str!("../library/matrices/cautious.yaml") },
];

/// Reads a matrix that ships. `None` if there is none of this name. Every shipped text is read by a test.
pub fn shipped_matrix(name: &str) -> Option<Matrix> {
    let shipped = SHIPPED_MATRICES.iter().find(|shipped| shipped.name == name)?;
    serde_saphyr::from_str(shipped.text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::RowVerdict;

    #[test]
    fn every_shipped_matrix_is_sound() {
        for shipped in SHIPPED_MATRICES {
            let matrix: Matrix = serde_saphyr::from_str(shipped.text)
                .unwrap_or_else(|error| panic!("{}: {error}", shipped.name));
            assert_eq!(matrix.problems(), Vec::new(), "{}", shipped.name);
            assert!(shipped_matrix(shipped.name).is_some());
        }
    }

    #[test]
    fn the_standard_matrix_has_every_row() {
        let matrix = shipped_matrix("standard").unwrap();
        let rows: Vec<(&str, Severity, RowVerdict, u64)> = matrix
            .rows
            .iter()
            .map(|row| (row.name.as_str(), row.severity, row.verdict, row.act_within.milliseconds() / 60_000))
            .collect();
        use RowVerdict::{Maybe, No, Rollback};
        use Severity::{P0, P1, P2, P3};
        let expected = [
            ("service-down", P0, Rollback, 15),
            ("database-unreachable", P0, Rollback, 15),
            ("data-corruption", P0, Rollback, 15),
            ("security-exposure", P0, Rollback, 10),
            ("error-rate-above-10-percent", P1, Rollback, 30),
            ("authentication-failures", P1, Rollback, 30),
            ("smoke-test-failed", P1, Rollback, 30),
            ("error-rate-above-5-percent", P1, Maybe, 30),
            ("response-time-doubled", P2, Maybe, 60),
            ("performance-degraded", P2, Maybe, 60),
            ("queue-backlog-growing", P2, Maybe, 60),
            ("feature-broken", P2, Maybe, 120),
            ("slight-degradation", P3, No, 240),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn the_cautious_matrix_never_turns_back_at_once() {
        let matrix = shipped_matrix("cautious").unwrap();
        for row in matrix.rows {
            assert!(row.verdict == RowVerdict::No || !row.first.is_empty(), "{}", row.name);
            assert_ne!(row.verdict, RowVerdict::Rollback, "{}", row.name);
        }
    }

    #[test]
    fn defaults_have_no_problems() {
        assert_eq!(WatchSettings::default().problems(), Vec::new());
        assert_eq!(Statistics::default().problems(), Vec::new());
    }
}
