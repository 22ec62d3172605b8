//! Canary analysis through the daemon, on real systems: two arms of real pods side by side, a real Prometheus that scrapes
//! them every five seconds, a real Envoy where users are split, and the verdict that comes out.

#[path = "canary/rig.rs"]
mod rig;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rig::{LATENCY, PATIENCE, Rig, Service, number, release, signal};
use serde_json::Value;
use tests::arms::{Arms, Side};
use tests::load::{Load, Target};
use tests::victim::Release;
use tests::wait;

/// Requests a second and arm.
const RATE: u32 = 50;

const OBSERVED: Service = Service { autonomy: "observe", ..Service::USUAL };

/// What a card of a found degradation must tell of the signal that it rests on.
fn is_told(card: &Value, name: &str, step: f64) -> Result<()> {
    let told = signal(card, name)?;
    let comparison = &told["comparison"];
    ensure!(comparison["truth"] == "holds", "{told:#}");
    let (now, control) = (number(comparison, "/now")?, number(comparison, "/before")?);
    ensure!(now > control && number(comparison, "/n")? > 100.0, "{told:#}");
    ensure!(number(comparison, "/interval/lower")? < now && number(comparison, "/interval/upper")? > now);
    ensure!(number(comparison, "/ratio/now")? > 1.25 && number(comparison, "/ratio/threshold")? == 1.25);
    ensure!(number(comparison, "/ratio/control_n")? > 100.0, "{told:#}");
    let ratio = |end: &str| number(comparison, &format!("/ratio/interval/{end}"));
    ensure!(ratio("lower")? > 0.0 && ratio("lower")? < ratio("upper")?, "{told:#}");
    // What was shown once stays shown, even if it looks a little better meanwhile.
    ensure!(number(comparison, "/log_e_needed")? > 4.0 && number(comparison, "/log_e")? > 0.0, "{told:#}");
    let began = |when: &str| number(comparison, &format!("/beginning/{when}"));
    let (earliest, median, latest) = (began("earliest")?, began("seconds")?, began("latest")?);
    println!(
        "{name} began {earliest:.0} … {median:.0} … {latest:.0} s after the deployment, in truth {step:.0} s"
    );
    ensure!(earliest <= median && median <= latest, "{told:#}");
    // Four times in five it lies between them; a scrape of either arm is what the beginning cannot be told from.
    ensure!(earliest - 10.0 <= step && step <= latest + 10.0, "{told:#}");
    ensure!(told["coverage"] == "full", "{told:#}");
    let text = card["text"].as_str().unwrap_or_default();
    for part in ["now       ", "control ", "interval  ", "times the control", "coverage  full", "worse     "]
    {
        ensure!(text.contains(part), "{part:?} is missing in {text}");
    }
    ensure!(text.contains("believed at ") && text.contains("began     "), "{text}");
    Ok(())
}

/// One pod each, and a canary that goes from one to five percent so long after it was deployed; how long it took to be
/// found. `dice`: which series of them.
async fn step_to_five_percent(statistics: &'static str, wait: Duration, dice: u64) -> Result<Duration> {
    let service = Service { statistics, more_signals: LATENCY, ..OBSERVED };
    let rolled = |version| Release { seed: dice, ..release(version) };
    let arms = Arms::start(1, &rolled("v1"), &rolled("v2")).await?;
    let rig = Rig::open(arms, &[], &[service], true).await?;
    let _users = [rig.arms.load(Side::Control, RATE)?, rig.arms.load(Side::Canary, RATE)?];
    rig.deploy().await?;
    let deployed = Instant::now();
    tokio::time::sleep(wait).await;
    let (step, after) = (Instant::now(), deployed.elapsed().as_secs_f64());
    rig.arms.step_errors(Side::Canary, 0.05).await?;
    let (took, card) = rig.until_degraded(step, PATIENCE).await?;
    ensure!(card["row"] == "canary-errors", "{card:#}");
    is_told(&card, "errors", after)?;
    Ok(took)
}

