mod client;
mod lab;

use proptest::prelude::*;

use lab::{GET, Lab, POST, data, headers, raw, reset, section, settings, strings, window};

use super::server::LEAVING_PING;
use super::*;
use crate::h2::Priority;
use crate::h2::frame::{PREFACE, put_continuation, put_headers, put_ping, put_settings};
use crate::h2::hpack::put_field;

#[test]
fn a_request_is_answered_and_its_stream_closes() {
    let mut lab = Lab::new();
    assert_eq!(lab.feed(&headers(1, true, &GET)), Ok(strings(["1: GET / HTTP/1.1 true"])));
    assert_eq!(lab.connection.sendable(1), Some(65_535));
    lab.connection.put_section(1, false, &mut lab.out, |out| put_field(b":status", b"200", out));
    lab.connection.put_content(1, &[b'x'; 20_000], true, &mut lab.out);
    assert_eq!(lab.written(), ["1: headers false", "1: data 16384 false", "1: data 3616 true"]);
    assert_eq!(lab.connection.sendable(1), None);
    lab.connection.finished(1, 0, &mut lab.out);
    assert_eq!((lab.written(), lab.connection.running()), (strings([]), 0));
    assert_eq!(lab.feed(&window(1, 5)), Ok(vec![]), "a late frame");
    lab.feed(&headers(3, true, &GET)).unwrap();
    assert_eq!(lab.connection.sendable(3), Some(45_535), "the window of the connection");
}

#[test]
fn content_counts_and_trailers_end_it() {
    let mut lab = Lab::new();
    let bytes = [
        headers(1, false, &POST),
        data(1, b"abc", false),
        raw(0, 0x8, 1, b"\x03abcdef\0\0\0"),
        headers(1, true, &[("x", "y")]),
    ];
    assert_eq!(
        lab.feed(&bytes.concat()),
        Ok(strings(["1: POST / HTTP/1.1 false", "1: 3 false", "1: 6 false", "1: trailers \"x: y\\r\\n\""]))
    );
    assert_eq!(lab.written(), strings([]));
    lab.feed(&headers(3, false, &POST)).unwrap();
    for _ in 0..4 {
        lab.feed(&data(3, &[0; 10_000], false)).unwrap();
    }
    assert_eq!(lab.written(), strings([]), "nothing was passed");
    lab.connection.pass(3, 40_000, &mut lab.out);
    assert_eq!(lab.written(), ["0: +40004", "3: +40000"]);
    let told = lab.feed(&data(3, &[0; 16_384], false).repeat(5));
    assert_eq!(told.unwrap().last().unwrap(), "3: FLOW_CONTROL_ERROR the other side sends more than the window allows");
}

#[test]
fn unread_content_is_given_back_to_the_connection() {
    let mut lab = Lab::new();
    for stream in (1..).step_by(2).take(120) {
        let bytes = [headers(stream, false, &POST), data(stream, &[0; 16_384], false).repeat(3)].concat();
        assert!(lab.feed(&bytes).is_ok(), "stream {stream}");
        lab.connection.finished(stream, 3 * 16_384, &mut lab.out);
        assert_eq!(lab.feed(&data(stream, &[0; 16_384], true)), Ok(vec![]), "late content is ignored, and given back");
    }
    let given: Vec<String> = lab.written().into_iter().filter(|frame| frame.starts_with("0: ")).collect();
    let given: Vec<usize> = given.iter().map(|frame| frame["0: +".len()..].parse().unwrap()).collect();
    let unknown = 120 * 65_536 - given.iter().sum::<usize>();
    assert!(unknown < 32_767, "{unknown} bytes were not given back");
    assert!(given.iter().all(|bytes| *bytes >= 32_767), "half of the window of a stream each time: {given:?}");
}

