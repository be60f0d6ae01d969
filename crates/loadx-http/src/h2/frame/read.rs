//! Reads frames.

use super::{HEAD_BYTES, flag, kind};
use crate::h2::fault::{Code, Fault};
use crate::h2::settings::Setting;

/// The head of a frame.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// The length of the payload, in bytes.
    pub length: usize,
    kind: u8,
    flags: u8,
    /// The stream; 0 for the connection.
    pub stream: u32,
}

/// A frame.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Frame<'p> {
    /// A part of the content of a message.
    Data {
        /// The stream.
        stream: u32,
        /// The content.
        content: &'p [u8],
        /// What counts against the windows, in bytes: the content with its padding (RFC 9113, section 6.9.1).
        counted: usize,
        /// Whether the message ends.
        ends: bool,
    },
    /// The beginning of a field section.
    Headers {
        /// The stream.
        stream: u32,
        /// The beginning of the compressed section, or all of the section.
        fragment: &'p [u8],
        /// Whether the message ends.
        ends: bool,
        /// Whether this is all of the section.
        is_whole: bool,
    },
    /// More of the field section.
    Continuation {
        /// The stream.
        stream: u32,
        /// More of the compressed section.
        fragment: &'p [u8],
        /// Whether the section ends.
        is_last: bool,
    },
    /// A place in a tree of priorities, which LoadX does not heed (RFC 9113, section 5.3.2).
    Priority,
    /// The end of a stream.
    Reset {
        /// The stream.
        stream: u32,
        /// Why.
        code: Code,
    },
    /// Settings of the other side.
    Settings(SettingsEntries<'p>),
    /// The other side has taken over LoadX's settings.
    SettingsAck,
    /// A ping, or the answer to a ping.
    Ping {
        /// Whether this is the answer.
        is_answer: bool,
        /// What the answer repeats.
        data: [u8; 8],
    },
    /// The other side wants no new streams.
    Goaway {
        /// The last stream that the other side has processed or will process.
        last: u32,
        /// Why.
        code: Code,
    },
    /// A larger window.
    WindowUpdate {
        /// The stream; 0 for the connection.
        stream: u32,
        /// By how much, in bytes.
        increment: u32,
    },
    /// A priority (RFC 9218, section 7.1).
    PriorityUpdate {
        /// The stream.
        stream: u32,
        /// The value of the field `priority`.
        value: &'p [u8],
    },
    /// A frame of a kind that LoadX does not know, and ignores (RFC 9113, section 5.5).
    Unknown,
}

/// The settings in a frame.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SettingsEntries<'p>(&'p [u8]);

impl SettingsEntries<'_> {
    /// The settings that LoadX knows, in the order of the frame.
    pub fn iter(&self) -> impl Iterator<Item = Result<Setting, Fault>> {
        let entries = self.0.chunks_exact(6);
        entries
            .filter_map(|entry| Setting::of(u16::from_be_bytes([entry[0], entry[1]]), number(&entry[2..])).transpose())
    }

    /// The number of settings, with those that LoadX does not know.
    pub fn count(&self) -> usize {
        self.0.len() / 6
    }
}

impl FrameHead {
    /// Reads the head of a frame.
    pub fn read(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        FrameHead {
            length: u32::from_be_bytes([0, *a, *b, *c]) as usize,
            kind: *kind,
            flags: *flags,
            // The first bit has no meaning (RFC 9113, section 4.1).
            stream: number(stream) & 0x7fff_ffff,
        }
    }

    /// Whether the frame is longer than `max`, or has a length that its kind does not have. Known before the payload arrives.
    ///
    /// # Errors
    /// The fault.
    pub fn check(&self, max: usize) -> Result<(), Fault> {
        let connection = |reason| Err(Fault::Connection(Code::FrameSizeError, reason));
        let needs_stream = |reason| Err(Fault::Connection(Code::ProtocolError, reason));
        match self.kind {
            _ if self.length > max => connection("a frame is longer than allowed"),
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION if self.stream == 0 => {
                needs_stream("a frame of a stream is not on a stream")
            }
            kind::SETTINGS | kind::PING | kind::GOAWAY | kind::PRIORITY_UPDATE if self.stream != 0 => {
                needs_stream("a frame of the connection is on a stream")
            }
            kind::PUSH_PROMISE => needs_stream("LoadX allows no pushes"),
            kind::PRIORITY if self.length != 5 => {
                Err(Fault::Stream(self.stream, Code::FrameSizeError, "PRIORITY has not five bytes"))
            }
            kind::RST_STREAM if self.length != 4 => connection("RST_STREAM has not four bytes"),
            kind::SETTINGS if self.has(flag::ACK) && self.length != 0 => connection("an acknowledgement has settings"),
            kind::SETTINGS if !self.length.is_multiple_of(6) => connection("SETTINGS ends within a setting"),
            kind::PING if self.length != 8 => connection("PING has not eight bytes"),
            kind::GOAWAY if self.length < 8 => connection("GOAWAY is too short"),
            kind::WINDOW_UPDATE if self.length != 4 => connection("WINDOW_UPDATE has not four bytes"),
            kind::PRIORITY_UPDATE if self.length < 4 => connection("PRIORITY_UPDATE is too short"),
            _ => Ok(()),
        }
    }

