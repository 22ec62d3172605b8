//! Messages that cannot be read: kept with the reason, so that the rest goes on and nothing is lost.

use super::limits::shown;
use base64::Engine as _;
use rules::ids::fingerprint;
use serde::{Deserialize, Serialize};

/// Of a message that cannot be read, so many bytes are kept: whoever looks for the mistake finds it in them.
const MOST_KEPT: usize = 16 * 1024;
/// Of the reason, in characters.
const LONGEST_REASON: usize = 2_000;

/// A message that was given up, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetter {
    /// Where it stood, unique for its source: `topic/partition/offset` or `stream/sequence`.
    pub place: String,
    /// Which field, what was expected, what to do.
    pub reason: String,
    /// How often it was tried.
    pub tries: u32,
    /// Its first bytes: as text where it is UTF-8.
    pub body: DeadBody,
    /// How long it was, in bytes.
    pub bytes: usize,
}

/// The first bytes of a message that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum DeadBody {
    /// It is text.
    Text(String),
    /// It is not, so in base64.
    Base64(String),
}

impl DeadLetter {
    /// A message at `place` that was tried so often and cannot be read for this reason.
    pub fn new(place: impl Into<String>, reason: &str, tries: u32, body: &[u8]) -> Self {
        let kept = &body[..body.len().min(MOST_KEPT)];
        let text = match std::str::from_utf8(kept) {
            Ok(text) => Some(text),
            // Cut in the middle of a character.
            Err(error) if error.error_len().is_none() => {
                std::str::from_utf8(&kept[..error.valid_up_to()]).ok()
            }
            Err(_) => None,
        };
        let body_kept = match text {
            Some(text) => DeadBody::Text(text.to_owned()),
            None => DeadBody::Base64(base64::engine::general_purpose::STANDARD.encode(kept)),
        };
        let reason = reason.chars().take(LONGEST_REASON).collect();
        Self { place: place.into(), reason, tries, body: body_kept, bytes: body.len() }
    }

    /// Tells it from another letter at the same place.
    pub(crate) fn mark(&self) -> String {
        let (DeadBody::Text(body) | DeadBody::Base64(body)) = &self.body;
        fingerprint(&[body, &self.bytes.to_string()], 8)
    }

    /// One line for people.
    pub fn words(&self) -> String {
        format!("{} after {} tries: {}", shown(&self.place), self.tries, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_are_kept_as_text_where_they_are_text() {
        let text = "ü".repeat(MOST_KEPT);
        let letter = DeadLetter::new("t/0/1", "why", 5, &text.as_bytes()[1..]);
        assert!(matches!(letter.body, DeadBody::Base64(_)), "begins in the middle of a character");
        // One byte before an odd number of bytes of two-byte characters: the cut goes through one.
        let letter = DeadLetter::new("t/0/1", "why", 5, format!("a{text}").as_bytes());
        let DeadBody::Text(kept) = &letter.body else { panic!("it is text") };
        assert_eq!((kept.len(), letter.bytes), (MOST_KEPT - 1, 2 * MOST_KEPT + 1));
        assert_eq!(DeadLetter::new("t/0/1", "why", 5, &[0xff]).body, DeadBody::Base64("/w==".into()));
        assert!(letter.words().contains("after 5 tries: why"), "{}", letter.words());
        assert_eq!(
            letter.mark(),
            DeadLetter::new("t/0/1", "other words", 1, format!("a{text}").as_bytes()).mark()
        );
        assert_ne!(letter.mark(), DeadLetter::new("t/0/1", "why", 5, text.as_bytes()).mark());
    }
}
