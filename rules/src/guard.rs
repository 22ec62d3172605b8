//! Guards: reasons not to act although one could.
//!
//! They are evaluated twice: here, when it is decided, and again by the executor directly before each effect
//! ([`before_effect`]), because a check made once is a check of the past.

mod blame;
pub mod ground;
pub mod rehearsal;
mod storm;

use crate::action::Reversibility;
use crate::decision::AutonomyLevel;
use crate::deployment::Deployment;
use crate::evidence::{Evidence, Finding};
use crate::fleet::{KnownGood, Situation};
use crate::ids::{PlanId, WatchId};
use crate::matrix::{Bound, Truth};
use crate::ruleset::RuleSet;
use crate::signal::Measure;
use crate::units::Span;
use crate::verdict::Judgement;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why one does not act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldReason {
    /// The kill switch is pulled.
    KillSwitch,
    /// A freeze is in force.
    Frozen,
    /// An earlier plan got stuck or could not be verified, and nobody has acknowledged it.
    AutoSuspended,
    /// This service, or too many others, are being turned back.
    AnotherRollback,
    /// The service was turned back a short time ago.
    CoolingDown,
    /// Too many rollbacks lately.
    TooMany,
    /// The deployment is too long ago to be the likely cause.
    OutsideDeployWindow,
    /// A newer deployment took its place.
    Superseded,
    /// The verdict rests on too few requests or windows.
    TooLittleEvidence,
    /// The data that the verdict rests on are no longer fresh.
    StaleEvidence,
    /// A source has not answered since the agent started.
    SourceNotHeard,
    /// It was bad before the deployment.
    BadBefore,
    /// It began before the deployment.
    BeganBefore,
    /// Another deployment at the same time may be the cause.
    SharedBlame,
    /// Many services ail at the same time.
    CorrelatedFailure,
    /// Whether others ail, too, is not known yet.
    LookingAround,
    /// There is no baseline to compare with.
    NoBaseline,
    /// The verdict rests on gauges alone.
    GaugesOnly,
    /// No release is known to return to.
    NoTarget,
    /// The release to return to is not proven here.
    UnprovenTarget,
    /// The release to return to was itself turned back.
    TargetWasBad,
    /// This release was turned back before and came again.
    CameBack,
    /// The plan has taken too long.
    PlanTooLong,
    /// A destructive step without a person's word.
    Destructive,
    /// The plan was not tried yet.
    NotRehearsed,
    /// A step of the plan would fail.
    DryRunFails,
    /// The release closes a hole.
    SecurityFix,
    /// The release to return to is forbidden.
    Denied,
    /// The service is part of what the agent stands on.
    OwnGround,
    /// Too many services were turned back lately.
    BlastRadius,
}

/// What a hold does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Nothing is done, not even with a person's word.
    Blocks,
    /// At most this is done alone.
    CapsTo(AutonomyLevel),
}

/// One reason, with its weight, in words a person understands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Which.
    pub reason: HoldReason,
    /// What it does.
    pub weight: Weight,
    /// In words.
    pub words: String,
}

impl Hold {
    /// Whether people are told when this stands against acting. That too little was seen so far is no news: it passes
    /// with the next looks, and if it does not, the clocks run out loudly.
    pub fn is_told(&self) -> bool {
        let passes = matches!(
            self.reason,
            // Of a storm people are told once, and not by each of its victims.
            HoldReason::TooLittleEvidence
                | HoldReason::LookingAround
                | HoldReason::CorrelatedFailure
                | HoldReason::NotRehearsed
        );
        self.weight == Weight::Blocks && !passes
    }
}

/// Everything the guards look at.
pub struct View<'a> {
    /// The rules of the service.
    pub rules: &'a RuleSet,
    /// The watch.
    pub watch: &'a WatchId,
    /// The deployment under observation.
    pub deployment: &'a Deployment,
    /// The verdict and its findings.
    pub judgement: &'a Judgement,
    /// The evidence.
    pub evidence: &'a Evidence,
    /// Everything else.
    pub situation: &'a Situation,
    /// The release to return to.
    pub target: Option<&'a KnownGood>,
    /// When it was found degraded, if it was.
    pub found: Option<Timestamp>,
    /// Whether a person asked for it. Their word stands for what the statistics could not show; it does not stand
    /// against a pulled kill switch, a running plan or a newer deployment.
    pub by_person: bool,
    /// The time.
    pub now: Timestamp,
}

const APPROVE: Weight = Weight::CapsTo(AutonomyLevel::Approve);
const RECOMMEND: Weight = Weight::CapsTo(AutonomyLevel::Recommend);

/// All reasons not to act, the blocking ones first.
pub fn holds(view: &View<'_>) -> Vec<Hold> {
    let mut found = Vec::new();
    fleet_holds(view, &mut found);
    target_holds(view, &mut found);
    ground::holds(view, &mut found);
    if !view.by_person {
        time_holds(view, &mut found);
        evidence_holds(view, &mut found);
    }
    found.sort_by_key(|hold| (hold.weight != Weight::Blocks, hold.reason));
    found
}

