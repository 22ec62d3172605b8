//! Workloads of a Kubernetes cluster: one look, one decision, one write that holds only for what was looked at.
//!
//! The write is a JSON patch whose first lines test the object's resource version, so that the server refuses it if
//! anybody wrote in between; and it leaves an annotation with plan and step, so that our own write is known again when
//! its reply was lost. The outcome table:
//!
//! | what came back | outcome | because |
//! | --- | --- | --- |
//! | no connection | failed, retryable | nothing was sent |
//! | nothing: time-out, reset, kill switch | unknown | the patch may have been applied |
//! | 200 and the object shows the effect | done | |
//! | 200 without it, or unreadable | unknown | an admission webhook changed it, or the answer is cut |
//! | 409, 422 | look again | below |
//! | 429 | failed, retryable | the server did not take it; `Retry-After` is told |
//! | another 4xx but 408, as a `Status` | failed, permanent | no permission, refused by admission or quota, gone |
//! | 5xx, 408 and the rest | unknown | a gateway's own words, or a server that gave up waiting for itself |
//!
//! | after 409 or 422 the object | outcome |
//! | --- | --- |
//! | carries our annotation and the effect | done: our own write, sent twice by somebody between |
//! | carries our annotation, not the effect | failed, permanent: somebody changed it since |
//! | wants what it wanted, at a later version | from the start: only its status or its annotations moved |
//! | is what it was, after 409 | from the start: a conflict passes |
//! | is what it was, after 422 | failed, permanent: the server refuses the change itself |
//! | wants the effect | done, unchanged: somebody else was there |
//! | wants something else | failed, permanent: somebody's change is not written over |
//!
//! "From the start" is a new look, a new decision and a write that holds for the new look only, at most five times. That is
//! no second attempt at an effect: the server has said that there was none.
//!
//! Whoever else owns the workload is found first ([`owner`]): nothing is written behind an owner's back.

mod client;
mod goal;
mod history;
mod owner;
mod rollout;
mod workload;

use super::{Action, BadAction, Context, pulled, pulled_already};
use crate::secrets::{Redactor, Secrets};
use async_trait::async_trait;
use client::{Answer, Blind, Cluster, Reply};
pub(crate) use client::{FIELD_MANAGER, credentials, reach};
use goal::Goal;
use rollout::Progress;
use rules::action::kubernetes::{KubernetesOperation, KubernetesSpec, WaitFor, is_name};
use rules::action::{FailureKind, Inspected, StepOutcome};
use rules::rehearsal::Tried;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use workload::{MARKER, Workload, marker};
pub(crate) use workload::{containers, plain, query};

/// Between two looks at a rollout: pods take seconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks of one attempt. While pods come and go, controllers write the status several times a second, and every such
/// write outdates a look.
const MOST_LOOKS: usize = 5;

/// What came of a look and the write that belongs to it.
enum Attempt {
    /// This.
    Over(StepOutcome),
    /// The server refused the write, in these words, because of something that does not matter here.
    Refused(String),
}

/// An operation on a workload, ready to be begun. The cluster is first spoken to when it is.
pub(super) struct Kubernetes {
    spec: KubernetesSpec,
    redactor: Redactor,
}

impl Kubernetes {
    /// Checks the names, which come from placeholders and become part of a path. Errors: see [`BadAction`].
    pub(super) fn new(spec: &KubernetesSpec, secrets: &Secrets) -> Result<Self, BadAction> {
        for (key, name) in [("namespace", &spec.namespace), ("name", &spec.name)] {
            if !is_name(name) {
                let short: String = name.chars().take(64).collect();
                return Err(BadAction::Specification {
                    key: format!("kubernetes.{key}"),
                    problem: format!(
                        "{short:?} is no name in Kubernetes: lower-case letters, digits, '-' and '.'"
                    ),
                });
            }
        }
        Ok(Self { spec: spec.clone(), redactor: secrets.redactor() })
    }

    async fn look(&self, cluster: &Cluster, context: &Context) -> Result<Workload, Blind> {
        cluster.get(&workload::path(&self.spec), context).await.map(Workload)
    }

