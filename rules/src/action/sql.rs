//! PostgreSQL: migrations taken back, statements, checks, and backups restored beside the live database.
//!
//! Every change is one transaction together with a row in the table `turnback_fence` that carries the step's key. Either
//! both are there or neither is, so that a lost `COMMIT` can be looked up, and two attempts at once cannot both succeed.
//!
//! The text of a statement comes from the configuration and from nowhere else. What an event may choose (a version, a
//! service) is a bound parameter, or a name out of a list that the configuration gives.

mod problems;

pub use problems::down_text_problem;

use super::{EffectClass, Reversibility, SecretRef};
use crate::action::sql_text::{BadSql, Statement, statements};
use crate::runbook::{BadTemplate, Values, fill};
use crate::units::Span;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// One operation on one PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlSpec {
    /// Where the address is: `postgres://user:password@host:port/database?sslmode=verify-full`.
    pub url: SecretRef,
    /// What is done.
    pub operation: SqlOperation,
    /// How long a lock is waited for. Short: who waits for a lock makes everybody behind wait, too.
    #[serde(default = "lock_timeout")]
    pub lock_timeout: Span,
    /// How long one statement may run; never longer than what is left of the step's time.
    #[serde(default = "statement_timeout")]
    pub statement_timeout: Span,
}

fn lock_timeout() -> Span {
    Span::from_seconds(5)
}

fn statement_timeout() -> Span {
    Span::from_minutes(1)
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SqlOperation {
    /// Looks which migrations are applied. Changes nothing.
    Migrations(MigrationsCheck),
    /// Takes the newest migration back.
    Down(DownMigration),
    /// Runs statements, all or none.
    Statement(SqlStatements),
    /// Asks a question and compares the answer. Changes nothing.
    Check(SqlCheck),
    /// Sets or takes away a flag that an application reads, such as its maintenance mode.
    Maintenance(MaintenanceSwitch),
    /// Writes a dump into a directory of the agent's computer.
    Backup(Backup),
    /// Restores a dump into a new database. The live one is not touched.
    Restore(Restore),
    /// Puts a restored database into the place of the live one, which is kept under another name.
    Swap(Swap),
}

/// Whose table of applied migrations it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationTool {
    /// `_sqlx_migrations`.
    Sqlx,
    /// `schema_migrations` with one row and a `dirty` mark.
    GolangMigrate,
    /// `schema_migrations` with a row for each version.
    Dbmate,
    /// `schema_migrations` as Rails keeps it; Supabase's with `table: supabase_migrations.schema_migrations`.
    Rails,
    /// `drizzle.__drizzle_migrations`; a version is its `created_at`.
    Drizzle,
}

/// What must hold of the applied migrations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationsCheck {
    /// The tool.
    pub tool: MigrationTool,
    /// Its table, if it is not where the tool keeps it: `schema.table`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The newest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// Those that are applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub applied: Vec<String>,
    /// Those that are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
}

/// One migration to be taken back: its down statements and its row, in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DownMigration {
    /// The tool.
    pub tool: MigrationTool,
    /// Its table, if it is not where the tool keeps it: `schema.table`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The version. It must be the newest that is applied.
    pub version: String,
    /// The version before it. Only `golang_migrate` needs it, whose table knows one version; without it the table is
    /// empty afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// The down statements; either these or a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// A file of the agent's computer with the down statements. Of a file with `-- migrate:up` and `-- migrate:down` the
    /// part that goes down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The file's SHA-256 in hexadecimal digits: with it what was approved is what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Statements that are run in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlStatements {
    /// In this order. A statement that PostgreSQL refuses inside of transactions stands alone, in a step of class
    /// `one_shot`.
    pub statements: Vec<SqlText>,
}

/// One statement with its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlText {
    /// The text, without placeholders. Values stand as `$1`, `$2` …, names as `${name}`.
    pub sql: String,
    /// The values: texts (placeholders are filled in), numbers, `true`, `false`, `null`. Cast where another type is
    /// meant: `$1::uuid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Value>,
    /// The names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub identifiers: BTreeMap<String, Identifier>,
    /// How many rows it must change; with another number everything is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
}

/// The name of a table, column or schema that a placeholder may choose from a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identifier {
    /// The name; placeholders are filled in.
    pub name: String,
    /// The names that it may be.
    pub one_of: Vec<String>,
}

/// A question and its right answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlCheck {
    /// A `SELECT`. The first value of its first row counts.
    pub ask: SqlText,
    /// What that value must be, as text.
    #[serde(default = "yes")]
    pub equals: String,
    /// The role in which it is asked: row-level security shows a superuser everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Settings while it is asked, such as `request.jwt.claims`; placeholders are filled in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

