//! The options that replace a config file.

use std::net::SocketAddr;

use crate::support::{Client, LoadX, Origin, eventually};

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
