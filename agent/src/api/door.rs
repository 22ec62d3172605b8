//! Bodies of news: who may have how much of our memory, and for how long.
//!
//! Whoever reaches the port can send a body, on hundreds of connections at once, and a signature can be checked only when
//! the whole body is there. So bodies are taken in piece by piece, and each piece takes its bytes out of a store that is
//! bounded for all requests together; they go back when the request is answered. There are two stores: whoever shows a
//! token or a password proves with the head of the request who they are, before anything of the body is read, and what
//! strangers send cannot take their place away. The body of who shows nothing that could be a proof is never held: it is read
//! and thrown away, because who is still sending when the connection ends never sees the answer.
//!
//! Whoever finds no place within a second is told to come back: Alertmanager and its like do, after 503. It is counted on the
//! board, because a flood of strangers keeps those out who sign. A stranger who holds a place and sends nothing more gives it up.

use super::Problem;
use crate::events::auth::{Credential, EventSourceKey, Unauthenticated};
use crate::inlet::Board;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of bodies in memory at the same time of those who have proved who they are: eight of the largest groups of
/// alerts. Unpacked they take some ten times that.
const PROVED_BYTES: usize = 32 * 1024 * 1024;
/// The same of those who have not yet: four of the largest groups, or 800 webhooks of the usual 20 kB. What proves
/// nothing is never unpacked.
const UNPROVED_BYTES: usize = 16 * 1024 * 1024;
/// How long a piece waits for its place.
const PLACE_WITHIN: Duration = Duration::from_secs(1);
/// How long a body may take to come: 4 MiB over a slow line. Whoever drips longer gives its place up.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// How long a stranger may hold a place between two pieces: a line on which a packet is lost twice goes on sooner.
const MORE_WITHIN: Duration = Duration::from_secs(2);

/// How much of a body that is not taken is read and thrown away so that its sender sees why, and for how long: four times
/// the largest that is allowed. Whoever sends more finds the connection closed.
const MOST_PASSED_OVER: usize = 16 * 1024 * 1024;
const PASS_OVER_WITHIN: Duration = Duration::from_secs(3);

/// The stores.
#[derive(Debug)]
pub struct Door {
    proved: Arc<Semaphore>,
    unproved: Arc<Semaphore>,
}

impl Default for Door {
    fn default() -> Self {
        Self::of(PROVED_BYTES, UNPROVED_BYTES)
    }
}

/// A body, and its place for as long as it is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl Door {
    fn of(proved: usize, unproved: usize) -> Self {
        Self { proved: Arc::new(Semaphore::new(proved)), unproved: Arc::new(Semaphore::new(unproved)) }
    }

    /// Takes a body of up to `most` bytes in. Errors: 413 too long, 400 broken off, 503 no place or too slow: come again. That
    /// there was no place is counted on the `board`.
    pub(super) async fn take_in(
        &self,
        body: Body,
        most: usize,
        proved: bool,
        board: &Board,
    ) -> Result<Held, Problem> {
        let declared = body.size_hint().lower();
        let mut pieces = body.into_data_stream();
        let (store, more_within) = match proved {
            true => (&self.proved, BODY_WITHIN),
            false => (&self.unproved, MORE_WITHIN),
        };
        let filling = Filling { most, declared, more_within, store, board };
        let taken = match tokio::time::timeout(BODY_WITHIN, filling.whole(&mut pieces)).await {
            Ok(held) => held,
            Err(_too_slow) => {
                Err(too_slow(format!("the body did not come within {} s", BODY_WITHIN.as_secs())))
            }
        };
        if taken.is_err() {
            pass_over(&mut pieces).await;
        }
        taken
    }
}

/// Reads a body that nobody wants, so that its sender hears the answer.
pub(super) async fn refuse_unread(body: Body) {
    pass_over(&mut body.into_data_stream()).await;
}

