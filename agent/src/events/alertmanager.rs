//! Alertmanager's webhook, version 4, and Grafana's form of it.
//!
//! Unknown fields are ignored here, against our habit: the sender adds fields with every release, and the user cannot
//! change what it sends.
//!
//! Alertmanager drops a notification for good on any answer of 4xx. So one alert that cannot be used (mostly: no label
//! that names a service) becomes a note and the others count; only a notification with nothing usable is refused. The same
//! holds for alerts about services that the sender may not speak about, and for those beyond the limit: each alert that is
//! not taken is counted ([`LeftOut`]), because nobody will say it again.
//!
//! Alertmanager says everything several times: after `repeat_interval`, after an answer that got lost, and once for each
//! member of a cluster whose members have lost sight of each other. What makes news is the alert (`fingerprint`), the outbreak
//! (`startsAt`) and whether it fires or is over; all of them together are the identity under which the ledger keeps it. So a
//! member that goes on firing an outbreak that the others have ended says nothing new, and a new outbreak, which has a new
//! beginning, does. It retries on 5xx alone and gives a message up after any 4xx: a full queue must be answered 503.

use super::json::{self, Fields};
use super::limits::{self, MAX_ALERTS, MAX_WHAT_BYTES, shown};
use super::{Accepted, Context, Incoming, Refused, settle};
use jiff::Timestamp;
use rules::deployment::{Report, ReportState};
use rules::ids::{SourceName, fingerprint};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which labels of an alert name what; the first that is there counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertLabels {
    /// Labels that name the service.
    pub service: Vec<String>,
    /// Labels that name the environment.
    pub environment: Vec<String>,
}

impl Default for AlertLabels {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self { service: list(&["service", "app"]), environment: list(&["environment", "env"]) }
    }
}

/// The label that says which row of the matrix an alert is meant for; without it the alert's own name is used.
pub const WHAT_LABEL: &str = "turnback";

/// What was read of a group of alerts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Alerts {
    /// The usable ones; at least one.
    pub accepted: Vec<Accepted>,
    /// How many are not among them.
    pub left_out: LeftOut,
}

/// How many alerts of a delivery were not taken, and why not. Each is lost: the sender takes the delivery for done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// They cannot be used: no label that names a service, no time, and the like.
    pub unusable: u64,
    /// The sender left them out itself, because of its own limit.
    pub truncated: u64,
    /// They stand beyond [`MAX_ALERTS`].
    pub beyond: u64,
    /// They are about services that the sender may not speak about.
    pub foreign: u64,
}

