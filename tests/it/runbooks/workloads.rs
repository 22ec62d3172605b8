//! Deployments of a service in a namespace of its own on the real API server.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::kubernetes::Cluster;

/// A namespace with Deployments whose containers are called as they are.
pub struct Workloads {
    pub cluster: &'static Cluster,
    pub namespace: String,
}

impl Workloads {
    pub async fn new() -> Result<Workloads> {
        let cluster = Cluster::shared().await?;
        Ok(Workloads { cluster, namespace: cluster.namespace().await? })
    }

    /// A Deployment of two replicas; `more` is put into the pods' specification.
    pub async fn create(&self, name: &str, image: &str, more: Value) -> Result<()> {
        let mut pod = more;
        pod["containers"] = json!([{ "name": name, "image": image }]);
        let template = json!({ "metadata": { "labels": { "app": name } }, "spec": pod });
        // All new pods at once: a test waits for one second of starting and not for two.
        let strategy = json!({ "rollingUpdate": { "maxSurge": "100%", "maxUnavailable": 0 } });
        let spec = json!({
            "replicas": 2, "strategy": strategy, "selector": { "matchLabels": { "app": name } }, "template": template,
        });
        let object = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name }, "spec": spec });
        self.cluster.api().post(&self.path(""), &object).await?.ok()?;
        Ok(())
    }

    /// What a pipeline does.
    pub async fn set_image(&self, name: &str, image: &str) -> Result<()> {
        self.change(name, json!({ "name": name, "image": image })).await
    }

    /// Changes the one container of a Deployment.
    pub async fn change(&self, name: &str, container: Value) -> Result<()> {
        let change = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
        self.cluster.api().merge(&self.path(name), &change).await?.ok()?;
        Ok(())
    }

    pub async fn get(&self, name: &str) -> Result<Value> {
        self.cluster.api().get(&self.path(name)).await?.ok()
    }

    /// The one container of a Deployment.
    pub async fn container(&self, name: &str) -> Result<Value> {
        Ok(self.get(name).await?["spec"]["template"]["spec"]["containers"][0].clone())
    }

    pub async fn image(&self, name: &str) -> Result<String> {
        let container = self.container(name).await?;
        Ok(container["image"].as_str().context("a container has an image")?.to_owned())
    }

    fn path(&self, name: &str) -> String {
        let slash = if name.is_empty() { "" } else { "/" };
        format!("/apis/apps/v1/namespaces/{}/deployments{slash}{name}", self.namespace)
    }
}
