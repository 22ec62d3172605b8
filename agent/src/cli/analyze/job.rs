//! From flags and configuration to an analysis that can run. Touches no network.
//!
//! Flags win over the configuration; what neither says is chosen for a pipeline: ten minutes, a look every five seconds,
//! the matrix `canary`. Whoever names a signal on the command line wants it to count: errors, latency and availability
//! are all critical there, so that a pass needs the proof of each.

use super::args::{Args, Moment};
use crate::app::{Sampler, Sources, signal_sources};
use crate::cli::Context;
use crate::cli::exit::Failure;
use crate::clock;
use crate::config::{Config, Inputs, SignalSourcesConfig};
use crate::secrets::Secrets;
use crate::signals::SignalSource;
use crate::signals::prometheus::PrometheusConfig;
use anyhow::Context as _;
use jiff::Timestamp;
use rules::action::SecretRef;
use rules::analysis::Analysis;
use rules::compare::Compare;
use rules::deployment::{Deployment, Release};
use rules::ids::{EnvironmentName, ServiceName, SignalName, SourceName, Version};
use rules::matrix::{Condition, Matrix};
use rules::ruleset::{RuleSet, SHIPPED_MATRICES, shipped_matrix};
use rules::series::Observer;
use rules::signal::{GaugeScale, Measure, Role, Signal};
use rules::units::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// The name of the source that the flags describe.
const SOURCE: &str = "--prometheus";
/// Time between two looks.
const EVERY: Span = Span::from_seconds(5);
/// Half of the usual analysis would be lost with the five minutes of a watch.
const SOAK: Span = Span::from_minutes(2);
/// How long a release is cold.
const WARM_UP: Span = Span::from_minutes(1);
/// A Prometheus scrapes each minute unless told otherwise: once missed must not be "no data".
const MAX_SAMPLE_AGE: Span = Span::from_seconds(90);
/// Windows of a baseline: enough to see how errors scatter (20 are needed), few enough for each to have some.
const BASELINE_WINDOWS: u64 = 24;
/// The most and the least of one such window.
const BASELINE_WINDOW: (Span, Span) = (Span::from_seconds(5), Span::from_minutes(5));
/// More windows than that are refused.
const MOST_BASELINE_WINDOWS: u64 = 288;
/// A matrix is a page of text; more is another file.
const LARGEST_MATRIX: u64 = 1 << 20;
/// By how much the clocks of two machines may differ.
const CLOCK_SLACK: Span = Span::from_seconds(30);

/// An analysis with everything it needs.
pub(super) struct Job {
    pub(super) analysis: Analysis,
    pub(super) sources: BTreeMap<String, Arc<dyn SignalSource>>,
    pub(super) samplers: Vec<Sampler>,
    /// How each signal is read, and from where.
    pub(super) readers: BTreeMap<SignalName, (Arc<dyn SignalSource>, Observer)>,
    /// When somebody began to look.
    pub(super) opened: Timestamp,
    pub(super) version: Option<Version>,
}

/// What the configuration says, or what stands for it.
struct Ground {
    rules: RuleSet,
    sources: SignalSourcesConfig,
    matrices: BTreeMap<String, Matrix>,
    configured: bool,
}

/// Puts an analysis together.
///
/// # Errors
/// What is missing or contradicts itself, with what to write instead (exit code 2); a configuration that is bad (78).
pub(super) fn prepare(args: &Args, context: &Context<'_>) -> anyhow::Result<Job> {
    let now = clock::now();
    let mut ground = ground(args, context)?;
    add_source(args, &mut ground);
    add_signals(args, &mut ground)?;
    let configured = ground.configured;
    let rules = &mut ground.rules;
    set_matrix(args, rules, &ground.matrices, configured)?;
    if !args.canary.is_empty() {
        let patterns = |pairs: &[(String, String)]| pairs.iter().cloned().collect();
        let (canary, control) = (patterns(&args.canary), patterns(&args.control));
        rules.compare = Some(Compare { canary, control, with_before: args.with_before, share: args.share });
    }
    settings(args, rules, configured);
    let began = began(args, rules, configured, now)?;
    compare(args, rules, began)?;
    check(rules)?;
    if let Some(label) = &args.instance {
        rules.watch.instance = Some(label.clone());
    }
    let used: BTreeSet<&String> = rules.signals.values().map(|signal| &signal.source).collect();
    retain(&mut ground.sources, &used);
    let secrets = secrets(context);
    if let Some(name) = ground.sources.pushed.keys().next() {
        return Err(usage(format!(
            "the signal source {name} is pushed to the agent; nothing is pushed to a command line: name a source that can \
             be asked"
        )));
    }
    let Sources { all: sources, samplers, .. } =
        signal_sources(&ground.sources, &secrets).map_err(|error| Failure::usage(format!("{error:#}")))?;
    let readers = readers(rules, &sources)?;
    let deadline = args.lasting.after(began);
    let analysis = Analysis::new(ground.rules, began, deadline).opened(now);
    Ok(Job { analysis, sources, samplers, readers, opened: now, version: args.release.clone() })
}

