//! What a judge is: something that is shown one block after another and may, once, call for a rollback.

use crate::traffic::Look;

/// A call for a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// What spoke, in a few words.
    pub because: &'static str,
}

/// One watch's judge. A fresh one judges each watch.
pub trait Judge {
    /// A block of history, before the deployment, oldest first. Both arms serve the old release. Judges that learn
    /// nothing from history need not listen.
    fn before(&mut self, _block: &Look) {}

    /// The next block after the deployment. Whoever has called for a rollback is not asked again.
    fn look(&mut self, block: &Look) -> Option<Alarm>;
}
