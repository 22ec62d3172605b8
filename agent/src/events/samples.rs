//! Messages as real senders write them, and what must be read from each.

use super::limits::MAX_ALERTS;
use super::*;
use axum::http::HeaderValue;
use rules::deployment::{DeployKind, ReportState};
use serde_json::json;

pub(super) const NOW: &str = "2026-03-20T14:30:00Z";
pub(super) const DIGEST: &str = "sha256:0b31b1c02ff458ad9b7b81cbdf8f028bd54699fa151f221d1e8de6817db93427";

pub(super) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub(super) fn source() -> SourceName {
    SourceName::new("ci").unwrap()
}

pub(super) fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

pub(super) fn post(media: &str, body: &str) -> Result<Vec<Accepted>, Refused> {
    parse_events(&source(), &headers(&[("content-type", media)]), body.as_bytes(), now())
}

pub(super) fn native(body: Value) -> Result<Vec<Accepted>, Refused> {
    post("application/json", &body.to_string())
}

/// A CDEvent of 0.4.1 with the type's suffix 0.2.0.
pub(super) fn cdevent_04(kind: &str, subject_type: &str, content: Value) -> Value {
    json!({
        "context": {"version": "0.4.1", "id": "271069a8-fc18-44f1-b38f-9d70a1695819",
            "chainId": "4c8cb7dd-3448-41de-8768-eec704e2829b", "source": "/event/source/123",
            "type": format!("dev.cdevents.{kind}.0.2.0"), "timestamp": "2026-03-20T14:27:05.315384Z",
            "schemaUri": "https://myorg.com/schema/custom"},
        "subject": {"id": "mySubject123", "source": "/event/source/123", "type": subject_type, "content": content},
        "customData": {"service": "checkout"}, "customDataContentType": "application/json"
    })
}

/// A CDEvent of 0.5.1 with the type's suffix 0.3.0.
pub(super) fn cdevent_05(kind: &str, content: Value) -> Value {
    json!({
        "context": {"specversion": "0.5.1", "id": "271069a8-fc18-44f1-b38f-9d70a1695819",
            "chainId": "4c8cb7dd-3448-41de-8768-eec704e2829b", "source": "/event/source/123",
            "type": format!("dev.cdevents.{kind}.0.3.0"), "timestamp": "2026-03-20T14:27:05.315384Z",
            "links": [{"linkType": "RELATION", "linkKind": "TRIGGER",
                "target": {"contextId": "5328c37f-bb7e-4bb7-84ea-9f5f85e4a7ce"}, "tags": {"foo1": "bar"}}]},
        "subject": {"id": "mySubject123", "source": "/event/source/123", "content": content},
        "customData": {"service": "checkout"}, "customDataContentType": "application/json"
    })
}

pub(super) fn released() -> Value {
    json!({"environment": {"id": "test123"}, "artifactId": format!("pkg:oci/myapp@{}", DIGEST.replace(':', "%3A"))})
}

pub(super) fn wrapped(event: &Value) -> Value {
    json!({"specversion": "1.0", "id": event["context"]["id"], "source": event["context"]["source"],
        "type": event["context"]["type"], "time": event["context"]["timestamp"], "subject": event["subject"]["id"],
        "datacontenttype": "application/json", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "data": event})
}

pub(super) fn alerts() -> Value {
    json!({"version": "4", "groupKey": "{}:{alertname=\"HighErrors\"}", "truncatedAlerts": 0, "status": "firing",
        "receiver": "rollback", "groupLabels": {"alertname": "HighErrors"}, "commonLabels": {}, "commonAnnotations": {},
        "externalURL": "http://am:9093", "notification_reason": "new alerts",
        "alerts": [
            {"status": "firing", "labels": {"alertname": "HighErrors", "service": "checkout", "env": "production"},
             "annotations": {"summary": "20% errors", "runbook_url": "http://wiki"}, "startsAt": "2026-03-20T14:20:00.5Z",
             "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prom", "fingerprint": "c7f1a9e3b2d40516"},
            {"status": "resolved", "labels": {"alertname": "Whatever", "app": "cart", "turnback": "data_corruption"},
             "annotations": {}, "startsAt": "2026-03-20T14:10:00Z", "endsAt": "2026-03-20T14:29:00Z",
             "generatorURL": "http://prom", "fingerprint": "0123456789abcdef"}]})
}

