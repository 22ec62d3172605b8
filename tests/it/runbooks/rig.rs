//! Two releases of a service, their users, a Prometheus that sees both, recorded vendors, and a daemon with one runbook.
//!
//! A test says what the runbook gets (`with`), how users are led (which release do they reach now?) and what was not
//! chosen. The rig tells of the bad release, lets the daemon decide, gives a person's yes by `turnback approve` where the
//! plan waits for one, follows until the watch is closed, and reads the story back from the ledger and the post-mortem.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use agent::ledger::Record;
use anyhow::{Context, Result, ensure};
use rules::plan::RollbackPlan;
use serde_json::Value;
use tests::daemon::{Daemon, TOKEN};
use tests::load::{Load, Target};
use tests::prometheus::{PrometheusServer, ScrapeJob, ScrapeTarget};
use tests::vendors::Vendors;
use tests::victim::{Release, Victim};
use tests::{binaries, wait};

use super::trace;

/// The service that is turned back.
pub const SERVICE: &str = "shop";
/// The release that ran well, and the bad one.
pub const GOOD: &str = "v1";
pub const BAD: &str = "v2";

/// Requests a second: enough for a verdict in seconds, little enough for two cores that run other tests too.
const RATE: u32 = 120;
/// The past that the baseline is taken from.
const PAST: Duration = Duration::from_secs(22);
/// For a whole rollback on a busy machine; an idle one needs a third of it.
const PATIENCE: Duration = Duration::from_secs(240);

/// How the service is watched, and looked after when it is back: in seconds instead of minutes, hours and a day.
const WATCH: &str = r"    watch:
      look_every: 1s
      watch_for: 300s
      soak: 10s
      baseline_span: 20s
      baseline_gap: 1s
      baseline_window: 1s
      seasonal_days: 0
      blind_after: 15s
      max_sample_age: 5s
      verify_for: 120s
      verify_soak: 5s
      checkpoints:
        immediate: { after: 6s }
        extended: { after: 9s }
        30-minutes: { after: 12s, bounds: { errors: { below: 20% } } }
        24-hours: { after: 15s }
";

/// Their names, in their order.
const CHECKPOINTS: [&str; 4] = ["immediate", "extended", "30-minutes", "24-hours"];

/// What a test hands to the daemon.
#[derive(Debug)]
pub struct Document {
    /// The runbook.
    pub runbook: &'static str,
    /// Its inputs.
    pub with: Value,
    /// `auto`, or `approve`: a person's yes is given through the command line.
    pub autonomy: &'static str,
    /// Environment variables of the daemon, for `{ env: … }`.
    pub environment: Vec<(&'static str, String)>,
}

/// Everything but the service's own servers.
pub struct Rig {
    pub vendors: Vendors,
    pub prometheus: PrometheusServer,
    pub daemon: Daemon,
    /// Where users reach the release that ran well, and the bad one: the same address where one takes the other's place.
    good: SocketAddr,
    bad: SocketAddr,
    target: Target,
    load: Load,
    _victims: Vec<Victim>,
    job: ScrapeJob,
}

/// What was done, as people and auditors can read it.
pub struct Told {
    pub watch: Value,
    pub plan: RollbackPlan,
    /// By step: how its last attempt ended.
    pub ends: BTreeMap<usize, Value>,
    pub records: Vec<Record>,
    /// What `turnback postmortem` prints.
    pub postmortem: String,
    /// Everything else, for messages of failed assertions.
    pub story: String,
}

impl Rig {
    /// Releases, users and Prometheus; the daemon is prepared and started by [`Rig::launch`].
    pub async fn open() -> Result<Rig> {
        let old = Victim::start(&Release::healthy(GOOD)).await?;
        let new = Victim::start(&Release { error_rate: 0.25, ..Release::healthy(BAD) }).await?;
        let mut rig = Rig::around(old.address(), new.address()).await?;
        rig._victims = vec![old, new];
        Ok(rig)
    }

    /// The same around releases that the test runs itself: they answer `GET /work` and `GET /metrics` there.
    pub async fn around(good: SocketAddr, bad: SocketAddr) -> Result<Rig> {
        let scraped = |address: &SocketAddr| ScrapeTarget {
            address: address.to_string(),
            labels: [("service".to_owned(), SERVICE.to_owned())].into(),
        };
        let addresses = BTreeSet::from([good, bad]);
        let job = ScrapeJob { name: SERVICE.into(), targets: addresses.iter().map(scraped).collect() };
        let prometheus = PrometheusServer::start(std::slice::from_ref(&job), Duration::from_secs(1)).await?;
        let target = Target::new(good);
        let load = Load::start(target.clone(), RATE)?;
        let vendors = Vendors::start().await?;
        let daemon = Daemon::prepare("")?;
        Ok(Rig { vendors, prometheus, daemon, good, bad, target, load, _victims: Vec::new(), job })
    }

