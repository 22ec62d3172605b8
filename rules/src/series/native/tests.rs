//! Native histograms as they should be, as they should not, and the properties that counters have, too.

use super::layout::EDGES;
use super::*;
use crate::series::tests::{
    EVER, FRESH, at, availability, errors, gauge, latency as signal, read, see, window,
};
use crate::series::{RawSeries, observe};
use crate::signal::Observation;
use crate::units::Span;
use proptest::prelude::*;

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

/// The upper edge of a bucket: 2^(index / 2^schema).
fn edge(schema: i32, index: i32) -> f64 {
    (f64::from(index) * f64::from(-schema).exp2()).exp2()
}

/// The bucket of a schema, by its index.
fn bucket(schema: i32, index: i32, count: f64) -> NativeBucket {
    NativeBucket { lower: edge(schema, index - 1), upper: edge(schema, index), count }
}

fn zero(threshold: f64, count: f64) -> NativeBucket {
    NativeBucket { lower: -threshold, upper: threshold, count }
}

fn sample(second: i64, buckets: &[NativeBucket]) -> HistogramSample {
    let count = buckets.iter().map(|bucket| bucket.count).sum();
    HistogramSample { at: at(second), count, sum: 1.0, buckets: buckets.to_vec() }
}

fn pod(name: &str, histograms: Vec<HistogramSample>) -> RawSeries {
    RawSeries::native(BTreeMap::from([("pod".to_string(), name.to_string())]), histograms)
}

fn buckets(reading: &Reading) -> (&[f64], &[f64]) {
    match reading {
        Reading::Buckets { bounds, counts } => (bounds, counts),
        other => panic!("{other:?}"),
    }
}

/// The buckets that hold something, as upper bound and count; the last bound is infinite.
fn filled(reading: &Reading) -> Vec<(f64, f64)> {
    let (bounds, counts) = buckets(reading);
    let uppers = bounds.iter().copied().chain([INF]);
    uppers.zip(counts.iter().copied()).filter(|(_, count)| *count != 0.0).collect()
}

/// How many were slower than an edge of the reading.
fn slower(reading: &Reading, edge: f64) -> f64 {
    let (bounds, counts) = buckets(reading);
    let place = bounds.iter().position(|bound| (bound / edge - 1.0).abs() < 1e-12);
    let place = place.unwrap_or_else(|| panic!("{edge} is no edge of {bounds:?}"));
    counts[place + 1..].iter().sum()
}

