//! What types cannot say: names that are referred to, addresses, selectors, runbooks, matrices, times.

mod bounds;
mod events;
mod runbooks;
mod services;

use super::report::{Finding, Findings};
use super::tree::{Node, Path};
use super::{Config, SignalSourcesConfig};
use crate::signals::pushed::PushCredential;
use rules::action::SecretRef;
use rules::matrix::Matrix;
use rules::ruleset::SHIPPED_MATRICES;
use std::collections::{BTreeMap, BTreeSet};

/// What is checked.
pub(super) struct Subject<'a> {
    /// The settings, without the parts at fault.
    pub config: &'a Config,
    /// The tree they were read from: without the parts at fault, defaults filled in.
    pub tree: &'a Node,
    /// The tree as it was written.
    pub written: &'a Node,
    /// The paths of the parts at fault.
    pub removed: &'a BTreeSet<Path>,
    /// All matrices by name: those that ship, and the configured ones.
    pub matrices: &'a BTreeMap<String, Matrix>,
    /// Whether all files could be read; if not, a name that is missing may stand in one of those.
    pub complete: bool,
}

impl Subject<'_> {
    /// Whether something at this path, or below it, was at fault already: what is said about the rest may follow from
    /// that.
    fn in_doubt(&self, path: &[String]) -> bool {
        self.removed.iter().any(|gone| gone.starts_with(path))
    }

    /// Adds what is wrong at `dotted` below `start`. `None` if that is in doubt.
    fn add<'f>(
        &self,
        findings: &'f mut Findings,
        start: &[&str],
        dotted: &str,
        message: impl Into<String>,
    ) -> Option<&'f mut Finding> {
        let start: Path = start.iter().map(|step| (*step).to_owned()).collect();
        let (path, _) = self.tree.locate(&start, dotted);
        if self.in_doubt(&path) {
            return None;
        }
        Some(findings.add_at(self.tree, &start, dotted, message))
    }

    /// Adds a list of problems as the components tell them.
    fn add_all(&self, findings: &mut Findings, start: &[&str], problems: Vec<(String, String)>) {
        for (key, message) in problems {
            let name = key.rsplit('.').next().unwrap_or_default().to_owned();
            self.add(findings, start, &key, sentence(&name, &message));
        }
    }

    /// The keys that were written at a path, those at fault included.
    fn written_keys(&self, path: &[&str]) -> BTreeSet<&str> {
        let node = path.iter().try_fold(self.written, |node, step| node.get(step));
        node.and_then(Node::map).map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    fn source_names(&self) -> BTreeSet<&str> {
        ["prometheus", "scrape", "probe", "pushed"]
            .iter()
            .flat_map(|kind| self.written_keys(&["signals", kind]))
            .collect()
    }

    fn matrix_names(&self) -> BTreeSet<&str> {
        let mut names = self.written_keys(&["matrices"]);
        names.extend(self.written_keys(&["matrix_files"]));
        names.extend(SHIPPED_MATRICES.iter().map(|shipped| shipped.name));
        names
    }

    /// Adds a name that does not exist.
    fn unknown_name(
        &self,
        findings: &mut Findings,
        at: (&[&str], &str),
        what: (&str, &str),
        wrong: &str,
        names: &BTreeSet<&str>,
    ) {
        if names.contains(wrong) || !self.complete {
            return;
        }
        let (one, list) = what;
        if let Some(finding) = self.add(findings, at.0, at.1, format!("there is no {one} `{wrong}`")) {
            *finding = finding.clone().names(list, wrong, names.iter().copied());
            if finding.advice.is_none() {
                finding.advice = Some(format!("configure the {one}, or correct the name"));
            }
        }
    }
}

/// Components write `is empty; ...` or `the program ... must`: with the key in front the first reads as a sentence.
fn sentence(key: &str, message: &str) -> String {
    const BEGINNINGS: [&str; 7] = ["is ", "must ", "and ", "has ", "holds ", "names ", "begins "];
    match BEGINNINGS.iter().any(|beginning| message.starts_with(beginning)) {
        true => format!("`{key}` {message}"),
        false => message.to_owned(),
    }
}

/// Adds everything that is wrong.
pub(super) fn check(subject: &Subject<'_>, findings: &mut Findings) {
    general(subject, findings);
    sources(subject, findings);
    secrets(subject, findings);
    subject.add_all(findings, &["notify"], subject.config.notify.problems());
    if let Some(heartbeat) = &subject.config.heartbeat {
        subject.add_all(findings, &["heartbeat"], heartbeat.problems());
    }
    let log = subject.config.deployment_log.iter().flat_map(|log| log.problems()).collect();
    subject.add_all(findings, &["deployment_log"], log);
    matrices(subject, findings);
    for (name, runbook) in &subject.config.runbooks {
        subject.add_all(findings, &["runbooks", name], rules::runbook::problems(runbook));
    }
    defaults(subject, findings);
    services::check(subject, findings);
    freezes(subject, findings);
}

