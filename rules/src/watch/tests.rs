//! What the road in `rules/tests` cannot reach: a log that does not add up.

use super::*;
use crate::action::StepOutcome;
use crate::deployment::{DeployKind, Release};
use crate::ids::{EnvironmentName, ServiceName, SourceName, Version};

#[test]
fn a_log_that_does_not_add_up_ends_for_the_fleet_too() {
    let text = r#"
steps:
- name: switch
  class: keyed
  action: { command: { argv: [/bin/act] } }
"#;
    let (service, environment) =
        (ServiceName::new("checkout").unwrap(), EnvironmentName::new("production").unwrap());
    let matrix = crate::ruleset::shipped_matrix("standard").unwrap();
    let mut rules = RuleSet::unconfigured(service.clone(), environment.clone(), matrix);
    rules.runbook = Some(serde_saphyr::from_str(text).unwrap());
    let now = Timestamp::UNIX_EPOCH;
    let event = DeployEvent {
        source: SourceName::new("ci").unwrap(),
        id: "1".into(),
        kind: DeployKind::Deployed,
        service: service.clone(),
        environment: environment.clone(),
        release: Release { version: Version::new("v2").unwrap() },
        previous: Some(Release { version: Version::new("v1").unwrap() }),
        occurred_at: now,
        sequence: None,
        changes: None,
        security_fix: false,
    };
    let (mut watch, effects) = Watch::open(&event, rules, &Situation::default(), now);
    let mut all = effects;
    all.extend(watch.on(
        Input::RollbackAsked { by: "ann".into(), to: None, drill: false },
        &Situation::default(),
        now,
    ));
    let mut out = Vec::new();
    watch.record(
        Entry::StepEnded { step: 7, outcome: StepOutcome::NotBegun { reason: "x".into() } },
        now,
        &mut out,
    );
    // Whoever called goes on for a moment; nothing of that is performed.
    watch.record(Entry::HandedOver, now, &mut out);
    out.push(Effect::WakeAt(now));
    all.extend(closing(out));
    assert!(watch.is_closed());
    assert_eq!(all.last(), Some(&Effect::Close));
    let mut fleet = crate::fleet::Fleet::default();
    let mut entries = Vec::new();
    for effect in all {
        if let Effect::Record { entry, fleet: facts } = effect {
            facts.iter().for_each(|fact| fleet.apply(fact));
            entries.push((now, entry));
        }
    }
    assert_eq!(fleet.situation(&service, &environment, now).active_here, None);
    assert!(fleet.auto_suspended().is_some());
    assert_eq!(Watch::restore(watch.id.clone(), &entries), Ok(watch));
}