fn usage(words: impl Into<String>) -> anyhow::Error {
    Failure::usage(words).into()
}

fn ground(args: &Args, context: &Context<'_>) -> anyhow::Result<Ground> {
    if args.config.is_empty() {
        if args.prometheus.is_none() {
            return Err(usage(
                "nothing says where the data are; write --prometheus URL, or --config FILE --service NAME",
            ));
        }
        let service = match &args.service {
            Some(service) => service.clone(),
            None => ServiceName::new("release").context("cannot name the service")?,
        };
        let environment = environment(args, None)?;
        // Replaced below: every way out of here sets a matrix.
        let matrix = Matrix { summary: None, rows: Vec::new() };
        let rules = RuleSet::unconfigured(service, environment, matrix);
        let (sources, matrices) = (SignalSourcesConfig::default(), BTreeMap::new());
        return Ok(Ground { rules, sources, matrices, configured: false });
    }
    let surroundings = context.surroundings;
    let inputs = Inputs {
        paths: args.config.clone(),
        environment: surroundings.environment.clone(),
        flags: Vec::new(),
        root: surroundings.root,
    };
    let config = Config::load(&inputs)?.config;
    let Some(name) = &args.service else { return Err(usage("--config needs --service NAME")) };
    let Some(service) = config.services.get(name) else {
        let known: Vec<&str> = config.services.keys().map(ServiceName::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(usage(format!("the configuration has no service {name}; it has {known}")));
    };
    let environment = environment(args, Some(&service.environments))?;
    let rules = config.rule_set(name, &environment);
    Ok(Ground { rules, sources: config.signals, matrices: config.matrices, configured: true })
}

fn environment(args: &Args, known: Option<&[EnvironmentName]>) -> anyhow::Result<EnvironmentName> {
    match (&args.environment, known) {
        (Some(given), Some(known)) if !known.contains(given) => {
            Err(usage(format!("the service does not run in {given}; it runs in {}", list(known))))
        }
        (Some(given), _) => Ok(given.clone()),
        (None, Some([only])) => Ok(only.clone()),
        (None, Some(known)) if !known.is_empty() => {
            Err(usage(format!("the service runs in {}; say in which with --environment", list(known))))
        }
        (None, _) => EnvironmentName::new("production").context("cannot name the environment"),
    }
}

fn list(names: &[EnvironmentName]) -> String {
    names.iter().map(EnvironmentName::as_str).collect::<Vec<_>>().join(", ")
}

fn add_source(args: &Args, ground: &mut Ground) {
    let Some(url) = &args.prometheus else { return };
    let source = PrometheusConfig {
        url: url.clone(),
        timeout: Span::from_seconds(10),
        bearer: args.bearer_env.clone().map(SecretRef::Env),
        basic: None,
        headers: args.header.iter().cloned().collect(),
        secret_headers: BTreeMap::new(),
        settle: args.settle.unwrap_or(Span::from_seconds(2)),
    };
    ground.sources.prometheus.insert(SOURCE.into(), source);
}

/// The signals of the flags, under the names that the matrices that ship use.
fn add_signals(args: &Args, ground: &mut Ground) -> anyhow::Result<()> {
    let bad = args.bad.iter().cloned().collect();
    let quantile = args.quantile.unwrap_or(0.95);
    let given = [
        ("errors", args.errors.clone().map(|of| Measure::Proportion { of, bad })),
        ("latency", args.latency.clone().map(|buckets| Measure::Latency { buckets, quantile })),
        ("availability", args.availability.clone().map(|up| Measure::Availability { up })),
        (
            "queue_depth",
            args.gauge.clone().map(|value| Measure::Gauge { value, scale: GaugeScale::default() }),
        ),
    ];
    for (name, measure) in given {
        let Some(measure) = measure else { continue };
        let name = SignalName::new(name).context("cannot name a signal")?;
        let before = ground.rules.signals.get(&name);
        let source = match (&args.prometheus, before) {
            (Some(_), _) => SOURCE.to_owned(),
            (None, Some(before)) => before.source.clone(),
            (None, None) => {
                return Err(usage(format!("nothing says where to read {name} from; write --prometheus URL")));
            }
        };
        let role = match measure {
            Measure::Gauge { .. } => Role::Supporting,
            _ => Role::Critical,
        };
        let mut signal = Signal { role, ..Signal::new(name.clone(), source, measure) };
        if !matches!(signal.measure, Measure::Availability { .. }) {
            signal.targets = args.targets.clone();
        }
        ground.rules.signals.insert(name, signal);
    }
    let signals = &ground.rules.signals;
    if signals.is_empty() {
        return Err(usage(
            "nothing says what to look at; write --errors SELECTOR --bad LABEL=REGEX, --latency SELECTOR or \
             --availability SELECTOR",
        ));
    }
    if signals.values().all(|signal| signal.role != Role::Critical) {
        return Err(usage(
            "no signal is critical, so none could show that the release is well; add --errors, --latency or \
             --availability",
        ));
    }
    Ok(())
}

fn set_matrix(
    args: &Args,
    rules: &mut RuleSet,
    configured: &BTreeMap<String, Matrix>,
    keep: bool,
) -> anyhow::Result<()> {
    let Some(name) = args.matrix.as_deref().or((!keep).then_some("canary")) else { return Ok(()) };
    rules.matrix = match configured.get(name).cloned().or_else(|| shipped_matrix(name)) {
        Some(matrix) => matrix,
        None => read_matrix(name)?,
    };
    let asks = |condition: &Condition| {
        let names = condition.signal_conditions().into_iter().map(|condition| &condition.name);
        names.into_iter().any(|name| rules.signals.contains_key(name))
    };
    if !rules.matrix.rows.iter().any(|row| asks(&row.when)) {
        let signals: Vec<&str> = rules.signals.keys().map(SignalName::as_str).collect();
        return Err(usage(format!(
            "the matrix {name} asks about none of the signals {}",
            signals.join(", ")
        )));
    }
    Ok(())
}

fn read_matrix(name: &str) -> anyhow::Result<Matrix> {
    let shipped: Vec<&str> = SHIPPED_MATRICES.iter().map(|matrix| matrix.name).collect();
    let path = Path::new(name);
    if !path.exists() {
        let shipped = shipped.join(", ");
        return Err(usage(format!("there is no matrix and no file {name:?}; {shipped} ship with Turnback")));
    }
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_MATRIX).read_to_string(&mut text));
    read.map_err(|error| usage(format!("cannot read the matrix {name}: {error}")))?;
    let matrix: Matrix = serde_saphyr::from_str(&text)
        .map_err(|error| usage(format!("the matrix {name} cannot be used: {error}")))?;
    match matrix.problems().as_slice() {
        [] => Ok(matrix),
        problems => {
            let lines: Vec<String> =
                problems.iter().map(|(key, problem)| format!("{key} {problem}")).collect();
            Err(usage(format!("the matrix {name} cannot be used: {}", lines.join("; "))))
        }
    }
}

