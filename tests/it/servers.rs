//! The helpers themselves: servers start, answer, fail on demand and go away.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tests::load::{Load, Target};
use tests::prometheus::{PrometheusServer, ScrapeJob, ScrapeTarget};
use tests::victim::{Release, Victim};
use tests::{binaries, journal, ports, process::Process, wait};

const SCRAPE_INTERVAL: Duration = Duration::from_millis(200);
/// Generous: a busy machine with two cores runs several tests at once.
const PATIENCE: Duration = Duration::from_secs(20);

fn job(victim: &Victim) -> ScrapeJob {
    let labels = BTreeMap::from([("service".to_owned(), "shop".to_owned())]);
    ScrapeJob {
        name: "shop".to_owned(),
        targets: vec![ScrapeTarget { address: victim.address().to_string(), labels }],
    }
}

async fn wait_for_value(server: &PrometheusServer, promql: &str, expected: f64) -> Result<()> {
    wait::until(&format!("{promql} = {expected}"), PATIENCE, async || {
        let samples = server.query(promql).await?;
        Ok(samples.iter().any(|sample| sample.value == expected).then_some(()))
    })
    .await
}

fn listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

#[tokio::test]
async fn a_real_prometheus_scrapes_the_service_and_sees_it_go_dark_and_change() -> Result<()> {
    let mut good = Victim::start(&Release::healthy("v1")).await?;
    let server = PrometheusServer::start(&[job(&good)], SCRAPE_INTERVAL).await?;
    wait_for_value(&server, "up{job=\"shop\",service=\"shop\"}", 1.0).await?;
    wait_for_value(&server, "http_requests_total{code=\"500\",version=\"v1\"}", 0.0).await?;

    good.serve_metrics(false).await?;
    wait_for_value(&server, "up", 0.0).await?;
    good.serve_metrics(true).await?;
    wait_for_value(&server, "up", 1.0).await?;
    good.process().kill()?;
    wait_for_value(&server, "up", 0.0).await?;

    let next = Victim::start(&Release::healthy("v2")).await?;
    server.scrape(&[job(&next)]).await?;
    wait_for_value(&server, "queue_depth{version=\"v2\"}", 0.0).await?;
    assert!(server.query("no_such_series").await?.is_empty());
    let refused = server.query("sum(").await.unwrap_err();
    assert!(format!("{refused:#}").contains("parse error"), "{refused:#}");
    Ok(())
}

#[tokio::test]
async fn a_paused_prometheus_is_silent_and_a_stopped_one_refuses() -> Result<()> {
    let mut server = PrometheusServer::start(&[], SCRAPE_INTERVAL).await?;
    assert_eq!(server.query("vector(1)").await?[0].value, 1.0);
    server.pause()?;
    let impatient = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
    let url = format!("{}/-/ready", server.url());
    assert!(impatient.get(&url).send().await.unwrap_err().is_timeout());
    server.resume()?;
    assert_eq!(server.query("vector(1)").await?[0].value, 1.0);
    server.stop()?;
    assert!(impatient.get(&url).send().await.unwrap_err().is_connect());
    assert!(server.query("vector(1)").await.is_err());
    assert!(server.resume().is_err(), "what has been killed cannot go on");
    Ok(())
}

#[tokio::test]
async fn the_load_keeps_its_rate_counts_answers_and_follows_the_target() -> Result<()> {
    let slow = Release { latency: Duration::from_millis(300), ..Release::healthy("slow") };
    let bad = Release { error_rate: 0.5, ..Release::healthy("bad") };
    let first = Victim::start(&slow).await?;
    let second = Victim::start(&bad).await?;
    let target = Target::new(first.address());
    let load = Load::start(target.clone(), 100)?;
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    // On average: what a busy machine held up is sent later.
    let mut last = String::new();
    let kept = wait::until("the load to keep its rate", Duration::from_secs(20), async || {
        let (seen, expected) = (load.answers(), began.elapsed().as_secs_f64() * 100.0);
        last = format!("{seen:?}: expected about {expected} sent: a slow service gets no fewer");
        let rate_error = (seen.sent as f64 - expected).abs() / expected;
        assert_eq!((seen.lost, seen.dropped), (0, 0), "{seen:?}");
        Ok((rate_error < 0.15 && seen.sent > seen.good + seen.bad).then_some(()))
    });
    kept.await.context("a slow service keeps requests waiting").with_context(|| last.clone())?;

    target.set(second.address());
    tokio::time::sleep(Duration::from_secs(2)).await;
    drop(load);
    // Dropped means stopped: once what was under way has ended, nothing arrives any more.
    let mut before = String::new();
    let metrics = wait::until("the last requests to end", PATIENCE, async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = second.metrics().await?;
        let same = now == before;
        before.clone_from(&now);
        Ok(same.then_some(now))
    })
    .await?;
    let count = |code: &str| -> f64 {
        let series = format!("http_requests_total{{code=\"{code}\",version=\"bad\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).parse().unwrap()
    };
    let share = count("500") / (count("200") + count("500"));
    // 200 draws of one half: 0.5 give or take 0.14 is four standard deviations.
    assert!((share - 0.5).abs() < 0.14, "{share} of the answers were errors, half was asked for\n{metrics}");
    let total =
        format!("http_request_duration_seconds_count{{version=\"bad\"}} {}", count("200") + count("500"));
    assert!(metrics.contains(&total), "the histogram counts what the counter counts:\n{metrics}");
    Ok(())
}

