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
//! | interval of the ratio, which people read | 2.4 M blocks/s | |
//! | Kayenta's judge: one judgement over an hour of minutes | 7.3 µs = 16 updates of the ratio test | |
//! | Kayenta's judge: an hour, a judgement a minute | 393 µs | |
//! | ratio test: an hour, a look every 10 s, on the same requests | 164 µs, 2.4 times less | |
//! | one look at 100,000 live signals beside a control, every condition of the matrix `canary` judged | 0.52 s | 1 s |
//! | the same, with three pods each told apart | 0.77 s | 1 s |
//!
//! What the tests of one signal remember, bytes; the limit is 2,048 ([`cost::MOST_STATE_BYTES`]):
//!
//! | | `canary`, control | `canary`, before | `standard`, control | `standard`, before |
//! |---|---|---|---|---|
//! | proportion | 1,736 | 1,384 | 1,616 | 1,352 |
//! | latency | 1,768 | 1,032 | 1,936 | 1,232 |
//! | gauge | 1,720 | 1,720 | 1,720 | 1,720 |
//!
//! A latency beside a control is compared at up to four quantiles at once, and each "more than twice the reference" in the
//! matrix is one test more. Comparing with a control *and* with the past (`with_before`) stays within the limit, too; a test
//! holds every kind of signal to it. Telling the pods apart takes for each of the first eight what its tests against the
//! reference take (a proportion 272 bytes beside a control and 256 without one, a latency 712 and 192), and 24 for each
//! further one. The numbers are counted, not what an allocator or the names of things take.
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
