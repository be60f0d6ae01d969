//! HTTP/2: field sections beside a library that shares no code with LoadX, frames, and connections.

use std::ops::ControlFlow;
use std::time::Duration;

use loadx_http::h2::frame::{Frame, FrameHead, HEAD_BYTES, PREFACE, put_headers, put_settings};
use loadx_http::h2::hpack::{Decoder, HpackFault, put_field};
use loadx_http::h2::section::{Asked, RequestKind, RequestMemory, RequestSection, ResponseSection};
use loadx_http::h2::{Answer, Connection, Event, Purpose, Scratch, Told};
use loadx_http::{FieldSlots, Parsed, RequestHead, parse_request, parse_response};

type Field = (Vec<u8>, Vec<u8>);

fn decode(decoder: &mut Decoder, section: &[u8]) -> Result<Vec<Field>, HpackFault> {
    let mut fields = Vec::new();
    decoder.decode(section, &mut Vec::new(), |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(fields)
}

/// The field sections of one connection: each begins with its length in one byte.
fn sections(mut data: &[u8]) -> Vec<&[u8]> {
    let mut sections = Vec::new();
    while let Some((length, rest)) = data.split_first() {
        let (section, after) = rest.split_at(rest.len().min(usize::from(*length)));
        sections.push(section);
        data = after;
    }
    sections
}

/// What LoadX reads, the library reads alike; what the library writes, LoadX reads; and what LoadX writes, both read.
pub fn hpack(data: &[u8]) {
    let (mut own, mut other) = (Decoder::default(), fluke_hpack::Decoder::new());
    let (mut from_other, mut writer) = (Decoder::default(), fluke_hpack::Encoder::new());
    for section in sections(data) {
        // A section that LoadX refuses ends the connection.
        let Ok(fields) = decode(&mut own, section) else { return };
        let read = other.decode(section).ok();
        if fields.is_empty() && read.is_none() {
            // The library refuses a section of nothing but table sizes, which RFC 7541 does not forbid.
            return;
        }
        assert_eq!(read.as_ref(), Some(&fields), "{section:?}");
        assert!(own.memory() < 20_000);
        let mut rewritten = Vec::new();
        fields.iter().for_each(|(name, value)| put_field(name, value, &mut rewritten));
        assert_eq!(decode(&mut Decoder::default(), &rewritten).as_ref(), Ok(&fields));
        assert_eq!(fluke_hpack::Decoder::new().decode(&rewritten).ok().as_ref(), Some(&fields));
        let written = writer.encode(fields.iter().map(|(name, value)| (&name[..], &value[..])));
        assert_eq!(decode(&mut from_other, &written), Ok(fields));
    }
}

/// Any bytes are frames or a fault; and a field section comes back whole, however many frames it takes.
pub fn frames(data: &[u8]) {
    let mut rest = data;
    while let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() {
        let head = FrameHead::read(head);
        if head.check(16_384).is_err() || after.len() < head.length {
            break;
        }
        let (payload, after) = after.split_at(head.length);
        match head.frame(payload) {
            Ok(Frame::Data { content, counted, .. }) => assert!(content.len() <= counted && counted == payload.len()),
            Ok(Frame::Settings(settings)) => assert!(settings.iter().count() <= settings.count()),
            Ok(Frame::WindowUpdate { increment, .. }) => assert!(increment > 0 && increment < 1 << 31),
            Ok(_) => {}
            Err(_) => break,
        }
        rest = after;
    }
    let max = 1 + data.first().map_or(0, |byte| usize::from(*byte));
    let mut out = Vec::new();
    put_headers(1, true, max, &mut out, |out| out.extend_from_slice(data));
    let (mut written, mut section) = (&out[..], Vec::new());
    while let Some((head, after)) = written.split_first_chunk::<HEAD_BYTES>() {
        let head = FrameHead::read(head);
        assert_eq!(head.check(max), Ok(()));
        let (payload, after) = after.split_at(head.length);
        match head.frame(payload) {
            Ok(Frame::Headers { fragment, .. } | Frame::Continuation { fragment, .. }) => {
                section.extend_from_slice(fragment);
            }
            frame => panic!("{frame:?}"),
        }
        written = after;
    }
    assert_eq!(section, data);
}

/// The text of a section has the lines of the section and no others, and the parser of HTTP/1.1 reads the text as one head or
/// refuses the text.
pub fn messages(data: &[u8]) {
    let Some((ends, section)) = data.split_first() else { return };
    let ends = *ends & 1 == 1;
    let Ok(fields) = decode(&mut Decoder::default(), section) else { return };
    request(&fields, ends);
    response(&fields, ends);
}

fn request(fields: &[Field], ends: bool) {
    let mut text = Vec::new();
    let mut memory = RequestMemory::default();
    let mut section = RequestSection::new(16_384, &mut memory, &mut text);
    let is_taken = fields.iter().all(|(name, value)| section.take(name, value).is_continue());
    let Ok(Asked { kind, .. }) = section.finish(ends) else { return };
    assert!(is_taken);
    let count = |wanted: fn(&[u8]) -> bool| fields.iter().filter(|(name, _)| wanted(name)).count();
    let authorities = count(|name| name == b":authority");
    let has = |name: &str| fields.iter().any(|(other, _)| other == name.as_bytes());
    let plain = count(|name| !name.starts_with(b":") && name != b"cookie" && name != b"host");
    let hosts = if authorities > 0 { 1 } else { count(|name| name == b"host") };
    let is_chunked = !ends && kind == RequestKind::Plain && !has("content-length");
    let upgrade = if kind == RequestKind::Tunnel { 2 } else { 0 };
    let wanted = 1
        + upgrade
        + plain
        + hosts
        + usize::from(has("cookie") && lines(&text, b"cookie: ") > 0)
        + usize::from(is_chunked);
    assert_eq!(lines(&text, b""), wanted, "{}", String::from_utf8_lossy(&text));
    let mut head = RequestHead::default();
    match parse_request(&text, &mut head) {
        Ok(Parsed::Complete((), length)) => assert_eq!(length, text.len()),
        Ok(Parsed::Partial) => panic!("half a head: {}", String::from_utf8_lossy(&text)),
        Err(_) => {}
    }
}

fn response(fields: &[Field], ends: bool) {
    let mut text = Vec::new();
    let mut section = ResponseSection::new(16_384, false, &mut text);
    let is_taken = fields.iter().all(|(name, value)| section.take(name, value).is_continue());
    let Ok((status, _)) = section.finish(ends) else { return };
    assert!(is_taken);
    match parse_response(&text, false, &mut FieldSlots::new()) {
        Ok(Parsed::Complete(response, length)) => assert_eq!((length, response.status()), (text.len(), status)),
        Ok(Parsed::Partial) => panic!("half a head: {}", String::from_utf8_lossy(&text)),
        Err(_) => {}
    }
}

/// The number of lines that begin so, without the empty line at the end.
fn lines(text: &[u8], begin: &[u8]) -> usize {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !matches!(*line, b"" | b"\r"));
    lines.filter(|line| line.starts_with(begin)).count()
}

