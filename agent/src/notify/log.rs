//! Our own log as a channel: always there, and what a first try-out uses.

use super::{Message, Notifier, NotifyError, clean};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

/// Of a text, in characters: a log line is not a report.
const LONGEST: usize = 4_000;

/// The log as a channel. It has nothing to configure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {}

impl LogConfig {
    /// Everything wrong with it: nothing can be.
    pub fn problems(&self) -> Vec<(String, String)> {
        let Self {} = self;
        Vec::new()
    }
}

/// Writes messages to the log: pages as errors, messages of incidents as warnings, the rest as information.
pub struct Log {
    name: String,
}

impl Log {
    /// Nothing can go wrong here.
    pub fn new(name: &str, config: &LogConfig) -> Self {
        let LogConfig {} = config;
        Self { name: name.to_owned() }
    }
}

#[async_trait]
impl Notifier for Log {
    async fn send(&self, message: &Message) -> Result<(), NotifyError> {
        let Message { kind, severity, title, text, service, watch, incident, page, dedup_key, at, link } =
            message;
        let (kind, title, text) = (clean(kind, 64), clean(title, 300), clean(text, LONGEST));
        let (severity, service, watch, link) =
            (severity.as_deref(), service.as_deref(), watch.as_deref(), link.as_deref());
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(
                    target: "turnback::message", %kind, severity, %title, %text, service, watch, incident, page,
                    %dedup_key, %at, link, "message"
                )
            };
        }
        match (page, incident) {
            (true, _) => say!(error),
            (false, true) => say!(warn),
            (false, false) => say!(info),
        }
        Ok(())
    }

    fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::message;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_message_is_one_line_at_its_level() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().json().without_time().with_writer(move || writer.clone()).finish();
        let log = Log::new("log", &LogConfig {});
        let mut quiet = message("all is well", false);
        quiet.incident = false;
        tracing::subscriber::with_default(subscriber, || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for message in [message("page\nINFO forged line", true), message("incident", false), quiet] {
                runtime.block_on(log.send(&message)).unwrap();
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let levels: Vec<&str> = lines.iter().map(|line| line["level"].as_str().unwrap()).collect();
        assert_eq!(levels, ["ERROR", "WARN", "INFO"]);
        assert_eq!(lines[0]["fields"]["title"], "page\nINFO forged line");
        assert_eq!(lines[0]["fields"]["service"], "shop/checkout");
        assert_eq!(lines[0]["fields"]["dedup_key"], "w-1");
    }
}
