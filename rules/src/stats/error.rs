//! Why a statistic refused its input. Nothing in this module panics on numbers from outside: a NaN that slipped in
//! would poison a running sum silently and for good, so every door checks and says what it wanted.

/// A refusal. The state of the test that refused is unchanged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// A NaN or an infinity where a number was needed.
    #[error(
        "{quantity} is {value}: expected a finite number; leave the sample out if its source has no value"
    )]
    NotFinite {
        /// What the number was meant to be.
        quantity: &'static str,
        /// The offending value.
        value: f64,
    },
    /// A finite number outside the range the formula is defined on.
    #[error("{quantity} is {value}: expected {expected}")]
    OutOfRange {
        /// What the number was meant to be.
        quantity: &'static str,
        /// The offending value.
        value: f64,
        /// The range, in words.
        expected: &'static str,
    },
    /// Two lists that belong together have different lengths, or a list is too long.
    #[error("{quantity} has {found} entries: expected {expected}")]
    Length {
        /// What the list holds.
        quantity: &'static str,
        /// Entries wanted.
        expected: usize,
        /// Entries found.
        found: usize,
    },
    /// Nothing to compute from. The absence of data is not a healthy zero.
    #[error("no {quantity}: there is nothing to compute from, and no data is neither good nor bad")]
    Empty {
        /// What was missing.
        quantity: &'static str,
    },
    /// An iteration hit its limit, which bounds the time an extreme input can take.
    #[error("{quantity} did not converge after {steps} steps: the counts are too large for this formula")]
    NoConvergence {
        /// What was being computed.
        quantity: &'static str,
        /// The limit.
        steps: u32,
    },
}

/// Passes a finite number through.
pub(crate) fn finite(quantity: &'static str, value: f64) -> Result<f64, StatsError> {
    if value.is_finite() { Ok(value) } else { Err(StatsError::NotFinite { quantity, value }) }
}

/// Passes a finite number inside a range through; `expected` describes the range to the reader.
pub(crate) fn within(
    quantity: &'static str,
    value: f64,
    inside: bool,
    expected: &'static str,
) -> Result<f64, StatsError> {
    finite(quantity, value)?;
    if inside { Ok(value) } else { Err(StatsError::OutOfRange { quantity, value, expected }) }
}

/// Passes a probability strictly between 0 and 1 through.
pub(crate) fn open_unit(quantity: &'static str, value: f64) -> Result<f64, StatsError> {
    within(quantity, value, value > 0.0 && value < 1.0, "a number strictly between 0 and 1")
}

/// Most requests in one count. Below 2^53, so a float still holds every integer, and far from where sums overflow.
pub(crate) const MOST_REQUESTS: f64 = 1e15;

/// Checks the two counts every proportion starts from: `0 <= bad <= total`, both finite.
pub(crate) fn counts(bad: f64, total: f64) -> Result<(), StatsError> {
    let sane = (0.0..=MOST_REQUESTS).contains(&total);
    within("the number of requests", total, sane, "a number from 0 to 1e15")?;
    within("the number of bad requests", bad, bad >= 0.0, "zero or more")?;
    within("the number of bad requests", bad, bad <= total, "at most the number of requests")?;
    Ok(())
}

/// `ln(1/alpha)`: the log e-value at which a test of level `alpha` rejects.
pub(crate) fn log_threshold(alpha: f64) -> Result<f64, StatsError> {
    Ok(-open_unit("the error probability alpha", alpha)?.ln())
}
