//! The server's side of a connection, as a state machine: bytes and the time go in, events and bytes come out.
//!
//! The caller owns all buffers, so that a connection without requests holds only its state and the table of HPACK.

mod budget;
mod receive;
mod streams;

use std::collections::VecDeque;
use std::time::Duration;

use super::fault::{Code, Fault};
use super::flow::{ReceiveWindow, SendWindow};
use super::frame;
use super::hpack::Decoder;
use super::priority::Priority;
use super::section::{Asked, RequestMemory};
use super::settings::{Setting, Settings};
use crate::limits::h2::{
    CONNECTION_WINDOW, FRAME_BYTES_MAX, IDLE_FRAMES_MAX, IDLE_FRAMES_PER_SECOND, RECENT_RESETS, SECTION_BYTES_MAX,
    STREAM_FAULTS_MAX, STREAM_FAULTS_PER_SECOND, STREAMS_MAX,
};

use budget::Budget;
use receive::Begun;
use streams::Streams;

/// A connection with a client. Every call that appends to `out` leaves whole frames there, which the caller must send in order.
#[derive(Debug)]
pub struct Connection {
    stage: Stage,
    decoder: Decoder,
    /// The settings of the client.
    peer: Settings,
    streams: Streams,
    /// The requests that the caller has not finished: a client that resets streams gets no more places than another one.
    running: u32,
    /// The last stream that the client opened.
    last: u32,
    leaving: Leaving,
    /// A field section that has begun and has not ended.
    section: Option<Begun>,
    send: SendWindow,
    receive: ReceiveWindow,
    /// Streams that LoadX has reset, and on which frames may be under way; the newest last.
    recent_resets: VecDeque<u32>,
    idle_frames: Budget,
    stream_faults: Budget,
    /// Whether a field section was sent.
    has_sent_section: bool,
    /// Whether the client has acknowledged LoadX's settings: before that, it may open more streams than allowed.
    is_acknowledged: bool,
}

/// What must come next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Stage {
    Preface,
    /// The first frame must be SETTINGS (RFC 9113, section 3.4).
    Settings,
    Frames,
}

/// The steps of a graceful end (RFC 9113, section 6.8).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// The client knows that the connection ends. Requests that are under way are still served.
    Announced,
    /// Requests on streams behind this one are not served.
    After(u32),
}

/// The memory that reading needs meanwhile. Connections can share it; with used memory, reading allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    text: Vec<u8>,
    request: RequestMemory,
    decoded: Vec<u8>,
}

/// What the client did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event<'e> {
    /// Nothing that concerns the caller.
    Nothing,
    /// A request. The caller calls [`Connection::finished`] when the request has ended in any way.
    Request {
        /// The stream.
        stream: u32,
        /// What is asked for beside the text.
        asked: Asked,
        /// The head in the notation of HTTP/1.1.
        text: &'e [u8],
        /// Whether the request has no content.
        ends: bool,
    },
    /// A request whose field section is too large. The caller can answer, and calls [`Connection::finished`].
    TooLarge {
        /// The stream.
        stream: u32,
        /// The beginning of the head.
        text: &'e [u8],
    },
    /// A request beyond the largest number at the same time; its stream was reset.
    Refused,
    /// A request that breaks the rules of HTTP/2; its stream was reset.
    Malformed {
        /// The broken rule.
        reason: &'static str,
        /// The beginning of the head.
        text: &'e [u8],
    },
    /// Content. The caller calls [`Connection::pass`] when the content no longer takes memory.
    Content {
        /// The stream.
        stream: u32,
        /// The content; may be empty.
        content: &'e [u8],
        /// Whether the request is complete.
        ends: bool,
    },
    /// A trailer section, which ends the request.
    Trailers {
        /// The stream.
        stream: u32,
        /// The field lines, each with its CR LF.
        lines: &'e [u8],
    },
    /// The client ended a stream, or LoadX reset the stream for a fault of the client.
    Reset {
        /// The stream.
        stream: u32,
        /// Why.
        code: Code,
        /// The fault, if the client broke a rule.
        fault: Option<&'static str>,
    },
    /// The client wants another order.
    Priority {
        /// The stream.
        stream: u32,
        /// The new priority.
        priority: Priority,
    },
    /// The client opens no more streams.
    Goaway(Code),
}

