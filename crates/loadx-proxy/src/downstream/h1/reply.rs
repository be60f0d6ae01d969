//! Responses that LoadX itself makes: errors, and its status endpoints.

use std::io::Write as _;

use loadx_core::ProxyError;
use loadx_core::route::Respond;
use loadx_http::Version;

use crate::date;
use crate::request_id::RequestId;

/// The body of an error response: small JSON.
fn error_body(error: &ProxyError, id: &RequestId) -> Vec<u8> {
    let body = serde_json::json!({
        "error": error.kind,
        "message": error.message,
        "status": error.status,
        "request_id": id.to_string(),
    });
    let mut bytes = body.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// How a reply ends up with its client.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) version: Version,
    pub(crate) persistent: bool,
    /// Whether it answers a HEAD.
    pub(crate) to_head: bool,
}

/// Writes an error reply.
pub(crate) fn write_error(error: &ProxyError, id: &RequestId, manner: Manner, out: &mut Vec<u8>) -> u64 {
    let extra = format!("Proxy-Status: LoadX; error={}\r\nX-Request-Id: {id}\r\n", error.kind);
    write_json(error.status, &extra, &error_body(error, id), manner, out)
}

/// Writes the answer to an OPTIONS that ends here: what a gateway passes on (RFC 9110, section 9.3.7).
pub(crate) fn write_options(manner: Manner, out: &mut Vec<u8>) {
    write_reply(200, "", "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n", b"", manner, out);
}

/// Writes a JSON reply; `extra` holds whole field lines. Returns how many bytes of content it has.
pub(crate) fn write_json(status: u16, extra: &str, body: &[u8], manner: Manner, out: &mut Vec<u8>) -> u64 {
    let extra = format!("Cache-Control: no-store\r\n{extra}");
    write_reply(status, "Content-Type: application/json\r\n", &extra, body, manner, out)
}

/// Writes a redirect.
pub(crate) fn write_redirect(status: u16, location: &[u8], id: &RequestId, manner: Manner, out: &mut Vec<u8>) -> u64 {
    let location = String::from_utf8_lossy(location);
    write_reply(status, "", &format!("Location: {location}\r\nX-Request-Id: {id}\r\n"), b"", manner, out)
}

/// Writes a response that the config holds.
pub(crate) fn write_fixed(respond: &Respond, id: &RequestId, manner: Manner, out: &mut Vec<u8>) -> u64 {
    let kind = match respond.body.is_empty() {
        true => String::new(),
        false => format!("Content-Type: {}\r\n", respond.content_type),
    };
    // A status that never has content has no length either (RFC 9110, section 8.6).
    let body = if matches!(respond.status, 204 | 304) { "" } else { &respond.body };
    write_reply(respond.status, &kind, &format!("X-Request-Id: {id}\r\n"), body.as_bytes(), manner, out)
}

fn write_reply(status: u16, kind: &str, extra: &str, body: &[u8], manner: Manner, out: &mut Vec<u8>) -> u64 {
    let connection = match (manner.persistent, manner.version) {
        (false, _) => "Connection: close\r\n",
        (true, Version::Http10) => "Connection: keep-alive\r\n",
        (true, Version::Http11) => "",
    };
    let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    write!(
        out,
        "HTTP/1.1 {status} {}\r\n{kind}{length}{extra}Date: {}\r\n{connection}\r\n",
        reason_phrase(status),
        date::now(),
    )
    .expect("a Vec takes what is written to it");
    if manner.to_head {
        return 0;
    }
    out.extend_from_slice(body);
    body.len() as u64
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        205 => "Reset Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        418 => "I'm a teapot",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}
