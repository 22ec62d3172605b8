//! `turnback analyze` on real systems: pods of two releases, users, a Prometheus that scrapes them, and every exit code.
//!
//! The errors of the pods are independent by construction, and the analyses are told so (`--dispersion 1`): the minutes of
//! a past from which it would be estimated are more than a test has.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tests::arms::{Arms, Side};
use tests::binaries;
use tests::load::{Load, Target};
use tests::process::Process;
use tests::prometheus::PrometheusServer;
use tests::victim::Release;
use tests::wait;

/// From a start to what is waited for; generous, on a busy machine with two cores.
const PATIENCE: Duration = Duration::from_secs(60);

const ERRORS: [&str; 4] = ["--errors", "http_requests_total{job=\"checkout\"}", "--bad", "code=5.."];
const LATENCY: [&str; 2] = ["--latency", "http_request_duration_seconds_bucket{job=\"checkout\"}"];

/// `turnback analyze` as a child process.
struct Analysis {
    process: Process,
    folder: TempDir,
}

impl Analysis {
    fn start(prometheus: &str, words: &[&str]) -> Result<Analysis> {
        let folder = tempfile::tempdir().context("making a folder for the analysis")?;
        let mut command = Command::new(binaries::path("turnback-under-test")?);
        // Whatever runs these tests is not what the analysis should report to.
        command.env_remove("GITHUB_STEP_SUMMARY").env_remove("GITHUB_ACTIONS");
        command.args(["analyze", "--service", "checkout", "--prometheus", prometheus, "--settle", "500ms"]);
        command.args(["--dispersion", "1"]).args(words);
        command.arg("--report").arg(folder.path().join("report.json"));
        let process = Process::start(command, &folder.path().join("log"))?;
        Ok(Analysis { process, folder })
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Waits until it has read the past and looks.
    async fn looks(&self) -> Result<()> {
        wait::until("the analysis to look", PATIENCE, async || {
            ensure!(!self.process.has_ended()?, "it ended: {}", self.process.last_words());
            let said = std::fs::read_to_string(self.log()).unwrap_or_default();
            Ok(said.contains("analyze: inconclusive").then_some(()))
        })
        .await
    }

    /// Waits for its end: the exit code, the report, and the text on its standard output and error.
    async fn ended(mut self, limit: Duration) -> Result<(i32, Value, String)> {
        let status = self.process.end(limit).await.with_context(|| self.process.last_words())?;
        let said = std::fs::read_to_string(self.log())?;
        let report = std::fs::read_to_string(self.folder.path().join("report.json"))?;
        let report = serde_json::from_str(&report).with_context(|| said.clone())?;
        Ok((status.code().context("the analysis was killed")?, report, said))
    }
}

/// Two arms with users of their own, seen by a Prometheus.
struct Stage {
    arms: Arms,
    _loads: Vec<Load>,
    prometheus: PrometheusServer,
}

impl Stage {
    /// `rate` requests a second to each arm.
    async fn open(pods: usize, release: &Release, rate: u32, scrape: Duration) -> Result<Stage> {
        let canary = Release { version: "v2".into(), ..release.clone() };
        let arms = Arms::start(pods, release, &canary).await?;
        let loads = vec![arms.load(Side::Control, rate)?, arms.load(Side::Canary, rate)?];
        let prometheus = PrometheusServer::start(&arms.jobs(), scrape).await?;
        let stage = Stage { arms, _loads: loads, prometheus };
        stage.seen().await?;
        Ok(stage)
    }

    /// Waits until each pod was scraped twice, so that there is something to count.
    async fn seen(&self) -> Result<()> {
        let query = "min(count_over_time(up{job=\"checkout\"}[2m]))";
        wait::until("each pod to be scraped twice", PATIENCE, async || {
            let samples = self.prometheus.query(query).await?;
            Ok(samples.iter().any(|sample| sample.value >= 2.0).then_some(()))
        })
        .await
    }

