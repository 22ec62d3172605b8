//! What is shipped beside the program: the service of systemd, the manifests, the rights that the documents ask for. Each is
//! put to use as a user would, since nobody reads them again until the day on which they are wrong.

mod manifests;
mod permissions;
mod unit;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::process::Process;
use tests::{binaries, http, ports, wait};

/// From start to ready; a debug build on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A file below `deploy/`.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

fn read(name: &str) -> Result<String> {
    let path = shipped(name);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// The names of the files of a folder below `deploy/` that end with `end`.
fn names(folder: &str, end: &str) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(shipped(folder)).with_context(|| format!("listing {folder}"))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name.ends_with(end));
    names.sort();
    ensure!(!names.is_empty(), "deploy/{folder} holds no *{end}: this test looks in the wrong place");
    Ok(names)
}

/// The agent, run with the arguments and variables that something shipped gives it, until `paths` answer with 200.
async fn answers(arguments: &[String], variables: &[(&str, &str)], paths: &[&str]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let port = ports::free_port()?;
    let mut command = Command::new(binaries::path("turnback-under-test")?);
    command.args(arguments).args(["--listen", &format!("127.0.0.1:{port}")]);
    command.envs(variables.iter().copied());
    let process = Process::start(command, &folder.path().join("log"))?;
    let client = http::client()?;
    for path in paths {
        wait::until(&format!("{path} to answer"), START_LIMIT, async || {
            ensure!(!process.has_ended()?, "the agent ended: {}", process.last_words());
            let answer = client.get(format!("http://127.0.0.1:{port}{path}")).send().await;
            Ok(answer.is_ok_and(|answer| answer.status() == 200).then_some(()))
        })
        .await?;
    }
    Ok(())
}
