//! TLS on listeners: certificates by name, versions, redirects, and what replaces certificates.

use std::io::Write as _;
use std::sync::Arc;

use rustls::{HandshakeKind, ProtocolVersion};
use serde_json::{Value, json};

use crate::support::tls::{Authority, Files, connect, text};
use crate::support::{Client, LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An origin that sends the content of each request back.
fn echo() -> Origin {
    Origin::start(|connection| {
        while let Some(head) = connection.head() {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok()).unwrap();
            let Some(body) = connection.take(length) else { return };
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
            connection.send(body);
        }
    })
}

fn tls(files: &Files) -> Value {
    json!({ "certificate": text(&files.certificate), "key": text(&files.key) })
}

/// LoadX with one listener that has these settings of TLS.
fn loadx(origin: &Origin, tls: &Value) -> LoadX {
    LoadX::with(&[origin.address()], &json!({ "tls": tls, "workers": 1 }))
}

fn get(client: &mut Client, host: &str) -> crate::support::Response {
    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response()
}

#[test]
fn requests_and_bodies_pass_over_tls() {
    let authority = Authority::new();
    let origin = echo();
    let loadx = loadx(&origin, &tls(&authority.issue("app", &["app.test"])));
    let mut client = authority.connect(loadx.address, "app.test");
    let body: Vec<u8> = (0..3_000_000u32).map(|number| (number * 7 % 251) as u8).collect();
    for size in [0, 1, 100, 16_384, 65_536, 65_537, 1_000_000, 3_000_000] {
        let mut request = format!("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {size}\r\n\r\n").into_bytes();
        request.extend_from_slice(&body[..size]);
        let response = client.send(&request).response();
        assert_eq!(response.status, 200);
        assert!(response.body == body[..size], "a body of {size} bytes");
    }
    let metrics = loadx_metrics(&authority, &loadx);
    assert!(metrics["certificate_seconds_left"]["app.test"].as_f64() > Some(0.0), "{metrics}");
    let handshakes = metrics["tls_handshakes"].clone();
    assert!(handshakes["succeeded"]["TLSv1.3"]["full"].as_u64() >= Some(1), "{handshakes}");
}

fn loadx_metrics(authority: &Authority, loadx: &LoadX) -> Value {
    loadx_metrics_of(authority, loadx, "app.test")
}

fn loadx_metrics_of(authority: &Authority, loadx: &LoadX, name: &str) -> Value {
    let mut client = authority.connect(loadx.address, name);
    client.send(format!("GET /__metrics__ HTTP/1.1\r\nHost: {name}\r\n\r\n")).response().json()
}

#[test]
fn the_name_chooses_the_certificate() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let (one, two) = (authority.issue("one", &["one.test"]), authority.issue("two", &["*.two.test"]));
    let mut settings = tls(&one);
    settings["certificates"] = json!([tls(&two)]);
    let loadx = loadx(&origin, &settings);
    for name in ["one.test", "a.two.test", "b.two.test"] {
        let mut client = authority.connect(loadx.address, name);
        assert_eq!(get(&mut client, name).status, 200);
    }
    assert!(origin.requests()[0].contains("\r\nX-Forwarded-Proto: https\r\n"), "{:?}", origin.requests());
    // The first certificate is not for this name, so that the client refuses it.
    let refused = connect(loadx.address, "other.test", &Arc::new(authority.client_config()));
    assert!(refused.is_err());
}

#[test]
fn an_unknown_name_is_refused_where_the_config_says_so() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let mut settings = tls(&authority.issue("one", &["one.test"]));
    settings["unknown_names"] = json!("refuse");
    let loadx = loadx(&origin, &settings);
    let refused = connect(loadx.address, "other.test", &Arc::new(authority.client_config())).err().unwrap();
    assert!(refused.to_string().contains("UnrecognisedName"), "{refused}");
    let mut client = authority.connect(loadx.address, "one.test");
    let metrics = client.send("GET /__metrics__ HTTP/1.1\r\nHost: one.test\r\n\r\n").response().json();
    assert_eq!(metrics["tls_handshakes"]["failed"]["unknown_name"], 1, "{metrics}");
}

#[test]
fn a_host_outside_the_certificate_is_misdirected() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let loadx = loadx(&origin, &tls(&authority.issue("one", &["one.test", "*.one.test"])));
    let mut client = authority.connect(loadx.address, "one.test");
    assert_eq!(get(&mut client, "one.test").status, 200);
    assert_eq!(get(&mut client, "ONE.test:443").status, 200);
    assert_eq!(get(&mut client, "sub.one.test").status, 200);
    let response = get(&mut client, "two.test");
    assert_eq!((response.status, response.field("connection")), (421, None), "{}", response.head);
    assert_eq!(get(&mut client, "one.test").status, 200, "the connection goes on");
}