fn general(subject: &Subject<'_>, findings: &mut Findings) {
    let config = subject.config;
    if config.version != 1
        && let Some(finding) =
            subject.add(findings, &["version"], "", format!("version {} is not known", config.version))
    {
        *finding =
            finding.clone().expected("1").advice("write `version: 1`; a newer version needs a newer agent");
    }
    if let Some(directory) = config.state_dir.as_ref().filter(|directory| !directory.is_absolute())
        && let Some(finding) =
            subject.add(findings, &["state_dir"], "", format!("{directory:?} is not an absolute path"))
    {
        *finding = finding
            .clone()
            .expected("a path that begins with /")
            .advice("the daemon may start in any directory");
    }
    let token_written = subject.written_keys(&["api"]).contains("token");
    if !config.api.listen.ip().is_loopback() && config.api.token.is_none() && !token_written {
        let text = format!("{} can be reached from other machines, and no token is set", config.api.listen);
        if let Some(finding) = subject.add(findings, &["api", "listen"], "", text) {
            *finding = finding
                .clone()
                .expected("a loopback address such as 127.0.0.1, or `api.token`")
                .advice("add token: {file: /path} or {env: NAME} under `api`");
        }
    }
}

fn sources(subject: &Subject<'_>, findings: &mut Findings) {
    events::check(subject, findings);
    let SignalSourcesConfig { prometheus, scrape, probe, pushed } = &subject.config.signals;
    for (name, source) in prometheus {
        subject.add_all(findings, &["signals", "prometheus", name], source.problems());
    }
    for (name, source) in scrape {
        subject.add_all(findings, &["signals", "scrape", name], source.problems());
    }
    for (name, source) in probe {
        subject.add_all(findings, &["signals", "probe", name], source.problems());
    }
    for (name, source) in pushed {
        subject.add_all(findings, &["signals", "pushed", name], source.problems());
        events::check_streams(subject, findings, name, source);
    }
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (kind, name) in subject.config.signals.names() {
        match seen.iter().find(|(_, other)| *other == name) {
            None => seen.push((kind, name)),
            Some((first, _)) => {
                let text = format!("there is already a source `{name}` under signals.{first}");
                if let Some(finding) = subject.add(findings, &["signals", kind, name], "", text) {
                    *finding = finding
                        .clone()
                        .expected("each name once, whatever the kind")
                        .advice("rename one: signals refer to sources by name only");
                }
            }
        }
    }
}

fn secret_problem(secret: &SecretRef) -> Option<&'static str> {
    match secret {
        SecretRef::Env(name) if name.is_empty() || name.contains(['=', '\0', ' ']) => {
            Some("this is not the name of an environment variable")
        }
        SecretRef::File(path) if !path.starts_with('/') => Some("the path of a secret must begin with /"),
        SecretRef::Env(_) | SecretRef::File(_) => None,
    }
}

/// References to secrets that no component checks for itself.
fn secrets(subject: &Subject<'_>, findings: &mut Findings) {
    let config = subject.config;
    let mut check = |start: &[&str], dotted: &str, secret: &SecretRef| {
        let wrong = secret_problem(secret);
        // The content is not shown: somebody may have written the secret itself here.
        if let Some(finding) = wrong.and_then(|text| subject.add(findings, start, dotted, text)) {
            finding.show = super::report::Show::UpToHere;
            finding.expected = Some("{env: NAME} or {file: /path}".into());
        }
    };
    if let Some(token) = &config.api.token {
        check(&["api", "token"], "", token);
    }
    for (name, source) in &config.signals.prometheus {
        let start = ["signals", "prometheus", name.as_str()];
        source.bearer.iter().for_each(|secret| check(&start, "bearer", secret));
        source.basic.iter().for_each(|basic| check(&start, "basic.password", &basic.password));
        source
            .secret_headers
            .iter()
            .for_each(|(header, secret)| check(&start, &format!("secret_headers.{header}"), secret));
    }
    for (name, source) in &config.signals.pushed {
        let start = ["signals", "pushed", name.as_str()];
        match &source.credential {
            Some(PushCredential::Bearer(token)) => check(&start, "credential.bearer", token),
            Some(PushCredential::Basic(basic)) => check(&start, "credential.basic.password", &basic.password),
            None => {}
        }
    }
    let beats = config.heartbeat.iter().map(|heartbeat| (vec!["heartbeat", "webhook"], &heartbeat.webhook));
    let told = config.notify.webhook.iter().map(|(name, one)| (vec!["notify", "webhook", name], one));
    for (start, webhook) in told.chain(beats) {
        for (key, secret) in [
            ("secret_url", &webhook.secret_url),
            ("bearer", &webhook.bearer),
            ("sign_with", &webhook.sign_with),
        ] {
            secret.iter().for_each(|secret| check(&start, key, secret));
        }
    }
    for (name, runbook) in &config.runbooks {
        for (at, secret) in runbooks::secrets(runbook) {
            check(&["runbooks", name], &at, secret);
        }
    }
}

