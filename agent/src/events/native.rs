//! Our own JSON form, for people with `curl` and no event tooling.
//!
//! ```json
//! {"service": "checkout", "version": "v1.2.3"}
//! {"service": "checkout", "version": "v1.2.3", "environment": "production", "previous": "v1.2.2",
//!  "kind": "deployed", "id": "run-4711", "at": "2026-03-01T12:00:00Z", "sequence": 4711,
//!  "changes": ["code", "migrations"], "security_fix": false}
//! {"service": "checkout", "report": "smoke_test_failed", "state": "firing", "summary": "login is broken"}
//! ```
//!
//! The field `report` tells the two shapes apart; each refuses fields it does not know, because a misspelt
//! `enviroment` would otherwise be a deployment to production.
//!
//! **Identity.** `id` need only be unique among messages of the same kind about the same service and environment, so a
//! pipeline can use its run number for everything it deploys. Without an `id` the identity is made of the content and
//! of `at`; without `at` too, of the content and the five minutes in which it arrived: a repeated request is the
//! same news, the same version deployed again later is not.

use super::json::Fields;
use super::limits::{self, shown};
use super::{Accepted, Context, Incoming, Refused};
use jiff::Timestamp;
use rules::deployment::{Change, DeployEvent, DeployKind, Release, Report, ReportState};
use rules::ids::fingerprint;
use serde_json::Value;
use std::collections::BTreeSet;

/// The environment of a deployment that names none.
pub const DEFAULT_ENVIRONMENT: &str = "production";

/// The version that stands in the record of a removal that names none: nothing runs from then on.
pub const NO_VERSION: &str = "none";

/// How long a request without `id` and `at` counts as a repetition of the same: longer than any client's retries.
const REPEAT_SECONDS: i64 = 300;

const DEPLOYMENT_FIELDS: [&str; 10] = [
    "service",
    "environment",
    "version",
    "previous",
    "id",
    "at",
    "sequence",
    "kind",
    "changes",
    "security_fix",
];
const REPORT_FIELDS: [&str; 7] = ["service", "environment", "report", "state", "summary", "id", "at"];

/// Identity and time that the wrapping message gives; they fill what the form leaves out.
#[derive(Debug, Clone, Default)]
pub(super) struct Outer {
    /// Complete identity (a CloudEvent's); it wins.
    pub(super) identity: Option<String>,
    /// The time, if the form has none.
    pub(super) at: Option<Timestamp>,
}

/// Reads one message; `delivery` is the identity of the HTTP delivery, used when the message has no `id`.
pub(super) fn parse(
    context: Context<'_>,
    path: &str,
    value: &Value,
    delivery: Option<String>,
) -> Result<Accepted, Refused> {
    let outer = Outer { identity: delivery.filter(|_| value.get("id").is_none_or(Value::is_null)), at: None };
    match value.get("report").is_some() {
        true => report(context, path, value, outer),
        false => deployment(context, path, value, outer),
    }
}

/// Reads the deployment shape.
pub(super) fn deployment(
    context: Context<'_>,
    path: &str,
    value: &Value,
    outer: Outer,
) -> Result<Accepted, Refused> {
    let fields = Fields::of(path, value)?;
    fields.only(&DEPLOYMENT_FIELDS)?;
    let mut notes = Vec::new();
    let service = limits::service(&fields.place("service"), fields.text("service")?)?;
    let environment = fields.optional_text("environment")?.unwrap_or(DEFAULT_ENVIRONMENT);
    let environment = limits::environment(&fields.place("environment"), environment)?;
    let (kind, kind_name) = deploy_kind(&fields)?;
    let version = match fields.optional_text("version")? {
        Some(version) => version,
        None if kind == DeployKind::Removed => NO_VERSION,
        None => fields.text("version")?,
    };
    let version = limits::version(&fields.place("version"), version)?;
    let previous = match fields.optional_text("previous")? {
        Some(previous) => Some(Release { version: limits::version(&fields.place("previous"), previous)? }),
        None => None,
    };
    let at = fields.optional_time("at")?.or(outer.at);
    let about = format!("{service}|{environment}|{kind_name}");
    let id = identity(context, &fields, outer, &about, version.as_str(), at, &mut notes)?;
    let occurred_at = at.unwrap_or(context.now);
    limits::time(&fields.place("at"), occurred_at, context.now, &mut notes)?;
    let event = DeployEvent {
        source: context.source.clone(),
        id: id.clone(),
        kind,
        service,
        environment,
        release: Release { version },
        previous,
        occurred_at,
        sequence: fields.optional_count("sequence")?,
        changes: changes(&fields)?,
        security_fix: fields.optional_flag("security_fix")?.unwrap_or(false),
    };
    Ok(Accepted { id, incoming: Incoming::Deploy(event), raw: value.clone(), notes })
}

