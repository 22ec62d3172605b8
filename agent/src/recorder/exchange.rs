//! The listening side: one connection after the other, one request each; and the notes that programs left.
//!
//! Written by hand and small, because what counts is what arrives on the wire, and a reply that is lost on purpose is
//! nothing that a server library offers.

use super::{Received, Recorder, Reply, Role, split};
use rules::preset::{Sent, body};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Headers that the client or the protocol adds; a preset does not set them.
const NOT_OURS: [&str; 5] = ["accept", "content-length", "host", "idempotency-key", "user-agent"];
/// Variables that are there without the preset: of the agent, of the shell that notes them.
const BASE: [&str; 8] = ["PATH", "LANG", "PWD", "OLDPWD", "SHLVL", "_", "HOME", "TERM"];
/// No example comes near it.
const LONGEST_REQUEST: usize = 256 * 1024;

impl Recorder {
    /// Answers until it is dropped. `received` gets every request.
    pub(super) async fn serve(&self, received: &mut Vec<Received>) -> io::Result<Infallible> {
        loop {
            let (mut stream, _) = self.listener.accept().await?;
            let Some((role, request)) = self.read(&mut stream).await? else {
                continue;
            };
            received.push(request);
            if let Some(Reply::Answer { status, body }) = self.replies.get(&role) {
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status} told\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                stream.write_all(format!("{head}{body}").as_bytes()).await?;
                stream.shutdown().await?;
            }
        }
    }

    /// One request. `None` if the other side said nothing that is one.
    async fn read(&self, stream: &mut TcpStream) -> io::Result<Option<(Role, Received)>> {
        let mut bytes = Vec::new();
        let (head, length) = loop {
            let mut some = [0; 4096];
            let count = stream.read(&mut some).await?;
            bytes.extend_from_slice(&some[..count]);
            if count == 0 || bytes.len() > LONGEST_REQUEST {
                return Ok(None);
            }
            let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length: usize =
                header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            if bytes.len() >= end + 4 + length {
                bytes.drain(..end + 4);
                break (head, length);
            }
        };
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        Ok(self.understand(&head, &text))
    }

    fn understand(&self, head: &str, text: &str) -> Option<(Role, Received)> {
        let mut words = head.lines().next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let (name, path) = split(target.strip_prefix('/')?);
        let role = [Role::Apply, Role::Inspect, Role::Verify, Role::Undo]
            .into_iter()
            .find(|one| one.name() == name)?;
        let place = self.places.get(&role)?;
        let headers = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        let headers: BTreeMap<String, String> =
            headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        let key = headers.get("idempotency-key").cloned();
        let sent = Sent::Request {
            method: method.to_owned(),
            url: format!("{place}{path}"),
            headers,
            body: (!text.is_empty()).then(|| body(text)),
        };
        Some((role, Received { role, sent, key }))
    }

    /// What programs noted, each role's last run as many times as it ran.
    pub(super) fn noted(&self) -> io::Result<Vec<Received>> {
        let mut all = Vec::new();
        for (role, place) in &self.places {
            let file = |what: &str| self.directory.0.join(format!("{}.{what}", role.name()));
            if !file("count").exists() {
                continue;
            }
            let parts = |what: &str| -> io::Result<Vec<String>> {
                let text = std::fs::read_to_string(file(what))?;
                Ok(text.strip_suffix('\0').unwrap_or(&text).split('\0').map(str::to_owned).collect())
            };
            let env: BTreeMap<String, String> = parts("env")?
                .iter()
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let one = Received {
                role: *role,
                key: env.get("TURNBACK_KEY").cloned(),
                sent: Sent::Command {
                    argv: parts("argv")?,
                    env,
                    directory: Some(place.clone()).filter(|at| !at.is_empty()),
                },
            };
            let times = std::fs::read_to_string(file("count"))?.lines().count();
            all.extend(std::iter::repeat_n(one, times));
        }
        Ok(all)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// What was received without what a preset did not set: headers of the protocol, variables of the surroundings, unless
/// the example has them.
pub(super) fn without_surroundings(received: &Sent, expected: &Sent) -> Sent {
    match (received.clone(), expected) {
        (Sent::Request { method, url, mut headers, body }, Sent::Request { headers: set, .. }) => {
            headers.retain(|name, _| set.contains_key(name) || !NOT_OURS.contains(&name.as_str()));
            Sent::Request { method, url, headers, body }
        }
        (Sent::Command { argv, mut env, directory }, Sent::Command { env: set, .. }) => {
            let ours = |name: &str| BASE.contains(&name) || name.starts_with("TURNBACK_");
            env.retain(|name, _| set.contains_key(name) || !ours(name));
            Sent::Command { argv, env, directory }
        }
        (other, _) => other,
    }
}
