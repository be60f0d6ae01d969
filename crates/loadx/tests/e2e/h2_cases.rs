//! What a client can send in HTTP/2, and what becomes of that. docs/http2.md has a row for each case.

use crate::support::h2::code::{
    COMPRESSION_ERROR, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED,
};
use crate::support::h2::{
    ACK, DATA, END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, PING, POST, RST_STREAM, SETTINGS, WINDOW_UPDATE, data,
    frame, headers, reset, settings, window,
};

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const PRIORITY_UPDATE: u8 = 16;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 0x20;

/// What LoadX does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Ends the connection with this code.
    Goaway(u32),
    /// Ends the stream 1 with this code, and no other stream.
    Reset(u32),
    /// Answers on the stream 1, without a backend for a status of 400 or above.
    Status(u16),
}

use Then::{Goaway, Reset, Status};

/// A case: its name, the frames behind the preface, and what LoadX does.
pub(crate) type Case = (&'static str, Vec<u8>, Then);

pub(crate) fn cases() -> Vec<Case> {
    [pseudo_fields(), fields(), messages(), frames(), streams(), windows_and_settings(), compression(), floods()]
        .concat()
}

/// A GET with other fields in the place of those of the same name, and further fields.
fn get(fields: &[(&str, &str)]) -> Vec<u8> {
    request(&GET, fields)
}

fn request(base: &[(&str, &str)], fields: &[(&str, &str)]) -> Vec<u8> {
    let other = |name: &str| fields.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
    let kept = base.iter().map(|(name, value)| (*name, other(name).unwrap_or(value)));
    let further = fields.iter().copied().filter(|(name, _)| base.iter().all(|(other, _)| other != name));
    headers(1, true, &kept.chain(further).collect::<Vec<_>>())
}

/// A GET without this field.
fn without(name: &str) -> Vec<u8> {
    headers(1, true, &GET.into_iter().filter(|(other, _)| *other != name).collect::<Vec<_>>())
}

fn pseudo_fields() -> Vec<Case> {
    let twice = [&GET[..], &[(":path", "/b")]].concat();
    let behind = [GET[0], GET[1], ("x", "y"), GET[2], GET[3]];
    let connect = |fields: &[(&str, &str)]| headers(1, false, &[&[(":method", "CONNECT")], fields].concat());
    vec![
        ("a request", get(&[]), Status(200)),
        ("no :method", without(":method"), Reset(PROTOCOL_ERROR)),
        ("no :scheme", without(":scheme"), Reset(PROTOCOL_ERROR)),
        ("no :path", without(":path"), Reset(PROTOCOL_ERROR)),
        ("no :authority and no Host", without(":authority"), Status(400)),
        ("a pseudo-header field twice", headers(1, true, &twice), Reset(PROTOCOL_ERROR)),
        ("a pseudo-header field behind a field", headers(1, true, &behind), Reset(PROTOCOL_ERROR)),
        ("an unknown pseudo-header field", get(&[(":x", "y")]), Reset(PROTOCOL_ERROR)),
        (":status in a request", get(&[(":status", "200")]), Reset(PROTOCOL_ERROR)),
        ("an empty :method", get(&[(":method", "")]), Reset(PROTOCOL_ERROR)),
        ("a :method with a space", get(&[(":method", "GET /x")]), Reset(PROTOCOL_ERROR)),
        ("an empty :path", get(&[(":path", "")]), Reset(PROTOCOL_ERROR)),
        ("a :path without a slash", get(&[(":path", "x")]), Reset(PROTOCOL_ERROR)),
        ("a :path with a space", get(&[(":path", "/a b")]), Reset(PROTOCOL_ERROR)),
        ("a :path with CR LF", get(&[(":path", "/ HTTP/1.1\r\nx: y")]), Reset(PROTOCOL_ERROR)),
        ("a :path that is a URI", get(&[(":path", "http://test/")]), Reset(PROTOCOL_ERROR)),
        ("a :path with a fragment", get(&[(":path", "/#x")]), Status(400)),
        ("an asterisk with GET", get(&[(":path", "*")]), Reset(PROTOCOL_ERROR)),
        ("an asterisk with OPTIONS", get(&[(":method", "OPTIONS"), (":path", "*")]), Status(200)),
        ("another scheme", get(&[(":scheme", "ftp")]), Reset(PROTOCOL_ERROR)),
        ("an empty :authority", get(&[(":authority", "")]), Reset(PROTOCOL_ERROR)),
        ("an :authority with userinfo", get(&[(":authority", "u@test")]), Status(400)),
        ("an :authority with a path", get(&[(":authority", "test/x")]), Status(400)),
        ("Host beside the same :authority", get(&[("host", "test")]), Status(200)),
        ("Host beside another :authority", get(&[("host", "other")]), Reset(PROTOCOL_ERROR)),
        ("Host in place of :authority", headers(1, true, &[GET[0], GET[1], GET[3], ("host", "test")]), Status(200)),
        ("CONNECT", connect(&[(":authority", "test:80")]), Status(501)),
        ("CONNECT with :path", connect(&[(":authority", "test:80"), (":path", "/")]), Reset(PROTOCOL_ERROR)),
        ("CONNECT without :authority", connect(&[]), Reset(PROTOCOL_ERROR)),
        (":protocol without CONNECT", get(&[(":protocol", "websocket")]), Reset(PROTOCOL_ERROR)),
        ("TRACE", get(&[(":method", "TRACE")]), Status(501)),
    ]
}

fn fields() -> Vec<Case> {
    let values = ["a\rb", "a\nb", "a\0b", "a\x7fb", " a", "a\t"];
    let mut cases: Vec<Case> = vec![
        ("a name in upper case", get(&[("Accept", "x")]), Reset(PROTOCOL_ERROR)),
        ("an empty name", get(&[("", "x")]), Reset(PROTOCOL_ERROR)),
        ("a name with a space", get(&[("a b", "x")]), Reset(PROTOCOL_ERROR)),
        ("a name with a colon", get(&[("a:b", "x")]), Reset(PROTOCOL_ERROR)),
        ("a name with CR LF", get(&[("a\r\nb", "x")]), Reset(PROTOCOL_ERROR)),
        ("an empty value", get(&[("a", "")]), Status(200)),
        ("Connection", get(&[("connection", "close")]), Reset(PROTOCOL_ERROR)),
        ("Keep-Alive", get(&[("keep-alive", "5")]), Reset(PROTOCOL_ERROR)),
        ("Proxy-Connection", get(&[("proxy-connection", "close")]), Reset(PROTOCOL_ERROR)),
        ("Transfer-Encoding", get(&[("transfer-encoding", "chunked")]), Reset(PROTOCOL_ERROR)),
        ("Upgrade", get(&[("upgrade", "websocket")]), Reset(PROTOCOL_ERROR)),
        ("TE: trailers", get(&[("te", "trailers")]), Status(200)),
        ("TE: gzip", get(&[("te", "gzip")]), Reset(PROTOCOL_ERROR)),
        ("TE: trailers, gzip", get(&[("te", "trailers, gzip")]), Reset(PROTOCOL_ERROR)),
        ("a section of 40 KiB", large(10), Status(431)),
        ("90 crumbs of a cookie and 15 fields", crumbs(), Status(200)),
        ("101 fields", headers(1, true, &[&GET[..], &[("a", "b"); 101]].concat()), Status(431)),
    ];
    let names = ["a CR", "an LF", "a NUL", "a DEL", "a space before the value", "a tab behind the value"];
    cases
        .extend(names.into_iter().zip(values).map(|(name, value)| (name, get(&[("a", value)]), Reset(PROTOCOL_ERROR))));
    cases
}

fn large(fields: usize) -> Vec<u8> {
    let value = "\u{1}".repeat(4_000).replace('\u{1}', "~");
    let fields = GET.into_iter().chain((0..fields).map(|_| ("a", value.as_str())));
    let section = fluke_hpack::Encoder::new().encode(fields.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    pieces(&section, 16_384)
}

fn crumbs() -> Vec<u8> {
    let crumbs: Vec<String> = (0..90).map(|number| format!("c{number}=v")).collect();
    let names: Vec<String> = (0..15).map(|number| format!("x-{number}")).collect();
    let mut fields = GET.to_vec();
    fields.extend(crumbs.iter().map(|crumb| ("cookie", crumb.as_str())));
    fields.extend(names.iter().map(|name| (name.as_str(), "1")));
    headers(1, true, &fields)
}

/// A section as HEADERS and CONTINUATION frames.
fn pieces(section: &[u8], length: usize) -> Vec<u8> {
    let count = section.chunks(length).count();
    let pieces = section.chunks(length).enumerate().flat_map(|(at, piece)| {
        let last = if at + 1 == count { END_HEADERS } else { 0 };
        if at == 0 { frame(HEADERS, END_STREAM | last, 1, piece) } else { frame(CONTINUATION, last, 1, piece) }
    });
    pieces.collect()
}

/// The compressed fields of a GET.
fn get_section() -> Vec<u8> {
    fluke_hpack::Encoder::new().encode(GET.map(|(name, value)| (name.as_bytes(), value.as_bytes())))
}

fn messages() -> Vec<Case> {
    let post = |length: Option<&str>| {
        let fields: Vec<_> = POST.into_iter().chain(length.map(|length| ("content-length", length))).collect();
        headers(1, false, &fields)
    };
    let sent = |length, content: &[u8]| [post(length), data(1, content, true)].concat();
    let trailers = |ends, fields: &[(&str, &str)]| [post(None), headers(1, ends, fields)].concat();
    vec![
        ("content without a length", sent(None, b"abc"), Status(200)),
        ("content with its length", sent(Some("3"), b"abc"), Status(200)),
        ("more content than its length", sent(Some("2"), b"abc"), Reset(PROTOCOL_ERROR)),
        ("less content than its length", sent(Some("4"), b"abc"), Reset(PROTOCOL_ERROR)),
        ("a length and no content", request(&POST, &[("content-length", "1")]), Reset(PROTOCOL_ERROR)),
        ("a length that is no number", sent(Some("0x3"), b"abc"), Status(400)),
        ("a length with a plus", sent(Some("+3"), b"abc"), Status(400)),
        ("padded content", [post(None), frame(DATA, PADDED | END_STREAM, 1, b"\x03abc\0\0\0")].concat(), Status(200)),
        (
            "padding longer than the frame",
            [post(None), frame(DATA, PADDED, 1, b"\x04abc")].concat(),
            Goaway(PROTOCOL_ERROR),
        ),
        ("trailers", trailers(true, &[("x", "y")]), Status(200)),
        ("trailers that do not end the request", trailers(false, &[("x", "y")]), Reset(PROTOCOL_ERROR)),
        ("a pseudo-header field in trailers", trailers(true, &[(":path", "/")]), Reset(PROTOCOL_ERROR)),
        ("Connection in trailers", trailers(true, &[("connection", "x")]), Reset(PROTOCOL_ERROR)),
        ("an upper-case name in trailers", trailers(true, &[("X", "y")]), Reset(PROTOCOL_ERROR)),
    ]
}

fn frames() -> Vec<Case> {
    let section = get_section();
    let end = END_HEADERS | END_STREAM;
    let with_priority = [&[0, 0, 0, 0, 9], &section[..]].concat();
    let padded = [&[2], &section[..], &[0, 0]].concat();
    vec![
        ("HEADERS with a priority", frame(HEADERS, end | WITH_PRIORITY, 1, &with_priority), Status(200)),
        ("HEADERS with padding", frame(HEADERS, end | PADDED, 1, &padded), Status(200)),
        ("HEADERS with too much padding", frame(HEADERS, end | PADDED, 1, &[9, 0x82]), Goaway(PROTOCOL_ERROR)),
        ("HEADERS too short for a priority", frame(HEADERS, end | WITH_PRIORITY, 1, &[0; 4]), Goaway(FRAME_SIZE_ERROR)),
        ("a section in pieces", pieces(&section, 3), Status(200)),
        ("a frame within a section", [frame(HEADERS, 0, 1, &section), ping()].concat(), Goaway(PROTOCOL_ERROR)),
        (
            "another stream within a section",
            [frame(HEADERS, 0, 1, &section), frame(CONTINUATION, END_HEADERS, 3, b"")].concat(),
            Goaway(PROTOCOL_ERROR),
        ),
        ("CONTINUATION alone", frame(CONTINUATION, END_HEADERS, 1, &section), Goaway(PROTOCOL_ERROR)),
        ("an unknown frame", [frame(0xbe, 0xff, 7, b"x"), get(&[])].concat(), Status(200)),
        (
            "an unknown frame within a section",
            [frame(HEADERS, 0, 1, &section), frame(0xbe, 0, 1, b"")].concat(),
            Goaway(PROTOCOL_ERROR),
        ),
        ("a frame beyond 16 KiB", frame(DATA, 0, 1, &[0; 16_385]), Goaway(FRAME_SIZE_ERROR)),
        ("PING of seven bytes", frame(PING, 0, 0, &[0; 7]), Goaway(FRAME_SIZE_ERROR)),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8]), Goaway(PROTOCOL_ERROR)),
        ("RST_STREAM of three bytes", [get(&[]), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), Goaway(FRAME_SIZE_ERROR)),
        ("RST_STREAM on the connection", frame(RST_STREAM, 0, 0, &[0; 4]), Goaway(PROTOCOL_ERROR)),
        ("PRIORITY", [frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]), get(&[])].concat(), Status(200)),
        ("PRIORITY of a stream on itself", [frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 9]), get(&[])].concat(), Status(200)),
        ("PRIORITY on the connection", frame(PRIORITY, 0, 0, &[0; 5]), Goaway(PROTOCOL_ERROR)),
        ("PRIORITY_UPDATE", [frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=0"), get(&[])].concat(), Status(200)),
        ("PRIORITY_UPDATE on a stream", frame(PRIORITY_UPDATE, 0, 1, b"\0\0\0\x01u=0"), Goaway(PROTOCOL_ERROR)),
        ("PRIORITY_UPDATE for the connection", frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\0u=0"), Goaway(PROTOCOL_ERROR)),
        ("PUSH_PROMISE", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]), Goaway(PROTOCOL_ERROR)),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8]), Goaway(PROTOCOL_ERROR)),
        ("GOAWAY of seven bytes", frame(GOAWAY, 0, 0, &[0; 7]), Goaway(FRAME_SIZE_ERROR)),
        ("DATA on the connection", frame(DATA, 0, 0, b"x"), Goaway(PROTOCOL_ERROR)),
        ("HEADERS on the connection", frame(HEADERS, end, 0, &section), Goaway(PROTOCOL_ERROR)),
    ]
}

