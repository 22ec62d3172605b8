//! Vendors that nobody wants a test to call: one recorder on loopback plays all of them.
//!
//! Each vendor has a path of its own, `http://127.0.0.1:PORT/VENDOR`, which a runbook takes where it asks for that vendor's
//! address. What it answers is a function of the request with whatever memory it likes, so that what one request changes
//! the next one sees. Every request is kept, in its order; one that nobody knows an answer to gets 404 and is kept apart,
//! so that a test can prove that there was none.
//!
//! * `slack.rs`, `github.rs`: vendors that several runbooks talk to, with the state that they look at.

mod github;
mod slack;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use github::{Repository, Shared};

/// More than any message or comment of ours.
const LARGEST_BODY: usize = 1 << 20;

/// What was asked of a vendor.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Of which: the first part of the path.
    pub vendor: String,
    /// `POST`.
    pub method: String,
    /// Its path at the vendor, with a slash, without the query.
    pub path: String,
    /// What follows the question mark, as it was sent.
    pub query: String,
    /// Headers by their names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
}

impl Asked {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// What a vendor says.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    /// A status with JSON.
    pub fn json(status: u16, body: &Value) -> Answer {
        Answer { status, body: body.to_string() }
    }

    /// A status with nothing.
    pub fn empty(status: u16) -> Answer {
        Answer { status, body: String::new() }
    }
}

type Play = Box<dyn FnMut(&Asked) -> Answer + Send>;

struct Role {
    vendor: String,
    method: String,
    /// With a star at its end: everything that begins so.
    path: String,
    play: Play,
}

impl Role {
    fn plays(&self, asked: &Asked) -> bool {
        let path = match self.path.strip_suffix('*') {
            Some(beginning) => asked.path.starts_with(beginning),
            None => asked.path == self.path,
        };
        self.vendor == asked.vendor && self.method == asked.method && path
    }
}

#[derive(Default)]
struct Stage {
    roles: Vec<Role>,
    asked: Vec<Asked>,
    unexpected: Vec<Asked>,
}

/// A running recorder; it ends when it is dropped.
pub struct Vendors {
    url: String,
    stage: Arc<Mutex<Stage>>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Vendors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Vendors").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Vendors {
    /// Starts it, with no vendor yet.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start() -> Result<Vendors> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding the recorder of vendors")?;
        let url = format!("http://{}", listener.local_addr()?);
        let stage = Arc::<Mutex<Stage>>::default();
        let router = Router::new().fallback(answer).with_state(stage.clone());
        // Ends with the handle; it has no other end than an error of the listener, which the next request shows.
        let task = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Vendors { url, stage, task })
    }

    /// The address of a vendor.
    pub fn url(&self, vendor: &str) -> String {
        format!("{}/{vendor}", self.url)
    }

    /// What a vendor says to a method and path; a star at the path's end stands for the rest. What was said last about a
    /// request counts.
    pub fn on(
        &self,
        vendor: &str,
        method: &str,
        path: &str,
        play: impl FnMut(&Asked) -> Answer + Send + 'static,
    ) {
        let (vendor, method, path) = (vendor.to_owned(), method.to_owned(), path.to_owned());
        self.stage().roles.push(Role { vendor, method, path, play: Box::new(play) });
    }

    /// The same answer every time.
    pub fn answers(&self, vendor: &str, method: &str, path: &str, answer: Answer) {
        self.on(vendor, method, path, move |_| answer.clone());
    }

    /// Everything that was asked of anybody, in its order.
    pub fn asked(&self) -> Vec<Asked> {
        self.stage().asked.clone()
    }

    /// What was asked of one vendor, as `METHOD path`, in its order.
    pub fn lines(&self, vendor: &str) -> Vec<String> {
        let asked = self.asked();
        let of = asked.iter().filter(|asked| asked.vendor == vendor);
        of.map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }

    /// Requests that nobody had an answer to.
    pub fn unexpected(&self) -> Vec<Asked> {
        self.stage().unexpected.clone()
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Vendors {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(stage): State<Arc<Mutex<Stage>>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().trim_start_matches('/');
    let (vendor, path) = path.split_once('/').unwrap_or((path, ""));
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let body = match to_bytes(body, LARGEST_BODY).await {
        Ok(body) => String::from_utf8_lossy(&body).into_owned(),
        Err(error) => return said(Answer { status: 413, body: error.to_string() }),
    };
    let asked = Asked {
        vendor: vendor.to_owned(),
        method: head.method.to_string(),
        path: format!("/{path}"),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers,
        body,
    };
    let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = match stage.roles.iter_mut().rev().find(|role| role.plays(&asked)) {
        Some(role) => (role.play)(&asked),
        None => {
            stage.unexpected.push(asked.clone());
            Answer::json(404, &serde_json::json!({ "message": "nobody plays this" }))
        }
    };
    stage.asked.push(asked);
    said(answer)
}

fn said(answer: Answer) -> Response<Body> {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert("content-type", axum::http::HeaderValue::from_static("application/json"));
    response
}
