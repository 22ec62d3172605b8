//! `turnback check` and `turnback config show`: the configuration, before anything runs with it.
//!
//! Neither touches the network, a secret or the state: what is shown of a secret is where it is.

use super::place::Surroundings;
use super::table::{self, Field};
use super::text::safe_lines;
use super::{Context, Exit, Options};
use crate::config::{CheckReport, Config, Flag, Inputs, Loaded};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Which configuration.
#[derive(Debug, clap::Args)]
pub struct Files {
    /// A file, or a directory of files; can be given several times, the later one wins
    #[arg(long, value_name = "PATH")]
    pub config: Vec<PathBuf>,
}

/// What is done with the configuration.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Every setting as it is in force, defaults filled in; with --output json as a configuration that can be used
    Show(ShowArgs),
}

/// How it is shown.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// Which files.
    #[command(flatten)]
    pub files: Files,
    /// Where each setting comes from: file and line, variable, flag or default
    #[arg(long)]
    pub origin: bool,
}

impl Files {
    /// The files with what stands above them: environment and flags.
    pub(super) fn inputs(self, options: &Options, surroundings: &Surroundings) -> Inputs {
        let state_dir = options.state_dir.as_ref().map(|path| Flag {
            name: "--state-dir".into(),
            key: "state_dir".into(),
            value: path.display().to_string(),
        });
        Inputs {
            paths: self.config,
            environment: surroundings.environment.clone(),
            flags: state_dir.into_iter().collect(),
            root: surroundings.root,
        }
    }
}

/// "Good" about no file at all must not be taken for a word about the file that somebody has in mind.
const DEFAULTS_ARE_GOOD: &str = "the built-in defaults are good (no file was given; use --config FILE)\n";
/// A daemon's configuration is not asked for, and is often another one.
const NOT_THE_DAEMONS: &str = "this is what the files given and the environment say; a daemon that runs may have been started with others";

/// `turnback check`: every problem at once.
pub(super) fn check(files: Files, context: &Context<'_>) -> anyhow::Result<Exit> {
    let none_given = files.config.is_empty();
    let report = crate::config::check(&files.inputs(context.options, context.surroundings));
    if context.console.is_json() {
        context.console.document(&document(&report)?)?;
    } else if none_given && report.is_good() {
        context.console.print(DEFAULTS_ARE_GOOD)?;
    } else {
        context.console.print(&(safe_lines(&report.to_string()) + "\n"))?;
    }
    Ok(if report.is_good() { Exit::Done } else { Exit::BadConfiguration })
}

fn document(report: &CheckReport) -> serde_json::Result<Value> {
    Ok(
        json!({ "good": report.is_good(), "problems": serde_json::to_value(&report.problems)?, "cut": report.cut }),
    )
}

pub(super) fn execute(command: Command, context: &Context<'_>) -> anyhow::Result<Exit> {
    let Command::Show(args) = command;
    if args.files.config.is_empty() {
        context.console.note(NOT_THE_DAEMONS);
    }
    let Loaded { config, origins } = Config::load(&args.files.inputs(context.options, context.surroundings))?;
    let values = serde_json::to_value(&config)?;
    if context.console.is_json() {
        let document = if args.origin { json!({ "config": values, "origins": origins }) } else { values };
        context.console.document(&document)?;
        return Ok(Exit::Done);
    }
    let mut settings = Vec::new();
    flatten(&values, &mut Vec::new(), &mut settings);
    let rows = settings.into_iter().map(|(key, value)| {
        let origin = origins.get(&key).cloned().unwrap_or_default();
        let fields = [key, value].into_iter().chain(args.origin.then_some(origin));
        fields.map(Field::plain).collect()
    });
    let headings = ["SETTING", "VALUE", "FROM"];
    let headings = headings.get(..if args.origin { 3 } else { 2 }).unwrap_or(&headings);
    context.console.print(&table::render(context.console, headings, rows.collect()))?;
    Ok(Exit::Done)
}

