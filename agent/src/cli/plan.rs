//! `turnback plan`: what would be done, step by step, to the letter.
//!
//! The plan is read into the type that the daemon made it from, and its digest is computed here again: what is shown is
//! what the digest stands for, and so what an approval of it carries out.

use super::client::{Client, ClientError};
use super::console::{Console, Tone};
use super::exit::Failure;
use super::explain::name;
use super::model::Watch;
use super::text::{moment, safe};
use super::{Context, Exit};
use jiff::Timestamp;
use rules::action::git::GitSpec;
use rules::action::sql::{DownMigration, SqlOperation, SqlSpec};
use rules::action::{ActionSpec, CommandSpec, HttpSpec, SecretRef, Undo};
use rules::ids::{EnvironmentName, PlanDigest, Version};
use rules::plan::{RollbackPlan, Step};
use rules::rehearsal::Rehearsal;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Which plan.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A plan, or a service: then its newest plan, or the one that would be drawn up now if there is none
    #[arg(value_name = "SERVICE|PLAN", value_parser = name)]
    pub what: String,
    /// Draw the service's plan up anew and try it without an effect
    #[arg(long)]
    pub dry_run: bool,
    /// The release to return to; the best one that ran well here if not said
    #[arg(long, value_name = "VERSION", requires = "dry_run", value_parser = |text: &str| Version::new(text))]
    pub to: Option<Version>,
    /// Where the service runs
    #[arg(long, default_value = "production", value_parser = |text: &str| EnvironmentName::new(text))]
    pub environment: EnvironmentName,
}

/// A plan as the daemon shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Shown {
    pub(super) digest: PlanDigest,
    plan: RollbackPlan,
    watch: Watch,
    rehearsal: Option<Rehearsal>,
    rehearsed_at: Option<Timestamp>,
}

pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let found = if args.dry_run { Found::None } else { find_plan(&client, &args.what).await? };
    let (answer, shown) = match found {
        Found::Plan(id) => Shown::fetch(&client, &id).await?,
        Found::None => Shown::rehearse(&client, &args).await?,
    };
    shown.check()?;
    if context.console.is_json() {
        context.console.document(&answer)?;
    } else {
        context.console.print(&render(context.console, &shown))?;
    }
    Ok(Exit::Done)
}

impl Shown {
    pub(super) async fn fetch(client: &Client<'_>, id: &str) -> Result<(Value, Self), ClientError> {
        let path = ["v1", "plans", id];
        let answer = client.get(&path).await?;
        let shown = client.understand(&path, &answer)?;
        Ok((answer, shown))
    }

    /// The plan that would be drawn up now, tried without an effect.
    async fn rehearse(client: &Client<'_>, args: &Args) -> Result<(Value, Self), ClientError> {
        let path = ["v1", "rehearsals"];
        let body = json!({ "service": args.what, "environment": args.environment, "to": args.to });
        let answer = client.ask(&path, &body).await?;
        let shown = client.understand(&path, &answer)?;
        Ok((answer, shown))
    }

    /// Whether the digest is that of the plan shown.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let found = self.plan.digest();
        if found == self.digest {
            return Ok(());
        }
        let words = format!(
            "the daemon says that the digest of plan {} is {}, but what it shows has {}; do not approve it: \
             daemon and command line are of different versions, or something between them changes answers",
            self.plan.id,
            self.digest.short(),
            found.short()
        );
        Err(Failure::new(Exit::Refused, words))
    }
}

/// Whether there is a plan.
enum Found {
    Plan(String),
    /// The service is watched, and nothing was decided.
    None,
}

async fn find_plan(client: &Client<'_>, what: &str) -> anyhow::Result<Found> {
    let path = ["v1", "watches"];
    let watches: Vec<Watch> = client.understand(&path, &client.get(&path).await?)?;
    let plans = || watches.iter().filter_map(|watch| Some((watch, watch.plan.as_ref()?)));
    let by_id = plans().find(|(_, plan)| plan.id == what);
    if let Some((_, plan)) = by_id.or_else(|| plans().find(|(watch, _)| watch.service == what)) {
        return Ok(Found::Plan(plan.id.clone()));
    }
    if watches.iter().any(|watch| watch.service == what) {
        return Ok(Found::None);
    }
    let words = format!("there is no plan and no watched service {what}; see `turnback status`");
    Err(Failure::usage(words).into())
}

