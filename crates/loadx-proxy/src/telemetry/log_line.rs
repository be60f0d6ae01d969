//! How a line of the access log looks.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use loadx_http::put_ip;

use crate::request_id::{RequestId, Spelled};

/// What there is to say about one exchange.
#[derive(Debug)]
pub(crate) struct Line<'l> {
    pub(crate) at: SystemTime,
    pub(crate) client: IpAddr,
    pub(crate) method: &'l [u8],
    pub(crate) target: &'l [u8],
    pub(crate) status: u16,
    /// Content sent to the client, in bytes.
    pub(crate) bytes: u64,
    pub(crate) took: Duration,
    /// The route that the request matched.
    pub(crate) route: Option<&'l str>,
    pub(crate) cluster: Option<&'l str>,
    pub(crate) backend: Option<&'l str>,
    pub(crate) tries: usize,
    pub(crate) id: &'l RequestId,
    /// What went wrong, in a few words.
    pub(crate) error: Option<&'l str>,
}

/// The time of day, spelled out once a second.
#[derive(Debug, Default)]
pub(super) struct SecondText {
    second: u64,
    pub(super) text: String,
}

impl SecondText {
    pub(super) fn update(&mut self, second: u64) {
        if self.second != second || self.text.is_empty() {
            self.second = second;
            let time = jiff::Timestamp::from_second(i64::try_from(second).unwrap_or(0)).unwrap_or_default();
            let spelled = time.to_string();
            self.text.clear();
            self.text.push_str(spelled.trim_end_matches('Z'));
        }
    }
}

pub(super) struct Stamp<'s> {
    pub(super) second: &'s str,
    pub(super) millis: u32,
}

impl Stamp<'_> {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.second.as_bytes());
        put_thousandths(out, self.millis);
        out.push(b'Z');
    }
}

// A line is put together by hand: the formatter of the standard library took two thirds of its time.

pub(super) fn write_human(out: &mut Vec<u8>, time: &Stamp<'_>, line: &Line<'_>) {
    time.put(out);
    out.push(b' ');
    put_ip(out, line.client);
    out.extend_from_slice(b" \"");
    put_escaped(out, line.method, put_hex_escape);
    out.push(b' ');
    put_escaped(out, line.target, put_hex_escape);
    out.extend_from_slice(b"\" ");
    put_number(out, line.status.into());
    out.push(b' ');
    put_number(out, line.bytes);
    out.extend_from_slice(b"B ");
    put_milliseconds(out, line.took);
    out.extend_from_slice(b"ms ");
    out.extend_from_slice(line.backend.unwrap_or("-").as_bytes());
    // The only route of a short config says nothing.
    if let Some(route) = line.route.filter(|route| *route != "default") {
        out.extend_from_slice(b" route=");
        put_escaped(out, route.as_bytes(), put_hex_escape);
    }
    out.extend_from_slice(b" tries=");
    put_number(out, line.tries as u64);
    out.extend_from_slice(b" id=");
    out.extend_from_slice(line.id.spelled(&mut Spelled::default()));
    if let Some(error) = line.error {
        out.extend_from_slice(b" error=\"");
        put_escaped(out, error.as_bytes(), put_hex_escape);
        out.push(b'"');
    }
    out.push(b'\n');
}

pub(super) fn write_json(out: &mut Vec<u8>, time: &Stamp<'_>, line: &Line<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    time.put(out);
    out.extend_from_slice(b"\",\"client\":\"");
    put_ip(out, line.client);
    out.extend_from_slice(b"\",\"method\":\"");
    put_escaped(out, line.method, put_unicode_escape);
    out.extend_from_slice(b"\",\"target\":\"");
    put_escaped(out, line.target, put_unicode_escape);
    out.extend_from_slice(b"\",\"status\":");
    put_number(out, line.status.into());
    out.extend_from_slice(b",\"bytes\":");
    put_number(out, line.bytes);
    out.extend_from_slice(b",\"duration_ms\":");
    put_milliseconds(out, line.took);
    put_name(out, b",\"route\":", line.route);
    put_name(out, b",\"cluster\":", line.cluster);
    put_name(out, b",\"backend\":", line.backend);
    out.extend_from_slice(b",\"tries\":");
    put_number(out, line.tries as u64);
    out.extend_from_slice(b",\"id\":\"");
    out.extend_from_slice(line.id.spelled(&mut Spelled::default()));
    out.push(b'"');
    if let Some(error) = line.error {
        out.extend_from_slice(b",\"error\":\"");
        put_escaped(out, error.as_bytes(), put_unicode_escape);
        out.push(b'"');
    }
    out.extend_from_slice(b"}\n");
}

/// A name of the config, or null.
fn put_name(out: &mut Vec<u8>, key: &[u8], name: Option<&str>) {
    out.extend_from_slice(key);
    match name {
        None => out.extend_from_slice(b"null"),
        Some(name) => {
            out.push(b'"');
            put_escaped(out, name.as_bytes(), put_unicode_escape);
            out.push(b'"');
        }
    }
}

/// What a client sent must not forge lines or steer terminals: the quote, the backslash, and everything but
/// visible ASCII is escaped, the last by `escape`.
fn put_escaped(out: &mut Vec<u8>, bytes: &[u8], escape: fn(&mut Vec<u8>, u8)) {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if bytes.iter().all(is_plain) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            _ => escape(out, *byte),
        }
    }
}

fn put_hex_escape(out: &mut Vec<u8>, byte: u8) {
    write!(out, "\\x{byte:02x}").expect(TAKES_ALL);
}

/// As the inside of a JSON string has it; bytes that are not ASCII stand as the characters of Latin-1.
fn put_unicode_escape(out: &mut Vec<u8>, byte: u8) {
    write!(out, "\\u{byte:04x}").expect(TAKES_ALL);
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A span in milliseconds, with three decimals.
fn put_milliseconds(out: &mut Vec<u8>, span: Duration) {
    let microseconds = u64::try_from((span.as_nanos() + 500) / 1_000).unwrap_or(u64::MAX);
    put_number(out, microseconds / 1_000);
    put_thousandths(out, (microseconds % 1_000) as u32);
}

fn put_thousandths(out: &mut Vec<u8>, thousandths: u32) {
    let digit = |value: u32| b'0' + (value % 10) as u8;
    out.extend_from_slice(&[b'.', digit(thousandths / 100), digit(thousandths / 10), digit(thousandths)]);
}

const TAKES_ALL: &str = "a Vec takes what is written to it";
