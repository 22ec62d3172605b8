//! The whole library, sent for real to the recorder; and proof that the recorder can say no.

use super::*;
use rules::preset::{Example, Preset, preset_names, shipped_preset};
use serde_json::json;

fn preset(name: &str) -> (Preset, Example) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let preset = shipped_preset(name).unwrap();
    let example = preset.examples[0].clone();
    (preset, example)
}

#[tokio::test]
async fn every_example_of_the_library_sends_what_it_says_and_ends_as_it_must() {
    let mut played = 0;
    for name in preset_names() {
        let (preset, _) = preset(name);
        for example in &preset.examples {
            match check(&preset, example).await {
                Ok(cases) => {
                    assert!(cases.len() >= 4, "{name}: {cases:?}");
                    played += cases.len();
                }
                Err(fault) => panic!("{name}: {}", crate::actions::chain(&fault)),
            }
        }
    }
    assert!(played > 400, "{played} cases were played");
}

#[tokio::test]
async fn a_request_that_is_not_the_examples_is_found() {
    let (preset, example) = preset("vercel-rollback");
    let changes: [fn(&mut Sent); 4] = [
        |sent| {
            if let Sent::Request { method, .. } = sent {
                *method = "PUT".into()
            }
        },
        |sent| {
            if let Sent::Request { url, .. } = sent {
                url.push_str("&x=1")
            }
        },
        |sent| {
            if let Sent::Request { headers, .. } = sent {
                drop(headers.insert("x-more".into(), "1".into()))
            }
        },
        |sent| {
            if let Sent::Request { body, .. } = sent {
                *body = Some(json!({ "a": 1 }))
            }
        },
    ];
    for change in changes {
        let mut wrong = example.clone();
        change(&mut wrong.sends);
        let words = check(&preset, &wrong).await.unwrap_err().to_string();
        assert!(words.starts_with("in the case `done` `apply` should send"), "{words}");
    }
}

#[tokio::test]
async fn a_program_that_is_called_otherwise_is_found() {
    let (preset, example) = preset("docker-compose-up");
    let changes: [fn(&mut Sent); 3] = [
        |sent| {
            if let Sent::Command { argv, .. } = sent {
                argv.push("extra".into())
            }
        },
        |sent| {
            if let Sent::Command { env, .. } = sent {
                drop(env.remove("IMAGE_TAG"))
            }
        },
        |sent| {
            if let Sent::Command { directory, .. } = sent {
                *directory = Some("/elsewhere".into())
            }
        },
    ];
    for change in changes {
        let mut wrong = example.clone();
        change(&mut wrong.sends);
        let words = check(&preset, &wrong).await.unwrap_err().to_string();
        assert!(words.starts_with("in the case `done` `apply` should send"), "{words}");
    }
}

#[tokio::test]
async fn the_recorder_leaves_nothing_behind() {
    let path = {
        let recorder = Recorder::start().await.unwrap();
        assert!(recorder.directory.0.is_dir());
        recorder.directory.0.clone()
    };
    assert!(!path.exists());
}
