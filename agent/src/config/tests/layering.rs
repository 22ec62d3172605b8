//! Which layer wins, and where each setting came from.

use super::*;
use rules::action::SecretRef;
use rules::decision::AutonomyLevel;
use rules::matrix::Severity;
use rules::units::Span;

fn with(mut inputs: Inputs, variables: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Inputs {
    inputs
        .environment
        .extend(variables.iter().map(|(name, value)| (name.to_string(), OsString::from(value))));
    let flag = |(name, key, value): &(&str, &str, &str)| Flag {
        name: name.to_string(),
        key: key.to_string(),
        value: value.to_string(),
    };
    inputs.flags.extend(flags.iter().map(flag));
    inputs
}

fn load(inputs: &Inputs) -> Loaded {
    Config::load(inputs).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn nothing_at_all_is_a_good_and_harmless_configuration() {
    let loaded = load(&Inputs { root: true, ..Inputs::default() });
    assert!(loaded.config.api.listen.ip().is_loopback());
    assert_eq!(loaded.config.state_dir, Some("/var/lib/turnback".into()));
    assert!(loaded.origins.values().all(|origin| origin == "default"), "{:?}", loaded.origins);
    let rules = loaded.config.rule_set(&service("any"), &environment("production"));
    assert_eq!((rules.autonomy.level, rules.matrix.rows.len()), (AutonomyLevel::Observe, 13));
}

#[test]
fn later_layers_win() {
    let files = Files::of(&[
        ("a.yaml", "version: 1\napi: { listen: 127.0.0.1:1 }\nlog: { level: debug, format: json }\n"),
        ("conf.d/20.yaml", "api:\n  listen: 127.0.0.1:3\n"),
        ("conf.d/10.yml", "api:\n  listen: 127.0.0.1:2\nlog:\n"),
        ("conf.d/..data/30.yaml", "nonsense"),
        ("conf.d/.40.yaml", "nonsense"),
        ("conf.d/readme.txt", "nonsense"),
    ]);
    let inputs = files.inputs(&["a.yaml", "conf.d"]);
    let loaded = load(&inputs);
    assert_eq!(loaded.config.api.listen.port(), 3);
    assert_eq!((loaded.config.log.level, loaded.config.log.format), (LogLevel::Debug, LogFormat::Json));
    assert_eq!(loaded.origins["api.listen"], format!("file {}:2", files.path("conf.d/20.yaml").display()));
    assert_eq!(loaded.origins["log.level"], format!("file {}:3", files.path("a.yaml").display()));
    let inputs =
        with(inputs, &[("TURNBACK_API__LISTEN", "127.0.0.1:4"), ("TURNBACK_LOG__LEVEL", "warn")], &[]);
    let loaded = load(&inputs);
    assert_eq!((loaded.config.api.listen.port(), loaded.config.log.level), (4, LogLevel::Warn));
    assert_eq!(loaded.origins["api.listen"], "environment TURNBACK_API__LISTEN");
    let loaded = load(&with(inputs, &[], &[("--listen", "api.listen", "127.0.0.1:5")]));
    assert_eq!(loaded.config.api.listen.port(), 5);
    assert_eq!(loaded.origins["api.listen"], "flag --listen");
    assert_eq!(loaded.origins["log.format"], format!("file {}:3", files.path("a.yaml").display()));
    assert_eq!(loaded.origins["version"], format!("file {}:1", files.path("a.yaml").display()));
    assert_eq!(loaded.origins["defaults.matrix"], "default");
}

#[test]
fn variables_are_typed_by_the_key_and_not_by_their_look() {
    let text = "version: 1\nservices: { shop/check.out: {} }\nnotify: { slack: { a: { url: { env: TURNBACK_SLACK_URL } } } }\n";
    let files = Files::of(&[("a.yaml", text)]);
    let variables = [
        ("TURNBACK_SIGNALS__PROMETHEUS__MAIN__URL", "http://localhost:9090"),
        ("TURNBACK_SIGNALS__PROMETHEUS__MAIN__HEADERS__TENANT", "1234"),
        ("TURNBACK_NOTIFY__SLACK__A__CHANNEL", "true"),
        ("TURNBACK_DEFAULTS__GUARDS__PER_DAY", "3"),
        ("TURNBACK_DEFAULTS__STATISTICS__ALPHA", "0.02"),
        ("TURNBACK_SERVICES__SHOP_CHECK_OUT__ENVIRONMENTS", "[eu, us]"),
        ("TURNBACK_SERVICES__SHOP_CHECK_OUT__WATCH__SOAK", "7m"),
        ("TURNBACK_FREEZES", "[{from: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z, reason: x}]"),
        // Not for the agent's configuration.
        ("TURNBACK_SLACK_URL", "https://hooks.example/x"),
        ("TURNBACK_SERVICE_HOST", "10.0.0.1"),
        ("TURNBACK_PORT_7440_TCP_ADDR", "10.0.0.1"),
        ("TURNBACK_PORT", "tcp://10.0.0.1:7440"),
        ("TURNBACK_UI_SERVICE_PORT_HTTP", "80"),
        ("TURNBACK_UI_PORT_80_TCP_PROTO", "tcp"),
        ("TURNBACK_PLAN", "p-1"),
        ("TURNBACK_LOG__LEVEL", ""),
    ];
    let config = load(&with(files.inputs(&["a.yaml"]), &variables, &[])).config;
    assert_eq!(config.signals.prometheus["main"].headers["tenant"], "1234");
    assert_eq!(config.notify.slack["a"].channel.as_deref(), Some("true"));
    assert_eq!(config.defaults.guards.per_day, 3);
    let checkout = &config.services[&service("shop/check.out")];
    assert_eq!(checkout.environments, [environment("eu"), environment("us")]);
    assert_eq!((checkout.watch.soak, checkout.guards.per_day), (Span::from_minutes(7), 3));
    assert_eq!((config.freezes.len(), config.log.level), (1, LogLevel::Info));
    assert_eq!(config.services.len(), 1);
}

#[test]
fn wrong_variables_and_flags_are_named() {
    let variables = [
        ("TURNBACK_API__LISTN", "127.0.0.1:1"),
        ("TURNBACK_API_LISTEN", "127.0.0.1:1"),
        ("TURNBACK_DEFAULTS__GUARDS__PER_DAY", "many"),
        ("TURNBACK_LOG", "{"),
        ("TURNBACK_SIGNALS__", "x"),
        ("TURNBACK_EVENTS", "x"),
        ("TURNBACK_EVENTS__SOURCES", "x"),
    ];
    let report = check(&with(Inputs::default(), &variables, &[("--listen", "api.listen", "here")]));
    let found: Vec<(&str, &str)> =
        report.problems.iter().map(|problem| (problem.source.as_str(), problem.key.as_str())).collect();
    for expected in [
        ("environment variable TURNBACK_API__LISTN", "api.listn"),
        ("environment variable TURNBACK_API_LISTEN", "api_listen"),
        ("environment variable TURNBACK_DEFAULTS__GUARDS__PER_DAY", "defaults.guards.per_day"),
        ("environment variable TURNBACK_LOG", "log"),
        ("environment variable TURNBACK_SIGNALS__", "signals."),
        ("environment variable TURNBACK_EVENTS__SOURCES", "events.sources"),
        ("flag --listen", "api.listen"),
    ] {
        assert!(found.contains(&expected), "{expected:?} is missing:\n{report}");
    }
    assert!(report.to_string().contains("did you mean `listen`?"), "{report}");
    assert!(report.to_string().contains("two underscores"), "{report}");
}

#[test]
fn of_alternatives_the_later_one_stands_alone() {
    let files = Files::of(&[
        (
            "a.yaml",
            "api: { token: { file: /run/a } }\nservices: { a: { signals: { x: { source: p, measure: { gauge: { value: g } } } } } }\nsignals: { probe: { p: { targets: ['http://h/'] } } }\n",
        ),
        (
            "b.yaml",
            "api: { token: { env: B } }\nservices: { a: { signals: { x: { measure: { availability: { up: u } } } } } }\n",
        ),
    ]);
    let config = load(&files.inputs(&["a.yaml", "b.yaml"])).config;
    assert_eq!(config.api.token, Some(SecretRef::Env("B".into())));
    let signals = &config.services[&service("a")].signals;
    assert_eq!(signals.values().next().unwrap().measure.kind(), "availability");
}

#[test]
fn services_take_from_the_defaults_what_they_leave_out() {
    let text = "
version: 1
signals: { prometheus: { main: { url: http://localhost:9090 } } }
runbooks: { back: { steps: [{ name: a, class: one_shot, action: { command: { argv: [/bin/true] } } }] } }
defaults:
  environment: live
  matrix: cautious
  autonomy: { level: approve, severity: { P1: recommend, P2: approve }, reversibility: { irreversible: observe } }
  watch: { soak: 9m, watch_for: 2h }
  guards: { per_day: 4 }
  statistics: { alpha: 0.05 }
services:
  a:
    runbook: back
    watch: { soak: 3m }
    autonomy: { level: auto, severity: { P1: auto, P2: observe } }
    signals: { errors: { source: main, measure: { proportion: { of: requests_total, bad: { code: 5.. } } } } }
  b:
    runbook: back
    matrix: standard
";
    let config = load_text(text).config;
    let a = config.rule_set(&service("a"), &environment("live"));
    assert_eq!((a.watch.soak, a.watch.watch_for), (Span::from_minutes(3), Span::from_minutes(120)));
    assert_eq!((a.guards.per_day, a.guards.per_hour, a.statistics.alpha), (4, 5, 0.05));
    assert_eq!(a.autonomy.level, AutonomyLevel::Auto);
    assert_eq!(a.autonomy.severity[&Severity::P1], AutonomyLevel::Recommend);
    assert_eq!(a.autonomy.severity[&Severity::P2], AutonomyLevel::Observe);
    assert_eq!(a.autonomy.reversibility.len(), 1);
    assert_eq!(a.matrix, config.matrix("cautious").unwrap());
    let b = config.rule_set(&service("b"), &environment("live"));
    assert_eq!((b.autonomy.level, b.watch.soak), (AutonomyLevel::Approve, Span::from_minutes(9)));
    assert_eq!(b.matrix, config.matrix("standard").unwrap());
    let elsewhere = config.rule_set(&service("a"), &environment("staging"));
    assert_eq!((elsewhere.autonomy.level, elsewhere.runbook), (AutonomyLevel::Observe, None));
    assert_eq!(elsewhere.matrix, config.matrix("cautious").unwrap());
}

#[test]
fn toml_and_json_say_the_same_as_yaml() {
    let yaml = "version: 1\napi: { listen: '127.0.0.1:9' }\nfreezes: [{ from: 2026-01-01T00:00:00Z, until: 2026-01-02T00:00:00Z, reason: x }]\ndefaults: { statistics: { alpha: 0.02, margin: 2 } }\nsignals: { probe: { p: { targets: ['http://h/'], expect_status: [200] } } }\n";
    let toml = "version = 1\n[api]\nlisten = '127.0.0.1:9'\n[[freezes]]\nfrom = 2026-01-01T00:00:00Z\nuntil = 2026-01-02T00:00:00Z\nreason = 'x'\n[defaults.statistics]\nalpha = 0.02\nmargin = 2.0\n[signals.probe.p]\ntargets = ['http://h/']\nexpect_status = [200]\n";
    let json = "{\"version\": 1,\n\t\"api\": {\"listen\": \"127.0.0.1:9\"}, \"freezes\": [{\"from\": \"2026-01-01T00:00:00Z\", \"until\": \"2026-01-02T00:00:00Z\", \"reason\": \"x\"}], \"defaults\": {\"statistics\": {\"alpha\": 2e-2, \"margin\": 2}}, \"signals\": {\"probe\": {\"p\": {\"targets\": [\"http:\\/\\/h/\"], \"expect_status\": [200]}}}}";
    let files = Files::of(&[("a.yaml", yaml), ("a.toml", toml), ("a.json", json)]);
    let [one, two, three] = ["a.yaml", "a.toml", "a.json"].map(|name| load(&files.inputs(&[name])).config);
    assert_eq!(one, two);
    assert_eq!(one, three);
}

#[test]
fn anchors_aliases_and_merge_keys_are_read() {
    let text = "
defaults: { watch: &slow { soak: 9m, warm_up: 4m } }
services:
  a: { watch: { <<: *slow, soak: 5m } }
  b: { watch: *slow }
";
    let config = load_text(text).config;
    assert_eq!(config.services[&service("a")].watch.soak, Span::from_minutes(5));
    assert_eq!(config.services[&service("a")].watch.warm_up, Span::from_minutes(4));
    assert_eq!(config.services[&service("b")].watch.soak, Span::from_minutes(9));
}

#[test]
fn the_state_is_where_the_platform_wants_it() {
    let variables = |pairs: &[(&str, &str)]| {
        let inputs = with(Inputs::default(), pairs, &[]);
        load(&inputs).config.state_dir.unwrap()
    };
    assert_eq!(variables(&[("HOME", "/h"), ("XDG_STATE_HOME", "/x")]), PathBuf::from("/x/turnback"));
    assert_eq!(
        variables(&[("HOME", "/h"), ("XDG_STATE_HOME", "x")]),
        PathBuf::from("/h/.local/state/turnback")
    );
    assert_eq!(variables(&[]), PathBuf::from("/var/lib/turnback"));
    assert_eq!(variables(&[("TURNBACK_STATE_DIR", "/s")]), PathBuf::from("/s"));
}

#[test]
fn a_service_takes_a_runbook_that_ships_and_its_own_wins() {
    let text = "
version: 1
runbooks: { compose: { steps: [{ name: mine, class: one_shot, action: { command: { argv: [/bin/true] } } }] } }
services:
  a:
    runbook:
      name: systemd
      with: { unit: a.service, health: 'http://127.0.0.1:8080/health', seconds: 5 }
  b: { runbook: compose }
";
    let files = Files::of(&[("a.yaml", text)]);
    let loaded = load(&files.inputs(&["a.yaml"]));
    let rules = loaded.config.rule_set(&service("a"), &environment("production"));
    let steps: Vec<String> = rules.runbook.unwrap().steps.iter().map(|step| step.name.to_string()).collect();
    assert_eq!(steps, ["link-back", "restart", "steady"]);
    let own = loaded.config.rule_set(&service("b"), &environment("production")).runbook.unwrap();
    assert_eq!(own.steps[0].name.as_str(), "mine");
    assert_eq!(
        loaded.origins["services.a.runbook.with.unit"],
        format!("file {}:8", files.path("a.yaml").display())
    );
    // What is shown is what was written, and can be loaded again.
    let shown = serde_json::to_string(&loaded.config).unwrap();
    assert!(
        shown.contains("\"runbook\":{\"name\":\"systemd\",\"with\":{")
            && shown.contains("\"runbook\":\"compose\"")
    );
    let files = Files::of(&[("a.json", &shown)]);
    assert_eq!(load(&files.inputs(&["a.json"])).config, loaded.config);
}

#[test]
fn a_service_replaces_checkpoints_as_a_whole_and_contacts_one_by_one() {
    let text = r#"
version: 1
defaults:
  watch: { soak: 7m, checkpoints: { hour: { after: 1h } } }
  contacts: { on_call: pager 1, lead: Grace }
services:
  plain: {}
  none: { watch: { checkpoints: {} } }
  own:
    watch: { verify_soak: 9s, checkpoints: { two-hours: { after: 2h, bounds: { errors: { below: 1% } } } } }
    contacts: { on_call: pager 2 }
"#;
    let files = Files::of(&[("a.yaml", text)]);
    let config = load(&files.inputs(&["a.yaml"])).config;
    let rules = |name: &str| config.rule_set(&service(name), &environment("production"));
    let names = |name: &str| rules(name).watch.checkpoints.into_keys().collect::<Vec<_>>();
    assert_eq!(
        (names("plain"), names("none"), names("own")),
        (vec!["hour".to_owned()], vec![], vec!["two-hours".to_owned()])
    );
    assert_eq!(
        (rules("none").watch.soak, rules("own").watch.soak),
        (Span::from_minutes(7), Span::from_minutes(7))
    );
    assert_eq!(rules("own").contacts["on_call"], "pager 2");
    assert_eq!(rules("own").contacts["lead"], "Grace");
    let shipped =
        load(&Files::of(&[("a.yaml", "version: 1\nservices: { x: {} }\n")]).inputs(&["a.yaml"])).config;
    let shipped = shipped.rule_set(&service("x"), &environment("production")).watch.checkpoints;
    assert_eq!(shipped, rules::checkpoint::standard());
}
