//! A made-up world in which the deciding half is rehearsed, many thousand watches in a minute: seeded dice, made-up
//! traffic, the real tests.
//!
//! Nothing here is used by the agent. The same seed gives the same figures, always.

pub mod dice;
pub mod judge;

pub use dice::Dice;
pub use judge::{Figures, Scenario, rehearse};