/// Any bytes after the preface are a connection or a fault; what LoadX answers are whole frames, and the state stays bounded.
/// Requests are answered at once, a few bytes at a time.
pub fn connections(data: &[u8]) {
    let mut out = Vec::new();
    let mut connection = Connection::new(&mut out);
    let mut scratch = Scratch::default();
    let mut bytes = PREFACE.to_vec();
    put_settings(&[], &mut bytes);
    bytes.extend_from_slice(data);
    let (mut rest, mut running, mut received) = (&bytes[..], Vec::new(), 0);
    loop {
        let told = connection.receive(rest, &mut scratch, Duration::from_millis(received as u64), &mut out);
        let Ok((length, event)) = told else { break };
        received += length;
        match event {
            Event::Told(Told::Request { stream, text, .. }) => {
                running.push(stream);
                if let Ok(Parsed::Partial) = parse_request(text, &mut RequestHead::default()) {
                    panic!("half a head: {}", String::from_utf8_lossy(text));
                }
                connection.put_section(stream, false, &mut out, |out| put_field(b":status", b"200", out));
            }
            Event::Told(Told::TooLarge { stream, .. }) => running.push(stream),
            Event::Content { stream, content, .. } => {
                let (content, half) = (content.len(), content.len() / 2);
                connection.pass(stream, half, &mut out);
                connection.pass(stream, content - half, &mut out);
            }
            _ => {}
        }
        assert_eq!(connection.running() as usize, running.len());
        assert!(running.len() <= 100);
        if received % 3 == 0
            && let Some(stream) = running.pop()
        {
            let sendable = connection.sendable(stream).unwrap_or(0).min(3);
            connection.put_content(stream, &b"abc"[..sendable], received % 2 == 0, &mut out);
            connection.finished(stream, 0, &mut out);
        }
        if length == 0 {
            break;
        }
        rest = &rest[length..];
    }
    are_frames(&out);
}

