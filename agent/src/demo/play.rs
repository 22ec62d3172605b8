//! The play: start the good version, collect its past, deploy the new one, watch the agent, prove what became of it.

use super::deploy;
use super::files::Files;
use super::follow::{Detail, Follower};
use super::load::Load;
use super::machine::Machine;
use super::outcome::{Assessed, Happened, assess, word};
use super::ruleset::{APPROVAL, BASELINE, GAP, Place, SERVICE, SHORTENED};
use super::screen::{Screen, Tone};
use super::supervisor::{Release, Supervisor, is_gone};
use super::{Options, Scenario};
use crate::app::LEDGER_FILE;
use crate::clock;
use crate::ledger::Ledger;
use anyhow::Context as _;
use rules::decision::AutonomyLevel;
use rules::units::Span;
use rules::watch::NoticeKind;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The version that is good.
const OLD: &str = "v1";
/// The version that is deployed.
const NEW: &str = "v2";

/// Between two looks at the agent.
const LOOK: Duration = Duration::from_millis(200);
/// Detection, rollback and verification together; what takes longer did not work.
const ENDS_WITHIN: Duration = Duration::from_secs(50);
/// How long it is watched that nothing is done, once the agent has said that it does nothing.
const AFTERWARDS: Duration = Duration::from_secs(4);

/// The share of requests that fail on a good day.
const USUAL_ERRORS: f64 = 0.005;
/// How long a request takes on a good day, in milliseconds. In the middle of a bucket, so that a busy machine does not
/// look like a slow release.
const USUAL_LATENCY: u64 = 30;

/// Plays. Errors: it could not be played.
pub async fn play(options: &Options, state: &Path) -> anyhow::Result<ExitCode> {
    let screen = Screen::new(options.json, options.color);
    let began = clock::now();
    introduce(&screen, options);
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let dir = state.join("deployment");
    std::fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let files = Files::new(dir);
    let port = free_port()?;
    files.set_address(&format!("127.0.0.1:{port}"))?;
    let releases = releases(options.scenario);
    let supervisor = Supervisor::start(program.clone(), files.clone(), port, releases, screen.clone());
    deploy::deploy(&files, OLD).await?;
    let address = files.address()?;
    let load = Load::start(&address)?;
    let machine =
        Machine::start(options, state, &Place { program: &program, dir: files.dir(), address: &address })
            .await?;
    screen.say(
        Tone::Dim,
        "demo",
        &format!("the agent listens at {}, its state is in {}", machine.url, state.display()),
    );
    let mut follower = Follower::new(&machine, screen.clone(), began);
    machine.announce(OLD).await?;
    collect_baseline(&screen, &mut follower, &load).await?;
    screen.say(Tone::Loud, "deploy", &format!("deploying {SERVICE} {NEW}: {}", story(options.scenario)));
    deploy::deploy(&files, NEW).await?;
    machine.announce(NEW).await?;
    let (watch, approved) = until_the_end(options, &screen, &machine, &mut follower, &load).await?;
    let proof = Proof::take(&files, &supervisor).await?;
    let postmortem = keep_postmortem(&machine, &watch, state).await?;
    let notices = machine.notices.clone();
    machine.stop().await?;
    let told = notices.about(&watch.watch.id).into_iter().map(|message| message.kind).collect();
    let (ledger_records, ledger_sound) = verify(state).await?;
    let happened = Happened {
        seconds: tenths(screen.seconds()),
        ledger_records,
        ledger_sound,
        approved,
        ..happened(options, &watch, &proof, told, state)
    };
    let assessed = assess(happened);
    if options.json {
        let json = assessed.json().context("cannot write the result as JSON")?;
        println!("{json:#}");
    } else {
        conclude(&screen, &watch, &assessed, &proof, &postmortem);
    }
    // The users and the service go before the last word is acted upon.
    drop((load, supervisor));
    Ok(assessed.exit_code())
}

fn introduce(screen: &Screen, options: &Options) {
    screen.heading(&format!(
        "turnback demo: a service, its users, a deployment. Autonomy: {}.",
        options.autonomy
    ));
    screen.text(Tone::Dim, SHORTENED);
    if options.scenario == Scenario::Slow {
        screen.text(
            Tone::Dim,
            "A slow release is P2 \"maybe\": people get 3 s to scale first (5 min each for three tries).",
        );
    }
    screen.heading("Timeline");
}

fn story(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::BadErrors => "it will fail every fifth request",
        Scenario::Slow => "it will take eight times as long",
        Scenario::Crash => "it will crash after 2 s, and again at each start",
        Scenario::Healthy => "it is as good as the old one",
        Scenario::MetricsOutage => "it is good, and in 3 s its metrics will break",
    }
}

