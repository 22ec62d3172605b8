//! A tiny made-up world around one watch: it records, measures, runs steps and keeps time the way the agent does, without
//! any of the agent's input and output. Everything is seeded, so that a failure can be looked at again.

use jiff::Timestamp;
use rules::action::{ActionSpec, CommandSpec, EffectClass, StepOutcome, Undo};
use rules::decision::AutonomyLevel;
use rules::deployment::{DeployEvent, DeployKind, Deployment, Release, Report, ReportState};
use rules::fleet::{Fleet, FleetEntry, KnownGood, Situation};
use rules::guard::{EffectView, before_effect};
use rules::ids::{
    EnvironmentName, PlanDigest, ServiceName, SignalName, SourceName, StepName, Version, WatchId,
};
use rules::past::{Past, Ranges, Windows};
use rules::plan::{RollbackPlan, Step};
use rules::rehearsal::{Rehearsal, Tried};
use rules::ruleset::{RuleSet, shipped_matrix};
use rules::runbook::{Runbook, RunbookStep};
use rules::signal::{Measure, Measurement, Observation, Reading, Signal};
use rules::storm::Storm;
use rules::units::Span;
use rules::watch::{Effect, Entry, Input, Notice, NoticeKind, Outcome, Permit, Phase, Watch};
use std::collections::{BTreeMap, VecDeque};

pub fn service() -> ServiceName {
    ServiceName::new("checkout").unwrap()
}
pub fn environment() -> EnvironmentName {
    EnvironmentName::new("production").unwrap()
}
pub fn release(version: &str) -> Release {
    Release { version: Version::new(version).unwrap() }
}
pub fn signal(name: &str) -> SignalName {
    SignalName::new(name).unwrap()
}
/// Seconds after the deployment, as a time.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// Marsaglia's xorshift: enough randomness for made-up traffic, and no dependency.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
    pub fn one_in(&mut self, sides: u64) -> bool {
        self.next().is_multiple_of(sides)
    }
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// How the service is doing.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub errors: f64,
    pub slow: f64,
    pub up: f64,
}

pub const WELL: Load = Load { errors: 0.002, slow: 1.0, up: 1.0 };
pub const BAD: Load = Load { errors: 0.2, ..WELL };

/// The finite edges of the latency buckets, seconds.
const EDGES: [f64; 8] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

pub struct World {
    pub now: Timestamp,
    pub fleet: Fleet,
    pub watch: Watch,
    pub entries: Vec<(Timestamp, Entry)>,
    pub facts: Vec<FleetEntry>,
    pub notices: Vec<(Timestamp, Notice)>,
    pub answers: Vec<Result<String, String>>,
    /// Steps that were really begun.
    pub begun: Vec<Permit>,
    /// Steps that were asked for, begun or not.
    pub permits: Vec<Permit>,
    pub silent_sources: Vec<String>,
    /// What the other watches bring.
    pub storm: Option<Storm>,
    pub others_seen_until: Option<Timestamp>,
    /// What comes of the next steps; `Done` when it runs out. `None`: no answer ever.
    pub script: VecDeque<Option<StepOutcome>>,
    pub step_seconds: i64,
    pub requests_per_second: f64,
    /// From each time on, the service does like this; the first must hold from the beginning.
    pub loads: Vec<(Timestamp, Load)>,
    /// What a finished rollback brings.
    pub cure: Load,
    /// Metrics are gone from the first to the second time.
    pub outages: Vec<(Timestamp, Timestamp)>,
    pub baseline_comes: bool,
    /// Whether a rehearsal is answered.
    pub rehearsals_come: bool,
    /// Steps that a rehearsal finds to fail, and why.
    pub would_fail: BTreeMap<String, String>,
    /// The agent is killed behind so many further effects, and starts again at once.
    pub killed_in: Option<u64>,
    killed: bool,
    pending: Vec<(Timestamp, Input)>,
    wake: Option<Timestamp>,
    dice: Dice,
}

