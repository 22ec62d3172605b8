//! The answer as a test report: one suite, one case for each row of the matrix and for each signal.
//!
//! A row that holds is a failure, what cannot be seen is an error, what was not shown either way is skipped: the four
//! verdicts in the three words that JUnit has.

use super::Answer;
use super::text::{arm, because, beginning, coverage, evidence, headline, level, ratio, reference, subject};
use crate::cli::text::safe;
use rules::analysis::{ReportedRow, ReportedSignal};
use rules::matrix::Truth;
use rules::signal::Role;
use std::fmt::Write as _;

/// What became of a case.
enum Ending {
    Passed,
    Failed(String),
    Errored(String),
    Skipped(String),
}

struct Case {
    class: &'static str,
    name: String,
    ending: Ending,
    details: String,
}

/// The answer as JUnit's XML.
pub(super) fn junit(answer: &Answer) -> String {
    let report = &answer.report;
    let verdict = Case {
        class: "verdict",
        name: report.compared.to_owned(),
        ending: match report.verdict {
            "healthy" => Ending::Passed,
            "degraded" => Ending::Failed(because(report)),
            "blind" => Ending::Errored(because(report)),
            _ => Ending::Skipped(because(report)),
        },
        details: report.missing.join("\n"),
    };
    let signals = report.signals.iter().map(|one| signal(one, report.verdict == "healthy"));
    let cases: Vec<Case> =
        std::iter::once(verdict).chain(report.rows.iter().map(row)).chain(signals).collect();
    let mut out = String::new();
    // Writing into a `String` cannot fail.
    let _infallible = write_suite(&mut out, answer, &cases);
    out
}

fn write_suite(out: &mut String, answer: &Answer, cases: &[Case]) -> std::fmt::Result {
    let report = &answer.report;
    let count = |which: fn(&Ending) -> bool| cases.iter().filter(|case| which(&case.ending)).count();
    let name = xml(&format!("turnback analyze {}", subject(answer)));
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(out, "<testsuites>")?;
    writeln!(
        out,
        r#"  <testsuite name="{name}" tests="{}" failures="{}" errors="{}" skipped="{}" time="{:.3}" timestamp="{:.0}">"#,
        cases.len(),
        count(|ending| matches!(ending, Ending::Failed(_))),
        count(|ending| matches!(ending, Ending::Errored(_))),
        count(|ending| matches!(ending, Ending::Skipped(_))),
        report.seconds,
        report.began,
    )?;
    writeln!(out, "    <properties>")?;
    let code = answer.exit.code().to_string();
    for (key, value) in
        [("verdict", headline(report)), ("exit_code", code), ("guarantee", report.guarantee.words.clone())]
    {
        writeln!(out, r#"      <property name="{key}" value="{}"/>"#, xml(&value))?;
    }
    writeln!(out, "    </properties>")?;
    for case in cases {
        write_case(out, case, report.seconds)?;
    }
    writeln!(out, "  </testsuite>\n</testsuites>")
}

fn write_case(out: &mut String, case: &Case, seconds: f64) -> std::fmt::Result {
    let (class, name) = (case.class, xml(&case.name));
    writeln!(out, r#"    <testcase classname="turnback.{class}" name="{name}" time="{seconds:.3}">"#)?;
    match &case.ending {
        Ending::Passed => {}
        Ending::Failed(why) => writeln!(out, r#"      <failure message="{}"/>"#, xml(why))?,
        Ending::Errored(why) => writeln!(out, r#"      <error message="{}"/>"#, xml(why))?,
        Ending::Skipped(why) => writeln!(out, r#"      <skipped message="{}"/>"#, xml(why))?,
    }
    if !case.details.is_empty() {
        let lines: Vec<String> = case.details.lines().map(xml).collect();
        writeln!(out, "      <system-out>{}</system-out>", lines.join("\n"))?;
    }
    writeln!(out, "    </testcase>")
}

fn row(row: &ReportedRow) -> Case {
    let bounds: Vec<&str> = row.bounds.iter().map(|bound| bound.words.as_str()).collect();
    let missing = || {
        let missing = row.bounds.iter().filter_map(|bound| bound.finding.missing.as_deref());
        let missing: Vec<&str> = missing.collect();
        if missing.is_empty() { "not shown either way".to_owned() } else { missing.join("; ") }
    };
    Case {
        class: "row",
        name: format!("{} ({})", row.row, row.severity),
        ending: match row.truth {
            Truth::Holds => Ending::Failed(format!("{} holds: {}", row.row, bounds.join(", "))),
            Truth::Fails => Ending::Passed,
            Truth::Unknown => Ending::Skipped(missing()),
        },
        details: bounds.join("\n"),
    }
}

fn signal(signal: &ReportedSignal, healthy: bool) -> Case {
    let lines = [
        Some(format!("now {}", arm(&signal.canary))),
        Some(format!("against {}", reference(&signal.reference))),
        ratio(signal.ratio).map(|words| format!("ratio {words}")),
        Some(format!("worse: {}", evidence(signal.worse))),
        Some(format!("no worse: {}", evidence(signal.pass))),
        signal.level.as_ref().map(|found| format!("level {}", level(found))),
        signal.beginning.as_ref().map(|began| format!("began {}", beginning(began))),
        Some(coverage(signal)),
        (!signal.outliers.is_empty()).then(|| format!("outlier {}", signal.outliers.join(", "))),
    ];
    let ending = match (&signal.hole, &signal.missing) {
        (Some(hole), _) if signal.role == Role::Critical => Ending::Errored(hole.clone()),
        _ if signal.shown_worse == Truth::Holds => Ending::Failed("shown to be worse".to_owned()),
        (_, Some(missing)) if !healthy || signal.role != Role::Critical => Ending::Skipped(missing.clone()),
        _ => Ending::Passed,
    };
    let details: Vec<String> = lines.into_iter().flatten().collect();
    Case { class: "signal", name: signal.name.clone(), ending, details: details.join("\n") }
}

/// Text for an attribute or an element. Control characters have no place in XML at all, not even escaped.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in safe(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            // The two code points beyond the controls that XML forbids.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::xml;

    #[test]
    fn nothing_foreign_ends_an_attribute_or_an_element() {
        assert_eq!(xml(r#"a<b>&"c'"#), "a&lt;b&gt;&amp;&quot;c&apos;");
        assert_eq!(xml("\u{1b}[2J\0\n]]>"), "\\u{1b}[2J\\u{0}\\n]]&gt;");
        assert_eq!(xml("\u{ffff}"), "\u{fffd}");
    }
}