fn reason(signal: &crate::signal::Signal, data: &[RawSeries]) -> String {
    match observe(signal, data, None, window(0, 60), FRESH) {
        Observation::Failed { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn buckets_are_differenced_and_the_bounds_stay_the_same() {
    let data = [pod(
        "a",
        vec![
            sample(0, &[bucket(3, -16, 5.0)]),
            sample(30, &[bucket(3, -16, 7.0), bucket(3, 0, 1.0)]),
            sample(60, &[bucket(3, -16, 7.0), bucket(3, -1, 2.0), bucket(3, 0, 4.0)]),
        ],
    )];
    let first = see(&signal(), &data, window(0, 30));
    let second = see(&signal(), &data, window(30, 60));
    assert_eq!(filled(&first), [(0.25, 2.0), (1.0, 1.0)]);
    assert_eq!(filled(&second).iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2.0, 3.0]);
    assert_eq!(buckets(&first).0, buckets(&second).0);
    assert_eq!(buckets(&first).0.len(), EDGES);
    assert_eq!((slower(&second, 0.5), slower(&second, edge(3, -1)), slower(&second, 64.0)), (5.0, 3.0, 0.0));
}

#[test]
fn the_row_has_the_edges_it_says() {
    let bounds = Layout::FINEST.bounds();
    assert_eq!((bounds.len(), bounds[0], bounds[EDGES - 1]), (153, 1.0 / 4096.0, 128.0));
    for (place, bound) in bounds.iter().enumerate() {
        assert!((bound / edge(3, place as i32 - 96) - 1.0).abs() < 1e-15, "{place}: {bound}");
    }
    let reading = Reading::Buckets { bounds, counts: vec![0.0; CELLS] };
    assert_eq!(reading.problem(), None);
}

#[test]
fn finer_schemas_are_merged_down_and_coarser_ones_keep_fewer_edges() {
    for schema in -4..=8 {
        // All buckets from 2^-16 to 2^16 s, one event each.
        let per_octave = f64::from(schema).exp2();
        let (from, to) = ((-16.0 * per_octave).floor() as i32, (16.0 * per_octave).ceil() as i32);
        let all: Vec<NativeBucket> = (from + 1..=to).map(|index| bucket(schema, index, 1.0)).collect();
        let reading = see(&signal(), &[pod("a", vec![sample(0, &[]), sample(60, &all)])], window(0, 60));
        let (bounds, counts) = buckets(&reading);
        let expected: Vec<f64> = (from..=to).map(|index| edge(schema.min(3), index)).collect();
        let kept = expected.iter().filter(|edge| (1.0 / 4096.0..=128.0).contains(*edge)).count();
        if schema <= 3 {
            assert_eq!(bounds.len(), kept, "schema {schema}");
        } else {
            assert_eq!(bounds.len(), EDGES, "schema {schema}");
        }
        assert_eq!(counts.iter().sum::<f64>(), all.len() as f64);
        for bound in bounds {
            let truth = all.iter().filter(|bucket| bucket.lower >= bound * (1.0 - 1e-12)).count();
            assert_eq!(slower(&reading, *bound), truth as f64, "schema {schema}, edge {bound}");
        }
    }
}

#[test]
fn a_resolution_that_changes_is_merged_down_before_subtracting() {
    let fine = |second, factor: f64| {
        sample(
            second,
            &[bucket(1, -3, 4.0 * factor), bucket(1, -2, 5.0 * factor), bucket(1, -1, 6.0 * factor)],
        )
    };
    let coarse =
        |second, factor: f64| sample(second, &[bucket(0, -1, 9.0 * factor), bucket(0, 0, 6.0 * factor)]);
    for (name, pair) in [
        ("coarser", vec![fine(0, 1.0), coarse(60, 3.0)]),
        ("finer, without a reset", vec![coarse(0, 1.0), fine(60, 3.0)]),
    ] {
        let reading = see(&signal(), &[pod("a", pair)], window(0, 60));
        assert_eq!(filled(&reading), [(0.5, 18.0), (1.0, 12.0)], "{name}");
        assert_eq!(buckets(&reading).0.len(), 20, "{name}: an edge an octave");
    }
    // Finer, because it began again: its own resolution, all of it new.
    let reading = see(&signal(), &[pod("a", vec![coarse(0, 3.0), fine(60, 1.0)])], window(0, 60));
    assert_eq!(buckets(&reading).1.iter().sum::<f64>(), 15.0);
}

#[test]
fn series_of_different_schemas_merge_down_to_the_coarsest() {
    let data = [
        pod("a", vec![sample(0, &[]), sample(60, &[bucket(4, -5, 1.0), bucket(4, 3, 2.0)])]),
        pod("b", vec![sample(0, &[]), sample(60, &[bucket(-1, 0, 10.0), bucket(-1, 1, 20.0)])]),
    ];
    let reading = see(&signal(), &data, window(0, 60));
    assert_eq!(filled(&reading), [(1.0, 11.0), (4.0, 22.0)]);
    assert_eq!(
        buckets(&reading).0,
        [1.0 / 4096.0, 1.0 / 1024.0, 1.0 / 256.0, 1.0 / 64.0, 0.0625, 0.25, 1.0, 4.0, 16.0, 64.0]
    );
}

#[test]
fn a_reset_in_any_bucket_is_a_reset_of_all() {
    let data = [pod(
        "a",
        vec![
            sample(0, &[bucket(3, 1, 2.0), bucket(3, 9, 3.0)]),
            // More events than before, and yet it began again.
            sample(60, &[bucket(3, 1, 50.0), bucket(3, 9, 1.0)]),
        ],
    )];
    assert_eq!(buckets(&see(&signal(), &data, window(0, 60))).1.iter().sum::<f64>(), 51.0);
}

#[test]
fn the_zero_bucket_counts_below_its_upper_edge() {
    let small = [sample(0, &[]), sample(60, &[zero(2.9e-39, 7.0), bucket(3, 0, 1.0)])];
    let reading = see(&signal(), &[pod("a", small.to_vec())], window(0, 60));
    assert_eq!(filled(&reading), [(1.0 / 4096.0, 7.0), (1.0, 1.0)]);
    // Nothing can be told apart within a wide one, so no edge within it is offered.
    let wide = [sample(0, &[]), sample(60, &[zero(0.1, 7.0), bucket(3, 0, 1.0)])];
    let reading = see(&signal(), &[pod("a", wide.to_vec())], window(0, 60));
    assert_eq!(filled(&reading).iter().map(|(_, count)| *count).collect::<Vec<_>>(), [7.0, 1.0]);
    let first = buckets(&reading).0[0];
    assert!((0.1..0.11).contains(&first), "{first}");
    // A threshold of nothing.
    let none = [sample(0, &[]), sample(60, &[zero(0.0, 7.0)])];
    assert_eq!(filled(&see(&signal(), &[pod("a", none.to_vec())], window(0, 60))), [(1.0 / 4096.0, 7.0)]);
}

#[test]
fn a_zero_bucket_that_swallows_its_neighbours_is_no_reset() {
    let data = [pod(
        "a",
        vec![
            sample(0, &[zero(1e-30, 1.0), bucket(3, -40, 5.0), bucket(3, -30, 6.0), bucket(3, 0, 1.0)]),
            // It now ends in the middle of a bucket and cuts it.
            sample(
                60,
                &[
                    zero(0.07, 9.0),
                    NativeBucket { lower: 0.07, upper: edge(3, -30), count: 6.0 },
                    bucket(3, 0, 3.0),
                ],
            ),
        ],
    )];
    let reading = see(&signal(), &data, window(0, 60));
    assert_eq!(filled(&reading), [(buckets(&reading).0[0], 3.0), (1.0, 2.0)]);
}

#[test]
fn what_has_no_place_fails_the_windows_in_which_it_was_added() {
    let negative = |count| NativeBucket { lower: -2.0, upper: -1.0, count };
    let nan = |mut sample: HistogramSample| {
        sample.count += 1.0;
        sample
    };
    let good = |count| bucket(3, 0, count);
    for (words, first, second, third) in [
        (
            "1 new observations below zero",
            sample(0, &[good(1.0)]),
            sample(60, &[negative(1.0), good(2.0)]),
            sample(120, &[negative(1.0), good(5.0)]),
        ),
        (
            "1 new observations in no bucket",
            sample(0, &[good(1.0)]),
            nan(sample(60, &[good(2.0)])),
            nan(sample(120, &[good(5.0)])),
        ),
    ] {
        let data = [pod("a", vec![first, second, third])];
        let text = reason(&signal(), &data);
        assert!(text.contains(words), "{text}");
        assert_eq!(filled(&see(&signal(), &data, window(60, 120))), [(1.0, 3.0)]);
    }
}

#[test]
fn first_samples_holes_and_ends_are_as_with_counters() {
    let one = |second, count| sample(second, &[bucket(3, 0, count)]);
    let total = |data: &[RawSeries], to| buckets(&see(&signal(), data, window(0, to))).1.iter().sum::<f64>();
    assert_eq!(total(&[pod("new", vec![one(20, 7.0), one(40, 9.0)])], 60), 2.0);
    assert_eq!(total(&[pod("hole", vec![one(0, 7.0), one(301, 90.0), one(310, 91.0)])], 320), 1.0);
    // It came back and went on where it was.
    let back = pod("back", vec![one(0, 5.0), HistogramSample::stale(at(10)), one(20, 7.0)]);
    assert_eq!(total(&[back], 30), 2.0);
    let ended = pod("ended", vec![one(0, 1.0), one(20, 5.0), HistogramSample::stale(at(25))]);
    assert_eq!(total(&[ended.clone(), pod("b", vec![one(0, 0.0), one(60, 6.0)])], 60), 10.0);
    let gone = observe(&signal(), std::slice::from_ref(&ended), None, window(0, 30), FRESH);
    assert!(matches!(&gone, Observation::Absent { reason } if reason.contains("have ended")), "{gone:?}");
    // Some servers end every kind of series with a plain marker.
    let mut plain = pod("ended", vec![one(0, 1.0), one(20, 5.0)]);
    plain.samples.push(crate::series::Sample::stale(at(25)));
    let gone = observe(&signal(), &[plain], None, window(0, 30), FRESH);
    assert!(matches!(&gone, Observation::Absent { reason } if reason.contains("have ended")), "{gone:?}");
    // Between two scrapes: no events, the bounds of before.
    let reading = see(&signal(), &[pod("a", vec![one(0, 3.0)])], window(5, 10));
    assert_eq!((buckets(&reading).0.len(), filled(&reading)), (EDGES, vec![]));
}

#[test]
fn other_kinds_and_mixtures_are_refused_in_words() {
    let native = pod("a", vec![sample(0, &[]), sample(60, &[bucket(3, 0, 1.0)])]);
    for signal in [errors(), gauge(), availability()] {
        let text = reason(&signal, &[with_code(native.clone())]);
        let kind = signal.measure.kind();
        assert!(text.contains("is a native histogram") && text.contains(kind), "{text}");
    }
    let alone = std::slice::from_ref(&native);
    let covered = observe(&signal(), alone, Some(alone), window(0, 60), FRESH);
    assert!(matches!(&covered, Observation::Failed { reason } if reason.contains("coverage")), "{covered:?}");
    let plain = |labels: &[(&str, &str)]| crate::series::tests::series(labels, &[(0, 1.0), (60, 2.0)]);
    let text = reason(&signal(), &[native.clone(), plain(&[("le", "0.1")])]);
    assert!(text.contains("would count twice"), "{text}");
    let text = reason(&signal(), &[native.clone(), plain(&[("pod", "b")])]);
    assert!(text.contains("has plain values"), "{text}");
    // Plain values of before the window: the type of the metric was changed.
    let changed = crate::series::tests::series(&[("le", "0.1")], &[(-60, 1.0), (-30, 2.0)]);
    assert_eq!(filled(&see(&signal(), &[native, changed], window(0, 60))), [(1.0, 1.0)]);
}

fn with_code(mut series: RawSeries) -> RawSeries {
    series.labels.insert("code".into(), "500".into());
    series
}

#[test]
fn malformed_histograms_are_failures_in_words() {
    let with = |buckets: &[NativeBucket]| sample(60, buckets);
    let range = |lower, upper, count| NativeBucket { lower, upper, count };
    let counted = |count| HistogramSample { count, ..with(&[bucket(3, 0, 5.0)]) };
    for (name, newest, words) in [
        ("a count of NaN", counted(NAN), "is NaN"),
        ("an infinite count", counted(INF), "is inf"),
        ("a negative count", counted(-1.0), "never negative"),
        ("more in the buckets than in all", counted(4.0), "counts 4 observations and 5 in its buckets"),
        ("more in all than in the buckets", counted(6.0), "in no bucket"),
        ("NaN in a bucket", HistogramSample { count: 5.0, ..with(&[bucket(3, 0, NAN)]) }, "no count"),
        ("infinity in a bucket", HistogramSample { count: 5.0, ..with(&[bucket(3, 0, INF)]) }, "no count"),
        ("a negative bucket", HistogramSample { count: 5.0, ..with(&[bucket(3, 0, -1.0)]) }, "no count"),
        ("a NaN bound", with(&[range(NAN, 1.0, 1.0)]), "enclose nothing"),
        ("bounds turned round", with(&[range(2.0, 1.0, 1.0)]), "enclose nothing"),
        ("a bucket of one point", with(&[range(1.0, 1.0, 1.0)]), "enclose nothing"),
        ("a bucket twice", with(&[bucket(3, 0, 1.0), bucket(3, 0, 1.0)]), "not above"),
        ("buckets out of order", with(&[bucket(3, 5, 1.0), bucket(3, 0, 1.0)]), "not above"),
        (
            "buckets that overlap",
            with(&[bucket(3, 0, 1.0), bucket(0, 1, 1.0), bucket(3, 5, 1.0)]),
            "not above",
        ),
        ("custom bounds", with(&[range(-INF, 0.1, 1.0), range(0.1, 0.25, 1.0)]), "no exponential schema"),
        ("an upper bound of no schema", with(&[range(0.25, 0.3, 1.0)]), "no exponential schema"),
        ("a lower bound of no schema", with(&[bucket(3, -20, 1.0), range(0.3, 0.5, 1.0)]), "no exponential"),
        ("a bucket across 1 s", with(&[range(0.5, 2.0, 1.0)]), "no exponential schema"),
        ("a zero bucket without end", with(&[range(-INF, INF, 1.0)]), "no exponential schema"),
        ("a zero bucket over everything", with(&[zero(200.0, 1.0)]), "beyond all bounds"),
    ] {
        let text = reason(&signal(), &[pod("a", vec![sample(0, &[]), newest])]);
        assert!(text.contains(words), "{name}: {text:?} lacks {words:?}");
    }
    for second in [0, -1] {
        let text = reason(&signal(), &[pod("a", vec![sample(0, &[]), sample(second, &[])])]);
        assert!(text.contains("not in order of time"), "{text}");
    }
    let large = |second, count| sample(second, &[bucket(3, 0, count)]);
    let data = ["a", "b"].map(|name| pod(name, vec![large(0, 0.0), large(60, f64::MAX)]));
    assert!(reason(&signal(), &data).contains("too large to be added"));
}

#[test]
fn the_largest_and_the_smallest_buckets_there_are() {
    let top = NativeBucket { lower: edge(3, 8191), upper: f64::MAX, count: 2.0 };
    let over = NativeBucket { lower: f64::MAX, upper: INF, count: 3.0 };
    let bottom = NativeBucket { lower: 0.0, upper: f64::MIN_POSITIVE, count: 5.0 };
    let data = [pod("a", vec![sample(0, &[]), sample(60, &[bottom, bucket(3, -8000, 4.0), top, over])])];
    assert_eq!(filled(&see(&signal(), &data, window(0, 60))), [(1.0 / 4096.0, 9.0), (INF, 5.0)]);
}

/// What a client did between two scrapes.
#[derive(Debug, Clone)]
enum Step {
    /// Durations, as buckets of schema 8.
    Observe(Vec<(i32, u8)>),
    Restart,
    /// Half the resolution.
    Coarsen,
    End,
}

fn any_step() -> impl Strategy<Value = Step> {
    let some = prop::collection::vec((-4_000_i32..3_000, 1_u8..9), 0..6);
    prop_oneof![8 => some.prop_map(Step::Observe), 1 => Just(Step::Restart), 1 => Just(Step::Coarsen), 1 => Just(Step::End)]
}

/// A histogram of a schema from what was observed at schema 8.
fn render(second: i64, schema: i32, fine: &BTreeMap<i32, f64>) -> HistogramSample {
    let mut merged: BTreeMap<i32, f64> = BTreeMap::new();
    for (index, count) in fine {
        let width = 1 << (8 - schema);
        *merged.entry(-(-index).div_euclid(width)).or_default() += count;
    }
    let buckets: Vec<NativeBucket> =
        merged.into_iter().map(|(index, count)| bucket(schema, index, count)).collect();
    sample(second, &buckets)
}

/// Pods that observe, restart, lose resolution, pause and end.
fn any_pods() -> impl Strategy<Value = Vec<RawSeries>> {
    let pause = prop_oneof![4 => 1_i64..120, 1 => 250_i64..350];
    let one = (-4_i32..=8, prop::collection::vec((pause, any_step()), 1..25)).prop_map(|(start, steps)| {
        let (mut second, mut schema, mut fine, mut samples) = (0, start, BTreeMap::new(), Vec::new());
        for (pause, step) in steps {
            second += pause;
            match step {
                Step::Observe(all) => {
                    all.into_iter()
                        .for_each(|(index, count)| *fine.entry(index).or_insert(0.0) += f64::from(count));
                }
                Step::Restart => (schema, fine) = (start, BTreeMap::new()),
                Step::Coarsen => schema = (schema - 1).max(-4),
                Step::End => {
                    samples.push(HistogramSample::stale(at(second)));
                    continue;
                }
            }
            samples.push(render(second, schema, &fine));
        }
        samples
    });
    prop::collection::vec(one, 1..5).prop_map(|all| {
        all.into_iter().enumerate().map(|(index, samples)| pod(&index.to_string(), samples)).collect()
    })
}

/// A pod that is always there and never busy, so that no window is absent as a whole.
fn steady() -> RawSeries {
    pod("steady", (0..=500).map(|step| sample(step * 10, &[])).collect())
}

proptest! {
    #[test]
    fn windows_that_partition_time_add_up(
        data in any_pods(),
        mut cuts in prop::collection::btree_set(1_i64..5_000, 0..12),
    ) {
        let mut data = data;
        data.push(steady());
        cuts.extend([0, 5_000]);
        let edges: Vec<i64> = cuts.into_iter().collect();
        let see = |window: Window| match observe(&signal(), &read(&data, window), None, window, EVER) {
            Observation::Seen { reading, .. } => reading,
            other => panic!("{other:?}"),
        };
        let whole = see(window(0, 5_000));
        let pieces: Vec<Reading> = edges.windows(2).map(|pair| see(window(pair[0], pair[1]))).collect();
        let total = |reading: &Reading| buckets(reading).1.iter().sum::<f64>();
        prop_assert_eq!(total(&whole), pieces.iter().map(total).sum::<f64>());
        // A piece may have more edges than the whole, never fewer: every cut of the whole can be asked of it.
        for edge in buckets(&whole).0 {
            prop_assert_eq!(slower(&whole, *edge), pieces.iter().map(|piece| slower(piece, *edge)).sum::<f64>());
        }
    }

    #[test]
    fn every_edge_tells_the_truth(
        schema in -4_i32..=8,
        rounds in prop::collection::vec(prop::collection::vec((-4_000_i32..3_000, 1_u8..9), 0..9), 2..8),
    ) {
        let (mut fine, mut samples) = (BTreeMap::new(), vec![sample(0, &[])]);
        for (round, all) in (1..).zip(&rounds) {
            all.iter().for_each(|(index, count)| *fine.entry(*index).or_insert(0.0) += f64::from(*count));
            samples.push(render(round * 10, schema, &fine));
        }
        let to = rounds.len() as i64 * 10;
        let reading = see(&signal(), &[pod("a", samples)], window(0, to));
        for bound in buckets(&reading).0 {
            let place = (bound.log2() * 256.0).round() as i32;
            let truth: f64 = fine.iter().filter(|(index, _)| **index > place).map(|(_, count)| count).sum();
            prop_assert_eq!(slower(&reading, *bound), truth, "schema {}, edge {}", schema, bound);
        }
    }

    #[test]
    fn the_order_of_series_changes_nothing(data in any_pods(), turn in 0_usize..6, scale in 0.1_f64..3.0) {
        let mut data = data;
        for sample in data.iter_mut().flat_map(|series| &mut series.histograms) {
            sample.buckets.iter_mut().for_each(|bucket| bucket.count *= scale);
            sample.count = sample.buckets.iter().map(|bucket| bucket.count).sum();
        }
        let mut turned = data.clone();
        turned.reverse();
        let turn = turn % turned.len();
        turned.rotate_left(turn);
        let see = |data: &[RawSeries]| observe(&signal(), data, None, window(0, 3_000), EVER);
        prop_assert_eq!(see(&data), see(&turned));
    }

    #[test]
    fn nothing_panics_and_no_number_is_invented(
        values in prop::collection::vec((any::<i8>(), prop::collection::vec(any::<[u64; 3]>(), 0..5), any::<u64>()), 0..9),
        sorted in any::<bool>(),
    ) {
        let mut histograms: Vec<HistogramSample> = Vec::new();
        for (second, raw, count) in values {
            let [count, sum] = [count, count.rotate_left(7)].map(f64::from_bits);
            let bucket = |raw: [u64; 3]| {
                let [lower, upper, count] = raw.map(f64::from_bits);
                NativeBucket { lower, upper, count }
            };
            let buckets = raw.into_iter().map(bucket).collect();
            histograms.push(HistogramSample { at: at(second.into()), count, sum, buckets });
        }
        if sorted {
            histograms.sort_by_key(|sample| sample.at);
            histograms.dedup_by_key(|sample| sample.at);
        }
        let data = [pod("a", histograms)];
        for signal in [errors(), availability(), gauge(), signal()] {
            match observe(&signal, &data, Some(&data), window(0, 100), Span::from_minutes(60)).reading() {
                None => {}
                Some(reading) => prop_assert_eq!(reading.problem(), None),
            }
        }
    }
}
