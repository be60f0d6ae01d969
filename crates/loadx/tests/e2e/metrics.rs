//! The metrics in the formats of Prometheus and OpenMetrics.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{LoadX, Origin, eventually, unused_address};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\norigin";

/// The value of a series, by its name and labels as they stand in the text.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn exposition(loadx: &LoadX) -> String {
    let response = loadx.get("/__metrics__?format=prometheus");
    assert_eq!(response.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    response.text()
}

#[test]
fn requests_are_told_by_listener_route_cluster_and_backend() {
    let origin = Origin::answering(OK);
    let broken = Origin::answering("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    let closed = unused_address();
    let loadx = LoadX::of(&json!({
        "listeners": [{ "name": "front", "address": "127.0.0.1:0" }],
        "clusters": {
            "web": { "backends": [origin.address().to_string()] },
            "broken": { "backends": [broken.address().to_string()], "resilience": "off" },
            "closed": {
                "backends": [closed.to_string()], "health": { "probe": "off" },
                "resilience": "off"
            },
        },
        "routes": [
            { "name": "broken", "path_prefix": "/broken", "cluster": "broken" },
            { "name": "closed", "path_prefix": "/closed", "cluster": "closed" },
            { "name": "fixed", "path_prefix": "/fixed", "respond": { "status": 204 } },
            { "name": "site", "path_prefix": "/site", "cluster": "web" },
        ],
    }));
    loadx.wait_for_healthy(3);
    for _ in 0..3 {
        assert_eq!(loadx.get("/site/a").status, 200);
    }
    let upload = "POST /site HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(loadx.client().send(upload).response().status, 200);
    let chunked = "POST /site HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(loadx.client().send(chunked).response().status, 200);
    assert_eq!(loadx.get("/broken").status, 500);
    assert_eq!(loadx.get("/closed").status, 502);
    assert_eq!(loadx.get("/fixed").status, 204);
    assert_eq!(loadx.get("/other").status, 404);
    assert_eq!(loadx.client().send("GET /a b HTTP/1.1\r\n\r\n").response().status, 400);
    let text = exposition(&loadx);
    let address = origin.address();
    for (series, expected) in [
        ("loadx_requests_total{listener=\"front\",method=\"GET\",code=\"2xx\"}", 4.0),
        ("loadx_requests_total{listener=\"front\",method=\"POST\",code=\"2xx\"}", 2.0),
        ("loadx_requests_total{listener=\"front\",method=\"GET\",code=\"5xx\"}", 2.0),
        ("loadx_requests_total{listener=\"front\",method=\"GET\",code=\"4xx\"}", 2.0),
        ("loadx_request_content_bytes_total{listener=\"front\"}", 8.0),
        ("loadx_responses_total{status=\"404\"}", 1.0),
        ("loadx_route_requests_total{route=\"site\",method=\"GET\",code=\"2xx\"}", 3.0),
        ("loadx_route_requests_total{route=\"fixed\",method=\"GET\",code=\"2xx\"}", 1.0),
        ("loadx_route_request_duration_seconds_count{route=\"site\"}", 5.0),
        ("loadx_cluster_requests_total{cluster=\"web\",method=\"POST\",code=\"2xx\"}", 2.0),
        ("loadx_cluster_request_duration_seconds_bucket{cluster=\"web\",le=\"+Inf\"}", 5.0),
        ("loadx_cluster_response_head_seconds_count{cluster=\"web\"}", 5.0),
        ("loadx_errors_total{cluster=\"\",fault=\"client\",kind=\"http_request_error\"}", 1.0),
        ("loadx_errors_total{cluster=\"\",fault=\"client\",kind=\"destination_not_found\"}", 1.0),
        ("loadx_errors_total{cluster=\"broken\",fault=\"backend\",kind=\"backend_status\"}", 1.0),
        ("loadx_errors_total{cluster=\"closed\",fault=\"backend\",kind=\"connection_refused\"}", 1.0),
        ("loadx_config_generation", 1.0),
        ("loadx_config_last_reload_successful", 1.0),
        (&format!("loadx_backend_requests_total{{cluster=\"web\",backend=\"{address}\",code=\"2xx\"}}"), 5.0),
        (&format!("loadx_backend_up{{cluster=\"web\",backend=\"{address}\"}}"), 1.0),
        (
            &format!(
                "loadx_backend_attempt_failures_total{{cluster=\"closed\",backend=\"{closed}\",kind=\"connection_refused\"}}"
            ),
            1.0,
        ),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    assert!(value(&text, "loadx_cluster_connect_duration_seconds_count{cluster=\"web\"}").unwrap() >= 1.0);
    assert!(value(&text, "process_resident_memory_bytes").unwrap() > 1_000_000.0);
}

#[test]
fn nothing_that_clients_send_makes_a_new_label() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let names = |text: &str| -> BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    };
    let send = |tag: usize| {
        let head =
            format!("M{tag} /p{tag}?q={tag} HTTP/1.1\r\nHost: h{tag}\r\nUser-Agent: u{tag}\r\nX-N{tag}: 1\r\n\r\n");
        assert_eq!(loadx.client().send(head).response().status, 200);
    };
    send(0);
    let before = names(&exposition(&loadx));
    (1..50).for_each(send);
    assert_eq!(names(&exposition(&loadx)), before);
    assert!(before.contains("loadx_requests_total{listener=\"default\",method=\"other\",code=\"2xx\"}"), "{before:?}");
}

