//! Histories as controllers keep them, and what is told of them.

use super::history::{Naming, Rollout, last_writer, rollouts};
use super::kind::Past;
use super::memory::{Known, Told};
use super::news::{fresh, kind};
use super::template::Template;
use super::{WatchedKind, progressive};
use jiff::Timestamp;
use proptest::prelude::*;
use rules::deployment::DeployKind;
use rules::ids::Version;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const UID: &str = "uid-1";
const LABEL: &str = "app.kubernetes.io/version";

fn of_deployments() -> Past {
    WatchedKind::Deployment.past().expect("a Deployment keeps its past")
}

fn template(image: &str, restarted: Option<u32>) -> Value {
    let mut template = json!({
        "metadata": {"labels": {"app": "web", "pod-template-hash": "whatever"}},
        "spec": {"containers": [{"name": "app", "image": image}]},
    });
    if let Some(restarted) = restarted {
        let at = format!("2026-01-01T00:00:{restarted:02}Z");
        template["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": at});
    }
    template
}

/// A ReplicaSet: its revision now, those it had before, the second at which it was made.
fn replica_set(number: u64, earlier: &str, second: u32, template: Value) -> Value {
    let mut annotations = json!({"deployment.kubernetes.io/revision": number.to_string()});
    if !earlier.is_empty() {
        annotations["deployment.kubernetes.io/revision-history"] = json!(earlier);
    }
    json!({
        "metadata": {
            "name": format!("web-{second}"), "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            "labels": {"pod-template-hash": format!("h{second}")}, "annotations": annotations,
            "ownerReferences": [{"uid": UID, "controller": true}],
        },
        "spec": {"template": template},
    })
}

fn naming(given: &BTreeMap<String, Version>) -> Naming<'_> {
    Naming { label: LABEL, container: None, given }
}

fn read(items: &[Value]) -> Vec<Rollout> {
    rollouts(of_deployments(), UID, items, None, naming(&BTreeMap::new()))
}

fn told(items: &[Value]) -> Known {
    let rollouts = read(items);
    Known { told: rollouts.last().map(|last| Told::of(last, UID)), ..Known::default() }
}

fn versions(rollouts: &[Rollout]) -> Vec<&str> {
    rollouts.iter().map(|rollout| rollout.version.as_str()).collect()
}

#[test]
fn a_first_sight_tells_what_runs_and_not_what_ran() {
    let items =
        [replica_set(2, "", 20, template("s:v2", None)), replica_set(1, "", 10, template("s:v1", None))];
    let rollouts = read(&items);
    assert_eq!(versions(&rollouts), ["v1", "v2"]);
    assert_eq!(fresh(&rollouts, UID, &Known::default()), [1]);
    assert_eq!(rollouts[1].at, "2026-01-01T00:00:20Z".parse::<Timestamp>().unwrap());
    assert_eq!(fresh(&rollouts, UID, &told(&items)), [0; 0], "told once");
    assert_eq!(fresh(&rollouts, UID, &told(&items[1..])), [1], "after the first one was told");
    assert!(fresh(&[], UID, &Known::default()).is_empty());
}

#[test]
fn rollouts_between_two_looks_are_told_one_by_one() {
    let items: Vec<Value> =
        (1..=4).map(|n| replica_set(n, "", n as u32 * 10, template(&format!("s:v{n}"), None))).collect();
    assert_eq!(fresh(&read(&items), UID, &told(&items[..1])), [1, 2, 3]);
}

#[test]
fn going_back_is_news_and_a_rollback_and_going_forward_again_is_a_deployment() {
    let forth =
        [replica_set(1, "", 10, template("s:v1", None)), replica_set(2, "", 20, template("s:v2", None))];
    let back = [replica_set(3, "1", 10, template("s:v1", None)), forth[1].clone()];
    let again = [back[0].clone(), replica_set(4, "2", 20, template("s:v2", None))];
    let gone_back = read(&back);
    assert_eq!(versions(&gone_back), ["v2", "v1"]);
    assert_eq!(fresh(&gone_back, UID, &told(&forth)), [1]);
    assert_eq!(kind(&gone_back, 1, false), DeployKind::RolledBack);
    assert!(gone_back[1].sequence() > read(&forth)[1].sequence(), "and is newer than what it went back from");
    assert_ne!(gone_back[1].identity(UID), read(&forth)[0].identity(UID), "and another piece of news");
    let forward = read(&again);
    assert_eq!(fresh(&forward, UID, &told(&back)), [1]);
    assert_eq!(kind(&forward, 1, false), DeployKind::Deployed);
    // When it went back only the workload itself knows.
    let written = "2026-01-01T00:01:00Z".parse().unwrap();
    let dated = rollouts(of_deployments(), UID, &back, Some(written), naming(&BTreeMap::new()));
    assert_eq!(dated[1].at, written);
    assert_eq!(dated[1].identity(UID), gone_back[1].identity(UID), "which is no part of what it is");
}

