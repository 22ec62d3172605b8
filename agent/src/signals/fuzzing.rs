//! Entries of the fuzzer for what measurements come in: see [`crate::fuzzing`].

use super::exposition::{self, Format};
use super::prometheus::parse_answer;
use super::pushed::{otlp as otlp_form, remote_write as remote_write_form};
use jiff::Timestamp;
use rules::series::Window;

/// The body of a remote write; the first byte chooses the version.
pub fn remote_write(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let kind = match choice % 2 {
        0 => "application/x-protobuf",
        _ => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    };
    if let Err(bad) = remote_write_form::decode(kind, body) {
        assert!(!bad.to_string().is_empty());
    }
    // What the fuzzer makes is hardly ever packed well: the same again, packed by us.
    if let Ok(packed) = snap::raw::Encoder::new().compress_vec(body) {
        drop(remote_write_form::decode(kind, &packed));
    }
}

/// The body of an OTLP request; the first byte chooses the form.
pub fn otlp(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    let kind = if choice % 2 == 0 { "application/x-protobuf" } else { "application/json" };
    if let Err(bad) = otlp_form::decode(kind, body) {
        assert!(!bad.to_string().is_empty());
    }
    if choice % 4 == 2 {
        drop(otlp_form::unpack("gzip", body, 1024 * 1024));
    }
}

/// The answer of a Prometheus server to a query.
pub fn prometheus_answer(data: &[u8]) {
    let at = |second| Timestamp::from_second(second).expect("a moment of our time");
    let range = Window { from: at(1_789_999_000), to: at(1_790_000_000) };
    match parse_answer("fuzz", 200, data, range) {
        Ok(series) => {
            for one in &series {
                assert!(
                    one.samples.iter().all(|sample| range.contains(sample.at)),
                    "a sample outside of what was asked"
                );
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A service's `/metrics`; the first byte chooses the format.
pub fn exposition(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let format = if choice % 2 == 0 { Format::Text } else { Format::OpenMetrics };
    match exposition::parse(text, format) {
        Ok(shown) => assert!(shown.iter().all(|one| one.labels.contains_key("__name__"))),
        Err(words) => assert!(!words.is_empty()),
    }
}
