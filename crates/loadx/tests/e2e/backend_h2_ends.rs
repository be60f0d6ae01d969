//! Connections to backends that speak HTTP/2: their limits, their windows, and their ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::backend_h2::{before, config};
use crate::support::h2::code::{CANCEL, NO_ERROR, REFUSED_STREAM};
use crate::support::h2::setting::{STREAMS_MAX, WINDOW};
use crate::support::h2::{
    DATA, GOAWAY, H2Client, HEADERS, PING, POST, backend, data, frame, headers, reset, settings, window,
};
use crate::support::{Client, LoadX, Origin, eventually};

/// Starts so many clients that ask for `/` at the same time; each must get `ok`.
fn ask_at_once(loadx: &LoadX, count: usize) -> Vec<std::thread::JoinHandle<()>> {
    let address = loadx.address;
    let ask = move || {
        let response = Client::connect(address).get("/").response();
        assert_eq!((response.status, response.text()), (200, "ok".to_owned()));
    };
    (0..count).map(|_| std::thread::spawn(ask)).collect()
}

#[test]
fn exchanges_share_connections_up_to_the_limit_of_the_backend() {
    let most = Arc::new(AtomicUsize::new(0));
    let (sees, open) = (Arc::clone(&most), Arc::new(Mutex::new(0)));
    let all = Arc::clone(&open);
    let origin = backend(&[(STREAMS_MAX, 3)], move |server| {
        let mut streams = Vec::new();
        loop {
            // Answers when all twelve are here.
            while let Some((stream, _)) = server.request() {
                streams.push(stream);
                *all.lock().unwrap() += 1;
                sees.fetch_max(streams.len(), Ordering::SeqCst);
                if streams.len() == 3 {
                    break;
                }
            }
            if streams.is_empty() {
                return;
            }
            eventually("all requests are here", || (*all.lock().unwrap() >= 12).then_some(()));
            for stream in streams.drain(..) {
                server.answer(stream, "200", "ok");
            }
        }
    });
    let loadx = before(&[&origin]);
    ask_at_once(&loadx, 12).into_iter().for_each(|client| client.join().unwrap());
    assert_eq!((most.load(Ordering::SeqCst), origin.connections()), (3, 4));
}

