//! The users of the service: a steady stream of requests that does not wait for answers.
//!
//! Open loop: a slow service gets as many requests as a fast one. A load that waits for each answer before it sends
//! the next would be gentlest exactly when the service is worst, and hide the fault that a test has made.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::MissedTickBehavior;

use crate::http;

/// Requests waiting for an answer at once: ten seconds of a load of 100 a second. What would be more is counted as
/// dropped instead of eating memory and sockets.
const IN_FLIGHT_LIMIT: usize = 1_000;

/// After so long a user gives up.
const USER_PATIENCE: Duration = Duration::from_secs(5);

/// The highest rate accepted, in requests a second: beyond it the generator, not the service, would be what is slow.
const RATE_LIMIT: u32 = 2_000;

/// Where the load goes; can be changed while it runs, as a load balancer does at a deployment.
#[derive(Debug, Clone)]
pub struct Target(Arc<RwLock<Addresses>>);

#[derive(Debug)]
struct Addresses {
    first: SocketAddr,
    others: Vec<SocketAddr>,
    turn: AtomicUsize,
}

impl Target {
    /// A target that points to `address`.
    pub fn new(address: SocketAddr) -> Target {
        Target(Arc::new(RwLock::new(Addresses {
            first: address,
            others: Vec::new(),
            turn: AtomicUsize::new(0),
        })))
    }

    /// A target that points to each of `addresses` in turn.
    ///
    /// # Errors
    /// If there are none.
    pub fn in_turn(addresses: &[SocketAddr]) -> Result<Target> {
        let (first, others) = addresses.split_first().context("a load needs an address to go to")?;
        let addresses = Addresses { first: *first, others: others.to_vec(), turn: AtomicUsize::new(0) };
        Ok(Target(Arc::new(RwLock::new(addresses))))
    }

    /// Sends all requests from now on to `address`.
    pub fn set(&self, address: SocketAddr) {
        let mut addresses = self.0.write().unwrap_or_else(PoisonError::into_inner);
        (addresses.first, addresses.others) = (address, Vec::new());
    }

    /// Where it points to now: with several addresses, the first of them.
    pub fn get(&self) -> SocketAddr {
        self.0.read().unwrap_or_else(PoisonError::into_inner).first
    }

    /// Where the next request goes.
    fn next(&self) -> SocketAddr {
        let addresses = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let turn = addresses.turn.fetch_add(1, Relaxed) % (1 + addresses.others.len());
        if turn == 0 { addresses.first } else { addresses.others[turn - 1] }
    }
}

/// What the users have seen so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    /// Requests sent.
    pub sent: u64,
    /// Answered 2xx.
    pub good: u64,
    /// Answered with any other status.
    pub bad: u64,
    /// Not answered: connection refused or broken, or no answer within five seconds.
    pub lost: u64,
    /// Not sent, because 1,000 others were waiting.
    pub dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    good: AtomicU64,
    bad: AtomicU64,
    lost: AtomicU64,
    dropped: AtomicU64,
}

/// How a load ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Users go away; what they wait for is of no interest any more.
    AtOnce,
    /// No new users; those that wait get their answers.
    Answered,
}

/// A running load, stopped on drop. It has a thread of its own, so that a test that blocks does not slow it down.
#[derive(Debug)]
pub struct Load {
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<End>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Sends `rate` requests a second to `GET /work` at `target`, until dropped.
    ///
    /// # Errors
    /// If `rate` is 0 or above 2,000, or the client cannot be built.
    pub fn start(target: Target, rate: u32) -> Result<Load> {
        ensure!((1..=RATE_LIMIT).contains(&rate), "a load of {rate} a second: expected 1 to {RATE_LIMIT}");
        let client = http::client_within(USER_PATIENCE)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("building the runtime of the load")?;
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&counters);
        let thread = std::thread::spawn(move || {
            let places = Arc::new(Semaphore::new(IN_FLIGHT_LIMIT));
            runtime.block_on(async {
                let end = tokio::select! {
                    () = send(target, rate, client, shared, &places) => End::AtOnce,
                    end = stopped => end.unwrap_or(End::AtOnce),
                };
                if end == End::Answered {
                    // Once nobody waits, all places are free. Each request ends by its time-out at the latest.
                    let all = u32::try_from(IN_FLIGHT_LIMIT).unwrap_or(u32::MAX);
                    drop(places.acquire_many(all).await);
                }
            });
        });
        Ok(Load { counters, stop: Some(stop), thread: Some(thread) })
    }

    /// Sends nothing more, waits for what has not been answered yet (five seconds at most), and says what happened:
    /// each request that was sent is counted as good, bad or lost.
    pub fn finish(mut self) -> Answers {
        self.end(End::Answered);
        self.answers()
    }

    /// What has happened so far.
    pub fn answers(&self) -> Answers {
        let Counters { sent, good, bad, lost, dropped } = &*self.counters;
        let [sent, good, bad, lost, dropped] =
            [sent, good, bad, lost, dropped].map(|counter| counter.load(Relaxed));
        Answers { sent, good, bad, lost, dropped }
    }

    fn end(&mut self, how: End) {
        // The thread may be gone already, which is what is wanted.
        self.stop.take().map(|stop| stop.send(how));
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the load generator panicked; its message is above");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end(End::AtOnce);
    }
}

async fn send(
    target: Target,
    rate: u32,
    client: reqwest::Client,
    counters: Arc<Counters>,
    places: &Arc<Semaphore>,
) {
    let mut clock = tokio::time::interval(Duration::from_secs(1) / rate);
    // What a busy machine made us miss is sent at once: the rate holds on average.
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        clock.tick().await;
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            counters.dropped.fetch_add(1, Relaxed);
            continue;
        };
        counters.sent.fetch_add(1, Relaxed);
        let request = client.get(format!("http://{}/work", target.next()));
        let counters = Arc::clone(&counters);
        // Ends with the runtime, when the load is dropped.
        tokio::spawn(async move {
            let counter = match request.send().await {
                Ok(answer) if answer.status().is_success() => &counters.good,
                Ok(_) => &counters.bad,
                Err(_) => &counters.lost,
            };
            counter.fetch_add(1, Relaxed);
            drop(place);
        });
    }
}
