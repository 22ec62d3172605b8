//! Tools of ours: programs that an action runs for itself (`git`, `pg_dump`) and whose answer it reads.
//!
//! The life is that of a [`command`](super::command) step: exact arguments, no shell, a clean environment, a process
//! group that ends with the agent, the kill switch and a deadline. What differs is the output: the answer on standard
//! output is kept as it is, for the action to read, and apart from what the tool says to people on standard error.

use super::command::{Ending, PATH, kind_of, signal_words, until_ended};
use super::output::{Capture, line};
use super::process::Group;
use super::{Context, chain};
use crate::secrets::{Redactor, Secret};
use rules::action::FailureKind;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::time::{Instant, timeout};

/// As much of an answer as is read. Fifty commits, a thousand references or a list of conflicts fit many times.
const LONGEST_ANSWER: usize = 1024 * 1024;
/// How long the outputs are read after the program ended; as for commands.
const DRAIN: Duration = Duration::from_secs(1);

/// One tool, where it runs and with which environment.
#[derive(Default)]
pub(super) struct Program {
    /// The absolute path, or a name to be found on the system's own `PATH`.
    pub(super) name: PathBuf,
    /// Variables beside `PATH` and `LANG`.
    pub(super) environment: BTreeMap<String, String>,
    /// Variables that hold secrets.
    pub(super) secrets: BTreeMap<String, Secret>,
    /// Where it runs.
    pub(super) directory: PathBuf,
    /// Taken out of what it says.
    pub(super) redactor: Redactor,
}

/// What a tool answered.
#[derive(Debug)]
pub(super) struct Ran {
    /// Its exit code.
    pub(super) code: i32,
    /// Standard output, as it came.
    pub(super) answer: Vec<u8>,
    /// Standard error, bounded, readable, without secrets.
    pub(super) said: String,
}

impl Ran {
    /// The answer as text; what is no UTF-8 is replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It never ran.
    NotStarted { kind: FailureKind, reason: String },
    /// It was ended, by us or by a signal. What it was doing may have been done.
    Ended { reason: String, said: String },
}

impl Program {
    /// Runs it to its end. Dropping the future kills it.
    pub(super) async fn run(
        &self,
        arguments: &[&str],
        context: &Context,
        deadline: Instant,
    ) -> Result<Ran, Trouble> {
        let (group, mut child) = self.start(arguments)?;
        let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
            let reason = "its output is not connected".to_owned();
            return Err(Trouble::NotStarted { kind: FailureKind::Permanent, reason });
        };
        let (mut answer, mut said) = (Answer::default(), Capture::default());
        let ending = {
            let reading = async {
                tokio::join!(answer.read(&mut stdout), read_words(&mut said, &mut stderr));
            };
            tokio::pin!(reading);
            let mut open = true;
            let ending = {
                let ended = until_ended(&mut child, &group, context, deadline);
                tokio::pin!(ended);
                loop {
                    tokio::select! {
                        ending = &mut ended => break ending,
                        () = &mut reading, if open => open = false,
                    }
                }
            };
            group.end().await;
            // A process that left the group may hold the pipes for ever.
            if open && timeout(DRAIN, &mut reading).await.is_err() {
                tracing::warn!(plan = %context.plan, step = %context.step, program = %self.name.display(),
                    "a process that left the tool's group still holds its output; it goes on running");
            }
            ending
        };
        let said = said.text(&self.redactor);
        match ending {
            Ending::NotStarted { kind, reason } => Err(Trouble::NotStarted { kind, reason }),
            Ending::Stopped { reason } => Err(Trouble::Ended { reason, said }),
            Ending::Exited(status) => match status.code() {
                None => Err(Trouble::Ended { reason: signal_words(status), said }),
                Some(_) if answer.too_long => {
                    let reason = format!("it answered more than {LONGEST_ANSWER} bytes");
                    Err(Trouble::Ended { reason, said })
                }
                Some(code) => Ok(Ran { code, answer: answer.bytes, said }),
            },
        }
    }

    fn start(&self, arguments: &[&str]) -> Result<(Group, Child), Trouble> {
        let refused = |what: String, error: &std::io::Error| {
            let reason = format!("{what}: {}", line(&chain(error), &self.redactor));
            Trouble::NotStarted { kind: kind_of(error), reason }
        };
        let group =
            Group::start().map_err(|error| refused("cannot start a guard, /bin/sh".into(), &error))?;
        let child = tokio::process::Command::new(&self.name)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .envs(&self.environment)
            .envs(self.secrets.iter().map(|(name, secret)| (name, secret.expose())))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(group.id())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let hint = "is it installed?";
                refused(format!("cannot start {} ({hint})", self.name.display()), &error)
            })?;
        Ok((group, child))
    }
}

#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Answer {
    async fn read(&mut self, from: &mut (impl AsyncRead + Unpin)) {
        let mut buffer = [0; 16 * 1024];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(length) => {
                    let room = LONGEST_ANSWER - self.bytes.len();
                    self.too_long |= length > room;
                    self.bytes.extend_from_slice(&buffer[..length.min(room)]);
                }
            }
        }
    }
}

async fn read_words(capture: &mut Capture, from: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 4 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return,
            Ok(length) => capture.push(&buffer[..length]),
            Err(error) => return capture.push(format!("\n(not read on: {error})").as_bytes()),
        }
    }
}

/// A directory for one action, readable by the agent alone, removed with everything in it when it is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it in the system's directory for temporary files. Errors: no room, no permission.
    pub(super) fn new(purpose: &str) -> std::io::Result<Self> {
        let template = std::env::temp_dir().join(format!("turnback-{purpose}-XXXXXX"));
        Ok(Self(nix::unistd::mkdtemp(&template).map_err(std::io::Error::from)?))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "cannot remove a scratch directory");
        }
    }
}
