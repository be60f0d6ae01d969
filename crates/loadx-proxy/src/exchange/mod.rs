//! One request and its response: pick a backend, carry the request there and the response back, and
//! go to another backend while that is safe. Retries happen here and nowhere else.
//!
//! An exchange speaks no version of HTTP: both sides are halves of `sides`, and the drivers of the versions decide what
//! becomes of the connections.

mod attempt;
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

use crate::context::Worker;
use crate::incoming::Incoming;
use crate::net::{Network, PipeOf};
use crate::shared::LocalView;
use crate::sides::{BodySource as _, Ending, Inbound, OwnResponse, RelayFault, RequestSource, ResponseSink};
use crate::telemetry::{Record, Request};
use crate::upstream::h1::Conversation;

use failure::upload_failure;
use routing::{Decision, Forwarded};

/// A response that reached the client.
struct Answer<S> {
    status: u16,
    /// Where the connection goes on in another protocol. Boxed: it is seldom there, and an answer is moved often.
    switched: Option<Box<Conversation<S>>>,
    /// Why the tunnel that followed did not end well.
    tunnel_fault: Option<String>,
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

/// Carries out one request. At the end the client has the response, or the client's connection is to be broken off.
pub(crate) async fn run<N, R, W>(worker: &Rc<Worker<N>>, incoming: &mut Incoming, client: Inbound<'_, R, W>) -> Ending
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    let forwarded = match routing::decide(worker, incoming) {
        Decision::Forward(forwarded) => forwarded,
        Decision::Answer(own) => return own::answer(worker, incoming, client, &own).await,
    };
    let (policy, limits) = (incoming.attempt_policy(forwarded.cluster), &incoming.plan.process.client_limits);
    let body_max = incoming.route().and_then(|route| route.body_max).or(limits.body_max).unwrap_or(u64::MAX);
    client.request.set_content_max(body_max);
    client.pace.from_client.begin(policy.response, limits.body_rate_min);
    client.pace.to_client.begin(policy.response, limits.body_rate_min);
    if incoming.head.expects_continue() {
        client.pace.from_client.hold();
    }
    let began = incoming.began;
    let mut exchange = Exchange {
        worker,
        client,
        began_upload: false,
        progress: Progress {
            silent_since: Cell::new(began),
            upload_done: Cell::new(!incoming.has_body()),
            answered: Cell::new(None),
            head_at: Cell::new(None),
            content: Cell::new(0),
            switched_at: Cell::new(None),
        },
        policy,
        forwarded,
        incoming,
        attempts: Attempts::new(began),
        served_by: None,
        accounted: false,
    };
    // The content that is here already leaves with the head. It is decoded once, whatever the number of attempts, and
    // before a backend is asked: a body that begins badly costs no backend anything.
    let outcome = match exchange.client.request.body().look() {
        Ok(()) => {
            exchange.mirror();
            exchange.carry().await
        }
        Err(fault) => Err(upload_failure(RelayFault::Body(fault)).into()),
    };
    exchange.end(outcome).await
}

struct Exchange<'e, N: Network, R, W> {
    worker: &'e Rc<Worker<N>>,
    incoming: &'e Incoming,
    client: Inbound<'e, R, W>,
    /// Which cluster answers, and how the route changes the request.
    forwarded: Forwarded,
    policy: AttemptPolicy,
    /// Whether content was taken from the client that no other backend could get any more.
    began_upload: bool,
    progress: Progress,
    attempts: Attempts,
    /// The backend of the last attempt.
    served_by: Option<ServedBy>,
    accounted: bool,
}

