//! One bound of a checkpoint, looked at.

use super::Target;
use super::tally::{Sum, Tally};
use crate::ids::SignalName;
use crate::signal::{Measure, Reading, Signal};
use crate::stats::{Interval, bernoulli_confidence_sequence};
use crate::units::{Quantity, Span};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Levels of a gauge in a row that must agree: there is no interval for a single number.
const ENOUGH_LEVELS: usize = 5;

/// Whether a bound is kept. The worst sorts last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The whole interval lies on the good side.
    Kept,
    /// Neither is shown.
    Unknown,
    /// The whole interval lies on the bad side.
    Broken,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Kept => "kept",
            Standing::Unknown => "unknown",
            Standing::Broken => "broken",
        })
    }
}

/// One bound of a checkpoint, looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    /// The signal.
    pub signal: SignalName,
    /// What it must be.
    pub target: Target,
    /// Whether it is.
    pub standing: Standing,
    /// What was seen, in words: the number, its interval, of how many.
    pub seen: String,
    /// Why it is unknown, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

impl Checked {
    /// One line.
    pub fn words(&self) -> String {
        let Self { signal, target, standing, seen, missing } = self;
        let missing = missing.as_ref().map(|missing| format!(" ({missing})")).unwrap_or_default();
        format!("{signal} {target}: {standing}, {seen}{missing}")
    }
}

/// What is said of one bound before it is known whose it is.
struct Says {
    standing: Standing,
    seen: String,
    missing: Option<String>,
}

impl Says {
    fn unknown(seen: impl Into<String>, missing: impl Into<String>) -> Self {
        Self { standing: Standing::Unknown, seen: seen.into(), missing: Some(missing.into()) }
    }
}

/// How sure an interval is: it misses the truth with probability `beta` at most; and how many events fail together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Certainty {
    pub beta: f64,
    pub cluster: f64,
}

/// Looks at one bound of one signal.
pub(crate) fn check(signal: &Signal, target: Target, tally: &Tally, certainty: Certainty) -> Checked {
    let Says { standing, seen, missing } = match (target.misfit(&signal.measure), tally.of(&signal.name)) {
        (Some(misfit), _) => Says::unknown("not looked at", misfit),
        (None, None) => Says::unknown("nothing was seen", "it was not measured"),
        (None, Some(sum)) => with_data(signal, target, sum, certainty),
    };
    Checked { signal: signal.name.clone(), target, standing, seen, missing }
}

fn with_data(signal: &Signal, target: Target, sum: &Sum, certainty: Certainty) -> Says {
    let says = match &signal.measure {
        Measure::Gauge { .. } => of_levels(target, sum),
        Measure::Latency { quantile, .. } => of_buckets(*quantile, target, sum, certainty),
        Measure::Proportion { .. } | Measure::Availability { .. } => of_counts(target, sum, certainty),
    };
    // What was seen before the telemetry broke says nothing about now.
    match &sum.hole {
        Some(hole) => Says::unknown(says.seen, hole.clone()),
        None => says,
    }
}

fn of_levels(target: Target, sum: &Sum) -> Says {
    let Some(now) = sum.levels.back() else {
        return Says::unknown("nothing was seen", "it was not measured");
    };
    let least = sum.levels.iter().copied().fold(f64::INFINITY, f64::min);
    let most = sum.levels.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let seen = format!("{now:.4} now, {least:.4} … {most:.4} at the last {} looks", sum.levels.len());
    if sum.levels.len() < ENOUGH_LEVELS {
        return Says::unknown(seen, format!("it takes {ENOUGH_LEVELS} looks in a row"));
    }
    let (kept, broken) = match target {
        Target::Below(bound) => (most < bound.value, least >= bound.value),
        Target::Above(bound) => (least > bound.value, most <= bound.value),
    };
    said(kept, broken, seen, || "some looks are on either side of the bound".into())
}

fn of_counts(target: Target, sum: &Sum, certainty: Certainty) -> Says {
    let Some(Reading::Counts { bad, total }) = sum.reading else {
        return Says::unknown("nothing was seen", "it was not measured");
    };
    let Some(interval) = interval(bad, total, certainty) else {
        return Says::unknown(format!("{bad:.0} bad of {total:.0}"), "there was no traffic to count");
    };
    // "More than this much good" is "less than the rest bad".
    let (bound, number, shown) = match target {
        Target::Below(bound) => (bound.value, bad / total, interval),
        Target::Above(bound) => {
            let good = Interval { lower: 1.0 - interval.upper, upper: 1.0 - interval.lower };
            (1.0 - bound.value, 1.0 - bad / total, good)
        }
    };
    let seen = share_words(number, shown, total);
    said(interval.upper < bound, interval.lower >= bound, seen, || close(interval, bound))
}

