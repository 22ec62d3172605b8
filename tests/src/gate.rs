//! A gate on the way of an effect: what passes it can be held back, its answer can be held back or lost.
//!
//! For servers it is a proxy on a port of its own ([`NetGate`]) that recognises the effect by bytes which only an effect
//! sends, whatever the protocol is. For programs it is a file ([`FileGate`]) that the program `effect` asks. Both are armed
//! for one passage, both count it, so that a test can prove that its fault was met and not only arranged.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// After a server's first words of an answer, how long it may go on with it before the answer is taken to be whole.
const ANSWER_GOES_ON: Duration = Duration::from_secs(2);
/// What a server gets to act on what it was sent last when the client has gone.
const LAST_WISH: Duration = Duration::from_secs(2);
/// A pattern may arrive in two parts.
const LONGEST_PATTERN: usize = 32;

/// What happens to the next effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It waits before the target until the gate is released, and goes on then, even if its sender is gone.
    HoldBefore,
    /// The target gets it; the answer waits until the gate is released.
    HoldAnswer,
    /// The target gets it; the sender hears nothing and its connection ends.
    LoseAnswer,
    /// The target refuses it. Of programs only: a server is made to refuse by itself.
    Refuse,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Mode::HoldBefore => "hold-before",
            Mode::HoldAnswer => "hold-answer",
            Mode::LoseAnswer => "lose-answer",
            Mode::Refuse => "refuse",
        }
    }

    fn from_word(word: &str) -> Result<Mode> {
        let all = [Mode::HoldBefore, Mode::HoldAnswer, Mode::LoseAnswer, Mode::Refuse];
        all.into_iter()
            .find(|mode| mode.word() == word)
            .with_context(|| format!("{word:?} is no mode of a gate"))
    }
}

/// Either kind.
#[derive(Debug)]
pub enum Gate {
    /// Before a server.
    Net(NetGate),
    /// Of programs.
    File(FileGate),
}

impl Gate {
    /// Arms it for the next effect; `pattern` tells an effect from other traffic of a server.
    ///
    /// # Errors
    /// If the file of a [`FileGate`] cannot be written.
    pub fn arm(&self, pattern: &'static [u8], mode: Mode) -> Result<()> {
        match self {
            Gate::Net(gate) => gate.arm(pattern, mode),
            Gate::File(gate) => gate.arm(mode)?,
        }
        Ok(())
    }

    /// How many effects met what they were armed for.
    pub fn hits(&self) -> usize {
        match self {
            Gate::Net(gate) => gate.state.hits.load(Ordering::SeqCst),
            Gate::File(gate) => gate.hits(),
        }
    }

    /// Lets go what is held.
    ///
    /// # Errors
    /// If the file of a [`FileGate`] cannot be written.
    pub fn release(&self) -> Result<()> {
        match self {
            Gate::Net(gate) => {
                gate.state.released.send_replace(true);
                Ok(())
            }
            Gate::File(gate) => gate.write("released", ""),
        }
    }
}

/// A gate that programs ask, as files in a folder.
#[derive(Debug, Clone)]
pub struct FileGate {
    folder: PathBuf,
}

impl FileGate {
    /// The gate in `folder`, which must exist.
    pub fn new(folder: &Path) -> FileGate {
        FileGate { folder: folder.to_owned() }
    }

