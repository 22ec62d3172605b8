//! Laws of histograms, e-BH, the traffic-share test and the onset posterior, for every input.

#![expect(clippy::unwrap_used, reason = "a helper that fails here fails the test that called it")]

use proptest::prelude::*;
use rules::stats::{
    BlockRing, Counts, Direction, ExponentialHistogram, Histogram, Onset, OnsetPrior, ProportionTest,
    RING_BLOCKS, RingBlock, Side, StatsError, e_benjamini_hochberg, log_e_bernoulli, log_e_dirichlet, onset,
};

const WATCH: f64 = 3_600.0;
const NOTHING: Counts = Counts { bad: 0.0, total: 0.0 };

fn histogram() -> impl Strategy<Value = Histogram<'static>> {
    prop::collection::vec((0.001_f64..1.0, 0_u32..500), 0..20).prop_flat_map(|buckets| {
        let mut edge = 0.0;
        let bounds: Vec<f64> = buckets
            .iter()
            .map(|(width, _)| {
                edge += width;
                edge
            })
            .collect();
        let counts: Vec<f64> = buckets.iter().map(|&(_, count)| count.into()).collect();
        (0_u32..500).prop_map(move |last| {
            let counts: Vec<f64> = counts.iter().copied().chain([last.into()]).collect();
            Histogram::new(bounds.clone(), counts).unwrap()
        })
    })
}

/// Length in seconds, bad, total.
type Look = (f64, u32, u32);

fn looks(most: usize) -> impl Strategy<Value = Vec<Look>> {
    let look = (0.0_f64..120.0, 0_u32..300, 0.0_f64..=1.0);
    let look = look.prop_map(|(seconds, total, share)| (seconds, (share * f64::from(total)) as u32, total));
    prop::collection::vec(look, 1..most)
}

fn ring_of(looks: &[Look]) -> BlockRing {
    let mut ring = BlockRing::new();
    for &(seconds, bad, total) in looks {
        ring.append(seconds, Counts { bad: bad.into(), total: total.into() }, NOTHING).unwrap();
    }
    ring
}

fn prior() -> OnsetPrior {
    OnsetPrior { horizon_seconds: WATCH, anchor_weight: 0.5 }
}

/// The posterior under the test "more than 5 % of the requests are bad".
fn posterior(ring: &BlockRing) -> Option<Onset> {
    let test = ProportionTest::new(0.05, WATCH, Direction::Worse).unwrap();
    let llr = |block: &RingBlock| -> Result<Option<Vec<f64>>, StatsError> {
        let Counts { bad, total } = block.canary();
        let informed = total > 0.0;
        Ok(informed.then_some(test.block_evidence(bad, total)?.as_slice().to_vec()))
    };
    onset(ring, prior(), 24, llr).unwrap()
}

fn kernel(looks: &[Look]) -> f64 {
    let mut test = ProportionTest::new(0.05, WATCH, Direction::Worse).unwrap();
    for &(seconds, bad, total) in looks {
        test.update(bad.into(), total.into(), seconds).unwrap();
    }
    test.log_e()
}

