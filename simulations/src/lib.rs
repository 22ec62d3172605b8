//! A made-up world in which the deciding half is rehearsed, many thousand watches in a minute: seeded dice, made-up
//! traffic, the real tests, and what users have today beside them.
//!
//! Nothing here is used by the agent. The same seed gives the same figures, always.

pub mod bench;
pub mod dice;
pub mod judge;
pub mod peers;
pub mod traffic;
pub mod turnback;

pub use dice::Dice;
pub use judge::{Alarm, Judge};
