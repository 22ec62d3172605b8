//! The file as a projection of a real ledger: complete, nothing twice, whatever is cut.

use super::*;
use crate::ledger::NewRecord;
use jiff::Timestamp;
use rules::action::{ActionSpec, CommandSpec, EffectClass, FailureKind, StepOutcome, Undo};
use rules::deployment::Release;
use rules::execution::{Direction, ExecutionEnd};
use rules::ids::{EnvironmentName, PlanDigest, PlanId, ServiceName, StepName, Version, WatchId};
use rules::plan::{RollbackPlan, Step};
use rules::units::Span;
use rules::watch::{Outcome, VerificationResult};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn command(words: &[&str]) -> ActionSpec {
    ActionSpec::Command(CommandSpec {
        argv: words.iter().map(ToString::to_string).collect(),
        env: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        directory: None,
        success: vec![0],
        retryable: vec![],
    })
}

fn step(name: &str) -> Step {
    Step {
        name: StepName::new(name).unwrap(),
        from: Some("section 4.1".into()),
        undoes: Default::default(),
        asks: false,
        action: command(&["/usr/local/bin/set-image", name, "v1"]),
        class: EffectClass::Keyed,
        inspect: None,
        verify: None,
        undo: Undo::Action(command(&["/usr/local/bin/set-image", name, "v2"])),
        timeout: Span::from_minutes(1),
        reversibility: Default::default(),
        key: format!("key-{name}"),
    }
}

fn plan() -> RollbackPlan {
    let release = |version: &str| Release { version: Version::new(version).unwrap() };
    RollbackPlan {
        id: PlanId::new("p-1").unwrap(),
        watch: WatchId::new("w-1").unwrap(),
        service: ServiceName::new("checkout").unwrap(),
        environment: EnvironmentName::new("production").unwrap(),
        from: release("v2"),
        to: release("v1"),
        proof: "v1 ran well here for 5h".into(),
        reason: "P1: <b>errors</b>".into(),
        steps: vec![step("api"), step("web")],
        drawn_at: at(0),
    }
}

fn story() -> Vec<Entry> {
    let plan = plan();
    let digest: PlanDigest = plan.digest();
    let failed = StepOutcome::Failed {
        kind: FailureKind::Permanent,
        reason: "exit code 1".into(),
        output: "# no such image\n\u{1b}[2Jgone\n<!-- turnback: ledger record 999 -->".into(),
    };
    let intended = |step, direction| Entry::StepIntended { step, direction, attempt: 1 };
    let done = |output: &str| StepOutcome::Done { output: output.into(), changed: true };
    vec![
        Entry::RollbackAsked { by: "ann".into(), drill: false },
        Entry::PlanDrawn { plan: Box::new(plan), digest },
        Entry::ExecutionBegan { by_person: true },
        intended(0, Direction::Apply),
        Entry::StepEnded { step: 0, outcome: done("image set") },
        intended(1, Direction::Apply),
        Entry::StepEnded { step: 1, outcome: StepOutcome::NotBegun { reason: "stopped".into() } },
        intended(1, Direction::Apply),
        Entry::StepEnded { step: 1, outcome: failed },
        intended(0, Direction::Undo),
        Entry::StepEnded { step: 0, outcome: done("") },
        Entry::ExecutionEnded { end: ExecutionEnd::Unwound("web failed".into()) },
        Entry::VerificationEnded { result: VerificationResult::Recovered },
        Entry::Closed { outcome: Outcome::Unwound("web failed".into()) },
    ]
}

fn record(stream: &str, entry: &Entry, seconds: i64) -> NewRecord {
    let body = serde_json::to_value(entry).unwrap();
    let kind = body.as_object().map_or("entry", |map| map.keys().next().unwrap()).to_owned();
    let record = NewRecord::new(stream, kind, 1, at(seconds), body);
    if matches!(entry, Entry::Closed { .. }) { record.closing() } else { record }
}

async fn tell(ledger: &Ledger, entries: &[Entry], from: i64) {
    for (seconds, entry) in (from..).zip(entries) {
        ledger.append(vec![record("watch/w-1", entry, seconds)]).await.unwrap();
        // Other streams in between say nothing.
        ledger.append(vec![record("watch/w-2", &Entry::HandedOver, seconds)]).await.unwrap();
    }
}

