//! Whole command lines, from the words to the exit code, against a daemon that answers as told.

pub(in crate::cli) mod testing;

use super::{Cli, Command};
use crate::ledger::{Ledger, NewRecord};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};
use testing::{Fake, plan_answer, summary, turnback, turnback_typing};

#[test]
fn the_definition_of_the_command_line_holds_together() {
    Cli::command().debug_assert();
}

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn good_command_lines_are_understood() {
    let digest = "0123456789ab";
    let good = [
        "turnback status",
        "turnback status --all --output json -v --no-color",
        "turnback --url https://turnback.example:7440 incidents",
        "turnback explain w-0a1b",
        "turnback explain shop/checkout --token-file /t",
        "turnback plan checkout",
        "turnback approve p-0a1b-1",
        &format!("turnback approve p-0a1b-1 --digest {digest}"),
        &format!("turnback reject p-0a1b-1 --digest {digest} --reason no"),
        "turnback rollback checkout",
        "turnback rollback checkout --to 1.3.9 --environment eu/staging --no-wait --timeout 90m",
        "turnback stop",
        "turnback stop --reason drill",
        "turnback resume",
        "turnback freeze --reason sale",
        "turnback freeze checkout --for 1h30m --reason sale",
        "turnback unfreeze",
        "turnback unfreeze checkout",
        "turnback ledger verify --state-dir /s",
        "turnback ledger verify --ledger /s/ledger.db",
        "turnback ledger export --after 12",
        "turnback ledger tail -n 5 --follow",
        "turnback postmortem w-0a1b",
        "turnback completions zsh",
        "turnback run",
        "turnback run --config a.yaml --config b.d --listen 127.0.0.1:0 --state-dir /s",
        "turnback demo",
        "turnback demo --scenario metrics-outage --autonomy observe --output json",
        "turnback check --config a.yaml",
        "turnback config show --origin --config a.yaml",
        "turnback preset list",
        "turnback preset show vercel-rollback --output json",
        "turnback preset test",
        "turnback hooks list",
        "turnback hooks show github",
        "turnback hooks test gh body.json --header x-github-event=push --config a.yaml",
        "turnback preset test vercel-rollback --dry-run --with project=web --with deployment=dpl_1",
    ];
    for line in good {
        assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
    }
    let Command::Rollback(args) = parse("turnback rollback checkout").unwrap().command else {
        panic!("another command")
    };
    assert_eq!((args.environment.as_str(), args.to.is_none(), args.no_wait), ("production", true, false));
}