/// The data of the PING that tells when the client must know that the connection ends.
const LEAVING_PING: [u8; 8] = *b"leaving\0";

/// What a request or a frame with content earns, in frames that move nothing: WINDOW_UPDATE for the stream and the connection, PING,
/// and RST_STREAM.
const EARNED: u32 = 4;

impl Connection {
    /// A connection before its first byte. Appends the settings of LoadX to `out`.
    pub fn new(out: &mut Vec<u8>) -> Self {
        let settings = [
            Setting::StreamsMax(STREAMS_MAX),
            Setting::FieldsMax(SECTION_BYTES_MAX as u32),
            Setting::ExtendedConnect(true),
            Setting::NoTreePriorities(true),
        ];
        frame::put_settings(&settings, out);
        let standard = Settings::default();
        frame::put_window_update(0, CONNECTION_WINDOW - standard.window, out);
        Connection {
            stage: Stage::Preface,
            decoder: Decoder::default(),
            peer: standard,
            streams: Streams::default(),
            running: 0,
            last: 0,
            leaving: Leaving::No,
            section: None,
            send: SendWindow::new(standard.window),
            receive: ReceiveWindow::new(CONNECTION_WINDOW),
            recent_resets: VecDeque::new(),
            idle_frames: Budget::new(IDLE_FRAMES_MAX, IDLE_FRAMES_PER_SECOND),
            stream_faults: Budget::new(STREAM_FAULTS_MAX, STREAM_FAULTS_PER_SECOND),
            has_sent_section: false,
            is_acknowledged: false,
        }
    }

    /// The number of requests that are not finished.
    pub fn running(&self) -> u32 {
        self.running
    }

    /// Whether a field section has begun and has not ended.
    pub fn is_within_section(&self) -> bool {
        self.section.is_some()
    }

    /// Whether the client lets no content through on the whole connection.
    pub fn is_shut(&self) -> bool {
        self.send.available() == 0
    }

    /// Whether the client lets no content through on a stream, whatever it lets through on the connection.
    pub fn is_stream_shut(&self, stream: u32) -> bool {
        self.streams.get(stream).is_some_and(|open| open.send.available() == 0)
    }

    /// How much content may be sent on a stream now, in bytes; `None` if nothing may be sent on the stream any more.
    pub fn sendable(&self, stream: u32) -> Option<usize> {
        let open = self.streams.get(stream).filter(|open| open.is_sending)?;
        Some(open.send.available().min(self.send.available()))
    }

    /// Appends a field section, which `put` appends in HPACK. `ends`: whether the response ends. Does nothing if nothing may be sent
    /// on the stream any more.
    pub fn put_section(&mut self, stream: u32, ends: bool, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
        if self.sendable(stream).is_none() {
            return;
        }
        let is_first = !std::mem::replace(&mut self.has_sent_section, true);
        frame::put_headers(stream, ends, FRAME_BYTES_MAX, out, |out| {
            if is_first {
                // LoadX uses no table, whatever the size that the client allows. A client that has made the table smaller must be
                // told so (RFC 7541, section 4.2).
                out.push(0x20);
            }
            put(out);
        });
        self.idle_frames.earn(EARNED);
        if ends {
            self.end_sending(stream);
        }
    }

    /// Appends content of at most [`sendable`](Self::sendable) bytes. `ends`: whether the response ends.
    pub fn put_content(&mut self, stream: u32, content: &[u8], ends: bool, out: &mut Vec<u8>) {
        let Some(open) = self.streams.get_mut(stream).filter(|open| open.is_sending) else { return };
        debug_assert!(content.len() <= open.send.available().min(self.send.available()));
        open.send.take(content.len());
        self.send.take(content.len());
        let mut rest = content;
        loop {
            let (piece, after) = rest.split_at(rest.len().min(FRAME_BYTES_MAX));
            let is_last = after.is_empty();
            frame::put_data_head(stream, piece.len(), ends && is_last, out);
            out.extend_from_slice(piece);
            self.idle_frames.earn(EARNED);
            rest = after;
            if is_last {
                break;
            }
        }
        if ends {
            self.end_sending(stream);
        }
    }

