//! A rollback that is looked after: what the loop makes of news and wishes meanwhile.

use super::perform::{FLEET_STREAM, record, watch_stream};
use super::tests::{Running, environment, release, rules, seconds_ago, service};
use super::*;
use rules::checkpoint::Due;
use rules::deployment::DeployKind;
use rules::execution::ExecutionEnd;
use rules::fleet::FleetEntry;
use rules::ids::Version;
use rules::plan::RollbackPlan;
use rules::units::Span;
use rules::watch::{Entry, VerificationResult};

/// A service whose v2 was turned back and is looked after: as the ledger tells it.
async fn looked_after(dir: &std::path::Path) -> (Running, WatchId) {
    let argv = Some(vec!["/bin/true".to_owned()]);
    let agent = Running::start(dir, rules(argv.clone())).await;
    agent.deploy("1", DeployKind::Deployed, seconds_ago(60)).await;
    let id = agent.look(|view| view.watches.keys().next().unwrap().clone()).await;
    let (now, plan) = (clock::now(), plan(&id));
    let place = || (service(), environment(), plan.id.clone());
    let ((service, environment, name), from) = (place(), plan.from.version.clone());
    let began = FleetEntry::RollbackBegan {
        service,
        environment,
        plan: name,
        from,
        by_person: false,
        drill: false,
        at: now,
    };
    let ((service, environment, name), running) = (place(), Some(plan.to.clone()));
    let ended = FleetEntry::RollbackEnded { service, environment, plan: name, running, at: now };
    let digest = plan.digest();
    let until = Span::from_minutes(5).after(now);
    let next = Due { checkpoint: "30-minutes".into(), at: Span::from_minutes(30).after(now) };
    let entries = [
        Entry::PlanDrawn { plan: Box::new(plan), digest },
        Entry::ExecutionBegan { by_person: false },
        Entry::ExecutionEnded { end: ExecutionEnd::Applied },
        Entry::VerificationBegan { until },
        Entry::VerificationEnded { result: VerificationResult::Recovered },
        Entry::AftercareBegan { next },
    ];
    let mut records: Vec<_> =
        entries.iter().map(|entry| record(&watch_stream(&id), "entry", now, entry).unwrap()).collect();
    records.extend([began, ended].iter().map(|fact| record(FLEET_STREAM, "fact", now, fact).unwrap()));
    agent.ledger.append(records).await.unwrap();
    agent.end().await;
    (Running::start(dir, rules(argv)).await, id)
}

fn plan(watch: &WatchId) -> RollbackPlan {
    RollbackPlan {
        id: PlanId::new("p-1").unwrap(),
        watch: watch.clone(),
        service: service(),
        environment: environment(),
        from: release("v2"),
        to: release("v1"),
        proof: "it ran before".into(),
        reason: "a test".into(),
        steps: Vec::new(),
        drawn_at: clock::now(),
    }
}

async fn phase(agent: &Running, id: &WatchId) -> String {
    let id = id.clone();
    agent.look(move |view| WatchSummary::from(view.watch(&id).unwrap()).phase).await
}

#[tokio::test]
async fn a_restart_goes_on_looking_after_it_and_its_own_news_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (agent, id) = looked_after(dir.path()).await;
    assert!(phase(&agent, &id).await.starts_with("recovered, next checkpoint 30-minutes at "));
    // The pipeline tells of the rollback in its own time.
    agent.deploy("2", DeployKind::RolledBack, seconds_ago(1)).await;
    assert!(phase(&agent, &id).await.starts_with("recovered, next checkpoint"));
    agent.end().await;
}

#[tokio::test]
async fn the_same_release_deployed_again_is_a_new_deployment() {
    let dir = tempfile::tempdir().unwrap();
    let (agent, id) = looked_after(dir.path()).await;
    agent.deploy("2", DeployKind::Deployed, seconds_ago(1)).await;
    assert_eq!(phase(&agent, &id).await, "closed: rolled back, recovered");
    assert_eq!(agent.look(|view| view.watches.len()).await, 1);
    agent.end().await;
}

#[tokio::test]
async fn a_person_can_turn_the_service_back_further() {
    let dir = tempfile::tempdir().unwrap();
    let (agent, id) = looked_after(dir.path()).await;
    let to = Some(Version::new("v0").unwrap());
    let (service, environment) = (service(), environment());
    let answer = agent.person(PersonAsk::Rollback { service, environment, to, drill: false }).await;
    assert!(answer.as_ref().is_ok_and(|words| words.starts_with("the rollback begins")), "{answer:?}");
    assert_eq!(phase(&agent, &id).await, "closed: rolled back, recovered");
    agent.end().await;
}
