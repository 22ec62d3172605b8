//! Whose fault is it? Blame among deployments that overlap in time.
//!
//! Two services deploy within five minutes and a third one starts to fail. Rolling back the wrong one costs a release
//! and repairs nothing; rolling back both costs two. Four things speak for or against a candidate `d`, and multiply:
//!
//! ```text
//! score_d = prior_d * sum_s q(s) K(s - t_d) * T(d) * E_d
//! K(u) = 0 for u < -30 s,  1 for -30 s <= u <= 120 s,  exp(-(u - 120 s)/600 s) after
//! ```
//!
//! * the history of this service's releases, [`prior`];
//! * time: `q(s)` is the posterior of the onset ([`Onset::weights`](crate::stats::Onset::weights)), `t_d` the
//!   deployment. What began more than half a minute before a deployment is not its fault; the half minute pays for
//!   clocks and scrape intervals;
//! * topology: how the deployed service relates to the one with the symptom, [`Relation`];
//! * the only evidence that can separate two simultaneous deployments: pods, or requests, of the new version against
//!   those of the old one. It is an e-value, capped at a million so that nothing else becomes irrelevant.
//!
//! "Nobody" stands as a candidate too, with 0.05 times the mean of the time terms: the prior of a service without a
//! record. So a deployment that merely happened at the right time is suspected, never blamed. Blame takes nine tenths
//! of the sum AND ten times the runner-up; everything else is shared, and the answer to that is to pause, not to guess.
//!
//! This is a ranking, not a test: no error probability is attached to it. Similar in spirit to the temporal and spatial
//! correlation of Gandalf (Li et al., "Gandalf: an intelligent, end-to-end analytics service for safe deployment in
//! large-scale cloud infrastructure", NSDI 2020).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::stats::{StatsError, finite, within};

/// How long before a deployment an onset still counts as after it, seconds: clock skew and scrape intervals.
const EARLY_SECONDS: f64 = 30.0;

/// How long after a deployment an onset is as plausible as at once, seconds: pods start, caches run cold.
const PROMPT_SECONDS: f64 = 120.0;

/// Decay of the plausibility after that, seconds.
const FADE_SECONDS: f64 = 600.0;

/// Topology factor of each hop from the symptom's service to the deployed one.
const PER_HOP: f64 = 0.5;

/// Topology factor of a caller: it can overload what it calls, but rarely does.
const CALLER: f64 = 0.1;

/// Topology factor without a known path: shared nodes, queues and databases exist. Also the floor for long paths.
const UNRELATED: f64 = 0.02;

/// `ln` of the most that version-split evidence may count, one million.
const MOST_LOG_E: f64 = 13.815_510_557_964_274;

/// The prior of "nobody": that of a service with no deployment on record.
const NOBODY: f64 = 0.05;

/// Share of the whole that blame takes.
const BLAME_SHARE: f64 = 0.9;

/// Lead over the runner-up that blame takes.
const BLAME_LEAD: f64 = 10.0;

/// Most candidates: more deployments than that within one onset is a redeployed cluster, and no ranking helps.
const MOST_CANDIDATES: usize = 256;

/// Most points of an onset posterior; a full ring has under a hundred.
const MOST_POINTS: usize = 4_096;

/// How the deployed service relates to the service that shows the symptom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// It is the same one: factor 1.
    SameService,
    /// The symptom's service reaches the deployed one over this many calls, caller to callee: factor `0.5^hops`, at
    /// least that of an unrelated one. 0 is the same service.
    Reaches(u32),
    /// The deployed service calls the one with the symptom: factor 0.1.
    CallerOf,
    /// No path is known: factor 0.02.
    Unrelated,
}

/// A deployment, configuration change or flag change that may be to blame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// What to call it; distinct within one attribution.
    pub name: String,
    /// When it was deployed, seconds on the clock of the onset posterior.
    pub deployed_seconds: f64,
    /// Where it stands to the service with the symptom.
    pub relation: Relation,
    /// How often its deployments are bad, above 0 and at most 1; see [`prior`].
    pub prior: f64,
    /// Log e-value, nats, of new against old version: pods of this deployment, or requests that passed through it.
    /// `-inf` is allowed. `None` when there is no such split, which counts as an e-value of 1.
    pub version_split_log_e: Option<f64>,
}