impl<N: Network, R, W> Drop for Exchange<'_, N, R, W> {
    /// An exchange that is dropped before its end is counted and logged too, with the reason.
    fn drop(&mut self) {
        if !self.accounted {
            let status = self.progress.answered.get().unwrap_or(503);
            let reason = self.worker.sessions.end_reason();
            self.account(self.worker.clock.now(), status, Ending::BrokenOff, Some(reason), false);
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

impl<N, R, W> Exchange<'_, N, R, W>
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    /// Asks one backend after the other until one answers or none is left to ask.
    async fn carry(&mut self) -> Result<Answer<N::Stream>, Unserved> {
        let timer = self.client.pace.timer;
        let mut last: Option<Failure> = None;
        loop {
            let view = self.worker.view(&self.incoming.plan, self.forwarded.cluster);
            // The first pick comes with the head; before another one, time has passed.
            let now = if last.is_none() { self.incoming.began } else { timer.now() };
            let key = view.key(self.incoming.client);
            let pick = match self.attempts.choose(view.clone(), now, self.incoming.id.bits(), key) {
                Choice::Picked(pick) => pick,
                Choice::Wait => return Err(Unserved::Error(NoBackend::NoneAdmitted.response())),
                Choice::None(none) => return Err(last.map_or_else(|| Unserved::Error(none.response()), Unserved::from)),
            };
            let backend = pick.backend();
            let id = backend.id();
            self.served_by = Some(ServedBy { index: pick.index(), view });
            let mut attempt = match self.attempts.exchange_deadline(&self.policy) {
                None => self.attempt(backend).await,
                Some(deadline) => self.attempt_until(backend, deadline).await,
            };
            if let Ok(Answer { switched: Some(switched), tunnel_fault, .. }) = &mut attempt {
                *tunnel_fault = self.tunnel(switched).await;
            }
            if let Ok(Answer { switched: Some(_), .. }) | Err(_) = &attempt {
                timer.now();
            }
            let ended = self.ended(&pick, &attempt, timer.latest());
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

    /// Tells the client how a failed exchange ended, as far as it can still be told; counts and logs the exchange.
    async fn end(&mut self, outcome: Result<Answer<N::Stream>, Unserved>) -> Ending {
        let timer = self.client.pace.timer;
        let (status, ending, error) = match outcome {
            Ok(Answer { status, tunnel_fault: None, .. }) => {
                // The end of the answer was looked at when it came.
                self.account(timer.latest(), status, Ending::Complete, None, true);
                return Ending::Complete;
            }
            Ok(Answer { status, tunnel_fault, .. }) => {
                self.account(timer.now(), status, Ending::BrokenOff, tunnel_fault.as_deref(), true);
                return Ending::BrokenOff;
            }
            Err(Unserved::ClientGone(reason)) => {
                self.worker.metrics.borrow_mut().client_aborts += 1;
                (499, Ending::BrokenOff, reason)
            }
            // A part of a response has left; breaking off is the only honest end.
            Err(Unserved::Error(error)) if self.client.response.is_unfinished() => {
                (self.progress.answered.get().unwrap_or(error.status), Ending::BrokenOff, error.message)
            }
            Err(Unserved::Error(error)) => {
                let ending = self.tell(&error).await;
                (error.status, ending, error.message)
            }
        };
        self.account(timer.now(), status, ending, Some(&error), false);
        ending
    }

    /// Sends the client an error response.
    async fn tell(&mut self, error: &ProxyError) -> Ending {
        let response = OwnResponse::error(error, &self.incoming.id);
        let request_complete = self.client.request.body().is_complete();
        self.client.pace.to_client.begin(self.policy.response, 0);
        match self.client.response.own(&response, request_complete).await {
            Ok(content) => {
                self.progress.content.set(content);
                Ending::Complete
            }
            Err(_) => Ending::BrokenOff,
        }
    }
}

impl<N: Network, R, W> Exchange<'_, N, R, W> {
    /// Counts and logs the exchange. `answered` tells that the last attempt ended in an answer.
    fn account(&mut self, now: Time, status: u16, ending: Ending, error: Option<&str>, answered: bool) {
        self.accounted = true;
        self.worker.account(&Record {
            request: Request::Accepted(self.incoming),
            began: self.incoming.began,
            ended: now,
            switched_at: self.progress.switched_at.get(),
            status,
            // Neither a client that left nor a tunnel that one side ended is a failure of ours.
            broke_off: ending == Ending::BrokenOff && !matches!(status, 499 | 101),
            content: self.progress.content.get(),
            backend: self.served_by.as_ref().map(ServedBy::backend),
            cluster: Some(&self.incoming.plan.clusters[self.forwarded.cluster]),
            // Each attempt that failed is counted there; the attempt that did not comes on top.
            tries: self.attempts.failures() + usize::from(answered),
            error,
        });
    }
}
