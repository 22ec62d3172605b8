//! What is known of one signal.

mod findings;

use super::Terms;
use super::baseline::{self, BaselineState, Place, SignalBaseline};
use super::bound::BoundTest;
use super::cut::{Cut, Window};
use super::gauge::GaugeEvidence;
use super::onset::Beginning;
use super::running::{Running, Tests};
use super::worse::Worse;
use crate::matrix::Bound;
use crate::past::Past;
use crate::ruleset::{RuleSet, Statistics};
use crate::signal::{GaugeScale, Measure, Measurement, Observation, Reading, Signal};
use crate::stats::{Counts, DEFAULT_DISPERSION, Direction, requests_needed};
use crate::units::Span;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is known of one signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalEvidence {
    /// The signal.
    pub signal: Signal,
    /// Its past.
    pub baseline: BaselineState,
    /// Its share of the error budget: its tests reject at `alpha * share`.
    pub share: f64,
    /// The share of the error budget for "the canary gets no traffic".
    traffic_share: f64,
    /// Whether it is compared with a control.
    compares: bool,
    /// "Worse than the reference by more than the margin", once there is a reference.
    worse: Option<Worse>,
    /// Of a gauge: its tests, and the same as they were fitted.
    gauge: Option<Box<[GaugeEvidence; 2]>>,
    /// "Shown to be no worse" at the signal's own cut, each against its own null; averaged.
    better: Option<Tests>,
    /// One test for each bound in the matrix.
    bounds: Vec<BoundTest>,
    /// Bad and all trials at the signal's own cut, since the beginning.
    bad: f64,
    total: f64,
    /// The same of the last looks, each counting less than the one after it: how it is doing now.
    recent: Counts,
    /// Requests seen while the processes were warming up; they were not counted.
    warming: f64,
    /// Whether the warm-up is over.
    warm: bool,
    /// When the release itself was first seen, and when it last had requests.
    first_seen: Option<Timestamp>,
    last_used: Option<Timestamp>,
    /// How long it may be without requests and still be called well.
    idle_after: Span,
    /// Whether the control was ever seen: one that ends later was promoted over, and is no broken telemetry.
    control_seen: bool,
    /// What the control did while nothing was known of its past: where a latency's old quantile lies.
    control_past: Option<Reading>,
    /// Windows with usable data.
    pub windows: u32,
    /// Windows that came too late, or without data.
    pub lost: u32,
    /// End of the last window that was used: the next one begins there.
    pub measured_until: Timestamp,
    /// The newest sample seen.
    pub newest: Option<Timestamp>,
    /// Since when, and why, there has been no usable data.
    pub hole: Option<(Timestamp, String)>,
}

/// Requests of the control from which the quantiles of a latency are taken where its past is not known.
const FEWEST_TO_CALIBRATE: f64 = 200.0;
/// The first minute of a canary's life says nothing about its share of the traffic: it is being put into the rotation.
const ROTATION: Span = Span::from_seconds(60);
/// The news of a deployment may come at the end of its rollout, or be told by another clock: what begins this shortly
/// before it is its own.
const ROLLOUT_SECONDS: f64 = 30.0;
/// At most this share of samples may be "down" in a healthy service: one failed probe of five is noise or a restart.
const MOST_DOWN_WHEN_HEALTHY: f64 = 0.2;
/// How many times its reference a signal has been lately.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// As counted.
    pub about: f64,
    /// Two standard errors below that.
    pub at_least: f64,
}

/// How much of what was seen until then a look leaves of "the last looks".
const FADES_TO: f64 = 0.7;
/// Requests of which one error is taken for the reference, where it has none.
const MOST_RECENT: f64 = 1_000.0;
/// A pass against a smaller share would take more requests than a watch ever sees.
const SMALLEST_PASS: f64 = 1e-5;