/// Lets it be measured once, and once more with other dice if it took longer than `limit`, or came out otherwise than it
/// should: one go that is not as it should be happens, two in a row are a finding.
async fn in_two_goes(limit: Duration, go: impl AsyncFn(u64) -> Result<Duration>) -> Result<()> {
    let mut failed = Vec::new();
    for dice in 1..=2 {
        match go(dice).await {
            Ok(took) if took <= limit => return Ok(()),
            Ok(took) => failed.push(format!("{took:?}")),
            Err(error) => failed.push(format!("{error:#}")),
        }
        println!("go {dice}: {}", failed.last().map_or("", String::as_str));
    }
    bail!("in neither go within {limit:?}: {}", failed.join("\n"))
}

/// Of 150 such steps in a simulation half are decided within 17 s and nine of ten within 29 s.
#[tokio::test]
async fn a_step_from_one_to_five_percent_is_decided_in_half_a_minute() -> Result<()> {
    let go = async |dice| step_to_five_percent("dispersion: 1", Duration::ZERO, dice).await;
    in_two_goes(Duration::from_secs(30), go).await
}

/// A release that turns bad later has its good time against it, and the many moments at which it could have. Here the
/// dispersion is estimated from the past, a quarter more than independent errors have: half are decided within 28 s, nine
/// of ten within 39 s.
#[tokio::test]
async fn a_step_in_the_middle_of_the_watch_is_decided_and_dated_too() -> Result<()> {
    let go = async |dice| step_to_five_percent("", Duration::from_secs(20), dice).await;
    in_two_goes(Duration::from_secs(75), go).await
}

#[tokio::test]
async fn a_p95_that_doubles_is_decided_in_a_minute() -> Result<()> {
    in_two_goes(Duration::from_secs(60), async |dice| {
        let rolled = |version| Release { seed: dice, ..release(version) };
        let arms = Arms::start(2, &rolled("v1"), &rolled("v2")).await?;
        let service = Service { more_signals: LATENCY, ..OBSERVED };
        let rig = Rig::open(arms, &[], &[service], false).await?;
        let _users = [rig.arms.load(Side::Control, RATE)?, rig.arms.load(Side::Canary, RATE)?];
        rig.deploy().await?;
        let deployed = Instant::now();
        tokio::time::sleep(Duration::from_secs(15)).await;
        let (step, after) = (Instant::now(), deployed.elapsed().as_secs_f64());
        rig.arms.step_latency(Side::Canary, 2 * release("v2").latency).await?;
        let (took, card) = rig.until_degraded(step, PATIENCE).await?;
        ensure!(card["row"] == "canary-slower", "{card:#}");
        is_told(&card, "latency", after)?;
        Ok(took)
    })
    .await
}

/// Ninety to ten, and one request in twenty fails on both sides: what a fixed bound would complain of for ever is no fault
/// of the release.
#[tokio::test]
async fn an_identical_pair_behind_envoy_ends_healthy_by_non_inferiority() -> Result<()> {
    let faulty = |version: &str| Release { error_rate: 0.05, ..release(version) };
    let arms = Arms::start(2, &faulty("v1"), &faulty("v2")).await?;
    let envoy = arms.envoy(90, 10).await?;
    let service = Service { watch: "watch_for: 60s, soak: 25s", statistics: "", ..Service::USUAL };
    let rig = Rig::open(arms, &[envoy.job()], &[service], true).await?;
    let _users = Load::start(Target::new(envoy.address()), 3 * RATE)?;
    rig.deploy().await?;
    let deployed = Instant::now();
    // From its first requests on: a lucky canary may have passed ten seconds later, and then nothing is missing.
    wait::until("what is still missing to be told", PATIENCE, async || {
        let card = rig.card("checkout").await?;
        let missing = signal(&card, "errors")?["requests_to_pass"].as_f64();
        if missing.is_some() {
            assert_eq!(card["verdict"], "inconclusive", "{card:#}");
        }
        Ok(missing.filter(|missing| *missing > 0.0))
    })
    .await?;
    let watch = rig.daemon.until_closed("checkout", PATIENCE).await?;
    println!("closed {:.1?} after the deployment", deployed.elapsed());
    let card = rig.card("checkout").await?;
    assert_eq!(watch["phase"], "closed: healthy", "{card:#}");
    let told = signal(&card, "errors")?;
    assert!(number(told, "/pass")? >= number(told, "/pass_needed")?, "{told:#}");
    assert_eq!(number(told, "/pass_needed")?, -(0.05_f64.ln()));
    let (canary, control) = (number(told, "/total")?, number(told, "/control/1")?);
    let share = canary / (canary + control);
    assert!((0.05..0.15).contains(&share), "{share} of {} went to the canary", canary + control);
    rig.assert_left_alone().await
}

