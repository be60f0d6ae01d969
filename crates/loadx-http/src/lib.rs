//! HTTP/1.1 as pure functions over bytes: parsing a message, the parts that a gateway may forward, and encoding them; and HTTP/2 as
//! a state machine that reads and writes the same messages ([`h2`]). No I/O.
//!
//! The rules are those of RFC 9110, RFC 9112 and RFC 9113, applied strictly: where two parsers could read a message differently,
//! LoadX refuses the message ([`Fault`]) and does not guess.

#![forbid(unsafe_code)]

mod body;
mod fault;
mod fields;
mod grammar;
pub mod grpc;
pub mod h2;
mod hop;
pub mod limits;
mod lines;
mod reason;
mod request;
mod response;
mod trace;
mod trailers;

pub use body::{BodyDecoder, ChunkPrefix, Decoded, Framing, LAST_CHUNK};
pub use fault::{BodyFault, Fault};
pub use fields::FieldSlots;
pub use reason::reason_phrase;
pub use request::{Changes, Forwarding, RequestHead, parse_request, put_ip};
pub use response::{Answering, Response, parse_response};
pub use trace::TraceParent;
pub use trailers::forwarded_trailers;

/// The result of reading a head.
#[derive(Debug)]
pub enum Parsed<T> {
    /// The head, and its length in bytes.
    Complete(T, usize),
    /// The head is incomplete: read more bytes.
    Partial,
}

/// A version of HTTP.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0 (RFC 1945).
    Http10,
    /// HTTP/1.1 (RFC 9112).
    Http11,
    /// HTTP/2 (RFC 9113).
    Http2,
}
