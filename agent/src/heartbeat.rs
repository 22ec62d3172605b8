//! A sign of life that somebody else listens for: silence is what cannot be told otherwise.
//!
//! Every minute one beat takes the whole road: through the dispatcher's queue, past a decision that must come out bad
//! ([`rules::heartbeat`]), onto the disk, and to a receiver outside, which pages when beats stop coming (healthchecks.io,
//! Dead Man's Snitch, an Alertmanager in another place). A beat that fails anywhere on its way is not sent, so that a full
//! disk, a stuck loop, a channel to people that is broken and an agent that is gone all look the same from there: bad.

use crate::api::Shared;
use crate::clock;
use crate::ledger::NewRecord;
use crate::notify::{Message, Notifier, Notifiers, Webhook, WebhookConfig};
use rules::units::Span;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Who listens for us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatConfig {
    /// Where beats are posted.
    pub webhook: WebhookConfig,
    /// Between two beats. The receiver should page after three are missing.
    #[serde(default = "every_minute")]
    pub every: Span,
}

fn every_minute() -> Span {
    Span::from_seconds(60)
}

/// The ledger holds a record of each beat: more would be its main content.
const SHORTEST: Span = Span::from_seconds(1);

impl HeartbeatConfig {
    /// Everything wrong with it, each with the key at fault.
    pub fn problems(&self) -> Vec<(String, String)> {
        let webhook = self.webhook.problems().into_iter().map(|(key, text)| (format!("webhook.{key}"), text));
        let every = (self.every < SHORTEST)
            .then(|| ("every".to_owned(), format!("is {}; expected at least {SHORTEST}", self.every)));
        webhook.chain(every).collect()
    }
}

/// What sends the beats.
pub struct Heartbeat {
    receiver: Webhook,
    every: Duration,
}

/// Why a beat was not sent.
#[derive(Debug, thiserror::Error)]
enum Missed {
    #[error("the dispatcher does not answer")]
    Dispatcher,
    #[error("a decision that must be bad came out as {0}")]
    Decision(String),
    #[error("it could not be written down")]
    Ledger(#[from] crate::ledger::LedgerError),
    #[error("no channel to people works")]
    Channels,
    #[error("the receiver did not take it")]
    Receiver(#[from] crate::notify::NotifyError),
}

impl Heartbeat {
    /// Sends to `receiver`. Starts nothing.
    pub fn new(receiver: Webhook, every: Span) -> Self {
        Self { receiver, every: every.duration() }
    }

    /// Beats until `down`.
    pub async fn run(self, shared: Arc<Shared>, notifiers: Notifiers, mut down: watch::Receiver<bool>) {
        let mut beats = interval(self.every);
        // After a pause of the whole machine one beat says as much as twenty.
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _either_way = down.wait_for(|down| *down) => return,
                _ = beats.tick() => {}
            }
            if let Err(missed) = self.beat(&shared, &notifiers).await {
                let error: &dyn std::error::Error = &missed;
                tracing::error!(
                    error,
                    "the sign of life was not given; whoever listens for it will call somebody"
                );
            }
        }
    }

    async fn beat(&self, shared: &Shared, notifiers: &Notifiers) -> Result<(), Missed> {
        let heard = timeout(self.every, shared.heard()).await;
        if !heard.unwrap_or(false) {
            return Err(Missed::Dispatcher);
        }
        let now = clock::now();
        rules::heartbeat::decides(now).map_err(Missed::Decision)?;
        let body = json!({ "at": now });
        shared.ledger.append(vec![NewRecord::new("heartbeat", "beat", 1, now, body)]).await?;
        if !notifiers.any_works() {
            return Err(Missed::Channels);
        }
        let message = Message {
            kind: "heartbeat".into(),
            severity: None,
            title: "Turnback is alive".into(),
            text: format!("The next sign of life comes within {} s.", self.every.as_secs()),
            service: None,
            watch: None,
            incident: false,
            page: false,
            dedup_key: format!("heartbeat/{now}"),
            at: now,
            link: None,
        };
        Ok(self.receiver.send(&message).await?)
    }
}
