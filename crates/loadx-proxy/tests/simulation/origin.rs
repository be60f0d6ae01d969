//! Origins, the backends of the simulation: they send the responses of the plans and count the requests.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use loadx_proxy::{Listener as _, Network as _, Stream as _};
use tokio::time::Instant;

use crate::h2_origin;
use crate::network::SimNet;
use crate::plan::{Framed, OriginAction, Plan};
use crate::tls::SimTls;
use crate::wire::{End, Framing, Head, Wire, chunked, send};

/// The plans, and the requests that the origins have received.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) plans: BTreeMap<u64, Plan>,
    /// The number of times that the head of each request arrived.
    pub(crate) seen: BTreeMap<u64, usize>,
    /// When the last probe came to each backend.
    pub(crate) probed: BTreeMap<SocketAddr, Instant>,
    /// The number of times that a backend refused each request unseen.
    pub(crate) refused: BTreeMap<u64, usize>,
    /// The number of times that the whole body of each request arrived.
    pub(crate) whole: BTreeMap<u64, usize>,
}

pub(crate) type SharedRegistry = Rc<RefCell<Registry>>;

/// The X-Id of a stray response, which no client may receive.
pub(crate) const STRAY: &str = "stray";

/// The version of HTTP of an origin.
#[derive(Clone)]
pub(crate) enum Version {
    /// HTTP/1.1, inside TLS if there is any.
    Http1(Option<SimTls>),
    Http2 {
        /// Whether an origin that ends a connection still serves the requests that are under way.
        ends_gently: bool,
    },
}

/// Serves at `address` until the task is aborted, which closes the listener.
pub(crate) async fn serve(net: SimNet, address: SocketAddr, registry: SharedRegistry, version: Version) {
    let socket = net.listen(address, 1).unwrap().remove(0);
    let listener = net.adopt(socket).unwrap();
    let mut connections = 0;
    loop {
        let Ok((stream, _)) = poll_fn(|cx| listener.poll_accept(cx)).await else { continue };
        let registry = Rc::clone(&registry);
        let stream = match &version {
            Version::Http2 { ends_gently } => {
                connections += 1;
                tokio::task::spawn_local(h2_origin::serve(stream, registry, address, connections, *ends_gently));
                continue;
            }
            Version::Http1(Some(tls)) => tls.of_origin(&net, stream),
            Version::Http1(None) => stream,
        };
        tokio::task::spawn_local(async move {
            let mut wire = Wire::new(stream);
            while let Some(Then::KeepAlive) = exchange(&mut wire, &registry, address).await {}
        });
    }
}

enum Then {
    KeepAlive,
    Close,
}

