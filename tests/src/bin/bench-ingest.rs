//! How many events a second are kept for good, over HTTP, Kafka and NATS, and what memory that takes: `make bench-ingest`.
//!
//! Each event is on disk (`synchronous=FULL`) before it is acknowledged. What `fsync` alone gives on the same disk is
//! measured beside it: more events than that a second are kept only because many share one commit.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use tests::daemon::{Daemon, TOKEN};
use tests::kafka::Kafka;
use tests::nats::Nats;
use tests::{traffic, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Events a second that are promised.
const LEAST: f64 = 2_000.0;
/// Memory that is promised, in MiB: the most that was resident at any time.
const MOST_MIB: f64 = 256.0;
/// Connections that send over HTTP, each with one event a request.
const CONNECTIONS: usize = 64;
const LIMIT: Duration = Duration::from_secs(300);

#[derive(Parser)]
struct Options {
    /// The program to measure.
    program: PathBuf,
    /// Events of each measurement.
    #[arg(long, default_value_t = 40_000)]
    events: usize,
}

struct Measured {
    what: &'static str,
    events: usize,
    seconds: f64,
    mib: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    let _already = rustls::crypto::ring::default_provider().install_default();
    let alone = fsyncs_a_second()?;
    println!(
        "fsync alone, 4 KiB each, on the disk of {}: {alone:.0} a second",
        std::env::temp_dir().display()
    );
    let measured = [
        over_http(&options).await.context("over HTTP")?,
        over_kafka(&options).await.context("over Kafka")?,
        over_nats(&options).await.context("over NATS")?,
    ];
    println!("{:<8} {:>9} {:>11} {:>14} {:>12}", "over", "events", "events/s", "times fsync", "peak MiB");
    for Measured { what, events, seconds, mib } in &measured {
        let speed = *events as f64 / seconds;
        println!("{what:<8} {events:>9} {speed:>11.0} {:>14.1} {mib:>12.0}", speed / alone);
    }
    println!("promised: {LEAST:.0} events a second over HTTP and Kafka, at most {MOST_MIB:.0} MiB");
    for Measured { what, events, seconds, mib } in &measured {
        ensure!(*events as f64 / seconds >= LEAST || *what == "NATS", "{what} is slower than promised");
        ensure!(*mib <= MOST_MIB, "{what} takes more memory than promised");
    }
    Ok(())
}

fn fsyncs_a_second() -> Result<f64> {
    let mut file = tempfile::tempfile()?;
    let (count, block) = (500, [7_u8; 4096]);
    let began = Instant::now();
    for _ in 0..count {
        file.write_all(&block)?;
        file.sync_data()?;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

async fn start(program: &Path, events: &str) -> Result<Daemon> {
    let config = format!("log: {{ level: error }}\n{events}{}", traffic::configuration());
    let mut daemon = Daemon::prepare(&config)?;
    daemon.set_program(program);
    daemon.launch(None)?;
    daemon.ready().await?;
    Ok(daemon)
}

/// The most memory that was resident since the start, in MiB.
fn peak(daemon: &Daemon) -> Result<f64> {
    let process = daemon.process().context("the agent runs")?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid()))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}

/// How many messages of a source are kept, by the agent's own count.
async fn kept(daemon: &Daemon, source: &str) -> Result<u64> {
    let ready = daemon.get("/readyz").await?;
    let standing = &ready["event_sources"][source];
    Ok(["recorded", "dead_letters"].iter().filter_map(|key| standing[key].as_u64()).sum())
}

/// Waits until all are kept, and checks against the ledger that they are.
async fn until_kept(daemon: &mut Daemon, source: &str, count: usize) -> Result<(f64, f64)> {
    let (mut began, mut before) = (None, 0);
    wait::until("all events to be kept", LIMIT, async || {
        let now = kept(daemon, source).await?;
        if now > 0 && began.is_none() {
            // From the first look that sees something; what came before it does not count.
            began = Some(Instant::now());
            before = now;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok((now as usize == count).then_some(()))
    })
    .await?;
    let seconds = began.context("nothing came")?.elapsed().as_secs_f64();
    let share = (count - before as usize) as f64 / count as f64;
    ensure!(share > 0.8, "{:.0} % were there at the first look: send more", 100.0 * (1.0 - share));
    let mib = peak(daemon)?;
    check(daemon, count).await?;
    Ok((seconds / share, mib))
}

async fn check(daemon: &mut Daemon, count: usize) -> Result<()> {
    daemon.kill()?;
    let kept = traffic::kept(&daemon.verified_records().await?)?;
    ensure!(
        kept.news.len() + kept.dead.len() == count,
        "the ledger holds {}",
        kept.news.len() + kept.dead.len()
    );
    Ok(())
}

async fn over_http(options: &Options) -> Result<Measured> {
    let mut daemon = start(&options.program, "").await?;
    let traffic = traffic::plain(options.events);
    let good: Vec<Vec<u8>> =
        traffic.messages.into_iter().map(|(_, body)| body).filter(|body| traffic::is_good(body)).collect();
    let events = good.len();
    let address = daemon.url("").trim_start_matches("http://").to_owned();
    let began = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for part in good.chunks(events.div_ceil(CONNECTIONS)) {
        senders.spawn(send(address.clone(), part.to_vec()));
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let mib = peak(&daemon)?;
    check(&mut daemon, events).await?;
    Ok(Measured { what: "HTTP", events, seconds, mib })
}

/// One request after the other on one connection, each acknowledged before the next. By hand, because a client library
/// in a debug build would take more of the two cores than the agent.
async fn send(address: String, bodies: Vec<Vec<u8>>) -> Result<()> {
    let mut stream = TcpStream::connect(&address).await?;
    stream.set_nodelay(true)?;
    let mut answer = vec![0_u8; 16 * 1024];
    for body in bodies {
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).await?;
        let mut got = 0;
        loop {
            let read = stream.read(&mut answer[got..]).await?;
            ensure!(read > 0, "the agent hung up");
            got += read;
            let text = std::str::from_utf8(&answer[..got])?;
            let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
            ensure!(head.starts_with("HTTP/1.1 202"), "not acknowledged: {text}");
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
            });
            let length: usize = length.context("an answer without a length")?.parse()?;
            if rest.len() >= length {
                break;
            }
        }
    }
    Ok(())
}

