//! Configuration files from disk: which ones, in which order, and with which limits.

use super::formats::{self, Format};
use super::report::{Finding, Findings};
use super::tree::{Node, Place, Source, Value};
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The largest file, in bytes. A hundred services take some 200 KiB; what is larger is not a configuration.
const LARGEST: u64 = 1024 * 1024;
/// Files in one directory. Each costs an open; thousands are somebody's home directory.
const MOST_FILES: usize = 256;

/// Reads the files at `paths` in order; for a directory the configurations in it, sorted by name. False as the second
/// value if some could not be read, so that nothing is said about what might stand in them.
pub(super) fn read_all(paths: &[PathBuf], findings: &mut Findings) -> (Vec<Node>, bool) {
    let mut trees = Vec::new();
    let mut complete = true;
    for path in paths {
        let files = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => in_directory(path, findings),
            Ok(_) | Err(_) => Some(vec![path.clone()]),
        };
        let Some(files) = files else {
            complete = false;
            continue;
        };
        for file in files {
            match read(&file, findings) {
                Some(tree) => trees.push(tree),
                None => complete = false,
            }
        }
    }
    (trees, complete)
}

fn in_directory(path: &Path, findings: &mut Findings) -> Option<Vec<PathBuf>> {
    let source = add_source(path, String::new(), findings);
    let refuse = |findings: &mut Findings, message: String, advice: &str| {
        findings.add(Finding::new(Place::whole(source), &[], message).advice(advice));
        None
    };
    let names: Result<Vec<PathBuf>, std::io::Error> = match std::fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) => Err(error),
    };
    let mut files = match names {
        Ok(files) => files,
        Err(error) => {
            return refuse(
                findings,
                format!("the directory cannot be read: {error}"),
                "give the agent the right to list it",
            );
        }
    };
    // Hidden names are left out: a mounted ConfigMap keeps its older versions there.
    let hidden = |file: &Path| file.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    files.retain(|file| Format::of(file).is_some() && !hidden(file) && !file.is_dir());
    files.sort();
    if files.is_empty() {
        let advice = "put a configuration with one of these endings into it, or name a file";
        return refuse(
            findings,
            "the directory holds no *.yaml, *.yml, *.toml or *.json file".into(),
            advice,
        );
    }
    if files.len() > MOST_FILES {
        let message =
            format!("the directory holds {} configurations; at most {MOST_FILES} are read", files.len());
        return refuse(findings, message, "is this the right directory?");
    }
    Some(files)
}

/// Reads one file to a tree. `None` after a finding that says why not.
pub(super) fn read(path: &Path, findings: &mut Findings) -> Option<Node> {
    let text = match load(path) {
        Ok(text) => text,
        Err((message, advice)) => {
            let source = add_source(path, String::new(), findings);
            findings.add(Finding::new(Place::whole(source), &[], message).advice(advice));
            return None;
        }
    };
    let source = add_source(path, text.clone(), findings);
    let format = Format::of(path).unwrap_or(Format::Yaml);
    let mut found = Vec::new();
    let parsed = formats::parse(format, &text, source, &mut found);
    found.into_iter().for_each(|finding| findings.add(finding));
    match parsed {
        Err(finding) => {
            findings.add(*finding);
            None
        }
        Ok(Node { value: Value::Map(map), at }) => Some(Node { value: Value::Map(map), at }),
        Ok(Node { value: Value::Null, .. }) => {
            let finding = Finding::new(Place::whole(source), &[], "the file is empty");
            findings.add(
                finding
                    .expected("settings, at least `version: 1`")
                    .advice("remove the file, or write into it"),
            );
            None
        }
        Ok(Node { value, at }) => {
            let finding = Finding::new(at, &[], format!("the file holds {}", value.kind()));
            findings.add(finding.expected("a map: lines such as `version: 1`"));
            None
        }
    }
}

fn add_source(path: &Path, text: String, findings: &mut Findings) -> usize {
    findings.sources.push(Source::File { path: path.to_owned(), text });
    findings.sources.len() - 1
}

/// The text, or what is wrong and what to do.
fn load(path: &Path) -> Result<String, (String, &'static str)> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => ("there is no such file".to_owned(), "check the path"),
        _ => (format!("the file cannot be read: {error}"), "give the agent the right to read it"),
    };
    // Asked before it is opened: opening a named pipe would wait for a writer, perhaps for ever.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(("this is not a regular file".into(), "name a file, or a directory with files"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err((
            format!("the file is larger than {} KiB", LARGEST / 1024),
            "split it into a directory of files",
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        (
            format!("the file is not UTF-8 text: byte {} (in line {line}) cannot be read", valid + 1),
            "save it as UTF-8",
        )
    })?;
    match text.strip_prefix('\u{feff}') {
        Some(text) => Ok(text.to_owned()),
        None => Ok(text),
    }
}
