//! One request and its response: picks a backend, sends the request, relays the response, and retries at another
//! backend while a retry is safe. Only this module retries.
//!
//! An exchange is independent of the HTTP version: it uses the traits of `sides`. The drivers of the versions decide
//! whether connections stay open.

mod accounting;
mod alternative;
mod attempt;
mod download;
mod failure;
mod hedge;
mod live;
mod mirror;
mod over_h1;
mod over_h2;
mod own;
mod routing;
mod tunnel;
mod turn;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use loadx_core::{
    AttemptPolicy, Attempts, Backend, Choice, Ended, ErrorKind, Failure, NoBackend, Outcome, Pick, ProxyError, Replay,
    Time,
};

use loadx_http::grpc::Status;

use crate::context::Worker;
use crate::explanations::Notes;
use crate::incoming::Incoming;
use crate::net::{Network, PipeOf, StreamOf};
use crate::shared::LocalView;
use crate::sides::{
    BodySink as _, BodySource as _, Ending, Inbound, OwnResponse, RelayFault, RequestSource, ResponseSink,
    grpc_status_of,
};
use crate::telemetry::{Cause, Waits};
use crate::upstream::{h1, h2};

use failure::{client_gone, upload_failure};
use hedge::Hedging;
use routing::{Decision, Forwarded};

/// A response that reached the client.
struct Answer<N: Network> {
    status: u16,
    /// The backend's connection after a switch to another protocol. Boxed, because a switch is rare and an `Answer` is
    /// moved often.
    switched: Option<Switched<N>>,
    /// How the tunnel after a switch ended.
    tunnel: TunnelEnd,
}

/// A backend's side that carries a tunnel.
enum Switched<N: Network> {
    Http1(Box<h1::Conversation<StreamOf<N>>>),
    Http2(Box<h2::Conversation<N>>),
}

