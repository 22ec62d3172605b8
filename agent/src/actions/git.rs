//! Git: the commits that brought a release, reverted in a scratch clone and pushed without force.
//!
//! Nothing that is lost with the scratch clone matters, so everything before the push is certainly without effect. The
//! push itself is a compare-and-set that the server makes: it takes the revert commits only on top of what was fetched.
//!
//! | what came of it | outcome | because |
//! | --- | --- | --- |
//! | the key is on the branch already | done, unchanged | an earlier attempt was here |
//! | reverting leaves the tree as it is | done, unchanged | somebody reverted by hand |
//! | a conflict, a merge, a root or too many commits | failed, permanent | a person has to choose |
//! | the branch moved while we worked | failed, retryable | not pushed; the next attempt fetches anew |
//! | a hook or a rule of the server refuses | failed, permanent | not pushed, with the server's words |
//! | no answer to the push | unknown | it may have arrived; the key will tell |
//!
//! Only the paths that a revert touches are written: the clone is sparse, so that a large tree costs nothing.

mod clone;
mod push;

use self::clone::{BAD, BRANCH, GOOD, OWN, ScratchClone};
use self::push::{Pushed, judge};
use super::output::line;
use super::program::Trouble;
use super::{Action, BadAction, Context, pulled_already};
use crate::secrets::{Redactor, Secret, Secrets};
use async_trait::async_trait;
use rules::action::git::{GitLogin, GitPush, GitSpec, MOST_COMMITS};
use rules::action::{FailureKind, Inspected, StepOutcome};
use rules::rehearsal::Tried;
use tokio::time::Instant;

/// Conflicting files that are named; the rest is counted.
const MOST_FILES: usize = 20;
/// Of the first line of a reverted commit.
const LONGEST_SUBJECT: usize = 200;

/// A revert ready to be made.
pub(super) struct Git {
    spec: GitSpec,
    secret: Option<Secret>,
    redactor: Redactor,
}

impl Git {
    /// Resolves the secret and checks what the placeholders were filled with. Errors: see [`BadAction`].
    pub(super) fn new(spec: &GitSpec, secrets: &Secrets) -> Result<Self, BadAction> {
        if let Some((key, problem)) = spec.problems("git").into_iter().next() {
            return Err(BadAction::Specification { key, problem });
        }
        if let Some(name) =
            [Some(&spec.bad), spec.good.as_ref()].into_iter().flatten().find(|n| n.contains("{{"))
        {
            let problem = format!("still holds a placeholder: {name}");
            return Err(BadAction::Specification { key: "git".into(), problem });
        }
        let reference = spec.login.as_ref().map(|login| match login {
            GitLogin::Https { password, .. } => ("git.login.https.password", password),
            GitLogin::Ssh { key, .. } => ("git.login.ssh.key", key),
        });
        let secret = match reference {
            None => None,
            Some((place, reference)) => Some(
                secrets
                    .resolve(reference)
                    .map_err(|source| BadAction::Secret { place: place.into(), source })?,
            ),
        };
        Ok(Self { spec: spec.clone(), secret, redactor: secrets.redactor() })
    }

    /// The branch that is pushed to.
    fn target(&self, context: &Context) -> String {
        match self.spec.push {
            GitPush::Branch => self.spec.branch.clone(),
            GitPush::NewBranch => own_branch(context),
        }
    }

    /// Fetches what may hold our key and says which of our commits do.
    async fn look(&self, clone: &ScratchClone<'_>, context: &Context) -> Result<Vec<String>, StepOutcome> {
        let branch = format!("refs/heads/{}", self.spec.branch);
        let own = format!("refs/heads/{}", own_branch(context));
        let there = clone.remote_refs(&[&branch, &own]).await?;
        let mut wanted = Vec::new();
        if there.contains(&branch) {
            wanted.push((branch, BRANCH));
        }
        if self.spec.push == GitPush::NewBranch && there.contains(&own) {
            wanted.push((own, OWN));
        }
        clone.fetch(&wanted).await?;
        clone.with_key(&context.key).await
    }

