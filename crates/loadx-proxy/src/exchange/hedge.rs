//! A second attempt beside one that has not been answered for a while; the client gets the response that begins first.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use loadx_core::config::BackendProtocol;
use loadx_core::{Attempts, Backend, BackendId, Choice, Ended, Failure, Outcome, Pick, Replay, Stage, Time};

use super::attempt::encode;
use super::failure::{Sent, unanswered};
use super::routing::Forwarded;
use super::{Answer, Exchange, ServedBy};
use crate::buffers::Input;
use crate::context::Worker;
use crate::incoming::Incoming;
use crate::io::Waiting;
use crate::net::{Network, PipeOf, StreamOf};
use crate::patience::Patience;
use crate::shared::LocalView;
use crate::sides::{BodySink as _, Piece, RequestSink as _, RequestSource, ResponseSink};
use crate::timer::Timer;
use crate::upstream::connect;
use crate::upstream::h1::{Conversation, ConversationParts};
use crate::upstream::pool::Connection;

/// What attempts beside each other need.
pub(super) struct Hedging<N: Network> {
    /// Told when the client gets the response of the present attempt, so that no second one goes on.
    pub(super) is_answered: Rc<Cell<bool>>,
    /// A second attempt that was answered before the last one.
    won: Option<Won<N>>,
    /// The conversation of a second attempt that becomes the present one.
    sent: Option<Conversation<StreamOf<N>>>,
    /// The beginning of its response, once its connection is taken.
    received: Option<Input>,
    /// A second attempt that was not answered before the last one.
    overtaken: Option<Beside>,
}

/// A second attempt.
pub(super) struct Beside {
    pub(super) served_by: ServedBy,
    pub(super) began: Time,
}

/// An attempt of which the response has begun before that of the first attempt.
struct Won<N: Network> {
    pick: Pick<LocalView>,
    conversation: Conversation<StreamOf<N>>,
}

impl<N: Network> Hedging<N> {
    /// The connection on which a backend has the request already. [`resume`](Self::resume) follows.
    pub(super) fn take_connection(&mut self) -> Option<Connection<StreamOf<N>>> {
        let (connection, received) = self.sent.take()?.into_parts();
        self.received = Some(received);
        Some(connection)
    }

    /// Adds the beginning of the response to the conversation on the taken connection. Returns false if none was taken.
    pub(super) fn resume(&mut self, conversation: &mut Conversation<StreamOf<N>>) -> bool {
        let received = self.received.take();
        received.map(|received| conversation.begin_with(received)).is_some()
    }
}

