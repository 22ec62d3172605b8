//! Redis: one connection, a handful of commands, never sent twice.
//!
//! | what came of it | outcome |
//! | --- | --- |
//! | no connection | failed, retryable: nothing was sent |
//! | the server refuses the first change | failed, retryable only if it says that it is busy or starting |
//! | no answer to a change, or a refusal after other changes | unknown |
//! | more keys match than may be removed | failed, permanent; none was removed |
//!
//! A pattern is searched with `SCAN` from the beginning to the end before the first key goes, so that the count that was
//! agreed to is the count that is removed. Keys that are made meanwhile stay. `UNLINK` frees their memory in the
//! background: a large value does not stop the server.

use super::output::line;
use super::{Action, BadAction, Context, chain, pulled};
use crate::secrets::{Redactor, Secrets};
use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, cmd};
use async_trait::async_trait;
use rules::action::redis::{DeletePattern, DepthCheck, RedisOperation, RedisSpec};
use rules::action::{FailureKind, Inspected, StepOutcome};
use rules::rehearsal::Tried;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A server that does not take a connection within this time will not do so.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Keys asked for and removed at a time: small enough not to hold up a server that does one thing at a time.
const BATCH: usize = 500;
/// RQ's own key.
const RQ_SUSPENDED: &str = "rq:suspended";

/// An operation ready to be made.
pub(super) struct Redis {
    client: Client,
    operation: RedisOperation,
    redactor: Redactor,
}

/// Why something did not come about.
enum Trouble {
    Redis(RedisError),
    Wrong(String),
    Passing(String),
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        Trouble::Redis(error)
    }
}

impl Trouble {
    fn kind(&self) -> FailureKind {
        const PASSING: [&str; 7] =
            ["LOADING", "BUSY", "TRYAGAIN", "MASTERDOWN", "CLUSTERDOWN", "OOM", "NOREPLICAS"];
        match self {
            Trouble::Redis(error) => match error.code() {
                Some(code) if PASSING.contains(&code) => FailureKind::Retryable,
                Some(_) => FailureKind::Permanent,
                None if error.is_io_error() || error.is_timeout() => FailureKind::Retryable,
                None => FailureKind::Permanent,
            },
            Trouble::Wrong(_) => FailureKind::Permanent,
            Trouble::Passing(_) => FailureKind::Retryable,
        }
    }

    fn words(&self) -> String {
        match self {
            Trouble::Redis(error) => format!("Redis: {}", chain(error)),
            Trouble::Wrong(words) | Trouble::Passing(words) => words.clone(),
        }
    }
}

/// A connection, and whether anything that changes something was sent over it.
struct Session<'a> {
    connection: MultiplexedConnection,
    changing: &'a AtomicBool,
}

impl Session<'_> {
    async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Trouble> {
        Ok(command.query_async(&mut self.connection).await?)
    }

    /// Sends a change. If it is the first one and the server refuses it, nothing was changed.
    async fn change<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Trouble> {
        let earlier = self.changing.swap(true, Ordering::SeqCst);
        let answer = command.query_async(&mut self.connection).await;
        if answer.as_ref().is_err_and(|error: &RedisError| error.code().is_some()) {
            self.changing.store(earlier, Ordering::SeqCst);
        }
        Ok(answer?)
    }
}

impl Redis {
    /// Resolves the address. Errors: see [`BadAction`].
    pub(super) fn new(spec: &RedisSpec, secrets: &Secrets) -> Result<Self, BadAction> {
        if let Some((key, problem)) = spec.problems("redis").into_iter().next() {
            return Err(BadAction::Specification { key, problem });
        }
        let place = "redis.url".to_owned();
        let url = secrets.resolve(&spec.url).map_err(|source| BadAction::Secret { place, source })?;
        // The parser's own words might quote the address, password included.
        let known = ["redis://", "rediss://"].iter().any(|scheme| url.expose().starts_with(scheme));
        let client = Client::open(url.expose()).ok().filter(|_| known);
        let client = client.ok_or_else(|| BadAction::Specification {
            key: "redis.url".into(),
            problem: "is not the address of a Redis server (redis://user:password@host:port/0)".into(),
        })?;
        Ok(Self { client, operation: spec.operation.clone(), redactor: secrets.redactor() })
    }

