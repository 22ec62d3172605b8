//! "Did you mean": the known name that is nearest to a mistyped one.

/// The nearest of `names`, if it is near enough that a person would take one for the other.
pub fn closest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may be wrong; more and the suggestion is a guess. Long words are not compared at all: the
    // comparison takes time by the product of their lengths.
    let length = wrong.chars().count();
    if length > 64 {
        return None;
    }
    names
        .filter(|name| name.len() <= 64)
        .map(|name| (distance(wrong, name), name))
        .filter(|(distance, name)| *distance <= length.max(name.chars().count()).div_ceil(3).min(4))
        .min()
        .map(|(_, name)| name)
}

/// Letters to insert, remove, replace or swap with the neighbour, case ignored.
fn distance(one: &str, other: &str) -> usize {
    let one: Vec<char> = one.to_lowercase().chars().collect();
    let other: Vec<char> = other.to_lowercase().chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, a) in one.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, b) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(a != b);
            let mut best = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            if row > 0 && column > 0 && *a == other[column - 1] && one[row - 1] == *b {
                best = best.min(before_last[column - 1] + 1);
            }
            next.push(best);
        }
        before_last = std::mem::replace(&mut last, next);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["listen", "token", "soak", "watch_for"];
        for (wrong, found) in [
            ("listn", Some("listen")),
            ("tokne", Some("token")),
            ("soka", Some("soak")),
            ("Listen", Some("listen")),
            ("x", None),
            ("frequency", None),
        ] {
            assert_eq!(closest(wrong, names.iter().copied()), found, "{wrong}");
        }
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(closest(&"x".repeat(10_000), names.iter().copied()), None);
    }
}
