//! The settings as types: maps per kind, plain structs, unknown keys refused.
//!
//! What a component needs is described by that component (`events`, `signals`, `notify`); what a service's rules are by
//! `rules`. Here is what holds them together.

use crate::deployment_log::DeploymentLogConfig;
use crate::events::EventSourceConfig;
use crate::events::hooks::HookConfig;
use crate::events::kafka::KafkaSourceConfig;
use crate::events::kubernetes::KubernetesSourceConfig;
use crate::events::nats::NatsSourceConfig;
use crate::heartbeat::HeartbeatConfig;
use crate::notify::NotifyConfig;
use crate::signals::probe::ProbeConfig;
use crate::signals::prometheus::PrometheusConfig;
use crate::signals::pushed::PushedConfig;
use crate::signals::scrape::ScrapeConfig;
use jiff::Timestamp;
use rules::action::SecretRef;
use rules::compare::Compare;
use rules::decision::Autonomy;
use rules::fleet::Freeze;
use rules::ids::{EnvironmentName, ServiceName, SignalName, SourceName};
use rules::matrix::Matrix;
use rules::ruleset::{GuardSettings, Statistics, WatchSettings};
use rules::runbook::{Runbook, RunbookUse};
use rules::signal::{Measure, Role, Signal};
use rules::units::Span;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The whole configuration. A loaded one is resolved: what a service leaves out is filled in from `defaults`, and
/// writing it out and loading it again gives the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The version of this format: 1.
    pub version: u32,
    /// Where the ledger and the generated token are: an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<PathBuf>,
    /// The HTTP interface.
    pub api: ApiConfig,
    /// Our own log.
    pub log: LogSettings,
    /// Who may tell us things.
    pub events: EventsConfig,
    /// Where measurements come from.
    pub signals: SignalSourcesConfig,
    /// Who is told things.
    pub notify: NotifyConfig,
    /// Where every action is documented with the commands that ran, besides the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_log: Option<DeploymentLogConfig>,
    /// Decision matrices by name, besides those that ship.
    pub matrices: BTreeMap<String, Matrix>,
    /// Files with matrices by name, relative to the file that names them. In a loaded configuration they are among
    /// `matrices`.
    #[serde(skip_serializing)]
    pub matrix_files: BTreeMap<String, PathBuf>,
    /// Ways to turn services back, by name, besides those that ship. Of the same name, these win.
    pub runbooks: BTreeMap<String, Runbook>,
    /// What holds for services that say nothing else.
    pub defaults: Defaults,
    /// The services.
    pub services: BTreeMap<ServiceName, Service>,
    /// Times in which nothing is turned back alone.
    pub freezes: Vec<FreezeConfig>,
    /// Who listens for our sign of life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<HeartbeatConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            version: 1,
            state_dir: None,
            api: ApiConfig::default(),
            log: LogSettings::default(),
            events: EventsConfig::default(),
            signals: SignalSourcesConfig::default(),
            notify: NotifyConfig::default(),
            deployment_log: None,
            matrices: BTreeMap::new(),
            matrix_files: BTreeMap::new(),
            runbooks: BTreeMap::new(),
            defaults: Defaults::default(),
            services: BTreeMap::new(),
            freezes: Vec::new(),
            heartbeat: None,
        }
    }
}

/// The HTTP interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// The address and port it listens on.
    #[serde(deserialize_with = "listen_address")]
    pub listen: SocketAddr,
    /// The token that callers must send. The daemon makes one in its state directory if none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
}

impl Default for ApiConfig {
    fn default() -> Self {
        // Only this machine: nothing is reachable that nobody has thought about.
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7440)), token: None }
    }
}

fn listen_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        serde::de::Error::custom(format!(
            "{shown:?} is not an address and port; write for example 127.0.0.1:7440 (not a host name), or [::1]:7440"
        ))
    })
}

/// Our own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// How lines look.
    pub format: LogFormat,
    /// From which level on.
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// From which level on something is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what may become a problem.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And how.
    Debug,
    /// And every step.
    Trace,
}

/// Who may tell us things.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// The sources of events by name.
    pub sources: BTreeMap<SourceName, EventSourceConfig>,
    /// Topics of Kafka by name.
    pub kafka: BTreeMap<SourceName, KafkaSourceConfig>,
    /// Streams and subjects of NATS by name.
    pub nats: BTreeMap<SourceName, NatsSourceConfig>,
    /// Clusters by name, whose rollouts are noticed.
    pub kubernetes: BTreeMap<SourceName, KubernetesSourceConfig>,
    /// The webhooks of others by name, each at `POST /v1/hooks/NAME`.
    pub hooks: BTreeMap<SourceName, HookConfig>,
}