    /// Everything up to the push: the revert commits, made and not pushed. `None` if there is nothing to push.
    async fn prepare(
        &self,
        clone: &ScratchClone<'_>,
        context: &Context,
    ) -> Result<Result<Vec<String>, String>, StepOutcome> {
        let branch = format!("refs/heads/{}", self.spec.branch);
        let own = format!("refs/heads/{}", own_branch(context));
        let bad = format!("refs/tags/{}", self.spec.bad);
        let good = self.spec.good.as_ref().map(|good| format!("refs/tags/{good}"));
        let mut names = vec![branch.as_str(), &own, &bad];
        names.extend(good.as_deref());
        let there = clone.remote_refs(&names).await?;
        if !there.contains(&branch) {
            return Err(permanent(format!("there is no branch {} in the repository", self.spec.branch)));
        }
        let mut wanted = vec![(branch, BRANCH)];
        let optional = [
            (self.spec.push == GitPush::NewBranch, Some(own), OWN),
            (true, Some(bad), BAD),
            (true, good, GOOD),
        ];
        for (asked, name, local) in optional {
            wanted.extend(name.filter(|name| asked && there.contains(name)).map(|name| (name, local)));
        }
        clone.fetch(&wanted).await?;
        if let Some(found) = clone.with_key(&context.key).await?.first() {
            return Ok(Err(format!("the commit {found} with our key is there already")));
        }
        if wanted.iter().any(|(_, local)| *local == OWN) {
            return Err(permanent(format!(
                "the branch {} is there already, without a commit of ours; delete it or merge it",
                own_branch(context)
            )));
        }
        let commits = self.commits(clone).await?;
        self.revert(clone, &commits, context).await
    }

    /// The commits to revert, the newest first, each with exactly one parent.
    async fn commits(&self, clone: &ScratchClone<'_>) -> Result<Vec<String>, StepOutcome> {
        let (depth, branch) = (self.spec.depth, &self.spec.branch);
        let bad = clone.resolve(&self.spec.bad, BAD, depth).await?;
        if !clone.is_ancestor(&bad, BRANCH).await? {
            return Err(permanent(format!(
                "{} is not among the last {depth} commits of {branch}: the release came from elsewhere, or `depth` is \
                 too small",
                self.spec.bad
            )));
        }
        let commits = match &self.spec.good {
            None => vec![bad],
            Some(name) => {
                let good = clone.resolve(name, GOOD, depth).await?;
                if !clone.is_ancestor(&good, &bad).await? {
                    return Err(permanent(format!(
                        "{} does not come before {} within {depth} commits: there is no range to revert",
                        name, self.spec.bad
                    )));
                }
                clone.range(&good, &bad).await?
            }
        };
        match commits.len() {
            0 => return Err(permanent("no commit lies between the two releases".into())),
            many if many > MOST_COMMITS => {
                let text = format!("more than {MOST_COMMITS} commits came with the release; revert by hand");
                return Err(permanent(text));
            }
            _ => {}
        }
        for (commit, parents) in clone.parents(&commits).await? {
            let problem = match parents {
                1 => continue,
                0 => format!("has no parent within {depth} commits; raise `depth`, or revert it by hand"),
                _ => "is a merge: reverting it means choosing a side, and keeps its branch from being merged again; \
                      a person has to do that (`git revert -m`)"
                    .into(),
            };
            return Err(permanent(format!("the commit {commit} {problem}")));
        }
        Ok(commits)
    }

    async fn revert(
        &self,
        clone: &ScratchClone<'_>,
        commits: &[String],
        context: &Context,
    ) -> Result<Result<Vec<String>, String>, StepOutcome> {
        clone.check_out().await?;
        let (mut made, mut idle) = (Vec::new(), Vec::new());
        for commit in commits {
            let subject = line(&clone.subject(commit).await?, &self.redactor);
            let subject: String = subject.chars().take(LONGEST_SUBJECT).collect();
            if let Err((files, said)) = clone.revert(commit).await? {
                let reason = format!(
                    "reverting {commit} ({subject}) conflicts with what came later in {}; a person is needed",
                    shown(&files, &self.redactor)
                );
                return Err(StepOutcome::Failed { kind: FailureKind::Permanent, reason, output: said });
            }
            if !clone.has_changes().await? {
                idle.push(commit.as_str());
                continue;
            }
            let (plan, key) = (&context.plan, &context.key);
            clone
                .commit(&format!(
                    "Revert \"{subject}\"\n\nThis reverts commit {commit}.\n\nTurnback-Plan: {plan}\nTurnback-Key: {key}\n"
                ))
                .await?;
            made.push(format!("{commit} {subject}"));
        }
        match (made.is_empty(), idle.first()) {
            (_, None) => Ok(Ok(made)),
            (true, Some(_)) => {
                Ok(Err("the branch is as it was before the release: somebody reverted it".into()))
            }
            (false, Some(first)) => Err(permanent(format!(
                "{first} is undone on the branch already and others are not: somebody is at work there"
            ))),
        }
    }

