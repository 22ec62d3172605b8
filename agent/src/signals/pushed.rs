//! Samples that are sent to us: by a Prometheus server (remote write), by an OpenTelemetry SDK or Collector (OTLP), or by
//! a stream. What is decided then follows the sample, and not the next poll.
//!
//! Two things are different from a source that is asked:
//!
//! - *When are the data of a moment complete?* Nobody says so. The samples of one scrape come in several requests, so a
//!   window ends `settle` before now. And it ends no later than the newest sample that came, for as long as a sender may
//!   hold samples back to send them together: a window that ran ahead of them would be looked at without them, and what
//!   they count would be missed for good. What still comes too late is kept, counted and told.
//! - *Is nothing coming because nothing happens, or because the sender is dead?* A window without samples becomes a hole
//!   when the newest sample is older than `max_sample_age`, as with every source. Here `silence` says it, too.
//!
//! A stream (`stream`) tells the past again after a restart. Until it has, nothing is read: half a past would be taken for all
//! of it.
//!
//! What cannot be kept is refused sample by sample, counted, and told to the sender and to `/readyz`.

mod batch;
mod config;
mod limits;
mod native;
pub mod otlp;
pub mod remote_write;
pub mod stream;
#[cfg(test)]
mod tests;
mod wire;

pub use batch::{Batch, Point, PushedSeries, Taken, Unusable, Value};
pub use config::{PushCredential, PushKey, PushedConfig};
pub use limits::{BadPush, MOST_BODY_BYTES, MOST_UNPACKED_BYTES};

use super::poll::{Clock, first_problem};
use super::ring::{Appended, Labels, Ring, RingLimits};
use super::{Bell, PushedHealth, SignalSource, SourceError, SourceHealth, check_selector};
use axum::http::HeaderMap;
use jiff::Timestamp;
use limits::MOST_LABELS;
use rules::series::{LOOKBACK, RawSeries, Sample, Window};
use rules::units::Span;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::watch;

/// A sender whose clock is ahead by more than this is refused: its samples would lie beyond every window.
const MOST_AHEAD: Span = Span::from_seconds(60);
/// How long windows wait for the next sample: Prometheus sends what it has after five seconds, unless it is told to do so
/// earlier. After that they go on without, so that a sender that is dead is noticed.
const LONGEST_WAIT: Span = Span::from_seconds(6);
/// Old samples are forgotten this often; going through all series for each request would be most of the work.
const PRUNE_EVERY: Span = Span::from_seconds(1);
/// The longest name and value of a label, in bytes: a path of an address fits.
const LONGEST_NAME: usize = 256;
const LONGEST_VALUE: usize = 2_048;
/// All labels of a series, in bytes: 10,000 series then take 80 MB at the very most.
const LONGEST_LABELS: usize = 8 * 1_024;
/// Silence is told when it is so many times longer than the pauses before, and this much.
const SILENT_TIMES: u64 = 3;
const SILENT_FOR: Span = Span::from_seconds(5);

/// What happened so much before the newest sample of its series, or before what was looked at, is counted there: messages of
/// several senders overtake each other on their way.
const LONGEST_SHIFT: Span = Span::from_seconds(6);
/// Before a counter grew it stood lower; so much before.
const MOMENT: Span = Span::from_milliseconds(1);
/// What is counted since an earlier time than what is known comes from another sender: one that begins anew begins later.
const TWO_SENDERS: &str = " began before what is known of it: two senders under the same labels: give each a \
                           `service.instance.id` or a label of its own";
/// How long a question waits for a stream to tell the past. An hour of it is there in seconds; a broker that is not there is
/// not waited for at every look.
const PAST_WITHIN: Span = Span::from_seconds(5);

/// A source that is pushed to.
pub struct PushedSource {
    name: String,
    key: Option<PushKey>,
    settle: Span,
    retention: Span,
    clock: Clock,
    began: Timestamp,
    bell: OnceLock<Bell>,
    /// Streams that have not told the past yet.
    behind: watch::Sender<usize>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ring: Ring,
    /// Counters that are told by how much they grew, as they stand.
    grown: BTreeMap<Labels, Sample>,
    health: SourceHealth,
    totals: PushedHealth,
    /// The newest sample that was not in the future when it came: one clock that is ahead must not end the wait for others.
    newest: Option<Timestamp>,
    /// Up to where windows have been read: what comes for a time before is late.
    read_until: Option<Timestamp>,
    pruned: Option<Timestamp>,
    /// When something last came, and how long the longest of the last pauses was.
    came: Option<Timestamp>,
    pause: Span,
}

