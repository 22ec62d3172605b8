//! A Kafka source as the configuration has it.

use crate::brokers::kafka::{KafkaConnection, is_topic};
use crate::brokers::list_problems;
use crate::events::hooks::Rule;
use crate::events::stream::reader_problems;
use serde::{Deserialize, Serialize};

/// Topics of one source: more are better split by what they are about.
const MOST_TOPICS: usize = 100;
/// Tries beyond this only hold the partition up.
const MOST_TRIES: u32 = 20;

/// Topics of Kafka that hold events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSourceConfig {
    /// The cluster.
    pub connection: KafkaConnection,
    /// The topics.
    pub topics: Vec<String>,
    /// The consumer group. Its offsets say how far everything was heard; agents that share a ledger share a group.
    #[serde(default = "group")]
    pub group: String,
    /// The name of this agent in the group, different for each. With one, an agent that was killed has its partitions
    /// again as soon as it is back, instead of after the ten seconds in which the group waits for the dead. The group
    /// sees it with a mark of its topics behind it (`agent-1.6f0c21aa`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The services it may speak about: names, prefixes such as `shop/*`, or `*` for all.
    pub services: Vec<String>,
    /// What its messages mean, where they are neither CloudEvents nor CDEvents nor in our own form: rules as hooks have
    /// them, over `body` and `headers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapping: Vec<Rule>,
    /// How often a message that cannot be read is tried before it becomes a dead letter.
    #[serde(default = "max_tries")]
    pub max_tries: u32,
    /// Where dead letters are sent to, besides the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<String>,
}

fn group() -> String {
    "turnback".into()
}

fn max_tries() -> u32 {
    5
}

impl KafkaSourceConfig {
    /// Everything wrong with it, each with its key.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = self.connection.problems();
        problems.extend(list_problems("topics", &self.topics, MOST_TOPICS, is_topic));
        let mut add = |key: &str, problem: String| problems.push((key.to_owned(), problem));
        if self.group.is_empty() || self.group.len() > 255 {
            add("group", "a name of 1 to 255 bytes is needed".into());
        }
        if self.instance.as_ref().is_some_and(|name| !is_topic(name)) {
            add("instance", "a name of letters, digits and ._- is needed".into());
        }
        if !(1..=MOST_TRIES).contains(&self.max_tries) {
            add("max_tries", format!("{} is not between 1 and {MOST_TRIES}", self.max_tries));
        }
        match &self.dead_letter_topic {
            Some(topic) if !is_topic(topic) => add("dead_letter_topic", format!("{topic:?} is no topic")),
            Some(topic) if self.topics.contains(topic) => {
                add(
                    "dead_letter_topic",
                    format!("{topic:?} is one of `topics`: its letters would come again"),
                );
            }
            Some(_) | None => {}
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
            let config: KafkaSourceConfig = serde_saphyr::from_str(yaml).unwrap();
            config.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        let good =
            "{connection: {brokers: ['a:9092']}, topics: [deploy], services: ['*'], dead_letter_topic: dead}";
        assert_eq!(keys(good), Vec::<String>::new());
        let bad = "{connection: {brokers: []}, topics: ['a b'], services: ['x*'], max_tries: 0, group: '',
            dead_letter_topic: 'a b'}";
        let expected =
            ["connection.brokers", "topics[0]", "group", "max_tries", "dead_letter_topic", "services[0]"];
        assert_eq!(keys(bad), expected);
        let loops = good.replace("dead_letter_topic: dead", "dead_letter_topic: deploy");
        assert_eq!(keys(&loops), ["dead_letter_topic"]);
    }
}
