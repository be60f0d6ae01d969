//! The cases of cases.rs, over real sockets.

use serde_json::json;

use crate::cases::{Answer, Then, requests, responses};
use crate::support::tls::{Authority, text};
use crate::support::{Client, LoadX, Origin, eventually};

const DATE_LINE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
const REQUEST_ID_LINE: &str = "X-Request-Id: 0123456789abcdef\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A request at the backend, without the fields that LoadX always adds.
fn without_forwarded(request: &str) -> String {
    let is_added = |line: &str| line.starts_with("X-Forwarded-") || line.starts_with("X-Request-Id: ");
    request.split_inclusive("\r\n").filter(|line| !is_added(line)).collect()
}

#[test]
fn each_request_meets_its_rule() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1, "log_file": "LOG", "log_format": "json" }));
    requests_meet_their_rules(&origin, &loadx, || loadx.client());
}

#[test]
fn each_request_meets_its_rule_over_tls() {
    let origin = Origin::answering(OK);
    let authority = Authority::new();
    let files = authority.issue("own", &["127.0.0.1"]);
    let tls = json!({ "certificate": text(&files.certificate), "key": text(&files.key) });
    let settings = json!({ "workers": 1, "log_file": "LOG", "log_format": "json", "tls": tls });
    let loadx = LoadX::with(&[origin.address()], &settings);
    // A client that asks for no name may ask for any host.
    requests_meet_their_rules(&origin, &loadx, || authority.connect(loadx.address, "127.0.0.1"));
}

/// Sends the request of each case on a connection of its own.
fn requests_meet_their_rules(origin: &Origin, loadx: &LoadX, connect: impl Fn() -> Client) {
    let mut came = 0;
    let mut refused = 0;
    for case in requests() {
        let mut client = connect();
        // LoadX may have closed the connection before the last bytes.
        client.try_send(case.request.as_bytes());
        let response = client.response();
        let requests = origin.requests();
        match case.then {
            Then::Refused(status) => {
                refused += 1;
                assert_eq!(response.status, status, "{}", case.name);
                assert_eq!(response.field("connection"), Some("close"), "{}", case.name);
                assert!(
                    response.field("proxy-status").is_some_and(|status| status.starts_with("LoadX;")),
                    "{}",
                    case.name
                );
                assert!(response.field("date").is_some(), "{}", case.name);
                assert_eq!(response.json()["request_id"], response.field("x-request-id").unwrap(), "{}", case.name);
                assert!(client.is_closed(), "{}", case.name);
            }
            Then::Passed(expected) => {
                came += 1;
                assert_eq!(response.text(), "ok", "{}", case.name);
                let request = requests.last().unwrap_or_else(|| panic!("{} did not arrive", case.name));
                assert_eq!(without_forwarded(request), expected, "{}", case.name);
            }
        }
        // LoadX may have forwarded the head when it finds a malformed body; the backend never gets a complete body.
        assert_eq!(requests.len(), came, "{}: {:?}", case.name, requests.last());
    }
    let lines = eventually("each request has its line", || {
        let log = loadx.access_log();
        (log.lines().count() == came + refused).then_some(log)
    });
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!((line["status"] == 200) == line["error"].is_null(), "{line}");
    }
}

#[test]
fn each_response_meets_its_rule() {
    responses_meet_their_rules(&json!({ "workers": 1 }), LoadX::client);
}

#[test]
fn each_response_meets_its_rule_over_tls() {
    let authority = Authority::new();
    let files = authority.issue("own", &["127.0.0.1"]);
    let tls = json!({ "certificate": text(&files.certificate), "key": text(&files.key) });
    responses_meet_their_rules(&json!({ "workers": 1, "tls": tls }), |loadx| {
        authority.connect(loadx.address, "127.0.0.1")
    });
}

/// Has a backend send the response of each case.
fn responses_meet_their_rules(settings: &serde_json::Value, connect: impl Fn(&LoadX) -> Client) {
    for case in responses() {
        let bytes = case.response.clone();
        let origin = Origin::start(move |connection| {
            if connection.request().is_some() {
                connection.send(&bytes);
                connection.end();
                // LoadX closes the connection after the end.
                while connection.request().is_some() {}
            }
        });
        let loadx = LoadX::with(&[origin.address()], settings);
        let mut client = connect(&loadx);
        client.get("/");
        match case.then {
            Answer::Passed(expected) => {
                // LoadX adds a missing Date (RFC 9110, section 6.6.1).
                let dated = expected.contains("\r\nDate: ");
                let added = REQUEST_ID_LINE.len() + if dated { 0 } else { DATE_LINE.len() };
                let got = client.bytes(expected.len() + added);
                let got = String::from_utf8_lossy(&got).into_owned();
                let is_added =
                    |line: &str| line.starts_with("X-Request-Id: ") || (!dated && line.starts_with("Date: "));
                let without = |line: &&str| !is_added(line);
                let kept: String = got.split_inclusive("\r\n").filter(without).collect();
                assert_eq!(kept, expected, "{}", case.name);
                assert_eq!(got.len() - kept.len(), added, "{}", case.name);
                // No bytes follow, and the connection serves another request.
                assert!(client.get("/__health__").response().text().contains("healthy_backends"), "{}", case.name);
            }
            Answer::BadGateway => {
                while client.peek_status() == 103 {
                    client.response();
                }
                let response = client.response();
                assert_eq!(response.status, 502, "{}: {}", case.name, response.head);
                assert!(response.field("proxy-status").is_some(), "{}", case.name);
                assert_eq!(response.field("connection"), None, "{}: the client's connection is sound", case.name);
            }
            Answer::Broken => {
                let broken = client.try_response();
                assert!(broken.is_err(), "{}: {broken:?}", case.name);
            }
        }
    }
}
