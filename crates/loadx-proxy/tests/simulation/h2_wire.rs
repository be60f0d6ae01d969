//! HTTP/2 for clients and origins of the simulation: frames are written and read here, and the compression of fields is that of
//! another library.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use loadx_proxy::Stream as _;
use tokio::time::{Instant, sleep_until};

use crate::stream::SimStream;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const FRAME_MAX: usize = 16_384;

pub(crate) type Fields = Vec<(String, String)>;

/// A connection.
pub(crate) struct H2Wire {
    pub(crate) stream: SimStream,
    pub(crate) out: Vec<u8>,
    unread: Vec<u8>,
    decoder: fluke_hpack::Decoder<'static>,
    /// What may be sent on the connection, and on a new stream.
    pub(crate) window: i64,
    pub(crate) first_window: i64,
}

/// A frame that concerns an exchange.
pub(crate) enum Frame {
    Section {
        stream: u32,
        fields: Fields,
        ends: bool,
    },
    Data {
        stream: u32,
        content: Vec<u8>,
        ends: bool,
    },
    Reset {
        stream: u32,
    },
    /// The window of a stream grew.
    Window {
        stream: u32,
        bytes: i64,
    },
    /// The windows of all streams changed.
    Windows(i64),
    Goaway,
    /// LoadX asks whether the peer is there.
    Ping,
    Other,
}

impl H2Wire {
    pub(crate) fn new(stream: SimStream) -> Self {
        H2Wire {
            stream,
            out: Vec::new(),
            unread: Vec::new(),
            decoder: fluke_hpack::Decoder::new(),
            window: 65_535,
            first_window: 65_535,
        }
    }

    pub(crate) fn put(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        self.out.extend([&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat());
    }

    pub(crate) fn put_settings(&mut self, settings: &[(u16, u32)]) {
        let entry = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let entries = settings.iter().flat_map(entry).collect::<Vec<u8>>();
        self.put(SETTINGS, 0, 0, &entries);
    }

    pub(crate) fn put_section(&mut self, stream: u32, ends: bool, fields: &[(&str, &str)]) {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let section = fluke_hpack::Encoder::new().encode(fields);
        let end = if ends { END_STREAM } else { 0 };
        // In two frames, as far as there are two bytes.
        let (first, rest) = section.split_at(section.len() / 2);
        self.put(HEADERS, end, stream, first);
        self.put(CONTINUATION, END_HEADERS, stream, rest);
    }

    pub(crate) fn put_reset(&mut self, stream: u32, code: u32) {
        self.put(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// Opens the windows for received content.
    pub(crate) fn take(&mut self, stream: u32, bytes: usize, ends: bool) {
        if bytes > 0 {
            let increment = (bytes as u32).to_be_bytes();
            self.put(WINDOW_UPDATE, 0, 0, &increment);
            if !ends {
                self.put(WINDOW_UPDATE, 0, stream, &increment);
            }
        }
    }

    /// Writes and reads once, or waits until `until`. Returns false when the connection has ended. `reads`: whether to read.
    pub(crate) async fn step(&mut self, reads: bool, until: Option<Instant>) -> bool {
        let mut wrote = false;
        if !self.out.is_empty() {
            match self.stream.try_write(&[IoSlice::new(&self.out)]) {
                Ok(count) => {
                    self.out.drain(..count);
                    wrote = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        if reads {
            let mut buffer = [0; 4096];
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.unread.extend_from_slice(&buffer[..count]);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        if wrote {
            return true;
        }
        let far = Instant::now() + Duration::from_secs(4 * 3_600);
        let mut timer = pin!(sleep_until(until.unwrap_or(far)));
        let (stream, has_output) = (&self.stream, !self.out.is_empty());
        poll_fn(|cx| {
            if timer.as_mut().poll(cx).is_ready()
                || (reads && stream.poll_readable(cx).is_ready())
                || (has_output && stream.poll_writable(cx).is_ready())
            {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
        true
    }

    /// The received bytes, up to this number.
    pub(crate) fn take_bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        (self.unread.len() >= count).then(|| self.unread.drain(..count).collect())
    }

    /// The next frame that has come. Answers SETTINGS and PING.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        let head = self.unread.first_chunk::<9>().copied()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = self.take_bytes(9 + length)?.split_off(9);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let (kind, flags) = (head[3], head[4]);
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        let ends = flags & END_STREAM != 0;
        Some(match kind {
            SETTINGS if flags & ACK == 0 => {
                let mut change = 0;
                for entry in payload.chunks(6).filter(|entry| entry[..2] == [0, 4]) {
                    let window = i64::from(u32::from_be_bytes(entry[2..].try_into().unwrap()));
                    change += window - std::mem::replace(&mut self.first_window, window);
                }
                self.put(SETTINGS, ACK, 0, b"");
                Frame::Windows(change)
            }
            PING if flags & ACK == 0 => {
                self.put(PING, ACK, 0, &payload);
                Frame::Ping
            }
            WINDOW_UPDATE if stream == 0 => {
                self.window += i64::from(number(0));
                Frame::Other
            }
            WINDOW_UPDATE => Frame::Window { stream, bytes: i64::from(number(0)) },
            HEADERS => {
                assert!(flags & END_HEADERS != 0, "the messages of the plans are small");
                let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
                let fields = self.decoder.decode(&payload).expect("a valid field section");
                let fields = fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
                Frame::Section { stream, fields, ends }
            }
            DATA => Frame::Data { stream, content: payload, ends },
            RST_STREAM => Frame::Reset { stream },
            GOAWAY => Frame::Goaway,
            _ => Frame::Other,
        })
    }
}
