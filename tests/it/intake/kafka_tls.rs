//! Kafka behind TLS, with certificates on both sides and SCRAM: `make test-kafka-tls`, for it needs a build with OpenSSL.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::daemon::Daemon;
use tests::kafka::{Kafka, Secure, Setup};

use super::{deployment, until_standing};

const PASSWORD: &str = "a-password-for-scram";

/// Certificates of one authority.
struct Authority {
    folder: PathBuf,
}

impl Authority {
    fn found(folder: &Path, name: &str) -> Result<Authority> {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        openssl(
            &folder,
            &[
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
                "-days", "2",
            ],
            &["-subj", &format!("/CN={name}")],
        )?;
        Ok(Authority { folder })
    }

    fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `NAME.pem`, `NAME.key`, and both in `NAME.both.pem`: for whoever answers at this address.
    fn certify(&self, name: &str, address: &str) -> Result<()> {
        let (key, request, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        openssl(
            &self.folder,
            &["req", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &request],
            &["-subj", &format!("/CN={name}")],
        )?;
        std::fs::write(self.file("names"), format!("subjectAltName=IP:{address}\n"))?;
        openssl(
            &self.folder,
            &["x509", "-req", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"],
            &["-out", &pem, "-days", "2", "-extfile", "names"],
        )?;
        let both = [std::fs::read(self.file(&pem))?, std::fs::read(self.file(&key))?].concat();
        std::fs::write(self.file(&format!("{name}.both.pem")), both)
            .context("writing a certificate with its key")
    }
}

fn openssl(folder: &Path, what: &[&str], more: &[&str]) -> Result<()> {
    let made =
        Command::new("openssl").current_dir(folder).args(what).args(more).output().context("openssl")?;
    ensure!(made.status.success(), "openssl {what:?}: {}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

struct Door<'a> {
    ca: &'a Path,
    certificate: Option<(&'a Path, &'a Path)>,
    password: &'a Path,
    mechanism: &'a str,
}

fn config(address: &str, door: &Door<'_>) -> String {
    let own = door.certificate.map_or_else(String::new, |(certificate, key)| {
        format!(", certificate: {}, key: {}", certificate.display(), key.display())
    });
    format!(
        "events:\n  kafka:\n    bus:\n      connection:\n        brokers: [\"{address}\"]\n        \
         tls: {{ ca: {}{own} }}\n        \
         sasl: {{ mechanism: {}, username: turnback, password: {{ file: {} }} }}\n      \
         topics: [deployments]\n      instance: agent-1\n      services: [checkout]\nservices: {{ checkout: {{}} }}\n",
        door.ca.display(),
        door.mechanism,
        door.password.display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_right_broker_is_heard_and_only_with_the_right_proof() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ours = Authority::found(folder.path(), "ours")?;
    let theirs = Authority::found(folder.path(), "theirs")?;
    ours.certify("broker", "127.0.0.1")?;
    ours.certify("elsewhere", "192.0.2.1")?;
    ours.certify("agent", "127.0.0.1")?;
    let secure = Secure {
        certificate: ours.file("broker.both.pem"),
        trusted: ours.ca(),
        password: PASSWORD.to_owned(),
    };
    let broker = Kafka::start_with(&Setup { secure: Some(secure.clone()), ..Setup::default() }).await?;
    broker.topic("deployments", 2).await?;
    let news = deployment("checkout", "v1").into_bytes();
    broker.send("deployments", &[("checkout".to_owned(), news)]).await?;

    let (good, bad) = (folder.path().join("good"), folder.path().join("bad"));
    std::fs::write(&good, PASSWORD)?;
    std::fs::write(&bad, "another-password")?;
    let (ca, wrong_ca) = (ours.ca(), theirs.ca());
    let (certificate, key) = (ours.file("agent.pem"), ours.file("agent.key"));
    let right = || Door {
        ca: &ca,
        certificate: Some((&certificate, &key)),
        password: &good,
        mechanism: "scram_sha512",
    };
    let refused = [
        ("somebody else's certificate", Door { ca: &wrong_ca, ..right() }, "certificate verify failed"),
        ("no certificate of our own", Door { certificate: None, ..right() }, "ssl"),
        ("another password", Door { password: &bad, ..right() }, "authentication"),
        ("another mechanism", Door { mechanism: "scram_sha256", ..right() }, "authentication"),
    ];
    for (what, door, words) in refused {
        let daemon = Daemon::start(&config(&broker.secure_address(), &door)).await?;
        let down = until_standing(&daemon, what, |standing| {
            standing["connected"] == false
                && standing["last_error"].to_string().to_lowercase().contains(words)
        })
        .await?;
        println!("{what}: {}", down["last_error"]);
        ensure!(down["recorded"] == 0 && !down.to_string().contains("password-for-scram"), "{down}");
    }
    let daemon = Daemon::start(&config(&broker.secure_address(), &right())).await?;
    until_standing(&daemon, "the news", |standing| {
        standing["connected"] == true && standing["recorded"] == 1 && standing["last_error"].is_null()
    })
    .await?;

    // A certificate of the right authority for another address: somebody in between.
    let secure = Secure { certificate: ours.file("elsewhere.both.pem"), ..secure };
    let other = Kafka::start_with(&Setup { secure: Some(secure), ..Setup::default() }).await?;
    let daemon = Daemon::start(&config(&other.secure_address(), &right())).await?;
    let down = until_standing(&daemon, "another address", |standing| {
        standing["connected"] == false
            && standing["last_error"].to_string().to_lowercase().contains("certificate verify failed")
    })
    .await?;
    println!("another address: {}", down["last_error"]);
    Ok(())
}
