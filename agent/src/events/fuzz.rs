//! Bytes, JSON of any shape and damaged samples: never a panic, always a 4xx with words or a message that was understood.

use super::samples::*;
use super::*;
use proptest::prelude::*;
use serde_json::json;

/// JSON of any shape, with the keys that matter.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("1.0")),
        Just(json!(NOW)),
        Just(json!("dev.cdevents.service.deployed.0.3.0")),
        Just(json!("firing")),
        Just(json!("4")),
    ];
    let key = prop_oneof![
        3 => proptest::sample::select(vec!["service", "version", "report", "state", "id", "at", "context", "subject",
            "content", "type", "source", "timestamp", "specversion", "data", "data_base64", "alerts", "labels",
            "status", "startsAt", "alertname", "environment", "artifactId", "outcome"]).prop_map(str::to_owned),
        1 => ".{0,6}",
    ];
    leaf.prop_recursive(5, 48, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..9)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn throw(body: &[u8]) {
    for media in ["application/json", "application/cloudevents+json", "application/cloudevents-batch+json"] {
        if let Err(refused) = parse_events(&source(), &headers(&[("content-type", media)]), body, now()) {
            assert!((400..500).contains(&refused.status) && !refused.reason.is_empty(), "{refused:?}");
        }
    }
    if let Err(refused) = parse_alerts(&source(), body, now()) {
        assert!((400..500).contains(&refused.status) && !refused.reason.is_empty(), "{refused:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        throw(&body);
    }

    #[test]
    fn arbitrary_json_never_panics(value in any_json()) {
        throw(value.to_string().as_bytes());
    }

    #[test]
    fn damaged_samples_never_panic(which in 0..4_usize, position in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let sample = match which {
            0 => cdevent_04("service.deployed", "service", released()),
            1 => wrapped(&cdevent_05("service.deployed", released())),
            2 => alerts(),
            _ => json!({"service": "a", "version": "1", "at": NOW, "sequence": 1}),
        };
        let mut body = sample.to_string().into_bytes();
        let position = position.index(body.len());
        body[position] = byte;
        throw(&body);
        throw(&body[..position]);
    }
}
