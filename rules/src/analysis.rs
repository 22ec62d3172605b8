//! One evaluation without a watch: is this release worse than its control, or than before? For pipelines, which want an
//! answer, an exit code and nothing else: nothing is planned, nobody is asked, nothing is remembered.
//!
//! ```text
//!  baseline ──▶ take_baseline ┐
//!                             ├──▶ Evidence ──▶ judgement ──▶ outcome: None until it can be said ──▶ report
//!  windows ───▶ take ─────────┘                                  │
//!                                                                └─ fail early · pass early · blind · at the deadline
//! ```
//!
//! The evidence is that of a watch, and so are its guarantees: looking at every window costs nothing, because each test
//! holds at all looks together. That is why it may end the moment something is shown. What a watch has beside it, the
//! guards with a least number of requests, has no place here: how many requests are enough is what the tests find out.
//!
//! An analysis may begin in the past. What happened since is counted as if somebody had looked all the time; only the
//! patience with silence begins when somebody really does.

mod report;
#[cfg(test)]
mod tests;

pub use report::{
    AnalysisReport, Arm, Guarantee, Needed, Ratio, Reference, ReportedBound, ReportedRow, ReportedSignal,
};

use crate::evidence::Evidence;
use crate::ids::SignalName;
use crate::past::{Past, Ranges};
use crate::ruleset::RuleSet;
use crate::signal::Measurement;
use crate::units::Span;
use crate::verdict::{Judgement, Verdict, judge};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// One evaluation of one release.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    rules: RuleSet,
    evidence: Evidence,
    began: Timestamp,
    deadline: Timestamp,
}

/// At the deadline silence need not have lasted `blind_after`: a part of the whole time, one in this many, is enough for
/// "cannot see". Less is a scrape that failed, and what was seen before it still counts.
const SILENT_PART: u64 = 4;

impl Analysis {
    /// An evaluation of what happens from `began` to `deadline`. The placeholders in `rules.compare` must have been
    /// filled in.
    #[must_use]
    pub fn new(rules: RuleSet, began: Timestamp, deadline: Timestamp) -> Self {
        let evidence = Evidence::new(&rules, began);
        Self { rules, evidence, began, deadline: deadline.max(began) }
    }

    /// The same, looked at only from `opened` on: silence before that is nobody's fault.
    #[must_use]
    pub fn opened(mut self, opened: Timestamp) -> Self {
        // Of a time that is over as a whole everything can be read at once.
        if opened < self.deadline {
            self.evidence.silent_since(opened);
        }
        self
    }

    /// What it is judged by.
    #[must_use]
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// What is known.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// When what is judged began.
    #[must_use]
    pub fn began(&self) -> Timestamp {
        self.began
    }

    /// When it is over at the latest.
    #[must_use]
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// What is asked of the time before.
    #[must_use]
    pub fn ranges(&self) -> Ranges {
        Ranges::of(&self.rules.watch, self.began)
    }

    /// Takes the past of the signals in. Only the first one counts.
    pub fn take_baseline(&mut self, past: BTreeMap<SignalName, Past>) {
        let past = past.into_iter().map(|(name, past)| (name, past.checked())).collect();
        self.evidence.take_baseline(&past, &self.rules);
    }

    /// Takes windows in, those of one signal in the order of time. A hole changes no test.
    pub fn take(&mut self, measurements: Vec<Measurement>) {
        for measurement in measurements {
            self.evidence.take(&measurement.checked(), &self.rules);
        }
    }

    /// What to measure next: each signal, from the end of what was counted.
    #[must_use]
    pub fn since(&self) -> Vec<(SignalName, Timestamp)> {
        let signals = self.evidence.signals.iter();
        signals.map(|(name, evidence)| (name.clone(), evidence.measured_until)).collect()
    }

    /// What is known at `now`, judged.
    #[must_use]
    pub fn judgement(&self, now: Timestamp) -> Judgement {
        let at = now.min(self.deadline);
        let mut judgement = judge(&self.evidence, &BTreeMap::new(), &self.rules, self.began, at);
        if judgement.verdict == Verdict::Inconclusive && now >= self.deadline {
            let whole = Span::between(self.began, self.deadline).milliseconds();
            let patience = Span::from_milliseconds(whole / SILENT_PART).min(self.rules.watch.blind_after);
            judgement.blind = self.evidence.blind(patience, at);
            if !judgement.blind.is_empty() {
                judgement.verdict = Verdict::Blind;
            }
        }
        judgement
    }

    /// The answer, once there is one: at once when a row holds, when the release is shown to be no worse, or when nothing
    /// can be seen; at the deadline in any case. Before the past is known there is none.
    #[must_use]
    pub fn outcome(&self, now: Timestamp) -> Option<Verdict> {
        if now < self.deadline && self.evidence.awaits_baseline() {
            return None;
        }
        match self.judgement(now).verdict {
            Verdict::Inconclusive if now < self.deadline => None,
            verdict => Some(verdict),
        }
    }

    /// Everything the answer rests on, as it stands at `now`.
    #[must_use]
    pub fn report(&self, now: Timestamp) -> AnalysisReport {
        report::report(self, now)
    }
}
