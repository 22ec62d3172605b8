//! Asking an API server: whole answers in bounded time and size, and words for what went wrong.

use super::KubernetesSourceConfig;
use crate::actions::chain;
use crate::actions::kubernetes::{credentials, reach};
use crate::events::limits;
use http::{Request, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::client::Body;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// A server that does not take a connection within this time will not do so.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// From a request to the end of its answer. A server in good health needs a second for a page of a large cluster; one
/// that drips must be given up in time for another attempt within the minute.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The same for what is asked about one object: a few records of one namespace, of which a server in good health needs
/// milliseconds. However many objects have no answer, the lists must come round.
const LOOK_WITHIN: Duration = Duration::from_secs(5);
/// The same where several such questions had no answer.
const HURRIED_LOOK_WITHIN: Duration = Duration::from_millis(500);
/// A page of [`PAGE`] workloads has some megabytes.
const LONGEST_BODY: usize = 32 * 1024 * 1024;
/// Objects in a page.
const PAGE: usize = 250;
/// Pages of one list: a cluster with more than 50,000 workloads of a kind is asked in parts, by namespace or label.
const MOST_PAGES: usize = 200;

/// Why something could not be seen or told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// There is no such kind, or no such object.
    #[error("{0}")]
    Absent(String),
    /// It may not be seen.
    #[error("{0}")]
    Forbidden(String),
    /// The server does not know who we are, cannot be reached, or is not able to answer.
    #[error("{0}")]
    Lost(String),
    /// This one question cannot be asked, or its answer makes no sense. Others may.
    #[error("{0}")]
    Odd(String),
    /// A controller has not come to what was asked of it. It will.
    #[error("{0}")]
    NotYet(String),
    /// Another object speaks for what this one is called.
    #[error("{0}")]
    Claimed(String),
    /// The queue to the ledger is full, or the agent ends. The cluster is well.
    #[error("what was seen could not be kept: {0}")]
    NotKept(String),
}

impl Trouble {
    /// Whether it may pass by itself, and soon.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Trouble::Lost(_) | Trouble::NotYet(_))
    }
}

/// A connection to one cluster.
#[derive(Clone)]
pub(super) struct Cluster {
    client: kube::Client,
    look_within: Duration,
}

impl Cluster {
    /// Reads the kubeconfig and makes a client. A plug-in for credentials that the kubeconfig names is run here.
    pub(super) async fn connect(config: &KubernetesSourceConfig) -> Result<Cluster, Trouble> {
        let lost = |words: String| Trouble::Lost(format!("cannot talk to the cluster: {words}"));
        let reached = reach(config.kubeconfig.as_deref(), config.context.as_deref()).await;
        let mut reached = reached.map_err(|error| lost(limits::summary(&chain(&*error))))?;
        reached.default_retry = false;
        reached.connect_timeout = Some(CONNECT_WITHIN);
        reached.write_timeout = Some(ANSWER_WITHIN);
        // Watches are silent for minutes; every other answer is waited for no longer than ANSWER_WITHIN.
        reached.read_timeout = None;
        let (kubeconfig, context) = (config.kubeconfig.as_deref(), config.context.as_deref());
        let made = credentials::client(kubeconfig, context, reached, Instant::now() + ANSWER_WITHIN).await;
        match made {
            Ok(client) => Ok(Cluster { client, look_within: LOOK_WITHIN }),
            Err(error) => Err(lost(limits::summary(&chain(&error)))),
        }
    }

    /// A server of the test's own.
    #[cfg(test)]
    pub(super) fn of(client: kube::Client) -> Cluster {
        Cluster { client, look_within: LOOK_WITHIN }
    }

    /// The same one, with no more patience for what is asked about one object than a server in good health needs.
    pub(super) fn hurried(&self) -> Cluster {
        Cluster { client: self.client.clone(), look_within: HURRIED_LOOK_WITHIN }
    }

    /// Whether the server answers a small question about what is listed at `path`.
    pub(super) async fn answers(&self, path: &str) -> bool {
        let answer = self.ask(&format!("{path}?limit=1"), "application/json", LOOK_WITHIN).await;
        !matches!(answer, Err(Trouble::Lost(_)))
    }

