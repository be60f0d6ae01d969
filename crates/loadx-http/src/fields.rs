//! Fields of a head: recognising names, and writing fields.

use crate::lines::Line;
use crate::{Fault, Version};

/// Memory for the fields of one response head. Reading into used memory allocates nothing.
#[derive(Debug, Default)]
pub struct FieldSlots(pub(crate) Vec<Line>);

impl FieldSlots {
    /// Memory without fields.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The fields that a gateway acts on; a gateway only forwards all other fields.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Client-Cert and Client-Cert-Chain (RFC 9440), by which a proxy tells the certificate of the client.
    ClientCert,
    Connection,
    ContentLength,
    Date,
    Expect,
    Forwarded,
    Host,
    /// Keep-Alive, Proxy-Connection, HTTP2-Settings: for this hop only (RFC 9110, section 7.6.1).
    HopByHop,
    MaxForwards,
    /// Proxy, which CGI makes HTTP_PROXY of: programs take that for the proxy of their own requests.
    Proxy,
    Te,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    /// X-LoadX-Attempt: LoadX tells its backends the number of an attempt.
    XLoadXAttempt,
    /// X-LoadX-Explain: its value is a token of LoadX's operators.
    XLoadXExplain,
    XRealIp,
    XRequestId,
}

impl Known {
    /// Recognises a field. The length of a name and its first letter exclude most names. Inlined always: a call costs
    /// each field of a head more than the comparison.
    #[inline(always)]
    pub(crate) fn of(name: &[u8]) -> Option<Known> {
        let first = name.first()? | 0x20;
        let (is_it, known) = match (name.len(), first) {
            (2, b't') => (is_token(name, b"te"), Known::Te),
            (4, b'h') => (is_token(name, b"host"), Known::Host),
            (4, b'd') => (is_token(name, b"date"), Known::Date),
            (5, b'p') => (is_token(name, b"proxy"), Known::Proxy),
            (6, b'e') => (is_token(name, b"expect"), Known::Expect),
            (7, b'u') => (is_token(name, b"upgrade"), Known::Upgrade),
            (9, b'f') => (is_token(name, b"forwarded"), Known::Forwarded),
            (9, b'x') => (is_token(name, b"x-real-ip"), Known::XRealIp),
            (10, b'c') => (is_token(name, b"connection"), Known::Connection),
            (10, b'k') => (is_token(name, b"keep-alive"), Known::HopByHop),
            (11, b'c') => (is_token(name, b"client-cert"), Known::ClientCert),
            (12, b'x') => (is_token(name, b"x-request-id"), Known::XRequestId),
            (12, b'm') => (is_token(name, b"max-forwards"), Known::MaxForwards),
            (14, b'c') => (is_token(name, b"content-length"), Known::ContentLength),
            (14, b'h') => (is_token(name, b"http2-settings"), Known::HopByHop),
            (15, b'x') if is_token(name, b"x-forwarded-for") => (true, Known::XForwardedFor),
            (15, b'x') if is_token(name, b"x-loadx-explain") => (true, Known::XLoadXExplain),
            (15, b'x') => (is_token(name, b"x-loadx-attempt"), Known::XLoadXAttempt),
            (16, b'x') if is_token(name, b"x-forwarded-port") => (true, Known::XForwardedPort),
            (16, b'x') => (is_token(name, b"x-forwarded-host"), Known::XForwardedHost),
            (16, b'p') => (is_token(name, b"proxy-connection"), Known::HopByHop),
            (17, b'c') => (is_token(name, b"client-cert-chain"), Known::ClientCert),
            (17, b't') => (is_token(name, b"transfer-encoding"), Known::TransferEncoding),
            (17, b'x') => (is_token(name, b"x-forwarded-proto"), Known::XForwardedProto),
            _ => return None,
        };
        is_it.then_some(known)
    }
}

/// Whether the token `name` equals `lower`, in any case. Compares all bytes at once: among the bytes of tokens, only
/// letters differ from another token byte in just this bit.
fn is_token<const LENGTH: usize>(name: &[u8], lower: &[u8; LENGTH]) -> bool {
    let Ok(name) = <&[u8; LENGTH]>::try_from(name) else { return false };
    let differences =
        name.iter().zip(lower).fold(0, |differences, (byte, lower)| differences | ((byte | 0x20) ^ lower));
    differences == 0
}

/// The names with a dash that a backend may trust: LoadX writes, replaces or removes such a field, reads framing from
/// it, or leaves its meaning to trusted proxies.
pub(crate) const TRUSTED: [&str; 20] = [
    "client-cert",
    "client-cert-chain",
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
    "x-loadx-attempt",
    "x-loadx-explain",
    "x-real-ip",
    "x-request-id",
];

