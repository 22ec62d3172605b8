//! Malformed and hostile bodies: each must be refused with a 4xx that names the field or the place.

use super::limits::{MAX_ALERTS_BYTES, MAX_DEPTH};
use super::samples::*;
use super::*;
use serde_json::json;

/// What must not get through as a name, an identity or a word.
const PAYLOADS: [&str; 14] = [
    "; rm -rf /",
    "$(id)",
    "`id`",
    "../../etc/passwd",
    "a/../b",
    "a\r\nx-evil: 1",
    "<script>alert(1)</script>",
    "' OR 1=1 --",
    "{{to.version}}",
    "a\u{0}b",
    "\u{202E}txt.exe",
    "--version",
    "a|b",
    "",
];

/// Identities may begin with `-`; they are never arguments of a program.
const IDENTITIES: [&str; 5] = ["id", "source", "context.id", "context.source", "fingerprint"];

fn set(value: &Value, pointer: &str, new: Value) -> Value {
    let mut changed = value.clone();
    *changed.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = new;
    changed
}

fn without(value: &Value, pointer: &str) -> Value {
    let mut changed = value.clone();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    changed.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
    changed
}

#[track_caller]
fn refused(result: Result<Vec<Accepted>, Refused>, status: u16, words: &str, name: &str) {
    let refused = result.expect_err(name);
    assert_eq!(refused.status, status, "{name}: {refused}");
    assert!(refused.reason.contains(words), "{name}: `{words}` is not in: {refused}");
    assert!(refused.reason.len() < 3_000, "{name}: {} bytes of reason", refused.reason.len());
    assert!(!refused.reason.contains(|c: char| c.is_control()), "{name}: control characters in {refused:?}");
}

