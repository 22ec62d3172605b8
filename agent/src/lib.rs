//! agent

pub mod clock;
pub mod signals;