    /// The address of the release that ran well: what a health check of the service reaches after the rollback.
    pub fn good_address(&self, path: &str) -> String {
        format!("http://{}{path}", self.good)
    }

    /// Has Prometheus scrape something else, too, for the questions of a runbook.
    pub async fn scrape_too(&self, name: &str, address: SocketAddr) -> Result<()> {
        let target = ScrapeTarget { address: address.to_string(), labels: BTreeMap::new() };
        let more = ScrapeJob { name: name.to_owned(), targets: vec![target] };
        self.prometheus.scrape(&[self.job.clone(), more]).await
    }

    /// Starts the daemon with a runbook, and gives it a past with the good release.
    pub async fn launch(&mut self, document: Document) -> Result<()> {
        self.daemon.reconfigure(&config(self.prometheus.url(), &document))?;
        self.daemon.set_environment(&document.environment);
        self.daemon.launch(None)?;
        self.daemon.ready().await?;
        wait::until("Prometheus to have seen the service twice", PATIENCE, async || {
            let samples = self.prometheus.query("min(count_over_time(up[1m]))").await?;
            Ok(samples.iter().any(|sample| sample.value >= 2.0).then_some(()))
        })
        .await?;
        // The agent must have heard of the old release, or there is none to go back to.
        self.daemon.deployed(SERVICE, GOOD, None).await?;
        tokio::time::sleep(PAST).await;
        Ok(())
    }

    /// The bad release is there (the test has deployed it), is announced, judged, rolled back and verified.
    /// `bad_serves` says which release users reach now.
    pub async fn turn_back(&self, bad_serves: impl AsyncFn() -> Result<bool>) -> Result<Told> {
        self.target.set(self.bad);
        self.daemon.deployed(SERVICE, BAD, None).await?;
        let mut approved = false;
        let closed = wait::until("the watch to close", PATIENCE, async || {
            self.target.set(if bad_serves().await? { self.bad } else { self.good });
            let watch = self.daemon.watch(SERVICE).await?;
            if watch["plan"]["awaits_approval"] == true && !approved {
                let text = |key: &str| watch["plan"][key].as_str().unwrap_or_default().to_owned();
                self.turnback(&["approve", &text("id"), "--digest", &text("digest")]).await?;
                approved = true;
            }
            // Looking costs the daemon something, too.
            tokio::time::sleep(Duration::from_millis(200)).await;
            Ok(Some(watch).filter(|watch| watch["closed"] == true))
        })
        .await;
        match closed {
            Ok(watch) => self.read_back(watch).await,
            Err(error) => Err(error.context(self.daemon.story(SERVICE).await)),
        }
    }

    async fn read_back(&self, watch: Value) -> Result<Told> {
        let story =
            format!("{}\nunexpected: {:#?}", self.daemon.story(SERVICE).await, self.vendors.unexpected());
        let records = self.daemon.verified_records().await?;
        let plan = records.iter().rfind(|record| record.kind == "plan_drawn");
        let plan = plan.with_context(|| format!("no plan was drawn up: {story}"))?;
        let plan: RollbackPlan = serde_json::from_value(plan.body["plan_drawn"]["plan"].clone())
            .with_context(|| format!("reading the plan: {}", plan.body_text))?;
        let ended = records.iter().filter(|record| record.kind == "step_ended").filter_map(|record| {
            let body = &record.body["step_ended"];
            Some((usize::try_from(body["step"].as_u64()?).ok()?, body["outcome"].clone()))
        });
        let ends = ended.collect();
        let id = watch["id"].as_str().context("a watch has an id")?;
        let postmortem = self.turnback(&["postmortem", id]).await?;
        Ok(Told { plan, ends, records, postmortem, story, watch })
    }

