//! One attempt: sends the request to one backend and relays the response.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use loadx_core::config::BackendProtocol;
use loadx_core::{Backend, Failure, Stage, Time};
use loadx_http::{BodyFault, Changes, Forwarding, RequestHead};

use super::alternative::Alternative;
use super::download::Download;
use super::failure::{Sent, client_gone, unanswered, upload_failure};
use super::routing::Forwarded;
use super::{Answer, Exchange, Progress, mirror};
use crate::incoming::Incoming;
use crate::io::Broken;
use crate::limits::UPLOAD_BESIDE_RESPONSE;
use crate::net::{Network, PipeOf};
use crate::pipes::Pipes;
use crate::proxy_protocol;
use crate::relay::relay;
use crate::request_id;
use crate::sides::{BodySink, BodySource, Inbound, Piece, RelayFault, RequestSink, ResponseSource};
use crate::sides::{RequestSource, ResponseSink};
use crate::timer::Timer;

impl<N, R, W> Exchange<'_, N, R, W>
where
    N: Network,
    R: RequestSource<PipeOf<N>>,
    W: ResponseSink<PipeOf<N>>,
{
    /// Calls [`attempt_while_served`](Self::attempt_while_served) with the deadline of the whole exchange.
    pub(super) async fn attempt_until(&mut self, backend: &Backend, deadline: Time) -> Result<Answer<N>, Failure> {
        let limit = self.policy.exchange.unwrap_or_default();
        let at = self.worker.clock.instant(deadline);
        match tokio::time::timeout_at(at, self.attempt_while_served(backend)).await {
            Ok(attempt) => attempt,
            Err(_) => {
                let stage = match (self.client.pace.from_client.is_waiting(), self.progress.answered.get()) {
                    (true, _) => Stage::Uploading,
                    (false, None) => Stage::Waiting,
                    (false, Some(_)) => Stage::Downloading,
                };
                Err(Failure::TookTooLong { limit, stage })
            }
        }
    }

    /// Calls [`attempt`](Self::attempt), and fails when the drain of the backend is over.
    pub(super) async fn attempt_while_served(&mut self, backend: &Backend) -> Result<Answer<N>, Failure> {
        let attempt = until_cut(backend, pin!(self.attempt(backend))).await;
        attempt.unwrap_or_else(|| match self.progress.answered.get() {
            None => Err(Failure::DrainOver),
            Some(_) => Err(Failure::BrokeOff("the drain of the backend was over".to_owned())),
        })
    }

    /// Sends the request to one backend and relays the response.
    async fn attempt(&mut self, backend: &Backend) -> Result<Answer<N>, Failure> {
        match self.incoming.plan.clusters[self.forwarded.cluster].transport.protocol {
            BackendProtocol::Http1 => self.attempt_over_h1(backend).await,
            BackendProtocol::Http2 => self.attempt_over_h2(backend).await,
        }
    }

    /// Whether the same backend may get the request again, on a new connection. If so, counts the try.
    pub(super) fn resends_after(&mut self, failure: &Failure) -> bool {
        let resends = self.attempts.may_resend(failure, self.replay());
        if resends {
            self.tries += 1;
            tracing::debug!(request = %self.incoming.id, "sending the request again on a new connection: {failure}");
        }
        resends
    }

    /// The header of the PROXY protocol for a connection to a cluster, if the cluster gets one.
    pub(super) fn proxy_header(&self, cluster: usize) -> Option<Vec<u8>> {
        let version = self.incoming.plan.clusters[cluster].transport.proxy_protocol?;
        let Inbound { origin, request, .. } = &self.client;
        Some(proxy_protocol::header(version, origin, request.local_addr(), self.incoming.tls.as_deref()))
    }

    /// Waits for a connection. Fails when the client closes its connection first.
    pub(super) async fn connected<T>(
        &mut self,
        connecting: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let began = self.client.pace.timer.now();
        let connection = self.unless_client_leaves(connecting).await;
        let took = self.client.pace.timer.now().since(began);
        self.progress.waited(|waits| waits.connect += took);
        connection
    }

    /// Waits for something that a backend gives. Fails when the client closes its connection first.
    pub(super) async fn unless_client_leaves<T>(
        &mut self,
        connecting: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let leaving = pin!(async { client_gone(&self.client.request.departure().await) });
        let connection = unless(pin!(connecting), leaving).await?;
        self.client.pace.timer.now();
        Ok(connection)
    }

    /// Sends the head together with the content that has already arrived. Content that must wait for the backend is left to
    /// [`relay_both`](Self::relay_both), because the response need not wait for the content.
    pub(super) async fn send(&mut self, request: &mut impl RequestSink<PipeOf<N>>) -> Result<(), Failure> {
        let Exchange { incoming, forwarded, tries, progress, .. } = self;
        let Inbound { request: from_client, pace, .. } = &mut self.client;
        encode(incoming, forwarded, *tries, |head, forwarding, changes| {
            request.head(head, forwarding, changes);
        });
        let (source, sink) = (from_client.body(), request.body());
        let piece = source.piece();
        let waits = !sink.is_ready(piece.content.len());
        progress.piece_waits.set(waits);
        let sent = sink.send(if waits { Piece { content: b"", end: None } } else { piece }).await;
        let is_complete = source.is_complete() && !waits;
        if !is_complete && !waits && sink.written() > 0 {
            // The rest is relayed without a copy, so that the request cannot be sent again.
            let has_content = !source.piece().content.is_empty();
            progress.began_upload.set(progress.began_upload.get() || has_content);
            if sent.is_ok() {
                source.consume();
            }
        }
        sent.map_err(|broken| unanswered(&broken, Sent::of_bytes(sink.written())))?;
        progress.silent_since.set(pace.timer.latest());
        progress.upload_done.set(is_complete);
        Ok(())
    }

    /// Relays the response and, at the same time, the rest of the request. Returns the status, and whether the backend
    /// switched to another protocol.
    pub(super) async fn relay_both(
        &mut self,
        request: &mut impl RequestSink<PipeOf<N>>,
        response: &mut impl ResponseSource<PipeOf<N>>,
    ) -> Result<(u16, bool), Failure> {
        let replay = self.replay();
        let Exchange { worker, incoming, client, policy, progress, served_by, attempts, forwarded, hedging, .. } = self;
        let served_by = served_by.as_ref().expect("an attempt follows a pick");
        let view = || worker.view(&incoming.plan, forwarded.cluster);
        let Inbound { request: from_client, response: to_client, pace, .. } = client;
        let download = Download {
            incoming,
            progress,
            pace,
            response,
            client: *to_client,
            backend: served_by.backend(),
            cluster: forwarded.cluster,
            pipes: &worker.pipes,
            silence: policy.response,
            answered: hedging.as_ref().map(|hedging| &*hedging.is_answered),
            alternative: Alternative::new(served_by, attempts, replay, policy.retry_grpc, &view),
        };
        // After the upload, only a departure of the client concerns this exchange.
        let client_side = pin!(async {
            while !progress.upload_done.get() {
                let outcome = upload(from_client.body(), request.body(), &worker.pipes, progress, pace.timer).await;
                progress.upload_done.set(outcome.is_ok());
                match end_of_upload(outcome, progress).await {
                    EndOfUpload::Failed(failure) => return failure,
                    // The client may go on with the request as long as the response goes on.
                    EndOfUpload::Pauses => pace.from_client.begin(UPLOAD_BESIDE_RESPONSE, 0),
                    EndOfUpload::Ended => break,
                }
            }
            client_gone(&from_client.departure().await)
        });
        unless(pin!(download.run()), client_side).await
    }

    /// Sends a copy of the request to the mirror of the route if the whole request has arrived: relayed content is not
    /// stored and cannot be sent twice.
    pub(super) fn mirror(&mut self) {
        let Some(cluster) = self.forwarded.mirror else { return };
        let source = self.client.request.body();
        if !source.is_complete() || self.incoming.head.offers_upgrade() {
            self.worker.metrics.borrow_mut().mirrors_skipped += 1;
            return;
        }
        let proxy_header = self.proxy_header(cluster);
        let source = self.client.request.body();
        let piece = source.piece();
        let (content, trailers) = (piece.content.to_vec(), piece.end.unwrap_or_default().to_vec());
        let mut head = Vec::new();
        encode(self.incoming, &self.forwarded, 1, |request, forwarding, changes| {
            request.encode(forwarding, changes, &mut head);
        });
        mirror::ask_to_close(&mut head);
        mirror::send(
            self.worker,
            mirror::Copy {
                plan: self.incoming.plan.clone(),
                cluster,
                proxy_header,
                head,
                framing: self.incoming.head.framing(),
                content,
                trailers,
                entropy: self.worker.entropy(),
            },
        );
    }
}

