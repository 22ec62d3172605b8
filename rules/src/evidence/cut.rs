//! How a reading becomes trials, each good or bad.

use crate::signal::{Measure, Reading};
use crate::stats::TwoArms;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a reading becomes trials, each good or bad. Fixed before the watch sees data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// The counts as they are.
    Direct,
    /// Bad is slower than this bucket edge, in seconds.
    Slower(f64),
}

impl Cut {
    /// `(bad, total)`, or nothing if the reading cannot be cut so (other kind, or no such edge).
    pub fn trial(self, reading: &Reading) -> Option<(f64, f64)> {
        match (self, reading) {
            (Cut::Direct, Reading::Counts { bad, total }) => Some((*bad, *total)),
            (Cut::Slower(edge), Reading::Buckets { bounds, counts }) => {
                let place = bounds.iter().position(|bound| (bound - edge).abs() <= 1e-12 * edge.abs())?;
                let total: f64 = counts.iter().sum();
                let fast: f64 = counts.iter().take(place + 1).sum();
                // Sums of floats: keep `bad <= total` exact.
                Some(((total - fast).clamp(0.0, total), total))
            }
            _ => None,
        }
    }

    /// What is counted, in words.
    pub fn words(self, measure: &Measure) -> String {
        match (self, measure) {
            (Cut::Direct, Measure::Availability { .. }) => "share of samples that are down".into(),
            (Cut::Direct, _) => "share of bad events".into(),
            (Cut::Slower(edge), _) => format!("share of requests slower than {edge} s"),
        }
    }
}

/// What was read of one window, as the tests take it.
pub(super) struct Window<'a> {
    /// The release under watch.
    pub own: &'a Reading,
    /// What runs beside it; nothing if there is no comparison, or no data.
    pub control: Option<&'a Reading>,
    /// The release's instances.
    pub instances: &'a BTreeMap<String, Reading>,
    /// How long the window is, and whatever hole was before it.
    pub seconds: f64,
}

impl Window<'_> {
    /// The trials of both arms, each at its own cut. Without a control its counts are zero.
    pub fn trials(&self, own: Cut, control: Cut) -> Option<TwoArms> {
        let (canary_bad, canary_total) = own.trial(self.own)?;
        let (control_bad, control_total) = match self.control {
            Some(reading) => control.trial(reading)?,
            None => (0.0, 0.0),
        };
        Some(TwoArms { canary_bad, canary_total, control_bad, control_total })
    }
}
