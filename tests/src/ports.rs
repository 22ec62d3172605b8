//! Free loopback ports.
//!
//! Programs that can bind port 0 and say what they got should do that. The others are given a port that was free a
//! moment ago; another program may still take it in between, so whoever uses one must be ready to try again.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// What has been handed out in this process: two tests in parallel must not be told the same port before either of
/// them has bound it.
static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// The kernel offers a port at random among about 28,000: a hundred that were all handed out before do not happen.
const ATTEMPTS: usize = 100;

/// A TCP port on 127.0.0.1 on which nothing listens, different at each call.
///
/// # Errors
/// If the kernel has no port to give.
pub fn free_port() -> Result<u16> {
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..ATTEMPTS {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free loopback port")?;
        let port = listener.local_addr().context("reading the port that the kernel chose")?.port();
        if handed_out.insert(port) {
            return Ok(port);
        }
    }
    bail!("looking for a free loopback port: {ATTEMPTS} ports in a row had been handed out before")
}
