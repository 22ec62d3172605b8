//! Acting: the plan, a person's word, and the steps one after the other.

use super::{Effect, Entry, NoticeKind, Outcome, Permit, Phase, Watch};
use crate::action::{EffectClass, StepOutcome};
use crate::decision::Decision;
use crate::execution::{Direction, Execution, ExecutionEnd, Next};
use crate::fleet::{FleetEntry, KnownGood, Situation};
use crate::guard::{EffectView, Hold, View, Weight, before_effect, freshness_limit, holds};
use crate::ids::{PlanDigest, PlanId, Version};
use crate::matrix::Severity;
use crate::plan::{CannotPlan, RollbackPlan, draw_up};
use crate::report;
use crate::units::Span;
use jiff::Timestamp;

impl Watch {
    /// Draws a plan up. Writes nothing down.
    pub(super) fn draw(
        &self,
        target: Option<KnownGood>,
        reason: &str,
        situation: &Situation,
        now: Timestamp,
    ) -> Result<RollbackPlan, CannotPlan> {
        let service = self.deployment.service.clone();
        let runbook =
            self.rules.runbook.as_ref().ok_or(CannotPlan::NoRunbook { service: service.clone() })?;
        let target = target.ok_or(CannotPlan::NoTarget { service })?;
        let proof = target.words();
        let moved = situation.moved_since(&target.release.version);
        let target = (&target.release, proof.as_str());
        draw_up(self.plans_drawn + 1, &self.id, &self.deployment, target, reason, runbook, &moved, now)
    }

    fn take_plan(&mut self, plan: RollbackPlan, now: Timestamp, out: &mut Vec<Effect>) -> PlanDigest {
        let digest = plan.digest();
        self.record(Entry::PlanDrawn { plan: Box::new(plan), digest: digest.clone() }, now, out);
        digest
    }

    /// Draws a plan up and writes it down. `None`: there is none, and people were told why.
    fn plan_to(
        &mut self,
        target: Option<KnownGood>,
        reason: &str,
        situation: &Situation,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) -> Option<PlanDigest> {
        match self.draw(target, reason, situation, now) {
            Ok(plan) => Some(self.take_plan(plan, now, out)),
            Err(reason) => {
                let words = reason.to_string();
                self.record(Entry::CannotPlan { reason }, now, out);
                let severity = self.incident.as_ref().map(|incident| incident.severity);
                self.notify(NoticeKind::CannotPlan, severity, "cannot be turned back", words, out);
                None
            }
        }
    }

    pub(super) fn reason(&self) -> String {
        self.incident
            .as_ref()
            .map_or_else(|| "asked for".into(), |incident| format!("{}: {}", incident.severity, incident.row))
    }

    pub(super) fn propose(
        &mut self,
        approval: bool,
        situation: &Situation,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let target = self.target(situation, None);
        let Some(digest) = self.plan_to(target, &self.reason(), situation, now, out) else { return };
        let severity = self.incident.as_ref().map(|incident| incident.severity);
        if approval {
            let expires = self.rules.watch.approval_expires.after(now);
            self.record(Entry::ApprovalAsked { digest, expires }, now, out);
            let text = report::plan_text(self, now);
            self.notify(
                NoticeKind::ApprovalNeeded,
                severity,
                "should be turned back: approval needed",
                text,
                out,
            );
        } else {
            let text = report::plan_text(self, now);
            self.record(Entry::HandedOver, now, out);
            self.notify(NoticeKind::Recommended, severity, "should be turned back", text, out);
            // Whoever acts by hand sees what would come of it, too.
            self.rehearse(situation, now, out);
        }
    }

    pub(super) fn roll_back(&mut self, situation: &Situation, now: Timestamp, out: &mut Vec<Effect>) {
        let target = self.target(situation, None);
        if self.plan_to(target, &self.reason(), situation, now, out).is_some() {
            self.begin_execution(false, situation, now, out);
        }
    }

    /// A person's word for the plan with this digest, and no other.
    pub(super) fn approved(
        &mut self,
        by: String,
        digest: &PlanDigest,
        situation: &Situation,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        if let Err(refusal) = self.check_approval(digest, situation, now) {
            return out.push(Effect::Answer(Err(refusal)));
        }
        self.record(Entry::ApprovalGiven { by: by.clone(), digest: digest.clone() }, now, out);
        out.push(Effect::Answer(Ok(format!("approved by {by}; the rollback begins"))));
        self.begin_execution(true, situation, now, out);
    }

