//! The load generator against scripted servers on loopback.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::cell::RefCell;
use std::future::{pending, ready};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use loadx_load::{Content, Course, Failure, Outcome, Plan, Request, Reuse, Target, drive};
use tokio::sync::oneshot;

/// Far longer than a test takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The parts of an outcome that the tests check.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// The size of the content in bytes, or the kind of failure.
    result: Result<u64, String>,
    reconnected: bool,
}

fn ok(content_bytes: u64) -> Seen {
    Seen { result: Ok(content_bytes), reconnected: false }
}

fn failed(kind: &str) -> Seen {
    Seen { result: Err(kind.to_owned()), reconnected: false }
}

/// Starts a server that runs `script` on each connection, with the number of the connection, from 0.
fn serve(script: impl Fn(&mut TcpStream, usize) + Send + Sync + 'static) -> SocketAddr {
    let script = Arc::new(script);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let script = Arc::clone(&script);
            thread::spawn(move || script(&mut stream, number));
        }
    });
    address
}

/// Reads to the end of a request head. Returns false at the end of the connection.
fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

fn plan(address: SocketAddr, requests: u64, concurrency: usize) -> Plan {
    let target = Target::parse(&format!("http://{address}/")).unwrap();
    Plan::new(target, requests, concurrency, PATIENCE)
}

/// Runs a plan to its end; returns all outcomes in order.
fn outcomes(plan: &Plan) -> (Vec<Seen>, Course) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let shared = Rc::clone(&seen);
    let course = drive(
        plan,
        move |outcome| {
            let result = outcome.result.as_ref().map(|answer| answer.content_bytes).map_err(Failure::kind);
            shared.borrow_mut().push(Seen { result, reconnected: outcome.reconnected });
        },
        pending(),
    );
    (seen.take(), course.unwrap())
}

#[test]
fn bodies_go_up_whole() {
    const BYTES: usize = 700_001;
    let address = serve(|stream, _| {
        while read_head(stream) {
            let mut body = vec![0; BYTES];
            stream.read_exact(&mut body).unwrap();
            assert!(body.iter().all(|byte| *byte == b'u'));
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BYTES}\r\n\r\n").into_bytes();
    let content = Content::Filler(BYTES as u64);
    let plan = Plan { mix: [Request { origin: 0, head, content }].into(), ..plan(address, 6, 2) };
    assert_eq!(outcomes(&plan).0, [0; 6].map(|_| ok(2)));
}

#[test]
fn large_responses_come_down_whole_however_they_are_framed() {
    const BYTES: usize = 3_000_000;
    let address = serve(|stream, number| {
        let content = vec![b'x'; BYTES];
        read_head(stream);
        match number {
            0 => write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\nConnection: close\r\n\r\n").unwrap(),
            1 => write!(
                stream,
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{BYTES:x}\r\n"
            )
            .unwrap(),
            _ => write!(stream, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").unwrap(),
        }
        stream.write_all(&content).unwrap();
        if number == 1 {
            stream.write_all(b"\r\n0\r\n\r\n").unwrap();
        }
    });
    assert_eq!(outcomes(&plan(address, 3, 1)).0, [0; 3].map(|_| ok(BYTES as u64)));
}

#[test]
fn a_response_may_come_byte_by_byte() {
    let address = serve(|stream, _| {
        stream.set_nodelay(true).unwrap();
        while read_head(stream) {
            for byte in b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc" {
                stream.write_all(&[*byte]).unwrap();
            }
        }
    });
    assert_eq!(outcomes(&plan(address, 4, 1)).0, [0; 4].map(|_| ok(3)));
}

#[test]
fn a_connection_that_the_server_closes_is_opened_again() {
    let address = serve(|stream, _| {
        read_head(stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let (seen, _) = outcomes(&plan(address, 5, 1));
    assert_eq!(seen[0], ok(2));
    assert!(seen[1..].iter().all(|seen| *seen == Seen { result: Ok(2), reconnected: true }), "{seen:?}");
}

#[test]
fn bytes_behind_a_response_are_a_failure() {
    let address = serve(|stream, _| {
        read_head(stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n").unwrap();
    });
    assert_eq!(outcomes(&plan(address, 2, 1)).0, [0; 2].map(|_| failed("bad response: bytes follow its end")));
}

#[test]
fn a_truncated_body_is_a_failure() {
    let address = serve(|stream, _| {
        read_head(stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").unwrap();
    });
    assert_eq!(outcomes(&plan(address, 2, 1)).0, [0; 2].map(|_| failed("bad response: the body is truncated")));
}

#[test]
fn each_request_can_have_a_connection_that_the_server_ends() {
    const REQUESTS: usize = 20;
    let closed = Arc::new(AtomicUsize::new(0));
    let closing = Arc::clone(&closed);
    let address = serve(move |stream, _| {
        // Reads one request and ignores further bytes.
        read_head(stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").unwrap();
        // A client that does not wait for the end of the connection has time here to send its next request.
        (0..1_000).for_each(|_| thread::yield_now());
        closing.fetch_add(1, Ordering::SeqCst);
    });
    let plan = Plan { reuse: Reuse::PerRequest, ..plan(address, REQUESTS as u64, 1) };
    let mut seen = 0;
    let observe = move |outcome: &Outcome<'_>| {
        seen += 1;
        assert!(outcome.result.is_ok() && !outcome.reconnected, "{outcome:?}");
        assert_eq!(closed.load(Ordering::SeqCst), seen, "the request ended before its connection");
    };
    drive(&plan, observe, pending()).unwrap();
}

#[test]
fn held_connections_stay_open_until_the_stop() {
    const HELD: usize = 50;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plan = Plan { reuse: Reuse::Held, ..plan(listener.local_addr().unwrap(), HELD as u64, 4) };
    let (answered, answers) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let load = thread::spawn(move || {
        let observe = move |outcome: &Outcome<'_>| answered.send(outcome.result.is_ok()).unwrap();
        drive(&plan, observe, async { drop(stopped.await) }).unwrap()
    });
    let mut streams = Vec::new();
    for _ in 0..HELD {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(read_head(&mut stream));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert!(answers.recv_timeout(PATIENCE).unwrap());
        streams.push(stream);
    }
    for stream in &mut streams {
        stream.set_nonblocking(true).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "the load closed a connection");
    }
    stop.send(()).unwrap();
    assert!(load.join().unwrap().interrupted);
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the load left a connection open");
    }
}

#[test]
fn a_run_that_is_stopped_at_once_sends_nothing() {
    let address = serve(|stream, _| assert!(!read_head(stream), "a request came"));
    let course = drive(&plan(address, 10, 2), |outcome| panic!("{outcome:?}"), ready(())).unwrap();
    assert!(course.interrupted);
    assert_eq!((course.unfinished, course.unsent), (0, 0));
}

#[test]
fn an_observer_that_panics_fails_the_run() {
    let address = serve(|stream, _| {
        read_head(stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    assert!(drive(&plan(address, 1, 1), |_| panic!("seen"), pending()).is_err());
}
