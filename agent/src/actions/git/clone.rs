//! The scratch clone: a repository of our own for one attempt, and the runs of `git` in it.
//!
//! Nothing of the machine gets in (no system or user configuration, no templates and therefore no hooks, no credential
//! helpers, no prompts, no other protocol than the configured one) and nothing of the repository is run (hooks are not
//! fetched; filters and merge drivers would need configuration, and there is none).

use super::super::output::line;
use super::super::program::{Program, Ran, Scratch, Trouble};
use super::super::{Context, pulled_already};
use super::permanent;
use crate::secrets::{Redactor, Secret};
use base64::Engine as _;
use rules::action::git::{GitLogin, GitSpec, MOST_COMMITS};
use rules::action::{FailureKind, StepOutcome};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Where the fetched references stand in the clone: names of ours, which no tag or branch can shadow.
pub(super) const BRANCH: &str = "refs/turnback/branch";
pub(super) const OWN: &str = "refs/turnback/own";
pub(super) const BAD: &str = "refs/turnback/bad";
pub(super) const GOOD: &str = "refs/turnback/good";

/// What may be fetched. The last commits of nearly every repository are smaller; a disk that is full is worse than a
/// revert by hand.
const LARGEST: u64 = 1024 * 1024 * 1024;
/// How often the size is looked at while a fetch runs.
const SIZE_EVERY: Duration = Duration::from_millis(250);
/// The fewest digits that are taken for an abbreviated commit, as Git's own shortest default.
const SHORTEST_COMMIT: usize = 7;

/// A repository for one attempt, removed with it.
pub(super) struct ScratchClone<'a> {
    // Removed when the clone is dropped.
    _scratch: Scratch,
    program: Program,
    repository: &'a str,
    depth: u32,
    context: &'a Context,
    deadline: Instant,
}

impl<'a> ScratchClone<'a> {
    /// Makes an empty repository.
    pub(super) async fn new(
        spec: &'a GitSpec,
        secret: Option<&Secret>,
        redactor: &Redactor,
        context: &'a Context,
        deadline: Instant,
    ) -> Result<Self, StepOutcome> {
        let no_room = |error: io::Error| StepOutcome::Failed {
            kind: FailureKind::Retryable,
            reason: format!("cannot make a scratch directory: {}", line(&error.to_string(), redactor)),
            output: String::new(),
        };
        let scratch = Scratch::new("git").map_err(no_room)?;
        let program = prepared(&scratch, spec, secret, redactor).map_err(no_room)?;
        let clone = Self {
            _scratch: scratch,
            program,
            repository: &spec.repository,
            depth: spec.depth,
            context,
            deadline,
        };
        clone.must("making a scratch repository", &["init", "--quiet", "--template="]).await?;
        Ok(clone)
    }

    async fn run(&self, arguments: &[&str]) -> Result<Ran, Trouble> {
        self.program.run(arguments, self.context, self.deadline).await
    }

    /// A run before the push: whatever goes wrong, nothing has happened.
    async fn ask(&self, arguments: &[&str]) -> Result<Ran, StepOutcome> {
        self.run(arguments).await.map_err(|trouble| match trouble {
            Trouble::NotStarted { kind, reason } => {
                StepOutcome::Failed { kind, reason, output: String::new() }
            }
            Trouble::Ended { reason, said } => match pulled_already(&self.context.cancel) {
                Some(reason) => StepOutcome::NotBegun { reason },
                None => StepOutcome::Failed {
                    kind: FailureKind::Retryable,
                    reason: format!("git {}: {reason}; nothing was pushed", arguments[0]),
                    output: said,
                },
            },
        })
    }

    /// The answer of a run that has to succeed.
    async fn must(&self, doing: &str, arguments: &[&str]) -> Result<String, StepOutcome> {
        let ran = self.ask(arguments).await?;
        if ran.code == 0 { Ok(ran.text()) } else { Err(self.refused(doing, &ran)) }
    }

