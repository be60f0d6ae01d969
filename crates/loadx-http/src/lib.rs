//! HTTP/1.1 as pure functions over bytes: what a message says, what of it a gateway may pass on, and
//! how that is written. No I/O.
//!
//! The rules are those of RFC 9110 and RFC 9112, read strictly: where two readers could take a
//! message differently, it is refused ([`Fault`]) and not guessed at.

#![forbid(unsafe_code)]

mod body;
mod fault;
mod fields;
mod hop;
pub mod limits;
mod lines;
mod request;
mod response;
mod trailers;

pub use body::{BodyDecoder, ChunkPrefix, Decoded, Framing, LAST_CHUNK};
pub use fault::{BodyFault, Fault};
pub use fields::FieldSlots;
pub use request::{Changes, Forwarding, RequestHead, parse_request, put_ip};
pub use response::{Answering, Response, parse_response};

/// What came of reading a head.
#[derive(Debug)]
pub enum Parsed<T> {
    /// The head, and how many bytes it took.
    Complete(T, usize),
    /// The head goes on beyond the bytes that are here.
    Partial,
}

/// The minor version of HTTP/1.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
}
