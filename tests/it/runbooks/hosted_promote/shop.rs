//! What a hosted platform runs on: deployments, variables and a configuration at a recorded vendor that keeps what it is
//! told, a real PostgreSQL, the project with its scripts, a flag service.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::postgres::PostgresServer;
use tests::site::{Page, Site};
use tests::vendors::{Answer, Vendors};

use crate::runbooks::rig::{BAD, Document, GOOD, Rig, Told};

pub const RUNBOOK: &str = "hosted-promote";
pub const MIGRATION: &str = "20260301120000";
const FEATURE: &str = "/api/admin/projects/default/features/new-cart/environments/production";

/// What the platform knows.
#[derive(Debug)]
pub struct Platform {
    /// The deployment in production.
    pub live: String,
    /// The last move of the domains.
    alias: Value,
    /// The environment variable, as the next build will get it and as the live deployment got it.
    pub variable: [String; 2],
    /// Questions about a build that still runs.
    building: u32,
    /// Whether the feature is on, by the configuration and by the flag service.
    pub feature: bool,
}

pub type Shared = Arc<Mutex<Platform>>;

pub fn look(platform: &Shared) -> MutexGuard<'_, Platform> {
    platform.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that the service runs on.
pub struct Shop {
    pub rig: Rig,
    pub postgres: PostgresServer,
    pub site: Arc<Site>,
    pub platform: Shared,
    pub folder: tempfile::TempDir,
}

/// The page works with the good code or without the feature, the configuration with the prior value.
fn show(site: &Site, platform: &Platform) {
    let works = platform.live != BAD || !platform.feature;
    let status = |good: bool| if good { 200 } else { 500 };
    site.put("/cart", Page::json("{}").with_status(status(works)));
    let configured = platform.variable[1] == "20";
    site.put("/configuration", Page::json("{}").with_status(status(configured)));
}

impl Shop {
    pub async fn open() -> Result<Shop> {
        let rig = Rig::open().await?;
        let variable = ["20".to_owned(), "20".to_owned()];
        let platform =
            Platform { live: GOOD.into(), alias: Value::Null, variable, building: 0, feature: false };
        let shop = Shop {
            rig,
            postgres: PostgresServer::start().await?,
            site: Arc::new(Site::start().await?),
            platform: Arc::new(Mutex::new(platform)),
            folder: tempfile::tempdir()?,
        };
        shop.postgres.run("shop", include_str!("database.sql")).await?;
        shop.files()?;
        shop.rig.vendors.slack();
        shop.deployments();
        shop.configuration();
        flags(&shop.rig.vendors, &shop.platform, &shop.site);
        Ok(shop)
    }