#[test]
fn bad_command_lines_are_wrong_usage() {
    let bad = [
        ("turnback", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("turnback rolback checkout", ErrorKind::InvalidSubcommand),
        ("turnback status --output yaml", ErrorKind::InvalidValue),
        ("turnback status --url ftp://a", ErrorKind::ValueValidation),
        ("turnback explain", ErrorKind::MissingRequiredArgument),
        ("turnback explain ../../etc", ErrorKind::ValueValidation),
        ("turnback approve p-1 --digest short", ErrorKind::ValueValidation),
        ("turnback reject p-1 --digest 0123456789ab", ErrorKind::MissingRequiredArgument),
        ("turnback rollback check;out", ErrorKind::ValueValidation),
        ("turnback rollback checkout --to --version", ErrorKind::InvalidValue),
        ("turnback rollback checkout --timeout 90", ErrorKind::ValueValidation),
        ("turnback freeze checkout", ErrorKind::MissingRequiredArgument),
        ("turnback freeze --for 2 --reason x", ErrorKind::ValueValidation),
        ("turnback ledger", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("turnback ledger export --after=-1", ErrorKind::ValueValidation),
        ("turnback ledger tail -n many", ErrorKind::ValueValidation),
        ("turnback demo --autonomy full", ErrorKind::InvalidValue),
        ("turnback demo --scenario flood", ErrorKind::InvalidValue),
        ("turnback run --listen everywhere", ErrorKind::ValueValidation),
        ("turnback completions cmd", ErrorKind::InvalidValue),
        ("turnback preset test --dry-run", ErrorKind::MissingRequiredArgument),
        ("turnback hooks test gh body.json --header none", ErrorKind::ValueValidation),
        ("turnback preset test vercel-rollback --with a=b", ErrorKind::MissingRequiredArgument),
        ("turnback preset test vercel-rollback --dry-run --with a", ErrorKind::ValueValidation),
        // The token itself is no argument: arguments are seen by everybody on the machine.
        ("turnback status --token secret", ErrorKind::UnknownArgument),
    ];
    for (line, kind) in bad {
        let error = parse(line).map(|cli| cli.command).expect_err(line);
        assert_eq!((error.kind(), error.exit_code()), (kind, 2), "{line}: {error}");
    }
}

fn fleet() -> Value {
    json!({ "stopped": null, "auto_suspended": null, "freezes": [], "open_watches": 1 })
}

#[tokio::test]
async fn status_is_a_table_or_one_document() {
    let fake = Fake::start().await;
    fake.on("GET /v1/fleet", 200, fleet()).on("GET /v1/watches", 200, json!([summary()]));
    let (code, out, err) = turnback(&fake.url, &["status"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("checkout") && out.contains("degraded (P1)"), "{out}");
    let (code, out, err) = turnback(&fake.url, &["status", "--output", "json", "--verbose"]).await;
    assert_eq!(code, 0);
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        json!({ "fleet": fleet(), "watches": [summary()] })
    );
    assert!(err.contains("GET ") && !err.contains("secret"), "{err}");
}

#[tokio::test]
async fn a_persons_word_carries_token_and_name() {
    let fake = Fake::start().await;
    fake.on("POST /v1/freezes", 200, json!({ "result": "frozen\u{1b}[2J" }));
    fake.on("DELETE /v1/freezes?service=shop%2Fcart", 200, json!({ "result": "unfrozen" }));
    fake.on("POST /v1/stop", 200, json!({ "result": "stopped" }));
    fake.on("DELETE /v1/stop", 200, json!({ "result": "resumed" }));
    let (code, out, _) = turnback(&fake.url, &["freeze", "cart", "--for", "2h", "--reason", "sale"]).await;
    assert_eq!((code, out.as_str()), (0, "frozen\\u{1b}[2J\n"));
    let asked = fake.asked("POST /v1/freezes");
    let asked = asked.first().unwrap();
    assert_eq!(asked.authorization.as_deref(), Some("Bearer secret"));
    assert_eq!(asked.actor.as_deref(), Some("ada"));
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!(body, json!({ "service": "cart", "duration": "2h", "reason": "sale" }));
    assert_eq!(turnback(&fake.url, &["unfreeze", "shop/cart"]).await.1, "unfrozen\n");
    assert_eq!(
        turnback(&fake.url, &["stop", "--output", "json"]).await.1,
        "{\n  \"result\": \"stopped\"\n}\n"
    );
    assert_eq!(turnback(&fake.url, &["resume"]).await.1, "resumed\n");
}

#[tokio::test]
async fn each_answer_of_the_daemon_has_its_exit_code() {
    let fake = Fake::start().await;
    let words = |words: &str| json!({ "error": words }).to_string();
    let cases = [
        (409, words("a guard holds: frozen"), 6, "error: a guard holds: frozen\n"),
        (401, words("this needs a token"), 2, "the token from TURNBACK_TOKEN is not the daemon's"),
        (422, words("`reason` has 2000 bytes"), 2, "error: `reason` has 2000 bytes\n"),
        (503, words("too many messages are waiting"), 7, "(HTTP 503 Service Unavailable): too many"),
        (404, "<html>".into(), 7, "does not answer like this version of Turnback"),
        (302, String::new(), 7, "does not answer like this version of Turnback"),
        (200, "<html>".into(), 7, "is not the JSON expected"),
        (200, "{}".into(), 7, "no field `result`"),
    ];
    for (number, (status, body, code, said)) in cases.into_iter().enumerate() {
        let service = format!("s{number}");
        fake.on(&format!("DELETE /v1/freezes?service={service}"), status, body);
        let (found, out, err) = turnback(&fake.url, &["unfreeze", &service]).await;
        assert_eq!((found, out.as_str()), (code, ""), "{status}: {err}");
        assert!(err.contains(said), "{status}: {err}");
    }
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    // A port that was ours a moment ago, and is nobody's now.
    let url = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let (code, out, err) = turnback(&url, &["status"]).await;
    assert_eq!((code, out.as_str()), (7, ""));
    assert!(
        err.starts_with(&format!("error: cannot reach the daemon; is `turnback run` running? ({url}/)\n")),
        "{err}"
    );
    assert!(err.contains("  because: "), "{err}");
    let (code, out, _) = turnback(&url, &["status", "--output", "json"]).await;
    assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()["exit_code"].clone()), (7, json!(7)));
    let (code, _, err) = turnback(&url, &["--state-dir", "/s", "stop"]).await;
    assert!(code == 7 && err.contains("touch /s/STOP"), "{err}");
}

