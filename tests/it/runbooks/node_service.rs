//! A Node service under pm2 goes back: queues stand still, code and schema go back, caches are filled anew, and the queues
//! go on one by one.
//!
//! * `node_service/shop.rs`: the service with everything that it needs.

mod shop;

use std::fs;

use anyhow::Result;
use serde_json::{Value, json};
use tests::vendors::Answer;

use super::rig::{Document, GOOD, Rig, Told};
use shop::{Shop, TOKEN};

const RUNBOOK: &str = "node-service";
/// Redis runs under no systemd here.
const NO_SYSTEMD: &str = "4.3, step 2";

/// Turns the bad release back with these choices, where a person's yes is given if the plan waits for one.
async fn turn_back(shop: &Shop, rig: &mut Rig, choices: Value) -> Result<Told> {
    rig.vendors.slack();
    let mut with = shop.inputs(|vendor| rig.vendors.url(vendor), rig.prometheus.url());
    for (key, value) in choices.as_object().expect("choices are a map") {
        with[key] = value.clone();
    }
    let environment = vec![
        ("SLACK_BOT_TOKEN", "token-of-SLACK_BOT_TOKEN".to_owned()),
        ("VERCEL_TOKEN", "token-of-VERCEL_TOKEN".to_owned()),
        ("SERVICE_TOKEN", TOKEN.to_owned()),
        ("DATABASE_URL", shop.postgres.url("shop")),
        ("REDIS_URL", shop.redis.url()),
    ];
    rig.launch(Document { runbook: RUNBOOK, with, autonomy: "approve", environment }).await?;
    shop.deploy_bad().await?;
    // One takes the other's place at the same address.
    rig.turn_back(async || Ok(false)).await
}

/// What is the same whatever was chosen: the good release runs, nothing is paused or in maintenance, the messages were sent.
async fn assert_back(shop: &Shop, rig: &Rig, told: &Told) -> Result<()> {
    let story = &told.story;
    assert_eq!(shop.checked_out("app")?, GOOD, "{story}");
    assert_eq!(shop.version().await?, GOOD, "{story}");
    for name in ["api", "queue-worker"] {
        assert_eq!(shop.pm2.state(name).await?.0, "online", "{name}: {story}");
    }
    assert_eq!(shop.redis.say::<Option<String>>("GET shop:maintenance").await?, None, "{story}");
    let queues = shop.get("/api/queue/stats").await?;
    for name in ["ai-analysis", "document-processing"] {
        assert_eq!(
            (&queues[name]["stopped"], &queues[name]["paused"]),
            (&json!(false), &json!(0)),
            "{queues}"
        );
    }
    let messages = rig.vendors.messages();
    let said =
        |channel: &str, words: &str| messages.iter().any(|(to, text)| to == channel && text.contains(words));
    for (channel, words) in [
        ("#stakeholders", "[ACTION] Rolling shop in production back from v2 to v1"),
        ("#incidents", "ROLLBACK IN PROGRESS: shop in production"),
        ("#incidents", "https://grafana.example/d/shop"),
        ("#stakeholders", "[UPDATE] shop: v1 runs and its checks have passed"),
        ("#stakeholders", "[RESOLVED] shop in production is back on v1"),
    ] {
        assert!(said(channel, words), "{channel}: {words}: {messages:#?}");
    }
    rig.assert_used();
    Ok(())
}

/// The order in which the service was switched, by what it wrote down itself.
#[track_caller]
fn assert_order(journal: &[String], expected: &[&str]) {
    let mut rest = journal.iter();
    for words in expected {
        assert!(rest.any(|line| line == words), "{words:?} is missing or too early: {journal:#?}");
    }
}

fn backups(shop: &Shop) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(shop.path("backups"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name.ends_with(".dump"));
    names.sort();
    Ok(names)
}

#[tokio::test]
async fn a_release_with_a_migration_goes_back_with_its_schema_queues_and_caches() -> Result<()> {
    let shop = Shop::open().await?;
    let mut rig = Rig::around(shop.address(), shop.address()).await?;
    rig.vendors.answers("edge", "GET", "/purge/index.html", Answer::empty(200));
    for number in 0..12 {
        fs::write(shop.path(&format!("backups/backup-old-{number:02}.dump")), "old")?;
    }
    let choices = json!({
        "database": "down", "clean_failed_jobs": true, "cache": "patterns", "front": "static", "cdn": "nginx",
        "edge": format!("{}/purge", rig.vendors.url("edge")), "pm2_process": "api",
    });
    let told = turn_back(&shop, &mut rig, choices).await?;
    let story = &told.story;
    let others =
        ["5.1, method 2", "5.1, method 3", "5.2, step 1", "5.2, step 2", "5.2, step 3", "4.3, gradual"];
    told.assert_procedure(RUNBOOK, &[&others[..], &[NO_SYSTEMD]].concat(), &rig.vendors);
    assert_back(&shop, &rig, &told).await?;
    assert_order(
        &shop.journal().await?,
        &[
            "v2 POST /api/queue/pause-all 200",
            "v2 worker stopped",
            "v2 POST /api/queue/clean-all 200",
            "v2 POST /api/maintenance/enable 200",
            "v2 server stopped",
            "v1 server started",
            "v1 POST /api/maintenance/disable 200",
            "v1 POST /api/cache/warm 200",
            // Not before everything was checked.
            "v1 worker started",
            "v1 POST /api/queue/ai-analysis/resume 200",
            "v1 POST /api/queue/document-processing/resume 200",
            "v1 POST /api/queue/resume-all 200",
        ],
    );
    let applied = "SELECT string_agg(created_at::text, ' ') FROM drizzle.__drizzle_migrations";
    assert_eq!(shop.postgres.value("shop", applied).await?.as_deref(), Some("1761900000000"), "{story}");
    let column = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'importance'";
    assert_eq!(shop.postgres.value("shop", column).await?.as_deref(), Some("0"), "{story}");
    let dumps = backups(&shop)?;
    assert_eq!(dumps.len(), 10, "{dumps:?}");
    let new: Vec<&String> = dumps.iter().filter(|name| !name.starts_with("backup-old")).collect();
    assert_eq!(new.len(), 1, "{dumps:?}");
    assert!(fs::metadata(shop.path("backups").join(new[0]))?.len() > 1_000);
    let mut cached: Vec<String> = shop.redis.say("KEYS gemini:*").await?;
    cached.sort();
    assert_eq!(cached, ["gemini:project:1", "gemini:project:2", "gemini:project:3"], "warmed anew");
    assert_eq!(shop.redis.say::<String>("GET gemini:project:1").await?, GOOD);
    assert_eq!(shop.redis.say::<i64>("EXISTS bull:ai-analysis:failed").await?, 0);
    assert_eq!(shop.checked_out("front")?, GOOD);
    assert!(shop.front_page().await?.contains(GOOD));
    assert_eq!(rig.vendors.lines("edge"), ["GET /purge/index.html"]);
    Ok(())
}
