//! One attempt: the request to one backend, and the response back.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use loadx_core::{Backend, Failure, Time};
use loadx_http::{BodyFault, Changes, Forwarding, RequestHead};

use super::download::Download;
use super::failure::{Sent, client_gone, unanswered, upload_failure};
use super::routing::Forwarded;
use super::{Answer, Exchange, Progress, mirror};
use crate::incoming::Incoming;
use crate::io::{Broken, Waiting};
use crate::net::{Network, PipeOf};
use crate::patience::Patience;
use crate::relay::relay;
use crate::request_id;
use crate::sides::{BodySink as _, BodySource as _, Inbound, RelayFault, RequestSink, ResponseSource};
use crate::sides::{RequestSource, ResponseSink};
use crate::upstream::connect;
use crate::upstream::h1::{Conversation, Terms};
use crate::upstream::pool::Connection;

impl<N, R, W> Exchange<'_, N, R, W>
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    /// The same as [`attempt`](Self::attempt), until the whole exchange must have ended.
    pub(super) async fn attempt_until(
        &mut self,
        backend: &Backend,
        deadline: Time,
    ) -> Result<Answer<N::Stream>, Failure> {
        let limit = self.policy.exchange.unwrap_or_default();
        match tokio::time::timeout_at(self.worker.clock.instant(deadline), self.attempt(backend)).await {
            Ok(attempt) => attempt,
            Err(_) => Err(Failure::TookTooLong { limit, uploading: self.client.pace.from_client.is_waiting() }),
        }
    }

    /// Carries the request to one backend and its response back.
    pub(super) async fn attempt(&mut self, backend: &Backend) -> Result<Answer<N::Stream>, Failure> {
        let mut idle = self.worker.pool.take(backend);
        loop {
            let is_reused = idle.is_some();
            let connection = match idle.take() {
                Some(connection) => connection,
                None => self.open(backend).await?,
            };
            match self.converse(backend, connection).await {
                // An idle connection that breaks was most likely closed by the backend just now: that is no sign of
                // trouble, and a new connection to the same backend the natural next step.
                Err(failure @ Failure::Unanswered { .. }) if is_reused => {
                    if !self.attempts.may_resend(&failure, self.replay()) {
                        return Err(failure);
                    }
                }
                attempt => return attempt,
            }
        }
    }

    /// Opens a connection, unless the client leaves before that.
    async fn open(&mut self, backend: &Backend) -> Result<Connection<N::Stream>, Failure> {
        let target = (&self.incoming.plan, self.forwarded.cluster);
        let connecting = pin!(connect::connect(self.worker, target, backend));
        let leaving = pin!(async { client_gone(&self.client.request.departure().await) });
        let connection = unless(connecting, leaving).await?;
        self.client.pace.timer.now();
        Ok(connection)
    }

    /// Sends the request on this connection and brings the response back.
    async fn converse(
        &mut self,
        backend: &Backend,
        connection: Connection<N::Stream>,
    ) -> Result<Answer<N::Stream>, Failure> {
        let (worker, timer) = (self.worker, self.client.pace.timer);
        let patience = Patience::idle(self.policy.response);
        let mut conversation = Conversation::new(connection);
        let (mut request, mut response) = conversation.halves(&Terms {
            waiting: Waiting { timer, buffers: &worker.buffers },
            patience: &patience,
            pool: &worker.pool,
            to_head: self.incoming.head.is_head(),
        });
        self.send(&mut request).await?;
        let (status, switches) = self.relay_both(&mut request, &mut response).await?;
        let reusable = response.leaves_connection() && self.progress.upload_done.get();
        drop((request, response));
        let now = timer.now();
        if switches {
            return Ok(Answer { status, switched: Some(Box::new(conversation)), tunnel_fault: None });
        }
        if reusable {
            conversation.keep(&worker.pool, backend.id(), now);
        }
        Ok(Answer { status, switched: None, tunnel_fault: None })
    }

    /// Sends the head, and the content that is here with it.
    async fn send(&mut self, request: &mut impl RequestSink<PipeOf<N>>) -> Result<(), Failure> {
        let Exchange { incoming, forwarded, client: Inbound { request: from_client, pace, .. }, .. } = self;
        encode(incoming, forwarded, *from_client, |head, forwarding, changes| {
            request.head(head, forwarding, changes);
        });
        let (source, sink) = (from_client.body(), request.body());
        let sent = sink.send(source.piece()).await;
        let is_complete = source.is_complete();
        if !is_complete && sink.written() > 0 {
            // The rest follows, and cannot be had again.
            self.began_upload = true;
            if sent.is_ok() {
                source.consume();
            }
        }
        sent.map_err(|broken| unanswered(&broken, Sent::of_bytes(sink.written())))?;
        self.progress.silent_since.set(pace.timer.latest());
        self.progress.upload_done.set(is_complete);
        Ok(())
    }

    /// Brings the response back, and meanwhile the rest of the request to the backend. Returns the status, and whether
    /// the connection goes on in another protocol.
    async fn relay_both(
        &mut self,
        request: &mut impl RequestSink<PipeOf<N>>,
        response: &mut impl ResponseSource<PipeOf<N>>,
    ) -> Result<(u16, bool), Failure> {
        let Exchange { worker, incoming, client, policy, progress, .. } = self;
        let Inbound { request: from_client, response: to_client, pace } = client;
        let download = Download {
            incoming,
            progress,
            pace,
            response,
            client: *to_client,
            pipes: &worker.pipes,
            silence: policy.response,
        };
        // What the client does meanwhile: it sends the rest of the content, and then nothing that concerns this
        // exchange, unless it leaves.
        let client_side = pin!(async {
            if !progress.upload_done.get() {
                let moved = || progress.silent_since.set(pace.timer.now());
                let outcome = relay(from_client.body(), request.body(), &worker.pipes, moved).await;
                progress.upload_done.set(outcome.is_ok());
                if let Some(failure) = end_of_upload(outcome, progress).await {
                    return failure;
                }
            }
            client_gone(&from_client.departure().await)
        });
        unless(pin!(download.run()), client_side).await
    }

    /// Sends a copy of the request to the mirror of the route, if all of the request is here already: content that is
    /// passed on as it comes is never held, and so cannot be sent twice.
    pub(super) fn mirror(&mut self) {
        let Some(cluster) = self.forwarded.mirror else { return };
        let source = self.client.request.body();
        if !source.is_complete() || self.incoming.head.offers_upgrade() {
            self.worker.metrics.borrow_mut().mirrors_skipped += 1;
            return;
        }
        let piece = source.piece();
        let (content, trailers) = (piece.content.to_vec(), piece.end.unwrap_or_default().to_vec());
        let mut head = Vec::new();
        encode(self.incoming, &self.forwarded, self.client.request, |request, forwarding, changes| {
            request.encode(forwarding, changes, &mut head);
        });
        mirror::ask_to_close(&mut head);
        mirror::send(
            self.worker,
            mirror::Copy {
                plan: self.incoming.plan.clone(),
                cluster,
                head,
                framing: self.incoming.head.framing(),
                content,
                trailers,
                entropy: self.worker.entropy(),
            },
        );
    }
}

/// Shows the head of a request to `write`, with what LoadX adds and what the route changes.
fn encode<P>(
    incoming: &Incoming,
    forwarded: &Forwarded,
    client: &impl RequestSource<P>,
    write: impl FnOnce(&RequestHead, &Forwarding<'_>, &Changes<'_>),
) {
    let signature = &incoming.plan.process.signature;
    // HTTP/1.0 need not name a host.
    let local_authority = match incoming.head.authority() {
        b"" => client.local_authority(),
        _ => String::new(),
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
    write(&incoming.head, &forwarding, &forwarded.changes(incoming));
}

/// What the end of an upload means for the exchange: a failure, or nothing.
async fn end_of_upload(outcome: Result<(), RelayFault>, progress: &Progress) -> Option<Failure> {
    match outcome {
        Ok(()) => None,
        // The backend reads no more. Its response tells why, if it sent one.
        Err(RelayFault::Sink(_)) => None,
        // The client stops sending because it has its answer (RFC 9112, section 9.5), which goes on.
        Err(RelayFault::Source(Broken::TimedOut) | RelayFault::Body(BodyFault::Incomplete))
            if progress.answered.get().is_some() =>
        {
            std::future::pending().await
        }
        Err(fault) => Some(upload_failure(fault)),
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
