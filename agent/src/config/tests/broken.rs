//! Broken configurations: each must be told with its place, its key and words that help.

use super::*;

/// A name, the text, and the problems in order: line, key, a part of what is said.
type Case = (&'static str, &'static str, &'static [(usize, &'static str, &'static str)]);

const PROMETHEUS: &str = "signals: { prometheus: { main: { url: http://localhost:9090 } } }\n";

const CASES: &[Case] = &[
    // --- the text itself
    ("unclosed bracket", "version: 1\napi: { listen: x\nlog: {}\n", &[(0, "", "not YAML")]),
    ("tab as indentation", "api:\n\tlisten: 127.0.0.1:1\n", &[(2, "", "not YAML")]),
    ("wrong indentation", "api:\n    listen: 127.0.0.1:1\n  token: { env: X }\n", &[(3, "", "not YAML")]),
    ("a list", "- a\n", &[(1, "", "the file holds a list")]),
    ("one word", "hello\n", &[(1, "", "the file holds a single value")]),
    ("nothing", "", &[(0, "", "the file is empty")]),
    ("only comments", "# nothing\n", &[(0, "", "the file is empty")]),
    ("two documents", "version: 1\n---\nversion: 1\n", &[(2, "", "a second document")]),
    ("unknown alias", "api: *nowhere\n", &[(1, "", "not YAML")]),
    ("a tag", "api: !env { listen: X }\n", &[(1, "", "the tag !env means nothing here")]),
    ("a list as a key", "? [a, b]\n: 1\n", &[(1, "", "a list cannot be a key")]),
    (
        "a merge of a list of words",
        "defaults:\n  watch: { <<: [a] }\n",
        &[(2, "<<", "`<<` is given a single value")],
    ),
    // --- keys
    ("unknown key", "version: 1\nservces: {}\n", &[(2, "servces", "did you mean `services`?")]),
    ("unknown key inside", "api:\n  listn: 127.0.0.1:1\n", &[(2, "api.listn", "did you mean `listen`?")]),
    ("unknown key without a near one", "api:\n  port: 1\n", &[(2, "api.port", "one of: listen, token")]),
    ("duplicate key", "version: 1\nlog: {}\nlog: {}\n", &[(3, "log", "it is already in line 2")]),
    (
        "duplicate key in a flow",
        "api: { listen: '127.0.0.1:1', listen: '127.0.0.1:2' }\n",
        &[(1, "listen", "given twice")],
    ),
    (
        "missing key",
        "signals:\n  prometheus:\n    main:\n      timeout: 1s\n",
        &[(4, "signals.prometheus.main", "the key `url` is missing")],
    ),
    (
        "missing key that was mistyped",
        "signals:\n  prometheus:\n    main: { ulr: 'http://h' }\n",
        &[(3, "signals.prometheus.main.ulr", "did you mean `url`?")],
    ),
    // --- types
    ("a list where a map belongs", "api: [a]\n", &[(1, "api", "expected: a map")]),
    ("a word where a map belongs", "log: debug\n", &[(1, "log", "found the text \"debug\"")]),
    (
        "a word where a list belongs",
        "services: { a: { environments: production } }\n",
        &[(1, "services.a.environments", "expected: a list")],
    ),
    (
        "a word where a number belongs",
        "defaults:\n  guards:\n    per_day: many\n",
        &[(3, "defaults.guards.per_day", "a whole number, not negative")],
    ),
    (
        "a negative number",
        "defaults: { guards: { per_day: -1 } }\n",
        &[(1, "defaults.guards.per_day", "found the number -1")],
    ),
    (
        "a fraction",
        "defaults: { guards: { per_day: 1.5 } }\n",
        &[(1, "defaults.guards.per_day", "found the number 1.5")],
    ),
    (
        "a huge number",
        "defaults: { guards: { per_day: 5000000000 } }\n",
        &[(1, "defaults.guards.per_day", "found the number 5000000000")],
    ),
    (
        "not a number at all",
        "defaults: { statistics: { alpha: .nan } }\n",
        &[(1, "defaults.statistics.alpha", "expected: a number")],
    ),
    ("nothing where a word belongs", "log:\n  level:\n", &[(2, "log.level", "found nothing")]),
    (
        "an unknown word",
        "log: { level: verbose }\n",
        &[(1, "log.level", "one of: error, warn, info, debug, trace")],
    ),
    (
        "a mistyped word",
        "defaults:\n  autonomy: { level: aproove }\n",
        &[(2, "defaults.autonomy.level", "did you mean `approve`?")],
    ),
    (
        "an unknown severity as a key",
        "defaults: { autonomy: { severity: { P9: auto } } }\n",
        &[(1, "defaults.autonomy.severity.P9", "one of: P0, P1, P2, P3")],
    ),
    ("a version of letters", "version: one\n", &[(1, "version", "a whole number")]),
    (
        "a duration without unit",
        "defaults: { watch: { soak: 5 } }\n",
        &[(1, "defaults.watch.soak", "a duration with a unit")],
    ),
    (
        "a duration with a strange unit",
        "defaults: { watch: { soak: 5 minutes } }\n",
        &[(1, "defaults.watch.soak", "write for example 30s")],
    ),
    (
        "a quantity with a strange unit",
        "defaults: { statistics: { healthy_below: 5 percent } }\n",
        &[(1, "defaults.statistics.healthy_below", "write for example 5%")],
    ),
    ("a bad service name", "services:\n  'a b': {}\n", &[(2, "services.a b", "' ' is not allowed")]),
    (
        "a bad signal name",
        "services: { a: { signals: { -x: { source: m, measure: { gauge: { value: g } } } } } }\n",
        &[(1, "services.a.signals.-x", "must begin with a letter")],
    ),
    // --- addresses, versions, secrets
    ("another version", "version: 2\n", &[(1, "version", "version 2 is not known")]),
    ("no port", "api: { listen: 127.0.0.1 }\n", &[(1, "api.listen", "is not an address and port")]),
    ("a host name", "api: { listen: 'localhost:7440' }\n", &[(1, "api.listen", "127.0.0.1:7440")]),
    ("open to all without token", "api:\n  listen: 0.0.0.0:7440\n", &[(2, "api.listen", "no token is set")]),
    (
        "open to all over IPv6",
        "api:\n  listen: '[::]:7440'\n",
        &[(2, "api.listen", "can be reached from other machines")],
    ),
    ("a relative state directory", "state_dir: state\n", &[(1, "state_dir", "not an absolute path")]),
    (
        "a secret in the open",
        "api: { token: abc }\n",
        &[(1, "api.token", "a secret must not stand in the configuration")],
    ),
    (
        "a secret with two places",
        "api: { token: { env: A, file: /b } }\n",
        &[(1, "api.token", "does not say where the secret is")],
    ),
    (
        "a secret in a relative file",
        "api: { token: { file: b } }\n",
        &[(1, "api.token", "must begin with /")],
    ),
    // --- sources and channels
    (
        "a source without address",
        "signals: { prometheus: { main: { url: localhost } } }\n",
        &[(1, "signals.prometheus.main.url", "")],
    ),
    (
        "a source with two credentials",
        "signals: { prometheus: { main: { url: http://h, bearer: { env: A }, basic: { user: a, password: { env: B } } } } }\n",
        &[(1, "signals.prometheus.main.bearer", "only one")],
    ),
    (
        "a probe without targets",
        "signals: { probe: { p: { targets: [] } } }\n",
        &[(1, "signals.probe.p.targets", "")],
    ),
    (
        "a probe of nothing",
        "signals:\n  probe:\n    p:\n      targets: ['http://h/']\n      expect_status: []\n",
        &[(5, "signals.probe.p.expect_status", "nothing could ever be up")],
    ),
    (
        "one name for two sources",
        "signals:\n  probe: { a: { targets: ['http://h/'] } }\n  scrape: { a: { targets: ['http://h/'] } }\n",
        &[(2, "signals.probe.a", "there is already a source `a` under signals.scrape")],
    ),
    (
        "an event source without services",
        "events:\n  sources:\n    ci:\n      credential: { bearer: { token: { env: A } } }\n      services: []\n",
        &[(5, "events.sources.ci.services", "`services` is empty")],
    ),
    (
        "an event source with a bad pattern",
        "events: { sources: { ci: { credential: { bearer: { token: { env: A } } }, services: [a, 'shop*'] } } }\n",
        &[(1, "events.sources.ci.services.1", "must have a separator")],
    ),
    (
        "an event source without credential",
        "events: { sources: { ci: { services: [a] } } }\n",
        &[(1, "events.sources.ci", "the key `credential` is missing")],
    ),
    (
        "an unknown credential",
        "events: { sources: { ci: { credential: { baerer: { token: { env: A } } }, services: [a] } } }\n",
        &[(1, "events.sources.ci.credential.baerer", "did you mean `bearer`?")],
    ),
    (
        "a channel without address",
        "notify: { webhook: { x: {} } }\n",
        &[(1, "notify.webhook.x.url", "is missing")],
    ),
    (
        "a channel with an inline address",
        "notify: { slack: { x: { url: 'https://hooks.example/x' } } }\n",
        &[(1, "notify.slack.x.url", "{env: NAME} or {file: /path}")],
    ),
    // --- matrices and runbooks
    (
        "an empty matrix",
        "matrices: { mine: { rows: [] } }\n",
        &[(1, "matrices.mine.rows", "never decides anything")],
    ),
    (
        "a row twice",
        "matrices:\n  mine:\n    rows:\n    - { name: a, when: { reported: x }, severity: P1, verdict: rollback, act_within: 1h }\n    - { name: a, when: { reported: y }, severity: P1, verdict: rollback, act_within: 1h }\n",
        &[(5, "matrices.mine.rows.1.name", "used twice")],
    ),
    (
        "a row with an unknown verdict",
        "matrices: { mine: { rows: [{ name: a, when: { reported: x }, severity: P1, verdict: never, act_within: 1h }] } }\n",
        &[(1, "matrices.mine.rows.0.verdict", "one of: rollback, maybe, no")],
    ),
    (
        "a condition of two",
        "matrices: { mine: { rows: [{ name: a, when: { reported: x, any: [] }, severity: P1, verdict: no, act_within: 1h }] } }\n",
        &[(1, "matrices.mine.rows.0.when", "a map with exactly one of the keys all, any, signal, reported")],
    ),
    (
        "a matrix with a shipped name",
        "matrices: { standard: { rows: [{ name: a, when: { reported: x }, severity: P1, verdict: no, act_within: 1h }] } }\n",
        &[(1, "matrices.standard", "a matrix that ships")],
    ),
    (
        "an unknown default matrix",
        "defaults: { matrix: standrad }\n",
        &[(1, "defaults.matrix", "did you mean `standard`?")],
    ),
    (
        "a matrix file that is not there",
        "matrix_files: { mine: nowhere.yaml }\n",
        &[(0, "", "there is no such file")],
    ),
    (
        "a runbook without steps",
        "runbooks: { back: { steps: [] } }\n",
        &[(1, "runbooks.back.steps", "add a step")],
    ),
    (
        "a program without path",
        "runbooks:\n  back:\n    steps:\n    - name: a\n      class: one_shot\n      action:\n        command:\n          argv: [kubectl]\n",
        &[(8, "runbooks.back.steps.0.action.command.argv", "must be an absolute path")],
    ),
    (
        "a lookup without inspect",
        "runbooks:\n  back:\n    steps:\n    - { name: a, class: one_shot, action: { command: { argv: [/bin/a] } } }\n    - { name: b, class: lookup, action: { command: { argv: [/bin/a] } } }\n",
        &[(5, "runbooks.back.steps.1.class", "add `inspect`")],
    ),
    (
        "a step without class",
        "runbooks:\n  back:\n    steps:\n    - { name: a, action: { command: { argv: [/bin/a] } } }\n",
        &[(4, "runbooks.back.steps.0", "the key `class` is missing")],
    ),
    (
        "an unknown placeholder",
        "runbooks: { back: { steps: [{ name: a, class: one_shot, action: { command: { argv: [/bin/a, '{{versoin}}'] } } }] } }\n",
        &[(1, "runbooks.back.steps.0.action.command.argv", "{{versoin}} is no placeholder")],
    ),
    // --- settings that contradict each other
    (
        "an alpha that is too large",
        "defaults: { statistics: { alpha: 0.5 } }\n",
        &[(1, "defaults.statistics.alpha", "expected more than 0")],
    ),
    (
        "a watch shorter than its soak",
        "defaults:\n  watch:\n    watch_for: 1m\n    soak: 5m\n",
        &[(3, "defaults.watch.watch_for", "expected at least 5m")],
    ),
    (
        "a service's watch shorter than the default soak",
        "defaults: { watch: { soak: 20m } }\nservices: { a: { watch: { watch_for: 15m } } }\n",
        &[(2, "services.a.watch.watch_for", "expected at least 20m")],
    ),
    (
        "patience for nothing",
        "defaults: { patience: { quick-fux: 1m } }\n",
        &[(1, "defaults.patience.quick-fux", "did you mean `quick-fix`?")],
    ),
    (
        "a freeze that ends before it begins",
        "freezes:\n- from: 2026-01-02T00:00:00Z\n  until: 2026-01-01T00:00:00Z\n  reason: x\n",
        &[(3, "freezes.0.until", "before it begins")],
    ),
    (
        "a freeze without offset",
        "freezes: [{ from: 2026-01-02T00:00:00, until: 2026-01-01T00:00:00Z, reason: x }]\n",
        &[(1, "freezes.0.from", "")],
    ),
    (
        "a freeze of an unknown service",
        "services: { checkout: {} }\nfreezes:\n- { from: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z, reason: x, service: chekout }\n",
        &[(3, "freezes.0.service", "did you mean `checkout`?")],
    ),
];

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
        &[(3, "services.a.matrix", "the name of a matrix: cautious, standard")],
    ),
    (
        "an unknown runbook",
        "  a: { runbook: back }\n",
        &[(3, "services.a.runbook", "but none is configured")],
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
      = expected: one of: look_every, watch_for, soak, warm_up, baseline_span, baseline_gap, baseline_window, blind_after, max_sample_age, verify_for, verify_soak, approval_expires
      = help: did you mean `soak`?

    1 problem
    ");
    let json = serde_json::to_value(check(&files.inputs(&["turnback.yaml"]))).unwrap();
    assert_eq!(
        (&json["problems"][0]["line"], &json["problems"][0]["key"]),
        (&4.into(), &"services.checkout.watch.soka".into())
    );
}
