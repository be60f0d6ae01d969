//! What the fields of a head say of this hop: where the body ends, whether the connection goes on, and which fields are
//! not passed on (RFC 9110, section 7.6.1).

use crate::fields::{Field, FieldSet, Known, list};
use crate::lines::{Lines, offset_in};
use crate::{Fault, Framing, Version};

/// Fields that Connection cannot declare hop-by-hop: the meaning of the message hangs on them, and a
/// stranger could have them removed on the way to a backend (RFC 9110, section 7.6.1).
const NEVER_HOP_BY_HOP: [&str; 21] = [
    "host",
    "date",
    "via",
    "forwarded",
    "max-forwards",
    "trailer",
    "content-length",
    "content-type",
    "content-encoding",
    "content-range",
    "transfer-encoding",
    "authorization",
    "cookie",
    "set-cookie",
    "cache-control",
    "expect",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

/// What Connection says.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct ConnectionOptions {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Whether it names other fields.
    names_fields: bool,
}

impl ConnectionOptions {
    pub(crate) fn add(&mut self, value: &[u8]) {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.names_fields = true;
            }
        }
    }

    /// Whether the connection stays open after this message (RFC 9112, section 9.3).
    pub(crate) fn persistent(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// Drops the fields that Connection names.
    pub(crate) fn drop_named(self, lines: &impl Lines, dropped: &mut FieldSet) {
        if !self.names_fields {
            return;
        }
        for index in 0..lines.count() {
            let name = lines.name(index);
            if NEVER_HOP_BY_HOP.iter().any(|kept| name.eq_ignore_ascii_case(kept.as_bytes())) {
                continue;
            }
            let mut named = lines.of(Known::Connection).flat_map(list);
            if named.any(|option| option.eq_ignore_ascii_case(name)) {
                dropped.add(index);
            }
        }
    }
}

/// What Content-Length and Transfer-Encoding say.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct FramingFields {
    length: Option<u64>,
    chunked: bool,
}

impl FramingFields {
    /// RFC 9112, section 6.3; a repeated length is refused even when it is the same.
    pub(crate) fn add_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        let leading_zero = value.len() > 1 && value[0] == b'0';
        if value.is_empty() || leading_zero || !value.iter().all(u8::is_ascii_digit) {
            return Err(Fault::Framing("Content-Length is not a plain decimal number"));
        }
        let digits = value.iter().map(|digit| u64::from(digit - b'0'));
        let length = digits
            .into_iter()
            .try_fold(0u64, |length, digit| length.checked_mul(10)?.checked_add(digit))
            .ok_or(Fault::Framing("Content-Length is too large"))?;
        if self.length.replace(length).is_some() {
            return Err(Fault::Framing("Content-Length appears more than once"));
        }
        Ok(())
    }

    /// RFC 9112, section 6.1. Empty members, which a list may have elsewhere, are refused here: a reader
    /// that does not know them would not see the coding.
    pub(crate) fn add_coding(&mut self, value: &[u8]) -> Result<(), Fault> {
        for coding in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if coding.is_empty() {
                return Err(Fault::Framing("Transfer-Encoding has an empty member"));
            }
            if self.chunked {
                return Err(Fault::Framing("chunked is not the last transfer coding, or not the only one"));
            }
            if !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::TransferCoding);
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// How the body is framed; none when the fields do not say.
    pub(crate) fn framing(self, version: Version) -> Result<Option<Framing>, Fault> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Fault::Framing("both Transfer-Encoding and Content-Length are present")),
            (true, None) if version == Version::Http10 => Err(Fault::Framing("HTTP/1.0 has no Transfer-Encoding")),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, length) => Ok(length.map(Framing::Length)),
        }
    }
}

/// What the fields say of this hop: where the body ends, whether the connection goes on, and what is not
/// passed on.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Hop {
    pub(crate) framing: FramingFields,
    pub(crate) connection: ConnectionOptions,
    pub(crate) dropped: FieldSet,
    /// The place of a Content-Length with other space around its value than one before; dropped too, so that the
    /// line is written anew.
    pub(crate) respaced: Option<usize>,
    /// Whether Upgrade is there, for whatever protocols.
    pub(crate) names_protocols: bool,
}

impl Hop {
    /// Takes in the field at `index`.
    pub(crate) fn note(&mut self, known: Known, index: usize, field: &Field<'_>, head: &[u8]) -> Result<(), Fault> {
        let value = field.value;
        match known {
            Known::ContentLength => {
                self.framing.add_length(value)?;
                let value_start = offset_in(head, value);
                let has_one_space = value_start == offset_in(head, field.name.as_bytes()) + field.name.len() + 2
                    && head[value_start - 1] == b' '
                    && head[value_start + value.len()] == b'\r';
                if has_one_space {
                    return Ok(());
                }
                self.respaced = Some(index);
            }
            Known::TransferEncoding => self.framing.add_coding(value)?,
            Known::Connection => self.connection.add(value),
            Known::Upgrade => self.names_protocols = true,
            Known::HopByHop | Known::Te => {}
            _ => return Ok(()),
        }
        self.dropped.add(index);
        Ok(())
    }
}

/// The protocols that Upgrade names and that may be switched to through LoadX (RFC 9110, section 7.8).
///
/// Not those that carry further requests, which nobody here would look at any more: HTTP in another
/// version ("h2c" above all) and HTTP over TLS.
pub(crate) fn protocols(lines: &impl Lines) -> impl Iterator<Item = &[u8]> {
    lines.of(Known::Upgrade).flat_map(list).filter(|protocol| {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        let is_http =
            name.len() >= 2 && (name[..2].eq_ignore_ascii_case(b"h2") || name[..2].eq_ignore_ascii_case(b"h3"));
        !is_http && !name.eq_ignore_ascii_case(b"http") && !name.eq_ignore_ascii_case(b"tls")
    })
}
