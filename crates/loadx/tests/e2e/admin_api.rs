//! The admin API itself: its description, its token, and clients that mean it no good.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, LoadX, Origin, eventually, loadx};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A LoadX with an admin API over TCP, and the address of that API.
fn over_tcp(origin: &Origin) -> (LoadX, SocketAddr) {
    let config = json!({
        "proxy_host": "127.0.0.1", "proxy_port": 0, "clusters": { "app": { "backends": [origin.address().to_string()] } },
        "admin": { "address": "127.0.0.1:0", "token_variable": "TEST_TOKEN" },
    });
    let loadx = LoadX::of_within(&config, &[], &[("TEST_TOKEN", TOKEN)]);
    let at = eventually("the admin API listens", || {
        let log = loadx.log();
        let (_, rest) = log.split_once("the admin API is on http://")?;
        rest.split_once('\n').map(|(address, _)| address.parse().unwrap())
    });
    (loadx, at)
}

fn request(method: &str, path: &str, more: &str, content: &str) -> String {
    let length = content.len();
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{more}\r\n{content}")
}

#[test]
fn the_description_of_the_api_is_the_one_in_the_docs() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let told = loadx.ctl(&["openapi"]).stdout;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/admin-api.json");
    if std::env::var_os("LOADX_WRITE_DOCS").is_some() {
        std::fs::write(path, &told).unwrap();
    }
    let documented = std::fs::read_to_string(path).unwrap();
    assert!(told == documented, "docs/admin-api.json is old: LOADX_WRITE_DOCS=1 cargo test --test e2e the_description");
    let document: Value = serde_json::from_str(&told).unwrap();
    let reference = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/admin.md")).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|key| !key.starts_with('x')) {
            let named = format!("`{} {path}`", method.to_uppercase());
            assert!(reference.contains(&named), "docs/admin.md lacks {named}");
        }
    }
}

#[test]
fn over_tcp_nobody_gets_in_without_the_token() {
    let origin = Origin::answering(OK);
    let (loadx, at) = over_tcp(&origin);
    let long = format!("Authorization: Bearer {}\r\n", "x".repeat(10_000));
    let prefix = format!("Authorization: Bearer {}\r\n", &TOKEN[..31]);
    let basic = format!("Authorization: Basic {TOKEN}\r\n");
    let wrong = [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer \r\n",
        "Authorization:\r\n",
        &long,
        &prefix,
        &basic,
    ];
    for credentials in wrong {
        for (method, path) in
            [("GET", "/v1/status"), ("DELETE", "/v1/changes"), ("GET", "/v1/openapi.json"), ("GET", "/nope")]
        {
            let mut client = Client::connect(at);
            let response = client.send(request(method, path, credentials, "")).response();
            assert_eq!(response.status, 401, "{method} {path} {credentials:.40}");
            assert_eq!(response.field("www-authenticate"), Some("Bearer"));
        }
    }
    let with_token = format!("Authorization: Bearer {TOKEN}\r\n");
    let response = Client::connect(at).send(request("GET", "/v1/status", &with_token, "")).response();
    assert_eq!((response.status, &response.json()["generation"]), (200, &json!(1)));
    let url = format!("http://{at}");
    let file = loadx.file("token", TOKEN);
    assert_eq!(crate::support::loadx(&["ctl", "--url", &url, "--token-file", &file, "status"]).code, Some(0));
    let other = loadx.file("other", "another token of 32 bytes ......");
    let refused = crate::support::loadx(&["ctl", "--url", &url, "--token-file", &other, "status"]);
    assert_eq!(
        (refused.code, refused.stderr.contains("no token, or a wrong one")),
        (Some(2), true),
        "{}",
        refused.stderr
    );
    assert!(crate::support::loadx(&["ctl", "--url", &url, "status"]).stderr.contains("LOADX_ADMIN_TOKEN"));
}

