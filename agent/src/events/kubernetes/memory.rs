//! What was looked at and told of each object, so that nothing is looked at twice for nothing. Lost with the process:
//! then everything is looked at and told again, and the ledger recognises it.

use super::history::Rollout;
use rules::ids::Version;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Objects that are remembered. The largest clusters have some ten thousand workloads; what is beyond is looked at
/// again at each reconcile, which is slower and not wrong.
const MOST: usize = 50_000;
/// Objects that nobody showed for so long are gone. A list from an old cache leaves objects out; it is not that old.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);

/// Names of one object: twenty times what a cluster keeps of it if nobody says otherwise.
const MOST_NAMES: usize = 200;

/// What is known of one object.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// What was told last.
    pub(super) told: Option<Told>,
    /// The moment of an abort that was told. A restart of the agent forgets it: that a Rollout tries again is not noticed
    /// across one, since its status does not keep an abort that is over.
    pub(super) aborted: Option<String>,
    /// What its templates are called, by their hashes.
    pub(super) names: BTreeMap<String, Version>,
}

impl Known {
    /// The names that these rollouts have are theirs for good.
    pub(super) fn name(&mut self, rollouts: &[Rollout]) {
        if self.names.len() > MOST_NAMES {
            self.names.retain(|hash, _| rollouts.iter().any(|rollout| rollout.first.template.hash == *hash));
        }
        let named =
            rollouts.iter().map(|rollout| (rollout.first.template.hash.clone(), rollout.version.clone()));
        self.names.extend(named);
    }
}

#[derive(Debug)]
struct Entry {
    /// What it looked like.
    signature: String,
    seen: Instant,
    known: Known,
}

/// A rollout that was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) identity: String,
    /// The hash of its template.
    pub(super) hash: String,
    /// Its place in the order.
    pub(super) sequence: u64,
}

/// Everything that is known, by uid.
#[derive(Debug, Default)]
pub(super) struct Memory {
    objects: BTreeMap<String, Entry>,
}

impl Memory {
    /// Whether an object looks as it did when it was last looked at.
    pub(super) fn is_unchanged(&mut self, uid: &str, signature: &str) -> bool {
        self.objects.get_mut(uid).is_some_and(|entry| {
            entry.seen = Instant::now();
            entry.signature == signature
        })
    }

    /// What is known of an object.
    pub(super) fn of(&self, uid: &str) -> Known {
        self.objects.get(uid).map(|entry| entry.known.clone()).unwrap_or_default()
    }

    /// Everything about it that was to be told has been.
    pub(super) fn keep(&mut self, uid: String, signature: String, known: Known) {
        if self.objects.len() < MOST || self.objects.contains_key(&uid) {
            self.objects.insert(uid, Entry { signature, seen: Instant::now(), known });
        }
    }

    /// It was deleted.
    pub(super) fn forget(&mut self, uid: &str) {
        self.objects.remove(uid);
    }

    /// Forgets what nobody has shown for long.
    pub(super) fn tidy(&mut self) {
        self.objects.retain(|_, entry| entry.seen.elapsed() < FORGOTTEN_AFTER);
    }

    /// How many objects are known.
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }
}
