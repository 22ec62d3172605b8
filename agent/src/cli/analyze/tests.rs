//! The command from its words to its exit code, against a Prometheus that makes its samples up.

use crate::cli::console::Format;
use crate::cli::tests::testing::{console, surroundings};
use crate::cli::{Cli, Command, Exit};
use axum::extract::{RawQuery, State};
use clap::Parser as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Requests a second, and the share of them that fails.
#[derive(Clone, Copy)]
struct Rates {
    requests: f64,
    bad: f64,
}

/// What the made-up service does: a canary beside a control, and the time before its deployment.
#[derive(Clone, Copy)]
struct World {
    canary: Rates,
    control: Rates,
    /// Since when the canary is as it is, seconds since 1970; before, it was as the control.
    since: f64,
}

const STEP: f64 = 5.0;

/// Samples of all counters each five seconds in the range that is asked for, as a Prometheus answers.
async fn answer(State(world): State<World>, RawQuery(query): RawQuery) -> String {
    let query = query.unwrap_or_default();
    let parameter = |name: &str| {
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        percent_encoding::percent_decode_str(pair.unwrap_or_default()).decode_utf8_lossy().into_owned()
    };
    let time: f64 = parameter("time").parse().unwrap();
    let text = parameter("query");
    let range = text.rsplit('[').next().unwrap().trim_end_matches("ms]").parse::<f64>().unwrap() / 1_000.0;
    let mut result = Vec::new();
    let one = text.contains("version=\"v2\"");
    for (version, rates) in [("v2", world.canary), ("v1", world.control)] {
        if one && version != "v2" {
            continue;
        }
        let other = world.control;
        // A counter that grows at one rate until the deployment and at another from then on.
        let grown =
            |at: f64, old: f64, new: f64| old * at.min(world.since) + new * (at - world.since).max(0.0);
        for (code, share) in [("200", |rates: Rates| 1.0 - rates.bad), ("500", |rates: Rates| rates.bad)]
            as [(&str, fn(Rates) -> f64); 2]
        {
            let first = ((time - range) / STEP).ceil() as u64;
            let last = (time / STEP).floor() as u64;
            let values: Vec<Value> = (first..=last)
                .map(|number| {
                    let at = number as f64 * STEP;
                    let value = grown(at - 1e9, share(other) * other.requests, share(rates) * rates.requests);
                    json!([at, value.floor().to_string()])
                })
                .collect();
            let metric = json!({ "__name__": "requests_total", "version": version, "code": code });
            result.push(json!({ "metric": metric, "values": values }));
        }
    }
    json!({ "status": "success", "data": { "resultType": "matrix", "result": result } }).to_string()
}

