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
    XRequestId,
}

impl Known {
    /// Most fields are told apart by the length of their name and its first letter alone.
    /// The compiler would call this otherwise, which costs each field of a head more than the look itself.
    #[inline(always)]
    pub(crate) fn of(name: &[u8]) -> Option<Known> {
        let first = name.first()? | 0x20;
        let (is_it, known) = match (name.len(), first) {
            (2, b't') => (is_token(name, b"te"), Known::Te),
            (4, b'h') => (is_token(name, b"host"), Known::Host),
            (4, b'd') => (is_token(name, b"date"), Known::Date),
            (6, b'e') => (is_token(name, b"expect"), Known::Expect),
            (7, b'u') => (is_token(name, b"upgrade"), Known::Upgrade),
            (9, b'f') => (is_token(name, b"forwarded"), Known::Forwarded),
            (10, b'c') => (is_token(name, b"connection"), Known::Connection),
            (10, b'k') => (is_token(name, b"keep-alive"), Known::HopByHop),
            (12, b'x') => (is_token(name, b"x-request-id"), Known::XRequestId),
            (12, b'm') => (is_token(name, b"max-forwards"), Known::MaxForwards),
            (14, b'c') => (is_token(name, b"content-length"), Known::ContentLength),
            (14, b'h') => (is_token(name, b"http2-settings"), Known::HopByHop),
            (15, b'x') => (is_token(name, b"x-forwarded-for"), Known::XForwardedFor),
            (16, b'x') => (is_token(name, b"x-forwarded-host"), Known::XForwardedHost),
            (16, b'p') => (is_token(name, b"proxy-connection"), Known::HopByHop),
            (17, b't') => (is_token(name, b"transfer-encoding"), Known::TransferEncoding),
            (17, b'x') => (is_token(name, b"x-forwarded-proto"), Known::XForwardedProto),
            _ => return None,
        };
        is_it.then_some(known)
    }
}

/// Whether `name`, a token, is `lower`, whatever the case of its letters. All of it is compared at once: of the
/// bytes that tokens are made of, only letters have a twin that differs by this bit.
fn is_token<const LENGTH: usize>(name: &[u8], lower: &[u8; LENGTH]) -> bool {
    let Ok(name) = <&[u8; LENGTH]>::try_from(name) else { return false };
    let differences =
        name.iter().zip(lower).fold(0, |differences, (byte, lower)| differences | ((byte | 0x20) ^ lower));
    differences == 0
}

