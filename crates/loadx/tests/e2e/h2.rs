//! Clients of HTTP/2.

use serde_json::json;

use crate::h2_cases::{Then, cases};
use crate::support::h2::code::{CANCEL, INTERNAL_ERROR, NO_ERROR, PROTOCOL_ERROR};
use crate::support::h2::{
    DATA, END_HEADERS, END_STREAM, GET, H2Client, HEADERS, POST, PREFACE, RST_STREAM, data, frame, headers, reset,
    window,
};
use crate::support::tls::{Authority, text};
use crate::support::{Client, LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn each_case_meets_its_rule() {
    let (origin, _open) = Origin::with_slow_path();
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut neighbour = client_of(&loadx);
    for (at, (name, frames, then)) in cases().into_iter().enumerate() {
        let before = origin.requests().len();
        let mut client = client_of(&loadx);
        // LoadX is lenient before the client has acknowledged its settings.
        client.sync();
        // LoadX may have closed the connection before the last bytes.
        client.client.try_send(&frames);
        let told = loop {
            let so_far = client.so_far(1);
            match (client.goaway(), so_far.reset) {
                (Some((_, code)), _) => break Then::Goaway(code),
                (_, Some(code)) if !so_far.is_complete => break Then::Reset(code),
                _ if so_far.is_complete => break Then::Status(so_far.status()),
                _ => drop(client.try_frame().unwrap_or_else(|error| panic!("{name}: {error}"))),
            }
        };
        assert_eq!(told, then, "{name}");
        match then {
            Then::Goaway(code) => assert_eq!(client.end(), Some(code), "{name}"),
            // The connection goes on.
            _ => assert_eq!(client.get(1_001, "/").response(1_001).status(), 200, "{name}"),
        }
        if matches!(then, Then::Status(400..)) {
            assert_eq!(origin.requests().len(), before + 1, "{name}");
        }
        assert_eq!(neighbour.get(1 + 2 * at as u32, "/").response(1 + 2 * at as u32).status(), 200, "{name}");
    }
}

fn client_of(loadx: &LoadX) -> H2Client {
    H2Client::connect(loadx.address)
}

#[test]
fn a_request_reaches_the_backend_as_in_http_1() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nServer: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    let loadx = LoadX::with(&[origin.address()], &json!({ "via": "lx", "log_file": "LOG" }));
    let mut client = client_of(&loadx);
    let fields = [&GET[..], &[("user-agent", "t"), ("cookie", "a=1"), ("cookie", "b=2"), ("x-empty", "")]].concat();
    let response = client.send(headers(1, true, &fields)).response(1);
    assert_eq!((response.status(), response.text()), (200, "ok".to_owned()));
    assert_eq!((response.field("server"), response.field("connection")), (Some("x"), None));
    assert_eq!((response.field("content-length"), response.field("via")), (Some("2"), Some("1.1 lx")));
    assert!(response.field("date").is_some() && response.field("x-request-id").is_some());
    let request = origin.requests().pop().unwrap();
    let came: Vec<&str> = request.lines().filter(|line| !line.starts_with("X-")).collect();
    assert_eq!(
        came,
        ["GET / HTTP/1.1", "host: test", "user-agent: t", "x-empty: ", "cookie: a=1; b=2", "Via: 2.0 lx", ""]
    );
    assert!(request.contains("X-Forwarded-For: 127.0.0.1\r\n") && request.contains("X-Forwarded-Proto: http\r\n"));
    eventually("the line of the log", || loadx.access_log().contains("\"GET /\" 200 2B").then_some(()));
}

