//! The life of one watched deployment, from its news to its close.
//!
//! [`Watch::on`] is the only way a watch changes: an input and a time go in, effects come out, in the order in which they
//! must be performed. What happened is a list of [`Entry`]s, and the watch is their fold: [`Watch::restore`] applies the
//! entries of the ledger and decides nothing, so that a decision once written stands.
//!
//! `Effect::Record` comes before every effect it announces. The caller makes it durable before it performs the next one;
//! so nothing happens that was not written.

mod act;
mod entry;
mod look;
mod verify;

pub use entry::{BrokenLedger, Entry, Outcome, VerificationResult};

use crate::action::StepOutcome;
use crate::decision::{AutonomyLevel, Decision};
use crate::deployment::{DeployEvent, Deployment, Report};
use crate::evidence::Evidence;
use crate::execution::{Direction, Execution};
use crate::fleet::{FleetEntry, KnownGood, Situation};
use crate::guard::Hold;
use crate::ids::{EnvironmentName, PlanDigest, PlanId, ServiceName, SignalName, Version, WatchId};
use crate::matrix::Severity;
use crate::plan::{RollbackPlan, Step};
use crate::ruleset::RuleSet;
use crate::signal::Measurement;
use crate::units::Span;
use crate::verdict::{FiringReport, Judgement, Verdict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything the world can say to a watch.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// It was just opened.
    Deployed,
    /// The agent started again and restored the watch from the ledger.
    Restarted,
    /// The past of the signals, oldest window first.
    Baseline(BTreeMap<SignalName, Vec<Measurement>>),
    /// What came of a look.
    Samples(Vec<Measurement>),
    /// An alert, a test result, an incident.
    Reported(Report),
    /// A newer deployment of the same service.
    Superseded(WatchId),
    /// A person approves the plan with this digest.
    Approved {
        /// Who.
        by: String,
        /// The digest they saw.
        digest: PlanDigest,
    },
    /// A person refuses the plan.
    Refused {
        /// Who.
        by: String,
        /// The digest they saw.
        digest: PlanDigest,
        /// Why.
        reason: String,
    },
    /// A person wants the service turned back.
    RollbackAsked {
        /// Who.
        by: String,
        /// To this release; to the best known one if not said.
        to: Option<Version>,
    },
    /// An attempt at a step ended.
    StepEnded {
        /// The plan.
        plan: PlanId,
        /// Index of the step.
        step: usize,
        /// The attempt.
        attempt: u32,
        /// What came of it.
        outcome: StepOutcome,
    },
    /// Time has passed.
    Tick,
}

/// What the watch wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub enum Effect {
    /// Make this durable before anything else.
    Record {
        /// What happened.
        entry: Entry,
        /// What it means for the fleet; durable together with the entry.
        fleet: Vec<FleetEntry>,
    },
    /// Measure the past: windows of this length from `from` to `to`, for every signal.
    MeasureBaseline {
        /// Beginning.
        from: Timestamp,
        /// End.
        to: Timestamp,
        /// Length of a window.
        window: Span,
    },
    /// Measure now: for each signal from the end of its last window on.
    Measure {
        /// Signal, and where its window begins.
        since: Vec<(SignalName, Timestamp)>,
    },
    /// Attempt a step; guards are asked again right before the effect.
    RunStep(Box<Permit>),
    /// Tell people.
    Notify(Notice),
    /// The answer to whoever asked for something.
    Answer(Result<String, String>),
    /// Send a `Tick` at this time, instead of any earlier wish.
    WakeAt(Timestamp),
    /// It is over.
    Close,
}

