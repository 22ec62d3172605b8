//! What may come in at all: sizes, times and alphabets, each with the reason for its number.
//!
//! Everything here is about values that an outsider chooses. A value that got through is short, has no control
//! characters and can be logged, stored and shown; nothing of it is ever run, opened or fetched.

use super::Refused;
use jiff::Timestamp;
use rules::ids::{EnvironmentName, ServiceName, Version};
use rules::units::Span;

/// The longest body in bytes (256 KiB). Webhook senders keep below 20 kB; a batch of [`MAX_BATCH`] events of 1 kB
/// each still fits. Bodies are not decompressed, so this is also the most that is ever held for one request.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// The same for what Alertmanager and Grafana send (4 MiB): [`MAX_ALERTS`] alerts of 1 kB each. They never try again what is
/// refused, and during an outage the next group is larger still.
pub const MAX_ALERTS_BYTES: usize = 4 * 1024 * 1024;

/// The most alerts of one group: as many as the ledger keeps in one transaction. A group is that large when hundreds of
/// services are down together; what stands beyond it is counted and told.
pub const MAX_ALERTS: usize = crate::ledger::MAX_BATCH;

/// How deep JSON may be nested. Real events need 7 levels; half of serde_json's own limit of 128, so that ours is the
/// one that speaks, and far below what would strain the stack of a worker thread.
pub const MAX_DEPTH: usize = 64;

/// The most events in one batch: at 1 kB each they fill [`MAX_BODY_BYTES`].
pub const MAX_BATCH: usize = 256;

/// The longest identity of a message in bytes. Identities seen in the field are UUIDs (36), hashes (64) and URNs.
pub const MAX_IDENTITY_BYTES: usize = 256;

/// The longest word that says what a report is about; as long as the other short names of the rules.
pub const MAX_WHAT_BYTES: usize = 64;

/// The longest summary in characters: two lines of a chat message.
pub const MAX_SUMMARY_CHARS: usize = 300;

/// How far ahead of our clock a source's clock may be: the usual tolerance of signed requests.
pub const MAX_CLOCK_AHEAD: Span = Span::from_minutes(5);

/// Older news is accepted and marked as late, because a lost record is worse than an old one.
pub const LATE_AFTER: Span = Span::from_minutes(24 * 60);

/// 2000-01-01T00:00:00Z. A time before it is a program's zero value (year 1, 1970) and not the time of anything.
const FIRST_CREDIBLE_SECOND: i64 = 946_684_800;

/// How much of a refused value is shown again.
const SHOWN_CHARS: usize = 64;

/// A value as it may stand in a message: cut, in quotes, control characters escaped.
pub(super) fn shown(text: &str) -> String {
    shown_up_to(text, SHOWN_CHARS)
}

