//! What `loadx bench` sends, and to where.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::tls::{Authority, text};
use crate::support::{LoadX, Origin, Output, loadx};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The folder of a test, and what `loadx bench` did with these options.
fn bench(arguments: &[&str]) -> (Output, Value) {
    let folder = TempDir::new().unwrap();
    let results = folder.path().join("results.json");
    let output = loadx(&[&["bench", "-o", text(&results)], arguments].concat());
    let read = std::fs::read_to_string(&results).unwrap_or_default();
    (output, serde_json::from_str(&read).unwrap_or_default())
}

/// How often the origin got each request line.
fn request_lines(origin: &Origin) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in origin.requests() {
        *counts.entry(request.lines().next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn method_fields_and_content_are_those_of_the_options() {
    let origin = Origin::answering(OK);
    let url = format!("http://{}/", origin.address());
    let arguments = ["-n", "4", "-c", "2", "-H", "X-A: 1", "-H", "host: b.test", "--data", "hello", &url];
    let (output, results) = bench(&arguments);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(results["status_codes"], json!({ "200": 4 }));
    let requests = origin.requests();
    assert_eq!(requests.len(), 4);
    for request in requests {
        assert!(request.starts_with("POST / HTTP/1.1\r\n"), "{request}");
        for line in ["\r\nX-A: 1\r\n", "\r\nhost: b.test\r\n", "\r\nContent-Length: 5\r\n"] {
            assert!(request.contains(line), "{request}");
        }
        assert_eq!(request.matches("ost: ").count(), 1, "{request}");
        assert!(request.ends_with("\r\n\r\nhello"), "{request}");
    }
}

#[test]
fn several_urls_and_a_file_of_requests_are_sent_in_turn() {
    let (first, second) = (Origin::answering(OK), Origin::answering(OK));
    let (one, two) = (format!("http://{}/one", first.address()), format!("http://{}/two", second.address()));
    let (output, _) = bench(&["-n", "10", "-c", "1", &one, &two]);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(request_lines(&first), [("GET /one HTTP/1.1".to_owned(), 5)].into());
    assert_eq!(request_lines(&second), [("GET /two HTTP/1.1".to_owned(), 5)].into());

    let origin = Origin::answering(OK);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("requests");
    let url = format!("http://{}/", origin.address());
    let json = json!({ "method": "put", "url": "/json", "headers": { "X-B": "2" }, "body": "text" });
    std::fs::write(&file, format!("# requests\n/plain\n\nDELETE /item\n{json}\n{url}whole\n")).unwrap();
    let (output, _) = bench(&["-n", "8", "-c", "1", "--requests-file", text(&file), &url]);
    assert_eq!(output.code, Some(0), "{output:?}");
    let lines = ["GET /plain", "DELETE /item", "PUT /json", "GET /whole"];
    assert_eq!(request_lines(&origin), lines.map(|line| (format!("{line} HTTP/1.1"), 2)).into());
    let put = origin.requests().into_iter().find(|request| request.starts_with("PUT")).unwrap();
    assert!(put.contains("\r\nX-B: 2\r\n") && put.ends_with("\r\n\r\ntext"), "{put}");
}

#[test]
fn faulty_requests_are_explained_and_nothing_is_sent() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("requests");
    for (content, fault) in [
        ("", "has no requests"),
        ("/a\nGET a b\n", "requests:2: "),
        ("{\"url\": \"/\", \"what\": 1}\n", "unknown field `what`"),
        ("CONNECT /\n", "is no method"),
        ("{\"url\": \"/\", \"headers\": {\"A\\nB\": \"1\"}}\n", "is no field"),
    ] {
        std::fs::write(&file, content).unwrap();
        let output = loadx(&["bench", "--requests-file", text(&file)]);
        assert_eq!(output.code, Some(2), "{output:?}");
        assert!(output.stderr.contains(fault) && output.stderr.contains("help: "), "{}", output.stderr);
    }
    for arguments in [
        ["-H", "no colon"],
        ["-H", "Transfer-Encoding: chunked"],
        ["-H", "Content-Length: 3"],
        ["--find-max", "p99"],
        ["--ca", "/nowhere"],
    ] {
        let output = loadx(&[&["bench", "https://localhost:1/"], &arguments[..]].concat());
        assert_eq!(output.code, Some(2), "{output:?}");
    }
}

#[test]
fn a_unix_socket_can_be_the_server() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut bytes = [0; 4_096];
                while let Ok(1..) = stream.read(&mut bytes) {
                    stream.write_all(OK.as_bytes()).unwrap();
                }
            });
        }
    });
    let (output, results) = bench(&["-n", "6", "-c", "2", "--unix", text(&socket), "http://name.test/"]);
    assert_eq!((output.code, &results["successful"]), (Some(0), &json!(6)), "{output:?}");
}

