//! PostgreSQL: changes that are either wholly there or not at all, each with a row that says so.
//!
//! A change is one transaction. The first thing in it is a row with the step's key in the table `turnback_fence`, the
//! last thing before `COMMIT` is a look whether it still is the same transaction. So:
//!
//! | what came of it | outcome | because |
//! | --- | --- | --- |
//! | no connection, a refusal, a time-out before `COMMIT` | failed | without `COMMIT` nothing is kept |
//! | the row is there already | done, unchanged | an earlier attempt committed |
//! | `COMMIT` refused for a deferred constraint or a conflict | failed | PostgreSQL took it all back |
//! | no answer to `COMMIT`, or any other | unknown | the row will tell |
//!
//! Two attempts at once (one that everybody takes for dead is still at work) meet at the row: the second waits for the
//! first, as long as `lock_timeout` says, and then finds it or fails.
//!
//! Backups, restores and the swap of two databases are in `dump.rs` and `swap.rs`.

mod ask;
mod dump;
mod migrations;
mod rehearse;
mod session;
mod swap;
mod transact;

pub use migrations::{MigrationState, read as read_migrations};

use self::session::Trouble;
use super::output::line;
use super::{Action, BadAction, Context, pulled};
use crate::secrets::{Redactor, Secret, Secrets};
use async_trait::async_trait;
use rules::action::sql::{SqlCheck, SqlOperation, SqlSpec};
use rules::action::{FailureKind, Inspected, StepOutcome};
use rules::rehearsal::Tried;
use sqlx::postgres::PgConnectOptions;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::{Instant, sleep_until};

/// An operation ready to be made.
pub(super) struct Sql {
    spec: SqlSpec,
    url: Secret,
    options: PgConnectOptions,
    redactor: Redactor,
}

/// How far an attempt has come, for whoever cuts it off.
#[derive(Default)]
pub(super) struct Progress(AtomicBool);

