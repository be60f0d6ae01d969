//! The grammar of a head in HTTP/1: the start line and the field lines (RFC 9112, sections 3 to 5).
//!
//! Stricter than the RFC allows a recipient to be, where recipients differ: a line ends in CR LF, a field has a name and
//! no line folding, and one space separates the parts of a start line. Reads in one pass, eight bytes at a time
//! where many bytes are of one kind: LoadX reads two heads for each exchange.

use crate::fields::Known;
use crate::limits::FIELDS_MAX;
use crate::lines::{Line, Span};
use crate::{Fault, Version};

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH_BITS: u64 = ONES << 7;
const DEL: u8 = 0x7f;
const BARE_LF: Fault = Fault::Malformed("a line ends in a bare LF");
const START_LINE: Fault = Fault::Malformed("the start line is malformed");
const STATUS_LINE: Fault = Fault::Malformed("the status line is malformed");
const FIELD_NAME: Fault = Fault::Malformed("a field name is malformed");
const FIELD_VALUE: Fault = Fault::Malformed("a field value contains a forbidden byte");

/// Why reading stops before the end of a head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The bytes end first.
    Partial,
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

/// The first line of a request.
#[derive(Debug)]
pub(crate) struct RequestLine {
    pub(crate) method: Span,
    pub(crate) target: Span,
    pub(crate) version: Version,
    /// The length of the line in bytes, with its CR LF.
    pub(crate) length: usize,
}

/// The first line of a response.
#[derive(Debug)]
pub(crate) struct StatusLine {
    pub(crate) version: Version,
    pub(crate) code: u16,
    /// The length of the line in bytes, with its CR LF.
    pub(crate) length: usize,
}

/// Reads the first line of a request. The target may have any byte that is visible in ASCII, or not ASCII.
pub(crate) fn request_line(bytes: &[u8]) -> Result<RequestLine, Stop> {
    let method_end = token_end(bytes, 0);
    if byte_at(bytes, method_end)? != b' ' || method_end == 0 {
        return Err(START_LINE.into());
    }
    let target_start = method_end + 1;
    let target_end = run_end::<b'!'>(bytes, target_start);
    if byte_at(bytes, target_end)? != b' ' || target_end == target_start {
        return Err(START_LINE.into());
    }
    let version_start = target_end + 1;
    let version = version(&bytes[version_start..]).ok_or_else(|| not_a_version(&bytes[version_start..]))?;
    Ok(RequestLine {
        method: Span::new(0, method_end),
        target: Span::new(target_start, target_end),
        version,
        length: line_end(bytes, version_start + VERSION_BYTES)?,
    })
}

/// Reads the first line of a response. The reason phrase may be missing, with or without the space before the phrase: many
/// servers send no phrase.
pub(crate) fn status_line(bytes: &[u8]) -> Result<StatusLine, Stop> {
    let version = version(bytes).ok_or_else(|| match not_a_version(bytes) {
        Stop::Partial => Stop::Partial,
        // A response begins with its version.
        Stop::Fault(_) => Fault::Version.into(),
    })?;
    if byte_at(bytes, VERSION_BYTES)? != b' ' {
        return Err(Fault::Version.into());
    }
    let mut code = 0;
    let phrase_start = VERSION_BYTES + 1 + 3;
    for at in VERSION_BYTES + 1..phrase_start {
        let digit = byte_at(bytes, at)?;
        if !digit.is_ascii_digit() {
            return Err(STATUS_LINE.into());
        }
        code = code * 10 + u16::from(digit - b'0');
    }
    let end = match byte_at(bytes, phrase_start)? {
        b' ' => text_end(bytes, phrase_start),
        _ => phrase_start,
    };
    match (byte_at(bytes, end)?, bytes.get(end + 1)) {
        (b'\r', Some(b'\n')) => Ok(StatusLine { version, code, length: end + 2 }),
        (b'\r', None) => Err(Stop::Partial),
        (b'\n', _) => Err(BARE_LF.into()),
        _ => Err(STATUS_LINE.into()),
    }
}

/// Reads field lines from `start` on and the empty line behind them into `lines`. Returns the end of the empty line.
pub(crate) fn field_lines(bytes: &[u8], start: usize, lines: &mut Vec<Line>) -> Result<usize, Stop> {
    lines.clear();
    let mut at = start;
    loop {
        if matches!(byte_at(bytes, at)?, b'\r' | b'\n') {
            return line_end(bytes, at);
        }
        let (line, end) = field_line(bytes, at)?;
        if lines.len() == FIELDS_MAX {
            return Err(Fault::HeadTooLarge.into());
        }
        lines.push(line);
        at = end;
    }
}

/// Reads one field line. Returns the end of the line, too. The value has no white space around it.
#[inline(always)]
pub(crate) fn field_line(bytes: &[u8], start: usize) -> Result<(Line, usize), Stop> {
    let name_end = token_end(bytes, start);
    if byte_at(bytes, name_end)? != b':' {
        return Err(FIELD_NAME.into());
    }
    if name_end == start {
        return Err(Fault::Malformed("a field has no name").into());
    }
    let mut value_start = name_end + 1;
    while matches!(byte_at(bytes, value_start)?, b' ' | b'\t') {
        value_start += 1;
    }
    let end = text_end(bytes, value_start);
    match (byte_at(bytes, end)?, bytes.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) => return Err(Stop::Partial),
        (b'\n', _) => return Err(BARE_LF.into()),
        _ => return Err(FIELD_VALUE.into()),
    }
    let mut value_end = end;
    while value_end > value_start && matches!(bytes[value_end - 1], b' ' | b'\t') {
        value_end -= 1;
    }
    let line = Line {
        name: Span::new(start, name_end),
        value: Span::new(value_start, value_end),
        known: Known::of(&bytes[start..name_end]),
    };
    Ok((line, end + 2))
}

