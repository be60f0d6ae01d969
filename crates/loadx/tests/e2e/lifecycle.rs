//! Starting, stopping, and the limit of connections.

use std::time::Duration;

use serde_json::json;

use crate::support::{Client, Killed, LoadX, Origin, eventually, loadx};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn sigterm_finishes_running_requests_and_closes_idle_connections() {
    let (origin, answer) = Origin::with_slow_path();
    let mut loadx = LoadX::with(&[origin.address()], &json!({ "workers": 2 }));
    let mut idle = loadx.client();
    assert_eq!(idle.get("/").response().status, 200);
    let mut running = loadx.client();
    running.get("/slow");
    eventually("the slow request is with the origin", || (origin.requests().len() == 2).then_some(()));
    loadx.terminate();
    assert!(idle.is_closed(), "idle connections close at once");
    eventually("it listens no more", || std::net::TcpStream::connect(loadx.address).is_err().then_some(()));
    answer.send(()).unwrap();
    let response = running.response();
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    assert_eq!(loadx.wait().code(), Some(0));
}

#[test]
fn ctrl_c_ends_running_requests_after_the_grace() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.take(1);
    });
    let mut loadx = LoadX::with(&[origin.address()], &json!({ "shutdown_grace": 0.2 }));
    let mut running = loadx.client();
    running.get("/");
    eventually("the request is with the origin", || (origin.requests().len() == 1).then_some(()));
    loadx.interrupt();
    assert_eq!(loadx.wait().code(), Some(0));
    assert!(running.try_response().is_err());
    loadx.wait_for_log("the shutdown grace of 0.2 s is over");
}

#[test]
fn silent_clients_and_partial_requests_do_not_delay_the_stop() {
    let origin = Origin::answering(OK);
    let mut loadx = LoadX::with(&[origin.address()], &json!({ "shutdown_grace": 20, "workers": 2 }));
    let silent = loadx.client();
    let mut half = loadx.client();
    half.send("GET / HT");
    eventually("both are connected", || (loadx.status()["connections"]["open"] == 3).then_some(()));
    loadx.terminate();
    assert_eq!(loadx.wait().code(), Some(0));
    assert!(!loadx.log().contains("grace of"), "no request used the grace up: {}", loadx.log());
    drop(silent);
}

#[test]
fn a_response_cut_by_the_end_of_the_grace_is_reset_and_logged() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        connection.take(1);
    });
    let settings = json!({ "shutdown_grace": 0.2, "log_file": "LOG", "log_format": "json" });
    let mut loadx = LoadX::with(&[origin.address()], &settings);
    let mut client = loadx.client();
    // For HTTP/1.0 the end of the connection is the end of the body.
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    eventually("the request is with the origin", || (origin.requests().len() == 1).then_some(()));
    loadx.terminate();
    let broken = client.try_response();
    assert!(broken.is_err(), "{broken:?}");
    assert_eq!(loadx.wait().code(), Some(0));
    let log = loadx.access_log();
    assert!(log.contains("cut at the end of the shutdown's grace"), "{log}");
}

#[test]
fn a_waiting_connection_gets_the_next_free_place() {
    let (answer, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::start(move |connection| {
        while let Some(request) = connection.request() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
            if request.starts_with("GET /slow ") {
                wait.lock().unwrap().recv().unwrap();
            }
            connection.send("ok");
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "max_connections": 1, "workers": 1 }));
    let mut first = loadx.client();
    first.get("/slow");
    eventually("the response has begun", || (origin.requests().len() == 1).then_some(()));
    let mut second = loadx.client();
    second.get("/");
    answer.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    assert_eq!(second.response().status, 200, "though the first one stays connected");
}

#[test]
fn when_no_place_comes_free_the_endpoints_answer_and_other_clients_get_503() {
    let (origin, answer) = Origin::with_slow_path();
    let settings = json!({ "max_connections": 1, "workers": 1, "keepalive_timeout": 60 });
    let loadx = LoadX::with(&[origin.address()], &settings);
    let mut first = loadx.client();
    first.get("/slow");
    eventually("the request is with the origin", || (origin.requests().len() == 1).then_some(()));
    let mut other = loadx.client();
    other.get("/");
    let refused = other.response();
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["error"], "connection_limit_reached");
    assert_eq!(refused.field("connection"), Some("close"));
    loadx.wait_for_log("all places for clients are taken (max_connections)");
    // More than there are spare places, so that each of them is given back.
    for _ in 0..100 {
        assert_eq!(loadx.get("/__health__").status, 200);
        assert_eq!(loadx.get("/").status, 503);
    }
    assert_eq!(origin.requests().len(), 1, "no other request reached the origin");
    answer.send(()).unwrap();
    assert_eq!(first.response().status, 200);
    first.end();
    eventually("a place is free", || (loadx.get("/").status == 200).then_some(()));
}

