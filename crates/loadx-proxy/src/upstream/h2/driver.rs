//! Drives one connection: one poll reads and writes as long as anything moves.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use loadx_core::Time;
use loadx_http::h2::{Answer, Code, Connection, Event, Fault};

use super::link::Link;
use crate::buffers::Input;
use crate::context::Worker;
use crate::h2::{Gone, Transfer};
use crate::io::Broken;
use crate::limits::{H2_IDLE_BEFORE_PING, H2_PINGS, H2_PONG, H2_ROUNDS_MAX};
use crate::net::Network;
use crate::timer::Timer;

/// The state of a connection that only its driver needs.
pub(super) struct Driver<N: Network> {
    worker: Rc<Worker<N>>,
    link: Rc<Link<N>>,
    timer: Timer,
    input: Input,
    transfer: Transfer,
    /// When the last bytes came.
    heard_at: Time,
    /// Whether an exchange ran at the last look.
    is_busy: bool,
    /// The number of PINGs since the last frame of a message.
    pings: usize,
    /// When the PING was sent that is not answered.
    pinged_at: Option<Time>,
    /// Whether the backend knows that LoadX closes the connection.
    has_left: bool,
}

/// Why a connection is gone.
struct Lost {
    /// For the exchanges.
    gone: Gone,
    /// For the log.
    reason: String,
}

impl Lost {
    fn new(reason: impl Into<String>) -> Self {
        Lost { gone: Gone::Lost, reason: reason.into() }
    }
}

impl From<Broken> for Lost {
    fn from(broken: Broken) -> Self {
        Lost::new(broken.to_string())
    }
}

impl<N: Network> Driver<N> {
    /// `silence`: how long the backend may take for what is written.
    pub(super) fn new(worker: &Rc<Worker<N>>, link: Rc<Link<N>>, silence: Duration) -> Self {
        let timer = Timer::new(worker.clock);
        Driver {
            worker: Rc::clone(worker),
            link,
            heard_at: timer.latest(),
            timer,
            input: Input::default(),
            transfer: Transfer::new(silence, 0),
            is_busy: false,
            pings: 0,
            pinged_at: None,
            has_left: false,
        }
    }

    /// Waits for the settings of the backend, so that what is no server of HTTP/2 is found before a request is sent.
    ///
    /// # Errors
    /// Why the backend cannot get requests, as text for the log.
    pub(super) async fn establish(&mut self, deadline: Time) -> Result<(), String> {
        poll_fn(|cx| {
            let ended = self.poll(cx);
            let max = self.link.mux.look(|connection| connection.is_established().then(|| connection.streams_max()));
            match (ended, max) {
                (Poll::Ready(Lost { reason, .. }), _) => {
                    Poll::Ready(Err(format!("it does not speak HTTP/2 (\"protocol\" is h2): {reason}")))
                }
                (_, Some(0)) => Poll::Ready(Err("it allows no requests in HTTP/2".to_owned())),
                (_, Some(_)) => Poll::Ready(Ok(())),
                (_, None) => self
                    .timer
                    .poll_expired(cx, deadline)
                    .map(|()| Err("it did not begin HTTP/2 (\"protocol\" is h2) in time".to_owned())),
            }
        })
        .await
    }

    /// Drives the connection to its end.
    pub(super) async fn run(mut self) {
        let Lost { gone, reason } = poll_fn(|cx| self.poll(cx)).await;
        tracing::debug!("a connection to a backend ends: {reason}");
        self.link.retire();
        self.link.mux.discard();
        self.link.mux.abandon(gone);
    }

    /// Goes on with everything that can go on. Ready when the connection is gone.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        for _ in 0..H2_ROUNDS_MAX {
            match self.turn(cx) {
                Ok(true) => {}
                Ok(false) => match self.settle(cx) {
                    Settled::Waits => {
                        self.link.mux.rest();
                        self.link.mux.driver_waits(cx);
                        return Poll::Pending;
                    }
                    Settled::Moves => {}
                    Settled::Ends(lost) => return Poll::Ready(lost),
                },
                Err(lost) => return Poll::Ready(lost),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads and writes. Returns whether anything moved that may let more move.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        // A read that did not fill the input leaves nothing to read: the second only waits.
        let mut moves = self.read(cx)? && self.read(cx)?;
        let mux = &self.link.mux;
        let could_read = mux.may_read();
        mux.grant();
        self.look_alive();
        let mux = &self.link.mux;
        // What was written may have made room for exchanges, and for answers to what is read.
        let has_written = self.transfer.write(&self.link.stream, mux, &self.timer, cx)?;
        moves |= has_written && ((mux.awaits_room() && mux.grant()) || !could_read);
        Ok(moves)
    }

