//! Signals: what is measured, which way is bad, how much it matters; and measurements, holes included.

use crate::ids::SignalName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How much a signal matters for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Without it we are blind, and without its own proof nothing is `Healthy`.
    Critical,
    /// It can hold a verdict of `Healthy` back; its absence does not blind us.
    Supporting,
    /// Shown, matched by rows, nothing more.
    Informational,
}

/// What is read from a source. Selectors are instant-vector selectors (`name{label="value"}`), never `rate(...)`:
/// raw samples are differenced here, per series, so that a counter's reset is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    /// Counters; a part of the events is bad. Unit: events.
    Proportion {
        /// All events: `http_requests_total{service="checkout"}`.
        of: String,
        /// Which of those series count as bad: label → regular expression over the whole value. One selector for
        /// both keeps a mistyped metric name from looking like "no errors".
        bad: BTreeMap<String, String>,
    },
    /// A histogram of durations, in seconds. Bad is slow.
    Latency {
        /// The bucket series of a classic histogram: `http_request_duration_seconds_bucket{service="checkout"}`; or native
        /// histograms: the name without `_bucket`.
        buckets: String,
        /// The quantile that is compared, e.g. 0.95.
        #[serde(default = "default_quantile")]
        quantile: f64,
    },
    /// Samples that are 1 when up and 0 when down: `up{job="checkout"}`. Bad is down.
    Availability {
        /// The series of 0 and 1.
        up: String,
    },
    /// A value that goes up and down, such as a queue's depth. Bad is high.
    Gauge {
        /// The series; the largest of them counts.
        value: String,
        /// What kind of value it is, so that "twice as much" is the same distance at noon and at midnight.
        #[serde(default)]
        scale: GaugeScale,
    },
}

/// What kind of value a gauge is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GaugeScale {
    /// Something that piles up: items, jobs, bytes; zero or more.
    #[default]
    Backlog,
    /// A time, such as a p95 that is exported as a number; more than zero.
    Duration,
    /// A share or a temperature: differences count, not ratios.
    Level,
}

fn default_quantile() -> f64 {
    0.95
}

impl Measure {
    /// The role a signal of this kind has unless the configuration says otherwise.
    pub fn default_role(&self) -> Role {
        match self {
            Measure::Proportion { .. } | Measure::Availability { .. } => Role::Critical,
            Measure::Latency { .. } => Role::Supporting,
            Measure::Gauge { .. } => Role::Informational,
        }
    }

    /// This kind's share of the release's error budget α before normalisation over the configured signals.
    pub fn budget_weight(&self) -> f64 {
        match self {
            Measure::Proportion { .. } => 0.5,
            Measure::Latency { .. } => 0.3,
            Measure::Availability { .. } | Measure::Gauge { .. } => 0.1,
        }
    }

    /// The selector that is read.
    pub fn selector(&self) -> &str {
        match self {
            Measure::Proportion { of, .. } => of,
            Measure::Latency { buckets, .. } => buckets,
            Measure::Availability { up } => up,
            Measure::Gauge { value, .. } => value,
        }
    }

    /// The kind as one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Measure::Proportion { .. } => "proportion",
            Measure::Latency { .. } => "latency",
            Measure::Availability { .. } => "availability",
            Measure::Gauge { .. } => "gauge",
        }
    }
}

/// A signal of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// Its name within the service.
    pub name: SignalName,
    /// How much it matters.
    pub role: Role,
    /// The configured signal source that answers for it.
    pub source: String,
    /// What is read.
    pub measure: Measure,
    /// The series of 0 and 1 that say which targets ought to report, for coverage: `up{job="checkout"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
    /// Its share of the release's error budget relative to the other signals'; by its kind if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Whether canary and control are told apart in it, where the service compares them.
    #[serde(default = "yes")]
    pub compare: bool,
}

fn yes() -> bool {
    true
}

impl Signal {
    /// A signal of this name with the role of its kind and nothing else said about it.
    pub fn new(name: SignalName, source: impl Into<String>, measure: Measure) -> Self {
        let role = measure.default_role();
        Self { name, role, source: source.into(), measure, targets: None, weight: None, compare: true }
    }

    /// Its part of the error budget, before normalisation over all signals.
    pub fn budget_weight(&self) -> f64 {
        self.weight.unwrap_or_else(|| self.measure.budget_weight())
    }
}

/// What was read in one window, reduced to what the tests need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reading {
    /// `bad` of `total` trials (events; or samples that were down). `0 ≤ bad ≤ total`, finite.
    Counts {
        /// Bad trials.
        bad: f64,
        /// All trials.
        total: f64,
    },
    /// Events per bucket (not cumulative), one more than there are finite upper bounds (the last is +Inf).
    Buckets {
        /// Finite upper bounds in seconds, ascending.
        bounds: Vec<f64>,
        /// Events in each bucket.
        counts: Vec<f64>,
    },
    /// The largest value over all series, at the newest sample.
    Level {
        /// The value, finite.
        value: f64,
    },
}

impl Reading {
    /// How many numbers it is made of, a count and an edge for each bucket: what it takes to write it down.
    pub fn numbers(&self) -> usize {
        match self {
            Reading::Buckets { counts, .. } => 2 * counts.len(),
            Reading::Counts { .. } | Reading::Level { .. } => 2,
        }
    }

