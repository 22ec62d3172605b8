//! A preset on the screen: what it is, what it takes, and what it sends.

use super::super::exit::Failure;
use super::super::plan::write_action;
use super::super::table::{self, Field};
use super::super::text::{safe, safe_lines};
use super::super::{Context, Exit};
use crate::cli::console::{Console, Tone};
use rules::action::{ActionSpec, CommandSpec, Undo};
use rules::preset::{Example, Expanded, Input, InputKind, Preset};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) use super::super::plan::words_of;

/// `turnback preset show`.
pub(super) fn show(preset: &Preset, context: &Context<'_>) -> anyhow::Result<Exit> {
    if context.console.is_json() {
        context.console.document(&serde_json::to_value(preset)?)?;
    } else {
        context.console.print(&render(context.console, preset)?)?;
    }
    Ok(Exit::Done)
}

/// `turnback preset test --dry-run`: what a step with these inputs would send.
pub(super) fn dry_run(
    preset: &Preset,
    given: &BTreeMap<String, Value>,
    context: &Context<'_>,
) -> anyhow::Result<Exit> {
    let out = preset.expand(given).map_err(|problems| {
        let lines: Vec<String> = problems.into_iter().map(|(key, words)| format!("{key}: {words}")).collect();
        Failure::usage(format!("the preset {} cannot be used: {}", preset.name, lines.join("; ")))
    })?;
    if context.console.is_json() {
        let undo = match &out.undo {
            Undo::Action(action) => json!({ "action": action }),
            Undo::NotNeeded | Undo::Impossible => serde_json::to_value(&out.undo)?,
        };
        context.console.document(&json!({
            "action": out.action, "class": out.class, "inspect": out.inspect, "verify": out.verify, "undo": undo,
            "timeout": out.timeout, "reversibility": out.reversibility,
        }))?;
    } else {
        let mut text = String::new();
        write_step(&mut text, &out);
        context.console.print(&text)?;
    }
    Ok(Exit::Done)
}

fn render(console: &Console, preset: &Preset) -> anyhow::Result<String> {
    let title = format!("{} ({}): {}", preset.name, preset.vendor, preset.summary);
    let mut text = format!("{}\n", console.paint(&safe(&title), Tone::Strong));
    let mut say = |lead: &str, words: &str| text.push_str(&format!("  {lead:<10}{}\n", safe(words)));
    say("read", &preset.link);
    say("danger", preset.danger.as_str());
    say("class", &words_of(&preset.class));
    say("takes", &format!("at most {}", preset.timeout));
    if let Some(repeat) = &preset.repeat {
        say("again", repeat);
    }
    if let Some(notes) = &preset.notes {
        say("know", notes);
    }
    text.push('\n');
    let rows = preset.inputs.iter().map(|(name, input)| row(name, input)).collect();
    text.push_str(&table::render(console, &["INPUT", "TYPE", "DEFAULT", "WHAT IT IS"], rows));
    for example in &preset.examples {
        text.push_str(&format!("\nFor example\n{}", with(preset, example)));
        let out = preset.carried_out(&example.with).map_err(Failure::usage)?;
        write_step(&mut text, &out);
    }
    Ok(text)
}

/// The lines of a runbook that name the example.
fn with(preset: &Preset, example: &Example) -> String {
    let mut text = format!("  preset:\n    name: {}\n", preset.name);
    if !example.with.is_empty() {
        text.push_str("    with:\n");
    }
    for (name, value) in &example.with {
        text.push_str(&format!("      {}: {}\n", safe(name), safe(&value.to_string())));
    }
    text
}

fn row(name: &str, input: &Input) -> Vec<Field> {
    let kind = match (input.kind, input.secret) {
        (_, true) => "a secret",
        (InputKind::String, false) => "text",
        (InputKind::Integer, false) => "number",
        (InputKind::Boolean, false) => "true or false",
        (InputKind::Array, false) => "list",
    };
    let default = match &input.default {
        None => "(required)".into(),
        Some(Value::String(text)) if text.is_empty() => "(empty)".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(place)) => {
            let places =
                place.iter().map(|(kind, place)| format!("{{{kind}: {}}}", place.as_str().unwrap_or("?")));
            places.collect()
        }
        Some(other) => other.to_string(),
    };
    [name.into(), kind.into(), default, input.description.clone()].map(Field::plain).into()
}

fn write_step(text: &mut String, out: &Expanded) {
    write(text, "sends", &out.action);
    if let Some(inspect) = &out.inspect {
        write(text, "looks by", &inspect.action);
    }
    if let Some(verify) = &out.verify {
        write(text, "verifies", &verify.action);
    }
    match &out.undo {
        Undo::Action(action) => write(text, "undone by", action),
        other => text.push_str(&format!("  {:<10}{}\n", "undo", words_of(other))),
    }
}

/// An action; a script among its arguments stands below it, as lines.
fn write(text: &mut String, lead: &str, action: &ActionSpec) {
    let mut scripts = Vec::new();
    let short = match action {
        ActionSpec::Command(command) => {
            let argv = command.argv.iter().map(|argument| {
                if argument.trim_end().contains('\n') {
                    scripts.push(argument.clone());
                    return "(the script below)".to_owned();
                }
                argument.clone()
            });
            ActionSpec::Command(CommandSpec { argv: argv.collect(), ..command.clone() })
        }
        other => other.clone(),
    };
    write_action(text, "  ", lead, &short);
    for script in scripts {
        for line in safe_lines(&script).lines() {
            text.push_str(&format!("              | {line}\n"));
        }
    }
}
