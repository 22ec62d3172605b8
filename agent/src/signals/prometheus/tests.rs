//! Recorded and malformed answers. None may panic, and none may become a number that was not there.

use super::super::measure;
use super::super::testing::{Script, Server, answer, at, clock, nobody, window};
use super::*;
use rules::ids::SignalName;
use rules::series::Observer;
use rules::signal::{Measure, Observation, Reading, Signal};
use std::time::Duration;

fn config(url: String) -> PrometheusConfig {
    let json = serde_json::json!({"url": url, "timeout": "400ms"});
    serde_json::from_value(json).unwrap()
}

fn source(url: String) -> PrometheusSource {
    PrometheusSource::new("main", &config(url), &Credentials::default(), clock).unwrap()
}

fn observer() -> Observer {
    let bad = BTreeMap::from([("code".to_string(), "5..".to_string())]);
    let measure = Measure::Proportion { of: "requests_total".into(), bad };
    Observer::new(&Signal::new(SignalName::new("errors").unwrap(), "main", measure)).unwrap()
}

fn matrix(result: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}}}"#)
}

/// One series with the code, and samples as (second, text).
fn item(code: &str, samples: &[(i64, &str)]) -> String {
    let values: Vec<String> =
        samples.iter().map(|(second, value)| format!("[{}.5,{value:?}]", 1_700_000_000 + second)).collect();
    format!(r#"{{"metric":{{"__name__":"requests_total","code":"{code}"}},"values":[{}]}}"#, values.join(","))
}

async fn json(body: &str) -> Server {
    let body = body.to_string();
    Server::start(move |_| answer(200, "application/json", &body)).await
}

async fn measured(script: Script) -> Observation {
    let server = Server::start(move |_| script.clone()).await;
    let source = source(server.url(""));
    measure(&source, &observer(), window(0, 60), Span::from_seconds(30)).await.observation
}

#[tokio::test]
async fn a_recorded_answer_becomes_counts() {
    let body = matrix(&format!(
        "{},{}",
        item("200", &[(-15, "1e+02"), (15, "150"), (45, "190")]),
        item("500", &[(-15, "4"), (15, "1"), (45, "3")])
    ));
    let server = json(&body).await;
    let source = source(server.url("/prefix/"));
    let measurement = measure(&source, &observer(), window(0, 60), Span::from_seconds(30)).await;
    let newest = jiff::Timestamp::from_millisecond(at(45).as_millisecond() + 500).unwrap();
    let reading = Reading::Counts { bad: 3.0, total: 93.0 };
    assert_eq!(measurement.observation, Observation::Seen { reading, newest });
    // Sixty seconds, the lookback of five minutes, and a millisecond; at the window's end.
    let head = &server.heads()[0];
    assert!(head.starts_with("GET /prefix/api/v1/query?query=requests_total%5B360001ms%5D&"), "{head}");
    assert!(head.contains("time=1700000060.000") && head.contains("limit=10000"), "{head}");
    let health = source.health();
    assert_eq!((health.last_success, health.last_error, health.series), (Some(clock()), None, 2));
}

#[tokio::test]
async fn remarks_and_unknown_keys_do_no_harm() {
    let item = item("200", &[(15, "1"), (45, "2")]);
    let body = format!(
        r#"{{"status":"success","infos":["PromQL info: x"],"warnings":null,"isPartial":false,"trace":{{}},
        "data":{{"resultType":"matrix","result":[{item}],"stats":{{"a":[1]}}}}}}"#
    );
    let observation = measured(answer(200, "text/plain", &body)).await;
    assert_eq!(observation.reading(), Some(&Reading::Counts { bad: 0.0, total: 1.0 }));
}

