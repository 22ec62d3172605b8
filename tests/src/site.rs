//! A web site that a test writes: pages that change between two requests, fail, or never come.
//!
//! It plays what stands behind a CDN or answers a smoke check: the front end's host, the back end's few paths. It counts
//! who asked for what, so that a test can tell a page from a cache from one that came from here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What a path answers.
#[derive(Debug, Clone)]
pub struct Page {
    /// The status, such as 200.
    pub status: u16,
    /// Its media type.
    pub media_type: &'static str,
    /// Its text.
    pub text: String,
    /// How long it takes.
    pub after: Duration,
}

impl Page {
    /// A whole HTML document around `body`, with an icon of its own so that no browser asks for another.
    pub fn html(body: &str) -> Page {
        let text = format!(
            "<!doctype html><html><head><meta charset=\"utf-8\"><title>shop</title><link rel=\"icon\" \
             href=\"data:,\"></head><body>{body}</body></html>"
        );
        Page { status: 200, media_type: "text/html; charset=utf-8", text, after: Duration::ZERO }
    }

    /// A document of JSON.
    pub fn json(text: &str) -> Page {
        Page { status: 200, media_type: "application/json", text: text.to_owned(), after: Duration::ZERO }
    }

    /// The same with another status.
    pub fn with_status(self, status: u16) -> Page {
        Page { status, ..self }
    }

    /// The same, so much later.
    pub fn after(self, after: Duration) -> Page {
        Page { after, ..self }
    }
}

#[derive(Debug, Default)]
struct Pages {
    pages: BTreeMap<String, Page>,
    asked: BTreeMap<String, usize>,
}

/// A running site; it ends when it is dropped.
#[derive(Debug)]
pub struct Site {
    address: SocketAddr,
    pages: Arc<Mutex<Pages>>,
    serving: JoinHandle<()>,
}

impl Site {
    /// Starts a site without pages: everything is answered 404.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start() -> Result<Site> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding a site")?;
        let address = listener.local_addr().context("reading the address of a site")?;
        let pages = Arc::new(Mutex::new(Pages::default()));
        let router = Router::new().fallback(answer).with_state(pages.clone());
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the site at {address} ended: {error}");
            }
        });
        Ok(Site { address, pages, serving })
    }

    /// Puts a page at a path, in the place of the one before.
    pub fn put(&self, path: &str, page: Page) {
        held(&self.pages).pages.insert(path.to_owned(), page);
    }

    /// How often a path was asked for, whatever it answered. A question mark and what follows is no part of a path.
    pub fn asked(&self, path: &str) -> usize {
        held(&self.pages).asked.get(path).copied().unwrap_or_default()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A test that panicked while it wrote a page spoils no other.
fn held(pages: &Mutex<Pages>) -> MutexGuard<'_, Pages> {
    pages.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(pages): State<Arc<Mutex<Pages>>>, address: Uri) -> Response {
    let page = {
        let mut pages = held(&pages);
        *pages.asked.entry(address.path().to_owned()).or_default() += 1;
        pages.pages.get(address.path()).cloned()
    };
    let Some(page) = page else { return StatusCode::NOT_FOUND.into_response() };
    tokio::time::sleep(page.after).await;
    let status = StatusCode::from_u16(page.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, page.media_type)], page.text).into_response()
}
