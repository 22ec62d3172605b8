//! What no single watch can see: how often, how many at once, what is known good, what is stopped.
//!
//! Like a watch, the fleet is the fold of its own records; unlike a watch it is small, so that it can be read whole at
//! every start.

use crate::deployment::{Change, DeployKind, Deployment, Release};
use crate::ids::{EnvironmentName, PlanId, ServiceName, Version, WatchId};
use crate::storm::Storm;
use crate::units::Span;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What happened to the fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FleetEntry {
    /// A release runs from now on.
    Deployed {
        /// Which, where, since when.
        deployment: Deployment,
        /// The watch that looks at it.
        watch: WatchId,
    },
    /// What happened to a service and is watched by nobody: others went back or took it away, or it was long ago when it
    /// was heard.
    Unwatched {
        /// What runs since (what ran last, if it was taken away), where, since when, and who told.
        deployment: Deployment,
        /// What happened.
        kind: DeployKind,
    },
    /// A release was shown to be well.
    ProvedGood {
        /// The service.
        service: ServiceName,
        /// The environment.
        environment: EnvironmentName,
        /// The release.
        known: KnownGood,
    },
    /// A release was found bad, and was not turned back by us.
    FoundBad {
        /// The service.
        service: ServiceName,
        /// The environment.
        environment: EnvironmentName,
        /// The release.
        version: Version,
        /// How bad, and by which row.
        why: String,
        /// When.
        at: Timestamp,
    },
    /// A plan began to be carried out.
    RollbackBegan {
        /// The service.
        service: ServiceName,
        /// The environment.
        environment: EnvironmentName,
        /// The plan.
        plan: PlanId,
        /// What is turned back.
        from: Version,
        /// Whether a person's word started it.
        by_person: bool,
        /// Whether it is practised: then it says nothing about the release, and counts towards no limit.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        drill: bool,
        /// When.
        at: Timestamp,
    },
    /// A plan came to its end, whichever.
    RollbackEnded {
        /// The service.
        service: ServiceName,
        /// The environment.
        environment: EnvironmentName,
        /// The plan.
        plan: PlanId,
        /// The release that runs now, if that is known.
        running: Option<Release>,
        /// When.
        at: Timestamp,
    },
    /// A rollback was practised.
    Drilled {
        /// The service.
        service: ServiceName,
        /// The environment.
        environment: EnvironmentName,
        /// How it went.
        outcome: String,
        /// When it ended.
        at: Timestamp,
    },
    /// No rollback is done alone from now on, until a person acknowledges.
    AutoSuspended {
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// Somebody pulled the kill switch: no effect begins any more.
    Stopped {
        /// Why.
        reason: String,
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Somebody released the kill switch, and acknowledged what suspended the autonomy.
    Resumed {
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Many services began to ail at the same time, or the storm has changed.
    StormBegan(Storm),
    /// They are well again, or not watched any more.
    StormEnded {
        /// Where.
        environment: EnvironmentName,
        /// When.
        at: Timestamp,
    },
    /// Nothing is turned back alone for a time.
    Frozen(Freeze),
    /// A freeze was lifted.
    Unfrozen {
        /// The service it was for; `None` lifts those for all services.
        service: Option<ServiceName>,
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
    },
}

/// A time in which nothing is turned back alone. People may still: a freeze must not forbid recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// For this service; `None` for all.
    pub service: Option<ServiceName>,
    /// From when on.
    pub from: Timestamp,
    /// Until when; `None` until it is lifted.
    pub until: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}

/// A release that ran well here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownGood {
    /// The release.
    pub release: Release,
    /// For how long it is known to have run well.
    pub ran_for: Span,
    /// How many requests it served in that time.
    pub requests: f64,
    /// When this was shown.
    pub at: Timestamp,
    /// Why it is not good after all, if it was found bad here since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_bad: Option<String>,
}

impl KnownGood {
    /// The proof, for people.
    pub fn words(&self) -> String {
        let version = &self.release.version;
        if let Some(why) = &self.found_bad {
            return format!("{version} was itself found bad here ({why})");
        }
        if self.ran_for == Span::default() {
            return format!("{version} ran before; how well it ran is not known here");
        }
        format!("{version} ran well here for {} and served {:.0} requests", self.ran_for, self.requests)
    }
}

/// What is remembered of one service in one environment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct ServiceState {
    current: Option<(Deployment, WatchId)>,
    /// What happened after that and is watched by nobody.
    #[serde(default)]
    unwatched: Option<Deployment>,
    /// What is believed to run: the deployed release, or the one returned to since.
    running: Option<Release>,
    /// Since when it is believed to run.
    running_since: Option<Timestamp>,
    known_good: Vec<KnownGood>,
    turned_back: Vec<(Version, Timestamp)>,
    #[serde(default)]
    found_bad: Vec<(Version, String, Timestamp)>,
    /// What was deployed, the newest last, and whether it brought a migration that cannot be taken back.
    #[serde(default)]
    deployed: Vec<(Version, bool)>,
    active: Option<PlanId>,
    /// When a rollback was last practised, and how that went.
    #[serde(default)]
    drilled: Option<(Timestamp, String)>,
}

