//! The life of one watched deployment, from its news to its close.
//!
//! [`Watch::on`] is the only way a watch changes: an input and a time go in, effects come out, in the order in which they
//! must be performed. What happened is a list of [`Entry`]s, and the watch is their fold: [`Watch::restore`] applies the
//! entries of the ledger and decides nothing, so that a decision once written stands.
//!
//! `Effect::Record` comes before every effect it announces. The caller makes it durable before it performs the next one;
//! so nothing happens that was not written.

mod act;
mod aftercare;
mod entry;
mod line;
mod look;
mod progress;
mod rehearse;
mod speech;
mod target;
mod verify;

pub use aftercare::Aftercare;
pub use entry::{BrokenLedger, Entry, Outcome, VerificationResult};
pub use speech::{Effect, Input, Notice, NoticeKind, Permit};

use crate::checkpoint::Due;
use crate::decision::{AutonomyLevel, Decision};
use crate::deployment::{DeployEvent, Deployment};
use crate::evidence::Evidence;
use crate::execution::{Execution, ExecutionEnd};
use crate::fleet::{FleetEntry, Situation};
use crate::guard::{Hold, HoldReason};
use crate::ids::{PlanDigest, SignalName, WatchId};
use crate::matrix::Severity;
use crate::past::Ranges;
use crate::plan::RollbackPlan;
use crate::rehearsal::Rehearsal;
use crate::ruleset::RuleSet;
use crate::signal::Measurement;
use crate::storm::Health;
use crate::verdict::{FiringReport, Judgement, Verdict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What the watch is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Looking.
    Watching,
    /// People try something first; until then it is looked whether it helps.
    Mitigating {
        /// What they try.
        name: String,
        /// Until when.
        until: Timestamp,
    },
    /// A plan waits for a person's word.
    AwaitingApproval {
        /// When asked.
        asked: Timestamp,
        /// Until when the word counts.
        expires: Timestamp,
    },
    /// A plan is being carried out.
    Executing,
    /// The plan is through; does it help?
    Verifying {
        /// Until when that must be shown.
        until: Timestamp,
    },
    /// The rollback helped; does it hold?
    Aftercare {
        /// The checkpoint that is next.
        next: Due,
    },
    /// People have the matter in hand (they were told, refused, or let the time run out): looking only.
    HandedOver,
    /// Over.
    Closed(Outcome),
}

/// The case file of a watch that found something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// When it was detected.
    pub opened: Timestamp,
    /// How bad.
    pub severity: Severity,
    /// The row that held, or what a person asked for.
    pub row: String,
    /// When it must be decided.
    pub decide_by: Timestamp,
    /// When it must be over.
    pub act_by: Timestamp,
    /// When the plan began to be carried out.
    pub acted: Option<Timestamp>,
    /// When recovery was shown.
    pub recovered: Option<Timestamp>,
    /// Clocks that were called out.
    pub escalated: BTreeSet<String>,
}

/// One deployment under observation.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// Its identity.
    pub id: WatchId,
    /// What is watched.
    pub deployment: Deployment,
    /// The rules it lives by.
    pub rules: RuleSet,
    /// When it was opened.
    pub opened: Timestamp,
    /// What is known of the signals.
    pub evidence: Evidence,
    /// What is reported.
    pub reports: BTreeMap<String, FiringReport>,
    /// Reports that ended, by their reporters: when what ended began. Who brings the beginning after the end, as a second
    /// messenger may, opens nothing again.
    ended_reports: BTreeMap<String, Timestamp>,
    /// The last verdict that was written, and the row it rests on.
    pub verdict: Option<(Verdict, Option<String>)>,
    /// The last decision that was written.
    pub decision: Option<Decided>,
    /// What it is doing.
    pub phase: Phase,
    /// The case file, if it found something.
    pub incident: Option<Incident>,
    /// The newest plan and its digest.
    pub plan: Option<(RollbackPlan, PlanDigest)>,
    /// What came of trying the plan, and when the answer came.
    pub rehearsal: Option<(Rehearsal, Timestamp)>,
    /// The newest plan being carried out.
    pub execution: Option<Execution>,
    /// Evidence since a mitigation or a rollback: does it help?
    pub trial: Option<Evidence>,
    /// What was seen since the rollback, and the checkpoints taken.
    pub aftercare: Option<Aftercare>,
    /// Signals that were called blind, until sight is back.
    pub blind: BTreeSet<SignalName>,
    /// What happened, for people.
    pub timeline: Vec<(Timestamp, String)>,
    /// Plans drawn so far.
    plans_drawn: u32,
    /// How often people were told how far the plan is.
    progress_told: u32,
    /// Mitigations that are behind us, of the row that decides.
    mitigations_done: BTreeSet<String>,
    /// Since when the release before has been running, as far as the fleet knew.
    previous_since: Option<Timestamp>,
    /// Guards that people were told of since the incident was opened.
    holds_told: BTreeSet<HoldReason>,
    /// Whether people were told that the release is well.
    cleared: bool,
    /// Whether it is turned back for practice.
    pub drill: bool,
    /// Whether a person refused a plan: from then on nothing is done alone.
    refused_once: bool,
    /// The deployment that took this one's place.
    superseded_by: Option<WatchId>,
    /// How the execution ended, once that is written.
    ended: Option<ExecutionEnd>,
    /// What the verification showed, once that is written.
    verified: Option<VerificationResult>,
    transient: Transient,
}

