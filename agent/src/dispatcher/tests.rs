//! The loop on a real ledger: what a restart thinks, what an end waits for, what a clock that is set back does.

use super::*;
use crate::events::{Accepted, Incoming};
use crate::secrets::Secrets;
use rules::deployment::{DeployEvent, DeployKind, Release, Report, ReportState};
use rules::ids::Version;
use rules::units::Span;
use rules::watch::Phase;
use std::path::{Path, PathBuf};
use tokio::task::JoinHandle;

pub(super) fn service() -> ServiceName {
    ServiceName::new("checkout").unwrap()
}

pub(super) fn environment() -> EnvironmentName {
    EnvironmentName::new("production").unwrap()
}

pub(super) fn release(version: &str) -> Release {
    Release { version: Version::new(version).unwrap() }
}

/// Rules of a service: without a runbook, or with one step that is never tried again.
pub(super) fn rules(argv: Option<Vec<String>>) -> Rules {
    Arc::new(move |service, environment| {
        let matrix = rules::ruleset::shipped_matrix("standard").unwrap();
        let mut rules = RuleSet::unconfigured(service.clone(), environment.clone(), matrix);
        rules.runbook = argv.as_ref().map(|argv| {
            let step = serde_json::json!({
                "name": "switch", "class": "one_shot", "action": { "command": { "argv": argv } },
            });
            serde_json::from_value(serde_json::json!({ "steps": [step] })).unwrap()
        });
        rules
    })
}

pub(super) async fn dispatcher(dir: &Path, rules: Rules) -> Dispatcher {
    let ledger = Ledger::open(&dir.join("ledger.db")).await.unwrap();
    let (fleet, fleet_seen) = watch::channel(Fleet::default());
    let (stopped, stopped_seen) = watch::channel(false);
    let (torn_down, torn_down_seen) = watch::channel(false);
    // Nobody tears anything down in these tests, and a sender that is gone would count as that.
    std::mem::forget(torn_down);
    let secrets = Arc::new(Secrets::from_variables(BTreeMap::new()));
    let stop_file: PathBuf = dir.join("STOP");
    let executor =
        Executor::new(ledger.clone(), secrets, fleet_seen, stopped_seen, torn_down_seen, stop_file);
    let (notifiers, _delivery) = Notifiers::new(Vec::new());
    let parts = Parts {
        ledger,
        rules,
        freezes: Vec::new(),
        observers: BTreeSet::from([SourceName::new("cluster").unwrap()]),
        collector: Collector::new(BTreeMap::new()),
        executor,
        notifiers,
        fleet,
        stopped,
    };
    Dispatcher::restore(parts).await.unwrap()
}

/// A dispatcher that runs.
pub(super) struct Running {
    messages: mpsc::Sender<Message>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<Result<(), DispatchError>>,
    pub(super) ledger: Ledger,
}

impl Running {
    pub(super) async fn start(dir: &Path, rules: Rules) -> Running {
        Self::of(dispatcher(dir, rules).await)
    }

    /// Lets a dispatcher run.
    pub(super) fn of(dispatcher: Dispatcher) -> Running {
        let ledger = dispatcher.parts.ledger.clone();
        let (messages, heard) = mpsc::channel(MOST_WAITING);
        let (shutdown, down) = watch::channel(false);
        Running { messages, shutdown, task: tokio::spawn(dispatcher.run(heard, down)), ledger }
    }

    pub(super) async fn news(&self, id: &str, incoming: Incoming) -> Vec<EventAnswer> {
        let (reply, answer) = oneshot::channel();
        let accepted =
            vec![Accepted { id: id.into(), incoming, raw: serde_json::Value::Null, notes: Vec::new() }];
        let source = SourceName::new("ci").unwrap();
        let news = News { accepted, dead: Vec::new() };
        self.messages.send(Message::Events { source, news, reply }).await.unwrap();
        answer.await.unwrap()
    }

    pub(super) async fn deploy(&self, id: &str, kind: DeployKind, at: Timestamp) {
        self.news(id, Incoming::Deploy(event(service(), id, kind, at))).await;
    }

    async fn report(&self, id: &str, state: ReportState, at: Timestamp) {
        let report = Report {
            source: SourceName::new("ci").unwrap(),
            id: "smoke".into(),
            service: service(),
            environment: None,
            what: "smoke_test_failed".into(),
            state,
            summary: "does not start".into(),
            at,
            ended: None,
        };
        self.news(id, Incoming::Report(report)).await;
    }

