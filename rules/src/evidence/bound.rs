//! One bound on one signal as a running test: the reading is cut into trials, and the share of bad trials is compared
//! with what the bound allows: a share, or a multiple of the control's share.

use super::cut::{Cut, Window};
use super::finding::Finding;
use super::running::{Running, Tests};
use super::{SignalBaseline, Terms};
use crate::matrix::{Bound, Truth};
use crate::signal::{Measure, Reading, Signal};
use crate::stats::{DEFAULT_DISPERSION, Direction, TwoArms, requests_needed};
use serde::{Deserialize, Serialize};

/// A bound and its running test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundTest {
    /// The bound.
    pub bound: Bound,
    state: State,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum State {
    /// Built with the first reading, when the bucket edges are known.
    Unbuilt,
    /// Running.
    Running(Box<Live>),
    /// It cannot be tested, for this reason.
    Impossible(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Live {
    question: Question,
    /// One test.
    tests: Tests,
    /// Beside a control, what was counted: that of the canary also while the control could not be seen.
    both: TwoArms,
}

impl Live {
    fn test(&self) -> &Running {
        self.tests.first()
    }

    fn seen(&self) -> TwoArms {
        match self.test() {
            Running::Share(test) => {
                TwoArms { canary_bad: test.bad(), canary_total: test.total(), ..TwoArms::default() }
            }
            Running::Ratio(_) => self.both,
        }
    }
}

/// A bound in terms of trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Question {
    /// How the release's readings are cut.
    own: Cut,
    /// How the control's are.
    control: Cut,
    /// What must be exceeded: a share, or a ratio of shares.
    level: f64,
    /// What is compared with it.
    kind: Kind,
    /// What the buckets cannot tell, in words.
    limited: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The release's share of bad trials.
    Share,
    /// The same as a multiple of the control's.
    Ratio,
    /// The release's share of the traffic; too little is bad.
    Traffic,
}

impl Kind {
    /// The trials that this kind of question is about.
    fn of(self, arms: TwoArms) -> TwoArms {
        match self {
            Kind::Share | Kind::Ratio => arms,
            Kind::Traffic => TwoArms {
                canary_bad: arms.canary_total,
                canary_total: arms.canary_total + arms.control_total,
                ..TwoArms::default()
            },
        }
    }
}

impl BoundTest {
    pub(super) fn new(bound: Bound) -> Self {
        Self { bound, state: State::Unbuilt }
    }

    /// Evidence so far, in natural-log units.
    pub(super) fn log_e(&self) -> Option<f64> {
        match &self.state {
            State::Running(live) => Some(live.test().log_e()),
            State::Unbuilt | State::Impossible(_) => None,
        }
    }

    /// Gives a bound that could not be tested another chance, with the next reading.
    pub(super) fn retry(&mut self) {
        if matches!(self.state, State::Impossible(_)) {
            self.state = State::Unbuilt;
        }
    }

    /// How many numbers make up the running state.
    pub(super) fn numbers(&self) -> usize {
        match &self.state {
            State::Running(live) => {
                // what was counted
                live.tests.numbers() + if live.question.kind == Kind::Ratio { 4 } else { 0 }
            }
            State::Unbuilt | State::Impossible(_) => 0,
        }
    }

    pub(super) fn take(
        &mut self,
        signal: &Signal,
        before: Option<&SignalBaseline>,
        window: &Window<'_>,
        terms: &Terms,
    ) {
        // A canary without a single request is what one of the bounds is about.
        if matches!(self.state, State::Unbuilt) && (!window.own.is_empty() || self.bound == Bound::Starved) {
            self.state = build(self.bound, signal, before, window.own, terms);
        }
        let State::Running(live) = &mut self.state else { return };
        let has_control = window.control.is_some();
        let kind = live.question.kind;
        let Some(arms) = window.trials(live.question.own, live.question.control) else { return };
        // Without the control's requests nobody knows what the canary's share of them is.
        let arms = if kind == Kind::Traffic && !has_control { TwoArms::default() } else { kind.of(arms) };
        if kind == Kind::Ratio {
            live.both = live.both.plus(&arms);
        }
        live.tests.take([arms], has_control, window.seconds);
    }

    pub(super) fn fill(
        &self,
        finding: &mut Finding,
        signal: &Signal,
        before: Option<&SignalBaseline>,
        alpha: f64,
    ) {
        let live = match &self.state {
            State::Running(live) => live,
            State::Impossible(reason) => return finding.missing = Some(reason.clone()),
            State::Unbuilt => {
                return finding.missing = finding.missing.take().or(Some("nothing was measured yet".into()));
            }
        };
        let question = &live.question;
        finding.what = match question.kind {
            Kind::Traffic => "share of the traffic".into(),
            Kind::Share | Kind::Ratio => question.own.words(&signal.measure),
        };
        if let Some(limited) = &question.limited {
            finding.what = format!("{} ({limited})", finding.what);
        }
        finding.before = before.filter(|before| before.cut == question.own).map(|before| before.share.mean);
        finding.log_e = Some(live.test().log_e());
        let rejected = live.test().max_log_e() >= -alpha.ln();
        let seen = live.seen();
        finding.read(live.test(), &seen, None, rejected, alpha);
        if finding.truth == Truth::Unknown && finding.missing.is_none() {
            finding.missing = Some(still_needed(question, &seen, alpha));
        }
    }
}

fn still_needed(question: &Question, seen: &TwoArms, alpha: f64) -> String {
    let share = |bad: f64, total: f64| if total > 0.0 { bad / total } else { 0.0 };
    let TwoArms { canary_bad, canary_total, control_bad, control_total } = *seen;
    let level = match question.kind {
        Kind::Ratio => (question.level * share(control_bad, control_total)).clamp(1e-6, 0.999),
        Kind::Share | Kind::Traffic => question.level,
    };
    match requests_needed(share(canary_bad, canary_total), level, alpha) {
        Ok(all) if (all as f64) > canary_total => {
            format!("about {:.0} more trials to tell, if it stays as it is", all as f64 - canary_total)
        }
        _ => "it is too close to the bound to tell".into(),
    }
}

fn build(
    bound: Bound,
    signal: &Signal,
    before: Option<&SignalBaseline>,
    reading: &Reading,
    terms: &Terms,
) -> State {
    let question = match question(bound, signal, before, reading, terms) {
        Ok(question) => question,
        Err(reason) => return State::Impossible(reason),
    };
    let (horizon, cluster) = (terms.horizon_seconds, terms.cluster);
    let test = match question.kind {
        Kind::Ratio => {
            let share =
                before.filter(|before| before.cut == question.control).map(|before| before.share.mean);
            let test = Running::ratio(question.level, horizon, Direction::Worse, cluster, share);
            // A latency's bounds are doublings themselves.
            let coarse = matches!(signal.measure, Measure::Latency { .. });
            if coarse { test.and_then(Running::coarse) } else { test }
        }
        Kind::Share => Running::share(question.level, horizon, Direction::Worse, cluster),
        // Connections are sticky: neighbouring requests go the same way.
        Kind::Traffic => {
            Running::share(question.level, horizon, Direction::Better, cluster.max(DEFAULT_DISPERSION))
        }
    };
    let Some(tests) = Tests::new(test) else {
        return State::Impossible(format!("a bound of {} cannot be tested", question.level));
    };
    State::Running(Box::new(Live { question, tests, both: TwoArms::default() }))
}

/// The bound in terms of trials.
fn question(
    bound: Bound,
    signal: &Signal,
    before: Option<&SignalBaseline>,
    reading: &Reading,
    terms: &Terms,
) -> Result<Question, String> {
    let no_baseline = || "there is no baseline to compare with".to_owned();
    let share = |cut, level| Question { own: cut, control: cut, level, kind: Kind::Share, limited: None };
    match (&signal.measure, bound) {
        (Measure::Proportion { .. } | Measure::Availability { .. }, Bound::Above(level)) => {
            Ok(share(Cut::Direct, level.value))
        }
        (Measure::Availability { .. }, Bound::Below(level)) => Ok(share(Cut::Direct, 1.0 - level.value)),
        (Measure::Proportion { .. }, Bound::TimesBaseline(times)) if terms.compares => {
            Ok(Question { kind: Kind::Ratio, ..share(Cut::Direct, times) })
        }
        (Measure::Proportion { .. }, Bound::Starved) if terms.compares => {
            Ok(Question { kind: Kind::Traffic, ..share(Cut::Direct, terms.starved_below) })
        }
        (Measure::Proportion { .. }, Bound::TimesBaseline(times)) => {
            let before = before.ok_or_else(no_baseline)?;
            Ok(share(Cut::Direct, (times * before.share.upper).min(0.999)))
        }
        (Measure::Latency { quantile, .. }, Bound::Above(limit)) => {
            let (edge, limited) = edge_at_least(reading, limit.value)?;
            Ok(Question { limited, ..share(Cut::Slower(edge), 1.0 - quantile) })
        }
        (Measure::Latency { quantile, .. }, Bound::TimesBaseline(times)) => {
            let Some(SignalBaseline { cut: Cut::Slower(old), .. }) = before else {
                return Err(no_baseline());
            };
            let (edge, limited) = edge_at_least(reading, times * old)?;
            let question = Question { limited, ..share(Cut::Slower(edge), 1.0 - quantile) };
            // More of the canary's requests are slower than `times` the old quantile than of the control's are slower
            // than that quantile itself: then the canary's quantile is more than `times` the control's.
            Ok(match terms.compares {
                true => Question { control: Cut::Slower(*old), level: 1.0, kind: Kind::Ratio, ..question },
                false => question,
            })
        }
        (measure, bound) => {
            Err(format!("\"{bound}\" says nothing about a signal of kind {}", measure.kind()))
        }
    }
}

/// Beyond this factor a coarser edge is worth a word.
const COARSE: f64 = 1.05;

/// The smallest bucket edge at or above `seconds`: a coarser question than asked, on the safe side; and what that means,
/// in words, if it matters.
fn edge_at_least(reading: &Reading, seconds: f64) -> Result<(f64, Option<String>), String> {
    let Reading::Buckets { bounds, .. } = reading else {
        return Err("the signal does not deliver buckets".into());
    };
    let edge = bounds.iter().copied().find(|edge| *edge >= seconds * (1.0 - 1e-12)).ok_or_else(|| {
        let last = bounds.last().map_or("none".to_owned(), f64::to_string);
        format!("the buckets are too coarse: {seconds} s is beyond the last finite bucket ({last} s)")
    })?;
    let limited = (edge > COARSE * seconds)
        .then(|| format!("resolution-limited: {seconds:.3} s is asked for, the buckets have {edge} s"));
    Ok((edge, limited))
}