impl ServiceState {
    /// What is believed to run since then. The same release once more (a restart, a new configuration) has been running
    /// all along.
    fn runs(&mut self, release: Option<&Release>, since: Timestamp) {
        if self.running.as_ref() != release {
            self.running = release.cloned();
            self.running_since = release.map(|_| since);
        }
    }

    fn deploys(&mut self, deployment: &Deployment) {
        self.runs(Some(&deployment.release), deployment.at);
        let moves = deployment.brought(Change::IrreversibleMigrations);
        remember(&mut self.deployed, (deployment.release.version.clone(), moves));
    }

    fn is_in(&self, environment: &EnvironmentName) -> bool {
        self.current.as_ref().is_some_and(|(deployment, _)| deployment.environment == *environment)
    }
}

/// All services.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Fleet {
    services: BTreeMap<String, ServiceState>,
    freezes: Vec<Freeze>,
    stopped: Option<String>,
    auto_suspended: Option<String>,
    /// The newest storm of each environment, also when it is over.
    #[serde(default)]
    storms: BTreeMap<EnvironmentName, Storm>,
    /// Times of recent rollbacks and whose they were: what rates are counted over.
    rollbacks: Vec<(String, Timestamp)>,
}

/// What one watch is told about everything else.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Situation {
    /// The kill switch is pulled, for this reason.
    pub stopped: Option<String>,
    /// A freeze is in force, for this reason.
    pub frozen: Option<String>,
    /// The autonomy is suspended, for this reason.
    pub auto_suspended: Option<String>,
    /// A plan of this service is being carried out.
    pub active_here: Option<PlanId>,
    /// Plans of other services that are being carried out.
    pub active_elsewhere: u32,
    /// When this service was last turned back.
    pub last_rollback: Option<Timestamp>,
    /// Rollbacks of this service in the last 24 hours.
    pub service_rollbacks_today: u32,
    /// Rollbacks of all services in the last hour.
    pub rollbacks_this_hour: u32,
    /// Rollbacks of all services in the last 24 hours.
    pub rollbacks_today: u32,
    /// The newest deployment of this service.
    pub current: Option<WatchId>,
    /// What ran before a deployment, as far as the fleet knows.
    pub running: Option<Release>,
    /// Since when that has been running, as far as the fleet knows.
    pub running_since: Option<Timestamp>,
    /// Releases that ran well here, the newest proof last.
    pub known_good: Vec<KnownGood>,
    /// Releases that were turned back here and have not been shown to be well since.
    pub turned_back: Vec<Version>,
    /// Releases that were found bad here and went without our turning them back; and how bad.
    pub found_bad: Vec<(Version, String)>,
    /// What was deployed here, the newest last, and whether it brought a migration that cannot be taken back.
    #[serde(default)]
    pub deployed: Vec<(Version, bool)>,
    /// Services with a deployment in this environment.
    #[serde(default)]
    pub services: u32,
    /// Other services that were turned back within the last hour.
    #[serde(default)]
    pub others_turned_back: u32,
    /// Sources of this service's signals that have not answered since the agent started.
    pub silent_sources: Vec<String>,
    /// Other services that were deployed in the same environment lately, the latest first.
    pub deployed_lately: Vec<OtherDeployment>,
    /// Many services ail at the same time, or did a short time ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm: Option<Storm>,
    /// Until when every other watched service was seen; `None` if there is none that can be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others_seen_until: Option<Timestamp>,
}

