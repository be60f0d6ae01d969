//! How connections of HTTP/2 end, and what clients cannot do to LoadX.

use serde_json::json;

use crate::support::h2::code::{CANCEL, ENHANCE_YOUR_CALM, NO_ERROR, PROTOCOL_ERROR};
use crate::support::h2::{
    ACK, END_HEADERS, END_STREAM, GET, GOAWAY, H2Client, HEADERS, PING, PREFACE, frame, headers, reset, settings,
    window,
};
use crate::support::{Client, LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_fault_of_the_connection_tells_its_code() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut neighbour = H2Client::connect(loadx.address);
    for (bytes, code) in [
        (headers(2, true, &GET), PROTOCOL_ERROR),
        (frame(PING, 0, 0, b"short"), 6),
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff]), 9),
        (window(0, (1 << 31) - 1), 3),
        (frame(PING, 0, 0, b"12345678").repeat(3_000), ENHANCE_YOUR_CALM),
        (settings(&[(2, 7)]), PROTOCOL_ERROR),
    ] {
        let mut client = H2Client::connect(loadx.address);
        client.client.try_send(&bytes);
        assert_eq!(client.end(), Some(code));
    }
    let mut client = Client::connect(loadx.address);
    assert!(client.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n").response().status == 505);
    assert_eq!(neighbour.get(1, "/").response(1).text(), "ok", "no other client notices");
}

#[test]
fn a_stop_serves_what_runs_and_what_is_under_way() {
    let (origin, open) = Origin::with_slow_path();
    let mut loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = H2Client::connect(loadx.address);
    client.get(1, "/slow");
    eventually("the request has come", || (origin.requests().len() == 1).then_some(()));
    loadx.terminate();
    let came = client.until(|came| came.kind == GOAWAY);
    assert_eq!(came.payload, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0], "the end is announced first");
    let ping = client.until(|came| came.kind == PING);
    assert_eq!(client.get(3, "/").response(3).status(), 200, "the client did not know yet");
    client.send(frame(PING, ACK, 0, &ping.payload));
    client.until(|came| came.kind == GOAWAY);
    assert_eq!(client.goaway(), Some((3, NO_ERROR)));
    open.send(()).unwrap();
    assert_eq!(client.response(1).status(), 200);
    assert_eq!(client.end(), Some(NO_ERROR));
    assert!(loadx.wait().success());
}

#[test]
fn a_removed_listener_and_an_idle_connection_end_gracefully() {
    let origin = Origin::answering(OK);
    let config = |listeners: serde_json::Value| {
        json!({
            "listeners": listeners,
            "backend_servers": [{ "host": "127.0.0.1", "port": origin.address().port() }],
            "keepalive_timeout": 1.0,
        })
    };
    let loadx = LoadX::of(&config(json!([{ "address": "127.0.0.1:0" }, { "name": "b", "address": "127.0.0.1:0" }])));
    let addresses = loadx.addresses();
    let (mut first, mut second) = (H2Client::connect(addresses[0]), H2Client::connect(addresses[1]));
    assert_eq!(first.get(1, "/").response(1).text(), "ok");
    assert_eq!(second.get(1, "/").response(1).text(), "ok");
    loadx.reload(&config(json!([{ "address": "127.0.0.1:0" }])));
    assert_eq!(second.end(), Some(NO_ERROR), "the listener was removed");
    assert_eq!(first.end(), Some(NO_ERROR), "the connection was idle");
}

#[test]
fn the_exchanges_of_all_streams_are_bounded() {
    let (origin, open) = Origin::with_slow_path();
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1, "max_connections": 2 }));
    let mut client = H2Client::connect(loadx.address);
    let streams = || (0..10).map(|at| 1 + 2 * at);
    client.send(
        streams()
            .flat_map(|stream| headers(stream, true, &[GET[0], GET[1], GET[2], (":path", "/slow")]))
            .collect::<Vec<_>>(),
    );
    eventually("the first requests have come", || (origin.requests().len() == 3).then_some(()));
    client.sync();
    assert_eq!(origin.requests().len(), 3, "one, and as many as there may be connections");
    assert_eq!(H2Client::connect(loadx.address).get(1, "/").response(1).status(), 200, "each connection may have one");
    // One that waits is reset.
    client.send(reset(19, CANCEL));
    (0..9).for_each(|_| open.send(()).unwrap());
    for stream in streams().take(9) {
        assert_eq!(client.response(stream).status(), 200);
    }
    assert_eq!(origin.requests().iter().filter(|request| request.contains("/slow")).count(), 9);
}

#[test]
fn a_request_that_waits_for_room_gets_the_room_of_other_connections() {
    let (origin, _held) = Origin::with_slow_path();
    let config = json!({ "workers": 1, "max_connections": 3, "request_timeout": 60 });
    let loadx = LoadX::with(&[origin.address()], &config);
    let slow = |stream| headers(stream, true, &[GET[0], GET[1], GET[2], (":path", "/slow")]);
    let (mut greedy, mut patient) = (H2Client::connect(loadx.address), H2Client::connect(loadx.address));
    greedy.send([1, 3, 5, 7].map(slow).concat());
    eventually("the greedy client has all further places", || (origin.requests().len() == 4).then_some(()));
    // The first request of the connection holds on, so that only room of the other connection can help.
    patient.send(slow(1));
    eventually("the patient client has its own place", || (origin.requests().len() == 5).then_some(()));
    patient.get(3, "/").sync();
    assert!(!patient.so_far(3).is_complete);
    drop(greedy);
    assert_eq!(patient.response(3).status(), 200);
}