/// Flags over what is configured, and what suits a pipeline over a watch's defaults.
fn settings(args: &Args, rules: &mut RuleSet, configured: bool) {
    let watch = &mut rules.watch;
    let part = |parts: u64| Span::from_milliseconds(args.lasting.milliseconds() / parts);
    let choose = |flag: Option<Span>, kept: Span, usual: Span| match flag {
        Some(flag) => flag,
        None if configured => kept,
        None => usual,
    };
    watch.watch_for = args.lasting;
    watch.look_every = choose(args.every, watch.look_every.min(EVERY), EVERY);
    // What was configured for a watch of an hour must not outlast an analysis of minutes.
    watch.soak = args.soak.unwrap_or(choose(None, watch.soak, SOAK).min(part(2)));
    watch.warm_up = args.warm_up.unwrap_or(choose(None, watch.warm_up, WARM_UP).min(part(5)));
    watch.max_sample_age = choose(args.max_sample_age, watch.max_sample_age, MAX_SAMPLE_AGE);
    watch.blind_after = args.blind_after.unwrap_or(watch.blind_after);
    watch.baseline_gap = args.gap.unwrap_or(watch.baseline_gap);
    if let Some(before) = args.before.or((!configured).then_some(watch.baseline_span)) {
        let window = |windows: u64| Span::from_milliseconds(before.milliseconds() / windows + 1);
        let (least, most) = BASELINE_WINDOW;
        let usual = Span::from_milliseconds(before.milliseconds() / BASELINE_WINDOWS);
        watch.baseline_span = before;
        watch.baseline_window = usual.clamp(least, most).max(window(MOST_BASELINE_WINDOWS)).min(before);
    }
    // Beside a control earlier days tell nothing, and to read them takes time that a pipeline waits for.
    let gauge = rules.signals.values().any(|signal| matches!(signal.measure, Measure::Gauge { .. }));
    if rules.compare.as_ref().is_some_and(|compare| !compare.with_before) && !gauge {
        watch.seasonal_days = 0;
    }
    let statistics = &mut rules.statistics;
    statistics.alpha = args.alpha.unwrap_or(statistics.alpha);
    statistics.beta = args.beta.unwrap_or(statistics.beta);
    statistics.margin = args.margin.unwrap_or(statistics.margin);
    statistics.dispersion = args.dispersion.or(statistics.dispersion);
}