fn push(found: &mut Vec<Hold>, reason: HoldReason, weight: Weight, words: impl Into<String>) {
    found.push(Hold { reason, weight, words: words.into() });
}

fn fleet_holds(view: &View<'_>, found: &mut Vec<Hold>) {
    let Situation { stopped, frozen, auto_suspended, active_here, .. } = view.situation;
    let guards = &view.rules.guards;
    if let Some(why) = stopped {
        push(found, HoldReason::KillSwitch, Weight::Blocks, format!("the kill switch is pulled: {why}"));
    }
    if let Some(why) = frozen {
        push(found, HoldReason::Frozen, APPROVE, format!("a freeze is in force: {why}"));
    }
    if let Some(why) = auto_suspended {
        push(
            found,
            HoldReason::AutoSuspended,
            APPROVE,
            format!("nothing is done alone until `turnback resume`: {why}"),
        );
    }
    if let Some(plan) = active_here {
        push(
            found,
            HoldReason::AnotherRollback,
            Weight::Blocks,
            format!("plan {plan} for this service is being carried out"),
        );
    }
    if view.situation.active_elsewhere >= guards.at_once {
        let words = format!(
            "{} other services are being turned back, at most {} at once",
            view.situation.active_elsewhere, guards.at_once
        );
        push(found, HoldReason::AnotherRollback, Weight::Blocks, words);
    }
    if view.situation.current.as_ref().is_some_and(|current| current != view.watch) {
        push(found, HoldReason::Superseded, Weight::Blocks, "a newer deployment took its place");
    }
}

fn time_holds(view: &View<'_>, found: &mut Vec<Hold>) {
    let (guards, situation) = (&view.rules.guards, view.situation);
    let age = Span::between(view.deployment.at, view.now);
    if age > guards.deploy_window {
        let words = format!("the deployment is {age} ago, alone only within {}", guards.deploy_window);
        push(found, HoldReason::OutsideDeployWindow, RECOMMEND, words);
    }
    if let Some(last) = situation.last_rollback
        && Span::between(last, view.now) < guards.cool_down
    {
        let words =
            format!("the service was turned back at {last:.0}, the cool-down is {}", guards.cool_down);
        push(found, HoldReason::CoolingDown, APPROVE, words);
    }
    let rates = [
        (situation.service_rollbacks_today, guards.per_service_per_day, "of this service in 24 hours"),
        (situation.rollbacks_this_hour, guards.per_hour, "in one hour"),
        (situation.rollbacks_today, guards.per_day, "in 24 hours"),
    ];
    for (have, limit, what) in rates {
        if have >= limit {
            push(
                found,
                HoldReason::TooMany,
                APPROVE,
                format!("{have} rollbacks {what}, alone at most {limit}"),
            );
        }
    }
}

fn target_holds(view: &View<'_>, found: &mut Vec<Hold>) {
    let guards = &view.rules.guards;
    let turned_back = &view.situation.turned_back;
    if turned_back.contains(&view.deployment.release.version) {
        let words = format!("{} was turned back before and came again", view.deployment.release.version);
        push(found, HoldReason::CameBack, APPROVE, words);
    }
    let Some(target) = view.target else {
        return push(found, HoldReason::NoTarget, Weight::Blocks, "no release is known to return to");
    };
    if target.found_bad.is_some() {
        push(found, HoldReason::TargetWasBad, APPROVE, target.words());
    }
    if turned_back.contains(&target.release.version) {
        let words = format!("{} was itself turned back here", target.release.version);
        push(found, HoldReason::TargetWasBad, APPROVE, words);
    }
    if target.ran_for < guards.known_good_for || target.requests < f64::from(guards.known_good_requests) {
        let words = format!(
            "{}; known good takes {} and {} requests",
            target.words(),
            guards.known_good_for,
            guards.known_good_requests
        );
        push(found, HoldReason::UnprovenTarget, APPROVE, words);
    }
}

fn evidence_holds(view: &View<'_>, found: &mut Vec<Hold>) {
    if !view.situation.silent_sources.is_empty() {
        let words =
            format!("not heard since the agent started: {}", view.situation.silent_sources.join(", "));
        push(found, HoldReason::SourceNotHeard, Weight::Blocks, words);
    }
    let Some(row) = view.judgement.rows.iter().find(|row| Some(&row.row) == view.judgement.row.as_ref())
    else {
        return;
    };
    let decisive: Vec<&Finding> =
        row.findings.iter().filter(|finding| finding.truth == Truth::Holds).collect();
    storm::holds(view, found);
    // A row that holds because somebody reports it needs no statistics.
    if row.reports.iter().any(|(_, truth)| *truth == Truth::Holds) || decisive.is_empty() {
        return;
    }
    for finding in &decisive {
        finding_holds(view, finding, found);
    }
    blame::holds(view, &decisive, found);
    let gauge = |finding: &&Finding| {
        let signal = view.evidence.signals.get(&finding.signal);
        signal.is_some_and(|evidence| matches!(evidence.signal.measure, Measure::Gauge { .. }))
    };
    if decisive.iter().all(gauge) {
        let words = "the verdict rests on gauges alone, for which no error rate can be promised";
        push(found, HoldReason::GaugesOnly, RECOMMEND, words);
    }
}

