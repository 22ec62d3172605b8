//! CDEvents 0.4 and 0.5 (0.3 too): deployments, test results and incidents as pipelines tell them.
//!
//! The SDK reads every event first, because it knows each type and version exactly. Producers in the field are less exact
//! (draft versions, extra fields, a content of the next version), so an event that the SDK refuses is read once
//! more, leniently, and carries a note with the SDK's words. In both cases the fields are taken from the same places
//! of the same JSON, so strict and lenient reading cannot disagree about what was said.
//!
//! A failed parse is never a deployment: service, environment, version and time must be there in either case.

use super::cloudevents::Attributes;
use super::json::Fields;
use super::limits::{self, shown};
use super::{Accepted, Context, Incoming, Outcome, Refused, native};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use rules::deployment::{DeployEvent, DeployKind, Release, Report, ReportState};
use rules::ids::{ServiceName, Version};
use serde_json::Value;

/// The types that say something here, for messages.
pub const UNDERSTOOD: &str = "dev.cdevents.service.{deployed,upgraded,published,rolledback,removed}, \
     dev.cdevents.testsuiterun.finished, dev.cdevents.incident.{detected,reported,resolved}";

/// What a failed test suite run is called in matrix rows.
pub const TEST_FAILED: &str = "smoke_test_failed";
/// What an incident is called in matrix rows.
pub const INCIDENT: &str = "incident";

const PREFIX: &str = "dev.cdevents.";

/// Is this the type of a CDEvent of the standard vocabulary?
pub(super) fn is_ours(kind: &str) -> bool {
    kind.starts_with(PREFIX)
}

/// One CDEvent and what was read of it.
struct Event<'a> {
    context: Context<'a>,
    raw: &'a Value,
    id: String,
    at: Timestamp,
    subject: Fields<'a>,
    content: Fields<'a>,
    custom: Option<Fields<'a>>,
    notes: Vec<String>,
}

/// Reads one CDEvent; with the attributes of the CloudEvent around it, both must agree. Errors: 422 naming the field.
pub(super) fn parse(
    context: Context<'_>,
    path: &str,
    value: &Value,
    around: Option<&Attributes>,
) -> Result<Outcome, Refused> {
    let fields = Fields::of(path, value)?;
    let head = fields.object("context")?;
    let kind = limits::identity(&head.place("type"), head.text("type")?)?;
    let id = limits::identity(&head.place("id"), head.text("id")?)?;
    let source = limits::identity(&head.place("source"), head.text("source")?)?;
    agree(around, &head, [("id", &id), ("source", &source), ("type", &kind)])?;
    let mut words = kind.strip_prefix(PREFIX).unwrap_or("").splitn(3, '.');
    let (subject, predicate, version) = (words.next(), words.next(), words.next());
    let (Some(subject), Some(predicate), Some(_)) = (subject, predicate, version) else {
        let problem =
            format!("{} is not a type; expected dev.cdevents.service.deployed.0.3.0 or alike", shown(&kind));
        return Err(Refused::field(&head.place("type"), problem));
    };
    let read: fn(Event<'_>, &str) -> Result<Outcome, Refused> = match (subject, predicate) {
        ("service", "deployed" | "upgraded" | "published" | "rolledback" | "removed") => deployment,
        ("testsuiterun", "finished") => test_run,
        ("incident", "detected" | "reported" | "resolved") => incident,
        _ => {
            let place = head.place("type");
            let why = format!("`{place}`: {} says nothing here; understood are {UNDERSTOOD}", shown(&kind));
            return Ok(Outcome::Silent(why));
        }
    };
    let mut notes = strictness(&head, value)?;
    let at = head.optional_time("timestamp")?.ok_or_else(|| {
        Refused::field(&head.place("timestamp"), "is missing; write RFC 3339 such as 2026-03-01T12:00:00Z")
    })?;
    limits::time(&head.place("timestamp"), at, context.now, &mut notes)?;
    let subject = fields.object("subject")?;
    let content = subject.object("content")?;
    // Custom data may be anything; only an object can hold names for us.
    let custom = fields.get("customData").filter(|data| data.is_object());
    let custom = custom.map(|data| Fields::of(&fields.place("customData"), data)).transpose()?;
    let id = format!("{id}|{source}");
    read(Event { context, raw: value, id, at, subject, content, custom, notes }, predicate)
}

