//! Finds the programs that this workspace builds.
//!
//! Cargo tells the path of a package's own programs only to that package's test files, not to a library such as this
//! one; but it always puts them one folder above the test binary. It builds them together with the tests of *their*
//! package only: what lies there of another package may be stale or missing. So a program of another crate gets a thin
//! `main` in `src/bin/` here.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The path of the program `name` in the build that the running test belongs to.
///
/// # Errors
/// If it has not been built; the error says how to build it.
pub fn path(name: &str) -> Result<PathBuf> {
    let running = std::env::current_exe().context("asking for the path of the running test")?;
    let folder = running
        .ancestors()
        .nth(2)
        .with_context(|| format!("{} does not lie in cargo's target directory", running.display()))?;
    let path = folder.join(name);
    ensure!(
        path.is_file(),
        "{} has not been built: `make test` builds it, or `cargo build --workspace --bins`",
        path.display()
    );
    Ok(path)
}