#[tokio::test]
async fn a_load_without_a_service_loses_its_requests() -> Result<()> {
    let nobody = SocketAddr::from(([127, 0, 0, 1], ports::free_port()?));
    let load = Load::start(Target::new(nobody), 50)?;
    wait::until("lost requests", PATIENCE, async || Ok((load.answers().lost >= 5).then_some(()))).await?;
    assert_eq!((load.answers().good, load.answers().bad), (0, 0));
    Ok(())
}

#[tokio::test]
async fn children_die_with_their_handle_and_with_a_panic() -> Result<()> {
    let victim = Victim::start(&Release::healthy("v1")).await?;
    let address = victim.address();
    assert!(listens(address));
    drop(victim);
    assert!(!listens(address), "the service outlived its handle");

    let server = PrometheusServer::start(&[], SCRAPE_INTERVAL).await?;
    let address: SocketAddr = server.url().trim_start_matches("http://").parse()?;
    assert!(listens(address));
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(move || {
        let _server = server;
        panic!("on purpose, to see the server go");
    }));
    assert!(panicked.is_err());
    assert!(!listens(address), "the server outlived a panic");
    Ok(())
}

#[tokio::test]
async fn the_children_of_a_child_go_with_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let mut shell = Command::new("sh");
    shell.args(["-c", "sleep 600 & echo $!; wait"]);
    let mut process = Process::start(shell, &log)?;
    let grandchild: u32 = wait::until("the grandchild", PATIENCE, async || {
        Ok(std::fs::read_to_string(&log)?.trim().parse().ok())
    })
    .await?;
    let command_line = format!("/proc/{grandchild}/cmdline");
    // Empty for a zombie, absent once it is reaped.
    let runs = || std::fs::read(&command_line).is_ok_and(|text| !text.is_empty());
    assert!(runs() && !process.has_ended()?);
    process.kill()?;
    wait::until("the end of the grandchild", PATIENCE, async || Ok((!runs()).then_some(()))).await?;
    assert!(process.has_ended()?);
    Ok(())
}

#[tokio::test]
async fn the_journal_holds_each_effect_once_and_survives_a_kill() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal");
    let log = folder.path().join("log");
    let effect = |name: &str, more: &[&str]| -> Result<Process> {
        let mut command = Command::new(binaries::path("effect")?);
        command
            .arg("--journal")
            .arg(&path)
            .args(["--plan", "p1", "--step", "s1", "--key", "k1", "--name", name]);
        command.args(more);
        Process::start(command, &log)
    };
    assert!(journal::read(&path).is_err(), "a wrong path is not an empty journal");
    assert_ne!(effect("no journal", &[])?.end(PATIENCE).await?.code(), Some(0));
    journal::create(&path)?;
    assert!(journal::read(&path)?.is_empty());

    assert_eq!(effect("one", &["--exit", "3"])?.end(PATIENCE).await?.code(), Some(3));
    let mut too_early = effect("never", &["--sleep-before-ms", "60000"])?;
    let mut too_late = effect("two", &["--sleep-after-ms", "60000"])?;
    let both = async || Ok(Some(journal::read(&path)?).filter(|effects| effects.len() >= 2));
    let effects = wait::until("the second effect", PATIENCE, both).await?;
    too_early.kill()?;
    too_late.kill()?;
    assert_eq!(journal::read(&path)?, effects);
    assert_eq!(effects.iter().map(|effect| effect.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    let second = &effects[1];
    assert_eq!((second.plan.as_str(), second.step.as_str(), second.key.as_str()), ("p1", "s1", "k1"));
    assert_eq!(second.pid, too_late.pid());

    let torn = folder.path().join("torn");
    std::fs::write(&torn, "{\"time\":")?;
    assert!(journal::read(&torn).unwrap_err().to_string().contains("torn"));
    std::fs::write(&torn, "{}\n")?;
    assert!(journal::read(&torn).unwrap_err().to_string().contains("torn:1"));
    Ok(())
}

#[tokio::test]
async fn a_started_service_tells_the_journal_and_a_refused_one_says_why() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal");
    journal::create(&path)?;
    let release = Release { journal: Some(path.clone()), ..Release::healthy("v7") };
    let mut victim = Victim::start(&release).await?;
    let started = journal::read(&path)?;
    assert_eq!(started.len(), 1);
    assert_eq!((started[0].key.as_str(), started[0].pid), ("v7", victim.process().pid()));

    let broken = Release { error_rate: 2.0, ..Release::healthy("v8") };
    let refused = Victim::start(&broken).await.unwrap_err();
    assert!(refused.to_string().contains("between 0 and 1"), "{refused:#}");
    Ok(())
}
