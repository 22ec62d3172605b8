//! The same news twice: once on a quiet day, and once while the agent is killed again and again, the broker restarts, the
//! group is rebalanced, and messages come twice, out of order and broken. Both ledgers must hold the same.
//!
//! `make test` runs it with 4,000 messages; `make test-intake` with 100,000 and 20 kills for each broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tests::daemon::Daemon;
use tests::kafka::Kafka;
use tests::nats::Nats;
use tests::traffic::{self, Dice, Kept, Traffic};
use tests::wait;

const PARTITIONS: i32 = 4;
const GROUP: &str = "turnback";

/// How much happens.
#[derive(Debug, Clone, Copy)]
struct Scale {
    messages: usize,
    kills: usize,
    broker_restarts: usize,
}

const SMALL: Scale = Scale { messages: 4_000, kills: 3, broker_restarts: 1 };
const LARGE: Scale = Scale { messages: 100_000, kills: 20, broker_restarts: 3 };

/// Whoever keeps nothing more for so long, with messages left, has lost them: after a kill, a broker delivers again what
/// was under way within a minute at most. How long all of them take is the disk's affair.
const NO_PROGRESS: Duration = Duration::from_secs(90);
/// The end of any run.
const MOST: Duration = Duration::from_secs(3_600);

fn kafka_config(broker: &Kafka, topic: &str) -> String {
    format!(
        "events:\n  kafka:\n    bus:\n      connection: {{ brokers: [\"{}\"] }}\n      topics: [{topic}]\n      \
         group: {GROUP}\n      instance: agent-1\n      services: [\"service-*\"]\n{}",
        broker.address(),
        traffic::configuration()
    )
}

fn nats_config(server: &Nats, stream: &str) -> String {
    format!(
        "events:\n  nats:\n    bus:\n      connection: {{ servers: [\"{}\"] }}\n      stream: {stream}\n      \
         ack_wait: 2s\n      services: [\"service-*\"]\n{}",
        server.url(),
        traffic::configuration()
    )
}

/// Waits until the agent has answered for everything, and gives back its ledger.
async fn settled(daemon: &mut Daemon, traffic: &Traffic) -> Result<Vec<agent::ledger::Record>> {
    let all = (traffic.good.len(), traffic.poison);
    let mut newest = ((0, 0), Instant::now());
    let waited = wait::until("every message to be kept", MOST, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let ledger =
            agent::ledger::Ledger::open_read_only(&agent::app::ledger_file(&daemon.state_dir())).await?;
        let counted = count(&ledger).await?;
        ledger.close().await?;
        if counted != newest.0 {
            newest = (counted, Instant::now());
        }
        ensure!(newest.1.elapsed() < NO_PROGRESS, "nothing more was kept for {NO_PROGRESS:?}");
        Ok((counted == all).then_some(()))
    })
    .await;
    if let Err(error) = waited {
        let standing = daemon.get("/readyz").await.map(|ready| ready["event_sources"].clone());
        let records = daemon.verified_records().await?;
        let kept = traffic::kept(&records)?;
        let missing: Vec<_> = traffic.good.iter().filter(|id| !kept.news.contains_key(*id)).take(5).collect();
        return Err(error.context(format!(
            "{} of {} kept, {} of {} put aside, missing such as {missing:?}; {standing:?}",
            kept.news.len(),
            all.0,
            kept.dead.len(),
            all.1
        )));
    }
    // What comes again after that must change nothing.
    tokio::time::sleep(Duration::from_secs(3)).await;
    daemon.kill()?;
    daemon.verified_records().await
}

async fn count(ledger: &agent::ledger::Ledger) -> Result<(usize, usize)> {
    let mut counts = [0, 0];
    for (number, stream) in ["events", "dead_letters"].into_iter().enumerate() {
        let mut after = 0;
        loop {
            let part = ledger.read_stream_after(stream, after, 10_000).await?;
            let Some(last) = part.last() else { break };
            after = last.sequence;
            counts[number] += part.len();
        }
    }
    Ok((counts[0], counts[1]))
}

/// Kills the agent and starts it again, at moments that nobody chose.
async fn kill_again_and_again(daemon: &mut Daemon, kills: usize, dice: &mut Dice) -> Result<()> {
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(300 + dice.below(2_500))).await;
        daemon.kill()?;
        daemon.launch(None)?;
    }
    daemon.ready().await
}

fn compare(clean: &Kept, chaotic: &Kept, traffic: &Traffic) -> Result<()> {
    ensure!(
        clean.news == chaotic.news,
        "the ledgers differ in {} and {} messages",
        clean.news.len(),
        chaotic.news.len()
    );
    ensure!(chaotic.news.keys().eq(traffic.good.iter()), "not exactly what was sent was recorded");
    ensure!(
        chaotic.dead.len() == traffic.poison,
        "{} of {} poison put aside",
        chaotic.dead.len(),
        traffic.poison
    );
    Ok(())
}

fn tell(what: &str, scale: Scale, began: Instant, sent: &Traffic, kept: &Kept, watches: usize) {
    println!(
        "{what}: {} messages sent ({} different, {} broken), {} kills, {} restarts of the broker: {} recorded + {} put \
         aside, none twice, {watches} watches, never two of a deployment, {:.0} s",
        sent.messages.len(),
        sent.good.len(),
        sent.poison,
        scale.kills,
        scale.broker_restarts,
        kept.news.len(),
        kept.dead.len(),
        began.elapsed().as_secs_f64()
    );
}