/// How a tunnel ended.
#[derive(Debug)]
enum TunnelEnd {
    /// Both sides ended their directions, or there was no tunnel.
    Closed,
    /// LoadX ended both directions; with the reason, as text for the log.
    Ended(&'static str),
    /// The tunnel failed; with the reason, as text for the log.
    Broke(String),
}

/// How an exchange without a complete response ends.
#[derive(Debug)]
enum Unserved {
    /// LoadX sends this error response.
    Error(ProxyError),
    /// The client closed its connection; with the reason, as text for the log.
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

/// State that upload and download of an exchange share.
#[derive(Debug)]
struct Progress {
    /// Since when the backend is silent: when LoadX last sent bytes of the request or received a response head.
    silent_since: Cell<Time>,
    /// Whether LoadX has sent the whole request.
    upload_done: Cell<bool>,
    /// The status of the response, once LoadX has begun to send it to the client.
    answered: Cell<Option<u16>>,
    /// When the head of the final response arrived; `None` for a response that is complete with its head.
    head_at: Cell<Option<Time>>,
    /// When the connections switched to another protocol.
    switched_at: Cell<Option<Time>>,
    /// The status of gRPC, once the backend has told it.
    grpc: Cell<Option<Status>>,
    /// Whether content was relayed that LoadX no longer has, so that no other backend can get the whole request.
    began_upload: Cell<bool>,
    /// Whether the content that had arrived with the head waits for the backend.
    piece_waits: Cell<bool>,
    /// The times that were spent waiting for a backend and for connections.
    waits: Cell<Waits>,
}

impl Progress {
    /// Changes the times that were spent waiting.
    fn waited(&self, change: impl FnOnce(&mut Waits)) {
        let mut waits = self.waits.get();
        change(&mut waits);
        self.waits.set(waits);
    }
}

/// Runs one exchange. After [`Ending::BrokenOff`] the caller must reset the client's connection.
pub(crate) async fn run<N, R, W>(worker: &Rc<Worker<N>>, incoming: &mut Incoming, client: Inbound<'_, R, W>) -> Ending
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    let proof = match routing::asks_for_proof(incoming) {
        true => routing::prove(worker, incoming).await,
        false => None,
    };
    let decision = proof.map_or_else(|| routing::decide(worker, incoming), Decision::Answer);
    let forwarded = match decision {
        Decision::Forward(forwarded) => forwarded,
        Decision::Answer(own) => {
            // Content that is here already need not end the connection. Invalid content does.
            let _ = client.request.body().decode_buffered();
            return own::answer(worker, incoming, client, &own).await;
        }
    };
    let (policy, limits) = (incoming.attempt_policy(forwarded.cluster), &incoming.plan.process.client_limits);
    let body_max = incoming.route().and_then(|route| route.body_max).or(limits.body_max).unwrap_or(u64::MAX);
    client.request.set_content_max(body_max);
    let removed = routing::removed_fields(incoming);
    if !removed.is_empty() {
        client.request.remove_trailers(removed);
    }
    // A call of gRPC may send its messages as rarely as it likes.
    let rate_min = if incoming.grpc.is_some() { 0 } else { limits.body_rate_min };
    client.pace.from_client.begin(policy.response, rate_min);
    client.pace.to_client.begin(policy.response, rate_min);
    if incoming.head.expects_continue() {
        client.pace.from_client.hold();
    }
    let began = incoming.began;
    let mut exchange = Exchange {
        worker,
        client,
        progress: Progress {
            silent_since: Cell::new(began),
            upload_done: Cell::new(!incoming.has_body()),
            answered: Cell::new(None),
            head_at: Cell::new(None),
            switched_at: Cell::new(None),
            grpc: Cell::new(None),
            began_upload: Cell::new(false),
            piece_waits: Cell::new(false),
            waits: Cell::default(),
        },
        policy,
        forwarded,
        incoming,
        attempts: Attempts::new(began, policy.retry),
        tries: 0,
        served_by: None,
        hedging: None,
        accounted: false,
        failures: RefCell::default(),
    };
    // The content that has arrived is sent together with the head. It is decoded once for all attempts, and before the
    // first pick, so that no backend gets a request with an invalid body.
    let outcome = match exchange.client.request.body().decode_buffered() {
        Ok(()) => {
            exchange.mirror();
            exchange.attempt_each().await
        }
        Err(fault) => Err(upload_failure(RelayFault::Body(fault)).into()),
    };
    exchange.end(outcome).await
}

struct Exchange<'e, N: Network, R: RequestSource<PipeOf<N>>, W: ResponseSink<PipeOf<N>>> {
    worker: &'e Rc<Worker<N>>,
    incoming: &'e Incoming,
    client: Inbound<'e, R, W>,
    /// The cluster of the request, and the changes of the route.
    forwarded: Forwarded,
    policy: AttemptPolicy,
    progress: Progress,
    attempts: Attempts,
    /// How many times the request was sent, or was about to be sent when no connection could be opened.
    tries: usize,
    /// The backend of the last attempt.
    served_by: Option<ServedBy>,
    /// What attempts beside each other need; only in clusters that hedge.
    hedging: Option<Box<Hedging<N>>>,
    accounted: bool,
    /// How attempts failed, unless the request asked for an explanation, which has them.
    failures: RefCell<Notes>,
}

impl<N: Network, R: RequestSource<PipeOf<N>>, W: ResponseSink<PipeOf<N>>> Drop for Exchange<'_, N, R, W> {
    /// Counts and logs an exchange whose task is dropped before its end.
    fn drop(&mut self) {
        if !self.accounted {
            let departed = self.client.response.departed().map(|broken| client_gone(&broken).to_string());
            let is_tunnel = self.progress.switched_at.get().is_some();
            let status = match departed {
                // A tunnel keeps its status, however it ends.
                Some(_) if !is_tunnel => {
                    self.worker.metrics.borrow_mut().client_aborts += 1;
                    499
                }
                _ => self.progress.answered.get().unwrap_or(503),
            };
            let listener = self.incoming.plan.listeners[self.incoming.listener].id;
            let cause = match &departed {
                Some(reason) => Cause::new(ErrorKind::ClientGone, reason),
                None => Cause::new(ErrorKind::Stopped, self.worker.sessions.end_reason(listener)),
            };
            self.account(self.worker.clock.now(), status, Ending::BrokenOff, Some(cause));
            if is_tunnel {
                // A tunnel has no message that a reset would mark as truncated.
                self.client.response.body().shut();
            }
        }
    }
}

/// A backend, with the view that owns it: the log and the counts need the backend after a new view is published.
struct ServedBy {
    view: LocalView,
    index: usize,
}

impl ServedBy {
    fn backend(&self) -> &Backend {
        &self.view.backends()[self.index]
    }
}

