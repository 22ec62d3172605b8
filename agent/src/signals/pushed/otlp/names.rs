//! Names of OpenTelemetry as names of Prometheus: `http.server.request.duration` in `s` is
//! `http_server_request_duration_seconds`, a monotonic sum ends in `_total`. As the two projects have agreed on it, so
//! that a signal is written the same whichever way its samples come.

use base64::Engine as _;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use std::collections::BTreeMap;

/// What a metric is, as far as its name tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    /// A sum that only grows.
    Counter,
    Other,
}

/// Units by their sign, and in words.
const UNITS: [(&str, &str); 30] = [
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("kBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("B", "bytes"),
    ("KB", "kilobytes"),
    ("MB", "megabytes"),
    ("GB", "gigabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("%", "percent"),
];

/// The same after "per".
const PER: [(&str, &str); 7] = [
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The name of a metric for Prometheus.
pub(super) fn metric(name: &str, unit: &str, kind: Kind) -> String {
    let mut words: Vec<&str> = name.split(|c: char| !(c.is_ascii_alphanumeric() || c == ':')).collect();
    words.retain(|word| !word.is_empty());
    let (main, per) = unit.split_once('/').map_or((unit, None), |(main, per)| (main, Some(per)));
    let main = in_words(main, &UNITS);
    let per = per.map(|per| in_words(per, &PER)).unwrap_or_default();
    if !main.is_empty() && main != "1" && !words.contains(&main.as_str()) {
        words.push(&main);
    }
    if !per.is_empty() && !words.contains(&per.as_str()) {
        words.extend(["per", &per]);
    }
    let last = match kind {
        Kind::Counter => Some("total"),
        Kind::Gauge if main == "1" => Some("ratio"),
        Kind::Gauge | Kind::Other => None,
    };
    if let Some(last) = last {
        words.retain(|word| *word != last);
        words.push(last);
    }
    let joined = words.join("_");
    if joined.starts_with(|c: char| c.is_ascii_digit()) { format!("_{joined}") } else { joined }
}

fn in_words(unit: &str, known: &[(&str, &str)]) -> String {
    let unit = unit.trim();
    // `{requests}` says what is counted, and is no unit.
    if unit.is_empty() || unit.contains(['{', '}']) {
        return String::new();
    }
    let found = known.iter().find(|(sign, _)| *sign == unit).map(|(_, words)| (*words).to_owned());
    found.unwrap_or_else(|| {
        let plain: String = unit.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        plain.trim_matches('_').to_owned()
    })
}

/// The name of a label for Prometheus.
pub(super) fn label(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if plain.starts_with(|c: char| c.is_ascii_digit()) { format!("key_{plain}") } else { plain }
}

/// Adds attributes to labels. Two that get the same name stand behind each other, as the translation has it; one of
/// `taken` names is kept as `exported_...`.
pub(super) fn add(labels: &mut BTreeMap<String, String>, attributes: &[KeyValue], taken: &[&str]) {
    let mut sorted: Vec<&KeyValue> = attributes.iter().collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    let mut own: BTreeMap<String, String> = BTreeMap::new();
    for KeyValue { key, value, .. } in sorted {
        let name = label(key);
        let name = if taken.contains(&name.as_str()) { format!("exported_{name}") } else { name };
        let value = text(value.as_ref());
        match own.get_mut(&name) {
            Some(known) => {
                known.push(';');
                known.push_str(&value);
            }
            None => drop(own.insert(name, value)),
        }
    }
    labels.extend(own);
}

/// A value as the value of a label.
pub(super) fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        None => String::new(),
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(Value::BytesValue(bytes)) => base64::engine::general_purpose::STANDARD.encode(bytes),
        Some(Value::ArrayValue(array)) => {
            let values: Vec<String> = array.values.iter().map(|value| quoted(Some(value))).collect();
            format!("[{}]", values.join(","))
        }
        Some(Value::KvlistValue(list)) => {
            let pair = |pair: &KeyValue| format!("{:?}:{}", pair.key, quoted(pair.value.as_ref()));
            format!("{{{}}}", list.values.iter().map(pair).collect::<Vec<_>>().join(","))
        }
        // A reference to a table that only profiles have.
        Some(_) => String::new(),
    }
}

fn quoted(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => format!("{text:?}"),
        _ => text(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_prometheus_has_them() {
        use Kind::{Counter, Gauge, Other};
        let table = [
            ("http.server.request.duration", "s", Other, "http_server_request_duration_seconds"),
            ("http.server.requests", "{request}", Counter, "http_server_requests_total"),
            ("http_requests_total", "1", Counter, "http_requests_total"),
            ("requests.total.count", "", Counter, "requests_count_total"),
            ("system.memory.usage", "By", Gauge, "system_memory_usage_bytes"),
            ("memory_usage_bytes", "By", Gauge, "memory_usage_bytes"),
            ("cpu.utilization", "1", Gauge, "cpu_utilization_ratio"),
            ("queue.length", "{items}", Gauge, "queue_length"),
            ("network.speed", "By/s", Gauge, "network_speed_bytes_per_second"),
            ("2xx..answers", "", Counter, "_2xx_answers_total"),
            ("fuel", "gal/100km", Gauge, "fuel_gal_per_100km"),
            ("täglich", "ms", Other, "t_glich_milliseconds"),
            ("", "", Other, ""),
        ];
        for (name, unit, kind, expected) in table {
            assert_eq!(metric(name, unit, kind), expected, "{name} {unit}");
        }
    }

    #[test]
    fn labels_are_as_prometheus_has_them() {
        for (name, expected) in
            [("http.method", "http_method"), ("5xx", "key_5xx"), ("_a", "_a"), ("ü.b", "__b")]
        {
            assert_eq!(label(name), expected);
        }
        let attribute = |key: &str, value: Value| KeyValue {
            key: key.into(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        };
        let list = opentelemetry_proto::tonic::common::v1::ArrayValue {
            values: vec![
                AnyValue { value: Some(Value::StringValue("a\"".into())) },
                AnyValue { value: Some(Value::IntValue(2)) },
            ],
        };
        let mut labels = BTreeMap::new();
        let attributes = [
            attribute("a_b", Value::IntValue(1)),
            attribute("a.b", Value::BoolValue(true)),
            attribute("job", Value::DoubleValue(1.5)),
            attribute("list", Value::ArrayValue(list)),
            KeyValue::default(),
        ];
        add(&mut labels, &attributes, &["job"]);
        let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, ["=", "a_b=true;1", "exported_job=1.5", "list=[\"a\\\"\",2]"]);
    }
}