    async fn attempt(&self, context: &Context) -> Result<StepOutcome, StepOutcome> {
        let deadline = Instant::now() + context.timeout.duration();
        let clone =
            ScratchClone::new(&self.spec, self.secret.as_ref(), &self.redactor, context, deadline).await?;
        let commits = match self.prepare(&clone, context).await? {
            Ok(commits) => commits,
            Err(already) => return Ok(StepOutcome::Done { output: already, changed: false }),
        };
        if let Some(reason) = pulled_already(&context.cancel) {
            return Err(StepOutcome::NotBegun { reason });
        }
        let target = self.target(context);
        let pushed = match clone.push(&target).await {
            Ok(ran) => judge(&ran),
            Err(Trouble::NotStarted { kind, reason }) => {
                return Err(StepOutcome::Failed { kind, reason, output: String::new() });
            }
            Err(Trouble::Ended { reason, said }) => {
                let reason = format!("the push may have arrived: {reason}");
                return Err(StepOutcome::Unknown { reason, output: said });
            }
        };
        Ok(self.outcome(pushed, &target, &commits))
    }

    fn outcome(&self, pushed: Pushed, target: &str, commits: &[String]) -> StepOutcome {
        let failed = |kind, reason, output| StepOutcome::Failed { kind, reason, output };
        match pushed {
            Pushed::Done => StepOutcome::Done {
                output: format!("pushed to {target}, one revert commit for each of\n{}", commits.join("\n")),
                changed: true,
            },
            Pushed::Moved { words } => {
                let reason = format!("{target} moved while the reverts were made; nothing was pushed");
                failed(FailureKind::Retryable, reason, words)
            }
            Pushed::Refused { passing, reason, words } => {
                let kind = if passing { FailureKind::Retryable } else { FailureKind::Permanent };
                let reason = line(&format!("the repository did not take the push: {reason}"), &self.redactor);
                failed(kind, reason, words)
            }
            Pushed::Unclear { words } => {
                let reason = "the push failed in a way that does not tell whether it arrived".into();
                StepOutcome::Unknown { reason, output: words }
            }
        }
    }
}

/// The new branch of a plan.
fn own_branch(context: &Context) -> String {
    format!("turnback/{}", context.plan)
}

fn permanent(reason: String) -> StepOutcome {
    StepOutcome::Failed { kind: FailureKind::Permanent, reason, output: String::new() }
}

fn shown(files: &[String], redactor: &Redactor) -> String {
    let mut words: Vec<String> = files.iter().take(MOST_FILES).map(|file| line(file, redactor)).collect();
    if files.len() > MOST_FILES {
        words.push(format!("and {} more", files.len() - MOST_FILES));
    }
    words.join(", ")
}

#[async_trait]
impl Action for Git {
    async fn rehearse(&self, context: &Context) -> Tried {
        let deadline = Instant::now() + context.timeout.duration();
        let made = async {
            let clone =
                ScratchClone::new(&self.spec, self.secret.as_ref(), &self.redactor, context, deadline)
                    .await?;
            self.prepare(&clone, context).await
        };
        match made.await {
            Ok(Ok(commits)) => Tried::Works {
                how: format!("{} revert commits in a scratch clone, not pushed", commits.len()),
            },
            Ok(Err(_already)) => Tried::AlreadyThere,
            Err(StepOutcome::Failed { kind: FailureKind::Permanent, reason, .. }) => Tried::Fails { reason },
            Err(
                StepOutcome::Failed { reason, .. }
                | StepOutcome::Unknown { reason, .. }
                | StepOutcome::NotBegun { reason }
                | StepOutcome::Done { output: reason, .. },
            ) => Tried::Unclear { reason },
        }
    }

    async fn inspect(&self, context: &Context) -> Inspected {
        let deadline = Instant::now() + context.timeout.duration();
        let looked = async {
            let clone =
                ScratchClone::new(&self.spec, self.secret.as_ref(), &self.redactor, context, deadline)
                    .await?;
            self.look(&clone, context).await
        };
        // A history that does not reach back far enough to show our commit does not show the bad one either, and without
        // that nothing is pushed: "missing" is safe to say.
        match looked.await {
            Ok(found) if found.is_empty() => Inspected::Missing,
            Ok(_) => Inspected::Present,
            Err(
                StepOutcome::Failed { reason, .. }
                | StepOutcome::Unknown { reason, .. }
                | StepOutcome::NotBegun { reason },
            ) => Inspected::Unclear { reason },
            Err(StepOutcome::Done { output, .. }) => Inspected::Unclear { reason: output },
        }
    }

    async fn apply(&self, context: &Context) -> StepOutcome {
        self.attempt(context).await.unwrap_or_else(|stopped| stopped)
    }
}
