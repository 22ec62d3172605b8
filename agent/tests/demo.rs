//! `turnback demo`, played as people play it: the real program, real processes, real time. Each scenario and each autonomy
//! level must come to what its name says, by the exit code and by what the JSON document measured.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic, in its helpers too")]

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Demos at the same time: each is a service, its users and an agent, and a machine of two cores shall not be what is
/// measured.
const AT_ONCE: usize = 2;

static PLAYING: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A place among the demos that are played at the same time.
struct Turn;

impl Turn {
    fn wait() -> Self {
        let (playing, ended) = &PLAYING;
        let mut playing = ended.wait_while(playing.lock().unwrap(), |playing| *playing >= AT_ONCE).unwrap();
        *playing += 1;
        // Two that look at the same instant whether the usual port is free would both take it.
        std::thread::sleep(Duration::from_millis(1_500));
        Turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *PLAYING.0.lock().unwrap() -= 1;
        PLAYING.1.notify_one();
    }
}

struct Demo {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    began: Instant,
    state: tempfile::TempDir,
    _turn: Turn,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let turn = Turn::wait();
        let state = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnback"));
        command.arg("demo").args(arguments).env("TMPDIR", state.path()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stderr, began: Instant::now(), state, _turn: turn }
    }

    /// Exit code and document, and in it the text of the post-mortem, whose file goes with the test's directory.
    fn end(mut self) -> (i32, Value) {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let code = self.child.wait().unwrap().code().unwrap();
        let mut complaints = String::new();
        self.stderr.read_to_string(&mut complaints).unwrap();
        let mut document: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{complaints}"));
        println!("{:?} {document:#}", self.began.elapsed());
        let file = std::path::Path::new(document["state_dir"].as_str().unwrap()).join("postmortem.md");
        document["postmortem"] = std::fs::read_to_string(file).unwrap().into();
        (code, document)
    }
}

fn play(scenario: &str, autonomy: &str) -> (i32, Value) {
    Demo::start(&["--scenario", scenario, "--autonomy", autonomy, "--output", "json"]).end()
}

/// The good version runs again, the bad one is gone, and the times say so. Under a minute.
fn assert_turned_back(code: i32, played: &Value) {
    assert_eq!((code, &played["as_expected"]), (0, &Value::Bool(true)), "{played:#}");
    for key in ["rollback_done", "bad_process_gone", "good_serves", "ledger_sound"] {
        assert_eq!(played[key], true, "{key}");
    }
    assert_eq!(
        (played["serving"].as_str(), played["blind_notices"].as_u64().unwrap() <= 1),
        (Some("v1"), true)
    );
    for key in ["time_to_detect_s", "time_to_decide_s", "time_to_recover_s"] {
        assert!(played[key].as_f64().is_some_and(|seconds| seconds < 40.0), "{key}: {}", played[key]);
    }
    assert!(played["ledger_records"].as_u64().unwrap() > 30, "{}", played["ledger_records"]);
    assert!(played["seconds"].as_f64().unwrap() < 60.0, "{}", played["seconds"]);
}

/// Nothing was done: the new version still serves (or crashes on), the old one was never started again.
fn assert_untouched(played: &Value) {
    assert_eq!(played["as_expected"], true, "{played:#}");
    assert_eq!((&played["rollback_done"], &played["good_serves"]), (&false.into(), &false.into()));
    assert_eq!((played["serving"].as_str(), &played["ledger_sound"]), (Some("v2"), &true.into()));
}

fn told<'a>(played: &'a Value, kind: &str) -> Vec<&'a Value> {
    played["notices"].as_array().unwrap().iter().filter(|told| *told == kind).collect()
}

#[test]
fn bad_errors_are_turned_back() {
    let (code, played) = play("bad-errors", "auto");
    assert_turned_back(code, &played);
    assert_eq!((played["verdict"].as_str(), &played["blind_notices"]), (Some("degraded (P1)"), &0.into()));
    let postmortem = played["postmortem"].as_str().unwrap();
    assert!(
        postmortem.starts_with("# Post-mortem: checkout v2") && postmortem.contains("restart-good-version")
    );
}

#[test]
fn a_slow_version_is_turned_back_after_its_mitigation() {
    let (code, played) = play("slow", "auto");
    assert_turned_back(code, &played);
    assert_eq!(played["verdict"], "degraded (P2)");
    assert_eq!(told(&played, "mitigation").len(), 1, "{}", played["notices"]);
}

#[test]
fn a_crashing_version_is_turned_back() {
    let (code, played) = play("crash", "auto");
    assert_turned_back(code, &played);
    assert_eq!((&played["verdict"], &played["row"]), (&"degraded (P0)".into(), &"service-down".into()));
}

