//! Clients and backends that close or reset the connection early.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use serde_json::json;

use crate::support::{LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An origin that reads the request, sends `begins`, and then waits for the end of the connection. The channel reports
/// the request and the end.
fn waiting(begins: &'static str) -> (Origin, Receiver<&'static str>) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let origin = Origin::start(move |connection| {
        connection.request();
        connection.send(begins);
        tell.lock().unwrap().send("request").unwrap();
        connection.request();
        tell.lock().unwrap().send("end").unwrap();
    });
    (origin, told)
}

#[test]
fn a_client_that_closes_cancels_its_request() {
    let requests = [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ];
    // Before the response, and during the response, where a stream of events may be silent for long.
    for begins in ["", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ndata:\r\n"] {
        let (origin, told) = waiting(begins);
        let loadx = LoadX::with(&[origin.address()], &json!({ "request_timeout": 3600, "log_file": "LOG" }));
        for (number, request) in requests.iter().enumerate() {
            for reset in [false, true] {
                let mut client = loadx.client();
                client.send(request);
                assert_eq!(told.recv(), Ok("request"));
                if reset {
                    client.reset();
                }
                drop(client);
                assert_eq!(told.recv(), Ok("end"), "{request:?}");
                let aborts = 2 * number + 1 + usize::from(reset);
                eventually("it is counted", || (loadx.metrics()["client_aborts"] == aborts).then_some(()));
            }
        }
        assert_eq!(loadx.status()["backends"][0]["active_connections"], 0);
        assert_eq!(loadx.metrics()["total_errors"], 0);
        assert_eq!(loadx.status()["healthy_backends"], 1);
        eventually("each is logged as the client's", || {
            (loadx.access_log().matches(" 499 ").count() == 6).then_some(())
        });
    }
}

#[test]
fn a_pipelined_request_is_not_a_closed_connection() {
    let (arrived, first_arrived) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let gate = Mutex::new((arrived, may_go_on));
    let origin = Origin::start(move |connection| {
        while let Some(head) = connection.head() {
            if head.starts_with("GET /1 ") {
                let gate = gate.lock().unwrap();
                gate.0.send(()).unwrap();
                gate.1.recv().unwrap();
            }
            connection.send(OK);
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = loadx.client();
    client.get("/1");
    first_arrived.recv().unwrap();
    // Both requests arrive while the backend works on the first request.
    client.get("/2").get("/3");
    assert_eq!(loadx.status()["backends"][0]["active_connections"], 1);
    go_on.send(()).unwrap();
    for _ in 0..3 {
        assert_eq!(client.response().text(), "ok");
    }
    assert_eq!(loadx.metrics()["client_aborts"], 0);
}

#[test]
fn a_reset_is_retried_only_before_the_response() {
    for (response, get, post) in [
        // Before the response: LoadX sends an idempotent request to another backend.
        ("", 200, 502),
        // Within the head, and right after the head: LoadX cannot send the request again.
        ("HTTP/1.1 200 OK\r\nConte", 502, 502),
    ] {
        let bad = Origin::start(move |connection| {
            connection.request();
            connection.send(response);
            connection.reset();
        });
        let good = Origin::answering(OK);
        let loadx = LoadX::with(&[bad.address(), good.address()], &json!({ "health_check_interval": 3600 }));
        loadx.wait_for_healthy(2);
        let mut statuses = (Vec::new(), Vec::new());
        for _ in 0..2 {
            statuses.0.push(loadx.get("/").status);
            statuses
                .1
                .push(loadx.client().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").response().status);
        }
        let seen = bad.requests().len() + good.requests().len();
        statuses.0.extend(&statuses.1);
        assert!(statuses.0.iter().all(|status| [200, get, post].contains(status)), "{statuses:?}");
        let posts = |origin: &Origin| origin.requests().iter().filter(|request| request.starts_with("POST")).count();
        assert_eq!(posts(&bad) + posts(&good), 2, "no POST is sent twice");
        assert!(seen <= 6, "{seen}");
    }
}

#[test]
fn a_body_that_the_backend_truncates_is_truncated_at_the_client() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
        connection.reset();
    });
    let loadx = LoadX::before(&[origin.address()]);
    let broken = loadx.client().get("/").try_response();
    assert!(broken.as_ref().is_err_and(|error| error.contains("reset") || error.contains("ended")), "{broken:?}");
}

#[test]
fn loadx_answers_options_with_max_forwards_0() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": "LOG" }));
    let mut client = loadx.client();
    let response = client.send("OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n").response();
    assert_eq!((response.status, response.body.len()), (200, 0));
    assert!(response.field("allow").is_some_and(|methods| methods.contains("GET")), "{}", response.head);
    assert_eq!(client.get("/").response().text(), "ok", "the connection goes on");
    assert_eq!(origin.requests().len(), 1);
    eventually("it is logged like any request", || loadx.access_log().contains("\"OPTIONS /\" 200 ").then_some(()));
    assert_eq!(loadx.metrics()["total_requests"], 2);
}

