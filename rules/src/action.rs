//! Actions as data: one effect on one target, and what is known about repeating it.

pub mod git;
pub mod kubernetes;
pub mod redis;
pub mod sql;
pub mod sql_text;

use crate::units::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What may be done when an effect was begun and its outcome is not known (reply lost, agent killed). The executor
/// lives by this; nothing else decides about repeating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EffectClass {
    /// Guarded by a precondition on the target: read again, then try again with a new precondition.
    CompareAndSet,
    /// The target recognises the idempotency key: try again with the *same* key.
    Keyed,
    /// It can be found again: look for it, and act only if it is missing.
    Lookup,
    /// Neither: never tried again. An unknown outcome is `Stuck` and a page.
    OneShot,
}

impl EffectClass {
    /// May a further attempt be made when the outcome of the last one is unknown or was a passing failure?
    pub fn may_repeat(self) -> bool {
        match self {
            EffectClass::CompareAndSet | EffectClass::Keyed | EffectClass::Lookup => true,
            EffectClass::OneShot => false,
        }
    }
}

/// A value that is secret: only where it is, never what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// The name of an environment variable of the agent.
    Env(String),
    /// The path of a file; a newline at the end is cut off.
    File(String),
}

/// A program run with exactly these arguments: no shell, clean environment, its own process group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// The program (an absolute path) and its arguments. Placeholders such as `{{to.version}}` fill one argument.
    pub argv: Vec<String>,
    /// Further environment variables. `TURNBACK_PLAN`, `TURNBACK_STEP` and `TURNBACK_KEY` are always set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Environment variables that hold secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_env: BTreeMap<String, SecretRef>,
    /// The working directory; `/` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Exit codes that mean success.
    #[serde(default = "exit_zero")]
    pub success: Vec<i32>,
    /// Exit codes after which a further attempt makes sense (of classes that allow one).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retryable: Vec<i32>,
}

fn exit_zero() -> Vec<i32> {
    vec![0]
}

/// One HTTP request. The host stands in the configuration; redirects are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSpec {
    /// `GET`, `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// The address. Placeholders may stand in the path and the query, percent-encoded, never in scheme or host.
    pub url: String,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers that hold secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_headers: BTreeMap<String, SecretRef>,
    /// What stands before the value of a secret header: `Authorization: "Bearer "`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_prefixes: BTreeMap<String, String>,
    /// The body, sent as it is after placeholders were filled in (JSON strings escaped).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What counts as success.
    pub success: HttpSuccess,
}

/// When an answer counts as success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSuccess {
    /// Status codes that mean success.
    pub status: Vec<u16>,
    /// JSON pointers into the answer and the values that must stand there. Placeholders may stand in texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, serde_json::Value>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ActionSpec {
    /// Run a program.
    Command(CommandSpec),
    /// Send a request.
    Http(HttpSpec),
    /// Revert commits and push.
    Git(Box<git::GitSpec>),
    /// Act on a PostgreSQL server.
    Sql(Box<sql::SqlSpec>),
    /// Act on a Redis server.
    Redis(redis::RedisSpec),
    /// Change a workload of a Kubernetes cluster.
    Kubernetes(Box<kubernetes::KubernetesSpec>),
}