fn finding_holds(view: &View<'_>, finding: &Finding, found: &mut Vec<Hold>) {
    let guards = &view.rules.guards;
    let Some(evidence) = view.evidence.signals.get(&finding.signal) else { return };
    let name = &finding.signal;
    let counted = matches!(evidence.signal.measure, Measure::Proportion { .. } | Measure::Latency { .. });
    if counted && finding.n < f64::from(guards.min_requests) {
        let words = format!(
            "{name} rests on {:.0} requests, at least {} are asked for",
            finding.n, guards.min_requests
        );
        push(found, HoldReason::TooLittleEvidence, Weight::Blocks, words);
    }
    // A canary that nobody reaches is never seen with requests: that is what was found.
    if evidence.windows < guards.min_windows && finding.bound != Bound::Starved {
        let words = format!(
            "{name} was seen {} times, at least {} are asked for",
            evidence.windows, guards.min_windows
        );
        push(found, HoldReason::TooLittleEvidence, Weight::Blocks, words);
    }
    let oldest = freshness_limit(view.rules);
    if evidence.newest.is_none_or(|newest| Span::between(newest, view.now) > oldest) {
        let words = format!("the newest sample of {name} is older than {oldest}");
        push(found, HoldReason::StaleEvidence, Weight::Blocks, words);
    }
    if let Some(began) = evidence.beginning().filter(|began| began.before >= MOSTLY) {
        let words = format!(
            "{name} began to be bad about {:.0} s before the deployment, so something else is the likely cause",
            -began.seconds
        );
        push(found, HoldReason::BeganBefore, APPROVE, words);
    }
    match (evidence.baseline.known(), finding.threshold) {
        // A control beside the release says more than its past.
        _ if evidence.compares() => {}
        (None, _) => {
            let words = format!("{name} has no baseline: whether it was so before, nobody knows");
            push(found, HoldReason::NoBaseline, APPROVE, words);
        }
        (Some(before), Some(threshold)) if finding.before.is_some() && before.share.lower > threshold => {
            push(
                found,
                HoldReason::BadBefore,
                APPROVE,
                format!("{name} was beyond the bound before the deployment"),
            );
        }
        (Some(_), _) => {}
    }
}

/// More likely than not.
const MOSTLY: f64 = 0.5;

/// How old the newest sample may be when something is done about it: a stale sample and the looks until it is noticed.
pub fn freshness_limit(rules: &RuleSet) -> Span {
    let sum = rules.watch.max_sample_age.milliseconds() + 2 * rules.watch.look_every.milliseconds();
    Span::from_milliseconds(sum)
}

/// What the executor asks again directly before each effect.
pub struct EffectView<'a> {
    /// The plan about to act.
    pub plan: &'a PlanId,
    /// The watch it belongs to.
    pub watch: &'a WatchId,
    /// When the plan began.
    pub began: Timestamp,
    /// How long it may take.
    pub limit: Span,
    /// The worst that the step risks.
    pub reversibility: Reversibility,
    /// Whether a person's word is behind the plan.
    pub by_person: bool,
    /// Everything else, read just now.
    pub situation: &'a Situation,
    /// The time.
    pub now: Timestamp,
}

/// The blocking reasons that can have come up since it was decided. Empty: go.
pub fn before_effect(view: &EffectView<'_>) -> Vec<Hold> {
    let mut found = Vec::new();
    if let Some(why) = &view.situation.stopped {
        push(&mut found, HoldReason::KillSwitch, Weight::Blocks, format!("the kill switch is pulled: {why}"));
    }
    if let Some(active) = view.situation.active_here.as_ref().filter(|active| *active != view.plan) {
        push(
            &mut found,
            HoldReason::AnotherRollback,
            Weight::Blocks,
            format!("plan {active} is being carried out"),
        );
    }
    if view.situation.current.as_ref().is_some_and(|current| current != view.watch) {
        push(&mut found, HoldReason::Superseded, Weight::Blocks, "a newer deployment took its place");
    }
    if Span::between(view.began, view.now) > view.limit {
        push(
            &mut found,
            HoldReason::PlanTooLong,
            Weight::Blocks,
            format!("the plan has taken more than {}", view.limit),
        );
    }
    if let Some(storm) =
        view.situation.storm.as_ref().filter(|storm| !view.by_person && storm.is_everywhere())
    {
        push(&mut found, HoldReason::CorrelatedFailure, Weight::Blocks, storm.words());
    }
    if view.reversibility == Reversibility::Destructive && !view.by_person {
        let words = "a destructive step never runs without a person's word";
        push(&mut found, HoldReason::Destructive, Weight::Blocks, words);
    }
    found
}
