//! The past of a signal: what it looked like before the deployment.

use super::Cut;
use crate::past::Past;
use crate::ruleset::{RuleSet, Statistics};
use crate::signal::{Measure, Measurement, Reading, Signal};
use crate::stats::{
    Baseline, BaselineWindow, Counts, FEWEST_BASELINE_REQUESTS, StatsError, bernoulli_confidence_sequence,
    beta_binomial_baseline, pair_dispersion, pearson_dispersion,
};
use crate::units::Span;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is known of a signal's past.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BaselineState {
    /// It was not asked for yet, or the answer is on its way.
    Waiting,
    /// It is known.
    Known(SignalBaseline),
    /// It is known level by level, of a gauge: so many levels.
    Levels(u32),
    /// There is none, for this reason. Comparisons with before are then unknown, never passed.
    Missing(String),
}

impl BaselineState {
    /// The baseline, if it is known.
    pub fn known(&self) -> Option<&SignalBaseline> {
        match self {
            BaselineState::Known(baseline) => Some(baseline),
            BaselineState::Waiting | BaselineState::Levels(_) | BaselineState::Missing(_) => None,
        }
    }
}

/// The past of one signal in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalBaseline {
    /// Where good ends and bad begins for this signal: for a latency the edge above its old quantile.
    pub cut: Cut,
    /// Further cuts at which a latency is compared with a control, the edges above its other old quantiles; and the share
    /// of bad trials at each.
    pub more_cuts: Vec<(Cut, f64)>,
    /// The share of bad trials at that cut.
    pub share: Baseline,
    /// How many events fail together, if there were windows enough to tell.
    pub dispersion: Option<f64>,
    /// Whether its bounds look at the same hours of earlier days, too.
    pub seasonal: bool,
    /// How long a time it covers.
    pub span: Span,
    /// Its end.
    pub until: Timestamp,
}

/// Windows on either side of a window that make up its neighbourhood, when the dispersion is estimated.
const NEIGHBOURS: usize = 6;

/// Learns the baseline from the time before the deployment, and from the same hours of earlier days: what is usual then
/// is no regression now, so the upper bound is the larger of both.
pub(super) fn learn(signal: &Signal, past: &Past, place: Place, statistics: &Statistics) -> BaselineState {
    match of_trailing(signal, &past.trailing, place, statistics) {
        Ok(mut before) => {
            let season = share(&usable(&past.seasonal), before.cut, statistics.delta).ok();
            if let Some(season) = season.filter(|season| season.windows >= FEWEST_SEASONAL) {
                before.share.upper = before.share.upper.max(season.upper);
                before.share.lower = before.share.lower.min(season.lower);
                before.seasonal = true;
            }
            BaselineState::Known(before)
        }
        Err(reason) => BaselineState::Missing(reason),
    }
}

/// Windows of earlier days that make a season.
const FEWEST_SEASONAL: usize = 12;

fn of_trailing(
    signal: &Signal,
    windows: &[Measurement],
    place: Place,
    statistics: &Statistics,
) -> Result<SignalBaseline, String> {
    let readings = usable(windows);
    let (Some((first, _)), Some((last, _))) = (readings.first(), readings.last()) else {
        let why = windows.iter().rev().find_map(|window| window.observation.hole());
        return Err(why.unwrap_or_else(|| "nothing was measured before the deployment".into()));
    };
    let values: Vec<&Reading> = readings.iter().map(|(_, reading)| *reading).collect();
    let cut = own_cut(signal, &values, place, statistics)?;
    let more_cuts = more_cuts(signal, &values, cut, place, statistics);
    let cuts = std::iter::once(cut).chain(more_cuts.iter().map(|(cut, _)| *cut));
    let dispersion = cuts.filter_map(|cut| dispersion(&readings, cut)).reduce(f64::max);
    Ok(SignalBaseline {
        cut,
        more_cuts,
        share: share(&readings, cut, statistics.delta).map_err(|error| error.to_string())?,
        dispersion,
        seasonal: false,
        span: Span::between(first.from, last.to),
        until: last.to,
    })
}

/// The windows that were measured, with what was read.
fn usable(windows: &[Measurement]) -> Vec<(&Measurement, &Reading)> {
    windows
        .iter()
        .filter_map(|window| window.observation.reading().map(|reading| (window, reading)))
        .filter(|(_, reading)| reading.problem().is_none())
        .collect()
}

/// The share of bad trials at a cut, with bounds at level `delta`.
fn share(windows: &[(&Measurement, &Reading)], cut: Cut, delta: f64) -> Result<Baseline, StatsError> {
    let trials = windows.iter().filter_map(|(_, reading)| cut.trial(reading));
    let blocks: Vec<BaselineWindow> = trials.map(|(bad, total)| BaselineWindow { bad, total }).collect();
    beta_binomial_baseline(&blocks, delta).and_then(|share| careful(share, delta))
}

/// How many events fail together at a cut. Two halves of the old release say most: what both of them went through at once
/// is no dispersion. Of several cuts the largest counts: pods that swing at the median need not swing at the 95th percentile.
fn dispersion(windows: &[(&Measurement, &Reading)], cut: Cut) -> Option<f64> {
    let trials = windows.iter().filter_map(|(_, reading)| cut.trial(reading));
    let counts: Vec<Counts> = trials.map(|(bad, total)| Counts { bad, total }).collect();
    pairs(windows, cut).or_else(|| pearson_dispersion(&counts, NEIGHBOURS).ok().flatten())
}

