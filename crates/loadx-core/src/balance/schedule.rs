//! The order in which weighted backends take turns, worked out in advance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest schedule, in slots (4 bytes each). Weights whose sum, over their common divisor, is
/// larger are scaled down to it; a share is then off by less than one slot.
const SLOTS_MAX: u64 = 1 << 18;

/// How many turns have been taken, by all workers and over all views of a cluster. Alone on its
/// cache lines: it is written once a request.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Tickets(AtomicU64);

/// One round of turns, and the place that all workers have reached in it.
#[derive(Debug)]
pub(crate) struct Schedule {
    slots: Box<[u32]>,
    tickets: Arc<Tickets>,
}

impl Schedule {
    pub(super) fn new(weights: impl Iterator<Item = u32>, tickets: Arc<Tickets>) -> Self {
        let weights = reduced(&weights.map(|weight| u64::from(weight.max(1))).collect::<Vec<_>>());
        Schedule { slots: smooth_round(&weights), tickets }
    }

    /// Takes a turn: the slot, and the index of the backend that it belongs to.
    ///
    /// # Panics
    /// When there are no backends; a view without backends does not choose.
    pub(super) fn next(&self) -> (usize, usize) {
        let ticket = self.tickets.0.fetch_add(1, Ordering::Relaxed);
        let slot = (ticket % self.slots.len() as u64) as usize;
        (slot, self.slots[slot] as usize)
    }

    /// The backends of the whole round, beginning at `slot`; each as often as its weight says.
    pub(super) fn from(&self, slot: usize) -> impl Iterator<Item = usize> + '_ {
        super::around(slot, self.slots.len()).map(|slot| self.slots[slot] as usize)
    }
}

/// The weights over their greatest common divisor, scaled down where the round would be too long.
fn reduced(weights: &[u64]) -> Vec<u64> {
    let divisor = weights.iter().copied().reduce(gcd).unwrap_or(1);
    let total: u64 = weights.iter().map(|weight| weight / divisor).sum();
    let scale = |weight: u64| {
        let weight = weight / divisor;
        if total <= SLOTS_MAX { weight } else { (weight * SLOTS_MAX / total).max(1) }
    };
    weights.iter().map(|weight| scale(*weight)).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One round of the smooth weighted round robin that nginx made known: at every turn each backend
/// gains its weight, the richest is chosen (the first of equals) and pays the sum of all weights.
///
/// Backends of the same weight differ only in whether they had their n-th turn yet, and have it in
/// order; so each weight needs one account, and a turn costs as much as there are distinct weights.
fn smooth_round(weights: &[u64]) -> Box<[u32]> {
    struct Class {
        weight: i64,
        members: Vec<u32>,
        next: usize,
        /// What the member whose turn is next owns, and what those own that had this turn already.
        credit: i64,
    }
    let total: i64 = weights.iter().sum::<u64>() as i64;
    let mut classes: Vec<Class> = Vec::new();
    for (index, weight) in weights.iter().enumerate() {
        let weight = *weight as i64;
        match classes.iter_mut().find(|class| class.weight == weight) {
            Some(class) => class.members.push(index as u32),
            None => classes.push(Class { weight, members: vec![index as u32], next: 0, credit: 0 }),
        }
    }
    let mut turn = || {
        for class in &mut classes {
            class.credit += class.weight;
        }
        let richest = classes.iter_mut().reduce(|best, class| {
            let (a, b) = (best.members[best.next], class.members[class.next]);
            if (class.credit, std::cmp::Reverse(b)) > (best.credit, std::cmp::Reverse(a)) { class } else { best }
        });
        let class = richest.expect("a turn is taken only when there is a weight");
        let chosen = class.members[class.next];
        class.next += 1;
        if class.next == class.members.len() {
            // Everybody of this weight had the turn: they are all equally poorer.
            class.next = 0;
            class.credit -= total;
        }
        chosen
    };
    (0..total).map(|_| turn()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule as it is usually written, an account a backend.
    fn textbook(weights: &[u64]) -> Vec<u32> {
        let total: i64 = weights.iter().sum::<u64>() as i64;
        let mut credit = vec![0i64; weights.len()];
        (0..total)
            .map(|_| {
                let mut best = 0;
                for index in 0..weights.len() {
                    credit[index] += weights[index] as i64;
                    if credit[index] > credit[best] {
                        best = index;
                    }
                }
                credit[best] -= total;
                best as u32
            })
            .collect()
    }

    #[test]
    fn known_rounds() {
        assert_eq!(*smooth_round(&[3, 1]), [0, 0, 1, 0]);
        assert_eq!(*smooth_round(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert!(smooth_round(&[]).is_empty());
    }

    #[test]
    fn common_divisors_do_not_lengthen_the_round() {
        assert_eq!(reduced(&[300, 100, 200]), [3, 1, 2]);
    }

    #[test]
    fn a_round_has_a_bound_and_nobody_is_scaled_away() {
        let scaled = reduced(&[1_000_000_007, 1, 999_999_937]);
        assert!(scaled.iter().sum::<u64>() <= SLOTS_MAX + 3);
        assert_eq!(scaled[1], 1);
    }

    proptest! {
        #[test]
        fn the_classes_change_nothing(weights in prop::collection::vec(1u64..12, 1..20)) {
            prop_assert_eq!(smooth_round(&weights).to_vec(), textbook(&weights));
        }
    }
}
