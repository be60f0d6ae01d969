//! Waits for a backend below its limit.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loadx_core::{Choice, Entered, Failure, Gate, Key, KeyPrefixes, Pick, Place, Stage, Time, Turn};

use super::{Exchange, NoBackend, Unserved};
use crate::net::{Network, PipeOf};
use crate::shared::LocalView;
use crate::sides::{RequestSource, ResponseSink};

/// The place of an exchange in the queue of its cluster, until the exchange leaves the queue or is dropped.
struct Waiting {
    gate: Arc<Gate>,
    place: Arc<Place>,
    /// Whether the exchange has used its turn, so that the turn does not pass to the next.
    has_picked: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.has_picked {
            self.gate.leave(&self.place);
        }
    }
}

impl<N, R, W> Exchange<'_, N, R, W>
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    /// Picks the backend for an attempt of a request that no backend has seen. Waits if every backend is at its limit, and behind
    /// others that wait.
    pub(super) async fn pick_or_wait(&mut self, now: Time) -> Result<Choice<Pick<LocalView>>, Unserved> {
        let view = self.view();
        if view.is_open() {
            return Ok(Choice::None(NoBackend::BreakerOpen));
        }
        if !view.gate().is_busy() {
            match self.choose(&view, now) {
                Choice::Wait => {}
                choice => return Ok(choice),
            }
        }
        // In a box, so that an exchange that need not wait takes no memory for this.
        let began = self.client.pace.timer.now();
        let choice = Box::pin(self.pick_in_turn()).await;
        let took = self.client.pace.timer.now().since(began);
        self.progress.waited(|waits| waits.queue += took);
        choice
    }

    async fn pick_in_turn(&mut self) -> Result<Choice<Pick<LocalView>>, Unserved> {
        let gate = Arc::clone(self.view().gate());
        let client = self.queue_key();
        let crowded = || Unserved::Error(NoBackend::AtLimit.response());
        let since = self.client.pace.timer.now();
        loop {
            let timer = self.client.pace.timer;
            let Some(Entered { place, is_first }) = gate.enter(timer.now(), client, since) else {
                return Err(crowded());
            };
            let mut waiting = Waiting { gate: Arc::clone(&gate), place, has_picked: false };
            if is_first {
                match self.choose(&self.view(), timer.latest()) {
                    Choice::Wait => {}
                    choice => return Ok(choice),
                }
            }
            let exchange_deadline = self.attempts.exchange_deadline(&self.policy);
            let deadline = |place: &Place| {
                let of_queue = gate.deadline(place);
                exchange_deadline.map_or(of_queue, |of_exchange| of_exchange.min(of_queue))
            };
            let turn = poll_fn(|cx| match waiting.place.poll(cx) {
                Poll::Ready(turn) => Poll::Ready(Ok(turn)),
                Poll::Pending => timer.poll_expired(cx, deadline(&waiting.place)).map(|()| Ok(Turn::Refused)),
            });
            let turn = self.unless_client_leaves(turn).await.map_err(|failure: Failure| Unserved::from(failure))?;
            let now = self.client.pace.timer.now();
            if let Some(limit) = self.policy.exchange.filter(|_| exchange_deadline.is_some_and(|at| now >= at)) {
                return Err(Failure::TookTooLong { limit, stage: Stage::Waiting }.into());
            }
            if turn == Turn::Refused || now > gate.deadline(&waiting.place) {
                return Err(crowded());
            }
            waiting.has_picked = true;
            match self.choose(&self.view(), now) {
                // Another exchange was quicker.
                Choice::Wait => {}
                choice @ Choice::Picked(_) => return Ok(choice),
                choice @ Choice::None(_) => {
                    // No attempt of this exchange will end and let the next one go.
                    gate.release();
                    return Ok(choice);
                }
            }
        }
    }

    /// What tells the client of the request from others in the queue.
    fn queue_key(&self) -> Key {
        let field = self.incoming.plan.clusters[self.forwarded.cluster].client_field.as_deref();
        match field.and_then(|field| self.incoming.head.values(field).next()) {
            Some(value) => Key::from_bytes(value),
            None => Key::from_ip(self.incoming.client, KeyPrefixes::default()),
        }
    }
}
