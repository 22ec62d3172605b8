//! One connection, and what its errors mean.

use super::super::Context;
use super::Sql;
use rules::action::FailureKind;
use sqlx::postgres::{PgConnection, PgDatabaseError};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A server that does not take a connection within this time will not do so.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// A transaction in which nobody does anything for so long belongs to an agent that is gone: its locks are let go.
const IDLE: Duration = Duration::from_secs(30);
/// For a farewell; a server that does not listen notices by itself.
const GOODBYE: Duration = Duration::from_secs(1);
/// Our own table. A name that no application uses by accident.
const FENCE: &str = "CREATE TABLE IF NOT EXISTS turnback_fence (key text PRIMARY KEY, plan text NOT NULL, \
                     step text NOT NULL, done_at timestamptz NOT NULL DEFAULT now())";

/// Why something did not come about.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server refused.
    Refused { code: String, message: String },
    /// There is no connection, or none any more.
    Lost { message: String },
    /// It makes no sense to go on; nothing to do with the connection.
    Wrong { message: String },
    /// It may pass.
    Passing { message: String },
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let mut message = error.message().to_owned();
                if let Some(detail) =
                    error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::detail)
                {
                    message = format!("{message} ({detail})");
                }
                Trouble::Refused { code: error.code().unwrap_or_default().into_owned(), message }
            }
            sqlx::Error::Configuration(_) => {
                Trouble::Wrong { message: "the address of the database is not usable".into() }
            }
            error @ (sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_)) => {
                Trouble::Lost { message: super::super::chain(&error) }
            }
            error => Trouble::Wrong { message: super::super::chain(&error) },
        }
    }
}

impl Trouble {
    pub(super) fn wrong(message: impl Into<String>) -> Self {
        Trouble::Wrong { message: message.into() }
    }

    /// Whether another attempt makes sense.
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            // Busy, a lock not free in time, too slow, two at once, going down, coming up, too many connections, idle
            // for too long, a database in use.
            Trouble::Refused { code, .. } => match code.as_str() {
                "55P03" | "55006" | "57014" | "25P03" | "40001" | "40P01" => FailureKind::Retryable,
                code if ["53", "57P", "08"].iter().any(|class| code.starts_with(class)) => {
                    FailureKind::Retryable
                }
                _ => FailureKind::Permanent,
            },
            Trouble::Lost { .. } | Trouble::Passing { .. } => FailureKind::Retryable,
            Trouble::Wrong { .. } => FailureKind::Permanent,
        }
    }

    pub(super) fn is(&self, sqlstate: &str) -> bool {
        matches!(self, Trouble::Refused { code, .. } if code == sqlstate)
    }

    pub(super) fn words(&self) -> String {
        match self {
            Trouble::Refused { code, message } => match code.as_str() {
                "55P03" => {
                    format!("somebody holds a lock that was not free within `lock_timeout`: {message}")
                }
                "57014" => format!("it took longer than `statement_timeout`: {message}"),
                _ => format!("PostgreSQL refuses: {message} (SQLSTATE {code})"),
            },
            Trouble::Lost { message } => format!("no connection to PostgreSQL: {message}"),
            Trouble::Wrong { message } | Trouble::Passing { message } => message.clone(),
        }
    }
}

/// How long the time-outs that we set hold.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Limits {
    /// For the transaction, which also fits behind a pooler that gives each transaction another connection.
    Transaction,
    /// For the connection.
    Session,
}

impl Sql {
    /// Connects to the configured database, or to another one of the same server.
    pub(super) async fn connect(&self, database: Option<&str>) -> Result<PgConnection, Trouble> {
        let options = match database {
            Some(name) => self.options.clone().database(name),
            None => self.options.clone(),
        };
        match timeout(CONNECT_WITHIN, options.disable_statement_logging().connect()).await {
            Ok(connected) => Ok(connected?),
            Err(_) => Err(Trouble::Lost { message: format!("none within {} s", CONNECT_WITHIN.as_secs()) }),
        }
    }

    /// Sets the time-outs, none longer than what is left.
    pub(super) async fn limit(
        &self,
        connection: &mut PgConnection,
        deadline: Instant,
        limits: Limits,
    ) -> Result<(), Trouble> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let shown = |span: Duration| format!("{}ms", span.min(left).as_millis().max(1));
        sqlx::query(
            "SELECT set_config('lock_timeout', $1, $4), set_config('statement_timeout', $2, $4), \
             set_config('idle_in_transaction_session_timeout', $3, $4)",
        )
        .bind(shown(self.spec.lock_timeout.duration()))
        .bind(shown(self.spec.statement_timeout.duration()))
        .bind(format!("{}ms", IDLE.as_millis()))
        .bind(limits == Limits::Transaction)
        .persistent(false)
        .execute(&mut *connection)
        .await?;
        // From version 14 on: a statement whose client is gone ends, instead of holding its locks to its end.
        sqlx::query(
            "SELECT set_config(name, '1000', $1) FROM pg_settings WHERE name = 'client_connection_check_interval'",
        )
        .bind(limits == Limits::Transaction)
        .persistent(false)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Whether the row with our key is in a database.
    pub(super) async fn fenced(
        &self,
        database: Option<&str>,
        context: &Context,
        deadline: Instant,
    ) -> Result<bool, Trouble> {
        let mut connection = self.connect(database).await?;
        let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
        self.limit(&mut transaction, deadline, Limits::Transaction).await?;
        let mut there = false;
        if fence_exists(&mut transaction).await? {
            let row = sqlx::query("SELECT 1 FROM turnback_fence WHERE key = $1")
                .bind(&context.key)
                .persistent(false);
            there = row.fetch_optional(&mut *transaction).await?.is_some();
        }
        transaction.rollback().await?;
        goodbye(connection).await;
        Ok(there)
    }
}

async fn fence_exists(connection: &mut PgConnection) -> Result<bool, Trouble> {
    let row = sqlx::query("SELECT to_regclass('turnback_fence') IS NOT NULL").persistent(false);
    Ok(row.fetch_one(connection).await?.try_get(0)?)
}

/// Makes the table of fence rows, if it is missing. Committed at once, before the transaction that uses it: made inside
/// of it, a second attempt would wait for the table and not for the row.
pub(super) async fn make_fence(connection: &mut PgConnection) -> Result<(), Trouble> {
    if fence_exists(connection).await? {
        return Ok(());
    }
    match sqlx::query(FENCE).persistent(false).execute(connection).await.map_err(Trouble::from) {
        Ok(_) => Ok(()),
        // Somebody made it at the same time.
        Err(trouble) if trouble.is("23505") || trouble.is("42P07") => Ok(()),
        Err(trouble) if trouble.kind() == FailureKind::Retryable => Err(trouble),
        Err(trouble) => Err(Trouble::wrong(format!(
            "the table turnback_fence is missing and cannot be made ({}); make it: {FENCE}",
            trouble.words()
        ))),
    }
}

/// Writes the row with our key. False: it is there already.
pub(super) async fn fence(connection: &mut PgConnection, context: &Context) -> Result<bool, Trouble> {
    let inserted = sqlx::query(
        "INSERT INTO turnback_fence (key, plan, step) VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING",
    )
    .bind(&context.key)
    .bind(context.plan.as_str())
    .bind(context.step.as_str())
    .persistent(false)
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Ends a connection politely, if that is quick.
pub(super) async fn goodbye(connection: PgConnection) {
    if !matches!(timeout(GOODBYE, connection.close()).await, Ok(Ok(()))) {
        tracing::debug!("a connection to PostgreSQL did not end politely");
    }
}
