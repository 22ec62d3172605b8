//! A namespace with the shipped permissions, a human who deploys, and the agent's way of taking a step.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent::actions::{Direction, rehearse_step, run_step};
use agent::secrets::Secrets;
use anyhow::{Context, Result};
use rules::action::{EffectClass, Reversibility, StepOutcome, Undo};
use rules::ids::{PlanId, StepName};
use rules::plan::Step;
use rules::rehearsal::Tried;
use rules::units::Span;
use serde_json::{Value, json};
use tests::fault_proxy::FaultProxy;
use tests::kubernetes::{Api, Cluster};
pub use tests::steps::kind;
use tests::wait;
use tokio::sync::watch;

/// Whom the manifests make.
pub const AGENT: &str = "system:serviceaccount:turnback:turnback";
/// For two pods to come and two to go.
pub const ROLLOUT_LIMIT: Duration = Duration::from_secs(40);

pub struct Stage {
    pub cluster: &'static Cluster,
    pub namespace: String,
    /// The human's.
    pub api: Api,
    /// The agent's bearer token.
    pub token: String,
    /// The agent's.
    pub kubeconfig: PathBuf,
    pub switch: watch::Sender<bool>,
}

impl Stage {
    /// A namespace in which the agent may do what the manifests say.
    pub async fn new() -> Result<Stage> {
        let stage = Stage::without_permissions().await?;
        stage.apply(include_str!("../../../deploy/kubernetes/namespace.yaml")).await?;
        Ok(stage)
    }

    pub async fn without_permissions() -> Result<Stage> {
        Stage::on(Cluster::shared().await?).await
    }

