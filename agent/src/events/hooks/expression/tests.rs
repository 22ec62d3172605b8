//! Times and texts come into shape; what cannot be bounded is refused, and what is too much is not run.

use super::*;
use serde_json::json;

fn run(source: &str, body: &Json) -> Result<Value, String> {
    let mut seen = Seen::new();
    let mut context = context();
    context.add_variable_from_value("body", seen.value(body));
    let budget = Budget::new(seen.longest);
    Expression::compile(source, &["body"])?.evaluate(&context, &budget)
}

#[test]
fn texts_and_times_are_brought_into_shape() {
    let body = json!({"url": "https://g.example/o/r/-/commit/279484c0", "ref": "a@b@c", "ms": 1_700_000_000_123_i64});
    let table = [
        ("after_last(body.url, '/')", "279484c0"),
        ("before_first(body.ref, '@')", "a"),
        ("after_last(body.ref, '|')", "a@b@c"),
        ("lower('ProDuction')", "production"),
        ("time('2021-04-28 21:50:00 +0200')", "2021-04-28T19:50:00Z"),
        ("time('2021-04-28 21:50:00 UTC')", "2021-04-28T21:50:00Z"),
        ("time('2021-04-28T21:50:00')", "2021-04-28T21:50:00Z"),
        ("time('2021-04-28T21:50:00.5+02:00')", "2021-04-28T19:50:00.5Z"),
        ("unix_ms(body.ms)", "2023-11-14T22:13:20.123Z"),
        ("body.?none.?deeper.orValue('x')", "x"),
        ("string(body.ms)", "1700000000123"),
    ];
    for (source, expected) in table {
        assert_eq!(run(source, &body).unwrap(), Value::from(expected), "{source}");
    }
    for (source, words) in [
        ("time('yesterday')", "is not a time"),
        ("unix_ms(9223372036854775807)", "is not a time"),
        ("body.none", "there is no field \"none\""),
        ("body.ms + 'x'", "nsupported"),
        ("body.ms * body.ms", "verflow"),
    ] {
        let error = run(source, &body).unwrap_err();
        assert!(error.contains(words) && error.len() < 300, "{source}: {error}");
    }
}

#[test]
fn what_cannot_be_bounded_is_refused_before_it_runs() {
    for (source, words) in [
        ("", "is empty"),
        ("bdy.x", "there is no variable `bdy`; there are body"),
        ("body.x ==", "is no expression"),
        ("body.x && exec('id')", "column 15: there is no function `exec`"),
        ("body.x.exists(a, body.y.exists(b, a == b))", "inside another one"),
        ("'a'.matches(body.pattern)", "pattern of `matches`"),
        (&"a".repeat(1_001), "at most 1000"),
        ("body.x.map(a, a + '1')[0] + a", "there is no variable `a`"),
    ] {
        let error = Expression::compile(source, &["body"]).unwrap_err();
        assert!(error.contains(words), "{source}: {error}");
    }
}

#[test]
fn a_message_may_not_cost_more_than_a_moment() {
    let body = json!({"list": vec![1; 5_000], "text": "x".repeat(10_000)});
    let mut seen = Seen::new();
    let value = seen.value(&body);
    assert_eq!((seen.longest, seen.notes.len()), (MAX_LIST, 1));
    let mut context = context();
    context.add_variable_from_value("body", value);
    let size = Expression::compile("size(body.text)", &["body"]).unwrap();
    let budget = Budget::new(seen.longest);
    assert_eq!(size.evaluate(&context, &budget).unwrap(), Value::Int(MAX_TEXT as i64));
    let runs = |source: &str| {
        let (expression, budget) =
            (Expression::compile(source, &["body"]).unwrap(), Budget::new(seen.longest));
        (0..10).filter(|_| expression.evaluate(&context, &budget).is_ok()).count()
    };
    assert!((1..3).contains(&runs("body.list.exists(x, x == 2 || string(x).matches('^2+$'))")));
    assert!((1..3).contains(&runs("body.list.map(x, x + 1)")));
    assert_eq!(runs(&format!("body.list.map(x, {})", ["body.text"; 9].join(" + "))), 0);
    assert_eq!(runs("body.list.exists(x, x == 2)"), 10);
}
