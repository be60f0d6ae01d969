//! kill -9 at every step: strace kills LoadX at the first, the second, … system call of an operation that can matter, and
//! the next start must find one of the two configs, whole.
//!
//! Skipped where strace is missing or may not trace.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{LoadX, Origin, PATIENCE, eventually, signal_to};

const OLD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold";
const NEW: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew";

/// More steps than any operation has: the test must end.
const STEPS_MAX: usize = 200;

fn config(backend: SocketAddr) -> Value {
    json!({
        "proxy_host": "127.0.0.1", "proxy_port": 0,
        "clusters": { "app": { "backends": [backend.to_string()], "health": { "probe": "off" } } },
    })
}

/// strace, attached to a thread, or to a process with its children. Kills the caller of the `step`th of these calls.
pub(crate) struct Killer(Child);

impl Killer {
    /// `None` if strace is missing or may not trace.
    pub(crate) fn attach(options: &[&str], id: u32, calls: &str, step: usize) -> Option<Self> {
        let mut strace = Command::new("strace");
        strace.args(options).args(["-o", "/dev/null", "-p", &id.to_string(), "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:signal=KILL:when={step}")]);
        let mut child = strace.stderr(Stdio::piped()).spawn().ok()?;
        let mut told = String::new();
        let read = BufReader::new(child.stderr.take()?).read_line(&mut told);
        let killer = Killer(child);
        (read.is_ok() && told.contains("attached")).then_some(killer)
    }
}

