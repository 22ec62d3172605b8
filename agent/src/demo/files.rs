//! The directory of the demo's deployment system: what is wanted, what runs, where it answers, what was announced.

use anyhow::Context as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

/// The directory.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
}

const WANTED: &str = "wanted";
const RUNNING: &str = "running";
const ADDRESS: &str = "address";
const ANNOUNCEMENTS: &str = "announcements";

impl Files {
    /// Over this directory.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory.
    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.dir.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Replaces a file in one go, so that nobody reads half of it.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        let new = self.dir.join(format!("{name}.{}.new", std::process::id()));
        fs::write(&new, format!("{text}\n")).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("cannot replace {}", path.display()))
    }

    /// The version that shall run.
    pub fn wanted(&self) -> anyhow::Result<Option<String>> {
        self.read(WANTED)
    }

    /// Says which version shall run.
    pub fn want(&self, version: &str) -> anyhow::Result<()> {
        self.write(WANTED, version)
    }

    /// Says which version runs as which process.
    pub fn set_running(&self, version: &str, process: u32) -> anyhow::Result<()> {
        self.write(RUNNING, &format!("{version} {process}"))
    }

    /// Says that none runs.
    pub fn set_none_running(&self) -> anyhow::Result<()> {
        self.write(RUNNING, "none")
    }

    /// `host:port` of the service.
    pub fn address(&self) -> anyhow::Result<String> {
        let missing = || format!("{} holds no deployment of the demo; is it running?", self.dir.display());
        self.read(ADDRESS)?.with_context(missing)
    }

    /// Says where the service answers.
    pub fn set_address(&self, address: &str) -> anyhow::Result<()> {
        self.write(ADDRESS, address)
    }

    /// Whether something was announced under this name.
    pub fn announced(&self, name: &str) -> anyhow::Result<bool> {
        let lines = self.read(ANNOUNCEMENTS)?.unwrap_or_default();
        Ok(lines.lines().any(|line| line.split(' ').next() == Some(name)))
    }

    /// Announces once under this name that the service goes to this version.
    pub fn announce(&self, name: &str, version: &str) -> anyhow::Result<()> {
        if self.announced(name)? {
            return Ok(());
        }
        let path = self.dir.join(ANNOUNCEMENTS);
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
        writeln!(file, "{name} the service goes back to {version}")
            .with_context(|| format!("cannot write to {}", path.display()))
    }
}
