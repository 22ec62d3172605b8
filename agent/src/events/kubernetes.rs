//! A cluster as a source of events: what is rolled out there is noticed, whether anybody tells us or not.
//!
//! **What a deployment is.** A change of the pod template that the workload's controller has taken up. Not a change of
//! status, of replicas, of labels or annotations of the object; not a paused change, which runs nowhere; and not
//! `kubectl rollout restart`, which brings the same release again (a tag that moves under the same name is not seen:
//! deploy by fixed tags or digests). A deleted workload is no news either: the service may run on in another one.
//!
//! **Who knows what ran.** Controllers keep their past in the cluster: ReplicaSets and ControllerRevisions, each with a
//! revision that counts changes of the template and nothing else (`history`). News is read from there and not from the
//! difference of two looks of ours. So the same rollout is told with the same identity (uid, revision, hash of the
//! template) by the watch, by the reconcile, after a restart and by a second agent, and the ledger keeps one of them;
//! going back to an earlier template is a new revision and so is news again; and the generation, which also counts
//! replicas and begins anew with a new object, is used for nothing.
//!
//! **When it happened.** When the ReplicaSet or ControllerRevision was made; for one that was returned to, when the
//! template was last written (`managedFields`). What was there before us is old by that time and opens no watch. The
//! source's counter is that time in seconds followed by the revision: it orders the rollouts of one object as they were,
//! and those of several objects of one service by time.
//!
//! **Deployed or rolled back.** A rollout to a template that the cluster knew before the one that it replaces is a
//! rollback, whoever did it; it is watched by nobody, so that our own undo is not turned back in turn. Coming back from
//! there to the newer template is a deployment again. Our own `set_image` may make a template that never was: if we were
//! the last to write the template, and its images ran before, it is a rollback as well.
//!
//! **Hints and truth.** Watches (`watching`) bring news within a second and may break, stall or lie still; nothing
//! depends on them. Every [`KubernetesSourceConfig::reconcile`] everything is listed and compared with what was told. An
//! answer from an old cache shows old revisions, which are not newer than what was told, and says nothing.
//!
//! **One object is one object.** What keeps one of them from being looked at (`troubles`), or takes its name from it
//! (`claims`), is said of it, and everything else is heard; only a list that does not come means that we are deaf.
//!
//! Argo Rollouts and Flagger canaries bring one thing more, which is how far they trust the new release:
//! `progressive`.

mod config;

#[cfg(feature = "kubernetes")]
mod claims;
#[cfg(feature = "kubernetes")]
mod client;
#[cfg(feature = "kubernetes")]
mod details;
#[cfg(feature = "kubernetes")]
mod history;
#[cfg(feature = "kubernetes")]
mod kind;
#[cfg(feature = "kubernetes")]
mod memory;
#[cfg(feature = "kubernetes")]
mod naming;
#[cfg(feature = "kubernetes")]
mod news;
#[cfg(feature = "kubernetes")]
mod progressive;
#[cfg(feature = "kubernetes")]
mod source;
#[cfg(feature = "kubernetes")]
mod template;
#[cfg(all(test, feature = "kubernetes"))]
mod tests;
#[cfg(feature = "kubernetes")]
mod troubles;
#[cfg(feature = "kubernetes")]
mod watching;

pub use config::{DigestOf, KubernetesSourceConfig, WatchedKind};
#[cfg(feature = "kubernetes")]
pub use source::KubernetesSource;