fn deploy(accepted: &Accepted) -> &DeployEvent {
    match &accepted.incoming {
        Incoming::Deploy(event) => event,
        Incoming::Report(report) => panic!("a report: {report:?}"),
    }
}

fn report(accepted: &Accepted) -> &Report {
    match &accepted.incoming {
        Incoming::Report(report) => report,
        Incoming::Deploy(event) => panic!("a deployment: {event:?}"),
    }
}

#[test]
fn cdevents_of_both_generations_say_the_same() {
    let removed = json!({"environment": {"id": "test123"}});
    let table = [
        ("service.deployed", released(), DeployKind::Deployed, DIGEST),
        ("service.upgraded", released(), DeployKind::Deployed, DIGEST),
        ("service.rolledback", released(), DeployKind::RolledBack, DIGEST),
        ("service.removed", removed, DeployKind::Removed, "none"),
    ];
    for (kind, content, expected, version) in table {
        for event in [cdevent_04(kind, "service", content.clone()), cdevent_05(kind, content.clone())] {
            let accepted = native(event.clone()).unwrap();
            assert_eq!(accepted[0].notes, Vec::<String>::new(), "{kind} is read strictly");
            let read = deploy(&accepted[0]);
            assert_eq!((read.kind, read.release.version.as_str()), (expected, version), "{kind}");
            assert_eq!((read.service.as_str(), read.environment.as_str()), ("mySubject123", "test123"));
            assert_eq!(read.occurred_at.to_string(), "2026-03-20T14:27:05.315384Z");
            assert_eq!(accepted[0].id, "271069a8-fc18-44f1-b38f-9d70a1695819|/event/source/123");
            assert_eq!((&read.id, &accepted[0].raw, read.source.as_str()), (&accepted[0].id, &event, "ci"));
        }
    }
}

#[test]
fn published_needs_its_artifact() {
    let with = native(cdevent_05("service.published", released())).unwrap();
    assert_eq!(deploy(&with[0]).kind, DeployKind::Deployed);
    // The vocabulary has no artifact there, so the event is read leniently and says so.
    assert!(with[0].notes[0].contains("read leniently"), "{:?}", with[0].notes);
    let refused =
        native(cdevent_05("service.published", json!({"environment": {"id": "test123"}}))).unwrap_err();
    assert!(refused.status == 422 && refused.reason.contains("`subject.content.artifactId`"), "{refused}");
}

#[test]
fn cdevents_test_runs_and_incidents_become_reports() {
    let run = |outcome: &str| {
        json!({"outcome": outcome, "severity": "critical", "reason": "login is broken",
        "environment": {"id": "dev"}, "testSuite": {"id": "92834723894", "version": "1.0", "name": "Auth"}})
    };
    for (event, state) in [
        (cdevent_04("testsuiterun.finished", "testSuiteRun", run("fail")), ReportState::Firing),
        (cdevent_04("testsuiterun.finished", "testSuiteRun", run("pass")), ReportState::Resolved),
        (cdevent_05("testsuiterun.finished", run("failure")), ReportState::Firing),
        (cdevent_05("testsuiterun.finished", run("success")), ReportState::Resolved),
    ] {
        let accepted = native(event).unwrap();
        assert_eq!(accepted[0].notes, Vec::<String>::new());
        let read = report(&accepted[0]);
        assert_eq!(
            (read.what.as_str(), read.state, read.service.as_str()),
            ("smoke_test_failed", state, "checkout")
        );
        assert_eq!((read.id.as_str(), read.summary.as_str()), ("92834723894", "Auth: login is broken"));
    }
    let nothing = native(cdevent_05("testsuiterun.finished", run("cancel"))).unwrap_err();
    assert!(nothing.reason.contains("neither passed nor failed"), "{nothing}");

    let content = json!({"description": "Response time above 100ms", "environment": {"id": "prod1", "source": "/iaas/geo1"},
        "service": {"id": "myApp", "source": "/clusterA"}, "artifactId": "pkg:oci/myapp@sha256%3A0b31"});
    for (kind, state) in
        [("incident.detected", ReportState::Firing), ("incident.resolved", ReportState::Resolved)]
    {
        for event in [cdevent_04(kind, "incident", content.clone()), cdevent_05(kind, content.clone())] {
            let accepted = native(event).unwrap();
            let read = report(&accepted[0]);
            assert_eq!((read.what.as_str(), read.state, read.service.as_str()), ("incident", state, "myApp"));
            assert_eq!(read.summary, "Response time above 100ms");
            assert_eq!(read.environment.as_ref().unwrap().as_str(), "prod1");
        }
    }
}