    /// Runs the command line against the daemon and gives what it printed.
    pub async fn turnback(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(binaries::path("turnback-under-test")?);
        command.args(arguments).env("TURNBACK_URL", self.daemon.url("")).env("TURNBACK_TOKEN", TOKEN);
        let words = arguments.join(" ");
        let output = tokio::task::spawn_blocking(move || command.output()).await?;
        let output = output.with_context(|| format!("starting turnback {words}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "turnback {words}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// That users were there all the time.
    pub fn assert_used(&self) {
        assert!(self.load.answers().good > 1_000, "{:?}", self.load.answers());
    }
}

impl Told {
    /// That the rollback was applied whole, helped, and shows every fact of the written procedure but those at places
    /// where nothing was chosen: in the ledger as done and in its order, in the post-mortem by its place, and where
    /// people do it, as the message that asks them.
    #[track_caller]
    pub fn assert_procedure(&self, runbook: &str, left_out: &[&str], vendors: &Vendors) {
        let story = &self.story;
        assert_eq!(self.watch["phase"], "closed: rolled back, recovered", "{story}");
        assert_eq!(self.watch["incident"]["severity"], "P1", "{story}");
        self.assert_all_done();
        let from = |step: &rules::plan::Step| trace::places(step.from.as_deref().unwrap_or_default());
        let steps: Vec<Vec<String>> = self.plan.steps.iter().map(from).collect();
        assert_eq!(trace::faults(&trace::said(runbook), &steps, left_out), Vec::<String>::new(), "{story}");
        // Characters that Markdown and HTML would interpret are escaped in the draft.
        let draft = self.postmortem.replace('\\', "").replace("&amp;", "&");
        for (number, step) in self.plan.steps.iter().enumerate() {
            let row = draft
                .lines()
                .find(|line| line.starts_with(&format!("| {} | {} |", number + 1, step.title())));
            let done = row.is_some_and(|row| row.contains("| done"));
            assert!(done, "{}: {row:?} in {draft}", step.title());
        }
        let taken = self.records.iter().filter(|record| record.kind == "checkpoint_taken").count();
        assert_eq!(taken, CHECKPOINTS.len(), "{story}");
        for name in CHECKPOINTS {
            assert!(draft.contains(name), "the checkpoint {name}: {draft}");
        }
        for words in ["Time to detect", "Time to decide", "Time to recover"] {
            assert!(draft.contains(words), "{words}: {draft}");
        }
        for step in self.plan.steps.iter().filter(|step| step.name.as_str().starts_with("ask-")) {
            let asked = vendors.messages().into_iter().any(|(_, text)| said_by(step, &text));
            assert!(asked, "{}: {:#?}", step.name, vendors.messages());
        }
        assert!(vendors.unexpected().is_empty(), "{:#?}", vendors.unexpected());
    }

    /// Every step was intended and ended as done, one after the other.
    #[track_caller]
    fn assert_all_done(&self) {
        let story = &self.story;
        let mut intended = Vec::new();
        for record in self.records.iter().filter(|record| record.kind == "step_intended") {
            let body = &record.body["step_intended"];
            assert_eq!(body["direction"], "apply", "{story}");
            intended.push(body["step"].as_u64().expect("a step has a number") as usize);
        }
        intended.dedup();
        assert_eq!(intended, (0..self.plan.steps.len()).collect::<Vec<_>>(), "{story}");
        for (number, step) in self.plan.steps.iter().enumerate() {
            let end = self.ends.get(&number);
            assert!(end.is_some_and(|end| end["done"].is_object()), "{}: {end:?} {story}", step.name);
        }
    }

    /// What a step said when it was done.
    #[track_caller]
    pub fn output(&self, step: &str) -> &str {
        let number = self.plan.steps.iter().position(|one| one.name.as_str() == step);
        let number = number.unwrap_or_else(|| panic!("no step {step} in the plan"));
        self.ends[&number]["done"]["output"].as_str().unwrap_or_default()
    }
}

/// Whether a message is the one that a step sends.
fn said_by(step: &rules::plan::Step, text: &str) -> bool {
    let rules::action::ActionSpec::Http(http) = &step.action else { return false };
    let body: Value = serde_json::from_str(http.body.as_deref().unwrap_or_default()).unwrap_or_default();
    text.contains("By hand, please") && body["text"] == text
}

fn config(prometheus: &str, document: &Document) -> String {
    // JSON is YAML.
    let Document { runbook, with, autonomy, .. } = document;
    format!(
        r#"
signals:
  prometheus:
    main: {{ url: "{prometheus}", settle: 500ms }}
services:
  {SERVICE}:
    runbook: {{ name: {runbook}, with: {with} }}
    autonomy: {{ level: {autonomy} }}
    patience: {{ quick-fix: 0s, investigate: 0s }}
    signals:
      errors:
        source: main
        measure: {{ proportion: {{ of: 'http_requests_total{{service="{SERVICE}"}}', bad: {{ code: "5.." }} }} }}
{WATCH}    guards: {{ known_good_for: 10s, known_good_requests: 100 }}
    statistics: {{ healthy_below: 3%, dispersion: 1 }}
"#
    )
}
