//! Exports as SDKs make them, as protocol buffer and as JSON, and broken in every way.

use super::super::{PushedConfig, PushedSource, Taken, Value};
use super::*;
use crate::signals::SignalSource as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, Gauge, Histogram, Metric as Sent, ResourceMetrics, ScopeMetrics, Sum, Summary,
};
use opentelemetry_proto::tonic::resource::v1::Resource as SentResource;
use proptest::prelude::*;
use std::io::Write as _;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
/// In nanoseconds.
const NOW: u64 = 1_700_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;
const DELTA: i32 = 1;
const CUMULATIVE: i32 = 2;

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn point(value: f64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![attribute("http.status", "500")],
        start_time_unix_nano: NOW - SECOND,
        time_unix_nano: NOW,
        value: Some(Number::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn metric(name: &str, unit: &str, data: Data) -> Sent {
    Sent { name: name.into(), unit: unit.into(), data: Some(data), ..Sent::default() }
}

fn sum(temporality: i32, is_monotonic: bool, data_points: Vec<NumberDataPoint>) -> Data {
    Data::Sum(Sum { data_points, aggregation_temporality: temporality, is_monotonic })
}

fn histogram(temporality: i32, bounds: &[f64], counts: &[u64]) -> Data {
    let data_point = HistogramDataPoint {
        time_unix_nano: NOW,
        start_time_unix_nano: NOW - SECOND,
        count: counts.iter().sum(),
        sum: Some(1.5),
        explicit_bounds: bounds.to_vec(),
        bucket_counts: counts.to_vec(),
        ..HistogramDataPoint::default()
    };
    Data::Histogram(Histogram { data_points: vec![data_point], aggregation_temporality: temporality })
}

fn exponential(temporality: i32, scale: i32) -> Data {
    let data_point = ExponentialHistogramDataPoint {
        time_unix_nano: NOW,
        count: 6,
        sum: Some(1.5),
        scale,
        zero_count: 1,
        positive: Some(Buckets { offset: -2, bucket_counts: vec![2, 0, 3] }),
        ..ExponentialHistogramDataPoint::default()
    };
    Data::ExponentialHistogram(ExponentialHistogram {
        data_points: vec![data_point],
        aggregation_temporality: temporality,
    })
}

fn request(metrics: Vec<Sent>) -> ExportMetricsServiceRequest {
    let attributes = vec![
        attribute("service.namespace", "shop"),
        attribute("service.name", "checkout"),
        attribute("service.instance.id", "a-1"),
        attribute("service.version", "v2"),
        attribute("telemetry.sdk.language", "rust"),
    ];
    let resource = Some(SentResource { attributes, ..SentResource::default() });
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn everything() -> ExportMetricsServiceRequest {
    let quantile_values = vec![ValueAtQuantile { quantile: 0.5, value: 0.1 }];
    let summary =
        SummaryDataPoint { time_unix_nano: NOW, count: 3, sum: 0.4, quantile_values, ..Default::default() };
    request(vec![
        metric("queue.length", "{item}", Data::Gauge(Gauge { data_points: vec![point(7.0)] })),
        metric("http.requests", "1", sum(CUMULATIVE, true, vec![point(5.0)])),
        metric("http.active", "", sum(CUMULATIVE, false, vec![point(2.0)])),
        metric("http.duration", "s", histogram(CUMULATIVE, &[0.1, 1.0], &[1, 2, 3])),
        metric("http.exp", "s", exponential(CUMULATIVE, 0)),
        metric("gc", "s", Data::Summary(Summary { data_points: vec![summary] })),
    ])
}

/// What a batch holds, one line each: name, labels beside the resource's own, value.
fn lines(batch: &Batch) -> Vec<String> {
    let mut lines = Vec::new();
    for series in batch.series.iter().chain(&batch.info) {
        let own = |key: &str| !["__name__", "job", "instance", "service_version"].contains(&key);
        let labels: Vec<String> = series
            .labels
            .iter()
            .filter(|(key, _)| own(key))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        for point in &series.points {
            let value = match &point.value {
                Value::Now(sample) if sample.is_stale() => "ended".to_owned(),
                Value::Now(sample) => sample.value.to_string(),
                Value::Grew(sample) | Value::Happened(sample) => format!("+{}", sample.value),
                Value::Histogram(histogram) => {
                    let buckets = histogram.buckets.iter();
                    let bounds = buckets.map(|one| format!("{}..{}:{}", one.lower, one.upper, one.count));
                    format!("{} {}", histogram.count, bounds.collect::<Vec<_>>().join(" "))
                }
            };
            let start = if point.start.is_some() { " from" } else { "" };
            lines.push(format!("{} {} {value}{start}", series.labels["__name__"], labels.join(",")));
        }
    }
    lines
}

#[test]
fn every_kind_is_what_prometheus_would_have_made_of_it() {
    let expected = [
        "queue_length http_status=500 7",
        "http_requests_total http_status=500 5 from",
        "http_active http_status=500 2",
        "http_duration_seconds_bucket le=0.1 1 from",
        "http_duration_seconds_bucket le=1 3 from",
        "http_duration_seconds_bucket le=+Inf 6 from",
        "http_duration_seconds_count  6 from",
        "http_duration_seconds_sum  1.5 from",
        "http_exp_seconds  6 -0..0:1 0.25..0.5:2 1..2:3",
        "gc_seconds quantile=0.5 0.1",
        "gc_seconds_count  3",
        "gc_seconds_sum  0.4",
        "target_info telemetry_sdk_language=rust 1",
    ];
    let request = everything();
    let body = request.encode_to_vec();
    let batch = decode(PROTOBUF, &body).unwrap();
    assert_eq!(lines(&batch), expected);
    let labels = &batch.series[0].labels;
    assert_eq!(
        (&*labels["job"], &*labels["instance"], &*labels["service_version"]),
        ("shop/checkout", "a-1", "v2")
    );
    assert_eq!(batch.unusable, Default::default());
    let json = serde_json::to_vec(&request).unwrap();
    assert_eq!(decode("application/json; charset=utf-8", &json).unwrap(), batch, "the same as JSON");
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&body).unwrap();
    assert_eq!(unpack("GZIP", &packed.finish().unwrap(), body.len()).unwrap(), body);
}

#[test]
fn growth_is_told_as_growth_and_an_end_as_an_end() {
    let ended = NumberDataPoint { flags: 1, value: None, ..point(0.0) };
    let batch = decode(
        PROTOBUF,
        &request(vec![
            metric("a", "", sum(DELTA, true, vec![point(5.0)])),
            metric("b", "", sum(DELTA, false, vec![point(-5.0)])),
            metric("c", "", histogram(DELTA, &[0.1], &[1, 2])),
            metric("d", "", sum(CUMULATIVE, true, vec![ended])),
        ])
        .encode_to_vec(),
    )
    .unwrap();
    let expected = [
        "a_total http_status=500 +5 from",
        "b http_status=500 +-5",
        "c_bucket le=0.1 +1 from",
        "c_bucket le=+Inf +3 from",
        "c_count  +3 from",
        "c_sum  +1.5 from",
        "d_total http_status=500 ended",
        "target_info telemetry_sdk_language=rust 1",
    ];
    assert_eq!(lines(&batch), expected);
}

#[test]
fn what_cannot_be_used_is_counted_with_words_and_the_rest_is_taken() {
    let number = |change: fn(&mut NumberDataPoint)| {
        let mut point = point(1.0);
        change(&mut point);
        point
    };
    let table: [(Data, &str); 11] = [
        (sum(0, true, vec![point(1.0)]), "cumulative or a delta"),
        (sum(CUMULATIVE, true, vec![point(-1.0)]), "is negative"),
        (sum(CUMULATIVE, true, vec![number(|point| point.time_unix_nano = 0)]), "has no time"),
        (sum(CUMULATIVE, true, vec![number(|point| point.value = None)]), "has no value"),
        (histogram(0, &[0.1], &[1, 2]), "cumulative or a delta"),
        (histogram(CUMULATIVE, &[0.1], &[1]), "one count more than bounds"),
        (histogram(CUMULATIVE, &[0.2, 0.1], &[1, 2, 3]), "do not ascend"),
        (histogram(CUMULATIVE, &[f64::NAN], &[1, 2]), "do not ascend"),
        (histogram(CUMULATIVE, &vec![0.1; 1_500], &vec![1; 1_501]), "too many buckets"),
        (exponential(DELTA, 0), "cumulative only"),
        (exponential(CUMULATIVE, -10), "its schema is -10"),
    ];
    for (data, words) in table {
        let body = request(vec![
            metric("a", "", data),
            everything().resource_metrics[0].scope_metrics[0].metrics[0].clone(),
        ]);
        let batch = decode(PROTOBUF, &body.encode_to_vec()).unwrap();
        assert_eq!((batch.series.len(), batch.unusable.samples), (1, 1), "{words}");
        let why = batch.unusable.why.unwrap();
        assert!(why.contains(words) && why.contains("\"a\""), "{why}");
    }
}

#[test]
fn a_finer_scale_than_prometheus_has_is_made_coarser() {
    let batch =
        decode(PROTOBUF, &request(vec![metric("a", "", exponential(CUMULATIVE, 10))]).encode_to_vec())
            .unwrap();
    let Value::Histogram(histogram) = &batch.series[0].points[0].value else { panic!("{batch:?}") };
    // Four buckets of scale 10 are one of scale 8: those of -2 and -1 lie below 1, that of 0 above.
    let counts: Vec<f64> = histogram.buckets.iter().map(|bucket| bucket.count).collect();
    assert_eq!(counts, [1.0, 2.0, 3.0]);
    assert_eq!((histogram.buckets[1].upper, histogram.buckets[2].lower), (1.0, 1.0));
}

#[test]
fn deltas_that_are_sent_again_do_not_count_twice() {
    let now = || Timestamp::from_nanosecond(i128::from(NOW + SECOND)).unwrap();
    let source = PushedSource::new("push", &PushedConfig::default(), None, now).unwrap();
    let body = request(vec![metric("a", "", sum(DELTA, true, vec![point(5.0)]))]).encode_to_vec();
    let first = source.take(now(), decode(PROTOBUF, &body).unwrap());
    assert_eq!(first, Taken { kept: 1, ..Taken::default() }, "what is told beside is not counted");
    let again = source.take(now(), decode(PROTOBUF, &body).unwrap());
    assert_eq!(again, Taken { known: 1, ..Taken::default() });
    assert_eq!(source.health().series, 2);
}

/// A request of a resource with these attributes beside its name.
fn from_resource(attributes: &[(&str, &str)], metrics: Vec<Sent>) -> Vec<u8> {
    let mut request = request(metrics);
    let attributes = attributes.iter().map(|(key, value)| attribute(key, value));
    let named = std::iter::once(attribute("service.name", "checkout")).chain(attributes).collect();
    request.resource_metrics[0].resource =
        Some(SentResource { attributes: named, ..SentResource::default() });
    request.encode_to_vec()
}

#[test]
fn an_instance_without_an_id_is_what_tells_it_apart() {
    type Case<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>);
    let table: [Case<'_>; 7] = [
        (&[("service.instance.id", "i"), ("k8s.pod.uid", "u")], Some("i")),
        (&[("k8s.pod.name", "p"), ("k8s.pod.uid", "u")], None),
        (&[("host.name", "h"), ("k8s.pod.uid", "u"), ("container.id", "c")], Some("u")),
        (&[("host.name", "h"), ("container.id", "c"), ("service.instance.id", "")], Some("c")),
        (&[("host.name", "h"), ("process.pid", "7")], Some("h:7")),
        (&[("host.name", "h")], Some("h")),
        (&[("process.pid", "7")], None),
    ];
    for (attributes, instance) in table {
        let body = from_resource(attributes, vec![metric("a", "", sum(DELTA, true, vec![point(5.0)]))]);
        let batch = decode(PROTOBUF, &body).unwrap();
        for series in batch.series.iter().chain(&batch.info) {
            assert_eq!(series.labels.get("instance").map(String::as_str), instance, "{attributes:?}");
        }
    }
}

#[tokio::test]
async fn of_two_senders_under_the_same_labels_only_one_is_taken_and_that_is_told() {
    let now = || Timestamp::from_nanosecond(i128::from(NOW + 60 * SECOND)).unwrap();
    let source = PushedSource::new("push", &PushedConfig::default(), None, now).unwrap();
    let tell = |second: u64, value: f64, began: u64| {
        let times = (NOW + second * SECOND, NOW - 100 * SECOND + began * SECOND);
        let counted =
            NumberDataPoint { time_unix_nano: times.0, start_time_unix_nano: times.1, ..point(value) };
        let mut native = exponential(CUMULATIVE, 0);
        if let Data::ExponentialHistogram(histogram) = &mut native {
            let one = &mut histogram.data_points[0];
            (one.time_unix_nano, one.start_time_unix_nano) = times;
        }
        let metrics = vec![metric("a", "", sum(CUMULATIVE, true, vec![counted])), metric("b", "", native)];
        source.take(now(), decode(PROTOBUF, &from_resource(&[], metrics)).unwrap())
    };
    // Two replicas in turn; the second one began later.
    let kept = Taken { kept: 1, histograms: 1, ..Taken::default() };
    assert_eq!(tell(1, 1_000.0, 0), kept);
    assert_eq!(tell(2, 50.0, 10), kept, "it may be the same one that began anew");
    for second in [3, 5] {
        let taken = tell(second, 1_010.0, 0);
        assert_eq!((taken.kept + taken.histograms, taken.disorder), (0, 2), "{taken:?}");
        let words = taken.words().unwrap();
        assert!(
            words.contains("two senders under the same labels: give each a `service.instance.id`"),
            "{words}"
        );
        assert_eq!(tell(second + 1, 60.0, 10), kept);
    }
    assert_eq!(tell(7, 3.0, 20), kept, "one that begins anew begins later");
    let again = tell(1, 1_000.0, 0);
    assert_eq!(
        (again.known + again.known_histograms, again.refused()),
        (2, 0),
        "sent again: no other sender"
    );
    let window = rules::series::Window { from: Timestamp::UNIX_EPOCH, to: now() };
    let series = source.read("a_total", window).await.unwrap();
    let values: Vec<f64> = series[0].samples.iter().map(|sample| sample.value).collect();
    assert_eq!(values, [1_000.0, 50.0, 60.0, 60.0, 3.0]);
}

#[test]
fn growth_told_twice_in_one_request_is_added_up() {
    let now = || Timestamp::from_nanosecond(i128::from(NOW + SECOND)).unwrap();
    let earlier = NumberDataPoint { start_time_unix_nano: NOW - 2 * SECOND, ..point(2.0) };
    let other = NumberDataPoint { attributes: Vec::new(), ..point(7.0) };
    // Two instruments of the same name, or a view that left out what told two series apart.
    let sent = request(vec![
        metric("a", "", sum(DELTA, true, vec![point(5.0), other, earlier])),
        metric("a", "", sum(DELTA, true, vec![point(1.0)])),
        metric("b", "", sum(CUMULATIVE, true, vec![point(5.0), point(5.0)])),
        metric("c", "", histogram(DELTA, &[0.1], &[1, 2])),
        metric("c", "", histogram(DELTA, &[0.1], &[1, 2])),
    ]);
    let expected = [
        "a_total http_status=500 +8 from",
        "a_total  +7 from",
        "b_total http_status=500 5 from",
        "b_total http_status=500 5 from",
        "c_bucket le=0.1 +2 from",
        "c_bucket le=+Inf +6 from",
        "c_count  +6 from",
        "c_sum  +3 from",
        "target_info telemetry_sdk_language=rust 1",
    ];
    for (kind, body) in [(PROTOBUF, sent.encode_to_vec()), (JSON, serde_json::to_vec(&sent).unwrap())] {
        let batch = decode(kind, &body).unwrap();
        assert_eq!(lines(&batch), expected);
        let since = Timestamp::from_nanosecond(i128::from(NOW - 2 * SECOND)).unwrap();
        assert_eq!(batch.series[0].points[0].start, Some(since));
        let source = PushedSource::new("push", &PushedConfig::default(), None, now).unwrap();
        let taken = source.take(now(), batch.clone());
        assert_eq!((taken.kept, taken.known, taken.refused()), (7, 1, 0));
        assert_eq!(source.take(now(), batch).known, 8, "another request may be a repetition");
    }
}

#[test]
fn a_sum_that_shrinks_is_left_out() {
    let mut shrinks = histogram(DELTA, &[0.1], &[1, 2]);
    if let Data::Histogram(histogram) = &mut shrinks {
        histogram.data_points[0].sum = Some(-1.5);
    }
    let batch = decode(PROTOBUF, &request(vec![metric("c", "", shrinks)]).encode_to_vec()).unwrap();
    assert_eq!(
        lines(&batch)[..3],
        ["c_bucket le=0.1 +1 from", "c_bucket le=+Inf +3 from", "c_count  +3 from"]
    );
    assert_eq!((batch.series.len(), batch.unusable.samples), (3, 0));
}

#[test]
fn bodies_that_cannot_be_read_say_why() {
    let long = vec![b' '; MOST_JSON_BYTES + 1];
    let table: [(&str, &[u8], u16, &str); 6] = [
        ("text/plain", b"", 415, "application/json"),
        (PROTOBUF, b"\x0a\x05", 400, "in the middle"),
        (PROTOBUF, b"{}", 400, "cannot be read"),
        (JSON, b"{", 400, "EOF"),
        (JSON, br#"{"resourceMetrics": 7}"#, 400, "invalid type"),
        (JSON, &long, 413, "bytes of JSON"),
    ];
    for (kind, body, status, words) in table {
        let bad = decode(kind, body).unwrap_err();
        assert_eq!(bad.status, status, "{bad}");
        assert!(bad.reason.contains(words), "{bad}");
    }
    assert_eq!(decode(PROTOBUF, &[]).unwrap(), Batch::default());
    assert_eq!(unpack("br", &[], 10).unwrap_err().status, 415);
    assert_eq!(unpack("gzip", b"no", 10).unwrap_err().status, 400);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(decode(JSON, deep.as_bytes()).unwrap_err().status, 400);
}

#[test]
fn bombs_do_not_go_off() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![0; 33 * 1024 * 1024]).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 100_000);
    assert_eq!(unpack("gzip", &packed, 32 * 1024 * 1024).unwrap_err().status, 413);
    // A point of two bytes, a million times: each has no time.
    let points: Vec<u8> = [0x0a, 0x00].repeat(1_000_000);
    let wrap = |tag: u8, inner: &[u8]| {
        let mut message = vec![tag];
        prost::encode_length_delimiter(inner.len(), &mut message).unwrap();
        message.extend(inner);
        message
    };
    let body = wrap(0x0a, &wrap(0x12, &wrap(0x12, &wrap(0x2a, &points))));
    assert_eq!(decode(PROTOBUF, &body).unwrap_err().status, 413);
    // One point that holds a million empty attributes.
    let point = wrap(0x0a, &[0x3a, 0x00].repeat(1_000_000));
    let body = wrap(0x0a, &wrap(0x12, &wrap(0x12, &wrap(0x2a, &point))));
    assert!(decode(PROTOBUF, &body).unwrap_err().reason.contains("one point"));
    // A resource with long attributes, for a hundred thousand points.
    let mut request =
        request(vec![metric("a", "", Data::Gauge(Gauge { data_points: vec![point_at(1); 50_000] }))]);
    request.resource_metrics[0]
        .resource
        .as_mut()
        .unwrap()
        .attributes
        .push(attribute("k8s.pod.name", &"x".repeat(10_000)));
    assert!(
        decode(PROTOBUF, &request.encode_to_vec()).unwrap_err().reason.contains("the labels have more than")
    );
}

