//! What should happen in each scenario, and whether it did. What happened is measured from outside where that is
//! possible: by the processes, by the service's own answer, by the messages, by the ledger's hashes.

use super::Scenario;
use rules::decision::AutonomyLevel;
use rules::watch::NoticeKind;
use serde::Serialize;
use std::process::ExitCode;

/// What happened.
#[derive(Debug, Clone, Serialize)]
pub struct Happened {
    /// What was played.
    pub scenario: Scenario,
    /// How much the agent might do alone.
    pub autonomy: AutonomyLevel,
    /// What the watch was doing at the end, in the agent's words.
    pub outcome: String,
    /// The last verdict, in the agent's words.
    pub verdict: String,
    /// The row that decided.
    pub row: Option<String>,
    /// How long the demo took, in seconds.
    pub seconds: f64,
    /// From the deployment to the detection, in seconds.
    pub time_to_detect_s: Option<f64>,
    /// From the detection to the beginning of the rollback, in seconds.
    pub time_to_decide_s: Option<f64>,
    /// From the detection to the proof of the recovery, in seconds.
    pub time_to_recover_s: Option<f64>,
    /// Whether the good version was started after the new one.
    pub rollback_done: bool,
    /// Whether every process of the new version is gone.
    pub bad_process_gone: bool,
    /// Whether the good version answers.
    pub good_serves: bool,
    /// The version that answers, if one does.
    pub serving: Option<String>,
    /// The kinds of messages that people got about the new version, oldest first.
    pub notices: Vec<String>,
    /// How many of them said "blind".
    pub blind_notices: usize,
    /// Whether a plan was drawn up.
    pub plan_drawn: bool,
    /// Whether a person approved it. Nobody is asked but with autonomy `approve`.
    pub approved: bool,
    /// Records whose hashes were checked.
    pub ledger_records: u64,
    /// Whether all of them were sound.
    pub ledger_sound: bool,
    /// Where ledger, log and post-mortem are.
    pub state_dir: String,
}

/// What happened and what should have.
#[derive(Debug, Clone)]
pub struct Assessed {
    /// What happened.
    pub happened: Happened,
    /// What should have, in words.
    pub expected: &'static str,
    /// Whether it did.
    pub as_expected: bool,
    /// What did not.
    pub differences: Vec<String>,
}

/// Exit code: approval pending or refused.
const NOT_APPROVED: u8 = 6;
/// Exit code: a rollback that failed or got stuck.
const ROLLBACK_FAILED: u8 = 5;

/// What the agent should come to.
enum Ending {
    RolledBack,
    WouldHave,
    Recommended,
    NotApproved,
    Healthy,
    Blind,
}

fn ending(happened: &Happened) -> Ending {
    match (happened.scenario, happened.autonomy) {
        (Scenario::Healthy, _) => Ending::Healthy,
        (Scenario::MetricsOutage, _) => Ending::Blind,
        (_, AutonomyLevel::Observe) => Ending::WouldHave,
        (_, AutonomyLevel::Recommend) => Ending::Recommended,
        (_, AutonomyLevel::Approve) if !happened.approved => Ending::NotApproved,
        (_, AutonomyLevel::Approve | AutonomyLevel::Auto) => Ending::RolledBack,
    }
}

/// Compares what happened with what should have.
pub fn assess(happened: Happened) -> Assessed {
    let mut differences = Vec::new();
    let mut check = |so: bool, otherwise: String| {
        if !so {
            differences.push(otherwise);
        }
    };
    let ending = ending(&happened);
    let told = |kind: NoticeKind| happened.notices.iter().any(|told| *told == word(kind));
    let expected = match ending {
        Ending::RolledBack => {
            let ended = happened.outcome == "closed: rolled back, recovered";
            check(ended, format!("the watch is not rolled back and recovered, but {}", happened.outcome));
            check(happened.bad_process_gone, "a process of the new version is still there".into());
            check(told(NoticeKind::Recovered), "nobody was told that it recovered".into());
            "the bad version is found, rolled back and the recovery shown"
        }
        Ending::WouldHave => {
            check(told(NoticeKind::WouldRollBack), "nobody was told what would have been done".into());
            "the bad version is found, nothing is done, people are told what would have been done"
        }
        Ending::Recommended => {
            check(happened.plan_drawn, "no plan was drawn up".into());
            check(told(NoticeKind::Recommended), "nobody was told the plan".into());
            "the bad version is found, a plan is shown to people, nothing is done"
        }
        Ending::NotApproved => {
            check(told(NoticeKind::ApprovalNeeded), "nobody was asked for an approval".into());
            "the bad version is found, the plan waits for an approval, without one nothing is done"
        }
        Ending::Healthy => {
            let ended = happened.outcome == "closed: healthy";
            check(ended, format!("the watch is not healthy, but {}", happened.outcome));
            "the new version is shown to be well and stays"
        }
        Ending::Blind => {
            let ended = happened.outcome == "closed: blind";
            check(ended, format!("the watch is not blind, but {}", happened.outcome));
            let times = happened.blind_notices;
            check(times == 1, format!("\"blind\" was said {times} times"));
            "people are told once that the telemetry is broken, nothing is done"
        }
    };
    let turned = matches!(ending, Ending::RolledBack);
    check(happened.rollback_done == turned, format!("rolled back: {}", happened.rollback_done));
    let good = happened.good_serves;
    check(good == turned, format!("the old version {}", if good { "serves" } else { "does not serve" }));
    if !matches!(ending, Ending::Healthy | Ending::Blind) {
        check(happened.verdict.starts_with("degraded"), format!("the verdict is {}", happened.verdict));
    }
    check(happened.ledger_sound, "the ledger does not verify".into());
    Assessed { as_expected: differences.is_empty(), expected, differences, happened }
}

