//! agent

pub mod actions;
pub mod clock;
pub mod config;
pub mod events;
pub mod notify;
pub mod secrets;
pub mod signals;
