//! Bodies: LoadX streams them, needs little memory, and never ends a truncated body as if it were complete.

use serde_json::json;

use crate::support::{Connection, LoadX, Origin, TestBackend, eventually};

#[test]
fn large_bodies_pass_through_in_little_memory() {
    let backend = TestBackend::start("backend-1");
    let loadx = LoadX::with(&[backend.address], &json!({ "workers": 1 }));
    loadx.get("/");
    let before = loadx.peak_memory_kib();
    let mebibytes = 256;
    let response = loadx.bench(1, 1, &format!("/bytes/{}", mebibytes << 20)).results();
    assert_eq!(response["content_bytes"], mebibytes << 20);
    let mut client = loadx.client();
    client.send(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", mebibytes << 20));
    let piece = vec![b'y'; 1 << 20];
    for _ in 0..mebibytes {
        client.send(&piece);
    }
    assert_eq!(client.response().json()["body_bytes"], mebibytes << 20);
    let grown = loadx.peak_memory_kib() - before;
    assert!(grown < 2_048, "512 MiB passed through, and memory grew by {grown} KiB");
}

/// Bytes without repetition, so that lost, doubled or moved bytes are detected.
fn pattern(count: usize) -> Vec<u8> {
    (0..count as u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()).take(count).collect()
}

fn chunks(content: &[u8], size: usize) -> Vec<u8> {
    let chunk = |piece: &[u8]| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    [content.chunks(size).flat_map(chunk).collect(), b"0\r\n\r\n".to_vec()].concat()
}

#[test]
fn bodies_through_pipes_arrive_byte_for_byte() {
    let content = pattern(3_000_000);
    let length = format!("Content-Length: {}\r\n\r\n", content.len());
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let (large, mixed) = (chunks(&content, 500_000), chunks(&content, 70_001));
    let framings = [
        ("length", [length.as_bytes(), &content].concat()),
        ("large chunks", [chunked.as_bytes(), &large].concat()),
        ("smaller chunks", [chunked.as_bytes(), &mixed].concat()),
    ];
    for (name, message) in &framings {
        let response = [b"HTTP/1.1 200 OK\r\n", message.as_slice()].concat();
        let origin = Origin::start(move |connection| {
            while connection.head().is_some() {
                connection.send(&response);
            }
        });
        let loadx = LoadX::before(&[origin.address()]);
        let mut client = loadx.client();
        for _ in 0..3 {
            assert!(client.get("/").response().body == content, "a response in {name}");
        }
        assert_eq!(origin.connections(), 1, "in {name} the backend's connection stays of use");
    }
    for (name, message) in &framings {
        let expected = message[message.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4..].to_vec();
        let is_length = *name == "length";
        let wanted = content.clone();
        let origin = Origin::start(move |connection| {
            while connection.head().is_some() {
                // The sizes of the chunks do not matter; their content does.
                let arrived = if is_length { connection.take(expected.len()) } else { unchunked(connection) };
                let whole = arrived.as_deref() == Some(&wanted);
                connection.send(format!("HTTP/1.1 {} X\r\nContent-Length: 0\r\n\r\n", if whole { 200 } else { 500 }));
            }
        });
        let loadx = LoadX::before(&[origin.address()]);
        let mut client = loadx.client();
        for _ in 0..3 {
            let request = [b"PUT / HTTP/1.1\r\nHost: a\r\n", message.as_slice()].concat();
            assert_eq!(client.send(request).response().status, 200, "an upload in {name}");
        }
    }
    let ending = content.clone();
    let origin = Origin::start(move |connection| {
        connection.head();
        connection.send("HTTP/1.1 200 OK\r\n\r\n");
        connection.send(&ending);
        connection.end();
    });
    let loadx = LoadX::before(&[origin.address()]);
    assert!(loadx.get("/").body == content, "a response up to the end of its connection");
}

/// The content of a chunked body.
fn unchunked(connection: &mut Connection) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let line = connection.line()?;
        let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
        content.extend(connection.take(size)?);
        connection.line()?;
        if size == 0 {
            return Some(content);
        }
    }
}

#[test]
fn a_body_that_ends_with_its_connection_is_forwarded_in_chunks() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\n\r\nuntil the end");
        connection.end();
    });
    let loadx = LoadX::before(&[origin.address()]);
    let mut client = loadx.client();
    let response = client.get("/").response();
    assert_eq!((response.text().as_str(), response.field("transfer-encoding")), ("until the end", Some("chunked")));
    assert_eq!(client.get("/").response().status, 200, "the client's connection goes on");
}

#[test]
fn a_truncated_body_never_looks_complete() {
    for (name, response) in [
        ("length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"),
        ("chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"),
        ("bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nxyz\r\n"),
    ] {
        let origin = Origin::start(move |connection| {
            connection.request();
            connection.send(response);
        });
        let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": "LOG" }));
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let mut client = loadx.client();
            let broken = client.send(format!("GET / {version}\r\nHost: a\r\n\r\n")).try_response();
            // A fault that LoadX finds before it has sent a byte gives a 502.
            let told = broken.as_ref().is_ok_and(|response| response.status == 502);
            assert!(broken.is_err() || told, "{name}, {version}: {broken:?}");
        }
        assert_eq!(loadx.metrics()["total_errors"], 2, "{name}");
    }
}

#[test]
fn the_bench_does_not_hide_broken_bodies() {
    let origin = Origin::start(|connection| {
        let mut served = 0;
        while connection.request().is_some() {
            served += 1;
            if served == 3 {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
                return;
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let results = loadx.bench(30, 1, "/").results();
    assert_eq!(results["failed"], 10, "{results}");
    assert_eq!(loadx.metrics()["total_errors"], 10);
}

#[test]
fn bytes_after_a_response_do_not_reach_the_client() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        while connection.request().is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = loadx.client();
    for _ in 0..5 {
        assert_eq!(client.get("/").response().text(), "ok");
    }
    assert_eq!(origin.connections(), 5, "each was closed instead of kept");
}

#[test]
fn a_response_before_the_end_of_the_upload_arrives() {
    let origin = Origin::start(|connection| {
        connection.head();
        connection.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!");
        // The origin reads nothing of the body, and closes the connection.
    });
    let loadx = LoadX::before(&[origin.address()]);
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    let piece = [b'x'; 10_000];
    for _ in 0..20 {
        if !client.try_send(&piece) {
            break;
        }
    }
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (413, "no!"));
    assert_eq!(response.field("connection"), Some("close"));
}

#[test]
fn a_client_that_closes_during_an_upload_closes_the_backend_connection() {
    let origin = Origin::start(|connection| {
        connection.head();
        let whole = connection.take(1_000);
        assert!(whole.is_none(), "the body must not look whole");
    });
    let loadx = LoadX::before(&[origin.address()]);
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\npart");
    eventually("the request is under way", || (origin.connections() == 1).then_some(()));
    drop(client);
    eventually("the abort is counted as the client's", || (loadx.metrics()["client_aborts"] == 1).then_some(()));
    let status = loadx.status();
    assert_eq!(status["backends"][0]["active_connections"], 0);
    assert_eq!(loadx.metrics()["total_errors"], 0);
}