/// Bodies that are wrong whatever they are meant to be: name, body, status, words.
fn broken_bodies() -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let nested = |open: &str, close: &str, count: usize| {
        format!("{}1{}", open.repeat(count), close.repeat(count)).into_bytes()
    };
    vec![
        ("empty", text(""), 400, "empty"),
        ("white space", text(" \n\t "), 400, "empty"),
        ("too long", vec![b' '; MAX_ALERTS_BYTES + 1], 413, "bytes"),
        (
            "too long a text",
            format!("{{\"service\":\"{}\"}}", "a".repeat(MAX_ALERTS_BYTES)).into_bytes(),
            413,
            "bytes",
        ),
        ("no JSON", text("service=checkout&version=2"), 400, "JSON"),
        ("HTML", text("<html></html>"), 400, "JSON"),
        ("YAML", text("service: checkout"), 400, "JSON"),
        ("cut off", text(r#"{"service":"checkout","version":"v"#), 400, "version"),
        ("more after the end", text(r#"{"service":"a","version":"1"} {}"#), 400, "trailing"),
        ("single quotes", text("{'service':'a'}"), 400, "JSON"),
        ("comma at the end", text(r#"{"service":"a",}"#), 400, "trailing comma"),
        ("comment", text(r#"{"service":"a"/*x*/}"#), 400, "JSON"),
        ("byte order mark", [b"\xEF\xBB\xBF".to_vec(), text("{}")].concat(), 400, "byte order mark"),
        ("UTF-16", vec![0xFF, 0xFE, b'{', 0, b'}', 0], 400, "UTF-8"),
        ("not UTF-8", [text(r#"{"service":""#), vec![0xC3, 0x28], text("\"}")].concat(), 400, "byte 12"),
        ("half a surrogate", text(r#"{"service":"\ud800"}"#), 400, "service"),
        ("raw control character", text("{\"service\":\"a\u{1}\"}"), 400, "service"),
        ("NaN", text(r#"{"service":"a","version":"1","sequence":NaN}"#), 400, "sequence"),
        ("Infinity", text(r#"{"service":"a","version":"1","sequence":Infinity}"#), 400, "sequence"),
        ("a number too large", text(r#"{"sequence":1e999}"#), 400, "sequence"),
        (
            "a key twice",
            text(r#"{"service":"a","version":"1","service":"b"}"#),
            400,
            "\"service\" stands twice",
        ),
        ("a key twice, escaped", text(r#"{"service":"a","\u0073ervice":"b"}"#), 400, "stands twice"),
        ("a key twice inside", text(r#"{"context":{"id":"1","id":"2"}}"#), 400, "context"),
        ("deep lists", nested("[", "]", MAX_DEPTH + 1), 400, "nested deeper"),
        ("deep objects", nested(r#"{"a":"#, "}", MAX_DEPTH + 1), 400, "nested deeper"),
        ("very deep", nested("[", "]", 100_000), 400, "nested deeper"),
        ("very deep, open", vec![b'['; 200_000], 400, "nested deeper"),
        ("null", text("null"), 422, "must be an object"),
        ("a text", text("\"checkout\""), 422, "must be an object"),
        ("a number", text("42"), 422, "must be an object"),
    ]
}

#[test]
fn broken_bodies_are_refused_everywhere() {
    for (name, body, status, words) in broken_bodies() {
        for media in ["application/json", "application/cloudevents+json"] {
            let headers = headers(&[("content-type", media)]);
            refused(parse_events(&source(), &headers, &body, now()), status, words, name);
        }
        refused(parse_alerts(&source(), &body, now()), status, words, name);
    }
}

#[test]
fn just_inside_the_limits_is_fine() {
    let mut deep = json!(1);
    for _ in 0..MAX_DEPTH - 2 {
        deep = json!([deep]);
    }
    let event = set(&cdevent_05("service.deployed", released()), "/customData", deep);
    assert_eq!(native(event).unwrap().len(), 1);
    let item = json!({"service": "a".repeat(128), "version": "v".repeat(256), "id": "i".repeat(256)});
    let many = Value::Array(vec![item; MAX_BATCH]);
    assert_eq!(native(many).unwrap().len(), MAX_BATCH);
}

#[test]
fn wrong_native_messages_name_the_field() {
    let good = json!({"service": "a", "version": "1"});
    let report = json!({"service": "a", "report": "smoke_test_failed", "state": "firing"});
    let with = |base: &Value, key: &str, value: Value| {
        let mut changed = base.clone();
        changed[key] = value;
        changed
    };
    let table: Vec<(Value, u16, &str)> = vec![
        (json!({}), 422, "`service`"),
        (json!([]), 422, "list is empty"),
        (json!([1, 2]), 422, "`[0]`"),
        (json!([good, []]), 422, "`[1]`"),
        (json!([good, {"service": "a"}]), 422, "`[1].version`"),
        (Value::Array(vec![good.clone(); MAX_BATCH + 1]), 413, "at most 256"),
        (json!({"service": "a"}), 422, "`version`"),
        (json!({"version": "1"}), 422, "`service`"),
        (with(&good, "enviroment", json!("x")), 422, "`enviroment`: is not known"),
        (with(&good, "command", json!("rm -rf /")), 422, "`command`"),
        (with(&good, "a\r\nb", json!(1)), 422, r"`a\r\nb`"),
        (with(&good, &"k".repeat(5_000), json!(1)), 422, "is not known"),
        (with(&good, "service", json!(5)), 422, "`service`: must be a text, it is a number"),
        (with(&good, "service", json!(null)), 422, "`service`"),
        (with(&good, "service", json!(["a"])), 422, "`service`"),
        (with(&good, "service", json!("a".repeat(129))), 422, "`service`"),
        (with(&good, "service", json!("a".repeat(200_000))), 422, "`service`"),
        (with(&good, "version", json!(1.5)), 422, "`version`"),
        (with(&good, "version", json!("v".repeat(257))), 422, "`version`"),
        (with(&good, "environment", json!({})), 422, "`environment`"),
        (with(&good, "previous", json!(true)), 422, "`previous`"),
        (with(&good, "kind", json!("exploded")), 422, "`kind`"),
        (with(&good, "kind", json!(1)), 422, "`kind`"),
        (with(&good, "id", json!(4711)), 422, "`id`"),
        (with(&good, "id", json!("i".repeat(257))), 422, "`id`"),
        (with(&good, "at", json!(1_774_017_000)), 422, "`at`"),
        (with(&good, "at", json!("yesterday")), 422, "`at`"),
        (with(&good, "at", json!("2026-03-20")), 422, "`at`"),
        (with(&good, "at", json!("2026-13-45T99:99:99Z")), 422, "`at`"),
        (with(&good, "at", json!("0001-01-01T00:00:00Z")), 422, "`at`"),
        (with(&good, "at", json!("1970-01-01T00:00:00Z")), 422, "`at`"),
        (with(&good, "at", json!("2026-03-20T14:35:01Z")), 422, "`at`"),
        (with(&good, "at", json!("9999-12-30T00:00:00Z")), 422, "`at`"),
        (with(&good, "at", json!("9".repeat(10_000))), 422, "`at`"),
        (with(&good, "sequence", json!(-1)), 422, "`sequence`"),
        (with(&good, "sequence", json!(1.5)), 422, "`sequence`"),
        (with(&good, "sequence", json!("7")), 422, "`sequence`"),
        (with(&good, "sequence", json!(1e30)), 422, "`sequence`"),
        (with(&report, "state", json!("maybe")), 422, "`state`"),
        (without(&report, "/state"), 422, "`state`"),
        (with(&report, "version", json!("1")), 422, "`version`: is not known"),
        (with(&report, "report", json!("SmokeTest")), 422, "`report`"),
        (with(&report, "report", json!("")), 422, "`report`"),
        (with(&report, "report", json!({})), 422, "`report`"),
        (with(&report, "summary", json!(["x"])), 422, "`summary`"),
        (with(&report, "at", json!("2026-03-20T14:35:01Z")), 422, "`at`"),
    ];
    for (body, status, words) in table {
        let name: String = body.to_string().chars().take(200).collect();
        refused(native(body), status, words, &name);
    }
    assert!(native(with(&good, "at", json!("2026-03-20T14:35:00Z"))).is_ok(), "exactly five minutes ahead");
}

#[test]
fn injections_are_refused_in_every_field_that_is_a_name() {
    let native_form = json!({"service": "a", "version": "1", "environment": "e", "previous": "0", "id": "i",
        "at": NOW, "kind": "deployed"});
    let report =
        json!({"service": "a", "environment": "e", "report": "w", "state": "firing", "id": "i", "at": NOW});
    let event = cdevent_05("service.deployed", released());
    let alert = set(&alerts(), "/alerts", json!([alerts()["alerts"][0]]));
    let ours = json!({"specversion": "1.0", "id": "7", "source": "/ci", "type": cloudevents::DEPLOYMENT_TYPE,
        "time": NOW, "data": {"service": "a", "version": "1", "id": "7"}});
    let mut tried = 0;
    for payload in PAYLOADS {
        for (base, fields) in [
            (&native_form, vec!["service", "version", "environment", "previous", "id", "at", "kind"]),
            (&report, vec!["service", "environment", "report", "state", "id", "at"]),
            (
                &event,
                vec![
                    "context.id",
                    "context.source",
                    "context.type",
                    "context.timestamp",
                    "subject.id",
                    "subject.content.environment.id",
                    "subject.content.artifactId",
                ],
            ),
            (&ours, vec!["specversion", "id", "source", "time", "data.service", "data.version", "data.id"]),
        ] {
            for field in fields {
                if payload == "--version" && IDENTITIES.contains(&field) {
                    continue;
                }
                let pointer = format!("/{}", field.replace('.', "/"));
                let body = set(base, &pointer, json!(payload));
                // `a|b` and the like must be refused as strictly as the dangerous ones: it separates identities.
                refused(native(body), 422, &format!("`{field}`"), &format!("{payload:?} in {field}"));
                tried += 1;
            }
        }
        for field in ["status", "startsAt", "fingerprint", "labels.service", "labels.env"] {
            // An empty label is no label: then the environment is unknown, which is fine.
            if payload.is_empty() && field.starts_with("labels") {
                continue;
            }
            if payload == "--version" && IDENTITIES.contains(&field) {
                continue;
            }
            let body = set(&alert, &format!("/alerts/0/{}", field.replace('.', "/")), json!(payload));
            let words = format!("`alerts[0].{field}`");
            refused(parse_alerts(&source(), body.to_string().as_bytes(), now()), 422, &words, payload);
            tried += 1;
        }
    }
    assert!(tried > 400, "only {tried}");
}

#[test]
fn free_text_is_made_harmless_instead_of_refused() {
    for payload in PAYLOADS {
        let body = json!({"service": "a", "report": "w", "state": "firing", "summary": payload});
        let accepted = native(body).unwrap();
        let Incoming::Report(report) = &accepted[0].incoming else { panic!("a report was sent") };
        assert!(
            !report.summary.contains(|c: char| c.is_control() || c == '\u{202E}'),
            "{:?}",
            report.summary
        );
    }
}

#[test]
fn wrong_cloudevents_name_the_attribute() {
    let good = wrapped(&cdevent_05("service.deployed", released()));
    let with = |key: &str, value: Value| {
        let mut changed = good.clone();
        changed[key] = value;
        changed
    };
    let many = (0..70).fold(good.clone(), |mut event, index| {
        event[format!("x{index}")] = json!(1);
        event
    });
    let table = [
        (without(&good, "/specversion"), "`specversion`"),
        (with("specversion", json!("0.3")), "`specversion`"),
        (with("specversion", json!(1.0)), "`specversion`"),
        (without(&good, "/id"), "`id`"),
        (without(&good, "/source"), "`source`"),
        (without(&good, "/type"), "`type`"),
        (with("time", json!("soon")), "`time`"),
        (with("dataref", json!("https://evil.example/x")), "`dataref`"),
        (with("datacontenttype", json!("application/xml")), "`datacontenttype`"),
        (with("data_base64", json!("e30=")), "`data_base64`"),
        (set(&good, "/data", json!("text")), "`data`"),
        (set(&good, "/data", json!(null)), "`data`"),
        (without(&good, "/data"), "`data`"),
        (with("id", json!("other")), "`data.context.id`"),
        (with("source", json!("/other")), "`data.context.source`"),
        (with("type", json!("dev.cdevents.service.removed.0.3.0")), "`data.context.type`"),
        (with("type", json!("com.example.unknown")), "`type`"),
        (many, "at most 64"),
    ];
    for (event, words) in table {
        refused(post("application/cloudevents+json", &event.to_string()), 422, words, words);
        if words.starts_with('`') {
            let indexed = words.replacen('`', "`[1].", 1);
            let batch = json!([good, event]).to_string();
            let result = post("application/cloudevents-batch+json", &batch);
            // A type that says nothing is left out of a batch; everything else refuses it.
            match words {
                "`type`" if event.get("type").is_some() => assert_eq!(result.unwrap().len(), 1),
                _ => refused(result, 422, &indexed, &indexed),
            }
        }
    }
    for bad in ["%%%", "bm90IGpzb24=", "eyJhIjoxLCJhIjoyfQ=="] {
        let mut event = without(&good, "/data");
        event["data_base64"] = json!(bad);
        refused(post("application/cloudevents+json", &event.to_string()), 422, "`data_base64`", bad);
    }
    refused(post("application/cloudevents-batch+json", "{}"), 422, "a list of events", "batch");
    refused(post("application/cloudevents-batch+json", "[]"), 422, "empty", "batch");
}

#[test]
fn wrong_cdevents_name_the_field() {
    let good = cdevent_05("service.deployed", released());
    let table = [
        (without(&good, "/context/id"), "`context.id`"),
        (without(&good, "/context/source"), "`context.source`"),
        (without(&good, "/context/type"), "`context.type`"),
        (without(&good, "/context/timestamp"), "`context.timestamp`"),
        (without(&good, "/context/specversion"), "`context.specversion`"),
        (set(&good, "/context", json!([])), "`context`"),
        (set(&good, "/context/type", json!("dev.cdevents.service")), "`context.type`"),
        (set(&good, "/context/type", json!("dev.cdevents.service.deployed")), "`context.type`"),
        (set(&good, "/context/type", json!("dev.cdevents.taskrun.started.0.3.0")), "`context.type`"),
        (set(&good, "/context/timestamp", json!("2026-03-20T15:00:00Z")), "`context.timestamp`"),
        (without(&good, "/subject"), "`subject`"),
        (without(&good, "/subject/id"), "`subject.id`"),
        (without(&good, "/subject/content"), "`subject.content`"),
        (without(&good, "/subject/content/environment"), "`subject.content.environment`"),
        (without(&good, "/subject/content/artifactId"), "`subject.content.artifactId`"),
        (set(&good, "/subject/content/artifactId", json!("pkg:oci/app")), "`subject.content.artifactId`"),
        (set(&good, "/subject/content/environment/id", json!(7)), "`subject.content.environment.id`"),
    ];
    for (event, words) in table {
        refused(native(event), 422, words, words);
    }
    let run =
        cdevent_05("testsuiterun.finished", json!({"outcome": "failure", "environment": {"id": "dev"}}));
    refused(native(without(&run, "/customData")), 422, "`subject.content.service.id`", "no service");
    refused(
        native(set(&run, "/subject/content/outcome", json!("meh"))),
        422,
        "`subject.content.outcome`",
        "outcome",
    );
}

#[test]
fn wrong_headers_are_named() {
    let body = json!({"service": "a", "version": "1"}).to_string();
    let event = cdevent_05("service.deployed", released());
    let ce = |extra: &[(&'static str, &str)], leave_out: &str| {
        let base = [
            ("ce-specversion", "1.0"),
            ("ce-id", "271069a8-fc18-44f1-b38f-9d70a1695819"),
            ("ce-source", "/event/source/123"),
            ("ce-type", "dev.cdevents.service.deployed.0.3.0"),
        ];
        let mut all: Vec<_> = base.into_iter().filter(|(name, _)| *name != leave_out).collect();
        all.extend_from_slice(extra);
        parse_events(&source(), &headers(&all), event.to_string().as_bytes(), now())
    };
    assert!(ce(&[], "").is_ok());
    refused(ce(&[], "ce-id"), 422, "`id`", "no id");
    refused(ce(&[], "ce-specversion"), 422, "`specversion`", "no specversion");
    refused(ce(&[("ce-id", "other")], "ce-id"), 422, "`data.context.id`", "another id");
    refused(ce(&[("ce-id", "other")], ""), 400, "ce-id", "id twice");
    refused(ce(&[("ce-data", "{}")], ""), 400, "ce-data", "data as header");
    refused(ce(&[("ce-subject", "%FF")], ""), 400, "ce-subject", "no UTF-8");
    refused(ce(&[("content-type", "text/xml")], ""), 415, "content-type", "binary XML");
    for (pairs, status, words) in [
        (vec![], 415, "content-type"),
        (vec![("content-type", "application/x-www-form-urlencoded")], 415, "application/cloudevents+json"),
        (vec![("content-type", "application/cloudevents+avro")], 415, "content-type"),
        (vec![("content-type", "application/json; charset=utf-16")], 415, "utf-16"),
        (
            vec![("content-type", "application/json"), ("content-type", "application/json")],
            400,
            "content-type",
        ),
        (vec![("content-type", "application/json"), ("content-encoding", "gzip")], 415, "content-encoding"),
        (vec![("content-type", "application/json"), ("webhook-id", "a b")], 422, "webhook-id"),
    ] {
        refused(parse_events(&source(), &headers(&pairs), body.as_bytes(), now()), status, words, words);
    }
}

#[test]
fn wrong_alerts_name_the_field() {
    let good = alerts();
    let one = set(&good, "/alerts", json!([good["alerts"][0]]));
    let table = [
        (without(&good, "/version"), "`version`"),
        (set(&good, "/version", json!("3")), "`version`"),
        (set(&good, "/version", json!(4)), "`version`"),
        (without(&good, "/alerts"), "`alerts`"),
        (set(&good, "/alerts", json!([])), "`alerts`"),
        (set(&good, "/alerts", json!({})), "`alerts`"),
        (set(&good, "/alerts", json!([1, "x", null, []])), "`alerts[0]`"),
        (set(&one, "/alerts/0/labels", json!([])), "`alerts[0].labels`"),
        (set(&one, "/alerts/0/labels/service", json!(5)), "`alerts[0].labels.service`"),
        (without(&one, "/alerts/0/labels/alertname"), "`alerts[0].labels.alertname`"),
        (set(&one, "/alerts/0/labels/alertname", json!("∆∆")), "`alerts[0].labels.alertname`"),
        (set(&one, "/alerts/0/status", json!("suppressed")), "`alerts[0].status`"),
        (without(&one, "/alerts/0/status"), "`alerts[0].status`"),
        (without(&one, "/alerts/0/startsAt"), "`alerts[0].startsAt`"),
        (set(&one, "/alerts/0/annotations", json!("x")), "`alerts[0].annotations`"),
        (set(&one, "/alerts/0/annotations/summary", json!(1)), "`alerts[0].annotations.summary`"),
    ];
    for (body, words) in table {
        refused(parse_alerts(&source(), body.to_string().as_bytes(), now()), 422, words, words);
    }
}