#[test]
fn a_healthy_version_stays() {
    let (mut code, mut played) = play("healthy", "auto");
    // Where the machine has more to do than a moment ago, the new version really is a little slower. Nothing may be done
    // then, and it is played once more.
    if played["outcome"] == "closed: degraded (P3), not turned back" {
        assert_eq!((&played["serving"], &played["plan_drawn"]), (&"v2".into(), &false.into()), "{played:#}");
        println!("the new version looked slightly slower: once more");
        (code, played) = play("healthy", "auto");
    }
    assert_untouched(&played);
    assert_eq!((code, played["outcome"].as_str()), (0, Some("closed: healthy")));
    assert_eq!(played["plan_drawn"], false);
}

#[test]
fn an_outage_of_the_metrics_is_said_once_and_nothing_is_done() {
    let (code, played) = play("metrics-outage", "auto");
    assert_untouched(&played);
    assert_eq!((code, &played["blind_notices"], &played["plan_drawn"]), (0, &1.into(), &false.into()));
    assert_eq!(played["notices"], serde_json::json!(["blind"]));
}

#[test]
fn observe_tells_what_would_have_been_done() {
    let (code, played) = play("bad-errors", "observe");
    assert_untouched(&played);
    assert_eq!((code, told(&played, "would_roll_back").len(), &played["plan_drawn"]), (0, 1, &false.into()));
}

#[test]
fn recommend_shows_the_plan_and_does_nothing() {
    let (code, played) = play("bad-errors", "recommend");
    assert_untouched(&played);
    assert_eq!((code, told(&played, "recommended").len(), &played["plan_drawn"]), (0, 1, &true.into()));
}

const APPROVE: [&str; 6] = ["--scenario", "bad-errors", "--autonomy", "approve", "--output", "json"];

#[test]
fn approve_without_an_approval_does_nothing() {
    let (code, played) = Demo::start(&APPROVE).end();
    assert_untouched(&played);
    assert_eq!((code, told(&played, "approval_needed").len(), &played["approved"]), (6, 1, &false.into()));
}

#[test]
fn approve_with_an_approval_turns_back_and_a_stale_digest_does_not() {
    let mut demo = Demo::start(&APPROVE);
    let mut line = String::new();
    while !line.starts_with("to approve: ") {
        line.clear();
        assert_ne!(demo.stderr.read_line(&mut line).unwrap(), 0, "nobody said how to approve");
    }
    // to approve: turnback approve PLAN --digest DIGEST --url URL --token-file FILE
    let words: Vec<&str> = line.split_whitespace().skip(3).collect();
    let [_approve, plan, "--digest", digest, "--url", url, "--token-file", file] = words[..] else {
        panic!("cannot be typed: {line}");
    };
    assert!(file.starts_with(demo.state.path().canonicalize().unwrap().to_str().unwrap()), "{file}");
    let token = std::fs::read_to_string(file).unwrap();
    let say = |digest: &str| approve(&format!("{url}/v1/plans/{plan}/approval"), token.trim(), digest);
    assert_eq!(say("000000000000"), 409, "a stale digest is refused");
    assert_eq!(say(digest), 200);
    let (code, played) = demo.end();
    assert_turned_back(code, &played);
    assert_eq!(played["approved"], true);
}

/// The status of the answer to an approval.
fn approve(url: &str, token: &str, digest: &str) -> u16 {
    let _there_already = rustls::crypto::ring::default_provider().install_default();
    let body = serde_json::json!({ "decision": "approve", "digest": digest });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let request = reqwest::Client::new().post(url).bearer_auth(token).json(&body);
        request.send().await.unwrap().status().as_u16()
    })
}

/// However the demo ends, its service ends with it.
#[test]
fn a_killed_demo_leaves_no_process_behind() {
    let mut demo = Demo::start(&["--output", "json"]);
    let running = wait_for_process(demo.state.path());
    demo.child.kill().unwrap();
    demo.child.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while nix::sys::signal::kill(running, None).is_ok() {
        assert!(Instant::now() < deadline, "process {running} is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The service's process, as the deployment system's file names it.
fn wait_for_process(state: &std::path::Path) -> nix::unistd::Pid {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let demos = std::fs::read_dir(state).unwrap().flatten();
        let running =
            demos.filter_map(|demo| std::fs::read_to_string(demo.path().join("deployment/running")).ok());
        let process = running.filter_map(|text| text.trim().strip_prefix("v1 ")?.parse().ok()).next();
        if let Some(process) = process {
            return nix::unistd::Pid::from_raw(process);
        }
        assert!(Instant::now() < deadline, "no service was started");
        std::thread::sleep(Duration::from_millis(20));
    }
}
