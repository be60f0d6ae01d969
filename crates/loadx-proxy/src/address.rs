//! Finds the address of the client behind trusted proxies.

use std::net::IpAddr;

use ipnet::IpNet;
use loadx_http::RequestHead;

/// Whether one of `networks` contains `ip`.
fn is_in(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

/// The client's address, and whether the peer is trusted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientAddress {
    /// The nearest address that is not a trusted proxy.
    pub(crate) ip: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub(crate) peer_trusted: bool,
}

/// Finds the client behind `peer`. Reads X-Forwarded-For only if the peer is trusted, from the last entry back to the
/// first address that is not trusted.
pub(crate) fn client_address(request: &RequestHead, peer: IpAddr, trusted: &[IpNet]) -> ClientAddress {
    if trusted.is_empty() || !is_in(trusted, peer) {
        return ClientAddress { ip: peer, peer_trusted: false };
    }
    let mut ip = peer;
    for entry in request.forwarded_for() {
        let Some(named) = parse_entry(entry) else { break };
        ip = named;
        if !is_in(trusted, ip) {
            break;
        }
    }
    ClientAddress { ip, peer_trusted: true }
}

/// An entry of X-Forwarded-For: an address, in practice sometimes with a port.
fn parse_entry(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let ip = text.parse::<IpAddr>().ok().or_else(|| {
        let with_port = text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
        with_port.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
    });
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use loadx_http::Parsed;

    fn client(peer: &str, forwarded_for: &str) -> String {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "127.0.0.1/32"].map(|net| net.parse().unwrap()).to_vec();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{forwarded_for}\r\n");
        let Ok(Parsed::Complete(request, _)) = RequestHead::read(text.as_bytes()) else {
            panic!("the head is complete")
        };
        client_address(&request, peer.parse().unwrap(), &trusted).ip.to_string()
    }

    #[test]
    fn forwarded_for_of_an_untrusted_peer_is_ignored() {
        assert_eq!(client("192.0.2.1", "X-Forwarded-For: 1.1.1.1\r\n"), "192.0.2.1");
    }

    #[test]
    fn forwarded_for_of_a_trusted_peer_counts_back_to_the_first_untrusted_address() {
        assert_eq!(client("10.0.0.1", "X-Forwarded-For: 1.1.1.1\r\n"), "1.1.1.1");
        assert_eq!(client("10.0.0.1", "X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.2\r\n"), "1.1.1.1");
        assert_eq!(client("10.0.0.1", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.1.1.1:55\r\n"), "1.1.1.1");
        assert_eq!(client("10.0.0.1", "X-Forwarded-For: [2001:db8::1]\r\n"), "2001:db8::1");
        assert_eq!(client("10.0.0.1", "X-Forwarded-For: 1.1.1.1, unknown\r\n"), "10.0.0.1");
        assert_eq!(client("10.0.0.1", ""), "10.0.0.1");
    }
}
