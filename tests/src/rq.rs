//! RQ as it is: Debian's package, a real worker with a work horse, jobs that run, wait, are stopped and fail.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::process::Process;
use crate::redis::RedisServer;
use crate::wait;

/// The Python that Debian's packages belong to.
pub const PYTHON: &str = "/usr/bin/python3";
/// The only queue.
pub const QUEUE: &str = "default";
/// A worker takes a second or two to start, more on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const ENQUEUE: &str = "
import sys
from redis import Redis
from rq import Queue
queue = Queue(sys.argv[2], connection=Redis.from_url(sys.argv[1]))
queue.enqueue(sys.argv[4], *map(int, sys.argv[5:]), job_id=sys.argv[3], job_timeout=900)
";

/// A running worker, killed on drop with the job that it works on.
#[derive(Debug)]
pub struct Worker {
    process: Process,
    // Removed after the process, which works in it.
    _folder: TempDir,
}

impl Worker {
    /// Starts a worker.
    ///
    /// # Errors
    /// If RQ is not installed; the error names the package.
    pub fn start(server: &RedisServer) -> Result<Worker> {
        let folder = tempfile::tempdir().context("making a folder for RQ")?;
        let mut command = Command::new(PYTHON);
        command.current_dir(folder.path());
        command.args(["-c", "from rq.cli import main; main()", "worker", "--url", &server.url(), QUEUE]);
        let process = Process::start(command, &folder.path().join("log"))
            .context("Python is not installed? `make setup-test` does it (Debian's package `python3-rq`)")?;
        Ok(Worker { process, _folder: folder })
    }

    /// Puts a job into the queue: a Python function with whole numbers, `time.sleep` with 600.
    ///
    /// # Errors
    /// If RQ is not installed or does not take it, with its words.
    pub async fn enqueue(server: &RedisServer, id: &str, function: &str, numbers: &[u32]) -> Result<()> {
        let mut command = Command::new(PYTHON);
        command.args(["-c", ENQUEUE, &server.url(), QUEUE, id, function]);
        command.args(numbers.iter().map(u32::to_string));
        let output =
            tokio::task::spawn_blocking(move || command.output()).await?.context("starting Python")?;
        ensure!(
            output.status.success(),
            "RQ did not take the job {id} (`make setup-test` installs RQ, Debian's `python3-rq`): {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Waits until a job has a status, such as `started`.
    ///
    /// # Errors
    /// If it does not in time, or the worker has ended, with its last words.
    pub async fn until(&self, server: &RedisServer, id: &str, status: &str) -> Result<()> {
        let what = format!("job {id} to be {status}");
        let waited = wait::until(&what, PATIENCE, async || {
            ensure!(!self.process.has_ended()?, "the worker ended");
            Ok(Some(job_status(server, id).await?).filter(|found| found.as_deref() == Some(status)))
        });
        waited.await.map(drop).with_context(|| self.process.last_words())
    }
}

/// What RQ says of a job: `queued`, `started`, `finished`, `stopped`; `None` if it knows none.
///
/// # Errors
/// If Redis does not answer.
pub async fn job_status(server: &RedisServer, id: &str) -> Result<Option<String>> {
    server.say(&format!("HGET rq:job:{id} status")).await
}
