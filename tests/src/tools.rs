//! Finds the programs that `make setup-test` fetches because no Debian package has them.
//!
//! The table `deploy/setup/tools.txt` names them with their versions; the script beside it fetches, this module finds.
//! Both read the same table, so a test never runs another version than the one that the setup brought.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What the setup fetches, built in: a test binary that is run elsewhere still knows what it needs.
const TABLE: &str = include_str!("../../deploy/setup/tools.txt");

/// The path of the program `name`: in `$TURNBACK_TOOLS` if that is set, otherwise in the user's cache folder.
///
/// # Errors
/// If the table does not list it, or it is not there; the error says how to get it.
pub fn path(name: &str) -> Result<PathBuf> {
    find(&folder()?, name)
}

fn find(tools: &Path, name: &str) -> Result<PathBuf> {
    let version = version(name)
        .with_context(|| format!("deploy/setup/tools.txt does not list the program `{name}`: add a line"))?;
    let path = tools.join(format!("{name}-{version}")).join("bin").join(name);
    ensure!(
        path.is_file(),
        "the program `{name}` {version} is missing, looked for at {}: `make setup-test` fetches it (TURNBACK_TOOLS \
         names another folder of tools)",
        path.display()
    );
    Ok(path)
}

fn version(name: &str) -> Option<&'static str> {
    TABLE.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        (fields.next() == Some(name)).then(|| fields.next()).flatten()
    })
}

/// The folder with the jars of Apache Kafka that `deploy/setup/kafka.sh` fetches.
///
/// # Errors
/// If it is not there; the error says how to get it.
pub fn kafka() -> Result<PathBuf> {
    let table = include_str!("../../deploy/setup/kafka.txt");
    let jar = table.lines().find_map(|line| line.split_once("/kafka_2.13/")).map(|(_, rest)| rest);
    let version =
        jar.and_then(|jar| jar.split('/').next()).context("deploy/setup/kafka.txt names no broker")?;
    let path = folder()?.join(format!("kafka-{version}"));
    ensure!(
        path.is_dir(),
        "Apache Kafka {version} is missing, looked for at {}: `make setup-test` fetches it",
        path.display()
    );
    Ok(path)
}

/// The path of a program that a package brings and that the agent wants by its path, such as `kubectl`.
///
/// # Errors
/// If it is nowhere on `PATH`; the error says how to get it.
pub fn on_path(name: &str) -> Result<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("the program `{name}` is not on PATH: `make setup-test` installs it"))
}

/// The folder of tools, as in `deploy/setup/tools.sh`: it may not exist.
///
/// # Errors
/// If no environment variable tells where the user keeps such things.
pub fn folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(tools) = set("TURNBACK_TOOLS") {
        return Ok(tools);
    }
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    let cache = cache
        .context("looking for the folder of tools: none of TURNBACK_TOOLS, XDG_CACHE_HOME, HOME is set")?;
    Ok(cache.join("turnback/tools"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let nowhere = find(Path::new("/nonexistent"), "envoy").unwrap_err().to_string();
        assert!(
            nowhere.contains("`make setup-test`") && nowhere.contains("/nonexistent/envoy-"),
            "{nowhere}"
        );
        let unlisted = find(Path::new("/nonexistent"), "name").unwrap_err().to_string();
        assert!(unlisted.contains("does not list the program `name`"), "{unlisted}");
    }
}
