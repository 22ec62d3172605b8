//! Instant-vector selectors: `name{label="value",other=~"a|b"}`, and nothing else of PromQL.
//!
//! Signals name raw series, never expressions: the agent differences samples itself (`rules::series`). A `rate(...)`
//! in the configuration is therefore an error, found when the configuration is read and explained in words. The
//! grammar that is left is small enough to be read here, by the scanner that also reads scraped text.

use super::scanner::{Problem, Scanner};
use regex::Regex;
use rules::series::whole_value;
use std::collections::BTreeMap;
use std::fmt;

/// The longest selector, in bytes: it travels in the address of a GET request, and 8 KiB is what common proxies take
/// after percent-encoding.
const LONGEST: usize = 2_048;

/// The most matchers in one selector.
const MOST_MATCHERS: usize = 32;

/// Why a selector was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "{selector:?} is not a selector of series: {problem}; write for example requests_total{{service=\"checkout\"}}"
)]
pub struct BadSelector {
    selector: String,
    problem: String,
}

/// A selector that was checked. Its text is safe to stand in a query: it is one selector and nothing more.
#[derive(Debug, Clone)]
pub struct ParsedSelector {
    text: String,
    matchers: Vec<Matcher>,
}

#[derive(Debug, Clone)]
struct Matcher {
    label: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Equal(String),
    NotEqual(String),
    Match(Regex),
    NoMatch(Regex),
}

impl Test {
    /// Whether a label's value passes. A label that is not there has the empty value.
    fn passes(&self, value: &str) -> bool {
        match self {
            Test::Equal(wanted) => value == wanted,
            Test::NotEqual(unwanted) => value != unwanted,
            Test::Match(regex) => regex.is_match(value),
            Test::NoMatch(regex) => !regex.is_match(value),
        }
    }
}

impl ParsedSelector {
    /// Whether a series with these labels (`__name__` among them) is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matchers
            .iter()
            .all(|matcher| matcher.test.passes(labels.get(&matcher.label).map_or("", String::as_str)))
    }
    /// As it was written, without white space around it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// Whether series of this metric can be selected at all.
    pub fn may_select(&self, metric: &str) -> bool {
        self.matchers.iter().all(|matcher| matcher.label != "__name__" || matcher.test.passes(metric))
    }
}

impl fmt::Display for ParsedSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks a selector. Errors say what is wrong and, for the usual mistakes, what to write instead.
pub fn check_selector(text: &str) -> Result<ParsedSelector, BadSelector> {
    let refuse = |problem: String| BadSelector { selector: text.chars().take(200).collect(), problem };
    let text = text.trim();
    if text.len() > LONGEST {
        return Err(refuse(format!("it has {} bytes, at most {LONGEST} are allowed", text.len())));
    }
    let matchers = parse(text).map_err(|problem| refuse(problem.text))?;
    // Prometheus refuses this too: such a selector would read every series there is.
    if matchers.iter().all(|matcher| matcher.test.passes("")) {
        return Err(refuse("it selects series without any name or label; name the metric".into()));
    }
    Ok(ParsedSelector { text: text.into(), matchers })
}

fn parse(text: &str) -> Result<Vec<Matcher>, Problem> {
    let mut scanner = Scanner::new(text);
    if scanner.at_end() {
        return Err(scanner.problem("it is empty"));
    }
    let mut matchers = Vec::new();
    if let Some(name) = scanner.metric_name() {
        scanner.skip_space();
        if scanner.peek() == Some('(') {
            return Err(
                scanner.problem(&format!("{name}(...) is a function; write the raw series, {ADVICE}"))
            );
        }
        if matches!(scanner.peek(), Some('a'..='z' | 'A'..='Z')) {
            return Err(
                scanner.problem("there is a second word; an aggregation or operator cannot stand here")
            );
        }
        matchers.push(Matcher { label: "__name__".into(), test: Test::Equal(name) });
    }
    if scanner.accept('{') {
        braces(&mut scanner, &mut matchers)?;
        scanner.skip_space();
    }
    match scanner.peek() {
        None => Ok(matchers),
        Some('[') => {
            Err(scanner
                .problem("a range such as [5m] cannot stand here, the windows are chosen by the agent"))
        }
        Some('@') => {
            Err(scanner.problem("a time with @ cannot stand here, the windows are chosen by the agent"))
        }
        Some('o') => Err(scanner.problem("`offset` cannot stand here, the windows are chosen by the agent")),
        Some(_) => {
            Err(scanner.problem(&format!("only one selector can stand here, no expression; {ADVICE}")))
        }
    }
}

const ADVICE: &str = "differences, rates and sums are made by the agent";

