//! What the daemon answers, as far as the command line needs it.
//!
//! Own types, and not those of the dispatcher: a daemon that is one version newer may say more, and then its old fields
//! must still be readable. A field that is missing is an error and never a default. A test reads what the dispatcher's
//! own types write.

use jiff::Timestamp;
use rules::units::Span;
use serde::Deserialize;

/// A watch in one line.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Watch {
    pub id: String,
    pub service: String,
    pub environment: String,
    pub version: String,
    pub deployed_at: Timestamp,
    pub verdict: String,
    pub row: Option<String>,
    pub phase: String,
    pub closed: bool,
    pub decision: Option<String>,
    pub holds: Vec<Hold>,
    pub incident: Option<Incident>,
    pub plan: Option<Plan>,
}

/// A reason not to act.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Hold {
    pub words: String,
}

/// A case file in one line.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Incident {
    pub severity: String,
    pub row: String,
    pub opened: Timestamp,
    pub time_to_detect: Span,
    pub time_to_decide: Option<Span>,
    pub time_to_recover: Option<Span>,
}

/// A plan in one line.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Plan {
    pub id: String,
    pub steps: Vec<Step>,
    pub awaits_approval: bool,
}

/// Where a step stands.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Step {
    pub state: String,
}

/// What is stopped, suspended, frozen.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Fleet {
    pub stopped: Option<String>,
    /// Why the file in the state directory counts as the kill switch; it is part of `stopped` too.
    pub stop_file: Option<String>,
    pub auto_suspended: Option<String>,
    pub freezes: Vec<Freeze>,
    /// Sources of events that are not heard.
    #[serde(default)]
    pub cut_off: Vec<CutOff>,
}

/// A source of events that is not heard.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct CutOff {
    pub name: String,
    pub source: String,
    pub since: Timestamp,
    pub reason: Option<String>,
}

/// A freeze.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Freeze {
    pub service: Option<String>,
    pub until: Option<Timestamp>,
    pub reason: String,
    pub by: String,
}

/// A watch with its story.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct WatchDetail {
    pub watch: Watch,
    pub text: String,
    pub timeline: Vec<(Timestamp, String)>,
}

impl Watch {
    /// The service, and where it runs if that is not production.
    pub(super) fn place(&self) -> String {
        if self.environment == "production" {
            self.service.clone()
        } else {
            format!("{} in {}", self.service, self.environment)
        }
    }

    /// Whether it was turned back, is well again and is looked after.
    pub(super) fn is_looked_after(&self) -> bool {
        !self.closed && self.phase.starts_with(rules::report::AFTERCARE)
    }

    /// How it ended, in words, if it did.
    pub(super) fn outcome(&self) -> Option<&str> {
        self.phase.strip_prefix("closed: ").filter(|_| self.closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::testing;

    #[test]
    fn what_the_dispatcher_writes_can_be_read() {
        let written = serde_json::to_value(testing::summary()).unwrap();
        let watch = Watch::deserialize(&written).unwrap();
        assert_eq!((watch.id.as_str(), watch.service.as_str()), ("w-1", "checkout"));
        assert_eq!(watch.plan.unwrap().steps.first().unwrap().state, "not begun");
        assert_eq!(watch.incident.unwrap().time_to_detect, Span::from_minutes(2));
        assert_eq!(watch.holds.first().unwrap().words, "2 rollbacks in the last hour");
    }

    #[test]
    fn more_is_ignored_and_less_is_an_error() {
        let mut written = serde_json::to_value(testing::summary()).unwrap();
        written["colour"] = "green".into();
        assert!(Watch::deserialize(&written).is_ok());
        written.as_object_mut().unwrap().remove("closed");
        assert!(Watch::deserialize(&written).unwrap_err().to_string().contains("closed"));
    }
}
