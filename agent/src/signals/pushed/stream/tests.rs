//! What messages become, and what is said of those that become nothing.

use super::super::{Labels, PushedConfig, Value};
use super::*;
use crate::inlet::Board;
use crate::signals::SignalSource as _;
use rules::series::{Sample, Window};
use serde_json::{Value as Json, json};

const BEGAN: i64 = 1_700_000_000_000;

fn at(after: i64) -> Timestamp {
    Timestamp::from_millisecond(BEGAN + after).unwrap()
}

fn letter(body: impl Into<Vec<u8>>) -> Letter {
    let (place, topic) = ("log/0/7".into(), "log.checkout".into());
    Letter { place, topic, content_type: None, at: at(500), body: body.into() }
}

fn rules(yaml: &str) -> Vec<SampleRule> {
    serde_saphyr::from_str(yaml).unwrap()
}

fn mapped(yaml: &str, body: &Json) -> Result<Batch, String> {
    let reader = Reader::new(SampleForm::Json, &rules(yaml)).unwrap_or_else(|wrong| panic!("{wrong:?}"));
    reader.read(&letter(body.to_string())).map_err(|bad| bad.reason)
}

fn ours(body: &str) -> Result<Batch, String> {
    Reader::new(SampleForm::Json, &[]).unwrap().read(&letter(body)).map_err(|bad| bad.reason)
}

/// As Prometheus writes them: `name{labels} word value @ milliseconds`.
fn lines(batch: &Batch) -> Vec<String> {
    let line = |labels: &Labels, value: &Value| {
        let shown: Vec<String> = labels
            .iter()
            .filter(|(key, _)| *key != "__name__")
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let (word, sample) = match value {
            Value::Now(sample) => ("is", sample),
            Value::Grew(sample) => ("grew", sample),
            Value::Happened(sample) => ("happened", sample),
            Value::Histogram(_) => panic!("no native histogram"),
        };
        let after = sample.at.as_millisecond() - BEGAN;
        format!("{}{{{}}} {word} {} @ {after}", labels["__name__"], shown.join(","), sample.value)
    };
    let points =
        batch.series.iter().flat_map(|one| one.points.iter().map(|point| (&one.labels, &point.value)));
    points.map(|(labels, value)| line(labels, value)).collect()
}

#[test]
fn our_own_form_is_one_or_a_list() {
    let one = ours(r#"{"name":"queue","labels":{"pod":"a"},"value":7}"#).unwrap();
    assert_eq!(lines(&one), ["queue{pod=a} is 7 @ 500"]);
    let list = ours(
        r#"[{"name":"n","at":"2023-11-14T22:13:20.25Z","count":3},{"name":"n","count":2},
            {"name":"t","at":"2023-11-14T22:13:20Z","histogram":{"bounds":[0.1,1],"counts":[3,1,2],"sum":5.5}}]"#,
    )
    .unwrap();
    let expected = [
        "n{} grew 3 @ 250",
        "n{} happened 2 @ 500",
        "t_bucket{le=0.1} grew 3 @ 0",
        "t_bucket{le=1} grew 4 @ 0",
        "t_bucket{le=+Inf} grew 6 @ 0",
        "t_count{} grew 6 @ 0",
        "t_sum{} grew 5.5 @ 0",
    ];
    assert_eq!(lines(&list), expected);
    assert_eq!(ours("[]").unwrap(), Batch::default());
}

