//! Serves one client connection in HTTP/1.1: reads heads, runs the exchanges, ends the connection.

mod inbound;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use loadx_core::{ErrorKind, ProxyError, Time};
use loadx_http::h2::frame::PREFACE;
use loadx_http::limits::HEAD_BYTES_MAX;
use loadx_http::{Fault, Framing, Parsed, Version, parse_request};

use inbound::ResponseWriter;

use crate::context::Worker;
use crate::downstream::client::Client;
use crate::downstream::h2;
use crate::downstream::linger::linger;
use crate::downstream::refusal::{refusal_of, start_line};
use crate::downstream::reply::ReplyOptions;
use crate::downstream::sessions::Session;
use crate::downstream::wire::Wire;
use crate::exchange;
use crate::h1::{BodyReader, BodyWriter};
use crate::incoming::Incoming;
use crate::io::{Broken, Waiting, is_silent};
use crate::limits::{BUFFER_BYTES, HEAD_AT_END, HEAD_READ_BYTES, REST_AFTER};
use crate::net::{Network, Stream, StreamOf, Transport};
use crate::patience::Patience;
use crate::sides::{BodySource as _, Ending, Inbound, OwnResponse, Pace, ResponseSink as _};

/// What to do with the connection after an exchange.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum NextStep {
    KeepAlive,
    Close,
    /// A lingering close: ends LoadX's direction and reads until the client closes.
    Linger,
    Reset,
    /// The client speaks HTTP/2 without TLS.
    Http2,
}

/// The result of waiting for a request head.
enum Head {
    Request(Incoming),
    /// An invalid or late request, with the error response.
    Refused(ProxyError),
    /// The connection must be closed without a response.
    Closed,
    /// The connection is idle and can be parked.
    Idle,
    /// The client speaks HTTP/2 without TLS, with prior knowledge (RFC 9113, section 3.3).
    Http2,
}

/// Serves a client connection until the connection ends or is parked.
pub(crate) async fn serve_connection<N: Network>(
    worker: Rc<Worker<N>>,
    session: Session,
    mut client: Client<StreamOf<N>>,
) {
    session.set_idle(client.requests > 0);
    session.carries_http(client.wire.stream.facts());
    loop {
        let end = session.run(pin!(client.serve_until_idle(&worker, &session))).await;
        match end {
            Some(NextStep::KeepAlive) if !worker.is_stopping() => {
                let keepalive = worker.plan().process.timeouts.keepalive;
                let Some(awake) = worker.parking.park(client.parked(keepalive, worker.pool.mark())) else { return };
                client = Client::awake(awake, worker.clock);
            }
            Some(NextStep::Linger) => {
                session.run(pin!(linger(&client.wire.stream, &worker, &client.timer))).await;
                return;
            }
            Some(NextStep::Reset) => return client.wire.stream.break_off(),
            Some(NextStep::Http2) => {
                // In a box, so that a connection of HTTP/1.1 takes no memory for this.
                return Box::pin(h2::serve_connection(worker, session, client)).await;
            }
            Some(NextStep::KeepAlive | NextStep::Close) | None => return,
        }
    }
}

