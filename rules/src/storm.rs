//! Storms: many services ail at the same time, and the release of each looks guilty. A shared database, a network, a
//! certificate: turning thirty services back repairs nothing and costs thirty releases.
//!
//! Every watch tells how its service is doing ([`Health`]); the [`Weather`] is all of them, and a [`Storm`] is what it finds
//! when too many ail at once. The weather is of now and is not written down; that a storm began and ended is.

use crate::fleet::FleetEntry;
use crate::ids::{EnvironmentName, ServiceName, Version};
use crate::units::Span;
use crate::watch::{Notice, NoticeKind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How one watched service is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Whether it ails: shown or suspected to be worse than it was, and still so.
    pub ails: bool,
    /// How many times its reference its worst critical signal has been in the last looks; `None` if nothing is counted.
    pub times: Option<f64>,
    /// Until when its critical signals were seen; `None` if it has none.
    pub seen_until: Option<Timestamp>,
    /// The release.
    pub version: Version,
    /// What it calls, as far as the configuration says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<ServiceName>,
}

/// Many services ail at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// Where.
    pub environment: EnvironmentName,
    /// When the middle one of them began to ail.
    pub began: Timestamp,
    /// When it was over; `None` while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Some of the services that ail.
    pub services: Vec<ServiceName>,
    /// How many ail.
    pub ailing: u32,
    /// … of how many that are watched.
    pub watched: u32,
    /// How many times its reference three quarters of them are at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<f64>,
    /// The release that all of them have in common, if so: then it may be one bad change after all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// What all of them call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<ServiceName>,
}

/// So many services that ail at the same time are no accident, however many are watched …
const FEWEST_AILING: usize = 3;
/// … and so is this part of those that are watched, from a handful on: in a small fleet three are all.
const LARGE_PART: f64 = 0.2;
const FEWEST_WATCHED: usize = 10;
/// From this part on no effect begins: node controllers stop evicting there, too.
const MOST_OF_THEM: f64 = 0.55;
/// What began to ail within this time of each other began together.
const TOGETHER: Span = Span::from_minutes(10);
/// What was found during a storm stays shown for as long as a release is watched, usually an hour: so long a storm that is
/// over is felt.
const FELT_FOR: Span = Span::from_minutes(60);
/// Others are waited for so long.
const PATIENCE_WITH_OTHERS: Span = Span::from_seconds(60);
/// Services named in a storm: what a person reads.
const MOST_NAMED: usize = 20;

/// How all watched services are doing now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Weather {
    services: BTreeMap<(EnvironmentName, ServiceName), (Health, Option<Timestamp>)>,
}

impl Weather {
    /// Takes in how a service is doing; `None`: it is watched no more.
    pub fn note(
        &mut self,
        environment: &EnvironmentName,
        service: &ServiceName,
        health: Option<Health>,
        now: Timestamp,
    ) {
        let name = (environment.clone(), service.clone());
        let since = self.services.get(&name).and_then(|(_, since)| *since);
        match health {
            Some(health) => {
                let since = health.ails.then(|| since.unwrap_or(now));
                self.services.insert(name, (health, since));
            }
            None => drop(self.services.remove(&name)),
        }
    }

    /// The storm over this environment, if there is one. `lasting`: there was one a moment ago, and a storm is over when
    /// hardly anybody ails, not when one of three has recovered.
    pub fn storm(&self, environment: &EnvironmentName, lasting: bool, now: Timestamp) -> Option<Storm> {
        let here = || self.services.iter().filter(|((place, _), _)| place == environment);
        let watched = here().count();
        let mut ailing: Vec<(Timestamp, &ServiceName, &Health)> = here()
            .filter_map(|((_, service), (health, since))| Some(((*since)?, service, health)))
            // Of those that have been ill for long, nobody says that it is the same illness.
            .filter(|(since, _, _)| lasting || Span::between(*since, now) <= TOGETHER)
            .collect();
        let many = ailing.len() >= FEWEST_AILING
            || watched >= FEWEST_WATCHED && ailing.len() as f64 >= LARGE_PART * watched as f64;
        if !(many || lasting && ailing.len() > 1) {
            return None;
        }
        ailing.sort_by_key(|(since, _, _)| *since);
        let (began, _, first) = ailing[ailing.len() / 2];
        let common = ailing.iter().all(|(_, _, health)| health.version == first.version);
        let called: BTreeSet<&ServiceName> =
            ailing.iter().flat_map(|(_, _, health)| &health.depends_on).collect();
        // Whoever is called ails with its callers, or is the cause.
        let all_call = |called: &&ServiceName| {
            ailing.iter().all(|(_, service, health)| service == called || health.depends_on.contains(*called))
        };
        let mut times: Vec<f64> = ailing.iter().filter_map(|(_, _, health)| health.times).collect();
        times.sort_by(f64::total_cmp);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Some(Storm {
            environment: environment.clone(),
            began,
            ended: None,
            services: ailing.iter().take(MOST_NAMED).map(|(_, service, _)| (*service).clone()).collect(),
            ailing: count(ailing.len()),
            watched: count(watched),
            times: times.get(times.len().saturating_sub(1) * 3 / 4).copied(),
            version: common.then(|| first.version.clone()),
            shared: called.into_iter().filter(|called| all_call(called)).cloned().collect(),
        })
    }

