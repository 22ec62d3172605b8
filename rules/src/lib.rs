//! Turnback's deciding half.

pub mod action;
pub mod decision;
pub mod deployment;
pub mod evidence;
pub mod execution;
pub mod fleet;
pub mod guard;
pub mod ids;
pub mod matrix;
pub mod plan;
pub mod report;
pub mod ruleset;
pub mod runbook;
pub mod series;
pub mod signal;
pub mod stats;
pub mod units;
pub mod verdict;
pub mod watch;