    pub(super) async fn person(&self, ask: PersonAsk) -> Result<String, String> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Person { ask, by: Person("ann".into()), reply }).await.unwrap();
        answer.await.unwrap()
    }

    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(View<'_>) -> T + Send + 'static,
    ) -> T {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |view: View<'_>| assert!(reply.send(look(view)).is_ok()));
        self.messages.send(Message::Look(look)).await.unwrap();
        answer.await.unwrap()
    }

    /// Asks it to end and waits.
    pub(super) async fn end(self) {
        self.shutdown.send_replace(true);
        self.task.await.unwrap().unwrap();
        self.ledger.close().await.unwrap();
    }
}

pub(super) fn event(service: ServiceName, id: &str, kind: DeployKind, at: Timestamp) -> DeployEvent {
    DeployEvent {
        source: SourceName::new("ci").unwrap(),
        id: id.into(),
        kind,
        service,
        environment: environment(),
        release: release("v2"),
        previous: Some(release("v1")),
        occurred_at: at,
        sequence: None,
        changes: None,
        security_fix: false,
    }
}

pub(super) fn seconds_ago(seconds: u64) -> Timestamp {
    Span::from_seconds(seconds).before(clock::now())
}

#[tokio::test]
async fn a_restart_does_not_make_a_deployment_of_news_that_was_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Running::start(dir.path(), rules(None)).await;
    agent.deploy("1", DeployKind::Deployed, seconds_ago(30)).await;
    // A second source tells of the same deployment a little later; then somebody goes back.
    agent.deploy("2", DeployKind::Deployed, seconds_ago(28)).await;
    agent.deploy("3", DeployKind::RolledBack, seconds_ago(10)).await;
    agent.end().await;
    let agent = Running::start(dir.path(), rules(None)).await;
    assert_eq!(agent.look(|view| view.watches.len()).await, 0);
    assert_eq!(agent.ledger.streams("watch/").await.unwrap().len(), 1, "the restart opened a watch");
    agent.end().await;
}

#[tokio::test]
async fn a_restart_does_not_raise_a_report_that_was_over() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Running::start(dir.path(), rules(None)).await;
    agent.deploy("1", DeployKind::Deployed, seconds_ago(30)).await;
    let began = seconds_ago(20);
    agent.report("2", ReportState::Firing, began).await;
    agent.report("3", ReportState::Resolved, began).await;
    agent.end().await;
    let agent = Running::start(dir.path(), rules(None)).await;
    let firing = agent
        .look(|view| {
            view.watches.values().flat_map(|watch| watch.reports.keys().cloned()).collect::<Vec<_>>()
        })
        .await;
    assert_eq!(firing, Vec::<String>::new());
    agent.end().await;
}

#[tokio::test]
async fn news_that_was_acknowledged_and_not_thought_about_is_thought_about_after_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Running::start(dir.path(), rules(None)).await;
    agent.deploy("1", DeployKind::Removed, seconds_ago(60)).await;
    agent.look(|_| ()).await;
    // The process ends between the commit of this one and the thinking; then much is written that is no news.
    let stored = events::StoredEvent::Deploy {
        event: event(service(), "2", DeployKind::Deployed, seconds_ago(30)),
        raw: serde_json::Value::Null,
        notes: Vec::new(),
    };
    let record = perform::record(events::EVENT_STREAM, "deploy", clock::now(), &stored).unwrap();
    agent.ledger.append(vec![record]).await.unwrap();
    for _ in 0..3 {
        let other = || perform::record("other", "entry", clock::now(), &0).unwrap();
        agent.ledger.append((0..4_000).map(|_| other()).collect()).await.unwrap();
    }
    agent.end().await;
    let agent = Running::start(dir.path(), rules(None)).await;
    assert_eq!(agent.look(|view| view.watches.len()).await, 1);
    agent.end().await;
}

#[tokio::test]
async fn asked_to_end_it_waits_for_the_step_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let done = dir.path().join("done");
    let words = ["/bin/sh", "-c", "sleep 0.5; echo > \"$0\"", done.to_str().unwrap()];
    let with_step = || rules(Some(words.iter().map(|word| (*word).to_owned()).collect()));
    let agent = Running::start(dir.path(), with_step()).await;
    agent.deploy("1", DeployKind::Deployed, seconds_ago(30)).await;
    let asked =
        PersonAsk::Rollback { service: service(), environment: environment(), to: None, drill: false };
    let answer = agent.person(asked).await;
    assert!(answer.is_ok(), "{answer:?}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    agent.end().await;
    assert!(done.exists(), "the step was cut off");
    let agent = Running::start(dir.path(), with_step()).await;
    let stuck = agent.look(|view| {
        let closed = |watch: &&&Watch| matches!(watch.phase, Phase::Closed(_));
        (view.all().iter().filter(closed).count(), view.fleet.auto_suspended().map(str::to_owned))
    });
    assert_eq!(stuck.await, (0, None), "a mere restart made the plan stuck");
    agent.end().await;
}

