//! A connection whose client is the test, and the frames of the client.

use super::super::*;
use crate::h2::frame::{
    Frame, FrameHead, HEAD_BYTES, PREFACE, put_data_head, put_headers, put_reset, put_settings, put_settings_ack,
    put_window_update,
};
use crate::h2::hpack::put_field;
use crate::h2::section::RequestKind;

pub(super) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "x.test")];
pub(super) const POST: [(&str, &str); 4] = [(":method", "POST"), GET[1], GET[2], GET[3]];

/// A connection, and what it said and wrote.
pub(super) struct Lab {
    pub(super) connection: Connection<Server>,
    pub(super) scratch: Scratch,
    pub(super) out: Vec<u8>,
    pub(super) now: Duration,
}

impl Lab {
    /// A connection whose client has sent the preface.
    pub(super) fn new() -> Self {
        let mut lab = Lab::silent();
        let mut bytes = PREFACE.to_vec();
        put_settings(&[], &mut bytes);
        put_settings_ack(&mut bytes);
        assert_eq!(lab.feed(&bytes), Ok(vec![]));
        lab.out.clear();
        lab
    }

    pub(super) fn silent() -> Self {
        let mut out = Vec::new();
        let connection = Connection::new(&mut out);
        Lab { connection, scratch: Scratch::default(), out, now: Duration::ZERO }
    }

    /// What the caller learns from these bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, Fault> {
        let mut told = Vec::new();
        let mut rest = bytes;
        loop {
            let (length, event) = self.connection.receive(rest, &mut self.scratch, self.now, &mut self.out)?;
            match event {
                Event::Nothing => {}
                Event::Told(Told::Request { stream, asked, text, ends }) => {
                    let line = text.split(|byte| *byte == b'\r').next().unwrap();
                    let kind =
                        if asked.kind == RequestKind::Plain { String::new() } else { format!(" {:?}", asked.kind) };
                    told.push(format!("{stream}: {}{kind} {ends}", String::from_utf8_lossy(line)));
                }
                Event::Content { stream, content, ends } => told.push(format!("{stream}: {} {ends}", content.len())),
                Event::Trailers { stream, lines } => {
                    told.push(format!("{stream}: trailers {:?}", String::from_utf8_lossy(lines)));
                }
                Event::Reset { stream, code, fault } => {
                    told.push(format!("{stream}: {code} {}", fault.unwrap_or("reset")));
                }
                Event::Told(Told::Malformed { reason, .. }) => told.push(reason.to_owned()),
                Event::Told(only) => told.push(format!("{only:?}")),
                event => told.push(format!("{event:?}")),
            }
            if length == 0 {
                return Ok(told);
            }
            rest = &rest[length..];
        }
    }

    /// The frames that the connection has written since the last call.
    pub(super) fn written(&mut self) -> Vec<String> {
        let out = std::mem::take(&mut self.out);
        let mut rest = &out[..];
        let mut frames = Vec::new();
        while let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() {
            let head = FrameHead::read(head);
            let (payload, after) = after.split_at(head.length);
            rest = after;
            frames.push(match head.frame(payload).unwrap() {
                Frame::Reset { stream, code } => format!("{stream}: reset {code}"),
                Frame::Goaway { last, code } => format!("goaway {last} {code}"),
                Frame::WindowUpdate { stream, increment } => format!("{stream}: +{increment}"),
                Frame::Data { stream, content, ends, .. } => format!("{stream}: data {} {ends}", content.len()),
                Frame::Headers { stream, ends, .. } => format!("{stream}: headers {ends}"),
                Frame::Ping { is_answer, data } => format!("ping {is_answer} {}", String::from_utf8_lossy(&data)),
                frame => format!("{frame:?}"),
            });
        }
        frames
    }
}

pub(super) fn section(fields: &[(&str, &str)], out: &mut Vec<u8>) {
    fields.iter().for_each(|(name, value)| put_field(name.as_bytes(), value.as_bytes(), out));
}

pub(super) fn headers(stream: u32, ends: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    put_headers(stream, ends, 16_384, &mut out, |out| section(fields, out));
    out
}

pub(super) fn data(stream: u32, content: &[u8], ends: bool) -> Vec<u8> {
    let mut out = Vec::new();
    put_data_head(stream, content.len(), ends, &mut out);
    out.extend_from_slice(content);
    out
}

/// A frame of any kind.
pub(super) fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let [w, x, y, z] = stream.to_be_bytes();
    [&[a, b, c, kind, flags, w, x, y, z], payload].concat()
}

pub(super) fn reset(stream: u32, code: Code) -> Vec<u8> {
    let mut out = Vec::new();
    put_reset(stream, code, &mut out);
    out
}

pub(super) fn window(stream: u32, increment: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_window_update(stream, increment, &mut out);
    out
}

pub(super) fn settings(settings: &[Setting]) -> Vec<u8> {
    let mut out = Vec::new();
    put_settings(settings, &mut out);
    out
}

pub(super) fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}
