//! Probes against scripted services.

use super::super::testing::{Script, Server, answer, at, measured_over, nobody, window};
use super::*;
use rules::ids::SignalName;
use rules::series::Observer;
use rules::signal::{Measure, Observation, Reading, Signal};
use std::time::Duration;

fn source(url: &str) -> ProbeSource {
    let json = serde_json::json!({"targets": [url], "timeout": "300ms", "expect_status": [200, 302]});
    ProbeSource::new("site", &serde_json::from_value(json).unwrap()).unwrap()
}

async fn values(source: &ProbeSource, selector: &str) -> Vec<f64> {
    let series = source.read(selector, window(-10, 10)).await.unwrap();
    series.iter().flat_map(|series| series.samples.iter().map(|sample| sample.value)).collect()
}

#[tokio::test]
async fn answers_are_up_or_down() {
    let slow = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
    for (name, script, value) in [
        ("fine", answer(200, "text/plain", "ok"), 1.0),
        ("an expected redirect", answer(302, "text/plain", ""), 1.0),
        ("a body that never ends", Script::Hang(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), 1.0),
        ("another status", answer(204, "text/plain", ""), 0.0),
        ("an error", answer(503, "text/plain", ""), 0.0),
        ("silence", Script::Hang(Vec::new()), 0.0),
        ("too slow", Script::Drip(slow, Duration::from_millis(50)), 0.0),
        ("hanging up", Script::Say(Vec::new()), 0.0),
        ("half a head", Script::Say(b"HTTP/1.1 200 OK\r\nConten".to_vec()), 0.0),
        ("not HTTP", Script::Say(b"SSH-2.0-OpenSSH\r\n".to_vec()), 0.0),
    ] {
        let server = Server::start(move |_| script.clone()).await;
        let source = source(&server.url("/healthz"));
        source.poll(0, at(0)).await;
        let selector = format!("probe_success{{url=\"{}\",job=\"site\"}}", server.url("/healthz"));
        assert_eq!(values(&source, &selector).await, [value], "{name}");
        assert_eq!(values(&source, "up").await, [value], "{name}");
        let health = source.health();
        assert_eq!(health.last_error.is_some(), value == 0.0, "{name}");
        assert_eq!(health.last_success.is_some(), value == 1.0, "{name}");
    }
}

#[tokio::test]
async fn nobody_there_is_down_and_measured_as_such() {
    let source = source(&nobody().await);
    for second in [0, 5, 10] {
        source.poll(0, at(second)).await;
    }
    let measure = Measure::Availability { up: "probe_success".into() };
    let signal = Signal::new(SignalName::new("up").unwrap(), "site", measure);
    let observer = Observer::new(&signal).unwrap();
    let measurement = measured_over(&source, &observer, window(0, 10), Span::from_seconds(15)).await;
    let reading = Reading::Counts { bad: 2.0, total: 2.0 };
    assert_eq!(measurement.observation, Observation::Seen { reading, newest: at(10) });
    assert!(source.health().last_error.unwrap().1.contains("refused"));
}

#[tokio::test]
async fn what_is_our_fault_gives_no_sample() {
    // TLS to a server that does not speak it: whether the service or our trust is at fault cannot be told.
    let server = Server::start(|_| Script::Say(b"plain\r\n".to_vec())).await;
    let tls = format!("https://{}/", server.address);
    for url in ["http://no-such-host.invalid/", tls.as_str()] {
        let json = serde_json::json!({"targets": [url], "timeout": "5s"});
        let source = ProbeSource::new("site", &serde_json::from_value(json).unwrap()).unwrap();
        source.poll(0, at(0)).await;
        assert!(values(&source, "up").await.is_empty(), "{url}");
        let (_, reason) = source.health().last_error.unwrap();
        assert!(reason.contains("nothing is known"), "{reason}");
    }
}

#[test]
fn problems_of_a_configuration_are_named() {
    let keys = |json: serde_json::Value| -> Vec<String> {
        let config: ProbeConfig = serde_json::from_value(json).unwrap();
        config.problems().into_iter().map(|(key, _)| key).collect()
    };
    let url = "http://a/healthz";
    assert!(keys(serde_json::json!({"targets": [url, "http://a/other"]})).is_empty());
    assert_eq!(keys(serde_json::json!({"targets": [url, url]})), ["targets[1]"]);
    assert_eq!(keys(serde_json::json!({"targets": ["ftp://a"]})), ["targets[0]"]);
    assert_eq!(keys(serde_json::json!({"targets": [url], "expect_status": []})), ["expect_status"]);
    assert_eq!(keys(serde_json::json!({"targets": [url], "expect_status": [20, 700]})).len(), 2);
}
