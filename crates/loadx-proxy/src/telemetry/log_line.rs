//! Formats a line of the access log.

use std::time::Duration;

use loadx_core::Backend;
use loadx_core::config::LogField;
use loadx_http::put_ip;

use super::log_text::{put_escaped, put_hex_escape, put_milliseconds, put_number, put_unicode_escape};
use super::record::Record;
use super::wall_clock::Stamp;
use crate::request_id::Spelled;

// Without the formatter of the standard library, which took two thirds of the time of a line.

pub(super) fn write_human(out: &mut Vec<u8>, time: &Stamp<'_>, record: &Record<'_>, fields: &[LogField]) {
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
    put_escaped(out, record.backend.map_or("-", Backend::name).as_bytes(), put_hex_escape);
    // A config without routes has only the route `default`.
    if let Some(route) = record.request.route().filter(|route| *route != "default") {
        out.extend_from_slice(b" route=");
        put_escaped(out, route.as_bytes(), put_hex_escape);
        if let Some(cluster) = record.cluster {
            out.extend_from_slice(b" cluster=");
            put_escaped(out, cluster.name.as_bytes(), put_hex_escape);
        }
    }
    out.extend_from_slice(b" tries=");
    put_number(out, record.tries as u64);
    out.extend_from_slice(b" id=");
    out.extend_from_slice(record.request.id().spelled(&mut Spelled::default()));
    for (name, time) in [(&b" queue="[..], record.waits.queue), (b" connect=", record.waits.connect)] {
        if time > Duration::ZERO {
            out.extend_from_slice(name);
            put_milliseconds(out, time);
            out.extend_from_slice(b"ms");
        }
    }
    for field in fields {
        put_field_human(out, *field, record);
    }
    if let Some(kind) = record.error_kind() {
        out.extend_from_slice(b" fault=");
        out.extend_from_slice(kind.fault().as_str().as_bytes());
        out.push(b':');
        out.extend_from_slice(kind.as_str().as_bytes());
    }
    if let Some(error) = record.error {
        out.extend_from_slice(b" error=\"");
        put_escaped(out, error.message.as_bytes(), put_hex_escape);
        out.push(b'"');
    }
    out.push(b'\n');
}

pub(super) fn write_json(out: &mut Vec<u8>, time: &Stamp<'_>, record: &Record<'_>, fields: &[LogField]) {
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
    put_name(out, b",\"route\":\"", record.request.route());
    put_name(out, b",\"cluster\":\"", record.cluster.map(|cluster| &*cluster.name));
    put_name(out, b",\"backend\":\"", record.backend.map(Backend::name));
    out.extend_from_slice(b",\"tries\":");
    put_number(out, record.tries as u64);
    out.extend_from_slice(b",\"id\":\"");
    out.extend_from_slice(record.request.id().spelled(&mut Spelled::default()));
    out.push(b'"');
    put_name(out, b",\"listener\":\"", record.request.listener_name());
    out.extend_from_slice(b",\"received\":");
    put_number(out, record.received);
    for (key, time) in [
        (&b",\"queue_ms\":"[..], Some(record.waits.queue).filter(|time| *time > Duration::ZERO)),
        (b",\"connect_ms\":", Some(record.waits.connect).filter(|time| *time > Duration::ZERO)),
        (b",\"head_ms\":", record.response_head()),
    ] {
        if let Some(time) = time {
            out.extend_from_slice(key);
            put_milliseconds(out, time);
        }
    }
    if record.request.has_trace()
        && let Some(trace) = record.request.trace()
    {
        out.extend_from_slice(b",\"trace_id\":\"");
        out.extend_from_slice(&trace.trace_id());
        out.push(b'"');
    }
    for field in fields {
        put_field_json(out, *field, record);
    }
    if let Some(kind) = record.error_kind() {
        out.extend_from_slice(b",\"fault\":\"");
        out.extend_from_slice(kind.fault().as_str().as_bytes());
        out.extend_from_slice(b"\",\"error_kind\":\"");
        out.extend_from_slice(kind.as_str().as_bytes());
        out.push(b'"');
    }
    if let Some(error) = record.error {
        out.extend_from_slice(b",\"error\":\"");
        put_escaped(out, error.message.as_bytes(), put_unicode_escape);
        out.push(b'"');
    }
    out.extend_from_slice(b"}\n");
}

