//! The action `git` on real repositories: what is reverted, what is refused, and that nothing is pushed twice.

use anyhow::Result;
use rules::action::StepOutcome;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::git::GitServer;
use tests::steps::{Rig, kind, words};

const KEY_LINE: &str = "Turnback-Key: p-1-0123abcd";

fn action(repository: &str, more: &str) -> String {
    format!("git: {{ repository: '{repository}', branch: main, {more} }}")
}

/// A shop: 1.3.9, two commits of 1.4.0, and nothing after it.
fn shop() -> Result<GitServer> {
    let server = GitServer::new()?;
    server.commit(&[("price.txt", "1\n"), ("deep/name.txt", "a\n")], "first")?;
    server.tag("v1.3.9")?;
    server.commit(&[("price.txt", "2\n")], "Raise the \"price\"")?;
    server.commit(&[("deep/name.txt", "b\n"), ("new.txt", "n\n")], "rename")?;
    server.tag("v1.4.0")?;
    Ok(server)
}

const RANGE: &str = "good: 'v{{to.version}}', bad: 'v{{from.version}}'";

fn with_key(server: &GitServer, branch: &str) -> Result<usize> {
    Ok(server.log(branch)?.iter().filter(|one| one.message.lines().any(|line| line == KEY_LINE)).count())
}

