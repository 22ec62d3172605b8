//! The answer for people.

use super::Answer;
use crate::cli::console::{Console, Tone, severity_tone, verdict_tone};
use crate::cli::text::{moment, safe, shortened};
use rules::analysis::{AnalysisReport, Arm, Needed, Ratio, Reference, ReportedRow, ReportedSignal};
use rules::evidence::{Beginning, LevelFinding};
use rules::matrix::{RowVerdict, Truth};
use rules::units::Span;
use std::fmt::Write as _;

/// Characters of the reason why there is nothing to compare with: mostly it is the one that stands below as a whole.
const LONGEST_REASON: usize = 80;

/// The answer as text; coloured if the console is.
pub(super) fn text(answer: &Answer, console: Option<&Console>) -> String {
    let mut out = String::new();
    // Writing into a `String` cannot fail.
    let _infallible = write_answer(&mut out, answer, console);
    out
}

fn write_answer(out: &mut String, answer: &Answer, console: Option<&Console>) -> std::fmt::Result {
    let report = &answer.report;
    let paint =
        |text: &str, tone: Tone| console.map_or_else(|| text.to_owned(), |console| console.paint(text, tone));
    let verdict = paint(&headline(report), verdict_tone(report.verdict));
    writeln!(out, "{verdict}: {}, {}", safe(&subject(answer)), report.compared)?;
    writeln!(out, "  because   {}", safe(&because(report)))?;
    writeln!(out, "  judged    {} from {}", seconds(report), moment(report.began))?;
    writeln!(out, "  together  {} for \"worse\"", evidence(Some(report.together)))?;
    // Who cannot see misses only that, and it stands with each signal.
    for missing in report.missing.iter().filter(|_| report.blind.is_empty()) {
        writeln!(out, "  missing   {}", safe(missing))?;
    }
    for signal in &report.signals {
        writeln!(out)?;
        write_signal(out, signal)?;
    }
    let telling = |row: &&ReportedRow| row.bounds.iter().any(|bound| bound.finding.log_e.is_some());
    let mut rows = report.rows.iter().filter(telling).peekable();
    if rows.peek().is_some() {
        writeln!(out)?;
    }
    for row in rows {
        let truth = match row.truth {
            Truth::Holds => paint("holds", severity_tone(&row.severity.to_string())),
            Truth::Fails => "does not hold".to_owned(),
            Truth::Unknown => "not shown either way".to_owned(),
        };
        writeln!(out, "  row {} ({}): {truth}", safe(&row.row), row.severity)?;
    }
    writeln!(out, "\nGuaranteed: {}.", report.guarantee.words)
}

fn write_signal(out: &mut String, signal: &ReportedSignal) -> std::fmt::Result {
    let role = format!("{:?}", signal.role).to_lowercase();
    writeln!(out, "  {} ({role}) {}", safe(&signal.name), safe(&signal.what))?;
    let interval = signal
        .interval
        .map(|interval| format!(", between {} and {}", percent(interval.lower), percent(interval.upper)));
    writeln!(out, "    now       {}{}", arm(&signal.canary), interval.unwrap_or_default())?;
    writeln!(out, "    against   {}", safe(&reference(&signal.reference)))?;
    if let Some(words) = ratio(signal.ratio) {
        writeln!(out, "    ratio     {words}")?;
    }
    if let Some(threshold) = signal.threshold.filter(|_| signal.ratio.is_none()) {
        writeln!(out, "    worse is  more than {}", percent(threshold))?;
    }
    if let Some(level) = &signal.level {
        writeln!(out, "    level     {}", safe(&self::level(level)))?;
    }
    writeln!(out, "    worse     {}", evidence(signal.worse))?;
    if let Some(began) = &signal.beginning {
        writeln!(out, "    began     {}", beginning(began))?;
    }
    writeln!(out, "    no worse  {}", evidence(signal.pass))?;
    writeln!(out, "    seen      {}", safe(&coverage(signal)))?;
    if !signal.outliers.is_empty() {
        writeln!(out, "    outlier   {}", safe(&signal.outliers.join(", ")))?;
    }
    if let Some(missing) = signal.missing.as_ref().filter(|_| signal.hole.is_none()) {
        writeln!(out, "    missing   {}", safe(missing))?;
    }
    Ok(())
}

