//! Where the connection of a client comes from.

use std::net::{IpAddr, SocketAddr};

/// The addresses of a client's connection.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The address of the client. An IPv4 address in an IPv6 address is an IPv4 address here.
    pub(crate) ip: IpAddr,
    port: u16,
    /// The address to which the client connected, if another load balancer told the address. Boxed, because most connections
    /// have none.
    destination: Option<Box<SocketAddr>>,
}

impl Origin {
    /// A client that connected to LoadX itself.
    pub(crate) fn of(peer: SocketAddr) -> Self {
        Origin { ip: peer.ip().to_canonical(), port: peer.port(), destination: None }
    }

    /// A client that connected to another load balancer.
    pub(crate) fn told(source: SocketAddr, destination: SocketAddr) -> Self {
        Origin { destination: Some(Box::new(destination)), ..Origin::of(source) }
    }

    /// Address and port of the client.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// The address to which the client connected, if another load balancer told the address.
    pub(crate) fn destination(&self) -> Option<SocketAddr> {
        self.destination.as_deref().copied()
    }
}
