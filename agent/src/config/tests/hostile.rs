//! Texts that are meant to hang or crash, and the example damaged at random: always an answer, and soon.

use super::example::EXAMPLE;
use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// Far more than it takes on a busy machine, far less than a person waits.
const SOON: Duration = Duration::from_secs(20);

fn refused(text: &str, fragment: &str) {
    let start = Instant::now();
    let report = check_text("a.yaml", text);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(report.problems.iter().any(|problem| problem.message.contains(fragment)), "{report}");
    assert!(report.to_string().len() < 400_000);
}

#[test]
fn a_billion_laughs_are_refused() {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..12 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    refused(&text, "values, copies by aliases");
    refused("a: &a [*a]", "");
}

#[test]
fn deep_nesting_is_refused() {
    refused(&"[".repeat(500_000), "");
    refused(&"{a: ".repeat(200_000), "");
    refused(&"- ".repeat(400_000), "");
    let block: String = (0..700).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    refused(&block, "");
    let deep =
        format!("x: &a {}1{}\ny: &b {}*a{}", "[".repeat(40), "]".repeat(40), "[".repeat(40), "]".repeat(40));
    refused(&deep, "deep");
    assert!(!check_text("a.json", &"[".repeat(500_000)).is_good());
    assert!(!check_text("a.toml", &format!("a = {}", "[".repeat(500_000))).is_good());
}

#[test]
fn many_mistakes_are_told_up_to_a_limit() {
    let services: String =
        (0..3_000).map(|number| format!("  s{number}: {{ wrong: 1, matrix: [] }}\n")).collect();
    let start = Instant::now();
    let report = check_text("a.yaml", &format!("services:\n{services}"));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!((report.problems.len(), report.cut), (200, true));
    assert!(report.to_string().ends_with("200 problems; there may be more"));
    let start = Instant::now();
    let keys: String = (0..60_000).map(|_| "a: 1\n").collect();
    assert!(check_text("a.yaml", &keys).cut);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn many_services_are_read_soon() {
    let signals = "{ errors: { source: p, measure: { proportion: { of: g, bad: { a: b } } } } }";
    let services: String =
        (0..3_000).map(|number| format!("  s{number}: {{ signals: {signals} }}\n")).collect();
    let start = Instant::now();
    let text = format!("signals: {{ probe: {{ p: {{ targets: ['http://h/'] }} }} }}\nservices:\n{services}");
    let report = check_text("a.yaml", &text);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(report.is_good(), "{report}");
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    for text in [
        "\"a\\e[31mb\": 1\n",
        "log: { level: \"\\e[31m\" }\n",
        "services: { \"\\u0007\": {} }\n",
        "a:\u{9b}31m 1",
    ] {
        let report = check_text("a.yaml", text).to_string();
        assert!(!report.chars().any(|c| c.is_control() && c != '\n'), "{report:?}");
    }
}

#[test]
fn secrets_that_were_written_in_the_open_are_not_repeated() {
    let text = "
api: { token: hunter2hunter2, listen: 0.0.0.0:1 }
signals:
  prometheus:
    a: { url: http://localhost, bearer: hunter2hunter2, timout: 1s }
    b:
      url: https://ada:hunter2hunter2@localhost/?q
      bearer:
        value: hunter2hunter2
    c: { url: http://localhost, password: hunter2hunter2 }
    d: { url: http://localhost, bearer: { file: hunter2hunter2 } }
    e: { url: http://localhost, bearer: { env: [hunter2hunter2] } }
    f: { url: http://localhost, bearer: { env: { x: hunter2hunter2 } } }
notify: { slack: { x: { url: 'https://hooks.example/hunter2hunter2' } } }
runbooks:
  a:
    steps:
    - { name: a, preset: { name: slack-message, with: { channel: c, text: t, token: hunter2hunter2 } } }
    - name: b
      preset: { name: slack-message, with: { channel: c, text: t, tokn: hunter2hunter2 } }
    - name: c
      preset:
        with: { channel: c, text: t, token: { value: hunter2hunter2 } }
        name: slack-message
";
    let report = check_text("a.yaml", text);
    let all = format!("{report}\n{}", serde_json::to_string(&report).unwrap());
    assert!(!all.contains("hunter2"), "{report}");
    assert!(report.problems.len() >= 11, "{report}");
    assert!(all.contains("a secret must not stand in the configuration"));
}

fn damaged(kind: u8, one: usize, other: usize, letter: char) -> String {
    let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
    let (first, second) = (one % lines.len(), other % lines.len());
    match kind {
        0 => drop(lines.remove(first)),
        1 => lines.insert(first, lines[first].clone()),
        2 => lines.swap(first, second),
        3 => lines[first] = lines[first].replacen('#', "", 1),
        4 => lines[first].insert(0, ' '),
        _ => {
            let mut letters: Vec<char> = EXAMPLE.chars().collect();
            let (first, second) = (one % letters.len(), other % letters.len());
            match kind {
                5 => letters.swap(first, second),
                6 => drop(letters.remove(first)),
                7 => letters.insert(first, letter),
                8 => letters[first] = letter,
                _ => letters.truncate(first),
            }
            return letters.into_iter().collect();
        }
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_is_told_and_never_panics(damages in prop::collection::vec((0..10u8, any::<usize>(), any::<usize>(), any::<char>()), 1..3)) {
        let start = Instant::now();
        for (kind, one, other, letter) in damages {
            let text = damaged(kind, one, other, letter);
            let report = check_text("a.yaml", &text);
            for problem in &report.problems {
                prop_assert!(!problem.message.is_empty());
                prop_assert!(problem.line.is_none_or(|line| line <= text.lines().count() + 1));
            }
            prop_assert!(!report.to_string().is_empty());
        }
        prop_assert!(start.elapsed() < SOON);
    }

    #[test]
    fn noise_never_panics(text in "[a-z:{}\\[\\]#&*!|>'\"%@` \n\t,?-]{0,200}", name in prop::sample::select(vec!["a.yaml", "a.toml", "a.json"])) {
        prop_assert!(!check_text(name, &text).to_string().is_empty());
    }
}
