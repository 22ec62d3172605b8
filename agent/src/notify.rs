//! Messages to people: at least once, to every channel, and never in the way of the decision that caused them.
//!
//! Acting fails closed, telling fails open: a page that comes twice is better than a page that never comes. So each
//! channel has a queue and a worker of its own (a dead chat must not hold the pager up), pages go before other
//! messages, and when a queue is full other messages are dropped before any page is. What was dropped or failed is
//! counted and shown in [`ChannelHealth`]; the caller lowers autonomy when no channel works.
//!
//! A notifier is one file with its configuration, and a line in [`build`].

mod envelope;
mod kafka;
mod log;
mod nats;
mod outlet;
mod post;
mod slack;
mod webhook;

use crate::secrets::{BadSecret, Secrets};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

#[cfg(feature = "kafka")]
pub use kafka::KafkaTopic;
pub use kafka::KafkaTopicConfig;
pub use log::{Log, LogConfig};
pub use nats::{NatsSubject, NatsSubjectConfig};
pub use outlet::ChannelHealth;
pub use slack::{Slack, SlackConfig};
pub use webhook::{Webhook, WebhookConfig};

/// Of a title, in characters: one line.
const LONGEST_TITLE: usize = 300;
/// Of a text, in characters. Chats show less; with it a full queue is a few MiB.
const LONGEST_TEXT: usize = 8_000;

/// Tells what time it is. Signatures carry the time of sending.
pub type Now = fn() -> Timestamp;

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// What kind of news it is, as one word: `proposed`, `rolled_back`, `stuck`.
    pub kind: String,
    /// How bad it is, as one word, if that is known.
    pub severity: Option<String>,
    /// One line.
    pub title: String,
    /// The rest, in lines.
    pub text: String,
    /// The service it is about.
    pub service: Option<String>,
    /// The watch it is about.
    pub watch: Option<String>,
    /// Whether it belongs to an incident.
    pub incident: bool,
    /// Whether somebody must look now.
    pub page: bool,
    /// The same for all messages about the same thing, so that receivers can join them.
    pub dedup_key: String,
    /// When it was written.
    pub at: Timestamp,
    /// Where more can be read.
    pub link: Option<String>,
}

/// Why a message was not delivered. The texts never hold addresses or tokens.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// It may go through later.
    #[error("could not deliver to {name} for now: {reason}")]
    Passing {
        /// The notifier.
        name: String,
        /// In words.
        reason: String,
    },
    /// It will not go through until the configuration or the receiver is changed.
    #[error("{name} refuses the message: {reason}")]
    Refused {
        /// The notifier.
        name: String,
        /// In words.
        reason: String,
    },
}

/// One channel to people.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Delivers one message. It may make a few attempts, and is cut off after ten seconds.
    async fn send(&self, message: &Message) -> Result<(), NotifyError>;

    /// Its name in the configuration.
    fn name(&self) -> &str;
}

/// The notifiers, each kind under its names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    /// Receivers of our own JSON.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub webhook: BTreeMap<String, WebhookConfig>,
    /// Incoming webhooks of Slack and of what speaks its format (Mattermost, Rocket.Chat).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slack: BTreeMap<String, SlackConfig>,
    /// Topics of Kafka, for programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kafka: BTreeMap<String, KafkaTopicConfig>,
    /// Subjects of NATS, for programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nats: BTreeMap<String, NatsSubjectConfig>,
    /// Our own log.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub log: BTreeMap<String, LogConfig>,
}

impl NotifyConfig {
    /// Everything wrong with it, each with the path of the key at fault (`slack.team.url`).
    pub fn problems(&self) -> Vec<(String, String)> {
        let Self { webhook, slack, kafka, nats, log } = self;
        let mut found = Vec::new();
        let mut take = |kind: &str, name: &str, problems: Vec<(String, String)>| {
            found.extend(problems.into_iter().map(|(key, text)| (format!("{kind}.{name}.{key}"), text)));
        };
        webhook.iter().for_each(|(name, config)| take("webhook", name, config.problems()));
        slack.iter().for_each(|(name, config)| take("slack", name, config.problems()));
        kafka.iter().for_each(|(name, config)| take("kafka", name, config.problems()));
        nats.iter().for_each(|(name, config)| take("nats", name, config.problems()));
        log.iter().for_each(|(name, config)| take("log", name, config.problems()));
        found
    }
}

