//! A NATS source as the configuration has it.

use crate::brokers::list_problems;
use crate::brokers::nats::{NatsConnection, is_subject};
use crate::events::hooks::Rule;
use crate::events::stream::reader_problems;
use rules::units::Span;
use serde::{Deserialize, Serialize};

/// Subjects of one source: more are better covered by a wildcard.
const MOST_SUBJECTS: usize = 100;
/// Deliveries beyond this only hold the stream up.
const MOST_TRIES: u32 = 20;

/// A stream or subjects of NATS that hold events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsSourceConfig {
    /// The servers.
    pub connection: NatsConnection,
    /// The JetStream stream. Without one, `subjects` of core NATS are heard, as hints that may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The name of our durable consumer in the stream. It is made if it is not there.
    #[serde(default = "consumer")]
    pub consumer: String,
    /// Subjects; of a stream, all if none are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// The services it may speak about: names, prefixes such as `shop/*`, or `*` for all.
    pub services: Vec<String>,
    /// What its messages mean, where they are neither CloudEvents nor CDEvents nor in our own form: rules as hooks have
    /// them, over `body` and `headers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapping: Vec<Rule>,
    /// After how long an unacknowledged message is delivered again.
    #[serde(default = "ack_wait")]
    pub ack_wait: Span,
    /// At which delivery a message that cannot be read becomes a dead letter.
    #[serde(default = "max_tries")]
    pub max_tries: u32,
    /// Where dead letters are sent to, besides the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_subject: Option<String>,
}

fn consumer() -> String {
    "turnback".into()
}

fn ack_wait() -> Span {
    Span::from_seconds(30)
}

fn max_tries() -> u32 {
    5
}

impl NatsSourceConfig {
    /// Everything wrong with it, each with its key.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = self.connection.problems();
        if self.stream.is_none() || !self.subjects.is_empty() {
            let good = |subject: &str| is_subject(subject, true);
            problems.extend(list_problems("subjects", &self.subjects, MOST_SUBJECTS, good));
        }
        let mut add = |key: &str, problem: String| problems.push((key.to_owned(), problem));
        for (key, name) in [("stream", self.stream.as_deref()), ("consumer", Some(self.consumer.as_str()))] {
            let bad = |c: char| !c.is_ascii_graphic() || ".*>/\\".contains(c);
            if let Some(name) = name.filter(|name| name.is_empty() || name.contains(bad)) {
                add(key, format!("{name:?} is no name; use letters, digits, - and _"));
            }
        }
        if !(Span::from_seconds(1)..=Span::from_minutes(60)).contains(&self.ack_wait) {
            add("ack_wait", format!("{} is not between 1s and 1h", self.ack_wait));
        }
        if !(1..=MOST_TRIES).contains(&self.max_tries) {
            add("max_tries", format!("{} is not between 1 and {MOST_TRIES}", self.max_tries));
        }
        if let Some(subject) = self.dead_letter_subject.as_ref().filter(|subject| !is_subject(subject, false))
        {
            add("dead_letter_subject", format!("{subject:?} is no subject without wildcards"));
        }
        problems.extend(reader_problems(&self.services, &self.mapping));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_name_their_keys() {
        let keys = |yaml: &str| {
            let config: NatsSourceConfig = serde_saphyr::from_str(yaml).unwrap();
            config.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        let connection = "connection: {servers: ['nats://a:4222']}, services: ['*']";
        assert_eq!(keys(&format!("{{{connection}, stream: DEPLOY}}")), Vec::<String>::new());
        assert_eq!(keys(&format!("{{{connection}, subjects: ['deploy.>']}}")), Vec::<String>::new());
        assert_eq!(keys(&format!("{{{connection}}}")), ["subjects"]);
        let bad = format!(
            "{{{connection}, stream: 'a.b', consumer: '', subjects: ['a b'], ack_wait: 1ms, max_tries: 99,
            dead_letter_subject: 'a.>'}}"
        );
        let expected = ["subjects[0]", "stream", "consumer", "ack_wait", "max_tries", "dead_letter_subject"];
        assert_eq!(keys(&bad), expected);
    }
}
