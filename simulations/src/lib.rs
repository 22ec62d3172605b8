//! A made-up world in which the deciding half is rehearsed, many thousand watches in a minute: seeded dice, made-up
//! traffic, the real tests, and what users have today beside them.
//!
//! Nothing here is used by the agent. The same seed gives the same figures, always.
//!
//! # What it costs
//!
//! `make bench-speed` measures it, prints the table below with the processor's name, and fails when a limit is broken.
//! Figures of 2026-11-21, one core of an AMD EPYC (family 26, model 2), processor time, the quickest of several rounds:
//!
//! | what | figure | limit |
//! |---|---|---|
//! | kernel, 12 alternatives (as in production) | 3.1 M blocks/s | at least 1 M |
//! | kernel, 24 alternatives | 1.8 M blocks/s | at least 1 M |
//! | proportion test, as in production | 2.9 M blocks/s | at least 1 M |
//! | ratio test, as in production | 2.2 M blocks/s | at least 1 M |
//! | interval of the ratio, which people read | 1.3 M blocks/s | |
//! | Kayenta's judge: one judgement over an hour of minutes | 6.7 µs = 15 updates of the ratio test | |
//! | Kayenta's judge: an hour, a judgement a minute | 372 µs | |
//! | ratio test: an hour, a look every 10 s, on the same requests | 165 µs, 2.3 times less | |
//! | one look at 100,000 live signals beside a control, every condition of the matrix `canary` judged | 0.51 s | 1 s |
//! | the same, with three pods each told apart | 0.77 s | 1 s |
//!
//! What the tests of one signal remember, bytes; the limit is 2,048 ([`cost::MOST_STATE_BYTES`]):
//!
//! | | `canary`, control | `canary`, before | `standard`, control | `standard`, before |
//! |---|---|---|---|---|
//! | proportion | 2,000 | 1,432 | 1,912 | 1,432 |
//! | latency | **2,320** | 1,112 | **2,512** | 1,344 |
//! | gauge | 1,704 | 1,704 | 1,704 | 1,704 |
//!
//! A latency beside a control is above the limit: it is compared at up to four quantiles at once, and each "more than twice
//! the reference" in the matrix is one test more. Comparing with a control *and* with the past (`with_before`)
//! takes 232 bytes more. Telling the pods apart takes for each of the first eight what its tests against the reference
//! take (a proportion 280 bytes beside a control and 256 without one, a latency 1,048 and 256), and 24 for each further
//! one. The numbers are counted, not what an allocator or the names of things take.
//!
//! The bench uses divan: it brings three small packages where criterion brings twenty.

pub mod bench;
pub mod cost;
pub mod dice;
pub mod judge;
pub mod peers;
pub mod traffic;
pub mod turnback;

pub use dice::Dice;
pub use judge::{Alarm, Judge};
