//! Progress of a plan that takes long: people who wait for news every quarter of an hour get them.

use super::{Effect, Entry, NoticeKind, Watch};
use crate::report;
use crate::units::Span;
use jiff::Timestamp;

impl Watch {
    /// Tells how far the plan is, once in every period; after a pause of the agent once for all that were missed.
    pub(super) fn tell_progress(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(execution) = self.execution.as_ref().filter(|_| !self.is_closed()) else { return };
        let every = self.rules.watch.progress_every.milliseconds().max(1);
        let periods = Span::between(execution.began, now).milliseconds() / every;
        let number = u32::try_from(periods).unwrap_or(u32::MAX);
        if self.phase != super::Phase::Executing || number <= self.progress_told {
            return;
        }
        let (done, of) = execution.progress();
        let share = report::percent_done(execution);
        self.record(Entry::ProgressTold { number, done, of }, now, out);
        let severity = self.incident.as_ref().map(|incident| incident.severity);
        let text = report::progress_text(self, now);
        self.notify(
            NoticeKind::Progress,
            severity,
            &format!("is being turned back: {share}% done"),
            text,
            out,
        );
    }
}
