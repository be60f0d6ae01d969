//! Configs on trial: LoadX goes back by itself, also over a crash.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{LoadX, Origin, eventually, start, unused_address};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BAD: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nbad";

fn config(backend: SocketAddr) -> Value {
    json!({
        "proxy_host": "127.0.0.1", "proxy_port": 0,
        "clusters": { "app": { "backends": [backend.to_string()], "health": { "probe": "off" } } },
    })
}

struct Lab {
    loadx: LoadX,
    good: Origin,
    bad: Origin,
}

impl Lab {
    fn new() -> Self {
        let (good, bad) = (Origin::answering(OK), Origin::answering(BAD));
        Lab { loadx: LoadX::of(&config(good.address())), good, bad }
    }

    /// A file with a config whose backend fails.
    fn worse(&self) -> String {
        self.loadx.file("worse.json", &config(self.bad.address()).to_string())
    }

    fn last_trial(&self) -> Value {
        eventually("the trial ends", || {
            let status = self.loadx.ctl_json(&["status"]);
            status["trial"].is_null().then(|| status["last_trial"].clone())
        })
    }
}

#[test]
fn a_config_that_makes_requests_fail_goes_away_by_itself() {
    let lab = Lab::new();
    let applied = lab.loadx.ctl(&["apply", &lab.worse(), "--watch", "60s", "--rollback-if", "app: error_rate > 10%"]);
    assert_eq!(applied.code, Some(0), "{}", applied.stderr);
    assert!(applied.stdout.contains("on trial"), "{}", applied.stdout);
    for _ in 0..20 {
        assert_eq!(lab.loadx.get("/").text(), "bad");
    }
    let ended = lab.last_trial();
    let what = ended["what"].as_str().unwrap();
    assert_eq!(ended["kept"], false);
    assert!(what.contains("20 of 20 requests failed (100.00 %)"), "{what}");
    assert_eq!(lab.loadx.get("/").text(), "ok");
    lab.loadx.wait_for_log("LoadX went back from the config");
}

