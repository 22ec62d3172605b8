//! Hooks as the configuration has them.
//!
//! ```yaml
//! github:
//!   preset: github
//!   secret: {file: /run/secrets/github-webhook}
//!   services: ["shop/*"]
//!   service_names: {checkout-service: shop/checkout}
//! ours:
//!   credential: {bearer: {token: {env: OURS_TOKEN}}}
//!   services: [checkout]
//!   mapping:
//!   - name: deployed
//!     when: body.event == 'deploy.finished'
//!     deployment: {service: body.app, version: body.sha, id: body.id, at: body.finished_at}
//!   - name: others
//!     nothing: only finished deployments say anything
//! ```

use super::super::alertmanager::AlertLabels;
use super::super::auth::ServiceScope;
use super::super::config::BadSource;
use super::super::credential::CredentialConfig;
use super::super::limits::shown;
use super::mapping::Mapping;
use super::preset::{HookPreset, preset, preset_names};
use super::{EventSourceKey, Hook};
use rules::action::SecretRef;
use rules::ids::{EnvironmentName, ServiceName, SourceName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest of `values`: they stand where identifiers stand.
const LONGEST_VALUE: usize = 256;

/// Base64 of "this is no secret at all!!": good as a secret of every kind.
const NO_SECRET: &str = "dGhpcyBpcyBubyBzZWNyZXQgYXQgYWxsISE=";

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    /// Who sends: the name of a preset, or `generic` with a `mapping` of one's own.
    #[serde(default = "generic")]
    pub preset: String,
    /// Where the secret is, for the proof that the preset expects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// Where the secret before is, while the sender still uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_secret: Option<SecretRef>,
    /// How the sender proves itself, instead of how the preset expects it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialConfig>,
    /// The services it may speak about: names, prefixes such as `shop/*`, or `*` for all.
    pub services: Vec<String>,
    /// Settings of the preset: `turnback hooks show PRESET` tells which it has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    /// What the sender calls our services.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub service_names: BTreeMap<String, ServiceName>,
    /// What the sender calls our environments.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment_names: BTreeMap<String, EnvironmentName>,
    /// What its messages mean, instead of what the preset makes of them: the first rule that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapping: Vec<Rule>,
    /// Which labels of alerts name the service and the environment, where the sender speaks Alertmanager's language.
    #[serde(default)]
    pub alert_labels: AlertLabels,
}

fn generic() -> String {
    "generic".into()
}

/// What one kind of message means. All but `name` and `nothing` are expressions in CEL over `body`, `headers`, `values`
/// and, with `for_each`, `item`. Exactly one of `deployment`, `report`, `alerts` and `nothing` must be given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is called in errors and identities.
    pub name: String,
    /// A list: the rule is read once for each of its elements, as `item`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_each: Option<String>,
    /// Whether the rule fits; always, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// It is news of a deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentFields>,
    /// It is a report: an alert, a test result, an incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportFields>,
    /// The body is what Alertmanager sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertFields>,
    /// It says nothing here, and why. It is acknowledged, so that the sender does not take us for broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing: Option<String>,
}

/// The fields of a deployment, each an expression. What gives an empty text or null counts as not given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeploymentFields {
    /// The service.
    pub service: String,
    /// Where; production, if nothing is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// What runs from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What ran before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// `deployed`, `rolled_back` or `removed`; deployed, if nothing is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// When, as a text in RFC 3339; `time()` and `unix_ms()` make one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The sender's counter, if it orders all that this hook says about a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// What makes the news recognisable when it comes again. It must stand in what is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The fields of a report, each an expression. What gives an empty text or null counts as not given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReportFields {
    /// The service.
    pub service: String,
    /// Where; everywhere, if nothing is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// The word that rows of matrices listen for: `smoke_test_failed`.
    pub report: String,
    /// `firing` or `resolved`.
    pub state: String,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The same for its beginning and its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When it began, as a text in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// Nothing to say: how labels name services stands in `alert_labels` of the hook.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertFields {}

impl DeploymentFields {
    pub(super) fn all(&self) -> Vec<(&'static str, &str)> {
        let optional = [
            ("environment", &self.environment),
            ("version", &self.version),
            ("previous", &self.previous),
            ("kind", &self.kind),
            ("at", &self.at),
            ("sequence", &self.sequence),
            ("id", &self.id),
        ];
        given([("service", self.service.as_str())], optional)
    }
}

impl ReportFields {
    pub(super) fn all(&self) -> Vec<(&'static str, &str)> {
        let needed = [("service", self.service.as_str()), ("report", &self.report), ("state", &self.state)];
        let optional = [
            ("environment", &self.environment),
            ("summary", &self.summary),
            ("id", &self.id),
            ("at", &self.at),
        ];
        given(needed, optional)
    }
}

fn given<'a, const N: usize, const O: usize>(
    needed: [(&'static str, &'a str); N],
    optional: [(&'static str, &'a Option<String>); O],
) -> Vec<(&'static str, &'a str)> {
    let optional = optional.into_iter().filter_map(|(key, text)| Some((key, text.as_deref()?)));
    needed.into_iter().chain(optional).collect()
}