impl SignalEvidence {
    pub(super) fn new(
        signal: &Signal,
        rules: &RuleSet,
        sum_of_weights: f64,
        traffic_share: f64,
        bounds: Vec<Bound>,
        since: Timestamp,
    ) -> Self {
        let counted = matches!(signal.measure, Measure::Proportion { .. } | Measure::Latency { .. });
        Self {
            signal: signal.clone(),
            baseline: BaselineState::Waiting,
            share: signal.budget_weight() / sum_of_weights,
            traffic_share,
            compares: rules.compare.is_some() && signal.compare && counted,
            worse: None,
            gauge: None,
            better: None,
            bounds: bounds.into_iter().map(BoundTest::new).collect(),
            bad: 0.0,
            total: 0.0,
            recent: Counts::default(),
            warming: 0.0,
            warm: false,
            first_seen: None,
            last_used: None,
            idle_after: rules.watch.blind_after,
            control_seen: false,
            control_past: None,
            windows: 0,
            lost: 0,
            measured_until: since,
            newest: None,
            hole: Some((since, "nothing was measured yet".to_owned())),
        }
    }

    pub(super) fn restarted(&self, rules: &RuleSet, since: Timestamp) -> Self {
        let mut fresh = Self {
            worse: None,
            better: None,
            bounds: self.bounds().map(BoundTest::new).collect(),
            gauge: self.gauge.as_ref().map(|tests| Box::new([tests[1].clone(), tests[1].clone()])),
            bad: 0.0,
            total: 0.0,
            recent: Counts::default(),
            warming: 0.0,
            last_used: None,
            windows: 0,
            lost: 0,
            measured_until: since,
            newest: None,
            hole: Some((since, "nothing was measured yet".to_owned())),
            ..self.clone()
        };
        fresh.arm(rules);
        fresh
    }

    /// Judges by the past alone from here on.
    pub(super) fn leave_the_control(&mut self, rules: &RuleSet) {
        if self.compares {
            self.compares = false;
            self.bounds.retain(|test| test.bound != Bound::Starved);
            self.arm(rules);
        }
    }

    pub(super) fn take_baseline(&mut self, past: &Past, since: Timestamp, rules: &RuleSet) {
        // A past that changes while it is compared with would be a threshold chosen after looking: the first stands.
        if self.baseline != BaselineState::Waiting {
            return;
        }
        if let Measure::Gauge { scale, .. } = self.signal.measure {
            return self.fit_gauge(scale, past, since, rules);
        }
        let place = if self.compares { Place::AsCounted } else { Place::AtMost };
        self.baseline = baseline::learn(&self.signal, past, place, &rules.statistics);
        self.arm(rules);
        if let Some(worse) = &mut self.worse {
            for window in &past.recent {
                let seconds = Span::between(window.from, window.to).seconds();
                worse.precede(seconds, window.observation.reading());
            }
        }
        // A bound that was looked at before its baseline had come gets another chance.
        self.bounds.iter_mut().for_each(BoundTest::retry);
    }

    fn fit_gauge(&mut self, scale: GaugeScale, past: &Past, since: Timestamp, rules: &RuleSet) {
        let alpha = rules.statistics.alpha * self.share;
        let horizon = rules.watch.watch_for.seconds();
        let bounds = self.bounds.iter().map(|test| test.bound);
        let levels = past.levels.as_ref();
        match GaugeEvidence::fit(scale, levels, since, bounds, alpha, horizon) {
            Ok(fitted) => {
                let seen = levels.map_or(0, |levels| levels.values.iter().flatten().count());
                self.baseline = BaselineState::Levels(u32::try_from(seen).unwrap_or(u32::MAX));
                self.gauge = Some(Box::new([fitted.clone(), fitted]));
            }
            Err(reason) => self.baseline = BaselineState::Missing(reason),
        }
    }

