//! Our own JSON for samples, and what both it and a mapping make of what they found.
//!
//! ```json
//! [{"name": "http_requests_total", "labels": {"code": "200"}, "at": "2026-03-01T12:00:00Z", "count": 17},
//!  {"name": "http_request_seconds", "histogram": {"bounds": [0.1, 1], "counts": [3, 1, 0], "sum": 0.9}}]
//! ```
//!
//! Growth with a time of its own is known by that time when it comes again. Growth without one stands where the broker took
//! it, however much of it came in the same moment.

use super::super::batch::{Batch, Point, PushedSeries, Value};
use super::super::limits::{BadPush, Budget, MOST_BUCKETS};
use super::super::{Labels, MOMENT};
use crate::events::Refused;
use crate::events::json::{Fields, kind, parse_within};
use jiff::Timestamp;
use rules::series::Sample;
use serde_json::Value as Json;

/// The longest JSON (1 MiB, what brokers take unless they are told otherwise): as objects in memory it takes up to forty
/// times as much.
pub(super) const MOST_JSON_BYTES: usize = 1024 * 1024;
const KEYS: [&str; 6] = ["name", "labels", "at", "value", "count", "histogram"];

/// What one sample says, whoever found it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// A gauge, or a counter since it began.
    Value(f64),
    /// By how much a counter grew.
    Count(f64),
    /// By how much a histogram grew.
    Histogram(Growth),
}

/// By how much a histogram grew.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Growth {
    /// Upper bounds, rising; without +Inf.
    pub bounds: Vec<f64>,
    /// How many fell into each bucket alone, the one of +Inf last.
    pub counts: Vec<f64>,
    pub sum: f64,
}

/// When it was: as the sender says, where each comes once and in order, or else in no strict order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    InOrder(Timestamp),
    About(Timestamp),
}

impl When {
    fn grew(self, value: f64) -> Point {
        match self {
            // What grew did so before it was told: where nothing is known of it yet, it was zero.
            When::InOrder(at) => {
                Point { value: Value::Grew(Sample { at, value }), start: Some(MOMENT.before(at)) }
            }
            When::About(at) => Point { value: Value::Happened(Sample { at, value }), start: None },
        }
    }
}

/// What is wrong with bounds, if anything.
pub(super) fn bounds_problem(bounds: &[f64]) -> Option<String> {
    if bounds.len() > MOST_BUCKETS {
        return Some(format!("there are {}, at most {MOST_BUCKETS} are allowed", bounds.len()));
    }
    let rising =
        bounds.windows(2).all(|pair| pair[0] < pair[1]) && bounds.iter().all(|bound| bound.is_finite());
    (bounds.is_empty() || !rising)
        .then(|| "must be numbers that rise, at least one; leave +Inf out".to_owned())
}

impl Growth {
    /// What is wrong with it, if anything: which part, and in words.
    fn problem(&self) -> Option<(&'static str, String)> {
        if let Some(problem) = bounds_problem(&self.bounds) {
            return Some(("bounds", problem));
        }
        if self.counts.len() != self.bounds.len() + 1 {
            let (needed, found) = (self.bounds.len() + 1, self.counts.len());
            return Some((
                "counts",
                format!("must be {needed}, one for each bound and one for +Inf; there are {found}"),
            ));
        }
        if let Some(bad) = self.counts.iter().find(|count| !(count.is_finite() && **count >= 0.0)) {
            return Some(("counts", format!("holds {bad}, which is no number from 0 on")));
        }
        (!self.sum.is_finite()).then(|| ("sum", format!("{} is not finite", self.sum)))
    }
}

/// Adds one sample to a batch. The error says which part is at fault, and why; what is too much for one message ends it.
pub(super) fn add(
    batch: &mut Batch,
    budget: &mut Budget,
    labels: Labels,
    when: When,
    said: Said,
) -> Result<Result<(), (&'static str, String)>, BadPush> {
    let point = match said {
        Said::Value(value) => {
            let (When::InOrder(at) | When::About(at)) = when;
            Point::now(Sample { at, value })
        }
        Said::Count(count) if count.is_finite() && count >= 0.0 => when.grew(count),
        Said::Count(count) => return Ok(Err(("count", format!("{count} is no number from 0 on")))),
        Said::Histogram(growth) => {
            return match growth.problem() {
                Some(problem) => Ok(Err(problem)),
                None => histogram(batch, budget, &labels, when, &growth).map(Ok),
            };
        }
    };
    push(batch, budget, labels, point).map(Ok)
}

fn push(batch: &mut Batch, budget: &mut Budget, labels: Labels, point: Point) -> Result<(), BadPush> {
    budget.samples(1)?;
    labels.iter().try_for_each(|(key, value)| budget.label(key, value))?;
    batch.series.push(PushedSeries { labels, points: vec![point] });
    Ok(())
}

