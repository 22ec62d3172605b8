//! The judgement of a deployment: one of four verdicts with different consequences, and the rows it rests on.

use crate::evidence::{Evidence, RowFinding};
use crate::ids::SignalName;
use crate::matrix::{Leaf, Row, RowVerdict, Severity, Truth};
use crate::ruleset::RuleSet;
use crate::units::Span;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The judgement of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Shown to be no worse than before.
    Healthy,
    /// A row of the matrix holds; this bad.
    Degraded(Severity),
    /// Not enough evidence either way.
    Inconclusive,
    /// The telemetry is broken: nothing can be said, and that is not the release's fault.
    Blind,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Healthy => f.write_str("healthy"),
            Verdict::Degraded(severity) => write!(f, "degraded ({severity})"),
            Verdict::Inconclusive => f.write_str("inconclusive"),
            Verdict::Blind => f.write_str("blind"),
        }
    }
}

/// What somebody reports about the service, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FiringReport {
    /// When it began, by the reporter's clock; of several reporters the last.
    pub since: Timestamp,
    /// The reporter's words.
    pub summary: String,
    /// Who reports it, as `source/id`, and when it began for them: it is over when all of them say so.
    pub by: BTreeMap<String, Timestamp>,
}

/// A verdict with everything it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The row that decides, if one holds.
    pub row: Option<String>,
    /// What that row says should be done.
    pub says: Option<RowVerdict>,
    /// Every row, looked at.
    pub rows: Vec<RowFinding>,
    /// Critical signals without data.
    pub blind: Vec<(SignalName, String)>,
    /// When this was judged.
    pub at: Timestamp,
}

impl Judgement {
    /// The signals that make the row hold, and whether somebody's report does.
    pub fn decisive(&self, row: &str) -> (BTreeSet<SignalName>, bool) {
        let Some(row) = self.rows.iter().find(|found| found.row == row) else { return Default::default() };
        let holding = row.findings.iter().filter(|finding| finding.truth == Truth::Holds);
        let signals = holding.map(|finding| finding.signal.clone()).collect();
        (signals, row.reports.iter().any(|(_, truth)| *truth == Truth::Holds))
    }
}

/// News of a report may be a little older than the deployment's own time by the clocks of two machines.
const CLOCK_SLACK: Span = Span::from_seconds(5);

/// Judges the evidence. Pure: the same evidence at the same time gives the same judgement, today and in the post-mortem.
pub fn judge(
    evidence: &Evidence,
    reports: &BTreeMap<String, FiringReport>,
    rules: &RuleSet,
    deployed_at: Timestamp,
    now: Timestamp,
) -> Judgement {
    let rows: Vec<RowFinding> =
        rules.matrix.rows.iter().map(|row| look_at(row, evidence, reports, rules, deployed_at)).collect();
    // The most severe row that holds wins; of equals, the first in the file.
    let decisive = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.truth == Truth::Holds)
        .min_by_key(|(n, row)| (row.severity, *n));
    let blind = evidence.blind(rules.watch.blind_after, now);
    let soaked = Span::between(evidence.since, now) >= rules.watch.soak;
    let verdict = match decisive {
        Some((_, row)) => Verdict::Degraded(row.severity),
        None if !blind.is_empty() => Verdict::Blind,
        None if soaked && evidence.shown_healthy(&rules.statistics) => Verdict::Healthy,
        None => Verdict::Inconclusive,
    };
    let row = decisive.map(|(number, _)| &rules.matrix.rows[number]);
    Judgement {
        verdict,
        row: row.map(|row| row.name.clone()),
        says: row.map(|row| row.verdict),
        rows,
        blind,
        at: now,
    }
}

fn look_at(
    row: &Row,
    evidence: &Evidence,
    reports: &BTreeMap<String, FiringReport>,
    rules: &RuleSet,
    deployed_at: Timestamp,
) -> RowFinding {
    let mut findings = Vec::new();
    let mut reported = Vec::new();
    let truth = row.when.evaluate(&mut |leaf| match leaf {
        Leaf::Signal(condition) => {
            let finding = evidence.finding(&condition.name, condition.is, &rules.statistics);
            let truth = finding.truth;
            findings.push(finding);
            truth
        }
        Leaf::Reported(what) => {
            let truth = match reports.get(what) {
                Some(report) if report.since >= CLOCK_SLACK.before(deployed_at) => Truth::Holds,
                // It was so before the deployment: whether the deployment made it worse, nobody knows.
                Some(_) => Truth::Unknown,
                None => Truth::Fails,
            };
            reported.push((what.to_owned(), truth));
            truth
        }
    });
    RowFinding { row: row.name.clone(), severity: row.severity, truth, findings, reports: reported }
}
