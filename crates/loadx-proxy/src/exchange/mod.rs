//! One request and its response: pick a backend, carry the request there and the response back, and
//! go to another backend while that is safe. Retries happen here and nowhere else.

mod download;
mod failure;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use loadx_core::{Backend, Key, Outcome, Pick, Query, Time, Trace, Tries};
use loadx_http::{BodyDecoder, Decoded};

use crate::buffers::Input;
use crate::connection::Client;
use crate::context::{Account, Worker};
use crate::incoming::Incoming;
use crate::messages::Endpoint;
use crate::net::Network;
use crate::origin::{self, Connection};
use crate::relay::{RelayFault, Sink, Source, Waiting, relay};
use crate::reply::{Manner, write_error, write_json};
use crate::shared::LocalView;

use download::Download;
use failure::{Failure, Unserved, no_backend, unanswered, upload_failure};

/// What becomes of the client's connection after an exchange.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    KeepAlive,
    Close,
    /// Close, but let the client finish sending.
    Linger,
    /// Close visibly broken.
    BreakOff,
}

/// A response that reached the client.
#[derive(Debug)]
struct Answer {
    status: u16,
    client_persistent: bool,
}

/// How an exchange ended, for the client, the log and the counts.
#[derive(Debug)]
struct Ended {
    status: u16,
    next: Next,
    error: Option<String>,
}

/// What the two directions of an exchange tell each other.
#[derive(Debug)]
struct Progress {
    /// When bytes of the request last left.
    sent_at: Cell<Time>,
    /// Whether all of the request has left.
    upload_done: Cell<bool>,
    /// The status of the response whose head has begun to leave; 0 before.
    answered: Cell<u16>,
    /// Content that reached the client, in bytes.
    content: Cell<u64>,
}

/// Carries out one request. Its response is with the client, or the reason why not.
pub(crate) async fn run<N: Network>(
    worker: &Rc<Worker<N>>,
    client: &mut Client<N::Stream>,
    incoming: Incoming,
) -> Next {
    if let Some(endpoint) = incoming.endpoint {
        return answer_endpoint(worker, client, &incoming, endpoint).await;
    }
    let mut exchange = Exchange {
        worker,
        upload: BodyDecoder::new(incoming.framing),
        first_piece: None,
        began_upload: false,
        progress: Progress {
            sent_at: Cell::new(incoming.began),
            upload_done: Cell::new(!incoming.has_body()),
            answered: Cell::new(0),
            content: Cell::new(0),
        },
        incoming,
        tries: Tries::default(),
        served_by: None,
        accounted: false,
    };
    let outcome = exchange.carry(client).await;
    exchange.release_first_piece(client);
    let ended = exchange.end(client, outcome).await;
    client.unfinished = false;
    exchange.account(&ended);
    ended.next
}

async fn answer_endpoint<N: Network>(
    worker: &Rc<Worker<N>>,
    client: &mut Client<N::Stream>,
    incoming: &Incoming,
    endpoint: Endpoint,
) -> Next {
    let (status, body) = worker.ask(endpoint).await;
    let persistent = incoming.persistent && !incoming.has_body() && worker.keeps_connections();
    let manner = Manner { version: incoming.version, persistent, to_head: incoming.to_head };
    let mut out = worker.buffers.head();
    write_json(status, "", &body, manner, &mut out);
    match client.send(&out, worker.settings().timeouts.request).await {
        Ok(()) if persistent => Next::KeepAlive,
        Ok(()) => Next::Linger,
        Err(_) => Next::Close,
    }
}

struct Exchange<'w, N: Network> {
    worker: &'w Rc<Worker<N>>,
    incoming: Incoming,
    upload: BodyDecoder,
    /// What of the body was there when the head was, and waits in the input to leave with it.
    first_piece: Option<Decoded>,
    /// Whether body bytes were taken that no other backend could get any more.
    began_upload: bool,
    progress: Progress,
    tries: Tries,
    /// The backend of the last attempt.
    served_by: Option<ServedBy>,
    accounted: bool,
}

impl<N: Network> Drop for Exchange<'_, N> {
    /// An exchange that is cut in its midst, by the end of the shutdown's grace, is counted and logged too.
    fn drop(&mut self) {
        if !self.accounted {
            let answered = self.progress.answered.get();
            let status = if answered == 0 { 503 } else { answered };
            let error = Some("cut at the end of the shutdown's grace".to_owned());
            self.account(&Ended { status, next: Next::BreakOff, error });
        }
    }
}

