//! `cargo run --release -p simulations -- bench`: how often judges roll back what is healthy, and how soon what is not.

use std::io::IsTerminal;
use std::process::ExitCode;

use simulations::bench::options::{Options, USAGE};
use simulations::bench::report::{self, Report};
use simulations::bench::run::{Size, run};
use simulations::bench::{check, scenarios};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let parsed = match words.next().as_deref() {
        Some("bench") => Options::parse(words),
        _ => Err(USAGE.to_owned()),
    };
    let done = parsed.and_then(|options| bench(&options));
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// Runs everything that was asked for. Whether all promises were kept.
fn bench(options: &Options) -> Result<bool, String> {
    let asked = |name: &str| options.scenario.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let chosen: Vec<_> = scenarios::all().into_iter().filter(|scenario| asked(&scenario.name)).collect();
    if chosen.is_empty() {
        return Err(format!(
            "--scenario {}: no scenario's name contains it; without it all names are printed",
            options.scenario.as_deref().unwrap_or_default()
        ));
    }
    println!(
        "watches of one hour, a look every 10 s, alpha 1 %, seed {}\n{}",
        options.seed,
        report::heading()
    );
    let mut found = Report::new(options);
    let people_watch = std::io::stderr().is_terminal();
    for (number, scenario) in chosen.iter().enumerate() {
        if people_watch {
            eprint!("\r\x1b[K{} of {}: {}", number + 1, chosen.len(), scenario.name);
        }
        let watches = options.watches_of(scenario.one_in);
        let size = Size { watches, peer_watches: options.peer_watches.min(watches) };
        let outcomes = run(scenario, size, options.seed);
        let rows = report::rows(scenario, &outcomes);
        if people_watch {
            eprint!("\r\x1b[K");
        }
        print!("{}", report::table(scenario, &rows));
        found.rows.extend(rows);
        found.add_checks(check::checks(scenario, &outcomes));
    }
    print!("{}", report::promises(&found));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&found)
            .map_err(|error| format!("writing the figures as JSON: {error}"))?;
        std::fs::write(path, text + "\n")
            .map_err(|error| format!("writing the figures to {}: {error}", path.display()))?;
    }
    Ok(found.kept)
}