    /// Whether the frame goes on with a field section of this stream. Between HEADERS and the end of the field section, no
    /// other frame may come (RFC 9113, section 6.10).
    pub fn continues(&self, stream: u32) -> bool {
        self.kind == kind::CONTINUATION && self.stream == stream
    }

    /// Whether these are settings of the other side, and not an acknowledgement.
    pub fn is_settings(&self) -> bool {
        self.kind == kind::SETTINGS && !self.has(flag::ACK)
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Reads the frame. `payload` has the length that the head says, and the head has passed [`check`](Self::check).
    ///
    /// # Errors
    /// The fault.
    pub fn frame<'p>(&self, payload: &'p [u8]) -> Result<Frame<'p>, Fault> {
        let stream = self.stream;
        let ends = self.has(flag::END_STREAM);
        Ok(match self.kind {
            kind::DATA => Frame::Data { stream, content: self.unpadded(payload)?, counted: payload.len(), ends },
            kind::HEADERS => {
                let mut fragment = self.unpadded(payload)?;
                if self.has(flag::PRIORITY) {
                    let reason = "HEADERS is too short for its priority";
                    fragment = fragment.get(5..).ok_or(Fault::Connection(Code::FrameSizeError, reason))?;
                }
                Frame::Headers { stream, fragment, ends, is_whole: self.has(flag::END_HEADERS) }
            }
            kind::CONTINUATION => {
                Frame::Continuation { stream, fragment: payload, is_last: self.has(flag::END_HEADERS) }
            }
            kind::PRIORITY => Frame::Priority,
            kind::RST_STREAM => Frame::Reset { stream, code: Code::of(number(payload)) },
            kind::SETTINGS if self.has(flag::ACK) => Frame::SettingsAck,
            kind::SETTINGS => Frame::Settings(SettingsEntries(payload)),
            kind::PING => {
                let mut data = [0; 8];
                data.copy_from_slice(payload);
                Frame::Ping { is_answer: self.has(flag::ACK), data }
            }
            kind::GOAWAY => {
                Frame::Goaway { last: number(payload) & 0x7fff_ffff, code: Code::of(number(&payload[4..])) }
            }
            kind::WINDOW_UPDATE => match number(payload) & 0x7fff_ffff {
                0 if stream == 0 => {
                    return Err(Fault::Connection(Code::ProtocolError, "WINDOW_UPDATE adds nothing"));
                }
                0 => return Err(Fault::Stream(stream, Code::ProtocolError, "WINDOW_UPDATE adds nothing")),
                increment => Frame::WindowUpdate { stream, increment },
            },
            kind::PRIORITY_UPDATE => match number(payload) & 0x7fff_ffff {
                0 => {
                    return Err(Fault::Connection(Code::ProtocolError, "PRIORITY_UPDATE names the stream 0"));
                }
                stream => Frame::PriorityUpdate { stream, value: &payload[4..] },
            },
            _ => Frame::Unknown,
        })
    }

    /// The payload without padding.
    fn unpadded<'p>(&self, payload: &'p [u8]) -> Result<&'p [u8], Fault> {
        if !self.has(flag::PADDED) {
            return Ok(payload);
        }
        let short = Fault::Connection(Code::FrameSizeError, "a padded frame has no length of its padding");
        let (padding, rest) = payload.split_first().ok_or(short)?;
        let content = rest.len().checked_sub(usize::from(*padding));
        content
            .map(|length| &rest[..length])
            .ok_or(Fault::Connection(Code::ProtocolError, "the padding of a frame is longer than the frame"))
    }
}