/// That a quantile lies below a time is that fewer than the rest are slower. Buckets have edges, and rarely the one that
/// is asked for: "kept" is read at the edge before it and "broken" at the edge behind it, so that neither is said too
/// easily.
fn of_buckets(quantile: f64, target: Target, sum: &Sum, certainty: Certainty) -> Says {
    let Some(Reading::Buckets { bounds, counts }) = &sum.reading else {
        return Says::unknown("nothing was seen", "it was not measured");
    };
    let (Target::Below(limit) | Target::Above(limit)) = target;
    let total: f64 = counts.iter().sum();
    let slower = |edge: usize| counts.iter().skip(edge + 1).sum::<f64>();
    let rest = 1.0 - quantile;
    // An edge within a millionth of the limit is the limit.
    let at_most = bounds.iter().rposition(|edge| *edge <= limit.value * (1.0 + 1e-6));
    let at_least = bounds.iter().position(|edge| *edge >= limit.value * (1.0 - 1e-6));
    let of = |edge: Option<usize>| edge.and_then(|edge| interval(slower(edge), total, certainty));
    if total <= 0.0 {
        return Says::unknown("no requests", "there was no traffic to count");
    }
    let kept = of(at_most).is_some_and(|interval| interval.upper < rest);
    let broken = of(at_least).is_some_and(|interval| interval.lower >= rest);
    let shown = if broken { at_least } else { at_most.or(at_least) };
    let Some((edge, interval)) = shown.zip(of(shown)) else {
        return Says::unknown(format!("{total:.0} requests"), "the buckets have no finite edge");
    };
    let seen = format!(
        "{} slower than {}, fewer than {} may be (p{})",
        share_words(slower(edge) / total, interval, total),
        seconds(bounds[edge]),
        percent(rest),
        percentile(quantile)
    );
    said(kept, broken, seen, || match (at_most, at_least) {
        (Some(low), Some(high)) if low == high => close(interval, rest),
        (None, _) => "the buckets are too coarse: no edge lies below the bound".into(),
        _ => format!("the buckets have no edge at {limit}, and it is too close to tell"),
    })
}

fn said(kept: bool, broken: bool, seen: String, why: impl Fn() -> String) -> Says {
    let standing = match (kept, broken) {
        (true, false) => Standing::Kept,
        (false, true) => Standing::Broken,
        (false, false) | (true, true) => return Says::unknown(seen, why()),
    };
    Says { standing, seen, missing: None }
}

/// The confidence sequence of a share of bad events; `None` without events or with numbers that are no counts.
fn interval(bad: f64, total: f64, certainty: Certainty) -> Option<Interval> {
    let cluster = certainty.cluster.max(1.0);
    let usable = total > 0.0;
    usable
        .then(|| bernoulli_confidence_sequence(bad / cluster, total / cluster, certainty.beta).ok())
        .flatten()
}

fn close(interval: Interval, bound: f64) -> String {
    let side =
        if interval.lower < bound && bound < interval.upper { "too few requests" } else { "it is close" };
    format!("{side} to tell")
}

fn share_words(share: f64, interval: Interval, total: f64) -> String {
    format!("{} ({} … {}) of {total:.0}", percent(share), percent(interval.lower), percent(interval.upper))
}

fn percent(share: f64) -> String {
    Quantity { value: (share * 1e4).round() / 1e4, unit: crate::units::Unit::Percent }.to_string()
}

fn percentile(quantile: f64) -> String {
    format!("{}", (quantile * 1e4).round() / 1e2)
}

fn seconds(seconds: f64) -> String {
    Span::from_milliseconds((seconds * 1_000.0).round().max(0.0) as u64).to_string()
}

/// What was seen of a signal, in a few words for a message; `None` if nothing was.
pub(crate) fn seen(signal: &Signal, tally: &Tally) -> Option<String> {
    let sum = tally.of(&signal.name)?;
    let said = match (&signal.measure, &sum.reading) {
        (Measure::Gauge { .. }, _) => format!("{:.4}", sum.levels.back()?),
        (Measure::Proportion { .. }, Some(Reading::Counts { bad, total })) if *total > 0.0 => {
            format!("{} bad ({bad:.0} of {total:.0})", percent(bad / total))
        }
        (Measure::Availability { .. }, Some(Reading::Counts { bad, total })) if *total > 0.0 => {
            format!("{} up", percent(1.0 - bad / total))
        }
        (Measure::Latency { quantile, .. }, Some(Reading::Buckets { bounds, counts })) => {
            let total: f64 = counts.iter().sum();
            let slower = |edge: usize| counts.iter().skip(edge + 1).sum::<f64>();
            let within = (0..bounds.len()).find(|edge| slower(*edge) <= (1.0 - quantile) * total);
            let p = percentile(*quantile);
            match within.filter(|_| total > 0.0) {
                Some(edge) => format!("p{p} at most {}", seconds(bounds[edge])),
                None if total > 0.0 => format!("p{p} beyond {}", seconds(bounds.last().copied()?)),
                None => return None,
            }
        }
        _ => return None,
    };
    let hole = sum.hole.as_ref().map(|hole| format!(", and now {hole}")).unwrap_or_default();
    Some(format!("{} {said}{hole}", signal.name))
}
