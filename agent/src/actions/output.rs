//! What an action said, made fit to be stored and shown: bounded, without secrets, without control characters.
//!
//! A program may say a gigabyte. The beginning tells what it was about and the end tells how it went, so these are
//! kept and the middle is counted.

use crate::secrets::Redactor;
use std::collections::VecDeque;

/// Kept from the beginning, in bytes.
const HEAD: usize = 48 * 1024;
/// Kept from the end, in bytes. Both together are 64 KiB: more is not read by people and makes records heavy.
const TAIL: usize = 16 * 1024;

/// Collects output in bounded memory.
#[derive(Default)]
pub(super) struct Capture {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    left_out: u64,
}

impl Capture {
    /// Takes what came next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(HEAD - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let excess = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..excess);
        self.left_out += excess as u64;
    }

    /// The output as text for people.
    pub(super) fn text(mut self, redactor: &Redactor) -> String {
        let tail = self.tail.make_contiguous();
        if self.left_out == 0 {
            self.head.extend_from_slice(tail);
            return readable(&redactor.redact_bytes(&self.head));
        }
        let head = shorten(readable(&redactor.redact_cut_end(&self.head)), HEAD, Keep::Beginning);
        let tail = shorten(readable(&redactor.redact_cut_start(tail)), TAIL, Keep::End);
        format!("{head}\n… {} bytes left out …\n{tail}", self.left_out)
    }
}

/// A short text that came from outside (an error, a header), as one readable line of at most 300 characters.
pub(super) fn line(text: &str, redactor: &Redactor) -> String {
    let clean = readable(redactor.redact(text).as_bytes());
    clean.replace('\n', " ").chars().take(300).collect()
}

/// Lossy UTF-8 with control characters escaped (all but newline and tab), cut to the length that is kept at most.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    let mut clean = String::with_capacity(text.len());
    for c in text.trim_end_matches('\n').chars() {
        if c == '\n' || c == '\t' || !(c.is_control() || is_invisible(c)) {
            clean.push(c);
        } else {
            clean.extend(c.escape_unicode());
        }
    }
    // Escaping makes binary output up to six times as long.
    shorten(clean, HEAD + TAIL, Keep::Beginning)
}

/// Characters that change how their neighbours are shown: a way to make a log line read differently from what it says.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

enum Keep {
    Beginning,
    End,
}

fn shorten(text: String, limit: usize, keep: Keep) -> String {
    if text.len() <= limit {
        return text;
    }
    match keep {
        Keep::Beginning => text[..text.floor_char_boundary(limit)].to_owned() + " …",
        Keep::End => "… ".to_owned() + &text[text.ceil_char_boundary(text.len() - limit)..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secrets;
    use rules::action::SecretRef;
    use std::collections::BTreeMap;

    fn capture(pieces: impl Iterator<Item = Vec<u8>>) -> Capture {
        let mut capture = Capture::default();
        pieces.for_each(|piece| capture.push(&piece));
        capture
    }

    #[test]
    fn up_to_the_limit_nothing_is_left_out() {
        for piece in [1, 7, 4096, HEAD + TAIL] {
            let whole: Vec<u8> = (0..HEAD + TAIL).map(|number| b'a' + (number % 26) as u8).collect();
            let text = capture(whole.chunks(piece).map(<[u8]>::to_vec)).text(&Redactor::default());
            assert_eq!(text.as_bytes(), whole, "pieces of {piece} bytes");
        }
    }

    #[test]
    fn beyond_it_the_middle_is_counted() {
        let mut capture = capture(std::iter::repeat_n(vec![b'm'; 10_000], 100));
        capture.push(b"the end");
        assert!(capture.tail.capacity() < 64 * 1024);
        let text = capture.text(&Redactor::default());
        let left_out = 1_000_007 - HEAD - TAIL;
        assert!(text.contains(&format!("… {left_out} bytes left out …")), "{}", &text[HEAD..HEAD + 60]);
        assert!(text.ends_with("mmthe end") && text.len() < HEAD + TAIL + 100);
    }

    #[test]
    fn a_secret_across_the_cut_does_not_leak() {
        let secrets = Secrets::from_variables(BTreeMap::from([("T".into(), "0123456789abcdef".into())]));
        assert!(secrets.resolve(&SecretRef::Env("T".into())).is_ok());
        let mut capture = Capture::default();
        capture.push(&vec![b'.'; HEAD - 8]);
        capture.push(b"0123456789abcdef");
        capture.push(&vec![b'.'; 2 * TAIL]);
        let text = capture.text(&secrets.redactor());
        assert!(!text.contains("012345") && text.contains("[secret]"));
    }

    #[test]
    fn control_characters_and_broken_text_are_shown_harmlessly() {
        assert_eq!(readable(b"a\tb\r\nc\x1b[31m\x00\xff\n"), "a\tb\nc\\u{1b}[31m\\u{0}\u{fffd}");
        assert_eq!(readable("x\u{202e}y".as_bytes()), "x\\u{202e}y");
        assert!(readable(&vec![0; HEAD + TAIL]).len() <= HEAD + TAIL + 4);
        assert_eq!(line("a\nb", &Redactor::default()), "a b");
    }
}