impl LeftOut {
    /// Reason and count, for the metrics.
    pub fn reasons(&self) -> [(&'static str, u64); 4] {
        let Self { unusable, truncated, beyond, foreign } = *self;
        [("unusable", unusable), ("truncated", truncated), ("beyond_limit", beyond), ("foreign", foreign)]
    }

    /// Whether all of them were taken.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// [`parse_alerts_with`] with the usual labels, and without the count of what was left out.
pub fn parse_alerts(source: &SourceName, body: &[u8], now: Timestamp) -> Result<Vec<Accepted>, Refused> {
    parse_alerts_with(source, &AlertLabels::default(), body, now).map(|alerts| alerts.accepted)
}

/// Reads `POST /v1/alerts`. Errors: 400 no JSON, 413 too long, 422 not this format or no usable alert.
pub fn parse_alerts_with(
    source: &SourceName,
    labels: &AlertLabels,
    body: &[u8],
    now: Timestamp,
) -> Result<Alerts, Refused> {
    let value = json::parse_within(body, limits::MAX_ALERTS_BYTES)?;
    let fields = Fields::of("", &value)?;
    // Grafana says 1 and sends the shape of 4.
    match fields.text("version")? {
        "4" | "1" => {}
        other => {
            let problem =
                format!("{} is not spoken here; expected Alertmanager's webhook version 4", shown(other));
            return Err(Refused::field("version", problem));
        }
    }
    let alerts = match fields.get("alerts") {
        Some(Value::Array(alerts)) => alerts,
        Some(other) => {
            return Err(Refused::field("alerts", format!("must be a list, it is {}", json::kind(other))));
        }
        None => return Err(Refused::field("alerts", "is missing; it must be a list of alerts")),
    };
    if alerts.is_empty() {
        return Err(Refused::field("alerts", "is empty; there must be at least one alert"));
    }
    let context = Context { source, now };
    let mut usable = Vec::new();
    let mut words = Vec::new();
    for (index, alert) in alerts.iter().take(MAX_ALERTS).enumerate() {
        match read(context, labels, &format!("alerts[{index}]"), alert) {
            Ok(accepted) => usable.push(accepted),
            Err(refused) => words.push(refused.reason),
        }
    }
    let mut left_out = LeftOut { unusable: words.len() as u64, ..LeftOut::default() };
    let mut accepted = settle(usable, words)?;
    let note = missing_alerts(&fields, alerts.len(), &mut left_out);
    if let Some(first) = accepted.first_mut() {
        first.notes.extend(note);
    }
    Ok(Alerts { accepted, left_out })
}

/// Says how many alerts of the group are not here. A count that cannot be read is no reason to drop the alerts.
fn missing_alerts(fields: &Fields<'_>, received: usize, left_out: &mut LeftOut) -> Option<String> {
    left_out.beyond = received.saturating_sub(MAX_ALERTS) as u64;
    match fields.optional_count("truncatedAlerts") {
        Err(refused) => return Some(refused.reason),
        Ok(truncated) => left_out.truncated = truncated.unwrap_or(0),
    }
    let LeftOut { truncated, beyond, .. } = *left_out;
    match truncated.saturating_add(beyond) {
        0 => None,
        count => Some(format!(
            "{count} more alerts of this group are lost: {truncated} the sender left out (its limit of alerts in one \
             message), {beyond} stand beyond the {MAX_ALERTS} that are read; group alerts more finely"
        )),
    }
}

fn read(context: Context<'_>, labels: &AlertLabels, path: &str, alert: &Value) -> Result<Accepted, Refused> {
    let fields = Fields::of(path, alert)?;
    let set = fields.object("labels")?;
    let (field, name) = first(&set, &labels.service)?.ok_or_else(|| {
        let problem =
            format!("none of {} is there; add one that names the service", labels.service.join(", "));
        Refused::field(&fields.place("labels"), problem)
    })?;
    let service = limits::service(&field, name)?;
    let environment = match first(&set, &labels.environment)? {
        Some((field, name)) => Some(limits::environment(&field, name)?),
        None => None,
    };
    let what = match set.optional_text(WHAT_LABEL)? {
        Some(word) => limits::what(&set.place(WHAT_LABEL), word)?,
        None => limits::what(&set.place("alertname"), &snake_case(set.text("alertname")?))?,
    };
    let (state, state_name) = match fields.text("status")? {
        "firing" => (ReportState::Firing, "firing"),
        "resolved" => (ReportState::Resolved, "resolved"),
        other => {
            let problem = format!("{} is not a status; expected firing or resolved", shown(other));
            return Err(Refused::field(&fields.place("status"), problem));
        }
    };
    let mut notes = Vec::new();
    let started = fields.optional_time("startsAt")?.ok_or_else(|| {
        Refused::field(&fields.place("startsAt"), "is missing; it must be the time it began")
    })?;
    // An alert is too important to be lost because some Prometheus' clock is ahead: it counts from now.
    let at = started.min(context.now);
    if at < started {
        notes.push(format!("`{}`: {started} is ahead of our clock; taken as now", fields.place("startsAt")));
    }
    let mark = match fields.optional_text("fingerprint")? {
        Some(mark) => limits::identity(&fields.place("fingerprint"), mark)?,
        None => fingerprint(&[&set.canonical()], 8),
    };
    let id = format!("{mark}|{started}");
    let summary = summary(&fields, &what, state_name)?;
    let source = context.source.clone();
    // Two of a highly available pair may see one outbreak begin at different times, and one of them may still tell of it
    // when the other has told of its end: the alert is who reports, and its end counts for whatever began before it.
    let ended = match (state, fields.optional_time("endsAt")) {
        (ReportState::Firing, _) => None,
        (ReportState::Resolved, Ok(ended)) => ended.map(|ended| ended.min(context.now)),
        (ReportState::Resolved, Err(refused)) => {
            notes.push(refused.reason);
            None
        }
    };
    let report = Report { source, id: mark, service, environment, what, state, summary, at, ended };
    Ok(Accepted {
        id: format!("{id}|{state_name}"),
        incoming: Incoming::Report(report),
        raw: alert.clone(),
        notes,
    })
}

fn first<'a>(set: &Fields<'a>, names: &[String]) -> Result<Option<(String, &'a str)>, Refused> {
    for name in names {
        // An empty label is the same as none, as in Prometheus.
        if let Some(text) = set.optional_text(name)?.filter(|text| !text.is_empty()) {
            return Ok(Some((set.place(name), text)));
        }
    }
    Ok(None)
}

fn summary(fields: &Fields<'_>, what: &str, state: &str) -> Result<String, Refused> {
    let annotations = fields.optional_object("annotations")?;
    for name in ["summary", "description", "message"] {
        if let Some(annotations) = &annotations
            && let Some(text) = annotations.optional_text(name)?
        {
            return Ok(limits::summary(text));
        }
    }
    Ok(format!("{what} is {state}"))
}

/// `HighErrorRate` → `high_error_rate`, `HTTP 5xx!` → `http_5xx`.
fn snake_case(name: &str) -> String {
    let mut word = String::new();
    let mut before = ' ';
    for c in name.chars() {
        let starts_word = c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit());
        if (starts_word || !c.is_ascii_alphanumeric()) && !word.is_empty() && !word.ends_with('_') {
            word.push('_');
        }
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        word.insert_str(0, "alert_");
    }
    word.truncate(MAX_WHAT_BYTES);
    word.trim_end_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alert_names_become_words() {
        let table = [
            ("HighErrorRate", "high_error_rate"),
            ("HTTP 5xx!", "http_5xx"),
            ("data-corruption", "data_corruption"),
            ("5xxRate", "alert_5xx_rate"),
            ("already_snake", "already_snake"),
            ("$(id)", "id"),
        ];
        for (name, word) in table {
            assert_eq!(snake_case(name), word);
        }
        assert!(snake_case(&"LongName".repeat(40)).len() <= MAX_WHAT_BYTES);
        assert_eq!(snake_case("∆∆"), "");
    }

    #[test]
    fn a_full_group_with_long_annotations_is_read_whole() {
        let alert = |number: usize| {
            serde_json::json!({
                "status": "firing", "fingerprint": format!("{number:016x}"), "startsAt": "2026-03-01T12:00:00Z",
                "labels": { "alertname": "Errors", "service": "checkout" },
                "annotations": { "description": "x".repeat(3_000) }
            })
        };
        let alerts: Vec<Value> = (0..1_000).map(alert).collect();
        let body = serde_json::json!({ "version": "4", "status": "firing", "alerts": alerts }).to_string();
        assert!(body.len() > 3 * 1024 * 1024);
        let source = SourceName::new("am").unwrap();
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        let read = parse_alerts_with(&source, &AlertLabels::default(), body.as_bytes(), now).unwrap();
        assert_eq!((read.accepted.len(), read.left_out), (1_000, LeftOut::default()));
    }
}
