//! The why card: for every decision, and for every non-decision, what it rests on and what is still missing.

use super::messages::aftercare_words;
use crate::checkpoint::Taken;
use crate::evidence::{
    BaselineState, Beginning, Finding, LevelFinding, RatioFinding, SignalEvidence, outlier_words,
};
use crate::execution::StepState;
use crate::guard::Hold;
use crate::ids::SignalName;
use crate::matrix::{Bound, Truth};
use crate::ruleset::Statistics;
use crate::signal::Measure;
use crate::stats::Interval;
use crate::units::Span;
use crate::verdict::{Judgement, Verdict};
use crate::watch::{Phase, Watch};
use jiff::Timestamp;
use serde::Serialize;
use std::fmt;

/// Everything a decision rests on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhyCard {
    /// The watch.
    pub watch: String,
    /// The service.
    pub service: String,
    /// The environment.
    pub environment: String,
    /// The release under observation.
    pub version: String,
    /// How long it has been running.
    pub age: Span,
    /// The verdict.
    pub verdict: Verdict,
    /// The row that decides.
    pub row: Option<String>,
    /// What is done, in words, if that was decided.
    pub decision: Option<String>,
    /// What stands against acting.
    pub holds: Vec<Hold>,
    /// All signals together: evidence for "worse", in natural-log units, and at which it is believed.
    pub together: f64,
    /// Evidence at which that is believed.
    pub together_needed: f64,
    /// The signals that may be named as worse, at most 5 % of them wrongly.
    pub worse_signals: Vec<String>,
    /// Per signal.
    pub signals: Vec<SignalCard>,
    /// Rows that hold or are unknown, with what they rest on.
    pub rows: Vec<RowCard>,
    /// Checkpoints after a rollback that were taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checkpoints: Vec<CheckpointCard>,
    /// The checkpoint that is next, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aftercare: Option<String>,
}

/// A checkpoint on the card.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckpointCard {
    /// When it was taken.
    pub at: Timestamp,
    /// What was seen.
    pub taken: Taken,
}

/// One signal on the card. Shares are between 0 and 1, evidence is in natural-log units.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignalCard {
    /// The signal.
    pub name: String,
    /// `critical`, `supporting` or `informational`.
    pub role: String,
    /// What a bad trial is: `bad`, `slow`, `down` or `high`.
    pub bad_is: String,
    /// Whether it reports: `full`, or what is missing.
    pub coverage: String,
    /// Looks with data, and looks that brought nothing or came too late.
    pub windows: (u32, u32),
    /// Bad trials since the beginning.
    pub bad: f64,
    /// All trials since the beginning.
    pub total: f64,
    /// Bad and all trials of the control, if there is one.
    pub control: Option<(f64, f64)>,
    /// Share before the deployment.
    pub before: Option<f64>,
    /// How it was before, or why that is not known.
    pub baseline: String,
    /// Now against the reference: interval, ratio, bound, when it began.
    pub comparison: Finding,
    /// Evidence for "worse than the reference".
    pub worse: Option<f64>,
    /// Evidence at which that is believed.
    pub worse_needed: f64,
    /// Instances without which the release is not shown to be worse.
    pub outliers: Vec<String>,
    /// Evidence for "no worse".
    pub pass: Option<f64>,
    /// Evidence at which that is believed.
    pub pass_needed: f64,
    /// About how many more requests a pass takes.
    pub requests_to_pass: Option<u64>,
}

/// One row on the card.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RowCard {
    /// The row.
    pub row: String,
    /// Its severity.
    pub severity: String,
    /// Whether it holds.
    pub truth: Truth,
    /// What its conditions rest on.
    pub findings: Vec<Finding>,
    /// Reports it rests on.
    pub reports: Vec<String>,
}

/// The card of a watch, now.
pub fn why_card(watch: &Watch, now: Timestamp) -> WhyCard {
    let since_rollback = matches!(watch.phase, Phase::Verifying { .. } | Phase::Aftercare { .. });
    card(watch, watch.judgement(now), since_rollback, now)
}

/// The card of the release that was turned back: what was decided rested on that.
pub(super) fn card_of_the_decision(watch: &Watch, now: Timestamp) -> WhyCard {
    if !watch.in_aftercare() {
        return WhyCard { checkpoints: Vec::new(), ..why_card(watch, now) };
    }
    let Watch { evidence, reports, rules, deployment, .. } = watch;
    let judgement = crate::verdict::judge(evidence, reports, rules, deployment.at, now);
    WhyCard { checkpoints: Vec::new(), aftercare: None, ..card(watch, judgement, false, now) }
}

