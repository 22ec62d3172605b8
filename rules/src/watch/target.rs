//! The release to return to, and why it is believed to be good.

use super::Watch;
use crate::evidence::SignalEvidence;
use crate::fleet::{KnownGood, Situation};
use crate::ids::Version;
use crate::matrix::{Leaf, SignalCondition, Truth};
use crate::signal::Role;
use crate::units::Span;

impl Watch {
    /// The release to return to and why it is believed to be good: what ran before if it is proven, else the newest
    /// release with a proof, else what ran before without one.
    pub fn target(&self, situation: &Situation, asked: Option<&Version>) -> Option<KnownGood> {
        let found_bad = |version: &Version| {
            let found = situation.found_bad.iter().rev().find(|(bad, _)| bad == version);
            found.map(|(_, why)| why.clone())
        };
        let unproven = |release: &crate::deployment::Release| KnownGood {
            release: release.clone(),
            ran_for: Span::default(),
            requests: 0.0,
            at: self.deployment.at,
            found_bad: found_bad(&release.version),
        };
        let usable = |known: &&KnownGood| known.release.version != self.deployment.release.version;
        let proven =
            |version: &Version| situation.known_good.iter().find(|known| known.release.version == *version);
        if let Some(version) = asked {
            let release = crate::deployment::Release { version: version.clone() };
            let known = proven(version).cloned().unwrap_or_else(|| unproven(&release));
            return Some(KnownGood { found_bad: found_bad(version), ..known });
        }
        let previous = self
            .deployment
            .previous
            .as_ref()
            .filter(|release| release.version != self.deployment.release.version);
        let before = previous.map(|release| {
            let proof = self.proof_by_baseline(release).filter(|_| found_bad(&release.version).is_none());
            proof.unwrap_or_else(|| unproven(release))
        });
        let remembered = previous.and_then(|release| proven(&release.version)).cloned();
        let good_enough = |known: &KnownGood| {
            let guards = &self.rules.guards;
            known.ran_for >= guards.known_good_for
                && known.requests >= f64::from(guards.known_good_requests)
                && found_bad(&known.release.version).is_none()
        };
        let best_before = [remembered, before.clone()].into_iter().flatten().find(good_enough);
        let newest = situation
            .known_good
            .iter()
            .rev()
            .filter(usable)
            .find(|known| good_enough(known) && !situation.turned_back.contains(&known.release.version));
        // A release that was found bad is the last resort, and says so: any other one with some proof is better.
        let lesser = situation.known_good.iter().rev().filter(usable).find(|known| {
            found_bad(&known.release.version).is_none()
                && !situation.turned_back.contains(&known.release.version)
        });
        let sound_before = before.clone().filter(|known| known.found_bad.is_none());
        best_before.or_else(|| newest.cloned()).or(sound_before).or_else(|| lesser.cloned()).or(before)
    }

    /// What ran before the deployment served the baseline: that is a proof of its own, as far as it was well then and
    /// ran all that time.
    fn proof_by_baseline(&self, release: &crate::deployment::Release) -> Option<KnownGood> {
        let critical = |evidence: &&SignalEvidence| evidence.signal.role == Role::Critical;
        // The past under the rows of the matrix: what ran then and was bad is no proof of anything. A row that asks for
        // "worse" as well did not hold then.
        let mut was_beyond = |leaf: Leaf<'_>| match leaf {
            Leaf::Signal(SignalCondition { name, is }) => {
                let evidence = self.evidence.signals.get(name).filter(critical);
                if evidence.is_some_and(|evidence| evidence.was_beyond(*is)) {
                    Truth::Holds
                } else {
                    Truth::Fails
                }
            }
            Leaf::Reported(_) => Truth::Fails,
        };
        if self.rules.matrix.rows.iter().any(|row| row.when.evaluate(&mut was_beyond) == Truth::Holds) {
            return None;
        }
        let known: Vec<_> =
            self.evidence.signals.values().filter(critical).filter_map(SignalEvidence::before).collect();
        let measured = known.iter().map(|before| before.span).min()?;
        let ran = self.previous_since.map_or(measured, |since| Span::between(since, self.deployment.at));
        let span = measured.min(ran);
        // Only the part of the measured requests that it can have served itself.
        let part = if measured > span { span.seconds() / measured.seconds() } else { 1.0 };
        let requests = part * known.iter().map(|before| before.share.requests).fold(0.0, f64::max);
        Some(KnownGood {
            release: release.clone(),
            ran_for: span,
            requests,
            at: self.deployment.at,
            found_bad: None,
        })
    }
}
