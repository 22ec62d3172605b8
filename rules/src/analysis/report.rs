//! What an analysis found, as plain values: the same for a terminal, a JSON document, a test report and a job summary.

use super::Analysis;
use crate::evidence::{BaselineState, Beginning, Finding, LevelFinding, RowFinding, SignalEvidence};
use crate::matrix::{Bound, RowVerdict, Severity, Truth};
use crate::ruleset::Statistics;
use crate::signal::Role;
use crate::stats::Interval;
use crate::units::Span;
use crate::verdict::{Judgement, Verdict};
use jiff::Timestamp;
use serde::Serialize;

/// Everything an answer rests on. Shares are between 0 and 1; evidence is in natural-log units.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnalysisReport {
    /// The service.
    pub service: String,
    /// The environment.
    pub environment: String,
    /// What was compared, in words: `canary against control` or `after against before`.
    pub compared: &'static str,
    /// The verdict: `healthy`, `degraded`, `inconclusive` or `blind`.
    pub verdict: &'static str,
    /// How bad, if degraded.
    pub severity: Option<Severity>,
    /// The row that decides, if one holds.
    pub row: Option<String>,
    /// What that row says should be done.
    pub says: Option<RowVerdict>,
    /// Why it is over, or that it is not.
    pub ended: &'static str,
    /// The beginning of what is judged.
    pub began: Timestamp,
    /// The end of what was judged.
    pub until: Timestamp,
    /// When it would have been over at the latest.
    pub deadline: Timestamp,
    /// From `began` to `until`, seconds.
    pub seconds: f64,
    /// How often it may be wrong.
    pub guarantee: Guarantee,
    /// All signals together: evidence for "worse".
    pub together: Needed,
    /// The signals that may be named as worse, at most 5 % of them wrongly.
    pub worse_signals: Vec<String>,
    /// Critical signals without data, and why.
    pub blind: Vec<(String, String)>,
    /// What is still missing for `healthy`, in words; empty if nothing is.
    pub missing: Vec<String>,
    /// Per signal.
    pub signals: Vec<ReportedSignal>,
    /// Per row of the matrix that asks about any of the signals.
    pub rows: Vec<ReportedRow>,
}

/// How often the answer may be wrong, whatever number of looks it took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guarantee {
    /// False "degraded" per healthy release, over all signals and all looks.
    pub alpha: f64,
    /// False "healthy" per bad release.
    pub beta: f64,
    /// How many times the reference is tolerated before something is called worse.
    pub margin: f64,
    /// "Healthy" means: shown to be less than this many times the reference …
    pub tolerated_ratio: f64,
    /// … or below this share.
    pub healthy_below: f64,
    /// The same as one sentence.
    pub words: String,
}

/// Evidence so far, and how much is needed; natural-log units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Needed {
    /// So far.
    pub evidence: f64,
    /// Needed.
    pub needed: f64,
}

/// One arm, as counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Arm {
    /// Bad trials.
    pub bad: f64,
    /// All trials.
    pub total: f64,
    /// The share of bad ones; `None` without any trial.
    pub share: Option<f64>,
}

/// What the release is compared with.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// What runs beside it.
    Control(Arm),
    /// The time before, in words how long a time.
    Before {
        /// As counted.
        counted: Arm,
        /// How long a time.
        span: Span,
    },
    /// The levels of a gauge in the time before; see [`ReportedSignal::level`].
    Levels,
    /// Nothing, for this reason.
    None(String),
}

/// Canary against control, as a ratio of shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// As counted; `None` while the control has no bad ones.
    pub now: Option<f64>,
    /// Lower end of what the data do not exclude.
    pub lower: f64,
    /// Upper end; `None` if nothing is excluded.
    pub upper: Option<f64>,
    /// The ratio that must be exceeded.
    pub threshold: f64,
}

/// One signal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReportedSignal {
    /// Its name.
    pub name: String,
    /// How much it matters.
    pub role: Role,
    /// What is compared, in words; empty while that is not known.
    pub what: String,
    /// The release.
    pub canary: Arm,
    /// The share's interval, valid at every look.
    pub interval: Option<Interval>,
    /// What it is compared with.
    pub reference: Reference,
    /// Canary against control.
    pub ratio: Option<Ratio>,
    /// The share that must be exceeded, where the reference is the time before.
    pub threshold: Option<f64>,
    /// Evidence for "worse than the reference"; `None` without a reference.
    pub worse: Option<Needed>,
    /// Whether that was shown.
    pub shown_worse: Truth,
    /// Evidence for "no worse"; `None` where there is no such test.
    pub pass: Option<Needed>,
    /// When it began to be worse, as seconds after `began`; once that is shown.
    pub beginning: Option<Beginning>,
    /// The level of a gauge, in its own unit.
    pub level: Option<LevelFinding>,
    /// How many events are counted as one witness.
    pub cluster: f64,
    /// Why it cannot be seen now; `None` if it can.
    pub hole: Option<String>,
    /// Windows with data.
    pub windows: u32,
    /// Windows without.
    pub lost: u32,
    /// Instances that were told apart.
    pub instances: usize,
    /// Bad instances in a release that is not shown to be bad without them, worst first.
    pub outliers: Vec<String>,
    /// About how many more requests a pass takes at the rate seen now.
    pub requests_to_pass: Option<u64>,
    /// What is missing for a pass, in words.
    pub missing: Option<String>,
}