    fn check_approval(
        &self,
        digest: &PlanDigest,
        situation: &Situation,
        now: Timestamp,
    ) -> Result<(), String> {
        let Some((plan, current)) = &self.plan else { return Err("there is no plan to approve".into()) };
        let Phase::AwaitingApproval { expires, .. } = self.phase else {
            return Err(format!("plan {} does not wait for an approval: {}", plan.id, self.phase_words()));
        };
        if current != digest {
            let text = format!(
                "the digest {} is stale: plan {} now has {}; look at it again with `turnback plan {}`",
                digest.short(),
                plan.id,
                current.short(),
                plan.service
            );
            return Err(text);
        }
        if now >= expires {
            return Err(format!("the time for an approval was over at {expires:.0}"));
        }
        // The evidence is looked at again: what was true when it was asked may be stale when it is answered.
        let target = self.target(situation, None);
        let blocking = self.blocking_now(target.as_ref(), false, situation, now);
        if !blocking.is_empty() {
            return Err(format!("a guard holds: {}", report::holds_text(&blocking)));
        }
        let wanted = self
            .decision
            .as_ref()
            .is_some_and(|decided| matches!(decided.decision, Decision::Propose { approval: true }));
        if !wanted {
            return Err("the plan is no longer what is decided; nothing is done".into());
        }
        Ok(())
    }

    /// What blocks a rollback to `target` now, whoever asks.
    fn blocking_now(
        &self,
        target: Option<&KnownGood>,
        by_person: bool,
        situation: &Situation,
        now: Timestamp,
    ) -> Vec<Hold> {
        let judgement =
            crate::verdict::judge(&self.evidence, &self.reports, &self.rules, self.deployment.at, now);
        let found = holds(&View {
            rules: &self.rules,
            watch: &self.id,
            deployment: &self.deployment,
            judgement: &judgement,
            evidence: &self.evidence,
            situation,
            target,
            found: self.incident.as_ref().map(|incident| incident.opened),
            by_person,
            now,
        });
        found.into_iter().filter(|hold| hold.weight == Weight::Blocks).collect()
    }

    pub(super) fn refused(
        &mut self,
        by: String,
        digest: &PlanDigest,
        reason: String,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let waits = matches!(self.phase, Phase::AwaitingApproval { .. });
        match &self.plan {
            Some((_, current)) if waits && current == digest => {
                self.record(Entry::ApprovalRefused { by, reason }, now, out);
                out.push(Effect::Answer(Ok("refused; nothing is done, the watch goes on".into())));
            }
            Some((plan, current)) if waits => {
                let text = format!(
                    "the digest {} is stale: plan {} now has {}",
                    digest.short(),
                    plan.id,
                    current.short()
                );
                out.push(Effect::Answer(Err(text)));
            }
            Some(_) | None => out.push(Effect::Answer(Err("no plan waits for an approval".into()))),
        }
    }

    /// Calls an unanswered approval out, and lets it expire. Nothing upgrades it to an action.
    pub(super) fn assess_approval(&mut self, now: Timestamp, out: &mut Vec<Effect>) {
        let Phase::AwaitingApproval { asked, expires } = self.phase else { return };
        let severity = self.incident.as_ref().map(|incident| incident.severity);
        if now >= expires {
            self.record(Entry::ApprovalExpired, now, out);
            let text = report::plan_text(self, now);
            return self.notify(
                NoticeKind::Escalation,
                severity,
                "was not turned back: nobody approved in time",
                text,
                out,
            );
        }
        // After a third of the time, five minutes of fifteen, it is said again.
        let third = Span::from_milliseconds(Span::between(asked, expires).milliseconds() / 3).after(asked);
        let clock = format!("approval of {asked:.0} is unanswered");
        let told = self.incident.as_ref().is_none_or(|incident| incident.escalated.contains(&clock));
        if now >= third && !told {
            self.record(Entry::Escalated { clock }, now, out);
            let text = report::plan_text(self, now);
            self.notify(NoticeKind::Escalation, severity, "still waits for an approval", text, out);
        }
    }

    /// A person's wish stands for what statistics could not show, and for no more.
    pub(super) fn rollback_asked(
        &mut self,
        by: String,
        to: Option<Version>,
        drill: bool,
        situation: &Situation,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        if drill && !self.rules.safe_to_drill {
            let place = (&self.deployment.service, &self.deployment.environment);
            return out.push(Effect::Answer(Err(format!(
                "{} in {} is not declared safe to practise on; add the environment to the service's `safe_to_drill`",
                place.0, place.1
            ))));
        }
        if matches!(self.phase, Phase::Executing | Phase::Verifying { .. } | Phase::Aftercare { .. }) {
            return out.push(Effect::Answer(Err(format!(
                "it is being, or was, turned back already: {}",
                self.phase_words()
            ))));
        }
        let target = self.target(situation, to.as_ref());
        let blocking = self.blocking_now(target.as_ref(), true, situation, now);
        if !blocking.is_empty() {
            return out
                .push(Effect::Answer(Err(format!("a guard holds: {}", report::holds_text(&blocking)))));
        }
        // A wish that cannot be met (a mistyped version) changes nothing.
        let reason = format!("{} by {by}", if drill { "a drill" } else { "asked for" });
        let plan = match self.draw(target, &reason, situation, now) {
            Ok(plan) => plan,
            Err(problem) => return out.push(Effect::Answer(Err(problem.to_string()))),
        };
        self.record(Entry::RollbackAsked { by: by.clone(), drill }, now, out);
        if self.incident.as_ref().is_none_or(|incident| incident.recovered.is_some()) {
            let by_then = Span::from_minutes(30).after(now);
            let (severity, row) = (Severity::P1, reason);
            self.record(
                Entry::IncidentOpened { severity, row, decide_by: by_then, act_by: by_then },
                now,
                out,
            );
        }
        let digest = self.take_plan(plan, now, out);
        out.push(Effect::Answer(Ok(format!("the rollback begins, plan digest {}", digest.short()))));
        self.begin_execution(true, situation, now, out);
    }

