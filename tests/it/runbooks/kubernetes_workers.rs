//! Three Deployments and a database with migrations go back: the release captain's procedure, on a real API server, a real
//! PostgreSQL, a real Redis and a real npm project.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use tests::postgres::PostgresServer;
use tests::redis::RedisServer;
use tests::vendors::{Answer, Shared};

use super::rig::{BAD, Document, GOOD, Rig, Told};
use super::workloads::Workloads;

const MIGRATION: &str = "20260301120000";
const RUNBOOK: &str = "kubernetes-workers";

/// Everything that the service runs on.
struct Shop {
    rig: Rig,
    workloads: Workloads,
    postgres: PostgresServer,
    redis: RedisServer,
    folder: tempfile::TempDir,
}

/// What the release captain's team would write under `with:`, without the choices.
fn inputs(shop: &Shop) -> Value {
    let vendor = |name: &str| shop.rig.vendors.url(name);
    json!({
        "channel": "#incidents", "releases_channel": "#releases", "slack": vendor("slack"),
        "owner": "shop", "repository": "app", "github": vendor("github"),
        "issue": 7, "issue_link": "https://github.com/shop/app/issues/7",
        "namespace": shop.workloads.namespace, "kubeconfig": shop.workloads.cluster.kubeconfig(),
        "organization": "shop", "registry": vendor("registry"),
        "prometheus": shop.rig.prometheus.url(),
        // The same questions over seconds.
        "first_bad_query": "min_over_time(timestamp(sum(increase(http_requests_total{code=~\"5..\"}[10s])) > 0)[5m:1s])",
        "cut_over_query": "sum(rate(http_requests_total{version=\"v1\"}[5s])) > bool 0",
        "errors_fall_query": "(sum(rate(http_requests_total{code=~\"5..\"}[10s])) or vector(0)) <= bool 0.5 * \
             (max_over_time(sum(rate(http_requests_total{code=~\"5..\"}[10s]))[5m:1s]) or vector(0)) \
             and on() sum(rate(http_requests_total[10s])) > 0",
        "maintenance_on": vendor("shop") + "/maintenance/enable",
        "maintenance_off": vendor("shop") + "/maintenance/disable",
        "auth_check": shop.rig.good_address("/healthz"),
        "migration": MIGRATION, "down_file": shop.folder.path().join("down.sql"),
        "backup_directory": shop.folder.path().join("backups"),
        "postgres_programs": shop.postgres.programs(),
        "live_database": "shop", "backup_file": shop.folder.path().join("last.dump"),
        "smoke_directory": shop.folder.path().join("app"), "home": shop.folder.path(),
    })
}

/// What a choice changes.
fn with(shop: &Shop, choices: Value) -> Value {
    let mut with = inputs(shop);
    for (key, value) in choices.as_object().expect("choices are a map") {
        with[key] = value.clone();
    }
    with
}

fn image(deployment: &str, version: &str) -> String {
    let name = if deployment == "api" { "app" } else { deployment };
    format!("ghcr.io/shop/{name}:{version}")
}

impl Shop {
    async fn open() -> Result<Shop> {
        let rig = Rig::open().await?;
        let shop = Shop {
            rig,
            workloads: Workloads::new().await?,
            postgres: PostgresServer::start().await?,
            redis: RedisServer::start(&[]).await?,
            folder: tempfile::tempdir()?,
        };
        for name in ["api", "web", "worker"] {
            shop.workloads.create(name, &image(name, GOOD), json!({})).await?;
        }
        shop.data().await?;
        Ok(shop)
    }

