//! Idle connections of clients.

use std::time::Duration;

use loadx_proxy::start_local;
use serde_json::json;
use tokio::time::Instant;

use crate::conditions::Conditions;
use crate::network::SimNet;
use crate::scenario::in_virtual_time;
use crate::wire::{Framing, Wire, send};

/// For how long a connection is idle before LoadX closes it. The request comes this long after the start.
fn idle_time(timeout: f64, after: Duration) -> Duration {
    in_virtual_time(async move {
        let net = SimNet::new(1, Conditions::good());
        let config = json!({
            "proxy_host": "10.0.0.1", "workers": 1, "enable_logging": false, "keepalive_timeout": timeout,
            "routes": [{ "respond": { "body": "ok" } }],
        });
        let config = loadx_core::config::parse(&config.to_string()).unwrap();
        let proxy = start_local(&config, &net, 1, &<_>::default()).await.unwrap();
        tokio::time::sleep(after).await;
        let stream = net.connect_from("10.0.2.1:1".parse().unwrap(), "10.0.0.1:8080".parse().unwrap()).await.unwrap();
        let mut client = Wire::new(stream);
        send(&client.stream, b"GET / HTTP/1.1\r\nHost: sim\r\n\r\n").await.unwrap();
        let head = client.head().await.unwrap();
        assert_eq!(head.status(), 200);
        client.body(head.framing().unwrap_or(Framing::Length(0))).await;
        let began = Instant::now();
        assert!(client.more().await.is_err(), "LoadX sends nothing more");
        let idle = began.elapsed();
        drop(client);
        proxy.stop().await;
        idle
    })
}

#[test]
fn an_idle_connection_is_closed_within_a_second_of_its_time() {
    // Less and more than the time after which a connection is parked, at several moments of a second.
    for timeout in [0.3, 2.0, 10.1] {
        for after in (0..1_300).step_by(90) {
            let late = idle_time(timeout, Duration::from_millis(after)).as_secs_f64() - timeout;
            assert!((-0.01..0.8).contains(&late), "{late} s late, with {timeout} s, {after} ms after the start");
        }
    }
}
