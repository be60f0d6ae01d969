//! One request and its response: pick a backend, carry the request there and the response back, and
//! go to another backend while that is safe. Retries happen here and nowhere else.

mod departure;
mod download;
mod failure;
mod mirror;
mod own;
mod routing;
mod tunnel;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use loadx_core::{
    AttemptPolicy, Attempts, Backend, Choice, Ended, Failure, NoBackend, Outcome, Pick, ProxyError, Replay, Time,
};
use loadx_http::{BodyDecoder, BodyFault, Decoded, Forwarding, Version};

use crate::buffers::{HeadBuffer, Input};
use crate::connection::{Client, Wire};
use crate::context::{Account, Worker};
use crate::incoming::Incoming;
use crate::io::{Broken, is_silent};
use crate::net::{Network, Stream as _};
use crate::origin;
use crate::patience::Patience;
use crate::pool::Connection;
use crate::relay::{RelayFault, Sink, Source, Waiting, relay};
use crate::reply::{Manner, write_error};
use crate::request_id;
use crate::shared::LocalView;

use departure::departure;
use download::Download;
use failure::{Sent, client_gone, unanswered, upload_failure};
use routing::{Decision, Forwarded};
use tunnel::{End, Tunnel};

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
struct Answer<S> {
    status: u16,
    client_persistent: bool,
    /// Why the tunnel that followed did not end well.
    tunnel_fault: Option<String>,
    /// Where the connection goes on in another protocol. Boxed: it is seldom there, and an answer is moved often.
    switched: Option<Box<Switched<S>>>,
}

/// A backend's connection that goes on in another protocol.
struct Switched<S> {
    connection: Connection<S>,
    /// What the backend has said in it already.
    early: Input,
}

/// How an exchange ended, for the client, the log and the counts.
#[derive(Debug)]
struct Closing {
    status: u16,
    next: Next,
    error: Option<String>,
    /// Whether the last attempt ended in an answer.
    answered: bool,
}

/// What a client is told of a failed exchange, if the client is still there.
#[derive(Debug)]
enum Unserved {
    Error(ProxyError),
    ClientGone(String),
}

impl From<Failure> for Unserved {
    fn from(failure: Failure) -> Self {
        match failure.response() {
            Some(error) => Unserved::Error(error),
            None => Unserved::ClientGone(failure.to_string()),
        }
    }
}

/// What the two directions of an exchange tell each other.
#[derive(Debug)]
struct Progress {
    /// Since when the backend is silent: when bytes of the request last left for it, or it last spoke.
    silent_since: Cell<Time>,
    /// Whether all of the request has left.
    upload_done: Cell<bool>,
    /// The status of the response whose head has begun to leave.
    answered: Cell<Option<u16>>,
    /// When the head of the response was there.
    head_at: Cell<Option<Time>>,
    /// Content that reached the client, in bytes.
    content: Cell<u64>,
    /// When the connection went over to another protocol.
    switched_at: Cell<Option<Time>>,
}

/// Carries out one request. Its response is with the client, or the reason why not.
pub(crate) async fn run<N: Network>(
    worker: &Rc<Worker<N>>,
    client: &mut Client<N::Stream>,
    mut incoming: Incoming,
) -> Next {
    let forwarded = match routing::decide(worker, &mut incoming) {
        Decision::Forward(forwarded) => forwarded,
        Decision::Answer(own) => return own::answer(worker, client, &incoming, &own).await,
    };
    let (policy, limits) = (incoming.attempt_policy(forwarded.cluster), &incoming.plan.process.client_limits);
    let body_max = incoming.route().and_then(|route| route.body_max).or(limits.body_max).unwrap_or(u64::MAX);
    let began = incoming.began;
    let mut exchange = Exchange {
        worker,
        upload: BodyDecoder::new(incoming.head.framing()).with_content_max(body_max),
        first_piece: Decoded::default(),
        began_upload: false,
        progress: Progress {
            silent_since: Cell::new(incoming.began),
            upload_done: Cell::new(!incoming.has_body()),
            answered: Cell::new(None),
            head_at: Cell::new(None),
            content: Cell::new(0),
            switched_at: Cell::new(None),
        },
        from_client: Patience::with_rate(policy.response, limits.body_rate_min),
        to_client: Patience::with_rate(policy.response, limits.body_rate_min),
        policy,
        forwarded,
        incoming,
        head: None,
        attempts: Attempts::new(began),
        served_by: None,
        accounted: false,
    };
    if exchange.incoming.head.expects_continue() {
        exchange.from_client.hold();
    }
    // What of the body is here already leaves with the head. It is decoded once, whatever the number of tries, and
    // before anybody is asked: a body that begins badly costs no backend anything.
    let outcome = match exchange.upload.decode(client.input.bytes_mut()) {
        Ok(piece) => {
            exchange.first_piece = piece;
            exchange.mirror(client);
            exchange.carry(client).await
        }
        Err(fault) => Err(upload_failure(RelayFault::Body(fault)).into()),
    };
    exchange.release_first_piece(client);
    let ended = exchange.end(client, outcome).await;
    // An answer's end was looked at when it came.
    let now = if ended.answered && ended.error.is_none() { client.timer.latest() } else { client.timer.now() };
    exchange.account(now, &ended);
    ended.next
}

