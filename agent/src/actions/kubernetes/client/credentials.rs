//! Clients whose making may never end.
//!
//! A kubeconfig may name a plug-in that fetches credentials, and the client runs it and waits for its end without any
//! limit: one that asks an address that never answers takes its thread with it. So each attempt has a thread of its own
//! and none of those that the ledger needs, and of one cluster one attempt is under way at a time, whoever asks; everybody
//! else waits for their turn, and is told what they waited for. One that is stuck for good (its connection has died
//! without a word, say) must not keep the cluster out of reach until a restart, so after a while another is begun beside
//! it; those that never end are few all the same.
//!
//! A token that expires while a client is in use is fetched anew by the client itself, in the runtime's own blocking
//! threads, and that cannot be held to a few from out here. Every request that is given up then leaves a plug-in
//! behind; the source gives its connection up after a few of those, and the next connection has to come through here.

use kube::config::Config;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout_at};

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

/// How many attempts may be under way at one place, and when one may be begun beside others.
#[derive(Debug, Clone, Copy)]
struct Limits {
    most: usize,
    /// The youngest that has not ended must be this old.
    beside_after: Duration,
}

/// A plug-in in good health needs seconds; one that has taken a minute is not waited for any more. Each that never ends
/// costs a thread and a process, so there are four and no more.
const LIMITS: Limits = Limits { most: 4, beside_after: Duration::from_secs(60) };

/// The attempts at one place.
#[derive(Debug, Default)]
struct Making {
    under_way: Mutex<UnderWay>,
    /// One of them has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct UnderWay {
    next: u64,
    /// When each began, the oldest first.
    began: BTreeMap<u64, Instant>,
}

/// An attempt under way; over when this is dropped.
struct Attempt {
    making: Arc<Making>,
    number: u64,
}

impl Making {
    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an attempt. Errors: when one may be begun if none ends before; `None` if one has to end.
    fn begin(self: &Arc<Self>, limits: Limits) -> Result<Attempt, Option<Instant>> {
        let mut under_way = self.under_way();
        let now = Instant::now();
        if let Some((_, youngest)) = under_way.began.last_key_value() {
            let beside = *youngest + limits.beside_after;
            if under_way.began.len() >= limits.most {
                return Err(None);
            }
            if now < beside {
                return Err(Some(beside));
            }
        }
        let number = under_way.next;
        under_way.next += 1;
        under_way.began.insert(number, now);
        Ok(Attempt { making: self.clone(), number })
    }

