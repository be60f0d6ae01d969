//! The options that replace a config file, and help texts that name the option of the user.

use std::net::{SocketAddr, TcpListener};

use serde_json::json;

use crate::support::{Client, LoadX, Origin, TestBackend, eventually, loadx, unused_ports};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_backend_may_be_given_as_a_url() {
    let origin = Origin::answering(OK);
    for to in [format!("http://{}", origin.address()), format!("http://{}/", origin.address())] {
        let loadx = LoadX::run(&["--listen", "127.0.0.1:0", "--to", &to]);
        assert_eq!(loadx.get("/").text(), "ok", "{to}");
    }
}

#[test]
fn a_port_alone_listens_on_all_addresses() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::run(&["--listen", ":0", "--to", &origin.address().to_string()]);
    assert!(loadx.address.ip().is_unspecified(), "{}", loadx.address);
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], loadx.address.port())));
    assert_eq!(client.get("/").response().text(), "ok");
}

#[test]
fn the_algorithm_is_an_option() {
    let origin = Origin::answering(OK);
    for algorithm in ["round_robin", "least_connections", "ip_hash"] {
        let to = origin.address().to_string();
        let loadx = LoadX::run(&["--listen", "127.0.0.1:0", "--to", &to, "--algorithm", algorithm]);
        assert_eq!(loadx.status()["algorithm"], algorithm);
    }
}

#[test]
fn the_path_of_health_probes_is_an_option() {
    let origin = Origin::answering(OK);
    let to = origin.address().to_string();
    let _loadx = LoadX::run(&["--listen", "127.0.0.1:0", "--to", &to, "--health-path", "/live"]);
    let probe = eventually("a probe comes", || origin.requests().into_iter().next());
    assert!(probe.starts_with("GET /live HTTP/1.1\r\n"), "{probe}");
}

#[test]
fn a_taken_port_is_told_with_the_option_that_gave_the_port() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, port) = (taken.local_addr().unwrap().to_string(), taken.local_addr().unwrap().port().to_string());
    for (arguments, option) in [
        (vec!["run", "--listen", &address, "--to", "127.0.0.1:1"], "choose another port: --listen :"),
        (vec!["demo", "--port", &port, "--backend-port", &unused_ports(3).to_string()], "choose another port: --port "),
        (vec!["demo", "--port", "0", "--backend-port", &port], "choose another: --backend-port "),
        (vec!["backend", "--host", "127.0.0.1", "--port", &port], "choose another: --port "),
    ] {
        let output = loadx(&arguments);
        assert_eq!(output.code, Some(2), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(&format!("port {port} is in use")), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains(option), "{arguments:?}: {output:?}");
        assert!(!output.stderr.contains("proxy_port"), "{arguments:?}: {output:?}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = json!({
        "proxy_host": "127.0.0.1",
        "proxy_port": taken.local_addr().unwrap().port(),
        "backend_servers": [{ "host": "127.0.0.1", "port": 1 }],
    });
    std::fs::write(file.path(), config.to_string()).unwrap();
    let output = loadx(&["run", "--config", file.path().to_str().unwrap()]);
    assert!(output.stderr.contains("\"proxy_port\""), "{output:?}");
    let listed = json!({
        "listeners": [{ "address": taken.local_addr().unwrap().to_string() }],
        "clusters": { "web": { "backends": ["127.0.0.1:1"] } },
    });
    std::fs::write(file.path(), listed.to_string()).unwrap();
    let output = loadx(&["run", "--config", file.path().to_str().unwrap()]);
    assert!(output.stderr.contains("choose another port in the \"address\" of the listener"), "{output:?}");
    assert!(!output.stderr.contains("proxy_port"), "{output:?}");
}

#[test]
fn one_backend_is_written_in_the_singular() {
    let backend = TestBackend::start("backend-1");
    let to = backend.address.to_string();
    let loadx = LoadX::run(&["--listen", "127.0.0.1:0", "--to", &to]);
    loadx.wait_for_log("round_robin over 1 backend, ");
}

#[test]
fn the_advice_about_the_path_of_probes_names_the_option_too() {
    // An `Origin` would answer probes of /health with 200.
    let backend = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = backend.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in backend.incoming() {
            let mut client = Client::over(client.unwrap());
            client.send("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").until_end();
        }
    });
    let loadx = LoadX::run(&["--listen", "127.0.0.1:0", "--to", &address.to_string()]);
    loadx.wait_for_log("\"health_check_path\" in the config, or --health-path on the command line");
}
