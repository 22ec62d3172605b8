//! The house rules themselves: pure functions from a file to its faults.

use std::collections::BTreeSet;
use std::fmt;

use super::source::Source;

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    file: String,
    line: usize,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Words that may not stand in the code of a folder.
pub struct Fence {
    /// Where it stands: the beginning of a path.
    pub folder: &'static str,
    /// What may not be said there.
    pub words: &'static [&'static str],
    /// Files, or folders with a slash at the end, that may nevertheless; each with the reason.
    pub except: &'static [(&'static str, &'static str)],
    /// Whether tests are fenced in as well.
    pub tests_too: bool,
    /// What to do instead.
    pub remedy: &'static str,
}

/// All fences. A new exception needs a reason that a reviewer can check.
pub const FENCES: &[Fence] = &[
    Fence {
        folder: "rules/src/",
        words: &[
            "SystemTime::now",
            "Instant::now",
            "Timestamp::now",
            "Zoned::now",
            "tokio::",
            "reqwest::",
            "std::fs",
            "std::env",
            "std::net",
            "std::process",
            "std::thread",
            "rand::",
            "tracing::",
            "print!",
            "println!",
            "eprint!",
            "eprintln!",
        ],
        except: &[],
        tests_too: false,
        remedy: "`rules` is a function of its arguments: hand in time, dice and data, hand out effects and reasons",
    },
    Fence {
        folder: "agent/src/",
        words: &["tokio::spawn", "task::spawn(", "spawn_local(", "thread::spawn(", "JoinSet"],
        except: &[
            ("agent/src/app.rs", "the parent of every long-lived task: it notices their deaths"),
            (
                "agent/src/dispatcher.rs",
                "owns looks and steps that run beside the loop; hears their ends and their panics",
            ),
            (
                "agent/src/api/serve.rs",
                "a task for each connection, joined or cut off when app.rs ends the API",
            ),
            ("agent/src/dispatcher/startup.rs", "makes the set of the above"),
            (
                "agent/src/ledger.rs",
                "a write that its caller no longer waits for must still end; it is awaited in place",
            ),
            ("agent/src/notify.rs", "a worker for each channel, joined when app.rs ends the delivery"),
            ("agent/src/signals/poll.rs", "a loop for each target, joined when app.rs ends the source"),
            ("agent/src/signals/testing.rs", "a scripted server for unit tests"),
            (
                "agent/src/events/kubernetes/watching.rs",
                "watches, cut off with their connection; what one sees is a hint, and one that died is begun again",
            ),
            ("agent/src/actions.rs", "reads both outputs of a child process and joins the readers with it"),
            ("agent/src/actions/", "as actions.rs"),
            ("agent/src/demo.rs", "plays service, users and agent in one process and ends all of them"),
            ("agent/src/demo/", "as demo.rs"),
        ],
        tests_too: false,
        remedy: "a task without a parent dies unseen: let app.rs start and supervise it, or await the work in place",
    },
    Fence {
        folder: "agent/src/",
        words: &["SystemTime::now", "Timestamp::now", "Zoned::now", "Utc::now"],
        except: &[("agent/src/clock.rs", "the only place that asks what time it is")],
        tests_too: false,
        remedy: "take the time from the clock that is handed in (agent/src/clock.rs), so that tests can set it",
    },
    Fence {
        folder: "agent/src/",
        words: &["Instant::now"],
        except: &[
            ("agent/src/clock.rs", "the only place that asks what time it is"),
            ("agent/src/telemetry.rs", "measures how long our own work takes; decides nothing"),
            ("agent/src/actions.rs", "measures how long looking took, to leave the rest for acting"),
            ("agent/src/actions/", "measures how long a step took; decides nothing"),
            ("agent/src/notify/", "measures how long a message waits for its next attempt"),
            (
                "agent/src/events/kubernetes/",
                "measures the time to the next list, and how long nobody showed an object",
            ),
            ("agent/src/events/listener.rs", "measures how long a source was heard, for the next pause"),
            ("agent/src/signals/", "measures how long a query took; decides nothing"),
            ("agent/src/cli/", "progress on a terminal"),
            ("agent/src/demo.rs", "figures on a terminal"),
            ("agent/src/demo/", "figures on a terminal"),
        ],
        tests_too: false,
        remedy: "take the time from the clock that is handed in; to measure a duration, add the file to the list here",
    },
    Fence {
        folder: "simulations/src/",
        words: &["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now", "rand::"],
        except: &[],
        tests_too: true,
        remedy: "a made-up world has a made-up clock and seeded dice: the same run twice must be the same",
    },
    Fence {
        folder: "",
        words: &["todo!", "unimplemented!", "dbg!"],
        except: &[],
        tests_too: true,
        remedy: "finish it, or leave it out and say so in the issue",
    },
];

