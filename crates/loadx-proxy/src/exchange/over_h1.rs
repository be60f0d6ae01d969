//! One attempt at a backend that speaks HTTP/1.1.

use loadx_core::{Backend, Failure};

use super::{Answer, Exchange, Switched, TunnelEnd};
use crate::io::Waiting;
use crate::net::{Network, PipeOf, StreamOf};
use crate::patience::Patience;
use crate::sides::{RequestSource, ResponseSink};
use crate::upstream::connect;
use crate::upstream::h1::{Conversation, ConversationParts};
use crate::upstream::pool::Connection;

impl<N, R, W> Exchange<'_, N, R, W>
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    /// Sends the request to one backend and relays the response, on an idle connection if there is one.
    pub(super) async fn attempt_over_h1(&mut self, backend: &Backend) -> Result<Answer<N>, Failure> {
        let cluster = self.forwarded.cluster;
        let sent = self.hedging.as_mut().and_then(|hedging| hedging.take_connection());
        let mut idle = sent.or_else(|| self.worker.pool.take(backend, &self.incoming.plan.clusters[cluster].transport));
        // One call of `converse_over_h1`: with a second one the compiler makes a function of it, which costs each exchange.
        loop {
            let is_reused = idle.is_some();
            let connection = match idle.take() {
                Some(connection) => connection,
                None => self.open(backend).await?,
            };
            match self.converse_over_h1(backend, connection).await {
                // The backend has most likely just closed the idle connection. That does not count against its health,
                // so the same backend gets the request on a new connection.
                Err(failure @ Failure::Unanswered { .. }) if is_reused && self.resends_after(&failure) => {}
                attempt => return attempt,
            }
        }
    }

    /// Opens a connection.
    async fn open(&mut self, backend: &Backend) -> Result<Connection<StreamOf<N>>, Failure> {
        let (worker, incoming, cluster) = (self.worker, self.incoming, self.forwarded.cluster);
        let header = self.proxy_header(cluster);
        // In a box, so that an exchange on an open connection takes no memory for this.
        let connecting = Box::pin(connect::connect(worker, (&incoming.plan, cluster), backend, header.as_deref()));
        self.connected(connecting).await
    }

    /// Sends the request on this connection, unless that was done already, and relays the response.
    async fn converse_over_h1(
        &mut self,
        backend: &Backend,
        connection: Connection<StreamOf<N>>,
    ) -> Result<Answer<N>, Failure> {
        let (worker, timer) = (self.worker, self.client.pace.timer);
        let patience = Patience::idle(self.policy.response);
        let mut conversation = Conversation::new(connection);
        let is_sent = self.hedging.as_mut().is_some_and(|hedging| hedging.resume(&mut conversation));
        let (mut request, mut response) = conversation.halves(&ConversationParts {
            waiting: Waiting { timer, buffers: &worker.buffers },
            patience: &patience,
            pool: &worker.pool,
            to_head: self.incoming.head.is_head(),
        });
        match is_sent {
            false => self.send(&mut request).await?,
            true => self.progress.silent_since.set(timer.now()),
        }
        let relayed = self.relay_both(&mut request, &mut response).await;
        let is_over = matches!(relayed, Ok(_) | Err(Failure::Status { .. }));
        let reusable = is_over && response.leaves_connection() && self.progress.upload_done.get();
        let used_pipe = response.used_pipe();
        drop((request, response));
        let now = timer.now();
        if let Ok((status, true)) = relayed {
            return Ok(Answer {
                status,
                switched: Some(Switched::Http1(Box::new(conversation))),
                tunnel: TunnelEnd::Closed,
            });
        }
        if reusable {
            conversation.keep(&worker.pool, backend.id(), now, used_pipe);
        }
        relayed.map(|(status, _)| Answer { status, switched: None, tunnel: TunnelEnd::Closed })
    }
}
