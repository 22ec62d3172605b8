//! From a configuration to settings: secrets are resolved, sources and notifiers made. Starts nothing.

use super::listeners;
use super::{Sampler, Settings, TOKEN_FILE, build, token};
use crate::clock;
use crate::config::{Config, Flag, Inputs, LogLevel, SignalSourcesConfig};
use crate::events::auth::{Credential, EventSourceKey, ServiceScope};
use crate::events::{AlertLabels, EventSourceKeys};
use crate::heartbeat::Heartbeat;
use crate::notify::{self, LogConfig, Notifiers, Webhook};
use crate::secrets::{Secret, Secrets};
use crate::signals::SignalSource;
use crate::signals::probe::ProbeSource;
use crate::signals::prometheus::{Credentials, PrometheusConfig, PrometheusSource};
use crate::signals::pushed::{PushCredential, PushKey, PushedConfig, PushedSource};
use crate::signals::scrape::ScrapeSource;
use crate::telemetry::{LogFormat, start_log};
use anyhow::Context as _;
use rules::action::SecretRef;
use rules::fleet::Freeze;
use rules::ids::SourceName;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `turnback run` is told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Files of the configuration, in order.
    pub config: Vec<PathBuf>,
    /// Where the API listens, instead of what is configured.
    pub listen: Option<SocketAddr>,
    /// Where the state is, instead of what is configured.
    pub state_dir: Option<PathBuf>,
}

impl Options {
    /// As inputs of the configuration: what is given by flags wins over everything.
    pub fn inputs(self) -> Inputs {
        let flag = |name: &str, key: &str, value: String| Flag { name: name.into(), key: key.into(), value };
        let listen = self.listen.map(|listen| flag("--listen", "api.listen", listen.to_string()));
        let state_dir = self.state_dir.map(|dir| flag("--state-dir", "state_dir", dir.display().to_string()));
        Inputs::from_process(self.config, [listen, state_dir].into_iter().flatten().collect())
    }
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

/// Says that an agent did not come up, whatever was in its way: another one, a port, a secret that is not there. What goes
/// wrong later does not carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the agent cannot start")]
pub struct CannotStart;

/// Runs an agent until it is asked to end (interrupt or terminate). Errors from before it listens carry [`CannotStart`].
pub async fn run(options: Options) -> anyhow::Result<()> {
    let loaded = Config::load(&options.inputs())?;
    let log = &loaded.config.log;
    let format = match log.format {
        crate::config::LogFormat::Text => LogFormat::Text,
        crate::config::LogFormat::Json => LogFormat::Json,
    };
    let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
    start_log(format, level(log.level), color);
    let settings = settings(loaded.config).context(CannotStart)?;
    let app = build(settings).await.context(CannotStart)?;
    tracing::info!(address = %app.address()?, "listening");
    app.run(asked_to_end()?).await
}

fn asked_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot hear SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot hear SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to end");
    })
}

/// Everything an agent is made of, from its configuration.
pub fn settings(config: Config) -> anyhow::Result<Settings> {
    let secrets = Arc::new(Secrets::new());
    let state_dir =
        config.state_dir.clone().context("no state directory is known; set `state_dir` or HOME")?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&state_dir);
    made.with_context(|| format!("cannot make the state directory {}", state_dir.display()))?;
    let token = match &config.api.token {
        Some(reference) => resolve(&secrets, reference, "api.token")?,
        None => token::read_or_make(&state_dir.join(TOKEN_FILE))?,
    };
    let event_sources = event_sources(&config, &secrets, &token)?;
    let signals = signal_sources(&config.signals, &secrets)?;
    let notifiers = notifiers(&config, &secrets)?;
    let heartbeat = config.heartbeat.as_ref().map(|config| {
        let receiver = Webhook::new("heartbeat", &config.webhook, &secrets, clock::now)?;
        anyhow::Ok(Heartbeat::new(receiver, config.every))
    });
    let freezes = config.freezes.iter().map(|freeze| Freeze {
        service: freeze.service.clone(),
        from: freeze.from,
        until: Some(freeze.until),
        reason: freeze.reason.clone(),
        by: "the configuration".into(),
    });
    Ok(Settings {
        listen: config.api.listen,
        freezes: freezes.collect(),
        observers: config.events.kubernetes.keys().cloned().collect(),
        state_dir,
        token,
        event_sources,
        listeners: listeners::make(&config, &signals.pushed, &secrets)?,
        signal_sources: signals.all,
        samplers: signals.samplers,
        pushed: signals.pushed,
        notifiers,
        heartbeat: heartbeat.transpose()?,
        deployment_log: config.deployment_log.clone(),
        secrets,
        rules: Arc::new(move |service, environment| config.rule_set(service, environment)),
    })
}

fn resolve(secrets: &Secrets, reference: &SecretRef, key: &str) -> anyhow::Result<String> {
    let secret = secrets.resolve(reference).with_context(|| format!("cannot fill in {key}"))?;
    Ok(secret.expose().to_owned())
}