/// Where measurements come from. A signal names its source by the name only, so that a name may stand once in all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignalSourcesConfig {
    /// Prometheus servers.
    pub prometheus: BTreeMap<String, PrometheusConfig>,
    /// Services whose `/metrics` are read.
    pub scrape: BTreeMap<String, ScrapeConfig>,
    /// Addresses that must answer.
    pub probe: BTreeMap<String, ProbeConfig>,
    /// Sources that samples are pushed to.
    pub pushed: BTreeMap<String, PushedConfig>,
}

/// What holds for services that say nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// The environment of services that name none.
    pub environment: EnvironmentName,
    /// What may be done alone.
    pub autonomy: Autonomy,
    /// What is bad: the name of a matrix.
    pub matrix: String,
    /// How deployments are watched.
    pub watch: WatchSettings,
    /// What holds the agent back.
    pub guards: GuardSettings,
    /// How sure one must be.
    pub statistics: Statistics,
    /// Patience for mitigations by name.
    pub patience: BTreeMap<String, Span>,
    /// Whom to call, by role: `on_call`, `database`. They are named in every page.
    pub contacts: BTreeMap<String, String>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            environment: EnvironmentName::new("production").expect("a fixed name of letters is a good name"),
            autonomy: Autonomy::default(),
            matrix: "standard".into(),
            watch: WatchSettings::default(),
            guards: GuardSettings::default(),
            statistics: Statistics::default(),
            patience: BTreeMap::new(),
            contacts: BTreeMap::new(),
        }
    }
}

/// One service. In a loaded configuration everything is filled in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Where it runs; the environment of `defaults` if none is given.
    pub environments: Vec<EnvironmentName>,
    /// What is measured.
    pub signals: BTreeMap<SignalName, SignalConfig>,
    /// What is bad: the name of a matrix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<String>,
    /// How it is turned back: the name of a runbook, configured or one that ships, which may need values for its
    /// parameters: `{name: node-service, with: {…}}`. Without a runbook nothing can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runbook: Option<RunbookUse>,
    /// What may be done alone. `level` replaces the default; of the limits by severity and by reversibility the
    /// stricter one holds.
    pub autonomy: Autonomy,
    /// How it is watched; what is left out is as in `defaults`.
    pub watch: WatchSettings,
    /// What holds the agent back; what is left out is as in `defaults`.
    pub guards: GuardSettings,
    /// How sure one must be; what is left out is as in `defaults`.
    pub statistics: Statistics,
    /// Patience for mitigations by name; what is left out is as in `defaults`.
    pub patience: BTreeMap<String, Span>,
    /// Whom to call, by role; roles that are left out are as in `defaults`.
    pub contacts: BTreeMap<String, String>,
    /// Services that this one calls: their deployments may be the cause of what it suffers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<ServiceName>,
    /// Environments in which a rollback of it may be practised: `turnback drill`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub safe_to_drill: Vec<EnvironmentName>,
    /// How canary and control are told apart, if they run side by side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compare: Option<Compare>,
}

/// One signal of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalConfig {
    /// The signal source that answers for it.
    pub source: String,
    /// How much it matters; by the kind of measure if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// What is read.
    pub measure: Measure,
    /// The series of 0 and 1 that say which targets ought to report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
    /// Its share of the error budget relative to the service's other signals; by the kind of measure if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Whether canary and control are told apart in it, where the service compares them.
    #[serde(default = "compared", skip_serializing_if = "is_true")]
    pub compare: bool,
}

fn compared() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_true(value: &bool) -> bool {
    *value
}

/// A time in which nothing is turned back alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeConfig {
    /// From when on, as RFC 3339 with an offset: `2026-12-24T12:00:00+01:00`.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// For this service only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
}

impl SignalConfig {
    /// How much it matters, given or by its kind.
    pub fn role(&self) -> Role {
        self.role.unwrap_or_else(|| self.measure.default_role())
    }

    /// As the rules see it.
    pub fn signal(&self, name: &SignalName) -> Signal {
        Signal {
            name: name.clone(),
            role: self.role(),
            source: self.source.clone(),
            measure: self.measure.clone(),
            targets: self.targets.clone(),
            weight: self.weight,
            compare: self.compare,
        }
    }
}

impl FreezeConfig {
    /// As the fleet's rules see it.
    pub fn freeze(&self) -> Freeze {
        Freeze {
            service: self.service.clone(),
            from: self.from,
            until: Some(self.until),
            reason: self.reason.clone(),
            by: "configuration".into(),
        }
    }
}

impl SignalSourcesConfig {
    /// The names of all sources, each with its kind.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let Self { prometheus, scrape, probe, pushed } = self;
        let prometheus = prometheus.keys().map(|name| ("prometheus", name.as_str()));
        let scrape = scrape.keys().map(|name| ("scrape", name.as_str()));
        let probe = probe.keys().map(|name| ("probe", name.as_str()));
        prometheus.chain(scrape).chain(probe).chain(pushed.keys().map(|name| ("pushed", name.as_str())))
    }
}
