//! Who is let in, and what senders are told.

use super::*;
use crate::secrets::Secret;
use crate::signals::pushed::{PushKey, PushedConfig};
use crate::signals::{SignalSource as _, SourceHealth};
use axum::http::header::RETRY_AFTER;
use futures_util::stream;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;
use serde_json::json;
use tower::ServiceExt as _;

const WRITE: &str = "/v1/push/main/write";
const METRICS: &str = "/v1/push/main/v1/metrics";
const FIRST: &str = "application/x-protobuf";
const SECOND: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";

struct Rig {
    router: Router,
    source: Arc<PushedSource>,
}

impl Rig {
    fn new() -> Self {
        let key = PushKey::bearer(&Secret::from("right".to_owned()));
        let config = PushedConfig { max_series: 2, ..PushedConfig::default() };
        let source = Arc::new(PushedSource::new("main", &config, Some(key), clock::now).unwrap());
        let closed = Arc::new(PushedSource::new("stream", &config, None, clock::now).unwrap());
        let sources = [("main".to_owned(), Arc::clone(&source)), ("stream".to_owned(), closed)];
        Self { router: router(sources.into()), source }
    }

    async fn send(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::post(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn write(&self, content_type: &str, message: &[u8]) -> Answer {
        let body = snap::raw::Encoder::new().compress_vec(message).unwrap();
        let headers = [RIGHT, ("content-type", content_type), ("content-encoding", "snappy")];
        self.send(WRITE, &headers, body).await
    }

    fn health(&self) -> SourceHealth {
        self.source.health()
    }
}

const RIGHT: (&str, &str) = ("authorization", "Bearer right");

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn words(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn written(&self) -> [&str; 3] {
        ["samples", "histograms", "exemplars"]
            .map(|what| self.headers[&format!("x-prometheus-remote-write-{what}-written")].to_str().unwrap())
    }
}

/// A message of one field of length-delimited bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![number << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut message).unwrap();
    message.extend(bytes);
    message
}

fn sample(milliseconds: i64) -> Vec<u8> {
    let mut message = vec![0x09];
    message.extend(1.0_f64.to_le_bytes());
    message.push(0x10);
    prost::encode_length_delimiter(usize::try_from(milliseconds).unwrap(), &mut message).unwrap();
    message
}

/// A request of version 1.0 with a series of this name.
fn first(name: &str, milliseconds: i64) -> Vec<u8> {
    let label = [field(1, b"__name__"), field(2, name.as_bytes())].concat();
    field(1, &[field(1, &label), field(2, &sample(milliseconds))].concat())
}

/// The same of version 2.0.
fn second(name: &str, milliseconds: i64) -> Vec<u8> {
    let symbols = [field(4, b""), field(4, b"__name__"), field(4, name.as_bytes())].concat();
    [symbols, field(5, &[field(1, &[1, 2]), field(2, &sample(milliseconds))].concat())].concat()
}

fn now() -> i64 {
    clock::now().as_millisecond()
}

#[tokio::test]
async fn only_the_right_credential_lets_in_and_all_others_hear_the_same() {
    let rig = Rig::new();
    let mut answers = Vec::new();
    for path in [WRITE, METRICS] {
        for header in ["Bearer wrong", "Basic cmlnaHQ=", "right", ""] {
            answers.push(rig.send(path, &[("authorization", header)], "garbage").await);
        }
    }
    answers.push(rig.send("/v1/push/other/write", &[RIGHT], "garbage").await);
    answers.push(rig.send("/v1/push/stream/write", &[RIGHT], "garbage").await);
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (401, &answers[0].body));
        assert_eq!(answer.headers[WWW_AUTHENTICATE], "Bearer");
    }
    assert!(answers[0].words().contains("Authorization: Bearer TOKEN"));
    assert_eq!(rig.health().pushed.unwrap().unreadable, 0, "nobody unknown shows in the health");
}

#[tokio::test]
async fn both_versions_of_remote_write_are_taken_and_told_what_was_written() {
    let rig = Rig::new();
    let now = now();
    for (kind, body) in [(FIRST, first("a", now)), (SECOND, second("b", now))] {
        let answer = rig.write(kind, &body).await;
        assert_eq!(
            (answer.status, answer.body.len(), answer.written()),
            (204, 0, ["1", "0", "0"]),
            "{}",
            answer.words()
        );
        let again = rig.write(kind, &body).await;
        assert_eq!((again.status, again.written()), (204, ["1", "0", "0"]), "it is there");
    }
    // A third series is one too many: that part is refused for good, the other is taken.
    let partial = rig
        .write(
            SECOND,
            &[second("a", now + 1), field(5, &[field(1, &[1, 1]), field(2, &sample(now))].concat())].concat(),
        )
        .await;
    assert_eq!((partial.status, partial.written()), (400, ["1", "0", "0"]));
    assert!(partial.words().contains("raise `max_series`"), "{}", partial.words());
    let early = rig.write(FIRST, &first("a", now + 3_600_000)).await;
    assert_eq!((early.status, early.written()), (400, ["0", "0", "0"]));
    assert!(early.words().contains("compare the clocks"), "{}", early.words());
    let health = rig.health();
    let samples = health.pushed.unwrap().samples;
    assert_eq!((samples.kept, samples.known, samples.full, samples.ahead), (3, 2, 1, 1));
    assert!(health.last_error.unwrap().1.contains("compare the clocks"));
}

