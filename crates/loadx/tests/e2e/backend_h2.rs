//! Backends that speak HTTP/2.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::h2_backend_cases::{Gets, Seen, cases};
use crate::support::h2::{
    ACK, DATA, GET, GOAWAY, H2Client, H2Server, PING, POST, data, frame, headers, reset, settings, window,
};
use crate::support::{Client, Connection, LoadX, Origin, eventually};

const CANCEL: u32 = 8;
const REFUSED_STREAM: u32 = 7;

const STREAMS_MAX: u16 = 3;
const WINDOW: u16 = 4;
const CONNECT_PROTOCOL: u16 = 8;

/// A backend that runs `script` on each connection.
fn server(settings: &'static [(u16, u32)], script: impl Fn(&mut H2Server<'_>) + Send + Sync + 'static) -> Origin {
    Origin::start(move |connection: &mut Connection| {
        if let Some(mut server) = H2Server::begin(connection, settings) {
            script(&mut server);
        }
    })
}

/// LoadX before these backends, with one worker.
fn before(origins: &[&Origin]) -> LoadX {
    LoadX::of(&config(origins, &json!({})))
}

fn config(origins: &[&Origin], cluster: &Value) -> Value {
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
        let origin = server(&[], move |server| {
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
        let loadx = before(&[&origin]);
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
    let origin = server(&[], move |server| {
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
    let origin = server(&[], |server| {
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

/// Starts so many clients that ask for `/` at the same time; each must get `ok`.
fn ask_at_once(loadx: &LoadX, count: usize) -> Vec<std::thread::JoinHandle<()>> {
    let address = loadx.address;
    let ask = move || {
        let response = Client::connect(address).get("/").response();
        assert_eq!((response.status, response.text()), (200, "ok".to_owned()));
    };
    (0..count).map(|_| std::thread::spawn(ask)).collect()
}

#[test]
fn exchanges_share_connections_up_to_the_limit_of_the_backend() {
    let most = Arc::new(AtomicUsize::new(0));
    let (sees, open) = (Arc::clone(&most), Arc::new(Mutex::new(0)));
    let all = Arc::clone(&open);
    let origin = server(&[(STREAMS_MAX, 3)], move |server| {
        let mut streams = Vec::new();
        loop {
            // Answers when all twelve are here.
            while let Some((stream, _)) = server.request() {
                streams.push(stream);
                *all.lock().unwrap() += 1;
                sees.fetch_max(streams.len(), Ordering::SeqCst);
                if streams.len() == 3 {
                    break;
                }
            }
            if streams.is_empty() {
                return;
            }
            eventually("all requests are here", || (*all.lock().unwrap() >= 12).then_some(()));
            for stream in streams.drain(..) {
                server.answer(stream, "200", "ok");
            }
        }
    });
    let loadx = before(&[&origin]);
    ask_at_once(&loadx, 12).into_iter().for_each(|client| client.join().unwrap());
    assert_eq!((most.load(Ordering::SeqCst), origin.connections()), (3, 4));
}

#[test]
fn a_backend_that_ends_its_connection_costs_no_request() {
    let origin = server(&[], |server| {
        let mut served = 0;
        while let Some((stream, _)) = server.request() {
            // The third request of each connection comes too late.
            if served == 2 {
                let goaway = [&3_u32.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
                server.send(frame(GOAWAY, 0, 0, &goaway));
                return;
            }
            served += 1;
            server.answer(stream, "200", "ok");
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    for number in 0..10 {
        // Not idempotent: LoadX may send the request again only because the backend says that it has not seen it.
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, "ok".to_owned()), "request {number}");
    }
    assert_eq!(origin.connections(), 5);
}

#[test]
fn a_refused_stream_is_sent_again() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let origin = server(&[], move |server| {
        while let Some((stream, _)) = server.request() {
            match count.fetch_add(1, Ordering::SeqCst) {
                1 => drop(server.send(reset(stream, REFUSED_STREAM))),
                _ => drop(server.answer(stream, "200", "ok")),
            }
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(refused.load(Ordering::SeqCst), 4);
}

#[test]
fn a_request_that_the_backend_may_have_seen_is_not_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let origin = server(&[], move |server| {
        while let Some((stream, _)) = server.request() {
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => drop(server.answer(stream, "200", "ok")),
                // The connection closes without a word.
                _ => return,
            }
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    assert_eq!(client.get("/").response().status, 200);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response().status, 502);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[test]
fn a_client_that_leaves_cancels_its_stream_and_no_other() {
    let (told, tells) = channel();
    let origin = server(&[], move |server| {
        let Some((first, _)) = server.request() else { return };
        let Some((second, _)) = server.request() else { return };
        let _ = told.send(());
        assert_eq!(server.reset_of(first), Some(CANCEL));
        server.answer(second, "200", "ok");
        server.answer_all("ok");
    });
    let loadx = before(&[&origin]);
    let mut leaving = loadx.client();
    leaving.get("/leaves");
    eventually("the first request is there", || (origin.connections() == 1).then_some(()));
    let staying = ask_at_once(&loadx, 1);
    tells.recv().unwrap();
    leaving.reset();
    drop(leaving);
    staying.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(loadx.get("/").status, 200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn two_thousand_cancelled_requests_leave_the_others_alone() {
    let origin = server(&[], |server| {
        let mut resets = 0;
        // Servers end a connection with more than some hundred cancelled requests.
        while let Some(came) = server.frame() {
            resets += usize::from(came.kind == 3);
            assert!(resets <= 500, "too many cancelled requests on one connection");
            let path = server.so_far(came.stream);
            if path.is_complete && came.kind == 1 && path.asked(":path") == Some("/") {
                server.answer(came.stream, "200", "ok");
            }
        }
    });
    let loadx = before(&[&origin]);
    let mut client = H2Client::connect(loadx.address);
    for round in 0..40 {
        let streams = (0..50).map(|at| 1 + 2 * (round * 51 + at));
        for stream in streams.clone() {
            client.get(stream, "/never");
        }
        client.sync();
        for stream in streams {
            client.send(reset(stream, CANCEL));
        }
        let honest = 1 + 2 * (round * 51 + 50);
        assert_eq!(client.get(honest, "/").response(honest).status(), 200);
    }
    assert!((5..=12).contains(&origin.connections()), "{} connections", origin.connections());
}

#[test]
fn uploads_wait_for_the_window_of_the_backend() {
    let origin = server(&[(WINDOW, 10)], |server| {
        let Some((stream, _)) = server.head() else { return };
        let mut received = 0;
        while received < 1_000 {
            let Some(came) = server.frame() else { return };
            if came.kind == DATA {
                assert!(came.payload.len() <= 10, "more than the window");
                received += came.payload.len();
                server.send(window(stream, came.payload.len() as u32));
            }
        }
        server.answer(stream, "200", "ok");
        while server.frame().is_some() {}
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1_000)));
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_download_that_its_client_does_not_read_holds_no_more_than_its_window() {
    let (told, tells) = channel();
    let origin = server(&[], move |server| {
        let Some((stalled, _)) = server.request() else { return };
        server.send(headers(stalled, false, &[(":status", "200")]));
        // As much as LoadX allows.
        let mut window = 65_535;
        while window > 0 {
            let count = window.min(16_000);
            server.send(data(stalled, &vec![0; count], false));
            window -= count;
        }
        let _ = told.send(());
        server.answer_all("ok");
    });
    let loadx = before(&[&origin]);
    let mut client = H2Client::over(loadx.client(), &[(WINDOW, 0)]);
    client.get(1, "/stalled");
    tells.recv().unwrap();
    // Another exchange of the connection goes on.
    assert_eq!(loadx.get("/").text(), "ok");
    client.send([window(1, 65_535)].concat());
    while client.so_far(1).body.len() < 65_535 {
        client.frame();
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_early_response_ends_the_upload() {
    let origin = server(&[], |server| {
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
    let right = server(&[], |server| server.answer_all("ok"));
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
fn idle_connections_are_closed_with_a_goaway() {
    let (told, tells) = channel();
    let origin = server(&[], move |server| {
        let Some((stream, _)) = server.request() else { return };
        server.answer(stream, "200", "ok");
        while server.frame().is_some() {}
        let _ = told.send(server.goaway());
    });
    let mut config = config(&[&origin], &json!({}));
    config["backend_keepalive_timeout"] = json!(0.1);
    let loadx = LoadX::of(&config);
    assert_eq!(loadx.get("/").status, 200);
    assert_eq!(tells.recv_timeout(Duration::from_secs(20)).unwrap(), Some((0, 0)));
}

#[test]
fn probes_ask_in_http_2() {
    let healthy = Arc::new(AtomicUsize::new(200));
    let status = Arc::clone(&healthy);
    let origin = server(&[], move |server| {
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

#[test]
fn settings_may_change_while_requests_run() {
    let origin = server(&[(WINDOW, 0)], |server| {
        let Some((stream, _)) = server.head() else { return };
        server.send(settings(&[(WINDOW, 100)]));
        while !server.so_far(stream).is_complete {
            if server.frame().is_none() {
                return;
            }
        }
        server.answer(stream, "200", "ok");
        while server.frame().is_some() {}
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response().text(), "ok");
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn web_sockets_reach_backends_as_tunnels() {
    let (told, tells) = channel();
    let origin = server(&[(CONNECT_PROTOCOL, 1)], move |server| {
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
fn a_backend_without_tunnels_gets_no_offer() {
    let origin = server(&[], |server| {
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
    let origin = server(&[(CONNECT_PROTOCOL, 1)], |server| {
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
    let main = server(&[], |server| server.answer_all("ok"));
    let (told, tells) = channel();
    let mirror = server(&[], move |server| {
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
fn a_request_whose_content_comes_late_is_sent_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let refused = Arc::clone(&count);
    let origin = server(&[], move |server| {
        while let Some((stream, _)) = server.head() {
            if refused.fetch_add(1, Ordering::SeqCst) == 0 {
                server.send(reset(stream, REFUSED_STREAM));
                continue;
            }
            while !server.so_far(stream).is_complete {
                if server.frame().is_none() {
                    return;
                }
            }
            let text = server.so_far(stream).text();
            server.answer(stream, "200", &text);
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n");
    eventually("the request is refused, and sent again", || (count.load(Ordering::SeqCst) == 2).then_some(()));
    assert_eq!(client.send("abc").response().text(), "abc");
}

#[test]
fn a_backend_that_opens_no_window_has_limited_time() {
    let origin = server(&[], |server| {
        // Never gives anything of the window of the connection back.
        while let Some((stream, request)) = server.head() {
            if request.asked(":path") == Some("/quick") {
                server.answer(stream, "200", "ok");
            }
        }
    });
    let loadx = LoadX::of(&config(&[&origin], &json!({ "request_timeout": 1 })));
    let mut stalled = loadx.client();
    stalled.send(format!("POST /stalled HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000)));
    eventually("the backend has the request", || (origin.connections() == 1).then_some(()));
    // Another upload does not wait for the window that the first has used up.
    let mut client = loadx.client();
    for _ in 0..3 {
        client.send("POST /quick HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(stalled.response().status, 504);
    eventually("no exchange is left", || (loadx.status()["backends"][0]["active_connections"] == 0).then_some(()));
}

#[test]
fn a_response_need_not_wait_for_the_upload() {
    let origin = server(&[(WINDOW, 0)], |server| {
        while let Some((stream, _)) = server.head() {
            server.answer(stream, "401", "no");
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n{}", "x".repeat(3_000)));
    assert_eq!(client.response().status, 401);
}

#[test]
fn a_backend_that_floods_is_named_in_the_error() {
    let origin = server(&[], |server| {
        let Some(_) = server.request() else { return };
        server.send(frame(PING, 0, 0, b"floods--").repeat(5_000));
        while server.frame().is_some() {}
    });
    let response = before(&[&origin]).get("/");
    assert_eq!(response.status, 502);
    assert!(response.text().contains("too many frames that move nothing"), "{}", response.text());
}