    /// Why these numbers cannot be used, in words; `None` if they can. Whatever passes here cannot poison a running test.
    pub fn problem(&self) -> Option<String> {
        match self {
            Reading::Counts { bad, total } => {
                let good = bad.is_finite() && total.is_finite() && *bad >= 0.0 && bad <= total;
                (!good).then(|| format!("{bad} bad of {total} is no count of trials"))
            }
            Reading::Buckets { bounds, counts } => {
                let finite = |values: &[f64]| values.iter().all(|value| value.is_finite());
                if counts.len() != bounds.len() + 1 {
                    Some(format!("{} bounds need one bucket more, not {}", bounds.len(), counts.len()))
                } else if !finite(bounds) || !bounds.is_sorted_by(|low, high| low < high) {
                    Some("the bounds of the buckets do not rise".into())
                } else if !finite(counts) || counts.iter().any(|count| *count < 0.0) {
                    Some("a bucket holds a number that is no count".into())
                } else {
                    None
                }
            }
            Reading::Level { value } => (!value.is_finite()).then(|| format!("{value} is no level")),
        }
    }

    /// Both readings added up, if they are of one kind and layout.
    pub fn plus(&self, other: &Reading) -> Option<Reading> {
        match (self, other) {
            (Reading::Counts { bad, total }, Reading::Counts { bad: more_bad, total: more }) => {
                Some(Reading::Counts { bad: bad + more_bad, total: total + more })
            }
            (Reading::Buckets { bounds, counts }, Reading::Buckets { bounds: others, counts: more })
                if bounds == others =>
            {
                let counts = counts.iter().zip(more).map(|(one, two)| one + two).collect();
                Some(Reading::Buckets { bounds: bounds.clone(), counts })
            }
            _ => None,
        }
    }

    /// Whether there was anything to count. A window without traffic is neither good nor bad.
    pub fn is_empty(&self) -> bool {
        match self {
            Reading::Counts { total, .. } => *total <= 0.0,
            Reading::Buckets { counts, .. } => counts.iter().sum::<f64>() <= 0.0,
            Reading::Level { .. } => false,
        }
    }
}

/// What came of asking for one signal over one window. Absence is a value here: it is never a zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Observation {
    /// Data from enough of the targets.
    Seen {
        /// The data.
        reading: Reading,
        /// The time of the newest sample in it.
        newest: Timestamp,
    },
    /// Data, but from too few of the targets that ought to report: shown, never used.
    Partial {
        /// Targets that reported.
        reporting: u32,
        /// Targets that ought to.
        expected: u32,
    },
    /// The source answered, and there was nothing fresh.
    Absent {
        /// In words: what was looked for, and how old the newest sample is.
        reason: String,
    },
    /// The source did not answer, or not with something that can be used.
    Failed {
        /// In words.
        reason: String,
    },
}

impl Observation {
    /// The data, if it may be used.
    pub fn reading(&self) -> Option<&Reading> {
        match self {
            Observation::Seen { reading, .. } => Some(reading),
            Observation::Partial { .. } | Observation::Absent { .. } | Observation::Failed { .. } => None,
        }
    }

    /// Why there is no usable data, in words; `None` if there is.
    pub fn hole(&self) -> Option<String> {
        match self {
            Observation::Seen { .. } => None,
            Observation::Partial { reporting, expected } => {
                Some(format!("only {reporting} of {expected} targets report"))
            }
            Observation::Absent { reason } => Some(format!("no data: {reason}")),
            Observation::Failed { reason } => Some(format!("the source failed: {reason}")),
        }
    }
}

/// One signal over one window `(from, to]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Which signal.
    pub signal: SignalName,
    /// The window's beginning (exclusive).
    pub from: Timestamp,
    /// The window's end (inclusive).
    pub to: Timestamp,
    /// What was seen: of the canary, where canary and control are compared; otherwise of the whole service.
    pub observation: Observation,
    /// What was seen of the control in the same window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Observation>,
    /// The same as in `observation`, for each instance that had any; empty if they cannot be told apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub instances: BTreeMap<String, Reading>,
}

/// Numbers of instances in one measurement: every look becomes a record of the ledger, which takes a MiB.
const MOST_INSTANCE_NUMBERS: usize = 3_000;

impl Measurement {
    /// A measurement of one arm, its instances not told apart.
    pub fn plain(signal: SignalName, from: Timestamp, to: Timestamp, observation: Observation) -> Self {
        Self { signal, from, to, observation, control: None, instances: BTreeMap::new() }
    }

    /// The same measurement, with numbers that cannot be used turned into a failure that says so. Everything that is
    /// written down goes through here: a NaN in the ledger could not even be read back.
    pub fn checked(mut self) -> Self {
        for observation in std::iter::once(&mut self.observation).chain(&mut self.control) {
            if let Some(reason) = observation.reading().and_then(Reading::problem) {
                *observation = Observation::Failed { reason };
            }
        }
        self.instances.retain(|_, reading| reading.problem().is_none());
        if self.instances.values().map(Reading::numbers).sum::<usize>() > MOST_INSTANCE_NUMBERS {
            // Without them nothing is learned from this window about single instances, and the release is not accused.
            self.instances.clear();
        }
        self
    }
}
