//! A route matches the request that the backend reads.

use serde_json::{Value, json};

use crate::support::{LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn with_routes(origin: &Origin, routes: &Value) -> Value {
    json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "clusters": { "app": { "backends": [origin.address().to_string()] } },
        "routes": routes,
    })
}

fn requests(origin: &Origin) -> Vec<String> {
    origin.requests().into_iter().filter(|request| !request.starts_with("GET /health ")).collect()
}

#[test]
fn an_escape_does_not_get_around_an_access_rule() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::of(&with_routes(
        &origin,
        &json!([
            { "path_prefix": "/wiki/Special:Export", "cluster": "app", "deny": ["0.0.0.0/0"] },
            { "path": "/@admin", "cluster": "app", "deny": ["0.0.0.0/0"] },
            { "path": "/a%7Cb", "cluster": "app", "deny": ["0.0.0.0/0"] },
            { "cluster": "app" }
        ]),
    ));
    for (path, status) in [
        ("/wiki/Special:Export", 403),
        ("/wiki/Special%3AExport", 400),
        ("/wiki/Special%3aExport/x", 400),
        ("/%40admin", 400),
        ("/a|b", 403),
        ("/a%7cb", 403),
        ("/user/a%40b", 200),
    ] {
        assert_eq!(loadx.get(path).status, status, "{path}");
    }
    assert_eq!(requests(&origin).len(), 1);
}

#[test]
fn fields_that_a_route_sets_or_removes_cannot_come_from_the_client_in_another_spelling() {
    let origin = Origin::start(|connection| {
        while let Some(request) = connection.request() {
            connection.send(if request.is_empty() { "" } else { OK });
        }
    });
    let changes = json!({ "set": { "x-c": "trusted" }, "remove": ["x-debug"] });
    let loadx = LoadX::of(&with_routes(&origin, &json!([{ "cluster": "app", "request_headers": changes }])));
    let mut client = loadx.client();
    client.send(
        "POST / HTTP/1.1\r\nHost: a\r\nX-C: evil\r\nX_C: evil\r\nX.C: evil\r\nX_Debug: 1\r\nX-Kept: 1\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-C: evil\r\nX_Debug: 2\r\nX-Sum: 3\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    let seen = requests(&origin).concat();
    assert!(seen.contains("x-c: trusted") && seen.contains("X-Kept: 1") && seen.contains("X-Sum: 3"), "{seen}");
    assert!(!seen.contains("evil") && !seen.to_ascii_lowercase().contains("debug"), "{seen}");
}

#[test]
fn a_route_does_not_match_fields_that_the_backend_does_not_get() {
    let origin = Origin::answering(OK);
    let routes = json!([
        { "headers": { "x-forwarded-for": "192.0.2.1" }, "respond": { "status": 410 } },
        { "headers": { "x-real-ip": "192.0.2.1" }, "respond": { "status": 410 } },
        { "headers": { "x-hop": "1" }, "respond": { "status": 410 } },
        { "headers": { "x-end": "1" }, "respond": { "status": 418 } },
        { "cluster": "app" }
    ]);
    let mut config = with_routes(&origin, &routes);
    let status = |loadx: &LoadX, field: &str| {
        loadx.client().send(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n")).response().status
    };
    let loadx = LoadX::of(&config);
    assert_eq!(status(&loadx, "X-Forwarded-For: 192.0.2.1"), 200);
    assert_eq!(status(&loadx, "X-Real-IP: 192.0.2.1"), 200);
    assert_eq!(status(&loadx, "Connection: x-hop\r\nX-Hop: 1"), 200);
    assert_eq!(status(&loadx, "X-End: 1"), 418);
    config["trusted_proxies"] = json!(["127.0.0.1"]);
    let loadx = LoadX::of(&config);
    assert_eq!(status(&loadx, "X-Forwarded-For: 192.0.2.1"), 410);
}

#[test]
fn a_request_without_a_host_is_for_the_address_that_the_client_connected_to() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::of(&with_routes(
        &origin,
        &json!([
            { "hosts": ["127.0.0.1"], "path_prefix": "/here", "cluster": "app" },
            { "path_prefix": "/old", "redirect": { "path_prefix": "/new" } },
            { "path_prefix": "/safe", "redirect": { "scheme": "https", "port": 443 } },
            { "path_prefix": "/port", "redirect": { "scheme": "https", "port": 8443 } }
        ]),
    ));
    let old = |path: &str| loadx.client().send(format!("GET {path} HTTP/1.0\r\n\r\n")).response();
    assert_eq!(old("/here").status, 200);
    assert!(requests(&origin)[0].contains(&format!("Host: {}\r\n", loadx.address)), "{:?}", requests(&origin));
    let location = |path: &str| old(path).field("location").map(str::to_owned);
    assert_eq!(location("/old/z?q"), Some(format!("http://{}/new/z?q", loadx.address)));
    assert_eq!(location("/safe").as_deref(), Some("https://127.0.0.1/safe"));
    assert_eq!(location("/port").as_deref(), Some("https://127.0.0.1:8443/port"));
}

#[test]
fn a_redirect_leads_to_the_host_that_a_trusted_proxy_names() {
    let origin = Origin::answering(OK);
    let mut config = with_routes(&origin, &json!([{ "path_prefix": "/old", "redirect": { "path_prefix": "/new" } }]));
    let fields = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: real.example";
    let location = |loadx: &LoadX| {
        let response = loadx.client().send(format!("GET /old HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).response();
        response.field("location").unwrap().to_owned()
    };
    assert_eq!(location(&LoadX::of(&config)), "http://a/new");
    config["trusted_proxies"] = json!(["127.0.0.1"]);
    assert_eq!(location(&LoadX::of(&config)), "https://real.example/new");
}

#[test]
fn a_request_that_is_sent_again_is_counted_and_logged() {
    let origin = Origin::start(|connection| {
        // Each connection serves one request and ends after it has read the second.
        connection.request();
        connection.send(OK);
        connection.request();
    });
    let mut config = with_routes(&origin, &json!([{ "cluster": "app" }]));
    config["workers"] = json!(1);
    config["log_format"] = json!("json");
    config["clusters"]["app"]["health"] = json!({ "probe": "off" });
    let loadx = LoadX::of(&config);
    let mut client = loadx.client();
    for _ in 0..2 {
        assert_eq!(client.get("/").response().text(), "ok");
    }
    loadx.wait_for_log("sending the request again on a new connection");
    assert_eq!(loadx.metrics()["retries"], 1);
    let second = eventually("both are logged", || loadx.stdout().lines().nth(1).map(str::to_owned));
    assert_eq!(serde_json::from_str::<Value>(&second).unwrap()["tries"], 2, "{second}");
}

#[test]
fn the_log_tells_how_much_of_a_response_that_took_too_long_was_sent() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
        connection.send([b'x'; 1000]);
        connection.hold();
    });
    let mut config = with_routes(&origin, &json!([{ "cluster": "app", "timeouts": { "exchange": 0.5 } }]));
    config["log_format"] = json!("json");
    let loadx = LoadX::of(&config);
    assert!(loadx.client().get("/").try_response().is_err());
    let line = eventually("it is logged", || loadx.stdout().lines().next().map(str::to_owned));
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["status"], &line["bytes"]), (&json!(200), &json!(1000)), "{line}");
}
