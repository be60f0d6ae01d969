//! The PROXY protocol, received from peers and sent to backends.

use std::net::SocketAddr;

use proxy_header::{ProxiedAddress, ProxyHeader};
use serde_json::{Value, json};

use crate::support::tls::{Authority, connect, text};
use crate::support::{Client, LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn header_of(source: &str, destination: &str) -> ProxyHeader<'static> {
    ProxyHeader::with_address(ProxiedAddress::stream(source.parse().unwrap(), destination.parse().unwrap()))
}

/// A LoadX that expects headers of these peers.
fn expecting(origin: &Origin, peers: &[&str], more: &Value) -> LoadX {
    let mut listener = json!({ "address": "127.0.0.1:0", "proxy_protocol": peers });
    listener.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    LoadX::of(&json!({
        "listeners": [listener],
        "workers": 1,
        "log_format": "json",
        "clusters": { "web": { "backends": [origin.address().to_string()], "health": { "probe": "off" } } },
    }))
}

#[test]
fn the_address_of_the_header_is_the_clients_address() {
    let origin = Origin::answering(OK);
    let loadx = expecting(&origin, &["127.0.0.1"], &json!({}));
    let header = header_of("192.0.2.7:4000", "198.51.100.1:80");
    let (mut one, mut two) = (Vec::new(), Vec::new());
    header.encode_v1(&mut one).unwrap();
    header.encode_v2(&mut two).unwrap();
    for bytes in [one, two] {
        let mut client = Client::connect(loadx.address);
        // The header comes in pieces, and with the beginning of the request.
        let (first, rest) = bytes.split_at(7);
        client.send(first).send([rest, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"].concat());
        assert_eq!(client.response().status, 200);
        assert_eq!(client.get("/again").response().status, 200);
    }
    for request in origin.requests() {
        assert!(request.contains("\r\nX-Forwarded-For: 192.0.2.7\r\n"), "{request}");
    }
    eventually("the log shows the client", || {
        (loadx.stdout().matches("\"client\":\"192.0.2.7\"").count() == 4).then_some(())
    });
    // The endpoints are for private networks, and the client is not there.
    let mut client = Client::connect(loadx.address);
    let mut bytes = Vec::new();
    header.encode_v2(&mut bytes).unwrap();
    let response = client.send(bytes).get("/__status__").response();
    assert_eq!(response.body, b"ok", "the request went to the backend");
}

#[test]
fn a_header_is_required_of_listed_peers_only() {
    let origin = Origin::answering(OK);
    let required = expecting(&origin, &["127.0.0.0/8"], &json!({}));
    let mut client = Client::connect(required.address);
    client.get("/");
    assert!(client.is_closed());
    let mut local = Client::connect(required.address);
    let mut bytes = Vec::new();
    ProxyHeader::with_local().encode_v2(&mut bytes).unwrap();
    let metrics = local.send(bytes).get("/__metrics__").response().json();
    assert_eq!(metrics["proxy_protocol_faults"], 1, "{metrics}");
    // A peer that is not listed is a client: its header is no HTTP.
    let other = expecting(&origin, &["10.0.0.0/8"], &json!({}));
    let mut client = Client::connect(other.address);
    client.send("PROXY TCP4 192.0.2.7 198.51.100.1 4000 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().status, 400);
    assert_eq!(Client::connect(other.address).get("/").response().status, 200);
}

#[test]
fn a_header_comes_before_tls() {
    let authority = Authority::new();
    let files = authority.issue("one", &["one.test"]);
    let origin = Origin::answering(OK);
    let tls = json!({ "tls": { "certificate": text(&files.certificate), "key": text(&files.key) } });
    let loadx = expecting(&origin, &["127.0.0.1"], &tls);
    let mut raw = Client::connect(loadx.address);
    raw.send("PROXY TCP6 2001:db8::7 2001:db8::1 4000 443\r\n");
    let config = std::sync::Arc::new(authority.client_config());
    let name = rustls::pki_types::ServerName::try_from("one.test").unwrap();
    let mut client = raw.with_tls(rustls::ClientConnection::new(config, name).unwrap()).unwrap();
    client.send("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let request = origin.requests().pop().unwrap();
    assert!(request.contains("\r\nX-Forwarded-For: 2001:db8::7\r\n"), "{request}");
    assert!(connect(loadx.address, "one.test", &std::sync::Arc::new(authority.client_config())).is_err());
}

/// LoadX that sends headers of this version.
fn sending(backend: SocketAddr, version: &str, listener: &Value) -> LoadX {
    LoadX::of(&json!({
        "listeners": [listener],
        "workers": 1,
        "clusters": { "web": {
            "backends": [backend.to_string()],
            "proxy_protocol": version,
            "health": { "probe": "off" },
        } },
    }))
}

#[test]
fn backends_get_the_address_at_the_beginning_of_each_connection() {
    let origin = Origin::answering(OK);
    let front = sending(origin.address(), "v1", &json!({ "address": "127.0.0.1:0" }));
    for _ in 0..2 {
        let mut client = Client::connect(front.address);
        let port = client.local_addr().port();
        let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\n", front.address.port());
        for _ in 0..2 {
            assert_eq!(client.get("/").response().status, 200);
            let request = origin.requests().pop().unwrap();
            assert!(request.starts_with(&format!("{line}GET / HTTP/1.1\r\n")), "{request}");
        }
    }
    assert_eq!(origin.connections(), 4, "no other client uses a connection again");
}

#[test]
fn backends_learn_of_tls_and_of_the_first_balancer() {
    let authority = Authority::new();
    let files = authority.issue("one", &["one.test"]);
    let mut listener = json!({ "address": "127.0.0.1:0", "proxy_protocol": ["127.0.0.1"] });
    listener["tls"] = json!({
        "certificate": text(&files.certificate),
        "key": text(&files.key),
        "client_certificates": { "ca": text(&authority.ca_path()) },
    });
    let origin = Origin::start(|connection| {
        let mut bytes = connection.take(16).unwrap();
        let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        bytes.extend(connection.take(length).unwrap());
        let (header, _) = ProxyHeader::parse(&bytes, Default::default()).unwrap();
        let address = header.proxied_address().unwrap();
        assert_eq!(address.source, "192.0.2.7:4000".parse().unwrap());
        assert_eq!(address.destination, "198.51.100.1:443".parse().unwrap());
        assert_eq!(header.authority(), Some("one.test"));
        let ssl = header.ssl().unwrap();
        assert!(ssl.client_ssl() && ssl.client_cert_conn() && ssl.client_cert_sess() && ssl.verify() == 0);
        assert_eq!((ssl.version(), ssl.cn()), (Some("TLSv1.3"), Some("client")));
        connection.head();
        connection.send(OK);
    });
    let front = sending(origin.address(), "v2", &listener);
    let mut raw = Client::connect(front.address);
    raw.send("PROXY TCP4 192.0.2.7 198.51.100.1 4000 443\r\n");
    let config = std::sync::Arc::new(authority.client_config_with(&authority.issue("client", &["client.test"])));
    let name = rustls::pki_types::ServerName::try_from("one.test").unwrap();
    let mut client = raw.with_tls(rustls::ClientConnection::new(config, name).unwrap()).unwrap();
    client.send("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert_eq!(client.response().status, 200);
}
