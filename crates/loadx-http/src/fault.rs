//! The faults for which LoadX refuses a message.

use std::fmt;

/// Why LoadX refuses a message. A request with a fault never reaches a backend; a response with a fault never reaches a
/// client.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The head breaks the grammar.
    Malformed(&'static str),
    /// The size of the head, or the number of its fields, is over the limit.
    HeadTooLarge,
    /// The request target is over the limit.
    TargetTooLong,
    /// Not a version of HTTP/1.
    Version,
    /// The end of the body is ambiguous.
    Framing(&'static str),
    /// A transfer coding other than chunked.
    TransferCoding,
    /// A method that a reverse proxy does not support.
    Method,
    /// The content is larger than the limit.
    ContentTooLarge,
}

impl Fault {
    /// The status of the error response for a request with this fault (RFC 9110, section 15).
    pub fn status(self) -> u16 {
        match self {
            Fault::Malformed(_) | Fault::Framing(_) => 400,
            Fault::HeadTooLarge => 431,
            Fault::TargetTooLong => 414,
            Fault::Version => 505,
            Fault::TransferCoding => 501,
            Fault::Method => 501,
            Fault::ContentTooLarge => 413,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Malformed(what) | Fault::Framing(what) => f.write_str(what),
            Fault::HeadTooLarge => f.write_str("the head is too large"),
            Fault::TargetTooLong => f.write_str("the request target is too long"),
            Fault::Version => f.write_str("the version is not HTTP/1.0 or HTTP/1.1"),
            Fault::TransferCoding => f.write_str("LoadX supports only the transfer coding chunked"),
            Fault::Method => f.write_str("LoadX does not support this method"),
            Fault::ContentTooLarge => f.write_str("the request body is larger than the limit"),
        }
    }
}

/// Why a decoder cannot continue to read a body.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// The chunked coding is malformed.
    Chunk(&'static str),
    /// The connection ended before the body did.
    Incomplete,
    /// The content is larger than the limit.
    TooLarge,
}

impl BodyFault {
    /// The fault, as text for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            BodyFault::Chunk(what) => what,
            BodyFault::Incomplete => "the body is truncated",
            BodyFault::TooLarge => "the body is larger than the limit",
        }
    }
}
