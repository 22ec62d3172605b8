//! Back end and front end go back together: the coordinated procedure, on a real API server with pods that have logs, a
//! real PostgreSQL, a real Redis, a real nginx as the CDN's edge, a real browser and a real npm project.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::edge::Edge;
use tests::kubernetes::Node;
use tests::postgres::PostgresServer;
use tests::process::Process;
use tests::redis::RedisServer;
use tests::site::{Page, Site};
use tests::vendors::{Answer, Shared};
use tests::{ports, wait};

use super::rig::{BAD, Document, GOOD, Rig, Told};
use super::workloads::Workloads;

const MIGRATION: &str = "20260301120000";
const RUNBOOK: &str = "coordinated-back-and-front";
/// What the good release's front end expects of the back end, and the bad one's.
const GOOD_API: &str = "https://api.shop.example/one";
const BAD_API: &str = "https://api.shop.example/two";

/// The front end's builds, the link to the one that is served, and the host that serves it.
struct Front {
    folder: tempfile::TempDir,
    edge: Edge,
    _host: Process,
}

impl Front {
    async fn start() -> Result<Front> {
        let folder = tempfile::tempdir()?;
        for (version, api) in [(GOOD, GOOD_API), (BAD, BAD_API)] {
            let build = folder.path().join("releases").join(version);
            std::fs::create_dir_all(build.join("assets"))?;
            let page = format!("<p>shop {version}</p><link rel=\"stylesheet\" href=\"/assets/main.css\">");
            std::fs::write(build.join("index.html"), Page::html(&page).text)?;
            std::fs::write(build.join("service-worker.js"), format!("// {version}\n"))?;
            std::fs::write(build.join("config.json"), json!({ "api": api }).to_string())?;
            std::fs::write(build.join("health"), "ok\n")?;
            std::fs::write(build.join("assets/main.css"), "p { color: black }\n")?;
        }
        let current = folder.path().join("current");
        std::os::unix::fs::symlink(folder.path().join("releases").join(GOOD), &current)?;
        let port = ports::free_port()?;
        let mut host = Command::new("python3");
        host.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"])
            .arg(&current)
            .arg(port.to_string());
        let host = Process::start(host, &folder.path().join("log"))?;
        wait::until("the front end's host", Duration::from_secs(30), async || {
            ensure!(!host.has_ended()?, "the host ended: {}", host.last_words());
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok())
        })
        .await?;
        let edge = Edge::start(([127, 0, 0, 1], port).into()).await?;
        Ok(Front { folder, edge, _host: host })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The bad build goes live, and the edge keeps what users have asked for.
    async fn publish_bad(&self) -> Result<()> {
        let aside = self.path("current.new");
        std::os::unix::fs::symlink(self.path("releases").join(BAD), &aside)?;
        std::fs::rename(aside, self.path("current"))?;
        for page in ["/index.html", "/service-worker.js", "/config.json"] {
            ensure!(self.edge.get(page).await?.cache == "MISS", "{page} was there already");
            ensure!(self.edge.get(page).await?.cache == "HIT", "{page} is not kept");
        }
        Ok(())
    }
}

/// Everything that the product runs on.
struct Shop {
    rig: Rig,
    workloads: Workloads,
    front: Front,
    postgres: PostgresServer,
    redis: RedisServer,
    // Cron jobs' metrics.
    _cron: Site,
    _node: Node,
    folder: tempfile::TempDir,
}

fn image(deployment: &str, version: &str) -> String {
    format!("registry.example/shop/{deployment}:{version}")
}

fn kubectl() -> Result<&'static Path> {
    let places = ["/usr/bin/kubectl", "/usr/local/bin/kubectl"].map(Path::new);
    let found = places.into_iter().find(|path| path.is_file());
    found.context("kubectl is missing: `make setup-test` installs it (Debian's package kubernetes-client)")
}

/// What the team would write under `with:`, without the choices.
fn inputs(shop: &Shop) -> Result<Value> {
    let mut all = back_end(shop)?;
    let more = front_end(shop);
    let (Some(into), Value::Object(more)) = (all.as_object_mut(), more) else {
        unreachable!("both are maps")
    };
    into.extend(more);
    Ok(all)
}

fn back_end(shop: &Shop) -> Result<Value> {
    let vendor = |name: &str| shop.rig.vendors.url(name);
    Ok(json!({
        "channel": "#incidents", "edge_channel": "#edge", "slack": vendor("slack"),
        "owner": "shop", "repository": "shop", "github": vendor("github"), "log_issue": 7,
        "namespace": shop.workloads.namespace, "kubeconfig": shop.workloads.cluster.kubeconfig(),
        "kubectl": kubectl()?,
        "image": "registry.example/shop/backend", "worker_image": "registry.example/shop/worker",
        "unleash": vendor("unleash"), "feature": "new-cart",
        "variable_name": "CART_LIMIT", "variable_value": "20", "variable_now": "200",
        "migration": MIGRATION, "down_file": shop.folder.path().join("down.sql"),
        "backup_directory": shop.folder.path().join("backups"), "postgres_programs": shop.postgres.programs(),
        "backup_file": shop.folder.path().join("last.dump"), "live_database": "shop",
        "schema_question": "SELECT max(version) = '20260201090000' FROM schema_migrations",
        "maintenance_on": vendor("shop") + "/maintenance/enable",
        "maintenance_off": vendor("shop") + "/maintenance/disable",
        "cache_pattern": "cart:v2:*",
        "backend_health": shop.rig.good_address("/healthz"),
    }))
}

