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