#[test]
fn an_admin_api_that_others_could_read_or_guess_is_refused() {
    let check = |admin: Value| {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("config.json");
        let config =
            json!({ "proxy_port": 0, "backend_servers": [{ "host": "127.0.0.1", "port": 1 }], "admin": admin });
        std::fs::write(&path, config.to_string()).unwrap();
        loadx(&["run", "--config", path.to_str().unwrap(), "--admin", "off"])
    };
    for (admin, told) in [
        (json!({ "address": "0.0.0.0:9901", "token_variable": "PATH" }), "without encryption over the network"),
        (json!({ "address": "10.0.0.1:9901", "token_variable": "PATH" }), "\"allow_unencrypted\": true"),
        (json!({ "address": "127.0.0.1:0" }), "needs a token"),
        (json!({ "address": "127.0.0.1:0", "token_file": "a", "token_variable": "b" }), "both"),
        (json!({ "address": "127.0.0.1:0", "token_file": "/no/such/file" }), "cannot read the token"),
        (json!({ "address": "127.0.0.1:0", "token_variable": "NO_SUCH_VARIABLE" }), "needs at least 16"),
    ] {
        let output = check(admin.clone());
        assert_eq!(output.code, Some(2), "{admin}: {}", output.stderr);
        assert!(output.stderr.contains(told), "{admin}: {}", output.stderr);
    }
}

#[test]
fn senseless_requests_get_errors_as_json_and_change_nothing() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let text = |text: &str| json!({ "text": text }).to_string();
    let deep = format!("{{\"text\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let json_type = "Content-Type: application/json\r\n";
    for (method, path, more, content, status) in [
        ("GET", "/", "", "", 404),
        ("GET", "/v1", "", "", 404),
        ("POST", "/v1/status", "", "", 405),
        ("PUT", "/v1/config", "", "{}", 415),
        ("PUT", "/v1/config", json_type, "", 400),
        ("PUT", "/v1/config", json_type, "{\"text\": 7}", 422),
        ("PUT", "/v1/config", json_type, "{\"text\": \"{}\", \"unknown\": 1}", 422),
        ("PUT", "/v1/config", json_type, &text("not a config"), 422),
        ("PUT", "/v1/config", json_type, &json!({ "text": "{}", "watch": -1 }).to_string(), 422),
        ("PUT", "/v1/config", json_type, &json!({ "text": "{}", "watch": 1e300 }).to_string(), 422),
        ("PUT", "/v1/config", json_type, &json!({ "text": "{}", "rollback_if": ["p99 > 1s"] }).to_string(), 422),
        ("PUT", "/v1/config", json_type, &deep, 422),
        ("PUT", "/v1/config", json_type, &text(&"[".repeat(1_000_000)), 422),
        ("POST", "/v1/config/plan", json_type, &text("\u{0}"), 422),
        ("PATCH", "/v1/clusters/default/backends/x", json_type, "{}", 422),
        ("PATCH", "/v1/clusters/%00/backends/%ff", json_type, "{\"drain\": true}", 400),
        ("PATCH", "/v1/clusters/-/backends/nope", json_type, "{\"drain\": true}", 404),
        ("POST", "/v1/clusters/-/backends", json_type, "{\"backend\": {\"host\": \"a b\", \"port\": 0}}", 422),
        ("POST", "/v1/clusters/-/backends", json_type, "{\"backend\": [\"x\"]}", 422),
        ("DELETE", "/v1/changes?generation=x", "", "", 400),
        ("DELETE", "/v1/changes?nope=1", "", "", 400),
        ("POST", "/v1/reload?generation=99", "", "", 409),
        ("PATCH", "/v1/clusters/-/backends/x?generation=1", json_type, "{\"drain\": true}", 400),
        ("PUT", "/v1/config", json_type, &json!({ "text": "{}", "name": "a\nb" }).to_string(), 422),
        ("PUT", "/v1/log-level", json_type, "{\"level\": \"\\u001b[31m\"}", 422),
    ] {
        let mut stream = UnixStream::connect(loadx.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request(method, path, &format!("{more}Connection: close\r\n"), content).as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path} {content:.60}: {response}");
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{method} {path}: {response}"));
        assert!(body["error"].is_string(), "{response}");
    }
    let status = loadx.ctl_json(&["status"]);
    assert_eq!((&status["generation"], &status["config"]["changes"]), (&json!(1), &json!([])));
}

