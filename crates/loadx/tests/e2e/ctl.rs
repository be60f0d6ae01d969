//! `loadx ctl`: looks at a running LoadX, and changes backends without losing a request.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use serde_json::{Value, json};

use crate::support::{LoadX, Origin, eventually, loadx, start};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn config(backends: &[SocketAddr]) -> Value {
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    json!({ "proxy_host": "127.0.0.1", "proxy_port": 0, "clusters": { "app": { "backends": backends } } })
}

#[test]
fn status_and_tables_show_what_runs() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::of(&config(&[origin.address()]));
    loadx.get("/");
    loadx.wait_for_healthy(1);
    let status = loadx.ctl_json(&["status"]);
    assert_eq!(
        (&status["generation"], &status["config"]["source"]),
        (&json!(1), &json!("the config file")),
        "{status}"
    );
    assert_eq!(status["config"]["matches_file"], true);
    assert_eq!(status["listeners"][0]["addresses"], json!([loadx.address.to_string()]));
    let cluster = &status["clusters"][0];
    assert_eq!((&cluster["name"], &cluster["healthy"], &cluster["requests"]), (&json!("app"), &json!(1), &json!(1)));
    let backends = loadx.ctl(&["backends"]).stdout;
    let (titles, row) = backends.split_once('\n').unwrap();
    assert!(titles.starts_with("cluster  backend"), "{backends}");
    assert!(row.contains(&origin.address().to_string()) && row.contains(" up "), "{backends}");
    let backend = &loadx.ctl_json(&["backends"])[0];
    assert_eq!(
        (&backend["state"], &backend["in_rotation"], &backend["requests"]),
        (&json!("up"), &json!(true), &json!(1))
    );
    let words = loadx.ctl(&["status"]);
    assert_eq!(words.code, Some(0));
    assert!(words.stdout.contains("plan 1, from the config file"), "{}", words.stdout);
    assert!(loadx.ctl(&["config"]).stdout.contains("\"proxy_port\":0"));
}

#[test]
fn backends_are_drained_weighted_added_and_removed_under_load() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::answering(OK)).collect();
    let at: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    let loadx = LoadX::of(&config(&[origins[0].address(), origins[1].address()]));
    let bench = loadx.bench(10_000, 8, "/");
    let plan = |arguments: &[&str], generation: u64, told: &str| {
        let output = loadx.ctl(arguments);
        assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{arguments:?}");
        assert_eq!(output.stdout, format!("plan {generation}: {told}\n"));
    };
    plan(&["drain", &at[0]], 2, &format!("drain {} of app", at[0]));
    plan(&["add", &at[2], "--weight", "3", "--name", "third"], 3, &format!("add {} of app", at[2]));
    plan(&["weight", &at[1], "7"], 4, &format!("weight 7 for {} of app", at[1]));
    plan(&["ready", &at[0]], 5, &format!("ready {} of app", at[0]));
    plan(&["remove", &at[0]], 6, &format!("remove {} of app", at[0]));
    let seen: Vec<Value> = loadx.ctl_json(&["backends"]).as_array().unwrap().clone();
    let shown: Vec<_> = seen.iter().map(|backend| (backend["name"].clone(), backend["weight"].clone())).collect();
    assert_eq!(shown, [(json!(at[1]), json!(7)), (json!("third"), json!(3))]);
    let changes = loadx.ctl_json(&["status"])["config"]["changes"].clone();
    assert_eq!(changes.as_array().unwrap().len(), 3, "{changes}");
    loadx.reload(&config(&[origins[0].address(), origins[1].address()]));
    let shown = loadx.ctl_json(&["backends"]);
    assert_eq!(shown[1]["name"], "third", "a reload keeps the changes of operators: {shown}");
    plan(&["discard"], 8, "changes of backends discarded");
    assert_eq!(loadx.ctl_json(&["backends"])[0]["name"], *at[0]);
    let results = bench.results();
    assert_eq!((&results["failed"], &results["errors"]), (&json!(0), &json!({})), "{results}");
}

