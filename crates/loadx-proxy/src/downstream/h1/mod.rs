//! One client's connection: reading heads, one exchange after the other, and how it ends.

mod inbound;
mod reply;

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use loadx_core::{ProxyError, Time};
use loadx_http::limits::HEAD_BYTES_MAX;
use loadx_http::{Fault, Parsed, Version, parse_request};

use inbound::ResponseWriter;
use reply::Manner;

use crate::address::client_address;
use crate::buffers::Input;
use crate::context::Worker;
use crate::downstream::client::Client;
use crate::downstream::sessions::Session;
use crate::downstream::wire::Wire;
use crate::exchange;
use crate::h1::{BodyReader, BodyWriter};
use crate::incoming::Incoming;
use crate::io::{Broken, Waiting, fill, is_silent};
use crate::limits::{LINGER, LINGER_BYTES_MAX, REFUSED_LINE_BYTES_MAX, REST_AFTER};
use crate::net::{Network, Stream};
use crate::patience::Patience;
use crate::request_id::RequestId;
use crate::sides::{BodySource as _, Ending, Inbound, OwnResponse, Pace, ResponseSink as _};

/// What becomes of the client's connection after an exchange.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Next {
    KeepAlive,
    Close,
    /// Close, but let the client finish sending.
    Linger,
    /// Close visibly broken.
    BreakOff,
}

/// What a client sent.
enum Head {
    Request(Incoming),
    /// A request that goes nowhere, and what its client is told.
    Refused(ProxyError),
    /// Nothing more, and nothing that was begun.
    Gone,
    /// Nothing for now, and perhaps not for long.
    Rests,
}

/// Serves a client until its connection ends, or until it rests: then it is parked.
///
/// What that takes, some kilobytes, is on the heap from the first: whoever starts it would else move it about.
pub(crate) fn serve<N: Network>(
    worker: Rc<Worker<N>>,
    client: Client<N::Stream>,
) -> Pin<Box<impl Future<Output = ()>>> {
    worker.sessions.announce();
    Box::pin(live(worker, client))
}

async fn live<N: Network>(worker: Rc<Worker<N>>, mut client: Client<N::Stream>) {
    let session = worker.sessions.enroll().await;
    session.set_idle(client.requests > 0);
    loop {
        let end = session.run(pin!(client.serve_until_calm(&worker, &session))).await;
        match end {
            Some(Next::KeepAlive) if !worker.is_stopping() => {
                let keepalive = worker.plan().process.timeouts.keepalive;
                let Some(awake) = worker.parking.park(client.parked(keepalive, worker.pool.mark())) else { return };
                client = Client::awake(awake, worker.clock);
            }
            Some(Next::Linger) => {
                session.run(pin!(client.linger(&worker))).await;
                return;
            }
            Some(Next::BreakOff) => return client.wire.stream.break_off(),
            Some(Next::KeepAlive | Next::Close) | None => return,
        }
    }
}

impl<S: Stream> Client<S> {
    /// Serves one request after the other. Returns how the connection ends, or that it does not.
    async fn serve_until_calm<N: Network<Stream = S>>(&mut self, worker: &Rc<Worker<N>>, session: &Session) -> Next {
        loop {
            let next = match self.next_head(worker, session).await {
                Head::Request(incoming) => self.exchange(worker, incoming).await,
                Head::Refused(error) => self.refuse(worker, &error).await,
                Head::Gone => Next::Close,
                Head::Rests => return Next::KeepAlive,
            };
            match next {
                // Asked again: somebody may have begun to wait for the place since the response began.
                Next::KeepAlive if worker.keeps_connections() => {
                    session.set_idle(true);
                    self.idle_since = self.timer.latest();
                }
                // Closed although the client may count on it, and may have sent more already.
                Next::KeepAlive => return Next::Linger,
                end => return end,
            }
            // A client that has sent many requests at once is not served before all others.
            tokio::task::coop::consume_budget().await;
        }
    }