#[test]
fn faults_of_the_connection() {
    let text = |fields: &[(&str, &str)]| {
        let mut out = Vec::new();
        section(fields, &mut out);
        out
    };
    let begun = raw(1, 0, 1, &text(&GET));
    let too_large = [raw(1, 0, 1, b""), raw(9, 0, 1, &[0; 16_384]).repeat(5)].concat();
    let bomb: Vec<u8> = {
        let mut section = text(&GET);
        section.extend_from_slice(b"\x40\x01x\x7f\xa1\x1e");
        section.extend_from_slice(&[b'y'; 4_000]);
        section.extend_from_slice(&[0xbe; 5_000]);
        section
    };
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("an idle stream gets DATA", data(1, b"x", true), Code::ProtocolError),
        ("an even stream gets DATA", data(2, b"x", true), Code::ProtocolError),
        ("an idle stream gets RST_STREAM", reset(1, Code::Cancel), Code::ProtocolError),
        ("an idle stream gets WINDOW_UPDATE", window(1, 1), Code::ProtocolError),
        ("an idle stream gets an empty WINDOW_UPDATE", raw(8, 0, 1, &[0; 4]), Code::ProtocolError),
        ("a client opens an even stream", headers(2, true, &GET), Code::ProtocolError),
        ("ids go back", [headers(5, true, &GET), headers(3, true, &GET)].concat(), Code::StreamClosed),
        ("a server pushes", raw(5, 4, 1, &[0, 0, 0, 2]), Code::ProtocolError),
        ("another frame within a section", [begun.clone(), raw(6, 0, 0, &[0; 8])].concat(), Code::ProtocolError),
        ("the section of another stream", [begun.clone(), raw(9, 4, 3, b"")].concat(), Code::ProtocolError),
        ("CONTINUATION alone", raw(9, 4, 1, b""), Code::ProtocolError),
        ("a large section", too_large, Code::EnhanceYourCalm),
        ("many pieces of a section", [begun, raw(9, 0, 1, b"").repeat(1_001)].concat(), Code::EnhanceYourCalm),
        ("a bomb of references", raw(1, 5, 1, &bomb), Code::EnhanceYourCalm),
        ("an index without entry", raw(1, 5, 1, &[0xff, 0x10]), Code::CompressionError),
        ("a table too large", raw(1, 5, 1, &[0x3f, 0xe2, 0x1f]), Code::CompressionError),
        ("a size behind a field", raw(1, 5, 1, &[0x82, 0x20]), Code::CompressionError),
        ("three sizes", raw(1, 5, 1, &[0x20, 0x20, 0x20]), Code::CompressionError),
        (
            "a faulty section on a closed stream",
            [headers(1, true, &GET), reset(1, Code::Cancel), raw(1, 5, 1, &[0xff, 0x10])].concat(),
            Code::CompressionError,
        ),
        (
            "DATA behind RST_STREAM",
            [headers(1, false, &POST), reset(1, Code::Cancel), data(1, b"x", true)].concat(),
            Code::StreamClosed,
        ),
        (
            "HEADERS behind RST_STREAM",
            [headers(1, false, &POST), reset(1, Code::Cancel), headers(1, true, &GET)].concat(),
            Code::StreamClosed,
        ),
        ("a window of the connection too large", window(0, (1 << 31) - 1), Code::FlowControlError),
        ("an empty window update", raw(8, 0, 0, &[0; 4]), Code::ProtocolError),
        ("a setting out of range", raw(4, 0, 0, &[0, 2, 0, 0, 0, 2]), Code::ProtocolError),
        ("an initial window out of range", raw(4, 0, 0, &[0, 4, 0x80, 0, 0, 0]), Code::FlowControlError),
        (
            "windows too large by a setting",
            [headers(1, true, &GET), window(1, (1 << 31) - 1 - 65_535), settings(&[Setting::Window(65_536)])].concat(),
            Code::FlowControlError,
        ),
        ("an acknowledgement with settings", raw(4, 1, 0, &[0; 6]), Code::FrameSizeError),
        ("a long frame", raw(0, 0, 1, &[0; 16_385]), Code::FrameSizeError),
        ("PRIORITY_UPDATE for an even stream", raw(16, 0, 0, &[0, 0, 0, 2]), Code::ProtocolError),
        ("many pings", raw(6, 0, 0, &[0; 8]).repeat(1_001), Code::EnhanceYourCalm),
        ("many settings", raw(4, 0, 0, &[0, 3, 0, 0, 0, 1]).repeat(501), Code::EnhanceYourCalm),
        (
            "much empty content",
            [headers(1, false, &POST), data(1, b"", false).repeat(1_010)].concat(),
            Code::EnhanceYourCalm,
        ),
        ("many priorities", raw(2, 0, 1, &[0; 5]).repeat(1_001), Code::EnhanceYourCalm),
        (
            "many small window updates",
            [headers(1, true, &GET), window(1, 1).repeat(1_010)].concat(),
            Code::EnhanceYourCalm,
        ),
        ("many unknown frames", raw(99, 0, 0, b"").repeat(1_001), Code::EnhanceYourCalm),
        (
            "many malformed requests",
            (0..101u32).flat_map(|at| headers(1 + 2 * at, true, &GET[..2])).collect(),
            Code::EnhanceYourCalm,
        ),
    ];
    for (name, bytes, code) in cases {
        let told = Lab::new().feed(&bytes);
        assert!(matches!(told, Err(Fault::Connection(found, _)) if found == code), "{name}: {told:?}");
    }
}

