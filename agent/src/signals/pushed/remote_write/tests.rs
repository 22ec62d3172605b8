//! Bodies as senders make them, written by an encoder of its own (messages of `prost`), and broken in every way.

use super::super::{PushedConfig, PushedSource, Taken, Value};
use super::*;
use jiff::Timestamp;
use proptest::prelude::*;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    at: i64,
    #[prost(int64, tag = "3")]
    start: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    count: u64,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, tag = "6")]
    zero_count: u64,
    #[prost(message, repeated, tag = "8")]
    negative_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "9")]
    negative_deltas: Vec<i64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(double, repeated, tag = "13")]
    positive_counts: Vec<f64>,
    #[prost(int64, tag = "15")]
    at: i64,
}

#[derive(Clone, PartialEq, Message)]
struct FirstSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Number>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct FirstRequest {
    #[prost(message, repeated, tag = "1")]
    series: Vec<FirstSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct SecondSeries {
    #[prost(uint32, repeated, tag = "1")]
    references: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Number>,
    #[prost(message, repeated, tag = "3")]
    histograms: Vec<Histogram>,
    #[prost(int64, tag = "6")]
    created: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SecondRequest {
    #[prost(string, repeated, tag = "4")]
    symbols: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    series: Vec<SecondSeries>,
}

const ONE: &str = "application/x-protobuf";
const TWO: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
const NOW: i64 = 1_700_000_000_000;

fn pack(message: &impl Message) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(&message.encode_to_vec()).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    pairs.iter().map(|(name, value)| Label { name: (*name).into(), value: (*value).into() }).collect()
}

fn number(at: i64, value: f64) -> Number {
    Number { value, at, start: 0 }
}

fn first_request(pairs: &[(&str, &str)], samples: Vec<Number>) -> FirstRequest {
    FirstRequest { series: vec![FirstSeries { labels: labels(pairs), samples, histograms: Vec::new() }] }
}

fn example() -> FirstRequest {
    let mut request = first_request(
        &[("__name__", "requests_total"), ("code", "500"), ("pod", "a-1")],
        vec![number(NOW, 1.0), number(NOW + 15, f64::from_bits(0x7ff0_0000_0000_0002))],
    );
    let histogram = Histogram {
        count: 12,
        sum: 1.5,
        schema: 0,
        zero_threshold: 0.001,
        zero_count: 2,
        negative_spans: vec![Span { offset: 0, length: 2 }],
        negative_deltas: vec![1, 0],
        positive_spans: vec![Span { offset: -1, length: 2 }, Span { offset: 1, length: 1 }],
        positive_deltas: vec![3, -1, 1],
        positive_counts: Vec::new(),
        at: NOW,
    };
    let labels = labels(&[("__name__", "latency")]);
    request.series.push(FirstSeries { labels, samples: Vec::new(), histograms: vec![histogram] });
    request
}

#[test]
fn what_is_sent_is_read() {
    let batch = decode(ONE, &pack(&example())).unwrap();
    let [requests, latency] = &batch.series[..] else { panic!("{batch:?}") };
    assert_eq!(requests.labels["pod"], "a-1");
    let Value::Now(ended) = requests.points[1].value else { panic!("{requests:?}") };
    assert!(ended.is_stale());
    let Value::Histogram(histogram) = &latency.points[0].value else { panic!("{latency:?}") };
    let buckets: Vec<(f64, f64, f64)> =
        histogram.buckets.iter().map(|bucket| (bucket.lower, bucket.upper, bucket.count)).collect();
    let expected = [
        (-2.0, -1.0, 1.0),
        (-1.0, -0.5, 1.0),
        (-0.001, 0.001, 2.0),
        (0.25, 0.5, 3.0),
        (0.5, 1.0, 2.0),
        (2.0, 4.0, 3.0),
    ];
    assert_eq!((histogram.count, buckets), (12.0, expected.to_vec()));
    assert_eq!(batch.unusable, Default::default());
}

#[test]
fn the_second_version_shares_its_texts_and_tells_beginnings() {
    let request = SecondRequest {
        symbols: ["", "__name__", "requests_total", "code", "500", "job"].map(str::to_owned).to_vec(),
        series: vec![
            SecondSeries {
                references: vec![1, 2, 3, 4],
                samples: vec![Number { start: NOW - 5, ..number(NOW, 1.0) }, number(NOW + 1, 2.0)],
                ..SecondSeries::default()
            },
            SecondSeries {
                references: vec![1, 2, 5, 4],
                samples: vec![number(NOW, 1.0)],
                created: NOW - 7,
                ..SecondSeries::default()
            },
        ],
    };
    for kind in [TWO, "Application/X-Protobuf; proto=\"io.prometheus.write.v2.Request\""] {
        let batch = decode(kind, &pack(&request)).unwrap();
        let start = |series: usize, point: usize| {
            batch.series[series].points[point].start.map(|start| start.as_millisecond() - NOW)
        };
        assert_eq!(batch.series[1].labels["job"], "500");
        assert_eq!((start(0, 0), start(0, 1), start(1, 0)), (Some(-5), None, Some(-7)));
    }
    // Read as the first version it has no series, and says nothing wrong.
    assert_eq!(decode(ONE, &pack(&request)).unwrap().series, []);
}

#[test]
fn kinds_that_are_not_known_are_415() {
    for kind in ["", "application/json", "text/plain", "application/x-protobuf;proto=other.Request"] {
        let bad = decode(kind, &[]).unwrap_err();
        assert_eq!(bad.status, 415, "{kind}");
        assert!(bad.reason.contains("io.prometheus.write.v2.Request"), "{bad}");
    }
    assert_eq!(version("application/x-protobuf; proto=prometheus.WriteRequest"), Ok(Version::First));
}

#[test]
fn what_cannot_be_read_is_refused_as_a_whole() {
    let reference = |references: Vec<u32>| {
        let series = vec![SecondSeries { references, samples: vec![number(NOW, 1.0)], ..Default::default() }];
        pack(&SecondRequest { symbols: vec![String::new(), "a".into()], series })
    };
    let bytes = |message: &[u8]| snap::raw::Encoder::new().compress_vec(message).unwrap();
    let table: [(&str, Vec<u8>, u16, &str); 8] = [
        (ONE, Vec::new(), 400, "Snappy"),
        (ONE, b"\xff\x06\x00\x00sNaPpY".to_vec(), 400, "Snappy"),
        (ONE, bytes(&[0x0a, 0x05]), 400, "in the middle"),
        (ONE, bytes(&[0x08, 0x05]), 400, "field 1"),
        (ONE, bytes(&[0x0a, 0x05, 0x0a, 0x03, 0x0a, 0x01, 0xff]), 400, "utf-8"),
        (TWO, reference(vec![0, 1, 1]), 400, "without a value"),
        (TWO, reference(vec![1, 9]), 400, "symbol 9"),
        // Says that 4 GiB will come of it.
        (ONE, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00], 413, "unpacked"),
    ];
    for (kind, body, status, words) in table {
        let bad = decode(kind, &body).unwrap_err();
        assert_eq!(bad.status, status, "{bad}");
        assert!(bad.reason.contains(words), "{bad}");
    }
}