fn front_end(shop: &Shop) -> Value {
    let vendor = |name: &str| shop.rig.vendors.url(name);
    let page = |path: &str| shop.front.edge.url(path);
    json!({
        "front_health": page("/health"),
        "front_releases": shop.front.path("releases"), "front_current": shop.front.path("current"),
        "edge": shop.front.edge.purge(), "front_configuration": page("/config.json"),
        "front_configuration_value": GOOD_API, "asset": page("/assets/main.css"), "front": page("/index.html"),
        "browser_sandbox": false,
        "journeys_directory": shop.folder.path().join("journeys"), "home": shop.folder.path(),
        "payments": vendor("payments") + "/health", "authentication": vendor("logins") + "/health",
        "prometheus": shop.rig.prometheus.url(),
        // The same questions over seconds.
        "metrics_query": "sum by (code) (rate(http_requests_total[10s]))",
        "cron_query": "sum(increase(cron_job_failures_total[10s])) == bool 0",
        "stable_query": "(sum(rate(http_requests_total{code=~\"5..\"}[10s])) or vector(0)) \
             / sum(rate(http_requests_total[10s])) < bool 0.05",
    })
}

impl Shop {
    async fn open() -> Result<Shop> {
        let rig = Rig::open().await?;
        let cron = Site::start().await?;
        let metrics = "# TYPE cron_job_failures_total counter\ncron_job_failures_total 3\n";
        cron.put("/metrics", Page { media_type: "text/plain; version=0.0.4", ..Page::json(metrics) });
        rig.scrape_too("cron", cron.address()).await?;
        let workloads = Workloads::new().await?;
        let node = workloads.cluster.node().await?;
        let pod = json!({ "nodeName": node.name(), "terminationGracePeriodSeconds": 0 });
        for name in ["backend", "worker"] {
            workloads.create(name, &image(name, GOOD), pod.clone()).await?;
        }
        let shop = Shop {
            rig,
            workloads,
            front: Front::start().await?,
            postgres: PostgresServer::start().await?,
            redis: RedisServer::start(&[]).await?,
            _cron: cron,
            _node: node,
            folder: tempfile::tempdir()?,
        };
        shop.data().await?;
        Ok(shop)
    }

    async fn data(&self) -> Result<()> {
        self.postgres
            .run(
                "shop",
                "CREATE TABLE schema_migrations (version varchar PRIMARY KEY); \
                 INSERT INTO schema_migrations VALUES ('20260201090000'); \
                 CREATE TABLE carts (id int PRIMARY KEY); INSERT INTO carts SELECT generate_series(1, 100)",
            )
            .await?;
        let folder = self.folder.path();
        std::fs::write(folder.join("down.sql"), "ALTER TABLE carts DROP COLUMN currency;\n")?;
        std::fs::create_dir(folder.join("backups"))?;
        self.postgres.dump("shop", &folder.join("last.dump"))?;
        std::fs::create_dir(folder.join("journeys"))?;
        let package = json!({ "name": "journeys", "version": "1.0.0", "scripts": { "test:journeys": "node journeys.js" } });
        std::fs::write(folder.join("journeys/package.json"), package.to_string())?;
        // A user's journey: the page says which release it is, and the back end answers.
        let test = format!(
            "Promise.all([fetch('{}'), fetch('{}')]).then(async ([page, api]) => {{\n  \
             if (!(await page.text()).includes('shop v1') || !api.ok) process.exit(1)\n  console.log('journeys pass')\n}})\n",
            self.front.edge.url("/index.html"),
            self.rig.good_address("/work"),
        );
        std::fs::write(folder.join("journeys/journeys.js"), test)?;
        Ok(())
    }

    fn vendors(&self) -> Shared {
        let vendors = &self.rig.vendors;
        vendors.slack();
        for vendor in ["payments", "logins"] {
            vendors.answers(vendor, "GET", "/health", Answer::json(200, &json!({ "status": "up" })));
        }
        for way in ["enable", "disable"] {
            vendors.answers("shop", "POST", &format!("/maintenance/{way}"), Answer::empty(204));
        }
        let flag = "/api/admin/projects/default/features/new-cart/environments/production";
        let enabled = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let seen = enabled.clone();
        vendors.on("unleash", "GET", flag, move |_| {
            let enabled = seen.load(std::sync::atomic::Ordering::SeqCst);
            Answer::json(200, &json!({ "name": "production", "enabled": enabled }))
        });
        vendors.on("unleash", "POST", &format!("{flag}/off"), move |_| {
            enabled.store(false, std::sync::atomic::Ordering::SeqCst);
            Answer::json(200, &json!({}))
        });
        vendors.github("shop/shop", "deploy.yml")
    }

