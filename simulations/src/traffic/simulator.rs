//! Plays a world forward, block by block.

use super::latency::Durations;
use super::{Arm, Clumps, Gauge, Look, Pod, Tails, Traffic};
use crate::Dice;

/// The hour that trends and bursts are measured against, seconds.
const HOUR: f64 = 3_600.0;

/// How long a drift factor lasts, seconds.
const DRIFT_SECONDS: f64 = 600.0;

/// One watch of a world: its clock, its dice, and what pods have counted but nobody has scraped.
#[derive(Debug, Clone)]
pub struct Simulator<'world> {
    traffic: &'world Traffic,
    dice: Dice,
    now: f64,
    bursts: Vec<f64>,
    drift_until: f64,
    drift: f64,
    gauge: f64,
    canary: Side,
    control: Side,
}

/// One arm's pods between two scrapes.
#[derive(Debug, Clone)]
struct Side {
    pods: Vec<Pod>,
    durations: Option<Durations>,
}

impl<'world> Simulator<'world> {
    /// A world at `start` seconds (0 is the deployment, less is history before it).
    #[must_use]
    pub fn new(traffic: &'world Traffic, mut dice: Dice, start: f64) -> Self {
        let bursts = traffic.bursts.iter().flat_map(|bursts| (0..bursts.count).map(move |_| bursts.seconds));
        let bursts = bursts.map(|seconds| dice.share() * (HOUR - seconds)).collect();
        let gauge = dice.normal();
        let side = Side {
            pods: vec![Pod::default(); traffic.pods as usize],
            durations: traffic.latency.as_ref().map(Durations::new),
        };
        Self {
            traffic,
            dice,
            now: start,
            bursts,
            drift_until: f64::NEG_INFINITY,
            drift: 1.0,
            gauge,
            canary: side.clone(),
            control: side,
        }
    }

    /// Plays `seconds` and writes what is scraped at their end into `look`, whatever was there before.
    pub fn advance(&mut self, seconds: f64, look: &mut Look) {
        let (from, to) = (self.now, self.now + seconds);
        if to > self.drift_until {
            self.drift = (self.traffic.drift * self.dice.normal()).exp();
            self.drift_until = from + DRIFT_SECONDS.max(seconds);
        }
        let (control_share, canary_share) = self.error_shares(from, to);
        let (control_slow, canary_slow) = self.slowness(from, to);
        let world = self.traffic;
        let dice = &mut self.dice;
        let canary = Stretch { rate: world.canary_rate, seconds, share: canary_share, slow: canary_slow };
        let control = Stretch { rate: world.control_rate, seconds, share: control_share, slow: control_slow };
        self.canary.advance(world, canary, to > 0.0, dice, &mut look.canary);
        self.control.advance(world, control, false, dice, &mut look.control);
        look.gauge = self.traffic.gauge.as_ref().map(|gauge| self.gauge(gauge, to));
        if self.traffic.scrapes.missing > 0.0 && self.dice.share() < self.traffic.scrapes.missing {
            look.gauge = None;
        }
        (look.at, look.seconds, self.now) = (to, seconds, to);
    }

    /// The share of failing requests of control and canary between two times.
    fn error_shares(&self, from: f64, to: f64) -> (f64, f64) {
        let middle = f64::midpoint(from, to);
        let trend = self.traffic.trend.map_or(1.0, |trend| {
            let time = if trend.repeats { middle.rem_euclid(HOUR) } else { middle.clamp(0.0, HOUR) };
            1.0 + (trend.factor - 1.0) * (1.0 - (std::f64::consts::PI * time / HOUR).cos()) / 2.0
        });
        let errors = &self.traffic.errors;
        let bad = share_after(errors.onset, from, to);
        let control = errors.control * trend * self.drift;
        let canary = (errors.control + (errors.canary - errors.control) * bad) * trend * self.drift;
        let Some(bursts) = &self.traffic.bursts else { return (control, canary) };
        let overlap = |start: &f64| (to.min(start + bursts.seconds) - from.max(*start)).max(0.0);
        let burst = (self.bursts.iter().map(overlap).sum::<f64>() / (to - from)).min(1.0);
        let with_bursts = |share: f64| share * (1.0 - burst) + bursts.share * burst;
        (with_bursts(control), with_bursts(canary))
    }

    /// How many times slower than normal control and canary are between two times.
    fn slowness(&self, from: f64, to: f64) -> (f64, f64) {
        let Some(latency) = &self.traffic.latency else { return (1.0, 1.0) };
        let middle = f64::midpoint(from, to);
        let shift = if to > latency.onset.max(0.0) { latency.canary_factor } else { 1.0 };
        let cold = latency.cold_start.filter(|_| middle > 0.0);
        let cold = cold.map_or(1.0, |(factor, fade)| 1.0 + (factor - 1.0) * (-middle / fade).exp());
        // Below a tenth of a percent nobody can tell, and the cells need not be computed anew.
        (1.0, if cold < 1.001 { shift } else { shift * cold })
    }