#[test]
fn a_backend_that_ends_its_connection_costs_no_request() {
    let origin = backend(&[], |server| {
        let mut served = 0;
        while let Some((stream, _)) = server.request() {
            // The third request of each connection comes too late.
            if served == 2 {
                let goaway = [&3_u32.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
                server.send(frame(GOAWAY, 0, 0, &goaway));
                return;
            }
            served += 1;
            server.answer(stream, "200", "ok");
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    for number in 0..10 {
        // Not idempotent: LoadX may send the request again only because the backend says that it has not seen it.
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
        let response = client.response();
        assert_eq!((response.status, response.text()), (200, "ok".to_owned()), "request {number}");
    }
    assert_eq!(origin.connections(), 5);
}

#[test]
fn a_refused_stream_is_sent_again() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let origin = backend(&[], move |server| {
        while let Some((stream, _)) = server.request() {
            match count.fetch_add(1, Ordering::SeqCst) {
                1 => drop(server.send(reset(stream, REFUSED_STREAM))),
                _ => drop(server.answer(stream, "200", "ok")),
            }
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(refused.load(Ordering::SeqCst), 4);
}

#[test]
fn a_request_that_the_backend_may_have_seen_is_not_sent_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let origin = backend(&[], move |server| {
        while let Some((stream, _)) = server.request() {
            match count.fetch_add(1, Ordering::SeqCst) {
                0 => drop(server.answer(stream, "200", "ok")),
                // The connection closes without a word.
                _ => return,
            }
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    assert_eq!(client.get("/").response().status, 200);
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response().status, 502);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[test]
fn a_client_that_leaves_cancels_its_stream_and_no_other() {
    let (told, tells) = channel();
    let origin = backend(&[], move |server| {
        let Some((first, _)) = server.request() else { return };
        let Some((second, _)) = server.request() else { return };
        let _ = told.send(());
        assert_eq!(server.reset_of(first), Some(CANCEL));
        server.answer(second, "200", "ok");
        server.answer_all("ok");
    });
    let loadx = before(&[&origin]);
    let mut leaving = loadx.client();
    leaving.get("/leaves");
    eventually("the first request is there", || (origin.connections() == 1).then_some(()));
    let staying = ask_at_once(&loadx, 1);
    tells.recv().unwrap();
    leaving.reset();
    drop(leaving);
    staying.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(loadx.get("/").status, 200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn two_thousand_cancelled_requests_leave_the_others_alone() {
    let origin = backend(&[], |server| {
        let mut resets = 0;
        // Servers end a connection with more than some hundred cancelled requests.
        while let Some(came) = server.frame() {
            resets += usize::from(came.kind == 3);
            assert!(resets <= 500, "too many cancelled requests on one connection");
            let path = server.so_far(came.stream);
            if path.is_complete && came.kind == 1 && path.asked(":path") == Some("/") {
                server.answer(came.stream, "200", "ok");
            }
        }
    });
    let loadx = before(&[&origin]);
    let mut client = H2Client::connect(loadx.address);
    for round in 0..40 {
        let streams = (0..50).map(|at| 1 + 2 * (round * 51 + at));
        for stream in streams.clone() {
            client.get(stream, "/never");
        }
        client.sync();
        for stream in streams {
            client.send(reset(stream, CANCEL));
        }
        let honest = 1 + 2 * (round * 51 + 50);
        assert_eq!(client.get(honest, "/").response(honest).status(), 200);
    }
    assert!((5..=12).contains(&origin.connections()), "{} connections", origin.connections());
}

#[test]
fn uploads_wait_for_the_window_of_the_backend() {
    let origin = backend(&[(WINDOW, 10)], |server| {
        let Some((stream, _)) = server.head() else { return };
        let mut received = 0;
        while received < 1_000 {
            let Some(came) = server.frame() else { return };
            if came.kind == DATA {
                assert!(came.payload.len() <= 10, "more than the window");
                received += came.payload.len();
                server.send(window(stream, came.payload.len() as u32));
            }
        }
        server.answer(stream, "200", "ok");
        while server.frame().is_some() {}
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1_000)));
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_download_that_its_client_does_not_read_holds_no_more_than_its_window() {
    let (told, tells) = channel();
    let origin = backend(&[], move |server| {
        let Some((stalled, _)) = server.request() else { return };
        server.send(headers(stalled, false, &[(":status", "200")]));
        // As much as LoadX allows.
        let mut window = 65_535;
        while window > 0 {
            let count = window.min(16_000);
            server.send(data(stalled, &vec![0; count], false));
            window -= count;
        }
        let _ = told.send(());
        server.answer_all("ok");
    });
    let loadx = before(&[&origin]);
    let mut client = H2Client::over(loadx.client(), &[(WINDOW, 0)]);
    client.get(1, "/stalled");
    tells.recv().unwrap();
    // Another exchange of the connection goes on.
    assert_eq!(loadx.get("/").text(), "ok");
    client.send([window(1, 65_535)].concat());
    while client.so_far(1).body.len() < 65_535 {
        client.frame();
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn idle_connections_are_closed_with_a_goaway() {
    let (told, tells) = channel();
    let origin = backend(&[], move |server| {
        let Some((stream, _)) = server.request() else { return };
        server.answer(stream, "200", "ok");
        while server.frame().is_some() {}
        let _ = told.send(server.goaway());
    });
    let mut config = config(&[&origin], &json!({}));
    config["backend_keepalive_timeout"] = json!(0.1);
    let loadx = LoadX::of(&config);
    assert_eq!(loadx.get("/").status, 200);
    assert_eq!(tells.recv_timeout(Duration::from_secs(20)).unwrap(), Some((0, 0)));
}

#[test]
fn settings_may_change_while_requests_run() {
    let origin = backend(&[(WINDOW, 0)], |server| {
        let Some((stream, _)) = server.head() else { return };
        server.send(settings(&[(WINDOW, 100)]));
        while !server.so_far(stream).is_complete {
            if server.frame().is_none() {
                return;
            }
        }
        server.answer(stream, "200", "ok");
        while server.frame().is_some() {}
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_request_whose_content_comes_late_is_sent_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let refused = Arc::clone(&count);
    let origin = backend(&[], move |server| {
        while let Some((stream, _)) = server.head() {
            if refused.fetch_add(1, Ordering::SeqCst) == 0 {
                server.send(reset(stream, REFUSED_STREAM));
                continue;
            }
            while !server.so_far(stream).is_complete {
                if server.frame().is_none() {
                    return;
                }
            }
            let text = server.so_far(stream).text();
            server.answer(stream, "200", &text);
        }
    });
    let loadx = before(&[&origin]);
    let mut client = loadx.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n");
    eventually("the request is refused, and sent again", || (count.load(Ordering::SeqCst) == 2).then_some(()));
    assert_eq!(client.send("abc").response().text(), "abc");
}

#[test]
fn a_backend_that_opens_no_window_has_limited_time() {
    let origin = backend(&[], |server| {
        // Never gives anything of the window of the connection back.
        while let Some((stream, request)) = server.head() {
            if request.asked(":path") == Some("/quick") {
                server.answer(stream, "200", "ok");
            }
        }
    });
    let loadx = LoadX::of(&config(&[&origin], &json!({ "request_timeout": 1 })));
    let mut stalled = loadx.client();
    stalled.send(format!("POST /stalled HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000)));
    eventually("the backend has the request", || (origin.connections() == 1).then_some(()));
    // Another upload does not wait for the window once the first has used it up.
    let mut client = loadx.client();
    let mut quick = || client.send("POST /quick HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").response().status;
    eventually("the first upload has used up the window", || (quick() == 200).then_some(()));
    for _ in 0..3 {
        assert_eq!(quick(), 200);
    }
    assert_eq!(stalled.response().status, 504);
    eventually("no exchange is left", || (loadx.status()["backends"][0]["active_connections"] == 0).then_some(()));
}

#[test]
fn a_backend_that_floods_is_named_in_the_error() {
    let origin = backend(&[], |server| {
        let Some(_) = server.request() else { return };
        server.send(frame(PING, 0, 0, b"floods--").repeat(5_000));
        while server.frame().is_some() {}
    });
    let response = before(&[&origin]).get("/");
    assert_eq!(response.status, 502);
    assert!(response.text().contains("too many frames that move nothing"), "{}", response.text());
}

#[test]
fn a_new_transport_does_not_wait_for_a_connection_of_the_old() {
    let (told, tells) = channel();
    let origin = Origin::start(move |connection| {
        // Never begins HTTP/2.
        let _ = told.send(connection.some().map(|bytes| bytes[0]));
        connection.hold();
    });
    let loadx = before(&[&origin]);
    let (mut first, mut second) = (loadx.client(), loadx.client());
    first.get("/");
    assert_eq!(tells.recv_timeout(Duration::from_secs(20)).unwrap(), Some(b'P'), "the preface in clear text");
    loadx.reload(&config(&[&origin], &json!({ "tls": {} })));
    second.get("/");
    assert_eq!(tells.recv_timeout(Duration::from_secs(20)).unwrap(), Some(22), "a record of TLS");
}

#[test]
fn an_upload_that_the_response_has_ended_leaves_its_turn_to_the_others() {
    let origin = backend(&[(WINDOW, 10)], |server| {
        let Some((stream, _)) = server.head() else { return };
        // The window is used up, and the upload waits.
        while server.frame().is_some_and(|came| came.kind != DATA) {}
        let early = [headers(stream, false, &[(":status", "413")]), data(stream, b"too much", true)];
        server.send([early.concat(), reset(stream, NO_ERROR)].concat());
        server.answer_all("ok");
    });
    let loadx = before(&[&origin]);
    // This client takes no content, so that its exchange stays.
    let mut stalled = H2Client::over(Client::connect(loadx.address), &[(WINDOW, 0)]);
    stalled.send([headers(1, false, &POST), data(1, &[b'x'; 10_000], false)].concat());
    stalled.until(|came| came.kind == HEADERS);
    let mut other = H2Client::connect(loadx.address);
    assert_eq!(other.get(1, "/").response(1).text(), "ok");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_client_that_leaves_an_upload_that_no_backend_takes_is_noticed() {
    let (told, hears) = channel();
    let origin = backend(&[(WINDOW, 10)], move |server| {
        let Some((stream, _)) = server.head() else { return };
        while server.frame().is_some_and(|came| came.kind != DATA) {}
        told.send(()).unwrap();
        assert_eq!(server.reset_of(stream), Some(CANCEL));
        told.send(()).unwrap();
        server.answer_all("ok");
    });
    let loadx = before(&[&origin]);
    let mut client = H2Client::connect(loadx.address);
    client.send([headers(1, false, &POST), data(1, &[b'x'; 10_000], false)].concat());
    hears.recv().unwrap();
    client.send(reset(1, CANCEL));
    hears.recv_timeout(crate::support::PATIENCE).expect("the backend learns of the end");
    assert_eq!(client.get(3, "/").response(3).text(), "ok");
    let aborts = || (loadx.metrics()["client_aborts"] == 1).then_some(());
    eventually("the abort is counted", aborts);
}
