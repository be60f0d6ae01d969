//! What happens on a connection on which nothing moves.

use std::task::Context;

use loadx_core::Time;
use loadx_http::h2::{Code, Connection};

use super::{Driver, End};
use crate::io::Broken;
use crate::limits::{H2_CLIENT_PONG, H2_CLIENT_SILENCE, REST_AFTER};
use crate::net::Network;

impl<N: Network> Driver<'_, N> {
    /// What is left to do when nothing moves: the end, or the next deadline.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) -> Settled {
        let (is_idle, unsent) = (self.mux().is_empty(), self.mux().unsent());
        if let Some(end) = self.ending
            && is_idle
            && unsent == 0
        {
            return Settled::Ends(end);
        }
        if !is_idle {
            self.idle_since = self.timer.latest();
            let may_wait = self.incomplete_since.or(self.section_since).or(self.leave_at).is_none();
            if unsent == 0 && may_wait && !self.should_leave() && !self.mux().awaits_window() {
                self.transfer.rest();
                // The common case: exchanges run, and the client is there.
                if self.pinged_at.is_none() && self.timer.poll_expired(cx, self.look_alive_at()).is_pending() {
                    return Settled::Waits;
                }
            }
        }
        self.session.set_idle(is_idle && self.requests > 0);
        if self.ending.is_none() {
            let is_leaving = self.leave_at.is_some();
            if !is_leaving && self.should_leave() {
                self.announce_end();
                return Settled::Moves;
            }
            let is_over = self.mux().look(Connection::is_over);
            if is_idle && (is_over || self.client_leaves) {
                self.ending = Some(End::Linger);
                return Settled::Moves;
            }
        }
        self.await_deadlines(cx, is_idle, unsent)
    }

    /// When LoadX asks whether a client with running exchanges is still there, or ends the connection for its age.
    fn look_alive_at(&self) -> Time {
        let silent_at = self.heard_at + H2_CLIENT_SILENCE;
        self.ends_at.map_or(silent_at, |at| at.min(silent_at))
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
        if unsent == 0 {
            self.transfer.rest();
        }
        if unsent > 0 {
            earlier(self.transfer.look_at(self.timer.latest()), Deadline::Look);
        } else if self.mux().awaits_window() {
            earlier(self.transfer.deadline(self.timer), Deadline::Window);
        }
        if self.ending.is_none() {
            if !is_idle {
                if !self.mux().look(Connection::awaits_pong) {
                    self.pinged_at = None;
                }
                match self.pinged_at {
                    None => earlier(self.heard_at + H2_CLIENT_SILENCE, Deadline::Ping),
                    // Whatever comes shows that the client is there.
                    Some(pinged_at) => earlier(self.heard_at.max(pinged_at) + H2_CLIENT_PONG, Deadline::Pong),
                }
                if let (Some(at), None) = (self.ends_at, self.leave_at) {
                    earlier(at, Deadline::Age);
                }
            }
            if let Some(at) = self.leave_at.filter(|_| !self.mux().look(Connection::has_left)) {
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
                    // A parked connection has no time for the rest of a field section.
                    if unsent == 0 && self.leave_at.is_none() && self.section_since.is_none() {
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
            Deadline::Look => {
                if let Err(broken) = self.transfer.look(self.served.stream(), self.timer) {
                    self.lose(&broken);
                }
            }
            Deadline::Window => {
                self.end_with(Code::EnhanceYourCalm, "the client has opened no window of the connection in time");
            }
            Deadline::Ping => {
                self.pinged_at = Some(self.timer.now());
                self.mux().put(Connection::ping);
            }
            Deadline::Pong => self.lose(&Broken::TimedOut),
            Deadline::Age => self.announce_end(),
            Deadline::Leave | Deadline::Idle => {
                self.leave_at.get_or_insert(at);
                self.mux().put(Connection::leave);
            }
            Deadline::Head => self.end_with(Code::EnhanceYourCalm, "the rest of a frame did not arrive in time"),
            Deadline::Park => return Settled::Ends(End::Park),
        }
        Settled::Moves
    }
}

/// What a connection does next on which nothing moves.
pub(super) enum Settled {
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
    /// LoadX asks whether a client with running exchanges is still there.
    Ping,
    /// The client must have answered.
    Pong,
    /// The connection has reached its largest age.
    Age,
    /// Requests are no longer served on streams that the client has not opened.
    Leave,
    /// A frame or a field section must be complete.
    Head,
    /// The next request must have come.
    Idle,
    /// The connection is parked.
    Park,
}
