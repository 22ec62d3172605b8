//! `turnback run`: the daemon.

use super::config::Files;
use super::{Context, Exit};
use crate::app;
use std::net::SocketAddr;

/// With which configuration, and where it listens.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which files.
    #[command(flatten)]
    pub files: Files,
    /// Where the API listens, instead of `api.listen` of the configuration
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

/// Runs until the daemon is asked to end.
pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<Exit> {
    let state_dir = context.options.state_dir.clone();
    app::run(app::Options { config: args.files.config, listen: args.listen, state_dir }).await?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::testing::turnback;
    use crate::ledger::Ledger;

    const NOWHERE: &str = "http://127.0.0.1:9";

    #[tokio::test]
    async fn a_daemon_that_cannot_start_is_78_and_says_what_is_in_its_way() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, state_dir) = (taken.local_addr().unwrap().to_string(), state.to_str().unwrap());
        // The log is the whole process's, and the other tests' words are not wanted in it.
        let config = dir.path().join("turnback.yaml");
        std::fs::write(&config, "version: 1\nlog: { level: error }\n").unwrap();
        let config = config.to_str().unwrap();
        let words = ["--state-dir", state_dir, "run", "--config", config, "--listen", &address];
        let (code, _, err) = turnback(NOWHERE, &words).await;
        assert_eq!(code, 78, "{err}");
        assert!(err.starts_with("error: the agent cannot start\n") && err.contains(&address), "{err}");
        let another = tempfile::tempdir().unwrap();
        let _held = Ledger::open(&another.path().join(crate::app::LEDGER_FILE)).await.unwrap();
        let state_dir = another.path().to_str().unwrap();
        let (code, _, err) = turnback(
            NOWHERE,
            &["--state-dir", state_dir, "run", "--config", config, "--listen", "127.0.0.1:0"],
        )
        .await;
        assert_eq!(code, 78, "{err}");
        assert!(err.contains("cannot open the ledger"), "{err}");
    }
}
