//! A proxy before a real HTTP server that spoils chosen requests: the faults that no server produces when asked.
//!
//! It speaks plain HTTP/1.1 to the client, one request a connection, and hands the request on to the server. Faults are
//! queued for a method; each spoils one request and is counted when it does, so that a test can prove that its fault was
//! met and not only arranged.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Method, Url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Heads longer than this are not made by our clients.
const LONGEST_HEAD: usize = 64 * 1024;
/// Longer than any test: the client has to give up first.
const SILENCE: Duration = Duration::from_secs(60);
/// For the server's own answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Something that is done while the client waits, for example another person's change.
pub type Meanwhile = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send>;

/// What happens to one request.
pub enum Fault {
    /// The request never reaches the server; this is the answer: status, headers, body.
    Answer(u16, Vec<(&'static str, &'static str)>, &'static str),
    /// The request never reaches the server and the connection is reset.
    Reset,
    /// The server takes the request; the client's connection is reset instead of an answer. This and the next three spoil
    /// a request that the server takes: an answer that is no success is passed on, and the fault waits for the next one.
    LoseReply,
    /// The server takes the request; the client hears nothing for a minute.
    HoldReply,
    /// The server takes the request; the client gets this status instead.
    ReplaceReply(u16),
    /// The server gets the request twice, as from a gateway that tries again; the client gets the second answer.
    SendTwice,
    /// This is done before the server gets the request, untouched.
    Meanwhile(Meanwhile),
}

impl Fault {
    /// Whether the server is to take the request first.
    fn spoils_a_success(&self) -> bool {
        match self {
            Fault::LoseReply | Fault::HoldReply | Fault::ReplaceReply(_) | Fault::SendTwice => true,
            Fault::Answer(..) | Fault::Reset | Fault::Meanwhile(_) => false,
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Fault::Answer(..) => "Answer",
            Fault::Reset => "Reset",
            Fault::LoseReply => "LoseReply",
            Fault::HoldReply => "HoldReply",
            Fault::ReplaceReply(_) => "ReplaceReply",
            Fault::SendTwice => "SendTwice",
            Fault::Meanwhile(_) => "Meanwhile",
        };
        out.write_str(word)
    }
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: Url,
    client: reqwest::Client,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<String, VecDeque<Fault>>,
    injected: Vec<String>,
    since_fault: BTreeMap<String, usize>,
    troubles: Vec<String>,
}

struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl FaultProxy {
    /// Starts a proxy before `upstream`, which `client` knows how to talk to.
    ///
    /// # Errors
    /// If the address is none, or there is no free port.
    pub async fn start(upstream: &str, client: reqwest::Client) -> Result<FaultProxy> {
        let upstream = upstream.parse().with_context(|| format!("{upstream} is no address"))?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding the fault proxy")?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared { upstream, client, state: Mutex::default() });
        let state = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = state.clone();
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &shared).await {
                        shared.state().troubles.push(format!("{error:#}"));
                    }
                });
            }
        });
        Ok(FaultProxy { url, shared, accepting })
    }

    /// The address for clients, `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Spoils the next request with `method` that no earlier fault is waiting for.
    pub fn inject(&self, method: &str, fault: Fault) {
        self.shared.state().waiting.entry(method.to_owned()).or_default().push_back(fault);
    }

    /// What was injected so far, oldest first: `PATCH LoseReply`.
    pub fn injected(&self) -> Vec<String> {
        self.shared.state().injected.clone()
    }

    /// How many requests with `method` came since the last fault.
    pub fn requests_since_fault(&self, method: &str) -> usize {
        self.shared.state().since_fault.get(method).copied().unwrap_or_default()
    }

    /// What the proxy itself could not do: a test that finds something here tested something else.
    pub fn troubles(&self) -> Vec<String> {
        self.shared.state().troubles.clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that waits for a request with `method`.
    fn fault(&self, method: &str) -> Option<Fault> {
        let mut state = self.state();
        *state.since_fault.entry(method.to_owned()).or_default() += 1;
        state.waiting.get_mut(method)?.pop_front()
    }

    /// The fault is met: from now on it counts.
    fn met(&self, method: &str, fault: &Fault) {
        let mut state = self.state();
        state.injected.push(format!("{method} {fault:?}"));
        state.since_fault.clear();
    }

    /// The fault was not met: it waits again.
    fn put_back(&self, method: &str, fault: Fault) {
        self.state().waiting.entry(method.to_owned()).or_default().push_front(fault);
    }

    async fn forward(&self, request: &Request) -> Result<Reply> {
        let url = self.upstream.join(&request.target).context("joining the request's path")?;
        let method = Method::from_bytes(request.method.as_bytes())?;
        let mut onward = self.client.request(method, url).timeout(ANSWER_LIMIT);
        for (name, value) in &request.headers {
            if !["host", "connection", "content-length", "accept-encoding"].contains(&name.as_str()) {
                onward = onward.header(name, value);
            }
        }
        let answer = onward.body(request.body.clone()).send().await.context("handing the request on")?;
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").and_then(|value| value.to_str().ok());
        let headers = kind.iter().map(|kind| ("content-type".to_owned(), (*kind).to_owned())).collect();
        Ok(Reply { status, headers, body: answer.bytes().await.context("reading the answer")?.to_vec() })
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    let Some(request) = read(&mut stream).await? else { return Ok(()) };
    let reply = match shared.fault(&request.method) {
        None => shared.forward(&request).await?,
        Some(fault) if fault.spoils_a_success() => {
            let reply = shared.forward(&request).await?;
            if (200..300).contains(&reply.status) {
                shared.met(&request.method, &fault);
                return spoil(stream, shared, &request, fault).await;
            }
            shared.put_back(&request.method, fault);
            reply
        }
        Some(fault) => {
            shared.met(&request.method, &fault);
            match fault {
                Fault::Answer(status, headers, body) => {
                    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
                    Reply { status, headers: headers.into_iter().map(owned).collect(), body: body.into() }
                }
                Fault::Meanwhile(act) => {
                    act().await.context("what was to happen meanwhile")?;
                    shared.forward(&request).await?
                }
                _ => return reset(stream),
            }
        }
    };
    write(&mut stream, &reply).await
}

/// What becomes of a success.
async fn spoil(mut stream: TcpStream, shared: &Shared, request: &Request, fault: Fault) -> Result<()> {
    match fault {
        Fault::HoldReply => {
            tokio::time::sleep(SILENCE).await;
            Ok(())
        }
        Fault::ReplaceReply(status) => {
            let body = b"a gateway's own words".to_vec();
            write(&mut stream, &Reply { status, headers: Vec::new(), body }).await
        }
        Fault::SendTwice => write(&mut stream, &shared.forward(request).await?).await,
        _ => reset(stream),
    }
}

/// Closes with a reset instead of an orderly end.
fn reset(stream: TcpStream) -> Result<()> {
    stream.set_zero_linger().context("preparing a reset")
}

async fn read(stream: &mut TcpStream) -> Result<Option<Request>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        ensure!(bytes.len() < LONGEST_HEAD, "a request with a head of more than {LONGEST_HEAD} bytes");
        if stream.read_buf(&mut bytes).await.context("reading a request")? == 0 {
            // A connection that was opened and not used.
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(Ok(0), |(_, value)| value.parse()).context("reading content-length")?;
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        ensure!(stream.read_buf(&mut body).await.context("reading a body")? > 0, "a body that is cut off");
    }
    Ok(Some(Request { method: method.to_owned(), target: target.to_owned(), headers, body }))
}

async fn write(stream: &mut TcpStream, reply: &Reply) -> Result<()> {
    let mut head = format!(
        "HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.context("answering")?;
    stream.write_all(&reply.body).await.context("answering")?;
    stream.shutdown().await.context("ending the answer")
}
