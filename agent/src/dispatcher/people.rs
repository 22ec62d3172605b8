//! What people ask for, through the API.

use super::perform::fleet_record;
use super::{DispatchError, Dispatcher};
use crate::clock;
use jiff::Timestamp;
use rules::deployment::{DeployEvent, DeployKind, Release};
use rules::fleet::{FleetEntry, Freeze};
use rules::ids::{EnvironmentName, PlanDigest, PlanId, ServiceName, SourceName, Version, WatchId};
use rules::units::Span;
use rules::watch::{Input, Watch};

/// Who asks, as the API knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person(pub String);

/// What a person can ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum PersonAsk {
    /// Carry this plan out. The digest may be shortened to 12 digits.
    Approve {
        /// The plan.
        plan: PlanId,
        /// What they saw.
        digest: String,
    },
    /// Do not.
    Reject {
        /// The plan.
        plan: PlanId,
        /// What they saw.
        digest: String,
        /// Why.
        reason: String,
    },
    /// Turn this service back.
    Rollback {
        /// The service.
        service: ServiceName,
        /// Where.
        environment: EnvironmentName,
        /// To this release; the best known one if not said.
        to: Option<Version>,
        /// For practice.
        drill: bool,
    },
    /// Pull the kill switch.
    Stop {
        /// Why.
        reason: String,
    },
    /// Release it, and acknowledge what suspended the autonomy.
    Resume,
    /// Nothing alone for a time.
    Freeze {
        /// For this service only.
        service: Option<ServiceName>,
        /// For this long; until it is lifted if not said.
        duration: Option<Span>,
        /// Why.
        reason: String,
    },
    /// Lift freezes.
    Unfreeze {
        /// Of this service; those for all services if not said.
        service: Option<ServiceName>,
    },
}

/// Digits of a digest that are enough to name it.
const SHORTEST_DIGEST: usize = 12;

/// A freeze, and how it is lifted.
fn freeze_words(freeze: &Freeze) -> String {
    let (what, lift) = match &freeze.service {
        Some(service) => (format!("the freeze of {service}"), format!("turnback unfreeze {service}")),
        None => ("the freeze of all services".to_owned(), "turnback unfreeze".to_owned()),
    };
    let until = freeze.until.map_or_else(String::new, |until| format!(" until {until:.0}"));
    format!("{what}{until} ({}, {}), lifted by `{lift}`", freeze.reason, freeze.by)
}

impl Dispatcher {
    pub(super) async fn hear_person(
        &mut self,
        ask: PersonAsk,
        by: Person,
    ) -> Result<Result<String, String>, DispatchError> {
        let Person(by) = by;
        let now = clock::now();
        tracing::info!(%by, ?ask, "a person asks");
        match ask {
            PersonAsk::Approve { plan, digest } => match self.plan_of(&plan, &digest) {
                Ok((watch, digest)) => self.ask_watch(&watch, Input::Approved { by, digest }).await,
                Err(refusal) => Ok(Err(refusal)),
            },
            PersonAsk::Reject { plan, digest, reason } => match self.plan_of(&plan, &digest) {
                Ok((watch, digest)) => self.ask_watch(&watch, Input::Refused { by, digest, reason }).await,
                Err(refusal) => Ok(Err(refusal)),
            },
            PersonAsk::Rollback { service, environment, to, drill } => {
                self.ask_rollback(service, environment, to, drill, by).await
            }
            PersonAsk::Stop { reason } => {
                self.parts.stopped.send_replace(true);
                if let Some(why) = self.fleet.stopped() {
                    return Ok(Ok(format!("was stopped already: {why}")));
                }
                self.fact(FleetEntry::Stopped { reason, by, at: now }).await?;
                Ok(Ok("stopped: no effect begins until `turnback resume`".into()))
            }
            PersonAsk::Resume => self.resume_asked(by, now).await,
            PersonAsk::Freeze { service, duration, reason } => {
                let until = duration.map(|duration| duration.after(now));
                self.fact(FleetEntry::Frozen(Freeze { service, from: now, until, reason, by })).await?;
                Ok(Ok("frozen: nothing is turned back alone, people still can".into()))
            }
            PersonAsk::Unfreeze { service } => self.unfreeze(service, by, now).await,
        }
    }

    /// Lifts what was said through the API. The file is somebody's word too, and not ours to remove: as long as it is
    /// there, nothing is resumed, and saying so must not look like success.
    async fn resume_asked(
        &mut self,
        by: String,
        now: Timestamp,
    ) -> Result<Result<String, String>, DispatchError> {
        let held = self.fleet.stopped().is_some()
            || self.fleet.auto_suspended().is_some()
            || *self.parts.stopped.borrow();
        if held {
            self.fact(FleetEntry::Resumed { by, at: now }).await?;
            self.parts.stopped.send_replace(false);
        }
        let said = if held { "resumed" } else { "nothing was stopped" };
        Ok(match self.parts.executor.stop_file() {
            None => Ok(said.to_owned()),
            Some(file) if held => Err(format!("the stop through the API is lifted, but {file}; remove it")),
            Some(file) => Err(format!("not resumed: {file}; remove it")),
        })
    }

