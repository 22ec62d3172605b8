//! Forged, altered and replayed requests: none may pass.

use super::proof::sign as sign_with;
use super::*;
use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use proptest::prelude::*;
use rules::units::Span;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const TOKEN: &str = "turnback-token-0123456789";
const BODY: &[u8] = br#"{"service":"checkout","version":"v2"}"#;
const SECONDS: i64 = 1_774_017_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn named(name: &str, credential: Credential) -> EventSourceKey {
    EventSourceKey { name: SourceName::new(name).unwrap(), credential, services: ServiceScope::all() }
}

fn sources() -> Vec<EventSourceKey> {
    vec![
        named("ci", Credential::Bearer { tokens: vec!["another-token-in-rotation".into(), TOKEN.into()] }),
        named("github", hmac("X-Hub-Signature-256", "sha256=", None)),
        named("grafana", hmac("x-grafana-alerting-signature", "", Some("x-grafana-time"))),
        named("gitlab", Credential::StandardWebhooks { secrets: vec![SECRET.to_vec()] }),
    ]
}

fn sign(secret: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>, &'static str> {
    sign_with(Algorithm::Sha256, secret, parts)
}

fn hmac(header: &str, prefix: &str, timestamp_header: Option<&str>) -> Credential {
    Credential::Hmac(HmacProof {
        secrets: vec![b"another-key-in-rotation".to_vec(), SECRET.to_vec()],
        algorithm: Algorithm::Sha256,
        header: header.into(),
        prefix: prefix.into(),
        encoding: Encoding::Hex,
        signs: timestamp_header.map_or(Signed::body(), |_| Signed::parse("{timestamp}:{body}").unwrap()),
        timestamp_header: timestamp_header.map(str::to_owned),
        tolerance: Span::from_seconds(300),
    })
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// The valid requests, one of each kind: the source's name and its headers.
fn signed(body: &[u8], seconds: i64) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let stamp = seconds.to_string();
    let mac = |parts: &[&[u8]]| sign(SECRET, parts).unwrap();
    let standard = mac(&[b"msg_2Kx", b".", stamp.as_bytes(), b".", body]);
    let standard = format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(standard));
    vec![
        ("github", vec![("x-hub-signature-256", format!("sha256={}", hex::encode(mac(&[body]))))]),
        (
            "grafana",
            vec![
                ("x-grafana-alerting-signature", hex::encode(mac(&[stamp.as_bytes(), b":", body]))),
                ("x-grafana-time", stamp.clone()),
            ],
        ),
        (
            "gitlab",
            vec![
                ("webhook-id", "msg_2Kx".into()),
                ("webhook-timestamp", stamp),
                ("webhook-signature", standard),
            ],
        ),
    ]
}