#[test]
fn tls_and_its_alpn_lead_to_http_2() {
    let origin = Origin::answering(OK);
    let authority = Authority::new();
    let files = authority.issue("own", &["test"]);
    let tls = json!({ "certificate": text(&files.certificate), "key": text(&files.key) });
    let loadx = LoadX::with(&[origin.address()], &json!({ "tls": tls }));
    let connect = |protocols: &[&[u8]]| {
        let mut config = authority.client_config();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        crate::support::tls::connect(loadx.address, "test", &std::sync::Arc::new(config)).unwrap()
    };
    let client = connect(&[b"http/1.1", b"h2"]);
    assert_eq!(client.tls().alpn_protocol(), Some(&b"h2"[..]), "the better one of both");
    let mut client = H2Client::over(client, &[]);
    let fields = [GET[0], (":scheme", "https"), GET[2], GET[3]];
    assert_eq!(client.send(headers(1, true, &fields)).response(1).text(), "ok");
    assert!(origin.requests().pop().unwrap().contains("X-Forwarded-Proto: https\r\n"));
    let other = [GET[0], (":scheme", "https"), (":authority", "other"), GET[3]];
    assert_eq!(client.send(headers(3, true, &other)).response(3).status(), 421, "a host without a certificate");
    let mut client = connect(&[b"http/1.1"]);
    assert_eq!(client.get("/").response().text(), "ok");
    // Without ALPN, TLS has HTTP/1.1.
    assert_eq!(connect(&[]).send(PREFACE).response().status, 505);
}

#[test]
fn content_and_trailers_pass_in_both_directions() {
    let origin = Origin::start(|connection| {
        let head = connection.head().unwrap();
        assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
        let mut body = String::new();
        while !body.ends_with("\r\n\r\n") {
            body.push_str(&String::from_utf8(connection.some().unwrap()).unwrap());
        }
        assert_eq!(
            body.replace("6\r\nabcdef\r\n", "3\r\nabc\r\n3\r\ndef\r\n"),
            "3\r\nabc\r\n3\r\ndef\r\n0\r\nx-sum: 7\r\n\r\n"
        );
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nghi\r\n");
        connection.send("0\r\nX-Sum: 9\r\nContent-Length: 5\r\n\r\n");
    });
    let loadx = LoadX::before(&[origin.address()]);
    let mut client = client_of(&loadx);
    let fields = [&POST[..], &[("te", "trailers")]].concat();
    client.send(headers(1, false, &fields)).sync();
    client.send(data(1, b"abc", false)).sync();
    client.send([frame(DATA, 0x8, 1, b"\x02def\0\0"), headers(1, true, &[("x-sum", "7"), ("host", "z")])].concat());
    let response = client.response(1);
    assert_eq!((response.status(), response.text()), (200, "ghi".to_owned()));
    assert_eq!((response.field("transfer-encoding"), response.trailer("x-sum")), (None, Some("9")));
    assert_eq!(response.trailer("content-length"), None);
}

