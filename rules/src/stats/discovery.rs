//! Which metrics regressed, and whether one pod alone makes the case.
//!
//! The decision to roll back rests on one combined number. A person who reads the report asks the next question: which
//! of the forty metrics was it? Picking every metric above its own threshold would let false ones in; e-BH bounds the
//! expected share of false ones among those named, and needs no assumption on how the metrics depend on each other.
//!
//! Source: Wang and Ramdas, "False discovery rate control with e-values" (Journal of the Royal Statistical Society B,
//! 2022).

use super::combine::{admit, minimum};
use super::error::{StatsError, open_unit};

/// The evidence that is left when every single unit (pod, host, zone) is left out in turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeaveOneOut {
    /// Log e-value, nats: the smallest over the units left out; the full one when there are fewer than two units.
    pub log_e: f64,
    /// Position of the unit whose absence leaves the least. It is the one to name when the full evidence fires and
    /// this one does not. `None` with fewer than two units: a pod and its release cannot be told apart.
    pub unit: Option<usize>,
}

/// The e-BH procedure at false discovery rate `fdr`: positions, ascending, of the metrics named as regressed, given one
/// log e-value (nats; `-inf` allowed) per metric. With `K` metrics the `k*` largest are named, where `k*` is the
/// largest `k` whose k-th largest log e-value reaches `ln(K / (k fdr))`. The expected share of false names is at most
/// `fdr` under any dependence. More evidence for any metric never removes a name.
///
/// # Errors
/// When the list is empty or holds NaN or `+inf`, or `fdr` is not strictly between 0 and 1.
pub fn e_benjamini_hochberg(log_es: &[f64], fdr: f64) -> Result<Vec<usize>, StatsError> {
    admit(log_es)?;
    open_unit("the false discovery rate", fdr)?;
    let mut order: Vec<usize> = (0..log_es.len()).collect();
    order.sort_by(|&left, &right| log_es[right].total_cmp(&log_es[left]));
    let metrics = log_es.len() as f64;
    let reaches = |rank: usize| log_es[order[rank - 1]] >= (metrics / (rank as f64 * fdr)).ln();
    let named = (1..=order.len()).rev().find(|&rank| reaches(rank)).unwrap_or(0);
    order.truncate(named);
    order.sort_unstable();
    Ok(order)
}

/// The minimum over the log e-values (nats) `without[i]` of the test that leaves unit `i` out. A minimum of e-processes
/// is an e-process for "at least one of these nulls holds", so one bad host cannot fire it. `full` is the log e-value
/// over all units and the answer when fewer than two are known.
///
/// # Errors
/// When a log e-value is NaN or `+inf`.
pub fn leave_one_out(full: f64, without: &[f64]) -> Result<LeaveOneOut, StatsError> {
    admit(&[full])?;
    if without.len() < 2 {
        return Ok(LeaveOneOut { log_e: full, unit: None });
    }
    let log_e = minimum(without)?;
    Ok(LeaveOneOut { log_e, unit: without.iter().position(|&value| value == log_e) })
}