#[test]
fn inexact_cdevents_are_read_with_a_note() {
    let mut draft = cdevent_05("service.deployed", released());
    draft["context"]["specversion"] = json!("0.6.0-draft");
    draft["context"]["type"] = json!("dev.cdevents.service.deployed.0.4.0-draft");
    draft["subject"]["content"]["cluster"] = json!("eu-1");
    let accepted = native(draft).unwrap();
    assert_eq!(deploy(&accepted[0]).release.version.as_str(), DIGEST);
    assert!(accepted[0].notes.iter().any(|note| note.contains("0.6.0-draft")), "{:?}", accepted[0].notes);
    assert!(accepted[0].notes.iter().any(|note| note.contains("leniently")), "{:?}", accepted[0].notes);
}

#[test]
fn cloudevents_in_all_three_modes_are_the_same_news() {
    let event = cdevent_05("service.deployed", released());
    let binary = headers(&[
        ("content-type", "application/json; charset=utf-8"),
        ("ce-specversion", "1.0"),
        ("ce-id", "271069a8-fc18-44f1-b38f-9d70a1695819"),
        ("ce-source", "/event/source%2F123"),
        ("ce-type", "dev.cdevents.service.deployed.0.3.0"),
        ("ce-time", "2026-03-20T14:27:05.315384Z"),
    ]);
    let binary = parse_events(&source(), &binary, event.to_string().as_bytes(), now()).unwrap();
    let structured = post("application/cloudevents+json", &wrapped(&event).to_string()).unwrap();
    let batch = post("application/cloudevents-batch+json", &json!([wrapped(&event)]).to_string()).unwrap();
    let plain = native(event).unwrap();
    for other in [&structured, &batch, &plain] {
        assert_eq!((&other[0].id, &other[0].incoming), (&binary[0].id, &binary[0].incoming));
    }
    assert_eq!(
        binary[0].raw["type"], "dev.cdevents.service.deployed.0.3.0",
        "the ledger keeps the attributes"
    );
    assert_eq!(binary[0].raw["data"]["subject"]["id"], "mySubject123");
    let mislabelled = native(structured[0].raw.clone()).unwrap();
    assert!(mislabelled[0].notes[0].contains("application/cloudevents+json"));
}

#[test]
fn our_own_cloudevents_take_identity_and_time_from_outside() {
    let data = json!({"service": "checkout", "version": "v2", "previous": "v1"});
    let mut event = json!({"specversion": "1.0", "id": "run-7", "source": "https://ci.example/shop",
        "type": cloudevents::DEPLOYMENT_TYPE, "time": "2026-03-20T14:29:00+00:00", "data": data});
    let accepted = post("application/cloudevents+json", &event.to_string()).unwrap();
    let read = deploy(&accepted[0]);
    assert_eq!(
        (accepted[0].id.as_str(), read.id.as_str()),
        ("run-7|https://ci.example/shop", "run-7|https://ci.example/shop")
    );
    assert_eq!(read.occurred_at.to_string(), "2026-03-20T14:29:00Z");
    assert_eq!(read.previous.as_ref().unwrap().version.as_str(), "v1");
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data.to_string());
    event.as_object_mut().unwrap().remove("data");
    event["data_base64"] = json!(encoded);
    assert_eq!(
        post("application/cloudevents+json", &event.to_string()).unwrap()[0].incoming,
        accepted[0].incoming
    );
    let report_event = json!({"specversion": "1.0", "id": "t-7", "source": "/tests", "type": cloudevents::REPORT_TYPE,
        "data": {"service": "checkout", "report": "smoke_test_failed", "state": "firing"}});
    let accepted = post("application/cloudevents+json", &report_event.to_string()).unwrap();
    assert_eq!(report(&accepted[0]).summary, "smoke_test_failed is firing");
}

