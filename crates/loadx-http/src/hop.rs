//! The fields of a head that concern this hop: framing of the body, persistence of the connection, and fields that
//! LoadX does not forward (RFC 9110, section 7.6.1).

use crate::fields::{FieldSet, Known, list};
use crate::lines::{Line, Lines};
use crate::{Fault, Framing, Version};

/// Fields that Connection cannot declare hop-by-hop: the meaning of the message depends on them, and an untrusted
/// client could have them removed on the way to a backend (RFC 9110, section 7.6.1).
const NEVER_HOP_BY_HOP: [&str; 23] = [
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
    "client-cert",
    "client-cert-chain",
];

/// The options of Connection.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct ConnectionOptions {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Whether Connection names other fields.
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

    /// Adds the fields that Connection names to `dropped`.
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

/// The framing by Content-Length and Transfer-Encoding.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct FramingFields {
    length: Option<u64>,
    chunked: bool,
}

impl FramingFields {
    /// RFC 9112, section 6.3; LoadX refuses a repeated length even when both values are equal.
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

    /// RFC 9112, section 6.1. LoadX refuses empty members here, although other lists may have empty members: a parser
    /// that does not accept empty members would not see the coding.
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

    /// The framing of the body; `None` without Content-Length and Transfer-Encoding.
    pub(crate) fn framing(self, version: Version) -> Result<Option<Framing>, Fault> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Fault::Framing("both Transfer-Encoding and Content-Length are present")),
            (true, None) if version == Version::Http10 => Err(Fault::Framing("HTTP/1.0 has no Transfer-Encoding")),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, length) => Ok(length.map(Framing::Length)),
        }
    }
}

/// The result of scanning the fields for this hop: framing, persistence, and the fields that LoadX does not forward.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Hop {
    pub(crate) framing: FramingFields,
    pub(crate) connection: ConnectionOptions,
    pub(crate) dropped: FieldSet,
    /// The position of a Content-Length without exactly one space before its value; also in `dropped`, so that LoadX
    /// writes the line anew.
    pub(crate) respaced: Option<usize>,
    /// Whether the head has Upgrade, for any protocol.
    pub(crate) names_protocols: bool,
}

impl Hop {
    /// Applies the field at `index`, a line of `head`.
    pub(crate) fn note(&mut self, known: Known, index: usize, line: &Line, head: &[u8]) -> Result<(), Fault> {
        let value = line.value.in_bytes(head);
        match known {
            Known::ContentLength => {
                self.framing.add_length(value)?;
                let (value_start, value_end) = (line.value.start as usize, line.value.end as usize);
                let has_one_space = value_start == line.name.end as usize + 2
                    && head[value_start - 1] == b' '
                    && head[value_end] == b'\r';
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

/// The protocols in Upgrade that LoadX tunnels (RFC 9110, section 7.8).
///
/// Without the protocols that carry further requests, because LoadX would not see these requests: other versions of
/// HTTP (such as "h2c"), and HTTP over TLS.
pub(crate) fn protocols(lines: &impl Lines) -> impl Iterator<Item = &[u8]> {
    lines.of(Known::Upgrade).flat_map(list).filter(|protocol| {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        let is_http =
            name.len() >= 2 && (name[..2].eq_ignore_ascii_case(b"h2") || name[..2].eq_ignore_ascii_case(b"h3"));
        !is_http && !name.eq_ignore_ascii_case(b"http") && !name.eq_ignore_ascii_case(b"tls")
    })
}
