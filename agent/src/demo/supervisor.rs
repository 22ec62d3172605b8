//! The demo's deployment system: it keeps exactly one version of the service running, the one that the file `wanted`
//! names, and starts it again when it ends. What systemd, docker compose or Kubernetes are in real life.

use super::files::Files;
use super::screen::{Screen, Tone};
use anyhow::Context as _;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How one version behaves.
#[derive(Debug, Clone, Default)]
pub struct Release {
    /// The share of requests that fail, 0 to 1.
    pub error_rate: f64,
    /// How long a request takes, in milliseconds.
    pub latency_ms: u64,
    /// Crashes so many seconds after its first start, and at once at each later one: what it left behind breaks it.
    pub crash_after_s: Option<f64>,
    /// Shows no metrics any more after so many seconds.
    pub metrics_fail_after_s: Option<f64>,
}

/// A process that was started: which version, as which process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The version.
    pub version: String,
    /// The process.
    pub process: u32,
}

/// The deployment system at work. Dropping it ends it and the service.
pub struct Supervisor {
    task: JoinHandle<anyhow::Result<()>>,
    starts: Arc<Mutex<Vec<Start>>>,
}

/// How often it looks at what is wanted and what runs.
const TICK: Duration = Duration::from_millis(50);
/// Before a process that ended is started again.
const BEFORE_RESTART: Duration = Duration::from_secs(1);
/// How long a process that was asked to end has for it.
const GRACE: Duration = Duration::from_secs(2);

impl Supervisor {
    /// Begins to run what `files` say is wanted, with `program demo-service`.
    pub fn start(
        program: PathBuf,
        files: Files,
        port: u16,
        releases: BTreeMap<String, Release>,
        screen: Screen,
    ) -> Self {
        let starts = Arc::<Mutex<Vec<Start>>>::default();
        let work =
            Work { program, files, port, releases, screen, starts: Arc::clone(&starts), running: None };
        Self { task: tokio::spawn(work.run()), starts }
    }

    /// Every process it has started, oldest first.
    pub fn starts(&self) -> Vec<Start> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // With the task goes the child's standard input, and with that the child.
        self.task.abort();
    }
}

struct Running {
    version: String,
    process: u32,
    child: Child,
    /// Closed when it shall end, and by the kernel when the demo is gone.
    lifeline: ChildStdin,
}

struct Work {
    program: PathBuf,
    files: Files,
    port: u16,
    releases: BTreeMap<String, Release>,
    screen: Screen,
    starts: Arc<Mutex<Vec<Start>>>,
    running: Option<Running>,
}

impl Work {
    async fn run(mut self) -> anyhow::Result<()> {
        loop {
            if let Err(error) = self.turn().await {
                // It tries again at the next turn, as its big sisters do; whoever waits for the version says so too.
                self.screen.say(Tone::Bad, "deploy", &format!("{error:#}"));
                sleep(BEFORE_RESTART).await;
            }
            sleep(TICK).await;
        }
    }

    async fn turn(&mut self) -> anyhow::Result<()> {
        let Some(wanted) = self.files.wanted()? else { return Ok(()) };
        if self.running.as_ref().is_some_and(|running| running.version != wanted) {
            self.stop().await?;
        }
        if let Some(running) = &mut self.running {
            let ended = running.child.try_wait().context("cannot ask whether the service runs")?;
            let Some(status) = ended else { return Ok(()) };
            let text = format!("{} (process {}) ended by itself: {status}", running.version, running.process);
            self.running = None;
            self.files.set_none_running()?;
            self.screen.say(Tone::Bad, "deploy", &text);
            sleep(BEFORE_RESTART).await;
        }
        // Another version may be wanted after the pause.
        let Some(wanted) = self.files.wanted()? else { return Ok(()) };
        self.spawn(wanted)
    }

    fn spawn(&mut self, version: String) -> anyhow::Result<()> {
        let release =
            self.releases.get(&version).with_context(|| format!("there is no version {version}"))?;
        let before = self.starts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let again = before.iter().any(|start| start.version == version);
        let mut command = Command::new(&self.program);
        command.arg("demo-service").args(["--port", &self.port.to_string(), "--version", &version]);
        command.args(["--error-rate", &release.error_rate.to_string()]);
        command.args(["--latency-ms", &release.latency_ms.to_string()]);
        if let Some(seconds) = release.crash_after_s {
            let seconds = if again { 0.0 } else { seconds };
            command.args(["--crash-after-s", &seconds.to_string()]);
        }
        if let Some(seconds) = release.metrics_fail_after_s {
            command.args(["--metrics-fail-after-s", &seconds.to_string()]);
        }
        command.arg("--until-stdin-closes").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own: a Ctrl-C in the terminal is for the demo, which then ends the service.
        let mut child =
            command.process_group(0).kill_on_drop(true).spawn().context("cannot start the service")?;
        let (Some(lifeline), Some(process)) = (child.stdin.take(), child.id()) else {
            anyhow::bail!("the service {version} ended while it was started");
        };
        self.starts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Start { version: version.clone(), process });
        self.files.set_running(&version, process)?;
        let what = if again { "started again" } else { "started" };
        self.screen.say(Tone::Dim, "deploy", &format!("{version} {what} (process {process})"));
        self.running = Some(Running { version, process, child, lifeline });
        Ok(())
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(Running { version, process, mut child, lifeline }) = self.running.take() else {
            return Ok(());
        };
        drop(lifeline);
        if timeout(GRACE, child.wait()).await.is_err() {
            child.kill().await.with_context(|| format!("cannot kill {version}, process {process}"))?;
        }
        self.files.set_none_running()?;
        self.screen.say(Tone::Dim, "deploy", &format!("{version} stopped (process {process})"));
        Ok(())
    }
}

/// Whether a process is gone. One that ended and was waited for is.
pub fn is_gone(process: u32) -> bool {
    let Ok(id) = i32::try_from(process) else { return true };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), None) == Err(nix::errno::Errno::ESRCH)
}
