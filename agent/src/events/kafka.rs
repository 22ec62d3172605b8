//! Kafka as a source of events.
//!
//! ```text
//!  fetch ──▶ read (pure) ──▶ Inlet: ledger commit ──▶ dead letters on, if configured ──▶ offsets committed
//! ```
//!
//! Nothing is committed to the broker before the ledger has it, and nothing is fetched while a batch is on its way, so
//! that a full queue holds back the broker and not our memory. A batch that is cut off anywhere (a kill, a rebalance, a
//! broker that restarts) is delivered again, here or to another member of the group, and the ledger recognises it. What
//! cannot be read is tried a few times, then kept as a dead letter with the reason, and the partition goes on.

#[cfg(feature = "kafka")]
mod client;
mod config;
#[cfg(feature = "kafka")]
mod member;
#[cfg(feature = "kafka")]
mod source;

pub use config::KafkaSourceConfig;
#[cfg(feature = "kafka")]
pub use source::KafkaSource;
