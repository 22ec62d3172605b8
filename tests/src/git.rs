//! A real Git repository that others push to: bare, with a work tree beside it that plays the other developers.
//!
//! It is reached by its path, or through a `git daemon` on a free port. Hooks of the bare repository play the server's
//! rules, its slowness and, with [`GitServer::serve_with_hook`], the colleague who pushes at the worst moment.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::process::Process;
use crate::{ports, wait};

/// From start to listening; some milliseconds on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// One commit of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its whole name.
    pub id: String,
    /// Its whole message.
    pub message: String,
}

/// A bare repository with a work tree beside it. Gone when dropped, with its daemon.
#[derive(Debug)]
pub struct GitServer {
    daemon: Option<Process>,
    folder: TempDir,
}

impl GitServer {
    /// An empty repository with the branch `main`.
    ///
    /// # Errors
    /// If git is not installed or there is no room.
    pub fn new() -> Result<GitServer> {
        let folder = tempfile::tempdir().context("making a folder for a repository")?;
        let server = GitServer { daemon: None, folder };
        run(server.folder.path(), &["init", "--quiet", "--bare", "--template=", "shop.git"])?;
        run(server.folder.path(), &["init", "--quiet", "--template=", "work"])?;
        server.work(&["remote", "add", "origin", &server.path()])?;
        Ok(server)
    }

    /// The path of the bare repository, as an address.
    pub fn path(&self) -> String {
        self.bare().display().to_string()
    }

    /// Writes files (an empty text removes one), commits and pushes to `main`; the commit's name.
    ///
    /// # Errors
    /// If git refuses.
    pub fn commit(&self, files: &[(&str, &str)], subject: &str) -> Result<String> {
        for (name, text) in files {
            let path = self.folder.path().join("work").join(name);
            if text.is_empty() {
                fs::remove_file(&path).with_context(|| format!("removing {name}"))?;
                continue;
            }
            fs::create_dir_all(path.parent().context("a file has a folder")?)?;
            fs::write(&path, text).with_context(|| format!("writing {name}"))?;
        }
        self.work(&["add", "--all"])?;
        self.work(&["commit", "--quiet", "--allow-empty", "--message", subject])?;
        self.work(&["push", "--quiet", "origin", "HEAD:main"])?;
        Ok(self.work(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Names the current commit of `main`.
    ///
    /// # Errors
    /// If git refuses.
    pub fn tag(&self, name: &str) -> Result<()> {
        self.work(&["tag", "--annotate", "--message", name, name])?;
        self.work(&["push", "--quiet", "origin", name])?;
        Ok(())
    }

    /// Runs git in the work tree; its standard output.
    ///
    /// # Errors
    /// If git refuses; the error holds what it said.
    pub fn work(&self, arguments: &[&str]) -> Result<String> {
        run(&self.folder.path().join("work"), arguments)
    }

    /// Runs git in the bare repository; its standard output.
    ///
    /// # Errors
    /// If git refuses; the error holds what it said.
    pub fn git(&self, arguments: &[&str]) -> Result<String> {
        run(&self.bare(), arguments)
    }

    /// The commits of a branch, the newest first.
    ///
    /// # Errors
    /// If there is no such branch.
    pub fn log(&self, branch: &str) -> Result<Vec<Commit>> {
        let text = self.git(&["log", "--format=%H%n%B%x00", branch, "--"])?;
        let commits = text.split('\0').map(str::trim_start).filter(|one| !one.is_empty());
        let parted = commits.map(|one| one.split_once('\n').context("a commit has a name and a message"));
        parted
            .map(|one| {
                one.map(|(id, message)| Commit { id: id.to_owned(), message: message.trim_end().to_owned() })
            })
            .collect()
    }

    /// The text of a file on a branch.
    ///
    /// # Errors
    /// If it is not there.
    pub fn file(&self, branch: &str, name: &str) -> Result<String> {
        self.git(&["show", &format!("{branch}:{name}")])
    }

    /// Installs a hook of the bare repository: a shell script.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn hook(&self, name: &str, script: &str) -> Result<()> {
        self.script(&self.bare().join("hooks").join(name), script)
    }

    /// Serves the repository by `git daemon`, pushes included; its address.
    ///
    /// # Errors
    /// If it does not listen in time, with what it printed.
    pub async fn serve(&mut self) -> Result<String> {
        self.serve_with_hook("exit 0").await
    }

    /// The same, with a shell script that is run before each service, named in `$1` (`upload-pack`, `receive-pack`), in
    /// the bare repository.
    ///
    /// # Errors
    /// As [`GitServer::serve`].
    pub async fn serve_with_hook(&mut self, script: &str) -> Result<String> {
        let hook = self.folder.path().join("access-hook");
        self.script(&hook, &format!("cd {}\n{script}", self.path()))?;
        let port = ports::free_port()?;
        let mut command = git(self.folder.path());
        command
            .args(["daemon", "--listen=127.0.0.1", "--reuseaddr", "--export-all", "--enable=receive-pack"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", self.folder.path().display()))
            .arg(format!("--access-hook={}", hook.display()));
        let daemon = Process::start(command, &self.folder.path().join("daemon.log"))?;
        wait::until("git daemon to listen", START_LIMIT, async || {
            ensure!(!daemon.has_ended()?, "git daemon ended: {}", daemon.last_words());
            Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(()))
        })
        .await?;
        self.daemon = Some(daemon);
        Ok(format!("git://127.0.0.1:{port}/shop.git"))
    }

    fn bare(&self) -> PathBuf {
        self.folder.path().join("shop.git")
    }

    fn script(&self, path: &Path, script: &str) -> Result<()> {
        fs::create_dir_all(path.parent().context("a script has a folder")?)?;
        // Written aside and renamed: a program that is open for writing cannot be run.
        let aside = path.with_extension("new");
        fs::write(&aside, format!("#!/bin/sh\n{script}\n")).context("writing a hook")?;
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).context("making a hook executable")?;
        fs::rename(&aside, path).context("installing a hook")
    }
}

fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "init.defaultBranch")
        .env("GIT_CONFIG_VALUE_0", "main");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "Ada").env(format!("GIT_{role}_EMAIL"), "ada@shop.example");
    }
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Result<String> {
    let output = git(directory).args(arguments).output().context("starting git: is it installed?")?;
    ensure!(
        output.status.success(),
        "git {} ended with {}: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
