//! What a backend can send in HTTP/2, and what becomes of that. docs/http2.md has a row for each case.

use crate::support::h2::code::{COMPRESSION_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED};
use crate::support::h2::{
    END_HEADERS, GOAWAY, HEADERS, PING, SETTINGS, WINDOW_UPDATE, data, frame, headers, reset, settings, window,
};

const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const PRIORITY_UPDATE: u8 = 16;

/// What LoadX does to the backend.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    /// Ends the stream with this code.
    Reset(u32),
    /// Ends the connection with this code.
    Goaway(u32),
}

/// What the client gets.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gets {
    /// A whole response with this status.
    Status(u16),
    /// The beginning of a response, and then the end of the connection.
    Part,
}

use Gets::{Part, Status};
use Seen::{Goaway, Nothing, Reset};

/// A case: its name, the frames that the backend sends when the request has come, and what LoadX does.
pub(crate) type Case = (&'static str, Vec<u8>, Seen, Gets);

pub(crate) fn cases() -> Vec<Case> {
    [responses(), content(), connections()].concat()
}

/// A head on the stream of the request.
fn head(ends: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    headers(1, ends, fields)
}

/// A whole response with 200 and further fields.
fn with(fields: &[(&str, &str)]) -> Vec<u8> {
    head(true, &[&[(":status", "200")], fields].concat())
}

fn responses() -> Vec<Case> {
    let status = |status| head(true, &[(":status", status)]);
    let twice = head(true, &[(":status", "200"), (":status", "200")]);
    let behind = head(true, &[("x", "y"), (":status", "200")]);
    let early = [head(false, &[(":status", "103"), ("link", "x")]), status("200")].concat();
    vec![
        ("a response of a backend", status("200"), Nothing, Status(200)),
        ("an error of a backend", status("404"), Nothing, Status(404)),
        ("an interim response of a backend", early, Nothing, Status(200)),
        ("no :status", head(true, &[("x", "y")]), Reset(PROTOCOL_ERROR), Status(502)),
        (":status twice", twice, Reset(PROTOCOL_ERROR), Status(502)),
        (":status behind a field", behind, Reset(PROTOCOL_ERROR), Status(502)),
        ("a :status of two digits", status("20"), Reset(PROTOCOL_ERROR), Status(502)),
        ("a :status of 101", head(false, &[(":status", "101")]), Reset(PROTOCOL_ERROR), Status(502)),
        ("a :status of 600", status("600"), Nothing, Status(502)),
        ("an interim response that ends the stream", status("103"), Reset(PROTOCOL_ERROR), Status(502)),
        (":path in a response", with(&[(":path", "/")]), Reset(PROTOCOL_ERROR), Status(502)),
        ("a name in upper case in a response", with(&[("X-A", "y")]), Reset(PROTOCOL_ERROR), Status(502)),
        ("a CR LF in a response", with(&[("x", "a\r\nset-cookie: b")]), Reset(PROTOCOL_ERROR), Status(502)),
        ("Connection in a response", with(&[("connection", "close")]), Reset(PROTOCOL_ERROR), Status(502)),
        (
            "Transfer-Encoding in a response",
            with(&[("transfer-encoding", "chunked")]),
            Reset(PROTOCOL_ERROR),
            Status(502),
        ),
        ("a Content-Length that is no number", with(&[("content-length", "x")]), Nothing, Status(502)),
        ("two equal Content-Length", with(&[("content-length", "0"), ("content-length", "0")]), Nothing, Status(502)),
    ]
}

fn content() -> Vec<Case> {
    let ok = || head(false, &[(":status", "200")]);
    let length = || head(false, &[(":status", "200"), ("content-length", "3")]);
    let trailers = |ends, fields: &[(&str, &str)]| headers(1, ends, fields);
    vec![
        (
            "content and trailers of a backend",
            { [ok(), data(1, b"abc", false), trailers(true, &[("x", "y")])].concat() },
            Nothing,
            Status(200),
        ),
        ("content before the response", data(1, b"abc", true), Reset(PROTOCOL_ERROR), Status(502)),
        (
            "content of a 204",
            [head(false, &[(":status", "204")]), data(1, b"abc", true)].concat(),
            Reset(PROTOCOL_ERROR),
            Status(204),
        ),
        (
            "more content of a backend than Content-Length",
            [length(), data(1, b"abcd", true)].concat(),
            Reset(PROTOCOL_ERROR),
            Part,
        ),
        (
            "less content of a backend than Content-Length",
            [length(), data(1, b"ab", true)].concat(),
            Reset(PROTOCOL_ERROR),
            Part,
        ),
        ("a Content-Length without content", with(&[("content-length", "3")]), Reset(PROTOCOL_ERROR), Status(502)),
        (
            "trailers of a backend that do not end the stream",
            [ok(), trailers(false, &[("x", "y")])].concat(),
            Reset(PROTOCOL_ERROR),
            Part,
        ),
        (
            "trailers of a backend with :status",
            [ok(), trailers(true, &[(":status", "200")])].concat(),
            Reset(PROTOCOL_ERROR),
            Part,
        ),
        ("a reset after the head", [ok(), reset(1, 2)].concat(), Nothing, Part),
        ("a reset before the response", reset(1, 2), Nothing, Status(502)),
    ]
}

fn connections() -> Vec<Case> {
    let long = [frame(HEADERS, 0, 1, b"\x88"), frame(CONTINUATION, END_HEADERS, 1, b"")];
    let within = [frame(HEADERS, 0, 1, b"\x88"), frame(PING, 0, 0, b"12345678")];
    let last = [&1_u32.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
    vec![
        (
            "PUSH_PROMISE of a backend",
            frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02\x88"),
            Goaway(PROTOCOL_ERROR),
            Status(502),
        ),
        ("SETTINGS_ENABLE_PUSH of a backend", settings(&[(2, 1)]), Goaway(PROTOCOL_ERROR), Status(502)),
        ("a stream that a backend opens", headers(2, true, &[(":status", "200")]), Goaway(PROTOCOL_ERROR), Status(502)),
        (
            "a response on a stream that is not open",
            headers(3, true, &[(":status", "200")]),
            Goaway(PROTOCOL_ERROR),
            Status(502),
        ),
        (
            "PRIORITY_UPDATE of a backend",
            frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1"),
            Goaway(PROTOCOL_ERROR),
            Status(502),
        ),
        (
            "an index beyond the table in a response",
            frame(HEADERS, END_HEADERS, 1, b"\xff\x7f"),
            Goaway(COMPRESSION_ERROR),
            Status(502),
        ),
        (
            "a frame of a backend of 16,385 bytes",
            frame(HEADERS, END_HEADERS, 1, &[0; 16_385]),
            Goaway(FRAME_SIZE_ERROR),
            Status(502),
        ),
        ("WINDOW_UPDATE of 0 of a backend", window(0, 0), Goaway(PROTOCOL_ERROR), Status(502)),
        (
            "SETTINGS of a backend with half a setting",
            frame(SETTINGS, 0, 0, b"abc"),
            Goaway(FRAME_SIZE_ERROR),
            Status(502),
        ),
        (
            "a WINDOW_UPDATE of a backend without bytes",
            frame(WINDOW_UPDATE, 0, 0, b""),
            Goaway(FRAME_SIZE_ERROR),
            Status(502),
        ),
        ("another frame within the head of a response", within.concat(), Goaway(PROTOCOL_ERROR), Status(502)),
        ("a head of a response in two frames", [long.concat(), data(1, b"", true)].concat(), Nothing, Status(200)),
        (
            "DATA of a backend behind the end",
            { [head(true, &[(":status", "200")]), data(1, b"x", true)].concat() },
            Goaway(STREAM_CLOSED),
            Status(200),
        ),
        (
            "GOAWAY behind the request",
            [frame(GOAWAY, 0, 0, &last), head(true, &[(":status", "200")])].concat(),
            Goaway(0),
            Status(200),
        ),
    ]
}
