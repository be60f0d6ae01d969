//! The trailer section of a message (RFC 9110, section 6.5).

use std::sync::Arc;

use crate::BodyFault;
use crate::fields::{reads_alike, reads_as};
use crate::grammar::field_line;
use crate::limits::TRAILER_BYTES_MAX;
use crate::limits::h2::SECTION_BYTES_MAX;

/// The trailer section while LoadX reads it, without the fields that LoadX removes.
#[derive(Debug)]
pub(crate) struct Trailers {
    /// The largest section, in bytes.
    most: usize,
    kept: Vec<u8>,
    /// The offset of the current line in `kept`, in bytes.
    line: usize,
    /// The length of the section so far in bytes, including removed fields.
    section: usize,
    /// Further fields that LoadX removes.
    removed: Vec<Arc<str>>,
}

impl Default for Trailers {
    fn default() -> Self {
        Trailers::up_to(TRAILER_BYTES_MAX)
    }
}

impl Trailers {
    fn up_to(most: usize) -> Self {
        Trailers { most, kept: Vec::new(), line: 0, section: 0, removed: Vec::new() }
    }

    /// Removes the fields of these names too, and the fields that a server may read as these.
    pub(crate) fn remove(&mut self, names: &[Arc<str>]) {
        self.removed = names.to_vec();
    }

    /// The field lines that LoadX forwards, each with its CR LF.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Adds a byte of a line.
    pub(crate) fn push(&mut self, byte: u8) -> Result<(), BodyFault> {
        // This byte, the end of its line, and the empty line after it.
        if self.section + 1 + 2 + 2 > self.most {
            return Err(BodyFault::Chunk("the trailer section is too large"));
        }
        self.section += 1;
        self.kept.push(byte);
        Ok(())
    }

    /// Ends a line: the line must be a field. Keeps the field unless it would change the meaning of the message (RFC
    /// 9110, section 6.5.1).
    pub(crate) fn end_line(&mut self) -> Result<(), BodyFault> {
        self.section += 2;
        self.kept.extend_from_slice(b"\r\n");
        let is_kept = match field_line(&self.kept, self.line) {
            Ok((line, end)) if end == self.kept.len() => {
                let name = line.name.in_bytes(&self.kept);
                !is_forbidden(name) && !self.removed.iter().any(|removed| reads_alike(name, removed.as_bytes()))
            }
            _ => return Err(BodyFault::Chunk("a trailer field is malformed")),
        };
        if !is_kept {
            self.kept.truncate(self.line);
        }
        self.line = self.kept.len();
        Ok(())
    }
}

/// The lines of a trailer section of HTTP/2 that LoadX forwards. `lines`: all lines, each with its CR LF. `removed`: further names of fields
/// that LoadX removes.
///
/// # Errors
/// When the section is too large, or a line is no field.
pub fn forwarded_trailers(lines: &[u8], removed: &[Arc<str>]) -> Result<Vec<u8>, BodyFault> {
    let mut trailers = Trailers::up_to(SECTION_BYTES_MAX);
    trailers.remove(removed);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        line.strip_suffix(b"\r\n").unwrap_or(line).iter().try_for_each(|byte| trailers.push(*byte))?;
        trailers.end_line()?;
    }
    Ok(trailers.kept)
}

/// Whether a field must not come after the content.
fn is_forbidden(name: &[u8]) -> bool {
    // Includes names with `_` instead of a dash: servers that merge trailers confuse the two.
    let begins = |prefix: &str| name.get(..prefix.len()).is_some_and(|begin| reads_as(begin, prefix));
    // Conditional fields, and credentials for proxies.
    begins("if-") || begins("proxy-") || FORBIDDEN.iter().any(|known| reads_as(name, known))
}

/// The fields that frame, route, authenticate or describe the content.
const FORBIDDEN: [&str; 38] = [
    "age",
    "authorization",
    "cache-control",
    "client-cert",
    "client-cert-chain",
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
    "x-loadx-explain",
    "x-real-ip",
];