/// Calls `write` with the head of a request, the fields that LoadX adds, and the changes of the route.
///
/// `attempt`: the number of the attempt, from 1.
pub(super) fn encode(
    incoming: &Incoming,
    forwarded: &Forwarded,
    attempt: usize,
    write: impl FnOnce(&RequestHead, &Forwarding<'_>, &Changes<'_>),
) {
    let signature = &incoming.plan.process.signature;
    let mut line = request_id::EMPTY_LINE;
    let forwarding = Forwarding {
        peer: incoming.peer,
        trusted: incoming.peer_trusted,
        scheme: incoming.scheme(),
        via: signature.via.as_deref(),
        forwarded: signature.forwarded,
        client_certificate: incoming.tls.as_ref().and_then(|tls| tls.client_certificate.as_deref()),
        request_id_line: Some(incoming.id.line(&mut line)),
        trace: incoming.trace.as_deref().and_then(|trace| trace.of_attempt(attempt)),
        begins_trace: incoming.trace.as_deref().is_some_and(|trace| trace.is_begun),
        attempt: (attempt > 1).then_some(attempt),
    };
    write(&incoming.head, &forwarding, &forwarded.changes(incoming));
}

/// Relays the request from the present piece on.
async fn upload<R: BodySource, W: BodySink<Pipe = R::Pipe>>(
    source: &mut R,
    sink: &mut W,
    pipes: &Pipes<R::Pipe>,
    progress: &Progress,
    timer: &Timer,
) -> Result<(), RelayFault> {
    if progress.piece_waits.get() {
        source.compact();
        sink.send(source.piece()).await.map_err(RelayFault::Sink)?;
        progress.piece_waits.set(false);
        progress.silent_since.set(timer.now());
        if source.is_complete() {
            return Ok(());
        }
        progress.began_upload.set(true);
        source.consume();
    }
    let moved = || {
        progress.began_upload.set(true);
        progress.silent_since.set(timer.now());
    };
    relay(source, sink, pipes, moved).await
}

