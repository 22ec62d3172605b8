//! `turnback preset`: what vendors' operations a runbook can name, what exactly each sends, and whether it still does.
//!
//! Nothing here reaches a vendor or a daemon. `test` carries the examples out on this machine, against a recorder in the
//! place of the vendor; `test --dry-run` only prints what a step with these inputs would send.

mod given;
mod show;

use super::console::Tone;
use super::exit::Failure;
use super::table::{self, Field};
use super::{Context, Exit};
use crate::recorder;
use rules::preset::{Danger, Preset, closest_preset, preset_names, shipped_preset};
use serde_json::json;

/// What is asked about presets.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// All presets: whose operation, what may be done when its outcome is unknown, what is lost if it was a mistake
    List,
    /// One preset: its inputs, and to the letter what its example sends
    Show(ShowArgs),
    /// Carry the examples of a preset out against a recorder on this machine, or print what given inputs would send
    Test(TestArgs),
}

/// Which preset.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The preset, as `turnback preset list` names it
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Which preset, and what is done with it.
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// The preset; without it, all of them
    #[arg(value_name = "NAME", required_if_eq("dry_run", "true"))]
    pub name: Option<String>,
    /// Only print what a step with these inputs would send
    #[arg(long)]
    pub dry_run: bool,
    /// An input; for a list given several times, for a secret env:NAME or file:/path
    #[arg(long = "with", value_name = "INPUT=VALUE", requires = "dry_run", value_parser = given::pair)]
    pub with: Vec<(String, String)>,
}

pub(super) async fn execute(command: Command, context: &Context<'_>) -> anyhow::Result<Exit> {
    match command {
        Command::List => list(context),
        Command::Show(args) => show::show(&find(&args.name)?, context),
        Command::Test(TestArgs { name: Some(name), dry_run: true, with }) => {
            let preset = find(&name)?;
            let given = given::typed(&preset, &with)?;
            show::dry_run(&preset, &given, context)
        }
        Command::Test(TestArgs { name, .. }) => test(name.as_deref(), context).await,
    }
}

fn find(name: &str) -> Result<Preset, Failure> {
    shipped_preset(name).ok_or_else(|| {
        let advice = match closest_preset(name) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "see `turnback preset list`".into(),
        };
        Failure::usage(format!("there is no preset {name:?}; {advice}"))
    })
}

fn all() -> Result<Vec<Preset>, Failure> {
    preset_names().map(find).collect()
}

fn tone(danger: Danger) -> Tone {
    match danger {
        Danger::None => Tone::Quiet,
        Danger::Low => Tone::Plain,
        Danger::High => Tone::Warning,
        Danger::Destructive => Tone::Bad,
    }
}

fn list(context: &Context<'_>) -> anyhow::Result<Exit> {
    let presets = all()?;
    if context.console.is_json() {
        let one = |preset: &Preset| {
            json!({
                "name": preset.name, "vendor": preset.vendor, "class": preset.class, "danger": preset.danger,
                "summary": preset.summary, "link": preset.link,
            })
        };
        context.console.document(&presets.iter().map(one).collect())?;
        return Ok(Exit::Done);
    }
    let rows = presets.iter().map(|preset| {
        vec![
            Field::plain(&preset.name),
            Field::plain(&preset.vendor),
            Field::plain(show::words_of(&preset.class)),
            Field::new(preset.danger.as_str(), tone(preset.danger)),
            Field::plain(&preset.summary),
        ]
    });
    let headings = ["NAME", "VENDOR", "CLASS", "DANGER", "SUMMARY"];
    context.console.print(&table::render(context.console, &headings, rows.collect()))?;
    Ok(Exit::Done)
}

async fn test(name: Option<&str>, context: &Context<'_>) -> anyhow::Result<Exit> {
    let presets = match name {
        Some(name) => vec![find(name)?],
        None => all()?,
    };
    let (mut documents, mut rows, mut good) = (Vec::new(), Vec::new(), true);
    for preset in &presets {
        for (number, example) in preset.examples.iter().enumerate() {
            let number = number + 1;
            let (result, tone, words, cases) = match recorder::check(preset, example).await {
                Ok(cases) => {
                    let cases: Vec<&str> = cases.into_iter().map(recorder::Case::as_str).collect();
                    ("ok", Tone::Good, cases.join(", "), cases)
                }
                Err(fault) => {
                    good = false;
                    ("failed", Tone::Bad, crate::actions::chain(&fault), Vec::new())
                }
            };
            documents.push(json!({
                "preset": preset.name, "example": number, "result": result, "cases": cases,
                "problem": (result == "failed").then_some(&words),
            }));
            rows.push(vec![
                Field::plain(&preset.name),
                Field::plain(number.to_string()),
                Field::new(result, tone),
                Field::plain(words),
            ]);
        }
    }
    if context.console.is_json() {
        context.console.document(&documents.into())?;
    } else {
        let headings = ["PRESET", "EXAMPLE", "RESULT", "CASES"];
        context.console.print(&table::render(context.console, &headings, rows))?;
    }
    Ok(if good { Exit::Done } else { Exit::Degraded })
}

#[cfg(test)]
mod tests;
