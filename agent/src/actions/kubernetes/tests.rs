//! What needs no server: comparing images and templates, choosing one to return to, judging a rollout.

use super::goal::Goal;
use super::history::{Remembered, find};
use super::owner;
use super::rollout::{Progress, progress};
use super::workload::{Workload, marker, plain, same_image, selector};
use crate::actions::Context;
use rules::action::EffectClass;
use rules::action::kubernetes::{SetImage, UndoTo, WorkloadKind, WorkloadOwner};
use rules::ids::{PlanId, StepName};
use rules::units::Span;
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn context() -> Context {
    let (_, cancel) = tokio::sync::watch::channel(false);
    Context {
        plan: PlanId::new("p-1").unwrap(),
        step: StepName::new("turn").unwrap(),
        key: "k-1".into(),
        class: EffectClass::CompareAndSet,
        timeout: Span::from_seconds(1),
        cancel,
    }
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": image}]}})
}

fn workload(image: &str) -> Workload {
    Workload(json!({
        "metadata": {"uid": "u", "resourceVersion": "7", "generation": 2},
        "spec": {"replicas": 2, "template": template(image)},
    }))
}

#[test]
fn images_are_the_same_by_text_or_by_repository_and_digest() {
    for (one, other, same) in [
        ("shop:v1", "shop:v1", true),
        ("shop:v1", "shop:v2", false),
        ("shop:v1", "shop", false),
        ("shop:v1@sha256:aa", "shop@sha256:aa", true),
        ("shop:v1@sha256:aa", "shop:v2@sha256:aa", true),
        ("host:5000/shop@sha256:aa", "host:5000/shop:v1@sha256:aa", true),
        ("host:5000/shop@sha256:aa", "host/shop@sha256:aa", false),
        ("shop@sha256:aa", "shop@sha256:bb", false),
        ("shop@sha256:aa", "shop:v1", false),
        ("other@sha256:aa", "shop@sha256:aa", false),
    ] {
        assert_eq!(same_image(one, other), same, "{one} and {other}");
    }
}

#[test]
fn templates_are_compared_without_what_controllers_add() {
    let mut added = template("a");
    added["metadata"]["labels"]["pod-template-hash"] = json!("5f");
    added["metadata"]["creationTimestamp"] = Value::Null;
    added["$patch"] = json!("replace");
    assert_eq!(plain(&added), template("a"));
    assert_ne!(plain(&added), template("b"));
}

#[test]
fn one_template_is_found_or_the_choice_is_told() {
    let remember = |hash: &str, image: &str| Remembered { hash: hash.into(), template: template(image) };
    let mut variant = remember("cc", "shop:v1");
    variant.template["spec"]["hostNetwork"] = json!(true);
    let all = [remember("aa", "shop:v1"), remember("bb", "shop:v2"), variant];
    let to = |hash: Option<&str>, image: Option<&str>| UndoTo {
        template_hash: hash.map(str::to_owned),
        images: image.map(|image| BTreeMap::from([("app".to_owned(), image.to_owned())])).unwrap_or_default(),
        only_from: BTreeMap::new(),
    };
    assert_eq!(find(&all, &to(Some("aa"), None)), Ok(template("shop:v1")));
    assert_eq!(find(&all, &to(None, Some("shop:v2"))), Ok(template("shop:v2")));
    // The pods of a StatefulSet carry its name before the hash.
    assert_eq!(find(&all, &to(Some("web-bb"), None)), Ok(template("shop:v2")));
    let several = find(&all, &to(None, Some("shop:v1"))).unwrap_err();
    assert!(several.contains("2 templates") && several.contains("aa (app=shop:v1); cc"), "{several}");
    for nothing in [to(Some("aa"), Some("shop:v2")), to(Some("dd"), None), to(Some("a"), None)] {
        let nothing = find(&all, &nothing).unwrap_err();
        assert!(nothing.contains("no such template") && nothing.contains("bb (app=shop:v2)"), "{nothing}");
    }
}

