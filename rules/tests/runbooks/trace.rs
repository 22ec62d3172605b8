//! What each written procedure says, place by place, and the reader that all tests share.
//!
//! A fact is covered by a step whose `from` names its place, in the order of the procedure; where the coordinated order
//! differs, the fact says why. The same question is asked of a runbook (does it hold every fact?) and of a rollback that
//! was carried out (was every fact done?).

use serde::Deserialize;
use std::collections::BTreeMap;

/// By runbook.
pub const TRACES: [(&str, &str); 5] = [
    ("hosted-front-and-api", include_str!("trace/hosted-front-and-api.yaml")),
    ("kubernetes-workers", include_str!("trace/kubernetes-workers.yaml")),
    ("hosted-promote", include_str!("trace/hosted-promote.yaml")),
    ("coordinated-back-and-front", include_str!("trace/coordinated-back-and-front.yaml")),
    ("node-service", include_str!("trace/node-service.yaml")),
];

/// What a written procedure says at one place.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Where.
    pub at: String,
    /// What, in our own words.
    pub fact: String,
    /// Why it stands elsewhere than the procedure has it.
    #[serde(default)]
    pub moved: Option<String>,
    /// What holds it, if it is no step.
    #[serde(default)]
    pub elsewhere: Option<String>,
}

/// What the procedure behind a runbook says, in its order.
#[track_caller]
pub fn said(runbook: &str) -> Vec<Said> {
    let trace = TRACES.iter().find(|(name, _)| *name == runbook);
    let (name, text) = trace.unwrap_or_else(|| panic!("{runbook} comes from no written procedure"));
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The places that a `from` names.
pub fn places(from: &str) -> Vec<String> {
    from.split("; ").map(str::to_owned).collect()
}

/// What is wrong with steps that name these places: a fact without a step, a fact too early, a place that is none.
/// `left_out` are places that need no step, because nothing there was chosen; one that has a step is a fault, too.
pub fn faults(said: &[Said], steps: &[Vec<String>], left_out: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    // What was moved for one reason was moved together, and keeps its order.
    let mut last: BTreeMap<&Option<String>, usize> = BTreeMap::new();
    for Said { at, fact, moved, elsewhere } in said {
        let first = steps.iter().position(|places| places.contains(at));
        match (first, elsewhere.is_some() || left_out.contains(&at.as_str())) {
            (None, false) => faults.push(format!("no step for {at}: {fact}")),
            (Some(_), true) => faults.push(format!("{at} is a step, and said to be none")),
            (None, true) => {}
            (Some(first), false) if last.get(moved).is_some_and(|last| first < *last) => {
                faults.push(format!("{at} comes too early"));
            }
            (Some(first), false) => drop(last.insert(moved, first)),
        }
    }
    let named =
        steps.iter().flatten().map(String::as_str).filter(|place| !place.starts_with("coordinated order: "));
    let known = |place: &str| said.iter().any(|one| one.at == place);
    faults.extend(
        named
            .chain(left_out.iter().copied())
            .filter(|place| !known(place))
            .map(|place| format!("{place} is no place of the procedure")),
    );
    faults
}
