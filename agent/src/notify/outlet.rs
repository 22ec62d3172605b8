//! One channel's queue and worker.

use super::{Message, Notifier, NotifyError};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Messages that wait per channel. A storm makes one message per incident, and a few hundred unread messages are no
/// longer read anyway; each is at most a few KiB.
pub(super) const ROOM: usize = 256;
/// After this a notifier is cut off: three attempts of three seconds and the pauses between.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// Rounds made for a page that does not go through. Together with the pauses: at least two minutes, the time in which
/// a chat or a proxy comes back from a restart. After that the escalation of whoever wrote it takes over.
const PAGE_ROUNDS: u32 = 6;
/// Before a page is tried again, times the rounds made.
const PAUSE: Duration = Duration::from_secs(5);
/// What waits when the agent stops gets this long.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How a channel does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelHealth {
    /// Its name in the configuration.
    pub name: String,
    /// Messages delivered since the start.
    pub delivered: u64,
    /// Messages given up on since the start.
    pub failed: u64,
    /// Messages dropped since the start because the queue was full.
    pub dropped: u64,
    /// Messages that wait now.
    pub waiting: usize,
    /// Failed rounds since the last delivery. More than zero means: the channel is broken as far as we know.
    pub failures_in_a_row: u64,
    /// Why the last failed round failed, if it has not worked since.
    pub last_error: Option<String>,
    /// When the last delivered message was written.
    pub last_delivered: Option<Timestamp>,
}

struct Waiting {
    message: Arc<Message>,
    rounds: u32,
}

struct State {
    /// Pages and other messages, each in the order in which they came.
    pages: VecDeque<Waiting>,
    others: VecDeque<Waiting>,
    health: ChannelHealth,
}

impl State {
    fn full(&self) -> bool {
        self.pages.len() + self.others.len() >= ROOM
    }
}

pub(super) struct Outlet {
    notifier: Box<dyn Notifier>,
    state: Mutex<State>,
    something_waits: Notify,
    pause: Duration,
}

impl Outlet {
    pub(super) fn new(notifier: Box<dyn Notifier>) -> Self {
        Self::with_pause(notifier, PAUSE)
    }

    pub(super) fn with_pause(notifier: Box<dyn Notifier>, pause: Duration) -> Self {
        let health = ChannelHealth {
            name: notifier.name().to_owned(),
            delivered: 0,
            failed: 0,
            dropped: 0,
            waiting: 0,
            failures_in_a_row: 0,
            last_error: None,
            last_delivered: None,
        };
        let state = State { pages: VecDeque::new(), others: VecDeque::new(), health };
        Self { notifier, state: Mutex::new(state), something_waits: Notify::new(), pause }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn health(&self) -> ChannelHealth {
        let state = self.state();
        ChannelHealth { waiting: state.pages.len() + state.others.len(), ..state.health.clone() }
    }

    /// Takes a message, or drops one. A page displaces the newest of the other messages (the oldest tell how it
    /// began); among pages the newest gives way.
    pub(super) fn put(&self, message: Arc<Message>) {
        let mut state = self.state();
        let dropped = match (state.full(), message.page) {
            (false, _) => None,
            (true, true) => match state.others.pop_back() {
                Some(other) => Some(other.message),
                None => Some(Arc::clone(&message)),
            },
            (true, false) => Some(Arc::clone(&message)),
        };
        let taken = dropped.as_ref().is_none_or(|dropped| !Arc::ptr_eq(dropped, &message));
        if let Some(dropped) = dropped {
            state.health.dropped += 1;
            tracing::error!(notifier = self.notifier.name(), kind = %dropped.kind, title = %dropped.title,
                page = dropped.page, dropped = state.health.dropped, "a message was dropped: {ROOM} wait already");
        }
        if taken {
            let waiting = Waiting { rounds: 0, message };
            if waiting.message.page {
                state.pages.push_back(waiting)
            } else {
                state.others.push_back(waiting)
            }
            drop(state);
            self.something_waits.notify_one();
        }
    }

    fn take(&self) -> Option<Waiting> {
        let mut state = self.state();
        state.pages.pop_front().or_else(|| state.others.pop_front())
    }

    /// Delivers until told to stop, then for ten more seconds what still waits.
    pub(super) async fn deliver(&self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            // An error means that the holder is gone, which is the same as being told.
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.deliver_for_ever() => {}
        }
        // A message that was under way is not lost: `round` puts it back when it is cut off.
        let deadline = Instant::now() + LAST_WORDS;
        while let Some(waiting) = self.take() {
            if timeout_at(deadline, self.round(waiting)).await.is_err() {
                break;
            }
        }
        let waiting = self.health().waiting;
        if waiting > 0 {
            tracing::error!(
                notifier = self.notifier.name(),
                waiting,
                "stopped with messages that were not delivered"
            );
        }
    }

    async fn deliver_for_ever(&self) {
        loop {
            match self.take() {
                Some(waiting) => {
                    if let Again::After(pause) = self.round(waiting).await {
                        sleep(pause).await;
                    }
                }
                None => self.something_waits.notified().await,
            }
        }
    }

    async fn round(&self, waiting: Waiting) -> Again {
        let mut held = Held { outlet: self, waiting: Some(waiting) };
        let Some(waiting) = &held.waiting else { return Again::AtOnce };
        let name = self.notifier.name();
        let sent = timeout(SEND_WITHIN, self.notifier.send(&waiting.message)).await.unwrap_or_else(|_| {
            Err(NotifyError::Passing { name: name.to_owned(), reason: "no end within 10 seconds".into() })
        });
        // From here on nothing waits, so the message is in exactly one place.
        let Some(mut waiting) = held.waiting.take() else { return Again::AtOnce };
        let mut state = self.state();
        let error = match sent {
            Ok(()) => {
                state.health.delivered += 1;
                state.health.failures_in_a_row = 0;
                state.health.last_error = None;
                state.health.last_delivered = Some(waiting.message.at);
                return Again::AtOnce;
            }
            Err(error) => error,
        };
        waiting.rounds += 1;
        state.health.failures_in_a_row += 1;
        state.health.last_error = Some(error.to_string());
        let message = &waiting.message;
        tracing::warn!(notifier = name, kind = %message.kind, title = %message.title, page = message.page,
            round = waiting.rounds, %error, "a message was not delivered");
        let passing = matches!(error, NotifyError::Passing { .. });
        if passing && message.page && waiting.rounds < PAGE_ROUNDS {
            let pause = self.pause * waiting.rounds;
            // Behind the other pages: one that a receiver cannot stomach must not keep the rest away. There may be one
            // more than there is room for, while it was under way.
            state.pages.push_back(waiting);
            return Again::After(pause);
        }
        state.health.failed += 1;
        Again::AtOnce
    }
}

enum Again {
    AtOnce,
    After(Duration),
}

/// A message that is under way. If its delivery is dropped, it goes back to the head of its queue.
struct Held<'a> {
    outlet: &'a Outlet,
    waiting: Option<Waiting>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            let mut state = self.outlet.state();
            if waiting.message.page {
                state.pages.push_front(waiting)
            } else {
                state.others.push_front(waiting)
            }
        }
    }
}
