//! The users of the demo: requests at a steady rate, whatever comes back, as a crowd of independent people sends them.

use anyhow::Context as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

/// Between two requests: 200 a second, which is a small service's traffic and little work for a laptop.
const BETWEEN: Duration = Duration::from_millis(5);
/// Users give up after this.
const PATIENCE: Duration = Duration::from_secs(2);
/// Requests under way at the same time: 2 s of them. More are not sent and count as unanswered.
const MOST_UNDER_WAY: usize = 400;

/// What became of the requests so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    /// Answered with success.
    pub good: u64,
    /// Answered with an error.
    pub bad: u64,
    /// Not answered.
    pub none: u64,
}

#[derive(Default)]
struct Counters {
    good: AtomicU64,
    bad: AtomicU64,
    none: AtomicU64,
}

/// The users. Dropping them ends their requests.
pub struct Load {
    task: JoinHandle<()>,
    counters: Arc<Counters>,
}

impl Load {
    /// Begins to send requests to `http://address/work`.
    pub fn start(address: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy();
        let client = client.build().context("cannot make the users' HTTP client")?;
        let counters = Arc::<Counters>::default();
        let task = tokio::spawn(send(client, format!("http://{address}/work"), Arc::clone(&counters)));
        Ok(Self { task, counters })
    }

    /// What became of the requests so far.
    pub fn answers(&self) -> Answers {
        let Counters { good, bad, none } = &*self.counters;
        Answers {
            good: good.load(Ordering::Relaxed),
            bad: bad.load(Ordering::Relaxed),
            none: none.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Answers {
    /// What came since `before`.
    pub fn since(self, before: Answers) -> Answers {
        Answers {
            good: self.good.saturating_sub(before.good),
            bad: self.bad.saturating_sub(before.bad),
            none: self.none.saturating_sub(before.none),
        }
    }

    /// All of them.
    pub fn all(self) -> u64 {
        self.good + self.bad + self.none
    }
}

async fn send(client: reqwest::Client, url: String, counters: Arc<Counters>) {
    let mut ticks = interval(BETWEEN);
    // After a pause of this machine the users that would have come do not come all at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let places = Arc::new(Semaphore::new(MOST_UNDER_WAY));
    let mut under_way = JoinSet::new();
    loop {
        ticks.tick().await;
        while under_way.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            counters.none.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let (request, counters) = (client.get(&url), Arc::clone(&counters));
        under_way.spawn(async move {
            let counter = match request.send().await {
                Ok(answer) if answer.status().is_success() => &counters.good,
                Ok(_) => &counters.bad,
                Err(_) => &counters.none,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            drop(place);
        });
    }
}
