//! The status endpoints on the proxy's port.

use serde_json::json;

use crate::support::{LoadX, Origin};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\norigin";

#[test]
fn metrics_have_the_keys_of_the_python_version() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    for _ in 0..10 {
        loadx.get("/");
    }
    let metrics = loadx.metrics();
    assert_eq!(metrics["total_requests"], 10);
    assert_eq!(metrics["total_errors"], 0);
    assert_eq!(metrics["error_rate"], 0.0);
    assert_eq!(metrics["status_codes"], json!({ "200": 10 }));
    assert!(metrics["uptime_seconds"].as_f64().unwrap() > 0.0);
    assert!(metrics["requests_per_second"].as_f64().unwrap() > 0.0);
    for key in ["average", "minimum", "maximum", "p95"] {
        assert!(metrics["response_times"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    let keys: Vec<&String> = metrics.as_object().unwrap().keys().take(7).collect();
    assert_eq!(
        keys,
        [
            "uptime_seconds",
            "total_requests",
            "total_errors",
            "requests_per_second",
            "error_rate",
            "response_times",
            "status_codes"
        ]
    );
}

#[test]
fn health_and_status_tell_how_backends_stand() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    loadx.wait_for_healthy(1);
    let health = loadx.get("/__health__");
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("healthy")));
    let status = loadx.status();
    assert_eq!(status["algorithm"], "round_robin");
    assert_eq!(status["backends"][0]["state"], "up");
    assert_eq!(status["access_log"]["lost_lines"], 0);
    assert_eq!(status["limits"]["head_bytes"], 32_768);
    let mut client = loadx.client();
    let head = client.send("HEAD /__health__ HTTP/1.1\r\nHost: a\r\n\r\n").response_to_head();
    assert_eq!(head.status, 200);
    assert_eq!(client.get("/__health__?x=1").response().status, 200, "the connection goes on");
}

#[test]
fn untrusted_clients_do_not_get_the_status_endpoints() {
    let origin = Origin::answering(OK);
    let closed = LoadX::with(&[origin.address()], &json!({ "endpoints_allow": ["192.0.2.0/24"] }));
    assert_eq!(closed.get("/__status__").text(), "origin");

    let behind = LoadX::with(&[origin.address()], &json!({ "trusted_proxies": ["127.0.0.1"] }));
    let asked_for = |loadx: &LoadX, client: &str| {
        let request = format!("GET /__status__ HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
        loadx.client().send(request).response().text()
    };
    assert_eq!(asked_for(&behind, "203.0.113.1"), "origin");
    assert!(asked_for(&behind, "10.1.2.3").contains("algorithm"));

    let open = LoadX::before(&[origin.address()]);
    assert_eq!(asked_for(&open, "10.1.2.3"), "origin", "an unknown proxy in front may carry anybody's request");
    let mut client = open.client();
    assert_eq!(
        client.send("POST /__status__ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").response().text(),
        "origin"
    );
    assert_eq!(open.get("/__status__x").text(), "origin");
}

#[test]
fn metrics_can_be_switched_off() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "enable_metrics": false }));
    assert_eq!(loadx.get("/__metrics__").text(), "origin");
    assert_eq!(loadx.get("/__health__").status, 200);
}

#[test]
fn backends_without_probes_are_shown_as_not_probed() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "clusters": { "web": { "backends": [origin.address().to_string()], "health": { "probe": "off" } } },
    }));
    let backend = &loadx.status()["backends"][0];
    assert_eq!((&backend["healthy"], &backend["state"]), (&json!(true), &json!("not probed")));
    assert_eq!(backend["reason"], "probes are off");
}
