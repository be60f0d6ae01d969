//! Limits of the requests at the same time, and the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::support::{LoadX, Origin, eventually};

/// An origin that takes 2 ms for a response, and the most requests that it had at the same time.
fn counting() -> (Origin, Arc<AtomicUsize>) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let told = Arc::clone(&most);
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            now.fetch_sub(1, Ordering::SeqCst);
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    (origin, told)
}

#[test]
fn a_backend_never_gets_more_than_its_limit_and_no_waiting_request_is_forgotten() {
    let (first, second) = (counting(), counting());
    // All requests of the load come from one address, and wait for as long as the load takes.
    let limits = json!({ "requests_per_backend": 2, "queue": 1_000, "queue_time": 3_600 });
    let settings = json!({
        "workers": 2, "enable_logging": false, "resilience": { "limits": limits }, "health_check_interval": 3_600,
    });
    let loadx = LoadX::with(&[first.0.address(), second.0.address()], &settings);
    // A forgotten request would wait for an hour. A machine that stalls for a moment is overload.
    let results = loadx.bench(2_000, 12, "/").results();
    assert_eq!(results["errors"], json!({}), "{results}");
    assert!(results["successful"].as_u64().unwrap() > 1_000, "{results}");
    for (_, most) in [&first, &second] {
        let most = most.load(Ordering::SeqCst);
        assert!(most <= 2, "{most} requests at the same time");
    }
    let status = loadx.status();
    assert_eq!(status["backends"][0]["limit"], 2);
    assert_eq!(status["clusters"]["default"]["waiting_requests"], 0);
}

#[test]
fn a_cluster_never_gets_more_than_its_limit() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let origin = || {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        Origin::start(move |connection| {
            while connection.request().is_some() {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(2));
                now.fetch_sub(1, Ordering::SeqCst);
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
        })
    };
    let origins = [origin(), origin(), origin()];
    let limits = json!({ "requests": 4, "queue": 1_000, "queue_time": 3_600 });
    let settings = json!({
        "workers": 2, "enable_logging": false, "resilience": { "limits": limits }, "health_check_interval": 3_600,
    });
    let loadx = LoadX::with(&origins.each_ref().map(Origin::address), &settings);
    let results = loadx.bench(2_000, 12, "/").results();
    assert_eq!(results["errors"], json!({}), "{results}");
    assert!(results["successful"].as_u64().unwrap() > 1_000, "{results}");
    assert!(most.load(Ordering::SeqCst) <= 4, "{} requests at the same time", most.load(Ordering::SeqCst));
    let cluster = &loadx.status()["clusters"]["default"];
    assert_eq!((&cluster["requests_limit"], &cluster["requests_in_flight"]), (&json!(4), &json!(0)));
}

#[test]
fn a_request_beyond_limit_and_queue_gets_503_with_retry_after() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.hold();
    });
    let limits = json!({ "requests_per_backend": 1, "queue": 1, "queue_time": 3_600 });
    let settings = json!({
        "workers": 1, "resilience": { "limits": limits },
        "clusters": { "web": { "backends": [origin.address().to_string()], "health": { "probe": "off" } } },
        "proxy_port": 0, "proxy_host": "127.0.0.1",
    });
    let loadx = LoadX::of(&settings);
    let waiting = || loadx.status()["clusters"]["web"]["waiting_requests"].as_u64().unwrap();
    let mut running = loadx.client();
    running.get("/");
    eventually("a request runs", || (loadx.status()["backends"][0]["active_connections"] == 1).then_some(()));
    let mut waits = loadx.client();
    waits.get("/");
    eventually("a request waits", || (waiting() == 1).then_some(()));
    // The queue is full: the oldest request of the client gives way.
    let mut last = loadx.client();
    last.get("/");
    let refused = waits.response();
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["error"], "connection_limit_reached");
    assert_eq!(waiting(), 1);
    // A client that leaves takes no place.
    drop(last);
    drop(running);
    eventually("the clients have left", || (loadx.status()["backends"][0]["active_connections"] == 0).then_some(()));
}

#[test]
fn the_time_of_the_exchange_limits_the_time_in_the_queue() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.hold();
    });
    let loadx = LoadX::of(&json!({
        "workers": 1, "exchange_timeout": 0.3, "proxy_port": 0, "proxy_host": "127.0.0.1",
        "clusters": { "web": { "backends": [origin.address().to_string()], "health": { "probe": "off" } } },
        "resilience": { "limits": { "requests_per_backend": 1, "queue_time": 3_600 } },
    }));
    let (mut runs, mut waits) = (loadx.client(), loadx.client());
    runs.get("/");
    waits.get("/");
    for client in [&mut runs, &mut waits] {
        let response = client.response();
        assert_eq!((response.status, response.json()["error"].as_str()), (504, Some("http_response_timeout")));
    }
}

#[test]
fn a_client_address_gets_no_more_than_its_connections() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let settings = json!({ "workers": 2, "max_connections_per_client": 3 });
    let loadx = LoadX::with(&[origin.address()], &settings);
    let mut clients: Vec<_> = (0..3).map(|_| loadx.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").response().text(), "ok");
    }
    let mut further = loadx.client();
    further.get("/");
    assert!(further.try_response().is_err(), "the connection is closed without a response");
    loadx.wait_for_log("127.0.0.1 has as many connections as one address may have (max_connections_per_client)");
    drop(clients.pop());
    eventually("a place comes free", || {
        let mut client = loadx.client();
        client.get("/");
        client.try_response().ok().map(|response| assert_eq!(response.text(), "ok"))
    });
}
