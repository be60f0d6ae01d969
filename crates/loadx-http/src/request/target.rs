//! The request target: its forms, its host and its port.

use crate::Fault;
use crate::limits::TARGET_BYTES_MAX;

/// The parts of a target, independent of its form (RFC 9112, section 3.2).
#[derive(Copy, Clone, Debug)]
pub(super) struct Origin<'b> {
    /// In absolute-form, the authority that replaces Host.
    pub(super) authority: Option<&'b [u8]>,
    /// Path and query, without the part that the target omits.
    pub(super) path: &'b [u8],
    /// The part that the target omits before `path`.
    pub(super) missing: &'static str,
}

/// Splits the target (RFC 9112, section 3.2).
pub(super) fn origin<'b>(method: &[u8], target: &'b [u8]) -> Result<Origin<'b>, Fault> {
    if target.len() > TARGET_BYTES_MAX {
        return Err(Fault::TargetTooLong);
    }
    // TRACE would show the fields that LoadX adds; CONNECT is for forward proxies.
    if method == b"CONNECT" || method == b"TRACE" {
        return Err(Fault::Method);
    }
    if let Some(fault) = bad_bytes(target) {
        return Err(fault);
    }
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(Origin { authority: None, path: target, missing: "" });
    }
    let scheme_end = memchr::memmem::find(target, b"://").ok_or(Fault::Malformed("the request target is malformed"))?;
    let (scheme, rest) = (&target[..scheme_end], &target[scheme_end + 3..]);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return Err(Fault::Malformed("the scheme of the request target is not http"));
    }
    let path_start = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_start);
    if !is_authority(authority) {
        return Err(Fault::Malformed("the request target is malformed"));
    }
    // RFC 9112, section 3.2.4; an empty path before a query is the path / (RFC 3986, section 6.2.3).
    let missing = match (path, method) {
        (b"", b"OPTIONS") => "*",
        ([b'/', ..], _) => "",
        _ => "/",
    };
    Ok(Origin { authority: Some(authority), path, missing })
}

/// The fault in the bytes of a target, if there is one.
///
/// A URI has ASCII bytes only (RFC 3986, section 2); the parser accepts UTF-8 too. A `#` is not part of a target (RFC
/// 9112, section 3.2); some parsers end the path at a `#`.
fn bad_bytes(target: &[u8]) -> Option<Fault> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // Checks eight bytes at once, because each request runs this check: a byte beyond ASCII has its high bit set, and
    // so has the result of subtracting 1 from the 0 of a `#`.
    let bad = |bytes: &[u8; 8]| {
        let word = u64::from_ne_bytes(*bytes);
        let hashes = word ^ (ONES * u64::from(b'#'));
        (word | (hashes.wrapping_sub(ONES) & !hashes)) & (ONES << 7)
    };
    let is_sound = match target.last_chunk() {
        Some(last) => target.as_chunks().0.iter().chain([last]).fold(0, |all, bytes| all | bad(bytes)) == 0,
        None => target.iter().all(|byte| byte.is_ascii() && *byte != b'#'),
    };
    if is_sound {
        return None;
    }
    let has_hash = memchr::memchr(b'#', target).is_some();
    Some(Fault::Malformed(if has_hash {
        "the request target contains a #"
    } else {
        "the request target contains a byte beyond ASCII"
    }))
}

/// Whether this is a valid value of Host (RFC 9110, section 7.2; RFC 3986, section 3.2): a host with an optional port;
/// no list, no userinfo, no path.
pub(super) fn is_authority(value: &[u8]) -> bool {
    let host_end = match value.first() {
        Some(b'[') => memchr::memchr(b']', value).filter(|end| is_literal(&value[1..*end])).map(|end| end + 1),
        _ => name_length(value),
    };
    let Some(host_end) = host_end else { return false };
    match &value[host_end..] {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Whether these bytes are valid between the brackets of an IP literal.
fn is_literal(literal: &[u8]) -> bool {
    !literal.is_empty() && literal.iter().all(|byte| byte.is_ascii_alphanumeric() || b":.-_~".contains(byte))
}

/// The number of bytes at the start that are a valid host name of a URI (RFC 3986, section 3.2.2); `None` for an empty
/// name (RFC 9110, section 4.2.1). LoadX refuses percent-encoding: servers that decode the name see another host than
/// servers that do not, and no name in the DNS needs percent-encoding.
fn name_length(value: &[u8]) -> Option<usize> {
    let length = value.iter().position(|byte| !IN_NAMES[usize::from(*byte)]).unwrap_or(value.len());
    (length > 0).then_some(length)
}

/// The bytes that a name may contain without encoding: unreserved and sub-delims (RFC 3986, section 2).
const IN_NAMES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~!$&'()*+;=";
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
};
