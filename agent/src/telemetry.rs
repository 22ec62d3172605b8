//! What we say about ourselves: logs, and figures in the form that Prometheus reads.

use crate::events::LeftOut;
use crate::inlet::Board;
use crate::signals::SourceHealth;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabels {
    source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LeftOutLabels {
    source: String,
    reason: &'static str,
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
    messages: Family<ResultLabels, Counter>,
    refused: Family<NameLabels, Gauge>,
    overflow: Counter,
}

impl Sources {
    fn register(&self, registry: &mut Registry) {
        registry.register("source_connected", "Whether a source of events is heard", self.connected.clone());
        registry.register("source_lag", "Messages that wait at a source's broker", self.lag.clone());
        let help = "Messages of a source, by what became of them";
        registry.register("source_messages", help, self.messages.clone());
        let help = "Requests under a source's name that were refused since one was last taken; anybody can cause them";
        registry.register("source_refused_since_accepted", help, self.refused.clone());
        registry.register(
            "queue_overflows",
            "Times that news found no place, in the queue or before it",
            self.overflow.clone(),
        );
    }

    fn set(&self, board: &Board) {
        self.overflow.inner().store(board.overflow(), Ordering::Relaxed);
        for (name, standing) in board.standings() {
            let source = name.to_string();
            let labels = SourceLabels { source: source.clone(), kind: standing.kind };
            // Of a source that is called by others nobody knows: it has no figure.
            if let Some(connected) = standing.connected {
                self.connected.get_or_create(&labels).set(i64::from(connected));
            } else {
                let refused = i64::try_from(standing.refused).unwrap_or(i64::MAX);
                self.refused.get_or_create(&NameLabels { source: source.clone() }).set(refused);
            }
            if let Some(lag) = standing.lag {
                self.lag.get_or_create(&labels).set(i64::try_from(lag).unwrap_or(i64::MAX));
            }
            let results = [
                ("recorded", standing.recorded),
                ("duplicate", standing.duplicates),
                ("dead_letter", standing.dead_letters),
                ("passed_over", standing.passed_over),
                ("refused", standing.refused_in_all),
            ];
            count(&self.messages, &source, &results);
        }
    }
}

/// Sets counters to what was counted elsewhere.
fn count(family: &Family<ResultLabels, Counter>, source: &str, results: &[(&'static str, u64)]) {
    for (result, counted) in results {
        let labels = ResultLabels { source: source.to_owned(), result };
        family.get_or_create(&labels).inner().store(*counted, Ordering::Relaxed);
    }
}

/// Figures of the sources of signals, taken from themselves when they are asked for.
#[derive(Default)]
struct Signals {
    succeeded: Family<NameLabels, Gauge>,
    failed: Family<NameLabels, Gauge>,
    series: Family<NameLabels, Gauge>,
    samples: Family<ResultLabels, Counter>,
    unreadable: Family<NameLabels, Counter>,
}

impl Signals {
    fn register(&self, registry: &mut Registry) {
        let help = "When a source of signals last gave data, in Unix seconds";
        registry.register("signal_source_last_success_timestamp_seconds", help, self.succeeded.clone());
        let help = "When a source of signals last failed, in Unix seconds";
        registry.register("signal_source_last_error_timestamp_seconds", help, self.failed.clone());
        let help = "Series that a source of signals holds, or gave last";
        registry.register("signal_source_series", help, self.series.clone());
        let help = "Samples that were pushed, by what became of them";
        registry.register("pushed_samples", help, self.samples.clone());
        let help = "Requests and messages with samples that could not be read";
        registry.register("pushed_unreadable", help, self.unreadable.clone());
    }

    /// What did not happen has no figure: zero would be a time.
    fn set(&self, source: &str, health: &SourceHealth) {
        let labels = NameLabels { source: source.to_owned() };
        if let Some(at) = health.last_success {
            self.succeeded.get_or_create(&labels).set(at.as_second());
        }
        if let Some((at, _)) = &health.last_error {
            self.failed.get_or_create(&labels).set(at.as_second());
        }
        self.series.get_or_create(&labels).set(i64::try_from(health.series).unwrap_or(i64::MAX));
        let Some(pushed) = &health.pushed else { return };
        let taken = &pushed.samples;
        let results = [
            ("kept", taken.kept + taken.histograms),
            ("known", taken.known + taken.known_histograms),
            ("out_of_order", taken.disorder),
            ("too_old", taken.too_old),
            ("in_the_future", taken.ahead),
            ("too_many_series", taken.full),
            ("unusable", taken.unusable),
        ];
        count(&self.samples, source, &results);
        self.unreadable.get_or_create(&labels).inner().store(pushed.unreadable, Ordering::Relaxed);
    }
}

struct Inner {
    registry: Registry,
    sources: Sources,
    signals: Signals,
    events: Family<EventLabels, Counter>,
    left_out: Family<LeftOutLabels, Counter>,
    /// A family without labels, so that it can have no value at all.
    watches: Family<Vec<(String, String)>, Gauge>,
    answers: Gauge,
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
        let left_out = Family::<LeftOutLabels, Counter>::default();
        let help = "Alerts of deliveries that were taken which are lost all the same, by source and reason";
        registry.register("alerts_left_out", help, left_out.clone());
        let watches = Family::default();
        registry.register("watches_open", "Deployments under observation", watches.clone());
        let answers = Gauge::default();
        let help = "Whether the loop that decides answered at once; 0 when the disk stands still or there is too much to do";
        registry.register("loop_answers", help, answers.clone());
        let ledger = Gauge::default();
        registry.register("ledger_head_sequence", "Number of the last record in the ledger", ledger.clone());
        let sources = Sources::default();
        sources.register(&mut registry);
        let signals = Signals::default();
        signals.register(&mut registry);
        Self {
            inner: Arc::new(Inner { registry, sources, signals, events, left_out, watches, answers, ledger }),
        }
    }
}

impl Metrics {
    /// Counts a request that brought news.
    pub fn event(&self, kind: &'static str, result: &'static str) {
        self.inner.events.get_or_create(&EventLabels { kind, result }).inc();
    }

    /// Counts alerts that were not taken though their delivery was.
    pub fn left_out(&self, source: &str, left_out: &LeftOut) {
        for (reason, count) in left_out.reasons() {
            if count > 0 {
                let labels = LeftOutLabels { source: source.to_owned(), reason };
                self.inner.left_out.get_or_create(&labels).inc_by(count);
            }
        }
    }

    /// All figures as OpenMetrics text. `watches_open` is `None` when the loop did not answer.
    pub fn render<'a>(
        &self,
        watches_open: Option<usize>,
        ledger_head: i64,
        board: &Board,
        signals: impl IntoIterator<Item = (&'a str, SourceHealth)>,
    ) -> String {
        self.inner.sources.set(board);
        for (source, health) in signals {
            self.inner.signals.set(source, &health);
        }
        self.inner.answers.set(i64::from(watches_open.is_some()));
        match watches_open.map(|open| i64::try_from(open).unwrap_or(i64::MAX)) {
            Some(open) => {
                self.inner.watches.get_or_create(&Vec::new()).set(open);
            }
            None => self.inner.watches.clear(),
        }
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
    use crate::signals::{PushedHealth, pushed::Taken};

    #[test]
    fn figures_are_rendered() {
        let metrics = Metrics::default();
        metrics.event("event", "accepted");
        let board = Board::default();
        board.reporter(&rules::ids::SourceName::new("bus").unwrap(), "kafka", String::new()).lag(7);
        let hook = rules::ids::SourceName::new("github").unwrap();
        board.expect(&hook, String::new());
        board.refused(&hook, "no signature matches");
        metrics.left_out("am", &LeftOut { truncated: 44, ..LeftOut::default() });
        let taken = Taken { kept: 5, full: 2, ..Default::default() };
        let pushed = PushedHealth { samples: taken, unreadable: 1, ..Default::default() };
        let health = SourceHealth {
            last_success: Some("2026-03-01T12:00:00Z".parse().unwrap()),
            series: 4,
            pushed: Some(pushed),
            ..Default::default()
        };
        let text = metrics.render(None, 17, &board, []);
        assert!(
            !text.contains("\nturnback_watches_open{") && text.contains("turnback_loop_answers 0"),
            "{text}"
        );
        let text = metrics.render(Some(3), 17, &board, [("main", health)]);
        assert!(!text.contains("last_error_timestamp_seconds{"), "nothing failed:\n{text}");
        assert!(!text.contains("source_connected{source=\"github\""), "nobody can know:\n{text}");
        for line in [
            "turnback_requests_with_news_total{kind=\"event\",result=\"accepted\"} 1",
            "turnback_watches_open{} 3",
            "turnback_loop_answers 1",
            "turnback_ledger_head_sequence 17",
            "turnback_source_connected{source=\"bus\",kind=\"kafka\"} 0",
            "turnback_source_lag{source=\"bus\",kind=\"kafka\"} 7",
            "turnback_source_messages_total{source=\"bus\",result=\"dead_letter\"} 0",
            "turnback_queue_overflows_total 0",
            "turnback_source_messages_total{source=\"github\",result=\"refused\"} 1",
            "turnback_source_refused_since_accepted{source=\"github\"} 1",
            "turnback_alerts_left_out_total{source=\"am\",reason=\"truncated\"} 44",
            "turnback_signal_source_last_success_timestamp_seconds{source=\"main\"} 1772366400",
            "turnback_signal_source_series{source=\"main\"} 4",
            "turnback_pushed_samples_total{source=\"main\",result=\"kept\"} 5",
            "turnback_pushed_samples_total{source=\"main\",result=\"too_many_series\"} 2",
            "turnback_pushed_unreadable_total{source=\"main\"} 1",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
