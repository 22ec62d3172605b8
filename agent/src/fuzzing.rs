//! What outsiders reach, one entry each for the fuzzer: `tests/fuzz` throws bytes at them, and the tests throw the kept
//! corpora at them again.
//!
//! An entry panics if what must hold does not: besides "no panic" that refusals have words and a status that tells the
//! sender the truth, that nothing foreign gets through a scope, and that a signature is believed only if it is one.

use crate::config::{Inputs, check};
use crate::events::auth::{EventSourceKey, ServiceScope, authenticate};
use crate::events::hooks::{Hook, HookConfig, preset_names};
use crate::events::stream::{Message, Reader, Said, header};
use crate::events::{Accepted, Refused, parse_alerts, parse_events};
use crate::signals::fuzzing as signals;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use base64::Engine as _;
use jiff::Timestamp;
use rules::ids::SourceName;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

/// An entry: it takes any bytes.
pub type Target = fn(&[u8]);

/// All entries by name.
pub const TARGETS: [(&str, Target); 13] = [
    ("events", events),
    ("cdevents", cdevents),
    ("signature", signature),
    ("alertmanager", alertmanager),
    ("hooks", hooks),
    ("mapping", mapping),
    ("broker", broker),
    ("remote_write", signals::remote_write),
    ("otlp", signals::otlp),
    ("prometheus_answer", signals::prometheus_answer),
    ("exposition", signals::exposition),
    ("configuration", configuration),
    ("matrix", matrix),
];

fn source() -> SourceName {
    SourceName::new("fuzz").expect("letters are a name")
}

/// A moment that does not move, so that a finding is found again.
fn now() -> Timestamp {
    Timestamp::from_second(1_790_000_000).expect("a moment of our time")
}

fn media(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
}

fn told<T>(outcome: Result<T, Refused>) -> Option<T> {
    match outcome {
        Ok(said) => Some(said),
        Err(refused) => {
            assert!((400..500).contains(&refused.status) && !refused.reason.is_empty(), "{refused:?}");
            assert!(refused.reason.len() < 20_000, "a refusal of {} bytes", refused.reason.len());
            None
        }
    }
}

fn keepable(accepted: &[Accepted]) {
    for one in accepted {
        assert!(
            !one.id.is_empty() && one.id.len() <= 600 && !one.id.chars().any(char::is_control),
            "{one:?}"
        );
    }
}

/// The body of `POST /v1/events`; the first byte chooses the content type.
pub fn events(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let kinds = ["application/json", "application/cloudevents+json", "application/cloudevents-batch+json"];
    let headers = media(kinds[usize::from(*choice) % kinds.len()]);
    if let Some(accepted) = told(parse_events(&source(), &headers, body, now())) {
        keepable(&accepted);
    }
}

/// The data of a CDEvent, as the body of a binary CloudEvent of a type that the first line names.
pub fn cdevents(data: &[u8]) {
    let (kind, body) =
        data.iter().position(|byte| *byte == b'\n').map_or((data, data), |at| (&data[..at], &data[at + 1..]));
    let mut headers = media("application/json");
    header(&mut headers, "ce-specversion", b"1.0");
    header(&mut headers, "ce-id", b"fuzz-1");
    header(&mut headers, "ce-source", b"/fuzz");
    header(&mut headers, "ce-type", kind);
    if let Some(accepted) = told(parse_events(&source(), &headers, body, now())) {
        keepable(&accepted);
    }
}

/// The proofs of all presets, with a secret that nobody knows.
fn keys() -> &'static [EventSourceKey] {
    static KEYS: OnceLock<Vec<EventSourceKey>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut secret = [0_u8; 32];
        getrandom::fill(&mut secret).expect("the system has randomness");
        let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(secret));
        let key = |preset: &str| {
            let yaml = format!("{{preset: {preset}, secret: {{env: S}}, services: ['*']}}");
            let config: HookConfig = serde_saphyr::from_str(&yaml).expect("a configuration of ours");
            config.hook(source(), |_| Ok(secret.clone())).ok().map(|hook| hook.key().clone())
        };
        let keys: Vec<EventSourceKey> = preset_names().into_iter().filter_map(key).collect();
        assert!(keys.len() > 5, "only {} presets have a proof", keys.len());
        keys
    })
}

/// Headers as lines, an empty line, the body: no such request can be signed by somebody who does not know the secret.
pub fn signature(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    let mut length = 0;
    for line in lines.by_ref().take(50) {
        length += line.len() + 1;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        if let Ok(name) = std::str::from_utf8(&line[..colon]) {
            header(&mut headers, name, &line[colon + 1..]);
        }
    }
    let body = data.get(length..).unwrap_or_default();
    let believed = authenticate(keys(), &headers, body, now());
    assert!(believed.is_err(), "a request that nobody signed was believed");
}

