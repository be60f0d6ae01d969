//! Messages with backends that speak HTTP/2.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use serde_json::{Value, json};

use crate::h2_backend_cases::{Gets, Seen, cases};
use crate::support::h2::code::CANCEL;
use crate::support::h2::setting::{CONNECT_PROTOCOL, WINDOW};
use crate::support::h2::{ACK, DATA, GET, H2Client, PING, POST, backend, data, frame, headers};
use crate::support::{LoadX, Origin, eventually};

/// LoadX before these backends, with one worker.
pub(crate) fn before(origins: &[&Origin]) -> LoadX {
    LoadX::of(&config(origins, &json!({})))
}

/// The config of LoadX before these backends, with these further settings of their cluster.
pub(crate) fn config(origins: &[&Origin], cluster: &Value) -> Value {
    let backends: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    let mut config = json!({
        "workers": 1, "proxy_port": 0, "proxy_host": "127.0.0.1",
        "clusters": { "web": { "backends": backends, "protocol": "h2", "health": { "probe": "off" } } },
    });
    for (key, value) in cluster.as_object().unwrap() {
        config["clusters"]["web"][key] = value.clone();
    }
    config
}

#[test]
fn each_case_of_a_backend_meets_its_rule() {
    for (name, frames, seen, gets) in cases() {
        let (told, tells) = channel();
        let origin = backend(&[], move |server| {
            let Some((1, _)) = server.request() else { return };
            server.send(&frames).send(frame(PING, 0, 0, b"case----"));
            let mut has_answered = false;
            let found = loop {
                match (server.goaway(), server.so_far(1).reset) {
                    (Some((_, code)), _) => break Seen::Goaway(code),
                    (_, Some(code)) => break Seen::Reset(code),
                    _ if has_answered && seen == Seen::Nothing => break Seen::Nothing,
                    _ => {}
                }
                let Some(came) = server.frame() else { break Seen::Nothing };
                has_answered |= came.kind == PING && came.flags & ACK != 0;
            };
            let _ = told.send(found);
            while server.frame().is_some() {}
        });
        // The backend answers one request.
        let loadx = LoadX::of(&config(&[&origin], &json!({ "resilience": "off" })));
        let mut client = loadx.client();
        client.get("/");
        let mut response = client.try_response();
        while response.as_ref().is_ok_and(|response| response.status < 200) {
            response = client.try_response();
        }
        match (gets, response) {
            (Gets::Status(status), Ok(response)) => assert_eq!(response.status, status, "{name}: {}", response.text()),
            (Gets::Part, Err(_)) => {}
            (gets, got) => panic!("{name}: {gets:?} {:?}", got.map(|got| got.status)),
        }
        assert_eq!(tells.recv().unwrap(), seen, "{name}");
    }
}

