//! The dry run of an operation on a database: in a transaction that is rolled back, or only as far as the server
//! understands it.

use super::super::Context;
use super::session::{Limits, Trouble, goodbye};
use super::transact::{down_text, take_down};
use super::{Sql, judged};
use rules::action::FailureKind;
use rules::action::sql::{SqlOperation, SqlText};
use rules::rehearsal::Tried;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, SqlSafeStr as _};
use tokio::time::Instant;

/// A dry run holds no lock that users would notice, and gives up where one is taken.
const BRIEFLY: &str =
    "SELECT set_config('lock_timeout', '500ms', true), set_config('statement_timeout', '5s', true)";

impl Sql {
    /// Tries the operation and keeps nothing of it.
    pub(super) async fn rehearsed(&self, context: &Context, deadline: Instant) -> Tried {
        match self.try_out(context, deadline).await {
            Ok(tried) => tried,
            Err(trouble) => {
                let reason = self.shown(&trouble.words());
                match trouble.kind() {
                    FailureKind::Permanent => Tried::Fails { reason },
                    FailureKind::Retryable => Tried::Unclear { reason },
                }
            }
        }
    }

    async fn try_out(&self, context: &Context, deadline: Instant) -> Result<Tried, Trouble> {
        let works = |how: &str| Ok(Tried::Works { how: how.to_owned() });
        match &self.spec.operation {
            SqlOperation::Down(down) => {
                let text = down_text(down)?;
                if self.fenced(None, context, deadline).await? {
                    return Ok(Tried::AlreadyThere);
                }
                let mut connection = self.connect(None).await?;
                let mut transaction = connection.begin().await?;
                self.limit(&mut transaction, deadline, Limits::Transaction).await?;
                transaction.execute(BRIEFLY).await?;
                take_down(&mut transaction, down, &text).await?;
                transaction.rollback().await?;
                goodbye(connection).await;
                works("in a transaction that was rolled back")
            }
            SqlOperation::Statement(all) => {
                if self.fenced(None, context, deadline).await? {
                    return Ok(Tried::AlreadyThere);
                }
                let mut connection = self.connect(None).await?;
                for text in &all.statements {
                    understand(&mut connection, text).await?;
                }
                goodbye(connection).await;
                works("PostgreSQL understands the statements; they were not run")
            }
            SqlOperation::Maintenance(switch) => {
                if self.is_set(switch, deadline).await? == (switch.turn == rules::action::sql::Turn::Set) {
                    return Ok(Tried::AlreadyThere);
                }
                let mut connection = self.connect(None).await?;
                understand(&mut connection, switch.chosen()).await?;
                goodbye(connection).await;
                works("PostgreSQL understands the statement; it was not run")
            }
            SqlOperation::Check(check) => {
                let answer = self.ask(check, None, deadline).await?;
                // What it must be is what it is afterwards.
                works(&judged(check, answer).unwrap_or_else(|now| format!("now {now}")))
            }
            SqlOperation::Migrations(check) => {
                let state = self.migrations_as_expected(check, deadline).await?;
                works(&state.unwrap_or_else(|now| format!("now {now}")))
            }
            SqlOperation::Backup(_) | SqlOperation::Restore(_) | SqlOperation::Swap(_) => {
                goodbye(self.connect(None).await?).await;
                works("the server takes the connection; nothing was dumped, restored or renamed")
            }
        }
    }
}

/// Has the server read a statement: every table, column and type in it must be there.
async fn understand(connection: &mut PgConnection, text: &SqlText) -> Result<(), Trouble> {
    let sql = text.resolved().map_err(Trouble::wrong)?;
    connection.prepare(AssertSqlSafe(sql).into_sql_str()).await?;
    Ok(())
}