/// Serves one request. Returns `None` when the connection ended.
async fn exchange(wire: &mut Wire, registry: &SharedRegistry, address: SocketAddr) -> Option<Then> {
    let head = wire.head().await.ok()?;
    let path = head.start.split(' ').nth(1).unwrap();
    if path == "/health" {
        registry.borrow_mut().probed.insert(address, Instant::now());
        send(&wire.stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.ok()?;
        return Some(Then::Close);
    }
    let id: u64 = path.strip_prefix("/r/").expect("a path of the simulation").parse().unwrap();
    let plan = registry.borrow().plans[&id].clone();
    let seen = {
        let mut registry = registry.borrow_mut();
        let seen = registry.seen.entry(id).or_default();
        *seen += 1;
        *seen
    };
    check(&head, &plan);
    let action = if plan.origin_once && seen > 1 { OriginAction::Behaves } else { plan.origin };
    match action {
        OriginAction::Resets => wire.stream.break_off(),
        OriginAction::Silent => {
            // Until LoadX closes the connection.
            while wire.more().await.is_ok() {}
        }
        OriginAction::SendsGarbage => send(&wire.stream, b"220 mail.example ESMTP\r\n\r\n").await.ok()?,
        _ => {}
    }
    if matches!(action, OriginAction::Resets | OriginAction::Closes | OriginAction::Silent | OriginAction::SendsGarbage)
    {
        return Some(Then::Close);
    }
    if !matches!(action, OriginAction::AnswersEarly | OriginAction::AnswersEarlyAndStays) {
        if head.field("expect").is_some() {
            send(&wire.stream, b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
        }
        let body = wire.body(head.framing().unwrap_or(Framing::Length(0))).await;
        let content = plan.request_content();
        if body.cut.is_some() {
            assert!(content.starts_with(&body.content), "the body of a request was changed");
            return None;
        }
        assert!(body.content == content, "the body of request {id} was changed");
        *registry.borrow_mut().whole.entry(id).or_default() += 1;
        if let Framed::Chunks(_) = plan.request.framed {
            // Names in HTTP/2 are in lower case.
            assert!(body.trailers.eq_ignore_ascii_case(&format!("X-Sum: {id}\r\n")), "{}", body.trailers);
        }
    }
    tokio::time::sleep(Duration::from_millis(plan.delay)).await;
    for _ in 0..plan.interims {
        send(&wire.stream, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await.ok()?;
    }
    if action == OriginAction::Echoes {
        return echo(wire, &plan, &head).await;
    }
    let then = respond(wire, &plan, action, &head).await;
    if action == OriginAction::AnswersEarlyAndStays {
        let body = wire.body(head.framing().unwrap_or(Framing::Length(0))).await;
        assert!(
            plan.request_content().starts_with(&body.content),
            "another request arrived instead of the rest of the body"
        );
        return body.cut.is_none().then_some(Then::KeepAlive);
    }
    then
}

/// Checks that the head is the head that the client sent.
fn check(head: &Head, plan: &Plan) {
    assert_eq!(head.start, format!("{} /r/{} HTTP/1.1", plan.method, plan.id));
    assert_eq!(head.field("host"), Some("sim"));
    assert_eq!(head.field("x-mark"), Some(format!("{}", plan.id).as_str()));
    assert_eq!(head.field("keep-alive"), None);
    assert_eq!(head.field("upgrade").is_some(), plan.upgrades());
}

/// Tells the client which plan of the proxy the request went by.
fn seen_plan(head: &Head) -> String {
    head.field("x-plan").map_or_else(String::new, |plan| format!("X-Seen-Plan: {plan}\r\n"))
}

async fn respond(wire: &mut Wire, plan: &Plan, action: OriginAction, head: &Head) -> Option<Then> {
    let (content, to_head) = (plan.response_content(), head.start.starts_with("HEAD "));
    let mut out = format!("HTTP/1.1 {} Planned\r\nX-Id: {}\r\n{}", plan.status, plan.id, seen_plan(head)).into_bytes();
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
    let stop = match action {
        OriginAction::ResetsAfter(cut) | OriginAction::ClosesAfter(cut) | OriginAction::StallsAfter(cut) => cut,
        _ => out.len(),
    };
    let cut_short = stop < out.len();
    if action == OriginAction::SendsStray && plan.response.framed != Framed::UntilClose {
        let stray = format!("HTTP/1.1 200 OK\r\nX-Id: {STRAY}\r\nContent-Length: 0\r\n\r\n");
        // In one piece: LoadX cannot distinguish a later stray from the response to the next request.
        wire.stream.send_together(&out, stray.as_bytes(), plan.id.is_multiple_of(2));
        let _ = wire.more().await;
        return Some(Then::Close);
    }
    send(&wire.stream, &out[..stop.min(out.len())]).await.ok()?;
    match action {
        OriginAction::ResetsAfter(_) if cut_short => wire.stream.break_off(),
        OriginAction::StallsAfter(_) if cut_short => while wire.more().await.is_ok() {},
        OriginAction::AnswersEarly => {
            // The close resets the connection because of the unread body; the response must arrive before.
            wire.stream.shut_write();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        _ if plan.response.framed == Framed::UntilClose && !cut_short => {}
        OriginAction::ClosesUnannounced => wire.stream.shut_write(),
        OriginAction::Behaves if !cut_short => return Some(Then::KeepAlive),
        _ => {}
    }
    Some(Then::Close)
}

/// Switches protocols, sends `early`, and sends all received bytes back until the client ends its direction.
async fn echo(wire: &mut Wire, plan: &Plan, head: &Head) -> Option<Then> {
    let mut out = format!(
        "HTTP/1.1 101 Switching Protocols\r\nX-Id: {}\r\n{}Connection: upgrade\r\nUpgrade: echo\r\n\r\n",
        plan.id,
        seen_plan(head)
    )
    .into_bytes();
    out.extend_from_slice(b"early");
    send(&wire.stream, &out).await.ok()?;
    loop {
        let bytes = std::mem::take(&mut wire.unread);
        send(&wire.stream, &bytes).await.ok()?;
        match wire.more().await {
            Ok(()) => {}
            Err(End::Closed) => break,
            Err(End::Broken) => return None,
        }
    }
    wire.stream.shut_write();
    Some(Then::Close)
}
