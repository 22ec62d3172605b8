//! The HTTP client of the tests.

use std::time::Duration;

use anyhow::{Context, Result};

/// Longer than anything on loopback takes, also when the agent waits for a disk that takes seconds to sync: whoever waits for
/// something to become true is not to end because one question took its time. A paused server must not hang a test either.
const TIME_OUT: Duration = Duration::from_secs(20);

/// A client with a time-out of twenty seconds that ignores proxy settings, which are for the outside world.
///
/// # Errors
/// If the client cannot be built.
pub fn client() -> Result<reqwest::Client> {
    client_within(TIME_OUT)
}

/// The same with a time-out of one's own.
///
/// # Errors
/// If the client cannot be built.
pub fn client_within(time_out: Duration) -> Result<reqwest::Client> {
    // Once a process; an error means that somebody else was first, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(time_out)
        // The agent closes a connection that was idle for ten seconds, and a request that is sent over it in that moment is
        // lost: a test that sleeps so long would fail now and then.
        .pool_idle_timeout(Duration::from_secs(3))
        .build()
        .context("building the HTTP client of the tests")
}