fn matrices(subject: &Subject<'_>, findings: &mut Findings) {
    for (name, matrix) in &subject.config.matrices {
        if SHIPPED_MATRICES.iter().any(|shipped| shipped.name == name) {
            let text = format!("`{name}` is the name of a matrix that ships");
            if let Some(finding) = subject.add(findings, &["matrices", name], "", text) {
                *finding = finding
                    .clone()
                    .advice("give it another name, and name that in `defaults.matrix` or at the services");
            }
        }
        subject.add_all(findings, &["matrices", name], matrix.problems());
    }
}

fn defaults(subject: &Subject<'_>, findings: &mut Findings) {
    let defaults = &subject.config.defaults;
    subject.add_all(findings, &["defaults", "watch"], defaults.watch.problems());
    subject.add_all(findings, &["defaults", "guards"], defaults.guards.problems());
    subject.add_all(findings, &["defaults", "contacts"], contact_problems(&defaults.contacts));
    subject.add_all(findings, &["defaults", "statistics"], defaults.statistics.problems());
    let names = subject.matrix_names();
    subject.unknown_name(
        findings,
        (&["defaults"], "matrix"),
        ("matrix", "the name of a matrix"),
        &defaults.matrix,
        &names,
    );
    let rows = subject.matrices.values().flat_map(|matrix| &matrix.rows);
    let mitigations: BTreeSet<&str> =
        rows.flat_map(|row| &row.first).map(|first| first.name.as_str()).collect();
    for name in defaults.patience.keys() {
        let what = ("mitigation", "a mitigation of a matrix");
        subject.unknown_name(findings, (&["defaults", "patience"], name), what, name, &mitigations);
    }
}

/// Roles and what is written for them: each is a word or two in every page.
const LONGEST_ROLE: usize = 40;
const LONGEST_CONTACT: usize = 200;
const MOST_CONTACTS: usize = 20;

/// Everything wrong with contacts, each with the role at fault.
fn contact_problems(contacts: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if contacts.len() > MOST_CONTACTS {
        found.push((
            String::new(),
            format!("there are {} contacts; at most {MOST_CONTACTS} are named in a page", contacts.len()),
        ));
    }
    for (role, contact) in contacts {
        let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if role.is_empty() || role.len() > LONGEST_ROLE || !role.chars().all(letter) {
            let text = format!(
                "{role:?} is no role; write 1 to {LONGEST_ROLE} letters, digits, _ or -, such as on_call"
            );
            found.push((role.clone(), text));
        }
        let good = !contact.trim().is_empty()
            && contact.chars().count() <= LONGEST_CONTACT
            && !contact.chars().any(char::is_control);
        if !good {
            let text = format!(
                "is no contact; write one line of at most {LONGEST_CONTACT} letters, such as \"Ada, +44 20 7946 0000\""
            );
            found.push((role.clone(), text));
        }
    }
    found
}

fn freezes(subject: &Subject<'_>, findings: &mut Findings) {
    let services = subject.written_keys(&["services"]);
    for (number, freeze) in subject.config.freezes.iter().enumerate() {
        if freeze.until <= freeze.from {
            let text = format!("the freeze ends ({}) before it begins ({})", freeze.until, freeze.from);
            if let Some(finding) = subject.add(findings, &["freezes"], &format!("{number}.until"), text) {
                finding.expected = Some("a time later than `from`".into());
            }
        }
        if freeze.reason.trim().is_empty() {
            subject.add(
                findings,
                &["freezes"],
                &format!("{number}.reason"),
                "`reason` is empty; people will ask for it",
            );
        }
        if let Some(service) = &freeze.service {
            let at: (&[&str], &str) = (&["freezes"], &format!("{number}.service"));
            subject.unknown_name(
                findings,
                at,
                ("service", "a configured service"),
                service.as_str(),
                &services,
            );
        }
    }
}