    /// Builds the tests that need a reference.
    fn arm(&mut self, rules: &RuleSet) {
        let statistics = &rules.statistics;
        let Terms { horizon_seconds, cluster, .. } = self.terms(rules);
        let known = self.baseline.known();
        let ratio = |rho, direction, share| Running::ratio(rho, horizon_seconds, direction, cluster, share);
        let share = |p0: f64, direction| Running::share(p0, horizon_seconds, direction, cluster);
        let cuts = match (self.own_cut(), known) {
            (Some(cut), Some(before)) if self.compares => {
                let own = (cut, Some(before.share.mean));
                std::iter::once(own)
                    .chain(before.more_cuts.iter().map(|(cut, share)| (*cut, Some(*share))))
                    .collect()
            }
            (cut, _) => Vec::from_iter(cut.map(|cut| (cut, None))),
        };
        let worse = |(cut, bad): (Cut, Option<f64>)| {
            let test = match (self.compares, known) {
                (true, _) => ratio(statistics.margin, Direction::Worse, bad),
                (false, Some(before)) => {
                    let p0 = (statistics.margin * before.share.upper).clamp(1e-9, 0.999);
                    share(p0, Direction::Worse)
                }
                (false, None) => None,
            };
            Some((cut, test?))
        };
        let mut tests: Vec<(Cut, Running)> = cuts.iter().copied().filter_map(worse).collect();
        // What a control does now is no past.
        let past = known.filter(|before| before.span > Span::default());
        if let (true, Some(before)) =
            (rules.compare.as_ref().is_some_and(|compare| compare.with_before), past)
            && self.compares
        {
            let p0 = (statistics.margin * before.share.upper).clamp(1e-9, 0.999);
            // The control says more: what the past adds is whether both arms became bad, and that is seen at coarse steps.
            let test = share(p0, Direction::Worse).and_then(Running::coarse);
            tests.extend(test.map(|test| (before.cut, test)));
        }
        let worse = Worse::new(tests);
        let mut passes = Vec::new();
        match self.signal.measure {
            Measure::Proportion { .. } => {
                passes.push(statistics.healthy_below.value);
                let before = known.filter(|_| !self.compares);
                passes.extend(before.map(|before| statistics.tolerated_ratio * before.share.lower));
            }
            // No more than twice the expected share of requests beyond the old quantile.
            Measure::Latency { quantile, .. } if !self.compares => {
                passes.extend(known.map(|_| statistics.tolerated_ratio * (1.0 - quantile)));
            }
            Measure::Availability { .. } => passes.push(MOST_DOWN_WHEN_HEALTHY),
            Measure::Latency { .. } | Measure::Gauge { .. } => {}
        }
        let usable = passes.into_iter().filter(|p0| *p0 > SMALLEST_PASS && *p0 < 1.0);
        let mut better: Vec<Running> = usable.filter_map(|p0| share(p0, Direction::Better)).collect();
        if self.compares {
            better.extend(ratio(statistics.tolerated_ratio, Direction::Better, None));
        }
        let better = self.own_cut().and_then(|_| Tests::new(better));
        (self.worse, self.better) = (worse, better);
    }

    fn terms(&self, rules: &RuleSet) -> Terms {
        Terms {
            horizon_seconds: rules.watch.watch_for.seconds(),
            cluster: self.cluster(&rules.statistics),
            compares: self.compares,
            starved_below: rules.compare.as_ref().map_or(0.0, |compare| compare.starved_below()),
        }
    }

    /// How many events fail together: what the counts are divided by (tempering). Availability samples and gauge
    /// windows are few and counted once each.
    pub fn cluster(&self, statistics: &Statistics) -> f64 {
        match self.signal.measure {
            Measure::Proportion { .. } | Measure::Latency { .. } => statistics
                .dispersion
                .or(self.baseline.known().and_then(|before| before.dispersion))
                .unwrap_or(DEFAULT_DISPERSION),
            Measure::Availability { .. } | Measure::Gauge { .. } => 1.0,
        }
    }

