//! What can happen to a watch, as it stands in the ledger, and the fold over it.

use super::{Aftercare, Decided, Incident, Phase, Watch};
use crate::action::StepOutcome;
use crate::checkpoint::{Due, Taken};
use crate::decision::Decision;
use crate::deployment::{Deployment, Report, ReportState};
use crate::execution::{Direction, Execution, ExecutionEnd, IllegalTransition};
use crate::ids::{PlanDigest, SignalName, WatchId};
use crate::matrix::Severity;
use crate::past::Past;
use crate::plan::{CannotPlan, RollbackPlan};
use crate::rehearsal::Rehearsal;
use crate::ruleset::RuleSet;
use crate::signal::Measurement;
use crate::verdict::{FiringReport, Verdict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A fact about one watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Entry {
    /// It was opened.
    Opened {
        /// What is watched.
        deployment: Deployment,
        /// The rules it lives by, to its end.
        rules: Box<RuleSet>,
        /// Since when the release before has been running, as far as the fleet knew.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous_since: Option<Timestamp>,
    },
    /// The past of the signals.
    BaselineTaken {
        /// By signal.
        #[serde(default)]
        past: BTreeMap<SignalName, Past>,
        /// The same as the first version wrote it: the hours before alone. Read, never written.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        windows: BTreeMap<SignalName, Vec<Measurement>>,
    },
    /// A look.
    Measured {
        /// What came of it.
        measurements: Vec<Measurement>,
    },
    /// Somebody reported something.
    Reported {
        /// What.
        report: Report,
    },
    /// The verdict changed.
    Judged {
        /// The verdict.
        verdict: Verdict,
        /// The row it rests on.
        row: Option<String>,
    },
    /// It found something.
    IncidentOpened {
        /// How bad.
        severity: Severity,
        /// The row that held, or what a person asked for.
        row: String,
        /// When it must be decided.
        decide_by: Timestamp,
        /// When it must be over.
        act_by: Timestamp,
    },
    /// The decision changed.
    Decided(Decided),
    /// People try something first.
    MitigationBegan {
        /// What.
        name: String,
        /// How long it is waited for.
        until: Timestamp,
    },
    /// The patience for it is over.
    MitigationEnded {
        /// What.
        name: String,
        /// Whether it is shown to have helped.
        fixed: bool,
    },
    /// A plan was drawn up.
    PlanDrawn {
        /// The plan.
        plan: Box<RollbackPlan>,
        /// Its digest.
        digest: PlanDigest,
    },
    /// The plan was tried without an effect.
    Rehearsed {
        /// What came of it.
        rehearsal: Rehearsal,
    },
    /// No plan could be drawn up.
    CannotPlan {
        /// Why.
        reason: CannotPlan,
    },
    /// A person's word was asked for.
    ApprovalAsked {
        /// For the plan with this digest.
        digest: PlanDigest,
        /// Until when it counts.
        expires: Timestamp,
    },
    /// It was given.
    ApprovalGiven {
        /// By.
        by: String,
        /// For the plan with this digest.
        digest: PlanDigest,
    },
    /// It was refused.
    ApprovalRefused {
        /// By.
        by: String,
        /// Why.
        reason: String,
    },
    /// Nobody gave it in time. Nothing is done.
    ApprovalExpired,
    /// It is not needed any more: what was reported is over.
    ApprovalWithdrawn {
        /// What is judged instead.
        verdict: Verdict,
    },
    /// A person wants it turned back.
    RollbackAsked {
        /// Who.
        by: String,
        /// Whether it is practised.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        drill: bool,
    },
    /// The matter is with people now; it is looked on.
    HandedOver,
    /// The plan begins to be carried out.
    ExecutionBegan {
        /// Whether a person's word started it.
        by_person: bool,
    },
    /// An attempt at a step is about to be made.
    StepIntended {
        /// Index of the step.
        step: usize,
        /// Doing or undoing.
        direction: Direction,
        /// From 1.
        attempt: u32,
    },
    /// It ended.
    StepEnded {
        /// Index of the step.
        step: usize,
        /// What came of it.
        outcome: StepOutcome,
    },
    /// The plan came to its end.
    ExecutionEnded {
        /// Which.
        end: ExecutionEnd,
    },
    /// Does it help?
    VerificationBegan {
        /// Until when that must be shown.
        until: Timestamp,
    },
    /// Whether it helped.
    VerificationEnded {
        /// The answer.
        result: VerificationResult,
    },
    /// People were told how far the plan is.
    ProgressTold {
        /// For the how many-th time.
        number: u32,
        /// Steps that are done.
        done: usize,
        /// Steps that there are.
        of: usize,
    },
    /// It helped; from here on it is looked whether it holds.
    AftercareBegan {
        /// The first checkpoint.
        next: Due,
    },
    /// A checkpoint after the rollback was taken.
    CheckpointTaken {
        /// What was seen.
        taken: Box<Taken>,
        /// The next one; `None` behind the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Box<Due>>,
    },
    /// The telemetry of critical signals is broken.
    BlindBegan {
        /// Signal and reason.
        signals: Vec<(SignalName, String)>,
    },
    /// It is back.
    BlindEnded,
    /// A clock was called out.
    Escalated {
        /// Which.
        clock: String,
    },
    /// A newer deployment took its place.
    Superseded {
        /// Its watch.
        by: WatchId,
    },
    /// It is over.
    Closed {
        /// How.
        outcome: Outcome,
    },
}

/// Whether a rollback helped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerificationResult {
    /// The service is shown to be well again.
    Recovered,
    /// It is shown to be bad still.
    NotRecovered(String),
    /// Nobody can tell.
    Unverified(String),
}