/// One candidate's part of the blame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The candidate's name.
    pub name: String,
    /// Its score over the sum of all scores, "nobody" included; 0 to 1.
    pub share: f64,
}

/// All scores, normalised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribution {
    /// Every candidate, the most suspect first, by name where shares are equal.
    pub shares: Vec<Share>,
    /// The share of "none of them". 1 when no candidate is possible.
    pub nobody: f64,
}

/// The conclusion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// One candidate has nine tenths of the sum and ten times the runner-up.
    One {
        /// The candidate's name.
        name: String,
        /// Its share, at least 0.9.
        share: f64,
    },
    /// Undecided: the candidates with any share, the most suspect first. What is missing to 1 is "nobody".
    Shared(Vec<Share>),
    /// None of the candidates, by the same two conditions, or none was possible.
    Nobody,
}

/// Why an attribution was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AttributionError {
    /// A candidate has a number that makes no sense.
    #[error("the candidate {name:?} for the blame: {source}")]
    Candidate {
        /// Its name.
        name: String,
        /// What is wrong.
        source: StatsError,
    },
    /// Two candidates share a name.
    #[error("two candidates for the blame are called {name:?}: give each a name of its own")]
    SameName {
        /// The name.
        name: String,
    },
    /// The posterior of the onset makes no sense.
    #[error("the posterior of the onset: {0}")]
    Onset(#[source] StatsError),
    /// More than can be ranked sensibly.
    #[error("{found} {what}: expected at most {expected}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

impl Relation {
    /// The topology factor `T`, 0.02 to 1.
    #[must_use]
    pub fn factor(self) -> f64 {
        match self {
            Self::SameService => 1.0,
            // Beyond 64 hops the power is far below the floor.
            Self::Reaches(hops) => PER_HOP.powi(hops.min(64) as i32).max(UNRELATED),
            Self::CallerOf => CALLER,
            Self::Unrelated => UNRELATED,
        }
    }
}

impl Attribution {
    /// Who is to blame, if anybody.
    #[must_use]
    pub fn blame(&self) -> Blame {
        let first = self.shares.first();
        let leads = |share: f64, others: f64| share >= BLAME_SHARE && share >= BLAME_LEAD * others;
        let share_of = |position: usize| self.shares.get(position).map_or(0.0, |share| share.share);
        if leads(self.nobody, share_of(0)) {
            return Blame::Nobody;
        }
        match first {
            Some(one) if leads(one.share, share_of(1).max(self.nobody)) => {
                Blame::One { name: one.name.clone(), share: one.share }
            }
            _ => Blame::Shared(self.shares.iter().filter(|share| share.share > 0.0).cloned().collect()),
        }
    }
}

/// How often deployments of a service are bad, judged by its record: `(1 + bad) / (20 + deployments)`, one in twenty
/// before anything is known. Dimensionless, above 0 and at most 1.
///
/// # Errors
/// When there are more bad deployments than deployments.
pub fn prior(bad: u32, deployments: u32) -> Result<f64, StatsError> {
    if bad > deployments {
        let (quantity, expected) = ("the number of bad deployments", "at most the number of deployments");
        return Err(StatsError::OutOfRange { quantity, value: bad.into(), expected });
    }
    Ok((1.0 + f64::from(bad)) / (20.0 + f64::from(deployments)))
}

/// The time kernel `K`: how plausible an onset `seconds_after` a deployment is, 0 to 1.
#[must_use]
pub fn time_kernel(seconds_after: f64) -> f64 {
    if seconds_after < -EARLY_SECONDS {
        0.0
    } else if seconds_after <= PROMPT_SECONDS {
        1.0
    } else {
        (-(seconds_after - PROMPT_SECONDS) / FADE_SECONDS).exp()
    }
}

/// Shares the blame for one symptom among `candidates`, given the posterior of its onset as (seconds, weight) points;
/// the weights, zero or more, are divided by their sum. The order of the candidates changes nothing, not even the last
/// bit.
///
/// # Errors
/// When the posterior is empty, has no weight or a number that is not finite: an unknown onset cannot be attributed.
/// When a candidate's time is not finite, its prior is outside (0, 1\], its evidence is NaN or `+inf`, or two have the
/// same name. When there are more than 256 candidates or 4 096 points.
pub fn attribute(candidates: &[Candidate], onset: &[(f64, f64)]) -> Result<Attribution, AttributionError> {
    limit("candidates for the blame", candidates.len(), MOST_CANDIDATES)?;
    limit("points of an onset posterior", onset.len(), MOST_POINTS)?;
    let weight = onset_weight(onset).map_err(AttributionError::Onset)?;
    let mut names = BTreeSet::new();
    let mut scored = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let name = candidate.name.clone();
        let log_e = admit(candidate).map_err(|source| AttributionError::Candidate { name, source })?;
        if !names.insert(&candidate.name) {
            return Err(AttributionError::SameName { name: candidate.name.clone() });
        }
        let at = |&(seconds, part): &(f64, f64)| part * time_kernel(seconds - candidate.deployed_seconds);
        let kernel = onset.iter().map(at).sum::<f64>() / weight;
        let score = candidate.prior * kernel * candidate.relation.factor() * log_e.min(MOST_LOG_E).exp();
        scored.push((candidate, kernel, score));
    }
    // In one order whatever the caller's was, so that the sums below round the same way.
    scored.sort_by(|left, right| right.2.total_cmp(&left.2).then_with(|| left.0.name.cmp(&right.0.name)));
    let mean_kernel = scored.iter().map(|scored| scored.1).sum::<f64>() / scored.len().max(1) as f64;
    let nobody = NOBODY * mean_kernel;
    let sum = nobody + scored.iter().map(|scored| scored.2).sum::<f64>();
    if sum <= 0.0 {
        let none =
            |(candidate, ..): &(&Candidate, f64, f64)| Share { name: candidate.name.clone(), share: 0.0 };
        return Ok(Attribution { shares: scored.iter().map(none).collect(), nobody: 1.0 });
    }
    let share = |(candidate, _, score): (&Candidate, f64, f64)| Share {
        name: candidate.name.clone(),
        share: score / sum,
    };
    Ok(Attribution { shares: scored.into_iter().map(share).collect(), nobody: nobody / sum })
}

