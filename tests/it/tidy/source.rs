//! The tree as the checks see it: text, code without comments and strings, code without tests.

use std::fs;
use std::path::{Path, PathBuf};

/// One text file.
#[derive(Debug)]
pub struct Source {
    /// From the top of the repository, with slashes.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Rust only: comments, strings and characters blanked out; lines and columns stay where they were.
    pub code: String,
    /// Rust only: like `code`, and what stands under `#[cfg(test)]` blanked out as well.
    pub shipped: String,
}

impl Source {
    /// Takes `text` apart as the file `path`.
    pub fn new(path: &str, text: &str) -> Source {
        let code = if path.ends_with(".rs") { without_comments_and_strings(text) } else { String::new() };
        let shipped = if is_test_file(path) { blanked(&code) } else { without_tests(&code) };
        Source { path: path.to_owned(), text: text.to_owned(), code, shipped }
    }

    /// Whether the checks on code apply.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// Every text file of the repository, except what git keeps and what cargo builds or writes.
pub fn tree() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(&root(), "", &mut sources);
    sources
}

/// The text of one file that has to be there.
pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("reading {path}: {error}"))
}

/// Whether there is such a file or folder.
pub fn exists(path: &str) -> bool {
    root().join(path).exists()
}

/// The names at the top of the repository, without those that git ignores.
pub fn top_level() -> Vec<String> {
    names(&root()).into_iter().filter(|name| name != "target").collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn names(folder: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("reading {}: {error}", folder.display()));
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.unwrap_or_else(|error| panic!("reading {}: {error}", folder.display())).file_name()
    };
    let mut names: Vec<String> = entries.map(|entry| name(entry).to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn collect(folder: &Path, prefix: &str, sources: &mut Vec<Source>) {
    for name in names(folder) {
        let path = folder.join(&name);
        let relative = format!("{prefix}{name}");
        if matches!(relative.as_str(), ".git" | "target" | "Cargo.lock") {
            continue;
        }
        if path.is_dir() {
            collect(&path, &format!("{relative}/"), sources);
        } else if let Ok(text) = fs::read_to_string(&path) {
            // What is not text has no house rules.
            sources.push(Source::new(&relative, &text));
        }
    }
}

/// `tests.rs` and what lies in a folder `tests` beside the code are declared under `#[cfg(test)]` by their parent.
fn is_test_file(path: &str) -> bool {
    path.split_once("/src/").is_some_and(|(_, rest)| {
        rest == "tests.rs" || rest.ends_with("/tests.rs") || rest.split('/').any(|part| part == "tests")
    })
}

fn blanked(text: &str) -> String {
    text.chars().map(|one| if one == '\n' { '\n' } else { ' ' }).collect()
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || byte >= 0x80
}

fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("only whole comments, strings and characters are replaced, by spaces")
}

fn without_comments_and_strings(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let after_word = at > 0 && is_word(bytes[at - 1]) && !matches!(bytes[at - 1], b'b' | b'c');
        let length = opaque_length(&bytes[at..], after_word);
        blank(&mut code[at..at + length]);
        at += length.max(1);
    }
    text_of(code)
}

/// How many bytes at the start of `rest` are a comment, a string or a character; 0 if it starts with code.
fn opaque_length(rest: &[u8], after_word: bool) -> usize {
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment_length(rest),
        [b'"', ..] => quoted_length(rest, b'"'),
        [b'r', ..] if !after_word => raw_string_length(rest),
        // A lifetime has no closing quote after its first character.
        [b'\'', b'\\', ..] => quoted_length(rest, b'\''),
        [b'\'', first, ..] => {
            let width = match first {
                0x00..=0x7F => 1,
                0x80..=0xDF => 2,
                0xE0..=0xEF => 3,
                0xF0..=0xFF => 4,
            };
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        _ => 0,
    }
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string_length(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let begin = hashes + 2;
    let inside = rest[begin..].windows(close.len()).position(|window| window == close);
    inside.map_or(rest.len(), |inside| begin + inside + close.len())
}

fn without_tests(code: &str) -> String {
    if code.contains("#![cfg(test)]") {
        return blanked(code);
    }
    let mut bytes = code.as_bytes().to_vec();
    for (start, _) in code.match_indices("#[cfg(test)]") {
        let end = start + item_length(&code.as_bytes()[start..]);
        blank(&mut bytes[start..end]);
    }
    text_of(bytes)
}

/// From an attribute to the end of the item that it stands on: the first closed brace or semicolon that is not inside
/// of parentheses or brackets.
fn item_length(rest: &[u8]) -> usize {
    let (mut braces, mut others) = (0_i32, 0_i32);
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            b'{' => braces += 1,
            b'}' => braces -= 1,
            b'(' | b'[' => others += 1,
            b')' | b']' => others -= 1,
            _ => {}
        }
        if braces == 0 && others == 0 && matches!(byte, b'}' | b';') {
            return at + 1;
        }
    }
    rest.len()
}
