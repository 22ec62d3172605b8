//! A vendor that is none: takes what an example of a preset sends, writes it down, and answers as told.
//!
//! What is tested here is the road that a step really takes, [`run_step`](crate::actions::run_step) with its actions, and not a picture of it.
//! Only the destination is another one: host and port of a request become those of a listener on this machine, and a
//! program becomes a shell that notes its arguments and environment. Nothing reaches a vendor.
//!
//! Each role of a step (`apply`, `inspect`, `verify`, `undo`) has its own path or file, so that it shows which of them
//! was asked, how often, and with what.

mod exchange;
mod play;
#[cfg(test)]
mod tests;

pub use play::{Case, Fault, check};

use crate::secrets::Secrets;
use rules::action::{ActionSpec, CommandSpec, HttpSpec, SecretRef};
use rules::preset::Sent;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use tokio::net::TcpListener;

/// What one role of a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The action.
    Apply,
    /// The look before it.
    Inspect,
    /// The question after it.
    Verify,
    /// What takes it back.
    Undo,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Apply => "apply",
            Role::Inspect => "inspect",
            Role::Verify => "verify",
            Role::Undo => "undo",
        }
    }
}

/// How the other side behaves in one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A request is answered like this.
    Answer { status: u16, body: String },
    /// A program ends with this code.
    Exit(i32),
    /// Something was received, and nothing comes back.
    Lost,
}

/// What arrived in a role, and the key that it carried.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    pub(crate) role: Role,
    pub(crate) sent: Sent,
    pub(crate) key: Option<String>,
}

/// The vendor that is none.
pub(crate) struct Recorder {
    listener: TcpListener,
    directory: Directory,
    replies: BTreeMap<Role, Reply>,
    /// What the actions would have spoken to: scheme and host, or the directory, by role.
    places: BTreeMap<Role, String>,
    variables: BTreeMap<String, String>,
}

/// A directory of our own that goes away with us.
struct Directory(PathBuf);

impl Directory {
    fn make() -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let path = std::env::temp_dir().join(format!("turnback-recorder-{}", hex::encode(random)));
        // Fails if it is there already, so that nobody can have prepared it.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "the recorder's directory stays behind");
        }
    }
}

/// Notes arguments and environment, separated by NUL bytes, then ends as told. `$1` is the directory, `$2` the role.
const NOTE: &str = r#"
directory=$1 role=$2
shift 2
printf '%s\0' "$@" > "$directory/$role.argv" && env -0 > "$directory/$role.env" || exit 99
echo x >> "$directory/$role.count"
read -r code < "$directory/$role.code"
test "$code" = lost && kill -9 $$
exit "$code"
"#;

impl Recorder {
    /// Listens on a free port of this machine. Errors: there is no port or no room for files.
    pub(crate) async fn start() -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(("127.0.0.1", 0)).await?,
            directory: Directory::make()?,
            replies: BTreeMap::new(),
            places: BTreeMap::new(),
            variables: BTreeMap::new(),
        })
    }

    /// The action, sent here instead of where it would go.
    pub(crate) fn redirect(
        &mut self,
        role: Role,
        action: &ActionSpec,
        reply: Reply,
    ) -> io::Result<ActionSpec> {
        let redirected = match action {
            ActionSpec::Http(http) => {
                self.learn(http.secret_headers.values());
                let (place, path) = split(&http.url);
                self.places.insert(role, place.to_owned());
                let url = format!("http://{}/{}{path}", self.listener.local_addr()?, role.name());
                ActionSpec::Http(HttpSpec { url, ..http.clone() })
            }
            ActionSpec::Command(command) => {
                self.learn(command.secret_env.values());
                let directory = self.directory.0.display().to_string();
                self.places.insert(role, command.directory.clone().unwrap_or_default());
                let code = match &reply {
                    Reply::Exit(code) => code.to_string(),
                    Reply::Answer { .. } | Reply::Lost => "lost".into(),
                };
                std::fs::write(self.directory.0.join(format!("{}.code", role.name())), code + "\n")?;
                let note = ["/bin/sh", "-c", NOTE, "/bin/sh", &directory, role.name()];
                let argv = note.into_iter().map(str::to_owned).chain(command.argv.iter().cloned()).collect();
                ActionSpec::Command(CommandSpec { argv, directory: Some(directory), ..command.clone() })
            }
            ActionSpec::Git(_) | ActionSpec::Sql(_) | ActionSpec::Redis(_) | ActionSpec::Kubernetes(_) => {
                let problem = format!("only programs and requests are recorded, not {}", action.family());
                return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
            }
        };
        self.replies.insert(role, reply);
        Ok(redirected)
    }

    /// Every secret that an action names, as `secret-of-NAME`.
    pub(crate) fn secrets(&self) -> Secrets {
        Secrets::from_variables(self.variables.clone())
    }

    fn learn<'a>(&mut self, references: impl Iterator<Item = &'a SecretRef>) {
        for reference in references {
            if let SecretRef::Env(name) = reference {
                self.variables.insert(name.clone(), format!("secret-of-{name}"));
            }
        }
    }
}

/// Scheme and host, and what comes after them.
fn split(url: &str) -> (&str, &str) {
    let host = url.find("://").map_or(0, |at| at + 3);
    let end = url[host..].find(['/', '?']).map_or(url.len(), |at| host + at);
    url.split_at(end)
}
