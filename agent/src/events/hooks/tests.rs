//! Recorded requests of every sender we know, signed as that sender signs, and what becomes of them when something is
//! changed.

mod configured;
mod hostile;

use super::super::auth::Algorithm;
use super::super::auth::proof::sign;
use super::*;
use crate::events::{Accepted, Incoming};
use axum::http::HeaderValue;
use base64::Engine as _;
use rules::deployment::{DeployEvent, DeployKind, Report, ReportState};
use rules::ids::SourceName;
use serde_json::{Value, json};

/// Base64 too, so that it can be a key of Standard Webhooks.
const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: i64 = 1_774_016_700;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn hook(yaml: &str) -> Hook {
    let config: HookConfig = serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    assert_eq!(config.problems(), Vec::new(), "{yaml}");
    config.hook(SourceName::new("hook").unwrap(), |_| Ok(SECRET.into())).unwrap()
}

struct Request {
    hook: Hook,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn prove(&self, seconds: i64) -> Result<(), super::super::auth::Unauthenticated> {
        let then = Timestamp::from_second(NOW + seconds).unwrap();
        self.hook.key().recognise(&self.headers, &self.body, then)
    }

    fn read(&self) -> Result<Heard, Refused> {
        self.prove(0).unwrap();
        self.hook.read(&self.headers, &self.body, now())
    }

    fn one(&self) -> Accepted {
        let mut heard = self.read().unwrap_or_else(|refused| panic!("{refused}"));
        assert_eq!(heard.accepted.len(), 1, "{heard:?}");
        heard.accepted.remove(0)
    }

    fn deployment(&self) -> DeployEvent {
        match self.one().incoming {
            Incoming::Deploy(event) => event,
            Incoming::Report(report) => panic!("{report:?}"),
        }
    }

    fn report(&self) -> Report {
        match self.one().incoming {
            Incoming::Report(report) => report,
            Incoming::Deploy(event) => panic!("{event:?}"),
        }
    }

    fn nothing(&self) -> String {
        let heard = self.read().unwrap();
        assert!(heard.accepted.is_empty(), "{heard:?}");
        heard.notes.join("; ")
    }
}