    /// Until when every other watched service was seen. Those that have not been seen for a minute are blind and are not
    /// waited for; `None` if there is no other.
    pub fn others_seen_until(
        &self,
        environment: &EnvironmentName,
        service: &ServiceName,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let others =
            self.services.iter().filter(|((place, name), _)| place == environment && name != service);
        let seen = others.filter_map(|(_, (health, _))| health.seen_until);
        seen.filter(|until| Span::between(*until, now) <= PATIENCE_WITH_OTHERS).min()
    }
}

impl Storm {
    /// Whether so many ail that no effect may begin.
    pub fn is_everywhere(&self) -> bool {
        self.ailing as usize >= FEWEST_AILING
            && f64::from(self.ailing) >= MOST_OF_THEM * f64::from(self.watched)
    }

    /// Whether it lasts, or was over a short time ago.
    pub fn is_felt(&self, now: Timestamp) -> bool {
        self.ended.is_none_or(|ended| Span::between(ended, now) < FELT_FOR)
    }

    /// Whether the guards would see a difference; not every look at every service is one.
    fn has_changed(&self, now: &Storm) -> bool {
        let apart = |a: f64, b: f64| a > 1.25 * b || b > 1.25 * a;
        self.is_everywhere() != now.is_everywhere()
            || apart(self.ailing.into(), now.ailing.into())
            || apart(self.times.unwrap_or_default(), now.times.unwrap_or_default())
    }

    /// Who, for people: one line that names what they have in common.
    pub fn words(&self) -> String {
        let Storm { ailing, watched, environment, began, .. } = self;
        let names: Vec<&str> = self.services.iter().take(5).map(ServiceName::as_str).collect();
        let more = if *ailing as usize > names.len() { ", …" } else { "" };
        let shared: Vec<&str> = self.shared.iter().map(ServiceName::as_str).collect();
        let why = match &self.version {
            Some(version) => format!("all of them run {version}: one change may be behind it"),
            None if !shared.is_empty() => {
                format!(
                    "all of them call {}: look there first, that is likelier than their releases",
                    shared.join(" and ")
                )
            }
            None if ailing == watched => {
                "all that are watched: a shared cause, or our own observation is broken".to_owned()
            }
            None => {
                "a cause that they share (a database, a network, a provider) is likelier than their releases"
                    .to_owned()
            }
        };
        let names = names.join(", ");
        format!(
            "{ailing} of {watched} watched services in {environment} ail at once since {began:.0} ({names}{more}); {why}"
        )
    }
}

