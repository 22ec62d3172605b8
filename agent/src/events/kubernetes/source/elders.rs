//! Who of several workloads of one name has it when the agent begins to listen.
//!
//! Nothing is remembered of who had it before, and the order of a list says nothing: by that, whoever makes another
//! `web` in a namespace early in the alphabet would have production unheard from the next start on. So before anything
//! is looked at everything is listed once, and names go to the oldest. From then on whoever has one keeps it.

use super::super::claims::Place;
use super::super::client::{Cluster, Trouble};
use super::super::naming::{Names, names};
use super::super::watching::Scope;
use super::super::{WatchedKind, progressive};
use super::Hearing;
use super::sweeping::MOST_PAGES;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Attempts at listing everything that may fail for want of an answer. After them a kind that never answers keeps nobody
/// from being heard, as far as names go.
const MOST_ATTEMPTS: usize = 3;

/// Whether names have gone to the oldest.
#[derive(Debug, Default)]
pub(super) struct Elders {
    is_done: bool,
    failed: usize,
}

/// What is needed of an object to give it its name.
struct Elder {
    /// Objects without a time of creation come last; those of the same second are in the order of their uids.
    age: (bool, Option<Timestamp>, String),
    names: Names,
    kind: WatchedKind,
    object: Value,
}

impl Hearing {
    /// Gives names to the oldest, the first time. A kind that cannot be listed is left out. Errors: the server is gone.
    pub(super) async fn elders_first(
        &mut self,
        cluster: &Cluster,
        scopes: &[Scope],
        may_lack: bool,
    ) -> Result<(), Trouble> {
        if self.elders.is_done {
            return Ok(());
        }
        let mut elders = Vec::new();
        for scope in scopes {
            let is_optional = may_lack && scope.0.is_optional();
            match self.elders_of(cluster, scope, &mut elders).await {
                Err(lost @ Trouble::Lost(_)) if !is_optional && self.elders.failed < MOST_ATTEMPTS => {
                    self.elders.failed += 1;
                    return Err(lost);
                }
                // The listing that follows says so.
                Err(trouble) => tracing::debug!(%trouble, "the ages of some objects are not known"),
                Ok(()) => {}
            }
        }
        elders.sort_by(|a, b| a.age.cmp(&b.age));
        for elder in elders {
            // Who comes too late hears of it when it is looked at.
            let _has_it = self.claims.claim(&elder.names, elder.kind, &elder.object);
        }
        self.elders.is_done = true;
        Ok(())
    }

    async fn elders_of(
        &self,
        cluster: &Cluster,
        (kind, namespace): &Scope,
        elders: &mut Vec<Elder>,
    ) -> Result<(), Trouble> {
        let config = &self.source.config;
        let path = kind.path(namespace.as_deref());
        let selector = config.selector.as_deref().unwrap_or_default();
        let mut token = String::new();
        for _ in 0..MOST_PAGES {
            let (objects, next) = cluster.page(&path, selector, &token).await?;
            for object in &objects {
                let Ok(names) = names(config, object) else { continue };
                if self.source.services.allows(&names.service) && !progressive::is_flaggers(object) {
                    elders.extend(elder(names, *kind, object));
                }
            }
            match next {
                Some(next) => token = next,
                None => return Ok(()),
            }
        }
        Err(super::super::client::too_long(&path))
    }
}

/// Of whatever has a uid; nothing is ever told of what has none.
fn elder(names: Names, kind: WatchedKind, object: &Value) -> Option<Elder> {
    let metadata = &object["metadata"];
    let created = metadata["creationTimestamp"].as_str().and_then(|created| created.parse().ok());
    let own = Place::of(kind, object);
    let spec = &object["spec"];
    let object = json!({
        "metadata": {"namespace": own.namespace, "name": own.name},
        "spec": {"targetRef": spec["targetRef"], "workloadRef": spec["workloadRef"]},
    });
    let age = (created.is_none(), created, metadata["uid"].as_str()?.to_owned());
    Some(Elder { age, names, kind, object })
}
