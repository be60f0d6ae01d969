//! A client that was just accepted: what comes before HTTP, and then the driver of HTTP.

use std::cell::Cell;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use loadx_core::Time;

use crate::context::Worker;
use crate::downstream::client::Client;
use crate::downstream::h1;
use crate::downstream::sessions::Session;
use crate::limits::{HEAD_AT_END, PROXY_HEADER, TLS_HANDSHAKE};
use crate::messages::Accepted;
use crate::net::{Network, Stream, StreamOf, Transport};
use crate::origin::Origin;
use crate::proxy_protocol;
use crate::shared::Place;
use crate::timer::Timer;
use crate::tls::{self, HandshakeFault, ServerTls};

/// The answer to a client that sends HTTP without TLS on a port of https.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 59\r\nConnection: close\r\n\r\nThis port speaks HTTPS: write https:// instead of http://.\n";

/// Serves a client from its first byte.
///
/// The future takes some kilobytes. The box avoids copies of the future when a task is spawned.
pub(crate) fn serve<N: Network>(
    worker: Rc<Worker<N>>,
    stream: N::Stream,
    accepted: Accepted,
    place: Place,
) -> Pin<Box<dyn Future<Output = ()>>> {
    worker.sessions.announce();
    let tls = worker.shared.tls.of(accepted.listener);
    let is_told = expects_header(&worker, &accepted);
    match tls.is_none() && !is_told {
        true => at_once(worker, stream, accepted, place),
        false => prepared(worker, stream, accepted, place, (is_told, tls)),
    }
}

/// A client that begins with HTTP. A function of its own, so that the compiler makes the future in its box.
#[inline(never)]
fn at_once<N: Network>(
    worker: Rc<Worker<N>>,
    stream: N::Stream,
    accepted: Accepted,
    place: Place,
) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let session = worker.sessions.enroll(accepted.listener).await;
        let stream = Transport::Plain(stream);
        let client = Client::new(stream, Origin::of(accepted.peer), accepted.listener, place, worker.clock);
        h1::serve_connection(worker, session, client).await;
    })
}

/// A client that begins with something else.
#[inline(never)]
fn prepared<N: Network>(
    worker: Rc<Worker<N>>,
    stream: N::Stream,
    accepted: Accepted,
    place: Place,
    first: (bool, Option<Arc<ServerTls>>),
) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let session = worker.sessions.enroll(accepted.listener).await;
        let preparation = prepare(&worker, &session, stream, first, accepted);
        let prepared = session.run(pin!(preparation)).await;
        if let Some(Some((stream, origin))) = prepared {
            let client = Client::new(stream, origin, accepted.listener, place, worker.clock);
            h1::serve_connection(worker, session, client).await;
        }
    })
}

/// Whether the peer tells the client's address in the PROXY protocol.
fn expects_header<N: Network>(worker: &Worker<N>, accepted: &Accepted) -> bool {
    let Some((plan, position)) = worker.plan_for(accepted.listener) else { return false };
    let peer = accepted.peer.ip().to_canonical();
    plan.listeners[position].proxy_protocol.iter().any(|network| network.contains(&peer))
}

/// Does what comes before HTTP: the header of the PROXY protocol, and the handshake of TLS. None if the client gets no
/// connection.
async fn prepare<N: Network>(
    worker: &Rc<Worker<N>>,
    session: &Session,
    stream: N::Stream,
    (is_told, tls): (bool, Option<Arc<ServerTls>>),
    accepted: Accepted,
) -> Option<(StreamOf<N>, Origin)> {
    let timer = Timer::new(worker.clock);
    let mut origin = Origin::of(accepted.peer);
    if is_told {
        match proxy_protocol::receive(&stream, &timer, deadline(session, &timer, PROXY_HEADER)).await {
            Ok(told) => origin = told.unwrap_or(origin),
            Err(fault) => {
                worker.metrics.borrow_mut().proxy_header_faults += 1;
                tracing::debug!("the connection of {} is closed: {fault}", accepted.peer);
                return None;
            }
        }
    }
    let Some(tls) = tls else { return Some((Transport::Plain(stream), origin)) };
    let deadline = deadline(session, &timer, TLS_HANDSHAKE);
    match tls::accept(&stream, &tls, &worker.handshakes, &timer, &deadline).await {
        Ok(secured) => {
            worker.metrics.borrow_mut().handshakes.succeeded(secured.facts());
            Some((Transport::Tls(Box::new(secured.on(stream))), origin))
        }
        Err(fault) => {
            worker.metrics.borrow_mut().handshakes.failed(fault.reason());
            tracing::debug!("no TLS with {}: {fault}", accepted.peer);
            if let HandshakeFault::NotTls { is_http: true } = fault {
                let _ = stream.try_write(&[IoSlice::new(PLAIN_HTTP)]);
                h1::linger(&stream, worker, &timer).await;
            }
            None
        }
    }
}

/// The end of a step that may take `limit`. A worker that stops waits for the rest no longer than for the rest of a head.
fn deadline<'t>(session: &'t Session, timer: &'t Timer, limit: Duration) -> impl Fn() -> Time + 't {
    let limit = Cell::new(timer.now() + limit);
    let is_leaving = Cell::new(false);
    move || {
        if session.should_close() && !is_leaving.replace(true) {
            limit.set(limit.get().min(timer.now() + HEAD_AT_END));
        }
        limit.get()
    }
}