#[tokio::test]
async fn a_service_stands_for_its_newest_watch() {
    let fake = Fake::start().await;
    let mut older = serde_json::to_value(summary()).unwrap();
    older["id"] = "w-0".into();
    fake.on("GET /v1/watches", 200, json!([summary(), older]));
    let detail = json!({ "watch": summary(), "why": {}, "text": "the card\n", "timeline": [["2026-03-01T12:00:00Z", "deployed"]] });
    fake.on("GET /v1/watches/w-1", 200, &detail).on(
        "GET /v1/watches/w-1/explanation",
        200,
        json!({ "watch": "w-1" }),
    );
    fake.on("GET /v1/watches/w-0/postmortem", 200, "# Post-mortem\n");
    let (code, out, _) = turnback(&fake.url, &["explain", "checkout"]).await;
    assert_eq!((code, out.as_str()), (0, "the card\n\nTimeline\n  2026-03-01T12:00:00Z  deployed\n"));
    let (_, out, _) = turnback(&fake.url, &["explain", "w-1", "--output", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), json!({ "watch": "w-1" }));
    assert_eq!(turnback(&fake.url, &["postmortem", "w-0"]).await.1, "# Post-mortem\n");
    let (code, _, err) = turnback(&fake.url, &["explain", "cart"]).await;
    assert!(code == 2 && err.contains("there is no watch and no watched service cart"), "{err}");
    // Not in memory: the daemon is asked by identity, as it can read its ledger.
    let (code, _, err) = turnback(&fake.url, &["explain", "w-9"]).await;
    assert!(code == 2 && err.contains("the fake knows no GET /v1/watches/w-9"), "{err}");
}

#[tokio::test]
async fn approving_needs_the_digest_of_what_was_seen() {
    let fake = Fake::start().await;
    fake.on("GET /v1/plans/p-1-1", 200, plan_answer());
    fake.on(
        "POST /v1/plans/p-1-1/approval",
        200,
        json!({ "result": "approved by ada; the rollback begins" }),
    );
    let (code, _, err) = turnback(&fake.url, &["approve", "p-1-1"]).await;
    assert!(code == 2 && err.contains("--digest is missing"), "{err}");
    let (code, _, err) = turnback_typing(&fake.url, &["approve", "p-1-1"], Some("000000000000")).await;
    assert!(
        code == 6 && err.contains("/usr/local/bin/deploy") && err.contains("nothing was approved"),
        "{err}"
    );
    assert_eq!(turnback_typing(&fake.url, &["approve", "p-1-1"], Some("")).await.0, 6);
    assert!(fake.asked("POST /v1/plans/p-1-1/approval").is_empty());
    let answer = plan_answer();
    let digest = answer["digest"].as_str().unwrap();
    let typed: &'static str = Box::leak(digest[..12].to_owned().into_boxed_str());
    let (code, out, _) = turnback_typing(&fake.url, &["approve", "p-1-1"], Some(typed)).await;
    assert_eq!((code, out.as_str()), (0, "approved by ada; the rollback begins\n"));
    let asked = fake.asked("POST /v1/plans/p-1-1/approval");
    let body: Value = serde_json::from_str(&asked.first().unwrap().body).unwrap();
    assert_eq!(body, json!({ "decision": "approve", "digest": digest }));
}

#[tokio::test]
async fn a_changed_plan_is_not_put_before_a_person() {
    let fake = Fake::start().await;
    let mut answer = plan_answer();
    answer["plan"]["steps"][0]["action"]["command"]["argv"][0] = "/bin/rm".into();
    fake.on("GET /v1/plans/p-1-1", 200, answer).on("GET /v1/watches", 200, json!([summary()]));
    let (code, _, err) = turnback_typing(&fake.url, &["approve", "p-1-1"], Some("x")).await;
    assert!(code == 6 && err.contains("do not approve it") && !err.contains("Type the first"), "{err}");
    assert_eq!(turnback(&fake.url, &["plan", "checkout"]).await.0, 6);
}