async fn prometheus(canary: Rates, control: Rates, since: i64) -> String {
    let world = World { canary, control, since: since as f64 - 1e9 };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(answer).with_state(world);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// Runs words to their end, in these surroundings: the exit code, standard output, standard error.
async fn run(words: &[&str], variables: &[(&str, &str)]) -> (ExitCode, String, String) {
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::try_parse_from(["turnback", "analyze"].iter().chain(words)).unwrap();
    let (console, said) = console(cli.options.output);
    let ended = crate::cli::execute(cli, &surroundings(variables), &console).await;
    let code = ended.unwrap_or_else(|error| console.report(&error).into());
    (code, said.out(), said.err())
}

/// Words for five minutes of the past.
fn past<'a>(url: &'a str, at: &'a str) -> Vec<&'a str> {
    let mut words = vec!["--prometheus", url, "--errors", "requests_total", "--bad", "code=5.."];
    words.extend(["--deployed-at", at, "--for", "5m", "--dispersion", "1", "--service", "checkout"]);
    words
}

fn minutes_ago(minutes: i64) -> i64 {
    crate::clock::now().as_second() - 60 * minutes
}

const GOOD: Rates = Rates { requests: 50.0, bad: 0.01 };

#[tokio::test]
async fn each_answer_has_its_exit_code_beside_a_control_and_against_before() {
    let rare = Rates { requests: 0.05, bad: 0.0 };
    let cases = [
        // What the canary does, what the control does and what was before; the answer.
        (GOOD, GOOD, Exit::Done, "healthy"),
        (Rates { bad: 0.05, ..GOOD }, GOOD, Exit::Degraded, "degraded"),
        (rare, rare, Exit::Inconclusive, "inconclusive"),
    ];
    let since = minutes_ago(10);
    let at = since.to_string();
    for (canary, control, exit, verdict) in cases {
        let url = prometheus(canary, control, since).await;
        for beside in [true, false] {
            let mut words = past(&url, &at);
            words.extend(["--output", "json"]);
            if beside {
                words.extend(["--canary", "version=v2"]);
            } else {
                words[3] = "requests_total{version=\"v2\"}";
            }
            let (code, out, err) = run(&words, &[]).await;
            let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
            assert_eq!(report["verdict"], verdict, "beside {beside}: {report:#}");
            assert_eq!((code, &report["exit_code"]), (exit.into(), &json!(exit.code())), "{report:#}");
            let compared = if beside { "canary against control" } else { "after against before" };
            assert_eq!(report["compared"], compared);
        }
    }
}

#[tokio::test]
async fn a_canary_that_gets_no_traffic_is_no_good_canary() {
    let since = minutes_ago(10);
    let url = prometheus(Rates { requests: 0.05, bad: 0.0 }, GOOD, since).await;
    let at = since.to_string();
    let mut words = past(&url, &at);
    words.extend(["--canary", "version=v2", "--share", "10%"]);
    let (code, out, _) = run(&words, &[]).await;
    assert_eq!(code, Exit::Degraded.into(), "{out}");
    assert!(out.contains("canary-starved"), "{out}");
}

#[tokio::test]
async fn a_prometheus_that_is_not_there_is_blind() {
    let at = minutes_ago(10).to_string();
    let mut words = past("http://127.0.0.1:9", &at);
    words.extend(["--canary", "version=v2"]);
    let (code, out, err) = run(&words, &[]).await;
    assert_eq!(code, Exit::Blind.into(), "{out}");
    assert!(out.starts_with("blind: checkout in production, canary against control"), "{out}");
    assert!(out.contains("cannot be reached"), "{out}");
    assert!(err.starts_with("analyze: blind, 0s left\nanalyze: errors: "), "{err}");
}

#[tokio::test]
async fn too_little_traffic_says_how_much_is_missing() {
    let since = minutes_ago(10);
    let rare = Rates { requests: 0.2, bad: 0.0 };
    let url = prometheus(rare, rare, since).await;
    let at = since.to_string();
    let mut words = past(&url, &at);
    words.extend(["--canary", "version=v2"]);
    let (code, out, _) = run(&words, &[]).await;
    assert_eq!(code, Exit::Inconclusive.into(), "{out}");
    let line = out.lines().find(|line| line.trim_start().starts_with("missing")).unwrap_or_default();
    assert!(line.contains("about ") && line.ends_with(" more requests"), "{out}");
}

#[tokio::test]
async fn reports_go_to_files_and_to_github() {
    let since = minutes_ago(10);
    let url = prometheus(Rates { bad: 0.2, ..GOOD }, GOOD, since).await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (xml, markdown, document) = (path("r.xml"), path("r.md"), path("r.json"));
    let summary = path("summary");
    std::fs::write(&summary, "before\n").unwrap();
    let at = since.to_string();
    let mut words = past(&url, &at);
    words.extend(["--canary", "version={{version}}", "--version", "v2", "--output", "junit"]);
    words.extend(["--report", &xml, "--report", &markdown, "--report", &document]);
    let github = [("GITHUB_STEP_SUMMARY", summary.as_str()), ("GITHUB_ACTIONS", "true")];
    let (code, out, err) = run(&words, &github).await;
    assert_eq!(code, Exit::Degraded.into(), "{out}");
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&xml), out);
    assert!(out.starts_with("<?xml version=\"1.0\""), "{out}");
    assert!(out.contains("<testsuite name=\"turnback analyze checkout v2 in production\""), "{out}");
    assert!(out.contains("name=\"canary-errors-above-10-percent (P1)\""), "{out}");
    assert!(
        out.matches("<failure ").count() >= 3
            && out.contains("<testcase classname=\"turnback.signal\" name=\"errors\""),
        "{out}"
    );
    assert_eq!(out.matches("<testcase").count(), out.matches("</testcase>").count());
    let page = read(&markdown);
    assert!(page.starts_with("## ❌ degraded \\(P1\\): checkout v2 in production\n"), "{page}");
    assert_eq!(read(&summary), format!("before\n{page}"));
    assert_eq!(serde_json::from_str::<Value>(&read(&document)).unwrap()["severity"], "P1");
    let annotation = err.lines().last().unwrap_or_default();
    assert!(annotation.starts_with("::error title=turnback%3A degraded (P1)::checkout v2 in"), "{err}");
}