#[tokio::test]
async fn one_bad_pod_of_five_is_named_and_not_turned_back() -> Result<()> {
    let rig = Rig::usual(5, Service::USUAL, false).await?;
    let _users = [rig.arms.load(Side::Control, RATE)?, rig.arms.load(Side::Canary, RATE)?];
    rig.deploy().await?;
    // Until all of them were scraped, the first one that was is the release for all that anybody knows.
    tokio::time::sleep(Duration::from_secs(10)).await;
    // Together they are as bad as a canary of which one request in eight fails.
    rig.arms.canary[3].set_errors(0.6).await?;
    let step = Instant::now();
    let named = wait::until("the pod to be named", PATIENCE, async || {
        let watch = rig.daemon.watch("checkout").await?;
        assert!(!watch["verdict"].as_str().unwrap_or_default().starts_with("degraded"), "{watch:#}");
        let id = watch["id"].as_str().unwrap_or_default();
        let card = rig.daemon.get(&format!("/v1/watches/{id}/explanation")).await?;
        let names = signal(&card, "errors")?["outliers"].clone();
        Ok(names.as_array().is_some_and(|names| !names.is_empty()).then_some(names))
    })
    .await?;
    println!("named {:.1?} after the step: {named}", step.elapsed());
    assert_eq!(named, serde_json::json!(["canary-3"]));
    // As long again as the whole canary would have had to be found at five percent.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let card = rig.card("checkout").await?;
    assert_eq!(card["verdict"], "inconclusive", "{card:#}");
    assert!(number(signal(&card, "errors")?, "/comparison/now")? > 0.08, "{card:#}");
    assert!(card["text"].as_str().is_some_and(|text| text.contains("canary-3 is an outlier")), "{card:#}");
    rig.assert_left_alone().await
}

#[tokio::test]
async fn a_prometheus_killed_in_the_middle_of_a_canary_is_one_page_and_no_rollback() -> Result<()> {
    let service = Service { watch: "watch_for: 45s, soak: 10s", ..Service::USUAL };
    let mut rig = Rig::usual(1, service, false).await?;
    let _users = [rig.arms.load(Side::Control, RATE)?, rig.arms.load(Side::Canary, RATE)?];
    rig.deploy().await?;
    tokio::time::sleep(Duration::from_secs(12)).await;
    rig.prometheus.stop()?;
    // Bad, and nobody can see it.
    rig.arms.step_errors(Side::Canary, 0.5).await?;
    let watch = rig.daemon.until_closed("checkout", PATIENCE).await?;
    let card = rig.card("checkout").await?;
    assert_eq!(watch["phase"], "closed: blind", "{card:#}");
    let log = rig.daemon.log();
    let pages =
        log.lines().filter(|line| line.contains("checkout v2 cannot see: telemetry is broken")).count();
    assert_eq!(pages, 1, "{log}");
    rig.assert_left_alone().await
}

