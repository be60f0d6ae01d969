//! Maps from backends.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use loadx_core::BackendId;

/// A fixed hasher gives the same order in every run, so that a simulation can be replayed. No client chooses the keys.
pub(super) type ByBackend<T> = HashMap<BackendId, T, BuildHasherDefault<NumberHasher>>;

/// Spreads the small, dense numbers of backends.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // Multiples of the golden ratio spread evenly over the upper bits; the hash table uses upper and lower bits.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