#[test]
fn a_lack_of_places_that_is_over_closes_no_connection() {
    let (origin, answer) = Origin::with_slow_path();
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }, { "address": "127.0.0.1:0", "name": "other" }],
        "max_connections": 2, "workers": 1, "backend_servers": [{ "host": "127.0.0.1", "port": origin.address().port() }],
    }));
    let mut running = [loadx.client(), loadx.client()];
    for client in &mut running {
        client.get("/slow");
    }
    eventually("both requests are with the origin", || (origin.requests().len() == 2).then_some(()));
    // The other listener finds no place, and gets no further client afterwards.
    let other = *loadx.addresses().iter().find(|address| **address != loadx.address).unwrap();
    assert_eq!(Client::connect(other).get("/").response().status, 503);
    (0..2).for_each(|_| answer.send(()).unwrap());
    for mut client in running {
        assert_eq!(client.response().status, 200);
    }
    // The places are free, and the other listener still remembers the lack.
    eventually("a connection stays open", || {
        let response = loadx.get("/");
        (response.status == 200 && response.field("connection") != Some("close")).then_some(())
    });
}

#[test]
fn when_descriptors_are_lacking_an_idle_client_makes_room() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};

    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let settings = json!({ "workers": 1, "keepalive_timeout": 3_600, "health_check_interval": 3_600 });
    let loadx = LoadX::with(&[origin.address()], &settings);
    loadx.wait_for_healthy(1);
    let mut idle: Vec<_> = (0..10).map(|_| loadx.client()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").response().status, 200);
    }
    let files = std::fs::read_dir(format!("/proc/{}/fd", loadx.pid())).unwrap().count() as u64;
    let limit = Rlimit { current: Some(files), maximum: Some(files) };
    prlimit(Pid::from_raw(loadx.pid() as i32), Resource::Nofile, limit).unwrap();
    // Further clients than there are descriptors: for each of them an idle one goes.
    let mut further: Vec<_> = (0..5).map(|_| loadx.client()).collect();
    for client in &mut further {
        assert_eq!(client.get("/").response().status, 200);
    }
    loadx.wait_for_log("clients cannot be accepted");
    let left = |idle: &mut Vec<Client>| {
        idle.iter_mut().map(|client| usize::from(client.is_silent(Duration::from_millis(1)))).sum::<usize>()
    };
    eventually("an idle client has gone", || (left(&mut idle) < 10).then_some(()));
}

#[test]
fn when_memory_is_short_new_requests_are_refused_and_what_runs_goes_on() {
    let (origin, answer) = Origin::with_slow_path();
    let config = |most: u64| {
        json!({
            "proxy_port": 0, "proxy_host": "127.0.0.1", "workers": 1, "max_memory": most,
            "backend_servers": [{ "host": "127.0.0.1", "port": origin.address().port() }],
        })
    };
    let (enough, little) = (1_u64 << 40, 1_u64 << 20);
    let loadx = LoadX::of(&config(enough));
    let (mut running, mut idle) = (loadx.client(), loadx.client());
    assert_eq!(idle.get("/").response().status, 200);
    running.get("/slow");
    eventually("the request is with the origin", || (origin.requests().len() == 2).then_some(()));
    loadx.reload(&config(little));
    loadx.wait_for_log("of 1 MiB of memory are used: LoadX closes idle connections and answers new requests with 503");
    assert!(idle.is_closed());
    let refused = loadx.get("/");
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["message"], "LoadX is short of memory; try again later");
    let health = loadx.get("/__health__");
    assert_eq!((health.status, &health.json()["status"]), (503, &json!("short of memory")));
    answer.send(()).unwrap();
    assert_eq!(running.response().status, 200);
    loadx.reload(&config(enough));
    loadx.wait_for_log("memory is no longer short");
    assert_eq!(loadx.get("/").status, 200);
}

#[test]
fn a_second_loadx_on_the_port_is_told_so() {
    let origin = Origin::answering(OK);
    let first = LoadX::with(&[origin.address()], &json!({ "workers": 2 }));
    let listen = first.address.to_string();
    let output = loadx(&["run", "--listen", &listen, "--to", "127.0.0.1:1"]);
    assert_eq!(output.code, Some(2), "{output:?}");
    let port = first.address.port();
    assert!(output.stderr.contains(&format!("cannot listen on {listen}: port {port} is in use")), "{output:?}");
    for _ in 0..20 {
        assert_eq!(first.get("/").text(), "ok", "and nothing was shared");
    }
}

#[test]
fn connections_beyond_the_limit_wait_and_idle_ones_make_room() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "max_connections": 2, "workers": 2 }));
    let mut first = loadx.client();
    assert_eq!(first.get("/").response().status, 200);
    // Each of these connections finds all places occupied by idle connections.
    for _ in 0..10 {
        let mut client = loadx.client();
        assert_eq!(client.get("/").response().status, 200);
        std::mem::forget(client);
    }
    let open = loadx.status()["connections"]["open"].as_u64().unwrap();
    assert!(open <= 2, "{open}");
}

#[test]
fn few_connections_are_spread_over_the_workers() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 4 }));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = loadx.client();
        assert_eq!(client.get("/").response().status, 200);
        clients.push(client);
    }
    let status = clients[0].get("/__status__").response().json();
    assert_eq!(status["connections"]["by_worker"], json!([2, 2, 2, 2]));
}

#[test]
fn loadx_run_needs_no_config_file() {
    let origin = Origin::answering(OK);
    let free = crate::support::unused_address();
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_loadx"))
        .args(["run", "--listen", &free.to_string(), "--to", &origin.address().to_string()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _child = Killed(child);
    let stream = eventually("it listens", || std::net::TcpStream::connect(free).ok());
    assert_eq!(Client::over(stream).get("/").response().text(), "ok");
}
