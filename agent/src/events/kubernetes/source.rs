//! The source itself: connects, lists, watches, looks, tells.

use super::client::{Cluster, Trouble};
use super::memory::{Known, Memory, Told};
use super::naming::{Names, names};
use super::news::{Piece, fresh};
use super::watching::{MOST_SEEN, Scope, Seen, Watches};
use super::{KubernetesSourceConfig, WatchedKind, details, history, progressive};
use crate::actions::kubernetes::{FIELD_MANAGER, query};
use crate::clock;
use crate::events::auth::ServiceScope;
use crate::events::limits::LATE_AFTER;
use crate::events::listener::{Backoff, Listener, PATIENCE};
use crate::events::{Accepted, Incoming};
use crate::inlet::{Inlet, News, Reporter};
use async_trait::async_trait;
use rules::ids::SourceName;
use serde_json::Value;
use std::collections::BTreeSet;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Pages of one list of one kind.
const MOST_PAGES: usize = 200;
/// Objects of a page that cannot be looked at before the rest is left for another time: one that is broken must not
/// keep the others from being told, and a server that has stopped answering must not be asked about each.
const MOST_TROUBLES: usize = 3;

/// A cluster that is listened to.
pub struct KubernetesSource {
    name: SourceName,
    config: KubernetesSourceConfig,
    services: ServiceScope,
}

/// A cluster cannot be listened to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event source `{name}` cannot be used: {problem}")]
pub struct BadCluster {
    name: SourceName,
    problem: String,
}

impl KubernetesSource {
    /// Prepares a source; connects to nothing. Errors: what [`KubernetesSourceConfig::problems`] finds.
    pub fn new(name: SourceName, config: &KubernetesSourceConfig) -> Result<Self, BadCluster> {
        if let Some((key, problem)) = config.problems().into_iter().next() {
            return Err(BadCluster { name, problem: format!("{key}: {problem}") });
        }
        let services = ServiceScope::parse(&config.services)
            .map_err(|problems| BadCluster { name: name.clone(), problem: problems.join("; ") })?;
        Ok(Self { name, config: config.clone(), services })
    }
}

#[async_trait]
impl Listener for KubernetesSource {
    fn name(&self) -> &SourceName {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "kubernetes"
    }

    fn describe(&self) -> String {
        let config = &self.config;
        let reached = config.kubeconfig.as_deref().unwrap_or("the usual places");
        let context = config.context.as_ref().map_or(String::new(), |context| format!(", context {context}"));
        let namespaces = match config.namespaces.as_slice() {
            [] => "all namespaces".to_owned(),
            some => format!("namespaces {}", some.join(", ")),
        };
        format!(
            "the cluster of {reached}{context}; {namespaces}; everything listed each {}",
            config.reconcile
        )
    }

    async fn run(self: Box<Self>, inlet: Inlet, reporter: Reporter, mut down: watch::Receiver<bool>) {
        let mut hearing = Hearing {
            source: *self,
            inlet,
            reporter,
            memory: Memory::default(),
            backoff: Backoff::default(),
            said: BTreeSet::new(),
        };
        loop {
            let trouble = tokio::select! {
                _either_way = down.wait_for(|down| *down) => return,
                trouble = hearing.connection() => trouble,
            };
            hearing.reporter.down(trouble.to_string());
            if !hearing.backoff.wait(&mut down).await {
                return;
            }
        }
    }
}

/// What is known while listening. Connections come and go; this stays.
struct Hearing {
    source: KubernetesSource,
    inlet: Inlet,
    reporter: Reporter,
    memory: Memory,
    backoff: Backoff,
    /// What is wrong for good (a kind that is not there, a name that is none), so that it is said once.
    said: BTreeSet<String>,
}

/// An object that was looked at: what is to be told, and what is known when that has been told.
struct Look {
    uid: String,
    signature: String,
    known: Known,
    accepted: Vec<Accepted>,
}

