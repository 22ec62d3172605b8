//! The two arms of a canary: Envoy splits users among them, and what a pod does shows where an analysis looks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::arms::{Arms, Side};
use tests::envoy::{Arm, Envoy, Fault};
use tests::load::{Load, Target};
use tests::prometheus::PrometheusServer;
use tests::victim::{Release, Victim};
use tests::wait;

const SCRAPE_INTERVAL: Duration = Duration::from_millis(200);
/// Generous: a busy machine with two cores runs several tests at once.
const PATIENCE: Duration = Duration::from_secs(90);

async fn open(pods: usize) -> Result<Arms> {
    Arms::start(pods, &Release::healthy("v1"), &Release::healthy("v2")).await
}

/// The sum over the series of a pod's `/metrics` that begin with `prefix`.
async fn figure(pod: &Victim, prefix: &str) -> Result<f64> {
    let text = pod.metrics().await?;
    let values = text.lines().filter(|line| line.starts_with(prefix)).map(|line| {
        let value = line.rsplit(' ').next().unwrap_or_default();
        value.parse::<f64>().with_context(|| format!("no number at its end: {line}"))
    });
    values.sum()
}

/// Requests that reached an arm, told by its pods.
async fn reached(arms: &Arms, side: Side) -> Result<f64> {
    let mut sum = 0.0;
    for pod in arms.pods(side) {
        sum += figure(pod, "http_requests_total").await?;
    }
    Ok(sum)
}

/// Sends 1,000 requests or more through `envoy` and says how many of how many reached the canary.
async fn split(arms: &Arms, envoy: &Envoy) -> Result<(f64, f64)> {
    let before = (reached(arms, Side::Control).await?, reached(arms, Side::Canary).await?);
    let load = Load::start(Target::new(envoy.address()), 100)?;
    wait::until("1,000 answers", PATIENCE, async || {
        let seen = load.answers();
        Ok((seen.good + seen.bad >= 1_000).then_some(()))
    })
    .await?;
    let seen = load.finish();
    assert_eq!((seen.lost, seen.dropped, seen.good + seen.bad), (0, 0, seen.sent));
    let control = reached(arms, Side::Control).await? - before.0;
    let canary = reached(arms, Side::Canary).await? - before.1;
    assert_eq!(control + canary, seen.sent as f64, "each request reached one pod");
    Ok((canary, control + canary))
}

/// Five standard deviations of a binomial count: a right split fails once in 1.7 million runs.
fn assert_share(what: &str, (hits, of): (f64, f64), share: f64) {
    let bound = 5.0 * (of * share * (1.0 - share)).sqrt();
    assert!((hits - of * share).abs() <= bound, "{what}: {hits} of {of}, expected {} ± {bound}", of * share);
}

/// The values of an instant query by the label `label`.
async fn by(server: &PrometheusServer, label: &str, promql: &str) -> Result<BTreeMap<String, f64>> {
    let samples = server.query(promql).await?;
    Ok(samples
        .into_iter()
        .map(|one| (one.labels.get(label).cloned().unwrap_or_default(), one.value))
        .collect())
}

/// Asks until the answer, by `label`, is as `expected`.
async fn wait_for(
    server: &PrometheusServer,
    label: &str,
    promql: &str,
    expected: impl Fn(&BTreeMap<String, f64>) -> bool,
) -> Result<()> {
    let mut last = BTreeMap::new();
    let waited = wait::until(promql, PATIENCE, async || {
        last = by(server, label, promql).await?;
        Ok(expected(&last).then_some(()))
    })
    .await;
    waited.with_context(|| format!("the last answer was {last:?}"))
}

fn value(values: &BTreeMap<String, f64>, name: &str) -> f64 {
    values.get(name).copied().unwrap_or(f64::NAN)
}

#[tokio::test]
async fn envoy_splits_by_weight_and_a_reload_changes_the_split() -> Result<()> {
    let arms = open(2).await?;
    let mut envoy = arms.envoy(90, 10).await?;
    let server = PrometheusServer::start(&[envoy.job()], SCRAPE_INTERVAL).await?;
    assert_share("90/10", split(&arms, &envoy).await?, 0.1);
    for side in [Side::Control, Side::Canary] {
        let pods = arms.pods(side);
        let (first, second) =
            (figure(&pods[0], "http_requests_total").await?, figure(&pods[1], "http_requests_total").await?);
        assert!((first - second).abs() <= 2.0, "the pods of {side:?} take turns: {first}, {second}");
    }
    // Envoy's own count, as Prometheus has it.
    let told = [reached(&arms, Side::Control).await?, reached(&arms, Side::Canary).await?];
    wait_for(&server, "envoy_cluster_name", "envoy_cluster_upstream_rq_total", |seen| {
        [value(seen, "control"), value(seen, "canary")] == told
    })
    .await?;

    envoy.set_weights(&[("control", 50), ("canary", 50)]).await?;
    assert_share("50/50", split(&arms, &envoy).await?, 0.5);
    envoy.set_weights(&[("canary", 0)]).await?;
    assert_eq!(split(&arms, &envoy).await?.0, 0.0, "no weight, no requests");
    Ok(())
}

