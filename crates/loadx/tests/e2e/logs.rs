//! The access log.

use serde_json::{Value, json};

use crate::support::{Client, LoadX, Origin, TestBackend, eventually};

#[test]
fn every_request_has_a_complete_log_line() {
    let origin = Origin::answering("HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello");
    let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": "LOG", "log_format": "json", "workers": 2 }));
    let mut client = loadx.client();
    client.send("PUT /thing?x=%22 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").response();
    let refused = client.send("GET / HTTP/1.1\r\n\r\n").response();
    let lines = eventually("both lines are written", || {
        let lines: Vec<Value> = loadx.access_log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() == 2).then_some(lines)
    });
    let line = &lines[0];
    assert_eq!(line["client"], "127.0.0.1");
    assert_eq!(line["method"], "PUT");
    assert_eq!(line["target"], "/thing?x=%22");
    assert_eq!(line["status"], 201);
    assert_eq!(line["bytes"], 5);
    assert_eq!(line["backend"], origin.address().to_string());
    assert_eq!(line["tries"], 1);
    assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(line["id"].as_str().unwrap().len(), 16);
    assert_eq!(lines[1]["status"], 400);
    assert_eq!(lines[1]["id"], refused.field("x-request-id").unwrap());
    assert_eq!(lines[1]["error"], "Host is missing");
}

#[test]
fn when_the_log_cannot_be_written_requests_go_on_and_lost_lines_are_counted() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    if !std::path::Path::new("/dev/full").exists() {
        eprintln!("skipped: there is no /dev/full here");
        return;
    }
    let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": "/dev/full" }));
    for _ in 0..5 {
        assert_eq!(loadx.get("/").text(), "ok");
    }
    eventually("lost lines are counted", || (loadx.status()["access_log"]["lost_lines"] == 5).then_some(()));
    eventually("the log reports the failure", || {
        loadx.log().contains("the access log cannot be written").then_some(())
    });
}

#[test]
fn access_lines_go_to_standard_output_and_events_to_standard_error() {
    let backend = TestBackend::start("backend-1");
    let loadx = LoadX::with(&[backend.address], &json!({ "health_check_interval": 0.05 }));
    loadx.wait_for_healthy(1);
    assert_eq!(loadx.get("/path-of-a-request").status, 200);
    eventually("the request is logged", || loadx.stdout().contains("/path-of-a-request").then_some(()));
    Client::connect(backend.address).send("POST /health/fail HTTP/1.1\r\nHost: a\r\n\r\n").response();
    loadx.wait_for_log("is down: probe failed: GET /health answered 503");
    assert!(!loadx.log().contains("/path-of-a-request"), "{}", loadx.log());
    assert!(!loadx.stdout().contains("is down"), "{}", loadx.stdout());
}

#[test]
fn libraries_do_not_write_their_debug_text_into_the_log() {
    let loadx = LoadX::run(&["--verbose", "--listen", "127.0.0.1:0", "--to", "no-such-host.invalid:80"]);
    loadx.wait_for_log("backend no-such-host.invalid:80 does not resolve");
    assert!(!loadx.log().contains(" { "), "{}", loadx.log());
}
