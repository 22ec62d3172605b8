//! Where the servers are, and how they are called.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{ADMIN, AGENT, CONTROLLERS};
use crate::{ports, tools};

/// What the setup builds, built in: the version stands in one place.
const SETUP: &str = include_str!("../../../deploy/setup/kubernetes.sh");

/// The programs of one version.
pub struct Programs {
    etcd: PathBuf,
    server: PathBuf,
    controllers: PathBuf,
}

impl Programs {
    /// In `KUBEBUILDER_ASSETS` if all of them are there, otherwise what the setup brought.
    pub fn find() -> Result<Programs> {
        if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS") {
            let programs = Programs::within(Path::new(&assets), Path::new(&assets).join("etcd"));
            if programs.missing().is_none() {
                return Ok(programs);
            }
        }
        let value = |name: &str| {
            let line = SETUP.lines().find_map(|line| line.strip_prefix(name));
            line.with_context(|| format!("deploy/setup/kubernetes.sh has no line `{name}`"))
        };
        let (version, build) = (value("version=")?, value("build=")?);
        let programs = Programs::within(
            &tools::folder()?.join(format!("kubernetes-{version}-{build}/bin")),
            PathBuf::from("/usr/bin/etcd"),
        );
        let missing = programs.missing().map(Path::to_owned);
        ensure!(
            missing.is_none(),
            "{} is missing: `make setup-test` brings it, or name a folder with etcd, kube-apiserver and \
             kube-controller-manager in KUBEBUILDER_ASSETS",
            missing.unwrap_or_default().display()
        );
        Ok(programs)
    }

    fn within(folder: &Path, etcd: PathBuf) -> Programs {
        let server = folder.join("kube-apiserver");
        Programs { etcd, server, controllers: folder.join("kube-controller-manager") }
    }

    fn missing(&self) -> Option<&Path> {
        [&self.etcd, &self.server, &self.controllers]
            .into_iter()
            .find(|path| !path.is_file())
            .map(PathBuf::as_path)
    }

    /// etcd on `url`, with its data in `folder`.
    pub fn etcd(&self, folder: &Path, url: &str) -> Result<Command> {
        let peers = format!("http://127.0.0.1:{}", ports::free_port()?);
        let mut command = Command::new(&self.etcd);
        command.arg("--data-dir").arg(folder.join("etcd"));
        command.args(["--listen-client-urls", url, "--advertise-client-urls", url]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}")]);
        // Nothing here has to outlive the machine, and on a disk that takes a tenth of a second to sync, the API server
        // would give up waiting for its store. What was written still outlives the process.
        command.arg("--unsafe-no-fsync");
        Ok(command)
    }

    /// The API server on `port`. It makes its own certificate in `folder/certificates` and writes an audit log.
    pub fn server(&self, folder: &Path, etcd: &str, port: u16) -> Result<Command> {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            Ok::<PathBuf, anyhow::Error>(path)
        };
        let tokens = format!("{ADMIN},{ADMIN},1,\"system:masters\"\n{AGENT},{AGENT},2\n");
        let tokens = write("tokens.csv", &tokens)?;
        let policy = write("audit-policy.json", &audit_policy().to_string())?;
        let key = service_account_key(folder)?;
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut command = Command::new(&self.server);
        command.args([
            format!("--etcd-servers={etcd}"),
            format!("--secure-port={port}"),
            option("cert-dir", &folder.join("certificates")),
            option("token-auth-file", &tokens),
            option("audit-policy-file", &policy),
            option("audit-log-path", &folder.join("audit.log")),
            option("service-account-key-file", &key),
            option("service-account-signing-key-file", &key),
        ]);
        command.args([
            "--bind-address=127.0.0.1",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24",
            // A pod needs no service account here, and nobody makes them.
            "--disable-admission-plugins=ServiceAccount",
            // It would complain that loopback is no address for others.
            "--endpoint-reconciler-type=none",
            // A test reads the log right after the request.
            "--audit-log-mode=blocking-strict",
        ]);
        Ok(command)
    }

    /// The controllers that make workloads roll out.
    pub fn controllers(&self, folder: &Path, kubeconfig: &Path) -> Result<Command> {
        let mut command = Command::new(&self.controllers);
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        command.arg(format!("--cert-dir={}", folder.join("controllers").display()));
        command.arg(format!("--secure-port={}", ports::free_port()?));
        command.arg(format!("--controllers={CONTROLLERS}"));
        command.args(["--bind-address=127.0.0.1", "--port=0", "--leader-elect=false"]);
        // By default they spare the server so much that tests beside each other wait for them.
        command.args(["--kube-api-qps=200", "--kube-api-burst=400"]);
        Ok(command)
    }
}

/// Every write to a workload, with what it said.
fn audit_policy() -> serde_json::Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "Request",
                "verbs": ["create", "update", "patch", "delete", "deletecollection"],
                "resources": [
                    {"group": "apps", "resources": ["deployments", "deployments/scale", "statefulsets", "daemonsets"]},
                ],
            },
            {"level": "None"},
        ],
    })
}

/// The server does not start without one. `openssl` comes with the certificates of the system. A server that is started
/// again keeps its own, or it would not know the tokens that it gave.
fn service_account_key(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("service-account.key");
    if path.exists() {
        return Ok(path);
    }
    let output = Command::new("openssl")
        .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
        .arg(&path)
        .output()
        .context("making a key with openssl (Debian: apt-get install openssl)")?;
    ensure!(output.status.success(), "openssl made no key: {}", String::from_utf8_lossy(&output.stderr));
    Ok(path)
}
