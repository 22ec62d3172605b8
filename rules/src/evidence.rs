//! What is known of a deployment's signals, holes included.
//!
//! Every signal carries running tests: one against its own past ("worse than before"), one the other way round
//! ("shown to be no worse"), and one for each bound that a row of the matrix puts on it. All of them start when the watch
//! starts and are looked at whenever there is news; the guarantee holds at every look. A window without usable data
//! changes no test: it is remembered as a hole, and a hole is neither good nor bad.

mod baseline;
mod bound;

pub use baseline::{BaselineState, SignalBaseline};
pub use bound::{BoundTest, Cut};

use crate::ids::SignalName;
use crate::matrix::{Bound, Matrix, Severity, Truth};
use crate::ruleset::{Statistics, WatchSettings};
use crate::signal::{Measure, Measurement, Observation, Reading, Role, Signal};
use crate::stats::{
    Direction, Interval, ProportionParameters, ProportionTest, average, bernoulli_confidence_sequence,
    requests_needed,
};
use crate::units::Span;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of all signals since `since`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// When the observation began.
    pub since: Timestamp,
    /// When the processes that are observed began: they are cold for a while.
    pub started: Timestamp,
    /// By signal.
    pub signals: BTreeMap<SignalName, SignalEvidence>,
}

/// What is known of one signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalEvidence {
    /// The signal.
    pub signal: Signal,
    /// Its past.
    pub baseline: BaselineState,
    /// Its share of the error budget: its tests reject at `alpha * share`.
    pub share: f64,
    /// "Worse than before by more than the margin", once the baseline is known.
    worse: Option<ProportionTest>,
    /// "Shown to be no worse", each against its own null; averaged.
    better: Vec<ProportionTest>,
    /// One test for each bound in the matrix.
    bounds: Vec<BoundTest>,
    /// Bad and all trials at the signal's own cut, since the beginning.
    bad: f64,
    total: f64,
    /// Windows with usable data.
    pub windows: u32,
    /// End of the last window that was used: the next one begins there.
    pub measured_until: Timestamp,
    /// The newest sample seen.
    pub newest: Option<Timestamp>,
    /// Since when, and why, there has been no usable data.
    pub hole: Option<(Timestamp, String)>,
}

/// What one look at one bound of one signal says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The signal.
    pub signal: SignalName,
    /// What it is compared with.
    pub bound: Bound,
    /// Whether that holds.
    pub truth: Truth,
    /// What is compared, in words: "share of bad events", "share of requests slower than 0.5 s".
    pub what: String,
    /// The share now, as counted.
    pub now: Option<f64>,
    /// Its interval, valid at every look.
    pub interval: Option<Interval>,
    /// The share before the deployment.
    pub before: Option<f64>,
    /// The share that must be exceeded.
    pub threshold: Option<f64>,
    /// Trials.
    pub n: f64,
    /// Evidence so far, in natural-log units.
    pub log_e: Option<f64>,
    /// Evidence needed.
    pub log_e_needed: f64,
    /// Since when and why there are no data, or which part is missing; `None` if nothing is.
    pub missing: Option<String>,
}

impl Finding {
    /// What a running test says after `bad` of `total` trials.
    fn read(&mut self, test: &ProportionTest, bad: f64, total: f64, alpha: f64) {
        let ProportionParameters { p0, cluster, .. } = *test.parameters();
        self.threshold = Some(p0);
        self.n = total;
        self.log_e = Some(test.log_e());
        if total > 0.0 {
            self.now = Some(bad / total);
            // Events that fail together are one witness: the interval is as wide as the test is careful.
            self.interval = bernoulli_confidence_sequence(bad / cluster, total / cluster, alpha).ok();
        }
        // The running maximum counts: a bound once shown to be broken stays shown.
        self.truth = match self.interval {
            _ if test.rejects(alpha).unwrap_or(false) => Truth::Holds,
            Some(interval) if interval.upper < p0 => Truth::Fails,
            _ => Truth::Unknown,
        };
    }
}