/// What is written down, and what people are told, when the weather over an environment turns: `lasting` is the storm as it
/// was last written, `found` the one that there is now. People are told when it begins and when it is over; that it grew is
/// only written, for the guards.
pub fn turn(
    environment: &EnvironmentName,
    lasting: Option<&Storm>,
    found: Option<Storm>,
    now: Timestamp,
) -> Option<(FleetEntry, Option<Notice>)> {
    match (lasting, found) {
        (None, Some(storm)) => {
            let title = format!("a storm over {environment}: {} services ail at once", storm.ailing);
            let text = format!(
                "{}.\n\nNone of them is turned back alone. One that differs from the others is still proposed; any can be \
                 turned back by hand: `turnback rollback SERVICE`.",
                storm.words()
            );
            let notice = Notice { kind: NoticeKind::Storm, severity: None, title, text };
            Some((FleetEntry::StormBegan(storm), Some(notice)))
        }
        (Some(storm), None) => {
            let title = format!("the storm over {environment} is over");
            let text = format!(
                "It began at {:.0}. What was found in it is still not turned back alone for {FELT_FOR}.",
                storm.began
            );
            let notice = Notice { kind: NoticeKind::StormOver, severity: None, title, text };
            Some((FleetEntry::StormEnded { environment: environment.clone(), at: now }, Some(notice)))
        }
        (Some(before), Some(storm)) if before.has_changed(&storm) => {
            // It is one storm, with one beginning.
            Some((FleetEntry::StormBegan(Storm { began: before.began, ..storm }), None))
        }
        (Some(_), Some(_)) | (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn weather(watched: usize, ailing: usize, spread: i64) -> (Weather, EnvironmentName) {
        let environment = EnvironmentName::new("production").unwrap();
        let mut weather = Weather::default();
        for place in 0..watched {
            let service = ServiceName::new(format!("service-{place}")).unwrap();
            let health = Health {
                ails: place < ailing,
                times: Some(place as f64),
                seen_until: Some(at(place as i64)),
                version: Version::new(format!("v{}", place % 3)).unwrap(),
                depends_on: Vec::new(),
            };
            weather.note(&environment, &service, Some(health), at(spread * place as i64));
        }
        (weather, environment)
    }

    #[test]
    fn three_at_once_are_a_storm_and_two_are_not() {
        // Watched, ailing, seconds between two of them, whether there was a storm already: whether there is one.
        for (watched, ailing, spread, lasting, expected) in [
            (30, 2, 0, false, false),
            (30, 3, 0, false, true),
            (30, 3, 400, false, false),
            (3, 3, 0, false, true),
            (10, 2, 0, false, true),
            (9, 2, 0, false, false),
            (30, 2, 0, true, true),
            (30, 1, 0, true, false),
            (0, 0, 0, true, false),
        ] {
            let (weather, environment) = weather(watched, ailing, spread);
            let last = at(spread * ailing.saturating_sub(1) as i64);
            let storm = weather.storm(&environment, lasting, last);
            assert_eq!(storm.is_some(), expected, "{ailing} of {watched}, {spread} s: {storm:?}");
        }
    }

    #[test]
    fn a_storm_knows_how_far_it_reaches() {
        let storm = |watched, ailing| {
            let (weather, environment) = weather(watched, ailing, 0);
            weather.storm(&environment, false, at(0)).unwrap()
        };
        assert!(storm(20, 11).is_everywhere() && !storm(20, 10).is_everywhere());
        assert!(storm(20, 20).words().contains("our own observation"), "{}", storm(20, 20).words());
        assert!(storm(20, 4).words().contains("4 of 20 watched services"), "{}", storm(20, 4).words());
        assert_eq!(storm(20, 5).times, Some(3.0));
        assert_eq!(storm(20, 5).version, None);
    }

    #[test]
    fn what_all_of_them_call_is_named() {
        let (mut weather, environment) = weather(6, 4, 0);
        let name = |text: &str| ServiceName::new(text).unwrap();
        let mut ailing = |service: &str, calls: &[&str]| {
            let health = Health {
                ails: true,
                times: None,
                seen_until: Some(at(0)),
                version: Version::new(service).unwrap(),
                depends_on: calls.iter().map(|called| name(called)).collect(),
            };
            weather.note(&environment, &name(service), Some(health), at(0));
            weather.storm(&environment, false, at(0)).map(|storm| storm.words()).unwrap_or_default()
        };
        for (service, calls) in
            [("service-0", vec!["orders-database", "mail"]), ("service-1", vec!["mail", "orders-database"])]
        {
            assert!(!ailing(service, &calls).contains("call"), "the others say nothing of it");
        }
        ailing("service-2", &["orders-database"]);
        let words = ailing("service-3", &["orders-database", "search"]);
        assert!(words.contains("all of them call orders-database: look there first"), "{words}");
        // The one that is called ails, too.
        let words = ailing("orders-database", &[]);
        assert!(words.contains("all of them call orders-database"), "{words}");
    }

    #[test]
    fn who_recovers_and_falls_ill_again_ails_since_then() {
        let (mut weather, environment) = weather(4, 3, 0);
        let service = ServiceName::new("service-0").unwrap();
        let health = |ails| {
            let version = Version::new("v1").unwrap();
            Some(Health { ails, times: None, seen_until: Some(at(900)), version, depends_on: Vec::new() })
        };
        weather.note(&environment, &service, health(false), at(900));
        weather.note(&environment, &service, health(true), at(901));
        assert_eq!(weather.storm(&environment, false, at(902)), None, "the two others are ill for long");
        assert_eq!(weather.others_seen_until(&environment, &service, at(60)), Some(at(1)));
        assert_eq!(weather.others_seen_until(&environment, &service, at(902)), None, "they are blind");
        weather.note(&environment, &service, None, at(903));
        assert_eq!(weather.storm(&environment, true, at(903)).unwrap().watched, 3);
    }
}
