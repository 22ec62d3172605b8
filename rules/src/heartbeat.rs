//! A case so clear that the judge must see it: asked now and then whether it still does.

use crate::deployment::{DeployEvent, DeployKind, Release};
use crate::fleet::Situation;
use crate::ids::{EnvironmentName, ServiceName, SignalName, SourceName, Version};
use crate::ruleset::{RuleSet, shipped_matrix};
use crate::signal::{Measure, Measurement, Observation, Reading, Signal};
use crate::units::Span;
use crate::verdict::Verdict;
use crate::watch::{Input, Watch};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Judges a made-up release that fails every request of a minute. Error: what came out instead of "degraded", in words.
pub fn decides(now: Timestamp) -> Result<(), String> {
    let (mut watch, signal) = made_up(now).ok_or("no made-up release")?;
    let bad = Measurement::plain(
        signal,
        now,
        Span::from_seconds(60).after(now),
        Observation::Seen {
            reading: Reading::Counts { bad: 1_000.0, total: 1_000.0 },
            newest: Span::from_seconds(60).after(now),
        },
    );
    let later = Span::from_seconds(60).after(now);
    // A past that never comes is not waited for.
    let _nobody_performs = watch.on(Input::Baseline(BTreeMap::new()), &Situation::default(), now);
    let _nobody_performs = watch.on(Input::Samples(vec![bad]), &Situation::default(), later);
    match watch.judgement(later).verdict {
        Verdict::Degraded(_) => Ok(()),
        other => Err(other.to_string()),
    }
}

fn made_up(now: Timestamp) -> Option<(Watch, SignalName)> {
    let (service, environment) = (ServiceName::new("heartbeat").ok()?, EnvironmentName::new("none").ok()?);
    let signal = SignalName::new("errors").ok()?;
    let mut rules = RuleSet::unconfigured(service.clone(), environment.clone(), shipped_matrix("standard")?);
    let measure = Measure::Proportion { of: "beats".into(), bad: BTreeMap::new() };
    rules.signals.insert(signal.clone(), Signal::new(signal.clone(), "none", measure));
    let event = DeployEvent {
        source: SourceName::new("heartbeat").ok()?,
        id: "beat".into(),
        kind: DeployKind::Deployed,
        service,
        environment,
        release: Release { version: Version::new("beat").ok()? },
        previous: None,
        occurred_at: now,
        sequence: None,
        changes: None,
        security_fix: false,
    };
    let (watch, _nobody_performs) = Watch::open(&event, rules, &Situation::default(), now);
    Some((watch, signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_sees_what_cannot_be_missed() {
        for second in [0, 1_800_000_000] {
            assert_eq!(decides(Timestamp::from_second(second).unwrap()), Ok(()));
        }
    }
}