/// Leave to attempt one step once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Permit {
    /// The watch.
    pub watch: WatchId,
    /// The service.
    pub service: ServiceName,
    /// The environment.
    pub environment: EnvironmentName,
    /// The plan.
    pub plan: PlanId,
    /// Index of the step.
    pub index: usize,
    /// The step.
    pub step: Step,
    /// Doing or undoing.
    pub direction: Direction,
    /// From 1.
    pub attempt: u32,
    /// Whether an earlier attempt may have worked.
    pub unknown: bool,
    /// When the plan began.
    pub began: Timestamp,
    /// How long it may take.
    pub limit: Span,
    /// Whether a person's word is behind it.
    pub by_person: bool,
}

/// Something for people. The words are made by [`crate::report`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What kind of news.
    pub kind: NoticeKind,
    /// How bad.
    pub severity: Option<Severity>,
    /// One line.
    pub title: String,
    /// The rest.
    pub text: String,
}

/// What kind of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The telemetry is broken.
    Blind,
    /// The telemetry is back.
    SightBack,
    /// A release is hurting.
    Degraded,
    /// Nothing is done, and this is what would have been done.
    WouldRollBack,
    /// Try this first.
    Mitigation,
    /// A plan for a person to carry out.
    Recommended,
    /// A plan waits for a person's word.
    ApprovalNeeded,
    /// A clock runs out.
    Escalation,
    /// A guard holds the agent back.
    Held,
    /// No plan can be drawn up.
    CannotPlan,
    /// A plan is being carried out.
    RollbackBegan,
    /// A plan came to an end that needs a person.
    NeedsPerson,
    /// It helped.
    Recovered,
    /// The agent started again in the middle.
    Restarted,
    /// A release is shown to be well.
    Healthy,
}

impl NoticeKind {
    /// Whether somebody is woken up for it.
    pub fn pages(self) -> bool {
        match self {
            NoticeKind::Blind
            | NoticeKind::ApprovalNeeded
            | NoticeKind::Escalation
            | NoticeKind::Held
            | NoticeKind::CannotPlan
            | NoticeKind::RollbackBegan
            | NoticeKind::NeedsPerson => true,
            NoticeKind::SightBack
            | NoticeKind::Degraded
            | NoticeKind::WouldRollBack
            | NoticeKind::Mitigation
            | NoticeKind::Recommended
            | NoticeKind::Recovered
            | NoticeKind::Restarted
            | NoticeKind::Healthy => false,
        }
    }
}

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
    /// The newest plan being carried out.
    pub execution: Option<Execution>,
    /// Evidence since a mitigation or a rollback: does it help?
    pub trial: Option<Evidence>,
    /// Signals that were called blind, until sight is back.
    pub blind: BTreeSet<SignalName>,
    /// What happened, for people.
    pub timeline: Vec<(Timestamp, String)>,
    /// Plans drawn so far.
    plans_drawn: u32,
    /// Mitigations that are behind us, of the row that decides.
    mitigations_done: BTreeSet<String>,
    /// A look is on its way. Not part of the record: a restart begins a new one.
    looking: bool,
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

impl Watch {
    /// A watch over a new deployment, with the effects that start it. `running` is what ran before as far as the fleet
    /// knows, for sources that do not say.
    pub fn open(
        event: &DeployEvent,
        rules: RuleSet,
        situation: &Situation,
        now: Timestamp,
    ) -> (Watch, Vec<Effect>) {
        let deployment = Deployment {
            service: event.service.clone(),
            environment: event.environment.clone(),
            release: event.release.clone(),
            previous: event.previous.clone().or_else(|| situation.running.clone()),
            at: event.occurred_at,
            source: event.source.clone(),
            sequence: event.sequence,
        };
        let id = WatchId::of(&event.source, &event.id, &event.service, &event.environment);
        let entry = Entry::Opened { deployment: deployment.clone(), rules: Box::new(rules.clone()) };
        let mut watch = Watch::blank(id.clone(), deployment.clone(), rules, now);
        watch.note(now, &entry);
        let fleet = vec![FleetEntry::Deployed { deployment, watch: id }];
        let mut effects = vec![Effect::Record { entry, fleet }];
        effects.extend(watch.on(Input::Deployed, situation, now));
        (watch, effects)
    }

