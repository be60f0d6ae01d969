//! Messages in the notation of HTTP/1.1 as field sections.

use crate::h2::hpack::{put_field, put_status};

/// A name in lower case of at most this length needs no memory.
const SHORT: usize = 64;

/// Appends the head of a response. `text`: the head in the notation of HTTP/1.1, whose status line is skipped. `status`: the status.
/// `is_tunnel`: whether the response opens a tunnel, which HTTP/2 opens without the fields of the handshake of WebSockets.
pub fn put_head(status: u16, text: &[u8], is_tunnel: bool, out: &mut Vec<u8>) {
    put_status(status, out);
    let line_end = memchr::memchr(b'\n', text).map_or(text.len(), |end| end + 1);
    each_field(&text[line_end..], |name, value| {
        if !(is_tunnel && name == b"sec-websocket-accept") {
            put_field(name, value, out);
        }
    });
}

/// Appends the head of a request. `text`: the head in the notation of HTTP/1.1, whose Host becomes `:authority`. `scheme`: http or
/// https. `tunnel`: the protocol of a tunnel that the request opens (extended CONNECT, RFC 8441), in place of an upgrade.
pub fn put_request(text: &[u8], scheme: &[u8], tunnel: Option<&[u8]>, out: &mut Vec<u8>) {
    let line_end = memchr::memchr(b'\n', text).map_or(text.len(), |end| end + 1);
    let (line, lines) = text.split_at(line_end);
    let mut parts = line.trim_ascii_end().splitn(3, |byte| *byte == b' ');
    let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match tunnel {
        None => put_field(b":method", method, out),
        Some(protocol) => {
            put_field(b":method", b"CONNECT", out);
            put_field(b":protocol", protocol, out);
        }
    }
    put_field(b":scheme", scheme, out);
    put_field(b":path", target, out);
    // The pseudo-header fields come first, and Host may stand anywhere.
    let mut has_authority = false;
    each_field(lines, |name, value| {
        if name == b"host" && !value.is_empty() && !has_authority {
            has_authority = true;
            put_field(b":authority", value, out);
        }
    });
    each_field(lines, |name, value| match name {
        b"host" if has_authority => {}
        b"sec-websocket-key" | b"content-length" if tunnel.is_some() => {}
        _ => put_field(name, value, out),
    });
    let takes_trailers = |line: &[u8]| line.len() > 3 && line[..3].eq_ignore_ascii_case(b"te:");
    if lines.split(|byte| *byte == b'\n').any(takes_trailers) {
        // RFC 9113, section 8.2.2, allows no other value.
        put_field(b"te", b"trailers", out);
    }
}

/// Appends field lines, each with its CR LF. Fields about one connection of HTTP/1.1 are left out.
pub fn put_lines(lines: &[u8], out: &mut Vec<u8>) {
    each_field(lines, |name, value| put_field(name, value, out));
}

/// Calls `put` with each field, with its name in lower case, up to the empty line or the end.
fn each_field(lines: &[u8], mut put: impl FnMut(&[u8], &[u8])) {
    let mut short = [0; SHORT];
    let mut long = Vec::new();
    let mut rest = lines;
    while let Some(colon) = memchr::memchr2(b':', b'\n', rest) {
        let Some(end) = memchr::memchr(b'\n', &rest[colon..]).map(|end| colon + end) else { return };
        let (line, after) = rest.split_at(end + 1);
        rest = after;
        if line[colon] != b':' {
            return;
        }
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let lower: &mut [u8] = match short.get_mut(..name.len()) {
            Some(short) => short,
            None => {
                long.resize(name.len(), 0);
                &mut long
            }
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        if !is_of_one_connection(lower) {
            put(lower, value);
        }
    }
}

/// Whether the field is about one connection of HTTP/1.1 (RFC 9113, section 8.2.2).
fn is_of_one_connection(name: &[u8]) -> bool {
    matches!(name, b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" | b"te")
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::h2::hpack::Decoder;

    fn fields(section: &[u8]) -> Vec<String> {
        let mut fields = Vec::new();
        let decoded = Decoder::default().decode(section, &mut Vec::new(), |name, value| {
            fields.push(format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
            ControlFlow::Continue(())
        });
        decoded.unwrap();
        fields
    }

    #[test]
    fn heads_become_sections() {
        let text = "HTTP/1.1 200 OK\r\nServer: x\r\nX-A:\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
            Set-Cookie: a=b\r\nSet-Cookie:  c: d \t\r\nSec-WebSocket-Accept: z\r\nUpgrade: websocket\r\n\r\nX: y\r\n";
        let mut out = Vec::new();
        put_head(404, text.as_bytes(), false, &mut out);
        let all = [":status=404", "server=x", "x-a=", "set-cookie=a=b", "set-cookie=c: d", "sec-websocket-accept=z"];
        assert_eq!(fields(&out), all);
        out.clear();
        put_head(200, text.as_bytes(), true, &mut out);
        assert_eq!(fields(&out)[1..], all[1..5]);
    }

    #[test]
    fn requests_become_sections() {
        let text = b"POST /a?b HTTP/1.1\r\nX-A: 1\r\nHost: x.test:1\r\nConnection: TE, Upgrade\r\nTE: trailers\r\n\
            Upgrade: websocket\r\nSec-WebSocket-Key: k\r\nTransfer-Encoding: chunked\r\n\r\nY: z\r\n";
        let mut out = Vec::new();
        put_request(text, b"https", None, &mut out);
        let pseudo = [":method=POST", ":scheme=https", ":path=/a?b", ":authority=x.test:1"];
        assert_eq!(fields(&out), [&pseudo[..], &["x-a=1", "sec-websocket-key=k", "te=trailers"]].concat());
        out.clear();
        put_request(text, b"http", Some(b"websocket"), &mut out);
        let pseudo = [":method=CONNECT", ":protocol=websocket", ":scheme=http", ":path=/a?b", ":authority=x.test:1"];
        assert_eq!(fields(&out), [&pseudo[..], &["x-a=1", "te=trailers"]].concat());
        out.clear();
        put_request(b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", b"http", None, &mut out);
        assert_eq!(fields(&out), [":method=OPTIONS", ":scheme=http", ":path=*", "host="]);
    }

    #[test]
    fn lines_become_sections() {
        let long = "X".repeat(100);
        let mut out = Vec::new();
        put_lines(format!("{long}: y\r\nGrpc-Status: 0\r\nTE: trailers\r\n").as_bytes(), &mut out);
        assert_eq!(fields(&out), [format!("{}=y", "x".repeat(100)), "grpc-status=0".to_owned()]);
        out.clear();
        put_lines(b"", &mut out);
        put_lines(b"cut", &mut out);
        put_lines(b"cut: off", &mut out);
        assert_eq!(out, b"");
    }
}
