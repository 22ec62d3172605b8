//! Prometheus remote write, 1.0 and 2.0: a body in the block format of Snappy with a protocol buffer in it.
//!
//! [`decode`] is a pure function of what came. A request that cannot be read is refused as a whole; a series or a sample
//! that cannot be used is counted, and the rest is taken.

use super::batch::{Batch, Point, PushedSeries};
use super::limits::{BadPush, Budget, MOST_LABELS, MOST_UNPACKED_BYTES};
use super::native::{self, time};
use super::shown;
use super::wire::{Field, Fields, Malformed, varints};
use crate::signals::Labels;
use rules::series::Sample;

/// The message of version 2.0.
const SECOND: &str = "io.prometheus.write.v2.Request";
/// The message of version 1.0.
const FIRST: &str = "prometheus.WriteRequest";
/// Texts that series refer to in 2.0; a label is two of them, and most are shared.
const MOST_SYMBOLS: usize = 400_000;

/// The version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 1.0
    First,
    /// 2.0
    Second,
}

/// Which version a content type names, if any: `application/x-protobuf`, with `proto=` for 2.0.
///
/// # Errors
/// 415 for anything else.
pub fn version(content_type: &str) -> Result<Version, BadPush> {
    let unknown = || {
        BadPush::kind(format!(
            "the content type {} is not known; send application/x-protobuf (remote write 1.0) or \
             application/x-protobuf;proto={SECOND} (2.0)",
            shown(content_type)
        ))
    };
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/x-protobuf")) {
        return Err(unknown());
    }
    let proto = parts
        .filter_map(|part| part.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case("proto"));
    match proto.map(|(_, message)| message.trim().trim_matches('"')) {
        None | Some(FIRST) => Ok(Version::First),
        Some(SECOND) => Ok(Version::Second),
        Some(_) => Err(unknown()),
    }
}

/// Reads the body of a request, packed as it came.
///
/// # Errors
/// 400 if it cannot be read, 413 if it holds too much, 415 for a content type that is not known.
pub fn decode(content_type: &str, body: &[u8]) -> Result<Batch, BadPush> {
    let version = version(content_type)?;
    let message = unpack(body)?;
    match version {
        Version::First => first(&message),
        Version::Second => second(&message),
    }
}

fn unpack(body: &[u8]) -> Result<Vec<u8>, BadPush> {
    let wrong = |error: snap::Error| {
        BadPush::unreadable(
            "the body",
            format!("{error}; it must be in the block format of Snappy (not framed)"),
        )
    };
    // Before anything is unpacked: the length that it says is what is taken for it.
    let length = snap::raw::decompress_len(body).map_err(wrong)?;
    if length > MOST_UNPACKED_BYTES {
        return Err(BadPush::too_much(format!(
            "the body has {length} bytes when it is unpacked, at most {MOST_UNPACKED_BYTES} are taken; send less at once"
        )));
    }
    snap::raw::Decoder::new().decompress_vec(body).map_err(wrong)
}

fn unreadable(error: impl std::fmt::Display) -> BadPush {
    BadPush::unreadable("the message", error)
}

impl From<Malformed> for BadPush {
    fn from(malformed: Malformed) -> Self {
        unreadable(malformed)
    }
}

fn first(message: &[u8]) -> Result<Batch, BadPush> {
    let (mut batch, mut budget) = (Batch::default(), Budget::default());
    for field in Fields::of(message) {
        if let (1, field) = field? {
            let mut series = Reading::default();
            for field in Fields::of(field.bytes(1)?) {
                let (number, field) = field?;
                match number {
                    1 => {
                        let (name, value) = label(field.bytes(1)?)?;
                        series.label(name, value, &mut budget)?;
                    }
                    2 => series.sample(field.bytes(2)?, &mut budget)?,
                    4 => series.histogram(field.bytes(4)?, &mut budget)?,
                    _ => {}
                }
            }
            series.end(0, &mut batch);
        }
    }
    Ok(batch)
}

fn second(message: &[u8]) -> Result<Batch, BadPush> {
    let mut symbols = Vec::new();
    for field in Fields::of(message) {
        if let (4, field) = field? {
            if symbols.len() == MOST_SYMBOLS {
                return Err(BadPush::too_much(format!("more than {MOST_SYMBOLS} symbols in one request")));
            }
            symbols.push(std::str::from_utf8(field.bytes(4)?).map_err(unreadable)?);
        }
    }
    let (mut batch, mut budget) = (Batch::default(), Budget::default());
    for field in Fields::of(message) {
        if let (5, field) = field? {
            let (mut series, mut start) = (Reading::default(), 0);
            // References may be sent in several parts, a name in one and its value in the next.
            let mut name = None;
            for field in Fields::of(field.bytes(5)?) {
                let (number, field) = field?;
                match number {
                    1 => references(field, &symbols, &mut name, &mut series, &mut budget)?,
                    2 => series.sample(field.bytes(2)?, &mut budget)?,
                    3 => series.histogram(field.bytes(3)?, &mut budget)?,
                    6 => start = field.signed(6)?,
                    _ => {}
                }
            }
            if name.is_some() {
                return Err(unreadable("a series has a label without a value"));
            }
            series.end(start, &mut batch);
        }
    }
    Ok(batch)
}

