//! The HTTP/2 of the client and of the backends of a scene.

use loadx_http::h2::frame::{
    Frame, FrameHead, PREFACE, put_data_head, put_headers, put_settings, put_settings_ack, put_window_update,
};
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

/// The fields of each response, and its content, the same as in HTTP/1.1.
const RESPONSE: [(&str, &str); 4] = [
    (":status", "200"),
    ("content-type", "text/plain"),
    ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ("content-length", "13"),
];
const CONTENT: &[u8] = b"Hello, World!";

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

/// A backend of HTTP/2 that answers each request at once, to the end of the connection.
pub(super) async fn serve(stream: &MemoryStream, buffer: &mut [u8]) {
    let (mut out, mut received, mut has_begun) = (Vec::with_capacity(64 * 1024), Vec::with_capacity(64 * 1024), false);
    put_settings(&[], &mut out);
    loop {
        if !out.is_empty() {
            stream.send(&out);
            out.clear();
        }
        let count = stream.receive(buffer).await;
        if count == 0 {
            return;
        }
        received.extend_from_slice(&buffer[..count]);
        let mut rest = &received[..];
        if !has_begun && rest.len() >= PREFACE.len() {
            has_begun = true;
            rest = &rest[PREFACE.len()..];
        }
        while let Some((head, after)) = rest.split_first_chunk().filter(|_| has_begun) {
            let head = FrameHead::read(head);
            let Some(payload) = after.get(..head.length) else { break };
            match head.frame(payload) {
                Ok(Frame::Headers { stream, .. }) => {
                    put_headers(stream, false, FRAME_MAX, &mut out, |out| {
                        RESPONSE.iter().for_each(|(name, value)| put_field(name.as_bytes(), value.as_bytes(), out));
                    });
                    put_data_head(stream, CONTENT.len(), true, &mut out);
                    out.extend_from_slice(CONTENT);
                }
                Ok(Frame::Settings(_)) => put_settings_ack(&mut out),
                _ => {}
            }
            rest = &after[head.length..];
        }
        let used = received.len() - rest.len();
        received.drain(..used);
    }
}
