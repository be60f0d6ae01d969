//! The draws of one backend.
//!
//! A backend draws a uniform number for each slot. The numbers of a backend come in a known order: the ranks 0 to 65,536 are a
//! permutation of the slots, and the number of rank k lies between k / 65,537 and (k + 1) / 65,537. So each number is uniform, the
//! numbers of two backends are independent, and the least numbers of a backend are found without the others.
//!
//! The permutation is an affine function of an inverse modulo a prime (an inversive generator, Eichenauer and Lehn 1986), which has
//! no lattice structure, and which is computed as fast in the other direction.

use std::sync::LazyLock;

use crate::backend::Backend;
use crate::{BackendId, stable_hash};

/// The number of slots that clients hash to. A prime, so that no pattern in addresses coincides with a pattern in
/// slots, and that each number but 0 has an inverse; with three equal backends a share is off by less than 0.6 % (three
/// standard deviations).
pub(super) const SLOTS: usize = 65_537;

const PRIME: u64 = SLOTS as u64;

/// The inverse of each number modulo [`SLOTS`]; 0 for 0.
static INVERSES: LazyLock<Box<[u32]>> = LazyLock::new(|| {
    let mut inverses = vec![0, 1];
    for number in 2..PRIME {
        // From p = (p / n) n + p % n.
        let of_rest = u64::from(inverses[(PRIME % number) as usize]);
        inverses.push(((PRIME - PRIME / number) * of_rest % PRIME) as u32);
    }
    inverses.into()
});

/// A backend that draws for slots.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) struct Contender {
    pub(super) id: BackendId,
    seed: u64,
    pub(super) weight: f64,
    /// From a rank, before and after the inverse.
    before: Affine,
    after: Affine,
}

/// `factor x + offset`, modulo [`SLOTS`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Affine {
    /// From 1.
    factor: u32,
    offset: u32,
}

impl Affine {
    fn new(bits: u64) -> Self {
        Affine { factor: 1 + (bits % (PRIME - 1)) as u32, offset: (stable_hash::mix(bits) % PRIME) as u32 }
    }

    fn of(self, x: u64) -> u64 {
        (u64::from(self.factor) * x + u64::from(self.offset)) % PRIME
    }

    /// The x of this value.
    fn undo(self, value: u64) -> u64 {
        inverse(self.factor.into()) * (value + PRIME - u64::from(self.offset)) % PRIME
    }
}

fn inverse(number: u64) -> u64 {
    INVERSES[number as usize].into()
}

impl Contender {
    pub(super) fn new(backend: &Backend) -> Self {
        let seed = stable_hash::of_bytes(backend.spec.authority().to_ascii_lowercase().as_bytes());
        let bits = stable_hash::mix(seed);
        Contender {
            id: backend.id,
            seed,
            weight: f64::from(backend.weight()),
            before: Affine::new(bits),
            after: Affine::new(stable_hash::mix(!bits)),
        }
    }

    /// The slot of a rank.
    pub(super) fn slot_of(&self, rank: usize) -> usize {
        self.after.of(inverse(self.before.of(rank as u64))) as usize
    }

    /// The rank of a slot.
    pub(super) fn rank_of(&self, slot: usize) -> usize {
        self.before.undo(inverse(self.after.undo(slot as u64))) as usize
    }

    /// The draw for a slot; the least draw owns the slot. Exponentially distributed with the weight as rate, so that the chance to
    /// own a slot is in proportion to the weight.
    pub(super) fn draw(&self, slot: usize) -> f64 {
        self.draw_of(self.uniform(self.rank_of(slot)))
    }

    /// The draw of a rank, if it is below `best`. Since -ln(1 - u) > u, most comparisons need no logarithm.
    pub(super) fn draw_below(&self, rank: usize, best: f64) -> Option<f64> {
        let uniform = self.uniform(rank);
        if uniform >= best * self.weight {
            return None;
        }
        Some(self.draw_of(uniform)).filter(|draw| *draw < best)
    }

    /// Whether the draw of a rank may be below this. If not, the draws of later ranks are not either.
    pub(super) fn may_be_below(&self, rank: usize, most: f64) -> bool {
        (rank as f64) < most * self.weight * SLOTS as f64
    }

    fn draw_of(&self, uniform: f64) -> f64 {
        -(1.0 - uniform).ln() / self.weight
    }

    /// The number in `(0, 1)` of a rank.
    fn uniform(&self, rank: usize) -> f64 {
        let bits = stable_hash::mix(self.seed ^ stable_hash::mix(rank as u64));
        let part = ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        (rank as f64 + part) / SLOTS as f64
    }
}

#[cfg(test)]
mod tests {
    use crate::{Algorithm, BackendSpec, HealthPolicy};
    use crate::{Cluster, Ids, Time};

    use super::*;

    #[test]
    fn ranks_are_a_permutation_of_the_slots_in_the_order_of_the_draws() {
        let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
        cluster.update(Time::ZERO, vec![BackendSpec::new("10.0.0.1", 80)], &mut Ids::default());
        let contender = Contender::new(&cluster.view().backends()[0]);
        let mut is_taken = vec![false; SLOTS];
        let mut last = 0.0;
        for rank in 0..SLOTS {
            let slot = contender.slot_of(rank);
            assert!(!std::mem::replace(&mut is_taken[slot], true));
            assert_eq!(contender.rank_of(slot), rank);
            let draw = contender.draw(slot);
            assert!(draw > last && draw.is_finite());
            assert_eq!(contender.draw_below(rank, f64::INFINITY), Some(draw));
            last = draw;
        }
    }
}
