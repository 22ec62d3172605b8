//! Alertmanager in full: a real Prometheus with a real rule, two real Alertmanagers that gossip, the real daemon. However
//! often they say it, one outbreak is one incident.

use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tests::alertmanager::{Alertmanager, Route, alerting};
use tests::daemon::Daemon;
use tests::load::{Load, Target};
use tests::prometheus::{PrometheusServer, ScrapeJob, ScrapeTarget, Settings};
use tests::victim::{Release, Victim};
use tests::wait;

const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);
/// Little: the rule sees a share, and other tests run on the same two cores.
const RATE: u32 = 40;
const PATIENCE: Duration = Duration::from_secs(120);
const PASSWORD: &str = "alertmanager-0123456789";

/// A row that listens for the alert, and an agent that may only look.
fn config(folder: &std::path::Path) -> String {
    format!(
        "
events:
  sources:
    alertmanager:
      credential: {{ basic: {{ user: am, password: {{ file: {}/am }} }} }}
      services: [shop]
matrices:
  alerts:
    rows:
    - {{ name: errors, when: {{ reported: high_errors }}, severity: P1, verdict: rollback, decide_within: 5m, act_within: 15m }}
services:
  shop:
    matrix: alerts
    autonomy: {{ level: observe }}
    watch: {{ look_every: 1s, watch_for: 10m }}
",
        folder.display()
    )
}

/// A service that can be made to fail, who sees it, and who is told.
struct Rig {
    victim: Victim,
    jobs: Vec<ScrapeJob>,
    prometheus: PrometheusServer,
    alertmanagers: Vec<Alertmanager>,
    daemon: Daemon,
    _load: Load,
}

/// Over fifteen scrapes: some that a busy machine leaves out do not take the alert away.
fn rules() -> Vec<Value> {
    let share =
        "sum(rate(http_requests_total{code=~\"5..\"}[15s])) / sum(rate(http_requests_total[15s])) > 0.1";
    let rule = json!({
        "alert": "HighErrors", "expr": share, "for": "1s", "labels": { "service": "shop" },
        "annotations": { "summary": "Errors above 10 %" },
    });
    vec![json!({ "name": "shop", "rules": [rule] })]
}

impl Rig {
    async fn open(count: usize) -> Result<Rig> {
        let victim = Victim::start(&Release::healthy("v2")).await?;
        let load = Load::start(Target::new(victim.address()), RATE)?;
        let mut daemon = Daemon::prepare("")?;
        std::fs::write(daemon.folder().join("am"), PASSWORD)?;
        daemon.reconfigure(&config(daemon.folder()))?;
        daemon.launch(None)?;
        daemon.ready().await?;
        daemon.deployed("shop", "v2", None).await?;
        let route = Route {
            url: daemon.url("/v1/alerts"),
            http_config: json!({ "basic_auth": { "username": "am", "password": PASSWORD } }),
            group_wait: Duration::from_millis(100),
            group_interval: Duration::from_secs(1),
            repeat_interval: Duration::from_secs(1),
        };
        let mut alertmanagers: Vec<Alertmanager> = Vec::new();
        for _ in 0..count {
            let peers: Vec<&Alertmanager> = alertmanagers.iter().collect();
            alertmanagers.push(Alertmanager::start(&route, &peers).await?);
        }
        for one in &alertmanagers {
            wait::until("all peers to know each other", PATIENCE, async || {
                Ok((one.peers().await? == count).then_some(()))
            })
            .await?;
        }
        let target = ScrapeTarget { address: victim.address().to_string(), labels: BTreeMap::new() };
        let jobs = vec![ScrapeJob { name: "shop".into(), targets: vec![target] }];
        let told: Vec<&Alertmanager> = alertmanagers.iter().collect();
        let settings = Settings { keys: alerting(&told), rules: rules() };
        let prometheus = PrometheusServer::start_with(&jobs, SCRAPE_INTERVAL, &settings).await?;
        prometheus.tells(count).await?;
        Ok(Rig { victim, jobs, prometheus, alertmanagers, daemon, _load: load })
    }

    /// Lets Prometheus tell the first Alertmanager only.
    async fn lose_all_but_the_first(&mut self) -> Result<()> {
        let settings = Settings { keys: alerting(&[&self.alertmanagers[0]]), rules: rules() };
        self.prometheus.reconfigure(&self.jobs, settings).await?;
        self.prometheus.tells(1).await
    }

