//! One meaning of a path: the path that a route matches is the path that the backend reads.
//!
//! [`normalise`] does the steps that do not change the meaning of a URI (RFC 3986, section 6.2.2): `normalise` decodes
//! escapes of unreserved characters, escapes characters that a URI does not allow, writes the digits of other escapes in
//! upper case, and removes dot segments. Routes match the result, and the backend gets the result. Servers differ in the
//! treatment of doubled slashes, encoded slashes and backslashes, other escapes of characters that a segment allows
//! (`%3A` and `:`), and parameters after a semicolon. LoadX matches such a path in every way in which a server may read
//! the path, and refuses the request if two readings match different routes.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use super::{Asked, Match, RouteTable};

/// Why LoadX refuses a path.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// A percent sign without two hexadecimal digits after it.
    Escape,
    /// An escaped control character, such as NUL.
    Control,
    /// A backslash, which some servers read as a slash.
    Backslash,
    /// A byte beyond ASCII; a URI escapes such bytes (RFC 3986, section 2.1).
    NotAscii,
    /// Servers read the path in different ways, and two of these ways match different routes.
    Ambiguous,
}

impl PathFault {
    /// The fault, as text for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            PathFault::Escape => "the path has a % without two hexadecimal digits",
            PathFault::Control => "the path has an escaped control character",
            PathFault::Backslash => "the path has a backslash",
            PathFault::NotAscii => "the path has a byte that is not ASCII",
            PathFault::Ambiguous => {
                "servers read the path in different ways, and two of these ways match different routes"
            }
        }
    }
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for PathFault {}

/// The result of [`normalise`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Normal {
    /// The path is in its normal form.
    Unchanged,
    /// [`normalise`] wrote the normal form.
    Changed,
}

/// Bytes that [`normalise`] must examine; `normalise` copies all other bytes. Two such bytes in a row begin a dot
/// segment or a doubled slash.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = !matches!(byte as u8, b'%' | b'.' | b'\\' | b'?') && !is_excluded(byte as u8);
        byte += 1;
    }
    table
};

/// Whether a URI does not allow this visible character without an escape in a path (RFC 3986, section 3.3), although
/// clients send it.
const fn is_excluded(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// The number of bytes at the start of a path and query that are in their normal form and before the query.
pub fn plain_length(path_and_query: &[u8]) -> usize {
    path_and_query.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(path_and_query.len())
}

/// A path and a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path in its normal form: owned if the normal form differs from the path of the request.
    pub path: Cow<'a, [u8]>,
    /// The bytes after the question mark, unchanged; `None` without a question mark.
    pub query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// Splits a path and query, and normalises the path.
    ///
    /// # Errors
    /// The path has no single meaning; see [`normalise`].
    #[inline]
    pub fn read(path_and_query: &'a [u8]) -> Result<Self, PathFault> {
        let plain = plain_length(path_and_query);
        match path_and_query.get(plain) {
            None => Ok(Target { path: Cow::Borrowed(path_and_query), query: None }),
            Some(b'?') => {
                let (path, query) = (&path_and_query[..plain], &path_and_query[plain + 1..]);
                Ok(Target { path: Cow::Borrowed(path), query: Some(query) })
            }
            Some(_) => Self::read_odd(path_and_query),
        }
    }

    fn read_odd(path_and_query: &'a [u8]) -> Result<Self, PathFault> {
        let end = path_and_query.iter().position(|byte| *byte == b'?').unwrap_or(path_and_query.len());
        let (path, query) = (&path_and_query[..end], path_and_query.get(end + 1..));
        let mut normal = Vec::new();
        let path = match normalise(path, &mut normal)? {
            Normal::Unchanged => Cow::Borrowed(path),
            Normal::Changed => Cow::Owned(normal),
        };
        Ok(Target { path, query })
    }
}

