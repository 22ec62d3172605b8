//! A step that names a preset, as people write it.

use super::*;
use crate::action::{ActionSpec, EffectClass, Reversibility, SecretRef};

const ROLLBACK: &str =
    "name: back\npreset: { name: vercel-rollback, with: { project: web, deployment: '{{to.version}}' } }\n";

#[test]
fn a_step_takes_over_the_parts_of_its_preset() {
    let read = step(ROLLBACK).unwrap();
    assert_eq!((read.class, read.reversibility), (EffectClass::Lookup, Reversibility::Reversible));
    assert!(read.inspect.is_some() && read.verify.is_some());
    let ActionSpec::Http(http) = &read.action else { panic!("a request") };
    assert_eq!(http.url, "https://api.vercel.com/v1/projects/web/rollback/{{to.version}}");
    assert_eq!(http.secret_headers["authorization"], SecretRef::Env("VERCEL_TOKEN".into()));
    // What is written out is a step like any other, and is read again as the same.
    let again: RunbookStep = serde_json::from_value(serde_json::to_value(&read).unwrap()).unwrap();
    assert_eq!(again, read);
}

#[test]
fn what_the_step_says_itself_wins_and_danger_only_grows() {
    let own =
        format!("{ROLLBACK}class: one_shot\nundo: impossible\ntimeout: 90s\nreversibility: irreversible\n");
    let read = step(&own).unwrap();
    assert_eq!((read.class, read.reversibility), (EffectClass::OneShot, Reversibility::Irreversible));
    assert_eq!(read.timeout.to_string(), "1m30s");
    let restore = "name: back\npreset: { name: supabase-restore-point-in-time, with: { ref: abcdefghijklmnopqrst, time: 1 } }\n";
    assert_eq!(step(restore).unwrap().reversibility, Reversibility::Destructive);
    let error = step(&format!("{restore}reversibility: reversible\n")).unwrap_err();
    assert!(error.contains("takes the danger of the preset lightly"), "{error}");
}

#[test]
fn what_is_wrong_is_told_with_preset_input_and_what_was_expected() {
    let cases = [
        (
            "preset: { name: vercel-rolback }",
            "there is no preset `vercel-rolback`; did you mean `vercel-rollback`?",
        ),
        ("preset: { name: frobnicate }", "there is no preset `frobnicate`; see `turnback preset list`"),
        (
            "preset: { name: vercel-rollback, with: { project: web } }",
            "vercel-rollback cannot be used: input `deployment`: is missing; expected a text",
        ),
        (
            "preset: { name: vercel-rollback, with: { project: 'a b', deployment: d } }",
            "input `project`: found \"a b\"; expected a text like [A-Za-z0-9._-]+",
        ),
        (
            "preset: { name: vercel-rollback, with: { projekt: web, project: web, deployment: d } }",
            "input `projekt`: is not known; there are api, deployment, project, team, token",
        ),
        (
            "preset: { name: vercel-rollback, with: { project: web, deployment: d, token: abc123 } }",
            "input `token`: a secret must not stand in the configuration; expected {env: NAME} or {file: /path}",
        ),
        (
            "preset: { name: vercel-rollback, with: { project: web, deployment: 1.5 } }",
            "found the number 1.5, which is a text only in quotes",
        ),
        (
            "preset: { name: vercel-rollback, with: { project: web, deployment: '{{versoin}}' } }",
            "{{versoin}} is no placeholder",
        ),
        (
            "preset: { name: vercel-rollback, with: { project: web, deployment: '..' } }",
            "as a segment of the path leads elsewhere",
        ),
        (
            "preset: { name: http-check, with: { address: 'https://{{service}}/x' } }",
            "nothing that an event says may choose this",
        ),
        (
            "preset: { name: http-check, with: { address: 'https://user:pw@host/' } }",
            "without placeholders, credentials, `?` and `#`",
        ),
        (
            "preset: { name: http-check, with: { address: 'file:///etc/passwd' } }",
            "expected an address such as https://host",
        ),
        (
            "preset: { name: helm-rollback, with: { release: a, revision: -1, revision_now: 2 } }",
            "input `revision`: found -1; expected a whole number",
        ),
        (
            "preset: { name: helm-rollback, with: { release: -a, revision: 1, revision_now: 2 } }",
            "begins with `-` where a value is meant",
        ),
        (
            "preset: { name: pg-dump, with: { database: shop, program: pg_dump } }",
            "input `program`: found \"pg_dump\"; expected an absolute path",
        ),
        (
            "preset: { name: pg-dump, with: { database: shop, directory: /a/../etc } }",
            "expected an absolute path without placeholders and `..`",
        ),
        (
            "preset: { name: statuspage-update, with: { page: a, incident: b, body: c, status: done } }",
            "expected one of investigating, identified, monitoring, resolved",
        ),
        (
            "preset: { name: cloudflare-purge-files, with: { zone: 0123456789abcdef0123456789abcdef, files: [1] } }",
            "found a list that holds something else than texts",
        ),
        (
            "preset: { name: slack-message, with: { channel: a, text: \"a\\eb\" } }",
            "it holds a control character",
        ),
        (
            "preset: { name: http-check, with: { address: 'https://a/' } }\naction: { command: { argv: [/bin/a] } }",
            "keep one of them",
        ),
        ("preset: { nam: http-check }", "nam"),
        ("class: one_shot", "action"),
    ];
    for (text, words) in cases {
        let error = step(&format!("name: back\n{text}\n")).unwrap_err();
        assert!(error.contains(words), "{text}\n{error}\nlacks {words}");
    }
}

