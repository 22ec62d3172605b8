//! Backups and restores, by PostgreSQL's own `pg_dump` and `pg_restore`.
//!
//! A dump gets its name only when it is complete. A restore goes into a database that did not exist before: what is
//! there already is never written to, whatever it is called. The new database carries a fence row once it was restored
//! and checked; one without is unfinished, and is left to people.

use super::super::program::{Program, Ran, Trouble as Ended};
use super::super::{Context, chain};
use super::session::{Limits, Trouble, fence, goodbye, make_fence};
use super::{Progress, Sql, permanent};
use crate::secrets::Secret;
use percent_encoding::percent_decode_str;
use rules::action::sql::{Backup, Restore};
use rules::action::sql_text::quoted;
use rules::action::{FailureKind, Inspected, StepOutcome};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Connection as _};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::time::Instant;

/// Dumps begin with this in PostgreSQL's own format.
const MAGIC: &[u8] = b"PGDMP";

/// Where the dump of a step lies.
fn dump_path(backup: &Backup, context: &Context) -> PathBuf {
    Path::new(&backup.directory).join(format!("{}-{}.dump", backup.name, context.key))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Whether the dump of a step is complete.
pub(super) fn look_for_backup(backup: &Backup, context: &Context) -> Result<Inspected, Trouble> {
    match dump_path(backup, context).try_exists() {
        Ok(true) => Ok(Inspected::Present),
        Ok(false) => Ok(Inspected::Missing),
        Err(error) => {
            Err(Trouble::Passing { message: format!("cannot look into {}: {error}", backup.directory) })
        }
    }
}

impl Sql {
    /// What `libpq` is told, out of the same address.
    fn tool(&self, directory: &str, name: &str) -> Result<Program, Trouble> {
        let unusable = || Trouble::wrong("the address of the database is not usable");
        let url: reqwest::Url = self.url.expose().parse().map_err(|_| unusable())?;
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let mut environment = BTreeMap::from(
            [
                ("PGCONNECT_TIMEOUT", "10"),
                ("PGPASSFILE", "/dev/null"),
                ("PGAPPNAME", "turnback"),
                ("HOME", "/"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let mut secrets = BTreeMap::new();
        let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
        set(
            "PGHOST",
            match self.options.get_socket() {
                Some(socket) => socket.display().to_string(),
                None => self.options.get_host().to_owned(),
            },
        );
        set("PGPORT", self.options.get_port().to_string());
        set("PGUSER", self.options.get_username().to_owned());
        if let Some(database) = self.options.get_database() {
            set("PGDATABASE", database.to_owned());
        }
        if let Some(password) = url.password() {
            secrets.insert("PGPASSWORD".to_owned(), Secret::from(decoded(password)));
        }
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "password" => {
                    secrets.insert("PGPASSWORD".to_owned(), Secret::from(value.into_owned()));
                }
                "sslmode" | "ssl-mode" => drop(set("PGSSLMODE", value.into_owned())),
                "sslrootcert" | "ssl-root-cert" | "ssl-ca" => drop(set("PGSSLROOTCERT", value.into_owned())),
                "sslcert" | "ssl-cert" => drop(set("PGSSLCERT", value.into_owned())),
                "sslkey" | "ssl-key" => drop(set("PGSSLKEY", value.into_owned())),
                _ => {}
            }
        }
        let name = Path::new(directory).join(name);
        Ok(Program { name, environment, secrets, directory: "/".into(), redactor: self.redactor.clone() })
    }

    /// A dump, its checksum, and what is too old.
    pub(super) async fn back_up(
        &self,
        backup: &Backup,
        context: &Context,
        deadline: Instant,
    ) -> Result<StepOutcome, Trouble> {
        let path = dump_path(backup, context);
        if path.try_exists().unwrap_or(false) {
            let output = format!("{} is there already", path.display());
            return Ok(StepOutcome::Done { output, changed: false });
        }
        let partial = beside(&path, ".partial");
        let failed = |what: &str, error: &io::Error| {
            Trouble::wrong(format!("cannot {what} in {}: {error}", backup.directory))
        };
        // For the agent's user alone: a dump holds everything.
        let made = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
        made.map_err(|error| failed("write", &error))?;
        let wait = format!("--lock-wait-timeout={}", self.spec.lock_timeout.milliseconds());
        let file = format!("--file={}", partial.display());
        let arguments = ["--format=custom", "--no-password", &wait, &file];
        let ran = self.tool(&backup.programs, "pg_dump")?.run(&arguments, context, deadline).await;
        if let Some(failure) = tool_failure("pg_dump", &ran) {
            // Half a dump helps nobody.
            if let Err(error) = fs::remove_file(&partial) {
                tracing::warn!(file = %partial.display(), %error, "cannot remove half a dump");
            }
            return Ok(failure);
        }
        let sum = checksum(partial.clone()).await.map_err(|error| failed("read the dump", &error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let complete = fs::write(beside(&path, ".sha256"), format!("{sum}  {name}\n"))
            // A link, and no renaming: that would overwrite what somebody put there meanwhile.
            .and_then(|()| fs::hard_link(&partial, &path))
            .and_then(|()| fs::remove_file(&partial))
            .and_then(|()| fs::File::open(&path)?.sync_all());
        complete.map_err(|error| failed("finish the dump", &error))?;
        let mut output = format!("dumped to {}, SHA-256 {sum}", path.display());
        match prune(backup, &path) {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => output.push_str(&format!("\nremoved the oldest: {}", removed.join(", "))),
            // The dump is there, which is what the step is for.
            Err(error) => output.push_str(&format!("\nold dumps cannot be removed: {error}")),
        }
        Ok(StepOutcome::Done { output, changed: true })
    }

    /// Whether a restored database is complete.
    pub(super) async fn look_for_restored(
        &self,
        restore: &Restore,
        context: &Context,
        deadline: Instant,
    ) -> Result<Inspected, Trouble> {
        match self.fenced(Some(&restore.into), context, deadline).await {
            Ok(true) => Ok(Inspected::Present),
            Ok(false) => Ok(Inspected::Unclear { reason: not_ours(&restore.into) }),
            // No such database.
            Err(trouble) if trouble.is("3D000") => Ok(Inspected::Missing),
            Err(trouble) => Err(trouble),
        }
    }

    /// A new database out of a dump.
    pub(super) async fn restore(
        &self,
        restore: &Restore,
        context: &Context,
        deadline: Instant,
        progress: &Progress,
    ) -> Result<StepOutcome, Trouble> {
        let verified = verify(restore).await?;
        let tool = self.tool(&restore.programs, "pg_restore")?;
        let mut server = self.connect(Some(&restore.maintenance_database)).await?;
        self.limit(&mut server, deadline, Limits::Session).await?;
        let create = format!("CREATE DATABASE {} TEMPLATE template0", quoted(&restore.into));
        progress.no_return();
        match sqlx::query(AssertSqlSafe(create))
            .persistent(false)
            .execute(&mut server)
            .await
            .map_err(Trouble::from)
        {
            Ok(_) => goodbye(server).await,
            Err(trouble) if trouble.is("42P04") => return Ok(permanent(not_ours(&restore.into))),
            Err(Trouble::Refused { code, message }) => {
                let trouble = Trouble::Refused { code, message };
                let reason =
                    self.shown(&format!("cannot make the database {}: {}", restore.into, trouble.words()));
                return Ok(StepOutcome::Failed { kind: trouble.kind(), reason, output: String::new() });
            }
            Err(trouble) => return Err(trouble),
        }
        let into = format!("--dbname={}", restore.into);
        let arguments = ["--exit-on-error", "--no-owner", "--no-password", &into, &restore.file];
        let ran = tool.run(&arguments, context, deadline).await;
        if let Some(failure) = tool_failure("pg_restore", &ran) {
            return Ok(self.given_up(restore, failure).await);
        }
        if let Some(wrong) = self.first_wrong(&restore.checks, &restore.into, deadline).await? {
            let kept =
                format!("{wrong}; the database is left for you to look at, drop it before another attempt");
            return Ok(permanent(self.shown(&kept)));
        }
        let mut connection = self.connect(Some(&restore.into)).await?;
        make_fence(&mut connection).await?;
        let mut transaction = connection.begin().await?;
        self.limit(&mut transaction, deadline, Limits::Transaction).await?;
        fence(&mut transaction, context).await?;
        transaction.commit().await?;
        goodbye(connection).await;
        let output = format!("restored {} into {}; {verified}", restore.file, restore.into);
        Ok(StepOutcome::Done { output, changed: true })
    }

    /// After a failed `pg_restore`: the database that we made a moment ago goes again.
    async fn given_up(&self, restore: &Restore, failure: StepOutcome) -> StepOutcome {
        let dropped = async {
            let mut server = self.connect(Some(&restore.maintenance_database)).await?;
            let drop = format!("DROP DATABASE {}", quoted(&restore.into));
            sqlx::query(AssertSqlSafe(drop)).persistent(false).execute(&mut server).await?;
            goodbye(server).await;
            Ok::<(), Trouble>(())
        };
        match (dropped.await, failure) {
            (Ok(()), StepOutcome::Failed { kind, reason, output }) => StepOutcome::Failed {
                kind,
                reason: format!("{reason}; the new database is dropped again"),
                output,
            },
            (Err(trouble), StepOutcome::Failed { reason, output, .. }) => StepOutcome::Unknown {
                reason: self.shown(&format!(
                    "{reason}; the unfinished database {} cannot be dropped: {}",
                    restore.into,
                    trouble.words()
                )),
                output,
            },
            (_, other) => other,
        }
    }
}

fn not_ours(name: &str) -> String {
    format!(
        "there is a database {name}, and it is not one that this step finished; it is not touched, drop it yourself"
    )
}

fn tool_failure(name: &str, ran: &Result<Ran, Ended>) -> Option<StepOutcome> {
    let (kind, reason, output) = match ran {
        Ok(Ran { code: 0, .. }) => return None,
        Ok(Ran { code, said, .. }) => {
            let passing = [
                "could not connect",
                "connection to server",
                "due to lock timeout",
                "due to statement timeout",
            ];
            let kind = match passing.iter().any(|words| said.contains(words)) {
                true => FailureKind::Retryable,
                false => FailureKind::Permanent,
            };
            let last = said.lines().next_back().unwrap_or_default();
            (kind, format!("{name} ended with exit code {code}: {last}"), said.clone())
        }
        Err(Ended::NotStarted { kind, reason }) => (*kind, reason.clone(), String::new()),
        Err(Ended::Ended { reason, said }) => {
            (FailureKind::Retryable, format!("{name}: {reason}"), said.clone())
        }
    };
    Some(StepOutcome::Failed { kind, reason, output })
}

/// Removes dumps of this name beyond the number that is kept, the oldest first, and never the new one.
fn prune(backup: &Backup, newest: &Path) -> io::Result<Vec<String>> {
    let (begin, end) = (format!("{}-", backup.name), ".dump");
    let mut dumps = Vec::new();
    for entry in fs::read_dir(&backup.directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let data = entry.metadata()?;
        if name.starts_with(&begin) && name.ends_with(end) && data.is_file() && entry.path() != newest {
            dumps.push((data.modified()?, name));
        }
    }
    dumps.sort_by(|one, other| other.cmp(one));
    let mut removed = Vec::new();
    for (_, name) in dumps.into_iter().skip(backup.keep as usize - 1) {
        let path = Path::new(&backup.directory).join(&name);
        fs::remove_file(&path)?;
        match fs::remove_file(beside(&path, ".sha256")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => removed.push(name),
        }
    }
    Ok(removed)
}

/// Whether the dump is what it should be: there, of the right kind, young enough, unchanged. Says what was verified.
async fn verify(restore: &Restore) -> Result<String, Trouble> {
    let path = PathBuf::from(&restore.file);
    let wrong =
        |what: String| Trouble::wrong(format!("the dump {} {what}; nothing was restored", restore.file));
    let unreadable = |error: io::Error| wrong(format!("cannot be read: {}", chain(&error)));
    let data = fs::metadata(&path).map_err(unreadable)?;
    if !data.is_file() {
        return Err(wrong("is not a regular file".into()));
    }
    let mut magic = [0; MAGIC.len()];
    let is_dump =
        fs::File::open(&path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == MAGIC;
    if !is_dump {
        return Err(wrong("is not in the format of `pg_dump --format=custom`".into()));
    }
    let now = SystemTime::from(crate::clock::now());
    let age = data.modified().ok().and_then(|written| now.duration_since(written).ok()).unwrap_or_default();
    if age > restore.max_age.duration() {
        let (hours, most) = (age.as_secs() / 3600, restore.max_age);
        return Err(wrong(format!("is {hours} h old, more than `max_age`, {most}")));
    }
    let listed = match fs::read_to_string(beside(&path, ".sha256")) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok("there is no checksum beside the dump".into());
        }
        Err(error) => return Err(unreadable(error)),
    };
    let expected = listed.split_whitespace().next().unwrap_or_default().to_owned();
    let found = checksum(path).await.map_err(unreadable)?;
    if !expected.eq_ignore_ascii_case(&found) {
        return Err(wrong(format!("has the SHA-256 {found}, and {expected} is written beside it")));
    }
    Ok("its checksum is right".into())
}

async fn checksum(path: PathBuf) -> io::Result<String> {
    let summed = tokio::task::spawn_blocking(move || {
        let (mut file, mut sum) = (fs::File::open(path)?, Sha256::new());
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex::encode(sum.finalize())),
                length => sum.update(&buffer[..length]),
            }
        }
    });
    summed.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_are_kept_and_nothing_else_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, age: u64| {
            let path = directory.path().join(name);
            fs::write(&path, "x").unwrap();
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 - age);
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        for age in 0..15 {
            write(&format!("shop-{age:02}.dump"), age);
            write(&format!("shop-{age:02}.dump.sha256"), age);
        }
        for other in ["shopping-1.dump", "shop-1.dump.partial", "shop-x.sql", "shop.dump", "notes"] {
            write(other, 900_000);
        }
        fs::create_dir(directory.path().join("shop-folder.dump")).unwrap();
        let backup = Backup {
            directory: directory.path().display().to_string(),
            name: "shop".into(),
            keep: 10,
            programs: "/usr/bin".into(),
        };
        // The newest is the oldest by its time: it stays all the same.
        let removed = prune(&backup, &directory.path().join("shop-14.dump")).unwrap();
        assert_eq!(removed, ["shop-09.dump", "shop-10.dump", "shop-11.dump", "shop-12.dump", "shop-13.dump"]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2 * 10 + 5 + 1);
        assert!(prune(&backup, &directory.path().join("shop-14.dump")).unwrap().is_empty());
    }
}