#[test]
fn bombs_do_not_go_off() {
    // A megabyte of nothing packs into 50 kB; these are 40 MB.
    let zeros = snap::raw::Encoder::new().compress_vec(&vec![0; 40 * 1024 * 1024]).unwrap();
    assert_eq!(decode(ONE, &zeros).unwrap_err().status, 413);
    // A sample of two bytes, ten million times.
    let mut series = vec![0x0a, 0x80, 0x80, 0x80, 0x0a];
    series.resize(5 + 20 * 1024 * 1024, 0);
    series[5..].chunks_mut(2).for_each(|sample| sample.copy_from_slice(&[0x12, 0x00]));
    let body = snap::raw::Encoder::new().compress_vec(&series).unwrap();
    assert!(decode(ONE, &body).unwrap_err().reason.contains("samples in one request"));
    // One long text that a million series refer to.
    let mut request = SecondRequest { symbols: vec!["x".repeat(1_000_000)], series: Vec::new() };
    request.series = vec![SecondSeries { references: vec![0; 100], ..Default::default() }; 1_000];
    assert!(decode(TWO, &pack(&request)).unwrap_err().reason.contains("the labels have more than"));
    let request = SecondRequest { symbols: vec![String::new(); MOST_SYMBOLS + 1], series: Vec::new() };
    assert!(decode(TWO, &pack(&request)).unwrap_err().reason.contains("symbols"));
    // Spans of four thousand million buckets.
    let mut request = example();
    request.series[1].histograms[0].positive_spans = vec![Span { offset: 0, length: u32::MAX }; 100];
    let batch = decode(ONE, &pack(&request)).unwrap();
    assert!(batch.unusable.why.unwrap().contains("more than 1000 buckets"));
}