#[test]
fn an_input_makes_no_placeholder_that_is_not_its_own() {
    let preset = shipped_preset("kubectl-set-image").unwrap();
    let with = |image: &str| {
        serde_json::from_value(
            json!({ "workload": "deployment/api", "container": "api", "image": image, "image_now": "b" }),
        )
        .unwrap()
    };
    for bad in ["{{{{plan}}}}", "{{plan}", "{{input.kubeconfig}}", "a{{nope}}"] {
        assert!(preset.expand(&with(bad)).is_err(), "{bad}");
    }
    // A single brace before a placeholder would read as three.
    assert!(preset.expand(&with("{{{plan}}")).is_err());
    assert!(preset.expand(&with("a{b}c{{plan}}")).is_ok());
}

#[test]
fn an_empty_input_leaves_its_part_of_the_query_out_and_a_list_becomes_arguments() {
    let files = json!({ "project": "/srv/shop", "services": ["api", "worker"] });
    let out = shipped_preset("docker-compose-up")
        .unwrap()
        .carried_out(&serde_json::from_value(files).unwrap())
        .unwrap();
    let ActionSpec::Command(command) = out.action else { panic!("a command") };
    assert_eq!(command.argv[command.argv.len() - 3..], ["--", "api", "worker"]);
    assert_eq!(command.env["IMAGE_TAG"], "v1.3.9");
    let read = step(&ROLLBACK.replace("project: web", "project: web, team: t 1")).unwrap();
    let ActionSpec::Http(http) = &read.action else { panic!("a request") };
    assert!(http.url.ends_with("/rollback/{{to.version}}?teamId=t%201"), "{}", http.url);
}

#[test]
fn faults_of_a_preset_itself_are_found() {
    let good = |name: &str| shipped_preset(name).unwrap();
    let keys = |preset: &Preset| preset.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let mut preset = good("vercel-rollback");
    preset.inspect = None;
    preset.link = "http://a".into();
    preset.inputs.remove("team");
    assert_eq!(keys(&preset), ["link", "inspect", "apply.url", "verify.url", "undo.url"]);
    let mut preset = good("slack-message");
    preset.repeat = None;
    let ActionSpec::Http(http) = &mut preset.apply else { panic!("a request") };
    http.url = "https://{{input.channel}}/".into();
    http.body = Some("{\"a\": {{input.text}}}".into());
    http.headers.insert("x".into(), "{{input.token}}".into());
    http.secret_headers.insert("y".into(), SecretRef::Env("HOME".into()));
    let found = keys(&preset);
    for key in ["repeat", "apply.headers", "apply.y", "apply.http.url", "apply.http.body"] {
        assert!(found.iter().any(|one| one == key), "{key} is missing in {found:?}");
    }
    let mut preset = good("helm-rollback");
    preset.inputs.get_mut("revision").unwrap().default = Some(json!("one"));
    preset.inputs.get_mut("release").unwrap().pattern = Some("(".into());
    assert_eq!(keys(&preset), ["inputs.release", "inputs.revision"]);
}
