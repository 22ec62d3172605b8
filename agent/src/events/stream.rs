//! Messages of brokers, read like requests of HTTP.
//!
//! A broker's message has headers and a body like a request, and means the same: a CloudEvent (binary or structured), a
//! CDEvent, our own JSON form, or anything that a mapping describes. So it is put into the shape of a request and goes
//! the same way. Three things differ. It has a place (topic and offset, stream and sequence) that serves as its identity
//! where it has none. It has a time at which the broker took it, which stands in for a missing `at`. And what says
//! nothing here is passed over and counted: on a shared topic most events are about something else.

use super::DeadLetter;
use super::auth::ServiceScope;
use super::hooks::{Hook, Rule};
use super::listener::{PATIENCE, asked_to_end};
use super::{Accepted, Refused, parse_events};
use crate::inlet::{Inlet, News, NotTaken, Reporter};
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use rules::ids::SourceName;
use tokio::sync::watch;

/// One message as a broker has it.
#[derive(Debug)]
pub struct Message<'a> {
    /// Where it stands, unique for its source.
    pub place: String,
    /// Whether it will be at the same place when it comes again.
    pub stays: bool,
    /// Its headers by lower-case name, those of CloudEvents as `ce-…`.
    pub headers: HeaderMap,
    /// Its body; a tombstone has none.
    pub body: &'a [u8],
    /// When the broker took it, if it says so.
    pub at: Option<Timestamp>,
}

impl Message<'_> {
    /// What tells it from all others: its place, and when it was put there, for the places of a topic or stream that was
    /// deleted and made again begin anew.
    fn identity(&self) -> String {
        match self.at {
            Some(at) => format!("{}@{}", self.place, at.as_millisecond()),
            None => self.place.clone(),
        }
    }
}

/// What one message says.
#[derive(Debug)]
pub enum Said {
    /// This.
    News(Vec<Accepted>),
    /// Nothing that is of interest here.
    Nothing(String),
    /// It cannot be read.
    Unreadable(Refused),
}

/// Reads the messages of one source.
#[derive(Debug)]
pub struct Reader {
    source: SourceName,
    services: ServiceScope,
    /// What messages of any other form mean.
    mapping: Option<Hook>,
}

impl Reader {
    /// For a source that may speak about these services, in our own words, or in others that `rules` explain. The error
    /// is everything that is wrong, each with its key.
    pub fn new(
        source: SourceName,
        services: &[String],
        rules: &[Rule],
    ) -> Result<Self, Vec<(String, String)>> {
        let services = ServiceScope::parse(services).map_err(|problems| {
            let split = |line: String| match line.split_once(": ") {
                Some((key, words)) => (key.to_owned(), words.to_owned()),
                None => ("services".to_owned(), line),
            };
            problems.into_iter().map(split).collect::<Vec<_>>()
        })?;
        let mapping = match rules {
            [] => None,
            rules => {
                let hook = Hook::of_broker(source.clone(), services.clone(), rules);
                let below = |(key, words)| (format!("mapping.{key}"), words);
                Some(hook.map_err(|wrong| wrong.into_iter().map(below).collect::<Vec<_>>())?)
            }
        };
        Ok(Self { source, services, mapping })
    }

    /// The source.
    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// Reads a message; pure. Panics of a reader are its defect and the message's fate: it is unreadable, and the agent
    /// goes on.
    pub fn read(&self, message: &Message<'_>, now: Timestamp) -> Said {
        let read = std::panic::AssertUnwindSafe(|| self.parse(message, now));
        match std::panic::catch_unwind(read) {
            Ok(Ok(accepted)) => Said::News(accepted),
            Ok(Err(refused)) if refused.says_nothing => Said::Nothing(refused.reason),
            Ok(Err(refused)) => Said::Unreadable(refused),
            Err(_panic) => {
                tracing::error!(place = %message.place, "reading a message panicked: please report this");
                Said::Unreadable(Refused::new(422, "reading it failed in a defect of the agent"))
            }
        }
    }

