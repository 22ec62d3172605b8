//! Standard output, standard error and the keyboard, as one thing that tests can replace.
//!
//! Answers go to standard output, everything else to standard error, so that `turnback … | jq` works. A reader that has
//! seen enough (`| head`) ends nothing but the printing: the exit code is still that of what was found out, because a
//! ledger does not become sound by being looked at shortly.

use super::text::{json, json_line, safe, safe_lines};
use super::{Exit, Options, Surroundings};
use crate::config::CheckReport;
use owo_colors::{OwoColorize as _, Style};
use serde_json::{Value, json as document};
use std::io::{self, BufRead as _, ErrorKind, IsTerminal as _, Read as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON document on standard output.
    Json,
    /// A test report in JUnit's XML; `turnback analyze` only.
    Junit,
    /// Markdown; `turnback analyze` only.
    Markdown,
}

/// What a piece of text means, for its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Quiet,
    Strong,
}

/// Characters of a line that is typed: a digest has 64.
const LONGEST_LINE: u64 = 1_024;

/// Columns below which wrapped cells are one letter wide: there the terminal may wrap. Some terminals claim to have none.
const NARROWEST: u16 = 60;

fn is_wide(columns: &u16) -> bool {
    *columns >= NARROWEST
}

/// Reads one line from the person.
pub(super) type Keyboard = Arc<dyn Fn() -> io::Result<String> + Send + Sync>;

/// The screen and the keyboard.
pub struct Console {
    pub(super) format: Format,
    pub(super) color: bool,
    /// Columns of the terminal that standard output is; `None` when it is none.
    pub(super) width: Option<u16>,
    /// Whether standard error is a terminal, where a progress bar makes sense.
    pub(super) progress: bool,
    /// Whether a person can be asked.
    pub(super) interactive: bool,
    pub(super) verbose: bool,
    pub(super) keyboard: Keyboard,
    pub(super) out: Mutex<Out>,
    pub(super) err: Mutex<Box<dyn Write + Send>>,
}

/// Standard output and what became of it.
pub(super) struct Out {
    pub(super) to: Box<dyn Write + Send>,
    pub(super) begun: bool,
    pub(super) reader_left: bool,
}

impl Console {
    /// That of this process.
    pub fn of_process(options: &Options, surroundings: &Surroundings) -> Self {
        let terminal = io::stdout().is_terminal();
        let variable = |name| surroundings.variable(name);
        let wanted = !options.no_color && variable("NO_COLOR").is_none() && variable("TERM") != Some("dumb");
        Self {
            format: options.output,
            color: terminal && wanted,
            width: terminal.then(|| comfy_table::Table::new().width()).flatten().filter(is_wide),
            progress: io::stderr().is_terminal(),
            interactive: io::stdin().is_terminal() && io::stderr().is_terminal(),
            verbose: options.verbose,
            keyboard: Arc::new(|| {
                let mut line = String::new();
                io::stdin().lock().take(LONGEST_LINE).read_line(&mut line)?;
                Ok(line)
            }),
            out: Mutex::new(Out { to: Box::new(io::stdout()), begun: false, reader_left: false }),
            err: Mutex::new(Box::new(io::stderr())),
        }
    }

    /// Whether the answer is wanted as JSON.
    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes text to standard output; it ends its own lines. Foreign parts of it must have been made safe.
    pub(super) fn print(&self, text: &str) -> io::Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if out.reader_left {
            return Ok(());
        }
        out.begun = true;
        match out.to.write_all(text.as_bytes()).and_then(|()| out.to.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                out.reader_left = true;
                Ok(())
            }
            written => written,
        }
    }

    /// Writes the one JSON document of a command.
    pub(super) fn document(&self, value: &Value) -> io::Result<()> {
        self.print(&(json(value) + "\n"))
    }

    /// Writes one line of a stream of JSON.
    pub(super) fn json_line(&self, value: &Value) -> io::Result<()> {
        self.print(&(json_line(value) + "\n"))
    }

    /// Says one line: as text, or in a document with the field `result`.
    pub(super) fn result(&self, words: &str) -> io::Result<()> {
        if self.is_json() {
            self.document(&document!({ "result": words }))
        } else {
            self.print(&(safe(words) + "\n"))
        }
    }

    /// Whether whoever read standard output has gone, so that a long answer need not go on.
    pub(super) fn reader_left(&self) -> bool {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).reader_left
    }

    /// Says something on standard error, on its own line.
    pub(super) fn note(&self, text: &str) {
        let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        // There is no other place to say that standard error is closed, and it changes no answer.
        let _nobody_listens = writeln!(err, "{text}").and_then(|()| err.flush());
    }

    /// Asks the person; the answer without white space around it. Nothing at the end of input.
    pub(super) async fn ask(&self, question: &str) -> anyhow::Result<String> {
        self.note(question);
        let keyboard = Arc::clone(&self.keyboard);
        // Beside the loop, so that Ctrl-C is heard while we wait for a person.
        Ok(tokio::task::spawn_blocking(move || keyboard()).await??.trim().to_owned())
    }

    /// The text in the colour of its meaning, if colours are wanted.
    pub(super) fn paint(&self, text: &str, tone: Tone) -> String {
        let style = match tone {
            _ if !self.color => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => Style::new().green(),
            Tone::Warning => Style::new().yellow(),
            Tone::Bad => Style::new().red().bold(),
            Tone::Quiet => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        };
        text.style(style).to_string()
    }

    /// Shows an error with everything that led to it, and tells what the process ends with. With `--output json` and
    /// nothing said yet, the one document is the error.
    pub fn report(&self, error: &anyhow::Error) -> Exit {
        let exit = Exit::of(error);
        let mut said: Vec<String> = Vec::new();
        for cause in error.chain() {
            let words = cause.to_string();
            let words = if cause.is::<CheckReport>() {
                // The report points with its lines at lines of a file.
                format!("the configuration cannot be used\n{}", safe_lines(&words))
            } else {
                safe(&words)
            };
            // A wrapper that repeats its cause says nothing new.
            if !said.iter().any(|before| before.contains(&words)) {
                said.push(words);
            }
        }
        let begun = self.out.lock().unwrap_or_else(PoisonError::into_inner).begun;
        if self.is_json() && !begun {
            let because = said.get(1..).unwrap_or_default();
            let words = document!({ "error": said.first(), "because": because, "exit_code": exit.code() });
            if let Err(error) = self.document(&words) {
                self.note(&format!("error: cannot write to standard output: {error}"));
            }
        }
        for (number, cause) in said.iter().enumerate() {
            let lead = match (number, exit) {
                // Whoever pressed Ctrl-C made no error.
                (0, Exit::Interrupted) => "",
                (0, _) => "error: ",
                _ => "  because: ",
            };
            self.note(&format!("{lead}{cause}"));
        }
        exit
    }
}

