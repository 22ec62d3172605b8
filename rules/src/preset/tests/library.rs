//! Every shipped preset: sound, consistent, and sending what its examples say.

use super::*;
use crate::action::{EffectClass, SecretRef, Undo};
use std::collections::BTreeSet;

fn secret(place: &SecretRef) -> String {
    match place {
        SecretRef::Env(name) => format!("secret-of-{name}"),
        SecretRef::File(path) => format!("secret-of-{path}"),
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a test that the directory and the list in the code are the same"
)]
fn every_file_is_embedded_and_every_text_is_read() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/library/actions");
    let files: BTreeSet<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().trim_end_matches(".yaml").to_owned())
        .collect();
    let names: Vec<&str> = preset_names().collect();
    assert!(names.is_sorted() && names.len() >= 40, "{names:?}");
    assert_eq!(files.iter().map(String::as_str).collect::<Vec<_>>(), names);
    for (name, text) in PRESETS {
        let preset: Preset = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(preset.name, name);
    }
}

#[test]
fn every_preset_is_sound() {
    let faults: Vec<String> = all()
        .iter()
        .flat_map(|preset| {
            preset.problems().into_iter().map(|(key, words)| format!("{}: {key}: {words}", preset.name))
        })
        .collect();
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn every_class_keeps_its_promise() {
    for preset in all() {
        let name = &preset.name;
        assert!(preset.link.starts_with("https://") && !preset.summary.is_empty(), "{name}");
        let looks = preset.inspect.is_some() || preset.apply.looks_itself();
        match preset.class {
            EffectClass::Lookup | EffectClass::CompareAndSet => assert!(looks, "{name} looks at nothing"),
            EffectClass::Keyed => {
                assert!(preset.repeat.is_some(), "{name} does not say why it may be repeated")
            }
            EffectClass::OneShot => {
                assert!(preset.repeat.is_none(), "{name} is not repeated, and says why it may be")
            }
        }
        // What destroys data is never repeated and never undone by itself.
        if preset.danger == Danger::Destructive {
            assert_eq!((preset.class, &preset.undo), (EffectClass::OneShot, &Undo::Impossible), "{name}");
        }
        if preset.danger == Danger::None {
            assert_eq!(
                preset.undo,
                Undo::NotNeeded,
                "{name} only asks or tells, and there is nothing to undo"
            );
        }
    }
}

#[test]
fn every_example_sends_what_it_says() {
    for preset in all() {
        assert!(!preset.examples.is_empty(), "{} has no example", preset.name);
        for example in &preset.examples {
            let name = &preset.name;
            let out = preset.carried_out(&example.with).unwrap_or_else(|words| panic!("{name}: {words}"));
            let undo = match &out.undo {
                Undo::Action(action) => Some(Sent::of(action, secret)),
                Undo::NotNeeded | Undo::Impossible => None,
            };
            assert_eq!(Sent::of(&out.action, secret), example.sends, "{name}");
            assert_eq!(
                out.inspect.map(|one| Sent::of(&one.action, secret)),
                example.looks,
                "{name}: inspect"
            );
            assert_eq!(
                out.verify.map(|one| Sent::of(&one.action, secret)),
                example.verifies,
                "{name}: verify"
            );
            assert_eq!(undo, example.undoes, "{name}: undo");
        }
    }
}