async fn pass_over(pieces: &mut BodyDataStream) {
    let reading = async {
        let mut left = MOST_PASSED_OVER;
        while let Some(Ok(piece)) = pieces.next().await {
            left = left.saturating_sub(piece.len());
            if left == 0 {
                return;
            }
        }
    };
    let _cut_off = tokio::time::timeout(PASS_OVER_WITHIN, reading).await;
}

/// A body that is coming.
struct Filling<'a> {
    most: usize,
    declared: u64,
    /// How long it may stand still while it holds a place.
    more_within: Duration,
    store: &'a Arc<Semaphore>,
    board: &'a Board,
}

impl Filling<'_> {
    async fn whole(&self, pieces: &mut BodyDataStream) -> Result<Held, Problem> {
        if self.declared > self.most as u64 {
            return Err(too_long(self.most));
        }
        let mut bytes = Vec::new();
        let mut place: Option<OwnedSemaphorePermit> = None;
        while let Some(piece) = self.next(pieces, place.is_some()).await? {
            let piece = piece.map_err(|error| {
                let words = format!("the body cannot be read: {}", crate::signals::words(&error));
                Problem::new(StatusCode::BAD_REQUEST, words)
            })?;
            if bytes.len() + piece.len() > self.most {
                return Err(too_long(self.most));
            }
            let more = self.place_for(piece.len()).await?;
            match &mut place {
                Some(place) => place.merge(more),
                None => place = Some(more),
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(Held { bytes: Bytes::from(bytes), _place: place })
    }

    async fn next(
        &self,
        pieces: &mut BodyDataStream,
        holds: bool,
    ) -> Result<Option<Result<Bytes, axum::Error>>, Problem> {
        if !holds {
            return Ok(pieces.next().await);
        }
        let stands_still =
            |_| too_slow(format!("nothing more of the body came for {} s", self.more_within.as_secs()));
        tokio::time::timeout(self.more_within, pieces.next()).await.map_err(stands_still)
    }

    async fn place_for(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let count = u32::try_from(bytes).map_err(|_| too_long(self.most))?;
        let place =
            tokio::time::timeout(PLACE_WITHIN, Arc::clone(self.store).acquire_many_owned(count)).await;
        let Ok(Ok(place)) = place else {
            self.board.overflowed();
            let words = "too much is being sent at once; send this again";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, words));
        };
        Ok(place)
    }
}

fn too_slow(what: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("{what}; send this again"))
}

fn too_long(most: usize) -> Problem {
    let words = format!("the body has more than {most} bytes; send smaller batches");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, words)
}

/// Who the head of a request proves by itself; `None`, if only the body can show it. Errors: nobody, whatever the body is.
pub(super) fn proved_by_head<'a>(
    keys: &'a [EventSourceKey],
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Option<&'a EventSourceKey>, Unauthenticated> {
    let (in_head, in_body): (Vec<_>, Vec<_>) = keys.iter().partition(|key| is_in_head(&key.credential));
    // All are tried, to the end, so that the time does not tell which is right.
    let tried: Vec<_> = in_head.iter().map(|key| (*key, key.recognise(headers, b"", now))).collect();
    if let Some((key, _)) = tried.iter().find(|(_, outcome)| outcome.is_ok()) {
        return Ok(Some(key));
    }
    if in_body.iter().any(|key| may_be_in_body(&key.credential, headers)) {
        return Ok(None);
    }
    // In the words of all keys, as after reading a body that proves nothing.
    crate::events::auth::authenticate(keys, headers, b"", now).map(Some)
}

fn is_in_head(credential: &Credential) -> bool {
    matches!(credential, Credential::Bearer { .. } | Credential::Basic { .. } | Credential::Token { .. })
}

/// Whether the head shows a signature as this credential wants it, which only the body can prove.
pub(super) fn shows_signature(credential: &Credential, headers: &HeaderMap) -> bool {
    !matches!(credential, Credential::Nobody) && may_be_in_body(credential, headers)
}

