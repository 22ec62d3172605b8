//! Looking: from samples to a verdict to a decision, and the clocks.

use super::{Decided, Effect, Entry, Incident, Notice, NoticeKind, Outcome, Phase, Watch};
use crate::action::Reversibility;
use crate::decision::{AutonomyLevel, Decision, decide};
use crate::evidence::Evidence;
use crate::fleet::Situation;
use crate::guard::{Hold, HoldReason, View, Weight, holds};
use crate::ids::SignalName;
use crate::matrix::{Mitigation, RowVerdict, Severity};
use crate::report;
use crate::units::Span;
use crate::verdict::{Judgement, Verdict};
use jiff::Timestamp;

impl Watch {
    /// Asks for the next look, if none is on its way and there is something to look at.
    pub(super) fn look(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if self.transient.looking
            || self.is_closed()
            || self.rules.signals.is_empty()
            || self.phase == Phase::Executing
        {
            return;
        }
        let evidence = self.current();
        if now <= evidence.since {
            return;
        }
        let since =
            evidence.signals.iter().map(|(name, signal)| (name.clone(), signal.measured_until)).collect();
        self.transient.looking = true;
        out.push(Effect::Measure { since });
    }

    /// Judges what is known and does what follows from it.
    pub(super) fn assess(&mut self, situation: &Situation, now: Timestamp, out: &mut Vec<Effect>) {
        self.assess_sight(now, out);
        match self.phase.clone() {
            Phase::Closed(_) => {}
            Phase::Executing => {
                self.advance(situation, now, out);
                self.tell_progress(now, out);
            }
            Phase::Aftercare { .. } => self.assess_aftercare(now, out),
            Phase::Verifying { until } => self.assess_recovery(until, now, out),
            Phase::Mitigating { name, until } => {
                let judgement = self.assess_verdict(now, out);
                self.assess_mitigation(&judgement, name, until, situation, now, out);
                self.assess_clocks(now, out);
            }
            Phase::Watching if self.is_too_early(now) => {}
            Phase::Watching | Phase::AwaitingApproval { .. } | Phase::HandedOver => {
                let judgement = self.assess_verdict(now, out);
                self.assess_decision(&judgement, situation, now, out);
                self.assess_approval(now, out);
                self.assess_clocks(now, out);
                self.assess_end(&judgement, now, out);
            }
        }
    }

    /// Whether the past is still on its way, and nobody reports anything that needs none: without it a service that was
    /// always like this would be blamed for a moment. A past that does not come is not waited for.
    fn is_too_early(&self, now: Timestamp) -> bool {
        self.evidence.awaits_baseline()
            && self.reports.is_empty()
            && now < self.rules.watch.blind_after.after(self.opened)
    }

