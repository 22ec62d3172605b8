//! How NATS servers are reached.

use super::{BadBroker, list_problems, secret};
use crate::inlet::Reporter;
use crate::secrets::Secrets;
use async_nats::jetstream::{self, consumer::pull};
use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, Subscriber};
use futures_util::stream::{SelectAll, select_all};
use futures_util::{FutureExt as _, StreamExt as _};
use rules::action::SecretRef;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Addresses to begin with; the cluster tells the others.
const MOST_SERVERS: usize = 50;
/// How long one attempt to connect may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How often the server is asked whether it is there: two missing answers are noticed within half a minute.
const PING_EVERY: Duration = Duration::from_secs(10);

/// NATS servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsConnection {
    /// Addresses of some servers: `nats://host:4222`, or `tls://host:4222`.
    pub servers: Vec<String>,
    /// Who we are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<NatsCredential>,
    /// Certificates that are trusted besides the system's, as a PEM file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// Who we are to NATS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NatsCredential {
    /// A token.
    Token(SecretRef),
    /// A name with a password.
    Password(NatsPassword),
    /// The seed of an NKey.
    Nkey(SecretRef),
    /// The content of a credentials file: a JWT with the seed of its NKey.
    Credentials(SecretRef),
}

/// A name with a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsPassword {
    /// The name.
    pub user: String,
    /// Where the password is.
    pub password: SecretRef,
}

impl NatsConnection {
    /// Everything wrong with it, each with its key.
    pub fn problems(&self) -> Vec<(String, String)> {
        let good = |server: &str| {
            // An address with a password in it would be shown.
            server.parse::<async_nats::ServerAddr>().is_ok_and(|address| !address.has_user_pass())
                && ["nats://", "tls://"].iter().any(|scheme| server.starts_with(scheme))
        };
        list_problems("connection.servers", &self.servers, MOST_SERVERS, good)
    }

    /// The servers and what is heard there, for people.
    pub fn shown_with(&self, stream: Option<&str>, subjects: &[String]) -> String {
        match stream {
            Some(stream) => format!("NATS at {}, stream {stream}", self.shown()),
            None => format!("NATS at {}, subjects {}", self.shown(), subjects.join(", ")),
        }
    }

    /// The addresses, for people.
    pub fn shown(&self) -> String {
        self.servers.join(",")
    }

    /// Connects in the background and goes on doing so: returns before it is connected. What happens to the connection is
    /// told to `reporter`; what the server refuses is noted.
    pub(crate) async fn connect(
        &self,
        secrets: &Arc<Secrets>,
        reporter: Option<Reporter>,
    ) -> Result<(async_nats::Client, Refusals), BadBroker> {
        let refusals = Refusals::default();
        let noted = refusals.clone();
        let mut options = self
            .credential(secrets)?
            .name("turnback")
            .retry_on_initial_connect()
            .connection_timeout(CONNECT_WITHIN)
            .ping_interval(PING_EVERY)
            .event_callback(move |event| {
                if let Event::ServerError(error) = &event {
                    noted.note(error.to_string());
                }
                let reporter = reporter.clone();
                async move { tell(reporter.as_ref(), &event) }
            });
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone());
        }
        let servers: Vec<async_nats::ServerAddr> =
            self.servers.iter().filter_map(|server| server.parse().ok()).collect();
        match options.connect(servers).await {
            Ok(client) => Ok((client, refusals)),
            Err(error) => Err(BadBroker::new("connection", error.to_string())),
        }
    }
}

/// What the server refused last. A subscription that it refuses looks like any other to the client, and hears nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<Option<String>>>);

impl Refusals {
    fn note(&self, words: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
    }

    fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const CREDENTIAL: &str = "connection.credential";

impl NatsConnection {
    /// Tokens and passwords are read again at each attempt to connect, so that a rotated one is seen.
    fn credential(&self, secrets: &Arc<Secrets>) -> Result<ConnectOptions, BadBroker> {
        let Some(credential) = self.credential.clone() else { return Ok(ConnectOptions::new()) };
        Ok(match credential {
            NatsCredential::Token(reference) => {
                secret(secrets, CREDENTIAL, &reference)?;
                let secrets = Arc::clone(secrets);
                ConnectOptions::with_auth_callback(move |_nonce| {
                    let token = secret(&secrets, CREDENTIAL, &reference);
                    async move {
                        let mut auth = Auth::new();
                        auth.token = Some(token.map_err(AuthError::new)?);
                        Ok(auth)
                    }
                })
            }
            NatsCredential::Password(NatsPassword { user, password }) => {
                secret(secrets, CREDENTIAL, &password)?;
                let secrets = Arc::clone(secrets);
                ConnectOptions::with_auth_callback(move |_nonce| {
                    let (user, password) = (user.clone(), secret(&secrets, CREDENTIAL, &password));
                    async move {
                        let mut auth = Auth::new();
                        (auth.username, auth.password) =
                            (Some(user), Some(password.map_err(AuthError::new)?));
                        Ok(auth)
                    }
                })
            }
            NatsCredential::Nkey(seed) => ConnectOptions::with_nkey(secret(secrets, CREDENTIAL, &seed)?),
            NatsCredential::Credentials(file) => {
                ConnectOptions::with_credentials(&secret(secrets, CREDENTIAL, &file)?)
                    .map_err(|error| BadBroker::new(CREDENTIAL, format!("is no credentials file: {error}")))?
            }
        })
    }
}

fn tell(reporter: Option<&Reporter>, event: &Event) {
    let Some(reporter) = reporter else { return };
    match event {
        // Whether anything is heard is for the consumer to say: a connection alone hears nothing.
        Event::Connected => {}
        Event::Disconnected => reporter.down("the connection to NATS is lost"),
        Event::Closed => reporter.down("the connection to NATS was closed"),
        Event::ServerError(error) => reporter.down(format!("NATS refuses: {error}")),
        Event::ClientError(error) => reporter.failed(error.to_string()),
        other => reporter.failed(other.to_string()),
    }
}

/// What is heard of subjects of core NATS: from now on, and what is lost on the way is lost.
pub(crate) struct Hints {
    client: Client,
    refusals: Refusals,
    messages: SelectAll<Subscriber>,
    look: tokio::time::Interval,
}

impl Hints {
    /// How long the server may take to answer.
    const WITHIN: Duration = Duration::from_secs(5);
    /// How often the connection is looked at; the client connects and subscribes again by itself.
    const LOOK_EVERY: Duration = Duration::from_secs(5);
    /// A refusal takes no longer than this to be known.
    const FIRST_LOOK: Duration = Duration::from_secs(1);

