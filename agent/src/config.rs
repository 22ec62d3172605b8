//! The configuration: defaults < files in order < environment (`TURNBACK_API__LISTEN`) < flags.
//!
//! A person who writes a configuration makes five mistakes at once, and finds one per run with most programs. Here all
//! of them are told at once, each with file, line and key, what was expected and what to do, and nothing touches the
//! network. That is why files become trees with places first (`yaml`, `formats`, `tree`), are joined as trees
//! (`layers`, through figment) and become typed values at the end (`decode`, `settle`), after which what types cannot
//! say is checked (`semantic`): names that are referred to, selectors, runbooks, bounds against kinds of signals.
//!
//! What is not set is the safe value: the agent listens on this machine only, and observes.

mod decode;
mod fault;
mod files;
mod formats;
mod layers;
mod origins;
mod overrides;
mod report;
mod resolve;
mod semantic;
mod settle;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod yaml;

pub use report::{CheckReport, Excerpt, Problem};
pub use types::{
    ApiConfig, Config, Defaults, EventsConfig, FreezeConfig, LogFormat, LogLevel, LogSettings, Service,
    SignalConfig, SignalSourcesConfig,
};

use report::{Finding, Findings};
use rules::ids::{EnvironmentName, ServiceName};
use rules::matrix::Matrix;
use rules::ruleset::{RuleSet, SHIPPED_MATRICES, shipped_matrix};
use rules::runbook::{Runbook, RunbookUse, shipped_runbook};
use semantic::Subject;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use tree::{Node, Place};

/// Where settings come from. It cannot be printed: the environment holds secrets.
#[derive(Clone, Default)]
pub struct Inputs {
    /// Files, and directories of files, in order; the later one wins.
    pub paths: Vec<PathBuf>,
    /// The environment: all of it, since it also says where the home directory is.
    pub environment: BTreeMap<String, OsString>,
    /// Settings by flags of the command line; they win over everything.
    pub flags: Vec<Flag>,
    /// Whether the agent runs as root, whose state has another place.
    pub root: bool,
}

/// A setting by a flag of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// The flag as the person typed it: `--listen`.
    pub name: String,
    /// The key it sets: `api.listen`.
    pub key: String,
    /// The value, as text.
    pub value: String,
}

/// A configuration that is good.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings, everything filled in.
    pub config: Config,
    /// Where each came from, by key path: `file x.yaml:12`, `environment TURNBACK_…`, `flag --x` or `default`.
    pub origins: BTreeMap<String, String>,
}

impl Inputs {
    /// Files and flags, and the environment of this process.
    pub fn from_process(paths: Vec<PathBuf>, flags: Vec<Flag>) -> Self {
        let environment = std::env::vars_os()
            // A name that is not UTF-8 cannot be one of ours.
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        Self { paths, environment, flags, root: nix::unistd::geteuid().is_root() }
    }
}

/// Everything wrong with a configuration. Reads files; touches no network, no secret and no state.
pub fn check(inputs: &Inputs) -> CheckReport {
    match Config::load(inputs) {
        Ok(_) => CheckReport { problems: Vec::new(), cut: false },
        Err(report) => report,
    }
}

impl Config {
    /// Reads, joins, checks and resolves a configuration. The error is everything that is wrong with it.
    pub fn load(inputs: &Inputs) -> Result<Loaded, CheckReport> {
        let mut findings = Findings::default();
        let (mut layers, complete) = files::read_all(&inputs.paths, &mut findings);
        let environment = overrides::environment(inputs, &layers, &mut findings);
        layers.push(environment);
        layers.push(overrides::flags(&inputs.flags, &mut findings));
        let mut tree = match layers::merge(layers) {
            Ok(tree) => tree,
            Err(error) => {
                let text = format!("the layers of the configuration cannot be joined: {error}");
                findings.add(Finding::new(Place::whole(usize::MAX), &[], text));
                Node::empty_map(Place::whole(usize::MAX))
            }
        };
        let complete = resolve::read_matrix_files(&mut tree, &mut findings) && complete;
        let written = tree.clone();
        let mut removed = BTreeSet::new();
        // First without the defaults filled in, so that a mistake in them is told once and not for every service.
        let config = settle::settle(&mut tree, &mut removed, &mut findings).and_then(|_| {
            resolve::apply_defaults(&mut tree);
            settle::settle(&mut tree, &mut removed, &mut findings)
        });
        let Some(mut config) = config else {
            if findings.list.is_empty() {
                // An error without a word would look like a good configuration.
                findings.add(Finding::new(tree.at, &[], "the configuration cannot be put together"));
            }
            return Err(findings.report());
        };
        resolve::finish(&mut config, inputs);
        let matrices = config.all_matrices();
        let subject = Subject {
            config: &config,
            matrices: &matrices,
            tree: &tree,
            written: &written,
            removed: &removed,
            complete,
        };
        semantic::check(&subject, &mut findings);
        if !findings.list.is_empty() {
            return Err(findings.report());
        }
        let origins = origins::of(&config, &tree, &findings);
        Ok(Loaded { config, origins })
    }

    /// The rules for a service in an environment. What is not configured is observed, and nothing can be done.
    pub fn rule_set(&self, service: &ServiceName, environment: &EnvironmentName) -> RuleSet {
        let configured = self.services.get(service).filter(|found| found.environments.contains(environment));
        let Some(found) = configured else {
            let matrix = self.matrix(&self.defaults.matrix).unwrap_or_else(no_matrix);
            return RuleSet::unconfigured(service.clone(), environment.clone(), matrix);
        };
        RuleSet {
            service: service.clone(),
            environment: environment.clone(),
            signals: found.signals.iter().map(|(name, signal)| (name.clone(), signal.signal(name))).collect(),
            matrix: found.matrix.as_deref().and_then(|name| self.matrix(name)).unwrap_or_else(no_matrix),
            runbook: found.runbook.as_ref().and_then(|used| self.runbook(used)),
            autonomy: found.autonomy.clone(),
            watch: found.watch.clone(),
            guards: found.guards.clone(),
            statistics: found.statistics.clone(),
            patience: found.patience.clone(),
            compare: found.compare.clone(),
            depends_on: found.depends_on.clone(),
            safe_to_drill: found.safe_to_drill.contains(environment),
            contacts: found.contacts.clone(),
        }
    }

    /// A runbook as a service names it: a configured one, or one that ships with its parameters filled in. `None` if
    /// there is none, or if the values do not fit; of a loaded configuration both were checked.
    pub fn runbook(&self, used: &RunbookUse) -> Option<Runbook> {
        let shipped = || shipped_runbook(&used.name)?.fill(&used.with).ok();
        self.runbooks.get(&used.name).cloned().or_else(shipped)
    }

    fn all_matrices(&self) -> BTreeMap<String, Matrix> {
        let shipped =
            SHIPPED_MATRICES.iter().filter_map(|one| Some((one.name.to_owned(), shipped_matrix(one.name)?)));
        shipped.chain(self.matrices.clone()).collect()
    }

    /// A matrix by name: a configured one, or one that ships.
    pub fn matrix(&self, name: &str) -> Option<Matrix> {
        self.matrices.get(name).cloned().or_else(|| shipped_matrix(name))
    }
}

/// For a configuration that was put together by hand and names a matrix that does not exist: nothing is ever bad
/// enough. A loaded configuration has been checked and never gets here.
fn no_matrix() -> Matrix {
    Matrix { summary: None, rows: Vec::new() }
}
