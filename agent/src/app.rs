//! The agent as a whole: [`build`] makes everything and starts nothing, [`App::run`] starts, supervises and joins
//! everything. Every long-lived task has its parent here, and its death is noticed: when a vital one ends (dispatcher,
//! API) the process ends; a source that fails is degraded operation, shown by `/readyz`.

mod assemble;
mod listeners;
mod token;

pub(crate) use token::read_or_make as read_or_make_token;

use crate::api::{self, Access, Shared};
use crate::clock;
use crate::collector::Collector;
use crate::deployment_log::{DeploymentLog, DeploymentLogConfig};
use crate::dispatcher::{DispatchError, Dispatcher, MOST_WAITING, Message, Parts, Rules};
use crate::events::EventSourceKeys;
use crate::events::listener::Listener;
use crate::executor::Executor;
use crate::heartbeat::Heartbeat;
use crate::inlet::{Board, Inlet, Watchman};
use crate::ledger::Ledger;
use crate::notify::{Delivery, Notifiers};
use crate::secrets::Secrets;
use crate::signals::SignalSource;
use crate::signals::probe::ProbeSource;
use crate::signals::pushed::PushedSource;
use crate::signals::scrape::ScrapeSource;
use crate::telemetry::Metrics;
use anyhow::Context as _;
use rules::fleet::{Fleet, Freeze};
use rules::ids::SourceName;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use assemble::{CannotStart, Options, ledger_file, run, settings};
pub(crate) use assemble::{Sources, signal_sources};

/// The ledger's file in the state directory.
pub const LEDGER_FILE: &str = "ledger.db";
/// If this file exists in the state directory, the kill switch is pulled.
pub const STOP_FILE: &str = "STOP";
/// The API's token in the state directory, if none is configured.
pub const TOKEN_FILE: &str = "token";

/// How long a step that runs is given to end when the agent is asked to end. What is cut off then is settled by its
/// class at the next start.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long it is given after it was told to: a process group that is killed, and a commit.
const LAST_FAREWELL: Duration = Duration::from_secs(5);

type Thinking = tokio::task::JoinHandle<Result<(), DispatchError>>;

/// Everything an agent is made of, resolved: no references to secrets, files or the environment any more.
pub struct Settings {
    /// Where the ledger is.
    pub state_dir: PathBuf,
    /// Where the API listens.
    pub listen: SocketAddr,
    /// What people show to act.
    pub token: String,
    /// Who may tell news.
    pub event_sources: EventSourceKeys,
    /// Sources that fetch news by themselves.
    pub listeners: Vec<Box<dyn Listener>>,
    /// Who can be asked for signals.
    pub signal_sources: BTreeMap<String, Arc<dyn SignalSource>>,
    /// Those of them that sample by themselves.
    pub samplers: Vec<Sampler>,
    /// Those of them that samples are pushed to.
    pub pushed: BTreeMap<String, Arc<PushedSource>>,
    /// Who is told.
    pub notifiers: (Notifiers, Delivery),
    /// The rules of each service.
    pub rules: Rules,
    /// Who listens for our sign of life.
    pub heartbeat: Option<Heartbeat>,
    /// Freezes of the configuration.
    pub freezes: Vec<Freeze>,
    /// The sources of events that look at what runs.
    pub observers: BTreeSet<SourceName>,
    /// Where every action is documented, if anywhere.
    pub deployment_log: Option<DeploymentLogConfig>,
    /// Resolves secrets of actions.
    pub secrets: Arc<Secrets>,
}

/// A signal source that samples by itself, in its own rhythm.
pub enum Sampler {
    /// Reads `/metrics` of services.
    Scrape(Arc<ScrapeSource>),
    /// Asks addresses whether they answer.
    Probe(Arc<ProbeSource>),
}

impl Sampler {
    /// Samples until `shutdown`.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        match self {
            Sampler::Scrape(source) => source.run(clock::now, shutdown).await,
            Sampler::Probe(source) => source.run(clock::now, shutdown).await,
        }
    }
}

/// An agent, made and not started.
pub struct App {
    dispatcher: Dispatcher,
    messages: mpsc::Receiver<Message>,
    listener: TcpListener,
    shared: Arc<Shared>,
    samplers: Vec<Sampler>,
    listeners: Vec<Box<dyn Listener>>,
    pushed: BTreeMap<String, Arc<PushedSource>>,
    heartbeat: Option<(Heartbeat, Notifiers)>,
    notifiers: Notifiers,
    delivery: Delivery,
    deployment_log: Option<DeploymentLog>,
    ledger: Ledger,
    ready: watch::Sender<bool>,
    torn_down: watch::Sender<bool>,
}

