//! Broken configurations: each must be told with its place, its key and words that help.

use super::cases::{CASES, Case};
use super::*;

const PROMETHEUS: &str = "signals: { prometheus: { main: { url: http://localhost:9090 } } }\n";

/// The same, after two lines: a Prometheus server `main` in line 1, and `services:`.
const SERVICES: &[Case] = &[
    (
        "an unknown source",
        "  a:\n    signals:\n      x: { source: mian, measure: { gauge: { value: g } } }\n",
        &[(5, "services.a.signals.x.source", "did you mean `main`?")],
    ),
    (
        "an unknown matrix",
        "  a: { matrix: mine }\n",
        &[(3, "services.a.matrix", "the name of a matrix: canary, cautious, standard")],
    ),
    (
        "an unknown runbook",
        "  a: { runbook: back }\n",
        &[(3, "services.a.runbook", "the name of a runbook: compose, coordinated-back-and-front")],
    ),
    (
        "a mistyped runbook that ships",
        "  a: { runbook: node-servise }\n",
        &[(3, "services.a.runbook", "did you mean `node-service`?")],
    ),
    (
        "a mistyped runbook with values",
        "  a:\n    runbook:\n      name: sytemd\n      with: { unit: a.service }\n",
        &[(5, "services.a.runbook.name", "did you mean `systemd`?")],
    ),
    (
        "a runbook without the values that it needs",
        "  a:\n    runbook: systemd\n",
        &[
            (4, "services.a.runbook", "the parameter `health` of the runbook `systemd`: is missing"),
            (4, "services.a.runbook", "runbook: { name: systemd, with: { unit: … } }"),
        ],
    ),
    (
        "values that do not fit a runbook",
        "  a:\n    runbook:\n      name: systemd\n      with:\n        unit: a b\n        helth: 'http://a'\n        health: 'http://a'\n        seconds: ten\n",
        &[
            (7, "services.a.runbook.with.unit", "expected: a text like"),
            (8, "services.a.runbook.with.helth", "is not known; there are current, health"),
            (10, "services.a.runbook.with.seconds", "expected: a whole number"),
        ],
    ),
    (
        "a runbook's secret that cannot be one",
        "  a:\n    runbook:\n      name: gitops\n      with: { git_repository: 'https://git.example/a.git', git_token: { file: token } }\n",
        &[(4, "services.a.runbook", "at its step `revert`")],
    ),
    (
        "a key that a named runbook does not have",
        "  a:\n    runbook: { name: systemd, wth: {} }\n",
        &[(4, "services.a.runbook.wth", "unknown key")],
    ),
    (
        "autonomy without runbook",
        "  a:\n    autonomy:\n      level: approve\n",
        &[(5, "services.a.autonomy.level", "no runbook")],
    ),
    (
        "a rate",
        "  a: { signals: { x: { source: main, measure: { gauge: { value: 'rate(g[5m])' } } } } }\n",
        &[(3, "services.a.signals.x.measure.gauge.value", "is a function")],
    ),
    (
        "a range in the targets",
        "  a: { signals: { x: { source: main, targets: 'up[5m]', measure: { gauge: { value: g } } } } }\n",
        &[(3, "services.a.signals.x.targets", "a range such as [5m]")],
    ),
    (
        "a bad expression",
        "  a:\n    signals:\n      x:\n        source: main\n        measure:\n          proportion:\n            of: requests_total\n            bad: { code: '5(' }\n",
        &[(10, "services.a.signals.x.measure.proportion.bad.code", "is not a regular expression")],
    ),
    (
        "nothing is bad",
        "  a: { signals: { x: { source: main, measure: { proportion: { of: requests_total, bad: {} } } } } }\n",
        &[(3, "services.a.signals.x.measure.proportion.bad", "nothing would be bad")],
    ),
    (
        "a quantile of 95",
        "  a: { signals: { x: { source: main, measure: { latency: { buckets: b, quantile: 95 } } } } }\n",
        &[(3, "services.a.signals.x.measure.latency.quantile", "such as 0.95")],
    ),
    (
        "a signal of two kinds",
        "  a: { signals: { x: { source: main, measure: { gauge: { value: g }, availability: { up: u } } } } }\n",
        &[(3, "services.a.signals.x.measure", "a map with exactly one of the keys proportion")],
    ),
    (
        "a kind that does not fit the matrix",
        "  a:\n    signals:\n      availability:\n        source: main\n        measure: { gauge: { value: g } }\n",
        &[(7, "services.a.signals.availability.measure", "`below` is for availability only")],
    ),
    (
        "a signal without measure",
        "  a:\n    signals:\n      x: { source: main }\n",
        &[(5, "services.a.signals.x", "the key `measure` is missing")],
    ),
];

