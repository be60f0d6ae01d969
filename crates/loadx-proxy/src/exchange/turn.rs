//! Waits for a backend below its limit.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use loadx_core::{Choice, Failure, Gate, Key, KeyPrefixes, Pick, Place, Turn};

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
    /// Picks the backend for the first attempt. Waits if every backend is at its limit, and behind others that wait.
    pub(super) async fn first_pick(&mut self) -> Result<Choice<Pick<LocalView>>, Unserved> {
        let view = self.view();
        let is_behind = view.gate().is_busy();
        if !is_behind {
            match self.choose(&view, self.incoming.began) {
                Choice::Wait => {}
                choice => return Ok(choice),
            }
        }
        // In a box, so that an exchange that need not wait takes no memory for this.
        Box::pin(self.pick_in_turn(is_behind)).await
    }

    /// `is_behind`: whether others wait, so that the exchange must not pick before its turn.
    async fn pick_in_turn(&mut self, mut is_behind: bool) -> Result<Choice<Pick<LocalView>>, Unserved> {
        let gate = Arc::clone(self.view().gate());
        let client = self.queue_key();
        let crowded = || Unserved::Error(NoBackend::AtLimit.response());
        loop {
            let timer = self.client.pace.timer;
            let Some(place) = gate.enter(timer.now(), client) else { return Err(crowded()) };
            let mut waiting = Waiting { gate: Arc::clone(&gate), place, has_picked: false };
            if !std::mem::replace(&mut is_behind, false) {
                // An exchange may have ended before this one was in the queue.
                match self.choose(&self.view(), timer.latest()) {
                    Choice::Wait => {}
                    choice => return Ok(choice),
                }
            }
            let turn = poll_fn(|cx| match waiting.place.poll(cx) {
                Poll::Ready(turn) => Poll::Ready(Ok(turn)),
                Poll::Pending => timer.poll_expired(cx, gate.deadline(&waiting.place)).map(|()| Ok(Turn::Refused)),
            });
            let turn = self.unless_client_leaves(turn).await.map_err(|failure: Failure| Unserved::from(failure))?;
            if turn == Turn::Refused || self.client.pace.timer.now() > gate.deadline(&waiting.place) {
                return Err(crowded());
            }
            waiting.has_picked = true;
            match self.choose(&self.view(), self.client.pace.timer.latest()) {
                // Another exchange was quicker.
                Choice::Wait => {}
                choice => return Ok(choice),
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
