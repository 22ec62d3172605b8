//! The decision matrix: data, three-valued, without a default row.
//!
//! A condition *holds* only when the evidence puts the whole interval beyond the threshold, *fails* when the interval
//! lies wholly on the good side, and is *unknown* otherwise. `all` and `any` follow Kleene's logic, so that what is not
//! known can never make a row hold.

use crate::ids::SignalName;
use crate::units::{Quantity, Span};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// How bad it is. `P0` is the worst, and sorts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// The service is down, data or secrets are at stake.
    P0,
    /// Many users are hurt.
    P1,
    /// Some users are hurt, or many a little.
    P2,
    /// An annoyance.
    P3,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a row says should be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowVerdict {
    /// Turn back (after `first`, if the row has any).
    Rollback,
    /// Try `first`; turn back if that did not help.
    Maybe,
    /// Do not turn back: tell people.
    No,
}

/// Something to try before turning back, by people, and how long to wait for it to help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mitigation {
    /// Its name; a service can set its own patience for it by this name, `0s` to leave it out.
    pub name: String,
    /// What to do, for people.
    pub advice: String,
    /// How long to wait for it to help.
    pub patience: Span,
}

/// A row of the matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Its name, unique within the matrix.
    pub name: String,
    /// When it holds.
    pub when: Condition,
    /// How bad that is.
    pub severity: Severity,
    /// What should be done.
    pub verdict: RowVerdict,
    /// What to try before, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<Mitigation>,
    /// The kind of rollback that fits best, for the planner and for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<RollbackKind>,
    /// How soon it must be decided, from detection. `act_within` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decide_within: Option<Span>,
    /// How soon it must be over, from detection: the SLA clock.
    pub act_within: Span,
}

/// What a rollback undoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackKind {
    /// The running code: image, artefact, hosting alias.
    Code,
    /// Configuration and environment variables.
    Configuration,
    /// A feature flag.
    Flag,
    /// Queues and workers.
    Queue,
}

/// When a row holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// Every one of them.
    All(Vec<Condition>),
    /// At least one of them.
    Any(Vec<Condition>),
    /// A signal is beyond a bound.
    Signal(SignalCondition),
    /// Somebody reports it since the deployment: an alert, a test result, an incident of this name.
    Reported(String),
}

/// A bound on a signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalCondition {
    /// The signal.
    pub name: SignalName,
    /// The bound.
    pub is: Bound,
}

/// What a signal is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Bound {
    /// More than this: a share of bad events, a quantile of a latency, a level of a gauge.
    Above(Quantity),
    /// Less than this share of up samples. Only for availability.
    Below(Quantity),
    /// More than this many times the reference: the control where there is one, otherwise the time before.
    TimesBaseline(f64),
    /// Worse than the reference by more than the margin, however little that is. The reference is the control where
    /// there is one, otherwise the time before the deployment.
    Worse,
    /// The canary gets far less traffic than it ought to. Only beside a control.
    Starved,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Above(quantity) => write!(f, "> {quantity}"),
            Bound::Below(quantity) => write!(f, "< {quantity}"),
            Bound::TimesBaseline(times) => write!(f, "> {times} × the reference"),
            Bound::Worse => f.write_str("worse than the reference"),
            Bound::Starved => f.write_str("starved of traffic"),
        }
    }
}

/// Three values. `Unknown` is neither of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// Shown to be so.
    Holds,
    /// Shown not to be so.
    Fails,
    /// Not shown either way.
    Unknown,
}

