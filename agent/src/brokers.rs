//! How brokers are reached, for everything that uses one: sources of events, streams of samples, publishers of decisions.

pub mod kafka;
pub mod nats;

use crate::secrets::Secrets;
use rules::action::SecretRef;

/// A broker that cannot be set up: which key, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct BadBroker {
    /// The key below the connection: `connection.sasl.password`.
    pub key: String,
    /// What is wrong and what to do.
    pub problem: String,
}

impl BadBroker {
    pub(crate) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

fn secret(secrets: &Secrets, key: &str, reference: &SecretRef) -> Result<String, BadBroker> {
    match secrets.resolve(reference) {
        Ok(secret) => Ok(secret.expose().to_owned()),
        Err(error) => Err(BadBroker::new(key, error.to_string())),
    }
}

/// What is wrong with a list of names that must hold some: topics, subjects, addresses.
pub(crate) fn list_problems(
    key: &str,
    entries: &[String],
    most: usize,
    good: impl Fn(&str) -> bool,
) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    if entries.is_empty() {
        problems.push((key.to_owned(), "there is none; name at least one".to_owned()));
    }
    if entries.len() > most {
        problems.push((key.to_owned(), format!("there are {}, at most {most} are allowed", entries.len())));
    }
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| !good(entry)) {
        problems.push((format!("{key}[{index}]"), format!("{entry:?} is not one")));
    }
    problems
}