#[tokio::test]
async fn what_is_missing_or_contradicts_itself_is_2_and_says_what_to_write() {
    let url = ["--prometheus", "http://127.0.0.1:9"];
    let errors = ["--errors", "requests_total", "--bad", "code=5.."];
    let now = ["--deployed-at", "now"];
    let join = |parts: &[&[&'static str]]| parts.concat();
    let cases: [(Vec<&str>, &str); 12] = [
        (join(&[&errors, &now]), "--prometheus URL"),
        (join(&[&url, &now]), "--errors SELECTOR"),
        (join(&[&url, &errors]), "--canary LABEL=REGEX"),
        (join(&[&url, &now, &["--gauge", "queue_depth"]]), "no signal is critical"),
        (join(&[&url, &errors, &["--canary", "version={{version}}"]]), "--version"),
        (join(&[&url, &errors, &now, &["--matrix", "nonsense"]]), "canary, cautious"),
        (join(&[&url, &errors, &now, &["--alpha", "2"]]), "--alpha is 2; expected"),
        (join(&[&url, &errors, &now, &["--soak", "20m"]]), "--for is 10m"),
        (join(&[&url, &errors, &now, &["--bearer-env", "NOT_THERE"]]), "NOT_THERE"),
        (join(&[&url, &errors, &now, &["--report", "/nowhere/x.md"]]), "/nowhere/x.md"),
        (join(&[&url, &errors, &["--deployed-at", "2999-01-01T00:00:00Z"]]), "in the future"),
        (join(&[&["--prometheus", "nonsense"], &errors, &now]), "url"),
    ];
    for (words, expected) in cases {
        let (code, out, err) = run(&words, &[]).await;
        assert_eq!(code, Exit::Usage.into(), "{words:?}: {out}{err}");
        let expected = expected.replace("canary, cautious", "standard, canary, cautious");
        assert!(err.contains(&expected), "{words:?}: {err}");
    }
}

#[test]
fn values_that_cannot_be_are_refused_when_they_are_read() {
    let good = ["--prometheus", "http://p", "--errors", "requests_total", "--bad", "code=5.."];
    let cases: [(&[&str], &str); 9] = [
        (&["--canary", "version"], "such as version=v2"),
        (&["--canary", "version=~v2"], "leave the ~ out"),
        (&["--canary", "version=("], "not a regular expression"),
        (&["--canary", "a-b=c"], "not the name of a label"),
        (&["--control", "version=v1"], "--canary"),
        (&["--share", "10%"], "--canary"),
        (&["--deployed-at", "yesterday"], "RFC 3339"),
        (&["--for", "10"], "unit is missing"),
        (&["--latency", "rate(x[5m])"], "--latency"),
    ];
    assert!(Cli::try_parse_from(["turnback", "analyze"].iter().chain(&good)).is_ok());
    for (words, expected) in cases {
        let all = ["turnback", "analyze"].iter().chain(&good).chain(words);
        let error = Cli::try_parse_from(all).unwrap_err();
        let expected = expected.replace("RFC 3339", "2027-01-15T12:00:00Z");
        assert!(error.to_string().contains(&expected), "{words:?}: {error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[tokio::test]
async fn the_configuration_gives_sources_signals_and_comparison() {
    let since = minutes_ago(10);
    let url = prometheus(Rates { bad: 0.2, ..GOOD }, GOOD, since).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turnback.yaml");
    let text = format!(
        r#"
version: 1
signals: {{ prometheus: {{ main: {{ url: "{url}" }}, unused: {{ url: "http://127.0.0.1:9", bearer: {{ env: NOWHERE }} }} }} }}
services:
  checkout:
    matrix: canary
    compare: {{ canary: {{ version: "{{{{version}}}}" }}, control: {{ version: "{{{{previous}}}}" }} }}
    statistics: {{ dispersion: 1 }}
    signals:
      errors: {{ source: main, measure: {{ proportion: {{ of: requests_total, bad: {{ code: "5.." }} }} }} }}
"#
    );
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let at = since.to_string();
    let base = ["--config", path, "--service", "checkout", "--deployed-at", &at, "--for", "5m"];
    let with = |more: &[&'static str]| base.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    let (code, out, err) = run(&with(&["--version", "v2", "--previous", "v1"]), &[]).await;
    assert_eq!(code, Exit::Degraded.into(), "{out}{err}");
    assert!(out.starts_with("degraded (P1): checkout v2 in production, canary against control\n"), "{out}");
    let (code, _, err) = run(&with(&[]), &[]).await;
    assert_eq!(code, Exit::Usage.into());
    assert!(err.contains("--version"), "{err}");
    let (code, _, err) = run(&["--config", path, "--service", "cart"], &[]).await;
    assert_eq!(code, Exit::Usage.into());
    assert!(err.contains("no service cart; it has checkout"), "{err}");
    let (code, _, err) = run(&with(&["--version", "v2", "--environment", "staging"]), &[]).await;
    assert_eq!(code, Exit::Usage.into());
    assert!(err.contains("it runs in production"), "{err}");
}

#[tokio::test]
async fn other_commands_refuse_the_formats_of_an_analysis() {
    for format in ["junit", "markdown"] {
        let cli = Cli::try_parse_from(["turnback", "status", "--output", format]).unwrap();
        let (console, said) = console(Format::Text);
        let error = crate::cli::execute(cli, &surroundings(&[]), &console).await.unwrap_err();
        assert_eq!(console.report(&error), Exit::Usage);
        assert!(said.err().contains("is for `turnback analyze` only"), "{}", said.err());
    }
}

/// Words as a shell takes them: quotes, continued lines, a comment's end. Enough for the files in `deploy/ci`.
fn words_of(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, '\\') => {
                // A line break that is escaped is none.
                if let Some(next) = letters.next().filter(|next| *next != '\n') {
                    word.push(next);
                    begun = true;
                }
            }
            (None, '\'' | '"') => (quote, begun) = (Some(letter), true),
            (Some(open), close) if open == close => quote = None,
            (None, '\n' | '|' | '&' | ';') => break,
            (None, ' ') => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            (_, letter) => {
                word.push(letter);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// Every text in a document, and every list of texts as the words of a command.
fn commands_in(value: &Value, found: &mut Vec<Vec<String>>) {
    match value {
        Value::String(text) => {
            let starts = text.match_indices("turnback analyze").map(|(start, _)| start);
            found.extend(starts.map(|start| words_of(&text[start..])));
        }
        Value::Array(items) => {
            let words: Option<Vec<String>> =
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            match words {
                Some(words) if matches!(words.as_slice(), [first, second, ..] if first == "analyze" && second.starts_with("--")) =>
                {
                    found.push(std::iter::once("turnback".to_owned()).chain(words).collect());
                }
                _ => items.iter().for_each(|item| commands_in(item, found)),
            }
        }
        Value::Object(map) => map.values().for_each(|item| commands_in(item, found)),
        _ => {}
    }
}

#[test]
fn the_snippets_are_yaml_and_their_commands_are_understood() {
    let files = [
        ("github-actions.yml", include_str!("../../../../deploy/ci/github-actions.yml")),
        ("gitlab-ci.yml", include_str!("../../../../deploy/ci/gitlab-ci.yml")),
        ("argo-rollouts.yaml", include_str!("../../../../deploy/ci/argo-rollouts.yaml")),
    ];
    for (name, text) in files {
        let document: Value = serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut commands = Vec::new();
        commands_in(&document, &mut commands);
        assert_eq!(commands.len(), 1, "{name}: {commands:?}");
        for words in commands {
            let filled = words.iter().map(|word| {
                let word = word.replace("{{args.service}}", "checkout").replace("{{args.version}}", "v2");
                word.replace("$VERSION", "v2").replace("$CI_COMMIT_SHORT_SHA", "v2")
            });
            let cli = Cli::try_parse_from(filled).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(matches!(cli.command, Command::Analyze(_)), "{name}");
        }
    }
}

#[test]
fn the_examples_of_the_help_are_understood() {
    let text = super::EXAMPLES;
    let starts: Vec<usize> = text.match_indices("turnback analyze").map(|(start, _)| start).collect();
    assert_eq!(starts.len(), 5);
    let rest = ["--prometheus", "http://p", "--availability", "up"].map(str::to_owned);
    for start in starts {
        let mut words = words_of(&text[start..]);
        if let Some(dots) = words.iter().position(|word| word == "…") {
            words.splice(dots..=dots, rest.clone());
        }
        let parsed = Cli::try_parse_from(&words);
        assert!(parsed.is_ok(), "{words:?}: {}", parsed.unwrap_err());
    }
    let codes = BTreeMap::from([("0 healthy", 0), ("1 degraded", 1), ("3 inconclusive", 3), ("4 blind", 4)]);
    assert!(codes.keys().all(|words| text.contains(words)));
}
