//! A real Apache Kafka broker: one node that is its own controller, on our own ports.
//!
//! What it acknowledged is kept over `kill -9` of the broker: it goes to the page cache, and the machine stays up.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::OwnedMessage;
use rdkafka::producer::{FutureProducer, FutureRecord};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::process::Process;
use crate::{ports, tools, wait};

/// From start to answering: two seconds on an idle machine, and Java is slow to wake on a busy one. One that ends is not
/// waited for.
const START_LIMIT: Duration = Duration::from_secs(180);
/// How many brokers wake at once: each has some seconds of work on a core of its own, and six on two cores are slower than
/// three pairs.
static WAKING: Semaphore = Semaphore::const_new(2);
/// Another program may take a port between our asking and the server's binding it.
const ATTEMPTS: usize = 3;
/// For one request to a broker that is well.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// Any identifier of a cluster will do.
const CLUSTER: &str = "dHVybmJhY2stdGVzdHMtMQ";

/// How `turnback` proves who it is at the door with TLS.
const SCRAM: &str = "SCRAM-SHA-512";

/// How a broker is set up.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The port that clients are told to use, for a network before it.
    pub advertised: Option<u16>,
    /// Clients must say who they are: `turnback`, with this password, by SASL/PLAIN.
    pub password: Option<String>,
    /// A second door with TLS, for those who show a certificate and say by SCRAM-SHA-512 who they are.
    pub secure: Option<Secure>,
}

/// The second door.
#[derive(Debug, Clone)]
pub struct Secure {
    /// Its certificate and key in one PEM file.
    pub certificate: PathBuf,
    /// Whose certificates it takes, as a PEM file.
    pub trusted: PathBuf,
    /// The password of `turnback`.
    pub password: String,
}

/// A running broker, killed on drop.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    port: u16,
    controller: u16,
    secure: u16,
    setup: Setup,
    // Removed after the process, which works in it.
    folder: TempDir,
}

impl Kafka {
    /// Starts a broker that lets everybody in.
    ///
    /// # Errors
    /// If it is not installed or does not start, with what it printed.
    pub async fn start() -> Result<Kafka> {
        Kafka::start_with(&Setup::default()).await
    }

