//! TLS to backends. Most backends here are other LoadX with TLS.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::support::tls::{Authority, Files, text};
use crate::support::{Client, LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A LoadX with TLS, in front of an origin.
fn backend(origin: &Origin, files: &Files, more: &Value) -> LoadX {
    let mut tls = json!({ "certificate": text(&files.certificate), "key": text(&files.key) });
    tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    LoadX::with(&[origin.address()], &json!({ "tls": tls, "workers": 1 }))
}

/// A LoadX that speaks TLS with these backends.
fn front(backends: &[String], tls: &Value) -> LoadX {
    LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "workers": 1,
        "clusters": { "web": { "backends": backends, "tls": tls, "health": { "interval": 0.2, "timeout": 5 } } },
    }))
}

fn metrics_of(backend: &LoadX, authority: &Authority) -> Value {
    let mut client = authority.connect(backend.address, "localhost");
    client.send("GET /__metrics__ HTTP/1.1\r\nHost: localhost\r\n\r\n").response().json()
}

#[test]
fn requests_pass_to_backends_with_tls_on_connections_that_stay_open() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let back = backend(&origin, &authority.issue("back", &["127.0.0.1", "localhost"]), &json!({}));
    let front = front(&[back.address.to_string()], &json!({ "ca": text(&authority.ca_path()) }));
    let mut client = Client::connect(front.address);
    for _ in 0..50 {
        assert_eq!(client.get("/").response().status, 200);
    }
    let handshakes = metrics_of(&back, &authority)["tls_handshakes"]["succeeded"]["TLSv1.3"].clone();
    let count = |kind: &str| handshakes[kind].as_u64().unwrap_or(0);
    // One for the metrics, some for probes, and a few for 50 requests.
    assert!(count("full") + count("resumed") < 25, "{handshakes}");
    eventually("a probe resumes its session", || {
        let succeeded = &metrics_of(&back, &authority)["tls_handshakes"]["succeeded"];
        (succeeded["TLSv1.3"]["resumed"].as_u64() >= Some(1)).then_some(())
    });
}

#[test]
fn the_certificate_of_a_backend_is_verified() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let origin = Origin::answering(OK);
    let of_other_name = backend(&origin, &authority.issue("other", &["other.test"]), &json!({}));
    let of_stranger = backend(&origin, &stranger.issue("back", &["127.0.0.1"]), &json!({}));
    let ca = json!({ "ca": text(&authority.ca_path()) });
    for (back, told) in [(&of_other_name, "not valid for name"), (&of_stranger, "BadSignature")] {
        let front = front(&[back.address.to_string()], &ca);
        eventually("the backend is ejected", || front.status().to_string().contains(told).then_some(()));
        let response = Client::connect(front.address).get("/").response();
        assert!([502, 503].contains(&response.status), "{}", response.head);
        // The names in certificates are no matter of clients.
        assert!(!response.text().contains("other.test"), "{}", response.text());
    }
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    // The config may name the name of the certificate, or wave the check.
    let named = front(
        &[of_other_name.address.to_string()],
        &json!({ "ca": text(&authority.ca_path()), "server_name": "other.test" }),
    );
    let mut client = Client::connect(named.address);
    client.send("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let insecure = front(&[of_stranger.address.to_string()], &json!({ "insecure": true }));
    assert_eq!(Client::connect(insecure.address).get("/").response().status, 200);
    assert!(insecure.log().contains("takes any certificate"), "{}", insecure.log());
}

#[test]
fn loadx_shows_its_certificate_to_backends() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let required = json!({ "client_certificates": { "ca": text(&authority.ca_path()) } });
    let back = backend(&origin, &authority.issue("back", &["127.0.0.1"]), &required);
    let own = authority.issue("front", &["front.test"]);
    let mut tls = json!({ "ca": text(&authority.ca_path()) });
    let without = front(&[back.address.to_string()], &tls);
    let response = Client::connect(without.address).get("/").response();
    assert!([502, 503].contains(&response.status), "{}", response.head);
    tls["certificate"] = text(&own.certificate).into();
    tls["key"] = text(&own.key).into();
    let with = front(&[back.address.to_string()], &tls);
    assert_eq!(Client::connect(with.address).get("/").response().status, 200);
}

#[test]
fn a_reload_changes_the_transport_without_a_failed_request() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let back = backend(&origin, &authority.issue("back", &["127.0.0.1"]), &json!({}));
    let config = |backend: String, tls: Value| {
        json!({
            "listeners": [{ "address": "127.0.0.1:0" }],
            "clusters": { "web": { "backends": [backend], "tls": tls } },
        })
    };
    let front = LoadX::of(&config(origin.address().to_string(), json!(false)));
    let mut client = Client::connect(front.address);
    for round in 0..6 {
        assert_eq!(client.get("/").response().status, 200, "round {round}");
        let tls = json!({ "ca": text(&authority.ca_path()) });
        let next = if round % 2 == 0 {
            config(back.address.to_string(), tls)
        } else {
            config(origin.address().to_string(), json!(false))
        };
        front.reload(&next);
    }
    let faulty = config(back.address.to_string(), json!({ "ca": "/nowhere/ca.pem" }));
    front.reload(&faulty);
    assert!(front.log().contains("/nowhere/ca.pem: cannot be read"), "{}", front.log());
    assert_eq!(client.get("/").response().status, 200);
}

/// Answers one connection inside TLS with a response whose body ends with the connection. Ends TLS if it `closes` well.
fn answer_and_leave(listener: &TcpListener, files: &Files, closes: bool) {
    let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let (socket, _) = listener.accept().unwrap();
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), socket);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
    if closes {
        stream.conn.send_close_notify();
    }
    stream.flush().unwrap();
    stream.sock.shutdown(Shutdown::Write).unwrap();
    let _ = stream.sock.read_to_end(&mut Vec::new());
}

#[test]
fn a_body_without_the_end_of_tls_is_cut() {
    let authority = Authority::new();
    let files = authority.issue("back", &["127.0.0.1"]);
    for closes in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let front = LoadX::of(&json!({
            "listeners": [{ "address": "127.0.0.1:0" }],
            "clusters": { "web": {
                "backends": [listener.local_addr().unwrap().to_string()],
                "tls": { "ca": text(&authority.ca_path()) },
                "health": { "probe": "off" },
            } },
        }));
        std::thread::scope(|scope| {
            scope.spawn(|| answer_and_leave(&listener, &files, closes));
            let mut client = Client::connect(front.address);
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let received = client.until_end();
            assert!(received.starts_with("HTTP/1.1 200 OK\r\n") && received.contains("hello"), "{received}");
            assert_eq!(received.ends_with("\r\n0\r\n\r\n"), closes, "{received}");
        });
    }
}