#[test]
fn the_preface_must_come_first() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSX", b"\0"] {
        assert!(matches!(Lab::silent().feed(bytes), Err(Fault::Connection(Code::ProtocolError, _))));
    }
    let mut lab = Lab::silent();
    assert_eq!(lab.feed(b"PRI * HT"), Ok(vec![]), "the rest may come");
    for first in [raw(6, 0, 0, &[0; 8]), raw(4, 1, 0, b""), headers(1, true, &GET)] {
        let told = Lab::silent().feed(&[PREFACE, &first].concat());
        assert!(matches!(told, Err(Fault::Connection(Code::ProtocolError, _))), "{told:?}");
    }
}

#[test]
fn faults_of_streams_leave_the_connection() {
    let length = |length| [&POST[..], &[("content-length", length)]].concat();
    for (name, bytes, told, written) in [
        (
            "more content than Content-Length",
            [headers(1, false, &length("2")), data(1, b"abc", true)].concat(),
            "1: PROTOCOL_ERROR there is more content than Content-Length says",
            "1: reset PROTOCOL_ERROR",
        ),
        (
            "less content than Content-Length",
            [headers(1, false, &length("2")), data(1, b"a", true)].concat(),
            "1: PROTOCOL_ERROR the content ends before its Content-Length",
            "1: reset PROTOCOL_ERROR",
        ),
        (
            "less content than Content-Length, and trailers",
            [headers(1, false, &length("2")), headers(1, true, &[("x", "y")])].concat(),
            "1: PROTOCOL_ERROR the content ends before its Content-Length",
            "1: reset PROTOCOL_ERROR",
        ),
        (
            "trailers that do not end the request",
            [headers(1, false, &POST), headers(1, false, &[("x", "y")])].concat(),
            "1: PROTOCOL_ERROR a trailer section does not end the message",
            "1: reset PROTOCOL_ERROR",
        ),
        (
            "trailers with a pseudo-header field",
            [headers(1, false, &POST), headers(1, true, &[(":path", "/")])].concat(),
            "1: PROTOCOL_ERROR a trailer section has a pseudo-header field",
            "1: reset PROTOCOL_ERROR",
        ),
        (
            "content behind the end",
            [headers(1, true, &GET), data(1, b"x", true)].concat(),
            "1: STREAM_CLOSED DATA comes after the end of the message",
            "1: reset STREAM_CLOSED",
        ),
        (
            "a section behind the end",
            [headers(1, true, &GET), headers(1, true, &GET)].concat(),
            "1: STREAM_CLOSED a field section comes after the end of the message",
            "1: reset STREAM_CLOSED",
        ),
        (
            "a window too large",
            [headers(1, true, &GET), window(1, (1 << 31) - 1)].concat(),
            "1: FLOW_CONTROL_ERROR a window is larger than a window may be",
            "1: reset FLOW_CONTROL_ERROR",
        ),
        (
            "an empty window update",
            [headers(1, true, &GET), raw(8, 0, 1, &[0; 4])].concat(),
            "1: PROTOCOL_ERROR WINDOW_UPDATE adds nothing",
            "1: reset PROTOCOL_ERROR",
        ),
        (
            "a priority of wrong size",
            [headers(1, true, &GET), raw(2, 0, 1, &[0; 4])].concat(),
            "1: FRAME_SIZE_ERROR PRIORITY has not five bytes",
            "1: reset FRAME_SIZE_ERROR",
        ),
        ("a malformed request", headers(1, true, &GET[..2]), "there is no :path", "1: reset PROTOCOL_ERROR"),
    ] {
        let mut lab = Lab::new();
        let events = lab.feed(&bytes);
        assert_eq!(events.as_ref().map(|told| told.last().unwrap().as_str()), Ok(told), "{name}: {events:?}");
        assert_eq!(lab.written(), [written], "{name}");
        if name != "a malformed request" {
            lab.connection.finished(1, 0, &mut lab.out);
        }
        assert_eq!(lab.feed(&headers(3, true, &GET)), Ok(strings(["3: GET / HTTP/1.1 true"])), "{name}");
    }
}