#[tokio::test]
async fn a_killed_pod_shows_to_users_to_envoy_and_to_prometheus() -> Result<()> {
    let mut arms = open(2).await?;
    let envoy = arms.envoy(50, 50).await?;
    let jobs: Vec<_> = arms.jobs().into_iter().chain([envoy.job()]).collect();
    let server = PrometheusServer::start(&jobs, SCRAPE_INTERVAL).await?;
    let up = "sum by (track) (up{job=\"checkout\"})";
    wait_for(&server, "track", up, |up| value(up, "control") == 2.0 && value(up, "canary") == 2.0).await?;
    // Its pods fail one request in a hundred themselves, with 500; 503 is Envoy's own.
    let load = Load::start(Target::new(envoy.address()), 100)?;
    let lost = "envoy_cluster_upstream_cx_connect_fail";
    wait_for(&server, "envoy_cluster_name", lost, |lost| value(lost, "canary") == 0.0).await?;
    let before = load.answers();

    arms.canary[0].process().kill()?;
    wait_for(&server, "track", up, |up| value(up, "control") == 2.0 && value(up, "canary") == 1.0).await?;
    wait_for(&server, "envoy_cluster_name", lost, |lost| {
        value(lost, "canary") >= 10.0 && value(lost, "control") == 0.0
    })
    .await?;
    let after = load.answers();
    assert!(after.bad >= before.bad + 10, "users see it: {before:?}, {after:?}");
    assert!(after.good > before.good, "the other pods go on: {before:?}, {after:?}");
    Ok(())
}

#[tokio::test]
async fn steps_of_an_arm_show_in_prometheus_on_that_arm_only() -> Result<()> {
    let arms = open(2).await?;
    let server = PrometheusServer::start(&arms.jobs(), SCRAPE_INTERVAL).await?;
    let loads = [arms.load(Side::Control, 100)?, arms.load(Side::Canary, 100)?];
    let all = "sum by (version) (increase(http_requests_total{job=\"checkout\"}[2s]))";
    wait_for(&server, "version", all, |all| value(all, "v1") > 100.0 && value(all, "v2") > 100.0).await?;

    arms.step_errors(Side::Canary, 0.5).await?;
    let share = format!(
        "sum by (version) (increase(http_requests_total{{job=\"checkout\",code=\"500\"}}[2s])) / {all}"
    );
    wait_for(&server, "version", &share, |share| value(share, "v1") < 0.1 && value(share, "v2") > 0.3)
        .await?;
    arms.step_errors(Side::Canary, 0.0).await?;
    wait_for(&server, "version", &share, |share| value(share, "v2") == 0.0).await?;

    let half = "histogram_quantile(0.5, sum by (version, le) \
                (increase(http_request_duration_seconds_bucket{job=\"checkout\"}[2s])))";
    arms.step_latency(Side::Canary, Duration::from_millis(300)).await?;
    wait_for(&server, "version", half, |half| value(half, "v1") < 0.1 && value(half, "v2") > 0.25).await?;

    let refused = arms.step_errors(Side::Control, 1.5).await.unwrap_err();
    assert!(format!("{refused:#}").contains("between 0 and 1"), "{refused:#}");
    let refused = arms.step_latency(Side::Control, Duration::from_secs(61)).await.unwrap_err();
    assert!(format!("{refused:#}").contains("between 0 and 60000"), "{refused:#}");
    for load in loads {
        assert_eq!((load.answers().lost, load.answers().dropped), (0, 0));
    }
    Ok(())
}

#[tokio::test]
async fn one_bad_pod_of_five_can_be_told_from_the_others() -> Result<()> {
    let arms = open(5).await?;
    let server = PrometheusServer::start(&arms.jobs(), SCRAPE_INTERVAL).await?;
    arms.canary[3].set_errors(0.5).await?;
    let load = arms.load(Side::Canary, 100)?;
    let errors = "increase(http_requests_total{code=\"500\",version=\"v2\"}[1h])";
    wait_for(&server, "pod", errors, |errors| value(errors, "canary-3") >= 20.0).await?;
    drop(load);
    let errors = by(&server, "pod", errors).await?;
    assert_eq!(errors.len(), 5, "{errors:?}");
    let others = errors.iter().filter(|(pod, _)| pod.as_str() != "canary-3");
    assert!(others.clone().all(|(pod, errors)| pod.starts_with("canary-") && *errors < 10.0), "{errors:?}");
    Ok(())
}