async fn over_kafka(options: &Options) -> Result<Measured> {
    let broker = Kafka::start().await?;
    let traffic = traffic::plain(options.events);
    broker.topic("deployments", 4).await?;
    broker.send("deployments", &traffic.messages).await?;
    let config = format!(
        "events:\n  kafka:\n    bus:\n      connection: {{ brokers: [\"{}\"] }}\n      topics: [deployments]\n      \
         services: [\"service-*\"]\n",
        broker.address()
    );
    let mut daemon = start(&options.program, &config).await?;
    let (seconds, mib) = until_kept(&mut daemon, "bus", traffic.messages.len()).await?;
    Ok(Measured { what: "Kafka", events: traffic.messages.len(), seconds, mib })
}

async fn over_nats(options: &Options) -> Result<Measured> {
    let server = Nats::start().await?;
    let traffic = traffic::plain(options.events);
    server.stream("DEPLOYMENTS", &["deploy.>"]).await?;
    let mut context = async_nats::jetstream::new(server.connect().await?);
    context.set_timeout(Duration::from_secs(60));
    for part in traffic.messages.chunks(500) {
        let mut acks = Vec::new();
        for (_, body) in part {
            acks.push(context.publish("deploy.all", body.clone().into()).await?);
        }
        for ack in acks {
            ack.await.map_err(|error| anyhow::anyhow!("the stream refused: {error}"))?;
        }
    }
    let config = format!(
        "events:\n  nats:\n    bus:\n      connection: {{ servers: [\"{}\"] }}\n      stream: DEPLOYMENTS\n      \
         max_tries: 1\n      services: [\"service-*\"]\n",
        server.url()
    );
    let mut daemon = start(&options.program, &config).await?;
    let (seconds, mib) = until_kept(&mut daemon, "bus", traffic.messages.len()).await?;
    if seconds <= 0.0 {
        bail!("no time passed");
    }
    Ok(Measured { what: "NATS", events: traffic.messages.len(), seconds, mib })
}