/// What `rules` may depend on: nothing that blocks, waits, logs or rolls dice.
const RULES_MAY_USE: [&str; 9] =
    ["jiff", "regex", "semver", "serde", "serde-saphyr", "serde_json", "sha2", "statrs", "thiserror"];

/// Lines, tests included. Beyond it a file is about more than one thing.
const LINE_LIMIT: usize = 600;

/// Files that may be longer, each with the reason.
const LONG_FILES: [(&str, &str); 0] = [];

const TOP_LEVEL: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "agent",
    "deploy",
    "rules",
    "simulations",
    "tests",
];

/// Places on the developers' machines. Put together here, so that this file does not name them.
const LEAKS: [&str; 3] = [concat!("/wo", "rk/"), concat!(".lib", "rary"), concat!("../sha", "red")];

/// Code that says a word behind one of the fences.
pub fn fences(source: &Source) -> Vec<Fault> {
    let here = FENCES.iter().filter(|fence| {
        let excepted = |(path, _): &(&str, &str)| {
            source.path == *path || (path.ends_with('/') && source.path.starts_with(path))
        };
        source.path.starts_with(fence.folder) && !fence.except.iter().any(excepted)
    });
    here.flat_map(|fence| {
        let code = if fence.tests_too { &source.code } else { &source.shipped };
        fence.words.iter().flat_map(move |word| {
            let message = format!("`{word}`: {}", fence.remedy);
            places(code, word).map(move |line| fault(&source.path, line, &message)).collect::<Vec<_>>()
        })
    })
    .collect()
}

/// `use std::{env, fs}` in `rules`: what the fence would not see.
pub fn grouped_imports(source: &Source) -> Vec<Fault> {
    if !source.path.starts_with("rules/src/") {
        return Vec::new();
    }
    let forbidden = ["env", "fs", "net", "process", "thread"];
    let mut faults = Vec::new();
    for (start, opening) in source.shipped.match_indices("std::{") {
        let group = &source.shipped[start + opening.len()..];
        let group = group.split(';').next().unwrap_or_default();
        let words: BTreeSet<&str> = group.split(|one: char| one != '_' && !one.is_alphanumeric()).collect();
        for word in forbidden.iter().filter(|word| words.contains(**word)) {
            let message =
                format!("`std::{{{word}}}`: `rules` does no IO; import one path a line, so that it shows");
            faults.push(fault(&source.path, line_of(&source.shipped, start), &message));
        }
    }
    faults
}

/// A file that does not begin with `//!`.
pub fn story(source: &Source) -> Vec<Fault> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![fault(&source.path, 1, "begin with `//!`: what this file is for, and why it is so")]
}

/// `#[allow(…)]`, also inside of `cfg_attr`.
pub fn allowed_lints(source: &Source) -> Vec<Fault> {
    let message = "`allow`: use `#[expect(…, reason = \"…\")]`, which ends with its reason";
    let attributes = source.code.match_indices("#[").chain(source.code.match_indices("#!["));
    attributes
        .filter(|(start, _)| {
            let attribute = source.code[*start..].split(']').next().unwrap_or_default();
            places(attribute, "allow(").next().is_some()
        })
        .map(|(start, _)| fault(&source.path, line_of(&source.code, start), message))
        .collect()
}