#[test]
fn every_patch_holds_only_for_what_was_looked_at() {
    let before = workload("shop:v2");
    let image = SetImage { container: "app".into(), image: "shop:v1".into(), only_from: BTreeMap::new() };
    for goal in [
        Goal::Template(template("shop:v1")),
        Goal::Image(image),
        Goal::Replicas(3),
        Goal::Paused(true),
        Goal::Restarted(marker(&context())),
    ] {
        assert!(!goal.holds(&before), "{goal:?}");
        let patch = goal.patch(&before, &context()).unwrap();
        let tests: Vec<&str> =
            patch.iter().filter(|one| one["op"] == "test").filter_map(|one| one["path"].as_str()).collect();
        assert_eq!(tests[..3], ["/metadata/uid", "/metadata/resourceVersion", "/spec/template"], "{goal:?}");
        let last = patch.last().unwrap();
        assert_eq!(last["path"], "/metadata/annotations/turnback.dev~1plan", "{goal:?}");
        assert_eq!(last["value"], "p-1 turn k-1");
    }
}

#[test]
fn a_rollout_is_judged_by_its_kind() {
    use Progress::{Failed, Finished, Underway};
    use WorkloadKind::{DaemonSet, Deployment, StatefulSet};
    let done = json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
        "readyReplicas": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2,
        "updateRevision": "b", "currentRevision": "b"});
    let late = json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "m"}]);
    let quota = json!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]);
    let cases = [
        (Deployment, json!({}), Finished),
        (Deployment, json!({"observedGeneration": 1}), Underway("its controller has not taken up".into())),
        (Deployment, json!({"updatedReplicas": 1}), Underway("1 of 2 pods are new".into())),
        (Deployment, json!({"updatedReplicas": 1, "conditions": quota}), Underway("exceeded quota".into())),
        (Deployment, json!({"replicas": 3}), Underway("1 old pods".into())),
        (Deployment, json!({"availableReplicas": 0}), Underway("0 of 2 new pods are available".into())),
        (Deployment, json!({"conditions": late}), Failed("progress deadline is over: m".into())),
        (StatefulSet, json!({}), Finished),
        (StatefulSet, json!({"readyReplicas": 1}), Underway("1 of 2 pods are ready".into())),
        (
            StatefulSet,
            json!({"currentRevision": "a", "updatedReplicas": 1}),
            Underway("1 of 2 pods are new".into()),
        ),
        (DaemonSet, json!({}), Finished),
        (DaemonSet, json!({"updatedNumberScheduled": 0}), Underway("0 of 2 pods are new".into())),
        (DaemonSet, json!({"numberAvailable": 1}), Underway("1 of 2 pods are available".into())),
    ];
    for (kind, change, expected) in cases {
        let mut object = workload("shop:v1").0;
        object["status"] = done.clone();
        for (key, value) in change.as_object().unwrap() {
            object["status"][key] = value.clone();
        }
        let found = progress(kind, &Workload(object));
        let same = match (&found, &expected) {
            (Finished, Finished) => true,
            (Underway(found), Underway(words)) | (Failed(found), Failed(words)) => {
                found.contains(words.as_str())
            }
            _ => false,
        };
        assert!(same, "{kind:?} {change}: {found:?} and not {expected:?}");
    }
    // Without a status nothing is finished.
    assert!(matches!(progress(Deployment, &workload("a")), Underway(_)));
    let mut by_hand = workload("a").0;
    by_hand["status"] = done;
    by_hand["spec"]["updateStrategy"] = json!({"type": "OnDelete"});
    assert!(matches!(progress(StatefulSet, &Workload(by_hand.clone())), Failed(_)));
    assert!(matches!(progress(DaemonSet, &Workload(by_hand)), Failed(_)));
}

#[test]
fn selectors_are_written_as_the_server_reads_them() {
    let mut object = workload("a").0;
    object["spec"]["selector"] = json!({
        "matchLabels": {"app": "web", "tier": "front"},
        "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "b", "operator": "NotIn", "values": ["z"]},
            {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist"},
        ],
    });
    assert_eq!(selector(&Workload(object)), "app=web,tier=front,a in (x,y),b notin (z),c,!d");
}

#[test]
fn a_workload_of_nobody_else_has_no_owner_and_one_of_two_has_both() {
    assert_eq!(owner::of(&workload("a")), []);
    let mut object = workload("a").0;
    object["metadata"]["labels"] =
        json!({"app.kubernetes.io/managed-by": "Helm", "helm.toolkit.fluxcd.io/name": "x"});
    object["metadata"]["managedFields"] = json!([{"manager": "kubectl"}, {"manager": "helm-controller"}]);
    let owners: Vec<WorkloadOwner> = owner::of(&Workload(object)).iter().map(|found| found.owner).collect();
    assert_eq!(owners, [WorkloadOwner::Flux, WorkloadOwner::Helm]);
}
