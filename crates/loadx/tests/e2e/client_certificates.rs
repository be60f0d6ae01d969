//! The certificates that clients show, by the host that they ask for.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::{ClientConfig, HandshakeKind};
use serde_json::{Value, json};

use crate::support::tls::{Authority, Files, connect, text};
use crate::support::{Client, LoadX, Origin, Response, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(client: &mut Client, host: &str) -> Response {
    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response()
}

/// The config of one listener with this certificate, which asks for these certificates of clients.
fn config(origin: &Origin, files: &Files, client_certificates: &Value) -> Value {
    json!({
        "listeners": [{
            "address": "127.0.0.1:0",
            "tls": {
                "certificate": text(&files.certificate),
                "key": text(&files.key),
                "client_certificates": client_certificates,
            },
        }],
        "workers": 1,
        "clusters": { "web": { "backends": [origin.address().to_string()] } },
    })
}

/// Whether LoadX refuses the client. A client of TLS 1.3 learns of the refusal when it reads.
fn is_refused(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> bool {
    connect(address, name, config).map_or(true, |mut client| {
        client.send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")).try_response().is_err()
    })
}

#[test]
fn clients_show_certificates() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let files = authority.issue("one", &["one.test"]);
    let required = LoadX::of(&config(&origin, &files, &json!({ "ca": text(&authority.ca_path()) })));
    let known = authority.issue("client", &["client.test"]);
    let mut client = connect(required.address, "one.test", &Arc::new(authority.client_config_with(&known))).unwrap();
    client
        .send("GET / HTTP/1.1\r\nHost: one.test\r\nClient-Cert: :forged:\r\nClient_Cert: :forged:\r\n\r\n")
        .response();
    let request = origin.requests().pop().unwrap();
    assert!(request.contains("\r\nClient-Cert: :MII"), "{request}");
    assert!(!request.contains("forged"), "{request}");
    assert!(is_refused(required.address, "one.test", &Arc::new(authority.client_config())));
    let stranger = Authority::new();
    let stranger = authority.client_config_with(&stranger.issue("client", &["client.test"]));
    assert!(is_refused(required.address, "one.test", &Arc::new(stranger)));
    let rule = json!({ "ca": text(&authority.ca_path()), "mode": "optional" });
    let optional = LoadX::of(&config(&origin, &files, &rule));
    let mut nobody = authority.connect(optional.address, "one.test");
    nobody.send("GET / HTTP/1.1\r\nHost: one.test\r\nClient-Cert: :forged:\r\n\r\n").response();
    assert!(!origin.requests().pop().unwrap().to_ascii_lowercase().contains("client-cert"));
}

#[test]
fn a_session_does_not_outlive_the_authority_of_its_client() {
    let (authority, other) = (Authority::new(), Authority::new());
    let origin = Origin::answering(OK);
    let ca = authority.folder.path().join("clients.pem");
    std::fs::copy(authority.ca_path(), &ca).unwrap();
    let config = config(&origin, &authority.issue("one", &["one.test"]), &json!({ "ca": text(&ca) }));
    let loadx = LoadX::of(&config);
    let known = Arc::new(authority.client_config_with(&authority.issue("client", &["client.test"])));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut client = connect(loadx.address, "one.test", &known).unwrap();
        assert_eq!(get(&mut client, "one.test").status, 200);
        assert_eq!(client.tls().handshake_kind(), Some(kind));
    }
    std::fs::copy(other.ca_path(), &ca).unwrap();
    loadx.reload(&config);
    assert!(is_refused(loadx.address, "one.test", &known));
    assert_eq!(origin.requests().len(), 2);
}

/// What openssl receives for a request on a connection with these options.
fn openssl(address: SocketAddr, name: &str, options: &[&str]) -> String {
    let address = address.to_string();
    let arguments = ["s_client", "-connect", &address, "-servername", name, "-quiet", "-no_ign_eof"];
    let mut command = Command::new("openssl");
    command.args(arguments).args(options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), request.as_bytes()).unwrap();
    // Standard input stays open until LoadX closes the connection.
    let received = std::io::read_to_string(child.stdout.as_mut().unwrap()).unwrap();
    let _ = child.wait();
    received
}

/// An authority, an origin, and LoadX that asks clients of admin.test and of the names below staff.test for a certificate.
fn by_name() -> (Authority, Origin, LoadX) {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let files = authority.issue("all", &["www.test", "admin.test", "staff.test", "a.staff.test"]);
    let rules = json!([{ "names": ["admin.test", "*.staff.test"], "ca": text(&authority.ca_path()) }]);
    let loadx = LoadX::of(&config(&origin, &files, &rules));
    (authority, origin, loadx)
}

