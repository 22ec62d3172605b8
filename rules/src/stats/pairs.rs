//! Both arms of a comparison are seldom seen in the same moment: pods are scraped one after the other, and between two
//! scrapes of the canary there is one of the control. A window with one arm only is no block, but half of one: it waits for
//! the other half.

use serde::{Deserialize, Serialize};

use super::dispersion::Counts;
use super::error::{StatsError, counts, within};
use super::exact;
use super::ratio::TwoArms;

/// How long a block waits for traffic on the other arm in production, seconds: evidence must not wait for the end of the
/// watch, and requests of another time are no control.
pub const PATIENCE_SECONDS: f64 = 60.0;

/// Requests of one arm that wait for requests of the other, told apart as good and bad in one or several ways (cuts) at
/// once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Pairs {
    patience_seconds: f64,
    /// Which arm it is that waits; it does not matter while nothing does.
    canary_waits: bool,
    /// What waits, at each cut.
    waiting: Box<[Counts]>,
    /// For how long it has been waiting.
    seconds: f64,
}

impl Pairs {
    /// Nothing waits yet; `cuts` ways to tell good from bad, and up to [`PATIENCE_SECONDS`] of patience.
    #[must_use]
    pub fn new(cuts: usize) -> Self {
        let nothing = Counts { bad: 0.0, total: 0.0 };
        let waiting = vec![nothing; cuts].into();
        Self { patience_seconds: PATIENCE_SECONDS, canary_waits: false, waiting, seconds: 0.0 }
    }

    /// The same with another patience, seconds.
    ///
    /// # Errors
    /// When it is not positive.
    pub fn patient(self, patience_seconds: f64) -> Result<Self, StatsError> {
        within("the patience in seconds", patience_seconds, patience_seconds > 0.0, "a positive number")?;
        Ok(Self { patience_seconds, ..self })
    }

    /// Takes in a window of so many seconds, given at each cut, and adds what was waiting to it. With the length in seconds
    /// that comes back `window` is a block: both arms have requests at the first cut; or neither has; or one of them has
    /// waited in vain, and what there is of it says nothing about a ratio. `None`: it waits, and time with it.
    ///
    /// # Errors
    /// When a count is out of range or not finite, the number of cuts differs, or `seconds` is negative. Nothing has changed
    /// then.
    #[inline]
    pub fn take(&mut self, window: &mut [TwoArms], seconds: f64) -> Result<Option<f64>, StatsError> {
        self.admit(window, seconds)?;
        for (arms, waiting) in window.iter_mut().zip(&self.waiting) {
            *arms = arms.plus(&of_one_arm(self.canary_waits, *waiting));
        }
        let length = self.seconds + seconds;
        let waits = window.first().is_some_and(|first| first.is_one_sided());
        let stays = waits && length < self.patience_seconds;
        self.seconds = if stays { length } else { 0.0 };
        self.canary_waits = stays && window.first().is_some_and(|first| first.canary_total > 0.0);
        for (waiting, arms) in self.waiting.iter_mut().zip(window) {
            *waiting = match (stays, self.canary_waits) {
                (false, _) => Counts { bad: 0.0, total: 0.0 },
                (true, true) => arms.canary(),
                (true, false) => arms.control(),
            };
        }
        Ok((!stays).then_some(length))
    }

    /// How many numbers make up the running state.
    #[must_use]
    pub fn numbers(&self) -> usize {
        // which arm waits, and for how long
        2 * self.waiting.len() + 2
    }

    fn admit(&self, window: &[TwoArms], seconds: f64) -> Result<(), StatsError> {
        let (expected, found) = (self.waiting.len(), window.len());
        if expected != found {
            return Err(StatsError::Length { quantity: "the list of cuts", expected, found });
        }
        within("the length of a window in seconds", seconds, seconds >= 0.0, "zero or more")?;
        window.iter().try_for_each(TwoArms::admit)
    }
}

fn of_one_arm(canary: bool, Counts { bad, total }: Counts) -> TwoArms {
    match canary {
        true => TwoArms { canary_bad: bad, canary_total: total, ..TwoArms::default() },
        false => TwoArms { control_bad: bad, control_total: total, ..TwoArms::default() },
    }
}

/// The written form.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    #[serde(with = "exact")]
    patience_seconds: f64,
    canary_waits: bool,
    waiting: Vec<Counts>,
    #[serde(with = "exact")]
    seconds: f64,
}

impl From<Pairs> for Stored {
    fn from(pairs: Pairs) -> Self {
        let Pairs { patience_seconds, canary_waits, waiting, seconds } = pairs;
        Self { patience_seconds, canary_waits, waiting: waiting.into(), seconds }
    }
}

impl TryFrom<Stored> for Pairs {
    type Error = StatsError;

    fn try_from(stored: Stored) -> Result<Self, StatsError> {
        let Stored { patience_seconds, canary_waits, waiting, seconds } = stored;
        waiting.iter().try_for_each(|waiting| counts(waiting.bad, waiting.total))?;
        within("the stored waiting time in seconds", seconds, seconds >= 0.0, "zero or more")?;
        let fresh = Self::new(waiting.len()).patient(patience_seconds)?;
        Ok(Self { canary_waits, waiting: waiting.into(), seconds, ..fresh })
    }
}
