//! Named places where the crash tests end or stop the process. In a build that ships they are nothing.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

/// A stopped process stops in all its threads, but not all of them at once.
const STOP_REACHES_US: Duration = Duration::from_millis(50);

/// Does here what a test has armed the point `name` for. `FAILPOINTS="name=return"` ends the process as `kill -9` would,
/// `name=return(abort)` as a failed assertion in C would, and `name=1*return(stop)` stops it until it is continued. Says
/// so on standard error first, so that a test can tell that the point was really hit.
pub fn point(name: &'static str) {
    // Without the feature the macro is nothing, and the name is not used.
    let _ = (name, how_it_ends);
    fail::fail_point!(name, |how: Option<String>| {
        eprintln!("crash point {name} hit");
        how_it_ends(how.as_deref());
    });
}

fn how_it_ends(how: Option<&str>) {
    let signal = match how {
        Some("abort") => std::process::abort(),
        Some("stop") => Signal::SIGSTOP,
        _ => Signal::SIGKILL,
    };
    let sent = kill(Pid::this(), signal);
    match (signal, sent) {
        (Signal::SIGSTOP, Ok(())) => std::thread::sleep(STOP_REACHES_US),
        // `kill` of oneself does not return when it works; when it does not, ending is all the same.
        _ => std::process::abort(),
    }
}

/// Arms the points named in the environment; keep the value for as long as the process runs.
#[must_use]
pub fn arm<'a>() -> fail::FailScenario<'a> {
    fail::FailScenario::setup()
}