impl HookConfig {
    /// Everything wrong that can be seen without reading secrets: key and message.
    pub fn problems(&self) -> Vec<(String, String)> {
        let split = |line: String| match line.split_once(": ") {
            Some((key, message)) => (key.replace('[', ".").replace(']', ""), message.to_owned()),
            None => (String::new(), line),
        };
        let mut problems: Vec<(String, String)> =
            ServiceScope::parse(&self.services).err().unwrap_or_default().into_iter().map(split).collect();
        problems.extend(self.alert_labels.problems().into_iter().map(split));
        let Some(preset) = preset(&self.preset) else {
            let names = preset_names().join(", ");
            problems.push((
                "preset".into(),
                format!("there is no preset {}; there are {names}", shown(&self.preset)),
            ));
            return problems;
        };
        match self.proof(preset) {
            Ok((config, key)) => {
                let told = config.problems("credential").into_iter().map(|line| named(line, key)).map(split);
                problems.extend(told);
            }
            Err((key, problem)) => problems.push((key.into(), problem)),
        }
        self.value_problems(preset, &mut problems);
        if let Err(wrong) = Mapping::compile(self.rules(preset)) {
            let at = |(key, message)| match self.mapping.is_empty() {
                true => ("mapping".to_owned(), message),
                false => (format!("mapping.{key}"), message),
            };
            problems.extend(wrong.into_iter().map(at));
        }
        problems
    }

    /// Whether whoever reaches the address is believed.
    pub fn believes_everybody(&self) -> bool {
        matches!(self.credential, Some(CredentialConfig::Nobody(_)))
    }

    fn rules<'a>(&'a self, preset: &'a HookPreset) -> &'a [Rule] {
        if self.mapping.is_empty() { &preset.mapping } else { &self.mapping }
    }

    /// The credential, and whether it came from the preset's expectation and `secret`.
    fn proof(&self, preset: &HookPreset) -> Result<(CredentialConfig, bool), (&'static str, String)> {
        match (&self.credential, &self.secret, &preset.credential) {
            (Some(_), Some(_), _) => Err((
                "secret",
                "stands beside `credential`, which has a secret of its own; write one of them".into(),
            )),
            (Some(credential), None, _) => match &self.old_secret {
                Some(_) => Err(("old_secret", "belongs beside `secret`; write it into `credential`".into())),
                None => Ok((credential.clone(), false)),
            },
            (None, Some(secret), Some(scheme)) => {
                Ok((scheme.with(secret.clone(), self.old_secret.clone()), true))
            }
            (None, Some(_), None) => Err((
                "secret",
                format!(
                    "the preset `{}` does not say how the sender proves itself; write `credential`",
                    preset.name
                ),
            )),
            (None, None, scheme) => Err((
                "",
                format!(
                    "nothing says how the sender proves itself; write `credential`{}",
                    if scheme.is_some() { ", or only `secret` for what the preset expects" } else { "" }
                ),
            )),
        }
    }

    fn value_problems(&self, preset: &HookPreset, problems: &mut Vec<(String, String)>) {
        for (name, value) in &self.values {
            let key = format!("values.{name}");
            let known: Vec<&str> = preset.values.keys().map(String::as_str).collect();
            if !preset.values.contains_key(name) && self.mapping.is_empty() {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let text = format!("the preset `{}` has no value `{name}`; it has {known}", preset.name);
                problems.push((key.clone(), text));
            }
            if value.len() > LONGEST_VALUE || value.chars().any(char::is_control) {
                problems.push((key, format!("must be one line of at most {LONGEST_VALUE} bytes")));
            }
        }
    }

    /// The hook for trying out what messages mean: it has a made-up secret, and its proof must not be asked for.
    pub fn without_secret(&self, name: SourceName) -> Result<Hook, BadSource> {
        self.hook(name, |_| Ok(NO_SECRET.to_owned()))
    }

    /// The hook, ready to be spoken to. `read` gets the secrets. Errors name the hook and the key, never the secret.
    pub fn hook(
        &self,
        name: SourceName,
        read: impl Fn(&SecretRef) -> Result<String, String>,
    ) -> Result<Hook, BadSource> {
        let bad = |problem: String| BadSource::new(name.clone(), problem);
        if let Some((key, problem)) = self.problems().into_iter().next() {
            return Err(bad(format!("{key}: {problem}")));
        }
        let services = ServiceScope::parse(&self.services).map_err(|problems| bad(problems.join("; ")))?;
        let preset = preset(&self.preset).ok_or_else(|| bad("preset: there is none of this name".into()))?;
        let (proof, short) = self.proof(preset).map_err(|(key, problem)| bad(format!("{key}: {problem}")))?;
        let credential = proof.credential("credential", &read).map_err(|line| bad(named(line, short)))?;
        let mapping = Mapping::compile(self.rules(preset)).map_err(|mut wrong| {
            let (key, problem) = wrong.swap_remove(0);
            bad(format!("mapping.{key}: {problem}"))
        })?;
        let mut values: BTreeMap<String, String> =
            preset.values.iter().map(|(name, value)| (name.clone(), value.default.clone())).collect();
        values.extend(self.values.clone());
        Ok(Hook {
            key: EventSourceKey { name, credential, services },
            mapping,
            values,
            service_names: self.service_names.clone(),
            environment_names: self.environment_names.clone(),
            alert_labels: self.alert_labels.clone(),
        })
    }
}

/// A problem of a credential that was made of the preset's expectation, under the key that the person wrote.
fn named(line: String, short: bool) -> String {
    let Some((key, message)) = line.split_once(": ").filter(|_| short) else { return line };
    let last = key.split('.').rev().find(|part| !matches!(*part, "env" | "file")).unwrap_or_default();
    let key = if last.starts_with("old_") { "old_secret" } else { "secret" };
    format!("{key}: {message}")
}