    /// What the operation wants of the workload as it is. An error says why that cannot be said.
    async fn goal(&self, cluster: &Cluster, now: &Workload, context: &Context) -> Result<Goal, Blind> {
        Ok(match &self.spec.operation {
            KubernetesOperation::Undo(to) => {
                let runs = Goal::Images(to.images.clone());
                if to.template_hash.is_none() && runs.holds(now) {
                    return Ok(runs);
                }
                let all = history::remembered(cluster, &self.spec, now, context).await?;
                Goal::Template(history::find(&all, to).map_err(Blind::ForGood)?)
            }
            KubernetesOperation::SetImage(set) => Goal::Image(set.clone()),
            KubernetesOperation::Scale { replicas } => Goal::Replicas(*replicas),
            KubernetesOperation::Pause => Goal::Paused(true),
            KubernetesOperation::Resume => Goal::Paused(false),
            KubernetesOperation::Restart => Goal::Restarted(marker(context)),
            KubernetesOperation::Wait(_) => {
                return Err(Blind::ForGood("waiting writes nothing".into()));
            }
        })
    }

    async fn write(&self, context: &Context) -> Result<StepOutcome, Blind> {
        let cluster = Cluster::connect(&self.spec, &self.redactor, context).await?;
        let mut said = String::new();
        for _ in 0..MOST_LOOKS {
            match self.look_and_write(&cluster, context).await? {
                Attempt::Over(outcome) => return Ok(outcome),
                Attempt::Refused(message) => said = message,
            }
        }
        let reason = format!(
            "nothing was written: in {MOST_LOOKS} looks it moved each time before the write ({said})"
        );
        Ok(failed(FailureKind::Retryable, reason))
    }

    async fn look_and_write(&self, cluster: &Cluster, context: &Context) -> Result<Attempt, Blind> {
        let before = self.look(cluster, context).await?;
        let goal = self.goal(cluster, &before, context).await?;
        if goal.holds(&before) {
            return Ok(Attempt::Over(found_there()));
        }
        if before.annotation(MARKER) == Some(&marker(context)) {
            let who = before.who();
            let reason = format!("this step has written it before, and {who} has changed it since");
            return Ok(Attempt::Over(permanent(reason)));
        }
        if let Some(refusal) = self.refusal(cluster, &before, context).await? {
            return Ok(Attempt::Over(permanent(refusal)));
        }
        let patch = match goal.patch(&before, context) {
            Ok(patch) => patch,
            Err(reason) => return Ok(Attempt::Over(permanent(reason))),
        };
        // Looking took time, in which the switch may have been pulled.
        if let Some(reason) = pulled_already(&context.cancel) {
            return Ok(Attempt::Over(StepOutcome::NotBegun { reason }));
        }
        let reply = cluster.patch(&workload::path(&self.spec), patch, context).await;
        let answer = match reply {
            Reply::NotSent { kind, reason } => {
                return Ok(Attempt::Over(failed(kind, format!("nothing was sent: {reason}"))));
            }
            Reply::Lost { reason } => return Ok(Attempt::Over(unknown(reason))),
            Reply::Answer(answer) => answer,
        };
        Ok(match answer.status {
            409 | 422 => self.look_again(cluster, &before, &goal, &answer, context).await,
            _ => Attempt::Over(outcome(answer, &goal)),
        })
    }

    /// Why the workload as it is may not be written, if so.
    async fn refusal(
        &self,
        cluster: &Cluster,
        before: &Workload,
        context: &Context,
    ) -> Result<Option<String>, Blind> {
        if before.metadata("deletionTimestamp").is_string() {
            return Ok(Some("it is being deleted".into()));
        }
        let owners = owner::in_the_way(cluster, &self.spec, before, context).await?;
        if !owners.is_empty() {
            let words: Vec<String> = owners.iter().map(owner::Owner::words).collect();
            return Ok(Some(words.join("; and ")));
        }
        let empty = BTreeMap::new();
        let (only_from, rolls_out) = match &self.spec.operation {
            KubernetesOperation::Undo(to) => (&to.only_from, true),
            KubernetesOperation::SetImage(set) => (&set.only_from, true),
            KubernetesOperation::Restart => (&empty, true),
            KubernetesOperation::Scale { .. }
            | KubernetesOperation::Pause
            | KubernetesOperation::Resume
            | KubernetesOperation::Wait(_) => (&empty, false),
        };
        if rolls_out && before.is_paused() {
            let who = before.who();
            return Ok(Some(format!(
                "its rollouts are paused, so nothing would happen (last changed by {who})"
            )));
        }
        Ok(before.other_image(only_from).map(|other| {
            format!("it is not what this plan was made for: {other} (last changed by {})", before.who())
        }))
    }

