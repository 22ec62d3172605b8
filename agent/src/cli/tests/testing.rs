//! What the tests of the command line share: a console that remembers, samples of answers, and a daemon that answers
//! what a test tells it to.

use crate::cli::console::Out;
use crate::cli::model::Watch;
use crate::cli::{Cli, Console, Exit, Format, Options, Surroundings};
use crate::dispatcher::WatchSummary;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use clap::Parser as _;
use rules::action::{ActionSpec, CommandSpec, EffectClass, InspectSpec, Reversibility, SecretRef, Undo};
use rules::deployment::Release;
use rules::ids::{EnvironmentName, PlanId, ServiceName, StepName, Version, WatchId};
use rules::plan::{RollbackPlan, Step};
use rules::units::Span;
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

/// What a console was told.
#[derive(Clone, Default)]
pub(in crate::cli) struct Captured {
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
}

impl Captured {
    pub(in crate::cli) fn out(&self) -> String {
        String::from_utf8(self.out.lock().unwrap().clone()).unwrap()
    }

    pub(in crate::cli) fn err(&self) -> String {
        String::from_utf8(self.err.lock().unwrap().clone()).unwrap()
    }
}

struct Into(Arc<Mutex<Vec<u8>>>);

impl Write for Into {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A console that is no terminal.
pub(in crate::cli) fn console(format: Format) -> (Console, Captured) {
    let said = Captured::default();
    let console = Console {
        format,
        color: false,
        width: None,
        progress: false,
        interactive: false,
        verbose: false,
        keyboard: Arc::new(|| Err(std::io::ErrorKind::Unsupported.into())),
        out: Mutex::new(Out { to: Box::new(Into(Arc::clone(&said.out))), begun: false, reader_left: false }),
        err: Mutex::new(Box::new(Into(Arc::clone(&said.err)))),
    };
    (console, said)
}

pub(in crate::cli) fn options(arguments: &[&str]) -> Options {
    let words = ["turnback", "incidents"].iter().chain(arguments);
    Cli::try_parse_from(words).unwrap().options
}

pub(in crate::cli) fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
    Surroundings { environment: environment.collect(), root: false }
}

pub(in crate::cli) fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

/// A watch as the dispatcher's own type writes it.
pub(in crate::cli) fn summary() -> WatchSummary {
    let written = json!({
        "id": "w-1", "service": "checkout", "environment": "production", "version": "1.4.0", "previous": "1.3.9",
        "deployed_at": "2026-03-01T12:00:00Z", "verdict": "degraded (P1)", "row": "errors-above-10-percent",
        "phase": "turning back", "closed": false, "autonomy": "approve", "decision": "roll back",
        "holds": [{ "reason": "too_many", "weight": { "caps_to": "approve" }, "words": "2 rollbacks in the last hour" }],
        "incident": {
            "severity": "P1", "row": "errors-above-10-percent", "opened": "2026-03-01T12:02:00Z",
            "act_by": "2026-03-01T12:32:00Z", "time_to_detect": "2m", "time_to_decide": null, "time_to_recover": null,
        },
        "plan": {
            "id": "p-1-1", "digest": "ab", "to": "1.3.9", "proof": "ran well for 6h", "awaits_approval": false,
            "steps": [{ "name": "deploy", "does": "/usr/local/bin/deploy 1.3.9", "state": "not begun" }],
        },
    });
    serde_json::from_value(written).unwrap()
}

pub(in crate::cli) fn watch() -> Watch {
    Watch::deserialize(&serde_json::to_value(summary()).unwrap()).unwrap()
}