/// The event around must say the same as the event inside, or one of them is not what it claims to be.
fn agree(
    around: Option<&Attributes>,
    head: &Fields<'_>,
    inside: [(&str, &String); 3],
) -> Result<(), Refused> {
    let Some(around) = around else { return Ok(()) };
    let outside = [&around.id, &around.source, &around.kind];
    for ((name, inner), outer) in inside.into_iter().zip(outside) {
        if inner != outer {
            let problem = format!(
                "{} differs from the CloudEvent's `{}` {}; both must be the same",
                shown(inner),
                around.place(name),
                shown(outer)
            );
            return Err(Refused::field(&head.place(name), problem));
        }
    }
    Ok(())
}

/// The specification's version must be said; what the SDK does not like becomes a note.
fn strictness(head: &Fields<'_>, value: &Value) -> Result<Vec<String>, Refused> {
    let version = match head.optional_text("specversion")? {
        Some(version) => version,
        None => head.optional_text("version")?.ok_or_else(|| {
            let problem = "is missing; CDEvents 0.5 needs it, CDEvents 0.4 needs `version` in its place";
            Refused::field(&head.place("specversion"), problem)
        })?,
    };
    let mut notes = Vec::new();
    if !["0.3.", "0.4.", "0.5."].iter().any(|known| version.starts_with(known)) {
        notes.push(format!("CDEvents {} is not one of 0.3, 0.4, 0.5; read as 0.5", shown(version)));
    }
    if let Err(error) = serde_json::from_value::<cdevents_sdk::CDEvent>(value.clone()) {
        notes.push(format!(
            "read leniently, it is not exactly CDEvents {}: {}",
            shown(version),
            limits::shown_up_to(&error.to_string(), 200)
        ));
    }
    Ok(notes)
}

fn deployment(mut event: Event<'_>, predicate: &str) -> Result<Outcome, Refused> {
    let kind = match predicate {
        "rolledback" => DeployKind::RolledBack,
        "removed" => DeployKind::Removed,
        _ => DeployKind::Deployed,
    };
    let service = limits::service(&event.subject.place("id"), event.subject.text("id")?)?;
    let place = event.content.object("environment")?;
    let environment = limits::environment(&place.place("id"), place.text("id")?)?;
    let field = event.content.place("artifactId");
    let version = match event.content.optional_text("artifactId")? {
        Some(artifact) => version_of(&field, artifact)?,
        None if kind == DeployKind::Removed => limits::version(&field, native::NO_VERSION)?,
        None if predicate == "published" => {
            let why = "without it nobody knows which release was published; send service.deployed or add it";
            return Ok(Outcome::Silent(format!("`{field}`: is missing; {why}")));
        }
        None => return Err(Refused::field(&field, "is missing; it must be the package URL of the release")),
    };
    let deploy = DeployEvent {
        source: event.context.source.clone(),
        id: event.id.clone(),
        kind,
        service,
        environment,
        release: Release { version },
        previous: None,
        occurred_at: event.at,
        sequence: None,
        changes: None,
        security_fix: false,
    };
    Ok(event.usable(Incoming::Deploy(deploy)))
}

fn test_run(mut event: Event<'_>, _: &str) -> Result<Outcome, Refused> {
    let field = event.content.place("outcome");
    let state = match event.content.text("outcome")? {
        "fail" | "failure" => ReportState::Firing,
        "pass" | "success" => ReportState::Resolved,
        // Neither passed nor failed: no evidence, so neither an alarm nor an all-clear.
        "cancel" | "error" => {
            return Ok(Outcome::Silent(format!(
                "`{field}`: the run neither passed nor failed, so it says nothing"
            )));
        }
        other => {
            let problem = format!(
                "{} is not an outcome; expected pass, success, fail, failure, cancel or error",
                shown(other)
            );
            return Err(Refused::field(&field, problem));
        }
    };
    // Runs of the same suite belong together: the next good run ends what the bad run began.
    let suite = event.content.optional_object("testSuite")?;
    let (place, own) = match &suite {
        Some(suite) => (suite.place("id"), suite.text("id")?),
        None => (event.subject.place("id"), event.subject.text("id")?),
    };
    let own = limits::identity(&place, own)?;
    let name = suite.as_ref().map(|suite| suite.optional_text("name")).transpose()?.flatten().unwrap_or(&own);
    let words = match event.content.optional_text("reason")? {
        Some(reason) => format!("{name}: {reason}"),
        None => format!("test suite {name} finished"),
    };
    event.report(own, TEST_FAILED, state, &words)
}

