//! How a Kafka cluster is reached.
//!
//! The default build of librdkafka has no OpenSSL, so it speaks plain text and SASL/PLAIN; the feature `kafka-tls` links
//! the system's OpenSSL and adds TLS and SCRAM. What a build cannot do is an error of the configuration, not a surprise
//! at night.

#[cfg(feature = "kafka")]
pub(crate) mod hearing;

use super::list_problems;
#[cfg(feature = "kafka")]
use super::{BadBroker, secret};
#[cfg(feature = "kafka")]
use crate::secrets::Secrets;
use rules::action::SecretRef;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Addresses to begin with; the cluster tells the others.
const MOST_BROKERS: usize = 50;

/// A Kafka cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConnection {
    /// `host:port` of some of its brokers.
    pub brokers: Vec<String>,
    /// Encrypt, and check who answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// Say who we are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
}

/// TLS to Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaTls {
    /// Certificates that are trusted, as a PEM file; the system's if none are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Our own certificate, as a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its key, as a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Who we are to Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSasl {
    /// How it is proved.
    pub mechanism: SaslMechanism,
    /// The name.
    pub username: String,
    /// Where the password is.
    pub password: SecretRef,
}

/// How a name is proved to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaslMechanism {
    /// The password itself: only over TLS, or where nobody listens.
    Plain,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// SCRAM-SHA-512.
    ScramSha512,
}

impl KafkaConnection {
    /// Everything wrong with it, each with its key.
    pub fn problems(&self) -> Vec<(String, String)> {
        let good = |broker: &str| {
            let port = broker.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
            matches!(port, Some((host, Ok(1..))) if !host.is_empty() && !broker.contains(['/', ',', ' ']))
        };
        let mut problems = list_problems("connection.brokers", &self.brokers, MOST_BROKERS, good);
        let needs_tls = match &self.sasl {
            _ if self.tls.is_some() => Some("connection.tls"),
            Some(sasl) if sasl.mechanism != SaslMechanism::Plain => Some("connection.sasl.mechanism"),
            _ => None,
        };
        if let Some(key) = needs_tls.filter(|_| cfg!(not(feature = "kafka-tls"))) {
            let words = "this build of Turnback has no TLS and no SCRAM for Kafka; use one with the feature `kafka-tls`";
            problems.push((key.to_owned(), words.to_owned()));
        }
        if cfg!(not(feature = "kafka")) {
            let words = "this build of Turnback has no Kafka; use one with the feature `kafka`";
            problems.push(("connection".to_owned(), words.to_owned()));
        }
        problems
    }

    /// The addresses, for people.
    pub fn shown(&self) -> String {
        self.brokers.join(",")
    }

    /// The settings of librdkafka that every client has.
    #[cfg(feature = "kafka")]
    pub(crate) fn client(&self, secrets: &Secrets) -> Result<rdkafka::ClientConfig, BadBroker> {
        let mut config = rdkafka::ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "turnback")
            // A broker that stands still is noticed in seconds, not in the minute that is the default.
            .set("socket.timeout.ms", "10000")
            .set("socket.connection.setup.timeout.ms", "5000")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000");
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            let files = [
                ("ssl.ca.location", &tls.ca),
                ("ssl.certificate.location", &tls.certificate),
                ("ssl.key.location", &tls.key),
            ];
            for (name, file) in files {
                if let Some(file) = file {
                    config.set(name, file.display().to_string());
                }
            }
        }
        if let Some(sasl) = &self.sasl {
            let mechanism = match sasl.mechanism {
                SaslMechanism::Plain => "PLAIN",
                SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            let password = secret(secrets, "connection.sasl.password", &sasl.password)?;
            config.set("sasl.mechanism", mechanism);
            config.set("sasl.username", &sasl.username).set("sasl.password", password);
        }
        Ok(config)
    }
}

/// Whether Kafka would take it as the name of a topic.
pub fn is_topic(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !name.is_empty() && name.len() <= 249 && name.chars().all(good) && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_cannot_do_is_said_by_its_key() {
        let read = |yaml: &str| serde_saphyr::from_str::<KafkaConnection>(yaml).unwrap();
        let keys = |yaml: &str| read(yaml).problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys("{brokers: ['kafka-1:9092', '[::1]:9092']}"), Vec::<String>::new());
        assert_eq!(keys("{brokers: []}"), ["connection.brokers"]);
        assert_eq!(
            keys("{brokers: [kafka, 'a:0', ':1', 'a:99999', 'http://a:1']}"),
            [0, 1, 2, 3, 4].map(|index| format!("connection.brokers[{index}]"))
        );
        let plain = "{brokers: ['a:1'], sasl: {mechanism: plain, username: u, password: {env: P}}}";
        assert_eq!(keys(plain), Vec::<String>::new());
        if cfg!(not(feature = "kafka-tls")) {
            assert_eq!(keys("{brokers: ['a:1'], tls: {}}"), ["connection.tls"]);
            assert_eq!(keys(&plain.replace("plain", "scram_sha512")), ["connection.sasl.mechanism"]);
        }
        assert!(is_topic("deploy.events-1_x") && !is_topic("") && !is_topic("a b") && !is_topic(".."));
    }
}
