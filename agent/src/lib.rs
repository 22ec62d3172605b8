//! Turnback's acting half: it listens, measures, writes the ledger, executes, tells. What is decided is decided by the
//! crate `rules`; nothing here has an opinion.

pub mod actions;
pub mod api;
pub mod app;
pub mod brokers;
pub mod cli;
pub mod clock;
pub mod collector;
pub mod config;
pub mod crash;
pub mod demo;
pub mod deployment_log;
pub mod dispatcher;
pub mod events;
pub mod executor;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod heartbeat;
pub mod inlet;
pub mod ledger;
pub mod notify;
pub mod recorder;
pub mod secrets;
pub mod signals;
pub mod telemetry;