impl Drop for Killer {
    fn drop(&mut self) {
        // strace ends by itself with the traced process; otherwise SIGTERM makes strace let go.
        signal_to(self.0.id(), rustix::process::Signal::TERM);
        // Under load strace has waited for ever for a traced process that was killed at the same moment. The system detaches what a
        // killed strace traces.
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The thread of the admin API, which makes all changes.
fn admin_thread(loadx: &LoadX) -> u32 {
    thread(loadx, "loadx-admin")
}

/// The thread with this name.
pub(crate) fn thread(loadx: &LoadX, wanted: &str) -> u32 {
    let is_admin =
        |path: &std::path::Path| std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == wanted);
    let thread = eventually(&format!("the thread {wanted} runs"), || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", loadx.pid())).unwrap();
        threads.filter_map(|entry| Some(entry.ok()?.path())).find(|path| is_admin(path))
    });
    thread.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// The system calls at which a crash can matter.
const CALLS: [&str; 6] = ["openat", "write", "writev", "fsync", "rename", "futex"];

/// Runs `operation` again and again, each time with a kill at another call, until each kind of call had all its turns.
/// `check` looks at the next start, with whether the operation had told its success. Returns the number of kills.
fn at_every_step(
    prepare: impl Fn() -> LoadX,
    operation: impl Fn(&LoadX) -> bool,
    check: impl Fn(&LoadX, bool),
) -> usize {
    let mut kills = 0;
    for call in CALLS {
        for step in 1.. {
            assert!(step < STEPS_MAX, "the operation calls {call} more than {STEPS_MAX} times");
            let mut loadx = prepare();
            let Some(killer) = Killer::attach(&[], admin_thread(&loadx), call, step) else {
                eprintln!("skipped: strace is missing or may not trace");
                return 0;
            };
            let succeeded = operation(&loadx);
            drop(killer);
            if !succeeded {
                // The system takes a moment to end the process.
                loadx.wait();
            }
            let was_killed = loadx.ended().is_some();
            loadx.restart();
            check(&loadx, succeeded);
            if !was_killed {
                break;
            }
            kills += 1;
        }
    }
    kills
}

#[test]
fn a_kept_config_is_the_old_or_the_new_one_after_a_crash_at_any_step() {
    let (old, new) = (Origin::answering(OLD), Origin::answering(NEW));
    let kills = at_every_step(
        || {
            let loadx = LoadX::of(&config(old.address()));
            loadx.file("new.json", &config(new.address()).to_string());
            loadx
        },
        |loadx| {
            let file = loadx.config_path().with_file_name("new.json");
            loadx.ctl(&["apply", file.to_str().unwrap(), "--keep"]).code == Some(0)
        },
        |loadx, succeeded| {
            let text = loadx.get("/").text();
            assert!(text == "new" || (text == "old" && !succeeded), "{text}, succeeded: {succeeded}");
            assert!(!loadx.log().contains("is not used"), "the state file is whole: {}", loadx.log());
        },
    );
    assert!(kills == 0 || kills >= 7, "{kills} kills: at three openat, a write, two fsync and a rename at least");
}

#[test]
fn a_config_on_trial_never_survives_a_crash() {
    let (old, new) = (Origin::answering(OLD), Origin::answering(NEW));
    at_every_step(
        || {
            let loadx = LoadX::of(&config(old.address()));
            loadx.file("new.json", &config(new.address()).to_string());
            loadx
        },
        |loadx| {
            let file = loadx.config_path().with_file_name("new.json");
            loadx.ctl(&["apply", file.to_str().unwrap(), "--confirm-within", "60s", "--keep"]).code == Some(0)
        },
        |loadx, succeeded| {
            assert_eq!(loadx.get("/").text(), "old");
            assert!(!loadx.log().contains("is not used"), "{}", loadx.log());
            assert!(!succeeded || loadx.log().contains("was on trial when LoadX ended"), "{}", loadx.log());
        },
    );
}

#[test]
fn kept_changes_are_the_old_or_the_new_ones_after_a_crash_at_any_step() {
    let origins: Vec<Origin> = (0..2).map(|_| Origin::answering(OLD)).collect();
    let at: Vec<String> = origins.iter().map(|origin| origin.address().to_string()).collect();
    at_every_step(
        || {
            let loadx = LoadX::of(&config(origins[0].address()));
            assert_eq!(loadx.ctl(&["add", &at[1], "--keep"]).code, Some(0));
            loadx
        },
        |loadx| loadx.ctl(&["drain", &at[0], "--keep"]).code == Some(0),
        |loadx, succeeded| {
            let changes = loadx.ctl_json(&["status"])["config"]["changes"].clone();
            let told: Vec<&str> =
                changes.as_array().unwrap().iter().map(|change| change["what"].as_str().unwrap()).collect();
            let (added, drained) = (format!("{} of app: added", at[1]), format!("{} of app: drained", at[0]));
            assert!(
                told == [&*added, &*drained] || (told == [&*added] && !succeeded),
                "{told:?}, succeeded: {succeeded}"
            );
        },
    );
}

#[test]
fn a_crash_at_any_step_of_an_upgrade_leaves_one_process_to_serve_or_a_clean_start() {
    let old = Origin::answering(OLD);
    // The calls of an upgrade, of the process that goes and of the process that comes.
    for call in ["socketpair", "execve", "sendmsg", "recvmsg", "dup2", "rename", "listen", "epoll_create1", "clone3"] {
        for step in 1.. {
            assert!(step < STEPS_MAX, "an upgrade calls {call} more than {STEPS_MAX} times");
            let mut loadx = LoadX::of(&config(old.address()));
            let Some(killer) = Killer::attach(&["-f"], loadx.pid(), call, step) else {
                eprintln!("skipped: strace is missing or may not trace");
                return;
            };
            let succeeded = loadx.ctl(&["upgrade"]).code == Some(0);
            drop(killer);
            if loadx.ctl(&["status"]).code == Some(0) {
                let status = loadx.ctl_json(&["status"]);
                loadx.note_successor(status["pid"].as_u64().unwrap() as u32);
            } else {
                assert!(!succeeded, "{call} {step}: nobody serves: {}", loadx.log());
                loadx.wait();
                loadx.restart();
            }
            assert_eq!(loadx.get("/").text(), "old", "{call} {step}");
            if succeeded && loadx.ended().is_none_or(|status| status.success()) {
                break;
            }
        }
    }
}