    pub(super) fn take(&mut self, measurement: &Measurement, began: Timestamp, rules: &RuleSet) {
        // The answer to a look that was overtaken: a part of it was counted before, or belongs to the time before this
        // evidence began (the last errors of a release that has just been turned back).
        if measurement.from < self.measured_until || measurement.to <= measurement.from {
            self.lost += 1;
            return;
        }
        let own = usable(&measurement.observation)
            .and_then(|(reading, newest)| self.cannot_be_cut(reading).map_or(Ok((reading, newest)), Err));
        let control_ended = self.control_seen
            && own.is_ok()
            && matches!(measurement.control, Some(Observation::Absent { .. }));
        let control = match (&measurement.control, self.compares) {
            (Some(_), true) if control_ended => Ok(None),
            (Some(control), true) => usable(control).map(Some).map_err(|why| format!("the control: {why}")),
            (None, true) => Err("the control: it was not measured".into()),
            (_, false) => Ok(None),
        };
        let hole = own.as_ref().err().or(control.as_ref().err()).cloned();
        let since = self.hole.take().map_or(measurement.from, |(since, _)| since);
        self.lost += u32::from(hole.is_some());
        self.hole = hole.map(|reason| (since, reason));
        let Ok((own, newest)) = own else { return };
        let control = control.ok().flatten().map(|(reading, _)| reading);
        self.control_seen |= control.is_some();
        let first_seen = *self.first_seen.get_or_insert(measurement.from);
        // A canary that starts later than it was announced is as young as it is.
        let born = began.max(first_seen);
        if !own.is_empty() {
            self.last_used = Some(measurement.to);
        }
        let seconds = Span::between(self.measured_until, measurement.to).seconds();
        self.measured_until = measurement.to;
        self.newest = Some(newest);
        let window = Window { own, control, instances: &measurement.instances, seconds };
        if self.is_warming(own, measurement.from, born, rules) {
            self.calibrate(&window, rules);
            return;
        }
        let in_rotation = measurement.from >= ROTATION.after(born);
        self.count(&window, Span::between(began, measurement.from), in_rotation, rules);
    }

    /// Caches are cold and code is not compiled yet: a young process is slow, and that is not the release's fault. Errors
    /// are counted from the first request on: a release that fails while it is cold fails.
    fn is_warming(&mut self, own: &Reading, from: Timestamp, began: Timestamp, rules: &RuleSet) -> bool {
        let Reading::Buckets { counts, .. } = own else { return false };
        let young = from < rules.watch.warm_up.after(began);
        let few = rules.watch.warm_up > Span::default()
            && self.total == 0.0
            && self.warming < f64::from(rules.watch.warm_up_requests);
        self.warm = !(young || few);
        if !self.warm {
            self.warming += counts.iter().sum::<f64>();
        }
        !self.warm
    }

    /// Why a histogram cannot be compared although it has requests: its buckets lack the edge that the tests are about.
    fn cannot_be_cut(&self, own: &Reading) -> Option<String> {
        let Some(Cut::Slower(edge)) = self.own_cut() else { return None };
        let has = Cut::Slower(edge).trial(own).is_some() || own.is_empty();
        (!has).then(|| format!("its buckets have no edge at {edge} s any more, at which it is compared"))
    }

    /// Whether it had requests lately: what nobody uses is not shown to be well.
    pub(super) fn is_used(&self) -> bool {
        self.last_used.is_some_and(|used| Span::between(used, self.measured_until) <= self.idle_after)
    }

    /// Evidence that the canary gets too little traffic, nats.
    pub(super) fn starved_log_e(&self) -> Option<f64> {
        self.bounds.iter().find(|test| test.bound == Bound::Starved).and_then(BoundTest::log_e)
    }

    /// Without a past of the control, its present until there is enough of it tells where the old quantiles lie. The
    /// tests begin after that, so that the cuts are fixed before they see data.
    /// Says whether this window was the one that told.
    fn calibrate(&mut self, window: &Window<'_>, rules: &RuleSet) -> bool {
        let missing = matches!(self.baseline, BaselineState::Missing(_));
        let Some(control) = window.control.filter(|_| self.compares && missing) else { return false };
        let sum = match self.control_past.take() {
            Some(past) => past.plus(control).unwrap_or_else(|| control.clone()),
            None => control.clone(),
        };
        let enough = matches!(&sum, Reading::Buckets { counts, .. }
            if counts.iter().sum::<f64>() >= FEWEST_TO_CALIBRATE);
        if let Some(learned) = enough.then(|| baseline::beside(&self.signal, &sum, rules)).flatten() {
            self.baseline = BaselineState::Known(learned);
            self.arm(rules);
            self.bounds.iter_mut().for_each(BoundTest::retry);
            true
        } else {
            self.control_past = Some(sum);
            false
        }
    }