/// What a restart forgets. It takes no part in comparisons: two watches with the same record are the same watch.
#[derive(Debug, Clone, Default)]
struct Transient {
    /// A look is on its way.
    looking: bool,
    /// Since when a rehearsal is on its way.
    rehearsing: Option<Timestamp>,
    /// When the next tick is due; inputs in between do not put it off.
    wake: Option<Timestamp>,
    /// The last decision was written before a restart, and perhaps not carried out.
    unfinished: bool,
}

impl PartialEq for Transient {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A decision with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    /// What is done.
    pub decision: Decision,
    /// What might have been done alone.
    pub level: AutonomyLevel,
    /// What stands against acting.
    pub holds: Vec<Hold>,
}

/// Lines kept in a timeline; a watch that writes more repeats itself, and the ledger has them all.
const MOST_TIMELINE: usize = 500;
/// Lines from the beginning that are kept when there are too many; after them the oldest goes first, so that a flood of
/// reports hides neither how it began nor how it ended.
const TIMELINE_BEGINNING: usize = 100;

/// Evidence at which a service is suspected to ail. In thirty healthy ones it is reached by one at most, if that.
const SUSPECTED: f64 = 30.0;
/// It is ill as long as its last looks were at least so many times its reference.
const STILL_ILL: f64 = 1.5;

/// The effects of a watch that has just closed: nothing comes after `Close` but an answer somebody waits for.
fn closing(mut effects: Vec<Effect>) -> Vec<Effect> {
    if let Some(end) = effects.iter().position(|effect| matches!(effect, Effect::Close)) {
        let behind = effects.split_off(end + 1);
        effects.extend(behind.into_iter().filter(|effect| matches!(effect, Effect::Answer(_))));
    }
    effects
}

impl Watch {
    /// A watch over a new deployment, with the effects that start it. `running` is what ran before as far as the fleet
    /// knows, for sources that do not say.
    pub fn open(
        event: &DeployEvent,
        mut rules: RuleSet,
        situation: &Situation,
        now: Timestamp,
    ) -> (Watch, Vec<Effect>) {
        let deployment = event.deployment(situation.running.as_ref());
        rules.compare = rules.compare.map(|compare| compare.of(&deployment));
        let id = WatchId::of(&event.source, &event.id, &event.service, &event.environment);
        let previous_since = situation
            .running_since
            .filter(|_| deployment.previous.is_some() && deployment.previous == situation.running);
        let entry =
            Entry::Opened { deployment: deployment.clone(), rules: Box::new(rules.clone()), previous_since };
        let mut watch = Watch::blank(id.clone(), deployment.clone(), rules, previous_since, now);
        watch.note(now, &entry);
        let fleet = vec![FleetEntry::Deployed { deployment, watch: id }];
        let mut effects = vec![Effect::Record { entry, fleet }];
        effects.extend(watch.on(Input::Deployed, situation, now));
        (watch, effects)
    }

