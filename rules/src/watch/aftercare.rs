//! Aftercare: the rollback helped; does it hold?
//!
//! For the fleet the incident is over: the service counts as recovered, another deployment or another rollback of it is
//! not in its way. The watch only goes on looking, more seldom as time passes, and stops at the checkpoints to say how the
//! service is. If it is bad again, one page says that the rollback did not hold, and nothing is done alone until a person
//! has looked. A rollback is never rolled back.

use super::{Effect, Entry, NoticeKind, Outcome, Phase, Watch};
use crate::checkpoint::{self, Due, Standing, Taken, Tally};
use crate::evidence::Evidence;
use crate::matrix::RowVerdict;
use crate::report;
use crate::ruleset::RuleSet;
use crate::units::Span;
use crate::verdict::{FiringReport, Judgement};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// What is known of the time after a rollback.
#[derive(Debug, Clone, PartialEq)]
pub struct Aftercare {
    /// When the last step of the rollback was done: checkpoints are counted from here.
    pub ended: Timestamp,
    /// The checkpoints that were taken, and when.
    pub taken: Vec<(Timestamp, Taken)>,
    /// What was seen since the last of them.
    pub tally: Tally,
}

/// From when on it is looked more seldom: what a rollback breaks shows in the first half hour.
const BUSY: Span = Span::from_minutes(30);
/// How often it is looked then, unless a look every so often is rarer already.
const SELDOM: Span = Span::from_minutes(1);

impl Aftercare {
    pub(super) fn new(ended: Timestamp, settled: Timestamp) -> Self {
        Self { ended, taken: Vec::new(), tally: Tally::new(settled) }
    }

    pub(super) fn take(&mut self, taken: &Taken, next: Option<&Due>, at: Timestamp) {
        // Of several that were missed together each speaks of the same time.
        if next.is_none_or(|next| next.at > at) {
            self.tally.turn_over(at);
        }
        self.taken.push((at, taken.clone()));
    }

    /// The checkpoints that lie ahead, the next one first.
    pub fn ahead(&self, rules: &RuleSet) -> Vec<Due> {
        let taken = self.taken.iter().map(|(_, taken)| taken.checkpoint.as_str());
        checkpoint::ahead(&rules.watch.checkpoints, taken, self.ended)
    }

    fn next(&self, rules: &RuleSet) -> Option<Due> {
        self.ahead(rules).into_iter().next()
    }
}

/// How long the evidence that begins with a rollback is gathered. Its tests spread their beginnings over the whole time, so
/// that the tenth hour is looked at as sharply as the first, and all looks together raise one false alarm in `1 / alpha`.
pub(super) fn whole_time(rules: &RuleSet) -> Span {
    let longest = rules.watch.checkpoints.values().map(|checkpoint| checkpoint.after).max();
    rules.watch.watch_for.max(longest.unwrap_or_default())
}

impl Watch {
    /// Whether it was turned back, is well again and is looked after.
    pub fn in_aftercare(&self) -> bool {
        matches!(self.phase, Phase::Aftercare { .. })
    }

    /// What is looked at now: after a rollback, what was seen since.
    pub(super) fn current(&self) -> &Evidence {
        let since = matches!(self.phase, Phase::Verifying { .. } | Phase::Aftercare { .. });
        self.trial.as_ref().filter(|_| since).unwrap_or(&self.evidence)
    }

    /// Time between two looks, now.
    pub(super) fn pace(&self, now: Timestamp) -> Span {
        let settings = &self.rules.watch;
        let late = self.aftercare.as_ref().is_some_and(|care| Span::between(care.ended, now) >= BUSY);
        // A window longer than `blind_after` would be called blind at its first hole.
        let seldom = SELDOM.min(settings.blind_after);
        if self.in_aftercare() && late { settings.look_every.max(seldom) } else { settings.look_every }
    }

    /// Begins the aftercare, if any checkpoint is configured. Each speaks of what came after the rollback.
    pub(super) fn begin_aftercare(&mut self, now: Timestamp, out: &mut Vec<Effect>) -> bool {
        let Some(next) = self.aftercare.as_ref().and_then(|care| care.next(&self.rules)) else {
            return false;
        };
        self.record(Entry::AftercareBegan { next }, now, out);
        true
    }

