//! A storm over two hundred services: a database that all of them share goes down, and thirty were deployed within the
//! hour before. Whoever looks at one of them sees a release that hurts; nobody is turned back.

use super::*;
use rules::guard::Weight;
use rules::ids::{EnvironmentName, ServiceName, Version};
use rules::storm::{Health, Storm, Weather, turn};
use rules::watch::Notice;

/// One service: its world, whose clock shows 0 at its own deployment, and that moment on the common clock.
struct Place {
    name: ServiceName,
    world: World,
    deployed: i64,
}

/// Services under watch, the weather over them, and what was told of it. The common clock shows 0 when the storm begins.
struct Sky {
    places: Vec<Place>,
    weather: Weather,
    fleet: Fleet,
    told: Vec<Notice>,
    now: i64,
}

/// All services that there are. Those that were not deployed lately are not watched: they ail with the others, and nobody
/// would blame a release of theirs.
const SERVICES: usize = 200;

fn seconds(time: Timestamp) -> i64 {
    time.as_second() - at(0).as_second()
}

fn later(time: Timestamp, by: i64) -> Timestamp {
    at(seconds(time) + by)
}

impl Sky {
    /// `count` services, deployed one after the other within the hour before the storm; while it lasts they do like `under`.
    fn new(count: usize, under: Load, lasts: i64) -> Self {
        let places = (0..count).map(|place| {
            let deployed = -60 - 110 * place as i64;
            let storm = -deployed;
            let change = |world: &mut World| {
                world.loads.push((at(storm), under));
                world.loads.push((at(storm + lasts), WELL));
            };
            let mut rules = impatient(Auto);
            // Each has something of its own, and all of them have the database.
            rules.depends_on = ["orders-database".to_owned(), format!("cache-{place}")]
                .map(|called| ServiceName::new(called).unwrap())
                .into();
            let mut world = World::with(rules, WELL, WELL, 8.0, place as u64, change);
            world.proven("v1");
            Place { name: ServiceName::new(format!("service-{place}")).unwrap(), world, deployed }
        });
        let mut sky = Self {
            places: places.collect(),
            weather: Weather::default(),
            fleet: Fleet::default(),
            told: Vec::new(),
            now: -3600,
        };
        for place in count..SERVICES {
            let deployment = rules::deployment::Deployment {
                service: ServiceName::new(format!("service-{place}")).unwrap(),
                at: at(-100_000),
                ..sky.places[0].world.watch.deployment.clone()
            };
            let watch = sky.places[0].world.watch.id.clone();
            sky.fleet.apply(&FleetEntry::Deployed { deployment, watch });
        }
        sky.run_to(-1);
        sky
    }

    /// Lets time pass, in steps shorter than a look.
    fn run_to(&mut self, end: i64) {
        while self.now < end {
            self.now = (self.now + 5).min(end);
            for place in 0..self.places.len() {
                self.step(place);
            }
        }
    }

    fn step(&mut self, place: usize) {
        let (here, now) = (environment(), at(self.now));
        let Place { name, world, deployed } = &mut self.places[place];
        if self.now < *deployed {
            return;
        }
        world.storm = self
            .fleet
            .situation(name, &here, now)
            .storm
            .map(|storm| Storm { began: later(storm.began, -*deployed), ..storm });
        let others = self.weather.others_seen_until(&here, name, now);
        world.others_seen_until = others.map(|seen| later(seen, -*deployed));
        world.run_to(self.now - *deployed);
        let open = !matches!(world.watch.phase, Phase::Closed(_));
        let health = open.then(|| world.watch.health());
        // Each service has a release of its own.
        let health = health.map(|health| Health {
            seen_until: health.seen_until.map(|seen| later(seen, *deployed)),
            version: Version::new(format!("v{place}")).unwrap(),
            ..health
        });
        self.weather.note(&here, name, health, now);
        self.turn(&here, now);
    }

    fn turn(&mut self, here: &EnvironmentName, now: Timestamp) {
        let lasting = self.fleet.storm(here);
        let found = self.weather.storm(here, lasting.is_some(), now);
        if let Some((fact, notice)) = turn(here, lasting, found, now) {
            self.fleet.apply(&fact);
            self.told.extend(notice);
        }
    }

    /// Steps that were begun, of all.
    fn begun(&self) -> usize {
        self.places.iter().map(|place| place.world.begun.len()).sum()
    }

    /// What woke somebody up: of the weather, and of each service.
    fn pages(&self) -> Vec<String> {
        let weather =
            self.told.iter().filter(|notice| notice.kind.pages()).map(|notice| notice.title.clone());
        let services = self.places.iter().flat_map(|place| {
            let pages = place.world.notices.iter().filter(|(_, notice)| notice.kind.pages());
            pages.map(|(_, notice)| format!("{}: {:?} {}", place.name, notice.kind, notice.title))
        });
        weather.chain(services).collect()
    }
}

fn under(errors: f64) -> Load {
    Load { errors, ..WELL }
}