    /// Starts a broker.
    ///
    /// # Errors
    /// If it is not installed or does not start, with what it printed.
    pub async fn start_with(setup: &Setup) -> Result<Kafka> {
        let mut last = anyhow!("no attempt was made");
        let _turn = WAKING.acquire().await.context("waiting for a turn to start Kafka")?;
        for _ in 0..ATTEMPTS {
            let folder = tempfile::tempdir().context("making a folder for Kafka")?;
            let (port, controller, secure) = (ports::free_port()?, ports::free_port()?, ports::free_port()?);
            configure(&folder, port, controller, secure, setup)?;
            format(&folder, setup)?;
            let process = launch(&folder)?;
            let broker = Kafka { process, port, controller, secure, setup: setup.clone(), folder };
            match broker.ready().await {
                Ok(()) => return Ok(broker),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` of the door with TLS.
    pub fn secure_address(&self) -> String {
        format!("127.0.0.1:{}", self.secure)
    }

    /// The port alone, for a proxy before it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// If it ends or does not answer in time.
    pub async fn ready(&self) -> Result<()> {
        wait::until("Kafka to answer", START_LIMIT, async || {
            ensure!(!self.process.has_ended()?, "Kafka ended: {}", self.process.last_words());
            let client: AdminClient<_> = self.config().create()?;
            let asked = tokio::task::spawn_blocking(move || {
                client.inner().fetch_metadata(None, Duration::from_secs(2)).map(|found| found.brokers().len())
            });
            Ok(asked.await?.ok().filter(|brokers| *brokers > 0).map(drop))
        })
        .await
    }

    /// `kill -9`; its data stay.
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts it again on the same data and port.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill()?;
        let _turn = WAKING.acquire().await.context("waiting for a turn to start Kafka")?;
        self.process = launch(&self.folder)?;
        self.ready().await
    }

    /// The same with another password than before.
    ///
    /// # Errors
    /// If it does not come up.
    pub async fn restart_with_password(&mut self, password: &str) -> Result<()> {
        self.setup.password = Some(password.to_owned());
        configure(&self.folder, self.port, self.controller, self.secure, &self.setup)?;
        self.restart().await
    }

    /// `SIGSTOP` and `SIGCONT`.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Makes a topic.
    ///
    /// # Errors
    /// If the broker refuses.
    pub async fn topic(&self, name: &str, partitions: i32) -> Result<()> {
        let client: AdminClient<_> = self.config().create()?;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let options =
            AdminOptions::new().operation_timeout(Some(REQUEST_LIMIT)).request_timeout(Some(REQUEST_LIMIT));
        for made in client.create_topics([&topic], &options).await.context("making a topic")? {
            made.map_err(|(topic, code)| anyhow!("making the topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Gives a topic more partitions.
    ///
    /// # Errors
    /// If the broker refuses.
    pub async fn grow(&self, topic: &str, partitions: usize) -> Result<()> {
        let client: AdminClient<_> = self.config().create()?;
        let options =
            AdminOptions::new().operation_timeout(Some(REQUEST_LIMIT)).request_timeout(Some(REQUEST_LIMIT));
        for grown in client.create_partitions([&NewPartitions::new(topic, partitions)], &options).await? {
            grown.map_err(|(topic, code)| anyhow!("growing the topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// A producer whose acknowledgement means that the broker has it.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn producer(&self) -> Result<FutureProducer> {
        let mut config = self.config();
        config.set("acks", "all").set("linger.ms", "5").set("message.timeout.ms", "60000");
        config.create().context("making a producer")
    }

    /// Sends messages in order, to the partition of their key, and waits until the broker has all of them.
    ///
    /// # Errors
    /// If one is not acknowledged.
    pub async fn send(&self, topic: &str, messages: &[(String, Vec<u8>)]) -> Result<()> {
        let producer = self.producer()?;
        for part in messages.chunks(5_000) {
            let mut sent = Vec::with_capacity(part.len());
            for (key, body) in part {
                let queued = producer.send_result(FutureRecord::to(topic).key(key).payload(body));
                sent.push(queued.map_err(|(error, _)| error).context("queueing a message")?);
            }
            for delivery in sent {
                delivery.await?.map_err(|(error, _)| error).context("sending a message")?;
            }
        }
        Ok(())
    }

    /// Reads a topic from its beginning until it holds `count` messages.
    ///
    /// # Errors
    /// If they do not come in time.
    pub async fn read(&self, topic: &str, count: usize, limit: Duration) -> Result<Vec<OwnedMessage>> {
        let mut config = self.config();
        config.set("group.id", format!("reader-of-{topic}-{count}")).set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create()?;
        consumer.subscribe(&[topic])?;
        tokio::task::spawn_blocking(move || {
            let begin = std::time::Instant::now();
            let mut found = Vec::new();
            while found.len() < count {
                ensure!(begin.elapsed() < limit, "{} of {count} messages came within {limit:?}", found.len());
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
                    found.push(message.detach());
                }
            }
            Ok(found)
        })
        .await?
    }

    /// What a group has committed of each partition of a topic, added up.
    ///
    /// # Errors
    /// If the broker does not tell.
    pub async fn committed(&self, group: &str, topic: &str, partitions: i32) -> Result<i64> {
        let mut config = self.config();
        config.set("group.id", group);
        let consumer: BaseConsumer = config.create()?;
        let mut asked = rdkafka::TopicPartitionList::new();
        asked.add_partition_range(topic, 0, partitions - 1);
        let found =
            tokio::task::spawn_blocking(move || consumer.committed_offsets(asked, REQUEST_LIMIT)).await??;
        Ok(found
            .elements()
            .iter()
            .filter_map(|one| one.offset().to_raw())
            .filter(|offset| *offset >= 0)
            .sum())
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address());
        if let Some(password) = &self.setup.password {
            config.set("security.protocol", "sasl_plaintext").set("sasl.mechanism", "PLAIN");
            config.set("sasl.username", "turnback").set("sasl.password", password);
        }
        config
    }
}

fn configure(folder: &TempDir, port: u16, controller: u16, secure: u16, setup: &Setup) -> Result<()> {
    let protocol = if setup.password.is_some() { "SASL_PLAINTEXT" } else { "PLAINTEXT" };
    let advertised = setup.advertised.unwrap_or(port);
    let (second, told) = match &setup.secure {
        Some(_) => (format!(",SECURE://127.0.0.1:{secure}"), format!(",SECURE://127.0.0.1:{secure}")),
        None => Default::default(),
    };
    let mut text = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{second}\n\
         advertised.listeners=CLIENTS://127.0.0.1:{advertised}{told}\ncontroller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=CLIENTS\n\
         listener.security.protocol.map=CLIENTS:{protocol},CONTROLLER:PLAINTEXT,SECURE:SASL_SSL\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\n",
        folder.path().join("data").display()
    );
    if let Some(password) = &setup.password {
        text += &format!(
            "sasl.enabled.mechanisms=PLAIN\nsasl.mechanism.inter.broker.protocol=PLAIN\n\
             listener.name.clients.plain.sasl.jaas.config=\
             org.apache.kafka.common.security.plain.PlainLoginModule required username=\"broker\" \
             password=\"broker-secret\" user_broker=\"broker-secret\" user_turnback=\"{password}\";\n"
        );
    }
    if let Some(Secure { certificate, trusted, .. }) = &setup.secure {
        text += &format!(
            "listener.name.secure.sasl.enabled.mechanisms={SCRAM}\n\
             listener.name.secure.scram-sha-512.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             listener.name.secure.ssl.client.auth=required\n\
             listener.name.secure.ssl.keystore.type=PEM\nlistener.name.secure.ssl.keystore.location={}\n\
             listener.name.secure.ssl.truststore.type=PEM\nlistener.name.secure.ssl.truststore.location={}\n",
            certificate.display(),
            trusted.display()
        );
    }
    std::fs::write(folder.path().join("server.properties"), text)
        .context("writing the configuration of Kafka")
}

/// Java with the jars of the cache, and no more memory than one small broker needs.
fn java(folder: &TempDir, class: &str) -> Result<Command> {
    let jars = tools::kafka()?;
    let mut command = Command::new("java");
    command
        .current_dir(folder.path())
        .args(["-Xms64m", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
        .arg(format!("{}/*", jars.display()))
        .arg(class);
    Ok(command)
}

fn format(folder: &TempDir, setup: &Setup) -> Result<()> {
    let mut command = java(folder, "kafka.tools.StorageTool")?;
    command.args(["format", "-t", CLUSTER, "-c", "server.properties"]);
    if let Some(Secure { password, .. }) = &setup.secure {
        command.args(["--add-scram", &format!("{SCRAM}=[name=turnback,password={password}]")]);
    }
    let made = command.output();
    let made =
        made.context("Java is not installed? `make setup-test` does it (`openjdk-17-jre-headless`)")?;
    ensure!(
        made.status.success(),
        "Kafka cannot format its folder: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(())
}

fn launch(folder: &TempDir) -> Result<Process> {
    let mut command = java(folder, "kafka.Kafka")?;
    command.arg("server.properties");
    Process::start(command, &folder.path().join("log"))
}