    async fn unfreeze(
        &mut self,
        service: Option<ServiceName>,
        by: String,
        now: Timestamp,
    ) -> Result<Result<String, String>, DispatchError> {
        let whose = service.as_ref().map_or_else(String::new, |service| format!(" of {service}"));
        let said = if self.fleet.freezes(now).iter().any(|freeze| freeze.service == service) {
            self.fact(FleetEntry::Unfrozen { service, by, at: now }).await?;
            "unfrozen".to_owned()
        } else {
            format!("no freeze{whose} was in force")
        };
        let still: Vec<String> = self.fleet.freezes(now).into_iter().map(freeze_words).collect();
        Ok(Ok(if still.is_empty() { said } else { format!("{said}; still in force: {}", still.join("; ")) }))
    }

    /// Writes a fact about the fleet down, with what is held if something is, and takes it in.
    pub(super) async fn fact(&mut self, fact: FleetEntry) -> Result<(), DispatchError> {
        let record = fleet_record(&fact, clock::now())?;
        match &mut self.held {
            // What is held counts in memory at once, and is published when it is on disk.
            Some(held) => {
                held.records.push(record);
                self.fleet.apply(&fact);
            }
            None => {
                self.parts.ledger.append(vec![record]).await?;
                self.fleet.apply(&fact);
                self.publish();
            }
        }
        Ok(())
    }

    async fn ask_watch(
        &mut self,
        watch: &WatchId,
        input: Input,
    ) -> Result<Result<String, String>, DispatchError> {
        let answer = self.tell(watch, input).await?;
        Ok(answer.unwrap_or_else(|| Err(format!("watch {watch} is not open any more"))))
    }

    /// The watch of a plan, and the whole digest that a short one stands for. A digest that fits nothing is passed on as
    /// it is: the watch says that it is stale.
    fn plan_of(&self, plan: &PlanId, digest: &str) -> Result<(WatchId, PlanDigest), String> {
        let found = self.watches.values().find_map(|watch| {
            let (drawn, whole) = watch.plan.as_ref()?;
            (drawn.id == *plan).then(|| (watch.id.clone(), whole.clone()))
        });
        let (watch, whole) =
            found.ok_or_else(|| format!("there is no open plan {plan}; see `turnback status`"))?;
        if digest.len() >= SHORTEST_DIGEST && whole.as_str().starts_with(digest) {
            return Ok((watch, whole));
        }
        let given = PlanDigest::new(digest).map_err(|problem| problem.to_string())?;
        Ok((watch, given))
    }

    async fn ask_rollback(
        &mut self,
        service: ServiceName,
        environment: EnvironmentName,
        to: Option<Version>,
        drill: bool,
        by: String,
    ) -> Result<Result<String, String>, DispatchError> {
        let of = |watch: &&Watch| {
            watch.deployment.service == service && watch.deployment.environment == environment
        };
        // A watch that looks after a rollback is no watch over what runs now.
        let open = self
            .watches
            .values()
            .filter(of)
            .filter(|watch| !watch.in_aftercare())
            .max_by_key(|watch| watch.deployment.at)
            .map(|watch| watch.id.clone());
        let watch = match open {
            Some(watch) => watch,
            None => match self.reopen(&service, &environment, &by).await? {
                Ok(watch) => watch,
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        self.ask_watch(&watch, Input::RollbackAsked { by, to, drill }).await
    }

    /// A watch over what runs, for a person who wants to turn back a release that is no longer watched.
    async fn reopen(
        &mut self,
        service: &ServiceName,
        environment: &EnvironmentName,
        by: &str,
    ) -> Result<Result<WatchId, String>, DispatchError> {
        let now = clock::now();
        let Some(current) = self.fleet.current(service, environment).cloned() else {
            return Ok(Err(format!("no deployment of {service} in {environment} is known")));
        };
        let running = self.fleet.situation(service, environment, now).running;
        let release: Release = running.unwrap_or(current.release);
        let Ok(source) = SourceName::new("person") else {
            return Ok(Err("the source name is not usable".into()));
        };
        let event = DeployEvent {
            source,
            id: format!("rollback asked for by {by} at {now}"),
            kind: DeployKind::Deployed,
            service: service.clone(),
            environment: environment.clone(),
            release,
            previous: current.previous,
            occurred_at: now,
            sequence: None,
            changes: None,
            security_fix: false,
        };
        let situation = self.fleet.situation(service, environment, now);
        let (watch, effects) = Watch::open(&event, (self.parts.rules)(service, environment), &situation, now);
        let id = watch.id.clone();
        self.watches.insert(id.clone(), watch);
        self.perform(&id, effects, now).await?;
        let looked_after = self.watches.values().filter(|watch| {
            watch.in_aftercare()
                && watch.deployment.service == *service
                && watch.deployment.environment == *environment
        });
        for older in looked_after.map(|watch| watch.id.clone()).collect::<Vec<_>>() {
            self.tell(&older, Input::Superseded(id.clone())).await?;
        }
        Ok(Ok(id))
    }
}
