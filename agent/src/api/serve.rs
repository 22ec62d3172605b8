//! Connections: how many, and how long each may take. Whoever can reach the port can open them without any token, so a
//! connection that says nothing, or listens to nothing, must not take the place of the one that pulls the kill switch.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Connections at the same time: half of the 1,024 open files that a process usually has; the ledger, the sources and
/// the actions need the rest. More wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 512;
/// How long the head of a request may take, and how long a connection may wait for its next one.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How old a connection gets before it is asked to end after the answer it is at.
const OLDEST: Duration = Duration::from_secs(300);
/// How long it has for that; an answer that nobody reads is cut off. Longer than any request may take.
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// A pause after a failed `accept`: the reason (too many open files) does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy)]
struct Limits {
    head: Duration,
    oldest: Duration,
    last_answer: Duration,
}

const LIMITS: Limits = Limits { head: HEAD_WITHIN, oldest: OLDEST, last_answer: LAST_ANSWER };

/// Answers until `down`, and ends the answers that are under way.
pub async fn serve(listener: TcpListener, router: Router, down: watch::Receiver<bool>) {
    serve_within(listener, router, down, LIMITS).await;
}

async fn serve_within(
    listener: TcpListener,
    router: Router,
    mut down: watch::Receiver<bool>,
    limits: Limits,
) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            // The sender is gone only when everything is: that is down too.
            _ = down.wait_for(|down| *down) => break,
            Some(_ended) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _peer)) => {
                let (router, down) = (router.clone(), down.clone());
                connections.spawn(async move {
                    let _place = place;
                    converse(stream, router, down, limits).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn converse(stream: TcpStream, router: Router, mut down: watch::Receiver<bool>, limits: Limits) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // How the other side left is its own affair.
        _ended = connection.as_mut() => return,
        _ = down.wait_for(|down| *down) => {}
        () = tokio::time::sleep(limits.oldest) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _cut_off = tokio::time::timeout(limits.last_answer, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_connection_that_never_ends_its_head_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_down, seen) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "well" }));
        let limits = Limits { head: Duration::from_millis(200), ..LIMITS };
        tokio::spawn(serve_within(listener, router, seen, limits));
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").await.unwrap();
        let mut good = TcpStream::connect(address).await.unwrap();
        good.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        good.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("well"), "{answer}");
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5), slow.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the connection stays open for ever");
    }
}