#[test]
fn each_name_asks_for_its_own_certificates() {
    let (authority, origin, loadx) = by_name();
    let nobody = Arc::new(authority.client_config());
    for name in ["www.test", "staff.test"] {
        assert!(!is_refused(loadx.address, name, &nobody), "{name}");
    }
    for name in ["admin.test", "a.staff.test"] {
        assert!(is_refused(loadx.address, name, &nobody), "{name}");
    }
    assert_eq!(origin.requests().len(), 2);
    let known = Arc::new(authority.client_config_with(&authority.issue("client", &["client.test"])));
    let mut client = connect(loadx.address, "admin.test", &known).unwrap();
    assert_eq!(get(&mut client, "admin.test").status, 200);
    assert!(origin.requests().pop().unwrap().contains("\r\nClient-Cert: :MII"));
    assert_eq!(get(&mut client, "a.staff.test").status, 200, "the hosts ask for the same");
    assert_eq!(get(&mut client, "www.test").status, 421);
}

#[test]
fn a_connection_for_another_name_is_no_way_around() {
    let (authority, origin, loadx) = by_name();
    let mut client = authority.connect(loadx.address, "www.test");
    for host in ["admin.test", "ADMIN.test:443", "admin.test.", "a.staff.test"] {
        assert_eq!(get(&mut client, host).status, 421, "{host}");
    }
    let response = client.send("GET https://admin.test/ HTTP/1.1\r\nHost: www.test\r\n\r\n").response();
    assert_eq!(response.status, 421);
    // A client that connects to an address names no host in TLS.
    let files = authority.issue("address", &["127.0.0.1"]);
    let rules = json!([{ "names": ["admin.test"], "ca": text(&authority.ca_path()) }]);
    let by_address = LoadX::of(&config(&origin, &files, &rules));
    let mut client = authority.connect(by_address.address, "127.0.0.1");
    assert_eq!(get(&mut client, "127.0.0.1").status, 200);
    assert_eq!(get(&mut client, "admin.test").status, 421);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_ticket_of_another_name_is_no_way_around() {
    let (authority, origin, loadx) = by_name();
    let session = authority.folder.path().join("session");
    let session = text(&session);
    let openssl = |name: &str, ticket: [&str; 2], version: &str| {
        openssl(loadx.address, name, &[&ticket[..], &[version]].concat())
    };
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(openssl("www.test", ["-sess_out", session], version).contains("200 OK"), "{version}");
        assert!(openssl("www.test", ["-sess_in", session], version).contains("200 OK"), "{version}");
        let around = openssl("admin.test", ["-sess_in", session], version);
        assert!(!around.contains("HTTP/1.1"), "{version}: {around}");
    }
    assert_eq!(origin.requests().len(), 4);
}

#[test]
fn a_reload_that_asks_for_certificates_reaches_open_connections() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let files = authority.issue("all", &["www.test", "admin.test"]);
    let off = json!([{ "mode": "off" }]);
    let loadx = LoadX::of(&config(&origin, &files, &off));
    let mut idle = authority.connect(loadx.address, "admin.test");
    assert_eq!(get(&mut idle, "admin.test").status, 200);
    // A client with a session from the time when LoadX asked for no certificate.
    let session = authority.folder.path().join("session");
    let resumes =
        |ticket: &str, version: &str| openssl(loadx.address, "admin.test", &[ticket, text(&session), version]);
    assert!(resumes("-sess_out", "-tls1_2").contains("200 OK"));
    assert!(resumes("-sess_in", "-tls1_2").contains("200 OK"));
    // A connection that has begun a request stays open, until its request has an answer.
    let mut began = authority.connect(loadx.address, "admin.test");
    assert_eq!(get(&mut began, "admin.test").status, 200);
    began.send("GET / HTTP/1.1\r\n");
    let rules = json!([{ "names": ["admin.test"], "ca": text(&authority.ca_path()) }, { "mode": "off" }]);
    loadx.reload(&config(&origin, &files, &rules));
    assert!(idle.is_closed());
    let response = began.send("Host: admin.test\r\n\r\n").response();
    assert_eq!((response.status, response.field("connection")), (421, Some("close")));
    let nobody = Arc::new(authority.client_config());
    assert!(is_refused(loadx.address, "admin.test", &nobody));
    assert!(!is_refused(loadx.address, "www.test", &nobody));
    assert!(!resumes("-sess_in", "-tls1_2").contains("HTTP/1.1"));
}