#[test]
fn what_a_collector_sends_at_once_fits_and_what_takes_too_much_memory_does_not() {
    let attributes =
        |count: usize| -> Vec<_> { (0..count).map(|n| attribute(&format!("label.{n}"), "v")).collect() };
    let points = vec![NumberDataPoint { attributes: attributes(20), ..point(1.0) }; 8_192];
    let sent = request(vec![metric("a", "", Data::Gauge(Gauge { data_points: points }))]);
    assert_eq!(decode(PROTOBUF, &sent.encode_to_vec()).unwrap().series.len(), 8_192);
    // Many short labels: a body of some 500 kB, and two and a half million labels.
    let bounds: Vec<f64> = (0..100).map(f64::from).collect();
    let mut many = histogram(CUMULATIVE, &bounds, &[1; 101]);
    if let Data::Histogram(histogram) = &mut many {
        histogram.data_points[0].attributes = attributes(50);
        histogram.data_points = vec![histogram.data_points[0].clone(); 500];
    }
    let bad = decode(PROTOBUF, &request(vec![metric("a", "", many)]).encode_to_vec()).map(drop).unwrap_err();
    assert!(bad.status == 413 && bad.reason.contains("the labels have more than"), "{bad}");
    // What is told beside takes memory, too.
    let gauge = Data::Gauge(Gauge { data_points: vec![point(1.0)] });
    let mut beside = request(vec![metric("a", "", gauge)]);
    let one = &mut beside.resource_metrics[0];
    one.resource.as_mut().unwrap().attributes.push(attribute("long", &"x".repeat(150_000)));
    beside.resource_metrics = vec![one.clone(); 1_500];
    let bad = decode(PROTOBUF, &beside.encode_to_vec()).map(drop).unwrap_err();
    assert!(bad.status == 413 && bad.reason.contains("the labels have more than"), "{bad}");
}

