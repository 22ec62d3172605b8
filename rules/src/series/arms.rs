//! One answer, told apart: canary and control by their labels, and the canary's instances among themselves.

use super::{BadSignal, Cut, Hole, compile, failed};
use crate::compare::Compare;
use crate::signal::Reading;
use regex::Regex;
use std::collections::BTreeMap;

/// Labels that name an instance where the configuration names none, in this order: Kubernetes' and Prometheus' own.
const INSTANCE_LABELS: [&str; 2] = ["pod", "instance"];

/// How series are told apart, expressions compiled once.
#[derive(Debug, Clone, Default)]
pub(super) struct Split {
    canary: Vec<(String, Regex)>,
    control: Vec<(String, Regex)>,
    instance: Option<String>,
}

/// The series of the two arms.
pub(super) struct Arms<'c, 's> {
    pub(super) canary: Vec<&'c Cut<'s>>,
    pub(super) control: Vec<&'c Cut<'s>>,
}

impl Split {
    pub(super) fn new(compare: Option<&Compare>, instance: Option<&str>) -> Result<Self, BadSignal> {
        let patterns = |patterns: &BTreeMap<String, String>, arm: &str| {
            let compiled =
                patterns.iter().map(|(label, pattern)| compile(&format!("{arm}.{label}"), pattern));
            let compiled: Result<Vec<Regex>, BadSignal> = compiled.collect();
            Ok(patterns.keys().cloned().zip(compiled?).collect())
        };
        let (canary, control) = match compare {
            Some(compare) => (patterns(&compare.canary, "canary")?, patterns(&compare.control, "control")?),
            None => (Vec::new(), Vec::new()),
        };
        Ok(Self { canary, control, instance: instance.map(str::to_owned) })
    }

    /// Whether there are two arms at all.
    pub(super) fn compares(&self) -> bool {
        !self.canary.is_empty()
    }

    /// Whether any of these series has the labels by which the arms are told apart.
    pub(super) fn applies(&self, series: &[Cut<'_>]) -> bool {
        self.compares()
            && self.canary.iter().all(|(label, _)| series.iter().any(|cut| cut.labels.contains_key(label)))
    }

    /// The series of each arm. A label that no series has is a failure: every release would look like "not there".
    pub(super) fn arms<'c, 's>(&self, series: &'c [Cut<'s>]) -> Result<Arms<'c, 's>, Hole> {
        for (label, _) in self.canary.iter().chain(&self.control) {
            if !series.is_empty() && !series.iter().any(|cut| cut.labels.contains_key(label)) {
                return failed(format!(
                    "none of {} series has the label {label:?}, by which canary and control are told apart",
                    series.len()
                ));
            }
        }
        let (canary, others): (Vec<_>, Vec<_>) =
            series.iter().partition(|cut| matches(&self.canary, cut.labels));
        let control = others.into_iter().filter(|cut| matches(&self.control, cut.labels)).collect();
        Ok(Arms { canary, control })
    }

    /// The same series by instance; empty if they cannot be told apart. With more than `most`, each stands for a group of
    /// them: leaving out a group leaves out the one.
    pub(super) fn instances<'c, 's>(
        &self,
        series: &[&'c Cut<'s>],
        most: usize,
    ) -> BTreeMap<String, Vec<&'c Cut<'s>>> {
        let named = self.instance.as_deref();
        let has = |label: &&str| series.iter().all(|cut| cut.labels.contains_key(*label));
        let Some(label) = named.into_iter().chain(INSTANCE_LABELS).find(has) else { return BTreeMap::new() };
        let mut instances: BTreeMap<String, Vec<&Cut<'_>>> = BTreeMap::new();
        for cut in series {
            instances.entry(cut.labels[label].clone()).or_default().push(*cut);
        }
        if instances.len() > most {
            instances = grouped(instances, most);
        }
        instances
    }
}

/// Whether all expressions match; a label that is not there counts as empty, as in Prometheus.
fn matches(patterns: &[(String, Regex)], labels: &BTreeMap<String, String>) -> bool {
    patterns.iter().all(|(label, pattern)| pattern.is_match(labels.get(label).map_or("", String::as_str)))
}

fn grouped<'c, 's>(
    instances: BTreeMap<String, Vec<&'c Cut<'s>>>,
    most: usize,
) -> BTreeMap<String, Vec<&'c Cut<'s>>> {
    let mut groups: BTreeMap<String, Vec<&Cut<'_>>> = BTreeMap::new();
    for (name, series) in instances {
        let group = format!("group {} of {most}", fingerprint(&name) % most as u64 + 1);
        groups.entry(group).or_default().extend(series);
    }
    groups
}

/// FNV-1a: the same name is in the same group in every window and after every restart.
fn fingerprint(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// What was observed of both arms.
pub(super) type ByInstance = BTreeMap<String, Reading>;