#[test]
fn sessions_are_resumed() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(
        &[origin.address()],
        &json!({
            "tls": tls(&authority.issue("one", &["one.test"])),
            "workers": 2,
            "log_format": "json",
            "log_fields": ["tls_version", "tls_session"],
        }),
    );
    let config = Arc::new(authority.client_config());
    let mut first = connect(loadx.address, "one.test", &config).unwrap();
    assert_eq!(get(&mut first, "one.test").status, 200);
    assert_eq!(first.tls().handshake_kind(), Some(HandshakeKind::Full));
    // Tickets hold for all workers.
    for _ in 0..8 {
        let mut next = connect(loadx.address, "one.test", &config).unwrap();
        assert_eq!(get(&mut next, "one.test").status, 200);
        assert_eq!(next.tls().handshake_kind(), Some(HandshakeKind::Resumed));
    }
    eventually("the log tells of the sessions", || {
        let log = loadx.stdout();
        let count = |session: &str| log.matches(&format!("\"tls_session\":\"{session}\"")).count();
        (count("full") == 1 && count("resumed") == 8).then_some(())
    });
}

#[test]
fn the_profile_chooses_the_versions() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let files = authority.issue("one", &["one.test"]);
    let mut old = authority.client_config();
    old.alpn_protocols = vec![b"http/1.1".to_vec()];
    for (profile, is_served) in [("intermediate", true), ("modern", false)] {
        let mut settings = tls(&files);
        settings["profile"] = json!(profile);
        let loadx = loadx(&origin, &settings);
        let arguments = ["s_client", "-connect", &loadx.address.to_string(), "-servername", "one.test", "-tls1_2"];
        let output = std::process::Command::new("openssl").args(arguments).stdin(std::process::Stdio::null()).output();
        let said = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
        assert_eq!(said.contains("Protocol  : TLSv1.2") && said.contains("Cipher is ECDHE"), is_served, "{said}");
        let client = connect(loadx.address, "one.test", &Arc::new(old.clone())).unwrap();
        assert_eq!(client.tls().protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(client.tls().alpn_protocol(), Some(&b"http/1.1"[..]));
    }
}

#[test]
fn http_on_a_port_of_https_gets_an_answer() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let loadx = loadx(&origin, &tls(&authority.issue("one", &["one.test"])));
    let response = Client::connect(loadx.address).get("/").response();
    assert_eq!(response.status, 400);
    assert!(response.text().contains("https://"), "{}", response.text());
    let mut stranger = Client::connect(loadx.address);
    stranger.send([0, 1, 2, 3, 4]);
    assert!(stranger.is_closed());
}

#[test]
fn a_listener_redirects_to_https() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let files = authority.issue("one", &["one.test"]);
    let config = json!({
        "listeners": [
            { "address": "127.0.0.1:0", "name": "plain", "redirect_to_https": true },
            { "address": "127.0.0.1:0", "tls": { "certificate": text(&files.certificate), "key": text(&files.key), "hsts": 600 } },
        ],
        "clusters": { "web": { "backends": [origin.address().to_string()] } },
    });
    let loadx = LoadX::of(&config);
    let addresses = loadx.addresses();
    let response =
        Client::connect(addresses[0]).send("GET /a%20b?c=1 HTTP/1.1\r\nHost: One.Test:8080\r\n\r\n").response();
    assert_eq!((response.status, response.field("location")), (308, Some("https://one.test/a%20b?c=1")));
    assert_eq!(response.field("strict-transport-security"), None);
    let mut client = authority.connect(addresses[1], "one.test");
    assert_eq!(get(&mut client, "one.test").field("strict-transport-security"), Some("max-age=600"));
    let own = get(&mut client, "two.test");
    assert_eq!((own.status, own.field("strict-transport-security")), (421, Some("max-age=600")));
}

#[test]
fn one_line_of_strict_transport_security_reaches_the_client() {
    let authority = Authority::new();
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=0\r\nContent-Length: 2\r\nStrict-transport-security: x\r\n\r\nok",
    );
    let mut settings = tls(&authority.issue("one", &["one.test"]));
    let lines = |settings: &Value, route: &Value| {
        let config = json!({
            "listeners": [{ "address": "127.0.0.1:0", "tls": settings }],
            "routes": [route],
            "clusters": { "web": { "backends": [origin.address().to_string()] } },
        });
        let loadx = LoadX::of(&config);
        let head = get(&mut authority.connect(loadx.address, "one.test"), "one.test").head.to_ascii_lowercase();
        head.lines().filter(|line| line.starts_with("strict")).collect::<Vec<_>>().join(", ")
    };
    let plain = json!({ "cluster": "web" });
    let of_backend = "strict-transport-security: max-age=0, strict-transport-security: x";
    assert_eq!(lines(&settings, &plain), of_backend);
    settings["hsts"] = json!(600);
    assert_eq!(lines(&settings, &plain), "strict-transport-security: max-age=600");
    let of_route =
        json!({ "cluster": "web", "response_headers": { "set": { "Strict-Transport-Security": "max-age=7" } } });
    assert_eq!(lines(&settings, &of_route), "strict-transport-security: max-age=7");
}