    fn end_sending(&mut self, stream: u32) {
        if let Some(open) = self.streams.get_mut(stream) {
            open.is_sending = false;
            if !open.is_receiving {
                self.streams.close(stream);
            }
        }
    }

    /// Notes that so much received content of a stream no longer takes memory, so that the client may send more.
    pub fn pass(&mut self, stream: u32, bytes: usize, out: &mut Vec<u8>) {
        self.pass_on_connection(bytes, out);
        let open = self.streams.get_mut(stream).filter(|open| open.is_receiving);
        if let Some(increment) = open.and_then(|open| open.receive.pass(bytes)) {
            frame::put_window_update(stream, increment, out);
        }
    }

    fn pass_on_connection(&mut self, bytes: usize, out: &mut Vec<u8>) {
        if let Some(increment) = self.receive.pass(bytes) {
            frame::put_window_update(0, increment, out);
        }
    }

    /// Ends a stream at once.
    pub fn reset(&mut self, stream: u32, code: Code, out: &mut Vec<u8>) {
        if self.streams.close(stream).is_some() {
            self.put_reset(stream, code, out);
        }
    }

    fn put_reset(&mut self, stream: u32, code: Code, out: &mut Vec<u8>) {
        frame::put_reset(stream, code, out);
        if self.recent_resets.len() == RECENT_RESETS {
            self.recent_resets.pop_front();
        }
        self.recent_resets.push_back(stream);
    }

    /// Ends a request for the caller: its place is free. Resets the stream if the response is not complete, or if the client still
    /// sends. `unread`: received content that the caller has not passed, in bytes.
    pub fn finished(&mut self, stream: u32, unread: usize, out: &mut Vec<u8>) {
        self.running -= 1;
        self.pass_on_connection(unread, out);
        if let Some(open) = self.streams.get(stream) {
            // The client may stop sending without a fault (RFC 9113, section 8.1).
            let code = if open.is_sending { Code::InternalError } else { Code::NoError };
            self.reset(stream, code, out);
        }
    }

    /// Frees the memory that a connection without requests does not need.
    pub fn shrink(&mut self) {
        self.streams.shrink();
    }

    /// Tells the client that the connection will end. The client's next requests are served until the client has answered, or
    /// until the caller calls [`leave`](Self::leave).
    pub fn announce_end(&mut self, out: &mut Vec<u8>) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Announced;
            frame::put_goaway((1 << 31) - 1, Code::NoError, "", out);
            frame::put_ping(false, &LEAVING_PING, out);
        }
    }

    /// Serves no request on a stream that the client has not opened yet.
    pub fn leave(&mut self, out: &mut Vec<u8>) {
        if !self.has_left() {
            self.leaving = Leaving::After(self.last);
            frame::put_goaway(self.last, Code::NoError, "", out);
        }
    }

    /// Whether [`leave`](Self::leave) was called, or the client has answered to [`announce_end`](Self::announce_end).
    pub fn has_left(&self) -> bool {
        matches!(self.leaving, Leaving::After(_))
    }

    /// Whether the connection can be closed: no request is left, and none will be served.
    pub fn is_over(&self) -> bool {
        self.has_left() && self.running == 0
    }

    /// Appends the last frame of a connection that ends for a fault.
    pub fn abort(&self, code: Code, reason: &str, out: &mut Vec<u8>) {
        // The last stream must not become larger from one GOAWAY to the next (RFC 9113, section 6.8).
        let last = if let Leaving::After(last) = self.leaving { last } else { self.last };
        frame::put_goaway(last, code, reason, out);
    }

    /// Takes credit for a frame that moves nothing.
    fn idle_frame(&mut self, frames: u32, now: Duration) -> Result<(), Fault> {
        match self.idle_frames.spend(frames, now) {
            true => Ok(()),
            false => Err(Fault::Connection(Code::EnhanceYourCalm, "too many frames that move nothing")),
        }
    }
}

#[cfg(test)]
mod tests;