/// Makes an agent: opens the ledger, reads the state back, binds the port.
pub async fn build(settings: Settings) -> anyhow::Result<App> {
    let (notifiers, delivery) = settings.notifiers;
    let ledger =
        Ledger::open(&settings.state_dir.join(LEDGER_FILE)).await.context("cannot open the ledger")?;
    let documented = settings.deployment_log.as_ref();
    let deployment_log =
        documented.map(|config| DeploymentLog::open(ledger.clone(), &config.file)).transpose()?;
    let (fleet, fleet_seen) = watch::channel(Fleet::default());
    let (stopped, stopped_seen) = watch::channel(false);
    let (torn_down, torn_down_seen) = watch::channel(false);
    let (ready, ready_seen) = watch::channel(false);
    let executor = Executor::new(
        ledger.clone(),
        Arc::clone(&settings.secrets),
        fleet_seen,
        stopped_seen,
        torn_down_seen,
        settings.state_dir.join(STOP_FILE),
    );
    let collector = Collector::new(settings.signal_sources);
    let heartbeat = settings.heartbeat.map(|heartbeat| (heartbeat, notifiers.clone()));
    let parts = Parts {
        ledger: ledger.clone(),
        rules: Arc::clone(&settings.rules),
        freezes: settings.freezes,
        observers: settings.observers,
        collector: collector.clone(),
        executor: executor.clone(),
        notifiers: notifiers.clone(),
        fleet,
        stopped: stopped.clone(),
    };
    let dispatcher =
        Dispatcher::restore(parts).await.context("cannot read the state back from the ledger")?;
    let listener = TcpListener::bind(settings.listen).await;
    let listener = listener
        .with_context(|| format!("cannot listen on {}; is another agent running?", settings.listen))?;
    let (sender, messages) = mpsc::channel(MOST_WAITING);
    let look_freely = settings.listen.ip().is_loopback();
    let board = Board::default();
    settings.event_sources.announce(&board);
    let inlet = Inlet::new(sender.clone(), board);
    let shared = Arc::new(Shared {
        messages: sender,
        inlet,
        ledger: ledger.clone(),
        access: Access::new(settings.token, look_freely),
        sources: settings.event_sources,
        door: api::Door::default(),
        rules: Arc::clone(&settings.rules),
        collector,
        executor,
        metrics: Metrics::default(),
        stopped,
        ready: ready_seen,
    });
    Ok(App {
        dispatcher,
        messages,
        listener,
        shared,
        samplers: settings.samplers,
        listeners: settings.listeners,
        pushed: settings.pushed,
        heartbeat,
        notifiers,
        delivery,
        deployment_log,
        ledger,
        ready,
        torn_down,
    })
}

impl App {
    /// Where the API listens.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Runs until `shutdown` comes or something vital fails.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let App {
            dispatcher,
            messages,
            listener,
            shared,
            samplers,
            listeners,
            heartbeat,
            notifiers,
            delivery,
            ..
        } = self;
        let (ledger, ready, torn_down) = (self.ledger, self.ready, self.torn_down);
        let (down, down_seen) = watch::channel(false);
        let mut sources = JoinSet::new();
        for source in samplers {
            sources.spawn(source.run(until(down_seen.clone())));
        }
        for source in listeners {
            let inlet = shared.inlet.clone();
            let reporter = inlet.board().reporter(source.name(), source.kind(), source.describe());
            sources.spawn(source.run(inlet, reporter, down_seen.clone()));
        }
        sources.spawn(Watchman::default().run(shared.inlet.board().clone(), notifiers, down_seen.clone()));
        if let Some((heartbeat, notifiers)) = heartbeat {
            sources.spawn(heartbeat.run(Arc::clone(&shared), notifiers, down_seen.clone()));
        }
        // What the last steps have to tell is told after they ended.
        let (silence, silence_seen) = watch::channel(false);
        let documenting = self.deployment_log.map(|log| tokio::spawn(log.run(silence_seen.clone())));
        let telling = tokio::spawn(delivery.run(silence_seen));
        let router = api::router(Arc::clone(&shared)).merge(api::push_router(self.pushed));
        let mut api = tokio::spawn(api::serve(listener, router, down_seen.clone()));
        let mut thinking = tokio::spawn(dispatcher.run(messages, down_seen));
        let announce = async {
            // Restored is what answers, not what was started.
            if shared.heard().await {
                ready.send_replace(true);
                tracing::info!("ready");
            }
            std::future::pending::<Infallible>().await
        };
        let ended = tokio::select! {
            () = shutdown => Ok(()),
            ended = &mut thinking => Err(vital("the dispatcher", flat(ended))),
            ended = &mut api => Err(vital("the API", ended.map_err(anyhow::Error::from))),
            never = announce => match never {},
        };
        ready.send_replace(false);
        down.send_replace(true);
        let joined = join(&mut thinking, &torn_down).await;
        silence.send_replace(true);
        sources.shutdown().await;
        let told = tokio::time::timeout(FAREWELL, telling).await;
        if told.is_err() {
            tracing::warn!("messages were left untold at the end");
        }
        if let Some(documenting) = documenting
            && !matches!(tokio::time::timeout(FAREWELL, documenting).await, Ok(Ok(())))
        {
            tracing::warn!("entries of the deployment log were left unwritten; the next start writes them");
        }
        api.abort();
        let closed = ledger.close().await.context("cannot close the ledger");
        // The first that went wrong is the cause of the others.
        ended.and(joined).and(closed)
    }
}

/// Waits for the loop and the step that it may be at. A step that takes too long is told to end, so that its outcome is
/// written down; if even that takes too long, the next start settles it.
async fn join(thinking: &mut Thinking, torn_down: &watch::Sender<bool>) -> anyhow::Result<()> {
    if thinking.is_finished() {
        return Ok(());
    }
    if let Ok(ended) = tokio::time::timeout(FAREWELL, &mut *thinking).await {
        return flat(ended);
    }
    torn_down.send_replace(true);
    if let Ok(ended) = tokio::time::timeout(LAST_FAREWELL, &mut *thinking).await {
        return flat(ended).context("a step still ran at the end and was cut off");
    }
    thinking.abort();
    anyhow::bail!("a step still ran at the end; the next start settles it")
}

async fn until(mut down: watch::Receiver<bool>) {
    // The sender is gone only when `run` has returned: that is down too.
    let _either_way = down.wait_for(|down| *down).await;
}

fn flat(ended: Result<Result<(), DispatchError>, tokio::task::JoinError>) -> anyhow::Result<()> {
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Err(error) => Err(error.into()),
    }
}

fn vital(what: &str, ended: anyhow::Result<()>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow::anyhow!("{what} ended by itself"),
        Err(error) => error.context(format!("{what} failed")),
    }
}