    async fn session<'a>(&self, deadline: Instant, changing: &'a AtomicBool) -> Result<Session<'a>, Trouble> {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN.min(left)))
            .set_response_timeout(Some(left));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Session { connection, changing })
    }

    async fn look(&self, deadline: Instant) -> Result<bool, Trouble> {
        let changing = AtomicBool::new(false);
        let mut session = self.session(deadline, &changing).await?;
        match &self.operation {
            RedisOperation::Depth(check) => Ok(depth(&mut session, check).await?.is_ok()),
            RedisOperation::RqSuspend(_) => session.ask(cmd("EXISTS").arg(RQ_SUSPENDED)).await,
            RedisOperation::RqResume => Ok(!session.ask::<bool>(cmd("EXISTS").arg(RQ_SUSPENDED)).await?),
            RedisOperation::DeletePattern(delete) => Ok(matching(&mut session, delete, 0).await?.is_empty()),
            RedisOperation::Set(set) => {
                let found: Option<Vec<u8>> = session.ask(cmd("GET").arg(&set.key)).await?;
                Ok(found.is_some_and(|found| found == set.value.as_bytes()))
            }
            RedisOperation::Delete(delete) => {
                Ok(!session.ask::<bool>(cmd("EXISTS").arg(&delete.key)).await?)
            }
        }
    }

    /// What can be said without touching anything; nothing if its effect is there.
    async fn try_out(&self, deadline: Instant) -> Result<Option<String>, Trouble> {
        if !matches!(self.operation, RedisOperation::Depth(_)) && self.look(deadline).await? {
            return Ok(None);
        }
        let changing = AtomicBool::new(false);
        let mut session = self.session(deadline, &changing).await?;
        match &self.operation {
            RedisOperation::DeletePattern(delete) => {
                let found = matching(&mut session, delete, delete.at_most).await?.len() as u64;
                if found > delete.at_most {
                    let words = format!("more than {} keys match {}", delete.at_most, delete.pattern);
                    return Err(Trouble::Wrong(words));
                }
                Ok(Some(format!("{found} keys match {}; none was touched", delete.pattern)))
            }
            // Whether it is deep enough is asked when it is time.
            RedisOperation::Depth(check) => {
                Ok(Some(depth(&mut session, check).await?.unwrap_or_else(|words| format!("now {words}"))))
            }
            RedisOperation::RqSuspend(_)
            | RedisOperation::RqResume
            | RedisOperation::Set(_)
            | RedisOperation::Delete(_) => {
                session.ask::<()>(&cmd("PING")).await?;
                Ok(Some("Redis answers; nothing was changed".into()))
            }
        }
    }

    async fn act(&self, deadline: Instant, changing: &AtomicBool) -> Result<(String, bool), Trouble> {
        let mut session = self.session(deadline, changing).await?;
        match &self.operation {
            RedisOperation::Depth(check) => match depth(&mut session, check).await? {
                Ok(words) => Ok((words, false)),
                // Queues drain.
                Err(words) => Err(Trouble::Passing(words)),
            },
            RedisOperation::RqSuspend(suspend) => {
                let mut set = cmd("SET");
                set.arg(RQ_SUSPENDED).arg(1);
                if let Some(duration) = suspend.duration {
                    set.arg("EX").arg(duration.milliseconds() / 1_000);
                }
                session.change::<()>(&set).await?;
                Ok(("RQ's workers are suspended".into(), true))
            }
            RedisOperation::RqResume => {
                let removed: bool = session.change(cmd("DEL").arg(RQ_SUSPENDED)).await?;
                Ok(("RQ's workers may go on".into(), removed))
            }
            RedisOperation::DeletePattern(delete) => delete_all(&mut session, delete).await,
            RedisOperation::Set(set) => {
                let mut command = cmd("SET");
                command.arg(&set.key).arg(&set.value);
                if let Some(expire) = set.expire {
                    command.arg("EX").arg(expire.milliseconds() / 1_000);
                }
                session.change::<()>(&command).await?;
                Ok((format!("{} is set", set.key), true))
            }
            RedisOperation::Delete(delete) => {
                let removed: bool = session.change(cmd("UNLINK").arg(&delete.key)).await?;
                Ok((format!("{} is removed", delete.key), removed))
            }
        }
    }

    fn shown(&self, text: &str) -> String {
        line(text, &self.redactor)
    }
}

