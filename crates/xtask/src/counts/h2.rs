//! The HTTP/2 of the client of a scene.

use loadx_http::h2::frame::{Frame, FrameHead, PREFACE, put_headers, put_settings, put_window_update};
use loadx_http::h2::hpack::put_field;

use super::memory::MemoryStream;

/// The fields of each request, the same as in HTTP/1.1.
const FIELDS: [(&str, &str); 6] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/orders?page=3"),
    (":authority", "app.example.com"),
    ("user-agent", "counts/1.0"),
    ("accept", "*/*"),
];

/// The largest frame.
const FRAME_MAX: usize = 16_384;

/// A client of HTTP/2 that sends some requests at the same time.
pub(super) struct ClientH2 {
    /// The number of requests at the same time.
    streams: u32,
    /// The next stream.
    next: u32,
    out: Vec<u8>,
    received: Vec<u8>,
}

impl ClientH2 {
    pub(super) fn new(streams: u32) -> Self {
        let mut out = PREFACE.to_vec();
        put_settings(&[], &mut out);
        ClientH2 { streams, next: 1, out, received: Vec::with_capacity(64 * 1024) }
    }

    /// Sends the requests, and reads their responses.
    pub(super) async fn exchange(&mut self, stream: &MemoryStream, buffer: &mut [u8]) {
        for _ in 0..self.streams {
            put_headers(self.next, true, FRAME_MAX, &mut self.out, |out| {
                FIELDS.iter().for_each(|(name, value)| put_field(name.as_bytes(), value.as_bytes(), out));
            });
            self.next += 2;
        }
        stream.send(&self.out);
        self.out.clear();
        let (mut left, mut content) = (self.streams, 0);
        while left > 0 {
            let count = stream.receive(buffer).await;
            self.received.extend_from_slice(&buffer[..count]);
            let mut rest = &self.received[..];
            while let Some((head, after)) = rest.split_first_chunk() {
                let head = FrameHead::read(head);
                let Some(payload) = after.get(..head.length) else { break };
                if let Ok(Frame::Data { content: piece, ends, .. }) = head.frame(payload) {
                    content += piece.len() as u32;
                    left -= u32::from(ends);
                }
                rest = &after[head.length..];
            }
            let used = self.received.len() - rest.len();
            self.received.drain(..used);
        }
        put_window_update(0, content, &mut self.out);
    }
}
