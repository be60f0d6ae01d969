//! What probes ask, and which answers are healthy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::h2::{H2Server, backend, headers};
use crate::support::{LoadX, Origin, eventually};

fn before(address: &str, health: &Value) -> LoadX {
    LoadX::of(&json!({
        "proxy_port": 0, "proxy_host": "127.0.0.1", "workers": 1,
        "clusters": { "web": { "backends": [address], "health": health } },
    }))
}

/// An origin whose requests to /ready get one response, or another once the flag is set.
fn turning(first: &'static str, later: &'static str) -> (Origin, Arc<AtomicBool>) {
    let flag = Arc::new(AtomicBool::new(false));
    let has_turned = Arc::clone(&flag);
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            connection.send(if has_turned.load(Ordering::SeqCst) { later } else { first });
        }
    });
    (origin, flag)
}

#[test]
fn a_probe_asks_what_the_config_says() {
    let origin = Origin::answering("HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
    let health = json!({
        "path": "/ready?deep=1", "method": "POST", "host": "app.internal", "statuses": [204, "300-302"],
        "headers": { "Authorization": "Bearer abc", "User-Agent": "probe" }, "interval": 3_600,
    });
    let loadx = before(&origin.address().to_string(), &health);
    loadx.wait_for_log("is up: probe answered 301");
    let asked = "POST /ready?deep=1 HTTP/1.1\r\nHost: app.internal\r\nAccept: */*\r\nContent-Length: 0\r\n\
                 Authorization: Bearer abc\r\nUser-Agent: probe\r\nConnection: close\r\n\r\n";
    assert_eq!(origin.requests(), [asked]);
}

#[test]
fn a_status_that_is_not_listed_is_unhealthy() {
    let origin = Origin::answering("HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
    let loadx = before(&origin.address().to_string(), &json!({ "path": "/ready", "statuses": ["200-299"] }));
    loadx.wait_for_log("is down: probe failed: GET /ready answered 301");
}

#[test]
fn a_healthy_response_has_the_text_that_the_config_names() {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nstarting";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nI re\r\n9\r\nady, you!\r\n0\r\n\r\n";
    let (origin, is_ready) = turning(length, chunks);
    let loadx = before(&origin.address().to_string(), &json!({ "path": "/ready", "body": "I ready", "rise": 1 }));
    loadx.wait_for_log("is down: probe failed: GET /ready answered 200 without \"I ready\" in its content");
    is_ready.store(true, Ordering::SeqCst);
    loadx.wait_for_log("is up: probe answered 200");
}

#[test]
fn content_without_an_announced_end_is_read_as_well() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.0 200 OK\r\n\r\nready");
        connection.end();
    });
    let loadx = before(&origin.address().to_string(), &json!({ "path": "/ready", "body": "ready" }));
    loadx.wait_for_log("is up: probe answered 200");
}

#[test]
fn a_head_needs_no_content() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    let loadx = before(&origin.address().to_string(), &json!({ "path": "/ready", "method": "HEAD" }));
    loadx.wait_for_log("is up: probe answered 200");
}

#[test]
fn backends_of_http_2_are_asked_the_same() {
    let (told, tells) = std::sync::mpsc::channel();
    let origin = backend(&[], move |server: &mut H2Server<'_>| {
        while let Some((stream, request)) = server.request() {
            let _ = told.send(request);
            server.answer(stream, "203", "healthy");
        }
    });
    let health = json!({
        "path": "/ready", "method": "OPTIONS", "host": "app.internal", "headers": { "X-Key": "1" }, "statuses": [203],
        "body": "healthy", "interval": 3_600,
    });
    let loadx = LoadX::of(&json!({
        "proxy_port": 0, "proxy_host": "127.0.0.1", "workers": 1,
        "clusters": { "web": { "backends": [origin.address().to_string()], "health": health, "protocol": "h2" } },
    }));
    loadx.wait_for_log("is up: probe answered 203");
    let asked = tells.recv().unwrap();
    assert_eq!(
        [":method", ":path", ":authority", "x-key"].map(|name| asked.asked(name).unwrap_or_default()),
        ["OPTIONS", "/ready", "app.internal", "1"]
    );
}

