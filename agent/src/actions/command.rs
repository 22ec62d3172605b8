//! Programs: exactly these arguments, no shell, a clean environment, a bounded life.
//!
//! The environment holds `PATH` (the system's directories), `LANG=C.UTF-8`, what the step declares, and
//! `TURNBACK_PLAN`, `TURNBACK_STEP`, `TURNBACK_KEY`. Nothing is inherited, not even `HOME`: what a command does must not
//! depend on who started the agent. A tool that wants one (`git`, `helm`) gets it by `env: {HOME: ...}`.
//!
//! An action is over when its program ends: what it leaves running in its process group is killed then. That also keeps
//! a forgotten background process from holding the output's pipe open.

use super::output::{Capture, line};
use super::process::Group;
use super::{Action, BadAction, Context, pulled};
use crate::secrets::{Redactor, Secret, Secrets};
use async_trait::async_trait;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use rules::action::{CommandSpec, FailureKind, Inspected, StepOutcome};
use rules::rehearsal::Tried;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::time::{Instant, sleep_until, timeout};

pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Between the request to end and the end: enough to release a lock, short enough for a kill switch.
const GRACE: Duration = Duration::from_secs(2);
/// How long the output is read after the program ended. Its group is dead by then; only a process that left the group
/// can still hold the pipe, and it may hold it for ever.
const DRAIN: Duration = Duration::from_secs(1);
/// Variables that say for which attempt a program runs; a step cannot set them.
const OURS: &str = "TURNBACK_";

/// A program ready to be run.
pub(super) struct Command {
    argv: Vec<String>,
    environment: BTreeMap<String, String>,
    secrets: BTreeMap<String, Secret>,
    directory: String,
    success: Vec<i32>,
    retryable: Vec<i32>,
    redactor: Redactor,
}

/// How a run ended.
pub(super) enum Ending {
    /// It never ran.
    NotStarted { kind: FailureKind, reason: String },
    /// By itself, or by somebody else's signal.
    Exited(ExitStatus),
    /// We ended it.
    Stopped { reason: String },
}

