//! What a canary analysis is seen with: two arms of pods, a Prometheus that scrapes them, the daemon, and a witness of
//! whatever the daemon did.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use rules::units::Span;
use serde_json::Value;
use tests::arms::{Arms, JOB, Side};
use tests::daemon::Daemon;
use tests::journal::{self, Effect};
use tests::prometheus::{PrometheusServer, ScrapeJob};
use tests::remote_write::{self, Series};
use tests::victim::Release;
use tests::{binaries, wait};

/// Generous: a busy machine with two cores runs several tests at once.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Most users of Prometheus scrape this often or more seldom.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(5);
/// A past is told in windows as long as that.
const STEP: Span = Span::from_seconds(5);
/// How many windows of a past are told: twelve minutes.
const WINDOWS: u64 = 144;

/// The service as the daemon is told of it, but for what all cases have in common.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// `observe` or `auto`.
    pub autonomy: &'static str,
    /// How canary and control are told apart.
    pub compare: &'static str,
    /// Beside the errors: further signals.
    pub more_signals: &'static str,
    /// How long it is watched, and what else is special about that.
    pub watch: &'static str,
    /// How sure one must be.
    pub statistics: &'static str,
}

/// What the issue of a canary analysis asks for, in the daemon's words.
pub const BY_VERSION: &str = r#"canary: { version: "{{version}}" }, control: { version: "{{previous}}" }"#;
/// The p95 beside the errors.
pub const LATENCY: &str = "latency: { source: main, measure: { latency: { buckets: \
                           'http_request_duration_seconds_bucket{job=\"checkout\"}', quantile: 0.95 } } }";

impl Service {
    /// A service whose canaries are turned back, watched for as long as a canary usually is.
    pub const USUAL: Service = Service {
        name: "checkout",
        autonomy: "auto",
        compare: BY_VERSION,
        more_signals: "",
        watch: "watch_for: 10m, soak: 10s",
        statistics: "dispersion: 1",
    };

    fn config(&self) -> String {
        let Service { name, autonomy, compare, more_signals, watch, statistics } = self;
        let more = if more_signals.is_empty() { String::new() } else { format!("      {more_signals}\n") };
        format!(
            r#"  {name}:
    runbook: take-out
    matrix: canary
    autonomy: {{ level: {autonomy} }}
    compare: {{ {compare} }}
    signals:
      errors: {{ source: main, measure: {{ proportion: {{ of: 'http_requests_total{{job="{JOB}"}}', bad: {{ code: "5.." }} }} }} }}
{more}    watch:
      {{ look_every: 1s, warm_up: 0s, baseline_span: 10m, baseline_gap: 1s, baseline_window: 5s, seasonal_days: 0,
        blind_after: 15s, max_sample_age: 11s, verify_for: 40s, verify_soak: 5s, checkpoints: {{}}, {watch} }}
    guards: {{ known_good_for: 10s, known_good_requests: 100 }}
    statistics: {{ {statistics} }}
"#
        )
    }
}

/// Everything that runs; ends with the test.
pub struct Rig {
    pub arms: Arms,
    pub prometheus: PrometheusServer,
    pub daemon: Daemon,
    journal: PathBuf,
}

/// A release of which one request in a hundred fails, and which takes as long as real ones do: now this, now that long.
pub fn release(version: &str) -> Release {
    let latency = Duration::from_millis(40);
    Release { latency, spread: Some(0.5), ..Release::healthy(version) }
}

impl Rig {
    /// Starts `arms` pods of each release, a Prometheus that has seen each of them twice, and a daemon that knows
    /// `services`. Requests come later.
    pub async fn open(arms: Arms, more: &[ScrapeJob], services: &[Service], past: bool) -> Result<Rig> {
        let jobs: Vec<ScrapeJob> = arms.jobs().into_iter().chain(more.iter().cloned()).collect();
        let prometheus = PrometheusServer::start(&jobs, SCRAPE_INTERVAL).await?;
        if past {
            remote_write::send(prometheus.url(), &two_old_pods()).await?;
        }
        let mut daemon = Daemon::prepare("")?;
        let journal = daemon.folder().join("effects");
        journal::create(&journal)?;
        let services: String = services.iter().map(Service::config).collect();
        let (effect, effects) = (binaries::path("effect")?, journal.display());
        daemon.reconfigure(&format!(
            r#"
signals:
  prometheus:
    main: {{ url: "{url}", settle: 500ms }}
runbooks:
  take-out:
    summary: Take the canary out of the rotation
    steps:
    - name: take-out
      class: keyed
      timeout: 10s
      action: {{ command: {{ argv: ["{effect}", --journal, "{effects}", --name, take-out, --plan, "{{{{plan}}}}",
        --key, "{{{{key}}}}", --once-per-key] }} }}
services:
{services}"#,
            url = prometheus.url(),
            effect = effect.display(),
        ))?;
        daemon.launch(None)?;
        daemon.ready().await?;
        wait::until("Prometheus to have seen each pod twice", PATIENCE, async || {
            let samples = prometheus.query("min(count_over_time(up[1m]))").await?;
            Ok(samples.iter().any(|sample| sample.value >= 2.0).then_some(()))
        })
        .await?;
        Ok(Rig { arms, prometheus, daemon, journal })
    }