/// The length of a queue, held against its bounds.
async fn depth(session: &mut Session<'_>, check: &DepthCheck) -> Result<Result<String, String>, Trouble> {
    let mut depth = 0_u64;
    for (command, key) in check.queue.commands() {
        let length: u64 = session.ask(cmd(command).arg(key)).await?;
        depth = depth.saturating_add(length);
    }
    let (name, least, most) = (check.queue.name(), check.at_least, check.at_most);
    let words = format!("{name} holds {depth} entries");
    if (least..=most).contains(&depth) {
        Ok(Ok(words))
    } else {
        Ok(Err(format!("{words}, not {least} to {most}")))
    }
}

/// The keys that match, but no more than one beyond `enough`.
async fn matching(
    session: &mut Session<'_>,
    delete: &DeletePattern,
    enough: u64,
) -> Result<BTreeSet<Vec<u8>>, Trouble> {
    let about: String = session.ask(cmd("INFO").arg("cluster")).await?;
    if about.contains("cluster_enabled:1") {
        let words = "this is one node of a cluster, and a pattern would find only its own keys; name each node in a step";
        return Err(Trouble::Wrong(words.into()));
    }
    let (mut found, mut cursor) = (BTreeSet::new(), 0_u64);
    loop {
        let scan = cmd("SCAN").arg(cursor).arg("MATCH").arg(&delete.pattern).arg("COUNT").arg(BATCH).clone();
        let (next, keys): (u64, Vec<Vec<u8>>) = session.ask(&scan).await?;
        found.extend(keys);
        if next == 0 || found.len() as u64 > enough {
            return Ok(found);
        }
        cursor = next;
    }
}

async fn delete_all(session: &mut Session<'_>, delete: &DeletePattern) -> Result<(String, bool), Trouble> {
    let keys: Vec<Vec<u8>> = matching(session, delete, delete.at_most).await?.into_iter().collect();
    if keys.len() as u64 > delete.at_most {
        let words = format!("more than {} keys match {}; none was removed", delete.at_most, delete.pattern);
        return Err(Trouble::Wrong(words));
    }
    let mut removed = 0_u64;
    for batch in keys.chunks(BATCH) {
        removed += session.change::<u64>(cmd("UNLINK").arg(batch)).await?;
    }
    Ok((format!("{} keys match {}, {removed} were removed", keys.len(), delete.pattern), removed > 0))
}

#[async_trait]
impl Action for Redis {
    async fn rehearse(&self, context: &Context) -> Tried {
        let deadline = Instant::now() + context.timeout.duration();
        match self.try_out(deadline).await {
            Ok(None) => Tried::AlreadyThere,
            Ok(Some(how)) => Tried::Works { how },
            Err(trouble) => {
                let reason = self.shown(&trouble.words());
                match trouble.kind() {
                    FailureKind::Permanent => Tried::Fails { reason },
                    FailureKind::Retryable => Tried::Unclear { reason },
                }
            }
        }
    }

    async fn inspect(&self, context: &Context) -> Inspected {
        let deadline = Instant::now() + context.timeout.duration();
        let looked = tokio::select! {
            looked = self.look(deadline) => looked,
            () = sleep_until(deadline) => {
                return Inspected::Unclear { reason: format!("no answer came within {}", context.timeout) };
            }
            () = pulled(&context.cancel) => {
                return Inspected::Unclear { reason: "the kill switch was pulled".into() };
            }
        };
        match looked {
            Ok(true) => Inspected::Present,
            Ok(false) => Inspected::Missing,
            Err(trouble) => Inspected::Unclear { reason: self.shown(&trouble.words()) },
        }
    }

    async fn apply(&self, context: &Context) -> StepOutcome {
        let deadline = Instant::now() + context.timeout.duration();
        let changing = AtomicBool::new(false);
        let (kind, reason, switch) = tokio::select! {
            acted = self.act(deadline, &changing) => match acted {
                Ok((output, changed)) => return StepOutcome::Done { output: self.shown(&output), changed },
                Err(trouble) => (trouble.kind(), self.shown(&trouble.words()), false),
            },
            () = sleep_until(deadline) => {
                (FailureKind::Retryable, format!("it did not end within {}", context.timeout), false)
            }
            () = pulled(&context.cancel) => (FailureKind::Retryable, "the kill switch was pulled".into(), true),
        };
        match (changing.load(Ordering::SeqCst), switch) {
            (true, _) => StepOutcome::Unknown { reason, output: String::new() },
            (false, true) => StepOutcome::NotBegun { reason },
            (false, false) => StepOutcome::Failed { kind, reason, output: String::new() },
        }
    }
}
