//! A server that answers what a test tells it to, byte by byte: HTTP that no framework would send.

use super::{SignalSource, measure};
use jiff::Timestamp;
use rules::series::{Observer, Window};
use rules::signal::Measurement;
use rules::units::Span;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a request.
#[derive(Clone)]
pub(super) enum Script {
    /// Sends these bytes and closes.
    Say(Vec<u8>),
    /// Sends these bytes one by one, so long after each other.
    Drip(Vec<u8>, Duration),
    /// Sends these bytes and then nothing more, without closing.
    Hang(Vec<u8>),
}

/// An answer with a status, a content type and a body.
pub(super) fn answer(status: u16, content_type: &str, body: &str) -> Script {
    let head = format!("HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nConnection: close\r\n");
    Script::Say(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// A server and the heads of the requests that it got.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Begins to serve. The script gets a request's head.
    pub(super) async fn start(script: impl Fn(&str) -> Script + Send + Sync + 'static) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (script, seen) = (Arc::new(script), Arc::clone(&heads));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                tokio::spawn(async move {
                    let mut stream = stream;
                    let head = head(&mut stream).await;
                    seen.lock().unwrap().push(head.clone());
                    play(&mut stream, script(&head)).await;
                });
            }
        });
        Self { address, heads }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A TLS handshake (it begins with 22) has no head that could end.
    while !bytes.ends_with(b"\r\n\r\n") && bytes.first() != Some(&22) {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The client may go away at any time, so errors of sending are of no interest.
async fn play(stream: &mut TcpStream, script: Script) {
    match script {
        Script::Say(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Script::Drip(bytes, pause) => {
            for byte in bytes {
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        }
        Script::Hang(bytes) => {
            let _ = stream.write_all(&bytes).await;
            std::future::pending::<()>().await;
        }
    }
}

/// An address at which nothing listens.
pub(super) async fn nobody() -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Seconds after an arbitrary beginning.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

pub(super) fn window(from: i64, to: i64) -> Window {
    Window { from: at(from), to: at(to) }
}

/// A clock that stands.
pub(super) fn clock() -> Timestamp {
    at(1_000)
}

/// The measurement of one window.
pub(super) async fn measured_over(
    source: &dyn SignalSource,
    observer: &Observer,
    window: Window,
    max_age: Span,
) -> Measurement {
    let [measurement] = measure(source, observer, &[window], max_age).await.try_into().unwrap();
    measurement
}