impl PushedSource {
    /// A source without samples. `key` is what whoever pushes over HTTP must show; without one nobody may.
    pub fn new(
        name: &str,
        config: &PushedConfig,
        key: Option<PushKey>,
        clock: Clock,
    ) -> Result<Self, SourceError> {
        first_problem(name, config.problems())?;
        let limits =
            RingLimits { retention: config.retention, series: config.max_series, ..RingLimits::default() };
        Ok(Self {
            name: name.to_owned(),
            key,
            settle: config.settle,
            retention: config.retention,
            clock,
            began: clock(),
            bell: OnceLock::new(),
            behind: watch::Sender::new(0),
            state: Mutex::new(State { ring: Ring::new(limits), ..State::default() }),
        })
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a request may push over HTTP.
    pub fn opened_by(&self, headers: &HeaderMap) -> bool {
        self.key.as_ref().is_some_and(|key| key.opens(headers))
    }

    /// Takes plain samples in; of each series in the order of time. Says what became of them, and rings the bell.
    pub fn append(&self, now: Timestamp, samples: Vec<(Labels, Sample)>) -> Taken {
        let series = |(labels, sample)| PushedSeries { labels, points: vec![Point::now(sample)] };
        self.take(now, Batch { series: samples.into_iter().map(series).collect(), ..Batch::default() })
    }

    /// Takes what a request or a message held in. Says what became of it, and rings the bell if anything is new.
    pub fn take(&self, now: Timestamp, batch: Batch) -> Taken {
        let mut taken = Taken {
            unusable: batch.unusable.samples + batch.unusable.histograms,
            why: batch.unusable.why,
            ..Taken::default()
        };
        let mut newest = now;
        let mut state = self.lock();
        for PushedSeries { mut labels, points } in batch.series {
            // An empty value is no label.
            labels.retain(|_, value| !value.is_empty());
            if let Err(problem) = check_labels(&labels) {
                taken.unusable += points.len() as u64;
                taken.why.get_or_insert(problem);
                continue;
            }
            for point in points {
                newest = newest.max(self.keep(&mut state, now, &labels, point, &mut taken).unwrap_or(now));
            }
        }
        for PushedSeries { labels, points } in batch.info {
            // What is told beside is told again with every request: nobody misses it.
            if check_labels(&labels).is_ok() {
                self.keep_beside(&mut state, now, &labels, points);
            }
        }
        if state.ring.is_overfull()
            || state.pruned.is_none_or(|last| PRUNE_EVERY.after(last) <= now || last > now)
        {
            state.pruned = Some(now);
            state.ring.prune(now);
            let horizon = self.retention.before(now);
            state.grown.retain(|_, known| known.at >= horizon);
        }
        let news = taken.kept + taken.histograms;
        if let Some(before) = state.came {
            // The longest pause fades, so that a sender that became faster is missed sooner.
            let faded = Span::from_milliseconds(state.pause.milliseconds() * 9 / 10);
            state.pause = faded.max(Span::between(before, now));
        }
        state.came = Some(now);
        if news + taken.known + taken.known_histograms > 0 {
            state.health.last_success = Some(now);
        }
        if let Some(words) = taken.words() {
            tracing::debug!(source = %self.name, %words, "samples were refused");
            state.health.failed(now, words);
        } else if taken.late > 0 {
            let words = format!(
                "{} samples came after their time had been looked at, and what they count is missed; raise `settle`, or \
                 let the sender send sooner (`batch_send_deadline` of Prometheus)",
                taken.late
            );
            state.health.failed(now, words);
        }
        state.totals.samples.add(&taken);
        drop(state);
        if news > 0
            && let Some(bell) = self.bell.get()
        {
            // A sender whose clock is a little ahead: its sample lies in a window only when our clock has got there.
            bell.ring(&self.name, self.settle.after(newest.min(LONGEST_WAIT.after(now))));
        }
        taken
    }

    /// A stream will tell the past: nothing is read before it has.
    fn expect_past(&self) {
        self.behind.send_modify(|streams| *streams += 1);
    }

    /// A stream has told the past.
    fn has_past(&self) {
        self.behind.send_modify(|streams| *streams = streams.saturating_sub(1));
    }

    /// Notes that something came that could not be read at all.
    pub fn note_unreadable(&self, now: Timestamp, why: &str) {
        let mut state = self.lock();
        state.totals.unreadable += 1;
        state.health.failed(now, why.to_owned());
    }

    /// Keeps a point or says why not. The time at which it is kept.
    fn keep(
        &self,
        state: &mut State,
        now: Timestamp,
        labels: &Labels,
        point: Point,
        taken: &mut Taken,
    ) -> Option<Timestamp> {
        let at = point.value.at();
        let refuse = |count: &mut u64, why: &mut Option<String>, more: &str| {
            *count += 1;
            let name = labels.get("__name__").map(String::as_str).unwrap_or_default();
            why.get_or_insert_with(|| format!("{} at {at}{more}", shown(name)));
            None
        };
        if at < self.retention.before(now) {
            let more = format!(", and {} are kept", self.retention);
            return refuse(&mut taken.too_old, &mut taken.why, &more);
        }
        if at > MOST_AHEAD.after(now) {
            let more = format!(", {} ahead of our clock", Span::between(now, at));
            return refuse(&mut taken.ahead, &mut taken.why, &more);
        }
        let is_histogram = matches!(point.value, Value::Histogram(_));
        let Some(point) = state.placed(labels, point) else {
            return refuse(&mut taken.disorder, &mut taken.why, "");
        };
        let at = point.value.at();
        let since = point.start.filter(|_| matches!(point.value, Value::Now(_) | Value::Histogram(_)));
        if since.is_some_and(|since| state.ring.is_overtaken(labels, at, since)) {
            return refuse(&mut taken.disorder, &mut taken.why, TWO_SENDERS);
        }
        match state.store(self.began, labels, point) {
            Appended::Kept => {
                if let Some(since) = since {
                    state.ring.begin(labels, since);
                }
                *(if is_histogram { &mut taken.histograms } else { &mut taken.kept }) += 1;
                taken.late += u64::from(state.read_until.is_some_and(|until| at <= until));
                // Ahead by less than windows wait anyway is what clocks are; it counts as now.
                if at <= self.settle.after(now) {
                    state.newest = state.newest.max(Some(at.min(now)));
                }
                return Some(at);
            }
            Appended::Known if is_histogram => taken.known_histograms += 1,
            Appended::Known => taken.known += 1,
            Appended::Disorder => return refuse(&mut taken.disorder, &mut taken.why, ""),
            Appended::Full => return refuse(&mut taken.full, &mut taken.why, ""),
        }
        None
    }

    fn keep_beside(&self, state: &mut State, now: Timestamp, labels: &Labels, points: Vec<Point>) {
        let is_now = |point: &Point| {
            let at = point.value.at();
            at >= self.retention.before(now) && at <= MOST_AHEAD.after(now)
        };
        for point in points.into_iter().filter(is_now) {
            let _whatever = state.store(self.began, labels, point);
        }
    }

    /// How long windows wait for the sample that is next.
    fn waits(&self, state: &State) -> Span {
        let behind = state.newest.map_or(Span::default(), |newest| Span::between(newest, (self.clock)()));
        behind.min(LONGEST_WAIT).max(self.settle)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What merely happened stands where it may still be seen and counted, if that is not too far from where it belongs.
    fn placed(&self, labels: &Labels, point: Point) -> Option<Point> {
        let Value::Happened(Sample { at, value }) = point.value else { return Some(point) };
        let is_near = |later: &Timestamp| Span::between(at, *later) <= LONGEST_SHIFT;
        let unseen = self.read_until.map(|until| MOMENT.after(MOMENT.after(until))).filter(is_near);
        let newest = self.grown.get(labels).map(|newest| newest.at).filter(|newest| *newest > at);
        if newest.is_some_and(|newest| !is_near(&newest)) {
            return None;
        }
        let at = newest.max(unseen).map_or(at, |later| later.max(at));
        Some(Point { value: Value::Happened(Sample { at, value }), start: Some(MOMENT.before(at)) })
    }

    fn store(&mut self, began: Timestamp, labels: &Labels, point: Point) -> Appended {
        let Point { value, start } = point;
        let at = value.at();
        let known = match &value {
            Value::Now(_) | Value::Histogram(_) => None,
            Value::Grew(_) | Value::Happened(_) => self.grown.get(labels).copied(),
        };
        // Where a counter began it was zero. Told only for what began when we were there already: what was before may
        // have been counted by a look before a restart. Of growth it is known what it stood at; where nobody says since
        // when, a moment before is as good.
        let start = start.or(known.map(|_| MOMENT.before(at)));
        let start = start
            .filter(|start| (*start > began || known.is_some()) && *start < at)
            .filter(|start| Span::between(*start, at) <= LOOKBACK);
        if let (Some(start), Value::Now(_) | Value::Grew(_) | Value::Happened(_)) = (start, &value)
            && self.ring.newest(labels).is_none_or(|newest| newest < start)
            // Who is silent while nothing happens may be so for longer than windows look back. What came then would have
            // nothing before it, and would not count.
            && known.is_none_or(|known| known.at < start && Span::between(known.at, at) > LOOKBACK)
        {
            let value = known.map_or(0.0, |known| known.value);
            // If there is no room for it there is none for the sample either, and that says so.
            let _before = self.ring.append(labels, Sample { at: start, value });
        }
        match value {
            Value::Now(sample) => self.ring.append(labels, sample),
            Value::Histogram(histogram) => self.ring.append_histogram(labels, histogram),
            Value::Grew(growth) => self.grow(labels, growth),
            Value::Happened(more) => self.happen(labels, more),
        }
    }

    /// A counter that several tell of: what happened at the same time is added up.
    fn happen(&mut self, labels: &Labels, more: Sample) -> Appended {
        let Some(newest) = self.grown.get(labels).filter(|newest| newest.at == more.at) else {
            return self.grow(labels, more);
        };
        let sample = Sample { at: more.at, value: newest.value + more.value };
        let amended = self.ring.amend(labels, sample);
        if amended == Appended::Kept && sample.value.is_finite() {
            self.grown.insert(labels.clone(), sample);
        }
        amended
    }

    /// A counter that is told by how much it grew becomes one that is told as it stands.
    fn grow(&mut self, labels: &Labels, growth: Sample) -> Appended {
        let before = self.grown.get(labels).copied();
        if let Some(before) = before.filter(|before| before.at >= growth.at) {
            // Whether the growth was the same is not known any more; adding it twice would be worse than asking.
            return if before.at == growth.at { Appended::Known } else { Appended::Disorder };
        }
        // NaN and infinity would never go away again.
        let value = before.map_or(0.0, |before| before.value) + growth.value;
        let sample = Sample { at: growth.at, value };
        let appended = self.ring.append(labels, sample);
        if appended == Appended::Kept && value.is_finite() {
            self.grown.insert(labels.clone(), sample);
        }
        appended
    }
}

#[async_trait::async_trait]
impl SignalSource for PushedSource {
    async fn read(&self, selector: &str, range: Window) -> Result<Vec<RawSeries>, SourceError> {
        let selector = check_selector(selector)?;
        let mut behind = self.behind.subscribe();
        let told = behind.wait_for(|streams| *streams == 0);
        if tokio::time::timeout(PAST_WITHIN.duration(), told).await.is_err() {
            let what = format!("{}, whose stream has not told the past yet,", self.describe());
            return Err(SourceError::TimedOut { what, after: PAST_WITHIN });
        }
        let mut state = self.lock();
        state.read_until = state.read_until.max(Some(range.to));
        state.ring.read(&self.describe(), &selector, range)
    }
    fn settle(&self) -> Span {
        self.waits(&self.lock())
    }
    fn history(&self) -> bool {
        false
    }
    fn describe(&self) -> String {
        format!("pushed {:?}", self.name)
    }
    fn health(&self) -> SourceHealth {
        let state = self.lock();
        let silence = match state.came {
            None => Some("nothing was pushed yet".to_owned()),
            Some(came) => {
                let silent = Span::between(came, (self.clock)());
                let usual = Span::from_milliseconds(state.pause.milliseconds() * SILENT_TIMES);
                (silent > usual && silent > SILENT_FOR).then(|| {
                    format!(
                        "nothing was pushed for {silent}; before, the longest pause was about {}",
                        state.pause
                    )
                })
            }
        };
        let pushed = PushedHealth { held: state.ring.samples(), silence, ..state.totals.clone() };
        SourceHealth { series: state.ring.len(), pushed: Some(pushed), ..state.health.clone() }
    }
    fn give_bell(&self, bell: Bell) {
        // The first one stands: there is one loop that listens.
        let _known = self.bell.set(bell);
    }
}

/// What is wrong with the labels of a series.
fn check_labels(labels: &Labels) -> Result<(), String> {
    let name = labels.get("__name__").map(String::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err("a series has no name (`__name__`)".into());
    }
    if labels.len() > MOST_LABELS {
        return Err(format!("{} has {} labels, at most {MOST_LABELS} are taken", shown(name), labels.len()));
    }
    let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > LONGEST_LABELS {
        let name = shown(name);
        return Err(format!("the labels of {name} have {bytes} bytes, at most {LONGEST_LABELS} are taken"));
    }
    for (key, value) in labels {
        if key.is_empty() || key.len() > LONGEST_NAME || key.chars().any(char::is_control) {
            let (name, key) = (shown(name), shown(key));
            return Err(format!(
                "{name} has a label {key}, which is not the name of one (up to {LONGEST_NAME} bytes)"
            ));
        }
        if value.len() > LONGEST_VALUE {
            let (bytes, name, key) = (value.len(), shown(name), shown(key));
            return Err(format!(
                "the label {key} of {name} has {bytes} bytes, at most {LONGEST_VALUE} are taken"
            ));
        }
    }
    Ok(())
}

/// A name as it may stand in a message.
fn shown(name: &str) -> String {
    const LONGEST: usize = 100;
    let cut: String = name.chars().take(LONGEST).collect();
    let more = if cut.len() < name.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}