/// Writes the normal form of `path` to `out`, if the form differs from `path`. `path` has no query.
///
/// # Errors
/// The path has no single meaning. `out` may then contain a part of the normal form.
pub fn normalise(path: &[u8], out: &mut Vec<u8>) -> Result<Normal, PathFault> {
    if plain_length(path) == path.len() {
        return Ok(Normal::Unchanged);
    }
    let start = out.len();
    let mut bytes = path.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => put_escape(bytes.next(), bytes.next(), out)?,
            b'\\' => return Err(PathFault::Backslash),
            0x80.. => return Err(PathFault::NotAscii),
            0..=0x20 | 0x7f => return Err(PathFault::Control),
            byte if is_excluded(byte) => put_escaped(byte, out),
            byte => out.push(byte),
        }
    }
    remove_dot_segments(out, start);
    if out[start..] == *path {
        out.truncate(start);
        return Ok(Normal::Unchanged);
    }
    Ok(Normal::Changed)
}

/// Writes an escape; decoded, if the character has the same meaning without the escape.
fn put_escape(high: Option<u8>, low: Option<u8>, out: &mut Vec<u8>) -> Result<(), PathFault> {
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Err(PathFault::Escape) };
    let decoded = (high * 16 + low) as u8;
    match decoded {
        0..=0x1f | 0x7f => return Err(PathFault::Control),
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(decoded),
        _ => put_escaped(decoded, out),
    }
    Ok(())
}

fn put_escaped(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Removes dot segments from the path that begins at `start` (RFC 3986, section 5.2.4).
fn remove_dot_segments(path: &mut Vec<u8>, start: usize) {
    if path.get(start) != Some(&b'/') {
        return;
    }
    let mut write = start;
    let mut read = start;
    while read < path.len() {
        let end = path[read + 1..].iter().position(|byte| *byte == b'/').map_or(path.len(), |at| read + 1 + at);
        let is_last = end == path.len();
        match &path[read + 1..end] {
            b"." => write = keep_slash(path, write, is_last),
            b".." => {
                write = path[start..write].iter().rposition(|byte| *byte == b'/').map_or(start, |at| start + at);
                write = keep_slash(path, write, is_last);
            }
            _ => {
                path.copy_within(read..end, write);
                write += end - read;
            }
        }
        read = end;
    }
    path.truncate(write);
    if path.len() == start {
        path.push(b'/');
    }
}

/// Keeps the slash before a dot segment at the end of a path.
fn keep_slash(path: &mut [u8], write: usize, is_last: bool) -> usize {
    if is_last {
        path[write] = b'/';
    }
    write + usize::from(is_last)
}

/// Whether servers may read a normalised path in several ways. An exact path or a prefix with several readings matches
/// no request, because the other readings do not match the same route.
pub fn has_readings(path: &[u8]) -> bool {
    let escaped = |three: &[u8]| matches!(three, b"%2F" | b"%5C") || delimiter(three).is_some();
    path.contains(&b';')
        || path.windows(2).any(|two| two == b"//")
        || (path.contains(&b'%') && path.windows(3).any(escaped))
}

/// The character of an escape, if a segment allows the character without the escape and the character may be a delimiter
/// of the application (RFC 3986, section 2.2). Some servers compare such a path with the escape, others without.
fn delimiter(escape: &[u8]) -> Option<u8> {
    Some(match escape {
        b"%21" => b'!',
        b"%24" => b'$',
        b"%26" => b'&',
        b"%27" => b'\'',
        b"%28" => b'(',
        b"%29" => b')',
        b"%2A" => b'*',
        b"%2B" => b'+',
        b"%2C" => b',',
        b"%3A" => b':',
        b"%3B" => b';',
        b"%3D" => b'=',
        b"%40" => b'@',
        _ => return None,
    })
}

/// The path without the escapes of [`delimiter`].
fn without_delimiter_escapes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.first() {
        match rest.get(..3).and_then(delimiter) {
            Some(character) => {
                out.push(character);
                rest = &rest[3..];
            }
            None => {
                out.push(*first);
                rest = &rest[1..];
            }
        }
    }
    out
}

/// The most readings of a path that LoadX compares; LoadX refuses a path with more. A server decodes each escape once,
/// before or after the cut of parameters, and merges slashes before or after each of these steps; many such orders give
/// the same reading, so that paths of people have fewer than ten.
const READINGS_MAX: usize = 512;