pub fn rules(level: AutonomyLevel) -> RuleSet {
    let mut rules = RuleSet::unconfigured(service(), environment(), shipped_matrix("standard").unwrap());
    rules.autonomy.level = level;
    // Most tests end when recovery is shown.
    rules.watch.checkpoints.clear();
    let measures = [
        ("errors", Measure::Proportion { of: "requests_total".into(), bad: BTreeMap::new() }),
        ("latency", Measure::Latency { buckets: "seconds_bucket".into(), quantile: 0.95 }),
        ("availability", Measure::Availability { up: "up".into() }),
    ];
    for (name, measure) in measures {
        let signal = Signal::new(signal(name), "made-up", measure);
        rules.signals.insert(signal.name.clone(), signal);
    }
    rules.runbook = Some(runbook(&[("switch", EffectClass::Keyed, undo())]));
    rules
}

/// The same without anything to try first.
pub fn impatient(level: AutonomyLevel) -> RuleSet {
    let mut rules = rules(level);
    for name in ["quick-fix", "investigate", "scale", "check-cache", "check-queue"] {
        rules.patience.insert(name.into(), Span::default());
    }
    rules
}

fn command(words: &[&str]) -> ActionSpec {
    ActionSpec::Command(CommandSpec {
        argv: words.iter().map(ToString::to_string).collect(),
        env: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        directory: None,
        success: vec![0],
        retryable: vec![],
    })
}

pub fn undo() -> Undo {
    Undo::Action(command(&["/bin/undo", "{{from.version}}"]))
}

pub fn runbook(steps: &[(&str, EffectClass, Undo)]) -> Runbook {
    let steps = steps.iter().map(|(name, class, undo)| RunbookStep {
        name: StepName::new(*name).unwrap(),
        from: None,
        undoes: Default::default(),
        asks: false,
        action: command(&["/bin/act", name, "{{to.version}}"]),
        class: *class,
        inspect: None,
        verify: None,
        undo: undo.clone(),
        timeout: Span::from_minutes(1),
        reversibility: Default::default(),
    });
    Runbook { summary: None, steps: steps.collect() }
}

pub fn deploy(version: &str, id: &str, seconds: i64) -> DeployEvent {
    DeployEvent {
        source: SourceName::new("ci").unwrap(),
        id: id.into(),
        kind: DeployKind::Deployed,
        service: service(),
        environment: environment(),
        release: release(version),
        previous: Some(release("v1")),
        occurred_at: at(seconds),
        sequence: None,
        changes: None,
        security_fix: false,
    }
}

pub fn report(what: &str, state: ReportState, seconds: i64) -> Report {
    Report {
        source: SourceName::new("alerts").unwrap(),
        id: format!("{what}-1"),
        service: service(),
        environment: Some(environment()),
        what: what.into(),
        state,
        summary: format!("{what} says the test"),
        at: at(seconds),
        ended: None,
    }
}

pub fn done() -> StepOutcome {
    StepOutcome::Done { output: String::new(), changed: true }
}
pub fn failed(kind: rules::action::FailureKind) -> StepOutcome {
    StepOutcome::Failed { kind, reason: "it said no".into(), output: String::new() }
}
pub fn unknown() -> StepOutcome {
    StepOutcome::Unknown { reason: "no reply".into(), output: String::new() }
}

impl World {
    /// A deployment of v2 at second 0 of a service that was well, with these rules.
    pub fn new(rules: RuleSet, before: Load, after: Load, requests_per_second: f64, seed: u64) -> Self {
        Self::with(rules, before, after, requests_per_second, seed, |_| {})
    }

