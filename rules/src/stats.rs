//! The statistics that decide.
//!
//! A rollback agent looks at the same release again and again, every few seconds, and stops at the first look that
//! alarms it. An ordinary significance test breaks under that use: at a nominal 1 % it fires on 7 to 13 % of healthy
//! releases. So every detector here emits ONE number, a log e-value, with one promise: if the release is not worse than
//! the stated null, the probability that the number EVER reaches `ln(1/alpha)` is at most `alpha`, whenever and however
//! often anybody looks (Ville 1939).
//!
//! # What is guaranteed
//! * [`ProportionTest`] against a level: exact at every sample size for requests that are, each given its past, bad with
//!   probability at most `p0`. No large numbers and no normal distribution are assumed.
//! * [`bernoulli_confidence_sequence`]: covers a constant proportion at all looks together.
//! * [`average`] keeps the promise under any dependence between metrics, [`minimum`] for "all of them".
//! * A hole in the data never adds evidence; the running test, written down and read back, continues bit for bit.
//!
//! # Under which assumptions, and where it ends
//! * Errors that come in bunches break the promise unless counts are divided by the cluster size; an ESTIMATED size
//!   ([`pair_dispersion`]) keeps it only asymptotically.
//! * Before/after through [`beta_binomial_baseline`] costs `alpha + delta` and also needs the next hour to behave like
//!   the history. That assumption, not the test, is the weak point.
//! * The level, the watch, the grid and the weights are fixed before the first block. A manual "try again" starts a new
//!   test and spends alpha again.
//! * One bad pod, a different user population or a threshold chosen after looking are invisible to these formulas.
//! * Silence is not evidence: no alarm is not a pass. A pass is its own test, [`Direction::Better`].

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
mod proportion;
mod ratio;

pub use baseline::{Baseline, BaselineWindow, FEWEST_BASELINE_REQUESTS, beta_binomial_baseline};
pub use combine::{average, minimum};
pub use confidence::{
    Interval, Side, bernoulli_confidence_sequence, log_e_bernoulli, requests_needed, zero_error_requests,
};
pub use counter::counter_delta;
pub use dirichlet::log_e_dirichlet;
pub use discovery::{LeaveOneOut, e_benjamini_hochberg, leave_one_out};
pub use dispersion::{Counts, DEFAULT_DISPERSION, FEWEST_BLOCKS, pair_dispersion, pearson_dispersion};
pub use error::StatsError;
pub(crate) use error::{finite, within};
pub use exponential::{ExponentialHistogram, ZERO_THRESHOLD};
pub use histogram::{Histogram, OpenInterval, RatioEdges, quantile_ratio_interval};
pub use kernel::{ChangeMixture, MOST_ALTERNATIVES};
pub use onset::{BlockRing, Onset, OnsetPrior, RING_BLOCKS, RingBlock, StartShare, onset};
pub use proportion::{BlockEvidence, Direction, ProportionParameters, ProportionTest};
pub use ratio::{RatioInterval, RatioParameters, RatioSequence, RatioTest, TwoArms};
