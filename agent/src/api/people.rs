//! A person's word.

use super::auth::actor;
use super::{Problem, Shared, State};
use crate::clock;
use crate::dispatcher::{Message, Person, PersonAsk};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode};
use rules::ids::{EnvironmentName, PlanId, ServiceName, Version};
use rules::units::Span;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

type Body<T> = Result<Json<T>, JsonRejection>;

/// What became of what was asked.
#[derive(Serialize)]
pub(super) struct Answer {
    result: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Approve,
    Reject,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approval {
    decision: Word,
    digest: String,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    service: ServiceName,
    #[serde(default = "production")]
    environment: EnvironmentName,
    #[serde(default)]
    to: Option<Version>,
    #[serde(default)]
    drill: bool,
}

/// The environment of whoever does not say.
pub(super) fn production() -> EnvironmentName {
    #[expect(clippy::expect_used, reason = "a constant name of letters is usable")]
    EnvironmentName::new("production").expect("letters make a usable name")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FreezeAsk {
    #[serde(default)]
    service: Option<ServiceName>,
    #[serde(default)]
    duration: Option<Span>,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unfreeze {
    #[serde(default)]
    service: Option<ServiceName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stop {
    reason: String,
}

/// Reasons are kept in the ledger and shown; this is a long one.
const LONGEST_REASON: usize = 1_000;

fn body<T>(body: Body<T>) -> Result<T, Problem> {
    body.map(|Json(body)| body).map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))
}

fn reason(text: String) -> Result<String, Problem> {
    if text.len() > LONGEST_REASON {
        let words = format!("`reason` has {} bytes, at most {LONGEST_REASON} are kept", text.len());
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, words));
    }
    Ok(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

async fn ask(shared: &Shared, headers: &HeaderMap, ask: PersonAsk) -> Result<Json<Answer>, Problem> {
    let (reply, answer) = oneshot::channel();
    shared.send(Message::Person { ask, by: Person(actor(headers)), reply }).await?;
    match answer.await.map_err(|_| Problem::ending())? {
        Ok(result) => Ok(Json(Answer { result })),
        // What was asked was understood and is not done: the state of things is against it.
        Err(refusal) => Err(Problem::new(StatusCode::CONFLICT, refusal)),
    }
}

/// `POST /v1/plans/{id}/approval`
pub(super) async fn approval(
    shared: State,
    headers: HeaderMap,
    Path(id): Path<String>,
    given: Body<Approval>,
) -> Result<Json<Answer>, Problem> {
    let Approval { decision, digest, reason: why } = body(given)?;
    let plan =
        PlanId::new(id).map_err(|bad| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, bad.to_string()))?;
    let asked = match decision {
        Word::Approve => PersonAsk::Approve { plan, digest },
        Word::Reject => PersonAsk::Reject { plan, digest, reason: reason(why)? },
    };
    ask(&shared, &headers, asked).await
}

/// `POST /v1/rollbacks`
pub(super) async fn rollback(
    shared: State,
    headers: HeaderMap,
    given: Body<Rollback>,
) -> Result<Json<Answer>, Problem> {
    let Rollback { service, environment, to, drill } = body(given)?;
    ask(&shared, &headers, PersonAsk::Rollback { service, environment, to, drill }).await
}

/// `POST /v1/rehearsals`: the plan that would be drawn up now, and what came of trying it. Nothing is changed, not even in
/// the ledger; it takes a person's word because targets are asked with the agent's credentials.
pub(super) async fn rehearsal(shared: State, given: Body<Rollback>) -> Result<Json<Value>, Problem> {
    let Rollback { service, environment, to, drill: _ } = body(given)?;
    let drafted = shared.look(move |view| view.draft(&service, &environment, to.as_ref())).await?;
    let (plan, watch) = drafted.map_err(|words| Problem::new(StatusCode::CONFLICT, words))?;
    let rehearsal = shared.executor.rehearse(&plan).await;
    Ok(Json(json!({
        "digest": plan.digest(), "plan": plan, "watch": watch, "rehearsal": rehearsal, "rehearsed_at": clock::now(),
    })))
}

/// `POST /v1/freezes`
pub(super) async fn freeze(
    shared: State,
    headers: HeaderMap,
    given: Body<FreezeAsk>,
) -> Result<Json<Answer>, Problem> {
    let FreezeAsk { service, duration, reason: why } = body(given)?;
    ask(&shared, &headers, PersonAsk::Freeze { service, duration, reason: reason(why)? }).await
}

/// `DELETE /v1/freezes?service=`
pub(super) async fn unfreeze(
    shared: State,
    headers: HeaderMap,
    Query(Unfreeze { service }): Query<Unfreeze>,
) -> Result<Json<Answer>, Problem> {
    ask(&shared, &headers, PersonAsk::Unfreeze { service }).await
}

/// `POST /v1/stop`
pub(super) async fn stop(
    shared: State,
    headers: HeaderMap,
    given: Body<Stop>,
) -> Result<Json<Answer>, Problem> {
    // The switch first, the reading and the record after: whatever is wrong with the request, stopping is what was meant.
    shared.stopped.send_replace(true);
    let why = body(given).map_or_else(|_| "no reason given".into(), |Stop { reason }| reason);
    let why: String =
        why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_REASON).collect();
    let written = ask(&shared, &headers, PersonAsk::Stop { reason: why }).await;
    // Whoever is told of a failure must know which half of it worked.
    written.map_err(|problem| {
        problem.after("the kill switch is pulled until this process ends, but that is not written down: ")
    })
}

/// `DELETE /v1/stop`
pub(super) async fn resume(shared: State, headers: HeaderMap) -> Result<Json<Answer>, Problem> {
    ask(&shared, &headers, PersonAsk::Resume).await
}
