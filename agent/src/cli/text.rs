//! Words on a screen: foreign text made harmless, and times as people read them.
//!
//! A version, a reason or a log line is chosen by somebody else. A terminal obeys what it is sent: `ESC ] 0 ;` renames the
//! window, others clear the screen or make the next line look like ours. So whatever came from outside goes through
//! [`safe`] on its way to the screen.

use jiff::Timestamp;
use rules::units::Span;
use std::fmt::Write as _;

/// The text on one line, with everything escaped that a terminal could obey or that changes the order of what is read.
pub(super) fn safe(text: &str) -> String {
    escape(text, |_| false)
}

/// As [`safe`], but lines stay lines: for whole documents that the daemon wrote.
pub(super) fn safe_lines(text: &str) -> String {
    escape(text, |c| matches!(c, '\n' | '\t'))
}

/// JSON as text without any character that a terminal obeys: serde_json escapes only those below 0x20. Such characters
/// can stand in strings only, so escaping them changes no value.
pub(super) fn json(value: &serde_json::Value) -> String {
    // The alternate form of a tree of plain values.
    escape_as_json(&format!("{value:#}"))
}

/// As [`json`], on one line.
pub(super) fn json_line(value: &serde_json::Value) -> String {
    escape_as_json(&value.to_string())
}

fn escape_as_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_unsafe(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing into a `String` cannot fail.
                let _infallible = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && !keep(c) { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    escaped
}

/// Control characters (C0, DEL, C1), separators that some terminals break lines at, and marks that turn the direction of
/// reading round.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `most` characters, with a mark where it was cut.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// A time as people read it: the two largest units, at least seconds.
pub(super) fn rough(span: Span) -> String {
    let seconds = span.milliseconds() / 1_000;
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let Some(first) = units.iter().position(|(_, size)| seconds >= *size) else { return "0s".into() };
    let mut rest = seconds;
    let mut words = String::new();
    for (unit, size) in units.iter().skip(first).take(2) {
        if rest >= *size {
            // Writing into a `String` cannot fail.
            let _infallible = write!(words, "{}{unit}", rest / size);
            rest %= size;
        }
    }
    words
}

/// A moment, to the second, in UTC.
pub(super) fn moment(at: Timestamp) -> String {
    format!("{at:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Renames the window, clears the screen, colours, rings, goes back to overwrite, uses the one-byte CSI of C1, turns
    /// the direction of reading round.
    const HOSTILE: &str = "1.4\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\r\n\u{8}\u{7f}\u{202e}live";

    fn obeys_nothing(text: &str) -> bool {
        !text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}')
    }

    #[test]
    fn no_terminal_obeys_foreign_text() {
        let shown = safe(HOSTILE);
        assert_eq!(shown, "1.4\\u{1b}]0;owned\\u{7}\\u{1b}[2J\\u{9b}31m\\r\\n\\u{8}\\u{7f}\\u{202e}live");
        let lines = safe_lines("a\n\tb\u{1b}[1m\r");
        assert_eq!(lines, "a\n\tb\\u{1b}[1m\\r");
        assert_eq!(safe("Grüße, 世界"), "Grüße, 世界");
    }

    #[test]
    fn json_is_harmless_too_and_says_the_same() {
        let value = serde_json::json!({ HOSTILE: [HOSTILE, "Grüße"] });
        for text in [json(&value), json_line(&value)] {
            assert!(obeys_nothing(&text), "{text:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        }
        assert!(!json_line(&value).contains('\n'));
    }

    #[test]
    fn times_are_rough() {
        let cases = [
            (0, "0s"),
            (999, "0s"),
            (59_000, "59s"),
            (60_000, "1m"),
            (3_725_000, "1h2m"),
            (90_000_000, "1d1h"),
        ];
        for (milliseconds, words) in cases {
            assert_eq!(rough(Span::from_milliseconds(milliseconds)), words);
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("aäb", 2), "aä…");
        assert_eq!(shortened("aäb", 3), "aäb");
    }
}