    /// Subscribes, and waits until the server has the subscriptions.
    pub(crate) async fn subscribe(
        client: &Client,
        subjects: &[String],
        refusals: Refusals,
    ) -> Result<Hints, String> {
        let mut subscriptions = Vec::new();
        for subject in subjects {
            let subscribed = client.subscribe(subject.clone()).await;
            subscriptions
                .push(subscribed.map_err(|error| format!("cannot subscribe to {subject}: {error}"))?);
        }
        let mut look = tokio::time::interval(Self::LOOK_EVERY);
        look.reset_after(Self::FIRST_LOOK);
        let hints = Hints { client: client.clone(), refusals, messages: select_all(subscriptions), look };
        // The server has the subscriptions when it answers.
        match tokio::time::timeout(Self::WITHIN, client.flush()).await {
            Ok(Ok(())) if hints.is_connected() => Ok(hints),
            _ => Err("NATS does not answer".into()),
        }
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// The next message; meanwhile the board is told whether anything can be heard.
    pub(crate) async fn next(&mut self, reporter: &Reporter) -> Result<async_nats::Message, String> {
        loop {
            tokio::select! {
                message = self.messages.next() => {
                    return message.ok_or_else(|| "the subscriptions ended".to_owned());
                }
                _ = self.look.tick() => {
                    if let Some(words) = self.refusals.last() {
                        return Err(format!("NATS refuses: {words}"));
                    }
                    if self.is_connected() {
                        reporter.up();
                    }
                }
            }
        }
    }

    /// The message and what is there already behind it, up to so many messages and about so many bytes.
    pub(crate) fn following(
        &mut self,
        first: async_nats::Message,
        most: usize,
        most_bytes: usize,
    ) -> Vec<async_nats::Message> {
        let mut bytes = first.payload.len();
        let mut batch = vec![first];
        while batch.len() < most && bytes < most_bytes {
            let Some(Some(message)) = self.messages.next().now_or_never() else { break };
            bytes += message.payload.len();
            batch.push(message);
        }
        batch
    }
}

/// The message that was pulled and what is there already behind it, up to so many messages and about so many bytes.
pub(crate) fn following(
    first: Option<Result<jetstream::Message, pull::MessagesError>>,
    messages: &mut pull::Stream,
    most: usize,
    most_bytes: usize,
) -> Result<Vec<jetstream::Message>, String> {
    let first = first.ok_or("the stream of messages ended")?.map_err(|error| error.to_string())?;
    let mut bytes = first.payload.len();
    let mut batch = vec![first];
    while batch.len() < most && bytes < most_bytes {
        // An error comes again at the next turn.
        let Some(Some(Ok(message))) = messages.next().now_or_never() else { break };
        bytes += message.payload.len();
        batch.push(message);
    }
    Ok(batch)
}

/// Whether NATS would take it as a subject, with wildcards if `wild`.
pub fn is_subject(text: &str, wild: bool) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    let good = |(index, token): (usize, &&str)| match *token {
        "*" => wild,
        ">" => wild && index + 1 == tokens.len(),
        token => !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic() && !"*>".contains(c)),
    };
    text.len() <= 255 && tokens.iter().enumerate().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_have_a_scheme_and_no_password() {
        let read = |yaml: &str| serde_saphyr::from_str::<NatsConnection>(yaml).unwrap();
        assert_eq!(read("{servers: ['nats://a:4222', 'tls://b']}").problems(), Vec::new());
        let bad = read("{servers: ['a:4222', 'nats://user:word@a:4222', 'http://a']}");
        assert_eq!(bad.problems().len(), 3, "{:?}", bad.problems());
        assert_eq!(read("{servers: []}").problems()[0].0, "connection.servers");
    }

    #[test]
    fn subjects() {
        for good in ["deploy", "deploy.checkout", "deploy.*.done", "deploy.>"] {
            assert!(is_subject(good, true), "{good}");
        }
        for bad in ["", "a..b", "a b", "a.>.b", "a*", ".a", "ä"] {
            assert!(!is_subject(bad, true), "{bad}");
        }
        assert!(!is_subject("deploy.>", false) && is_subject("deploy.x", false));
    }
}