#[tokio::test]
async fn a_rollback_is_followed_to_its_end() {
    let ends = [
        ("rolled back, recovered", 0),
        ("rolled back, unverified: no data", 5),
        ("stuck: outcome unknown", 5),
    ];
    for (outcome, code) in ends {
        let fake = Fake::start().await;
        fake.on("GET /v1/watches", 200, json!([summary()]));
        fake.on("POST /v1/rollbacks", 200, json!({ "result": "the rollback begins" }));
        let story = |phase: &str, closed: bool, lines: usize| {
            let mut watch = serde_json::to_value(summary()).unwrap();
            (watch["phase"], watch["closed"]) = (phase.into(), closed.into());
            let timeline: Vec<Value> =
                (0..lines).map(|line| json!(["2026-03-01T12:03:00Z", format!("line {line}")])).collect();
            json!({ "watch": watch, "why": {}, "text": "", "timeline": timeline })
        };
        fake.on("GET /v1/watches/w-1", 200, story("watching", false, 1));
        fake.on("GET /v1/watches/w-1", 200, story("turning back", false, 2));
        fake.on("GET /v1/watches/w-1", 503, json!({ "error": "the agent is ending" }));
        fake.on("GET /v1/watches/w-1", 200, story(&format!("closed: {outcome}"), true, 3));
        let (found, out, err) = turnback(&fake.url, &["rollback", "checkout", "--to", "1.3.9"]).await;
        assert_eq!((found, out), (code, format!("checkout 1.4.0: {outcome}\n")), "{err}");
        assert!(!err.contains("line 0") && err.contains("line 1") && err.contains("line 2"), "{err}");
        assert_eq!(err.matches("line 1").count(), 1, "{err}");
        let body: Value = serde_json::from_str(&fake.asked("POST /v1/rollbacks")[0].body).unwrap();
        assert_eq!(body, json!({ "service": "checkout", "environment": "production", "to": "1.3.9" }));
        let (found, out, _) = turnback(&fake.url, &["rollback", "checkout", "--output", "json"]).await;
        let document: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (found, &document["exit_code"], &document["watch"]["id"]),
            (code, &json!(code), &json!("w-1"))
        );
    }
}

#[tokio::test]
async fn a_rollback_that_is_refused_or_takes_long_says_so() {
    let fake = Fake::start().await;
    fake.on("GET /v1/watches", 200, json!([]));
    fake.on(
        "POST /v1/rollbacks",
        409,
        json!({ "error": "no deployment of checkout in production is known" }),
    );
    let (code, out, err) = turnback(&fake.url, &["rollback", "checkout"]).await;
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (6, "", "error: no deployment of checkout in production is known\n")
    );
    let fake = Fake::start().await;
    fake.on("GET /v1/watches", 200, json!([])).on("GET /v1/watches", 200, json!([summary()]));
    fake.on("POST /v1/rollbacks", 200, json!({ "result": "the rollback begins" }));
    fake.on("GET /v1/watches/w-1", 200, json!({ "watch": summary(), "text": "", "timeline": [] }));
    let (code, _, err) = turnback(&fake.url, &["rollback", "checkout", "--timeout", "700ms"]).await;
    assert!(code == 3 && err.contains("no end within 700ms; the daemon goes on"), "{err}");
    let (code, out, _) = turnback(&fake.url, &["rollback", "checkout", "--no-wait"]).await;
    assert_eq!((code, out.as_str()), (0, "the rollback begins\n"));
}

async fn ledger_in(directory: &std::path::Path) {
    let ledger = Ledger::open(&directory.join(crate::app::LEDGER_FILE)).await.unwrap();
    let at = testing::at("2026-03-01T12:00:00Z");
    let records =
        (1..=3).map(|number| NewRecord::new("fleet", "said", 1, at, json!({ "n": number, "t": "\u{9b}2J" })));
    ledger.append(records.collect()).await.unwrap();
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn the_ledger_is_read_without_a_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let nowhere = "http://127.0.0.1:9";
    let (code, _, err) = turnback(nowhere, &["--state-dir", state, "ledger", "verify"]).await;
    assert!(code == 2 && err.contains("there is no ledger at"), "{err}");
    ledger_in(dir.path()).await;
    let (code, out, err) = turnback(nowhere, &["--state-dir", state, "ledger", "verify"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("sound: ") && out.contains("records  3 that fit"), "{out}");
    let (code, out, _) = turnback(nowhere, &["--state-dir", state, "ledger", "export", "--after", "1"]).await;
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (code, lines.len(), &lines[0]["sequence"], &lines[0]["body"]["t"]),
        (0, 2, &json!(2), &json!("\u{9b}2J"))
    );
    assert!(!out.contains('\u{9b}'));
    let (_, out, _) = turnback(nowhere, &["--state-dir", state, "ledger", "tail", "-n", "2"]).await;
    assert!(out.lines().count() == 2 && out.contains("     3  2026-03-01T12:00:00Z  fleet"), "{out}");
    let (_, out, _) =
        turnback(nowhere, &["--state-dir", state, "ledger", "tail", "-n", "2", "--output", "json"]).await;
    assert_eq!(serde_json::from_str::<Vec<Value>>(&out).unwrap().len(), 2);
}