    /// The usual two arms with the usual service.
    pub async fn usual(pods: usize, service: Service, past: bool) -> Result<Rig> {
        let arms = Arms::start(pods, &release("v1"), &release("v2")).await?;
        Rig::open(arms, &[], &[service], past).await
    }

    /// Tells the daemon that the canary is there.
    pub async fn deploy(&self) -> Result<()> {
        self.daemon.deployed("checkout", "v2", Some("v1")).await
    }

    /// What the daemon really did.
    pub fn effects(&self) -> Result<Vec<Effect>> {
        journal::read(&self.journal)
    }

    /// Waits until the canary is found degraded, and says how long that took since `since`, and what is known then.
    pub async fn until_degraded(&self, since: Instant, limit: Duration) -> Result<(Duration, Value)> {
        let found =
            |watch: &Value| watch["verdict"].as_str().is_some_and(|word| word.starts_with("degraded"));
        let left = limit.saturating_sub(since.elapsed());
        let watch =
            self.daemon.until_watch("checkout", "the canary to be found degraded", left, found).await?;
        let took = since.elapsed();
        println!("degraded {took:.1?} after the step: {} by {}", watch["verdict"], watch["row"]);
        Ok((took, self.card("checkout").await?))
    }

    /// The why card, printed and read: as JSON, with its `text`.
    pub async fn card(&self, service: &str) -> Result<Value> {
        let watch = self.daemon.watch(service).await?;
        let id = watch["id"].as_str().context("a watch has an id")?;
        let mut card = self.daemon.get(&format!("/v1/watches/{id}/explanation")).await?;
        let detail = self.daemon.get(&format!("/v1/watches/{id}")).await?;
        card["text"] = detail["text"].clone();
        println!("{}", card["text"].as_str().context("a watch has a text")?);
        Ok(card)
    }

    /// That nothing was decided against the release, ever, by the daemon's own records.
    pub async fn assert_left_alone(&self) -> Result<()> {
        let records = self.daemon.verified_records().await?;
        let against = ["incident_opened", "plan_drawn", "execution_began", "step_intended"];
        let found: Vec<&str> = records.iter().map(|record| record.kind.as_str()).collect();
        ensure!(!found.iter().any(|kind| against.contains(kind)), "{found:?}");
        ensure!(self.effects()?.is_empty(), "{:?}", self.effects());
        Ok(())
    }
}

/// A signal of a card.
pub fn signal<'a>(card: &'a Value, name: &str) -> Result<&'a Value> {
    let signals = card["signals"].as_array().context("a card has signals")?;
    signals.iter().find(|signal| signal["name"] == name).with_context(|| format!("no {name} in {card}"))
}

/// A number of a card.
pub fn number(value: &Value, path: &str) -> Result<f64> {
    value.pointer(path).and_then(Value::as_f64).with_context(|| format!("no number at {path} of {value}"))
}

/// Two pods of the release before, gone now, each of which served twenty-five requests a second for twelve minutes, one
/// in a hundred badly. Nobody waits for such a past; Prometheus takes it as told.
fn two_old_pods() -> Vec<Series> {
    let end = Span::from_seconds(5).before(Timestamp::now());
    let mut series = Vec::new();
    for pod in 0..2_u64 {
        let labels = |metric: &str, code: &str| {
            let pod = format!("old-{pod}");
            let labels =
                [("__name__", metric), ("job", JOB), ("version", "v1"), ("pod", &pod), ("code", code)];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
            labels.into_iter().chain([("track".to_owned(), Side::Control.name().to_owned())])
        };
        let (mut good, mut bad) = ((0.0, Vec::new()), (0.0, Vec::new()));
        for window in 0..=WINDOWS {
            let at = Span::from_milliseconds(STEP.milliseconds() * (WINDOWS - window)).before(end);
            good.1.push((at, good.0));
            bad.1.push((at, bad.0));
            for request in 0..125 {
                let failed = is_unlucky(pod << 40 | window << 20 | request);
                *(if failed { &mut bad.0 } else { &mut good.0 }) += 1.0;
            }
        }
        for (code, (_, samples)) in [("200", good), ("500", bad)] {
            let labels = BTreeMap::from_iter(labels("http_requests_total", code));
            series.push(Series { labels, samples, ..Series::default() });
        }
    }
    series
}

/// One number in a hundred, as dice would have it: the finaliser of SplitMix64.
fn is_unlucky(number: u64) -> bool {
    let mut hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31)).is_multiple_of(100)
}
