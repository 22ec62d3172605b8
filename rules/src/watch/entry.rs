//! What can happen to a watch, as it stands in the ledger, and the fold over it.

use super::{Decided, Incident, Phase, Watch};
use crate::action::StepOutcome;
use crate::decision::Decision;
use crate::deployment::{Deployment, Report, ReportState};
use crate::execution::{Direction, Execution, ExecutionEnd, IllegalTransition};
use crate::ids::{PlanDigest, SignalName, WatchId};
use crate::matrix::Severity;
use crate::plan::{CannotPlan, RollbackPlan};
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
    },
    /// The past of the signals.
    BaselineTaken {
        /// By signal, oldest first.
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
    /// A person wants it turned back.
    RollbackAsked {
        /// Who.
        by: String,
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
        self.note(at, entry);
        match entry {
            Entry::Opened { .. } => {
                return Err(BrokenLedger::Before { watch: self.id.clone(), what: "a second opening" });
            }
            Entry::BaselineTaken { windows } => {
                self.evidence.take_baseline(windows, &self.rules.watch, &self.rules.statistics);
            }
            Entry::Measured { measurements } => self.take_measurements(measurements),
            Entry::Reported { report } => self.take_report(report),
            Entry::Judged { verdict, row } => self.verdict = Some((*verdict, row.clone())),
            Entry::IncidentOpened { severity, row, decide_by, act_by } => {
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
            Entry::Decided(decided) => self.decision = Some(decided.clone()),
            Entry::MitigationBegan { name, until } => {
                self.phase = Phase::Mitigating { name: name.clone(), until: *until };
                self.begin_trial(at);
            }
            Entry::MitigationEnded { name, fixed } => self.mitigation_ended(name, *fixed),
            Entry::PlanDrawn { plan, digest } => {
                self.plans_drawn += 1;
                self.plan = Some(((**plan).clone(), digest.clone()));
            }
            Entry::ApprovalAsked { expires, .. } => {
                self.phase = Phase::AwaitingApproval { asked: at, expires: *expires };
            }
            Entry::ApprovalGiven { .. } | Entry::RollbackAsked { .. } => {}
            Entry::CannotPlan { .. }
            | Entry::ApprovalRefused { .. }
            | Entry::ApprovalExpired
            | Entry::HandedOver => {
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
            Entry::ExecutionEnded { .. } | Entry::Superseded { .. } => {}
            Entry::VerificationBegan { until } => {
                self.phase = Phase::Verifying { until: *until };
                self.begin_trial(at);
            }
            Entry::VerificationEnded { result } => {
                if let (VerificationResult::Recovered, Some(incident)) = (result, &mut self.incident) {
                    incident.recovered = Some(at);
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
        Ok(())
    }

    fn take_measurements(&mut self, measurements: &[Measurement]) {
        let (settings, statistics) = (&self.rules.watch, &self.rules.statistics);
        for measurement in measurements {
            match (&mut self.trial, &self.phase) {
                // While it is verified, the running release is another one: the old evidence is closed.
                (Some(trial), Phase::Verifying { .. }) => trial.take(measurement, settings, statistics),
                (trial, _) => {
                    self.evidence.take(measurement, settings, statistics);
                    if let Some(trial) = trial {
                        trial.take(measurement, settings, statistics);
                    }
                }
            }
        }
    }

    fn take_report(&mut self, report: &Report) {
        match report.state {
            ReportState::Firing => {
                let firing = FiringReport { since: report.at, summary: report.summary.clone() };
                self.reports.insert(report.what.clone(), firing);
            }
            ReportState::Resolved => {
                self.reports.remove(&report.what);
            }
        }
    }

    fn begin_trial(&mut self, at: Timestamp) {
        self.trial = Some(self.evidence.restarted(&self.rules.watch, &self.rules.statistics, at));
    }

    fn mitigation_ended(&mut self, name: &str, fixed: bool) {
        self.phase = Phase::Watching;
        let trial = self.trial.take();
        if fixed {
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

impl Entry {
    /// One line for the timeline; nothing for what happens at every look.
    pub fn words(&self) -> Option<String> {
        Some(match self {
            Entry::Measured { .. } => return None,
            Entry::Opened { deployment, .. } => {
                format!("{} {} deployed, watching", deployment.service, deployment.release.version)
            }
            Entry::BaselineTaken { windows } => format!("baseline taken of {} signals", windows.len()),
            Entry::Reported { report } => {
                let state = if report.state == ReportState::Firing { "reported" } else { "resolved" };
                format!("{} {state} by {}: {}", report.what, report.source, report.summary)
            }
            Entry::Judged { verdict, row } => match row {
                Some(row) => format!("verdict: {verdict} ({row})"),
                None => format!("verdict: {verdict}"),
            },
            Entry::IncidentOpened { severity, row, .. } => format!("incident opened: {severity}, {row}"),
            Entry::Decided(decided) => decided_words(decided),
            Entry::MitigationBegan { name, until } => format!("trying first: {name}, until {until:.0}"),
            Entry::MitigationEnded { name, fixed: true } => format!("{name} is shown to have helped"),
            Entry::MitigationEnded { name, fixed: false } => format!("{name} is not shown to have helped"),
            Entry::PlanDrawn { plan, digest } => {
                format!(
                    "plan {} drawn up: back to {} in {} steps, digest {}",
                    plan.id,
                    plan.to.version,
                    plan.steps.len(),
                    digest.short()
                )
            }
            Entry::CannotPlan { reason } => format!("no plan: {reason}"),
            Entry::ApprovalAsked { digest, expires } => {
                format!("waiting for approval of {} until {expires:.0}", digest.short())
            }
            Entry::ApprovalGiven { by, digest } => format!("{by} approved {}", digest.short()),
            Entry::ApprovalRefused { by, reason } => format!("{by} refused: {reason}"),
            Entry::ApprovalExpired => "nobody approved in time; nothing is done".into(),
            Entry::RollbackAsked { by } => format!("{by} asked for a rollback"),
            Entry::HandedOver => "handed over to people".into(),
            Entry::ExecutionBegan { .. } => "rollback begins".into(),
            Entry::StepIntended { step, direction: Direction::Apply, attempt } => {
                format!("step {}: attempt {attempt}", step + 1)
            }
            Entry::StepIntended { step, direction: Direction::Undo, attempt } => {
                format!("step {}: undoing, attempt {attempt}", step + 1)
            }
            Entry::StepEnded { step, outcome } => format!("step {}: {}", step + 1, outcome_words(outcome)),
            Entry::ExecutionEnded { end } => match end {
                ExecutionEnd::Applied => "every step is done".into(),
                ExecutionEnd::Unwound(why) => format!("failed and undone: {why}"),
                ExecutionEnd::Stuck(why) => format!("stuck: {why}"),
            },
            Entry::VerificationBegan { until } => format!("verifying until {until:.0} at the latest"),
            Entry::VerificationEnded { result } => match result {
                VerificationResult::Recovered => "recovered".into(),
                VerificationResult::NotRecovered(why) => format!("not recovered: {why}"),
                VerificationResult::Unverified(why) => format!("unverified: {why}"),
            },
            Entry::BlindBegan { signals } => {
                let signals: Vec<String> =
                    signals.iter().map(|(name, why)| format!("{name}: {why}")).collect();
                format!("blind: {}", signals.join("; "))
            }
            Entry::BlindEnded => "sight is back".into(),
            Entry::Escalated { clock } => format!("escalated: {clock}"),
            Entry::Superseded { by } => format!("superseded by {by}"),
            Entry::Closed { outcome } => format!("closed: {outcome}"),
        })
    }
}

fn decided_words(decided: &Decided) -> String {
    let what = match &decided.decision {
        Decision::Clear => "clear".to_owned(),
        Decision::KeepWatching => "keep watching".into(),
        Decision::Notify => "tell people".into(),
        Decision::Mitigate { name } => format!("try {name} first"),
        Decision::Propose { approval: true } => "propose a rollback and wait for a person's word".into(),
        Decision::Propose { approval: false } => "recommend a rollback".into(),
        Decision::RollBack => "roll back".into(),
        Decision::Hold => "hold".into(),
    };
    let why: Vec<&str> = decided.holds.iter().map(|hold| hold.words.as_str()).collect();
    if why.is_empty() {
        format!("decision: {what}")
    } else {
        format!("decision: {what} ({})", why.join("; "))
    }
}

fn outcome_words(outcome: &StepOutcome) -> String {
    match outcome {
        StepOutcome::Done { changed: true, .. } => "done".into(),
        StepOutcome::Done { changed: false, .. } => "was so already".into(),
        StepOutcome::Failed { reason, .. } => format!("failed: {reason}"),
        StepOutcome::Unknown { reason, .. } => format!("outcome unknown: {reason}"),
        StepOutcome::NotBegun { reason } => format!("not begun: {reason}"),
    }
}