    /// What the judge says of the time since the rollback. Reports from before the recovery are not news.
    pub(super) fn judged_since_rollback(&self, now: Timestamp) -> Judgement {
        let trial = self.current();
        let recovered = self.incident.as_ref().and_then(|incident| incident.recovered).unwrap_or(trial.since);
        let fresh = |report: &FiringReport| report.since >= recovered;
        let reports = self.reports.iter().filter(|(_, report)| fresh(report));
        let reports: BTreeMap<String, FiringReport> =
            reports.map(|(what, report)| (what.clone(), report.clone())).collect();
        crate::verdict::judge(trial, &reports, &self.rules, trial.since, now)
    }

    /// Ends the aftercare when the rollback did not hold.
    pub(super) fn assess_aftercare(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let judgement = self.judged_since_rollback(now);
        if !matches!(judgement.says, Some(RowVerdict::Rollback | RowVerdict::Maybe)) {
            return;
        }
        let row = judgement.row.unwrap_or_default();
        let since = self.aftercare.as_ref().map_or_else(Span::default, |care| Span::between(care.ended, now));
        let since = Span::from_seconds(since.milliseconds() / 1_000);
        let why = format!("{row} holds {since} after the rollback");
        out.push(report::needs_person(self, &format!("the rollback did not hold: {why}")));
        let fleet = vec![self.suspended(&format!("the rollback did not hold: {why}"), now)];
        self.close(Outcome::DidNotHold(why), fleet, now, out);
    }

    /// Takes the checkpoints that are due, with what was just seen; ends the aftercare behind the last.
    pub(super) fn take_checkpoints(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        while let Phase::Aftercare { next } = &self.phase
            && next.at <= now
        {
            let due = next.clone();
            let Some(taken) = self.checkpoint(&due, now) else { return };
            let ahead = self.aftercare.as_ref().map(|care| care.ahead(&self.rules)).unwrap_or_default();
            let next = ahead.into_iter().find(|ahead| ahead.checkpoint != due.checkpoint);
            let last = next.is_none();
            self.record(
                Entry::CheckpointTaken { taken: Box::new(taken.clone()), next: next.map(Box::new) },
                now,
                out,
            );
            self.tell_checkpoint(&taken, now, out);
            if last {
                return self.close(Outcome::RolledBack, Vec::new(), now, out);
            }
        }
    }

    fn checkpoint(&self, due: &Due, now: Timestamp) -> Option<Taken> {
        let care = self.aftercare.as_ref()?;
        let judgement = self.judged_since_rollback(now);
        let statistics = &self.rules.statistics;
        let (mut bounds, mut without_signal) = (Vec::new(), Vec::new());
        let wanted = self.rules.watch.checkpoints.get(&due.checkpoint);
        for (name, target) in wanted.iter().flat_map(|checkpoint| &checkpoint.bounds) {
            match self.current().signals.get(name) {
                Some(evidence) => {
                    let certainty = checkpoint::Certainty {
                        beta: statistics.beta,
                        cluster: evidence.cluster(statistics),
                    };
                    bounds.push(checkpoint::check(&evidence.signal, *target, &care.tally, certainty));
                }
                None => without_signal.push(name.clone()),
            }
        }
        Some(Taken {
            checkpoint: due.checkpoint.clone(),
            due: due.at,
            late: due.late(now),
            since: care.tally.since,
            verdict: judgement.verdict,
            row: judgement.row,
            bounds,
            without_signal,
        })
    }

    fn tell_checkpoint(&mut self, taken: &Taken, now: Timestamp, out: &mut Vec<Effect>) {
        let missed = taken.standing() == Some(Standing::Broken);
        let (kind, what) = match missed {
            true => (NoticeKind::CheckpointMissed, "missed"),
            false => (NoticeKind::Checkpoint, "taken"),
        };
        let severity = self.incident.as_ref().map(|incident| incident.severity);
        let text = report::checkpoint_text(self, taken, now);
        self.notify(
            kind,
            severity,
            &format!("was turned back: checkpoint {} {what}", taken.checkpoint),
            text,
            out,
        );
    }

    /// After a restart: what was written and not finished.
    pub(super) fn resume_aftercare(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let over = self.aftercare.as_ref().is_none_or(|care| care.next(&self.rules).is_none());
        if over || self.superseded_by.is_some() {
            self.close(Outcome::RolledBack, Vec::new(), now, out);
        }
    }
}