    /// The same with something changed before anything is measured.
    pub fn with(
        rules: RuleSet,
        before: Load,
        after: Load,
        requests_per_second: f64,
        seed: u64,
        change: impl FnOnce(&mut World),
    ) -> Self {
        let fleet = Fleet::default();
        let now = at(2);
        let situation = fleet.situation(&service(), &environment(), now);
        let (watch, effects) = Watch::open(&deploy("v2", "e-1", 0), rules, &situation, now);
        let mut world = Self {
            now,
            fleet,
            watch,
            entries: vec![],
            facts: vec![],
            notices: vec![],
            answers: vec![],
            begun: vec![],
            permits: vec![],
            silent_sources: vec![],
            storm: None,
            others_seen_until: None,
            script: VecDeque::new(),
            step_seconds: 5,
            requests_per_second,
            loads: vec![(Timestamp::MIN, before), (at(0), after)],
            cure: before,
            outages: vec![],
            baseline_comes: true,
            rehearsals_come: true,
            would_fail: BTreeMap::new(),
            killed_in: None,
            killed: false,
            pending: vec![],
            wake: None,
            dice: Dice::new(seed),
        };
        change(&mut world);
        world.perform(effects);
        world
    }

    pub fn situation(&self) -> Situation {
        let mut situation = self.fleet.situation(&service(), &environment(), self.now);
        situation.silent_sources.clone_from(&self.silent_sources);
        situation.storm.clone_from(&self.storm);
        situation.others_seen_until = self.others_seen_until;
        situation
    }

    /// Tells the watch something now.
    pub fn tell(&mut self, input: Input) {
        let situation = self.situation();
        let effects = self.watch.on(input, &situation, self.now);
        self.perform(effects);
        if std::mem::take(&mut self.killed) {
            return self.restart();
        }
        // What is asked for now is answered now.
        while let Some(place) = self.pending.iter().position(|(due, _)| *due <= self.now) {
            let (_, input) = self.pending.remove(place);
            let situation = self.situation();
            let effects = self.watch.on(input, &situation, self.now);
            self.perform(effects);
            if std::mem::take(&mut self.killed) {
                return self.restart();
            }
        }
    }

    /// Lets time pass.
    pub fn run_to(&mut self, seconds: i64) {
        let end = at(seconds);
        loop {
            let soonest = self.pending.iter().map(|(due, _)| *due).chain(self.wake).min();
            let Some(due) = soonest.filter(|due| *due <= end) else { break };
            self.now = self.now.max(due);
            match self.pending.iter().position(|(when, _)| *when <= self.now) {
                Some(place) => {
                    let (_, input) = self.pending.remove(place);
                    self.tell(input);
                }
                None => {
                    self.wake = None;
                    self.tell(Input::Tick);
                }
            }
        }
        self.now = end;
    }

    /// The agent ends and starts again; what was on its way is lost.
    pub fn restart(&mut self) {
        self.pending.clear();
        self.wake = None;
        self.watch = Watch::restore(self.watch.id.clone(), &self.entries).unwrap();
        self.tell(Input::Restarted);
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        check_order(&effects);
        for effect in effects {
            match &mut self.killed_in {
                Some(0) => {
                    (self.killed, self.killed_in) = (true, None);
                    return;
                }
                Some(left) => *left -= 1,
                None => {}
            }
            match effect {
                Effect::Record { entry, fleet } => {
                    for fact in fleet {
                        self.fact(fact);
                    }
                    self.entries.push((self.now, entry));
                }
                Effect::MeasureBaseline { ranges } if self.baseline_comes => {
                    let input = self.baseline(&ranges);
                    self.pending.push((self.now, input));
                }
                Effect::MeasureBaseline { .. } => {}
                Effect::Measure { since } => {
                    let now = self.now;
                    let samples =
                        since.into_iter().map(|(name, from)| self.measure(&name, from, now)).collect();
                    self.pending.push((now, Input::Samples(samples)));
                }
                Effect::Rehearse(plan) => self.rehearse(&plan),
                Effect::RunStep(permit) => self.run_step(*permit),
                Effect::Notify(notice) => self.notices.push((self.now, notice)),
                Effect::Answer(answer) => self.answers.push(answer),
                Effect::WakeAt(due) => self.wake = Some(due),
                Effect::Close => self.wake = None,
            }
        }
    }

