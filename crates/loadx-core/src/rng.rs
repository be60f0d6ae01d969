//! Random numbers for the core: an argument that a seed can repeat.

use std::time::Duration;

/// A source of random bits. The caller of the core chooses the source.
pub trait Rng {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;

    /// A number in `0..bound`; 0 when `bound` is 0. The bias is below `bound` / 2^64.
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in `[0, 1)`.
    fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `span`, plus or minus up to a tenth, so that tasks that start together do not stay in step.
    fn jitter(&mut self, span: Duration) -> Duration {
        span.mul_f64(0.9 + 0.2 * self.unit())
    }
}

/// SplitMix64: small, fast, repeatable from its seed. Not for secrets.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        SplitMix64(seed)
    }
}

impl Rng for SplitMix64 {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        crate::stable_hash::mix(self.0)
    }
}
