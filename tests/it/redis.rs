//! The action `redis` on a real server: queues looked at and paused, keys removed by pattern and never too many.

use anyhow::Result;
use std::time::{Duration, Instant};
use tests::redis::RedisServer;
use tests::steps::{Rig, kind, words};
use tests::wait;

fn rig(server: &RedisServer, operation: &str) -> Result<Rig> {
    rig_at(&server.url(), operation)
}

fn rig_at(url: &str, operation: &str) -> Result<Rig> {
    Rig::new(&format!("redis: {{ url: {{ env: U }}, operation: {operation} }}"), &[("U", url)])
}

async fn fill(server: &RedisServer, begin: &str, many: usize) -> Result<()> {
    let mut connection = server.connect().await?;
    for batch in (0..many).collect::<Vec<_>>().chunks(1_000) {
        let mut command = ::redis::cmd("MSET");
        for number in batch {
            command.arg(format!("{begin}{number}")).arg("x");
        }
        command.query_async::<()>(&mut connection).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_depth_of_each_kind_of_queue_is_held_against_its_bound() -> Result<()> {
    let server = RedisServer::start(&[]).await?;
    for command in [
        "RPUSH agent:pending a b c",
        "XADD events * a b",
        "ZADD later 1 a 2 b",
        "RPUSH rq:queue:default a b c",
        "RPUSH mail a",
        "RPUSH mail\u{6}\u{16}6 b c",
        "RPUSH bull:ai:wait a",
        "RPUSH bull:ai:paused b",
        "ZADD bull:ai:prioritized 1 c",
    ] {
        server.say::<::redis::Value>(command).await?;
    }
    for (queue, depth) in [
        ("list: 'agent:pending'", 3),
        ("stream: events", 1),
        ("sorted_set: later", 2),
        ("rq: default", 3),
        ("celery: mail", 3),
        ("bullmq: 'bull:ai'", 3),
        ("list: empty", 0),
    ] {
        let check = |most: i32, least: i32| {
            format!("{{ depth: {{ queue: {{ {queue} }}, at_most: {most}, at_least: {least} }} }}")
        };
        let good = rig(&server, &check(depth, depth))?.first().await;
        assert_eq!(kind(&good), "there already", "{queue}: {good:?}");
        let few = rig(&server, &check(depth + 5, depth + 1))?.first().await;
        assert_eq!(kind(&few), "failed, retryable", "{queue}: {few:?}");
        assert!(words(&few).contains(&format!("holds {depth} entries")), "{few:?}");
    }
    let wrong = rig(&server, "{ depth: { queue: { stream: mail }, at_most: 9 } }")?.first().await;
    assert!(words(&wrong).contains("WRONGTYPE"), "{wrong:?}");
    Ok(())
}

#[tokio::test]
async fn workers_are_suspended_and_resumed_as_rq_itself_does_it() -> Result<()> {
    let server = RedisServer::start(&[]).await?;
    let (suspend, resume) = (rig(&server, "{ rq_suspend: { duration: 10m } }")?, rig(&server, "rq_resume")?);
    assert_eq!(kind(&resume.first().await), "there already", "nothing was suspended");
    assert_eq!(kind(&suspend.first().await), "done");
    assert_eq!(server.say::<String>("GET rq:suspended").await?, "1");
    let left: i64 = server.say("TTL rq:suspended").await?;
    assert!((590..=600).contains(&left), "{left}");
    assert_eq!(kind(&suspend.again().await), "there already");
    assert_eq!(kind(&resume.first().await), "done");
    assert!(!server.say::<bool>("EXISTS rq:suspended").await?);
    assert_eq!(kind(&rig(&server, "{ rq_suspend: {} }")?.first().await), "done");
    assert_eq!(server.say::<i64>("TTL rq:suspended").await?, -1, "until it is resumed");
    Ok(())
}

#[tokio::test]
async fn keys_go_by_pattern_all_or_none() -> Result<()> {
    let server = RedisServer::start(&[]).await?;
    fill(&server, "page:shop/checkout:", 2_500).await?;
    fill(&server, "page:shop/other:", 10).await?;
    server.say::<()>("SET page: keep").await?;
    let delete =
        |most: u32| format!("{{ delete_pattern: {{ pattern: 'page:{{{{service}}}}:*', at_most: {most} }} }}");
    let outcome = rig(&server, &delete(2_499))?.first().await;
    assert_eq!(kind(&outcome), "failed, permanent", "{outcome:?}");
    assert!(words(&outcome).contains("none was removed"), "{outcome:?}");
    assert_eq!(server.say::<i64>("DBSIZE").await?, 2_511);
    let exact = rig(&server, &delete(2_500))?;
    let outcome = exact.first().await;
    assert_eq!(kind(&outcome), "done", "{outcome:?}");
    assert!(words(&outcome).contains("2500 were removed"), "{outcome:?}");
    assert_eq!(server.say::<i64>("DBSIZE").await?, 11);
    assert_eq!(kind(&exact.again().await), "there already");

    // A value from outside is no pattern, whatever it holds.
    let mut rig = rig(&server, &delete(100))?;
    let rules::action::ActionSpec::Redis(spec) = &mut rig.step.action else { panic!("not redis") };
    let values = rules::runbook::Values::default().with("service", "*");
    let rules::action::ActionSpec::Redis(written) =
        serde_saphyr::from_str(&format!("redis: {{ url: {{ env: U }}, operation: {} }}", delete(100)))?
    else {
        panic!("not redis")
    };
    *spec = written.filled(&values)?;
    assert_eq!(kind(&rig.first().await), "there already", "no key begins with page:*");
    assert_eq!(server.say::<i64>("DBSIZE").await?, 11);

    for pattern in ["*", "", "a*", "?age:*", "[p]age:*"] {
        let operation = format!("{{ delete_pattern: {{ pattern: '{pattern}', at_most: 100 }} }}");
        assert!(rig_at("redis://x", &operation).is_err(), "{pattern:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_key_is_set_and_removed_and_looked_for() -> Result<()> {
    let server = RedisServer::start(&[]).await?;
    let set = rig(&server, "{ set: { key: 'flags:{{service}}', value: 'off\r\nFLUSHALL', expire: 60s } }")?;
    assert_eq!(kind(&set.first().await), "done");
    let value: String = server.say("GET flags:shop/checkout").await?;
    assert!(value.starts_with("off"), "{value:?}");
    assert_eq!(kind(&set.again().await), "there already");
    let delete = rig(&server, "{ delete: { key: 'flags:{{service}}' } }")?;
    assert_eq!(kind(&delete.first().await), "done");
    assert_eq!(kind(&delete.again().await), "there already");
    Ok(())
}

#[tokio::test]
async fn a_change_without_an_answer_is_unknown_and_done_once_looked_for() -> Result<()> {
    let server = RedisServer::start(&[]).await?;
    let rig = rig(&server, "{ rq_suspend: {} }")?;
    // The server takes the change and does not answer until it is told to.
    server.say::<()>("CLIENT PAUSE 120000 WRITE").await?;
    let pull = async {
        let held = wait::until("the change to be held", Duration::from_secs(30), async || {
            let blocked: String = server.say("INFO clients").await?;
            Ok(blocked.contains("blocked_clients:1").then_some(()))
        });
        let held = held.await;
        rig.switch.send_replace(true);
        (held, Instant::now())
    };
    let (outcome, (held, pulled)) = tokio::join!(rig.first(), pull);
    let took = pulled.elapsed();
    held?;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(kind(&outcome), "unknown", "{outcome:?}");
    server.say::<()>("CLIENT UNPAUSE").await?;
    rig.switch.send_replace(false);
    let outcome = rig.again().await;
    assert!(matches!(kind(&outcome), "done" | "there already"), "{outcome:?}");
    assert!(server.say::<bool>("EXISTS rq:suspended").await?);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_asked_or_is_only_a_part_is_said_so() -> Result<()> {
    let cluster = RedisServer::start(&["--cluster-enabled", "yes"]).await?;
    let delete = "{ delete_pattern: { pattern: 'page:*', at_most: 100 } }";
    let outcome = rig(&cluster, delete)?.first().await;
    assert!(words(&outcome).contains("one node of a cluster"), "{outcome:?}");

    let mut server = RedisServer::start(&[]).await?;
    let wrong = server.url().replace("sesame-sesame", "hunter2-hunter2");
    let outcome = rig_at(&wrong, "rq_resume")?.first().await;
    assert_eq!(kind(&outcome), "failed, retryable", "{outcome:?}");
    assert!(!words(&outcome).contains("hunter2"), "{outcome:?}");
    let outcome = rig_at("http://:hunter2-hunter2@x", "rq_resume")?.first().await;
    assert!(words(&outcome).contains("redis.url") && !words(&outcome).contains("hunter2"), "{outcome:?}");
    // A replica takes no changes: certainly refused.
    server.say::<()>("SET rq:suspended 1").await?;
    server.say::<()>("REPLICAOF 127.0.0.1 1").await?;
    let resume = rig(&server, "rq_resume")?;
    let outcome = resume.first().await;
    assert_eq!(kind(&outcome), "failed, permanent", "{outcome:?}");
    assert!(words(&outcome).contains("read only replica"), "{outcome:?}");
    server.stop()?;
    assert_eq!(kind(&resume.first().await), "failed, retryable");
    assert_eq!(kind(&resume.again().await), "unknown");
    Ok(())
}
