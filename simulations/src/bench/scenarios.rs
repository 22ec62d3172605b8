//! The worlds that releases are watched in, as data.
//!
//! Names are keys: the reference table, the command line's pattern and the seeds of the dice use them. Rates are
//! requests a second in each arm, unless a split says otherwise.

use super::LOOK_SECONDS;
use crate::traffic::{BadHost, Bursts, Clumps, Scrapes, Tails, Traffic, Trend};

/// One kind of release in one kind of world.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// The key, readable.
    pub name: String,
    /// Which of the six hard cases in which nothing is wrong, A to F, if any.
    pub nasty: Option<char>,
    /// What is measured.
    pub world: World,
    /// What happens.
    pub traffic: Traffic,
    /// What judges may learn before the deployment: the last hour, if nothing else is said.
    pub history: History,
    /// Whether the canary is worse than the control. If not, every alarm of a peer is false.
    pub worse: bool,
    /// When the fault shows, seconds after the deployment: delays count from here.
    pub onset: f64,
    /// Of the watches that are asked for, one in so many is enough.
    pub one_in: u32,
    /// How Turnback judges it.
    pub claims: Vec<Claim>,
}

/// What a scenario measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// Failed requests.
    Errors,
    /// Durations.
    Latency,
    /// One gauge, without a control.
    Gauge,
}

/// Blocks before the deployment, oldest first: windows of ten minutes, then looks of ten seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// Windows of [`WINDOW_SECONDS`]: what a before/after baseline is made of.
    pub windows: u32,
    /// Looks of [`LOOK_SECONDS`]: what thresholds and an A/A split are made of.
    pub looks: u32,
}

/// Seconds in a window of history.
pub const WINDOW_SECONDS: f64 = 600.0;

impl History {
    /// All of it, seconds.
    #[must_use]
    pub fn seconds(self) -> f64 {
        f64::from(self.windows) * WINDOW_SECONDS + f64::from(self.looks) * LOOK_SECONDS
    }
}

/// One of Turnback's methods on a scenario, and what is true for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The method.
    pub method: Method,
    /// Whether the method's null hypothesis holds, so that every alarm is false. Not the opposite of
    /// [`Scenario::worse`]: "p95 more than twice" is wrong of a release that is 1.5 times slower.
    pub null: bool,
}

/// How Turnback judges. Levels, margins and thresholds are part of the method and fixed before the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Errors against the control: not more than 1.25 times its share. Tempered with the dispersion of the history, if
    /// there is one; without one bad pod, if there are several.
    Ratio,
    /// Errors against the history's upper bound, 1.25 times.
    BeforeAfter,
    /// The average of the two.
    Hybrid,
    /// Errors against a level: percent.
    Absolute(u8),
    /// Slow requests against the control's, classic buckets; the canary's first 120 s do not count if it starts cold.
    SlowClassic,
    /// The same with native buckets.
    SlowNative,
    /// "p95 more than twice the control's".
    P95Twice,
    /// "p95 more than 1.5 times the control's".
    P95Half,
    /// A gauge against its own history.
    Gauge,
}

impl Method {
    /// For the table and the JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ratio => "Turnback, ratio",
            Self::BeforeAfter => "Turnback, before/after",
            Self::Hybrid => "Turnback, hybrid",
            Self::Absolute(1) => "Turnback, above 1 %",
            Self::Absolute(5) => "Turnback, above 5 %",
            Self::Absolute(10) => "Turnback, above 10 %",
            Self::Absolute(_) => "Turnback, above a level",
            Self::SlowClassic => "Turnback, slow, classic",
            Self::SlowNative => "Turnback, slow, native",
            Self::P95Twice => "Turnback, p95 x2",
            Self::P95Half => "Turnback, p95 x1.5",
            Self::Gauge => "Turnback, gauge",
        }
    }
}

/// The last hour, look by look.
const HOUR: History = History { windows: 0, looks: 360 };
/// A day whose last hour is there look by look.
const DAY: History = History { windows: 138, looks: 360 };
/// A day of samples of a gauge.
const DAY_OF_SAMPLES: History = History { windows: 0, looks: 8_640 };

/// Clusters of mean 5 whose size-biased mean is 8.4, none above 17: geometric, cut.
const CLUSTERS: Clumps = Clumps::Clusters { ratio: 0.805, largest: 17 };

/// Every scenario, hard cases first.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    nasty(&mut all);
    errors(&mut all);
    levels(&mut all);
    splits(&mut all);
    late(&mut all);
    overdispersed(&mut all);
    latency(&mut all);
    gauges(&mut all);
    all
}

impl Scenario {
    fn of(name: String, world: World, traffic: Traffic, worse: bool, methods: &[Method]) -> Self {
        let claims = methods.iter().map(|method| Claim { method: *method, null: !worse }).collect();
        Self { name, nasty: None, world, traffic, history: HOUR, worse, onset: 0.0, one_in: 5, claims }
    }

