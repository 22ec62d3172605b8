//! Lists of one kind in one place, looked at object by object.
//!
//! An object about which the server has no answer is the trouble of this object, as long as the server answers other
//! questions. Whoever can keep the answers about one namespace from coming must not cut the others off, neither by ending
//! the list nor by making it last for hours: where nothing comes, less and less is waited for.

use super::super::claims::Place;
use super::super::client::{self, Cluster, Trouble};
use super::super::troubles::Troubles;
use super::super::watching::Scope;
use super::Hearing;
use crate::clock;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Pages of one list of one kind.
pub(super) const MOST_PAGES: usize = 200;
/// Looks in a row to which the server has no answer before it is asked something else: if it is gone, it must not be
/// asked about each object.
pub(super) const MOST_SILENT: usize = 3;
/// What all the looks without an answer of one listing may take together. Meanwhile nobody looks at what the watches
/// see, so it is less than a minute; three looks of full length are in it, and thirty hurried ones.
const MOST_SILENCE: Duration = Duration::from_secs(30);

/// What came of listing everything.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Objects that could be looked at.
    pub(super) heard: usize,
    pub(super) troubles: Troubles,
    silence: Silence,
}

/// Looks that had no answer.
#[derive(Debug, Default)]
struct Silence {
    /// Since the last one that had one.
    in_a_row: usize,
    /// The server had none to several, and does answer.
    is_partial: bool,
    took: Duration,
    /// Where the last look had none.
    namespaces: BTreeSet<String>,
}

impl Silence {
    /// Whether nothing is to be asked there any more in this listing.
    fn is_final(&self, namespace: &str) -> bool {
        self.took >= MOST_SILENCE && self.namespaces.contains(namespace)
    }

    /// A look at something there took so long and had an answer, or none.
    fn after(&mut self, namespace: &str, is_silent: bool, took: Duration) {
        if is_silent {
            self.in_a_row += 1;
            self.took += took;
            self.namespaces.insert(namespace.to_owned());
        } else {
            self.in_a_row = 0;
            self.namespaces.remove(namespace);
        }
    }
}

impl Hearing {
    /// Lists one kind in one place. Only a list that does not come is an error, and a server that has gone silent; what
    /// is wrong with one object is among the troubles of `listed`.
    pub(super) async fn sweep(
        &mut self,
        cluster: &Cluster,
        (kind, namespace): &Scope,
        listed: &mut Listed,
    ) -> Result<(), Trouble> {
        let path = kind.path(namespace.as_deref());
        let selector = self.source.config.selector.clone().unwrap_or_default();
        let hurried = cluster.hurried();
        let mut token = String::new();
        for _ in 0..MOST_PAGES {
            let (objects, next) = cluster.page(&path, &selector, &token).await?;
            // What is news of today is told at once, and the rest page by page: a first look finds thousands.
            let mut rest = Vec::new();
            for object in &objects {
                let place = Place::of(*kind, object);
                let patient = if listed.silence.is_partial { &hurried } else { cluster };
                let trouble = match self.look_unless_silent(patient, &place, object, listed).await {
                    Ok(Some(look)) if look.is_urgent(clock::now()) => {
                        self.tell(vec![look]).await?;
                        continue;
                    }
                    Ok(look) => {
                        rest.extend(look);
                        continue;
                    }
                    Err(trouble) => trouble,
                };
                if listed.silence.in_a_row >= MOST_SILENT {
                    if !cluster.answers(&path).await {
                        self.tell(rest).await?;
                        return Err(trouble);
                    }
                    listed.silence.in_a_row = 0;
                    listed.silence.is_partial = true;
                }
                listed.troubles.add(place, trouble);
            }
            self.tell(rest).await?;
            match next {
                Some(next) => token = next,
                None => return Ok(()),
            }
        }
        Err(client::too_long(&path))
    }

    async fn look_unless_silent(
        &mut self,
        cluster: &Cluster,
        place: &Place,
        object: &Value,
        listed: &mut Listed,
    ) -> Result<Option<super::Look>, Trouble> {
        if listed.silence.is_final(&place.namespace) {
            return Err(Trouble::Lost(format!(
                "not asked about, since the server left {MOST_SILENCE:?} of questions without an answer, some of \
                 them about its namespace"
            )));
        }
        let began = Instant::now();
        let looked = self.look(cluster, place.kind, object).await;
        let is_silent = matches!(looked, Err(Trouble::Lost(_)));
        listed.silence.after(&place.namespace, is_silent, began.elapsed());
        listed.heard += usize::from(looked.is_ok());
        looked
    }
}
