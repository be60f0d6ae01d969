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
         not taken\n  web              the host is another one\n"
    );
}

#[test]
fn a_request_that_matches_nothing_says_why_and_exits_1() {
    let output = explain(&config(), &["POST", "api.example/v1"]);
    assert_eq!(output.code, Some(1));
    assert!(output.stdout.contains("answer    404: no route matches"), "{output:?}");
    assert!(output.stdout.contains("api              the method is another one"), "{output:?}");
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
}
