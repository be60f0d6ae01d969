//! LoadX as a service of systemd.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{LoadX, Origin, PATIENCE};

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
    let security = ["security", "--offline=true", "--threshold=20"];
    let output = Command::new("systemd-analyze").args(security).arg(&copy).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
