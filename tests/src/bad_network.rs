//! A network between a client and a server that turns bad when asked: slow, silent, talking nonsense, cut.
//!
//! It passes bytes on, whatever they mean, so one of it serves every protocol. Its port is known before the server's, for
//! servers that must be told where clients will find them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How the network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Bytes go through.
    Clear,
    /// So many bytes of the server's every ten milliseconds.
    Drip(usize),
    /// Connections are taken and stay; nothing goes through.
    Silent,
    /// The server's words are replaced by nonsense, on old connections and new ones.
    Nonsense,
    /// Connections break, and new ones break at once.
    Cut,
}

#[derive(Debug)]
struct Shared {
    weather: watch::Sender<Weather>,
    connections: AtomicUsize,
}

/// A listening port in front of a server; ends when it is dropped.
#[derive(Debug)]
pub struct BadNetwork {
    port: u16,
    target: watch::Sender<u16>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl BadNetwork {
    /// Listens; connections wait until [`BadNetwork::lead_to`] says where they go.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start() -> Result<BadNetwork> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("binding a port for the bad network")?;
        let port = listener.local_addr()?.port();
        let target = watch::channel(0).0;
        let shared =
            Arc::new(Shared { weather: watch::channel(Weather::Clear).0, connections: AtomicUsize::new(0) });
        let (to, state) = (target.subscribe(), Arc::clone(&shared));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut to, state) = (to.clone(), Arc::clone(&state));
                // Ends with its connection. What fails here is what a network does.
                tokio::spawn(async move {
                    let Ok(port) = to.wait_for(|port| *port != 0).await.map(|port| *port) else { return };
                    state.connections.fetch_add(1, Ordering::Relaxed);
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    pass(client, server, state.weather.subscribe()).await;
                });
            }
        });
        Ok(BadNetwork { port, target, shared, task })
    }

    /// The port that clients are to use.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where connections go.
    pub fn lead_to(&self, port: u16) {
        self.target.send_replace(port);
    }

    /// Changes the weather, for connections that are open too.
    pub fn turn(&self, weather: Weather) {
        self.shared.weather.send_replace(weather);
    }

    /// How many connections were taken so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for BadNetwork {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, weather: watch::Receiver<Weather>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = carry(&mut from_client, &mut to_server, weather.clone(), false);
    let back = carry(&mut from_server, &mut to_client, weather, true);
    // When one side hangs up, both are done.
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

async fn carry(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    is_server: bool,
) {
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let now = *weather.borrow_and_update();
        match now {
            Weather::Cut => return,
            Weather::Silent => {
                if weather.changed().await.is_err() {
                    return;
                }
                continue;
            }
            Weather::Nonsense if is_server => {
                let noise: Vec<u8> =
                    (0..200_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
                if to.write_all(&noise).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            Weather::Clear | Weather::Drip(_) | Weather::Nonsense => {}
        }
        let most = if let (Weather::Drip(most), true) = (now, is_server) { most } else { buffer.len() };
        let read = tokio::select! {
            changed = weather.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut buffer[..most]) => read,
        };
        match read {
            Ok(count) if count > 0 && to.write_all(&buffer[..count]).await.is_ok() => {}
            _ => return,
        }
        if most < buffer.len() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
