//! `loadx route`, compared with its documentation and with the proxy.

use serde_json::json;

use crate::support::{Output, loadx};

fn explain(config: &serde_json::Value, arguments: &[&str]) -> Output {
    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = vec!["route"];
    command.extend(arguments);
    command.extend(["--config", file.to_str().unwrap()]);
    loadx(&command)
}

fn config() -> serde_json::Value {
    json!({
        "clusters": { "api": { "backends": ["10.0.0.1:80", "10.0.0.2:80"] }, "web": { "backends": ["10.0.0.3:80"] } },
        "routes": [
            { "name": "api", "hosts": ["api.example"], "path_prefix": "/v1", "methods": ["GET"], "cluster": "api",
              "rewrite": { "path_prefix": "/" }, "request_headers": { "set": { "x-env": "prod" } } },
            { "name": "web", "hosts": ["web.example"], "cluster": "web" }
        ]
    })
}

#[test]
fn a_request_that_matches_is_shown_as_the_backend_gets_it() {
    let output = explain(&config(), &["GET", "http://API.example:8080/v1/./users?q=1"]);
    assert_eq!(output.code, Some(0));
    assert_eq!(
        output.stdout,
        "listener  default\n\
         request   GET /v1/users for host api.example\n\
         route     api (number 1 of 2)\n\
         cluster   api: 2 backends, round_robin\n\
         sent as   GET /users?q=1\n          Host: API.example:8080\n          x-env: prod\n\
         not taken\n  web              the host is different\n"
    );
}