proptest! {
    #[test]
    fn what_is_definitely_above_is_possibly_above(seen in histogram(), tau in -1.0_f64..25.0, more in 0.0_f64..5.0) {
        let (definitely, possibly) = seen.exceed(tau);
        prop_assert!(0.0 <= definitely && definitely <= possibly && possibly <= seen.total());
        let (later, perhaps) = seen.exceed(tau + more);
        prop_assert!(later <= definitely && perhaps <= possibly, "a higher threshold is exceeded by no more");
        for &edge in seen.bounds() {
            let (definitely, possibly) = seen.exceed(edge);
            prop_assert_eq!(definitely, possibly, "an edge leaves nothing open");
        }
    }

    #[test]
    fn a_quantile_interval_is_ordered_and_shrinks_as_alpha_grows(seen in histogram(), q in 0.01_f64..0.99) {
        let strict = seen.quantile_interval(q, 0.001).unwrap();
        let loose = seen.quantile_interval(q, 0.2).unwrap();
        prop_assert!(strict.lower <= loose.lower);
        let end = |upper: Option<f64>| upper.unwrap_or(f64::INFINITY);
        prop_assert!(end(loose.upper) <= end(strict.upper));
        prop_assert!(loose.lower < end(loose.upper));
        // The empirical quantile lies inside: no test rejects what was seen.
        let mut below = 0.0;
        for (edge, count) in seen.bounds().iter().zip(seen.counts()) {
            below += count;
            if below < q * seen.total() {
                prop_assert!(end(loose.upper) > *edge);
            } else if below > q * seen.total() {
                prop_assert!(loose.lower < *edge);
            }
        }
    }

    #[test]
    fn merging_down_keeps_every_count_and_only_widens(
        values in prop::collection::vec(1e-12_f64..1e4, 1..200),
        from in -4_i8..=8,
        steps in 0_i8..=12,
        tau in 1e-3_f64..1e4,
    ) {
        let to = (from - steps).max(-4);
        let mut merged = ExponentialHistogram::new(from).unwrap();
        for &value in &values {
            merged.observe(value).unwrap();
        }
        let fine = merged.to_histogram().unwrap();
        merged.merge_down(to.min(merged.schema())).unwrap();
        let coarse = merged.to_histogram().unwrap();
        // Merging afterwards or sorting into coarse buckets at once is the same.
        let direct = Histogram::of_samples(&values, merged.schema()).unwrap();
        prop_assert_eq!(&coarse, &direct);
        prop_assert_eq!(coarse.total(), values.len() as f64);
        let exactly = values.iter().filter(|&&value| value > tau).count() as f64;
        let ((least, most), (narrow_least, narrow_most)) = (coarse.exceed(tau), fine.exceed(tau));
        prop_assert!(least <= narrow_least && narrow_least <= exactly);
        prop_assert!(exactly <= narrow_most && narrow_most <= most);
    }

    #[test]
    fn adding_exponential_histograms_is_seeing_all_samples(
        left in prop::collection::vec(1e-6_f64..1e3, 0..60), right in prop::collection::vec(1e-6_f64..1e3, 0..60),
        schemas in (-4_i8..=2, -4_i8..=2),
    ) {
        let of = |values: &[f64], schema| {
            let mut histogram = ExponentialHistogram::new(schema).unwrap();
            values.iter().for_each(|&value| histogram.observe(value).unwrap());
            histogram
        };
        let mut sum = of(&left, schemas.0);
        sum.add(&of(&right, schemas.1)).unwrap();
        let all: Vec<f64> = left.iter().chain(&right).copied().collect();
        prop_assert_eq!(sum, of(&all, schemas.0.min(schemas.1)));
    }

    #[test]
    fn more_evidence_never_removes_a_discovery(
        log_es in prop::collection::vec(-5.0_f64..12.0, 1..30),
        fdr in 0.001_f64..0.5,
        which in 0_usize..30,
        more in 0.0_f64..9.0,
    ) {
        let before = e_benjamini_hochberg(&log_es, fdr).unwrap();
        let mut grown = log_es.clone();
        grown[which % log_es.len()] += more;
        let after = e_benjamini_hochberg(&grown, fdr).unwrap();
        prop_assert!(before.iter().all(|metric| after.contains(metric)), "{:?} {:?}", before, after);
        // The order of the list changes nothing.
        let backwards: Vec<f64> = log_es.iter().rev().copied().collect();
        let mut mirrored: Vec<usize> =
            e_benjamini_hochberg(&backwards, fdr).unwrap().into_iter().map(|i| log_es.len() - 1 - i).collect();
        mirrored.sort_unstable();
        prop_assert_eq!(before, mirrored);
    }

    #[test]
    fn two_arms_are_the_beta_closed_form(
        x in 0_u32..100_000, y in 0_u32..100_000, p0 in 0.01_f64..0.99, a in 0.1_f64..50.0, b in 0.1_f64..50.0,
    ) {
        let (x, y) = (f64::from(x), f64::from(y));
        let found = log_e_dirichlet(&[x, y], &[p0, 1.0 - p0], &[a, b]).unwrap();
        let expected = log_e_bernoulli(x, x + y, p0, a, b, Side::Both).unwrap();
        // The closed form subtracts numbers of the size of x + y.
        let allowed = 1e-9 * expected.abs() + 1e-14 * (x + y) + 1e-12;
        prop_assert!((found - expected).abs() <= allowed, "{} {}", found, expected);
        let mirrored = log_e_dirichlet(&[y, x], &[1.0 - p0, p0], &[b, a]).unwrap();
        prop_assert!((found - mirrored).abs() <= 1e-11 * (1.0 + found.abs()));
    }

    #[test]
    fn a_ring_loses_no_time_and_no_request(looks in looks(200)) {
        let ring = ring_of(&looks);
        prop_assert!(ring.blocks().len() == looks.len().min(RING_BLOCKS));
        let seconds: f64 = looks.iter().map(|look| look.0).sum();
        prop_assert!((ring.seconds() - seconds).abs() <= 1e-5 * seconds);
        // Whole numbers below 2^24 are exact in f32.
        let kept = |part: fn(Counts) -> f64| ring.blocks().iter().map(|block| part(block.canary())).sum::<f64>();
        prop_assert_eq!(kept(|counts| counts.bad), looks.iter().map(|look| f64::from(look.1)).sum::<f64>());
        prop_assert_eq!(kept(|counts| counts.total), looks.iter().map(|look| f64::from(look.2)).sum::<f64>());
        let written = serde_json::to_string(&ring).unwrap();
        prop_assert_eq!(&serde_json::from_str::<BlockRing>(&written).unwrap(), &ring, "{}", written);
    }

    #[test]
    fn the_posterior_sums_to_one_and_its_quantiles_are_ordered(looks in looks(200)) {
        let ring = ring_of(&looks);
        let seen = looks.iter().any(|look| look.2 > 0);
        let Some(found) = posterior(&ring) else {
            prop_assert!(!seen, "requests were seen");
            return Ok(());
        };
        let sum: f64 = found.starts.iter().map(|start| start.share).sum();
        prop_assert!((sum - 1.0).abs() < 1e-9);
        let weights: f64 = found.weights(0.0).iter().map(|point| point.1).sum();
        prop_assert!((weights - 1.0).abs() < 1e-9);
        prop_assert!((0.0..=1.0).contains(&found.probability));
        prop_assert!(ring.seconds() >= found.earliest_seconds);
        prop_assert!(found.earliest_seconds >= found.median_seconds && found.median_seconds >= found.latest_seconds);
        prop_assert!(found.latest_seconds >= 0.0);
        prop_assert!((found.mass_before(-1.0) - 1.0).abs() < 1e-9);
        prop_assert_eq!(found.mass_before(ring.seconds() + 1.0), 0.0);
        prop_assert!(found.mass_before(found.median_seconds - 1e-6) >= 0.5 - 1e-9);
        prop_assert!(found.mass_before(found.median_seconds + 1e-6) <= 0.5 + 1e-9);
    }

    /// What the ring calls "not yet" is what the kernel holds back: same prior, same likelihoods, unrolled.
    #[test]
    fn the_posterior_is_the_kernels_own(looks in looks(RING_BLOCKS)) {
        let ring = ring_of(&looks);
        if let Some(found) = posterior(&ring) {
            let spent = (ring.seconds() / WATCH).min(1.0);
            let not_yet = 0.5 * (1.0 - spent);
            let expected = not_yet * (-kernel(&looks)).exp();
            prop_assert!((1.0 - found.probability - expected).abs() < 1e-6, "{} {}", found.probability, expected);
        }
    }

    /// The proportion test's ratios are sums over requests: how a stretch is cut moves the onset by less than the cut.
    #[test]
    fn cutting_a_block_in_two_hardly_moves_the_onset(
        before in 1_usize..10, after in 1_usize..10, cut in 0_usize..20, bad in 20_u32..50,
    ) {
        let looks: Vec<Look> =
            (0..before + after).map(|i| (20.0, if i < before { 2 } else { 2 * bad }, 200)).collect();
        let cut = cut % looks.len();
        let mut finer = looks.clone();
        let (seconds, bad, total) = finer[cut];
        finer.splice(cut..=cut, [(seconds / 2.0, bad / 2, total / 2); 2]);
        let (whole, halves) = (posterior(&ring_of(&looks)).unwrap(), posterior(&ring_of(&finer)).unwrap());
        prop_assert!((whole.median_seconds - halves.median_seconds).abs() <= 20.0);
        prop_assert!((whole.earliest_seconds - halves.earliest_seconds).abs() <= 20.0);
        prop_assert!((whole.latest_seconds - halves.latest_seconds).abs() <= 20.0);
        prop_assert!((whole.probability - halves.probability).abs() < 0.2);
    }
}

