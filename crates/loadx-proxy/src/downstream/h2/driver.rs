//! Drives one connection: one poll reads, serves and writes as long as anything moves.

use std::io::{ErrorKind, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use loadx_core::{ListenerId, ProxyError, Time};
use loadx_http::h2::section::{Asked, RequestKind};
use loadx_http::h2::{Code, Connection, Event, Fault};
use loadx_http::{Fault as HeadFault, Parsed, Version, parse_request};

use super::mux::Mux;
use super::response::Wants;
use super::tasks::Tasks;
use super::{Job, Work, serve_streams};
use crate::buffers::Input;
use crate::context::Worker;
use crate::downstream::refusal::{refusal_of, start_line};
use crate::downstream::sessions::Session;
use crate::incoming::Incoming;
use crate::io::Broken;
use crate::limits::{H2_ROUNDS_MAX, HEAD_AT_END, REFUSED_LINE_BYTES_MAX, REST_AFTER};
use crate::net::{Network, Stream as _};
use crate::patience::Patience;
use crate::telemetry::H2Counts;
use crate::timer::Timer;

/// How to end the connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A lingering close: ends LoadX's direction and reads until the client closes.
    Linger,
    Close,
    /// The connection is idle, and can be parked.
    Park,
}

/// The state of a connection that only its driver needs.
pub(super) struct Driver<'d, N: Network> {
    worker: &'d Rc<Worker<N>>,
    session: &'d Session,
    mux: &'d Rc<Mux<N>>,
    listener: ListenerId,
    timer: &'d Timer,
    input: Input,
    tasks: Tasks<Job<N>>,
    /// The number of times that all tasks of the worker were woken.
    calls: u64,
    /// The number of requests on this connection.
    requests: u32,
    /// Since when no exchange runs.
    idle_since: Time,
    /// Since when a frame is incomplete.
    incomplete_since: Option<Time>,
    /// Since when a field section is incomplete.
    section_since: Option<Time>,
    /// When requests that the client did not know to be too late are no longer served.
    leave_at: Option<Time>,
    /// Whether the client opens no more streams.
    client_leaves: bool,
    /// Whether frames in the input have not been looked at.
    is_interrupted: bool,
    /// How the connection ends, once this is known.
    ending: Option<End>,
    /// How long the client may take for what is written.
    patience: Patience,
    /// The bytes that the client had not confirmed at the last look.
    unconfirmed: Option<u64>,
    /// When LoadX looks whether the client takes what is written.
    look_at: Option<Time>,
}

impl<'d, N: Network> Driver<'d, N> {
    pub(super) fn new(
        worker: &'d Rc<Worker<N>>,
        session: &'d Session,
        mux: &'d Rc<Mux<N>>,
        (listener, input, requests, idle_since): (ListenerId, Input, u32, Time),
        timer: &'d Timer,
    ) -> Self {
        let process = &worker.plan().process;
        let patience = Patience::with_rate(process.timeouts.request, process.client_limits.body_rate_min);
        let mut driver = Driver {
            worker,
            session,
            mux,
            listener,
            timer,
            input,
            tasks: Tasks::new(worker.clock, serve_streams),
            calls: session.calls(),
            requests,
            idle_since,
            incomplete_since: None,
            section_since: None,
            leave_at: None,
            client_leaves: false,
            is_interrupted: false,
            ending: None,
            patience,
            unconfirmed: None,
            look_at: None,
        };
        driver.receive();
        driver
    }

    /// Ends the driver. Returns the number of requests, and since when the connection is idle.
    pub(super) fn rest(self) -> (u32, Time) {
        (self.requests, self.idle_since)
    }

    /// Goes on with everything that can go on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let calls = self.session.calls();
        if self.calls != calls {
            self.calls = calls;
            // Control has ended the drain of a backend, for which exchanges must look.
            self.mux.wake_all();
        }
        let mux = self.mux;
        for _ in 0..H2_ROUNDS_MAX {
            // A read that did not fill the input leaves nothing to read: the second only waits.
            let mut moves = self.read(cx) && self.read(cx);
            let could_read = mux.may_read();
            moves |= self.serve(cx);
            // What was written may have made room for exchanges, and for answers to what is read.
            moves |= self.write(cx) && (mux.awaits_room() || !could_read);
            moves |= self.is_interrupted && !mux.is_full_of_resets();
            if !moves {
                match self.settle(cx) {
                    Settled::Waits => {
                        mux.rest();
                        return Poll::Pending;
                    }
                    Settled::Moves => {}
                    Settled::Ends(end) => return Poll::Ready(end),
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Goes on with the exchanges that can go on. Returns whether some still can.
    fn serve(&mut self, cx: &mut Context<'_>) -> bool {
        let mux = self.mux;
        // Exchanges that have just got the right to send use the right at once.
        for _ in 0..H2_ROUNDS_MAX {
            let ran = self.tasks.poll(cx, |number| mux.close(number));
            if !mux.grant() && !ran {
                return false;
            }
        }
        true
    }

    /// Reads what has arrived. Returns whether anything has.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ending.is_some() || !self.mux.may_read() {
            return false;
        }
        if self.is_interrupted {
            if self.mux.is_full_of_resets() {
                return false;
            }
            self.receive();
            return true;
        }
        match self.mux.stream().poll_readable(cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                self.lose(&Broken::Failed(error));
                return true;
            }
        }
        match self.mux.stream().try_read(self.input.room(&self.worker.buffers)) {
            Ok(0) => self.lose(&Broken::Closed),
            Ok(count) => {
                self.input.filled(count);
                self.receive();
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                self.input.release_if_empty();
            }
            Err(error) => self.lose(&Broken::Failed(error)),
        }
        true
    }