/// The verdict with its severity.
pub(super) fn headline(report: &AnalysisReport) -> String {
    match report.severity {
        Some(severity) => format!("{} ({severity})", report.verdict),
        None => report.verdict.to_owned(),
    }
}

/// What was judged.
pub(super) fn subject(answer: &Answer) -> String {
    let report = &answer.report;
    let version = answer.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    format!("{}{version} in {}", report.service, report.environment)
}

/// Why it is over, and what the matrix says.
pub(super) fn because(report: &AnalysisReport) -> String {
    let mut words = match &report.row {
        Some(row) => format!("{}: {row}", report.ended),
        None => report.ended.to_owned(),
    };
    if !report.blind.is_empty() {
        let names: Vec<&str> = report.blind.iter().map(|(name, _)| name.as_str()).collect();
        words = format!("{words}: {}", names.join(", "));
    }
    match report.says {
        Some(RowVerdict::Rollback) => words + ", which says: turn it back",
        Some(RowVerdict::Maybe) => words + ", which says: turn it back unless something else helps",
        Some(RowVerdict::No) => words + ", which says: do not turn it back, but look at it",
        None => words,
    }
}

/// How long a time was judged.
pub(super) fn seconds(report: &AnalysisReport) -> String {
    let seconds = Span::between(report.began, report.until).milliseconds() / 1_000;
    Span::from_seconds(seconds).to_string()
}

/// Bad of all.
pub(super) fn arm(arm: &Arm) -> String {
    match arm.share {
        Some(share) => format!("{} ({:.0} of {:.0})", percent(share), arm.bad, arm.total),
        None => "nothing was counted".to_owned(),
    }
}

/// What it is compared with.
pub(super) fn reference(reference: &Reference) -> String {
    match reference {
        Reference::Control(counted) => format!("control {}", arm(counted)),
        Reference::Before { counted, span } => {
            let span = Span::from_seconds(span.milliseconds() / 1_000);
            format!("before {} in {span}", arm(counted))
        }
        Reference::Levels => "its levels before".to_owned(),
        Reference::None(why) => format!("nothing: {}", shortened(why, LONGEST_REASON)),
    }
}

/// The ratio with its interval.
pub(super) fn ratio(ratio: Option<Ratio>) -> Option<String> {
    let Ratio { now, lower, upper, threshold } = ratio?;
    let now = now.map_or_else(|| "–".to_owned(), |now| format!("{now:.2}"));
    let upper = upper.map_or_else(|| "∞".to_owned(), |upper| format!("{upper:.2}"));
    Some(format!("{now}, between {lower:.2} and {upper}; worse is more than {threshold}"))
}

/// When it began, with where the middle 80 % of the probability lie.
pub(super) fn beginning(began: &Beginning) -> String {
    let Beginning { seconds, earliest, latest, .. } = began;
    format!("{seconds:.0} s after the deployment (80 %: {earliest:.0} s to {latest:.0} s)")
}

/// The level of a gauge.
pub(super) fn level(level: &LevelFinding) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.4}"));
    format!("{}, usual {:.4}, bound {}", number(level.now), level.usual, number(level.bound))
}

/// Evidence so far and how much is needed.
pub(super) fn evidence(evidence: Option<Needed>) -> String {
    match evidence {
        // Evidence for the contrary is none for this.
        Some(Needed { evidence, needed }) => format!("evidence {:.1} of {needed:.1}", evidence.max(0.0)),
        None => "cannot be tested".to_owned(),
    }
}

/// Whether it could be seen.
pub(super) fn coverage(signal: &ReportedSignal) -> String {
    let windows = format!("{} windows with data, {} without", signal.windows, signal.lost);
    let instances = match signal.instances {
        0 => String::new(),
        count => format!(", {count} instances"),
    };
    match &signal.hole {
        Some(hole) => format!("{windows}{instances}; now not: {hole}"),
        None => format!("{windows}{instances}"),
    }
}

/// A share as a percentage with three significant digits.
pub(super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    let digits = if value >= 10.0 {
        1
    } else if value >= 1.0 || value == 0.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}%")
}
