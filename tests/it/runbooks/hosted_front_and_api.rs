//! A hosted front end with a FastAPI back end goes back: the whole written procedure, once with every choice that takes
//! down migrations and an nginx edge, once with a restore to a point in time and a vendor's CDN.
//!
//! * `shop.rs`: what the service runs on.

mod shop;

use anyhow::{Context, Result};
use serde_json::json;

use super::rig::{BAD, GOOD};
use shop::{PAGES, PROJECT, RUNBOOK, Shop, ZONE, only};

#[tokio::test]
async fn the_whole_procedure_goes_back_with_down_migrations_and_an_nginx_edge() -> Result<()> {
    let mut shop = Shop::open().await?;
    let choices = json!({
        "database": "down", "storage": "inverse_migration", "cors_outage": true, "bypass_correlation_id": true,
        "scale_back_end": true, "replicas": 2, "cdn": "nginx",
    });
    let told = shop.turn_back(choices, "approve").await?;
    told.assert_procedure(RUNBOOK, &["Database / Supabase, step 1"], &shop.rig.vendors);
    shop.assert_back(&told).await?;
    for database in ["shop", "staging"] {
        let newest = "SELECT max(version) FROM supabase_migrations.schema_migrations";
        assert_eq!(
            shop.postgres.value(database, newest).await?.as_deref(),
            Some("20260201090000"),
            "{database}"
        );
        assert_eq!(shop.seen_by_member(database, "public.tasks").await?, 100, "{database}");
        assert_eq!(shop.seen_by_member(database, "storage.objects").await?, 1, "{database}");
    }
    // The edge fetched each page anew, after the front end was back and not before.
    for page in PAGES {
        let served = shop.edge.get(page).await?;
        assert!(served.text.contains(&format!("of {GOOD}")), "{page}: {served:?}");
    }
    assert_eq!(std::fs::read_to_string(shop.folder.path().join("app/ran"))?, "--env production");
    let asked = shop.rig.vendors.asked();
    only(
        &asked,
        "unleash",
        "POST",
        "/api/admin/projects/default/features/correlation-id-bypass/environments/production/on",
    );
    only(&asked, "github", "PUT", "/repos/shop/app/actions/workflows/deploy.yml/disable");
    only(&asked, "github", "POST", "/repos/shop/app/actions/runs/41/cancel");
    let log = asked.iter().filter(|one| one.path == "/repos/shop/app/issues/7/comments").count();
    assert_eq!(log, 3, "the deployment log: begun, the flag, done");
    shop.rig.assert_used();
    Ok(())
}

#[tokio::test]
async fn the_whole_procedure_goes_back_to_the_second_before_the_deployment() -> Result<()> {
    let mut shop = Shop::open().await?;
    let front = shop.front.url("/tasks");
    let began = jiff::Timestamp::now().as_second();
    let choices = json!({ "database": "point_in_time", "cdn": "cloudflare", "front": front });
    let told = shop.turn_back(choices, "approve").await?;
    let left_out = [
        "Guiding principles, item 1",
        "Database / Supabase, step 2",
        "Storage buckets, step 1",
        "Storage buckets, step 2",
        "Observability & alerts, step 1",
    ];
    told.assert_procedure(RUNBOOK, &left_out, &shop.rig.vendors);
    shop.assert_back(&told).await?;
    let asked = shop.rig.vendors.asked();
    let restore =
        only(&asked, "supabase", "POST", &format!("/v1/projects/{PROJECT}/database/backups/restore-pitr"));
    let target = restore.json()["recovery_time_target_unix"].as_i64().context("a restore names a time")?;
    let deployed = told.plan.from.version.to_string();
    assert_eq!(deployed, BAD);
    assert!(target >= began && target <= jiff::Timestamp::now().as_second() - 5, "{began} {target}");
    let purge = only(&asked, "cloudflare", "POST", &format!("/client/v4/zones/{ZONE}/purge_cache"));
    assert_eq!(purge.json()["prefixes"], json!(PAGES.map(|page| format!("shop.example{page}"))));
    assert_eq!(shop.seen_by_member("shop", "public.tasks").await?, 100);
    Ok(())
}
