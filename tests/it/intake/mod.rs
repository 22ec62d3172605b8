//! News over the channels that teams already run: nothing that was acknowledged is lost, nothing is heard twice.

mod chaos;
mod kafka;
mod nats;
mod samples;
