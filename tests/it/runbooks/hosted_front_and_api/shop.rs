//! What a hosted front end with a FastAPI back end runs on: a front end's host behind a real CDN edge, a back end on a real
//! API server, a real PostgreSQL laid out as Supabase does it and a staging one beside, real RQ workers, recorded vendors.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tests::edge::Edge;
use tests::kubernetes::Cluster;
use tests::postgres::PostgresServer;
use tests::redis::RedisServer;
use tests::rq::Worker;
use tests::site::{Page, Site};
use tests::tools;
use tests::vendors::{Answer, Asked};

use crate::runbooks::rig::{BAD, Document, GOOD, Rig, Told};

pub const RUNBOOK: &str = "hosted-front-and-api";
pub const ORGANIZATION: &str = "0b8f3a52-3c3e-4d43-9c55-0c6a2f9d1e11";
const CLAIMS: &str = r#"{"sub": "member-1", "role": "authenticated"}"#;
const MIGRATION: &str = "20260301120000";
const STORAGE_MIGRATION: &str = "20260301120500";
pub const PROJECT: &str = "abcdefghijklmnopqrst";
pub const ZONE: &str = "0123456789abcdef0123456789abcdef";
pub const PAGES: [&str; 4] = ["/tasks", "/documents", "/onboarding", "/assistant"];
/// Smoke checks of the back end.
const PATHS: [&str; 4] = ["/health", "/readiness", "/v1/tasks", "/v1/storage/documents"];
const DATABASES: [&str; 2] = ["shop", "staging"];

/// Everything that the service runs on.
pub struct Shop {
    pub rig: Rig,
    cluster: &'static Cluster,
    namespace: String,
    pub postgres: Arc<PostgresServer>,
    pub redis: RedisServer,
    pub worker: Worker,
    /// Where the front end's pages come from.
    pub front: Arc<Site>,
    pub edge: Edge,
    /// The back end, as it answers from outside.
    pub back: Arc<Site>,
    pub folder: tempfile::TempDir,
}

/// The pages of a release. Those of the bad one have no dock and complain on the console.
fn release_front(site: &Site, version: &str) {
    let body = if version == GOOD {
        r#"<div id="assistant-dock">How can I help?</div>"#
    } else {
        r#"<script>console.error("the assistant is gone")</script>"#
    };
    for page in PAGES {
        site.put(page, Page::html(&format!("<h1>{page} of {version}</h1>{body}")));
    }
}

fn answer_back(site: &Site, status: u16) {
    for path in PATHS {
        site.put(path, Page::json("{}").with_status(status));
    }
}

fn image(name: &str, version: &str) -> String {
    format!("registry.example/shop/{name}:{version}")
}

fn deployment(name: &str, version: &str) -> Value {
    let environment = json!([{"name": "AUTOPILOT_WORKER_DISABLED", "value": "false"}]);
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 1,
        "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}},
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": name, "image": image(name, version), "env": environment}]},
        },
    }})
}

impl Shop {
    pub async fn open() -> Result<Shop> {
        let rig = Rig::open().await?;
        let (front, back) = (Arc::new(Site::start().await?), Arc::new(Site::start().await?));
        release_front(&front, GOOD);
        answer_back(&back, 200);
        let edge = Edge::start(front.address()).await?;
        let cluster = Cluster::shared().await?;
        let namespace = cluster.namespace().await?;
        let redis = RedisServer::start(&[]).await?;
        let worker = Worker::start(&redis)?;
        let shop = Shop {
            rig,
            cluster,
            namespace,
            postgres: Arc::new(PostgresServer::start().await?),
            redis,
            worker,
            front,
            edge,
            back,
            folder: tempfile::tempdir()?,
        };
        for name in ["api", "worker"] {
            shop.cluster.api().post(&shop.path(""), &deployment(name, GOOD)).await?.ok()?;
        }
        shop.data().await?;
        shop.files()?;
        shop.vendors();
        Ok(shop)
    }

    fn path(&self, name: &str) -> String {
        let slash = if name.is_empty() { "" } else { "/" };
        format!("/apis/apps/v1/namespaces/{}/deployments{slash}{name}", self.namespace)
    }

