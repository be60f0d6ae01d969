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
use crate::downstream::linger::linger;
use crate::downstream::sessions::Session;
use crate::downstream::{h1, h2};
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
    let first = First::of(&worker, &accepted);
    match first.is_nothing() {
        true => at_once(worker, stream, accepted, place),
        false => prepared(worker, stream, accepted, place, first),
    }
}

/// What comes before HTTP on a connection.
struct First {
    /// Whether the peer tells the client's address in the PROXY protocol.
    header: bool,
    tls: Option<Arc<ServerTls>>,
}

impl First {
    fn of<N: Network>(worker: &Worker<N>, accepted: &Accepted) -> Self {
        let Accepted { peer, listener } = accepted;
        let tls = || worker.shared.tls.of(*listener);
        // The listener was removed before the client came, and the request is refused.
        let Some((plan, position)) = worker.plan_for(*listener) else { return First { header: false, tls: tls() } };
        let listener = &plan.listeners[position];
        let peer = peer.ip().to_canonical();
        First {
            header: listener.proxy_protocol.iter().any(|network| network.contains(&peer)),
            tls: listener.tls.then(tls).flatten(),
        }
    }

    fn is_nothing(&self) -> bool {
        !self.header && self.tls.is_none()
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
        let session = enroll(&worker, accepted, &place).await;
        let stream = Transport::Plain(stream);
        let client = Client::new(stream, Origin::of(accepted.peer), accepted.listener, place, worker.clock);
        h1::serve_connection(worker, session, client).await;
    })
}

/// The entry of the task that serves a client. A client with a spare place sends one request, and soon.
async fn enroll<N: Network>(worker: &Worker<N>, accepted: Accepted, place: &Place) -> Session {
    let session = worker.sessions.enroll(accepted.listener).await;
    if place.is_spare() {
        session.close_soon();
    }
    session
}

/// A client that begins with something else.
#[inline(never)]
fn prepared<N: Network>(
    worker: Rc<Worker<N>>,
    stream: N::Stream,
    accepted: Accepted,
    place: Place,
    first: First,
) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let session = enroll(&worker, accepted, &place).await;
        let preparation = prepare(&worker, &session, stream, first, accepted);
        let prepared = session.run(pin!(preparation)).await;
        if let Some(Some((stream, origin))) = prepared {
            let is_h2 = stream.facts().is_some_and(|tls| tls.is_h2);
            let client = Client::new(stream, origin, accepted.listener, place, worker.clock);
            match is_h2 {
                true => h2::serve_connection(worker, session, client).await,
                false => h1::serve_connection(worker, session, client).await,
            }
        }
    })
}

/// Does what comes before HTTP: the header of the PROXY protocol, and the handshake of TLS. None if the client gets no
/// connection.
async fn prepare<N: Network>(
    worker: &Rc<Worker<N>>,
    session: &Session,
    stream: N::Stream,
    first: First,
    accepted: Accepted,
) -> Option<(StreamOf<N>, Origin)> {
    let timer = Timer::new(worker.clock);
    let mut origin = Origin::of(accepted.peer);
    if first.header {
        match proxy_protocol::receive(&stream, &timer, deadline(session, &timer, PROXY_HEADER)).await {
            Ok(told) => origin = told.unwrap_or(origin),
            Err(fault) => {
                worker.metrics.borrow_mut().proxy_header_faults += 1;
                tracing::debug!("the connection of {} is closed: {fault}", accepted.peer);
                return None;
            }
        }
    }
    let Some(tls) = first.tls else { return Some((Transport::Plain(stream), origin)) };
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
                linger(&stream, worker, &timer).await;
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
        if session.must_hurry() && !is_leaving.replace(true) {
            limit.set(limit.get().min(timer.now() + HEAD_AT_END));
        }
        limit.get()
    }
}