    fn parse(&self, message: &Message<'_>, now: Timestamp) -> Result<Vec<Accepted>, Refused> {
        if message.body.is_empty() {
            return Err(Refused::silent("a message without a body (a tombstone) is no event"));
        }
        if message.body.len() > super::limits::MAX_BODY_BYTES {
            let words = format!(
                "the message has {} bytes, at most {} are read",
                message.body.len(),
                super::limits::MAX_BODY_BYTES
            );
            return Err(Refused::new(413, words));
        }
        let mut headers = message.headers.clone();
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        if let (true, Ok(identity)) = (message.stays, HeaderValue::from_str(&message.identity())) {
            headers.insert(HeaderName::from_static("webhook-id"), identity);
        }
        // Time stood still while it waited: what it leaves out is as of then. A producer's clock may be ahead of ours.
        let as_of = message.at.map_or(now, |at| at.min(now));
        if let Some(hook) = &self.mapping {
            let heard = hook.read(&headers, message.body, as_of)?;
            return match heard.accepted.is_empty() {
                true => Err(Refused::silent(heard.notes.join("; "))),
                false => Ok(heard.accepted),
            };
        }
        let accepted = parse_events(&self.source, &headers, message.body, as_of)?;
        super::check_services(&self.source, &self.services, &accepted)?;
        Ok(accepted)
    }
}

/// Everything wrong with what a [`Reader`] is made of, each with its key.
pub fn reader_problems(services: &[String], rules: &[Rule]) -> Vec<(String, String)> {
    // Any name will do: it stands in none of the problems.
    let Ok(name) = SourceName::new("source") else { return Vec::new() };
    Reader::new(name, services, rules).err().unwrap_or_default()
}

/// What a batch of messages came to.
#[derive(Debug, Default)]
pub struct Batch {
    /// For the inlet.
    pub news: News,
    /// Messages that say nothing here.
    pub passed_over: u64,
}

impl Batch {
    /// Whether nothing needs the inlet.
    pub fn is_empty(&self) -> bool {
        self.news.is_empty()
    }

    /// Adds what a message said; `tries` is how often it was read by now.
    pub fn add(&mut self, message: &Message<'_>, said: Said, tries: u32) {
        match said {
            Said::News(accepted) => self.news.accepted.extend(accepted),
            Said::Nothing(why) => {
                tracing::debug!(place = %message.place, %why, "passed over");
                self.passed_over += 1;
            }
            Said::Unreadable(refused) => {
                self.news.dead.push(DeadLetter::new(&message.place, &refused.reason, tries, message.body));
            }
        }
    }
}

/// Waits until the ledger has it. A full queue is waited for: the broker keeps what comes.
pub(super) async fn hand_over(
    inlet: &Inlet,
    source: &SourceName,
    batch: &Batch,
    reporter: &Reporter,
    down: &mut watch::Receiver<bool>,
) -> Result<(), NotTaken> {
    loop {
        let told = tokio::select! {
            biased;
            () = asked_to_end(down) => return Err(NotTaken::Ending),
            told = inlet.tell(source, batch.news.clone(), PATIENCE) => told,
        };
        match told {
            Ok(_on_disk) => return Ok(()),
            Err(NotTaken::Full) => reporter.failed("the agent's queue is full; nothing more is fetched"),
            Err(NotTaken::Ending) => return Err(NotTaken::Ending),
        }
    }
}

