//! A hash that every LoadX computes alike, for ever: who serves a client must not depend on the
//! build, the process or the machine. Not for adversaries: keys here are addresses and names.

/// Hashes `bytes` (FNV-1a, then [`mix`] to spread its weak low bits).
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    mix(fnv)
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

    /// The values are a promise: another value here moves every client of every user.
    #[test]
    fn the_values_never_change() {
        assert_eq!(of_bytes(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(of_bytes(b"localhost:8001"), 0xd890_aa9e_2c5b_b0fe);
    }
}