    /// As [`Stage::without_permissions`], on this cluster.
    pub async fn on(cluster: &'static Cluster) -> Result<Stage> {
        let api = cluster.api().clone();
        let namespace = cluster.namespace().await?;
        let (switch, _) = watch::channel(false);
        let mut stage =
            Stage { cluster, namespace, api, token: String::new(), kubeconfig: PathBuf::new(), switch };
        stage.apply(include_str!("../../../deploy/kubernetes/agent.yaml")).await?;
        let wanted = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600},
        });
        let path = "/api/v1/namespaces/turnback/serviceaccounts/turnback/token";
        let token = stage.api.post(path, &wanted).await?.ok()?;
        stage.token = token["status"]["token"].as_str().context("the server gave no token")?.to_owned();
        stage.kubeconfig = cluster.kubeconfig_of(&stage.namespace, cluster.url(), &stage.token)?;
        Ok(stage)
    }

    /// Applies a manifest as `kubectl apply -n NAMESPACE` would; what exists already stays.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        for document in manifest.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).context("reading a manifest")?;
            let kind = object["kind"].as_str().context("a manifest without kind")?.to_lowercase() + "s";
            let version = object["apiVersion"].as_str().context("a manifest without apiVersion")?;
            let root = if version == "v1" { "/api/v1".into() } else { format!("/apis/{version}") };
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&self.namespace);
            let path = match kind.as_str() {
                "namespaces" | "clusterroles" | "clusterrolebindings" => format!("{root}/{kind}"),
                _ => format!("{root}/namespaces/{namespace}/{kind}"),
            };
            let answer = self.api.post(&path, &object).await?;
            if answer.status != 409 {
                answer.ok().with_context(|| path)?;
            }
        }
        Ok(())
    }

    /// Sends the agent's requests through a proxy from now on.
    pub async fn through_proxy(&mut self) -> Result<FaultProxy> {
        let proxy = FaultProxy::start(self.cluster.url(), self.api.client().clone()).await?;
        let name = format!("{}-proxy", self.namespace);
        self.kubeconfig = self.cluster.kubeconfig_of(&name, proxy.url(), &self.token)?;
        Ok(proxy)
    }

    pub fn path(&self, kind: &str) -> String {
        format!("/apis/apps/v1/namespaces/{}/{kind}", self.namespace)
    }

    pub async fn create(&self, kind: &str, object: &Value) -> Result<Value> {
        self.api.post(&self.path(kind), object).await?.ok()
    }

    pub async fn get(&self, kind: &str, name: &str) -> Result<Value> {
        self.api.get(&format!("{}/{name}", self.path(kind))).await?.ok()
    }

    /// A human's deployment of another image.
    pub async fn deploy(&self, kind: &str, name: &str, image: &str) -> Result<Value> {
        deploy(&self.api, &format!("{}/{name}", self.path(kind)), image).await
    }

    /// Waits until a Deployment runs nothing but what it should.
    pub async fn rolled_out(&self, name: &str) -> Result<()> {
        wait::until(&format!("the rollout of {name}"), ROLLOUT_LIMIT, async || {
            let object = self.get("deployments", name).await?;
            let (status, replicas) = (&object["status"], &object["spec"]["replicas"]);
            let caught_up = status["observedGeneration"] == object["metadata"]["generation"];
            let all =
                ["replicas", "updatedReplicas", "availableReplicas"].map(|key| status[key] == *replicas);
            Ok((caught_up && all == [true; 3]).then_some(()))
        })
        .await
    }

    /// Waits until nobody has written the status of a Deployment for a second.
    pub async fn settled(&self, name: &str) -> Result<()> {
        let mut last = (String::new(), Instant::now());
        wait::until(&format!("{name} to settle"), ROLLOUT_LIMIT, async || {
            let object = self.get("deployments", name).await?;
            let version = object["metadata"]["resourceVersion"].to_string();
            if version != last.0 {
                last = (version, Instant::now());
            }
            Ok((last.1.elapsed() > Duration::from_secs(1)).then_some(()))
        })
        .await
    }

    /// A Deployment with two replicas of version v1, rolled out.
    pub async fn good(&self, name: &str) -> Result<()> {
        self.create("deployments", &deployment(name, "shop/checkout:v1")).await?;
        self.rolled_out(name).await
    }

    /// A step on a Deployment.
    pub fn step(&self, name: &str, operation: Value) -> Step {
        self.step_on("deployment", name, operation, &[])
    }

    pub fn step_on(&self, kind: &str, name: &str, operation: Value, despite: &[&str]) -> Step {
        let action = json!({"kubernetes": {
            "namespace": self.namespace, "kind": kind, "name": name, "kubeconfig": self.kubeconfig,
            "despite_owner": despite, "operation": operation,
        }});
        Step {
            name: StepName::new("turn").expect("a plain word is a name"),
            from: None,
            undoes: Default::default(),
            asks: false,
            action: serde_json::from_value(action).expect("the action is one of the family"),
            class: EffectClass::CompareAndSet,
            inspect: None,
            verify: None,
            undo: Undo::Impossible,
            timeout: Span::from_seconds(60),
            reversibility: Reversibility::Reversible,
            key: format!("key-{}-{name}-{}", self.namespace, operation.to_string().len()),
        }
    }

    pub async fn run(&self, step: &Step) -> StepOutcome {
        self.take(step, false).await
    }

    /// A dry run.
    pub async fn rehearse(&self, step: &Step) -> Tried {
        let plan = PlanId::new("p-1").expect("a plain word is a name");
        let secrets = Secrets::from_variables(BTreeMap::new());
        rehearse_step(&plan, step, self.switch.subscribe(), &secrets).await
    }

    /// As after an attempt with an unknown outcome.
    pub async fn recover(&self, step: &Step) -> StepOutcome {
        self.take(step, true).await
    }

    async fn take(&self, step: &Step, recovering: bool) -> StepOutcome {
        let plan = PlanId::new("p-1").expect("a plain word is a name");
        let secrets = Secrets::from_variables(BTreeMap::new());
        run_step(&plan, step, Direction::Apply, recovering, self.switch.subscribe(), &secrets).await
    }

    /// How many writes of the agent took place here, by the server's own record.
    pub fn written(&self) -> usize {
        self.answered().iter().filter(|status| (200..300).contains(*status)).count()
    }

    /// Status codes of every write that the agent asked for here, oldest first, by the server's own record.
    pub fn answered(&self) -> Vec<u64> {
        let writes = self.cluster.writes(&self.namespace, AGENT).expect("the server keeps an audit log");
        writes.iter().map(|write| write.status).collect()
    }
}

pub async fn deploy(api: &Api, path: &str, image: &str) -> Result<Value> {
    let template = json!({"spec": {"containers": [{"name": "app", "image": image}]}});
    api.merge(&format!("{path}?fieldManager=petra"), &json!({"spec": {"template": template}})).await?.ok()
}

pub fn deployment(name: &str, image: &str) -> Value {
    // All new pods at once: a test waits for one second of starting and not for two.
    let strategy = json!({"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}});
    workload(
        "Deployment",
        name,
        image,
        json!({"replicas": 2, "progressDeadlineSeconds": 600, "strategy": strategy}),
    )
}

pub fn workload(kind: &str, name: &str, image: &str, more: Value) -> Value {
    let mut spec = more;
    spec["selector"] = json!({"matchLabels": {"app": name}});
    spec["template"] = json!({
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "app", "image": image}]},
    });
    json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

pub fn image(object: &Value) -> &str {
    object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

/// That it certainly failed for good, and said each of `words`.
#[track_caller]
pub fn assert_refused(outcome: &StepOutcome, words: &[&str]) {
    assert_eq!(kind(outcome), "failed, permanent", "{outcome:?}");
    let StepOutcome::Failed { reason, .. } = outcome else { unreachable!("its kind is that of a failure") };
    for word in words {
        assert!(reason.contains(word), "{word:?} is missing in {reason:?}");
    }
}