impl Progress {
    /// From here on the effect may be there.
    fn no_return(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn may_have_happened(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Sql {
    /// Resolves the address and checks what the placeholders were filled with. Errors: see [`BadAction`].
    pub(super) fn new(spec: &SqlSpec, secrets: &Secrets) -> Result<Self, BadAction> {
        let bad = |key: String, problem: String| BadAction::Specification { key, problem };
        if let Some((key, problem)) = spec.problems("sql").into_iter().next() {
            return Err(bad(key, problem));
        }
        let place = "sql.url".to_owned();
        let url = secrets.resolve(&spec.url).map_err(|source| BadAction::Secret { place, source })?;
        // The parser's own words might quote the address, password included.
        let problem = "is not the address of a PostgreSQL database (postgres://user:password@host/database)";
        let known = ["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme));
        let options = url.expose().parse::<PgConnectOptions>().ok().filter(|_| known);
        let options = options.ok_or_else(|| bad("sql.url".into(), problem.into()))?;
        let options = options.application_name("turnback").statement_cache_capacity(0);
        Ok(Self { spec: spec.clone(), url, options, redactor: secrets.redactor() })
    }

    async fn act(
        &self,
        context: &Context,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<StepOutcome, Trouble> {
        match &self.spec.operation {
            SqlOperation::Migrations(check) => {
                Ok(match self.migrations_as_expected(check, deadline).await? {
                    Ok(words) => StepOutcome::Done { output: words, changed: false },
                    Err(words) => permanent(words),
                })
            }
            SqlOperation::Check(check) => {
                let answer = self.ask(check, None, deadline).await?;
                Ok(match judged(check, answer) {
                    Ok(words) => StepOutcome::Done { output: words, changed: false },
                    Err(words) => permanent(words),
                })
            }
            SqlOperation::Down(_) | SqlOperation::Statement(_) | SqlOperation::Maintenance(_) => {
                self.transact(context, deadline, progress).await
            }
            SqlOperation::Backup(backup) => self.back_up(backup, context, deadline).await,
            SqlOperation::Restore(restore) => self.restore(restore, context, deadline, progress).await,
            SqlOperation::Swap(swap) => self.swap(swap, context, deadline, progress).await,
        }
    }

    async fn look(&self, context: &Context, deadline: Instant) -> Result<Inspected, Trouble> {
        let present = |there: bool| if there { Inspected::Present } else { Inspected::Missing };
        match &self.spec.operation {
            SqlOperation::Migrations(check) => {
                Ok(present(self.migrations_as_expected(check, deadline).await?.is_ok()))
            }
            SqlOperation::Check(check) => {
                Ok(present(judged(check, self.ask(check, None, deadline).await?).is_ok()))
            }
            SqlOperation::Maintenance(switch) => {
                let is_set = self.is_set(switch, deadline).await?;
                Ok(present(is_set == (switch.turn == rules::action::sql::Turn::Set)))
            }
            SqlOperation::Down(_) | SqlOperation::Statement(_) => {
                Ok(present(self.fenced(None, context, deadline).await?))
            }
            SqlOperation::Swap(swap) => {
                Ok(present(self.fenced(Some(&swap.maintenance_database), context, deadline).await?))
            }
            SqlOperation::Backup(backup) => dump::look_for_backup(backup, context),
            SqlOperation::Restore(restore) => self.look_for_restored(restore, context, deadline).await,
        }
    }

    fn shown(&self, text: &str) -> String {
        line(text, &self.redactor)
    }
}

/// Holds an answer against the right one: what to say, well or badly.
fn judged(check: &SqlCheck, answer: Option<String>) -> Result<String, String> {
    let short = |text: &str| text.chars().take(100).collect::<String>();
    match answer {
        Some(answer) if answer == check.equals => {
            Ok(format!("the answer is {:?}, as it should be", short(&answer)))
        }
        Some(answer) => {
            Err(format!("the answer is {:?} and should be {:?}", short(&answer), short(&check.equals)))
        }
        None => Err(format!("there is no answer (no row, or NULL); it should be {:?}", short(&check.equals))),
    }
}

fn permanent(reason: String) -> StepOutcome {
    StepOutcome::Failed { kind: FailureKind::Permanent, reason, output: String::new() }
}

#[async_trait]
impl Action for Sql {
    async fn rehearse(&self, context: &Context) -> Tried {
        self.rehearsed(context, Instant::now() + context.timeout.duration()).await
    }

    async fn inspect(&self, context: &Context) -> Inspected {
        let deadline = Instant::now() + context.timeout.duration();
        let looked = tokio::select! {
            looked = self.look(context, deadline) => looked,
            () = sleep_until(deadline) => {
                return Inspected::Unclear { reason: format!("no answer came within {}", context.timeout) };
            }
            () = pulled(&context.cancel) => {
                return Inspected::Unclear { reason: "the kill switch was pulled".into() };
            }
        };
        looked.unwrap_or_else(|trouble| Inspected::Unclear { reason: self.shown(&trouble.words()) })
    }

    async fn apply(&self, context: &Context) -> StepOutcome {
        let deadline = Instant::now() + context.timeout.duration();
        let progress = Progress::default();
        let (reason, switch) = tokio::select! {
            acted = self.act(context, deadline, &progress) => {
                return acted.unwrap_or_else(|trouble| {
                    let reason = self.shown(&trouble.words());
                    match progress.may_have_happened() {
                        true => StepOutcome::Unknown { reason, output: String::new() },
                        false => StepOutcome::Failed { kind: trouble.kind(), reason, output: String::new() },
                    }
                });
            }
            () = sleep_until(deadline) => (format!("it did not end within {}", context.timeout), false),
            () = pulled(&context.cancel) => ("the kill switch was pulled".to_owned(), true),
        };
        match (progress.may_have_happened(), switch) {
            (true, _) => {
                let reason = format!("{reason} when the change was on its way");
                StepOutcome::Unknown { reason, output: String::new() }
            }
            (false, true) => StepOutcome::NotBegun { reason: format!("{reason}; nothing was committed") },
            (false, false) => StepOutcome::Failed {
                kind: FailureKind::Retryable,
                reason: format!("{reason}; nothing was committed"),
                output: String::new(),
            },
        }
    }
}