/// The number in the first four bytes.
fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'p>(head: [u8; HEAD_BYTES], payload: &'p [u8]) -> Result<Frame<'p>, Fault> {
        let head = FrameHead::read(&head);
        assert_eq!(head.length, payload.len());
        head.check(16_384)?;
        head.frame(payload)
    }

    /// A frame on a stream.
    fn on(stream: u32, kind: u8, flags: u8, payload: &[u8]) -> Result<Frame<'_>, Fault> {
        let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
        let [w, x, y, z] = stream.to_be_bytes();
        read([a, b, c, kind, flags, w, x, y, z], payload)
    }

    #[test]
    fn frames_are_read() {
        assert_eq!(on(1, 0, 0, b"ab"), Ok(Frame::Data { stream: 1, content: b"ab", counted: 2, ends: false }));
        assert_eq!(
            on(1, 0, 0x9, b"\x02abcd"),
            Ok(Frame::Data { stream: 1, content: b"ab", counted: 5, ends: true }),
            "padding counts against the windows"
        );
        let headers = |fragment, ends, is_whole| Ok(Frame::Headers { stream: 3, fragment, ends, is_whole });
        assert_eq!(on(3, 1, 0x4, b"ab"), headers(b"ab", false, true));
        assert_eq!(on(3, 1, 0x21, b"\0\0\0\0\x07ab"), headers(b"ab", true, false), "with a priority");
        assert_eq!(on(3, 1, 0x2d, b"\x01\0\0\0\0\x07abc"), headers(b"ab", true, true), "with both");
        assert_eq!(on(0x8000_0003, 9, 4, b"x"), Ok(Frame::Continuation { stream: 3, fragment: b"x", is_last: true }));
        assert_eq!(on(5, 3, 0, &[0, 0, 0, 8]), Ok(Frame::Reset { stream: 5, code: Code::Cancel }));
        assert_eq!(on(0, 6, 1, b"12345678"), Ok(Frame::Ping { is_answer: true, data: *b"12345678" }));
        let goaway = on(0, 7, 0, &[0x80, 0, 0, 7, 0, 0, 0, 11, b'x']);
        assert_eq!(goaway, Ok(Frame::Goaway { last: 7, code: Code::EnhanceYourCalm }));
        let update = on(7, 8, 0, &[0x80, 0, 1, 0]);
        assert_eq!(update, Ok(Frame::WindowUpdate { stream: 7, increment: 256 }));
        let update = on(0, 16, 0, b"\0\0\0\x09u=1");
        assert_eq!(update, Ok(Frame::PriorityUpdate { stream: 9, value: b"u=1" }));
        for (kind, flags, payload) in [(10, 0xff, &b"x"[..]), (255, 0, b"")] {
            assert_eq!(on(3, kind, flags, payload), Ok(Frame::Unknown));
        }
        let Ok(Frame::Settings(settings)) = on(0, 4, 0, &[0, 3, 0, 0, 0, 9, 0, 99, 1, 1, 1, 1]) else { panic!() };
        assert_eq!(settings.iter().collect::<Vec<_>>(), [Ok(Setting::StreamsMax(9))]);
        assert_eq!((settings.count(), on(0, 4, 1, b"")), (2, Ok(Frame::SettingsAck)));
    }

    #[test]
    fn frames_of_wrong_size_or_place_are_faults() {
        use Code::{FrameSizeError, ProtocolError};
        let long = vec![0; 16_385];
        for (stream, kind, flags, payload, code) in [
            (1, 0, 0, &long[..], FrameSizeError),
            (0, 0, 0, b"x", ProtocolError),
            (1, 0, 8, b"", FrameSizeError),
            (1, 0, 8, b"\x03ab", ProtocolError),
            (0, 1, 4, b"x", ProtocolError),
            (1, 1, 0x8, b"\x02a", ProtocolError),
            (1, 1, 0x20, b"\0\0\0\0", FrameSizeError),
            (0, 2, 0, b"\0\0\0\0\0", ProtocolError),
            (0, 3, 0, b"\0\0\0\0", ProtocolError),
            (1, 3, 0, b"\0\0\0", FrameSizeError),
            (1, 4, 0, b"", ProtocolError),
            (0, 4, 0, b"\0\0\0\0\0", FrameSizeError),
            (0, 4, 1, b"\0\0\0\0\0\0", FrameSizeError),
            (1, 5, 4, b"\0\0\0\x02", ProtocolError),
            (1, 6, 0, b"12345678", ProtocolError),
            (0, 6, 0, b"1234567", FrameSizeError),
            (1, 7, 0, b"\0\0\0\0\0\0\0\0", ProtocolError),
            (0, 7, 0, b"\0\0\0\0\0\0\0", FrameSizeError),
            (0, 8, 0, b"\0\0\0", FrameSizeError),
            (0, 8, 0, b"\x80\0\0\0", ProtocolError),
            (0, 9, 4, b"x", ProtocolError),
            (1, 16, 0, b"\0\0\0\x01", ProtocolError),
            (0, 16, 0, b"\0\0\0", FrameSizeError),
            (0, 16, 0, b"\0\0\0\0", ProtocolError),
        ] {
            let told = on(stream, kind, flags, payload);
            assert!(matches!(told, Err(Fault::Connection(found, _)) if found == code), "{kind} on {stream}: {told:?}");
        }
        assert!(matches!(on(3, 2, 0, b"\0\0\0\0"), Err(Fault::Stream(3, FrameSizeError, _))));
        assert!(matches!(on(3, 8, 0, b"\0\0\0\0"), Err(Fault::Stream(3, ProtocolError, _))));
    }

    #[test]
    fn only_the_same_field_section_goes_on() {
        let head = |kind, stream| FrameHead { length: 0, kind, flags: 0, stream };
        assert!(head(9, 3).continues(3) && !head(9, 5).continues(3) && !head(0, 3).continues(3));
    }
}
