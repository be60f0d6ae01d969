//! The key of a client's address: the number that algorithms use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::stable_hash;

/// The key of a client, equal for all requests that must have the same backend.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

/// The number of bits of a client's address that make the key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefixes {
    /// Bits of an IPv4 address, 1 to 32. Default 32.
    pub ipv4: u8,
    /// Bits of an IPv6 address, 1 to 128. Default 64, because a host can change the other bits (RFC 8981).
    pub ipv6: u8,
}

impl Default for KeyPrefixes {
    fn default() -> Self {
        KeyPrefixes { ipv4: 32, ipv6: 64 }
    }
}

impl Key {
    /// The key of a client's address. An IPv4-mapped IPv6 address has the key of the IPv4 address.
    pub fn from_ip(ip: IpAddr, prefixes: KeyPrefixes) -> Self {
        Key(match ip.to_canonical() {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefixes.ipv4.min(32))).unwrap_or(0);
                stable_hash::of_bytes(&Ipv4Addr::from(u32::from(v4) & mask).octets())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefixes.ipv6.min(128))).unwrap_or(0);
                let octets = Ipv6Addr::from(u128::from(v6) & mask).octets();
                // Hashes only the first half where the default prefix allows, so that the keys of the default prefix
                // never change.
                stable_hash::of_bytes(if prefixes.ipv6 <= 64 { &octets[..8] } else { &octets })
            }
        })
    }

    /// The key of a client that a field of the request names.
    pub fn from_bytes(name: &[u8]) -> Self {
        Key(stable_hash::of_bytes(name))
    }

    /// The key as 64 evenly distributed bits.
    pub fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn hash(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ip: &str) -> Key {
        Key::from_ip(ip.parse().unwrap(), KeyPrefixes::default())
    }

    #[test]
    fn an_ipv4_mapped_address_has_the_key_of_the_ipv4_address() {
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn an_ipv6_host_keeps_its_key_when_its_privacy_address_changes() {
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2:ffff::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }

    #[test]
    fn shorter_prefixes_keep_neighbours_together() {
        let key = |ip: &str| Key::from_ip(ip.parse().unwrap(), KeyPrefixes { ipv4: 24, ipv6: 48 });
        assert_eq!(key("192.0.2.1"), key("192.0.2.200"));
        assert_ne!(key("192.0.2.1"), key("192.0.3.1"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("2001:db8:1::1"), key("2001:db8:2::1"));
    }
}
