//! The past of a signal: what is asked for when a deployment is heard of, and what comes back.
//!
//! Four things are asked, because four things are wanted from it: the hours before, for what is normal; the last minutes
//! before, to date the beginning of a degradation; the same hours of earlier days, for what is normal at this time of day;
//! and, for gauges, every level, because their noise must be known sample by sample.

use crate::ruleset::WatchSettings;
use crate::series::Window;
use crate::signal::Measurement;
use crate::units::Span;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How long before a deployment its onset is looked for.
const RECENT: Span = Span::from_minutes(10);
/// Windows in that time: each is a block of the onset's ring.
const RECENT_WINDOWS: u64 = 10;
/// Levels of a gauge before the deployment: eight hours at forty seconds, enough to rehearse twenty watches of an hour.
const MOST_LEVELS: u64 = 720;
/// How many times longer than the baseline a gauge's past is: its noise takes longer to know than a share.
const LEVELS_REACH: u64 = 4;
/// A day as the seasons see it. Where clocks are changed, twice a year, an hour is compared with its neighbour.
const DAY: Span = Span::from_minutes(24 * 60);

/// Windows of one length, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// The beginning of the first.
    pub from: Timestamp,
    /// The end of the last.
    pub to: Timestamp,
    /// The length of each; the last may be shorter.
    pub length: Span,
}

/// What is asked of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges {
    /// The hours before the deployment.
    pub trailing: Windows,
    /// The last minutes before it.
    pub recent: Windows,
    /// The same hours of earlier days, the latest first.
    pub seasonal: Vec<Windows>,
    /// Every level of a gauge, one a step.
    pub levels: Windows,
    /// Time between two levels of a gauge, on earlier days.
    pub seasonal_step: Span,
}

/// The past of one signal. Holes are in it as holes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Past {
    /// The hours before the deployment, oldest first.
    pub trailing: Vec<Measurement>,
    /// The last minutes before it, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recent: Vec<Measurement>,
    /// The same hours of earlier days.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seasonal: Vec<Measurement>,
    /// Every level, of a gauge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub levels: Option<Levels>,
}

/// The levels of a gauge before a deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    /// Time between two of them.
    pub step: Span,
    /// Evenly spaced, the last one at the deployment; `None` is a hole.
    pub values: Vec<Option<f64>>,
    /// Those of earlier days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seasonal: Vec<(Timestamp, f64)>,
}

impl Windows {
    /// Each window, oldest first.
    pub fn each(self) -> impl Iterator<Item = Window> {
        let next = move |begin: Timestamp| {
            let end = self.length.after(begin).min(self.to);
            (begin < self.to).then_some(Window { from: begin, to: end })
        };
        std::iter::successors(next(self.from), move |window| next(window.to))
    }

    /// All of them as one.
    pub fn whole(self) -> Window {
        Window { from: self.from, to: self.to }
    }
}

impl Ranges {
    /// What is asked of the past of a deployment at this time.
    pub fn of(settings: &WatchSettings, deployed_at: Timestamp) -> Self {
        let to = settings.baseline_gap.before(deployed_at);
        let from = settings.baseline_span.before(to);
        let recent = RECENT.min(settings.baseline_span);
        let recent_length =
            Span::from_milliseconds((recent.milliseconds() / RECENT_WINDOWS).max(1)).max(settings.look_every);
        let day = |number: u32| {
            let begin = Span::from_milliseconds(DAY.milliseconds() * u64::from(number)).before(deployed_at);
            let length = Span::from_milliseconds(2 * settings.baseline_window.milliseconds());
            Windows { from: begin, to: settings.watch_for.after(begin), length }
        };
        let reach = Span::from_milliseconds(settings.baseline_span.milliseconds() * LEVELS_REACH);
        let step = Span::from_milliseconds(reach.milliseconds() / MOST_LEVELS).max(settings.look_every);
        let levels = Windows { from: reach.before(deployed_at), to: deployed_at, length: step };
        Self {
            trailing: Windows { from, to, length: settings.baseline_window },
            recent: Windows { from: recent.before(deployed_at), to: deployed_at, length: recent_length },
            seasonal: (1..=settings.seasonal_days).map(day).collect(),
            levels,
            seasonal_step: Span::from_seconds(60).max(settings.look_every),
        }
    }
}

impl Past {
    /// A past of the hours before alone.
    pub fn trailing(trailing: Vec<Measurement>) -> Self {
        Self { trailing, ..Self::default() }
    }

    /// The same, with numbers that cannot be used turned into failures that say so; see [`Measurement::checked`].
    pub fn checked(self) -> Self {
        let checked = |windows: Vec<Measurement>| windows.into_iter().map(Measurement::checked).collect();
        let finite = |levels: Levels| Levels {
            values: levels.values.into_iter().map(|value| value.filter(|value| value.is_finite())).collect(),
            seasonal: levels.seasonal.into_iter().filter(|(_, value)| value.is_finite()).collect(),
            ..levels
        };
        Self {
            trailing: checked(self.trailing),
            recent: checked(self.recent),
            seasonal: checked(self.seasonal),
            levels: self.levels.map(finite),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_of_a_usual_deployment() {
        let at: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let ranges = Ranges::of(&WatchSettings::default(), at);
        let trailing: Vec<Window> = ranges.trailing.each().collect();
        assert_eq!(trailing.len(), 24);
        assert_eq!(trailing[23].to, "2026-11-21T11:59:00Z".parse().unwrap());
        assert!(trailing.windows(2).all(|pair| pair[0].to == pair[1].from));
        let recent: Vec<Window> = ranges.recent.each().collect();
        assert_eq!((recent.len(), recent[9].to), (10, at));
        assert_eq!(ranges.seasonal.len(), 7);
        assert_eq!(ranges.seasonal[0].from, "2026-11-20T12:00:00Z".parse().unwrap());
        assert_eq!(ranges.seasonal[6].each().count(), 6);
        assert_eq!((ranges.levels.each().count(), ranges.levels.length), (720, Span::from_seconds(40)));
    }
}