    pub fn fact(&mut self, fact: FleetEntry) {
        self.fleet.apply(&fact);
        self.facts.push(fact);
    }

    /// Tries a plan: every step works but those that a test says fail.
    fn rehearse(&mut self, plan: &RollbackPlan) {
        if !self.rehearsals_come {
            return;
        }
        let tried = |step: &Step| match self.would_fail.get(step.name.as_str()) {
            Some(reason) => Tried::Fails { reason: reason.clone() },
            None => Tried::Works { how: "in a world of tests".into() },
        };
        let steps = plan.steps.iter().map(|step| (step.name.clone(), tried(step))).collect();
        let rehearsal = Rehearsal { to: plan.to.version.clone(), steps };
        self.pending.push((self.now, Input::Rehearsed(rehearsal)));
    }

    fn run_step(&mut self, permit: Permit) {
        self.permits.push(permit.clone());
        let situation = self.situation();
        let holds = before_effect(&EffectView {
            plan: &permit.plan,
            watch: &permit.watch,
            began: permit.began,
            limit: permit.limit,
            reversibility: permit.step.reversibility,
            by_person: permit.by_person,
            situation: &situation,
            now: self.now,
        });
        let outcome = match holds.first() {
            Some(hold) => Some(StepOutcome::NotBegun { reason: hold.words.clone() }),
            None => {
                self.begun.push(permit.clone());
                self.script.pop_front().unwrap_or_else(|| Some(done()))
            }
        };
        let Some(outcome) = outcome else { return };
        let begins = !matches!(outcome, StepOutcome::NotBegun { .. });
        let due =
            if begins { Span::from_seconds(self.step_seconds as u64).after(self.now) } else { self.now };
        if matches!(outcome, StepOutcome::Done { .. }) {
            let cure = self.cure;
            self.loads.push((due, cure));
        }
        let Permit { plan, index, attempt, .. } = permit;
        self.pending.push((due, Input::StepEnded { plan, step: index, attempt, outcome }));
    }

    fn load(&self, time: Timestamp) -> Load {
        self.loads.iter().rev().find(|(from, _)| *from <= time).unwrap().1
    }

    fn baseline(&mut self, ranges: &Ranges) -> Input {
        let names: Vec<SignalName> = self.watch.rules.signals.keys().cloned().collect();
        let past = names.into_iter().map(|name| {
            let mut windows =
                |windows: Windows| windows.each().map(|one| self.measure(&name, one.from, one.to)).collect();
            let (trailing, recent) = (windows(ranges.trailing), windows(ranges.recent));
            (name, Past { trailing, recent, ..Past::default() })
        });
        Input::Baseline(past.collect())
    }

    /// What a source would say about a signal in the window.
    pub fn measure(&mut self, name: &SignalName, from: Timestamp, to: Timestamp) -> Measurement {
        let gone = self.outages.iter().any(|(begin, end)| *begin <= to && to < *end);
        let observation = if gone {
            Observation::Failed { reason: "connection refused".into() }
        } else {
            let reading = self.reading(name.as_str(), from, to);
            Observation::Seen { reading, newest: to }
        };
        Measurement::plain(name.clone(), from, to, observation)
    }

    fn reading(&mut self, name: &str, from: Timestamp, to: Timestamp) -> Reading {
        let (mut bad, mut total) = (0.0, 0.0);
        let mut counts = vec![0.0; EDGES.len() + 1];
        for second in from.as_second()..to.as_second() {
            let load = self.load(Timestamp::from_second(second).unwrap());
            if name == "availability" {
                if second % 5 == 0 {
                    total += 1.0;
                    bad += f64::from(u8::from(self.dice.unit() >= load.up));
                }
                continue;
            }
            let whole = self.requests_per_second.floor();
            let more = self.dice.unit() < self.requests_per_second - whole;
            for _ in 0..(whole as u64 + u64::from(more)) {
                total += 1.0;
                if name == "errors" {
                    bad += f64::from(u8::from(self.dice.unit() < load.errors));
                } else {
                    let took = load.slow * 0.08 * (0.6 * self.dice.normal()).exp();
                    let bucket = EDGES.iter().position(|edge| took <= *edge).unwrap_or(EDGES.len());
                    counts[bucket] += 1.0;
                }
            }
        }
        match name {
            "latency" => Reading::Buckets { bounds: EDGES.to_vec(), counts },
            _ => Reading::Counts { bad, total },
        }
    }