    fn gauge(&mut self, gauge: &Gauge, to: f64) -> f64 {
        let innovation = match gauge.tails {
            Tails::Gauss => self.dice.normal(),
            Tails::StudentT4 => self.dice.student_t4(),
        };
        self.gauge = gauge.phi * self.gauge + (1.0 - gauge.phi * gauge.phi).sqrt() * innovation;
        let shift = if to > gauge.onset.max(0.0) { gauge.shift } else { 0.0 };
        20.0 + 10.0 * (self.gauge + shift)
    }
}

/// The part of the time between `from` and `to` that lies after `onset` and after the deployment.
fn share_after(onset: f64, from: f64, to: f64) -> f64 {
    ((to - onset.max(0.0)) / (to - from)).clamp(0.0, 1.0)
}

/// What one arm goes through in a block.
#[derive(Clone, Copy)]
struct Stretch {
    rate: f64,
    seconds: f64,
    share: f64,
    slow: f64,
}

impl Side {
    fn advance(&mut self, world: &Traffic, stretch: Stretch, canary: bool, dice: &mut Dice, arm: &mut Arm) {
        arm.pods.resize_with(self.pods.len(), Pod::default);
        let pods = self.pods.len() as f64;
        for (index, (hidden, seen)) in self.pods.iter_mut().zip(&mut arm.pods).enumerate() {
            let mut seconds = stretch.seconds;
            let restarts = world.scrapes.restarts_per_hour * seconds / HOUR;
            if restarts > 0.0 && dice.share() < restarts {
                hidden.clear();
                hidden.restarted = true;
                seconds *= dice.share();
            }
            let bad_host = world.bad_host.filter(|_| canary && index == 0);
            let share = (stretch.share * bad_host.map_or(1.0, |host| host.factor)).min(1.0);
            let requests = dice.poisson(stretch.rate * seconds / pods);
            hidden.requests += requests;
            hidden.errors += errors(requests, share, world.errors.clumps, dice);
            if let Some(durations) = &mut self.durations {
                durations.draw(requests, stretch.slow, dice, hidden);
            }
            seen.clear();
            if world.scrapes.missing > 0.0 && dice.share() < world.scrapes.missing {
                continue;
            }
            hidden.scraped = true;
            std::mem::swap(hidden, seen);
        }
    }
}

