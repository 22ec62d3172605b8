//! Data points as samples: what each kind of metric of OpenTelemetry is in Prometheus.

use super::names::{self, Kind};
use crate::signals::Labels;
use crate::signals::pushed::batch::{Batch, Point, PushedSeries, Value};
use crate::signals::pushed::limits::{BadPush, Budget, MOST_BUCKETS};
use crate::signals::pushed::{native, shown};
use jiff::Timestamp;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint, SummaryDataPoint,
};
use rules::series::{HistogramSample, Sample};
use std::collections::BTreeMap;

/// Attributes of a resource that become labels of each of its series. All others stand in `target_info`, which would have
/// to be joined; releases and instances must be told apart without.
const PROMOTED: [&str; 5] = [
    "service.version",
    "deployment.environment.name",
    "deployment.environment",
    "k8s.namespace.name",
    "k8s.pod.name",
];
/// What tells one sender from another where neither `service.instance.id` nor the name of a pod does, the best first.
const IDENTIFYING: [&str; 2] = ["k8s.pod.uid", "container.id"];
/// Labels that a resource gives.
const TAKEN: [&str; 3] = ["__name__", "job", "instance"];
/// The flag of a point that says: the series ended here.
const NO_RECORDED_VALUE: u32 = 1;

/// How a value is to be understood over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Temporality {
    Cumulative,
    Delta,
    Unknown,
}

impl From<i32> for Temporality {
    fn from(number: i32) -> Self {
        match number {
            1 => Temporality::Delta,
            2 => Temporality::Cumulative,
            _ => Temporality::Unknown,
        }
    }
}

/// A metric, as far as its points have it in common.
#[derive(Debug, Clone)]
pub(super) struct Metric {
    pub name: String,
    pub unit: String,
    pub temporality: Temporality,
    pub monotonic: bool,
}

/// Who measured.
#[derive(Debug, Default)]
pub(super) struct Resource {
    labels: Labels,
    info: Labels,
    newest: Option<Timestamp>,
}

impl Resource {
    pub(super) fn of(attributes: &[KeyValue]) -> Self {
        let find = |key: &str| {
            let found = attributes.iter().find(|attribute| attribute.key == key);
            found.map(|attribute| names::text(attribute.value.as_ref())).filter(|text| !text.is_empty())
        };
        let job = match (find("service.namespace"), find("service.name")) {
            (Some(space), Some(name)) => Some(format!("{space}/{name}")),
            (_, name) => name,
        };
        let host = || match (find("host.name"), find("process.pid")) {
            (Some(host), Some(process)) => Some(format!("{host}:{process}")),
            (host, _) => host,
        };
        // Two senders that nothing tells apart would be one series that jumps to and fro.
        let other = || IDENTIFYING.iter().find_map(|key| find(key)).or_else(host);
        let instance = find("service.instance.id")
            .or_else(|| if find("k8s.pod.name").is_none() { other() } else { None });
        let identity = [("job", job), ("instance", instance)];
        let identity = identity.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let mut labels: Labels = identity.collect();
        let is_identity = |one: &&KeyValue| {
            ["service.namespace", "service.name", "service.instance.id"].contains(&one.key.as_str())
        };
        let rest: Vec<KeyValue> = attributes.iter().filter(|one| !is_identity(one)).cloned().collect();
        let mut info = Labels::new();
        if !labels.is_empty() && !rest.is_empty() {
            info.clone_from(&labels);
            info.insert("__name__".into(), "target_info".into());
            names::add(&mut info, &rest, &TAKEN);
        }
        let promoted: Vec<KeyValue> =
            rest.into_iter().filter(|one| PROMOTED.contains(&one.key.as_str())).collect();
        names::add(&mut labels, &promoted, &TAKEN);
        Self { labels, info, newest: None }
    }
}

/// Collects what the points say.
#[derive(Debug, Default)]
pub(super) struct Reader {
    batch: Batch,
    budget: Budget,
}

/// Why a point is not read.
enum Stop {
    /// It cannot be used; the others can.
    Point(String),
    /// The request holds too much.
    Request(BadPush),
}

impl From<BadPush> for Stop {
    fn from(bad: BadPush) -> Self {
        Stop::Request(bad)
    }
}

impl From<String> for Stop {
    fn from(problem: String) -> Self {
        Stop::Point(problem)
    }
}

impl From<&str> for Stop {
    fn from(problem: &str) -> Self {
        Stop::Point(problem.to_owned())
    }
}

/// A point's own part of a series: its labels, its times, and whether it says that the series ended.
struct Place {
    labels: Labels,
    at: Timestamp,
    start: Option<Timestamp>,
    ended: bool,
}

fn time(nanoseconds: u64) -> Option<Timestamp> {
    (nanoseconds > 0).then(|| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()).flatten()
}

impl Reader {
    pub(super) fn end(&mut self, resource: Resource) -> Result<(), BadPush> {
        if let (Some(at), false) = (resource.newest, resource.info.is_empty()) {
            resource.info.iter().try_for_each(|(key, value)| self.budget.label(key, value))?;
            let points = vec![Point::now(Sample { at, value: 1.0 })];
            self.batch.info.push(PushedSeries { labels: resource.info, points });
        }
        Ok(())
    }