#[test]
fn series_and_samples_that_cannot_be_used_are_counted_and_the_rest_is_taken() {
    type Pairs = &'static [(&'static str, &'static str)];
    let table: [(Pairs, &str); 3] = [
        (&[("__name__", "a"), ("b", "1"), ("b", "2")], "twice"),
        (&[("b", "1"), ("__name__", "a")], "not sorted"),
        (&[("__name__", "a"); 65], "twice"),
    ];
    for (pairs, words) in table {
        let mut request = example();
        request.series.extend(first_request(pairs, vec![number(NOW, 1.0), number(NOW + 1, 1.0)]).series);
        let batch = decode(ONE, &pack(&request)).unwrap();
        assert_eq!((batch.series.len(), batch.unusable.samples), (2, 2));
        assert!(batch.unusable.why.unwrap().contains(words));
    }
    let mut many = first_request(&[("__name__", "a")], vec![number(NOW, 1.0)]);
    many.series[0].labels = (100..200).map(|n| Label { name: format!("l{n}"), value: "x".into() }).collect();
    assert!(decode(ONE, &pack(&many)).unwrap().unusable.why.unwrap().contains("more than 64 labels"));
    let never = first_request(&[("__name__", "a")], vec![number(i64::MAX, 1.0), number(NOW, 1.0)]);
    let batch = decode(ONE, &pack(&never)).unwrap();
    assert_eq!((batch.series[0].points.len(), batch.unusable.samples), (1, 1));
    type Break = fn(&mut Histogram);
    let broken: [(Break, &str); 4] = [
        (|histogram| histogram.schema = -53, "its schema is -53"),
        (|histogram| histogram.positive_deltas.truncate(1), "1 counts for 3 buckets"),
        (|histogram| histogram.at = i64::MIN, "is no time"),
        (|histogram| histogram.negative_spans[0].length = 2_000, "more than 1000 buckets"),
    ];
    for (break_it, words) in broken {
        let mut request = example();
        break_it(&mut request.series[1].histograms[0]);
        let batch = decode(ONE, &pack(&request)).unwrap();
        assert_eq!((batch.series.len(), batch.unusable.histograms), (1, 1));
        assert!(batch.unusable.why.clone().unwrap().contains(words), "{batch:?}");
    }
}

#[test]
fn floats_and_ends_of_histograms_are_read() {
    let mut request = example();
    let histogram = &mut request.series[1].histograms[0];
    (histogram.positive_counts, histogram.positive_deltas) = (vec![0.5, 0.0, 2.5], Vec::new());
    let mut ended = histogram.clone();
    (ended.at, ended.sum) = (NOW + 1, f64::from_bits(0x7ff0_0000_0000_0002));
    request.series[1].histograms.push(ended);
    let batch = decode(ONE, &pack(&request)).unwrap();
    let Value::Histogram(histogram) = &batch.series[1].points[0].value else { panic!("{batch:?}") };
    assert_eq!(histogram.buckets.iter().map(|bucket| bucket.count).sum::<f64>(), 7.0);
    assert!(matches!(&batch.series[1].points[1].value, Value::Histogram(ended) if ended.is_stale()));
}

/// The rules take bounds for what they are: each of the finest schema that they tell apart has its cell.
#[tokio::test]
async fn native_histograms_are_read_by_the_rules_as_those_of_a_query() {
    use crate::signals::measure;
    use rules::series::{Observer, Window};
    use rules::signal::{Measure, Observation, Reading, Role, Signal};
    use rules::units;
    let now = || Timestamp::from_millisecond(NOW + 30_000).unwrap();
    let source = PushedSource::new("push", &PushedConfig::default(), None, now).unwrap();
    for schema in [-4, 0, 3, 8] {
        let name = format!("latency{}", schema + 4);
        let at = |at: i64, counts: i64| Histogram {
            count: 41 * counts.unsigned_abs(),
            schema,
            zero_count: counts.unsigned_abs(),
            positive_spans: vec![Span { offset: -20, length: 40 }],
            positive_deltas: std::iter::once(counts).chain([0; 39]).collect(),
            at,
            ..Histogram::default()
        };
        let histograms = vec![at(NOW, 1), at(NOW + 10_000, 3)];
        let series = FirstSeries { labels: labels(&[("__name__", &name)]), samples: Vec::new(), histograms };
        let taken = source.take(now(), decode(ONE, &pack(&FirstRequest { series: vec![series] })).unwrap());
        assert_eq!((taken.histograms, taken.words()), (2, None));
        let signal = Signal {
            name: rules::ids::SignalName::new("latency").unwrap(),
            role: Role::Critical,
            source: "push".into(),
            measure: Measure::Latency { buckets: name, quantile: 0.95 },
            targets: None,
            weight: None,
            compare: true,
        };
        let window = Window {
            from: Timestamp::from_millisecond(NOW + 5_000).unwrap(),
            to: Timestamp::from_millisecond(NOW + 20_000).unwrap(),
        };
        let observer = Observer::new(&signal).unwrap();
        let read = measure(&source, &observer, &[window], units::Span::from_seconds(30)).await.remove(0);
        let Observation::Seen { reading: Reading::Buckets { counts, .. }, .. } = &read.observation else {
            panic!("schema {schema}: {:?}", read.observation)
        };
        assert_eq!(counts.iter().sum::<f64>(), 82.0, "schema {schema}");
    }
}

