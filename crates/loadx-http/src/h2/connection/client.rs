//! The client's side of a connection: opens streams with requests, and takes responses.

use std::time::Duration;

use super::receive::unreadable;
use super::role::{Section, sealed};
use super::streams::Stream;
use super::{Connection, EARNED, Event, Role, Scratch, Stage};
use crate::h2::fault::{Code, Fault};
use crate::h2::frame;
use crate::h2::section::{ResponseSection, SectionFault};
use crate::h2::settings::Setting;
use crate::limits::h2::{
    RECENT_REQUEST_RESETS, REQUEST_RESETS_MAX, REQUEST_STREAMS_MAX, RESPONSE_STREAM_WINDOW, SECTION_BYTES_MAX,
};

/// LoadX is the client.
#[derive(Debug)]
pub struct Client {
    /// The next stream that LoadX opens.
    next: u32,
    /// The last stream that the server serves, once the server has ended the connection.
    last_served: Option<u32>,
    /// The number of streams that LoadX has reset.
    resets: u32,
}

/// What kind of request opens a stream, as far as the response depends on it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A HEAD.
    Head,
    /// An extended CONNECT (RFC 8441).
    Tunnel,
    /// Any other request.
    Other,
}

/// What a server answers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Answer<'e> {
    /// The stream.
    pub stream: u32,
    /// The status.
    pub status: u16,
    /// The head in the notation of HTTP/1.1.
    pub text: &'e [u8],
    /// Whether the response has no content.
    pub ends: bool,
}

/// The last stream that a client can open.
const LAST_STREAM: u32 = (1 << 31) - 1;

impl Connection<Client> {
    /// A connection with a server, before its first byte. Appends the preface and the settings of LoadX to `out`.
    pub fn to_server(out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(frame::PREFACE);
        let settings = [
            Setting::Push(false),
            Setting::Window(RESPONSE_STREAM_WINDOW),
            Setting::FieldsMax(SECTION_BYTES_MAX as u32),
            Setting::NoTreePriorities(true),
        ];
        let role = Client { next: 1, last_served: None, resets: 0 };
        Connection::with(role, Stage::Settings, &settings, out)
    }

    /// Whether the server's settings have arrived.
    pub fn is_established(&self) -> bool {
        self.stage == Stage::Frames
    }

    /// How many streams may be open at the same time; 0 once the connection opens no more.
    pub fn streams_max(&self) -> usize {
        let is_worn = self.role.resets >= REQUEST_RESETS_MAX || self.role.next > LAST_STREAM;
        match is_worn || self.role.last_served.is_some() {
            true => 0,
            false => self.peer.streams_max.unwrap_or(u32::MAX).min(REQUEST_STREAMS_MAX) as usize,
        }
    }

    /// Whether the server takes tunnels for a protocol (extended CONNECT, RFC 8441).
    pub fn takes_tunnels(&self) -> bool {
        self.peer.extended_connect
    }

    /// Opens a stream; `None` if the server allows no more. [`put_section`](Self::put_section) must follow before anything else is
    /// put: streams must come in the order of their numbers. `purpose`: what the request asks for.
    pub fn open(&mut self, purpose: Purpose) -> Option<u32> {
        if self.streams.len() >= self.streams_max() {
            return None;
        }
        let stream = self.role.next;
        self.role.next += 2;
        let mut open = Stream::new(stream, self.peer.window, RESPONSE_STREAM_WINDOW);
        open.awaits_head = true;
        open.to_head = purpose == Purpose::Head;
        open.to_tunnel = purpose == Purpose::Tunnel;
        self.streams.open(open);
        Some(stream)
    }

    /// Tells the server that LoadX opens no more streams.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        frame::put_goaway(0, Code::NoError, "", out);
    }

    fn response<'e>(
        &mut self,
        &Section { stream, ends, fragment }: &Section<'_>,
        to_head: bool,
        scratch: &'e mut Scratch,
    ) -> Result<Event<'e, Answer<'e>>, Fault> {
        let Scratch { text, decoded, .. } = scratch;
        text.clear();
        let mut section = ResponseSection::new(SECTION_BYTES_MAX, to_head, text);
        self.decoder.decode(fragment, decoded, |name, value| section.take(name, value)).map_err(unreadable)?;
        let malformed = |reason| Fault::Stream(stream, Code::ProtocolError, reason);
        let (status, length) = section.finish(ends).map_err(|fault| match fault {
            SectionFault::Malformed(reason) => malformed(reason),
            SectionFault::TooLarge => malformed("the head of the response is too large"),
        })?;
        // Interim responses earn nothing.
        if status >= 200
            && let Some(open) = self.streams.get_mut(stream)
        {
            open.awaits_head = false;
            // The length of an answer that opens a tunnel means nothing (RFC 9110, section 9.3.6).
            open.left = length.filter(|_| !(open.to_tunnel && status < 300));
            self.idle_frames.earn(EARNED);
        }
        if ends {
            self.end_receiving(stream);
        }
        Ok(Event::Told(Answer { stream, status, text, ends }))
    }
}

impl sealed::Sealed for Client {}

impl Role for Client {
    type Told<'e> = Answer<'e>;

    const RECENT_RESETS: usize = RECENT_REQUEST_RESETS;

    fn is_idle(&self, stream: u32) -> bool {
        stream.is_multiple_of(2) || stream >= self.next
    }

    fn last_served(&self) -> u32 {
        0
    }

    fn check(&mut self, setting: Setting) -> Result<(), Fault> {
        match setting {
            // RFC 9113, section 6.5.2.
            Setting::Push(true) => Err(Fault::Connection(Code::ProtocolError, "a server turns pushes on")),
            _ => Ok(()),
        }
    }

    fn section<'e>(
        connection: &mut Connection<Self>,
        section: &Section<'_>,
        scratch: &'e mut Scratch,
        now: Duration,
        _: &mut Vec<u8>,
    ) -> Result<Event<'e, Answer<'e>>, Fault> {
        match connection.streams.get(section.stream) {
            Some(open) if open.awaits_head => {
                let to_head = open.to_head;
                connection.idle_frame(1, now)?;
                connection.response(section, to_head, scratch)
            }
            Some(_) => connection.trailers(section, scratch),
            None if connection.role.is_idle(section.stream) => {
                Err(Fault::Connection(Code::ProtocolError, "a server opens a stream"))
            }
            None => connection.skip_closed(section, scratch, now),
        }
    }

    fn goaway(connection: &mut Connection<Self>, last: u32) {
        let last_served = connection.role.last_served.unwrap_or(LAST_STREAM).min(last);
        connection.role.last_served = Some(last_served);
        connection.streams.close_behind(last_served);
    }

    fn priority_update<'e>(_: &mut Connection<Self>, _: u32, _: &[u8]) -> Result<Event<'e, Answer<'e>>, Fault> {
        // RFC 9218, section 7.1.
        Err(Fault::Connection(Code::ProtocolError, "a server sends PRIORITY_UPDATE"))
    }

    fn finished(connection: &mut Connection<Self>, stream: u32, unread: usize, out: &mut Vec<u8>) {
        connection.pass_on_connection(unread, out);
        if connection.streams.get(stream).is_some() {
            connection.role.resets += 1;
            connection.reset(stream, Code::Cancel, out);
        }
    }
}
