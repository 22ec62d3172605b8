//! Scrapes against scripted services.

use super::super::testing::{Script, Server, answer, at, measured_over, nobody, window};
use super::*;
use rules::ids::SignalName;
use rules::signal::{Measure, Observation, Reading, Signal};
use std::sync::atomic::{AtomicUsize, Ordering};

fn source(urls: Vec<String>) -> ScrapeSource {
    let json = serde_json::json!({"targets": urls, "interval": "5s", "timeout": "300ms"});
    ScrapeSource::new("shop", &serde_json::from_value(json).unwrap()).unwrap()
}

async fn values(source: &ScrapeSource, selector: &str) -> Vec<f64> {
    let series = source.read(selector, window(-1_000, 1_000)).await.unwrap();
    series.iter().flat_map(|series| series.samples.iter().map(|sample| sample.value)).collect()
}

/// A service that gives one answer after the other, the last one for ever.
async fn service(answers: Vec<Script>) -> Server {
    let next = AtomicUsize::new(0);
    Server::start(move |_| {
        let index = next.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        answers[index].clone()
    })
    .await
}

fn metrics(text: &str) -> Script {
    answer(200, "text/plain; version=0.0.4", text)
}

#[tokio::test]
async fn a_restart_is_seen_and_counted() {
    let server = service(vec![
        metrics("requests_total{code=\"200\"} 100\nrequests_total{code=\"500\"} 7\n"),
        metrics("requests_total{code=\"200\"} 110\nrequests_total{code=\"500\"} 8\n"),
        metrics("requests_total{code=\"200\"} 5\nrequests_total{code=\"500\"} 2\n"),
    ])
    .await;
    let source = source(vec![server.url("/metrics")]);
    for second in [0, 5, 10] {
        source.poll(0, at(second)).await;
    }
    let bad = [("code".to_string(), "5..".to_string())].into();
    let measure = Measure::Proportion { of: "requests_total".into(), bad };
    let signal = Signal {
        targets: Some("up{job=\"shop\"}".into()),
        ..Signal::new(SignalName::new("errors").unwrap(), "shop", measure)
    };
    let observer = rules::series::Observer::new(&signal).unwrap();
    let see = |from, to| measured_over(&source, &observer, window(from, to), Span::from_seconds(15));
    let counts = |bad, total| Observation::Seen { reading: Reading::Counts { bad, total }, newest: at(10) };
    assert_eq!(see(0, 10).await.observation, counts(3.0, 18.0));
    assert_eq!(see(5, 10).await.observation, counts(2.0, 7.0));
    assert!(matches!(see(20, 60).await.observation, Observation::Absent { .. }));
    let health = source.health();
    assert_eq!((health.last_success, health.last_error, health.series), (Some(at(10)), None, 3));
}

#[tokio::test]
async fn targets_are_told_apart_and_clashing_labels_kept() {
    let one = service(vec![metrics("a{job=\"own\",exported_job=\"x\",empty=\"\"} 1\n")]).await;
    let two = service(vec![metrics("a 2\n")]).await;
    let source = source(vec![one.url("/metrics"), two.url("/metrics")]);
    source.poll(0, at(0)).await;
    source.poll(1, at(1)).await;
    assert_eq!(values(&source, "up{job=\"shop\"}").await, [1.0, 1.0]);
    assert_eq!(values(&source, &format!("a{{instance=\"{}\"}}", two.address)).await, [2.0]);
    let series = source.read("a{exported_job!=\"\"}", window(-1, 10)).await.unwrap();
    let instance = one.address.to_string();
    let expected = labels([
        ("__name__", "a"),
        ("job", "shop"),
        ("instance", &instance),
        ("exported_job", "x"),
        ("exported_exported_job", "own"),
    ]);
    assert_eq!(series[0].labels, expected);
}

#[tokio::test]
async fn series_that_vanish_end() {
    let server = service(vec![metrics("a 1\nb 1\n"), metrics("a 2\n"), answer(503, "text/plain", "")]).await;
    let source = source(vec![server.url("/")]);
    for second in [0, 5, 10, 15] {
        source.poll(0, at(second)).await;
    }
    let last = |series: Vec<RawSeries>| *series[0].samples.last().unwrap();
    let b = last(source.read("b", window(-1, 20)).await.unwrap());
    assert!(b.is_stale() && b.at == at(5));
    let a = last(source.read("a", window(-1, 20)).await.unwrap());
    assert!(a.is_stale() && a.at == at(10));
    assert_eq!(values(&source, "up").await, [1.0, 1.0, 0.0, 0.0]);
}

#[tokio::test]
async fn what_the_service_does_wrong_is_down() {
    for (name, script, words) in [
        ("an error", answer(500, "text/plain", "a 1\n"), "status 500"),
        ("no page", answer(404, "text/plain", ""), "status 404"),
        ("a redirect", answer(302, "text/plain", ""), "status 302"),
        ("a page", answer(200, "text/html", "<html>"), "text/html"),
        ("protobuf", answer(200, "application/vnd.google.protobuf", "x"), "protobuf"),
        ("a bad line", metrics("a 1\nb one\n"), "line 2"),
        ("cut off", metrics("a 1\nb 2"), "middle of a line"),
        ("OpenMetrics cut off", answer(200, "application/openmetrics-text", "a 1\n"), "# EOF"),
        ("silence", Script::Hang(Vec::new()), "within 300ms"),
        ("silence in the middle", Script::Hang(b"HTTP/1.1 200 OK\r\n\r\na 1\n".to_vec()), "within 300ms"),
        ("hanging up", Script::Say(Vec::new()), "closed"),
        ("not HTTP", Script::Say(b"hello\r\n\r\n".to_vec()), "invalid"),
        ("not UTF-8", Script::Say(b"HTTP/1.1 200 OK\r\n\r\na{b=\"\xff\"} 1\n".to_vec()), "UTF-8"),
    ] {
        let server = service(vec![script]).await;
        let source = source(vec![server.url("/")]);
        source.poll(0, at(0)).await;
        assert_eq!(values(&source, "up").await, [0.0], "{name}");
        let (when, reason) = source.health().last_error.unwrap();
        assert!(when == at(0) && reason.contains(words), "{name}: {reason:?} lacks {words:?}");
        assert_eq!(source.health().last_success, None, "{name}");
    }
    let source = source(vec![nobody().await]);
    source.poll(0, at(0)).await;
    assert_eq!(values(&source, "up").await, [0.0]);
}

