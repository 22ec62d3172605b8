//! Calls somebody when a source of events has been cut off for too long, when messages are put aside, and when news
//! finds the queue full.
//!
//! None of these is news about a service, and none of them stops anything: other sources and the reconciliation with
//! clusters go on. But a deployment that nobody hears of is one that nobody watches, and people must know.

use super::{Board, Standing};
use crate::clock;
use crate::notify::{Message, Notifiers};
use jiff::Timestamp;
use rules::ids::SourceName;
use rules::units::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::watch;

/// A broker that restarts, or a rebalance, is over by then.
const CUT_OFF_AFTER: Span = Span::from_minutes(2);
/// What was heard for so long without a break is heard again.
const STEADY_AFTER: Span = Span::from_minutes(1);
/// What goes on happening is told again after this long, with how much it was.
const TELL_AGAIN: Span = Span::from_minutes(10);
/// Between two looks at the board.
const EVERY: Duration = Duration::from_secs(5);

/// What was told already.
#[derive(Debug, Default)]
pub struct Watchman {
    cut_off: BTreeSet<SourceName>,
    /// Since when a source has not been steady.
    trouble: BTreeMap<SourceName, Timestamp>,
    dead: BTreeMap<SourceName, Told>,
    overflow: Told,
}

#[derive(Debug, Default, Clone, Copy)]
struct Told {
    count: u64,
    at: Option<Timestamp>,
}

impl Told {
    /// How many are new, if it is time to tell.
    fn news(&mut self, count: u64, now: Timestamp) -> Option<u64> {
        let quiet = self.at.is_some_and(|at| Span::between(at, now) < TELL_AGAIN);
        if count <= self.count || quiet {
            return None;
        }
        let new = count - self.count;
        *self = Told { count, at: Some(now) };
        Some(new)
    }
}

impl Watchman {
    /// Looks at the board until `down`.
    pub async fn run(mut self, board: Board, notifiers: Notifiers, mut down: watch::Receiver<bool>) {
        let mut looks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = crate::events::listener::asked_to_end(&mut down) => return,
                _ = looks.tick() => {}
            }
            for message in self.look(&board, clock::now()) {
                notifiers.send(message);
            }
        }
    }

    /// What is to be told now.
    fn look(&mut self, board: &Board, now: Timestamp) -> Vec<Message> {
        let mut messages = Vec::new();
        for (name, standing) in board.standings() {
            messages.extend(self.connection(&name, &standing, now));
            let new = self.dead.entry(name.clone()).or_default().news(standing.dead_letters, now);
            messages.extend(new.map(|new| {
                let title = format!("{new} messages of {name} cannot be read and were put aside");
                let text = "What was in them and why is under GET /v1/dead-letters. The source goes on.";
                page("dead_letters", name.as_str(), title, text.to_owned(), now)
            }));
        }
        messages.extend(self.overflow.news(board.overflow(), now).map(|new| {
            let title = format!("the queue of news was full {new} times");
            let text = "Whoever sent it was told to send it again. If this goes on, news is late: look at what floods us.";
            page("overflow", "queue", title, text.to_owned(), now)
        }));
        messages
    }

    fn connection(&mut self, name: &SourceName, standing: &Standing, now: Timestamp) -> Option<Message> {
        // Whether one that is called by others is cut off, nobody can know: nobody is called for it.
        let connected = standing.connected?;
        // What comes for seconds and goes again is not back.
        let is_steady = connected && Span::between(standing.since, now) >= STEADY_AFTER;
        if is_steady {
            self.trouble.remove(name);
        } else if !connected {
            self.trouble.entry(name.clone()).or_insert(standing.since);
        }
        let since = self.trouble.get(name).copied();
        let long = !connected && since.is_some_and(|since| Span::between(since, now) >= CUT_OFF_AFTER);
        if long && self.cut_off.insert(name.clone()) {
            let why = standing.last_error.as_ref().map_or("", |(_, why)| why.as_str());
            let blind = standing.kind.ends_with("-samples");
            let missing = if blind { "we are blind to its samples" } else { "deployments may go unseen" };
            let title = format!("cut off from {name}: {missing}");
            let since = since.unwrap_or(standing.since);
            let text =
                format!("{} has not been heard, or not for a minute, since {since}. {why}", standing.source);
            return Some(page("source_cut_off", name.as_str(), title, text, now));
        }
        if is_steady && self.cut_off.remove(name) {
            let title = format!("hears {name} again");
            let message = page("source_back", name.as_str(), title, String::new(), now);
            return Some(Message { page: false, severity: None, ..message });
        }
        None
    }
}

