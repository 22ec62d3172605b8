//! Turnback as a judge of the bench: the one place where the engine is plugged in.
//!
//! What judges here is what judges in production: `rules::evidence`, told of the past and of every look as the collector
//! tells it, asked for the truth of one bound at every look.

use crate::bench::scenarios::{Method, Scenario, WINDOW_SECONDS, World};
use crate::bench::{ALPHA, LOOK_SECONDS, WATCH_SECONDS};
use crate::judge::{Alarm, Judge};
use crate::traffic::{Arm, Clumps, Look, Pod, Resolution, bounds};
use jiff::Timestamp;
use rules::compare::Compare;
use rules::evidence::Evidence;
use rules::ids::{EnvironmentName, ServiceName, SignalName};
use rules::matrix::{Bound, Condition, Matrix, Row, RowVerdict, Severity, SignalCondition, Truth};
use rules::past::{Levels, Past};
use rules::ruleset::{RuleSet, Statistics, WatchSettings};
use rules::signal::{GaugeScale, Measure, Measurement, Observation, Reading, Signal};
use rules::units::{Quantity, Span, Unit};
use std::collections::BTreeMap;

/// Turnback's judge of a scenario, with one of its methods.
///
/// # Panics
/// Never: the names and numbers below are good ones.
#[must_use]
pub fn turnback(scenario: &Scenario, method: Method) -> Option<Box<dyn Judge>> {
    let rules = rule_set(scenario, method)?;
    let evidence = Evidence::new(&rules, moment(0.0));
    let name = rules.signals.keys().next()?.clone();
    Some(Box::new(Engine { rules, evidence, name, method, past: Past::default(), window: Window::default() }))
}

/// The engine over one signal and one bound.
struct Engine {
    rules: RuleSet,
    evidence: Evidence,
    name: SignalName,
    method: Method,
    past: Past,
    window: Window,
}

/// A window of history that is being put together out of looks.
#[derive(Default)]
struct Window {
    seconds: f64,
    canary: Pod,
    control: Pod,
}

/// When the made-up deployments happen.
const DEPLOYED: i64 = 1_700_000_000;

