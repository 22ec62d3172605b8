//! OpenTelemetry metrics over HTTP (OTLP), as protocol buffer or JSON.
//!
//! [`decode`] is a pure function of what came. A protocol buffer is walked through point by point and never built as a
//! whole, since two bytes on the wire can be a hundred in memory. JSON is built as a whole; it is bounded more tightly.

mod names;
mod reader;
#[cfg(test)]
mod tests;

use super::batch::Batch;
use super::limits::BadPush;
use super::shown;
use super::wire::{Fields, Malformed};
use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint, SummaryDataPoint,
};
use prost::Message;
use reader::{Metric, Reader, Resource};
use std::borrow::Cow;
use std::io::Read as _;

/// The longest JSON (4 MiB): as objects in memory it takes up to forty times as much.
const MOST_JSON_BYTES: usize = 4 * 1024 * 1024;
/// The longest single point or resource (256 KiB): one with a thousand buckets has 16 KiB.
const MOST_POINT_BYTES: usize = 256 * 1024;
/// The longest words of an answer; SDKs write them into their logs.
const LONGEST_WORDS: usize = 1_000;

/// In which form a request is, and so its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `application/x-protobuf`
    Protobuf,
    /// `application/json`
    Json,
}

/// The form that a content type names.
///
/// # Errors
/// 415 for anything else.
pub fn form(content_type: &str) -> Result<Form, BadPush> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/x-protobuf") {
        Ok(Form::Protobuf)
    } else if kind.eq_ignore_ascii_case("application/json") {
        Ok(Form::Json)
    } else {
        Err(BadPush::kind(format!(
            "the content type {} is not known; send application/x-protobuf or application/json",
            shown(content_type)
        )))
    }
}

/// Unpacks a body; at most `most` bytes may come of it.
///
/// # Errors
/// 400 if it cannot be unpacked, 413 if more than that comes of it, 415 for an encoding other than `gzip`.
pub fn unpack<'b>(encoding: &str, body: &'b [u8], most: usize) -> Result<Cow<'b, [u8]>, BadPush> {
    match encoding.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Cow::Borrowed(body)),
        "gzip" => {
            let mut unpacked = Vec::new();
            let read = MultiGzDecoder::new(body).take(most as u64 + 1).read_to_end(&mut unpacked);
            read.map_err(|error| BadPush::unreadable("the packed body", error))?;
            match unpacked.len() > most {
                true => Err(BadPush::too_much(format!(
                    "the body has more than {most} bytes when it is unpacked; send less at once"
                ))),
                false => Ok(Cow::Owned(unpacked)),
            }
        }
        _ => Err(BadPush::kind(format!(
            "the encoding {} is not known; send the body as it is or as gzip",
            shown(encoding)
        ))),
    }
}

/// Reads a body that is not packed any more.
///
/// # Errors
/// 400 if it cannot be read, 413 if it holds too much, 415 for a content type that is not known.
pub fn decode(content_type: &str, body: &[u8]) -> Result<Batch, BadPush> {
    match form(content_type)? {
        Form::Protobuf => protobuf(body),
        Form::Json => json(body),
    }
}

/// The answer to a request of which so many points were refused, for the reason in `words`: its content type and body.
pub fn answer(form: Form, refused: u64, words: String) -> (&'static str, Vec<u8>) {
    let words: String = words.chars().take(LONGEST_WORDS).collect();
    match form {
        Form::Protobuf => {
            let rejected_data_points = i64::try_from(refused).unwrap_or(i64::MAX);
            let partial = ExportMetricsPartialSuccess { rejected_data_points, error_message: words };
            let partial_success = (refused > 0).then_some(partial);
            ("application/x-protobuf", ExportMetricsServiceResponse { partial_success }.encode_to_vec())
        }
        Form::Json => {
            // Whole numbers of 64 bits are texts in the JSON of protocol buffers.
            let partial =
                serde_json::json!({ "rejectedDataPoints": refused.to_string(), "errorMessage": words });
            let answer = match refused {
                0 => serde_json::json!({}),
                _ => serde_json::json!({ "partialSuccess": partial }),
            };
            ("application/json", answer.to_string().into_bytes())
        }
    }
}

fn part<T: Message + Default>(bytes: &[u8]) -> Result<T, BadPush> {
    if bytes.len() > MOST_POINT_BYTES {
        return Err(BadPush::too_much(format!("one point has more than {MOST_POINT_BYTES} bytes")));
    }
    T::decode(bytes).map_err(|error| BadPush::unreadable("the message", error))
}

fn protobuf(body: &[u8]) -> Result<Batch, BadPush> {
    let mut reader = Reader::default();
    for field in Fields::of(body) {
        if let (1, resource) = field? {
            let resource_metrics = resource.bytes(1)?;
            let mut resource = Resource::of(&resource_of(resource_metrics)?);
            for field in Fields::of(resource_metrics) {
                if let (2, scope) = field? {
                    for field in Fields::of(scope.bytes(2)?) {
                        if let (2, metric) = field? {
                            read_metric(metric.bytes(2)?, &mut resource, &mut reader)?;
                        }
                    }
                }
            }
            reader.end(resource)?;
        }
    }
    Ok(reader.finish())
}