/// Who sends it: how it is signed, and the headers that go with it.
#[derive(Clone, Copy)]
struct Sender {
    yaml: &'static str,
    signs: fn(&[u8]) -> Vec<(&'static str, String)>,
    headers: &'static [(&'static str, &'static str)],
}

fn mac(algorithm: Algorithm, parts: &[&[u8]]) -> Vec<u8> {
    sign(algorithm, SECRET.as_bytes(), parts).unwrap()
}

fn standard(body: &[u8]) -> Vec<(&'static str, String)> {
    let base64 = base64::engine::general_purpose::STANDARD;
    let stamp = NOW.to_string();
    let key = base64.decode(SECRET).unwrap();
    let parts: [&[u8]; 5] = [b"msg_2Kx", b".", stamp.as_bytes(), b".", body];
    let signature = base64.encode(sign(Algorithm::Sha256, &key, &parts).unwrap());
    vec![
        ("webhook-id", "msg_2Kx".into()),
        ("webhook-timestamp", stamp),
        ("webhook-signature", format!("v1,{signature}")),
    ]
}

fn hex(body: &[u8]) -> String {
    hex::encode(mac(Algorithm::Sha256, &[body]))
}

fn bearer(_: &[u8]) -> Vec<(&'static str, String)> {
    vec![("authorization", format!("Bearer {SECRET}"))]
}

const GITHUB: Sender = Sender {
    yaml: "{preset: github, secret: {env: S}, services: [checkout, shop/*], values: {workflow: .github/workflows/deploy.yml}}",
    signs: |body| vec![("x-hub-signature-256", format!("sha256={}", hex(body)))],
    headers: &[
        ("x-github-event", "deployment_status"),
        ("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958"),
    ],
};
const GITHUB_RUN: Sender =
    Sender { headers: &[("x-github-event", "workflow_run"), ("x-github-delivery", "72d3162e")], ..GITHUB };
const GITLAB: Sender = Sender {
    yaml: "{preset: gitlab, secret: {env: S}, services: [checkout]}",
    signs: |_| vec![("x-gitlab-token", SECRET.into())],
    headers: &[("x-gitlab-event", "Deployment Hook")],
};
const GITLAB_SIGNED: Sender = Sender {
    yaml: "{preset: gitlab, credential: {standard_webhooks: {secret: {env: S}}}, services: [checkout]}",
    signs: standard,
    ..GITLAB
};
const GITEA: Sender = Sender {
    yaml: "{preset: gitea, secret: {env: S}, services: [checkout], values: {workflow: deploy.yml}}",
    signs: |body| vec![("x-gitea-signature", hex(body))],
    headers: &[("x-gitea-event", "workflow_run")],
};
const FORGEJO: Sender = Sender {
    yaml: "{preset: forgejo, secret: {env: S}, services: [checkout], values: {workflow: deploy.yml}}",
    signs: |body| vec![("x-forgejo-signature", hex(body))],
    headers: &[("x-forgejo-event", "action_run_success")],
};
const VERCEL: Sender = Sender {
    yaml: "{preset: vercel, secret: {env: S}, services: [front-door]}",
    signs: |body| vec![("x-vercel-signature", hex::encode(mac(Algorithm::Sha1, &[body])))],
    headers: &[],
};
const VERCEL_BY_COMMIT: Sender = Sender {
    yaml: "{preset: vercel, secret: {env: S}, services: [front-door], values: {version: commit}}",
    ..VERCEL
};
const VERCEL_ROLLBACK: Sender = Sender {
    yaml: "{preset: vercel, secret: {env: S}, services: [front-door], service_names: {prj_12345: front-door}}",
    ..VERCEL
};
const SENTRY: Sender = Sender {
    yaml: "{preset: sentry, secret: {env: S}, services: [checkout]}",
    signs: |body| vec![("sentry-hook-signature", hex(body))],
    headers: &[("sentry-hook-resource", "metric_alert")],
};
const SENTRY_EVENT: Sender = Sender { headers: &[("sentry-hook-resource", "event_alert")], ..SENTRY };
const ARGOCD: Sender =
    Sender { yaml: "{preset: argocd, secret: {env: S}, services: [checkout]}", signs: bearer, headers: &[] };
const ROLLOUTS: Sender =
    Sender { yaml: "{preset: argo-rollouts, secret: {env: S}, services: [checkout]}", ..ARGOCD };
const DATADOG: Sender =
    Sender { yaml: "{preset: datadog, secret: {env: S}, services: [checkout]}", ..ARGOCD };
const FLAGGER: Sender = Sender {
    yaml: "{preset: flagger, secret: {env: S}, services: [checkout]}",
    signs: |_| {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("flagger:{SECRET}"));
        vec![("authorization", format!("Basic {pair}"))]
    },
    headers: &[],
};
const GRAFANA: Sender = Sender {
    yaml: "{preset: grafana, secret: {env: S}, services: [checkout]}",
    signs: |body| {
        let stamp = NOW.to_string();
        let signature = hex::encode(mac(Algorithm::Sha256, &[stamp.as_bytes(), b":", body]));
        vec![("x-grafana-alerting-signature", signature), ("x-grafana-alerting-timestamp", stamp)]
    },
    headers: &[],
};

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!("samples/", $name, ".json"))
    };
}

/// One sample of each kind of message, with who sends it and whether what it carries is bound to the body.
fn samples() -> Vec<(&'static str, Sender, &'static str, bool)> {
    vec![
        ("github status", GITHUB, sample!("github-deployment_status"), true),
        ("github run", GITHUB_RUN, sample!("github-workflow_run"), true),
        ("gitlab token", GITLAB, sample!("gitlab-deployment"), false),
        ("gitlab signed", GITLAB_SIGNED, sample!("gitlab-deployment"), true),
        ("gitea", GITEA, sample!("gitea-workflow_run"), true),
        ("forgejo", FORGEJO, sample!("forgejo-action_run_success"), true),
        ("vercel", VERCEL, sample!("vercel-succeeded"), true),
        ("sentry", SENTRY, sample!("sentry-metric_alert"), true),
        ("sentry event", SENTRY_EVENT, sample!("sentry-event_alert"), true),
        ("argocd", ARGOCD, sample!("argocd-deployed"), false),
        ("argo-rollouts", ROLLOUTS, sample!("argo-rollouts-completed"), false),
        ("flagger", FLAGGER, sample!("flagger-succeeded"), false),
        ("flagger failed", FLAGGER, sample!("flagger-failed"), false),
        ("grafana", GRAFANA, sample!("grafana-firing"), true),
        ("datadog", DATADOG, sample!("datadog-triggered"), false),
    ]
}