    /// Reads what has arrived. Returns whether anything has.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        if !self.link.mux.may_read() {
            return Ok(false);
        }
        let has_read = self.transfer.read(&self.link.stream, &mut self.input, &self.worker.buffers, cx)?;
        if has_read {
            self.heard_at = self.timer.now();
            self.receive()?;
        }
        Ok(has_read)
    }

    /// Reads the frames in the input.
    fn receive(&mut self) -> Result<(), Lost> {
        let worker = Rc::clone(&self.worker);
        let scratch = &mut *worker.h2_scratch.borrow_mut();
        let since = self.heard_at.since(Time::ZERO);
        let mut input = std::mem::take(&mut self.input);
        loop {
            let received = self.link.mux.put(|connection, out| connection.receive(input.bytes(), scratch, since, out));
            match received {
                Ok((0, _)) => break,
                Ok((length, event)) => {
                    self.handle(event);
                    input.consume(length);
                }
                Err(fault) => return Err(self.fail(&fault)),
            }
        }
        input.release_if_empty();
        self.input = input;
        Ok(())
    }

    fn handle(&mut self, event: Event<'_, Answer<'_>>) {
        let mux = &self.link.mux;
        match event {
            Event::Nothing => return,
            Event::Told(Answer { stream, text, ends, .. }) => {
                if !mux.deliver_head(stream, text, ends) {
                    mux.put(|connection, out| connection.reset(stream, Code::EnhanceYourCalm, out));
                    mux.deliver_end(stream, Gone::Fault("interim responses are too many or too large"));
                }
            }
            Event::Content { stream, content, ends } => mux.deliver(stream, content, ends),
            Event::Trailers { stream, lines } => mux.deliver_trailers(stream, lines),
            Event::Reset { stream, code, fault } => {
                let gone = match (fault, code) {
                    (Some(fault), _) => Gone::Fault(fault),
                    (None, Code::RefusedStream) => Gone::Unserved,
                    (None, code) => Gone::Reset(code),
                };
                mux.deliver_end(stream, gone);
            }
            Event::Goaway { last, code } => {
                tracing::debug!("a backend ends its connection after stream {last}: {code}");
                mux.abandon_behind(last);
            }
        }
        self.pings = 0;
    }

    /// The backend broke a rule for which the connection must end.
    fn fail(&self, fault: &Fault) -> Lost {
        let (Fault::Connection(code, reason) | Fault::Stream(_, code, reason)) = *fault;
        self.link.mux.put(|connection, out| connection.abort(code, reason, out));
        // What the system does not take at once does not matter.
        let _ = self.link.mux.write_once(&self.link.stream);
        Lost { gone: Gone::Fault(reason), reason: fault.to_string() }
    }

    /// Asks a backend that has long been silent whether it is still there, together with the first request.
    fn look_alive(&mut self) {
        let is_busy = !self.link.mux.is_empty();
        let was_busy = std::mem::replace(&mut self.is_busy, is_busy);
        if was_busy != is_busy {
            let now = self.timer.now();
            match is_busy {
                true if now.since(self.heard_at) >= H2_IDLE_BEFORE_PING => self.ping(now),
                true => self.heard_at = now,
                false => self.link.rests(now),
            }
        }
    }

    fn ping(&mut self, now: Time) {
        self.pings += 1;
        self.pinged_at = Some(now);
        self.link.mux.put(Connection::ping);
    }

    /// What is left to do when nothing moves: the end, or the next deadline.
    fn settle(&mut self, cx: &mut Context<'_>) -> Settled {
        let mux = &self.link.mux;
        let unsent = mux.unsent();
        if mux.is_empty() && self.link.is_closing() && mux.look(Connection::is_established) {
            if !std::mem::replace(&mut self.has_left, true) {
                mux.put(Connection::end);
                return Settled::Moves;
            }
            if unsent == 0 {
                return Settled::Ends(Lost::new("no exchange needs it"));
            }
        }
        if !mux.look(Connection::awaits_pong) {
            self.pinged_at = None;
        }
        let mut next: Option<(Time, Deadline)> = None;
        let mut earlier = |at: Time, deadline: Deadline| {
            if next.is_none_or(|(next, _)| at < next) {
                next = Some((at, deadline));
            }
        };
        match unsent {
            0 => self.transfer.rest(),
            _ => earlier(self.transfer.look_at(self.timer.latest()), Deadline::Look),
        }
        match self.pinged_at {
            // Whatever comes shows that the backend is there.
            Some(pinged_at) => earlier(self.heard_at.max(pinged_at) + H2_PONG, Deadline::Pong),
            None if self.is_busy => {
                earlier(self.heard_at + H2_PINGS[self.pings.min(H2_PINGS.len() - 1)], Deadline::Ping);
            }
            None => {}
        }
        let Some((at, deadline)) = next else { return Settled::Waits };
        if self.timer.poll_expired(cx, at).is_pending() {
            return Settled::Waits;
        }
        match deadline {
            Deadline::Look => match self.transfer.look(&self.link.stream, &self.timer) {
                Ok(()) => Settled::Moves,
                Err(broken) => Settled::Ends(broken.into()),
            },
            Deadline::Ping => {
                self.ping(self.timer.now());
                Settled::Moves
            }
            Deadline::Pong => Settled::Ends(Lost::new("the backend has not answered to a PING")),
        }
    }
}

/// What a connection does next on which nothing moves.
enum Settled {
    Waits,
    Moves,
    Ends(Lost),
}

/// What happens at a deadline.
#[derive(Copy, Clone, Debug)]
enum Deadline {
    /// LoadX looks whether the backend takes what is written.
    Look,
    /// LoadX asks whether the backend is still there.
    Ping,
    /// The backend must have answered.
    Pong,
}
