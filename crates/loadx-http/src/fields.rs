//! Fields of a head: telling them apart, and passing them on as they came.

use std::mem::MaybeUninit;

use crate::limits::FIELDS_MAX;
use crate::{Fault, Framing, Version};

pub(crate) type Field<'b> = httparse::Header<'b>;

/// Room for the fields of one head, on the caller's stack.
#[derive(Debug)]
pub struct FieldSlots<'b>(pub(crate) [MaybeUninit<Field<'b>>; FIELDS_MAX]);

impl FieldSlots<'_> {
    /// Empty room.
    pub fn new() -> Self {
        FieldSlots([const { MaybeUninit::uninit() }; FIELDS_MAX])
    }
}

impl Default for FieldSlots<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// The fields that a gateway acts on; all others it only passes on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Connection,
    ContentLength,
    Date,
    Expect,
    Forwarded,
    Host,
    /// Keep-Alive, Proxy-Connection, HTTP2-Settings: meant for this hop alone (RFC 9110, section 7.6.1).
    HopByHop,
    MaxForwards,
    Te,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
}

impl Known {
    /// Most fields are told apart by the length of their name alone.
    pub(crate) fn of(name: &str) -> Option<Known> {
        let candidates: &[(&str, Known)] = match name.len() {
            2 => &[("te", Known::Te)],
            4 => &[("host", Known::Host), ("date", Known::Date)],
            6 => &[("expect", Known::Expect)],
            7 => &[("upgrade", Known::Upgrade)],
            9 => &[("forwarded", Known::Forwarded)],
            10 => &[("connection", Known::Connection), ("keep-alive", Known::HopByHop)],
            12 => &[("max-forwards", Known::MaxForwards)],
            14 => &[("content-length", Known::ContentLength), ("http2-settings", Known::HopByHop)],
            15 => &[("x-forwarded-for", Known::XForwardedFor)],
            16 => &[("x-forwarded-host", Known::XForwardedHost), ("proxy-connection", Known::HopByHop)],
            17 => &[("transfer-encoding", Known::TransferEncoding), ("x-forwarded-proto", Known::XForwardedProto)],
            _ => &[],
        };
        candidates.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, known)| *known)
    }
}

/// Fields that Connection cannot declare hop-by-hop: the meaning of the message hangs on them, and a
/// stranger could have them removed on the way to a backend (RFC 9110, section 7.6.1).
const NEVER_HOP_BY_HOP: [&str; 19] = [
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
    "x-forwarded-proto",
];

/// Which fields of a head are not passed on, a bit a field.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Dropped(u128);

const _: () = assert!(FIELDS_MAX <= u128::BITS as usize);

