//! One conversation with an API server: requests that are sent once, and what came of each.
//!
//! The client of `kube` brings addresses, certificates and credentials. Its retries are off: it would send a patch again
//! minutes later without knowing whether the first one took effect. Objects stay JSON as the server sent them: a typed
//! template would lose the fields that this build does not know, and an undo would then undo too much.

pub(crate) mod credentials;

use super::super::output::line;
use super::super::{Context, chain, pulled};
use crate::secrets::Redactor;
use credentials::NoClient;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use rules::action::FailureKind;
use rules::action::kubernetes::KubernetesSpec;
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A server that does not take a connection within this time will not do so.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Between two bytes of an answer. The server itself gives up a request after a minute.
const SILENCE_WITHIN: Duration = Duration::from_secs(30);
/// An object is at most 1.5 MiB in etcd; this is a list of 500 pods of a wordy kind.
const LONGEST_BODY: usize = 16 * 1024 * 1024;
/// In managed fields, this is who we are.
pub(crate) const FIELD_MANAGER: &str = "turnback";

/// What came of one request.
#[derive(Debug)]
pub(super) enum Reply {
    /// Certainly nothing was sent.
    NotSent { kind: FailureKind, reason: String },
    /// It may have been sent, and no answer came.
    Lost { reason: String },
    /// There is an answer.
    Answer(Answer),
}

/// An answer of the server, or of something before it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    /// The object or the server's `Status`, or why it cannot be read.
    pub(super) body: Result<Value, String>,
    /// In words, one line.
    pub(super) message: String,
}

/// Why something could not be seen.
#[derive(Debug)]
pub(super) enum Blind {
    /// It may pass.
    ForNow(String),
    /// It will not pass by itself: no such object, no permission, no such cluster.
    ForGood(String),
}

/// A connection to one cluster, made for one attempt.
pub(super) struct Cluster {
    client: kube::Client,
    redactor: Redactor,
    deadline: Instant,
}