/// How a watch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The release is shown to be well.
    Healthy,
    /// Not enough evidence came together.
    Inconclusive,
    /// The telemetry was broken at the end.
    Blind,
    /// The release was bad and stays: nobody turned it back.
    Degraded(Severity),
    /// It was turned back, and that helped.
    RolledBack,
    /// It was turned back, that helped, and later the service was bad again.
    DidNotHold(String),
    /// It was turned back, and nobody can tell whether that helped.
    Unverified(String),
    /// It was turned back, and that did not help.
    NotRecovered(String),
    /// The plan failed and everything was undone.
    Unwound(String),
    /// It stands half-way, or nobody knows where.
    Stuck(String),
    /// A newer deployment took its place.
    Superseded,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Healthy => f.write_str("healthy"),
            Outcome::Inconclusive => f.write_str("inconclusive"),
            Outcome::Blind => f.write_str("blind"),
            Outcome::Degraded(severity) => write!(f, "degraded ({severity}), not turned back"),
            Outcome::RolledBack => f.write_str("rolled back, recovered"),
            Outcome::DidNotHold(why) => write!(f, "rolled back, did not hold: {why}"),
            Outcome::Unverified(why) => write!(f, "rolled back, unverified: {why}"),
            Outcome::NotRecovered(why) => write!(f, "rolled back, not recovered: {why}"),
            Outcome::Unwound(why) => write!(f, "rollback failed and undone: {why}"),
            Outcome::Stuck(why) => write!(f, "stuck: {why}"),
            Outcome::Superseded => f.write_str("superseded by a newer deployment"),
        }
    }
}

/// Records that do not add up. Nothing is guessed: the watch is stuck and a person is called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenLedger {
    /// The first record is not `Opened`.
    #[error("the records of watch {watch} do not begin with its opening")]
    NotOpened {
        /// The watch.
        watch: WatchId,
    },
    /// A record that needs a plan or an execution stands before there is one.
    #[error("the records of watch {watch} speak of {what} before there is one")]
    Before {
        /// The watch.
        watch: WatchId,
        /// What is missing.
        what: &'static str,
    },
    /// A step's records are out of order.
    #[error("the records of watch {watch} are out of order")]
    Steps {
        /// The watch.
        watch: WatchId,
        /// The transition.
        #[source]
        source: IllegalTransition,
    },
}

