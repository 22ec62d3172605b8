//! Where an analysis stands: on a terminal one line a signal that changes in place, elsewhere one plain line when
//! something changes. A pipeline's log of ten minutes must not be a hundred lines of "still looking".

use super::text::percent;
use crate::cli::console::{Console, Tone, verdict_tone};
use crate::cli::text::{rough, safe};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use rules::analysis::{Analysis, AnalysisReport, Needed, Reference, ReportedSignal};
use rules::units::Span;
use std::collections::{BTreeMap, BTreeSet};

/// The first line and those of the signals are whole texts.
const LINE: &str = "{msg}";

/// What has been shown of an analysis.
pub(super) struct Screen<'a> {
    console: &'a Console,
    live: Option<Live>,
    /// What was last said, without a terminal.
    said: Said,
}

struct Live {
    lines: MultiProgress,
    head: ProgressBar,
    signals: BTreeMap<String, ProgressBar>,
}

#[derive(Default, PartialEq, Clone)]
struct Said {
    /// The verdict, and whether the past is known.
    state: String,
    /// Whether the past could not be read.
    trouble: bool,
    /// Signals that cannot be seen; their reasons change with every look, and are told once.
    holes: BTreeSet<String>,
}

impl<'a> Screen<'a> {
    /// A screen on which nothing is shown yet.
    pub(super) fn new(console: &'a Console, analysis: &Analysis) -> Self {
        let live = console.progress.then(|| Live::new(analysis));
        Self { console, live, said: Said::default() }
    }

    /// Shows how it stands, and why the past is not known yet.
    pub(super) fn show(&mut self, analysis: &Analysis, trouble: Option<&str>, now: Timestamp) {
        let report = analysis.report(now);
        let waiting = analysis.evidence().awaits_baseline();
        let left = rough(Span::between(now, analysis.deadline()));
        match &self.live {
            Some(live) => live.show(self.console, &report, waiting, trouble, &left),
            None => self.tell(&report, waiting, trouble, &left),
        }
    }

    /// Takes the live lines away.
    pub(super) fn clear(&self) {
        if let Some(live) = &self.live {
            live.end();
        }
    }

    fn tell(&mut self, report: &AnalysisReport, waiting: bool, trouble: Option<&str>, left: &str) {
        let state = state(report, waiting);
        // Before anything was asked for there is nothing to miss.
        let is_hole = |signal: &ReportedSignal| signal.hole.is_some() && signal.windows + signal.lost > 0;
        let holes = report.signals.iter().filter(|signal| !waiting && is_hole(signal));
        let holes: BTreeSet<String> = holes.map(|signal| signal.name.clone()).collect();
        if self.said.state != state {
            self.console.note(&format!("analyze: {}, {left} left", safe(&state)));
        }
        for signal in &report.signals {
            let name = safe(&signal.name);
            match (self.said.holes.contains(&signal.name), holes.contains(&signal.name), &signal.hole) {
                (false, true, Some(hole)) => self.console.note(&format!("analyze: {name}: {}", safe(hole))),
                (true, false, _) => self.console.note(&format!("analyze: {name}: there are data again")),
                _ => {}
            }
        }
        if let Some(trouble) = trouble.filter(|_| !self.said.trouble) {
            self.console.note(&format!("analyze: {}; trying again", safe(trouble)));
        }
        self.said = Said { state, trouble: trouble.is_some(), holes };
    }
}

fn state(report: &AnalysisReport, waiting: bool) -> String {
    match (&report.row, waiting) {
        (_, true) => "reading the time before".to_owned(),
        (Some(row), false) => format!("{}: {row}", report.verdict),
        (None, false) => report.verdict.to_owned(),
    }
}

impl Live {
    fn new(analysis: &Analysis) -> Self {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let line = || {
            let bar = lines.add(ProgressBar::no_length());
            // The bar's own style is as good; a test keeps the template correct.
            match ProgressStyle::with_template(LINE) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        };
        let head = line();
        let names = analysis.evidence().signals.keys();
        let signals = names.map(|name| (name.to_string(), line())).collect();
        Self { head, signals, lines }
    }

    fn show(
        &self,
        console: &Console,
        report: &AnalysisReport,
        waiting: bool,
        trouble: Option<&str>,
        left: &str,
    ) {
        let state = match trouble {
            Some(trouble) => format!("{}: {trouble}", state(report, waiting)),
            None => state(report, waiting),
        };
        let state = console.paint(&safe(&state), verdict_tone(report.verdict));
        self.head.set_message(format!("{} {}: {state}, {left} left", safe(&report.service), report.compared));
        // Nothing was asked about them yet.
        for signal in report.signals.iter().filter(|_| !waiting) {
            let Some(bar) = self.signals.get(&signal.name) else { continue };
            let tone = if signal.hole.is_some() { Tone::Warning } else { Tone::Plain };
            bar.set_message(console.paint(&line(signal), tone));
        }
    }

    fn end(&self) {
        for bar in self.signals.values().chain([&self.head]) {
            bar.finish_and_clear();
        }
        // What cannot be cleared stays on the screen; nobody is told more by an error.
        let _cosmetic = self.lines.clear();
    }
}

/// A signal on one line.
pub(super) fn line(signal: &ReportedSignal) -> String {
    if let Some(hole) = &signal.hole {
        return format!("  {}: {}", safe(&signal.name), safe(hole));
    }
    let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), percent);
    let reference = match &signal.reference {
        Reference::Control(arm) => format!("control {} of {:.0}", share(arm.share), arm.total),
        Reference::Before { counted, .. } => {
            format!("before {} of {:.0}", share(counted.share), counted.total)
        }
        Reference::Levels => "its levels before".to_owned(),
        Reference::None(_) => "no reference".to_owned(),
    };
    let evidence = |evidence: Option<Needed>| match evidence {
        Some(Needed { evidence, needed }) => format!("{:.1}/{needed:.1}", evidence.max(0.0)),
        None => "–".to_owned(),
    };
    let outliers = match signal.outliers.as_slice() {
        [] => String::new(),
        names => format!(" · outlier {}", safe(&names.join(", "))),
    };
    format!(
        "  {}: {} of {:.0} · {reference} · worse {} · no worse {}{outliers}",
        safe(&signal.name),
        share(signal.canary.share),
        signal.canary.total,
        evidence(signal.worse),
        evidence(signal.pass),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_one() {
        assert!(ProgressStyle::with_template(LINE).is_ok());
    }
}
