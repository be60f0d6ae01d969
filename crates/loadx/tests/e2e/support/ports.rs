//! Ports on which nothing listens, for programs that a test starts later.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::eventually;

/// Below the ports that Linux gives to outgoing connections and to listeners without a port of their own: otherwise another test
/// could have the port before the program listens.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// The first of `count` consecutive ports on which nothing listens.
pub(crate) fn unused_ports(count: u16) -> u16 {
    let is_unused = |port: u16| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
    };
    eventually("unused ports in a row", || {
        let drawn = RandomState::new().hash_one(count) % u64::from(COUNT - count);
        let first = FIRST + drawn as u16;
        (first..first + count).all(is_unused).then_some(first)
    })
}

/// An address on loopback at which nothing listens.
pub(crate) fn unused_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, unused_ports(1)))
}
