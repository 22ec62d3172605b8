//! Every value of every recorded message replaced by what nobody expects there, and damaged bytes: never a panic, always
//! words, and nothing but identifiers gets through.

use super::*;
use proptest::prelude::*;

/// What stands where something else is expected.
fn strange() -> Vec<Value> {
    let payloads = ["", "$(id)", "../x", "a\r\nb", "--version", "\u{202E}", "' OR 1=1"];
    let texts = payloads.into_iter().map(Value::from);
    let long = [json!("x".repeat(5_000)), json!(vec![1; 2_000]), json!({"a": {"b": {}}})];
    let plain = [Value::Null, json!(true), json!(-1), json!(u64::MAX), json!(1e300)];
    texts.chain(long).chain(plain).collect()
}

fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                pointers(value, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, item)| pointers(item, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
    found.push(at.to_owned());
}

/// Reads it without its proof, and looks at what came out.
fn throw(request: &Request) -> bool {
    let heard = match request.hook.read(&request.headers, &request.body, now()) {
        Ok(heard) => heard,
        Err(refused) => {
            assert!((400..500).contains(&refused.status), "{refused:?}");
            assert!(!refused.reason.is_empty() && refused.reason.len() < 4_000, "{refused:?}");
            assert!(!refused.reason.contains(char::is_control), "{refused:?}");
            return false;
        }
    };
    for accepted in &heard.accepted {
        assert!(accepted.id.len() <= 600 && !accepted.id.contains(char::is_control), "{}", accepted.id);
        let texts = match &accepted.incoming {
            Incoming::Deploy(event) => vec![event.service.to_string(), event.release.version.to_string()],
            Incoming::Report(report) => vec![report.service.to_string(), report.what.clone()],
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._/:@+%~=-".contains(c);
        assert!(texts.iter().all(|text| text.chars().all(plain) && !text.starts_with('-')), "{texts:?}");
    }
    true
}

#[test]
fn every_value_of_every_message_may_be_anything() {
    let (mut tried, mut heard) = (0, 0);
    for (_, sender, sample, _) in samples() {
        let mut request = send(sender, sample);
        let body: Value = serde_json::from_str(sample).unwrap();
        let mut places = Vec::new();
        pointers(&body, "", &mut places);
        for place in places {
            for value in strange() {
                let mut changed = body.clone();
                *changed.pointer_mut(&place).unwrap() = value;
                request.body = changed.to_string().into_bytes();
                heard += usize::from(throw(&request));
                tried += 1;
            }
        }
    }
    assert!(tried > 5_000 && heard > 1_000, "{heard} of {tried} were heard");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_messages_never_panic(which in 0..15_usize, position in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let (_, sender, sample, _) = samples()[which];
        let mut request = send(sender, sample);
        let position = position.index(request.body.len());
        request.body[position] = byte;
        throw(&request);
        request.body.truncate(position);
        throw(&request);
    }
}
