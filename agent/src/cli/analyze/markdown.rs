//! The answer as Markdown: for the summary of a job, a comment, a page.

use super::Answer;
use super::text::{
    arm, because, beginning, coverage, evidence, headline, ratio, reference, seconds, subject,
};
use crate::cli::text::{moment, safe};
use rules::matrix::Truth;
use std::fmt::Write as _;

/// The answer as Markdown.
pub(super) fn markdown(answer: &Answer) -> String {
    let mut out = String::new();
    // Writing into a `String` cannot fail.
    let _infallible = write_answer(&mut out, answer);
    out
}

fn write_answer(out: &mut String, answer: &Answer) -> std::fmt::Result {
    let report = &answer.report;
    let mark = match report.verdict {
        "healthy" => "✅",
        "degraded" => "❌",
        "blind" => "🙈",
        _ => "❔",
    };
    writeln!(out, "## {mark} {}: {}\n", plain(&headline(report)), plain(&subject(answer)))?;
    let words = plain(&because(report));
    let (time, began) = (seconds(report), moment(report.began));
    writeln!(out, "{words}. Judged {time} from {began}, {}.\n", report.compared)?;
    for missing in &report.missing {
        writeln!(out, "- missing: {}", plain(missing))?;
    }
    if !report.missing.is_empty() {
        writeln!(out)?;
    }
    writeln!(out, "| signal | now | against | ratio | worse | no worse | seen |")?;
    writeln!(out, "| --- | --- | --- | --- | --- | --- | --- |")?;
    for signal in &report.signals {
        let mut seen = coverage(signal);
        if !signal.outliers.is_empty() {
            let _infallible = write!(seen, "; outlier {}", signal.outliers.join(", "));
        }
        if let Some(began) = &signal.beginning {
            let _infallible = write!(seen, "; began {}", beginning(began));
        }
        let ratio = ratio(signal.ratio).unwrap_or_else(|| "–".to_owned());
        let cells = [
            plain(&signal.name),
            plain(&arm(&signal.canary)),
            plain(&reference(&signal.reference)),
            plain(&ratio),
            plain(&evidence(signal.worse)),
            plain(&evidence(signal.pass)),
            plain(&seen),
        ];
        writeln!(out, "| {} |", cells.join(" | "))?;
    }
    if !report.rows.is_empty() {
        writeln!(out, "\n| row | severity | |\n| --- | --- | --- |")?;
    }
    for row in &report.rows {
        let truth = match row.truth {
            Truth::Holds => "**holds**",
            Truth::Fails => "does not hold",
            Truth::Unknown => "not shown either way",
        };
        writeln!(out, "| {} | {} | {truth} |", plain(&row.row), row.severity)?;
    }
    writeln!(out, "\nGuaranteed: {}.\n", plain(&report.guarantee.words))
}

/// Text that Markdown and HTML take as it is: nothing foreign becomes a link, a tag or a new column.
fn plain(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in safe(text).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            // A name that is called out to would be told of it.
            '@' => escaped.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '(' | ')' | '|' | '#' | '!' | '~' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    // GitHub makes a link of a bare address.
    escaped.replace("://", "&#58;//")
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn nothing_foreign_is_markup() {
        let shown = plain("[x](http://evil) <img src=x> a|b `c` @all \u{1b}[2J\n# h");
        assert_eq!(
            shown,
            "\\[x\\]\\(http&#58;//evil\\) &lt;img src=x&gt; a\\|b \\`c\\` &#64;all \\\\u{1b}\\[2J\\\\n\\# h"
        );
    }
}