    fn refused(&self, doing: &str, ran: &Ran) -> StepOutcome {
        let last = ran.said.lines().find(|line| line.starts_with("fatal:")).or(ran.said.lines().next_back());
        let last = line(last.unwrap_or_default(), &self.program.redactor);
        StepOutcome::Failed {
            kind: if is_lasting(&ran.said) { FailureKind::Permanent } else { FailureKind::Retryable },
            reason: format!("{doing} failed (git's exit code {}): {last}", ran.code),
            output: ran.said.clone(),
        }
    }

    /// Which of these references the repository has.
    pub(super) async fn remote_refs(&self, names: &[&str]) -> Result<BTreeSet<String>, StepOutcome> {
        let mut arguments = vec!["ls-remote", "--quiet", "--end-of-options", self.repository];
        arguments.extend(names);
        let answer = self.must("asking the repository for its references", &arguments).await?;
        // Git takes the names for the ends of names.
        let found = answer.lines().filter_map(|line| Some(line.split_once('\t')?.1));
        Ok(found.filter(|name| names.contains(name)).map(str::to_owned).collect())
    }

    /// Fetches references to names of ours.
    pub(super) async fn fetch(&self, wanted: &[(String, &str)]) -> Result<(), StepOutcome> {
        if wanted.is_empty() {
            return Ok(());
        }
        let depth = format!("--depth={}", self.depth);
        let mut arguments = vec!["fetch", "--quiet", &depth, "--no-tags", "--no-recurse-submodules"];
        arguments.extend(["--no-auto-maintenance", "--end-of-options", self.repository]);
        let pairs: Vec<String> = wanted.iter().map(|(theirs, ours)| format!("{theirs}:{ours}")).collect();
        arguments.extend(pairs.iter().map(String::as_str));
        let objects = self.program.directory.join(".git/objects");
        tokio::select! {
            fetched = self.must("fetching", &arguments) => fetched.map(|_| ()),
            () = grown(&objects, LARGEST) => {
                let text = format!("the last {} commits are larger than {LARGEST} bytes; lower `depth`", self.depth);
                Err(permanent(text))
            }
        }
    }