impl Dropped {
    pub(crate) fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    pub(crate) fn contains(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }
}

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
    pub(crate) fn drop_named(self, fields: &[Field<'_>], dropped: &mut Dropped) {
        if !self.names_fields {
            return;
        }
        for (index, field) in fields.iter().enumerate() {
            if NEVER_HOP_BY_HOP.iter().any(|name| field.name.eq_ignore_ascii_case(name)) {
                continue;
            }
            let connections = fields.iter().filter(|field| Known::of(field.name) == Some(Known::Connection));
            if connections
                .flat_map(|field| list(field.value))
                .any(|name| name.eq_ignore_ascii_case(field.name.as_bytes()))
            {
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
        let digits = std::str::from_utf8(value).map_err(|_| Fault::Framing("Content-Length is not text"))?;
        let length = digits.parse().map_err(|_| Fault::Framing("Content-Length is too large"))?;
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
    pub(crate) dropped: Dropped,
    /// Whether Upgrade is there, for whatever protocols.
    pub(crate) names_protocols: bool,
}

impl Hop {
    /// Takes in the field at `index`.
    pub(crate) fn note(&mut self, known: Known, index: usize, value: &[u8]) -> Result<(), Fault> {
        match known {
            Known::ContentLength => return self.framing.add_length(value),
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

/// The members of a comma-separated list (RFC 9110, section 5.6.1), empty ones left out.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// The protocols that Upgrade names and that may be switched to through LoadX (RFC 9110, section 7.8).
///
/// Not those that carry further requests, which nobody here would look at any more: HTTP in another
/// version ("h2c" above all) and HTTP over TLS.
pub(crate) fn protocols<'b>(fields: &[Field<'b>]) -> impl Iterator<Item = &'b [u8]> {
    let lines = fields.iter().filter(|field| Known::of(field.name) == Some(Known::Upgrade)).map(|field| field.value);
    lines.flat_map(list).filter(|protocol| {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        let is_http =
            name.len() >= 2 && (name[..2].eq_ignore_ascii_case(b"h2") || name[..2].eq_ignore_ascii_case(b"h3"));
        !is_http && !name.eq_ignore_ascii_case(b"http") && !name.eq_ignore_ascii_case(b"tls")
    })
}

/// Writes a field whose value is a list.
pub(crate) fn put_list<'v>(out: &mut Vec<u8>, name: &str, members: impl Iterator<Item = &'v [u8]>) {
    out.extend_from_slice(name.as_bytes());
    for (index, member) in members.enumerate() {
        out.extend_from_slice(if index == 0 { b": " } else { b", " });
        out.extend_from_slice(member);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a field.
pub(crate) fn put(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes who passed the message on (RFC 9110, section 7.6.3).
pub(crate) fn put_via(out: &mut Vec<u8>, received: Version, pseudonym: &str) {
    let version = if received == Version::Http11 { b"1.1 " } else { b"1.0 " };
    out.extend_from_slice(b"Via: ");
    out.extend_from_slice(version);
    out.extend_from_slice(pseudonym.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Where `part` begins within `whole`, of which it is a slice.
pub(crate) fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - whole.as_ptr() as usize
}

/// Copies the field lines of `head` that are not dropped, as they came: order, case and value bytes.
/// Neighbours are copied in one run.
pub(crate) fn copy_kept(head: &[u8], fields: &[Field<'_>], dropped: Dropped, out: &mut Vec<u8>) {
    let line_start = |index: usize| match fields.get(index) {
        Some(field) => offset_in(head, field.name.as_bytes()),
        // The empty line that ends the head.
        None => head.len() - 2,
    };
    let mut run_start = line_start(0);
    for index in 0..fields.len() {
        if dropped.contains(index) {
            out.extend_from_slice(&head[run_start..line_start(index)]);
            run_start = line_start(index + 1);
        }
    }
    out.extend_from_slice(&head[run_start..head.len() - 2]);
}

/// Checks what the parser lets pass: every line must end in CR LF (RFC 9112, section 2.2 would allow
/// a bare LF; a backend that reads lines differently would see other fields).
pub(crate) fn check_line_ends(head: &[u8]) -> Result<(), Fault> {
    let bare = memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r');
    if bare { Err(Fault::Malformed("a line ends in a bare LF")) } else { Ok(()) }
}

/// How many bytes of line ends stand before the head; one empty line is tolerated (RFC 9112, section 2.2).
pub(crate) fn leading_empty_line(bytes: &[u8]) -> Result<usize, Fault> {
    let lead = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    match bytes.get(lead) {
        Some(b'\r' | b'\n') if lead > 0 || bytes.len() > 1 => {
            Err(Fault::Malformed("the message begins with empty lines"))
        }
        _ => Ok(lead),
    }
}

/// Whether all of `name` is a token (RFC 9110, section 5.6.2) is checked by the parser; emptiness is not.
pub(crate) fn check_names(fields: &[Field<'_>]) -> Result<(), Fault> {
    if fields.iter().any(|field| field.name.is_empty()) {
        return Err(Fault::Malformed("a field has no name"));
    }
    Ok(())
}
