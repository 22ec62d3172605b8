//! Prints how the sequential proportion test does: `cargo run --release -p simulations -- 2000`.

use simulations::judge::SCENARIOS;
use simulations::rehearse;
use std::process::ExitCode;

const ALPHA: f64 = 0.01;

fn main() -> ExitCode {
    let watches = match std::env::args().nth(1).map(|text| text.parse()) {
        None => 2_000,
        Some(Ok(watches)) if watches > 0 => watches,
        Some(_) => {
            eprintln!(
                "expected the number of watches, for example: cargo run --release -p simulations -- 2000"
            );
            return ExitCode::from(2);
        }
    };
    println!("{watches} watches of one hour each, a look every 10 s, alpha {}", ALPHA);
    println!("{:<45} {:>8} {:>9} {:>10}", "release", "alarms", "share", "median");
    for (scenario, seed) in SCENARIOS.iter().zip(1..) {
        match rehearse(scenario, watches, ALPHA, seed) {
            Ok(figures) => {
                let share = f64::from(figures.alarms) / f64::from(figures.watches) * 100.0;
                let median = figures
                    .median_seconds
                    .map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.0} s"));
                println!("{:<45} {:>8} {share:>8.2}% {median:>10}", scenario.name, figures.alarms);
            }
            Err(error) => {
                eprintln!("{}: {error}", scenario.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
