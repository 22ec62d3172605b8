//! What is wrong with a configuration: every problem, with its place, what was expected and what to do.
//!
//! The texts are for a person who has the file open in an editor; the same problems serialise for machines. A line that
//! holds something secret is cut before the secret: reports end up in CI logs.

use super::tree::{Node, Place, Source, Sources, show_path};
use rules::suggest::closest;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// More problems than this are not read one by one; the first ones show what went wrong.
pub(super) const MOST_PROBLEMS: usize = 200;
/// Characters of a line that are shown; longer lines are cut around the problem.
const LONGEST_EXCERPT: usize = 160;

/// Everything wrong with a configuration, sorted by source and line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The problems; empty if the configuration is good.
    pub problems: Vec<Problem>,
    /// Whether there were more than are listed.
    pub cut: bool,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where the setting came from: a path, `environment variable X` or `flag --x`.
    pub source: String,
    /// The line, from 1, if it is known.
    pub line: Option<usize>,
    /// The column in characters, from 1, if it is known.
    pub column: Option<usize>,
    /// The key path, such as `services.checkout.watch.soak`; empty for a file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What was expected.
    pub expected: Option<String>,
    /// What to do.
    pub advice: Option<String>,
    /// The line at fault.
    pub excerpt: Option<Excerpt>,
}

/// A line of a file, and which part of it is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The line, secrets cut off.
    pub text: String,
    /// Characters before the part that is meant.
    pub before: usize,
    /// Characters of the part that is meant, at least 1.
    pub width: usize,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

impl std::error::Error for CheckReport {}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        let more = if self.cut { "; there may be more" } else { "" };
        match self.problems.len() {
            0 => write!(f, "the configuration is good"),
            1 => write!(f, "1 problem{more}"),
            count => write!(f, "{count} problems{more}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        let margin = self.line.map_or(1, |line| line.to_string().len());
        write!(f, "{:margin$}--> {}", "", self.source)?;
        match (self.line, self.column) {
            (Some(line), Some(column)) => writeln!(f, ":{line}:{column}")?,
            _ => writeln!(f)?,
        }
        if let (Some(line), Some(excerpt)) = (self.line, &self.excerpt) {
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{line} | {}", excerpt.text)?;
            writeln!(
                f,
                "{:margin$} | {:before$}{:^<width$}",
                "",
                "",
                "",
                before = excerpt.before,
                width = excerpt.width
            )?;
        }
        let lines = [
            ("key", (!self.key.is_empty()).then_some(&self.key)),
            ("expected", self.expected.as_ref()),
            ("help", self.advice.as_ref()),
        ];
        for (name, text) in lines {
            if let Some(text) = text {
                writeln!(f, "{:margin$} = {name}: {text}", "")?;
            }
        }
        Ok(())
    }
}

/// A problem before its place is put into words.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub place: Place,
    pub path: Vec<String>,
    pub message: String,
    pub expected: Option<String>,
    pub advice: Option<String>,
    /// What may be shown of the line.
    pub show: Show,
}

/// What may be shown of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// All of it.
    Line,
    /// Up to the end of the part that is meant: what follows may be a secret under a wrong name.
    UpToHere,
    /// Only what stands before the part that is meant: that is a secret.
    Before,
}

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub sources: Sources,
    pub list: Vec<Finding>,
}

impl Finding {
    /// A finding that says only what is wrong.
    pub fn new(place: Place, path: &[String], message: impl Into<String>) -> Self {
        Self {
            place,
            path: path.to_vec(),
            message: message.into(),
            expected: None,
            advice: None,
            show: Show::Line,
        }
    }

    /// Adds what was expected.
    pub fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = Some(text.into());
        self
    }

    /// Adds what to do.
    pub fn advice(mut self, text: impl Into<String>) -> Self {
        self.advice = Some(text.into());
        self
    }

    /// Adds the names that exist, and the one that was probably meant.
    pub fn names<'a>(mut self, what: &str, wrong: &str, names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.collect();
        self.advice = closest(wrong, names.iter().copied()).map(|name| format!("did you mean `{name}`?"));
        self.expected = Some(match names.is_empty() {
            true => format!("{what}, but none is configured"),
            false => format!("{what}: {}", names.join(", ")),
        });
        self
    }
}

