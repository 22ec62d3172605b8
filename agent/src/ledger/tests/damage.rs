//! The files are damaged below SQL: flipped bits, cut-off ends, zeroed pages, a lost or foreign log. The rule for each: the
//! ledger refuses to open, or verifying finds it, or it does no harm (everything that was stored is still read). What never
//! happens is a panic or a shorter ledger that looks healthy.

use super::*;

/// A small generator with a fixed seed, so that a failure can be repeated.
pub(super) struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Refused,
    FoundByVerify,
    Harmless,
}

/// Opens a damaged place and holds it to the rule.
async fn judge(place: &Place, expected: &[Record], what: &str) -> Outcome {
    let ledger = match Ledger::open(&place.path).await {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return Outcome::Refused;
        }
        Ok(ledger) => ledger,
    };
    let verified = ledger.verify(|_, _| ()).await;
    if !verified.as_ref().is_ok_and(VerifyReport::is_sound) {
        return Outcome::FoundByVerify;
    }
    assert!(everything(&ledger).await == expected, "{what}: looks healthy, and is not what was stored");
    Outcome::Harmless
}

/// A ledger of which part is still in the write-ahead log, as a crash leaves it, and its records.
async fn crashed(count: i64) -> (Place, Vec<Record>) {
    let place = Place::with_records(count / 2).await;
    let ledger = Ledger::open(&place.path).await.unwrap();
    fill(&ledger, count - count / 2).await;
    let expected = everything(&ledger).await;
    let copy = place.copy();
    assert!(std::fs::metadata(copy.beside("-wal")).unwrap().len() > 0);
    (copy, expected)
}

fn change(file: &Path, by: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(file).unwrap();
    by(&mut bytes);
    std::fs::write(file, bytes).unwrap();
}

/// One random damage of one random file of the place, and what it was.
fn damage(place: &Place, dice: &mut Dice) -> String {
    let has_log = std::fs::metadata(place.beside("-wal")).is_ok_and(|log| log.len() > 0);
    let suffix = if has_log { ["", "-wal"][dice.roll(2)] } else { "" };
    let file = place.beside(suffix);
    let length = std::fs::metadata(&file).unwrap().len() as usize;
    let (spot, size) = (dice.roll(length), 1 + dice.roll(5000));
    let bit = 1u8 << dice.roll(8);
    let kind = dice.roll(5);
    change(&file, |bytes| match kind {
        0 | 1 => bytes[spot] ^= bit,
        2 => bytes.truncate(spot),
        3 => bytes[spot / 4096 * 4096..].iter_mut().take(4096).for_each(|byte| *byte = 0),
        _ => bytes[spot..].iter_mut().take(size).for_each(|byte| *byte = byte.wrapping_add(bit)),
    });
    format!("kind {kind} at {spot} (bit {bit}, size {size}) of ledger.db{suffix}")
}

/// Damages copies of a ledger as a crash leaves it, where the log hides much of the database, and of a longer one that
/// was closed, where most records lie before the tail that is checked at open.
async fn damage_many(rounds: usize, seed: u64) {
    let closed = Place::with_records(600).await;
    let ledger = Ledger::open_read_only(&closed.path).await.unwrap();
    let originals = [crashed(40).await, (closed.copy(), everything(&ledger).await)];
    ledger.close().await.unwrap();
    let mut dice = Dice(seed);
    let mut counts = [0; 3];
    for round in 0..rounds {
        let (original, expected) = &originals[round % 2];
        let copy = original.copy();
        let what = damage(&copy, &mut dice);
        counts[judge(&copy, expected, &what).await as usize] += 1;
    }
    println!(
        "{rounds} damages: {} refused, {} found by verify, {} harmless",
        counts[0], counts[1], counts[2]
    );
    for (original, expected) in &originals {
        assert_eq!(judge(original, expected, "no damage").await, Outcome::Harmless);
    }
    assert!(counts[0] > rounds / 3, "the damage is too gentle to mean anything: {counts:?}");
    assert!(counts[1] > 0, "nothing got as far as verify: {counts:?}");
}

#[tokio::test]
async fn random_damage_is_detected_or_harmless() {
    damage_many(250, 2026).await;
}

