//! Reads what a service shows at `/metrics`: the Prometheus text format and OpenMetrics, strictly.
//!
//! The crates for this either skip lines that they do not understand and cut label values at commas
//! (`prometheus-parse`), or carry a licence that does not go with ours (`openmetrics-parser`). A line that is skipped
//! may be the counter of errors; so the first line that cannot be read is an error with its number, and so is a text
//! that ends in the middle. Types and help are not needed and not read.

use super::scanner::{Problem, Scanner};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// The longest line, in bytes. Labels of a kilobyte exist; of 64 they do not.
const LONGEST_LINE: usize = 64 << 10;

/// The most labels of one sample; Prometheus is often set to 30.
const MOST_LABELS: usize = 64;

/// How times and ends are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Format {
    /// `text/plain`: times in milliseconds.
    Text,
    /// `application/openmetrics-text`: times in seconds, exemplars, `# EOF` at the end.
    OpenMetrics,
}

impl Format {
    /// The format that a `Content-Type` names; nothing said means text. `None`: a format that is not read here.
    pub(super) fn of(content_type: Option<&str>) -> Option<Self> {
        let kind =
            content_type.unwrap_or("text/plain").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        match kind.as_str() {
            "text/plain" | "" => Some(Format::Text),
            "application/openmetrics-text" => Some(Format::OpenMetrics),
            _ => None,
        }
    }
}

/// One sample as it was shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    /// Its labels, with `__name__`.
    pub(super) labels: BTreeMap<String, String>,
    /// Its value, NaN and infinities included.
    pub(super) value: f64,
    /// The time the service gives for it, if it gives one.
    pub(super) at: Option<Timestamp>,
}

/// Reads all samples. The error names the line.
pub(super) fn parse(text: &str, format: Format) -> Result<Vec<Shown>, String> {
    let mut samples = Vec::new();
    let mut ended = false;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.len() > LONGEST_LINE {
            return Err(format!("line {number} has {} bytes, at most {LONGEST_LINE} are read", line.len()));
        }
        if ended {
            return Err(format!("line {number} comes after # EOF"));
        }
        let line = line.trim_matches([' ', '\t', '\r']);
        if format == Format::OpenMetrics && line == "# EOF" {
            ended = true;
        } else if !line.is_empty() && !line.starts_with('#') {
            samples.push(sample(line, format).map_err(|problem| format!("line {number}: {}", problem.text))?);
        }
    }
    match format {
        Format::OpenMetrics if !ended => Err("it ends without # EOF, so a part is missing".into()),
        Format::Text if !text.is_empty() && !text.ends_with('\n') => {
            Err("it ends in the middle of a line, so a part is missing".into())
        }
        Format::Text | Format::OpenMetrics => Ok(samples),
    }
}

fn sample(line: &str, format: Format) -> Result<Shown, Problem> {
    let mut scanner = Scanner::new(line);
    let mut labels = BTreeMap::new();
    if let Some(name) = scanner.metric_name() {
        labels.insert("__name__".into(), name);
    }
    scanner.skip_space();
    if scanner.accept('{') {
        read_labels(&mut scanner, &mut labels)?;
    }
    if !labels.contains_key("__name__") {
        return Err(scanner.problem("expected a metric's name"));
    }
    scanner.skip_space();
    let word = scanner.word();
    // Rust also reads "infinity" and "nan" in any case, as Go does.
    let value = word.parse().map_err(|_| scanner.problem(&format!("expected a number, not {word:?}")))?;
    scanner.skip_space();
    let mut at = None;
    if !scanner.at_end() && !scanner.rest().starts_with('#') {
        let word = scanner.word();
        at = Some(time(word, format).ok_or_else(|| scanner.problem(&format!("{word:?} is not a time")))?);
        scanner.skip_space();
    }
    let exemplar = format == Format::OpenMetrics && scanner.rest().starts_with("# ");
    if !scanner.at_end() && !exemplar {
        return Err(scanner.problem("expected the end of the line"));
    }
    Ok(Shown { labels, value, at })
}

fn read_labels(scanner: &mut Scanner<'_>, labels: &mut BTreeMap<String, String>) -> Result<(), Problem> {
    loop {
        scanner.skip_space();
        if scanner.accept('}') {
            return Ok(());
        }
        if labels.len() == MOST_LABELS {
            return Err(scanner.problem(&format!("more than {MOST_LABELS} labels")));
        }
        let quoted = scanner.peek() == Some('"');
        let label = if quoted { scanner.label_value()? } else { scanner.label_name()? };
        scanner.skip_space();
        // Since Prometheus 3 a name of any characters stands among the labels, in quotes.
        let (label, value) = if scanner.accept('=') {
            scanner.skip_space();
            (label, scanner.label_value()?)
        } else if quoted {
            ("__name__".to_string(), label)
        } else {
            return Err(scanner.problem("expected `=` after a label's name"));
        };
        if labels.insert(label.clone(), value).is_some() {
            return Err(scanner.problem(&format!("the label {label} is there twice")));
        }
        scanner.skip_space();
        if !scanner.accept(',') && scanner.peek() != Some('}') {
            return Err(scanner.problem("expected `,` or `}`"));
        }
    }
}