#[test]
fn a_shared_database_that_goes_down_turns_nobody_back_and_is_told_once() {
    for errors in [0.2, 0.55, 1.0] {
        let mut sky = Sky::new(30, under(errors), 900);
        sky.run_to(1_200);
        assert_eq!(sky.begun(), 0, "at {errors}: {:#?}", sky.pages());
        let pages = sky.pages();
        assert_eq!(pages.len(), 1, "at {errors}: {pages:#?}");
        assert!(sky.told[0].text.contains("all of them call orders-database"), "{}", sky.told[0].text);
        assert!(sky.told[0].text.contains("service-0"), "{}", sky.told[0].text);
        assert_eq!(sky.told.len(), 2, "and that it is over");
        let ailing = sky.places.iter().filter(|place| place.world.watch.incident.is_some()).count();
        assert!(ailing >= 25, "{ailing} of them were found degraded: the storm was one");
        let held = sky.places.iter().flat_map(|place| &place.world.watch.decision).filter(|decided| {
            decided
                .holds
                .iter()
                .any(|hold| hold.reason == HoldReason::CorrelatedFailure && hold.weight == Weight::Blocks)
        });
        assert!(held.count() >= 25);
    }
}

#[test]
fn one_that_is_bad_by_itself_is_still_proposed_inside_the_storm() {
    // Bad since before the storm, and bad in a way of its own.
    for (deployed, after) in [(-400, BAD), (-60, under(0.9))] {
        let mut sky = Sky::new(30, under(0.2), 900);
        let change = |world: &mut World| {
            // A release that is worse than the storm is so in the storm, too.
            let worse = after.errors.max(0.2);
            world.loads.push((at(-deployed), under(worse)));
        };
        let mut world = World::with(impatient(Auto), WELL, after, 8.0, 99, change);
        world.proven("v1");
        // Somebody looks at it first: it is not turned back before the storm begins.
        world.fact(FleetEntry::AutoSuspended { reason: "a drill".into(), at: at(0) });
        sky.places.push(Place { name: ServiceName::new("culprit").unwrap(), world, deployed });
        sky.now = deployed.min(-1);
        sky.run_to(600);
        assert_eq!(sky.begun(), 0, "{:#?}", sky.pages());
        let proposed = |place: &Place| place.world.told(NoticeKind::ApprovalNeeded) > 0;
        let names: Vec<&str> =
            sky.places.iter().filter(|place| proposed(place)).map(|place| place.name.as_str()).collect();
        assert_eq!(names, ["culprit"], "deployed {deployed}: {:#?}", sky.pages());
    }
}

#[test]
fn a_bad_release_among_healthy_services_is_turned_back_a_look_later() {
    let culprit = || {
        let mut world = World::with(impatient(Auto), WELL, BAD, 8.0, 7, |_| {});
        world.proven("v1");
        world
    };
    let acted = |world: &World| {
        let incident = world.watch.incident.as_ref().unwrap();
        seconds(incident.acted.unwrap())
    };
    let mut alone = culprit();
    alone.run_to(120);
    let mut sky = Sky::new(10, WELL, 900);
    sky.places.push(Place { name: ServiceName::new("culprit").unwrap(), world: culprit(), deployed: 0 });
    sky.run_to(120);
    assert_eq!(sky.begun(), 1, "{:#?}", sky.places[10].world.watch.timeline);
    let (alone, among_others) = (acted(&alone), acted(&sky.places[10].world));
    assert!(
        (alone..=alone + 20).contains(&among_others),
        "alone after {alone} s, here after {among_others} s"
    );
    assert!(sky.told.is_empty(), "one is no storm");
}

#[test]
fn what_was_found_in_a_storm_is_not_turned_back_alone_when_it_is_over() {
    let mut sky = Sky::new(6, under(0.5), 300);
    sky.run_to(600);
    assert_eq!(sky.told.len(), 2, "{:?}", sky.told);
    // The counts of the storm still speak against each of them.
    sky.run_to(1_500);
    assert_eq!(sky.begun(), 0);
}

#[test]
fn alerts_for_many_services_at_once_turn_nobody_back() {
    let mut sky = Sky::new(5, WELL, 900);
    for Place { world, .. } in &mut sky.places {
        // Far enough apart for an agent that thinks about one after the other.
        let now = seconds(world.now);
        world.tell(Input::Reported(report("smoke_test_failed", ReportState::Firing, now)));
    }
    sky.run_to(300);
    assert_eq!(sky.begun(), 0, "{:#?}", sky.pages());
    assert_eq!(sky.told.len(), 1, "{:?}", sky.told);
    let mut alone = Sky::new(5, WELL, 900);
    let world = &mut alone.places[2].world;
    let now = seconds(world.now);
    world.tell(Input::Reported(report("smoke_test_failed", ReportState::Firing, now)));
    alone.run_to(300);
    assert_eq!(alone.begun(), 1, "one that is reported is turned back: {:#?}", alone.pages());
}