/// The first letters and the lengths of [`TRUSTED`], one bit each.
const TRUSTED_FILTER: (u32, u32) = {
    let (mut letters, mut lengths, mut index) = (0, 0, 0);
    while index < TRUSTED.len() {
        letters |= 1 << (TRUSTED[index].as_bytes()[0] & 31);
        lengths |= 1 << TRUSTED[index].len();
        index += 1;
    }
    (letters, lengths)
};

/// Whether servers may confuse `name` with a different trusted name. CGI turns the dashes of names into `_` (RFC 3875,
/// section 4.1.18); some servers turn every byte that is no letter or digit into `_`.
#[inline]
pub(crate) fn is_lookalike(name: &[u8]) -> bool {
    // Runs for each field of each request: one bit of the first letter excludes most names.
    let has_bit = |set: u32, place: usize| set & 1u32.wrapping_shl(place as u32) != 0;
    has_bit(TRUSTED_FILTER.0, usize::from(name[0])) && has_bit(TRUSTED_FILTER.1, name.len()) && reads_as_trusted(name)
}

#[cold]
fn reads_as_trusted(name: &[u8]) -> bool {
    let is_odd = |byte: &u8| *byte != b'-' && !byte.is_ascii_alphanumeric();
    name.iter().any(is_odd) && TRUSTED.iter().any(|trusted| reads_as(name, trusted))
}

/// Whether `name` equals `known` in a server that treats every byte that is no letter or digit as a dash.
pub(crate) fn reads_as(name: &[u8], known: &str) -> bool {
    let read = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == known.len() && name.iter().map(read).eq(known.bytes())
}

/// Whether two names are one name to a server that treats every byte that is no letter or digit as a dash.
pub(crate) fn reads_alike(name: &[u8], other: &[u8]) -> bool {
    let read = |byte: &u8| if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
    name.len() == other.len() && name.iter().map(read).eq(other.iter().map(read))
}

/// A set of fields of a head, one bit per field; mostly the fields that LoadX does not forward.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct FieldSet(u128);

const _: () = assert!(crate::limits::FIELDS_MAX <= u128::BITS as usize);

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

/// The members of a comma-separated list (RFC 9110, section 5.6.1), without empty members.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
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

/// Writes Via (RFC 9110, section 7.6.3): the received version and the pseudonym of LoadX.
pub(crate) fn put_via(out: &mut Vec<u8>, received: Version, pseudonym: &str) {
    let version = match received {
        Version::Http10 => b"1.0 ",
        Version::Http11 => b"1.1 ",
        Version::Http2 => b"2.0 ",
    };
    out.extend_from_slice(b"Via: ");
    out.extend_from_slice(version);
    out.extend_from_slice(pseudonym.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The number of bytes of the empty line before the head; one empty line is allowed (RFC 9112, section 2.2). `None` while only a
/// part of the line has arrived.
pub(crate) fn leading_empty_line(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    match bytes {
        b"\r" => Ok(None),
        [b'\r', b'\n', b'\r' | b'\n', ..] => Err(Fault::Malformed("the message begins with empty lines")),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r' | b'\n', ..] => Err(Fault::Malformed("the message begins with empty lines")),
        _ => Ok(Some(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_any_case_and_only_completely() {
        for name in ["content-length", "Content-Length", "CONTENT-LENGTH", "cOntent-lengtH"] {
            assert_eq!(Known::of(name.as_bytes()), Some(Known::ContentLength));
        }
        assert_eq!(Known::of(b"HTTP2-Settings"), Some(Known::HopByHop));
        assert_eq!(Known::of(b"X-Forwarded-Host"), Some(Known::XForwardedHost));
        assert_eq!(Known::of(b"X-Forwarded-Port"), Some(Known::XForwardedPort));
        for name in ["", "content-lengths", "content_length", "content-lengt", "contentxlength", "te-", "ho$t"] {
            assert_eq!(Known::of(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn lookalikes_are_recognised_and_other_names_are_not() {
        for name in ["content_length", "X.Real.IP", "X-Request_Id", "PROXY_CONNECTION", "x~forwarded-for"] {
            assert!(is_lookalike(name.as_bytes()), "{name}");
        }
        for name in ["Content-Length", "x-real-ip", "X_Real", "contentxlength", "a_b", "priority", "_", "-eal_alive"] {
            assert!(!is_lookalike(name.as_bytes()), "{name}");
        }
    }

    /// The assumption of [`is_token`]: a token byte that becomes a byte of a known name is this byte or its upper-case
    /// letter.
    #[test]
    fn only_letters_differ_in_the_case_bit() {
        let tokens = (b'!'..=b'~').filter(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte));
        for byte in tokens.filter(|byte| byte | 0x20 != *byte) {
            let twin = byte | 0x20;
            assert!(byte.to_ascii_lowercase() == twin || !(twin.is_ascii_alphanumeric() || twin == b'-'));
        }
    }
}