#[test]
fn a_body_cut_anywhere_gives_an_answer() {
    let message = example().encode_to_vec();
    let mut told = [0, 0];
    for length in 0..message.len() {
        let body = snap::raw::Encoder::new().compress_vec(&message[..length]).unwrap();
        told[usize::from(decode(ONE, &body).is_ok())] += 1;
    }
    assert!(told[0] > message.len() / 2 && told[1] > 0, "{told:?}");
    let packed = pack(&example());
    for length in 0..packed.len() {
        assert!(decode(ONE, &packed[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_hundred_thousand_series_are_read_and_kept() {
    let one = |n: i32| FirstSeries {
        labels: labels(&[("__name__", "m"), ("pod", &n.to_string())]),
        samples: vec![number(NOW, f64::from(n))],
        histograms: Vec::new(),
    };
    let body = pack(&FirstRequest { series: (0..100_000).map(one).collect() });
    let batch = decode(ONE, &body).unwrap();
    let now = || Timestamp::from_millisecond(NOW + 100).unwrap();
    let config = PushedConfig { max_series: 100_000, ..PushedConfig::default() };
    let source = PushedSource::new("push", &config, None, now).unwrap();
    assert_eq!(source.take(now(), batch), Taken { kept: 100_000, ..Taken::default() });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn round_trip(series in prop::collection::vec(
        ("[a-z]{1,8}", prop::collection::vec((0..1_000_i64, prop::num::f64::ANY), 0..5)), 0..8)
    ) {
        let of = |(name, samples): &(String, Vec<(i64, f64)>)| FirstSeries {
            labels: labels(&[("__name__", name)]),
            samples: samples.iter().map(|(at, value)| number(NOW + at, *value)).collect(),
            histograms: Vec::new(),
        };
        let request = FirstRequest { series: series.iter().map(of).collect() };
        let batch = decode(ONE, &pack(&request)).unwrap();
        let read: Vec<(String, Vec<(i64, u64)>)> = batch.series.iter().map(|one| {
            let points = one.points.iter().map(|point| match point.value {
                Value::Now(sample) => (sample.at.as_millisecond() - NOW, sample.value.to_bits()),
                _ => panic!("{point:?}"),
            });
            (one.labels["__name__"].clone(), points.collect())
        }).collect();
        let sent: Vec<(String, Vec<(i64, u64)>)> = series.into_iter()
            .filter(|(_, samples)| !samples.is_empty())
            // The encoder leaves zeros out, and with them the sign of a zero.
            .map(|(name, samples)| {
                let bits = |value: f64| if value == 0.0 { 0 } else { value.to_bits() };
                (name, samples.into_iter().map(|(at, value)| (at, bits(value))).collect())
            })
            .collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300), second: bool) {
        let kind = if second { TWO } else { ONE };
        let _either = decode(kind, &bytes);
        let _either = decode(kind, &snap::raw::Encoder::new().compress_vec(&bytes).unwrap());
    }

    #[test]
    fn a_good_body_with_other_bytes_in_it_gives_an_answer(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        let mut message = example().encode_to_vec();
        for (place, byte) in changes {
            let place = place.index(message.len());
            message[place] = byte;
        }
        let body = snap::raw::Encoder::new().compress_vec(&message).unwrap();
        if let Ok(batch) = decode(ONE, &body) {
            let now = || Timestamp::from_millisecond(NOW).unwrap();
            let source = PushedSource::new("push", &PushedConfig::default(), None, now).unwrap();
            source.take(now(), batch);
        }
    }
}