    /// The fetched commits that carry this key.
    pub(super) async fn with_key(&self, key: &str) -> Result<Vec<String>, StepOutcome> {
        if !key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Err(permanent(format!("the key {key:?} is not one of ours")));
        }
        // Anywhere in the message: whoever squashes our commits leaves the line, but not at the end.
        let pattern = format!("--grep=^[ *]*Turnback-Key: {key} *$");
        let arguments = ["log", "--all", "--extended-regexp", &pattern, "--max-count=100", "--format=%H"];
        // With nothing fetched there is no history to search, which Git would not call an error either.
        Ok(self.must("searching for the key", &arguments).await?.lines().map(str::to_owned).collect())
    }

    /// The commit behind a tag (fetched as `local`) or behind its own name.
    pub(super) async fn resolve(&self, name: &str, local: &str, depth: u32) -> Result<String, StepOutcome> {
        let tag = self.commit_of(local).await?;
        let is_commit = name.len() >= SHORTEST_COMMIT && name.chars().all(|c| c.is_ascii_hexdigit());
        let commit = if is_commit { self.commit_of(name).await? } else { None };
        match (tag, commit) {
            (Some(tag), Some(commit)) if tag != commit => Err(permanent(format!(
                "{name} is a tag and the beginning of another commit; write the whole commit"
            ))),
            (Some(found), _) | (None, Some(found)) => Ok(found),
            (None, None) => Err(permanent(format!(
                "there is no tag {name} in the repository, nor such a commit among the last {depth}"
            ))),
        }
    }

    async fn commit_of(&self, name: &str) -> Result<Option<String>, StepOutcome> {
        let commit = format!("{name}^{{commit}}");
        let ran = self.ask(&["rev-parse", "--verify", "--quiet", &commit]).await?;
        let found = ran.text().trim().to_owned();
        Ok((ran.code == 0 && !found.is_empty()).then_some(found))
    }

    /// Whether `older` is `newer` or comes before it, as far as was fetched.
    pub(super) async fn is_ancestor(&self, older: &str, newer: &str) -> Result<bool, StepOutcome> {
        let ran = self.ask(&["merge-base", "--is-ancestor", older, newer]).await?;
        match ran.code {
            0 => Ok(true),
            1 => Ok(false),
            _ => Err(self.refused("comparing commits", &ran)),
        }
    }

    /// The commits after `good` up to `bad`, the newest first; one more than may be reverted at most.
    pub(super) async fn range(&self, good: &str, bad: &str) -> Result<Vec<String>, StepOutcome> {
        let (most, range) = (format!("--max-count={}", MOST_COMMITS + 1), format!("{good}..{bad}"));
        let answer = self.must("listing the commits", &["rev-list", "--topo-order", &most, &range]).await?;
        Ok(answer.lines().map(str::to_owned).collect())
    }

    /// Each commit with its number of parents. At the edge of what was fetched that is 0.
    pub(super) async fn parents(&self, commits: &[String]) -> Result<Vec<(String, usize)>, StepOutcome> {
        let mut arguments = vec!["rev-list", "--parents", "--no-walk=unsorted"];
        arguments.extend(commits.iter().map(String::as_str));
        let answer = self.must("asking for parents", &arguments).await?;
        let counted = answer.lines().filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?.to_owned(), words.count()))
        });
        Ok(counted.collect())
    }

    /// Makes the branch's last commit the current one, without writing its files.
    pub(super) async fn check_out(&self) -> Result<(), StepOutcome> {
        let info = self.program.directory.join(".git/info");
        let written = std::fs::create_dir_all(&info)
            .and_then(|()| std::fs::write(info.join("sparse-checkout"), "/.turnback-no-such-file\n"));
        if let Err(error) = written {
            return Err(permanent(format!("cannot write into the scratch clone: {error}")));
        }
        self.must("checking out", &["checkout", "--quiet", "--detach", BRANCH]).await.map(|_| ())
    }

    /// The first line of a commit's message.
    pub(super) async fn subject(&self, commit: &str) -> Result<String, StepOutcome> {
        let answer = self.must("reading a commit", &["log", "--max-count=1", "--format=%s", commit]).await?;
        Ok(answer.trim().to_owned())
    }

    /// Reverts a commit in the index. Inner error: the files in conflict, and Git's words.
    pub(super) async fn revert(
        &self,
        commit: &str,
    ) -> Result<Result<(), (Vec<String>, String)>, StepOutcome> {
        let ran = self.ask(&["revert", "--no-commit", commit]).await?;
        if ran.code == 0 {
            return Ok(Ok(()));
        }
        let answer =
            self.must("listing conflicts", &["diff", "--name-only", "--diff-filter=U", "-z"]).await?;
        let files: Vec<String> =
            answer.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if files.is_empty() { Err(self.refused("reverting", &ran)) } else { Ok(Err((files, ran.said))) }
    }

    /// Whether the index differs from the current commit.
    pub(super) async fn has_changes(&self) -> Result<bool, StepOutcome> {
        let ran = self.ask(&["diff", "--cached", "--quiet"]).await?;
        match ran.code {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.refused("comparing with the branch", &ran)),
        }
    }

    /// Commits the index.
    pub(super) async fn commit(&self, message: &str) -> Result<(), StepOutcome> {
        let message = format!("--message={message}");
        let arguments = ["commit", "--quiet", "--no-verify", "--no-gpg-sign", "--cleanup=verbatim", &message];
        self.must("committing", &arguments).await.map(|_| ())
    }

    /// Pushes the current commit to a branch, without force.
    pub(super) async fn push(&self, branch: &str) -> Result<Ran, Trouble> {
        let target = format!("HEAD:refs/heads/{branch}");
        let mut arguments = vec!["push", "--porcelain", "--no-verify", "--no-signed", "--no-follow-tags"];
        arguments.extend(["--recurse-submodules=no", "--end-of-options", self.repository, &target]);
        self.run(&arguments).await
    }
}

/// Failures that do not pass by themselves: who we are, where we are sent.
fn is_lasting(said: &str) -> bool {
    const LASTING: [&str; 9] = [
        "Authentication failed",
        "Permission denied",
        "could not read Username",
        "could not read Password",
        "not found",
        "does not appear to be a git repository",
        "returned error: 40",
        "Host key verification failed",
        "dubious ownership",
    ];
    LASTING.iter().any(|words| said.contains(words))
}

