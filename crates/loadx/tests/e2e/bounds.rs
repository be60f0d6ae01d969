//! Time limits and size limits: no client and no backend occupies LoadX, its memory or a backend for longer than the
//! limits allow.

use std::time::Duration;

use serde_json::json;

use crate::support::{Client, LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Sends `piece` again and again until the connection is closed or a response arrives.
fn drip(client: &mut Client, piece: &[u8]) {
    let mut sent = 0;
    while client.is_silent(Duration::from_millis(10)) && client.try_send(piece) {
        sent += 1;
        assert!(sent < 3_000, "no limit ended the connection");
    }
}

fn is_408(response: &crate::support::Response) {
    assert_eq!(response.status, 408);
    assert_eq!(response.field("connection"), Some("close"));
}

#[test]
fn a_slow_head_is_408() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "request_head_timeout": 0.8 }));
    let mut client = loadx.client();
    is_408(&client.send("GET / HTTP/1.1\r\nHos").response());
    assert!(client.is_closed());
    let mut client = loadx.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ");
    drip(&mut client, b"x");
    is_408(&client.response());
    // A client that sends nothing gets no response.
    assert!(loadx.client().is_closed());
    assert_eq!(origin.requests(), Vec::<String>::new());
}

#[test]
fn a_slow_body_is_408() {
    let origin = Origin::start(|connection| {
        connection.head();
        assert_eq!(connection.take(1_000_000), None, "the body must not look whole");
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "request_timeout": 0.3, "min_body_rate": 100_000 }));
    for piece in [b"".as_slice(), b"x"] {
        let mut client = loadx.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
        if !piece.is_empty() {
            drip(&mut client, piece);
        }
        is_408(&client.response());
    }
    eventually("no backend is held", || (loadx.status()["backends"][0]["active_connections"] == 0).then_some(()));
}

#[test]
fn a_body_at_the_lowest_rate_is_never_refused() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "request_timeout": 1, "min_body_rate": 1 }));
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400\r\n\r\n");
    // Twice as long as the time credit, which the bytes refill.
    for _ in 0..400 {
        assert!(client.is_silent(Duration::from_millis(5)));
        client.send("x");
    }
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_client_that_reads_nothing_releases_the_backend() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; 1 << 16];
        while connection.try_send(&piece) {}
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "request_timeout": 0.3 }));
    let mut client = loadx.client();
    client.get("/");
    eventually("the client is given up", || (loadx.metrics()["client_aborts"] == 1).then_some(()));
    assert_eq!(loadx.status()["backends"][0]["active_connections"], 0);
    assert!(client.try_response().is_err(), "what it got does not look whole");
}

#[test]
fn a_whole_exchange_has_a_time_limit() {
    let origin = Origin::start(|connection| match connection.head().unwrap().split(' ').nth(1) {
        Some("/silent") => drop(connection.head()),
        Some("/endless") => {
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while connection.try_send(b"1\r\nx\r\n") {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        _ => drop(connection.take(1_000_000)),
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "exchange_timeout": 0.3 }));
    let response = loadx.get("/silent");
    assert_eq!((response.status, response.json()["error"].as_str()), (504, Some("http_response_timeout")));
    assert!(loadx.client().get("/endless").try_response().is_err());
    let mut client = loadx.client();
    client.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    drip(&mut client, b"x");
    is_408(&client.response());
    assert_eq!(loadx.status()["healthy_backends"], 1, "it is not the backend's fault");
}

#[test]
fn idle_connections_close_on_both_sides() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.send(OK);
        connection.request();
        connection.note_end();
    });
    let loadx =
        LoadX::with(&[origin.address()], &json!({ "keepalive_timeout": 0.2, "backend_keepalive_timeout": 0.2 }));
    let mut client = loadx.client();
    assert_eq!(client.get("/").response().text(), "ok");
    assert!(client.is_closed());
    eventually("the backend sees the end", || (origin.ends() == 1).then_some(()));
}

#[test]
fn a_connection_carries_a_limited_number_of_requests() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "max_requests_per_connection": 3 }));
    let mut client = loadx.client();
    assert_eq!(client.get("/").response().field("connection"), None);
    assert_eq!(client.get("/").response().field("connection"), None);
    assert_eq!(client.get("/").response().field("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn a_too_large_body_is_413_during_the_upload() {
    let origin = Origin::start(|connection| {
        if connection.head().unwrap().starts_with("POST /whole") {
            connection.take(1_000);
            connection.send(OK);
        } else {
            assert_eq!(connection.take(2_000), None, "no more than is allowed arrives");
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "max_body_size": 1_000, "log_file": "LOG" }));
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n");
    // The client continues to send; the response must still arrive.
    client.send(vec![b'x'; 600_000]);
    let response = client.response();
    assert_eq!((response.status, response.json()["error"].as_str()), (413, Some("http_request_error")));
    assert_eq!(origin.connections(), 0, "a backend got a body that was announced as too large");

    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n").send(vec![b'x'; 500]);
    client.send("\r\n1f5\r\n").send(vec![b'x'; 501]).send("\r\n0\r\n\r\n");
    assert_eq!(client.response().status, 413);
    let mut client = loadx.client();
    client.send("POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").send(vec![b'x'; 1_000]);
    assert_eq!(client.response().status, 200, "as much as is allowed goes through");
    eventually("each refusal has its line", || {
        let log = loadx.access_log();
        (log.matches("\"POST /\" 413 ").count() == 2).then_some(())
    });
}

#[test]
fn an_error_arrives_although_the_client_still_sends() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    for _ in 0..20 {
        let mut client = loadx.client();
        // Unread bytes would turn the close into a reset, and the reset would overtake the response.
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(head).send(vec![b'x'; 500_000]);
        assert_eq!(client.response().status, 400);
        assert!(client.is_closed());
    }
}

#[test]
fn a_client_that_reads_slowly_keeps_its_connection() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n");
        connection.try_send(&vec![b'x'; 20_000_000]);
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "request_timeout": 2 }));
    let mut client = loadx.client();
    client.get("/");
    // Half a megabyte per second, for twice the allowed silence: LoadX must notice that the client reads, although the
    // system buffers bytes for the client.
    for _ in 0..40 {
        client.bytes(50_000);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(loadx.metrics()["client_aborts"], 0);
}
