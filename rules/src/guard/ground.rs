//! Guards over what is turned back and where to: the schema, old holes, our own ground, and how much at once.

use super::{APPROVE, HoldReason, RECOMMEND, View, Weight, push};
use crate::fleet::{KnownGood, Situation};
use crate::guard::Hold;
use crate::ids::{ServiceName, Version};
use crate::ruleset::GuardSettings;
use semver::Version as Semver;

/// What Turnback itself stands on: turning one of these back may take away the hands that do it. Any part of a name
/// between hyphens counts.
const OWN_GROUND: [&str; 17] = [
    "turnback",
    "prometheus",
    "alertmanager",
    "thanos",
    "mimir",
    "victoriametrics",
    "postgres",
    "postgresql",
    "etcd",
    "kafka",
    "nats",
    "coredns",
    "dns",
    "vault",
    "keycloak",
    "dex",
    "argocd",
];

/// Whether a service is part of what the agent needs to act, by its name, unless the configuration says.
pub fn is_own_ground(service: &ServiceName, settings: &GuardSettings) -> bool {
    let by_name = || service.as_str().split(['-', '_', '.']).any(|part| OWN_GROUND.contains(&part));
    settings.own_ground.unwrap_or_else(by_name)
}

/// How many services may be turned back alone within an hour, of so many.
pub fn reach(services: u32, settings: &GuardSettings) -> u32 {
    let share = (f64::from(services) * settings.blast_radius.value).floor();
    // A share of the services that there are is far below u32's limit; at least one, or nothing could ever be done.
    (share as u32).max(1)
}

pub(super) fn holds(view: &View<'_>, found: &mut Vec<Hold>) {
    let (guards, service) = (&view.rules.guards, &view.deployment.service);
    if view.deployment.security_fix {
        let words =
            format!("{} closes a hole, which going back opens again", view.deployment.release.version);
        push(found, HoldReason::SecurityFix, APPROVE, words);
    }
    if let Some(target) = view.target {
        floor(target, guards, found);
    }
    if view.by_person {
        return;
    }
    if is_own_ground(service, guards) {
        let words = format!("{service} is part of what Turnback itself stands on");
        push(found, HoldReason::OwnGround, RECOMMEND, words);
    }
    let Situation { services, others_turned_back, .. } = view.situation;
    let reach = reach(*services, guards);
    if *others_turned_back >= reach {
        let words = format!(
            "{others_turned_back} other services were turned back within the hour, alone at most {reach} of {services}"
        );
        push(found, HoldReason::BlastRadius, APPROVE, words);
    }
}

/// Releases that must not come back, whoever asks.
fn floor(target: &KnownGood, guards: &GuardSettings, found: &mut Vec<Hold>) {
    let version = &target.release.version;
    if guards.never_return_to.contains(version) {
        let words = format!("{version} stands under `never_return_to`");
        push(found, HoldReason::Denied, Weight::Blocks, words);
    }
    let Some(floor) = &guards.floor else { return };
    match (read(version), read(floor)) {
        (Some(own), Some(least)) if own < least => {
            push(found, HoldReason::Denied, Weight::Blocks, format!("{version} is below the floor {floor}"));
        }
        (Some(_), Some(_)) => {}
        (None, _) | (_, None) => {
            let words = format!("whether {version} is below the floor {floor} cannot be told");
            push(found, HoldReason::Denied, APPROVE, words);
        }
    }
}

/// A version as semantic versioning has it, with the usual `v` in front.
fn read(version: &Version) -> Option<Semver> {
    let text = version.as_str();
    Semver::parse(text.strip_prefix('v').unwrap_or(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::Release;
    use crate::units::Span;

    fn denied(version: &str, settings: &GuardSettings) -> Vec<Weight> {
        let release = Release { version: Version::new(version).unwrap() };
        let known = KnownGood {
            release,
            ran_for: Span::from_minutes(90),
            requests: 1e6,
            at: jiff::Timestamp::UNIX_EPOCH,
            found_bad: None,
        };
        let mut found = Vec::new();
        floor(&known, settings, &mut found);
        found.into_iter().map(|hold| hold.weight).collect()
    }

    #[test]
    fn the_floor_and_the_list() {
        let settings = GuardSettings {
            floor: Some(Version::new("v1.10.0").unwrap()),
            never_return_to: vec![Version::new("1.12.0").unwrap()],
            ..GuardSettings::default()
        };
        let table: [(&str, &[Weight]); 6] = [
            ("1.9.9", &[Weight::Blocks]),
            ("v1.9.9", &[Weight::Blocks]),
            ("1.10.0", &[]),
            ("v1.11.3", &[]),
            ("1.12.0", &[Weight::Blocks]),
            ("sha-4711", &[APPROVE]),
        ];
        for (version, expected) in table {
            assert_eq!(denied(version, &settings), expected, "{version}");
        }
        assert!(denied("0.0.1", &GuardSettings::default()).is_empty());
    }

    #[test]
    fn own_ground_by_name_and_by_word() {
        let is = |name: &str, own_ground| {
            let settings = GuardSettings { own_ground, ..GuardSettings::default() };
            is_own_ground(&ServiceName::new(name).unwrap(), &settings)
        };
        assert!(is("prometheus", None) && is("prometheus-server", None) && is("eu-kafka", None));
        assert!(!is("checkout", None) && !is("natural-language", None));
        assert!(is("checkout", Some(true)) && !is("kafka", Some(false)));
    }

    #[test]
    fn a_tenth_of_the_services_and_at_least_one() {
        let settings = GuardSettings::default();
        for (services, most) in [(0, 1), (1, 1), (9, 1), (19, 1), (20, 2), (200, 20)] {
            assert_eq!(reach(services, &settings), most, "{services}");
        }
    }
}