impl Hearing {
    /// Listens over one connection until it is lost, and says why.
    async fn connection(&mut self) -> Trouble {
        let cluster = match Cluster::connect(&self.source.config).await {
            Ok(cluster) => cluster,
            Err(trouble) => return trouble,
        };
        let (sender, mut seen) = mpsc::channel(MOST_SEEN);
        let mut watches = Watches::new(&cluster, &self.source.config, sender);
        let mut next = Instant::now();
        loop {
            tokio::select! {
                // The sender is among the watches and lives as long.
                Some(seen) = seen.recv() => {
                    match self.heard(&cluster, seen).await {
                        Ok(()) => {}
                        Err(lost @ Trouble::Lost(_)) => return lost,
                        // The reconcile finds it again.
                        Err(trouble) => {
                            self.reporter.failed(trouble.to_string());
                            next = next.min(Instant::now() + self.backoff.next_pause());
                        }
                    }
                }
                () = sleep_until(next) => {
                    let began = Instant::now();
                    next = match self.reconcile(&cluster, &mut watches).await {
                        Ok(()) => {
                            self.reporter.up();
                            self.backoff.reset();
                            began + self.source.config.reconcile.duration()
                        }
                        Err(lost @ Trouble::Lost(_)) => return lost,
                        Err(trouble @ Trouble::NotKept(_)) => {
                            self.reporter.failed(trouble.to_string());
                            Instant::now() + self.backoff.next_pause()
                        }
                        Err(trouble) => {
                            self.reporter.down(trouble.to_string());
                            Instant::now() + self.backoff.next_pause()
                        }
                    };
                }
            }
        }
    }

    async fn heard(&mut self, cluster: &Cluster, seen: Seen) -> Result<(), Trouble> {
        match seen {
            Seen::Object(kind, object) => {
                let looks: Vec<Look> = self.look(cluster, kind, &object).await?.into_iter().collect();
                self.tell(looks).await
            }
            Seen::Deleted(uid) => {
                self.memory.forget(&uid);
                Ok(())
            }
            Seen::Broken(words) => {
                self.reporter.failed(words);
                Ok(())
            }
        }
    }