/// The dispersion between two halves of the old release's instances, every other one to each half, if its instances are
/// told apart and there were windows enough.
fn pairs(windows: &[(&Measurement, &Reading)], cut: Cut) -> Option<f64> {
    let half = |window: &Measurement, rest: usize| {
        let trials = window.instances.values().skip(rest).step_by(2).filter_map(|reading| cut.trial(reading));
        let (bad, total) = trials.fold((0.0, 0.0), |(bad, total), (b, t)| (bad + b, total + t));
        Counts { bad, total }
    };
    let blocks: Vec<(Counts, Counts)> = windows
        .iter()
        .filter(|(window, _)| window.instances.len() > 1)
        .map(|(window, _)| (half(window, 0), half(window, 1)))
        .collect();
    pair_dispersion(&blocks).ok().flatten()
}

/// The old quantiles at which a latency is compared with a control, besides its own.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];

/// Cuts at further quantiles, and the share of bad trials at each.
fn more_cuts(
    signal: &Signal,
    readings: &[&Reading],
    own: Cut,
    place: Place,
    statistics: &Statistics,
) -> Vec<(Cut, f64)> {
    let mut cuts: Vec<(Cut, f64)> = Vec::new();
    if !matches!(signal.measure, Measure::Latency { .. }) {
        return cuts;
    }
    for quantile in QUANTILES {
        // A quantile that too few requests or too coarse buckets cannot show is left out.
        let Ok(edge) = quantile_edge(readings, quantile, place, statistics.delta) else { continue };
        let cut = Cut::Slower(edge);
        if cut != own && !cuts.iter().any(|(known, _)| *known == cut) {
            let trials = readings.iter().filter_map(|reading| cut.trial(reading));
            let (bad, total) = trials.fold((0.0, 0.0), |(bad, total), (b, t)| (bad + b, total + t));
            cuts.push((cut, bad / total));
        }
    }
    cuts
}

/// Requests from which a quantile is taken at all.
const FEWEST_FOR_A_QUANTILE: f64 = 100.0;

/// What a control that runs beside the release says about where the quantiles of a latency lie, where its past is not
/// known. Its share is not used: the control's present is.
pub(super) fn beside(signal: &Signal, control: &Reading, rules: &RuleSet) -> Option<SignalBaseline> {
    let statistics = &rules.statistics;
    let cut = own_cut(signal, &[control], Place::AsCounted, statistics).ok()?;
    let (bad, total) = cut.trial(control)?;
    let share = beta_binomial_baseline(&[BaselineWindow { bad, total }], statistics.delta).ok()?;
    let more_cuts = more_cuts(signal, &[control], cut, Place::AsCounted, statistics);
    Some(SignalBaseline {
        cut,
        more_cuts,
        share: careful(share, statistics.delta).ok()?,
        dispersion: None,
        seasonal: false,
        span: Span::default(),
        until: Timestamp::UNIX_EPOCH,
    })
}

/// A short history is pulled towards the prior's 1 %: a service that failed half of a hundred requests would seem to
/// fail a third. Below [`FEWEST_BASELINE_REQUESTS`] the bounds are therefore at least as wide as the confidence sequence.
fn careful(share: Baseline, delta: f64) -> Result<Baseline, StatsError> {
    if share.requests >= FEWEST_BASELINE_REQUESTS {
        return Ok(share);
    }
    let shown = bernoulli_confidence_sequence(share.bad, share.requests, delta)?;
    Ok(Baseline { upper: share.upper.max(shown.upper), lower: share.lower.min(shown.lower), ..share })
}

fn own_cut(
    signal: &Signal,
    readings: &[&Reading],
    place: Place,
    statistics: &Statistics,
) -> Result<Cut, String> {
    match signal.measure {
        Measure::Proportion { .. } | Measure::Availability { .. } => Ok(Cut::Direct),
        Measure::Latency { quantile, .. } => {
            quantile_edge(readings, quantile, place, statistics.delta).map(Cut::Slower)
        }
        Measure::Gauge { .. } => Err("a gauge is known level by level".into()),
    }
}

/// Where a latency's old quantile is taken to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Where it was counted. Beside a control any edge will do that was fixed before: both arms are cut there.
    AsCounted,
    /// Where it is at most: what comes is compared with this alone, and must not be blamed for an edge set too low.
    AtMost,
}

/// The smallest bucket edge up to which at least a share `quantile` of the requests were counted; or of which that is
/// shown (at level `delta`): an upper bound of the old quantile.
fn quantile_edge(readings: &[&Reading], quantile: f64, place: Place, delta: f64) -> Result<f64, String> {
    let mut edges: Option<Vec<f64>> = None;
    let mut sums: Vec<f64> = Vec::new();
    for reading in readings {
        let Reading::Buckets { bounds, counts } = reading else { continue };
        if edges.as_ref() != Some(bounds) {
            // The layout changed: only windows with the newest layout can be compared with what comes.
            edges = Some(bounds.clone());
            sums = vec![0.0; counts.len()];
        }
        for (sum, count) in sums.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    let total: f64 = sums.iter().sum();
    let mut fast = 0.0;
    for (edge, count) in edges.iter().flatten().zip(&sums) {
        fast += count;
        let at_least = match place {
            Place::AsCounted => fast.min(total) / total.max(1.0),
            Place::AtMost => {
                let shown = bernoulli_confidence_sequence(fast.min(total), total, delta);
                shown.map_err(|error| error.to_string())?.lower
            }
        };
        if at_least >= quantile && total >= FEWEST_FOR_A_QUANTILE {
            return Ok(*edge);
        }
    }
    Err(format!(
        "too few requests before the deployment ({total}) or too coarse buckets to find the {quantile} quantile"
    ))
}