impl<N, R, W> Exchange<'_, N, R, W>
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    /// Makes attempts at one backend after the other, until an attempt succeeds or the core allows no further attempt.
    async fn attempt_each(&mut self) -> Result<Answer<N>, Unserved> {
        let timer = self.client.pace.timer;
        let mut last: Option<Failure> = None;
        loop {
            // The first pick follows the head at once, so that the clock need not be read again.
            let mut is_beside = false;
            let choice = match &last {
                Some(_) if let Some(pick) = self.take_overtaking() => {
                    is_beside = true;
                    Choice::Picked(pick)
                }
                None => self.pick_or_wait(self.incoming.began).await?,
                Some(failure) if failure.left_no_trace() => self.pick_or_wait(timer.now()).await?,
                // A retry does not wait: it would take the turn of a request that nobody has served yet.
                Some(_) => self.choose(&self.view(), timer.now()),
            };
            let pick = match choice {
                Choice::Picked(pick) => pick,
                Choice::Wait | Choice::None(NoBackend::AtLimit) => {
                    let error = last.map_or_else(|| Unserved::Error(NoBackend::AtLimit.response()), Unserved::from);
                    return Err(error);
                }
                Choice::None(none) => {
                    let pause = match none {
                        NoBackend::AllTried => self.attempts.next_round(&self.view(), self.incoming.id.bits()),
                        NoBackend::NoneAdmitted | NoBackend::AtLimit | NoBackend::BreakerOpen => None,
                    };
                    let Some(pause) = pause.filter(|pause| self.has_time_for(*pause)) else {
                        return Err(last.map_or_else(|| Unserved::Error(none.response()), Unserved::from));
                    };
                    self.pause(pause).await?;
                    continue;
                }
            };
            let backend = pick.backend();
            let id = backend.id();
            self.tries += 1;
            self.progress.head_at.set(None);
            self.served_by = Some(ServedBy { index: pick.index(), view: pick.view().clone() });
            if self.incoming.explain.is_some() {
                self.explain(&pick, is_beside);
            }
            let mut attempt = match self.hedge_delay(pick.view()) {
                // The deadline is looked at here: a function of its own would cost each exchange a layer more.
                None => match self.attempts.exchange_deadline(&self.policy) {
                    None => self.attempt_while_served(backend).await,
                    Some(deadline) => self.attempt_until(backend, deadline).await,
                },
                Some(delay) => Box::pin(self.attempt_beside(backend, delay)).await,
            };
            if let Ok(Answer { switched: Some(switched), tunnel, .. }) = &mut attempt {
                *tunnel = self.tunnel(backend, switched).await;
            }
            if let Ok(Answer { switched: Some(_), .. }) | Err(_) = &attempt {
                timer.now();
            }
            let ended = self.ended(&pick, &attempt, timer.latest());
            if self.incoming.trace.is_some() {
                self.note_span(&pick, &attempt, timer.now());
            }
            if let Some(observation) = pick.finish(ended) {
                self.worker.report(id, observation);
            }
            if let Err(failure) = &attempt {
                self.count_failure(failure);
            }
            if self.hedging.is_some() {
                self.note_overtaken(timer.now());
            }
            match attempt {
                Ok(answer) => return Ok(answer),
                Err(failure) if self.has_overtaking() => {
                    self.attempts.overtaken(id);
                    last = Some(failure);
                }
                Err(failure) => {
                    let replay = self.replay();
                    let served_by = self.served_by.as_ref().expect("an attempt follows a pick");
                    if !self.attempts.failed(id, &failure, replay, served_by.view.retry_budget()) {
                        return Err(failure.into());
                    }
                    tracing::debug!(request = %self.incoming.id, "trying another backend: {failure}");
                    last = Some(failure);
                }
            }
        }
    }

    /// Whether the time of the exchange lasts longer than a pause that begins now.
    fn has_time_for(&self, pause: Duration) -> bool {
        let ends = self.client.pace.timer.now() + pause;
        self.attempts.exchange_deadline(&self.policy).is_none_or(|deadline| ends < deadline)
    }

    /// Waits before another round of attempts. Fails when the client leaves.
    async fn pause(&mut self, pause: Duration) -> Result<(), Unserved> {
        let sleep = Box::pin(async {
            tokio::time::sleep(pause).await;
            Ok(())
        });
        self.unless_client_leaves(sleep).await.map_err(Unserved::from)
    }

    /// The backends that are in rotation now.
    fn view(&self) -> LocalView {
        self.worker.view(&self.incoming.plan, self.forwarded.cluster)
    }

    fn choose(&self, view: &LocalView, now: Time) -> Choice<Pick<LocalView>> {
        self.attempts.choose(view.clone(), now, self.incoming.id.bits(), view.key(self.incoming.client))
    }

    /// The result of the attempt for the health and the counts of its backend.
    fn ended(&self, pick: &Pick<LocalView>, attempt: &Result<Answer<N>, Failure>, now: Time) -> Ended {
        let took = now.since(pick.at());
        let first_byte = || self.progress.head_at.get().map_or(took, |at| at.since(pick.at()));
        let answered = |status| Ended { outcome: Outcome::Answered, status, first_byte: first_byte(), took };
        match attempt {
            Ok(answer) => {
                let of_call = self.progress.grpc.get().and_then(Status::as_server_error);
                answered(of_call.unwrap_or(answer.status))
            }
            Err(Failure::Status { status }) => answered(*status),
            Err(Failure::GrpcStatus { status, .. }) => answered(Status::of(*status).as_server_error().unwrap_or(200)),
            // The exchange had used most of its time before this attempt.
            Err(Failure::TookTooLong { limit, .. }) if took * 2 < *limit => Ended::unanswered(Outcome::Cancelled, took),
            Err(failure) => Ended::unanswered(failure.outcome(), took),
        }
    }

    /// Whether a retry of the request is safe and possible.
    fn replay(&self) -> Replay {
        Replay { idempotent: self.incoming.head.idempotent(), whole: !self.progress.began_upload.get() }
    }

    /// Sends an error response after a failure, if the client can still get one. Counts and logs the exchange.
    async fn end(&mut self, outcome: Result<Answer<N>, Unserved>) -> Ending {
        let timer = self.client.pace.timer;
        let (status, ending, kind, message) = match outcome {
            Ok(Answer { status, tunnel: TunnelEnd::Closed, .. }) => {
                // The clock was read at the end of the response.
                self.account(timer.latest(), status, Ending::Complete, None);
                return Ending::Complete;
            }
            Ok(Answer { status, tunnel: TunnelEnd::Ended(reason), .. }) => {
                self.account(timer.now(), status, Ending::Complete, Some(Cause::new(ErrorKind::Stopped, reason)));
                return Ending::Complete;
            }
            Ok(Answer { status, tunnel: TunnelEnd::Broke(reason), .. }) => {
                let cause = Cause::new(ErrorKind::TunnelBroke, &reason);
                self.account(timer.now(), status, Ending::BrokenOff, Some(cause));
                return Ending::BrokenOff;
            }
            Err(Unserved::ClientGone(reason)) => {
                self.worker.metrics.borrow_mut().client_aborts += 1;
                (499, Ending::BrokenOff, ErrorKind::ClientGone, reason)
            }
            // LoadX has sent a part of a response. Only a reset shows the client that the response is incomplete.
            Err(Unserved::Error(error)) if self.client.response.is_unfinished() => {
                self.progress.grpc.set(Some(grpc_status_of(&error)));
                let status = self.progress.answered.get().unwrap_or(error.status);
                (status, Ending::BrokenOff, error.kind, error.message)
            }
            Err(Unserved::Error(error)) => {
                let ending = self.send_error(&error).await;
                (error.status, ending, error.kind, error.message)
            }
        };
        self.account(timer.now(), status, ending, Some(Cause::new(kind, &message)));
        ending
    }

    /// Sends the client an error response.
    async fn send_error(&mut self, error: &ProxyError) -> Ending {
        let mut response = OwnResponse::error_to(self.incoming.grpc.is_some(), error, &self.incoming.id);
        self.progress.grpc.set(Some(grpc_status_of(error)));
        routing::own_lines(self.incoming, &mut response.fields);
        let request_complete = self.client.request.body().is_complete();
        self.client.pace.to_client.begin(self.policy.response, 0);
        match self.client.response.own(&response, request_complete).await {
            Ok(_) => Ending::Complete,
            Err(_) => Ending::BrokenOff,
        }
    }
}