fn references<'a>(
    field: Field<'a>,
    symbols: &[&'a str],
    name: &mut Option<&'a str>,
    series: &mut Reading,
    budget: &mut Budget,
) -> Result<(), BadPush> {
    for reference in varints(field, 1)? {
        let reference = reference?;
        let text = usize::try_from(reference).ok().and_then(|place| symbols.get(place));
        let text = text.ok_or_else(|| {
            unreadable(format!("a series refers to symbol {reference}, and there are {}", symbols.len()))
        })?;
        match name.take() {
            None => *name = Some(text),
            Some(name) => series.label(name, text, budget)?,
        }
    }
    Ok(())
}

fn label(message: &[u8]) -> Result<(&str, &str), BadPush> {
    let (mut name, mut value) = ("", "");
    for field in Fields::of(message) {
        match field? {
            (1, field) => name = std::str::from_utf8(field.bytes(1)?).map_err(unreadable)?,
            (2, field) => value = std::str::from_utf8(field.bytes(2)?).map_err(unreadable)?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// A series while it is read.
#[derive(Debug, Default)]
struct Reading {
    labels: Labels,
    /// The name of the label before: they must be sorted.
    last: String,
    /// What is wrong with the labels.
    problem: Option<String>,
    points: Vec<Point>,
    /// Samples with a time that is none, and histograms that are none.
    bad: Vec<(bool, String)>,
}

impl Reading {
    fn label(&mut self, name: &str, value: &str, budget: &mut Budget) -> Result<(), BadPush> {
        budget.label(name, value)?;
        if self.problem.is_some() {
            return Ok(());
        }
        if self.labels.len() == MOST_LABELS {
            self.problem = Some(format!("a series has more than {MOST_LABELS} labels"));
        } else if self.labels.contains_key(name) {
            self.problem = Some(format!("a series has the label {} twice", shown(name)));
        } else if name < self.last.as_str() {
            let (name, last) = (shown(name), shown(&self.last));
            self.problem = Some(format!("the labels of a series are not sorted: {name} after {last}"));
        }
        name.clone_into(&mut self.last);
        self.labels.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn sample(&mut self, message: &[u8], budget: &mut Budget) -> Result<(), BadPush> {
        budget.samples(1)?;
        let (mut value, mut at, mut start) = (0.0, 0, 0);
        for field in Fields::of(message) {
            match field? {
                (1, field) => value = field.double(1)?,
                (2, field) => at = field.signed(2)?,
                (3, field) => start = field.signed(3)?,
                _ => {}
            }
        }
        match time(at) {
            Ok(at) => self.points.push(Point { start: began(start), ..Point::now(Sample { at, value }) }),
            Err(problem) => self.bad.push((false, problem)),
        }
        Ok(())
    }

    fn histogram(&mut self, message: &[u8], budget: &mut Budget) -> Result<(), BadPush> {
        let sent = native::read(message)?;
        budget.samples(1 + sent.histogram.as_ref().map_or(0, |histogram| histogram.buckets.len()))?;
        match sent.histogram {
            Ok(histogram) => {
                let value = super::Value::Histogram(histogram);
                self.points.push(Point { value, start: began(sent.start) });
            }
            Err(problem) => self.bad.push((true, format!("the histogram at {}: {problem}", sent.at))),
        }
        Ok(())
    }

    fn end(self, start: i64, batch: &mut Batch) {
        let name = || self.labels.get("__name__").map_or_else(|| "a series".to_owned(), |name| shown(name));
        for (is_histogram, problem) in &self.bad {
            let words = || format!("{}: {problem}", name());
            match is_histogram {
                true => batch.unusable.histograms(1, words),
                false => batch.unusable.samples(1, words),
            }
        }
        if let Some(problem) = self.problem {
            let is_histogram = |point: &&Point| matches!(point.value, super::Value::Histogram(_));
            let histograms = self.points.iter().filter(is_histogram).count() as u64;
            batch.unusable.samples(self.points.len() as u64 - histograms, || problem.clone());
            batch.unusable.histograms(histograms, || problem.clone());
            return;
        }
        let mut points = self.points;
        // Early senders of 2.0 tell the beginning once for a series.
        if let Some(start) = began(start) {
            points.iter_mut().for_each(|point| point.start = point.start.or(Some(start)));
        }
        if !points.is_empty() {
            batch.series.push(PushedSeries { labels: self.labels, points });
        }
    }
}

/// Zero says that nothing is known of the beginning.
fn began(milliseconds: i64) -> Option<jiff::Timestamp> {
    (milliseconds > 0).then(|| time(milliseconds).ok()).flatten()
}

#[cfg(test)]
mod tests;
