//! A process group that ends with the agent.
//!
//! A command that outlives the agent is the worst kind of orphan: after a restart the executor would look at a target
//! that something is still changing. The kernel's own means, `PR_SET_PDEATHSIG`, does not do: it is forgotten by
//! grandchildren (a shell script's `kubectl` would live on), it is bound to the *thread* that forked, and setting it
//! needs `unsafe`. So each command gets a *guard*: a tiny shell process whose standard input is a pipe that only the
//! agent holds. It is started first and makes the process group; the command joins the group. When the agent dies,
//! however it dies, the kernel closes the pipe, the guard reads the end of the file and kills its group, itself
//! included. There is no gap: the guard runs before the command does, and if the agent dies in between, an empty
//! group is killed.
//!
//! While the guard lives the group's number cannot be given to others, so signals to the group never hit strangers.
//!
//! Not covered: processes that leave the group (`setsid`, a daemon, `systemd-run`, work handed to another machine),
//! programs that run as another user (setuid), and a guard that is itself killed with `SIGKILL` (the out-of-memory
//! killer, `kill -9 0` in a script). The agent's systemd unit, with its own control group, ends the first and the third
//! with the agent.

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io;
use std::process::Stdio;
use tokio::process::{Child, ChildStdin, Command};

/// The guard's whole program. It ignores the signals by which the group is asked to end, and nothing from outside
/// enters it.
const GUARD: &str = "trap '' HUP INT QUIT TERM USR1 USR2; read -r nothing; kill -KILL 0";
const SHELL: &str = "/bin/sh";

/// A process group with its guard. Dropping it kills the group.
pub(super) struct Group {
    guard: Child,
    /// Closed when the agent dies or the group is dropped: the guard's cue.
    _lifeline: ChildStdin,
    id: Pid,
}

impl Group {
    /// Starts the guard. Errors: no `/bin/sh`, too many processes or open files.
    pub(super) fn start() -> io::Result<Self> {
        let mut guard = Command::new(SHELL)
            .args(["-c", GUARD])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let id = guard.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        match (guard.stdin.take(), id) {
            (Some(lifeline), Some(id)) => Ok(Self { guard, _lifeline: lifeline, id }),
            _ => Err(io::Error::other("the guard ended at once")),
        }
    }

    /// The group's number, for [`Command::process_group`].
    pub(super) fn id(&self) -> i32 {
        self.id.as_raw()
    }

    /// Sends a signal to every process of the group.
    pub(super) fn signal(&self, signal: Signal) {
        match killpg(self.id, signal) {
            // Nobody is left: what the signal was for has come about.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => tracing::error!(group = self.id(), %signal, %error, "cannot signal a command"),
        }
    }

    /// Kills what is left of the group and waits for the guard to be gone.
    pub(super) async fn end(mut self) {
        self.signal(Signal::SIGKILL);
        if let Err(error) = self.guard.wait().await {
            tracing::error!(group = self.id(), %error, "cannot wait for a command's guard");
        }
    }
}