    /// The watch as its records tell it. Applies facts, decides nothing.
    pub fn restore(id: WatchId, entries: &[(Timestamp, Entry)]) -> Result<Watch, BrokenLedger> {
        let Some(((opened, Entry::Opened { deployment, rules }), rest)) = entries.split_first() else {
            return Err(BrokenLedger::NotOpened { watch: id });
        };
        let mut watch = Watch::blank(id, deployment.clone(), (**rules).clone(), *opened);
        watch.note(*opened, &entries[0].1);
        for (at, entry) in rest {
            watch.apply(entry, *at)?;
        }
        Ok(watch)
    }

    fn blank(id: WatchId, deployment: Deployment, rules: RuleSet, now: Timestamp) -> Watch {
        Watch {
            id,
            evidence: Evidence::new(&rules.signals, &rules.matrix, deployment.at),
            deployment,
            rules,
            opened: now,
            reports: BTreeMap::new(),
            verdict: None,
            decision: None,
            phase: Phase::Watching,
            incident: None,
            plan: None,
            execution: None,
            trial: None,
            blind: BTreeSet::new(),
            timeline: Vec::new(),
            plans_drawn: 0,
            mitigations_done: BTreeSet::new(),
            looking: false,
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
            Input::Baseline(windows) => self.record(Entry::BaselineTaken { windows }, now, &mut out),
            Input::Samples(measurements) => {
                self.looking = false;
                if !measurements.is_empty() {
                    self.record(Entry::Measured { measurements }, now, &mut out);
                }
                self.assess(situation, now, &mut out);
            }
            Input::Reported(report) => {
                self.record(Entry::Reported { report }, now, &mut out);
                self.assess(situation, now, &mut out);
            }
            Input::Superseded(by) => self.superseded(by, now, &mut out),
            Input::Approved { by, digest } => self.approved(by, &digest, situation, now, &mut out),
            Input::Refused { by, digest, reason } => self.refused(by, &digest, reason, now, &mut out),
            Input::RollbackAsked { by, to } => self.rollback_asked(by, to, situation, now, &mut out),
            Input::StepEnded { plan, step, attempt, outcome } => {
                self.step_ended(&plan, step, attempt, outcome, situation, now, &mut out);
            }
            Input::Tick => {
                self.assess(situation, now, &mut out);
                self.look(&mut out);
            }
        }
        if !self.is_closed() {
            out.push(Effect::WakeAt(self.next_wake(now)));
        }
        out
    }

    /// Is it over?
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    /// What is known now, judged now. For showing; [`Watch::on`] judges by itself.
    pub fn judgement(&self, now: Timestamp) -> Judgement {
        let evidence = self.trial.as_ref().filter(|_| matches!(self.phase, Phase::Verifying { .. }));
        let evidence = evidence.unwrap_or(&self.evidence);
        crate::verdict::judge(evidence, &self.reports, &self.rules, self.deployment.at, now)
    }

    /// The release to return to and why it is believed to be good: what ran before if it is proven, else the newest
    /// release with a proof, else what ran before without one.
    pub fn target(&self, situation: &Situation, asked: Option<&Version>) -> Option<KnownGood> {
        let unproven = |release: &crate::deployment::Release| KnownGood {
            release: release.clone(),
            ran_for: Span::default(),
            requests: 0.0,
            at: self.deployment.at,
        };
        let usable = |known: &&KnownGood| known.release.version != self.deployment.release.version;
        let proven =
            |version: &Version| situation.known_good.iter().find(|known| known.release.version == *version);
        if let Some(version) = asked {
            let release = crate::deployment::Release { version: version.clone() };
            return Some(proven(version).cloned().unwrap_or_else(|| unproven(&release)));
        }
        let previous = self
            .deployment
            .previous
            .as_ref()
            .filter(|release| release.version != self.deployment.release.version);
        let before =
            previous.map(|release| self.proof_by_baseline(release).unwrap_or_else(|| unproven(release)));
        let remembered = previous.and_then(|release| proven(&release.version)).cloned();
        let good_enough = |known: &KnownGood| {
            let guards = &self.rules.guards;
            known.ran_for >= guards.known_good_for && known.requests >= f64::from(guards.known_good_requests)
        };
        let best_before = [remembered, before.clone()].into_iter().flatten().find(good_enough);
        let newest = situation
            .known_good
            .iter()
            .rev()
            .filter(usable)
            .find(|known| good_enough(known) && !situation.turned_back.contains(&known.release.version));
        best_before.or_else(|| newest.cloned()).or(before)
    }