#[tokio::test]
#[ignore = "takes minutes; run by hand after changes to open.rs"]
async fn much_random_damage_is_detected_or_harmless() {
    damage_many(10_000, 1).await;
}

#[tokio::test]
async fn every_zeroed_page_and_every_cut_is_detected_or_harmless() {
    let original = Place::with_records(60).await;
    let ledger = Ledger::open_read_only(&original.path).await.unwrap();
    let expected = everything(&ledger).await;
    ledger.close().await.unwrap();
    let pages = std::fs::metadata(&original.path).unwrap().len() as usize / 4096;
    assert!(pages > 8, "{pages} pages");
    for page in 0..pages {
        let zeroed = original.copy();
        change(&zeroed.path, |bytes| bytes[page * 4096..][..4096].fill(0));
        assert_ne!(judge(&zeroed, &expected, &format!("page {page} zeroed")).await, Outcome::Harmless);
        for cut in [page * 4096, page * 4096 + 17] {
            let shorter = original.copy();
            change(&shorter.path, |bytes| bytes.truncate(cut));
            assert_eq!(judge(&shorter, &expected, &format!("cut to {cut} bytes")).await, Outcome::Refused);
        }
    }
}

#[tokio::test]
async fn a_lost_or_foreign_log_is_refused() {
    let (original, expected) = crashed(20).await;
    // As long, and different from the first record on.
    let other = Place::new();
    let other_ledger = Ledger::open(&other.path).await.unwrap();
    drop(other_ledger.append((0..20).map(|number| note("fleet", number)).collect()).await.unwrap());
    let lost = original.copy();
    std::fs::remove_file(lost.beside("-wal")).unwrap();
    assert_eq!(judge(&lost, &expected, "log removed").await, Outcome::Refused);
    assert!(matches!(Ledger::open(&lost.path).await, Err(LedgerError::Regressed { .. })));
    let emptied = original.copy();
    change(&emptied.beside("-wal"), Vec::clear);
    assert_eq!(judge(&emptied, &expected, "log emptied").await, Outcome::Refused);
    let foreign = original.copy();
    std::fs::copy(other.beside("-wal"), foreign.beside("-wal")).unwrap();
    assert_ne!(judge(&foreign, &expected, "log of another ledger").await, Outcome::Harmless);
}

#[tokio::test]
async fn a_ledger_is_never_made_anew_where_there_was_one() {
    let original = Place::with_records(5).await;
    let gone = original.copy();
    std::fs::remove_file(&gone.path).unwrap();
    assert!(matches!(Ledger::open(&gone.path).await, Err(LedgerError::Regressed { .. })));
    assert!(!gone.path.exists(), "a new ledger was made");

    let emptied = original.copy();
    change(&emptied.path, Vec::clear);
    assert!(matches!(Ledger::open(&emptied.path).await, Err(LedgerError::Corrupt { .. })));
    std::fs::remove_file(emptied.beside(".head")).unwrap();
    assert!(
        matches!(Ledger::open(&emptied.path).await, Err(LedgerError::Corrupt { .. })),
        "without a head too"
    );
    assert!(matches!(Ledger::open_read_only(&emptied.path).await, Err(LedgerError::Corrupt { .. })));
    assert_eq!(std::fs::metadata(&emptied.path).unwrap().len(), 0, "it was left as it was");

    let log_only = Place::new();
    std::fs::write(log_only.beside("-wal"), "something").unwrap();
    assert!(matches!(Ledger::open(&log_only.path).await, Err(LedgerError::Corrupt { .. })));

    let directory = Place::new();
    std::fs::create_dir(&directory.path).unwrap();
    assert!(matches!(Ledger::open(&directory.path).await, Err(LedgerError::Corrupt { .. })));
}

#[tokio::test]
async fn a_creation_that_was_cut_off_is_begun_again() {
    let place = Place::new();
    std::fs::write(place.beside(".new"), "half a database").unwrap();
    let ledger = Ledger::open(&place.path).await.unwrap();
    fill(&ledger, 2).await;
    assert!(!place.beside(".new").exists());
    assert_eq!(place.directory.path(), place.path.parent().unwrap());
}