fn page(kind: &str, about: &str, title: String, text: String, now: Timestamp) -> Message {
    Message {
        kind: kind.into(),
        severity: Some("P2".into()),
        title,
        text,
        service: None,
        watch: None,
        incident: false,
        page: true,
        dedup_key: format!("{kind}/{about}"),
        at: now,
        link: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::EventAnswer;

    #[test]
    fn a_source_that_is_cut_off_is_told_once_and_told_back() {
        let (board, mut watchman) = (Board::default(), Watchman::default());
        let name = SourceName::new("bus").unwrap();
        let reporter = board.reporter(&name, "kafka", "Kafka at a:9092".into());
        let now = clock::now();
        let later = |seconds| Span::from_seconds(seconds).after(now);
        reporter.down("no broker answers");
        assert!(watchman.look(&board, later(60)).is_empty());
        let told = watchman.look(&board, later(125));
        assert!(told[0].page && told[0].text.contains("no broker answers"), "{told:?}");
        assert!(watchman.look(&board, later(900)).is_empty(), "it is told once");
        reporter.up();
        assert!(watchman.look(&board, later(30)).is_empty(), "it may go again");
        let back = watchman.look(&board, later(901));
        assert!(!back[0].page && back[0].kind == "source_back", "{back:?}");
        assert!(watchman.look(&board, later(902)).is_empty());
    }

    #[test]
    fn a_source_that_comes_and_goes_is_cut_off() {
        let (board, mut watchman) = (Board::default(), Watchman::default());
        let name = SourceName::new("bus").unwrap();
        board.reporter(&name, "nats", "NATS at a:4222".into());
        let now = clock::now();
        let later = |seconds| Span::from_seconds(seconds).after(now);
        let (_, mut standing) = board.standings().into_iter().next().unwrap();
        let mut told = Vec::new();
        for second in (0..180).step_by(15) {
            for (connected, at) in [(false, later(second)), (true, later(second + 10))] {
                (standing.connected, standing.since) = (Some(connected), at);
                told.extend(watchman.connection(&name, &standing, at));
            }
        }
        assert!(watchman.connection(&name, &standing, later(230)).is_none(), "not steady yet");
        let back = watchman.connection(&name, &standing, later(236)).unwrap();
        assert_eq!(back.kind, "source_back");
        assert!(told.len() == 1 && told[0].kind == "source_cut_off", "{told:?}");
    }

    #[test]
    fn nobody_is_called_for_a_source_that_others_call() {
        let (board, mut watchman) = (Board::default(), Watchman::default());
        let name = SourceName::new("github").unwrap();
        board.expect(&name, "POST /v1/hooks/github".into());
        board.refused(&name, "no signature matches");
        let now = clock::now();
        assert!(watchman.look(&board, Span::from_minutes(60).after(now)).is_empty());
    }

    #[test]
    fn dead_letters_and_a_full_queue_are_told_at_most_every_ten_minutes_with_their_number() {
        let (board, mut watchman) = (Board::default(), Watchman::default());
        let name = SourceName::new("bus").unwrap();
        let now = clock::now();
        let recorded = EventAnswer::Recorded { sequence: 1 };
        board.heard(&name, &[recorded], 1);
        board.overflowed();
        assert_eq!(watchman.look(&board, now).len(), 2);
        board.heard(&name, &[recorded; 3], 3);
        assert!(watchman.look(&board, Span::from_minutes(1).after(now)).is_empty());
        let told = watchman.look(&board, Span::from_minutes(11).after(now));
        assert_eq!(told.len(), 1);
        assert!(told[0].title.starts_with("3 messages of bus"), "{told:?}");
    }
}
