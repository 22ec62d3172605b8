//! What runs when others turn back or tell late: what the next release comes after, and which news is old.

use super::tests::{Running, event, release, rules, seconds_ago, service};
use crate::events::Incoming;
use rules::deployment::{DeployEvent, DeployKind};
use rules::ids::{SourceName, WatchId};

/// News of a source that says no more than it must: which release runs now.
fn news(id: &str, kind: DeployKind, version: &str, seconds: u64) -> DeployEvent {
    let news = event(service(), id, kind, seconds_ago(seconds));
    DeployEvent { release: release(version), previous: None, ..news }
}

/// Each open watch as the releases it is between.
async fn watched(agent: &Running) -> Vec<(String, Option<String>)> {
    agent
        .look(|view| {
            let of = |watch: &rules::watch::Watch| {
                let previous = watch.deployment.previous.as_ref().map(|release| release.version.to_string());
                (watch.deployment.release.version.to_string(), previous)
            };
            view.watches.values().map(of).collect()
        })
        .await
}

#[tokio::test]
async fn the_next_release_comes_after_what_others_went_back_to() {
    let cases = [
        (DeployKind::RolledBack, "v1", Some("v1".to_owned())),
        // The colour before is tidied up: that is not what runs.
        (DeployKind::Removed, "v1", Some("v2".to_owned())),
        // Nothing ran before it: there is nothing to return to.
        (DeployKind::Removed, "v2", None),
    ];
    for (kind, version, previous) in cases {
        for restarts in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut agent = Running::start(dir.path(), rules(None)).await;
            for story in [
                news("1", DeployKind::Deployed, "v1", 50),
                news("2", DeployKind::Deployed, "v2", 40),
                news("3", kind, version, 30),
            ] {
                let id = story.id.clone();
                agent.news(&id, Incoming::Deploy(story)).await;
            }
            let goes_on = previous.as_deref() == Some("v2");
            assert_eq!(watched(&agent).await.len(), usize::from(goes_on), "{kind:?}");
            if restarts {
                agent.end().await;
                agent = Running::start(dir.path(), rules(None)).await;
            }
            agent.news("4", Incoming::Deploy(news("4", DeployKind::Deployed, "v3", 20))).await;
            let expected = [("v3".to_owned(), previous.clone())];
            assert_eq!(watched(&agent).await, expected, "{kind:?}, restarted: {restarts}");
            agent.end().await;
        }
    }
}

#[tokio::test]
async fn news_of_a_release_that_others_have_left_already_is_late() {
    for kind in [DeployKind::RolledBack, DeployKind::Removed] {
        let dir = tempfile::tempdir().unwrap();
        let agent = Running::start(dir.path(), rules(None)).await;
        let numbered = |story: DeployEvent, sequence| DeployEvent { sequence: Some(sequence), ..story };
        for story in [
            numbered(news("1", DeployKind::Deployed, "v1", 50), 10),
            numbered(news("3", kind, "v1", 30), 12),
            numbered(news("2", DeployKind::Deployed, "v2", 40), 11),
        ] {
            let id = story.id.clone();
            agent.news(&id, Incoming::Deploy(story)).await;
        }
        assert_eq!(watched(&agent).await, [], "{kind:?}: a watch over what does not run");
        let streams = agent.ledger.streams("watch/").await.unwrap();
        let first = news("1", DeployKind::Deployed, "v1", 50);
        let first = WatchId::of(&first.source, "1", &first.service, &first.environment);
        assert_eq!(streams, [format!("watch/{first}")]);
        agent.end().await;
    }
}

/// A release is rolled out, a hotfix after it, and only then does the slow pipeline of the first one say that it is done.
#[tokio::test]
async fn what_a_cluster_has_left_is_late_whenever_a_pipeline_tells_of_it() {
    let deployed = DeployKind::Deployed;
    let cases = [
        // A cluster tells of the hotfix: it looks at what runs.
        ("cluster", deployed, "v2", Some("v3")),
        // Two pipelines: each tells what it has done, and the last of them counts.
        ("other-pipeline", deployed, "v2", Some("v2")),
        // The cluster has not told of it yet.
        ("cluster", deployed, "v4", Some("v4")),
        // Going back is always to what was left, and the cluster may be cut off.
        ("cluster", DeployKind::RolledBack, "v2", None),
    ];
    for (source, kind, late, watched_then) in cases {
        let dir = tempfile::tempdir().unwrap();
        let agent = Running::start(dir.path(), rules(None)).await;
        let of = |story: DeployEvent| DeployEvent { source: SourceName::new(source).unwrap(), ..story };
        for story in [
            of(news("1", DeployKind::Deployed, "v2", 50)),
            of(news("2", DeployKind::Deployed, "v3", 40)),
            news("3", kind, late, 30),
        ] {
            let id = story.id.clone();
            agent.news(&id, Incoming::Deploy(story)).await;
        }
        let versions: Vec<String> = watched(&agent).await.into_iter().map(|(version, _)| version).collect();
        let expected: Vec<&str> = watched_then.into_iter().collect();
        assert_eq!(versions, expected, "{source} has told, then a pipeline of {late}, {kind:?}");
        agent.end().await;
    }
}

/// Whoever was down for long hears the past in order, and knows then what ran before that which is new.
#[tokio::test]
async fn what_was_deployed_too_long_ago_to_be_watched_is_known_to_have_run() {
    let (long_ago, configured) = (3_600, rules(Some(vec!["/bin/true".to_owned()])));
    for (configured, previous) in [(configured, Some("v3")), (rules(None), None)] {
        let dir = tempfile::tempdir().unwrap();
        let agent = Running::start(dir.path(), configured).await;
        for story in [
            news("1", DeployKind::RolledBack, "v1", 3 * long_ago),
            news("2", DeployKind::Deployed, "v3", 2 * long_ago),
            news("3", DeployKind::Deployed, "v4", 20),
        ] {
            let id = story.id.clone();
            agent.news(&id, Incoming::Deploy(story)).await;
        }
        assert_eq!(watched(&agent).await, [("v4".to_owned(), previous.map(str::to_owned))]);
        agent.end().await;
    }
}
