//! A hash with the same values in every LoadX of every version: the backend of a client must not depend on the build,
//! the process or the machine. Not safe against chosen keys: the keys are addresses and names.

/// Hashes `bytes` (FNV-1a, then [`mix`] to spread its weak low bits).
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    let mut hash = Running::default();
    bytes.iter().for_each(|byte| hash.add(*byte));
    hash.finish()
}

/// A hash that takes bytes one by one and can be read at any point.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Running(u64);

impl Default for Running {
    fn default() -> Self {
        Running(0xcbf2_9ce4_8422_2325)
    }
}

impl Running {
    /// Adds one byte.
    pub(crate) fn add(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    /// Adds a number.
    pub(crate) fn mix(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    /// The hash of the bytes and numbers so far.
    pub(crate) fn finish(self) -> u64 {
        mix(self.0)
    }
}

/// The finalizer of SplitMix64: each input bit flips each output bit about half the time.
pub(crate) const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These values must not change: a change would move every client of every user.
    #[test]
    fn the_values_never_change() {
        assert_eq!(of_bytes(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(of_bytes(b"localhost:8001"), 0xd890_aa9e_2c5b_b0fe);
    }
}
