//! What many pieces of news have us do, written in one commit and done after it.
//!
//! Thinking about a batch of news piece by piece, with a commit after each, would cost a disk's round trip for every
//! piece. So while a batch is thought about, what the watches want is held: the state in memory changes at once, as if it
//! were done, and nothing leaves the process until all of it is on disk. That is the same order as ever (ledger first,
//! then act), for a batch at a time.

use super::{DispatchError, Dispatcher};
use crate::crash;
use crate::ledger::NewRecord;
use crate::notify::Message as Telling;
use jiff::Timestamp;
use rules::ids::WatchId;
use rules::watch::Effect;

/// Records that are written at once: half of what a commit takes leaves room for any one piece of news.
const MANY: usize = crate::ledger::MAX_BATCH / 2;

/// What is to be written, and what is to be done once it is.
#[derive(Default)]
pub(super) struct Held {
    pub(super) records: Vec<NewRecord>,
    points: Vec<&'static str>,
    later: Vec<Later>,
}

enum Later {
    Begin(WatchId, Box<Effect>),
    /// Made at once: the watch it is about may be gone by then.
    Tell(Box<Telling>),
}

impl Dispatcher {
    /// From here on, what watches want is held, until [`Dispatcher::release`].
    pub(super) fn hold(&mut self) {
        self.held = Some(Held::default());
    }

    /// Takes note of what a watch wants.
    pub(super) fn hold_back(
        &mut self,
        held: &mut Held,
        id: &WatchId,
        effects: Vec<Effect>,
        now: Timestamp,
    ) -> Result<(), DispatchError> {
        for effect in effects {
            match effect {
                Effect::Record { entry, fleet } => {
                    super::perform::crash_before(&entry);
                    held.points.extend(super::perform::crash_point_after(&entry));
                    held.records.push(self.entry_record(id, &entry, now)?);
                    for fact in fleet {
                        held.records.push(super::perform::fleet_record(&fact, now)?);
                        self.fleet.apply(&fact);
                    }
                }
                Effect::Notify(notice) => {
                    let telling = self.telling(id, notice, now);
                    held.later.push(Later::Tell(Box::new(telling)));
                }
                // Only the memory of this loop: later news of the batch must find it as it will be.
                Effect::WakeAt(at) => {
                    self.wakes.insert(id.clone(), at);
                }
                Effect::Close => self.close(id),
                // News asks nothing.
                Effect::Answer(_) => {}
                begun @ (Effect::MeasureBaseline { .. }
                | Effect::Measure { .. }
                | Effect::Rehearse(_)
                | Effect::RunStep(_)) => held.later.push(Later::Begin(id.clone(), Box::new(begun))),
            }
        }
        Ok(())
    }

    /// Writes what was held before it is more than one commit takes, and holds on. Between two pieces of news only: what
    /// one piece changes, an old watch that ends for a new one, is on disk whole or not at all.
    pub(super) async fn release_if_many(&mut self) -> Result<(), DispatchError> {
        if self.held.as_ref().is_some_and(|held| held.records.len() >= MANY) {
            self.release(Vec::new()).await?;
            self.hold();
        }
        Ok(())
    }

    /// Writes what was held, then does it. `more` is written last.
    pub(super) async fn release(&mut self, more: Vec<NewRecord>) -> Result<(), DispatchError> {
        let Some(Held { mut records, points, later }) = self.held.take() else { return Ok(()) };
        records.extend(more);
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let part = records.by_ref().take(crate::ledger::MAX_BATCH).collect();
            self.parts.ledger.append(part).await?;
        }
        self.publish();
        points.into_iter().for_each(crash::point);
        for later in later {
            match later {
                Later::Tell(telling) => self.parts.notifiers.send(*telling),
                Later::Begin(id, effect) => self.begin(&id, *effect),
            }
        }
        Ok(())
    }
}