/// A first attempt, ended by the kill switch when a hook of the server has been reached.
async fn cut_when_reached(server: &GitServer, rig: &Rig) -> StepOutcome {
    let reached = Path::new(&server.path()).join("reached");
    let pull = async {
        let began = Instant::now();
        while !reached.exists() {
            assert!(began.elapsed() < Duration::from_secs(60), "the hook was never reached");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        rig.switch.send_replace(true);
        Instant::now()
    };
    let (outcome, pulled) = tokio::join!(rig.first(), pull);
    assert!(pulled.elapsed() < Duration::from_secs(5), "it took {:?} to end", pulled.elapsed());
    rig.switch.send_replace(false);
    outcome
}

#[tokio::test]
async fn the_commits_of_a_release_are_reverted_one_by_one_and_once() -> Result<()> {
    let server = shop()?;
    server.commit(&[("other.txt", "o\n")], "work after the release")?;
    let rig = Rig::new(&action(&server.path(), RANGE), &[])?;
    let outcome = rig.first().await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    let log = server.log("main")?;
    assert_eq!(log.len(), 6);
    let bad = server.git(&["rev-parse", "v1.4.0~1"])?;
    let message = format!(
        "Revert \"Raise the \"price\"\"\n\nThis reverts commit {}.\n\nTurnback-Plan: p-1\n{KEY_LINE}",
        bad.trim()
    );
    assert_eq!(log[0].message, message);
    assert!(log[1].message.starts_with("Revert \"rename\""), "the newest is reverted first: {log:?}");
    let trailers =
        server.git(&["log", "-1", "--format=%an|%(trailers:key=Turnback-Key,valueonly)", "main"])?;
    assert_eq!(trailers.trim(), "Turnback|p-1-0123abcd");
    assert_eq!(
        (server.file("main", "price.txt")?, server.file("main", "deep/name.txt")?),
        ("1\n".into(), "a\n".into())
    );
    assert!(server.file("main", "new.txt").is_err());
    assert_eq!(server.file("main", "other.txt")?, "o\n", "the work of others stays");

    for outcome in [rig.first().await, rig.again().await] {
        assert_eq!(kind(&outcome), "there already", "{outcome:?}");
    }
    assert_eq!(server.log("main")?.len(), 6);
    Ok(())
}

#[tokio::test]
async fn a_new_branch_leaves_the_branch_alone_and_is_found_when_it_was_merged() -> Result<()> {
    let mut server = shop()?;
    let url = server.serve().await?;
    let before = server.log("main")?;
    let rig = Rig::new(&action(&url, &format!("push: new_branch, {RANGE}")), &[])?;
    let outcome = rig.first().await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    assert_eq!(server.log("main")?, before);
    assert_eq!(server.log("turnback/p-1")?.len(), 5);
    assert_eq!(server.file("turnback/p-1", "price.txt")?, "1\n");
    assert_eq!(kind(&rig.again().await), "there already");

    // People squash it into one commit and delete the branch.
    server.git(&["branch", "--delete", "--force", "turnback/p-1"])?;
    server.commit(
        &[("price.txt", "1\n")],
        &format!("Roll back\n\n* Revert x\n\n  {KEY_LINE}\n\nReviewed-by: Ada"),
    )?;
    assert_eq!(kind(&rig.again().await), "there already");
    assert!(server.log("turnback/p-1").is_err());
    Ok(())
}

#[tokio::test]
async fn a_single_commit_by_its_name_is_enough() -> Result<()> {
    let server = shop()?;
    let bad = server.git(&["rev-parse", "v1.4.0~1"])?;
    for bad in [bad.trim(), &bad[..10]] {
        let rig = Rig::new(&action(&server.path(), &format!("bad: '{bad}'")), &[])?;
        let outcome = rig.first().await;
        assert!(matches!(kind(&outcome), "done" | "there already"), "{outcome:?}");
    }
    assert_eq!(server.log("main")?.len(), 4);
    assert_eq!(
        (server.file("main", "price.txt")?, server.file("main", "new.txt")?),
        ("1\n".into(), "n\n".into())
    );
    Ok(())
}

#[tokio::test]
async fn a_conflict_names_the_files_and_pushes_nothing() -> Result<()> {
    let server = shop()?;
    server.commit(&[("price.txt", "3\n"), ("deep/name.txt", "")], "later work")?;
    let before = server.log("main")?;
    let outcome = Rig::new(&action(&server.path(), RANGE), &[])?.first().await;
    assert_eq!(kind(&outcome), "failed, permanent", "{outcome:?}");
    let said = words(&outcome);
    assert!(said.contains("deep/name.txt") && said.contains("a person is needed"), "{said}");
    assert_eq!(server.log("main")?, before);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_reverted_blindly_is_refused_with_a_reason() -> Result<()> {
    let server = shop()?;
    server.work(&["switch", "--quiet", "--create", "side", "v1.3.9"])?;
    server.work(&["commit", "--quiet", "--allow-empty", "--message", "aside"])?;
    server.work(&["tag", "--annotate", "--message", "x", "aside"])?;
    server.work(&["push", "--quiet", "origin", "aside"])?;
    server.work(&["switch", "--quiet", "-"])?;
    server.work(&["merge", "--quiet", "--no-ff", "--message", "Merge side", "side"])?;
    server.work(&["push", "--quiet", "origin", "HEAD:main"])?;
    server.tag("v1.5.0")?;
    let root = server.git(&["rev-list", "--max-parents=0", "main"])?;
    let cases = [
        ("good: v1.4.0, bad: v1.5.0".to_owned(), "is a merge"),
        ("bad: v1.5.0".into(), "choosing a side"),
        (format!("bad: {}", root.trim()), "has no parent"),
        ("bad: v1.4.0, depth: 1".into(), "not among the last 1 commits"),
        ("bad: v9".into(), "there is no tag v9"),
        ("bad: 0123456789".into(), "there is no tag 0123456789"),
        ("good: v1.4.0, bad: v1.3.9".into(), "does not come before"),
        ("good: v1.4.0, bad: v1.4.0".into(), "no commit lies between"),
        ("bad: v1.4.0, branch: nowhere".into(), "there is no branch nowhere"),
    ];
    let before = server.git(&["for-each-ref"])?;
    for (more, expected) in cases {
        let text = match more.split_once(", branch: ") {
            Some((more, branch)) => {
                action(&server.path(), more).replace("branch: main", &format!("branch: {branch}"))
            }
            None => action(&server.path(), &more),
        };
        let outcome = Rig::new(&text, &[])?.first().await;
        assert_eq!(kind(&outcome), "failed, permanent", "{more}: {outcome:?}");
        assert!(words(&outcome).contains(expected), "{more}: {outcome:?}");
    }
    let elsewhere = action(&server.path(), "bad: aside").replace("branch: main", "branch: old");
    server.git(&["branch", "old", "v1.4.0"])?;
    let outcome = Rig::new(&elsewhere, &[])?.first().await;
    assert!(words(&outcome).contains("the release came from elsewhere"), "{outcome:?}");
    server.git(&["branch", "--delete", "--force", "old"])?;
    assert_eq!(server.git(&["for-each-ref"])?, before);
    Ok(())
}

#[tokio::test]
async fn names_from_outside_are_names_and_never_options_or_revisions() -> Result<()> {
    let server = shop()?;
    let before = server.git(&["for-each-ref"])?;
    let marker = tempfile::tempdir()?;
    let touched = marker.path().join("touched");
    for evil in [
        format!("--upload-pack=touch {}", touched.display()),
        "v1.4.0..HEAD".into(),
        "HEAD~1".into(),
        "HEAD".into(),
        ":/first".into(),
        "refs/heads/main:refs/heads/x".into(),
        "v1.4.0\n--all".into(),
        "$(touch x)".into(),
    ] {
        let mut rig = Rig::new(&action(&server.path(), "bad: placeholder"), &[])?;
        match &mut rig.step.action {
            rules::action::ActionSpec::Git(git) => git.bad = evil.clone(),
            other => panic!("{other:?}"),
        }
        let outcome = rig.first().await;
        assert_eq!(kind(&outcome), "failed, permanent", "{evil:?}: {outcome:?}");
    }
    assert!(!touched.exists());
    assert_eq!(server.git(&["for-each-ref"])?, before);
    Ok(())
}

#[tokio::test]
async fn a_release_that_somebody_reverted_is_done_and_a_half_reverted_one_is_left_alone() -> Result<()> {
    let server = shop()?;
    let rig = Rig::new(&action(&server.path(), RANGE), &[])?;
    server.work(&["revert", "--no-edit", "HEAD"])?;
    server.work(&["push", "--quiet", "origin", "HEAD:main"])?;
    let outcome = rig.first().await;
    assert_eq!(kind(&outcome), "failed, permanent", "{outcome:?}");
    assert!(words(&outcome).contains("somebody is at work there"), "{outcome:?}");
    server.work(&["revert", "--no-edit", "HEAD~2"])?;
    server.work(&["push", "--quiet", "origin", "HEAD:main"])?;
    assert_eq!(kind(&rig.first().await), "there already");
    assert_eq!(with_key(&server, "main")?, 0);
    Ok(())
}

#[tokio::test]
async fn a_branch_that_moves_at_the_last_moment_is_not_forced_and_the_next_attempt_succeeds() -> Result<()> {
    // A colleague pushes once, between our fetch and our push: before the server names its references …
    let mut server = shop()?;
    let colleague = "m=$(git rev-parse main)\n\
        new=$(GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b git commit-tree -p $m -m colleague $m^{tree})\n\
        git update-ref refs/heads/main $new && touch moved";
    let url = server
        .serve_with_hook(&format!("[ $1 = receive-pack ] && [ ! -e moved ] || exit 0\n{colleague}"))
        .await?;
    let rig = Rig::new(&action(&url, RANGE), &[])?;
    let outcome = rig.first().await;
    assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
    assert!(words(&outcome).contains("moved while the reverts were made"), "{outcome:?}");
    assert_eq!((with_key(&server, "main")?, server.log("main")?[0].message.as_str()), (0, "colleague"));
    assert_eq!(kind(&rig.first().await), "done");
    assert_eq!((with_key(&server, "main")?, server.log("main")?[2].message.as_str()), (2, "colleague"));

    // … and after it, while it checks the push.
    let server = shop()?;
    server.hook(
        "pre-receive",
        &format!("[ -e moved ] && exit 0\nunset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n{colleague}"),
    )?;
    let rig = Rig::new(&action(&server.path(), RANGE), &[])?;
    let outcome = rig.first().await;
    assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
    assert_eq!((with_key(&server, "main")?, server.log("main")?[0].message.as_str()), (0, "colleague"));
    assert_eq!(kind(&rig.first().await), "done");
    assert_eq!(with_key(&server, "main")?, 2);
    Ok(())
}

#[tokio::test]
async fn a_hook_that_refuses_is_quoted() -> Result<()> {
    let server = shop()?;
    server.hook("pre-receive", "echo 'main is frozen until Monday' >&2; exit 1")?;
    let before = server.log("main")?;
    let outcome = Rig::new(&action(&server.path(), RANGE), &[])?.first().await;
    assert_eq!(kind(&outcome), "failed, permanent", "{outcome:?}");
    let said = words(&outcome);
    assert!(said.contains("hook declined") && said.contains("main is frozen until Monday"), "{said}");
    assert_eq!(server.log("main")?, before);
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_key_is_found_afterwards() -> Result<()> {
    let server = shop()?;
    // The branch has moved when this runs, and the answer waits for it.
    server.hook("post-receive", "touch reached; sleep 30")?;
    let rig = Rig::new(&action(&server.path(), RANGE), &[])?;
    let outcome = cut_when_reached(&server, &rig).await;
    assert_eq!(kind(&outcome), "unknown", "{outcome:?}");
    assert_eq!(with_key(&server, "main")?, 2);
    let outcome = rig.again().await;
    assert_eq!(kind(&outcome), "there already", "{outcome:?}");
    assert_eq!(with_key(&server, "main")?, 2);
    Ok(())
}

#[tokio::test]
async fn the_kill_switch_before_the_push_arrives_leaves_it_undone_and_it_can_be_done_again() -> Result<()> {
    let server = shop()?;
    server.hook("pre-receive", "touch reached; sleep 30; exit 0")?;
    let rig = Rig::new(&action(&server.path(), RANGE), &[])?;
    let outcome = cut_when_reached(&server, &rig).await;
    assert_eq!(kind(&outcome), "unknown", "{outcome:?}");
    assert_eq!(with_key(&server, "main")?, 0);
    server.hook("pre-receive", "exit 0")?;
    assert_eq!(kind(&rig.again().await), "done");
    assert_eq!(with_key(&server, "main")?, 2);
    Ok(())
}

#[tokio::test]
async fn a_push_that_arrives_late_is_not_doubled() -> Result<()> {
    let mut server = shop()?;
    let url = server.serve().await?;
    // The server thinks for five seconds; its process is not ours and goes on when we stop waiting.
    server.hook("pre-receive", "[ -e reached ] && exit 0; touch reached; sleep 5; exit 0")?;
    let rig = Rig::new(&action(&url, RANGE), &[])?;
    let outcome = cut_when_reached(&server, &rig).await;
    assert_eq!(kind(&outcome), "unknown", "{outcome:?}");
    assert_eq!(with_key(&server, "main")?, 0, "the server is still thinking");
    let mut kinds = Vec::new();
    for _ in 0..10 {
        let outcome = rig.again().await;
        kinds.push(kind(&outcome));
        if matches!(outcome, StepOutcome::Done { .. }) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(with_key(&server, "main")?, 2, "{kinds:?}");
    assert_eq!(server.file("main", "price.txt")?, "1\n");
    Ok(())
}

#[tokio::test]
async fn a_repository_that_is_not_there_or_not_open_is_said_so() -> Result<()> {
    let mut server = shop()?;
    let outcome = Rig::new(&action("/nonexistent/shop.git", RANGE), &[])?.first().await;
    assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
    assert!(words(&outcome).contains("could not look"), "{outcome:?}");

    let url = server.serve_with_hook("[ $1 = upload-pack ] || { echo 'read only for you'; exit 1; }").await?;
    let outcome = Rig::new(&action(&url, RANGE), &[])?.first().await;
    assert_eq!(kind(&outcome), "failed, permanent", "{outcome:?}");
    assert!(words(&outcome).contains("access denied"), "{outcome:?}");
    assert_eq!(with_key(&server, "main")?, 0);
    Ok(())
}