    /// Says once that critical signals are blind, and once that sight is back.
    fn assess_sight(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Executing | Phase::Closed(_)) {
            return;
        }
        let evidence = self.current();
        let blind: Vec<(SignalName, String)> = evidence.blind(self.rules.watch.blind_after, now);
        match (self.blind.is_empty(), blind.is_empty()) {
            (true, false) => {
                let text = report::blind_words(&blind);
                self.record(Entry::BlindBegan { signals: blind }, now, out);
                self.notify(NoticeKind::Blind, None, "cannot see: telemetry is broken", text, out);
            }
            // Fresh evidence after a rollback is not blind yet, and sees nothing yet either.
            (false, true) if evidence.sees(&self.blind) => {
                self.record(Entry::BlindEnded, now, out);
                self.notify(NoticeKind::SightBack, None, "sees again", String::new(), out);
            }
            (true, true) | (false, _) => {}
        }
    }

    fn assess_verdict(&mut self, now: Timestamp, out: &mut Vec<Effect>) -> Judgement {
        let mut judgement =
            crate::verdict::judge(&self.evidence, &self.reports, &self.rules, self.deployment.at, now);
        let was_healthy = matches!(self.verdict, Some((Verdict::Healthy, _)));
        if was_healthy
            && judgement.verdict == Verdict::Inconclusive
            && self.evidence.stays_healthy(&self.rules.statistics)
        {
            judgement.verdict = Verdict::Healthy;
        }
        if self.verdict.as_ref() != Some(&(judgement.verdict, judgement.row.clone())) {
            let entry = Entry::Judged { verdict: judgement.verdict, row: judgement.row.clone() };
            self.record(entry, now, out);
        }
        if let (Verdict::Degraded(severity), Some(row)) = (judgement.verdict, &judgement.row) {
            self.open_incident(severity, row, now, out);
        }
        judgement
    }

    /// Opens the case file, or a new one when it got worse: the clocks then start again for the worse row.
    fn open_incident(&mut self, severity: Severity, row: &str, now: Timestamp, out: &mut Vec<Effect>) {
        let known = |incident: &Incident| incident.recovered.is_none() && incident.severity <= severity;
        if self.incident.as_ref().is_some_and(known) {
            return;
        }
        let Some(rule) = self.rules.matrix.rows.iter().find(|rule| rule.name == row) else { return };
        let (decide_by, act_by) =
            (rule.decide_within.unwrap_or(rule.act_within).after(now), rule.act_within.after(now));
        self.record(Entry::IncidentOpened { severity, row: row.to_owned(), decide_by, act_by }, now, out);
        let text = report::undecided_text(self, now);
        self.notify(NoticeKind::Degraded, Some(severity), &format!("is degraded: {row}"), text, out);
    }

    /// What people should try first, if there is anything left of it.
    fn next_mitigation(&self, judgement: &Judgement) -> Option<(Mitigation, Span)> {
        let row = self.rules.matrix.rows.iter().find(|row| Some(&row.name) == judgement.row.as_ref())?;
        if row.verdict == RowVerdict::No {
            return None;
        }
        row.first.iter().find_map(|mitigation| {
            let patience = self.rules.patience.get(&mitigation.name).copied().unwrap_or(mitigation.patience);
            let open = patience > Span::default() && !self.mitigations_done.contains(&mitigation.name);
            open.then(|| (mitigation.clone(), patience))
        })
    }

    fn assess_decision(
        &mut self,
        judgement: &Judgement,
        situation: &Situation,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        if self.phase == Phase::HandedOver {
            return;
        }
        if matches!(self.phase, Phase::AwaitingApproval { .. })
            && !matches!(judgement.verdict, Verdict::Degraded(_))
        {
            let severity = self.incident.as_ref().map(|incident| incident.severity);
            self.record(Entry::ApprovalWithdrawn { verdict: judgement.verdict }, now, out);
            let text = report::why_text(self, now);
            self.notify(NoticeKind::Recovered, severity, "needs no approval any more", text, out);
        }
        let decided = self.decide_now(judgement, situation, now);
        self.rehearse_if_asked(&decided, situation, now, out);
        // Reasons change their numbers at every look; only a change of what is done, or of which reasons, is news.
        let reasons = |decided: &Decided| decided.holds.iter().map(|hold| hold.reason).collect::<Vec<_>>();
        let same = self.decision.as_ref().is_some_and(|old| {
            old.decision == decided.decision
                && old.level == decided.level
                && reasons(old) == reasons(&decided)
        });
        // After a restart nobody knows whether what was decided was begun; the phase says that it did not get far.
        let unfinished = std::mem::take(&mut self.transient.unfinished) && self.phase == Phase::Watching;
        if same && !unfinished {
            return;
        }
        let news = self.decision.as_ref().is_none_or(|old| old.decision != decided.decision);
        let untold = |hold: &Hold| hold.is_told() && (unfinished || !self.holds_told.contains(&hold.reason));
        let acts = match decided.decision {
            // Guards come and go; each is told once.
            Decision::Hold => decided.holds.iter().any(untold),
            Decision::Clear => news && !self.cleared,
            Decision::KeepWatching | Decision::Notify => news,
            // Whoever waits for an approval goes on waiting for the same one.
            Decision::Propose { approval: true } if matches!(self.phase, Phase::AwaitingApproval { .. }) => {
                false
            }
            Decision::Propose { .. } | Decision::Mitigate { .. } | Decision::RollBack => news || unfinished,
        };
        if !same {
            self.record(Entry::Decided(decided.clone()), now, out);
        }
        if acts {
            self.act_on(&decided, judgement, situation, now, out);
        }
    }

    fn decide_now(&self, judgement: &Judgement, situation: &Situation, now: Timestamp) -> Decided {
        let Verdict::Degraded(severity) = judgement.verdict else {
            let level = self.rules.autonomy.level;
            return Decided { decision: decide(judgement, None, level, &[]), level, holds: Vec::new() };
        };
        let steps = self.rules.runbook.iter().flat_map(|runbook| &runbook.steps);
        let reversibility = steps.map(|step| step.reversibility).max().unwrap_or(Reversibility::Reversible);
        let mut level = self.rules.autonomy_for(severity, reversibility);
        // What a person was asked about, or has refused, is not done without one because a guard went away meanwhile. A
        // worse finding is another matter.
        let asked = match (&self.phase, &self.incident) {
            (Phase::AwaitingApproval { asked, .. }, Some(incident)) => incident.opened <= *asked,
            _ => false,
        };
        if asked || self.refused_once {
            level = level.min(AutonomyLevel::Approve);
        }
        let target = self.target(situation, None);
        let holds = match judgement.says {
            Some(RowVerdict::Rollback | RowVerdict::Maybe) => {
                let mut found = holds(&View {
                    rules: &self.rules,
                    watch: &self.id,
                    deployment: &self.deployment,
                    judgement,
                    evidence: &self.evidence,
                    situation,
                    target: target.as_ref(),
                    found: self.incident.as_ref().map(|incident| incident.opened),
                    by_person: false,
                    now,
                });
                found.extend(self.rehearsal_holds(level, situation, now));
                found
            }
            Some(RowVerdict::No) | None => Vec::new(),
        };
        let mitigation = self.next_mitigation(judgement).map(|(mitigation, _)| mitigation.name);
        Decided { decision: decide(judgement, mitigation.as_deref(), level, &holds), level, holds }
    }

    fn act_on(
        &mut self,
        decided: &Decided,
        judgement: &Judgement,
        situation: &Situation,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let severity = self.incident.as_ref().map(|incident| incident.severity);
        match &decided.decision {
            Decision::KeepWatching => {}
            Decision::Clear => {
                let text = report::why_text(self, now);
                self.notify(NoticeKind::Healthy, None, "is shown to be well", text, out);
            }
            Decision::Notify => {
                let would = matches!(judgement.says, Some(RowVerdict::Rollback | RowVerdict::Maybe));
                if would {
                    let text = report::would_text(self, situation, now);
                    self.notify(
                        NoticeKind::WouldRollBack,
                        severity,
                        "would have been turned back",
                        text,
                        out,
                    );
                }
            }
            Decision::Mitigate { name } => self.mitigate(name, judgement, now, out),
            Decision::Hold => {
                let text = report::holds_text(&decided.holds);
                self.notify(
                    NoticeKind::Held,
                    severity,
                    "should be turned back, and a guard holds",
                    text,
                    out,
                );
            }
            Decision::Propose { approval } => self.propose(*approval, situation, now, out),
            Decision::RollBack => self.roll_back(situation, now, out),
        }
    }

    fn mitigate(&mut self, name: &str, judgement: &Judgement, now: Timestamp, out: &mut Vec<Effect>) {
        let Some((mitigation, patience)) = self.next_mitigation(judgement) else { return };
        let until = patience.after(now);
        self.record(Entry::MitigationBegan { name: name.to_owned(), until }, now, out);
        let severity = self.incident.as_ref().map(|incident| incident.severity);
        let text = format!("{} — waiting {patience} for it to help.", mitigation.advice);
        self.notify(NoticeKind::Mitigation, severity, &format!("try first: {name}"), text, out);
    }

    /// A mitigation ends when it is shown to have helped, when its patience is over, or when it got worse.
    fn assess_mitigation(
        &mut self,
        judgement: &Judgement,
        name: String,
        until: Timestamp,
        situation: &Situation,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let still_degraded = matches!(judgement.verdict, Verdict::Degraded(_));
        // What somebody reports is over when somebody says so.
        let (hurt, reported) =
            judgement.row.as_deref().map(|row| judgement.decisive(row)).unwrap_or_default();
        let cured = |trial: &Evidence| trial.shown_cured(&hurt, &self.rules.statistics);
        let helped = !reported && self.trial.as_ref().is_some_and(cured);
        let still_first = self.next_mitigation(judgement).is_some_and(|(first, _)| first.name == name);
        if still_degraded && !helped && still_first && now < until {
            return;
        }
        let fixed = helped || !still_degraded;
        let what = format!("is well again after {name}");
        self.record(Entry::MitigationEnded { name, fixed }, now, out);
        if fixed {
            let severity = self.incident.as_ref().map(|incident| incident.severity);
            let text = report::why_text(self, now);
            self.notify(NoticeKind::Recovered, severity, &what, text, out);
        }
        let judgement = self.assess_verdict(now, out);
        self.assess_decision(&judgement, situation, now, out);
    }

    /// Calls out clocks that run out: at four fifths, and when they are over.
    fn assess_clocks(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(incident) = &self.incident else { return };
        if incident.recovered.is_some() || incident.acted.is_some() {
            return;
        }
        let severity = Some(incident.severity);
        let due: Vec<String> = clocks(incident)
            .into_iter()
            // A refusal is a decision.
            .filter(|(clock, _)| !(self.refused_once && clock.contains("decide")))
            .filter(|(clock, at)| *at <= now && !incident.escalated.contains(clock))
            .map(|(clock, _)| clock)
            .collect();
        // Several may be due at once after a long pause: each is recorded, the last is told.
        for clock in &due {
            self.record(Entry::Escalated { clock: clock.clone() }, now, out);
        }
        // Of a storm people are told once, and not by each of its victims.
        let in_a_storm = self.decision.as_ref().is_some_and(|decided| {
            decided
                .holds
                .iter()
                .any(|hold| hold.reason == HoldReason::CorrelatedFailure && hold.weight == Weight::Blocks)
        });
        if let Some(clock) = due.last().filter(|_| !in_a_storm) {
            let text = report::why_text(self, now);
            self.notify(NoticeKind::Escalation, severity, clock, text, out);
        }
    }

    /// Ends the watch when its time is over and nothing is under way.
    fn assess_end(&mut self, judgement: &Judgement, now: Timestamp, out: &mut Vec<Effect>) {
        let over = now >= self.rules.watch.watch_for.after(self.deployment.at);
        if !over || !matches!(self.phase, Phase::Watching | Phase::HandedOver) {
            return;
        }
        let outcome = match judgement.verdict {
            Verdict::Healthy => Outcome::Healthy,
            Verdict::Degraded(severity) => Outcome::Degraded(severity),
            Verdict::Inconclusive => Outcome::Inconclusive,
            Verdict::Blind => Outcome::Blind,
        };
        let open = self.incident.as_ref().is_some_and(|incident| incident.recovered.is_none());
        if let (Outcome::Degraded(severity), true) = (&outcome, open) {
            let text = report::why_text(self, now);
            self.notify(
                NoticeKind::Degraded,
                Some(*severity),
                "stays as it is: the watch is over",
                text,
                out,
            );
        }
        let fleet = if outcome == Outcome::Healthy { vec![self.proved_good(now)] } else { Vec::new() };
        self.close(outcome, fleet, now, out);
    }

    pub(super) fn notify(
        &self,
        kind: NoticeKind,
        severity: Option<Severity>,
        what: &str,
        text: String,
        out: &mut Vec<Effect>,
    ) {
        if self.is_closed() {
            return;
        }
        let name = format!("{} {}", self.deployment.service, self.deployment.release.version);
        let contacts = if kind.pages() { report::contacts_text(self) } else { String::new() };
        let newline = if contacts.is_empty() || text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let text = format!("{text}{newline}{contacts}");
        out.push(Effect::Notify(Notice { kind, severity, title: format!("{name} {what}"), text }));
    }
}

/// The clocks of an incident and when each is called out.
fn clocks(incident: &Incident) -> Vec<(String, Timestamp)> {
    let most = |by: Timestamp| {
        let whole = Span::between(incident.opened, by).milliseconds();
        Span::from_milliseconds(whole / 5 * 4).after(incident.opened)
    };
    vec![
        ("the time to decide is nearly over".into(), most(incident.decide_by)),
        ("the time to decide is over".into(), incident.decide_by),
        ("the time to act is nearly over".into(), most(incident.act_by)),
        ("the time to act is over".into(), incident.act_by),
    ]
}
