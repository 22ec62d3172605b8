//! What we say about ourselves: logs, and figures in the form that Prometheus reads.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log on standard error. `filter` is a level or a list such as `info,agent::ledger=debug`. A second call does
/// nothing: whoever embeds the agent has a log already.
pub fn start_log(format: LogFormat, filter: &str, color: bool) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(color).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    drop(started);
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    kind: &'static str,
    result: &'static str,
}

/// Our own figures. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    events: Family<EventLabels, Counter>,
    watches: Gauge,
    ledger: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("turnback");
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of this agent", build);
        let events = Family::<EventLabels, Counter>::default();
        registry.register(
            "requests_with_news",
            "Requests with events or alerts, by kind and result",
            events.clone(),
        );
        let watches = Gauge::default();
        registry.register("watches_open", "Deployments under observation", watches.clone());
        let ledger = Gauge::default();
        registry.register("ledger_head_sequence", "Number of the last record in the ledger", ledger.clone());
        Self { inner: Arc::new(Inner { registry, events, watches, ledger }) }
    }
}

impl Metrics {
    /// Counts a request that brought news.
    pub fn event(&self, kind: &'static str, result: &'static str) {
        self.inner.events.get_or_create(&EventLabels { kind, result }).inc();
    }

    /// All figures as OpenMetrics text.
    pub fn render(&self, watches_open: usize, ledger_head: i64) -> String {
        self.inner.watches.set(i64::try_from(watches_open).unwrap_or(i64::MAX));
        self.inner.ledger.set(ledger_head);
        let mut text = String::new();
        // Writing into a `String` cannot fail.
        let _infallible = encode(&mut text, &self.inner.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rendered() {
        let metrics = Metrics::default();
        metrics.event("event", "accepted");
        let text = metrics.render(3, 17);
        for line in [
            "turnback_requests_with_news_total{kind=\"event\",result=\"accepted\"} 1",
            "turnback_watches_open 3",
            "turnback_ledger_head_sequence 17",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