#[test]
fn an_old_cache_tells_nothing() {
    let old = [replica_set(1, "", 10, template("s:v1", None))];
    let new = [old[0].clone(), replica_set(2, "", 20, template("s:v2", None))];
    assert_eq!(fresh(&read(&old), UID, &told(&new)), [0; 0]);
    let back = [replica_set(3, "1", 10, template("s:v1", None)), new[1].clone()];
    assert_eq!(fresh(&read(&new), UID, &told(&back)), [0; 0], "and not that the rollback had not been");
    // A cluster that was put back to a backup goes on from there: its numbers come again, its times do not.
    let third = [old[0].clone(), replica_set(2, "", 50, template("s:v4", None))];
    assert_eq!(fresh(&read(&third), UID, &told(&back)), [1]);
}

#[test]
fn a_restart_is_the_same_rollout_even_when_its_beginning_is_forgotten() {
    let one = [replica_set(1, "", 10, template("s:v1", None))];
    let restarted = [one[0].clone(), replica_set(2, "", 20, template("s:v1", Some(1)))];
    assert_eq!(read(&restarted).len(), 1);
    assert_eq!(read(&restarted)[0].identity(UID), read(&one)[0].identity(UID));
    assert_eq!(fresh(&read(&restarted), UID, &told(&one)), [0; 0]);
    assert_eq!(
        fresh(&read(&restarted[1..]), UID, &told(&one)),
        [0; 0],
        "revisionHistoryLimit took the first"
    );
    // Back to a release that was restarted since, and restarted again.
    let items = [
        replica_set(4, "2", 20, template("s:v1", Some(1))),
        replica_set(3, "", 30, template("s:v2", None)),
        replica_set(5, "", 50, template("s:v1", Some(2))),
    ];
    let all = read(&items);
    assert_eq!(versions(&all), ["v2", "v1"]);
    assert!(all[1].went_back && all[1].first.number == 4 && all[1].last.number == 5);
}