/// The body of an Alertmanager's webhook.
pub fn alertmanager(data: &[u8]) {
    if let Some(accepted) = told(parse_alerts(&source(), data, now())) {
        keepable(&accepted);
    }
}

fn all_hooks() -> &'static [Hook] {
    static HOOKS: OnceLock<Vec<Hook>> = OnceLock::new();
    HOOKS.get_or_init(|| {
        let hook = |preset: &str| {
            let yaml = format!("{{preset: {preset}, credential: {{nobody: {{}}}}, services: ['*']}}");
            let config: HookConfig = serde_saphyr::from_str(&yaml).expect("a configuration of ours");
            config.hook(source(), |_| Err("no secrets here".into()))
        };
        preset_names().into_iter().filter_map(|name| hook(name).ok()).collect()
    })
}

/// The body of a hook; the first byte chooses the preset, the second the content type.
pub fn hooks(data: &[u8]) {
    let [choice, form, body @ ..] = data else { return };
    let hooks = all_hooks();
    let kinds = ["application/json", "application/x-www-form-urlencoded"];
    let mut headers = media(kinds[usize::from(*form) % kinds.len()]);
    header(&mut headers, "x-github-event", b"deployment_status");
    header(&mut headers, "x-gitlab-event", b"Deployment Hook");
    header(&mut headers, "sentry-hook-resource", b"event_alert");
    if let Some(heard) = told(hooks[usize::from(*choice) % hooks.len()].read(&headers, body, now())) {
        keepable(&heard.accepted);
    }
}

/// An expression in CEL, a zero, and the body it is run on.
pub fn mapping(data: &[u8]) {
    let Some(at) = data.iter().position(|byte| *byte == 0) else { return };
    let Ok(expression) = std::str::from_utf8(&data[..at]) else { return };
    let expression = serde_json::Value::from(expression).to_string();
    let yaml = format!(
        "{{credential: {{nobody: {{}}}}, services: ['*'], mapping: [{{name: x, when: {expression}, deployment: {{service: \
         {expression}, version: {expression}}}}}]}}"
    );
    let Ok(config) = serde_saphyr::from_str::<HookConfig>(&yaml) else { return };
    let Ok(hook) = config.hook(source(), |_| Err("no secrets here".into())) else {
        assert!(!config.problems().is_empty(), "refused without a reason: {yaml}");
        return;
    };
    if let Some(heard) = told(hook.read(&media("application/json"), &data[at + 1..], now())) {
        keepable(&heard.accepted);
    }
}

/// A broker's message: headers as lines, an empty line, the body. Nothing about a foreign service gets through.
pub fn broker(data: &[u8]) {
    let mut headers = HeaderMap::new();
    let mut length = 0;
    for line in data.split(|byte| *byte == b'\n').take(50) {
        length += line.len() + 1;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        if let Ok(name) = std::str::from_utf8(&line[..colon]) {
            header(&mut headers, name, &line[colon + 1..]);
        }
    }
    let names = ["shop/*".to_owned()];
    let services = ServiceScope::parse(&names).expect("a scope of ours");
    let reader = Reader::new(source(), &names, &[]).expect("a reader of ours");
    let body = data.get(length..).unwrap_or_default();
    let message = Message { place: "t/0/1".into(), stays: true, headers, body, at: Some(now()) };
    match reader.read(&message, now()) {
        Said::News(accepted) => {
            keepable(&accepted);
            assert!(accepted.iter().all(|one| services.allows(one.incoming.service())), "{accepted:?}");
        }
        Said::Nothing(words) => assert!(!words.is_empty()),
        Said::Unreadable(refused) => {
            assert!(!refused.reason.contains("defect of the agent"), "a reader panicked");
            told::<()>(Err(refused));
        }
    }
}

/// Checks a configuration of these files, the first of which names the others.
fn check_files(files: &[(&str, &[u8])]) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // In memory where that can be had: the fuzzer writes thousands of files a second.
        let memory = PathBuf::from("/dev/shm");
        let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = base.join(format!("turnback-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the files");
        folder
    });
    for (name, content) in files {
        std::fs::write(folder.join(name), content).expect("a file in it");
    }
    let first = files.first().map(|(name, _)| folder.join(name));
    let environment = BTreeMap::from([("HOME".to_owned(), "/home/ada".into())]);
    let report = check(&Inputs { paths: first.into_iter().collect(), environment, ..Inputs::default() });
    for problem in &report.problems {
        assert!(!problem.to_string().is_empty(), "a problem without words");
    }
}

/// A configuration in YAML.
pub fn configuration(data: &[u8]) {
    check_files(&[("turnback.yaml", data)]);
}

/// A matrix in a file of its own.
pub fn matrix(data: &[u8]) {
    check_files(&[("main.yaml", b"version: 1\nmatrix_files: { m: matrix.yaml }\n"), ("matrix.yaml", data)]);
}