#[test]
fn a_request_that_matches_nothing_says_why_and_exits_1() {
    let output = explain(&config(), &["POST", "api.example/v1"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stdout.contains("answer    404: no route matches"), "{output:?}");
    assert!(output.stdout.contains("api              the method is different"), "{output:?}");
    let ambiguous = explain(&config(), &["GET", "api.example/x/..%2Fv1"]);
    assert_eq!((ambiguous.code, ambiguous.stdout.contains("answer    400")), (Some(1), true));
}

#[test]
fn a_host_field_counts_and_endpoints_are_loadx_itself() {
    let output = explain(&config(), &["GET", "anything/", "-H", "Host: web.example"]);
    assert!(output.stdout.contains("route     web (number 2 of 2)"), "{output:?}");
    let output = explain(&config(), &["GET", "web.example/__status__"]);
    assert!(output.stdout.contains("answer    LoadX itself"), "{output:?}");
    let output = explain(&config(), &["POST", "web.example/__status__"]);
    assert!(!output.stdout.contains("LoadX itself"), "{output:?}");
    let output = explain(&config(), &["GET", "web.example/./__status__"]);
    assert!(!output.stdout.contains("LoadX itself"), "an endpoint has one spelling: {output:?}");
}

#[test]
fn a_redirect_tells_its_location() {
    let config = json!({
        "clusters": { "web": { "backends": ["10.0.0.3:80"] } },
        "routes": [
            { "name": "old", "hosts": ["old.example"], "path_prefix": "/a", "redirect": { "host": "new.example", "path_prefix": "/b" } },
            { "name": "secure", "hosts": ["secure.example"], "redirect": { "scheme": "https", "status": 301 } },
            { "name": "moved", "hosts": ["moved.example"], "redirect": { "path": "/welcome" } },
            { "name": "web", "cluster": "web" }
        ]
    });
    for (url, status, location) in [
        ("old.example:81/a/./x?q=1", 308, "http://new.example/b/x?q=1"),
        ("https://old.example/a", 308, "https://new.example/b"),
        ("secure.example:8080/x", 301, "https://secure.example/x"),
        ("moved.example:81/x", 308, "http://moved.example:81/welcome"),
    ] {
        let output = explain(&config, &["GET", url]);
        let told = format!("answer    {status}, a redirect\nlocation  {location}\n");
        assert!(output.code == Some(0) && output.stdout.contains(&told), "{url}: {output:?}");
    }
}

#[test]
fn limits_access_and_changed_fields_are_told() {
    let config = json!({
        "max_body_size": 5000,
        "clusters": { "web": { "backends": ["10.0.0.3:80"] } },
        "routes": [{
            "name": "web", "cluster": "web", "allow": ["192.0.2.0/24"], "max_body_size": 1000,
            "timeouts": { "exchange": 2.5 },
            "request_headers": { "set": { "x-from": "{client_ip} {request_id}" }, "remove": ["x-debug"] },
            "response_headers": { "set": { "server": "{host}" }, "remove": ["X-Old"] }
        }]
    });
    let output = explain(&config, &["GET", "a.example/x", "-H", "X-Debug: 1"]);
    assert_eq!(
        (output.code, output.stdout.as_str()),
        (
            Some(0),
            "listener  default\n\
             request   GET /x for host a.example\n\
             route     web (number 1 of 1)\n\
             cluster   web: 1 backend, round_robin\n\
             sent as   GET /x\n          Host: a.example\n          x-from: {client_ip} {request_id}\n\
             \x20         without the x-debug of the client\n\
             response  server: a.example\n          without x-old\n\
             timeout   2.5 s for the whole exchange\n\
             body      at most 1000 bytes\n\
             access    depends on the client's address (--client); other clients get 403\n"
        )
    );
    let served = explain(&config, &["GET", "a.example/x", "--client", "192.0.2.7"]);
    assert_eq!(served.code, Some(0));
    assert!(served.stdout.contains("access    permits 192.0.2.7\n"), "{served:?}");
    assert!(served.stdout.contains("x-from: 192.0.2.7 {request_id}\n"), "{served:?}");
    let denied = explain(&config, &["GET", "a.example/x", "--client", "::ffff:198.51.100.1"]);
    assert_eq!(denied.code, Some(1));
    assert!(denied.stdout.contains("answer    403: the access rules of the route deny this client\n"), "{denied:?}");
    let large = explain(&config, &["POST", "a.example/x", "-H", "Content-Length: 1001"]);
    assert!(large.code == Some(1) && large.stdout.contains("answer    413: "), "{large:?}");
}

#[test]
fn options_of_a_whole_server_has_the_target_of_the_asterisk_form() {
    let config = json!({ "backend_servers": [{ "host": "10.0.0.1", "port": 80 }] });
    for (arguments, request) in [
        (&["OPTIONS", "http://a.com"][..], "OPTIONS * for host a.com\n"),
        (&["OPTIONS", "a.com/"], "OPTIONS / for host a.com\n"),
        (&["OPTIONS", "*", "-H", "Host: a.com"], "OPTIONS * for host a.com\n"),
        (&["GET", "a.com?x=1"], "GET / for host a.com\n"),
    ] {
        let output = explain(&config, arguments);
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(output.stdout.contains(&format!("request   {request}")), "{arguments:?}: {output:?}");
    }
    assert!(explain(&config, &["OPTIONS", "http://a.com"]).stdout.contains("sent as   OPTIONS *\n"));
}

#[test]
fn a_url_without_a_host_and_a_field_with_a_line_break_are_refused() {
    for (arguments, told) in [
        (
            &["GET", "/cart"][..],
            "the URL \"/cart\" has no host\n  help: write the host too, such as shop.example.com/cart",
        ),
        (&["GET", "http:///cart"], "has no host"),
        (
            &["OPTIONS", "*"],
            "the URL \"*\" has no host\n  help: write the host too, such as shop.example.com, or add -H",
        ),
        (&["GET", "web.example/", "-H", "X: a\r\nHost: b"], "a line break in a field"),
        (&["GET", "web.example/", "-H", "X: a\nY: b"], "a line break in a field"),
        (&["GET", "web.example/ HTTP/1.1\r\nX: y"], "a line break in a URL"),
        (&["GET / HTTP/1.1\r\nX:", "web.example/"], "a line break in a method"),
    ] {
        let output = explain(&config(), arguments);
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(told), "{arguments:?}: {output:?}");
    }
    assert_eq!(explain(&config(), &["GET", "/cart", "-H", "host: web.example"]).code, Some(0));
}

#[test]
fn a_field_that_the_proxy_does_not_believe_matches_no_route() {
    let config = json!({
        "trusted_proxies": ["10.1.0.0/16"],
        "clusters": { "web": { "backends": ["10.0.0.3:80"] } },
        "routes": [
            { "name": "secure", "headers": { "x-forwarded-proto": "https" }, "cluster": "web" },
            { "name": "plain", "cluster": "web" }
        ]
    });
    let route_of = |client: &[&str]| {
        let request = ["GET", "web.example/", "-H", "X-Forwarded-Proto: https"];
        let output = explain(&config, &[&request, client].concat());
        output.stdout.lines().find_map(|line| line.strip_prefix("route     ").map(str::to_owned))
    };
    assert_eq!(route_of(&[]).as_deref(), Some("plain (number 2 of 2)"));
    assert_eq!(route_of(&["--client", "192.0.2.1"]).as_deref(), Some("plain (number 2 of 2)"));
    assert_eq!(route_of(&["--client", "10.1.0.9"]).as_deref(), Some("secure (number 1 of 2)"));
}
