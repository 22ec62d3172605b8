//! Named places where the crash tests kill the process. In a build that ships they are nothing.

/// Ends the process as `kill -9` would, if a test has armed the point `name` (`FAILPOINTS="name=return"`). Says so on
/// standard error first, so that a test can tell that the point was really hit.
pub fn point(name: &'static str) {
    // Without the feature the macro is nothing, and the name is not used.
    let _ = name;
    fail::fail_point!(name, |_| {
        eprintln!("crash point {name} hit");
        // `kill` of oneself does not return when it works; when it does not, ending is all the same.
        let _not_killed = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        std::process::abort()
    });
}

/// Arms the points named in the environment; keep the value for as long as the process runs.
#[must_use]
pub fn arm<'a>() -> fail::FailScenario<'a> {
    fail::FailScenario::setup()
}
