//! Our own JSON, posted to an address: for pagers, chats and scripts that we have no words for.
//!
//! The body is the [`Message`]. With a signing secret it is signed as Standard Webhooks describes (`webhook-id`,
//! `webhook-timestamp`, `webhook-signature`), so that receivers can use an existing library. The identifier is the same
//! for each attempt at one message: messages may come twice, and receivers tell by it.

use super::post::{Post, secret, url_problem};
use super::{BadNotifier, Message, Notifier, NotifyError, Now};
use crate::secrets::{Secret, Secrets};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use rules::action::SecretRef;
use rules::ids::fingerprint;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// A receiver of our own JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// The address, if it holds no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where the address is, if it holds a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_url: Option<SecretRef>,
    /// Sent as `Authorization: Bearer ...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretRef>,
    /// The secret that messages are signed with (HMAC-SHA256): `whsec_` and base64, or any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sign_with: Option<SecretRef>,
}

impl WebhookConfig {
    /// Everything wrong with it, each with the key at fault.
    pub fn problems(&self) -> Vec<(String, String)> {
        let problem = match (&self.url, &self.secret_url) {
            (Some(url), None) => url_problem(url),
            (None, Some(_)) => None,
            (None, None) => {
                Some("is missing; give `url`, or `secret_url` if the address holds a secret".into())
            }
            (Some(_), Some(_)) => Some("and `secret_url` are both given; keep one".into()),
        };
        problem.into_iter().map(|text| ("url".to_owned(), text)).collect()
    }
}

/// Posts messages as JSON.
pub struct Webhook {
    post: Post,
    bearer: Option<HeaderValue>,
    key: Option<zeroize::Zeroizing<Vec<u8>>>,
    now: Now,
}

impl Webhook {
    /// Resolves the secrets. Errors: see [`BadNotifier`].
    pub fn new(name: &str, config: &WebhookConfig, secrets: &Secrets, now: Now) -> Result<Self, BadNotifier> {
        let at = |key: &str| format!("webhook.{name}.{key}");
        if let Some((key, problem)) = config.problems().into_iter().next() {
            return Err(BadNotifier::Configuration { key: at(&key), problem });
        }
        let optional = |key: &str, reference: &Option<SecretRef>| {
            reference.as_ref().map(|reference| secret(at(key), reference, secrets)).transpose()
        };
        let bearer = match optional("bearer", &config.bearer)? {
            Some(token) => Some(
                bearer(&token)
                    .map_err(|problem| BadNotifier::Configuration { key: at("bearer"), problem })?,
            ),
            None => None,
        };
        let key = match optional("sign_with", &config.sign_with)? {
            Some(text) => Some(
                key(&text).map_err(|problem| BadNotifier::Configuration { key: at("sign_with"), problem })?,
            ),
            None => None,
        };
        let post = match (optional("secret_url", &config.secret_url)?, &config.url) {
            (Some(url), _) => Post::new(name, &at("secret_url"), url.expose(), secrets)?,
            (None, url) => Post::new(name, &at("url"), url.as_deref().unwrap_or_default(), secrets)?,
        };
        Ok(Self { post, bearer, key, now })
    }

    fn headers(&self, id: &str, body: &str) -> Result<HeaderMap, String> {
        let value =
            |text: &str| HeaderValue::from_str(text).map_err(|error| format!("a header is unfit: {error}"));
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", value(id)?);
        if let Some(bearer) = &self.bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        if let Some(key) = &self.key {
            let seconds = (self.now)().as_second();
            headers.insert("webhook-timestamp", value(&seconds.to_string())?);
            headers.insert("webhook-signature", value(&signature(key, id, seconds, body)?)?);
        }
        Ok(headers)
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .map_err(|_| "holds a character that cannot stand in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn key(text: &Secret) -> Result<zeroize::Zeroizing<Vec<u8>>, String> {
    match text.expose().strip_prefix("whsec_") {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map(Into::into)
            .map_err(|_| "begins with whsec_ and is not base64 behind it".into()),
        None => Ok(text.expose().as_bytes().to_vec().into()),
    }
}

fn signature(key: &[u8], id: &str, seconds: i64, body: &str) -> Result<String, String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|error| format!("cannot sign: {error}"))?;
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[async_trait]
impl Notifier for Webhook {
    async fn send(&self, message: &Message) -> Result<(), NotifyError> {
        let body = serde_json::to_string(message).map_err(|error| NotifyError::Refused {
            name: self.name().to_owned(),
            reason: format!("the message cannot be written as JSON: {error}"),
        })?;
        let id = format!("msg_{}", fingerprint(&[&body], 16));
        self.post.send(&body, || self.headers(&id, &body)).await
    }

    fn name(&self) -> &str {
        self.post.name()
    }
}