#[tokio::test]
async fn what_is_our_fault_gives_no_sample() {
    let huge = service(vec![metrics(&"a 1\n".repeat(http::BODY_LIMIT / 4 + 1))]).await;
    let json =
        serde_json::json!({"targets": [huge.url("/"), "http://no-such-host.invalid/"], "timeout": "5s"});
    let source = ScrapeSource::new("shop", &serde_json::from_value(json).unwrap()).unwrap();
    for (target, words) in [(0, "16 MiB"), (1, "no-such-host.invalid")] {
        source.poll(target, at(0)).await;
        assert!(values(&source, "up").await.is_empty());
        let reason = source.health().last_error.unwrap().1;
        assert!(reason.contains("nothing is known") && reason.contains(words), "{reason}");
    }
}

#[tokio::test]
async fn limits_are_said_and_reading_what_they_cut_is_an_error() {
    let text: String = (0..100).map(|index| format!("m{index} 1\n")).collect();
    let server = service(vec![metrics(&text)]).await;
    let json = serde_json::json!({"targets": [server.url("/")], "max_series": 51});
    let source = ScrapeSource::new("shop", &serde_json::from_value(json).unwrap()).unwrap();
    source.poll(0, at(0)).await;
    assert!(source.health().last_error.unwrap().1.contains("50 samples of new series"));
    assert_eq!(values(&source, "m49").await, [1.0]);
    assert!(matches!(source.read("m50", window(-1, 1)).await, Err(SourceError::TooLarge { .. })));
}

#[tokio::test]
async fn times_of_the_services_own_are_kept_and_checked() {
    let early = at(-20).as_millisecond();
    let late = at(3_600).as_millisecond();
    let server = service(vec![metrics(&format!("a 1 {early}\nb 1 {late}\nc 1\nc 2\n"))]).await;
    let source = source(vec![server.url("/")]);
    source.poll(0, at(0)).await;
    source.poll(0, at(5)).await;
    // The frozen series stays one sample, so that its age can be seen.
    let a = source.read("a", window(-100, 100)).await.unwrap();
    assert_eq!(a[0].samples, [Sample { at: at(-20), value: 1.0 }]);
    assert!(source.read("b", window(-100, 9_999)).await.unwrap().is_empty());
    assert!(source.health().last_error.unwrap().1.contains("out of order or there twice"));
}

#[tokio::test]
async fn the_loop_asks_until_it_is_told_to_stop() {
    let server = Server::start(|_| metrics("a 1\n")).await;
    let json = serde_json::json!({"targets": [server.url("/")], "interval": "1s", "timeout": "1s"});
    let source = Arc::new(ScrapeSource::new("shop", &serde_json::from_value(json).unwrap()).unwrap());
    assert!(server.heads().is_empty());
    let pause = || tokio::time::sleep(std::time::Duration::from_millis(1_500));
    Arc::clone(&source).run(crate::clock::now, pause()).await;
    let asked = server.heads().len();
    assert!((1..=2).contains(&asked), "{asked}");
    assert!(server.heads()[0].to_lowercase().contains("accept: text/plain;version=0.0.4"));
    assert!(source.health().last_success.is_some());
    pause().await;
    assert_eq!(server.heads().len(), asked);
}

#[test]
fn problems_of_a_configuration_are_named() {
    let keys = |json: serde_json::Value| -> Vec<String> {
        let config: ScrapeConfig = serde_json::from_value(json).unwrap();
        config.problems().into_iter().map(|(key, _)| key).collect()
    };
    let url = "http://a/metrics";
    assert!(keys(serde_json::json!({"targets": [url, "http://b:81/metrics"]})).is_empty());
    assert_eq!(keys(serde_json::json!({"targets": []})), ["targets"]);
    assert_eq!(keys(serde_json::json!({"targets": ["a"]})), ["targets[0]"]);
    assert_eq!(keys(serde_json::json!({"targets": [url, "http://a:80/other"]})), ["targets[1]"]);
    assert_eq!(keys(serde_json::json!({"targets": [url], "interval": "10m"})), ["interval"]);
    assert_eq!(keys(serde_json::json!({"targets": [url], "timeout": "6s"})), ["timeout"]);
    assert_eq!(keys(serde_json::json!({"targets": [url], "retention": "1s"})), ["retention"]);
    assert_eq!(keys(serde_json::json!({"targets": [url], "max_series": 0})), ["max_series"]);
    let many: Vec<String> = (0..=200).map(|index| format!("http://h{index}/")).collect();
    assert_eq!(keys(serde_json::json!({"targets": many})), ["targets"]);
}
