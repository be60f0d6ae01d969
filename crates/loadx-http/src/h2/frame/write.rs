//! Writes frames.

use super::{HEAD_BYTES, flag, kind};
use crate::h2::fault::Code;
use crate::h2::settings::Setting;

/// Appends the head of a frame.
fn put_head(length: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [w, x, y, z] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, w, x, y, z]);
}

/// Appends the head of a DATA frame; `length` bytes of content follow.
pub fn put_data_head(stream: u32, length: usize, ends: bool, out: &mut Vec<u8>) {
    put_head(length, kind::DATA, if ends { flag::END_STREAM } else { 0 }, stream, out);
}

/// Appends a field section that `put` appends, in one HEADERS frame, and in as many CONTINUATION frames as it needs with at most
/// `max` bytes in each; `max` is at least 1.
pub fn put_headers(stream: u32, ends: bool, max: usize, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let flags = if ends { flag::END_STREAM } else { 0 };
    put_head(0, kind::HEADERS, flags | flag::END_HEADERS, stream, out);
    put(out);
    let length = out.len() - start - HEAD_BYTES;
    if length <= max {
        out[start..start + 3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        return;
    }
    // Rare, and therefore simple: the section moves behind the frames that were written.
    let section = out.split_off(start + HEAD_BYTES);
    out.truncate(start);
    let (first, mut rest) = section.split_at(max);
    put_head(max, kind::HEADERS, flags, stream, out);
    out.extend_from_slice(first);
    while !rest.is_empty() {
        let (next, after) = rest.split_at(rest.len().min(max));
        put_continuation(stream, next, after.is_empty(), out);
        rest = after;
    }
}

/// Appends a CONTINUATION frame.
pub fn put_continuation(stream: u32, fragment: &[u8], is_last: bool, out: &mut Vec<u8>) {
    put_head(fragment.len(), kind::CONTINUATION, if is_last { flag::END_HEADERS } else { 0 }, stream, out);
    out.extend_from_slice(fragment);
}

/// Appends a RST_STREAM frame.
pub fn put_reset(stream: u32, code: Code, out: &mut Vec<u8>) {
    put_head(4, kind::RST_STREAM, 0, stream, out);
    out.extend_from_slice(&code.number().to_be_bytes());
}

/// Appends a SETTINGS frame.
pub fn put_settings(settings: &[Setting], out: &mut Vec<u8>) {
    put_head(settings.len() * 6, kind::SETTINGS, 0, 0, out);
    for setting in settings {
        let (number, value) = setting.parts();
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends the acknowledgement of settings.
pub fn put_settings_ack(out: &mut Vec<u8>) {
    put_head(0, kind::SETTINGS, flag::ACK, 0, out);
}

/// Appends a PING frame.
pub fn put_ping(is_answer: bool, data: &[u8; 8], out: &mut Vec<u8>) {
    put_head(8, kind::PING, if is_answer { flag::ACK } else { 0 }, 0, out);
    out.extend_from_slice(data);
}

/// Appends a GOAWAY frame. `reason` is a text for the people at the other side.
pub fn put_goaway(last: u32, code: Code, reason: &str, out: &mut Vec<u8>) {
    put_head(8 + reason.len(), kind::GOAWAY, 0, 0, out);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.number().to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a WINDOW_UPDATE frame; the stream 0 is the connection.
pub fn put_window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    put_head(4, kind::WINDOW_UPDATE, 0, stream, out);
    out.extend_from_slice(&increment.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::{Frame, FrameHead};
    use super::*;

    /// The frames in these bytes.
    fn frames(mut bytes: &[u8]) -> Vec<Frame<'_>> {
        let mut frames = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk() {
            let head = FrameHead::read(head);
            head.check(16_384).unwrap();
            let (payload, rest) = rest.split_at(head.length);
            frames.push(head.frame(payload).unwrap());
            bytes = rest;
        }
        frames
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        put_settings(&[Setting::StreamsMax(128), Setting::Push(false)], &mut out);
        put_settings_ack(&mut out);
        put_ping(false, b"87654321", &mut out);
        put_headers(3, false, 100, &mut out, |out| out.extend_from_slice(b"section"));
        put_data_head(3, 2, true, &mut out);
        out.extend_from_slice(b"ok");
        put_reset(5, Code::RefusedStream, &mut out);
        put_window_update(0, 65_535, &mut out);
        put_goaway(7, Code::NoError, "bye", &mut out);
        let frames = frames(&out);
        let Frame::Settings(settings) = &frames[0] else { panic!("{frames:?}") };
        let settings: Vec<_> = settings.iter().map(Result::unwrap).collect();
        assert_eq!(settings, [Setting::StreamsMax(128), Setting::Push(false)]);
        assert_eq!(
            frames[1..],
            [
                Frame::SettingsAck,
                Frame::Ping { is_answer: false, data: *b"87654321" },
                Frame::Headers { stream: 3, fragment: b"section", ends: false, is_whole: true },
                Frame::Data { stream: 3, content: b"ok", counted: 2, ends: true },
                Frame::Reset { stream: 5, code: Code::RefusedStream },
                Frame::WindowUpdate { stream: 0, increment: 65_535 },
                Frame::Goaway { last: 7, code: Code::NoError },
            ]
        );
    }

    #[test]
    fn a_long_field_section_takes_several_frames() {
        for (length, count) in [(0, 1), (10, 1), (11, 2), (20, 2), (21, 3)] {
            let section: Vec<u8> = (0..length).collect();
            let mut out = b"before".to_vec();
            put_headers(9, true, 10, &mut out, |out| out.extend_from_slice(&section));
            let mut seen = Vec::new();
            let frames = frames(&out[6..]);
            assert_eq!(frames.len(), count);
            for (position, frame) in frames.iter().enumerate() {
                let is_end = position + 1 == count;
                match frame {
                    Frame::Headers { stream: 9, fragment, ends: true, is_whole } if position == 0 => {
                        assert_eq!(*is_whole, is_end);
                        seen.extend_from_slice(fragment);
                    }
                    Frame::Continuation { stream: 9, fragment, is_last } if position > 0 => {
                        assert_eq!(*is_last, is_end);
                        seen.extend_from_slice(fragment);
                    }
                    frame => panic!("{frame:?}"),
                }
            }
            assert_eq!(seen, section);
        }
    }
}