#[test]
fn a_rule_of_another_host_leaves_connections_alone() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let files = authority.issue("all", &["www.test", "admin.test"]);
    let loadx = LoadX::of(&config(&origin, &files, &json!([{ "mode": "off" }])));
    let mut busy = authority.connect(loadx.address, "www.test");
    let mut parked = authority.connect(loadx.address, "www.test");
    for mode in ["optional", "required", "off"] {
        assert_eq!(get(&mut parked, "www.test").status, 200);
        busy.send("GET / HTTP/1.1\r\n");
        let rule = match mode {
            "off" => json!({ "names": ["admin.test"], "mode": mode }),
            _ => json!({ "names": ["admin.test"], "ca": text(&authority.ca_path()), "mode": mode }),
        };
        loadx.reload(&config(&origin, &files, &json!([rule])));
        let response = busy.send("Host: www.test\r\n\r\n").response();
        assert_eq!((response.status, response.field("connection")), (200, None), "{mode}");
    }
    assert_eq!(get(&mut parked, "www.test").status, 200);
}

#[test]
fn replaced_authorities_are_read_without_a_reload() {
    let (authority, other) = (Authority::new(), Authority::new());
    let origin = Origin::answering(OK);
    let ca = authority.folder.path().join("clients.pem");
    std::fs::copy(authority.ca_path(), &ca).unwrap();
    let files = authority.issue("one", &["one.test"]);
    let loadx = LoadX::of(&config(&origin, &files, &json!({ "ca": text(&ca) })));
    let new = Arc::new(authority.client_config_with(&other.issue("client", &["client.test"])));
    assert!(is_refused(loadx.address, "one.test", &new));
    // A client that gets another certificate goes on with the session that it has.
    let session = authority.folder.path().join("session");
    let shown = |files: &Files, ticket: &str| {
        let files = ["-cert", text(&files.certificate), "-key", text(&files.key)];
        openssl(loadx.address, "one.test", &[&files[..], &[ticket, text(&session)]].concat())
    };
    let (of_former, of_new) = (authority.issue("former", &["client.test"]), other.issue("client", &["client.test"]));
    assert!(shown(&of_former, "-sess_out").contains("200 OK"));
    std::fs::copy(other.ca_path(), &ca).unwrap();
    eventually("clients of the new authority come in", || (!is_refused(loadx.address, "one.test", &new)).then_some(()));
    assert!(shown(&of_new, "-sess_in").contains("200 OK"));
    loadx.wait_for_log(&format!("LoadX has read {} again", text(&ca)));
    std::fs::write(&ca, "no certificate").unwrap();
    loadx.wait_for_log("what was read before stays in use");
    let mut client = connect(loadx.address, "one.test", &new).unwrap();
    let status = client.send("GET /__status__ HTTP/1.1\r\nHost: one.test\r\n\r\n").response().json();
    let problems: Vec<&Value> = status["certificates"].as_array().unwrap().iter().map(|one| &one["problem"]).collect();
    assert!(problems.len() == 2 && problems[0].is_null(), "{problems:?}");
    assert!(problems[1].as_str().unwrap().contains("clients.pem: there is no certificate"), "{problems:?}");
}

#[test]
fn revoked_certificates_are_refused_and_a_list_that_cannot_be_read_opens_no_door() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let list = authority.folder.path().join("list");
    let write = |content: &[u8]| {
        // As a program replaces a file.
        let new = authority.folder.path().join("list.new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(&new, &list).unwrap();
    };
    let files = authority.issue("one", &["one.test"]);
    let client = |name: &str, serial: u64| {
        let issued = authority.issue_with(name, &["client.test"], |params| params.serial_number = Some(serial.into()));
        Arc::new(authority.client_config_with(&issued))
    };
    let (good, bad) = (client("good", 7), client("bad", 8));
    write(authority.revoke(&[8], 2024..2090).pem().unwrap().as_bytes());
    let config = config(&origin, &files, &json!({ "ca": text(&authority.ca_path()), "revoked": [text(&list)] }));
    let loadx = LoadX::of(&config);
    let refused = |client| is_refused(loadx.address, "one.test", client);
    assert!(!refused(&good) && refused(&bad));
    for content in
        ["", "garbage", "-----BEGIN X509 CRL-----\nMIIB", &std::fs::read_to_string(authority.ca_path()).unwrap()]
    {
        let told = loadx.log().matches("stays in use").count();
        write(content.as_bytes());
        eventually("LoadX refuses the file", || (loadx.log().matches("stays in use").count() > told).then_some(()));
        assert!(!refused(&good) && refused(&bad), "{content:?}");
        let said = loadx.reload(&config);
        assert!(said.contains("the config is not applied"), "{content:?}: {said}");
    }
    // The DER format, right after a reload that had read another list.
    write(authority.revoke(&[7], 2024..2090).der());
    loadx.reload(&config);
    write(authority.revoke(&[7, 8], 2024..2090).der());
    eventually("both are refused", || (refused(&good) && refused(&bad)).then_some(()));
    // Of two lists, the newer counts.
    let pem = |serials: &[u64], years| authority.revoke(serials, years).pem().unwrap();
    write((pem(&[], 2024..2090) + &pem(&[8], 2025..2090) + &pem(&[7], 2023..2090)).as_bytes());
    eventually("the newest list is in use", || (!refused(&good)).then_some(()));
    assert!(refused(&bad));
    write(pem(&[], 2024..2025).as_bytes());
    loadx.wait_for_log("the time of the list of revoked certificates of CN=An authority of a test is over");
    assert!(refused(&good) && refused(&bad));
    let checked = crate::support::loadx(&["check", text(&loadx.config_path())]);
    assert!(checked.code == Some(0) && checked.stderr.contains("CN=An authority of a test is over"), "{checked:?}");
    // An authority without a list.
    let both = std::fs::read_to_string(Authority::named("Another").ca_path()).unwrap()
        + &std::fs::read_to_string(authority.ca_path()).unwrap();
    std::fs::write(authority.ca_path(), both).unwrap();
    loadx.wait_for_log("\"revoked\" has no list of CN=Another, so that LoadX refuses all clients of this authority");
}