#[test]
fn late_frames_on_a_reset_stream_are_ignored() {
    let mut lab = Lab::new();
    lab.feed(&headers(1, false, &POST)).unwrap();
    lab.connection.reset(1, Code::NoError, &mut lab.out);
    let late = [data(1, b"abc", false), window(1, 1), headers(1, true, &[("x", "y")]), reset(1, Code::Cancel)];
    assert_eq!(lab.feed(&late.concat()), Ok(vec![]));
    assert_eq!(lab.written(), ["1: reset NO_ERROR"]);
    assert_eq!(lab.feed(&[headers(3, false, &POST), reset(3, Code::Cancel), window(3, 1)].concat()).unwrap().len(), 2);
}

#[test]
fn a_reset_stream_keeps_its_place_until_its_request_has_ended() {
    let mut lab = Lab::new();
    let mut bytes = Vec::new();
    for at in 0..100 {
        bytes.extend(headers(1 + 2 * at, true, &GET));
        bytes.extend(reset(1 + 2 * at, Code::Cancel));
    }
    assert_eq!(lab.feed(&bytes).unwrap().len(), 200);
    assert_eq!(lab.connection.running(), 100);
    assert_eq!(lab.feed(&headers(201, true, &GET)), Ok(strings(["Refused"])));
    assert_eq!(lab.written(), ["201: reset REFUSED_STREAM"]);
    lab.connection.finished(1, 0, &mut lab.out);
    assert_eq!(lab.feed(&headers(203, true, &GET)), Ok(strings(["203: GET / HTTP/1.1 true"])));
}

#[test]
fn a_client_that_does_not_know_the_settings_may_open_too_many_streams() {
    let mut lab = Lab::silent();
    let mut bytes = PREFACE.to_vec();
    put_settings(&[], &mut bytes);
    let streams = || (0..300).map(|at| 1 + 2 * at);
    bytes.extend(streams().flat_map(|stream| headers(stream, false, &POST)));
    bytes.extend(streams().flat_map(|stream| data(stream, b"abc", true)));
    let told = lab.feed(&bytes).unwrap();
    assert_eq!(told.iter().filter(|told| *told == "Refused").count(), 200);
    assert_eq!(told.iter().filter(|told| told.ends_with(": 3 true")).count(), 100);
}

#[test]
fn two_thousand_cancels_a_second_pass() {
    let mut lab = Lab::new();
    for at in 0..4_000 {
        lab.now += Duration::from_micros(500);
        let stream = 1 + 2 * at;
        lab.feed(&[headers(stream, true, &GET), reset(stream, Code::Cancel)].concat()).unwrap();
        lab.connection.finished(stream, 0, &mut lab.out);
    }
}

#[test]
fn a_download_may_have_two_window_updates_for_each_frame() {
    let mut lab = Lab::new();
    lab.feed(&headers(1, true, &GET)).unwrap();
    for _ in 0..10_000 {
        lab.connection.put_content(1, &[0; 100], false, &mut lab.out);
        lab.feed(&[window(1, 100), window(0, 100), raw(6, 0, 0, &[0; 8])].concat()).unwrap();
        lab.out.clear();
    }
}

#[test]
fn settings_are_acknowledged_and_heeded() {
    let mut lab = Lab::new();
    lab.feed(&headers(1, true, &GET)).unwrap();
    assert_eq!(lab.feed(&settings(&[Setting::Window(10)])), Ok(vec![]));
    assert_eq!((lab.written(), lab.connection.sendable(1)), (strings(["SettingsAck"]), Some(10)));
    assert_eq!(lab.feed(&settings(&[Setting::Window(20)])), Ok(vec![]));
    assert_eq!(lab.connection.sendable(1), Some(20));
    lab.connection.put_content(1, &[0; 20], false, &mut lab.out);
    assert_eq!(lab.feed(&settings(&[Setting::Window(0)])), Ok(vec![]));
    assert_eq!(lab.connection.sendable(1), Some(0), "20 bytes are under way");
    assert_eq!(lab.feed(&window(1, 21)), Ok(vec![]));
    assert_eq!(lab.connection.sendable(1), Some(1));
}