/// What `GET /v1/plans/p-1-1` answers.
pub(in crate::cli) fn plan_answer() -> Value {
    let release =
        |version: &str| -> Release { serde_json::from_value(json!({ "version": version })).unwrap() };
    let command = |argv: &[&str]| CommandSpec {
        argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
        env: BTreeMap::from([("REGION".into(), "eu\u{1b}[2J".into())]),
        secret_env: BTreeMap::from([("KEY".into(), SecretRef::File("/run/secrets/deploy".into()))]),
        directory: Some("/srv".into()),
        success: vec![0, 3],
        retryable: Vec::new(),
    };
    let step = Step {
        name: StepName::new("deploy").unwrap(),
        from: Some("Application, step 2".into()),
        undoes: Default::default(),
        asks: false,
        action: ActionSpec::Command(command(&["/usr/local/bin/deploy", "--to", "1.3.9", "two words"])),
        class: EffectClass::CompareAndSet,
        inspect: Some(InspectSpec {
            action: ActionSpec::Command(command(&["/usr/local/bin/deployed", "1.3.9"])),
        }),
        verify: None,
        undo: Undo::NotNeeded,
        timeout: Span::from_minutes(5),
        reversibility: Reversibility::Reversible,
        key: "p-1-1-0a".into(),
    };
    let plan = RollbackPlan {
        id: PlanId::new("p-1-1").unwrap(),
        watch: WatchId::new("w-1").unwrap(),
        service: ServiceName::new("checkout").unwrap(),
        environment: EnvironmentName::new("production").unwrap(),
        from: release("1.4.0"),
        to: release("1.3.9"),
        proof: "ran well for 6h".into(),
        reason: "errors-above-10-percent".into(),
        steps: vec![step],
        drawn_at: at("2026-03-01T12:02:03Z"),
    };
    assert!(Version::new("1.3.9").is_ok());
    json!({ "digest": plan.digest(), "plan": plan, "watch": summary() })
}

/// What was asked of the fake: method and path with query, headers that matter, body.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) struct Asked {
    pub(in crate::cli) what: String,
    pub(in crate::cli) authorization: Option<String>,
    pub(in crate::cli) actor: Option<String>,
    pub(in crate::cli) body: String,
}

#[derive(Default)]
struct Script {
    answers: Mutex<BTreeMap<String, VecDeque<(u16, String)>>>,
    asked: Mutex<Vec<Asked>>,
}

/// A daemon that answers as told.
pub(in crate::cli) struct Fake {
    pub(in crate::cli) url: String,
    script: Arc<Script>,
}

impl Fake {
    pub(in crate::cli) async fn start() -> Self {
        let script = Arc::new(Script::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, script }
    }

    /// Answers `what`, such as `GET /v1/fleet`. Several answers are given one after the other, the last for ever.
    pub(in crate::cli) fn on(&self, what: &str, status: u16, body: impl ToString) -> &Self {
        let mut answers = self.script.answers.lock().unwrap();
        answers.entry(what.into()).or_default().push_back((status, body.to_string()));
        self
    }

    pub(in crate::cli) fn asked(&self, what: &str) -> Vec<Asked> {
        self.script.asked.lock().unwrap().iter().filter(|asked| asked.what == what).cloned().collect()
    }
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> impl IntoResponse {
    let what = format!("{} {}", request.method(), request.uri());
    let (authorization, actor) = {
        let header = |name: &str| Some(request.headers().get(name)?.to_str().unwrap().to_owned());
        (header("authorization"), header("turnback-actor"))
    };
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    script.asked.lock().unwrap().push(Asked { what: what.clone(), authorization, actor, body });
    let mut answers = script.answers.lock().unwrap();
    let Some(queue) = answers.get_mut(&what) else {
        return (StatusCode::NOT_FOUND, json!({ "error": format!("the fake knows no {what}") }).to_string());
    };
    let (status, body) = if queue.len() > 1 { queue.pop_front() } else { queue.front().cloned() }.unwrap();
    (StatusCode::from_u16(status).unwrap(), body)
}

/// Runs a command line to its end: the exit code, standard output, standard error.
pub(in crate::cli) async fn turnback(url: &str, arguments: &[&str]) -> (u8, String, String) {
    turnback_typing(url, arguments, None).await
}

/// As [`turnback`], with a person who types one line.
pub(in crate::cli) async fn turnback_typing(
    url: &str,
    arguments: &[&str],
    typed: Option<&'static str>,
) -> (u8, String, String) {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let program = ["turnback", "--url", url];
    let words = program.iter().chain(arguments);
    let cli = Cli::try_parse_from(words).unwrap();
    let surroundings = surroundings(&[("TURNBACK_TOKEN", "secret"), ("USER", "ada")]);
    let (mut console, said) = console(cli.options.output);
    console.verbose = cli.options.verbose;
    if let Some(line) = typed {
        console.interactive = true;
        console.keyboard = Arc::new(move || Ok(format!("{line}\n")));
    }
    let ended = crate::cli::execute(cli, &surroundings, &console).await;
    let code = ended.unwrap_or_else(|error| console.report(&error).into());
    (code_of(code), said.out(), said.err())
}

/// `ExitCode` does not tell its number, but it can be compared.
fn code_of(code: ExitCode) -> u8 {
    (0..=u8::MAX).find(|number| ExitCode::from(*number) == code).unwrap_or_else(|| Exit::Inconclusive.code())
}
