//! A proxy before an API server that makes its weather: what a network, a load balancer and a tired server do to watches
//! and lists, for as long as a test wants it.
//!
//! It speaks plain HTTP to the client and hands everything on with the client's own credentials, watches as they come.
//! When the weather changes, watches that run are cut off.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longer than a watch lives.
const LONGEST: Duration = Duration::from_secs(300);
/// Between two bytes of an answer that drips.
const DRIP: Duration = Duration::from_millis(300);

/// What becomes of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    /// They are handed on.
    Clear,
    /// Watches are taken, and no event ever comes.
    SilentWatches,
    /// Each watch is told that what it asks for is past (410), as the server says it within a watch.
    ExpiredWatches,
    /// Each watch is refused with HTTP 410, as servers before an old cache do it.
    GoneWatches,
    /// What was read before this weather is read again, as from a cache that lies behind; watches see nothing.
    OldCache,
    /// Nobody is known.
    Unauthorized,
    /// Success, with something that is no JSON.
    Garbage,
    /// Success that comes byte by byte.
    Drip,
    /// Connections are taken, and no answer ever comes.
    Silence,
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct WeatherProxy {
    url: String,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    client: reqwest::Client,
    weather: watch::Sender<Weather>,
    /// The last answers to reads, by address.
    read: Mutex<BTreeMap<String, Bytes>>,
    /// How many requests met each weather.
    met: Mutex<BTreeMap<Weather, usize>>,
}

impl WeatherProxy {
    /// Starts a proxy before `upstream`, which `client` knows how to talk to.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start(upstream: &str, client: reqwest::Client) -> Result<WeatherProxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding the weather proxy")?;
        let url = format!("http://{}", listener.local_addr()?);
        let (weather, _) = watch::channel(Weather::Clear);
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client,
            weather,
            read: Mutex::default(),
            met: Mutex::default(),
        });
        let router = axum::Router::new().fallback(serve).with_state(shared.clone());
        let serving = tokio::spawn(async move {
            // Ends with the proxy; what goes wrong with one connection is the weather.
            let _ended = axum::serve(listener, router).await;
        });
        Ok(WeatherProxy { url, shared, serving })
    }

    /// The address for clients, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Changes the weather and cuts off the watches that run.
    pub fn turn(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// How many requests were spoiled by this weather so far: a test that finds none tested something else.
    pub fn met(&self, weather: Weather) -> usize {
        self.shared.met().get(&weather).copied().unwrap_or_default()
    }
}

impl Drop for WeatherProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn met(&self) -> MutexGuard<'_, BTreeMap<Weather, usize>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn forward(&self, request: Request, is_watch: bool) -> Result<Response> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let mut onward = self.client.request(parts.method.clone(), format!("{}{path}", self.upstream));
        for name in [header::AUTHORIZATION, header::ACCEPT, header::CONTENT_TYPE] {
            if let Some(value) = parts.headers.get(&name) {
                onward = onward.header(name, value);
            }
        }
        let body = axum::body::to_bytes(body, usize::MAX).await?;
        // A watch in this weather ends with it.
        let mut changes = self.weather.subscribe();
        changes.mark_unchanged();
        let answer = onward.body(body).timeout(LONGEST).send().await?;
        let status = StatusCode::from_u16(answer.status().as_u16())?;
        if is_watch {
            let cut = async move {
                let _gone = changes.changed().await;
            };
            let events = answer.bytes_stream().take_until(Box::pin(cut));
            return Ok((status, json_type(), Body::from_stream(events)).into_response());
        }
        let bytes = answer.bytes().await?;
        if parts.method == "GET" && status == StatusCode::OK {
            self.read().insert(path, bytes.clone());
        }
        Ok((status, json_type(), bytes).into_response())
    }
}

fn json_type() -> [(header::HeaderName, &'static str); 1] {
    [(header::CONTENT_TYPE, "application/json")]
}

fn status(code: u16, reason: &str, message: &str) -> serde_json::Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": message})
}

fn silent() -> Body {
    Body::from_stream(stream::pending::<Result<Bytes, Infallible>>())
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let weather = *shared.weather.borrow();
    let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let spoiled = spoil(&shared, weather, is_watch, request.uri().path_and_query().map(|path| path.as_str()));
    if let Some(answer) = spoiled {
        *shared.met().entry(weather).or_default() += 1;
        return answer.await;
    }
    match shared.forward(request, is_watch).await {
        Ok(answer) => answer,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

type Spoiled = std::pin::Pin<Box<dyn Future<Output = Response> + Send>>;

/// What this weather makes of a request, if anything.
fn spoil(shared: &Shared, weather: Weather, is_watch: bool, path: Option<&str>) -> Option<Spoiled> {
    let at_once = |answer: Response| -> Option<Spoiled> { Some(Box::pin(std::future::ready(answer))) };
    let ok = |body: Body| at_once((StatusCode::OK, json_type(), body).into_response());
    match weather {
        Weather::SilentWatches | Weather::OldCache if is_watch => ok(silent()),
        Weather::ExpiredWatches if is_watch => {
            let event =
                json!({"type": "ERROR", "object": status(410, "Expired", "too old resource version")});
            ok(Body::from(format!("{event}\n")))
        }
        Weather::GoneWatches if is_watch => {
            let body = status(410, "Expired", "too old resource version").to_string();
            at_once((StatusCode::GONE, json_type(), body).into_response())
        }
        Weather::OldCache => ok(Body::from(shared.read().get(path?)?.clone())),
        Weather::Unauthorized => {
            let body = status(401, "Unauthorized", "Unauthorized").to_string();
            at_once((StatusCode::UNAUTHORIZED, json_type(), body).into_response())
        }
        Weather::Garbage => ok(Body::from("<html>the company's portal: please log in</html>")),
        Weather::Drip => {
            let drops = stream::unfold((), async |()| {
                tokio::time::sleep(DRIP).await;
                Some((Ok::<_, Infallible>(Bytes::from_static(b"{")), ()))
            });
            ok(Body::from_stream(drops))
        }
        Weather::Silence => Some(Box::pin(std::future::pending())),
        Weather::Clear | Weather::SilentWatches | Weather::ExpiredWatches | Weather::GoneWatches => None,
    }
}