/// What is kept of a backend for the log and the counts, beyond the view that it came from.
struct ServedBy {
    view: LocalView,
    index: usize,
}

impl ServedBy {
    fn backend(&self) -> &Backend {
        &self.view.backends()[self.index]
    }
}

impl<N: Network> Exchange<'_, N> {
    /// Goes from backend to backend until one answers or there is no other to go to.
    async fn carry(&mut self, client: &mut Client<N::Stream>) -> Result<Answer, Unserved> {
        let mut last: Option<Failure> = None;
        loop {
            let query = Query { key: Key::from_ip(self.incoming.client), tried: self.tries.tried() };
            let view = self.worker.view();
            let pick = match Pick::choose(view.clone(), self.worker.clock.now(), &query) {
                Ok(pick) => pick,
                Err(none) => return Err(last.map_or_else(|| no_backend(none), Unserved::from)),
            };
            let backend = pick.backend();
            let id = backend.id();
            self.served_by = Some(ServedBy { index: pick.index(), view });
            let attempt = self.attempt(client, backend).await;
            let outcome = match &attempt {
                Ok(_) => Outcome::Answered,
                Err(failure) => failure.outcome(),
            };
            if let Some(observation) = pick.finish(self.worker.clock.now(), outcome) {
                self.worker.report(id, observation);
            }
            match attempt {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    let trace = self.trace(&failure);
                    if !self.tries.failed(id, trace) {
                        return Err(failure.into());
                    }
                    tracing::debug!(request = %self.incoming.id, "trying another backend: {failure:?}");
                    last = Some(failure);
                }
            }
        }
    }

    /// What the failed attempt may have left behind. A request whose body went on its way is not whole
    /// any more.
    fn trace(&self, failure: &Failure) -> Trace {
        match failure {
            Failure::Connect(_) | Failure::Unanswered { unsent: true, .. } => Trace::None,
            Failure::Unanswered { .. } if self.incoming.idempotent && !self.began_upload => Trace::Repeatable,
            _ => Trace::Lasting,
        }
    }

    /// Lets go of body bytes that were kept because the request might have had to be sent again.
    fn release_first_piece(&mut self, client: &mut Client<N::Stream>) {
        if let Some(piece) = self.first_piece.take() {
            client.input.consume(piece.consumed);
            client.input.release_if_empty();
        }
    }

    /// Carries the request to one backend and its response back.
    async fn attempt(&mut self, client: &mut Client<N::Stream>, backend: &Backend) -> Result<Answer, Failure> {
        if let Some(connection) = self.worker.pool.take(backend.id()) {
            let attempt = self.converse(client, backend, connection).await;
            // An idle connection that breaks was most likely closed by the backend just now: that is no
            // sign of trouble, and a new connection to the same backend the natural next step.
            match attempt {
                Err(failure @ Failure::Unanswered { .. }) => {
                    let trace = self.trace(&failure);
                    if !self.tries.may_repeat(trace) {
                        return Err(failure);
                    }
                }
                attempt => return attempt,
            }
        }
        let connection = origin::connect(self.worker, backend).await.map_err(Failure::Connect)?;
        self.converse(client, backend, connection).await
    }

    /// Sends the request on this connection and brings the response back.
    async fn converse(
        &mut self,
        client: &mut Client<N::Stream>,
        backend: &Backend,
        connection: Connection<N::Stream>,
    ) -> Result<Answer, Failure> {
        let Exchange { worker, incoming, upload, first_piece, began_upload, progress, .. } = self;
        let Client { stream: client_stream, timer, input, unfinished, .. } = client;
        let waiting = Waiting { timer, buffers: &worker.buffers, idle: worker.settings().timeouts.request };
        let to_backend = &mut Sink::new(&connection.stream, incoming.framing);

        let sent = if incoming.has_body() {
            // The first bytes of the body leave with the head. They are decoded once, whatever the number
            // of tries, and stay until they have left.
            if first_piece.is_none() {
                let decoded = upload.decode(input.bytes_mut());
                *first_piece = Some(decoded.map_err(|fault| upload_failure(RelayFault::Body(fault), 0))?);
            }
            let piece = first_piece.unwrap_or_default();
            let trailers = upload.is_complete().then(|| upload.trailers());
            let sent = to_backend.send(&incoming.head, &input.bytes()[..piece.content], trailers, waiting).await;
            if !upload.is_complete() && to_backend.written > 0 {
                // The rest follows, and cannot be had again.
                *began_upload = true;
                if sent.is_ok() {
                    input.consume(piece.consumed);
                    *first_piece = Some(Decoded::default());
                }
            }
            sent
        } else {
            to_backend.send(&incoming.head, b"", None, waiting).await
        };
        sent.map_err(|broken| unanswered(&broken, to_backend.written))?;
        progress.sent_at.set(timer.now());
        progress.upload_done.set(upload.is_complete());

        let mut download = Download {
            incoming,
            progress,
            waiting,
            from_backend: &connection.stream,
            input: Input::default(),
            to_client: client_stream,
            unfinished,
            keeps_connection: &|| worker.keeps_connections(),
        };
        let answer = if upload.is_complete() {
            download.run().await?
        } else {
            let source = Source { stream: client_stream, input, decoder: upload };
            let moved = || progress.sent_at.set(timer.now());
            let rest = async {
                let outcome = relay(source, to_backend, waiting, moved).await;
                progress.upload_done.set(outcome.is_ok());
                match outcome {
                    // The backend reads no more. Its response tells why, if it sent one.
                    Ok(()) | Err(RelayFault::Sink(_)) => Ok(()),
                    Err(fault) => Err(upload_failure(fault, 1)),
                }
            };
            alongside(rest, download.run()).await?
        };
        let reusable = answer.backend_persistent && download.input.is_empty() && progress.upload_done.get();
        if reusable {
            worker.pool.put(backend.id(), connection, timer.now());
        }
        Ok(Answer { status: answer.status, client_persistent: answer.client_persistent })
    }

    /// Tells the client how a failed exchange ended, as far as it can still be told.
    async fn end(&mut self, client: &mut Client<N::Stream>, outcome: Result<Answer, Unserved>) -> Ended {
        let reply = match outcome {
            Ok(Answer { status, client_persistent }) => {
                let next = match (client_persistent, self.progress.upload_done.get()) {
                    (true, _) => Next::KeepAlive,
                    (false, true) => Next::Close,
                    (false, false) => Next::Linger,
                };
                return Ended { status, next, error: None };
            }
            Err(Unserved::Gone(reason)) => {
                self.worker.metrics.borrow_mut().client_aborts += 1;
                return Ended { status: 499, next: Next::BreakOff, error: Some(reason) };
            }
            Err(Unserved::Reply(reply)) => reply,
        };
        let answered = self.progress.answered.get();
        if answered != 0 {
            // Part of a response is out; breaking off is the only honest end.
            return Ended { status: answered, next: Next::BreakOff, error: Some(reply.message) };
        }
        let persistent = self.incoming.persistent && self.progress.upload_done.get() && self.worker.keeps_connections();
        let manner = Manner { version: self.incoming.version, persistent, to_head: self.incoming.to_head };
        let mut out = self.worker.buffers.head();
        let bytes = write_error(&reply, self.incoming.id, manner, &mut out);
        let next = match client.send(&out, self.worker.settings().timeouts.request).await {
            Ok(()) if persistent => Next::KeepAlive,
            Ok(()) => Next::Linger,
            Err(_) => Next::Close,
        };
        self.progress.content.set(bytes);
        Ended { status: reply.status, next, error: Some(reply.message) }
    }

    /// Counts and logs the exchange.
    fn account(&mut self, ended: &Ended) {
        self.accounted = true;
        let backend = self.served_by.as_ref().map(ServedBy::backend);
        // Each attempt that failed is there; the one that did not comes on top.
        let tries = self.tries.tried().len() + usize::from(ended.error.is_none());
        self.worker.account(&Account {
            incoming: &self.incoming,
            status: ended.status,
            broke_off: ended.next == Next::BreakOff && ended.status != 499,
            content: self.progress.content.get(),
            backend,
            tries,
            error: ended.error.as_deref(),
        });
    }
}

/// Runs an upload beside a download. The download decides when it is over; an upload that fails for
/// the client's sake ends both.
async fn alongside<T>(
    upload: impl Future<Output = Result<(), Failure>>,
    download: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let (mut upload, mut download) = (pin!(upload), pin!(download));
    let mut uploading = true;
    poll_fn(|cx| {
        if uploading && let Poll::Ready(outcome) = upload.as_mut().poll(cx) {
            uploading = false;
            if let Err(failure) = outcome {
                return Poll::Ready(Err(failure));
            }
        }
        download.as_mut().poll(cx)
    })
    .await
}
