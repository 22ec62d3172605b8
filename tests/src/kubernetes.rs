//! A real Kubernetes API server with its controllers, and a kubelet that only pretends.
//!
//! etcd, kube-apiserver and kube-controller-manager run as ordinary children on loopback. There are no nodes and no
//! scheduler: the module `kubelet` sets the pods' status, so that rollouts, deadlines and undos behave as in a cluster.
//!
//! Starting takes ten seconds, so there is one cluster for a test binary, [`Cluster::shared`], and every test works in a
//! namespace of its own. Nobody drops a `static`: each server has a watcher beside it that holds the reading end of a pipe
//! of ours and kills it when we are gone, however we went.

pub mod api;
mod audit;
mod kubelet;
mod logs;
mod programs;
mod weather;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::OnceCell;

pub use api::{Answer, Api};
pub use audit::Write;
pub use logs::Node;
pub use weather::{Weather, WeatherProxy};

use crate::process::Process;
use crate::{ports, wait};
use programs::Programs;

/// From start to ready; 6 s on an idle machine, 17 s on a busy one.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Another program may take a port between our asking and the server's binding it.
const ATTEMPTS: usize = 3;

/// Who the servers know, by static token (which is the name): may do everything.
pub const ADMIN: &str = "admin";
/// May do nothing until a test binds a role to it.
pub const AGENT: &str = "turnback";

/// Controllers that make workloads roll out; the rest would only make noise.
const CONTROLLERS: &str = "deployment,replicaset,daemonset,statefulset,garbagecollector,namespace";

/// Runs `$@`, and kills it and removes the folder `$FOLDER` when standard input ends.
const LEASHED: &str = r#"exec 3<&0
( cat <&3 >/dev/null; kill -9 $$; sleep 1; rm -rf "$FOLDER" ) >/dev/null 2>&1 &
exec "$@" </dev/null 3<&-"#;

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    url: String,
    api: Api,
    kubeconfig: PathBuf,
    namespaces: AtomicU32,
    etcd: Mutex<Process>,
    server: Mutex<Process>,
    controllers: Mutex<Process>,
    etcd_url: String,
    port: u16,
    // Removed after the processes, which write into it.
    folder: TempDir,
}

