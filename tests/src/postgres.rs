//! A real PostgreSQL server: Debian's package, our own data directory, our own port.
//!
//! PostgreSQL does not run as root. As root the server runs as the user `postgres`, which the package brings.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};
use tempfile::TempDir;

use crate::process::Process;
use crate::{ports, wait};

/// From start to taking connections; half a second on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Another program may take the port between our asking and the server's binding it.
const ATTEMPTS: usize = 3;
const USER: &str = "owner";
const PASSWORD: &str = "a pass:word/with@everything";

/// A running server with the databases `postgres` and `shop`, killed on drop. Its data go with it.
#[derive(Debug)]
pub struct PostgresServer {
    process: Process,
    port: u16,
    programs: PathBuf,
    // Removed after the process, which writes into it.
    _folder: TempDir,
}

impl PostgresServer {
    /// Makes a data directory and starts a server on it.
    ///
    /// # Errors
    /// If PostgreSQL is not installed (the error names the package) or does not start, with what it printed.
    pub async fn start() -> Result<PostgresServer> {
        PostgresServer::start_with(&[]).await
    }

    /// The same with further settings, as `name=value`.
    ///
    /// # Errors
    /// As [`PostgresServer::start`].
    pub async fn start_with(settings: &[&str]) -> Result<PostgresServer> {
        let programs = programs()?;
        let folder = tempfile::tempdir().context("making a folder for PostgreSQL")?;
        // The other user passes through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711))?;
        let data = folder.path().join("data");
        let password = folder.path().join("password");
        fs::create_dir(&data)?;
        fs::write(&password, PASSWORD)?;
        if let Some((user, group)) = other_user()? {
            for path in [&data, &password] {
                chown(path, Some(user), Some(group))
                    .with_context(|| format!("giving {} away", path.display()))?;
            }
        }
        let mut initdb = command(&programs.join("initdb"))?;
        initdb
            .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--username={USER}"))
            .arg(format!("--pwfile={}", password.display()))
            .arg(&data);
        let made = initdb.output().context("starting initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut last = anyhow!("no attempt was made");
        for _ in 0..ATTEMPTS {
            let port = ports::free_port()?;
            let mut server = command(&programs.join("postgres"))?;
            server.arg("-D").arg(&data).args(["-p", &port.to_string()]);
            // Nobody's data: no waiting for the disk.
            let ours = [
                "listen_addresses=127.0.0.1",
                "unix_socket_directories=",
                "fsync=off",
                "shared_buffers=16MB",
                "max_connections=50",
            ];
            for setting in ours.iter().chain(settings) {
                server.args(["-c", setting]);
            }
            let process = Process::start(server, &folder.path().join("log"))?;
            let ready = wait::until("PostgreSQL to take connections", START_LIMIT, async || {
                ensure!(!process.has_ended()?, "PostgreSQL ended: {}", process.last_words());
                Ok(connect(port, "postgres").await.ok())
            })
            .await;
            match ready {
                Ok(mut connection) => {
                    sqlx::query("CREATE DATABASE shop").execute(&mut connection).await?;
                    return Ok(PostgresServer { process, port, programs, _folder: folder });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where `pg_dump` and its like are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The address of a database, for its owner.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// The same through something that listens on another port.
    pub fn url_through(&self, port: u16, database: &str) -> String {
        url(port, database)
    }

    /// A connection to a database, as its owner.
    ///
    /// # Errors
    /// If there is no such database.
    pub async fn connect(&self, database: &str) -> Result<PgConnection> {
        connect(self.port, database).await.with_context(|| format!("connecting to {database}"))
    }

    /// Runs statements in a database.
    ///
    /// # Errors
    /// If PostgreSQL refuses.
    pub async fn run(&self, database: &str, statements: &str) -> Result<()> {
        let mut connection = self.connect(database).await?;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut connection)
            .await
            .with_context(|| format!("running {statements}"))?;
        connection.close().await?;
        Ok(())
    }

    /// The first value of a query's first row as text; `None` if there is no row or it is NULL.
    ///
    /// # Errors
    /// If PostgreSQL refuses.
    pub async fn value(&self, database: &str, query: &str) -> Result<Option<String>> {
        let mut connection = self.connect(database).await?;
        let sql = format!("SELECT x.v::text FROM ({query}) AS x(v) LIMIT 1");
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_optional(&mut connection).await;
        let row = row.with_context(|| format!("asking {query}"))?;
        connection.close().await?;
        Ok(match row {
            Some(row) => row.try_get(0)?,
            None => None,
        })
    }

    /// Dumps a database into `file`, with its SHA-256 beside it, as a nightly backup would.
    ///
    /// # Errors
    /// If `pg_dump` fails, with what it said.
    pub fn dump(&self, database: &str, file: &Path) -> Result<()> {
        let mut dump = Command::new(self.programs.join("pg_dump"));
        dump.args(["--format=custom", "--no-owner", "--file"]).arg(file).arg(self.url(database));
        let made = dump.output().context("starting pg_dump")?;
        ensure!(made.status.success(), "pg_dump: {}", String::from_utf8_lossy(&made.stderr));
        let sum = hex::encode(Sha256::digest(fs::read(file)?));
        let name = file.file_name().context("a dump has a name")?.to_string_lossy();
        fs::write(format!("{}.sha256", file.display()), format!("{sum}  {name}\n"))?;
        Ok(())
    }

    /// `kill -9` for the whole server.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn stop(&mut self) -> Result<()> {
        self.process.kill()?;
        Ok(())
    }
}

fn url(port: u16, database: &str) -> String {
    // The password as it has to be written in an address.
    format!(
        "postgres://{USER}:a%20pass%3Aword%2Fwith%40everything@127.0.0.1:{port}/{database}?sslmode=disable"
    )
}

async fn connect(port: u16, database: &str) -> Result<PgConnection> {
    let options: sqlx::postgres::PgConnectOptions = url(port, database).parse()?;
    Ok(options.disable_statement_logging().connect().await?)
}

/// The newest installed version's programs.
fn programs() -> Result<PathBuf> {
    let hint = "PostgreSQL is not installed: `make setup-test` does it (Debian's package `postgresql`)";
    let versions = fs::read_dir("/usr/lib/postgresql").context(hint)?;
    let bins = versions.flatten().map(|entry| entry.path().join("bin"));
    bins.filter(|bin| bin.join("postgres").is_file() && bin.join("pg_dump").is_file())
        .max_by_key(|bin| {
            let version = bin.parent().and_then(Path::file_name).unwrap_or_default();
            version.to_string_lossy().parse::<u32>().unwrap_or(0)
        })
        .context(hint)
}

/// As whom the server runs, if not as ourselves.
fn other_user() -> Result<Option<(u32, u32)>> {
    if !nix::unistd::Uid::effective().is_root() {
        return Ok(None);
    }
    let user = nix::unistd::User::from_name("postgres")?.context("there is no user `postgres`")?;
    Ok(Some((user.uid.as_raw(), user.gid.as_raw())))
}

fn command(program: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
    if let Some((user, group)) = other_user()? {
        command.uid(user).gid(group);
    }
    Ok(command)
}