fn card(watch: &Watch, judgement: Judgement, verifying: bool, now: Timestamp) -> WhyCard {
    let evidence = watch.trial.as_ref().filter(|_| verifying).unwrap_or(&watch.evidence);
    let statistics = &watch.rules.statistics;
    // A closed watch is not judged anew: what was written is what was decided.
    let (verdict, row) = match (&watch.verdict, verifying) {
        (Some((verdict, row)), false) => (*verdict, row.clone()),
        _ => (judgement.verdict, judgement.row.clone()),
    };
    WhyCard {
        watch: watch.id.to_string(),
        service: watch.deployment.service.to_string(),
        environment: watch.deployment.environment.to_string(),
        version: watch.deployment.release.version.to_string(),
        age: Span::from_seconds(Span::between(watch.deployment.at, now).milliseconds() / 1_000),
        verdict,
        row,
        decision: watch.decision.as_ref().map(|decided| decision_words(&decided.decision)),
        holds: watch.decision.as_ref().map_or_else(Vec::new, |decided| decided.holds.clone()),
        together: evidence.together(),
        together_needed: -statistics.alpha.ln(),
        worse_signals: evidence.discoveries().into_iter().map(SignalName::to_string).collect(),
        signals: evidence.signals.values().map(|signal| signal_card(signal, statistics)).collect(),
        rows: rows(&judgement),
        checkpoints: watch.aftercare.iter().flat_map(|care| &care.taken).map(checkpoint_card).collect(),
        aftercare: match &watch.phase {
            Phase::Aftercare { next } => Some(aftercare_words(next)),
            _ => None,
        },
    }
}

fn checkpoint_card((at, taken): &(Timestamp, Taken)) -> CheckpointCard {
    CheckpointCard { at: *at, taken: taken.clone() }
}

fn rows(judgement: &Judgement) -> Vec<RowCard> {
    // Rows about signals the service does not have say nothing; they are left out of the card.
    let telling = |finding: &Finding| finding.log_e.is_some();
    judgement
        .rows
        .iter()
        .filter(|row| row.truth == Truth::Holds || row.findings.iter().any(telling))
        .map(|row| RowCard {
            row: row.row.clone(),
            severity: row.severity.to_string(),
            truth: row.truth,
            findings: row.findings.iter().filter(|finding| telling(finding)).cloned().collect(),
            reports: row
                .reports
                .iter()
                .filter(|(_, truth)| *truth == Truth::Holds)
                .map(|(what, _)| what.clone())
                .collect(),
        })
        .collect()
}

fn signal_card(evidence: &SignalEvidence, statistics: &Statistics) -> SignalCard {
    let (bad, total) = evidence.counts();
    let pass = evidence.pass(statistics.beta);
    let comparison = evidence.finding(Bound::Worse, statistics);
    SignalCard {
        name: evidence.signal.name.to_string(),
        role: format!("{:?}", evidence.signal.role).to_lowercase(),
        bad_is: match evidence.signal.measure {
            Measure::Proportion { .. } => "bad",
            Measure::Latency { .. } => "slow",
            Measure::Availability { .. } => "down",
            Measure::Gauge { .. } => "high",
        }
        .into(),
        coverage: match (&evidence.hole, evidence.warming_requests()) {
            (Some((since, why)), _) => format!("{why} (since {since:.0})"),
            (None, Some(requests)) => format!("warming up, {requests:.0} requests not counted"),
            (None, None) => "full".into(),
        },
        windows: (evidence.windows, evidence.lost),
        bad,
        total,
        control: evidence.control_counts(),
        before: evidence.baseline.known().map(|before| before.share.mean),
        baseline: baseline_words(&evidence.baseline),
        worse: evidence.worse_log_e(),
        worse_needed: comparison.log_e_needed,
        comparison,
        outliers: evidence.outliers(statistics.alpha).into_iter().map(str::to_owned).collect(),
        pass: pass.map(|(log_e, _)| log_e),
        pass_needed: -statistics.beta.ln(),
        requests_to_pass: evidence.requests_to_pass(statistics.beta),
    }
}

fn baseline_words(baseline: &BaselineState) -> String {
    match baseline {
        BaselineState::Waiting => "not measured yet".into(),
        BaselineState::Missing(why) => why.clone(),
        BaselineState::Levels(count) => format!("{count} levels"),
        BaselineState::Known(before) => format!(
            "{} of {:.0} in {}{}",
            // As counted: the model's mean is never 0, and nobody who sees 0 of 1440 would believe it.
            percent(before.share.bad / before.share.requests),
            before.share.requests,
            Span::from_seconds(before.span.milliseconds() / 1_000),
            if before.seasonal { " and this time of earlier days" } else { "" }
        ),
    }
}

