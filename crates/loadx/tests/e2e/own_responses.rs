//! Responses that LoadX gives without a backend.

use serde_json::json;

use crate::support::LoadX;

#[test]
fn a_config_without_clusters_redirects_and_answers() {
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "routes": [
            { "path": "/old", "redirect": { "path": "/new" } },
            { "path_prefix": "/", "respond": { "status": 404, "body": "nothing\n" } },
        ],
    }));
    let moved = loadx.get("/old");
    assert_eq!((moved.status, moved.field("location")), (308, Some("http://test/new")));
    assert_eq!(loadx.get("/x").text(), "nothing\n");
    let health = loadx.get("/__health__");
    assert_eq!((health.status, &health.json()["status"]), (200, &json!("healthy")));
    assert_eq!(loadx.status()["total_backends"], 0);
    assert_eq!(loadx.metrics()["total_requests"], 2);
}

#[test]
fn responses_without_content_are_framed_as_their_status_says() {
    let respond = |status: u16| json!({ "path": format!("/{status}"), "respond": { "status": status } });
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "routes": [respond(204), respond(304), respond(205), respond(200)],
    }));
    let mut client = loadx.client();
    for (status, length) in [(204, None), (304, None), (205, Some("0")), (200, Some("0"))] {
        let response = client.get(&format!("/{status}")).response();
        assert_eq!((response.status, response.field("content-length")), (status, length));
        assert_eq!(response.field("content-type"), None, "{}", response.head);
    }
}

#[test]
fn every_response_of_loadx_has_the_id_of_its_request() {
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "routes": [{ "path": "/old", "redirect": { "path": "/new" } }, { "path": "/", "respond": {} }],
        "trusted_proxies": ["127.0.0.1"],
    }));
    let mut client = loadx.client();
    for request in
        ["GET /__status__", "GET /__health__", "GET /__metrics__", "GET /old", "GET /", "GET /none", "OPTIONS /"]
    {
        client.send(format!("{request} HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\nMax-Forwards: 0\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.field("x-request-id"), Some("mine"), "{request}: {}", response.head);
    }
}

#[test]
fn content_that_is_here_already_does_not_end_the_connection() {
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "routes": [{ "path": "/old", "redirect": { "path": "/new" } }],
    }));
    let smuggled = "GET /old HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = loadx.client();
    for (path, status) in [("/old", 308), ("/none", 404)] {
        let length = smuggled.len();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}"));
        let response = client.response();
        assert_eq!((response.status, response.field("connection")), (status, None), "{path}");
        client
            .send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"));
        assert_eq!(client.response().status, status, "the content is no request");
    }
    for body in ["Content-Length: 9\r\n\r\npart", "Transfer-Encoding: chunked\r\n\r\nzz\r\n"] {
        let mut client = loadx.client();
        client.send(format!("POST /old HTTP/1.1\r\nHost: a\r\n{body}"));
        assert_eq!(client.response().field("connection"), Some("close"), "{body}");
    }
}
