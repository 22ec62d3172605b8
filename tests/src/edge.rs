//! A real nginx as the edge of a CDN: it keeps what the origin said for an hour, whatever the origin says meanwhile, and
//! forgets a page only when it is told to.
//!
//! nginx itself has no purge: `GET /purge/PAGE` passes the cache by, fetches the page anew and keeps that, whatever it is.
//! (The module `ngx_cache_purge` has one, but the version that Debian ships ends nginx with a segmentation fault.) One
//! process as whoever runs the test, all files in a folder of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::process::Process;
use crate::{http, ports, wait};

/// From start to answering; a tenth of a second on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Another program may take the port between our asking and the server's binding it.
const ATTEMPTS: usize = 3;
/// Where Debian puts it; no shell of an ordinary user looks there.
const PROGRAM: &str = "/usr/sbin/nginx";

/// A running edge, killed on drop.
#[derive(Debug)]
pub struct Edge {
    process: Process,
    address: SocketAddr,
    client: reqwest::Client,
    // Removed after the process, which works in it.
    _folder: TempDir,
}

/// What users get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The status.
    pub status: u16,
    /// The text.
    pub text: String,
    /// What nginx says of its cache: `HIT`, `MISS`; empty where it says nothing.
    pub cache: String,
}

impl Edge {
    /// Starts an edge in front of `origin`.
    ///
    /// # Errors
    /// If nginx is not installed or does not start, with what it printed.
    pub async fn start(origin: SocketAddr) -> Result<Edge> {
        let mut last = anyhow!("no attempt was made");
        for _ in 0..ATTEMPTS {
            let folder = tempfile::tempdir().context("making a folder for nginx")?;
            let port = ports::free_port()?;
            let file = folder.path().join("nginx.conf");
            std::fs::write(&file, configuration(folder.path(), port, origin))
                .context("writing nginx.conf")?;
            let mut command = Command::new(PROGRAM);
            command.args(["-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(&file);
            let process = Process::start(command, &folder.path().join("log")).context(
                "nginx is not installed? `make setup-test` does it (Debian's package `nginx-light`)",
            )?;
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let edge = Edge { process, address, client: http::client()?, _folder: folder };
            let ready = wait::until("nginx to answer", START_LIMIT, async || {
                ensure!(!edge.process.has_ended()?, "nginx ended: {}", edge.process.last_words());
                let answer = edge.client.get(edge.url("/edge-is-up")).send().await;
                Ok(answer.ok().filter(|answer| answer.status() == 204))
            })
            .await;
            match ready {
                Ok(_) => return Ok(edge),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Where users send their requests.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Where it takes purges, as the preset `nginx-cache-purge` wants it.
    pub fn purge(&self) -> String {
        self.url("/purge")
    }

    /// Asks for a path, as a user does.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn get(&self, path: &str) -> Result<Served> {
        let answer = self.client.get(self.url(path)).send().await.context("asking the edge")?;
        let cache = answer.headers().get("x-cache").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (status, cache) = (answer.status().as_u16(), cache.to_owned());
        Ok(Served { status, cache, text: answer.text().await.context("reading the edge's answer")? })
    }
}

/// Pages are kept by their path alone. The one process is neither a master nor a daemon, so it dies with the test.
fn configuration(folder: &Path, port: u16, origin: SocketAddr) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {folder}/{kind};\n"))
        .concat();
    format!(
        r#"daemon off;
master_process off;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
{temporary}    proxy_cache_path {folder}/cache levels=1:2 keys_zone=pages:1m use_temp_path=off;
    server {{
        listen 127.0.0.1:{port};
        location = /edge-is-up {{ return 204; }}
        proxy_cache pages;
        proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;
        location ~ ^/purge(/.*)$ {{
            allow 127.0.0.1;
            deny all;
            proxy_pass http://{origin}$1;
            proxy_cache_key $1;
            proxy_cache_bypass 1;
            proxy_cache_valid 200 1h;
            proxy_cache_valid any 1m;
        }}
        location / {{
            proxy_pass http://{origin};
            proxy_cache_key $uri;
            proxy_cache_valid 200 1h;
            add_header X-Cache $upstream_cache_status always;
        }}
    }}
}}
"#
    )
}
