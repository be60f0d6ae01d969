//! Reads the frames of the other side.

use std::time::Duration;

use super::role::Section;
use super::{ALIVE_PING, Connection, EARNED, Event, Role, Scratch, Stage};
use crate::BodyFault;
use crate::h2::fault::{Code, Fault};
use crate::h2::frame::{self, Frame, FrameHead, HEAD_BYTES, PREFACE, SettingsEntries};
use crate::h2::hpack::HpackFault;
use crate::h2::section::{SectionFault, TrailerSection};
use crate::h2::settings::Setting;
use crate::limits::h2::{FRAGMENT_BYTES_MAX, FRAME_BYTES_MAX, SECTION_BYTES_MAX};

/// A field section of which more frames must come.
#[derive(Debug)]
pub(super) struct Begun {
    stream: u32,
    ends: bool,
    fragment: Vec<u8>,
}

/// The fault of a section that cannot be read.
pub(super) fn unreadable(fault: HpackFault) -> Fault {
    match fault {
        HpackFault::Malformed(reason) => Fault::Connection(Code::CompressionError, reason),
        HpackFault::Stopped => Fault::Connection(Code::EnhanceYourCalm, "a field section is far too large"),
    }
}

impl<R: Role> Connection<R> {
    /// Reads the next frame at the start of `bytes`. Returns the length of what was read, which is 0 if the frame is not complete,
    /// and what the frame means. `now`: the time since any fixed moment.
    ///
    /// # Errors
    /// When the connection must end; see [`abort`](Self::abort). Never a fault of a single stream, which is an event.
    pub fn receive<'e>(
        &mut self,
        bytes: &'e [u8],
        scratch: &'e mut Scratch,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Event<'e, R::Told<'e>>), Fault> {
        if self.stage == Stage::Preface {
            let length = PREFACE.len().min(bytes.len());
            if bytes[..length] != PREFACE[..length] {
                return Err(Fault::Connection(Code::ProtocolError, "the connection does not begin with the preface"));
            }
            if length < PREFACE.len() {
                return Ok((0, Event::Nothing));
            }
            self.stage = Stage::Settings;
            return Ok((length, Event::Nothing));
        }
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok((0, Event::Nothing)) };
        let head = FrameHead::read(head);
        if let Some(section) = &self.section
            && !head.continues(section.stream)
        {
            return Err(Fault::Connection(Code::ProtocolError, "another frame comes within a field section"));
        }
        if self.stage == Stage::Settings && !head.is_settings() {
            return Err(Fault::Connection(Code::ProtocolError, "the first frame is not SETTINGS"));
        }
        let checked = head.check(FRAME_BYTES_MAX);
        if let Err(fault @ Fault::Connection(..)) = checked {
            return Err(fault);
        }
        let Some(payload) = rest.get(..head.length) else { return Ok((0, Event::Nothing)) };
        self.stage = Stage::Frames;
        let told = match checked.and_then(|()| head.frame(payload)) {
            Ok(frame) => self.frame(frame, scratch, now, out),
            Err(fault) => Err(fault),
        };
        let event = match told {
            Ok(event) => event,
            Err(Fault::Stream(stream, code, reason)) => self.broken(stream, code, reason, now, out)?,
            Err(fault) => return Err(fault),
        };
        Ok((HEAD_BYTES + head.length, event))
    }

    /// Ends a stream for a fault of the other side.
    fn broken<'e>(
        &mut self,
        stream: u32,
        code: Code,
        reason: &'static str,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<Event<'e, R::Told<'e>>, Fault> {
        if self.role.is_idle(stream) {
            return Err(Fault::Connection(code, reason));
        }
        self.count_fault(now)?;
        if self.streams.get(stream).is_none() {
            return Ok(Event::Nothing);
        }
        self.reset(stream, code, out);
        Ok(Event::Reset { stream, code, fault: Some(reason) })
    }

    pub(super) fn count_fault(&mut self, now: Duration) -> Result<(), Fault> {
        match self.stream_faults.spend(1, now) {
            true => Ok(()),
            false => Err(Fault::Connection(Code::EnhanceYourCalm, "too many faults in single streams")),
        }
    }

    /// Whether frames of a closed stream are ignored: the other side may have sent them before it knew of the end.
    pub(super) fn ignores(&self, stream: u32) -> bool {
        self.role.is_behind(stream) || !self.is_acknowledged || self.recent_resets.contains(&stream)
    }

    fn frame<'e>(
        &mut self,
        frame: Frame<'e>,
        scratch: &'e mut Scratch,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<Event<'e, R::Told<'e>>, Fault> {
        match frame {
            Frame::Data { stream, content, counted, ends } => self.content(stream, content, counted, ends, now, out),
            Frame::Headers { stream, fragment, ends, is_whole: true } => {
                R::section(self, &Section { stream, ends, fragment }, scratch, now, out)
            }
            Frame::Headers { stream, fragment, ends, is_whole: false } => {
                self.idle_frame(1, now)?;
                self.section = Some(Begun { stream, ends, fragment: fragment.to_vec() });
                Ok(Event::Nothing)
            }
            Frame::Continuation { fragment, is_last, .. } => self.continuation(fragment, is_last, scratch, now, out),
            Frame::Reset { stream, code } => {
                self.idle_frame(1, now)?;
                if self.role.is_idle(stream) {
                    return Err(Fault::Connection(Code::ProtocolError, "RST_STREAM is on a stream that is not open"));
                }
                match self.streams.close(stream) {
                    Some(_) => Ok(Event::Reset { stream, code, fault: None }),
                    None => Ok(Event::Nothing),
                }
            }
            Frame::Settings(settings) => self.settings(settings, now, out),
            Frame::Ping { is_answer: false, data } => {
                self.idle_frame(1, now)?;
                frame::put_ping(true, &data, out);
                Ok(Event::Nothing)
            }
            Frame::Ping { is_answer: true, data } => {
                self.idle_frame(1, now)?;
                self.awaits_pong &= data != ALIVE_PING;
                R::pong(self, data, out);
                Ok(Event::Nothing)
            }
            Frame::Goaway { last, code } => {
                self.idle_frame(1, now)?;
                R::goaway(self, last);
                Ok(Event::Goaway { last, code })
            }
            Frame::WindowUpdate { stream, increment } => self.window_update(stream, increment, now),
            Frame::PriorityUpdate { stream, value } => {
                self.idle_frame(1, now)?;
                R::priority_update(self, stream, value)
            }
            Frame::SettingsAck => {
                self.is_acknowledged = true;
                self.idle_frame(1, now)?;
                Ok(Event::Nothing)
            }
            Frame::Priority | Frame::Unknown => {
                self.idle_frame(1, now)?;
                Ok(Event::Nothing)
            }
        }
    }

    fn content<'e>(
        &mut self,
        stream: u32,
        content: &'e [u8],
        counted: usize,
        ends: bool,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<Event<'e, R::Told<'e>>, Fault> {
        self.receive.receive(0, counted)?;
        match content.len() {
            0 if !ends => self.idle_frame(1, now)?,
            0 => {}
            _ => self.idle_frames.earn(EARNED),
        }
        let taken = self.take_content(stream, content.len(), counted, ends);
        // Padding and ignored content take no memory.
        let passed = if let Ok(true) = taken { counted - content.len() } else { counted };
        if passed > 0 {
            self.pass(stream, passed, out);
        }
        Ok(if taken? { Event::Content { stream, content, ends } } else { Event::Nothing })
    }

    /// Whether content of a stream is for the caller.
    fn take_content(&mut self, stream: u32, length: usize, counted: usize, ends: bool) -> Result<bool, Fault> {
        let Some(open) = self.streams.get_mut(stream) else {
            if self.role.is_idle(stream) {
                return Err(Fault::Connection(Code::ProtocolError, "DATA is on a stream that is not open"));
            }
            return match self.ignores(stream) {
                true => Ok(false),
                false => Err(Fault::Connection(Code::StreamClosed, "DATA is on a closed stream")),
            };
        };
        if !open.is_receiving {
            return Err(Fault::Stream(stream, Code::StreamClosed, "DATA comes after the end of the message"));
        }
        if open.awaits_head {
            return Err(Fault::Stream(stream, Code::ProtocolError, "DATA comes before the response"));
        }
        open.receive.receive(stream, counted)?;
        open.count(length, ends).map_err(|fault| Fault::Stream(stream, Code::ProtocolError, differs(fault)))?;
        if ends {
            self.end_receiving(stream);
        }
        Ok(true)
    }

    pub(super) fn end_receiving(&mut self, stream: u32) {
        if let Some(open) = self.streams.get_mut(stream) {
            open.is_receiving = false;
            if !open.is_sending {
                self.streams.close(stream);
            }
        }
    }

    fn continuation<'e>(
        &mut self,
        fragment: &[u8],
        is_last: bool,
        scratch: &'e mut Scratch,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<Event<'e, R::Told<'e>>, Fault> {
        self.idle_frame(1, now)?;
        let Some(mut section) = self.section.take() else {
            return Err(Fault::Connection(Code::ProtocolError, "CONTINUATION comes without a field section"));
        };
        if section.fragment.len() + fragment.len() > FRAGMENT_BYTES_MAX {
            return Err(Fault::Connection(Code::EnhanceYourCalm, "a field section is far too large"));
        }
        section.fragment.extend_from_slice(fragment);
        if is_last {
            let Begun { stream, ends, fragment } = &section;
            return R::section(self, &Section { stream: *stream, ends: *ends, fragment }, scratch, now, out);
        }
        self.section = Some(section);
        Ok(Event::Nothing)
    }

    /// Decodes a field section that LoadX ignores, because the table needs each field section.
    pub(super) fn skip(&mut self, fragment: &[u8], scratch: &mut Scratch) -> Result<(), Fault> {
        let Scratch { text, decoded, .. } = scratch;
        text.clear();
        // Stops at a section that is far too large, as for the sections that LoadX reads.
        let mut section = TrailerSection::new(SECTION_BYTES_MAX, text);
        self.decoder.decode(fragment, decoded, |name, value| section.take(name, value)).map_err(unreadable)
    }

    /// Skips a field section of a closed stream.
    pub(super) fn skip_closed<'e>(
        &mut self,
        section: &Section<'_>,
        scratch: &mut Scratch,
        now: Duration,
    ) -> Result<Event<'e, R::Told<'e>>, Fault> {
        self.idle_frame(1, now)?;
        self.skip(section.fragment, scratch)?;
        match self.ignores(section.stream) {
            true => Ok(Event::Nothing),
            false => Err(Fault::Connection(Code::StreamClosed, "a field section comes on a closed stream")),
        }
    }

    /// Reads the section behind the content of a message.
    pub(super) fn trailers<'e>(
        &mut self,
        &Section { stream, ends, fragment }: &Section<'_>,
        scratch: &'e mut Scratch,
    ) -> Result<Event<'e, R::Told<'e>>, Fault> {
        let Scratch { text, decoded, .. } = scratch;
        text.clear();
        let mut section = TrailerSection::new(SECTION_BYTES_MAX, text);
        self.decoder.decode(fragment, decoded, |name, value| section.take(name, value)).map_err(unreadable)?;
        let finished = section.finish(ends);
        let malformed = |reason| Fault::Stream(stream, Code::ProtocolError, reason);
        let Some(open) = self.streams.get_mut(stream).filter(|open| open.is_receiving) else {
            return Err(Fault::Stream(
                stream,
                Code::StreamClosed,
                "a field section comes after the end of the message",
            ));
        };
        match finished {
            Ok(()) => open.count(0, true).map_err(|fault| malformed(differs(fault)))?,
            Err(SectionFault::Malformed(reason)) => return Err(malformed(reason)),
            Err(SectionFault::TooLarge) => return Err(malformed("the trailer section is too large")),
        }
        self.end_receiving(stream);
        Ok(Event::Trailers { stream, lines: text })
    }

    fn settings<'e>(
        &mut self,
        settings: SettingsEntries<'_>,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Result<Event<'e, R::Told<'e>>, Fault> {
        self.idle_frame(1 + settings.count() as u32, now)?;
        for setting in settings.iter() {
            let setting = setting?;
            self.role.check(setting)?;
            if let Setting::Window(window) = setting {
                let before = self.peer.window;
                self.streams.all_mut().try_for_each(|open| open.send.follow(before, window))?;
            }
            self.peer.set(setting);
        }
        frame::put_settings_ack(out);
        Ok(Event::Nothing)
    }

    fn window_update<'e>(
        &mut self,
        stream: u32,
        increment: u32,
        now: Duration,
    ) -> Result<Event<'e, R::Told<'e>>, Fault> {
        // What LoadX has sent may come back in many pieces, long afterwards: the programs of Go return each 4 KiB that they read.
        let returns = if stream == 0 {
            !self.send.open(0, increment)?
        } else if let Some(open) = self.streams.get_mut(stream) {
            !open.send.open(stream, increment)?
        } else if self.role.is_idle(stream) {
            return Err(Fault::Connection(Code::ProtocolError, "WINDOW_UPDATE is on a stream that is not open"));
        } else {
            false
        };
        if !returns {
            self.idle_frame(1, now)?;
        }
        Ok(Event::Nothing)
    }
}

/// Why the content is not what Content-Length says (RFC 9113, section 8.1.1).
fn differs(fault: BodyFault) -> &'static str {
    match fault {
        BodyFault::Incomplete => "the content ends before its Content-Length",
        _ => "there is more content than Content-Length says",
    }
}
