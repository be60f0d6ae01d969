//! The clients that a route serves.

use std::net::IpAddr;

use ipnet::IpNet;

/// The access rules of a route, by the address of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The networks that the route serves; an empty list means every network.
    pub allow: Vec<IpNet>,
    /// The networks that the route does not serve, even if they are in `allow`.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Whether the route serves a client.
    pub fn permits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&client));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }
}