#[test]
fn a_mixed_batch_keeps_the_usable_and_says_what_it_left_out() {
    let other = json!({"specversion": "1.0", "id": "9", "source": "/x", "type": "com.example.order.created", "data": {}});
    let pipeline = wrapped(&cdevent_05("pipelinerun.finished", json!({"outcome": "success"})));
    let good = wrapped(&cdevent_05("service.deployed", released()));
    let accepted =
        post("application/cloudevents-batch+json", &json!([other, good, pipeline]).to_string()).unwrap();
    assert_eq!(accepted.len(), 1);
    assert!(accepted[0].notes[0].contains("com.example.order.created"), "{:?}", accepted[0].notes);
    assert!(accepted[0].notes[1].contains("`[2].data.context.type`"), "{:?}", accepted[0].notes);
    let refused = post("application/cloudevents-batch+json", &json!([other]).to_string()).unwrap_err();
    assert!(refused.status == 422 && refused.reason.contains(cdevents::UNDERSTOOD), "{refused}");
}

#[test]
fn a_report_without_id_is_news_each_time_and_a_deployment_is_not() {
    let failed = json!({"service": "checkout", "report": "smoke_test_failed", "state": "firing"});
    let deployed = json!({"service": "checkout", "version": "v2"});
    let at = |value: &Value, seconds: i64| {
        let later = now() + std::time::Duration::from_secs(seconds.unsigned_abs());
        let body = value.to_string();
        parse_events(&source(), &headers(&[("content-type", "application/json")]), body.as_bytes(), later)
            .unwrap()
            .remove(0)
            .id
    };
    assert_ne!(at(&failed, 0), at(&failed, 20), "the same test can fail of the next release");
    assert_eq!(at(&deployed, 0), at(&deployed, 20), "the same deployment was said twice");
}

#[test]
fn the_native_form_fills_what_is_left_out() {
    let accepted = native(json!({"service": "checkout", "version": "v2"})).unwrap();
    let read = deploy(&accepted[0]);
    assert_eq!(
        (read.environment.as_str(), read.occurred_at, read.kind),
        ("production", now(), DeployKind::Deployed)
    );
    assert!(accepted[0].notes[0].contains("five minutes"));
    let full =
        native(json!({"service": "checkout", "version": "v1", "previous": "v2", "environment": "eu/prod",
        "id": "run-4711", "at": "2026-03-20T12:00:00Z", "sequence": 4711, "kind": "rolled_back"}))
        .unwrap();
    let read = deploy(&full[0]);
    assert_eq!(
        (read.kind, read.sequence, read.id.as_str()),
        (DeployKind::RolledBack, Some(4711), "run-4711|checkout|eu/prod|rolled_back")
    );
    let removed = native(json!({"service": "checkout", "kind": "removed"})).unwrap();
    assert_eq!(deploy(&removed[0]).release.version.as_str(), "none");
    let list = native(
        json!([{"service": "a", "version": "1", "id": "r"}, {"service": "b", "version": "1", "id": "r"}]),
    )
    .unwrap();
    assert_ne!(list[0].id, list[1].id, "one run number for two services");
    let late =
        native(json!({"service": "a", "version": "1", "id": "r", "at": "2026-03-18T00:00:00Z"})).unwrap();
    assert!(late[0].notes[0].contains("late by 2d14h30m"), "{:?}", late[0].notes);
}

