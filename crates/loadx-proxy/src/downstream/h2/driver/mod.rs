//! Drives one connection: one poll reads, serves and writes as long as anything moves.

mod deadlines;
mod frames;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use loadx_core::{ListenerId, Time};
use loadx_http::h2::{Code, Connection, Fault, Server};

use super::tasks::Tasks;
use super::{Job, Served, serve_streams};
use crate::buffers::Input;
use crate::context::Worker;
use crate::downstream::sessions::Session;
use crate::h2::{Gone, Mux, Transfer};
use crate::io::Broken;
use crate::limits::{H2_ROUNDS_MAX, HEAD_AT_END};
use crate::net::Network;
use crate::timer::Timer;
use crate::wakes::NumberedWaker;

use deadlines::Settled;

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
    served: &'d Rc<Served<N>>,
    listener: ListenerId,
    timer: &'d Timer,
    input: Input,
    tasks: Tasks<Job<N>>,
    /// The number of times that all tasks of the worker were woken.
    calls: u64,
    /// The number of requests on this connection.
    requests: u32,
    /// When the connection was accepted.
    opened: Time,
    /// When the connection is too old, by the plan at the beginning; each request looks again.
    ends_at: Option<Time>,
    /// Since when no exchange runs.
    idle_since: Time,
    /// When the last bytes came.
    heard_at: Time,
    /// When a PING was sent, if it is not answered.
    pinged_at: Option<Time>,
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
    transfer: Transfer,
}

impl<'d, N: Network> Driver<'d, N> {
    pub(super) fn new(
        worker: &'d Rc<Worker<N>>,
        session: &'d Session,
        served: &'d Rc<Served<N>>,
        (listener, input, requests, opened, idle_since): (ListenerId, Input, u32, Time, Time),
        timer: &'d Timer,
    ) -> Self {
        let process = &worker.plan().process;
        let transfer = Transfer::new(process.timeouts.request, process.client_limits.body_rate_min);
        let mut driver = Driver {
            worker,
            session,
            served,
            listener,
            timer,
            input,
            tasks: Tasks::new(worker.clock, serve_streams),
            calls: session.calls(),
            requests,
            opened,
            ends_at: process.client_limits.connection_age.map(|age| opened + age),
            idle_since,
            heard_at: timer.latest(),
            pinged_at: None,
            incomplete_since: None,
            section_since: None,
            leave_at: None,
            client_leaves: false,
            is_interrupted: false,
            ending: None,
            transfer,
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
            self.mux().ring_all();
        }
        let served = self.served;
        let mux = &served.mux;
        for _ in 0..H2_ROUNDS_MAX {
            // A read that did not fill the input leaves nothing to read: the second only waits.
            let mut moves = self.read(cx) && self.read(cx);
            let could_read = mux.may_read();
            moves |= self.serve(cx);
            // What was written may have made room for exchanges, and for answers to what is read.
            moves |= self.write(cx) && (mux.awaits_room() || !could_read);
            moves |= self.is_interrupted && !served.is_full_of_resets();
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
        let served = self.served;
        // Exchanges that have just got the right to send use the right at once.
        for _ in 0..H2_ROUNDS_MAX {
            let ran = self.tasks.poll(cx, |number| served.close(number));
            if !served.mux.grant() && !ran {
                return false;
            }
        }
        true
    }

    /// Reads what has arrived. Returns whether anything has.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ending.is_some() || !self.mux().may_read() {
            return false;
        }
        if self.is_interrupted {
            if self.served.is_full_of_resets() {
                return false;
            }
            self.receive();
            return true;
        }
        match self.transfer.read(self.served.stream(), &mut self.input, &self.worker.buffers, cx) {
            Ok(false) => return false,
            Ok(true) => self.receive(),
            Err(broken) => self.lose(&broken),
        }
        true
    }

    /// Writes what waits, as far as the client takes it. Returns whether anything could be written.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let written = self.transfer.write(self.served.stream(), &self.served.mux, self.timer, cx);
        written.unwrap_or_else(|broken| {
            self.lose(&broken);
            true
        })
    }

    fn mux(&self) -> &'d Mux<Server, Arc<NumberedWaker>> {
        &self.served.mux
    }

    /// The connection is gone.
    fn lose(&mut self, broken: &Broken) {
        tracing::debug!("the connection of {} is gone: {broken}", self.served.origin.address());
        self.ending = Some(End::Close);
        self.mux().discard();
        self.mux().abandon(Gone::Lost);
    }

    /// The client broke a rule for which the connection must end.
    fn fail(&mut self, fault: &Fault) {
        tracing::debug!("the connection of {} ends: {fault}", self.served.origin.address());
        let (Fault::Connection(code, reason) | Fault::Stream(_, code, reason)) = *fault;
        self.end_with(code, reason);
    }

    fn end_with(&mut self, code: Code, reason: &str) {
        self.count(|counts| counts.connection_fault(code));
        self.mux().put(|connection, out| connection.abort(code, reason, out));
        self.ending = Some(End::Linger);
        self.mux().abandon(Gone::Lost);
    }

    fn announce_end(&mut self) {
        if self.leave_at.is_none() {
            self.leave_at = Some(self.timer.now() + HEAD_AT_END);
            self.mux().put(Connection::announce_end);
        }
    }
}
