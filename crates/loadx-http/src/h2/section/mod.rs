//! Field sections as messages: what RFC 9113, section 8, says of them.
//!
//! A section becomes text in the notation of HTTP/1.1, so that the parsers of HTTP/1.1 read the text, with all their rules, and
//! all that follows is the same for both versions. The rules here make sure that the text means what the section means: no byte
//! of a field can end its line, and fields that frame a message in HTTP/1.1 do not pass.

mod fields;
mod put;
mod request;
mod response;
mod trailers;

pub use put::{put_head, put_lines, put_request};
pub use request::{Asked, RequestKind, RequestMemory, RequestSection};
pub use response::ResponseSection;
pub use trailers::TrailerSection;

/// Why a section is no message. The stream ends, and the connection goes on (RFC 9113, section 8.1.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SectionFault {
    /// The section breaks the rules of HTTP/2.
    Malformed(&'static str),
    /// The section is larger than the limit. A server can still answer 431.
    TooLarge,
}

/// What a field takes beside its bytes, when the size of a section is counted (RFC 9113, section 6.5.2).
const FIELD_OVERHEAD: usize = 32;
