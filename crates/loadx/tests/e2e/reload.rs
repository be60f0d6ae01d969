//! SIGHUP applies another config, SIGUSR1 opens the access log again, and clients see no error.

use std::net::{SocketAddr, TcpListener};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Client, LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A config with one listener on a port of its own, and these backends.
fn config(backends: &[SocketAddr]) -> Value {
    let backends: Vec<Value> = backends.iter().map(|at| json!(at.to_string())).collect();
    json!({
        "listeners": [{ "name": "web", "address": "127.0.0.1:0" }],
        "routes": [{ "name": "all", "cluster": "app" }],
        "clusters": { "app": { "backends": backends } },
    })
}

/// The same, with a second listener at `address`.
fn with_second(backends: &[SocketAddr], address: &str) -> Value {
    let mut config = config(backends);
    config["listeners"].as_array_mut().unwrap().push(json!({ "name": "second", "address": address }));
    config
}

/// An address that is free just now.
fn free_address() -> String {
    crate::support::unused_address().to_string()
}

#[test]
fn no_request_fails_while_backends_routes_and_listeners_change() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::answering(OK)).collect();
    let at = |index: usize| origins[index].address();
    let loadx = LoadX::of(&config(&[at(0)]));
    let bench = loadx.bench(20_000, 16, "/");
    let second = free_address();
    for round in 0..20 {
        let mut next = if round % 2 == 0 {
            with_second(&[at(round % 3), at((round + 1) % 3)], &second)
        } else {
            config(&[at((round + 2) % 3)])
        };
        next["routes"] = json!([
            { "name": format!("round-{round}"), "hosts": ["other"], "respond": { "status": 404 } },
            { "name": "all", "cluster": "app", "response_headers": { "set": { "x-round": format!("{round}") } } }
        ]);
        let said = loadx.reload(&next);
        assert!(said.contains(&format!("plan {}", round + 2)), "{said}");
        let response = loadx.get("/");
        assert_eq!((response.status, response.field("x-round")), (200, Some(&*round.to_string())));
    }
    let results = bench.results();
    assert_eq!(results["failed"], 0, "{results}");
    assert_eq!(results["errors"], json!({}), "{results}");
}