fn yes() -> String {
    "true".into()
}

/// A flag in the database, with both ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaintenanceSwitch {
    /// Which way.
    pub turn: Turn,
    /// A `SELECT` that says `true` if the flag is set.
    pub is_set: SqlText,
    /// Sets it.
    pub set: SqlText,
    /// Takes it away.
    pub unset: SqlText,
}

/// Which way a flag is turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// It is set.
    Set,
    /// It is taken away.
    Unset,
}

/// A dump of the whole database, in PostgreSQL's own format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backup {
    /// Where it is written: `DIRECTORY/NAME-KEY.dump`, with its SHA-256 beside.
    pub directory: String,
    /// What its name begins with.
    pub name: String,
    /// How many dumps of this name are kept; the oldest go once a new one is complete.
    #[serde(default = "ten")]
    pub keep: u32,
    /// The directory of `pg_dump`.
    #[serde(default = "programs")]
    pub programs: String,
}

fn ten() -> u32 {
    10
}

fn programs() -> String {
    "/usr/bin".into()
}

/// A dump restored into a database that did not exist before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The dump. If `FILE.sha256` is beside it, it must match.
    pub file: String,
    /// How old it may be.
    #[serde(default = "a_day")]
    pub max_age: Span,
    /// The new database's name: small letters, digits, `_` and `-`.
    pub into: String,
    /// What must hold in it before it counts as restored.
    pub checks: Vec<SqlCheck>,
    /// The directory of `pg_restore`.
    #[serde(default = "programs")]
    pub programs: String,
    /// A database of the same server to connect to while the new one is made.
    #[serde(default = "postgres")]
    pub maintenance_database: String,
}

fn a_day() -> Span {
    Span::from_minutes(24 * 60)
}

fn postgres() -> String {
    "postgres".into()
}

/// Two databases that change names, in one transaction. Whoever is connected to the live one is cut off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// The database that applications use.
    pub live: String,
    /// The database that takes its place.
    pub restored: String,
    /// The name under which the live one is kept.
    pub keep_as: String,
    /// What must hold in the restored one, asked again right before.
    pub checks: Vec<SqlCheck>,
    /// A database of the same server to connect to while the two change names.
    #[serde(default = "postgres")]
    pub maintenance_database: String,
}

impl SqlSpec {
    /// One line that says exactly what will be done, without secrets.
    pub fn words(&self) -> String {
        let rows =
            |many: usize| if many == 1 { "1 statement".to_owned() } else { format!("{many} statements") };
        match &self.operation {
            SqlOperation::Migrations(_) => "sql: check which migrations are applied".into(),
            SqlOperation::Down(down) => {
                let from = down.file.as_deref().unwrap_or("the runbook's own statements");
                format!("sql: take migration {} back, by {from}", down.version)
            }
            SqlOperation::Statement(all) => {
                let texts: Vec<String> = all.statements.iter().map(SqlText::words).collect();
                format!("sql: {}: {}", rows(texts.len()), texts.join("; "))
            }
            SqlOperation::Check(check) => {
                format!("sql: check that {} is {}", check.ask.words(), check.equals)
            }
            SqlOperation::Maintenance(switch) => format!("sql: {}", switch.chosen().words()),
            SqlOperation::Backup(backup) => {
                format!("sql: dump to {}/{}-KEY.dump, keep {}", backup.directory, backup.name, backup.keep)
            }
            SqlOperation::Restore(restore) => {
                format!("sql: restore {} into the new database {}", restore.file, restore.into)
            }
            SqlOperation::Swap(swap) => format!(
                "sql: rename database {} to {} and {} to {}",
                swap.live, swap.keep_as, swap.restored, swap.live
            ),
        }
    }

    /// The secrets, each with its key below `sql.`.
    pub fn secrets(&self) -> Vec<(String, &SecretRef)> {
        vec![("url".into(), &self.url)]
    }

