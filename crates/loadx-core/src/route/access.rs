//! Which clients a route serves.

use std::net::IpAddr;

use ipnet::IpNet;

/// Access by the address of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The networks that are served; empty means every network.
    pub allow: Vec<IpNet>,
    /// The networks that are not served, also when they are in `allow`.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Whether a client is served.
    pub fn permits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&client));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }
}