/// A deployment of another service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherDeployment {
    /// Which service.
    pub service: ServiceName,
    /// When.
    pub at: Timestamp,
    /// How many of its releases were turned back here and have not been well since.
    pub turned_back: u32,
}

/// Deployments of others this long ago may still be the cause of what is seen now.
const LATELY: Span = Span::from_minutes(60);
/// Other deployments that are told of; more at once are a wave, and blame is shared anyway.
const MOST_OTHERS: usize = 20;

/// Proofs and turned-back versions kept per service: enough for a person to choose from.
const MOST_REMEMBERED: usize = 20;
/// Freezes kept: more than one a day for two years. Forgetting one loosens a guard, so this is generous.
const MOST_FREEZES: usize = 1_000;
const DAY: Span = Span::from_minutes(24 * 60);

fn key(service: &ServiceName, environment: &EnvironmentName) -> String {
    // `@` cannot stand in either name.
    format!("{service}@{environment}")
}

fn remember<T>(list: &mut Vec<T>, item: T) {
    list.push(item);
    if list.len() > MOST_REMEMBERED {
        list.remove(0);
    }
}

impl Situation {
    /// Releases deployed after `target` that moved the schema for good and were not turned back since, the newest first.
    /// Where the target is not remembered, every remembered deployment came after it.
    pub fn moved_since(&self, target: &Version) -> Vec<Version> {
        let after =
            self.deployed.iter().rposition(|(version, _)| version == target).map_or(0, |place| place + 1);
        let moved = self.deployed[after..].iter().rev();
        let moved = moved.filter(|(version, moves)| *moves && !self.turned_back.contains(version));
        moved.map(|(version, _)| version.clone()).collect()
    }
}

impl Fleet {
    /// Takes a fact in.
    pub fn apply(&mut self, entry: &FleetEntry) {
        match entry {
            FleetEntry::Deployed { deployment, watch } => {
                let state = self.service(&deployment.service, &deployment.environment);
                state.deploys(deployment);
                state.unwatched = None;
                state.current = Some((deployment.clone(), watch.clone()));
            }
            FleetEntry::Unwatched { deployment, kind } => {
                let state = self.service(&deployment.service, &deployment.environment);
                match kind {
                    DeployKind::Deployed => state.deploys(deployment),
                    DeployKind::RolledBack => state.runs(Some(&deployment.release), deployment.at),
                    DeployKind::Removed => state.runs(None, deployment.at),
                }
                state.unwatched = Some(deployment.clone());
            }
            FleetEntry::ProvedGood { service, environment, known } => {
                let state = self.service(service, environment);
                state.known_good.retain(|older| older.release != known.release);
                remember(&mut state.known_good, known.clone());
            }
            FleetEntry::FoundBad { service, environment, version, why, at } => {
                let state = self.service(service, environment);
                remember(&mut state.found_bad, (version.clone(), why.clone(), *at));
            }
            FleetEntry::RollbackBegan { service, environment, plan, from, drill, at, .. } => {
                let name = key(service, environment);
                let state = self.service(service, environment);
                state.active = Some(plan.clone());
                if *drill {
                    return;
                }
                remember(&mut state.turned_back, (from.clone(), *at));
                self.rollbacks.retain(|(_, when)| Span::between(*when, *at) < DAY);
                self.rollbacks.push((name, *at));
            }
            FleetEntry::RollbackEnded { service, environment, plan, running, at } => {
                let state = self.service(service, environment);
                if state.active.as_ref() == Some(plan) {
                    state.active = None;
                }
                if let Some(running) = running {
                    state.runs(Some(running), *at);
                }
            }
            FleetEntry::Drilled { service, environment, outcome, at } => {
                self.service(service, environment).drilled = Some((*at, outcome.clone()));
            }
            FleetEntry::AutoSuspended { reason, .. } => self.auto_suspended = Some(reason.clone()),
            FleetEntry::Stopped { reason, by, .. } => self.stopped = Some(format!("{reason} ({by})")),
            FleetEntry::Resumed { .. } => {
                self.stopped = None;
                self.auto_suspended = None;
            }
            FleetEntry::StormBegan(storm) => {
                self.storms.insert(storm.environment.clone(), storm.clone());
            }
            FleetEntry::StormEnded { environment, at } => {
                if let Some(storm) = self.storms.get_mut(environment) {
                    storm.ended = Some(*at);
                }
            }
            FleetEntry::Frozen(freeze) => self.freeze(freeze),
            FleetEntry::Unfrozen { service, .. } => self.freezes.retain(|freeze| freeze.service != *service),
        }
    }

