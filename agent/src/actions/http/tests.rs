//! Targets that behave badly, and what is made of them.

use super::*;
use crate::actions::KillSwitch;
use rules::action::SecretRef;
use rules::ids::{PlanId, StepName};
use rules::units::Span;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a scripted target does after it has read the request.
#[derive(Clone, Copy)]
enum Act {
    Say(&'static str),
    /// One byte each tenth of a second, for ever.
    Drip,
    /// As much as the other side takes, for ever.
    Flood,
    /// Nothing, for ever.
    Hang,
    /// A TCP reset.
    Reset,
}

/// A target that reads one request per connection, notes it down and acts.
struct Target {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Target {
    async fn that(acts: &'static [Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(play(stream, acts, Arc::clone(&noted)));
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn spec(&self) -> HttpSpec {
        HttpSpec {
            method: "POST".into(),
            url: format!("http://{}/rollback?to=v1", self.address),
            headers: BTreeMap::from([("Content-Type".into(), "application/json".into())]),
            secret_headers: BTreeMap::new(),
            secret_prefixes: BTreeMap::new(),
            body: Some("{\"to\":\"v1\"}".into()),
            success: HttpSuccess { status: vec![200], json: BTreeMap::new() },
        }
    }

    /// Success is a status of 200 and `{"result":{"ok":true}}`.
    fn strict(&self) -> HttpSpec {
        let json = BTreeMap::from([("/result/ok".to_owned(), serde_json::Value::Bool(true))]);
        HttpSpec { success: HttpSuccess { status: vec![200], json }, ..self.spec() }
    }
}

async fn play(mut stream: TcpStream, acts: &[Act], noted: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !is_whole(&request) {
        let length = stream.read(&mut buffer).await.unwrap();
        if length == 0 {
            return;
        }
        request.extend_from_slice(&buffer[..length]);
    }
    noted.lock().unwrap().push(String::from_utf8(request).unwrap());
    for act in acts {
        // The other side may well have gone by now: that is its good right, and ends the play.
        let going_on = match act {
            Act::Say(text) => stream.write_all(text.as_bytes()).await,
            Act::Drip => loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if let Err(error) = stream.write_all(b" ").await {
                    break Err(error);
                }
            },
            Act::Flood => loop {
                if let Err(error) = stream.write_all(&[b'x'; 16 * 1024]).await {
                    break Err(error);
                }
            },
            Act::Hang => std::future::pending().await,
            Act::Reset => stream.set_zero_linger(),
        };
        if going_on.is_err() {
            return;
        }
    }
}

/// All requests of these tests have the same body.
fn is_whole(request: &[u8]) -> bool {
    request.ends_with(b"\r\n\r\n{\"to\":\"v1\"}")
}

fn context(class: EffectClass, timeout: Span, cancel: KillSwitch) -> Context {
    Context {
        plan: PlanId::new("p-1").unwrap(),
        step: StepName::new("turn").unwrap(),
        key: "p-1-key".into(),
        class,
        timeout,
        cancel,
    }
}

fn http(spec: &HttpSpec) -> Result<Http, BadAction> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Http::new(spec, &Secrets::from_variables(BTreeMap::from([("FROM".into(), "hunter2-hunter2".into())])))
}

async fn apply_as(spec: &HttpSpec, class: EffectClass, timeout: Span) -> StepOutcome {
    let (_hold, cancel) = watch::channel(false);
    let http = http(spec).unwrap_or_else(|error| panic!("{error}"));
    http.apply(&context(class, timeout, cancel)).await
}

async fn apply(spec: &HttpSpec) -> StepOutcome {
    apply_as(spec, EffectClass::OneShot, Span::from_seconds(20)).await
}

async fn inspect(spec: &HttpSpec) -> Inspected {
    let (_hold, cancel) = watch::channel(false);
    let http = http(spec).unwrap_or_else(|error| panic!("{error}"));
    http.inspect(&context(EffectClass::Lookup, Span::from_seconds(5), cancel)).await
}

/// The outcome as one word and its reason.
fn told(outcome: StepOutcome) -> (&'static str, String) {
    match outcome {
        StepOutcome::Done { output, .. } => ("done", output),
        StepOutcome::Failed { kind: FailureKind::Retryable, reason, .. } => ("retryable", reason),
        StepOutcome::Failed { kind: FailureKind::Permanent, reason, .. } => ("permanent", reason),
        StepOutcome::Unknown { reason, .. } => ("unknown", reason),
        StepOutcome::NotBegun { reason } => ("not begun", reason),
    }
}

#[tokio::test]
async fn answers_are_judged_by_the_table() {
    use Act::Say;
    let cases: [(&'static [Act], &str, &str); 20] = [
        (&[Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")], "done", "HTTP 200\nok"),
        (&[Say("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")], "unknown", "HTTP 201"),
        (
            &[Say("HTTP/1.1 301 M\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")],
            "permanent",
            "redirects are refused",
        ),
        (
            &[Say("HTTP/1.1 307 T\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")],
            "permanent",
            "redirects are refused",
        ),
        (
            &[Say("HTTP/1.1 308 P\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")],
            "permanent",
            "redirects are refused",
        ),
        (&[Say("HTTP/1.1 302 F\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")], "unknown", "HTTP 302"),
        (&[Say("HTTP/1.1 303 S\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")], "unknown", "HTTP 303"),
        (&[Say("HTTP/1.1 400 B\r\nContent-Length: 0\r\n\r\n")], "permanent", "HTTP 400"),
        (&[Say("HTTP/1.1 403 F\r\nContent-Length: 0\r\n\r\n")], "permanent", "HTTP 403"),
        (&[Say("HTTP/1.1 408 T\r\nContent-Length: 0\r\n\r\n")], "retryable", "HTTP 408"),
        (&[Say("HTTP/1.1 409 C\r\nContent-Length: 0\r\n\r\n")], "permanent", "HTTP 409"),
        (
            &[Say("HTTP/1.1 429 T\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n")],
            "retryable",
            "HTTP 429: the target did not take the request; it asks to be left alone for \"17\" (Retry-After)",
        ),
        (&[Say("HTTP/1.1 500 I\r\nContent-Length: 0\r\n\r\n")], "unknown", "HTTP 500"),
        (&[Say("HTTP/1.1 502 B\r\nContent-Length: 0\r\n\r\n")], "unknown", "HTTP 502"),
        (
            &[Say("HTTP/1.1 503 S\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n")],
            "unknown",
            "for \"9\" (Retry-After)",
        ),
        (&[Say("HTTP/1.1 504 G\r\nContent-Length: 0\r\n\r\n")], "unknown", "HTTP 504"),
        (&[Act::Reset], "unknown", ""),
        (&[], "unknown", ""),
        (&[Say("HTTP/1.1 200 O"), Act::Reset], "unknown", ""),
        (&[Say("SSH-2.0-OpenSSH_9.2\r\n")], "unknown", ""),
    ];
    for (number, (acts, kind, words)) in cases.into_iter().enumerate() {
        let target = Target::that(acts).await;
        let (found, reason) = told(apply(&target.spec()).await);
        assert_eq!(found, kind, "case {number}: {reason}");
        assert!(reason.contains(words), "case {number}: {reason:?} does not say {words:?}");
        // Sent once, whatever came back: neither redirects nor failures make the client send again.
        assert_eq!(target.requests().len(), 1, "case {number}");
    }
}

#[tokio::test]
async fn a_success_must_be_the_declared_one() {
    use Act::Say;
    let cases: [(&'static [Act], &str, &str); 8] = [
        (
            &[Say("HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"result\":{\"ok\":true}}")],
            "done",
            "HTTP 200",
        ),
        (
            &[Say("HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"result\":{\"ok\":false}}")],
            "unknown",
            "HTTP 200, and /result/ok is false in the answer and should be true",
        ),
        (
            &[Say("HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"error\":\"denied\"}")],
            "unknown",
            "/result/ok is not in the answer",
        ),
        (&[Say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")], "unknown", "not JSON"),
        (&[Say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")], "unknown", "not JSON"),
        (
            &[Say("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"result\":"), Act::Reset],
            "unknown",
            "not whole",
        ),
        (&[Say("HTTP/1.1 200 OK\r\n\r\n"), Act::Flood], "unknown", "longer than 64 KiB"),
        (
            &[Say("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"), Act::Drip],
            "unknown",
            "did not come in time",
        ),
    ];
    for (number, (acts, kind, words)) in cases.into_iter().enumerate() {
        let target = Target::that(acts).await;
        let began = Instant::now();
        let (found, reason) =
            told(apply_as(&target.strict(), EffectClass::OneShot, Span::from_seconds(5)).await);
        assert_eq!(found, kind, "case {number}: {reason}");
        assert!(reason.contains(words), "case {number}: {reason:?} does not say {words:?}");
        assert!(began.elapsed() < Duration::from_secs(15), "case {number}");
    }
}

#[tokio::test]
async fn a_body_that_decides_nothing_does_not_hold_a_declared_status_up() {
    use Act::Say;
    let cases: [(&'static [Act], &str); 3] = [
        (
            &[Say("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nso far"), Act::Drip],
            "(cut: the rest did not come in time)",
        ),
        (&[Say("HTTP/1.1 200 OK\r\n\r\n"), Act::Flood], "(cut: it is longer than 64 KiB)"),
        (&[Say("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nso far"), Act::Reset], "(cut: "),
    ];
    for (number, (acts, words)) in cases.into_iter().enumerate() {
        let target = Target::that(acts).await;
        let began = Instant::now();
        let (kind, output) = told(apply(&target.spec()).await);
        assert_eq!(kind, "done", "case {number}: {output}");
        assert!(output.contains(words), "case {number}: {output:?}");
        assert!(output.len() < LONGEST_BODY + 200);
        assert!(began.elapsed() < BODY_FOR_PEOPLE + Duration::from_secs(10), "case {number}");
    }
}

#[tokio::test]
async fn no_answer_in_time_is_unknown() {
    let target = Target::that(&[Act::Hang]).await;
    let outcome = apply_as(&target.spec(), EffectClass::OneShot, Span::from_seconds(3)).await;
    assert_eq!(told(outcome), ("unknown", "no answer came within 3s".into()));
}

#[tokio::test]
async fn the_kill_switch_lets_go() {
    let target = Target::that(&[Act::Hang]).await;
    let (switch, cancel) = watch::channel(false);
    let http = http(&target.spec()).ok().unwrap();
    let running = tokio::spawn(async move {
        http.apply(&context(EffectClass::OneShot, Span::from_seconds(60), cancel)).await
    });
    while target.requests().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let began = Instant::now();
    switch.send(true).unwrap();
    assert_eq!(told(running.await.unwrap()).0, "unknown");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_was_never_sent_has_certainly_not_happened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target { address: listener.local_addr().unwrap(), requests: Arc::default() };
    drop(listener);
    let (kind, reason) = told(apply(&target.spec()).await);
    assert_eq!(kind, "retryable", "{reason}");
    assert!(reason.contains("nothing was sent") && reason.contains("refused"), "{reason}");

    // No TLS is spoken there: the handshake fails before the request is sent.
    let plain = Target::that(&[Act::Hang]).await;
    let spec = HttpSpec { url: format!("https://{}/", closing_server().await), ..plain.spec() };
    let (kind, reason) = told(apply(&spec).await);
    assert_eq!(kind, "retryable", "{reason}");

    let nowhere = HttpSpec { url: "http://no-such-host.invalid/".into(), ..plain.spec() };
    let (kind, reason) = told(apply(&nowhere).await);
    assert_eq!(kind, "retryable", "{reason}");
}

/// Says something that is not TLS and closes.
async fn closing_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut hello = [0; 16];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    address
}

#[tokio::test]
async fn the_request_is_exactly_the_configured_one() {
    let target = Target::that(&[Act::Say(
        "HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\nyour token is hunter2-hunter2 !",
    )])
    .await;
    let mut spec = target.spec();
    spec.secret_headers.insert("Authorization".into(), SecretRef::Env("FROM".into()));
    let (kind, output) = told(apply(&spec).await);
    assert_eq!((kind, output.as_str()), ("done", "HTTP 200\nyour token is [secret] !"));
    let request = target.requests().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "{\"to\":\"v1\"}");
    let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "POST /rollback?to=v1 HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept: */*".to_owned(),
            "authorization: hunter2-hunter2".to_owned(),
            "content-length: 11".to_owned(),
            "content-type: application/json".to_owned(),
            format!("host: {}", target.address),
            format!("user-agent: turnback/{}", env!("CARGO_PKG_VERSION")),
        ]
    );
}

#[tokio::test]
async fn keyed_requests_carry_the_same_key_each_time_and_others_none() {
    let target = Target::that(&[Act::Say("HTTP/1.1 409 C\r\nContent-Length: 0\r\n\r\n")]).await;
    for _ in 0..3 {
        let (kind, reason) = told(apply_as(&target.spec(), EffectClass::Keyed, Span::from_seconds(5)).await);
        // An earlier request with this key may still be at work.
        assert_eq!(kind, "unknown", "{reason}");
    }
    assert!(target.requests().iter().all(|request| request.contains("\r\nidempotency-key: p-1-key\r\n")));
    assert_eq!(told(apply(&target.spec()).await).0, "permanent");
    let mut own = target.spec();
    own.headers.insert("Idempotency-Key".into(), "ours-p-1".into());
    apply_as(&own, EffectClass::Keyed, Span::from_seconds(5)).await;
    let requests = target.requests();
    assert!(!requests[3].contains("idempotency-key"), "{}", requests[3]);
    assert!(requests[4].contains("\r\nidempotency-key: ours-p-1\r\n"), "{}", requests[4]);
}

#[tokio::test]
async fn looking_tells_there_from_missing_from_unclear() {
    use Act::Say;
    let cases: [(&'static [Act], &str); 12] = [
        (&[Say("HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"result\":{\"ok\":true}}")], "present"),
        (&[Say("HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n{\"result\":{\"ok\":false}}")], "missing"),
        (&[Say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")], "missing"),
        (&[Say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")], "unclear"),
        (&[Say("HTTP/1.1 404 N\r\nContent-Length: 0\r\n\r\n")], "missing"),
        (&[Say("HTTP/1.1 204 N\r\n\r\n")], "missing"),
        (&[Say("HTTP/1.1 401 U\r\nContent-Length: 0\r\n\r\n")], "unclear"),
        (&[Say("HTTP/1.1 302 F\r\nContent-Length: 0\r\n\r\n")], "unclear"),
        (&[Say("HTTP/1.1 429 T\r\nContent-Length: 0\r\n\r\n")], "unclear"),
        (&[Say("HTTP/1.1 503 S\r\nContent-Length: 0\r\n\r\n")], "unclear"),
        (&[Act::Reset], "unclear"),
        (&[Act::Hang], "unclear"),
    ];
    for (number, (acts, expected)) in cases.into_iter().enumerate() {
        let target = Target::that(acts).await;
        let inspected = inspect(&target.strict()).await;
        let found = match &inspected {
            Inspected::Present => "present",
            Inspected::Missing => "missing",
            Inspected::Unclear { .. } => "unclear",
        };
        assert_eq!(found, expected, "case {number}: {inspected:?}");
    }
}

#[tokio::test]
async fn a_name_that_leads_to_a_metadata_service_is_refused() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let secrets = Secrets::from_variables(BTreeMap::new());
    let target = Target::that(&[Act::Hang]).await;
    let spec = HttpSpec { url: "http://deployer.internal/".into(), ..target.spec() };
    // One good address beside the bad one does not help.
    let rebinding: Lookup = |_| {
        Box::pin(async { Ok(vec!["127.0.0.1:0".parse().unwrap(), "169.254.169.254:0".parse().unwrap()]) })
    };
    let (_hold, cancel) = watch::channel(false);
    let context = context(EffectClass::OneShot, Span::from_seconds(5), cancel);
    let http = Http::with_lookup(&spec, &secrets, rebinding).ok().unwrap();
    let (kind, reason) = told(http.apply(&context).await);
    assert_eq!(kind, "permanent", "{reason}");
    assert!(reason.starts_with("nothing was sent: deployer.internal leads to 169.254.169.254"), "{reason}");
}

#[tokio::test]
async fn the_connection_goes_to_the_address_that_was_checked() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let target = Target::that(&[Act::Say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")]).await;
    let secrets = Secrets::from_variables(BTreeMap::new());
    let spec =
        HttpSpec { url: format!("http://deployer.internal:{}/", target.address.port()), ..target.spec() };
    let here: Lookup = |_| Box::pin(async { Ok(vec!["127.0.0.1:0".parse().unwrap()]) });
    let (_hold, cancel) = watch::channel(false);
    let context = context(EffectClass::OneShot, Span::from_seconds(5), cancel);
    let http = Http::with_lookup(&spec, &secrets, here).ok().unwrap();
    assert_eq!(told(http.apply(&context).await).0, "done");
    assert!(target.requests()[0].contains("host: deployer.internal:"));
}

#[tokio::test]
async fn senseless_specifications_are_refused_before_anything_is_sent() {
    let target = Target::that(&[Act::Hang]).await;
    let with = |change: &dyn Fn(&mut HttpSpec)| {
        let mut spec = target.spec();
        change(&mut spec);
        crate::actions::chain(&http(&spec).err().unwrap())
    };
    let cases = [
        (with(&|spec| spec.url = "ftp://a.example/".into()), "http.url has the scheme ftp"),
        (with(&|spec| spec.url = "no address".into()), "is not an address"),
        (with(&|spec| spec.url = "http://user:pass@a.example/".into()), "credentials"),
        (
            with(&|spec| spec.url = "http://169.254.169.254/x".into()),
            "http.url is refused: 169.254.169.254 leads to",
        ),
        (with(&|spec| spec.method = "A B".into()), "http.method \"A B\" is not a method"),
        (with(&|spec| drop(spec.headers.insert("X-A".into(), "a\r\nX-B: c".into()))), "http.headers.X-A"),
        (with(&|spec| drop(spec.headers.insert("X A".into(), "a".into()))), "is not the name of a header"),
        (
            with(&|spec| {
                drop(spec.secret_headers.insert("Authorization".into(), SecretRef::File("/not/there".into())))
            }),
            "http.secret_headers.Authorization cannot be filled in: cannot read the secret in the file /not/there: No such",
        ),
    ];
    for (error, words) in cases {
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    }
    assert!(target.requests().is_empty());
}
