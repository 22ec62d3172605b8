//! Secrets: found where the configuration says they are, used once, shown never.
//!
//! The configuration, the plans and the ledger hold references only ([`SecretRef`]). Here a reference becomes a value,
//! in a type that can be neither printed nor serialised. Every value that was ever handed out is remembered, so that a
//! [`Redactor`] can take it out of what programs and servers say to us: `curl -v` prints its headers, and scripts run
//! with `set -x`.
//!
//! Not covered: a secret that comes back in another form (base64, reversed, cut into pieces by the program itself).

use rules::action::SecretRef;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::sync::{Mutex, PoisonError};
use zeroize::Zeroizing;

/// A private key or a service account file has a few KiB; what is longer is the wrong file.
const LONGEST: usize = 64 * 1024;
/// Shorter values are not taken out of texts: they stand in ordinary words and would only make output unreadable.
const SHORTEST_REDACTED: usize = 6;
/// Lines of a secret with many lines (a PEM file) are taken out one by one too, since programs print line by line.
const SHORTEST_REDACTED_LINE: usize = 16;
/// Values remembered for redaction. A few dozen are configured; the rest is room for rotation, after which the oldest
/// are forgotten.
const MOST_REMEMBERED: usize = 1024;
/// What stands in the place of a secret.
const MARK: &[u8] = b"[secret]";

/// A secret value. It has neither `Debug` nor `Display`, and its memory is wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The value, to be handed to a program or a server and to nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(Zeroizing::new(value))
    }
}

/// Why a secret could not be had. The texts name the reference, never the value.
#[derive(Debug, thiserror::Error)]
pub enum BadSecret {
    /// The environment variable is not set.
    #[error("the secret in the environment variable {name} is not there; set {name} for the agent")]
    NoVariable {
        /// The variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read the secret in the file {path}")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The path names something else than a file: a directory, a device, a pipe.
    #[error("the secret's path {path} is not a regular file")]
    NotAFile {
        /// The path.
        path: String,
    },
    /// There is a value, and it cannot be one.
    #[error("the secret in {place} is not usable: it {problem}")]
    Value {
        /// Where it is: `the environment variable X` or `the file /y`.
        place: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// The agent's environment, or what stands for it.
type Environment = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Finds secrets and remembers what to take out of texts.
pub struct Secrets {
    environment: Box<Environment>,
    known: Mutex<Vec<Zeroizing<Vec<u8>>>>,
}

impl Secrets {
    /// Secrets from the agent's own environment and from files.
    pub fn new() -> Self {
        Self::with(|name| std::env::var_os(name))
    }

    /// Secrets from these variables in place of the environment, and from files. For simulations and tests.
    pub fn from_variables(variables: BTreeMap<String, String>) -> Self {
        Self::with(move |name| variables.get(name).map(OsString::from))
    }

    fn with(environment: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self { environment: Box::new(environment), known: Mutex::new(Vec::new()) }
    }

    /// Reads one secret, each time anew, so that a rotated file is seen. A newline at its end is cut off. Errors: not
    /// there, not a regular file, empty, not UTF-8, a NUL byte, longer than 64 KiB.
    pub fn resolve(&self, reference: &SecretRef) -> Result<Secret, BadSecret> {
        let (place, bytes) = match reference {
            SecretRef::Env(name) => {
                let value =
                    (self.environment)(name).ok_or_else(|| BadSecret::NoVariable { name: name.clone() })?;
                let bytes = std::os::unix::ffi::OsStringExt::into_vec(value);
                (format!("the environment variable {name}"), Zeroizing::new(bytes))
            }
            SecretRef::File(path) => (format!("the file {path}"), read(path)?),
        };
        let value = check(&bytes).map_err(|problem| BadSecret::Value { place, problem })?;
        self.remember(value);
        Ok(Secret(Zeroizing::new(value.to_owned())))
    }

    /// Takes out every secret resolved so far.
    pub fn redactor(&self) -> Redactor {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Redactor::of(known.iter().map(|value| value.as_slice()))
    }

    fn remember(&self, value: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.iter().any(|one| one.as_slice() == value.as_bytes()) {
            return;
        }
        if known.len() == MOST_REMEMBERED {
            known.remove(0);
        }
        known.push(Zeroizing::new(value.as_bytes().to_vec()));
    }
}

impl Default for Secrets {
    fn default() -> Self {
        Self::new()
    }
}

fn read(path: &str) -> Result<Zeroizing<Vec<u8>>, BadSecret> {
    let failed = |source| BadSecret::File { path: path.to_owned(), source };
    // Asked before it is opened: opening a named pipe would wait for a writer, perhaps for ever.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(BadSecret::NotAFile { path: path.to_owned() });
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::new());
    // Two more than allowed: one for the newline that is cut off, one to see that it is too long.
    file.take(LONGEST as u64 + 2).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn check(bytes: &[u8]) -> Result<&str, &'static str> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Err(_) => Err("is not UTF-8 text"),
        Ok("") => Err("is empty"),
        Ok(text) if text.len() > LONGEST => Err("is longer than 64 KiB"),
        Ok(text) if text.contains('\0') => Err("holds a NUL byte"),
        Ok(text) => Ok(text),
    }
}

/// Replaces known secrets by `[secret]`.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret that begins with another one goes as a whole.
    values: Vec<Zeroizing<Vec<u8>>>,
}