/// Why a notifier cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BadNotifier {
    /// A secret is not there.
    #[error("{key} cannot be filled in")]
    Secret {
        /// The key: `slack.team.url`.
        key: String,
        /// Why.
        #[source]
        source: BadSecret,
    },
    /// The configuration makes no sense.
    #[error("{key} {problem}")]
    Configuration {
        /// The key.
        key: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

/// Makes the configured notifiers and resolves their secrets. Starts nothing.
pub fn build(
    config: &NotifyConfig,
    secrets: &Arc<Secrets>,
    now: Now,
) -> Result<Vec<Box<dyn Notifier>>, BadNotifier> {
    let NotifyConfig { webhook, slack, kafka, nats, log } = config;
    let mut notifiers: Vec<Box<dyn Notifier>> = Vec::new();
    for (name, config) in webhook {
        notifiers.push(Box::new(Webhook::new(name, config, secrets, now)?));
    }
    for (name, config) in slack {
        notifiers.push(Box::new(Slack::new(name, config, secrets)?));
    }
    for (name, config) in kafka {
        #[cfg(feature = "kafka")]
        notifiers.push(Box::new(KafkaTopic::new(name, config, secrets)?));
        #[cfg(not(feature = "kafka"))]
        if let Some((key, problem)) = config.problems().into_iter().next() {
            return Err(BadNotifier::Configuration { key: format!("kafka.{name}.{key}"), problem });
        }
    }
    for (name, config) in nats {
        notifiers.push(Box::new(NatsSubject::new(name, config, secrets)?));
    }
    for (name, config) in log {
        notifiers.push(Box::new(Log::new(name, config)));
    }
    Ok(notifiers)
}

/// Hands messages to every channel. Cheap to clone.
#[derive(Clone)]
pub struct Notifiers {
    outlets: Arc<Vec<outlet::Outlet>>,
}

/// The other end of [`Notifiers`]: what delivers. Whoever starts the agent's tasks runs it.
pub struct Delivery {
    outlets: Arc<Vec<outlet::Outlet>>,
}

impl Notifiers {
    /// Joins the channels. Starts nothing: run the [`Delivery`].
    pub fn new(notifiers: Vec<Box<dyn Notifier>>) -> (Self, Delivery) {
        let outlets = Arc::new(notifiers.into_iter().map(outlet::Outlet::new).collect::<Vec<_>>());
        (Self { outlets: Arc::clone(&outlets) }, Delivery { outlets })
    }

    /// Puts a message into every channel's queue and returns at once. Title and text are cut to a length that people
    /// read, and control characters in them are replaced.
    pub fn send(&self, message: Message) {
        let (title, text) = (clean(&message.title, LONGEST_TITLE), clean(&message.text, LONGEST_TEXT));
        let message = Arc::new(Message { title, text, ..message });
        for outlet in self.outlets.iter() {
            outlet.put(Arc::clone(&message));
        }
    }

    /// How each channel does.
    pub fn health(&self) -> Vec<ChannelHealth> {
        self.outlets.iter().map(outlet::Outlet::health).collect()
    }

    /// Whether at least one channel is not known to be broken. With no channel at all nobody can be told: false.
    pub fn any_works(&self) -> bool {
        self.outlets.iter().any(|outlet| outlet.health().failures_in_a_row == 0)
    }
}

impl Delivery {
    /// Delivers until `stop` turns to `true` or its holder goes away; what waits then gets ten more seconds.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let mut workers = tokio::task::JoinSet::new();
        for number in 0..self.outlets.len() {
            let (outlets, stop) = (Arc::clone(&self.outlets), stop.clone());
            workers.spawn(async move { outlets[number].deliver(stop).await });
        }
        while let Some(ended) = workers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a notifier's worker broke down; its channel delivers nothing any more");
            }
        }
    }
}

/// Text of others made fit to be shown: control characters and characters that turn the direction of writing are
/// replaced, newlines stay. At most `longest` characters.
fn clean(text: &str, longest: usize) -> String {
    let harmless = |c: char| match c {
        '\n' => '\n',
        '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let mut characters = text.chars();
    let mut clean: String = characters.by_ref().take(longest).map(harmless).collect();
    if characters.next().is_some() {
        clean.pop();
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests;
