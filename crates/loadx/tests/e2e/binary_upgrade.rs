//! An upgrade of the binary: a new process takes over, and no client notices.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{LoadX, Origin, eventually, signal_to, start};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn config(backends: &[SocketAddr]) -> Value {
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    json!({ "proxy_host": "127.0.0.1", "proxy_port": 0, "clusters": { "app": { "backends": backends } } })
}

/// An origin that also has a tunnel at /socket.
fn origin() -> Origin {
    Origin::start(|connection| {
        while let Some(request) = connection.request() {
            if request.starts_with("GET /socket ") {
                connection
                    .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
                while let Some(bytes) = connection.some() {
                    connection.send(bytes);
                }
                return;
            }
            connection.send(OK);
        }
    })
}

fn has_ended(pid: u32) -> bool {
    // A process that has ended and whose parent has not looked yet is a zombie.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.is_empty() || status.contains(") Z ")
}

#[test]
fn ten_upgrades_under_load_lose_no_request_and_no_tunnel() {
    let origin = origin();
    let mut loadx = LoadX::of(&config(&[origin.address()]));
    loadx.wait_for_healthy(1);
    let bench = loadx.bench(20_000, 16, "/");
    let mut sockets = Vec::new();
    let mut former = loadx.pid();
    for _ in 0..10 {
        let mut socket = loadx.client();
        socket.send("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(socket.response().status, 101);
        sockets.push(socket);
        let next = loadx.upgrade();
        assert_ne!(next, former);
        let status = loadx.ctl_json(&["status"]);
        assert_eq!(status["pid"], next, "loadx ctl reaches the new process");
        former = next;
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        let text = format!("tunnel {number:03}");
        socket.send(&text);
        assert_eq!(socket.bytes(text.len()), text.as_bytes(), "each tunnel lives on in its process");
    }
    let results = bench.results();
    assert_eq!((&results["failed"], &results["errors"]), (&json!(0), &json!({})), "{results}");
    assert!(!has_ended(loadx.pid()));
    drop(sockets);
    loadx.wait();
    assert_eq!(loadx.get("/").text(), "ok");
}

#[test]
fn the_new_process_knows_health_changes_and_the_config_that_runs() {
    let (up, drained) = (Origin::answering(OK), Origin::answering(OK));
    let down: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let mut loadx = LoadX::of(&config(&[up.address(), down]));
    loadx.ctl(&["add", &drained.address().to_string()]);
    loadx.ctl(&["drain", &drained.address().to_string(), "--keep"]);
    eventually("the probes have ended", || {
        let backends = loadx.ctl_json(&["backends"]);
        (backends[0]["state"] == "up" && backends[1]["state"] == "down").then_some(())
    });
    // The file changes, and an upgrade is no reload.
    std::fs::write(loadx.config_path(), "{").unwrap();
    let before = loadx.ctl_json(&["backends"]);
    loadx.upgrade();
    let after = loadx.ctl_json(&["backends"]);
    let shown = |backends: &Value| -> Vec<Value> {
        let all = backends.as_array().unwrap();
        all.iter().map(|one| json!([one["name"], one["state"], one["reason"], one["weight"]])).collect()
    };
    assert_eq!(shown(&before), shown(&after));
    assert_eq!(loadx.get("/").text(), "ok");
    loadx.wait();
    loadx.wait_for_log("taking over from LoadX");
}

#[test]
fn sigusr2_upgrades_too() {
    let origin = Origin::answering(OK);
    let mut loadx = LoadX::of(&config(&[origin.address()]));
    loadx.signal(Signal::USR2);
    loadx.wait_for_log("took over (SIGUSR2)");
    loadx.wait();
    let pid = loadx.ctl_json(&["status"])["pid"].as_u64().unwrap() as u32;
    loadx.note_successor(pid);
    assert_eq!(loadx.get("/").text(), "ok");
    signal_to(pid, Signal::TERM);
    eventually("the new process stops", || has_ended(pid).then_some(()));
}

#[test]
fn when_the_new_process_fails_the_former_goes_on() {
    let origin = Origin::answering(OK);
    let mut loadx = LoadX::of(&config(&[origin.address()]));
    let mut idle = loadx.client();
    assert_eq!(idle.get("/").response().text(), "ok");
    let script = |name: &str, text: &str| {
        let path = loadx.file(name, &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    for (binary, told) in [
        ("/no/such/binary".to_owned(), "cannot start /no/such/binary"),
        (script("fails", "exit 3"), "ended"),
        (script("speaks", "printf 'hello, no LoadX' >&0"), "does not answer as a LoadX"),
    ] {
        let output = loadx.ctl(&["upgrade", "--binary", &binary]);
        assert_eq!(output.code, Some(1), "{binary}");
        assert!(output.stderr.contains("the upgrade failed, this LoadX goes on"), "{}", output.stderr);
        assert!(output.stderr.contains(told), "{binary}: {}", output.stderr);
        assert_eq!(loadx.get("/").text(), "ok");
    }
    assert_eq!(idle.get("/").response().text(), "ok", "no connection was closed");
    assert_eq!(loadx.ctl(&["drain", &origin.address().to_string()]).code, Some(0), "changes are possible again");
    assert_eq!(loadx.ctl(&["ready", &origin.address().to_string()]).code, Some(0));
    loadx.upgrade();
    assert_eq!(loadx.get("/").text(), "ok");
}

#[test]
fn no_upgrade_during_a_trial() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::of(&config(&[origin.address()]));
    let file = loadx.file("next.json", &config(&[origin.address()]).to_string());
    loadx.ctl(&["apply", &file, "--watch", "60s"]);
    let output = loadx.ctl(&["upgrade"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains("is on trial"), "{}", output.stderr);
}

#[test]
fn a_retired_process_ends_its_connections_with_their_next_response() {
    let origin = Origin::answering(OK);
    let mut loadx = LoadX::of(&config(&[origin.address()]));
    let mut idle = loadx.client();
    assert_eq!(idle.get("/").response().field("connection"), None);
    loadx.upgrade();
    let response = idle.get("/").response();
    assert_eq!((response.text(), response.field("connection")), ("ok".to_owned(), Some("close")));
    assert!(idle.is_closed());
    loadx.wait();
    assert_eq!(loadx.get("/").field("connection"), None);
}

#[test]
fn a_response_that_is_under_way_at_the_upgrade_does_not_cost_the_next_request() {
    let (rest, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::start(move |connection| {
        while let Some(request) = connection.request() {
            if request.starts_with("GET /half ") {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
                wait.lock().unwrap().recv().unwrap();
                connection.send("rest");
            } else {
                connection.send(OK);
            }
        }
    });
    let mut loadx = LoadX::of(&config(&[origin.address()]));
    let mut client = loadx.client();
    client.get("/half");
    assert_eq!(client.peek_status(), 200);
    loadx.upgrade();
    rest.send(()).unwrap();
    let response = client.response();
    assert_eq!((response.text(), response.field("connection")), ("halfrest".to_owned(), None));
    // The head promised to keep the connection, so that the client may use it.
    let response = client.get("/").response();
    assert_eq!((response.text(), response.field("connection")), ("ok".to_owned(), Some("close")));
    loadx.wait();
}

#[test]
fn the_new_process_shows_the_former_ones_and_drains_backends_there_too() {
    let (drained, stays) = (origin(), origin());
    let mut typed = config(&[drained.address(), stays.address()]);
    typed["drain_timeout"] = json!(2);
    let mut loadx = LoadX::of(&typed);
    let upgrade = "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    // One tunnel to each backend, in the first process.
    let mut sockets: Vec<_> = (0..2)
        .map(|_| {
            let mut socket = loadx.client();
            socket.send(upgrade);
            assert_eq!(socket.response().status, 101);
            socket
        })
        .collect();
    let mut keeps = loadx.client();
    assert_eq!(keeps.get("/").response().status, 200);
    loadx.upgrade();
    loadx.upgrade();
    let formers = eventually("the former process has reported", || {
        let formers = loadx.ctl_json(&["status"])["former_processes"].clone();
        (formers[0]["tunnels"] == 2).then_some(formers)
    });
    assert_eq!(formers[0]["pid"], loadx.pid(), "{formers}");
    assert!(loadx.ctl(&["connections"]).stdout.contains("former process"));
    loadx.ctl(&["drain", &drained.address().to_string()]);
    let before = drained.requests().iter().filter(|request| request.starts_with("GET / ")).count();
    eventually("the former process knows of the drain", || {
        loadx.log().matches("is drained: no new requests").count().ge(&2).then_some(())
    });
    assert_eq!(keeps.get("/").response().status, 200);
    assert_eq!(drained.requests().iter().filter(|request| request.starts_with("GET / ")).count(), before);
    // The drain limit holds there too, and so does the one of the upgrade.
    for socket in &mut sockets {
        assert!(socket.is_closed());
    }
    loadx.wait();
    eventually("no former process is shown", || {
        (loadx.ctl_json(&["status"])["former_processes"] == json!([])).then_some(())
    });
}

#[test]
fn the_numbers_of_plans_go_on_after_an_upgrade() {
    let origin = Origin::answering(OK);
    let mut loadx = LoadX::of(&config(&[origin.address()]));
    let known = loadx.ctl_json(&["status"])["generation"].to_string();
    loadx.upgrade();
    let late = loadx.ctl(&["drain", &origin.address().to_string(), "--generation", &known]);
    assert_eq!(late.code, Some(1));
    assert!(late.stderr.contains("this process took over"), "{}", late.stderr);
}

#[test]
fn a_new_program_that_hangs_gets_no_socket_and_goes_with_loadx() {
    let origin = Origin::answering(OK);
    let mut loadx = LoadX::of(&config(&[origin.address()]));
    let script = loadx.file("hangs", "#!/bin/sh\necho $$ > \"$0.pid\"; exec sleep 60\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let pid = std::path::PathBuf::from(format!("{script}.pid"));
    let socket = loadx.socket();
    let waiting = start(&["ctl", "--socket", socket.to_str().unwrap(), "upgrade", "--binary", &script]);
    let pid: u32 = eventually("the program runs", || std::fs::read_to_string(&pid).ok()?.trim().parse().ok());
    loadx.note_successor(pid);
    assert_eq!(loadx.get("/").text(), "ok");
    let address = loadx.address;
    loadx.terminate();
    loadx.wait();
    eventually("the program that hung has ended", || has_ended(pid).then_some(()));
    assert!(std::net::TcpListener::bind(address).is_ok(), "nobody holds the port");
    drop(waiting);
}

#[test]
fn a_watched_file_that_changes_just_before_an_upgrade_is_read_after_it() {
    let (old, new) = (Origin::answering(OK), Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew"));
    let mut loadx = LoadX::of_with(&config(&[old.address()]), &["--watch"]);
    std::fs::write(loadx.config_path(), config(&[new.address()]).to_string()).unwrap();
    loadx.upgrade();
    eventually("the file is read", || (loadx.get("/").text() == "new").then_some(()));
}

#[test]
fn events_end_when_another_process_takes_over() {
    let origin = Origin::answering(OK);
    let mut loadx = LoadX::of(&config(&[origin.address()]));
    let events = start(&["ctl", "--socket", loadx.socket().to_str().unwrap(), "events"]);
    eventually("an event arrives", || {
        loadx.ctl(&["drain", &origin.address().to_string()]);
        loadx.ctl(&["ready", &origin.address().to_string()]);
        events.has_said("is drained").then_some(())
    });
    loadx.upgrade();
    let output = events.output();
    assert!(output.stderr.contains("LoadX ended the events"), "{}", output.stderr);
    assert!(output.stdout.contains("took over"), "{}", output.stdout);
}

#[test]
fn a_killed_process_leaves_the_other_one_to_serve() {
    let origin = origin();
    let mut loadx = LoadX::of(&config(&[origin.address()]));
    let mut socket = loadx.client();
    socket.send("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(socket.response().status, 101);
    let next = loadx.upgrade();
    loadx.signal(Signal::KILL);
    loadx.wait();
    assert_eq!(loadx.get("/").text(), "ok");
    assert_eq!(loadx.ctl_json(&["status"])["pid"], next);
    loadx.upgrade();
    assert_eq!(loadx.get("/").text(), "ok");
}