fn braces(scanner: &mut Scanner<'_>, matchers: &mut Vec<Matcher>) -> Result<(), Problem> {
    loop {
        scanner.skip_space();
        if scanner.accept('}') {
            return Ok(());
        }
        if matchers.len() == MOST_MATCHERS {
            return Err(scanner.problem(&format!("it has more than {MOST_MATCHERS} matchers")));
        }
        matchers.push(matcher(scanner, matchers.iter().any(|matcher| matcher.label == "__name__"))?);
        scanner.skip_space();
        if !scanner.accept(',') && scanner.peek() != Some('}') {
            return Err(scanner.problem("expected `,` or `}`"));
        }
    }
}

/// `label="value"`; or, since Prometheus 3, the metric's name in quotes.
fn matcher(scanner: &mut Scanner<'_>, named: bool) -> Result<Matcher, Problem> {
    let quoted = matches!(scanner.peek(), Some('"' | '\''));
    let label = if quoted { scanner.quoted()? } else { scanner.label_name()? };
    scanner.skip_space();
    if quoted && matches!(scanner.peek(), Some(',' | '}')) {
        if named {
            return Err(scanner.problem("the metric is named twice"));
        }
        return Ok(Matcher { label: "__name__".into(), test: Test::Equal(label) });
    }
    if named && label == "__name__" {
        return Err(scanner.problem("the metric is named twice"));
    }
    let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| scanner.accept_text(operator));
    let operator =
        operator.ok_or_else(|| scanner.problem("expected one of = != =~ !~ after a label's name"))?;
    scanner.skip_space();
    let value = scanner.quoted()?;
    let regex = |value: &str| {
        whole_value(value).map_err(|_| scanner.problem(&format!("{value:?} is not a regular expression")))
    };
    let test = match operator {
        "=" => Test::Equal(value),
        "!=" => Test::NotEqual(value),
        "=~" => Test::Match(regex(&value)?),
        _ => Test::NoMatch(regex(&value)?),
    };
    Ok(Matcher { label, test })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn selectors_select() {
        let series = labels(&[("__name__", "requests_total"), ("code", "500"), ("path", "/a\"b")]);
        for (text, selects) in [
            ("requests_total", true),
            (" requests_total{} ", true),
            ("requests", false),
            ("requests_total{code=\"500\"}", true),
            ("requests_total { code = '500' , }", true),
            ("requests_total{code!=\"500\"}", false),
            ("requests_total{code=~\"5..\"}", true),
            ("requests_total{code=~\"5\"}", false),
            ("requests_total{code!~\"4..|5..\"}", false),
            ("requests_total{pod=\"\"}", true),
            ("requests_total{pod!=\"\"}", false),
            ("{__name__=~\"requests_.*\",code=\"500\"}", true),
            ("{\"requests_total\",code=\"500\"}", true),
            ("requests_total{path=\"/a\\\"b\"}", true),
            ("requests_total{path=\"/a\\x22b\"}", true),
            ("requests_total{path=~\"/a.b\"}", true),
            ("requests_total{a=\"}\"}", false),
        ] {
            let selector = check_selector(text).unwrap_or_else(|problem| panic!("{problem}"));
            assert_eq!(selector.matches(&series), selects, "{text}");
        }
    }

    #[test]
    fn expressions_are_refused_in_words() {
        for (text, words) in [
            ("", "it is empty"),
            ("rate(requests_total[5m])", "is a function"),
            ("sum by (code) (requests_total)", "aggregation"),
            ("sum(requests_total)", "is a function"),
            ("requests_total[5m]", "a range"),
            ("requests_total{a=\"b\"}[5m]", "a range"),
            ("requests_total offset 5m", "second word"),
            ("requests_total{} offset 5m", "offset"),
            ("requests_total{} @ 12", "@"),
            ("a / b", "no expression"),
            ("a{} or b", "offset"),
            ("a + 1", "no expression"),
            ("1", "no expression"),
            ("{}", "name the metric"),
            ("{a=~\".*\"}", "name the metric"),
            ("{a=\"\"}", "name the metric"),
            ("a{b}", "expected one of"),
            ("a{b=c}", "quotes"),
            ("a{b=\"c}", "not closed"),
            ("a{b=\"c\"", "expected `,` or `}`"),
            ("a{b=\"c\" d=\"e\"}", "expected `,`"),
            ("a{b=~\"(\"}", "regular expression"),
            ("a{b=~\"x)|(y\"}", "regular expression"),
            ("a{__name__=\"b\"}", "named twice"),
            ("a{\"b\"}", "named twice"),
            ("a{b=\"\\q\"}", "escape"),
            ("a}{", "no expression"),
            ("a{b=\"c\"} # comment", "no expression"),
            ("a;b", "no expression"),
            ("a\u{0}", "no expression"),
        ] {
            let problem = check_selector(text).expect_err(text).to_string();
            assert!(problem.contains(words), "{text}: {problem} should contain {words}");
        }
        assert!(check_selector(&"a".repeat(LONGEST + 1)).is_err());
        assert!(check_selector(&format!("a{{{}}}", "b=\"c\",".repeat(MOST_MATCHERS + 1))).is_err());
    }
}