#[test]
fn large_bodies_pass_under_small_windows() {
    const SIZE: usize = 1_000_000;
    let origin = Origin::start(|connection| {
        while let Some(head) = connection.head() {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let body = connection.take(length.unwrap().parse().unwrap()).unwrap();
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            connection.send(body);
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let mut client = H2Client::over(Client::connect(loadx.address), &[(4, 1_000)]);
    let body: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    let fields = [&POST[..], &[("content-length", "1000000")]].concat();
    client.send(headers(1, false, &fields));
    let (mut rest, mut stream_window, mut connection_window) = (&body[..], 65_535, 65_535);
    while !rest.is_empty() {
        let most = 16_384.min(stream_window).min(connection_window);
        let (piece, after) = rest.split_at(rest.len().min(most));
        if !piece.is_empty() {
            client.send(data(1, piece, after.is_empty()));
            rest = after;
            stream_window -= piece.len();
            connection_window -= piece.len();
            continue;
        }
        let came = client.until(|came| came.kind == crate::support::h2::WINDOW_UPDATE);
        let increment = u32::from_be_bytes(came.payload.try_into().unwrap()) as usize;
        if came.stream == 0 { connection_window += increment } else { stream_window += increment }
    }
    let response = client.response(1);
    assert!(response.body == body, "{} bytes", response.body.len());
}

#[test]
fn a_hundred_streams_share_a_connection_and_a_stalled_one_stalls_no_other() {
    let origin = Origin::start(|connection| {
        while let Some(request) = connection.request() {
            let length = if request.starts_with("GET /large") { 300_000 } else { 2 };
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length)));
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = client_of(&loadx);
    client.send(window(0, 10_000_000)).get(1, "/large").until(|came| came.kind == DATA);
    for round in 0..5 {
        let streams: Vec<u32> = (0..99).map(|at| 3 + 2 * (99 * round + at)).collect();
        let requests: Vec<u8> = streams.iter().flat_map(|stream| headers(*stream, true, &GET)).collect();
        client.send(requests);
        for stream in streams {
            while !client.so_far(stream).is_complete {
                client.frame();
            }
            assert_eq!(client.so_far(stream).text(), "xx");
        }
    }
    assert_eq!(client.so_far(1).body.len(), 65_535, "the window of the stream, and no more");
    client.send(window(1, 1_000_000));
    while !client.so_far(1).is_complete {
        client.frame();
    }
    assert_eq!(client.so_far(1).body.len(), 300_000);
}

#[test]
fn heads_without_content_and_interim_responses() {
    let origin = Origin::start(|connection| {
        while let Some(request) = connection.request() {
            connection.send(match request.split(' ').next().unwrap() {
                "HEAD" => "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
                "PUT" => "HTTP/1.1 204 No Content\r\n\r\n",
                _ => "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            });
        }
    });
    let loadx = LoadX::before(&[origin.address()]);
    let mut client = client_of(&loadx);
    let with = |method| [(":method", method), GET[1], GET[2], GET[3]];
    let response = client.send(headers(1, true, &with("HEAD"))).response(1);
    assert_eq!((response.status(), response.field("content-length"), response.text()), (200, Some("500"), "".into()));
    assert_eq!(client.send(headers(3, true, &with("PUT"))).response(3).status(), 204);
    let response = client.send(headers(5, true, &GET)).response(5);
    assert_eq!((response.status(), response.field("etag")), (304, Some("\"x\"")));
    assert_eq!(response.sections[0], [(":status".into(), "103".into()), ("link".to_owned(), "</a>".to_owned())]);
    // A response of LoadX's own to a HEAD.
    let own = [("HEAD", 1), ("GET", 0)].map(|(method, _)| [with(method)[0], GET[1], GET[2], (":path", "/__health__")]);
    let (head, get) =
        (client.send(headers(7, true, &own[0])).response(7), client.send(headers(9, true, &own[1])).response(9));
    assert_eq!((head.status(), head.text().len()), (200, 0));
    assert_eq!(get.field("content-length"), Some(get.body.len().to_string().as_str()));
}

#[test]
fn a_cancelled_request_leaves_the_backend_and_the_connection_goes_on() {
    let (origin, open) = Origin::with_slow_path();
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1, "log_file": "LOG" }));
    let mut client = client_of(&loadx);
    client.get(1, "/slow");
    eventually("the request has come", || (origin.requests().len() == 1).then_some(()));
    client.send(reset(1, CANCEL));
    eventually("the line of the log", || loadx.access_log().contains("\"GET /slow\" 499").then_some(()));
    assert_eq!(client.get(3, "/").response(3).status(), 200);
    assert!(client.so_far(1).sections.is_empty());
    drop(open);
    // A stream that is reset in the same packet never reaches a backend.
    let before = origin.requests().len();
    client.send([headers(5, true, &GET), reset(5, CANCEL)].concat()).sync();
    assert_eq!(client.get(7, "/").response(7).status(), 200);
    assert_eq!(origin.requests().len(), before + 1);
}

#[test]
fn an_early_response_ends_the_upload_without_a_fault() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "max_body_size": 10 }));
    let mut client = client_of(&loadx);
    let response = client.send([headers(1, false, &POST), data(1, &[b'x'; 11], false)].concat()).response(1);
    assert_eq!(response.status(), 413);
    let came = client.until(|came| came.kind == RST_STREAM);
    assert_eq!((came.stream, came.payload), (1, NO_ERROR.to_be_bytes().to_vec()));
    client.send([data(1, b"late", false), data(1, b"", true)].concat());
    assert_eq!(client.get(3, "/").response(3).text(), "ok");
}

#[test]
fn a_truncated_response_ends_with_a_reset() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
    });
    let loadx = LoadX::before(&[origin.address()]);
    let mut client = client_of(&loadx);
    let response = client.get(1, "/").response(1);
    assert_eq!((response.status(), response.text().as_str()), (200, "part"));
    assert_eq!((response.is_complete, response.reset), (false, Some(INTERNAL_ERROR)));
    assert_eq!(client.get(3, "/__health__").response(3).field("content-type"), Some("application/json"));
}

