//! The messages of a rollback: that it begins, how far it is, that it helped, how it is at each checkpoint. What stands in
//! them follows the templates that on-call teams use; each says when the next one comes.

use crate::checkpoint::{self, Due, Taken};
use crate::execution::{Execution, Next, StepState};
use crate::units::Span;
use crate::watch::{Phase, Watch};
use jiff::Timestamp;

/// Whole seconds: nobody reads milliseconds in a message.
fn whole(span: Span) -> Span {
    Span::from_seconds(span.milliseconds() / 1_000)
}

fn since(from: Timestamp, now: Timestamp) -> Span {
    whole(Span::between(from, now))
}

/// What was found, how long the plan may take, when there will be news.
pub(crate) fn initiation_text(watch: &Watch) -> String {
    let mut text = String::new();
    if let Some(incident) = &watch.incident {
        text.push_str(&format!(
            "Found at {:.0}, {} after the deployment: {}, {}.\n",
            incident.opened,
            since(watch.deployment.at, incident.opened),
            incident.severity,
            incident.row
        ));
    }
    if let Some(execution) = &watch.execution {
        let limit = watch.rules.guards.plan_limit;
        text.push_str(&format!(
            "It takes at most {} if no step is tried again, and is stopped at {:.0}; how far it is will be told every {}.\n",
            most(execution).min(limit),
            limit.after(execution.began),
            watch.rules.watch.progress_every
        ));
    }
    text
}

/// The sum of what the steps that are not done may take.
fn most(execution: &Execution) -> Span {
    let left = execution.states().filter(|(_, state)| **state != StepState::Done);
    Span::from_milliseconds(left.map(|(step, _)| step.timeout.milliseconds()).sum())
}

/// Of a hundred steps so many are done; a plan without any is through.
pub(crate) fn percent_done(execution: &Execution) -> usize {
    let (done, of) = execution.progress();
    (done * 100).checked_div(of).unwrap_or(100)
}

/// How far a plan is, what it does now, how long it may still take.
pub(crate) fn progress_text(watch: &Watch, now: Timestamp) -> String {
    let Some(execution) = &watch.execution else { return String::new() };
    let (done, of) = execution.progress();
    let share = percent_done(execution);
    let mut text = format!("{share}% done: {done} of {of} steps.\n");
    let step = |index: usize| execution.plan.steps.get(index).map(|step| step.title()).unwrap_or_default();
    let doing = match (execution.in_flight(), execution.next(now)) {
        (Some((index, direction, attempt)), _) => {
            let undoing = if direction == crate::execution::Direction::Undo { "undoing " } else { "" };
            format!("step {}, {undoing}{}, attempt {attempt}", index + 1, step(index))
        }
        (None, _) if execution.held => format!("held back: {}", execution.last_words),
        (None, Next::WaitUntil(at)) => {
            format!("waiting until {at:.0} to try again: {}", execution.last_words)
        }
        (None, Next::Run { step: index, .. }) => format!("step {}, {} is next", index + 1, step(index)),
        (None, Next::Wait | Next::Finished(_)) => "ending".into(),
    };
    text.push_str(&format!("Now: {doing}.\n"));
    let running = since(execution.began, now);
    text.push_str(&format!("It has been running for {running}. {}\n", left_words(watch, execution, now)));
    let settings = &watch.rules.watch;
    text.push_str(&format!("The next news come in {}, or when it ends.\n", settings.progress_every));
    text
}

/// How long it may still take. An estimate is called one, and a limit a limit.
fn left_words(watch: &Watch, execution: &Execution, now: Timestamp) -> String {
    let (done, of) = execution.progress();
    let stop = watch.rules.guards.plan_limit.after(execution.began);
    let most = most(execution).min(Span::between(now, stop));
    let so_far = Span::between(execution.began, now).milliseconds();
    let per_step = u64::try_from(done).ok().filter(|done| *done > 0).map(|done| so_far / done);
    let left = u64::try_from(of.saturating_sub(done)).unwrap_or(u64::MAX);
    let estimate = per_step.map(|each| whole(Span::from_milliseconds(each.saturating_mul(left))));
    let limit =
        format!("at most {} more if no step is tried again, and it is stopped at {stop:.0}", whole(most));
    match estimate.filter(|estimate| *estimate < most) {
        Some(estimate) => format!("About {estimate} more if the rest goes as the steps before; {limit}."),
        None => format!("How long it still takes is not known: {limit}."),
    }
}