    /// The watch as its records tell it. Applies facts, decides nothing.
    pub fn restore(id: WatchId, entries: &[(Timestamp, Entry)]) -> Result<Watch, BrokenLedger> {
        let Some(((opened, Entry::Opened { deployment, rules, previous_since }), rest)) =
            entries.split_first()
        else {
            return Err(BrokenLedger::NotOpened { watch: id });
        };
        let mut watch = Watch::blank(id, deployment.clone(), (**rules).clone(), *previous_since, *opened);
        watch.note(*opened, &entries[0].1);
        for (at, entry) in rest {
            watch.apply(entry, *at)?;
        }
        Ok(watch)
    }

    fn blank(
        id: WatchId,
        deployment: Deployment,
        rules: RuleSet,
        previous_since: Option<Timestamp>,
        now: Timestamp,
    ) -> Watch {
        let mut evidence = Evidence::new(&rules, deployment.at);
        // News that come late must not make us blind before the first look.
        evidence.silent_since(now);
        Watch {
            id,
            evidence,
            deployment,
            rules,
            opened: now,
            reports: BTreeMap::new(),
            ended_reports: BTreeMap::new(),
            verdict: None,
            decision: None,
            phase: Phase::Watching,
            incident: None,
            plan: None,
            rehearsal: None,
            execution: None,
            trial: None,
            aftercare: None,
            blind: BTreeSet::new(),
            timeline: Vec::new(),
            plans_drawn: 0,
            progress_told: 0,
            mitigations_done: BTreeSet::new(),
            previous_since,
            holds_told: BTreeSet::new(),
            cleared: false,
            drill: false,
            refused_once: false,
            superseded_by: None,
            ended: None,
            verified: None,
            transient: Transient::default(),
        }
    }

    /// Takes news in and says what to do about it.
    pub fn on(&mut self, input: Input, situation: &Situation, now: Timestamp) -> Vec<Effect> {
        let mut out = Vec::new();
        if let Phase::Closed(outcome) = &self.phase {
            if matches!(input, Input::Approved { .. } | Input::Refused { .. } | Input::RollbackAsked { .. }) {
                out.push(Effect::Answer(Err(format!("watch {} is closed: {outcome}", self.id))));
            }
            return out;
        }
        match input {
            Input::Deployed => self.begin(&mut out),
            Input::Restarted => self.resume(situation, now, &mut out),
            // A second past of the same signals says nothing new: the first one stands.
            Input::Baseline(_) if !self.evidence.awaits_baseline() => {}
            Input::Baseline(past) => {
                let past = past.into_iter().map(|(name, past)| (name, past.checked())).collect();
                self.record(Entry::BaselineTaken { past, windows: BTreeMap::new() }, now, &mut out);
                self.assess(situation, now, &mut out);
            }
            Input::Samples(measurements) => {
                self.transient.looking = false;
                let measurements: Vec<Measurement> =
                    measurements.into_iter().map(Measurement::checked).collect();
                if !measurements.is_empty() {
                    self.record(Entry::Measured { measurements }, now, &mut out);
                }
                self.assess(situation, now, &mut out);
                self.take_checkpoints(now, &mut out);
            }
            Input::Reported(report) => {
                self.record(Entry::Reported { report }, now, &mut out);
                self.assess(situation, now, &mut out);
            }
            Input::Superseded(by) => self.superseded(by, situation, now, &mut out),
            Input::Approved { by, digest } => self.approved(by, &digest, situation, now, &mut out),
            Input::Refused { by, digest, reason } => self.refused(by, &digest, reason, now, &mut out),
            Input::RollbackAsked { by, to, drill } => {
                self.rollback_asked(by, to, drill, situation, now, &mut out);
            }
            Input::StepEnded { plan, step, attempt, outcome } => {
                self.step_ended(&plan, step, attempt, outcome, situation, now, &mut out);
            }
            Input::Rehearsed(rehearsal) => self.rehearsed(rehearsal, situation, now, &mut out),
            Input::Tick => {
                self.assess(situation, now, &mut out);
                if self.rules.signals.is_empty() {
                    // There is no look to wait for.
                    self.take_checkpoints(now, &mut out);
                }
                self.look(now, &mut out);
            }
        }
        if self.is_closed() {
            return closing(out);
        }
        out.push(Effect::WakeAt(self.next_wake(now)));
        out
    }