/// The plan as text.
pub(super) fn render(console: &Console, shown: &Shown) -> String {
    let Shown { digest, plan, watch, .. } = shown;
    let summary = watch.plan.as_ref().filter(|summary| summary.id == plan.id.as_str());
    let state = |number: usize| {
        let step = summary.and_then(|summary| summary.steps.get(number));
        step.map_or("unknown", |step| step.state.as_str())
    };
    let title = format!(
        "Plan {}: {} in {}, {} back to {}",
        plan.id, plan.service, plan.environment, plan.from.version, plan.to.version
    );
    let mut text = format!("{}\n", console.paint(&safe(&title), Tone::Strong));
    line(&mut text, "  ", "digest", digest.as_str());
    line(&mut text, "  ", "reason", &plan.reason);
    line(&mut text, "  ", "target", &plan.proof);
    line(&mut text, "  ", "drawn", &moment(plan.drawn_at));
    line(&mut text, "  ", "phase", &watch.phase);
    if summary.is_none() {
        line(&mut text, "  ", "decided", "no: this is the plan that would be drawn up now");
    }
    if let (Some(rehearsal), Some(at)) = (&shown.rehearsal, shown.rehearsed_at) {
        line(&mut text, "  ", "dry run", &format!("{}; at {}", rehearsal.words(), moment(at)));
    }
    let tried = |step: &Step| {
        let rehearsal = shown.rehearsal.as_ref()?;
        rehearsal.steps.iter().find(|(name, _)| *name == step.name).map(|(_, tried)| tried.words())
    };
    for (number, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("  {}. {} ({})\n", number + 1, safe(step.name.as_str()), safe(state(number))));
        write_step(&mut text, step);
        if let Some(tried) = tried(step) {
            line(&mut text, "     ", "dry run", &tried);
        }
    }
    if summary.is_some_and(|summary| summary.awaits_approval) {
        text.push_str(&format!("To approve: turnback approve {} --digest {}\n", plan.id, digest.short()));
    }
    text
}

fn write_step(text: &mut String, step: &Step) {
    let indent = "     ";
    if let Some(from) = &step.from {
        line(text, indent, "from", from);
    }
    write_action(text, indent, "runs", &step.action);
    if let Some(inspect) = &step.inspect {
        write_action(text, indent, "looks by", &inspect.action);
    }
    if let Some(verify) = &step.verify {
        write_action(text, indent, "verifies", &verify.action);
    }
    match &step.undo {
        Undo::Action(action) => write_action(text, indent, "undone by", action),
        other => line(text, indent, "undo", &words_of(other)),
    }
    line(text, indent, "risk", &format!("{}, {}", words_of(&step.reversibility), words_of(&step.class)));
    line(text, indent, "takes", &format!("at most {}", step.timeout));
}

/// The configuration's own word for a choice: `one_shot` as "one shot".
pub(super) fn words_of(choice: &impl serde::Serialize) -> String {
    match serde_json::to_value(choice) {
        Ok(Value::String(word)) => word.replace('_', " "),
        Ok(other) => other.to_string(),
        Err(error) => format!("cannot be shown: {error}"),
    }
}

pub(super) fn write_action(text: &mut String, indent: &str, lead: &str, action: &ActionSpec) {
    line(text, indent, lead, &action.words());
    let further = format!("{indent}            ");
    match action {
        ActionSpec::Command(command) => write_command(text, &further, command),
        ActionSpec::Http(http) => write_http(text, &further, http),
        ActionSpec::Git(git) => write_git(text, &further, git),
        ActionSpec::Sql(sql) => write_sql(text, &further, sql),
        ActionSpec::Redis(redis) => write_secret_list(text, &further, redis.secrets()),
        // Its one line says all of it.
        ActionSpec::Kubernetes(_) => {}
    }
}

fn write_command(text: &mut String, indent: &str, command: &CommandSpec) {
    write_pairs(text, indent, "with", &command.env);
    write_secrets(text, indent, &command.secret_env, &BTreeMap::new());
    if let Some(directory) = &command.directory {
        line(text, indent, "in", directory);
    }
    if command.success != [0] {
        line(text, indent, "success", &format!("exit {:?}", command.success));
    }
}