impl Findings {
    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) {
        self.list.push(finding);
    }

    /// Adds what is wrong at `dotted` below `start`, pointing at the nearest thing that is there.
    pub fn add_at(
        &mut self,
        tree: &Node,
        start: &[String],
        dotted: &str,
        message: impl Into<String>,
    ) -> &mut Finding {
        let (path, place) = tree.locate(start, dotted);
        self.list.push(Finding::new(place, &path, message));
        let last = self.list.len() - 1;
        &mut self.list[last]
    }

    /// The source in words.
    pub fn source_words(&self, source: usize) -> String {
        match self.sources.get(source) {
            Some(Source::File { path, .. }) => path.display().to_string(),
            Some(Source::Variable(name)) => format!("environment variable {name}"),
            Some(Source::Flag(name)) => format!("flag {name}"),
            None => "the configuration".into(),
        }
    }

    /// The place in words: `file x.yaml:12`, `environment TURNBACK_X`, `flag --x`.
    pub fn origin_words(&self, place: Place) -> String {
        match self.sources.get(place.source) {
            Some(Source::File { path, .. }) if place.line > 0 => {
                format!("file {}:{}", path.display(), place.line)
            }
            Some(Source::File { path, .. }) => format!("file {}", path.display()),
            Some(Source::Variable(name)) => format!("environment {name}"),
            Some(Source::Flag(name)) => format!("flag {name}"),
            None => "default".into(),
        }
    }

    /// The report: sorted by source and line, doubles left out.
    pub fn report(mut self) -> CheckReport {
        // Stable: what was found first at one place is named first.
        self.list.sort_by_key(|finding| (finding.place.source, finding.place.line, finding.place.column));
        let mut secrets: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for finding in self.list.iter().filter(|finding| finding.show == Show::Before) {
            let line = (finding.place.source, finding.place.line);
            let column = secrets.entry(line).or_insert(finding.place.column);
            *column = (*column).min(finding.place.column);
        }
        let mut seen = BTreeSet::new();
        let mut problems: Vec<Problem> = Vec::new();
        for finding in &self.list {
            if problems.len() > MOST_PROBLEMS {
                break;
            }
            if seen.insert((finding.place, finding.message.clone())) {
                let secret = secrets.get(&(finding.place.source, finding.place.line)).copied();
                problems.push(self.problem(finding, secret));
            }
        }
        let cut = problems.len() > MOST_PROBLEMS;
        problems.truncate(MOST_PROBLEMS);
        CheckReport { problems, cut }
    }

    fn problem(&self, finding: &Finding, secret: Option<usize>) -> Problem {
        let place = finding.place;
        let known = place.line > 0;
        Problem {
            source: self.source_words(place.source),
            line: known.then_some(place.line),
            column: known.then_some(place.column),
            key: show_path(&finding.path),
            message: finding.message.clone(),
            expected: finding.expected.clone(),
            advice: finding.advice.clone(),
            excerpt: self.excerpt(finding, secret),
        }
    }

    fn excerpt(&self, finding: &Finding, secret: Option<usize>) -> Option<Excerpt> {
        let Place { source, line, column, width } = finding.place;
        let Some(Source::File { text, .. }) = self.sources.get(source) else {
            return None;
        };
        let text = text.lines().nth(line.checked_sub(1)?)?;
        let before = column.saturating_sub(1);
        let mut end = match finding.show {
            Show::Line => usize::MAX,
            Show::UpToHere => before + width,
            Show::Before => before,
        };
        if let Some(secret) = secret {
            end = end.min(secret.saturating_sub(1));
        }
        // A window around the problem, if the line is long.
        let start = if before > LONGEST_EXCERPT / 2 { before - LONGEST_EXCERPT / 4 } else { 0 };
        let shown: String = mask_credentials(text)
            .chars()
            // A tab or a control character would move the caret, or the terminal.
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(end)
            .skip(start)
            .take(LONGEST_EXCERPT)
            .collect();
        let more = if text.chars().count() > start + shown.chars().count() { "…" } else { "" };
        let room = shown.chars().count() + 1;
        let before = (before - start).min(room);
        Some(Excerpt {
            before,
            width: width.clamp(1, (room - before).max(1)),
            text: format!("{shown}{more}"),
        })
    }
}

/// Replaces what stands between `://` and `@` by as many dots, so that columns stay right.
fn mask_credentials(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("://") {
        masked.push_str(before);
        masked.push_str("://");
        let authority = after.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(after.len());
        match after[..authority].rfind('@') {
            Some(end) => {
                masked.extend(after[..end].chars().map(|_| '·'));
                rest = &after[end..];
            }
            None => rest = after,
        }
    }
    masked.push_str(rest);
    masked
}
