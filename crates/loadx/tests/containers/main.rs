//! The Docker section of docs/scenarios.md on real containers: algorithms, failover, scaling.
//!
//! The test builds the image and takes minutes, so it runs only on request: `LOADX_CONTAINERS=1 cargo test --test
//! containers -- --nocapture`. The test removes what it started, also after a failure.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest time of each wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// The containers of one test, with a unique project name.
struct Composition {
    directory: TempDir,
    project: String,
    port: u16,
}

impl Composition {
    fn new() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let directory = TempDir::new().unwrap();
        let port = free.local_addr().unwrap().port();
        let project = format!("loadx-test-{}", std::process::id());
        let composition = Composition { directory, project, port };
        let config = std::fs::read_to_string(root().join("docker/config.json")).unwrap();
        composition.set_config(&config);
        composition
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("config.json")
    }

    /// Writes the file in place, as an editor would, because the file is mounted.
    fn set_config(&self, text: &str) {
        std::fs::write(self.config(), text).unwrap();
        // The user of the container differs from the user of the test.
        let readable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        std::fs::set_permissions(self.config(), readable).unwrap();
    }

    fn set_algorithm(&self, algorithm: &str) {
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(self.config()).unwrap()).unwrap();
        config["algorithm"] = algorithm.into();
        self.set_config(&config.to_string());
    }

    fn compose(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("docker-compose");
        command
            .args(["--project-name", &self.project])
            .args(arguments)
            .current_dir(root())
            .env("LOADX_ADDRESS", "127.0.0.1")
            .env("LOADX_PORT", self.port.to_string())
            .env("LOADX_CONFIG", self.config())
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker-compose {arguments:?}: {said}");
        output
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn bench(&self, requests: u64, concurrency: usize, results: &str, more: &[&str]) -> Child {
        loadx()
            .args(["bench", "-n", &requests.to_string(), "-c", &concurrency.to_string(), "--url", &self.url(), "-o"])
            .arg(self.directory.path().join(results))
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn results(&self, bench: Child, results: &str) -> (Value, String) {
        let said = String::from_utf8(bench.wait_with_output().unwrap().stdout).unwrap();
        let text = std::fs::read_to_string(self.directory.path().join(results)).unwrap();
        (serde_json::from_str(&text).unwrap(), said)
    }

    fn benched(&self, requests: u64, concurrency: usize) -> Value {
        self.results(self.bench(requests, concurrency, "results.json", &[]), "results.json").0
    }

    /// Waits until `count` backends are in rotation, each at a different address. Returns the time that this took.
    /// Docker gives the address of a stopped container to the next container; until LoadX has asked DNS again, two
    /// names lead to this address.
    fn wait_for_healthy(&self, count: usize) -> Duration {
        let began = Instant::now();
        loop {
            let addresses = self.addresses_in_rotation();
            let distinct: std::collections::BTreeSet<&String> = addresses.iter().collect();
            if addresses.len() == count && distinct.len() == count {
                return began.elapsed();
            }
            assert!(began.elapsed() < PATIENCE, "{addresses:?} are in rotation, and not {count}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn addresses_in_rotation(&self) -> Vec<String> {
        let status = self.asked("/__status__").unwrap_or_default();
        let backends = status["backends"].as_array().cloned().unwrap_or_default();
        let healthy = backends.into_iter().filter(|backend| backend["healthy"] == true);
        healthy.map(|backend| backend["addresses"].to_string()).collect()
    }

    /// The JSON response of LoadX at this path.
    fn asked(&self, path: &str) -> Option<Value> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
        let mut response = String::new();
        stream.read_to_string(&mut response).ok()?;
        serde_json::from_str(response.split_once("\r\n\r\n")?.1).ok()
    }
}

impl Drop for Composition {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.compose(&["logs", "--no-color", "load-balancer"]);
            eprintln!("{}", String::from_utf8_lossy(&logs.stdout));
        }
        self.compose(&["--profile", "scaling", "down", "--volumes", "--timeout", "5"]);
    }
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn loadx() -> Command {
    Command::new(env!("CARGO_BIN_EXE_loadx"))
}

/// The reason to skip the test, if there is one.
fn reason_to_skip() -> Option<String> {
    if std::env::var_os("LOADX_CONTAINERS").is_none() {
        return Some("LOADX_CONTAINERS is not set; it takes minutes".to_owned());
    }
    for arguments in [vec!["docker", "info"], vec!["docker-compose", "version"]] {
        let ran = Command::new(arguments[0]).args(&arguments[1..]).output();
        if !ran.is_ok_and(|output| output.status.success()) {
            return Some(format!("`{}` does not work here", arguments.join(" ")));
        }
    }
    None
}

#[test]
fn the_scenarios_run_on_containers() {
    if let Some(reason) = reason_to_skip() {
        println!("skipped: {reason}");
        return;
    }
    let composition = Composition::new();
    let began = Instant::now();
    composition.compose(&["up", "-d"]);
    println!("up after {:.1} s, images built if they were not there", began.elapsed().as_secs_f64());
    the_image_is_small();
    composition.wait_for_healthy(3);
    algorithms(&composition);
    failover(&composition);
    the_address_of_a_stopped_container_is_reused(&composition);
    scaling(&composition);
    a_graceful_end(&composition);
}

/// The image has one stripped binary and the list of authorities.
fn the_image_is_small() {
    const MIB: u64 = 1024 * 1024;
    let image = std::env::var("LOADX_IMAGE").unwrap_or_else(|_| "loadx".to_owned());
    let arguments = ["image", "inspect", "--format", "{{.Size}}", &image];
    let output = Command::new("docker").args(arguments).output().unwrap();
    let size: u64 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
    println!("the image has {:.1} MiB", size as f64 / MIB as f64);
    assert!(size < 17 * MIB, "the image has {size} bytes");
}

fn algorithms(composition: &Composition) {
    for algorithm in ["least_connections", "ip_hash", "round_robin"] {
        composition.set_algorithm(algorithm);
        composition.compose(&["restart", "load-balancer"]);
        composition.wait_for_healthy(3);
        let results = composition.benched(90, 5);
        assert_eq!(results["failed"], 0, "{results}");
        let shares = results["backends"].as_object().unwrap();
        println!("{algorithm}: {}", results["backends"]);
        match algorithm {
            "round_robin" => {
                assert_eq!(results["backends"], json!({ "backend-1": 30, "backend-2": 30, "backend-3": 30 }));
            }
            "ip_hash" => assert_eq!(shares.len(), 1, "one client, one backend"),
            _ => assert_eq!(shares.len(), 3, "{shares:?}"),
        }
    }
}

fn failover(composition: &Composition) {
    let bench = composition.bench(60_000, 10, "failover.json", &[]);
    let stopped = Instant::now();
    composition.compose(&["stop", "backend-1"]);
    composition.wait_for_healthy(2);
    println!("backend-1 out of rotation {:.2} s after `stop` was typed", stopped.elapsed().as_secs_f64());
    let (results, _) = composition.results(bench, "failover.json");
    assert_eq!(results["failed"], 0, "{results}");
    println!("failover: {} requests, {} failed", results["requests"], results["failed"]);

    let started = Instant::now();
    composition.compose(&["start", "backend-1"]);
    composition.wait_for_healthy(3);
    println!("backend-1 back in rotation {:.2} s after `start` was typed", started.elapsed().as_secs_f64());
    assert_eq!(composition.benched(30, 3)["backends"], json!({ "backend-1": 10, "backend-2": 10, "backend-3": 10 }));
    let logs = composition.compose(&["logs", "--no-color", "load-balancer"]).stdout;
    let logs = String::from_utf8_lossy(&logs);
    assert!(logs.contains("backend backend-1 is down") && logs.contains("backend backend-1 is up"), "{logs}");
}

/// Docker gives the address of a stopped container to the next container. The stopped backend must not look healthy
/// because of this.
fn the_address_of_a_stopped_container_is_reused(composition: &Composition) {
    composition.compose(&["stop", "backend-1"]);
    composition.compose(&["--profile", "scaling", "up", "-d", "backend-4"]);
    let began = Instant::now();
    loop {
        let status = composition.asked("/__status__").unwrap();
        let healthy = |index: usize| status["backends"][index]["healthy"] == true;
        if !healthy(0) && healthy(3) {
            println!(
                "the stopped backend-1 is out and the new backend-4 in after {:.2} s",
                began.elapsed().as_secs_f64()
            );
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{status:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(composition.benched(90, 3)["backends"], json!({ "backend-2": 30, "backend-3": 30, "backend-4": 30 }));
    composition.compose(&["--profile", "scaling", "rm", "--stop", "--force", "backend-4"]);
    composition.compose(&["start", "backend-1"]);
    // backend-1 may have the former address of backend-4: until DNS has told LoadX that backend-4 has no address, both
    // names lead to backend-1, and backend-1 gets two shares.
    let began = Instant::now();
    loop {
        let status = composition.asked("/__status__").unwrap();
        let gone = status["backends"][3]["addresses"] == json!([]) && status["backends"][3]["healthy"] == false;
        if gone && status["healthy_backends"] == 3 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{status:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let again = composition.benched(90, 3);
    assert_eq!(again["backends"], json!({ "backend-1": 30, "backend-2": 30, "backend-3": 30 }), "{again}");
}

fn scaling(composition: &Composition) {
    let (baseline, _) = composition.results(composition.bench(900, 30, "baseline.json", &[]), "baseline.json");
    assert_eq!(baseline["backends"], json!({ "backend-1": 300, "backend-2": 300, "backend-3": 300 }));
    // Under load, while the two backends start: no request fails.
    let during = composition.bench(60_000, 10, "during.json", &[]);
    composition.compose(&["--profile", "scaling", "up", "-d"]);
    composition.wait_for_healthy(5);
    let (during, _) = composition.results(during, "during.json");
    assert_eq!(during["failed"], 0, "{during}");
    let path = composition.directory.path().join("baseline.json");
    let compare = ["--compare", path.to_str().unwrap()];
    let (scaled, said) = composition.results(composition.bench(900, 30, "scaled.json", &compare), "scaled.json");
    println!("{said}");
    assert_eq!(scaled["failed"], 0, "{scaled}");
    assert!(scaled["backends"].as_object().unwrap().values().all(|share| share == 180), "{scaled}");
    assert_eq!(scaled["backends"].as_object().unwrap().len(), 5);
    assert!(said.contains("backend-5"), "{said}");
}

fn a_graceful_end(composition: &Composition) {
    let stopping = Instant::now();
    composition.compose(&["stop", "load-balancer"]);
    println!("load-balancer stopped after {:.2} s", stopping.elapsed().as_secs_f64());
    let containers = composition.compose(&["ps", "-q", "load-balancer"]).stdout;
    let container = String::from_utf8(containers).unwrap();
    let inspect = Command::new("docker")
        .args([
            "inspect",
            "--format",
            "{{.State.ExitCode}} {{.Config.User}} {{.HostConfig.ReadonlyRootfs}}",
            container.trim(),
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(inspect.stdout).unwrap().trim(), "0 65534:65534 true");
}
