//! Turnback's deciding half: a function from what is known to what should be done.
//!
//! # The road of one deployment
//!
//! | stage | in → out | type | file |
//! |---|---|---|---|
//! | event | news of a deployment, checked names only | [`DeployEvent`](deployment::DeployEvent) | `deployment.rs`, `ids.rs` |
//! | watch | an input and a time → effects | [`Watch`](watch::Watch) | `watch.rs`, `watch/entry.rs` (the fold) |
//! | evidence | measurements → running tests, holes included | [`Evidence`](evidence::Evidence) | `evidence.rs`, `evidence/`, `stats/` |
//! | verdict | evidence and matrix → one of four verdicts | [`Judgement`](verdict::Judgement) | `verdict.rs`, `matrix.rs`, `watch/look.rs` |
//! | decision | verdict, guards, autonomy → what is done | [`Decision`](decision::Decision) | `decision.rs`, `guard.rs`, `fleet.rs` |
//! | plan | runbook and target → immutable steps with a digest | [`RollbackPlan`](plan::RollbackPlan) | `planner.rs`, `plan.rs`, `runbook.rs`, `preset.rs`, `action.rs` |
//! | execution | the log of the steps → the next step | [`Execution`](execution::Execution) | `execution.rs`, `watch/act.rs` |
//! | verification | the same road driven again, on fresh evidence | [`VerificationResult`](watch::VerificationResult) | `watch/verify.rs` |
//! | report | the case file → words | [`WhyCard`](report::WhyCard) | `report.rs`, `report/` |
//!
//! What a service lives by is one value, [`RuleSet`](ruleset::RuleSet), copied into its watch when that opens.
//!
//! # The promise of purity
//!
//! Nothing here waits, reads a clock, rolls dice, opens a file, logs or starts a thread; time and randomness are
//! arguments. The same entries give the same watch, and the same watch and input give the same effects: today, after a
//! restart, in a backtest and in the post-mortem. The manifest and `clippy.toml` are the fence around this promise.
//!
//! # What holds
//!
//! * The record comes first: `Effect::Record` precedes every effect that it announces, and a watch is the fold of its
//!   entries. A restart applies them and decides nothing; what was decided and not carried out is carried out.
//! * A hole in the data is neither good nor bad, and moves no test. There is no default row, no default verdict, and no
//!   number that stands for "unknown".
//! * Healthy is shown by a test of its own, never concluded from the absence of alarm.
//! * A step is begun only after its intent was written, one at a time; a one-shot step is never begun twice; an unknown
//!   outcome is never taken for a failure or a success.
//! * An approval is bound to the digest of one plan, expires, and is never upgraded to an action.
//! * Nothing follows `Effect::Close`, and every plan that began also ended for the fleet.
//!
//! # What is deliberately absent
//!
//! A rollback of a rollback; a retry of a one-shot step; an action that an event could name; a way to loosen a guard of a
//! running plan; a wall clock.
//!
//! # One example
//!
//! A release that fails a fifth of its requests, watched by an agent that may only observe:
//!
//! ```
//! use rules::decision::Decision;
//! use rules::deployment::{DeployEvent, DeployKind, Release};
//! use rules::fleet::Situation;
//! use rules::ids::{EnvironmentName, ServiceName, SignalName, SourceName, Version};
//! use rules::past::Past;
//! use rules::ruleset::{RuleSet, shipped_matrix};
//! use rules::signal::{Measure, Measurement, Observation, Reading, Signal};
//! use rules::units::Span;
//! use rules::watch::{Effect, Input, NoticeKind, Watch};
//! use std::collections::BTreeMap;
//!
//! let (service, environment) = (ServiceName::new("checkout")?, EnvironmentName::new("production")?);
//! let matrix = shipped_matrix("standard").ok_or("the standard matrix ships")?;
//! let mut rules = RuleSet::unconfigured(service.clone(), environment.clone(), matrix);
//! let errors = SignalName::new("errors")?;
//! let measure = Measure::Proportion { of: "http_requests_total".into(), bad: BTreeMap::new() };
//! let signal = Signal::new(errors.clone(), "prometheus", measure);
//! rules.signals.insert(errors.clone(), signal);
//! // Nobody is there to try a quick fix first.
//! rules.patience.insert("quick-fix".into(), Span::default());
//!
//! let at: jiff::Timestamp = "2027-01-15T12:00:00Z".parse()?;
//! let event = DeployEvent {
//!     source: SourceName::new("ci")?,
//!     id: "run-42".into(),
//!     kind: DeployKind::Deployed,
//!     service,
//!     environment,
//!     release: Release { version: Version::new("v2")? },
//!     previous: Some(Release { version: Version::new("v1")? }),
//!     occurred_at: at,
//!     sequence: None,
//!     changes: None,
//!     security_fix: false,
//! };
//! let seen = |from, to, bad, total| {
//!     let reading = Reading::Counts { bad, total };
//!     Measurement::plain(errors.clone(), from, to, Observation::Seen { reading, newest: to })
//! };
//!
//! let situation = Situation::default();
//! let (mut watch, effects) = Watch::open(&event, rules, &situation, at);
//! assert!(effects.iter().any(|effect| matches!(effect, Effect::MeasureBaseline { .. })));
//!
//! // Two hours before: one percent of the requests failed.
//! let hours = |n: u64| Span::from_minutes(5 * n).before(at);
//! let past = Past::trailing((1..24).rev().map(|n| seen(hours(n + 1), hours(n), 30.0, 3_000.0)).collect());
//! let _effects = watch.on(Input::Baseline(BTreeMap::from([(errors.clone(), past)])), &situation, at);
//!
//! // Ten seconds after: a fifth of them.
//! let now = Span::from_seconds(10).after(at);
//! let effects = watch.on(Input::Samples(vec![seen(at, now, 100.0, 500.0)]), &situation, now);
//! assert_eq!(watch.decision.as_ref().map(|decided| &decided.decision), Some(&Decision::Notify));
//! let told = |kind| effects.iter().any(|effect| matches!(effect, Effect::Notify(notice) if notice.kind == kind));
//! assert!(told(NoticeKind::Degraded) && told(NoticeKind::WouldRollBack));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod action;
pub mod analysis;
pub mod attribution;
pub mod checkpoint;
pub mod compare;
pub mod decision;
pub mod deployment;
pub mod evidence;
pub mod execution;
pub mod fleet;
pub mod guard;
pub mod heartbeat;
pub mod ids;
pub mod matrix;
pub mod past;
pub mod plan;
pub mod planner;
pub mod preset;
pub mod rehearsal;
pub mod report;
pub mod ruleset;
pub mod runbook;
pub mod series;
pub mod signal;
pub mod stats;
pub mod storm;
pub mod suggest;
pub mod units;
pub mod verdict;
pub mod watch;