    async fn data(&self) -> Result<()> {
        self.postgres
            .run(
                "shop",
                "CREATE TABLE schema_migrations (version varchar PRIMARY KEY, inserted_at timestamptz DEFAULT now()); \
                 INSERT INTO schema_migrations VALUES ('20260201090000', now() - interval '20 days'); \
                 CREATE TABLE orders (id int PRIMARY KEY, owner text); \
                 ALTER TABLE orders ENABLE ROW LEVEL SECURITY; \
                 ALTER TABLE schema_migrations ENABLE ROW LEVEL SECURITY; \
                 INSERT INTO orders SELECT n, 'member' FROM generate_series(1, 100) AS n",
            )
            .await?;
        for job in 0..3 {
            let _length: i64 = self.redis.say(&format!("RPUSH agent:pending job-{job}")).await?;
        }
        std::fs::write(self.folder.path().join("down.sql"), "ALTER TABLE orders DROP COLUMN currency;\n")?;
        std::fs::create_dir(self.folder.path().join("backups"))?;
        smoke_project(&self.folder.path().join("app"), &self.rig.good_address("/healthz"))
    }

    fn vendors(&self) -> Shared {
        let vendors = &self.rig.vendors;
        vendors.slack();
        vendors.answers(
            "registry",
            "GET",
            &format!("/v2/shop/app/manifests/{GOOD}"),
            Answer::json(200, &json!({})),
        );
        vendors.answers("shop", "POST", "/maintenance/enable", Answer::empty(204));
        vendors.answers("shop", "POST", "/maintenance/disable", Answer::empty(204));
        vendors.github("shop/app", "deploy.yml")
    }

    /// What the bad release's pipeline does: images of three Deployments and a migration.
    async fn deploy(&self) -> Result<()> {
        for name in ["api", "web", "worker"] {
            self.workloads.set_image(name, &image(name, BAD)).await?;
        }
        self.postgres
            .run(
                "shop",
                &format!(
                    "ALTER TABLE orders ADD COLUMN currency text; INSERT INTO schema_migrations VALUES ('{MIGRATION}', now())"
                ),
            )
            .await
    }

    async fn turn_back(&mut self, choices: Value, autonomy: &'static str) -> Result<Told> {
        let token = |name: &'static str| (name, format!("token-of-{name}"));
        let environment = vec![
            token("SLACK_BOT_TOKEN"),
            token("GITHUB_TOKEN"),
            token("REGISTRY_TOKEN"),
            token("SERVICE_TOKEN"),
            ("DATABASE_URL", self.postgres.url("shop")),
            ("REDIS_URL", self.redis.url()),
        ];
        let with = with(self, choices);
        self.rig.launch(Document { runbook: RUNBOOK, with, autonomy, environment }).await?;
        self.deploy().await?;
        let told = self.rig.turn_back(async || Ok(self.workloads.image("api").await?.ends_with(BAD))).await?;
        Ok(told)
    }
}

/// A project whose smoke tests ask the service, and write down for which environment they ran.
fn smoke_project(project: &Path, page: &str) -> Result<()> {
    std::fs::create_dir(project)?;
    let package = json!({ "name": "app", "version": "1.0.0", "scripts": { "test:smoke": "node smoke.js" } });
    std::fs::write(project.join("package.json"), package.to_string())?;
    let test = format!(
        "fetch('{page}').then((answer) => {{\n  if (!answer.ok) process.exit(1)\n  \
         require('fs').writeFileSync('ran', process.argv.slice(2).join(' '))\n}})\n"
    );
    std::fs::write(project.join("smoke.js"), test)?;
    Ok(())
}