    /// Reads the frames in the input.
    fn receive(&mut self) {
        let now = self.timer.now();
        let mut input = std::mem::take(&mut self.input);
        let held = input.bytes().len();
        let worker = self.worker;
        // A client that has reset streams may open others, once the exchanges of the former have ended.
        while self.ending.is_none() && !self.mux.is_full_of_resets() {
            let scratch = &mut *worker.h2_scratch.borrow_mut();
            let since = now.since(Time::ZERO);
            let told = self.mux.put(|connection, out| connection.receive(input.bytes(), scratch, since, out));
            match told {
                Ok((0, _)) => break,
                Ok((length, event)) => {
                    self.handle(event);
                    input.consume(length);
                }
                Err(fault) => self.fail(&fault),
            }
        }
        self.is_interrupted = self.ending.is_none() && !input.is_empty() && self.mux.is_full_of_resets();
        input.release_if_empty();
        // The time of a frame begins anew with each frame, and the time of a field section with each section.
        let has_read = input.bytes().len() < held;
        self.incomplete_since = (!input.is_empty()).then(|| self.incomplete_since.filter(|_| !has_read).unwrap_or(now));
        let is_within_section = self.mux.look(Connection::is_within_section);
        self.section_since = is_within_section.then(|| self.section_since.unwrap_or(now));
        self.input = input;
    }

    fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::Nothing | Event::Opened(_) | Event::Pong(_) => {}
            Event::Request { stream, asked, text, ends } => self.request(stream, asked, text, ends),
            Event::Refused => self.count(|counts| counts.refused += 1),
            Event::TooLarge { stream, text } => {
                let wants = Wants { to_head: text.starts_with(b"HEAD "), tunnel: false };
                self.refuse(stream, refusal_of(HeadFault::HeadTooLarge), text, wants);
            }
            Event::Malformed { reason, text } => {
                self.count(|counts| counts.stream_fault(Code::ProtocolError));
                let error = ProxyError::new(400, "http_request_error", reason);
                let id = self.worker.next_request_id();
                self.requests += 1;
                self.worker.log_refusal(self.mux.origin.ip, &id, start_line(text), &error, 0);
            }
            Event::Content { stream, content, ends } => self.mux.deliver(stream, content, ends),
            Event::Trailers { stream, lines } => self.mux.deliver_trailers(stream, lines),
            Event::Reset { stream, code, fault } => {
                match fault {
                    Some(_) => self.count(|counts| counts.stream_fault(code)),
                    None => self.count(|counts| counts.resets += 1),
                }
                if let Some(fault) = fault {
                    tracing::debug!("stream {stream} of {} ends: {fault} ({code})", self.mux.origin.address());
                }
                self.mux.deliver_reset(stream);
            }
            Event::Priority { stream, priority } => self.mux.set_priority(stream, priority),
            Event::Goaway(code) => {
                if code != Code::NoError {
                    tracing::debug!("{} ends its connection: {code}", self.mux.origin.address());
                }
                self.client_leaves = true;
            }
        }
    }

    /// Begins the exchange of a request.
    fn request(&mut self, stream: u32, asked: Asked, text: &[u8], ends: bool) {
        let began = self.timer.latest();
        let mut head = self.worker.buffers.request();
        let is_tunnel = asked.kind == RequestKind::Tunnel;
        let parsed = match is_tunnel {
            true => parse_request(&self.with_key(text), &mut head),
            false => parse_request(text, &mut head),
        };
        let wants = Wants { to_head: text.starts_with(b"HEAD "), tunnel: is_tunnel };
        let refusal = match parsed {
            Ok(Parsed::Complete(..)) if is_tunnel && !head.offers_upgrade() => {
                Some(ProxyError::new(501, "http_request_error", "LoadX opens no tunnel for this protocol"))
            }
            Ok(Parsed::Complete(..)) => None,
            Ok(Parsed::Partial) => Some(refusal_of(HeadFault::HeadTooLarge)),
            Err(fault) => Some(refusal_of(fault)),
        };
        if let Some(error) = refusal {
            return self.refuse(stream, error, text, Wants { tunnel: false, ..wants });
        }
        head.set_version(Version::Http2);
        let connection = (self.mux.stream(), &self.mux.origin, self.listener);
        match Incoming::new(self.worker, connection, head, began) {
            Ok(incoming) => {
                let most = incoming.plan.process.client_limits.requests_per_connection;
                self.begin(stream, asked, ends, wants, Work::Exchange(incoming));
                if u64::from(self.requests) >= most {
                    self.announce_end();
                }
            }
            Err(error) => self.refuse(stream, error, text, wants),
        }
    }

    /// The head of a request for a tunnel with the key that the handshake of WebSockets has in HTTP/1.1 (RFC 6455, section 4.1), and
    /// which HTTP/2 does not have.
    fn with_key(&self, text: &[u8]) -> Vec<u8> {
        let bits = [self.worker.entropy(), self.worker.entropy()].map(u64::to_ne_bytes).concat();
        let is_key = |line: &&[u8]| line.starts_with(b"sec-websocket-key:");
        let lines = text[..text.len().saturating_sub(2)].split_inclusive(|byte| *byte == b'\n');
        let mut head = lines.filter(|line| !is_key(line)).collect::<Vec<_>>().concat();
        head.extend_from_slice(format!("sec-websocket-key: {}\r\n\r\n", BASE64_STANDARD.encode(bits)).as_bytes());
        head
    }

    /// Answers a request that does not become an exchange.
    fn refuse(&mut self, stream: u32, error: ProxyError, text: &[u8], wants: Wants) {
        let text = text[..text.len().min(2 * REFUSED_LINE_BYTES_MAX)].to_vec();
        let asked = Asked { kind: RequestKind::Plain, length: None, priority: <_>::default() };
        self.begin(stream, asked, true, wants, Work::Refusal(error, text));
    }

    fn count(&self, count: impl FnOnce(&mut H2Counts)) {
        count(&mut self.worker.metrics.borrow_mut().h2);
    }

    fn begin(&mut self, stream: u32, asked: Asked, ends: bool, wants: Wants, work: Work) {
        self.requests += 1;
        self.count(|counts| counts.requests += 1);
        self.session.set_idle(false);
        let mux = self.mux;
        self.tasks.begin(self.timer.latest(), |number, waker, timer| {
            mux.open(number, stream, asked.priority, Arc::clone(waker), ends);
            Job { mux: Rc::clone(mux), number, timer, wants, work }
        });
    }

    /// Writes what waits, as far as the client takes it. Returns whether anything could be written.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while self.mux.unsent() > 0 {
            let stream = self.mux.stream();
            let (written, outcome) = self.mux.write_with(|bytes| stream.try_write(&[IoSlice::new(bytes)]));
            if written > 0 {
                any = true;
                self.patience.moved(written as u64, self.timer);
                self.unconfirmed = None;
                self.look_at = None;
            }
            match outcome {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.mux.stream().poll_writable(cx).is_pending() {
                        break;
                    }
                }
                Err(error) => {
                    self.lose(&Broken::Failed(error));
                    return true;
                }
            }
        }
        any
    }

    /// The connection is gone.
    fn lose(&mut self, broken: &Broken) {
        tracing::debug!("the connection of {} is gone: {broken}", self.mux.origin.address());
        self.ending = Some(End::Close);
        self.mux.discard();
        self.mux.abandon();
    }

    /// The client broke a rule for which the connection must end.
    fn fail(&mut self, fault: &Fault) {
        tracing::debug!("the connection of {} ends: {fault}", self.mux.origin.address());
        let (Fault::Connection(code, reason) | Fault::Stream(_, code, reason)) = *fault;
        self.end_with(code, reason);
    }

    fn end_with(&mut self, code: Code, reason: &str) {
        self.count(|counts| counts.connection_fault(code));
        self.mux.put(|connection, out| connection.abort(code, reason, out));
        self.ending = Some(End::Linger);
        self.mux.abandon();
    }

    fn announce_end(&mut self) {
        if self.leave_at.is_none() {
            self.leave_at = Some(self.timer.now() + HEAD_AT_END);
            self.mux.put(Connection::announce_end);
        }
    }

    /// What is left to do when nothing moves: the end, or the next deadline.
    fn settle(&mut self, cx: &mut Context<'_>) -> Settled {
        let (is_idle, unsent) = (self.mux.is_empty(), self.mux.unsent());
        if let Some(end) = self.ending
            && is_idle
            && unsent == 0
        {
            return Settled::Ends(end);
        }
        if !is_idle {
            self.idle_since = self.timer.latest();
            let may_wait = self.incomplete_since.or(self.section_since).or(self.leave_at).is_none();
            if unsent == 0 && may_wait && !self.should_leave() && !self.mux.awaits_window() {
                self.look_at = None;
                return Settled::Waits;
            }
        }
        self.session.set_idle(is_idle && self.requests > 0);
        if self.ending.is_none() {
            let is_leaving = self.leave_at.is_some();
            if !is_leaving && self.should_leave() {
                self.announce_end();
                return Settled::Moves;
            }
            let is_over = self.mux.look(Connection::is_over);
            if is_idle && (is_over || self.client_leaves) {
                self.ending = Some(End::Linger);
                return Settled::Moves;
            }
        }
        self.await_deadlines(cx, is_idle, unsent)
    }

    /// Whether the worker wants the connection closed.
    fn should_leave(&self) -> bool {
        self.session.should_close() || !self.worker.keeps_connections()
    }

    fn await_deadlines(&mut self, cx: &mut Context<'_>, is_idle: bool, unsent: usize) -> Settled {
        let plan = self.worker.plan();
        let timeouts = &plan.process.timeouts;
        let mut next: Option<(Time, Deadline)> = None;
        let mut earlier = |at: Time, deadline: Deadline| {
            if next.is_none_or(|(next, _)| at < next) {
                next = Some((at, deadline));
            }
        };
        if unsent > 0 {
            let (now, interval) = (self.timer.latest(), self.patience.check_interval());
            // Whatever wakes the driver meanwhile does not put the look off.
            let look_at = *self.look_at.get_or_insert(now + interval);
            earlier(look_at, Deadline::Look);
        } else if self.mux.awaits_window() {
            earlier(self.patience.wait(self.timer), Deadline::Window);
        }
        if self.ending.is_none() {
            if let Some(at) = self.leave_at.filter(|_| !self.mux.look(Connection::has_left)) {
                earlier(at, Deadline::Leave);
            }
            if let Some(since) = self.section_since {
                earlier(since + timeouts.request_head, Deadline::Head);
            }
            match self.incomplete_since {
                _ if !is_idle => {}
                Some(since) => earlier(since + timeouts.request_head, Deadline::Head),
                _ if self.requests == 0 => earlier(self.idle_since + timeouts.request_head, Deadline::Idle),
                _ => {
                    earlier(self.idle_since + timeouts.keepalive, Deadline::Idle);
                    if unsent == 0 && self.leave_at.is_none() {
                        earlier(self.idle_since + REST_AFTER, Deadline::Park);
                    }
                }
            }
        }
        let Some((at, deadline)) = next else { return Settled::Waits };
        if self.timer.poll_expired(cx, at).is_pending() {
            return Settled::Waits;
        }
        match deadline {
            Deadline::Look => self.look_at_unconfirmed(),
            Deadline::Window => {
                self.end_with(Code::EnhanceYourCalm, "the client has opened no window of the connection in time");
            }
            Deadline::Leave | Deadline::Idle => {
                self.leave_at.get_or_insert(at);
                self.mux.put(Connection::leave);
            }
            Deadline::Head => self.end_with(Code::EnhanceYourCalm, "the rest of a frame did not arrive in time"),
            Deadline::Park => return Settled::Ends(End::Park),
        }
        Settled::Moves
    }

    /// A client that confirms bytes reads, although the system has not taken more.
    fn look_at_unconfirmed(&mut self) {
        self.look_at = None;
        let left = self.mux.stream().unconfirmed();
        let former = std::mem::replace(&mut self.unconfirmed, left);
        let deadline = self.patience.wait(self.timer);
        match (former, left) {
            (Some(former), Some(left)) if left < former => self.patience.confirmed(former - left, self.timer),
            // Without a former look nobody knows whether the client reads.
            (None, Some(_)) => {}
            _ if self.timer.now() >= deadline => self.lose(&Broken::TimedOut),
            _ => {}
        }
    }
}

/// What a connection does next on which nothing moves.
enum Settled {
    Waits,
    Moves,
    Ends(End),
}

/// What happens at a deadline.
#[derive(Copy, Clone, Debug)]
enum Deadline {
    /// LoadX looks whether the client takes what is written.
    Look,
    /// The client must have opened the window of the connection.
    Window,
    /// Requests are no longer served on streams that the client has not opened.
    Leave,
    /// A frame or a field section must be complete.
    Head,
    /// The next request must have come.
    Idle,
    /// The connection is parked.
    Park,
}
