//! Going back in a Git repository: revert commits on top of the branch, never a moved or forced branch.
//!
//! The history stays, other people's work on the branch stays, and whoever watches the branch (a pipeline, a GitOps
//! controller) sees an ordinary commit. Each revert commit names the plan and the key of its step as trailers, so that
//! it can be found again: a lost answer to the push is looked up and not pushed twice.

use super::SecretRef;
use crate::runbook::{BadTemplate, Values, check_template, fill};
use serde::{Deserialize, Serialize};

/// Commits reverted by one step. A release of more is not reverted blindly, and each commit costs about four runs of
/// `git`.
pub const MOST_COMMITS: usize = 50;
/// As deep as may be asked for: what lies further back is not the release of this hour.
const DEEPEST: u32 = 10_000;
/// Of the name of a branch or tag; the file systems of servers allow 255 bytes a component.
const LONGEST_NAME: usize = 200;

/// Reverts the commits that brought a release and pushes the revert commits, without force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitSpec {
    /// The address of the repository: `https://`, `ssh://`, `git@host:path`, `git://` or an absolute path. Without
    /// placeholders and without credentials.
    pub repository: String,
    /// The branch that the release came from.
    pub branch: String,
    /// The tag or commit of the bad release. It must be on the branch.
    pub bad: String,
    /// The tag or commit to return to: what came after it, up to and including `bad`, is reverted, the newest first.
    /// Without it `bad` alone is reverted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<String>,
    /// Where the revert commits go.
    #[serde(default)]
    pub push: GitPush,
    /// How to log in. Without it the repository must be open to the agent as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<GitLogin>,
    /// In whose name the commits are made.
    #[serde(default)]
    pub author: GitAuthor,
    /// How many commits of the branch are fetched. `bad` and `good` must be among them.
    #[serde(default = "default_depth")]
    pub depth: u32,
}

/// Where the revert commits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GitPush {
    /// Onto the branch itself, if the repository's rules allow it.
    #[default]
    Branch,
    /// To a new branch `turnback/PLAN`, for people to merge.
    NewBranch,
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum GitLogin {
    /// With a name and a password or token, over HTTPS.
    Https {
        /// The name: `x-access-token` at GitHub, `oauth2` at GitLab.
        user: String,
        /// The password or token.
        password: SecretRef,
    },
    /// With a key, over SSH.
    Ssh {
        /// The private key, without a passphrase.
        key: SecretRef,
        /// The file that knows the server's own key; an unknown server is refused.
        known_hosts: String,
    },
}

/// In whose name commits are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitAuthor {
    /// The name.
    pub name: String,
    /// The mail address.
    pub email: String,
}

impl Default for GitAuthor {
    fn default() -> Self {
        Self { name: "Turnback".into(), email: "turnback@localhost".into() }
    }
}

fn default_depth() -> u32 {
    500
}

impl GitSpec {
    /// One line that says exactly what will be done.
    pub fn words(&self) -> String {
        let what = match &self.good {
            Some(good) => format!("what came after {good} up to {}", self.bad),
            None => format!("the commit {}", self.bad),
        };
        let target = match self.push {
            GitPush::Branch => self.branch.clone(),
            GitPush::NewBranch => "a new branch turnback/PLAN".into(),
        };
        format!("git: revert {what} on {} of {}, push to {target}", self.branch, self.repository)
    }

    /// The secrets, each with its key below `git.`.
    pub fn secrets(&self) -> Vec<(String, &SecretRef)> {
        match &self.login {
            None => Vec::new(),
            Some(GitLogin::Https { password, .. }) => vec![("login.https.password".into(), password)],
            Some(GitLogin::Ssh { key, .. }) => vec![("login.ssh.key".into(), key)],
        }
    }

    /// With every placeholder filled in.
    pub fn filled(&self, values: &Values) -> Result<Self, BadTemplate> {
        let plain = |text: &String| fill(text, values, str::to_owned);
        Ok(Self {
            branch: plain(&self.branch)?,
            bad: plain(&self.bad)?,
            good: self.good.as_ref().map(plain).transpose()?,
            ..self.clone()
        })
    }

    /// Everything wrong with it, each with the path of its key, which begins with `at`. What holds a placeholder is
    /// checked once it is filled in.
    pub fn problems(&self, at: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut add = |key: &str, problem: Option<String>| {
            found.extend(problem.map(|problem| (format!("{at}.{key}"), problem)));
        };
        add("repository", repository_problem(&self.repository));
        for (key, name) in self.names() {
            match check_template(name) {
                Err(bad) => add(key, Some(bad.to_string())),
                Ok(()) if name.contains("{{") => {}
                Ok(()) => add(key, name_problem(name)),
            }
        }
        if self.depth == 0 || self.depth > DEEPEST {
            add("depth", Some(format!("must be between 1 and {DEEPEST}")));
        }
        for (key, text) in [("author.name", &self.author.name), ("author.email", &self.author.email)] {
            let unfit = |c: char| c.is_control() || matches!(c, '<' | '>');
            if text.trim().is_empty() || text.contains(unfit) {
                add(key, Some("must be a plain text without < and >".into()));
            }
        }
        match &self.login {
            Some(GitLogin::Ssh { known_hosts, .. })
                if !known_hosts.starts_with('/')
                    || known_hosts.contains(|c: char| c.is_control() || c == '"') =>
            {
                add("login.ssh.known_hosts", Some("must be the absolute path of a file".into()));
            }
            Some(GitLogin::Https { user, .. }) if user.is_empty() || user.contains([':', '\n', '\r']) => {
                add("login.https.user", Some("must be a name without a colon".into()));
            }
            Some(GitLogin::Https { .. }) if !self.repository.starts_with("https://") => {
                let text = "sends a password and needs a repository that begins with https://";
                add("login.https", Some(text.into()));
            }
            Some(_) | None => {}
        }
        found
    }