/// Returns once a directory holds more than `limit` bytes.
async fn grown(directory: &Path, limit: u64) {
    while size(directory, 4) <= limit {
        sleep(SIZE_EVERY).await;
    }
}

/// Bytes in a directory, as far as can be seen: what vanishes meanwhile counts nothing.
fn size(directory: &Path, levels: u32) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() && levels > 0 => size(&entry.path(), levels - 1),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn prepared(
    scratch: &Scratch,
    spec: &GitSpec,
    secret: Option<&Secret>,
    redactor: &Redactor,
) -> io::Result<Program> {
    let (home, directory) = (scratch.path().join("home"), scratch.path().join("repository"));
    std::fs::create_dir(&home)?;
    std::fs::create_dir(&directory)?;
    let mut settings = vec![
        ("core.hooksPath", "/dev/null".to_owned()),
        ("core.fsmonitor", "false".to_owned()),
        ("core.autocrlf", "false".to_owned()),
        ("core.sparseCheckout", "true".to_owned()),
        ("core.sparseCheckoutCone", "false".to_owned()),
        ("credential.helper", String::new()),
        ("http.followRedirects", "false".to_owned()),
        ("gc.auto", "0".to_owned()),
        ("init.defaultBranch", "scratch".to_owned()),
        ("advice.detachedHead", "false".to_owned()),
    ];
    let mut secrets = BTreeMap::new();
    let mut ssh = "ssh -o BatchMode=yes -o ConnectTimeout=10".to_owned();
    match (&spec.login, secret) {
        (Some(GitLogin::Https { user, .. }), Some(secret)) => {
            let pair =
                base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", secret.expose()));
            let number = settings.len();
            // Placed under its own number below, since it is a secret.
            settings.push(("http.extraHeader", String::new()));
            let header = Secret::from(format!("Authorization: Basic {pair}"));
            secrets.insert(format!("GIT_CONFIG_VALUE_{number}"), header);
        }
        (Some(GitLogin::Ssh { known_hosts, .. }), Some(secret)) => {
            ssh = ssh_command(&home, known_hosts, secret)?;
        }
        _ => {}
    }
    let fixed = [
        ("HOME", home.display().to_string()),
        ("GIT_CONFIG_NOSYSTEM", "1".into()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".into()),
        ("GIT_TERMINAL_PROMPT", "0".into()),
        ("GIT_ASKPASS", "/bin/false".into()),
        ("SSH_ASKPASS", "/bin/false".into()),
        ("GIT_SSH_COMMAND", ssh),
        ("GIT_SSH_VARIANT", "ssh".into()),
        ("GIT_ALLOW_PROTOCOL", protocol(&spec.repository).into()),
        ("GIT_NO_REPLACE_OBJECTS", "1".into()),
        ("GIT_AUTHOR_NAME", spec.author.name.clone()),
        ("GIT_AUTHOR_EMAIL", spec.author.email.clone()),
        ("GIT_COMMITTER_NAME", spec.author.name.clone()),
        ("GIT_COMMITTER_EMAIL", spec.author.email.clone()),
        ("GIT_CONFIG_COUNT", settings.len().to_string()),
    ];
    let mut environment: BTreeMap<String, String> =
        fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    for (number, (key, value)) in settings.into_iter().enumerate() {
        environment.insert(format!("GIT_CONFIG_KEY_{number}"), key.to_owned());
        environment.insert(format!("GIT_CONFIG_VALUE_{number}"), value);
    }
    Ok(Program { name: "git".into(), environment, secrets, directory, redactor: redactor.clone() })
}

fn protocol(repository: &str) -> &'static str {
    match repository.split_once("://") {
        Some(("https", _)) => "https",
        Some(("http", _)) => "http",
        Some(("git", _)) => "git",
        None if repository.starts_with('/') => "file",
        Some(_) | None => "ssh",
    }
}