impl Redactor {
    fn of<'a>(secrets: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut values = Vec::new();
        for secret in secrets.filter(|secret| secret.len() >= SHORTEST_REDACTED) {
            values.push(Zeroizing::new(secret.to_vec()));
            let lines = secret.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            values.extend(
                lines
                    .filter(|line| line.len() >= SHORTEST_REDACTED_LINE && line.len() < secret.len())
                    .map(|line| Zeroizing::new(line.to_vec())),
            );
            // As it stands inside of JSON, which is how most servers echo what they were sent.
            let quoted = Zeroizing::new(serde_json::Value::from(String::from_utf8_lossy(secret)).to_string());
            let inside = &quoted.as_bytes()[1..quoted.len() - 1];
            if inside != secret {
                values.push(Zeroizing::new(inside.to_vec()));
            }
        }
        values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        values.dedup();
        Self { values }
    }

    /// The text without secrets.
    pub fn redact(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.redact_bytes(text.as_bytes())).into_owned()
    }

    /// The bytes without secrets.
    pub fn redact_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut clean = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            match self.values.iter().find(|value| rest.starts_with(value)) {
                Some(value) => {
                    clean.extend_from_slice(MARK);
                    rest = &rest[value.len()..];
                }
                None => {
                    clean.push(*first);
                    rest = &rest[1..];
                }
            }
        }
        clean
    }

    /// The same for a text that was cut off at its end: the beginning of a secret there goes too.
    pub fn redact_cut_end(&self, bytes: &[u8]) -> Vec<u8> {
        let cut = self.values.iter().filter_map(|value| {
            (SHORTEST_REDACTED..value.len()).rev().find(|length| bytes.ends_with(&value[..*length]))
        });
        match cut.max() {
            Some(length) => {
                let mut clean = self.redact_bytes(&bytes[..bytes.len() - length]);
                clean.extend_from_slice(MARK);
                clean
            }
            None => self.redact_bytes(bytes),
        }
    }

    /// The same for a text whose beginning was cut off: the end of a secret there goes too.
    pub fn redact_cut_start(&self, bytes: &[u8]) -> Vec<u8> {
        let cut = self.values.iter().filter_map(|value| {
            (1..=value.len().saturating_sub(SHORTEST_REDACTED))
                .find(|start| bytes.starts_with(&value[*start..]))
                .map(|start| value.len() - start)
        });
        match cut.max() {
            Some(length) => {
                let mut clean = MARK.to_vec();
                clean.extend_from_slice(&self.redact_bytes(&bytes[length..]));
                clean
            }
            None => self.redact_bytes(bytes),
        }
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor({} values)", self.values.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(pairs: &[(&str, &str)]) -> Secrets {
        Secrets::from_variables(
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        )
    }

    fn redactor(values: &[&str]) -> Redactor {
        Redactor::of(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn a_newline_at_the_end_is_cut_off_and_only_there() {
        let directory = tempfile::tempdir().unwrap();
        for (content, value) in
            [("abc\n", "abc"), ("abc\r\n", "abc"), ("a\nb\n", "a\nb"), ("abc\n\n", "abc\n")]
        {
            let path = directory.path().join("secret");
            std::fs::write(&path, content).unwrap();
            let reference = SecretRef::File(path.to_str().unwrap().to_owned());
            assert_eq!(secrets(&[]).resolve(&reference).ok().unwrap().expose(), value);
        }
        assert_eq!(secrets(&[("A", "x\n")]).resolve(&SecretRef::Env("A".into())).ok().unwrap().expose(), "x");
    }

    #[test]
    fn errors_name_the_reference_and_never_the_value() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).unwrap();
            SecretRef::File(path.to_str().unwrap().to_owned())
        };
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let cases = [
            (SecretRef::Env("NOT_THERE".into()), "NOT_THERE"),
            (SecretRef::Env("EMPTY".into()), "is empty"),
            (SecretRef::File("/not/there".into()), "/not/there"),
            (SecretRef::File("/".into()), "not a regular file"),
            (SecretRef::File(fifo.to_str().unwrap().to_owned()), "not a regular file"),
            (file("latin", b"hunter2\xff"), "not UTF-8"),
            (file("nul", b"hunter2\0"), "NUL"),
            (file("long", &vec![b'x'; LONGEST + 1]), "longer than 64 KiB"),
        ];
        for (reference, expected) in cases {
            let error = secrets(&[("EMPTY", "\n")]).resolve(&reference).err().unwrap().to_string();
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let limit = file("limit", &[vec![b'x'; LONGEST], b"\n".to_vec()].concat());
        assert_eq!(secrets(&[]).resolve(&limit).ok().unwrap().expose().len(), LONGEST);
    }

    #[test]
    fn known_values_are_taken_out() {
        let secrets = secrets(&[("TOKEN", "hunter2-hunter2"), ("SHORT", "abc"), ("QUOTED", "pass\"word")]);
        for name in ["TOKEN", "SHORT", "QUOTED"] {
            assert!(secrets.resolve(&SecretRef::Env(name.into())).is_ok());
        }
        let redactor = secrets.redactor();
        assert_eq!(
            redactor.redact("a hunter2-hunter2, abc, pass\"word, {\"p\":\"pass\\\"word\"}"),
            "a [secret], abc, [secret], {\"p\":\"[secret]\"}"
        );
        assert!(!format!("{redactor:?}").contains("hunter2"));
    }

    #[test]
    fn the_longer_of_two_secrets_goes_as_a_whole_and_lines_go_alone() {
        let pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n-----END KEY-----";
        let redactor = redactor(&["hunter", "hunter-and-more", pem]);
        assert_eq!(redactor.redact("hunter-and-more hunter"), "[secret] [secret]");
        assert_eq!(redactor.redact("line: MIIEvQIBADANBgkqhkiG."), "line: [secret].");
    }

    #[test]
    fn pieces_of_a_secret_at_a_cut_go_too() {
        let redactor = redactor(&["0123456789abcdef"]);
        assert_eq!(redactor.redact_cut_end(b"token 0123456789"), b"token [secret]");
        assert_eq!(redactor.redact_cut_start(b"789abcdef is the token"), b"[secret] is the token");
        assert_eq!(redactor.redact_cut_end(b"all is well"), b"all is well");
        assert_eq!(redactor.redact_cut_start(b"all is well"), b"all is well");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rotating");
        let secrets = secrets(&[]);
        for number in 0..MOST_REMEMBERED + 10 {
            std::fs::write(&path, format!("rotated-{number}")).unwrap();
            assert!(secrets.resolve(&SecretRef::File(path.to_str().unwrap().to_owned())).is_ok());
        }
        assert_eq!(secrets.known.lock().unwrap().len(), MOST_REMEMBERED);
    }
}
