//! What a template refers to for its configuration: names always, digests where somebody allows it, contents never.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Ear, config};
use crate::kubernetes::stage::{Stage, deployment};

const PASSWORD: &str = "correct-horse-battery-staple";

const RIGHTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: digests }
rules:
- { apiGroups: [""], resources: [configmaps, secrets], verbs: [get] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: digests }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: digests }
subjects:
- { kind: ServiceAccount, name: turnback, namespace: turnback }
"#;

#[tokio::test]
async fn digests_tell_that_configuration_changed_and_not_what_it_is() -> Result<()> {
    let stage = Stage::new().await?;
    let more = "reconcile: 1s\n      digests: [config_map, secret]";
    let config = config(&stage.namespace, &stage.kubeconfig, more);
    let ear = Ear::with(stage, &config).await?;
    let core = |plural: &str| format!("/api/v1/namespaces/{}/{plural}", ear.stage.namespace);
    let flags = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flags"}, "data": {"fast": value}});
    ear.stage.api.post(&core("configmaps"), &flags("no")).await?.ok()?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": {"password": PASSWORD}});
    ear.stage.api.post(&core("secrets"), &secret).await?.ok()?;
    let mut object = deployment("checkout", "shop/checkout:v1");
    object["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([
        {"configMapRef": {"name": "flags"}}, {"configMapRef": {"name": "nowhere", "optional": true}},
        {"secretRef": {"name": "db"}},
    ]);
    ear.stage.create("deployments", &object).await?;
    ear.until_heard(1).await?;
    ear.stage.apply(RIGHTS.trim()).await?;
    ear.deploy("checkout", "shop/checkout:v2").await?;
    ear.until_heard(2).await?;
    ear.stage
        .api
        .merge(&format!("{}/flags", core("configmaps")), &json!({"data": {"fast": "yes"}}))
        .await?
        .ok()?;
    ear.deploy("checkout", "shop/checkout:v3").await?;
    ear.until_heard(3).await?;

    let heard = ear.heard().await?;
    let of = |at: usize, name: &str, key: &str| -> Value {
        let all = heard[at].body["raw"]["configuration"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["name"] == name).map_or(Value::Null, |mut one| one[key].take())
    };
    for name in ["flags", "db"] {
        assert_eq!(of(0, name, "digest"), Value::Null);
        assert!(of(0, name, "unknown").as_str().is_some_and(|words| words.contains("403")), "{:?}", heard[0]);
        assert_eq!(of(1, name, "digest").as_str().map(str::len), Some(32), "{:?}", heard[1]);
    }
    assert_eq!(of(1, "nowhere", "unknown"), "it does not exist");
    assert_ne!(of(1, "flags", "digest"), of(2, "flags", "digest"));
    assert_eq!(of(1, "db", "digest"), of(2, "db", "digest"));
    for record in ear.daemon.verified_records().await? {
        assert!(
            !record.body_text.contains(PASSWORD) && !record.body_text.contains("fast"),
            "{}",
            record.body_text
        );
    }
    Ok(())
}