    fn count(&mut self, window: &Window<'_>, age: Span, in_rotation: bool, rules: &RuleSet) {
        // The window that chose the cuts is not judged by them.
        if self.calibrate(window, rules) {
            return;
        }
        self.windows += u32::from(!window.own.is_empty());
        let has_control = window.control.is_some();
        if let Some(arms) = self.own_cut().and_then(|cut| window.trials(cut, cut)) {
            self.bad += arms.canary_bad;
            self.total += arms.canary_total;
            self.recent = fade(self.recent, arms.canary());
        }
        if let Some(worse) = &mut self.worse {
            let grace = rules.watch.baseline_gap.seconds().max(ROLLOUT_SECONDS);
            worse.take(window, age.seconds(), rules.statistics.alpha * self.share, grace);
        }
        if let Some(tests) = &mut self.gauge {
            tests[0].take(window.own, window.seconds);
        }
        if let (Some(cut), Some(better)) = (self.own_cut(), &mut self.better) {
            let arms = window.trials(cut, cut).unwrap_or_default();
            better.take(std::iter::repeat(arms), has_control, window.seconds);
        }
        let terms = self.terms(rules);
        for bound in self.bounds.iter_mut().filter(|test| in_rotation || test.bound != Bound::Starved) {
            bound.take(&self.signal, self.baseline.known(), window, &terms);
        }
    }

    /// How many times its reference it has been in the last looks, and at the least: two standard errors below. `None`
    /// while there is nothing to compare.
    pub fn times(&self) -> Option<Times> {
        let share = |counts: Counts| (counts.total > 0.0).then(|| counts.bad / counts.total);
        let reference = match self.compares {
            true => self.control_counts().and_then(|(bad, total)| share(Counts { bad, total })),
            false => self.baseline.known().map(|before| before.share.upper),
        };
        // A control without errors is as good as one error in its requests.
        let least = 1.0 / MOST_RECENT;
        let (now, reference) = (share(self.recent)?, reference?.max(least));
        let surely = (self.recent.bad - 2.0 * self.recent.bad.sqrt()).max(0.0) / self.recent.total;
        Some(Times { about: now / reference, at_least: surely / reference })
    }

    fn own_cut(&self) -> Option<Cut> {
        match (&self.signal.measure, self.baseline.known()) {
            (Measure::Proportion { .. } | Measure::Availability { .. }, _) => Some(Cut::Direct),
            (Measure::Latency { .. }, before) => before.map(|before| before.cut),
            (Measure::Gauge { .. }, _) => None,
        }
    }

    /// Evidence for "no worse", in natural-log units, and how much is needed; for people.
    pub fn pass(&self, beta: f64) -> Option<(f64, f64)> {
        self.better.as_ref().map(|tests| (tests.log_e(), -beta.ln()))
    }

    /// Whether the past was itself beyond this bound. Of bounds that compare it with something it was not: it is what is
    /// compared with.
    pub fn was_beyond(&self, bound: Bound) -> bool {
        let Some(before) = self.baseline.known().filter(|before| before.cut == Cut::Direct) else {
            return false;
        };
        match (&self.signal.measure, bound) {
            (Measure::Proportion { .. }, Bound::Above(share)) => before.share.mean > share.value,
            (Measure::Availability { .. }, Bound::Below(share)) => before.share.mean > 1.0 - share.value,
            _ => false,
        }
    }

    /// Evidence for "worse than the reference", without the worst instance where there are several, in natural-log units.
    pub fn worse_log_e(&self) -> Option<f64> {
        let gauge = self.gauge.as_ref().map(|tests| tests[0].log_e());
        self.worse.as_ref().map(Worse::log_e).or(gauge)
    }

    /// The same with every instance.
    pub fn worse_log_e_of_all(&self) -> Option<f64> {
        self.worse.as_ref().map(Worse::log_e_of_all).or_else(|| self.worse_log_e())
    }

    /// When it began to be worse, once that is shown.
    pub fn beginning(&self) -> Option<Beginning> {
        self.worse.as_ref().and_then(Worse::beginning)
    }

    /// Instances without which the release is not shown to be worse, though with them it is: worst first.
    pub fn outliers(&self, alpha: f64) -> Vec<&str> {
        self.worse.as_ref().map_or_else(Vec::new, |worse| worse.outliers(alpha * self.share))
    }