/// A LoadX with TLS and HTTP/2.
fn site(origin: &Origin) -> (LoadX, Authority) {
    let authority = Authority::new();
    let files = authority.issue("site", &["localhost"]);
    let tls = json!({ "certificate": text(&files.certificate), "key": text(&files.key) });
    let loadx = LoadX::of(&json!({
        "listeners": [{ "name": "plain", "address": "127.0.0.1:0" }, { "name": "tls", "address": "127.0.0.1:0", "tls": tls }],
        "clusters": { "web": { "backends": [origin.address().to_string()], "health": { "probe": "off" } } },
    }));
    (loadx, authority)
}

#[test]
fn tls_is_checked_and_http2_shares_connections() {
    let origin = Origin::answering(OK);
    let (loadx, authority) = site(&origin);
    let url = format!("https://localhost:{}/", loadx.addresses()[1].port());
    let ca = authority.ca_path();
    let (output, results) = bench(&["-n", "3", "-c", "1", &url]);
    assert_eq!((output.code, &results["failed"]), (Some(1), &json!(3)), "{output:?}");
    assert!(output.stdout.contains("invalid peer certificate"), "{output:?}");
    for trust in [&["--insecure"][..], &["--ca", text(&ca)]] {
        let (output, results) = bench(&[&["-n", "5", "-c", "2", &url], trust].concat());
        assert_eq!((output.code, &results["successful"]), (Some(0), &json!(5)), "{output:?}");
    }
    let before = loadx.metrics()["http2"]["connections"].clone();
    let upload = ["-n", "40", "-c", "8", "--http2", "--streams", "4", "--data", "hello", "--ca", text(&ca), &url];
    let (output, results) = bench(&upload);
    assert_eq!((output.code, &results["successful"]), (Some(0), &json!(40)), "{output:?}");
    let after = &loadx.metrics()["http2"]["connections"];
    assert_eq!(after.as_u64().unwrap() - before.as_u64().unwrap(), 2, "8 at the same time, 4 on each connection");
    assert!(origin.requests().iter().filter(|request| request.ends_with("hello")).count() == 40);
}

#[test]
fn http2_without_tls_begins_with_http2() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let url = format!("http://{}/", loadx.address);
    let (output, results) = bench(&["-n", "20", "-c", "4", "--http2", &url]);
    assert_eq!((output.code, &results["status_codes"]), (Some(0), &json!({ "200": 20 })), "{output:?}");
    assert_eq!(loadx.metrics()["http2"]["requests"], 20);
}

#[test]
fn each_request_can_have_a_connection_of_its_own() {
    let origin = Origin::start(|connection| {
        let request = connection.request();
        assert!(request.is_none_or(|request| request.contains("\r\nConnection: close\r\n")));
        connection.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    });
    let url = format!("http://{}/", origin.address());
    let (output, results) = bench(&["-n", "5", "-c", "2", "--no-keep-alive", &url]);
    assert_eq!((output.code, &results["successful"]), (Some(0), &json!(5)), "{output:?}");
    assert_eq!(origin.connections(), 5);
}

#[test]
fn head_has_no_content() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n");
    let (output, results) = bench(&["-n", "4", "-c", "1", "-X", "head", &format!("http://{}/", origin.address())]);
    assert_eq!((output.code, &results["successful"]), (Some(0), &json!(4)), "{output:?}");
}

#[test]
fn a_response_over_http2_that_breaks_off_is_a_failure_and_not_sent_again() {
    // Each connection serves one request whole, and of the second one only a part.
    let backend = crate::support::h2::backend(&[], |connection| {
        let Some((stream, _)) = connection.request() else { return };
        connection.answer(stream, "200", "whole");
        let Some((stream, _)) = connection.request() else { return };
        connection.send(crate::support::h2::headers(stream, false, &[(":status", "200"), ("content-length", "9")]));
        connection.send(crate::support::h2::data(stream, b"part", false));
    });
    let url = format!("http://{}/", backend.address());
    let (output, results) = bench(&["-n", "4", "-c", "1", "--http2", "-X", "POST", &url]);
    assert_eq!(
        (output.code, &results["failed"], &results["reconnects"]),
        (Some(1), &json!(2), &json!(0)),
        "{output:?}"
    );
}
