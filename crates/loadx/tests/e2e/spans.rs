//! Spans for OpenTelemetry, read by the messages of that project. Skipped without Python, unless `LOADX_JUDGES` is set.

use std::io::BufRead as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::judges::find;
use crate::support::{Killed, LoadX, Origin, eventually, unused_address};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Receiver {
    _process: Killed,
    port: u16,
    file: PathBuf,
    _folder: TempDir,
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
        Some(Receiver { _process: Killed(child), port: port.trim().parse().unwrap(), file, _folder: folder })
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
    loadx.wait_for_log("spans were lost, for http://");
    let lost = || {
        let text = loadx.get("/__metrics__?format=prometheus").text();
        let line = text.lines().find_map(|line| line.strip_prefix("loadx_trace_lost_spans_total ")).map(str::to_owned);
        line.unwrap().parse::<f64>().unwrap()
    };
    eventually("each lost span is counted", || (lost() == 600.0).then_some(()));
}

#[test]
fn the_state_of_a_trace_that_goes_on_reaches_the_backend() {
    let origin = Origin::answering(OK);
    let nowhere = format!("http://{}", unused_address());
    let loadx = LoadX::with(&[origin.address()], &json!({ "tracing": { "otlp": nowhere } }));
    let parent = "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{parent}\r\nTracestate: dd=s:2\r\n\r\n");
    assert_eq!(loadx.client().send(head).response().status, 200);
    let request = &origin.requests()[0];
    assert!(request.contains("00-0af7651916cd43dd8448eb211c80319c-") && !request.contains(parent), "{request}");
    assert!(request.contains("Tracestate: dd=s:2\r\n"), "{request}");
}

#[test]
fn a_second_attempt_beside_the_first_has_a_span_and_none_of_the_two_is_a_failure() {
    let Some(receiver) = Receiver::start() else { return };
    // Nobody answers before both backends have the request.
    let arrived = Arc::<AtomicUsize>::default();
    let late = || {
        let arrived = Arc::clone(&arrived);
        Origin::start(move |connection| {
            while let Some(request) = connection.request() {
                if request.starts_with("GET /late ") {
                    arrived.fetch_add(1, Ordering::SeqCst);
                    eventually("both have it", || (arrived.load(Ordering::SeqCst) == 2).then_some(()));
                }
                connection.send(OK);
            }
        })
    };
    let (one, other) = (late(), late());
    let loadx = LoadX::with(
        &[one.address(), other.address()],
        &json!({
            "workers": 1, "resilience": { "outliers": "off", "retries": { "hedge": {} } },
            "tracing": { "otlp": receiver.url(), "one_in": 0 },
        }),
    );
    (0..200).for_each(|_| assert_eq!(loadx.get("/").status, 200));
    let parent = "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let head = format!("GET /late HTTP/1.1\r\nHost: a\r\n{parent}\r\n\r\n");
    assert_eq!(loadx.client().send(head).response().status, 200);
    let spans = receiver.spans(3);
    assert!(spans.iter().all(|span| span["error"] == false), "{spans:#?}");
    let attempts: Vec<&Value> = spans.iter().filter(|span| span["kind"] == 3).collect();
    let overtaken = attempts.iter().filter(|span| span["attributes"]["loadx.overtaken"] == "true").count();
    assert_eq!((attempts.len(), overtaken), (2, 1), "{spans:#?}");
    // Each backend got the id of the span of its attempt.
    for attempt in attempts {
        let id = attempt["id"].as_str().unwrap();
        let got = |origin: &Origin| origin.requests().iter().any(|request| request.contains(id));
        assert!(got(&one) || got(&other), "{id}");
    }
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
