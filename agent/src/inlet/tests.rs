//! The door and the board, with a loop of the test's own behind them.

use super::*;
use crate::clock;
use rules::deployment::{Report, ReportState};
use rules::ids::ServiceName;

fn source() -> SourceName {
    SourceName::new("ci").unwrap()
}

fn dead() -> DeadLetter {
    DeadLetter::new("topic/0/1", "no JSON", 5, b"{")
}

fn report() -> Accepted {
    let report = Report {
        source: source(),
        id: "a".into(),
        service: ServiceName::new("checkout").unwrap(),
        environment: None,
        what: "smoke_test_failed".into(),
        state: ReportState::Firing,
        summary: String::new(),
        at: clock::now(),
        ended: None,
    };
    Accepted {
        id: "a".into(),
        incoming: Incoming::Report(report),
        raw: serde_json::json!({}),
        notes: Vec::new(),
    }
}

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn reports_leave_room_for_deployments_and_an_overflow_is_counted() {
    let (messages, _kept) = mpsc::channel(4);
    let board = Board::default();
    let inlet = Inlet::new(messages.clone(), board.clone());
    for _ in 0..4 {
        messages.try_send(Message::Look(Box::new(|_| ()))).unwrap_or_else(|_| panic!("there is room"));
    }
    let news = || News { accepted: vec![report()], dead: Vec::new() };
    assert_eq!(inlet.tell(&source(), news(), SHORT).await, Err(NotTaken::Full));
    assert_eq!(board.overflow(), 1);
    drop(_kept);
    assert_eq!(inlet.tell(&source(), news(), SHORT).await, Err(NotTaken::Ending));
}

#[tokio::test]
async fn what_came_is_counted_by_what_became_of_it() {
    let (messages, mut heard) = mpsc::channel(4);
    let board = Board::default();
    let inlet = Inlet::new(messages, board.clone());
    let loop_of_the_test = tokio::spawn(async move {
        let Some(Message::Events { news, reply, .. }) = heard.recv().await else { panic!("news comes") };
        assert_eq!((news.accepted.len(), news.dead.len()), (2, 2));
        let (new, known) = (EventAnswer::Recorded { sequence: 1 }, EventAnswer::Duplicate { sequence: 1 });
        reply.send(vec![new, known, new, known]).unwrap();
    });
    let news = News { accepted: vec![report(), report()], dead: vec![dead(), dead()] };
    assert_eq!(inlet.tell(&source(), news, SHORT).await.unwrap().len(), 4);
    loop_of_the_test.await.unwrap();
    let standing = board.standings().remove(&source()).unwrap();
    assert_eq!((standing.recorded, standing.duplicates, standing.dead_letters), (1, 2, 1));
    assert_eq!(standing.connected, None, "nobody can know of one that calls us");
}

#[test]
fn a_source_is_cut_off_until_it_says_otherwise() {
    let board = Board::default();
    let reporter = board.reporter(&source(), "kafka", "topic deployments".into());
    assert_eq!(board.standings()[&source()].connected, Some(false));
    reporter.up();
    assert_eq!(board.standings()[&source()].connected, Some(true));
    reporter.down("the broker is gone");
    reporter.lag(7);
    let standing = board.standings().remove(&source()).unwrap();
    assert!(standing.connected == Some(false) && standing.lag == Some(7));
    assert_eq!(standing.last_error.unwrap().1, "the broker is gone");
}

#[test]
fn what_is_refused_is_told_until_something_is_taken() {
    let board = Board::default();
    let stranger = SourceName::new("stranger").unwrap();
    board.expect(&source(), "POST /v1/hooks/github".into());
    let words = |board: &Board| board.standings().remove(&source()).unwrap().words.unwrap();
    assert_eq!(words(&board), "configured; nothing was heard since the start");
    for _ in 0..3 {
        board.refused(&source(), "no signature matches");
        board.refused(&stranger, "no signature matches");
    }
    assert!(words(&board).contains("3 requests were refused since"), "{}", words(&board));
    assert!(words(&board).contains("no signature matches"), "{}", words(&board));
    board.accepted(&source());
    assert!(words(&board).starts_with("last heard at 2") && !words(&board).contains("refused"));
    let standing = board.standings().remove(&source()).unwrap();
    assert_eq!((standing.refused, standing.refused_in_all, standing.connected), (0, 3, None));
    assert!(!board.standings().contains_key(&stranger), "strangers put nothing on the board");
}