#[test]
fn the_end_comes_in_two_steps() {
    let mut lab = Lab::new();
    lab.feed(&headers(1, true, &GET)).unwrap();
    lab.connection.announce_end(&mut lab.out);
    lab.connection.announce_end(&mut lab.out);
    assert_eq!(lab.written(), ["goaway 2147483647 NO_ERROR", "ping false leaving\0"]);
    assert_eq!(lab.feed(&headers(3, true, &GET)).unwrap().len(), 1, "the client did not know yet");
    let mut pong = Vec::new();
    put_ping(true, &LEAVING_PING, &mut pong);
    assert_eq!(lab.feed(&pong), Ok(vec![]));
    assert_eq!(lab.written(), ["goaway 3 NO_ERROR"]);
    let late = [headers(5, false, &POST), data(5, b"abc", true), headers(7, true, &GET)];
    assert_eq!(lab.feed(&late.concat()), Ok(vec![]));
    lab.connection.abort(Code::ProtocolError, "", &mut lab.out);
    assert_eq!(lab.written(), ["goaway 3 PROTOCOL_ERROR"], "the last stream does not become larger");
    assert!(!lab.connection.is_over());
    lab.connection.finished(1, 0, &mut lab.out);
    lab.connection.finished(3, 0, &mut lab.out);
    assert!(lab.connection.is_over());
}

#[test]
fn sections_may_come_in_pieces() {
    let mut lab = Lab::new();
    let mut whole = Vec::new();
    section(&GET, &mut whole);
    let mut bytes = raw(1, 1, 1, &whole[..3]);
    put_continuation(1, &whole[3..4], false, &mut bytes);
    put_continuation(1, &whole[4..], true, &mut bytes);
    assert_eq!(lab.feed(&bytes), Ok(strings(["1: GET / HTTP/1.1 true"])));
}

#[test]
fn a_client_with_a_small_table_is_told_that_there_is_none() {
    let mut lab = Lab::new();
    lab.feed(&[headers(1, true, &GET), headers(3, true, &GET)].concat()).unwrap();
    lab.connection.put_section(1, true, &mut lab.out, |out| put_field(b":status", b"200", out));
    lab.connection.put_section(3, true, &mut lab.out, |out| put_field(b":status", b"200", out));
    assert_eq!(lab.out, [raw(1, 5, 1, &[0x20, 0x88]), raw(1, 5, 3, &[0x88])].concat());
}

#[test]
fn a_section_that_is_too_large_can_be_answered() {
    let mut lab = Lab::new();
    let value = "x".repeat(15_000);
    let fields = [&GET[..], &[("a", value.as_str()), ("b", &value), ("c", &value)]].concat();
    let mut bytes = Vec::new();
    put_headers(1, true, 16_384, &mut bytes, |out| section(&fields, out));
    let told = lab.feed(&bytes).unwrap();
    assert!(told[0].starts_with("TooLarge { stream: 1"), "{told:?}");
    assert_eq!(lab.connection.sendable(1), Some(65_535));
}

#[test]
fn priorities_are_told() {
    let mut lab = Lab::new();
    let fields = [&GET[..], &[("priority", "u=1")]].concat();
    let mut out = Vec::new();
    put_headers(1, true, 16_384, &mut out, |out| section(&fields, out));
    let (_, event) = lab.connection.receive(&out, &mut lab.scratch, Duration::ZERO, &mut lab.out).unwrap();
    let Event::Told(Told::Request { asked, .. }) = event else { panic!("{event:?}") };
    assert_eq!(asked.priority, Priority { urgency: 1, is_incremental: false });
    let told = lab.feed(&raw(16, 0, 0, b"\0\0\0\x01u=5, i"));
    assert_eq!(told, Ok(strings(["Priority { stream: 1, priority: Priority { urgency: 5, is_incremental: true } }"])));
}