    /// A freeze may lie in the future, so that it says nothing about whether an older one is over. Only what the new
    /// one covers wholly is dropped; when there are far too many, those that end first.
    fn freeze(&mut self, freeze: &Freeze) {
        let end = |freeze: &Freeze| freeze.until.unwrap_or(Timestamp::MAX);
        self.freezes.retain(|older| {
            older.service != freeze.service || older.from < freeze.from || end(older) > end(freeze)
        });
        self.freezes.push(freeze.clone());
        if self.freezes.len() > MOST_FREEZES
            && let Some(first) = (0..self.freezes.len()).min_by_key(|place| end(&self.freezes[*place]))
        {
            self.freezes.remove(first);
        }
    }

    fn service(&mut self, service: &ServiceName, environment: &EnvironmentName) -> &mut ServiceState {
        self.services.entry(key(service, environment)).or_default()
    }

    /// What the watch over this service is told.
    pub fn situation(
        &self,
        service: &ServiceName,
        environment: &EnvironmentName,
        now: Timestamp,
    ) -> Situation {
        let name = key(service, environment);
        let state = self.services.get(&name).cloned().unwrap_or_default();
        let within = |span: Span| self.rollbacks.iter().filter(move |(_, at)| Span::between(*at, now) < span);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let others = self.services.iter().filter(|(other, state)| **other != name && state.active.is_some());
        let well_since = |version: &Version, at: Timestamp| {
            state.known_good.iter().any(|known| known.release.version == *version && known.at > at)
        };
        let bad = state.turned_back.iter().filter(|(version, at)| !well_since(version, *at));
        let turned_back = bad.map(|(version, _)| version.clone()).collect();
        let bad = state.found_bad.iter().filter(|(version, _, at)| !well_since(version, *at));
        let found_bad = bad.map(|(version, why, _)| (version.clone(), why.clone())).collect();
        Situation {
            stopped: self.stopped.clone(),
            frozen: self.frozen(service, now),
            auto_suspended: self.auto_suspended.clone(),
            active_here: state.active,
            active_elsewhere: count(others.count()),
            last_rollback: state.turned_back.last().map(|(_, at)| *at),
            service_rollbacks_today: count(within(DAY).filter(|(whose, _)| *whose == name).count()),
            rollbacks_this_hour: count(within(Span::from_minutes(60)).count()),
            rollbacks_today: count(within(DAY).count()),
            current: state.current.map(|(_, watch)| watch),
            deployed: state.deployed,
            services: count(self.services.values().filter(|state| state.is_in(environment)).count()),
            others_turned_back: count(
                within(Span::from_minutes(60))
                    .map(|(whose, _)| whose)
                    .filter(|whose| **whose != name)
                    .collect::<BTreeSet<_>>()
                    .len(),
            ),
            running: state.running,
            running_since: state.running_since,
            known_good: state.known_good,
            turned_back,
            found_bad,
            silent_sources: Vec::new(),
            deployed_lately: self.deployed_lately(&name, environment, now),
            storm: self.storms.get(environment).filter(|storm| storm.is_felt(now)).cloned(),
            others_seen_until: None,
        }
    }