#[test]
fn slow_and_greedy_clients_of_the_api_do_not_harm_the_data_path_or_the_socket() {
    let origin = Origin::answering(OK);
    let (loadx, at) = over_tcp(&origin);
    let bench = loadx.bench(5_000, 4, "/");
    // More than there are places, without a word or with half a head.
    let slow: Vec<TcpStream> = (0..100)
        .map(|number| {
            let mut stream = TcpStream::connect(at).unwrap();
            if number % 2 == 0 {
                stream.write_all(b"GET /v1/status HTTP/1.1\r\nHo").unwrap();
            }
            stream
        })
        .collect();
    let huge = format!(
        "PUT /v1/config HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        64 * 1024 * 1024
    );
    let mut greedy = UnixStream::connect(loadx.socket()).unwrap();
    greedy.write_all(huge.as_bytes()).unwrap();
    let piece = vec![b' '; 1024 * 1024];
    while greedy.write_all(&piece).is_ok() {}
    let mut endless = UnixStream::connect(loadx.socket()).unwrap();
    let _ = endless.write_all(b"GET / HTTP/1.1\r\n");
    while endless.write_all(&[b'x'; 4096]).is_ok() {}
    assert_eq!(loadx.ctl(&["status"]).code, Some(0), "the socket has places of its own");
    let file = loadx.file("token", TOKEN);
    let url = format!("http://{at}");
    let status = crate::support::loadx(&["ctl", "--url", &url, "--token-file", &file, "status"]);
    assert_eq!(status.code, Some(0), "strangers do not keep operators out: {}", status.stderr);
    let results = bench.results();
    assert_eq!((&results["failed"], &results["errors"]), (&json!(0), &json!({})), "{results}");
    assert!(loadx.peak_memory_kib() < 200 * 1024, "{} KiB", loadx.peak_memory_kib());
    drop(slow);
}

#[test]
fn concurrent_writers_are_served_one_after_the_other() {
    let origins: Vec<Origin> = (0..4).map(|_| Origin::answering(OK)).collect();
    let addresses: Vec<SocketAddr> = origins.iter().map(Origin::address).collect();
    let loadx = LoadX::before(&addresses);
    let socket = loadx.socket();
    std::thread::scope(|scope| {
        for (writer, address) in addresses.iter().enumerate() {
            let socket = &socket;
            scope.spawn(move || {
                for round in 0..25 {
                    let content = json!({ "weight": 1 + (writer + round) % 9 }).to_string();
                    let path = format!("/v1/clusters/-/backends/{address}");
                    let more = "Content-Type: application/json\r\nConnection: close\r\n";
                    let mut stream = UnixStream::connect(socket).unwrap();
                    stream.write_all(request("PATCH", &path, more, &content).as_bytes()).unwrap();
                    let mut response = String::new();
                    stream.read_to_string(&mut response).unwrap();
                    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
                }
            });
        }
    });
    let status = loadx.ctl_json(&["status"]);
    assert_eq!(status["generation"], 101, "each change is one plan");
    let backends = loadx.ctl_json(&["backends"]);
    for (writer, backend) in backends.as_array().unwrap().iter().enumerate() {
        assert_eq!(backend["weight"], 1 + (writer + 24) % 9, "{backends}");
    }
}

#[test]
fn an_upgrade_keeps_the_address_of_the_api_and_a_changed_address_moves() {
    let origin = Origin::answering(OK);
    let (mut loadx, at) = over_tcp(&origin);
    let with_token = format!("Authorization: Bearer {TOKEN}\r\nConnection: close\r\n");
    let pid = loadx.upgrade();
    loadx.wait();
    let status = |at: SocketAddr| Client::connect(at).send(request("GET", "/v1/status", &with_token, "")).response();
    assert_eq!(status(at).json()["pid"], pid);
    let free = crate::support::unused_address();
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(loadx.config_path()).unwrap()).unwrap();
    config["admin"]["address"] = json!(free.to_string());
    std::fs::write(loadx.config_path(), config.to_string()).unwrap();
    let told = loadx.ctl(&["reload"]).stdout;
    assert!(told.contains("\"admin\" stays as it was"), "{told}");
    let pid = loadx.upgrade();
    assert_eq!(status(free).json()["pid"], pid);
    eventually("nobody listens on the former address", || TcpStream::connect(at).is_err().then_some(()));
}
