//! The one layout that native histograms are read into.
//!
//! A native histogram names only the buckets that hold something, so the buckets that are seen change from window to
//! window. A test that asks "how many are slower than this edge" needs an edge that is always there. Every native
//! histogram is therefore read into the same dense row of cells, empty ones included: eight per octave (an edge is
//! 9 % above the one before it) from 2^-12 s (0.24 ms) to 2^7 s (128 s). That is schema 3, what the usual growth
//! factor of 1.1 in Prometheus' client libraries gives. What is faster goes into the first cell, what is slower than
//! the last edge into the last one.
//!
//! The row has 153 edges. A reading of a window goes into the ledger with all of its buckets, and 160 buckets are what
//! client libraries themselves hold at most; each further octave would cost eight, each further schema twice as many.
//! Finer histograms are merged down to it: their buckets lie each in one cell. Coarser ones keep every second, fourth,
//! ... edge, again always the same ones, up to schema -4, of which only the edge at 1 s lies within the row.

/// Cells per octave.
const PER_OCTAVE: i32 = 8;

/// The position of the first edge: 2^-12 s. A position is the logarithm of the edge to the base 2^(1/8).
const FIRST: i32 = -12 * PER_OCTAVE;

/// The position of the last edge: 2^7 s.
const LAST: i32 = 7 * PER_OCTAVE;

/// How many edges there are.
pub(super) const EDGES: usize = (LAST - FIRST) as usize + 1;

/// How many cells there are: cell n ends at edge n, and the last one has no end.
pub(super) const CELLS: usize = EDGES + 1;

/// The edges within an octave, to the bit as Prometheus has them.
const FRACTIONS: [f64; PER_OCTAVE as usize] = [
    0.5,
    0.5452538663326288,
    0.5946035575013605,
    0.6484197773255048,
    0.7071067811865475,
    0.7711054127039704,
    0.8408964152537144,
    0.9170040432046711,
];

/// The edges in seconds.
static SECONDS: [f64; EDGES] = edges();

/// Two edges that differ by less, relatively, are the same edge, calculated differently. Edges of the finest schema
/// differ by 0.3 %.
const SAME: f64 = 1e-9;

/// The steps of the coarser layouts: schema 3, 2, 1, 0, -1, -2, -3, -4.
const STEPS: [i32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// Which edges of the row are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Kept are the edges whose position is a multiple of it. One of `STEPS`, so that of any two the coarser one keeps
    /// a part of the other's edges.
    step: i32,
    /// Edges below this one are not kept: a zero bucket reaches up to here, and within it nothing can be told apart.
    floor: usize,
}

impl Layout {
    /// Every edge.
    pub const FINEST: Self = Self { step: 1, floor: 0 };

    /// The edges that both keep.
    pub fn merged(self, other: Self) -> Self {
        Self { step: self.step.max(other.step), floor: self.floor.max(other.floor) }
    }

    /// The layout for a bucket `(lower, upper]`, `0 ≤ lower < upper`, and the cell of the row that it goes to. The layout
    /// is the finest that does not cut the bucket in two; nothing if all do, because the bucket straddles 1 s.
    pub fn holding(lower: f64, upper: f64) -> Option<(Self, usize)> {
        let last = cell_up_to(upper);
        let first = SECONDS.partition_point(|edge| *edge <= lower * (1.0 + SAME)).min(last);
        let holds = |step: &i32| (first..last).all(|edge| position(edge).rem_euclid(*step) != 0);
        STEPS.into_iter().find(holds).map(|step| (Self { step, floor: 0 }, last))
    }

    /// The layout for a bucket of everything up to `upper`, and its cell.
    pub fn below(upper: f64) -> (Self, usize) {
        let cell = cell_up_to(upper);
        (Self { step: 1, floor: cell }, cell)
    }

    /// The edges in seconds, ascending, finite.
    pub fn bounds(self) -> Vec<f64> {
        (0..EDGES).filter(|edge| self.keeps(*edge)).map(|edge| SECONDS[edge]).collect()
    }

    /// The counts between the edges of this layout, one more than `bounds`. `cells` is a whole row.
    pub fn counts(self, cells: &[f64]) -> Vec<f64> {
        let mut counts = Vec::new();
        let mut sum = 0.0;
        for (edge, count) in cells.iter().enumerate() {
            sum += count;
            if self.keeps(edge) {
                counts.push(sum);
                sum = 0.0;
            }
        }
        counts.push(sum);
        counts
    }

    /// A whole row with the same events in the cells below the kept edges; the others are empty.
    pub fn merge(self, cells: &[f64]) -> Vec<f64> {
        let mut row = vec![0.0; CELLS];
        let mut sum = 0.0;
        for (edge, count) in cells.iter().enumerate() {
            sum += count;
            if self.keeps(edge) || edge == EDGES {
                row[edge] = sum;
                sum = 0.0;
            }
        }
        row
    }

    fn keeps(self, edge: usize) -> bool {
        edge < EDGES && edge >= self.floor && position(edge).rem_euclid(self.step) == 0
    }
}

/// Whether a number is an edge of some schema up to 8, the finest there is: 1 s times a power of 2^(1/256).
pub(super) fn is_an_edge(value: f64) -> bool {
    let place = value.log2() * 256.0;
    (place - place.round()).abs() < 1e-4
}

/// The cell for what is at most `upper`.
fn cell_up_to(upper: f64) -> usize {
    SECONDS.partition_point(|edge| *edge < upper * (1.0 - SAME))
}

fn position(edge: usize) -> i32 {
    FIRST + edge as i32
}

const fn edges() -> [f64; EDGES] {
    let mut edges = [0.0; EDGES];
    let mut place = 0;
    while place < EDGES {
        let position = FIRST + place as i32;
        let fraction = FRACTIONS[position.rem_euclid(PER_OCTAVE) as usize];
        // 2^(octave + 1), written as the exponent of a float: exact.
        let exponent = 1023 + position.div_euclid(PER_OCTAVE) + 1;
        edges[place] = fraction * f64::from_bits((exponent as u64) << 52);
        place += 1;
    }
    edges
}