    fn deployed_lately(
        &self,
        own: &str,
        environment: &EnvironmentName,
        now: Timestamp,
    ) -> Vec<OtherDeployment> {
        let other = |(name, state): (&String, &ServiceState)| {
            let (deployment, _) = state.current.as_ref()?;
            let lately = Span::between(deployment.at, now) < LATELY;
            (name != own && deployment.environment == *environment && lately).then(|| OtherDeployment {
                service: deployment.service.clone(),
                at: deployment.at,
                turned_back: u32::try_from(state.turned_back.len()).unwrap_or(u32::MAX),
            })
        };
        let mut others: Vec<OtherDeployment> = self.services.iter().filter_map(other).collect();
        others.sort_by_key(|other| std::cmp::Reverse(other.at));
        others.truncate(MOST_OTHERS);
        others
    }

    fn frozen(&self, service: &ServiceName, now: Timestamp) -> Option<String> {
        let in_force = |freeze: &&Freeze| {
            freeze.from <= now
                && freeze.until.is_none_or(|until| now < until)
                && freeze.service.as_ref().is_none_or(|only| only == service)
        };
        self.freezes.iter().find(in_force).map(|freeze| {
            let until = freeze.until.map_or_else(String::new, |until| format!(" until {until:.0}"));
            format!("{} ({}){until}", freeze.reason, freeze.by)
        })
    }

    /// The storm over an environment, while it lasts.
    pub fn storm(&self, environment: &EnvironmentName) -> Option<&Storm> {
        self.storms.get(environment).filter(|storm| storm.ended.is_none())
    }

    /// The newest deployment of a service.
    pub fn current(&self, service: &ServiceName, environment: &EnvironmentName) -> Option<&Deployment> {
        self.services.get(&key(service, environment))?.current.as_ref().map(|(deployment, _)| deployment)
    }

    /// The newest that is known to have happened to a service: news that is not newer is late.
    pub fn newest(&self, service: &ServiceName, environment: &EnvironmentName) -> Option<&Deployment> {
        let state = self.services.get(&key(service, environment))?;
        state.unwatched.as_ref().or(state.current.as_ref().map(|(deployment, _)| deployment))
    }

    /// What is believed to run.
    pub fn running(&self, service: &ServiceName, environment: &EnvironmentName) -> Option<&Release> {
        self.services.get(&key(service, environment))?.running.as_ref()
    }

    /// Whether a release was deployed here, and another one since.
    pub fn was_left(&self, service: &ServiceName, environment: &EnvironmentName, version: &Version) -> bool {
        let deployed = self.services.get(&key(service, environment)).map(|state| state.deployed.as_slice());
        let newest = self.newest(service, environment).map(|newest| &newest.release.version);
        newest != Some(version) && deployed.is_some_and(|all| all.iter().any(|(one, _)| one == version))
    }

    /// The services as `service@environment`, each with its last drill and how that went.
    pub fn drills(&self) -> impl Iterator<Item = (&str, Option<&(Timestamp, String)>)> {
        self.services.iter().map(|(name, state)| (name.as_str(), state.drilled.as_ref()))
    }

    /// The kill switch, if it is pulled.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Why nothing is done alone, if that is so.
    pub fn auto_suspended(&self) -> Option<&str> {
        self.auto_suspended.as_deref()
    }

    /// The freezes that are in force or to come.
    pub fn freezes(&self, now: Timestamp) -> Vec<&Freeze> {
        self.freezes.iter().filter(|freeze| freeze.until.is_none_or(|until| until > now)).collect()
    }
}
