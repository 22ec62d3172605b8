//! Specifications of the family: what is refused, and what a person reads.

use super::*;
use crate::action::ActionSpec;
use crate::runbook::{Runbook, fill_action, problems};

fn action(text: &str) -> ActionSpec {
    serde_saphyr::from_str(text).unwrap()
}

fn undo() -> ActionSpec {
    action(
        "kubernetes:\n  namespace: shop\n  kind: deployment\n  name: '{{service}}'\n  despite_owner: [helm]\n  operation:\n    \
         undo:\n      images: { app: 'shop/checkout:{{to.version}}' }\n      only_from: { app: 'shop/checkout:{{from.version}}' }\n",
    )
}

#[test]
fn words_say_everything_that_will_be_done() {
    let values =
        Values::default().with("service", "checkout").with("to.version", "v1").with("from.version", "v2");
    let filled = fill_action(&undo(), &values).unwrap();
    assert_eq!(
        filled.words(),
        "kubernetes deployment/checkout in shop: undo to app=shop/checkout:v1, only from app=shop/checkout:v2, despite helm"
    );
    assert!(filled.looks_itself());
    for (operation, words) in [
        ("pause", "pause rollouts"),
        ("restart", "restart"),
        ("{ scale: { replicas: 3 } }", "scale to 3"),
        ("{ set_image: { container: app, image: 'a@sha256:b' } }", "set image app=a@sha256:b"),
        ("{ wait: {} }", "wait for the rollout"),
        ("{ wait: { images: { app: a } } }", "wait for the rollout of app=a"),
        ("{ undo: { template_hash: 5f } }", "undo to template 5f"),
    ] {
        let text = format!(
            "kubernetes: {{ namespace: n, kind: deployment, name: d, context: c, operation: {operation} }}"
        );
        assert_eq!(action(&text).words(), format!("kubernetes deployment/d in n: {words}, context c"));
    }
}

#[test]
fn problems_name_the_key() {
    let step = |rest: &str| -> Vec<(String, String)> {
        let text =
            format!("steps:\n- name: a\n  class: compare_and_set\n  action:\n    kubernetes: {{ {rest} }}\n");
        problems(&serde_saphyr::from_str::<Runbook>(&text).unwrap())
    };
    let at = "steps.0.action.kubernetes";
    for (rest, key) in [
        ("namespace: Shop, kind: deployment, name: d, operation: restart", "namespace"),
        ("namespace: a/b, kind: deployment, name: d, operation: restart", "namespace"),
        ("namespace: '{{nope}}', kind: deployment, name: d, operation: restart", "namespace"),
        ("namespace: n, kind: deployment, name: d, kubeconfig: rel, operation: restart", "kubeconfig"),
        ("namespace: n, kind: deployment, name: d, operation: { undo: {} }", "operation.undo"),
        (
            "namespace: n, kind: deployment, name: d, operation: { undo: { images: { a: '{{x}}' } } }",
            "operation.undo.images",
        ),
        ("namespace: n, kind: stateful_set, name: d, operation: pause", "operation"),
        ("namespace: n, kind: daemon_set, name: d, operation: { scale: { replicas: 1 } }", "operation"),
        (
            "namespace: n, kind: deployment, name: d, operation: { scale: { replicas: 1001 } }",
            "operation.scale.replicas",
        ),
        (
            "namespace: n, kind: deployment, name: d, operation: { set_image: { container: 'a b', image: '' } }",
            "operation.set_image",
        ),
    ] {
        let found = step(rest);
        assert!(found.iter().any(|(found, _)| *found == format!("{at}.{key}")), "{rest}: {found:?}");
    }
    assert_eq!(step("namespace: '{{service}}', kind: deployment, name: d, operation: { wait: {} }"), []);
    assert!(
        serde_saphyr::from_str::<ActionSpec>(
            "kubernetes: { namespace: n, kind: pod, name: d, operation: restart }"
        )
        .is_err()
    );
}

#[test]
fn the_runbook_to_copy_has_no_problems() {
    #[derive(Deserialize)]
    struct Configuration {
        runbooks: BTreeMap<String, Runbook>,
    }
    let text = include_str!("../../../../deploy/kubernetes/runbook.yaml");
    let configuration: Configuration = serde_saphyr::from_str(text).unwrap();
    let runbook = &configuration.runbooks["deployment-undo"];
    assert_eq!(problems(runbook), []);
    let values = Values::default().with("service", "web").with("to.version", "v1").with("from.version", "v2");
    let words: Vec<String> =
        runbook.steps.iter().map(|step| fill_action(&step.action, &values).unwrap().words()).collect();
    assert_eq!(
        words,
        [
            "kubernetes deployment/web in shop: undo to app=registry.example/shop/web:v1, only from \
             app=registry.example/shop/web:v2",
            "kubernetes deployment/web in shop: wait for the rollout of app=registry.example/shop/web:v1",
        ]
    );
}