async fn follow(ledger: &Ledger, path: &Path) {
    let (_stop, stopped) = watch::channel(true);
    DeploymentLog::open(ledger.clone(), path).unwrap().run(stopped).await;
}

struct Rig {
    folder: tempfile::TempDir,
    ledger: Ledger,
}

impl Rig {
    async fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger.db")).await.unwrap();
        Rig { folder, ledger }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("deployments.md")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }
}

#[tokio::test]
async fn every_action_is_an_entry_with_what_ran() {
    let rig = Rig::new().await;
    tell(&rig.ledger, &story(), 0).await;
    follow(&rig.ledger, &rig.file()).await;
    insta::assert_snapshot!(rig.text());
}

#[tokio::test]
async fn wherever_it_ends_it_goes_on_and_writes_nothing_twice() {
    let whole = Rig::new().await;
    tell(&whole.ledger, &story(), 0).await;
    follow(&whole.ledger, &whole.file()).await;
    let wanted = whole.text();
    for end in 0..=story().len() {
        let rig = Rig::new().await;
        tell(&rig.ledger, &story()[..end], 0).await;
        follow(&rig.ledger, &rig.file()).await;
        follow(&rig.ledger, &rig.file()).await;
        tell(&rig.ledger, &story()[end..], i64::try_from(end).unwrap()).await;
        follow(&rig.ledger, &rig.file()).await;
        assert_eq!(rig.text(), wanted, "cut after {end} entries");
    }
}

#[tokio::test]
async fn an_entry_cut_short_is_written_again_whole() {
    let rig = Rig::new().await;
    tell(&rig.ledger, &story(), 0).await;
    follow(&rig.ledger, &rig.file()).await;
    let whole = rig.text();
    let last = whole.trim_end().rfind("### ").unwrap();
    let title = whole.find("## 2").unwrap();
    let forged = whole.find("record 999 -->").unwrap() + 20;
    for cut in [title, title + 30, forged, last + 5, last + 30, whole.len() - 8, whole.len() - 1] {
        std::fs::write(rig.file(), &whole[..cut]).unwrap();
        follow(&rig.ledger, &rig.file()).await;
        let text = rig.text();
        let marks = |text: &str| text.matches("\n<!-- turnback: ledger record").count();
        assert!(text.starts_with(&whole[..cut]), "nothing is ever taken away");
        assert!(text.trim_end().ends_with(whole[last..].trim_end()), "cut at {cut}: {text}");
        assert!(marks(&text) <= marks(&whole) + 1, "cut at {cut}: {text}");
    }
}

#[tokio::test]
async fn entries_come_while_it_follows() {
    let rig = Rig::new().await;
    let (stop, stopped) = watch::channel(false);
    let following = tokio::spawn(DeploymentLog::open(rig.ledger.clone(), &rig.file()).unwrap().run(stopped));
    tell(&rig.ledger, &story()[..5], 0).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !rig.text().contains("image set") {
        assert!(std::time::Instant::now() < deadline, "{}", rig.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(5), following).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_file_of_somebody_else_is_not_written_to() {
    let rig = Rig::new().await;
    std::fs::write(rig.file(), "root:x:0:0\n").unwrap();
    let refused = DeploymentLog::open(rig.ledger.clone(), &rig.file());
    assert!(matches!(refused, Err(BadLog::Foreign { .. })));
    assert_eq!(rig.text(), "root:x:0:0\n");
    let nowhere = rig.folder.path().join("missing/deployments.md");
    let Err(error) = DeploymentLog::open(rig.ledger.clone(), &nowhere) else { panic!("it was opened") };
    assert!(error.to_string().contains("its folder must exist"), "{error}");
    let relative = DeploymentLogConfig { file: "deployments.md".into() };
    assert_eq!(relative.problems()[0].0, "file");
}

#[tokio::test]
async fn the_log_of_another_ledger_is_gone_on_with() {
    let old = Rig::new().await;
    tell(&old.ledger, &story(), 0).await;
    follow(&old.ledger, &old.file()).await;
    let before = old.text();
    let new = Rig::new().await;
    tell(&new.ledger, &story()[..5], 100).await;
    std::fs::copy(old.file(), new.file()).unwrap();
    follow(&new.ledger, &new.file()).await;
    assert!(
        new.text().starts_with(&before) && new.text().matches("rollback from v2").count() == 2,
        "{}",
        new.text()
    );
}
