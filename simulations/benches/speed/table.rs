//! One table of figures, each with its limit beside it where it has one.

use super::measure::{self, LOOKS, Live, seconds};
use simulations::cost::{Kind, MOST_STATE_BYTES, Reference, Service};
use simulations::peers::kayenta::Classification;
use std::fmt::Write as _;

/// Blocks a second that the kernel must take on one core.
const FEWEST_BLOCKS: f64 = 1e6;
/// Signals of the figure that says whether one process is enough for a large company.
const SIGNALS: usize = 100_000;
/// Seconds that a look at them may take on one core.
const LONGEST_LOOK: f64 = 1.0;
/// Rounds of which the quickest counts.
const ROUNDS: u32 = 20;
/// The same for what takes long.
const FEW_ROUNDS: u32 = 5;

/// A figure.
pub struct Row {
    what: String,
    figure: f64,
    unit: &'static str,
    limit: Limit,
}

enum Limit {
    None,
    AtLeast(f64),
    AtMost(f64),
}

impl Row {
    fn new(what: impl Into<String>, figure: f64, unit: &'static str, limit: Limit) -> Self {
        Self { what: what.into(), figure, unit, limit }
    }

    /// Whether it is within its limit.
    pub fn is_kept(&self) -> bool {
        match self.limit {
            Limit::None => true,
            Limit::AtLeast(least) => self.figure >= least,
            Limit::AtMost(most) => self.figure <= most,
        }
    }
}

/// Everything that is measured.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    updates(&mut rows);
    beside_kayenta(&mut rows);
    live(&mut rows);
    state(&mut rows);
    rows
}

/// The table, with the processor it was measured on.
pub fn text(rows: &[Row]) -> String {
    let mut text = format!("\nOn one core of {}, processor time, quickest round:\n\n", processor());
    for row in rows {
        let limit = match row.limit {
            Limit::None => String::new(),
            Limit::AtLeast(least) => format!("at least {}", number(least)),
            Limit::AtMost(most) => format!("at most {}", number(most)),
        };
        let broken = if row.is_kept() { "" } else { "  BROKEN" };
        let line = format!("{:<62}{:>10} {:<11}{limit}{broken}", row.what, number(row.figure), row.unit);
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn updates(rows: &mut Vec<Row>) {
    let blocks = |seconds: f64| f64::from(LOOKS) / seconds / 1e6;
    let mut add =
        |what: &str, seconds: f64, limit| rows.push(Row::new(what, blocks(seconds), "M blocks/s", limit));
    let least = || Limit::AtLeast(FEWEST_BLOCKS / 1e6);
    for alternatives in [12, 24] {
        let (fresh, looks) = measure::kernel_input(alternatives);
        let hour = seconds(ROUNDS, || measure::kernel_hour(&fresh, &looks));
        add(&format!("kernel, {alternatives} alternatives"), hour, least());
    }
    let looks = measure::hour(1);
    let fresh = measure::proportion_test();
    let hour = seconds(ROUNDS, || measure::proportion_hour(&fresh, &looks));
    add("proportion test, as in production", hour, least());
    let fresh = measure::ratio_test();
    let hour = seconds(ROUNDS, || measure::ratio_hour(&fresh, &looks));
    add("ratio test, as in production", hour, least());
    let hour = seconds(ROUNDS, || measure::sequence_hour(&looks));
    add("interval of the ratio, which people read", hour, Limit::None);
}

fn beside_kayenta(rows: &mut Vec<Row>) {
    let looks = measure::hour(1);
    let fresh = measure::ratio_test();
    let (control, canary) = measure::minutes(&looks);
    let ours = seconds(ROUNDS, || measure::ratio_hour(&fresh, &looks));
    // One judgement is too short to be timed alone.
    let hundred = seconds(ROUNDS, || {
        (0..100)
            .map(|_| measure::kayenta_once(&control, &canary))
            .filter(|found| *found == Classification::High)
            .count()
    });
    let once = hundred / 100.0;
    let growing = seconds(ROUNDS, || measure::kayenta_hour(&control, &canary));
    let update = ours / f64::from(LOOKS);
    let mut add = |what: &str, figure, unit| rows.push(Row::new(what, figure, unit, Limit::None));
    add("Kayenta's judge: one judgement over an hour of minutes", once * 1e6, "µs");
    add("Kayenta's judge: an hour, a judgement a minute", growing * 1e6, "µs");
    add("ratio test: an hour, a look every 10 s", ours * 1e6, "µs");
    add("one judgement of Kayenta's is worth so many updates of ours", once / update, "updates");
    add("an hour of Kayenta's over an hour of ours", growing / ours, "times");
}

fn live(rows: &mut Vec<Row>) {
    for instances in [0, 3] {
        let taken = Live::new(SIGNALS, instances).seconds(FEW_ROUNDS);
        let what = match instances {
            0 => format!("{SIGNALS} live signals, canary matrix: one look"),
            pods => format!("the same, {pods} pods each told apart"),
        };
        rows.push(Row::new(what, taken, "s", Limit::AtMost(LONGEST_LOOK)));
    }
}

fn state(rows: &mut Vec<Row>) {
    for (matrix, reference) in [
        ("canary", Reference::Control),
        ("canary", Reference::Before),
        ("standard", Reference::Control),
        ("standard", Reference::Before),
    ] {
        for kind in Kind::ALL {
            let state = |pods| {
                let service = Service::new(kind, matrix, reference).expect("the matrix ships");
                service.state_after_looks(pods)
            };
            let (alone, five) = (state(0), state(5));
            let what = format!("state of a {}, {matrix} matrix, {}", kind.word(), reference.words());
            rows.push(Row::new(what, alone.tests as f64, "bytes", Limit::AtMost(MOST_STATE_BYTES as f64)));
            if five.instances > 0 {
                rows.push(Row::new(
                    "  each pod told apart",
                    five.instances as f64 / 5.0,
                    "bytes",
                    Limit::None,
                ));
            }
        }
    }
}

/// Three digits that matter, or a whole number.
fn number(value: f64) -> String {
    let digits = if value >= 100.0 || value.fract() == 0.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

/// The processor's name; the architecture where the system does not tell.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}
