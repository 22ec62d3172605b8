//! Turnback's acting half: it listens, measures, writes the ledger, executes, tells. What is decided is decided by the
//! crate `rules`; nothing here has an opinion.

pub mod clock;
pub mod crash;
pub mod events;
pub mod ledger;
pub mod signals;