/// A histogram becomes the series that a client of Prometheus shows: buckets that each count everything up to their bound,
/// the sum, and the count.
fn histogram(
    batch: &mut Batch,
    budget: &mut Budget,
    labels: &Labels,
    when: When,
    growth: &Growth,
) -> Result<(), BadPush> {
    let name = labels.get("__name__").cloned().unwrap_or_default();
    let mut one = |suffix: &str, bound: Option<String>, value: f64| {
        let mut labels = labels.clone();
        labels.insert("__name__".into(), format!("{name}{suffix}"));
        labels.extend(bound.map(|bound| ("le".to_owned(), bound)));
        push(batch, budget, labels, when.grew(value))
    };
    let mut sum = 0.0;
    for (index, count) in growth.counts.iter().enumerate() {
        sum += count;
        let bound = growth.bounds.get(index).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
        one("_bucket", Some(bound), sum)?;
    }
    one("_count", None, sum)?;
    // A counter that shrinks looks like one that began anew; sums of negative values say nothing here.
    if growth.sum >= 0.0 { one("_sum", None, growth.sum) } else { Ok(()) }
}

fn unreadable(refused: &Refused) -> BadPush {
    BadPush { status: refused.status, reason: refused.reason.clone() }
}

/// JSON, strictly.
pub(super) fn parse(body: &[u8]) -> Result<Json, BadPush> {
    parse_within(body, MOST_JSON_BYTES).map_err(|refused| unreadable(&refused))
}

/// Reads a message in our own form. `at` is when the broker took it. An entry that cannot be read is counted, and the others
/// are taken; if none can, the message is refused.
pub(super) fn decode(body: &[u8], at: Timestamp) -> Result<Batch, BadPush> {
    let value = parse(body)?;
    let (mut batch, mut budget) = (Batch::default(), Budget::default());
    let entries: Vec<(String, &Json)> = match &value {
        Json::Array(list) => list.iter().enumerate().map(|(n, entry)| (format!("[{n}]"), entry)).collect(),
        one => vec![(String::new(), one)],
    };
    let mut first = None;
    for (path, entry) in entries {
        let read = one(&path, entry, at);
        let added = match read {
            Ok((labels, when, said)) => add(&mut batch, &mut budget, labels, when, said)?
                .map_err(|(key, problem)| format!("{}: {problem}", place(&path, key))),
            Err(refused) => Err(refused.reason),
        };
        if let Err(problem) = added {
            first.get_or_insert_with(|| problem.clone());
            batch.unusable.samples(1, || problem);
        }
    }
    match first {
        Some(problem) if batch.series.is_empty() => Err(BadPush::unreadable("the message", problem)),
        _ => Ok(batch),
    }
}

fn place(path: &str, key: &str) -> String {
    let key = if key == "count" { key.to_owned() } else { format!("histogram.{key}") };
    if path.is_empty() { format!("`{key}`") } else { format!("`{path}.{key}`") }
}

fn one(path: &str, entry: &Json, broker: Timestamp) -> Result<(Labels, When, Said), Refused> {
    let fields = Fields::of(path, entry)?;
    fields.only(&KEYS)?;
    let mut labels = Labels::new();
    if let Some(given) = fields.optional_object("labels")? {
        for (key, _) in entry["labels"].as_object().into_iter().flatten() {
            if key == "__name__" {
                return Err(Refused::field(&given.place(key), "must not stand here; write `name`"));
            }
            labels.insert(key.clone(), given.text(key)?.to_owned());
        }
    }
    labels.insert("__name__".into(), fields.text("name")?.to_owned());
    let when = fields.optional_time("at")?.map_or(When::About(broker), When::InOrder);
    let given: Vec<&str> = KEYS[3..].iter().copied().filter(|key| fields.get(key).is_some()).collect();
    let said = match given[..] {
        ["value"] => Said::Value(number(&fields, "value")?),
        ["count"] => Said::Count(number(&fields, "count")?),
        ["histogram"] => {
            let histogram = fields.object("histogram")?;
            histogram.only(&["bounds", "counts", "sum"])?;
            Said::Histogram(Growth {
                bounds: numbers(&histogram, "bounds")?,
                counts: numbers(&histogram, "counts")?,
                sum: number(&histogram, "sum")?,
            })
        }
        _ => {
            let words = format!(
                "must have exactly one of value, count and histogram; it has {}",
                if given.is_empty() { "none".to_owned() } else { given.join(" and ") }
            );
            let path = if path.is_empty() { "the message" } else { path };
            return Err(Refused::field(path, words));
        }
    };
    Ok((labels, when, said))
}

fn number(fields: &Fields<'_>, key: &str) -> Result<f64, Refused> {
    let found = fields.get(key);
    found.and_then(Json::as_f64).ok_or_else(|| {
        let words = found.map_or("missing", kind);
        Refused::field(&fields.place(key), format!("must be a number, it is {words}"))
    })
}

fn numbers(fields: &Fields<'_>, key: &str) -> Result<Vec<f64>, Refused> {
    let wrong = || Refused::field(&fields.place(key), "must be a list of numbers");
    let list = fields.get(key).and_then(Json::as_array).ok_or_else(wrong)?;
    list.iter().map(|item| item.as_f64().ok_or_else(wrong)).collect()
}