#[tokio::test]
async fn what_cannot_be_taken_says_whether_to_come_again() {
    let rig = Rig::new();
    let snappy = ("content-encoding", "snappy");
    let kind = ("content-type", FIRST);
    let garbage = rig.send(WRITE, &[RIGHT, kind, snappy], "garbage").await;
    assert_eq!((garbage.status, garbage.written()), (400, ["0", "0", "0"]));
    assert_eq!(rig.send(WRITE, &[RIGHT, kind], "").await.status, 415);
    assert_eq!(rig.send(WRITE, &[RIGHT, snappy, ("content-type", "text/plain")], "").await.status, 415);
    let long = rig.send(WRITE, &[RIGHT, kind, snappy], vec![0; MOST_BODY_BYTES + 1]).await;
    assert_eq!(long.status, 413, "{}", long.words());
    let encoding = rig.send(METRICS, &[RIGHT, kind, ("content-encoding", "br")], "").await;
    assert_eq!(
        (encoding.status, &encoding.headers[ACCEPT_ENCODING]),
        (415, &"gzip, identity".parse().unwrap())
    );
    let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("the line broke"))]);
    assert_eq!(rig.send(WRITE, &[RIGHT], Body::from_stream(broken)).await.status, 400);
    let health = rig.health();
    assert_eq!(health.pushed.unwrap().unreadable, 6);
    assert!(health.last_error.unwrap().1.contains("the line broke"));
}

#[tokio::test]
async fn more_senders_than_places_are_asked_to_come_again() {
    let rig = Rig::new();
    let stuck: Vec<_> = (0..MOST_AT_ONCE)
        .map(|_| {
            let body = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
            let request = Request::post(WRITE).header(RIGHT.0, RIGHT.1).body(body).unwrap();
            tokio::spawn(rig.router.clone().oneshot(request))
        })
        .collect();
    tokio::task::yield_now().await;
    let sent_away = rig.send(WRITE, &[RIGHT], "").await;
    assert_eq!((sent_away.status, &sent_away.headers[RETRY_AFTER]), (503, &crate::api::COME_BACK_AFTER));
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
    let kind = ("content-type", FIRST);
    assert_eq!(rig.send(METRICS, &[RIGHT, kind], "").await.status, 200, "their places are free again");
}

#[tokio::test]
async fn an_export_is_answered_in_its_own_form() {
    let rig = Rig::new();
    let gauge = |name: &str, at: i64| {
        let point = json!({ "timeUnixNano": format!("{}000000", at), "asDouble": 1.5 });
        json!({ "name": name, "gauge": { "dataPoints": [point] } })
    };
    let request = |metrics: &[serde_json::Value]| {
        json!({ "resourceMetrics": [{ "scopeMetrics": [{ "metrics": metrics }] }] }).to_string()
    };
    let headers = [RIGHT, ("content-type", "application/json")];
    let good = rig.send(METRICS, &headers, request(&[gauge("a", now())])).await;
    assert_eq!(
        (good.status, &good.body[..], &good.headers[CONTENT_TYPE]),
        (200, &b"{}"[..], &"application/json".parse().unwrap())
    );
    let partial =
        rig.send(METRICS, &headers, request(&[gauge("b", now()), gauge("c", now()), gauge("d", 1)])).await;
    assert_eq!(partial.status, 200);
    assert!(partial.words().contains(r#""rejectedDataPoints":"2""#), "{}", partial.words());
    let empty = rig.send(METRICS, &[RIGHT, ("content-type", FIRST)], "").await;
    assert_eq!((empty.status, &empty.headers[CONTENT_TYPE]), (200, &FIRST.parse().unwrap()));
    assert_eq!(ExportMetricsServiceResponse::decode(&empty.body[..]).unwrap().partial_success, None);
    assert_eq!(rig.send(METRICS, &[RIGHT, ("content-type", FIRST)], "garbage").await.status, 400);
    let taken = rig.health().pushed.unwrap().samples;
    assert_eq!((taken.kept, taken.full, taken.too_old), (2, 1, 1));
}
