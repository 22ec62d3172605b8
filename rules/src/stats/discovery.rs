//! Which metrics regressed.
//!
//! The decision to roll back rests on one combined number. A person who reads the report asks the next question: which
//! of the forty metrics was it? Picking every metric above its own threshold would let false ones in; e-BH bounds the
//! expected share of false ones among those named, and needs no assumption on how the metrics depend on each other.
//!
//! Source: Wang and Ramdas, "False discovery rate control with e-values" (Journal of the Royal Statistical Society B,
//! 2022).

use super::combine::admit;
use super::error::{StatsError, open_unit};

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
