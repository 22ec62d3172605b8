//! The HTTP API: news in, looks out, a person's word.
//!
//! Everything that changes something needs a bearer token, also on the loopback: a page in a browser on the same machine
//! can reach the port too, and it must not be able to turn a service back. Looking is free on the loopback only.

mod auth;
mod door;
mod hooks;
mod intake;
mod people;
mod push;
mod read;
mod serve;

pub use auth::Access;
pub use door::Door;
pub use push::router as push_router;
pub use serve::serve;

use crate::collector::Collector;
use crate::dispatcher::{Message, Rules, View};
use crate::events::EventSourceKeys;
use crate::events::limits::MAX_BODY_BYTES;
use crate::executor::Executor;
use crate::inlet::Inlet;
use crate::ledger::Ledger;
use crate::telemetry::Metrics;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, options, post};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// How long one request may take, body and answer together: an approval waits for the ledger, nothing waits longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a request waits for a place in the dispatcher's queue before it is answered 503.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);

/// How many seconds whoever is answered 503 is asked to stay away.
const COME_BACK_AFTER: HeaderValue = HeaderValue::from_static("2");

/// What handlers need.
pub struct Shared {
    /// The dispatcher's ear, for people and looks.
    pub messages: mpsc::Sender<Message>,
    /// The same for news.
    pub inlet: Inlet,
    /// For reading records.
    pub ledger: Ledger,
    /// Who may do what.
    pub access: Access,
    /// Who may tell news, and about which services.
    pub sources: EventSourceKeys,
    /// Who may have how much memory with what they tell.
    pub door: Door,
    /// The rules of each service, to tell senders of names that nobody listens for.
    pub rules: Rules,
    /// The signal sources, for readiness.
    pub collector: Collector,
    /// Who tries plans out.
    pub executor: Executor,
    /// Our own figures.
    pub metrics: Metrics,
    /// Pulled here at once, before the ledger knows of it.
    pub stopped: watch::Sender<bool>,
    /// Whether the state is restored and the loop runs.
    pub ready: watch::Receiver<bool>,
}

/// A shared reference to what handlers need.
pub type State = axum::extract::State<Arc<Shared>>;

/// All routes.
pub fn router(shared: Arc<Shared>) -> Router {
    let looks = Router::new()
        .route("/v1/watches", get(read::watches))
        .route("/v1/watches/{id}", get(read::watch))
        .route("/v1/watches/{id}/explanation", get(read::explanation))
        .route("/v1/watches/{id}/postmortem", get(read::postmortem))
        .route("/v1/incidents", get(read::incidents))
        .route("/v1/plans", get(read::plans))
        .route("/v1/plans/{id}", get(read::plan))
        .route("/v1/fleet", get(read::fleet))
        .route("/v1/drills", get(read::drills))
        .route("/v1/freezes", get(read::freezes))
        .route("/v1/ledger", get(read::ledger))
        .route("/v1/dead-letters", get(read::dead_letters))
        .route_layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), auth::may_look));
    let words = Router::new()
        .route("/v1/plans/{id}/approval", post(people::approval))
        .route("/v1/rollbacks", post(people::rollback))
        .route("/v1/rehearsals", post(people::rehearsal))
        .route("/v1/freezes", post(people::freeze).delete(people::unfreeze))
        .route("/v1/stop", post(people::stop).delete(people::resume))
        .route_layer(axum::middleware::from_fn_with_state(Arc::clone(&shared), auth::may_act));
    let news = Router::new()
        .route("/v1/events", post(intake::events).merge(options(hooks::handshake)))
        .route("/v1/alerts", post(intake::alerts))
        .route("/v1/hooks/{name}", post(hooks::hook).merge(options(hooks::handshake)));
    let ours = Router::new()
        .route("/healthz", get(read::healthz))
        .route("/readyz", get(read::readyz))
        .route("/metrics", get(read::metrics));
    Router::new()
        .merge(looks)
        .merge(words)
        .merge(news)
        .merge(ours)
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "there is no such path; see the README for the list")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn(in_time))
        .with_state(shared)
}

/// Ends a request that takes too long. Whether what it says is kept is not known then: with a status that begins with
/// five, Alertmanager and its like say it again; with 408 they would not.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(answer) => answer,
        Err(_too_long) => {
            let words = "this took too long and may have been done: look, or say it again (what is known is recognised)";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, words).into_response()
        }
    }
}

/// An error answer: a status and words.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    words: String,
}

impl Problem {
    /// With these words.
    pub fn new(status: StatusCode, words: impl Into<String>) -> Self {
        Self { status, words: words.into() }
    }

    fn after(self, words: &str) -> Self {
        Self { words: format!("{words}{}", self.words), ..self }
    }

    fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too many messages are waiting; try again")
    }

    fn ending() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending; try again")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut answer =
            (self.status, axum::Json(serde_json::json!({ "error": self.words }))).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(RETRY_AFTER, COME_BACK_AFTER);
        }
        answer
    }
}

impl Shared {
    /// Puts a message into the dispatcher's queue, or says that it is full.
    async fn send(&self, message: Message) -> Result<(), Problem> {
        match self.messages.send_timeout(message, QUEUE_PATIENCE).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(Problem::busy()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(Problem::ending()),
        }
    }

    /// Waits until the dispatcher hears: its state is restored, and what was left to do is begun.
    pub async fn heard(&self) -> bool {
        self.look(|_| ()).await.is_ok()
    }

    /// Looks at the state between two inputs.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(View<'_>) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (reply, answer) = oneshot::channel();
        let look = move |view: View<'_>| {
            let _asker_left = reply.send(look(view));
        };
        self.send(Message::Look(Box::new(look))).await?;
        answer.await.map_err(|_| Problem::ending())
    }
}
