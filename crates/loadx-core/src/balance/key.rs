//! A client's address, reduced to the number that policies use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::stable_hash;

/// Stands for a client: equal for requests that belong together.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

/// How much of a client's address makes its key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct KeyPrefixes {
    /// Bits of an IPv4 address, 1 to 32. Default 32.
    pub ipv4: u8,
    /// Bits of an IPv6 address, 1 to 128. Default 64, because one host changes the rest at will (RFC 8981).
    pub ipv6: u8,
}

impl Default for KeyPrefixes {
    fn default() -> Self {
        KeyPrefixes { ipv4: 32, ipv6: 64 }
    }
}

impl Key {
    /// The key of a client's address. An IPv4 address that is mapped into IPv6 counts as the IPv4 address.
    pub fn from_ip(ip: IpAddr, prefixes: KeyPrefixes) -> Self {
        Key(match ip.to_canonical() {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefixes.ipv4.min(32))).unwrap_or(0);
                stable_hash::of_bytes(&Ipv4Addr::from(u32::from(v4) & mask).octets())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefixes.ipv6.min(128))).unwrap_or(0);
                let octets = Ipv6Addr::from(u128::from(v6) & mask).octets();
                // Only the half that counts by default, so that the default keys never change.
                stable_hash::of_bytes(if prefixes.ipv6 <= 64 { &octets[..8] } else { &octets })
            }
        })
    }

    /// The key as 64 bits that are spread evenly.
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
    fn a_mapped_address_is_the_address() {
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
