//! `loadx plan` shows what another config would change.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::loadx;

struct Files {
    directory: TempDir,
}

impl Files {
    fn new(old: &Value, new: &str) -> Self {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("old.json"), old.to_string()).unwrap();
        std::fs::write(directory.path().join("new.json"), new).unwrap();
        Files { directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn plan(&self, options: &[&str]) -> crate::support::Output {
        let (new, old) = (self.path("new.json"), self.path("old.json"));
        loadx(&[&["plan", &new, "--from", &old], options].concat())
    }

    /// The exit status and the messages with this standard output.
    fn plan_to(&self, stdout: impl Into<Stdio>) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadx"));
        command.args(["plan", &self.path("new.json"), "--from", &self.path("old.json")]);
        let output = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

fn config() -> Value {
    json!({
        "listeners": [{ "name": "web", "address": "127.0.0.1:8080" }],
        "routes": [{ "name": "all", "cluster": "app" }],
        "clusters": { "app": { "algorithm": "ip_hash", "backends": ["10.0.0.1:80", "10.0.0.2:80"] } },
    })
}

#[test]
fn equal_configs_give_status_0() {
    let output = Files::new(&config(), &config().to_string()).plan(&[]);
    assert_eq!(output.code, Some(0));
    assert!(output.stdout.ends_with("new.json: no differences\n"), "{}", output.stdout);
}

#[test]
fn differences_are_told_with_their_effects_and_give_status_1() {
    let mut new = config();
    new["listeners"] = json!([{ "name": "web", "address": "127.0.0.1:8081" }]);
    new["clusters"]["app"]["backends"] = json!(["10.0.0.1:80", "10.0.0.3:80"]);
    new["request_timeout"] = json!(5);
    new["workers"] = json!(7);
    let files = Files::new(&config(), &new.to_string());
    let output = files.plan(&[]);
    assert_eq!((output.code, &*output.stderr), (Some(1), ""));
    for line in [
        "  + 127.0.0.1:8081: LoadX accepts clients on this address",
        "  - 127.0.0.1:8080: idle connections close; running requests and WebSockets have 30 s to finish",
        "      timeouts.response: 30 s -> 5 s",
        "      clients that change their backend: ",
        "  + 10.0.0.3:80 of app: takes requests at once: 50.0 % by weight",
        "  - 10.0.0.2:80 of app: gets no new requests; running requests and WebSockets have 600 s to finish",
        "  ~ request_timeout: 30 s -> 5 s; holds for clients from the next request on",
        "  ~ workers: one for each processor -> 7; needs a restart or an upgrade: threads are started once",
    ] {
        assert!(output.stdout.contains(line), "{line}\n{}", output.stdout);
    }
    let output = files.plan(&["--json"]);
    assert_eq!(output.code, Some(1));
    let printed: Value = serde_json::from_str(&output.stdout).unwrap();
    let differences = printed["differences"].as_array().unwrap();
    let backend = differences.iter().find(|difference| difference["name"] == "10.0.0.3:80").unwrap();
    assert_eq!(
        (&backend["part"], &backend["cluster"], &backend["change"]),
        (&json!("backend"), &json!("app"), &json!("added"))
    );
}

#[test]
fn a_faulty_or_missing_file_gives_status_2() {
    let output = Files::new(&config(), "{").plan(&[]);
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("new.json has 1 fault"), "{}", output.stderr);
    let output = loadx(&["plan", "/no/such/new.json", "--from", "/no/such/old.json"]);
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("loadx plan NEW --from FILE"), "{}", output.stderr);
}

#[test]
fn an_output_that_cannot_be_written_gives_status_2() {
    let mut new = config();
    new["workers"] = json!(7);
    for new in [config(), new] {
        let files = Files::new(&config(), &new.to_string());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(files.plan_to(writer), (Some(2), String::new()));
        let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { continue };
        let (code, message) = files.plan_to(full);
        assert_eq!(code, Some(2));
        assert!(message.contains("cannot write to standard output"), "{message}");
    }
}

#[test]
fn a_listener_on_a_held_port_needs_two_reloads() {
    let mut new = config();
    new["listeners"] = json!([{ "name": "web", "address": "0.0.0.0:8080" }]);
    let output = Files::new(&config(), &new.to_string()).plan(&[]);
    let line = "  + 0.0.0.0:8080: a reload refuses this config, because 127.0.0.1:8080 holds the port";
    assert!(output.stdout.contains(line), "{}", output.stdout);
}
