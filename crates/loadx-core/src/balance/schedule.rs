//! The precomputed order in which weighted backends take turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest schedule, in slots (4 bytes each). When the sum of the weights, divided by their greatest common
/// divisor, is larger, the weights are scaled down; a share is then off by less than one slot.
const SLOTS_MAX: u64 = 1 << 18;

/// The number of turns taken by all workers, over all views of a cluster. Alone on its cache lines, because each
/// request writes it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Tickets(AtomicU64);

/// One round of turns, and the position of all workers in the round.
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

    /// Takes a turn: returns the slot and the index of its backend.
    ///
    /// # Panics
    /// When there are no backends; a view without backends does not choose.
    pub(super) fn next(&self) -> (usize, usize) {
        let ticket = self.tickets.0.fetch_add(1, Ordering::Relaxed);
        let slot = (ticket % self.slots.len() as u64) as usize;
        (slot, self.slots[slot] as usize)
    }

    /// The backends of the whole round, beginning at `slot`; each backend as often as its weight.
    pub(super) fn from(&self, slot: usize) -> impl Iterator<Item = usize> + '_ {
        super::around(slot, self.slots.len()).map(|slot| self.slots[slot] as usize)
    }
}

/// The weights divided by their greatest common divisor, scaled down if the round would be too long.
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

/// One round of the smooth weighted round robin of nginx: at every turn each backend gains its weight; the backend with
/// the most credit (the first of equals) is chosen and pays the sum of all weights.
///
/// Backends of the same weight differ only in whether they had their n-th turn, and have this turn in order. One credit
/// per distinct weight is therefore enough, and the cost of a turn is the number of distinct weights.
fn smooth_round(weights: &[u64]) -> Box<[u32]> {
    struct Class {
        weight: i64,
        members: Vec<u32>,
        next: usize,
        /// The credit of the member whose turn is next. The members that had this turn have less, by the sum of the
        /// weights.
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
            // All members of this weight had the turn, and have paid the same.
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

    /// The usual form of the rule, with one credit per backend.
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
    fn a_round_is_limited_and_every_backend_keeps_a_turn() {
        let scaled = reduced(&[1_000_000_007, 1, 999_999_937]);
        assert!(scaled.iter().sum::<u64>() <= SLOTS_MAX + 3);
        assert_eq!(scaled[1], 1);
    }

    proptest! {
        #[test]
        fn the_schedule_equals_the_textbook_schedule(weights in prop::collection::vec(1u64..12, 1..20)) {
            prop_assert_eq!(smooth_round(&weights).to_vec(), textbook(&weights));
        }
    }
}