    /// The client, for watches.
    pub(super) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    /// Reads what is at `path`: without a resource version, so that the server asks etcd and not its cache.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Trouble> {
        self.ask(path, "application/json", self.look_within).await
    }

    /// Reads only the metadata of what is at `path`: the rest does not leave the server.
    pub(super) async fn metadata(&self, path: &str) -> Result<Value, Trouble> {
        self.ask(path, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", self.look_within).await
    }

    /// The page of a list that begins at `token`, and the token of the next one.
    pub(super) async fn page(
        &self,
        path: &str,
        selector: &str,
        token: &str,
    ) -> Result<(Vec<Value>, Option<String>), Trouble> {
        self.page_within(ANSWER_WITHIN, path, selector, token).await
    }

    async fn page_within(
        &self,
        within: Duration,
        path: &str,
        selector: &str,
        token: &str,
    ) -> Result<(Vec<Value>, Option<String>), Trouble> {
        let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        let mut query = format!("{path}?limit={PAGE}&labelSelector={}", encode(selector));
        if !token.is_empty() {
            query.push_str(&format!("&continue={}", encode(token)));
        }
        let mut list = self.ask(&query, "application/json", within).await?;
        let next = list["metadata"]["continue"].as_str().filter(|next| !next.is_empty()).map(str::to_owned);
        match list["items"].take() {
            Value::Array(items) => Ok((items, next)),
            _ => Err(Trouble::Odd(format!("{path} was answered with something that is no list"))),
        }
    }

    /// The object of this name among those at `path` that the selector chooses. Listed and not read, which is a right
    /// that we have where we watch.
    pub(super) async fn find(
        &self,
        path: &str,
        name: &str,
        selector: &str,
    ) -> Result<Option<Value>, Trouble> {
        let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        let field = format!("metadata.name={name}");
        let query =
            format!("{path}?limit=1&fieldSelector={}&labelSelector={}", encode(&field), encode(selector));
        let mut list = self.get(&query).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items.into_iter().next()),
            _ => Err(Trouble::Odd(format!("{path} was answered with something that is no list"))),
        }
    }

    /// A whole list of what belongs to one object.
    pub(super) async fn list(&self, path: &str, selector: &str) -> Result<Vec<Value>, Trouble> {
        let (mut all, mut token) = (Vec::new(), String::new());
        let began = Instant::now();
        for _ in 0..MOST_PAGES {
            let (items, next) = self.page_within(self.look_within, path, selector, &token).await?;
            all.extend(items);
            match next {
                // It answers; there is no end to what it has.
                Some(_) if began.elapsed() > ANSWER_WITHIN => {
                    let count = all.len();
                    return Err(Trouble::Odd(format!(
                        "{path} shows more than the {count} objects of one workload that came within {ANSWER_WITHIN:?}"
                    )));
                }
                Some(next) => token = next,
                None => return Ok(all),
            }
        }
        Err(too_long(path))
    }

    async fn ask(&self, path: &str, accept: &str, within: Duration) -> Result<Value, Trouble> {
        let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty());
        let place = path.split('?').next().unwrap_or_default();
        // A selector of thousands of values is longer than an address may be.
        let request = request.map_err(|error| {
            Trouble::Odd(format!("{place} cannot be asked with a query of {} bytes: {error}", path.len()))
        })?;
        let exchange = async {
            let response = self.client.send(request).await.map_err(|error| lost(&chain(&error)))?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), LONGEST_BODY).collect().await;
            let body = body.map_err(|error| match error.is::<LengthLimitError>() {
                true => Trouble::Odd(format!("{place}: an answer of more than {LONGEST_BODY} bytes")),
                false => lost(&format!("the answer broke off: {}", chain(&*error))),
            })?;
            Ok((status, body.to_bytes()))
        };
        let answer = tokio::time::timeout(within, exchange).await;
        let (status, body) =
            answer.map_err(|_| Trouble::Lost(format!("{place}: no whole answer within {within:?}")))??;
        let read = serde_json::from_slice::<Value>(&body);
        if status == 200 {
            return read
                .map_err(|error| Trouble::Odd(format!("{place}: an answer that is no JSON: {error}")));
        }
        let said = read.ok().and_then(|body| body["message"].as_str().map(limits::summary));
        Err(refused(place, status, &said.unwrap_or_else(|| "no message".into())))
    }
}

/// A list that has no end.
pub(super) fn too_long(path: &str) -> Trouble {
    Trouble::Odd(format!(
        "{path} has more than {} objects; watch fewer with `namespaces` or `selector`",
        PAGE * MOST_PAGES
    ))
}

fn lost(words: &str) -> Trouble {
    Trouble::Lost(limits::summary(words))
}

fn refused(place: &str, status: u16, said: &str) -> Trouble {
    match status {
        401 => Trouble::Lost(format!(
            "the API server does not accept our credentials (401: {said}); they may have expired. They are read anew for \
             each attempt"
        )),
        403 => Trouble::Forbidden(format!("no permission to see {place} (403: {said})")),
        404 => Trouble::Absent(format!("there is no {place} (404: {said})")),
        429 | 500.. => Trouble::Lost(format!("{place}: HTTP {status}: {said}")),
        _ => Trouble::Odd(format!("{place}: HTTP {status}: {said}")),
    }
}
