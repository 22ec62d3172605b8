//! Sources that fetch news by themselves: brokers and clusters.

use crate::inlet::{Inlet, Reporter};
use async_trait::async_trait;
use rules::ids::SourceName;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a source that fetches waits for a place in the queue before it says so and tries again: what it has not
/// acknowledged stays where it was.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A source that fetches news.
///
/// The contract: nothing is acknowledged to the sender before [`Inlet::tell`] has answered; what goes wrong is reported
/// and tried again, after a growing pause, for as long as the agent runs; and nothing that goes wrong is ever news about
/// a service.
#[async_trait]
pub trait Listener: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &SourceName;
    /// What kind it is: `kafka`, `nats`, `kubernetes`.
    fn kind(&self) -> &'static str;
    /// What it is and where, for people. Holds no secret.
    fn describe(&self) -> String;
    /// Hears until `down`.
    async fn run(self: Box<Self>, inlet: Inlet, reporter: Reporter, down: watch::Receiver<bool>);
}

/// Why hearing ended.
pub enum Ended {
    /// The agent ends.
    Down,
    /// It has to begin anew.
    Broken(String),
}

/// What was heard for so long had begun well: the next pause is a short one.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// A source whose hearing ends whenever the connection breaks.
#[async_trait]
pub trait Hearing: Send + Sync {
    /// Connects, and hears until that breaks or `down` comes.
    async fn hear(&mut self, inlet: &Inlet, reporter: &Reporter, down: &mut watch::Receiver<bool>) -> Ended;
}

/// Hears, and begins anew whenever that breaks, after a growing pause, until the agent ends.
pub async fn keep_hearing(
    source: &mut dyn Hearing,
    inlet: &Inlet,
    reporter: &Reporter,
    down: &mut watch::Receiver<bool>,
) {
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        match source.hear(inlet, reporter, down).await {
            Ended::Down => return,
            Ended::Broken(reason) => reporter.down(reason),
        }
        if begun.elapsed() > WELL_AFTER {
            backoff.reset();
        }
        if !backoff.wait(down).await {
            return;
        }
    }
}

/// Waits until the agent ends.
pub async fn asked_to_end(down: &mut watch::Receiver<bool>) {
    // The sender is gone when the application is: that is an end too.
    let _either_way = down.wait_for(|down| *down).await;
}

/// Pauses between attempts: doubling from a quarter of a second to half a minute, a fifth of it at random, so that a
/// fleet of agents does not come back to a broker in step.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(30);

    /// The attempt went well: the next pause is a short one.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How long to wait now.
    pub fn next_pause(&mut self) -> Duration {
        let pause = Self::FIRST.saturating_mul(2_u32.saturating_pow(self.attempts)).min(Self::LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        let dice = f64::from(crate::clock::now().subsec_nanosecond() % 1_000) / 1_000.0;
        pause.mul_f64(0.8 + 0.2 * dice)
    }

    /// Waits; `false` if `down` came first.
    pub async fn wait(&mut self, down: &mut watch::Receiver<bool>) -> bool {
        tokio::select! {
            () = asked_to_end(down) => false,
            () = tokio::time::sleep(self.next_pause()) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..12).map(|_| backoff.next_pause()).collect();
        assert!(pauses[0] <= Backoff::FIRST && pauses[0] >= Backoff::FIRST.mul_f64(0.8));
        assert!(pauses[11] <= Backoff::LONGEST && pauses[11] >= Backoff::LONGEST.mul_f64(0.8));
        backoff.reset();
        assert!(backoff.next_pause() <= Backoff::FIRST);
    }
}