fn send(sender: Sender, body: &str) -> Request {
    send_to(hook(sender.yaml), sender, body)
}

fn send_to(hook: Hook, sender: Sender, body: &str) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let fixed = sender.headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
    for (name, value) in fixed.chain((sender.signs)(body.as_bytes())) {
        headers.insert(name, HeaderValue::from_str(&value).unwrap());
    }
    Request { hook, headers, body: body.as_bytes().to_vec() }
}

fn changed(sample: &str, pointer: &str, value: Value) -> String {
    let mut body: Value = serde_json::from_str(sample).unwrap();
    *body.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    body.to_string()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn every_sender_of_deployments_is_understood() {
    let sha = "acb5820ced9479c074f688cc328bf03f341a511d";
    let table = [
        (
            "github status",
            "checkout",
            "production",
            "f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
            "2026-03-20T14:21:40Z",
        ),
        ("github run", "checkout", "production", sha, "2026-03-20T14:22:11Z"),
        (
            "gitlab token",
            "checkout",
            "staging",
            "279484c09fbe69ededfced8c1bb6e6d24616b468",
            "2026-03-20T14:21:00Z",
        ),
        (
            "gitlab signed",
            "checkout",
            "staging",
            "279484c09fbe69ededfced8c1bb6e6d24616b468",
            "2026-03-20T14:21:00Z",
        ),
        (
            "gitea",
            "checkout",
            "production",
            "2020c0ffee2020c0ffee2020c0ffee2020c0ffee",
            "2026-03-20T14:22:00Z",
        ),
        (
            "forgejo",
            "checkout",
            "production",
            "2020c0ffee2020c0ffee2020c0ffee2020c0ffee",
            "2026-03-20T14:22:00Z",
        ),
        (
            "vercel",
            "front-door",
            "production",
            "dpl_5WJWYSyB7BpgTj3EuwF37WMRBXBtPQ2iTMJHJBJyRfd",
            "2026-03-20T14:22:00.123Z",
        ),
        (
            "argocd",
            "checkout",
            "production",
            "1a8d2c3e4f5061728394a5b6c7d8e9f001122334",
            "2026-03-20T14:21:44Z",
        ),
        ("argo-rollouts", "checkout", "production", "ghcr.io/shop/checkout:v2.4.0", "2026-03-20T14:25:00Z"),
        ("flagger", "checkout", "production", "85d557f47b", "2026-03-20T14:22:10Z"),
    ];
    let samples = samples();
    for (name, service, environment, version, at) in table {
        let (_, sender, body, _) = *samples.iter().find(|(found, ..)| *found == name).unwrap();
        let event = send(sender, body).deployment();
        assert_eq!((event.service.as_str(), event.environment.as_str()), (service, environment), "{name}");
        assert_eq!((event.release.version.as_str(), event.occurred_at), (version, time(at)), "{name}");
        assert_eq!((event.kind, event.source.as_str()), (DeployKind::Deployed, "hook"), "{name}");
    }
}

#[test]
fn a_rollback_by_a_person_at_vercel_is_heard() {
    let event = send(VERCEL_ROLLBACK, sample!("vercel-rollback")).deployment();
    assert_eq!((event.kind, event.service.as_str()), (DeployKind::RolledBack, "front-door"));
    assert_eq!(event.release.version.as_str(), "dpl_89qyp1cskzkLrVicDaZoDbjyHuDJ");
    let previous = event.previous.unwrap();
    assert_eq!(previous.version.as_str(), "dpl_5WJWYSyB7BpgTj3EuwF37WMRBXBtPQ2iTMJHJBJyRfd");
    assert_eq!(
        (event.environment.as_str(), event.occurred_at),
        ("production", time("2026-03-20T14:23:00.456Z"))
    );
    let unnamed = send(VERCEL, sample!("vercel-rollback")).read().unwrap_err();
    assert!(unnamed.status == 403 && unnamed.reason.contains("prj_12345"), "{unnamed}");
}

#[test]
fn every_sender_of_alerts_is_understood() {
    let table = [
        ("sentry", "sentry_metric_alert", "Critical: Too many errors", "2026-03-20T14:21:13.525106Z"),
        ("sentry event", "sentry_issue_alert", "Very Important Alert Rule!", "2026-03-20T14:22:30Z"),
        (
            "flagger failed",
            "canary_failed",
            "Canary failed! Scaling down checkout.shop",
            "2026-03-20T14:25:00Z",
        ),
        ("grafana", "high_errors", "Errors above 5 %", "2026-03-20T14:22:00Z"),
        ("datadog", "datadog_monitor", "[Triggered] Errors of checkout are high", "2026-03-20T14:22:20Z"),
    ];
    let samples = samples();
    for (name, what, summary, at) in table {
        let (_, sender, body, _) = *samples.iter().find(|(found, ..)| *found == name).unwrap();
        let report = send(sender, body).report();
        assert_eq!((report.service.as_str(), report.what.as_str()), ("checkout", what), "{name}");
        assert_eq!((report.summary.as_str(), report.at), (summary, time(at)), "{name}");
        assert_eq!(report.state, ReportState::Firing, "{name}");
    }
    for (sender, sample, pointer, ended) in [
        (SENTRY, sample!("sentry-metric_alert"), "/action", "resolved"),
        (DATADOG, sample!("datadog-triggered"), "/transition", "Recovered"),
        (GRAFANA, sample!("grafana-firing"), "/alerts/0/status", "resolved"),
    ] {
        let (begin, end) = (send(sender, sample), send(sender, &changed(sample, pointer, json!(ended))));
        assert_eq!(end.report().state, ReportState::Resolved);
        assert_eq!(end.report().id, begin.report().id, "the end finds its beginning");
        assert_ne!(end.one().id, begin.one().id, "and is no repetition of it");
    }
}

#[test]
fn what_says_nothing_is_acknowledged_with_a_note() {
    let status = sample!("github-deployment_status");
    let run = sample!("github-workflow_run");
    let github = |event: &'static [(&'static str, &'static str)]| Sender { headers: event, ..GITHUB };
    let table = [
        (github(&[("x-github-event", "ping")]), sample!("github-ping").to_owned(), "the hook is set up"),
        (github(&[("x-github-event", "push")]), "{\"ref\": \"refs/heads/main\"}".into(), "no deployment"),
        (GITHUB, changed(status, "/deployment_status/state", json!("in_progress")), "not ended yet"),
        (GITHUB, changed(status, "/deployment_status/state", json!("failure")), "the deployment failed"),
        (GITHUB_RUN, changed(run, "/workflow_run/conclusion", json!("failure")), "no deployment"),
        (
            GITHUB_RUN,
            changed(run, "/workflow_run/path", json!(".github/workflows/lint.yml")),
            "no deployment",
        ),
        (GITHUB_RUN, changed(run, "/workflow_run/head_branch", json!("topic")), "no deployment"),
        (GITHUB_RUN, changed(run, "/workflow_run/event", json!("pull_request")), "no deployment"),
        (
            GITHUB_RUN,
            changed(run, "/workflow_run/head_repository/full_name", json!("mallory/checkout")),
            "no deployment",
        ),
        (GITLAB, changed(sample!("gitlab-deployment"), "/status", json!("running")), "not ended yet"),
        (GITLAB, changed(sample!("gitlab-deployment"), "/status", json!("failed")), "did not succeed"),
        (GITLAB, "{\"object_kind\": \"pipeline\"}".into(), "no deployment"),
        (VERCEL, changed(sample!("vercel-succeeded"), "/payload/target", json!(null)), "come to production"),
        (VERCEL_BY_COMMIT, sample!("vercel-rollback").to_owned(), "names deployments and no commit"),
        (SENTRY, changed(sample!("sentry-metric_alert"), "/action", json!("warning")), "only critical"),
        (FLAGGER, changed(sample!("flagger-succeeded"), "/phase", json!("Progressing")), "not decided"),
        (DATADOG, changed(sample!("datadog-triggered"), "/transition", json!("No Data")), "no data"),
    ];
    for (sender, body, words) in table {
        let note = send(sender, &body).nothing();
        assert!(note.starts_with("nothing to record: ") && note.contains(words), "{note}");
    }
}

#[test]
fn forged_altered_replayed_and_foreign_requests_are_refused() {
    for (name, sender, body, bound) in samples() {
        let good = send(sender, body);
        assert_eq!(good.prove(0), Ok(()), "{name}");
        let first = good.one();
        assert_eq!(send(sender, body).one().id, first.id, "{name}: a second delivery is the same news");
        let timed = (sender.signs)(b"").iter().any(|(header, _)| header.contains("timestamp"));
        for (age, passes) in [(299, true), (301, false), (-299, true), (-301, false)] {
            assert_eq!(good.prove(age).is_ok(), passes || !timed, "{name} after {age} s");
        }
        let mut mutated = send(sender, body);
        let middle = body.find("checkout").or(body.find("front-door")).unwrap();
        mutated.body[middle] ^= 1;
        assert_eq!(mutated.prove(0).is_err(), bound, "{name}: a changed byte");
        let mut spaced = send(sender, body);
        spaced.body.push(b' ');
        assert_eq!(spaced.prove(0).is_err(), bound, "{name}: the same JSON in other bytes");
        for (header, value) in (sender.signs)(body.as_bytes()) {
            let mut forged = send(sender, body);
            let last = value.len() - 1;
            let other = if value.ends_with('0') { "1" } else { "0" };
            let value = format!("{}{other}", &value[..last]);
            forged.headers.insert(header, HeaderValue::from_str(&value).unwrap());
            assert!(forged.prove(0).is_err(), "{name}: {header} changed at its end");
            forged.headers.remove(header);
            assert!(forged.prove(0).is_err(), "{name}: without {header}");
        }
        let foreign = sender.yaml.replace("[checkout", "[bank").replace("[front-door", "[bank");
        let refused = send_to(hook(&foreign), sender, body).read().unwrap_err();
        assert!(refused.status == 403 && refused.reason.contains("`hook`"), "{name}: {refused}");
    }
}

#[test]
fn a_name_of_a_delivery_that_is_not_signed_makes_no_news() {
    let first = send(GITHUB, sample!("github-deployment_status")).one();
    let mut again = send(GITHUB, sample!("github-deployment_status"));
    again.headers.insert("x-github-delivery", "another".parse().unwrap());
    assert_eq!(again.one().id, first.id, "a replay under another name is the same news");
    let yaml = "{credential: {hmac: {secret: {env: S}, header: x-sig}}, services: [checkout],
        mapping: [{name: one, deployment: {service: body.service, version: body.version}}]}";
    let ours = Sender { yaml, signs: |body| vec![("x-sig", hex(body))], headers: &[] };
    let body = r#"{"service": "checkout", "version": "v2"}"#;
    let accepted = send(ours, body).one();
    assert!(accepted.id.starts_with("sha256:") && accepted.id.ends_with("#one.0"), "{}", accepted.id);
    assert!(accepted.notes[0].contains("no `id`"), "{:?}", accepted.notes);
    assert_ne!(send(ours, &body.replace("v2", "v3")).one().id, accepted.id);
    let yaml =
        yaml.replace("hmac: {secret: {env: S}, header: x-sig}", "standard_webhooks: {secret: {env: S}}");
    let signed = Sender { yaml: "", signs: standard, headers: &[] };
    assert_eq!(send_to(hook(&yaml), signed, body).one().id, "msg_2Kx#one.0");
}