/// Git hands this to a shell. Only our own path stands in it; everything else is in the file.
fn ssh_command(home: &Path, known_hosts: &str, key: &Secret) -> io::Result<String> {
    let (key_file, config) = (home.join("key"), home.join("ssh_config"));
    if config.display().to_string().contains(['\'', '"', '\n']) {
        return Err(io::Error::other("the directory for temporary files has quotes in its name"));
    }
    let private =
        |path: &Path| std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    // ssh wants the newline at the end that reading a secret cuts off.
    io::Write::write_all(&mut private(&key_file)?, format!("{}\n", key.expose().trim_end()).as_bytes())?;
    let text = format!(
        "BatchMode yes\nConnectTimeout 10\nIdentitiesOnly yes\nIdentityFile \"{}\"\nStrictHostKeyChecking yes\n\
         UserKnownHostsFile \"{known_hosts}\"\nGlobalKnownHostsFile /dev/null\nForwardAgent no\n",
        key_file.display()
    );
    io::Write::write_all(&mut private(&config)?, text.as_bytes())?;
    Ok(format!("ssh -F '{}'", config.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rules::action::SecretRef;

    fn spec(repository: &str, login: GitLogin) -> GitSpec {
        let mut spec: GitSpec =
            serde_saphyr::from_str(&format!("{{ repository: '{repository}', branch: main, bad: v1 }}"))
                .unwrap();
        spec.login = Some(login);
        spec
    }

    #[test]
    fn a_password_is_a_header_that_stands_in_no_argument_and_no_file() {
        let password = SecretRef::Env("T".into());
        let spec = spec("https://git.example/x.git", GitLogin::Https { user: "ada".into(), password });
        let scratch = Scratch::new("test").unwrap();
        let secret = Secret::from("hunter2".to_owned());
        let program = prepared(&scratch, &spec, Some(&secret), &Redactor::default()).unwrap();
        let (name, header) = program.secrets.iter().next().unwrap();
        assert_eq!(header.expose(), "Authorization: Basic YWRhOmh1bnRlcjI=");
        let key = name.replace("VALUE", "KEY");
        assert_eq!(program.environment[&key], "http.extraHeader");
        let count: usize = program.environment["GIT_CONFIG_COUNT"].parse().unwrap();
        assert_eq!(
            program.environment.keys().filter(|name| name.starts_with("GIT_CONFIG_KEY_")).count(),
            count
        );
        assert_eq!(program.environment["GIT_ALLOW_PROTOCOL"], "https");
        assert!(
            program.environment.values().all(|value| !value.contains("hunter2") && !value.contains("YWRh"))
        );
    }

    #[test]
    fn a_key_is_a_private_file_that_goes_with_the_clone() {
        use std::os::unix::fs::PermissionsExt as _;
        let login = GitLogin::Ssh { key: SecretRef::Env("K".into()), known_hosts: "/etc/known".into() };
        let spec = spec("git@git.example:x.git", login);
        let scratch = Scratch::new("test").unwrap();
        let secret = Secret::from("-----KEY-----".to_owned());
        let program = prepared(&scratch, &spec, Some(&secret), &Redactor::default()).unwrap();
        let home = scratch.path().join("home");
        assert_eq!(std::fs::read_to_string(home.join("key")).unwrap(), "-----KEY-----\n");
        for name in ["key", "ssh_config"] {
            let mode = std::fs::metadata(home.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let config = std::fs::read_to_string(home.join("ssh_config")).unwrap();
        assert!(
            config.contains("StrictHostKeyChecking yes")
                && config.contains("UserKnownHostsFile \"/etc/known\"")
        );
        assert_eq!(
            program.environment["GIT_SSH_COMMAND"],
            format!("ssh -F '{}'", home.join("ssh_config").display())
        );
        assert_eq!(program.environment["GIT_ALLOW_PROTOCOL"], "ssh");
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_clone_that_grows_too_large_is_noticed() {
        let scratch = Scratch::new("test").unwrap();
        std::fs::create_dir_all(scratch.path().join("a/pack")).unwrap();
        std::fs::write(scratch.path().join("a/pack/x"), [0; 100]).unwrap();
        grown(&scratch.path().join("a"), 99).await;
        let more =
            tokio::time::timeout(Duration::from_millis(400), grown(&scratch.path().join("a"), 1 << 20)).await;
        assert!(more.is_err());
    }
}