impl<S: Stream> Client<Transport<S>> {
    /// Serves requests until the connection must end or is idle; [`NextStep::KeepAlive`] means idle.
    async fn serve_until_idle<N: Network<Stream = S>>(
        &mut self,
        worker: &Rc<Worker<N>>,
        session: &Session,
    ) -> NextStep {
        loop {
            let next = match self.next_head(worker, session).await {
                Head::Request(incoming) => self.exchange(worker, session, incoming).await,
                Head::Refused(error) => self.refuse(worker, session, &error).await,
                Head::Closed => NextStep::Close,
                Head::Idle => return NextStep::KeepAlive,
                Head::Http2 => return NextStep::Http2,
            };
            match next {
                // Checks again: another client may have begun to wait for the place since the head of the response.
                NextStep::KeepAlive if !worker.must_close() && !session.should_close() => {
                    session.set_idle(true);
                    self.idle_since = self.timer.latest();
                }
                // The client expects an open connection and may have sent the next request, so a close could reset.
                NextStep::KeepAlive => return NextStep::Linger,
                end => return end,
            }
            // A client that pipelines many requests must not delay the other clients of the worker.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Runs one exchange, and decides what to do with the connection.
    async fn exchange<N: Network<Stream = S>>(
        &mut self,
        worker: &Rc<Worker<N>>,
        session: &Session,
        mut incoming: Incoming,
    ) -> NextStep {
        let process = &incoming.plan.process;
        let wants_more = incoming.head.persistent();
        let options = ReplyOptions {
            version: incoming.head.version(),
            to_head: incoming.head.is_head(),
            persistent: wants_more
                && u64::from(self.requests) < process.client_limits.requests_per_connection
                && process.client_limits.connection_age.is_none_or(|most| incoming.began.since(self.opened) < most),
        };
        let Client { wire: Wire { stream, unfinished }, origin, timer, input, uploads, .. } = self;
        let patience = process.timeouts.request;
        let pace = Pace { timer, from_client: Patience::idle(patience), to_client: Patience::idle(patience) };
        let waiting = Waiting { timer, buffers: &worker.buffers };
        let mut request = BodyReader::new(stream, input, incoming.head.framing(), waiting, &pace.from_client);
        let is_large = matches!(incoming.head.framing(), Framing::Length(length) if length >= BUFFER_BYTES as u64);
        if *uploads && !is_large {
            // The first read took little. Content that fits a buffer can be sent again if all of it has arrived.
            request.gather_whole();
        }
        *uploads = is_large && stream.has_pipes();
        let writer = BodyWriter::new(stream, waiting, &pace.to_client, Some(unfinished));
        let mut response = ResponseWriter::new(worker, session, writer, options);
        let inbound = Inbound { origin, request: &mut request, response: &mut response, pace: &pace };
        let ending = exchange::run(worker, &mut incoming, inbound).await;
        // The last piece stays for retries until the end of the exchange.
        request.consume();
        let (request_complete, persistent) = (request.is_complete(), response.is_persistent());
        drop(response);
        input.release_if_empty();
        match ending {
            Ending::BrokenOff => NextStep::Reset,
            Ending::Complete if persistent => NextStep::KeepAlive,
            // After `Connection: close` the client sends no further request, so no bytes can cause a reset.
            Ending::Complete
                if request_complete
                    && !wants_more
                    && input.is_empty()
                    && is_silent(stream)
                    && stream.drops_cleanly() =>
            {
                NextStep::Close
            }
            Ending::Complete => NextStep::Linger,
        }
    }

    /// Waits for the next request head, without a buffer while no bytes have arrived.
    async fn next_head<N: Network<Stream = S>>(&mut self, worker: &Rc<Worker<N>>, session: &Session) -> Head {
        let mut head_deadline: Option<Time> = None;
        // The number of input bytes that were parsed and contained no complete head.
        let mut seen = 0;
        let mut skipped = false;
        loop {
            // Some clients send an empty line after a body (RFC 9112, section 2.2).
            if self.input.bytes() == b"\r\n" && !skipped {
                self.input.consume(2);
                self.input.release_if_empty();
                (seen, skipped) = (0, true);
            } else if skipped && matches!(self.input.bytes().first(), Some(b'\r' | b'\n')) {
                return Head::Refused(refusal_of(Fault::Malformed("the message begins with empty lines")));
            }
            if self.may_have_head(seen) {
                match self.read_head(worker) {
                    Ok(Some(incoming)) => {
                        session.set_idle(false);
                        return Head::Request(incoming);
                    }
                    Ok(None) => {}
                    Err(_) if self.begins_http2(worker) => return Head::Http2,
                    Err(error) => return Head::Refused(error),
                }
            }
            seen = self.input.bytes().len();
            let ended = match seen {
                0 => self.wait_for_first_byte(worker, session).await,
                _ => self.wait_for_more(worker, session, &mut head_deadline).await,
            };
            if let Err(head) = ended {
                return head;
            }
            let most = if self.uploads { HEAD_READ_BYTES } else { BUFFER_BYTES };
            match self.wire.stream.try_read(self.input.room_up_to(most, &worker.buffers)) {
                Ok(0) => return Head::Closed,
                Ok(count) => self.input.filled(count),
                // The readiness was spurious: waits again, without a buffer.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    self.input.release_if_empty();
                }
                Err(_) => return Head::Closed,
            }
        }
    }

    /// Whether the input may contain a complete head. LoadX parses an incomplete head again only after another line, so
    /// that a client that sends single bytes does not cause a parse of the whole head for each byte.
    fn may_have_head(&self, seen: usize) -> bool {
        let bytes = self.input.bytes();
        let line_arrived = || memchr::memchr(b'\n', &bytes[seen..]).is_some();
        !bytes.is_empty() && (seen == 0 || line_arrived() || bytes.len() >= HEAD_BYTES_MAX)
    }

    /// Whether a connection without TLS begins as HTTP/2 does. Inside TLS the handshake tells.
    fn begins_http2<N: Network<Stream = S>>(&self, worker: &Rc<Worker<N>>) -> bool {
        let bytes = self.input.bytes();
        let length = bytes.len().min(PREFACE.len());
        let may = || worker.plan_for(self.listener).is_some_and(|(plan, position)| plan.listeners[position].http2);
        self.requests == 0 && self.wire.stream.facts().is_none() && bytes[..length] == PREFACE[..length] && may()
    }

    /// Waits for the first byte of a request. The error tells to close or park the connection.
    async fn wait_for_first_byte<N: Network<Stream = S>>(
        &self,
        worker: &Rc<Worker<N>>,
        session: &Session,
    ) -> Result<(), Head> {
        let idle = session.is_idle();
        if idle && !self.recently_active && is_silent(&self.wire.stream) {
            // A connection that the worker wants to close must not be parked.
            return Err(if session.should_close() { Head::Closed } else { Head::Idle });
        }
        // Before the first request, the head timeout applies, and the connection is not closed in favor of others.
        let (keepalive, head_timeout) = {
            let plan = worker.plan();
            (plan.process.timeouts.keepalive, plan.process.timeouts.request_head)
        };
        let patience = if idle { REST_AFTER.min(keepalive) } else { head_timeout };
        let mut deadline = self.idle_since + patience;
        // A client that was just accepted may have sent its request, which the runtime does not know yet.
        let is_leaving = !idle && session.should_close();
        if is_leaving {
            deadline = deadline.min(self.timer.now() + HEAD_AT_END);
        }
        match self.wait_readable(worker, session, deadline, !is_leaving).await {
            Ok(()) => Ok(()),
            Err(Broken::Closed) if !idle && !is_leaving => Ok(()),
            Err(Broken::TimedOut) if idle && patience < keepalive && !session.should_close() => Err(Head::Idle),
            Err(_) => Err(Head::Closed),
        }
    }

    /// Waits for more bytes of a head. The time counts from the first byte of the head.
    async fn wait_for_more<N: Network<Stream = S>>(
        &self,
        worker: &Rc<Worker<N>>,
        session: &Session,
        head_deadline: &mut Option<Time>,
    ) -> Result<(), Head> {
        session.set_idle(false);
        let head_timeout = worker.plan().process.timeouts.request_head;
        let deadline = *head_deadline.get_or_insert_with(|| self.timer.now() + head_timeout);
        // Even if the connection must close, a started head gets its response if the rest arrives within HEAD_AT_END.
        let (is_closing, must_hurry) = (session.should_close(), session.must_hurry());
        if must_hurry {
            *head_deadline = Some(deadline.min(self.timer.now() + HEAD_AT_END));
        }
        match self.wait_readable(worker, session, head_deadline.unwrap_or(deadline), !is_closing).await {
            Ok(()) => Ok(()),
            Err(Broken::Closed) if !is_closing => Ok(()),
            Err(Broken::TimedOut) => {
                let message = match must_hurry {
                    true => "the connection closes, and the rest of the request head did not arrive soon".to_owned(),
                    false => format!("the request head did not arrive within {} s", head_timeout.as_secs_f64()),
                };
                Err(Head::Refused(ProxyError::new(408, ErrorKind::HttpRequestError, message)))
            }
            Err(_) => Err(Head::Closed),
        }
    }

    /// Parses the head at the front of the input, if complete, and consumes the head.
    fn read_head<N: Network<Stream = S>>(&mut self, worker: &Rc<Worker<N>>) -> Result<Option<Incoming>, ProxyError> {
        let began = self.timer.now();
        let mut head = worker.buffers.request();
        let parsed = parse_request(self.input.bytes(), &mut head).map_err(refusal_of)?;
        let Parsed::Complete((), length) = parsed else { return Ok(None) };
        let connection = (&self.wire.stream, &self.origin, self.listener);
        let mut incoming = Incoming::new(worker, connection, head, began)?;
        incoming.is_spare = self.place.is_spare();
        self.input.consume(length);
        self.input.release_if_empty();
        self.requests += 1;
        Ok(Some(incoming))
    }

    /// Sends the error response to an invalid or late request.
    async fn refuse<N: Network<Stream = S>>(
        &mut self,
        worker: &Rc<Worker<N>>,
        session: &Session,
        error: &ProxyError,
    ) -> NextStep {
        let id = worker.next_request_id();
        let to_head = start_line(self.input.bytes()).0 == b"HEAD";
        let options = ReplyOptions { version: Version::Http11, persistent: false, to_head };
        let patience = Patience::idle(worker.plan().process.timeouts.request);
        let waiting = Waiting { timer: &self.timer, buffers: &worker.buffers };
        let writer = BodyWriter::new(&self.wire.stream, waiting, &patience, Some(&mut self.wire.unfinished));
        let mut response = ResponseWriter::new(worker, session, writer, options);
        let sent = response.own(&OwnResponse::error(error, &id), false).await;
        let client = (self.listener, self.origin.ip);
        worker.log_refusal(client, &id, start_line(self.input.bytes()), error, *sent.as_ref().unwrap_or(&0));
        if sent.is_ok() { NextStep::Linger } else { NextStep::Close }
    }

    /// Waits until the stream is readable.
    ///
    /// # Errors
    /// When the connection breaks, at `deadline`, or, with `heeds_close`, when the worker wants the connection closed.
    async fn wait_readable<N: Network<Stream = S>>(
        &self,
        worker: &Worker<N>,
        session: &Session,
        deadline: Time,
        heeds_close: bool,
    ) -> Result<(), Broken> {
        let mut silent_at = None;
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = self.wire.stream.poll_readable(cx) {
                if let Some(mark) = silent_at {
                    worker.pool.polled_since(mark);
                }
                return Poll::Ready(outcome.map_err(Broken::Failed));
            }
            silent_at = Some(worker.pool.mark());
            if heeds_close && session.should_close() {
                return Poll::Ready(Err(Broken::Closed));
            }
            self.timer.poll_expired(cx, deadline).map(|()| Err(Broken::TimedOut))
        })
        .await
    }
}