/// What the end of an upload means for the exchange.
enum EndOfUpload {
    /// The upload is complete, or the backend needs no more.
    Ended,
    /// The client has stopped for now.
    Pauses,
    Failed(Failure),
}

async fn end_of_upload(outcome: Result<(), RelayFault>, progress: &Progress) -> EndOfUpload {
    match outcome {
        Ok(()) => EndOfUpload::Ended,
        // The backend stopped reading. Its response may tell the reason.
        Err(RelayFault::Sink(_)) => EndOfUpload::Ended,
        // The client stopped sending because the response has begun (RFC 9112, section 9.5), or sends slowly, as in a call of gRPC
        // with streams in both directions. The download goes on.
        Err(RelayFault::Source(Broken::TimedOut)) if progress.answered.get().is_some() => EndOfUpload::Pauses,
        Err(RelayFault::Body(BodyFault::Incomplete)) if progress.answered.get().is_some() => {
            std::future::pending().await
        }
        Err(fault) => EndOfUpload::Failed(upload_failure(fault)),
    }
}

/// Runs `work`. Returns `None` when the drain of the backend is over first; control wakes all tasks then.
///
/// `work` is pinned by the caller: moving an attempt would copy thousands of bytes for each request.
pub(super) async fn until_cut<T>(backend: &Backend, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending if backend.is_cut() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Runs `work`, and fails with the result of `failing` if `failing` ends first.
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