#[test]
fn a_repeated_request_is_the_same_news_and_a_later_deployment_is_not() {
    let headers = headers(&[("content-type", "application/json")]);
    let identity = |body: &Value, at: &str| {
        let at = at.parse().unwrap();
        parse_events(&source(), &headers, body.to_string().as_bytes(), at).unwrap()[0].id.clone()
    };
    let bare = json!({"service": "checkout", "version": "v2"});
    assert_eq!(identity(&bare, "2026-03-20T14:30:00Z"), identity(&bare, "2026-03-20T14:34:59Z"));
    assert_ne!(identity(&bare, "2026-03-20T14:30:00Z"), identity(&bare, "2026-03-20T14:35:00Z"));
    let dated = json!({"service": "checkout", "version": "v2", "at": "2026-03-20T14:00:00Z"});
    assert_eq!(identity(&dated, "2026-03-20T14:30:00Z"), identity(&dated, "2026-03-20T20:35:00Z"));
    let other = json!({"service": "checkout", "version": "v3", "at": "2026-03-20T14:00:00Z"});
    assert_ne!(identity(&dated, NOW), identity(&other, NOW));
    let firing = json!({"service": "checkout", "report": "smoke_test_failed", "state": "firing", "id": "t"});
    let resolved =
        json!({"service": "checkout", "report": "smoke_test_failed", "state": "resolved", "id": "t"});
    assert_ne!(
        identity(&firing, NOW),
        identity(&resolved, NOW),
        "the end must not be dropped as a repetition"
    );
    let signed = super::samples::headers(&[("content-type", "application/json"), ("webhook-id", "msg_1")]);
    let accepted = parse_events(&source(), &signed, bare.to_string().as_bytes(), now()).unwrap();
    assert_eq!(accepted[0].id, "msg_1");
}

#[test]
fn alertmanager_alerts_become_reports() {
    let accepted = parse_alerts(&source(), alerts().to_string().as_bytes(), now()).unwrap();
    let firing = report(&accepted[0]);
    assert_eq!(
        (firing.what.as_str(), firing.state, firing.summary.as_str()),
        ("high_errors", ReportState::Firing, "20% errors")
    );
    assert_eq!(
        (firing.service.as_str(), firing.environment.as_ref().unwrap().as_str()),
        ("checkout", "production")
    );
    assert_eq!((firing.id.as_str(), firing.over_until()), ("c7f1a9e3b2d40516", None));
    assert_eq!(accepted[0].id, "c7f1a9e3b2d40516|2026-03-20T14:20:00.5Z|firing");
    let resolved = report(&accepted[1]);
    assert_eq!(
        (resolved.what.as_str(), resolved.state, resolved.environment.as_ref()),
        ("data_corruption", ReportState::Resolved, None)
    );
    assert_eq!(resolved.over_until(), Some("2026-03-20T14:29:00Z".parse().unwrap()));
    let mut ended = alerts();
    ended["alerts"][0]["status"] = json!("resolved");
    let ended = parse_alerts(&source(), ended.to_string().as_bytes(), now()).unwrap();
    assert_eq!(report(&ended[0]).id, firing.id, "the end finds its beginning");
    assert_ne!(ended[0].id, accepted[0].id, "and is not dropped as a repetition");
    assert_eq!(report(&ended[0]).over_until(), Some(firing.at), "an end that is no time of our era is none");
    let mut broken = alerts();
    broken["alerts"][1]["endsAt"] = json!("yesterday");
    let broken = parse_alerts(&source(), broken.to_string().as_bytes(), now()).unwrap();
    assert_eq!((report(&broken[1]).ended, broken[1].notes.len()), (None, 1), "{:?}", broken[1].notes);
}

#[test]
fn grafana_sends_the_same_shape_with_more_fields() {
    let mut body = alerts();
    body["version"] = json!("1");
    body["orgId"] = json!(1);
    body["title"] = json!("[FIRING:1] HighErrors");
    body["state"] = json!("alerting");
    body["message"] = json!("**Firing**\n\nValue: B=22");
    body["alerts"][0]["values"] = json!({"B": 22, "C": 1.5});
    body["alerts"][0]["valueString"] = json!("[ var='B' value=22 ]");
    body["alerts"][0]["dashboardURL"] = json!("https://g.example/d/abcd");
    body["alerts"][0]["silenceURL"] = json!("https://g.example/alerting/silence");
    body["alerts"][0]["imageURL"] = json!(null);
    assert_eq!(parse_alerts(&source(), body.to_string().as_bytes(), now()).unwrap().len(), 2);
}

