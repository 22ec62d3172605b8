//! A kubelet without nodes: it looks at all pods and says how they are.
//!
//! What a pod becomes is written in the names of its images: `bad` crashes, `missing` cannot be pulled, `stuck` stays as
//! it is, and anything else is ready after a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Api;

/// Between two looks. A watch would be sooner by a tenth of a second and longer by a page.
const PAUSE: Duration = Duration::from_millis(200);
/// From the first sight of a pod to its being ready.
const STARTING: Duration = Duration::from_secs(1);

/// Starts it on a thread of its own, since the runtime of the test that asked first ends with that test. The thread
/// ends with the process.
pub fn start(api: &Api) -> Result<()> {
    let api = api.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("making a runtime for the fake kubelet")?;
    std::thread::Builder::new()
        .name("kubelet".into())
        .spawn(move || runtime.block_on(run(&api)))
        .context("starting the fake kubelet")?;
    Ok(())
}

async fn run(api: &Api) {
    let mut seen = BTreeMap::new();
    loop {
        // The server may be busy or gone; the tests that wait for pods say so better than this could.
        if let Err(error) = look(api, &mut seen).await {
            eprintln!("the fake kubelet: {error:#}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn look(api: &Api, seen: &mut BTreeMap<String, Instant>) -> Result<()> {
    let pods = api.get("/api/v1/pods").await?.ok()?;
    for pod in pods["items"].as_array().into_iter().flatten() {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let first = *seen.entry(uid.to_owned()).or_insert_with(Instant::now);
        if pod["status"]["containerStatuses"].is_array() {
            continue;
        }
        let Some(status) = status(pod, first.elapsed()) else { continue };
        let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default();
        let path = format!("/api/v1/namespaces/{}/pods/{}/status", text("namespace"), text("name"));
        let answer = api.merge(&path, &json!({"status": status})).await?;
        if answer.status != 404 {
            answer.ok().with_context(|| path)?;
        }
    }
    Ok(())
}

/// What is to be said about a pod that was first seen so long ago, if anything.
fn status(pod: &Value, age: Duration) -> Option<Value> {
    let containers = pod["spec"]["containers"].as_array()?;
    let image = |container: &Value| container["image"].as_str().unwrap_or_default().to_owned();
    let has = |word: &str| containers.iter().any(|container| image(container).contains(word));
    let waiting = if has("missing") {
        Some("ImagePullBackOff")
    } else if has("bad") {
        Some("CrashLoopBackOff")
    } else if has("stuck") || age < STARTING {
        return None;
    } else {
        None
    };
    let ready = waiting.is_none();
    let state = match waiting {
        Some(reason) => {
            json!({"waiting": {"reason": reason, "message": format!("Back-off: {}", image(&containers[0]))}})
        }
        None => json!({"running": {}}),
    };
    let statuses: Vec<Value> = containers
        .iter()
        .map(|container| {
            json!({"name": container["name"], "image": image(container), "imageID": "", "ready": ready,
                   "restartCount": 0, "state": state})
        })
        .collect();
    let word = if ready { "True" } else { "False" };
    Some(json!({
        "phase": if ready { "Running" } else { "Pending" },
        "conditions": [{"type": "Ready", "status": word}, {"type": "ContainersReady", "status": word}],
        "containerStatuses": statuses,
    }))
}
