//! From alarms to figures: shares with their bounds, medians.

use rules::stats::numerics::beta_quantile;

/// What came of many watches under one judge.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tally {
    /// Watches.
    pub watches: u32,
    /// Alarms before the fault showed.
    pub early: u32,
    /// Delays of all other alarms, seconds since the fault showed, in any order.
    pub delays: Vec<f64>,
}

impl Tally {
    /// Adds another worker's watches.
    pub fn merge(&mut self, other: Self) {
        self.watches += other.watches;
        self.early += other.early;
        self.delays.extend(other.delays);
    }

    /// Alarms at any time.
    #[must_use]
    pub fn alarms(&self) -> u32 {
        self.early + u32::try_from(self.delays.len()).unwrap_or(u32::MAX)
    }

    /// Alarms over watches; 0 without watches.
    #[must_use]
    pub fn share(&self) -> f64 {
        f64::from(self.alarms()) / f64::from(self.watches.max(1))
    }

    /// The upper end of the one-sided 95 % interval of the share (Clopper and Pearson 1934): exact, and not 0 when
    /// nothing was seen.
    #[must_use]
    pub fn upper_bound(&self) -> f64 {
        let (alarms, watches) = (f64::from(self.alarms()), f64::from(self.watches));
        if alarms >= watches {
            return 1.0;
        }
        // Shapes are positive here; if the fraction did not converge, 1 is the bound that is always true.
        beta_quantile(alarms + 1.0, watches - alarms, 0.95).unwrap_or(1.0)
    }

    /// The median delay in seconds over all watches, those without an alarm counting as endless; `None` if it is
    /// endless.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let delays = self.sorted();
        let at = |index: usize| delays.get(index).copied();
        let watches = self.watches as usize;
        if watches == 0 {
            return None;
        }
        match (at((watches - 1) / 2), at(watches / 2)) {
            (Some(lower), Some(upper)) => Some(f64::midpoint(lower, upper)),
            _ => None,
        }
    }

    /// The median as one takes it from grouped data: an alarm at a look stands for any time since the look before, so
    /// the median lies inside of the look at which half of the watches have alarmed, as far as it takes to reach the
    /// half. `look_seconds` is the time between two looks. `None` as for [`Tally::median`].
    #[must_use]
    pub fn median_within_look(&self, look_seconds: f64) -> Option<f64> {
        let delays = self.sorted();
        let half = f64::from(self.watches) / 2.0;
        let reached = *delays.get((half.ceil() as usize).checked_sub(1)?)?;
        let before = delays.partition_point(|delay| *delay < reached) as f64;
        let until = delays.partition_point(|delay| *delay <= reached) as f64;
        Some(reached - look_seconds + look_seconds * (half - before) / (until - before))
    }

    fn sorted(&self) -> Vec<f64> {
        let mut delays = self.delays.clone();
        delays.sort_by(f64::total_cmp);
        delays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(watches: u32, delays: &[f64]) -> Tally {
        Tally { watches, early: 0, delays: delays.to_vec() }
    }

    #[test]
    fn the_median_counts_watches_without_an_alarm() {
        assert_eq!(tally(4, &[30.0, 10.0, 20.0]).median(), Some(25.0));
        assert_eq!(tally(3, &[30.0, 10.0]).median(), Some(30.0));
        assert_eq!(tally(4, &[30.0, 10.0]).median(), None);
        assert_eq!(tally(0, &[]).median(), None);
    }

    #[test]
    fn the_median_lies_inside_of_a_look() {
        // Half of the watches at the first look: the whole look it took. A little fewer: a little of the second one.
        assert_eq!(tally(4, &[10.0, 10.0, 20.0, 20.0]).median_within_look(10.0), Some(10.0));
        assert_eq!(
            tally(5, &[10.0, 10.0, 20.0, 20.0, 20.0]).median_within_look(10.0),
            Some(10.0 + 10.0 / 6.0)
        );
        assert_eq!(tally(4, &[10.0; 4]).median_within_look(10.0), Some(5.0));
        assert_eq!(tally(4, &[10.0]).median_within_look(10.0), None);
        assert_eq!(tally(0, &[]).median_within_look(10.0), None);
    }

    #[test]
    fn the_upper_bound_is_clopper_and_pearson_s() {
        // None in 10,000: 1 - 0.05^(1/10000). 1 in 10: the textbook's 0.3942.
        assert!((tally(10_000, &[]).upper_bound() - 2.995_284e-4).abs() < 1e-9);
        assert!((tally(10, &[1.0]).upper_bound() - 0.394_16).abs() < 1e-5);
        assert_eq!(tally(1, &[1.0]).upper_bound(), 1.0);
    }
}
