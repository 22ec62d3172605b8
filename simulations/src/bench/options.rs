//! What the command line asks for.

use std::path::PathBuf;

/// A run of the bench.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Watches of each of the hard cases in which nothing is wrong; other scenarios get a part of them.
    pub watches: u32,
    /// Watches of the peers, at most.
    pub peer_watches: u32,
    /// Only scenarios whose name contains this.
    pub scenario: Option<String>,
    /// All randomness follows from it.
    pub seed: u64,
    /// Where the figures go as JSON.
    pub json: Option<PathBuf>,
}

/// How to ask.
pub const USAGE: &str = "usage: simulations bench [--watches N] [--peer-watches N] [--scenario PART-OF-A-NAME] \
                         [--seed N] [--json FILE]";

/// Watches of a scenario that is not one of the hard cases, at least (or all, if fewer are asked for).
const FEWEST: u32 = 100;

impl Default for Options {
    fn default() -> Self {
        Self { watches: 10_000, peer_watches: 400, scenario: None, seed: 1, json: None }
    }
}

impl Options {
    /// Reads the words after `bench`.
    ///
    /// # Errors
    /// A sentence that names the word and what was expected.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = words.into_iter();
        while let Some(option) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{option} needs a value\n{USAGE}"));
            match option.as_str() {
                "--watches" => options.watches = positive(&option, &value()?)?,
                "--peer-watches" => options.peer_watches = positive(&option, &value()?)?,
                "--scenario" => options.scenario = Some(value()?),
                "--json" => options.json = Some(PathBuf::from(value()?)),
                "--seed" => {
                    let text = value()?;
                    let number = text.parse();
                    options.seed = number.map_err(|_| format!("--seed {text}: expected a whole number"))?;
                }
                _ => return Err(format!("{option}: no such option\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// Watches of a scenario for which one in `one_in` is enough.
    #[must_use]
    pub fn watches_of(&self, one_in: u32) -> u32 {
        (self.watches / one_in.max(1)).max(FEWEST).min(self.watches)
    }
}

fn positive(option: &str, text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{option} {text}: expected a whole number above 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_and_bad_ones_named() {
        let options =
            parse("--watches 300 --peer-watches 50 --scenario latency --seed 7 --json x.json").unwrap();
        assert_eq!((options.watches, options.peer_watches, options.seed), (300, 50, 7));
        assert_eq!((options.watches_of(1), options.watches_of(5)), (300, 100));
        assert_eq!(parse(""), Ok(Options::default()));
        for (bad, named) in [
            ("--watches 0", "--watches 0"),
            ("--watches many", "many"),
            ("--seed", "--seed needs a value"),
            ("--seed x", "--seed x"),
            ("--quick", "--quick"),
        ] {
            let message = parse(bad).unwrap_err();
            assert!(message.contains(named), "{bad}: {message}");
        }
    }
}
