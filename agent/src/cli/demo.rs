//! `turnback demo`: a bad deployment on this computer, found and turned back before one's eyes.

use super::Context;
use crate::demo::{self, Scenario};
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use rules::decision::AutonomyLevel;
use std::process::ExitCode;

/// What is played.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What happens to the service
    #[arg(long, value_enum, default_value_t = Scenario::BadErrors)]
    pub scenario: Scenario,
    /// What the agent may do alone
    #[arg(long, default_value = "auto", value_name = "LEVEL", value_parser = levels())]
    pub autonomy: AutonomyLevel,
}

const LEVELS: [(&str, AutonomyLevel); 4] = [
    ("observe", AutonomyLevel::Observe),
    ("recommend", AutonomyLevel::Recommend),
    ("approve", AutonomyLevel::Approve),
    ("auto", AutonomyLevel::Auto),
];

fn levels() -> impl clap::builder::TypedValueParser<Value = AutonomyLevel> {
    let level = |word: String| LEVELS.into_iter().find(|(name, _)| *name == word).map(|(_, level)| level);
    PossibleValuesParser::new(LEVELS.map(|(name, _)| name))
        .try_map(move |word| level(word).ok_or("there is no such level"))
}

pub(super) async fn execute(args: Args, context: &Context<'_>) -> anyhow::Result<ExitCode> {
    let (json, color) = (context.console.is_json(), context.console.color);
    demo::run(demo::Options { scenario: args.scenario, autonomy: args.autonomy, json, color }).await
}