#[test]
fn what_did_not_change_keeps_its_connections_its_tunnels_and_its_counts() {
    let origin = Origin::start(|connection| {
        let request = connection.request().unwrap();
        if request.starts_with("GET /socket ") {
            connection.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
            while let Some(bytes) = connection.some() {
                connection.send(bytes);
            }
        } else {
            connection.send(OK);
        }
    });
    let other = Origin::answering(OK);
    let loadx = LoadX::of(&config(&[origin.address()]));
    let mut socket = loadx.client();
    socket.send("GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(socket.response().status, 101);
    let mut idle = loadx.client();
    assert_eq!(idle.get("/").response().text(), "ok");
    let connections = origin.connections();
    loadx.wait_for_healthy(1);
    loadx.reload(&config(&[origin.address(), other.address()]));
    let status = loadx.status();
    assert_eq!(status["backends"][0]["state"], "up", "{status}");
    assert_eq!(loadx.metrics()["clusters"]["app"]["requests"], 1);
    assert_eq!(idle.get("/").response().text(), "ok");
    socket.send("still here");
    assert_eq!(socket.bytes(10), b"still here");
    // Probes have connections of their own, requests reuse the one that was there.
    assert!(origin.connections() <= connections + 2, "{connections} became {}", origin.connections());
    loadx.reload(&config(&[other.address()]));
    socket.send("even so");
    assert_eq!(socket.bytes(7), b"even so");
}

#[test]
fn a_faulty_config_changes_nothing_and_the_status_says_why() {
    let origin = Origin::answering(OK);
    let first = config(&[origin.address()]);
    let loadx = LoadX::of(&first);
    assert_eq!(loadx.status()["config"]["last_failure"], Value::Null);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut folder = first.clone();
    folder["log_file"] = json!("LOG/no/such.log");
    let faulty = [
        ("{\"listeners\": ".to_owned(), "config.json"),
        (json!({ "clusters": { "app": { "backends": ["nowhere"] } } }).to_string(), "nowhere"),
        (with_second(&[origin.address()], &taken.local_addr().unwrap().to_string()).to_string(), "in use"),
        (folder.to_string(), "no/such.log"),
    ];
    for (text, reason) in faulty {
        let said = loadx.reload_text(&text);
        assert!(said.contains("not applied") && said.contains(reason), "{said}");
        let status = loadx.status();
        assert_eq!(status["config"]["generation"], 1);
        let told = status["config"]["last_failure"]["reason"].as_str().unwrap().to_owned();
        assert!(told.contains(reason), "{told}");
        assert_eq!(loadx.get("/").text(), "ok");
    }
    std::fs::remove_file(loadx.config_path()).unwrap();
    loadx.signal(Signal::HUP);
    loadx.wait_for_log("cannot read");
    std::os::unix::fs::symlink("/dev/zero", loadx.config_path()).unwrap();
    loadx.signal(Signal::HUP);
    loadx.wait_for_log("is not a regular file");
    std::fs::remove_file(loadx.config_path()).unwrap();
    loadx.reload(&first);
    let status = loadx.status();
    assert_eq!((&status["config"]["generation"], &status["config"]["last_failure"]), (&json!(2), &Value::Null));
}

#[test]
fn a_listener_cannot_take_a_port_that_loadx_itself_holds() {
    let origin = Origin::answering(OK);
    let address = free_address();
    let loadx = LoadX::of(&with_second(&[origin.address()], &address));
    let everywhere = address.replace("127.0.0.1", "0.0.0.0");
    let said = loadx.reload(&with_second(&[origin.address()], &everywhere));
    assert!(said.contains(&format!("cannot listen on {everywhere}: LoadX listens on {address}")), "{said}");
    assert_eq!(Client::connect(address.parse().unwrap()).get("/").response().text(), "ok");
    loadx.reload(&config(&[origin.address()]));
    loadx.reload(&with_second(&[origin.address()], &everywhere));
    assert_eq!(Client::connect(address.parse().unwrap()).get("/").response().text(), "ok");
}

#[test]
fn a_removed_listener_lets_its_clients_finish() {
    let (origin, answer) = Origin::with_slow_path();
    let address = free_address();
    let loadx = LoadX::of(&config(&[origin.address()]));
    loadx.reload(&with_second(&[origin.address()], &address));
    loadx.wait_for_log(&format!("listening on http://{address}"));
    let second: SocketAddr = address.parse().unwrap();
    let mut idle = Client::connect(second);
    assert_eq!(idle.get("/").response().text(), "ok");
    let mut half = Client::connect(second);
    half.send("GET / HTTP/1.1\r\n");
    let mut running = Client::connect(second);
    running.get("/slow");
    eventually("the slow request is with the origin", || {
        origin.requests().iter().any(|request| request.starts_with("GET /slow")).then_some(())
    });
    loadx.reload(&config(&[origin.address()]));
    eventually("nobody listens there any more", || std::net::TcpStream::connect(second).is_err().then_some(()));
    assert!(idle.is_closed(), "idle connections close at once");
    half.send("Host: a\r\n\r\n");
    let response = half.response();
    assert_eq!((response.text(), response.field("connection")), ("ok".to_owned(), Some("close")));
    answer.send(()).unwrap();
    let response = running.response();
    assert_eq!((response.text(), response.field("connection")), ("ok".to_owned(), Some("close")));
    assert!(running.is_closed());
    assert_eq!(loadx.get("/").text(), "ok");
    loadx.reload(&with_second(&[origin.address()], &address));
    assert_eq!(Client::connect(second).get("/").response().text(), "ok");
}

#[test]
fn the_drain_of_a_removed_listener_has_an_end() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.take(1);
    });
    let address = free_address();
    let mut both = with_second(&[origin.address()], &address);
    both["shutdown_grace"] = json!(0.2);
    let loadx = LoadX::of(&both);
    let mut running = Client::connect(address.parse().unwrap());
    running.get("/");
    eventually("the request is with the origin", || (!origin.requests().is_empty()).then_some(()));
    loadx.reload(&config(&[origin.address()]));
    assert!(running.try_response().is_err());
    loadx.wait_for_log("1 of its clients are cut");
    eventually("the access log says why", || loadx.stdout().contains("drain of a removed listener").then_some(()));
}

