//! Redis: queues looked at and paused, keys set, removed one by one or by pattern.
//!
//! Everything here can be seen in the server afterwards, so that each operation can tell whether its effect is there.
//! What would touch more than was meant is not offered: no `FLUSHDB`, no `KEYS`, no pattern without a beginning.

use super::SecretRef;
use crate::runbook::{BadTemplate, Values, check_template, fill};
use crate::units::Span;
use serde::{Deserialize, Serialize};

/// Letters that a pattern must begin with: what begins with less could be anybody's.
const SHORTEST_BEGINNING: usize = 3;
/// Keys removed at most by one step; they are counted and held in memory before the first one goes.
const MOST_KEYS: u64 = 100_000;
/// Of keys and values: a control plane's, not a cache's.
const LONGEST: usize = 64 * 1024;

/// One operation on one Redis server (or one that speaks its protocol, such as Valkey).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSpec {
    /// Where the address is: `redis://user:password@host:port/database`, with TLS `rediss://`.
    pub url: SecretRef,
    /// What is done.
    pub operation: RedisOperation,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RedisOperation {
    /// Holds the length of a queue against bounds. Changes nothing.
    Depth(DepthCheck),
    /// Lets RQ's workers finish what they do and take nothing more.
    RqSuspend(RqSuspend),
    /// Lets them work again.
    RqResume,
    /// Removes every key that matches.
    DeletePattern(DeletePattern),
    /// Sets a key.
    Set(SetKey),
    /// Removes a key.
    Delete(DeleteKey),
}

/// A queue and how long it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepthCheck {
    /// The queue.
    pub queue: Queue,
    /// The most that may wait in it.
    pub at_most: u64,
    /// The least that must.
    #[serde(default)]
    pub at_least: u64,
}

/// Where the entries of a queue are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Queue {
    /// The list of this key.
    List(String),
    /// The stream of this key.
    Stream(String),
    /// The sorted set of this key.
    SortedSet(String),
    /// RQ's queue of this name.
    Rq(String),
    /// Celery's queue of this name, with its priorities.
    Celery(String),
    /// BullMQ's queue, with its prefix: `bull:mail`.
    Bullmq(String),
}

/// RQ's own switch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RqSuspend {
    /// After this time the workers go on by themselves; otherwise not before `rq_resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
}

/// Keys by pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletePattern {
    /// With `*`, `?` and `[…]`. What placeholders are filled in with stands for itself.
    pub pattern: String,
    /// If more keys match, none is removed.
    pub at_most: u64,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetKey {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
    /// After this time it goes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire: Option<Span>,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteKey {
    /// The key.
    pub key: String,
}

impl Queue {
    /// Its key or name.
    pub fn name(&self) -> &str {
        match self {
            Queue::List(name) | Queue::Stream(name) | Queue::SortedSet(name) => name,
            Queue::Rq(name) | Queue::Celery(name) | Queue::Bullmq(name) => name,
        }
    }

    /// The commands whose answers add up to the depth, each with its key.
    pub fn commands(&self) -> Vec<(&'static str, String)> {
        match self {
            Queue::List(key) => vec![("LLEN", key.clone())],
            Queue::Stream(key) => vec![("XLEN", key.clone())],
            Queue::SortedSet(key) => vec![("ZCARD", key.clone())],
            Queue::Rq(name) => vec![("LLEN", format!("rq:queue:{name}"))],
            // The steps of priority that Celery's transport uses unless it is told others.
            Queue::Celery(name) => {
                [String::new(), "\u{6}\u{16}3".into(), "\u{6}\u{16}6".into(), "\u{6}\u{16}9".into()]
                    .into_iter()
                    .map(|step| ("LLEN", format!("{name}{step}")))
                    .collect()
            }
            Queue::Bullmq(name) => [("LLEN", "wait"), ("LLEN", "paused"), ("ZCARD", "prioritized")]
                .map(|(c, k)| (c, format!("{name}:{k}")))
                .into(),
        }
    }