    /// What the request held.
    pub(super) fn finish(mut self) -> Batch {
        self.batch.add_up_growth();
        self.batch
    }

    fn place(
        &mut self,
        resource: &mut Resource,
        attributes: &[KeyValue],
        (at, start): (u64, u64),
        flags: u32,
    ) -> Result<Place, Stop> {
        self.budget.samples(1)?;
        let at = time(at).ok_or("a point has no time")?;
        let mut labels = resource.labels.clone();
        names::add(&mut labels, attributes, &TAKEN);
        self.budget.letters(labels.iter().map(|(key, value)| key.len() + value.len()).sum())?;
        resource.newest = resource.newest.max(Some(at));
        Ok(Place { labels, at, start: time(start), ended: flags & NO_RECORDED_VALUE != 0 })
    }

    /// Counts a point that cannot be used; what is wrong with the whole request goes on.
    fn settle(&mut self, metric: &Metric, read: Result<(), Stop>) -> Result<(), BadPush> {
        match read {
            Ok(()) => {}
            Err(Stop::Point(problem)) => {
                self.batch.unusable.samples(1, || format!("{}: {problem}", shown(&metric.name)));
            }
            Err(Stop::Request(bad)) => return Err(bad),
        }
        Ok(())
    }

    /// Adds one series of a point: `name` with `more` of a label.
    fn add(
        &mut self,
        place: &Place,
        name: String,
        more: Option<(&str, String)>,
        value: Value,
    ) -> Result<(), BadPush> {
        let mut labels = place.labels.clone();
        labels.insert("__name__".into(), name);
        labels.extend(more.map(|(key, value)| (key.to_owned(), value)));
        for (key, value) in &labels {
            self.budget.label(key, value)?;
        }
        self.budget.samples(1)?;
        let start = place.start.filter(|_| !place.ended);
        self.batch.series.push(PushedSeries { labels, points: vec![Point { value, start }] });
        Ok(())
    }

    /// A value that counts: as it stands, or by how much it grew.
    fn counted(place: &Place, temporality: Temporality, value: f64) -> Value {
        let sample = Sample { at: place.at, value };
        match (place.ended, temporality) {
            (true, _) => Value::Now(Sample::stale(place.at)),
            (false, Temporality::Delta) => Value::Grew(sample),
            (false, _) => Value::Now(sample),
        }
    }

    pub(super) fn number(
        &mut self,
        resource: &mut Resource,
        metric: &Metric,
        is_sum: bool,
        point: &NumberDataPoint,
    ) -> Result<(), BadPush> {
        let read = self.read_number(resource, metric, is_sum, point);
        self.settle(metric, read)
    }

    fn read_number(
        &mut self,
        resource: &mut Resource,
        metric: &Metric,
        is_sum: bool,
        point: &NumberDataPoint,
    ) -> Result<(), Stop> {
        let times = (point.time_unix_nano, point.start_time_unix_nano);
        let mut place = self.place(resource, &point.attributes, times, point.flags)?;
        let value = match point.value {
            Some(Number::AsDouble(value)) => value,
            Some(Number::AsInt(value)) => value as f64,
            None if place.ended => 0.0,
            None => return Err("a point has no value".into()),
        };
        let (kind, temporality) = match (is_sum, metric.monotonic) {
            (false, _) => (Kind::Gauge, Temporality::Cumulative),
            (true, true) => (Kind::Counter, metric.temporality),
            (true, false) => (Kind::Other, metric.temporality),
        };
        if temporality == Temporality::Unknown && !place.ended {
            return Err("a sum does not say whether it is cumulative or a delta".into());
        }
        if kind == Kind::Counter && value < 0.0 {
            return Err("a sum that only grows is negative".into());
        }
        if kind != Kind::Counter {
            // It need not have been zero when it began.
            place.start = None;
        }
        let name = names::metric(&metric.name, &metric.unit, kind);
        self.add(&place, name, None, Self::counted(&place, temporality, value))?;
        Ok(())
    }

    pub(super) fn histogram(
        &mut self,
        resource: &mut Resource,
        metric: &Metric,
        point: &HistogramDataPoint,
    ) -> Result<(), BadPush> {
        let read = self.read_histogram(resource, metric, point);
        self.settle(metric, read)
    }