#[test]
fn a_form_of_github_is_read_and_its_raw_bytes_are_signed() {
    let json = sample!("github-deployment_status");
    let encoded = percent_encoding::utf8_percent_encode(json, percent_encoding::NON_ALPHANUMERIC).to_string();
    let form = format!("payload={}", encoded.replace("%20", "+"));
    let mut request = send(GITHUB, &form);
    request.headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    assert_eq!(request.deployment().service.as_str(), "checkout");
    for (body, status) in
        [("a=b", 400), ("payload=1&payload=2", 400), ("payload=%7B", 400), ("payload=", 400)]
    {
        let mut request = send(GITHUB, body);
        request.headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        assert_eq!(request.read().unwrap_err().status, status, "{body}");
    }
    let mut request = send(GITHUB, json);
    request.headers.insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(request.read().unwrap_err().status, 415);
}

#[test]
fn without_a_proof_a_browser_cannot_send() {
    let yaml = "{preset: argocd, credential: {nobody: {}}, services: [checkout]}";
    let nobody = Sender { yaml, signs: |_| Vec::new(), headers: &[] };
    let mut request = send(nobody, sample!("argocd-deployed"));
    assert_eq!(request.deployment().service.as_str(), "checkout");
    for media in ["text/plain", "application/x-www-form-urlencoded", "text/json"] {
        request.headers.insert("content-type", media.parse().unwrap());
        assert_eq!(request.read().unwrap_err().status, 415, "{media}");
    }
    request.headers.remove("content-type");
    assert_eq!(request.read().unwrap_err().status, 415);
}

