//! `loadx top`, in a terminal and in a pipe.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::{LoadX, Origin, command, eventually, signal_to, terminal_pair};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// `loadx top` on a terminal of 80 × 24.
struct OnTerminal {
    child: Child,
    controller: File,
    screen: Screen,
}

/// All that was written to the terminal.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl OnTerminal {
    fn start(loadx: &LoadX) -> Self {
        let (controller, terminal) = terminal_pair(80, 24);
        let mut top = command();
        top.args(["top", "--socket", loadx.socket().to_str().unwrap()]).env("TERM", "xterm").env_remove("NO_COLOR");
        top.stdin(Stdio::from(terminal.try_clone().unwrap())).stdout(Stdio::from(terminal)).stderr(Stdio::null());
        let child = top.spawn().unwrap();
        let screen = Screen::default();
        let (shown, mut reading) = (screen.clone(), controller.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = reading.read(&mut bytes) {
                shown.0.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        OnTerminal { child, controller, screen }
    }
}

impl Screen {
    fn has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.0.lock().unwrap()).contains(text)
    }
}

#[test]
fn a_key_drains_the_chosen_backend_and_q_leaves_the_terminal_as_it_was() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::with(&[origin.address()], &json!({ "health_check_interval": 0.5 }));
    loadx.wait_for_healthy(1);
    let OnTerminal { mut child, mut controller, screen } = OnTerminal::start(&loadx);
    let has = |text: &str| screen.has(text);
    eventually("the backend is shown", || {
        loadx.get("/");
        has(&origin.address().to_string()).then_some(())
    });
    // Blank cells are not drawn again, so that only single words can be found.
    controller.write_all(b"j").unwrap();
    eventually("the chosen backend has its reason", || has("answered").then_some(()));
    controller.write_all(b"d").unwrap();
    eventually("the backend is drained", || (loadx.status()["backends"][0]["state"] == "drained").then_some(()));
    eventually("the screen tells it", || has("drained").then_some(()));
    controller.write_all(b"q").unwrap();
    assert!(child.wait().unwrap().success());
    eventually("the terminal is as it was", || has("\u{1b}[?1049l").then_some(()));
}

#[test]
fn a_signal_ends_it_and_leaves_the_terminal_as_it_was() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let OnTerminal { mut child, controller: _controller, screen } = OnTerminal::start(&loadx);
    let has = |text: &str| screen.has(text);
    eventually("the screen is drawn", || has("waiting").then_some(()));
    signal_to(child.id(), rustix::process::Signal::TERM);
    assert!(child.wait().unwrap().success());
    eventually("the terminal is as it was", || has("\u{1b}[?1049l").then_some(()));
}

#[test]
fn the_end_of_its_reader_ends_it() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let mut top = command();
    top.args(["top", "--socket", loadx.socket().to_str().unwrap()]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = top.spawn().unwrap();
    drop(child.stdout.take());
    let ended = eventually("it ends", || child.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_pipe_gets_a_line_each_second() {
    let origin = Origin::answering(OK);
    let loadx = LoadX::before(&[origin.address()]);
    let mut top = command();
    top.args(["top", "--socket", loadx.socket().to_str().unwrap()]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = top.spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains(" requests/s, ") && line.ends_with("connections: healthy"), "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
    drop(lines);
    drop(loadx);
    child.wait().unwrap();
}

#[test]
fn without_a_loadx_it_says_how_to_name_one() {
    let output = crate::support::loadx(&["top", "--socket", "/nowhere/at/all"]);
    assert!(output.code != Some(0) && output.stderr.contains("help: "), "{output:?}");
}