#[test]
fn a_config_that_nobody_confirms_goes_away_and_a_confirmed_one_stays() {
    let lab = Lab::new();
    let ended = lab.loadx.ctl(&["apply", &lab.worse(), "--confirm-within", "300ms", "--wait"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("nobody confirmed the config within 0.3 s"), "{}", ended.stdout);
    assert_eq!(lab.loadx.get("/").text(), "ok");
    lab.loadx.ctl(&["apply", &lab.worse(), "--confirm-within", "60s"]);
    assert_eq!(lab.loadx.get("/").text(), "bad");
    let confirmed = lab.loadx.ctl(&["confirm"]);
    assert_eq!(confirmed.code, Some(0));
    assert!(confirmed.stdout.contains("a restart of LoadX runs"), "the config is not kept: {}", confirmed.stdout);
    assert_eq!(lab.last_trial()["kept"], true);
    assert_eq!(lab.loadx.get("/").text(), "bad");
}

#[test]
fn a_config_that_does_well_is_kept_after_the_watch() {
    let lab = Lab::new();
    let file = lab.loadx.file("same.json", &config(lab.good.address()).to_string());
    let ended = lab.loadx.ctl(&["apply", &file, "--watch", "200ms", "--rollback-if", "error_rate > 10%", "--wait"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("because the watch ended well"), "{}", ended.stdout);
}

#[test]
fn during_a_trial_only_the_trial_changes_the_config() {
    let lab = Lab::new();
    let worse = lab.worse();
    lab.loadx.ctl(&["apply", &worse, "--watch", "60s"]);
    let status = lab.loadx.ctl_json(&["status"]);
    assert_eq!(status["trial"]["at_the_end"], "keep", "{status}");
    for command in [&["apply", &*worse][..], &["reload"]] {
        let refused = lab.loadx.ctl(command);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("is on trial"), "{}", refused.stderr);
    }
    lab.loadx.signal(Signal::HUP);
    lab.loadx.wait_for_log("the config is not applied");
    assert_eq!(lab.loadx.get("/").text(), "bad");
    let drained = lab.loadx.ctl(&["drain", &lab.bad.address().to_string()]);
    assert_eq!(drained.code, Some(0), "backends can be changed: {}", drained.stderr);
    assert_eq!(lab.loadx.ctl(&["rollback"]).code, Some(0));
    assert_eq!(lab.loadx.get("/").text(), "ok");
    let condition = lab.loadx.ctl(&["apply", &worse, "--watch", "1s", "--rollback-if", "nope: p99 > 1s"]);
    assert_eq!(condition.code, Some(2));
    assert!(condition.stderr.contains("a cluster that the config does not have"), "{}", condition.stderr);
}

#[test]
fn after_a_crash_loadx_runs_the_last_confirmed_config_and_says_so() {
    let mut lab = Lab::new();
    // The operator edits the config file itself and applies the file on trial.
    std::fs::write(lab.loadx.config_path(), config(lab.bad.address()).to_string()).unwrap();
    let path = lab.loadx.config_path().to_str().unwrap().to_owned();
    assert_eq!(lab.loadx.ctl(&["apply", &path, "--confirm-within", "60s"]).code, Some(0));
    assert_eq!(lab.loadx.get("/").text(), "bad");
    lab.loadx.restart();
    assert_eq!(lab.loadx.get("/").text(), "ok");
    let status = lab.loadx.ctl_json(&["status"]);
    assert!(status["note"].as_str().unwrap().contains("is not confirmed"), "{status}");
    assert_eq!(status["config"]["matches_file"], false);
    lab.loadx.wait_for_log("LoadX runs the last confirmed config");
    lab.loadx.restart();
    assert_eq!(lab.loadx.get("/").text(), "ok", "also after another start");
    // A reload is the word of an operator.
    assert_eq!(lab.loadx.ctl(&["reload"]).code, Some(0));
    assert_eq!(lab.loadx.get("/").text(), "bad");
    lab.loadx.restart();
    assert_eq!(lab.loadx.get("/").text(), "bad");
    assert_eq!(lab.loadx.ctl_json(&["status"])["note"], Value::Null);
}

#[test]
fn a_config_that_loadx_refused_by_itself_is_not_used_by_the_next_start() {
    let mut lab = Lab::new();
    std::fs::write(lab.loadx.config_path(), config(lab.bad.address()).to_string()).unwrap();
    let path = lab.loadx.config_path().to_str().unwrap().to_owned();
    assert_eq!(lab.loadx.ctl(&["apply", &path, "--confirm-within", "100ms", "--wait"]).code, Some(1));
    lab.loadx.restart();
    assert_eq!(lab.loadx.get("/").text(), "ok");
    assert!(lab.loadx.ctl_json(&["status"])["note"].as_str().unwrap().contains("nobody confirmed"));
    // An edited file is a newer word of the operator.
    let mut other = config(lab.bad.address());
    other["via"] = json!("edited");
    std::fs::write(lab.loadx.config_path(), other.to_string()).unwrap();
    lab.loadx.restart();
    assert_eq!(lab.loadx.get("/").text(), "bad");
}

#[test]
fn a_kept_config_survives_a_crash_until_the_file_is_edited() {
    let mut lab = Lab::new();
    let worse = lab.worse();
    assert_eq!(lab.loadx.ctl(&["apply", &worse, "--keep"]).code, Some(0));
    lab.loadx.restart();
    assert_eq!(lab.loadx.get("/").text(), "bad");
    assert!(lab.loadx.ctl_json(&["status"])["note"].as_str().unwrap().contains("an operator kept"));
    let mut edited = config(lab.good.address());
    edited["via"] = json!("edited");
    std::fs::write(lab.loadx.config_path(), edited.to_string()).unwrap();
    lab.loadx.restart();
    assert_eq!(lab.loadx.get("/").text(), "ok");
    lab.loadx.wait_for_log("the config file was edited after an operator kept");
}

#[test]
fn going_back_restores_the_changes_of_operators() {
    let mut lab = Lab::new();
    let good = lab.good.address().to_string();
    assert_eq!(lab.loadx.ctl(&["weight", &good, "3", "--keep"]).code, Some(0));
    assert_eq!(lab.loadx.ctl(&["drain", &good, "--keep"]).code, Some(0));
    assert_eq!(lab.loadx.get("/").status, 503);
    lab.loadx.ctl(&["apply", &lab.worse(), "--confirm-within", "60s"]);
    assert_eq!(lab.loadx.get("/").text(), "bad");
    assert_eq!(lab.loadx.ctl(&["weight", &lab.bad.address().to_string(), "4", "--keep"]).code, Some(0));
    assert_eq!(lab.loadx.ctl(&["rollback"]).code, Some(0));
    let backend = lab.loadx.ctl_json(&["backends"])[0].clone();
    assert_eq!((&backend["state"], &backend["weight"]), (&json!("drained"), &json!(3)), "{backend}");
    lab.loadx.restart();
    assert_eq!(lab.loadx.ctl_json(&["backends"])[0]["state"], "drained");
}

#[test]
fn a_config_can_be_kept_when_it_is_confirmed() {
    let mut lab = Lab::new();
    lab.loadx.ctl(&["apply", &lab.worse(), "--confirm-within", "60s"]);
    let confirmed = lab.loadx.ctl(&["confirm", "--keep"]);
    assert_eq!((confirmed.code, confirmed.stdout.contains("warning")), (Some(0), false), "{}", confirmed.stdout);
    lab.loadx.restart();
    assert_eq!(lab.loadx.get("/").text(), "bad");
}

#[test]
fn the_trial_of_another_operator_is_not_taken_for_the_own_one() {
    let lab = Lab::new();
    let (worse, socket) = (lab.worse(), lab.loadx.socket());
    let waiting = start(&["ctl", "--socket", socket.to_str().unwrap(), "apply", &worse, "--watch", "60s", "--wait"]);
    eventually("the trial runs", || (lab.loadx.ctl_json(&["status"])["trial"] != Value::Null).then_some(()));
    // Both within the time between two looks of the waiting command, or not: the outcome of the first is not "kept".
    lab.loadx.ctl(&["rollback"]);
    lab.loadx.ctl(&["apply", &worse, "--confirm-within", "60s"]);
    lab.loadx.ctl(&["confirm"]);
    let output = waiting.output();
    assert_eq!(output.code, Some(1), "{output:?}");
}

#[test]
fn errors_of_loadx_itself_count_too() {
    let lab = Lab::new();
    let mut closed = config(lab.good.address());
    closed["routes"] = json!([{ "respond": { "status": 503 } }, { "hosts": ["a"], "cluster": "app" }]);
    let file = lab.loadx.file("closed.json", &closed.to_string());
    lab.loadx.ctl(&["apply", &file, "--watch", "60s", "--rollback-if", "error_rate > 10%"]);
    for _ in 0..20 {
        assert_eq!(lab.loadx.get("/").status, 503);
    }
    assert_eq!(lab.last_trial()["kept"], false);
    assert_eq!(lab.loadx.get("/").text(), "ok");
}

#[test]
fn loadx_tries_again_to_go_back() {
    let (good, bad) = (Origin::answering(OK), Origin::answering(BAD));
    let second = unused_address();
    let with = |origin: &Origin, addresses: &[&str]| {
        let listeners: Vec<Value> = addresses.iter().map(|address| json!({ "address": address })).collect();
        let mut typed = config(origin.address());
        typed.as_object_mut().unwrap().retain(|key, _| !key.starts_with("proxy_"));
        typed["listeners"] = json!(listeners);
        typed
    };
    let loadx = LoadX::of(&with(&good, &["127.0.0.1:0", &second.to_string()]));
    let file = loadx.file("one.json", &with(&bad, &["127.0.0.1:0"]).to_string());
    loadx.ctl(&["apply", &file, "--watch", "60s"]);
    assert_eq!(loadx.get("/").text(), "bad");
    let taken = std::net::TcpListener::bind(second).unwrap();
    let refused = loadx.ctl(&["rollback"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("in use"), "{}", refused.stderr);
    loadx.wait_for_log("and will try again");
    assert_eq!(loadx.get("/").text(), "bad");
    drop(taken);
    eventually("LoadX has gone back", || (loadx.get("/").text() == "ok").then_some(()));
}

#[test]
fn a_watched_file_that_changes_during_a_trial_is_read_afterwards() {
    let (old, new, tried) = (Origin::answering(OK), Origin::answering(BAD), Origin::answering(BAD));
    let loadx = LoadX::of_with(&config(old.address()), &["--watch"]);
    let file = loadx.file("tried.json", &config(tried.address()).to_string());
    loadx.ctl(&["apply", &file, "--watch", "3s"]);
    std::fs::write(loadx.config_path(), config(new.address()).to_string()).unwrap();
    loadx.wait_for_log("is kept, because the watch ended well");
    eventually("the file is read", || {
        let backend = loadx.ctl_json(&["backends"])[0]["address"].clone();
        (backend == new.address().to_string()).then_some(())
    });
    assert!(!loadx.log().contains("not applied"), "{}", loadx.log());
}

#[test]
fn a_watched_file_is_not_read_again_after_loadx_went_back_from_its_text() {
    let (old, new) = (Origin::answering(OK), Origin::answering(BAD));
    let loadx = LoadX::of_with(&config(old.address()), &["--watch"]);
    let tried = config(new.address()).to_string();
    let file = loadx.file("tried.json", &tried);
    loadx.ctl(&["apply", &file, "--confirm-within", "2s"]);
    std::fs::write(loadx.config_path(), &tried).unwrap();
    loadx.wait_for_log("nobody confirmed the config");
    loadx.wait_for_log("the changed config file is not read");
    assert_eq!(loadx.get("/").text(), "ok");
    assert_eq!(loadx.ctl(&["reload"]).code, Some(0));
    assert_eq!(loadx.get("/").text(), "bad", "a reload is the word of an operator");
}

#[test]
fn a_refused_file_stays_refused_after_other_trials_and_serves_when_an_operator_applies_it() {
    let mut lab = Lab::new();
    std::fs::write(lab.loadx.config_path(), config(lab.bad.address()).to_string()).unwrap();
    let path = lab.loadx.config_path().to_str().unwrap().to_owned();
    assert_eq!(lab.loadx.ctl(&["apply", &path, "--confirm-within", "100ms", "--wait"]).code, Some(1));
    let mut other = config(lab.good.address());
    other["via"] = json!("other");
    let other = lab.loadx.file("other.json", &other.to_string());
    lab.loadx.ctl(&["apply", &other, "--confirm-within", "60s"]);
    assert_eq!(lab.loadx.ctl(&["confirm"]).code, Some(0));
    lab.loadx.restart();
    assert_eq!(lab.loadx.get("/").text(), "ok", "the file is still refused");
    let told = lab.loadx.ctl(&["apply", &other]).stdout;
    assert!(told.contains("the last confirmed config and not this config"), "{told}");
    assert_eq!(lab.loadx.ctl(&["apply", &path]).code, Some(0));
    lab.loadx.restart();
    assert_eq!(lab.loadx.get("/").text(), "bad", "an operator applied the text for good");
}

#[test]
fn a_watched_file_that_loadx_refused_stays_refused_after_an_upgrade() {
    let (old, new) = (Origin::answering(OK), Origin::answering(BAD));
    let mut loadx = LoadX::of_with(&config(old.address()), &["--watch"]);
    let tried = config(new.address()).to_string();
    let file = loadx.file("tried.json", &tried);
    loadx.ctl(&["apply", &file, "--confirm-within", "1s"]);
    std::fs::write(loadx.config_path(), &tried).unwrap();
    loadx.wait_for_log("the changed config file is not read");
    loadx.upgrade();
    eventually("the new process has looked at the file", || {
        (loadx.log().matches("the changed config file is not read").count() >= 2).then_some(())
    });
    assert_eq!(loadx.get("/").text(), "ok");
}