    /// Lists everything and tells what no watch told. What may not be seen in one namespace keeps nobody from looking at
    /// the others.
    async fn reconcile(&mut self, cluster: &Cluster, watches: &mut Watches) -> Result<(), Trouble> {
        let config = &self.source.config;
        let namespaces: Vec<Option<String>> = match config.namespaces.as_slice() {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        let scopes: Vec<Scope> = config
            .kinds
            .iter()
            .flat_map(|kind| namespaces.iter().map(|namespace| (*kind, namespace.clone())))
            .collect();
        // A cluster may do without the optional kinds, and their trouble is theirs alone, unless nothing else is watched.
        let may_lack = config.kinds.iter().any(|kind| !kind.is_optional());
        let (mut worst, mut absent) = (Ok(()), Vec::new());
        for scope in scopes {
            let is_optional = may_lack && scope.0.is_optional();
            match self.sweep(cluster, &scope).await {
                Ok(()) => watches.ensure(&scope),
                Err(trouble @ (Trouble::Absent(_) | Trouble::Forbidden(_))) if is_optional => {
                    watches.stop(&scope);
                    absent.push(format!("{} are not watched: {trouble}", scope.0.words()));
                }
                Err(lost @ Trouble::Lost(_)) if is_optional => self.reporter.failed(lost.to_string()),
                Err(lost @ Trouble::Lost(_)) => return Err(lost),
                Err(trouble) => worst = worst.and(Err(trouble)),
            }
        }
        if !absent.is_empty() {
            self.once(absent.join("; "));
        }
        self.memory.tidy();
        tracing::debug!(source = %self.source.name, objects = self.memory.len(), "a cluster was listed");
        worst
    }

    async fn sweep(&mut self, cluster: &Cluster, (kind, namespace): &Scope) -> Result<(), Trouble> {
        let path = kind.path(namespace.as_deref());
        let selector = self.source.config.selector.clone().unwrap_or_default();
        let mut token = String::new();
        for _ in 0..MOST_PAGES {
            let (objects, next) = cluster.page(&path, &selector, &token).await?;
            let (mut looks, mut troubles) = (Vec::new(), Vec::new());
            for object in &objects {
                match self.look(cluster, *kind, object).await {
                    Ok(look) => looks.extend(look),
                    Err(trouble) => troubles.push(trouble),
                }
                if troubles.len() == MOST_TROUBLES {
                    break;
                }
            }
            self.tell(looks).await?;
            if let Some(first) = troubles.into_iter().next() {
                return Err(first);
            }
            match next {
                Some(next) => token = next,
                None => return Ok(()),
            }
        }
        Err(super::client::too_long(&path))
    }

    /// Tells what was found, and remembers it when it is on disk.
    async fn tell(&mut self, looks: Vec<Look>) -> Result<(), Trouble> {
        let accepted: Vec<Accepted> = looks.iter().flat_map(|look| look.accepted.iter().cloned()).collect();
        let news = News { accepted, dead: Vec::new() };
        let told = self.inlet.tell(&self.source.name, news, PATIENCE).await;
        told.map_err(|error| Trouble::NotKept(error.to_string()))?;
        for look in looks {
            self.memory.keep(look.uid, look.signature, look.known);
        }
        Ok(())
    }

    /// Looks at an object that does not look as it did.
    async fn look(
        &mut self,
        cluster: &Cluster,
        kind: WatchedKind,
        object: &Value,
    ) -> Result<Option<Look>, Trouble> {
        let Some(uid) = object["metadata"]["uid"].as_str().map(str::to_owned) else { return Ok(None) };
        let signature = kind.signature(object);
        if self.memory.is_unchanged(&uid, &signature) {
            return Ok(None);
        }
        let known = self.memory.of(&uid);
        let mut look = Look { uid, signature, known, accepted: Vec::new() };
        let names = match names(&self.source.config, object) {
            Ok(names) => names,
            Err(error) => {
                let name = &object["metadata"]["name"];
                self.once(format!("{} {name} is not watched: {error}", kind.kind()));
                return Ok(Some(look));
            }
        };
        if !self.source.services.allows(&names.service) || progressive::is_flaggers(object) {
            return Ok(Some(look));
        }
        if kind == WatchedKind::Canary {
            let (config, source) = (&self.source.config, &self.source.name);
            let news = progressive::canary(cluster, config, source, &names, object, clock::now()).await?;
            let is_told =
                |news: &Accepted| look.known.told.as_ref().is_some_and(|told| told.identity == news.id);
            if let Some(news) = news.filter(|news| !is_told(news)) {
                look.known.told = Some(Told {
                    identity: news.id.clone(),
                    hash: String::new(),
                    sequence: sequence_of(&news),
                });
                look.accepted.push(news);
            }
            return Ok(Some(look));
        }
        Ok(self.workload(cluster, kind, object, &names, &mut look).await?.then_some(look))
    }

    /// Finds what a workload has to tell. `false` if its controller has not begun with it.
    async fn workload(
        &self,
        cluster: &Cluster,
        kind: WatchedKind,
        object: &Value,
        names: &Names,
        look: &mut Look,
    ) -> Result<bool, Trouble> {
        let (Some(past), Some(namespace)) = (kind.past(), object["metadata"]["namespace"].as_str()) else {
            return Ok(false);
        };
        let config = &self.source.config;
        let path = format!("/apis/apps/v1/namespaces/{namespace}/{}", past.plural);
        let items = cluster.list(&path, &query(&object["spec"]["selector"])).await?;
        let (writer, written) = history::last_writer(object);
        let (label, container) = (&config.version_from, config.container.as_deref());
        let rollouts = history::rollouts(past, &look.uid, &items, written, label, container);
        let Some(last) = rollouts.last() else { return Ok(false) };
        let now = clock::now();
        let ours = writer.as_deref() == Some(FIELD_MANAGER);
        let raw = async |at: usize, when| {
            let closely = when > LATE_AFTER.before(now);
            details::record(cluster, config, (kind, object), (&rollouts, at), writer.as_deref(), closely)
                .await
        };
        for at in fresh(&rollouts, &look.uid, &look.known) {
            let piece = Piece::rollout(&rollouts, at, &look.uid, ours);
            let raw = raw(at, piece.at).await;
            look.accepted.push(piece.accepted(&self.source.name, names, raw, now));
        }
        if kind == WatchedKind::Rollout
            && let Some(piece) = progressive::aborted(object, &look.uid, &rollouts, &mut look.known, now)
        {
            let raw = raw(rollouts.len() - 1, piece.at).await;
            look.accepted.push(piece.accepted(&self.source.name, names, raw, now));
        }
        // What an old cache shows is remembered as little as it is told.
        if look.known.told.as_ref().is_none_or(|told| told.sequence < last.sequence()) {
            look.known.told = Some(Told::of(last, &look.uid));
        }
        Ok(true)
    }

    /// Says what will not pass by itself, once.
    fn once(&mut self, words: String) {
        // A few kinds and a few names; more is a mistake in `service` that the first ones show.
        const MOST: usize = 100;
        if self.said.len() < MOST && self.said.insert(words.clone()) {
            self.reporter.failed(words);
        }
    }
}

fn sequence_of(news: &Accepted) -> u64 {
    match &news.incoming {
        Incoming::Deploy(event) => event.sequence.unwrap_or(0),
        Incoming::Report(_) => 0,
    }
}
