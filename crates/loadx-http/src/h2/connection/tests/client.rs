//! LoadX as the client of a server, which is the test.

use super::lab::{data, headers, raw, reset, settings, strings, window};
use super::*;
use crate::h2::section::put_request;
use crate::limits::h2::REQUEST_RESETS_MAX;

/// A connection with a server that has sent its settings, and what the connection said and wrote.
struct Lab {
    connection: Connection<Client>,
    scratch: Scratch,
    out: Vec<u8>,
}

impl Lab {
    fn new() -> Self {
        let mut out = Vec::new();
        let connection = Connection::to_server(&mut out);
        let mut lab = Lab { connection, scratch: Scratch::default(), out };
        assert!(!lab.connection.is_established());
        assert_eq!(lab.feed(&settings(&[])), Ok(vec![]));
        assert!(lab.connection.is_established());
        lab.out.clear();
        lab
    }

    fn ask(&mut self, method: &str, ends: bool) -> u32 {
        let stream = self.connection.open(if method == "HEAD" { Purpose::Head } else { Purpose::Other }).unwrap();
        let text = format!("{method} / HTTP/1.1\r\nHost: x.test\r\n\r\n");
        self.connection.put_section(stream, ends, &mut self.out, |out| {
            put_request(text.as_bytes(), b"http", None, out);
        });
        stream
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<Vec<String>, Fault> {
        let (mut told, mut rest) = (Vec::new(), bytes);
        loop {
            let now = Duration::ZERO;
            let (length, event) = self.connection.receive(rest, &mut self.scratch, now, &mut self.out)?;
            match event {
                Event::Nothing => {}
                Event::Told(Answer { stream, status, ends, .. }) => told.push(format!("{stream}: {status} {ends}")),
                Event::Content { stream, content, ends } => told.push(format!("{stream}: {} {ends}", content.len())),
                Event::Trailers { stream, .. } => told.push(format!("{stream}: trailers")),
                Event::Reset { stream, code, fault } => {
                    told.push(format!("{stream}: {code} {}", fault.unwrap_or("reset")));
                }
                Event::Goaway { last, code } => told.push(format!("goaway {last} {code}")),
            }
            if length == 0 {
                return Ok(told);
            }
            rest = &rest[length..];
        }
    }
}

fn answer(stream: u32, ends: bool, status: &str) -> Vec<u8> {
    headers(stream, ends, &[(":status", status)])
}

#[test]
fn responses_come_with_interim_ones_content_and_trailers() {
    let mut lab = Lab::new();
    assert_eq!((lab.ask("GET", true), lab.ask("POST", false)), (1, 3));
    lab.connection.put_content(3, b"abc", true, &mut lab.out);
    let bytes = [
        answer(3, false, "103"),
        answer(3, false, "200"),
        answer(1, true, "404"),
        data(3, b"hello", false),
        headers(3, true, &[("grpc-status", "0")]),
    ];
    let told = ["3: 103 false", "3: 200 false", "1: 404 true", "3: 5 false", "3: trailers"];
    assert_eq!(lab.feed(&bytes.concat()), Ok(strings(told)));
    assert_eq!(lab.connection.streams.len(), 0);
    lab.out.clear();
    lab.connection.finished(1, 0, &mut lab.out);
    assert!(lab.out.is_empty(), "a complete exchange needs no reset");
}

#[test]
fn malformed_responses_end_their_stream() {
    let length = [(":status", "200"), ("content-length", "3")];
    for (case, bytes) in [
        ("content before the response", data(1, b"x", false)),
        ("content of a response to a HEAD", [answer(1, false, "200"), data(1, b"x", true)].concat()),
        ("a 204 with content", [answer(3, false, "204"), data(3, b"x", true)].concat()),
        ("more than Content-Length", [headers(3, false, &length), data(3, b"abcd", true)].concat()),
        ("less than Content-Length", [headers(3, false, &length), data(3, b"ab", true)].concat()),
        ("less than Content-Length before trailers", {
            [headers(3, false, &length), headers(3, true, &[("x", "y")])].concat()
        }),
        ("an interim response that ends", answer(3, true, "103")),
        ("a 101", answer(3, false, "101")),
        ("no :status", headers(3, true, &[("x", "y")])),
        ("a request's field", headers(3, true, &[(":status", "200"), (":path", "/")])),
        ("content after the end", [answer(3, true, "200"), data(3, b"x", true)].concat()),
        ("a head twice", [answer(3, false, "200"), answer(3, false, "200")].concat()),
    ] {
        let mut lab = Lab::new();
        lab.ask("HEAD", true);
        lab.ask("POST", false);
        lab.out.clear();
        let told = lab.feed(&bytes).unwrap_or_else(|fault| panic!("{case}: {fault}"));
        let last = told.last().unwrap_or_else(|| panic!("{case}: nothing"));
        assert!(last.contains("PROTOCOL_ERROR") || last.contains("STREAM_CLOSED"), "{case}: {told:?}");
        assert_eq!(lab.out[3], 3, "{case}: RST_STREAM");
    }
}

#[test]
fn a_server_that_breaks_the_connection_is_left() {
    for (case, bytes) in [
        ("a push", raw(5, 4, 1, b"\0\0\0\x02\x88")),
        ("pushes turned on", settings(&[Setting::Push(true)])),
        ("a stream of the server", answer(2, true, "200")),
        ("a stream that LoadX has not opened", answer(5, true, "200")),
        ("PRIORITY_UPDATE", raw(16, 0, 0, b"\0\0\0\x01u=1")),
        ("interim responses without end", answer(3, false, "103").repeat(1_100)),
    ] {
        let mut lab = Lab::new();
        lab.ask("GET", true);
        lab.ask("GET", true);
        assert!(matches!(lab.feed(&bytes), Err(Fault::Connection(..))), "{case}");
    }
    let mut out = Vec::new();
    let mut lab = Lab { connection: Connection::to_server(&mut out), scratch: Scratch::default(), out };
    assert!(lab.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n").is_err(), "a server of HTTP/1.1");
}

#[test]
fn the_server_limits_streams_and_ends_the_connection() {
    let mut lab = Lab::new();
    lab.feed(&settings(&[Setting::StreamsMax(2)])).unwrap();
    assert_eq!(lab.connection.streams_max(), 2);
    lab.ask("GET", true);
    lab.ask("GET", true);
    assert_eq!(lab.connection.open(Purpose::Other), None);
    lab.feed(&answer(1, true, "200")).unwrap();
    lab.ask("GET", true);
    assert_eq!(lab.feed(&raw(7, 0, 0, b"\0\0\0\x03\0\0\0\0")), Ok(strings(["goaway 3 NO_ERROR"])));
    assert_eq!((lab.connection.streams_max(), lab.connection.sendable(5)), (0, None), "the stream 5 is not served");
    let late = [answer(3, true, "200"), answer(5, true, "200")].concat();
    lab.connection.is_acknowledged = true;
    let told = lab.feed(&late);
    assert!(matches!(told, Err(Fault::Connection(Code::StreamClosed, _))), "{told:?}");
}

#[test]
fn cancelled_exchanges_reset_their_stream_and_give_the_window_back() {
    let mut lab = Lab::new();
    lab.ask("GET", true);
    lab.feed(&[answer(1, false, "200"), data(1, &[0; 10_000], false)].concat()).unwrap();
    lab.out.clear();
    lab.connection.finished(1, 10_000, &mut lab.out);
    assert_eq!(lab.out, reset(1, Code::Cancel));
    assert_eq!(lab.feed(&[data(1, b"late", false), window(1, 5)].concat()), Ok(vec![]));
}

#[test]
fn a_connection_with_many_cancelled_requests_opens_no_more() {
    let mut lab = Lab::new();
    for _ in 0..REQUEST_RESETS_MAX {
        let stream = lab.ask("GET", true);
        lab.connection.finished(stream, 0, &mut lab.out);
    }
    assert_eq!((lab.connection.streams_max(), lab.connection.open(Purpose::Other)), (0, None));
}

#[test]
fn a_ping_tells_that_the_server_is_there() {
    let mut lab = Lab::new();
    lab.out.clear();
    lab.connection.ping(&mut lab.out);
    let mut pong = std::mem::take(&mut lab.out);
    assert!(lab.connection.awaits_pong());
    pong[4] = 1;
    lab.feed(&raw(6, 1, 0, b"12345678")).unwrap();
    assert!(lab.connection.awaits_pong(), "an answer to nothing");
    lab.feed(&pong).unwrap();
    assert!(!lab.connection.awaits_pong());
}

#[test]
fn late_answers_to_all_cancelled_requests_are_ignored() {
    let mut lab = Lab::new();
    let mut streams = Vec::new();
    for _ in 0..REQUEST_RESETS_MAX {
        let stream = lab.ask("GET", true);
        lab.connection.finished(stream, 0, &mut lab.out);
        streams.push(stream);
    }
    // The server sent these before it knew of any of the resets.
    for stream in streams {
        assert_eq!(
            lab.feed(&[answer(stream, false, "200"), data(stream, b"late", true)].concat()),
            Ok(vec![]),
            "{stream}"
        );
    }
}

#[test]
fn the_length_of_an_answer_that_opens_a_tunnel_means_nothing() {
    let mut lab = Lab::new();
    let fields = [(":status", "200"), ("content-length", "0")];
    let stream = lab.connection.open(Purpose::Tunnel).unwrap();
    let told = lab.feed(&[headers(stream, false, &fields), data(stream, b"hello", false)].concat());
    assert_eq!(told, Ok(strings(["1: 200 false", "1: 5 false"])));
    // A refusal is a response like any other.
    let stream = lab.connection.open(Purpose::Tunnel).unwrap();
    let fields = [(":status", "403"), ("content-length", "0")];
    let told = lab.feed(&[headers(stream, false, &fields), data(stream, b"hello", false)].concat()).unwrap();
    assert!(told[1].contains("more content than Content-Length"), "{told:?}");
}
