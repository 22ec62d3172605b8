//! Following the agent through its own API: what it says happened is shown, in its words.

use super::load::{Answers, Load};
use super::machine::Machine;
use super::screen::{Screen, Tone};
use crate::dispatcher::{PlanSummary, WatchSummary};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};

/// A watch as the API shows it; what is not needed here is left out.
#[derive(Debug, Clone, Deserialize)]
pub struct Detail {
    /// The watch in one line.
    pub watch: WatchSummary,
    /// The why card's figures.
    pub why: Why,
    /// The why card for people.
    pub text: String,
    timeline: Vec<(Timestamp, String)>,
}

/// The why card's figures.
#[derive(Debug, Clone, Deserialize)]
pub struct Why {
    signals: Vec<SignalFigures>,
}

#[derive(Debug, Clone, Deserialize)]
struct SignalFigures {
    name: String,
    coverage: String,
    worse: Option<f64>,
    worse_needed: f64,
}

/// Shows what is new at each look.
pub struct Follower<'a> {
    machine: &'a Machine,
    screen: Screen,
    began: Timestamp,
    /// How many lines of each watch's timeline were shown.
    shown: BTreeMap<String, usize>,
    /// What the users got, at the last looks: for the rate of the last second.
    answers: VecDeque<Answers>,
}

/// Looks that make up a second.
const LOOKS_A_SECOND: usize = 5;

impl<'a> Follower<'a> {
    /// `began` is the time at which the screen's clock began.
    pub fn new(machine: &'a Machine, screen: Screen, began: Timestamp) -> Self {
        Self { machine, screen, began, shown: BTreeMap::new(), answers: VecDeque::new() }
    }

    /// Looks once and shows what is new. Gives the watch of `version`, if it is open or was.
    pub async fn look(&mut self, version: &str, load: &Load) -> anyhow::Result<Option<Detail>> {
        let watches: Vec<WatchSummary> = self.machine.get("/v1/watches").await?;
        let mut news = Vec::new();
        let mut wanted = None;
        for watch in watches {
            let detail: Detail = self.machine.get(&format!("/v1/watches/{}", watch.id)).await?;
            let shown = self.shown.entry(watch.id.clone()).or_default();
            for (at, words) in detail.timeline.iter().skip(*shown) {
                news.push((*at, watch.version.clone(), in_full(words, detail.watch.plan.as_ref())));
            }
            *shown = detail.timeline.len();
            if watch.version == version {
                wanted = Some(detail);
            }
        }
        news.sort_by_key(|(at, ..)| *at);
        for (at, version, words) in news {
            let seconds = at.duration_since(self.began).as_secs_f64();
            self.screen.say_at(seconds, tone(&words), "agent", &format!("{version}: {words}"));
        }
        self.show_live(load, wanted.as_ref());
        Ok(wanted)
    }

    fn show_live(&mut self, load: &Load, watch: Option<&Detail>) {
        let now = load.answers();
        self.answers.push_back(now);
        if self.answers.len() > LOOKS_A_SECOND + 1 {
            self.answers.pop_front();
        }
        let last = now.since(self.answers.front().copied().unwrap_or_default());
        let share = |part: u64| 100.0 * part as f64 / last.all().max(1) as f64;
        let users = format!("users: {:.1}% errors, {:.1}% lost", share(last.bad), share(last.none));
        let evidence = watch.and_then(|watch| watch.why.evidence()).unwrap_or_default();
        self.screen.live(&format!("{:5.1} s  {users}{evidence}", self.screen.seconds()));
    }
}

impl Detail {
    /// Whether a person approved the plan: from then on it is carried out.
    pub fn was_approved(&self) -> bool {
        self.timeline.iter().any(|(_, words)| words.contains(" approved ") && !words.starts_with("nobody"))
    }
}

impl Why {
    /// The strongest evidence for "worse than before".
    fn evidence(&self) -> Option<String> {
        let known = self.signals.iter().filter_map(|signal| Some((signal, signal.worse?)));
        let (signal, worse) = known.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        if signal.coverage != "full" {
            return Some(format!(" | {}: {}", signal.name, signal.coverage));
        }
        let (worse, needed) = (odds(worse), odds(signal.worse_needed));
        Some(format!(" | {} worse {worse} of {needed}", signal.name))
    }
}

/// Evidence in natural-log units as odds.
fn odds(log_e: f64) -> String {
    if log_e > 13.8 { ">1,000,000:1".into() } else { format!("{:.1}:1", log_e.exp()) }
}

/// The agent's words, with a step's name instead of its number alone.
fn in_full(words: &str, plan: Option<&PlanSummary>) -> String {
    let named = || {
        let (number, rest) = words.strip_prefix("step ")?.split_once(": ")?;
        let step = plan?.steps.get(number.parse::<usize>().ok()?.checked_sub(1)?)?;
        Some(format!("step {number} {}: {rest}", step.name))
    };
    named().unwrap_or_else(|| words.to_owned())
}

fn tone(words: &str) -> Tone {
    let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| words.starts_with(beginning));
    if begins(&["verdict: degraded", "incident", "blind", "stuck", "not recovered", "failed", "no plan"]) {
        Tone::Bad
    } else if begins(&["verdict: healthy", "recovered", "closed: healthy", "closed: rolled back, recovered"])
    {
        Tone::Good
    } else if begins(&["decision: roll back", "decision: propose", "waiting for approval", "trying first"]) {
        Tone::Warn
    } else if begins(&["step ", "plan ", "rollback begins", "verifying", "every step"]) {
        Tone::Step
    } else {
        Tone::Plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::StepSummary;

    #[test]
    fn steps_are_shown_with_their_names() {
        let step = StepSummary { name: "announce".into(), does: "x".into(), state: "done".into() };
        let plan = PlanSummary {
            id: "p-1".into(),
            digest: "d".into(),
            to: "v1".into(),
            proof: "ran".into(),
            steps: vec![step],
            awaits_approval: false,
        };
        assert_eq!(in_full("step 1: done", Some(&plan)), "step 1 announce: done");
        for words in ["step 2: done", "step x: done", "verdict: healthy"] {
            assert_eq!(in_full(words, Some(&plan)), words);
        }
    }
}