    fn hard(self, letter: char) -> Self {
        Self { nasty: Some(letter), one_in: 1, ..self }
    }

    fn knowing(self, history: History) -> Self {
        Self { history, ..self }
    }
}

/// A world of errors in which the canary fails as often as the control.
fn calm(name: &str, traffic: Traffic, methods: &[Method]) -> Scenario {
    Scenario::of(name.to_owned(), World::Errors, traffic, false, methods)
}

/// A to F: nothing is wrong, and it looks as if.
fn nasty(all: &mut Vec<Scenario>) {
    let ratio = &[Method::Ratio];
    let trend = Some(Trend { factor: 4.0, repeats: true });
    let day = Traffic { trend, ..Traffic::errors(100.0, 0.01, 0.01) };
    let both = &[Method::Ratio, Method::BeforeAfter];
    all.push(calm("A diurnal x4, R=100", day, both).knowing(DAY).hard('A'));
    let bursts = Some(Bursts { count: 3, seconds: 30.0, share: 0.2 });
    let shared = Traffic { bursts, ..Traffic::errors(10.0, 0.01, 0.01) };
    all.push(calm("B shared bursts, R=10", shared, ratio).hard('B'));
    for (name, clumps) in [
        ("C clustered errors, R=10", CLUSTERS),
        ("C errors of a varying level, index 8.4, R=10", Clumps::Gamma { index: 8.4 }),
    ] {
        let mut traffic = Traffic::errors(10.0, 0.01, 0.01);
        traffic.errors.clumps = clumps;
        all.push(calm(name, traffic, ratio).hard('C'));
    }
    for rate in [100, 1_000] {
        let name = format!("D tolerated ratio 1.25, R={rate}");
        let traffic = Traffic::errors(f64::from(rate), 0.01, 0.0125);
        all.push(calm(&name, traffic, ratio).hard('D'));
    }
    for rate in [10, 100] {
        let mut traffic = Traffic::latency(f64::from(rate), 1.0);
        if let Some(latency) = &mut traffic.latency {
            latency.cold_start = Some((3.0, 40.0));
        }
        let name = format!("E cold start x3, R={rate}");
        let methods = &[Method::SlowClassic];
        all.push(Scenario::of(name, World::Latency, traffic, false, methods).hard('E'));
    }
    for pods in [3, 10] {
        let name = format!("F one bad host of {pods}, R=100");
        let bad_host = Some(BadHost { factor: 10.0 });
        let traffic = Traffic { pods, bad_host, ..Traffic::errors(100.0, 0.01, 0.01) };
        all.push(calm(&name, traffic, ratio).hard('F'));
    }
    let scrapes = Scrapes { missing: 0.05, restarts_per_hour: 2.0 };
    let traffic = Traffic { scrapes, pods: 3, ..Traffic::errors(100.0, 0.01, 0.01) };
    all.push(calm("holes and restarts, R=100", traffic, ratio));
}

/// Error steps at the deployment.
fn errors(all: &mut Vec<Scenario>) {
    for rate in [1, 10, 100, 1_000] {
        for (control, canary) in
            [(0.01, 0.01), (0.001, 0.001), (0.01, 0.02), (0.01, 0.05), (0.01, 0.10), (0.01, 0.20)]
        {
            let traffic = Traffic::errors(f64::from(rate), control, canary);
            let worse = canary > control;
            let (from, to) = (control * 100.0, canary * 100.0);
            let name =
                if worse { format!("R={rate}, {from}->{to} %") } else { format!("R={rate}, {from} %") };
            let methods = [Method::Ratio, Method::BeforeAfter, Method::Hybrid];
            let mut scenario = Scenario::of(name, World::Errors, traffic, worse, &methods).knowing(DAY);
            if rate == 1 {
                let level = |percent: u8| Claim {
                    method: Method::Absolute(percent),
                    null: canary <= f64::from(percent) / 100.0,
                };
                scenario.claims.extend([level(10), level(5)]);
            }
            all.push(scenario);
        }
    }
    let traffic = Traffic { pods: 3, ..Traffic::errors(100.0, 0.01, 0.05) };
    let name = "R=100, 1->5 %, 3 pods".to_owned();
    all.push(Scenario::of(name, World::Errors, traffic, true, &[Method::Ratio]));
}

/// Errors at a level, and above it: the absolute tests.
fn levels(all: &mut Vec<Scenario>) {
    for (percent, rate) in [(10, 1), (10, 10), (5, 10), (1, 100)] {
        let share = f64::from(percent) / 100.0;
        let name = format!("R={rate}, at the level {percent} %");
        let traffic = Traffic::errors(f64::from(rate), share, share);
        all.push(calm(&name, traffic, &[Method::Absolute(percent)]));
    }
    for (rate, canary) in [(1, 0.5), (10, 0.2)] {
        let name = format!("R={rate}, 10->{} %", canary * 100.0);
        let traffic = Traffic::errors(f64::from(rate), 0.1, canary);
        all.push(Scenario::of(name, World::Errors, traffic, true, &[Method::Absolute(10)]));
    }
}