impl Evidence {
    /// No evidence yet: the tests for `signals` against the bounds of `matrix`, from `since` on.
    pub fn new(signals: &BTreeMap<SignalName, Signal>, matrix: &Matrix, since: Timestamp) -> Self {
        let sum: f64 = signals.values().map(|signal| signal.measure.budget_weight()).sum();
        let evidence = |(name, signal): (&SignalName, &Signal)| {
            let mut bounds: Vec<Bound> = Vec::new();
            for condition in matrix.rows.iter().flat_map(|row| row.when.signal_conditions()) {
                if condition.name == *name && !bounds.contains(&condition.is) {
                    bounds.push(condition.is);
                }
            }
            let evidence = SignalEvidence {
                signal: signal.clone(),
                baseline: BaselineState::Waiting,
                share: signal.measure.budget_weight() / sum,
                worse: None,
                better: Vec::new(),
                bounds: bounds.into_iter().map(BoundTest::new).collect(),
                bad: 0.0,
                total: 0.0,
                windows: 0,
                measured_until: since,
                newest: None,
                hole: Some((since, "nothing was measured yet".to_owned())),
            };
            (name.clone(), evidence)
        };
        Self { since, started: since, signals: signals.iter().map(evidence).collect() }
    }

    /// The same signals and baselines, nothing seen since `since`, of the same processes: how it is tried whether a
    /// mitigation helps. Verification sets `started` too, since a rollback starts processes anew.
    pub fn restarted(&self, settings: &WatchSettings, statistics: &Statistics, since: Timestamp) -> Self {
        let mut fresh = self.clone();
        fresh.since = since;
        for evidence in fresh.signals.values_mut() {
            let bounds = evidence.bounds.iter().map(|test| BoundTest::new(test.bound)).collect();
            *evidence = SignalEvidence {
                worse: None,
                better: Vec::new(),
                bounds,
                bad: 0.0,
                total: 0.0,
                windows: 0,
                measured_until: since,
                newest: None,
                hole: Some((since, "nothing was measured yet".to_owned())),
                ..evidence.clone()
            };
            evidence.arm(settings, statistics);
        }
        fresh
    }

    /// Takes the past of the signals in: `windows` of the time before the deployment, oldest first.
    pub fn take_baseline(
        &mut self,
        windows: &BTreeMap<SignalName, Vec<Measurement>>,
        settings: &WatchSettings,
        statistics: &Statistics,
    ) {
        for (name, evidence) in &mut self.signals {
            // A past that changes while it is compared with would be a threshold chosen after looking: the first stands.
            if evidence.baseline != BaselineState::Waiting {
                continue;
            }
            let windows = windows.get(name).map_or(&[][..], Vec::as_slice);
            evidence.baseline = baseline::learn(&evidence.signal, windows, statistics);
            evidence.arm(settings, statistics);
            // A bound that was looked at before its baseline had come gets another chance.
            evidence.bounds.iter_mut().for_each(BoundTest::retry);
        }
    }

    /// Whether the past of some signal has been asked for and has not come yet.
    pub fn awaits_baseline(&self) -> bool {
        self.signals.values().any(|evidence| evidence.baseline == BaselineState::Waiting)
    }

    /// Whether all of these signals have data again.
    pub fn sees(&self, names: &BTreeSet<SignalName>) -> bool {
        names.iter().all(|name| self.signals.get(name).is_none_or(|evidence| evidence.hole.is_none()))
    }

    /// Counts the silence of signals that have never reported from `since` on: what happened before somebody began to
    /// look is no hole.
    pub(crate) fn silent_since(&mut self, since: Timestamp) {
        for evidence in self.signals.values_mut().filter(|evidence| evidence.newest.is_none()) {
            if let Some((began, _)) = &mut evidence.hole {
                *began = since.max(*began);
            }
        }
    }

    /// Takes one measurement in. A hole changes no test, and neither does a window that was counted before.
    pub fn take(&mut self, measurement: &Measurement, settings: &WatchSettings, statistics: &Statistics) {
        let began = self.started;
        if let Some(evidence) = self.signals.get_mut(&measurement.signal) {
            evidence.take(measurement, began, settings, statistics);
        }
    }

    /// Critical signals without usable data for longer than `patience`, with the reason.
    pub fn blind(&self, patience: Span, now: Timestamp) -> Vec<(SignalName, String)> {
        let critical = self.signals.values().filter(|evidence| evidence.signal.role == Role::Critical);
        critical
            .filter_map(|evidence| {
                let (since, reason) = evidence.hole.as_ref()?;
                (Span::between(*since, now) >= patience)
                    .then(|| (evidence.signal.name.clone(), reason.clone()))
            })
            .collect()
    }

