//! Figures for people and for machines.

use std::fmt::Write as _;

use serde::Serialize;

use super::check::Check;
use super::expected::{Reference, reference};
use super::options::Options;
use super::run::Outcome;
use super::scenarios::Scenario;
use super::{ALPHA, LOOK_SECONDS};

/// Everything a run found out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// All randomness followed from it.
    pub seed: u64,
    /// The level of every test of ours.
    pub alpha: f64,
    /// One row for each judge of each scenario.
    pub rows: Vec<Row>,
    /// Every promise that was put to the test.
    pub checks: Vec<Check>,
    /// Whether all were kept.
    pub kept: bool,
}

/// One judge of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The scenario.
    pub scenario: String,
    /// Whether the canary was worse than the control.
    pub worse: bool,
    /// The judge.
    pub judge: &'static str,
    /// Watches.
    pub watches: u32,
    /// Watches with an alarm.
    pub alarms: u32,
    /// Of these, before the fault showed.
    pub early: u32,
    /// Alarms over watches.
    pub share: f64,
    /// The upper end of its one-sided 95 % interval.
    pub share_at_most: f64,
    /// The median delay, seconds; absent if fewer than half of the watches alarmed.
    pub median_seconds: Option<f64>,
    /// The median within its look, seconds: what is compared with the reference.
    pub median_within_look_seconds: Option<f64>,
    /// The reference's share of alarms.
    pub reference_share: Option<f64>,
    /// The reference's median delay, seconds.
    pub reference_seconds: Option<f64>,
}

impl Report {
    /// A report without rows.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self { seed: options.seed, alpha: ALPHA, rows: Vec::new(), checks: Vec::new(), kept: true }
    }

    /// Adds a scenario's promises.
    pub fn add_checks(&mut self, checks: Vec<Check>) {
        self.kept &= checks.iter().all(|check| check.kept);
        self.checks.extend(checks);
    }
}

/// The rows of a scenario.
#[must_use]
pub fn rows(scenario: &Scenario, outcomes: &[Outcome]) -> Vec<Row> {
    let row = |Outcome { who, tally }: &Outcome| {
        let known: Option<Reference> = reference(&scenario.name, *who);
        Row {
            scenario: scenario.name.clone(),
            worse: scenario.worse,
            judge: who.name(),
            watches: tally.watches,
            alarms: tally.alarms(),
            early: tally.early,
            share: tally.share(),
            share_at_most: tally.upper_bound(),
            median_seconds: tally.median(),
            median_within_look_seconds: tally.median_within_look(LOOK_SECONDS),
            reference_share: known.map(|known| known.share),
            reference_seconds: known.and_then(|known| known.delay),
        }
    };
    outcomes.iter().map(row).collect()
}

/// The line above the table.
#[must_use]
pub fn heading() -> String {
    format!(
        "{:<24} {:>8} {:>7} {:>7} {:>9} {:>9} | {:>7} {:>9}",
        "", "watches", "alarms", "share", "at most", "median", "ref.", "ref. med."
    )
}

/// A scenario's part of the table.
#[must_use]
pub fn table(scenario: &Scenario, rows: &[Row]) -> String {
    let mut text = format!(
        "{} ({})\n",
        scenario.name,
        if scenario.worse { "the canary is worse" } else { "nothing is wrong: every alarm is false" }
    );
    for row in rows {
        let percent = |share: f64| format!("{:.2}%", share * 100.0);
        let seconds =
            |seconds: Option<f64>| seconds.map_or_else(|| "–".to_owned(), |one| format!("{one:.0} s"));
        let reference =
            row.reference_share.map_or_else(String::new, |share| format!("{:.1}%", share * 100.0));
        let reference_delay =
            row.reference_share.map_or_else(String::new, |_| seconds(row.reference_seconds));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  {:<22} {:>8} {:>7} {:>7} {:>9} {:>9} | {reference:>7} {reference_delay:>9}",
            row.judge,
            row.watches,
            row.alarms,
            percent(row.share),
            percent(row.share_at_most),
            seconds(row.median_seconds),
        );
    }
    text
}

/// The promises: broken ones one by one, kept ones counted.
#[must_use]
pub fn promises(report: &Report) -> String {
    let broken: Vec<&Check> = report.checks.iter().filter(|check| !check.kept).collect();
    let mut text = format!("{} promises tested, {} broken\n", report.checks.len(), broken.len());
    for check in broken {
        let Check { scenario, judge, promise, seen, .. } = check;
        let _ = writeln!(text, "  BROKEN {scenario}, {judge}: {promise}; seen: {seen}");
    }
    text
}
