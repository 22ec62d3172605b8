//! The manifests of Kubernetes: a real API server takes them whole, they give no right that opens others, and the agent
//! works with the configuration that they carry.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};
use tests::kubernetes::{Answer, Cluster};

use super::{answers, names, read};

/// Everything that is applied; runbook.yaml is a part of a configuration.
fn manifests() -> Result<Vec<(String, Vec<Value>)>> {
    let files = names("kubernetes", ".yaml")?.into_iter().filter(|name| name != "runbook.yaml");
    files.map(|name| Ok((name.clone(), documents(&read(&format!("kubernetes/{name}"))?)?))).collect()
}

fn documents(text: &str) -> Result<Vec<Value>> {
    let parts = text.split("\n---\n");
    parts.map(|part| serde_saphyr::from_str(part).with_context(|| format!("reading {part}"))).collect()
}

/// The one object of a kind in install.yaml.
fn installed(kind: &str) -> Result<Value> {
    let all = documents(&read("kubernetes/install.yaml")?)?;
    all.into_iter()
        .find(|object| object["kind"] == kind)
        .with_context(|| format!("install.yaml has no {kind}"))
}

/// What is wrong with the rights that an object gives.
fn faults(object: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let kind = object["kind"].as_str().unwrap_or_default();
    if kind.starts_with("ClusterRole") {
        faults.push(format!("{kind}: a right for every namespace"));
    }
    for rule in object["rules"].as_array().into_iter().flatten() {
        let words = |key: &str| -> Vec<String> {
            rule[key]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| Some(one.as_str()?.to_owned()))
                .collect()
        };
        let (groups, resources, verbs) = (words("apiGroups"), words("resources"), words("verbs"));
        if rule.get("nonResourceURLs").is_some()
            || groups.is_empty()
            || resources.is_empty()
            || verbs.is_empty()
        {
            faults.push("a rule that does not say groups, resources and verbs".into());
        }
        if [&groups, &resources, &verbs].iter().any(|all| all.iter().any(|word| word.contains('*'))) {
            faults.push("a wildcard".into());
        }
        for verb in verbs.iter().filter(|verb| ["escalate", "bind", "impersonate"].contains(&verb.as_str())) {
            faults.push(format!("the verb {verb}, which gives itself more"));
        }
        // Not even `get`: who may list Secrets has them all, and who may make tokens, run or enter pods has more than that.
        let closed = [
            "secrets",
            "serviceaccounts/token",
            "pods/exec",
            "pods/attach",
            "pods/portforward",
            "nodes/proxy",
        ];
        for resource in resources.iter().filter(|one| closed.contains(&one.as_str())) {
            faults.push(format!("a right on {resource}"));
        }
        if groups.iter().any(|group| group == "rbac.authorization.k8s.io") {
            faults.push("a right on rights".into());
        }
    }
    faults
}

