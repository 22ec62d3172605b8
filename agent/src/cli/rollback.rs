//! `turnback rollback`: a person's wish to turn a service back, followed to its end.
//!
//! The daemon does the work; this only watches it. Ctrl-C, a closed laptop or a daemon that restarts change nothing about
//! the rollback, and `turnback status` tells later what became of it.

use super::client::{Client, ClientError};
use super::console::Console;
use super::exit::Failure;
use super::model::{Watch, WatchDetail};
use super::text::{moment, safe};
use super::{Context, Exit};
use rules::ids::{EnvironmentName, ServiceName, Version};
use rules::units::Span;
use rules::watch::Outcome;
use serde_json::{Value, json};
use std::time::Duration;

/// What is turned back, to what, and how long it is followed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The service
    #[arg(value_parser = |text: &str| ServiceName::new(text))]
    pub service: ServiceName,
    /// The release to return to; the best one that ran well here if not said
    #[arg(long, value_name = "VERSION", value_parser = |text: &str| Version::new(text))]
    pub to: Option<Version>,
    /// Where it runs
    #[arg(long, default_value = "production", value_parser = |text: &str| EnvironmentName::new(text))]
    pub environment: EnvironmentName,
    /// Do not wait for the end
    #[arg(long)]
    pub no_wait: bool,
    /// How long to wait for the end; the rollback itself goes on
    #[arg(long, value_name = "DURATION", default_value = "2h", value_parser = Span::parse)]
    pub timeout: Span,
}

/// What came of a rollback that was followed to its end.
pub(super) struct Followed {
    /// What the daemon said when it was asked.
    answer: String,
    exit: Exit,
    watch: Watch,
    raw: Value,
}

impl Followed {
    /// The watch that was followed.
    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Tells the end.
    pub(super) fn tell(self, console: &Console) -> anyhow::Result<Exit> {
        let Self { answer, exit, watch, raw } = self;
        if console.is_json() {
            console.document(&json!({ "result": answer, "exit_code": exit.code(), "watch": raw }))?;
        } else {
            console.print(&end_words(&watch))?;
        }
        Ok(exit)
    }
}

/// How often the daemon is asked how it stands: often enough for a person who watches.
const PERIOD: Duration = Duration::from_millis(500);
/// Failures in a row after which the daemon counts as gone: a restart takes a few seconds, this is at least 15.
const MOST_FAILURES: u32 = 30;

pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<Exit> {
    match ask_and_follow(&args, false, context).await? {
        Some(followed) => followed.tell(context.console),
        None => Ok(Exit::Done),
    }
}

/// Asks for the rollback, in earnest or for practice, and follows it. `None` if nobody wants to wait for its end.
pub(super) async fn ask_and_follow(
    args: &Args,
    drill: bool,
    context: &Context<'_>,
) -> anyhow::Result<Option<Followed>> {
    let (client, console) = (context.client()?, context.console);
    // The watch that the daemon will choose: looked up before asking, as it may be over when we look again.
    let open = newest(&client, args, true).await?;
    let said = match &open {
        Some(id) => detail(&client, id).await?.0.timeline.len(),
        None => 0,
    };
    let mut body = json!({ "service": args.service, "environment": args.environment, "to": args.to });
    if drill {
        body["drill"] = true.into();
    }
    let answer = client.post(&["v1", "rollbacks"], &body).await?;
    if args.no_wait {
        console.result(&answer)?;
        return Ok(None);
    }
    console.note(&format!("{}; following it, Ctrl-C leaves the daemon at work", safe(&answer)));
    let id = match open {
        Some(id) => id,
        None => newest(&client, args, false).await?.ok_or_else(|| lost(args))?,
    };
    let followed = tokio::time::timeout(args.timeout.duration(), follow(&client, context, &id, said)).await;
    let (exit, watch, raw) = followed.map_err(|_| too_long(args, &id))??;
    Ok(Some(Followed { answer, exit, watch, raw }))
}

/// The newest watch of the service; the daemon names the newest first.
async fn newest(client: &Client<'_>, args: &Args, only_open: bool) -> Result<Option<String>, ClientError> {
    let path = ["v1", "watches"];
    let watches: Vec<Watch> = client.understand(&path, &client.get(&path).await?)?;
    let here = |watch: &&Watch| {
        let place = (watch.service.as_str(), watch.environment.as_str());
        place == (args.service.as_str(), args.environment.as_str()) && !(only_open && watch.closed)
    };
    Ok(watches.iter().find(here).map(|watch| watch.id.clone()))
}

async fn detail(client: &Client<'_>, id: &str) -> Result<(WatchDetail, Value), ClientError> {
    let path = ["v1", "watches", id];
    let answer = client.get(&path).await?;
    Ok((client.understand(&path, &answer)?, answer))
}