fn point_at(second: u64) -> NumberDataPoint {
    NumberDataPoint { time_unix_nano: NOW + second * SECOND, ..point(1.0) }
}

#[test]
fn answers_are_in_the_form_of_the_request() {
    assert_eq!(answer(Form::Protobuf, 0, String::new()), (PROTOBUF, Vec::new()));
    let (_, bytes) = answer(Form::Protobuf, 3, "why".into());
    let partial = ExportMetricsServiceResponse::decode(&bytes[..]).unwrap().partial_success.unwrap();
    assert_eq!((partial.rejected_data_points, &*partial.error_message), (3, "why"));
    assert_eq!(answer(Form::Json, 0, String::new()).1, b"{}");
    let (kind, text) = answer(Form::Json, 3, "x".repeat(2_000));
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((kind, &value["partialSuccess"]["rejectedDataPoints"]), (JSON, &"3".into()));
    assert_eq!(value["partialSuccess"]["errorMessage"].as_str().unwrap().len(), LONGEST_WORDS);
}

#[test]
fn a_body_cut_anywhere_gives_an_answer() {
    let (body, json) = (everything().encode_to_vec(), serde_json::to_vec(&everything()).unwrap());
    let good = (1..body.len()).filter(|length| decode(PROTOBUF, &body[..*length]).is_ok()).count();
    assert_eq!(good, 0, "one resource: whatever is cut is cut in it");
    for length in 0..json.len() {
        assert!(decode(JSON, &json[..length]).is_err(), "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,100}") {
        let _either = decode(PROTOBUF, &bytes);
        let _either = decode(JSON, text.as_bytes());
        let _either = unpack("gzip", &bytes, 1_000);
    }

    #[test]
    fn a_good_body_with_other_bytes_in_it_gives_an_answer(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        as_json: bool
    ) {
        let kind = if as_json { JSON } else { PROTOBUF };
        let mut body = match as_json {
            true => serde_json::to_vec(&everything()).unwrap(),
            false => everything().encode_to_vec(),
        };
        for (place, byte) in changes {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if let Ok(batch) = decode(kind, &body) {
            let now = || Timestamp::from_nanosecond(i128::from(NOW)).unwrap();
            let source = PushedSource::new("push", &PushedConfig::default(), None, now).unwrap();
            source.take(now(), batch);
        }
    }
}
