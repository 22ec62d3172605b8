//! The hash chain: how one record is bound to all records before it.
//!
//! ```text
//! h_0 = 32 zero bytes
//! h_n = SHA-256( 0x01 ‖ len(c) ‖ h_{n-1} ‖ n ‖ c )        c = canonical bytes of record n
//!
//! c   = text(stream) ‖ text(kind) ‖ version ‖ at ‖ mark ‖ key ‖ text(body)
//!       text(s)  = length in bytes (u64) ‖ UTF-8 bytes
//!       version  = u16      at = nanoseconds since 1970 (i64)      mark = u8: 0 none, 1 opens, 2 closes
//!       key      = 0x00 when the record has none, else 0x01 ‖ text(unique key)
//! ```
//!
//! All numbers are big-endian. `0x01` names this form: another form gets another byte, so bytes hashed under one form
//! can never be read under the other. Every variable part carries its length, so no two different records have the same
//! canonical bytes. The body goes in *as the text that is stored*, never as a value that was parsed and printed again:
//! a verifier in any language needs SHA-256 and this comment, and no JSON library.
//!
//! What a chain cannot show: whoever may write the file can cut off its tail, or rewrite all of it with fresh hashes.
//! A cut tail is caught by the head kept beside the ledger (`head.rs`); a full rewrite only by heads kept on another
//! machine, which is why the head can be read and shipped elsewhere.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Names the form of the hashed bytes; see the module's comment.
const FORM: u8 = 0x01;

/// A SHA-256 hash. Shown, parsed and serialised as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

/// The end of the chain: the last record's sequence number and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Number of the last record; 0 when the ledger is empty.
    pub sequence: i64,
    /// Hash of the last record; [`Hash::ZERO`] when the ledger is empty.
    pub hash: Hash,
}

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hash: expected 64 hexadecimal digits")]
pub struct NotAHash(String);

/// The hashed parts of one record, apart from its place in the chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    pub stream: &'a str,
    pub kind: &'a str,
    pub version: u16,
    pub at_ns: i64,
    pub mark: u8,
    pub key: Option<&'a str>,
    pub body: &'a str,
}

impl Hash {
    /// The hash before the first record.
    pub const ZERO: Hash = Hash([0; 32]);

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Takes exactly 32 bytes; `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Hash> {
        bytes.try_into().ok().map(Hash)
    }
}

impl Head {
    /// The head of a ledger without records.
    pub const EMPTY: Head = Head { sequence: 0, hash: Hash::ZERO };
}

impl Content<'_> {
    fn canonical_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.stream.len() + self.kind.len() + self.body.len());
        push_text(&mut bytes, self.stream);
        push_text(&mut bytes, self.kind);
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.at_ns.to_be_bytes());
        bytes.push(self.mark);
        match self.key {
            None => bytes.push(0),
            Some(key) => {
                bytes.push(1);
                push_text(&mut bytes, key);
            }
        }
        push_text(&mut bytes, self.body);
        bytes
    }
}

/// The hash of the record with this content in place `sequence`, after a record with hash `previous`.
pub(super) fn link(previous: &Hash, sequence: i64, content: &Content<'_>) -> Hash {
    let canonical = content.canonical_bytes();
    let mut hasher = Sha256::new();
    hasher.update([FORM]);
    hasher.update((canonical.len() as u64).to_be_bytes());
    hasher.update(previous.0);
    hasher.update(sequence.to_be_bytes());
    hasher.update(&canonical);
    Hash(hasher.finalize().into())
}

fn push_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Hash, NotAHash> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAHash(text.chars().take(80).collect()))?;
        Ok(Hash(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Content<'static> {
        Content {
            stream: "watch/w-1",
            kind: "verdict",
            version: 3,
            at_ns: 1_700_000_000_123_456_789,
            mark: 1,
            key: Some(r#"["event","ci","42"]"#),
            body: r#"{"verdict":"healthy"}"#,
        }
    }

    #[test]
    fn the_hash_is_the_one_an_independent_program_computes() {
        // Computed with Python's hashlib and struct from the module's comment.
        let first = link(&Hash::ZERO, 1, &content());
        assert_eq!(first.to_string(), "c6b6edb8e26aeb33fd36a6eb40b2759da8ab2f57c053f12e6002004fe7abf068");
        let second = link(&first, 2, &Content { key: None, mark: 0, at_ns: -1, ..content() });
        assert_eq!(second.to_string(), "a1d631f0b147d4c2de6610d7a6b7b8c3161e055473ff83b09c62b2c313c043b0");
    }

    #[test]
    fn moving_a_byte_across_a_field_border_changes_the_hash() {
        let one = link(&Hash::ZERO, 1, &Content { stream: "ab", kind: "c", ..content() });
        let other = link(&Hash::ZERO, 1, &Content { stream: "a", kind: "bc", ..content() });
        assert_ne!(one, other);
        let without = link(&Hash::ZERO, 1, &Content { key: None, ..content() });
        let empty = link(&Hash::ZERO, 1, &Content { key: Some(""), ..content() });
        assert_ne!(without, empty);
    }

    #[test]
    fn a_hash_reads_back_what_it_prints_and_refuses_the_rest() {
        let hash = link(&Hash::ZERO, 1, &content());
        assert_eq!(hash.to_string().parse::<Hash>(), Ok(hash));
        for wrong in ["", "00", &"0".repeat(63), &"g".repeat(64), &"0".repeat(66)] {
            assert!(wrong.parse::<Hash>().is_err(), "{wrong:?} was taken for a hash");
        }
    }
}
