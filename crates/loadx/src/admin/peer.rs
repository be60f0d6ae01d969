//! The program at the other end of a connection of the admin API.

use std::fmt;
use std::net::SocketAddr;

/// The other end of a connection of the admin API.
#[derive(Copy, Clone, Debug)]
pub(super) enum Peer {
    /// A program on this machine, by the user id that the system tells.
    Unix(Option<u32>),
    /// A program that had to send the token.
    Tcp(SocketAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Unix(Some(uid)) => write!(f, "user {uid}, admin socket"),
            Peer::Unix(None) => f.write_str("admin socket"),
            Peer::Tcp(address) => write!(f, "{address}, admin API"),
        }
    }
}
