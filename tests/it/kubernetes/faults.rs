//! Lost and spoiled answers: exactly one write takes place, by the server's own record.

use std::time::{Duration, Instant};

use anyhow::Result;
use rules::action::StepOutcome;
use rules::units::Span;
use serde_json::{Value, json};
use tests::fault_proxy::{Fault, FaultProxy};

use super::stage::{Stage, assert_refused, image, kind};

fn generation(object: &Value) -> u64 {
    object["metadata"]["generation"].as_u64().unwrap_or_default()
}

fn reason(outcome: &StepOutcome) -> &str {
    match outcome {
        StepOutcome::Failed { reason, .. }
        | StepOutcome::Unknown { reason, .. }
        | StepOutcome::NotBegun { reason } => reason,
        StepOutcome::Done { output, .. } => output,
    }
}

async fn behind_a_proxy() -> Result<(Stage, FaultProxy)> {
    let mut stage = Stage::new().await?;
    stage.good("web").await?;
    stage.deploy("deployments", "web", "shop/checkout:bad").await?;
    stage.settled("web").await?;
    let proxy = stage.through_proxy().await?;
    Ok((stage, proxy))
}

/// What is injected; what the attempt says, and in which words; what a further attempt says.
type Case = (Fault, &'static str, &'static str, Option<&'static str>);

#[tokio::test]
async fn whatever_becomes_of_the_answer_there_is_one_write() -> Result<()> {
    let retry_after = vec![("retry-after", "7")];
    let cases: [Case; 10] = [
        (Fault::Answer(429, retry_after, "busy"), "failed, retryable", "Retry-After: 7", Some("done")),
        (Fault::Answer(503, vec![], "{}"), "unknown", "HTTP 503", Some("done")),
        (Fault::Answer(500, vec![], "{}"), "unknown", "HTTP 500", Some("done")),
        (Fault::Answer(409, vec![], "{}"), "done", "resource version", None),
        (Fault::Reset, "unknown", "", Some("done")),
        (Fault::LoseReply, "unknown", "", Some("there already")),
        (Fault::ReplaceReply(504), "unknown", "HTTP 504", Some("there already")),
        (Fault::ReplaceReply(403), "unknown", "HTTP 403", Some("there already")),
        (Fault::ReplaceReply(409), "done", "looking again", None),
        (Fault::SendTwice, "done", "looking again", None),
    ];
    // Side by side, since each mostly waits for its pods.
    let all = async {
        let mut running = tokio::task::JoinSet::new();
        for case in cases {
            running.spawn_local(one_write(case));
        }
        while let Some(case) = running.join_next().await {
            case??;
        }
        Ok(())
    };
    tokio::task::LocalSet::new().run_until(all).await
}

async fn one_write((fault, first, words, then): Case) -> Result<()> {
    let (stage, proxy) = behind_a_proxy().await?;
    let name = format!("{fault:?}, {words}");
    let injected = [format!("PATCH {fault:?}")];
    proxy.inject("PATCH", fault);
    let before = generation(&stage.get("deployments", "web").await?);
    let undo = stage.step("web", json!({"undo": {"images": {"app": "shop/checkout:v1"}}}));
    let outcome = stage.run(&undo).await;
    assert_eq!(kind(&outcome), first, "{name}: {outcome:?}");
    assert!(reason(&outcome).contains(words), "{name}: {outcome:?}");
    assert_eq!(proxy.injected(), injected, "the fault was met");
    assert_eq!(proxy.troubles(), [""; 0], "{name}");
    // A conflict is looked at again; after anything else nothing more is sent.
    let again = name.starts_with("Answer, resource");
    assert_eq!(proxy.requests_since_fault("PATCH") > 0, again, "{name}: no retries of its own");
    if let Some(then) = then {
        let outcome = if first == "unknown" { stage.recover(&undo).await } else { stage.run(&undo).await };
        assert_eq!(kind(&outcome), then, "{name}: {outcome:?}");
    }
    let after = stage.get("deployments", "web").await?;
    assert_eq!(image(&after), "shop/checkout:v1", "{name}");
    assert_eq!(generation(&after), before + 1, "{name}: one write");
    assert_eq!(stage.written(), 1, "{name}: {:?}", stage.answered());
    if name.starts_with("SendTwice") {
        assert_eq!(stage.answered().last(), Some(&422), "the server itself refused the second one");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for_beyond_the_step() -> Result<()> {
    let (stage, proxy) = behind_a_proxy().await?;
    proxy.inject("PATCH", Fault::HoldReply);
    let mut undo = stage.step("web", json!({"undo": {"images": {"app": "shop/checkout:v1"}}}));
    undo.timeout = Span::from_seconds(15);
    let began = Instant::now();
    let outcome = stage.run(&undo).await;
    assert_eq!(kind(&outcome), "unknown", "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(proxy.injected(), ["PATCH HoldReply"]);
    let outcome = stage.recover(&undo).await;
    assert_eq!(kind(&outcome), "there already", "{outcome:?}");
    assert_eq!(stage.written(), 1);
    Ok(())
}

#[tokio::test]
async fn the_kill_switch_ends_it_at_once() -> Result<()> {
    let (stage, proxy) = behind_a_proxy().await?;
    proxy.inject("PATCH", Fault::HoldReply);
    let undo = stage.step("web", json!({"undo": {"images": {"app": "shop/checkout:v1"}}}));
    let pull = async {
        while proxy.injected().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        stage.switch.send_replace(true);
        Instant::now()
    };
    let (outcome, pulled) = tokio::join!(stage.run(&undo), pull);
    assert!(pulled.elapsed() < Duration::from_secs(5), "{:?}", pulled.elapsed());
    assert_eq!(kind(&outcome), "unknown", "{outcome:?}");
    assert_eq!(kind(&stage.run(&undo).await), "not begun");

    stage.switch.send_replace(false);
    let wait = stage.step("web", json!({"wait": {}}));
    stage.deploy("deployments", "web", "shop/checkout:stuck").await?;
    let pull = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        stage.switch.send_replace(true);
        Instant::now()
    };
    let (outcome, pulled) = tokio::join!(stage.run(&wait), pull);
    assert!(pulled.elapsed() < Duration::from_secs(5), "{:?}", pulled.elapsed());
    assert_eq!(kind(&outcome), "not begun", "{outcome:?}");
    assert_eq!(stage.written(), 1);
    Ok(())
}

#[tokio::test]
async fn a_change_that_leaves_its_spec_alone_is_tried_again() -> Result<()> {
    let (stage, proxy) = behind_a_proxy().await?;
    let (api, path) = (stage.api.clone(), format!("{}/web", stage.path("deployments")));
    let touch = json!({"metadata": {"annotations": {"seen-by": "a dashboard"}}});
    proxy.inject(
        "PATCH",
        Fault::Meanwhile(Box::new(move || {
            Box::pin(async move { api.merge(&path, &touch).await?.ok().map(|_| ()) })
        })),
    );
    let undo = stage.step("web", json!({"undo": {"images": {"app": "shop/checkout:v1"}}}));
    let outcome = stage.run(&undo).await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    assert_eq!(proxy.injected(), ["PATCH Meanwhile"]);
    assert_eq!(stage.answered().first(), Some(&422));
    assert_eq!(stage.written(), 1);
    Ok(())
}

#[tokio::test]
async fn what_moves_all_the_time_is_left_to_a_later_attempt() -> Result<()> {
    let (stage, proxy) = behind_a_proxy().await?;
    for number in 0..5 {
        let (api, path) = (stage.api.clone(), format!("{}/web", stage.path("deployments")));
        let touch = json!({"metadata": {"annotations": {"seen-by": number.to_string()}}});
        let act = async move { api.merge(&path, &touch).await?.ok().map(|_| ()) };
        proxy.inject("PATCH", Fault::Meanwhile(Box::new(move || Box::pin(act))));
    }
    let undo = stage.step("web", json!({"undo": {"images": {"app": "shop/checkout:v1"}}}));
    let outcome = stage.run(&undo).await;
    assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
    assert_eq!(proxy.injected().len(), 5);
    assert_eq!(stage.answered(), [422; 5]);
    assert_eq!(kind(&stage.run(&undo).await), "done");
    assert_eq!(stage.written(), 1);
    Ok(())
}

#[tokio::test]
async fn a_write_of_ours_that_was_changed_since_is_not_repeated() -> Result<()> {
    let (stage, proxy) = behind_a_proxy().await?;
    proxy.inject("PATCH", Fault::LoseReply);
    let undo = stage.step("web", json!({"undo": {"images": {"app": "shop/checkout:v1"}}}));
    assert_eq!(kind(&stage.run(&undo).await), "unknown");
    stage.deploy("deployments", "web", "shop/checkout:v3").await?;
    assert_refused(&stage.run(&undo).await, &["this step has written it before", "petra"]);
    // With the past unknown to the executor, it stays unknown: a person looks.
    assert_eq!(kind(&stage.recover(&undo).await), "unknown");
    assert_eq!(image(&stage.get("deployments", "web").await?), "shop/checkout:v3");
    assert_eq!(stage.written(), 1);
    Ok(())
}

#[tokio::test]
async fn without_sight_nothing_is_written() -> Result<()> {
    let (mut stage, proxy) = behind_a_proxy().await?;
    let undo = stage.step("web", json!({"undo": {"images": {"app": "shop/checkout:v1"}}}));
    for (fault, words) in [
        (Fault::Answer(503, vec![], "{}"), "HTTP 503"),
        (Fault::Answer(200, vec![], "<html>"), "no JSON"),
        (Fault::Reset, "could not look"),
    ] {
        proxy.inject("GET", fault);
        let outcome = stage.run(&undo).await;
        assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
        assert!(reason(&outcome).contains(words), "{outcome:?}");
    }
    assert_eq!(proxy.injected().len(), 3);
    // Nobody listens there any more.
    drop(proxy);
    let outcome = stage.run(&undo).await;
    assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
    stage.kubeconfig = "/nonexistent/kubeconfig".into();
    let undo = stage.step("web", json!("restart"));
    assert_refused(&stage.run(&undo).await, &["nothing was written", "/nonexistent/kubeconfig"]);
    assert_eq!(stage.answered(), [0; 0]);
    Ok(())
}