#[test]
fn a_request_that_was_sent_again_is_told() {
    let origin = Origin::answering(OK);
    let closed = unused_address();
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "clusters": { "web": { "backends": [closed.to_string(), origin.address().to_string()], "health": { "probe": "off" } } },
        "routes": [{ "cluster": "web" }],
    }));
    // By turns, so that one of two requests at least meets the closed backend.
    (0..2).for_each(|_| assert_eq!(loadx.get("/").status, 200));
    let text = exposition(&loadx);
    let retries = value(&text, "loadx_cluster_retries_total{cluster=\"web\"}").unwrap();
    assert!(retries >= 1.0, "{text}");
    let failures = format!(
        "loadx_backend_attempt_failures_total{{cluster=\"web\",backend=\"{closed}\",kind=\"connection_refused\"}}"
    );
    assert_eq!(value(&text, &failures), Some(retries), "{text}");
}

#[test]
fn ejections_are_told() {
    let origin = Origin::answering(OK);
    let closed = unused_address();
    let loadx = LoadX::with(&[closed, origin.address()], &json!({ "health_check_interval": 0.1 }));
    eventually("a request meets the closed backend", || {
        assert_eq!(loadx.get("/").status, 200);
        let text = exposition(&loadx);
        let down = format!("{{cluster=\"default\",backend=\"{closed}\"}}");
        let is_down = value(&text, &format!("loadx_backend_up{down}")) == Some(0.0)
            && value(&text, &format!("loadx_backend_ejections_total{down}")) == Some(1.0);
        is_down.then_some(())
    });
}

#[test]
fn what_leaves_the_config_leaves_the_metrics_and_what_stays_keeps_its_counts() {
    let origin = Origin::answering(OK);
    let address = origin.address().to_string();
    let config = |route: &str| {
        json!({
            "listeners": [{ "address": "127.0.0.1:0" }],
            "clusters": { "web": { "backends": [address], "health": { "probe": "off" } } },
            "routes": [{ "name": route, "path_prefix": "/r", "cluster": "web" }, { "name": "rest", "cluster": "web" }],
        })
    };
    let loadx = LoadX::of(&config("first"));
    loadx.get("/r");
    loadx.get("/");
    loadx.reload(&config("second"));
    loadx.get("/r");
    let text = exposition(&loadx);
    let route = |name: &str| {
        value(&text, &format!("loadx_route_requests_total{{route=\"{name}\",method=\"GET\",code=\"2xx\"}}"))
    };
    assert_eq!((route("first"), route("second"), route("rest")), (None, Some(1.0), Some(1.0)), "{text}");
    assert_eq!(value(&text, "loadx_config_generation"), Some(2.0));
}

#[test]
fn accept_and_query_choose_the_format() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let asked = |path: &str, accept: &str| {
        let response =
            loadx.client().send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n")).response();
        response.field("content-type").unwrap().to_owned()
    };
    assert_eq!(asked("/__metrics__", "*/*"), "application/json");
    assert_eq!(asked("/__metrics__", "text/html,*/*;q=0.8"), "application/json");
    assert!(asked("/__metrics__", "application/openmetrics-text;version=1.0.0").starts_with("application/openmetrics"));
    assert!(asked("/__metrics__?format=openmetrics", "text/plain").starts_with("application/openmetrics"));
    assert!(asked("/__metrics__?format=prometheus", "*/*").starts_with("text/plain"));
    assert!(asked("/__metrics__?format=protobuf", "*/*").starts_with("application/vnd.google.protobuf"));
    assert_eq!(asked("/__metrics__?format=json", "text/plain"), "application/json");
    assert_eq!(loadx.get("/__metrics__?format=xml").status, 400);
    assert_eq!(asked("/__status__", "text/plain"), "application/json", "only the metrics have other formats");
}

#[test]
fn counters_have_the_present_name_of_a_backend() {
    let (first, second) = (Origin::answering(OK), Origin::answering(OK));
    let config = |names: [(&Origin, &str); 2]| {
        let backend = |(origin, name): &(&Origin, &str)| json!({ "host": "127.0.0.1", "port": origin.address().port(), "name": name });
        let backends: Vec<_> = names.iter().map(backend).collect();
        json!({
            "listeners": [{ "address": "127.0.0.1:0" }],
            "clusters": { "web": { "backends": backends, "health": { "probe": "off" } } },
        })
    };
    let loadx = LoadX::of(&config([(&first, "blue"), (&second, "green")]));
    (0..4).for_each(|_| drop(loadx.get("/")));
    loadx.reload(&config([(&first, "old-blue"), (&second, "blue")]));
    (0..2).for_each(|_| drop(loadx.get("/")));
    let text = exposition(&loadx);
    let of = |name: &str| {
        let start = format!("loadx_backend_requests_total{{cluster=\"web\",backend=\"{name}\",");
        text.lines().filter(|line| line.starts_with(&start)).collect::<Vec<_>>()
    };
    assert!(of("green").is_empty(), "{text}");
    for name in ["blue", "old-blue"] {
        assert_eq!(of(name).len(), 1, "{text}");
        assert!(of(name)[0].ends_with(" 3"), "{text}");
    }
}

#[test]
fn a_client_that_leaves_is_no_failure_of_the_backend() {
    let (origin, release) = Origin::with_slow_path();
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = loadx.client();
    client.get("/slow");
    eventually("the request is at the backend", || {
        origin.requests().iter().any(|request| request.contains("/slow")).then_some(())
    });
    drop(client);
    let left = "loadx_errors_total{cluster=\"default\",fault=\"client\",kind=\"client_gone\"}";
    eventually("the client is counted", || value(&exposition(&loadx), left));
    assert!(!exposition(&loadx).contains("loadx_backend_attempt_failures_total{"), "{}", exposition(&loadx));
    drop(release);
}
