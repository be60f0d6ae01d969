//! What Prometheus and promtool say of the metrics, the alert rules and the dashboard. Tests of missing programs are skipped,
//! unless `LOADX_JUDGES` is set.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::judges::{find, output};
use crate::support::tls::{Authority, text};
use crate::support::{Client, Killed, LoadX, Origin, TestBackend, eventually, unused_address, unused_ports};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\norigin";

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(file)
}

/// A LoadX that has values for as many metrics as one process can have, and a backend that can end.
fn busy(backends: &[SocketAddr]) -> (LoadX, Authority) {
    let authority = Authority::new();
    let files = authority.issue("site", &["localhost"]);
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    let tls = json!({ "certificate": text(&files.certificate), "key": text(&files.key) });
    let loadx = LoadX::of(&json!({
        "listeners": [{ "name": "plain", "address": "127.0.0.1:0" }, { "name": "tls", "address": "127.0.0.1:0", "tls": tls }],
        "clusters": {
            "web": {
                "backends": backends, "health": { "interval": 0.2 },
                "resilience": { "limits": { "requests": 1000, "requests_per_backend": 500 }, "breaker": {} },
            },
            "copies": { "backends": [backends[0]], "health": { "interval": 0.2 } },
            "closed": { "backends": [unused_address().to_string()], "health": { "probe": "off" } },
        },
        "routes": [
            { "name": "closed", "path_prefix": "/closed", "cluster": "closed" },
            { "name": "we\\ird \"name\"", "path_prefix": "/weird", "cluster": "web" },
            { "name": "all", "cluster": "web", "mirror": "copies" },
        ],
    }));
    loadx.wait_for_healthy(backends.len() + 2);
    for path in ["/", "/closed", "/weird", "/weird"] {
        loadx.get(path);
    }
    let secure = loadx.addresses()[1];
    let get = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(authority.connect(secure, "localhost").send(get).response().status, 200);
    // A client without TLS, so that a handshake fails.
    Client::connect(secure).send("GET / HTTP/1.1\r\n\r\n").is_closed();
    (loadx, authority)
}

#[test]
fn promtool_has_nothing_to_say_about_the_metrics() {
    let Some(promtool) = find("promtool") else { return };
    let origin = Origin::answering(OK);
    let (loadx, _authority) = busy(&[origin.address()]);
    let text = loadx.get("/__metrics__?format=prometheus").text();
    for metric in ["loadx_tls_handshake_failures_total{", "loadx_certificate_expiry", "loadx_cluster_requests_limit{"] {
        assert!(text.contains(metric), "{metric}: {text}");
    }
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}");
}

#[test]
fn promtool_accepts_the_alert_rules_and_their_tests() {
    let Some(promtool) = find("promtool") else { return };
    for arguments in [["check", "rules", "loadx.rules.yml"], ["test", "rules", "loadx.rules.test.yml"]] {
        let said = output(Command::new(&promtool).args(arguments).current_dir(packaging("prometheus")));
        assert!(said.contains("SUCCESS"), "{said}");
    }
}

/// A Prometheus that scrapes one LoadX; ended when dropped.
struct Prometheus {
    _process: Killed,
    port: u16,
    _folder: TempDir,
}

impl Prometheus {
    fn start(program: &Path, loadx: &LoadX, options: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let rules = std::fs::read_to_string(packaging("prometheus/loadx.rules.yml")).unwrap();
        // The alerts wait for half a minute and longer, which a test does not.
        let quick = rules.lines().filter(|line| !line.trim_start().starts_with("for:"));
        std::fs::write(folder.path().join("rules.yml"), quick.collect::<Vec<_>>().join("\n")).unwrap();
        let config = json!({
            "global": { "scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms" },
            "rule_files": ["rules.yml"],
            "scrape_configs": [{
                "job_name": "loadx", "metrics_path": "/__metrics__",
                "static_configs": [{ "targets": [loadx.address.to_string()] }],
            }],
        });
        std::fs::write(folder.path().join("prometheus.yml"), config.to_string()).unwrap();
        let port = unused_ports(1);
        let child = Command::new(program)
            .arg(format!("--config.file={}", text(&folder.path().join("prometheus.yml"))))
            .arg(format!("--storage.tsdb.path={}", text(&folder.path().join("data"))))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Prometheus { _process: Killed(child), port, _folder: folder }
    }

