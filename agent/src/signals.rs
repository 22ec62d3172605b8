//! Signal sources: where raw samples come from.
//!
//! A source hands over samples as they were stored and judges nothing; `rules::series` does the arithmetic. Three
//! sources exist that are asked: a Prometheus server (`prometheus`), a service's own `/metrics` (`scrape`) and a request that must
//! be answered (`probe`); and one that is told (`pushed`). What they have in common is the contract of `SignalSource`: complete data or an error in words,
//! never a part of the data that looks like all of it. A source that fails makes us blind, and being blind must not
//! look like being well or like being ill.

mod bell;
mod exposition;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod http;
mod poll;
pub mod probe;
pub mod prometheus;
pub mod pushed;
mod ring;
mod scanner;
pub mod scrape;
mod selector;
#[cfg(test)]
mod testing;

pub use bell::Bell;
pub use poll::Clock;
pub use ring::{Labels, RingLimits};
pub use selector::{BadSelector, ParsedSelector, check_selector};

use jiff::Timestamp;
use pushed::Taken;
use rules::series::{Observer, RawSeries, Window};
use rules::signal::{Measurement, Observation};
use rules::units::Span;
use serde::Serialize;
use std::error::Error;

/// The cause below a `SourceError`.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Where raw samples come from.
#[async_trait::async_trait]
pub trait SignalSource: Send + Sync {
    /// The samples of all series that `selector` selects in `range`, complete or not at all.
    async fn read(&self, selector: &str, range: Window) -> Result<Vec<RawSeries>, SourceError>;
    /// How far behind now the data are complete: a window should not end later than this before now.
    fn settle(&self) -> Span;
    /// Whether it knows the time before the agent began, so that a baseline can be read from it.
    fn history(&self) -> bool;
    /// One line for people: what it is and where.
    fn describe(&self) -> String;
    /// How it has been doing.
    fn health(&self) -> SourceHealth;
    /// Takes the bell that it is to ring when samples came by themselves. Sources that are asked have no use for it.
    fn give_bell(&self, _bell: Bell) {}
}

/// Why a source gave no samples.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source was set up in a way that cannot work.
    #[error("cannot set up {what}: {problem}")]
    Setup {
        /// Which source.
        what: String,
        /// In words.
        problem: String,
        /// What lies below, if anything.
        #[source]
        cause: Option<Cause>,
    },
    /// No connection, or it broke.
    #[error("{what} cannot be reached")]
    Unreachable {
        /// Which source.
        what: String,
        /// What happened.
        #[source]
        cause: Cause,
    },
    /// No complete answer in time.
    #[error("{what} did not answer completely within {after}")]
    TimedOut {
        /// Which source.
        what: String,
        /// The time it was given.
        after: Span,
    },
    /// It answered with an error.
    #[error("{what} answered with status {status}: {answer}")]
    Refused {
        /// Which source.
        what: String,
        /// The status of the answer.
        status: u16,
        /// What it said, cut to a readable length.
        answer: String,
    },
    /// It answered with something that cannot be read.
    #[error("{what} answered with something unreadable: {problem}")]
    Malformed {
        /// Which source.
        what: String,
        /// In words.
        problem: String,
    },
    /// There is more data than we are ready to take.
    #[error("{what} has too much data: {problem}")]
    TooLarge {
        /// Which source.
        what: String,
        /// Which limit, and what to do.
        problem: String,
    },
    /// It answered with a part of the data.
    #[error("{what} gave a partial answer: {warnings}")]
    Warned {
        /// Which source.
        what: String,
        /// Its warnings.
        warnings: String,
    },
    /// The selector is not one.
    #[error(transparent)]
    Selector(#[from] BadSelector),
}

/// How a source has been doing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceHealth {
    /// When it last gave data.
    pub last_success: Option<Timestamp>,
    /// When it last failed, and why.
    pub last_error: Option<(Timestamp, String)>,
    /// Series: of the last answer for a server that was asked, held in memory for scrapes, probes and pushes.
    pub series: usize,
    /// Of a source that is pushed to: what became of what came.
    pub pushed: Option<PushedHealth>,
}

/// What became of everything that was pushed to a source since the agent began.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct PushedHealth {
    /// Samples, by what became of them.
    pub samples: Taken,
    /// Samples that are kept, each bucket of a native histogram counted as one.
    pub held: usize,
    /// Requests and messages that could not be read at all.
    pub unreadable: u64,
    /// In words: that nothing comes any more, if that is so.
    pub silence: Option<String>,
}

impl SourceHealth {
    fn failed(&mut self, at: Timestamp, reason: String) {
        self.last_error = Some((at, reason));
    }
}

/// Asks a source once for a signal over windows that follow each other, and reduces the answer to a measurement each. Never
/// fails: what goes wrong becomes one observation over all of them that says so. `max_age` is how old the newest sample may
/// be at a window's end. No windows bring no measurements.
pub async fn measure(
    source: &dyn SignalSource,
    observer: &Observer,
    windows: &[Window],
    max_age: Span,
) -> Vec<Measurement> {
    let (Some(first), Some(last)) = (windows.first(), windows.last()) else { return Vec::new() };
    let whole = Window { from: first.from, to: last.to };
    let range = whole.with_lookback();
    let signal = observer.signal();
    let targets = async {
        match observer.targets() {
            Some(selector) => source.read(selector, range).await.map(Some),
            None => Ok(None),
        }
    };
    let (series, targets) = tokio::join!(source.read(signal.measure.selector(), range), targets);
    match (series, targets) {
        (Ok(series), Ok(targets)) => {
            let reduced = |window: &Window| observer.measure(&series, targets.as_deref(), *window, max_age);
            windows.iter().map(reduced).collect()
        }
        (Err(error), _) | (Ok(_), Err(error)) => {
            let reason = words(&error);
            tracing::warn!(signal = %signal.name, source = %source.describe(), %reason, "no samples");
            let observation = Observation::Failed { reason };
            vec![Measurement::plain(signal.name.clone(), whole.from, whole.to, observation)]
        }
    }
}

/// An error and what lies below it, in one line. Repetitions are left out: libraries like to quote their causes.
pub fn words(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        below = cause.source();
    }
    text
}