#[tokio::test]
async fn a_ledger_that_was_changed_is_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    ledger_in(dir.path()).await;
    let path = dir.path().join(crate::app::LEDGER_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(7).position(|bytes| bytes == b"{\"n\":2,").unwrap();
    bytes[place + 5] = b'7';
    std::fs::write(&path, bytes).unwrap();
    let file = path.to_str().unwrap();
    let (code, out, _) = turnback("http://127.0.0.1:9", &["ledger", "verify", "--ledger", file]).await;
    assert!(code == 1 && out.contains("BROKEN") && out.contains("broken   record 2"), "{out}");
    let words = ["ledger", "verify", "--ledger", file, "--output", "json"];
    let (code, out, _) = turnback("http://127.0.0.1:9", &words).await;
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &document["sound"], &document["broken"]["sequence"]), (1, &json!(false), &json!(2)));
    let (code, _, err) = turnback("http://127.0.0.1:9", &["ledger", "export", "--ledger", file]).await;
    assert!(code == 1 && err.contains("record 2 of the ledger is not what was written"), "{err}");
}

#[tokio::test]
async fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = turnback("http://127.0.0.1:9", &["completions", shell]).await;
        assert!(code == 0 && out.contains("postmortem") && out.contains("rollback"), "{shell}: {out}");
    }
}

#[tokio::test]
async fn a_drill_is_followed_and_its_report_filed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("drill.md");
    let fake = Fake::start().await;
    let mut over = serde_json::to_value(summary()).unwrap();
    (over["phase"], over["closed"], over["environment"]) =
        ("closed: rolled back, recovered".into(), true.into(), "staging".into());
    fake.on("GET /v1/watches", 200, json!([over]));
    fake.on("POST /v1/rollbacks", 200, json!({ "result": "the rollback begins" }));
    fake.on("GET /v1/watches/w-1", 200, json!({ "watch": over, "text": "", "timeline": [] }));
    fake.on("GET /v1/watches/w-1/postmortem", 200, json!("# Drill"));
    let report = file.to_str().unwrap();
    let (code, out, err) = turnback(&fake.url, &["drill", "checkout", "--report", report]).await;
    assert_eq!((code, out.contains("rolled back, recovered")), (0, true), "{out}{err}");
    let body: Value = serde_json::from_str(&fake.asked("POST /v1/rollbacks")[0].body).unwrap();
    assert_eq!(body["drill"], true);
    assert_eq!(body["environment"], "staging", "a drill is not for production unless somebody says so");
    let filed = std::fs::read_to_string(&file).unwrap();
    assert!(filed.contains("# Drill"), "{filed}");
    // An earlier report is not written over.
    let (code, _, err) = turnback(&fake.url, &["drill", "checkout", "--report", report]).await;
    assert!(code != 0 && err.contains("cannot write the report"), "{code}: {err}");
}

#[tokio::test]
async fn the_last_drills_are_listed() {
    let fake = Fake::start().await;
    let last = json!({ "at": "2026-03-01T12:03:00Z", "outcome": "rolled back, recovered" });
    fake.on("GET /v1/drills", 200, json!({ "checkout@staging": last, "search@staging": null }));
    let (code, out, err) = turnback(&fake.url, &["drill"]).await;
    assert_eq!(code, 0, "{err}");
    for part in ["checkout@staging", "2026-03-01T12:03:00Z", "rolled back, recovered", "never"] {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[tokio::test]
async fn a_plan_is_drafted_and_tried_when_none_was_decided() {
    let fake = Fake::start().await;
    let mut watch = serde_json::to_value(summary()).unwrap();
    watch["plan"] = Value::Null;
    fake.on("GET /v1/watches", 200, json!([watch]));
    let mut answer = plan_answer();
    answer["watch"]["plan"] = Value::Null;
    answer["rehearsal"] =
        json!({ "to": "1.3.9", "steps": [["deploy", { "fails": { "reason": "no such program" } }]] });
    answer["rehearsed_at"] = "2026-03-01T12:03:00Z".into();
    fake.on("POST /v1/rehearsals", 200, answer);
    let (code, out, err) = turnback(&fake.url, &["plan", "checkout"]).await;
    assert_eq!(code, 0, "{err}");
    for part in [
        "no: this is the plan that would be drawn up now",
        "fails: no such program",
        "1 of 1 steps would fail",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
}