    /// Requests that were not counted because the release is still warming up; `None` once it is warm.
    pub fn warming_requests(&self) -> Option<f64> {
        (self.warming > 0.0 && !self.warm).then_some(self.warming)
    }

    /// Whether there is something that it can be compared with: a control, or its past.
    pub fn has_reference(&self) -> bool {
        self.compares || self.gauge.is_some() || self.baseline.known().is_some()
    }

    /// Whether it is compared with a control.
    pub fn compares(&self) -> bool {
        self.compares
    }

    /// Bad and all trials so far at the signal's own cut.
    pub fn counts(&self) -> (f64, f64) {
        (self.bad, self.total)
    }

    /// Bad and all trials of the control so far.
    pub fn control_counts(&self) -> Option<(f64, f64)> {
        let seen = self.worse.as_ref().filter(|_| self.compares)?.seen();
        Some((seen.control_bad, seen.control_total))
    }

    /// How many instances were told apart.
    pub fn instances(&self) -> usize {
        self.worse.as_ref().map_or(0, Worse::instances)
    }

    /// The bounds that the matrix puts on it.
    pub(super) fn bounds(&self) -> impl Iterator<Item = Bound> {
        self.bounds.iter().map(|test| test.bound)
    }

    /// Evidence against each bound, nats.
    pub(super) fn bound_log_es(&self) -> impl Iterator<Item = f64> {
        let gauge = self.gauge.iter().flat_map(|tests| tests[0].bound_log_es());
        self.bounds.iter().filter_map(BoundTest::log_e).chain(gauge)
    }

    /// How many bytes the running state takes, as numbers of eight bytes: of all tests, and of leaving instances out.
    pub fn state_bytes(&self) -> (usize, usize) {
        let (worse, instances) = self.worse.as_ref().map_or((0, 0), Worse::numbers);
        let better = self.better.as_ref().map_or(0, Tests::numbers);
        let bounds: usize = self.bounds.iter().map(BoundTest::numbers).sum();
        let gauge: usize = self.gauge.iter().flat_map(|tests| tests.iter()).map(GaugeEvidence::numbers).sum();
        // what was counted, all in all and lately
        let numbers = worse + better + bounds + gauge + 5;
        (numbers * size_of::<f64>(), instances * size_of::<f64>())
    }

    /// About how many further requests a pass needs, at the rate seen now.
    pub fn requests_to_pass(&self, beta: f64) -> Option<u64> {
        let (log_e, needed) = self.pass(beta)?;
        let truth = if self.total > 0.0 { self.bad / self.total } else { 0.0 };
        let control = self.control_counts().map_or(0.0, |(bad, total)| bad / total.max(1.0));
        let level = |test: &Running| match test {
            Running::Share(_) => test.level(),
            Running::Ratio(_) => (test.level() * control).min(0.999),
        };
        let easiest = self.better.iter().flat_map(Tests::iter).map(level).fold(0.0, f64::max);
        if log_e >= needed || truth >= easiest {
            return None;
        }
        let all = requests_needed(truth, easiest, beta).ok()?;
        Some(((all as f64) * (1.0 - (log_e / needed).clamp(0.0, 0.9))).ceil() as u64)
    }

    /// The past, if it is known.
    pub fn before(&self) -> Option<&SignalBaseline> {
        self.baseline.known()
    }
}

fn fade(before: Counts, now: Counts) -> Counts {
    Counts { bad: FADES_TO * before.bad + now.bad, total: FADES_TO * before.total + now.total }
}

/// The reading of an observation, or why there is none.
fn usable(observation: &Observation) -> Result<(&Reading, Timestamp), String> {
    match (observation, observation.reading().and_then(Reading::problem)) {
        (Observation::Seen { reading, newest }, None) => Ok((reading, *newest)),
        (observation, problem) => Err(problem.or(observation.hole()).unwrap_or_default()),
    }
}

/// One bad instance among good ones, in words.
pub(crate) fn outlier_words(names: &[&str]) -> String {
    let names = names.join(" or ");
    format!("{names} is an outlier: without it the release is not shown to be worse. Look at the instance")
}