#[test]
fn the_access_log_goes_on_in_a_new_file_after_a_rename() {
    let origin = Origin::answering(OK);
    let mut logged = config(&[origin.address()]);
    logged["log_file"] = json!("LOG");
    let loadx = LoadX::of(&logged);
    let lines = || loadx.access_log().lines().count();
    loadx.get("/first");
    eventually("the first line is written", || (lines() == 1).then_some(()));
    let rotated = loadx.access_log_path().with_extension("1");
    std::fs::rename(loadx.access_log_path(), &rotated).unwrap();
    loadx.signal(Signal::USR1);
    loadx.wait_for_log("the access log is open again");
    loadx.get("/second");
    eventually("the second line is in the new file", || loadx.access_log().contains("/second").then_some(()));
    assert!(!std::fs::read_to_string(&rotated).unwrap().contains("/second"));
    std::fs::rename(loadx.access_log_path(), &rotated).unwrap();
    eventually("a rename alone is noticed", || {
        loadx.get("/third");
        loadx.access_log().contains("/third").then_some(())
    });
    logged["log_format"] = json!("json");
    loadx.reload(&logged);
    loadx.get("/fourth");
    eventually("another format is used", || loadx.access_log().contains("\"/fourth\"").then_some(()));
}

#[test]
fn limits_change_and_settings_that_need_a_restart_are_named() {
    let origin = Origin::answering(OK);
    let mut small = config(&[origin.address()]);
    small["workers"] = json!(1);
    small["max_connections"] = json!(3);
    let loadx = LoadX::of(&small);
    let mut large = small.clone();
    (large["max_connections"], large["workers"]) = (json!(40), json!(2));
    let said = loadx.reload(&large);
    loadx.wait_for_log("\"workers\" stays 1, not 2");
    assert!(said.contains("plan 2"), "{said}");
    let mut clients: Vec<Client> = (0..30).map(|_| loadx.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").response().text(), "ok");
    }
    assert_eq!(loadx.status()["connections"]["max"], 40);
    loadx.reload(&small);
    // The clients that are connected stay, and take the places; an idle one makes room for the next.
    assert_eq!(clients[29].get("/").response().text(), "ok");
    drop(clients);
    eventually("the places are free again", || (loadx.status()["connections"]["open"] == 1).then_some(()));
    let _held: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = loadx.client();
            client.send("GET /");
            client
        })
        .collect();
    assert_eq!(loadx.get("/").text(), "ok");
}

#[test]
fn without_a_config_file_there_is_nothing_to_read_again() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::run(&["--listen", "127.0.0.1:0", "--to", &origin.address().to_string()]);
    loadx.signal(Signal::HUP);
    loadx.wait_for_log("no config file to read again");
    assert_eq!(loadx.get("/").text(), "ok");
}