/// Several problems in one file, all told at once.
const MANY: &[Case] = &[
    (
        "five sections",
        "version: 3\nlog: { level: loud }\napi:\n  listen: here\n  tokken: { env: A }\nservices:\n  a: { matrix: none }\n  b: { environments: [] , runbok: x }\n",
        &[
            (1, "version", "version 3"),
            (2, "log.level", "`loud` is not known here"),
            (4, "api.listen", "\"here\" is not an address"),
            (5, "api.tokken", "did you mean `token`?"),
            (7, "services.a.matrix", "there is no matrix `none`"),
            (8, "services.b.runbok", "did you mean `runbook`?"),
        ],
    ),
    (
        "one struct",
        "defaults:\n  watch:\n    look_every: 5\n    soka: 1m\n    warm_up: soon\n  guards: { per_day: x, per_hour: y }\n  matrix: [a]\n",
        &[
            (3, "defaults.watch.look_every", "found the number 5"),
            (4, "defaults.watch.soka", "did you mean `soak`?"),
            (5, "defaults.watch.warm_up", "\"soon\" is not a duration"),
            (6, "defaults.guards.per_day", "found the text \"x\""),
            (6, "defaults.guards.per_hour", "found the text \"y\""),
            (7, "defaults.matrix", "found a list"),
        ],
    ),
    (
        "steps and rows keep their numbers",
        "matrices:\n  mine:\n    rows:\n    - { name: a, when: { reported: x }, severity: P7, verdict: no, act_within: 1h }\n    - { name: b, when: { any: [] }, severity: P1, verdict: no, act_within: 1h }\nrunbooks:\n  back:\n    steps:\n    - { name: '-', class: one_shot, action: { command: { argv: [/bin/a] } } }\n    - { name: b, class: one_shot, action: { command: { argv: [sh] } }, timeout: 0s }\n",
        &[
            (4, "matrices.mine.rows.0.severity", "`P7` is not known here"),
            (5, "matrices.mine.rows.1.when.any", "`any` is empty"),
            (9, "runbooks.back.steps.0.name", "must begin with a letter"),
            (10, "runbooks.back.steps.1.action.command.argv", "absolute path"),
            (10, "runbooks.back.steps.1.timeout", "`timeout` must be more than 0s"),
        ],
    ),
    (
        "autonomy auto without proof or plan",
        "services:\n  a:\n    autonomy: { level: auto }\n  b:\n    signals: { x: { source: nowhere, measure: { latency: { buckets: 'rate(b)', quantile: 2 } } } }\n",
        &[
            (3, "services.a.autonomy.level", "no runbook"),
            (3, "services.a.autonomy.level", "no critical signal"),
            (5, "services.b.signals.x.source", "there is no signal source `nowhere`"),
            (5, "services.b.signals.x.measure.latency.buckets", "is a function"),
            (5, "services.b.signals.x.measure.latency.quantile", "is 2"),
        ],
    ),
    (
        "a level from the defaults",
        "defaults:\n  autonomy: { level: approve }\nservices:\n  a: {}\n  b: { runbook: gone }\n",
        &[(4, "services.a", "no runbook"), (5, "services.b.runbook", "there is no runbook `gone`")],
    ),
    (
        "what follows from a mistake is not told",
        "signals: { prometheus: { main: { url: [] } } }\nrunbooks: { back: { steps: 5 } }\nservices:\n  a:\n    runbook: back\n    autonomy: { level: auto }\n    signals: { x: { source: main, measure: { proportion: { of: [], bad: { a: b } } } } }\n",
        &[
            (1, "signals.prometheus.main.url", "found a list"),
            (2, "runbooks.back.steps", "expected: a list"),
            (7, "services.a.signals.x.measure.proportion.of", "found a list"),
        ],
    ),
];

fn expect(name: &str, text: &str, expected: &[(usize, &str, &str)]) {
    let report = check_text("turnback.yaml", text);
    let said = |problem: &Problem| format!("{problem}");
    assert_eq!(report.problems.len(), expected.len(), "{name}:\n{report}");
    for (line, key, fragment) in expected {
        let fits = |problem: &&Problem| {
            let place = *line == 0 || problem.line == Some(*line);
            place && problem.key == *key && said(problem).contains(fragment)
        };
        assert!(
            report.problems.iter().any(|problem| fits(&problem)),
            "{name}: {line} {key} {fragment:?}:\n{report}"
        );
    }
    for problem in &report.problems {
        assert!(problem.source.ends_with(".yaml"), "{name}: {problem}");
        assert!(problem.line.is_some() == problem.excerpt.is_some(), "{name}: {problem}");
    }
    let mut lines: Vec<Option<usize>> = report.problems.iter().map(|problem| problem.line).collect();
    lines.sort_unstable();
    assert!(report.problems.iter().map(|problem| problem.line).eq(lines), "{name}: not sorted:\n{report}");
}

#[test]
fn broken_configurations_are_told_with_place_key_and_words() {
    CASES.iter().chain(MANY).for_each(|(name, text, expected)| expect(name, text, expected));
    for (name, text, expected) in SERVICES {
        expect(name, &format!("{PROMETHEUS}services:\n{text}"), expected);
    }
    assert!(CASES.len() + SERVICES.len() + MANY.len() >= 90);
}