/// Its metrics go on, but nobody reaches it: a release that turns users away has no errors to show.
#[tokio::test]
async fn a_canary_that_nobody_reaches_is_starved() -> Result<()> {
    let arms = Arms::start(1, &release("v1"), &release("v2")).await?;
    let mut envoy = arms.envoy(90, 10).await?;
    let compare = r#"canary: { version: "{{version}}" }, control: { version: "{{previous}}" }, share: 10%"#;
    // One is only looked at, so that its card stays that of the finding; the other is acted on.
    let looked_at = Service { compare, ..OBSERVED };
    let acted_on = Service { name: "billing", compare, ..Service::USUAL };
    let rig = Rig::open(arms, &[], &[looked_at, acted_on], true).await?;
    let _users = Load::start(Target::new(envoy.address()), 2 * RATE)?;
    rig.deploy().await?;
    rig.daemon.deployed("billing", "v2", Some("v1")).await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    envoy.set_weights(&[("canary", 0)]).await?;
    let (_, card) = rig.until_degraded(Instant::now(), PATIENCE).await?;
    assert_eq!(card["row"], "canary-starved", "{card:#}");
    let row = card["rows"].as_array().into_iter().flatten().find(|row| row["row"] == "canary-starved");
    let finding = &row.map(|row| row["findings"][0].clone()).unwrap_or_default();
    assert_eq!((&finding["truth"], &finding["what"]), (&"holds".into(), &"share of the traffic".into()));
    assert!(number(finding, "/now")? < number(finding, "/threshold")?, "{finding:#}");
    wait::until(
        "the canary to be taken out",
        PATIENCE,
        async || Ok((rig.effects()?.len() == 1).then_some(())),
    )
    .await
}

/// A label or a value that no series has: nothing is known of such a canary, and nothing is held against it.
#[tokio::test]
async fn a_canary_with_a_mistyped_label_is_blind_and_not_degraded() -> Result<()> {
    let (value, label) = (
        r#"canary: { version: "{{version}}-canary" }, control: { version: "{{previous}}" }"#,
        r#"canary: { verison: "{{version}}" }"#,
    );
    let service = |name, compare| Service { name, compare, ..Service::USUAL };
    let arms = Arms::start(1, &release("v1"), &Release { error_rate: 0.5, ..release("v2") }).await?;
    let rig = Rig::open(arms, &[], &[service("value", value), service("label", label)], false).await?;
    let _users = [rig.arms.load(Side::Control, RATE)?, rig.arms.load(Side::Canary, RATE)?];
    for (name, why) in [("value", "no series matches"), ("label", "has the label \"verison\"")] {
        rig.daemon.deployed(name, "v2", Some("v1")).await?;
        let blind = |watch: &Value| watch["verdict"] == "blind";
        rig.daemon.until_watch(name, "the watch to be blind", PATIENCE, blind).await?;
        let card = rig.card(name).await?;
        let coverage = &signal(&card, "errors")?["coverage"];
        assert!(coverage.as_str().is_some_and(|words| words.contains(why)), "{coverage}");
    }
    rig.assert_left_alone().await
}

#[tokio::test]
async fn a_bad_canary_is_taken_out_once_and_the_service_is_well_again() -> Result<()> {
    let arms = Arms::start(1, &release("v1"), &Release { error_rate: 0.25, ..release("v2") }).await?;
    let mut envoy = arms.envoy(50, 50).await?;
    let service = Service { statistics: "healthy_below: 3%, dispersion: 1", ..Service::USUAL };
    let mut rig = Rig::open(arms, &[envoy.job()], &[service], true).await?;
    let _users = Load::start(Target::new(envoy.address()), 2 * RATE)?;
    rig.deploy().await?;
    let deployed = Instant::now();
    wait::until("the canary to be taken out", PATIENCE, async || {
        Ok((!rig.effects()?.is_empty()).then_some(()))
    })
    .await?;
    println!("taken out {:.1?} after the deployment", deployed.elapsed());
    envoy.set_weights(&[("canary", 0)]).await?;
    rig.arms.canary[0].process().kill()?;
    let watch = rig.daemon.until_closed("checkout", PATIENCE).await?;
    println!("closed {:.1?} after the deployment", deployed.elapsed());
    let story = rig.daemon.story("checkout").await;
    assert_eq!(watch["phase"], "closed: rolled back, recovered", "{story}");
    let effects = rig.effects()?;
    assert_eq!(effects.len(), 1, "{effects:?}");
    assert_eq!(effects[0].name, "take-out");
    // What it was turned back for stays on the card.
    let card = rig.card("checkout").await?;
    assert!(number(signal(&card, "errors")?, "/comparison/ratio/interval/lower")? > 2.0, "{card:#}");
    Ok(())
}
