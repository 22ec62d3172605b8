//! `sql`: counters in a PostgreSQL database that only a transaction with a fence row moves.

use super::family::{Family, Row, Rule, Seen};
use anyhow::{Context, Result};
use rules::action::EffectClass;
use tests::gate::{Gate, NetGate};
use tests::postgres::PostgresServer;

pub struct Sql {
    server: PostgresServer,
    gate: Gate,
    port: u16,
}

/// A sequence forgets nothing, not even what was rolled back.
const TABLES: &str = "CREATE SEQUENCE refusals; CREATE TABLE mode (refuses boolean); INSERT INTO mode VALUES (false); \
    CREATE TABLE counter (name text PRIMARY KEY, owner text, n int); \
    INSERT INTO counter VALUES ('apply', 'nobody', 0), ('undo', 'nobody', 0); \
    CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
      IF NEW.owner = OLD.owner AND (SELECT refuses FROM mode) THEN \
        PERFORM nextval('refusals'); RAISE EXCEPTION 'frozen for the sale'; END IF; RETURN NEW; END $$; \
    CREATE TRIGGER guard BEFORE UPDATE ON counter FOR EACH ROW EXECUTE FUNCTION guard()";

impl Sql {
    async fn number(&self, query: &str) -> Result<usize> {
        let value = self.server.value("shop", query).await?;
        value.with_context(|| format!("{query} gave nothing"))?.parse().context("reading a number")
    }

    fn add(&self, name: &str) -> String {
        format!(
            "sql: {{ url: {{ env: SHOP_DATABASE }}, operation: {{ statement: {{ statements: [{{ sql: \
             'UPDATE counter SET n = n + 1 WHERE name = $1 AND owner = $2', parameters: [{name}, nobody], rows: 1 }}] }} }} }}"
        )
    }
}

impl Family for Sql {
    const ROW: Row = Row {
        name: "sql",
        class: EffectClass::Lookup,
        undo: Rule::Kept,
        late: Rule::Kept,
        third_party: Rule::Kept,
        effect: b"COMMIT\0",
        // The statement is on its way: the fence row stands, the row to be changed is not locked yet.
        between: b"UPDATE counter",
    };

    async fn set_up() -> Result<Sql> {
        let server = PostgresServer::start().await?;
        server.run("shop", TABLES).await?;
        let gate = NetGate::start(server.port()).await?;
        Ok(Sql { server, port: gate.port(), gate: Gate::Net(gate) })
    }

    fn action(&self) -> String {
        self.add("apply")
    }

    fn undo(&self) -> Option<String> {
        Some(self.add("undo"))
    }

    fn secrets(&self) -> Vec<(&'static str, String)> {
        vec![("SHOP_DATABASE", self.server.url_through(self.port, "shop"))]
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }

    async fn seen(&self) -> Result<Seen> {
        let applied = self.number("SELECT n FROM counter WHERE name = 'apply'").await?;
        let undone = self.number("SELECT n FROM counter WHERE name = 'undo'").await?;
        if applied + undone > 0 {
            let fences = self.number("SELECT count(*) FROM turnback_fence").await?;
            anyhow::ensure!(
                fences == applied + undone,
                "{fences} fence rows for {applied} + {undone} effects"
            );
        }
        Ok(Seen { applied, undone })
    }

    async fn refuse(&self, refuse: bool) -> Result<()> {
        self.server.run("shop", &format!("UPDATE mode SET refuses = {refuse} WHERE true")).await
    }

    async fn refused(&self) -> Result<usize> {
        self.number("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM refusals").await
    }

    async fn meddle(&self) -> Result<()> {
        self.server.run("shop", "UPDATE counter SET owner = 'petra' WHERE name = 'apply'").await
    }

    async fn meddled(&self) -> Result<bool> {
        Ok(self.number("SELECT count(*) FROM counter WHERE owner = 'petra'").await? == 1)
    }
}