#[test]
fn what_http_1_refuses_is_answered_and_what_http_2_forbids_is_reset() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": "LOG" }));
    let mut client = client_of(&loadx);
    let long = format!("/{}", "x".repeat(17_000));
    let large = "y".repeat(9_000);
    let mut stream = 1;
    let many: Vec<(&str, &str)> = vec![("a", "b"); 101];
    for (status, fields) in [
        (501, vec![("x", "y"); 0]),
        (414, vec![(":path", &*long)]),
        (431, vec![("a", &*large), ("b", &large), ("c", &large), ("d", &large), ("e", &large)]),
        (431, many),
        (400, vec![("max-forwards", "x")]),
        (400, vec![(":authority", "a/b")]),
    ] {
        let method = match status {
            501 => "TRACE",
            _ if fields[0].0 == "max-forwards" => "OPTIONS",
            _ => "GET",
        };
        let mut all = vec![(":method", method), GET[1]];
        for (name, value) in [GET[2], GET[3]] {
            all.push((name, fields.iter().find(|(other, _)| *other == name).map_or(value, |(_, value)| value)));
        }
        all.extend(fields.iter().filter(|(name, _)| !name.starts_with(':')));
        let fields = all.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let section = fluke_hpack::Encoder::new().encode(fields);
        let mut bytes = Vec::new();
        let pieces: Vec<&[u8]> = section.chunks(16_000).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let is_last = if at + 1 == pieces.len() { END_HEADERS } else { 0 };
            bytes.extend(match at {
                0 => frame(HEADERS, END_STREAM | is_last, stream, piece),
                _ => frame(9, is_last, stream, piece),
            });
        }
        let response = client.send(bytes).response(stream);
        assert_eq!(response.reset.filter(|code| *code != NO_ERROR), None, "{method} {}", all.len());
        assert_eq!(response.status(), status, "{method} {}", all.len());
        assert!(response.text().contains("request_id"));
        stream += 2;
    }
    for fields in [&GET[..3], &[GET[0], GET[1], GET[2], GET[3], ("connection", "close")]] {
        let response = client.send(headers(stream, true, fields)).response(stream);
        assert_eq!((response.sections.len(), response.reset), (0, Some(PROTOCOL_ERROR)));
        stream += 2;
    }
    assert_eq!(origin.requests().len(), 0);
    assert_eq!(client.get(stream, "/").response(stream).text(), "ok");
    eventually("each has a line", || (loadx.access_log().lines().count() == 9).then_some(()));
}

