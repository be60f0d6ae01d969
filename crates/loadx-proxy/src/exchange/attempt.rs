//! One attempt: the request to one backend, and the response back.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use loadx_core::{Backend, Failure};
use loadx_http::{BodyFault, Forwarding, Version};

use super::departure::departure;
use super::download::Download;
use super::failure::{Sent, client_gone, unanswered, upload_failure};
use super::{Answer, Exchange, Progress, Switched, mirror, routing};
use crate::buffers::Input;
use crate::downstream::client::Client;
use crate::downstream::wire::Wire;
use crate::io::Waiting;
use crate::io::{Broken, is_silent};
use crate::net::{Network, Stream as _};
use crate::patience::Patience;
use crate::relay::{RelayFault, Sink, Source, relay};
use crate::request_id;
use crate::upstream::connect;
use crate::upstream::pool::Connection;

impl<N: Network> Exchange<'_, N> {
    /// The same as [`attempt`](Self::attempt), within what time the whole exchange has, if that is limited.
    pub(super) async fn attempt_in_time(
        &mut self,
        client: &mut Client<N::Stream>,
        backend: &Backend,
    ) -> Result<Answer<N::Stream>, Failure> {
        let policy = self.policy;
        let (Some(limit), Some(deadline)) = (policy.exchange, self.attempts.exchange_deadline(&policy)) else {
            return self.attempt(client, backend).await;
        };
        let deadline = self.worker.clock.instant(deadline);
        match tokio::time::timeout_at(deadline, self.attempt(client, backend)).await {
            Ok(attempt) => attempt,
            Err(_) => Err(Failure::TookTooLong { limit, uploading: self.from_client.is_waiting() }),
        }
    }

    /// Carries the request to one backend and its response back.
    async fn attempt(
        &mut self,
        client: &mut Client<N::Stream>,
        backend: &Backend,
    ) -> Result<Answer<N::Stream>, Failure> {
        if let Some(connection) = self.worker.pool.take(backend) {
            let attempt = self.converse(client, backend, connection).await;
            // An idle connection that breaks was most likely closed by the backend just now: that is no
            // sign of trouble, and a new connection to the same backend the natural next step.
            match attempt {
                Err(failure @ Failure::Unanswered { .. }) => {
                    if !self.attempts.may_resend(&failure, self.replay()) {
                        return Err(failure);
                    }
                }
                attempt => return attempt,
            }
        }
        let buffers = &self.worker.buffers;
        let connection = {
            let connecting = pin!(async {
                connect::connect(self.worker, (&self.incoming.plan, self.forwarded.cluster), backend)
                    .await
                    .map_err(Failure::Connect)
            });
            let leaving =
                pin!(async { client_gone(&departure(&client.wire.stream, &mut client.input, buffers).await) });
            unless(connecting, leaving).await?
        };
        client.timer.now();
        // Bytes that are there before the request was sent answer no request (RFC 9112, section 9.2). The runtime's
        // word is free, and only a hint.
        if !is_silent(&connection.stream) && !connection.stream.holds_nothing() {
            return Err(Failure::Premature);
        }
        self.converse(client, backend, connection).await
    }

    /// Sends a copy of the request to the mirror of the route, if all of the request is here already: a body that
    /// is passed on as it comes is never held, and so cannot be sent twice.
    pub(super) fn mirror(&mut self, client: &Client<N::Stream>) {
        let Some(cluster) = self.forwarded.mirror else { return };
        if !self.upload.is_complete() || self.incoming.head.offers_upgrade() {
            self.worker.metrics.borrow_mut().mirrors_skipped += 1;
            return;
        }
        self.write_head(client);
        let mut head = self.head.as_deref().cloned().unwrap_or_default();
        mirror::ask_to_close(&mut head);
        mirror::send(
            self.worker,
            mirror::Copy {
                plan: self.incoming.plan.clone(),
                cluster,
                head,
                framing: self.incoming.head.framing(),
                content: client.input.bytes()[..self.first_piece.content].to_vec(),
                trailers: self.upload.trailers().to_vec(),
                entropy: self.worker.entropy(),
            },
        );
    }

    /// Writes the head that backends get, once for all attempts: it does not depend on the backend.
    fn write_head(&mut self, client: &Client<N::Stream>) {
        if self.head.is_some() {
            return;
        }
        let (incoming, signature) = (&self.incoming, &self.incoming.plan.process.signature);
        let local_authority = match incoming.head.version() {
            Version::Http11 => String::new(),
            Version::Http10 => {
                client.wire.stream.local_addr().map_or_else(|_| String::new(), |local| local.to_string())
            }
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
        let mut out = self.worker.buffers.head();
        incoming.head.encode(&forwarding, &self.forwarded.changes(incoming), &mut out);
        self.head = Some(out);
    }

    /// Sends the request on this connection and brings the response back.
    async fn converse(
        &mut self,
        client: &mut Client<N::Stream>,
        backend: &Backend,
        connection: Connection<N::Stream>,
    ) -> Result<Answer<N::Stream>, Failure> {
        self.write_head(client);
        let silence = self.policy.response;
        let Exchange {
            worker,
            incoming,
            head,
            upload,
            first_piece,
            began_upload,
            progress,
            from_client,
            to_client,
            ..
        } = self;
        let Client { wire: Wire { stream: client_stream, unfinished }, timer, input, .. } = client;
        let waiting = Waiting { timer, buffers: &worker.buffers };
        let to_backend_patience = Patience::idle(silence);
        let to_backend = &mut Sink::new(&connection.stream, incoming.head.framing(), &to_backend_patience);

        let piece = *first_piece;
        let trailers = upload.is_complete().then(|| upload.trailers());
        let sent = to_backend
            .send(head.as_deref().map_or(&[], Vec::as_slice), &input.bytes()[..piece.content], trailers, waiting)
            .await;
        if !upload.is_complete() && to_backend.written > 0 {
            // The rest follows, and cannot be had again.
            *began_upload = true;
            if sent.is_ok() {
                input.consume(std::mem::take(first_piece).consumed);
            }
        }
        sent.map_err(|broken| unanswered(&broken, Sent::of_bytes(to_backend.written)))?;
        progress.silent_since.set(timer.latest());
        progress.upload_done.set(upload.is_complete());

        let mut added = Vec::new();
        routing::response_lines(incoming, &mut added);
        let mut download = Download {
            added: &added,
            incoming,
            progress,
            waiting,
            from_backend: &connection.stream,
            pipes: &worker.pipes,
            pool: &worker.pool,
            silence,
            input: Input::default(),
            to_client: client_stream,
            to_client_patience: to_client,
            from_client,
            date: &worker.date,
            via: incoming.plan.process.signature.via.as_deref(),
            unfinished,
            keeps_connection: &|| worker.keeps_connections(),
        };
        let answer = {
            // What the client does meanwhile: it sends the rest of the body, and then nothing that concerns
            // this exchange, unless it leaves.
            let client_side = pin!(async {
                if !upload.is_complete() {
                    let source = Source { stream: client_stream, input, decoder: upload, patience: from_client };
                    let moved = || progress.silent_since.set(timer.now());
                    let outcome = relay(source, to_backend, &worker.pipes, waiting, moved).await;
                    progress.upload_done.set(outcome.is_ok());
                    if let Some(failure) = end_of_upload(outcome, progress).await {
                        return failure;
                    }
                }
                client_gone(&departure(client_stream, input, &worker.buffers).await)
            });
            unless(pin!(download.run()), client_side).await?
        };
        let now = timer.now();
        let (status, client_persistent) = (answer.status, answer.client_persistent);
        if answer.switches {
            let early = download.input;
            return Ok(Answer {
                status,
                client_persistent: false,
                tunnel_fault: None,
                switched: Some(Box::new(Switched { connection, early })),
            });
        }
        let reusable = answer.backend_persistent && download.input.is_empty() && progress.upload_done.get();
        if reusable {
            worker.pool.put(backend.id(), connection, now);
        }
        Ok(Answer { status, client_persistent, tunnel_fault: None, switched: None })
    }
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
