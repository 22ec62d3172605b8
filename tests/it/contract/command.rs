//! `command`: a program that writes into a journal and knows idempotency keys.

use super::family::{Family, Row, Rule, Seen};
use anyhow::Result;
use rules::action::EffectClass;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tests::gate::{FileGate, Gate, Mode};
use tests::{binaries, journal};

pub struct Command {
    folder: TempDir,
    gate: Gate,
}

impl Command {
    fn journal(&self) -> PathBuf {
        self.folder.path().join("effects")
    }

    fn program(&self, name: &str, key: &str, gate: Option<&Path>) -> String {
        let effect = binaries::path("effect").expect("the tests' programs are built with the tests");
        let gate = gate.map_or(String::new(), |gate| format!(", --gate, '{}'", gate.display()));
        format!(
            "command: {{ argv: ['{}', --journal, '{}', --name, {name}, --plan, '{{{{plan}}}}', --key, '{key}', \
             --once-per-key{gate}], retryable: [75] }}",
            effect.display(),
            self.journal().display()
        )
    }
}

impl Family for Command {
    const ROW: Row = Row {
        name: "command",
        class: EffectClass::Keyed,
        undo: Rule::Kept,
        late: Rule::NotPossible(
            "a program that is given up is killed with everything that it started, so that nothing of it can arrive",
        ),
        third_party: Rule::NotPossible(
            "the agent does not see what a program reads before it writes; holding on to it is the program's own part",
        ),
        effect: b"",
        between: b"",
    };

    async fn set_up() -> Result<Command> {
        let folder = tempfile::tempdir()?;
        let gate = Gate::File(FileGate::new(folder.path()));
        let command = Command { folder, gate };
        journal::create(&command.journal())?;
        Ok(command)
    }

    fn action(&self) -> String {
        self.program("apply", "{{key}}", Some(self.folder.path()))
    }

    fn undo(&self) -> Option<String> {
        Some(self.program("undo", "{{key}}-undo", None))
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }

    async fn seen(&self) -> Result<Seen> {
        let effects = journal::read(&self.journal())?;
        let count = |name: &str| effects.iter().filter(|effect| effect.name == name).count();
        Ok(Seen { applied: count("apply"), undone: count("undo") })
    }

    async fn refuse(&self, refuse: bool) -> Result<()> {
        if refuse { self.gate.arm(b"", Mode::Refuse) } else { Ok(()) }
    }

    async fn refused(&self) -> Result<usize> {
        Ok(self.gate.hits())
    }

    async fn meddle(&self) -> Result<()> {
        anyhow::bail!("nobody else writes into the journal")
    }

    async fn meddled(&self) -> Result<bool> {
        Ok(false)
    }
}
