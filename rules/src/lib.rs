//! rules

pub mod stats;