/// A decision in words.
pub fn decision_words(decision: &crate::decision::Decision) -> String {
    use crate::decision::Decision;
    match decision {
        Decision::Clear => "clear: shown to be well".into(),
        Decision::KeepWatching => "keep watching".into(),
        Decision::Notify => "tell people, do nothing".into(),
        Decision::Mitigate { name } => format!("try {name} first"),
        Decision::Propose { approval: true } => "propose a rollback, a person's word starts it".into(),
        Decision::Propose { approval: false } => "recommend a rollback, a person carries it out".into(),
        Decision::RollBack => "roll back".into(),
        Decision::Hold => "hold".into(),
    }
}

/// The state of a step in words.
pub fn state_words(state: &StepState) -> String {
    match state {
        StepState::Pending => "not begun".into(),
        StepState::InFlight { attempt, .. } => format!("in flight, attempt {attempt}"),
        StepState::Again { attempts, unknown, .. } => {
            let what = if *unknown { "outcome unknown" } else { "failed" };
            format!("{what} after {attempts} attempts, to be tried again")
        }
        StepState::Done => "done".into(),
        StepState::Failed => "failed".into(),
        StepState::Undone => "undone".into(),
        StepState::Stuck(why) => format!("stuck: {why}"),
    }
}

/// A share as a percentage with three significant digits.
pub(super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else if value >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}%")
}

fn interval_words(interval: Option<Interval>) -> String {
    interval.map_or_else(
        || "–".into(),
        |interval| format!("{} … {}", percent(interval.lower), percent(interval.upper)),
    )
}

/// Evidence as the odds it stands for, cut off where nobody reads digits any more.
fn odds(log_e: f64) -> String {
    match log_e.exp() {
        // Written out so that the exponent of overwhelming evidence is never taken.
        _ if log_e > 13.8 => "more than 1,000,000 : 1".into(),
        odds if odds >= 10.0 => format!("{odds:.0} : 1"),
        odds => format!("{odds:.3} : 1"),
    }
}

impl fmt::Display for WhyCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} {} in {}, {} after the deployment",
            self.service, self.version, self.environment, self.age
        )?;
        match &self.row {
            Some(row) => writeln!(f, "  verdict   {} — {row}", self.verdict)?,
            None => writeln!(f, "  verdict   {}", self.verdict)?,
        }
        if let Some(decision) = &self.decision {
            writeln!(f, "  decision  {decision}")?;
        }
        if let Some(aftercare) = &self.aftercare {
            writeln!(f, "  now       {aftercare}")?;
        }
        for hold in &self.holds {
            writeln!(f, "  held by   {}", hold.words)?;
        }
        for signal in &self.signals {
            write_signal(f, signal)?;
        }
        if self.signals.len() > 1 {
            let names =
                if self.worse_signals.is_empty() { "none".into() } else { self.worse_signals.join(", ") };
            let (together, needed) = (odds(self.together), odds(self.together_needed));
            writeln!(f, "  together    worse {together}, believed at {needed}; shown to be worse: {names}")?;
        }
        if self.signals.is_empty() {
            writeln!(
                f,
                "  missing   no signals are configured for this service: only what is reported can decide"
            )?;
        }
        for row in &self.rows {
            for finding in &row.findings {
                write_finding(f, row, finding)?;
            }
            for report in &row.reports {
                writeln!(f, "  row {} ({}): reported: {report}", row.row, row.severity)?;
            }
        }
        for CheckpointCard { at, taken } in &self.checkpoints {
            writeln!(f, "  {at:.0} {}", taken.words())?;
            for line in taken.lines() {
                writeln!(f, "    {line}")?;
            }
        }
        Ok(())
    }
}

fn write_signal(f: &mut fmt::Formatter<'_>, signal: &SignalCard) -> fmt::Result {
    writeln!(f, "  {} ({})", signal.name, signal.role)?;
    let comparison = &signal.comparison;
    match &comparison.level {
        Some(level) => write_level(f, level)?,
        None => write_shares(f, signal)?,
    }
    if signal.coverage == "full" && signal.windows.1 == 0 {
        writeln!(f, "    coverage  full, {} looks", signal.windows.0)?;
    } else {
        let (seen, lost) = signal.windows;
        writeln!(f, "    coverage  {}; {seen} looks, {lost} without data", signal.coverage)?;
    }
    if let Some(worse) = signal.worse {
        writeln!(f, "    worse     {}, believed at {}", odds(worse), odds(signal.worse_needed))?;
    }
    if let Some(began) = comparison.beginning {
        writeln!(f, "    began     {}", beginning_words(&began))?;
    }
    if !signal.outliers.is_empty() {
        let names: Vec<&str> = signal.outliers.iter().map(String::as_str).collect();
        writeln!(f, "    outlier   {}", outlier_words(&names))?;
    }
    if let Some(pass) = signal.pass {
        write!(f, "    no worse  {}, believed at {}", odds(pass), odds(signal.pass_needed))?;
        match signal.requests_to_pass {
            Some(more) => writeln!(f, "; about {more} more requests if it stays so")?,
            None => writeln!(f)?,
        }
    }
    Ok(())
}

