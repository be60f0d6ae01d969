//! The effect of each signal on a running LoadX.

use std::sync::mpsc::{Sender, channel};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{LoadX, Origin, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An origin that answers a request only when the test allows it.
fn waiting_origin() -> (Origin, Sender<()>) {
    let (answer, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let origin = Origin::start(move |connection| {
        connection.request();
        if wait.lock().unwrap().recv().is_ok() {
            connection.send(OK);
        }
    });
    (origin, answer)
}

#[test]
fn a_signal_without_a_meaning_does_not_end_the_drain() {
    let (origin, answer) = waiting_origin();
    let mut loadx = LoadX::with(&[origin.address()], &json!({ "shutdown_grace": 60 }));
    let mut running = loadx.client();
    running.get("/");
    eventually("the request is with the origin", || (origin.requests().len() == 1).then_some(()));
    loadx.terminate();
    loadx.wait_for_log("SIGTERM: accepting no more");
    loadx.signal(Signal::HUP);
    loadx.wait_for_log("SIGHUP is ignored");
    answer.send(()).unwrap();
    assert_eq!(running.response().text(), "ok");
    assert_eq!(loadx.wait().code(), Some(0));
}

#[test]
fn a_second_interrupt_that_follows_at_once_does_not_skip_the_drain() {
    let (origin, answer) = waiting_origin();
    let mut loadx = LoadX::with(&[origin.address()], &json!({ "shutdown_grace": 60 }));
    let mut running = loadx.client();
    running.get("/");
    eventually("the request is with the origin", || (origin.requests().len() == 1).then_some(()));
    loadx.interrupt();
    loadx.wait_for_log("SIGINT: accepting no more");
    loadx.interrupt();
    loadx.wait_for_log("SIGINT again within a second");
    answer.send(()).unwrap();
    assert_eq!(running.response().text(), "ok");
    assert_eq!(loadx.wait().code(), Some(0));
}

#[test]
fn a_later_signal_skips_the_drain() {
    let (origin, _answer) = waiting_origin();
    let mut loadx = LoadX::with(&[origin.address()], &json!({ "shutdown_grace": 60 }));
    let mut running = loadx.client();
    running.get("/");
    eventually("the request is with the origin", || (origin.requests().len() == 1).then_some(()));
    // The first signal begins the drain, signals of the next second change nothing, a later signal ends LoadX.
    let status = eventually("LoadX ends", || {
        loadx.terminate();
        loadx.ended()
    });
    assert_eq!(status.code(), Some(130));
    assert!(loadx.log().contains("SIGTERM: accepting no more"), "{}", loadx.log());
}