fn time(word: &str, format: Format) -> Option<Timestamp> {
    match format {
        Format::Text => Timestamp::from_millisecond(word.parse().ok()?).ok(),
        Format::OpenMetrics => {
            let milliseconds = (word.parse::<f64>().ok()? * 1_000.0).round();
            let usable = milliseconds.is_finite() && milliseconds.abs() < 1e15;
            usable.then(|| Timestamp::from_millisecond(milliseconds as i64).ok()).flatten()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str, format: Format) -> Result<Shown, String> {
        let end = if format == Format::OpenMetrics { "\n# EOF\n" } else { "\n" };
        parse(&format!("{line}{end}"), format).map(|mut samples| samples.remove(0))
    }

    #[test]
    fn what_services_show_is_read() {
        let text = "# HELP a Things, with \"quotes\" {and} braces.\n# TYPE a counter\n\
            a{path=\"/x,y={z}\",quote=\"\\\"\",line=\"\\n\",windows=\"C:\\dir\",} 12\n\n a 1e3 \nb{} NaN\nc +Inf\n\
            d{le=\"+Inf\"} 7 1700000000123\n{\"http.requests\", a=\"b\"} 0.5\r\n# odd comment\n";
        let samples = parse(text, Format::Text).unwrap();
        let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
        assert_eq!(values[..2], [12.0, 1000.0]);
        assert!(values[2].is_nan());
        assert_eq!(values[3..], [f64::INFINITY, 7.0, 0.5]);
        let first = &samples[0].labels;
        assert_eq!(first["path"], "/x,y={z}");
        assert_eq!((first["quote"].as_str(), first["line"].as_str()), ("\"", "\n"));
        assert_eq!(first["windows"], "C:\\dir");
        assert_eq!(samples[4].at.unwrap().as_millisecond(), 1_700_000_000_123);
        assert_eq!(samples[5].labels["__name__"], "http.requests");
        assert_eq!(parse("", Format::Text).unwrap(), []);
    }

    #[test]
    fn open_metrics_differ_in_times_and_ends() {
        let line = "a_total{b=\"c\"} 3 1700000000.5 # {trace_id=\"x\"} 1";
        let sample = one(line, Format::OpenMetrics).unwrap();
        assert_eq!(sample.at.unwrap().as_millisecond(), 1_700_000_000_500);
        assert!(one(line, Format::Text).is_err());
        assert!(one("a 3 # {} 1", Format::OpenMetrics).is_ok());
        assert!(parse("a 1\n", Format::OpenMetrics).unwrap_err().contains("# EOF"));
        assert!(parse("# EOF\na 1\n", Format::OpenMetrics).unwrap_err().contains("line 2"));
    }

    #[test]
    fn the_first_bad_line_is_named() {
        for bad in [
            "<html>",
            "a",
            "a b",
            "a{",
            "a{b",
            "a{b=",
            "a{b=c} 1",
            "a{b=\"c} 1",
            "a{b=\"c\"",
            "a{b=\"c\"}",
            "a{b=\"c\" d=\"e\"} 1",
            "a{b=\"c\",b=\"d\"} 1",
            "a{1=\"c\"} 1",
            "1a 2",
            "a 1,5",
            "a 1 2 3",
            "a 1 x",
            "a 1 99999999999999999999",
            "a 0x1",
            "a 1_000",
            "{} 1",
            "{b=\"c\"} 1",
            "a{\"b\"} 1",
            "a{=\"c\"} 1",
            "a-b 1",
            "ä 1",
            "a 1 1.5",
            "a\u{0} 1",
            "{\"a",
        ] {
            let problem = parse(&format!("ok 1\n{bad}\n"), Format::Text).expect_err(bad);
            assert!(problem.starts_with("line 2: "), "{bad}: {problem}");
        }
        assert!(parse("a 1\nb 2", Format::Text).unwrap_err().contains("middle of a line"));
        assert!(parse(&format!("a{{b=\"{}\"}} 1\n", "x".repeat(LONGEST_LINE)), Format::Text).is_err());
        let labels: Vec<String> = (0..=MOST_LABELS).map(|index| format!("l{index}=\"\"")).collect();
        assert!(
            parse(&format!("a{{{}}} 1\n", labels.join(",")), Format::Text).unwrap_err().contains("labels")
        );
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "([a{}=\",\\\\# 1.\n]|\\PC){0,60}") {
            for format in [Format::Text, Format::OpenMetrics] {
                match parse(&text, format) {
                    Ok(samples) => assert!(samples.iter().all(|sample| sample.labels.contains_key("__name__"))),
                    Err(problem) => assert!(!problem.is_empty()),
                }
            }
        }
    }
}
