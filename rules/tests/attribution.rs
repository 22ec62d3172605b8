//! Who is to blame: the cases people meet, and the laws.

#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

use proptest::prelude::*;
use rules::attribution::{Blame, Candidate, Relation, attribute, prior, time_kernel};

fn candidate(name: &str, deployed_seconds: f64, relation: Relation, log_e: Option<f64>) -> Candidate {
    let prior = prior(0, 0).unwrap();
    Candidate { name: name.into(), deployed_seconds, relation, prior, version_split_log_e: log_e }
}

/// An onset known to within 20 seconds.
fn at(seconds: f64) -> Vec<(f64, f64)> {
    vec![(seconds - 10.0, 0.3), (seconds, 0.4), (seconds + 10.0, 0.3)]
}

fn blame(candidates: &[Candidate], onset: f64) -> Blame {
    attribute(candidates, &at(onset)).unwrap().blame()
}

#[track_caller]
fn blames(blame: &Blame, expected: &str) {
    assert!(matches!(blame, Blame::One { name, .. } if name == expected), "{blame:?}");
}

#[track_caller]
fn shared(blame: &Blame) -> Vec<&str> {
    match blame {
        Blame::Shared(shares) => shares.iter().map(|share| share.name.as_str()).collect(),
        other => panic!("expected shared blame, found {other:?}"),
    }
}

use Relation::{CallerOf, Reaches, SameService, Unrelated};

#[test]
fn two_services_deployed_at_the_same_time_share_the_blame_until_a_version_split_decides() {
    let orders = candidate("orders", 0.0, SameService, None);
    let payments = candidate("payments", 0.0, Reaches(1), None);
    assert_eq!(shared(&blame(&[payments.clone(), orders.clone()], 30.0)), ["orders", "payments"]);
    // Requests through the new version of the dependency fail, those through the old one do not.
    let proven = Candidate { version_split_log_e: Some(9.0), ..payments.clone() };
    let innocent = Candidate { version_split_log_e: Some(-3.0), ..orders.clone() };
    blames(&blame(&[proven.clone(), orders.clone()], 30.0), "payments");
    blames(&blame(&[proven.clone(), innocent], 30.0), "payments");
    // Both are proven: two bad deployments are not one.
    let both = Candidate { version_split_log_e: Some(9.0), ..orders };
    assert_eq!(shared(&blame(&[both, proven], 30.0)), ["orders", "payments"]);
}

#[test]
fn what_began_before_a_deployment_is_not_its_fault() {
    let late = candidate("late", 600.0, SameService, None);
    assert_eq!(blame(std::slice::from_ref(&late), 300.0), Blame::Nobody);
    let certain = Candidate { version_split_log_e: Some(1e9), ..late.clone() };
    assert_eq!(blame(&[certain], 300.0), Blame::Nobody, "no evidence outweighs time");
    let early = candidate("early", 280.0, SameService, None);
    assert_eq!(shared(&blame(&[late.clone(), early.clone()], 300.0)), ["early"]);
    let proven = Candidate { version_split_log_e: Some(6.0), ..early };
    blames(&blame(&[late, proven], 300.0), "early");
    // The clocks may differ by half a minute.
    let skewed = candidate("skewed", 315.0, SameService, Some(6.0));
    blames(&blame(&[skewed], 300.0), "skewed");
}

#[test]
fn a_dependency_outranks_a_caller_and_a_stranger() {
    let suspects = [
        ("stranger", Unrelated),
        ("caller", CallerOf),
        ("far", Reaches(3)),
        ("near", Reaches(1)),
        ("self", SameService),
    ];
    let suspects: Vec<_> =
        suspects.into_iter().map(|(name, relation)| candidate(name, 0.0, relation, None)).collect();
    assert_eq!(shared(&blame(&suspects, 60.0)), ["self", "near", "far", "caller", "stranger"]);
    let far = candidate("far", 0.0, Reaches(3), Some(7.0));
    let stranger = candidate("stranger", 0.0, Unrelated, Some(7.0));
    assert_eq!(
        shared(&blame(&[stranger.clone(), far.clone()], 60.0)),
        ["far", "stranger"],
        "six times is not ten"
    );
    blames(&blame(&[Candidate { version_split_log_e: Some(6.0), ..stranger }, far], 60.0), "far");
    assert_eq!(Reaches(0).factor(), SameService.factor());
    assert_eq!(Reaches(u32::MAX).factor(), Unrelated.factor(), "a long path is not less than none");
    let alone = candidate("stranger", 0.0, Unrelated, None);
    assert_eq!(
        blame(&[alone], 60.0),
        Blame::Nobody,
        "an unrelated deployment at the right time is no suspect"
    );
}

#[test]
fn timing_alone_makes_a_suspect_and_no_culprit() {
    assert_eq!(shared(&blame(&[candidate("only", 0.0, SameService, None)], 30.0)), ["only"]);
    blames(&blame(&[candidate("only", 0.0, SameService, Some(5.0))], 30.0), "only");
    // Nine tenths are not enough with a runner-up closer than ten times: e^2.5 = 12 gives 0.92 against 0.08.
    let near = attribute(&[candidate("only", 0.0, SameService, Some(9.5_f64.ln()))], &at(30.0)).unwrap();
    assert!((near.shares[0].share - 9.5 / 10.5).abs() < 1e-12 && near.shares[0].share > 0.9);
    assert_eq!(shared(&near.blame()), ["only"]);
    assert_eq!(blame(&[], 30.0), Blame::Nobody);
    assert_eq!(
        blame(&[candidate("exonerated", 0.0, SameService, Some(f64::NEG_INFINITY))], 30.0),
        Blame::Nobody
    );
}

