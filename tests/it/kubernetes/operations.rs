//! The other operations: each is one write, and none where it is so already.

use anyhow::Result;
use serde_json::{Value, json};

use super::stage::{Stage, assert_refused, image, kind};

#[tokio::test]
async fn each_operation_is_one_write_and_none_the_second_time() -> Result<()> {
    let stage = Stage::new().await?;
    stage.apply(include_str!("../../../deploy/kubernetes/scale.yaml")).await?;
    stage.good("web").await?;
    let set = json!({"set_image": {"container": "app", "image": "shop/checkout:v9"}});
    let operations: [(Value, &str, Value); 5] = [
        (set, "/spec/template/spec/containers/0/image", json!("shop/checkout:v9")),
        (json!({"scale": {"replicas": 3}}), "/spec/replicas", json!(3)),
        (json!("restart"), "/spec/template/metadata/annotations/turnback.dev~1restarted-by", Value::Null),
        (json!("pause"), "/spec/paused", json!(true)),
        (json!("resume"), "/spec/paused", Value::Null),
    ];
    for (number, (operation, pointer, expected)) in operations.into_iter().enumerate() {
        let step = stage.step("web", operation.clone());
        let outcome = stage.run(&step).await;
        assert_eq!(kind(&outcome), "done", "{operation}: {outcome:?}");
        let after = stage.get("deployments", "web").await?;
        let found = after.pointer(pointer).cloned().unwrap_or(Value::Null);
        if operation == "restart" {
            assert!(found.as_str().is_some_and(|found| found.contains(&step.key)), "{after}");
        } else {
            assert_eq!(found, expected, "{operation}");
        }
        let outcome = stage.run(&step).await;
        assert_eq!(kind(&outcome), "there already", "{operation}: {outcome:?}");
        assert_eq!(stage.written(), number + 1, "{operation}");
    }
    let outcome = stage.run(&stage.step("web", json!({"wait": {}}))).await;
    assert_eq!(kind(&outcome), "there already", "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_done_is_said_before_anything_is_written() -> Result<()> {
    let stage = Stage::new().await?;
    stage.good("web").await?;
    let set = |container: &str| json!({"set_image": {"container": container, "image": "shop/checkout:v2"}});
    assert_refused(
        &stage.run(&stage.step("web", set("sidecar"))).await,
        &["no container sidecar", "there are app"],
    );
    assert_refused(
        &stage.run(&stage.step("nothing", json!("restart"))).await,
        &["HTTP 404", "\"nothing\" not found"],
    );
    let path = format!("{}/web", stage.path("deployments"));
    stage.api.merge(&format!("{path}?fieldManager=petra"), &json!({"spec": {"paused": true}})).await?.ok()?;
    assert_refused(&stage.run(&stage.step("web", set("app"))).await, &["paused", "petra"]);
    assert_refused(&stage.run(&stage.step("web", json!({"wait": {}}))).await, &["paused"]);
    let scale = stage.run(&stage.step("web", json!({"scale": {"replicas": 1}}))).await;
    assert_refused(&scale, &["cannot tell whether an autoscaler", "list horizontalpodautoscalers"]);
    assert_eq!(stage.answered(), [0; 0]);
    Ok(())
}

#[tokio::test]
async fn what_the_server_refuses_is_a_certain_failure_in_its_words() -> Result<()> {
    let stage = Stage::new().await?;
    stage.good("web").await?;
    // The configuration refuses it, too; here, the server is to.
    let set = json!({"set_image": {"container": "app", "image": ""}});
    let outcome = stage.run(&stage.step("web", set)).await;
    assert_refused(&outcome, &["the server refuses the change", "HTTP 422", "Required value"]);
    assert_eq!(stage.written(), 0);
    assert_eq!(image(&stage.get("deployments", "web").await?), "shop/checkout:v1");
    Ok(())
}
