//! The binary `turnback`: everything is in the library, so that tests can build it with crash points.

fn main() -> std::process::ExitCode {
    agent::cli::main()
}
