//! Gauges: queue depth, a p95 that only exists as a series, saturation. The weakest witnesses, and treated as such.
//!
//! A count has a distribution that theory knows; a gauge has none. Its samples hang together (a queue that is long now
//! is long in ten seconds), it follows the hour and the weekday, and it spikes for reasons of its own. An ordinary test
//! fires on 17 to 44 % of healthy releases there. What is done about it, in this order:
//!
//! 1. [`Scale`]: log for latency, log1p for queues, identity for utilisation, so that "20 % more" is one distance.
//! 2. [`SeasonalLevel`] and [`robust_level`]: what is normal at this hour, from medians, FROZEN at the deployment. A
//!    baseline that went on learning would learn the regression.
//! 3. [`fit_autoregression`]: take out of each sample what the one before it already said; [`MedianOfThree`] first,
//!    against isolated spikes, when the series is strongly autocorrelated.
//! 4. [`GaugeShift`]: evidence for a lasting rise, from what is left. [`RunLengthExceed`]: evidence for "stays above a
//!    level for longer than it ever used to".
//! 5. [`calibrate`]: play the whole detector on moments of the past at which nothing was deployed, count how often it
//!    fires, and raise the threshold when that is too often.
//!
//! [`GaugeDetector`] is all five in one; [`ExceedTest`] is a single bound ("queue > 50") from the same parts.
//!
//! # What is guaranteed, and what is not
//! * IF the innovations, in units of the fitted scale, are `v`-sub-Gaussian with a mean of at most 0 given the past
//!   whenever the level rose by no more than the margin, then the probability of EVER reaching `ln(1/alpha)` is at most
//!   `alpha`, at every look (Ville 1939). The level, the scale and the autocorrelation are estimates; `v = 1.2`, the
//!   upper bound on the correlation and the clipping pay for their errors, but nothing proves that they suffice.
//! * There is NO distribution-free bound. On 368 labelled production changes a nominal 1 % became 12 %: histories
//!   contain incidents, and no correlation above 0.97 can be estimated well. The calibration is a heuristic.
//! * Known to break: isolated spikes of ten spreads on a gauge with little correlation, where the median cannot stand.
//!   Six an hour fire on 10 % of healthy releases, until the calibration has seen them.
//! * Known to be slow: a strongly correlated gauge whose rise begins later than the first sample of the watch. One jump
//!   is worth at most 6.6 nats, and not knowing when it comes costs as much; at a correlation of 0.9, a rise of four
//!   spreads is found in the second sample if it begins with the watch and in about 17 minutes if it does not.
//! * Hence a gauge may SUGGEST and corroborate. It must not roll back on its own unless the operator says so.
//! * Only upwards: bad is high. For a gauge that is bad when low, feed its complement.
//! * A hole never adds evidence. Whoever is missing is not healthy either: the caller reports "no data".
//!
//! Sources: J. Ville, "Etude critique de la notion de collectif" (1939); Howard, Ramdas, McAuliffe, Sekhon,
//! "Time-uniform, nonparametric, nonasymptotic confidence sequences" (Annals of Statistics 2021); Shin, Ramdas,
//! Rinaldo, "E-detectors" (New England Journal of Statistics in Data Science 2023).

mod autoregression;
mod baseline;
mod calibrate;
mod clock;
mod detector;
mod exact_option;
mod exceed;
mod exceed_test;
mod history;
mod level;
mod normal_mixture;
mod parameters;
mod run_length;
mod scale;
mod shift;

pub use autoregression::{Autoregression, MedianOfThree, PREFILTER_FROM, fit_autoregression};
pub use calibrate::{Calibration, FEWEST_PSEUDO_DEPLOYMENTS, calibrate};
pub use detector::GaugeDetector;
pub use exceed::{ExceedTable, RUN_BINS, exceed_runs, run_bin};
pub use exceed_test::ExceedTest;
pub use history::{FEWEST_SAMPLES, GaugeHistory};
pub use level::{RobustLevel, Season, SeasonalLevel, SeasonalReading, median, robust_level};
pub use normal_mixture::normal_mixture_log_e;
pub use parameters::{ExceedLevel, GaugeParameters, Margin};
pub use run_length::RunLengthExceed;
pub use scale::Scale;
pub use shift::{GaugeShift, GaugeShiftParameters, MARGIN_EXCESSES};
