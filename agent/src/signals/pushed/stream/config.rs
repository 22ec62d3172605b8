//! Streams of samples as the configuration has them.
//!
//! ```yaml
//! kafka:
//!   connection: {brokers: ["kafka-1:9092"]}
//!   topics: [access-log]
//!   form: json
//!   mapping:
//!   - name: http_requests_total
//!     when: body.service == 'checkout'
//!     labels: {code: body.status, pod: body.host}
//!     at: body.time
//!     count: "1"
//! ```

use super::mapping::Mapping;
use crate::brokers::kafka::{KafkaConnection, is_topic};
use crate::brokers::list_problems;
use crate::brokers::nats::{NatsConnection, is_subject};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Topics or subjects of one source: more are better split by what they are about.
const MOST_TOPICS: usize = 100;

/// Topics of Kafka that hold samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSamplesConfig {
    /// The cluster.
    pub connection: KafkaConnection,
    /// The topics.
    pub topics: Vec<String>,
    /// What the messages are.
    #[serde(default)]
    pub form: SampleForm,
    /// What samples become of messages of JSON that are not in our own form. Every rule that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapping: Vec<SampleRule>,
}

/// Subjects or a stream of NATS that hold samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsSamplesConfig {
    /// The servers.
    pub connection: NatsConnection,
    /// The JetStream stream. Without one, `subjects` of core NATS are heard from now on, and the past is lost at a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Subjects; of a stream, all if none are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// What the messages are.
    #[serde(default)]
    pub form: SampleForm,
    /// What samples become of messages of JSON that are not in our own form. Every rule that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapping: Vec<SampleRule>,
}

/// What the messages of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleForm {
    /// OpenTelemetry metrics as protocol buffer, as a Collector's exporter for Kafka writes them (`otlp_proto`).
    Otlp,
    /// The same as JSON.
    OtlpJson,
    /// What Prometheus sends by remote write, packed by Snappy. 2.0 if a header `content-type` says so, else 1.0.
    RemoteWrite,
    /// Our own JSON, or any JSON by `mapping`.
    #[default]
    Json,
}

/// What samples become of one kind of message. All but `name` and `bounds` are expressions in CEL over `body`, `topic` (the
/// topic or subject) and, with `for_each`, `item`. Exactly one of `value`, `count`, `observation` and `histogram` is given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleRule {
    /// The name of the metric; of a histogram without `_bucket`.
    pub name: String,
    /// Whether the rule fits; always, if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// A list: the rule is read once for each of its elements, as `item`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_each: Option<String>,
    /// Labels; a number becomes a text, and what gives an empty text or null is left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When, as a text in RFC 3339; when the broker took the message, if not given. `time()` and `unix_ms()` make one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// A gauge, or a counter since it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// By how much a counter grew: `"1"` if each message is one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<String>,
    /// One value that was seen, such as the duration of a request: counted into a histogram of `bounds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observation: Option<String>,
    /// The upper bounds of the buckets of `observation`, rising; `+Inf` is there by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bounds: Vec<f64>,
    /// By how much a whole histogram grew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histogram: Option<HistogramFields>,
}

/// By how much a histogram grew.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistogramFields {
    /// The upper bounds of its buckets, rising; `+Inf` is there by itself.
    pub bounds: Vec<f64>,
    /// An expression that gives a list: how many fell into each bucket alone, the one of `+Inf` last.
    pub counts: String,
    /// An expression: the sum of what was observed.
    pub sum: String,
}

fn form_problems(form: SampleForm, mapping: &[SampleRule]) -> Vec<(String, String)> {
    match form {
        _ if mapping.is_empty() => Vec::new(),
        SampleForm::Json => {
            let found = Mapping::compile(mapping).err().unwrap_or_default();
            let place =
                |key: String| if key.is_empty() { "mapping".into() } else { format!("mapping.{key}") };
            found.into_iter().map(|(key, words)| (place(key), words)).collect()
        }
        SampleForm::Otlp | SampleForm::OtlpJson | SampleForm::RemoteWrite => {
            let words = "is for `form: json`; the other forms say by themselves what they mean";
            vec![("mapping".into(), words.into())]
        }
    }
}

impl KafkaSamplesConfig {
    /// Everything wrong with it, each with its key.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = self.connection.problems();
        problems.extend(list_problems("topics", &self.topics, MOST_TOPICS, is_topic));
        problems.extend(form_problems(self.form, &self.mapping));
        problems
    }
}

impl NatsSamplesConfig {
    /// Everything wrong with it, each with its key.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = self.connection.problems();
        if self.stream.is_none() || !self.subjects.is_empty() {
            let good = |subject: &str| is_subject(subject, true);
            problems.extend(list_problems("subjects", &self.subjects, MOST_TOPICS, good));
        }
        let bad = |c: char| !c.is_ascii_graphic() || ".*>/\\".contains(c);
        if let Some(name) = self.stream.as_ref().filter(|name| name.is_empty() || name.contains(bad)) {
            problems.push(("stream".into(), format!("{name:?} is no name; use letters, digits, - and _")));
        }
        problems.extend(form_problems(self.form, &self.mapping));
        problems
    }
}