fn who(pairs: &[(&'static str, String)], body: &[u8], now: Timestamp) -> Option<String> {
    let borrowed: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
    authenticate(&sources(), &headers(&borrowed), body, now).ok().map(|key| key.name.to_string())
}

#[test]
fn every_kind_of_credential_is_recognised() {
    for (name, pairs) in signed(BODY, SECONDS) {
        assert_eq!(who(&pairs, BODY, at(SECONDS)).as_deref(), Some(name));
    }
    assert_eq!(
        who(&[("authorization", format!("bearer {TOKEN}"))], BODY, at(SECONDS)).as_deref(),
        Some("ci")
    );
}

#[test]
fn known_signatures_of_others_are_ours() {
    // The example of GitHub's documentation.
    let github = named(
        "github",
        Credential::Hmac(HmacProof {
            secrets: vec![b"It's a Secret to Everybody".to_vec()],
            algorithm: Algorithm::Sha256,
            header: "x-hub-signature-256".into(),
            prefix: "sha256=".into(),
            encoding: Encoding::Hex,
            signs: Signed::body(),
            timestamp_header: None,
            tolerance: STANDARD_TOLERANCE,
        }),
    );
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let request = headers(&[("x-hub-signature-256", signature)]);
    assert!(authenticate(&[github], &request, b"Hello, World!", at(SECONDS)).is_ok());
    // The example of the Standard Webhooks libraries.
    let secret =
        base64::engine::general_purpose::STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let standard = named("gitlab", Credential::StandardWebhooks { secrets: vec![secret] });
    let request = headers(&[
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ]);
    assert!(authenticate(&[standard], &request, br#"{"test": 2432232314}"#, at(1_614_265_330)).is_ok());
}

fn proof(header: &str) -> HmacProof {
    HmacProof {
        secrets: vec![SECRET.to_vec()],
        algorithm: Algorithm::Sha256,
        header: header.into(),
        prefix: String::new(),
        encoding: Encoding::Hex,
        signs: Signed::body(),
        timestamp_header: None,
        tolerance: STANDARD_TOLERANCE,
    }
}

#[test]
fn each_difference_between_senders_is_a_row_of_data() {
    // Made with another program: HMAC-SHA1 of the body, HMAC-SHA512 of "1774017000." and the body.
    let sha1 = named(
        "vercel",
        Credential::Hmac(HmacProof { algorithm: Algorithm::Sha1, ..proof("x-vercel-signature") }),
    );
    let request = headers(&[("x-vercel-signature", "a5a71d0ccb499c8a3e928a06e37de26781f3a0dd")]);
    assert!(sha1.recognise(&request, BODY, at(SECONDS)).is_ok());
    let sha512 = HmacProof {
        algorithm: Algorithm::Sha512,
        encoding: Encoding::Base64,
        signs: Signed::parse("{timestamp}.{body}").unwrap(),
        timestamp_header: Some("x-time".into()),
        ..proof("x-sig")
    };
    let sha512 = named("other", Credential::Hmac(sha512));
    let signature =
        "4xDbdpU6a5hW9VjDcdQSv0zh7G5tSLaAeWGYOtzi5IbtmaXM86arWoTt2UVPr2+Trhm8MowVufybP8JIShXkpg==";
    let stamp = SECONDS.to_string();
    let request = headers(&[("x-sig", signature), ("x-time", &stamp)]);
    assert!(sha512.recognise(&request, BODY, at(SECONDS)).is_ok());
    assert!(sha512.recognise(&request, BODY, at(SECONDS + 301)).is_err());
    let unpadded = headers(&[("x-sig", signature.trim_end_matches('=')), ("x-time", &stamp)]);
    assert!(sha512.recognise(&unpadded, BODY, at(SECONDS)).is_err());
    // The example of Slack's documentation.
    let slack = HmacProof {
        secrets: vec![b"8f742231b10e8888abcd99yyyzzz85a5".to_vec()],
        prefix: "v0=".into(),
        signs: Signed::parse("v0:{timestamp}:{body}").unwrap(),
        timestamp_header: Some("x-slack-request-timestamp".into()),
        ..proof("x-slack-signature")
    };
    let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
        channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https\
        %3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
        trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let request = headers(&[
        ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
        ("x-slack-request-timestamp", "1531420618"),
    ]);
    assert!(named("slack", Credential::Hmac(slack)).recognise(&request, body, at(1_531_420_618)).is_ok());
}

#[test]
fn passwords_and_tokens_are_compared_as_a_whole() {
    let basic = named(
        "am",
        Credential::Basic {
            user: "am".into(),
            passwords: vec!["old-password-0123".into(), "pass:word-0123456".into()],
        },
    );
    let pair = |text: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
    let token =
        named("gitlab", Credential::Token { header: "x-gitlab-token".into(), tokens: vec![TOKEN.into()] });
    let passes = |key: &EventSourceKey, name: &'static str, value: &str| {
        key.recognise(&headers(&[(name, value)]), BODY, at(SECONDS)).is_ok()
    };
    for (text, good) in [
        ("am:pass:word-0123456", true),
        ("am:old-password-0123", true),
        ("am:pass", false),
        ("am:", false),
        ("am", false),
        (":pass:word-0123456", false),
        ("am:pass:word-01234567", false),
        ("a:m:pass:word-0123456", false),
    ] {
        assert_eq!(passes(&basic, "authorization", &pair(text)), good, "{text}");
    }
    assert!(!passes(&basic, "authorization", "Basic !!!"));
    assert!(passes(&token, "x-gitlab-token", TOKEN));
    assert!(!passes(&token, "x-gitlab-token", &TOKEN[1..]) && !passes(&token, "x-gitlab-token", ""));
    let empty = Credential::Basic { user: "am".into(), passwords: vec![String::new()] };
    assert!(!passes(&named("am", empty), "authorization", &pair("am:")));
}

#[test]
fn what_is_signed_must_hold_the_body_once() {
    for good in ["{body}", "{timestamp}:{body}", "v0:{timestamp}:{body}", "{body}{timestamp}"] {
        assert!(Signed::parse(good).is_ok(), "{good}");
    }
    for bad in
        ["", "{timestamp}", "{body}{body}", "{timestamp}{timestamp}{body}", "{bdy}", "{body", "}{body}"]
    {
        assert!(Signed::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn no_single_bit_of_a_signed_request_may_change() {
    let mut tried = 0;
    for (name, pairs) in signed(BODY, SECONDS) {
        for bit in 0..BODY.len() * 8 {
            let mut body = BODY.to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(who(&pairs, &body, at(SECONDS)), None, "{name}: bit {bit} of the body");
            tried += 1;
        }
        for index in 0..pairs.len() {
            for bit in 0..pairs[index].1.len() * 8 {
                let mut value = pairs[index].1.clone().into_bytes();
                value[bit / 8] ^= 1 << (bit % 8);
                // What is no text or no header value cannot be sent.
                let Ok(text) = String::from_utf8(value) else { continue };
                if HeaderValue::from_str(&text).is_err() {
                    continue;
                }
                let mut changed = pairs.clone();
                changed[index].1 = text;
                assert_eq!(who(&changed, BODY, at(SECONDS)), None, "{name}: bit {bit} of {}", pairs[index].0);
                tried += 1;
            }
        }
    }
    for bit in 0..TOKEN.len() * 8 {
        let mut token = TOKEN.as_bytes().to_vec();
        token[bit / 8] ^= 1 << (bit % 8);
        let mut request = HeaderMap::new();
        let value = [b"Bearer ".as_slice(), token.as_slice()].concat();
        let Ok(value) = HeaderValue::from_bytes(&value) else { continue };
        request.insert(AUTHORIZATION, value);
        assert!(authenticate(&sources(), &request, BODY, at(SECONDS)).is_err(), "bit {bit} of the token");
        tried += 1;
    }
    assert!(tried > 2_000, "only {tried} changes were tried");
}

#[test]
fn replays_pass_only_inside_the_window() {
    for (age, passes) in
        [(0, true), (299, true), (300, true), (301, false), (-299, true), (-301, false), (86_400, false)]
    {
        for (name, pairs) in signed(BODY, SECONDS).into_iter().filter(|(name, _)| *name != "github") {
            assert_eq!(who(&pairs, BODY, at(SECONDS + age)).is_some(), passes, "{name} after {age} s");
        }
    }
}

#[test]
fn missing_doubled_and_foreign_credentials_are_refused_with_the_same_words() {
    let valid = signed(BODY, SECONDS);
    let mut refused: Vec<(String, Vec<(&'static str, String)>)> = vec![("nothing".into(), Vec::new())];
    for (name, pairs) in &valid {
        for index in 0..pairs.len() {
            let mut missing = pairs.clone();
            missing.remove(index);
            refused.push((format!("{name} without {}", pairs[index].0), missing));
            let mut doubled = pairs.clone();
            doubled.push(pairs[index].clone());
            refused.push((format!("{name} with {} twice", pairs[index].0), doubled));
        }
    }
    for authorization in
        ["Bearer", "Bearer ", "Bearer  x", "Basic dTpw", TOKEN, "Bearer turnback-token-012345678"]
    {
        refused.push((authorization.into(), vec![("authorization", authorization.into())]));
    }
    let mut wrong_algorithm = valid[2].1.clone();
    wrong_algorithm[2].1 = wrong_algorithm[2].1.replacen("v1,", "v1a,", 1);
    refused.push(("another algorithm".into(), wrong_algorithm));
    let upper = valid[0].1[0].1.to_uppercase().replace("SHA256", "sha256");
    refused.push(("upper case".into(), vec![("x-hub-signature-256", upper)]));
    for stamp in ["", "+1774017000", "1774017000.0", "99999999999999999999", "-1", "1e9", " 1774017000"] {
        let mut pairs = valid[1].1.clone();
        pairs[1].1 = stamp.into();
        refused.push((format!("timestamp {stamp:?}"), pairs));
    }
    let words = Unauthenticated { reasons: Vec::new() }.to_string();
    for (name, pairs) in refused {
        let borrowed: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let error = authenticate(&sources(), &headers(&borrowed), BODY, at(SECONDS)).expect_err(&name);
        assert_eq!(error.to_string(), words, "{name}");
        let log = error.for_the_log();
        assert!(log.contains("gitlab: ") && !log.contains(TOKEN), "{log}");
    }
    assert!(authenticate(&[], &HeaderMap::new(), BODY, at(SECONDS)).is_err());
}

#[test]
fn one_good_signature_in_a_list_is_enough_and_many_are_not_tried() {
    let (_, mut pairs) = signed(BODY, SECONDS).remove(2);
    let good = pairs[2].1.clone();
    pairs[2].1 = format!("v1a,other v1,bad {good}");
    assert_eq!(who(&pairs, BODY, at(SECONDS)).as_deref(), Some("gitlab"));
    pairs[2].1 = format!("{}{good}", "v1,bad ".repeat(8));
    assert_eq!(who(&pairs, BODY, at(SECONDS)), None);
}

#[test]
fn a_replay_under_another_name_is_the_same_news() {
    let github = hmac("x-hub-signature-256", "sha256=", None);
    let source = SourceName::new("ci").unwrap();
    let body = br#"{"service":"checkout","version":"v1"}"#;
    let read = |credential: &Credential, pairs: &[(&'static str, &str)], now: i64| {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(pairs);
        let all = headers(&all);
        let proved = credential.proved(&all, body)?;
        crate::events::parse_events(&source, &proved, body, at(now)).map(|mut news| news.remove(0).id)
    };
    let first = read(&github, &[], SECONDS).unwrap();
    // Days later, and with a header that nobody signed.
    assert_eq!(first, read(&github, &[], SECONDS + 900_000).unwrap());
    assert_eq!(first, read(&github, &[("webhook-id", "fresh")], SECONDS + 900_000).unwrap());
    // Who holds a token may call a delivery what he likes.
    let token = Credential::Bearer { tokens: vec![TOKEN.into()] };
    assert_ne!(
        read(&token, &[("webhook-id", "one")], SECONDS).unwrap(),
        read(&token, &[("webhook-id", "two")], SECONDS).unwrap()
    );
    // The attributes of a binary CloudEvent would be unsigned.
    let binary = [("ce-id", "1"), ("ce-source", "/ci"), ("ce-specversion", "1.0"), ("ce-type", "x")];
    let standard = Credential::StandardWebhooks { secrets: vec![SECRET.to_vec()] };
    for credential in [&github, &standard] {
        let refused = read(credential, &binary, SECONDS).unwrap_err();
        assert!(refused.status == 415 && refused.reason.contains("are not signed"), "{refused:?}");
    }
}

#[test]
fn empty_secrets_never_match() {
    let empty = [
        named("a", Credential::Bearer { tokens: vec![String::new()] }),
        named("b", Credential::StandardWebhooks { secrets: vec![Vec::new()] }),
    ];
    assert!(authenticate(&empty, &headers(&[("authorization", "Bearer ")]), BODY, at(SECONDS)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn random_credentials_never_pass(
        token in "[!-~]{0,40}",
        signature in "[0-9a-f]{64}",
        standard in "v1,[A-Za-z0-9+/]{43}=",
        body in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let pairs = [
            ("authorization", format!("Bearer {token}")),
            ("x-hub-signature-256", format!("sha256={signature}")),
            ("x-grafana-alerting-signature", signature),
            ("x-grafana-time", SECONDS.to_string()),
            ("webhook-id", "msg".to_owned()),
            ("webhook-timestamp", SECONDS.to_string()),
            ("webhook-signature", standard),
        ];
        prop_assert_eq!(who(&pairs, &body, at(SECONDS)), None);
    }
}