fn ping() -> Vec<u8> {
    frame(PING, 0, 0, &[0; 8])
}

fn streams() -> Vec<Case> {
    vec![
        ("an even stream", headers(2, true, &GET), Goaway(PROTOCOL_ERROR)),
        (
            "a stream below a former one",
            [headers(5, true, &GET), headers(3, true, &GET)].concat(),
            Goaway(STREAM_CLOSED),
        ),
        ("DATA on an idle stream", data(1, b"x", true), Goaway(PROTOCOL_ERROR)),
        ("RST_STREAM on an idle stream", reset(1, 8), Goaway(PROTOCOL_ERROR)),
        ("WINDOW_UPDATE on an idle stream", window(1, 1), Goaway(PROTOCOL_ERROR)),
        ("DATA behind the end of the request", [get(&[]), data(1, b"x", false)].concat(), Reset(STREAM_CLOSED)),
        ("HEADERS behind the end of the request", [get(&[]), get(&[])].concat(), Reset(STREAM_CLOSED)),
        (
            "DATA behind RST_STREAM",
            [headers(1, false, &POST), reset(1, 8), data(1, b"x", false)].concat(),
            Goaway(STREAM_CLOSED),
        ),
        (
            "HEADERS behind RST_STREAM",
            [headers(1, false, &POST), reset(1, 8), get(&[])].concat(),
            Goaway(STREAM_CLOSED),
        ),
    ]
}