    /// What a program does that has come to the gate: `None` if it is not armed. Disarms and counts it.
    ///
    /// # Errors
    /// If its files cannot be read or written.
    pub fn pass(&self) -> Result<Option<Mode>> {
        let taken = self.folder.join(format!("hit-{}", self.hits()));
        match fs::rename(self.folder.join("armed"), &taken) {
            Ok(()) => Ok(Some(Mode::from_word(&fs::read_to_string(&taken).context("reading the gate")?)?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("passing the gate"),
        }
    }

    /// Waits until it is released.
    pub fn wait(&self) {
        while !self.folder.join("released").exists() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn arm(&self, mode: Mode) -> Result<()> {
        match fs::remove_file(self.folder.join("released")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("closing the gate")?
            }
            _ => {}
        }
        self.write("armed", mode.word())
    }

    fn hits(&self) -> usize {
        (0..).take_while(|number| self.folder.join(format!("hit-{number}")).exists()).count()
    }

    /// In one piece: who sees the file sees all of it.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let aside = self.folder.join(format!("{name}.new"));
        fs::write(&aside, text).with_context(|| format!("writing {}", aside.display()))?;
        fs::rename(&aside, self.folder.join(name)).with_context(|| format!("writing the gate's {name}"))
    }
}

#[derive(Debug)]
struct State {
    armed: Mutex<Option<(&'static [u8], Mode)>>,
    hits: AtomicUsize,
    released: watch::Sender<bool>,
}

/// A listening port before a server; ends when it is dropped.
#[derive(Debug)]
pub struct NetGate {
    port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl NetGate {
    /// Stands before 127.0.0.1:`server`.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(server: u16) -> Result<NetGate> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("binding a port for the gate")?;
        let port = listener.local_addr()?.port();
        let (released, _) = watch::channel(true);
        let state = Arc::new(State { armed: Mutex::default(), hits: AtomicUsize::new(0), released });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let server = SocketAddr::from(([127, 0, 0, 1], server));
            while let Ok((client, _)) = listener.accept().await {
                let state = shared.clone();
                // Ends with its connection. What fails here is what a network does.
                tokio::spawn(async move { pass(client, server, &state).await });
            }
        });
        Ok(NetGate { port, state, task })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn arm(&self, pattern: &'static [u8], mode: Mode) {
        self.state.released.send_replace(false);
        *self.state.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some((pattern, mode));
    }
}

impl Drop for NetGate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    /// What is armed, if these are the bytes of an effect. `seen` keeps the end of what went by before.
    fn meets(&self, seen: &mut Vec<u8>, said: &[u8]) -> Option<Mode> {
        seen.extend_from_slice(said);
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let found =
            armed.take_if(|(pattern, _)| seen.windows(pattern.len()).any(|window| window == *pattern));
        seen.drain(..seen.len().saturating_sub(LONGEST_PATTERN));
        found.map(|(_, mode)| {
            seen.clear();
            self.hits.fetch_add(1, Ordering::SeqCst);
            mode
        })
    }

    async fn let_go(&self) {
        let mut released = self.released.subscribe();
        // An error means that the gate is gone, and with it whoever would release it.
        let _gone = released.wait_for(|released| *released).await;
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, state: &State) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let (mut seen, mut losing, mut holding) = (Vec::new(), false, false);
    loop {
        tokio::select! {
            length = client.read(&mut up) => {
                let said = &up[..length.unwrap_or(0)];
                if said.is_empty() {
                    return last_wish(&mut server, &mut down).await;
                }
                match state.meets(&mut seen, said) {
                    Some(Mode::HoldBefore) => state.let_go().await,
                    Some(Mode::HoldAnswer) => holding = true,
                    Some(Mode::LoseAnswer) => losing = true,
                    Some(Mode::Refuse) | None => {}
                }
                server.write_all(said).await?;
            }
            () = state.let_go(), if holding => holding = false,
            length = server.read(&mut down), if !holding => {
                let said = &down[..length?];
                if losing {
                    while let Ok(Ok(1..)) = tokio::time::timeout(ANSWER_GOES_ON, server.read(&mut down)).await {}
                    return Ok(());
                }
                if said.is_empty() {
                    return client.shutdown().await;
                }
                client.write_all(said).await?;
            }
        }
    }
}

/// The client has gone. What it sent has arrived, as on any network.
async fn last_wish(server: &mut TcpStream, down: &mut [u8]) -> std::io::Result<()> {
    server.shutdown().await?;
    let answered = async { while let Ok(1..) = server.read(down).await {} };
    let _in_time = tokio::time::timeout(LAST_WISH, answered).await;
    Ok(())
}
