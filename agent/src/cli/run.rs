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
