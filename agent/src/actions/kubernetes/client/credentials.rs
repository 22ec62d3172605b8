//! Clients whose making may never end.
//!
//! A kubeconfig may name a plug-in that fetches credentials, and the client runs it and waits for its end without any
//! limit: one that asks an address that never answers takes its thread with it. So each attempt has a thread of its own
//! and none of those that the ledger needs, and of one cluster only one attempt is ever under way, whoever asks. While
//! it does not end, everybody else waits for their turn, and is told what they waited for.
//!
//! A token that expires while a client is in use is fetched anew by the client itself, in the runtime's own blocking
//! threads, and that cannot be held to one at a time from out here. Every request that is given up then leaves a plug-in
//! behind; the source gives its connection up after a few of those, and the next connection has to come through here.

use kube::config::Config;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

/// A kubeconfig and a context within it, as the configuration has them. There are as many as are configured.
type Place = (Option<String>, Option<String>);

static PLACES: Mutex<BTreeMap<Place, Arc<Making>>> = Mutex::new(BTreeMap::new());

/// No client came of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoClient {
    /// It may still come.
    #[error("{0}")]
    Late(String),
    /// What the kubeconfig says makes no client.
    #[error("the client cannot be made")]
    Bad(#[source] Box<kube::Error>),
    /// The attempt could not begin, or died.
    #[error("the attempt to make a client failed: {0}")]
    Died(String),
}

/// The attempts at one place.
#[derive(Debug)]
struct Making {
    turn: Arc<Semaphore>,
    /// When the one that is under way began.
    began: Mutex<Option<Instant>>,
}

/// An attempt under way; over when this is dropped.
struct Attempt {
    making: Arc<Making>,
    _turn: OwnedSemaphorePermit,
}

impl Making {
    fn began(&self) -> MutexGuard<'_, Option<Instant>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        *self.making.began() = None;
    }
}

/// Makes the client of a cluster that is reached by this kubeconfig and context, if no other attempt at it is under way
/// by then. Errors: no client came of it until `deadline`, or never will.
pub(crate) async fn client(
    kubeconfig: Option<&str>,
    context: Option<&str>,
    config: Config,
    deadline: Instant,
) -> Result<kube::Client, NoClient> {
    let place = (kubeconfig.map(str::to_owned), context.map(str::to_owned));
    let plug_in = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
    let making = {
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Making { turn: Arc::new(Semaphore::new(1)), began: Mutex::new(None) };
        places.entry(place.clone()).or_insert_with(|| Arc::new(new())).clone()
    };
    match timeout_at(deadline, attempt(making.clone(), config)).await {
        Ok(made) => made,
        Err(_too_long) => Err(NoClient::Late(late(&place, plug_in.as_deref(), *making.began()))),
    }
}

async fn attempt(making: Arc<Making>, config: Config) -> Result<kube::Client, NoClient> {
    let turn = making.turn.clone().acquire_owned().await;
    let turn = turn.map_err(|closed| NoClient::Died(closed.to_string()))?;
    *making.began() = Some(Instant::now());
    let under_way = Attempt { making, _turn: turn };
    let (sender, made) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::Builder::new().name("credentials".into());
    let begun = thread.spawn(move || {
        // The client begins a task.
        let _inside = runtime.enter();
        let made = kube::Client::try_from(config);
        drop(under_way);
        // Whoever wanted it may have given up.
        let _gone = sender.send(made);
    });
    begun.map_err(|error| NoClient::Died(error.to_string()))?;
    let made = made.await.map_err(|_| NoClient::Died("it panicked".into()))?;
    made.map_err(|error| NoClient::Bad(Box::new(error)))
}

fn late((kubeconfig, context): &Place, plug_in: Option<&str>, began: Option<Instant>) -> String {
    let whose = match (context, kubeconfig) {
        (Some(context), _) => format!("context {context}"),
        (None, Some(path)) => format!("the current context of {path}"),
        (None, None) => "the current context".into(),
    };
    let what = match plug_in {
        Some(command) => format!("the credentials plug-in {command:?} of {whose}"),
        None => format!("whatever brings the credentials of {whose}"),
    };
    match began {
        Some(began) => format!(
            "{what} has not answered for {} s; it is not begun again before it ends",
            began.elapsed().as_secs()
        ),
        None => format!("{what} has not answered in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::kubernetes::reach;
    use std::time::Duration;

    /// A plug-in that writes a line and then waits for as long as the file `hold` is there.
    const PLUG_IN: &str = r#"
echo begun >> "$0/begun"
while [ -e "$0/hold" ]; do sleep 0.05; done
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t"}}'
"#;

    #[tokio::test]
    async fn a_plug_in_that_hangs_is_begun_once_and_named() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (path, hold) = (folder.path().join("kubeconfig"), folder.path().join("hold"));
        let exec = serde_json::json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh",
            "args": ["-c", PLUG_IN, folder.path()], "interactiveMode": "Never"});
        let kubeconfig = serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": "shop",
            "clusters": [{"name": "shop", "cluster": {"server": "http://127.0.0.1:1"}}],
            "users": [{"name": "shop", "user": {"exec": exec}}],
            "contexts": [{"name": "shop", "context": {"cluster": "shop", "user": "shop"}}]});
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        std::fs::write(&hold, "").unwrap();
        let path = path.to_str().unwrap();
        let attempt = async |within: Duration| {
            let config = reach(Some(path), Some("shop")).await.unwrap();
            client(Some(path), Some("shop"), config, Instant::now() + within).await
        };
        let begun = || std::fs::read_to_string(folder.path().join("begun")).unwrap().lines().count();
        for _ in 0..3 {
            let words = attempt(Duration::from_millis(700)).await.err().unwrap().to_string();
            assert!(words.contains("plug-in \"sh\" of context shop has not answered for"), "{words}");
        }
        let words = attempt(Duration::from_millis(100)).await.err().unwrap().to_string();
        assert!(words.contains("for 2 s"), "since it began: {words}");
        assert_eq!(begun(), 1);
        // It ends at last, and the next one has its turn.
        std::fs::remove_file(hold).unwrap();
        attempt(Duration::from_secs(20)).await.unwrap();
        // The client asks it several times while it is made, one after the other.
        assert!(begun() > 1);
    }
}