struct Exchange<'w, N: Network> {
    worker: &'w Rc<Worker<N>>,
    incoming: Incoming,
    /// Which cluster answers, and how the route changes the request.
    forwarded: Forwarded,
    policy: AttemptPolicy,
    /// The head as backends get it, written at the first attempt.
    head: Option<HeadBuffer>,
    upload: BodyDecoder,
    /// What of the body was there when the head was, and waits in the input to leave with it.
    first_piece: Decoded,
    /// Whether body bytes were taken that no other backend could get any more.
    began_upload: bool,
    progress: Progress,
    /// How long the client may keep this exchange waiting: for its body, and to take the response.
    from_client: Patience,
    to_client: Patience,
    attempts: Attempts,
    /// The backend of the last attempt.
    served_by: Option<ServedBy>,
    accounted: bool,
}

impl<N: Network> Drop for Exchange<'_, N> {
    /// An exchange that is cut in its midst, by the end of the shutdown's grace, is counted and logged too.
    fn drop(&mut self) {
        if !self.accounted {
            let status = self.progress.answered.get().unwrap_or(503);
            let error = Some("cut at the end of the shutdown's grace".to_owned());
            self.account(self.worker.clock.now(), &Closing { status, next: Next::BreakOff, error, answered: false });
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
    /// Asks one backend after the other until one answers or none is left to ask.
    async fn carry(&mut self, client: &mut Client<N::Stream>) -> Result<Answer<N::Stream>, Unserved> {
        let mut last: Option<Failure> = None;
        loop {
            let view = self.worker.view(&self.incoming.plan, self.forwarded.cluster);
            // The first pick comes with the head; before another one, time has passed.
            let now = if last.is_none() { self.incoming.began } else { client.timer.now() };
            let key = view.key(self.incoming.client);
            let pick = match self.attempts.choose(view.clone(), now, self.incoming.id.bits(), key) {
                Choice::Picked(pick) => pick,
                Choice::Wait => return Err(Unserved::Error(NoBackend::NoneAdmitted.response())),
                Choice::None(none) => return Err(last.map_or_else(|| Unserved::Error(none.response()), Unserved::from)),
            };
            let backend = pick.backend();
            let id = backend.id();
            self.served_by = Some(ServedBy { index: pick.index(), view });
            let mut attempt = self.attempt_in_time(client, backend).await;
            if let Ok(Answer { switched: Some(switched), tunnel_fault, .. }) = &mut attempt {
                *tunnel_fault = self.tunnel(client, switched).await;
            }
            if let Ok(Answer { switched: Some(_), .. }) | Err(_) = &attempt {
                client.timer.now();
            }
            let ended = self.ended(&pick, &attempt, client.timer.latest());
            if let Some(observation) = pick.finish(ended) {
                self.worker.report(id, observation);
            }
            match attempt {
                Ok(answer) => return Ok(answer),
                Err(failure) => {
                    if !self.attempts.failed(id, &failure, self.replay()) {
                        return Err(failure.into());
                    }
                    tracing::debug!(request = %self.incoming.id, "asking another backend: {failure}");
                    last = Some(failure);
                }
            }
        }
    }

    /// How the attempt ended, as its backend is concerned.
    fn ended(&self, pick: &Pick<LocalView>, attempt: &Result<Answer<N::Stream>, Failure>, now: Time) -> Ended {
        let took = now.since(pick.at());
        match attempt {
            Err(failure) => Ended::unanswered(failure.outcome(), took),
            Ok(answer) => {
                let first_byte = self.progress.head_at.get().map_or(took, |at| at.since(pick.at()));
                Ended { outcome: Outcome::Answered, status: answer.status, first_byte, took }
            }
        }
    }

    /// What sending the request again would repeat.
    fn replay(&self) -> Replay {
        Replay { idempotent: self.incoming.head.idempotent(), whole: !self.began_upload }
    }

    /// Lets go of body bytes that were kept because the request might have had to be sent again.
    fn release_first_piece(&mut self, client: &mut Client<N::Stream>) {
        client.input.consume(std::mem::take(&mut self.first_piece).consumed);
        client.input.release_if_empty();
    }

    /// The same as [`attempt`](Self::attempt), within what time the whole exchange has, if that is limited.
    async fn attempt_in_time(
        &mut self,
        client: &mut Client<N::Stream>,
        backend: &Backend,
    ) -> Result<Answer<N::Stream>, Failure> {
        let policy = self.policy;
        let (Some(limit), Some(deadline)) = (policy.exchange, self.attempts.exchange_deadline(&policy)) else {
            return self.attempt(client, backend).await;
        };
        let deadline = self.worker.clock.instant(deadline);
        match tokio::time::timeout_at(deadline, self.attempt(client, backend)).await {
            Ok(attempt) => attempt,
            Err(_) => Err(Failure::TookTooLong { limit, uploading: self.from_client.is_waiting() }),
        }
    }

    /// Carries the request to one backend and its response back.
    async fn attempt(
        &mut self,
        client: &mut Client<N::Stream>,
        backend: &Backend,
    ) -> Result<Answer<N::Stream>, Failure> {
        if let Some(connection) = self.worker.pool.take(backend) {
            let attempt = self.converse(client, backend, connection).await;
            // An idle connection that breaks was most likely closed by the backend just now: that is no
            // sign of trouble, and a new connection to the same backend the natural next step.
            match attempt {
                Err(failure @ Failure::Unanswered { .. }) => {
                    if !self.attempts.may_resend(&failure, self.replay()) {
                        return Err(failure);
                    }
                }
                attempt => return attempt,
            }
        }
        let buffers = &self.worker.buffers;
        let connection = {
            let connecting = pin!(async {
                origin::connect(self.worker, (&self.incoming.plan, self.forwarded.cluster), backend)
                    .await
                    .map_err(Failure::Connect)
            });
            let leaving =
                pin!(async { client_gone(&departure(&client.wire.stream, &mut client.input, buffers).await) });
            unless(connecting, leaving).await?
        };
        client.timer.now();
        // What is there already answers no request of ours (RFC 9112, section 9.2). The runtime's word is
        // free, and only a hint.
        if !is_silent(&connection.stream) && !connection.stream.holds_nothing() {
            return Err(Failure::Premature);
        }
        self.converse(client, backend, connection).await
    }

    /// Sends a copy of the request to the mirror of the route, if all of the request is here already: a body that
    /// is passed on as it comes is never held, and so cannot be sent twice.
    fn mirror(&mut self, client: &Client<N::Stream>) {
        let Some(cluster) = self.forwarded.mirror else { return };
        if !self.upload.is_complete() {
            self.worker.metrics.borrow_mut().mirrors_skipped += 1;
            return;
        }
        self.write_head(client);
        mirror::send(
            self.worker,
            mirror::Copy {
                plan: self.incoming.plan.clone(),
                cluster,
                head: self.head.as_deref().cloned().unwrap_or_default(),
                framing: self.incoming.head.framing(),
                content: client.input.bytes()[..self.first_piece.content].to_vec(),
                trailers: self.upload.trailers().to_vec(),
                entropy: self.worker.entropy(),
            },
        );
    }

    /// Writes the head that backends get, once for all attempts: it does not depend on the backend.
    fn write_head(&mut self, client: &Client<N::Stream>) {
        if self.head.is_some() {
            return;
        }
        let (incoming, signature) = (&self.incoming, &self.incoming.plan.process.signature);
        let local_authority = match incoming.head.version() {
            Version::Http11 => String::new(),
            Version::Http10 => {
                client.wire.stream.local_addr().map_or_else(|_| String::new(), |local| local.to_string())
            }
        };
        let mut line = request_id::EMPTY_LINE;
        let forwarding = Forwarding {
            peer: incoming.peer,
            trusted: incoming.peer_trusted,
            scheme: "http",
            local_authority: &local_authority,
            via: signature.via.as_deref(),
            forwarded: signature.forwarded,
            request_id_line: Some(incoming.id.line(&mut line)),
        };
        let mut out = self.worker.buffers.head();
        incoming.head.encode(&forwarding, &self.forwarded.changes(incoming), &mut out);
        self.head = Some(out);
    }

    /// Sends the request on this connection and brings the response back.
    async fn converse(
        &mut self,
        client: &mut Client<N::Stream>,
        backend: &Backend,
        connection: Connection<N::Stream>,
    ) -> Result<Answer<N::Stream>, Failure> {
        self.write_head(client);
        let silence = self.policy.response;
        let Exchange {
            worker,
            incoming,
            head,
            upload,
            first_piece,
            began_upload,
            progress,
            from_client,
            to_client,
            ..
        } = self;
        let Client { wire: Wire { stream: client_stream, unfinished }, timer, input, .. } = client;
        let waiting = Waiting { timer, buffers: &worker.buffers };
        let to_backend_patience = Patience::idle(silence);
        let to_backend = &mut Sink::new(&connection.stream, incoming.head.framing(), &to_backend_patience);

        let piece = *first_piece;
        let trailers = upload.is_complete().then(|| upload.trailers());
        let sent = to_backend
            .send(head.as_deref().map_or(&[], Vec::as_slice), &input.bytes()[..piece.content], trailers, waiting)
            .await;
        if !upload.is_complete() && to_backend.written > 0 {
            // The rest follows, and cannot be had again.
            *began_upload = true;
            if sent.is_ok() {
                input.consume(std::mem::take(first_piece).consumed);
            }
        }
        sent.map_err(|broken| unanswered(&broken, Sent::of_bytes(to_backend.written)))?;
        progress.silent_since.set(timer.latest());
        progress.upload_done.set(upload.is_complete());

        let mut added = Vec::new();
        routing::response_lines(incoming, &mut added);
        let mut download = Download {
            added: &added,
            incoming,
            progress,
            waiting,
            from_backend: &connection.stream,
            pipes: &worker.pipes,
            pool: &worker.pool,
            silence,
            input: Input::default(),
            to_client: client_stream,
            to_client_patience: to_client,
            from_client,
            date: &worker.date,
            via: incoming.plan.process.signature.via.as_deref(),
            unfinished,
            keeps_connection: &|| worker.keeps_connections(),
        };
        let answer = {
            // What the client does meanwhile: it sends the rest of the body, and then nothing that concerns
            // this exchange, unless it leaves.
            let client_side = pin!(async {
                if !upload.is_complete() {
                    let source = Source { stream: client_stream, input, decoder: upload, patience: from_client };
                    let outcome =
                        relay(source, to_backend, &worker.pipes, waiting, || progress.silent_since.set(timer.now()))
                            .await;
                    progress.upload_done.set(outcome.is_ok());
                    match outcome {
                        Ok(()) => {}
                        // The backend reads no more. Its response tells why, if it sent one.
                        Err(RelayFault::Sink(_)) => {}
                        // The client stops sending because it has its answer (RFC 9112, section 9.5), which goes on.
                        Err(RelayFault::Source(Broken::TimedOut) | RelayFault::Body(BodyFault::Incomplete))
                            if progress.answered.get().is_some() =>
                        {
                            return std::future::pending().await;
                        }
                        Err(fault) => return upload_failure(fault),
                    }
                }
                client_gone(&departure(client_stream, input, &worker.buffers).await)
            });
            unless(pin!(download.run()), client_side).await?
        };
        let now = timer.now();
        let (status, client_persistent) = (answer.status, answer.client_persistent);
        if answer.switches {
            let early = download.input;
            return Ok(Answer {
                status,
                client_persistent: false,
                tunnel_fault: None,
                switched: Some(Box::new(Switched { connection, early })),
            });
        }
        let reusable = answer.backend_persistent && download.input.is_empty() && progress.upload_done.get();
        if reusable {
            worker.pool.put(backend.id(), connection, now);
        }
        Ok(Answer { status, client_persistent, tunnel_fault: None, switched: None })
    }

    /// Joins the client and the backend for whatever they say to each other after a 101. Returns what went wrong, if
    /// something did.
    async fn tunnel(&mut self, client: &mut Client<N::Stream>, switched: &mut Switched<N::Stream>) -> Option<String> {
        self.release_first_piece(client);
        self.progress.switched_at.set(Some(client.timer.now()));
        let Switched { connection, early } = switched;
        let waiting = Waiting { timer: &client.timer, buffers: &self.worker.buffers };
        let tunnel = Tunnel::new(waiting, self.incoming.plan.process.timeouts.tunnel, self.policy.response);
        let near = End { stream: &client.wire.stream, early: &mut client.input };
        let far = End { stream: &connection.stream, early };
        client.wire.unfinished = true;
        let outcome = tunnel.run(near, far, &self.progress.content).await;
        client.wire.unfinished = outcome.is_err();
        let broken = outcome.err()?;
        connection.stream.break_off();
        Some(format!("the tunnel broke: {broken}"))
    }

    /// Tells the client how a failed exchange ended, as far as it can still be told.
    async fn end(&mut self, client: &mut Client<N::Stream>, outcome: Result<Answer<N::Stream>, Unserved>) -> Closing {
        let reply = match outcome {
            Ok(Answer { status, client_persistent, tunnel_fault: error, .. }) => {
                let next = match (client_persistent, self.progress.upload_done.get()) {
                    _ if error.is_some() => Next::BreakOff,
                    (true, _) => Next::KeepAlive,
                    // Who wants the connection closed, and has sent nothing more, sends nothing more.
                    (false, true)
                        if !self.incoming.head.persistent()
                            && client.input.is_empty()
                            && is_silent(&client.wire.stream) =>
                    {
                        Next::Close
                    }
                    (false, _) => Next::Linger,
                };
                return Closing { status, next, error, answered: true };
            }
            Err(Unserved::ClientGone(reason)) => {
                self.worker.metrics.borrow_mut().client_aborts += 1;
                return Closing { status: 499, next: Next::BreakOff, error: Some(reason), answered: false };
            }
            Err(Unserved::Error(error)) => error,
        };
        if client.wire.unfinished {
            // Part of a response is out; breaking off is the only honest end.
            let status = self.progress.answered.get().unwrap_or(reply.status);
            return Closing { status, next: Next::BreakOff, error: Some(reply.message), answered: false };
        }
        let persistent = self.incoming.persistent && self.progress.upload_done.get() && self.worker.keeps_connections();
        let manner =
            Manner { version: self.incoming.head.version(), persistent, to_head: self.incoming.head.is_head() };
        let mut out = self.worker.buffers.head();
        let bytes = write_error(&reply, &self.incoming.id, manner, &mut out);
        let next = match client.send(&out, self.policy.response).await {
            Ok(()) if persistent => Next::KeepAlive,
            Ok(()) => Next::Linger,
            Err(_) => Next::Close,
        };
        self.progress.content.set(bytes);
        Closing { status: reply.status, next, error: Some(reply.message), answered: false }
    }

    /// Counts and logs the exchange.
    fn account(&mut self, now: Time, ended: &Closing) {
        self.accounted = true;
        let backend = self.served_by.as_ref().map(ServedBy::backend);
        // Each attempt that failed is there; the one that did not comes on top.
        let tries = self.attempts.failures() + usize::from(ended.answered);
        self.worker.account(&Account {
            now,
            incoming: &self.incoming,
            status: ended.status,
            // Neither a client that left nor a tunnel that one side ended is a failure of ours.
            broke_off: ended.next == Next::BreakOff && !matches!(ended.status, 499 | 101),
            content: self.progress.content.get(),
            backend,
            cluster: Some(&self.incoming.plan.clusters[self.forwarded.cluster]),
            tries,
            error: ended.error.as_deref(),
            switched_at: self.progress.switched_at.get(),
        });
    }
}

/// Runs `work`, unless `failing` ends before it: that one only ends in failure.
async fn unless<T>(
    mut work: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    mut failing: Pin<&mut impl Future<Output = Failure>>,
) -> Result<T, Failure> {
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending => failing.as_mut().poll(cx).map(Err),
    })
    .await
}
