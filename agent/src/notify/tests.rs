//! Channels that are slow, broken and full, and what arrives all the same.

use super::*;
use crate::notify::outlet::{Outlet, ROOM};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rules::action::SecretRef;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The message that the golden tests show.
pub(super) fn message(title: &str, page: bool) -> Message {
    Message {
        kind: "rolled_back".into(),
        severity: Some("major".into()),
        title: title.into(),
        text: "errors rose from 0.1% to 7%\nplan p-1 ran".into(),
        service: Some("shop/checkout".into()),
        watch: Some("w-1".into()),
        incident: true,
        page,
        dedup_key: "w-1".into(),
        at: "2026-03-04T05:06:07Z".parse().unwrap(),
        link: Some("https://turnback.example/w-1?a=1&b=2".into()),
    }
}

/// A notifier that writes down what it was given. It fails as often as it is told to, and can be made to hang.
#[derive(Default)]
struct Spy {
    seen: Mutex<Vec<String>>,
    failures: AtomicUsize,
    refuses: bool,
    hangs: bool,
}

struct Handle(Arc<Spy>);

#[async_trait]
impl Notifier for Handle {
    async fn send(&self, message: &Message) -> Result<(), NotifyError> {
        if self.0.hangs {
            std::future::pending::<()>().await;
        }
        let left = self.0.failures.load(Ordering::SeqCst);
        if left > 0 {
            self.0.failures.store(left - 1, Ordering::SeqCst);
            let (name, reason) = ("spy".to_owned(), "told to".to_owned());
            return Err(match self.0.refuses {
                true => NotifyError::Refused { name, reason },
                false => NotifyError::Passing { name, reason },
            });
        }
        self.0.seen.lock().unwrap().push(message.title.clone());
        Ok(())
    }
    fn name(&self) -> &str {
        "spy"
    }
}

fn outlet(spy: &Arc<Spy>) -> Outlet {
    Outlet::with_pause(Box::new(Handle(Arc::clone(spy))), Duration::from_millis(1))
}

/// Lets an outlet deliver what waits and stop.
async fn drain(outlet: &Outlet) {
    let (stop, stopped) = watch::channel(false);
    let idle = async {
        while outlet.health().waiting > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.send_replace(true);
    };
    tokio::join!(outlet.deliver(stopped), idle);
}

#[tokio::test]
async fn a_full_queue_drops_other_messages_before_pages() {
    let spy = Arc::new(Spy::default());
    let outlet = outlet(&spy);
    for number in 0..ROOM {
        outlet.put(Arc::new(message(&format!("other {number}"), false)));
    }
    outlet.put(Arc::new(message("one too many", false)));
    outlet.put(Arc::new(message("page 0", true)));
    let health = outlet.health();
    assert_eq!((health.waiting, health.dropped), (ROOM, 2));
    for number in 1..ROOM + 3 {
        outlet.put(Arc::new(message(&format!("page {number}"), true)));
    }
    let health = outlet.health();
    assert_eq!((health.waiting, health.dropped), (ROOM, 2 + (ROOM as u64 - 1) + 3));
    drain(&outlet).await;
    let seen = spy.seen.lock().unwrap().clone();
    let pages: Vec<String> = (0..ROOM).map(|number| format!("page {number}")).collect();
    assert_eq!(seen, pages, "every page that there was room for, in order, and nothing else");
    assert_eq!(outlet.health().delivered, ROOM as u64);
}

#[tokio::test]
async fn pages_go_first() {
    let spy = Arc::new(Spy::default());
    let outlet = outlet(&spy);
    for (title, page) in [("a", false), ("b", true), ("c", false), ("d", true)] {
        outlet.put(Arc::new(message(title, page)));
    }
    drain(&outlet).await;
    assert_eq!(*spy.seen.lock().unwrap(), ["b", "d", "a", "c"]);
}

#[tokio::test]
async fn a_page_gets_more_rounds_than_other_messages() {
    let spy = Arc::new(Spy { failures: AtomicUsize::new(5), ..Spy::default() });
    let outlet = outlet(&spy);
    outlet.put(Arc::new(message("page", true)));
    drain(&outlet).await;
    let health = outlet.health();
    assert_eq!((health.delivered, health.failed, health.failures_in_a_row), (1, 0, 0));
    assert_eq!((health.last_error, health.last_delivered), (None, Some(message("", true).at)));

    spy.failures.store(100, Ordering::SeqCst);
    outlet.put(Arc::new(message("page", true)));
    outlet.put(Arc::new(message("other", false)));
    drain(&outlet).await;
    assert_eq!(spy.failures.load(Ordering::SeqCst), 100 - 6 - 1);
    let health = outlet.health();
    assert_eq!((health.delivered, health.failed, health.failures_in_a_row), (1, 2, 7));
    assert_eq!(health.last_error.as_deref(), Some("could not deliver to spy for now: told to"));
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let spy = Arc::new(Spy { failures: AtomicUsize::new(1), refuses: true, ..Spy::default() });
    let outlet = outlet(&spy);
    outlet.put(Arc::new(message("page", true)));
    outlet.put(Arc::new(message("next", true)));
    drain(&outlet).await;
    assert_eq!(*spy.seen.lock().unwrap(), ["next"]);
    assert_eq!(outlet.health().failed, 1);
}

