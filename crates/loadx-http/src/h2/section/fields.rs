//! What holds for the fields of every message.

use std::ops::ControlFlow;

use super::{FIELD_OVERHEAD, SectionFault};

/// The fields of a section, as text in the notation of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Fields<'o> {
    pub(super) out: &'o mut Vec<u8>,
    /// The size so far (RFC 9113, section 6.5.2), in bytes.
    size: usize,
    size_max: usize,
    /// The first fault. The decoder goes on after a fault, because the table needs the whole section.
    fault: Option<SectionFault>,
}

impl<'o> Fields<'o> {
    pub(super) fn new(size_max: usize, out: &'o mut Vec<u8>) -> Self {
        Fields { out, size: 0, size_max, fault: None }
    }

    /// Counts a field. Tells whether the field must be looked at.
    pub(super) fn count(&mut self, name: &[u8], value: &[u8]) -> bool {
        self.size = self.size.saturating_add(name.len() + value.len() + FIELD_OVERHEAD);
        if self.size > self.size_max {
            self.fault.get_or_insert(SectionFault::TooLarge);
        }
        self.fault.is_none()
    }

    pub(super) fn malformed(&mut self, reason: &'static str) {
        self.fault.get_or_insert(SectionFault::Malformed(reason));
    }

    pub(super) fn fault(&self) -> Option<SectionFault> {
        self.fault
    }

    /// Whether the decoder goes on: a section far beyond the limit ends the connection, because reading the section would cost
    /// the sender little, and LoadX much.
    pub(super) fn flow(&self) -> ControlFlow<()> {
        const TIMES_MAX: usize = 4;
        match self.size > self.size_max.saturating_mul(TIMES_MAX) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Appends a field that is no pseudo-header field, if HTTP/2 allows the field.
    pub(super) fn put(&mut self, name: &[u8], value: &[u8]) {
        match fault_of(name, value) {
            Some(reason) => self.malformed(reason),
            None => put_line(name, value, self.out),
        }
    }
}

pub(super) fn put_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Why HTTP/2 does not allow a field, if so (RFC 9113, section 8.2).
pub(super) fn fault_of(name: &[u8], value: &[u8]) -> Option<&'static str> {
    if !is_name(name) {
        return Some("a field name is empty, or has a byte that field names do not have");
    }
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            return Some("a field is about one connection of HTTP/1.1");
        }
        b"te" if !value.eq_ignore_ascii_case(b"trailers") => {
            return Some("TE has something else than trailers");
        }
        _ => {}
    }
    (!is_value(value)).then_some("a field value has a forbidden byte, or begins or ends with a space")
}

/// Whether this is a field name in lower case (RFC 9110, section 5.6.2).
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| NAME_BYTES[usize::from(*byte)])
}

static NAME_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let is_mark = matches!(
            byte as u8,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        );
        bytes[byte] = is_mark || (byte as u8).is_ascii_lowercase() || (byte as u8).is_ascii_digit();
        byte += 1;
    }
    bytes
};

/// Whether this is a token (RFC 9110, section 5.6.2).
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| NAME_BYTES[usize::from(byte.to_ascii_lowercase())])
}

/// Whether this is a field value: no control bytes but HTAB, and no space at the ends.
fn is_value(value: &[u8]) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let is_forbidden = |byte: &u8| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f;
    !is_space(value.first()) && !is_space(value.last()) && !value.iter().any(is_forbidden)
}

/// Whether all bytes are visible ASCII characters, so that the text can stand in a start line.
pub(super) fn is_visible(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}