impl Watch {
    /// Takes a fact in. The only place where the recorded state changes.
    pub(super) fn apply(&mut self, entry: &Entry, at: Timestamp) -> Result<(), BrokenLedger> {
        match entry {
            Entry::Opened { .. } => {
                return Err(BrokenLedger::Before { watch: self.id.clone(), what: "a second opening" });
            }
            Entry::BaselineTaken { past, windows } => {
                let old =
                    windows.iter().map(|(name, windows)| (name.clone(), Past::trailing(windows.clone())));
                let past: BTreeMap<SignalName, Past> = old.chain(past.clone()).collect();
                self.evidence.take_baseline(&past, &self.rules);
                if let Some(trial) = &mut self.trial {
                    trial.take_baseline(&past, &self.rules);
                }
            }
            Entry::Measured { measurements } => self.take_measurements(measurements),
            Entry::Reported { report } => self.take_report(report),
            Entry::Judged { verdict, row } => self.judged(*verdict, row.clone(), at),
            Entry::IncidentOpened { severity, row, decide_by, act_by } => {
                self.holds_told.clear();
                if self.phase == Phase::HandedOver {
                    // What people took in hand was something less bad: this is decided anew.
                    self.phase = Phase::Watching;
                    self.decision = None;
                }
                self.incident = Some(Incident {
                    opened: at,
                    severity: *severity,
                    row: row.clone(),
                    decide_by: *decide_by,
                    act_by: *act_by,
                    acted: None,
                    recovered: None,
                    escalated: BTreeSet::new(),
                });
            }
            Entry::Decided(decided) => {
                self.cleared |= decided.decision == Decision::Clear;
                if decided.decision == Decision::Hold {
                    self.holds_told
                        .extend(decided.holds.iter().filter(|hold| hold.is_told()).map(|hold| hold.reason));
                }
                self.decision = Some(decided.clone());
            }
            Entry::MitigationBegan { name, until } => {
                self.phase = Phase::Mitigating { name: name.clone(), until: *until };
                self.begin_trial(at);
            }
            Entry::MitigationEnded { name, fixed } => self.mitigation_ended(name, *fixed, at),
            Entry::PlanDrawn { plan, digest } => {
                self.plans_drawn += 1;
                self.plan = Some(((**plan).clone(), digest.clone()));
            }
            Entry::Rehearsed { rehearsal } => self.rehearsal = Some((rehearsal.clone(), at)),
            Entry::ApprovalAsked { expires, .. } => {
                self.phase = Phase::AwaitingApproval { asked: at, expires: *expires };
            }
            Entry::ApprovalGiven { .. } => {}
            Entry::RollbackAsked { drill, .. } => self.drill = *drill,
            Entry::ApprovalWithdrawn { .. } => self.phase = Phase::Watching,
            Entry::ApprovalRefused { .. } => {
                self.refused_once = true;
                self.phase = Phase::HandedOver;
            }
            Entry::CannotPlan { .. } | Entry::ApprovalExpired | Entry::HandedOver => {
                self.phase = Phase::HandedOver;
            }
            Entry::ExecutionBegan { by_person } => self.execution_began(*by_person, at)?,
            Entry::StepIntended { step, direction, attempt } => {
                let result = self.execution_mut()?.intended(*step, *direction, *attempt);
                result.map_err(|source| self.out_of_order(source))?;
            }
            Entry::StepEnded { step, outcome } => {
                let result = self.execution_mut()?.ended(*step, outcome, at);
                result.map_err(|source| self.out_of_order(source))?;
            }
            Entry::ExecutionEnded { end } => self.ended = Some(end.clone()),
            Entry::Superseded { by } => self.superseded_by = Some(by.clone()),
            Entry::VerificationBegan { until } => {
                self.phase = Phase::Verifying { until: *until };
                let settled = super::verify::settled(&self.rules.watch, at);
                // The canary is gone: what serves now is one arm, compared with the time before.
                self.rules.compare = None;
                self.rules.watch.watch_for = super::aftercare::whole_time(&self.rules);
                // What ran before needs no soak of its own.
                self.rules.watch.soak = self.rules.watch.verify_soak;
                self.trial = Some(self.evidence.after_rollback(&self.rules, settled));
                self.aftercare = Some(Aftercare::new(at, settled));
            }
            Entry::VerificationEnded { result } => {
                self.verified = Some(result.clone());
                if let (VerificationResult::Recovered, Some(incident)) = (result, &mut self.incident) {
                    incident.recovered = Some(at);
                }
            }
            Entry::ProgressTold { number, .. } => self.progress_told = *number,
            Entry::AftercareBegan { next } => self.phase = Phase::Aftercare { next: next.clone() },
            Entry::CheckpointTaken { taken, next } => {
                if let Some(care) = &mut self.aftercare {
                    care.take(taken, next.as_deref(), at);
                }
                if let Some(next) = next {
                    self.phase = Phase::Aftercare { next: (**next).clone() };
                }
            }
            Entry::BlindBegan { signals } => {
                self.blind = signals.iter().map(|(name, _)| name.clone()).collect()
            }
            Entry::BlindEnded => self.blind.clear(),
            Entry::Escalated { clock } => {
                if let Some(incident) = &mut self.incident {
                    incident.escalated.insert(clock.clone());
                }
            }
            Entry::Closed { outcome } => self.phase = Phase::Closed(outcome.clone()),
        }
        self.note(at, entry);
        Ok(())
    }