    /// Carries out one exchange, and decides from its end what becomes of the connection.
    async fn exchange<N: Network<Stream = S>>(&mut self, worker: &Rc<Worker<N>>, mut incoming: Incoming) -> Next {
        let process = &incoming.plan.process;
        let wants_more = incoming.head.persistent();
        let manner = Manner {
            version: incoming.head.version(),
            to_head: incoming.head.is_head(),
            persistent: wants_more && u64::from(self.requests) < process.client_limits.requests_per_connection,
        };
        let Client { wire: Wire { stream, unfinished }, timer, input, .. } = self;
        let patience = process.timeouts.request;
        let pace = Pace { timer, from_client: Patience::idle(patience), to_client: Patience::idle(patience) };
        let waiting = Waiting { timer, buffers: &worker.buffers };
        let mut request = BodyReader::new(stream, input, incoming.head.framing(), waiting, &pace.from_client);
        let writer = BodyWriter::new(stream, waiting, &pace.to_client, Some(unfinished));
        let mut response = ResponseWriter::new(worker, writer, manner);
        let inbound = Inbound { request: &mut request, response: &mut response, pace: &pace };
        let ending = exchange::run(worker, &mut incoming, inbound).await;
        // The request may be kept to its end, to be sent again.
        request.consume();
        let (request_complete, persistent) = (request.is_complete(), response.is_persistent());
        drop(response);
        input.release_if_empty();
        match ending {
            Ending::BrokenOff => Next::BreakOff,
            Ending::Complete if persistent => Next::KeepAlive,
            // A client that wants the connection closed, and has sent nothing more, sends nothing more.
            Ending::Complete if request_complete && !wants_more && input.is_empty() && is_silent(stream) => Next::Close,
            Ending::Complete => Next::Linger,
        }
    }

