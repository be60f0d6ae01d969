//! LoadX as a service of systemd.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Client, Killed, LoadX, Origin, PATIENCE, signal_to};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The socket of systemd, for sd_notify(3).
struct Notified {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Notified {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Notified { directory, socket }
    }

    fn variable(&self) -> String {
        self.directory.path().join("notify").to_str().unwrap().to_owned()
    }

    fn next(&self) -> String {
        let mut buffer = [0; 1_024];
        let count = self.socket.recv(&mut buffer).expect("LoadX tells systemd something");
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }
}

fn config(origin: &Origin) -> Value {
    json!({
        "listeners": [{ "address": "127.0.0.1:0" }],
        "clusters": { "app": { "backends": [origin.address().to_string()] } },
    })
}

#[test]
fn systemd_hears_of_the_start_a_reload_and_the_stop() {
    let (origin, notified) = (Origin::answering(OK), Notified::new());
    let mut loadx = LoadX::of_within(&config(&origin), &[], &[("NOTIFY_SOCKET", &notified.variable())]);
    assert!(notified.next().contains("READY=1"));
    assert_eq!(loadx.get("/").text(), "ok");
    for text in [config(&origin).to_string(), "{".to_owned()] {
        loadx.reload_text(&text);
        let reloading = notified.next();
        assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
        assert!(notified.next().contains("READY=1"), "also after a faulty config: LoadX goes on");
    }
    loadx.terminate();
    assert!(notified.next().contains("STOPPING=1"));
    assert_eq!(loadx.wait().code(), Some(0));
}

#[test]
fn the_watchdog_gets_signs_of_life() {
    let (origin, notified) = (Origin::answering(OK), Notified::new());
    let variables = [("NOTIFY_SOCKET", &*notified.variable()), ("WATCHDOG_USEC", "200000")];
    let loadx = LoadX::of_within(&config(&origin), &[], &variables);
    assert!(notified.next().contains("READY=1"));
    for _ in 0..3 {
        assert!(notified.next().contains("WATCHDOG=1"));
    }
    drop(loadx);
}

#[test]
fn the_unit_file_is_one_that_systemd_takes() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: this machine has no systemd-analyze");
        return;
    }
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/loadx.service");
    let directory = TempDir::new().unwrap();
    let copy = directory.path().join("loadx.service");
    // The commands of a unit must exist when the unit is verified.
    let text = std::fs::read_to_string(unit).unwrap().replace("/usr/bin/loadx", env!("CARGO_BIN_EXE_loadx"));
    std::fs::write(&copy, text).unwrap();
    let output = Command::new("systemd-analyze").arg("verify").arg("--man=no").arg(&copy).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("loadx.service"), "{said}");
    let socket = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/loadx.socket");
    std::fs::copy(socket, directory.path().join("loadx.socket")).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(directory.path().join("loadx.socket"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("loadx.socket"), "{said}");
    let security = ["security", "--offline=true", "--threshold=20"];
    let output = Command::new("systemd-analyze").args(security).arg(&copy).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn systemd_learns_of_the_process_that_takes_over() {
    let (origin, notified) = (Origin::answering(OK), Notified::new());
    let variables = [("NOTIFY_SOCKET", &*notified.variable()), ("WATCHDOG_USEC", "200000")];
    let mut loadx = LoadX::of_within(&config(&origin), &[], &variables);
    assert!(notified.next().contains("READY=1"));
    let pid = loadx.upgrade();
    let (mut is_main, mut is_ready) = (false, false);
    while !(is_main && is_ready) {
        let told = notified.next();
        is_main |= told.contains(&format!("MAINPID={pid}"));
        is_ready |= told.contains("READY=1");
    }
    loadx.wait();
    assert!(
        std::iter::repeat_with(|| notified.next()).any(|told| told.contains("WATCHDOG=1")),
        "the new process lives"
    );
    signal_to(pid, rustix::process::Signal::TERM);
    assert!(std::iter::repeat_with(|| notified.next()).any(|told| told.contains("STOPPING=1")));
}

#[test]
fn a_socket_of_systemd_is_used_with_the_clients_that_wait() {
    let origin = Origin::answering(OK);
    let directory = TempDir::new().unwrap();
    for (case, name, host) in [("by its name", "web", "127.0.0.2"), ("by its address", "unknown", "127.0.0.1")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let config = json!({
            "listeners": [{ "name": "web", "address": format!("{host}:{}", address.port()) }],
            "clusters": { "app": { "backends": [origin.address().to_string()] } },
        });
        let file = directory.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        // The client connects before LoadX runs.
        let mut early = Client::connect(address);
        early.get("/");
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"",
                "sh",
                env!("CARGO_BIN_EXE_loadx"),
            ])
            .args(["run", "--admin", "off", "--config"])
            .arg(&file)
            .env("LISTEN_FDNAMES", name)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null());
        let mut loadx = Killed(command.spawn().unwrap());
        assert_eq!(early.response().text(), "ok", "{case}");
        assert_eq!(Client::connect(address).get("/").response().text(), "ok", "{case}");
        assert!(loadx.0.try_wait().unwrap().is_none());
    }
}
