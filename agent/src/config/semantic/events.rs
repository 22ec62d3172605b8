//! The sources of events: what each of them says about itself, and names that two of them share.

use super::super::EventsConfig;
use super::{Findings, Subject, sentence};
use crate::events::hooks::HookConfig;
use crate::signals::pushed::PushedConfig;
use crate::signals::pushed::stream::board_name;
use rules::ids::SourceName;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    let EventsConfig { sources, hooks, kafka, nats, kubernetes } = &subject.config.events;
    for (name, source) in sources {
        for problem in source.problems() {
            // `services[0]: text`: the key in the spelling of this source's own module.
            let (key, message) = problem.split_once(": ").unwrap_or(("", &problem));
            let key = key.replace('[', ".").replace(']', "");
            let last = key.rsplit('.').next().unwrap_or_default();
            let message = sentence(last, message);
            subject.add(findings, &["events", "sources", name.as_str()], &key, message);
        }
    }
    for (name, hook) in hooks {
        check_hook(subject, findings, name, hook);
    }
    for (name, source) in kafka {
        subject.add_all(findings, &["events", "kafka", name.as_str()], source.problems());
    }
    for (name, source) in nats {
        subject.add_all(findings, &["events", "nats", name.as_str()], source.problems());
    }
    for (name, source) in kubernetes {
        subject.add_all(findings, &["events", "kubernetes", name.as_str()], source.problems());
    }
    let members = nats.iter().filter_map(|(name, source)| {
        let stream = source.stream.as_ref()?;
        Some((
            name,
            format!("the consumer {} of the stream {stream} at", source.consumer),
            &source.connection.servers,
        ))
    });
    one_reader_each(subject, findings, "nats", "consumer", members);
    let members = kafka.iter().flat_map(|(name, source)| {
        source.topics.iter().map(move |topic| {
            (name, format!("the group {} of the topic {topic} at", source.group), &source.connection.brokers)
        })
    });
    one_reader_each(subject, findings, "kafka", "group", members);
    let names = [
        ("sources", sources.keys().collect::<Vec<_>>()),
        ("hooks", hooks.keys().collect()),
        ("kafka", kafka.keys().collect()),
        ("nats", nats.keys().collect()),
        ("kubernetes", kubernetes.keys().collect()),
    ];
    distinct_names(subject, findings, &names);
}

fn check_hook(subject: &Subject<'_>, findings: &mut Findings, name: &SourceName, hook: &HookConfig) {
    let start = ["events", "hooks", name.as_str()];
    subject.add_all(findings, &start, hook.problems());
    let listen = subject.config.api.listen;
    if hook.believes_everybody() && !listen.ip().is_loopback() {
        let text =
            format!("{listen} can be reached from other machines, and anybody there would be believed");
        if let Some(finding) = subject.add(findings, &start, "credential.nobody", text) {
            finding.expected = Some("a credential, or `api.listen` on a loopback address".into());
            finding.advice = Some("let the sender show a token: bearer, basic or token".into());
        }
    }
}

/// A stream of samples stands beside the sources of events, so that its name must be fit for that.
pub(super) fn check_streams(
    subject: &Subject<'_>,
    findings: &mut Findings,
    name: &str,
    source: &PushedConfig,
) {
    let EventsConfig { sources, hooks, kafka, nats, kubernetes } = &subject.config.events;
    for (kind, there) in [("kafka", source.kafka.is_some()), ("nats", source.nats.is_some())] {
        let problem = match board_name(name, kind) {
            _ if !there => continue,
            Err(problem) => Some(format!("the stream of {name:?} cannot be shown: {problem}")),
            Ok(shown) => {
                let taken = sources.contains_key(&shown)
                    || hooks.contains_key(&shown)
                    || kafka.contains_key(&shown)
                    || nats.contains_key(&shown)
                    || kubernetes.contains_key(&shown);
                taken.then(|| {
                    format!("this stream is shown as `{shown}`, and a source of events has that name")
                })
            }
        };
        if let Some(problem) = problem
            && let Some(finding) = subject.add(findings, &["signals", "pushed", name], kind, problem)
        {
            finding.advice = Some("give the source another name: letters, digits and ._-".into());
        }
    }
}

/// Of several sources that share a place at a broker each would get a part of the messages, and some of those be for
/// another one.
fn one_reader_each<'a>(
    subject: &Subject<'_>,
    findings: &mut Findings,
    kind: &str,
    key: &str,
    members: impl Iterator<Item = (&'a SourceName, String, &'a Vec<String>)>,
) {
    let mut seen: BTreeMap<(String, BTreeSet<&String>), &SourceName> = BTreeMap::new();
    for (name, place, servers) in members {
        let text = format!("{place} {} is read by", servers.join(","));
        if let Some(other) = seen.insert((place, servers.iter().collect()), name)
            && other != name
        {
            let text = format!("{text} the source `{other}`, too: each would hear a part of the messages");
            if let Some(finding) = subject.add(findings, &["events", kind, name.as_str()], key, text) {
                finding.advice = Some(format!("give each source a `{key}` of its own"));
            }
        }
    }
}

/// What a source says is recorded under its name, so that no two may share one.
fn distinct_names(subject: &Subject<'_>, findings: &mut Findings, kinds: &[(&str, Vec<&SourceName>)]) {
    let mut seen: BTreeMap<&SourceName, &str> = BTreeMap::new();
    for (kind, names) in kinds {
        for name in names {
            if let Some(other) = seen.insert(name, kind) {
                let text = format!("there is already a source `{name}` under events.{other}");
                if let Some(finding) = subject.add(findings, &["events", kind, name.as_str()], "", text) {
                    let finding_now = finding.clone();
                    *finding = finding_now.expected("each name once, whatever the kind").advice("rename one");
                }
            }
        }
    }
}
