//! The word that was probably meant.

/// The candidate nearest to `word`, where it is near enough that a slip of the fingers explains it.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `: did you mean 'del'?`, or nothing where no candidate is near.
pub(super) fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>, dashes: &str) -> String {
    nearest(word, candidates).map(|found| format!(": did you mean '{dashes}{found}'?")).unwrap_or_default()
}

/// How many insertions, deletions, substitutions and swaps of neighbours lead from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, left) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, right) in to.iter().enumerate() {
            let mut best = (above[column] + usize::from(left != right)).min(above[column + 1] + 1);
            best = best.min(current[column] + 1);
            if row > 0 && column > 0 && *left == to[column - 1] && from[row - 1] == *right {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_does_not() {
        let verbs = ["add", "check", "del", "gc", "status"];
        assert_eq!(nearest("ad", verbs), Some("add"));
        assert_eq!(nearest("dle", verbs), Some("del"));
        assert_eq!(nearest("chekc", verbs), Some("check"));
        assert_eq!(nearest("STATSU", verbs), Some("status"));
        assert_eq!(nearest("install", verbs), None);
    }

    #[test]
    fn swapped_neighbours_are_one_slip() {
        assert_eq!(distance("portMappings", "portMapping"), 1);
        assert_eq!(distance("wbe", "web"), 1);
        assert_eq!(distance("", "web"), 3);
    }
}
