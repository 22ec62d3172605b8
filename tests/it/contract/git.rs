//! `git`: a repository behind `git daemon`, with hooks that refuse and a colleague who pushes.

use super::family::{Family, Row, Rule, Seen};
use anyhow::{Context, Result};
use rules::action::EffectClass;
use std::path::Path;
use tests::gate::{Gate, NetGate};
use tests::git::GitServer;

pub struct Git {
    server: GitServer,
    gate: Gate,
    port: u16,
}

impl Git {
    fn messages(&self) -> Result<Vec<String>> {
        Ok(self.server.log("main")?.into_iter().map(|commit| commit.message).collect())
    }
}

impl Family for Git {
    const ROW: Row = Row {
        name: "git",
        class: EffectClass::Lookup,
        undo: Rule::NotPossible(
            "history is never taken back: going forward again is a new commit, which is a person's to make",
        ),
        late: Rule::Kept,
        third_party: Rule::Kept,
        // A pack begins with it, and only a push sends one.
        effect: b"PACK\0\0\0\x02",
        // The push asks for the server's references with it, after the branch was looked at.
        between: b"git-receive-pack",
    };

    async fn set_up() -> Result<Git> {
        let mut server = GitServer::new()?;
        server.commit(&[("price.txt", "1\n")], "first")?;
        server.commit(&[("price.txt", "2\n")], "Raise the price")?;
        server.tag("v1.4.0")?;
        let address = server.serve().await?;
        let port = address.split(':').nth(2).and_then(|rest| rest.split('/').next());
        let gate = NetGate::start(port.context("an address with a port")?.parse()?).await?;
        Ok(Git { server, port: gate.port(), gate: Gate::Net(gate) })
    }

    fn action(&self) -> String {
        format!("git: {{ repository: 'git://127.0.0.1:{}/shop.git', branch: main, bad: v1.4.0 }}", self.port)
    }

    fn undo(&self) -> Option<String> {
        None
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }

    async fn seen(&self) -> Result<Seen> {
        let ours = |message: &&String| message.lines().any(|line| line.starts_with("Turnback-Key: "));
        Ok(Seen { applied: self.messages()?.iter().filter(ours).count(), undone: 0 })
    }

    async fn refuse(&self, refuse: bool) -> Result<()> {
        let script =
            if refuse { "echo no >> refused; echo 'frozen for the sale' >&2; exit 1" } else { "exit 0" };
        self.server.hook("pre-receive", script)
    }

    async fn refused(&self) -> Result<usize> {
        Ok(std::fs::read_to_string(Path::new(&self.server.path()).join("refused"))?.lines().count())
    }

    async fn meddle(&self) -> Result<()> {
        self.server.commit(&[("other.txt", "o\n")], "a colleague's work").map(drop)
    }

    async fn meddled(&self) -> Result<bool> {
        Ok(self.messages()?.iter().any(|message| message == "a colleague's work"))
    }
}
