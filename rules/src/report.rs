//! The case file as words: messages, the why card, the timeline, the post-mortem.
//!
//! Nothing here decides; everything here can be asked for again at any time and says the same.

mod deployment_log;
mod messages;
mod postmortem;
mod why;

pub use deployment_log::LogBook;
pub use messages::{AFTERCARE, aftercare_words};
pub(crate) use messages::{
    checkpoint_text, contacts_text, initiation_text, percent_done, progress_text, recovery_text,
};
pub use postmortem::postmortem;
pub use why::{CheckpointCard, RowCard, SignalCard, WhyCard, decision_words, state_words, why_card};

use crate::evidence::Evidence;
use crate::fleet::Situation;
use crate::guard::Hold;
use crate::ids::SignalName;
use crate::ruleset::Statistics;
use crate::watch::{Effect, Notice, NoticeKind, Watch};
use jiff::Timestamp;

/// The why card as plain text, for messages.
pub(crate) fn why_text(watch: &Watch, now: Timestamp) -> String {
    why_card(watch, now).to_string()
}

/// The same before it is decided what to do: the decision before is no longer the one.
pub(crate) fn undecided_text(watch: &Watch, now: Timestamp) -> String {
    WhyCard { decision: None, holds: Vec::new(), ..why_card(watch, now) }.to_string()
}

/// The plan, for messages: what, why, how to say yes.
pub(crate) fn plan_text(watch: &Watch, now: Timestamp) -> String {
    let Some((plan, digest)) = &watch.plan else { return why_text(watch, now) };
    let mut text = format!(
        "Plan {}: {} from {} back to {}.\nReason: {}.\nTarget: {}.\n",
        plan.id, plan.service, plan.from.version, plan.to.version, plan.reason, plan.proof
    );
    for (number, step) in plan.steps.iter().enumerate() {
        text.push_str(&format!("  {}. {}: {}\n", number + 1, step.title(), step.action.words()));
    }
    text.push_str(&format!("Digest: {digest}\n"));
    if matches!(watch.phase, crate::watch::Phase::AwaitingApproval { .. }) {
        text.push_str(&format!("To approve: turnback approve {} --digest {}\n", plan.id, digest.short()));
    } else if watch.execution.is_none() {
        text.push_str(&format!(
            "To carry it out: turnback rollback {} --to {}\n",
            plan.service, plan.to.version
        ));
    }
    text.push_str(&why_text(watch, now));
    text
}

/// What would have been done, for an agent that only observes.
pub(crate) fn would_text(watch: &Watch, situation: &Situation, now: Timestamp) -> String {
    let target = match watch.target(situation, None) {
        Some(target) => format!("It would have gone back to {}: {}.", target.release.version, target.words()),
        None => "No release is known to return to.".into(),
    };
    format!("{target}\nNothing was done: the autonomy level is observe.\n{}", why_text(watch, now))
}

/// Guards, one after the other.
pub(crate) fn holds_text(holds: &[Hold]) -> String {
    let words: Vec<&str> = holds.iter().map(|hold| hold.words.as_str()).collect();
    words.join("; ")
}

/// Signals without data, one after the other.
pub(crate) fn blind_words(signals: &[(SignalName, String)]) -> String {
    let words: Vec<String> = signals.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
    words.join("; ")
}

/// What keeps a recovery from being shown.
pub(crate) fn still_missing(evidence: &Evidence, statistics: &Statistics) -> String {
    let missing: Vec<String> = evidence
        .signals
        .values()
        .filter_map(|signal| match (signal.requests_to_pass(statistics.beta), &signal.hole) {
            (_, Some((_, reason))) => Some(format!("{}: {reason}", signal.signal.name)),
            (Some(more), None) => Some(format!("{}: about {more} more requests", signal.signal.name)),
            (None, None) => None,
        })
        .collect();
    if missing.is_empty() { "the evidence was not enough in the time".into() } else { missing.join("; ") }
}

/// A page: a person is needed.
pub fn needs_person(watch: &Watch, why: &str) -> Effect {
    let mut text = format!("{why}\n");
    if let Some(execution) = &watch.execution {
        text.push_str(&format!("Plan {}:\n", execution.plan.id));
        for (number, (step, state)) in execution.states().enumerate() {
            text.push_str(&format!("  {}. {}: {}\n", number + 1, step.title(), why::state_words(state)));
        }
    }
    text.push_str("Turnback does nothing further by itself. Look at the service, then `turnback resume`.\n");
    text.push_str(&contacts_text(watch));
    let title =
        format!("{} {}: a person is needed", watch.deployment.service, watch.deployment.release.version);
    let severity = watch.incident.as_ref().map(|incident| incident.severity);
    Effect::Notify(Notice { kind: NoticeKind::NeedsPerson, severity, title, text })
}

/// The agent started again while an incident was open.
pub(crate) fn restarted(watch: &Watch) -> Effect {
    let title =
        format!("{} {}: the agent started again", watch.deployment.service, watch.deployment.release.version);
    let last =
        watch.timeline.last().map_or_else(String::new, |(at, words)| format!("Last: {at:.0} {words}."));
    let severity = watch.incident.as_ref().map(|incident| incident.severity);
    Effect::Notify(Notice { kind: NoticeKind::Restarted, severity, title, text: last })
}
