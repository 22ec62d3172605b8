//! What notifiers that send JSON share: the address, the client, and the attempts.

use super::{BadNotifier, NotifyError};
use crate::actions::address::{self, check_url, system_lookup};
use crate::actions::chain;
use crate::secrets::{Redactor, Secrets};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Url};
use rules::action::SecretRef;
use std::time::Duration;
use tokio::time::sleep;

/// Attempts at one message.
const ATTEMPTS: u32 = 3;
/// One attempt's time. Three of them and the pauses fit into the ten seconds after which a notifier is cut off.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(3);
/// Before the second attempt; twice as long before the third.
const PAUSE: Duration = Duration::from_millis(250);
/// As much of a refusal as is shown.
const MOST_SHOWN: usize = 200;

/// Somewhere JSON is posted to.
pub(super) struct Post {
    name: String,
    client: Client,
    url: Url,
    redactor: Redactor,
}

/// What is wrong with a plain address, if anything.
pub(super) fn url_problem(url: &str) -> Option<String> {
    match url.parse::<Url>() {
        Err(error) => {
            Some(format!("is not an address: {error}; write for example https://hooks.example/turnback"))
        }
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            Some(format!("has the scheme {}; use https", url.scheme()))
        }
        Ok(url) => check_url(&url).err().map(|refused| format!("is refused: {refused}")),
    }
}

/// Resolves a secret of the notifier's key.
pub(super) fn secret(
    key: String,
    reference: &SecretRef,
    secrets: &Secrets,
) -> Result<crate::secrets::Secret, BadNotifier> {
    secrets.resolve(reference).map_err(|source| BadNotifier::Secret { key, source })
}

impl Post {
    /// `key` is where the address stands in the configuration. It may be a secret, so errors do not show it.
    pub(super) fn new(name: &str, key: &str, url: &str, secrets: &Secrets) -> Result<Self, BadNotifier> {
        let bad = |problem: String| BadNotifier::Configuration { key: key.to_owned(), problem };
        let url: Url =
            url.trim().parse().map_err(|_| bad("is not an address; it should begin with https://".into()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad("is not an address of https or http".into()));
        }
        check_url(&url).map_err(|refused| bad(format!("is refused: {refused}")))?;
        let client = address::client(system_lookup, ATTEMPT_WITHIN)
            .map_err(|problem| bad(format!("cannot be used: no HTTP client: {problem}")))?;
        Ok(Self { name: name.to_owned(), client, url, redactor: secrets.redactor() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Posts a body, up to three times. `headers` are made anew for each attempt, since signatures carry the time.
    pub(super) async fn send(
        &self,
        body: &str,
        headers: impl Fn() -> Result<HeaderMap, String> + Send + Sync,
    ) -> Result<(), NotifyError> {
        let mut attempt = 1;
        loop {
            let headers = headers().map_err(|reason| self.refused(&reason))?;
            let error = match self.once(body, headers).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if attempt == ATTEMPTS || matches!(error, NotifyError::Refused { .. }) {
                return Err(error);
            }
            sleep(PAUSE * attempt).await;
            attempt += 1;
        }
    }

    async fn once(&self, body: &str, mut headers: HeaderMap) -> Result<(), NotifyError> {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = self.client.post(self.url.clone()).headers(headers).body(body.to_owned());
        let mut response = match request.timeout(ATTEMPT_WITHIN).send().await {
            Ok(response) => response,
            Err(error) => {
                return Err(match address::refusal(&error) {
                    Some(refused) => self.refused(&refused.to_string()),
                    // Whether it arrived or not: telling twice does no harm.
                    None => self.passing(&chain(&error.without_url())),
                });
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        // The first piece says what is wrong ("invalid_token"); the rest is not waited for.
        let said = match response.chunk().await {
            Ok(Some(piece)) => super::clean(&String::from_utf8_lossy(&piece), MOST_SHOWN).replace('\n', " "),
            Ok(None) => "nothing more".into(),
            Err(error) => format!("nothing readable ({})", chain(&error.without_url())),
        };
        let reason = format!("it answered HTTP {} and said: {said}", status.as_u16());
        Err(match status.as_u16() {
            408 | 425 | 429 | 500..=599 => self.passing(&reason),
            _ => self.refused(&reason),
        })
    }

    fn passing(&self, reason: &str) -> NotifyError {
        NotifyError::Passing { name: self.name.clone(), reason: self.redactor.redact(reason) }
    }

    fn refused(&self, reason: &str) -> NotifyError {
        NotifyError::Refused { name: self.name.clone(), reason: self.redactor.redact(reason) }
    }
}
