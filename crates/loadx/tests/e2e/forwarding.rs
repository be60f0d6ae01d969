//! Requests at the backend and responses at the client, byte for byte.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::{LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn forwarded(request: &str) -> String {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    assert_eq!(loadx.client().send(request).response().status, 200);
    without_id(&origin.requests()[0])
}

/// A message without the field X-Request-Id, which differs from request to request.
fn without_id(message: &str) -> String {
    message.split_inclusive("\r\n").filter(|line| !line.starts_with("X-Request-Id: ")).collect()
}

#[test]
fn a_request_arrives_unchanged_with_the_address_of_the_client() {
    assert_eq!(
        forwarded(
            "GET /a//b/../c%2f?q=1&q=%zz HTTP/1.1\r\nHost: Example.com:8080\r\nX-b: 1\r\nX-A:  2 \r\nx-B: 3\r\nConnection: close, X-A\r\nKeep-Alive: 9\r\n\r\n"
        ),
        "GET /a//c%2F?q=1&q=%zz HTTP/1.1\r\nHost: Example.com:8080\r\nX-b: 1\r\nx-B: 3\r\n\
         X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: Example.com:8080\r\n\r\n"
    );
}

#[test]
fn bodies_arrive_whole_with_a_length_and_in_chunks() {
    let request = forwarded("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world");
    assert!(request.contains("\r\nContent-Length: 11\r\n") && request.ends_with("\r\n\r\nhello world"), "{request}");
    let request = forwarded(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    );
    assert!(request.contains("\r\nTransfer-Encoding: chunked\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"), "{request}");
}

#[test]
fn connections_are_kept_on_both_sides() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = loadx.client();
    for _ in 0..20 {
        assert_eq!(client.get("/").response().text(), "ok");
    }
    assert_eq!((origin.requests().len(), origin.connections()), (20, 1));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|connection| {
        while let Some(request) = connection.request() {
            let path = request.split(' ').nth(1).unwrap().to_owned();
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()));
        }
    });
    let loadx = LoadX::before(&[origin.address()]);
    let mut client = loadx.client();
    client.send(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let answers: Vec<String> = (0..3).map(|_| client.response().text()).collect();
    assert_eq!(answers, ["/1", "/2", "/3"]);
}

#[test]
fn a_head_in_pieces_is_the_same_head() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let request = "GET /cut HTTP/1.1\r\nHost: a\r\nX-Y: z\r\n\r\n";
    for at in 1..request.len() {
        let mut client = loadx.client();
        client.send(&request[..at]).send(&request[at..]);
        assert_eq!(client.response().status, 200);
    }
    let requests: Vec<String> = origin.requests().iter().map(|request| without_id(request)).collect();
    assert!(requests.iter().all(|other| *other == requests[0]));
}

#[test]
fn forbidden_content_does_not_reach_the_client() {
    let origin = Origin::start(|connection| {
        while let Some(request) = connection.request() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
            // Sends content in response to a HEAD too, which the RFC does not allow.
            connection.send(if request.starts_with("HEAD") { "EVIL" } else { "good" });
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = loadx.client();
    for _ in 0..50 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.response_to_head();
        assert_eq!(client.response().text(), "good");
    }
}

#[test]
fn responses_without_content_end_with_their_head() {
    let origin = Origin::start(|connection| {
        while let Some(request) = connection.request() {
            connection.send(match request.split(' ').nth(1) {
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
            });
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = loadx.client();
    assert_eq!(client.get("/204").response().status, 204);
    assert_eq!(client.get("/304").response().status, 304);
    let head = client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").response_to_head();
    assert_eq!(head.field("content-length"), Some("99"));
    assert_eq!(client.get("/204").response().status, 204, "the connection goes on");
    // Two responses announced content that must not be sent: LoadX did not reuse their connections.
    assert_eq!(origin.connections(), 3);
}

#[test]
fn http_1_0_clients_are_served() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let loadx = LoadX::before(&[origin.address()]);
    let mut client = loadx.client();
    let response = client.send("GET / HTTP/1.0\r\n\r\n").response();
    assert_eq!((response.text().as_str(), response.field("transfer-encoding")), ("ok", None));
    assert_eq!(response.field("connection"), Some("close"));
    let host = format!("\r\nHost: {}\r\n", loadx.address);
    assert!(origin.requests()[0].contains(&host), "{}", origin.requests()[0]);
    let sized = Origin::answering(OK);
    let loadx = LoadX::before(&[sized.address()]);
    let mut client = loadx.client();
    for _ in 0..2 {
        let response = client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").response();
        assert_eq!(response.field("connection"), Some("keep-alive"));
    }
}

#[test]
fn interim_responses_go_through() {
    let origin = Origin::start(|connection| {
        let head = connection.head().unwrap();
        assert!(head.contains("Expect: 100-continue"));
        connection.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
        let body = connection.take(5).unwrap();
        connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}", String::from_utf8(body).unwrap()));
    });
    let loadx = LoadX::before(&[origin.address()]);
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().head, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    assert_eq!(client.response().status, 100);
    assert_eq!(client.send("hello").response().text(), "hello");
}

#[test]
fn the_client_behind_a_trusted_proxy_is_known() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(
        &[origin.address()],
        &json!({ "trusted_proxies": ["127.0.0.0/8"], "log_file": "LOG", "log_format": "json" }),
    );
    let mut client = loadx.client();
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Real-IP: 203.0.113.9\r\nX-Forwarded-Port: 443\r\nProxy: b\r\n\r\n")
        .response();
    let request = origin.requests().remove(0);
    assert!(request.contains("\r\nX-Forwarded-For: 203.0.113.9, 127.0.0.1\r\n"), "{request}");
    assert!(request.contains("\r\nX-Forwarded-Proto: https\r\n"), "{request}");
    assert!(request.contains("\r\nX-Real-IP: 203.0.113.9\r\nX-Forwarded-Port: 443\r\n"), "{request}");
    assert!(!request.contains("\r\nProxy:"), "{request}");
    let line = eventually("the line is written", || loadx.access_log().lines().next().map(str::to_owned));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["client"], "203.0.113.9");
}

#[test]
fn a_name_with_addresses_of_both_families_is_reached_by_either() {
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: this machine has no IPv6");
        return;
    };
    drop(probe);
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let origin = Origin::listen(address, |connection| {
            while connection.request().is_some() {
                connection.send(OK);
            }
        });
        let port = origin.address().port();
        let loadx = LoadX::of(&json!({
            "proxy_port": 0, "proxy_host": "127.0.0.1",
            "backend_servers": [{ "host": "localhost", "port": port }],
        }));
        let named = loadx.status()["backends"][0]["addresses"].as_array().unwrap().len();
        if named < 2 && SocketAddr::is_ipv6(&origin.address()) {
            eprintln!("skipped: localhost has no IPv6 address here");
            continue;
        }
        assert_eq!(loadx.get("/").status, 200, "{address}");
    }
}