    /// Waits until Turnback's incident is open (`false`) or over (`true`).
    async fn incident(&self, over: bool) -> Result<Value> {
        self.daemon
            .until_watch("shop", "the incident", PATIENCE, |watch| {
                let row = &watch["incident"]["row"];
                row == "errors" && watch["incident"]["time_to_recover"].is_null() != over
            })
            .await
    }

    /// What was recorded of alerts, as `firing` and `resolved`, and how many incidents were opened.
    async fn recorded(&self) -> Result<(Vec<String>, usize)> {
        let records = self.daemon.verified_records().await?;
        let states = records.iter().filter(|record| record.stream == "events" && record.kind == "report");
        let states = states
            .filter_map(|record| record.body.pointer("/report/report/state")?.as_str().map(str::to_owned));
        let opened = records.iter().filter(|record| record.kind == "incident_opened").count();
        Ok((states.collect(), opened))
    }

    /// Waits until these Alertmanagers together have said something `more` times from now on, with success.
    async fn say(&self, which: &[usize], more: u64) -> Result<()> {
        let sent = async || -> Result<u64> {
            let mut all = 0;
            for one in which {
                let (sent, failed) = self.alertmanagers[*one].notified().await?;
                all += sent.saturating_sub(failed);
            }
            Ok(all)
        };
        let before = sent().await?;
        let what = format!("the Alertmanagers {which:?} to notify {more} times");
        let waited =
            wait::until(&what, PATIENCE, async || Ok((sent().await? >= before + more).then_some(()))).await;
        waited.map_err(|error| error.context(self.alertmanagers[which[0]].log()))
    }
}

#[tokio::test]
async fn firing_repeated_resolved_and_fired_again_by_a_peer_is_one_incident() -> Result<()> {
    let mut rig = Rig::open(2).await?;
    rig.victim.set_errors(0.5).await?;
    let watch = rig.incident(false).await?;
    assert_eq!(watch["incident"]["severity"], "P1");
    // Which of the two says it is their business: they gossip about what the other has said.
    rig.say(&[0, 1], 3).await?;
    assert_eq!(rig.recorded().await?, (vec!["firing".to_owned()], 1), "what is repeated is known");
    // From here on the second one hears nothing new: it goes on saying that it fires, with the same beginning.
    rig.lose_all_but_the_first().await?;
    rig.victim.set_errors(0.0).await?;
    rig.incident(true).await?;
    rig.say(&[1], 3).await?;
    let both = vec!["firing".to_owned(), "resolved".to_owned()];
    assert_eq!(rig.recorded().await?, (both.clone(), 1), "a peer that lags opens nothing again");
    assert!(rig.incident(true).await.is_ok());
    // A new outbreak has a new beginning. The peer dies: by its gossip that this alert was told it would keep the other from
    // telling of it.
    drop(rig.alertmanagers.pop());
    rig.victim.set_errors(0.5).await?;
    wait::until("the second incident", PATIENCE, async || Ok((rig.recorded().await?.1 == 2).then_some(())))
        .await?;
    let (states, _) = rig.recorded().await?;
    assert_eq!(states, [both, vec!["firing".to_owned()]].concat());
    Ok(())
}

#[tokio::test]
async fn what_was_said_while_nobody_listened_is_said_again() -> Result<()> {
    let mut rig = Rig::open(1).await?;
    rig.victim.set_errors(0.5).await?;
    rig.incident(false).await?;
    rig.daemon.kill()?;
    let (_, failed) = rig.alertmanagers[0].notified().await?;
    rig.victim.set_errors(0.0).await?;
    wait::until("a notification to fail", PATIENCE, async || {
        Ok((rig.alertmanagers[0].notified().await?.1 > failed).then_some(()))
    })
    .await?;
    rig.daemon.launch(None)?;
    rig.daemon.ready().await?;
    rig.incident(true).await?;
    assert_eq!(rig.recorded().await?, (vec!["firing".to_owned(), "resolved".to_owned()], 1));
    Ok(())
}

