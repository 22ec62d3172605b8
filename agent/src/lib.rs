//! agent

pub mod actions;
pub mod notify;
pub mod secrets;
