//! One look at one object: what it has to tell, and what is known when that has been told.

use super::Hearing;
use crate::actions::kubernetes::{FIELD_MANAGER, query};
use crate::clock;
use crate::events::kubernetes::claims::{self, Place};
use crate::events::kubernetes::client::{Cluster, Trouble};
use crate::events::kubernetes::memory::{Known, Told};
use crate::events::kubernetes::naming::{Names, names};
use crate::events::kubernetes::news::{Piece, fresh};
use crate::events::kubernetes::{WatchedKind, details, history, progressive};
use crate::events::limits::LATE_AFTER;
use crate::events::{Accepted, Incoming};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

/// An object that was looked at: what is to be told, and what is known when that has been told.
pub(super) struct Look {
    pub(super) uid: String,
    pub(super) signature: String,
    pub(super) known: Known,
    pub(super) accepted: Vec<Accepted>,
}

impl Look {
    /// Whether somebody may want to act on it.
    pub(super) fn is_urgent(&self, now: Timestamp) -> bool {
        self.accepted.iter().any(|accepted| match &accepted.incoming {
            Incoming::Deploy(event) => event.occurred_at > LATE_AFTER.before(now),
            Incoming::Report(_) => true,
        })
    }
}

impl Hearing {
    /// Looks at an object, closer if it does not look as it did.
    pub(super) async fn look(
        &mut self,
        cluster: &Cluster,
        kind: WatchedKind,
        object: &Value,
    ) -> Result<Option<Look>, Trouble> {
        let Some(uid) = object["metadata"]["uid"].as_str().map(str::to_owned) else { return Ok(None) };
        let signature = kind.signature(object);
        let is_unchanged = self.memory.is_unchanged(&uid, &signature);
        let known = self.memory.of(&uid);
        let mut look = Look { uid, signature, known, accepted: Vec::new() };
        let names = match names(&self.source.config, object) {
            Ok(names) => names,
            Err(error) => {
                let name = &object["metadata"]["name"];
                self.once(format!("{} {name} is not watched: {error}", kind.kind()));
                return Ok((!is_unchanged).then_some(look));
            }
        };
        if !self.source.services.allows(&names.service) || progressive::is_flaggers(object) {
            return Ok((!is_unchanged).then_some(look));
        }
        self.claim(cluster, kind, object, &names).await?;
        if is_unchanged {
            return Ok(None);
        }
        let was_told = look.known.told.is_some();
        let looked = match kind {
            WatchedKind::Canary => self.canary(cluster, object, &names, &mut look).await.map(|()| true),
            _ => self.workload(cluster, kind, object, &names, &mut look).await,
        };
        // A name belongs to whom something was told of, and not to whom nothing can be told of. Who had no answer this
        // once keeps it: another one of the same name would have it for good.
        let may_pass = looked.as_ref().is_err_and(Trouble::may_pass);
        if !matches!(looked, Ok(true)) && !was_told && !may_pass {
            self.claims.release(&names, &Place::of(kind, object));
        }
        Ok(looked?.then_some(look))
    }

    /// Finds what a Canary has to tell.
    async fn canary(
        &self,
        cluster: &Cluster,
        object: &Value,
        names: &Names,
        look: &mut Look,
    ) -> Result<(), Trouble> {
        let (config, source) = (&self.source.config, &self.source.name);
        let view = progressive::View { cluster, config, memory: &self.memory };
        let news = progressive::canary(view, source, names, object, clock::now()).await?;
        let is_told = |news: &Accepted| look.known.told.as_ref().is_some_and(|told| told.identity == news.id);
        if let Some(news) = news.filter(|news| !is_told(news)) {
            look.known.told =
                Some(Told { identity: news.id.clone(), hash: String::new(), sequence: sequence_of(&news) });
            look.accepted.push(news);
        }
        Ok(())
    }

    /// Makes sure that nothing else is called by this object's names. Errors: something is, or that cannot be seen.
    async fn claim(
        &mut self,
        cluster: &Cluster,
        kind: WatchedKind,
        object: &Value,
        names: &Names,
    ) -> Result<(), Trouble> {
        let Err(first) = self.claims.claim(names, kind, object) else { return Ok(()) };
        let config = &self.source.config;
        let selector = config.selector.as_deref().unwrap_or_default();
        // Nobody says for certain that an object is gone, or is called something else by now.
        for place in &first {
            let path = place.kind.path(Some(&place.namespace));
            let found = cluster.find(&path, &place.name, selector).await?;
            let keeps =
                |object: &Value| super::super::naming::names(config, object).is_ok_and(|now| now == *names);
            if !found.as_ref().is_some_and(keeps) {
                self.claims.release(names, place);
            }
        }
        let claimed = self.claims.claim(names, kind, object);
        claimed.map_err(|first| Trouble::Claimed(claims::words(names, &Place::of(kind, object), &first)))
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
        let (label, container) = (config.version_from.as_str(), config.container.as_deref());
        let naming = history::Naming { label, container, given: &look.known.names };
        let rollouts = history::rollouts(past, &look.uid, &items, written, naming);
        look.known.name(&rollouts);
        let Some(last) = rollouts.last() else { return Ok(false) };
        let now = clock::now();
        let ours = writer.as_deref() == Some(FIELD_MANAGER);
        let until = Instant::now() + details::CLOSELY_WITHIN;
        let raw = async |at: usize, when| {
            let closely = (when > LATE_AFTER.before(now)).then_some(until);
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
    pub(super) fn once(&mut self, words: String) {
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