    /// With every placeholder filled in.
    pub fn filled(&self, values: &Values) -> Result<Self, BadTemplate> {
        let plain = |text: &String| fill(text, values, str::to_owned);
        let maybe = |text: &Option<String>| text.as_ref().map(plain).transpose();
        let list = |texts: &[String]| texts.iter().map(plain).collect::<Result<Vec<_>, _>>();
        let checks =
            |all: &[SqlCheck]| all.iter().map(|one| one.filled(values)).collect::<Result<Vec<_>, _>>();
        let operation = match &self.operation {
            SqlOperation::Migrations(check) => SqlOperation::Migrations(MigrationsCheck {
                newest: maybe(&check.newest)?,
                applied: list(&check.applied)?,
                absent: list(&check.absent)?,
                ..check.clone()
            }),
            SqlOperation::Down(down) => SqlOperation::Down(DownMigration {
                version: plain(&down.version)?,
                previous: maybe(&down.previous)?,
                file: maybe(&down.file)?,
                ..down.clone()
            }),
            SqlOperation::Statement(all) => {
                let statements = all.statements.iter().map(|one| one.filled(values));
                SqlOperation::Statement(SqlStatements { statements: statements.collect::<Result<_, _>>()? })
            }
            SqlOperation::Check(check) => SqlOperation::Check(check.filled(values)?),
            SqlOperation::Maintenance(switch) => SqlOperation::Maintenance(MaintenanceSwitch {
                turn: switch.turn,
                is_set: switch.is_set.filled(values)?,
                set: switch.set.filled(values)?,
                unset: switch.unset.filled(values)?,
            }),
            SqlOperation::Backup(backup) => SqlOperation::Backup(backup.clone()),
            SqlOperation::Restore(restore) => SqlOperation::Restore(Restore {
                file: plain(&restore.file)?,
                into: plain(&restore.into)?,
                checks: checks(&restore.checks)?,
                ..restore.clone()
            }),
            SqlOperation::Swap(swap) => SqlOperation::Swap(Swap {
                live: plain(&swap.live)?,
                restored: plain(&swap.restored)?,
                keep_as: plain(&swap.keep_as)?,
                checks: checks(&swap.checks)?,
                ..swap.clone()
            }),
        };
        Ok(Self { operation, ..self.clone() })
    }

    /// Everything wrong with it, each with the path of its key, which begins with `at`.
    pub fn problems(&self, at: &str) -> Vec<(String, String)> {
        problems::of_spec(self, at)
    }

    /// What does not go together with what the step says about itself.
    pub fn step_problems(&self, at: &str, class: EffectClass, risk: Reversibility) -> Vec<(String, String)> {
        problems::of_step(self, at, class, risk)
    }
}

impl SqlText {
    fn words(&self) -> String {
        let text = self.sql.split_whitespace().collect::<Vec<_>>().join(" ");
        if self.parameters.is_empty() {
            return text;
        }
        let values: Vec<String> = self.parameters.iter().map(Value::to_string).collect();
        format!("{text} [{}]", values.join(", "))
    }

    fn filled(&self, values: &Values) -> Result<Self, BadTemplate> {
        let plain = |text: &String| fill(text, values, str::to_owned);
        let parameters = self.parameters.iter().map(|value| match value {
            Value::String(text) => Ok(Value::String(plain(text)?)),
            other => Ok(other.clone()),
        });
        let identifiers = self.identifiers.iter().map(|(key, one)| {
            Ok((key.clone(), Identifier { name: plain(&one.name)?, one_of: one.one_of.clone() }))
        });
        Ok(Self {
            sql: self.sql.clone(),
            parameters: parameters.collect::<Result<_, BadTemplate>>()?,
            identifiers: identifiers.collect::<Result<_, BadTemplate>>()?,
            rows: self.rows,
        })
    }

    /// Its statements as they can be read.
    pub fn statements(&self) -> Result<Vec<Statement>, BadSql> {
        statements(&self.sql)
    }

    /// The text to be run, with its names quoted. Errors: not one statement; a name that is not in its list.
    pub fn resolved(&self) -> Result<String, String> {
        let read = self.statements().map_err(|error| error.to_string())?;
        let [statement] = read.as_slice() else {
            return Err(format!("holds {} statements and must hold one", read.len()));
        };
        for (key, one) in &self.identifiers {
            if !one.one_of.contains(&one.name) {
                return Err(format!(
                    "${{{key}}} is {:?}, which is not among {}",
                    one.name,
                    one.one_of.join(", ")
                ));
            }
        }
        let named = |key: &str| self.identifiers.get(key).map(|one| one.name.clone());
        crate::action::sql_text::with_identifiers(statement, named)
    }
}

impl SqlCheck {
    fn filled(&self, values: &Values) -> Result<Self, BadTemplate> {
        let settings =
            self.settings.iter().map(|(name, text)| Ok((name.clone(), fill(text, values, str::to_owned)?)));
        Ok(Self {
            ask: self.ask.filled(values)?,
            equals: fill(&self.equals, values, str::to_owned)?,
            role: self.role.clone(),
            settings: settings.collect::<Result<_, BadTemplate>>()?,
        })
    }
}

impl MaintenanceSwitch {
    /// The statement that is run.
    pub fn chosen(&self) -> &SqlText {
        match self.turn {
            Turn::Set => &self.set,
            Turn::Unset => &self.unset,
        }
    }
}