#[tokio::test]
async fn the_stop_file_is_seen_before_a_plan_is_begun() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Running::start(dir.path(), rules(Some(vec!["/bin/true".into()]))).await;
    agent.deploy("1", DeployKind::Deployed, seconds_ago(30)).await;
    std::fs::write(dir.path().join("STOP"), "").unwrap();
    let asked =
        PersonAsk::Rollback { service: service(), environment: environment(), to: None, drill: false };
    let refusal = agent.person(asked).await.unwrap_err();
    assert!(refusal.contains("STOP"), "{refusal}");
    let seen = agent.look(|view| (view.stopped(), view.stop_file())).await;
    assert!(seen.0.as_ref().is_some_and(|why| why.contains("STOP")) && seen.0 == seen.1, "{seen:?}");
    let resumed = agent.person(PersonAsk::Resume).await.unwrap_err();
    assert!(resumed.starts_with("not resumed: ") && resumed.ends_with("STOP exists; remove it"), "{resumed}");
    agent.person(PersonAsk::Stop { reason: "drill".into() }).await.unwrap();
    let why = agent.look(|view| view.stopped()).await.unwrap();
    assert!(why.starts_with("drill (ann); ") && why.contains("STOP"), "{why}");
    let resumed = agent.person(PersonAsk::Resume).await.unwrap_err();
    assert!(resumed.starts_with("the stop through the API is lifted, but "), "{resumed}");
    std::fs::remove_file(dir.path().join("STOP")).unwrap();
    assert_eq!(agent.look(|view| view.stopped()).await, None);
    agent.end().await;
}

#[tokio::test]
async fn an_approval_is_refused_while_the_stop_file_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let level = |mut rules: RuleSet| {
        rules.autonomy.level = rules::decision::AutonomyLevel::Approve;
        rules
    };
    let runbook = rules(Some(vec!["/bin/true".into()]));
    let with_approval: Rules = Arc::new(move |service, environment| level(runbook(service, environment)));
    let agent = Running::start(dir.path(), with_approval).await;
    agent.deploy("1", DeployKind::Deployed, seconds_ago(30)).await;
    agent.report("2", ReportState::Firing, seconds_ago(5)).await;
    // It is tried out first, by a helper.
    let planned = async {
        loop {
            let plan = agent.look(|view| view.watches.values().find_map(|watch| watch.plan.clone())).await;
            match plan {
                Some(plan) => return plan,
                None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    };
    let planned = tokio::time::timeout(std::time::Duration::from_secs(20), planned).await;
    let (plan, digest) = planned.expect("a failed smoke test makes a plan");
    std::fs::write(dir.path().join("STOP"), "").unwrap();
    let approve = || PersonAsk::Approve { plan: plan.id.clone(), digest: digest.to_string() };
    let refusal = agent.person(approve()).await.unwrap_err();
    assert!(refusal.contains("STOP exists"), "{refusal}");
    std::fs::remove_file(dir.path().join("STOP")).unwrap();
    let approved = agent.person(approve()).await;
    assert!(approved.is_ok(), "{approved:?}");
    agent.end().await;
}

#[tokio::test]
async fn a_persons_word_that_changes_nothing_says_so_and_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Running::start(dir.path(), rules(None)).await;
    let (stop, cart) =
        (|reason: &str| PersonAsk::Stop { reason: reason.into() }, ServiceName::new("cart").unwrap());
    let written = || agent.ledger.head().sequence;
    let before = written();
    let none = agent.person(PersonAsk::Unfreeze { service: Some(cart.clone()) }).await.unwrap();
    assert_eq!(none, "no freeze of cart was in force");
    let none = agent.person(PersonAsk::Unfreeze { service: None }).await.unwrap();
    assert_eq!(none, "no freeze was in force");
    assert_eq!(agent.person(PersonAsk::Resume).await.unwrap(), "nothing was stopped");
    assert_eq!(written(), before);
    agent.person(stop("drill")).await.unwrap();
    let stopped = written();
    assert_eq!(agent.person(stop("again")).await.unwrap(), "was stopped already: drill (ann)");
    assert_eq!(written(), stopped);
    assert_eq!(agent.person(PersonAsk::Resume).await.unwrap(), "resumed");
    for service in [None, Some(cart.clone())] {
        agent.person(PersonAsk::Freeze { service, duration: None, reason: "sale".into() }).await.unwrap();
    }
    assert_eq!(
        agent.person(PersonAsk::Unfreeze { service: Some(cart) }).await.unwrap(),
        "unfrozen; still in force: the freeze of all services (sale, ann), lifted by `turnback unfreeze`"
    );
    assert_eq!(agent.person(PersonAsk::Unfreeze { service: None }).await.unwrap(), "unfrozen");
    agent.end().await;
}

