//! The service of systemd: its sandbox is measured, and so is what each drop-in takes away from it.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{answers, names, read};

/// Of 10. The unit must stay below it, with every drop-in that we ship.
const MOST: f64 = 2.0;
/// Versions of systemd weigh a little differently.
const TOLERANCE: f64 = 0.21;

/// What systemd itself says of a unit.
struct Judgement {
    passed: bool,
    exposure: f64,
    complaints: String,
}

/// The unit, with a drop-in if there is one, as systemd would load it. Needs no systemd that runs.
fn judge(unit: &str, drop_in: Option<&str>) -> Result<Judgement> {
    let root = tempfile::tempdir()?;
    let folder = root.path().join("etc/systemd/system");
    fs::create_dir_all(folder.join("turnback.service.d"))?;
    fs::write(folder.join("turnback.service"), unit)?;
    if let Some(drop_in) = drop_in {
        fs::write(folder.join("turnback.service.d/test.conf"), drop_in)?;
    }
    let mut command = Command::new("systemd-analyze");
    // Tenths: 20 is 2.0.
    command.args(["security", "--no-pager", "--offline=true", "--threshold=20"]);
    command.arg(format!("--root={}", root.path().display())).arg("turnback.service").env("LC_ALL", "C.UTF-8");
    let output = command.output().context(
        "systemd-analyze is not installed? `make setup-test` does it (Debian's package `systemd`)",
    )?;
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().rev().find(|line| line.contains("Overall exposure level"));
    let figure = last.and_then(|line| line.rsplit_once(": ")?.1.split_whitespace().next()?.parse().ok());
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    let exposure = figure.with_context(|| format!("systemd-analyze says no figure: {said}{complaints}"))?;
    Ok(Judgement { passed: output.status.success(), exposure, complaints })
}

#[test]
fn the_service_is_a_sandbox_and_a_bare_unit_is_not() -> Result<()> {
    let unit = judge(&read("systemd/turnback.service")?, None)?;
    assert!(unit.passed && unit.exposure <= MOST, "{}", unit.exposure);
    // A key that is misspelt is ignored, and says so here only.
    assert_eq!(unit.complaints, "");
    let bare = judge("[Service]\nExecStart=/usr/bin/turnback run\n", None)?;
    assert!(!bare.passed && bare.exposure > 9.0, "{}", bare.exposure);
    let misspelt = judge("[Service]\nExecStart=/usr/bin/turnback run\nPrivatTmp=yes\n", None)?;
    assert!(misspelt.complaints.contains("PrivatTmp"), "{}", misspelt.complaints);
    Ok(())
}

#[test]
fn each_drop_in_loosens_as_much_as_it_says() -> Result<()> {
    let unit = read("systemd/turnback.service")?;
    let table = read("permissions.md")?;
    for name in names("systemd/examples", ".conf")? {
        let drop_in = read(&format!("systemd/examples/{name}"))?;
        let first = drop_in.lines().next().unwrap_or_default();
        let said = first.strip_prefix("# Exposure with it: ");
        let said = said.with_context(|| format!("{name}: begin with `# Exposure with it: FIGURE`"))?;
        let judged = judge(&unit, Some(&drop_in))?;
        assert_eq!(judged.complaints, "", "{name}");
        let figure: f64 = said.parse()?;
        assert!((judged.exposure - figure).abs() < TOLERANCE, "{name}: {} and not {said}", judged.exposure);
        assert!(judged.passed && judged.exposure <= MOST, "{name}: {}", judged.exposure);
        let row = table.lines().find(|line| line.contains(&format!("(systemd/examples/{name})")));
        let row = row.with_context(|| format!("deploy/permissions.md does not name {name}"))?;
        assert!(row.ends_with(&format!("| {said} |")), "{name}: {row}");
    }
    Ok(())
}

/// The words after `KEY=`, comments left out.
fn setting<'a>(unit: &'a str, key: &str) -> Result<&'a str> {
    let found = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    found.with_context(|| format!("the unit sets no {key}"))
}

#[tokio::test]
async fn the_service_starts_with_what_its_unit_says() -> Result<()> {
    let unit = read("systemd/turnback.service")?;
    let folder = tempfile::tempdir()?;
    let (config, state) = (folder.path().join("turnback.yaml"), folder.path().join("state"));
    fs::write(&config, "version: 1\n")?;
    let line = setting(&unit, "ExecStart")?;
    let place = |word: &str| match word {
        "/etc/turnback/turnback.yaml" => config.display().to_string(),
        "/var/lib/turnback" => state.display().to_string(),
        other => other.to_owned(),
    };
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("/usr/bin/turnback"));
    assert_eq!(setting(&unit, "StateDirectory")?, "turnback", "is what --state-dir names");
    answers(&words.map(place).collect::<Vec<_>>(), &[], &["/readyz", "/healthz"]).await?;
    ensure!(state.join("ledger.db").is_file(), "it kept its ledger somewhere else");
    Ok(())
}

#[test]
fn the_service_gives_up_where_the_agent_says_that_it_makes_no_sense() -> Result<()> {
    let unit = read("systemd/turnback.service")?;
    let wrong = tempfile::NamedTempFile::new()?;
    fs::write(wrong.path(), "version: 1\nnonsense: 1\n")?;
    let mut command = Command::new(tests::binaries::path("turnback-under-test")?);
    let ended = command.arg("run").arg("--config").arg(wrong.path()).output()?.status.code();
    assert_eq!(
        ended.map(|code| code.to_string()).as_deref(),
        Some(setting(&unit, "RestartPreventExitStatus")?)
    );
    Ok(())
}
