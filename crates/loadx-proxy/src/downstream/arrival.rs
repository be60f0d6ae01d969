//! A client that was just accepted: the handshake of TLS, where the listener has TLS, and then the driver of HTTP.

use std::cell::Cell;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;

use loadx_core::Time;

use crate::context::Worker;
use crate::downstream::client::Client;
use crate::downstream::h1;
use crate::downstream::sessions::Session;
use crate::limits::{HEAD_AT_END, TLS_HANDSHAKE};
use crate::messages::Accepted;
use crate::net::{Network, Stream, StreamOf, Transport};
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
    let client = move |stream, worker: &Worker<N>| {
        Client::new(stream, accepted.peer.ip().to_canonical(), accepted.listener, place, worker.clock)
    };
    match worker.shared.tls.of(accepted.listener) {
        None => Box::pin(async move {
            let session = worker.sessions.enroll(accepted.listener).await;
            let client = client(Transport::Plain(stream), &worker);
            h1::serve_connection(worker, session, client).await;
        }),
        Some(tls) => Box::pin(async move {
            let session = worker.sessions.enroll(accepted.listener).await;
            let secured = session.run(pin!(secure(&worker, &session, stream, &tls, accepted))).await;
            if let Some(Some(stream)) = secured {
                let client = client(stream, &worker);
                h1::serve_connection(worker, session, client).await;
            }
        }),
    }
}

/// Makes the handshake. None if the client gets no connection.
async fn secure<N: Network>(
    worker: &Rc<Worker<N>>,
    session: &Session,
    stream: N::Stream,
    tls: &Arc<ServerTls>,
    accepted: Accepted,
) -> Option<StreamOf<N>> {
    let timer = Timer::new(worker.clock);
    let limit = Cell::new(timer.now() + TLS_HANDSHAKE);
    let is_leaving = Cell::new(false);
    let deadline = || -> Time {
        // A worker that stops waits for the rest of a handshake no longer than for the rest of a head.
        if session.should_close() && !is_leaving.replace(true) {
            limit.set(limit.get().min(timer.now() + HEAD_AT_END));
        }
        limit.get()
    };
    match tls::accept(&stream, tls, &worker.handshakes, &timer, &deadline).await {
        Ok(secured) => {
            worker.metrics.borrow_mut().handshakes.succeeded(secured.facts());
            Some(Transport::Tls(Box::new(secured.on(stream))))
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