    async fn data(&self) -> Result<()> {
        self.postgres.run("postgres", "CREATE DATABASE staging").await?;
        self.postgres.run("postgres", "CREATE ROLE authenticated NOLOGIN").await?;
        for database in DATABASES {
            self.postgres.run(database, include_str!("database.sql")).await?;
        }
        Ok(())
    }

    fn files(&self) -> Result<()> {
        let write = |name: &str, text: &str| {
            std::fs::write(self.folder.path().join(name), text).with_context(|| format!("writing {name}"))
        };
        std::fs::create_dir(self.folder.path().join("app"))?;
        let package = json!({
            "name": "app", "version": "1.0.0", "scripts": { "test:smoke": "node smoke.js" },
        });
        write("app/package.json", &package.to_string())?;
        write("app/smoke.js", include_str!("smoke.js"))?;
        write("app/api", &self.back.url(""))?;
        write("down.sql", include_str!("down.sql"))?;
        write("storage_down.sql", include_str!("storage_down.sql"))
    }

    fn vendors(&self) {
        let vendors = &self.rig.vendors;
        vendors.slack();
        vendors.github("shop/app", "deploy.yml");
        let project = "/v9/projects/prj_web";
        let alias = Arc::new(Mutex::new(Value::Null));
        let (front, own) = (self.front.clone(), alias.clone());
        vendors.on("vercel", "POST", "/v1/projects/prj_web/rollback/*", move |asked| {
            let version = asked.path.rsplit('/').next().unwrap_or_default();
            release_front(&front, version);
            *own.lock().unwrap_or_else(PoisonError::into_inner) =
                json!({"type": "rollback", "toDeploymentId": version, "jobStatus": "succeeded"});
            Answer::json(201, &json!({}))
        });
        vendors.on("vercel", "GET", project, move |_| {
            let alias = alias.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Answer::json(200, &json!({ "id": "prj_web", "lastAliasRequest": alias }))
        });
        // While writes are stopped, nobody gets his tasks.
        for (word, status) in [("enable", 503), ("disable", 200)] {
            let back = self.back.clone();
            vendors.on("shop", "POST", &format!("/maintenance/{word}"), move |_| {
                answer_back(&back, status);
                Answer::empty(204)
            });
        }
        self.supabase();
        let flag = Arc::new(Mutex::new(false));
        let own = flag.clone();
        let feature = "/api/admin/projects/default/features/correlation-id-bypass/environments/production";
        vendors.on("unleash", "GET", feature, move |_| {
            let enabled = *own.lock().unwrap_or_else(PoisonError::into_inner);
            Answer::json(200, &json!({ "name": "production", "enabled": enabled }))
        });
        vendors.on("unleash", "POST", &format!("{feature}/on"), move |_| {
            *flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
            Answer::empty(200)
        });
        let purge = format!("/client/v4/zones/{ZONE}/purge_cache");
        vendors.answers("cloudflare", "POST", &purge, Answer::json(200, &json!({ "success": true })));
        let group = json!({ "by": { "outcome": "accepted" }, "totals": { "sum(quantity)": 42 } });
        let counts = json!({ "groups": [group] });
        vendors.answers("sentry", "GET", "/api/0/organizations/shop/stats_v2/", Answer::json(200, &counts));
        vendors.answers("collector", "GET", "/", Answer::json(200, &json!({ "status": "Server available" })));
    }