#[test]
fn a_request_for_which_there_is_no_room_in_time_is_refused() {
    let (origin, _held) = Origin::with_slow_path();
    // The backend has more time, so that the first requests give up no room.
    let loadx = LoadX::of(&json!({
        "proxy_host": "127.0.0.1", "proxy_port": 0, "workers": 1, "max_connections": 1, "request_timeout": 0.5,
        "clusters": { "web": { "backends": [origin.address().to_string()], "request_timeout": 600 } },
    }));
    let mut client = H2Client::connect(loadx.address);
    let slow = |stream| headers(stream, true, &[GET[0], GET[1], GET[2], (":path", "/slow")]);
    client.send([1, 3, 5].map(slow).concat());
    let refused = client.response(5);
    assert_eq!((refused.status(), refused.text().contains("has no room")), (503, true), "{refused:?}");
}

#[test]
fn a_connection_has_a_largest_number_of_requests() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "max_requests_per_connection": 3 }));
    let mut client = H2Client::connect(loadx.address);
    for stream in [1, 3, 5] {
        assert_eq!(client.get(stream, "/").response(stream).text(), "ok");
    }
    assert_eq!(client.end(), Some(NO_ERROR));
}

#[test]
fn a_connection_has_a_largest_age() {
    let (origin, answer) = Origin::with_slow_path();
    let loadx = LoadX::with(&[origin.address()], &json!({ "max_connection_age": 0.3, "workers": 1 }));
    // The age ends a connection while its request runs, and the request is served.
    let mut client = H2Client::connect(loadx.address);
    client.get(1, "/slow").until(|came| came.kind == GOAWAY);
    answer.send(()).unwrap();
    assert_eq!((client.response(1).text(), client.end()), ("ok".to_owned(), Some(NO_ERROR)));
    // In HTTP/1.1 the next response tells.
    let mut client = loadx.client();
    let response = loop {
        let response = client.get("/").response();
        if response.field("Connection").is_some() {
            break response;
        }
    };
    assert_eq!((response.status, response.field("Connection")), (200, Some("close")));
    assert!(client.is_closed());
}

#[test]
fn resets_in_masses_cost_no_other_client() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let (mut attacker, mut client) = (H2Client::connect(loadx.address), H2Client::connect(loadx.address));
    let mut bytes = Vec::new();
    for at in 0..5_000 {
        bytes.extend([headers(1 + 2 * at, true, &GET), reset(1 + 2 * at, CANCEL)].concat());
    }
    attacker.send(&bytes).sync();
    assert!(origin.requests().len() < 500, "a request that is reset at once reaches no backend");
    assert_eq!(client.get(1, "/").response(1).text(), "ok");
    // Faults in single streams, which make LoadX reset them.
    let fault = |at: u32| [headers(20_001 + 2 * at, true, &GET), window(20_001 + 2 * at, 0)].concat();
    attacker.client.try_send(&(0..2_000).flat_map(fault).collect::<Vec<u8>>());
    assert_eq!(attacker.end(), Some(ENHANCE_YOUR_CALM));
    assert_eq!(client.get(3, "/").response(3).text(), "ok");
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let origin = Origin::start(|connection| {
        while connection.request().is_some() {
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n{}", "x".repeat(20_000_000)));
        }
    });
    let settings = json!({ "workers": 1, "request_timeout": 1.0, "log_file": "LOG" });
    let loadx = LoadX::with(&[origin.address()], &settings);
    // One that opens no window, and one that opens all windows and does not read.
    let mut shut = H2Client::connect(loadx.address);
    shut.get(1, "/");
    let mut deaf = H2Client::over(Client::connect(loadx.address), &[(4, (1 << 31) - 1)]);
    deaf.send(window(0, (1 << 30) + 1)).get(1, "/");
    eventually("both are noticed", || {
        let log = loadx.access_log();
        (log.lines().count() == 2).then_some(log)
    });
    let response = shut.response(1);
    assert!(!response.is_complete && response.reset.is_some(), "{} bytes", response.body.len());
    assert_eq!(shut.get(3, "/__health__").response(3).status(), 200, "the connection goes on");
}

#[test]
fn halves_of_frames_do_not_hold_a_connection() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "request_head_timeout": 0.5 }));
    let whole = headers(1, true, &GET);
    let mut begun = whole.clone();
    begun[4] = END_STREAM;
    for bytes in
        [&PREFACE[..10], &[PREFACE, &settings(&[]), &whole[..12]].concat(), &[PREFACE, &settings(&[]), &begun].concat()]
    {
        let mut client = Client::connect(loadx.address);
        client.send(bytes);
        client.until_end();
    }
}