    fn files(&self) -> Result<()> {
        let folder = self.folder.path();
        for name in ["scripts", "supabase/migrations", "supabase/down", "backups", "dumps"] {
            std::fs::create_dir_all(folder.join(name))?;
        }
        for (name, text) in [
            ("scripts/create-rollback.ts", include_str!("create-rollback.ts")),
            ("scripts/verify-migration-dependencies.ts", include_str!("verify-migration-dependencies.ts")),
            ("scripts/db-backup.ts", include_str!("db-backup.ts")),
            ("supabase/migrations/20260201090000.sql", "-- carts\n"),
            ("supabase/migrations/20260301120000.sql", "ALTER TABLE public.carts ADD COLUMN discount int;\n"),
            ("supabase/down/20260301120000.sql", "ALTER TABLE public.carts DROP COLUMN discount;\n"),
            ("backups/4711.sql", "UPDATE public.carts SET currency = 'EUR';\n"),
            ("supabase.sh", include_str!("supabase.sh")),
            ("tsx.sh", include_str!("tsx.sh")),
        ] {
            std::fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))?;
        }
        std::fs::write(folder.join("psql-directory"), self.postgres.programs().display().to_string())?;
        for name in ["supabase.sh", "tsx.sh"] {
            std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Deployments of the project: listed, found, promoted, built again.
    fn deployments(&self) {
        let vendors = &self.rig.vendors;
        let (own, site) = (self.platform.clone(), self.site.clone());
        vendors.on("vercel", "GET", "/v6/deployments", move |_| {
            let mut platform = look(&own);
            if platform.building == 1 {
                platform.variable[1] = platform.variable[0].clone();
                show(&site, &platform);
            }
            platform.building = platform.building.saturating_sub(1);
            let state = if platform.building == 0 { "READY" } else { "BUILDING" };
            Answer::json(200, &json!({ "deployments": [{ "uid": platform.live, "readyState": state }] }))
        });
        let found = json!({ "id": GOOD, "readyState": "READY" });
        vendors.answers("vercel", "GET", &format!("/v13/deployments/{GOOD}"), Answer::json(200, &found));
        let (own, site) = (self.platform.clone(), self.site.clone());
        vendors.on("vercel", "POST", "/v10/projects/prj_web/promote/*", move |asked| {
            let mut platform = look(&own);
            platform.live = asked.path.rsplit('/').next().unwrap_or_default().to_owned();
            platform.alias =
                json!({ "type": "promote", "toDeploymentId": platform.live, "jobStatus": "succeeded" });
            show(&site, &platform);
            Answer::json(202, &json!({}))
        });
        let own = self.platform.clone();
        vendors.on("vercel", "GET", "/v9/projects/prj_web", move |_| {
            Answer::json(200, &json!({ "id": "prj_web", "lastAliasRequest": look(&own).alias }))
        });
        let own = self.platform.clone();
        vendors.on("vercel", "POST", "/v13/deployments", move |_| {
            look(&own).building = 3;
            Answer::json(200, &json!({ "id": "dpl_again", "readyState": "QUEUED" }))
        });
    }

    /// Variables and the configuration of flags. What a build gets is live once the build is.
    fn configuration(&self) {
        let vendors = &self.rig.vendors;
        let own = self.platform.clone();
        vendors.on("vercel", "GET", "/v1/projects/prj_web/env/CART_LIMIT", move |_| {
            Answer::json(200, &json!({ "key": "CART_LIMIT", "value": look(&own).variable[0] }))
        });
        let own = self.platform.clone();
        vendors.on("vercel", "PATCH", "/v9/projects/prj_web/env/CART_LIMIT", move |asked| {
            look(&own).variable[0] = asked.json()["value"].as_str().unwrap_or_default().to_owned();
            Answer::json(200, &json!({}))
        });
        let (own, site) = (self.platform.clone(), self.site.clone());
        vendors.on("vercel", "POST", "/v1/global-config/ecfg_flags/backups/v41/restore", move |_| {
            let mut platform = look(&own);
            platform.feature = false;
            show(&site, &platform);
            Answer::json(200, &json!({}))
        });
    }

    /// What the bad release's pipeline does: code, a migration that also writes, a variable, the feature.
    fn deploy(&self) {
        let mut platform = look(&self.platform);
        platform.live = BAD.into();
        platform.variable = ["200".into(), "200".into()];
        platform.feature = true;
        show(&self.site, &platform);
    }

    /// The whole road, with these choices and after `spoil`, the statements of the bad release.
    pub async fn turn_back(
        &mut self,
        choices: Value,
        spoil: &str,
        autonomy: &'static str,
        bad: impl Fn(&Platform) -> bool,
    ) -> Result<Told> {
        let vendor = |name: &str| self.rig.vendors.url(name);
        let path = |name: &str| self.folder.path().join(name);
        // The same questions over seconds.
        let errors = "(sum(rate(http_requests_total{code=~\"5..\"}[6s])) or vector(0)) / \
                      sum(rate(http_requests_total[6s])) < bool 0.01";
        let critical = "histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[6s]))) < bool 0.3";
        let mut with = json!({
            "channel": "#incidents", "slack": vendor("slack"), "vercel": vendor("vercel"), "project": "prj_web",
            "page": self.site.url("/cart"), "configuration_page": self.site.url("/configuration"),
            "monitor_seconds": 12, "directory": self.folder.path(), "home": self.folder.path(),
            "tsx": path("tsx.sh"), "supabase_cli": path("supabase.sh"),
            "backup_directory": path("dumps"), "postgres_programs": self.postgres.programs(),
            "unleash": vendor("unleash"), "prometheus": self.rig.prometheus.url(),
            "errors_query": errors, "critical_query": critical,
        });
        for (key, value) in choices.as_object().context("choices are a map")? {
            with[key] = value.clone();
        }
        let token = |name: &'static str| (name, format!("token-of-{name}"));
        let mut environment: Vec<_> =
            ["SLACK_BOT_TOKEN", "VERCEL_TOKEN", "UNLEASH_ADMIN_TOKEN", "SUPABASE_DB_PASSWORD"]
                .map(token)
                .into();
        environment.push(("DATABASE_URL", self.postgres.url("shop")));
        self.rig.launch(Document { runbook: RUNBOOK, with, autonomy, environment }).await?;
        self.deploy();
        if !spoil.is_empty() {
            self.postgres.run("shop", spoil).await?;
        }
        self.rig.turn_back(async || Ok(bad(&look(&self.platform)))).await
    }

    /// How many dumps were written before the database was changed.
    pub fn dumps(&self) -> Result<usize> {
        let files = std::fs::read_dir(self.folder.path().join("dumps"))?;
        let names = files.filter_map(|file| Some(file.ok()?.file_name().to_string_lossy().into_owned()));
        Ok(names.filter(|name| name.starts_with("before-rollback-") && name.ends_with(".dump")).count())
    }
}

/// The flag service.
fn flags(vendors: &Vendors, platform: &Shared, site: &Arc<Site>) {
    let own = platform.clone();
    vendors.on("unleash", "GET", FEATURE, move |_| {
        Answer::json(200, &json!({ "name": "production", "enabled": look(&own).feature }))
    });
    let (own, site) = (platform.clone(), site.clone());
    vendors.on("unleash", "POST", &format!("{FEATURE}/off"), move |_| {
        let mut platform = look(&own);
        platform.feature = false;
        show(&site, &platform);
        Answer::empty(200)
    });
}
