//! What the engine costs: made-up signals that are measured by `benches/speed`, and how much they have to remember.
//!
//! Nothing here asks for the time. A signal is configured as a service would configure it, under a matrix that ships,
//! and told of a past and of looks as the collector tells it.

use crate::Dice;
use crate::bench::{LOOK_SECONDS, WATCH_SECONDS};
use crate::traffic::{Resolution, bounds};
use jiff::Timestamp;
use rules::compare::Compare;
use rules::evidence::{Evidence, Finding};
use rules::ids::{EnvironmentName, ServiceName, SignalName};
use rules::matrix::Bound;
use rules::past::{Levels, Past};
use rules::ruleset::{RuleSet, Statistics, WatchSettings, shipped_matrix};
use rules::signal::{GaugeScale, Measure, Measurement, Observation, Reading, Signal};
use rules::units::Span;
use std::collections::BTreeMap;

/// Most bytes that the tests of one signal may have to remember.
pub const MOST_STATE_BYTES: usize = 2_048;
/// Requests of one arm in a look: 50 a second.
const REQUESTS: u64 = 50 * LOOK_SECONDS as u64;
/// Their share of errors.
const ERRORS: f64 = 0.01;
/// When the made-up deployments happen.
const DEPLOYED: i64 = 1_700_000_000;

/// The kinds of signals that services have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A share of failed requests, `errors` in the matrices that ship.
    Proportion,
    /// Durations in native histograms, `latency`.
    Latency,
    /// A queue, `queue_depth`.
    Gauge,
}

/// What a release is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// The control that runs beside it.
    Control,
    /// The control, and the time before the deployment: with everything on.
    Both,
    /// The time before the deployment.
    Before,
}

/// A service with one signal.
#[derive(Debug, Clone)]
pub struct Service {
    kind: Kind,
    rules: RuleSet,
    name: SignalName,
    bounds: Vec<Bound>,
    dice: Dice,
    looks: u32,
}

/// How much one signal has to remember, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// All of its tests.
    pub tests: usize,
    /// Leaving each instance out, beside that.
    pub instances: usize,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Proportion, Self::Latency, Self::Gauge];

    /// As one word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Proportion => "proportion",
            Self::Latency => "latency",
            Self::Gauge => "gauge",
        }
    }

    fn signal(self) -> Option<Signal> {
        let (name, measure) = match self {
            Self::Proportion => {
                let bad = BTreeMap::from([("code".to_owned(), "5..".to_owned())]);
                ("errors", Measure::Proportion { of: "http_requests_total".into(), bad })
            }
            Self::Latency => {
                ("latency", Measure::Latency { buckets: "http_request_seconds".into(), quantile: 0.95 })
            }
            Self::Gauge => {
                ("queue_depth", Measure::Gauge { value: "jobs".into(), scale: GaugeScale::Backlog })
            }
        };
        Some(Signal::new(SignalName::new(name).ok()?, "made-up", measure))
    }
}

impl Reference {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Control, Self::Both, Self::Before];

    /// In a few words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Control => "beside a control",
            Self::Both => "beside a control and with before",
            Self::Before => "with before",
        }
    }
}

impl Service {
    /// A service with one signal of this kind, under the matrix of this name. `None` if no such matrix ships.
    #[must_use]
    pub fn new(kind: Kind, matrix: &str, reference: Reference) -> Option<Self> {
        let matrix = shipped_matrix(matrix)?;
        let signal = kind.signal()?;
        let name = signal.name.clone();
        let conditions = matrix.rows.iter().flat_map(|row| row.when.signal_conditions());
        let bounds =
            conditions.filter(|condition| condition.name == name).map(|condition| condition.is).collect();
        let service = (ServiceName::new("service").ok()?, EnvironmentName::new("bench").ok()?);
        let mut rules = RuleSet::unconfigured(service.0, service.1, matrix);
        rules.signals.insert(name.clone(), signal);
        let arm = |version: &str| BTreeMap::from([("version".to_owned(), version.to_owned())]);
        rules.compare = (reference != Reference::Before).then(|| Compare {
            canary: arm("{{version}}"),
            control: arm("{{previous}}"),
            with_before: reference == Reference::Both,
            share: None,
        });
        rules.watch = WatchSettings {
            watch_for: Span::from_seconds(WATCH_SECONDS as u64),
            look_every: Span::from_seconds(LOOK_SECONDS as u64),
            warm_up: Span::default(),
            ..WatchSettings::default()
        };
        rules.statistics = Statistics::default();
        Some(Self { kind, rules, name, bounds, dice: Dice::of(1, "cost", 0), looks: 0 })
    }

    /// Evidence at the moment of a deployment, its past known.
    #[must_use]
    pub fn deployed(&mut self) -> Evidence {
        let mut evidence = Evidence::new(&self.rules, moment(0.0));
        let past = self.past();
        evidence.take_baseline(&BTreeMap::from([(self.name.clone(), past)]), &self.rules);
        evidence
    }

    /// The next look at a release that is as good as its reference, on so many instances; with 0, or with a gauge, they
    /// are not told apart.
    pub fn look(&mut self, instances: u32) -> Measurement {
        let from = f64::from(self.looks) * LOOK_SECONDS;
        self.looks += 1;
        let instances = if self.kind == Kind::Gauge { 0 } else { instances };
        let each = REQUESTS / u64::from(instances.max(1));
        let pods: BTreeMap<String, Reading> =
            (0..instances).map(|pod| (format!("checkout-7d9c5b6f44-{pod:05}"), self.reading(each))).collect();
        let own = pods.values().cloned().reduce(|sum, pod| sum.plus(&pod).unwrap_or(sum));
        let own = own.unwrap_or_else(|| self.reading(REQUESTS));
        let control = self.rules.compare.is_some().then(|| self.reading(REQUESTS));
        let plain = self.measurement(from, from + LOOK_SECONDS, own);
        let control = control.map(|reading| Observation::Seen { reading, newest: plain.to });
        Measurement { control, instances: pods, ..plain }
    }