impl<N, R, W> Exchange<'_, N, R, W>
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    /// After what time a second backend gets the request; `None` if none does. A request with content, or with an offer of
    /// another protocol, has one attempt at a time.
    pub(super) fn hedge_delay(&self, view: &LocalView) -> Option<Duration> {
        let delay = view.hedge()?.delay()?;
        let head = &self.incoming.head;
        let is_plain = !self.incoming.has_body() && !head.offers_upgrade();
        let cluster = &self.incoming.plan.clusters[self.forwarded.cluster];
        let may_hedge = is_plain
            && self.hedging.as_ref().is_none_or(|hedging| hedging.sent.is_none())
            && self.attempts.is_repeatable(self.replay())
            && cluster.transport.protocol == BackendProtocol::Http1;
        may_hedge.then_some(delay)
    }

    /// Makes an attempt at `backend`, and after `delay` a second one at another backend. If the second one is answered first, the
    /// first one ends with [`Failure::Overtaken`], and [`take_overtaking`](Self::take_overtaking) has the second one.
    pub(super) async fn attempt_beside(&mut self, backend: &Backend, delay: Duration) -> Result<Answer<N>, Failure> {
        let is_answered = Rc::new(Cell::new(false));
        let hedging =
            Hedging { is_answered: Rc::clone(&is_answered), won: None, sent: None, received: None, overtaken: None };
        self.hedging = Some(Box::new(hedging));
        let asked = Rc::new(RefCell::new(None));
        let second = Second {
            worker: Rc::clone(self.worker),
            incoming: self.incoming,
            forwarded: self.forwarded.clone(),
            attempts: self.attempts.clone(),
            replay: self.replay(),
            number: self.tries + 1,
            proxy_header: self.proxy_header(self.forwarded.cluster),
            present: backend.id(),
            asked: Rc::clone(&asked),
        };
        let mut second: Option<Pin<Box<_>>> = Some(Box::pin(second.run(delay)));
        let mut won = None;
        let mut attempt = {
            let mut first = pin!(async {
                match self.attempts.exchange_deadline(&self.policy) {
                    None => self.attempt_while_served(backend).await,
                    Some(deadline) => self.attempt_until(backend, deadline).await,
                }
            });
            poll_fn(|cx| {
                if let Poll::Ready(attempt) = first.as_mut().poll(cx) {
                    return Poll::Ready(attempt);
                }
                if is_answered.get() {
                    second = None;
                }
                match second.as_mut().map(|second| second.as_mut().poll(cx)) {
                    Some(Poll::Ready(Some(answered))) => {
                        (won, second) = (Some(answered), None);
                        Poll::Ready(Err(Failure::Overtaken))
                    }
                    Some(Poll::Ready(None)) => {
                        second = None;
                        Poll::Pending
                    }
                    Some(Poll::Pending) | None => Poll::Pending,
                }
            })
            .await
        };
        let under_way = second.filter(|_| asked.borrow().is_some());
        if let (Err(failure), Some(second)) = (&attempt, under_way)
            && may_be_replaced(failure)
        {
            // The second attempt is the retry.
            match self.in_time(second).await {
                Ok(answered) => won = answered,
                Err(failure) => attempt = Err(failure),
            }
        }
        let overtaken = asked.take().filter(|_| won.is_none());
        if let Some(Beside { served_by, .. }) = &overtaken {
            self.tries += 1;
            self.attempts.overtaken(served_by.backend().id());
        }
        if let Some(hedging) = &mut self.hedging {
            (hedging.won, hedging.overtaken) = (won, overtaken);
        }
        attempt
    }

    /// Waits for a second attempt alone, while the client is there and the exchange has time.
    async fn in_time(
        &mut self,
        second: Pin<Box<impl Future<Output = Option<Won<N>>>>>,
    ) -> Result<Option<Won<N>>, Failure> {
        let deadline = self.attempts.exchange_deadline(&self.policy).map(|at| self.worker.clock.instant(at));
        let limit = self.policy.exchange.unwrap_or_default();
        let answered = async move {
            match deadline {
                None => Ok(second.await),
                Some(at) => tokio::time::timeout_at(at, second)
                    .await
                    .map_err(|_| Failure::TookTooLong { limit, stage: Stage::Waiting }),
            }
        };
        self.unless_client_leaves(answered).await
    }

    /// Whether a second attempt has the response to this request.
    pub(super) fn has_overtaking(&self) -> bool {
        self.hedging.as_ref().is_some_and(|hedging| hedging.won.is_some())
    }

    /// The second attempt that was not answered before the last one.
    pub(super) fn take_overtaken(&mut self) -> Option<Beside> {
        self.hedging.as_mut()?.overtaken.take()
    }

    /// The pick of the attempt that overtook the last one, which becomes the present one.
    pub(super) fn take_overtaking(&mut self) -> Option<Pick<LocalView>> {
        let hedging = self.hedging.as_mut()?;
        let Won { pick, conversation } = hedging.won.take()?;
        hedging.sent = Some(conversation);
        Some(pick)
    }
}

/// Whether another attempt may answer after this failure of the first one.
fn may_be_replaced(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Connect(_)
            | Failure::Unanswered { .. }
            | Failure::Premature
            | Failure::Silent
            | Failure::HeadBrokeOff(_)
            | Failure::BadResponse(_)
            | Failure::Status { .. }
            | Failure::GivenUp
    )
}

