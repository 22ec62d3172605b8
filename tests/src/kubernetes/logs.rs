//! A node that has logs: the one thing of a kubelet that the API server asks for and that the fake one does not say.
//!
//! Whatever pod names this node in its specification has the same log, two lines that name the pod. The API server asks
//! over TLS and takes any certificate, so its own serves; a few lines of Python speak it, since TLS of our own would be one
//! more dependency.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::Cluster;
use crate::process::Process;
use crate::{ports, wait};

/// From start to listening; a tenth of a second on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Answers `/containerLogs/NAMESPACE/POD/CONTAINER`.
const SERVER: &str = r#"
import http.server, ssl, sys
class Logs(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        parts = self.path.split("?")[0].split("/")
        known = len(parts) == 5 and parts[1] == "containerLogs"
        text = f"{parts[3]} {parts[4]}: started\n{parts[3]} {parts[4]}: ready\n" if known else "no such page\n"
        self.send_response(200 if known else 404)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Logs)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// A node with logs; they end with it.
#[derive(Debug)]
pub struct Node {
    name: String,
    _server: Process,
}

impl Node {
    /// What pods write into `nodeName`. They should have no grace period: there is nobody to end them.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Cluster {
    /// Makes a node with logs.
    ///
    /// # Errors
    /// If Python cannot be started or the API server refuses the node.
    pub async fn node(&self) -> Result<Node> {
        let (name, port) = (format!("node-of-{}", self.namespace().await?), ports::free_port()?);
        let certificates = self.folder.path().join("certificates");
        let mut command = Command::new("python3");
        command.args(["-c", SERVER, &port.to_string()]);
        command.arg(certificates.join("apiserver.crt")).arg(certificates.join("apiserver.key"));
        let server = Process::start(command, &self.folder.path().join(format!("{name}.log")))
            .context("starting Python for the logs of pods")?;
        wait::until("the logs of pods to be served", START_LIMIT, async || {
            ensure!(!server.has_ended()?, "the server of logs ended: {}", server.last_words());
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok())
        })
        .await?;
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
        self.api.post("/api/v1/nodes", &node).await?.ok()?;
        let status = json!({ "status": {
            "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
            "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
        } });
        self.api.merge(&format!("/api/v1/nodes/{name}/status"), &status).await?.ok()?;
        Ok(Node { name, _server: server })
    }
}
