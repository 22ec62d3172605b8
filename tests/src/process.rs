//! A child process that does not outlive its handle.
//!
//! It leads a process group of its own, so that its own children go with it. Dropping the handle kills the group and
//! reaps the child, also while a panic unwinds. (`PR_SET_PDEATHSIG` would cover the death of the test process as well,
//! but it needs `unsafe`, and it fires when the *thread* ends that started the child, which in a tokio test is any
//! thread. Our own programs therefore end when their standard input does.)

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::wait;

/// How much of a log goes into an error: enough for the last words of a server.
const LAST_WORDS_BYTES: usize = 4_000;

/// A running child with its process group, killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    ended: Option<ExitStatus>,
    // Held, never written: its end tells a child of ours that the test is gone.
    _leash: Option<ChildStdin>,
}

impl Process {
    /// Starts `command` with standard output and error appended to `log`. The child's standard input stays open and
    /// silent as long as the handle lives.
    ///
    /// # Errors
    /// If the log cannot be opened or the program cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Result<Process> {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("opening {} for the output of {name}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("sharing the log of {name}"))?;
        let mut child = command
            // Of an error we want the words, which a backtrace would push out of `last_words`. Panics keep theirs.
            .env("RUST_LIB_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let leash = child.stdin.take();
        Ok(Process { child, name, log: log.to_owned(), ended: None, _leash: leash })
    }

    /// The process id, which is also the id of the group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the child has ended, by itself or otherwise. It is not reaped, so its number stays taken.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn has_ended(&self) -> Result<bool> {
        if self.ended.is_some() {
            return Ok(true);
        }
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let status = waitid(Id::Pid(self.group()), flags)
            .with_context(|| format!("asking whether {} still runs", self.name))?;
        Ok(status != WaitStatus::StillAlive)
    }

    /// Sends `signal` to the child and its children.
    ///
    /// # Errors
    /// If there is no such process any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        killpg(self.group(), signal)
            .with_context(|| format!("sending {signal} to {} ({})", self.name, self.pid()))
    }

    /// Waits up to `limit` for the child to end by itself and says how it did. What it left behind in its group is
    /// killed then.
    ///
    /// # Errors
    /// If it still runs after `limit`.
    pub async fn end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, limit, async || Ok(self.has_ended()?.then_some(()))).await?;
        self.kill()
    }

    /// `kill -9` for the whole group; the child is gone when this returns. Says how the child ended, which may have
    /// been earlier and otherwise.
    ///
    /// # Errors
    /// If the child cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        // Before the child is reaped, while its number cannot belong to a stranger's group. There is always at least
        // the child itself to receive it, be it a zombie.
        self.signal(Signal::SIGKILL)?;
        let status = self.child.wait().with_context(|| format!("waiting for the end of {}", self.name))?;
        self.ended = Some(status);
        Ok(status)
    }

    /// The end of what the child has printed so far, for error messages.
    pub fn last_words(&self) -> String {
        match std::fs::read(&self.log) {
            Ok(bytes) => {
                String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LAST_WORDS_BYTES)..]).into_owned()
            }
            Err(error) => format!("(its log {} cannot be read: {error})", self.log.display()),
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not a panic: this may run while another one unwinds.
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}