proptest! {
    /// However the bytes are cut into reads, they mean the same.
    #[test]
    fn cuts_do_not_matter(cuts in proptest::collection::vec(1usize..40, 1..40)) {
        let bytes = [
            headers(1, false, &POST), data(1, b"abcdef", false), settings(&[Setting::Window(5)]),
            headers(3, true, &GET), window(3, 9), data(1, b"g", true), reset(3, Code::Cancel),
        ].concat();
        let mut whole = Lab::new();
        let wanted = whole.feed(&bytes).unwrap();
        let mut lab = Lab::new();
        let (mut told, mut held) = (Vec::new(), Vec::new());
        let mut sizes = cuts.iter().cycle();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            rest = after;
            held.extend_from_slice(piece);
            loop {
                let before = told.len();
                let (length, event) =
                    lab.connection.receive(&held, &mut lab.scratch, Duration::ZERO, &mut lab.out).unwrap();
                if !matches!(event, Event::Nothing) {
                    told.push(format!("{event:?}"));
                }
                held.drain(..length);
                if length == 0 {
                    prop_assert_eq!(before, told.len());
                    break;
                }
            }
        }
        prop_assert_eq!(told.len(), wanted.len());
        prop_assert_eq!(lab.written(), whole.written());
    }
}

#[test]
fn what_was_sent_may_come_back_in_many_pieces_and_late() {
    // Small messages: a window of 64 KiB has 6,553 frames when the first WINDOW_UPDATE comes, the last ones when the stream is closed.
    let mut lab = Lab::new();
    lab.feed(&headers(1, true, &GET)).unwrap();
    (0..6_553).for_each(|_| lab.connection.put_content(1, &[0; 10], false, &mut lab.out));
    lab.connection.put_content(1, b"", true, &mut lab.out);
    for _ in 0..6_553 {
        assert_eq!(lab.feed(&[window(0, 10), window(1, 10)].concat()), Ok(vec![]));
    }
    // Large windows, of which each 4 KiB come back: two frames for a quarter of a frame of LoadX.
    lab.feed(&[settings(&[Setting::Window(4 << 20)]), window(0, 1 << 30), headers(3, true, &GET)].concat()).unwrap();
    for _ in 0..100 {
        lab.connection.put_content(3, &vec![0; 1 << 20], false, &mut lab.out);
        lab.out.clear();
        for _ in 0..256 {
            assert_eq!(lab.feed(&[window(0, 4_096), window(3, 4_096)].concat()), Ok(vec![]));
        }
    }
}

#[test]
fn windows_that_only_grow_cost_credit() {
    let mut lab = Lab::new();
    let told = lab.feed(&window(0, 1).repeat(2_000));
    assert!(matches!(told, Err(Fault::Connection(Code::EnhanceYourCalm, _))), "{told:?}");
}

#[test]
fn a_bomb_in_a_section_that_is_skipped_ends_the_connection() {
    let mut lab = Lab::new();
    lab.feed(&headers(1, true, &GET)).unwrap();
    lab.connection.put_content(1, b"", true, &mut lab.out);
    lab.connection.is_acknowledged = false;
    // A long name for the table, then fields with that name.
    let name = [&[0x40, 0x7f, 0xa1, 0x1e][..], &[b'y'; 4_000], &[0]].concat();
    let bomb = [name, [0x7e, 0x00].repeat(100)].concat();
    let told = lab.feed(&raw(1, 0x5, 1, &bomb));
    assert!(matches!(told, Err(Fault::Connection(Code::EnhanceYourCalm, _))), "{told:?}");
}

#[test]
fn content_that_is_held_does_not_stop_other_streams() {
    let mut lab = Lab::new();
    for stream in (1..).step_by(2).take(99) {
        let whole = [data(stream, &[0; 16_384], false).repeat(3), data(stream, &[0; 16_383], false)].concat();
        lab.feed(&[headers(stream, false, &POST), whole].concat()).unwrap();
    }
    lab.feed(&headers(199, false, &POST)).unwrap();
    lab.written();
    let mut window = 65_535;
    for _ in 0..200 {
        let count = window.min(16_384);
        assert!(count > 0, "the client may send nothing more");
        window -= count;
        lab.feed(&data(199, &vec![0; count], false)).unwrap();
        lab.connection.pass(199, count, &mut lab.out);
        let given = lab.written().into_iter().filter_map(|frame| frame.strip_prefix("0: +")?.parse::<usize>().ok());
        window += given.sum::<usize>();
    }
}