#[test]
fn web_sockets_come_over_streams() {
    let origin = Origin::start(|connection| {
        let request = connection.head().unwrap();
        if request.starts_with("GET /refused") {
            return connection.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        }
        if request.starts_with("GET /deaf") {
            return connection.send(OK);
        }
        let lower = request.to_ascii_lowercase();
        assert!(
            lower.contains("\r\nconnection: upgrade\r\n") && lower.contains("\r\nupgrade: websocket\r\n"),
            "{request}"
        );
        let keys: Vec<&str> = lower.lines().filter_map(|line| line.strip_prefix("sec-websocket-key: ")).collect();
        assert!(keys.len() == 1 && keys[0].len() == 24, "{request}");
        connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n");
        connection.send("Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n");
        while let Some(bytes) = connection.some() {
            connection.send(bytes);
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": "LOG" }));
    let mut client = client_of(&loadx);
    let connect = |path, protocol| {
        [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "http"),
            (":authority", "test"),
            (":path", path),
            ("sec-websocket-version", "13"),
        ]
    };
    client.send(headers(1, false, &connect("/chat", "websocket"))).until(|came| came.kind == HEADERS);
    let so_far = client.so_far(1);
    let expected = [(":status", "200"), ("sec-websocket-protocol", "chat")];
    for (name, value) in expected {
        assert!(so_far.sections[0].contains(&(name.to_owned(), value.to_owned())), "{so_far:?}");
    }
    assert!(
        !so_far.sections[0]
            .iter()
            .any(|(name, _)| ["upgrade", "connection", "sec-websocket-accept"].contains(&&**name))
    );
    client.send(data(1, b"hello", false)).until(|came| came.kind == DATA);
    client.send(data(1, b" again", true));
    assert_eq!(client.response(1).text(), "hello again");
    assert_eq!(client.send(headers(3, false, &connect("/refused", "websocket"))).response(3).status(), 403);
    // A 2xx would tell the client that the tunnel is open.
    assert_eq!(client.send(headers(5, false, &connect("/deaf", "websocket"))).response(5).status(), 502);
    assert_eq!(client.send(headers(7, false, &connect("/", "h2c"))).response(7).status(), 501);
    let plain = [(":method", "CONNECT"), (":authority", "test:80")];
    assert_eq!(client.send(headers(9, false, &plain)).response(9).status(), 501);
    // LoadX itself opens no tunnel either.
    let own = client.send(headers(11, false, &connect("/__health__", "websocket"))).response(11);
    assert_eq!(own.status(), 501);
    assert!(own.text().contains(own.field("x-request-id").unwrap()), "{}", own.text());
    let with_key = [&connect("/chat", "websocket")[..], &[("sec-websocket-key", "own")]].concat();
    client.send(headers(13, false, &with_key)).until(|came| came.kind == HEADERS);
    eventually("the lines of the log", || {
        let log = loadx.access_log();
        (log.contains("\"GET /chat\" 101") && log.contains("\"GET /deaf\" 502")).then_some(())
    });
}

#[test]
fn a_listener_can_do_without_http_2() {
    let origin = Origin::answering(OK);
    let authority = Authority::new();
    let files = authority.issue("own", &["test"]);
    let tls = json!({ "certificate": text(&files.certificate), "key": text(&files.key) });
    let loadx = LoadX::of(&json!({
        "listeners": [
            { "address": "127.0.0.1:0", "http2": false },
            { "name": "s", "address": "127.0.0.1:0", "tls": tls, "http2": false },
        ],
        "backend_servers": [{ "host": "127.0.0.1", "port": origin.address().port() }],
    }));
    let addresses = loadx.addresses();
    assert_eq!(Client::connect(addresses[0]).send(PREFACE).response().status, 505);
    let mut config = authority.client_config();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client = crate::support::tls::connect(addresses[1], "test", &std::sync::Arc::new(config)).unwrap();
    assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn the_log_and_the_metrics_tell_the_version() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": "LOG", "log_fields": ["protocol"] }));
    let mut client = client_of(&loadx);
    assert_eq!(client.get(1, "/").response(1).status(), 200);
    client.send([headers(3, true, &GET), reset(3, CANCEL), headers(5, true, &GET[..2])].concat());
    assert_eq!(client.response(5).reset, Some(PROTOCOL_ERROR));
    loadx.get("/");
    eventually("the lines of the log", || {
        let log = loadx.access_log();
        ["2.0", "1.1"].iter().all(|version| log.contains(&format!(" protocol=\"HTTP/{version}\""))).then_some(())
    });
    client.client.try_send(&headers(2, true, &GET));
    assert_eq!(client.end(), Some(PROTOCOL_ERROR));
    let http2 = loadx.metrics()["http2"].clone();
    assert_eq!((&http2["connections"], &http2["requests"], &http2["resets"]), (&json!(1), &json!(2), &json!(1)));
    assert_eq!(http2["stream_faults"], json!({ "PROTOCOL_ERROR": 1 }));
    assert_eq!(http2["connection_faults"], json!({ "PROTOCOL_ERROR": 1 }));
}

#[test]
fn a_refused_request_logs_none_of_its_fields_as_its_first_line() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": "LOG" }));
    let mut client = client_of(&loadx);
    let fields = [GET[0], GET[1], (":authority", "a b"), GET[3], ("authorization", "Bearer secret")];
    assert_eq!(client.send(headers(1, true, &fields)).response(1).reset, Some(PROTOCOL_ERROR));
    eventually("the request is logged", || loadx.access_log().contains(" 400 ").then_some(()));
    assert!(!loadx.access_log().contains("secret"), "{}", loadx.access_log());
}

#[test]
fn heads_on_closed_streams_cost_credit() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({}));
    let mut client = client_of(&loadx);
    client.sync();
    client.send([headers(1, true, &GET), window(1, 0)].concat());
    client.client.try_send(&headers(1, true, &GET).repeat(5_000));
    assert_eq!(client.end(), Some(11), "ENHANCE_YOUR_CALM");
}