impl Command {
    /// Resolves the secrets. Errors: see [`BadAction`].
    pub(super) fn new(spec: &CommandSpec, secrets: &Secrets) -> Result<Self, BadAction> {
        let bad =
            |key: &str, problem: String| BadAction::Specification { key: format!("command.{key}"), problem };
        match spec.argv.first() {
            None => return Err(bad("argv", "is empty; name the program first".into())),
            Some(program) if !program.starts_with('/') => {
                return Err(bad(
                    "argv",
                    format!("names the program {program:?}; it must be an absolute path"),
                ));
            }
            Some(_) => {}
        }
        if spec.argv.iter().any(|argument| argument.contains('\0')) {
            return Err(bad("argv", "holds a NUL byte, which no argument can".into()));
        }
        for (key, names) in [
            ("env", spec.env.keys().collect::<Vec<_>>()),
            ("secret_env", spec.secret_env.keys().collect::<Vec<_>>()),
        ] {
            if let Some(name) = names.iter().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
                return Err(bad(key, format!("holds {name:?}, which cannot be the name of a variable")));
            }
            if let Some(name) = names.iter().find(|name| name.starts_with(OURS)) {
                return Err(bad(
                    key,
                    format!("sets {name}; names that begin with {OURS} are set by the agent"),
                ));
            }
        }
        if let Some((name, _)) = spec.env.iter().find(|(_, value)| value.contains('\0')) {
            return Err(bad("env", format!("gives {name} a value with a NUL byte")));
        }
        let resolved = spec.secret_env.iter().map(|(name, reference)| {
            let secret = secrets.resolve(reference);
            let place = format!("command.secret_env.{name}");
            Ok((name.clone(), secret.map_err(|source| BadAction::Secret { place, source })?))
        });
        Ok(Self {
            argv: spec.argv.clone(),
            environment: spec.env.clone(),
            secrets: resolved.collect::<Result<_, BadAction>>()?,
            directory: spec.directory.clone().unwrap_or_else(|| "/".into()),
            success: spec.success.clone(),
            retryable: spec.retryable.clone(),
            redactor: secrets.redactor(),
        })
    }

    fn prepared(
        &self,
        context: &Context,
        group: &Group,
        output: io::PipeWriter,
    ) -> io::Result<tokio::process::Command> {
        let mut command = tokio::process::Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .envs(&self.environment)
            .envs(self.secrets.iter().map(|(name, secret)| (name, secret.expose())))
            .env("TURNBACK_PLAN", context.plan.as_str())
            .env("TURNBACK_STEP", context.step.as_str())
            .env("TURNBACK_KEY", &context.key)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(group.id())
            .kill_on_drop(true);
        Ok(command)
    }

    fn start(&self, context: &Context) -> Result<(Group, Child, pipe::Receiver), Ending> {
        let refused = |what: &str, error: &io::Error| {
            let reason = format!("{what}: {}", line(&error.to_string(), &self.redactor));
            Ending::NotStarted { kind: kind_of(error), reason }
        };
        // Asked first, since a missing directory and a missing program give the same error.
        if !Path::new(&self.directory).is_dir() {
            let reason = format!("the working directory {} is not there", self.directory);
            return Err(Ending::NotStarted { kind: FailureKind::Permanent, reason });
        }
        let (reader, writer) = io::pipe().map_err(|error| refused("cannot make a pipe", &error))?;
        let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))
            .map_err(|error| refused("cannot read from a pipe", &error))?;
        let group =
            Group::start().map_err(|error| refused("cannot start the command's guard, /bin/sh", &error))?;
        let child = self
            .prepared(context, &group, writer)
            // The prepared command holds the pipe's writing ends; it goes away here, so that the output can end.
            .and_then(|mut command| command.spawn())
            .map_err(|error| refused(&format!("cannot start {}", self.argv[0]), &error))?;
        Ok((group, child, reader))
    }

    async fn run(&self, context: &Context) -> (Ending, String) {
        let deadline = Instant::now() + context.timeout.duration();
        let (group, mut child, mut reader) = match self.start(context) {
            Ok(started) => started,
            Err(ending) => return (ending, String::new()),
        };
        let mut output = Output { capture: Capture::default(), open: true };
        let ending = {
            let ended = until_ended(&mut child, &group, context, deadline);
            tokio::pin!(ended);
            loop {
                tokio::select! {
                    ending = &mut ended => break ending,
                    () = output.read_more(&mut reader), if output.open => {}
                }
            }
        };
        group.end().await;
        let drained = timeout(DRAIN, async {
            while output.open {
                output.read_more(&mut reader).await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!(plan = %context.plan, step = %context.step, program = self.argv[0],
                "a process that left the command's group still holds its output; it goes on running");
        }
        (ending, output.capture.text(&self.redactor))
    }
}

struct Output {
    capture: Capture,
    open: bool,
}

impl Output {
    /// Reads once. Loses nothing when it is dropped while it waits.
    async fn read_more(&mut self, reader: &mut pipe::Receiver) {
        let mut buffer = [0; 16 * 1024];
        match reader.read(&mut buffer).await {
            Ok(0) => self.open = false,
            Ok(length) => self.capture.push(&buffer[..length]),
            Err(error) => {
                self.capture.push(format!("\n(the output could not be read on: {error})").as_bytes());
                self.open = false;
            }
        }
    }
}

/// Waits for the end of the program, and brings it about when time is up or the kill switch is pulled.
pub(super) async fn until_ended(
    child: &mut Child,
    group: &Group,
    context: &Context,
    deadline: Instant,
) -> Ending {
    let cannot_wait = |error: io::Error| Ending::Stopped { reason: format!("cannot wait for it: {error}") };
    let why = tokio::select! {
        status = child.wait() => return status.map_or_else(cannot_wait, Ending::Exited),
        () = sleep_until(deadline) => format!("it did not end within {}", context.timeout),
        () = pulled(&context.cancel) => "the kill switch was pulled".to_owned(),
    };
    group.signal(Signal::SIGTERM);
    let how = match timeout(GRACE, child.wait()).await {
        Ok(Ok(status)) => format!("asked to end, it ended with {status}"),
        Ok(Err(error)) => return cannot_wait(error),
        Err(_) => {
            group.signal(Signal::SIGKILL);
            // It ends at once, unless it waits for a broken disk or network file system; then it is left behind.
            match timeout(DRAIN, child.wait()).await {
                Ok(_) => "it did not end when asked to and was killed".to_owned(),
                Err(_) => "it does not even end when killed".to_owned(),
            }
        }
    };
    Ending::Stopped { reason: format!("{why}; {how}") }
}

/// What cannot be started for want of something that comes back (processes, files, memory, a program that is being
/// replaced right now) may be tried again.
pub(super) fn kind_of(error: &io::Error) -> FailureKind {
    const PASSING: [Errno; 5] = [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE, Errno::ETXTBSY];
    match error.raw_os_error() {
        Some(code) if PASSING.contains(&Errno::from_raw(code)) => FailureKind::Retryable,
        _ => FailureKind::Permanent,
    }
}

pub(super) fn signal_words(status: ExitStatus) -> String {
    match status.signal().map(Signal::try_from) {
        Some(Ok(signal)) => format!("it was killed by {signal}"),
        _ => format!("it ended with {status}"),
    }
}

#[async_trait]
impl Action for Command {
    async fn rehearse(&self, _context: &Context) -> Tried {
        let (program, folder) = (&self.argv[0], &self.directory);
        // Asked of the file system alone: whether it would do its work only running it could tell.
        if let Err(errno) = nix::unistd::access(program.as_str(), nix::unistd::AccessFlags::X_OK) {
            return Tried::Fails { reason: format!("the program {program} cannot be run: {}", errno.desc()) };
        }
        if !Path::new(folder).is_dir() {
            return Tried::Fails { reason: format!("there is no directory {folder} to run it in") };
        }
        Tried::Works { how: "its program and its secrets are there; it was not run".into() }
    }

    async fn inspect(&self, context: &Context) -> Inspected {
        let (ending, output) = self.run(context).await;
        let reason = match ending {
            Ending::Exited(status) => match status.code() {
                Some(0) => return Inspected::Present,
                Some(1) => return Inspected::Missing,
                Some(code) => {
                    format!("it ended with exit code {code}, which is neither 0 (there) nor 1 (missing)")
                }
                None => signal_words(status),
            },
            Ending::NotStarted { reason, .. } | Ending::Stopped { reason } => reason,
        };
        // The last line usually says why.
        let last = output.lines().next_back().unwrap_or_default();
        let said = if last.is_empty() {
            String::new()
        } else {
            format!("; it said {:?}", line(last, &self.redactor))
        };
        Inspected::Unclear { reason: format!("{}: {reason}{said}", self.argv[0]) }
    }

    async fn apply(&self, context: &Context) -> StepOutcome {
        let (ending, output) = self.run(context).await;
        let failed = |kind, reason, output| StepOutcome::Failed { kind, reason, output };
        match ending {
            Ending::NotStarted { kind, reason } => failed(kind, reason, output),
            Ending::Stopped { reason } => StepOutcome::Unknown { reason, output },
            Ending::Exited(status) => match status.code() {
                Some(code) if self.success.contains(&code) => StepOutcome::Done { output, changed: true },
                Some(code) if self.retryable.contains(&code) => {
                    failed(FailureKind::Retryable, format!("it ended with exit code {code}"), output)
                }
                Some(code) => {
                    failed(FailureKind::Permanent, format!("it ended with exit code {code}"), output)
                }
                None => StepOutcome::Unknown { reason: signal_words(status), output },
            },
        }
    }
}

#[cfg(test)]
mod tests;
