//! agent

pub mod events;