    fn filled(&self, values: &Values) -> Result<Self, BadTemplate> {
        let name = fill(self.name(), values, str::to_owned)?;
        Ok(match self {
            Queue::List(_) => Queue::List(name),
            Queue::Stream(_) => Queue::Stream(name),
            Queue::SortedSet(_) => Queue::SortedSet(name),
            Queue::Rq(_) => Queue::Rq(name),
            Queue::Celery(_) => Queue::Celery(name),
            Queue::Bullmq(_) => Queue::Bullmq(name),
        })
    }
}

impl RedisSpec {
    /// One line that says exactly what will be done.
    pub fn words(&self) -> String {
        match &self.operation {
            RedisOperation::Depth(check) => {
                let (queue, least, most) = (check.queue.name(), check.at_least, check.at_most);
                format!("redis: check that {queue} holds {least} to {most} entries")
            }
            RedisOperation::RqSuspend(RqSuspend { duration: None }) => "redis: suspend RQ's workers".into(),
            RedisOperation::RqSuspend(RqSuspend { duration: Some(span) }) => {
                format!("redis: suspend RQ's workers for {span}")
            }
            RedisOperation::RqResume => "redis: let RQ's workers go on".into(),
            RedisOperation::DeletePattern(delete) => {
                format!("redis: remove the keys {} if they are at most {}", delete.pattern, delete.at_most)
            }
            RedisOperation::Set(set) => format!("redis: set {} to {:?}", set.key, set.value),
            RedisOperation::Delete(delete) => format!("redis: remove the key {}", delete.key),
        }
    }

    /// The secrets, each with its key below `redis.`.
    pub fn secrets(&self) -> Vec<(String, &SecretRef)> {
        vec![("url".into(), &self.url)]
    }

    /// With every placeholder filled in.
    pub fn filled(&self, values: &Values) -> Result<Self, BadTemplate> {
        let plain = |text: &String| fill(text, values, str::to_owned);
        let operation = match &self.operation {
            RedisOperation::Depth(check) => {
                RedisOperation::Depth(DepthCheck { queue: check.queue.filled(values)?, ..check.clone() })
            }
            RedisOperation::DeletePattern(delete) => RedisOperation::DeletePattern(DeletePattern {
                pattern: fill(&delete.pattern, values, literally)?,
                ..delete.clone()
            }),
            RedisOperation::Set(set) => RedisOperation::Set(SetKey {
                key: plain(&set.key)?,
                value: plain(&set.value)?,
                expire: set.expire,
            }),
            RedisOperation::Delete(delete) => RedisOperation::Delete(DeleteKey { key: plain(&delete.key)? }),
            other @ (RedisOperation::RqSuspend(_) | RedisOperation::RqResume) => other.clone(),
        };
        Ok(Self { operation, ..self.clone() })
    }

    /// Everything wrong with it, each with the path of its key, which begins with `at`.
    pub fn problems(&self, at: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let at = format!("{at}.operation");
        let mut text = |key: &str, text: &str, may_be_empty: bool| {
            let key = format!("{at}.{key}");
            if let Err(bad) = check_template(text) {
                found.push((key, bad.to_string()));
            } else if text.len() > LONGEST || (text.is_empty() && !may_be_empty) {
                found.push((key, format!("must have between 1 and {LONGEST} bytes")));
            }
        };
        let mut wrong = Vec::new();
        // Redis counts whole seconds.
        let mut whole = |key: &str, span: Option<Span>| {
            if span.is_some_and(|span| span < Span::from_seconds(1) || span.milliseconds() % 1_000 != 0) {
                wrong.push((format!("{at}.{key}"), "must be whole seconds, at least one".to_owned()));
            }
        };
        match &self.operation {
            RedisOperation::Depth(check) => {
                text("depth.queue", check.queue.name(), false);
                if check.at_least > check.at_most {
                    wrong.push((format!("{at}.depth.at_least"), "is more than `at_most`".into()));
                }
            }
            RedisOperation::RqSuspend(suspend) => whole("rq_suspend.duration", suspend.duration),
            RedisOperation::RqResume => {}
            RedisOperation::DeletePattern(delete) => {
                text("delete_pattern.pattern", &delete.pattern, false);
                let key = format!("{at}.delete_pattern");
                if beginning(&delete.pattern) < SHORTEST_BEGINNING {
                    let problem = format!(
                        "must begin with at least {SHORTEST_BEGINNING} letters that are no wildcard and no placeholder"
                    );
                    wrong.push((format!("{key}.pattern"), problem));
                }
                if delete.at_most == 0 || delete.at_most > MOST_KEYS {
                    wrong.push((format!("{key}.at_most"), format!("must be between 1 and {MOST_KEYS}")));
                }
            }
            RedisOperation::Set(set) => {
                text("set.key", &set.key, false);
                text("set.value", &set.value, true);
                whole("set.expire", set.expire);
            }
            RedisOperation::Delete(delete) => text("delete.key", &delete.key, false),
        }
        found.extend(wrong);
        found
    }
}