    fn begin_execution(
        &mut self,
        by_person: bool,
        situation: &Situation,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        let Some((plan, _)) = &self.plan else { return };
        let fleet = vec![FleetEntry::RollbackBegan {
            service: plan.service.clone(),
            environment: plan.environment.clone(),
            plan: plan.id.clone(),
            from: plan.from.version.clone(),
            by_person,
            drill: self.drill,
            at: now,
        }];
        self.record_with(Entry::ExecutionBegan { by_person }, fleet, now, out);
        let severity = self.incident.as_ref().map(|incident| incident.severity);
        let text = report::initiation_text(self) + &report::plan_text(self, now);
        self.notify(NoticeKind::RollbackBegan, severity, "is being turned back", text, out);
        self.advance(situation, now, out);
    }

    /// Takes the next step of the plan, if it is time for one.
    pub(super) fn advance(&mut self, situation: &Situation, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(execution) = &self.execution else { return };
        let replaced = self.superseded_by.is_some()
            || situation.current.as_ref().is_some_and(|current| *current != self.id);
        match execution.next(now) {
            Next::Run { .. } | Next::WaitUntil(_) if replaced => {
                let end = execution.stopped_here("a newer deployment took its place");
                self.finish(end, now, out);
            }
            Next::Wait | Next::WaitUntil(_) => {}
            Next::Run { .. } if Span::between(execution.began, now) > self.rules.guards.plan_limit => {
                let why = format!("the plan has taken more than {}", self.rules.guards.plan_limit);
                let end = execution.stopped_here(&why);
                self.finish(end, now, out);
            }
            // The executor said so once, and that was written down; it is asked again when the guard is gone.
            Next::Run { step, .. } if execution.held && self.is_held(execution, step, situation, now) => {}
            Next::Run { step, direction, attempt, unknown } => {
                self.record(Entry::StepIntended { step, direction, attempt }, now, out);
                out.extend(
                    self.permit(step, direction, attempt, unknown)
                        .map(|permit| Effect::RunStep(Box::new(permit))),
                );
            }
            Next::Finished(end) => self.finish(end, now, out),
        }
    }

    fn is_held(&self, execution: &Execution, step: usize, situation: &Situation, now: Timestamp) -> bool {
        let reversibility = execution.plan.steps.get(step).map(|step| step.reversibility).unwrap_or_default();
        let view = EffectView {
            plan: &execution.plan.id,
            watch: &self.id,
            began: execution.began,
            limit: self.rules.guards.plan_limit,
            reversibility,
            by_person: execution.by_person,
            situation,
            now,
        };
        !before_effect(&view).is_empty()
    }

