//! NATS, seen from a daemon.