    /// Restore points, and a restore that takes a while and then has really put the data back.
    fn supabase(&self) {
        let vendors = &self.rig.vendors;
        let point = format!("/v1/projects/{PROJECT}/database/backups/restore-point");
        let named = Arc::new(Mutex::new(Vec::<String>::new()));
        let own = named.clone();
        vendors.on("supabase", "POST", &point, move |asked| {
            let name = asked.json()["name"].as_str().unwrap_or_default().to_owned();
            if name.is_empty() || name.len() > 20 {
                return Answer::json(400, &json!({ "message": "name must have at most 20 characters" }));
            }
            own.lock().unwrap_or_else(PoisonError::into_inner).push(name.clone());
            Answer::json(201, &json!({ "name": name, "status": "AVAILABLE" }))
        });
        vendors.on("supabase", "GET", &point, move |asked| {
            let named = named.lock().unwrap_or_else(PoisonError::into_inner);
            match named.iter().find(|name| asked.query == format!("name={name}")) {
                Some(name) => Answer::json(200, &json!({ "name": name, "status": "AVAILABLE" })),
                None => Answer::json(404, &json!({ "message": "no such restore point" })),
            }
        });
        let status = Arc::new(Mutex::new("ACTIVE_HEALTHY"));
        let (own, postgres) = (status.clone(), self.postgres.clone());
        let restore = format!("/v1/projects/{PROJECT}/database/backups/restore-pitr");
        vendors.on("supabase", "POST", &restore, move |_| {
            *own.lock().unwrap_or_else(PoisonError::into_inner) = "RESTORING";
            let (own, postgres) = (own.clone(), postgres.clone());
            tokio::spawn(async move {
                let again = "DROP SCHEMA supabase_migrations, storage CASCADE; DROP TABLE public.tasks, public.members \
                             CASCADE; DROP FUNCTION public.is_member_of;";
                let script = format!("{again}\n{}", include_str!("database.sql"));
                // Otherwise it stays in the restore, and the runbook's question says so.
                match postgres.run("shop", &script).await {
                    Ok(()) => *own.lock().unwrap_or_else(PoisonError::into_inner) = "ACTIVE_HEALTHY",
                    Err(error) => eprintln!("restoring: {error:#}"),
                }
            });
            Answer::json(201, &json!({}))
        });
        vendors.on("supabase", "GET", &format!("/v1/projects/{PROJECT}"), move |_| {
            let status = *status.lock().unwrap_or_else(PoisonError::into_inner);
            Answer::json(200, &json!({ "ref": PROJECT, "status": status }))
        });
    }

    /// What the bad release's pipeline does: images, both databases, the front end; and users fill the caches of the edge.
    async fn deploy(&self) -> Result<()> {
        for name in ["api", "worker"] {
            self.cluster.api().merge(&self.path(name), &deployment(name, BAD)).await?.ok()?;
        }
        for database in DATABASES {
            self.postgres.run(database, include_str!("up.sql")).await?;
        }
        release_front(&self.front, BAD);
        for page in PAGES {
            ensure!(self.edge.get(page).await?.text.contains(&format!("of {BAD}")), "{page}");
        }
        // One job runs, one waits, and one has ended without a word.
        Worker::enqueue(&self.redis, "import", "time.sleep", &[600]).await?;
        self.worker.until(&self.redis, "import", "started").await?;
        Worker::enqueue(&self.redis, "mail", "math.gcd", &[12, 18]).await?;
        let _added: i64 = self.redis.say("ZADD rq:wip:default 9999999999 gone").await?;
        Ok(())
    }

    pub async fn container(&self, name: &str) -> Result<Value> {
        let object = self.cluster.api().get(&self.path(name)).await?.ok()?;
        Ok(object["spec"]["template"]["spec"]["containers"][0].clone())
    }

    /// What a team would write under `with:`, without the choices.
    fn inputs(&self) -> Result<Value> {
        let path = |name: &str| self.folder.path().join(name);
        let of_the_team = json!({
            "channel": "#incidents", "owner": "shop", "repository": "app", "log_issue": 7,
            "image": "registry.example/shop/api", "worker_image": "registry.example/shop/worker",
            "supabase_project": PROJECT, "migration": MIGRATION, "storage_migration": STORAGE_MIGRATION,
            "rls_organization": ORGANIZATION, "rls_claims": CLAIMS,
            "storage_question": "SELECT count(*) = 1 FROM pg_policies WHERE schemaname = 'storage' AND \
                                 policyname = 'members read documents'",
            "vercel_project": "prj_web", "cloudflare_zone": ZONE,
            "cloudflare_prefixes": PAGES.map(|page| format!("shop.example{page}")),
            "sentry_organization": "shop", "sentry_project": 4711, "front_seconds": 3,
        });
        let of_this_computer = json!({
            "namespace": self.namespace, "kubeconfig": self.cluster.kubeconfig(),
            "kubectl": tools::on_path("kubectl")?, "rq_python": tests::rq::PYTHON,
            "down_file": path("down.sql"), "storage_down_file": path("storage_down.sql"),
            "smoke_directory": path("app"), "npm": tools::on_path("npm")?, "home": self.folder.path(),
            "browser": tools::on_path("chromium")?, "browser_sandbox": false,
            "api": self.back.url(""), "edge": self.edge.purge(), "front": self.edge.url("/tasks"),
        });
        let mut with = self.vendor_addresses();
        for more in [of_the_team, of_this_computer] {
            merge(&mut with, &more)?;
        }
        Ok(with)
    }

