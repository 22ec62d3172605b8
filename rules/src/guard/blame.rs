//! Whose fault is it? Other services were deployed at about the same time, and the onset tells them apart.

use super::{APPROVE, Hold, HoldReason, View, push};
use crate::attribution::{Blame, Candidate, Relation, Share, attribute, prior};
use crate::evidence::Finding;
use crate::units::Span;

/// Whether another service's deployment may be the cause. The earliest onset among the decisive signals counts.
pub(super) fn holds(view: &View<'_>, decisive: &[&Finding], found: &mut Vec<Hold>) {
    let onsets =
        decisive.iter().filter_map(|finding| view.evidence.signals.get(&finding.signal)?.beginning());
    let Some(began) = onsets.min_by(|a, b| a.seconds.total_cmp(&b.seconds)) else { return };
    let onset = [began.earliest, began.seconds, began.latest].map(|seconds| (seconds, 1.0 / 3.0));
    let Some(suspects) = suspects(view, &onset) else { return };
    let own = &view.rules.service;
    let words = match suspects {
        Blame::One { name, .. } if name == own.as_str() => return,
        Blame::One { name, share } => {
            format!("the deployment of {name} at that time is the likely cause ({:.0} %)", share * 100.0)
        }
        // Nothing speaks for another deployment.
        Blame::Nobody => return,
        Blame::Shared(shares) => {
            let others: Vec<&Share> = shares
                .iter()
                .filter(|share| share.name != own.as_str() && share.share >= SUSPICIOUS)
                .collect();
            if others.is_empty() {
                return;
            }
            let names: Vec<String> =
                others.iter().map(|one| format!("{} ({:.0} %)", one.name, one.share * 100.0)).collect();
            format!("other deployments at that time may be the cause: {}", names.join(", "))
        }
    };
    push(found, HoldReason::SharedBlame, APPROVE, words);
}

/// From this share on another deployment is worth a person's look.
const SUSPICIOUS: f64 = 0.1;

/// Whom the onset speaks against, if anybody else was deployed about then.
fn suspects(view: &View<'_>, onset: &[(f64, f64)]) -> Option<Blame> {
    let others = &view.situation.deployed_lately;
    if others.is_empty() {
        return None;
    }
    // A control beside the release tells the release's own part from everything else.
    let compared = view.evidence.signals.values().filter(|signal| signal.compares());
    let own_evidence = compared.filter_map(|signal| signal.worse_log_e()).reduce(f64::max);
    let own_bad = u32::try_from(view.situation.turned_back.len()).unwrap_or(u32::MAX);
    let mut candidates = vec![Candidate {
        name: view.rules.service.to_string(),
        deployed_seconds: 0.0,
        relation: Relation::SameService,
        prior: prior(own_bad, own_bad).ok()?,
        version_split_log_e: own_evidence,
    }];
    for other in others {
        let after = Span::between(view.deployment.at, other.at).seconds();
        let before = Span::between(other.at, view.deployment.at).seconds();
        let relation = match view.rules.depends_on.contains(&other.service) {
            true => Relation::Reaches(1),
            false => Relation::Unrelated,
        };
        candidates.push(Candidate {
            name: other.service.to_string(),
            deployed_seconds: after - before,
            relation,
            prior: prior(other.turned_back, other.turned_back).ok()?,
            version_split_log_e: None,
        });
    }
    attribute(&candidates, onset).ok().map(|attribution| attribution.blame())
}
