//! Formats a line of the access log by a template. The Common Log Format and its relative are templates of LoadX's own.

use std::time::Duration;

use loadx_core::Backend;
use loadx_core::config::{LogFormat, LogValue};
use loadx_core::route::{Piece, Template};
use loadx_http::put_ip;

use super::log_text::{put_escaped, put_hex_escape, put_milliseconds, put_number};
use super::record::Record;
use super::wall_clock::Stamp;
use crate::request_id::Spelled;

const COMMON: &str = r#"{client} - - [{clf_time}] "{method} {target} {protocol}" {status} {bytes}"#;
const COMBINED: &str =
    r#"{client} - - [{clf_time}] "{method} {target} {protocol}" {status} {bytes} "{referer}" "{user_agent}""#;

/// How a line is written.
#[derive(Clone, Debug)]
pub(super) enum LineFormat {
    Human,
    Json,
    Template(Template<LogValue>),
}

impl LineFormat {
    pub(super) fn of(format: &LogFormat) -> Self {
        let own = |text| LineFormat::Template(Template::parse(text).expect("the template is valid"));
        match format {
            LogFormat::Human => LineFormat::Human,
            LogFormat::Json => LineFormat::Json,
            LogFormat::Common => own(COMMON),
            LogFormat::Combined => own(COMBINED),
            LogFormat::Template(template) => LineFormat::Template(template.clone()),
        }
    }
}

pub(super) fn write_template(out: &mut Vec<u8>, time: &Stamp<'_>, record: &Record<'_>, template: &Template<LogValue>) {
    for piece in template.pieces() {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Variable(value) => {
                let before = out.len();
                put_value(out, *value, time, record);
                if out.len() == before {
                    out.push(b'-');
                }
            }
        }
    }
    out.push(b'\n');
}

/// Writes a value, or nothing if there is none.
fn put_value(out: &mut Vec<u8>, value: LogValue, time: &Stamp<'_>, record: &Record<'_>) {
    let (method, target) = record.request.line();
    let mut text = |text: Option<&[u8]>| put_escaped(out, text.unwrap_or_default(), put_hex_escape);
    match value {
        LogValue::Method => text(Some(method)),
        LogValue::Target => text(Some(target)),
        LogValue::Listener => text(record.request.listener_name().map(str::as_bytes)),
        LogValue::Route => text(record.request.route().map(str::as_bytes)),
        LogValue::Cluster => text(record.cluster.map(|cluster| cluster.name.as_bytes())),
        LogValue::Backend => text(record.backend.map(Backend::name).map(str::as_bytes)),
        LogValue::ErrorKind => text(record.error_kind().map(|kind| kind.as_str().as_bytes())),
        LogValue::Fault => text(record.error_kind().map(|kind| kind.fault().as_str().as_bytes())),
        LogValue::Error => text(record.error.map(|cause| cause.message.as_bytes())),
        LogValue::Field(field) => text(record.field(field)),
        LogValue::Time => time.put(out),
        LogValue::ClfTime => time.put_clf(out),
        LogValue::Client => put_ip(out, record.request.client()),
        LogValue::Status => put_number(out, record.status.into()),
        LogValue::Bytes => put_number(out, record.content),
        LogValue::Received => put_number(out, record.received),
        LogValue::DurationMs => put_milliseconds(out, record.took()),
        LogValue::QueueMs | LogValue::ConnectMs => {
            let waited = if value == LogValue::QueueMs { record.waits.queue } else { record.waits.connect };
            if waited > Duration::ZERO {
                put_milliseconds(out, waited);
            }
        }
        LogValue::HeadMs => {
            if let Some(head) = record.response_head() {
                put_milliseconds(out, head);
            }
        }
        LogValue::Tries => put_number(out, record.tries as u64),
        LogValue::Id => out.extend_from_slice(record.request.id().spelled(&mut Spelled::default())),
        LogValue::TraceId => {
            if let Some(trace) = record.request.trace() {
                out.extend_from_slice(&trace.trace_id());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loadx_core::ErrorKind;
    use loadx_core::route::Variables as _;

    use super::super::testing::{at, incoming, plan, refused};
    use super::*;
    use crate::telemetry::{Cause, Request, Waits};

    const STAMP: Stamp<'static> = Stamp { second: "2023-01-04T22:13:20", millis: 42 };

    fn written(format: &LogFormat, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        let LineFormat::Template(template) = LineFormat::of(format) else { panic!("{format} is no template") };
        write_template(&mut out, &STAMP, record, &template);
        String::from_utf8(out).unwrap()
    }

    fn template(text: &str) -> LogFormat {
        LogFormat::Template(Template::parse(text).unwrap())
    }

    #[test]
    fn the_common_formats_have_their_known_form() {
        let plan = plan();
        let head = b"GET /a?b HTTP/1.1\r\nHost: a\r\nReferer: http://r/\r\nUser-Agent: curl/8 \"x\"\r\n\r\n";
        let incoming = incoming(Arc::clone(&plan), head);
        let record = Record { request: Request::Accepted(&incoming), ..refused(at(1), 0, 200) };
        let common = "192.0.2.1 - - [04/Jan/2023:22:13:20 +0000] \"GET /a?b HTTP/1.1\" 200 13";
        assert_eq!(written(&LogFormat::Common, &record), format!("{common}\n"));
        assert_eq!(written(&LogFormat::Combined, &record), format!("{common} \"http://r/\" \"curl/8 \\\"x\\\"\"\n"));
    }

    #[test]
    fn each_variable_has_a_value_or_a_dash() {
        let plan = plan();
        let view = plan.clusters[0].view.load();
        let head = b"GET /a HTTP/1.1\r\nHost: a\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
        let incoming = incoming(Arc::clone(&plan), head);
        let ms = Duration::from_millis;
        let record = Record {
            request: Request::Accepted(&incoming),
            began: at(1),
            ended: at(1) + ms(30),
            head_at: Some(at(1) + ms(20)),
            waits: Waits { queue: ms(1), connect: ms(2) },
            received: 7,
            cluster: Some(&plan.clusters[0]),
            backend: Some(&view.backends()[0]),
            tries: 2,
            error: Some(Cause::new(ErrorKind::HttpResponseIncomplete, "broke \"off\"")),
            ..refused(at(1), 0, 502)
        };
        let expected = [
            ("time", "2023-01-04T22:13:20.042Z"),
            ("client", "192.0.2.1"),
            ("received", "7"),
            ("duration_ms", "30.000"),
            ("queue_ms", "1.000"),
            ("connect_ms", "2.000"),
            ("head_ms", "20.000"),
            ("listener", "default"),
            ("route", "default"),
            ("backend", "backend-1"),
            ("tries", "2"),
            ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
            ("error_kind", "http_response_incomplete"),
            ("fault", "backend"),
            ("error", "broke \\\"off\\\""),
            ("host", "a"),
            ("tls_version", "-"),
        ];
        for (name, value) in expected {
            assert_eq!(written(&template(&format!("{{{name}}}")), &record), format!("{value}\n"), "{name}");
        }
        for (name, _) in LogValue::ALL {
            let line = written(&template(&format!("{{{name}}}")), &record);
            assert!(line.len() > 1 && line.ends_with('\n') && line.lines().count() == 1, "{name}: {line}");
        }
    }
}