#[tokio::test]
async fn pods_of_one_release_fail_at_different_requests_and_spread_their_latencies() -> Result<()> {
    let release = Release {
        error_rate: 0.5,
        latency: Duration::from_millis(20),
        spread: Some(0.5),
        ..Release::healthy("v1")
    };
    let arms = Arms::start(1, &release, &release).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut differ = 0;
    for _ in 0..40 {
        let mut answers = Vec::new();
        for side in [Side::Control, Side::Canary] {
            let url = format!("http://{}/work", arms.addresses(side)[0]);
            answers.push(client.get(url).send().await?.status());
        }
        differ += usize::from(answers[0] != answers[1]);
    }
    // 40 throws of two coins: 20 give or take 16 is five standard deviations.
    assert!((4..=36).contains(&differ), "{differ} of 40 differ");

    let pod = &arms.control[0];
    let up_to = async |bound: &str| {
        let labels = format!("version=\"v1\",pod=\"control-0\",le=\"{bound}\"");
        figure(pod, &format!("http_request_duration_seconds_bucket{{{labels}}}")).await
    };
    let counts = async || anyhow::Ok([up_to("0.25").await?, up_to("1").await?, up_to("+Inf").await?]);
    let before = counts().await?;
    // Beside these latencies it is little that a busy machine wakes some ten milliseconds late.
    arms.step_latency(Side::Control, Duration::from_millis(500)).await?;
    let load = arms.load(Side::Control, 60)?;
    wait::until("600 answers", PATIENCE, async || {
        Ok((load.answers().good + load.answers().bad >= 600).then_some(()))
    })
    .await?;
    let after = counts().await?;
    let [below_half, below_twice, all] = [0, 1, 2].map(|edge| after[edge] - before[edge]);
    // Half and twice the median are 1.39 standard deviations away: 8.3 % lie beyond on either side.
    let (fast, slow) = (below_half / all, 1.0 - below_twice / all);
    assert!((0.02..0.15).contains(&fast), "{fast} of {all} were twice as fast as the median");
    assert!((0.03..0.40).contains(&slow), "{slow} of {all} were twice as slow as the median");
    Ok(())
}

#[tokio::test]
async fn envoy_aborts_and_delays_as_told() -> Result<()> {
    let arms = open(1).await?;
    let mut envoy = arms.envoy(0, 1).await?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("http://{}/healthz", envoy.address());
    let ask = async || Ok::<_, reqwest::Error>(client.get(&url).send().await?.status().as_u16());
    assert_eq!(ask().await?, 200);
    envoy.set_fault("canary", Fault { abort: 1.0, delay: Duration::ZERO }).await?;
    assert_eq!(ask().await?, 503);
    envoy.set_weights(&[("control", 1), ("canary", 0)]).await?;
    assert_eq!(ask().await?, 200, "the fault is that of the other arm");
    let delay = Duration::from_millis(300);
    envoy.set_fault("control", Fault { abort: 0.0, delay }).await?;
    let began = std::time::Instant::now();
    assert_eq!(ask().await?, 200);
    // Envoy counts from when its event loop last looked at the clock: some milliseconds before the request came.
    assert!(began.elapsed() >= delay.mul_f64(0.9), "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_split_that_makes_no_sense_is_refused_and_changes_nothing() -> Result<()> {
    let nobody = vec!["127.0.0.1:9".parse()?];
    let refused = async |arms: &[Arm]| format!("{:#}", Envoy::start(arms).await.unwrap_err());
    assert!(refused(&[]).await.contains("add up to 1"));
    assert!(refused(&[Arm::new("a", Vec::new(), 1)]).await.contains("no pods"));
    assert!(refused(&[Arm::new("a b", nobody.clone(), 1)]).await.contains("letters"));
    let twice = [Arm::new("a", nobody.clone(), 1), Arm::new("a", nobody.clone(), 1)];
    assert!(refused(&twice).await.contains("same name"));

    let mut envoy = Envoy::start(&[Arm::new("a", nobody, 1)]).await?;
    assert!(envoy.set_weights(&[("b", 1)]).await.unwrap_err().to_string().contains("no arm \"b\""));
    assert!(envoy.set_weights(&[("a", 0)]).await.is_err());
    let abort = Fault { abort: -0.1, delay: Duration::ZERO };
    assert!(envoy.set_fault("a", abort).await.unwrap_err().to_string().contains("-0.1"));
    envoy.set_weights(&[("a", 7)]).await?;
    let address = envoy.address();
    envoy.process().kill()?;
    assert!(std::net::TcpStream::connect(address).is_err(), "killed means gone");
    Ok(())
}