/// A step of a server that reads a path. Each server does some of these steps, in some order.
#[derive(Copy, Clone)]
enum Step {
    /// Reads encoded slashes as slashes.
    Slashes,
    /// Reads encoded backslashes as slashes.
    Backslashes,
    /// Ends the name of a segment at a semicolon.
    Parameters,
    /// Merges neighbouring slashes into one slash.
    Merge,
    /// Reads the escapes of [`delimiter`] as the characters.
    Delimiters,
}

impl Step {
    const ALL: [Step; 5] = [Step::Slashes, Step::Backslashes, Step::Parameters, Step::Merge, Step::Delimiters];

    /// The path after this step; `None` if the step changes nothing.
    fn apply(self, path: &[u8]) -> Option<Vec<u8>> {
        let changed = match self {
            Step::Slashes => replaced(path, b"%2F"),
            Step::Backslashes => replaced(path, b"%5C"),
            Step::Parameters => without_parameters(path),
            Step::Merge => {
                let mut merged = path.to_vec();
                merged.dedup_by(|next, previous| *next == b'/' && *previous == b'/');
                merged
            }
            Step::Delimiters => without_delimiter_escapes(path),
        };
        (changed.len() != path.len()).then_some(changed)
    }
}

/// The path with each segment cut at its first semicolon.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut is_cut = false;
    for byte in path {
        is_cut = *byte != b'/' && (is_cut || *byte == b';');
        if !is_cut {
            out.push(*byte);
        }
    }
    out
}

/// The path with a slash in place of each `escape`.
fn replaced(path: &[u8], escape: &[u8; 3]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.first() {
        match rest.strip_prefix(escape) {
            Some(after) => {
                out.push(b'/');
                rest = after;
            }
            None => {
                out.push(*first);
                rest = &rest[1..];
            }
        }
    }
    out
}

impl RouteTable {
    /// The route that a request with a normalised path matches.
    ///
    /// # Errors
    /// Two readings of the path match different routes, or a reading has dot segments.
    pub fn find_unambiguous(&self, asked: &Asked<'_>) -> Result<Option<Match<'_>>, PathFault> {
        let found = self.find(asked);
        if !has_readings(asked.path) {
            return Ok(found);
        }
        let mut readings = vec![asked.path.to_vec()];
        let mut next = 0;
        while next < readings.len() {
            for step in Step::ALL {
                let Some(path) = step.apply(&readings[next]) else { continue };
                if readings.contains(&path) {
                    continue;
                }
                // A server removes a dot segment, so the backend would read another path.
                let has_dots = path.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b".."));
                let other = self.find(&Asked { path: &path, ..*asked });
                let agrees = other.map(|other| other.index) == found.map(|found| found.index);
                if has_dots || !agrees || readings.len() == READINGS_MAX {
                    return Err(PathFault::Ambiguous);
                }
                readings.push(path);
            }
            next += 1;
        }
        Ok(found)
    }
}

/// The host that routes match: lower case, without port and trailing dot; an IPv6 address in brackets, in the notation
/// of RFC 5952.
pub fn host(authority: &[u8]) -> Cow<'_, [u8]> {
    if authority.first() == Some(&b'[') {
        return literal(authority);
    }
    let end = authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len());
    let host = &authority[..end];
    let host = host.strip_suffix(b".").unwrap_or(host);
    if !host.iter().any(u8::is_ascii_uppercase) {
        return Cow::Borrowed(host);
    }
    Cow::Owned(host.to_ascii_lowercase())
}

/// The host of an authority that begins with a bracket. An IPv6 address has many spellings and gets one; any other
/// literal (RFC 3986, section 3.2.2) only becomes lower case.
#[cold]
fn literal(authority: &[u8]) -> Cow<'_, [u8]> {
    let end = authority.iter().position(|byte| *byte == b']').unwrap_or(authority.len());
    let text = std::str::from_utf8(&authority[1..end]);
    match text.ok().and_then(|text| text.parse::<Ipv6Addr>().ok()) {
        Some(ip) => Cow::Owned(format!("[{ip}]").into_bytes()),
        None => Cow::Owned(authority[..authority.len().min(end + 1)].to_ascii_lowercase()),
    }
}