/// What a second attempt takes.
struct Second<'e, N: Network> {
    worker: Rc<Worker<N>>,
    incoming: &'e Incoming,
    forwarded: Forwarded,
    attempts: Attempts,
    replay: Replay,
    /// The number of the attempt, from 1.
    number: usize,
    proxy_header: Option<Vec<u8>>,
    /// The backend of the first attempt.
    present: BackendId,
    /// Told the backend of the second attempt once there is one.
    asked: Rc<RefCell<Option<Beside>>>,
}

impl<N: Network> Second<'_, N> {
    /// Waits, makes the attempt, and returns when the head of its response has come. `None` if it fails.
    async fn run(self, delay: Duration) -> Option<Won<N>> {
        tokio::time::sleep(delay).await;
        self.attempt().await
    }

    async fn attempt(&self) -> Option<Won<N>> {
        let Second { worker, incoming, attempts, .. } = self;
        let view = worker.view(&incoming.plan, self.forwarded.cluster);
        let now = worker.clock.now();
        if !attempts.has_other(&view, self.present, self.replay) || view.gate().is_busy() {
            return None;
        }
        let (entropy, key) = (worker.entropy(), view.key(incoming.client));
        let Choice::Picked(pick) = attempts.choose_beside(view.clone(), now, entropy, key, self.present) else {
            return None;
        };
        if !view.retry_budget().take() {
            return None;
        }
        worker.metrics.borrow_mut().hedges += 1;
        let served_by = ServedBy { index: pick.index(), view: pick.view().clone() };
        *self.asked.borrow_mut() = Some(Beside { served_by, began: now });
        match self.send(pick.backend()).await {
            Ok(conversation) => {
                worker.metrics.borrow_mut().hedges_won += 1;
                Some(Won { pick, conversation })
            }
            Err(failure) => {
                tracing::debug!(request = %incoming.id, "a second attempt failed: {failure}");
                let id = pick.backend().id();
                let took = worker.clock.now().since(now);
                let ended = match failure {
                    Failure::Status { status } => Ended { outcome: Outcome::Answered, status, first_byte: took, took },
                    failure => Ended::unanswered(failure.outcome(), took),
                };
                if let Some(observation) = pick.finish(ended) {
                    worker.report(id, observation);
                }
                None
            }
        }
    }

    /// Sends the request, on an idle connection if there is one, and waits until the response begins.
    async fn send(&self, backend: &Backend) -> Result<Conversation<StreamOf<N>>, Failure> {
        let (plan, cluster) = (&self.incoming.plan, self.forwarded.cluster);
        if let Some(idle) = self.worker.pool.take(backend, &plan.clusters[cluster].transport) {
            match self.converse(idle).await {
                // The backend has most likely just closed the idle connection.
                Err(Failure::Unanswered { .. }) => {}
                conversation => return conversation,
            }
        }
        let header = self.proxy_header.as_deref();
        self.converse(connect::connect(&self.worker, (plan, cluster), backend, header).await?).await
    }

    async fn converse(&self, connection: Connection<StreamOf<N>>) -> Result<Conversation<StreamOf<N>>, Failure> {
        let Second { worker, incoming, .. } = self;
        let silence = incoming.attempt_policy(self.forwarded.cluster).response;
        let (timer, patience) = (Timer::new(worker.clock), Patience::idle(silence));
        let mut conversation = Conversation::new(connection);
        let (mut request, mut response) = conversation.halves(&ConversationParts {
            waiting: Waiting { timer: &timer, buffers: &worker.buffers },
            patience: &patience,
            pool: &worker.pool,
            to_head: incoming.head.is_head(),
        });
        encode(incoming, &self.forwarded, self.number, |head, forwarding, changes| {
            request.head(head, forwarding, changes);
        });
        let sent = request.send(Piece { content: b"", end: Some(b"") }).await;
        sent.map_err(|broken| unanswered(&broken, Sent::of_bytes(request.written())))?;
        let deadline = timer.now() + silence;
        let status = response.final_status(|| deadline).await?;
        if self.attempts.retried_statuses().contains(status) {
            // The first attempt may still get a better response.
            return Err(Failure::Status { status });
        }
        drop((request, response));
        Ok(conversation)
    }
}
