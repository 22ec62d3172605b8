//! `kubernetes`: a Deployment without pods on a real API server, whose audit log counts the writes.

use super::family::{Family, Row, Rule, Seen};
use crate::kubernetes::stage::{Stage, deployment, image};
use anyhow::Result;
use rules::action::EffectClass;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use tests::fault_proxy::{Fault, FaultProxy};
use tests::gate::{Gate, NetGate};
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(60);
const HOTFIX: &str = "shop/checkout:hotfix";

pub struct Kubernetes {
    stage: Stage,
    proxy: FaultProxy,
    gate: Gate,
    kubeconfig: PathBuf,
}

impl Kubernetes {
    fn set_image(&self, image: &str, more: &str) -> String {
        format!(
            "kubernetes: {{ namespace: {}, kind: deployment, name: web, kubeconfig: '{}', \
             operation: {{ set_image: {{ container: app, image: '{image}'{more} }} }} }}",
            self.stage.namespace,
            self.kubeconfig.display()
        )
    }
}

impl Family for Kubernetes {
    const ROW: Row = Row {
        name: "kubernetes",
        class: EffectClass::CompareAndSet,
        undo: Rule::Kept,
        late: Rule::Kept,
        third_party: Rule::Kept,
        effect: b"PATCH /apis/",
        between: b"PATCH /apis/",
    };

    async fn set_up() -> Result<Kubernetes> {
        let mut stage = Stage::new().await?;
        // Without pods nobody writes its status: what moves is what the tests move.
        let mut object = deployment("web", "shop/checkout:bad");
        object["spec"]["replicas"] = json!(0);
        stage.create("deployments", &object).await?;
        wait::until("the controller to have seen the Deployment", PATIENCE, async || {
            let object = stage.get("deployments", "web").await?;
            Ok((object["status"]["observedGeneration"] == 1).then_some(()))
        })
        .await?;
        stage.settled("web").await?;
        // The proxy turns the server's TLS into plain words that a gate can read.
        let proxy = stage.through_proxy().await?;
        let port = proxy.url().rsplit(':').next().unwrap_or_default().parse()?;
        let gate = NetGate::start(port).await?;
        let url = format!("http://127.0.0.1:{}", gate.port());
        let name = format!("{}-gate", stage.namespace);
        let kubeconfig = stage.cluster.kubeconfig_of(&name, &url, &stage.token)?;
        Ok(Kubernetes { stage, proxy, gate: Gate::Net(gate), kubeconfig })
    }

    fn action(&self) -> String {
        self.set_image("shop/checkout:v1", ", only_from: { app: 'shop/checkout:bad' }")
    }

    fn undo(&self) -> Option<String> {
        Some(self.set_image("shop/checkout:bad", ""))
    }

    fn gate(&self) -> &Gate {
        &self.gate
    }

    async fn seen(&self) -> Result<Seen> {
        // The step writes once and its undo once, in this order; whatever is above that is one too many.
        let writes = self.stage.written();
        Ok(Seen { applied: writes.min(1), undone: writes.saturating_sub(1) })
    }

    async fn refuse(&self, refuse: bool) -> Result<()> {
        if refuse {
            self.proxy.inject("PATCH", Fault::Answer(429, vec![("retry-after", "1")], "busy"));
        }
        Ok(())
    }

    async fn refused(&self) -> Result<usize> {
        Ok(self.proxy.injected().len())
    }

    async fn meddle(&self) -> Result<()> {
        self.stage.deploy("deployments", "web", HOTFIX).await.map(drop)
    }

    async fn meddled(&self) -> Result<bool> {
        Ok(image(&self.stage.get("deployments", "web").await?) == HOTFIX)
    }
}