#[test]
fn a_watched_file_is_applied_when_it_changes() {
    let (first, second) = (Origin::answering(OK), Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew"));
    let loadx = LoadX::of_with(&config(&[first.address()]), &["--watch"]);
    // As editors do: a new file takes the place of the old one.
    let draft = loadx.config_path().with_extension("draft");
    std::fs::write(&draft, config(&[second.address()]).to_string()).unwrap();
    std::fs::rename(&draft, loadx.config_path()).unwrap();
    loadx.wait_for_log("the config file changed: reading");
    loadx.wait_for_log("the config is applied: plan 2");
    assert_eq!(loadx.get("/").text(), "new");
    std::fs::write(loadx.config_path(), "{").unwrap();
    loadx.wait_for_log("the config is not applied");
    assert_eq!(loadx.get("/").text(), "new");
    std::fs::write(loadx.config_path(), config(&[first.address()]).to_string()).unwrap();
    loadx.wait_for_log("plan 3");
    assert_eq!(loadx.get("/").text(), "ok");
}

#[test]
fn a_name_that_moves_to_another_cluster_keeps_its_addresses() {
    let origin = Origin::answering(OK);
    let named = |cluster: &str, resolve: &str| {
        json!({
            "listeners": [{ "address": "127.0.0.1:0" }],
            "routes": [{ "cluster": cluster }],
            "clusters": { cluster: { "backends": [format!("localhost:{}", origin.address().port())], "resolve": resolve } },
        })
    };
    let loadx = LoadX::of(&named("a", "one"));
    assert_eq!(loadx.get("/").text(), "ok");
    let bench = loadx.bench(5_000, 4, "/");
    for (cluster, resolve) in [("b", "one"), ("b", "each"), ("c", "each"), ("c", "one"), ("a", "one")] {
        loadx.reload(&named(cluster, resolve));
        assert_eq!(loadx.get("/").status, 200, "{cluster} {resolve}");
    }
    assert_eq!(bench.results()["failed"], 0);
}

#[test]
fn listeners_on_ports_that_the_system_chooses_stay_apart() {
    let origin = Origin::answering(OK);
    let two = with_second(&[origin.address()], "127.0.0.1:0");
    let loadx = LoadX::of(&two);
    let addresses = loadx.addresses();
    assert_eq!(addresses.len(), 2);
    loadx.reload(&two);
    for address in addresses {
        assert_eq!(Client::connect(address).get("/").response().text(), "ok");
    }
    assert!(!loadx.log().contains("no longer listening"));
}

#[test]
fn an_address_can_be_taken_again_at_once() {
    let origin = Origin::answering(OK);
    let address = free_address();
    let loadx = LoadX::of(&config(&[origin.address()]));
    for _ in 0..10 {
        assert!(loadx.reload(&with_second(&[origin.address()], &address)).contains("is applied"));
        assert!(loadx.reload(&config(&[origin.address()])).contains("is applied"));
    }
}

#[test]
fn clients_that_wait_for_a_place_are_served_when_their_listener_is_removed() {
    let (origin, answer) = Origin::with_slow_path();
    let address = free_address();
    let mut both = with_second(&[origin.address()], &address);
    both["max_connections"] = json!(2);
    let mut first = config(&[origin.address()]);
    first["max_connections"] = json!(2);
    let loadx = LoadX::of(&both);
    let second: SocketAddr = address.parse().unwrap();
    let mut slow: Vec<Client> = (0..2).map(|_| Client::connect(second)).collect();
    for client in &mut slow {
        client.get("/slow");
    }
    eventually("the slow requests are with the origin", || {
        (origin.requests().iter().filter(|request| request.starts_with("GET /slow")).count() == 2).then_some(())
    });
    let mut waiting: Vec<Client> = (0..4).map(|_| Client::connect(second)).collect();
    for client in &mut waiting {
        client.get("/");
    }
    loadx.reload(&first);
    answer.send(()).unwrap();
    answer.send(()).unwrap();
    for mut client in slow.into_iter().chain(waiting) {
        assert_eq!(client.response().text(), "ok");
    }
}

#[test]
fn at_the_end_the_lines_of_a_former_log_that_was_blocked_are_written() {
    const REQUESTS: usize = 800;
    let origin = Origin::answering(OK);
    let folder = tempfile::TempDir::new().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Open for both, a pipe does not wait for its other end.
    let both = std::fs::File::options().read(true).write(true).open(&pipe).unwrap();
    let reader = std::fs::File::open(&pipe).unwrap();
    let mut logged = config(&[origin.address()]);
    (logged["log_file"], logged["workers"]) = (json!(pipe), json!(1));
    let mut loadx = LoadX::of(&logged);
    drop(both);
    // More than the pipe holds: the thread that writes is blocked.
    let long = format!("/{}", "a".repeat(7_000));
    let mut client = loadx.client();
    for _ in 0..REQUESTS {
        client.get(&long).response();
    }
    logged["log_file"] = json!("LOG");
    loadx.reload(&logged);
    client.get("/after").response();
    eventually("the new log is written", || loadx.access_log().contains("/after").then_some(()));
    assert_eq!(loadx.status()["access_log"]["lost_lines"], 0);
    loadx.terminate();
    let stopped = || std::net::TcpStream::connect(loadx.address).is_err();
    eventually("LoadX accepts no more clients", || stopped().then_some(()));
    assert_eq!(std::io::read_to_string(reader).unwrap().lines().count(), REQUESTS);
    assert!(loadx.wait().success());
}