    fn permit(&self, index: usize, direction: Direction, attempt: u32, unknown: bool) -> Option<Permit> {
        let execution = self.execution.as_ref()?;
        Some(Permit {
            watch: self.id.clone(),
            service: self.deployment.service.clone(),
            environment: self.deployment.environment.clone(),
            plan: execution.plan.id.clone(),
            index,
            step: execution.plan.steps.get(index)?.clone(),
            direction,
            attempt,
            unknown,
            began: execution.began,
            limit: self.rules.guards.plan_limit,
            by_person: execution.by_person,
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one input, and where it is heard")]
    pub(super) fn step_ended(
        &mut self,
        plan: &PlanId,
        step: usize,
        attempt: u32,
        outcome: StepOutcome,
        situation: &Situation,
        now: Timestamp,
        out: &mut Vec<Effect>,
    ) {
        // News of a step that is not in flight is an echo of something that was settled before (a restart).
        let in_flight = self.execution.as_ref().is_some_and(|execution| {
            execution.plan.id == *plan
                && execution.in_flight().is_some_and(|(index, _, number)| index == step && number == attempt)
        });
        if !in_flight {
            return;
        }
        let held = matches!(&outcome, StepOutcome::NotBegun { .. });
        let words =
            if let StepOutcome::NotBegun { reason } = &outcome { reason.clone() } else { String::new() };
        let first_hold = held
            && self
                .execution
                .as_ref()
                .is_some_and(|execution| !execution.held || execution.last_words != words);
        self.record(Entry::StepEnded { step, outcome }, now, out);
        let replaced = situation.current.as_ref().is_some_and(|current| *current != self.id);
        if first_hold && !replaced {
            let severity = self.incident.as_ref().map(|incident| incident.severity);
            self.notify(NoticeKind::Held, severity, "rollback is held", words, out);
        }
        self.advance(situation, now, out);
    }

    /// The plan is over, one way or another.
    fn finish(&mut self, end: ExecutionEnd, now: Timestamp, out: &mut Vec<Effect>) {
        let Some(execution) = &self.execution else { return };
        let (plan, deployment) = (execution.plan.clone(), self.deployment.clone());
        let running = match &end {
            // The last step and the newer deployment ran at the same time: nobody knows who was last.
            _ if self.superseded_by.is_some() => None,
            ExecutionEnd::Applied => Some(plan.to.clone()),
            ExecutionEnd::Unwound(_) => Some(plan.from.clone()),
            ExecutionEnd::Stuck(_) => None,
        };
        let ended = FleetEntry::RollbackEnded {
            service: deployment.service,
            environment: deployment.environment,
            plan: plan.id,
            running,
            at: now,
        };
        let mut fleet = vec![ended];
        if let ExecutionEnd::Stuck(why) = &end {
            fleet.push(FleetEntry::AutoSuspended {
                reason: format!("{}: {why}", self.deployment.service),
                at: now,
            });
        }
        self.record_with(Entry::ExecutionEnded { end: end.clone() }, fleet, now, out);
        self.after_execution(end, now, out);
    }

    /// What follows when the end of a plan is written.
    fn after_execution(&mut self, end: ExecutionEnd, now: Timestamp, out: &mut Vec<Effect>) {
        match end {
            ExecutionEnd::Applied if self.superseded_by.is_some() => {
                let why = "a newer deployment arrived during the last step; which release runs is not known";
                out.push(report::needs_person(self, why));
                self.close(Outcome::Superseded, Vec::new(), now, out);
            }
            ExecutionEnd::Applied => self.begin_verification(now, out),
            ExecutionEnd::Unwound(why) => {
                out.push(report::needs_person(self, &format!("the rollback failed and was undone: {why}")));
                self.close(Outcome::Unwound(why), Vec::new(), now, out);
            }
            ExecutionEnd::Stuck(why) => {
                out.push(report::needs_person(self, &format!("the rollback is stuck: {why}")));
                self.close(Outcome::Stuck(why), Vec::new(), now, out);
            }
        }
    }

    /// After a restart: a step whose outcome was never written is settled by its class. What may be repeated becomes
    /// `Unknown` and is tried again (the executor looks first where one can look); what may not becomes `Stuck`.
    pub(super) fn resume_execution(&mut self, situation: &Situation, now: Timestamp, out: &mut Vec<Effect>) {
        if let Some(end) = self.ended.clone() {
            return self.after_execution(end, now, out);
        }
        let lost = self.execution.as_ref().and_then(|execution| {
            let (step, direction, _) = execution.in_flight()?;
            Some((step, direction, execution.plan.steps.get(step)?.class))
        });
        if let Some((step, direction, class)) = lost {
            let reason = match (direction, class) {
                (Direction::Apply, EffectClass::OneShot) => {
                    "the agent ended while it ran, and a one-shot step is never tried again"
                }
                (Direction::Apply, EffectClass::CompareAndSet | EffectClass::Keyed | EffectClass::Lookup)
                | (Direction::Undo, _) => "the agent ended while it ran",
            };
            let outcome = StepOutcome::Unknown { reason: reason.into(), output: String::new() };
            self.record(Entry::StepEnded { step, outcome }, now, out);
        }
        self.advance(situation, now, out);
    }

    pub(super) fn phase_words(&self) -> String {
        match &self.phase {
            Phase::Watching => "watching".into(),
            Phase::Mitigating { name, until } => format!("trying {name} first, until {until:.0}"),
            Phase::AwaitingApproval { expires, .. } => format!("waiting for an approval until {expires:.0}"),
            Phase::Executing => "being carried out".into(),
            Phase::Verifying { until } => format!("verifying until {until:.0}"),
            Phase::Aftercare { next } => report::aftercare_words(next),
            Phase::HandedOver => "handed over to people".into(),
            Phase::Closed(outcome) => format!("closed: {outcome}"),
        }
    }

    /// How old the newest sample may be when something is done.
    pub fn freshness_limit(&self) -> Span {
        freshness_limit(&self.rules)
    }
}