#[tokio::test]
async fn a_channel_that_hangs_holds_neither_the_caller_nor_the_others_up() {
    let hanging = Arc::new(Spy { hangs: true, ..Spy::default() });
    let working = Arc::new(Spy::default());
    let (notifiers, delivery) =
        Notifiers::new(vec![Box::new(Handle(Arc::clone(&hanging))), Box::new(Handle(Arc::clone(&working)))]);
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(delivery.run(stopped));
    let began = std::time::Instant::now();
    for number in 0..50 {
        notifiers.send(message(&number.to_string(), number % 2 == 0));
    }
    assert!(began.elapsed() < Duration::from_millis(200));
    while working.seen.lock().unwrap().len() < 50 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(notifiers.any_works());
    // Told to stop, the message that is under way goes back into the queue and gets its last ten seconds.
    stop.send_replace(true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!running.is_finished());
    running.await.unwrap();
    let health = &notifiers.health()[0];
    assert_eq!(health.delivered, 0);
    assert!(
        health.waiting + health.failed as usize == 50,
        "nothing is lost without being counted: {health:?}"
    );
}

#[tokio::test]
async fn what_is_sent_is_bounded() {
    let spy = Arc::new(Spy::default());
    let (notifiers, delivery) = Notifiers::new(vec![Box::new(Handle(Arc::clone(&spy)))]);
    notifiers.send(message(&"x\u{7}".repeat(1_000_000), false));
    let (stop, stopped) = watch::channel(true);
    delivery.run(stopped).await;
    drop(stop);
    let title = spy.seen.lock().unwrap().remove(0);
    assert_eq!(title.chars().count(), LONGEST_TITLE);
    assert!(!title.contains('\u{7}') && title.ends_with('…'));
}

#[tokio::test]
async fn without_channels_nobody_can_be_told() {
    let (notifiers, delivery) = Notifiers::new(Vec::new());
    notifiers.send(message("into the void", true));
    assert!(!notifiers.any_works());
    let (_hold, stopped) = watch::channel(false);
    delivery.run(stopped).await;
}

/// A receiver that answers with these status codes in turn (the last one for ever) and keeps what it was sent.
#[derive(Clone)]
struct Receiver {
    answers: Arc<Mutex<Vec<u16>>>,
    got: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    url: String,
}