/// When what is judged began. Without a canary somebody has to say where "before" ends.
fn began(args: &Args, rules: &RuleSet, configured: bool, now: Timestamp) -> anyhow::Result<Timestamp> {
    match args.deployed_at {
        Some(Moment::At(at)) if at > CLOCK_SLACK.after(now) => {
            Err(usage(format!("--deployed-at is in the future: {at}, and now it is {now:.0}")))
        }
        Some(Moment::At(at)) => Ok(at.min(now)),
        Some(Moment::Now) => Ok(now),
        None if rules.compare.is_some() || configured => Ok(now),
        None => Err(usage(
            "nothing says what to compare with; write --canary LABEL=REGEX for a canary beside its control, or \
             --deployed-at TIME (or now) for after against before",
        )),
    }
}

/// Fills the releases in.
fn compare(args: &Args, rules: &mut RuleSet, at: Timestamp) -> anyhow::Result<()> {
    let Some(compare) = &rules.compare else { return Ok(()) };
    let mut patterns = compare.canary.values().chain(compare.control.values());
    if args.release.is_none() && patterns.any(|pattern| pattern.contains("{{version}}")) {
        return Err(usage("canary and control are told apart by {{version}}; say which with --version"));
    }
    let unknown = || Version::new("unknown").context("cannot name the release");
    let version = args.release.clone().map_or_else(unknown, Ok)?;
    let deployment = Deployment {
        service: rules.service.clone(),
        environment: rules.environment.clone(),
        release: Release { version },
        previous: args.previous.clone().map(|version| Release { version }),
        at,
        source: SourceName::new("analyze").context("cannot name the source")?,
        sequence: None,
        changes: None,
        security_fix: false,
    };
    rules.compare = Some(compare.of(&deployment));
    Ok(())
}

/// Everything wrong with the numbers, under the names of the flags.
fn check(rules: &RuleSet) -> anyhow::Result<()> {
    let compare = rules.compare.iter().flat_map(Compare::problems);
    let problems = rules.watch.problems().into_iter().chain(rules.statistics.problems()).chain(compare);
    let lines: Vec<String> = problems
        .map(|(key, problem)| {
            let flag = match key.as_str() {
                "watch_for" => "for",
                "look_every" => "every",
                "baseline_span" | "baseline_window" => "before",
                key => key,
            };
            format!("--{} {problem}", flag.replace('_', "-"))
        })
        .collect();
    if lines.is_empty() { Ok(()) } else { Err(usage(lines.join("; "))) }
}

/// Sources that nobody asks need no secrets and no sampling.
fn retain(sources: &mut SignalSourcesConfig, used: &BTreeSet<&String>) {
    let SignalSourcesConfig { prometheus, scrape, probe, pushed } = sources;
    prometheus.retain(|name, _| used.contains(name));
    scrape.retain(|name, _| used.contains(name));
    probe.retain(|name, _| used.contains(name));
    pushed.retain(|name, _| used.contains(name));
}

fn secrets(context: &Context<'_>) -> Secrets {
    let environment = &context.surroundings.environment;
    let text =
        |(name, value): (&String, &std::ffi::OsString)| Some((name.clone(), value.to_str()?.to_owned()));
    Secrets::from_variables(environment.iter().filter_map(text).collect())
}

type Readers = BTreeMap<SignalName, (Arc<dyn SignalSource>, Observer)>;

fn readers(rules: &RuleSet, sources: &BTreeMap<String, Arc<dyn SignalSource>>) -> anyhow::Result<Readers> {
    let (compare, instance) = (rules.compare.as_ref(), rules.watch.instance.as_deref());
    let reader = |(name, signal): (&SignalName, &Signal)| {
        let source = sources.get(&signal.source);
        let source = source.ok_or_else(|| usage(format!("there is no signal source {}", signal.source)))?;
        let observer = Observer::comparing(signal, compare, instance);
        let observer = observer.map_err(|problem| usage(format!("the signal {name}: {problem}")))?;
        Ok((name.clone(), (Arc::clone(source), observer)))
    };
    rules.signals.iter().map(reader).collect()
}