/// How long it took, how the service is now, what comes next: the resolution.
pub(crate) fn recovery_text(watch: &Watch, now: Timestamp) -> String {
    let Some(incident) = &watch.incident else { return String::new() };
    let detected = Span::between(watch.deployment.at, incident.opened);
    let decided =
        incident.acted.map_or_else(|| "–".into(), |acted| Span::between(incident.opened, acted).to_string());
    let recovered = Span::between(incident.opened, now);
    let mut text = format!("Time to detect {detected}, to decide {decided}, to recover {recovered}.\n");
    text.push_str(&now_words(watch));
    if let Some(care) = &watch.aftercare {
        text.push_str(&ahead_words(&care.ahead(&watch.rules)));
    }
    text
}

/// What was seen since the rollback, or since the last checkpoint.
fn now_words(watch: &Watch) -> String {
    let Some(care) = &watch.aftercare else { return String::new() };
    let signals = watch.rules.signals.values();
    let (mut seen, mut unseen) = (Vec::new(), Vec::new());
    for signal in signals {
        match checkpoint::seen(signal, &care.tally) {
            Some(words) => seen.push(words),
            None => unseen.push(signal.name.as_str()),
        }
    }
    let mut text = String::new();
    if !seen.is_empty() {
        text.push_str(&format!("Seen since {:.0}: {}.\n", care.tally.since, seen.join("; ")));
    }
    if !unseen.is_empty() {
        text.push_str(&format!("Nothing was seen of {}.\n", unseen.join(", ")));
    }
    text
}

fn ahead_words(ahead: &[Due]) -> String {
    let due = |due: &Due| format!("{} at {:.0}", due.checkpoint, due.at);
    match ahead {
        [] => "No checkpoint follows: the watch ends here.\n".into(),
        _ => format!("Next checkpoints: {}.\n", ahead.iter().map(due).collect::<Vec<_>>().join(", ")),
    }
}

/// What a checkpoint showed.
pub(crate) fn checkpoint_text(watch: &Watch, taken: &Taken, now: Timestamp) -> String {
    let ended = watch.aftercare.as_ref().map_or(now, |care| care.ended);
    let mut text = format!("{} after the rollback: {}", since(ended, now), taken.verdict);
    if let Some(row) = &taken.row {
        text.push_str(&format!(", {row}"));
    }
    text.push_str(".\n");
    if let Some(late) = taken.late {
        text.push_str(&format!("It was due at {:.0} and is taken {late} late.\n", taken.due));
    }
    if !taken.bounds.is_empty() {
        text.push_str(&format!("Since {:.0}:\n", taken.since));
    }
    for line in taken.lines() {
        text.push_str(&format!("  {line}\n"));
    }
    let ahead = watch.aftercare.as_ref().map(|care| care.ahead(&watch.rules)).unwrap_or_default();
    text.push_str(&ahead_words(&ahead));
    text
}

/// How the phase begins in words: whoever reads it from outside knows it by this.
pub const AFTERCARE: &str = "recovered, next checkpoint ";

/// The phase in words.
pub fn aftercare_words(next: &Due) -> String {
    format!("{AFTERCARE}{} at {:.0}", next.checkpoint, next.at)
}

/// Whom to call, one line; empty if nobody is configured.
pub(crate) fn contacts_text(watch: &Watch) -> String {
    let contacts: Vec<String> =
        watch.rules.contacts.iter().map(|(role, contact)| format!("{role}: {contact}")).collect();
    if contacts.is_empty() { String::new() } else { format!("Contacts: {}\n", contacts.join("; ")) }
}

/// What a watch is doing, for the head of a report.
pub(super) fn standing_words(watch: &Watch) -> String {
    match &watch.phase {
        Phase::Closed(outcome) => outcome.to_string(),
        Phase::Aftercare { next } => format!("{}; still open", aftercare_words(next)),
        _ => "still open".into(),
    }
}