    /// The second table at the top.
    async fn look_again(
        &self,
        cluster: &Cluster,
        before: &Workload,
        goal: &Goal,
        refused: &Answer,
        context: &Context,
    ) -> Attempt {
        let said = &refused.message;
        let now = match self.look(cluster, context).await {
            Ok(now) => now,
            Err(Blind::ForNow(reason) | Blind::ForGood(reason)) => {
                let reason = format!("the server refused it ({said}), and nobody could look why: {reason}");
                return Attempt::Over(unknown(reason));
            }
        };
        let ours = now.annotation(MARKER) == Some(&marker(context));
        Attempt::Over(match (ours, goal.holds(&now)) {
            (true, true) => {
                let output = format!("the write was there when looking again ({said})");
                StepOutcome::Done { output, changed: true }
            }
            (true, false) => permanent(format!("it was written, and {} has changed it since", now.who())),
            (false, true) => found_there(),
            (false, false) if !now.wants_what(before) => permanent(format!(
                "{} changed it between look and write: it runs {} now, which is left alone",
                now.who(),
                workload::images(now.template())
            )),
            (false, false)
                if refused.status == 409 || now.text("resourceVersion") != before.text("resourceVersion") =>
            {
                return Attempt::Refused(said.clone());
            }
            (false, false) => permanent(format!("the server refuses the change: {said}")),
        })
    }

    async fn wait(&self, wait: &WaitFor, context: &Context) -> StepOutcome {
        let mut last = "nothing was seen yet".to_owned();
        let mut blind = true;
        let deadline = Instant::now() + context.timeout.duration();
        let mut connected = None;
        loop {
            let seen = match &connected {
                None => match Cluster::connect(&self.spec, &self.redactor, context).await {
                    Ok(cluster) => {
                        let seen = self.progress(&cluster, wait, context).await;
                        connected = Some(cluster);
                        seen
                    }
                    Err(blind) => Err(blind),
                },
                Some(cluster) => self.progress(cluster, wait, context).await,
            };
            match seen {
                Ok(Progress::Finished) => {
                    let output = match wait.pods {
                        Some(pods) => format!("{pods} new pods of {} are available", self.spec.name),
                        None => format!("{} is rolled out", self.spec.name),
                    };
                    return StepOutcome::Done { output, changed: false };
                }
                Ok(Progress::Failed(reason)) => {
                    return permanent(format!("the rollout has failed: {reason}"));
                }
                Ok(Progress::Underway(words)) => (last, blind) = (words, false),
                Err(Blind::ForGood(reason)) => return permanent(reason),
                // What was seen before is told as well: a last question that the deadline cut off says nothing.
                Err(Blind::ForNow(reason)) if Instant::now() < deadline => (last, blind) = (reason, true),
                Err(Blind::ForNow(_)) => {}
            }
            tokio::select! {
                () = sleep_until((Instant::now() + LOOK_EVERY).min(deadline)) => {}
                () = pulled(&context.cancel) => {
                    let reason = "the kill switch was pulled; waiting has written nothing".into();
                    return StepOutcome::NotBegun { reason };
                }
            }
            if Instant::now() >= deadline {
                let time = context.timeout;
                return if blind {
                    unknown(format!("cannot tell whether the rollout finished within {time}: {last}"))
                } else {
                    permanent(format!("the rollout is not finished after {time}: {last}"))
                };
            }
        }
    }

    async fn progress(
        &self,
        cluster: &Cluster,
        wait: &WaitFor,
        context: &Context,
    ) -> Result<Progress, Blind> {
        let now = self.look(cluster, context).await?;
        if let Some(other) = now.other_image(&wait.images) {
            let who = now.who();
            return Ok(Progress::Failed(format!(
                "another rollout took its place: {other} (last changed by {who})"
            )));
        }
        let mut progress = rollout::progress(self.spec.kind, &now);
        if let (Some(wanted), Progress::Underway(_)) = (wait.pods, &progress) {
            let first = history::available(cluster, &self.spec, &now, context).await?;
            progress = match first >= u64::from(wanted) {
                true => Progress::Finished,
                false => Progress::Underway(format!("{first} of the first {wanted} new pods are available")),
            };
        }
        if matches!(progress, Progress::Underway(_))
            && let Some(reason) = rollout::hopeless(cluster, &self.spec, &now, context).await?
        {
            return Ok(Progress::Failed(reason));
        }
        Ok(progress)
    }