#[test]
fn impossible_changes_say_why_and_have_exit_statuses_for_scripts() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::of(&config(&[origin.address()]));
    let at = origin.address().to_string();
    let faulty = loadx.file("faulty.json", "{\"backend_servers\": []}");
    for (arguments, code, told) in [
        (&["drain", "10.9.9.9:1"][..], 2, "the backends are: "),
        (&["drain", &at, "--cluster", "nope"], 2, "the clusters are: app"),
        (&["weight", &at, "0"], 2, "from 1 to 1000"),
        (&["remove", &at], 1, "the last backend of the cluster app"),
        (&["add", &at], 1, "already has"),
        (&["add", "nowhere"], 2, "no address of a backend"),
        (&["apply", &faulty], 2, "no backend could answer"),
        (&["check", &faulty], 2, "no backend could answer"),
        (&["plan", &faulty], 2, "no backend could answer"),
        (&["confirm"], 1, "no config is on trial"),
        (&["rollback"], 1, "no config is on trial"),
        (&["log-level", "loud"], 2, "error, warn, info and debug"),
        (&["apply", &faulty, "--watch", "30"], 2, "with its unit"),
        (&["apply", &faulty, "--rollback-if", "error_rate > x"], 2, "is no condition"),
        (&["drain", &at, "--generation", "9"], 1, "plan 1 runs, not plan 9"),
    ] {
        let output = loadx.ctl(arguments);
        assert_eq!(output.code, Some(code), "{arguments:?}: {}", output.stderr);
        assert!(output.stderr.contains(told), "{arguments:?}: {}", output.stderr);
    }
    let status = loadx.ctl_json(&["status"]);
    assert_eq!((&status["generation"], &status["config"]["changes"]), (&json!(1), &json!([])), "nothing changed");
    let nobody = loadx_at("/nowhere/admin.sock", &["status"]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("cannot reach LoadX at /nowhere/admin.sock"), "{}", nobody.stderr);
}

fn loadx_at(socket: &str, arguments: &[&str]) -> crate::support::Output {
    loadx(&[&["ctl", "--socket", socket], arguments].concat())
}

#[test]
fn two_operators_cannot_overwrite_each_other() {
    let origins: Vec<Origin> = (0..2).map(|_| Origin::answering(OK)).collect();
    let loadx = LoadX::of(&config(&[origins[0].address(), origins[1].address()]));
    let known = loadx.ctl_json(&["status"])["generation"].to_string();
    let at = origins[0].address().to_string();
    assert_eq!(loadx.ctl(&["drain", &at, "--generation", &known]).code, Some(0));
    let other = loadx.file("other.json", &config(&[origins[1].address()]).to_string());
    let late = loadx.ctl(&["apply", &other, "--generation", &known]);
    assert_eq!(late.code, Some(1));
    assert!(late.stderr.contains(&format!("plan 2: drain {at} of app")), "{}", late.stderr);
    assert_eq!(loadx.ctl_json(&["status"])["generation"], 2);
}

#[test]
fn kept_changes_survive_a_crash_and_others_do_not() {
    let origins: Vec<Origin> = (0..3).map(|_| Origin::answering(OK)).collect();
    let at: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    let mut loadx = LoadX::of(&config(&[origins[0].address(), origins[1].address()]));
    loadx.ctl(&["drain", &at[0], "--keep"]);
    loadx.ctl(&["add", &at[2], "--keep"]);
    loadx.ctl(&["weight", &at[1], "9"]);
    loadx.restart();
    let backends = loadx.ctl_json(&["backends"]);
    let shown: Vec<_> = backends
        .as_array()
        .unwrap()
        .iter()
        .map(|backend| (backend["name"].clone(), backend["state"] == "drained", backend["weight"].clone()))
        .collect();
    assert_eq!(
        shown,
        [(json!(at[0]), true, json!(1)), (json!(at[1]), false, json!(1)), (json!(at[2]), false, json!(1))]
    );
    let changes = loadx.ctl_json(&["status"])["config"]["changes"].clone();
    assert!(changes.as_array().unwrap().iter().all(|change| change["kept"] == true), "{changes}");
    loadx.ctl(&["discard"]);
    loadx.restart();
    assert_eq!(loadx.ctl_json(&["status"])["config"]["changes"], json!([]));
    std::fs::write(loadx.state_path(), "{\"changes\": [").unwrap();
    loadx.restart();
    loadx.wait_for_log("is not used: its content is not valid");
    assert!(loadx.state_path().with_extension("json.bad").exists(), "a person may want to mend the file");
    assert_eq!(loadx.get("/").text(), "ok", "a broken state file keeps nobody from their work");
}

