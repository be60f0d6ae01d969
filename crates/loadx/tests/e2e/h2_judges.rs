//! Clients of HTTP/2 that nobody here wrote.

use std::process::Command;

use serde_json::json;
use tempfile::TempDir;

use crate::support::judges::{find, output};
use crate::support::tls::{Authority, text};
use crate::support::{LoadX, Origin};

/// A LoadX with a listener in clear text and one with TLS, before an origin that echoes content.
struct Site {
    loadx: LoadX,
    authority: Authority,
    _origin: Origin,
}

impl Site {
    fn new() -> Self {
        let origin = Origin::start(|connection| {
            while let Some(head) = connection.head() {
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                let content = length
                    .map(|length| connection.take(length.parse().unwrap()).unwrap())
                    .unwrap_or_else(|| b"ok".to_vec());
                connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len()));
                connection.send(content);
            }
        });
        let authority = Authority::new();
        let files = authority.issue("own", &["localhost"]);
        let tls = json!({ "certificate": text(&files.certificate), "key": text(&files.key) });
        let loadx = LoadX::of(&json!({
            "listeners": [{ "address": "127.0.0.1:0" }, { "name": "s", "address": "127.0.0.1:0", "tls": tls }],
            "backend_servers": [{ "host": "127.0.0.1", "port": origin.address().port() }],
            "max_requests_per_connection": 1_000,
        }));
        Site { loadx, authority, _origin: origin }
    }

    /// The addresses, in clear text and with TLS.
    fn urls(&self) -> [String; 2] {
        let addresses = self.loadx.addresses();
        [format!("http://127.0.0.1:{}", addresses[0].port()), format!("https://localhost:{}", addresses[1].port())]
    }
}

#[test]
fn h2load_gets_every_response() {
    let Some(h2load) = find("h2load") else { return };
    let site = Site::new();
    for url in site.urls() {
        for streams in ["1", "10", "100"] {
            // Each connection has fewer requests than max_requests_per_connection: h2load does not come again after GOAWAY.
            let said = output(Command::new(&h2load).args(["-n", "3000", "-c", "4", "-m", streams, &url]));
            assert!(said.contains("3000 succeeded, 0 failed, 0 errored"), "{url} {streams}: {said}");
        }
    }
    assert_eq!(site.loadx.metrics()["http2"]["connection_faults"], json!({}));
}

#[test]
fn nghttp_sends_and_gets_content() {
    let Some(nghttp) = find("nghttp") else { return };
    let site = Site::new();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("content");
    let content: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    for url in site.urls() {
        let output = Command::new(&nghttp).args(["--data", text(&file), &url]).output().unwrap();
        assert!(output.stdout == content, "{url}: {} bytes", output.stdout.len());
        // Ten uploads at the same time, whose echoes come in turns.
        let output = Command::new(&nghttp).args(["--data", text(&file), "-m", "10", &url]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout.len(), 10 * content.len(), "{url}");
        let said = self::output(Command::new(&nghttp).args([
            "-v",
            "--trailer",
            "x-sum: 7",
            "--data",
            text(&file),
            "-n",
            &url,
        ]));
        assert!(said.contains(":status: 200"), "{said}");
    }
    assert_eq!(site.loadx.metrics()["http2"]["connection_faults"], json!({}));
}

#[test]
fn curl_sends_and_gets_content() {
    let Some(curl) = find("curl") else { return };
    let site = Site::new();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("content");
    let content: Vec<u8> = (0..5_000_000u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(&file, &content).unwrap();
    for (url, option) in site.urls().iter().zip(["--http2-prior-knowledge", "--http2"]) {
        let ca = site.authority.ca_path();
        let output = Command::new(&curl)
            .args(["-sS", option, "--cacert", text(&ca), "--data-binary", &format!("@{}", text(&file))])
            .args(["-w", "%{stderr}%{http_version}", url])
            .output()
            .unwrap();
        assert!(output.stdout == content, "{url}: {} bytes", output.stdout.len());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "2", "{url}");
    }
}