impl Cluster {
    /// Reads the kubeconfig and makes a client. A plug-in for credentials that the kubeconfig names is run here.
    pub(super) async fn connect(
        spec: &KubernetesSpec,
        redactor: &Redactor,
        context: &Context,
    ) -> Result<Self, Blind> {
        let deadline = Instant::now() + context.timeout.duration();
        let clean = |error: &dyn std::error::Error| line(&chain(error), redactor);
        let config = reach(spec.kubeconfig.as_deref(), spec.context.as_deref()).await;
        let mut config = config.map_err(|error| Blind::ForGood(clean(&*error)))?;
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_WITHIN);
        config.read_timeout = Some(SILENCE_WITHIN);
        config.write_timeout = Some(SILENCE_WITHIN);
        config.reset_reader_on_write = true;
        let making =
            credentials::client(spec.kubeconfig.as_deref(), spec.context.as_deref(), config, deadline);
        let made = tokio::select! {
            made = making => made,
            () = pulled(&context.cancel) => return Err(Blind::ForNow("the kill switch was pulled".into())),
        };
        let client = made.map_err(|error| match &error {
            NoClient::Late(_) | NoClient::Died(_) => Blind::ForNow(clean(&error)),
            NoClient::Bad(_) => Blind::ForGood(format!("cannot talk to the cluster: {}", clean(&error))),
        })?;
        Ok(Self { client, redactor: redactor.clone(), deadline })
    }

    /// Reads what is at `path`. Without a resource version the server reads from a quorum of etcd and not from its cache.
    pub(super) async fn get(&self, path: &str, context: &Context) -> Result<Value, Blind> {
        let answer = match self.send(Method::GET, path, None, context).await {
            Reply::NotSent { kind: FailureKind::Permanent, reason } => return Err(Blind::ForGood(reason)),
            Reply::NotSent { reason, .. } | Reply::Lost { reason } => return Err(Blind::ForNow(reason)),
            Reply::Answer(answer) => answer,
        };
        match (answer.status, answer.body) {
            (200, Ok(object)) => Ok(object),
            (200, Err(reason)) => Err(Blind::ForNow(reason)),
            (400..=499, _) if !matches!(answer.status, 408 | 425 | 429) => {
                Err(Blind::ForGood(answer.message))
            }
            _ => Err(Blind::ForNow(answer.message)),
        }
    }

    /// Reads a list; `selector` is a label selector. More than 500 things of one workload are not told apart here.
    pub(super) async fn list(
        &self,
        path: &str,
        selector: &str,
        context: &Context,
    ) -> Result<Vec<Value>, Blind> {
        let selector = percent_encoding::utf8_percent_encode(selector, percent_encoding::NON_ALPHANUMERIC);
        let mut list = self.get(&format!("{path}?limit=500&labelSelector={selector}"), context).await?;
        if list["metadata"]["continue"].as_str().is_some_and(|token| !token.is_empty()) {
            return Err(Blind::ForGood(format!("{path} lists more than 500 objects")));
        }
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Err(Blind::ForNow(format!("{path} answered with something that is no list"))),
        }
    }

    /// Sends one JSON patch, once.
    pub(super) async fn patch(&self, path: &str, operations: Vec<Value>, context: &Context) -> Reply {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}");
        self.send(Method::PATCH, &path, Some(Value::Array(operations)), context).await
    }

    /// Has the server check a JSON patch and drop it.
    pub(super) async fn dry_run(&self, path: &str, operations: Vec<Value>, context: &Context) -> Reply {
        let path = format!("{path}?fieldManager={FIELD_MANAGER}&dryRun=All");
        self.send(Method::PATCH, &path, Some(Value::Array(operations)), context).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>, context: &Context) -> Reply {
        let request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json-patch+json")
                .body(Body::from(body.to_string().into_bytes())),
            None => request.body(Body::empty()),
        };
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                let reason = format!("{path:?} is no path: {error}");
                return Reply::NotSent { kind: FailureKind::Permanent, reason };
            }
        };
        let exchange = async {
            match self.client.send(request).await {
                Ok(response) => Reply::Answer(self.receive(response).await),
                Err(error) => self.no_answer(&error),
            }
        };
        tokio::select! {
            reply = exchange => reply,
            () = sleep_until(self.deadline) => Reply::Lost { reason: "no answer came in time".into() },
            () = pulled(&context.cancel) => {
                Reply::Lost { reason: "the kill switch was pulled before an answer came".into() }
            }
        }
    }

    fn no_answer(&self, error: &kube::Error) -> Reply {
        let reason = line(&chain(error), &self.redactor);
        let never_sent = match error {
            kube::Error::Auth(_) | kube::Error::BuildRequest(_) | kube::Error::RustlsTls(_) => true,
            other => is_connect(other),
        };
        if never_sent {
            Reply::NotSent { kind: FailureKind::Retryable, reason }
        } else {
            Reply::Lost { reason }
        }
    }

    async fn receive(&self, response: http::Response<Body>) -> Answer {
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .map(|value| line(&String::from_utf8_lossy(value.as_bytes()), &self.redactor));
        let body = match Limited::new(response.into_body(), LONGEST_BODY).collect().await {
            Ok(body) => serde_json::from_slice::<Value>(&body.to_bytes())
                .map_err(|error| format!("HTTP {status} with something that is no JSON: {error}")),
            Err(error) => {
                let reason = line(&chain(&*error), &self.redactor);
                Err(format!("HTTP {status}, and the rest of the answer is lost: {reason}"))
            }
        };
        let said = match &body {
            Ok(body) => body["message"].as_str().unwrap_or("no message"),
            Err(reason) => reason,
        };
        let message = format!("HTTP {status}: {}", line(said, &self.redactor));
        Answer { status, retry_after, body, message }
    }
}

/// Where a cluster is and who we are there: from this kubeconfig, or from the usual places (`KUBECONFIG`,
/// `~/.kube/config`, the pod's own service account). Errors: there is none, or it cannot be read.
pub(crate) async fn reach(
    kubeconfig: Option<&str>,
    context: Option<&str>,
) -> Result<Config, Box<dyn std::error::Error + Send + Sync>> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config = match (kubeconfig, context) {
        (Some(path), _) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
        (None, Some(_)) => Config::from_kubeconfig(&options).await?,
        (None, None) => Config::infer().await?,
    };
    without_proxy_of_environment(&mut config, |name| std::env::var(name).ok());
    Ok(config)
}

/// As with the other actions, a proxy that the environment names for the outside world is not followed; one that the
/// kubeconfig names for this cluster is not supported, and making the client says so.
fn without_proxy_of_environment(config: &mut Config, variable: impl Fn(&str) -> Option<String>) {
    let Some(proxy) = &config.proxy_url else { return };
    let same = |name: &str| {
        variable(name).and_then(|url| url.parse::<http::Uri>().ok()).is_some_and(|url| url == *proxy)
    };
    if ["HTTPS_PROXY", "https_proxy"].into_iter().any(same) {
        config.proxy_url = None;
    }
}

/// Whether it failed while connecting, before a byte of the request was sent.
fn is_connect(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect()) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_of_the_environment_is_not_followed() {
        let proxied = |url: &str| {
            let mut config = Config::new("https://10.0.0.1".parse().unwrap());
            config.proxy_url = Some(url.parse().unwrap());
            without_proxy_of_environment(&mut config, |name| {
                (name == "https_proxy").then(|| "http://proxy:3128".to_owned())
            });
            config.proxy_url.is_some()
        };
        assert!(!proxied("http://proxy:3128"));
        assert!(proxied("http://of-the-kubeconfig:3128"));
    }
}
