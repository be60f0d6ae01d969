//! The stream of a page of the dashboard, and the actions on backends that the page asks for.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use loadx_core::{ErrorKind, ProxyError};
use loadx_http::{FieldSlots, Parsed, parse_response};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::context::Worker;
use crate::incoming::Incoming;
use crate::limits::LIVE_INTERVAL;
use crate::live::BackendAction;
use crate::net::{Network, PipeOf};
use crate::request_id;
use crate::sides::{BodySink as _, Ending, Inbound, OwnResponse, Piece, RequestSource, ResponseChanges, ResponseSink};

/// The head of a stream of server-sent events.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
                      X-Content-Type-Options: nosniff\r\nTransfer-Encoding: chunked\r\n\r\n";

/// What a page gets at first, and what it gets later.
type Feed = (String, broadcast::Receiver<Arc<str>>);

/// Sends the stream until the client leaves or LoadX wants the connection closed.
pub(super) async fn stream<N, R, W>(
    worker: &Rc<Worker<N>>,
    incoming: &Incoming,
    client: Inbound<'_, R, W>,
    (opening, mut messages): Feed,
) -> Ending
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    let Inbound { request, response, pace, .. } = client;
    let mut slots = FieldSlots::new();
    let Ok(Parsed::Complete(head, _)) = parse_response(HEAD, incoming.head.is_head(), &mut slots) else {
        return Ending::BrokenOff;
    };
    let mut line = request_id::EMPTY_LINE;
    let changes = ResponseChanges {
        removed: &[],
        replaced: None,
        added: incoming.hsts_line().as_bytes(),
        request_id_line: incoming.id.line(&mut line),
        via: None,
        request_complete: true,
    };
    response.head(&head, &changes);
    if incoming.head.is_head() {
        return ending(&response.body().send(Piece { content: b"", end: Some(b"") }).await);
    }
    let patience = incoming.plan.process.timeouts.request;
    let mut leaving = pin!(request.departure());
    let mut event = event_of("opening", &opening);
    loop {
        pace.to_client.begin(patience, 0);
        if response.body().send(Piece { content: &event, end: None }).await.is_err() {
            return Ending::BrokenOff;
        }
        let next = tokio::select! {
            biased;
            _ = &mut leaving => return Ending::BrokenOff,
            next = messages.recv() => next.map(Some),
            // Without a message, a comment: only a look from time to time tells that the connection must close.
            () = tokio::time::sleep(2 * LIVE_INTERVAL) => Ok(None),
        };
        if !worker.keeps_connections() || !may_see(worker, incoming) {
            return ending(&response.body().send(Piece { content: b"", end: Some(b"") }).await);
        }
        event = match next {
            Ok(Some(message)) => event_of("tick", &message),
            // A client that reads slowly misses messages; the comment stands in their place.
            Ok(None) | Err(RecvError::Lagged(_)) => b": \n\n".to_vec(),
            Err(RecvError::Closed) => return Ending::BrokenOff,
        };
    }
}

/// Whether the config that runs now still shows the page to this client.
fn may_see<N: Network>(worker: &Worker<N>, incoming: &Incoming) -> bool {
    let plan = worker.plan();
    let id = incoming.plan.listeners[incoming.listener].id;
    let shows = plan.listener(id).is_some_and(|at| plan.listeners[at].endpoints);
    shows && plan.process.dashboard && plan.process.shows_endpoints_to(incoming.client)
}

fn ending<E>(sent: &Result<(), E>) -> Ending {
    if sent.is_ok() { Ending::Complete } else { Ending::BrokenOff }
}

/// A server-sent event; the data are JSON without line ends.
fn event_of(name: &str, data: &str) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

/// Too many pages are open.
pub(super) fn crowded() -> ProxyError {
    ProxyError::crowded("LoadX has as many open pages as it may have")
}

/// Has operators' API do what a page wants of a backend.
pub(super) async fn act<N: Network>(worker: &Worker<N>, incoming: &Incoming) -> OwnResponse<'static> {
    let value = |name: &str| incoming.query_value(name);
    let token = incoming.head.values("authorization").next().and_then(|value| value.split_at_checked(7));
    let token =
        token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")).map(|(_, token)| token.trim_ascii());
    let (Some(cluster), Some(backend), Some(token)) = (value("cluster"), value("backend"), token) else {
        let error = ProxyError::new(400, ErrorKind::HttpRequestError, "cluster, backend and Authorization are needed");
        return OwnResponse::error(&error, &incoming.id);
    };
    let drain = value("drain").map(|text| text.parse::<bool>()).transpose();
    let weight = value("weight").map(|text| text.parse::<u32>()).transpose();
    let (Ok(drain), Ok(weight)) = (drain, weight) else {
        let error = ProxyError::new(400, ErrorKind::HttpRequestError, "drain is true or false, and weight a number");
        return OwnResponse::error(&error, &incoming.id);
    };
    let token = token.to_vec();
    let (status, text) =
        worker.shared.live.act(|reply| BackendAction { token, cluster, backend, drain, weight, reply }).await;
    OwnResponse::told(status, text, &incoming.id)
}