#[tokio::test]
async fn services_without_rules_fill_their_share_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let configured: Rules = Arc::new(|name, environment| {
        let argv = (name.as_str() == "checkout").then(|| vec!["/bin/true".to_owned()]);
        rules(argv)(name, environment)
    });
    let mut dispatcher = dispatcher(dir.path(), configured).await;
    let at = seconds_ago(1);
    let first = event(ServiceName::new("s0").unwrap(), "0", DeployKind::Deployed, at);
    dispatcher.think_about(Incoming::Deploy(first)).await.unwrap();
    let watch = dispatcher.watches.values().next().unwrap().clone();
    for number in 1..events::MOST_WITHOUT_RULES {
        let id = WatchId::new(format!("w-{number}")).unwrap();
        dispatcher.watches.insert(id, watch.clone());
    }
    let more = event(ServiceName::new("more").unwrap(), "1", DeployKind::Deployed, at);
    dispatcher.think_about(Incoming::Deploy(more)).await.unwrap();
    assert_eq!((dispatcher.watches.len(), dispatcher.unwatched), (events::MOST_WITHOUT_RULES, 1));
    dispatcher.think_about(Incoming::Deploy(event(service(), "2", DeployKind::Deployed, at))).await.unwrap();
    assert_eq!((dispatcher.watches.len(), dispatcher.unwatched), (events::MOST_WITHOUT_RULES + 1, 1));
}

#[tokio::test]
async fn a_clock_that_is_set_back_stops_no_timer() {
    let dir = tempfile::tempdir().unwrap();
    let mut dispatcher = dispatcher(dir.path(), rules(None)).await;
    let news = event(service(), "1", DeployKind::Deployed, seconds_ago(1));
    dispatcher.think_about(Incoming::Deploy(news)).await.unwrap();
    let ahead = Span::from_minutes(120).after(clock::now());
    dispatcher.wakes.values_mut().for_each(|wake| *wake = ahead);
    dispatcher.timers_seen = ahead;
    dispatcher.hear_time().await.unwrap();
    let soon = Span::from_minutes(1).after(clock::now());
    assert!(dispatcher.wakes.values().all(|wake| *wake < soon), "{:?}", dispatcher.wakes);
}

#[tokio::test]
async fn many_that_are_reported_at_once_are_a_storm_and_a_restart_knows_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let report = |service: &str, state, at| Report {
        source: SourceName::new("ci").unwrap(),
        id: format!("smoke-{service}"),
        service: ServiceName::new(service).unwrap(),
        environment: None,
        what: "smoke_test_failed".into(),
        state,
        summary: "does not start".into(),
        at,
        ended: None,
    };
    let weather = async |ledger: &Ledger| -> Vec<String> {
        let records = ledger.read_stream_after("fleet", 0, 1_000).await.unwrap();
        let kinds = records.into_iter().map(|record| record.kind);
        kinds.filter(|kind| kind.starts_with("storm")).collect()
    };
    let running = Running::start(dir.path(), rules(None)).await;
    let services = ["checkout", "billing", "search"];
    for (place, service) in services.into_iter().enumerate() {
        let name = ServiceName::new(service).unwrap();
        let mut deploy = event(name, &format!("d-{service}"), DeployKind::Deployed, seconds_ago(20));
        deploy.release = release(&format!("v{}", place + 2));
        running.news(&format!("d-{service}"), Incoming::Deploy(deploy)).await;
        running.news(service, Incoming::Report(report(service, ReportState::Firing, seconds_ago(5)))).await;
        // News is acknowledged before it is thought about; a look comes after.
        running.look(|_| ()).await;
        let storm = weather(&running.ledger).await;
        assert_eq!(storm.len(), usize::from(place == 2), "after {service}: {storm:?}");
    }
    running.end().await;
    let restored = dispatcher(dir.path(), rules(None)).await;
    let storm = restored.fleet.storm(&environment()).cloned().unwrap();
    assert_eq!((storm.ailing, storm.watched), (3, 3));
    drop(restored);
    let running = Running::start(dir.path(), rules(None)).await;
    for service in services {
        let over = report(service, ReportState::Resolved, clock::now());
        running.news(&format!("{service}-over"), Incoming::Report(over)).await;
    }
    running.look(|_| ()).await;
    // That it grew smaller is written, too: the guards see it.
    assert_eq!(weather(&running.ledger).await, ["storm_began", "storm_began", "storm_ended"]);
    running.end().await;
}

