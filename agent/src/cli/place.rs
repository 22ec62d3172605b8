//! Where things are that the command line needs: state directory, token, the name of whoever sits there.

use super::Options;
use super::client::base_url;
use super::exit::Failure;
use crate::app::TOKEN_FILE;
use reqwest::Url;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Where the daemon of root keeps its state, and that of a user without a home.
const SYSTEM_STATE: &str = "/var/lib/turnback";
/// Where a daemon listens by default.
const DEFAULT_URL: &str = "http://127.0.0.1:7440";
/// The variable that says where the daemon answers.
const URL_VARIABLE: &str = "TURNBACK_URL";
/// The variable that says where the state is; the configuration reads the same one as its key `state_dir`.
const STATE_VARIABLE: &str = "TURNBACK_STATE_DIR";
/// The variable that holds the API's token itself.
const TOKEN_VARIABLE: &str = "TURNBACK_TOKEN";
/// Bytes of a token file that are looked at: ours have 48, and whatever has this many is another file.
const LONGEST_TOKEN: usize = 4_096;

/// What the process was started with, besides its arguments.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Environment variables; those whose names are not Unicode are none of ours.
    pub environment: BTreeMap<String, OsString>,
    /// Whether the process runs as root.
    pub root: bool,
}

/// The API's token, or why there is none.
pub(super) enum Token {
    Known { token: String, from: String },
    Unknown { why: String },
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process() -> Self {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self { environment: environment.collect(), root: nix::unistd::Uid::effective().is_root() }
    }

    /// A variable that says something: an empty one is how many tools leave one unset.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).and_then(|value| value.to_str()).filter(|value| !value.is_empty())
    }

    /// `--url`, or what the variable says, or where a daemon listens by default.
    pub(super) fn url(&self, options: &Options) -> Result<Url, Failure> {
        match &options.url {
            Some(given) => Ok(given.clone()),
            None => base_url(self.variable(URL_VARIABLE).unwrap_or(DEFAULT_URL))
                .map_err(|problem| Failure::usage(format!("{URL_VARIABLE}: {problem}"))),
        }
    }

    /// `--state-dir`, or where the daemon of this user keeps its state by default.
    pub(super) fn state_dir(&self, options: &Options) -> PathBuf {
        if let Some(given) = &options.state_dir {
            return given.clone();
        }
        if let Some(given) = self.variable(STATE_VARIABLE) {
            return PathBuf::from(given);
        }
        // The specification of XDG_STATE_HOME says that relative paths in it are to be ignored.
        let absolute = |name| self.variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let own = || absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
        match own().filter(|_| !self.root) {
            Some(base) => base.join("turnback"),
            None => PathBuf::from(SYSTEM_STATE),
        }
    }

    /// The token: what was said on the command line before the variable, the variable before the default place. A file
    /// that was named must be there; the default one need not, as looking is free on the loopback.
    pub(super) fn token(&self, options: &Options) -> Result<Token, Failure> {
        if let Some(path) = &options.token_file {
            let token = read_token(path).map_err(Failure::usage)?;
            return Ok(Token::Known { token, from: path.display().to_string() });
        }
        if let Some(token) = self.variable(TOKEN_VARIABLE) {
            let token = usable(token).map_err(|why| Failure::usage(format!("{TOKEN_VARIABLE}: {why}")))?;
            return Ok(Token::Known { token, from: TOKEN_VARIABLE.into() });
        }
        let path = self.state_dir(options).join(TOKEN_FILE);
        Ok(match read_token(&path) {
            Ok(token) => Token::Known { token, from: path.display().to_string() },
            Err(why) => Token::Unknown { why },
        })
    }

    /// Who sits there, as they say: behind sudo the person, not root.
    pub(super) fn actor(&self) -> &str {
        ["SUDO_USER", "USER", "LOGNAME"]
            .into_iter()
            .find_map(|name| self.variable(name))
            .unwrap_or("operator")
    }
}

fn read_token(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path);
    let read = file.and_then(|file| file.take(LONGEST_TOKEN as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| format!("cannot read the token in {}: {error}", path.display()))?;
    usable(&text).map_err(|why| format!("{}: {why}", path.display()))
}