fn resource_of(message: &[u8]) -> Result<Vec<opentelemetry_proto::tonic::common::v1::KeyValue>, BadPush> {
    let mut attributes = Vec::new();
    for field in Fields::of(message) {
        if let (1, field) = field? {
            let resource: opentelemetry_proto::tonic::resource::v1::Resource = part(field.bytes(1)?)?;
            attributes = resource.attributes;
        }
    }
    Ok(attributes)
}

/// The kinds of metrics, by the number of their field.
const GAUGE: u32 = 5;
const SUM: u32 = 7;
const HISTOGRAM: u32 = 9;
const EXPONENTIAL: u32 = 10;
const SUMMARY: u32 = 11;

fn read_metric(message: &[u8], resource: &mut Resource, reader: &mut Reader) -> Result<(), BadPush> {
    let (mut name, mut unit, mut data) = ("", "", None);
    let text = |bytes| std::str::from_utf8(bytes).map_err(|error| BadPush::unreadable("a name", error));
    for field in Fields::of(message) {
        match field? {
            (1, field) => name = text(field.bytes(1)?)?,
            (3, field) => unit = text(field.bytes(3)?)?,
            (kind @ (GAUGE | SUM | HISTOGRAM | EXPONENTIAL | SUMMARY), field) => {
                data = Some((kind, field.bytes(kind)?));
            }
            _ => {}
        }
    }
    let Some((kind, data)) = data else { return Ok(()) };
    let (temporality, monotonic) = nature(data)?;
    let metric =
        Metric { name: name.to_owned(), unit: unit.to_owned(), temporality: temporality.into(), monotonic };
    for field in Fields::of(data) {
        if let (1, point) = field? {
            let point = point.bytes(1)?;
            match kind {
                GAUGE | SUM => {
                    reader.number(resource, &metric, kind == SUM, &part::<NumberDataPoint>(point)?)?;
                }
                HISTOGRAM => reader.histogram(resource, &metric, &part::<HistogramDataPoint>(point)?)?,
                EXPONENTIAL => {
                    reader.exponential(resource, &metric, &part::<ExponentialHistogramDataPoint>(point)?)?;
                }
                _ => reader.summary(resource, &metric, &part::<SummaryDataPoint>(point)?)?,
            }
        }
    }
    Ok(())
}

/// How a metric is to be understood: its temporality, and whether it only grows.
fn nature(data: &[u8]) -> Result<(i32, bool), Malformed> {
    let (mut temporality, mut monotonic) = (0, false);
    for field in Fields::of(data) {
        match field? {
            (2, field) => temporality = i32::try_from(field.varint(2)?).unwrap_or_default(),
            (3, field) => monotonic = field.varint(3)? != 0,
            _ => {}
        }
    }
    Ok((temporality, monotonic))
}

fn json(body: &[u8]) -> Result<Batch, BadPush> {
    if body.len() > MOST_JSON_BYTES {
        return Err(BadPush::too_much(format!(
            "the body has more than {MOST_JSON_BYTES} bytes of JSON; send less at once, or application/x-protobuf"
        )));
    }
    let request: ExportMetricsServiceRequest =
        serde_json::from_slice(body).map_err(|error| BadPush::unreadable("the body", error))?;
    let mut reader = Reader::default();
    for metrics in &request.resource_metrics {
        let attributes = metrics.resource.as_ref().map(|resource| resource.attributes.as_slice());
        let mut resource = Resource::of(attributes.unwrap_or_default());
        for metric in metrics.scope_metrics.iter().flat_map(|scope| &scope.metrics) {
            let (temporality, monotonic) = match &metric.data {
                Some(Data::Sum(sum)) => (sum.aggregation_temporality, sum.is_monotonic),
                Some(Data::Histogram(histogram)) => (histogram.aggregation_temporality, false),
                Some(Data::ExponentialHistogram(histogram)) => (histogram.aggregation_temporality, false),
                Some(Data::Gauge(_) | Data::Summary(_)) | None => (0, false),
            };
            let about = Metric {
                name: metric.name.clone(),
                unit: metric.unit.clone(),
                temporality: temporality.into(),
                monotonic,
            };
            points(metric.data.as_ref(), &mut resource, &about, &mut reader)?;
        }
        reader.end(resource)?;
    }
    Ok(reader.finish())
}

fn points(
    data: Option<&Data>,
    resource: &mut Resource,
    about: &Metric,
    reader: &mut Reader,
) -> Result<(), BadPush> {
    match data {
        Some(Data::Gauge(gauge)) => {
            gauge.data_points.iter().try_for_each(|point| reader.number(resource, about, false, point))
        }
        Some(Data::Sum(sum)) => {
            sum.data_points.iter().try_for_each(|point| reader.number(resource, about, true, point))
        }
        Some(Data::Histogram(histogram)) => {
            histogram.data_points.iter().try_for_each(|point| reader.histogram(resource, about, point))
        }
        Some(Data::ExponentialHistogram(histogram)) => {
            histogram.data_points.iter().try_for_each(|point| reader.exponential(resource, about, point))
        }
        Some(Data::Summary(summary)) => {
            summary.data_points.iter().try_for_each(|point| reader.summary(resource, about, point))
        }
        None => Ok(()),
    }
}
