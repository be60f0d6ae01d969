//! Upgrades: after a 101 LoadX only moves bytes between the client and the backend.

use serde_json::json;

use crate::support::{Client, LoadX, Origin, eventually};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// An origin that answers 101, sends `early`, then echoes until the client ends its direction, and sends "bye".
fn echoing() -> Origin {
    Origin::start(|connection| {
        connection.head();
        connection.send(format!("{SWITCH}early"));
        while let Some(bytes) = connection.some() {
            connection.send(bytes);
        }
        connection.send("bye");
    })
}

#[test]
fn a_tunnel_carries_all_bytes_in_both_directions() {
    let origin = echoing();
    let loadx = LoadX::with(&[origin.address()], &json!({ "log_file": "LOG", "log_format": "json" }));
    let mut client = loadx.client();
    // The client sends before the 101.
    client.send(format!("{ASK}first "));
    let switched = client.response();
    let id = switched.field("x-request-id").unwrap();
    assert_eq!(
        switched.head,
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Request-Id: {id}\r\n\r\n"
        )
    );
    assert_eq!(client.bytes(11), b"earlyfirst ");
    assert_eq!(loadx.status()["backends"][0]["active_connections"], 1, "it counts for as long as it lasts");
    let large = vec![b'z'; 1 << 20];
    client.send_and_read(&large, large.len(), |echo| assert!(echo == large));
    // After a half-close the other direction continues.
    client.end();
    assert_eq!(client.until_end(), "bye");
    let line = eventually("it is logged when it ends", || loadx.access_log().lines().next().map(str::to_owned));
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["status"], &line["bytes"]), (&json!(101), &json!(5 + 6 + (1 << 20) + 3)));
    assert_eq!((&line["id"], &line["error"]), (&json!(id), &serde_json::Value::Null), "{line}");
    assert_eq!(loadx.status()["backends"][0]["active_connections"], 0);
    assert_eq!(loadx.metrics()["total_errors"], 0);
}

#[test]
fn a_reset_of_one_side_resets_the_other_side() {
    let origin = Origin::start(|connection| {
        connection.head();
        connection.send(SWITCH);
        match connection.some().as_deref() {
            Some(b"die") => connection.reset(),
            _ => while connection.some().is_some() {},
        }
    });
    let loadx = LoadX::before(&[origin.address()]);
    let mut client = loadx.client();
    client.send(ASK).response();
    let error = client.send("die").try_bytes(1).expect_err("nothing more comes");
    assert!(error.contains("reset"), "it must not look like an end: {error}");
    let mut client = loadx.client();
    client.send(ASK).response();
    client.reset();
    drop(client);
    eventually("the backend's side ends too", || {
        (loadx.status()["backends"][0]["active_connections"] == 0).then_some(())
    });
    assert_eq!(loadx.metrics()["total_errors"], 0, "clients and servers of tunnels come and go");
}

#[test]
fn a_silent_tunnel_ends() {
    let origin = echoing();
    let loadx = LoadX::with(&[origin.address()], &json!({ "tunnel_timeout": 0.5, "log_file": "LOG" }));
    let mut client = loadx.client();
    client.send(ASK).response();
    assert_eq!(client.bytes(5), b"early");
    assert!(client.try_bytes(1).is_err());
    eventually("the log tells why", || {
        loadx.access_log().contains("error=\"the tunnel broke: timed out\"").then_some(())
    });
}

#[test]
fn a_backend_may_decline() {
    let origin = Origin::start(|connection| {
        while let Some(request) = connection.request() {
            connection.send(if request.starts_with("GET /chat") {
                "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: irc/6.9\r\nContent-Length: 2\r\n\r\nno"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            });
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = loadx.client();
    let response = client.send(ASK).response();
    assert_eq!((response.status, response.field("upgrade")), (426, Some("irc/6.9")));
    assert_eq!(client.get("/").response().text(), "ok", "both connections go on in HTTP");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_101_for_a_protocol_without_an_offer_is_502() {
    for (request, response) in [
        (ASK, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"),
        (ASK, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        (ASK, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
        (ASK, "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", SWITCH),
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", SWITCH),
    ] {
        let origin = Origin::start(move |connection| {
            connection.head();
            connection.send(response);
        });
        let loadx = LoadX::before(&[origin.address()]);
        let answer = loadx.client().send(request).response();
        assert_eq!(answer.status, 502, "{request:?} {response:?}");
        assert_eq!(answer.json()["error"], "http_protocol_error");
    }
}

#[test]
fn a_body_precedes_the_tunnel() {
    let origin = Origin::start(|connection| {
        let request = connection.request().unwrap();
        assert!(request.ends_with("\r\n\r\nhello"), "{request}");
        connection.send(SWITCH);
        while let Some(bytes) = connection.some() {
            connection.send(bytes);
        }
    });
    let loadx = LoadX::before(&[origin.address()]);
    let mut client: Client = loadx.client();
    let head = ASK.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n");
    client.send(head).send("hel").send("lotunnelled");
    assert_eq!(client.response().status, 101);
    assert_eq!(client.bytes(9), b"tunnelled");
}

#[test]
fn a_half_closed_tunnel_ends_after_request_timeout() {
    let origin = Origin::start(|connection| {
        connection.head();
        connection.send(SWITCH);
        while connection.some().is_some() {}
        // The backend has seen the end of the client's direction, and does nothing.
        connection.hold();
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "tunnel_timeout": 3600, "request_timeout": 0.3 }));
    let mut client = loadx.client();
    client.send(ASK).response();
    client.end();
    eventually("the tunnel ends", || (loadx.status()["backends"][0]["active_connections"] == 0).then_some(()));
}

#[test]
fn an_upgrade_with_as_many_fields_as_may_be_goes_through() {
    let origin = echoing();
    let loadx = LoadX::before(&[origin.address()]);
    let many = ASK.replace("\r\n\r\n", &format!("\r\n{}\r\n", "A: b\r\n".repeat(97)));
    assert_eq!(loadx.client().send(many).response().status, 101);
}
