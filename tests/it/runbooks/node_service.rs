//! A Node service under pm2 goes back: queues stand still, code and schema go back, caches are filled anew, and the queues
//! go on one by one.
//!
//! * `node_service/shop.rs`: the service with everything that it needs.

mod shop;

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::edge::Edge;
use tests::vendors::{Answer, Vendors};
use tests::wait;

use super::rig::{BAD, Document, GOOD, Rig, SERVICE, Told};
use shop::{Shop, TOKEN};

const RUNBOOK: &str = "node-service";
/// Redis runs under no systemd here.
const NO_SYSTEMD: &str = "4.3, step 2";
/// Whether rows are as the first release had them.
const UNSPOILED: &str =
    "SELECT (SELECT count(*) FROM projects WHERE name = '') = 0 AND (SELECT count(*) FROM scenes) = 200";
/// How many columns the bad release's migration has left.
const IMPORTANCE: &str = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'importance'";

/// Turns the bad release back with these choices, where a person's yes is given if the plan waits for one. `damage` is done
/// with the bad release.
async fn turn_back(
    shop: &Shop,
    rig: &mut Rig,
    choices: Value,
    damage: impl AsyncFnOnce() -> Result<()>,
) -> Result<Told> {
    prepare(shop, rig, choices, damage).await?;
    // One takes the other's place at the same address.
    rig.turn_back(async || Ok(false)).await
}

/// Everything up to the moment when the bad release serves and nobody has been told of it.
async fn prepare(
    shop: &Shop,
    rig: &mut Rig,
    choices: Value,
    damage: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    rig.vendors.slack();
    let mut with = shop.inputs(|vendor| rig.vendors.url(vendor), rig.prometheus.url());
    for (key, value) in choices.as_object().expect("choices are a map") {
        with[key] = value.clone();
    }
    let environment = vec![
        ("SLACK_BOT_TOKEN", "token-of-SLACK_BOT_TOKEN".to_owned()),
        ("VERCEL_TOKEN", "token-of-VERCEL_TOKEN".to_owned()),
        ("CLOUDFLARE_API_TOKEN", "token-of-CLOUDFLARE_API_TOKEN".to_owned()),
        ("SERVICE_TOKEN", TOKEN.to_owned()),
        ("DATABASE_URL", shop.postgres.url("shop")),
        ("REDIS_URL", shop.redis.url()),
    ];
    rig.launch(Document { runbook: RUNBOOK, with, autonomy: "approve", environment }).await?;
    shop.deploy_bad().await?;
    damage().await
}