#[tokio::test]
async fn whoever_shows_another_password_is_refused() -> Result<()> {
    let mut daemon = Daemon::prepare("")?;
    std::fs::write(daemon.folder().join("am"), PASSWORD)?;
    daemon.reconfigure(&config(daemon.folder()))?;
    daemon.launch(None)?;
    daemon.ready().await?;
    let body = json!({ "version": "4", "status": "firing", "truncatedAlerts": 7, "somethingNew": {}, "alerts": [{
        "status": "firing", "startsAt": "2026-03-20T14:22:00Z", "fingerprint": "c7f1a9e3b2d40516",
        "labels": { "alertname": "HighErrors", "service": "shop" }, "newField": [1],
    }] });
    let post = async |password: &str| -> Result<(u16, Value)> {
        let request =
            daemon.client().post(daemon.url("/v1/alerts")).basic_auth("am", Some(password)).json(&body);
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    };
    assert_eq!(post("alertmanager-9876543210").await?.0, 401);
    let (status, answer) = post(PASSWORD).await?;
    assert_eq!(status, 202, "{answer}");
    assert!(answer["notes"].to_string().contains("7 more alerts of this group"), "{answer}");
    let (_, again) = post(PASSWORD).await?;
    assert_eq!(again["results"][0]["duplicate"]["sequence"], answer["results"][0]["recorded"]["sequence"]);
    Ok(())
}

#[tokio::test]
async fn a_large_group_is_kept_whole_but_for_what_is_foreign_and_what_is_lost_is_counted() -> Result<()> {
    let mut daemon = Daemon::prepare("")?;
    std::fs::write(daemon.folder().join("am"), PASSWORD)?;
    daemon.reconfigure(&config(daemon.folder()))?;
    daemon.launch(None)?;
    daemon.ready().await?;
    let alert = |service: &str, number: usize| {
        json!({
            "status": "firing", "startsAt": "2026-03-20T14:22:00Z", "fingerprint": format!("{number:016x}"),
            "labels": { "alertname": "HighErrors", "service": service },
            "annotations": { "description": "x".repeat(4_000) },
        })
    };
    let post = async |alerts: Vec<Value>, password: &str| -> Result<(u16, Value)> {
        let body = json!({ "version": "4", "status": "firing", "truncatedAlerts": 5, "alerts": alerts });
        let request = daemon.client().post(daemon.url("/v1/alerts")).basic_auth("am", Some(password));
        let answer = request.json(&body).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    };
    let standing = async || -> Result<Value> {
        Ok(daemon.get("/readyz").await?["event_sources"]["alertmanager"].clone())
    };
    let silent = standing().await?;
    assert!(silent["connected"].is_null(), "{silent}");
    assert_eq!(silent["words"], "configured; nothing was heard since the start");
    let (status, answer) = post(vec![alert("bank", 0)], PASSWORD).await?;
    assert_eq!(status, 403, "{answer}");
    // Whoever is not known and sends a megabyte sees the refusal, and not a connection that breaks.
    let group = (0..300).map(|number| alert("shop", number));
    assert_eq!(post(group.collect(), "a-password-that-has-expired").await?.0, 401);
    let refused = standing().await?;
    assert_eq!(refused["refused"], 2, "{refused}");
    assert!(refused["words"].to_string().contains("user or password is another one"), "{refused}");
    let group = (0..300).map(|number| alert("shop", number)).chain([alert("bank", 300)]);
    let (status, answer) = post(group.collect(), PASSWORD).await?;
    assert_eq!((status, answer["results"].as_array().map(Vec::len)), (202, Some(300)), "{answer}");
    assert!(answer["notes"].to_string().contains("1 about the service `bank`"), "{answer}");
    let records = daemon.verified_records().await?;
    assert_eq!(records.iter().filter(|record| record.stream == "events").count(), 300);
    let good = standing().await?;
    assert!(good["refused"] == 0 && good["last_refusal"].is_null() && good["recorded"] == 300, "{good}");
    let metrics = daemon.client().get(daemon.url("/metrics")).send().await?.text().await?;
    for line in [
        "turnback_alerts_left_out_total{source=\"alertmanager\",reason=\"foreign\"} 1",
        "turnback_alerts_left_out_total{source=\"alertmanager\",reason=\"truncated\"} 5",
        "turnback_source_messages_total{source=\"alertmanager\",result=\"refused\"} 2",
        "turnback_source_refused_since_accepted{source=\"alertmanager\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    Ok(())
}
