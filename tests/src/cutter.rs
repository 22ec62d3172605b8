//! A network that fails at the worst moment: exactly when a `COMMIT` to PostgreSQL goes by.
//!
//! It listens on a port of its own and passes everything on, until it is armed. Then the next `COMMIT` meets its fate,
//! once, and the count of hits says that it did. Only for connections without TLS.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// As PostgreSQL's protocol writes it: a text with a zero at its end.
const COMMIT: &[u8] = b"COMMIT\0";

/// What happens to the next `COMMIT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The connection breaks; the server never gets it.
    Lost,
    /// The server gets it and answers; the connection breaks before the answer arrives.
    AnswerLost,
    /// The connection breaks for the client. The server gets it so much later.
    Late(Duration),
}

#[derive(Debug, Default)]
struct State {
    next: Mutex<Option<Fate>>,
    hits: AtomicUsize,
}

/// A listening port in front of a server; ends when it is dropped.
#[derive(Debug)]
pub struct Cutter {
    port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Cutter {
    /// Stands in front of 127.0.0.1:`server`.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(server: u16) -> Result<Cutter> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding a port for the cutter")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let server = SocketAddr::from(([127, 0, 0, 1], server));
            while let Ok((client, _)) = listener.accept().await {
                let state = shared.clone();
                // Ends with its connection. What fails here is what a network does.
                tokio::spawn(async move { pass(client, server, &state).await });
            }
        });
        Ok(Cutter { port, state, task })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What happens to the next `COMMIT`.
    pub fn arm(&self, fate: Fate) {
        *self.state.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(fate);
    }

    /// How many met their fate.
    pub fn hits(&self) -> usize {
        self.state.hits.load(Ordering::SeqCst)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, state: &State) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut up, mut down) = ([0; 16 * 1024], [0; 16 * 1024]);
    loop {
        tokio::select! {
            length = client.read(&mut up) => {
                let said = &up[..length?];
                if said.is_empty() {
                    return Ok(());
                }
                let fate = if said.windows(COMMIT.len()).any(|window| window == COMMIT) {
                    state.next.lock().unwrap_or_else(PoisonError::into_inner).take()
                } else {
                    None
                };
                match fate {
                    None => server.write_all(said).await?,
                    Some(fate) => {
                        state.hits.fetch_add(1, Ordering::SeqCst);
                        return meet(fate, said, client, server).await;
                    }
                }
            }
            length = server.read(&mut down) => {
                let said = &down[..length?];
                if said.is_empty() {
                    return Ok(());
                }
                client.write_all(said).await?;
            }
        }
    }
}

async fn meet(fate: Fate, commit: &[u8], client: TcpStream, mut server: TcpStream) -> std::io::Result<()> {
    let wait = match fate {
        Fate::Lost => return Ok(()),
        Fate::AnswerLost => Duration::ZERO,
        Fate::Late(wait) => wait,
    };
    if wait > Duration::ZERO {
        drop(client);
        tokio::time::sleep(wait).await;
        return answered(&mut server, commit).await;
    }
    // The server says that it is done; nobody hears it.
    answered(&mut server, commit).await?;
    drop(client);
    Ok(())
}

async fn answered(server: &mut TcpStream, commit: &[u8]) -> std::io::Result<()> {
    server.write_all(commit).await?;
    match server.read(&mut [0; 1024]).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
