//! Waits for the head of the response, relays the interim responses, the head and then the body to the client.

use std::cell::Cell;
use std::time::Duration;

use loadx_core::{Backend, Failure, Time};
use loadx_http::Response;
use loadx_http::grpc::{self, Status};
use percent_encoding::percent_decode;

use super::alternative::Alternative;
use super::failure::client_gone;
use super::{Progress, routing};
use crate::incoming::Incoming;
use crate::limits::INTERIM_RESPONSES_MAX;
use crate::pipes::Pipes;
use crate::relay::relay;
use crate::request_id;
use crate::sides::{BodySink as _, BodySource as _, Pace, RelayFault, ResponseChanges, ResponseSink, ResponseSource};

/// Relays the response to the client.
pub(super) struct Download<'d, P, A, W> {
    pub(super) incoming: &'d Incoming,
    pub(super) progress: &'d Progress,
    pub(super) pace: &'d Pace<'d>,
    pub(super) response: &'d mut A,
    pub(super) client: &'d mut W,
    pub(super) backend: &'d Backend,
    /// The position of the cluster in the plan.
    pub(super) cluster: usize,
    pub(super) pipes: &'d Pipes<P>,
    /// The longest silence of the backend before its response.
    pub(super) silence: Duration,
    pub(super) alternative: Alternative<'d>,
    /// Told when the client gets this response, so that no second attempt goes on.
    pub(super) answered: Option<&'d Cell<bool>>,
}

/// The properties of a response head that the exchange needs.
struct Head {
    status: u16,
    is_interim: bool,
    /// Whether the backend switches to a protocol that the client offered.
    switches: bool,
    /// The status of gRPC with its message, if the head of a call has the status.
    grpc: Option<(Status, String)>,
}

impl<P, A: ResponseSource<P>, W: ResponseSink<P>> Download<'_, P, A, W> {
    /// Returns the status, and whether the backend switched to another protocol.
    pub(super) async fn run(mut self) -> Result<(u16, bool), Failure> {
        let mut added = Vec::new();
        routing::response_lines(self.incoming, self.cluster, self.backend, &mut added);
        let mut interims = 0;
        loop {
            let head = self.head(&added).await?;
            if self.client.misleads(head.status) {
                return Err(Failure::Unrequested("opened no tunnel, with a status that means an open one in HTTP/2"));
            }
            if !head.is_interim {
                self.body(&head).await?;
                return Ok((head.status, false));
            }
            interims += 1;
            self.progress.silent_since.set(self.pace.timer.now());
            if interims > INTERIM_RESPONSES_MAX {
                return Err(Failure::Unrequested("sent interim responses without end"));
            }
            if head.status == 101 && !head.switches {
                return Err(Failure::Unrequested("switched to a protocol that the client had not offered"));
            }
            self.client.interim().await.map_err(|broken| client_gone(&broken))?;
            if head.status == 100 {
                self.pace.from_client.release();
            }
            if head.switches {
                self.head_comes_first();
                self.progress.answered.set(Some(head.status));
                return Ok((head.status, true));
            }
        }
    }

    /// Notes that the head has come long before the end of the response.
    fn head_comes_first(&self) {
        self.progress.head_at.set(Some(self.pace.timer.now()));
        self.alternative.note_head();
    }

    /// Waits for a response head and encodes the head for the client.
    async fn head(&mut self, added: &[u8]) -> Result<Head, Failure> {
        let Download { incoming, progress, pace, response, client, silence, alternative, .. } = self;
        // The backend's time starts when LoadX has sent all received bytes, and stops while LoadX waits for the client.
        // Control wakes all exchanges when a backend is given up.
        let deadline = || {
            if alternative.ends_waiting(progress) {
                return Time::ZERO;
            }
            let began = if pace.from_client.is_waiting() { pace.timer.now() } else { progress.silent_since.get() };
            began + *silence
        };
        let mut line = request_id::EMPTY_LINE;
        let changes = ResponseChanges {
            removed: incoming.route().map_or(&[], |route| &route.response_fields.remove[..]),
            replaced: routing::replaced_field(incoming),
            added,
            request_id_line: incoming.id.line(&mut line),
            via: incoming.plan.process.signature.via.as_deref(),
            request_complete: false,
        };
        let take = |response: &Response<'_, '_>| {
            let request_complete = progress.upload_done.get();
            client.head(response, &ResponseChanges { request_complete, ..changes });
            // The new protocol starts after the request (RFC 9110, section 7.8), so the request must be complete.
            let switches = response.switches_protocols() && request_complete && incoming.head.offers(response);
            let grpc = incoming.grpc.and_then(|_| {
                let status = grpc::status(response.field("grpc-status")?)?;
                let message = response.field("grpc-message").unwrap_or_default();
                Some((status, percent_decode(message).decode_utf8_lossy().into_owned()))
            });
            Head { status: response.status(), is_interim: response.is_interim(), switches, grpc }
        };
        response.head(deadline, take).await.map_err(|failure| match failure {
            Failure::Silent if alternative.ends_waiting(progress) => Failure::GivenUp,
            failure => failure,
        })
    }

    /// Sends the head together with the part of the body that has arrived, then relays the rest.
    async fn body(&mut self, head: &Head) -> Result<(), Failure> {
        let source = self.response.body();
        source.gather(self.client.body().takes_pipes());
        source.decode_buffered().map_err(|fault| Failure::BrokeOff(fault.as_str().to_owned()))?;
        let is_complete = source.is_complete();
        if !is_complete {
            // The end of a response that is complete with its head is near enough: the clock is read there.
            self.head_comes_first();
        }
        let source = self.response.body();
        if let Some((status, message)) = &head.grpc
            && source.is_complete()
            && source.piece().content.is_empty()
            && self.alternative.replaces_grpc_status(status.number(), self.progress)
        {
            return Err(Failure::GrpcStatus { status: status.number(), message: message.clone() });
        }
        if self.alternative.replaces_status(head.status, self.progress) {
            if source.is_complete() {
                // The connection can be used again.
                source.consume();
            }
            return Err(Failure::Status { status: head.status });
        }
        self.progress.answered.set(Some(head.status));
        if let Some(answered) = self.answered {
            answered.set(true);
        }
        let outcome = self.send_body().await;
        if self.incoming.grpc.is_some() {
            let trailers = self.response.body().piece().end.and_then(grpc::status_in);
            self.progress.grpc.set(trailers.or(head.grpc.as_ref().map(|(status, _)| *status)));
        }
        if outcome.is_err() && !self.client.is_unfinished() {
            // No byte was sent, so that an error response is still possible.
            self.progress.answered.set(None);
        }
        outcome.map_err(|fault| match fault {
            RelayFault::Source(broken) => Failure::BrokeOff(broken.to_string()),
            RelayFault::Body(fault) => Failure::BrokeOff(fault.as_str().to_owned()),
            RelayFault::Sink(broken) => client_gone(&broken),
        })
    }

    async fn send_body(&mut self) -> Result<(), RelayFault> {
        let (source, sink) = (self.response.body(), self.client.body());
        if !sink.is_ready(source.piece().content.len()) {
            source.compact();
        }
        sink.send(source.piece()).await.map_err(RelayFault::Sink)?;
        source.consume();
        relay(source, sink, self.pipes, || {}).await
    }
}