/// The configured sources, and `local`: whoever holds the API's token may tell news of every service.
fn event_sources(config: &Config, secrets: &Secrets, token: &str) -> anyhow::Result<EventSourceKeys> {
    let mut keys = EventSourceKeys::default();
    let local = SourceName::new("local").context("cannot name the local source")?;
    let credential = Credential::Bearer { tokens: vec![token.to_owned()] };
    keys.add(
        EventSourceKey { name: local, credential, services: ServiceScope::all() },
        AlertLabels::default(),
    );
    let read = |reference: &SecretRef| match secrets.resolve(reference) {
        Ok(secret) => Ok(secret.expose().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    for (name, hook) in &config.events.hooks {
        if hook.believes_everybody() {
            tracing::warn!(hook = %name, "this hook believes whoever reaches its address on this machine");
        }
        keys.add_hook(hook.hook(name.clone(), read)?);
    }
    for (name, source) in &config.events.sources {
        keys.add(source.key(name.clone(), read)?, source.alert_labels.clone());
    }
    Ok(keys)
}

/// Signal sources, made.
pub(crate) struct Sources {
    /// All of them.
    pub all: BTreeMap<String, Arc<dyn SignalSource>>,
    /// What must run for those of them that sample by themselves.
    pub samplers: Vec<Sampler>,
    /// Those of them that are pushed to.
    pub pushed: BTreeMap<String, Arc<PushedSource>>,
}

/// Makes signal sources. Starts nothing.
pub(crate) fn signal_sources(config: &SignalSourcesConfig, secrets: &Secrets) -> anyhow::Result<Sources> {
    let mut sources: BTreeMap<String, Arc<dyn SignalSource>> = BTreeMap::new();
    let mut samplers = Vec::new();
    // Destructured, so that a kind of source that is not wired does not compile.
    let SignalSourcesConfig { prometheus, scrape, probe, pushed } = config;
    for (name, config) in prometheus {
        let credentials = credentials(name, config, secrets)?;
        let source = PrometheusSource::new(name, config, &credentials, clock::now)?;
        sources.insert(name.clone(), Arc::new(source));
    }
    for (name, config) in scrape {
        let source = Arc::new(ScrapeSource::new(name, config)?);
        sources.insert(name.clone(), Arc::clone(&source) as Arc<dyn SignalSource>);
        samplers.push(Sampler::Scrape(source));
    }
    for (name, config) in probe {
        let source = Arc::new(ProbeSource::new(name, config)?);
        sources.insert(name.clone(), Arc::clone(&source) as Arc<dyn SignalSource>);
        samplers.push(Sampler::Probe(source));
    }
    let mut receivers = BTreeMap::new();
    for (name, config) in pushed {
        let key = push_key(name, config, secrets)?;
        let source = Arc::new(PushedSource::new(name, config, key, clock::now)?);
        sources.insert(name.clone(), Arc::clone(&source) as Arc<dyn SignalSource>);
        receivers.insert(name.clone(), source);
    }
    Ok(Sources { all: sources, samplers, pushed: receivers })
}

fn push_key(name: &str, config: &PushedConfig, secrets: &Secrets) -> anyhow::Result<Option<PushKey>> {
    let read = |reference: &SecretRef, key: &str| {
        let at = || format!("cannot fill in signals.pushed.{name}.credential.{key}");
        secrets.resolve(reference).with_context(at)
    };
    Ok(match &config.credential {
        None => None,
        Some(PushCredential::Bearer(token)) => Some(PushKey::bearer(&read(token, "bearer")?)),
        Some(PushCredential::Basic(basic)) => {
            Some(PushKey::basic(&basic.user, &read(&basic.password, "basic.password")?))
        }
    })
}

fn credentials(name: &str, config: &PrometheusConfig, secrets: &Secrets) -> anyhow::Result<Credentials> {
    let at = |key: &str| format!("signals.prometheus.{name}.{key}");
    let read = |reference: &SecretRef, key: &str| -> anyhow::Result<Secret> {
        secrets.resolve(reference).with_context(|| format!("cannot fill in {}", at(key)))
    };
    let headers = config.secret_headers.iter().map(|(header, reference)| {
        Ok((header.clone(), read(reference, &format!("secret_headers.{header}"))?))
    });
    Ok(Credentials {
        bearer: config.bearer.as_ref().map(|reference| read(reference, "bearer")).transpose()?,
        password: config.basic.as_ref().map(|basic| read(&basic.password, "basic.password")).transpose()?,
        headers: headers.collect::<anyhow::Result<_>>()?,
    })
}

/// The configured notifiers, and always the log.
fn notifiers(config: &Config, secrets: &Arc<Secrets>) -> anyhow::Result<(Notifiers, notify::Delivery)> {
    let mut notify = config.notify.clone();
    notify.log.entry("log".into()).or_insert(LogConfig {});
    Ok(Notifiers::new(notify::build(&notify, secrets, clock::now)?))
}

/// The ledger's file of a state directory.
pub fn ledger_file(state_dir: &Path) -> PathBuf {
    state_dir.join(super::LEDGER_FILE)
}
