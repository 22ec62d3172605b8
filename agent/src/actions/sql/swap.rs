//! Two databases change names.
//!
//! Both renamings and our row are one transaction in a third database, so that there is never a moment without a live
//! database, and a lost `COMMIT` is looked up like any other. PostgreSQL renames only what nobody is connected to. The
//! renaming itself keeps newcomers out (it holds the database's lock while it waits for the last session to go), and
//! meanwhile a second connection of ours sends those away who are still there.

use super::super::Context;
use super::session::{Limits, Trouble, fence, goodbye, make_fence};
use super::{Progress, Sql, permanent};
use rules::action::sql::Swap;
use rules::action::sql_text::quoted;
use rules::action::{FailureKind, StepOutcome};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two rounds of sending sessions away. PostgreSQL waits five seconds for them.
const ROUND: Duration = Duration::from_millis(100);

impl Sql {
    /// The swap, after the checks of the restored database.
    pub(super) async fn swap(
        &self,
        swap: &Swap,
        context: &Context,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<StepOutcome, Trouble> {
        // An earlier attempt may have given the restored database its new name: look before it is asked for.
        if self.fenced(Some(&swap.maintenance_database), context, deadline).await? {
            let output = "an earlier attempt of this step is committed".to_owned();
            return Ok(StepOutcome::Done { output, changed: false });
        }
        if let Some(wrong) = self.first_wrong(&swap.checks, &swap.restored, deadline).await? {
            return Ok(permanent(self.shown(&format!("{wrong}; nothing was swapped"))));
        }
        let mut bouncer = self.connect(Some(&swap.maintenance_database)).await?;
        self.limit(&mut bouncer, deadline, Limits::Session).await?;
        let mut server = self.connect(Some(&swap.maintenance_database)).await?;
        make_fence(&mut server).await?;
        let mut transaction = server.begin().await?;
        self.limit(&mut transaction, deadline, Limits::Transaction).await?;
        if !fence(&mut transaction, context).await? {
            let output = "an earlier attempt of this step is committed".to_owned();
            return Ok(StepOutcome::Done { output, changed: false });
        }
        if let Some(problem) = names_problem(&mut transaction, swap).await? {
            return Ok(permanent(problem));
        }
        let ended = tokio::select! {
            renamed = rename(&mut transaction, swap) => renamed,
            trouble = send_away(&mut bouncer, swap) => Err(trouble),
        };
        ended?;
        progress.no_return();
        match transaction.commit().await.map_err(Trouble::from) {
            Ok(()) => {}
            Err(trouble) => {
                let reason = self.shown(&format!("the answer to COMMIT is missing: {}", trouble.words()));
                return Ok(StepOutcome::Unknown { reason, output: String::new() });
            }
        }
        goodbye(server).await;
        goodbye(bouncer).await;
        let output =
            format!("{} is live as {}; what was live is kept as {}", swap.restored, swap.live, swap.keep_as);
        Ok(StepOutcome::Done { output, changed: true })
    }
}

/// What is wrong with the three names, if anything.
async fn names_problem(connection: &mut PgConnection, swap: &Swap) -> Result<Option<String>, Trouble> {
    let names = [&swap.live, &swap.restored, &swap.keep_as].map(|name| name.to_owned());
    let rows = sqlx::query("SELECT datname::text FROM pg_database WHERE datname = ANY($1)")
        .bind(names.to_vec())
        .persistent(false)
        .fetch_all(connection)
        .await?;
    let mut there = Vec::new();
    for row in rows {
        there.push(row.try_get::<String, _>(0)?);
    }
    Ok(match () {
        () if !there.contains(&swap.live) => Some(format!("there is no database {}", swap.live)),
        () if !there.contains(&swap.restored) => Some(format!("there is no database {}", swap.restored)),
        () if there.contains(&swap.keep_as) => {
            Some(format!("there is a database {} already; it is not overwritten", swap.keep_as))
        }
        () => None,
    })
}

async fn rename(connection: &mut PgConnection, swap: &Swap) -> Result<(), Trouble> {
    for (from, to) in [(&swap.live, &swap.keep_as), (&swap.restored, &swap.live)] {
        let sql = format!("ALTER DATABASE {} RENAME TO {}", quoted(from), quoted(to));
        sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Ends the sessions of both databases again and again. Returns only if it cannot.
async fn send_away(connection: &mut PgConnection, swap: &Swap) -> Trouble {
    loop {
        let ended =
            sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY($1)")
                .bind(vec![swap.live.clone(), swap.restored.clone()])
                .persistent(false)
                .execute(&mut *connection)
                .await;
        if let Err(error) = ended {
            let trouble = Trouble::from(error);
            let message = format!("cannot end the sessions of {}: {}", swap.live, trouble.words());
            return match trouble.kind() {
                FailureKind::Retryable => Trouble::Passing { message },
                FailureKind::Permanent => Trouble::Wrong { message },
            };
        }
        sleep(ROUND).await;
    }
}