#[test]
fn a_plan_against_the_running_loadx_shows_what_is_in_use() {
    let (leaves, answer) = Origin::with_slow_path();
    let stays = Origin::answering(OK);
    let loadx = LoadX::of(&config(&[leaves.address(), stays.address()]));
    let mut running = loadx.client();
    running.get("/slow");
    eventually("the slow request is with the origin", || {
        leaves.requests().iter().any(|request| request.starts_with("GET /slow")).then_some(())
    });
    let mut next = config(&[stays.address()]);
    let same = loadx.file("same.json", &config(&[leaves.address(), stays.address()]).to_string());
    let socket = loadx.socket();
    let plan = |file: &str, options: &[&str]| {
        crate::support::loadx(&[&["plan", file, "--socket", socket.to_str().unwrap()], options].concat())
    };
    assert_eq!(plan(&same, &[]).code, Some(0));
    next["max_connections"] = json!(1);
    let mut second = loadx.client();
    second.get("/slow").send("");
    let file = loadx.file("next.json", &next.to_string());
    eventually("both connections are open", || (loadx.ctl_json(&["status"])["connections"]["open"] == 2).then_some(()));
    let output = plan(&file, &[]);
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert!(output.stdout.starts_with("plan 1 of the running LoadX -> "), "{}", output.stdout);
    assert!(
        output.stdout.contains("      now: 1 running exchange") || output.stdout.contains("now: 2 running"),
        "{}",
        output.stdout
    );
    assert!(output.stderr.contains("is below the 2 connections that are open now"), "{}", output.stderr);
    let printed: Value = serde_json::from_str(&plan(&file, &["--json"]).stdout).unwrap();
    let gone = |one: &&Value| one["part"] == "backend" && one["change"] == "removed";
    let backend = printed["differences"].as_array().unwrap().iter().find(gone).unwrap();
    assert!(backend["now"].as_str().unwrap().contains("running exchange"), "{backend}");
    for _ in 0..2 {
        let _ = answer.send(());
    }
}

#[test]
fn events_arrive_while_they_happen() {
    let origins: Vec<Origin> = (0..2).map(|_| Origin::answering(OK)).collect();
    let loadx = LoadX::of(&config(&[origins[0].address(), origins[1].address()]));
    loadx.wait_for_healthy(2);
    let events = start(&["ctl", "--socket", loadx.socket().to_str().unwrap(), "events"]);
    let at = origins[0].address().to_string();
    // The command may not listen yet.
    eventually("an event arrives", || {
        loadx.ctl(&["drain", &at]);
        loadx.ctl(&["ready", &at]);
        events.has_said("is drained").then_some(())
    });
    events.interrupt();
    let said = events.output().stdout;
    assert!(said.contains(&format!("backend {at} is drained: no new requests")), "{said}");
    assert!(said.contains(&format!("drain {at} of app (user ")), "{said}");
}

#[test]
fn the_log_level_changes_while_loadx_runs() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::of(&config(&[origin.address()]));
    assert_eq!(loadx.ctl(&["log-level", "error"]).code, Some(0));
    loadx.ctl(&["drain", &origin.address().to_string()]);
    assert_eq!(loadx.ctl(&["log-level", "info"]).code, Some(0));
    loadx.ctl(&["ready", &origin.address().to_string()]);
    loadx.wait_for_log("is no longer drained");
    assert!(!loadx.log().contains("is drained"), "{}", loadx.log());
}

#[test]
fn a_loadx_without_a_config_file_can_be_changed_too() {
    let origins: Vec<Origin> = (0..2).map(|_| Origin::answering(OK)).collect();
    let to: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    let loadx = LoadX::run(&["--to", &to[0], "--listen", "127.0.0.1:0"]);
    assert_eq!(loadx.ctl(&["add", &to[1]]).code, Some(0));
    let kept = loadx.ctl(&["drain", &to[0], "--keep"]);
    assert_eq!(kept.code, Some(1), "a script must learn that the change is not kept");
    assert!(kept.stdout.contains("done, but not kept for the next start"), "{}", kept.stdout);
    assert_eq!(loadx.ctl_json(&["backends"])[0]["state"], "drained");
    let reload = loadx.ctl(&["reload"]);
    assert_eq!(reload.code, Some(1));
    assert!(reload.stderr.contains("no config file to read again"), "{}", reload.stderr);
    assert!(loadx.ctl(&["config"]).stdout.contains("options of the command line"));
}