/// The names with a dash in them that a backend may believe: LoadX writes, replaces or removes such a field, reads
/// the framing in it, or leaves its meaning to the proxies on the way.
pub(crate) const TRUSTED: [&str; 16] = [
    "content-length",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "proxy-status",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// The first letters of [`TRUSTED`], and the lengths, a bit each.
const TRUSTED_FILTER: (u32, u32) = {
    let (mut letters, mut lengths, mut index) = (0, 0, 0);
    while index < TRUSTED.len() {
        letters |= 1 << (TRUSTED[index].as_bytes()[0] & 31);
        lengths |= 1 << TRUSTED[index].len();
        index += 1;
    }
    (letters, lengths)
};

/// Whether servers may take `name` for a trusted one, although the two differ. CGI turns the dashes of names into
/// `_` (RFC 3875, section 4.1.18); some servers turn all bytes into `_` that are no letter or digit.
#[inline]
pub(crate) fn is_lookalike(name: &str) -> bool {
    let name = name.as_bytes();
    // Each field of each request comes here: most are told apart by a bit of the first letter.
    let has_bit = |set: u32, place: usize| set & 1u32.wrapping_shl(place as u32) != 0;
    has_bit(TRUSTED_FILTER.0, usize::from(name[0])) && has_bit(TRUSTED_FILTER.1, name.len()) && reads_as_trusted(name)
}

#[cold]
fn reads_as_trusted(name: &[u8]) -> bool {
    let is_odd = |byte: &u8| *byte != b'-' && !byte.is_ascii_alphanumeric();
    name.iter().any(is_odd) && TRUSTED.iter().any(|trusted| reads_as(name, trusted))
}

/// Whether `name` is `known` for a server that takes all bytes that are no letter or digit for a dash.
pub(crate) fn reads_as(name: &[u8], known: &str) -> bool {
    let read = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == known.len() && name.iter().map(read).eq(known.bytes())
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

/// Some fields of a head, a bit a field; above all those that are not passed on.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct FieldSet(u128);

const _: () = assert!(FIELDS_MAX <= u128::BITS as usize);

impl FieldSet {
    pub(crate) fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    pub(crate) fn add_all(&mut self, others: FieldSet) {
        self.0 |= others.0;
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
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

/// The members of a comma-separated list (RFC 9110, section 5.6.1), empty ones left out.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
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

/// The field lines of a head, wherever they are kept.
pub(crate) trait Lines {
    /// How many there are.
    fn count(&self) -> usize;

    /// The head, from its first byte to the empty line.
    fn head(&self) -> &[u8];

    /// Where a line begins in the head.
    fn start(&self, index: usize) -> usize;

    fn name(&self, index: usize) -> &[u8];

    fn value(&self, index: usize) -> &[u8];

    fn known(&self, index: usize) -> Option<Known>;

    /// The values of the lines of one field.
    fn of(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        (0..self.count()).filter(move |index| self.known(*index) == Some(known)).map(|index| self.value(index))
    }
}

/// The field lines of a head in the buffer in which it came.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Received<'s, 'b> {
    pub(crate) head: &'b [u8],
    pub(crate) fields: &'s [Field<'b>],
}

impl Lines for Received<'_, '_> {
    fn count(&self) -> usize {
        self.fields.len()
    }

    fn head(&self) -> &[u8] {
        self.head
    }

    fn start(&self, index: usize) -> usize {
        offset_in(self.head, self.fields[index].name.as_bytes())
    }

    fn name(&self, index: usize) -> &[u8] {
        self.fields[index].name.as_bytes()
    }

    fn value(&self, index: usize) -> &[u8] {
        self.fields[index].value
    }

    fn known(&self, index: usize) -> Option<Known> {
        Known::of(self.name(index))
    }
}

/// Copies the field lines that are not dropped, as they came: order, case and value bytes. Neighbours are copied in
/// one run. The `respaced` line, which is among the dropped ones, gets one space before its value.
pub(crate) fn copy_kept(lines: &impl Lines, dropped: FieldSet, respaced: Option<usize>, out: &mut Vec<u8>) {
    if let Some(respaced) = respaced {
        return copy_respaced(lines, dropped, respaced, out);
    }
    let (head, count) = (lines.head(), lines.count());
    let mut run_start = line_start(lines, 0);
    if dropped.is_empty() {
        return out.extend_from_slice(&head[run_start..head.len() - 2]);
    }
    for index in 0..count {
        if dropped.contains(index) {
            out.extend_from_slice(&head[run_start..line_start(lines, index)]);
            run_start = line_start(lines, index + 1);
        }
    }
    out.extend_from_slice(&head[run_start..head.len() - 2]);
}

/// Apart from the usual way, which would take more instructions for each field.
#[cold]
fn copy_respaced(lines: &impl Lines, dropped: FieldSet, respaced: usize, out: &mut Vec<u8>) {
    for index in 0..lines.count() {
        if index == respaced {
            out.extend_from_slice(lines.name(index));
            out.extend_from_slice(b": ");
            out.extend_from_slice(lines.value(index));
            out.extend_from_slice(b"\r\n");
        } else if !dropped.contains(index) {
            out.extend_from_slice(&lines.head()[line_start(lines, index)..line_start(lines, index + 1)]);
        }
    }
}

/// Where a field line begins; behind the last one, the empty line that ends the head.
fn line_start(lines: &impl Lines, index: usize) -> usize {
    if index < lines.count() { lines.start(index) } else { lines.head().len() - 2 }
}

/// Checks what the parser lets pass: every line must end in CR LF (RFC 9112, section 2.2 would allow
/// a bare LF; a backend that reads lines differently would see other fields), and every field has a name.
///
/// The parser has seen to it that an LF stands nowhere else than at the end of a line, that is before the
/// next field's name.
pub(crate) fn check_lines(lines: &Received<'_, '_>) -> Result<(), Fault> {
    const BARE_LF: Fault = Fault::Malformed("a line ends in a bare LF");
    let Received { head, fields } = lines;
    if !head.ends_with(b"\r\n\r\n") {
        return Err(BARE_LF);
    }
    for field in *fields {
        if field.name.is_empty() {
            return Err(Fault::Malformed("a field has no name"));
        }
        if !head[..offset_in(head, field.name.as_bytes())].ends_with(b"\r\n") {
            return Err(BARE_LF);
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_whatever_their_case_and_only_whole() {
        for name in ["content-length", "Content-Length", "CONTENT-LENGTH", "cOntent-lengtH"] {
            assert_eq!(Known::of(name.as_bytes()), Some(Known::ContentLength));
        }
        assert_eq!(Known::of(b"HTTP2-Settings"), Some(Known::HopByHop));
        for name in ["", "content-lengths", "content_length", "content-lengt", "contentxlength", "te-", "ho$t"] {
            assert_eq!(Known::of(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn lookalikes_differ_from_what_they_look_like() {
        for name in ["content_length", "X.Real.IP", "X-Request_Id", "PROXY_CONNECTION", "x~forwarded-for"] {
            assert!(is_lookalike(name), "{name}");
        }
        for name in ["Content-Length", "x-real-ip", "X_Real", "contentxlength", "a_b", "priority", "_", "-eal_alive"] {
            assert!(!is_lookalike(name), "{name}");
        }
    }

    /// What [`is_token`] rests on: a byte of a token that becomes one of a known name is the same or its capital.
    #[test]
    fn only_letters_have_a_twin() {
        let tokens = (b'!'..=b'~').filter(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte));
        for byte in tokens.filter(|byte| byte | 0x20 != *byte) {
            let twin = byte | 0x20;
            assert!(byte.to_ascii_lowercase() == twin || !(twin.is_ascii_alphanumeric() || twin == b'-'));
        }
    }
}