    fn vendor_addresses(&self) -> Value {
        let vendor = |name: &str| self.rig.vendors.url(name);
        json!({
            "slack": vendor("slack"), "github": vendor("github"), "supabase": vendor("supabase"),
            "unleash": vendor("unleash"), "vercel": vendor("vercel"), "cloudflare": vendor("cloudflare"),
            "sentry": vendor("sentry"), "collector": vendor("collector"),
            "maintenance_on": vendor("shop") + "/maintenance/enable",
            "maintenance_off": vendor("shop") + "/maintenance/disable",
        })
    }

    /// The whole road, with these choices; `autonomy` is `approve` where something destructive is chosen.
    pub async fn turn_back(&mut self, choices: Value, autonomy: &'static str) -> Result<Told> {
        let token = |name: &'static str| (name, format!("token-of-{name}"));
        let mut environment = vec![
            ("DATABASE_URL", self.postgres.url("shop")),
            ("STAGING_DATABASE_URL", self.postgres.url("staging")),
            ("REDIS_URL", self.redis.url()),
        ];
        environment.extend(
            [
                "SLACK_BOT_TOKEN",
                "GITHUB_TOKEN",
                "SERVICE_TOKEN",
                "SUPABASE_ACCESS_TOKEN",
                "UNLEASH_ADMIN_TOKEN",
            ]
            .map(token),
        );
        environment.extend(["VERCEL_TOKEN", "CLOUDFLARE_API_TOKEN", "SENTRY_AUTH_TOKEN"].map(token));
        let mut with = self.inputs()?;
        merge(&mut with, &choices)?;
        self.rig.launch(Document { runbook: RUNBOOK, with, autonomy, environment }).await?;
        self.deploy().await?;
        let bad = async || Ok(self.container("api").await?["image"] == image("api", BAD));
        self.rig.turn_back(bad).await
    }

    /// That code is back, workers run, and no page is stale.
    pub async fn assert_back(&self, told: &Told) -> Result<()> {
        for name in ["api", "worker"] {
            let container = self.container(name).await?;
            assert_eq!(container["image"], image(name, GOOD), "{}", told.story);
        }
        let worker = self.container("worker").await?;
        assert_eq!(
            worker["env"],
            json!([{"name": "AUTOPILOT_WORKER_DISABLED", "value": "false"}]),
            "{}",
            told.story
        );
        // The job that ran was stopped, the one that waited went through once the workers were let on again.
        self.worker.until(&self.redis, "import", "stopped").await?;
        self.worker.until(&self.redis, "mail", "finished").await?;
        assert!(told.output("cancel-running-jobs").contains("1 jobs told to stop"), "{}", told.story);
        let suspended: i64 = self.redis.say("EXISTS rq:suspended").await?;
        assert_eq!(suspended, 0);
        Ok(())
    }

    /// How many rows of a table a member sees in a database, through row-level security.
    pub async fn seen_by_member(&self, database: &str, table: &str) -> Result<i64> {
        let mut connection = self.postgres.connect(database).await?;
        sqlx::raw_sql("SET ROLE authenticated").execute(&mut connection).await?;
        let claims = sqlx::query("SELECT set_config('request.jwt.claims', $1, false)").bind(CLAIMS);
        claims.execute(&mut connection).await?;
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        Ok(sqlx::query_scalar(count).fetch_one(&mut connection).await?)
    }
}

fn merge(with: &mut Value, more: &Value) -> Result<()> {
    for (key, value) in more.as_object().context("inputs are a map")? {
        with[key] = value.clone();
    }
    Ok(())
}

/// The only request with this method and path.
pub fn only<'a>(asked: &'a [Asked], vendor: &str, method: &str, path: &str) -> &'a Asked {
    let fits = |one: &&Asked| one.vendor == vendor && one.method == method && one.path == path;
    let found: Vec<&Asked> = asked.iter().filter(fits).collect();
    assert_eq!(found.len(), 1, "{method} {path} of {vendor}: {found:?}");
    found[0]
}
