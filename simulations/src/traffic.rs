//! Made-up traffic: what a judge would scrape while a release is out, look by look.
//!
//! [`Traffic`] says what the world is like: rates, pods, errors that step or come in bunches, latency that shifts,
//! daily trends, shared bursts, cold starts, one bad host, gauges that remember, pods that restart and scrapes that
//! fail. A [`Simulator`] plays it: the same [`Dice`](crate::Dice) give the same hour, always. A [`Look`] is all that a
//! judge sees, plain numbers; what the truth is stays on this side.

mod edges;
mod latency;
mod plan;
mod simulator;

pub use edges::{Resolution, bounds, quantile};
pub use plan::{BadHost, Bursts, Clumps, Errors, Gauge, Latency, Scrapes, Tails, Traffic, Trend};
pub use simulator::Simulator;

/// One block of traffic, as scraped at its end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Look {
    /// The end of the block, seconds since the deployment; 0 or less is history, before it.
    pub at: f64,
    /// The length of the block, seconds.
    pub seconds: f64,
    /// The pods of the new release. In history: the pods that it will replace, still of the old release, so that
    /// history is an A/A comparison.
    pub canary: Arm,
    /// The pods of the old release.
    pub control: Arm,
    /// One gauge of the canary (a queue's depth, say), if the world has one and it was scraped.
    pub gauge: Option<f64>,
}

/// All pods of one release.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Arm {
    /// At least one.
    pub pods: Vec<Pod>,
}

/// What one pod's counters grew by since it was last scraped.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pod {
    /// Whether this look scraped the pod. If not, everything else here is 0, and the next successful scrape carries
    /// what was missed.
    pub scraped: bool,
    /// Whether its counters began anew since the last scrape. What it served before, nobody knows.
    pub restarted: bool,
    /// Requests served.
    pub requests: u64,
    /// Requests that failed; at most `requests`.
    pub errors: u64,
    /// Requests by duration, one count for each of [`bounds`]`(Resolution::Classic)` and one for "longer"; empty in a
    /// world without latency. The counts are not cumulative.
    pub classic: Vec<u64>,
    /// The same requests in the fine buckets of [`bounds`]`(Resolution::Native)`.
    pub native: Vec<u64>,
}

impl Pod {
    fn clear(&mut self) {
        (self.scraped, self.restarted, self.requests, self.errors) = (false, false, 0, 0);
        // In a world without latency there is nothing to fill, and a call that fills nothing is a third of a look.
        for counts in [&mut self.classic, &mut self.native] {
            if !counts.is_empty() {
                counts.fill(0);
            }
        }
    }
}

impl Arm {
    /// Requests of all pods.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.pods.iter().map(|pod| pod.requests).sum()
    }

    /// Failed requests of all pods.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.pods.iter().map(|pod| pod.errors).sum()
    }

    /// Adds the buckets of all pods to `sum`, which grows to their number if it is shorter.
    pub fn add_buckets(&self, resolution: Resolution, sum: &mut Vec<u64>) {
        for pod in &self.pods {
            let counts = match resolution {
                Resolution::Classic => &pod.classic,
                Resolution::Native => &pod.native,
            };
            sum.resize(sum.len().max(counts.len()), 0);
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
    }
}