    /// What the bad release's pipeline does on both sides.
    async fn deploy(&self) -> Result<()> {
        let variable = json!([{ "name": "CART_LIMIT", "value": "200" }]);
        let container = json!({ "name": "backend", "image": image("backend", BAD), "env": variable });
        self.workloads.change("backend", container).await?;
        self.workloads.set_image("worker", &image("worker", BAD)).await?;
        let migration = format!(
            "ALTER TABLE carts ADD COLUMN currency text; INSERT INTO schema_migrations VALUES ('{MIGRATION}')"
        );
        self.postgres.run("shop", &migration).await?;
        for key in ["cart:v2:1", "cart:v2:2", "cart:v1:1"] {
            let _done: String = self.redis.say(&format!("SET {key} x")).await?;
        }
        let _length: i64 = self.redis.say("RPUSH jobs one two").await?;
        self.front.publish_bad().await
    }

    async fn turn_back(&mut self, choices: Value) -> Result<Told> {
        let token = |name: &'static str| (name, format!("token-of-{name}"));
        let environment = vec![
            token("SLACK_BOT_TOKEN"),
            token("GITHUB_TOKEN"),
            token("SERVICE_TOKEN"),
            token("UNLEASH_ADMIN_TOKEN"),
            token("CLOUDFLARE_API_TOKEN"),
            ("DATABASE_URL", self.postgres.url("shop")),
            ("REDIS_URL", self.redis.url()),
        ];
        let mut with = inputs(self)?;
        for (key, value) in choices.as_object().context("choices are a map")? {
            with[key] = value.clone();
        }
        self.rig.launch(Document { runbook: RUNBOOK, with, autonomy: "auto", environment }).await?;
        self.deploy().await?;
        self.rig.turn_back(async || Ok(self.workloads.image("backend").await?.ends_with(BAD))).await
    }
}

/// What every choice has in common.
async fn assert_common(shop: &Shop, told: &Told, github: &Shared) -> Result<()> {
    shop.rig.assert_used();
    for name in ["backend", "worker"] {
        assert_eq!(shop.workloads.image(name).await?, image(name, GOOD), "{}", told.story);
    }
    assert_eq!(shop.workloads.get("worker").await?["spec"]["replicas"], 2, "the workers work again");
    assert_eq!(std::fs::read_link(shop.front.path("current"))?, shop.front.path("releases").join(GOOD));
    for page in ["/index.html", "/service-worker.js"] {
        let served = shop.front.edge.get(page).await?;
        assert!(served.text.contains(GOOD) && !served.text.contains(BAD), "{page}: {served:?}");
    }
    let keys: Vec<String> = shop.redis.say("KEYS cart:*").await?;
    assert_eq!(keys, ["cart:v1:1"], "caches of the new shape are gone, others are not");
    let github = github.lock().expect("nobody panics with it");
    assert!(!github.enabled && github.runs.is_empty(), "{github:?}");
    assert!(github.comments[0].1.contains("the ledger of Turnback holds each command"), "{github:?}");
    // What was captured before anything was changed, and looked at afterwards, can be read in the ledger.
    for step in ["logs-captured", "logs-reviewed"] {
        assert!(told.output(step).contains("backend: started"), "{step}: {}", told.output(step));
    }
    assert!(
        told.output("metrics-captured").contains(r#""code":"500""#),
        "{}",
        told.output("metrics-captured")
    );
    assert!(
        told.output("critical-journeys").contains("journeys pass"),
        "{}",
        told.output("critical-journeys")
    );
    assert_eq!(told.output("queues-processed"), "jobs holds 2 entries");
    let newest = shop.postgres.value("shop", "SELECT max(version) FROM schema_migrations").await?;
    assert_eq!(newest.as_deref(), Some("20260201090000"));
    assert_eq!(shop.rig.vendors.lines("shop"), ["POST /maintenance/enable", "POST /maintenance/disable"]);
    let edge_teams = shop.rig.vendors.messages().into_iter().filter(|(channel, _)| channel == "#edge");
    assert_eq!(edge_teams.count(), 1);
    Ok(())
}

#[tokio::test]
async fn back_end_and_front_end_go_back_in_order_with_flag_variable_and_migration() -> Result<()> {
    let mut shop = Shop::open().await?;
    let github = shop.vendors();
    let told = shop.turn_back(json!({ "database": "down", "flag": true, "variable": true })).await?;
    told.assert_procedure(RUNBOOK, &[], &shop.rig.vendors);
    assert_common(&shop, &told, &github).await?;
    let limit = &shop.workloads.container("backend").await?["env"][0]["value"];
    assert_eq!(limit, "20", "the variable is what it was");
    let off = "POST /api/admin/projects/default/features/new-cart/environments/production/off";
    assert_eq!(shop.rig.vendors.lines("unleash").iter().filter(|line| *line == off).count(), 1);
    let column = "SELECT count(*) FROM information_schema.columns WHERE column_name = 'currency'";
    assert_eq!(shop.postgres.value("shop", column).await?.as_deref(), Some("0"));
    Ok(())
}