#[test]
fn the_config_adds_via_and_forwarded() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "via": "edge-1", "forwarded": true }));
    let response = loadx.client().send("GET / HTTP/1.1\r\nHost: a:1\r\nForwarded: for=6.6.6.6\r\n\r\n").response();
    assert_eq!(response.field("via"), Some("1.1 edge-1"));
    let request = origin.requests().remove(0);
    assert!(request.contains("\r\nVia: 1.1 edge-1\r\n"), "{request}");
    assert!(request.contains("\r\nForwarded: for=127.0.0.1;host=\"a:1\";proto=http\r\n"), "{request}");
    assert!(!request.contains("6.6.6.6"), "{request}");
}

#[test]
fn a_client_that_closes_after_more_bytes_cancels_its_request() {
    for stray in ["\r\n", "GET /next HTTP/1.1\r\nHost: a\r\n\r\n", "G"] {
        let (origin, told) = waiting("");
        let loadx = LoadX::with(&[origin.address()], &json!({ "request_timeout": 3600 }));
        let mut client = loadx.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(told.recv(), Ok("request"));
        client.send(stray);
        drop(client);
        assert_eq!(told.recv(), Ok("end"), "{stray:?}");
    }
}

#[test]
fn a_response_before_the_connection_closes_arrives_completely() {
    let body = "x".repeat(3_000_000);
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            connection.send(&response);
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "max_requests_per_connection": 1 }));
    for _ in 0..3 {
        let mut client = loadx.client();
        // Unread bytes of the client must not turn the close of LoadX into a reset that destroys the response.
        for _ in 0..8 {
            client.get("/");
        }
        let response = client.response();
        assert_eq!((response.field("connection"), response.body.len()), (Some("close"), 3_000_000));
    }
}

#[test]
fn an_empty_line_after_a_body_begins_no_request() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "request_head_timeout": 0.5, "keepalive_timeout": 1.5 }));
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na\r\n");
    assert_eq!(client.response().text(), "ok");
    assert_eq!(client.until_end(), "", "it is idle, and not late with a request");
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na\r\n");
    client.response();
    client.get("/");
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_request_is_not_sent_again_after_a_1xx() {
    let origins: Vec<Origin> = (0..2)
        .map(|_| {
            Origin::start(|connection| {
                connection.request();
                connection.send("HTTP/1.1 103 Early Hints\r\n\r\n");
            })
        })
        .collect();
    let loadx = LoadX::with(&[origins[0].address(), origins[1].address()], &json!({ "health_check_interval": 3600 }));
    let mut client = loadx.client();
    assert_eq!(client.get("/").response().status, 103);
    assert_eq!(client.response().status, 502);
    assert_eq!(origins[0].requests().len() + origins[1].requests().len(), 1);
}

#[test]
fn a_1xx_restarts_request_timeout() {
    let origin = Origin::start(|connection| {
        let head = connection.head().unwrap();
        if head.starts_with("GET") {
            for _ in 0..8 {
                std::thread::sleep(std::time::Duration::from_millis(200));
                connection.send("HTTP/1.1 102 Processing\r\n\r\n");
            }
            connection.send(OK);
        }
        connection.hold();
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "request_timeout": 1.2 }));
    let mut client = loadx.client();
    client.get("/");
    for _ in 0..8 {
        assert_eq!(client.response().status, 102);
    }
    assert_eq!(client.response().text(), "ok");
    // A client that waits for a 100 does not use its time credit up.
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().status, 504);
}

#[test]
fn an_early_response_continues_when_the_client_stops_sending() {
    let origin = Origin::start(|connection| {
        connection.head();
        connection.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 6\r\n\r\n");
        // In pieces, for longer than the client may be silent during its upload.
        for _ in 0..6 {
            std::thread::sleep(std::time::Duration::from_millis(250));
            connection.send("x");
        }
        connection.hold();
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "request_timeout": 1 }));
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nsome");
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (413, "xxxxxx"));
}
