//! Free loopback ports.
//!
//! Programs that can bind port 0 and say what they got should do that. The others are given a port that was free a
//! moment ago; another program may still take it in between, so whoever uses one must be ready to try again. The ports lie
//! below those from which the kernel chooses for whoever binds port 0 or connects somewhere: a thousand connections of a
//! test beside would take one of them sooner or later, between our looking and the server's binding, or while a server that
//! is started again on its port is down.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// What has been handed out in this process: two tests in parallel must not be told the same port before either of
/// them has bound it.
static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Most servers that a machine runs by itself listen below.
const LOWEST: u16 = 15_000;
/// With fewer ports of our own than this, the kernel chooses.
const FEWEST: u16 = 2_000;
/// How far apart two processes with numbers one after the other start to look: the golden ratio of the usual 17,768 ports,
/// so that those of any twenty numbers near each other have some hundreds of ports to themselves, which is what one hands
/// out.
const APART: u32 = 10_981;
/// A hundred in a row that are all taken do not happen.
const ATTEMPTS: usize = 100;

/// A TCP port on 127.0.0.1 on which nothing listens, different at each call.
///
/// # Errors
/// If a hundred in a row are taken.
pub fn free_port() -> Result<u16> {
    let mut handed_out = HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    let range = own_range();
    for _ in 0..ATTEMPTS {
        let wanted = range.as_ref().map_or(0, |range| next_of(range, &handed_out));
        let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)) else {
            // Somebody listens there: it is not to be looked at again.
            handed_out.insert(wanted);
            continue;
        };
        let port = listener.local_addr().context("reading which port was bound")?.port();
        if handed_out.insert(port) {
            return Ok(port);
        }
    }
    bail!("looking for a free loopback port: {ATTEMPTS} ports in a row were taken, in {range:?}")
}

/// The ports below those that the kernel gives away, if it says which those are and leaves enough.
fn own_range() -> Option<Range<u16>> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let lowest_of_kernel: u16 = text.split_whitespace().next()?.parse().ok()?;
    Some(LOWEST..lowest_of_kernel).filter(|range| range.end.saturating_sub(range.start) >= FEWEST)
}

/// The first port, from where this process begins to look, that was not handed out yet.
fn next_of(range: &Range<u16>, handed_out: &BTreeSet<u16>) -> u16 {
    let many = u32::from(range.end - range.start);
    let first = std::process::id().wrapping_mul(APART) % many;
    (0..many)
        .filter_map(|step| u16::try_from(u32::from(range.start) + (first + step) % many).ok())
        .find(|port| !handed_out.contains(port))
        .unwrap_or(range.start)
}