#[test]
fn no_manifest_gives_a_right_that_opens_others() -> Result<()> {
    let mut roles = 0;
    for (name, objects) in manifests()? {
        for object in objects {
            roles += usize::from(object["kind"] == "Role");
            assert_eq!(faults(&object), [""; 0], "{name}: {object}");
        }
    }
    assert!(roles >= 2, "found {roles} roles: this test looks in the wrong place");
    let role = |group: &str, resource: &str, verb: &str| json!({"kind": "Role", "rules": [{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]});
    assert_eq!(faults(&role("apps", "deployments", "patch")), [""; 0]);
    for bad in [
        role("*", "deployments", "get"),
        role("apps", "deployments/*", "get"),
        role("apps", "deployments", "*"),
        role("rbac.authorization.k8s.io", "roles", "get"),
        role("", "users", "impersonate"),
        role("apps", "deployments", "escalate"),
        role("apps", "deployments", "bind"),
        role("", "secrets", "list"),
        role("", "pods/exec", "create"),
        json!({"kind": "Role", "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]}),
        json!({"kind": "ClusterRoleBinding"}),
    ] {
        assert_eq!(faults(&bad).len(), 1, "{bad}: {:?}", faults(&bad));
    }
    Ok(())
}

/// Everything in `sent` that is not in `kept`, by its path: servers drop what is not allowed here, often without a word.
fn lost(sent: &Value, kept: &Value, path: &str, found: &mut Vec<String>) {
    match (sent, kept) {
        (Value::Object(sent), Value::Object(kept)) => {
            for (key, value) in sent {
                lost(value, kept.get(key).unwrap_or(&Value::Null), &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(sent), Value::Array(kept)) if sent.len() == kept.len() => {
            for (index, (sent, kept)) in sent.iter().zip(kept).enumerate() {
                lost(sent, kept, &format!("{path}[{index}]"), found);
            }
        }
        _ if sent == kept => {}
        _ => found.push(format!("{path}: {sent} became {kept}")),
    }
}

#[test]
fn what_a_server_drops_is_seen() {
    let mut found = Vec::new();
    let sent = json!({"a": {"b": [1, {"c": "x"}]}, "d": true});
    lost(&sent, &json!({"a": {"b": [1, {"c": "x", "more": 1}]}, "d": true, "status": {}}), "", &mut found);
    assert_eq!(found, [""; 0]);
    lost(&sent, &json!({"a": {"b": [1, {}]}}), "", &mut found);
    assert_eq!(found, [".a.b[1].c: \"x\" became null", ".d: true became null"]);
}

/// As `kubectl apply --server-side`.
async fn apply(cluster: &Cluster, namespace: &str, object: &Value) -> Result<Answer> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]).to_lowercase());
    let plural =
        if kind.ends_with('y') { format!("{}ies", kind.trim_end_matches('y')) } else { format!("{kind}s") };
    let root = if version == "v1" { "/api/v1".into() } else { format!("/apis/{version}") };
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or(namespace);
    let within = if kind == "namespace" { String::new() } else { format!("/namespaces/{namespace}") };
    let name = text(&object["metadata"]["name"]);
    let path = format!("{root}{within}/{plural}/{name}?fieldManager=kubectl&force=true");
    cluster.api().send(Method::PATCH, &path, "application/apply-patch+yaml", Some(object.to_string())).await
}

#[tokio::test]
async fn a_real_server_takes_every_manifest_whole_and_twice() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let namespace = cluster.namespace().await?;
    let mut seen = 0;
    for _ in 0..2 {
        // agent.yaml comes first by its name, as install.yaml says.
        for (name, objects) in manifests()? {
            for object in objects {
                let kept = apply(cluster, &namespace, &object).await?.ok();
                let kept = kept.with_context(|| format!("{name}: {object}"))?;
                let mut found = Vec::new();
                lost(&object, &kept, "", &mut found);
                assert_eq!(found, [""; 0], "{name}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 20, "{seen} objects");
    let mut wrong = installed("Deployment")?;
    wrong["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFileSystem"] =
        json!(true);
    let answer = apply(cluster, &namespace, &wrong).await?;
    let said = answer.body.to_string();
    assert!(
        answer.status >= 400 && said.contains("readOnlyRootFileSystem"),
        "HTTP {}: {said}",
        answer.status
    );
    Ok(())
}

#[test]
fn the_pod_is_fenced_in_and_its_parts_fit_together() -> Result<()> {
    let deployment = installed("Deployment")?;
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let (outer, inner) = (&pod["securityContext"], &container["securityContext"]);
    assert_eq!((&outer["runAsNonRoot"], &outer["runAsUser"]), (&json!(true), &json!(65532)));
    assert_eq!(outer["seccompProfile"]["type"], "RuntimeDefault");
    assert_eq!(inner["allowPrivilegeEscalation"], false);
    assert_eq!(inner["readOnlyRootFilesystem"], true);
    assert_eq!(inner["capabilities"], json!({"drop": ["ALL"]}));
    // One ledger, one agent: never two at once, not even during an update.
    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["spec"]["strategy"]["type"]),
        (&json!(1), &json!("Recreate"))
    );
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&installed("Service")?["spec"]["selector"], labels);
    assert_eq!(&installed("NetworkPolicy")?["spec"]["podSelector"]["matchLabels"], labels);
    let volumes = pod["volumes"].as_array().context("no volumes")?;
    for mount in container["volumeMounts"].as_array().context("no mounts")? {
        assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{mount}");
    }
    let dockerfile = read("docker/Dockerfile")?;
    assert_eq!(
        dockerfile.matches("\nUSER 65532:65532\n").count(),
        2,
        "both images run as the user of the pod"
    );
    Ok(())
}

#[tokio::test]
async fn the_agent_runs_with_the_configuration_of_the_manifest() -> Result<()> {
    let text =
        installed("ConfigMap")?["data"]["turnback.yaml"].as_str().context("no turnback.yaml")?.to_owned();
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let pod = &installed("Deployment")?["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    // Where the pod finds them: the key of a Secret is a file.
    let mount = |name: &str| {
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        let path = mounts.filter(|mount| mount["name"] == name).find_map(|mount| mount["mountPath"].as_str());
        path.with_context(|| format!("no mount {name}"))
    };
    std::fs::write(at("api-token"), "a token for tests, long enough")?;
    assert!(text.contains(&format!("{}/api-token", mount("secrets")?)), "{text}");
    std::fs::write(
        at("turnback.yaml"),
        text.replace(mount("secrets")?, &folder.path().display().to_string()),
    )?;
    let mut arguments = Vec::new();
    for word in container["args"].as_array().context("no arguments")? {
        let word = word.as_str().context("an argument that is no text")?;
        arguments.push(word.replace(mount("configuration")?, &folder.path().display().to_string()));
    }
    let probes = ["startupProbe", "livenessProbe", "readinessProbe"];
    let paths: Vec<&str> =
        probes.iter().filter_map(|probe| container[probe]["httpGet"]["path"].as_str()).collect();
    assert_eq!(paths.len(), probes.len());
    assert!(text.contains(&format!("listen: 0.0.0.0:{}", container["ports"][0]["containerPort"])));
    answers(&arguments, &[("TURNBACK_STATE_DIR", &at("state"))], &paths).await
}