#[test]
fn names_of_the_sender_are_translated_and_values_are_set() {
    let yaml =
        "{preset: github, secret: {env: S}, services: ['shop/*'], service_names: {checkout: shop/checkout},
        environment_names: {production – eu: eu/production}, values: {version: ref, environment: eu}}";
    let sample =
        changed(sample!("github-deployment_status"), "/deployment/environment", json!("Production – EU"));
    let event = send_to(hook(yaml), GITHUB, &sample).deployment();
    assert_eq!((event.service.as_str(), event.environment.as_str()), ("shop/checkout", "eu/production"));
    assert_eq!(event.release.version.as_str(), "v2.4.0");
    let refused = send(GITHUB, &sample).read().unwrap_err();
    for words in ["hook `hook`", "rule `deployed`", "`deployment.environment`", "`environment_names`"] {
        assert!(refused.reason.contains(words), "{refused}");
    }
}

const GENERIC: &str = "
credential: {bearer: {token: {env: S}}}
services: ['*']
mapping:
- name: batch
  for_each: body.items
  when: item.kind == 'deploy'
  deployment: {service: item.app, version: item.sha, id: item.id, sequence: item.number}
- name: tests
  when: has(body.test)
  report: {service: body.app, report: \"'smoke_test_failed'\", state: \"body.test.ok ? 'resolved' : 'firing'\"}
";

#[test]
fn a_mapping_of_ones_own_reads_lists_and_says_what_does_not_fit() {
    let ours = Sender { yaml: GENERIC, signs: bearer, headers: &[] };
    let items = json!({"items": [
        {"kind": "deploy", "app": "a", "sha": "1", "id": "x1", "number": 7},
        {"kind": "lint"},
        {"kind": "deploy", "app": "../b", "sha": "1", "id": "x2", "number": 8},
        {"kind": "deploy", "app": "c", "sha": "2", "id": "x3", "number": 9},
    ]});
    let heard = send(ours, &items.to_string()).read().unwrap();
    assert_eq!(heard.accepted.len(), 2);
    assert_eq!(heard.accepted[1].raw["app"], "c", "only its own item is kept");
    assert!(heard.accepted[0].notes[0].contains("`deployment.service`"), "{:?}", heard.accepted[0].notes);
    let Incoming::Deploy(event) = &heard.accepted[0].incoming else { panic!("a deployment") };
    assert_eq!(event.sequence, Some(7));
    let many: Vec<Value> = (0..300)
        .map(|n| json!({"kind": "deploy", "app": "a", "sha": "1", "id": n.to_string(), "number": n}))
        .collect();
    let heard = send(ours, &json!({ "items": many }).to_string()).read().unwrap();
    assert_eq!(heard.accepted.len(), 256);
    assert!(heard.notes[0].contains("300 items"), "{:?}", heard.notes);
    for (body, words) in [
        (json!({"items": []}), "none of its rules (batch, tests) fits"),
        (json!({"items": 7}), "`for_each`: \"body.items\": must give a list, it gives a number"),
        (json!({"nothing": 7}), "there is no field \"items\""),
        (json!({"items": [{"kind": 7}]}), "none of its rules"),
        (
            json!({"items": [{"kind": "deploy", "app": 7, "sha": "1", "id": "x", "number": 7}]}),
            "must give a text, it gives a number; string()",
        ),
        (json!({"items": [], "test": {"ok": "yes"}, "app": "a"}), "got 'string', want 'bool'"),
        (json!([1, 2]), "rule `batch`"),
    ] {
        let refused = send(ours, &body.to_string()).read().unwrap_err();
        assert!(refused.status == 422 && refused.reason.contains(words), "{body}: {refused}");
        assert!(refused.reason.contains("`hook`") || refused.reason.contains("nothing usable"), "{refused}");
    }
    let heard = send(ours, r#"{"items": [], "test": {"ok": false}, "app": "a"}"#).read().unwrap();
    assert!(
        matches!(&heard.accepted[0].incoming, Incoming::Report(report) if report.state == ReportState::Firing)
    );
}