fn are_frames(mut written: &[u8]) {
    while let Some((head, after)) = written.split_first_chunk::<HEAD_BYTES>() {
        let head = FrameHead::read(head);
        assert_eq!(head.check(16_384), Ok(()));
        assert!(head.frame(&after[..head.length]).is_ok());
        written = &after[head.length..];
    }
    assert!(written.is_empty());
}

/// Any bytes are a connection of a server or a fault; what LoadX asks are whole frames, and no more content is told than windows allow.
pub fn answers(data: &[u8]) {
    let mut out = Vec::new();
    let mut connection = Connection::to_server(&mut out);
    let preface = out.split_off(PREFACE.len());
    assert_eq!((&out[..], &preface[..3]), (PREFACE, &[0, 0, 24][..]));
    let mut out = preface;
    let mut bytes = Vec::new();
    put_settings(&[], &mut bytes);
    bytes.extend_from_slice(data);
    for number in 0..8 {
        let stream = connection
            .open(if number == 0 { Purpose::Head } else { Purpose::Other })
            .expect("a server allows streams before its settings");
        assert_eq!(stream, 2 * number + 1);
        connection.put_section(stream, number % 2 == 0, &mut out, |out| put_field(b":method", b"GET", out));
    }
    let (mut rest, mut received) = (&bytes[..], 0);
    let (mut scratch, mut answered) = (Scratch::default(), [false; 16]);
    loop {
        let told = connection.receive(rest, &mut scratch, Duration::from_millis(received as u64), &mut out);
        let Ok((length, event)) = told else { break };
        received += length;
        match event {
            Event::Told(Answer { stream, status, text, .. }) => {
                assert!(!std::mem::replace(&mut answered[stream as usize], status >= 200), "two responses");
                match parse_response(text, stream == 1, &mut FieldSlots::new()) {
                    Ok(Parsed::Complete(response, length)) => {
                        assert_eq!((length, response.status()), (text.len(), status));
                    }
                    Ok(Parsed::Partial) => panic!("half a head: {}", String::from_utf8_lossy(text)),
                    Err(_) => {}
                }
            }
            Event::Content { stream, content, .. } => {
                assert!(answered[stream as usize], "content before a response");
                assert!(stream != 1 || content.is_empty(), "content of a response to a HEAD");
                connection.pass(stream, content.len(), &mut out);
            }
            Event::Trailers { stream, .. } => assert!(answered[stream as usize], "trailers before a response"),
            _ => {}
        }
        if length == 0 {
            break;
        }
        rest = &rest[length..];
    }
    (1..16).step_by(2).for_each(|stream| connection.finished(stream, 0, &mut out));
    are_frames(&out);
}
