//! `loadx sim`, compared with its documentation and with the proxy.

use serde_json::json;

use crate::support::{LoadX, Origin, loadx};

const DOCUMENT: &str = include_str!("../../../../docs/scenarios.md");
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config.json");

#[test]
fn the_documented_run_prints_the_documented_figures() {
    let (_, block) = DOCUMENT.split_once("$ loadx sim ").unwrap();
    let (arguments, expected) = block.split("```").next().unwrap().split_once('\n').unwrap();
    let mut command = vec!["sim", "--config", CONFIG];
    command.extend(arguments.split(' '));
    assert_eq!(loadx(&command).stdout, expected);
}

/// The backend answers every request later than `request_timeout` allows: the proxy and the simulator must give the
/// same result.
#[test]
fn a_backend_that_is_always_too_late_fails_every_request_in_both() {
    let late = Origin::start(|connection| {
        while let Some(request) = connection.request() {
            if request.starts_with("GET /health") {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            } else {
                connection.hold();
            }
        }
    });
    let settings = json!({ "request_timeout": 0.05 });
    let proxy = LoadX::with(&[late.address()], &settings);
    let statuses: Vec<u16> = (0..5).map(|_| proxy.get("/").status).collect();
    assert_eq!(statuses, [504; 5]);
    assert_eq!(proxy.metrics()["retries"], 0);

    let directory = tempfile::TempDir::new().unwrap();
    let file = directory.path().join("config.json");
    let config = json!({ "backend_servers": [{ "host": "localhost", "port": 8001 }], "request_timeout": 0.05 });
    std::fs::write(&file, config.to_string()).unwrap();
    let run = |service: &str| {
        let file = file.to_str().unwrap();
        loadx(&["sim", "-c", file, "--rate", "20", "--duration", "10", "--service", "fixed", "--service-ms", service])
    };
    let late = run("70").stdout;
    let summary = late.lines().nth(1).unwrap();
    let requests = summary.split(' ').next().unwrap();
    assert_eq!(summary, format!("{requests} requests, {requests} failed, 0 retries"));
    assert_eq!(late.lines().nth(2).unwrap().trim(), format!("failed     {requests} with status 504"));
    assert!(run("40").stdout.contains("requests, 0 failed, 0 retries"));
}
