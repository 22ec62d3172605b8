//! The door between whoever hears news (the API, brokers, a cluster) and the loop that keeps it.
//!
//! One rule holds for every source: what the inlet answers is on disk. Only then may an HTTP request be answered, an
//! offset be committed, a message be acknowledged. An answer that does not come means that nothing is known: the source
//! delivers again, and the ledger recognises what it has.
//!
//! The queue behind the door is bounded and nothing in it is ever thrown away. Whoever finds it full is told so (HTTP)
//! or waits (brokers, which keep what is not fetched). Reports leave the last part of the queue to deployments: a flood
//! of alerts must not keep the news of a release out.

mod board;
mod watchman;

pub use board::{Board, Reporter, Standing};
pub use watchman::Watchman;

use crate::dispatcher::{EventAnswer, Message};
use crate::events::{Accepted, DeadLetter, Incoming};
use rules::ids::SourceName;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Why news was not taken. Nothing of it is kept for certain: deliver it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The queue is full.
    #[error("too many messages are waiting; try again")]
    Full,
    /// The loop has ended, or the ledger failed.
    #[error("the agent is ending; try again")]
    Ending,
}

/// What one delivery of a source holds.
#[derive(Debug, Clone, Default)]
pub struct News {
    /// What was understood.
    pub accepted: Vec<Accepted>,
    /// What never will be, with the reason.
    pub dead: Vec<DeadLetter>,
}

impl News {
    /// How many answers it gets.
    pub fn len(&self) -> usize {
        self.accepted.len() + self.dead.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn has_deployment(&self) -> bool {
        self.accepted.iter().any(|accepted| matches!(accepted.incoming, Incoming::Deploy(_)))
    }
}

/// The door. Clones lead to the same loop.
#[derive(Clone)]
pub struct Inlet {
    messages: mpsc::Sender<Message>,
    board: Board,
}

impl Inlet {
    /// A door to the loop that receives these messages.
    pub fn new(messages: mpsc::Sender<Message>, board: Board) -> Self {
        Self { messages, board }
    }

    /// How the sources are doing.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// Hands news over and waits until it is on disk: an answer for each of `accepted`, then for each of `dead`. A full
    /// queue is waited for up to `patience`.
    pub async fn tell(
        &self,
        source: &SourceName,
        news: News,
        patience: Duration,
    ) -> Result<Vec<EventAnswer>, NotTaken> {
        if news.is_empty() {
            return Ok(Vec::new());
        }
        let (counts, deploys) = ((news.accepted.len(), news.dead.len()), news.has_deployment());
        let place = tokio::time::timeout(patience, self.place(deploys)).await;
        let place = match place {
            Ok(place) => place?,
            Err(_too_long) => {
                self.board.overflowed();
                return Err(NotTaken::Full);
            }
        };
        let (reply, answer) = oneshot::channel();
        place.send(Message::Events { source: source.clone(), news, reply });
        let answers = answer.await.map_err(|_| NotTaken::Ending)?;
        self.board.heard(source, &answers, counts.1);
        Ok(answers)
    }

    /// A place in the queue; without a deployment only while a part of it is free.
    async fn place(&self, deploys: bool) -> Result<mpsc::Permit<'_, Message>, NotTaken> {
        while !deploys && self.messages.capacity() < self.messages.max_capacity() / KEPT_FREE {
            if self.messages.is_closed() {
                return Err(NotTaken::Ending);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.messages.reserve().await.map_err(|_| NotTaken::Ending)
    }
}

/// One part in so many of the queue is for deployments alone.
const KEPT_FREE: usize = 4;
/// The loop empties a full queue in tens of milliseconds.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
