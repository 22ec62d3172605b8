//! agent
pub mod ledger;

pub mod events;
