//! A real NATS server with JetStream, on our own port and folder.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use async_nats::jetstream;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::Process;
use crate::{ports, tools, wait};

/// From start to answering: a tenth of a second on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Another program may take the port between our asking and the server's binding it.
const ATTEMPTS: usize = 3;

/// A running server, killed on drop.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    port: u16,
    // Removed after the process, which works in it.
    folder: TempDir,
}

impl Nats {
    /// Starts a server that lets everybody in.
    ///
    /// # Errors
    /// If it is not installed or does not start, with what it printed.
    pub async fn start() -> Result<Nats> {
        Nats::start_with("").await
    }

    /// Starts a server with more lines of configuration, such as `authorization { token: sesame }`.
    ///
    /// # Errors
    /// If it is not installed or does not start, with what it printed.
    pub async fn start_with(more: &str) -> Result<Nats> {
        let mut last = anyhow!("no attempt was made");
        for _ in 0..ATTEMPTS {
            let folder = tempfile::tempdir().context("making a folder for NATS")?;
            let port = ports::free_port()?;
            configure(&folder, port, more)?;
            let server = Nats { process: launch(&folder)?, port, folder };
            match server.ready().await {
                Ok(()) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port alone, for a proxy before it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    /// If it ends or does not answer in time.
    pub async fn ready(&self) -> Result<()> {
        wait::until("NATS to answer", START_LIMIT, async || {
            ensure!(!self.process.has_ended()?, "NATS ended: {}", self.process.last_words());
            let mut greeting = [0_u8; 5];
            let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await else {
                return Ok(None);
            };
            let read = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut greeting).await;
            Ok((read.is_ok() && &greeting == b"INFO ").then_some(()))
        })
        .await
    }

    /// A connection without credentials.
    ///
    /// # Errors
    /// If the server does not take it.
    pub async fn connect(&self) -> Result<async_nats::Client> {
        async_nats::connect(self.url()).await.context("connecting to NATS")
    }

    /// Makes a stream of these subjects whose acknowledgement means that it is on disk.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn stream(&self, name: &str, subjects: &[&str]) -> Result<jetstream::stream::Stream> {
        let context = jetstream::new(self.connect().await?);
        let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
        let config = jetstream::stream::Config { name: name.to_owned(), subjects, ..Default::default() };
        context.create_stream(config).await.context("making a stream")
    }

    /// `kill -9`; its data stay.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts it again on the same data and port.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.process = launch(&self.folder)?;
        self.ready().await
    }

    /// The same with other lines of configuration than before.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn restart_with(&mut self, more: &str) -> Result<()> {
        configure(&self.folder, self.port, more)?;
        self.restart().await
    }

    /// `SIGSTOP` and `SIGCONT`.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }
}

fn configure(folder: &TempDir, port: u16, more: &str) -> Result<()> {
    let data = folder.path().join("data");
    // What is acknowledged is on disk: the server's default is to sync every two minutes.
    let text = format!(
        "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {:?}, sync_interval: always }}\n{more}\n",
        data.display().to_string()
    );
    std::fs::write(folder.path().join("nats.conf"), text).context("writing the configuration of NATS")
}

fn launch(folder: &TempDir) -> Result<Process> {
    let mut command = Command::new(tools::path("nats-server")?);
    command.current_dir(folder.path()).args(["-c", "nats.conf"]);
    Process::start(command, &folder.path().join("log"))
}