    /// The names of branches, tags and commits, each with its key.
    fn names(&self) -> impl Iterator<Item = (&'static str, &String)> {
        [("branch", Some(&self.branch)), ("bad", Some(&self.bad)), ("good", self.good.as_ref())]
            .into_iter()
            .filter_map(|(key, name)| Some((key, name?)))
    }
}

fn repository_problem(repository: &str) -> Option<String> {
    if repository.contains("{{") {
        return Some("may not hold placeholders: no event may choose where the agent writes".into());
    }
    if repository.contains(|c: char| c.is_control() || c == ' ') {
        return Some("holds a space or a control character".into());
    }
    let schemes = ["https://", "http://", "ssh://", "git://"];
    let host = match schemes.iter().find_map(|scheme| repository.strip_prefix(scheme)) {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None if repository.starts_with('/') => return None,
        // The short form of ssh: git@host:path.
        None => match repository.split_once(':') {
            Some((host, path)) if host.contains('@') && !host.contains('/') && !path.starts_with(':') => host,
            _ => {
                return Some(format!(
                    "must begin with one of {}, be git@HOST:PATH, or an absolute path",
                    schemes.join(", ")
                ));
            }
        },
    };
    let (user, host) = host.rsplit_once('@').unwrap_or(("", host));
    if host.is_empty() || host.starts_with('-') || user.starts_with('-') {
        return Some("names no usable host".into());
    }
    let secret = user.contains(':') || (repository.starts_with("http") && !user.is_empty());
    secret.then(|| "holds credentials; put them into `login`".into())
}

/// What keeps a text from being the name of a branch, tag or commit, if anything: Git's own rules, and none of the
/// characters with which Git reads more into a name than a name.
pub fn name_problem(name: &str) -> Option<String> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "._/@+=%-".contains(c));
    let component = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    let problem = if name.len() > LONGEST_NAME {
        format!("is longer than {LONGEST_NAME} bytes")
    } else if let Some(c) = name.chars().find(|c| odd(*c)) {
        format!("holds {c:?}")
    } else if name.starts_with('-') || name.ends_with('.') || name.contains("..") || name.contains("@{") {
        "is not a plain name".into()
    } else if name == "@" || name.split('/').any(component) {
        "has an empty part, or one that begins with a dot or ends with .lock".into()
    } else {
        return None;
    };
    Some(format!(
        "{:?} cannot be a branch, tag or commit: it {problem}",
        name.chars().take(64).collect::<String>()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> GitSpec {
        serde_saphyr::from_str("{ repository: /srv/shop.git, branch: main, bad: 'v{{from.version}}' }")
            .unwrap()
    }

    #[test]
    fn what_is_left_out_is_harmless() {
        let spec = spec();
        assert_eq!((spec.push, spec.depth, &spec.login), (GitPush::Branch, 500, &None));
        assert_eq!(spec.problems("git"), []);
        let filled = spec.filled(&Values::default().with("from.version", "1.4.0")).unwrap();
        assert_eq!(filled.bad, "v1.4.0");
        assert_eq!(filled.words(), "git: revert the commit v1.4.0 on main of /srv/shop.git, push to main");
    }

    #[test]
    fn names_that_git_reads_more_into_are_refused() {
        for good in ["main", "v1.4.0", "release/2026-03", "shop@1.2.3", "0123abc", "a+b=c%d"] {
            assert_eq!(name_problem(good), None, "{good}");
        }
        for bad in [
            "",
            "-x",
            "--upload-pack=touch /x",
            "a..b",
            "a~1",
            "a^",
            "a:b",
            "@",
            "a@{1}",
            "a b",
            "a\nb",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.",
            "ä",
            "sha256:0123",
            "*",
            "a\\b",
        ] {
            assert!(name_problem(bad).is_some(), "{bad:?}");
        }
        assert!(name_problem(&"a".repeat(201)).is_some());
    }

    #[test]
    fn repositories_are_addresses_and_nothing_else() {
        for good in [
            "https://github.com/a/b.git",
            "git@github.com:a/b.git",
            "ssh://git@host:22/a",
            "git://127.0.0.1:9418/a",
            "/srv/a.git",
        ] {
            assert_eq!(repository_problem(good), None, "{good}");
        }
        for bad in [
            "",
            "shop",
            "../x",
            "ext::sh -c x",
            "ext::sh",
            "fd::17",
            "file:///srv/x",
            "-oProxyCommand=x",
            "ssh://-oProxyCommand=x/y",
            "git@-oProxyCommand=x:y",
            "https://",
            "https://user:pass@host/x",
            "https://token@host/x",
            "https://{{service}}/x",
            "a@b::c",
            "host:path",
        ] {
            assert!(repository_problem(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn problems_name_the_key() {
        let mut spec = spec();
        spec.branch = "a b".into();
        spec.good = Some("{{nope}}".into());
        spec.depth = 0;
        spec.author.email = "<>".into();
        spec.login = Some(GitLogin::Https { user: "a".into(), password: SecretRef::Env("T".into()) });
        let keys: Vec<String> = spec.problems("at").into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["at.branch", "at.good", "at.depth", "at.author.email", "at.login.https"]);
        assert_eq!(spec.secrets()[0].0, "login.https.password");
    }
}
