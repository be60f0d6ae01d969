//! Upgrades of HTTP/1.1 as tunnels of HTTP/2 (extended CONNECT, RFC 8441), and back.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use loadx_http::RequestHead;

/// What a client's request for an upgrade offers.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) protocol: Vec<u8>,
    /// The value of Sec-WebSocket-Accept that the client expects, if the client sent a key.
    accept: Option<String>,
}

/// What RFC 6455, section 1.3, appends to the key of a client.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

impl Offer {
    /// The offer of a request; `None` if the request offers no upgrade.
    pub(super) fn of(head: &RequestHead) -> Option<Self> {
        // Of several protocols, the one that backends most likely know.
        let is_websocket = |protocol: &&[u8]| protocol.eq_ignore_ascii_case(b"websocket");
        let protocol =
            head.offered_protocols().find(is_websocket).or_else(|| head.offered_protocols().next())?.to_vec();
        let accept = head.values("sec-websocket-key").next().map(|key| {
            let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, KEY_SUFFIX].concat());
            BASE64_STANDARD.encode(hash)
        });
        Some(Offer { protocol, accept })
    }

    /// The head that tells a client of HTTP/1.1 that the tunnel is open. `head`: that of the response of HTTP/2, with a status of
    /// 200 to 299, in the notation of HTTP/1.1.
    pub(super) fn accepted(&self, head: &[u8]) -> Vec<u8> {
        let mut out = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: ".to_vec();
        out.extend_from_slice(&self.protocol);
        out.extend_from_slice(b"\r\n");
        if let Some(accept) = &self.accept {
            out.extend_from_slice(format!("sec-websocket-accept: {accept}\r\n").as_bytes());
        }
        let is_other = |line: &&[u8]| {
            let about_content: [&[u8]; 3] = [b"content-length:", b"transfer-encoding:", b"sec-websocket-accept:"];
            !about_content.iter().any(|name| line.starts_with(name))
        };
        head.split_inclusive(|byte| *byte == b'\n')
            .skip(1)
            .filter(is_other)
            .for_each(|line| out.extend_from_slice(line));
        out
    }
}

#[cfg(test)]
mod tests {
    use loadx_http::parse_request;

    use super::*;

    #[test]
    fn an_open_tunnel_looks_like_an_upgrade() {
        let mut head = RequestHead::default();
        let text = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        parse_request(text, &mut head).unwrap();
        let offer = Offer::of(&head).unwrap();
        let told = offer.accepted(b"HTTP/1.1 200 OK\r\nserver: x\r\ntransfer-encoding: chunked\r\n\r\n");
        // The value is that of RFC 6455, section 1.3.
        assert_eq!(
            String::from_utf8(told).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nserver: x\r\n\r\n"
        );
        parse_request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &mut head).unwrap();
        assert!(Offer::of(&head).is_none());
    }
}
