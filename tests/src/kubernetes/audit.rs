//! The server's own record of what was written.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// One write that reached the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// `patch`, `update`, `create`, `delete`.
    pub verb: String,
    /// The workload's name.
    pub name: String,
    /// What the server answered; 200 and 201 are writes that took place.
    pub status: u64,
    /// What was sent.
    pub body: Value,
}

/// See [`super::Cluster::writes`].
pub fn writes(log: &Path, namespace: &str, user: &str) -> Result<Vec<Write>> {
    let text = std::fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.contains(namespace)) {
        // The last line may be half written; it is nobody's own: ours were written before they were answered.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        if event["user"]["username"] != user || event["objectRef"]["namespace"] != namespace {
            continue;
        }
        // Checked by the server and dropped.
        if event["requestURI"].as_str().is_some_and(|uri| uri.contains("dryRun=All")) {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        found.push(Write {
            verb: text(&event["verb"]),
            name: text(&event["objectRef"]["name"]),
            status: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
            body: event["requestObject"].clone(),
        });
    }
    Ok(found)
}
