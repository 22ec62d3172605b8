//! The world of the Node service: a repository with two releases, a checkout that pm2 runs, queues and caches in a real
//! Redis, rows in a real PostgreSQL, and a front end beside it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::git::GitServer;
use tests::pm2::Pm2;
use tests::postgres::PostgresServer;
use tests::redis::RedisServer;
use tests::{http, ports, wait};

use super::super::rig::{BAD, GOOD};

/// The token that the service's switches take.
pub const TOKEN: &str = "token-of-SERVICE_TOKEN";
/// From pm2's start until both parts answer, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Everything but Prometheus, users, vendors and the agent.
pub struct Shop {
    pub pm2: Pm2,
    pub postgres: PostgresServer,
    pub redis: RedisServer,
    pub client: reqwest::Client,
    pub port: u16,
    /// Where the front end is served.
    pub front: SocketAddr,
    _git: GitServer,
    // Removed after the processes, which write into it.
    pub folder: tempfile::TempDir,
}

impl Shop {
    /// The first release runs, with its rows, jobs and caches.
    pub async fn open() -> Result<Shop> {
        let folder = tempfile::tempdir().context("making a folder for the service")?;
        let git = repository()?;
        let statistics = "shared_preload_libraries=pg_stat_statements";
        let postgres = PostgresServer::start_with(&[statistics]).await?;
        let redis = RedisServer::start(&[]).await?;
        let (port, front_port) = (ports::free_port()?, ports::free_port()?);
        for name in ["home", "static", "backups"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let environment = format!(
            "PORT={port}\nFRONT_PORT={front_port}\nREDIS_URL={}\nDATABASE_URL={}\nPSQL={}\nSERVICE_TOKEN={TOKEN}\n\
             LOG_FILE={}\nSTATIC={}\n",
            redis.url(),
            postgres.url("shop"),
            postgres.programs().join("psql").display(),
            folder.path().join("app.log").display(),
            folder.path().join("static").display(),
        );
        for name in ["app", "front"] {
            run(folder.path(), &["git", "clone", "--quiet", &git.path(), name])?;
            let checkout = folder.path().join(name);
            run(&checkout, &["git", "checkout", "--quiet", "--detach", GOOD])?;
            run(&checkout, &["npm", "install", "--no-audit", "--no-fund"])?;
            run(&checkout, &["npm", "run", "build"])?;
            fs::write(checkout.join(".env"), &environment)?;
        }
        publish(folder.path())?;
        postgres.run("shop", "CREATE EXTENSION pg_stat_statements").await?;
        postgres
            .run("shop", &fs::read_to_string(folder.path().join("app/migrations/0001_projects.sql"))?)
            .await?;
        let pm2 =
            Pm2::start(&folder.path().join("home"), &folder.path().join("app/ecosystem.config.js")).await?;
        let client = http::client()?;
        let front = (Ipv4Addr::LOCALHOST, front_port).into();
        let shop = Shop { pm2, postgres, redis, client, port, front, _git: git, folder };
        shop.fill().await?;
        shop.answers(GOOD).await?;
        Ok(shop)
    }

    /// Where users reach it.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its address for operators.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Caches of the first release, and jobs that have failed long ago.
    async fn fill(&self) -> Result<()> {
        for key in ["gemini:project:1", "gemini:project:2", "gemini:analysis:1"] {
            let _set: String = self.redis.say(&format!("SET {key} {GOOD}")).await?;
        }
        for queue in ["ai-analysis", "document-processing"] {
            let _set: i64 = self.redis.say(&format!("HSET bull:{queue}:meta paused 0")).await?;
            let _added: i64 = self.redis.say(&format!("ZADD bull:{queue}:failed 1 job-0")).await?;
        }
        Ok(())
    }

    /// What the second release's pipeline does: code, migration, build, restart; and its caches are wrong.
    pub async fn deploy_bad(&self) -> Result<()> {
        for name in ["app", "front"] {
            let checkout = self.path(name);
            run(&checkout, &["git", "checkout", "--quiet", "--detach", BAD])?;
            run(&checkout, &["npm", "install", "--no-audit", "--no-fund"])?;
            run(&checkout, &["npm", "run", "build"])?;
        }
        publish(self.folder.path())?;
        let migration = fs::read_to_string(self.path("app/migrations/0002_importance.sql"))?;
        self.postgres.run("shop", &migration).await?;
        // The down statements are on the agent's computer, not in a checkout that goes back.
        fs::copy(self.path("app/migrations/down_0002_importance.sql"), self.path("down.sql"))?;
        self.pm2.run(&["restart", "all"]).await?;
        self.answers(BAD).await?;
        for key in ["gemini:project:1", "gemini:project:2", "gemini:analysis:1", "gemini:scene:7"] {
            let _set: String = self.redis.say(&format!("SET {key} {BAD}")).await?;
        }
        Ok(())
    }

    /// Waits until service and front end answer as this release.
    async fn answers(&self, version: &str) -> Result<()> {
        let what = format!("{version} to answer");
        let waited = wait::until(&what, START_LIMIT, async || {
            Ok((self.version().await.ok().as_deref() == Some(version)
                && self.front_page().await.is_ok_and(|page| page.contains(version)))
            .then_some(()))
        });
        waited.await.with_context(|| self.pm2.last_words())
    }

    /// The release that answers.
    pub async fn version(&self) -> Result<String> {
        let answer: Value = self.get("/api/version").await?;
        Ok(answer["version"].as_str().context("a version is told")?.to_owned())
    }

    /// `GET`, as JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.client.get(format!("{}{path}", self.url())).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    /// What visitors of the front end see.
    pub async fn front_page(&self) -> Result<String> {
        Ok(self.client.get(format!("http://{}/index.html", self.front)).send().await?.text().await?)
    }

    /// What the service did, oldest first, each with the release that did it.
    pub async fn journal(&self) -> Result<Vec<String>> {
        self.redis.say("LRANGE shop:journal 0 -1").await
    }

    /// The commit that is checked out, by its tag.
    pub fn checked_out(&self, name: &str) -> Result<String> {
        Ok(run(&self.path(name), &["git", "describe", "--tags", "--exact-match"])?.trim().to_owned())
    }

    /// A dump of the database as it is, with its checksum beside it.
    pub fn dump(&self) -> Result<PathBuf> {
        let file = self.path("before.dump");
        self.postgres.dump("shop", &file)?;
        Ok(file)
    }

    /// What the team would write under `with:`, without the choices.
    pub fn inputs(&self, vendor: impl Fn(&str) -> String, prometheus: &str) -> Value {
        json!({
            "channel": "#incidents", "stakeholders_channel": "#stakeholders", "slack": vendor("slack"),
            "dashboard": "https://grafana.example/d/shop",
            "service_url": self.url(), "directory": self.path("app"), "home": self.path("home"),
            "log": self.path("app.log"), "pm2": self.pm2.program(), "pm2_home": self.path("home"),
            "backup_directory": self.path("backups"), "postgres_programs": self.postgres.programs(),
            "live_database": "shop", "migration": "1762500000000", "down_file": self.path("down.sql"),
            "front_directory": self.path("front"), "front_static": self.path("static"),
            "monitor_seconds": 8, "queue_seconds": 3, "prometheus": prometheus,
            // Over seconds instead of minutes: five minutes ago the bad release ran.
            "error_rate_query": "(sum(rate(http_requests_total{code=~\"5..\"}[6s])) or vector(0)) \
                                 / sum(rate(http_requests_total[6s])) < bool 0.01",
        })
    }
}

/// The two releases, each with its tag.
fn repository() -> Result<GitServer> {
    let git = GitServer::new()?;
    for (folder, tag) in [("good", GOOD), ("bad", BAD)] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("node-service").join(folder);
        let mut files = Vec::new();
        collect(&root, &root, &mut files)?;
        let files: Vec<(&str, &str)> =
            files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        git.commit(&files, &format!("shop {tag}"))?;
        git.tag(tag)?;
    }
    Ok(git)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, String)>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
            continue;
        }
        let name = path.strip_prefix(root)?.display().to_string();
        // Under its own name it would hide files of this repository.
        let name = if name == "gitignore" { ".gitignore".to_owned() } else { name };
        files.push((name, fs::read_to_string(&path)?));
    }
    Ok(())
}

/// The front end's files to where they are served from.
fn publish(folder: &Path) -> Result<()> {
    fs::copy(folder.join("front/.next/static/index.html"), folder.join("static/index.html"))?;
    Ok(())
}

/// Runs a program of the pipeline in a folder; what it printed.
fn run(folder: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("npm_config_cache", folder.join("../npm-cache"))
        .env("CI", "true");
    let output = command.output().with_context(|| format!("starting {}: is it installed?", words[0]))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{}: {said}{}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}