/// Writes a field that the config wants, if present.
fn put_field_human(out: &mut Vec<u8>, field: LogField, record: &Record<'_>) {
    if let Some(value) = record.field(field) {
        out.push(b' ');
        out.extend_from_slice(field.as_str().as_bytes());
        out.extend_from_slice(b"=\"");
        put_escaped(out, value, put_hex_escape);
        out.push(b'"');
    }
}

/// Writes a field that the config wants, or null.
fn put_field_json(out: &mut Vec<u8>, field: LogField, record: &Record<'_>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(field.as_str().as_bytes());
    match record.field(field) {
        None => out.extend_from_slice(b"\":null"),
        Some(value) => {
            out.extend_from_slice(b"\":\"");
            put_escaped(out, value, put_unicode_escape);
            out.push(b'"');
        }
    }
}

/// Writes a key with a name or null. `key` ends with the opening quote of the value.
#[inline(always)]
fn put_name<const LENGTH: usize>(out: &mut Vec<u8>, key: &[u8; LENGTH], name: Option<&str>) {
    match name {
        None => {
            out.extend_from_slice(&key[..LENGTH - 1]);
            out.extend_from_slice(b"null");
        }
        Some(name) => {
            out.extend_from_slice(key);
            put_escaped(out, name.as_bytes(), put_unicode_escape);
            out.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loadx_core::ErrorKind;
    use loadx_core::plan::Desired;

    use super::super::testing::{at, incoming, plan, refused};
    use super::*;
    use crate::telemetry::{Cause, Request};

    const STAMP: Stamp<'static> = Stamp { second: "2023-11-14T22:13:20", millis: 42 };

    fn written(write: fn(&mut Vec<u8>, &Stamp<'_>, &Record<'_>, &[LogField]), record: &Record<'_>) -> String {
        let mut out = Vec::new();
        write(&mut out, &STAMP, record, &[]);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_its_documented_format() {
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
    fn a_line_names_the_route_and_the_cluster_of_a_config_with_routes() {
        let text =
            r#"{"clusters": {"web": {"backends": ["192.0.2.9:80"]}}, "routes": [{"name": "r", "cluster": "web"}]}"#;
        let (desired, _) = Desired::new(at(0), &loadx_core::config::parse(text).unwrap());
        let plan = Arc::clone(desired.plan());
        let incoming = incoming(Arc::clone(&plan), b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
        let record = Record {
            request: Request::Accepted(&incoming),
            cluster: Some(&plan.clusters[0]),
            ..refused(at(1), 0, 200)
        };
        let line = written(write_human, &record);
        assert!(line.contains("ms - route=r cluster=web tries=0 "), "{line}");
    }

    #[test]
    fn bytes_of_a_client_cannot_break_a_line() {
        let record = Record { error: Some(Cause::new(ErrorKind::ClientGone, "gone")), ..refused(at(2), 1_000, 400) };
        assert_eq!(
            written(write_human, &record),
            "2023-11-14T22:13:20.042Z 192.0.2.1 \"GET /a\\\"b\\x0a\\xe9\" 400 13B 1000.000ms - tries=0 id=00000000000000ab fault=client:client_gone error=\"gone\"\n"
        );
        let json: serde_json::Value = serde_json::from_str(&written(write_json, &record)).unwrap();
        assert_eq!(json["target"], "/a\"b\n\u{e9}");
        assert_eq!(json["backend"], serde_json::Value::Null);
        assert_eq!(json["error"], "gone");
    }
}
