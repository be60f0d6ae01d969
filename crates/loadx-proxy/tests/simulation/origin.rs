//! Backends of the simulation: they answer as the request's plan says, and keep count.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use loadx_proxy::{Listener as _, Network as _, Stream as _};

use crate::network::SimNet;
use crate::plan::{Framed, OriginTurn, Plan};
use crate::wire::{End, Framing, Head, Wire, chunked, send};

/// What all origins know and have seen.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) plans: BTreeMap<u64, Plan>,
    /// How often the head of each request arrived.
    pub(crate) seen: BTreeMap<u64, usize>,
    /// Requests whose body arrived whole.
    pub(crate) whole: BTreeMap<u64, usize>,
}

pub(crate) type SharedBook = Rc<RefCell<Book>>;

/// What a stray response carries where the id would be; no client may ever see it.
pub(crate) const STRAY: &str = "stray";

/// Serves at `address` until the task is aborted; then it listens no more.
pub(crate) async fn serve(net: SimNet, address: SocketAddr, book: SharedBook) {
    let socket = net.listen(address, 1).unwrap().remove(0);
    let listener = net.adopt(socket).unwrap();
    loop {
        let Ok((stream, _)) = poll_fn(|cx| listener.poll_accept(cx)).await else { continue };
        let book = Rc::clone(&book);
        tokio::task::spawn_local(async move {
            let mut wire = Wire::new(stream);
            while let Some(Then::GoOn) = exchange(&mut wire, &book).await {}
        });
    }
}

enum Then {
    GoOn,
    Close,
}