    /// Is every critical signal shown to be no worse, and no signal suspicious?
    pub fn shown_healthy(&self, statistics: &Statistics) -> bool {
        let needed = -statistics.beta.ln();
        self.passes(|evidence| {
            evidence.hole.is_none()
                && evidence.pass(statistics.beta).is_some_and(|(log_e, _)| log_e >= needed)
        })
    }

    /// The same, and each of `hurt` is shown to be well too: what was found in the latency is not over because there
    /// are no errors.
    pub fn shown_cured(&self, hurt: &BTreeSet<SignalName>, statistics: &Statistics) -> bool {
        let cured = |name: &SignalName| {
            let Some(evidence) = self.signals.get(name).filter(|evidence| evidence.hole.is_none()) else {
                return false;
            };
            match evidence.pass(statistics.beta) {
                Some((log_e, needed)) => log_e >= needed,
                // A gauge has no test of its own for "well": then it must be shown to be within every bound.
                None => evidence
                    .bounds
                    .iter()
                    .all(|test| evidence.finding(test.bound, statistics).truth == Truth::Fails),
            }
        };
        self.shown_healthy(statistics) && hurt.iter().all(cured)
    }

    /// Does any signal look bad, though perhaps not enough to accuse it?
    pub fn is_suspicious(&self) -> bool {
        self.signals.values().any(|evidence| {
            let tests = evidence.worse.iter().map(ProportionTest::log_e);
            tests.chain(evidence.bounds.iter().filter_map(BoundTest::log_e)).any(|log_e| log_e > suspicion())
        })
    }

    /// Does what was shown still stand? A short hole or a few bad requests do not take a pass back at once, or it would
    /// come and go at every look; suspicion, or half of the evidence lost, does.
    pub fn stays_healthy(&self, statistics: &Statistics) -> bool {
        let needed = -statistics.beta.ln() / 2.0;
        self.passes(|evidence| evidence.pass(statistics.beta).is_some_and(|(log_e, _)| log_e >= needed))
    }

    fn passes(&self, passed: impl Fn(&SignalEvidence) -> bool) -> bool {
        let suspicious = |evidence: &SignalEvidence| {
            evidence.worse.as_ref().is_some_and(|test| test.log_e() > suspicion())
        };
        let required = |evidence: &&SignalEvidence| evidence.signal.role == Role::Critical;
        self.signals.values().any(|evidence| required(&evidence))
            && !self.signals.values().any(suspicious)
            && self.signals.values().filter(required).all(passed)
    }

    /// Trials of the critical proportion signals: the requests that the verdict rests on.
    pub fn requests(&self) -> f64 {
        let counted =
            self.signals.values().filter(|e| matches!(e.signal.measure, Measure::Proportion { .. }));
        counted.map(|evidence| evidence.total).fold(0.0, f64::max)
    }

    /// What is known about `bound` on `name`.
    pub fn finding(&self, name: &SignalName, bound: Bound, statistics: &Statistics) -> Finding {
        match self.signals.get(name) {
            Some(evidence) => evidence.finding(bound, statistics),
            None => Finding {
                signal: name.clone(),
                bound,
                truth: Truth::Unknown,
                what: "this signal".into(),
                now: None,
                interval: None,
                before: None,
                threshold: None,
                n: 0.0,
                log_e: None,
                log_e_needed: 0.0,
                missing: Some("this signal is not configured for the service".into()),
            },
        }
    }
}

impl SignalEvidence {
    /// Builds the tests that need the baseline.
    fn arm(&mut self, settings: &WatchSettings, statistics: &Statistics) {
        let horizon = settings.watch_for.seconds();
        self.worse = None;
        self.better.clear();
        let known = self.baseline.known();
        let cluster = self.cluster(statistics);
        if let Some(before) = known {
            let p0 = (statistics.margin * before.share.upper).clamp(1e-9, 0.999);
            self.worse = test(p0, horizon, Direction::Worse, cluster);
        }
        let mut passes = Vec::new();
        match self.signal.measure {
            Measure::Proportion { .. } => {
                passes.push(statistics.healthy_below.value);
                passes.extend(known.map(|before| statistics.tolerated_ratio * before.share.lower));
            }
            // No more than twice the expected share of requests beyond the old quantile.
            Measure::Latency { quantile, .. } => {
                passes.extend(known.map(|_| statistics.tolerated_ratio * (1.0 - quantile)));
            }
            Measure::Availability { .. } => passes.push(MOST_DOWN_WHEN_HEALTHY),
            Measure::Gauge { .. } => {}
        }
        let usable = passes.into_iter().filter(|p0| *p0 > SMALLEST_PASS && *p0 < 1.0);
        self.better = usable.filter_map(|p0| test(p0, horizon, Direction::Better, cluster)).collect();
    }

