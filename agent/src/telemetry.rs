//! What we say about ourselves: logs, and figures in the form that Prometheus reads.

use crate::inlet::Board;
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    source: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    source: String,
    result: &'static str,
}

/// Figures of the sources of events, taken from the board when they are asked for.
#[derive(Default)]
struct Sources {
    connected: Family<SourceLabels, Gauge>,
    lag: Family<SourceLabels, Gauge>,
    messages: Family<ResultLabels, Gauge>,
    overflow: Gauge,
}

impl Sources {
    fn register(&self, registry: &mut Registry) {
        registry.register("source_connected", "Whether a source of events is heard", self.connected.clone());
        registry.register("source_lag", "Messages that wait at a source's broker", self.lag.clone());
        let help = "Messages of a source since the start, by what became of them";
        registry.register("source_messages", help, self.messages.clone());
        let help = "Requests with news that found the queue full since the start";
        registry.register("queue_overflows", help, self.overflow.clone());
    }

    fn set(&self, board: &Board) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.overflow.set(number(board.overflow()));
        for (name, standing) in board.standings() {
            let source = name.to_string();
            let labels = SourceLabels { source: source.clone(), kind: standing.kind };
            self.connected.get_or_create(&labels).set(i64::from(standing.connected));
            if let Some(lag) = standing.lag {
                self.lag.get_or_create(&labels).set(number(lag));
            }
            let results = [
                ("recorded", standing.recorded),
                ("duplicate", standing.duplicates),
                ("dead_letter", standing.dead_letters),
                ("passed_over", standing.passed_over),
            ];
            for (result, count) in results {
                let labels = ResultLabels { source: source.clone(), result };
                self.messages.get_or_create(&labels).set(number(count));
            }
        }
    }
}

struct Inner {
    registry: Registry,
    sources: Sources,
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
        let sources = Sources::default();
        sources.register(&mut registry);
        Self { inner: Arc::new(Inner { registry, sources, events, watches, ledger }) }
    }
}

impl Metrics {
    /// Counts a request that brought news.
    pub fn event(&self, kind: &'static str, result: &'static str) {
        self.inner.events.get_or_create(&EventLabels { kind, result }).inc();
    }

    /// All figures as OpenMetrics text.
    pub fn render(&self, watches_open: usize, ledger_head: i64, board: &Board) -> String {
        self.inner.sources.set(board);
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
        let board = Board::default();
        board.reporter(&rules::ids::SourceName::new("bus").unwrap(), "kafka", String::new()).lag(7);
        let text = metrics.render(3, 17, &board);
        for line in [
            "turnback_requests_with_news_total{kind=\"event\",result=\"accepted\"} 1",
            "turnback_watches_open 3",
            "turnback_ledger_head_sequence 17",
            "turnback_source_connected{source=\"bus\",kind=\"kafka\"} 0",
            "turnback_source_lag{source=\"bus\",kind=\"kafka\"} 7",
            "turnback_source_messages{source=\"bus\",result=\"dead_letter\"} 0",
            "turnback_queue_overflows 0",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
