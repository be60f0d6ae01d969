//! Calls of gRPC.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use serde_json::{Value, json};

use crate::support::h2::code::CANCEL;
use crate::support::h2::{GET, H2Client, H2Message, H2Server, POST, backend, data, headers};
use crate::support::{LoadX, Origin, eventually};

/// The fields of a call.
const CALL: [(&str, &str); 6] =
    [POST[0], GET[1], GET[2], (":path", "/judge.Judge/Echo"), ("content-type", "application/grpc"), ("te", "trailers")];

/// One message of three bytes.
const MESSAGE: &[u8] = b"\0\0\0\0\x03abc";

/// A server that answers every call with nothing but this status.
fn refusing(status: &'static str) -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let origin = backend(&[], move |server| {
        while let Some((stream, _)) = server.request() {
            counted.fetch_add(1, Ordering::SeqCst);
            let fields = [
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-status", status),
                ("grpc-message", "at%20once"),
            ];
            server.send(headers(stream, true, &fields));
        }
    });
    (origin, count)
}

/// A server that echoes every call.
fn echoing() -> Origin {
    backend(&[], |server| {
        while let Some((stream, request)) = server.request() {
            let fields = [(":status", "200"), ("content-type", "application/grpc")];
            let head = headers(stream, false, &fields);
            server.send(
                [head, data(stream, &request.body, false), headers(stream, true, &[("grpc-status", "0")])].concat(),
            );
        }
    })
}

fn before(origins: &[&Origin], cluster: &Value) -> LoadX {
    let backends: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    let mut config = json!({
        "workers": 1, "proxy_port": 0, "proxy_host": "127.0.0.1", "log_file": "LOG", "log_fields": ["grpc_status"],
        "clusters": { "calls": { "backends": backends, "protocol": "h2", "health": { "probe": "off" } } },
        "routes": [{ "path_prefix": "/judge.Judge", "cluster": "calls" }],
    });
    for (key, value) in cluster.as_object().unwrap() {
        config["clusters"]["calls"][key] = value.clone();
    }
    LoadX::of(&config)
}

/// Makes a call with these further fields.
fn call(client: &mut H2Client, stream: u32, fields: &[(&str, &str)]) -> H2Message {
    let fields = [&CALL[..], fields].concat();
    client.send([headers(stream, false, &fields), data(stream, MESSAGE, true)].concat()).response(stream)
}

#[test]
fn calls_pass_with_their_status() {
    let origin = echoing();
    let loadx = before(&[&origin], &json!({}));
    let mut client = H2Client::connect(loadx.address);
    let response = call(&mut client, 1, &[]);
    assert_eq!((response.body.as_slice(), response.trailer("grpc-status")), (MESSAGE, Some("0")));
    assert_eq!(loadx.metrics()["clusters"]["calls"]["grpc_statuses"], json!({ "OK": 1 }));
    eventually("the log has the status", || loadx.access_log().contains("grpc_status=\"OK\"").then_some(()));
}

#[test]
fn errors_of_loadx_are_statuses_of_grpc() {
    let dead = Origin::start(|_| {});
    let loadx = before(&[&dead], &json!({}));
    let mut client = H2Client::connect(loadx.address);
    let response = call(&mut client, 1, &[]);
    // One section with the status, and no content: a caller must not take an error for a message.
    assert_eq!((response.status(), response.sections.len(), response.body.len()), (200, 1, 0));
    assert_eq!((response.field("content-type"), response.field("grpc-status")), (Some("application/grpc"), Some("14")));
    assert!(response.field("grpc-message").unwrap().contains("HTTP/2"), "{response:?}");
    // No route.
    let mut fields = CALL;
    fields[3] = (":path", "/other.Other/Echo");
    let response = client.send(headers(3, true, &fields)).response(3);
    assert_eq!((response.status(), response.field("grpc-status")), (200, Some("12")));
    // What is no call gets an error of HTTP.
    let response = client.get(5, "/other").response(5);
    assert_eq!((response.status(), response.field("grpc-status")), (404, None));
    let wanted = ["\" 502 ", "grpc_status=\"UNAVAILABLE\"", "grpc_status=\"UNIMPLEMENTED\""];
    eventually("the log has the statuses", || {
        let log = loadx.access_log();
        wanted.iter().all(|part| log.contains(part)).then_some(())
    });
}

#[test]
fn a_call_has_no_more_time_than_its_timeout() {
    let (told, tells) = channel();
    let origin = backend(&[], move |server| {
        while let Some((stream, request)) = server.request() {
            assert_eq!(request.asked("grpc-timeout"), Some("50m"));
            let _ = told.send(server.reset_of(stream));
        }
    });
    let loadx = before(&[&origin], &json!({}));
    let mut client = H2Client::connect(loadx.address);
    let response = call(&mut client, 1, &[("grpc-timeout", "50m")]);
    assert_eq!((response.status(), response.field("grpc-status")), (200, Some("4")));
    assert_eq!(tells.recv().unwrap(), Some(CANCEL));
    assert_eq!(loadx.metrics()["clusters"]["calls"]["grpc_statuses"], json!({ "DEADLINE_EXCEEDED": 1 }));
}

