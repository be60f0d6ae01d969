//! How a line of the access log looks.

use std::io::Write;
use std::time::Duration;

use loadx_core::Backend;
use loadx_http::put_ip;

use super::record::Record;
use crate::request_id::Spelled;

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

pub(super) fn write_human(out: &mut Vec<u8>, time: &Stamp<'_>, record: &Record<'_>) {
    time.put(out);
    out.push(b' ');
    put_ip(out, record.request.client());
    out.extend_from_slice(b" \"");
    let (method, target) = record.request.line();
    put_escaped(out, method, put_hex_escape);
    out.push(b' ');
    put_escaped(out, target, put_hex_escape);
    out.extend_from_slice(b"\" ");
    put_number(out, record.status.into());
    out.push(b' ');
    put_number(out, record.content);
    out.extend_from_slice(b"B ");
    put_milliseconds(out, record.took());
    out.extend_from_slice(b"ms ");
    out.extend_from_slice(record.backend.map_or("-", Backend::name).as_bytes());
    // The only route of a short config says nothing.
    if let Some(route) = record.request.route().filter(|route| *route != "default") {
        out.extend_from_slice(b" route=");
        put_escaped(out, route.as_bytes(), put_hex_escape);
    }
    out.extend_from_slice(b" tries=");
    put_number(out, record.tries as u64);
    out.extend_from_slice(b" id=");
    out.extend_from_slice(record.request.id().spelled(&mut Spelled::default()));
    if let Some(error) = record.error {
        out.extend_from_slice(b" error=\"");
        put_escaped(out, error.as_bytes(), put_hex_escape);
        out.push(b'"');
    }
    out.push(b'\n');
}

pub(super) fn write_json(out: &mut Vec<u8>, time: &Stamp<'_>, record: &Record<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    time.put(out);
    out.extend_from_slice(b"\",\"client\":\"");
    put_ip(out, record.request.client());
    out.extend_from_slice(b"\",\"method\":\"");
    let (method, target) = record.request.line();
    put_escaped(out, method, put_unicode_escape);
    out.extend_from_slice(b"\",\"target\":\"");
    put_escaped(out, target, put_unicode_escape);
    out.extend_from_slice(b"\",\"status\":");
    put_number(out, record.status.into());
    out.extend_from_slice(b",\"bytes\":");
    put_number(out, record.content);
    out.extend_from_slice(b",\"duration_ms\":");
    put_milliseconds(out, record.took());
    put_name(out, b",\"route\":", record.request.route());
    put_name(out, b",\"cluster\":", record.cluster.map(|cluster| &*cluster.name));
    put_name(out, b",\"backend\":", record.backend.map(Backend::name));
    out.extend_from_slice(b",\"tries\":");
    put_number(out, record.tries as u64);
    out.extend_from_slice(b",\"id\":\"");
    out.extend_from_slice(record.request.id().spelled(&mut Spelled::default()));
    out.push(b'"');
    if let Some(error) = record.error {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{at, incoming, plan, refused};
    use super::*;
    use crate::telemetry::Request;

    const STAMP: Stamp<'static> = Stamp { second: "2023-11-14T22:13:20", millis: 42 };

    fn written(write: fn(&mut Vec<u8>, &Stamp<'_>, &Record<'_>), record: &Record<'_>) -> String {
        let mut out = Vec::new();
        write(&mut out, &STAMP, record);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_for_eyes() {
        let plan = plan();
        let view = plan.clusters[0].view.load();
        let incoming = incoming(Arc::clone(&plan), b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        let record = Record {
            request: Request::Accepted(&incoming),
            began: at(1),
            ended: at(1) + Duration::from_micros(1_234),
            cluster: Some(&plan.clusters[0]),
            backend: Some(&view.backends()[0]),
            tries: 1,
            ..refused(at(1), 0, 200)
        };
        assert_eq!(
            written(write_human, &record),
            "2023-11-14T22:13:20.042Z 192.0.2.1 \"GET /a\" 200 13B 1.234ms backend-1 tries=1 id=00000000000000ab\n"
        );
        let json: serde_json::Value = serde_json::from_str(&written(write_json, &record)).unwrap();
        assert_eq!(json["time"], "2023-11-14T22:13:20.042Z");
        assert_eq!(json["duration_ms"], 1.234);
        assert_eq!((&json["route"], &json["cluster"]), (&"default".into(), &"default".into()));
        assert_eq!(json["backend"], "backend-1");
    }

    #[test]
    fn what_a_client_sent_breaks_no_line() {
        let record = Record { error: Some("gone"), ..refused(at(2), 1_000, 400) };
        assert_eq!(
            written(write_human, &record),
            "2023-11-14T22:13:20.042Z 192.0.2.1 \"GET /a\\\"b\\x0a\\xe9\" 400 13B 1000.000ms - tries=0 id=00000000000000ab error=\"gone\"\n"
        );
        let json: serde_json::Value = serde_json::from_str(&written(write_json, &record)).unwrap();
        assert_eq!(json["target"], "/a\"b\n\u{e9}");
        assert_eq!(json["backend"], serde_json::Value::Null);
        assert_eq!(json["error"], "gone");
    }
}