impl Truth {
    /// Kleene's conjunction over any number of values; `Holds` for none.
    pub fn all(values: impl IntoIterator<Item = Truth>) -> Truth {
        values.into_iter().fold(Truth::Holds, |so_far, value| match (so_far, value) {
            (Truth::Fails, _) | (_, Truth::Fails) => Truth::Fails,
            (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
            (Truth::Holds, Truth::Holds) => Truth::Holds,
        })
    }

    /// Kleene's disjunction over any number of values; `Fails` for none.
    pub fn any(values: impl IntoIterator<Item = Truth>) -> Truth {
        values.into_iter().fold(Truth::Fails, |so_far, value| match (so_far, value) {
            (Truth::Holds, _) | (_, Truth::Holds) => Truth::Holds,
            (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
            (Truth::Fails, Truth::Fails) => Truth::Fails,
        })
    }
}

/// The decision matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// Rows of one matrix: more cannot be read by a person who has to trust it.
const MOST_ROWS: usize = 128;
/// Nesting of conditions, for the same reason; it also bounds the recursion below.
const DEEPEST_CONDITION: usize = 8;

impl Condition {
    /// Evaluates the condition over what is known of its leaves.
    pub fn evaluate(&self, leaf: &mut impl FnMut(Leaf<'_>) -> Truth) -> Truth {
        match self {
            // Every branch is evaluated, even when the value is known already: the why card shows them all.
            Condition::All(conditions) => {
                let values: Vec<Truth> = conditions.iter().map(|inner| inner.evaluate(leaf)).collect();
                Truth::all(values)
            }
            Condition::Any(conditions) => {
                let values: Vec<Truth> = conditions.iter().map(|inner| inner.evaluate(leaf)).collect();
                Truth::any(values)
            }
            Condition::Signal(condition) => leaf(Leaf::Signal(condition)),
            Condition::Reported(what) => leaf(Leaf::Reported(what)),
        }
    }

    /// Whether somebody's report of this name is asked for anywhere in this condition.
    pub fn mentions(&self, report: &str) -> bool {
        match self {
            Condition::All(conditions) | Condition::Any(conditions) => {
                conditions.iter().any(|inner| inner.mentions(report))
            }
            Condition::Signal(_) => false,
            Condition::Reported(what) => what == report,
        }
    }

    /// All bounds on signals in this condition.
    pub fn signal_conditions(&self) -> Vec<&SignalCondition> {
        match self {
            Condition::All(conditions) | Condition::Any(conditions) => {
                conditions.iter().flat_map(Condition::signal_conditions).collect()
            }
            Condition::Signal(condition) => vec![condition],
            Condition::Reported(_) => Vec::new(),
        }
    }

    fn problems(&self, at: &str, depth: usize, found: &mut Vec<(String, String)>) {
        match self {
            Condition::All(conditions) | Condition::Any(conditions) => {
                let name = if matches!(self, Condition::All(_)) { "all" } else { "any" };
                if conditions.is_empty() {
                    found.push((format!("{at}.{name}"), "is empty; list at least one condition".into()));
                }
                if depth >= DEEPEST_CONDITION {
                    let text = format!("conditions are nested more than {DEEPEST_CONDITION} deep");
                    return found.push((at.to_owned(), text));
                }
                for (number, inner) in conditions.iter().enumerate() {
                    inner.problems(&format!("{at}.{name}.{number}"), depth + 1, found);
                }
            }
            Condition::Signal(SignalCondition { is, .. }) => {
                if let Some(problem) = is.problem() {
                    found.push((format!("{at}.signal.is"), problem));
                }
            }
            Condition::Reported(what) if what.is_empty() => {
                found.push((format!("{at}.reported"), "is empty; name what is reported".into()));
            }
            Condition::Reported(_) => {}
        }
    }
}

impl Bound {
    fn problem(&self) -> Option<String> {
        match self {
            Bound::TimesBaseline(times) if !times.is_finite() || *times <= 1.0 => {
                Some(format!("times_baseline is {times}; it must be more than 1"))
            }
            Bound::Below(quantity) if quantity.value <= 0.0 || quantity.value > 1.0 => {
                Some(format!("below is {quantity}; availability is a share, between 0% and 100%"))
            }
            Bound::Above(_) | Bound::Below(_) | Bound::TimesBaseline(_) | Bound::Worse | Bound::Starved => {
                None
            }
        }
    }
}

/// What a condition asks about.
pub enum Leaf<'a> {
    /// A bound on a signal.
    Signal(&'a SignalCondition),
    /// A report of this name.
    Reported(&'a str),
}

impl Matrix {
    /// Everything wrong with the matrix, each with the path of the key at fault.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut names = BTreeSet::new();
        if self.rows.is_empty() {
            found.push(("rows".into(), "a matrix without rows never decides anything; add a row".into()));
        }
        if self.rows.len() > MOST_ROWS {
            found.push(("rows".into(), format!("{} rows; at most {MOST_ROWS} are allowed", self.rows.len())));
        }
        for (number, row) in self.rows.iter().enumerate() {
            let at = format!("rows.{number}");
            if row.name.is_empty() || !names.insert(row.name.as_str()) {
                found.push((format!("{at}.name"), format!("{:?} is empty or used twice", row.name)));
            }
            row.when.problems(&format!("{at}.when"), 0, &mut found);
            if row.act_within == Span::default() {
                found.push((format!("{at}.act_within"), "must be more than 0s".into()));
            }
            if row.decide_within.is_some_and(|decide| decide > row.act_within) {
                found.push((format!("{at}.decide_within"), "is longer than act_within".into()));
            }
            if row.verdict == RowVerdict::No && !row.first.is_empty() {
                let text = "a row that never turns back has nothing to try first; use verdict: maybe";
                found.push((format!("{at}.first"), text.into()));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kleene_tables() {
        use Truth::{Fails as F, Holds as T, Unknown as U};
        let and = [(T, T, T), (T, F, F), (T, U, U), (F, U, F), (U, U, U), (F, F, F)];
        let or = [(T, T, T), (T, F, T), (T, U, T), (F, U, U), (U, U, U), (F, F, F)];
        for (a, b, expected) in and {
            assert_eq!((Truth::all([a, b]), Truth::all([b, a])), (expected, expected));
        }
        for (a, b, expected) in or {
            assert_eq!((Truth::any([a, b]), Truth::any([b, a])), (expected, expected));
        }
    }

    #[test]
    fn problems_name_the_key() {
        let text = r#"
rows:
- { name: a, when: { any: [] }, severity: P1, verdict: no, first: [{ name: x, advice: y, patience: 1m }], act_within: 0s }
- { name: a, when: { signal: { name: errors, is: { times_baseline: 0.5 } } }, severity: P1, verdict: rollback, decide_within: 2m, act_within: 1m }
- { name: b, when: { signal: { name: up, is: { below: 200% } } }, severity: P0, verdict: rollback, act_within: 1m }
"#;
        let matrix: Matrix = serde_saphyr::from_str(text).unwrap();
        let keys: Vec<String> = matrix.problems().into_iter().map(|(key, _)| key).collect();
        let expected = [
            "rows.0.when.any",
            "rows.0.act_within",
            "rows.0.first",
            "rows.1.name",
            "rows.1.when.signal.is",
            "rows.1.decide_within",
            "rows.2.when.signal.is",
        ];
        assert_eq!(keys, expected);
    }
}