#[test]
fn a_file_that_cannot_be_read_holds_no_other_up() {
    let (authority, other) = (Authority::new(), Authority::new());
    let origin = Origin::answering(OK);
    let (first, second) = (authority.folder.path().join("first.pem"), authority.folder.path().join("second.pem"));
    std::fs::copy(authority.ca_path(), &first).unwrap();
    std::fs::copy(authority.ca_path(), &second).unwrap();
    let files = authority.issue("all", &["one.test", "two.test"]);
    let rules = json!([{ "names": ["one.test"], "ca": text(&first) }, { "names": ["two.test"], "ca": text(&second) }]);
    let loadx = LoadX::of(&config(&origin, &files, &rules));
    let new = Arc::new(authority.client_config_with(&other.issue("client", &["client.test"])));
    std::fs::write(&first, "garbage").unwrap();
    std::fs::copy(other.ca_path(), &second).unwrap();
    eventually("the other rule is in use", || (!is_refused(loadx.address, "two.test", &new)).then_some(()));
    assert!(is_refused(loadx.address, "one.test", &new));
}

#[test]
fn a_plan_tells_which_rules_differ_and_a_check_finds_names_that_nobody_serves() {
    let authority = Authority::new();
    let origin = Origin::answering(OK);
    let files = authority.issue("all", &["*.test"]);
    let ca = text(&authority.ca_path()).to_owned();
    let path = |name: &str, rules: &Value| {
        let path = authority.folder.path().join(name);
        std::fs::write(&path, config(&origin, &files, rules).to_string()).unwrap();
        path
    };
    let one = path("one", &json!([{ "names": ["a.test", "b.test"], "ca": ca }]));
    let two =
        path("two", &json!([{ "names": ["a.test"], "ca": ca }, { "names": ["b.test"], "ca": ca, "mode": "optional" }]));
    let planned = crate::support::loadx(&["plan", "--from", text(&one), text(&two)]).stdout;
    assert!(planned.contains("client_certificates of \"b.test\"") && !planned.contains("a.test"), "{planned}");
    assert!(planned.contains("closes the connections for hosts whose rule changes"), "{planned}");
    // TLS without client certificates closes no connection.
    let plain = authority.folder.path().join("plain");
    let mut without = config(&origin, &files, &json!([{ "mode": "off" }]));
    let with = path("with", &json!([{ "mode": "off" }]));
    without["listeners"][0].as_object_mut().unwrap().remove("tls");
    std::fs::write(&plain, without.to_string()).unwrap();
    let planned = crate::support::loadx(&["plan", "--from", text(&plain), text(&with)]).stdout;
    assert!(planned.contains("connections stay open") && !planned.contains("client_certificates"), "{planned}");
    let check = |rules: &Value| crate::support::loadx(&["check", text(&path("three", rules))]).stderr;
    assert_eq!(check(&json!([{ "names": ["a.test", "*.test"], "ca": ca }])), "");
    let said = check(&json!([{ "names": ["a.tset"], "ca": ca }]));
    assert!(said.contains("names a.tset, but no certificate of the listener has this name"), "{said}");
}