/// Serves one request; none when the connection ended.
async fn exchange(wire: &mut Wire, book: &SharedBook) -> Option<Then> {
    let head = wire.head().await.ok()?;
    let path = head.start.split(' ').nth(1).unwrap();
    if path == "/health" {
        send(&wire.stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.ok()?;
        return Some(Then::Close);
    }
    let id: u64 = path.strip_prefix("/r/").expect("a path of ours").parse().unwrap();
    let plan = book.borrow().plans[&id].clone();
    let seen = {
        let mut book = book.borrow_mut();
        let seen = book.seen.entry(id).or_default();
        *seen += 1;
        *seen
    };
    check(&head, &plan);
    let turn = if plan.origin_once && seen > 1 { OriginTurn::Behaves } else { plan.origin };
    match turn {
        OriginTurn::Resets => wire.stream.break_off(),
        OriginTurn::Silent => {
            // Until LoadX gives up.
            while wire.more().await.is_ok() {}
        }
        OriginTurn::Babbles => send(&wire.stream, b"220 mail.example ESMTP\r\n\r\n").await.ok()?,
        _ => {}
    }
    if matches!(turn, OriginTurn::Resets | OriginTurn::Closes | OriginTurn::Silent | OriginTurn::Babbles) {
        return Some(Then::Close);
    }
    if !matches!(turn, OriginTurn::AnswersEarly | OriginTurn::AnswersEarlyAndStays) {
        if head.field("expect").is_some() {
            send(&wire.stream, b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        }
        let body = wire.body(head.framing().unwrap_or(Framing::Length(0))).await;
        let content = plan.request_content();
        if body.cut.is_some() {
            assert!(content.starts_with(&body.content), "a request's body was changed");
            return None;
        }
        assert!(body.content == content, "a whole body is not what was sent, of request {id}");
        *book.borrow_mut().whole.entry(id).or_default() += 1;
        if let Framed::Chunks(_) = plan.request.framed {
            assert_eq!(body.trailers, format!("X-Sum: {id}\r\n"));
        }
    }
    tokio::time::sleep(Duration::from_millis(plan.think)).await;
    for _ in 0..plan.interims {
        send(&wire.stream, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await.ok()?;
    }
    if turn == OriginTurn::Echoes {
        return echo(wire, &plan).await;
    }
    let then = respond(wire, &plan, turn, head.start.starts_with("HEAD ")).await;
    if turn == OriginTurn::AnswersEarlyAndStays {
        let body = wire.body(head.framing().unwrap_or(Framing::Length(0))).await;
        assert!(plan.request_content().starts_with(&body.content), "another request came where the body was to go on");
        return body.cut.is_none().then_some(Then::GoOn);
    }
    then
}

/// The head must be what the client sent.
fn check(head: &Head, plan: &Plan) {
    assert_eq!(head.start, format!("{} /r/{} HTTP/1.1", plan.method, plan.id));
    assert_eq!(head.field("host"), Some("sim"));
    assert_eq!(head.field("x-mark"), Some(format!("{}", plan.id).as_str()));
    assert_eq!(head.field("keep-alive"), None);
    assert_eq!(head.field("upgrade").is_some(), plan.upgrades());
}

async fn respond(wire: &mut Wire, plan: &Plan, turn: OriginTurn, to_head: bool) -> Option<Then> {
    let content = plan.response_content();
    let mut out = format!("HTTP/1.1 {} Planned\r\nX-Id: {}\r\n", plan.status, plan.id).into_bytes();
    let body = match plan.response.framed {
        Framed::None => {
            out.extend_from_slice(b"\r\n");
            Vec::new()
        }
        Framed::Length => {
            out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
            content
        }
        Framed::Chunks(size) => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            chunked(&content, size, ";x=\"y\"", &format!("X-Sum: {}\r\n", plan.id))
        }
        Framed::UntilClose => {
            out.extend_from_slice(b"Connection: close\r\n\r\n");
            content
        }
    };
    if !to_head {
        out.extend_from_slice(&body);
    }
    let stop = match turn {
        OriginTurn::ResetsAfter(cut) | OriginTurn::ClosesAfter(cut) | OriginTurn::StallsAfter(cut) => cut,
        _ => out.len(),
    };
    let cut_short = stop < out.len();
    if turn == OriginTurn::SaysTooMuch && plan.response.framed != Framed::UntilClose {
        let stray = format!("HTTP/1.1 200 OK\r\nX-Id: {STRAY}\r\nContent-Length: 0\r\n\r\n");
        // In one piece: what arrives later cannot be told from an answer to the next request.
        wire.stream.send_together(&out, stray.as_bytes(), plan.id.is_multiple_of(2));
        let _ = wire.more().await;
        return Some(Then::Close);
    }
    send(&wire.stream, &out[..stop.min(out.len())]).await.ok()?;
    match turn {
        OriginTurn::ResetsAfter(_) if cut_short => wire.stream.break_off(),
        OriginTurn::StallsAfter(_) if cut_short => while wire.more().await.is_ok() {},
        OriginTurn::AnswersEarly => {
            // Lets the response arrive before the unread body makes closing a reset.
            wire.stream.shut_write();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        _ if plan.response.framed == Framed::UntilClose && !cut_short => {}
        OriginTurn::ClosesSilently => wire.stream.shut_write(),
        OriginTurn::Behaves if !cut_short => return Some(Then::GoOn),
        _ => {}
    }
    Some(Then::Close)
}

/// Switches, says something early, and sends back what comes until the client has ended.
async fn echo(wire: &mut Wire, plan: &Plan) -> Option<Then> {
    let mut out = format!(
        "HTTP/1.1 101 Switching Protocols\r\nX-Id: {}\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        plan.id
    )
    .into_bytes();
    out.extend_from_slice(b"early");
    send(&wire.stream, &out).await.ok()?;
    loop {
        let bytes = std::mem::take(&mut wire.unread);
        send(&wire.stream, &bytes).await.ok()?;
        match wire.more().await {
            Ok(()) => {}
            Err(End::Clean) => break,
            Err(End::Broken) => return None,
        }
    }
    wire.stream.shut_write();
    Some(Then::Close)
}