/// Another member that joins the group, takes partitions, fetches and leaves without a word.
fn disturb(broker: &Kafka, topic: &str, stop: Arc<AtomicBool>) -> Result<std::thread::JoinHandle<usize>> {
    let mut config = rdkafka::ClientConfig::new();
    config
        .set("bootstrap.servers", broker.address())
        .set("group.id", GROUP)
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .set("auto.offset.reset", "earliest");
    let topic = topic.to_owned();
    Ok(std::thread::spawn(move || {
        let mut joined = 0;
        while !stop.load(Ordering::Relaxed) {
            let Ok(consumer) = config.create::<BaseConsumer>() else { continue };
            if consumer.subscribe(&[&topic]).is_ok() {
                joined += 1;
                for _ in 0..20 {
                    drop(consumer.poll(Duration::from_millis(100)));
                }
            }
            drop(consumer);
            std::thread::sleep(Duration::from_secs(2));
        }
        joined
    }))
}

async fn kafka(scale: Scale) -> Result<()> {
    let began = Instant::now();
    let mut broker = Kafka::start().await?;
    let plain = traffic::plain(scale.messages);
    broker.topic("quiet", PARTITIONS).await?;
    broker.send("quiet", &plain.messages).await?;
    let mut daemon = Daemon::start(&kafka_config(&broker, "quiet")).await?;
    let records = settled(&mut daemon, &plain).await?;
    let clean = traffic::kept(&records)?;
    traffic::check_watches(&records, &plain).context("on a quiet day")?;
    println!("kafka, on a quiet day: {:.0} s", began.elapsed().as_secs_f64());

    let mut dice = Dice::new(20_261_121);
    let sent = traffic::shuffled(&plain, &mut dice);
    broker.topic("storm", PARTITIONS).await?;
    let mut daemon = Daemon::start(&kafka_config(&broker, "storm")).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let disturber = disturb(&broker, "storm", Arc::clone(&stop))?;
    // Sent in parts, so that something is under way whenever something breaks.
    let parts = scale.broker_restarts + 1;
    for part in sent.messages.chunks(sent.messages.len().div_ceil(parts)) {
        broker.send("storm", part).await?;
        kill_again_and_again(&mut daemon, scale.kills / parts, &mut dice).await?;
        broker.restart().await?;
    }
    kill_again_and_again(&mut daemon, scale.kills % parts, &mut dice).await?;
    stop.store(true, Ordering::Relaxed);
    let joined = disturber.join().unwrap_or_default();
    ensure!(joined > 1, "the group was not rebalanced");
    let records = settled(&mut daemon, &sent).await?;
    let kept = traffic::kept(&records)?;
    compare(&clean, &kept, &sent)?;
    let watches = traffic::check_watches(&records, &sent)?;
    tell("kafka", scale, began, &sent, &kept, watches);
    Ok(())
}

async fn publish(server: &Nats, subject: &str, messages: &[(String, Vec<u8>)]) -> Result<()> {
    let mut context = async_nats::jetstream::new(server.connect().await?);
    // Each message is synced to disk before it is acknowledged, and each waits for all of its part.
    context.set_timeout(Duration::from_secs(60));
    for part in messages.chunks(50) {
        let mut acks = Vec::new();
        for (_, body) in part {
            acks.push(context.publish(subject.to_owned(), body.clone().into()).await.context("publishing")?);
        }
        for ack in acks {
            ack.await.context("the stream's acknowledgement")?;
        }
    }
    Ok(())
}

async fn nats(scale: Scale) -> Result<()> {
    let began = Instant::now();
    let mut server = Nats::start().await?;
    let plain = traffic::plain(scale.messages);
    server.stream("QUIET", &["quiet.>"]).await?;
    publish(&server, "quiet.all", &plain.messages).await?;
    let mut daemon = Daemon::start(&nats_config(&server, "QUIET")).await?;
    let records = settled(&mut daemon, &plain).await?;
    let clean = traffic::kept(&records)?;
    traffic::check_watches(&records, &plain).context("on a quiet day")?;
    println!("nats, on a quiet day: {:.0} s", began.elapsed().as_secs_f64());

    let mut dice = Dice::new(20_261_122);
    let sent = traffic::shuffled(&plain, &mut dice);
    server.stream("STORM", &["storm.>"]).await?;
    let mut daemon = Daemon::start(&nats_config(&server, "STORM")).await?;
    let parts = scale.broker_restarts + 1;
    for part in sent.messages.chunks(sent.messages.len().div_ceil(parts)) {
        publish(&server, "storm.all", part).await?;
        kill_again_and_again(&mut daemon, scale.kills / parts, &mut dice).await?;
        server.restart().await?;
    }
    kill_again_and_again(&mut daemon, scale.kills % parts, &mut dice).await?;
    let records = settled(&mut daemon, &sent).await?;
    let kept = traffic::kept(&records)?;
    compare(&clean, &kept, &sent)?;
    let watches = traffic::check_watches(&records, &sent)?;
    tell("nats", scale, began, &sent, &kept, watches);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_loses_nothing_and_says_nothing_twice() -> Result<()> {
    kafka(SMALL).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_loses_nothing_and_says_nothing_twice() -> Result<()> {
    nats(SMALL).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make test-intake"]
async fn a_hundred_thousand_messages_over_kafka() -> Result<()> {
    kafka(LARGE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make test-intake"]
async fn a_hundred_thousand_messages_over_nats() -> Result<()> {
    nats(LARGE).await
}