fn limit(what: &'static str, found: usize, expected: usize) -> Result<(), AttributionError> {
    if found > expected { Err(AttributionError::TooMany { what, expected, found }) } else { Ok(()) }
}

/// The sum of the weights, after checking every point.
fn onset_weight(onset: &[(f64, f64)]) -> Result<f64, StatsError> {
    if onset.is_empty() {
        return Err(StatsError::Empty { quantity: "onset times" });
    }
    for &(seconds, weight) in onset {
        finite("an onset time in seconds", seconds)?;
        within("the weight of an onset time", weight, weight >= 0.0, "zero or more")?;
    }
    let sum = onset.iter().map(|point| point.1).sum();
    within("the sum of the weights of the onset times", sum, sum > 0.0, "a positive number")
}

/// Checks the numbers of a candidate and gives its log e-value, 0 when there is none.
fn admit(candidate: &Candidate) -> Result<f64, StatsError> {
    finite("the time of the deployment in seconds", candidate.deployed_seconds)?;
    let prior = candidate.prior;
    within("the prior", prior, prior > 0.0 && prior <= 1.0, "a number above 0 and at most 1")?;
    match candidate.version_split_log_e {
        None => Ok(0.0),
        Some(f64::NEG_INFINITY) => Ok(f64::NEG_INFINITY),
        Some(log_e) => finite("the log e-value of new against old version", log_e),
    }
}
