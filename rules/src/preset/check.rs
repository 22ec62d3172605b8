//! What can be wrong with a preset itself. The library's own are held against this by a test.

use super::expand::{Piece, is_json, pieces, whole_input};
use super::{Format, Input, InputKind, Preset, input};
use crate::action::{ActionSpec, EffectClass, HttpSpec, SecretRef};
use crate::runbook::{PLACEHOLDERS, action_problems};
use std::collections::{BTreeMap, BTreeSet};

/// Everything wrong, each with the key at fault.
pub(super) fn problems(preset: &Preset) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut tell = |key: &str, words: String| found.push((key.to_owned(), words));
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if preset.name.is_empty() || !preset.name.chars().all(good) {
        tell("name", "must be of small letters, digits and `-`".into());
    }
    for (key, text) in [("summary", &preset.summary), ("vendor", &preset.vendor)] {
        if text.trim().is_empty() || text.lines().count() > 1 {
            tell(key, "must be one line".into());
        }
    }
    if !preset.link.starts_with("https://") {
        tell("link", "must be the address of the vendor's documentation, https://…".into());
    }
    let looks = matches!(preset.class, EffectClass::Lookup | EffectClass::CompareAndSet);
    if looks && preset.inspect.is_none() && !preset.apply.looks_itself() {
        tell("inspect", "is missing, and the class is looked up before it is repeated".into());
    }
    if preset.class == EffectClass::Keyed && preset.repeat.as_deref().unwrap_or_default().trim().is_empty() {
        tell("repeat", "is missing: say why going again is harmless, or use the class one_shot".into());
    }
    let mut used = BTreeSet::new();
    for (key, action) in preset.actions() {
        texts_problems(preset, key, action, &mut used, &mut found);
        shape_problems(preset, key, action, &mut found);
    }
    inputs_problems(&preset.inputs, "inputs", &used, &mut found);
    found
}

/// What is wrong with declared inputs; `start` is the key under which they stand.
pub(crate) fn inputs_problems(
    inputs: &BTreeMap<String, Input>,
    start: &str,
    used: &BTreeSet<String>,
    found: &mut Vec<(String, String)>,
) {
    for (name, input) in inputs {
        let key = format!("{start}.{name}");
        let mut tell = |words: &str| found.push((key.clone(), words.to_owned()));
        if input.description.trim().is_empty() {
            tell("has no description");
        }
        if !used.contains(name) {
            tell("is used nowhere");
        }
        if input.pattern.as_deref().is_some_and(|pattern| input::whole(pattern).is_err()) {
            tell("has a pattern that is no regular expression");
        }
        let texts = matches!(input.kind, InputKind::String | InputKind::Array);
        if (input.pattern.is_some() && !texts) || (input.format.is_some() && input.kind != InputKind::String)
        {
            tell("has a pattern or a format, and its type is not a text");
        }
        if input.secret
            && (input.kind != InputKind::String || input.pattern.is_some() || input.format.is_some())
        {
            tell("is secret: a plain `type: string`, of which nothing is known");
        }
        for value in input.default.iter().chain(&input.choices) {
            if let Err(problem) = input.check(value) {
                tell(&format!("has a default or a choice that it would refuse: {problem}"));
            }
        }
    }
}

/// Why the other families are refused: what they do, a runbook says by itself.
pub(super) const NOT_OF_A_PRESET: &str = "a preset is a `command` or an `http` action";

/// Texts of an action where inputs stand as text, each with its place.
fn texts(action: &ActionSpec) -> Vec<(&'static str, &str)> {
    match action {
        ActionSpec::Command(command) => {
            let argv = command.argv.iter().map(|text| ("argv", text.as_str()));
            let env = command.env.values().map(|text| ("env", text.as_str()));
            argv.chain(env).chain(command.directory.iter().map(|text| ("directory", text.as_str()))).collect()
        }
        ActionSpec::Http(http) => {
            let mut texts = vec![("url", http.url.as_str())];
            texts.extend(http.headers.values().map(|text| ("headers", text.as_str())));
            texts.extend(http.body.iter().map(|text| ("body", text.as_str())));
            for (pointer, value) in &http.success.json {
                texts.push(("success.json", pointer));
                texts.extend(value.as_str().map(|text| ("success.json", text)));
            }
            texts
        }
        ActionSpec::Git(_) | ActionSpec::Sql(_) | ActionSpec::Redis(_) | ActionSpec::Kubernetes(_) => {
            Vec::new()
        }
    }
}