/// What every choice has in common.
async fn assert_common(shop: &Shop, told: &Told, github: &Shared) -> Result<()> {
    shop.rig.assert_used();
    let messages = shop.rig.vendors.messages();
    for (place, (channel, words)) in [
        (0, ("#incidents", "Rolling shop in production back from v2 to v1")),
        (1, ("#releases", "https://github.com/shop/app/issues/7")),
        (messages.len() - 1, ("#incidents", "shop in production is back on v1")),
    ] {
        let (told_in, text) = &messages[place];
        assert!(told_in == channel && text.contains(words), "{place}: {messages:#?}");
    }
    let github = github.lock().expect("nobody panics with it");
    assert!(!github.auto_merge && !github.enabled && github.runs.is_empty(), "{github:?}");
    assert!(github.comments[0].0 == "7" && github.comments[0].1.contains("shop is back on v1"), "{github:?}");
    drop(github);
    // What was captured before anything was changed can be read in the ledger.
    assert_eq!(told.output("backlog-depth"), "agent:pending holds 3 entries");
    let first_bad = told.output("first-bad-request");
    assert!(first_bad.contains(r#""value":[1"#), "a time of the first bad request: {first_bad}");
    let ran = std::fs::read_to_string(shop.folder.path().join("app/ran"))?;
    assert_eq!(ran, "--env production");
    for name in ["api", "web", "worker"] {
        assert_eq!(shop.workloads.image(name).await?, image(name, GOOD), "{}", told.story);
    }
    let worker = shop.workloads.get("worker").await?;
    assert_eq!(worker["spec"]["replicas"], 2, "the workers work again");
    Ok(())
}

#[tokio::test]
async fn the_release_captains_procedure_takes_the_migration_back() -> Result<()> {
    let mut shop = Shop::open().await?;
    let github = shop.vendors();
    // What takes data with it waits for a person's yes, whatever the service allows.
    let told = shop.turn_back(json!({ "database": "down" }), "auto").await?;
    told.assert_procedure(RUNBOOK, &["Database rollback, step 3"], &shop.rig.vendors);
    assert_common(&shop, &told, &github).await?;
    assert_eq!(
        told.output("schema-scope"),
        format!("2 migrations are applied, the newest is {MIGRATION}"),
        "the last applied migration is in the ledger"
    );
    let newest = shop.postgres.value("shop", "SELECT max(version) FROM schema_migrations").await?;
    assert_eq!(newest.as_deref(), Some("20260201090000"));
    let column = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'currency'";
    assert_eq!(shop.postgres.value("shop", column).await?.as_deref(), Some("0"));
    let fenced = "SELECT count(*) FROM turnback_fence WHERE step = 'schema-down'";
    assert_eq!(shop.postgres.value("shop", fenced).await?.as_deref(), Some("1"), "taken back once");
    assert_eq!(shop.rig.vendors.lines("shop"), ["POST /maintenance/enable", "POST /maintenance/disable"]);
    let dumps = std::fs::read_dir(shop.folder.path().join("backups"))?.count();
    assert_eq!(dumps, 2, "a dump and its checksum");
    Ok(())
}

#[tokio::test]
async fn a_migration_that_cannot_be_reversed_is_left_to_people_and_all_else_goes_back_alone() -> Result<()> {
    let mut shop = Shop::open().await?;
    let github = shop.vendors();
    let told = shop.turn_back(json!({ "database": "forward_fix" }), "auto").await?;
    told.assert_procedure(RUNBOOK, &["Database rollback, step 3"], &shop.rig.vendors);
    assert_common(&shop, &told, &github).await?;
    assert!(!told.records.iter().any(|record| record.kind == "approval_asked"), "{}", told.story);
    let newest = shop.postgres.value("shop", "SELECT max(version) FROM schema_migrations").await?;
    assert_eq!(newest.as_deref(), Some(MIGRATION), "the schema is as it was");
    let asked = shop.rig.vendors.messages().into_iter().filter(|(_, text)| text.contains("By hand, please"));
    assert_eq!(asked.count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_backup_is_restored_beside_checked_and_swapped_in() -> Result<()> {
    let mut shop = Shop::open().await?;
    let github = shop.vendors();
    shop.postgres.dump("shop", &shop.folder.path().join("last.dump"))?;
    let told = shop.turn_back(json!({ "database": "restore" }), "auto").await?;
    told.assert_procedure(RUNBOOK, &["Database rollback, step 2"], &shop.rig.vendors);
    assert_common(&shop, &told, &github).await?;
    let newest = "SELECT max(version) FROM schema_migrations";
    assert_eq!(shop.postgres.value("shop", newest).await?.as_deref(), Some("20260201090000"));
    assert_eq!(shop.postgres.value("shop", "SELECT count(*) FROM orders").await?.as_deref(), Some("100"));
    assert_eq!(shop.postgres.value("shop-before", newest).await?.as_deref(), Some(MIGRATION), "it is kept");
    Ok(())
}
