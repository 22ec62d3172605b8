//! The agent with its crash points, for the tests: the same `main`, built with the feature `failpoints`.

fn main() -> std::process::ExitCode {
    agent::cli::main()
}
