//! Reads an answer of the query API, strictly: what is not a complete list of raw samples is an error.
//!
//! The crate's own types drop `warnings` and `infos`, and a partial answer would look like a complete one. So the body
//! is read here. A series may hold plain values, native histograms or (its type was changed) both; what they are good
//! for is judged by `rules::series`.

use super::super::SourceError;
use super::super::http::excerpt;
use jiff::Timestamp;
use rules::series::{HistogramSample, NativeBucket, RawSeries, Sample, Window};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, BTreeSet};

/// The most series of one answer. A service has a few hundred; more means a selector that selects too much.
pub(super) const LIMIT_SERIES: usize = 10_000;

/// The most buckets of one native histogram. Client libraries hold 160 at most unless they are told otherwise, twice
/// that with negative ones; with this limit a single sample stays below 100 kB.
pub(super) const MOST_BUCKETS: usize = 1_000;

/// Everything but the samples. Unknown keys are let pass: servers add some (`stats`, `trace`, `isPartial`).
#[derive(Deserialize)]
struct Envelope {
    status: String,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    error: Option<String>,
    warnings: Option<Vec<String>>,
    infos: Option<Vec<String>>,
    /// VictoriaMetrics says so, without a warning.
    #[serde(rename = "isPartial", default)]
    is_partial: bool,
    data: Option<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "resultType")]
    result_type: String,
    #[serde(rename = "result")]
    _result: IgnoredAny,
}

/// The samples, once it is known that there are some.
#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    metric: BTreeMap<String, String>,
    values: Option<Vec<(f64, String)>>,
    histograms: Option<Vec<(f64, Histogram)>>,
}

/// A native histogram. Numbers come as text, because JSON has no infinity.
#[derive(Deserialize)]
struct Histogram {
    count: String,
    sum: String,
    /// How the bounds belong to the bucket (0 to 3), lower and upper bound, count. Left out when all are empty.
    buckets: Option<Vec<(u8, String, String, String)>>,
}

/// What an answer with an error says, if it speaks the API's language.
pub(super) fn complaint(bytes: &[u8]) -> Option<String> {
    let envelope: Envelope = serde_json::from_slice(bytes).ok()?;
    Some(envelope.complaint())
}

impl Envelope {
    fn complaint(&self) -> String {
        let part = |part: &Option<String>| part.as_deref().map_or("(not said)".to_string(), excerpt);
        format!("{}: {}", part(&self.error_type), part(&self.error))
    }
}

/// The series of an answer, cut to `range`. The body is gone through twice, first without samples, so that a wrong
/// kind of answer is named as what it is and not as a missing comma.
pub(in crate::signals) fn parse(
    what: &str,
    status: u16,
    bytes: &[u8],
    range: Window,
) -> Result<Vec<RawSeries>, SourceError> {
    let malformed = |problem: String| SourceError::Malformed { what: what.into(), problem };
    let json = |error: serde_json::Error| {
        let beginning = excerpt(&String::from_utf8_lossy(bytes.get(..400).unwrap_or(bytes)));
        malformed(format!("{error}; it begins with {beginning:?}"))
    };
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(json)?;
    if envelope.status != "success" {
        return Err(SourceError::Refused { what: what.into(), status, answer: envelope.complaint() });
    }
    for info in envelope.infos.iter().flatten() {
        tracing::debug!(source = what, info = %excerpt(info), "the server remarks");
    }
    let mut warnings = envelope.warnings.clone().unwrap_or_default();
    if envelope.is_partial {
        warnings.push("isPartial".into());
    }
    if !warnings.is_empty() {
        // A bare selector gives no cause for any other warning than that data are missing or cut off.
        return Err(SourceError::Warned { what: what.into(), warnings: excerpt(&warnings.join("; ")) });
    }
    let Some(kind) = envelope.data else {
        return Err(malformed("it says success and has no data".into()));
    };
    if kind.result_type != "matrix" {
        let kind = excerpt(&kind.result_type);
        return Err(malformed(format!(
            "a result of type {kind:?}, although samples (a matrix) were asked for"
        )));
    }
    let answer: Answer = serde_json::from_slice(bytes).map_err(json)?;
    if answer.data.result.len() > LIMIT_SERIES {
        let problem = format!("{} series, at most {LIMIT_SERIES} are read", answer.data.result.len());
        return Err(SourceError::TooLarge { what: what.into(), problem });
    }
    let mut seen = BTreeSet::new();
    let mut series = Vec::with_capacity(answer.data.result.len());
    for item in answer.data.result {
        let one = item.series(range).map_err(malformed)?;
        if !seen.insert(one.labels.clone()) {
            return Err(malformed(format!("the series {:?} is there twice", one.labels)));
        }
        series.push(one);
    }
    Ok(series)
}

impl Item {
    fn series(self, range: Window) -> Result<RawSeries, String> {
        let labels = self.metric;
        if self.values.is_none() && self.histograms.is_none() {
            return Err(format!("{labels:?} has no values"));
        }
        let wrong = |problem: String| format!("{labels:?} has {problem}");
        let mut samples = Vec::new();
        for (seconds, text) in self.values.into_iter().flatten() {
            let at = time(seconds).map_err(wrong)?;
            let value = number("the value", &text).map_err(wrong)?;
            // Prometheus 2 gives the sample at the range's beginning, too.
            if range.contains(at) {
                samples.push(Sample { at, value });
            }
        }
        let mut histograms = Vec::new();
        for (seconds, histogram) in self.histograms.into_iter().flatten() {
            let at = time(seconds).map_err(wrong)?;
            let sample = histogram
                .sample(at)
                .map_err(|problem| format!("{labels:?} has a native histogram at {at} with {problem}"))?;
            if range.contains(at) {
                histograms.push(sample);
            }
        }
        Ok(RawSeries { labels, samples, histograms })
    }
}

impl Histogram {
    fn sample(self, at: Timestamp) -> Result<HistogramSample, String> {
        let buckets = self.buckets.unwrap_or_default();
        if buckets.len() > MOST_BUCKETS {
            return Err(format!(
                "{} buckets, at most {MOST_BUCKETS} are read; lower its resolution, for example with \
                 `native_histogram_bucket_limit` where it is scraped",
                buckets.len()
            ));
        }
        let bucket = |(rule, lower, upper, count): (u8, String, String, String)| {
            if rule > 3 {
                return Err(format!("the boundary rule {rule}; known are 0 to 3"));
            }
            Ok(NativeBucket {
                lower: number("the lower bound", &lower)?,
                upper: number("the upper bound", &upper)?,
                count: number("the bucket's count", &count)?,
            })
        };
        Ok(HistogramSample {
            at,
            count: number("the count", &self.count)?,
            sum: number("the sum", &self.sum)?,
            buckets: buckets.into_iter().map(bucket).collect::<Result<_, _>>()?,
        })
    }
}

/// A number that was written as text; NaN and infinities are numbers here.
fn number(what: &str, text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("{what} {:?}, which is not a number", excerpt(text)))
}

/// From seconds with a fraction to the millisecond they were written from.
fn time(seconds: f64) -> Result<Timestamp, String> {
    let milliseconds = (seconds * 1_000.0).round();
    // Far beyond what a timestamp can hold, and far below where the cast would saturate.
    let known = milliseconds.is_finite() && milliseconds.abs() <= 1e15;
    let at = known.then(|| Timestamp::from_millisecond(milliseconds as i64).ok()).flatten();
    at.ok_or_else(|| format!("the time {seconds}"))
}
