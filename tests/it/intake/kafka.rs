//! Kafka, seen from a daemon.
