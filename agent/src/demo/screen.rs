//! What people see: lines with the seconds since the start, and on a terminal one line below them that lives.

use owo_colors::{OwoColorize as _, Style};
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What a line is about, as a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// Less important.
    Dim,
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Look here.
    Warn,
    /// Something is done.
    Step,
    /// A heading.
    Loud,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Plain => Style::new(),
            Tone::Dim => Style::new().dimmed(),
            Tone::Good => Style::new().green(),
            Tone::Bad => Style::new().red().bold(),
            Tone::Warn => Style::new().yellow(),
            Tone::Step => Style::new().cyan(),
            Tone::Loud => Style::new().bold(),
        }
    }
}

/// The terminal. Clones share it.
#[derive(Clone)]
pub struct Screen {
    inner: Arc<Inner>,
}

struct Inner {
    began: Instant,
    color: bool,
    /// Nothing is shown at all: somebody wants JSON.
    quiet: bool,
    /// A line may live: standard output is a terminal.
    alive: bool,
    /// Whether such a line stands there now.
    standing: Mutex<bool>,
}

/// Wider than this a line that lives would be broken and could not be taken back.
const LIVE_WIDTH: usize = 78;
/// Back to the beginning, and the line away.
const WIPE: &str = "\r\u{1b}[2K";

impl Screen {
    /// Over standard output. The clock of its lines starts now.
    pub fn new(quiet: bool, color: bool) -> Self {
        let alive = !quiet && std::io::stdout().is_terminal();
        let inner = Inner { began: Instant::now(), color, quiet, alive, standing: Mutex::new(false) };
        Self { inner: Arc::new(inner) }
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.inner.began.elapsed().as_secs_f64()
    }

    /// A line of `who`, now.
    pub fn say(&self, tone: Tone, who: &str, text: &str) {
        self.say_at(self.seconds(), tone, who, text);
    }

    /// A line of `who`, at this second.
    pub fn say_at(&self, seconds: f64, tone: Tone, who: &str, text: &str) {
        let text = self.paint(tone, text);
        let when = self.paint(Tone::Dim, &format!("{seconds:5.1} s  {who:<7}"));
        self.print(&format!("{when} {text}\n"));
    }

    /// A heading.
    pub fn heading(&self, text: &str) {
        self.print(&format!("\n{}\n", self.paint(Tone::Loud, text)));
    }

    /// Lines below a heading.
    pub fn text(&self, tone: Tone, text: &str) {
        for line in text.lines() {
            self.print(&format!("  {}\n", self.paint(tone, line)));
        }
    }

    /// The line that lives, on a terminal only.
    pub fn live(&self, text: &str) {
        if !self.inner.alive {
            return;
        }
        let mut standing = self.inner.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let text: String = text.chars().take(LIVE_WIDTH).collect();
        self.put(&format!("{WIPE}{}", self.paint(Tone::Dim, &text)));
        *standing = true;
    }

    fn paint(&self, tone: Tone, text: &str) -> String {
        if self.inner.color { text.style(tone.style()).to_string() } else { text.to_owned() }
    }

    fn print(&self, text: &str) {
        if self.inner.quiet {
            return;
        }
        let mut standing = self.inner.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *standing) {
            self.put(WIPE);
        }
        self.put(text);
    }

    fn put(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A reader that has left (`| head`) does not keep the demo from ending as it should; the exit code tells.
        let _reader_left = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
