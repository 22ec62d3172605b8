//! Which migrations are applied, read from the tables of the tools themselves.

use super::Sql;
use super::session::{Limits, Trouble, goodbye};
use rules::action::sql::{MigrationTool, MigrationsCheck};
use rules::action::sql_text::quoted;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tokio::time::Instant;

/// Rows read of a table of migrations. Projects of ten years have a few thousand.
const MOST_ROWS: usize = 20_000;

/// What a tool's table says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigrationState {
    /// The applied versions, the oldest first.
    pub applied: Vec<String>,
    /// The last of them.
    pub newest: Option<String>,
    /// Versions that failed half way.
    pub dirty: Vec<String>,
}

/// A tool's table.
pub(super) struct Table {
    tool: MigrationTool,
    name: String,
}

impl Table {
    pub(super) fn of(tool: MigrationTool, name: Option<&str>) -> Self {
        let name = name.unwrap_or(match tool {
            MigrationTool::Sqlx => "_sqlx_migrations",
            MigrationTool::GolangMigrate | MigrationTool::Dbmate | MigrationTool::Rails => {
                "schema_migrations"
            }
            MigrationTool::Drizzle => "drizzle.__drizzle_migrations",
        });
        Self { tool, name: name.split('.').map(quoted).collect::<Vec<_>>().join(".") }
    }

    fn column(&self) -> &'static str {
        match self.tool {
            MigrationTool::Drizzle => "created_at",
            _ => "version",
        }
    }

    /// Whether it failed half way, as SQL.
    fn dirty(&self) -> &'static str {
        match self.tool {
            MigrationTool::Sqlx => "NOT success",
            MigrationTool::GolangMigrate => "dirty",
            MigrationTool::Dbmate | MigrationTool::Rails | MigrationTool::Drizzle => "false",
        }
    }

    /// Keeps the tool itself out until the transaction ends.
    pub(super) async fn lock(&self, connection: &mut PgConnection) -> Result<(), Trouble> {
        let sql = format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", self.name);
        sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(connection).await?;
        Ok(())
    }

    /// Takes a version out of the table.
    pub(super) async fn forget(
        &self,
        connection: &mut PgConnection,
        version: &str,
        previous: Option<&str>,
    ) -> Result<(), Trouble> {
        let (name, column) = (&self.name, self.column());
        let sql = match previous {
            // One row that knows the current version.
            Some(_) => format!("UPDATE {name} SET version = $2::bigint WHERE version::text = $1"),
            None => format!("DELETE FROM {name} WHERE {column}::text = $1"),
        };
        let query = sqlx::query(AssertSqlSafe(sql)).bind(version).persistent(false);
        let query = match previous {
            Some(previous) => query.bind(previous),
            None => query,
        };
        match query.execute(connection).await?.rows_affected() {
            1 => Ok(()),
            other => Err(Trouble::wrong(format!(
                "{other} rows of {name} are of version {version}; all is taken back"
            ))),
        }
    }
}

/// Reads a tool's table. `table` is its name if it is not the tool's own, `schema.table`.
///
/// # Errors
/// If there is no such table, it is another tool's, or it cannot be read.
pub async fn read(
    connection: &mut PgConnection,
    tool: MigrationTool,
    table: Option<&str>,
) -> Result<MigrationState, sqlx::Error> {
    let table = Table::of(tool, table);
    let (name, column, dirty) = (&table.name, table.column(), table.dirty());
    let sql = format!("SELECT {column}::text, {dirty} FROM {name} LIMIT {}", MOST_ROWS + 1);
    let rows = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_all(connection).await?;
    if rows.len() > MOST_ROWS {
        return Err(sqlx::Error::Decode(format!("{name} has more than {MOST_ROWS} rows").into()));
    }
    let mut state = MigrationState::default();
    for row in rows {
        // Drizzle's column may be NULL in hand-made rows.
        let Some(version) = row.try_get::<Option<String>, _>(0)? else { continue };
        let failed: bool = row.try_get(1)?;
        if failed { &mut state.dirty } else { &mut state.applied }.push(version);
    }
    state.applied.sort_by_key(|version| order(version));
    state.newest = state.applied.last().cloned();
    Ok(state)
}

/// Versions are numbers, of different lengths perhaps; whatever else somebody uses comes in the order of its text.
fn order(version: &str) -> (u128, String) {
    (version.parse().unwrap_or(u128::MAX), version.to_owned())
}

impl Sql {
    /// What the table says, as expected (`Ok`) or not.
    pub(super) async fn migrations_as_expected(
        &self,
        check: &MigrationsCheck,
        deadline: Instant,
    ) -> Result<Result<String, String>, Trouble> {
        let mut connection = self.connect(None).await?;
        let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
        self.limit(&mut transaction, deadline, Limits::Transaction).await?;
        let state = read(&mut transaction, check.tool, check.table.as_deref()).await?;
        transaction.rollback().await?;
        goodbye(connection).await;
        Ok(compare(check, &state))
    }
}

fn compare(check: &MigrationsCheck, state: &MigrationState) -> Result<String, String> {
    let newest = state.newest.as_deref().unwrap_or("none");
    let summary = format!("{} migrations are applied, the newest is {newest}", state.applied.len());
    if let Some(dirty) = state.dirty.first() {
        return Err(format!("{summary}; {dirty} failed half way"));
    }
    if let Some(expected) = check.newest.as_deref().filter(|expected| *expected != newest) {
        return Err(format!("{summary}; it should be {expected}"));
    }
    if let Some(missing) = check.applied.iter().find(|version| !state.applied.contains(version)) {
        return Err(format!("{summary}; {missing} is not applied and should be"));
    }
    if let Some(extra) = check.absent.iter().find(|version| state.applied.contains(version)) {
        return Err(format!("{summary}; {extra} is applied and should not be"));
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_numbers_where_they_are() {
        let mut versions = ["10", "9", "20240101120000", "x", "009"].map(str::to_owned);
        versions.sort_by_key(|version| order(version));
        assert_eq!(versions, ["009", "9", "10", "20240101120000", "x"]);
    }

    #[test]
    fn each_expectation_is_held_against_the_table() {
        let state = MigrationState {
            applied: vec!["1".into(), "2".into()],
            newest: Some("2".into()),
            dirty: Vec::new(),
        };
        let check = |newest: Option<&str>, applied: &[&str], absent: &[&str]| {
            let list = |all: &[&str]| all.iter().map(|one| one.to_string()).collect();
            let check = MigrationsCheck {
                tool: MigrationTool::Rails,
                table: None,
                newest: newest.map(str::to_owned),
                applied: list(applied),
                absent: list(absent),
            };
            compare(&check, &state).is_ok()
        };
        assert!(check(Some("2"), &["1", "2"], &["3"]));
        assert!(!check(Some("1"), &[], &[]) && !check(None, &["3"], &[]) && !check(None, &[], &["1"]));
        let dirty = MigrationState { dirty: vec!["3".into()], ..state.clone() };
        let any = MigrationsCheck {
            tool: MigrationTool::Sqlx,
            table: None,
            newest: Some("2".into()),
            applied: Vec::new(),
            absent: Vec::new(),
        };
        assert!(compare(&any, &dirty).unwrap_err().contains("3 failed half way"));
    }
}