#[test]
fn our_own_image_is_a_rollback_where_that_image_ran_before() {
    let extra = |image: &str| {
        let mut template = template(image, None);
        template["metadata"]["annotations"] = json!({"checksum/config": "2"});
        template
    };
    let items = [
        replica_set(1, "", 10, template("s:v1", None)),
        replica_set(2, "", 20, extra("s:v2")),
        replica_set(3, "", 30, extra("s:v1")),
    ];
    let all = read(&items);
    assert_eq!(kind(&all, 2, true), DeployKind::RolledBack);
    assert_eq!(kind(&all, 2, false), DeployKind::Deployed, "somebody else's new template");
    assert_eq!(kind(&all, 1, true), DeployKind::Deployed, "an image that never ran");
    let stamped = json!({"metadata": {"managedFields": [
        {"manager": "petra", "time": "2026-01-01T00:00:20Z", "fieldsV1": {"f:spec": {"f:template": {}}}},
        {"manager": "turnback", "time": "2026-01-01T00:00:30Z", "fieldsV1": {"f:spec": {"f:template": {}}}},
        {"manager": "hpa", "time": "2026-01-01T00:00:40Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    ]}});
    let (writer, at) = last_writer(&stamped);
    assert_eq!((writer.as_deref(), at), (Some("turnback"), "2026-01-01T00:00:30Z".parse().ok()));
    let mut both = stamped.clone();
    both["metadata"]["managedFields"][0]["time"] = json!("2026-01-01T00:00:30Z");
    assert_eq!(last_writer(&both).0, None, "nobody knows who of the two was last");
    assert_eq!(last_writer(&json!({})), (None, None));
}

#[test]
fn two_releases_never_share_a_name() {
    let labelled = |image: &str| {
        let mut template = template(image, None);
        template["metadata"]["labels"][LABEL] = json!("1.4");
        template
    };
    let mut configured = template("s:v1", None);
    configured["metadata"]["annotations"] = json!({"checksum/config": "2"});
    let items = [
        replica_set(1, "", 10, template("s:v1", None)),
        replica_set(2, "", 20, configured),
        replica_set(3, "", 30, labelled("s:v2")),
        replica_set(4, "", 40, labelled("s:v3")),
    ];
    let all = read(&items);
    let short = &all[1].first.template.hash[..8];
    assert_eq!(versions(&all), ["v1", &format!("v1+{short}"), "1.4", "v3"]);
}

#[test]
fn a_name_stays_when_the_cluster_forgets_who_had_the_tag_before() {
    let configured = |checksum: &str| {
        let mut template = template("s:v1", None);
        template["metadata"]["annotations"] = json!({"checksum/config": checksum});
        template
    };
    let items = [
        replica_set(1, "", 10, template("s:v1", None)),
        replica_set(2, "", 20, configured("2")),
        replica_set(3, "", 30, template("s:v2", None)),
        replica_set(4, "", 40, configured("3")),
    ];
    let mut known = Known::default();
    let mut look = |items: &[Value]| -> Vec<String> {
        let all = rollouts(of_deployments(), UID, items, None, naming(&known.names));
        known.name(&all);
        versions(&all).into_iter().map(str::to_owned).collect()
    };
    let before = look(&items[..2]);
    assert!(before[0] == "v1" && before[1].starts_with("v1+"), "{before:?}");
    assert_eq!(look(&items[1..3]), [before[1].as_str(), "v2"], "revisionHistoryLimit took the first");
    let after = look(&items[2..]);
    assert!(
        after[1].starts_with("v1+") && after[1] != before[1],
        "v1 is the first one's for good: {after:?}"
    );
}

#[test]
fn a_primary_is_called_as_what_it_is_a_copy_of() {
    let configured = |name: &str| {
        let mut template = template("s:v1", None);
        template["spec"]["containers"][0]["envFrom"] = json!([{"configMapRef": {"name": name}}]);
        template
    };
    let items = [
        replica_set(1, "", 10, template("s:v1", None)),
        replica_set(2, "", 20, configured("two")),
        replica_set(3, "", 30, configured("three")),
    ];
    let all = read(&items);
    let called = |primary: &Value| {
        let primary = Template::new(primary);
        progressive::promoted(&all, all.last(), &primary).map(|rollout| rollout.version.to_string())
    };
    let copy = |mut template: Value| {
        template["metadata"] = json!({"labels": {"app": "web-primary"}, "annotations": {"flagger-id": "x"}});
        template
    };
    assert_eq!(called(&copy(template("s:v1", None))).as_deref(), Some("v1"));
    assert_eq!(called(&copy(configured("two-primary"))), Some(all[1].version.to_string()));
    assert!(all[1].version.as_str().starts_with("v1+"));
    // Changed beyond recognition: the last one of the same images before the one that is tried now.
    assert_eq!(called(&copy(configured("other"))), Some(all[1].version.to_string()));
    assert_eq!(called(&copy(template("s:v0", None))), None);
}

#[test]
fn controller_revisions_are_read_as_well() {
    let one = |number: u64, second: u32, image: &str| {
        json!({"metadata": {"name": format!("web-{second}"), "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
                "ownerReferences": [{"uid": UID, "controller": true}]},
            "revision": number, "data": {"spec": {"template": template(image, None)}}})
    };
    let past = WatchedKind::StatefulSet.past().unwrap();
    let all = rollouts(past, UID, &[one(3, 10, "s:v1"), one(2, 20, "s:v2")], None, naming(&BTreeMap::new()));
    assert_eq!(versions(&all), ["v2", "v1"]);
    assert!(all[1].went_back);
    assert_eq!(all[1].last.pod_hash, "web-10", "pods of a StatefulSet carry the name of their revision");
}

#[test]
fn whatever_stands_in_a_history_is_read_without_a_panic() {
    for item in [
        json!(null),
        json!({}),
        json!({"metadata": {"ownerReferences": "x"}}),
        json!({"metadata": {"ownerReferences": [{"uid": UID, "controller": true}], "creationTimestamp": "soon"}}),
        replica_set(1, "", 10, json!("no template")),
        {
            let mut odd = replica_set(1, "x,y", 10, template("s:v1", None));
            odd["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("one");
            odd
        },
    ] {
        assert!(read(std::slice::from_ref(&item)).is_empty(), "{item}");
    }
    let mut foreign = replica_set(1, "", 10, template("s:v1", None));
    foreign["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    assert!(read(&[foreign]).is_empty());
}

#[test]
fn an_abort_is_a_rollback_once_and_trying_again_a_deployment() {
    let mut items =
        [replica_set(1, "", 10, template("s:v1", None)), replica_set(2, "", 20, template("s:v2", None))];
    for item in &mut items {
        let number = item["metadata"]["annotations"]["deployment.kubernetes.io/revision"].take();
        item["metadata"]["annotations"] = json!({"rollout.argoproj.io/revision": number});
        item["metadata"]["labels"] = json!({"rollouts-pod-template-hash": item["metadata"]["name"]});
    }
    let all = rollouts(WatchedKind::Rollout.past().unwrap(), UID, &items, None, naming(&BTreeMap::new()));
    let mut known = Known { told: all.last().map(|last| Told::of(last, UID)), ..Known::default() };
    let now = "2026-01-01T00:05:00Z".parse().unwrap();
    let object = |abort: bool| {
        json!({"status": {"abort": abort, "abortedAt": if abort { json!("2026-01-01T00:01:00Z") } else { Value::Null },
            "stableRS": "web-10", "currentPodHash": "web-20"}})
    };
    assert!(progressive::aborted(&object(false), UID, &all, &mut known, now).is_none());
    let piece = progressive::aborted(&object(true), UID, &all, &mut known, now).unwrap();
    assert_eq!((piece.kind, piece.version.as_str()), (DeployKind::RolledBack, "v1"));
    assert!(piece.sequence > all[1].sequence());
    assert!(progressive::aborted(&object(true), UID, &all, &mut known, now).is_none(), "once");
    let again = progressive::aborted(&object(false), UID, &all, &mut known, now).unwrap();
    assert_eq!((again.kind, again.version.as_str()), (DeployKind::Deployed, "v2"));
    assert!(again.sequence > piece.sequence && again.identity != all[1].identity(UID));
    assert!(progressive::aborted(&object(false), UID, &all, &mut known, now).is_none(), "once");
}

/// A controller as far as its records go: what it does with a wish for a template.
fn wish(records: &mut Vec<(u64, Vec<u64>, u32, u8)>, image: u8, second: u32) {
    let next = records.iter().map(|(number, ..)| *number).max().unwrap_or(0) + 1;
    match records.iter_mut().find(|(.., of)| *of == image) {
        Some((number, ..)) if *number + 1 == next => {}
        Some((number, earlier, ..)) => earlier.push(std::mem::replace(number, next)),
        None => records.push((next, Vec::new(), second, image)),
    }
}

fn shown(records: &[(u64, Vec<u64>, u32, u8)]) -> Vec<Value> {
    let set = |(number, earlier, second, image): &(u64, Vec<u64>, u32, u8)| {
        let earlier: Vec<String> = earlier.iter().map(u64::to_string).collect();
        replica_set(*number, &earlier.join(","), *second, template(&format!("s:v{image}"), None))
    };
    records.iter().map(set).collect()
}

proptest! {
    /// However a template moves among four releases, and however stale looks come in between: every change is told when
    /// it is looked at, never twice, never out of order.
    #[test]
    fn every_change_is_told_once_and_in_order(
        wishes in proptest::collection::vec((0_u8..4, any::<bool>(), any::<proptest::sample::Index>()), 1..12),
    ) {
        let (mut records, mut past, mut known) = (Vec::new(), Vec::new(), Known::default());
        let (mut identities, mut highest, mut running) = (Vec::new(), 0, None);
        for (second, (image, stale, which)) in wishes.into_iter().enumerate() {
            // Several within one second, as scripts do it.
            wish(&mut records, image, u32::try_from(second / 3).unwrap());
            past.push(shown(&records));
            let changed = running.replace(image) != Some(image);
            let looks = if stale { vec![past.len() - 1, which.index(past.len())] } else { vec![past.len() - 1] };
            for (nth, look) in looks.into_iter().enumerate() {
                let all = read(&past[look]);
                let news = fresh(&all, UID, &known);
                prop_assert_eq!(news.len(), usize::from(changed && nth == 0), "look {} at {:?}", nth, past[look]);
                for at in news {
                    let (identity, sequence) = (all[at].identity(UID), all[at].sequence());
                    prop_assert!(!identities.contains(&identity), "twice: {}", identity);
                    prop_assert!(sequence > highest, "out of order");
                    prop_assert_eq!(all[at].version.as_str(), format!("v{image}"));
                    identities.push(identity);
                    highest = sequence;
                }
                let last = all.last().unwrap();
                if known.told.as_ref().is_none_or(|told| told.sequence < last.sequence()) {
                    known.told = Some(Told::of(last, UID));
                }
            }
        }
    }
}
