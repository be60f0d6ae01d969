//! TLS on the connections of clients and backends.
//!
//! `session` calls rustls, without I/O. `stream` is a [`Stream`](crate::net::Stream) inside TLS; `handshake` makes one.
//!
//! `server` has TLS of a listener: `choice` finds the certificate for a client, `clients` checks the certificates of clients,
//! with the lists of `revoked`, and `accept` makes the handshakes. `client` has TLS of a cluster, and `connect` makes the
//! handshakes. `identity` has certificates with their keys, and `identities` finds them by name.

/// The beginning of the paths for which an authority asks over HTTP (RFC 8555, section 8.3).
pub(crate) const CHALLENGE_PATH: &[u8] = b"/.well-known/acme-challenge/";

mod accept;
mod backends;
mod choice;
mod client;
mod clients;
mod connect;
mod error;
mod explain;
mod facts;
mod files;
mod handshake;
mod identities;
mod identity;
mod listeners;
mod revoked;
mod roots;
mod server;
mod session;
mod stream;

pub(crate) use accept::accept;
pub(crate) use backends::TlsBackends;
pub use choice::Reason;
pub use client::client_config;
pub(crate) use connect::connect;
pub use error::TlsError;
pub use explain::{BackendShown, FileFaults, explain_backend, explain_listener, faults_of_files};
pub(crate) use facts::{TlsFacts, is_checked_for};
pub(crate) use files::Stamp;
pub(crate) use handshake::{HandshakeFault, Handshakes};
pub use identities::{Challenges, Elsewhere, Keyring};
pub use identity::{Identity, IdentityError, Summary};
pub(crate) use listeners::TlsListeners;
pub(crate) use server::{Automatic, Read, ServerTls};
pub(crate) use stream::TlsStream;