/// Whether the head says that the body is signed; of one that nobody signs, that is always so.
fn may_be_in_body(credential: &Credential, headers: &HeaderMap) -> bool {
    match credential {
        Credential::Hmac(proof) => headers.contains_key(proof.header.as_str()),
        Credential::StandardWebhooks { .. } => headers.contains_key("webhook-signature"),
        Credential::Nobody => true,
        Credential::Bearer { .. }
        | Credential::Basic { .. }
        | Credential::Token { .. }
        | Credential::Broker => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::auth::ServiceScope;
    use axum::http::header::RETRY_AFTER;
    use axum::response::IntoResponse as _;
    use futures_util::stream;
    use rules::ids::SourceName;
    use std::convert::Infallible;

    fn of_bytes(count: usize) -> Body {
        Body::from(vec![b'x'; count])
    }

    #[tokio::test(start_paused = true)]
    async fn what_strangers_send_is_bounded_and_takes_no_place_of_those_who_are_known() {
        let (door, board) = (Door::of(100, 100), Board::default());
        // It has sent 80 bytes and never ends.
        let dripping =
            stream::iter([Ok::<_, Infallible>(Bytes::from(vec![b'x'; 80]))]).chain(stream::pending());
        let stalled = door.take_in(Body::from_stream(dripping), 100, false, &board);
        let second = async {
            tokio::task::yield_now().await;
            let refused = door.take_in(of_bytes(50), 100, false, &board).await.unwrap_err();
            let known = door.take_in(of_bytes(90), 100, true, &board).await.unwrap();
            (refused, known.bytes.len())
        };
        let (stalled, (refused, known)) = tokio::join!(stalled, second);
        assert_eq!((refused.status, known), (StatusCode::SERVICE_UNAVAILABLE, 90), "{refused:?}");
        assert!(refused.into_response().headers().contains_key(RETRY_AFTER));
        assert!(stalled.unwrap_err().words.contains("for 2 s"), "it gives its place up");
        assert_eq!(board.overflow(), 1, "who found no place is counted");
        let held = door.take_in(of_bytes(100), 100, false, &board).await.unwrap();
        assert!(
            door.take_in(of_bytes(1), 100, false, &board).await.is_err(),
            "the place is held until the answer"
        );
        assert_eq!(board.overflow(), 2);
        drop(held);
        assert!(door.take_in(of_bytes(1), 100, false, &board).await.is_ok());
        let slow = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"x"))]).chain(stream::pending());
        let slow = door.take_in(Body::from_stream(slow), 100, true, &board).await.unwrap_err();
        assert!(slow.words.contains("10 s"), "{slow:?}: who is known has longer");
        for body in [of_bytes(101), Body::from_stream(stream::iter([Ok::<_, Infallible>(vec![b'x'; 101])]))] {
            let refused = door.take_in(body, 100, true, &board).await.unwrap_err();
            assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{refused:?}");
        }
    }

    #[test]
    fn the_head_tells_who_may_send_a_body_at_all() {
        let now = crate::clock::now();
        let key = |name: &str, credential| EventSourceKey {
            name: SourceName::new(name).unwrap(),
            credential,
            services: ServiceScope::all(),
        };
        let bearer = key("ci", Credential::Bearer { tokens: vec!["good".into()] });
        let signed = key("signed", Credential::StandardWebhooks { secrets: vec![vec![7; 32]] });
        let keys = [bearer, signed];
        let head = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
        };
        let good = proved_by_head(&keys, &head("authorization", "Bearer good"), now).unwrap();
        assert_eq!(good.map(|key| key.name.as_str()), Some("ci"));
        let signature = head("webhook-signature", "v1,AAAA");
        assert!(proved_by_head(&keys, &signature, now).unwrap().is_none(), "only the body can show it");
        assert!(proved_by_head(&keys[..1], &signature, now).is_err());
        for headers in [HeaderMap::new(), head("authorization", "Bearer bad")] {
            let nobody = proved_by_head(&keys, &headers, now).unwrap_err().for_the_log();
            assert!(nobody.contains("ci: ") && nobody.contains("signed: "), "{nobody}");
        }
    }
}