#[test]
fn files_that_cannot_be_read_are_told_all_at_once() {
    let files = Files::of(&[
        ("good.yaml", "version: 1\nservices: { a: { matrix: elsewhere } }\n"),
        ("empty/readme", ""),
        ("large.yaml", &"#".repeat(1_100_000)),
    ]);
    std::fs::write(files.path("latin.yaml"), b"version: 1\n# caf\xe9\n").unwrap();
    nix::unistd::mkfifo(&files.path("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let names = ["good.yaml", "nowhere.yaml", "empty", "large.yaml", "latin.yaml", "pipe.yaml"];
    let report = check(&files.inputs(&names));
    let said: Vec<(&str, &str)> =
        report.problems.iter().map(|problem| (file_name(problem), problem.message.as_str())).collect();
    let expected = [
        ("nowhere.yaml", "there is no such file"),
        ("empty", "the directory holds no *.yaml, *.yml, *.toml or *.json file"),
        ("large.yaml", "the file is larger than 1024 KiB"),
        ("latin.yaml", "the file is not UTF-8 text: byte 17 (in line 2) cannot be read"),
        ("pipe.yaml", "this is not a regular file"),
    ];
    // The matrix may be in one of the files that could not be read: nothing is said about it.
    assert_eq!(said, expected);
}

#[test]
fn problems_in_several_files_are_sorted_and_named() {
    let files = Files::of(&[
        ("a.yaml", "log: { level: x }\nmatrix_files: { mine: m/mine.yaml, other: m/other.yaml }\n"),
        ("b.yaml", "api: { listen: x }\nmatrices: { other: { rows: [] } }\n"),
        ("c.toml", "version = 1\n[api\n"),
        ("d.json", "{\n  \"version\": 1,,\n}"),
        ("e.toml", "[defaults.guards]\nper_day = 'x'\n"),
        ("m/mine.yaml", "rows:\n- { name: a, when: {}, severity: P1, verdict: no, act_within: 1h }\n"),
    ]);
    let report = check(&files.inputs(&["a.yaml", "b.yaml", "c.toml", "d.json", "e.toml"]));
    let found: Vec<(&str, Option<usize>, &str)> = report
        .problems
        .iter()
        .map(|problem| (file_name(problem), problem.line, problem.key.as_str()))
        .collect();
    let expected = [
        ("a.yaml", Some(1), "log.level"),
        ("a.yaml", Some(2), "matrix_files.other"),
        ("b.yaml", Some(1), "api.listen"),
        ("b.yaml", Some(2), "matrices.other.rows"),
        ("c.toml", Some(2), ""),
        ("d.json", Some(2), ""),
        ("e.toml", None, "defaults.guards.per_day"),
        ("mine.yaml", Some(2), "matrices.mine.rows.0.when"),
    ];
    assert_eq!(found, expected, "{report}");
}

#[test]
fn a_report_reads_like_a_compiler() {
    let files =
        Files::of(&[("turnback.yaml", "version: 1\nservices:\n  checkout:\n    watch: { soka: 5m }\n")]);
    let report = check(&files.inputs(&["turnback.yaml"])).to_string();
    let shown = report.replace(&files.path("").display().to_string(), "");
    insta::assert_snapshot!(shown, @r"
    error: unknown key `soka`
     --> turnback.yaml:4:14
      |
    4 |     watch: { soka…
      |              ^^^^
      = key: services.checkout.watch.soka
      = expected: one of: look_every, watch_for, soak, warm_up, warm_up_requests, instance, baseline_span, baseline_gap, baseline_window, seasonal_days, blind_after, max_sample_age, verify_for, verify_soak, approval_expires, progress_every, checkpoints
      = help: did you mean `soak`?

    1 problem
    ");
    let json = serde_json::to_value(check(&files.inputs(&["turnback.yaml"]))).unwrap();
    assert_eq!(
        (&json["problems"][0]["line"], &json["problems"][0]["key"]),
        (&4.into(), &"services.checkout.watch.soka".into())
    );
}

#[test]
fn checkpoints_contacts_and_the_deployment_log_name_their_keys() {
    let text = r#"
version: 1
deployment_log: { file: deployments.md }
defaults:
  contacts: { "on call": "x" }
  watch: { checkpoints: { late: { after: 9d } } }
signals: { prometheus: { main: { url: "http://localhost:9090" } } }
services:
  shop:
    signals:
      latency: { source: main, measure: { latency: { buckets: x_bucket } } }
    contacts: { on_call: "" }
    watch: { checkpoints: { soon: { after: 5m, bounds: { latency: { above: 300ms } } } } }
"#;
    let files = Files::of(&[("turnback.yaml", text)]);
    let report = check(&files.inputs(&["turnback.yaml"])).to_string();
    for expected in [
        "key: deployment_log.file",
        "is not an absolute path",
        "key: defaults.contacts.on call",
        "key: defaults.watch.checkpoints.late.after",
        "expected 1s to 1w",
        "key: services.shop.contacts.on_call",
        "key: services.shop.watch.checkpoints.soon.bounds.latency",
        "a latency must be below something",
    ] {
        assert!(report.contains(expected), "{expected} is not in\n{report}");
    }
}