fn incident(mut event: Event<'_>, predicate: &str) -> Result<Outcome, Refused> {
    let state = if predicate == "resolved" { ReportState::Resolved } else { ReportState::Firing };
    let own = limits::identity(&event.subject.place("id"), event.subject.text("id")?)?;
    let words = match event.content.optional_text("description")? {
        Some(words) => words.to_owned(),
        None => format!("incident {own} {predicate}"),
    };
    event.report(own, INCIDENT, state, &words)
}

impl Event<'_> {
    fn report(
        &mut self,
        id: String,
        what: &str,
        state: ReportState,
        words: &str,
    ) -> Result<Outcome, Refused> {
        let place = self.content.object("environment")?;
        let environment = Some(limits::environment(&place.place("id"), place.text("id")?)?);
        let service = self.service()?;
        let summary = limits::summary(words);
        let what = what.to_owned();
        let source = self.context.source.clone();
        let report =
            Report { source, id, service, environment, what, state, summary, at: self.at, ended: None };
        Ok(self.usable(Incoming::Report(report)))
    }

    /// The service of a report: `content.service.id` where the vocabulary has it, else `customData.service`.
    fn service(&self) -> Result<ServiceName, Refused> {
        if let Some(service) = self.content.optional_object("service")? {
            return limits::service(&service.place("id"), service.text("id")?);
        }
        if let Some(custom) = &self.custom
            && let Some(name) = custom.optional_text("service")?
        {
            return limits::service(&custom.place("service"), name);
        }
        let field = self.content.place("service.id");
        Err(Refused::field(&field, "is missing; name the service there or in `customData.service`"))
    }

    fn usable(&mut self, incoming: Incoming) -> Outcome {
        let notes = std::mem::take(&mut self.notes);
        Outcome::Usable(Box::new(Accepted { id: self.id.clone(), incoming, raw: self.raw.clone(), notes }))
    }
}

/// The version of an artifact: of a package URL the part after `@`, decoded; anything else as it is.
fn version_of(field: &str, artifact: &str) -> Result<Version, Refused> {
    let Some(package) = artifact.strip_prefix("pkg:") else { return limits::version(field, artifact) };
    let package = package.split(['?', '#']).next().unwrap_or_default();
    let version = package.rsplit_once('@').filter(|(before, version)| {
        // `pkg:npm/@scope/name` has an `@` and no version.
        before.rsplit_once('/').is_some_and(|(_, name)| !name.is_empty()) && !version.is_empty()
    });
    let Some((_, version)) = version else {
        let problem = format!("the package URL {} names no version; add it after `@`", shown(artifact));
        return Err(Refused::field(field, problem));
    };
    let decoded = percent_decode_str(version)
        .decode_utf8()
        .map_err(|_| Refused::field(field, format!("{} is not percent-encoded UTF-8", shown(artifact))))?;
    limits::version(field, &decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_out_of_package_urls() {
        let table = [
            ("pkg:oci/myapp@sha256%3A0b31b1c0", "sha256:0b31b1c0"),
            ("pkg:oci/myapp@sha256%3A0b31?repository_url=ghcr.io/o", "sha256:0b31"),
            ("pkg:npm/%40scope/name@1.2.3#sub/path", "1.2.3"),
            ("pkg:npm/@scope/name@1.2.3", "1.2.3"),
            ("ghcr.io/o/app@sha256:ab", "ghcr.io/o/app@sha256:ab"),
            ("v1.2.3", "v1.2.3"),
        ];
        for (artifact, version) in table {
            assert_eq!(version_of("a", artifact).unwrap().as_str(), version, "{artifact}");
        }
        for bad in [
            "pkg:oci/app",
            "pkg:oci/app@",
            "pkg:npm/@scope/name",
            "pkg:oci/app@%FF",
            "pkg:oci/app@%0A",
            "pkg:",
            "",
        ] {
            assert!(version_of("a", bad).unwrap_err().reason.contains("`a`"), "{bad}");
        }
    }
}