    /// What ran before the deployment served the baseline: that is a proof of its own.
    fn proof_by_baseline(&self, release: &crate::deployment::Release) -> Option<KnownGood> {
        let critical =
            self.evidence.signals.values().filter(|e| e.signal.role == crate::signal::Role::Critical);
        let known: Vec<_> = critical.filter_map(|evidence| evidence.baseline.known()).collect();
        let span = known.iter().map(|before| before.span).min()?;
        let requests = known.iter().map(|before| before.share.requests).fold(0.0, f64::max);
        Some(KnownGood { release: release.clone(), ran_for: span, requests, at: self.deployment.at })
    }

    fn begin(&mut self, out: &mut Vec<Effect>) {
        let settings = &self.rules.watch;
        let to = settings.baseline_gap.before(self.deployment.at);
        let from = settings.baseline_span.before(to);
        if !self.rules.signals.is_empty() {
            out.push(Effect::MeasureBaseline { from, to, window: settings.baseline_window });
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
        self.resume_execution(situation, now, out);
    }

    fn superseded(&mut self, by: WatchId, now: Timestamp, out: &mut Vec<Effect>) {
        self.record(Entry::Superseded { by }, now, out);
        // A plan that is being carried out is stopped by its guards, at the next step.
        if !matches!(self.phase, Phase::Executing | Phase::Verifying { .. }) {
            self.close(Outcome::Superseded, Vec::new(), now, out);
        }
    }

    /// Writes an entry down. The entries made here are legal by construction; if one is not, the watch is stuck and says
    /// so, since a log that does not add up is nothing to act on.
    fn record(&mut self, entry: Entry, now: Timestamp, out: &mut Vec<Effect>) {
        self.record_with(entry, Vec::new(), now, out);
    }

    fn record_with(&mut self, entry: Entry, fleet: Vec<FleetEntry>, now: Timestamp, out: &mut Vec<Effect>) {
        match self.apply(&entry, now) {
            Ok(()) => out.push(Effect::Record { entry, fleet }),
            Err(broken) => {
                out.push(crate::report::needs_person(self, &broken.to_string()));
                let outcome = Outcome::Stuck(broken.to_string());
                self.phase = Phase::Closed(outcome.clone());
                out.push(Effect::Record { entry: Entry::Closed { outcome }, fleet: Vec::new() });
                out.push(Effect::Close);
            }
        }
    }

    fn close(&mut self, outcome: Outcome, fleet: Vec<FleetEntry>, now: Timestamp, out: &mut Vec<Effect>) {
        self.record_with(Entry::Closed { outcome }, fleet, now, out);
        out.push(Effect::Close);
    }

    fn note(&mut self, at: Timestamp, entry: &Entry) {
        if let Some(words) = entry.words()
            && self.timeline.len() < MOST_TIMELINE
        {
            self.timeline.push((at, words));
        }
    }

    fn next_wake(&self, now: Timestamp) -> Timestamp {
        let look = self.rules.watch.look_every.after(now);
        let waiting = self.execution.as_ref().map(|execution| execution.next(now));
        match (&self.phase, waiting) {
            (Phase::Executing, Some(crate::execution::Next::WaitUntil(at))) => at.min(look),
            _ => look,
        }
    }
}
