//! The trailer section of a chunked body (RFC 9110, section 6.5).

use crate::BodyFault;
use crate::fields::reads_as;
use crate::limits::TRAILER_BYTES_MAX;

/// The trailer section as it is read, without what is not passed on.
#[derive(Debug, Default)]
pub(crate) struct Trailers {
    kept: Vec<u8>,
    /// Where the line that is being read begins in it.
    line: usize,
    /// How long the section is so far, with what of it is not passed on.
    section: usize,
}

impl Trailers {
    /// The field lines that may be passed on, each with its CR LF.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Takes in a byte of a line.
    pub(crate) fn push(&mut self, byte: u8) -> Result<(), BodyFault> {
        // This byte, the end of its line, and the empty line behind.
        if self.section + 1 + 2 + 2 > TRAILER_BYTES_MAX {
            return Err(BodyFault::Chunk("the trailer section is too large"));
        }
        self.section += 1;
        self.kept.push(byte);
        Ok(())
    }

    /// A line is whole: it must be a field, and is kept unless it would change what the message means
    /// (RFC 9110, section 6.5.1).
    pub(crate) fn end_line(&mut self) -> Result<(), BodyFault> {
        self.section += 2;
        // The empty line that ends a section for the parser; it does not stay.
        self.kept.extend_from_slice(b"\r\n\r\n");
        let mut slots = [httparse::EMPTY_HEADER; 1];
        let is_kept = match httparse::parse_headers(&self.kept[self.line..], &mut slots) {
            Ok(httparse::Status::Complete((_, [field]))) if !field.name.is_empty() => {
                !is_forbidden(field.name.as_bytes())
            }
            _ => return Err(BodyFault::Chunk("a trailer field is malformed")),
        };
        self.kept.truncate(if is_kept { self.kept.len() - 2 } else { self.line });
        self.line = self.kept.len();
        Ok(())
    }
}

/// Whether a field must not come after the content.
fn is_forbidden(name: &[u8]) -> bool {
    // Names with `_` for a dash are among them: servers that merge trailers take one for the other.
    let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|begin| reads_as(begin, prefix));
    // Conditions, and credentials of proxies.
    begins("if-") || begins("proxy-") || FORBIDDEN.iter().any(|known| reads_as(name, known))
}

/// They frame, route, authenticate or describe it.
const FORBIDDEN: [&str; 35] = [
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];
