//! The page at `/__dashboard__`, its stream, and what it does with backends.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::judges::{find, output};
use crate::support::{Client, LoadX, Origin, TestBackend, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\norigin";
const TOKEN: &str = "a token of more than sixteen bytes";

/// The data of the next event with this name on a stream that is read as HTTP/1.1 chunks.
fn event(client: &mut Client, name: &str) -> Value {
    let mut text = String::new();
    loop {
        text.push_str(&String::from_utf8_lossy(&client.bytes(1)));
        if text.ends_with("\n\n") {
            let found = text.find(&format!("event: {name}\n"));
            let data = found.and_then(|at| text[at..].split_once("data: ")).map(|(_, data)| data.trim().to_owned());
            if let Some(data) = data {
                return serde_json::from_str(&data).unwrap();
            }
            text.clear();
        }
    }
}

fn stream(loadx: &LoadX) -> Client {
    let mut client = loadx.client();
    client.send("GET /__dashboard__/stream HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

#[test]
fn the_page_comes_with_a_strict_policy_and_only_for_those_who_may_see_it() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let page = loadx.get("/__dashboard__");
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
    let text = page.text();
    let parts = text.split(['"', '\'']).filter(|part| part.starts_with("/__dashboard__/"));
    let parts: std::collections::BTreeSet<&str> = parts.collect();
    assert_eq!(parts.len(), 3, "{parts:?}");
    for part in parts {
        assert_eq!(loadx.get(part).status, 200, "{part}");
        assert_ne!(loadx.get(part).text(), "origin", "{part}");
    }
    for (settings, path) in [
        (json!({ "enable_dashboard": false }), "/__dashboard__"),
        (json!({ "enable_dashboard": false }), "/__dashboard__/stream"),
        (json!({ "endpoints_allow": ["192.0.2.0/24"] }), "/__dashboard__"),
    ] {
        assert_eq!(LoadX::with(&[origin.address()], &settings).get(path).text(), "origin", "{settings}");
    }
    assert_eq!(loadx.get("/__dashboard__/other").text(), "origin");
    let post = "POST /__dashboard__ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(loadx.client().send(post).response().text(), "origin");
}

#[test]
fn the_stream_tells_each_second_what_goes_on() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let mut stream = stream(&loadx);
    assert!(event(&mut stream, "opening").is_object());
    let rate = |tick: &Value| tick["total"]["figures"]["rate"].as_f64().unwrap();
    let tick = eventually("requests are told", || {
        (0..5).for_each(|_| drop(loadx.get("/")));
        Some(event(&mut stream, "tick")).filter(|tick| rate(tick) > 0.0)
    });
    let state = &tick["state"];
    assert_eq!((&state["word"], &state["backends"]), (&json!("healthy"), &json!(1)));
    let backend = &state["clusters"][0]["backends"][0];
    assert_eq!((&backend["name"], &backend["state"]), (&json!(origin.address().to_string()), &json!("up")));
    assert_eq!(tick["total"]["heat"].as_array().unwrap().len(), tick["bounds"].as_array().unwrap().len() + 1);
    assert!(state["clusters"][0]["figures"]["p99"].as_f64().unwrap() > 0.0, "{tick}");
    assert_eq!(loadx.metrics()["total_requests"], loadx.metrics()["status_codes"]["200"], "the stream is not counted");
}

#[test]
fn an_open_page_does_not_keep_loadx_from_stopping() {
    let origin = Origin::answering(OK);
    let mut loadx = LoadX::with(&[origin.address()], &json!({ "shutdown_grace": 60 }));
    let mut stream = stream(&loadx);
    event(&mut stream, "tick");
    loadx.terminate();
    assert!(loadx.wait().success());
}

#[test]
fn only_so_many_pages_are_served() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let mut pages: Vec<Client> = (0..32).map(|_| stream(&loadx)).collect();
    pages.iter_mut().for_each(|page| drop(event(page, "opening")));
    assert_eq!(loadx.get("/__dashboard__/stream").status, 503);
    drop(pages);
    eventually("another page may open", || {
        let mut page = stream(&loadx);
        (page.peek_status() == 200).then_some(())
    });
}

/// What the page asks for a backend, with this token.
fn act(loadx: &LoadX, query: &str, token: &str) -> (u16, String) {
    let head = format!("POST /__dashboard__/backend?{query} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n");
    let response = loadx.client().send(format!("{head}Authorization: Bearer {token}\r\n\r\n")).response();
    (response.status, response.text())
}

