//! What the fuzzer begins with and what it once found, thrown at every entry again.

use anyhow::{Context, Result, ensure};
use std::path::Path;

#[test]
fn every_seed_is_taken_or_refused_in_words() -> Result<()> {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let _already = rustls::crypto::ring::default_provider().install_default();
    for (name, target) in agent::fuzzing::TARGETS {
        let folder = seeds.join(name);
        let files = std::fs::read_dir(&folder).with_context(|| format!("no seeds: {}", folder.display()))?;
        let mut count = 0;
        for file in files {
            let path = file?.path();
            target(&std::fs::read(&path)?);
            count += 1;
        }
        ensure!(count > 0, "{name} has no seed");
    }
    Ok(())
}

#[test]
fn every_entry_has_a_target_of_its_name() -> Result<()> {
    let manifest = include_str!("../fuzz/Cargo.toml");
    let named: Vec<&str> =
        manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    let entries: Vec<&str> = agent::fuzzing::TARGETS.iter().map(|(name, _)| *name).collect();
    ensure!(named[1..] == entries[..], "{named:?} are not {entries:?}");
    Ok(())
}