fn write_shares(f: &mut fmt::Formatter<'_>, signal: &SignalCard) -> fmt::Result {
    let share = |bad: f64, total: f64| if total > 0.0 { percent(bad / total) } else { "–".into() };
    let SignalCard { bad, total, bad_is, baseline, comparison, .. } = signal;
    let reference = match signal.control {
        Some((bad, total)) => format!("control {} ({bad:.0} of {total:.0})", share(bad, total)),
        None => format!("before {baseline}"),
    };
    writeln!(f, "    now       {} {bad_is} ({bad:.0} of {total:.0}), {reference}", share(*bad, *total))?;
    match (&comparison.ratio, comparison.interval) {
        (Some(ratio), _) => writeln!(f, "    interval  {}", ratio_words(ratio)),
        (None, Some(interval)) => {
            let bound = comparison.threshold.map_or_else(|| "–".into(), percent);
            writeln!(f, "    interval  {}, bound {bound}", interval_words(Some(interval)))
        }
        (None, None) => Ok(()),
    }
}

fn write_level(f: &mut fmt::Formatter<'_>, level: &LevelFinding) -> fmt::Result {
    let now = level.now.map_or_else(|| "–".into(), |now| format!("{now:.4}"));
    writeln!(f, "    now       {now}, usual {:.4} (by its {})", level.usual, season_words(&level.season))?;
    match level.rehearsed {
        Some((fired, runs)) => writeln!(f, "    rehearsed {runs} times on its past, {fired} false alarms"),
        None => writeln!(f, "    rehearsed not: its past is too short; it may only suggest"),
    }
}

fn season_words(season: &str) -> &'static str {
    match season {
        "week" => "hour of the week",
        "day" => "time of day",
        _ => "last hours",
    }
}

/// A ratio with what the data do not exclude.
fn ratio_words(ratio: &RatioFinding) -> String {
    let now = ratio.now.map_or_else(|| "–".into(), |now| format!("{now:.2}"));
    let upper = ratio.interval.upper.map_or_else(|| "?".into(), |upper| format!("{upper:.2}"));
    format!("{now} times the control, {:.2} … {upper}, bound {:.2}", ratio.interval.lower, ratio.threshold)
}

/// When it began, for people.
fn beginning_words(began: &Beginning) -> String {
    let moment = |seconds: f64| match seconds {
        seconds if seconds < -0.5 => format!("{:.0} s before", -seconds),
        seconds => format!("{:.0} s after", seconds.max(0.0)),
    };
    format!(
        "{} the deployment (80 %: {} … {})",
        moment(began.seconds),
        moment(began.earliest),
        moment(began.latest)
    )
}

fn write_finding(f: &mut fmt::Formatter<'_>, row: &RowCard, finding: &Finding) -> fmt::Result {
    let truth = match finding.truth {
        Truth::Holds => "holds",
        Truth::Fails => "does not hold",
        Truth::Unknown => "unknown",
    };
    writeln!(f, "  row {} ({}): {} {} {truth}", row.row, row.severity, finding.signal, finding.bound)?;
    let log_e = finding.log_e.map_or_else(|| "–".into(), odds);
    let now = finding.now.map_or_else(|| "–".into(), percent);
    match (&finding.level, &finding.ratio) {
        (Some(level), _) => {
            let number = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.4}"));
            writeln!(f, "    {}: {}, bound {}", finding.what, number(level.now), number(level.bound))?;
        }
        (None, Some(ratio)) => {
            writeln!(f, "    {}: {now}, {}, n {:.0}", finding.what, ratio_words(ratio), finding.n)?;
        }
        (None, None) => {
            let threshold = finding.threshold.map_or_else(|| "–".into(), percent);
            let interval = interval_words(finding.interval);
            writeln!(
                f,
                "    {}: {now}, interval {interval}, bound {threshold}, n {:.0}",
                finding.what, finding.n
            )?;
        }
    }
    writeln!(f, "    evidence {log_e}, believed at {}", odds(finding.log_e_needed))?;
    if let (Truth::Unknown, Some(missing)) = (finding.truth, &finding.missing) {
        writeln!(f, "    missing: {missing}")?;
    }
    Ok(())
}
