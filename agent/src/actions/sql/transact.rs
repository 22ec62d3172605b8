//! The transaction: our row, the change, a look that it still is the same transaction, `COMMIT`.

use super::super::Context;
use super::session::{Limits, Trouble, fence, goodbye, make_fence};
use super::{Progress, Sql, ask, permanent};
use rules::action::sql::{DownMigration, SqlOperation, SqlText};
use rules::action::sql_text::{Statement, down_part, statements, unwrapped};
use rules::action::{EffectClass, FailureKind, StepOutcome};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, Postgres, Row as _};
use std::io::Read as _;
use tokio::time::Instant;

/// Of a file with down statements; as for those in the configuration.
const LONGEST_FILE: u64 = 256 * 1024;

impl Sql {
    /// A change with its fence row.
    pub(super) async fn transact(
        &self,
        context: &Context,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<StepOutcome, Trouble> {
        if let Some(text) = self.alone()? {
            return self.outside_of_transactions(text, context, deadline, progress).await;
        }
        // Before anything is locked.
        let down = match &self.spec.operation {
            SqlOperation::Down(down) => Some((down, down_text(down)?)),
            _ => None,
        };
        let mut connection = self.connect(None).await?;
        make_fence(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        self.limit(&mut transaction, deadline, Limits::Transaction).await?;
        if !fence(&mut transaction, context).await? {
            let output = "an earlier attempt of this step is committed".to_owned();
            return Ok(StepOutcome::Done { output, changed: false });
        }
        let began_as = transaction_id(&mut transaction).await?;
        let output = match &down {
            Some((down, text)) => take_down(&mut transaction, down, text).await?,
            None => self.run_statements(&mut transaction).await?,
        };
        if transaction_id(&mut transaction).await? != began_as {
            progress.no_return();
            return Err(Trouble::wrong(
                "the statements ended the transaction themselves: some of them are kept",
            ));
        }
        progress.no_return();
        match transaction.commit().await.map_err(Trouble::from) {
            Ok(()) => {
                goodbye(connection).await;
                Ok(StepOutcome::Done { output, changed: true })
            }
            // A deferred constraint, a conflict with another transaction: all of it was taken back.
            Err(Trouble::Refused { code, message }) if code.starts_with("23") || code.starts_with("40") => {
                let kind =
                    if code.starts_with("40") { FailureKind::Retryable } else { FailureKind::Permanent };
                let reason =
                    self.shown(&format!("PostgreSQL refuses to commit: {message} (SQLSTATE {code})"));
                Ok(StepOutcome::Failed { kind, reason, output: String::new() })
            }
            Err(trouble) => {
                let reason = self.shown(&format!("the answer to COMMIT is missing: {}", trouble.words()));
                Ok(StepOutcome::Unknown { reason, output })
            }
        }
    }

    async fn run_statements(&self, connection: &mut PgConnection) -> Result<String, Trouble> {
        let texts: Vec<&SqlText> = match &self.spec.operation {
            SqlOperation::Statement(all) => all.statements.iter().collect(),
            SqlOperation::Maintenance(switch) => vec![switch.chosen()],
            _ => Vec::new(),
        };
        let mut said = Vec::new();
        for (number, text) in texts.into_iter().enumerate() {
            let number = number + 1;
            let sql = text.resolved().map_err(Trouble::wrong)?;
            let query = bind(sqlx::query(AssertSqlSafe(sql)), &text.parameters).persistent(false);
            let changed = query.execute(&mut *connection).await?.rows_affected();
            if text.rows.is_some_and(|rows| rows != changed) {
                return Err(Trouble::wrong(format!(
                    "statement {number} changed {changed} rows and should change {}; all is taken back",
                    text.rows.unwrap_or_default()
                )));
            }
            said.push(format!("statement {number}: {changed} rows"));
        }
        Ok(said.join("\n"))
    }

    /// The one statement that PostgreSQL refuses inside of transactions, if that is what this is.
    fn alone(&self) -> Result<Option<&SqlText>, Trouble> {
        let SqlOperation::Statement(all) = &self.spec.operation else { return Ok(None) };
        for text in &all.statements {
            let read = text.statements().map_err(|error| Trouble::wrong(error.to_string()))?;
            if read.iter().any(Statement::needs_no_transaction) {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    async fn outside_of_transactions(
        &self,
        text: &SqlText,
        context: &Context,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<StepOutcome, Trouble> {
        if context.class != EffectClass::OneShot {
            let reason = "a statement outside of transactions is run only in a step of class `one_shot`";
            return Ok(permanent(reason.into()));
        }
        let sql = text.resolved().map_err(Trouble::wrong)?;
        let mut connection = self.connect(None).await?;
        self.limit(&mut connection, deadline, Limits::Session).await?;
        progress.no_return();
        let query = bind(sqlx::query(AssertSqlSafe(sql)), &text.parameters).persistent(false);
        match query.execute(&mut connection).await.map_err(Trouble::from) {
            Ok(_) => {
                goodbye(connection).await;
                Ok(StepOutcome::Done { output: "done, outside of a transaction".into(), changed: true })
            }
            // Class 42: not understood, no such table, not allowed. Nothing was begun. Anything else may leave half of it
            // behind, such as an invalid index.
            Err(Trouble::Refused { code, message }) if code.starts_with("42") => {
                Ok(permanent(self.shown(&format!("PostgreSQL refuses: {message} (SQLSTATE {code})"))))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Whether the flag is set.
    pub(super) async fn is_set(
        &self,
        switch: &rules::action::sql::MaintenanceSwitch,
        deadline: Instant,
    ) -> Result<bool, Trouble> {
        match self.ask(&ask::plain(&switch.is_set), None, deadline).await?.as_deref() {
            Some("true") => Ok(true),
            // A flag that has no row is not set.
            Some("false") | None => Ok(false),
            Some(other) => {
                let shown: String = other.chars().take(100).collect();
                Err(Trouble::wrong(format!("`is_set` answers {shown:?}, which is neither true nor false")))
            }
        }
    }
}

/// The values, each as what it is in the configuration.
pub(super) fn bind<'q>(
    mut query: Query<'q, Postgres, PgArguments>,
    values: &[Value],
) -> Query<'q, Postgres, PgArguments> {
    for value in values {
        query = match value {
            Value::Null => query.bind(None::<String>),
            Value::Bool(value) => query.bind(*value),
            Value::Number(number) => match number.as_i64() {
                Some(whole) => query.bind(whole),
                None => query.bind(number.as_f64()),
            },
            Value::String(text) => query.bind(text.clone()),
            // Refused when the runbook is read.
            other @ (Value::Array(_) | Value::Object(_)) => query.bind(other.to_string()),
        };
    }
    query
}

async fn transaction_id(connection: &mut PgConnection) -> Result<i64, Trouble> {
    let row = sqlx::query("SELECT txid_current()").persistent(false).fetch_one(connection).await?;
    Ok(row.try_get(0)?)
}

pub(super) async fn take_down(
    connection: &mut PgConnection,
    down: &DownMigration,
    text: &str,
) -> Result<String, Trouble> {
    let table = super::migrations::Table::of(down.tool, down.table.as_deref());
    table.lock(connection).await?;
    let state = super::migrations::read(connection, down.tool, down.table.as_deref()).await?;
    if let Some(dirty) = state.dirty.first() {
        return Err(Trouble::wrong(format!("migration {dirty} failed half way; a person has to look")));
    }
    match &state.newest {
        Some(newest) if *newest == down.version => {}
        Some(newest) if state.applied.contains(&down.version) => {
            return Err(Trouble::wrong(format!(
                "migration {} is not the newest, {newest} is; take that one back first",
                down.version
            )));
        }
        _ => return Err(Trouble::wrong(format!("migration {} is not applied", down.version))),
    }
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut *connection).await?;
    table.forget(connection, &down.version, down.previous.as_deref()).await?;
    Ok(format!("migration {} is taken back", down.version))
}

/// The down statements, without what stands around them.
pub(super) fn down_text(down: &DownMigration) -> Result<String, Trouble> {
    let text = match (&down.sql, &down.file) {
        (Some(sql), _) => sql.clone(),
        (None, Some(file)) => read_file(file, down.sha256.as_deref())?,
        (None, None) => return Err(Trouble::wrong("there are no down statements")),
    };
    if let Some(problem) = rules::action::sql::down_text_problem(&text) {
        return Err(Trouble::wrong(format!("the down statements cannot be run: {problem}")));
    }
    let read = statements(down_part(&text).unwrap_or_default());
    let read = unwrapped(read.map_err(|error| Trouble::wrong(error.to_string()))?);
    // The semicolon on a line of its own: a statement may end with a comment.
    Ok(read.iter().map(|one| format!("{}\n;\n", one.text)).collect())
}

fn read_file(path: &str, sha256: Option<&str>) -> Result<String, Trouble> {
    let failed = |what: &str| Trouble::wrong(format!("cannot read the down statements in {path}: {what}"));
    let file = std::fs::File::open(path).map_err(|error| failed(&error.to_string()))?;
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        return Err(failed("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(|error| failed(&error.to_string()))?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(failed(&format!("it is longer than {LONGEST_FILE} bytes")));
    }
    let found = hex::encode(Sha256::digest(&bytes));
    if let Some(expected) = sha256.filter(|expected| !expected.eq_ignore_ascii_case(&found)) {
        return Err(failed(&format!("its SHA-256 is {found}, and {expected} was approved")));
    }
    String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8"))
}