fn releases(scenario: Scenario) -> BTreeMap<String, Release> {
    let good = Release { error_rate: USUAL_ERRORS, latency_ms: USUAL_LATENCY, ..Release::default() };
    let new = match scenario {
        Scenario::BadErrors => Release { error_rate: 0.2, ..good.clone() },
        Scenario::Slow => Release { latency_ms: 8 * USUAL_LATENCY, ..good.clone() },
        Scenario::Crash => Release { crash_after_s: Some(2.0), ..good.clone() },
        Scenario::Healthy => good.clone(),
        Scenario::MetricsOutage => Release { metrics_fail_after_s: Some(3.0), ..good.clone() },
    };
    BTreeMap::from([(OLD.to_owned(), good), (NEW.to_owned(), new)])
}

/// A port that nobody uses now.
fn free_port() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?.port())
}

async fn collect_baseline(screen: &Screen, follower: &mut Follower<'_>, load: &Load) -> anyhow::Result<()> {
    let whole = Span::from_milliseconds(BASELINE.milliseconds() + GAP.milliseconds());
    screen.say(
        Tone::Plain,
        "demo",
        &format!("baseline: collecting {whole} of {OLD}, 200 requests a second …"),
    );
    let until = Instant::now() + whole.duration();
    while Instant::now() < until {
        follower.look(OLD, load).await?;
        sleep(LOOK).await;
    }
    Ok(())
}

/// Follows the agent until its watch is over, or until it is clear that nothing more will be done. Says whether a person
/// approved.
async fn until_the_end(
    options: &Options,
    screen: &Screen,
    machine: &Machine,
    follower: &mut Follower<'_>,
    load: &Load,
) -> anyhow::Result<(Detail, bool)> {
    let mut deadline = Instant::now() + ENDS_WITHIN;
    let mut quiet_since = None;
    let mut asked = false;
    let mut approved = false;
    loop {
        sleep(LOOK).await;
        let Some(detail) = follower.look(NEW, load).await? else {
            anyhow::ensure!(Instant::now() < deadline, "the agent does not know of the deployment");
            continue;
        };
        let awaits = detail.watch.plan.as_ref().is_some_and(|plan| plan.awaits_approval);
        if awaits && !asked {
            ask_for_approval(options, screen, machine, &detail)?;
            deadline = Instant::now() + APPROVAL.duration() + ENDS_WITHIN;
            asked = true;
        }
        approved |= asked && detail.was_approved();
        let told = machine.notices.about(&detail.watch.id);
        let done = [NoticeKind::WouldRollBack, NoticeKind::Recommended].map(word);
        if told.iter().any(|message| done.contains(&message.kind)) {
            quiet_since.get_or_insert_with(Instant::now);
        }
        let quiet = quiet_since.is_some_and(|since| since.elapsed() >= AFTERWARDS);
        let unanswered = asked && !approved && !awaits;
        if detail.watch.closed || quiet || unanswered || Instant::now() >= deadline {
            return Ok((detail, approved));
        }
    }
}

/// Says exactly what to type. With JSON on standard output it is said on standard error: somebody has to know.
fn ask_for_approval(
    options: &Options,
    screen: &Screen,
    machine: &Machine,
    detail: &Detail,
) -> anyhow::Result<()> {
    let Some(plan) = &detail.watch.plan else { return Ok(()) };
    // In full: it need not be on the PATH of the other terminal, or another version is.
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let digest = plan.digest.get(..12).unwrap_or(&plan.digest);
    let command = format!(
        "{} approve {} --digest {digest} --url {} --token-file {}",
        for_a_shell(&program),
        plan.id,
        machine.url,
        for_a_shell(&machine.token_file)
    );
    if options.json {
        eprintln!("to approve: {command}");
    }
    screen.say(Tone::Warn, "demo", &format!("the plan waits {APPROVAL} for your word. In another terminal:"));
    screen.heading(&format!("  {command}\n"));
    Ok(())
}

/// A path as it can be typed into a shell.
fn for_a_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// What can be seen from outside the agent.
struct Proof {
    serving: Option<String>,
    new_processes: Vec<(u32, bool)>,
    rolled_back: bool,
}

impl Proof {
    async fn take(files: &Files, supervisor: &Supervisor) -> anyhow::Result<Self> {
        let serving = deploy::serving(files).await?;
        let starts = supervisor.starts();
        let new = starts.iter().filter(|start| start.version == NEW);
        let new_processes = new.map(|start| (start.process, is_gone(start.process))).collect();
        let first_new = starts.iter().position(|start| start.version == NEW).unwrap_or(starts.len());
        let rolled_back = starts.iter().skip(first_new).any(|start| start.version == OLD);
        Ok(Self { serving, new_processes, rolled_back })
    }

    fn bad_gone(&self) -> bool {
        !self.new_processes.is_empty() && self.new_processes.iter().all(|(_, gone)| *gone)
    }
}