/// The colour of a verdict or an outcome, by its words.
pub(super) fn verdict_tone(verdict: &str) -> Tone {
    match verdict {
        "healthy" | "rolled back, recovered" => Tone::Good,
        "blind" => Tone::Warning,
        "inconclusive" => Tone::Plain,
        words if words.starts_with("superseded") => Tone::Quiet,
        words
            if ["degraded", "stuck", "rolled back,", "rollback failed"]
                .iter()
                .any(|bad| words.starts_with(bad)) =>
        {
            Tone::Bad
        }
        _ => Tone::Plain,
    }
}

/// The colour of a severity.
pub(super) fn severity_tone(severity: &str) -> Tone {
    match severity {
        "P0" | "P1" => Tone::Bad,
        "P2" => Tone::Warning,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Failure;
    use crate::cli::tests::testing::{Captured, console};
    use anyhow::Context as _;

    #[test]
    fn an_error_is_told_with_its_causes_and_once() {
        let error = anyhow::Error::from(Failure::new(Exit::Refused, "a guard\u{1b}[2J holds"));
        let error = Err::<(), _>(error).context("cannot approve").unwrap_err();
        let (text, said) = console(Format::Text);
        assert_eq!(text.report(&error), Exit::Refused);
        assert_eq!(said.err(), "error: cannot approve\n  because: a guard\\u{1b}[2J holds\n");
        assert_eq!(said.out(), "");
        let (json, said) = console(Format::Json);
        assert_eq!(json.report(&error), Exit::Refused);
        let document: Value = serde_json::from_str(&said.out()).unwrap();
        let expected =
            document!({ "error": "cannot approve", "because": ["a guard\\u{1b}[2J holds"], "exit_code": 6 });
        assert_eq!(document, expected);
    }

    #[test]
    fn a_document_that_was_begun_is_not_followed_by_another() {
        let (json, said) = console(Format::Json);
        json.document(&document!({ "a": 1 })).unwrap();
        json.report(&anyhow::anyhow!("late"));
        assert_eq!(serde_json::from_str::<Value>(&said.out()).unwrap(), document!({ "a": 1 }));
        json.report(&Failure::new(Exit::Interrupted, "interrupted").into());
        assert_eq!(said.err(), "error: late\ninterrupted\n");
    }

    #[test]
    fn a_reader_that_leaves_ends_the_printing_and_nothing_else() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut console, _said) = console(Format::Text);
        console.out = Mutex::new(Out { to: Box::new(Gone), begun: false, reader_left: false });
        assert!(!console.reader_left());
        console.print("a\n").unwrap();
        assert!(console.reader_left());
        console.print("b\n").unwrap();
    }

    #[test]
    fn colours_are_used_only_where_they_are_wanted() {
        let (mut console, _said): (Console, Captured) = console(Format::Text);
        assert_eq!(console.paint("blind", verdict_tone("blind")), "blind");
        console.color = true;
        assert_eq!(console.paint("blind", verdict_tone("blind")), "\u{1b}[33mblind\u{1b}[0m");
        assert_eq!(console.paint("plain", Tone::Plain), "plain");
        assert_eq!(verdict_tone("degraded (P1)"), Tone::Bad);
        assert_eq!(verdict_tone("rolled back, recovered"), Tone::Good);
        assert_eq!(verdict_tone("rolled back, unverified: no data"), Tone::Bad);
        assert_eq!((severity_tone("P0"), severity_tone("P2")), (Tone::Bad, Tone::Warning));
    }
}
