//! Recorded and malformed answers. None may panic, and none may become a number that was not there.

use super::super::testing::{Script, Server, answer, at, clock, measured_over, nobody, window};
use super::*;
use rules::ids::SignalName;
use rules::series::{NativeBucket, Observer};
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
    measured_over(&source, &observer(), window(0, 60), Span::from_seconds(30)).await.observation
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
    let measurement = measured_over(&source, &observer(), window(0, 60), Span::from_seconds(30)).await;
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
            "a native histogram for a proportion",
            200,
            matrix(&native("", &[(45, r#"{"count":"1","sum":"1"}"#)]).replace("pod", "code")),
            "only latency can be read from it",
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

/// One series of native histograms; `more` stands before them.
fn native(more: &str, samples: &[(i64, &str)]) -> String {
    let histograms: Vec<String> = samples
        .iter()
        .map(|(second, histogram)| format!("[{}.5,{histogram}]", 1_700_000_000 + second))
        .collect();
    format!(
        r#"{{"metric":{{"__name__":"seconds","pod":"a"}},{more}"histograms":[{}]}}"#,
        histograms.join(",")
    )
}

#[tokio::test]
async fn native_histograms_become_buckets() {
    // As Prometheus 2.42 writes them: the zero bucket with both ends, nothing of empty buckets.
    let first = r#"{"count":"3","sum":"0.3","buckets":[[3,"-1e-128","1e-128","1"],[0,"0.5","1","2"]]}"#;
    let second = r#"{"count":"9","sum":"+Inf","buckets":[[3,"-1e-128","1e-128","1"],[0,"0.5","1","4"],[0,"2","4","3"],
        [0,"1.7976931348623157e+308","+Inf","1"]]}"#;
    let empty = r#"{"count":"0","sum":"0"}"#;
    let body =
        matrix(&native(r#""values":[[1700000001.5,"1"]],"#, &[(-30, empty), (15, first), (45, second)]));
    let server = json(&body).await;
    let series = source(server.url("")).read("seconds", window(-40, 60)).await.unwrap();
    assert_eq!((series.len(), series[0].samples.len(), series[0].histograms.len()), (1, 1, 3));
    assert_eq!((series[0].histograms[2].count, series[0].histograms[2].sum), (9.0, f64::INFINITY));
    assert_eq!(series[0].histograms[2].buckets[2], NativeBucket { lower: 2.0, upper: 4.0, count: 3.0 });

    let measure_latency = Measure::Latency { buckets: "seconds".into(), quantile: 0.95 };
    let signal = Signal { measure: measure_latency, ..observer().signal().clone() };
    let observer = Observer::new(&signal).unwrap();
    let seen = measured_over(&source(server.url("")), &observer, window(5, 60), Span::from_seconds(30)).await;
    let Some(Reading::Buckets { bounds, counts }) = seen.observation.reading() else { panic!("{seen:?}") };
    let filled: Vec<(Option<f64>, f64)> = (0..)
        .zip(counts)
        .filter(|(_, count)| **count > 0.0)
        .map(|(n, c)| (bounds.get(n).copied(), *c))
        .collect();
    assert_eq!(filled, [(Some(1.0 / 4096.0), 1.0), (Some(1.0), 4.0), (Some(4.0), 3.0), (None, 1.0)]);
}

#[tokio::test]
async fn malformed_native_histograms_are_failures_in_words() {
    let many = vec![r#"[0,"1","2","1"]"#; answer::MOST_BUCKETS + 1].join(",");
    let with = |buckets: &str| format!(r#"{{"count":"1","sum":"1","buckets":[{buckets}]}}"#);
    for (name, histogram, words) in [
        ("no count", r#"{"sum":"1"}"#.to_owned(), "`count`"),
        ("no sum", r#"{"count":"1"}"#.to_owned(), "`sum`"),
        ("a number as count", r#"{"count":1,"sum":"1"}"#.to_owned(), "expected a string"),
        (
            "a word as count",
            r#"{"count":"few","sum":"1"}"#.to_owned(),
            "the count \"few\", which is not a number",
        ),
        ("a word as sum", r#"{"count":"1","sum":"few"}"#.to_owned(), "the sum \"few\""),
        ("null", "null".to_owned(), "unreadable"),
        ("buckets that are none", r#"{"count":"1","sum":"1","buckets":{}}"#.to_owned(), "unreadable"),
        ("three in a bucket", with(r#"[0,"1","2"]"#), "unreadable"),
        ("five in a bucket", with(r#"[0,"1","2","3","4"]"#), "unreadable"),
        ("an unknown rule", with(r#"[4,"1","2","3"]"#), "boundary rule 4"),
        ("a negative rule", with(r#"[-1,"1","2","3"]"#), "unreadable"),
        ("a word as bound", with(r#"[0,"low","2","3"]"#), "the lower bound \"low\""),
        ("an empty bound", with(r#"[0,"1","","3"]"#), "the upper bound"),
        ("a word as bucket", with(r#"[0,"1","2","some"]"#), "the bucket's count \"some\""),
        ("too many buckets", with(&many), "1001 buckets, at most 1000 are read"),
    ] {
        let observation =
            measured(answer(200, "application/json", &matrix(&native("", &[(45, &histogram)])))).await;
        let Observation::Failed { reason } = observation else { panic!("{name}: {observation:?}") };
        assert!(reason.contains(words), "{name}: {reason:?} lacks {words:?}");
    }
    let late = matrix(r#"{"metric":{},"histograms":[[1e300,{"count":"1","sum":"1"}]]}"#);
    let reason = measured(answer(200, "application/json", &late)).await.hole().unwrap();
    assert!(reason.contains("has the time"), "{reason}");
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
    // Answers as Prometheus 2 does: both ends of the range are inside. A sample each minute, value = minute, beside a
    // native histogram. Too much for pieces longer than 20 minutes.
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
        let at = |minute: i64| 1_700_000_000 + minute * 60;
        let values: Vec<String> =
            minutes.clone().map(|minute| format!("[{},\"{minute}\"]", at(minute))).collect();
        let histogram = |minute| format!(r#"[{},{{"count":"{minute}","sum":"0"}}]"#, at(minute));
        let histograms: Vec<String> = minutes.map(histogram).collect();
        let (values, histograms) = (values.join(","), histograms.join(","));
        let result =
            format!(r#"{{"metric":{{"__name__":"a"}},"values":[{values}],"histograms":[{histograms}]}}"#);
        answer(200, "application/json", &matrix(&result))
    })
    .await;
    let config = PrometheusConfig { timeout: Span::from_seconds(20), ..config(server.url("")) };
    let source = PrometheusSource::new("main", &config, &Credentials::default(), clock).unwrap();
    let series = source.read("a", window(0, 90 * 60)).await.unwrap();
    let values: Vec<f64> = series[0].samples.iter().map(|sample| sample.value).collect();
    assert_eq!(values, (1..=90).map(f64::from).collect::<Vec<_>>());
    let counts: Vec<f64> = series[0].histograms.iter().map(|sample| sample.count).collect();
    assert_eq!(counts, values);
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