/// The same with a length of its own, in characters.
pub(super) fn shown_up_to(text: &str, chars: usize) -> String {
    let cut: String = text.chars().take(chars).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

fn has_dot_segment(text: &str) -> bool {
    text.split('/').any(|segment| segment == "." || segment == "..")
}

fn checked<T, E: std::fmt::Display>(field: &str, text: &str, made: Result<T, E>) -> Result<T, Refused> {
    let name = made.map_err(|error| Refused::field(field, error))?;
    match has_dot_segment(text) {
        true => {
            Err(Refused::field(field, format!("{} must not have `.` or `..` between slashes", shown(text))))
        }
        false => Ok(name),
    }
}

/// A service name, or 422 that names the field.
pub(super) fn service(field: &str, text: &str) -> Result<ServiceName, Refused> {
    checked(field, text, ServiceName::new(text))
}

/// An environment name, or 422 that names the field.
pub(super) fn environment(field: &str, text: &str) -> Result<EnvironmentName, Refused> {
    checked(field, text, EnvironmentName::new(text))
}

/// A version, or 422 that names the field.
pub(super) fn version(field: &str, text: &str) -> Result<Version, Refused> {
    checked(field, text, Version::new(text))
}

/// The identity of a message or of its sender (a UUID, a run number, a URI): printable ASCII that URIs need, without
/// what shells and web pages give a meaning to. Unlike a name it may begin with `-`, because random identities in the
/// base64url alphabet do (one in 64), and because an identity is never an argument of a program.
pub(super) fn identity(field: &str, text: &str) -> Result<String, Refused> {
    let problem = match text.chars().find(|c| !c.is_ascii_alphanumeric() && !"._:/?#@+%~=&,-".contains(*c)) {
        _ if text.is_empty() => "it is empty; give an identity that is new for every message".to_owned(),
        _ if text.len() > MAX_IDENTITY_BYTES => {
            format!("it has {} bytes, at most {MAX_IDENTITY_BYTES} are allowed", text.len())
        }
        Some(c) => format!("{c:?} is not allowed; use letters, digits and any of ._:/?#@+%~=&,-"),
        None if has_dot_segment(text) => "it must not have `.` or `..` between slashes".to_owned(),
        None => return Ok(text.to_owned()),
    };
    Err(Refused::field(field, format!("{} is not usable: {problem}", shown(text))))
}

/// The word that matrix rows match on: `smoke_test_failed`.
pub(super) fn what(field: &str, text: &str) -> Result<String, Refused> {
    let good = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= MAX_WHAT_BYTES
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match good {
        true => Ok(text.to_owned()),
        false => Err(Refused::field(
            field,
            format!(
                "{} is not usable: write a word such as smoke_test_failed (lower case letters, digits and `_`, \
                 a letter first, at most {MAX_WHAT_BYTES})",
                shown(text)
            ),
        )),
    }
}

/// One line for people out of any text: white space and control characters become single spaces, marks that change
/// the direction of writing go, and it is cut to [`MAX_SUMMARY_CHARS`].
pub(super) fn summary(text: &str) -> String {
    let turning = |c: char| matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}');
    let plain: String =
        text.chars().filter(|c| !turning(*c)).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_SUMMARY_CHARS {
        return line;
    }
    line.chars().take(MAX_SUMMARY_CHARS - 1).chain(['…']).collect()
}

/// Is the time credible? In the future by more than [`MAX_CLOCK_AHEAD`] or before the year 2000: 422. Older than
/// [`LATE_AFTER`]: fine, with a note.
pub(super) fn time(
    field: &str,
    at: Timestamp,
    now: Timestamp,
    notes: &mut Vec<String>,
) -> Result<(), Refused> {
    if at > MAX_CLOCK_AHEAD.after(now) {
        let ahead = Span::between(now, at);
        return Err(Refused::field(
            field,
            format!(
                "{at} is {ahead} ahead of our clock ({now}), at most {MAX_CLOCK_AHEAD} is allowed; check both clocks"
            ),
        ));
    }
    if at.as_second() < FIRST_CREDIBLE_SECOND {
        return Err(Refused::field(
            field,
            format!("{at} looks like an unset time; send the time it happened"),
        ));
    }
    if at < LATE_AFTER.before(now) {
        notes.push(format!("`{field}`: late by {}; recorded", Span::between(at, now)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_one_short_line() {
        assert_eq!(summary("  a\r\n\tb\0c \u{202E}d "), "a b c d");
        let long = summary(&"ä".repeat(1_000));
        assert_eq!(long.chars().count(), MAX_SUMMARY_CHARS);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn identities_keep_to_what_uris_need() {
        for good in ["271069a8-fc18", "/event/source/123", "https://ci.example/job?run=1&try=2#3", "urn:x:y"]
        {
            assert_eq!(identity("id", good).unwrap(), good);
        }
        for bad in ["", "a b", "$(id)", "a\r\nb", "<script>", "../x", "x/../y", "`id`", "ä", &"x".repeat(257)]
        {
            let refused = identity("id", bad).unwrap_err();
            assert!(refused.status == 422 && refused.reason.contains("`id`"), "{refused:?}");
        }
    }

    #[test]
    fn names_cannot_climb_directories() {
        assert!(service("service", "shop/../bank").unwrap_err().reason.contains("`service`"));
        assert!(version("version", "v1/./x").is_err());
        assert!(service("service", "shop/v1..2").is_ok());
    }
}