#[test]
fn unusable_alerts_are_notes_and_the_rest_counts() {
    let mut body = alerts();
    body["truncatedAlerts"] = json!(3);
    body["alerts"][1]["labels"] = json!({"alertname": "NoService"});
    let accepted = parse_alerts(&source(), body.to_string().as_bytes(), now()).unwrap();
    assert_eq!(accepted.len(), 1);
    assert!(
        accepted[0].notes.iter().any(|note| note.contains("`alerts[1].labels`")),
        "{:?}",
        accepted[0].notes
    );
    assert!(accepted[0].notes.iter().any(|note| note.contains("3 more alerts")), "{:?}", accepted[0].notes);
    let labels = AlertLabels { service: vec!["team_service".into()], environment: Vec::new() };
    let refused = parse_alerts_with(&source(), &labels, alerts().to_string().as_bytes(), now()).unwrap_err();
    assert!(refused.status == 422 && refused.reason.contains("team_service"), "{refused}");
    body["alerts"][0]["startsAt"] = json!("2026-03-20T15:30:00Z");
    let ahead = parse_alerts(&source(), body.to_string().as_bytes(), now()).unwrap();
    assert_eq!(report(&ahead[0]).at, now());
    let many: Vec<Value> = (0..MAX_ALERTS + 44)
        .map(|_| json!({"status": "firing", "startsAt": NOW, "labels": {"app": "a", "alertname": "B"}}))
        .collect();
    let accepted =
        parse_alerts(&source(), json!({"version": "4", "alerts": many}).to_string().as_bytes(), now())
            .unwrap();
    assert_eq!(accepted.len(), MAX_ALERTS);
    assert!(accepted[0].notes[0].contains("44 more alerts"), "{:?}", accepted[0].notes);
}

#[test]
fn a_source_may_only_speak_about_its_services() {
    let scope = |entries: &[&str]| {
        auth::ServiceScope::parse(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>())
    };
    let key = |entries: &[&str]| auth::EventSourceKey {
        name: source(),
        credential: auth::Credential::Bearer { tokens: vec!["t".into()] },
        services: scope(entries).unwrap(),
    };
    let batch =
        native(json!([{"service": "shop/cart", "version": "1"}, {"service": "bank", "version": "1"}]))
            .unwrap();
    for allowed in [vec!["*"], vec!["shop/*", "bank"], vec!["bank", "shop/cart"]] {
        assert_eq!(check_scope(&key(&allowed), &batch), Ok(()));
    }
    for narrow in [vec!["shop/*"], vec!["bank"], vec!["shop/cart", "bank/*"], vec!["ban-*", "shop/*"]] {
        let refused = check_scope(&key(&narrow), &batch).unwrap_err();
        assert!(refused.status == 403 && refused.reason.contains("`ci`"), "{refused}");
    }
    assert!(scope(&["shop*"]).is_err() && scope(&[]).is_err() && scope(&["$(id)"]).is_err());
}

#[test]
fn alerts_about_foreign_services_are_notes_and_the_rest_counts() {
    let key = |entries: &[&str]| {
        let entries: Vec<String> = entries.iter().map(|entry| (*entry).to_owned()).collect();
        auth::EventSourceKey {
            name: source(),
            credential: auth::Credential::Bearer { tokens: vec!["t".into()] },
            services: auth::ServiceScope::parse(&entries).unwrap(),
        }
    };
    let alert =
        |app: &str| json!({"status": "firing", "startsAt": NOW, "labels": {"app": app, "alertname": "B"}});
    let group = |apps: &[&str]| {
        let alerts: Vec<Value> = apps.iter().map(|app| alert(app)).collect();
        let body = json!({"version": "4", "truncatedAlerts": 9, "alerts": alerts}).to_string();
        parse_alerts(&source(), body.as_bytes(), now()).unwrap()
    };
    let (within, foreign) =
        within_scope(&key(&["shop/*", "cart"]), group(&["bank", "cart", "bank"])).unwrap();
    assert_eq!((within.len(), foreign), (1, 2));
    assert_eq!(within[0].incoming.service().as_str(), "cart");
    let notes = within[0].notes.join("\n");
    for words in ["2 about the service `bank`", "`ci`", "shop/*, cart", "9 more alerts"] {
        assert!(notes.contains(words), "{words} is missing in {notes}");
    }
    let refused = within_scope(&key(&["shop/*"]), group(&["bank", "cart"])).unwrap_err();
    assert!(refused.status == 403 && refused.reason.contains("`bank`"), "{refused}");
    let deployments = json!([{"service": "cart", "version": "1"}, {"service": "bank", "version": "1"}]);
    assert_eq!(within_scope(&key(&["cart"]), native(deployments).unwrap()).unwrap_err().status, 403);
}