/// Fifty minutes at 1 %, then `minutes` at 20 %, one look every ten seconds: 120 looks and more in 24 blocks.
fn late_regression(minutes: u32) -> BlockRing {
    let looks: Vec<Look> =
        (0..300 + 6 * minutes).map(|i| (10.0, if i < 300 { 1 } else { 20 }, 100)).collect();
    ring_of(&looks)
}

#[test]
fn a_late_onset_is_found_to_within_the_resolution_of_the_ring() {
    for minutes in [1, 3, 8] {
        let age = 60.0 * f64::from(minutes);
        let found = posterior(&late_regression(minutes)).unwrap();
        assert!((found.median_seconds - age).abs() < 0.25 * age + 10.0, "{minutes}: {found:?}");
        assert!(
            found.earliest_seconds < 1.5 * age + 20.0 && found.latest_seconds > 0.6 * age - 10.0,
            "{found:?}"
        );
        assert!(found.probability > 0.999_999);
        assert!(found.mass_before(2.0 * age + 20.0) < 0.01, "it was healthy before: {found:?}");
        assert!(found.mass_before(0.4 * age) > 0.99);
    }
}

#[test]
fn a_regression_from_the_start_is_dated_to_the_start() {
    let looks: Vec<Look> = (0..100).map(|_| (10.0, 20, 100)).collect();
    let found = posterior(&ring_of(&looks)).unwrap();
    assert!((found.median_seconds - 1_000.0).abs() < 1.0, "{found:?}");
    // The anchor is one moment; the rest lies evenly in the oldest block, which is a few minutes long by now.
    assert!(found.mass_before(999.0) > 0.9 && found.mass_before(700.0) > 0.99);
}