#[test]
fn a_head_over_http_2_needs_no_content() {
    let origin = backend(&[], |server: &mut H2Server<'_>| {
        while let Some((stream, _)) = server.request() {
            server.send(headers(stream, true, &[(":status", "200"), ("content-length", "1000")]));
        }
    });
    let loadx = LoadX::of(&json!({
        "proxy_port": 0, "proxy_host": "127.0.0.1", "workers": 1,
        "clusters": {
            "web": {
                "backends": [origin.address().to_string()], "health": { "path": "/ready", "method": "HEAD" },
                "protocol": "h2",
            },
        },
    }));
    loadx.wait_for_log("is up: probe answered 200");
}

#[test]
fn a_probe_without_an_answer_lets_requests_leave() {
    let hung = Origin::start(|connection| {
        connection.request();
        connection.hold();
    });
    let other = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother");
    let backends = [&hung, &other].map(|origin| origin.address().to_string());
    for _ in 0..4 {
        // The first probe alone decides.
        let loadx = LoadX::of(&json!({
            "proxy_port": 0, "proxy_host": "127.0.0.1", "workers": 1, "request_timeout": 3_600,
            "clusters": { "web": { "backends": backends, "health": { "path": "/ready", "timeout": 0.5 } } },
        }));
        let mut clients = [loadx.client(), loadx.client()];
        for client in &mut clients {
            client.get("/");
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), "other");
        }
        loadx.wait_for_log("no answer within 0.5 s");
    }
}

#[test]
fn probes_have_a_port_of_their_own() {
    let application = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let (management, is_broken) = turning(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n",
    );
    let port = management.address().port();
    let health = json!({ "path": "/ready", "port": port, "interval": 0.05, "fall": 1 });
    let loadx = before(&application.address().to_string(), &health);
    loadx.wait_for_healthy(1);
    assert_eq!(loadx.get("/").text(), "ok");
    assert!(management.requests()[0].contains(&format!("\r\nHost: 127.0.0.1:{port}\r\n")));
    is_broken.store(true, Ordering::SeqCst);
    loadx.wait_for_healthy(0);
    let requests = application.requests();
    assert!(requests.iter().all(|request| request.starts_with("GET / ")), "{requests:?}");
}

#[test]
fn a_backend_can_wait_for_its_first_good_probe() {
    let unready = "HTTP/1.1 503 Starting\r\nContent-Length: 0\r\n\r\n";
    let (origin, is_ready) = turning(unready, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let health = json!({ "path": "/ready", "start": "down", "rise": 1 });
    let loadx = before(&origin.address().to_string(), &health);
    assert_eq!(loadx.get("/").status, 503);
    is_ready.store(true, Ordering::SeqCst);
    loadx.wait_for_healthy(1);
    assert_eq!(loadx.get("/").text(), "ok");
    let asked = origin.requests();
    assert!(asked[..asked.len() - 1].iter().all(|request| request.starts_with("GET /ready ")), "{asked:?}");
}

#[test]
fn a_cluster_of_several_routes_is_checked_once() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let routes: Vec<Value> = (0..5)
        .map(|number| json!({ "path_prefix": format!("/{number}"), "cluster": "web" }))
        .chain([json!({ "cluster": "web" })])
        .collect();
    let loadx = LoadX::of(&json!({
        "proxy_port": 0, "proxy_host": "127.0.0.1", "workers": 2, "routes": routes,
        "clusters": {
            "web": { "backends": [origin.address().to_string()], "health": { "path": "/ready", "interval": 3_600 } },
        },
    }));
    loadx.wait_for_log("is up: probe answered 200");
    eventually("a request follows", || (loadx.get("/3/x").status == 200).then_some(()));
    let probes = origin.requests().iter().filter(|request| request.starts_with("GET /ready ")).count();
    assert_eq!(probes, 1);
}