fn texts_problems(
    preset: &Preset,
    key: &str,
    action: &ActionSpec,
    used: &mut BTreeSet<String>,
    found: &mut Vec<(String, String)>,
) {
    for (place, text) in texts(action) {
        let mut tell = |words: String| found.push((format!("{key}.{place}"), words));
        for piece in pieces(text) {
            match piece {
                Piece::Plain(plain) if plain.contains("{{") => {
                    tell("opens a placeholder and does not close it".into())
                }
                Piece::Placeholder(name) if !PLACEHOLDERS.contains(&name) => {
                    tell(format!("{{{{{name}}}}} is neither a placeholder nor an input"));
                }
                Piece::Input(name) => match preset.inputs.get(name) {
                    None => tell(format!("there is no input `{name}`")),
                    Some(input) if input.secret => tell(format!("the secret `{name}` stands in a text")),
                    Some(input) if place == "directory" && input.format != Some(Format::Path) => {
                        tell(format!("`{name}` names a directory, and is not of `format: path`"));
                    }
                    Some(_) => drop(used.insert(name.to_owned())),
                },
                Piece::Plain(_) | Piece::Placeholder(_) => {}
            }
        }
    }
    let secrets = match action {
        ActionSpec::Command(command) => Some(&command.secret_env),
        ActionSpec::Http(http) => Some(&http.secret_headers),
        ActionSpec::Git(_) | ActionSpec::Sql(_) | ActionSpec::Redis(_) | ActionSpec::Kubernetes(_) => None,
    };
    for (name, reference) in secrets.into_iter().flatten() {
        let input = match reference {
            SecretRef::Env(template) => whole_input(template),
            SecretRef::File(_) => None,
        };
        match input.filter(|input| preset.inputs.get(*input).is_some_and(|input| input.secret)) {
            Some(input) => drop(used.insert(input.to_owned())),
            None => found.push((
                format!("{key}.{name}"),
                "must be {env: \"{{input.NAME}}\"} of a secret input".into(),
            )),
        }
    }
}

/// What the runbook's own checks say, with inputs in the places of the program and the host taken for good ones.
fn shape_problems(preset: &Preset, key: &str, action: &ActionSpec, found: &mut Vec<(String, String)>) {
    let format = |name: &str| preset.inputs.get(name).and_then(|input| input.format);
    let mut action = action.clone();
    match &mut action {
        ActionSpec::Command(command) => {
            if let Some(program) = command.argv.first_mut()
                && whole_input(program).and_then(format) == Some(Format::Path)
            {
                *program = "/bin/program".into();
            }
            let plain = |text: &String| text.replace("{{input.", "{{").len() == text.len();
            command.argv.retain(plain);
            command.env.retain(|_, text| plain(text));
        }
        ActionSpec::Http(http) => {
            if let [Piece::Plain(""), Piece::Input(name), ..] = pieces(&http.url).as_slice()
                && format(name) == Some(Format::Uri)
            {
                http.url = "https://host/".into();
            }
            if http
                .url
                .split(['?', '#'])
                .next()
                .unwrap_or_default()
                .split('/')
                .nth(2)
                .is_some_and(|host| host.contains("{{"))
            {
                found.push((
                    format!("{key}.http.url"),
                    "the host comes from the preset or from an input of `format: uri`".into(),
                ));
            }
            http.url = "https://host/".into();
            http.headers.retain(|_, text| !text.contains("{{input."));
            if let Some(problem) = http.body.as_deref().and_then(|_| body_problem(preset, http)) {
                found.push((format!("{key}.http.body"), problem));
            }
            http.body = None;
            http.success.json.clear();
        }
        ActionSpec::Git(_) | ActionSpec::Sql(_) | ActionSpec::Redis(_) | ActionSpec::Kubernetes(_) => {
            found.push((key.to_owned(), NOT_OF_A_PRESET.into()));
        }
    }
    action_problems(&action, key, found);
}

/// A JSON body must be JSON whatever the inputs are: texts inside of strings, lists and numbers outside.
fn body_problem(preset: &Preset, http: &HttpSpec) -> Option<String> {
    let body = http.body.as_deref().filter(|body| is_json(body))?;
    let mut sample = String::new();
    for piece in pieces(body) {
        match piece {
            Piece::Plain(plain) => sample.push_str(plain),
            Piece::Placeholder(_) => sample.push_str("inside"),
            Piece::Input(name) => sample.push_str(match preset.inputs.get(name).map(|input| input.kind) {
                Some(InputKind::Array) => "[]",
                Some(InputKind::Integer) => "1",
                Some(InputKind::Boolean) => "true",
                Some(InputKind::String) | None => "inside",
            }),
        }
    }
    match serde_json::from_str::<serde_json::Value>(&sample) {
        Ok(_) => None,
        Err(error) => Some(format!("is not JSON when it is filled in: {error}")),
    }
}