    /// What was found is over without a rollback.
    fn recovered(&mut self, at: Timestamp) {
        if let Some(incident) = self.incident.as_mut().filter(|incident| incident.acted.is_none()) {
            incident.recovered.get_or_insert(at);
        }
    }

    fn judged(&mut self, verdict: Verdict, row: Option<String>, at: Timestamp) {
        if !matches!(verdict, Verdict::Degraded(_)) {
            self.recovered(at);
        }
        // Of equally bad rows the one that decides may change with the evidence; the case file follows.
        if let (Verdict::Degraded(severity), Some(row), Some(incident)) = (verdict, &row, &mut self.incident)
            && incident.severity == severity
        {
            incident.row.clone_from(row);
        }
        self.verdict = Some((verdict, row));
    }

    fn take_measurements(&mut self, measurements: &[Measurement]) {
        let rules = &self.rules;
        // Older windows first, in whatever order they were delivered.
        let mut ordered: Vec<&Measurement> = measurements.iter().collect();
        ordered.sort_by_key(|measurement| (measurement.from, measurement.to));
        let looked_after = matches!(self.phase, Phase::Verifying { .. } | Phase::Aftercare { .. });
        for measurement in ordered {
            if let Some(care) = self.aftercare.as_mut().filter(|_| looked_after) {
                care.tally.take(measurement);
            }
            match (&mut self.trial, &self.phase) {
                // While it is verified, the running release is another one: the old evidence is closed.
                (Some(trial), Phase::Verifying { .. } | Phase::Aftercare { .. }) => {
                    trial.take(measurement, rules)
                }
                (trial, _) => {
                    self.evidence.take(measurement, rules);
                    if let Some(trial) = trial {
                        trial.take(measurement, rules);
                    }
                }
            }
        }
        // As long as it is bad it has not helped yet, and a test that remembers those minutes could not show in time
        // when it does: the trial begins again behind them.
        let mitigating = matches!(self.phase, Phase::Mitigating { .. });
        let spoilt = self.trial.as_ref().filter(|trial| mitigating && trial.is_suspicious());
        let until = spoilt.and_then(|trial| trial.signals.values().map(|signal| signal.measured_until).max());
        if let Some(until) = until {
            self.begin_trial(until);
        }
    }

