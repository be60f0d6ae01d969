//! The server's side of a connection: takes requests, and ends in two steps.

use std::time::Duration;

use super::receive::unreadable;
use super::role::{Section, sealed};
use super::streams::Stream;
use super::{Connection, EARNED, Event, Role, Scratch, Stage};
use crate::h2::fault::{Code, Fault};
use crate::h2::frame;
use crate::h2::priority::Priority;
use crate::h2::section::{Asked, RequestSection, SectionFault};
use crate::h2::settings::Setting;
use crate::limits::h2::{RECENT_RESETS, SECTION_BYTES_MAX, STREAM_WINDOW, STREAMS_MAX};

/// LoadX is the server.
#[derive(Debug)]
pub struct Server {
    /// The requests that the caller has not finished: a client that resets streams gets no more places than another one.
    running: u32,
    /// The last stream that the client opened.
    last: u32,
    leaving: Leaving,
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

/// What a client asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Told<'e> {
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
    /// The client wants another order.
    Priority {
        /// The stream.
        stream: u32,
        /// The new priority.
        priority: Priority,
    },
}

/// The data of the PING that tells when the client must know that the connection ends.
pub(super) const LEAVING_PING: [u8; 8] = *b"leaving\0";

impl Connection<Server> {
    /// A connection with a client, before its first byte. Appends the settings of LoadX to `out`.
    pub fn new(out: &mut Vec<u8>) -> Self {
        let settings = [
            Setting::StreamsMax(STREAMS_MAX),
            Setting::FieldsMax(SECTION_BYTES_MAX as u32),
            Setting::ExtendedConnect(true),
            Setting::NoTreePriorities(true),
        ];
        Connection::with(Server { running: 0, last: 0, leaving: Leaving::No }, Stage::Preface, &settings, out)
    }

    /// The number of requests that are not finished.
    pub fn running(&self) -> u32 {
        self.role.running
    }

    /// Tells the client that the connection will end. The client's next requests are served until the client has answered, or
    /// until the caller calls [`leave`](Self::leave).
    pub fn announce_end(&mut self, out: &mut Vec<u8>) {
        if self.role.leaving == Leaving::No {
            self.role.leaving = Leaving::Announced;
            frame::put_goaway((1 << 31) - 1, Code::NoError, "", out);
            frame::put_ping(false, &LEAVING_PING, out);
        }
    }

    /// Serves no request on a stream that the client has not opened yet.
    pub fn leave(&mut self, out: &mut Vec<u8>) {
        if !self.has_left() {
            self.role.leaving = Leaving::After(self.role.last);
            frame::put_goaway(self.role.last, Code::NoError, "", out);
        }
    }

    /// Whether [`leave`](Self::leave) was called, or the client has answered to [`announce_end`](Self::announce_end).
    pub fn has_left(&self) -> bool {
        matches!(self.role.leaving, Leaving::After(_))
    }

    /// Whether the connection can be closed: no request is left, and none will be served.
    pub fn is_over(&self) -> bool {
        self.has_left() && self.role.running == 0
    }

    fn request<'e>(
        &mut self,
        &Section { stream, ends, fragment }: &Section<'_>,
        scratch: &'e mut Scratch,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<Event<'e, Told<'e>>, Fault> {
        if self.role.running >= STREAMS_MAX {
            self.idle_frame(1, now)?;
            self.skip(fragment, scratch)?;
            self.put_reset(stream, Code::RefusedStream, out);
            return Ok(Event::Told(Told::Refused));
        }
        let Scratch { text, request, decoded } = scratch;
        text.clear();
        let mut section = RequestSection::new(SECTION_BYTES_MAX, request, text);
        self.decoder.decode(fragment, decoded, |name, value| section.take(name, value)).map_err(unreadable)?;
        let asked = section.finish(ends);
        if let Err(SectionFault::Malformed(reason)) = asked {
            self.count_fault(now)?;
            self.put_reset(stream, Code::ProtocolError, out);
            return Ok(Event::Told(Told::Malformed { reason, text }));
        }
        self.idle_frames.earn(EARNED);
        let mut open = Stream::new(stream, self.peer.window, STREAM_WINDOW);
        open.is_receiving = !ends;
        open.left = asked.ok().and_then(|asked| asked.length);
        self.streams.open(open);
        self.role.running += 1;
        Ok(Event::Told(match asked {
            Ok(asked) => Told::Request { stream, asked, text, ends },
            Err(_) => Told::TooLarge { stream, text },
        }))
    }
}

impl sealed::Sealed for Server {}

impl Role for Server {
    type Told<'e> = Told<'e>;

    const RECENT_RESETS: usize = RECENT_RESETS;

    fn is_idle(&self, stream: u32) -> bool {
        stream.is_multiple_of(2) || stream > self.last
    }

    fn is_behind(&self, stream: u32) -> bool {
        matches!(self.leaving, Leaving::After(last) if stream > last)
    }

    fn last_served(&self) -> u32 {
        // The last stream must not become larger from one GOAWAY to the next (RFC 9113, section 6.8).
        if let Leaving::After(last) = self.leaving { last } else { self.last }
    }

    fn section<'e>(
        connection: &mut Connection<Self>,
        section: &Section<'_>,
        scratch: &'e mut Scratch,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<Event<'e, Told<'e>>, Fault> {
        let stream = section.stream;
        if connection.streams.get(stream).is_some() {
            return connection.trailers(section, scratch);
        }
        if stream.is_multiple_of(2) {
            return Err(Fault::Connection(Code::ProtocolError, "a client opens a stream with an even number"));
        }
        let Server { last, .. } = &mut connection.role;
        let is_new = stream > *last;
        *last = stream.max(*last);
        if is_new && !connection.role.is_behind(stream) {
            return connection.request(section, scratch, now, out);
        }
        connection.skip_closed(section, scratch, now)
    }

    fn pong(connection: &mut Connection<Self>, data: [u8; 8], out: &mut Vec<u8>) {
        if data == LEAVING_PING && connection.role.leaving == Leaving::Announced {
            connection.leave(out);
        }
    }

    fn priority_update<'e>(
        connection: &mut Connection<Self>,
        stream: u32,
        value: &[u8],
    ) -> Result<Event<'e, Told<'e>>, Fault> {
        if stream.is_multiple_of(2) {
            let reason = "PRIORITY_UPDATE is for a stream that no client opens";
            return Err(Fault::Connection(Code::ProtocolError, reason));
        }
        Ok(match connection.streams.get(stream) {
            Some(_) => Event::Told(Told::Priority { stream, priority: Priority::of(value) }),
            None => Event::Nothing,
        })
    }

    fn finished(connection: &mut Connection<Self>, stream: u32, unread: usize, out: &mut Vec<u8>) {
        connection.role.running -= 1;
        connection.pass_on_connection(unread, out);
        if let Some(open) = connection.streams.get(stream) {
            // The client may stop sending without a fault (RFC 9113, section 8.1).
            let code = if open.is_sending { Code::InternalError } else { Code::NoError };
            connection.reset(stream, code, out);
        }
    }
}
