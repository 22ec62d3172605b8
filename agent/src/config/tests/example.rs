//! The documented example: it is good as it stands and with every comment removed, and no key is missing in it.

use super::super::decode::{Decoder, Trace};
use super::super::yaml;
use super::*;
use rules::decision::AutonomyLevel;
use rules::ruleset::WatchSettings;
use rules::signal::Role;
use rules::units::Span;
use serde::Deserialize as _;
use std::cell::RefCell;

pub(in super::super) const EXAMPLE: &str = include_str!("../../../example.yaml");

const MATRIX: &str =
    "rows: [{ name: x, when: { reported: x }, severity: P2, verdict: rollback, act_within: 1h }]";

/// The example with every `#key: value` made a setting.
fn everything() -> String {
    let line = |line: &str| {
        let rest = line.trim_start();
        match rest.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| !c.is_whitespace()) => {
                format!("{}{setting}", &line[..line.len() - rest.len()])
            }
            _ => line.to_owned(),
        }
    };
    EXAMPLE.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The same without what this build cannot do and says so.
fn possible() -> String {
    let needs_tls =
        |line: &&str| cfg!(feature = "kafka-tls") || !line.trim_start().starts_with("tls: { ca: /etc/kafka");
    everything().lines().filter(needs_tls).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_good() {
    let config = load_text(EXAMPLE).config;
    assert_eq!(config.state_dir, Some(PathBuf::from("/home/ada/.local/state/turnback")));
    assert_eq!(config.freezes[0].freeze().by, "configuration");
    let rules = config.rule_set(&service("checkout"), &environment("staging"));
    assert_eq!(rules.matrix.rows.len(), 3);
    assert_eq!(rules.runbook.unwrap().steps.len(), 3);
    assert_eq!(rules.autonomy.level, AutonomyLevel::Approve);
    assert_eq!(rules.signals.len(), 4);
    let search = config.rule_set(&service("shop/search"), &environment("production"));
    assert_eq!((search.runbook, search.autonomy.level), (None, AutonomyLevel::Observe));
}

#[test]
fn what_is_commented_out_is_good_too() {
    let files = Files::of(&[("turnback.yaml", &possible()), ("matrix.yaml", MATRIX)]);
    let loaded = Config::load(&files.inputs(&["turnback.yaml"]));
    let config = loaded.unwrap_or_else(|report| panic!("{report}")).config;
    assert_eq!(config.matrices["from-file"].rows[0].name, "x");
    assert_eq!(config.services[&service("checkout")].watch.soak, Span::from_minutes(10));
}

#[test]
fn what_is_commented_out_shows_the_defaults() {
    let text = everything();
    let tree = yaml::parse(&text, 0, &mut Vec::new()).unwrap();
    let shown = Defaults::deserialize(Decoder::new(tree.get("defaults").unwrap())).unwrap();
    let real = Defaults::default();
    let shown = Defaults { watch: WatchSettings { instance: None, ..shown.watch }, ..shown };
    assert_eq!((shown.watch, shown.guards), (real.watch, real.guards));
    let shown = rules::ruleset::Statistics { dispersion: None, ..shown.statistics };
    assert_eq!(shown, real.statistics);
}

#[test]
fn every_key_is_in_the_example() {
    let text = everything();
    let tree = yaml::parse(&text, 0, &mut Vec::new()).unwrap();
    let trace = RefCell::new(Trace::default());
    Config::deserialize(Decoder::traced(&tree, &trace)).unwrap();
    let trace = trace.into_inner();
    let mut missing = Vec::new();
    for (name, known) in &trace.known {
        let used = &trace.used[name];
        // The words of an enumeration may also stand in the comment beside the key.
        let in_words =
            |key: &str| EXAMPLE.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == key);
        let unused =
            known.iter().filter(|key| !(used.contains(**key) || is_enumeration(name) && in_words(key)));
        missing.extend(unused.map(|key| format!("{name}.{key}")));
    }
    assert_eq!(missing, Vec::<String>::new(), "keys that example.yaml does not show");
    assert!(trace.known.len() > 40, "{:?}", trace.known.keys());
}

fn is_enumeration(name: &str) -> bool {
    [
        "LogLevel",
        "LogFormat",
        "Severity",
        "RowVerdict",
        "RollbackKind",
        "EffectClass",
        "Reversibility",
        "AutonomyLevel",
        "Role",
        "GaugeScale",
        "Undo",
        "GitPush",
        "MigrationTool",
        "Turn",
        "Queue",
        "WorkloadKind",
        "WatchedKind",
        "DigestOf",
        "WorkloadOwner",
        "KubernetesOperation",
        "SaslMechanism",
        "NatsCredential",
        "CredentialConfig",
        "Algorithm",
        "Encoding",
    ]
    .contains(&name)
}

#[test]
fn a_resolved_configuration_written_out_and_loaded_is_the_same() {
    let files = Files::of(&[("turnback.yaml", &possible()), ("matrix.yaml", MATRIX)]);
    let config = Config::load(&files.inputs(&["turnback.yaml"])).unwrap().config;
    assert_eq!(
        config.services[&service("checkout")]
            .signals
            .values()
            .filter(|signal| signal.role == Some(Role::Critical))
            .count(),
        2
    );
    let again = load_text(&serde_saphyr::to_string(&config).unwrap()).config;
    assert_eq!(again, config);
    let json = serde_json::to_string_pretty(&config).unwrap();
    let files = Files::of(&[("turnback.json", &json)]);
    assert_eq!(Config::load(&files.inputs(&["turnback.json"])).unwrap().config, config);
}