fn operated(backends: &[std::net::SocketAddr]) -> LoadX {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    let names: Vec<String> = backends.iter().map(ToString::to_string).collect();
    LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "clusters": { "web": { "backends": names, "health": { "interval": 0.5 } } },
        "admin": { "address": "127.0.0.1:0", "token_file": file },
    }))
}

#[test]
fn the_token_of_the_admin_api_drains_and_weighs() {
    let (first, second) = (Origin::answering(OK), Origin::answering(OK));
    let loadx = operated(&[first.address(), second.address()]);
    let name = first.address();
    let state = |loadx: &LoadX| {
        let status = loadx.status();
        let backend =
            status["backends"].as_array().unwrap().iter().find(|one| one["name"] == name.to_string()).cloned();
        backend.unwrap()
    };
    let drain = format!("cluster=web&backend={name}&drain=true");
    assert_eq!(act(&loadx, &drain, "not the token at all").0, 401);
    assert_ne!(state(&loadx)["state"], "drained");
    assert_eq!(act(&loadx, &drain.replace(':', "%3A"), TOKEN).0, 200);
    assert_eq!(state(&loadx)["state"], "drained");
    assert_eq!(act(&loadx, &format!("cluster=web&backend={name}&drain=false&weight=9"), TOKEN).0, 200);
    assert_eq!((&state(&loadx)["weight"], state(&loadx)["state"] == "drained"), (&json!(9), false));
    for (query, status) in [
        ("cluster=web&backend=nobody&drain=true", 404),
        ("cluster=other&backend=b&weight=2", 404),
        ("cluster=web&backend=b&drain=yes", 400),
        ("cluster=web&backend=b&weight=many", 400),
    ] {
        assert_eq!(act(&loadx, query, TOKEN).0, status, "{query}");
    }
    loadx.wait_for_log("the dashboard sent a wrong token");
    assert_eq!(act(&loadx, &format!("cluster=web&backend={name}"), TOKEN).0, 422);
    assert_eq!(act(&loadx, "drain=true", TOKEN).0, 400);
    let without = LoadX::before(&[first.address()]);
    let (status, text) = act(&without, &format!("cluster=default&backend={name}&drain=true"), TOKEN);
    assert!(status == 403 && text.contains("\"admin\""), "{status} {text}");
}

#[test]
fn a_browser_shows_and_operates_it() {
    let (Some(_), Some(python)) = (find("chromedriver"), find("judge_python")) else { return };
    let (drained, killed) = (TestBackend::start("drained"), TestBackend::start("killed"));
    let loadx = operated(&[drained.address, killed.address]);
    loadx.wait_for_healthy(2);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/judges/dashboard.py");
    let said = output(Command::new(python).arg(script).args([
        format!("http://{}", loadx.address),
        TOKEN.to_owned(),
        killed.pid().to_string(),
        drained.address.to_string(),
        killed.address.to_string(),
    ]));
    assert!(said.trim().ends_with("ok"), "{said}");
}

#[test]
fn the_token_never_reaches_a_backend() {
    let origin = Origin::answering(OK);
    for settings in [json!({ "enable_dashboard": false }), json!({ "endpoints_allow": ["192.0.2.0/24"] }), json!({})] {
        let loadx = LoadX::with(&[origin.address()], &settings);
        for method in ["POST", "GET", "PUT"] {
            let head =
                format!("{method} /__dashboard__/backend?cluster=a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n");
            let response = loadx.client().send(format!("{head}Authorization: Bearer secret\r\n\r\n")).response();
            assert!(response.status >= 400, "{method} {settings}");
        }
    }
    assert!(!origin.requests().iter().any(|request| request.contains("secret")), "{:?}", origin.requests());
}

#[test]
fn a_page_that_may_no_more_be_seen_is_ended() {
    let origin = Origin::answering(OK);
    let address = origin.address().to_string();
    let config = |allowed: &[&str]| {
        json!({
            "listeners": [{ "address": "127.0.0.1:0" }],
            "clusters": { "web": { "backends": [address], "health": { "probe": "off" } } },
            "endpoints_allow": allowed,
        })
    };
    let loadx = LoadX::of(&config(&["127.0.0.1"]));
    let mut page = stream(&loadx);
    event(&mut page, "opening");
    loadx.reload(&config(&["192.0.2.1"]));
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n0\r\n\r\n") {
        assert!(read.len() < 100_000, "the stream goes on");
        read.extend(page.bytes(1));
    }
}