    /// The write as it would be made, checked by the server and dropped.
    async fn try_out(&self, context: &Context) -> Result<Tried, Blind> {
        let cluster = Cluster::connect(&self.spec, &self.redactor, context).await?;
        let before = self.look(&cluster, context).await?;
        if let KubernetesOperation::Wait(_) = &self.spec.operation {
            return Ok(Tried::Works { how: "the workload can be seen; waiting writes nothing".into() });
        }
        let goal = self.goal(&cluster, &before, context).await?;
        if goal.holds(&before) {
            return Ok(Tried::AlreadyThere);
        }
        if let Some(reason) = self.refusal(&cluster, &before, context).await? {
            return Ok(Tried::Fails { reason });
        }
        // The controller makes all pods those of one release, so that this is no reason against acting; but somebody may
        // be at work there.
        if let Some(reason) = history::third_release(&cluster, &self.spec, &before, &goal, context).await? {
            return Ok(Tried::Unclear { reason });
        }
        let patch = match goal.patch(&before, context) {
            Ok(patch) => patch,
            Err(reason) => return Ok(Tried::Fails { reason }),
        };
        let path = workload::path(&self.spec);
        Ok(match cluster.dry_run(&path, patch, context).await {
            Reply::NotSent { reason, .. } | Reply::Lost { reason } => Tried::Unclear { reason },
            Reply::Answer(Answer { status: 200, .. }) => {
                Tried::Works { how: "the API server takes the write (server-side dry run)".into() }
            }
            // It moved between look and write; it is looked at again when it is time.
            Reply::Answer(Answer { status: 409 | 429 | 408 | 500.., message, .. }) => {
                Tried::Unclear { reason: message }
            }
            Reply::Answer(answer) => {
                Tried::Fails { reason: format!("the API server refuses the write: {}", answer.message) }
            }
        })
    }

    async fn is_there(&self, context: &Context) -> Result<bool, Blind> {
        let cluster = Cluster::connect(&self.spec, &self.redactor, context).await?;
        if let KubernetesOperation::Wait(wait) = &self.spec.operation {
            return Ok(self.progress(&cluster, wait, context).await? == Progress::Finished);
        }
        let now = self.look(&cluster, context).await?;
        Ok(self.goal(&cluster, &now, context).await?.holds(&now))
    }
}

#[async_trait]
impl Action for Kubernetes {
    async fn rehearse(&self, context: &Context) -> Tried {
        match self.try_out(context).await {
            Ok(tried) => tried,
            Err(Blind::ForNow(reason)) => Tried::Unclear { reason },
            Err(Blind::ForGood(reason)) => Tried::Fails { reason },
        }
    }

    async fn inspect(&self, context: &Context) -> Inspected {
        match self.is_there(context).await {
            Ok(true) => Inspected::Present,
            Ok(false) => Inspected::Missing,
            Err(Blind::ForNow(reason)) => Inspected::Unclear { reason },
            // Nothing that could be seen later: acting finds the same and says so as a certain failure.
            Err(Blind::ForGood(_)) => Inspected::Missing,
        }
    }

    async fn apply(&self, context: &Context) -> StepOutcome {
        if let KubernetesOperation::Wait(wait) = &self.spec.operation {
            return self.wait(wait, context).await;
        }
        match self.write(context).await {
            Ok(outcome) => outcome,
            // Only looks end here: a write has an outcome of its own.
            Err(Blind::ForNow(reason)) => failed(
                FailureKind::Retryable,
                format!("nothing was written, since nothing could be seen: {reason}"),
            ),
            Err(Blind::ForGood(reason)) => permanent(format!("nothing was written: {reason}")),
        }
    }
}

/// The first table at the top, for answers that are final.
fn outcome(answer: Answer, goal: &Goal) -> StepOutcome {
    let Answer { status, retry_after, body, message } = answer;
    let after = retry_after.map_or(String::new(), |after| format!("; Retry-After: {after}"));
    match (status, body) {
        (200, Ok(object)) => {
            let now = Workload(object);
            if goal.holds(&now) {
                let version = now.text("resourceVersion");
                let output = format!("resource version {version}: {}", workload::images(now.template()));
                return StepOutcome::Done { output, changed: true };
            }
            unknown("the server took the change, and the object that it shows is without it".into())
        }
        (200, Err(reason)) => unknown(reason),
        (429, _) => failed(FailureKind::Retryable, format!("the server did not take it: {message}{after}")),
        (400..=499, Ok(said)) if status != 408 && said["kind"] == "Status" => {
            permanent(format!("the server refuses it: {message}"))
        }
        _ => unknown(format!("{message}, which does not tell whether it took effect{after}")),
    }
}

fn found_there() -> StepOutcome {
    StepOutcome::Done { output: "it is so already".into(), changed: false }
}

fn permanent(reason: String) -> StepOutcome {
    failed(FailureKind::Permanent, reason)
}

fn failed(kind: FailureKind, reason: String) -> StepOutcome {
    StepOutcome::Failed { kind, reason, output: String::new() }
}

fn unknown(reason: String) -> StepOutcome {
    StepOutcome::Unknown { reason, output: String::new() }
}

#[cfg(test)]
mod tests;