/// Every single value under its key path, written as the origins of a configuration are.
fn flatten(value: &Value, path: &mut Vec<String>, settings: &mut Vec<(String, String)>) {
    let mut below = |step: String, value: &Value| {
        let odd = |c: char| c == '.' || c.is_control();
        path.push(if step.contains(odd) { format!("{step:?}") } else { step });
        flatten(value, path, settings);
        path.pop();
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| below(key.clone(), value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(number, value)| below(number.to_string(), value));
        }
        single => settings.push((path.join("."), single.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::testing::turnback;

    const NOWHERE: &str = "http://127.0.0.1:9";
    const GOOD: &str = "version: 1\nservices:\n  shop.cart: { environments: [staging] }\n";

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("turnback.yaml");
        std::fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (dir, path)
    }

    #[tokio::test]
    async fn a_good_configuration_is_0_and_a_bad_one_is_78() {
        let (_dir, path) = file(GOOD);
        let (code, out, err) = turnback(NOWHERE, &["check", "--config", &path]).await;
        assert_eq!((code, out.as_str(), err.as_str()), (0, "the configuration is good\n", ""));
        let (_dir, path) = file("version: 1\nservces: {}\nlog: debug\n");
        let (code, out, _) = turnback(NOWHERE, &["check", "--config", &path]).await;
        assert_eq!(code, 78);
        assert!(out.contains("did you mean `services`?") && out.ends_with("2 problems\n"), "{out}");
        let (code, out, _) = turnback(NOWHERE, &["check", "--config", &path, "--output", "json"]).await;
        let document: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (code, &document["good"], &document["problems"][0]["line"]),
            (78, &json!(false), &json!(2))
        );
        let (code, out, err) = turnback(NOWHERE, &["config", "show", "--config", &path]).await;
        assert_eq!((code, out.as_str()), (78, ""));
        assert!(err.starts_with("error: the configuration cannot be used\nerror: unknown key"), "{err}");
        assert!(err.contains("\n2 | servces"), "the excerpt stays in lines: {err}");
    }

    #[tokio::test]
    async fn what_is_shown_is_what_is_in_force_and_where_it_comes_from() {
        let (_dir, path) = file(GOOD);
        let words = ["config", "show", "--origin", "--config", &path, "--state-dir", "/s"];
        let (code, out, err) = turnback(NOWHERE, &words).await;
        assert_eq!((code, err.as_str()), (0, ""));
        let line = |key: &str| out.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        assert!(line("services.\"shop.cart\".environments.0").contains("turnback.yaml:3"), "{out}");
        assert!(line("state_dir").contains("\"/s\"") && line("state_dir").contains("--state-dir"), "{out}");
        assert!(line("api.listen").ends_with("default"), "{out}");
        assert!(!out.lines().any(|line| line.ends_with('–')), "every setting has an origin: {out}");
    }

    #[tokio::test]
    async fn without_a_file_it_is_said_that_none_was_given() {
        let (code, out, err) = turnback(NOWHERE, &["check"]).await;
        assert_eq!((code, out.as_str(), err.as_str()), (0, DEFAULTS_ARE_GOOD, ""));
        let (code, out, err) = turnback(NOWHERE, &["config", "show"]).await;
        assert_eq!((code, err), (0, format!("{NOT_THE_DAEMONS}\n")));
        assert!(out.starts_with("SETTING"), "{out}");
    }

    #[tokio::test]
    async fn what_is_shown_as_json_can_be_used() {
        let (dir, path) = file(GOOD);
        let (_, out, _) = turnback(NOWHERE, &["config", "show", "--config", &path, "--output", "json"]).await;
        let again = dir.path().join("again.json");
        std::fs::write(&again, &out).unwrap();
        let again = again.to_str().unwrap();
        let (code, second, err) =
            turnback(NOWHERE, &["config", "show", "--config", again, "--output", "json"]).await;
        assert_eq!((code, second), (0, out), "{err}");
    }
}