impl ActionSpec {
    /// The action's family as one word.
    pub fn family(&self) -> &'static str {
        match self {
            ActionSpec::Command(_) => "command",
            ActionSpec::Http(_) => "http",
            ActionSpec::Git(_) => "git",
            ActionSpec::Sql(_) => "sql",
            ActionSpec::Redis(_) => "redis",
            ActionSpec::Kubernetes(_) => "kubernetes",
        }
    }

    /// Whether it can tell by itself whether its effect is there already. Then a step that is looked up before it is run
    /// needs no `inspect` of its own.
    pub fn looks_itself(&self) -> bool {
        match self {
            ActionSpec::Command(_) | ActionSpec::Http(_) => false,
            ActionSpec::Git(_) | ActionSpec::Sql(_) | ActionSpec::Redis(_) => true,
            ActionSpec::Kubernetes(_) => true,
        }
    }

    /// What it acts on, where two actions can be told to act on the same: the same words, the same target.
    pub fn target(&self) -> Option<String> {
        match self {
            ActionSpec::Command(_) | ActionSpec::Http(_) => None,
            ActionSpec::Git(git) => Some(format!("git {}", git.repository)),
            ActionSpec::Sql(sql) => Some(format!("sql {:?}", sql.url)),
            ActionSpec::Redis(redis) => Some(format!("redis {:?}", redis.url)),
            ActionSpec::Kubernetes(k8s) => Some(format!("kubernetes {}/{}", k8s.namespace, k8s.name)),
        }
    }

    /// Whether it only asks a server something and changes nothing. Then looking and acting are the same question, and its
    /// answer is what people want to read afterwards.
    pub fn only_asks(&self) -> bool {
        match self {
            ActionSpec::Sql(spec) => {
                matches!(spec.operation, sql::SqlOperation::Check(_) | sql::SqlOperation::Migrations(_))
            }
            ActionSpec::Redis(spec) => matches!(spec.operation, redis::RedisOperation::Depth(_)),
            ActionSpec::Command(_) | ActionSpec::Http(_) | ActionSpec::Git(_) | ActionSpec::Kubernetes(_) => {
                false
            }
        }
    }

    /// Whether it looks and changes nothing, as far as that shows: what only asks, waits for a rollout, or gets a page.
    pub fn only_looks(&self) -> bool {
        match self {
            ActionSpec::Http(http) => http.method == "GET",
            ActionSpec::Kubernetes(spec) => {
                matches!(spec.operation, kubernetes::KubernetesOperation::Wait(_))
            }
            other => other.only_asks(),
        }
    }

    /// One line that says exactly what will be done, without secrets.
    pub fn words(&self) -> String {
        match self {
            ActionSpec::Command(command) => {
                let quoted: Vec<String> = command
                    .argv
                    .iter()
                    .map(|argument| {
                        let plain = |c: char| c.is_ascii_alphanumeric() || "._/:@+%=,-".contains(c);
                        if !argument.is_empty() && argument.chars().all(plain) {
                            argument.clone()
                        } else {
                            format!("{argument:?}")
                        }
                    })
                    .collect();
                quoted.join(" ")
            }
            ActionSpec::Http(http) => format!("{} {}", http.method, http.url),
            ActionSpec::Git(git) => git.words(),
            ActionSpec::Sql(sql) => sql.words(),
            ActionSpec::Redis(redis) => redis.words(),
            ActionSpec::Kubernetes(kubernetes) => kubernetes.words(),
        }
    }
}

/// How one looks whether a step's effect is already there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InspectSpec {
    /// Asked without effect. A command: exit 0 means "the effect is there", exit 1 "it is not", anything else "cannot
    /// tell". A request: success means "it is there", another answer below 500 "it is not", the rest "cannot tell".
    pub action: ActionSpec,
}

/// What undoing a finished step takes, when a later step fails.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Undo {
    /// This action undoes it. It must be safe to run twice.
    Action(ActionSpec),
    /// There is nothing to undo (an announcement).
    NotNeeded,
    /// It cannot be undone: a later failure leaves the plan `Stuck` with a page.
    #[default]
    Impossible,
}

/// What is lost if a step turns out to be a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reversibility {
    /// Nothing: the way forward is open again at once.
    #[default]
    Reversible,
    /// Going forward again takes work.
    Irreversible,
    /// Data. Never run without people.
    Destructive,
}

/// How long an action may take unless the step says otherwise. Five minutes covers a rollout of a usual service;
/// what takes longer should say so.
pub const DEFAULT_TIMEOUT: Span = Span::from_minutes(5);

/// What came of one attempt at a step. Failures come in kinds; `Unknown` is never treated as either of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StepOutcome {
    /// The effect is there.
    Done {
        /// What the action said, cut to a readable length, secrets removed.
        output: String,
        /// False if it was found there already.
        changed: bool,
    },
    /// The effect is certainly not there.
    Failed {
        /// Whether a further attempt makes sense.
        kind: FailureKind,
        /// In words.
        reason: String,
        /// What the action said.
        output: String,
    },
    /// Nobody can tell whether the effect is there.
    Unknown {
        /// In words.
        reason: String,
        /// What the action said.
        output: String,
    },
    /// It was never begun: a guard stood in the way.
    NotBegun {
        /// The guard's words.
        reason: String,
    },
}

/// Whether a further attempt makes sense after a certain failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// It may pass (busy, refused connection before anything was sent).
    Retryable,
    /// It will not pass by itself.
    Permanent,
}

/// What looking at a step's target showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Inspected {
    /// The effect is there.
    Present,
    /// The effect is not there.
    Missing,
    /// Cannot tell.
    Unclear {
        /// In words.
        reason: String,
    },
}