/// One row of the matrix.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReportedRow {
    /// Its name.
    pub row: String,
    /// How bad it would be.
    pub severity: Severity,
    /// Whether it holds.
    pub truth: Truth,
    /// The bounds that it rests on.
    pub bounds: Vec<ReportedBound>,
}

/// One bound of a row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReportedBound {
    /// The signal and the bound in words: `errors > 10%`.
    pub words: String,
    /// Everything known about it.
    pub finding: Finding,
}

pub(super) fn report(analysis: &Analysis, now: Timestamp) -> AnalysisReport {
    let Analysis { rules, evidence, began, deadline } = analysis;
    let judgement = analysis.judgement(now);
    let statistics = &rules.statistics;
    let until = now.min(*deadline);
    let signals: Vec<ReportedSignal> =
        evidence.signals.values().map(|signal| self::signal(signal, analysis)).collect();
    let compares = evidence.signals.values().any(SignalEvidence::compares);
    AnalysisReport {
        service: rules.service.to_string(),
        environment: rules.environment.to_string(),
        compared: if compares { "canary against control" } else { "after against before" },
        verdict: verdict_word(judgement.verdict),
        severity: match judgement.verdict {
            Verdict::Degraded(severity) => Some(severity),
            Verdict::Healthy | Verdict::Inconclusive | Verdict::Blind => None,
        },
        row: judgement.row.clone(),
        says: judgement.says,
        ended: ended(&judgement, now >= *deadline),
        began: *began,
        until,
        deadline: *deadline,
        seconds: Span::between(*began, until).seconds(),
        guarantee: guarantee(statistics),
        together: Needed { evidence: evidence.together(), needed: -statistics.alpha.ln() },
        worse_signals: evidence.discoveries().into_iter().map(ToString::to_string).collect(),
        blind: judgement.blind.iter().map(|(name, why)| (name.to_string(), why.clone())).collect(),
        missing: missing(analysis, &judgement, &signals, until),
        signals,
        rows: judgement.rows.iter().filter_map(|row| reported_row(row, analysis)).collect(),
    }
}

/// A verdict without its severity.
fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Healthy => "healthy",
        Verdict::Degraded(_) => "degraded",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Blind => "blind",
    }
}

fn ended(judgement: &Judgement, over: bool) -> &'static str {
    match (judgement.verdict, over) {
        (Verdict::Degraded(_), _) => "a row of the matrix holds",
        (Verdict::Healthy, _) => "it is shown to be no worse",
        (Verdict::Blind, false) => "it cannot be seen",
        (Verdict::Blind, true) => "the time is over, and it cannot be seen",
        (Verdict::Inconclusive, true) => "the time is over, and nothing was shown either way",
        (Verdict::Inconclusive, false) => "it is not over",
    }
}

fn guarantee(statistics: &Statistics) -> Guarantee {
    let Statistics { alpha, beta, margin, tolerated_ratio, healthy_below, .. } = statistics;
    let percent = |share: f64| (share * 1e6).round() / 1e4;
    Guarantee {
        alpha: *alpha,
        beta: *beta,
        margin: *margin,
        tolerated_ratio: *tolerated_ratio,
        healthy_below: healthy_below.value,
        words: format!(
            "at most {}% of releases that are no worse than {margin} × the reference are called degraded, and at most \
             {}% of those that are {tolerated_ratio} × as bad and above {healthy_below} are called healthy, over all \
             signals and looks",
            percent(*alpha),
            percent(*beta)
        ),
    }
}

fn arm(bad: f64, total: f64) -> Arm {
    Arm { bad, total, share: (total > 0.0).then(|| bad / total) }
}