#[test]
fn a_request_reaches_the_backend_in_http_2() {
    let (told, tells) = channel();
    let origin = backend(&[], move |server| {
        while let Some((stream, request)) = server.request() {
            let _ = told.send(request);
            server.answer(stream, "200", "ok");
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    client.send(
        "POST /a?b HTTP/1.1\r\nX-A: 1\r\nHost: a.test:80\r\nConnection: TE, X-Hop\r\nX-Hop: 1\r\nTE: trailers\r\n\
         Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n",
    );
    let response = client.response();
    assert_eq!((response.status, response.text()), (200, "ok".to_owned()));
    let request = tells.recv().unwrap();
    let fields: Vec<(&str, &str)> =
        request.sections[0].iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let pseudo =
        [(":method", "POST"), (":scheme", "http"), (":path", "/a?b"), (":authority", "a.test:80"), ("x-a", "1")];
    assert_eq!(fields[..5], pseudo);
    assert_eq!((request.asked("te"), request.asked("x-forwarded-for")), (Some("trailers"), Some("127.0.0.1")));
    for hop in ["connection", "x-hop", "transfer-encoding", "host"] {
        assert_eq!(request.asked(hop), None, "{hop}");
    }
    assert_eq!((request.text(), request.trailer("x-sum")), ("abc".to_owned(), Some("9")));
    // A client of HTTP/2 has no other request.
    let mut client = H2Client::connect(loadx.address);
    client.send([headers(1, false, &POST), data(1, b"abc", false), headers(1, true, &[("x-sum", "9")])].concat());
    assert_eq!(client.response(1).status(), 200);
    let request = tells.recv().unwrap();
    assert_eq!((request.asked(":authority"), request.text()), (Some("test"), "abc".to_owned()));
    assert_eq!(request.trailer("x-sum"), Some("9"));
}

#[test]
fn responses_reach_clients_of_both_versions() {
    let origin = backend(&[], |server| {
        while let Some((stream, request)) = server.request() {
            let is_head = request.asked(":method") == Some("HEAD");
            server.send(headers(stream, false, &[(":status", "103"), ("link", "<x>")]));
            let fields = [(":status", "200"), ("server", "x"), ("content-length", "3")];
            match (is_head, request.asked(":path")) {
                (true, _) => server.send(headers(stream, true, &fields)),
                (_, Some("/trailers")) => server.send(
                    [headers(stream, false, &fields[..2]), data(stream, b"abc", false), {
                        headers(stream, true, &[("x-sum", "9")])
                    }]
                    .concat(),
                ),
                _ => server.send([headers(stream, false, &fields), data(stream, b"abc", true)].concat()),
            };
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(client.response_to_head().head.starts_with("HTTP/1.1 103 "));
    let head = client.response_to_head();
    assert!(head.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", head.head);
    assert_eq!((head.field("Content-Length"), head.field("Server")), (Some("3"), Some("x")));
    client.get("/trailers").response_to_head();
    let response = client.response();
    assert_eq!((response.text(), response.field("Transfer-Encoding")), ("abc".to_owned(), Some("chunked")));
    let mut client = H2Client::connect(loadx.address);
    let response = client.get(1, "/trailers").response(1);
    assert_eq!((response.sections.len(), response.status(), response.text()), (3, 200, "abc".to_owned()));
    assert_eq!((response.trailer("x-sum"), response.field("content-length")), (Some("9"), None));
    let response = client.get(3, "/").response(3);
    assert_eq!((response.field("content-length"), response.text()), (Some("3"), "abc".to_owned()));
    assert_eq!(origin.connections(), 1, "all exchanges share a connection");
}

#[test]
fn an_early_response_ends_the_upload() {
    let origin = backend(&[], |server| {
        let Some((stream, _)) = server.head() else { return };
        server.answer(stream, "413", "too much");
        assert!(server.reset_of(stream).is_some());
        server.answer_all("ok");
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    let response = client.response();
    assert_eq!(
        (response.status, response.text(), response.field("Connection")),
        (413, "too much".to_owned(), Some("close"))
    );
    assert_eq!(loadx.get("/").text(), "ok");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_backend_of_http_1_is_found_before_a_request_is_sent() {
    let origin = Origin::answering("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let right = backend(&[], |server| server.answer_all("ok"));
    let loadx = before(&[&origin, &right]);
    for _ in 0..4 {
        // No request is lost, not even one that must not be sent twice.
        let mut client = loadx.client();
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(client.response().text(), "ok");
    }
    let only = before(&[&origin]);
    let response = only.get("/");
    assert_eq!(response.status, 502);
    assert!(response.text().contains("does not speak HTTP/2"), "{}", response.text());
}

#[test]
fn probes_ask_in_http_2() {
    let healthy = Arc::new(AtomicUsize::new(200));
    let status = Arc::clone(&healthy);
    let origin = backend(&[], move |server| {
        while let Some((stream, request)) = server.request() {
            let status = status.load(Ordering::SeqCst).to_string();
            assert_eq!(request.asked("user-agent"), Some("LoadX-health"));
            assert_eq!((request.asked(":method"), request.asked(":path")), (Some("GET"), Some("/up")));
            server.answer(stream, &status, "");
        }
    });
    let health = json!({ "health": { "path": "/up", "interval": 0.05, "fall": 1, "rise": 1 } });
    let loadx = LoadX::of(&config(&[&origin], &health));
    loadx.wait_for_healthy(1);
    healthy.store(503, Ordering::SeqCst);
    loadx.wait_for_healthy(0);
    healthy.store(200, Ordering::SeqCst);
    loadx.wait_for_healthy(1);
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn web_sockets_reach_backends_as_tunnels() {
    let (told, tells) = channel();
    let origin = backend(&[(CONNECT_PROTOCOL, 1)], move |server| {
        while let Some((stream, request)) = server.head() {
            assert!(!request.is_complete, "a tunnel has no end yet");
            let _ = told.send(request);
            server
                .send([headers(stream, false, &[(":status", "200"), ("x", "y")]), data(stream, b"hi", false)].concat());
            while !server.so_far(stream).is_complete {
                let Some(came) = server.frame() else { return };
                if came.kind == DATA && !came.payload.is_empty() {
                    server.send(data(stream, &came.payload, false));
                }
            }
            server.send(data(stream, b"bye", true));
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    let response = client.send(UPGRADE).response_to_head();
    assert_eq!((response.status, response.field("x")), (101, Some("y")));
    // The value of RFC 6455, section 1.3.
    assert_eq!(response.field("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!((response.field("Upgrade"), response.field("Transfer-Encoding")), (Some("websocket"), None));
    assert_eq!(client.bytes(2), b"hi");
    assert_eq!(client.send("ping").bytes(4), b"ping");
    client.end();
    assert_eq!(client.until_end(), "bye");
    let request = tells.recv().unwrap();
    assert_eq!((request.asked(":method"), request.asked(":protocol")), (Some("CONNECT"), Some("websocket")));
    assert_eq!((request.asked(":path"), request.asked("sec-websocket-key")), (Some("/chat"), None));
    // From a stream into a stream.
    let mut client = H2Client::connect(loadx.address);
    let fields = [(":method", "CONNECT"), (":protocol", "websocket"), GET[1], GET[2], (":path", "/chat")];
    client.send([headers(1, false, &fields), data(1, b"ping", true)].concat());
    let response = client.response(1);
    assert_eq!((response.status(), response.text()), (200, "hipingbye".to_owned()));
    assert_eq!(tells.recv().unwrap().asked(":protocol"), Some("websocket"));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn only_a_get_becomes_a_tunnel() {
    let origin = backend(&[(CONNECT_PROTOCOL, 1)], |server| {
        while let Some((stream, request)) = server.request() {
            assert_eq!((request.asked(":method"), request.asked(":protocol")), (Some("DELETE"), None));
            server.answer(stream, "200", "deleted");
        }
    });
    let loadx = before(&[&origin]);
    let response = loadx.client().send(UPGRADE.replace("GET /chat", "DELETE /chat")).response();
    assert_eq!((response.status, response.text()), (200, "deleted".to_owned()));
}

#[test]
fn a_backend_without_tunnels_gets_no_offer() {
    let origin = backend(&[], |server| {
        while let Some((stream, request)) = server.request() {
            assert_eq!((request.asked(":method"), request.asked(":protocol")), (Some("GET"), None));
            server.answer(stream, "426", "no");
        }
    });
    let loadx = before(&[&origin]);
    let response = loadx.client().send(UPGRADE).response();
    assert_eq!((response.status, response.text()), (426, "no".to_owned()));
}

#[test]
fn a_refused_tunnel_is_an_ordinary_response() {
    let origin = backend(&[(CONNECT_PROTOCOL, 1)], |server| {
        while let Some((stream, _)) = server.head() {
            server.answer(stream, "403", "no");
            assert_eq!(server.reset_of(stream), Some(CANCEL));
        }
    });
    let loadx = before(&[&origin]);
    let response = loadx.client().send(UPGRADE).response();
    assert_eq!((response.status, response.text()), (403, "no".to_owned()));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn mirrors_get_their_copies_in_http_2() {
    let main = backend(&[], |server| server.answer_all("ok"));
    let (told, tells) = channel();
    let mirror = backend(&[], move |server| {
        while let Some((stream, request)) = server.request() {
            let _ = told.send((request.asked(":path").unwrap().to_owned(), request.text()));
            server.answer(stream, "200", "copied");
        }
    });
    let mut config = config(&[&main], &json!({}));
    config["clusters"]["shadow"] = config["clusters"]["web"].clone();
    config["clusters"]["shadow"]["backends"] = json!([mirror.address().to_string()]);
    config["routes"] = json!([{ "cluster": "web", "mirror": "shadow" }]);
    let loadx = LoadX::of(&config);
    let mut client = loadx.client();
    for path in ["/a", "/b"] {
        client.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"));
        assert_eq!(client.response().text(), "ok");
        assert_eq!(tells.recv().unwrap(), (path.to_owned(), "abc".to_owned()));
    }
    assert_eq!(mirror.connections(), 1);
    eventually("both copies are counted", || (loadx.metrics()["mirrored"] == 2).then_some(()));
    assert_eq!(loadx.metrics()["mirrors_failed"], 0);
}

#[test]
fn a_response_need_not_wait_for_the_upload() {
    let origin = backend(&[(WINDOW, 0)], |server| {
        while let Some((stream, _)) = server.head() {
            server.answer(stream, "401", "no");
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n{}", "x".repeat(3_000)));
    assert_eq!(client.response().status, 401);
}