impl Cluster {
    /// The cluster of this test binary, started by whoever asks first.
    ///
    /// # Errors
    /// If a program is missing (the error says how to get it) or does not become ready (the error holds its last words).
    pub async fn shared() -> Result<&'static Cluster> {
        static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
        CLUSTER
            .get_or_try_init(async || {
                let cluster = Cluster::start().await?;
                kubelet::start(&cluster.api)?;
                Ok(cluster)
            })
            .await
    }

    /// A cluster of a test's own, which it may stop and kill, without a kubelet: pods stay as they were made. Ten seconds;
    /// whoever takes one ends it with [`Cluster::end`].
    ///
    /// # Errors
    /// As [`Cluster::shared`].
    pub async fn alone() -> Result<&'static Cluster> {
        Ok(Box::leak(Box::new(Cluster::start().await?)))
    }

    /// Kills all of it and removes what it wrote.
    ///
    /// # Errors
    /// If a process cannot be waited for, or a file cannot be removed.
    pub fn end(&self) -> Result<()> {
        for process in [&self.controllers, &self.server, &self.etcd] {
            process.lock().unwrap_or_else(PoisonError::into_inner).kill()?;
        }
        let folder = self.folder.path();
        std::fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))
    }

    /// Sends a signal to the API server.
    ///
    /// # Errors
    /// If it does not run.
    pub fn signal_server(&self, signal: Signal) -> Result<()> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).signal(signal)
    }

    /// Kills the API server and, after `pause`, starts it again on the same data and at the same address.
    ///
    /// # Errors
    /// If it does not become ready.
    pub async fn restart_server(&self, pause: Duration) -> Result<()> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).kill()?;
        tokio::time::sleep(pause).await;
        let command = Programs::find()?.server(self.folder.path(), &self.etcd_url, self.port)?;
        let server = leashed(&self.folder, "apiserver", command)?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server;
        wait::until("the API server to be ready again", START_LIMIT, async || {
            Ok(self.api.get("/readyz").await.is_ok_and(|answer| answer.status == 200).then_some(()))
        })
        .await
    }

    async fn start() -> Result<Cluster> {
        let programs = Programs::find()?;
        let mut last = anyhow!("no attempt was made");
        for _ in 0..ATTEMPTS {
            match Cluster::attempt(&programs).await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => last = error,
            }
        }
        Err(last.context("starting a Kubernetes API server"))
    }

    async fn attempt(programs: &Programs) -> Result<Cluster> {
        let folder = TempDir::with_prefix("turnback-kubernetes-")?;
        let etcd_url = format!("http://127.0.0.1:{}", ports::free_port()?);
        let etcd = leashed(&folder, "etcd", programs.etcd(folder.path(), &etcd_url)?)?;
        let port = ports::free_port()?;
        let server = leashed(&folder, "apiserver", programs.server(folder.path(), &etcd_url, port)?)?;
        let url = format!("https://127.0.0.1:{port}");
        let certificate = folder.path().join("certificates/apiserver.crt");
        let alive = || {
            for (name, process) in [("etcd", &etcd), ("kube-apiserver", &server)] {
                if process.has_ended()? {
                    bail!("{name} has ended: {}", process.last_words());
                }
            }
            Ok(())
        };
        let ready = async {
            wait::until("the API server's certificate", START_LIMIT, async || {
                alive()?;
                Ok(certificate.exists().then_some(()))
            })
            .await?;
            let api = Api::new(&url, &certificate, ADMIN)?;
            wait::until("the API server to be ready", START_LIMIT, async || {
                alive()?;
                Ok(api.get("/readyz").await.is_ok_and(|answer| answer.status == 200).then_some(()))
            })
            .await?;
            Ok::<Api, anyhow::Error>(api)
        };
        let api =
            ready.await.with_context(|| format!("the last words of the server: {}", server.last_words()))?;
        let kubeconfig = write_kubeconfig(folder.path(), "admin", &url, Some(&certificate), ADMIN)?;
        let controllers = leashed(&folder, "controllers", programs.controllers(folder.path(), &kubeconfig)?)?;
        Ok(Cluster {
            url,
            api,
            kubeconfig,
            namespaces: AtomicU32::new(0),
            etcd: Mutex::new(etcd),
            server: Mutex::new(server),
            controllers: Mutex::new(controllers),
            etcd_url,
            port,
            folder,
        })
    }

    /// The address of the API server, `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The API as the administrator.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The API as somebody else, for example [`AGENT`].
    ///
    /// # Errors
    /// If no client can be made.
    pub fn api_of(&self, user: &str) -> Result<Api> {
        Api::new(&self.url, &self.certificate(), user)
    }

    /// A kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig of `user`, with `url` as the server's address: the cluster's own, or that of something before it
    /// that speaks plain HTTP. `name` tells its file from others.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn kubeconfig_of(&self, name: &str, url: &str, user: &str) -> Result<PathBuf> {
        let certificate = self.certificate();
        let authority = url.starts_with("https:").then_some(certificate.as_path());
        write_kubeconfig(self.folder.path(), name, url, authority, user)
    }

    /// Makes a namespace that no other test uses, and returns its name.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn namespace(&self) -> Result<String> {
        let name = format!("test-{}", self.namespaces.fetch_add(1, Ordering::Relaxed));
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.api.post("/api/v1/namespaces", &object).await?.ok()?;
        Ok(name)
    }

    /// Everything that was written to workloads in `namespace` through the API by `user`, oldest first, from the server's
    /// audit log: what the server did, whatever a client believes. Refused requests are in it, too.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn writes(&self, namespace: &str, user: &str) -> Result<Vec<Write>> {
        audit::writes(&self.folder.path().join("audit.log"), namespace, user)
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificates/apiserver.crt")
    }
}

fn leashed(folder: &TempDir, name: &str, command: Command) -> Result<Process> {
    let mut shell = Command::new("sh");
    shell.args(["-c", LEASHED, "sh"]).arg(command.get_program()).args(command.get_args());
    shell.env("FOLDER", folder.path());
    if cfg!(target_arch = "aarch64") {
        // Debian's etcd refuses to start there otherwise.
        shell.env("ETCD_UNSUPPORTED_ARCH", "arm64");
    }
    Process::start(shell, &folder.path().join(format!("{name}.log")))
}

fn write_kubeconfig(
    folder: &Path,
    name: &str,
    url: &str,
    certificate: Option<&Path>,
    user: &str,
) -> Result<PathBuf> {
    let mut cluster = json!({"server": url});
    if let Some(certificate) = certificate {
        cluster["certificate-authority"] = json!(certificate);
    }
    let text = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {"token": user}}],
    });
    let path = folder.join(format!("kubeconfig-{name}"));
    std::fs::write(&path, text.to_string()).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
