//! Configs that are valid and still cannot work, and the messages of `check` and `run` about them.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{LoadX, Origin, Output, loadx};

fn check(config: &Value) -> Output {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    loadx(&["check", path.to_str().unwrap()])
}

/// Both `check` and `run` refuse the config with a message that contains `told`.
fn refused(config: &Value, told: &[&str]) {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let check = loadx(&["check", path.to_str().unwrap()]);
    let run = loadx(&["run", "--config", path.to_str().unwrap()]);
    assert_eq!((check.code, check.stdout.as_str()), (Some(2), ""), "{config}: {check:?}");
    assert_eq!((check.code, &check.stderr), (run.code, &run.stderr), "run and check tell the same");
    for text in told.iter().chain(&["\n  help: "]) {
        assert!(check.stderr.contains(text), "{config}: {}", check.stderr);
    }
}

#[test]
fn loadx_as_its_own_backend_is_refused() {
    for (listen, backend) in
        [("0.0.0.0", "localhost"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::", "::1")]
    {
        let config = json!({
            "proxy_host": listen,
            "proxy_port": 8080,
            "backend_servers": [{ "host": "192.0.2.1", "port": 80 }, { "host": backend, "port": 8080 }],
        });
        refused(&config, &["has 1 fault", ":8080 is LoadX itself"]);
    }
    let output = loadx(&["run", "--listen", ":8080", "--to", "localhost:8080"]);
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.starts_with("error: backend localhost:8080 is LoadX itself"), "{output:?}");
}

#[test]
fn a_host_that_only_looks_like_an_address_is_refused() {
    let config = json!({ "backend_servers": [{ "host": "127.0.0.1.5", "port": 80 }] });
    refused(&config, &["backend 127.0.0.1.5:80: \"127.0.0.1.5\" looks like an IP address, but is not one"]);
}

#[test]
fn a_log_in_a_folder_that_does_not_exist_is_refused_with_the_folder() {
    let backends = json!([{ "host": "a", "port": 1 }]);
    let log = |file: &str| json!({ "backend_servers": backends, "log_file": file });
    refused(&log("/no/such/dir/access.log"), &["the folder /no/such/dir does not exist", "mkdir -p /no/such/dir"]);
    refused(&log("no-such-dir/access.log"), &["the folder no-such-dir does not exist in /", "mkdir -p no-such-dir"]);
    refused(&log("/etc/passwd/access.log"), &["/etc/passwd is not a folder"]);
    refused(&log("/"), &["/ is a folder"]);
    let off = json!({ "backend_servers": backends, "log_file": "/no/such/dir/access.log", "enable_logging": false });
    assert_eq!(check(&off).code, Some(0), "a log that is off needs no folder");
}

#[test]
fn a_log_beside_the_config_is_good() {
    let directory = tempfile::TempDir::new().unwrap();
    let config = json!({ "backend_servers": [{ "host": "a", "port": 1 }], "log_file": "access.log" });
    std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_loadx")).arg("check").current_dir(directory.path()).output().unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn a_probe_that_may_outlast_the_interval_is_worth_a_warning() {
    let config = json!({
        "health_check_interval": 2,
        "health_check_timeout": 3,
        "backend_servers": [{ "host": "a", "port": 1 }],
    });
    let output = check(&config);
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stdout.ends_with(", 1 backend, round_robin, 1 warning\n"), "{output:?}");
    let told = "\"health_check_timeout\" (3 s) is longer than \"health_check_interval\" (2 s)";
    assert!(output.stderr.starts_with("warning: ") && output.stderr.contains(told), "{output:?}");
    assert!(output.stderr.contains("help: set \"health_check_timeout\" to 2 or less"), "{output:?}");

    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let settings = json!({ "health_check_interval": 2, "health_check_timeout": 3 });
    let loadx = LoadX::with(&[origin.address()], &settings);
    loadx.wait_for_log(told);
}
