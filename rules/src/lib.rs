//! Turnback's deciding half.

pub mod action;
pub mod deployment;
pub mod ids;
pub mod plan;
pub mod runbook;
pub mod series;
pub mod signal;
pub mod units;
