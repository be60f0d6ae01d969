//! The attempts of one exchange: which backend is asked, for how long, and whether another one may be asked next.
//!
//! Retries and deadlines are decided here and nowhere else. The proxy drives [`Attempts`] with sockets, the
//! simulator with modelled backends.

mod failure;

use std::ops::Deref;
use std::time::Duration;

use crate::{BackendId, Choice, Key, Pick, Query, Time, View};

pub use failure::{ConnectFailure, ConnectFailureKind, Failure, ProxyError};

/// How long one exchange and its attempts may take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AttemptPolicy {
    /// Opening a connection to a backend.
    pub connect: Duration,
    /// A backend's silence: until its response begins, and between two pieces of the response.
    pub response: Duration,
    /// The whole exchange, tunnels aside; none means no limit while bytes move.
    pub exchange: Option<Duration>,
}

/// What a retry of the request would repeat.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Whether the request's method is idempotent (RFC 9110, section 9.2.2).
    pub idempotent: bool,
    /// Whether all of the request is still at hand, its body included.
    pub whole: bool,
}

/// The attempts of one exchange so far.
#[derive(Debug)]
pub struct Attempts {
    began: Time,
    failed: Vec<BackendId>,
    resends: usize,
}

impl Attempts {
    /// The most backends that one exchange asks. A refused connection costs little, so that a client need not
    /// notice even when most backends of a cluster stop at the same moment.
    pub const MAX: usize = 16;

    /// How many times a request is sent again after a backend may have seen the request.
    pub const RESENDS_MAX: usize = 2;

    /// No attempt yet, for an exchange that began at `began`.
    pub fn new(began: Time) -> Self {
        Attempts { began, failed: Vec::new(), resends: 0 }
    }

    /// Picks the backend for the next attempt: one that this exchange has not asked in vain.
    pub fn choose<V: Deref<Target = View>>(
        &self,
        view: V,
        now: Time,
        entropy: u64,
        key: Option<Key>,
    ) -> Choice<Pick<V>> {
        Pick::choose(view, &Query { now, entropy, key, tried: &self.failed })
    }

    /// How many attempts failed.
    pub fn failures(&self) -> usize {
        self.failed.len()
    }

    /// When the exchange as a whole must have ended, if its time is limited.
    pub fn exchange_deadline(&self, policy: &AttemptPolicy) -> Option<Time> {
        policy.exchange.map(|limit| self.began + limit)
    }

    /// When a backend that has been silent since `silent_since` is given up.
    pub fn response_deadline(&self, policy: &AttemptPolicy, silent_since: Time) -> Time {
        silent_since + policy.response
    }

    /// Notes that the attempt at `backend` failed. Returns whether another backend may be asked.
    pub fn failed(&mut self, backend: BackendId, failure: &Failure, replay: Replay) -> bool {
        self.failed.push(backend);
        self.failed.len() < Self::MAX && self.may_resend(failure, replay)
    }

    /// Whether the request may be sent again after `failure`, to any backend, the same one included. Counts the
    /// resend when the failed backend may have seen the request.
    pub fn may_resend(&mut self, failure: &Failure, replay: Replay) -> bool {
        if failure.left_no_trace() {
            return true;
        }
        let repeatable = matches!(failure, Failure::Unanswered { .. }) && replay.idempotent && replay.whole;
        let allowed = repeatable && self.resends < Self::RESENDS_MAX;
        self.resends += usize::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Ids;

    const IDEMPOTENT: Replay = Replay { idempotent: true, whole: true };

    fn refused() -> Failure {
        Failure::Connect(ConnectFailure { kind: ConnectFailureKind::Refused, reason: "connection refused".into() })
    }

    fn unanswered() -> Failure {
        Failure::Unanswered { reason: "connection reset".to_owned(), unsent: false }
    }

    /// How the attempts at ever other backends go on after each of `failures`.
    fn allowed(failures: impl IntoIterator<Item = Failure>, replay: Replay) -> Vec<bool> {
        let (mut ids, mut attempts) = (Ids::default(), Attempts::new(Time::ZERO));
        failures.into_iter().map(|failure| attempts.failed(ids.backend(), &failure, replay)).collect()
    }

    #[test]
    fn refused_connections_are_retried_up_to_the_bound() {
        let post = Replay { idempotent: false, whole: true };
        let allowed = allowed(std::iter::repeat_with(refused).take(20), post);
        assert_eq!(allowed.iter().take_while(|allowed| **allowed).count(), Attempts::MAX - 1);
    }

    #[test]
    fn an_idempotent_request_that_a_backend_may_have_seen_is_resent_twice_at_most() {
        let failures = [unanswered(), refused(), unanswered(), unanswered()];
        assert_eq!(allowed(failures, IDEMPOTENT), [true, true, true, false]);
    }

    #[test]
    fn a_request_that_must_not_run_twice_is_not_resent() {
        assert_eq!(allowed([unanswered()], Replay { idempotent: false, whole: true }), [false]);
        assert_eq!(allowed([unanswered()], Replay { idempotent: true, whole: false }), [false]);
        let unsent = Failure::Unanswered { reason: "connection reset".to_owned(), unsent: true };
        assert_eq!(allowed([unsent], Replay { idempotent: false, whole: false }), [true]);
    }

    #[test]
    fn a_silent_backend_or_a_broken_response_ends_the_exchange() {
        let ends = [Failure::Silent, Failure::BrokeOff("reset".to_owned()), Failure::ClientGone("left".to_owned())];
        for failure in ends {
            assert_eq!(allowed([failure], IDEMPOTENT), [false]);
        }
    }
}