    /// What the look before could have been as well: other numbers for the same window.
    pub fn look_again(&mut self, instances: u32) -> Measurement {
        self.looks = self.looks.saturating_sub(1);
        self.look(instances)
    }

    /// Takes a look in.
    pub fn take(&self, evidence: &mut Evidence, look: &Measurement) {
        evidence.take(look, &self.rules);
    }

    /// What every row of the matrix wants to know of the signal: a finding for each of its conditions.
    pub fn findings<'a>(&'a self, evidence: &'a Evidence) -> impl Iterator<Item = Finding> + 'a {
        self.bounds.iter().map(|bound| evidence.finding(&self.name, *bound, &self.rules.statistics))
    }

    /// How much the signal remembers after half an hour on so many instances.
    #[must_use]
    pub fn state_after_looks(mut self, instances: u32) -> State {
        let mut evidence = self.deployed();
        for _ in 0..(WATCH_SECONDS / LOOK_SECONDS / 2.0) as u32 {
            let look = self.look(instances);
            self.take(&mut evidence, &look);
        }
        let (tests, instances) =
            evidence.signals.get(&self.name).map_or((0, 0), |signal| signal.state_bytes());
        State { tests, instances }
    }

    fn measurement(&self, from: f64, to: f64, reading: Reading) -> Measurement {
        let (from, to) = (moment(from), moment(to));
        Measurement::plain(self.name.clone(), from, to, Observation::Seen { reading, newest: to })
    }

    /// Two hours in windows of ten minutes, and the last ten minutes; of a gauge six hours of levels.
    fn past(&mut self) -> Past {
        if self.kind == Kind::Gauge {
            let step = self.rules.watch.look_every;
            let count = (6.0 * WATCH_SECONDS / LOOK_SECONDS) as u32;
            let values = (0..count).map(|_| Some(self.level())).collect();
            return Past { levels: Some(Levels { step, values, seasonal: Vec::new() }), ..Past::default() };
        }
        let mut windows = |count: i32, seconds: f64| -> Vec<Measurement> {
            let requests = (seconds / LOOK_SECONDS) as u64 * REQUESTS;
            let begin = |number: i32| -f64::from(number) * seconds;
            let mut window = |number| {
                let reading = self.reading(requests);
                self.measurement(begin(number), begin(number - 1), reading)
            };
            (1..=count).rev().map(&mut window).collect()
        };
        Past { trailing: windows(12, 600.0), recent: windows(10, 60.0), ..Past::default() }
    }

    fn level(&mut self) -> f64 {
        (100.0 + 10.0 * self.dice.normal()).max(0.0)
    }

    fn reading(&mut self, requests: u64) -> Reading {
        match self.kind {
            Kind::Proportion => {
                Reading::Counts { bad: self.dice.binomial(requests, ERRORS) as f64, total: requests as f64 }
            }
            Kind::Gauge => Reading::Level { value: self.level() },
            Kind::Latency => {
                let bounds = bounds(Resolution::Native).to_vec();
                let mut counts = vec![0.0; bounds.len() + 1];
                // A tenth of the requests, each for ten: only where they lie matters here.
                for _ in 0..requests / 10 {
                    let seconds = self.dice.lognormal(0.1, 0.5);
                    counts[bounds.partition_point(|bound| *bound < seconds)] += 10.0;
                }
                Reading::Buckets { bounds, counts }
            }
        }
    }
}

fn moment(seconds: f64) -> Timestamp {
    let millisecond = DEPLOYED * 1_000 + (seconds * 1_000.0).round() as i64;
    Timestamp::from_millisecond(millisecond).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_stays_within_its_bytes() {
        for matrix in ["canary", "standard", "cautious"] {
            for (kind, reference) in Kind::ALL.iter().flat_map(|kind| Reference::ALL.map(|one| (*kind, one)))
            {
                let state = Service::new(kind, matrix, reference).unwrap().state_after_looks(0);
                let what = format!("{} under {matrix}, {}: {state:?}", kind.word(), reference.words());
                assert!(state.tests <= MOST_STATE_BYTES, "{what}, {MOST_STATE_BYTES} are allowed");
                // Less would mean that something is not counted.
                assert!(state.tests > 1_000, "{what}");
                assert_eq!(state.instances, 0, "{what}");
            }
        }
    }

    #[test]
    fn instances_are_paid_for_beside_it_and_only_so_many() {
        let state = |pods| {
            Service::new(Kind::Proportion, "canary", Reference::Control).unwrap().state_after_looks(pods)
        };
        let (none, three, many, more) = (state(0), state(3), state(8), state(32));
        assert_eq!([none.tests; 3], [three.tests, many.tests, more.tests]);
        assert!(three.instances > 0 && three.instances < many.instances);
        // Eight tests share all pods, and each pod is remembered by three numbers; a look tells at most 32 apart.
        assert!(more.instances <= many.instances + 32 * 3 * 8, "{more:?} {many:?}");
    }

    #[test]
    fn a_look_brings_a_finding_for_each_condition() {
        let mut service = Service::new(Kind::Proportion, "canary", Reference::Control).unwrap();
        let mut evidence = service.deployed();
        for _ in 0..7 {
            let look = service.look(3);
            service.take(&mut evidence, &look);
        }
        let findings: Vec<Finding> = service.findings(&evidence).collect();
        assert_eq!(findings.len(), 4);
        assert!(findings.iter().all(|finding| finding.log_e.is_some()), "{findings:?}");
    }
}