    /// How many events fail together: what the counts are divided by (tempering). Availability samples and gauge
    /// windows are few and counted once each.
    pub fn cluster(&self, statistics: &Statistics) -> f64 {
        match self.signal.measure {
            Measure::Proportion { .. } | Measure::Latency { .. } => statistics
                .dispersion
                .or(self.baseline.known().and_then(|before| before.dispersion))
                .unwrap_or(crate::stats::DEFAULT_DISPERSION),
            Measure::Availability { .. } | Measure::Gauge { .. } => 1.0,
        }
    }

    fn take(
        &mut self,
        measurement: &Measurement,
        began: Timestamp,
        settings: &WatchSettings,
        statistics: &Statistics,
    ) {
        // The answer to a look that was overtaken: a part of it was counted before, or belongs to the time before this
        // evidence began (the last errors of a release that has just been turned back).
        if measurement.from < self.measured_until || measurement.to <= measurement.from {
            return;
        }
        let unusable = measurement.observation.reading().and_then(Reading::problem);
        let (reading, newest) = match (&measurement.observation, unusable) {
            (Observation::Seen { reading, newest }, None) => (reading, *newest),
            (observation, unusable) => {
                let since = self.hole.as_ref().map_or(measurement.from, |(since, _)| *since);
                self.hole = Some((since, unusable.or(observation.hole()).unwrap_or_default()));
                return;
            }
        };
        let seconds = Span::between(self.measured_until, measurement.to).seconds();
        self.measured_until = measurement.to;
        self.newest = Some(newest);
        self.hole = None;
        // Caches are cold and code is not compiled yet: a young process is slow, and that is not the release's fault.
        let warming = matches!(self.signal.measure, Measure::Latency { .. })
            && measurement.from < settings.warm_up.after(began);
        if warming {
            return;
        }
        self.windows += u32::from(!reading.is_empty());
        if let Some((bad, total)) = self.own_cut().and_then(|cut| cut.trial(reading)) {
            self.bad += bad;
            self.total += total;
            // An error here means numbers that the door has already refused; the test keeps its state either way.
            for test in self.worse.iter_mut().chain(&mut self.better) {
                let _unchanged_on_error = test.update(bad, total, seconds);
            }
        }
        let cluster = self.cluster(statistics);
        for bound in &mut self.bounds {
            bound.take(&self.signal, self.baseline.known(), reading, seconds, settings, cluster);
        }
    }

    fn own_cut(&self) -> Option<Cut> {
        match (&self.signal.measure, self.baseline.known()) {
            (Measure::Proportion { .. } | Measure::Availability { .. }, _) => Some(Cut::Direct),
            (Measure::Latency { .. } | Measure::Gauge { .. }, Some(before)) => Some(before.cut),
            (Measure::Latency { .. } | Measure::Gauge { .. }, None) => None,
        }
    }

    /// Evidence for "no worse", in natural-log units, and how much is needed; for people.
    pub fn pass(&self, beta: f64) -> Option<(f64, f64)> {
        let evidence: Vec<f64> = self.better.iter().map(ProportionTest::log_e).collect();
        let weights = vec![1.0; evidence.len()];
        average(&evidence, &weights).ok().map(|log_e| (log_e, -beta.ln()))
    }

    /// Whether the past was itself beyond a fixed bound of the matrix: what ran then is no proof of anything.
    pub fn was_beyond_a_bound(&self) -> bool {
        let Some(before) = self.baseline.known().filter(|before| before.cut == Cut::Direct) else {
            return false;
        };
        self.bounds.iter().any(|test| match (&self.signal.measure, test.bound) {
            (Measure::Proportion { .. }, Bound::Above(share)) => before.share.mean > share.value,
            (Measure::Availability { .. }, Bound::Below(share)) => before.share.mean > 1.0 - share.value,
            _ => false,
        })
    }

