//! One meaning of a path: the path that a route matches is the path that the backend reads.
//!
//! [`normalise`] applies what every reader of URIs does (RFC 3986, section 6.2.2): escapes of unreserved characters
//! are decoded, the digits of other escapes become capitals, dot segments are removed. The result is matched and sent.
//! Other differences servers treat differently: doubled slashes, encoded slashes and backslashes, parameters behind a
//! semicolon. Such a path is matched in every way in which a server may read it; when the readings lead to different
//! routes, the request is refused.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;

use super::{Asked, Match, RouteTable};

/// Why a path is refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// A percent sign is not followed by two hexadecimal digits.
    Escape,
    /// An escape stands for a control character, NUL among them.
    Control,
    /// A backslash, which some servers read as a slash.
    Backslash,
    /// A byte beyond ASCII, which must be escaped (RFC 3986, section 2.1).
    NotAscii,
    /// Servers read the path in ways that lead to different routes.
    Ambiguous,
}

impl PathFault {
    /// What is wrong, in words.
    pub fn as_str(self) -> &'static str {
        match self {
            PathFault::Escape => "the path has a % that two hexadecimal digits do not follow",
            PathFault::Control => "the path has an escaped control character",
            PathFault::Backslash => "the path has a backslash",
            PathFault::NotAscii => "the path has a byte that is not ASCII",
            PathFault::Ambiguous => "servers read the path in ways that lead to different routes",
        }
    }
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for PathFault {}

/// What [`normalise`] did with a path.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Normal {
    /// The path is its own normal form.
    Unchanged,
    /// The normal form was written.
    Changed,
}

/// Bytes that [`normalise`] must look at: all others are copied. Two neighbours make a dot segment or a doubled slash.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte] = !matches!(byte as u8, b'%' | b'.' | b'\\' | b'?');
        byte += 1;
    }
    table
};

/// How many bytes of a path and query need no look: they are their own normal form, and no query begins there.
pub fn plain_length(path_and_query: &[u8]) -> usize {
    path_and_query.iter().position(|byte| !PLAIN[usize::from(*byte)]).unwrap_or(path_and_query.len())
}

/// A path and query, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path in its normal form: owned where the normal form differs from the path that came.
    pub path: Cow<'a, [u8]>,
    /// What follows the question mark, as it came; none when there is no question mark.
    pub query: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    /// Takes a path and query apart and normalises the path.
    ///
    /// # Errors
    /// When the path cannot have one meaning; see [`normalise`].
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

/// Writes the normal form of `path`, which has no query, to `out`, if the form differs from `path`.
///
/// # Errors
/// When the path cannot have one meaning. `out` may then hold a part.
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

/// Writes an escape: decoded, when the character means the same without one.
fn put_escape(high: Option<u8>, low: Option<u8>, out: &mut Vec<u8>) -> Result<(), PathFault> {
    let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
    let (Some(high), Some(low)) = (digit(high), digit(low)) else { return Err(PathFault::Escape) };
    let decoded = (high * 16 + low) as u8;
    match decoded {
        0..=0x1f | 0x7f => return Err(PathFault::Control),
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(decoded),
        _ => {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(&[b'%', DIGITS[high as usize], DIGITS[low as usize]]);
        }
    }
    Ok(())
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

/// A dot segment at the end of a path leaves its slash.
fn keep_slash(path: &mut [u8], write: usize, is_last: bool) -> usize {
    if is_last {
        path[write] = b'/';
    }
    write + usize::from(is_last)
}

/// Whether servers may read a normalised path in other ways than as the path stands. An exact path or a prefix with
/// such readings matches no request, because the other readings do not lead to the same route.
pub fn has_readings(path: &[u8]) -> bool {
    let escaped = |three: &[u8]| matches!(three, b"%2F" | b"%5C");
    path.contains(&b';')
        || path.windows(2).any(|two| two == b"//")
        || (path.contains(&b'%') && path.windows(3).any(escaped))
}

/// The most readings of a path. Each escape is decoded once, before or behind the cut of parameters, and slashes are
/// merged before or behind each of these steps; many such orders come to the same.
const READINGS_MAX: usize = 158;

/// What a server may do to a path before it looks for what the path names. Each server takes some of these steps, in an
/// order of its own.
#[derive(Copy, Clone)]
enum Step {
    /// Reads encoded slashes as slashes.
    Slashes,
    /// Reads encoded backslashes as slashes.
    Backslashes,
    /// Ends the name of a segment at a semicolon.
    Parameters,
    /// Makes one slash of neighbouring ones.
    Merge,
}

impl Step {
    const ALL: [Step; 4] = [Step::Slashes, Step::Backslashes, Step::Parameters, Step::Merge];

    /// The path after this step; none when the step changes nothing.
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
        };
        (changed.len() != path.len()).then_some(changed)
    }
}

/// A path whose segments end at their first semicolon.
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

/// A path in which an escape is a slash.
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
    /// When servers may read the path in ways that lead to different routes, or find dot segments in the path.
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
                // A path with a dot segment leads elsewhere than it seems to, whatever its route.
                let has_dots = path.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b".."));
                let other = self.find(&Asked { path: &path, ..*asked });
                if has_dots || other.map(|other| other.index) != found.map(|found| found.index) {
                    return Err(PathFault::Ambiguous);
                }
                readings.push(path);
            }
            next += 1;
        }
        debug_assert!(readings.len() <= READINGS_MAX, "{} readings", readings.len());
        Ok(found)
    }
}

/// The host that routes match: lower case, without port and trailing dot; an IPv6 address in brackets, as RFC 5952
/// spells the address.
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

/// The host of an authority that begins with a bracket. One address has many spellings; a literal that is no IPv6
/// address (RFC 3986, section 3.2.2, has others) only loses its case.
#[cold]
fn literal(authority: &[u8]) -> Cow<'_, [u8]> {
    let end = authority.iter().position(|byte| *byte == b']').unwrap_or(authority.len());
    let text = std::str::from_utf8(&authority[1..end]);
    match text.ok().and_then(|text| text.parse::<Ipv6Addr>().ok()) {
        Some(ip) => Cow::Owned(format!("[{ip}]").into_bytes()),
        None => Cow::Owned(authority[..authority.len().min(end + 1)].to_ascii_lowercase()),
    }
}
