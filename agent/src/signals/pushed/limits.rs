//! How much one request may hold, and how a request is refused.

/// The longest body as it is sent (4 MiB). Prometheus sends 2,000 samples at once, some 50 kB; a Collector 8,192 points.
pub const MOST_BODY_BYTES: usize = 4 * 1024 * 1024;
/// The longest body once it is unpacked (32 MiB): ten times packed is usual for metrics, and what is more is a bomb.
pub const MOST_UNPACKED_BYTES: usize = 32 * 1024 * 1024;
/// The most samples of one request, each bucket of a native histogram counted as one: a hundred times what senders send at once, and 16 MB in memory.
const MOST_SAMPLES: usize = 200_000;
/// The most bytes in memory of the labels of one request (200 MiB; one request is read at a time). Labels may be written
/// once and be used by many series, so that a short request could ask for endless memory. A Collector's 8,192 points with
/// 20 labels take a sixth of it, and 4,000 histograms of a dozen buckets take all of it.
const MOST_LABEL_BYTES: usize = 200 * 1024 * 1024;
/// What a label takes beside its letters: two texts with their places on the heap, and its share of a map's node.
const LABEL_BYTES: usize = 128;
/// The most labels of a series; Prometheus' own scrapes have a dozen, those of a Collector some dozens.
pub(super) const MOST_LABELS: usize = 64;
/// The most buckets of one native histogram; client libraries hold 160 unless they are told otherwise.
pub(super) const MOST_BUCKETS: usize = 1_000;

/// A request that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadPush {
    /// The HTTP status: 400 (cannot be read), 413 (too much), 415 (of a kind that is not known).
    pub status: u16,
    /// What is wrong and what to do.
    pub reason: String,
}

impl BadPush {
    pub(crate) fn unreadable(what: &str, why: impl std::fmt::Display) -> Self {
        Self { status: 400, reason: format!("{what} cannot be read: {why}") }
    }

    pub(crate) fn too_much(reason: impl Into<String>) -> Self {
        Self { status: 413, reason: reason.into() }
    }

    pub(crate) fn kind(reason: impl Into<String>) -> Self {
        Self { status: 415, reason: reason.into() }
    }
}

/// What a request may still hold.
#[derive(Debug)]
pub(super) struct Budget {
    samples: usize,
    label_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { samples: MOST_SAMPLES, label_bytes: MOST_LABEL_BYTES }
    }
}

impl Budget {
    pub(super) fn samples(&mut self, count: usize) -> Result<(), BadPush> {
        self.samples = self.samples.checked_sub(count).ok_or_else(|| {
            BadPush::too_much(format!(
                "more than {MOST_SAMPLES} samples in one request; send them in several"
            ))
        })?;
        Ok(())
    }

    pub(super) fn label(&mut self, key: &str, value: &str) -> Result<(), BadPush> {
        self.letters(LABEL_BYTES + key.len() + value.len())
    }

    /// Letters of labels that are written, and gone again before the next ones.
    pub(super) fn letters(&mut self, bytes: usize) -> Result<(), BadPush> {
        self.label_bytes = self.label_bytes.checked_sub(bytes).ok_or_else(|| {
            BadPush::too_much(format!(
                "the labels have more than {MOST_LABEL_BYTES} bytes in memory; send the series in several requests"
            ))
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_short_labels_are_as_much_as_a_few_long_ones() {
        let mut budget = Budget::default();
        let taken = (0..MOST_SAMPLES * MOST_LABELS).take_while(|_| budget.label("a", "b").is_ok()).count();
        assert!(taken < 2_000_000, "{taken} labels of 100 bytes and more in memory");
        let bad = budget.label("a", "b").unwrap_err();
        assert!(bad.status == 413 && bad.reason.contains("the labels have more than"), "{bad}");
    }

    #[test]
    fn what_senders_send_at_once_fits_twice() {
        // Prometheus, unless it is told otherwise; a Collector.
        for (series, labels) in [(2_000, 30), (8_192, 20)] {
            let mut budget = Budget::default();
            for _ in 0..2 * series {
                budget.samples(1).unwrap();
                for _ in 0..labels {
                    budget.label("http_request_method", "a value of 24 letters...").unwrap();
                }
            }
        }
    }
}
