//! One bound on one signal as a running test: the reading is cut into trials, and the share of bad trials is compared
//! with the share that the bound allows.

use super::{Finding, SignalBaseline, test};
use crate::matrix::{Bound, Truth};
use crate::ruleset::WatchSettings;
use crate::signal::{Measure, Reading, Signal};
use crate::stats::{Direction, ProportionTest, requests_needed};
use serde::{Deserialize, Serialize};

/// How a reading becomes trials, each good or bad. Fixed before the watch sees data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// The counts as they are.
    Direct,
    /// Bad is slower than this bucket edge, in seconds.
    Slower(f64),
    /// Bad is a level above this: one trial a window.
    Higher(f64),
}

impl Cut {
    /// `(bad, total)`, or nothing if the reading cannot be cut so (other kind, or no such edge).
    pub fn trial(self, reading: &Reading) -> Option<(f64, f64)> {
        match (self, reading) {
            (Cut::Direct, Reading::Counts { bad, total }) => Some((*bad, *total)),
            (Cut::Slower(edge), Reading::Buckets { bounds, counts }) => {
                let place = bounds.iter().position(|bound| (bound - edge).abs() <= 1e-12 * edge.abs())?;
                let total: f64 = counts.iter().sum();
                let fast: f64 = counts.iter().take(place + 1).sum();
                // Sums of floats: keep `bad <= total` exact.
                Some(((total - fast).clamp(0.0, total), total))
            }
            (Cut::Higher(level), Reading::Level { value }) => {
                Some((f64::from(u8::from(*value > level)), 1.0))
            }
            _ => None,
        }
    }

    /// What is counted, in words.
    pub fn words(self, measure: &Measure) -> String {
        match (self, measure) {
            (Cut::Direct, Measure::Availability { .. }) => "share of samples that are down".into(),
            (Cut::Direct, _) => "share of bad events".into(),
            (Cut::Slower(edge), _) => format!("share of requests slower than {edge} s"),
            (Cut::Higher(level), _) => format!("share of windows with a level above {level}"),
        }
    }
}

/// A bound and its running test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundTest {
    /// The bound.
    pub bound: Bound,
    state: State,
    bad: f64,
    total: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum State {
    /// Built with the first reading, when the bucket edges are known.
    Unbuilt,
    /// Running.
    Running { cut: Cut, test: Box<ProportionTest> },
    /// It cannot be tested, for this reason.
    Impossible(String),
}

impl BoundTest {
    pub(super) fn new(bound: Bound) -> Self {
        Self { bound, state: State::Unbuilt, bad: 0.0, total: 0.0 }
    }

    /// Evidence so far, in natural-log units.
    pub(super) fn log_e(&self) -> Option<f64> {
        match &self.state {
            State::Running { test, .. } => Some(test.log_e()),
            State::Unbuilt | State::Impossible(_) => None,
        }
    }

    /// Gives a bound that could not be tested another chance, with the next reading.
    pub(super) fn retry(&mut self) {
        if matches!(self.state, State::Impossible(_)) {
            self.state = State::Unbuilt;
        }
    }

    pub(super) fn take(
        &mut self,
        signal: &Signal,
        before: Option<&SignalBaseline>,
        reading: &Reading,
        seconds: f64,
        settings: &WatchSettings,
        cluster: f64,
    ) {
        if matches!(self.state, State::Unbuilt) && !reading.is_empty() {
            self.state = build(self.bound, signal, before, reading, settings, cluster);
        }
        let State::Running { cut, test } = &mut self.state else { return };
        if let Some((bad, total)) = cut.trial(reading)
            && test.update(bad, total, seconds).is_ok()
        {
            self.bad += bad;
            self.total += total;
        }
    }

    pub(super) fn fill(
        &self,
        finding: &mut Finding,
        signal: &Signal,
        before: Option<&SignalBaseline>,
        alpha: f64,
    ) {
        let (cut, test) = match &self.state {
            State::Running { cut, test } => (*cut, test),
            State::Impossible(reason) => return finding.missing = Some(reason.clone()),
            State::Unbuilt => {
                return finding.missing = finding.missing.take().or(Some("nothing was measured yet".into()));
            }
        };
        let p0 = test.parameters().p0;
        finding.what = cut.words(&signal.measure);
        finding.before = before.filter(|before| before.cut == cut).map(|before| before.share.mean);
        finding.read(test, self.bad, self.total, alpha);
        if finding.truth == Truth::Unknown && finding.missing.is_none() {
            finding.missing = Some(self.still_needed(p0, alpha));
        }
    }

