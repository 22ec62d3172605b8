//! Talking to the daemon's HTTP API, and what each way of failing means to whoever sits there.

use super::console::Console;
use super::place::Token;
use super::{Exit, Options, Surroundings};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;

/// The daemon ends every request after 15 s; a little more, so that its own words arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// A daemon on this machine or in this network connects at once or not at all.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer. 200 watches with their plans are under one million.
const LONGEST_ANSWER: usize = 64 << 20;
/// Characters shown of an answer that is not understood.
const EXCERPT: usize = 300;

/// Why the daemon gave no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("cannot reach the daemon; is `turnback run` running? ({url})")]
    Unreachable {
        url: Url,
        #[source]
        source: reqwest::Error,
    },
    #[error("the daemon at {url} gave no whole answer")]
    CutOff {
        url: Url,
        #[source]
        source: reqwest::Error,
    },
    #[error("{words}")]
    Refused { words: String },
    #[error("the daemon does not know you: {words} ({token})")]
    Unauthorised { words: String, token: String },
    #[error("{words}")]
    NotUnderstood { words: String },
    #[error("{words}")]
    NotFound { words: String },
    #[error("the daemon cannot answer now (HTTP {status}): {words}")]
    Busy { status: StatusCode, words: String },
    #[error(
        "{url} does not answer like this version of Turnback: {problem}; check --url and `turnback --version`"
    )]
    Unexpected { url: Url, problem: String },
    #[error("cannot set up the HTTP client")]
    Setup(#[source] reqwest::Error),
}

impl ClientError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::CutOff { .. } | Self::Busy { .. } | Self::Unexpected { .. } => {
                Exit::Unreachable
            }
            Self::Refused { .. } => Exit::Refused,
            Self::Unauthorised { .. } | Self::NotUnderstood { .. } | Self::NotFound { .. } => Exit::Usage,
            Self::Setup(_) => Exit::Inconclusive,
        }
    }

    /// Whether the same question may be answered a moment later.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::CutOff { .. } | Self::Busy { .. })
    }
}

