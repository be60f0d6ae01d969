//! Words that depend on numbers.

/// The count with its noun, in the plural unless the count is 1.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
