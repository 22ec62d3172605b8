//! The agent of the demo: the real one, with its ledger, its API and its sources, in this process.

use super::Options;
use super::notices::Notices;
use super::ruleset::{ENVIRONMENT, PROBE, Place, SCRAPE, SERVICE, rule_set};
use crate::app::{self, App, Sampler, Settings};
use crate::clock;
use crate::events::EventSourceKeys;
use crate::events::auth::{Credential, EventSourceKey, ServiceScope};
use crate::notify::Notifiers;
use crate::secrets::Secrets;
use crate::signals::SignalSource;
use crate::signals::probe::{ProbeConfig, ProbeSource};
use crate::signals::scrape::{ScrapeConfig, ScrapeSource};
use anyhow::Context as _;
use rules::ids::SourceName;
use rules::units::Span;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Between two readings of the service's metrics.
const SCRAPE_EVERY: Span = Span::from_seconds(1);
/// How long a reading or a question may take.
const ANSWER_WITHIN: Span = Span::from_milliseconds(500);
/// The service is asked this often in a second whether it answers, each time at an address of its own; the source
/// spreads them.
const QUESTIONS: u32 = 4;
/// How long the agent may take to be ready or to say anything.
const PATIENCE: Duration = Duration::from_secs(5);

/// The agent at work.
pub struct Machine {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// The file with the token that people show.
    pub token_file: PathBuf,
    /// What people were told.
    pub notices: Notices,
    token: String,
    client: reqwest::Client,
    shutdown: oneshot::Sender<()>,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Machine {
    /// Makes the agent and starts it; returns when its API is ready.
    pub async fn start(options: &Options, state: &Path, place: &Place<'_>) -> anyhow::Result<Self> {
        let token_file = state.join(app::TOKEN_FILE);
        let token = app::read_or_make_token(&token_file)?;
        let notices = Notices::default();
        let app =
            app::build(settings(options, state, place, &token, &notices)?).await.context("the agent")?;
        let url = format!("http://{}", app.address()?);
        let (shutdown, asked) = oneshot::channel::<()>();
        let running = tokio::spawn(run(app, asked));
        let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy();
        let client = client.build().context("cannot make an HTTP client")?;
        let machine = Self { url, token_file, notices, token, client, shutdown, running };
        machine.wait_until_ready().await?;
        Ok(machine)
    }

    async fn wait_until_ready(&self) -> anyhow::Result<()> {
        let ready = async {
            loop {
                let answer = self.client.get(format!("{}/readyz", self.url)).send().await;
                if answer.is_ok_and(|answer| answer.status().is_success()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.context("the agent is not ready in time")
    }

    /// Asks the API for JSON.
    pub async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let what = || format!("cannot ask the agent for {path}");
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.with_context(what)?;
        answer.error_for_status().with_context(what)?.json().await.with_context(what)
    }

    /// Asks the API for text.
    pub async fn text(&self, path: &str) -> anyhow::Result<String> {
        let what = || format!("cannot ask the agent for {path}");
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.with_context(what)?;
        answer.error_for_status().with_context(what)?.text().await.with_context(what)
    }

    /// Tells the agent of a deployment, as a pipeline does: a CDEvent over HTTP with a bearer token.
    pub async fn announce(&self, version: &str) -> anyhow::Result<()> {
        let now = clock::now();
        let event = json!({
            "context": {
                "specversion": "0.5.1",
                "id": format!("demo-{version}-{}", now.as_millisecond()),
                "source": "/turnback/demo",
                "type": "dev.cdevents.service.deployed.0.3.0",
                "timestamp": now.to_string(),
            },
            "subject": {
                "id": SERVICE,
                "source": "/turnback/demo",
                "content": {
                    "environment": { "id": ENVIRONMENT },
                    "artifactId": format!("pkg:generic/{SERVICE}@{version}"),
                },
            },
        });
        let request = self.client.post(format!("{}/v1/events", self.url)).bearer_auth(&self.token);
        let answer = request.json(&event).send().await.context("cannot tell the agent of the deployment")?;
        let (status, body) = (answer.status(), answer.text().await.unwrap_or_default());
        anyhow::ensure!(status.is_success(), "the agent refused the news of the deployment: {status} {body}");
        Ok(())
    }

    /// Ends the agent in order: it writes what it has to write and closes the ledger.
    pub async fn stop(self) -> anyhow::Result<()> {
        // Gone already: then `running` says why.
        let _gone = self.shutdown.send(());
        self.running.await.context("the agent broke down")?
    }
}

async fn run(app: App, asked: oneshot::Receiver<()>) -> anyhow::Result<()> {
    let until = async {
        // The other end is dropped when the demo is: that is an end too.
        let _either_way = asked.await;
    };
    app.run(until).await.context("the agent ended")
}

fn settings(
    options: &Options,
    state: &Path,
    place: &Place<'_>,
    token: &str,
    notices: &Notices,
) -> anyhow::Result<Settings> {
    let rules = rule_set(options.scenario, options.autonomy, place)?;
    let mut event_sources = EventSourceKeys::default();
    let key = EventSourceKey {
        name: SourceName::new("demo")?,
        credential: Credential::Bearer { tokens: vec![token.to_owned()] },
        services: ServiceScope::parse(&[SERVICE.to_owned()])
            .map_err(|problems| anyhow::anyhow!(problems.join("; ")))?,
    };
    event_sources.add(key, Default::default());
    let (scrape, probe) = sources(place.address)?;
    let signal_sources: BTreeMap<String, Arc<dyn SignalSource>> =
        BTreeMap::from([(SCRAPE.to_owned(), scrape.clone() as _), (PROBE.to_owned(), probe.clone() as _)]);
    Ok(Settings {
        deployment_log: None,
        freezes: Vec::new(),
        observers: BTreeSet::new(),
        heartbeat: None,
        state_dir: state.to_owned(),
        // Any free port: the usual one belongs to a real agent, also to one that is started while the demo plays.
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        token: token.to_owned(),
        event_sources,
        listeners: Vec::new(),
        signal_sources,
        pushed: BTreeMap::new(),
        samplers: vec![Sampler::Scrape(scrape), Sampler::Probe(probe)],
        notifiers: Notifiers::new(vec![Box::new(notices.clone())]),
        rules: Arc::new(move |_, _| rules.clone()),
        secrets: Arc::new(Secrets::from_variables(BTreeMap::new())),
    })
}

fn sources(address: &str) -> anyhow::Result<(Arc<ScrapeSource>, Arc<ProbeSource>)> {
    let scrape = ScrapeSource::new(
        SCRAPE,
        &ScrapeConfig {
            targets: vec![format!("http://{address}/metrics")],
            interval: SCRAPE_EVERY,
            timeout: ANSWER_WITHIN,
            retention: Span::from_minutes(10),
            max_series: 100,
        },
    )?;
    let probe = ProbeSource::new(
        PROBE,
        &ProbeConfig {
            targets: (1..=QUESTIONS).map(|number| format!("http://{address}/healthz?{number}")).collect(),
            interval: Span::from_seconds(1),
            timeout: ANSWER_WITHIN,
            expect_status: vec![200],
        },
    )?;
    Ok((Arc::new(scrape), Arc::new(probe)))
}
