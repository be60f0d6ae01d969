//! The tunnel after a 101: relays bytes in both directions without interpreting them (RFC 9110, section 7.8).

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use loadx_core::{Backend, Time};

use super::attempt::until_cut;
use super::{Exchange, Switched, TunnelEnd};
use crate::io::{Broken, Waiting};
use crate::limits::RELAY_TURN_BYTES;
use crate::net::{Network, PipeOf};
use crate::patience::Patience;
use crate::sides::{
    BodySink, BodySource, Inbound, Piece, RelayFault, RequestSink as _, RequestSource, ResponseSink,
    ResponseSource as _,
};
use crate::timer::Timer;
use crate::upstream::{h1, h2};

impl<N, R, W> Exchange<'_, N, R, W>
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    /// Relays bytes between the client and the backend after a 101, until both sides end, the tunnel fails, or the drain of
    /// the backend is over.
    pub(super) async fn tunnel(&mut self, backend: &Backend, switched: &mut Switched<N>) -> TunnelEnd {
        let (worker, timer) = (self.worker, self.client.pace.timer);
        let patience = Patience::idle(self.policy.response);
        match switched {
            Switched::Http1(conversation) => {
                let (mut to_backend, mut from_backend) = conversation.switched(&h1::ConversationParts {
                    waiting: Waiting { timer, buffers: &worker.buffers },
                    patience: &patience,
                    pool: &worker.pool,
                    to_head: false,
                });
                let end = self.join(backend, &mut to_backend, from_backend.body()).await;
                if let TunnelEnd::Broke(_) = end {
                    conversation.break_off();
                }
                end
            }
            // A stream that has not ended is reset when the exchange leaves it.
            Switched::Http2(conversation) => {
                let parts = h2::ConversationParts { timer, patience: &patience, to_head: false };
                let (mut to_backend, mut from_backend) = conversation.switched(&parts);
                self.join(backend, to_backend.body(), from_backend.body()).await
            }
        }
    }

    /// Relays bytes between the client and these halves of the backend's side.
    async fn join(
        &mut self,
        backend: &Backend,
        to_backend: &mut impl BodySink,
        from_backend: &mut impl BodySource,
    ) -> TunnelEnd {
        let _counted = self.worker.tunnels.begin(backend.id());
        let Inbound { request, response, pace, .. } = &mut self.client;
        self.progress.switched_at.set(Some(pace.timer.now()));
        request.body().consume();
        request.switch();
        response.switch();
        pace.to_client.begin(self.policy.response, 0);
        let tunnel = Tunnel {
            timer: pace.timer,
            idle: self.incoming.plan.process.timeouts.tunnel,
            patience: self.policy.response,
            moved: Cell::new(pace.timer.now()),
            half_closed: Cell::new(false),
        };
        let joined = {
            let up = tunnel.relay(request.body(), to_backend);
            let down = tunnel.relay(from_backend, response.body());
            until_cut(backend, pin!(async { tokio::try_join!(up, down) })).await
        };
        match joined {
            Some(Ok(_)) => TunnelEnd::Closed,
            Some(Err(broken)) => TunnelEnd::Broke(format!("the tunnel broke: {broken}")),
            None => {
                // Both sides see the end of the stream, and not a reset.
                response.body().shut();
                to_backend.shut();
                TunnelEnd::Ended("the drain of the backend was over")
            }
        }
    }
}

/// The state that both directions of a tunnel share.
struct Tunnel<'t> {
    timer: &'t Timer,
    /// The longest time without bytes in either direction.
    idle: Duration,
    /// Replaces `idle` after one side has ended its direction.
    patience: Duration,
    /// When bytes last moved in either direction.
    moved: Cell<Time>,
    /// Whether one side has ended its direction.
    half_closed: Cell<bool>,
}

impl Tunnel<'_> {
    /// Relays one direction to its end, then ends the direction at the receiver. An error ends both directions: a
    /// connection broke, or no bytes moved until the deadline.
    async fn relay(&self, from: &mut impl BodySource, to: &mut impl BodySink) -> Result<(), Broken> {
        let mut since_yield = 0;
        while !from.is_consumed() {
            match from.next_until(|| self.deadline()).await {
                Ok(()) => {}
                // The other direction has moved bytes and so extended the deadline.
                Err(RelayFault::Source(Broken::TimedOut)) if self.timer.now() < self.deadline() => continue,
                Err(RelayFault::Source(broken) | RelayFault::Sink(broken)) => return Err(broken),
                // Unreachable: bytes without framing have no framing faults.
                Err(RelayFault::Body(_)) => return Err(Broken::Closed),
            }
            let content = from.piece().content;
            let count = content.len() as u64;
            if count > 0 {
                to.send(Piece { content, end: None }).await?;
                self.moved.set(self.timer.now());
                since_yield += count;
            }
            from.consume();
            if since_yield >= RELAY_TURN_BYTES {
                since_yield = 0;
                tokio::task::yield_now().await;
            }
        }
        to.shut();
        self.half_closed.set(true);
        self.moved.set(self.timer.now());
        // The deadline is earlier now: yields so that the task polls the other direction, which rearms the timer.
        tokio::task::yield_now().await;
        Ok(())
    }

    fn deadline(&self) -> Time {
        self.moved.get() + if self.half_closed.get() { self.patience } else { self.idle }
    }
}