#[test]
fn replaced_files_are_read_without_a_reload() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let loadx = loadx(&origin, &tls(&authority.issue("one", &["one.test"])));
    let mut open = authority.connect(loadx.address, "one.test");
    let before = open.tls().peer_certificates().unwrap()[0].clone();
    authority.issue("one", &["one.test"]);
    eventually("the new certificate is in use", || {
        let client = authority.connect(loadx.address, "one.test");
        (client.tls().peer_certificates().unwrap()[0] != before).then_some(())
    });
    loadx.wait_for_log("a new certificate is in use: one.test");
    assert_eq!(get(&mut open, "one.test").status, 200, "the connection goes on");
    let now = authority.connect(loadx.address, "one.test").tls().peer_certificates().unwrap()[0].clone();
    let other = authority.issue("other", &["other.test"]);
    std::fs::copy(&other.key, authority.folder.path().join("one.key")).unwrap();
    loadx.wait_for_log("the private key does not belong to the certificate; what was read before stays in use");
    let client = authority.connect(loadx.address, "one.test");
    assert!(client.tls().peer_certificates().unwrap()[0] == now);
}

#[test]
fn a_faulty_certificate_changes_nothing() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let files = authority.issue("one", &["one.test"]);
    let config = |files: &Files| {
        let backends = json!([{ "host": "127.0.0.1", "port": origin.address().port() }]);
        json!({ "proxy_port": 0, "proxy_host": "127.0.0.1", "backend_servers": backends, "tls": tls(files) })
    };
    let loadx = LoadX::of(&config(&files));
    let other = authority.issue("other", &["other.test"]);
    let expired = authority.issue_with("old", &["one.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let early = authority.issue_with("early", &["one.test"], |params| {
        params.not_before = rcgen::date_time_ymd(2090, 1, 1);
        params.not_after = rcgen::date_time_ymd(2091, 1, 1);
    });
    let file = |name: &str, text: &str| {
        let path = authority.folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    };
    for (files, reason) in [
        (
            Files { certificate: files.certificate.clone(), key: other.key.clone() },
            "does not belong to the certificate",
        ),
        (expired, "the certificate has expired: it was valid until 2021-01-01"),
        (early, "the certificate is valid only from 2090-01-01"),
        (Files { certificate: file("none", ""), key: other.key.clone() }, "there is no certificate"),
        (Files { certificate: files.certificate.clone(), key: file("nokey", "x") }, "there is no private key"),
        (
            Files { certificate: authority.folder.path().join("absent"), key: other.key.clone() },
            "absent cannot be read",
        ),
    ] {
        let said = loadx.reload(&config(&files));
        assert!(said.contains("the config is not applied") && said.contains(reason), "{reason}: {said}");
    }
    let mut client = authority.connect(loadx.address, "one.test");
    assert_eq!(get(&mut client, "one.test").status, 200);
}

#[test]
fn the_end_of_a_connection_is_no_truncation() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let loadx = loadx(&origin, &tls(&authority.issue("one", &["one.test"])));
    let mut client = authority.connect(loadx.address, "one.test");
    let response = client.send("GET / HTTP/1.1\r\nHost: one.test\r\nConnection: close\r\n\r\n").response();
    assert_eq!(response.status, 200);
    // The client's library reports an end without close_notify as an error.
    assert!(client.is_closed());
}

#[test]
fn a_client_without_a_suitable_key_learns_that() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let loadx = loadx(&origin, &tls(&authority.issue("one", &["one.test"])));
    let address = loadx.address.to_string();
    // The key of the certificate is of ECDSA, and the client supports RSA only.
    let arguments = ["s_client", "-connect", &address, "-servername", "one.test", "-tls1_2", "-cipher", "aRSA"];
    let output = std::process::Command::new("openssl").args(arguments).stdin(std::process::Stdio::null()).output();
    let said = String::from_utf8_lossy(&output.unwrap().stderr).into_owned();
    assert!(said.contains("handshake failure"), "{said}");
    assert_eq!(loadx_metrics_of(&authority, &loadx, "one.test")["tls_handshakes"]["failed"]["no_common_cipher"], 1);
}
