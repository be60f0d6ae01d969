//! One attempt at a backend that speaks HTTP/2.

use loadx_core::{Backend, Failure};

use super::{Answer, Exchange, Switched, TunnelEnd};
use crate::net::{Network, PipeOf};
use crate::patience::Patience;
use crate::sides::{RequestSource, ResponseSink};
use crate::upstream::h2::{Conversation, ConversationParts, Lease, Target};

impl<N, R, W> Exchange<'_, N, R, W>
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    /// Sends the request to one backend and relays the response, on an open connection if there is one with a free stream.
    pub(super) async fn attempt_over_h2(&mut self, backend: &Backend) -> Result<Answer<N>, Failure> {
        let transport = &self.incoming.plan.clusters[self.forwarded.cluster].transport;
        let mut open = self.worker.links.lease(backend, transport);
        let mut has_resent = false;
        loop {
            let is_reused = open.is_some();
            let lease = match open.take() {
                Some(lease) => lease,
                None => self.lease().await?,
            };
            match self.converse_over_h2(lease).await {
                // The backend has most likely just closed the connection, or takes no more streams there. That does not count
                // against its health, so the same backend gets the request once more, on a new connection.
                Err(failure @ Failure::Unanswered { unsent, .. })
                    if !has_resent && (is_reused || unsent) && self.resends_after(&failure) =>
                {
                    has_resent = true;
                }
                attempt => return attempt,
            }
        }
    }

    /// Waits for a place on a new connection to the picked backend.
    async fn lease(&mut self) -> Result<Lease<N>, Failure> {
        let (worker, incoming, cluster) = (self.worker, self.incoming, self.forwarded.cluster);
        let picked = self.served_by.as_ref().expect("an attempt follows a pick");
        let (view, index) = (picked.view.clone(), picked.index);
        let target = move || Target { plan: incoming.plan.clone(), cluster, view: view.clone(), backend: index };
        // In a box, so that an exchange on an open connection takes no memory for this.
        self.connected(Box::pin(worker.links.open(worker, target))).await
    }

    /// Sends the request on this connection and relays the response.
    async fn converse_over_h2(&mut self, lease: Lease<N>) -> Result<Answer<N>, Failure> {
        let timer = self.client.pace.timer;
        let patience = Patience::idle(self.policy.response);
        let mut conversation = Conversation::new(lease);
        let to_head = self.incoming.head.is_head();
        let parts = ConversationParts { timer, patience: &patience, to_head };
        let (mut request, mut response) = conversation.halves(&parts);
        self.send(&mut request).await?;
        let (status, switches) = self.relay_both(&mut request, &mut response).await?;
        drop((request, response));
        timer.now();
        let switched = switches.then(|| Switched::Http2(Box::new(conversation)));
        Ok(Answer { status, switched, tunnel: TunnelEnd::Closed })
    }
}
