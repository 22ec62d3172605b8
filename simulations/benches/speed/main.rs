//! `make bench-speed`: what a look costs on one core and how much a signal remembers. First the benchmarks, which a
//! filter on the command line narrows down; then one table with the limits beside. A broken limit ends it with code 1.

mod measure;
mod table;

use divan::{Bencher, counter::ItemsCount};
use std::process::ExitCode;

fn main() -> ExitCode {
    divan::main();
    // What cargo hands on to every benchmark; a list is not asked for the figures.
    if std::env::args().skip(1).any(|word| matches!(word.as_str(), "--list" | "--test")) {
        return ExitCode::SUCCESS;
    }
    let rows = table::rows();
    print!("{}", table::text(&rows));
    if rows.iter().all(table::Row::is_kept) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// An hour of looks in the kernel; items are blocks.
#[divan::bench(args = [12, 24])]
fn kernel(bencher: Bencher, alternatives: usize) {
    let (fresh, looks) = measure::kernel_input(alternatives);
    bencher.counter(ItemsCount::new(measure::LOOKS)).bench_local(|| measure::kernel_hour(&fresh, &looks));
}

/// An hour of a proportion against its level.
#[divan::bench]
fn proportion(bencher: Bencher) {
    let (fresh, looks) = (measure::proportion_test(), measure::hour(1));
    bencher.counter(ItemsCount::new(measure::LOOKS)).bench_local(|| measure::proportion_hour(&fresh, &looks));
}

/// An hour of canary against control.
#[divan::bench]
fn ratio(bencher: Bencher) {
    let (fresh, looks) = (measure::ratio_test(), measure::hour(1));
    bencher.counter(ItemsCount::new(measure::LOOKS)).bench_local(|| measure::ratio_hour(&fresh, &looks));
}

/// An hour of the interval of the ratio.
#[divan::bench]
fn ratio_interval(bencher: Bencher) {
    let looks = measure::hour(1);
    bencher.counter(ItemsCount::new(measure::LOOKS)).bench_local(|| measure::sequence_hour(&looks));
}

/// One judgement of Kayenta over an hour of minutes.
#[divan::bench]
fn kayenta_judgement(bencher: Bencher) {
    let (control, canary) = measure::minutes(&measure::hour(1));
    bencher.bench_local(|| measure::kayenta_once(&control, &canary));
}

/// A look at live signals, of so many instances each; items are signals.
#[divan::bench(args = [0, 3])]
fn live_signals(bencher: Bencher, instances: u32) {
    let live = std::cell::RefCell::new(measure::Live::new(1_000, instances));
    let count = live.borrow().count();
    let prepare = || live.borrow_mut().prepare();
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(prepare)
        .bench_local_values(|()| live.borrow_mut().look());
}
