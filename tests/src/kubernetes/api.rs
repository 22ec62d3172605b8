//! The Kubernetes API as plain JSON over HTTP: what a test's human does, and what it looks at.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};

/// Longer than any answer of a server on the same machine takes.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The API of one server as one user.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
    url: String,
    user: String,
}

/// What the server said.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The object, or the server's `Status`; a string if it was not JSON.
    pub body: Value,
}

impl Answer {
    /// The object of a successful answer.
    ///
    /// # Errors
    /// If it was none; the error holds what the server said.
    pub fn ok(self) -> Result<Value> {
        ensure!((200..300).contains(&self.status), "HTTP {}: {}", self.status, self.body);
        Ok(self.body)
    }
}

impl Api {
    /// The server at `url` with a certificate signed by `authority`; `user` is its own token.
    ///
    /// # Errors
    /// If the authority cannot be read.
    pub fn new(url: &str, authority: &Path, user: &str) -> Result<Api> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pem = std::fs::read(authority).with_context(|| format!("reading {}", authority.display()))?;
        let roots = Certificate::from_pem_bundle(&pem).context("reading the server's certificate")?;
        // No connection is kept: each test has a runtime of its own, and a connection dies with the runtime it came from.
        let client = Client::builder().tls_certs_only(roots).timeout(ANSWER_LIMIT).no_proxy();
        let client = client.http1_only().pool_max_idle_per_host(0).build();
        Ok(Api {
            client: client.context("making a client of the API server")?,
            url: url.to_owned(),
            user: user.to_owned(),
        })
    }

    /// The HTTP client, which trusts the server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The bearer token, which is the user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Reads `path` (`/apis/apps/v1/…`).
    ///
    /// # Errors
    /// If no answer came.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, "application/json", None).await
    }

    /// Creates `object` under `path`.
    ///
    /// # Errors
    /// If no answer came.
    pub async fn post(&self, path: &str, object: &Value) -> Result<Answer> {
        self.send(Method::POST, path, "application/json", Some(object.to_string())).await
    }

    /// Merges `change` into the object at `path` (a strategic merge: lists of containers are merged by name).
    ///
    /// # Errors
    /// If no answer came.
    pub async fn merge(&self, path: &str, change: &Value) -> Result<Answer> {
        let kind = "application/strategic-merge-patch+json";
        self.send(Method::PATCH, path, kind, Some(change.to_string())).await
    }

    /// Sends a request as it is.
    ///
    /// # Errors
    /// If no answer came.
    pub async fn send(&self, method: Method, path: &str, kind: &str, body: Option<String>) -> Result<Answer> {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url));
        request = request.bearer_auth(&self.user).header("content-type", kind);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = response.status().as_u16();
        let text = response.text().await.with_context(|| format!("{method} {path}: reading the answer"))?;
        let body = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        Ok(Answer { status, body })
    }
}