fn moment(seconds: f64) -> Timestamp {
    let millisecond = DEPLOYED * 1_000 + (seconds * 1_000.0).round() as i64;
    Timestamp::from_millisecond(millisecond).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn bound(method: Method) -> Bound {
    match method {
        Method::Absolute(percent) => {
            Bound::Above(Quantity { value: f64::from(percent) / 100.0, unit: Unit::Percent })
        }
        Method::P95Twice => Bound::TimesBaseline(2.0),
        Method::P95Half => Bound::TimesBaseline(1.5),
        Method::Ratio
        | Method::BeforeAfter
        | Method::Hybrid
        | Method::SlowClassic
        | Method::SlowNative
        | Method::Gauge => Bound::Worse,
    }
}

fn rule_set(scenario: &Scenario, method: Method) -> Option<RuleSet> {
    let name = SignalName::new("signal").ok()?;
    let measure = match scenario.world {
        World::Errors => Measure::Proportion { of: "requests".into(), bad: BTreeMap::new() },
        World::Latency => Measure::Latency { buckets: "seconds".into(), quantile: 0.95 },
        World::Gauge => Measure::Gauge { value: "level".into(), scale: GaugeScale::Level },
    };
    let condition = SignalCondition { name: name.clone(), is: bound(method) };
    let row = Row {
        name: "row".into(),
        when: Condition::Signal(condition),
        severity: Severity::P1,
        verdict: RowVerdict::Rollback,
        first: Vec::new(),
        kind: None,
        decide_within: None,
        act_within: Span::from_minutes(30),
    };
    let matrix = Matrix { summary: None, rows: vec![row] };
    let (service, environment) = (ServiceName::new("service").ok()?, EnvironmentName::new("bench").ok()?);
    let mut rules = RuleSet::unconfigured(service, environment, matrix);
    rules.signals.insert(name.clone(), Signal::new(name, "made-up", measure));
    let alone = matches!(method, Method::BeforeAfter | Method::Absolute(_) | Method::Gauge);
    let arm = |arm: &str| BTreeMap::from([("arm".to_owned(), arm.to_owned())]);
    rules.compare = (!alone).then(|| Compare {
        canary: arm("canary"),
        control: arm("control"),
        with_before: method == Method::Hybrid,
        share: None,
    });
    let cold = scenario.traffic.latency.as_ref().is_some_and(|latency| latency.cold_start.is_some());
    rules.watch = WatchSettings {
        watch_for: Span::from_seconds(WATCH_SECONDS as u64),
        look_every: Span::from_seconds(LOOK_SECONDS as u64),
        warm_up: if cold { Span::from_minutes(2) } else { Span::default() },
        ..WatchSettings::default()
    };
    // Requests that are known to fail alone are counted one by one, as in the reference; otherwise the dispersion is
    // estimated from the old release's pods before the deployment.
    let independent = matches!(scenario.traffic.errors.clumps, Clumps::Alone) && scenario.nasty.is_none();
    rules.statistics =
        Statistics { alpha: ALPHA, dispersion: independent.then_some(1.0), ..Statistics::default() };
    Some(rules)
}

impl Engine {
    fn reading(&self, pod: &Pod) -> Reading {
        let (resolution, counts) = match (&self.rules.signals[&self.name].measure, self.method) {
            (Measure::Latency { .. }, Method::SlowClassic) => (Resolution::Classic, &pod.classic),
            (Measure::Latency { .. }, _) => (Resolution::Native, &pod.native),
            _ => return Reading::Counts { bad: pod.errors as f64, total: pod.requests as f64 },
        };
        let bounds = bounds(resolution).to_vec();
        let mut counts: Vec<f64> = counts.iter().map(|count| *count as f64).collect();
        counts.resize(bounds.len() + 1, 0.0);
        Reading::Buckets { bounds, counts }
    }

    fn seen(&self, pod: &Pod, at: f64) -> Observation {
        Observation::Seen { reading: self.reading(pod), newest: moment(at) }
    }

    fn instances(&self, pods: &[Pod], arm: &str) -> BTreeMap<String, Reading> {
        let pods = pods.iter().enumerate().filter(|(_, pod)| pod.requests > 0);
        pods.map(|(number, pod)| (format!("{arm}-{number:02}"), self.reading(pod))).collect()
    }

    fn measurement(&self, seconds: f64, at: f64, observation: Observation) -> Measurement {
        Measurement::plain(self.name.clone(), moment(at - seconds), moment(at), observation)
    }

    /// Windows of ten minutes for a baseline; looks as they are for the dispersion of two arms.
    fn remember(&mut self, look: &Look) {
        if self.rules.compare.is_some() && self.rules.statistics.dispersion.is_none() {
            self.close(look.seconds, look.at, &sum(&look.canary), &sum(&look.control));
            return;
        }
        let mut window = std::mem::take(&mut self.window);
        window.seconds += look.seconds;
        add(&mut window.canary, &sum(&look.canary));
        add(&mut window.control, &sum(&look.control));
        if window.seconds >= WINDOW_SECONDS {
            self.close(window.seconds, look.at, &window.canary, &window.control);
        } else {
            self.window = window;
        }
    }

    fn close(&mut self, seconds: f64, at: f64, canary: &Pod, control: &Pod) {
        let mut both = canary.clone();
        add(&mut both, control);
        let instances = [("a".to_owned(), self.reading(canary)), ("b".to_owned(), self.reading(control))];
        let plain = self.measurement(seconds, at, self.seen(&both, at));
        self.past.trailing.push(Measurement { instances: instances.into(), ..plain });
    }
}

/// All pods of an arm as one.
fn sum(arm: &Arm) -> Pod {
    let mut sum = Pod { scraped: arm.pods.iter().any(|pod| pod.scraped), ..Pod::default() };
    arm.pods.iter().for_each(|pod| add(&mut sum, pod));
    sum
}

fn add(sum: &mut Pod, more: &Pod) {
    sum.requests += more.requests;
    sum.errors += more.errors;
    for (sum, more) in [(&mut sum.classic, &more.classic), (&mut sum.native, &more.native)] {
        sum.resize(sum.len().max(more.len()), 0);
        sum.iter_mut().zip(more).for_each(|(sum, count)| *sum += count);
    }
}

impl Judge for Engine {
    fn before(&mut self, look: &Look) {
        if let Measure::Gauge { .. } = self.rules.signals[&self.name].measure {
            let step = Span::from_seconds(look.seconds as u64);
            let empty = || Levels { step, values: Vec::new(), seasonal: Vec::new() };
            self.past.levels.get_or_insert_with(empty).values.push(look.gauge);
        } else {
            self.remember(look);
        }
    }

    fn look(&mut self, look: &Look) -> Option<Alarm> {
        if self.evidence.awaits_baseline() {
            let past = BTreeMap::from([(self.name.clone(), std::mem::take(&mut self.past))]);
            self.evidence.take_baseline(&past, &self.rules);
        }
        let nothing = || Observation::Absent { reason: "the scrape failed".into() };
        let own = match &self.rules.signals[&self.name].measure {
            Measure::Gauge { .. } => look.gauge.map_or_else(nothing, |value| Observation::Seen {
                reading: Reading::Level { value },
                newest: moment(look.at),
            }),
            _ => self.seen(&sum(&look.canary), look.at),
        };
        let measurement = Measurement {
            control: self.rules.compare.as_ref().map(|_| self.seen(&sum(&look.control), look.at)),
            instances: self.instances(&look.canary.pods, "canary"),
            ..self.measurement(look.seconds, look.at, own)
        };
        self.evidence.take(&measurement, &self.rules);
        let finding = self.evidence.finding(&self.name, bound(self.method), &self.rules.statistics);
        let alarmed = match self.method {
            // The level alone, without "and worse than the reference": what the reference table is about.
            Method::Absolute(_) => finding.log_e.is_some_and(|log_e| log_e >= finding.log_e_needed),
            _ => finding.truth == Truth::Holds,
        };
        alarmed.then_some(Alarm { because: "a bound is shown to be broken" })
    }
}