    /// Is it over?
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    /// How the service is doing, for the other watches: whether it ails, be it shown or only suspected, and how much.
    pub fn health(&self) -> Health {
        // What was turned back ails no more: what runs since is what counts.
        let evidence = self.trial.as_ref().filter(|_| self.in_aftercare()).unwrap_or(&self.evidence);
        let times = evidence.times();
        let accused = self.incident.as_ref().is_some_and(|incident| incident.recovered.is_none())
            || evidence.together() > SUSPECTED.ln();
        // What was shown once stays shown; the last looks say whether it still is so, or somebody who says so still.
        let still = times.is_none_or(|times| times.at_least > STILL_ILL) || !self.reports.is_empty();
        Health {
            ails: accused && still,
            times: times.map(|times| times.about),
            // Nobody waits for a look that is a minute away.
            seen_until: evidence.seen_until().filter(|_| !self.in_aftercare()),
            version: self.deployment.release.version.clone(),
            depends_on: self.rules.depends_on.clone(),
        }
    }

    /// What is known now, judged now. For showing; [`Watch::on`] judges by itself.
    pub fn judgement(&self, now: Timestamp) -> Judgement {
        if self.in_aftercare() {
            return self.judged_since_rollback(now);
        }
        crate::verdict::judge(self.current(), &self.reports, &self.rules, self.deployment.at, now)
    }

    fn begin(&mut self, out: &mut Vec<Effect>) {
        if !self.rules.signals.is_empty() {
            let ranges = Ranges::of(&self.rules.watch, self.deployment.at);
            out.push(Effect::MeasureBaseline { ranges });
        }
    }

    fn resume(&mut self, situation: &Situation, now: Timestamp, out: &mut Vec<Effect>) {
        if self.evidence.signals.values().any(|e| e.baseline == crate::evidence::BaselineState::Waiting) {
            self.begin(out);
        }
        if self.incident.is_some() {
            // A message may have been lost between its record and its sending: say again where things stand.
            out.push(crate::report::restarted(self));
        }
        if !self.blind.is_empty() {
            self.notify(NoticeKind::Blind, None, "is still not seen", String::new(), out);
        }
        if matches!(self.phase, Phase::AwaitingApproval { .. }) {
            let severity = self.incident.as_ref().map(|incident| incident.severity);
            let text = crate::report::plan_text(self, now);
            self.notify(NoticeKind::ApprovalNeeded, severity, "waits for an approval", text, out);
        }
        self.transient.unfinished = true;
        match (&self.phase, self.verified.clone()) {
            (Phase::Executing, _) => self.resume_execution(situation, now, out),
            (Phase::Verifying { .. }, Some(result)) => self.end_verification(result, now, out),
            (Phase::Aftercare { .. }, _) => self.resume_aftercare(now, out),
            _ if self.superseded_by.is_some() => self.close(Outcome::Superseded, Vec::new(), now, out),
            _ => {}
        }
    }

    fn superseded(&mut self, by: WatchId, situation: &Situation, now: Timestamp, out: &mut Vec<Effect>) {
        if self.superseded_by.as_ref() != Some(&by) {
            self.record(Entry::Superseded { by }, now, out);
        }
        if self.phase == Phase::Executing {
            // A step that is in flight is waited for; no other one begins.
            return self.advance(situation, now, out);
        }
        if self.in_aftercare() {
            // The rollback helped, and what runs now has a watch of its own.
            return self.close(Outcome::RolledBack, Vec::new(), now, out);
        }
        if let Some(incident) = self.incident.as_ref().filter(|incident| incident.recovered.is_none()) {
            let severity = Some(incident.severity);
            let text = format!("It was {}. Nothing further is done.", self.phase_words());
            self.notify(NoticeKind::Degraded, severity, "was replaced by a newer deployment", text, out);
        }
        self.close(Outcome::Superseded, Vec::new(), now, out);
    }

    /// Writes an entry down. The entries made here are legal by construction; if one is not, the watch is stuck and says
    /// so, since a log that does not add up is nothing to act on.
    fn record(&mut self, entry: Entry, now: Timestamp, out: &mut Vec<Effect>) {
        self.record_with(entry, Vec::new(), now, out);
    }

