//! Questions: one value, read in a transaction that can change nothing.

use super::Sql;
use super::session::{Limits, Trouble, goodbye};
use super::transact::bind;
use rules::action::sql::{SqlCheck, SqlText};
use rules::action::sql_text::quoted;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use std::collections::BTreeMap;
use tokio::time::Instant;

impl Sql {
    /// The first value of the first row, as text; `None` if there is no row or it is NULL. In the configured database,
    /// or in another one of the same server.
    pub(super) async fn ask(
        &self,
        check: &SqlCheck,
        database: Option<&str>,
        deadline: Instant,
    ) -> Result<Option<String>, Trouble> {
        let sql = check.ask.resolved().map_err(Trouble::wrong)?;
        let mut connection = self.connect(database).await?;
        let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
        self.limit(&mut transaction, deadline, Limits::Transaction).await?;
        for (name, value) in &check.settings {
            let setting =
                sqlx::query("SELECT set_config($1, $2, true)").bind(name).bind(value).persistent(false);
            setting.execute(&mut *transaction).await?;
        }
        if let Some(role) = &check.role {
            let role = format!("SET LOCAL ROLE {}", quoted(role));
            sqlx::query(AssertSqlSafe(role)).persistent(false).execute(&mut *transaction).await?;
        }
        // Around it, so that whatever type the value has comes as text. On lines of its own: it may end with a comment.
        // Inside of FROM only questions may stand.
        let whole = format!("SELECT answer.value::text FROM (\n{sql}\n) AS answer(value) LIMIT 1");
        let query = bind(sqlx::query(AssertSqlSafe(whole)), &check.ask.parameters).persistent(false);
        let row = query.fetch_optional(&mut *transaction).await?;
        let answer = match row {
            Some(row) => row.try_get::<Option<String>, _>(0)?,
            None => None,
        };
        transaction.rollback().await?;
        goodbye(connection).await;
        Ok(answer)
    }

    /// Asks several questions; the first wrong answer, if any.
    pub(super) async fn first_wrong(
        &self,
        checks: &[SqlCheck],
        database: &str,
        deadline: Instant,
    ) -> Result<Option<String>, Trouble> {
        for (number, check) in checks.iter().enumerate() {
            if let Err(words) = super::judged(check, self.ask(check, Some(database), deadline).await?) {
                return Ok(Some(format!("check {} of {database}: {words}", number + 1)));
            }
        }
        Ok(None)
    }
}

/// A question without role and settings.
pub(super) fn plain(ask: &SqlText) -> SqlCheck {
    SqlCheck { ask: ask.clone(), equals: "true".into(), role: None, settings: BTreeMap::new() }
}
