//! Exit codes: documented, stable, and the same for every command, so that a pipeline can branch on them.

use super::client::ClientError;
use crate::app::CannotStart;
use crate::config::CheckReport;
use crate::ledger::LedgerError;
use std::process::ExitCode;

/// The table of codes, below the help of the program.
pub(super) const HELP: &str = "\
Exit codes:
  0 healthy or done                    5 rollback failed, partial or stuck
  1 degraded, or the ledger is broken  6 approval pending or refused
  2 wrong usage                        7 cannot reach the daemon
  3 inconclusive: cannot be told       78 bad configuration, or cannot start
  4 blind: telemetry is broken         130 interrupted";

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Healthy, or done.
    Done,
    /// A rollback is advised or done; a ledger is broken.
    Degraded,
    /// The command was called wrongly: an unknown name, a missing token, a file that is not there.
    Usage,
    /// It could not be told.
    Inconclusive,
    /// Telemetry is broken.
    Blind,
    /// The rollback failed, is partial or stuck, or nobody can tell whether it helped.
    RollbackFailed,
    /// An approval is pending, or what was asked for is refused.
    Refused,
    /// The daemon cannot be reached, or does not answer like one.
    Unreachable,
    /// The configuration is bad, or the daemon cannot start with it here: its port or its ledger is in use, a secret is
    /// not there (`EX_CONFIG` of sysexits.h).
    BadConfiguration,
    /// Ended by Ctrl-C (128 + SIGINT, as shells count).
    Interrupted,
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Degraded => 1,
            Exit::Usage => 2,
            Exit::Inconclusive => 3,
            Exit::Blind => 4,
            Exit::RollbackFailed => 5,
            Exit::Refused => 6,
            Exit::Unreachable => 7,
            Exit::BadConfiguration => 78,
            Exit::Interrupted => 130,
        }
    }

    /// What an error stands for: the first cause that says so decides. One that nobody classified says nothing about any
    /// service, so it is "cannot be told", never "healthy" and never "degraded".
    pub fn of(error: &anyhow::Error) -> Exit {
        let classified = |cause: &(dyn std::error::Error + 'static)| {
            if let Some(failure) = cause.downcast_ref::<Failure>() {
                return Some(failure.exit);
            }
            if let Some(client) = cause.downcast_ref::<ClientError>() {
                return Some(client.exit());
            }
            if cause.is::<CheckReport>() {
                return Some(Exit::BadConfiguration);
            }
            cause.downcast_ref::<LedgerError>().and_then(of_ledger)
        };
        // That it did not start says least: a ledger found broken at the start is broken.
        let start = || error.is::<CannotStart>().then_some(Exit::BadConfiguration);
        error.chain().find_map(classified).or_else(start).unwrap_or(Exit::Inconclusive)
    }
}

fn of_ledger(error: &LedgerError) -> Option<Exit> {
    match error {
        LedgerError::Corrupt { .. } | LedgerError::Regressed { .. } | LedgerError::BrokenChain { .. } => {
            Some(Exit::Degraded)
        }
        LedgerError::Missing { .. } | LedgerError::NotMigrated { .. } | LedgerError::FromTheFuture { .. } => {
            Some(Exit::Usage)
        }
        _ => None,
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Something that stands against a command, found by the command itself.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub(super) struct Failure {
    exit: Exit,
    words: String,
}

impl Failure {
    pub(super) fn new(exit: Exit, words: impl Into<String>) -> Self {
        Self { exit, words: words.into() }
    }

    pub(super) fn usage(words: impl Into<String>) -> Self {
        Self::new(Exit::Usage, words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn the_codes_are_those_of_the_documentation() {
        let codes = [
            (Exit::Done, 0),
            (Exit::Degraded, 1),
            (Exit::Usage, 2),
            (Exit::Inconclusive, 3),
            (Exit::Blind, 4),
            (Exit::RollbackFailed, 5),
            (Exit::Refused, 6),
            (Exit::Unreachable, 7),
            (Exit::BadConfiguration, 78),
            (Exit::Interrupted, 130),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code, "{exit:?}");
            assert!(HELP.contains(&format!("{code} ")), "the help leaves out {code}");
        }
    }

    #[test]
    fn an_error_keeps_its_code_under_any_context() {
        let missing = || LedgerError::Missing { path: "/x".into() };
        let broken = || LedgerError::BrokenChain { sequence: 3, reason: "edited".into() };
        let cases = [
            (anyhow!("nobody classified this"), Exit::Inconclusive),
            (anyhow!(Failure::usage("no such name")), Exit::Usage),
            (anyhow!(Failure::new(Exit::Interrupted, "x")), Exit::Interrupted),
            (anyhow!(missing()), Exit::Usage),
            (anyhow!(broken()), Exit::Degraded),
            (anyhow!(broken()).context(CannotStart), Exit::Degraded),
            (anyhow!("cannot listen").context(CannotStart), Exit::BadConfiguration),
            (anyhow!(CheckReport { problems: Vec::new(), cut: false }), Exit::BadConfiguration),
            (anyhow!(LedgerError::ReadOnly), Exit::Inconclusive),
            (anyhow!(ClientError::Refused { words: "no".into() }), Exit::Refused),
        ];
        for (error, exit) in cases {
            let shown = error.to_string();
            assert_eq!(Exit::of(&error.context("outer").context("outermost")), exit, "{shown}");
        }
    }
}