    /// The JSON of a request to the API; `None` while Prometheus starts.
    fn ask(&self, path: &str) -> Option<Value> {
        let stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let response = Client::over(stream).get(path).try_response().ok()?;
        serde_json::from_slice(&response.body).ok()
    }

    /// The series of an instant query.
    fn query(&self, expression: &str) -> Option<Vec<Value>> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = self.ask(&format!("/api/v1/query?query={encoded}"))?;
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().cloned()
    }

    fn number(&self, expression: &str) -> Option<f64> {
        self.query(expression)?.first()?["value"][1].as_str()?.parse().ok()
    }

    fn alerts(&self) -> Option<Vec<String>> {
        let answer = self.ask("/api/v1/alerts")?;
        let alerts = answer["data"]["alerts"].as_array()?.iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        Some(firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned()).collect())
    }
}

#[test]
fn a_prometheus_stores_the_metrics_draws_the_dashboard_and_fires_the_alert() {
    let Some(program) = find("prometheus") else { return };
    let (origin, mut backend) = (Origin::answering(OK), TestBackend::start("b"));
    let (loadx, _authority) = busy(&[origin.address(), backend.address]);
    let prometheus = Prometheus::start(&program, &loadx, &[]);
    eventually("Prometheus has scraped LoadX", || prometheus.number("up{job=\"loadx\"} == 1"));
    loadx.get("/");
    let requests = "sum(loadx_requests_total)";
    eventually("the count of a request arrives", || prometheus.number(requests).filter(|count| *count >= 6.0));
    // Every expression of the dashboard, with the variables of Grafana replaced.
    let dashboard = std::fs::read_to_string(packaging("grafana/loadx.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| Some((panel, panel["targets"].as_array()?)));
    let mut count = 0;
    for (panel, targets) in targets {
        let expressions = targets.iter().map(|target| {
            let typed = target["expr"].as_str().unwrap();
            [("$job", "loadx"), ("$instance", ".*"), ("$cluster", ".*"), ("$__rate_interval", "1m")]
                .iter()
                .fold(typed.to_owned(), |text, (name, value)| text.replace(name, value))
        });
        for expression in expressions {
            let title = panel["title"].as_str().unwrap();
            eventually(&format!("{title} has values: {expression}"), || {
                loadx.get("/closed");
                prometheus.query(&expression).filter(|series| !series.is_empty())
            });
            count += 1;
        }
    }
    assert!(count > 25, "{count}");

    assert!(!prometheus.alerts().unwrap().contains(&"LoadxBackendDown".to_owned()));
    backend.kill();
    eventually("the alert fires", || prometheus.alerts()?.contains(&"LoadxBackendDown".to_owned()).then_some(()));
}

#[test]
fn a_prometheus_stores_native_histograms() {
    let Some(program) = find("prometheus") else { return };
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    loadx.get("/");
    let prometheus = Prometheus::start(&program, &loadx, &["--enable-feature=native-histograms"]);
    let count = "histogram_count(loadx_cluster_request_duration_seconds)";
    assert_eq!(eventually("the durations arrive", || prometheus.number(count)), 1.0);
    (0..9).for_each(|_| drop(loadx.get("/")));
    eventually("the count grows", || prometheus.number(count).filter(|count| *count == 10.0));
    let median = prometheus.number("histogram_quantile(0.5, loadx_cluster_request_duration_seconds)").unwrap();
    assert!(median > 0.000_01 && median < 10.0, "{median}");
}
