//! Who asks, reduced to what policies go by.

use std::net::IpAddr;

use crate::stable_hash;

/// Stands for a client: equal for requests that belong together.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The key of a client's address: the whole of an IPv4 address, also when it comes mapped into
    /// IPv6, and the first 64 bits of an IPv6 address, because one host changes the rest at will
    /// (RFC 8981).
    pub fn from_ip(ip: IpAddr) -> Self {
        Key(match ip.to_canonical() {
            IpAddr::V4(v4) => stable_hash::of_bytes(&v4.octets()),
            IpAddr::V6(v6) => stable_hash::of_bytes(&v6.octets()[..8]),
        })
    }

    pub(crate) fn hash(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ip: &str) -> Key {
        Key::from_ip(ip.parse().unwrap())
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
}
