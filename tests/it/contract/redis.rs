//! `redis`: a key that is set, and removed to undo it, counted by the server's own statistics.

use super::family::{Family, Row, Rule, Seen};
use anyhow::{Context, Result};
use rules::action::EffectClass;
use tests::gate::{Gate, NetGate};
use tests::redis::RedisServer;

pub struct Redis {
    server: RedisServer,
    gate: Gate,
    url: String,
}

impl Redis {
    /// A figure of `INFO`: zero if the server has nothing to tell of it yet, which it leaves out.
    async fn figure(&self, section: &str, begin: &str) -> Result<usize> {
        let info: String = self.server.say(&format!("INFO {section}")).await?;
        let Some(rest) = info.lines().find_map(|line| line.strip_prefix(begin)) else { return Ok(0) };
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().with_context(|| format!("{begin}{rest}"))
    }
}

impl Family for Redis {
    const ROW: Row = Row {
        name: "redis",
        class: EffectClass::Lookup,
        undo: Rule::Kept,
        late: Rule::NotPossible(
            "a SET that arrives late sets the same value again: two commands, and the state of one",
        ),
        third_party: Rule::NotPossible(
            "a key is set or it is not: what it held does not matter to the step, and Redis' SET asks for no precondition",
        ),
        effect: b"$3\r\nSET\r\n",
        between: b"",
    };

    async fn set_up() -> Result<Redis> {
        let server = RedisServer::start(&[]).await?;
        let direct = server.url();
        let port: u16 = direct
            .rsplit(':')
            .next()
            .and_then(|rest| rest.split('/').next())
            .context("an address with a port")?
            .parse()?;
        let gate = NetGate::start(port).await?;
        let url = direct.replace(&format!(":{port}/"), &format!(":{}/", gate.port()));
        Ok(Redis { server, gate: Gate::Net(gate), url })
    }

    fn action(&self) -> String {
        "redis: { url: { env: SHOP_REDIS }, operation: { set: { key: 'flags:checkout', value: 'off' } } }"
            .into()
    }

    fn undo(&self) -> Option<String> {
        Some("redis: { url: { env: SHOP_REDIS }, operation: { delete: { key: 'flags:checkout' } } }".into())
    }

    fn secrets(&self) -> Vec<(&'static str, String)> {
        vec![("SHOP_REDIS", self.url.clone())]
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }

    async fn seen(&self) -> Result<Seen> {
        // Refused ones are counted elsewhere.
        let applied = self.figure("commandstats", "cmdstat_set:calls=").await?;
        // Every change counts here, and nothing that changed nothing.
        let changes = self.figure("persistence", "rdb_changes_since_last_save:").await?;
        let undone = changes.checked_sub(applied).context("more was set than was changed")?;
        Ok(Seen { applied, undone })
    }

    async fn refuse(&self, refuse: bool) -> Result<()> {
        self.server.say::<()>(if refuse { "REPLICAOF 127.0.0.1 1" } else { "REPLICAOF NO ONE" }).await
    }

    async fn refused(&self) -> Result<usize> {
        self.figure("errorstats", "errorstat_READONLY:count=").await
    }

    async fn meddle(&self) -> Result<()> {
        anyhow::bail!("what the key held does not matter")
    }

    async fn meddled(&self) -> Result<bool> {
        Ok(false)
    }
}