    /// Evidence for "worse than before", in natural-log units.
    pub fn worse_log_e(&self) -> Option<f64> {
        self.worse.as_ref().map(ProportionTest::log_e)
    }

    /// Bad and all trials so far at the signal's own cut.
    pub fn counts(&self) -> (f64, f64) {
        (self.bad, self.total)
    }

    /// About how many further requests a pass needs, at the rate seen now.
    pub fn requests_to_pass(&self, beta: f64) -> Option<u64> {
        let (log_e, needed) = self.pass(beta)?;
        let truth = if self.total > 0.0 { self.bad / self.total } else { 0.0 };
        let easiest = self.better.iter().map(|test| test.parameters().p0).fold(0.0, f64::max);
        if log_e >= needed || truth >= easiest {
            return None;
        }
        let all = requests_needed(truth, easiest, beta).ok()?;
        Some(((all as f64) * (1.0 - (log_e / needed).clamp(0.0, 0.9))).ceil() as u64)
    }

    fn worse_than_before(&self, alpha: f64) -> Option<bool> {
        self.worse.as_ref().map(|test| test.rejects(alpha).unwrap_or(false))
    }

    fn finding(&self, bound: Bound, statistics: &Statistics) -> Finding {
        let alpha = statistics.alpha * self.share;
        let needed = -alpha.ln();
        let hole = self.hole.as_ref().map(|(since, reason)| format!("{reason} (since {since:.0})"));
        let mut finding = Finding {
            signal: self.signal.name.clone(),
            bound,
            truth: Truth::Unknown,
            what: String::new(),
            now: None,
            interval: None,
            before: None,
            threshold: None,
            n: 0.0,
            log_e: None,
            log_e_needed: needed,
            missing: hole,
        };
        if bound == Bound::WorseThanBefore {
            self.fill_worse(&mut finding, alpha);
        } else if let Some(test) = self.bounds.iter().find(|test| test.bound == bound) {
            test.fill(&mut finding, &self.signal, self.baseline.known(), alpha);
            // Beyond the bound *and* worse than before: a service that always fails this much is not the release's
            // fault. Without a baseline the bound stands alone, and a guard keeps the agent from acting alone.
            if finding.truth == Truth::Holds && self.worse_than_before(alpha) == Some(false) {
                finding.truth = Truth::Unknown;
                finding.missing = Some("it is not shown to be worse than before the deployment".into());
            }
        }
        finding
    }

    fn fill_worse(&self, finding: &mut Finding, alpha: f64) {
        let Some(test) = &self.worse else {
            finding.missing = finding.missing.take().or(Some("there is no baseline to compare with".into()));
            return;
        };
        finding.what = self.own_cut().map_or_else(String::new, |cut| cut.words(&self.signal.measure));
        finding.before = self.baseline.known().map(|before| before.share.mean);
        finding.read(test, self.bad, self.total, alpha);
    }
}

/// Suspicion: five to one in favour of "worse" is enough to hold a pass back, though not to accuse.
fn suspicion() -> f64 {
    5.0_f64.ln()
}

/// At most this share of samples may be "down" in a healthy service: one failed probe of five is noise or a restart.
const MOST_DOWN_WHEN_HEALTHY: f64 = 0.2;
/// A pass against a smaller share would take more requests than a watch ever sees.
const SMALLEST_PASS: f64 = 1e-5;

fn test(p0: f64, horizon_seconds: f64, direction: Direction, cluster: f64) -> Option<ProportionTest> {
    let parameters =
        ProportionParameters { cluster, ..ProportionParameters::standard(p0, horizon_seconds, direction) };
    ProportionTest::with_parameters(parameters).ok()
}

/// One row of the matrix, looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowFinding {
    /// The row.
    pub row: String,
    /// Its severity.
    pub severity: Severity,
    /// Whether it holds.
    pub truth: Truth,
    /// What its conditions rest on.
    pub findings: Vec<Finding>,
    /// The reports it rests on: name, and whether somebody reports it.
    pub reports: Vec<(String, Truth)>,
}

/// How a reading becomes trials; re-exported for the collector's tests.
pub fn trial(cut: Cut, reading: &Reading) -> Option<(f64, f64)> {
    cut.trial(reading)
}
