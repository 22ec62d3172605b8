//! The source itself: connects, lists, watches, tells. How it looks at one object: `looking`; at a list of them:
//! `sweeping`; who of two has a name: `elders`.

mod elders;
mod looking;
mod sweeping;

use super::KubernetesSourceConfig;
use super::claims::{Claims, Place};
use super::client::{Cluster, Trouble};
use super::memory::Memory;
use super::troubles::{Said, Troubles};
use super::watching::{MOST_SEEN, Scope, Seen, Watches};
use crate::events::Accepted;
use crate::events::auth::ServiceScope;
use crate::events::listener::{Backoff, Listener, PATIENCE};
use crate::inlet::{Inlet, News, Reporter};
use async_trait::async_trait;
use elders::Elders;
use looking::Look;
use rules::ids::SourceName;
use std::collections::BTreeSet;
use sweeping::Listed;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

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
            claims: Claims::default(),
            elders: Elders::default(),
            said: BTreeSet::new(),
            said_of_objects: Said::default(),
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
    claims: Claims,
    elders: Elders,
    backoff: Backoff,
    /// What is wrong for good (a kind that is not there, a name that is none), so that it is said once.
    said: BTreeSet<String>,
    /// What was said of objects that cannot be looked at.
    said_of_objects: Said,
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
                    // What may pass the reconcile finds again, and whether the server is gone.
                    if !self.heard(&cluster, seen).await {
                        next = next.min(Instant::now() + self.backoff.next_pause());
                    }
                }
                () = sleep_until(next) => {
                    let began = Instant::now();
                    next = match self.reconcile(&cluster, &mut watches).await {
                        Ok(all) => {
                            self.reporter.up();
                            let regular = began + self.source.config.reconcile.duration();
                            if all {
                                self.backoff.reset();
                                regular
                            } else {
                                regular.min(Instant::now() + self.backoff.next_pause())
                            }
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

    /// Takes what a watch saw. `false` if something of it has to be looked at again soon.
    async fn heard(&mut self, cluster: &Cluster, seen: Seen) -> bool {
        match seen {
            Seen::Object(kind, object) => {
                let told = match self.look(cluster, kind, &object).await {
                    Ok(look) => self.tell(look.into_iter().collect()).await,
                    Err(trouble) => {
                        let troubles = Troubles::of(Place::of(kind, &object), trouble);
                        self.say(&troubles);
                        return !troubles.may_pass;
                    }
                };
                told.map_err(|trouble| self.reporter.failed(trouble.to_string())).is_ok()
            }
            Seen::Deleted(uid) => {
                self.memory.forget(&uid);
                true
            }
            Seen::Broken(words) => {
                self.reporter.failed(words);
                true
            }
        }
    }

    /// Lists everything and tells what no watch told. What may not be seen in one namespace keeps nobody from looking at
    /// the others. `false` if an object could not be looked at for now.
    async fn reconcile(&mut self, cluster: &Cluster, watches: &mut Watches) -> Result<bool, Trouble> {
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
        self.elders_first(cluster, &scopes, may_lack).await?;
        let (mut worst, mut absent, mut listed) = (Ok(()), Vec::new(), Listed::default());
        for scope in scopes {
            let is_optional = may_lack && scope.0.is_optional();
            match self.sweep(cluster, &scope, &mut listed).await {
                Ok(()) => watches.ensure(&scope),
                Err(trouble @ (Trouble::Absent(_) | Trouble::Forbidden(_))) if is_optional => {
                    watches.stop(&scope);
                    absent.push(format!("{} are not watched: {trouble}", scope.0.words()));
                }
                Err(trouble @ (Trouble::Lost(_) | Trouble::Odd(_))) if is_optional => {
                    self.reporter.failed(trouble.to_string());
                }
                // The others would not come either, each after a while.
                Err(lost @ Trouble::Lost(_)) => return Err(lost),
                Err(trouble) => worst = worst.and(Err(trouble)),
            }
        }
        if !absent.is_empty() {
            self.once(absent.join("; "));
        }
        self.memory.tidy();
        self.claims.tidy();
        tracing::debug!(source = %self.source.name, objects = self.memory.len(), "a cluster was listed");
        worst?;
        match listed.troubles.words() {
            // Whoever can look at nothing hears nothing.
            Some(words) if listed.heard == 0 => Err(Trouble::Odd(words)),
            _ => {
                self.say(&listed.troubles);
                Ok(!listed.troubles.may_pass)
            }
        }
    }

    /// Says what cannot be looked at, not too often.
    fn say(&mut self, troubles: &Troubles) {
        if let Some(words) = troubles.words()
            && self.said_of_objects.is_due(&words, Instant::now().into_std())
        {
            self.reporter.failed(words);
        }
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
}

#[cfg(test)]
mod tests;
