//! The statistics that decide.
//!
//! A rollback agent looks at the same release again and again, every few seconds, and stops at the first look that
//! alarms it. An ordinary significance test breaks under that use: at a nominal 1 % it fires on 7 to 13 % of healthy
//! releases. So every detector here emits ONE number, a log e-value, with one promise: if the release is not worse than
//! the stated null, the probability that the number EVER reaches `ln(1/alpha)` is at most `alpha`, whenever and however
//! often anybody looks (Ville 1939).
//!
//! | question | file | what it is |
//! |---|---|---|
//! | worse than the control that runs beside it? | [`ratio`](RatioTest) | two arms, the margin inside the null, any split |
//! | above a level, or worse than before? | [`proportion`](ProportionTest) | one arm against a fixed share |
//! | slower? | [`histogram`](Histogram) | durations cut at edges fixed before: then it is counts again |
//! | a queue, a p95 as a number, a saturation? | [`gauge`] | against its own past, without a distribution-free bound |
//! | when did it begin? | [`onset`] | the posterior over start times, from a bounded memory |
//! | how much is known of the ratio, of the share? | [`RatioSequence`], [`bernoulli_confidence_sequence`] | intervals valid at every look |
//! | how many events fail together? | [`pair_dispersion`] | what counts are divided by |
//! | several signals, one decision? | [`average`], [`minimum`], [`e_benjamini_hochberg`] | without any assumption on how they depend |
//!
//! # What is guaranteed
//! * [`RatioTest`]: P(ever fires) <= alpha whenever the canary's share of bad requests is at all times at most the margin
//!   times the control's, whatever the control does: trends, bursts and outages that both arms share cost nothing. Exact
//!   for requests that are independent given their past, at every size, for any and changing split of the traffic.
//! * [`ProportionTest`] against a level: exact at every sample size for requests that are, each given its past, bad with
//!   probability at most `p0`. No large numbers and no normal distribution are assumed.
//! * Intervals ([`bernoulli_confidence_sequence`], [`RatioSequence`]) cover a constant share or ratio at all looks together.
//! * [`average`] keeps the promise under any dependence between metrics, [`minimum`] for "all of them": a release has one
//!   alpha, however many signals, rows and looks it has. Leaving each instance out in turn and taking the minimum costs
//!   power and never the promise.
//! * Healthy is a test of its own ([`Direction::Better`]): P(ever passes) <= beta for a release that is as bad as the null
//!   says (twice the reference, or above the target).
//! * A hole in the data never adds evidence; the running test, written down and read back, continues bit for bit.
//!
//! # Under which assumptions, where it ends, and what Turnback does there
//! * **Errors in bunches** (retry storms, one client) break every count: 99 % false alarms in one simulation. Counts are
//!   divided by the dispersion between two halves of the old release's instances; by its scatter where there is one
//!   instance; by 3 where neither is known. An ESTIMATED size keeps the promise asymptotically, not exactly.
//! * **One bad pod, host or zone** looks like a bad release. The same test without each instance must agree; if it does not,
//!   the instance is reported and nothing is turned back. With one instance the two cannot be told apart.
//! * **Unequal users** on the two arms (sticky sessions, internal users first) are invisible to any formula: split at random,
//!   or compare two equal arms first.
//! * **Before/after** costs alpha + delta and rests on the next hour being like the last ones, or like the same hours of
//!   earlier days. That assumption, not the test, is the weak point: such a verdict needs an onset that is not before the
//!   deployment, a person where a dependency was deployed too, and a control is preferred wherever there is one.
//! * **Cold starts**: a latency is not counted in the first two minutes and 200 requests of a release. Errors are.
//! * **Gauges** carry no distribution-free promise. They are rehearsed on their own past, and may suggest, never act.
//! * **A canary that sheds traffic** shrinks its own evidence: its share of the traffic is a test of its own.
//! * Levels, margins, cuts, weights and grids are fixed before the first block. A new release, a manual "try again" or a
//!   new configuration is a new test and spends alpha again.
//! * Silence is not evidence: no alarm is not a pass, and a source that fails is neither.
//!
//! How often that goes wrong is measured, beside what users have today: `make bench-detection`.

mod baseline;
mod combine;
mod confidence;
mod counter;
mod dirichlet;
mod discovery;
mod dispersion;
mod error;
mod exact;
mod exponential;
pub mod gauge;
mod histogram;
mod kernel;
pub mod numerics;
mod onset;
mod pairs;
mod proportion;
mod ratio;

pub use baseline::{Baseline, BaselineWindow, FEWEST_BASELINE_REQUESTS, beta_binomial_baseline};
pub use combine::{average, minimum};
pub use confidence::{
    Interval, Side, bernoulli_confidence_sequence, log_e_bernoulli, requests_needed, zero_error_requests,
};
pub use counter::counter_delta;
pub use dirichlet::log_e_dirichlet;
pub use discovery::e_benjamini_hochberg;
pub use dispersion::{Counts, DEFAULT_DISPERSION, FEWEST_BLOCKS, pair_dispersion, pearson_dispersion};
pub use error::StatsError;
pub(crate) use error::{finite, within};
pub use exponential::{ExponentialHistogram, ZERO_THRESHOLD};
pub use histogram::{Histogram, OpenInterval, RatioEdges, quantile_ratio_interval};
pub use kernel::{ChangeMixture, MOST_ALTERNATIVES};
pub use onset::{BlockRing, Onset, OnsetPrior, RING_BLOCKS, RingBlock, StartShare, onset};
pub use pairs::{PATIENCE_SECONDS, Pairs};
pub use proportion::{BlockEvidence, Direction, ProportionParameters, ProportionTest};
pub use ratio::{RatioInterval, RatioParameters, RatioSequence, RatioTest, TwoArms};
