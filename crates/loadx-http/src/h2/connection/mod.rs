//! A connection as a state machine: bytes and the time go in, events and bytes come out.
//!
//! What both sides of a connection do alike is here and in `receive`; [`Server`] and [`Client`] have what only one side does. The
//! caller owns all buffers, so that a connection without requests holds only its state and the table of HPACK.

mod budget;
mod client;
mod receive;
mod role;
mod server;
mod streams;

use std::collections::VecDeque;
use std::time::Duration;

use super::fault::{Code, Fault};
use super::flow::{ReceiveWindow, SendWindow};
use super::frame;
use super::hpack::Decoder;
use super::section::RequestMemory;
use super::settings::{Setting, Settings};
use crate::limits::h2::{
    CONNECTION_WINDOW, FRAME_BYTES_MAX, IDLE_FRAMES_EARNED_MAX, IDLE_FRAMES_MAX, IDLE_FRAMES_PER_SECOND,
    STREAM_FAULTS_MAX, STREAM_FAULTS_PER_SECOND,
};

use budget::Budget;
use receive::Begun;
use streams::Streams;

pub use client::{Answer, Client, Purpose};
pub use role::Role;
pub use server::{Server, Told};

/// A connection, of which LoadX is the side `R`. Every call that appends to `out` leaves whole frames there, which the caller must
/// send in order.
#[derive(Debug)]
pub struct Connection<R> {
    stage: Stage,
    decoder: Decoder,
    /// The settings of the other side.
    peer: Settings,
    streams: Streams,
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
    /// Whether the other side has acknowledged LoadX's settings: before that, a client may open more streams than allowed.
    is_acknowledged: bool,
    /// Whether a PING that asks whether the other side is there is not answered.
    awaits_pong: bool,
    role: R,
}

/// What must come next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Stage {
    Preface,
    /// The first frame must be SETTINGS (RFC 9113, section 3.4).
    Settings,
    Frames,
}

/// The memory that reading needs meanwhile. Connections can share it; with used memory, reading allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    text: Vec<u8>,
    request: RequestMemory,
    decoded: Vec<u8>,
}

/// What the other side did. `T`: what only this side of a connection is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event<'e, T> {
    /// Nothing that concerns the caller.
    Nothing,
    /// What only this side of a connection is told.
    Told(T),
    /// Content. The caller calls [`Connection::pass`] when the content no longer takes memory.
    Content {
        /// The stream.
        stream: u32,
        /// The content; may be empty.
        content: &'e [u8],
        /// Whether the message is complete.
        ends: bool,
    },
    /// A trailer section, which ends the message.
    Trailers {
        /// The stream.
        stream: u32,
        /// The field lines, each with its CR LF.
        lines: &'e [u8],
    },
    /// The other side ended a stream, or LoadX reset the stream for a fault of the other side.
    Reset {
        /// The stream.
        stream: u32,
        /// Why.
        code: Code,
        /// The fault, if the other side broke a rule.
        fault: Option<&'static str>,
    },
    /// The other side wants the connection to end: a client opens no more streams, and a server serves none behind `last`.
    Goaway {
        /// The last stream that the other side may have served.
        last: u32,
        /// Why.
        code: Code,
    },
}

/// The data of the PING that tells whether the other side is still there.
const ALIVE_PING: [u8; 8] = *b"alive?\0\0";

/// What a request or a frame with content earns, in frames that move nothing: WINDOW_UPDATE for the stream and the connection, PING,
/// and RST_STREAM.
const EARNED: u32 = 4;

impl<R: Role> Connection<R> {
    /// A connection before its first byte. Appends the settings of LoadX to `out`.
    fn with(role: R, stage: Stage, settings: &[Setting], out: &mut Vec<u8>) -> Self {
        frame::put_settings(settings, out);
        let standard = Settings::default();
        frame::put_window_update(0, CONNECTION_WINDOW - standard.window, out);
        Connection {
            stage,
            decoder: Decoder::default(),
            peer: standard,
            streams: Streams::default(),
            section: None,
            send: SendWindow::new(standard.window),
            receive: ReceiveWindow::new(CONNECTION_WINDOW),
            recent_resets: VecDeque::new(),
            idle_frames: Budget::new(IDLE_FRAMES_MAX, IDLE_FRAMES_EARNED_MAX, IDLE_FRAMES_PER_SECOND),
            stream_faults: Budget::new(STREAM_FAULTS_MAX, STREAM_FAULTS_MAX, STREAM_FAULTS_PER_SECOND),
            has_sent_section: false,
            is_acknowledged: false,
            awaits_pong: false,
            role,
        }
    }

    /// Whether a field section has begun and has not ended.
    pub fn is_within_section(&self) -> bool {
        self.section.is_some()
    }

    /// Whether the other side lets no content through on the whole connection.
    pub fn is_shut(&self) -> bool {
        self.send.available() == 0
    }

    /// Whether the other side lets no content through on a stream, whatever passes on the connection.
    pub fn is_stream_shut(&self, stream: u32) -> bool {
        self.streams.get(stream).is_some_and(|open| open.send.available() == 0)
    }

    /// How much content may be sent on a stream now, in bytes; `None` if nothing may be sent on the stream any more.
    pub fn sendable(&self, stream: u32) -> Option<usize> {
        let open = self.streams.get(stream).filter(|open| open.is_sending)?;
        Some(open.send.available().min(self.send.available()))
    }

    /// How much content could be sent now on a new stream, in bytes.
    pub fn sendable_on_new(&self) -> usize {
        SendWindow::new(self.peer.window).available().min(self.send.available())
    }

    /// Appends a field section, which `put` appends in HPACK. `ends`: whether the message ends. Does nothing if nothing may be sent
    /// on the stream any more.
    pub fn put_section(&mut self, stream: u32, ends: bool, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
        if self.sendable(stream).is_none() {
            return;
        }
        let is_first = !std::mem::replace(&mut self.has_sent_section, true);
        frame::put_headers(stream, ends, FRAME_BYTES_MAX, out, |out| {
            if is_first {
                // LoadX uses no table, whatever the size that the other side allows. A peer that has made the table smaller must be
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

    /// Appends content of at most [`sendable`](Self::sendable) bytes. `ends`: whether the message ends.
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

    /// Notes that so much received content of a stream no longer takes memory, so that the other side may send more.
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
        if self.recent_resets.len() == R::RECENT_RESETS {
            self.recent_resets.pop_front();
        }
        self.recent_resets.push_back(stream);
    }

    /// Ends an exchange for the caller: its place is free. Resets the stream if one of its messages is not complete. `unread`: received
    /// content that the caller has not passed, in bytes.
    pub fn finished(&mut self, stream: u32, unread: usize, out: &mut Vec<u8>) {
        R::finished(self, stream, unread, out);
    }

    /// Frees the memory that a connection without requests does not need.
    pub fn shrink(&mut self) {
        self.streams.shrink();
    }

    /// Asks the other side whether it is still there.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        self.awaits_pong = true;
        frame::put_ping(false, &ALIVE_PING, out);
    }

    /// Whether the other side has not answered to [`ping`](Self::ping).
    pub fn awaits_pong(&self) -> bool {
        self.awaits_pong
    }

    /// Appends the last frame of a connection that ends for a fault.
    pub fn abort(&self, code: Code, reason: &str, out: &mut Vec<u8>) {
        frame::put_goaway(self.role.last_served(), code, reason, out);
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
