//! Watches: one for each kind and namespace, each in a task of its own that tells what it sees.
//!
//! A watch is a hint. What it shows is looked at as if the reconcile had shown it; what it does not show, the reconcile
//! does. So a watch that cannot go on ends, and the reconcile begins it again when it could list what is to be watched.

use super::client::Cluster;
use super::{KubernetesSourceConfig, WatchedKind};
use crate::actions::chain;
use crate::events::limits;
use crate::events::listener::Backoff;
use futures_util::StreamExt as _;
use kube::Api;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Error, Event};
use serde_json::Value;
use std::collections::BTreeMap;
use std::pin::pin;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Objects that watches have seen and nobody has looked at yet. A watch that finds it full waits, and the server keeps
/// its place.
pub(super) const MOST_SEEN: usize = 1_024;
/// The server is asked to end a watch after this many seconds, and one that has not ended a little later is given up: a
/// connection that has died without a word is noticed by that.
const WATCH_SECONDS: u32 = 120;
/// Objects in a page of a watch's own list.
const PAGE: u32 = 250;

/// What is watched: a kind, and a namespace or all of them.
pub(super) type Scope = (WatchedKind, Option<String>);

/// What a watch tells.
#[derive(Debug)]
pub(super) enum Seen {
    /// An object as it is now.
    Object(WatchedKind, Box<Value>),
    /// An object is gone: its uid.
    Deleted(String),
    /// Something went wrong, and it goes on by itself.
    Broken(String),
}

/// All watches of one connection; they end with this.
pub(super) struct Watches {
    client: kube::Client,
    selector: Option<String>,
    sender: mpsc::Sender<Seen>,
    running: BTreeMap<Scope, JoinHandle<()>>,
}

impl Watches {
    /// None yet.
    pub(super) fn new(
        cluster: &Cluster,
        config: &KubernetesSourceConfig,
        sender: mpsc::Sender<Seen>,
    ) -> Self {
        Self { client: cluster.client(), selector: config.selector.clone(), sender, running: BTreeMap::new() }
    }

    /// Begins a watch that does not run.
    pub(super) fn ensure(&mut self, scope: &Scope) {
        if self.running.get(scope).is_none_or(JoinHandle::is_finished) {
            let watch = watch(self.client.clone(), scope.clone(), self.selector.clone(), self.sender.clone());
            self.running.insert(scope.clone(), tokio::spawn(watch));
        }
    }

    /// How many run.
    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.running.values().filter(|task| !task.is_finished()).count()
    }

    /// Ends a watch: there is no such kind any more.
    pub(super) fn stop(&mut self, scope: &Scope) {
        if let Some(task) = self.running.remove(scope) {
            task.abort();
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.running.values().for_each(JoinHandle::abort);
    }
}

/// What follows from an error of a watch.
enum Next {
    /// It comes back by itself.
    GoesOn,
    /// It must begin with a new list.
    Anew,
    /// It cannot be: not allowed, not known, no such kind.
    Ends,
}

async fn watch(client: kube::Client, scope: Scope, selector: Option<String>, sender: mpsc::Sender<Seen>) {
    let (kind, namespace) = scope;
    let resource = kind.resource();
    let api: Api<DynamicObject> = match &namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS).page_size(PAGE);
    config.label_selector = selector;
    let mut backoff = Backoff::default();
    loop {
        let mut events = pin!(watcher::watcher(api.clone(), config.clone()).default_backoff());
        while let Some(event) = events.next().await {
            let seen = match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => match serde_json::to_value(&object) {
                    Ok(object) => Seen::Object(kind, Box::new(object)),
                    Err(error) => Seen::Broken(format!("an object cannot be read: {error}")),
                },
                Ok(Event::Delete(object)) => Seen::Deleted(object.metadata.uid.unwrap_or_default()),
                Ok(Event::InitDone) => {
                    backoff.reset();
                    continue;
                }
                Ok(Event::Init) => continue,
                Err(error) => {
                    let next = next(&error);
                    let words = limits::summary(&chain(&error));
                    if is_expired(&error) {
                        tracing::info!(kind = %kind.words(), "a watch has expired and begins with a new list");
                    } else {
                        let broken = Seen::Broken(format!("the watch of {}: {words}", kind.words()));
                        if sender.send(broken).await.is_err() {
                            return;
                        }
                    }
                    match next {
                        Next::GoesOn => continue,
                        Next::Anew => break,
                        Next::Ends => return,
                    }
                }
            };
            if sender.send(seen).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

fn status(error: &Error) -> Option<u16> {
    match error {
        Error::InitialListFailed(kube::Error::Api(status))
        | Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

/// 410 in the stream of a watch is everyday life: the server keeps the past for five minutes.
fn is_expired(error: &Error) -> bool {
    status(error) == Some(410) || matches!(error, Error::WatchError(status) if status.code == 410)
}

fn next(error: &Error) -> Next {
    match status(error) {
        Some(401 | 403 | 404) => Next::Ends,
        // Of a version that the server does not have any more, or (behind another address) not yet.
        Some(400 | 410) => Next::Anew,
        _ => Next::GoesOn,
    }
}