    fn analyze(&self, words: &[&[&str]]) -> Result<Analysis> {
        let arms: &[&str] = &["--canary", "track=canary", "--control", "track=control"];
        Analysis::start(self.prometheus.url(), &[arms, &words.concat()].concat())
    }
}

fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What one go of a measurement by the clock came to: the dice of another one fall differently, and a machine that was busy
/// may be less so.
type Go = std::result::Result<(), String>;

/// Lets it be tried with these dice, and with others if need be; each go that did not succeed says why.
async fn in_some_goes(go: impl AsyncFn(u64) -> Result<Go>) -> Result<()> {
    let mut failed = Vec::new();
    for dice in 1..=3 {
        match go(dice).await? {
            Ok(()) => return Ok(()),
            Err(why) => {
                println!("go {dice}: {why}");
                failed.push(why);
            }
        }
    }
    anyhow::bail!("in no go of three: {}", failed.join("\n"))
}

#[tokio::test]
async fn an_identical_pair_is_healthy_by_its_own_proof() -> Result<()> {
    in_some_goes(async |seed| {
        // Two percent: more than what is healthy whatever the control does, so that only the comparison can show it.
        let release = Release { error_rate: 0.02, seed, ..Release::healthy("v1") };
        let stage = Stage::open(1, &release, 100, second(1)).await?;
        let began = Instant::now();
        let analysis = stage.analyze(&[&ERRORS, &["--for", "90s", "--soak", "10s", "--every", "1s"]])?;
        let (code, report, said) = analysis.ended(second(150)).await?;
        println!("an identical pair: {} after {:.1?}", report["verdict"], began.elapsed());
        ensure!(code != 1 && report["verdict"] != "degraded", "{said}");
        if (code, &report["verdict"]) != (0, &"healthy".into()) {
            return Ok(Err(said));
        }
        let signal = &report["signals"][0];
        ensure!(signal["canary"]["share"].as_f64() > Some(0.01), "{said}");
        ensure!(signal["pass"]["evidence"].as_f64() >= signal["pass"]["needed"].as_f64(), "{said}");
        Ok(Ok(()))
    })
    .await
}

#[tokio::test]
async fn five_times_the_errors_are_found_within_half_a_minute() -> Result<()> {
    in_some_goes(async |seed| {
        let release = Release { seed, ..Release::healthy("v1") };
        let stage = Stage::open(1, &release, 50, second(5)).await?;
        let analysis = stage.analyze(&[&ERRORS, &["--for", "100s", "--soak", "1m", "--every", "1s"]])?;
        analysis.looks().await?;
        tokio::time::sleep(second(10)).await;
        stage.arms.step_errors(Side::Canary, 0.05).await?;
        let stepped = Instant::now();
        let (code, report, said) = analysis.ended(second(150)).await?;
        let took = stepped.elapsed();
        println!(
            "errors from 1 % to 5 % at 50 requests/s, scraped each 5 s: {} after {took:.1?}",
            report["verdict"]
        );
        let found = (code, &report["verdict"], &report["row"]);
        if found != (1, &"degraded".into(), &"canary-errors".into()) || took > second(30) {
            return Ok(Err(format!("{took:?}: {said}")));
        }
        ensure!(report["worse_signals"] == serde_json::json!(["errors"]), "{said}");
        Ok(Ok(()))
    })
    .await
}

#[tokio::test]
async fn twice_the_latency_is_found_within_a_minute() -> Result<()> {
    in_some_goes(async |seed| {
        // 95 % are faster than 46 ms; the edge above is 50 ms.
        let latency = Duration::from_millis(20);
        let release = Release { latency, spread: Some(0.5), seed, ..Release::healthy("v1") };
        let stage = Stage::open(1, &release, 50, second(5)).await?;
        let how = ["--for", "100s", "--soak", "1m", "--warm-up", "5s", "--every", "1s"];
        let analysis = stage.analyze(&[&ERRORS, &LATENCY, &how])?;
        analysis.looks().await?;
        tokio::time::sleep(second(15)).await;
        stage.arms.step_latency(Side::Canary, Duration::from_millis(40)).await?;
        let stepped = Instant::now();
        let (code, report, said) = analysis.ended(second(150)).await?;
        let took = stepped.elapsed();
        println!("p95 times two at 50 requests/s, scraped each 5 s: {} after {took:.1?}", report["verdict"]);
        let worse = &report["worse_signals"];
        if (code, worse) != (1, &serde_json::json!(["latency"])) || took > second(60) {
            return Ok(Err(format!("{took:?}: {said}")));
        }
        ensure!(report["verdict"] == "degraded", "{said}");
        Ok(Ok(()))
    })
    .await
}

#[tokio::test]
async fn one_bad_pod_of_five_is_named_and_is_no_bad_release() -> Result<()> {
    let stage = Stage::open(5, &Release::healthy("v1"), 50, second(1)).await?;
    stage.arms.canary[2].set_errors(0.3).await?;
    let analysis = stage.analyze(&[&ERRORS, &["--for", "40s", "--soak", "10s", "--every", "2s"]])?;
    let (code, report, said) = analysis.ended(second(60)).await?;
    assert_eq!((code, &report["verdict"]), (3, &"inconclusive".into()), "{said}");
    assert_eq!(report["signals"][0]["outliers"], serde_json::json!(["canary-2"]), "{said}");
    assert!(said.contains("outlier   canary-2"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_prometheus_that_dies_in_the_middle_is_blind() -> Result<()> {
    let mut stage = Stage::open(1, &Release::healthy("v1"), 20, second(1)).await?;
    // Bad enough for a verdict in seconds, had it been seen for long enough.
    let how = ["--for", "90s", "--soak", "1m", "--every", "1s", "--blind-after", "6s"];
    let analysis = stage.analyze(&[&ERRORS, &how])?;
    analysis.looks().await?;
    tokio::time::sleep(second(5)).await;
    stage.prometheus.stop()?;
    let stopped = Instant::now();
    stage.arms.step_errors(Side::Canary, 0.5).await?;
    let (code, report, said) = analysis.ended(second(60)).await?;
    println!("Prometheus killed: blind after {:.1?}", stopped.elapsed());
    assert_eq!((code, &report["verdict"]), (4, &"blind".into()), "{said}");
    assert!(report["blind"][0][1].as_str().is_some_and(|why| why.contains("cannot be reached")), "{said}");
    assert!(report["signals"][0]["canary"]["total"].as_f64() > Some(0.0), "it was seen before: {said}");
    Ok(())
}

#[tokio::test]
async fn too_little_traffic_is_inconclusive_and_says_how_much_is_missing() -> Result<()> {
    let spotless = Release { error_rate: 0.0, ..Release::healthy("v1") };
    let stage = Stage::open(1, &spotless, 1, second(1)).await?;
    let analysis = stage.analyze(&[&ERRORS, &["--for", "15s", "--every", "1s"]])?;
    let (code, report, said) = analysis.ended(second(40)).await?;
    assert_eq!((code, &report["verdict"]), (3, &"inconclusive".into()), "{said}");
    let more = report["signals"][0]["requests_to_pass"].as_u64().unwrap_or_default();
    assert!(more > 100 && said.contains(&format!("errors: about {more} more requests")), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_tenth_of_the_traffic_through_envoy_is_enough_to_find_a_bad_canary() -> Result<()> {
    let control = Release::healthy("v1");
    let canary = Release { version: "v2".into(), ..control.clone() };
    let arms = Arms::start(1, &control, &canary).await?;
    let envoy = arms.envoy(90, 10).await?;
    let loads = vec![Load::start(Target::new(envoy.address()), 150)?];
    let prometheus = PrometheusServer::start(&arms.jobs(), second(1)).await?;
    let stage = Stage { arms, _loads: loads, prometheus };
    stage.seen().await?;
    let how = ["--share", "10%", "--for", "90s", "--soak", "1m", "--every", "1s"];
    let analysis = stage.analyze(&[&ERRORS, &how])?;
    analysis.looks().await?;
    tokio::time::sleep(second(10)).await;
    stage.arms.step_errors(Side::Canary, 0.2).await?;
    let stepped = Instant::now();
    let (code, report, said) = analysis.ended(second(80)).await?;
    println!("20 % errors of a tenth of 150 requests/s: degraded after {:.1?}", stepped.elapsed());
    assert_eq!((code, &report["verdict"]), (1, &"degraded".into()), "{said}");
    assert!(report["row"].as_str().is_some_and(|row| row.starts_with("canary-errors")), "{said}");
    let signal = &report["signals"][0];
    let (own, other) = (&signal["canary"]["total"], &signal["reference"]["control"]["total"]);
    let (own, other) = (own.as_f64().unwrap_or_default(), other.as_f64().unwrap_or_default());
    assert!((0.05..0.15).contains(&(own / (own + other))), "{own} beside {other}: {said}");
    Ok(())
}

#[tokio::test]
async fn after_is_compared_with_before_where_there_is_no_canary() -> Result<()> {
    let stage = Stage::open(1, &Release::healthy("v1"), 100, second(1)).await?;
    // What is "before" must have been.
    tokio::time::sleep(second(20)).await;
    let deployed = jiff::Timestamp::now();
    stage.arms.step_errors(Side::Canary, 0.2).await?;
    tokio::time::sleep(second(5)).await;
    let at = deployed.to_string();
    let mut words =
        vec!["--errors", "http_requests_total{track=\"canary\"}", "--bad", "code=5..", "--every", "1s"];
    words.extend(["--deployed-at", &at, "--before", "20s", "--gap", "0s", "--for", "60s"]);
    let began = Instant::now();
    let analysis = Analysis::start(stage.prometheus.url(), &words)?;
    let (code, report, said) = analysis.ended(second(70)).await?;
    println!("after against before: degraded {:.1?} after the analysis was started", began.elapsed());
    assert_eq!((code, &report["verdict"]), (1, &"degraded".into()), "{said}");
    assert_eq!(report["compared"], "after against before", "{said}");
    assert!(report["signals"][0]["reference"]["before"].is_object(), "{said}");
    Ok(())
}

#[tokio::test]
async fn ctrl_c_ends_it_with_130() -> Result<()> {
    let words = [&ERRORS[..], &["--canary", "track=canary", "--for", "60s"]].concat();
    let analysis = Analysis::start("http://127.0.0.1:9", &words)?;
    wait::until("the analysis to run", PATIENCE, async || {
        let said = std::fs::read_to_string(analysis.log()).unwrap_or_default();
        Ok(said.contains("analyze: reading the time before").then_some(()))
    })
    .await?;
    analysis.process.signal(Signal::SIGINT)?;
    let mut process = analysis.process;
    assert_eq!(process.end(second(10)).await?.code(), Some(130));
    Ok(())
}