    fn read_histogram(
        &mut self,
        resource: &mut Resource,
        metric: &Metric,
        point: &HistogramDataPoint,
    ) -> Result<(), Stop> {
        let times = (point.time_unix_nano, point.start_time_unix_nano);
        let place = self.place(resource, &point.attributes, times, point.flags)?;
        let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
        let problem = if metric.temporality == Temporality::Unknown && !place.ended {
            Some("a histogram does not say whether it is cumulative or a delta")
        } else if counts.len() > MOST_BUCKETS {
            Some("a histogram has too many buckets; 1000 are taken")
        } else if !(counts.is_empty() && bounds.is_empty() || counts.len() == bounds.len() + 1) {
            Some("a histogram has not one count more than bounds")
        } else if !bounds.iter().all(|bound| bound.is_finite()) || !bounds.is_sorted_by(|a, b| a < b) {
            Some("the bounds of a histogram do not ascend")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(problem.into());
        }
        let name = names::metric(&metric.name, &metric.unit, Kind::Other);
        let value = |value: f64| Self::counted(&place, metric.temporality, value);
        let mut sum = 0_u64;
        for (bound, count) in bounds.iter().zip(counts) {
            sum = sum.saturating_add(*count);
            let le = Some(("le", bound.to_string()));
            self.add(&place, format!("{name}_bucket"), le, value(sum as f64))?;
        }
        let (all, whole) = (value(point.count as f64), Some(("le", "+Inf".to_owned())));
        self.add(&place, format!("{name}_bucket"), whole, all.clone())?;
        self.add(&place, format!("{name}_count"), None, all)?;
        // A counter that shrinks looks like one that began anew; sums of negative values say nothing here.
        let sum = point.sum.filter(|sum| metric.temporality != Temporality::Delta || *sum >= 0.0);
        if let Some(sum) = sum.or(place.ended.then_some(0.0)) {
            self.add(&place, format!("{name}_sum"), None, value(sum))?;
        }
        Ok(())
    }

    pub(super) fn exponential(
        &mut self,
        resource: &mut Resource,
        metric: &Metric,
        point: &ExponentialHistogramDataPoint,
    ) -> Result<(), BadPush> {
        let read = self.read_exponential(resource, metric, point);
        self.settle(metric, read)
    }

    fn read_exponential(
        &mut self,
        resource: &mut Resource,
        metric: &Metric,
        point: &ExponentialHistogramDataPoint,
    ) -> Result<(), Stop> {
        let times = (point.time_unix_nano, point.start_time_unix_nano);
        let place = self.place(resource, &point.attributes, times, point.flags)?;
        let name = names::metric(&metric.name, &metric.unit, Kind::Other);
        if place.ended {
            self.add(&place, name, None, Value::Histogram(HistogramSample::stale(place.at)))?;
            return Ok(());
        }
        if metric.temporality != Temporality::Cumulative {
            let problem = "exponential histograms are taken cumulative only; let the SDK or the Collector \
                           (deltatocumulative) send them so";
            return Err(problem.into());
        }
        let buckets = exponential_buckets(point)?;
        self.budget.samples(buckets.len())?;
        let (count, sum) = (point.count as f64, point.sum.unwrap_or_default());
        let histogram = HistogramSample { at: place.at, count, sum, buckets };
        self.add(&place, name, None, Value::Histogram(histogram))?;
        Ok(())
    }

    pub(super) fn summary(
        &mut self,
        resource: &mut Resource,
        metric: &Metric,
        point: &SummaryDataPoint,
    ) -> Result<(), BadPush> {
        let read = self.read_summary(resource, metric, point);
        self.settle(metric, read)
    }

    fn read_summary(
        &mut self,
        resource: &mut Resource,
        metric: &Metric,
        point: &SummaryDataPoint,
    ) -> Result<(), Stop> {
        let times = (point.time_unix_nano, point.start_time_unix_nano);
        let place = self.place(resource, &point.attributes, times, point.flags)?;
        let name = names::metric(&metric.name, &metric.unit, Kind::Other);
        let value = |value: f64| Self::counted(&place, Temporality::Cumulative, value);
        let now = Place { start: None, labels: place.labels.clone(), ..place };
        for quantile in &point.quantile_values {
            let label = Some(("quantile", quantile.quantile.to_string()));
            self.add(&now, name.clone(), label, value(quantile.value))?;
        }
        self.add(&place, format!("{name}_count"), None, value(point.count as f64))?;
        self.add(&place, format!("{name}_sum"), None, value(point.sum))?;
        Ok(())
    }
}

/// The buckets with bounds. A finer scale than Prometheus has is made coarser: two buckets become one.
fn exponential_buckets(
    point: &ExponentialHistogramDataPoint,
) -> Result<Vec<rules::series::NativeBucket>, String> {
    const FINEST: i64 = 8;
    let scale = i64::from(point.scale);
    let halvings = u32::try_from((scale - FINEST).max(0)).unwrap_or(u32::MAX).min(63);
    let side = |buckets: Option<&Buckets>| -> Result<BTreeMap<i64, f64>, String> {
        let mut side = BTreeMap::new();
        let Some(buckets) = buckets else { return Ok(side) };
        if buckets.bucket_counts.len() > MOST_BUCKETS {
            return Err(format!("a histogram has more than {MOST_BUCKETS} buckets"));
        }
        for (place, count) in (i64::from(buckets.offset)..).zip(&buckets.bucket_counts) {
            if *count > 0 {
                // Prometheus names a bucket by its upper bound, OpenTelemetry by its lower one.
                *side.entry((place >> halvings) + 1).or_insert(0.0) += *count as f64;
            }
        }
        Ok(side)
    };
    let (negative, positive) = (side(point.negative.as_ref())?, side(point.positive.as_ref())?);
    native::bounded(scale.min(FINEST), point.zero_threshold, point.zero_count as f64, &negative, &positive)
}
