//! News to send, with everything that happens to news: duplicates, shuffles, poison; and what must become of it.

use std::collections::{BTreeMap, BTreeSet};

use agent::ledger::Record;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Messages that go one after the other may change places within so many.
const WINDOW: usize = 50;
/// One in so many is sent twice.
const ONE_TWICE_IN: u64 = 20;
/// One in so many cannot be read.
const ONE_POISON_IN: usize = 1_000;
/// One in so many is a deployment, the others are reports.
const ONE_DEPLOYMENT_IN: usize = 10;
/// Services that are deployed.
pub const SERVICES: usize = 200;

/// Dice that fall the same way in each run.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// A number below `limit`, by SplitMix64.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// What is sent, in the order in which it is sent.
#[derive(Debug)]
pub struct Traffic {
    /// Key and body of each message.
    pub messages: Vec<(String, Vec<u8>)>,
    /// How many of them cannot be read.
    pub poison: usize,
    /// The identities of those that can, each once.
    pub good: BTreeSet<String>,
    /// By service, the sequence of its newest deployment.
    newest: BTreeMap<String, u64>,
}

/// The name of one of the services.
pub fn service(number: usize) -> String {
    format!("service-{number:03}")
}

/// The part of the configuration that makes the services known, so that all of their deployments are watched.
pub fn configuration() -> String {
    let services: String = (0..SERVICES).map(|number| format!("  {}: {{}}\n", service(number))).collect();
    format!("services:\n{services}")
}

/// `count` different messages, in order.
pub fn plain(count: usize) -> Traffic {
    let mut traffic =
        Traffic { messages: Vec::new(), poison: 0, good: BTreeSet::new(), newest: BTreeMap::new() };
    let now = jiff::Timestamp::now();
    for number in 0..count {
        // Two deployments of a service follow each other so closely that the shuffle turns some of them round.
        let service = service((number / ONE_DEPLOYMENT_IN / 2) % SERVICES);
        if number % ONE_POISON_IN == ONE_POISON_IN / 2 {
            traffic.poison += 1;
            traffic.messages.push((service, poison(number)));
            continue;
        }
        let id = format!("m-{number}");
        let body = if number % ONE_DEPLOYMENT_IN == 0 {
            let sequence = number as u64;
            traffic.newest.insert(service.clone(), sequence);
            json!({"service": service, "version": format!("v{number}"), "id": id, "sequence": sequence, "at": now})
        } else {
            json!({"service": service, "report": "build_note", "state": "firing", "id": id, "at": now,
                "summary": format!("note {number}")})
        };
        traffic.good.insert(id);
        traffic.messages.push((service, body.to_string().into_bytes()));
    }
    traffic
}

/// The same messages, some of them twice, in an order that is shuffled within a window.
pub fn shuffled(plain: &Traffic, dice: &mut Dice) -> Traffic {
    let mut messages: Vec<(u64, (String, Vec<u8>))> = Vec::new();
    let mut poison = 0;
    for (place, message) in plain.messages.iter().enumerate() {
        let mut put =
            |dice: &mut Dice| messages.push((place as u64 + dice.below(WINDOW as u64), message.clone()));
        let is_poison = place % ONE_POISON_IN == ONE_POISON_IN / 2;
        put(dice);
        poison += usize::from(is_poison);
        if dice.below(ONE_TWICE_IN) == 0 {
            put(dice);
            poison += usize::from(is_poison);
        }
    }
    messages.sort_by_key(|(place, _)| *place);
    let messages = messages.into_iter().map(|(_, message)| message).collect();
    Traffic { messages, poison, good: plain.good.clone(), newest: plain.newest.clone() }
}

/// A message that cannot be read, in one of many ways.
fn poison(number: usize) -> Vec<u8> {
    let bodies: [&[u8]; 6] = [
        b"{\"service\":",
        b"\xff\xfe\x00 no text",
        b"{\"version\":\"v1\"}",
        b"{\"service\":\"somebody-elses\",\"version\":\"v1\"}",
        b"{\"service\":\"service-001\",\"version\":\"v1\",\"enviroment\":\"x\"}",
        b"[[[[[[[[[[]]]]]]]]]]",
    ];
    let mut body = bodies[number / ONE_POISON_IN % bodies.len()].to_vec();
    if number / ONE_POISON_IN % 7 == 6 {
        body = "[".repeat(10_000).into_bytes();
    }
    body
}

/// Whether a message of the traffic can be read.
pub fn is_good(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|said| said["id"].is_string())
}

/// What a ledger holds of the traffic.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// What each message says, by its identity; more than one record of an identity would be an error.
    pub news: BTreeMap<String, Value>,
    /// Places of dead letters.
    pub dead: BTreeSet<String>,
}

/// Reads a ledger's records; checks that nothing is there twice.
///
/// # Errors
/// If something is, or if a record is not of the traffic.
pub fn kept(records: &[Record]) -> Result<Kept> {
    let mut kept = Kept { news: BTreeMap::new(), dead: BTreeSet::new() };
    for record in records {
        match record.stream.as_str() {
            "events" => {
                let inner = &record.body[record.kind.as_str()];
                let said = &inner["raw"];
                let id = said["id"].as_str().with_context(|| format!("no id in {}", record.body))?;
                let twice = kept.news.insert(id.to_owned(), said.clone());
                ensure!(twice.is_none(), "{id} was recorded twice");
            }
            "dead_letters" => {
                let place = record.body["letter"]["place"].as_str().unwrap_or_default().to_owned();
                ensure!(kept.dead.insert(place.clone()), "{place} was put aside twice");
            }
            _ => {}
        }
    }
    Ok(kept)
}

/// Checks the watches: at most one for a deployment, and exactly one that is open for each service, over its newest.
/// Gives the number of watches.
///
/// # Errors
/// If it is otherwise.
pub fn check_watches(records: &[Record], traffic: &Traffic) -> Result<usize> {
    let mut open: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut opened: BTreeMap<(String, String), usize> = BTreeMap::new();
    for record in records.iter().filter(|record| record.stream.starts_with("watch/")) {
        match record.kind.as_str() {
            "opened" => {
                let deployment = &record.body["opened"]["deployment"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let (service, version) =
                    (text(&deployment["service"]), text(&deployment["release"]["version"]));
                *opened.entry((service.clone(), version.clone())).or_default() += 1;
                open.insert(record.stream.clone(), (service, version));
            }
            "closed" => drop(open.remove(&record.stream)),
            _ => {}
        }
    }
    let twice: Vec<_> = opened.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(twice.is_empty(), "deployments with two watches: {twice:?}");
    let open: BTreeSet<(String, String)> = open.into_values().collect();
    let newest: BTreeSet<(String, String)> =
        traffic.newest.iter().map(|(service, sequence)| (service.clone(), format!("v{sequence}"))).collect();
    ensure!(
        open == newest,
        "open watches: {:?} too many, {:?} missing",
        open.difference(&newest).collect::<Vec<_>>(),
        newest.difference(&open).collect::<Vec<_>>()
    );
    Ok(opened.len())
}
