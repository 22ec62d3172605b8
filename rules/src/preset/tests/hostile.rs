//! Five hundred hostile texts through every placeholder and every input of every preset: each either is refused or
//! stands in its place as data.

use super::payloads::payloads;
use super::*;
use crate::action::{ActionSpec, HttpSpec, Undo};
use crate::runbook::{Values, fill_action};
use std::collections::BTreeMap;

/// What must hold for whatever an action became: the frame is that of the harmless one.
fn inert(frame: &ActionSpec, action: &ActionSpec, lists: bool) {
    match (frame, action) {
        (ActionSpec::Command(frame), ActionSpec::Command(command)) => {
            assert!(lists || frame.argv.len() == command.argv.len(), "{:?}", command.argv);
            assert_eq!(frame.argv[0], command.argv[0]);
            for (before, after) in frame.argv.iter().zip(&command.argv) {
                assert!(!after.contains('\0'));
                assert_eq!(before.starts_with('-'), after.starts_with('-'), "{after:?} became an option");
            }
            for value in command.env.values() {
                assert!(!value.contains('\0'));
            }
        }
        (ActionSpec::Http(frame), ActionSpec::Http(http)) => request(frame, http),
        _ => panic!("another family"),
    }
}

fn request(frame: &HttpSpec, http: &HttpSpec) {
    let parts = |url: &str| {
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let segments: Vec<String> = path.split('/').map(str::to_owned).collect();
        let names = query.map(|query| {
            query.split('&').map(|pair| pair.split('=').next().unwrap().to_owned()).collect::<Vec<_>>()
        });
        (segments, names)
    };
    let ((before, names), (after, found)) = (parts(&frame.url), parts(&http.url));
    assert_eq!((before.len(), &before[..3], names), (after.len(), &after[..3], found), "{}", http.url);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~%:/?&=@,+[]".contains(c);
    assert!(http.url.chars().all(plain), "{}", http.url);
    assert!(
        !after
            .iter()
            .any(|segment| matches!(segment.to_lowercase().replace("%2e", ".").as_str(), "." | ".."))
    );
    for value in http.headers.values() {
        assert!(!value.contains(['\r', '\n', '\0']), "{value:?}");
    }
    let json = frame.body.as_deref().filter(|body| serde_json::from_str::<Value>(body).is_ok());
    if let Some(json) = json {
        let body: Value = serde_json::from_str(http.body.as_deref().unwrap()).unwrap();
        assert_eq!(shape(&body), shape(&serde_json::from_str(json).unwrap()));
    }
}

/// A JSON value without its texts: keys of objects too, where a vendor takes names as keys. Lists of texts may differ.
fn shape(value: &Value) -> String {
    match value {
        Value::String(_) => "text".into(),
        Value::Array(items) if items.iter().all(Value::is_string) => "texts".into(),
        Value::Array(items) => format!("[{}]", items.iter().map(shape).collect::<Vec<_>>().join(",")),
        Value::Object(map) => format!("{{{}}}", map.values().map(shape).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn actions(out: &Expanded) -> Vec<ActionSpec> {
    let mut all = vec![out.action.clone()];
    all.extend(out.inspect.iter().chain(&out.verify).map(|one| one.action.clone()));
    if let Undo::Action(undo) = &out.undo {
        all.push(undo.clone());
    }
    all
}

fn values(of: impl Fn(&'static str) -> String) -> Values {
    Example::VALUES.into_iter().fold(Values::default(), |values, (name, _)| values.with(name, of(name)))
}

#[test]
fn hostile_inputs_stay_data_or_are_refused() {
    let payloads = payloads();
    let harmless = values(|name| Example::VALUES.iter().find(|(one, _)| *one == name).unwrap().1.to_owned());
    let (mut taken, mut refused) = (0, 0);
    for preset in all() {
        let example = &preset.examples[0];
        let frame = preset.carried_out(&example.with).unwrap();
        let frames = actions(&frame);
        for (name, input) in preset.inputs.iter().filter(|(_, input)| !input.secret) {
            for payload in &payloads {
                let value = match input.kind {
                    InputKind::Array => json!([payload]),
                    _ => Value::from(payload.as_str()),
                };
                // Most are refused by the input alone; that is quick to ask.
                if input.check(&value).is_err() {
                    refused += 1;
                    continue;
                }
                let mut with: BTreeMap<String, Value> = example.with.clone();
                with.insert(name.clone(), value);
                let Ok(out) = preset.expand(&with) else {
                    refused += 1;
                    continue;
                };
                for (frame, action) in frames.iter().zip(actions(&out)) {
                    match fill_action(&action, &harmless) {
                        // An address or a program is the configuration's to choose.
                        Ok(_) if input.format.is_some() => taken += 1,
                        Ok(action) => {
                            inert(frame, &action, input.kind == InputKind::Array);
                            taken += 1;
                        }
                        Err(_) => refused += 1,
                    }
                }
            }
        }
    }
    assert!(taken > 10_000 && refused > 10_000, "{taken} taken, {refused} refused: this test lost its grip");
}

#[test]
fn hostile_events_stay_data_or_are_refused() {
    // Names are checked where they come in (`ids.rs`); this is the wall behind that one.
    let (mut taken, mut refused) = (0, 0);
    for preset in all() {
        let example = &preset.examples[0];
        let frames = actions(&preset.carried_out(&example.with).unwrap());
        let templates = actions(&preset.expand(&example.with).unwrap());
        for payload in payloads() {
            let hostile = values(|_| payload.clone());
            for (frame, template) in frames.iter().zip(&templates) {
                match fill_action(template, &hostile) {
                    Ok(action) => {
                        inert(frame, &action, false);
                        taken += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(taken > 10_000 && refused > 500, "{taken} taken, {refused} refused: this test lost its grip");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_stays_data_or_is_refused(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
        for name in ["vercel-rollback", "slack-message", "github-workflow-dispatch", "docker-compose-up", "launchdarkly-flag-off", "kubectl-set-image", "cloudflare-purge-prefixes"] {
            let preset = shipped_preset(name).unwrap();
            let example = &preset.examples[0];
            let frames = actions(&preset.carried_out(&example.with).unwrap());
            let hostile = values(|_| text.clone());
            for (frame, template) in frames.iter().zip(actions(&preset.expand(&example.with).unwrap())) {
                if let Ok(action) = fill_action(&template, &hostile) {
                    inert(frame, &action, false);
                }
            }
        }
    }
}