#[tokio::test]
async fn malformed_answers_are_failures_in_words() {
    let good = item("200", &[(15, "1"), (45, "2")]);
    let typed = |kind: &str, result: &str| {
        format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
    };
    let with = |extra: &str| matrix(&good).replacen('{', &format!("{{{extra},"), 1);
    let metric = r#"{"metric":{"__name__":"requests_total","code":"200"}"#;
    let full = matrix(&good);
    let cases: Vec<(&str, u16, String, &str)> = vec![
        ("nothing", 200, String::new(), "unreadable"),
        ("truncated", 200, full[..full.len() - 5].into(), "it begins with"),
        ("truncated early", 200, "{\"status\":\"succ".into(), "unreadable"),
        ("a page", 200, "<html>Please\nlog in</html>".into(), "<html>Please log in"),
        ("a list", 200, "[]".into(), "unreadable"),
        ("null", 200, "null".into(), "unreadable"),
        ("trailing text", 200, format!("{full} and more"), "trailing"),
        ("very deep", 200, "[".repeat(100_000), "unreadable"),
        ("not UTF-8 in a string", 200, with("\"error\":\"\\ud800\""), "unreadable"),
        (
            "an error with status 200",
            200,
            r#"{"status":"error","errorType":"execution","error":"too many samples"}"#.into(),
            "execution: too many samples",
        ),
        ("an unknown status", 200, full.replace("success", "perhaps"), "status 200"),
        ("no data", 200, r#"{"status":"success"}"#.into(), "no data"),
        ("data is null", 200, r#"{"status":"success","data":null}"#.into(), "no data"),
        ("no result type", 200, r#"{"status":"success","data":{"result":[]}}"#.into(), "resultType"),
        ("a string", 200, typed("string", "[1,\"x\"]"), "type \"string\""),
        ("a scalar", 200, typed("scalar", "[1,\"1\"]"), "type \"scalar\""),
        ("a vector", 200, typed("vector", "[]"), "type \"vector\""),
        ("a matrix that is none", 200, typed("matrix", "{}"), "unreadable"),
        (
            "a native histogram",
            200,
            matrix(&format!(r#"{metric},"histograms":[[1,{{"count":"1"}}]]}}"#)),
            "native histogram",
        ),
        ("no values", 200, matrix(&format!("{metric}}}")), "no values"),
        ("no metric", 200, matrix(r#"{"values":[]}"#), "metric"),
        ("values as numbers", 200, matrix(&format!(r#"{metric},"values":[[1700000015,1]]}}"#)), "unreadable"),
        (
            "three in a sample",
            200,
            matrix(&format!(r#"{metric},"values":[[1700000015,"1",2]]}}"#)),
            "unreadable",
        ),
        ("a word as value", 200, matrix(&item("200", &[(15, "many")])), "\"many\""),
        ("an empty value", 200, matrix(&item("200", &[(15, "")])), "not a number"),
        (
            "a time out of range",
            200,
            matrix(&format!(r#"{metric},"values":[[1e300,"1"]]}}"#)),
            "has the time",
        ),
        ("NaN", 200, matrix(&item("200", &[(15, "1"), (45, "NaN")])), "is NaN"),
        ("+Inf", 200, matrix(&item("200", &[(15, "1"), (45, "+Inf")])), "is inf"),
        ("-Inf", 200, matrix(&item("200", &[(15, "1"), (45, "-Inf")])), "is -inf"),
        ("times out of order", 200, matrix(&item("200", &[(45, "1"), (15, "2")])), "not in order"),
        ("a time twice", 200, matrix(&item("200", &[(45, "1"), (45, "2")])), "not in order"),
        ("a series twice", 200, matrix(&format!("{good},{good}")), "is there twice"),
        ("a negative counter", 200, matrix(&item("200", &[(15, "-1"), (45, "2")])), "never negative"),
        ("warnings", 200, with(r#""warnings":["store a: unavailable"]"#), "partial answer: store a"),
        ("a partial answer", 200, with(r#""isPartial":true"#), "isPartial"),
        ("a redirect", 302, "to the login".into(), "status 302: to the login"),
        ("unauthorised", 401, "who are you".into(), "status 401: who are you"),
        ("not found", 404, "404 page not found".into(), "status 404"),
        (
            "a bad query",
            400,
            r#"{"status":"error","errorType":"bad_data","error":"parse error"}"#.into(),
            "bad_data: parse error",
        ),
        (
            "cannot execute",
            422,
            r#"{"status":"error","errorType":"execution","error":"query timed out"}"#.into(),
            "status 422: execution",
        ),
        ("too many requests", 429, String::new(), "status 429: (empty)"),
        ("unavailable", 503, "\u{1b}[31mred".into(), "status 503: [31mred"),
        ("good data with a bad status", 500, matrix(&good), "status 500"),
    ];
    for (name, status, body, words) in cases {
        match measured(answer(status, "application/json", &body)).await {
            Observation::Failed { reason } => {
                assert!(reason.contains(words), "{name}: {reason:?} lacks {words:?}")
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn broken_connections_are_failures_in_words() {
    let body = matrix(&item("200", &[(15, "1"), (45, "2")]));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let long = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len() + 50).into_bytes();
    let drip = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
    for (name, script, words) in [
        ("silence", Script::Hang(Vec::new()), "within 400ms"),
        ("half an answer, then silence", Script::Hang(long.clone()), "within 400ms"),
        ("a slow drip", Script::Drip(drip, Duration::from_millis(50)), "within 400ms"),
        ("half an answer, then the end", Script::Say(long), "cannot be reached"),
        ("a connection that is closed", Script::Say(Vec::new()), "cannot be reached"),
        ("not HTTP", Script::Say(b"SSH-2.0-x\r\n".to_vec()), "cannot be reached"),
        (
            "gzip that is none",
            Script::Say(format!("{head}Content-Encoding: gzip\r\n\r\n{body}").into_bytes()),
            "cannot be",
        ),
    ] {
        match measured(script).await {
            Observation::Failed { reason } => {
                assert!(reason.contains(words), "{name}: {reason:?} lacks {words:?}")
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let source = source(nobody().await);
    let error = source.read("a", window(0, 60)).await.unwrap_err();
    assert!(words(&error).contains("refused"), "{}", words(&error));
    let (when, reason) = source.health().last_error.unwrap();
    assert_eq!(when, clock());
    assert!(reason.contains("cannot be reached"), "{reason}");
}

#[tokio::test]
async fn nothing_there_is_absent() {
    for (name, body) in [("no series", matrix("")), ("only old", matrix(&item("200", &[(-30, "1")])))] {
        let observation = measured(answer(200, "application/json", &body)).await;
        assert!(matches!(observation, Observation::Absent { .. }), "{name}: {observation:?}");
    }
}

#[tokio::test]
async fn limits_hold() {
    let many: Vec<String> = (0..=LIMIT_SERIES).map(|index| item(&index.to_string(), &[(15, "1")])).collect();
    let server = json(&matrix(&many.join(","))).await;
    let error = source(server.url("")).read("requests_total", window(0, 30)).await.unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");
    let huge = "x".repeat(http::BODY_LIMIT + 1);
    let observation = measured(answer(200, "application/json", &huge)).await;
    assert!(observation.hole().unwrap().contains("longer than 16 MiB"));
    let source = source(nobody().await);
    let range = Window { from: Span::from_minutes(60 * 24 * 36).before(at(0)), to: at(0) };
    assert!(matches!(source.read("a", range).await, Err(SourceError::TooLarge { .. })));
    assert!(matches!(source.read("rate(a[5m])", window(0, 60)).await, Err(SourceError::Selector(_))));
}

#[tokio::test]
async fn a_long_range_is_read_in_pieces_without_a_seam() {
    // Answers as Prometheus 2 does: both ends of the range are inside. A sample each minute, value = minute. Too much
    // for pieces longer than 20 minutes.
    let server = Server::start(|head| {
        let number = |after: &str, until: char| -> i64 {
            let rest = head.split(after).nth(1).unwrap();
            rest.split(until).next().unwrap().split('.').next().unwrap().parse().unwrap()
        };
        let (to, length) = (number("time=", '&') - 1_700_000_000, number("%5B", 'm') / 1_000);
        let minutes = (to - length).div_euclid(60)..=to.div_euclid(60);
        if length > 1_200 {
            return answer(200, "text/plain", &"x".repeat(http::BODY_LIMIT + 1));
        }
        let minutes = minutes.filter(|minute| (to - length..=to).contains(&(minute * 60)));
        let values: Vec<String> =
            minutes.map(|minute| format!("[{},\"{minute}\"]", 1_700_000_000 + minute * 60)).collect();
        let result = format!(r#"{{"metric":{{"__name__":"a"}},"values":[{}]}}"#, values.join(","));
        answer(200, "application/json", &matrix(&result))
    })
    .await;
    let config = PrometheusConfig { timeout: Span::from_seconds(20), ..config(server.url("")) };
    let source = PrometheusSource::new("main", &config, &Credentials::default(), clock).unwrap();
    let series = source.read("a", window(0, 90 * 60)).await.unwrap();
    let values: Vec<f64> = series[0].samples.iter().map(|sample| sample.value).collect();
    assert_eq!(values, (1..=90).map(f64::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let server = json(&matrix("")).await;
    let mut config = config(server.url(""));
    config.headers.insert("X-Scope-OrgID".into(), "shop".into());
    config.secret_headers.insert("X-Key".into(), SecretRef::Env("KEY".into()));
    config.basic = Some(BasicConfig { user: "us".into(), password: SecretRef::Env("PASSWORD".into()) });
    let credentials = Credentials {
        bearer: None,
        password: Some(Secret::from("hush".to_owned())),
        headers: BTreeMap::from([("X-Key".to_string(), Secret::from("quiet".to_owned()))]),
    };
    let source = PrometheusSource::new("main", &config, &credentials, clock).unwrap();
    source.read("a", window(0, 60)).await.unwrap();
    let head = server.heads()[0].to_lowercase();
    for line in ["authorization: basic dxm6ahvzaa==", "x-scope-orgid: shop", "x-key: quiet"] {
        assert!(head.contains(line), "{head}");
    }
    let missing = PrometheusSource::new("main", &config, &Credentials::default(), clock);
    assert!(matches!(missing, Err(SourceError::Setup { problem, .. }) if problem.contains("missing")));
}

#[test]
fn problems_of_a_configuration_are_named() {
    let with = |change: fn(&mut PrometheusConfig)| {
        let mut config = config("http://localhost:9090".into());
        change(&mut config);
        config.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert!(with(|_| ()).is_empty());
    for (key, change) in [
        ("url", (|config| config.url = "localhost:9090".into()) as fn(&mut PrometheusConfig)),
        ("url", |config| config.url = "http://user:secret@host/".into()),
        ("url", |config| config.url = "http://host/?a=b".into()),
        ("url", |config| config.url = String::new()),
        ("timeout", |config| config.timeout = Span::from_seconds(0)),
        ("settle", |config| config.settle = Span::from_minutes(11)),
        ("headers.a b", |config| drop(config.headers.insert("a b".into(), "c".into()))),
        ("headers.a", |config| drop(config.headers.insert("a".into(), "b\nc".into()))),
        ("headers.Authorization", |config| drop(config.headers.insert("Authorization".into(), "c".into()))),
        ("bearer", |config| {
            config.bearer = Some(SecretRef::Env("A".into()));
            config.basic = Some(BasicConfig { user: "a".into(), password: SecretRef::Env("B".into()) });
        }),
    ] {
        assert_eq!(with(change), [key]);
    }
    let unknown = serde_json::from_value::<PrometheusConfig>(serde_json::json!({"url": "http://a", "ur": 1}));
    assert!(unknown.unwrap_err().to_string().contains("ur"));
}
