//! Named places where the crash tests end or stop the process. In a build that ships they are nothing.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::time::Duration;

/// A stopped process stops in all its threads, but not all of them at once.
const STOP_REACHES_US: Duration = Duration::from_millis(50);

/// How often one that waits looks for its file, and how many times: it goes on after five minutes in any case.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const MOST_LOOKS: usize = 6_000;

/// Does here what a test has armed the point `name` for. `FAILPOINTS="name=return"` ends the process as `kill -9` would,
/// `name=return(abort)` as a failed assertion in C would, `name=1*return(stop)` stops it until it is continued, and
/// `name=1*return(until /a/file)` waits there until that file exists. Says so on standard error first, so that a test can
/// tell that the point was really hit.
pub fn point(name: &'static str) {
    // Without the feature the macro is nothing, and the name is not used.
    let _ = (name, how_it_ends);
    fail::fail_point!(name, |how: Option<String>| {
        eprintln!("crash point {name} hit");
        how_it_ends(how.as_deref());
    });
}

fn how_it_ends(how: Option<&str>) {
    if let Some(file) = how.and_then(|how| how.strip_prefix("until ")) {
        // Whatever else this thread had to do goes on: it is the disk that stands still, not the process.
        return tokio::task::block_in_place(|| wait_for(Path::new(file)));
    }
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

fn wait_for(file: &Path) {
    let there = (0..MOST_LOOKS).any(|_| {
        std::thread::sleep(LOOK_AGAIN);
        file.exists()
    });
    eprintln!("crash point goes on, file there: {there}");
}

/// Arms the points named in the environment; keep the value for as long as the process runs.
#[must_use]
pub fn arm<'a>() -> fail::FailScenario<'a> {
    fail::FailScenario::setup()
}