    fn take_report(&mut self, report: &Report) {
        // What no row asks for is told in the timeline and kept nowhere else: the names come from outside.
        if !self.rules.matrix.rows.iter().any(|row| row.when.mentions(&report.what)) {
            return;
        }
        let reporter = format!("{}/{}", report.source, report.id);
        match report.state {
            ReportState::Firing => {
                if self.ended_reports.get(&reporter).is_some_and(|began| report.at <= *began) {
                    return;
                }
                let firing = self.reports.entry(report.what.clone()).or_insert_with(|| FiringReport {
                    since: report.at,
                    summary: String::new(),
                    by: BTreeMap::new(),
                });
                firing.since = firing.since.max(report.at);
                firing.summary = report.summary.clone();
                let known = firing.by.get(&reporter).copied();
                if known.is_some() || firing.by.len() < MOST_REPORTERS {
                    firing.by.insert(reporter, known.map_or(report.at, |known| known.max(report.at)));
                }
            }
            ReportState::Resolved => {
                let over_until = report.over_until().unwrap_or(report.at);
                self.remember_ended(&reporter, over_until);
                let Some(firing) = self.reports.get_mut(&report.what) else { return };
                // It has begun again since.
                if firing.by.get(&reporter).is_some_and(|began| *began > over_until) {
                    return;
                }
                // A passed test has another identity than the one that failed: then it speaks for its whole source. The end
                // of something that began before this did speaks for itself.
                if firing.by.remove(&reporter).is_none() && report.at >= firing.since {
                    let source = format!("{}/", report.source);
                    firing.by.retain(|other, _| !other.starts_with(&source));
                }
                if firing.by.is_empty() {
                    self.reports.remove(&report.what);
                }
            }
        }
    }

    fn remember_ended(&mut self, reporter: &str, began: Timestamp) {
        let newest = self.ended_reports.entry(reporter.to_owned()).or_insert(began);
        *newest = began.max(*newest);
        if self.ended_reports.len() > MOST_REPORTERS {
            let oldest = self.ended_reports.iter().min_by_key(|(_, began)| **began);
            if let Some(oldest) = oldest.map(|(reporter, _)| reporter.clone()) {
                self.ended_reports.remove(&oldest);
            }
        }
    }

    fn begin_trial(&mut self, at: Timestamp) {
        self.trial = Some(self.evidence.restarted(&self.rules, at));
    }

    fn mitigation_ended(&mut self, name: &str, fixed: bool, at: Timestamp) {
        self.phase = Phase::Watching;
        let trial = self.trial.take();
        if fixed {
            self.recovered(at);
            // What was wrong is over: from here on only what came after counts.
            self.evidence = trial.unwrap_or_else(|| self.evidence.clone());
            self.mitigations_done.clear();
        } else {
            self.mitigations_done.insert(name.to_owned());
        }
    }

    fn execution_began(&mut self, by_person: bool, at: Timestamp) -> Result<(), BrokenLedger> {
        let Some((plan, _)) = &self.plan else {
            return Err(BrokenLedger::Before { watch: self.id.clone(), what: "a plan" });
        };
        self.ended = None;
        self.progress_told = 0;
        self.execution = Some(Execution::new(plan.clone(), by_person, at));
        self.phase = Phase::Executing;
        if let Some(incident) = &mut self.incident {
            incident.acted = Some(at);
        }
        Ok(())
    }

    fn execution_mut(&mut self) -> Result<&mut Execution, BrokenLedger> {
        let watch = self.id.clone();
        self.execution.as_mut().ok_or(BrokenLedger::Before { watch, what: "an execution" })
    }

    fn out_of_order(&self, source: IllegalTransition) -> BrokenLedger {
        BrokenLedger::Steps { watch: self.id.clone(), source }
    }
}

/// Reporters of one condition that are told apart: pods of one service rather than all that ever reported.
const MOST_REPORTERS: usize = 64;