const VERSION_BYTES: usize = "HTTP/1.1".len();

#[inline(always)]
fn version(bytes: &[u8]) -> Option<Version> {
    match bytes.first_chunk::<VERSION_BYTES>()? {
        b"HTTP/1.1" => Some(Version::Http11),
        b"HTTP/1.0" => Some(Version::Http10),
        _ => None,
    }
}

/// Distinguishes another version from a line that is malformed or has not arrived wholly.
#[cold]
fn not_a_version(bytes: &[u8]) -> Stop {
    const NAME: &[u8] = b"HTTP/";
    let begins_as_one = bytes.iter().zip(NAME).all(|(byte, of_name)| byte == of_name);
    match bytes {
        _ if !begins_as_one => START_LINE.into(),
        [_, _, _, _, _, major, b'.', minor, b'\r' | b'\n' | b' ', ..]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Fault::Version.into()
        }
        _ if bytes.len() > VERSION_BYTES || bytes.contains(&b'\r') || bytes.contains(&b'\n') => START_LINE.into(),
        _ => Stop::Partial,
    }
}

#[inline(always)]
fn byte_at(bytes: &[u8], at: usize) -> Result<u8, Stop> {
    bytes.get(at).copied().ok_or(Stop::Partial)
}

/// The end of a line whose content ends at `at`.
fn line_end(bytes: &[u8], at: usize) -> Result<usize, Stop> {
    match (byte_at(bytes, at)?, bytes.get(at + 1)) {
        (b'\r', Some(b'\n')) => Ok(at + 2),
        (b'\r', None) => Err(Stop::Partial),
        (b'\n', _) => Err(BARE_LF.into()),
        _ => Err(Fault::Malformed("a line does not end in CR LF").into()),
    }
}

/// The end of the token at `at` (RFC 9110, section 5.6.2).
#[inline(always)]
fn token_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at;
    // Nearly all names have letters and dashes only.
    for word in bytes[at..].as_chunks().0 {
        let stops = !letters_and_dashes(u64::from_le_bytes(*word)) & HIGH_BITS;
        if stops != 0 {
            end += (stops.trailing_zeros() / 8) as usize;
            break;
        }
        end += 8;
    }
    while bytes.get(end).is_some_and(|byte| IN_TOKENS[usize::from(*byte)]) {
        end += 1;
    }
    end
}

/// Sets the high bit of each byte that is a letter or a dash.
#[inline(always)]
fn letters_and_dashes(word: u64) -> u64 {
    let low = (word | (ONES * 0x20)) & !HIGH_BITS;
    // No sum exceeds a byte, so that no byte changes another.
    let letters = (low + ONES * (0x80 - b'a') as u64) & !(low + ONES * (0x7f - b'z') as u64) & !word;
    let others = word ^ (ONES * b'-' as u64);
    let dashes = !(((others & !HIGH_BITS) + !HIGH_BITS) | others);
    letters | dashes
}

/// The bytes of a token.
const IN_TOKENS: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
};

/// The end of the text at `at`: bytes of a field value or a reason phrase (RFC 9110, section 5.5; RFC 9112, section 4).
#[inline(always)]
fn text_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        at = run_end::<b' '>(bytes, at);
        match bytes.get(at) {
            Some(b'\t') => at += 1,
            _ => return at,
        }
    }
}

/// The end of the run of bytes at `at` that are at least `LEAST`, and not DEL.
#[inline(always)]
fn run_end<const LEAST: u8>(bytes: &[u8], mut at: usize) -> usize {
    // Most values are short. For long ones the compiler compares sixteen bytes at once.
    for word in bytes[at..].as_chunks().0.iter().take(2) {
        match stop_in::<LEAST>(*word) {
            Some(stop) => return at + stop,
            None => at += 8,
        }
    }
    for block in bytes[at..].as_chunks::<16>().0 {
        if block.iter().fold(false, |stops, byte| stops | (*byte < LEAST) | (*byte == DEL)) {
            break;
        }
        at += 16;
    }
    for word in bytes[at..].as_chunks().0 {
        match stop_in::<LEAST>(*word) {
            Some(stop) => return at + stop,
            None => at += 8,
        }
    }
    while bytes.get(at).is_some_and(|byte| *byte >= LEAST && *byte != DEL) {
        at += 1;
    }
    at
}

/// The place of the first byte that is less than `LEAST`, or DEL.
#[inline(always)]
fn stop_in<const LEAST: u8>(word: [u8; 8]) -> Option<usize> {
    // A subtraction sets the high bit of a byte that is too small. It borrows from the next byte only behind such a byte, so
    // that the lowest high bit is exact.
    let word = u64::from_le_bytes(word);
    let deletes = word ^ (ONES * DEL as u64);
    let small = word.wrapping_sub(ONES * LEAST as u64) & !word;
    let stops = (small | (deletes.wrapping_sub(ONES) & !deletes)) & HIGH_BITS;
    (stops != 0).then(|| (stops.trailing_zeros() / 8) as usize)
}

#[cfg(test)]
mod tests;
