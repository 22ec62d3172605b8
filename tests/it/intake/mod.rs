//! News over the channels that teams already run: nothing that was acknowledged is lost, nothing is heard twice.

mod chaos;
mod full;
mod kafka;
#[cfg(feature = "kafka-tls")]
mod kafka_tls;
mod nats;
mod samples;
