//! Samples and native histograms for a Prometheus server, by remote write 1.0.
//!
//! A server gets native histograms only from a scrape in protobuf or from a remote write. The latter is one message,
//! written here by hand: half a dozen fields are less than a protobuf compiler and what it depends on. The message must
//! be packed with Snappy, whose format allows to pack nothing: all bytes as literals.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;

use crate::http;

/// What a client library has counted since it began.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// The resolution: bucket n is `(2^((n-1)/2^schema), 2^(n/2^schema)]`. From -4 to 8.
    pub schema: i32,
    /// The zero bucket reaches from minus this to this.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// Observations by bucket, above zero.
    pub positive: BTreeMap<i32, u64>,
    /// Observations by bucket, below zero.
    pub negative: BTreeMap<i32, u64>,
    /// The sum of all observations. With the bits of the stale marker: the series has ended.
    pub sum: f64,
}

/// A series and what it was at some times, ascending.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    /// Its labels, `__name__` among them.
    pub labels: BTreeMap<String, String>,
    /// Its samples, if it is one of numbers.
    pub samples: Vec<(Timestamp, f64)>,
    /// Its samples, if it is one of histograms.
    pub histograms: Vec<(Timestamp, Histogram)>,
}

/// Writes series to the server at `url`, which must accept remote writes.
///
/// # Errors
/// If the server does not answer or refuses them; the error holds what it said.
pub async fn send(url: &str, series: &[Series]) -> Result<()> {
    let mut request = Message::default();
    for one in series {
        request.message(1, one.encode());
    }
    let request = http::client()?
        .post(format!("{url}/api/v1/write"))
        .header("Content-Type", "application/x-protobuf")
        .header("Content-Encoding", "snappy")
        .header("X-Prometheus-Remote-Write-Version", "0.1.0")
        .body(snappy(&request.0));
    let answer = request.send().await.context("writing to Prometheus")?;
    let status = answer.status();
    if !status.is_success() {
        bail!("Prometheus refuses the write with {status}: {}", answer.text().await.unwrap_or_default());
    }
    Ok(())
}

impl Series {
    fn encode(&self) -> Message {
        let mut series = Message::default();
        for (name, value) in &self.labels {
            let mut label = Message::default();
            label.bytes(1, name.as_bytes());
            label.bytes(2, value.as_bytes());
            series.message(1, label);
        }
        for (at, value) in &self.samples {
            let mut sample = Message::default();
            sample.float(1, *value);
            sample.number(2, milliseconds(*at));
            series.message(2, sample);
        }
        for (at, histogram) in &self.histograms {
            series.message(4, histogram.encode(*at));
        }
        series
    }
}

impl Histogram {
    /// All observations.
    pub fn count(&self) -> u64 {
        self.zero_count + self.positive.values().sum::<u64>() + self.negative.values().sum::<u64>()
    }

    fn encode(&self, at: Timestamp) -> Message {
        let mut histogram = Message::default();
        histogram.number(1, self.count());
        histogram.float(3, self.sum);
        histogram.number(4, zigzag(self.schema.into()));
        histogram.float(5, self.zero_threshold);
        histogram.number(6, self.zero_count);
        for (field, buckets) in [(8, &self.negative), (11, &self.positive)] {
            let (mut deltas, mut next, mut before) = (Message::default(), 0, 0);
            for (place, (index, count)) in buckets.iter().enumerate() {
                // A span each: how far from the end of the one before (the first one: from 0), and how long.
                let mut span = Message::default();
                span.number(1, zigzag(i64::from(index - if place == 0 { 0 } else { next })));
                span.number(2, 1);
                histogram.message(field, span);
                let count = i64::try_from(*count).unwrap_or(i64::MAX);
                deltas.varint(zigzag(count - before));
                (next, before) = (index + 1, count);
            }
            histogram.message(field + 1, deltas);
        }
        histogram.number(15, milliseconds(at));
        histogram
    }
}

/// A protobuf message that is being written.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
    fn number(&mut self, field: u64, value: u64) {
        self.varint(field << 3);
        self.varint(value);
    }
    fn float(&mut self, field: u64, value: f64) {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_bits().to_le_bytes());
    }
    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }
    fn message(&mut self, field: u64, message: Message) {
        self.bytes(field, &message.0);
    }
}

/// A time as Prometheus counts it. Nothing here is older than 1970.
fn milliseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or_default()
}

/// Signed numbers as protobuf writes them: small ones stay short, whatever their sign.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The block format of Snappy, uncompressed: the length, then literals of up to 2^16 bytes.
fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Message::default();
    packed.varint(bytes.len() as u64);
    for chunk in bytes.chunks(1 << 16) {
        // 61 in the upper six bits: the length less one follows in two bytes.
        packed.0.push(61 << 2);
        packed.0.extend(((chunk.len() - 1) as u16).to_le_bytes());
        packed.0.extend(chunk);
    }
    packed.0
}
