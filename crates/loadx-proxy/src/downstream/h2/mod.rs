//! Serves one client connection in HTTP/2: reads frames, runs the exchanges of all streams, writes frames, ends the connection.

mod driver;
mod request;
mod response;
mod served;
mod starts;
mod tasks;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use loadx_core::{ErrorKind, ProxyError, Time};
use loadx_http::grpc::Status;

use crate::context::Worker;
use crate::downstream::client::Client;
use crate::downstream::linger::linger;
use crate::downstream::parking::Parked;
use crate::downstream::refusal::start_line;
use crate::downstream::sessions::Session;
use crate::exchange;
use crate::incoming::Incoming;
use crate::limits::H2_START_LOOK;
use crate::net::{Network, StreamOf};
use crate::patience::Patience;
use crate::sides::{Inbound, OwnResponse, Pace, ResponseSink as _};
use crate::telemetry::{Cause, Record, Request};
use crate::timer::Timer;

use driver::{Driver, End};
use request::RequestReader;
use response::{ResponseWriter, Wants};
use served::Served;
use tasks::{Desk, Serving};

/// Serves a client connection until the connection ends or is parked.
pub(crate) async fn serve_connection<N: Network>(
    worker: Rc<Worker<N>>,
    session: Session,
    mut client: Client<StreamOf<N>>,
) {
    session.set_idle(client.requests > 0);
    session.carries_http(client.wire.stream.facts());
    loop {
        if client.h2.is_none() {
            worker.metrics.borrow_mut().h2.connections += 1;
        }
        let Client { wire, origin, listener, timer, input, requests, opened, idle_since, h2, place, .. } = client;
        let served = Rc::new(Served::new(Rc::clone(&worker), wire, (origin, listener, place.is_spare()), h2));
        let mut driver =
            Driver::new(&worker, &session, &served, (listener, input, requests, opened, idle_since), &timer);
        let end = session.run(pin!(poll_fn(|cx| driver.poll(cx)))).await;
        let (requests, idle_since) = driver.rest();
        match end {
            Some(End::Park) => {}
            Some(End::Linger) => {
                session.run(pin!(linger(served.stream(), &worker, &timer))).await;
                return;
            }
            Some(End::Close) | None => return,
        }
        let (wire, origin, h2) =
            Rc::into_inner(served).expect("no exchange is left that has the connection").into_parts();
        let keepalive = worker.plan().process.timeouts.keepalive;
        let silent_at = worker.pool.mark();
        let until = idle_since + keepalive;
        let parked = Parked {
            wire,
            origin,
            listener,
            requests,
            opened,
            place,
            silent_at,
            since: idle_since,
            until,
            h2: Some(h2),
        };
        let Some(awake) = worker.parking.park(parked) else { return };
        client = Client::awake(awake, worker.clock);
    }
}

/// What a stream needs at its beginning.
struct Job<N: Network> {
    served: Rc<Served<N>>,
    number: usize,
    timer: Rc<Timer>,
    wants: Wants,
    work: Work,
}

/// What becomes of a request.
enum Work {
    Exchange(Incoming),
    /// A response of LoadX's own to a request that is refused, with the beginning of the head.
    Refusal {
        error: ProxyError,
        text: Vec<u8>,
        is_call: bool,
    },
}

/// Counts and logs a request whose stream was reset before its exchange began.
fn cancelled<N: Network>(worker: &Worker<N>, incoming: &Incoming, timer: &Timer) {
    worker.metrics.borrow_mut().client_aborts += 1;
    let request = Request::Accepted(incoming);
    worker.account(&Record {
        grpc: incoming.grpc.map(|_| Status::CANCELLED),
        error: Some(Cause::new(ErrorKind::ClientGone, "the client reset the stream at once")),
        ..Record::new(request, incoming.began, timer.now(), 499)
    });
}

/// Serves the streams that come to a desk, one after the other.
fn serve_streams<N: Network>(desk: Rc<Desk<Job<N>>>) -> Serving {
    Box::pin(async move {
        loop {
            serve_stream(desk.next().await).await;
        }
    })
}

/// Waits until an exchange may begin. Returns false if there was no room until `deadline`.
async fn may_begin<N: Network>(served: &Served<N>, number: usize, timer: &Timer, deadline: Time) -> bool {
    loop {
        let look_at = (timer.now() + H2_START_LOOK).min(deadline);
        poll_fn(|cx| match served.may_begin(number) {
            true => Poll::Ready(()),
            false => timer.poll_expired(cx, look_at),
        })
        .await;
        // Exchanges of other connections have perhaps made room.
        served.begin_waiting();
        let may_begin = served.may_begin(number);
        if may_begin || timer.now() >= deadline {
            return may_begin;
        }
    }
}

/// The refusal of a request for which there is no room.
fn no_room(incoming: &Incoming) -> Work {
    let error = ProxyError::new(
        503,
        ErrorKind::ConnectionLimitReached,
        "LoadX has no room for another request on this connection",
    );
    let head = &incoming.head;
    let text = [head.method(), b" ", head.target(), b" HTTP/2\r\nHost: ", head.authority()].concat();
    Work::Refusal { error, text, is_call: incoming.grpc.is_some() }
}

/// Serves one stream.
async fn serve_stream<N: Network>(job: Job<N>) {
    let Job { served, number, timer, wants, mut work } = job;
    let (worker, timer) = (&served.worker, &*timer);
    if let Work::Exchange(incoming) = &work
        && !served.may_begin(number)
    {
        let deadline = incoming.began + incoming.plan.process.timeouts.request;
        if !may_begin(&served, number, timer, deadline).await {
            work = no_room(incoming);
        }
    }
    let patience = match &work {
        Work::Exchange(incoming) => incoming.plan.process.timeouts.request,
        Work::Refusal { .. } => worker.plan().process.timeouts.request,
    };
    let pace = Pace { timer, from_client: Patience::idle(patience), to_client: Patience::idle(patience) };
    let mut response = ResponseWriter::new(&served, number, timer, &pace.to_client, wants);
    match work {
        Work::Exchange(incoming) if served.mux.gone(number).is_some() => cancelled(worker, &incoming, timer),
        Work::Exchange(mut incoming) => {
            let mut request = RequestReader::new(&served, number, timer, &pace.from_client, wants.tunnel);
            let inbound =
                Inbound { origin: &served.origin, request: &mut request, response: &mut response, pace: &pace };
            let mut exchange = pin!(exchange::run(worker, &mut incoming, inbound));
            // An incomplete response ends with a reset of its stream, whatever the ending. An exchange that still waits when the
            // client has left waits for a backend that takes no content: it is dropped, and says why.
            poll_fn(|cx| match exchange.as_mut().poll(cx) {
                Poll::Pending if served.mux.gone(number).is_none() => Poll::Pending,
                _ => Poll::Ready(()),
            })
            .await;
        }
        Work::Refusal { error, text, is_call } => {
            let id = worker.next_request_id();
            let sent = response.own(&OwnResponse::error_to(is_call, &error, &id), false).await;
            worker.log_refusal((served.listener, served.origin.ip), &id, start_line(&text), &error, sent.unwrap_or(0));
        }
    }
}