#[test]
fn a_status_to_retry_asks_another_backend() {
    let (first, count) = refusing("14");
    let second = echoing();
    let loadx = before(&[&first, &second], &json!({ "retry_grpc": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"] }));
    let mut client = H2Client::connect(loadx.address);
    for at in 0..6 {
        assert_eq!(call(&mut client, 1 + 2 * at, &[]).body, MESSAGE);
    }
    let refused = count.load(Ordering::SeqCst);
    assert!(refused >= 3, "{refused}");
    assert_eq!(loadx.metrics()["clusters"]["calls"]["grpc_statuses"], json!({ "OK": 6 }));
    assert_eq!(loadx.metrics()["retries"], refused);
}

#[test]
fn a_status_that_all_backends_give_reaches_the_client() {
    let (first, first_count) = refusing("8");
    let (second, second_count) = refusing("8");
    let loadx = before(&[&first, &second], &json!({ "retry_grpc": ["RESOURCE_EXHAUSTED"] }));
    let mut client = H2Client::connect(loadx.address);
    let response = call(&mut client, 1, &[]);
    assert_eq!((response.field("grpc-status"), response.field("grpc-message")), (Some("8"), Some("at%20once")));
    assert_eq!(first_count.load(Ordering::SeqCst) + second_count.load(Ordering::SeqCst), 2);
}

#[test]
fn another_status_is_not_retried() {
    let (first, count) = refusing("14");
    let loadx = before(&[&first], &json!({ "retry_grpc": ["ABORTED"] }));
    let mut client = H2Client::connect(loadx.address);
    let response = call(&mut client, 1, &[]);
    assert_eq!((response.field("grpc-status"), response.field("grpc-message")), (Some("14"), Some("at%20once")));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn the_metadata_of_a_status_reaches_the_client_if_no_other_backend_can_be_asked() {
    let origin = backend(&[], |server| {
        while let Some((stream, _)) = server.request() {
            let fields =
                [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "14"), ("x-details", "d")];
            server.send(headers(stream, true, &fields));
        }
    });
    let loadx = before(&[&origin], &json!({ "retry_grpc": ["UNAVAILABLE"] }));
    let response = call(&mut H2Client::connect(loadx.address), 1, &[]);
    assert_eq!((response.field("grpc-status"), response.field("x-details")), (Some("14"), Some("d")));
}

#[test]
fn the_metadata_of_a_status_reaches_the_client_if_messages_were_relayed() {
    let (told, tells) = channel();
    let script = move |server: &mut H2Server<'_>| {
        let Some((stream, _)) = server.head() else { return };
        let _ = told.send(());
        while server.so_far(stream).body.is_empty() {
            if server.frame().is_none() {
                return;
            }
        }
        let fields =
            [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "14"), ("x-details", "d")];
        server.send(headers(stream, true, &fields));
        while server.frame().is_some() {}
    };
    let (first, second) = (backend(&[], script.clone()), backend(&[], script));
    let loadx = before(&[&first, &second], &json!({ "retry_grpc": ["UNAVAILABLE"] }));
    let mut client = H2Client::connect(loadx.address);
    client.send(headers(1, false, &CALL));
    tells.recv().unwrap();
    let response = client.send(data(1, MESSAGE, false)).response(1);
    assert_eq!((response.field("grpc-status"), response.field("x-details")), (Some("14"), Some("d")));
    assert_eq!(first.connections() + second.connections(), 1);
}

#[test]
fn a_slow_stream_of_messages_goes_on() {
    let origin = backend(&[], |server| {
        let Some((stream, _)) = server.head() else { return };
        server.send(headers(stream, false, &[(":status", "200"), ("content-type", "application/grpc")]));
        // Echoes each message as it comes.
        let mut sent = 0;
        while !server.so_far(stream).is_complete {
            if server.frame().is_none() {
                return;
            }
            let body = server.so_far(stream).body;
            server.send(data(stream, &body[sent..], false));
            sent = body.len();
        }
        server.send(headers(stream, true, &[("grpc-status", "0")]));
        while server.frame().is_some() {}
    });
    // Far shorter than the pauses of the client, and a rate far above that of the client.
    let mut config = json!({ "request_timeout": 0.1 });
    config["connection_timeout"] = json!(5);
    let loadx = before(&[&origin], &config);
    let mut client = H2Client::connect(loadx.address);
    client.send(headers(1, false, &CALL));
    for at in 1..=5 {
        std::thread::sleep(std::time::Duration::from_millis(150));
        client.send(data(1, MESSAGE, false));
        while client.so_far(1).body.len() < at * MESSAGE.len() {
            client.frame();
        }
    }
    let response = client.send(data(1, b"", true)).response(1);
    assert_eq!((response.body.len(), response.trailer("grpc-status")), (5 * MESSAGE.len(), Some("0")));
}

#[test]
fn metadata_that_are_too_large_have_a_status() {
    let origin = echoing();
    let loadx = before(&[&origin], &json!({}));
    let response = call(&mut H2Client::connect(loadx.address), 1, &[("x", "y"); 101]);
    assert_eq!((response.status(), response.field("grpc-status")), (200, Some("8")));
}

#[test]
fn a_status_with_long_details_reaches_the_client() {
    let details = "x".repeat(12_000);
    let sent = details.clone();
    let origin = backend(&[], move |server| {
        while let Some((stream, request)) = server.request() {
            let trailers = [("grpc-status", "9"), ("grpc-status-details-bin", sent.as_str())];
            let head = headers(stream, false, &[(":status", "200"), ("content-type", "application/grpc")]);
            server.send([head, data(stream, &request.body, false), headers(stream, true, &trailers)].concat());
        }
    });
    let loadx = before(&[&origin], &json!({}));
    let answer = call(&mut H2Client::connect(loadx.address), 1, &[]);
    assert_eq!((answer.trailer("grpc-status"), &answer.body[..]), (Some("9"), MESSAGE));
    assert_eq!(answer.trailer("grpc-status-details-bin"), Some(details.as_str()));
}