impl Receiver {
    async fn that(answers: &[u16]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/services/T0/B0/hunter2-hunter2", listener.local_addr().unwrap());
        let receiver = Self { answers: Arc::new(Mutex::new(answers.to_vec())), got: Arc::default(), url };
        let router = axum::Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    fn got(&self) -> Vec<(HeaderMap, String)> {
        self.got.lock().unwrap().clone()
    }

    fn secrets(&self, more: &[(&str, &str)]) -> Secrets {
        let mut variables = BTreeMap::from([("URL".to_owned(), self.url.clone())]);
        variables.extend(more.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        Secrets::from_variables(variables)
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> (StatusCode, String) {
    receiver.got.lock().unwrap().push((headers, body));
    let mut answers = receiver.answers.lock().unwrap();
    let status = if answers.len() > 1 { answers.remove(0) } else { answers[0] };
    (StatusCode::from_u16(status).unwrap(), format!("no_service at {}", receiver.url))
}

fn now() -> Timestamp {
    "2026-03-04T05:06:10Z".parse().unwrap()
}

#[tokio::test]
async fn the_webhook_carries_the_message_a_token_and_a_signature() {
    let receiver = Receiver::that(&[503, 200]).await;
    let secrets =
        receiver.secrets(&[("TOKEN", "token-token"), ("SIGN", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]);
    let config = WebhookConfig {
        url: Some(receiver.url.clone()),
        secret_url: None,
        bearer: Some(SecretRef::Env("TOKEN".into())),
        sign_with: Some(SecretRef::Env("SIGN".into())),
    };
    let webhook = Webhook::new("pager", &config, &secrets, now).unwrap_or_else(|error| panic!("{error}"));
    webhook.send(&message("turned back", true)).await.unwrap();
    let got = receiver.got();
    assert_eq!(got.len(), 2);
    let (headers, body) = &got[1];
    assert_eq!(
        body,
        "{\"kind\":\"rolled_back\",\"severity\":\"major\",\"title\":\"turned back\",\
         \"text\":\"errors rose from 0.1% to 7%\\nplan p-1 ran\",\"service\":\"shop/checkout\",\"watch\":\"w-1\",\
         \"incident\":true,\"page\":true,\"dedup_key\":\"w-1\",\"at\":\"2026-03-04T05:06:07Z\",\
         \"link\":\"https://turnback.example/w-1?a=1&b=2\"}"
    );
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["authorization"], "Bearer token-token");
    assert_eq!(headers["webhook-timestamp"], now().as_second().to_string());
    assert_eq!(headers["webhook-id"], got[0].0["webhook-id"], "the same for each attempt");
    // Computed here from the specification's words: HMAC-SHA256 over `id.timestamp.body` with the decoded secret.
    let standard = base64::engine::general_purpose::STANDARD;
    let key = standard.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
    mac.update(headers["webhook-id"].as_bytes());
    mac.update(format!(".{}.{body}", now().as_second()).as_bytes());
    let expected = format!("v1,{}", standard.encode(mac.finalize().into_bytes()));
    assert_eq!(headers["webhook-signature"], expected);
}

#[tokio::test]
async fn passing_failures_are_tried_three_times_and_refusals_once() {
    for (answers, attempts, delivered, passing) in [
        (vec![500, 429, 204], 3, true, false),
        (vec![502], 3, false, true),
        (vec![429], 3, false, true),
        (vec![404], 1, false, false),
        (vec![302], 1, false, false),
    ] {
        let receiver = Receiver::that(&answers).await;
        let config = SlackConfig { url: SecretRef::Env("URL".into()), channel: None };
        let slack =
            Slack::new("team", &config, &receiver.secrets(&[])).unwrap_or_else(|error| panic!("{error}"));
        let sent = slack.send(&message("turned back", false)).await;
        assert_eq!(receiver.got().len(), attempts, "{answers:?}");
        assert_eq!(sent.is_ok(), delivered, "{answers:?}");
        if let Err(error) = sent {
            assert_eq!(matches!(error, NotifyError::Passing { .. }), passing, "{error}");
            let text = error.to_string();
            assert!(text.contains("no_service at [secret]") && !text.contains("hunter2"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_a_passing_failure_without_its_address() {
    let mut receiver = Receiver::that(&[200]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    receiver.url = format!("http://{}/services/hunter2-hunter2", listener.local_addr().unwrap());
    drop(listener);
    let config = WebhookConfig { secret_url: Some(SecretRef::Env("URL".into())), ..WebhookConfig::default() };
    let webhook =
        Webhook::new("pager", &config, &receiver.secrets(&[]), now).unwrap_or_else(|error| panic!("{error}"));
    let error = webhook.send(&message("turned back", false)).await.unwrap_err();
    assert!(matches!(error, NotifyError::Passing { .. }));
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn configuration_errors_name_the_key() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = r#"
webhook:
  none: {}
  both: { url: "https://a.example", secret_url: { env: URL } }
  wrong: { url: "gopher://a.example" }
  prize: { url: "http://169.254.169.254/" }
  fine: { url: "https://a.example/hook" }
slack:
  team: { url: { env: "https://hooks.slack.com/services/x" } }
log:
  here: {}
"#;
    let config: NotifyConfig = serde_saphyr::from_str(text).unwrap();
    let problems = config.problems();
    let keys: Vec<&str> = problems.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(
        keys,
        ["webhook.both.url", "webhook.none.url", "webhook.prize.url", "webhook.wrong.url", "slack.team.url"]
    );
    assert!(serde_saphyr::from_str::<NotifyConfig>("slack: { a: { url: { env: X }, chanel: y } }").is_err());

    let secrets =
        Arc::new(Secrets::from_variables(BTreeMap::from([("BAD".into(), "hunter2 no address".into())])));
    for (text, expected) in [
        (
            "slack: { a: { url: { env: NOT_SET } } }",
            "slack.a.url cannot be filled in: the secret in the environment variable NOT_SET is not there; set NOT_SET for the agent",
        ),
        (
            "slack: { a: { url: { env: BAD } } }",
            "slack.a.url is not an address; it should begin with https://",
        ),
        (
            "webhook: { a: { url: 'https://a.example', sign_with: { env: NOT_SET } } }",
            "webhook.a.sign_with cannot be filled in",
        ),
    ] {
        let config: NotifyConfig = serde_saphyr::from_str(text).unwrap();
        let error = crate::actions::chain(&build(&config, &secrets, now).err().unwrap());
        assert!(error.starts_with(expected), "{error:?} is not {expected:?}");
        assert!(!error.contains("hunter2"));
    }
    let config: NotifyConfig =
        serde_saphyr::from_str("webhook: { b: { url: 'https://a.example' } }\nlog: { c: {} }").unwrap();
    let names: Vec<String> =
        build(&config, &secrets, now).ok().unwrap().iter().map(|one| one.name().to_owned()).collect();
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn texts_are_cut_and_cleaned() {
    assert_eq!(clean("a\tb\nc\u{1b}[0m\u{202e}", 100), "a b\nc\u{fffd}[0m\u{fffd}");
    assert_eq!(clean("abcdef", 4), "abc…");
    assert_eq!(clean("abcd", 4), "abcd");
}