fn write_http(text: &mut String, indent: &str, http: &HttpSpec) {
    write_pairs(text, indent, "with", &http.headers);
    write_secrets(text, indent, &http.secret_headers, &http.secret_prefixes);
    if let Some(body) = &http.body {
        line(text, indent, "body", body);
    }
    line(text, indent, "success", &format!("HTTP {:?}", http.success.status));
    for (pointer, value) in &http.success.json {
        line(text, indent, "and", &format!("{pointer} is {value}"));
    }
}

fn write_git(text: &mut String, indent: &str, git: &GitSpec) {
    line(text, indent, "as", &format!("{} <{}>", git.author.name, git.author.email));
    write_secret_list(text, indent, git.secrets());
}

fn write_sql(text: &mut String, indent: &str, sql: &SqlSpec) {
    if let SqlOperation::Down(DownMigration { sql: Some(statements), .. }) = &sql.operation {
        line(text, indent, "down", statements);
    }
    write_secret_list(text, indent, sql.secrets());
}

fn write_pairs(text: &mut String, indent: &str, lead: &str, pairs: &BTreeMap<String, String>) {
    for (name, value) in pairs {
        line(text, indent, lead, &format!("{name}={value:?}"));
    }
}

fn write_secrets(
    text: &mut String,
    indent: &str,
    secrets: &BTreeMap<String, SecretRef>,
    prefixes: &BTreeMap<String, String>,
) {
    for (name, place) in secrets {
        let prefix = prefixes.get(name).map_or(String::new(), |prefix| format!("{prefix:?} and what is in "));
        line(text, indent, "secret", &format!("{name} from {prefix}{}", place_words(place)));
    }
}

fn write_secret_list(text: &mut String, indent: &str, secrets: Vec<(String, &SecretRef)>) {
    for (name, place) in secrets {
        line(text, indent, "secret", &format!("{name} from {}", place_words(place)));
    }
}

fn place_words(place: &SecretRef) -> String {
    match place {
        SecretRef::Env(variable) => format!("the daemon's variable {variable}"),
        SecretRef::File(path) => format!("the file {path}"),
    }
}

fn line(text: &mut String, indent: &str, lead: &str, words: &str) {
    text.push_str(&format!("{indent}{lead:<10}{}\n", safe(words)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::console::Format;
    use crate::cli::tests::testing::{console, plan_answer};

    fn shown() -> Shown {
        Shown::deserialize(&plan_answer()).unwrap()
    }

    #[test]
    fn a_plan_is_shown_to_the_letter() {
        let (console, _said) = console(Format::Text);
        let shown = shown();
        shown.check().unwrap();
        let text = render(&console, &shown).replace(shown.digest.as_str(), "[64 digits]");
        insta::assert_snapshot!(text, @r#"
        Plan p-1-1: checkout in production, 1.4.0 back to 1.3.9
          digest    [64 digits]
          reason    errors-above-10-percent
          target    ran well for 6h
          drawn     2026-03-01T12:02:03Z
          phase     turning back
          1. deploy (not begun)
             from      Application, step 2
             runs      /usr/local/bin/deploy --to 1.3.9 "two words"
                         with      REGION="eu\u{1b}[2J"
                         secret    KEY from the file /run/secrets/deploy
                         in        /srv
                         success   exit [0, 3]
             looks by  /usr/local/bin/deployed 1.3.9
                         with      REGION="eu\u{1b}[2J"
                         secret    KEY from the file /run/secrets/deploy
                         in        /srv
                         success   exit [0, 3]
             undo      not needed
             risk      reversible, compare and set
             takes     at most 5m
        "#);
    }

    #[test]
    fn a_plan_that_is_not_what_its_digest_says_is_not_shown_as_if_it_were() {
        let mut answer = plan_answer();
        answer["plan"]["steps"][0]["action"]["command"]["argv"][1] = "--wipe".into();
        let shown = Shown::deserialize(&answer).unwrap();
        let refusal = shown.check().unwrap_err();
        assert!(refusal.to_string().contains("do not approve it"), "{refusal}");
    }
}