/// A kind of message as it is written.
pub fn word(kind: NoticeKind) -> String {
    serde_json::to_value(kind).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

impl Assessed {
    /// One flat JSON object: what happened, and `expected`, `as_expected`, `differences`.
    pub fn json(&self) -> serde_json::Result<serde_json::Value> {
        let mut all = serde_json::to_value(&self.happened)?;
        all["expected"] = self.expected.into();
        all["as_expected"] = self.as_expected.into();
        all["differences"] = self.differences.clone().into();
        Ok(all)
    }

    /// 0 if what should happen happened, but 6 if a plan was left without an approval.
    pub fn exit_code(&self) -> ExitCode {
        let tried = self.happened.rollback_done || self.happened.outcome.contains("stuck");
        match (self.as_expected, ending(&self.happened)) {
            (true, Ending::NotApproved) => ExitCode::from(NOT_APPROVED),
            (true, _) => ExitCode::SUCCESS,
            (false, Ending::RolledBack) if tried => ExitCode::from(ROLLBACK_FAILED),
            (false, _) => ExitCode::FAILURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rolled_back() -> Happened {
        Happened {
            scenario: Scenario::BadErrors,
            autonomy: AutonomyLevel::Auto,
            outcome: "closed: rolled back, recovered".into(),
            verdict: "degraded (P1)".into(),
            row: None,
            seconds: 30.0,
            time_to_detect_s: Some(3.0),
            time_to_decide_s: Some(0.0),
            time_to_recover_s: Some(9.0),
            rollback_done: true,
            bad_process_gone: true,
            good_serves: true,
            serving: Some("v1".into()),
            notices: vec!["degraded".into(), "rollback_began".into(), "recovered".into()],
            blind_notices: 0,
            plan_drawn: true,
            approved: false,
            ledger_records: 50,
            ledger_sound: true,
            state_dir: "/tmp/x".into(),
        }
    }

    #[test]
    fn only_what_should_happen_is_expected() {
        let assessed = assess(rolled_back());
        assert!(assessed.as_expected);
        let json = assessed.json().unwrap();
        assert_eq!((&json["scenario"], &json["as_expected"]), (&"bad-errors".into(), &true.into()));
        let broken: [fn(&mut Happened); 6] = [
            |happened| happened.bad_process_gone = false,
            |happened| happened.good_serves = false,
            |happened| happened.ledger_sound = false,
            |happened| happened.outcome = "closed: rolled back, unverified: x".into(),
            |happened| happened.autonomy = AutonomyLevel::Observe,
            |happened| happened.scenario = Scenario::Healthy,
        ];
        for (number, spoil) in broken.into_iter().enumerate() {
            let mut happened = rolled_back();
            spoil(&mut happened);
            let assessed = assess(happened);
            assert!(!assessed.as_expected && !assessed.differences.is_empty(), "case {number}");
        }
    }

    #[test]
    fn blind_must_be_said_exactly_once() {
        for (times, expected) in [(0, false), (1, true), (2, false)] {
            let happened = Happened {
                scenario: Scenario::MetricsOutage,
                outcome: "closed: blind".into(),
                verdict: "blind".into(),
                rollback_done: false,
                bad_process_gone: false,
                good_serves: false,
                blind_notices: times,
                ..rolled_back()
            };
            assert_eq!(assess(happened).as_expected, expected, "{times}");
        }
    }
}