#[test]
fn the_record_of_a_service_counts() {
    assert_eq!(prior(0, 0), Ok(0.05));
    assert_eq!(prior(9, 80), Ok(0.1));
    assert!(prior(3, 2).is_err());
    let clean = Candidate { prior: prior(0, 180).unwrap(), ..candidate("clean", 0.0, SameService, None) };
    let known = Candidate { prior: prior(19, 20).unwrap(), ..candidate("known", 0.0, SameService, None) };
    let found = attribute(&[clean, known], &at(30.0)).unwrap();
    assert_eq!(found.shares[0].name, "known");
    assert!((found.shares[0].share / found.shares[1].share - 100.0).abs() < 1e-9);
}

#[test]
fn the_kernel_is_the_stated_one() {
    for (after, expected) in
        [(-30.001, 0.0), (-30.0, 1.0), (0.0, 1.0), (120.0, 1.0), (720.0, 1.0 / std::f64::consts::E)]
    {
        assert!((time_kernel(after) - expected).abs() < 1e-12, "{after}");
    }
    // Half the posterior before the deployment halves the score, and evidence counts a million at most.
    let split = [(-100.0, 1.0), (60.0, 1.0)];
    let found = attribute(&[candidate("half", 0.0, SameService, Some(50.0))], &split).unwrap();
    let expected = 0.05 * 0.5 * 1e6 / (0.05 * 0.5 * 1e6 + 0.05 * 0.5);
    assert!((found.shares[0].share - expected).abs() < 1e-12);
}

#[test]
fn nonsense_is_refused_by_name() {
    let fine = candidate("orders", 0.0, SameService, None);
    let refused = |broken: Candidate| attribute(&[fine.clone(), broken], &at(0.0)).unwrap_err().to_string();
    let named = |name: &str| Candidate { name: name.into(), ..fine.clone() };
    assert!(refused(named("orders")).contains("two candidates for the blame are called \"orders\""));
    for broken in [
        Candidate { deployed_seconds: f64::NAN, ..named("x") },
        Candidate { prior: 0.0, ..named("x") },
        Candidate { prior: 1.1, ..named("x") },
        Candidate { version_split_log_e: Some(f64::NAN), ..named("x") },
        Candidate { version_split_log_e: Some(f64::INFINITY), ..named("x") },
    ] {
        assert!(refused(broken).contains("\"x\""));
    }
    let point =
        |points: &[(f64, f64)]| attribute(std::slice::from_ref(&fine), points).unwrap_err().to_string();
    for points in [&[][..], &[(0.0, 0.0)], &[(f64::NAN, 1.0)], &[(0.0, -1.0)], &[(0.0, f64::INFINITY)]] {
        assert!(point(points).contains("the posterior of the onset"), "{points:?}");
    }
    let crowd: Vec<_> = (0..257).map(|i| candidate(&i.to_string(), 0.0, SameService, None)).collect();
    assert!(attribute(&crowd, &at(0.0)).unwrap_err().to_string().contains("at most 256"));
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let relation =
        prop_oneof![Just(SameService), (0_u32..9).prop_map(Reaches), Just(CallerOf), Just(Unrelated)];
    let one = (-2_000.0_f64..2_000.0, relation, 0.001_f64..=1.0, prop::option::of(-20.0_f64..20.0));
    prop::collection::vec(one, 0..8).prop_map(|all| {
        let named = |(i, (deployed_seconds, relation, prior, version_split_log_e))| Candidate {
            name: format!("service-{i}"),
            deployed_seconds,
            relation,
            prior,
            version_split_log_e,
        };
        all.into_iter().enumerate().map(named).collect()
    })
}

fn points() -> impl Strategy<Value = Vec<(f64, f64)>> {
    prop::collection::vec((-2_000.0_f64..2_000.0, 0.001_f64..1.0), 1..30)
}

proptest! {
    #[test]
    fn shares_sum_to_one_and_the_order_of_candidates_changes_nothing(
        all in candidates(), onset in points(), turn in 0_usize..8,
    ) {
        let found = attribute(&all, &onset).unwrap();
        let sum = found.nobody + found.shares.iter().map(|share| share.share).sum::<f64>();
        prop_assert!((sum - 1.0).abs() < 1e-9);
        prop_assert!(found.shares.is_sorted_by(|left, right| left.share >= right.share));
        let mut turned = all.clone();
        turned.rotate_left(turn % all.len().max(1));
        prop_assert_eq!(&attribute(&turned, &onset).unwrap(), &found);
        turned.reverse();
        prop_assert_eq!(&attribute(&turned, &onset).unwrap(), &found);
        let written = serde_json::to_string(&found.blame()).unwrap();
        prop_assert!(!written.contains("NaN") && !written.contains("null"));
    }

    #[test]
    fn evidence_against_a_deployment_never_clears_it(
        all in candidates(), onset in points(), which in 0_usize..8, more in 0.0_f64..10.0,
    ) {
        prop_assume!(!all.is_empty());
        let which = which % all.len();
        let share = |all: &[Candidate]| {
            let found = attribute(all, &onset).unwrap();
            found.shares.iter().find(|share| share.name == all[which].name).unwrap().share
        };
        let mut worse = all.clone();
        worse[which].version_split_log_e = Some(all[which].version_split_log_e.unwrap_or(0.0) + more);
        prop_assert!(share(&worse) >= share(&all) - 1e-12);
    }
}
