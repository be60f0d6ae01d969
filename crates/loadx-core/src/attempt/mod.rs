//! The attempts of one exchange: the backend for each attempt, its time, and whether LoadX may try another backend.
//!
//! Only this module decides on retries and deadlines. The proxy drives [`Attempts`] with sockets, the simulator with
//! modelled backends.

mod failure;

use std::ops::Deref;
use std::time::Duration;

use crate::{BackendId, Choice, Key, Pick, Query, Time, View};

pub use failure::{ConnectFailure, ConnectFailureKind, Failure, ProxyError};

/// How long one exchange and its attempts may take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AttemptPolicy {
    /// The longest time to open a connection to a backend.
    pub connect: Duration,
    /// The longest silence of a backend: until its response begins, and between two pieces of the response.
    pub response: Duration,
    /// The longest time of a whole exchange without a tunnel; `None` means no limit.
    pub exchange: Option<Duration>,
    /// The statuses of gRPC after which LoadX asks another backend.
    pub retry_grpc: GrpcStatuses,
}

/// A set of statuses of gRPC, by their numbers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcStatuses(u32);

impl GrpcStatuses {
    /// Adds the status with this number, 0 to 31.
    pub fn add(&mut self, number: u8) {
        self.0 |= 1_u32.checked_shl(number.into()).unwrap_or(0);
    }

    /// Whether the set has the status with this number.
    pub fn contains(self, number: u8) -> bool {
        self.0 & 1_u32.checked_shl(number.into()).unwrap_or(0) != 0
    }
}

/// Whether a retry of the request is safe and possible.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Whether the request's method is idempotent (RFC 9110, section 9.2.2).
    pub idempotent: bool,
    /// Whether LoadX still has the whole request, with its body.
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
    /// The most attempts of one exchange. A refused connection costs little, so a high limit hides from the client that
    /// most backends of a cluster stopped at the same moment.
    pub const MAX: usize = 16;

    /// The most times that LoadX sends a request again after a backend may have received it.
    pub const RESENDS_MAX: usize = 2;

    /// The state before the first attempt, for an exchange that began at `began`.
    pub fn new(began: Time) -> Self {
        Attempts { began, failed: Vec::new(), resends: 0 }
    }

    /// Picks the backend for the next attempt. Skips the backends that failed in this exchange.
    pub fn choose<V: Deref<Target = View>>(
        &self,
        view: V,
        now: Time,
        entropy: u64,
        key: Option<Key>,
    ) -> Choice<Pick<V>> {
        Pick::choose(view, &Query { now, entropy, key, tried: &self.failed })
    }

    /// Whether an attempt at this backend failed.
    pub fn has_failed_at(&self, backend: BackendId) -> bool {
        self.failed.contains(&backend)
    }

    /// Whether a request that a backend may have seen may still be sent again.
    pub fn has_resends_left(&self) -> bool {
        self.resends < Self::RESENDS_MAX && self.failed.len() + 1 < Self::MAX
    }

    /// The number of failed attempts.
    pub fn failures(&self) -> usize {
        self.failed.len()
    }

    /// The deadline of the whole exchange; `None` without a limit.
    pub fn exchange_deadline(&self, policy: &AttemptPolicy) -> Option<Time> {
        policy.exchange.map(|limit| self.began + limit)
    }

    /// The deadline for a backend that has been silent since `silent_since`: `policy.response` later.
    pub fn response_deadline(&self, policy: &AttemptPolicy, silent_since: Time) -> Time {
        silent_since + policy.response
    }

    /// Records that the attempt at `backend` failed. Returns whether LoadX may try another backend.
    pub fn failed(&mut self, backend: BackendId, failure: &Failure, replay: Replay) -> bool {
        self.failed.push(backend);
        self.failed.len() < Self::MAX && self.may_resend(failure, replay)
    }

    /// Whether the request may be sent again after `failure`, to any backend, the same one included. Counts the
    /// resend when the failed backend may have seen the request.
    pub fn may_resend(&mut self, failure: &Failure, replay: Replay) -> bool {
        if failure.left_no_trace() {
            // A backend of HTTP/2 can refuse a request of which LoadX has sent, and no longer has, a part of the content.
            return replay.whole;
        }
        let repeatable = replay.whole
            && match failure {
                Failure::Unanswered { .. } | Failure::DrainOver => replay.idempotent,
                // The config says that such calls may be made again.
                Failure::GrpcStatus { .. } => true,
                _ => false,
            };
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

    /// Records each of `failures` at another backend; returns whether a further attempt is allowed after each failure.
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
        assert_eq!(allowed([unsent.clone()], Replay { idempotent: false, whole: true }), [true]);
        assert_eq!(allowed([unsent], Replay { idempotent: true, whole: false }), [false]);
    }

    #[test]
    fn a_call_with_a_status_to_retry_is_made_again_if_it_is_whole() {
        let failure = || Failure::GrpcStatus { status: 14, message: String::new() };
        let call = |whole| Replay { idempotent: false, whole };
        assert_eq!(allowed([failure(), failure(), failure()], call(true)), [true, true, false]);
        assert_eq!(allowed([failure()], call(false)), [false]);
        let mut statuses = GrpcStatuses::default();
        statuses.add(14);
        statuses.add(40);
        assert_eq!([0, 13, 14, 40, 255].map(|number| statuses.contains(number)), [false, false, true, false, false]);
    }

    #[test]
    fn a_silent_backend_or_a_broken_response_ends_the_exchange() {
        let ends = [Failure::Silent, Failure::BrokeOff("reset".to_owned()), Failure::ClientGone("left".to_owned())];
        for failure in ends {
            assert_eq!(allowed([failure], IDEMPOTENT), [false]);
        }
    }
}