/// A token goes into a header: one word of visible ASCII. The words never show the token.
fn usable(text: &str) -> Result<String, String> {
    let token = text.trim();
    if token.is_empty() {
        return Err("there is no token in it".into());
    }
    if token.len() > LONGEST_TOKEN || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(format!(
            "this is not a token: expected one word of at most {LONGEST_TOKEN} visible ASCII characters"
        ));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::testing::{options, surroundings};

    #[test]
    fn the_state_directory_is_where_the_daemon_of_this_user_keeps_it() {
        let place = |variables: &[(&str, &str)], root: bool, arguments: &[&str]| {
            let mut surroundings = surroundings(variables);
            surroundings.root = root;
            surroundings.state_dir(&options(arguments)).display().to_string()
        };
        let home = ("HOME", "/home/a");
        assert_eq!(place(&[home], false, &[]), "/home/a/.local/state/turnback");
        assert_eq!(place(&[home, ("XDG_STATE_HOME", "/s")], false, &[]), "/s/turnback");
        assert_eq!(place(&[home, ("XDG_STATE_HOME", "s")], false, &[]), "/home/a/.local/state/turnback");
        assert_eq!(place(&[home, ("XDG_STATE_HOME", "/s")], true, &[]), "/var/lib/turnback");
        assert_eq!(place(&[], false, &[]), "/var/lib/turnback");
        let variable = ("TURNBACK_STATE_DIR", "/v");
        assert_eq!(place(&[home, variable], true, &[]), "/v");
        assert_eq!(place(&[home, ("TURNBACK_STATE_DIR", "")], true, &[]), "/var/lib/turnback");
        assert_eq!(place(&[home, variable], true, &["--state-dir", "/elsewhere"]), "/elsewhere");
    }

    #[test]
    fn the_address_is_the_given_one_or_the_variable_or_the_default() {
        let url = |variables: &[(&str, &str)], arguments: &[&str]| match surroundings(variables)
            .url(&options(arguments))
        {
            Ok(url) => url.to_string(),
            Err(failure) => format!("failure: {failure}"),
        };
        assert_eq!(url(&[], &[]), "http://127.0.0.1:7440/");
        assert_eq!(url(&[("TURNBACK_URL", "")], &[]), "http://127.0.0.1:7440/");
        assert_eq!(url(&[("TURNBACK_URL", "http://v:1")], &[]), "http://v:1/");
        assert_eq!(url(&[("TURNBACK_URL", "nonsense")], &["--url", "http://g:1"]), "http://g:1/");
        assert!(url(&[("TURNBACK_URL", "nonsense")], &[]).starts_with("failure: TURNBACK_URL: "));
    }

    #[test]
    fn the_token_comes_from_the_first_place_that_was_named() {
        let dir = tempfile::tempdir().unwrap();
        let (state, named) = (dir.path().to_str().unwrap(), dir.path().join("named"));
        let (state_dir, named_file) = (["--state-dir", state], ["--token-file", named.to_str().unwrap()]);
        let from = |variables: &[(&str, &str)], arguments: &[&str]| match surroundings(variables)
            .token(&options(arguments))
        {
            Ok(Token::Known { token, .. }) => token,
            Ok(Token::Unknown { why }) => format!("unknown: {why}"),
            Err(failure) => format!("failure: {failure}"),
        };
        assert!(from(&[], &state_dir).starts_with("unknown: cannot read the token in "));
        std::fs::write(dir.path().join(TOKEN_FILE), "own\n").unwrap();
        assert_eq!(from(&[], &state_dir), "own");
        assert_eq!(from(&[("TURNBACK_TOKEN", "variable")], &state_dir), "variable");
        assert!(from(&[], &named_file).starts_with("failure: cannot read the token in "));
        std::fs::write(&named, "named\n").unwrap();
        assert_eq!(from(&[("TURNBACK_TOKEN", "variable")], &named_file), "named");
        for bad in ["", " \n", "two words", "line\nbreak", "\u{1b}[31m", "ü", &"x".repeat(5_000)] {
            std::fs::write(&named, bad).unwrap();
            let said = from(&[], &named_file);
            assert!(
                said.starts_with("failure: ") && (bad.trim().is_empty() || !said.contains(bad)),
                "{said:?}"
            );
        }
    }

    #[test]
    fn behind_sudo_it_is_the_person() {
        assert_eq!(surroundings(&[("USER", "root"), ("SUDO_USER", "ada")]).actor(), "ada");
        assert_eq!(surroundings(&[("USER", "ada"), ("SUDO_USER", "")]).actor(), "ada");
        assert_eq!(surroundings(&[]).actor(), "operator");
    }
}
