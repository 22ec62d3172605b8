//! Verification: the same road driven again. The same collector, the same judge, fresh evidence since the rollback.

use super::{Effect, Entry, NoticeKind, Outcome, VerificationResult, Watch};
use crate::fleet::{FleetEntry, KnownGood};
use crate::matrix::RowVerdict;
use crate::report;
use crate::ruleset::WatchSettings;
use crate::units::Span;
use jiff::Timestamp;

/// From when on what is measured belongs to the release that was returned to. A sample may be this old, so that the
/// first window behind the last step can hold errors of the release that is gone; a verdict on those would be final.
pub(super) fn settled(settings: &WatchSettings, ended: Timestamp) -> Timestamp {
    settings.max_sample_age.after(ended)
}

impl Watch {
    pub(super) fn begin_verification(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let until = self.rules.watch.verify_for.after(settled(&self.rules.watch, now));
        self.transient.looking = false;
        self.record(Entry::VerificationBegan { until }, now, out);
    }

    pub(super) fn assess_recovery(&mut self, until: Timestamp, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(trial) = &self.trial else { return };
        let judgement = crate::verdict::judge(trial, &Default::default(), &self.rules, trial.since, now);
        let soaked = Span::between(trial.since, now) >= self.rules.watch.verify_soak;
        let turns_back = matches!(judgement.says, Some(RowVerdict::Rollback | RowVerdict::Maybe));
        let result = if turns_back {
            let row = judgement.row.unwrap_or_default();
            VerificationResult::NotRecovered(format!("{row} holds after the rollback too"))
        } else if soaked && trial.shown_cured(&self.hurt(), &self.rules.statistics) {
            VerificationResult::Recovered
        } else if now >= until {
            let why = if judgement.blind.is_empty() {
                report::still_missing(trial, &self.rules.statistics)
            } else {
                report::blind_words(&judgement.blind)
            };
            VerificationResult::Unverified(why)
        } else {
            return;
        };
        self.record(Entry::VerificationEnded { result: result.clone() }, now, out);
        self.end_verification(result, now, out);
    }

    /// The signals for which it was turned back: they have to be shown well, whatever their role is.
    fn hurt(&self) -> std::collections::BTreeSet<crate::ids::SignalName> {
        let Some(incident) = &self.incident else { return Default::default() };
        let at = self.deployment.at;
        crate::verdict::judge(&self.evidence, &self.reports, &self.rules, at, at).decisive(&incident.row).0
    }

    pub(super) fn end_verification(
        &mut self,
        result: VerificationResult,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let severity = self.incident.as_ref().map(|incident| incident.severity);
        match result {
            VerificationResult::Recovered => {
                let text = report::recovery_text(self, now);
                self.notify(
                    NoticeKind::Recovered,
                    severity,
                    "was turned back, and the service is well again",
                    text,
                    out,
                );
                // What was practised needs no looking after: the release that was turned back comes back soon.
                if self.drill || !self.begin_aftercare(now, out) {
                    self.close(Outcome::RolledBack, Vec::new(), now, out);
                }
            }
            // A rollback is never rolled back by the agent itself: from here on it is a person's matter.
            VerificationResult::NotRecovered(why) => {
                out.push(report::needs_person(self, &format!("the rollback did not help: {why}")));
                let fleet = vec![self.suspended(&why, now)];
                self.close(Outcome::NotRecovered(why), fleet, now, out);
            }
            VerificationResult::Unverified(why) => {
                out.push(report::needs_person(
                    self,
                    &format!("whether the rollback helped is not known: {why}"),
                ));
                let fleet = vec![self.suspended(&why, now)];
                self.close(Outcome::Unverified(why), fleet, now, out);
            }
        }
    }

    pub(super) fn suspended(&self, why: &str, now: Timestamp) -> FleetEntry {
        FleetEntry::AutoSuspended { reason: format!("{}: {why}", self.deployment.service), at: now }
    }

    /// The fact that this release ran well for as long as it was watched.
    pub(super) fn proved_good(&self, now: Timestamp) -> FleetEntry {
        FleetEntry::ProvedGood {
            service: self.deployment.service.clone(),
            environment: self.deployment.environment.clone(),
            known: KnownGood {
                release: self.deployment.release.clone(),
                ran_for: Span::between(self.deployment.at, now),
                requests: self.evidence.requests(),
                at: now,
                found_bad: None,
            },
        }
    }
}