/// A person does not wait for a verdict: one command goes back, as soon as the agent knows of the bad release.
async fn emergency(rig: &Rig) -> Result<String> {
    wait::until("the agent to watch the bad release", Duration::from_secs(60), async || {
        Ok((rig.daemon.watch(SERVICE).await?["version"] == BAD).then_some(()))
    })
    .await?;
    rig.turnback(&["rollback", SERVICE, "--no-wait"]).await
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

/// What the caches hold: each key with the release whose value it has.
async fn cached(shop: &Shop) -> Result<Vec<String>> {
    let mut entries = Vec::new();
    for key in shop.redis.say::<Vec<String>>("KEYS gemini:*").await? {
        let value: String = shop.redis.say(&format!("GET {key}")).await?;
        entries.push(format!("{key} {value}"));
    }
    entries.sort();
    Ok(entries)
}

#[tokio::test]
async fn a_release_with_a_migration_goes_back_with_its_schema_queues_and_caches() -> Result<()> {
    let shop = Shop::open().await?;
    let edge = Edge::start(shop.front).await?;
    let mut rig = Rig::around(shop.address(), shop.address()).await?;
    for number in 0..12 {
        fs::write(shop.path(&format!("backups/backup-old-{number:02}.dump")), "old")?;
    }
    let choices = json!({
        "database": "down", "clean_failed_jobs": true, "front": "static", "cdn": "nginx",
        "edge": edge.purge(), "pm2_process": "api",
    });
    // Users have seen the bad page, and the edge keeps it.
    let seen = async || {
        ensure!(edge.get("/index.html").await?.text.contains(BAD));
        Ok(())
    };
    let told = turn_back(&shop, &mut rig, choices, seen).await?;
    let story = &told.story;
    let others =
        ["5.1, method 2", "5.1, method 3", "5.2, step 1", "5.2, step 2", "5.2, step 3", "4.3, gradual"];
    told.assert_procedure(RUNBOOK, &[&others[..], &[NO_SYSTEMD]].concat(), &rig.vendors);
    assert_back(&shop, &rig, &told).await?;
    let journal = shop.journal().await?;
    let switches = [
        "v2 POST /api/queue/pause-all 200",
        "v2 worker stopped",
        "v2 POST /api/queue/clean-all 200",
        "v2 POST /api/maintenance/enable 200",
        "v2 server stopped",
        "v1 server started",
        "v1 POST /api/maintenance/disable 200",
        "v1 POST /api/cache/warm 200",
        "v1 POST /api/queue/ai-analysis/resume 200",
        "v1 POST /api/queue/document-processing/resume 200",
        "v1 POST /api/queue/resume-all 200",
    ];
    assert_order(&journal, &switches);
    // The worker comes back after everything was checked. It writes that down when it is up, some time after its start.
    assert_order(&journal, &["v2 worker stopped", "v1 POST /api/cache/warm 200", "v1 worker started"]);
    let applied = "SELECT string_agg(created_at::text, ' ') FROM drizzle.__drizzle_migrations";
    assert_eq!(shop.postgres.value("shop", applied).await?.as_deref(), Some("1761900000000"), "{story}");
    assert_eq!(shop.postgres.value("shop", IMPORTANCE).await?.as_deref(), Some("0"), "{story}");
    let dumps = backups(&shop)?;
    assert_eq!(dumps.len(), 10, "{dumps:?}");
    let new: Vec<&String> = dumps.iter().filter(|name| !name.starts_with("backup-old")).collect();
    assert_eq!(new.len(), 1, "{dumps:?}");
    assert!(fs::metadata(shop.path("backups").join(new[0]))?.len() > 1_000);
    assert_eq!(cached(&shop).await?, ["gemini:project:1 v1", "gemini:project:2 v1", "gemini:project:3 v1"]);
    assert_eq!(shop.redis.say::<i64>("EXISTS bull:ai-analysis:failed").await?, 0);
    assert_eq!(shop.checked_out("front")?, GOOD);
    assert!(shop.front_page().await?.contains(GOOD));
    assert!(edge.get("/index.html").await?.text.contains(GOOD), "the edge has forgotten the bad page");
    Ok(())
}

/// A Vercel that points a project to whichever deployment it is told to.
fn vercel(vendors: &Vendors) {
    let now = Arc::new(Mutex::new(json!({})));
    let told = now.clone();
    vendors.on("vercel", "POST", "/v1/projects/prj_web/rollback/dpl_good", move |_| {
        *told.lock().expect("nobody panics here") =
            json!({ "type": "rollback", "toDeploymentId": "dpl_good", "jobStatus": "succeeded" });
        Answer::json(201, &json!({}))
    });
    vendors.on("vercel", "GET", "/v9/projects/prj_web", move |_| {
        let last = now.lock().expect("nobody panics here").clone();
        Answer::json(200, &json!({ "id": "prj_web", "lastAliasRequest": last }))
    });
}

#[tokio::test]
async fn a_release_that_spoiled_its_data_goes_back_to_the_dump_before_it() -> Result<()> {
    let shop = Shop::open().await?;
    let mut rig = Rig::around(shop.address(), shop.address()).await?;
    vercel(&rig.vendors);
    let zone = "0123456789abcdef0123456789abcdef";
    let purge = format!("/client/v4/zones/{zone}/purge_cache");
    rig.vendors.answers("cloudflare", "POST", &purge, Answer::json(200, &json!({ "success": true })));
    let choices = json!({
        "database": "restore", "backup_file": shop.dump()?, "integrity_question": UNSPOILED,
        "cache": "entities", "cache_project": "1", "cache_analysis": "1",
        "front": "vercel", "vercel": rig.vendors.url("vercel"), "vercel_project": "prj_web",
        "front_deployment": "dpl_good",
        "cdn": "cloudflare", "cloudflare": rig.vendors.url("cloudflare"), "cloudflare_zone": zone,
    });
    let spoil = async || shop.postgres.run("shop", "UPDATE projects SET name = ''; DELETE FROM scenes").await;
    let told = turn_back(&shop, &mut rig, choices, spoil).await?;
    let story = &told.story;
    let others = [
        "5.1, method 1",
        "5.1, method 3",
        "5.2, step 1",
        "5.2, step 2",
        "5.2, step 3",
        "4.2, step 4",
        "4.3, step 1",
        // At Vercel there is nothing to install or build.
        "4.4, step 2",
        "4.4, step 3",
    ];
    told.assert_procedure(RUNBOOK, &[&others[..], &[NO_SYSTEMD]].concat(), &rig.vendors);
    assert_back(&shop, &rig, &told).await?;
    assert_eq!(shop.postgres.value("shop", UNSPOILED).await?.as_deref(), Some("true"), "{story}");
    assert_eq!(
        shop.postgres.value("shop", IMPORTANCE).await?.as_deref(),
        Some("0"),
        "as before the migration"
    );
    // What was live is kept.
    let kept = shop.postgres.value("shop-before", "SELECT count(*) FROM scenes").await?;
    assert_eq!(kept.as_deref(), Some("0"), "{story}");
    assert_eq!(backups(&shop)?.len(), 1);
    assert_order(
        &shop.journal().await?,
        &[
            "v2 POST /api/maintenance/enable 200",
            "v1 POST /api/maintenance/disable 200",
            "v1 DELETE /api/cache/project/1 200",
            "v1 DELETE /api/cache/analysis/1 200",
            "v1 POST /api/cache/warm 200",
            "v1 POST /api/queue/ai-analysis/resume 200",
        ],
    );
    let cached = cached(&shop).await?;
    assert!(!cached.iter().any(|entry| entry.starts_with("gemini:analysis:1")), "{cached:?}");
    assert!(cached.contains(&"gemini:scene:7 v2".to_owned()), "nobody named it: {cached:?}");
    assert_eq!(rig.vendors.lines("cloudflare"), [format!("POST {purge}")]);
    Ok(())
}

#[tokio::test]
async fn one_command_goes_back_at_once_and_repairs_the_records_that_were_spoiled() -> Result<()> {
    let shop = Shop::open().await?;
    let mut rig = Rig::around(shop.address(), shop.address()).await?;
    let choices = json!({
        "database": "repair", "affected_question": "SELECT count(*) > 0 FROM projects WHERE name = ''",
        "repair_statement": "UPDATE projects SET name = 'project ' || id WHERE id IN (1, 2, 3) AND name = ''",
        "repair_rows": 3, "cache": "kept",
    });
    let spoil = async || shop.postgres.run("shop", "UPDATE projects SET name = '' WHERE id <= 3").await;
    prepare(&shop, &mut rig, choices, spoil).await?;
    let (told, said) = tokio::join!(rig.turn_back(async || Ok(false)), emergency(&rig));
    let (told, said) = (told?, said?);
    assert!(said.contains("the rollback begins"), "{said}");
    let approvals = told.records.iter().filter(|record| record.kind == "approval_asked").count();
    assert_eq!(approvals, 0, "who commands has said yes: {}", told.story);
    let others = [
        "5.1, method 1",
        "5.1, method 2",
        "5.1, method 3",
        "4.2, step 4",
        "4.3, step 1",
        "4.3, gradual",
        "4.4, step 1",
        "4.4, step 2",
        "4.4, step 3",
        "4.4, step 4",
        "4.4, step 5",
    ];
    told.assert_procedure(RUNBOOK, &[&others[..], &[NO_SYSTEMD]].concat(), &rig.vendors);
    assert_back(&shop, &rig, &told).await?;
    assert_eq!(shop.postgres.value("shop", UNSPOILED).await?.as_deref(), Some("true"), "{}", told.story);
    assert_eq!(shop.postgres.value("shop", IMPORTANCE).await?.as_deref(), Some("1"), "the schema was kept");
    Ok(())
}

#[tokio::test]
async fn queues_stay_paused_where_the_old_release_is_not_well_either() -> Result<()> {
    let shop = Shop::open().await?;
    let mut rig = Rig::around(shop.address(), shop.address()).await?;
    // What the validation of data finds was there before the release, and no rollback of code repairs it.
    let spoil = async || shop.postgres.run("shop", "UPDATE projects SET name = '' WHERE id = 7").await;
    let told = turn_back(&shop, &mut rig, json!({}), spoil).await?;
    let story = &told.story;
    let phase = told.watch["phase"].as_str().unwrap_or_default();
    assert!(phase.starts_with("closed: stuck") && phase.contains("data-validated"), "{phase}: {story}");
    assert_eq!(
        (shop.checked_out("app")?, shop.version().await?),
        (GOOD.to_owned(), GOOD.to_owned()),
        "{story}"
    );
    let journal = shop.journal().await?;
    assert!(!journal.iter().any(|line| line.contains("resume")), "{journal:#?}");
    let queues = shop.get("/api/queue/stats").await?;
    assert_eq!(queues["ai-analysis"]["stopped"], true, "{queues}");
    let messages = rig.vendors.messages();
    assert!(!messages.iter().any(|(_, text)| text.contains("[RESOLVED]")), "{messages:#?}");
    assert!(rig.daemon.log().contains("a person is needed"), "{story}");
    Ok(())
}
