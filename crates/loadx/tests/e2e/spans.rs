//! Spans for OpenTelemetry, read by the messages of that project. Skipped without Python, unless `LOADX_JUDGES` is set.

use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::judges::find;
use crate::support::{LoadX, Origin, eventually, unused_address};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Receiver {
    child: Child,
    port: u16,
    file: PathBuf,
    _folder: TempDir,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // The process has ended if it cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Receiver {
    fn start() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("spans");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/judges/otlp.py");
        let mut receiver = Command::new(find("judge_python")?);
        let mut child = receiver.arg(script).arg(&file).stdout(Stdio::piped()).spawn().unwrap();
        let mut port = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Receiver { child, port: port.trim().parse().unwrap(), file, _folder: folder })
    }

    /// The spans, once there are so many.
    fn spans(&self, count: usize) -> Vec<Value> {
        eventually("the spans arrive", || {
            let text = std::fs::read_to_string(&self.file).unwrap_or_default();
            let spans: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (spans.len() >= count).then_some(spans)
        })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

#[test]
fn an_exchange_and_its_attempts_become_spans_of_the_trace_of_the_caller() {
    let Some(receiver) = Receiver::start() else { return };
    let origin = Origin::answering(OK);
    let closed = unused_address();
    let loadx = LoadX::of(&json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "clusters": {
            "web": { "backends": [closed.to_string(), origin.address().to_string()], "health": { "probe": "off" } },
        },
        "routes": [{ "name": "site", "cluster": "web" }],
        "workers": 1,
        "tracing": { "otlp": receiver.url(), "service": "edge", "one_in": 0 },
    }));
    let traced = |flags: &str| {
        let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let head = format!("GET /a?secret=1 HTTP/1.1\r\nHost: a.test\r\nTraceparent: {parent}\r\n\r\n");
        assert_eq!(loadx.client().send(head).response().status, 200);
    };
    loadx.get("/untraced");
    traced("00");
    // Until requests have met both backends first.
    let spans = eventually("an attempt fails and another one is answered", || {
        traced("01");
        let spans = receiver.spans(2);
        spans.iter().any(|span| span["error"] == true).then_some(spans)
    });
    assert!(spans.iter().all(|span| span["right"] == true && span["service"] == "edge"), "{spans:#?}");
    assert!(spans.iter().all(|span| span["trace"] == "0af7651916cd43dd8448eb211c80319c"), "{spans:#?}");
    let exchanges: Vec<&Value> = spans.iter().filter(|span| span["kind"] == 2).collect();
    assert!(!exchanges.is_empty());
    for exchange in exchanges {
        assert_eq!((&exchange["parent"], &exchange["name"]), (&json!("b7ad6b7169203331"), &json!("GET site")));
        let attributes = &exchange["attributes"];
        assert_eq!((&attributes["url.path"], &attributes["http.response.status_code"]), (&json!("/a"), &json!(200)));
        assert_eq!((&attributes["loadx.cluster"], &attributes["server.address"]), (&json!("web"), &json!("a.test")));
        let attempts: Vec<&Value> = spans.iter().filter(|span| span["parent"] == exchange["id"]).collect();
        assert!(!attempts.is_empty());
        for attempt in &attempts {
            assert!(attempt["nanos"].as_i64().unwrap() <= exchange["nanos"].as_i64().unwrap(), "{attempt} {exchange}");
        }
        // The backend sees the span of its attempt as its parent.
        let last = attempts.iter().find(|span| span["error"] == false).unwrap();
        let sent = format!("00-0af7651916cd43dd8448eb211c80319c-{}-01", last["id"].as_str().unwrap());
        assert!(origin.requests().iter().any(|request| request.contains(&sent)), "{sent}: {:?}", origin.requests());
    }
    let failed: Vec<&Value> = spans.iter().filter(|span| span["error"] == true).collect();
    assert_eq!(failed[0]["attributes"]["error.type"], "connection_refused");
    assert_eq!(failed[0]["attributes"]["loadx.backend"], closed.to_string());
}

#[test]
fn requests_without_a_trace_are_drawn_and_a_missing_receiver_harms_nobody() {
    let Some(receiver) = Receiver::start() else { return };
    let origin = Origin::answering(OK);
    let settings = json!({ "tracing": { "otlp": format!("{}/v1/traces", receiver.url()) } });
    let loadx = LoadX::with(&[origin.address()], &settings);
    (0..5).for_each(|_| assert_eq!(loadx.get("/").status, 200));
    let spans = receiver.spans(10);
    let roots = spans.iter().filter(|span| span["parent"] == "").count();
    assert_eq!((spans.len(), roots), (10, 5), "{spans:#?}");

    let nowhere = json!({ "tracing": { "otlp": format!("http://{}", unused_address()) } });
    let loadx = LoadX::with(&[origin.address()], &nowhere);
    (0..300).for_each(|_| assert_eq!(loadx.get("/").status, 200));
    loadx.wait_for_log("spans were not sent to http://");
}

#[test]
fn a_faulty_receiver_is_explained() {
    for (receiver, fault) in
        [("https://localhost", "is no address"), ("localhost:4318", "is no address"), ("http://:1/", "is no address")]
    {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("config.json");
        let config =
            json!({ "backend_servers": [{ "host": "127.0.0.1", "port": 1 }], "tracing": { "otlp": receiver } });
        std::fs::write(&file, config.to_string()).unwrap();
        let output = crate::support::loadx(&["check", file.to_str().unwrap()]);
        assert!(output.code == Some(2) && output.stderr.contains(fault), "{output:?}");
    }
}
