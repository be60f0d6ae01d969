//! Servers and clients of gRPC and of HTTP/2 in Python, which nobody here wrote: grpcio, hypercorn and the library h2.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::judges::{find, output};
use crate::support::tls::{Authority, text};
use crate::support::{Killed, LoadX, eventually, unused_address};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/judges").join(name)
}

/// Starts a server of gRPC. Returns its address.
fn grpc_server(python: &Path, name: &str) -> (Killed, String) {
    let mut command = Command::new(python);
    command.arg(script("grpc_server.py")).arg(name).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut server = command.spawn().unwrap();
    let mut port = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut port).unwrap();
    (Killed(server), format!("127.0.0.1:{}", port.trim()))
}

#[test]
fn grpcio_makes_calls_of_every_kind() {
    let Some(python) = find("judge_python") else { return };
    let (_first, first) = grpc_server(&python, "first");
    let (_second, second) = grpc_server(&python, "second");
    let health = json!({ "probe": "grpc", "service": "judge.Judge", "interval": 0.1, "timeout": 10, "fall": 1 });
    let loadx = LoadX::of(&json!({
        "proxy_host": "127.0.0.1", "proxy_port": 0,
        "clusters": {
            "judge": {
                "backends": [first, second], "protocol": "h2", "health": health, "retry_grpc": ["UNAVAILABLE"],
                // The first server answers many calls with UNAVAILABLE, and must stay.
                "resilience": { "outliers": "off" },
            },
            "dead": {
                "backends": [unused_address().to_string()], "protocol": "h2", "health": { "probe": "off" },
            },
        },
        "routes": [
            { "path_prefix": "/judge.Judge/", "cluster": "judge" },
            { "path_prefix": "/dead.Dead/", "cluster": "dead" },
        ],
        "log_fields": ["grpc_status"], "log_file": "LOG",
    }));
    loadx.wait_for_healthy(3);
    let said = output(Command::new(&python).arg(script("grpc_client.py")).arg(loadx.address.to_string()));
    assert!(said.ends_with("done\n"), "{said}");
    let metrics = loadx.metrics();
    let statuses = &metrics["clusters"]["judge"]["grpc_statuses"];
    for status in ["OK", "INVALID_ARGUMENT", "UNIMPLEMENTED", "CANCELLED"] {
        assert!(statuses[status].as_u64() > Some(0), "{status}: {statuses}");
    }
    assert_eq!(statuses["UNAVAILABLE"], Value::Null, "LoadX asked the other server");
    assert_eq!(metrics["clusters"]["dead"]["grpc_statuses"], json!({ "UNAVAILABLE": 1 }));
    for status in ["INVALID_ARGUMENT", "UNAVAILABLE"] {
        let wanted = format!("grpc_status=\"{status}\"");
        eventually("the log has the status", || loadx.access_log().contains(&wanted).then_some(()));
    }
    assert!(loadx.log().contains("grpc.health.v1 says NOT_SERVING of judge.Judge"), "{}", loadx.log());
}

/// Starts hypercorn at this address.
fn hypercorn(python: &Path, bind: &str, options: &[&str]) -> Killed {
    let mut command = Command::new(python);
    command
        .args(["-m", "hypercorn", "--bind", bind, "--log-level", "error", "--workers", "0"])
        .args(options)
        .arg("asgi:app");
    command.env("PYTHONPATH", script(""));
    Killed(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
}

#[test]
fn hypercorn_gets_requests_over_tls_and_in_clear_text() {
    let Some(python) = find("judge_python") else { return };
    let Some(curl) = find("curl") else { return };
    let authority = Authority::new();
    let files = authority.issue("backend", &["localhost"]);
    let (plain, secure) = (unused_address(), unused_address());
    let _plain = hypercorn(&python, &plain.to_string(), &[]);
    let tls = ["--certfile", text(&files.certificate), "--keyfile", text(&files.key)];
    let _secure = hypercorn(&python, &secure.to_string(), &tls);
    for (address, tls, scheme) in [
        (plain, json!(false), "http"),
        (secure, json!({ "ca": text(&authority.ca_path()), "server_name": "localhost" }), "https"),
    ] {
        let cluster = json!({ "backends": [address.to_string()], "protocol": "h2", "tls": tls });
        let config = json!({
            "proxy_host": "127.0.0.1", "proxy_port": 0, "clusters": { "web": cluster },
            "health_check_interval": 0.1, "health_check_timeout": 10, "log_fields": ["protocol"],
        });
        let loadx = LoadX::of(&config);
        eventually("hypercorn answers", || (loadx.get("/").status == 200).then_some(()));
        let url = format!("http://{}/a", loadx.address);
        let content = "x".repeat(1_000_000);
        for option in ["--http1.1", "--http2-prior-knowledge"] {
            let mut command = Command::new(&curl);
            command.args([
                "-sS",
                option,
                "-D",
                "-",
                "--data-binary",
                &format!("@{}", loadx.file("content", &content)),
                &url,
            ]);
            let said = output(&mut command).to_lowercase();
            assert!(said.contains("\n2 post /a 1000000\n"), "{option}: {}", &said[..said.len().min(600)]);
            assert!(said.contains(&format!("\nx-scheme: {scheme}\r\n")) && said.ends_with(&content), "{option}");
        }
        let said = output(
            Command::new(&python)
                .arg(script("h2_client.py"))
                .args([loadx.address.ip().to_string(), loadx.address.port().to_string()]),
        );
        assert_eq!(said, "done\n");
        assert_eq!(loadx.metrics()["http2"]["connection_faults"], json!({}));
    }
}
