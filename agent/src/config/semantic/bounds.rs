//! Rows of a matrix against the signals of a service: a bound that says nothing about a kind of signal never holds, and
//! nobody would notice.

use super::super::report::Findings;
use super::super::types::Service;
use super::Subject;
use super::services::has;
use rules::matrix::{Bound, Condition, SignalCondition};
use rules::signal::Measure;
use rules::units::{Quantity, Unit};

/// Adds the bounds of the service's matrix that do not fit its signals.
pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings, name: &str, service: &Service) {
    let Some((matrix_name, matrix)) =
        service.matrix.as_deref().and_then(|matrix| Some((matrix, subject.matrices.get(matrix)?)))
    else {
        return;
    };
    let own = has(subject.tree, &["matrices", matrix_name]);
    for (number, row) in matrix.rows.iter().enumerate() {
        let mut leaves = Vec::new();
        conditions(&row.when, format!("rows.{number}.when"), &mut leaves);
        for (at, SignalCondition { name: signal_name, is }) in leaves {
            let Some(signal) = service.signals.get(signal_name) else {
                continue;
            };
            let Some(problem) = misfit(&signal.measure, *is) else {
                continue;
            };
            let text = format!(
                "row `{}` compares `{signal_name}` of the service `{name}` with \"{is}\": {problem}",
                row.name
            );
            // The row can only be pointed at if it is the user's own.
            let added = match own {
                true => subject.add(findings, &["matrices", matrix_name], &format!("{at}.signal.is"), text),
                false => subject.add(
                    findings,
                    &["services", name, "signals", signal_name.as_str()],
                    "measure",
                    text,
                ),
            };
            if let Some(finding) = added {
                finding.advice = Some(format!(
                    "the matrix is `{matrix_name}`; change the bound, the kind of the signal or its name"
                ));
            }
        }
    }
}

fn conditions<'c>(condition: &'c Condition, at: String, found: &mut Vec<(String, &'c SignalCondition)>) {
    match condition {
        Condition::All(inner) | Condition::Any(inner) => {
            let key = if matches!(condition, Condition::All(_)) { "all" } else { "any" };
            for (number, inner) in inner.iter().enumerate() {
                conditions(inner, format!("{at}.{key}.{number}"), found);
            }
        }
        Condition::Signal(signal) => found.push((at, signal)),
        Condition::Reported(_) => {}
    }
}

/// Why a bound says nothing about a kind of signal.
fn misfit(measure: &Measure, bound: Bound) -> Option<String> {
    let kind = measure.kind();
    let share = |quantity: Quantity| match quantity.unit {
        Unit::Time => Some(format!("a signal of kind {kind} is a share; write for example 5%")),
        Unit::Percent | Unit::Plain if quantity.value > 1.0 => {
            Some(format!("a signal of kind {kind} is a share, never more than 100%; write for example 5%"))
        }
        Unit::Percent | Unit::Plain => None,
    };
    match (measure, bound) {
        (Measure::Proportion { .. } | Measure::Availability { .. }, Bound::Above(quantity)) => {
            share(quantity)
        }
        (Measure::Latency { .. }, Bound::Above(Quantity { unit: Unit::Percent, .. })) => {
            Some("a latency is a time; write for example 300ms".into())
        }
        (Measure::Gauge { .. }, Bound::Above(Quantity { unit: Unit::Percent, .. })) => {
            Some("a gauge is a plain number; write for example 50".into())
        }
        (Measure::Availability { .. }, Bound::Below(_)) => None,
        (_, Bound::Below(_)) => {
            Some(format!("`below` is for availability only, and the signal is of kind {kind}"))
        }
        (Measure::Availability { .. }, Bound::TimesBaseline(_)) => {
            Some("`times_baseline` says nothing about availability; use `below`".into())
        }
        (
            Measure::Proportion { .. } | Measure::Latency { .. } | Measure::Gauge { .. },
            Bound::TimesBaseline(_),
        )
        | (Measure::Latency { .. } | Measure::Gauge { .. }, Bound::Above(_))
        | (Measure::Proportion { .. }, Bound::Starved)
        | (_, Bound::Worse) => None,
        (_, Bound::Starved) => Some(format!("`starved` counts requests, and the signal is of kind {kind}")),
    }
}