#[tokio::test]
async fn a_report_that_is_faster_than_the_news_of_its_deployment_is_heard_by_its_watch() {
    // A release did not begin what fired before it, and what was over is over, whatever comes late.
    let cases = [
        ("after it", 30, vec![(ReportState::Firing, 20)], 1),
        ("before it", 10, vec![(ReportState::Firing, 20)], 0),
        ("over", 30, vec![(ReportState::Firing, 20), (ReportState::Resolved, 20)], 0),
        ("late", 30, vec![(ReportState::Resolved, 20), (ReportState::Firing, 20)], 0),
        ("again", 30, vec![(ReportState::Resolved, 20), (ReportState::Firing, 15)], 1),
    ];
    for (what, deployed, reports, heard) in cases {
        for restarts in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut agent = Running::start(dir.path(), rules(None)).await;
            let now = clock::now();
            for (number, (state, ago)) in reports.iter().enumerate() {
                let began = Span::from_seconds(*ago).before(now);
                agent.report(&format!("alert-{number}"), *state, began).await;
            }
            agent.look(|_| ()).await;
            if restarts {
                agent.end().await;
                agent = Running::start(dir.path(), rules(None)).await;
            }
            agent.deploy("1", DeployKind::Deployed, seconds_ago(deployed)).await;
            let reports =
                |view: View<'_>| view.watches.values().map(|watch| watch.reports.len()).collect::<Vec<_>>();
            assert_eq!(agent.look(reports).await, [heard], "{what}, restarted: {restarts}");
            agent.end().await;
        }
    }
}

/// Each deployment of a service ends the watch of the one before. However many come at once, there is no commit after
/// which, if the machine failed there, two watches of the service were open.
#[tokio::test]
async fn whatever_is_written_at_once_leaves_one_open_watch() {
    let dir = tempfile::tempdir().unwrap();
    let mut dispatcher = dispatcher(dir.path(), rules(None)).await;
    let ledger = dispatcher.parts.ledger.clone();
    let now = clock::now();
    let accepted = |number: u64| {
        let at = Span::from_milliseconds(10_000 - number).before(now);
        let mut deploy = event(service(), &format!("d-{number}"), DeployKind::Deployed, at);
        deploy.release = release(&format!("v{number}"));
        Accepted {
            id: format!("d-{number}"),
            incoming: Incoming::Deploy(deploy),
            raw: serde_json::Value::Null,
            notes: Vec::new(),
        }
    };
    let news = News { accepted: (0..1_100).map(accepted).collect(), dead: Vec::new() };
    let (reply, _answer) = oneshot::channel();
    let (mut heads, done) = (Vec::new(), std::cell::Cell::new(false));
    let hear = async {
        dispatcher.hear_events(vec![(SourceName::new("ci").unwrap(), news, reply)]).await.unwrap();
        done.set(true);
    };
    let watch_commits = async {
        while !done.get() {
            heads.push(ledger.head().sequence);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::join!(hear, watch_commits);
    heads.push(ledger.head().sequence);
    heads.dedup();
    let (mut open, mut read) = (0, 0);
    let mut open_after = Vec::new();
    for head in heads {
        while read < head {
            let records = ledger.read_after(read, u32::try_from(head - read).unwrap()).await.unwrap();
            read = records.last().unwrap().sequence;
            let of = |kind| records.iter().filter(|record| record.kind == kind).count();
            open += of("opened");
            open -= of("closed");
        }
        open_after.push(open);
    }
    assert_eq!(open_after[..2], [0, 0], "the news, and nothing of what it means");
    assert!(open_after.len() > 3 && open_after[2..].iter().all(|open| *open == 1), "{open_after:?}");
}
