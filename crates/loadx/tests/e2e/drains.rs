//! A backend that leaves, because it was removed or is drained, gets no new requests; what runs there has a limit.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::{LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An origin with a tunnel at /socket, the begin of a response without end at /long, and silence at /silent.
fn origin() -> Origin {
    Origin::start(|connection| {
        while let Some(request) = connection.request() {
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            match path.as_str() {
                "/socket" => {
                    connection
                        .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
                    while let Some(bytes) = connection.some() {
                        connection.send(bytes);
                    }
                    return;
                }
                "/long" => {
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nfirst");
                    connection.hold();
                    return;
                }
                "/silent" => {
                    connection.hold();
                    return;
                }
                _ => connection.send(OK),
            }
        }
    })
}

fn config(limit: f64, backends: &[(SocketAddr, bool)]) -> Value {
    let backends: Vec<Value> = backends
        .iter()
        .map(|(at, drain)| json!({ "host": at.ip().to_string(), "port": at.port(), "drain": drain }))
        .collect();
    json!({ "proxy_host": "127.0.0.1", "proxy_port": 0, "drain_timeout": limit, "clusters": { "app": { "backends": backends } } })
}

#[test]
fn what_runs_at_a_backend_that_leaves_ends_at_the_limit() {
    for (case, drained) in [("removed", None), ("drained", Some(true))] {
        let (leaves, stays) = (origin(), Origin::answering(OK));
        let loadx = LoadX::of(&config(0.3, &[(leaves.address(), false)]));
        let mut socket = loadx.client();
        socket.send("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(socket.response().status, 101);
        let mut long = loadx.client();
        long.get("/long");
        assert_eq!(long.peek_status(), 200);
        let mut silent = loadx.client();
        silent.get("/silent");
        eventually("the silent request is with the origin", || {
            leaves.requests().iter().any(|request| request.starts_with("GET /silent")).then_some(())
        });
        let left = drained.map(|drain| (leaves.address(), drain));
        let next: Vec<_> = left.into_iter().chain([(stays.address(), false)]).collect();
        let before = loadx.status()["draining"].clone();
        assert_eq!(before, json!([]), "{case}");
        loadx.reload(&config(0.3, &next));
        assert_eq!(loadx.get("/").text(), "ok", "{case}");
        assert_eq!(silent.response().text(), "ok", "{case}: a request without a response goes to another backend");
        assert_eq!(socket.until_end(), "", "{case}");
        assert!(long.try_response().unwrap_err().contains("broke"), "{case}: a truncated response must not look whole");
        loadx.wait_for_log("is over; LoadX ends its running exchanges (3)");
        eventually("the access log says why", || {
            (loadx.stdout().matches("the drain of the backend was over").count() >= 2).then_some(())
        });
        assert_eq!(loadx.status()["draining"], json!([]), "{case}");
    }
}

#[test]
fn the_end_of_a_drain_closes_a_tunnel_without_a_reset() {
    let leaves = origin();
    let loadx = LoadX::of(&config(0.2, &[(leaves.address(), false)]));
    let mut socket = loadx.client();
    socket.send("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(socket.response().status, 101);
    socket.send("unread");
    loadx.reload(&config(0.2, &[(leaves.address(), true)]));
    let status = loadx.status();
    assert_eq!((&status["backends"][0]["state"], &status["healthy_backends"]), (&json!("drained"), &json!(0)));
    loadx.wait_for_log("is over");
    assert_eq!(socket.bytes(6), b"unread", "what was under way arrives");
    assert!(socket.try_bytes(1).unwrap_err().contains("ended"), "the connection ends with the end of the stream");
}

#[test]
fn a_drained_backend_serves_again_after_the_drain() {
    let (first, second) = (Origin::answering(OK), Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2"));
    let with = |drain| config(600.0, &[(first.address(), drain), (second.address(), false)]);
    let loadx = LoadX::of(&with(true));
    let texts = |loadx: &LoadX| (0..4).map(|_| loadx.get("/").text()).collect::<Vec<_>>().concat();
    assert_eq!(texts(&loadx), "2222");
    loadx.reload(&with(false));
    assert_eq!(texts(&loadx).matches("ok").count(), 2);
}