async fn keep_postmortem(machine: &Machine, watch: &Detail, state: &Path) -> anyhow::Result<PathBuf> {
    let text = machine.text(&format!("/v1/watches/{}/postmortem", watch.watch.id)).await?;
    let path = state.join("postmortem.md");
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Records that were checked, and whether all are sound.
async fn verify(state: &Path) -> anyhow::Result<(u64, bool)> {
    let ledger = Ledger::open_read_only(&state.join(LEDGER_FILE)).await.context("cannot open the ledger")?;
    let report = ledger.verify(|_, _| {}).await.context("cannot verify the ledger")?;
    Ok((report.sound_records, report.is_sound()))
}

fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

fn happened(options: &Options, watch: &Detail, proof: &Proof, told: Vec<String>, state: &Path) -> Happened {
    let summary = &watch.watch;
    let incident = summary.incident.as_ref();
    let seconds = |span: Span| tenths(span.seconds());
    Happened {
        scenario: options.scenario,
        autonomy: options.autonomy,
        outcome: summary.phase.clone(),
        verdict: summary.verdict.clone(),
        row: summary.row.clone(),
        seconds: 0.0,
        time_to_detect_s: incident.map(|incident| seconds(incident.time_to_detect)),
        time_to_decide_s: incident.and_then(|incident| incident.time_to_decide).map(seconds),
        time_to_recover_s: incident.and_then(|incident| incident.time_to_recover).map(seconds),
        rollback_done: proof.rolled_back,
        bad_process_gone: proof.bad_gone(),
        good_serves: proof.serving.as_deref() == Some(OLD),
        serving: proof.serving.clone(),
        blind_notices: told.iter().filter(|kind| **kind == word(NoticeKind::Blind)).count(),
        notices: told,
        plan_drawn: summary.plan.is_some(),
        approved: false,
        ledger_records: 0,
        ledger_sound: false,
        state_dir: state.display().to_string(),
    }
}

fn conclude(screen: &Screen, watch: &Detail, assessed: &Assessed, proof: &Proof, postmortem: &Path) {
    let happened = &assessed.happened;
    screen.heading("Why");
    screen.text(Tone::Plain, &watch.text);
    if let Some(plan) = &watch.watch.plan {
        screen.heading(&format!("Plan {}: back to {} ({})", plan.id, plan.to, plan.proof));
        for (number, step) in plan.steps.iter().enumerate() {
            screen.text(Tone::Step, &format!("{}. {} — {}", number + 1, step.name, step.state));
            screen.text(Tone::Dim, &format!("   {}", step.does));
        }
    }
    screen.heading("Proof");
    let time = |name: &str, seconds: Option<f64>| seconds.map(|seconds| format!("{name} {seconds:.1} s"));
    let times = [
        time("to detect", happened.time_to_detect_s),
        time("to decide", happened.time_to_decide_s),
        time("to recover", happened.time_to_recover_s).map(|time| format!("{time} (from detection)")),
    ];
    let times: Vec<String> = times.into_iter().flatten().collect();
    if !times.is_empty() {
        screen.text(Tone::Plain, &format!("time        {}", times.join(", ")));
    }
    for (process, gone) in &proof.new_processes {
        let state = if *gone { "is gone" } else { "runs" };
        screen.text(Tone::Plain, &format!("process     {NEW} process {process} {state}"));
    }
    let serving = proof.serving.as_deref().unwrap_or("nobody answers");
    screen.text(Tone::Plain, &format!("service     GET /version → {serving}"));
    let told = if happened.notices.is_empty() { "nothing".into() } else { happened.notices.join(", ") };
    screen.text(Tone::Plain, &format!("people      were told: {told}"));
    let sound = if happened.ledger_sound { "sound" } else { "NOT SOUND" };
    screen.text(Tone::Plain, &format!("ledger      {} records, {sound}", happened.ledger_records));
    screen.text(Tone::Plain, &format!("post-mortem {}", postmortem.display()));
    screen.heading(&format!("{} after {:.0} s", happened.outcome, happened.seconds));
    if assessed.as_expected {
        screen.text(Tone::Good, &format!("As it should be: {}.", assessed.expected));
    } else {
        screen.text(Tone::Bad, &format!("Expected: {}. But:", assessed.expected));
        assessed.differences.iter().for_each(|difference| screen.text(Tone::Bad, &format!("- {difference}")));
    }
    if happened.autonomy == AutonomyLevel::Approve && happened.plan_drawn && !happened.approved {
        screen.text(Tone::Warn, "Nobody approved; exit code 6.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_typed_as_it_is_shown() {
        for path in ["/usr/bin/turnback", "/tmp/it's a $HOME"] {
            let command = format!("printf %s {}", for_a_shell(Path::new(path)));
            let said = std::process::Command::new("/bin/sh").args(["-c", &command]).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), path);
        }
    }
}