#[test]
fn what_is_not_our_form_is_said_with_its_place() {
    for (body, words) in [
        ("{", "JSON"),
        ("", "empty"),
        ("7", "must be an object, it is a number"),
        (r#"{"name":"n"}"#, "exactly one of value, count and histogram; it has none"),
        (r#"{"name":"n","value":1,"count":1}"#, "it has value and count"),
        (r#"{"name":"n","value":1,"unit":"s"}"#, "`unit`: is not known here"),
        (r#"{"name":"n","name":"m","value":1}"#, "stands twice"),
        (r#"{"value":1}"#, "`name`: is missing"),
        (r#"{"name":"n","value":"1"}"#, "`value`: must be a number, it is a text"),
        (r#"{"name":"n","count":-1}"#, "`count`: -1 is no number from 0 on"),
        (r#"{"name":"n","labels":{"a":1},"value":1}"#, "`labels.a`: must be a text"),
        (r#"{"name":"n","labels":{"__name__":"m"},"value":1}"#, "write `name`"),
        (r#"{"name":"n","at":"noon","value":1}"#, "`at`: \"noon\" is not a time"),
        (
            r#"{"name":"n","histogram":{"bounds":[1,1],"counts":[1,1,1],"sum":1}}"#,
            "`histogram.bounds`: must be numbers that rise",
        ),
        (
            r#"{"name":"n","histogram":{"bounds":[1],"counts":[1],"sum":1}}"#,
            "`histogram.counts`: must be 2, one for each",
        ),
        (r#"{"name":"n","histogram":{"bounds":[1],"counts":[1,-2],"sum":1}}"#, "holds -2"),
        (
            r#"{"name":"n","histogram":{"bounds":[1],"counts":[1,1]}}"#,
            "`histogram.sum`: must be a number, it is missing",
        ),
        (
            r#"{"name":"n","histogram":{"bounds":[1],"counts":[1,1],"sum":1,"max":3}}"#,
            "`histogram.max`: is not known",
        ),
    ] {
        let problem = ours(body).unwrap_err();
        assert!(problem.contains(words), "{body}: {problem}");
    }
    let mixed = ours(r#"[{"name":"n","value":1},{"name":"n"},{"name":"m","count":-1}]"#).unwrap();
    assert_eq!((lines(&mixed).len(), mixed.unusable.samples), (1, 2));
    assert!(mixed.unusable.why.unwrap().contains("`[1]`"));
    let problem = ours(&format!("[{}]", " ".repeat(json::MOST_JSON_BYTES))).unwrap_err();
    assert!(problem.contains("at most 1048576"), "{problem}");
    let endless = format!("[{}]", vec!["{\"name\":\"n\",\"value\":1}"; 40_000].join(","));
    assert_eq!(ours(&endless).unwrap().series.len(), 40_000, "within every bound");
}

#[test]
fn rules_make_samples_of_any_json_and_every_one_that_fits_counts() {
    let yaml = "
- {name: requests_total, when: body.kind == 'request', labels: {code: body.status, pod: body.?host.orValue('')}, at: unix_ms(body.ms), count: '1'}
- {name: seconds, when: has(body.took), labels: {topic: topic}, observation: body.took, bounds: [0.1, 1]}
- {name: queue, for_each: body.queues, when: item.size >= 0, labels: {queue: item.name}, value: item.size}
- {name: batch, when: has(body.counts), at: unix_ms(body.ms), histogram: {bounds: [1], counts: body.counts, sum: double(body.sum)}}
";
    let body = json!({
        "kind": "request", "status": 503, "ms": BEGAN + 40, "took": 0.1, "counts": [1, 2], "sum": "3.5",
        "queues": [{"name": "a", "size": 7}, {"name": "b", "size": -1}, {"name": "c", "size": 0.5}],
    });
    let expected = [
        "requests_total{code=503} happened 1 @ 40",
        "seconds_bucket{le=0.1,topic=log.checkout} happened 1 @ 500",
        "seconds_bucket{le=1,topic=log.checkout} happened 1 @ 500",
        "seconds_bucket{le=+Inf,topic=log.checkout} happened 1 @ 500",
        "seconds_count{topic=log.checkout} happened 1 @ 500",
        "seconds_sum{topic=log.checkout} happened 0.1 @ 500",
        "queue{queue=a} is 7 @ 500",
        "queue{queue=c} is 0.5 @ 500",
        "batch_bucket{le=1} grew 1 @ 40",
        "batch_bucket{le=+Inf} grew 3 @ 40",
        "batch_count{} grew 3 @ 40",
        "batch_sum{} grew 3.5 @ 40",
    ];
    assert_eq!(lines(&mapped(yaml, &body).unwrap()), expected);
    let nothing = json!({"kind": "other", "queues": []});
    assert_eq!(mapped(yaml, &nothing).unwrap(), Batch::default(), "no rule fits, nothing is said");
}

#[test]
fn what_a_rule_cannot_make_of_a_message_is_said_with_rule_key_and_expression() {
    for (rule, words) in [
        ("{name: n, value: body.none}", "rule for n, `value`: \"body.none\": there is no field"),
        ("{name: n, value: body.text}", "must give a number, it gives a text"),
        ("{name: n, count: body.minus}", "`count`: -1 is no number from 0 on"),
        ("{name: n, when: body.text, value: '1'}", "`when`: \"body.text\": must give true or false"),
        ("{name: n, for_each: body.text, value: '1'}", "`for_each`: \"body.text\": must give a list"),
        (
            "{name: n, labels: {a: body.list}, value: '1'}",
            "`labels.a`: \"body.list\": must give a text or a number",
        ),
        ("{name: n, at: body.text, value: '1'}", "which is not a time in RFC 3339"),
        ("{name: n, at: body.minus, value: '1'}", "must give a time as text, it gives a number"),
        ("{name: n, histogram: {bounds: [1], counts: body.list, sum: '1'}}", "must give a list of numbers"),
        ("{name: n, histogram: {bounds: [1], counts: '[1]', sum: '1'}}", "must be 2, one for each bound"),
    ] {
        let body = json!({"text": "noon", "minus": -1, "list": ["a"]});
        let problem = mapped(&format!("[{rule}]"), &body).unwrap_err();
        assert!(problem.contains(words), "{rule}: {problem}");
    }
    let both = "[{name: a, value: body.none}, {name: b, value: '2'}]";
    let batch = mapped(both, &json!({})).unwrap();
    assert_eq!((lines(&batch), batch.unusable.samples), (vec!["b{} is 2 @ 500".to_owned()], 1));
    let long = json!({"list": vec![1; 1_500]});
    let cut = mapped("[{name: n, for_each: body.list, count: item}]", &long).unwrap();
    assert!(cut.unusable.why.unwrap().contains("1500 entries; only the first 1000"), "a cut is said");
}

#[test]
fn rules_are_checked_before_anything_comes() {
    for (rule, key) in [
        ("{name: '', value: '1'}", "0.name"),
        ("{name: 9x, value: '1'}", "0.name"),
        ("{name: n}", "0"),
        ("{name: n, value: '1', count: '1'}", "0"),
        ("{name: n, value: 'body.'}", "0.value"),
        ("{name: n, value: item.x}", "0.value"),
        ("{name: n, labels: {a: headers.x}, value: '1'}", "0.labels.a"),
        ("{name: n, labels: {__name__: \"'x'\"}, value: '1'}", "0.labels.__name__"),
        ("{name: n, observation: '1'}", "0.bounds"),
        ("{name: n, observation: '1', bounds: [2, 1]}", "0.bounds"),
        ("{name: n, value: '1', bounds: [1]}", "0.bounds"),
        ("{name: n, histogram: {bounds: [], counts: body.c, sum: body.s}}", "0.histogram.bounds"),
        ("{name: n, histogram: {bounds: [1], counts: body.c}}", "0.histogram.sum"),
    ] {
        let wrong = Mapping::compile(&rules(&format!("[{rule}]"))).unwrap_err();
        assert_eq!(wrong.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), [key], "{rule}: {wrong:?}");
    }
    assert!(Mapping::compile(&vec![SampleRule::default(); 51]).unwrap_err()[0].1.contains("at most 50"));
}

fn source() -> Arc<PushedSource> {
    Arc::new(PushedSource::new("push", &PushedConfig::default(), None, clock::now).unwrap())
}

fn feed(source: &Arc<PushedSource>, tells_past: bool) -> Arc<Feed> {
    Feed::new(source, "kafka", SampleForm::Json, &[], tells_past).unwrap()
}

#[tokio::test]
async fn garbage_is_counted_explained_and_passed_over() {
    let source = source();
    let feed = feed(&source, false);
    let board = Board::default();
    let reporter = board.reporter(&feed.name, "kafka-samples", "Kafka".into());
    let good =
        |value: u64| Letter { at: clock::now(), ..letter(json!({"name": "n", "value": value}).to_string()) };
    let letters = vec![letter("\u{0}\u{ff}"), good(1), letter("[]"), letter(vec![0xff; 9]), letter("")];
    feed.take(letters, &reporter).await;
    let health = source.health();
    let pushed = health.pushed.unwrap();
    assert_eq!((pushed.unreadable, pushed.samples.kept), (3, 1));
    assert!(health.last_error.unwrap().1.starts_with("log/0/7: "), "it says where it stands");
    let standing = board.standings().remove(&feed.name).unwrap();
    assert_eq!((standing.recorded, standing.passed_over, standing.dead_letters), (1, 1, 0));
}

#[test]
fn letters_are_handed_over_before_they_fill_the_memory() {
    let source = source();
    let bell = crate::signals::Bell::default();
    source.give_bell(bell);
    let feed = feed(&source, false);
    let list = |count: usize| vec![json!({"name": "n", "value": 1}); count];
    let letter = |count: usize| Letter { at: clock::now(), ..letter(Json::from(list(count)).to_string()) };
    let mut held = Held::default();
    let weights: Vec<usize> = [letter(20_000), letter(20_000), letter(20_000), letter(1)]
        .iter()
        .map(|letter| {
            held.add(feed.reader.read(letter).unwrap());
            feed.hand_over(&mut held, MOST_HELD);
            held.weight
        })
        .collect();
    assert_eq!(weights, [40_000, 80_000, 0, 2], "each sample and each label is one");
    assert_eq!(feed.read(&[letter(10), letter(5)]), (2, 0), "what is left is handed over at the end");
    let pushed = source.health().pushed.unwrap().samples;
    assert_eq!(pushed.kept + pushed.known + pushed.disorder, 60_015);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_before_the_past_has_been_told() {
    let source = source();
    let feed = feed(&source, true);
    let window = Window { from: at(0), to: clock::now() };
    let problem = source.read("n", window).await.unwrap_err().to_string();
    assert!(problem.contains("has not told the past yet"), "{problem}");
    let (read, ()) = tokio::join!(source.read("n", window), async { feed.tell_past() });
    assert_eq!(read.unwrap().len(), 0);
    feed.tell_past();
    assert!(source.read("n", window).await.is_ok(), "telling it twice does no harm");
}

#[tokio::test]
async fn what_happens_in_one_moment_adds_up_and_stands_where_it_is_still_seen() {
    let source = PushedSource::new("push", &PushedConfig::default(), None, || at(0)).unwrap();
    let labels: Labels = [("__name__".to_owned(), "n".to_owned())].into();
    let happen = |after: i64| {
        let value = Value::Happened(Sample { at: at(after), value: 1.0 });
        let points = vec![super::super::Point { value, start: None }];
        let series = vec![super::super::PushedSeries { labels: labels.clone(), points }];
        source.take(at(after.max(10_000)), Batch { series, ..Batch::default() })
    };
    let values = async |until: i64| -> Vec<(i64, f64)> {
        let series = source.read("n", Window { from: at(-1_000), to: at(until) }).await.unwrap();
        let samples = series.iter().flat_map(|one| &one.samples);
        samples.map(|sample| (sample.at.as_millisecond() - BEGAN, sample.value)).collect()
    };
    for after in [100, 100, 99, 200] {
        assert_eq!(happen(after).kept, 1, "{after}");
    }
    assert_eq!(values(300).await, [(99, 0.0), (100, 3.0), (200, 4.0)], "zero before, and nothing is lost");
    // Looked at up to 300: what still comes for before stands behind that, and is not late.
    let taken = happen(250);
    assert_eq!((taken.kept, taken.late), (1, 0));
    assert_eq!(values(400).await.last(), Some(&(302, 5.0)));
    assert_eq!(happen(9_000).kept, 1);
    assert_eq!(happen(2_000).disorder, 1, "too far from where it belongs");
}