    fn still_needed(&self, p0: f64, alpha: f64) -> String {
        let now = if self.total > 0.0 { self.bad / self.total } else { 0.0 };
        match requests_needed(now, p0, alpha) {
            Ok(all) if (all as f64) > self.total => {
                format!("about {:.0} more trials to tell, if it stays as it is", all as f64 - self.total)
            }
            _ => "it is too close to the bound to tell".into(),
        }
    }
}

fn build(
    bound: Bound,
    signal: &Signal,
    before: Option<&SignalBaseline>,
    reading: &Reading,
    settings: &WatchSettings,
    cluster: f64,
) -> State {
    match cut_for(bound, signal, before, reading) {
        Ok((cut, p0)) => match test(p0, settings.watch_for.seconds(), Direction::Worse, cluster) {
            Some(test) => State::Running { cut, test: Box::new(test) },
            None => State::Impossible(format!("a share of {p0} cannot be tested")),
        },
        Err(reason) => State::Impossible(reason),
    }
}

/// A window of a gauge is one trial, and the bound is broken when more than half of the windows are beyond it.
const GAUGE_SHARE: f64 = 0.5;

/// The cut and the share of bad trials that the bound allows.
fn cut_for(
    bound: Bound,
    signal: &Signal,
    before: Option<&SignalBaseline>,
    reading: &Reading,
) -> Result<(Cut, f64), String> {
    let no_baseline = || "there is no baseline to compare with".to_owned();
    match (&signal.measure, bound) {
        (Measure::Proportion { .. } | Measure::Availability { .. }, Bound::Above(share)) => {
            Ok((Cut::Direct, share.value))
        }
        (Measure::Availability { .. }, Bound::Below(share)) => Ok((Cut::Direct, 1.0 - share.value)),
        (Measure::Proportion { .. }, Bound::TimesBaseline(times)) => {
            let before = before.ok_or_else(no_baseline)?;
            Ok((Cut::Direct, (times * before.share.upper).min(0.999)))
        }
        (Measure::Latency { quantile, .. }, Bound::Above(limit)) => {
            edge_at_least(reading, limit.value).map(|edge| (Cut::Slower(edge), 1.0 - quantile))
        }
        (Measure::Latency { quantile, .. }, Bound::TimesBaseline(times)) => {
            let Some(SignalBaseline { cut: Cut::Slower(old), .. }) = before else {
                return Err(no_baseline());
            };
            edge_at_least(reading, times * old).map(|edge| (Cut::Slower(edge), 1.0 - quantile))
        }
        (Measure::Gauge { .. }, Bound::Above(level)) => Ok((Cut::Higher(level.value), GAUGE_SHARE)),
        (Measure::Gauge { .. }, Bound::TimesBaseline(times)) => {
            let Some(SignalBaseline { cut: Cut::Higher(old), .. }) = before else {
                return Err(no_baseline());
            };
            Ok((Cut::Higher(times * old), GAUGE_SHARE))
        }
        (measure, bound) => {
            Err(format!("\"{bound}\" says nothing about a signal of kind {}", measure.kind()))
        }
    }
}

/// The smallest bucket edge at or above `seconds`: a coarser question than asked, on the safe side.
fn edge_at_least(reading: &Reading, seconds: f64) -> Result<f64, String> {
    let Reading::Buckets { bounds, .. } = reading else {
        return Err("the signal does not deliver buckets".into());
    };
    bounds.iter().copied().find(|edge| *edge >= seconds * (1.0 - 1e-12)).ok_or_else(|| {
        let last = bounds.last().map_or("none".to_owned(), f64::to_string);
        format!("the buckets are too coarse: {seconds} s is beyond the last finite bucket ({last} s)")
    })
}