/// Puts a broker's header among those of a request, if it can be one; `ce_id` and `ce-id` are the same.
pub fn header(headers: &mut HeaderMap, name: &str, value: &[u8]) {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("ce_").map_or(name.clone(), |rest| format!("ce-{rest}"));
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Incoming;

    fn reader(services: &[&str]) -> Reader {
        let services = services.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Reader::new(SourceName::new("bus").unwrap(), &services, &[]).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn read(headers: &[(&str, &str)], body: &str) -> Said {
        read_of(headers, body, "2026-03-01T12:00:00Z")
    }

    fn read_of(headers: &[(&str, &str)], body: &str, taken: &str) -> Said {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| header(&mut map, name, value.as_bytes()));
        let message = Message {
            place: "deploy/3/4711".into(),
            stays: true,
            headers: map,
            body: body.as_bytes(),
            at: Some(at(taken)),
        };
        reader(&["checkout"]).read(&message, at("2026-03-01T13:00:00Z"))
    }

    fn news(said: Said) -> Accepted {
        let Said::News(mut accepted) = said else { panic!("{said:?}") };
        accepted.remove(0)
    }

    #[test]
    fn the_place_is_the_identity_and_the_brokers_time_the_time_of_what_has_none() {
        let one = news(read(&[], r#"{"service":"checkout","version":"v1"}"#));
        let Incoming::Deploy(event) = &one.incoming else { panic!("{one:?}") };
        assert_eq!(event.occurred_at, at("2026-03-01T12:00:00Z"));
        let again = news(read(&[], r#"{"service":"checkout","version":"v1"}"#));
        assert_eq!(one.id, again.id);
        assert!(one.id.starts_with("deploy/3/4711"), "{}", one.id);
        // The topic was deleted and made again: the same place, and something else.
        let other = news(read_of(&[], r#"{"service":"checkout","version":"v2"}"#, "2026-03-02T12:00:00Z"));
        assert_ne!(one.id, other.id);
        let own = news(read(&[], r#"{"service":"checkout","version":"v1","id":"run-1"}"#));
        assert!(own.id.starts_with("run-1|"), "{}", own.id);
    }

    #[test]
    fn cloud_events_come_in_binary_and_structured_form() {
        let binary = [
            ("ce_specversion", "1.0"),
            ("ce_id", "a-1"),
            ("ce_source", "/ci"),
            ("ce_type", "dev.turnback.deployment.v1"),
            ("content-type", "application/json"),
        ];
        let body = r#"{"service":"checkout","version":"v1"}"#;
        let one = read(&binary, body);
        let structured = format!(
            r#"{{"specversion":"1.0","id":"a-1","source":"/ci","type":"dev.turnback.deployment.v1","data":{body}}}"#
        );
        let other = read(&[("content-type", "application/cloudevents+json; charset=UTF-8")], &structured);
        assert_eq!(news(one).id, news(other).id);
    }

    #[test]
    fn any_json_is_read_by_rules_and_without_an_id_its_place_is_its_identity() {
        let rules: Vec<Rule> = serde_saphyr::from_str(
            "[{name: done, when: body.event == 'done', deployment: {service: body.app, version: body.sha}},
              {name: others, nothing: not a deployment}]",
        )
        .unwrap();
        let reader = Reader::new(SourceName::new("bus").unwrap(), &["checkout".to_owned()], &rules).unwrap();
        let read = |offset: u64, body: &str| {
            let place = format!("deploy/0/{offset}");
            let message =
                Message { place, stays: true, headers: HeaderMap::new(), body: body.as_bytes(), at: None };
            reader.read(&message, at("2026-03-01T13:00:00Z"))
        };
        let body = r#"{"event":"done","app":"checkout","sha":"f95f"}"#;
        let (first, again) = (news(read(1, body)), news(read(1, body)));
        assert_eq!(first.id, again.id);
        // The same release once more, after it was turned back, is news.
        assert_ne!(first.id, news(read(2, body)).id);
        assert!(matches!(read(3, r#"{"event":"begun"}"#), Said::Nothing(_)));
        assert!(matches!(read(4, r#"{"event":"done","app":"cart","sha":"1"}"#), Said::Unreadable(_)));
        assert!(matches!(read(5, r#"{"event":"done","app":"checkout"}"#), Said::Unreadable(_)));
        let wrong: Vec<Rule> = serde_saphyr::from_str("[{name: x, when: body.a ==, nothing: x}]").unwrap();
        let wrong = Reader::new(SourceName::new("bus").unwrap(), &["x".to_owned()], &wrong).unwrap_err();
        assert_eq!(wrong[0].0, "mapping.0.when");
    }

    #[test]
    fn what_is_about_something_else_is_passed_over_and_what_is_broken_is_not() {
        let change = r#"{"context":{"version":"0.4.1","id":"1","source":"/x","type":"dev.cdevents.change.merged.0.2.0",
            "timestamp":"2026-03-01T12:00:00Z"},"subject":{"id":"c","type":"change","content":{}}}"#;
        assert!(matches!(read(&[], change), Said::Nothing(_)), "{:?}", read(&[], change));
        assert!(matches!(read(&[], ""), Said::Nothing(_)));
        for (body, words) in [
            ("{", "JSON"),
            (r#"{"service":"checkout"}"#, "version"),
            (r#"{"service":"cart","version":"v1"}"#, "may not speak about"),
        ] {
            let Said::Unreadable(refused) = read(&[], body) else { panic!("{body}") };
            assert!(refused.reason.contains(words), "{body}: {}", refused.reason);
        }
        let Said::Unreadable(refused) = read(&[], &"x".repeat(300_000)) else { panic!("too long") };
        assert_eq!(refused.status, 413);
    }
}
