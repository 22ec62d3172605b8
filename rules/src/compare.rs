//! Canary and control: which series of a signal belong to the release under watch, and which run beside it as before.
//!
//! Both arms come out of one answer of the source, told apart by labels. A concurrent control is the best evidence there
//! is: whatever hurts both arms (a shared database, a busy hour) cancels out.

use crate::deployment::Deployment;
use crate::series::whole_value;
use crate::units::Quantity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How canary and control are told apart: label → regular expression over the whole value. `{{version}}` and
/// `{{previous}}` stand for the releases of the deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compare {
    /// The series of the release under watch: `version: "{{version}}"`.
    pub canary: BTreeMap<String, String>,
    /// The series it is compared with: `version: "{{previous}}"`. All other series if empty, or if it asks for a
    /// previous release that nobody knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub control: BTreeMap<String, String>,
    /// Whether the time before the deployment counts as well: the evidence is then the average of both comparisons. It
    /// finds small services out sooner, and rests on the next hour being like the past.
    #[serde(default, skip_serializing_if = "is_false")]
    pub with_before: bool,
    /// The share of the requests that the canary ought to get. It is called starved when it is shown to get less than
    /// half of that; if not given, less than half a percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Quantity>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Less than this share of the traffic starves a canary of which nobody said how much it ought to get.
const LEAST_SHARE: f64 = 0.005;

impl Compare {
    /// The comparison of one deployment: placeholders filled in.
    #[must_use]
    pub fn of(&self, deployment: &Deployment) -> Compare {
        let version = regex::escape(deployment.release.version.as_str());
        let previous = deployment.previous.as_ref().map(|release| regex::escape(release.version.as_str()));
        let fill = |patterns: &BTreeMap<String, String>| {
            let filled = |pattern: &String| {
                let pattern = pattern.replace("{{version}}", &version);
                match &previous {
                    Some(previous) => Some(pattern.replace("{{previous}}", previous)),
                    None => (!pattern.contains("{{previous}}")).then_some(pattern),
                }
            };
            let patterns = patterns.iter().map(|(label, pattern)| Some((label.clone(), filled(pattern)?)));
            patterns.collect::<Option<BTreeMap<String, String>>>()
        };
        Compare {
            canary: fill(&self.canary).unwrap_or_else(|| self.canary.clone()),
            // Whoever asks for a release that nobody knows gets everything that is not the canary.
            control: fill(&self.control).unwrap_or_default(),
            with_before: self.with_before,
            share: self.share,
        }
    }

    /// A canary with less than this share of the traffic is starved.
    #[must_use]
    pub fn starved_below(&self) -> f64 {
        self.share.map_or(LEAST_SHARE, |share| share.value / 2.0)
    }

    /// Everything wrong, each with the key at fault.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        if self.canary.is_empty() {
            let text =
                "names no label; name one that tells the canary, for example version = \"{{version}}\"";
            found.push(("canary".to_owned(), text.to_owned()));
        }
        for (arm, patterns) in [("canary", &self.canary), ("control", &self.control)] {
            for (label, pattern) in patterns {
                let filled = pattern.replace("{{version}}", "v").replace("{{previous}}", "v");
                if filled.contains("{{") {
                    let text =
                        format!("{pattern:?} names something else than {{{{version}}}} or {{{{previous}}}}");
                    found.push((format!("{arm}.{label}"), text));
                } else if whole_value(&filled).is_err() {
                    let text = format!("{pattern:?} is not a regular expression; write for example \"v2\"");
                    found.push((format!("{arm}.{label}"), text));
                }
            }
        }
        if let Some(share) = self.share.filter(|share| share.value <= 0.0 || share.value >= 1.0) {
            let text = format!("is {share}; expected the canary's share of the traffic, between 0% and 100%");
            found.push(("share".to_owned(), text));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(canary: &[(&str, &str)], control: &[(&str, &str)]) -> Compare {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(label, pattern)| ((*label).to_owned(), (*pattern).to_owned())).collect()
        };
        Compare { canary: map(canary), control: map(control), with_before: false, share: None }
    }

    fn deployment(previous: Option<&str>) -> Deployment {
        let release = |version: &str| crate::deployment::Release {
            version: crate::ids::Version::new(version).unwrap(),
        };
        Deployment {
            service: crate::ids::ServiceName::new("checkout").unwrap(),
            environment: crate::ids::EnvironmentName::new("production").unwrap(),
            release: release("v2.1"),
            previous: previous.map(release),
            at: jiff::Timestamp::UNIX_EPOCH,
            source: crate::ids::SourceName::new("ci").unwrap(),
            sequence: None,
            changes: None,
            security_fix: false,
        }
    }

    #[test]
    fn versions_are_filled_in_as_they_are_spelled() {
        let template = compare(&[("version", "{{version}}")], &[("version", "{{previous}}")]);
        let filled = template.of(&deployment(Some("v2.0")));
        assert_eq!(filled, compare(&[("version", r"v2\.1")], &[("version", r"v2\.0")]));
        assert_eq!(template.of(&deployment(None)), compare(&[("version", r"v2\.1")], &[]));
        assert_eq!(filled.of(&deployment(None)), filled, "filling twice changes nothing");
    }

    #[test]
    fn problems_name_the_key() {
        let bad = Compare {
            share: Some(Quantity { value: 1.5, unit: crate::units::Unit::Percent }),
            ..compare(&[("version", "{{to.version}}")], &[("track", "(")])
        };
        let keys: Vec<String> = bad.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["canary.version", "control.track", "share"]);
        assert_eq!(compare(&[], &[]).problems().len(), 1);
        assert_eq!(compare(&[("track", "canary.*")], &[]).problems(), Vec::new());
    }
}
