//! `turnback demo`: a bad deployment on this computer, found and turned back. The play itself is [`crate::demo`].

use super::Context;
use crate::demo::{Options, Scenario, run};
use rules::decision::AutonomyLevel;
use std::process::ExitCode;

/// What is played.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What happens to the service
    #[arg(long, value_enum, default_value_t = Scenario::BadErrors)]
    pub scenario: Scenario,
    /// What the agent may do alone
    #[arg(long, value_enum, default_value_t = Autonomy::Auto, value_name = "LEVEL")]
    pub autonomy: Autonomy,
}

/// Autonomy levels as they are typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Autonomy {
    /// Watch, and tell what would have been done.
    Observe,
    /// Show the plan; people act.
    Recommend,
    /// Wait for `turnback approve` in another terminal.
    Approve,
    /// Turn it back.
    Auto,
}

impl From<Autonomy> for AutonomyLevel {
    fn from(autonomy: Autonomy) -> Self {
        match autonomy {
            Autonomy::Observe => AutonomyLevel::Observe,
            Autonomy::Recommend => AutonomyLevel::Recommend,
            Autonomy::Approve => AutonomyLevel::Approve,
            Autonomy::Auto => AutonomyLevel::Auto,
        }
    }
}

/// Plays. The exit code is the play's: 0 if what should happen happened.
pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<ExitCode> {
    let (json, color) = (context.console.is_json(), context.console.color);
    run(Options { scenario: args.scenario, autonomy: args.autonomy.into(), json, color }).await
}