fn signal(evidence: &SignalEvidence, analysis: &Analysis) -> ReportedSignal {
    let statistics = &analysis.rules.statistics;
    let finding = analysis.evidence.finding(&evidence.signal.name, Bound::Worse, statistics);
    let (bad, total) = evidence.counts();
    let reference = match (evidence.control_counts(), &evidence.baseline) {
        (Some((bad, total)), _) => Reference::Control(arm(bad, total)),
        (None, BaselineState::Known(before)) => {
            let counted = arm(before.share.bad, before.share.requests);
            Reference::Before { counted, span: before.span }
        }
        (None, BaselineState::Missing(why)) => Reference::None(why.clone()),
        (None, BaselineState::Levels(_)) => Reference::Levels,
        (None, BaselineState::Waiting) => Reference::None("it was not measured yet".into()),
    };
    let pass = evidence.pass(statistics.beta).map(|(evidence, needed)| Needed { evidence, needed });
    let outliers: Vec<String> = evidence.outliers(statistics.alpha).into_iter().map(str::to_owned).collect();
    let mut reported = ReportedSignal {
        name: evidence.signal.name.to_string(),
        role: evidence.signal.role,
        what: finding.what,
        canary: arm(bad, total),
        interval: finding.interval,
        reference,
        ratio: finding.ratio.map(|ratio| Ratio {
            now: ratio.now,
            lower: ratio.interval.lower,
            upper: ratio.interval.upper,
            threshold: ratio.threshold,
        }),
        threshold: finding.threshold,
        worse: finding.log_e.map(|evidence| Needed { evidence, needed: finding.log_e_needed }),
        shown_worse: finding.truth,
        pass,
        beginning: evidence.beginning(),
        level: finding.level,
        cluster: evidence.cluster(statistics),
        hole: evidence.hole.as_ref().map(|(since, why)| format!("{why} (since {since:.0})")),
        windows: evidence.windows,
        lost: evidence.lost,
        instances: evidence.instances(),
        outliers,
        requests_to_pass: evidence.requests_to_pass(statistics.beta),
        missing: None,
    };
    reported.missing = missing_for_a_pass(&reported);
    reported
}

/// What keeps one signal from passing.
fn missing_for_a_pass(signal: &ReportedSignal) -> Option<String> {
    if let Some(hole) = &signal.hole {
        return Some(hole.clone());
    }
    if let [first, rest @ ..] = signal.outliers.as_slice() {
        let names = rest.iter().fold(first.clone(), |names, name| format!("{names}, {name}"));
        return Some(format!("{names}: worse than the others; look at the instance"));
    }
    match (signal.pass, signal.requests_to_pass) {
        (Some(pass), _) if pass.evidence >= pass.needed => None,
        (Some(_), Some(more)) => Some(format!("about {more} more requests")),
        (Some(_), None) => Some("as counted it is no better than what is tolerated".into()),
        (None, _) => match &signal.reference {
            Reference::None(why) => Some(format!("there is nothing to compare it with: {why}")),
            Reference::Control(_) | Reference::Before { .. } | Reference::Levels => {
                Some("for this kind of signal \"no worse\" cannot be shown".into())
            }
        },
    }
}

/// What keeps the release from passing: only critical signals have to be shown to be no worse.
fn missing(
    analysis: &Analysis,
    judgement: &Judgement,
    signals: &[ReportedSignal],
    until: Timestamp,
) -> Vec<String> {
    if judgement.verdict == Verdict::Healthy {
        return Vec::new();
    }
    let critical = signals.iter().filter(|signal| signal.role == Role::Critical);
    let mut missing: Vec<String> = critical
        .filter_map(|signal| Some(format!("{}: {}", signal.name, signal.missing.as_ref()?)))
        .collect();
    let age = Span::between(analysis.began, until);
    let soak = analysis.rules.watch.soak;
    if age < soak {
        let rest = Span::from_milliseconds(soak.milliseconds() - age.milliseconds());
        missing.push(format!("{rest} until the soak time of {soak} is over"));
    }
    if missing.is_empty() && analysis.evidence.is_suspicious() {
        missing.push("something looks bad, though not enough to accuse the release".into());
    }
    if !signals.iter().any(|signal| signal.role == Role::Critical) {
        missing.push("no signal is critical, so none can show that the release is well".into());
    }
    missing
}

/// Rows that ask only about signals that are not measured say nothing.
fn reported_row(row: &RowFinding, analysis: &Analysis) -> Option<ReportedRow> {
    let known = |finding: &&Finding| analysis.evidence.signals.contains_key(&finding.signal);
    let bounds: Vec<ReportedBound> = row
        .findings
        .iter()
        .filter(known)
        .map(|finding| ReportedBound {
            words: format!("{} {}", finding.signal, finding.bound),
            finding: finding.clone(),
        })
        .collect();
    (!bounds.is_empty()).then(|| ReportedRow {
        row: row.row.clone(),
        severity: row.severity,
        truth: row.truth,
        bounds,
    })
}