    /// Waits for the next request head. While nothing comes, no buffer is held.
    async fn next_head<N: Network<Stream = S>>(&mut self, worker: &Rc<Worker<N>>, session: &Session) -> Head {
        let mut head_deadline: Option<Time> = None;
        // Bytes that were looked at already and held no complete head.
        let mut seen = 0;
        let mut skipped = false;
        loop {
            // An empty line that some clients send behind a body begins no request (RFC 9112, section 2.2).
            if self.input.bytes() == b"\r\n" && !skipped {
                self.input.consume(2);
                self.input.release_if_empty();
                (seen, skipped) = (0, true);
            } else if skipped && matches!(self.input.bytes().first(), Some(b'\r' | b'\n')) {
                return Head::Refused(refusal_of(Fault::Malformed("the message begins with empty lines")));
            }
            if self.is_worth_reading(seen) {
                match self.read_head(worker) {
                    Ok(Some(incoming)) => {
                        session.set_idle(false);
                        return Head::Request(incoming);
                    }
                    Ok(None) => {}
                    Err(fault) => return Head::Refused(refusal_of(fault)),
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
            match self.wire.stream.try_read(self.input.room(&worker.buffers)) {
                Ok(0) => return Head::Gone,
                Ok(count) => self.input.filled(count),
                // Ready in name only: back to waiting, without a buffer.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    self.input.release_if_empty();
                }
                Err(_) => return Head::Gone,
            }
        }
    }

    /// Whether the input may hold a complete head. An incomplete head is read again only when a line was added, so
    /// that a client that sends byte by byte does not make LoadX read the whole head each time.
    fn is_worth_reading(&self, seen: usize) -> bool {
        let bytes = self.input.bytes();
        let line_came = || memchr::memchr(b'\n', &bytes[seen..]).is_some();
        !bytes.is_empty() && (seen == 0 || line_came() || bytes.len() >= HEAD_BYTES_MAX)
    }

    /// Waits for a request to begin. An error is what becomes of the connection instead.
    async fn wait_for_first_byte<N: Network<Stream = S>>(
        &self,
        worker: &Rc<Worker<N>>,
        session: &Session,
    ) -> Result<(), Head> {
        let idle = session.is_idle();
        if idle && !self.brisk && is_silent(&self.wire.stream) {
            // A client that was told to go meanwhile must not be parked instead.
            return Err(if session.should_close() { Head::Gone } else { Head::Rests });
        }
        // A client that has never been served has less time, and is not sent away for others.
        let (keepalive, head_timeout) = {
            let plan = worker.plan();
            (plan.process.timeouts.keepalive, plan.process.timeouts.request_head)
        };
        let patience = if idle { REST_AFTER.min(keepalive) } else { head_timeout };
        match self.silence(worker, session, self.idle_since + patience).await {
            Ok(()) => Ok(()),
            Err(Broken::TimedOut) if idle && patience < keepalive && !session.should_close() => Err(Head::Rests),
            Err(_) => Err(Head::Gone),
        }
    }

    /// Waits for a head that has begun to go on. Its time counts from the first byte.
    async fn wait_for_more<N: Network<Stream = S>>(
        &self,
        worker: &Rc<Worker<N>>,
        session: &Session,
        head_deadline: &mut Option<Time>,
    ) -> Result<(), Head> {
        session.set_idle(false);
        let head_timeout = worker.plan().process.timeouts.request_head;
        let deadline = *head_deadline.get_or_insert_with(|| self.timer.now() + head_timeout);
        match self.silence(worker, session, deadline).await {
            Ok(()) => Ok(()),
            Err(Broken::TimedOut) => {
                let message = format!("the request head did not arrive within {} s", head_timeout.as_secs_f64());
                Err(Head::Refused(ProxyError::new(408, "http_request_error", message)))
            }
            Err(_) => Err(Head::Gone),
        }
    }

    /// Reads the head at the front of the input, if all of it is there. The input is consumed up to the body.
    fn read_head<N: Network<Stream = S>>(&mut self, worker: &Rc<Worker<N>>) -> Result<Option<Incoming>, Fault> {
        let began = self.timer.now();
        let mut head = worker.buffers.request();
        let Parsed::Complete((), length) = parse_request(self.input.bytes(), &mut head)? else { return Ok(None) };
        let plan = worker.plan();
        let process = &plan.process;
        let address = client_address(&head, self.peer, &process.trusted_proxies);
        let kept = head.request_id().filter(|_| address.peer_trusted);
        let bits = worker.entropy();
        let incoming = Incoming {
            id: kept.and_then(|id| RequestId::kept(id, bits)).unwrap_or_else(|| RequestId::made(bits)),
            began,
            listener: self.listener as usize,
            peer: self.peer,
            peer_trusted: address.peer_trusted,
            client: address.ip,
            head,
            route: None,
            plan,
        };
        self.input.consume(length);
        self.input.release_if_empty();
        self.requests += 1;
        Ok(Some(incoming))
    }

    /// Tells the client why its request goes nowhere.
    async fn refuse<N: Network<Stream = S>>(&mut self, worker: &Rc<Worker<N>>, error: &ProxyError) -> Next {
        let id = worker.next_request_id();
        let to_head = start_line(self.input.bytes()).0 == b"HEAD";
        let manner = Manner { version: Version::Http11, persistent: false, to_head };
        let patience = Patience::idle(worker.plan().process.timeouts.request);
        let waiting = Waiting { timer: &self.timer, buffers: &worker.buffers };
        let writer = BodyWriter::new(&self.wire.stream, waiting, &patience, Some(&mut self.wire.unfinished));
        let mut response = ResponseWriter::new(worker, writer, manner);
        let sent = response.own(&OwnResponse::error(error, &id), false).await;
        worker.log_refusal(self.peer, &id, start_line(self.input.bytes()), error, *sent.as_ref().unwrap_or(&0));
        if sent.is_ok() { Next::Linger } else { Next::Close }
    }

    /// Waits, without a buffer, for the client to go on. An error is the end: it left, stayed silent until
    /// `deadline`, or the worker wants the connection closed.
    async fn silence<N: Network<Stream = S>>(
        &self,
        worker: &Worker<N>,
        session: &Session,
        deadline: Time,
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
            if session.should_close() {
                return Poll::Ready(Err(Broken::Closed));
            }
            self.timer.poll_expired(cx, deadline).map(|()| Err(Broken::TimedOut))
        })
        .await
    }

    /// Ends the connection so that the reply arrives although the client is still sending: closing at
    /// once would make the system answer those bytes with a reset, and the client could lose the reply
    /// (RFC 9112, section 9.6).
    async fn linger<N: Network<Stream = S>>(&mut self, worker: &Rc<Worker<N>>) {
        self.wire.stream.shut_write();
        let patience = Patience::total(LINGER);
        let mut left = LINGER_BYTES_MAX;
        let mut rest = Input::default();
        while left > 0 {
            let waiting = Waiting { timer: &self.timer, buffers: &worker.buffers };
            match fill(&self.wire.stream, &mut rest, waiting, &patience).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    left = left.saturating_sub(count);
                    rest.consume(count);
                }
            }
        }
    }
}

fn refusal_of(fault: Fault) -> ProxyError {
    ProxyError::new(fault.status(), "http_request_error", fault.to_string())
}

/// What of a refused request may tell an operator who sent it and why: its method, and the rest of its
/// first line, as far as they are there.
fn start_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let bytes = &bytes[..bytes.len().min(REFUSED_LINE_BYTES_MAX)];
    let line = bytes.trim_ascii_start().split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let mut word = || words.next().filter(|word| !word.is_empty()).unwrap_or(b"-");
    (word(), word())
}