/// Reads `--url`.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text)
        .map_err(|error| format!("{error}; expected something like http://127.0.0.1:7440"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("expected a URL that begins with http:// or https://".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("expected a URL without `?` and `#`".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("expected a URL without user and password; the token comes from --token-file".into());
    }
    Ok(url)
}

/// A connection to the daemon.
pub(super) struct Client<'a> {
    http: reqwest::Client,
    base: Url,
    token: Token,
    actor: &'a str,
    console: &'a Console,
}

impl<'a> Client<'a> {
    /// Redirects are not followed and proxies are not asked: either would show the token to somebody else.
    pub(super) fn new(
        options: &Options,
        surroundings: &'a Surroundings,
        console: &'a Console,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_PATIENCE)
            .timeout(PATIENCE)
            .user_agent(concat!("turnback/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError::Setup)?;
        let token = surroundings.token(options)?;
        Ok(Self { http, base: surroundings.url(options)?, token, actor: surroundings.actor(), console })
    }

    /// The address of a path. Each part is one segment, whatever is in it.
    pub(super) fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// Looks at something.
    pub(super) async fn get(&self, path: &[&str]) -> Result<Value, ClientError> {
        let url = self.url(path);
        let text = self.text_of(url.clone(), self.request(Method::GET, &url)).await?;
        parse(&url, &text)
    }

    /// Looks at a text.
    pub(super) async fn text(&self, path: &[&str]) -> Result<String, ClientError> {
        let url = self.url(path);
        self.text_of(url.clone(), self.request(Method::GET, &url)).await
    }

    /// Asks for something to be done; what became of it, in the daemon's words.
    pub(super) async fn post(&self, path: &[&str], body: &Value) -> Result<String, ClientError> {
        let url = self.url(path);
        self.word(url.clone(), self.request(Method::POST, &url).json(body)).await
    }

    /// Asks for something to be worked out; the answer.
    pub(super) async fn ask(&self, path: &[&str], body: &Value) -> Result<Value, ClientError> {
        let url = self.url(path);
        let text = self.text_of(url.clone(), self.request(Method::POST, &url).json(body)).await?;
        parse(&url, &text)
    }

    /// Asks for something to be lifted; what became of it, in the daemon's words.
    pub(super) async fn delete(&self, url: Url) -> Result<String, ClientError> {
        self.word(url.clone(), self.request(Method::DELETE, &url)).await
    }

    async fn word(&self, url: Url, request: RequestBuilder) -> Result<String, ClientError> {
        let text = self.text_of(url.clone(), request.header("Turnback-Actor", self.actor())).await?;
        let answer: Value = parse(&url, &text)?;
        let result = answer.get("result").and_then(Value::as_str);
        let missing = || ClientError::Unexpected { url, problem: "its answer has no field `result`".into() };
        result.map(str::to_owned).ok_or_else(missing)
    }

    /// The daemon keeps letters, digits and `@._-` of a name; others could not stand in a header.
    fn actor(&self) -> String {
        self.actor.chars().filter(|c| c.is_ascii_graphic()).collect()
    }

    fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        if self.console.verbose {
            self.console.note(&format!("{method} {url}"));
        }
        let request = self.http.request(method, url.clone());
        match &self.token {
            Token::Known { token, .. } => match HeaderValue::try_from(format!("Bearer {token}")) {
                Ok(mut value) => {
                    value.set_sensitive(true);
                    request.header(AUTHORIZATION, value)
                }
                // Was checked to be visible ASCII when it was read; without it the daemon answers 401, and that is said.
                Err(_) => request,
            },
            Token::Unknown { .. } => request,
        }
    }

    async fn text_of(&self, url: Url, request: RequestBuilder) -> Result<String, ClientError> {
        let sent = request.send().await;
        let mut response = sent.map_err(|source| {
            let (url, source) = (self.base.clone(), source.without_url());
            if source.is_connect() {
                ClientError::Unreachable { url, source }
            } else {
                ClientError::CutOff { url, source }
            }
        })?;
        let status = response.status();
        if self.console.verbose {
            self.console.note(&format!("  {status}"));
        }
        let text = read(&url, &mut response).await?;
        if status.is_success() { Ok(text) } else { Err(self.problem(url, status, &text)) }
    }

    fn problem(&self, url: Url, status: StatusCode, text: &str) -> ClientError {
        let said = serde_json::from_str::<Value>(text).ok();
        let said = said.as_ref().and_then(|answer| answer.get("error")).and_then(Value::as_str);
        let words = said.map_or_else(|| text.trim().chars().take(EXCERPT).collect(), str::to_owned);
        match status {
            StatusCode::CONFLICT => ClientError::Refused { words },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ClientError::Unauthorised { words, token: self.token_words() }
            }
            StatusCode::NOT_FOUND if said.is_some() => ClientError::NotFound { words },
            status if status.is_server_error() => ClientError::Busy { status, words },
            status if status.is_client_error() && said.is_some() => ClientError::NotUnderstood { words },
            status => ClientError::Unexpected { url, problem: format!("HTTP {status} {words}") },
        }
    }

    fn token_words(&self) -> String {
        match &self.token {
            Token::Known { from, .. } => format!("the token from {from} is not the daemon's"),
            Token::Unknown { why } => {
                format!("{why}; run this as the daemon's user, or use --token-file or TURNBACK_TOKEN")
            }
        }
    }
}

async fn read(url: &Url, response: &mut Response) -> Result<String, ClientError> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        let chunk =
            chunk.map_err(|source| ClientError::CutOff { url: url.clone(), source: source.without_url() })?;
        let Some(chunk) = chunk else { break };
        if body.len() + chunk.len() > LONGEST_ANSWER {
            let problem = format!("its answer has more than {LONGEST_ANSWER} bytes");
            return Err(ClientError::Unexpected { url: url.clone(), problem });
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body)
        .map_err(|_| ClientError::Unexpected { url: url.clone(), problem: "its answer is not UTF-8".into() })
}

fn parse<T: DeserializeOwned>(url: &Url, text: &str) -> Result<T, ClientError> {
    serde_json::from_str(text).map_err(|error| ClientError::Unexpected {
        url: url.clone(),
        problem: format!("its answer is not the JSON expected: {error}"),
    })
}

impl Client<'_> {
    /// Reads what the daemon answered as what is needed of it.
    pub(super) fn understand<T: DeserializeOwned>(
        &self,
        path: &[&str],
        answer: &Value,
    ) -> Result<T, ClientError> {
        T::deserialize(answer).map_err(|error| ClientError::Unexpected {
            url: self.url(path),
            problem: format!("its answer is not the JSON expected: {error}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_a_daemon_or_refused() {
        for good in ["http://127.0.0.1:7440", "https://turnback.example/base/", "http://[::1]:1"] {
            assert!(base_url(good).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:7440", "ftp://a", "http://", "http://a?b", "http://a#b", "http://u:p@a"] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }
}
