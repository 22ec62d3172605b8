//! A real Redis server: Debian's package, our own port, a password, nothing on disk.

use std::process::Command;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{Client, Cmd, FromRedisValue};
use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::process::Process;
use crate::{ports, wait};

/// From start to answering; half a second on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Another program may take the port between our asking and the server's binding it.
const ATTEMPTS: usize = 3;
const PASSWORD: &str = "sesame-sesame";

/// A running server, killed on drop.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: u16,
    // Removed after the process, which works in it.
    _folder: TempDir,
}

impl RedisServer {
    /// Starts a server; `more` are further arguments, such as `--cluster-enabled yes`.
    ///
    /// # Errors
    /// If Redis is not installed or does not start, with what it printed.
    pub async fn start(more: &[&str]) -> Result<RedisServer> {
        let mut last = anyhow!("no attempt was made");
        for _ in 0..ATTEMPTS {
            let folder = tempfile::tempdir().context("making a folder for Redis")?;
            let port = ports::free_port()?;
            let mut command = Command::new("redis-server");
            command
                .current_dir(folder.path())
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--requirepass", PASSWORD])
                .args(["--port", &port.to_string()])
                .args(more);
            let process = Process::start(command, &folder.path().join("log")).context(
                "Redis is not installed? `make setup-test` does it (Debian's package `redis-server`)",
            )?;
            let server = RedisServer { process, port, _folder: folder };
            let ready = wait::until("Redis to answer", START_LIMIT, async || {
                ensure!(!server.process.has_ended()?, "Redis ended: {}", server.process.last_words());
                Ok(server.ask::<String>(&::redis::cmd("PING")).await.ok())
            })
            .await;
            match ready {
                Ok(_) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Its address, with the password.
    pub fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}/0", self.port)
    }

    /// Sends one command and gives its answer.
    ///
    /// # Errors
    /// If the server does not answer, refuses, or answers something else.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T> {
        let mut connection = self.connect().await?;
        command.query_async(&mut connection).await.context("asking Redis")
    }

    /// The same for a command written as words.
    ///
    /// # Errors
    /// As [`RedisServer::ask`].
    pub async fn say<T: FromRedisValue>(&self, words: &str) -> Result<T> {
        let mut words = words.split_whitespace();
        let mut command = ::redis::cmd(words.next().context("a command has a name")?);
        words.for_each(|word| {
            command.arg(word);
        });
        self.ask(&command).await
    }

    /// A connection.
    ///
    /// # Errors
    /// If the server does not take it.
    pub async fn connect(&self) -> Result<MultiplexedConnection> {
        let client = Client::open(self.url())?;
        client.get_multiplexed_async_connection().await.context("connecting to Redis")
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.process.kill()?;
        Ok(())
    }
}