    /// Begins an attempt when it may be.
    async fn turn(self: &Arc<Self>, limits: Limits) -> Attempt {
        loop {
            let mut ended = pin!(self.ended.notified());
            // One that ends between the question and the wait is not missed.
            ended.as_mut().enable();
            match self.begin(limits) {
                Ok(attempt) => return attempt,
                Err(None) => ended.await,
                Err(Some(beside)) => tokio::select! {
                    () = ended => {}
                    () = sleep_until(beside) => {}
                },
            }
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.making.under_way().began.remove(&self.number);
        self.making.ended.notify_waiters();
    }
}

/// Makes the client of a cluster that is reached by this kubeconfig and context, if no other attempt at it is in the way
/// by then. Errors: no client came of it until `deadline`, or never will.
pub(crate) async fn client(
    kubeconfig: Option<&str>,
    context: Option<&str>,
    config: Config,
    deadline: Instant,
) -> Result<kube::Client, NoClient> {
    client_of(LIMITS, kubeconfig, context, config, deadline).await
}

async fn client_of(
    limits: Limits,
    kubeconfig: Option<&str>,
    context: Option<&str>,
    config: Config,
    deadline: Instant,
) -> Result<kube::Client, NoClient> {
    let place = (kubeconfig.map(str::to_owned), context.map(str::to_owned));
    let plug_in = config.auth_info.exec.as_ref().and_then(|exec| exec.command.clone());
    let making = {
        let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
        places.entry(place.clone()).or_default().clone()
    };
    match timeout_at(deadline, attempt(limits, making.clone(), config)).await {
        Ok(made) => made,
        Err(_too_long) => {
            Err(NoClient::Late(late(limits, &place, plug_in.as_deref(), &making.under_way().began)))
        }
    }
}

async fn attempt(limits: Limits, making: Arc<Making>, config: Config) -> Result<kube::Client, NoClient> {
    let under_way = making.turn(limits).await;
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

fn late(
    limits: Limits,
    (kubeconfig, context): &Place,
    plug_in: Option<&str>,
    began: &BTreeMap<u64, Instant>,
) -> String {
    let whose = match (context, kubeconfig) {
        (Some(context), _) => format!("context {context}"),
        (None, Some(path)) => format!("the current context of {path}"),
        (None, None) => "the current context".into(),
    };
    let what = match plug_in {
        Some(command) => format!("the credentials plug-in {command:?} of {whose}"),
        None => format!("whatever brings the credentials of {whose}"),
    };
    let Some(oldest) = began.values().next() else { return format!("{what} has not answered in time") };
    let (seconds, beside) = (oldest.elapsed().as_secs(), limits.beside_after);
    let next = match began.len() {
        1 => format!("another attempt is begun when it ends, or after {beside:?}"),
        count if count < limits.most => format!(
            "{count} attempts have not ended; another one is begun when they do, or {beside:?} after the last one"
        ),
        count => {
            format!("{count} attempts have not ended, and none is begun before one of them does: end one")
        }
    };
    format!("{what} has not answered for {seconds} s; {next}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::kubernetes::reach;
    use std::path::Path;

    /// A plug-in that writes a line and then waits for as long as the file `hold` is there.
    const PLUG_IN: &str = r#"
echo begun >> "$0/begun"
while [ -e "$0/hold" ]; do sleep 0.05; done
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t"}}'
"#;

    /// The same, and only its first run waits.
    const WAITS_ONCE: &str = r#"
echo begun >> "$0/begun"
if mkdir "$0/first" 2>/dev/null; then while [ -e "$0/hold" ]; do sleep 0.05; done; fi
echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t"}}'
"#;

    /// A kubeconfig in `folder` with this plug-in, and beside it the file `hold`.
    fn prepare(folder: &Path, plug_in: &str) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exec = serde_json::json!({"apiVersion": "client.authentication.k8s.io/v1", "command": "sh",
            "args": ["-c", plug_in, folder], "interactiveMode": "Never"});
        let kubeconfig = serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": "shop",
            "clusters": [{"name": "shop", "cluster": {"server": "http://127.0.0.1:1"}}],
            "users": [{"name": "shop", "user": {"exec": exec}}],
            "contexts": [{"name": "shop", "context": {"cluster": "shop", "user": "shop"}}]});
        let path = folder.join("kubeconfig");
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        std::fs::write(folder.join("hold"), "").unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn attempt(limits: Limits, path: &str, within: Duration) -> Result<kube::Client, NoClient> {
        let config = reach(Some(path), Some("shop")).await.unwrap();
        client_of(limits, Some(path), Some("shop"), config, Instant::now() + within).await
    }

    fn begun(folder: &Path) -> usize {
        std::fs::read_to_string(folder.join("begun")).unwrap_or_default().lines().count()
    }

    #[tokio::test]
    async fn a_plug_in_that_hangs_is_begun_once_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = prepare(folder.path(), PLUG_IN);
        for _ in 0..3 {
            let words = attempt(LIMITS, &path, Duration::from_millis(700)).await.err().unwrap().to_string();
            assert!(words.contains("plug-in \"sh\" of context shop has not answered for"), "{words}");
        }
        let words = attempt(LIMITS, &path, Duration::from_millis(100)).await.err().unwrap().to_string();
        assert!(words.contains("for 2 s; another attempt is begun when it ends, or after 60s"), "{words}");
        assert_eq!(begun(folder.path()), 1);
        // It ends at last, and the next one has its turn.
        std::fs::remove_file(folder.path().join("hold")).unwrap();
        attempt(LIMITS, &path, Duration::from_secs(20)).await.unwrap();
        // The client asks it several times while it is made, one after the other.
        assert!(begun(folder.path()) > 1);
    }

    #[tokio::test]
    async fn one_that_never_ends_does_not_keep_the_cluster_out_of_reach() {
        let folder = tempfile::tempdir().unwrap();
        let path = prepare(folder.path(), WAITS_ONCE);
        let limits = Limits { most: 4, beside_after: Duration::from_secs(1) };
        let began = Instant::now();
        assert!(matches!(attempt(limits, &path, Duration::from_millis(500)).await, Err(NoClient::Late(_))));
        attempt(limits, &path, Duration::from_secs(30)).await.unwrap();
        assert!(began.elapsed() >= limits.beside_after, "not before the first one was old enough");
        // Whoever comes next has not to wait, since only the one that hangs is under way.
        attempt(limits, &path, Duration::from_secs(30)).await.unwrap();
        std::fs::remove_file(folder.path().join("hold")).unwrap();
    }

    #[tokio::test]
    async fn those_that_never_end_are_few_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = prepare(folder.path(), PLUG_IN);
        let limits = Limits { most: 2, beside_after: Duration::from_millis(200) };
        let mut words = String::new();
        for _ in 0..6 {
            words = attempt(limits, &path, Duration::from_millis(400)).await.err().unwrap().to_string();
        }
        assert!(words.contains("2 attempts have not ended, and none is begun before"), "{words}");
        assert_eq!(begun(folder.path()), 2);
        std::fs::remove_file(folder.path().join("hold")).unwrap();
        attempt(limits, &path, Duration::from_secs(20)).await.unwrap();
    }
}