#[test]
fn resolution_is_fine_at_the_near_end_and_relative_to_age_beyond() {
    let ring = ring_of(&(0..360).map(|_| (10.0, 0, 100)).collect::<Vec<_>>());
    let mut age = 0.0;
    for block in ring.blocks().iter().rev() {
        assert!(block.seconds() <= 10.0 + 0.4 * age, "{} s at the age of {age} s", block.seconds());
        age += block.seconds();
    }
    assert_eq!(age, 3_600.0);
}

#[test]
fn nothing_seen_is_no_onset_and_no_answer() {
    assert_eq!(posterior(&BlockRing::new()), None);
    assert_eq!(posterior(&ring_of(&[(10.0, 0, 0), (10.0, 0, 0)])), None);
    let untimed = ring_of(&[(0.0, 5, 100)]);
    let llr = |_: &RingBlock| Ok(Some([1.0]));
    let unanchored = OnsetPrior { anchor_weight: 0.0, ..prior() };
    assert_eq!(onset(&untimed, unanchored, 1, llr), Ok(None), "no start has any weight");
    let mut ring = ring_of(&[(10.0, 1, 10)]);
    let before = ring.clone();
    let fine = Counts { bad: 1.0, total: 2.0 };
    for (seconds, canary) in [
        (-1.0, fine),
        (f64::NAN, fine),
        (f64::INFINITY, fine),
        (1.0, Counts { bad: 3.0, total: 2.0 }),
        (1.0, Counts { bad: f64::NAN, total: 2.0 }),
        (1.0, Counts { bad: 0.0, total: 2e15 }),
    ] {
        assert!(ring.append(seconds, canary, NOTHING).is_err(), "{seconds} {canary:?}");
        assert_eq!(ring, before);
    }
    let full = Counts { bad: 0.0, total: 1e15 };
    let mut crowded = ring_of(&[]);
    crowded.append(1.0, full, NOTHING).unwrap();
    assert!(crowded.append(1.0, full, NOTHING).unwrap_err().to_string().contains("requests in the ring"));
    let count = |alternatives| onset(&before, prior(), alternatives, llr);
    assert!(count(0).is_err() && count(25).is_err() && count(2).is_err());
    assert!(onset(&before, prior(), 1, |_| Ok(Some([f64::NAN]))).is_err());
    assert!(onset(&before, OnsetPrior { horizon_seconds: 0.0, ..prior() }, 1, llr).is_err());
    assert!(onset(&before, OnsetPrior { anchor_weight: 1.5, ..prior() }, 1, llr).is_err());
}

#[test]
fn a_written_ring_that_is_none_is_refused_with_a_reason() {
    let refused = |text: &str| serde_json::from_str::<BlockRing>(text).unwrap_err().to_string();
    assert!(refused(r#"[["1","0","x","0","0"]]"#).contains("block 0 of a ring holds \"x\""));
    assert!(refused(r#"[["1","0","0","0","0"],["1","2","1","0","0"]]"#).contains("block 1 of a ring"));
    assert!(refused(r#"[["1","0","inf","0","0"]]"#).contains("finite"));
    let long = format!("[{}]", vec![r#"["1","0","0","0","0"]"#; 25].join(","));
    assert!(refused(&long).contains("at most 24"));
}