    // --- What tests ask --------------------------------------------------------------------------------------------

    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.watch.phase {
            Phase::Closed(outcome) => Some(outcome),
            _ => None,
        }
    }
    pub fn told(&self, kind: NoticeKind) -> usize {
        self.notices.iter().filter(|(_, notice)| notice.kind == kind).count()
    }
    pub fn titles(&self) -> Vec<String> {
        self.notices
            .iter()
            .map(|(when, notice)| {
                format!("{:>5} {:?} {}", when.as_second() - at(0).as_second(), notice.kind, notice.title)
            })
            .collect()
    }
    pub fn digest(&self) -> PlanDigest {
        self.watch.plan.as_ref().unwrap().1.clone()
    }
    pub fn approve(&mut self) {
        let digest = self.digest();
        self.tell(Input::Approved { by: "ann".into(), digest });
    }
    pub fn count(&self, wanted: impl Fn(&Entry) -> bool) -> usize {
        self.entries.iter().filter(|(_, entry)| wanted(entry)).count()
    }
    /// A newer deployment, told to fleet and watch the way the dispatcher does.
    pub fn supersede(&mut self) {
        let event = deploy("v3", "e-2", self.now.as_second() - at(0).as_second());
        let watch = WatchId::of(&event.source, &event.id, &event.service, &event.environment);
        let deployment = Deployment {
            service: service(),
            environment: environment(),
            release: event.release,
            previous: Some(release("v2")),
            at: self.now,
            source: event.source,
            sequence: None,
            changes: None,
            security_fix: false,
        };
        self.fact(FleetEntry::Deployed { deployment, watch: watch.clone() });
        self.tell(Input::Superseded(watch));
    }
    pub fn proven(&mut self, version: &str) {
        let known = KnownGood {
            release: release(version),
            ran_for: Span::from_minutes(600),
            requests: 1e6,
            at: at(-10_000),
            found_bad: None,
        };
        self.fact(FleetEntry::ProvedGood { service: service(), environment: environment(), known });
    }
    pub fn pull_kill_switch(&mut self) {
        let now = self.now;
        self.fact(FleetEntry::Stopped { reason: "drill".into(), by: "ann".into(), at: now });
    }
    pub fn release_kill_switch(&mut self) {
        let now = self.now;
        self.fact(FleetEntry::Resumed { by: "ann".into(), at: now });
    }
}

/// Nothing is done that was not written before; nothing comes after the end but an answer; one wish for a tick.
pub fn check_order(effects: &[Effect]) {
    let mut intended = None;
    for (place, effect) in effects.iter().enumerate() {
        match effect {
            Effect::Record { entry: Entry::StepIntended { step, direction, attempt }, .. } => {
                intended = Some((*step, *direction, *attempt));
            }
            Effect::RunStep(permit) => {
                assert_eq!(intended.take(), Some((permit.index, permit.direction, permit.attempt)));
            }
            Effect::Close => {
                let behind = &effects[place + 1..];
                assert!(behind.iter().all(|effect| matches!(effect, Effect::Answer(_))), "{behind:?}");
                let Some(Effect::Record { entry: Entry::Closed { .. }, .. }) = effects[..place].last() else {
                    panic!("closed without saying so: {effects:?}");
                };
            }
            _ => {}
        }
    }
    assert!(effects.iter().filter(|effect| matches!(effect, Effect::WakeAt(_))).count() <= 1);
}