fn windows_and_settings() -> Vec<Case> {
    let half = (1 << 31) - 1;
    vec![
        ("WINDOW_UPDATE of 0 on the connection", window(0, 0), Goaway(PROTOCOL_ERROR)),
        ("WINDOW_UPDATE of 0 on a stream", [get(&[]), window(1, 0)].concat(), Reset(PROTOCOL_ERROR)),
        ("a window of the connection beyond 2^31-1", window(0, half), Goaway(FLOW_CONTROL_ERROR)),
        ("a window of a stream beyond 2^31-1", [get(&[]), window(1, half)].concat(), Reset(FLOW_CONTROL_ERROR)),
        (
            "windows beyond 2^31-1 by a setting",
            [get(&[]), window(1, half - 65_535), settings(&[(4, 65_536)])].concat(),
            Goaway(FLOW_CONTROL_ERROR),
        ),
        ("WINDOW_UPDATE of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), Goaway(FRAME_SIZE_ERROR)),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5]), Goaway(FRAME_SIZE_ERROR)),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[]), Goaway(PROTOCOL_ERROR)),
        ("an acknowledgement with settings", frame(SETTINGS, ACK, 0, &[0; 6]), Goaway(FRAME_SIZE_ERROR)),
        ("ENABLE_PUSH of 2", settings(&[(2, 2)]), Goaway(PROTOCOL_ERROR)),
        ("INITIAL_WINDOW_SIZE beyond 2^31-1", settings(&[(4, 1 << 31)]), Goaway(FLOW_CONTROL_ERROR)),
        ("MAX_FRAME_SIZE below 16 KiB", settings(&[(5, 16_383)]), Goaway(PROTOCOL_ERROR)),
        ("MAX_FRAME_SIZE beyond 2^24-1", settings(&[(5, 1 << 24)]), Goaway(PROTOCOL_ERROR)),
        ("an unknown setting", [settings(&[(0xfe, 7)]), get(&[])].concat(), Status(200)),
        ("a table of no bytes", [settings(&[(1, 0)]), get(&[])].concat(), Status(200)),
    ]
}

fn compression() -> Vec<Case> {
    let end = END_HEADERS | END_STREAM;
    let section = |bytes: &[u8]| frame(HEADERS, end, 1, bytes);
    let bomb = {
        let mut section = get_section();
        // A field of 4,000 bytes, and references of one byte.
        section.extend_from_slice(b"\x40\x01x\x7f\xa1\x1e");
        section.extend_from_slice(&[b'y'; 4_000]);
        section.extend_from_slice(&[0xbe; 5_000]);
        section
    };
    vec![
        ("an index without an entry", section(&[0xff, 0x10]), Goaway(COMPRESSION_ERROR)),
        ("the index 0", section(&[0x80]), Goaway(COMPRESSION_ERROR)),
        (
            "an integer that does not end",
            section(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            Goaway(COMPRESSION_ERROR),
        ),
        ("a string that is cut off", section(&[0x40, 5, b'a']), Goaway(COMPRESSION_ERROR)),
        ("Huffman padding of a byte", section(&[0x40, 0x81, 0xff, 0]), Goaway(COMPRESSION_ERROR)),
        ("a table larger than allowed", section(&[0x3f, 0xe2, 0x1f]), Goaway(COMPRESSION_ERROR)),
        ("a table size behind a field", section(&[0x82, 0x20]), Goaway(COMPRESSION_ERROR)),
        ("three table sizes", section(&[0x20, 0x20, 0x20, 0x82]), Goaway(COMPRESSION_ERROR)),
        ("a bomb of references", section(&bomb), Goaway(ENHANCE_YOUR_CALM)),
    ]
}

/// Three times as many frames that move nothing as LoadX takes at once: a machine that stands still for seconds earns a client some
/// hundred more.
const FLOOD: usize = 3_000;

fn floods() -> Vec<Case> {
    let (begin, slow) = (get_section(), headers(1, false, &[POST[0], POST[1], POST[2], (":path", "/slow")]));
    vec![
        ("a flood of PING", ping().repeat(FLOOD), Goaway(ENHANCE_YOUR_CALM)),
        ("a flood of SETTINGS", settings(&[(4, 1)]).repeat(FLOOD / 2), Goaway(ENHANCE_YOUR_CALM)),
        ("a flood of PRIORITY", frame(PRIORITY, 0, 1, &[0; 5]).repeat(FLOOD), Goaway(ENHANCE_YOUR_CALM)),
        (
            "a flood of empty DATA",
            [slow.clone(), data(1, b"", false).repeat(FLOOD)].concat(),
            Goaway(ENHANCE_YOUR_CALM),
        ),
        ("a flood of WINDOW_UPDATE", [slow, window(1, 1).repeat(FLOOD)].concat(), Goaway(ENHANCE_YOUR_CALM)),
        ("a flood of unknown frames", frame(0xbe, 0, 0, b"").repeat(FLOOD), Goaway(ENHANCE_YOUR_CALM)),
        (
            "a flood of CONTINUATION",
            [frame(HEADERS, END_STREAM, 1, &begin), frame(CONTINUATION, 0, 1, b"").repeat(FLOOD)].concat(),
            Goaway(ENHANCE_YOUR_CALM),
        ),
        (
            "a section of 80 KiB",
            [frame(HEADERS, END_STREAM, 1, &begin), frame(CONTINUATION, 0, 1, &[0; 16_384]).repeat(5)].concat(),
            Goaway(ENHANCE_YOUR_CALM),
        ),
        (
            "a flood of malformed requests",
            { (1..150u32).flat_map(|at| headers(1 + 2 * at, true, &GET[..2])).collect() },
            Goaway(ENHANCE_YOUR_CALM),
        ),
    ]
}