/// Tells what happens until there is an end. Lines of the timeline before `said` are not told.
async fn follow(
    client: &Client<'_>,
    context: &Context<'_>,
    id: &str,
    mut said: usize,
) -> Result<(Exit, Watch, Value), ClientError> {
    let mut failures = 0;
    loop {
        match detail(client, id).await {
            Ok((WatchDetail { watch, timeline, .. }, raw)) => {
                failures = 0;
                for (at, words) in timeline.iter().skip(said) {
                    context.console.note(&format!("{}  {}", moment(*at), safe(words)));
                }
                said = said.max(timeline.len());
                if let Some(exit) = end_of(&watch) {
                    let summary = raw.get("watch").cloned().unwrap_or_default();
                    return Ok((exit, watch, summary));
                }
            }
            Err(error) if error.is_passing() && failures < MOST_FAILURES => {
                if failures == 0 {
                    context.console.note(&format!("no answer, asking again: {}", safe(&error.to_string())));
                }
                failures += 1;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// What the end of a watch means for whoever asked for the rollback, or nothing while it goes on. Only a recovery that
/// was shown is a success.
fn end_of(watch: &Watch) -> Option<Exit> {
    if let Some(outcome) = watch.outcome() {
        let recovered = outcome == Outcome::RolledBack.to_string();
        return Some(if recovered { Exit::Done } else { Exit::RollbackFailed });
    }
    // The rollback is over for whoever asked for it; that it holds is looked at for a day.
    if watch.is_looked_after() {
        return Some(Exit::Done);
    }
    watch.plan.as_ref().filter(|plan| plan.awaits_approval).map(|_| Exit::Refused)
}

fn end_words(watch: &Watch) -> String {
    let what = safe(&format!("{} {}", watch.place(), watch.version));
    match (watch.outcome(), &watch.plan) {
        (Some(outcome), _) => format!("{what}: {}\n", safe(outcome)),
        (None, Some(plan)) => {
            format!("{what}: {}. See it: turnback plan {}\n", safe(&watch.phase), safe(&plan.id))
        }
        (None, None) => format!("{what}: {}\n", safe(&watch.phase)),
    }
}

fn lost(args: &Args) -> Failure {
    let words = format!(
        "the daemon took the order but shows no watch of {} in {}; see `turnback status`",
        args.service, args.environment
    );
    Failure::new(Exit::Inconclusive, words)
}

fn too_long(args: &Args, id: &str) -> Failure {
    let words =
        format!("no end within {}; the daemon goes on, follow it with `turnback explain {id}`", args.timeout);
    Failure::new(Exit::Inconclusive, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::testing::watch;
    use rules::matrix::Severity;

    /// Outcomes come as words, so this ties the words to the type: a change of either shows here.
    #[test]
    fn only_a_shown_recovery_is_a_success() {
        let why = || "because".to_owned();
        let cases = [
            (Outcome::RolledBack, Exit::Done),
            (Outcome::Healthy, Exit::RollbackFailed),
            (Outcome::Inconclusive, Exit::RollbackFailed),
            (Outcome::Blind, Exit::RollbackFailed),
            (Outcome::Degraded(Severity::P1), Exit::RollbackFailed),
            (Outcome::Unverified(why()), Exit::RollbackFailed),
            (Outcome::NotRecovered(why()), Exit::RollbackFailed),
            (Outcome::DidNotHold(why()), Exit::RollbackFailed),
            (Outcome::Unwound(why()), Exit::RollbackFailed),
            (Outcome::Stuck(why()), Exit::RollbackFailed),
            (Outcome::Superseded, Exit::RollbackFailed),
        ];
        for (outcome, exit) in cases {
            let mut watch = watch();
            (watch.closed, watch.phase) = (true, format!("closed: {outcome}"));
            assert_eq!(end_of(&watch), Some(exit), "{outcome}");
        }
    }

    #[test]
    fn an_open_watch_goes_on_unless_it_waits_for_a_person() {
        let mut watch = watch();
        assert_eq!(end_of(&watch), None);
        watch.phase = "recovered, next checkpoint 30-minutes at 2026-03-01T12:39:00Z".into();
        assert_eq!(end_of(&watch), Some(Exit::Done), "nobody waits a day for the last checkpoint");
        watch.phase = "turning back".into();
        watch.plan.as_mut().unwrap().awaits_approval = true;
        assert_eq!(end_of(&watch), Some(Exit::Refused));
        watch.phase = "waits for approval until 2026-03-01T12:30:00Z".into();
        assert!(end_words(&watch).ends_with("See it: turnback plan p-1-1\n"), "{}", end_words(&watch));
    }
}