/// What the deployment brought: a list of the words of [`Change`].
fn changes(fields: &Fields<'_>) -> Result<Option<BTreeSet<Change>>, Refused> {
    let Some(words) = fields.optional_texts("changes")? else { return Ok(None) };
    let known = |word: &str| {
        let all = Change::ALL.map(Change::word).join(", ");
        let found = Change::ALL.into_iter().find(|change| change.word() == word);
        found.ok_or_else(|| {
            Refused::field(&fields.place("changes"), format!("{} is none of {all}", shown(word)))
        })
    };
    words.into_iter().map(known).collect::<Result<_, _>>().map(Some)
}

/// Reads the report shape.
pub(super) fn report(
    context: Context<'_>,
    path: &str,
    value: &Value,
    outer: Outer,
) -> Result<Accepted, Refused> {
    let fields = Fields::of(path, value)?;
    fields.only(&REPORT_FIELDS)?;
    let mut notes = Vec::new();
    let service = limits::service(&fields.place("service"), fields.text("service")?)?;
    let environment = match fields.optional_text("environment")? {
        Some(environment) => Some(limits::environment(&fields.place("environment"), environment)?),
        None => None,
    };
    let what = limits::what(&fields.place("report"), fields.text("report")?)?;
    let (state, state_name) = state(&fields)?;
    let summary = match fields.optional_text("summary")? {
        Some(text) => limits::summary(text),
        None => format!("{what} is {state_name}"),
    };
    let at = fields.optional_time("at")?.or(outer.at);
    let place = environment.as_ref().map_or("", |environment| environment.as_str());
    let own = match fields.optional_text("id")? {
        Some(own) => limits::identity(&fields.place("id"), own)?,
        // The same for the beginning and the end, so that the end finds its beginning.
        None => fingerprint(&[service.as_str(), place, &what], 8),
    };
    let about = format!("{service}|{place}|{what}|{state_name}");
    // Without a version: the same test may fail of the next release within minutes, and that must be heard. Hearing a
    // report twice changes nothing.
    let id = identity(context, &fields, outer, &about, "", at, &mut notes)?;
    let at = at.unwrap_or(context.now);
    limits::time(&fields.place("at"), at, context.now, &mut notes)?;
    let report = Report {
        source: context.source.clone(),
        id: own,
        service,
        environment,
        what,
        state,
        summary,
        at,
        ended: None,
    };
    Ok(Accepted { id, incoming: Incoming::Report(report), raw: value.clone(), notes })
}

fn deploy_kind(fields: &Fields<'_>) -> Result<(DeployKind, &'static str), Refused> {
    match fields.optional_text("kind")? {
        None | Some("deployed") => Ok((DeployKind::Deployed, "deployed")),
        Some("rolled_back") => Ok((DeployKind::RolledBack, "rolled_back")),
        Some("removed") => Ok((DeployKind::Removed, "removed")),
        Some(other) => Err(Refused::field(
            &fields.place("kind"),
            format!("{} is not a kind; write deployed, rolled_back or removed", shown(other)),
        )),
    }
}

fn state(fields: &Fields<'_>) -> Result<(ReportState, &'static str), Refused> {
    match fields.text("state")? {
        "firing" => Ok((ReportState::Firing, "firing")),
        "resolved" => Ok((ReportState::Resolved, "resolved")),
        other => Err(Refused::field(
            &fields.place("state"),
            format!("{} is not a state; write firing or resolved", shown(other)),
        )),
    }
}

/// What makes this news recognisable: see the top of the file. `|` stands in no name, so parts stay apart.
fn identity(
    context: Context<'_>,
    fields: &Fields<'_>,
    outer: Outer,
    about: &str,
    version: &str,
    at: Option<Timestamp>,
    notes: &mut Vec<String>,
) -> Result<String, Refused> {
    let own =
        fields.optional_text("id")?.map(|own| limits::identity(&fields.place("id"), own)).transpose()?;
    if let Some(identity) = outer.identity {
        return Ok(identity);
    }
    if let Some(own) = own {
        return Ok(format!("{own}|{about}"));
    }
    let when = match at {
        Some(at) => at.to_string(),
        None if version.is_empty() => {
            notes.push("no `id` and no `at`: each delivery counts as news".into());
            format!("moment {}", context.now.as_nanosecond())
        }
        None => {
            notes.push(
                "no `id` and no `at`: the same content within five minutes counts as a repetition".into(),
            );
            format!("slot {}", context.now.as_second().div_euclid(REPEAT_SECONDS))
        }
    };
    Ok(format!("{}|{about}", fingerprint(&[about, version, &when], 8)))
}