/// A file that is too long.
pub fn size(source: &Source) -> Vec<Fault> {
    let lines = source.text.lines().count();
    if lines <= LINE_LIMIT || LONG_FILES.iter().any(|(path, _)| source.path == *path) {
        return Vec::new();
    }
    let message = format!("{lines} lines, {LINE_LIMIT} are the limit: split it where its subject changes");
    vec![fault(&source.path, LINE_LIMIT + 1, &message)]
}

/// Names at the top of the repository that do not belong there.
pub fn top_level(names: &[String]) -> Vec<Fault> {
    let strangers = names.iter().filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()));
    strangers
        .map(|name| fault(name, 1, "does not belong at the top level: move it where it is used"))
        .collect()
}

/// Dependencies of `rules` that are not on its list, or that hide behind another name. Development dependencies do
/// not ship and are free.
pub fn dependencies(path: &str, manifest: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut section = String::new();
    for (index, line) in manifest.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let header = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let name = if let Some(header) = header {
            section = header.to_owned();
            // `[dependencies.name]` names one as well.
            section.rsplit_once("dependencies.").map(|(_, name)| name.to_owned())
        } else if section.ends_with("dependencies") && line.contains('=') {
            line.split(['=', '.', ' ']).next().map(str::to_owned)
        } else {
            None
        };
        if section.contains("dev-dependencies") {
            continue;
        }
        let mut report = |message: String| faults.push(fault(path, index + 1, &message));
        if let Some(name) = name.filter(|name| !RULES_MAY_USE.contains(&name.trim_matches('"'))) {
            report(format!(
                "`{name}`: what `rules` decides must not block, wait, log or roll dice: use it in `agent`"
            ));
        }
        if section.contains("dependencies") && !places(line, "package").collect::<Vec<_>>().is_empty() {
            report("`package`: a dependency of `rules` goes by its own name".to_owned());
        }
    }
    faults
}

/// A README that does not show the two commands.
pub fn commands(path: &str, text: &str) -> Vec<Fault> {
    let missing = ["make demo", "make test"].into_iter().filter(|command| !text.contains(command));
    missing
        .map(|command| fault(path, 1, &format!("show `{command}`: two commands are all a newcomer needs")))
        .collect()
}

/// Links of a Markdown page to files that are not there. `exists` takes a path from the top of the repository.
pub fn links(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Fault> {
    let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let mut faults = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        for target in targets.filter(|_| !fenced) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains("://") || file.starts_with("mailto:");
            if !elsewhere && !exists(&format!("{folder}{file}")) {
                let message = format!("the link leads to {file}, which does not exist: mend or remove it");
                faults.push(fault(path, index + 1, &message));
            }
        }
    }
    faults
}

/// Text that names a folder of the developers' machines.
pub fn leaks(source: &Source) -> Vec<Fault> {
    let mut faults = Vec::new();
    for word in LEAKS {
        // `self.library` is a field, `example.com/…` an address: a folder's name stands by itself.
        for line in places(&source.text, word) {
            let message =
                format!("`{word}`: a user has no such place: say it without, or ship what it points to");
            faults.push(fault(&source.path, line, &message));
        }
    }
    faults
}

fn fault(file: &str, line: usize, message: &str) -> Fault {
    Fault { file: file.to_owned(), line, message: message.to_owned() }
}

/// The lines on which `word` stands without being the end of a longer word.
fn places<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word)
        .filter(|(at, _)| !text[..*at].ends_with(|one: char| one == '_' || one.is_alphanumeric()))
        .map(|(at, _)| line_of(text, at))
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}