#[test]
fn the_socket_is_for_its_user_alone_and_goes_with_loadx() {
    let origin = Origin::answering(OK);
    let mut loadx = LoadX::of(&config(&[origin.address()]));
    let metadata = std::fs::metadata(loadx.socket()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let taken = crate::support::loadx(&[
        "run",
        "--to",
        "127.0.0.1:1",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        loadx.socket().to_str().unwrap(),
    ]);
    assert_eq!(taken.code, Some(2));
    assert!(taken.stderr.contains("another LoadX serves this socket"), "{}", taken.stderr);
    loadx.restart();
    assert_eq!(loadx.ctl(&["status"]).code, Some(0), "a socket that a crash left is replaced");
    loadx.terminate();
    loadx.wait();
    assert!(!loadx.socket().exists());
}

#[test]
fn a_reload_by_ctl_tells_the_outcome() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::of(&config(&[origin.address()]));
    std::fs::write(loadx.config_path(), "{\"listeners\": ").unwrap();
    let output = loadx.ctl(&["reload"]);
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("config.json has 1 fault"), "{}", output.stderr);
    assert!(loadx.ctl_json(&["status"])["config"]["last_failure"]["reason"].as_str().unwrap().contains("1 fault"));
    std::fs::write(loadx.config_path(), config(&[origin.address()]).to_string()).unwrap();
    assert_eq!(loadx.ctl(&["reload"]).code, Some(0));
    assert_eq!(loadx.ctl_json(&["status"])["config"]["last_failure"], Value::Null);
}

#[test]
fn a_kept_change_that_a_reload_dropped_does_not_come_back() {
    let origins: Vec<Origin> = (0..2).map(|_| Origin::answering(OK)).collect();
    let both = config(&[origins[0].address(), origins[1].address()]);
    let mut loadx = LoadX::of(&both);
    loadx.ctl(&["drain", &origins[1].address().to_string(), "--keep"]);
    loadx.reload(&config(&[origins[0].address()]));
    loadx.wait_for_log("has no effect any more and is dropped");
    loadx.reload(&both);
    loadx.restart();
    assert_eq!(loadx.ctl_json(&["status"])["config"]["changes"], json!([]));
}

#[test]
fn status_tells_what_a_restart_brings_back() {
    let origins: Vec<Origin> = (0..2).map(|_| Origin::answering(OK)).collect();
    let loadx = LoadX::of(&config(&[origins[0].address(), origins[1].address()]));
    let at = origins[0].address().to_string();
    loadx.ctl(&["drain", &at, "--keep"]);
    loadx.ctl(&["ready", &at]);
    let changes = loadx.ctl_json(&["status"])["config"]["changes"].clone();
    assert_eq!(changes, json!([{ "what": format!("after a restart: {at} of app: drained"), "kept": true }]));
}

#[test]
fn draining_the_last_backend_is_told() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::of(&config(&[origin.address()]));
    let output = loadx.ctl(&["drain", &origin.address().to_string()]);
    assert!(output.stdout.contains("all backends of the cluster app are drained"), "{}", output.stdout);
    let mut drained = config(&[origin.address()]);
    drained["clusters"]["app"]["backends"] =
        json!([{ "host": "127.0.0.1", "port": origin.address().port(), "drain": true }]);
    let file = loadx.file("drained.json", &drained.to_string());
    assert!(crate::support::loadx(&["check", &file]).stderr.contains("are drained"));
}

#[test]
fn a_long_name_does_not_end_the_table() {
    let origin = Origin::answering(OK);
    let mut long = config(&[origin.address()]);
    let name = "n".repeat(70_000);
    long["clusters"]["app"]["backends"] =
        json!([{ "host": "127.0.0.1", "port": origin.address().port(), "name": name }]);
    let loadx = LoadX::of(&long);
    let output = loadx.ctl(&["backends"]);
    assert_eq!((output.code, output.stdout.contains(&name)), (Some(0), true));
}
