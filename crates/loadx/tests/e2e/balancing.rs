//! The three algorithms, over all workers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::{LoadX, Origin, TestBackend};

fn three() -> (Vec<TestBackend>, Vec<SocketAddr>) {
    let backends: Vec<TestBackend> = (1..=3).map(|number| TestBackend::start(&format!("backend-{number}"))).collect();
    let addresses = backends.iter().map(|backend| backend.address).collect();
    (backends, addresses)
}

#[test]
fn round_robin_is_exact_over_all_workers() {
    let (_backends, addresses) = three();
    let loadx = LoadX::with(&addresses, &json!({ "workers": 4, "enable_logging": false }));
    let results = loadx.bench(10_000, 50, "/").results();
    let mut counts: Vec<u64> = results["backends"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [3_333, 3_333, 3_334]);
    let open = loadx.status()["connections"]["by_worker"].as_array().unwrap().len();
    assert_eq!(open, 4);
}

#[test]
fn weights_share_the_traffic() {
    let (_backends, addresses) = three();
    let weighted: Vec<Value> = addresses
        .iter()
        .zip([3, 2, 1])
        .map(|(at, weight)| json!({ "host": "127.0.0.1", "port": at.port(), "weight": weight }))
        .collect();
    let loadx =
        LoadX::of(&json!({ "proxy_port": 0, "proxy_host": "127.0.0.1", "workers": 2, "backend_servers": weighted }));
    let results = loadx.bench(600, 10, "/").results();
    assert_eq!(results["backends"], json!({ "backend-1": 300, "backend-2": 200, "backend-3": 100 }));
}

#[test]
fn least_connections_avoids_the_busy_backend() {
    let (_backends, addresses) = three();
    let loadx = LoadX::with(&addresses, &json!({ "algorithm": "least_connections", "workers": 2 }));
    // One backend is busy with a long request; everything else goes to the other two.
    let mut long = loadx.client();
    long.get("/delay/60000");
    let busy = crate::support::eventually("the long request runs", || {
        let status = loadx.status();
        let backends = status["backends"].as_array().unwrap().clone();
        backends.into_iter().find(|backend| backend["active_connections"] == 1)
    });
    let mut client = loadx.client();
    for _ in 0..20 {
        let server = client.get("/info").response().json()["port"].clone();
        assert_ne!(server, busy["port"]);
    }
}

#[test]
fn ip_hash_moves_only_the_clients_of_a_stopped_backend() {
    let (mut backends, addresses) = three();
    let settings = json!({
        "algorithm": "ip_hash", "workers": 2, "trusted_proxies": ["127.0.0.1"], "health_check_interval": 0.1,
    });
    let loadx = LoadX::with(&addresses, &settings);
    let other = LoadX::with(&addresses, &settings);
    let assignment = |loadx: &LoadX| -> BTreeMap<String, String> {
        let mut client = loadx.client();
        (0..60)
            .map(|number| {
                let ip = format!("198.51.100.{number}");
                let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {ip}\r\n\r\n");
                (ip, client.send(request).response().field("x-backend").unwrap().to_owned())
            })
            .collect()
    };
    loadx.wait_for_healthy(3);
    let before = assignment(&loadx);
    assert_eq!(before, assignment(&loadx), "a client keeps its backend");
    assert_eq!(before, assignment(&other), "and has the same on every LoadX");
    backends[1].kill();
    let without = assignment(&loadx);
    for (ip, server) in &before {
        assert!(server == "backend-2" || without[ip] == *server, "{ip} moved from {server} though backend-2 left");
    }
    backends[1].restart();
    loadx.wait_for_healthy(3);
    assert_eq!(assignment(&loadx), before, "they return with it");
}

#[test]
fn an_unresolvable_name_is_a_state_and_not_an_error() {
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let loadx = LoadX::of(&json!({
        "proxy_port": 0, "proxy_host": "127.0.0.1",
        "backend_servers": [
            { "host": "no-such-host.invalid", "port": 80 },
            { "host": "127.0.0.1", "port": origin.address().port() },
        ],
    }));
    for _ in 0..4 {
        assert_eq!(loadx.get("/").text(), "ok");
    }
    let status = loadx.status();
    assert_eq!(status["backends"][0]["healthy"], false);
    assert!(status["backends"][0]["reason"].as_str().unwrap().starts_with("does not resolve: "), "{status}");
    loadx.wait_for_log("backend no-such-host.invalid:80 does not resolve");
}
