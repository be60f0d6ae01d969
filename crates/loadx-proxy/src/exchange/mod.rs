//! One request and its response: pick a backend, carry the request there and the response back, and
//! go to another backend while that is safe. Retries happen here and nowhere else.

mod attempt;
mod departure;
mod download;
mod failure;
mod mirror;
mod own;
mod routing;
mod tunnel;

use std::cell::Cell;
use std::rc::Rc;

use loadx_core::{
    AttemptPolicy, Attempts, Backend, Choice, Ended, Failure, NoBackend, Outcome, Pick, ProxyError, Replay, Time,
};
use loadx_http::{BodyDecoder, Decoded};

use crate::buffers::{HeadBuffer, Input};
use crate::connection::Client;
use crate::context::Worker;
use crate::incoming::Incoming;
use crate::io::is_silent;
use crate::net::{Network, Stream as _};
use crate::patience::Patience;
use crate::pool::Connection;
use crate::relay::{RelayFault, Waiting};
use crate::reply::{Manner, write_error};
use crate::shared::LocalView;
use crate::telemetry::{Record, Request};

use failure::upload_failure;
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
    /// An exchange that is dropped before its end is counted and logged too, with the reason.
    fn drop(&mut self) {
        if !self.accounted {
            let status = self.progress.answered.get().unwrap_or(503);
            let error = Some(self.worker.sessions.end_reason().to_owned());
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
        self.worker.account(&Record {
            request: Request::Accepted(&self.incoming),
            began: self.incoming.began,
            ended: now,
            switched_at: self.progress.switched_at.get(),
            status: ended.status,
            // Neither a client that left nor a tunnel that one side ended is a failure of ours.
            broke_off: ended.next == Next::BreakOff && !matches!(ended.status, 499 | 101),
            content: self.progress.content.get(),
            backend,
            cluster: Some(&self.incoming.plan.clusters[self.forwarded.cluster]),
            tries,
            error: ended.error.as_deref(),
        });
    }
}