/// For the inside of a pattern: each of its special characters stands for itself.
fn literally(value: &str) -> String {
    value.chars().flat_map(|c| "*?[]^-\\".contains(c).then_some('\\').into_iter().chain([c])).collect()
}

/// How many characters a pattern begins with before anything that may stand for others.
fn beginning(pattern: &str) -> usize {
    let literal = pattern.find(['*', '?', '[', '\\', '{']).unwrap_or(pattern.len());
    pattern[..literal].chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(operation: &str) -> Vec<String> {
        let text = format!("{{ url: {{ env: U }}, operation: {operation} }}");
        let spec: RedisSpec = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        spec.problems("r")
            .into_iter()
            .map(|(key, _)| key.trim_start_matches("r.operation.").to_owned())
            .collect()
    }

    #[test]
    fn problems_name_the_key() {
        for good in [
            "{ depth: { queue: { rq: default }, at_most: 50 } }",
            "{ rq_suspend: { duration: 10m } }",
            "{ rq_suspend: {} }",
            "rq_resume",
            "{ delete_pattern: { pattern: 'page:{{service}}:*', at_most: 1000 } }",
            "{ set: { key: flag, value: '', expire: 60s } }",
        ] {
            assert_eq!(keys(good), [""; 0], "{good}");
        }
        for (bad, expected) in [
            (
                "{ depth: { queue: { list: '' }, at_most: 1, at_least: 2 } }",
                vec!["depth.queue", "depth.at_least"],
            ),
            ("{ rq_suspend: { duration: 100ms } }", vec!["rq_suspend.duration"]),
            ("{ delete_pattern: { pattern: '*', at_most: 10 } }", vec!["delete_pattern.pattern"]),
            ("{ delete_pattern: { pattern: 'ab*', at_most: 10 } }", vec!["delete_pattern.pattern"]),
            ("{ delete_pattern: { pattern: '{{service}}*', at_most: 10 } }", vec!["delete_pattern.pattern"]),
            (
                "{ delete_pattern: { pattern: '[a-z]abc', at_most: 0 } }",
                vec!["delete_pattern.pattern", "delete_pattern.at_most"],
            ),
            ("{ set: { key: '{{nope}}', value: x, expire: 1500ms } }", vec!["set.key", "set.expire"]),
            ("{ delete: { key: '' } }", vec!["delete.key"]),
        ] {
            assert_eq!(keys(bad), expected, "{bad}");
        }
    }

    #[test]
    fn a_filled_in_value_is_no_pattern() {
        let text = "{ url: { env: U }, operation: { delete_pattern: { pattern: 'page:{{to.version}}:*', at_most: 9 } } }";
        let spec: RedisSpec = serde_saphyr::from_str(text).unwrap();
        let filled = spec.filled(&Values::default().with("to.version", "*[a-z]?\\")).unwrap();
        let RedisOperation::DeletePattern(delete) = filled.operation else { panic!() };
        assert_eq!(delete.pattern, "page:\\*\\[a\\-z\\]\\?\\\\:*");
    }

    #[test]
    fn each_kind_of_queue_knows_its_keys() {
        assert_eq!(Queue::Rq("default".into()).commands(), [("LLEN", "rq:queue:default".to_owned())]);
        assert_eq!(Queue::Celery("mail".into()).commands()[1].1, "mail\u{6}\u{16}3");
        let bull: Vec<String> =
            Queue::Bullmq("bull:mail".into()).commands().into_iter().map(|(_, key)| key).collect();
        assert_eq!(bull, ["bull:mail:wait", "bull:mail:paused", "bull:mail:prioritized"]);
    }
}
