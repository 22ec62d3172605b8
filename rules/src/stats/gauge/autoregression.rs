//! Prewhitening: how much of a sample the one before it already said, and how large the news in it usually is.

use serde::{Deserialize, Serialize};

use super::exact_option;
use super::level::{MAD_TO_DEVIATION, median};
use crate::stats::error::{StatsError, finite, within};
use crate::stats::exact;

/// From this (upper bound of the) correlation on, isolated spikes are worth a median of three. Below it the median
/// itself creates the correlation it is meant to survive: alarms on independent samples rose to 9 %.
pub const PREFILTER_FROM: f64 = 0.5;

/// Residuals are clipped here, in spreads: an old incident must not set the correlation.
pub(super) const RESIDUAL_LIMIT: f64 = 4.0;

/// A unit root cannot be told from a strong correlation; above this the level would cost nothing at all.
const MOST_CORRELATION: f64 = 0.99;

/// Fewest neighbouring pairs a fit is made from. With 8 the upper bound adds 0.7 to the correlation; fewer say nothing.
const FEWEST_PAIRS: usize = 8;

/// The fitted process `z_t = phi z_{t-1} + innovation`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Autoregression {
    /// Upper bound of the lag-one correlation, 0 to 0.99.
    #[serde(with = "exact")]
    pub phi: f64,
    /// Scale of the innovations, in spreads of the series, positive.
    #[serde(with = "exact")]
    pub innovation_scale: f64,
}

/// Robust AR(1) on standardised residuals (spreads; `None` is a hole, and no pair spans one):
///
/// ```text
/// z'    = clip(z, +-4) - median
/// phi   = clip( sum z'_t z'_{t-1} / sum z'_{t-1}^2, 0, 0.99)
/// phi_U = min(0.99, phi + 2 sqrt(max(1 - phi^2, 1e-4) / n))
/// s     = max(1.4826 MAD(u), sd(u), 1e-9),   u_t = z'_t - phi_U z'_{t-1}
/// ```
///
/// `n` is one more than the number of pairs. Enough for sampling every 10 to 60 s; not for correlations above 0.97,
/// which no method can bound from an hour.
///
/// # Errors
/// When a value is not finite or there are fewer than 8 neighbouring pairs.
pub fn fit_autoregression(standardised: &[Option<f64>]) -> Result<Autoregression, StatsError> {
    let mut present = Vec::with_capacity(standardised.len());
    for &value in standardised.iter().flatten() {
        present.push(finite("a standardised residual", value)?.clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT));
    }
    let middle = median(&mut present).ok_or(StatsError::Empty { quantity: "gauge samples" })?;
    let centred = |value: f64| value.clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT) - middle;
    let pairs: Vec<(f64, f64)> =
        standardised.windows(2).filter_map(|pair| Some((centred(pair[0]?), centred(pair[1]?)))).collect();
    let count = pairs.len() as f64;
    let quantity = "the number of neighbouring gauge samples";
    within(quantity, count, pairs.len() >= FEWEST_PAIRS, "at least 8, to fit a correlation")?;
    let energy: f64 = pairs.iter().map(|(before, _)| before * before).sum();
    let shared: f64 = pairs.iter().map(|(before, now)| before * now).sum();
    let phi = if energy > 0.0 { (shared / energy).clamp(0.0, MOST_CORRELATION) } else { 0.0 };
    let error = ((1.0 - phi * phi).max(1e-4) / (count + 1.0)).sqrt();
    let phi = (phi + 2.0 * error).min(MOST_CORRELATION);
    let news: Vec<f64> = pairs.iter().map(|(before, now)| now - phi * before).collect();
    Ok(Autoregression { phi, innovation_scale: innovation_scale(news) })
}

/// `max(1.4826 MAD, standard deviation, 1e-9)`.
fn innovation_scale(mut news: Vec<f64>) -> f64 {
    let count = news.len() as f64;
    let mean = news.iter().sum::<f64>() / count;
    let deviation = (news.iter().map(|u| (u - mean).powi(2)).sum::<f64>() / count).sqrt();
    let middle = median(&mut news).unwrap_or(mean);
    for u in &mut news {
        *u = (*u - middle).abs();
    }
    let spread = MAD_TO_DEVIATION * median(&mut news).unwrap_or(0.0);
    spread.max(deviation).max(1e-9)
}

/// A causal median of the last three samples: a spike of one sample never passes, a step passes one sample late.
///
/// After a hole it is silent until it has seen three samples again: a median that reached across the hole would report
/// the old level first and then a jump that nobody saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MedianOfThree {
    #[serde(with = "exact_option")]
    before: Option<f64>,
    #[serde(with = "exact_option")]
    last: Option<f64>,
}

impl MedianOfThree {
    /// Takes in a sample, or a hole, and gives the median of the last three samples in a row, if there are three.
    pub fn push(&mut self, value: Option<f64>) -> Option<f64> {
        let Some(value) = value else {
            *self = Self::default();
            return None;
        };
        let (first, second) = (self.before, self.last);
        *self = Self { before: second, last: Some(value) };
        let (first, second) = (first?, second?);
        Some(first.min(second).max(first.max(second).min(value)))
    }

    /// Refuses a stored filter that remembers an infinity.
    pub(super) fn admit(&self) -> Result<(), StatsError> {
        for value in [self.before, self.last].into_iter().flatten() {
            finite("a stored sample of the median filter", value)?;
        }
        Ok(())
    }
}