fn errors(requests: u64, share: f64, clumps: Clumps, dice: &mut Dice) -> u64 {
    let mean = requests as f64 * share;
    match clumps {
        Clumps::Alone => dice.binomial(requests, share),
        Clumps::Clusters { ratio, largest } => dice.clustered(mean, ratio, largest).min(requests),
        Clumps::Gamma { index } => dice.negative_binomial(mean, index).min(requests),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{BadHost, Bursts, Scrapes, Trend};

    /// All looks of an hour after the deployment.
    fn hour(traffic: &Traffic, seed: u64) -> Vec<Look> {
        let mut simulator = Simulator::new(traffic, Dice::new(seed), 0.0);
        let mut look = Look::default();
        let mut next = || {
            simulator.advance(10.0, &mut look);
            look.clone()
        };
        (0..360).map(|_| next()).collect()
    }

    fn share(looks: &[Look], arm: impl Fn(&Look) -> &Arm) -> f64 {
        let errors: u64 = looks.iter().map(|look| arm(look).errors()).sum();
        let requests: u64 = looks.iter().map(|look| arm(look).requests()).sum();
        errors as f64 / requests as f64
    }

    fn canary(look: &Look) -> &Arm {
        &look.canary
    }

    fn control(look: &Look) -> &Arm {
        &look.control
    }

    #[test]
    fn the_same_dice_play_the_same_hour() {
        let traffic = Traffic { pods: 3, ..Traffic::latency(10.0, 1.5) };
        assert_eq!(hour(&traffic, 1), hour(&traffic, 1));
        assert_ne!(hour(&traffic, 1), hour(&traffic, 2));
    }

    #[test]
    fn a_late_fault_shows_late_and_in_the_canary_only() {
        let mut traffic = Traffic::errors(100.0, 0.01, 0.05);
        traffic.errors.onset = 1_800.0;
        let looks = hour(&traffic, 1);
        assert!((share(&looks[..180], canary) - 0.01).abs() < 0.002);
        assert!((share(&looks[180..], canary) - 0.05).abs() < 0.004);
        assert!((share(&looks, control) - 0.01).abs() < 0.002);
    }

    #[test]
    fn trends_and_bursts_hit_both_arms() {
        let traffic = Traffic {
            trend: Some(Trend { factor: 4.0, repeats: false }),
            ..Traffic::errors(100.0, 0.01, 0.01)
        };
        let looks = hour(&traffic, 1);
        for arm in [canary, control] {
            assert!((share(&looks[..30], arm) - 0.01).abs() < 0.003);
            assert!((share(&looks[330..], arm) - 0.04).abs() < 0.005);
        }
        let bursts = Bursts { count: 3, seconds: 30.0, share: 0.2 };
        let traffic = Traffic { bursts: Some(bursts), ..Traffic::errors(100.0, 0.01, 0.01) };
        let looks = hour(&traffic, 1);
        for arm in [canary, control] {
            // 90 s at 20 % and 3,510 s at 1 %, unless two bursts overlap.
            assert!((share(&looks, arm) - 0.014_75).abs() < 0.001, "{}", share(&looks, arm));
        }
    }

    #[test]
    fn one_bad_host_is_one_pod_of_the_canary() {
        let traffic = Traffic {
            pods: 3,
            bad_host: Some(BadHost { factor: 10.0 }),
            ..Traffic::errors(300.0, 0.01, 0.01)
        };
        let looks = hour(&traffic, 1);
        let of = |pod: usize| {
            let pods = looks.iter().map(|look| &look.canary.pods[pod]);
            pods.clone().map(|pod| pod.errors).sum::<u64>() as f64
                / pods.map(|pod| pod.requests).sum::<u64>() as f64
        };
        assert!((of(0) - 0.1).abs() < 0.005 && (of(1) - 0.01).abs() < 0.002);
        assert!((share(&looks, control) - 0.01).abs() < 0.001);
    }

    #[test]
    fn a_missed_scrape_is_empty_and_the_next_one_carries_it() {
        let scrapes = Scrapes { missing: 0.2, restarts_per_hour: 0.0 };
        let whole = Traffic::errors(100.0, 0.01, 0.01);
        let holes = Traffic { scrapes, ..whole.clone() };
        let looks = hour(&holes, 1);
        let missed = looks.iter().filter(|look| !look.canary.pods[0].scraped).count();
        assert!(missed.abs_diff(72) < 35, "{missed}");
        assert!(looks.iter().all(|look| look.canary.pods[0].scraped || look.canary.requests() == 0));
        let requests = |looks: &[Look]| looks.iter().map(|look| look.canary.requests()).sum::<u64>();
        assert!(requests(&looks).abs_diff(requests(&hour(&whole, 1))) < 5_000);
    }

    #[test]
    fn a_restart_loses_what_was_not_scraped() {
        let scrapes = Scrapes { missing: 0.0, restarts_per_hour: 36.0 };
        let traffic = Traffic { scrapes, ..Traffic::errors(100.0, 0.01, 0.01) };
        let looks = hour(&traffic, 1);
        let restarts: Vec<&Look> = looks.iter().filter(|look| look.canary.pods[0].restarted).collect();
        assert!(restarts.len().abs_diff(36) < 25, "{}", restarts.len());
        let mean = restarts.iter().map(|look| look.canary.requests()).sum::<u64>() / restarts.len() as u64;
        // Half a look on average.
        assert!(mean.abs_diff(500) < 250, "{mean}");
    }

    #[test]
    fn a_cold_canary_is_slow_at_first() {
        let mut traffic = Traffic::latency(100.0, 1.0);
        traffic.latency.as_mut().unwrap().cold_start = Some((3.0, 40.0));
        let looks = hour(&traffic, 1);
        let slow = |looks: &[Look]| {
            let mut sum = Vec::new();
            looks.iter().for_each(|look| look.canary.add_buckets(super::super::Resolution::Native, &mut sum));
            super::super::quantile(0.5, &sum).unwrap()
        };
        assert!(slow(&looks[..1]) > 0.25 && (slow(&looks[60..]) - 0.1).abs() < 0.005);
    }

    #[test]
    fn a_gauge_remembers_and_shifts() {
        let traffic = Traffic::gauge(0.9, Tails::StudentT4, 4.0);
        let mut simulator = Simulator::new(&traffic, Dice::new(1), -100_000.0);
        let mut look = Look::default();
        let mut values = Vec::new();
        for _ in 0..20_000 {
            simulator.advance(10.0, &mut look);
            values.push((look.gauge.unwrap() - 20.0) / 10.0);
        }
        let (before, after) = values.split_at(10_000);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        assert!(mean(before).abs() < 0.25 && (mean(after) - 4.0).abs() < 0.25);
        let lagged = before.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>();
        let square = before.iter().map(|value| value * value).sum::<f64>();
        assert!((lagged / square - 0.9).abs() < 0.03, "{}", lagged / square);
    }
}