/// A canary that gets 5 % of the traffic.
fn splits(all: &mut Vec<Scenario>) {
    for (total, canary) in [(100, 0.01), (100, 0.02), (100, 0.05), (10, 0.01), (10, 0.05), (10, 0.10)] {
        let (total_rate, worse) = (f64::from(total), canary > 0.01);
        let errors = Traffic::errors(0.0, 0.01, canary);
        let traffic = Traffic { canary_rate: 0.05 * total_rate, control_rate: 0.95 * total_rate, ..errors };
        let to = canary * 100.0;
        let name =
            if worse { format!("5/95 of {total}, 1->{to} %") } else { format!("5/95 of {total}, 1 %") };
        all.push(Scenario::of(name, World::Errors, traffic, worse, &[Method::Ratio]));
    }
}

/// G: a fault that shows after half an hour.
fn late(all: &mut Vec<Scenario>) {
    for rate in [1, 10] {
        let mut traffic = Traffic::errors(f64::from(rate), 0.01, 0.05);
        traffic.errors.onset = 1_800.0;
        let name = format!("G late onset, R={rate}, 1->5 %");
        let scenario = Scenario::of(name, World::Errors, traffic, true, &[Method::Ratio]);
        all.push(Scenario { onset: 1_800.0, ..scenario });
    }
}

/// What the tempering costs, and a history that drifts.
fn overdispersed(all: &mut Vec<Scenario>) {
    for (rate, canary) in [(10, 0.05), (10, 0.10), (10, 0.20), (100, 0.05), (100, 0.10), (100, 0.20)] {
        let mut traffic = Traffic::errors(f64::from(rate), 0.01, canary);
        traffic.errors.clumps = CLUSTERS;
        let name = format!("clustered, R={rate}, 1->{} %", canary * 100.0);
        all.push(Scenario::of(name, World::Errors, traffic, true, &[Method::Ratio]));
    }
    for (rate, canary) in [(10, 0.01), (100, 0.01), (100, 0.05)] {
        let traffic = Traffic { drift: 0.3, ..Traffic::errors(f64::from(rate), 0.01, canary) };
        let to = canary * 100.0;
        let worse = canary > 0.01;
        let name =
            if worse { format!("drifting, R={rate}, 1->{to} %") } else { format!("drifting, R={rate}, 1 %") };
        let methods = [Method::BeforeAfter, Method::Ratio];
        all.push(Scenario::of(name, World::Errors, traffic, worse, &methods).knowing(DAY));
    }
}

/// Durations that grow at the deployment.
fn latency(all: &mut Vec<Scenario>) {
    for rate in [1, 10, 100, 1_000] {
        for factor in [1.0, 1.2, 1.5, 2.0, 3.0] {
            let traffic = Traffic::latency(f64::from(rate), factor);
            let worse = factor > 1.0;
            let name =
                if worse { format!("latency, R={rate}, x{factor}") } else { format!("latency, R={rate}") };
            let methods = [Method::SlowClassic, Method::SlowNative];
            let mut scenario = Scenario::of(name, World::Latency, traffic, worse, &methods);
            // Many requests a look cost time and decide at the first looks, the same ones in nearly every watch.
            scenario.one_in = if rate >= 100 { 25 } else { 5 };
            scenario.claims.push(Claim { method: Method::P95Twice, null: factor <= 2.0 });
            scenario.claims.push(Claim { method: Method::P95Half, null: factor <= 1.5 });
            all.push(scenario);
        }
    }
}

/// Gauges with a memory.
fn gauges(all: &mut Vec<Scenario>) {
    for phi in [0.0, 0.5, 0.9, 0.98] {
        for (tails, shift) in [
            (Tails::Gauss, 0.0),
            (Tails::StudentT4, 0.0),
            (Tails::Gauss, 1.0),
            (Tails::Gauss, 2.0),
            (Tails::Gauss, 4.0),
        ] {
            let kind = if tails == Tails::Gauss { "Gauss" } else { "t4" };
            let what = if shift > 0.0 { format!("+{shift} sd") } else { kind.to_owned() };
            let name = format!("gauge, phi={phi}, {what}");
            let traffic = Traffic::gauge(phi, tails, shift);
            let scenario = Scenario::of(name, World::Gauge, traffic, shift > 0.0, &[Method::Gauge]);
            // A detector is calibrated on a day of samples before each watch, which costs more than the watch.
            let scenario = Scenario { one_in: 25, ..scenario };
            all.push(scenario.knowing(DAY_OF_SAMPLES));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_keys_and_every_hard_case_is_there() {
        let all = all();
        let names: BTreeSet<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
        for Scenario { name, history, claims, .. } in &all {
            assert!(history.looks >= HOUR.looks && !claims.is_empty(), "{name}");
        }
        let letters: BTreeSet<char> = all.iter().filter_map(|scenario| scenario.nasty).collect();
        assert_eq!(letters, ('A'..='F').collect());
    }
}