    fn record_with(&mut self, entry: Entry, fleet: Vec<FleetEntry>, now: Timestamp, out: &mut Vec<Effect>) {
        if self.is_closed() {
            return;
        }
        match self.apply(&entry, now) {
            Ok(()) => out.push(Effect::Record { entry, fleet }),
            Err(broken) => self.broken(&broken, now, out),
        }
    }

    /// A log that does not add up is nothing to act on. Whatever was being carried out is over for the fleet too: were
    /// it not said, the service could never be turned back again.
    fn broken(&mut self, broken: &BrokenLedger, now: Timestamp, out: &mut Vec<Effect>) {
        let why = broken.to_string();
        out.push(crate::report::needs_person(self, &why));
        let mut fleet = Vec::new();
        if let (Phase::Executing, Some(execution)) = (&self.phase, &self.execution) {
            fleet.push(FleetEntry::RollbackEnded {
                service: self.deployment.service.clone(),
                environment: self.deployment.environment.clone(),
                plan: execution.plan.id.clone(),
                running: None,
                at: now,
            });
            let reason = format!("{}: {why}", self.deployment.service);
            fleet.push(FleetEntry::AutoSuspended { reason, at: now });
        }
        let entry = Entry::Closed { outcome: Outcome::Stuck(why) };
        // Closing is legal in every state.
        let _always_ok = self.apply(&entry, now);
        out.push(Effect::Record { entry, fleet });
        out.push(Effect::Close);
    }

    fn close(&mut self, outcome: Outcome, mut fleet: Vec<FleetEntry>, now: Timestamp, out: &mut Vec<Effect>) {
        fleet.extend(self.found_bad(&outcome, now));
        fleet.extend(self.drilled(&outcome, now));
        self.record_with(Entry::Closed { outcome }, fleet, now, out);
        out.push(Effect::Close);
    }

    /// What is remembered of a release that was bad and goes, or stays, without having been turned back: nobody shall
    /// return to it as to a good one.
    fn found_bad(&self, outcome: &Outcome, at: Timestamp) -> Option<FleetEntry> {
        let incident = self.incident.as_ref()?;
        let left = matches!(outcome, Outcome::Superseded | Outcome::Degraded(_));
        // P3 rows say that it is not worth a rollback; what recovered by itself is not held against it.
        let bad =
            incident.severity < Severity::P3 && incident.acted.is_none() && incident.recovered.is_none();
        (left && bad).then(|| FleetEntry::FoundBad {
            service: self.deployment.service.clone(),
            environment: self.deployment.environment.clone(),
            version: self.deployment.release.version.clone(),
            why: format!("{}: {}", incident.severity, incident.row),
            at,
        })
    }

    /// What is remembered of a drill: when it was, and how it went.
    fn drilled(&self, outcome: &Outcome, at: Timestamp) -> Option<FleetEntry> {
        self.drill.then(|| FleetEntry::Drilled {
            service: self.deployment.service.clone(),
            environment: self.deployment.environment.clone(),
            outcome: outcome.to_string(),
            at,
        })
    }

    fn note(&mut self, at: Timestamp, entry: &Entry) {
        let Some(words) = entry.words() else { return };
        if self.timeline.len() >= MOST_TIMELINE {
            self.timeline.remove(TIMELINE_BEGINNING);
        }
        self.timeline.push((at, words));
    }

    /// Ticks keep their rhythm: were every input to put the next one off, a flood of alerts would stop the looking.
    fn next_wake(&mut self, now: Timestamp) -> Timestamp {
        let next = self.pace(now).after(now);
        // A tick that lies further ahead than the rhythm was set by a clock that has been set back since.
        let due = self.transient.wake.filter(|due| *due > now && *due <= next);
        let look = due.unwrap_or(next);
        self.transient.wake = Some(look);
        let waiting = self.execution.as_ref().map(|execution| execution.next(now));
        match (&self.phase, waiting) {
            (Phase::Aftercare { next }, _) if next.at > now => look.min(next.at),
            (Phase::Executing, Some(crate::execution::Next::WaitUntil(at))) => at.min(look),
            _ => look,
        }
    }
}

#[cfg(test)]
mod tests;
