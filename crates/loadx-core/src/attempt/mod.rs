//! The attempts of one exchange: the backend for each attempt, its time, and whether LoadX may try another backend.
//!
//! Only this module decides on retries and deadlines. The proxy drives [`Attempts`] with sockets, the simulator with
//! modelled backends.

mod error_kind;
mod failure;
mod hedge;
mod retry;

use std::ops::Deref;
use std::time::Duration;

use crate::{Backend, BackendId, Choice, Key, Pick, Query, Time, View};

pub use error_kind::{ErrorKind, FaultOf};
pub use failure::{ConnectFailure, ConnectFailureKind, Failure, ProxyError, Stage};
pub use hedge::{HedgeClock, HedgePolicy};
pub use retry::{BudgetPolicy, RetryBudget, RetryPolicy, Statuses};

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
    /// When LoadX asks another backend for other reasons.
    pub retry: RetryPolicy,
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
#[derive(Clone, Debug)]
pub struct Attempts {
    began: Time,
    failed: Vec<BackendId>,
    /// How many of the failures belong to earlier rounds: their backends may be asked again.
    forgotten: usize,
    rounds: u32,
    resends: u32,
    /// Whether a backend did not answer in time.
    has_timed_out: bool,
    retry: RetryPolicy,
}

impl Attempts {
    /// The most attempts of one exchange. A refused connection costs little, so a high limit hides from the client that
    /// most backends of a cluster stopped at the same moment.
    pub const MAX: usize = 16;

    /// The state before the first attempt, for an exchange that began at `began`.
    pub fn new(began: Time, retry: RetryPolicy) -> Self {
        Attempts { began, failed: Vec::new(), forgotten: 0, rounds: 0, resends: 0, has_timed_out: false, retry }
    }

    /// The mean pause before the second round, in which backends are asked that have failed already; it doubles with each
    /// further round. A backend that has just reset a connection is often there again a moment later.
    const PAUSE: Duration = Duration::from_millis(25);

    /// The longest mean pause.
    const PAUSE_MAX: Duration = Duration::from_millis(250);

    /// Picks the backend for the next attempt. Skips the backends that failed in this round.
    pub fn choose<V: Deref<Target = View>>(
        &self,
        view: V,
        now: Time,
        entropy: u64,
        key: Option<Key>,
    ) -> Choice<Pick<V>> {
        Pick::choose(view, &self.query(now, entropy, key))
    }

    /// The query of [`choose`](Attempts::choose).
    pub fn query(&self, now: Time, entropy: u64, key: Option<Key>) -> Query<'_> {
        Query { now, entropy, key, tried: self.failed_now() }
    }

    /// Picks the backend for a second attempt beside the one at `present`.
    pub fn choose_beside<V: Deref<Target = View>>(
        &self,
        view: V,
        now: Time,
        entropy: u64,
        key: Option<Key>,
        present: BackendId,
    ) -> Choice<Pick<V>> {
        let mut tried = self.failed_now().to_vec();
        tried.push(present);
        Pick::choose(view, &Query { now, entropy, key, tried: &tried })
    }

    /// Records that another backend answered before `backend`. The budget was asked before that backend got the request.
    pub fn overtaken(&mut self, backend: BackendId) {
        self.failed.push(backend);
        self.resends += 1;
    }

    /// The backends that failed in this round.
    fn failed_now(&self) -> &[BackendId] {
        &self.failed[self.forgotten..]
    }

    /// Begins another round, after every backend of `view` has failed in this round and a further attempt is allowed. Returns how
    /// long to wait before the next pick: a time between half of the mean and one and a half, by `entropy`, so that the requests
    /// that failed together do not come again together. `None` if there are no more rounds; none follows a backend that did not
    /// answer in time, because the client has waited long enough.
    pub fn next_round(&mut self, view: &View, entropy: u64) -> Option<Duration> {
        if self.rounds >= self.retry.resends_max || self.has_timed_out || view.backends().is_empty() {
            return None;
        }
        self.rounds += 1;
        // The backend that failed last is asked again only if there is no other.
        self.forgotten = self.failed.len() - usize::from(view.backends().len() > 1);
        let part = 0.5 + (entropy >> 11) as f64 / (1_u64 << 53) as f64;
        Some((Self::PAUSE * (1 << (self.rounds - 1).min(8))).min(Self::PAUSE_MAX).mul_f64(part))
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

    /// Whether the request may go to another backend of `view` than the present one, if the present attempt is given up: the
    /// request is whole and may be sent again, another backend below its limit has not failed yet, and the limit of this exchange is not
    /// reached.
    pub fn has_other(&self, view: &View, present: BackendId, replay: Replay) -> bool {
        let is_other = |backend: &Backend| {
            backend.id() != present && !self.failed_now().contains(&backend.id()) && !backend.is_full()
        };
        replay.whole && self.has_resends_left() && view.backends().iter().any(is_other)
    }

    /// Whether a request with this method may be sent again after a backend may have acted on it.
    pub fn is_repeatable(&self, replay: Replay) -> bool {
        replay.idempotent || self.retry.non_idempotent
    }

    /// The statuses with which a response need not be passed on.
    pub fn retried_statuses(&self) -> Statuses {
        self.retry.statuses
    }

    fn has_resends_left(&self) -> bool {
        self.resends < self.retry.resends_max && self.failed.len() + 1 < Self::MAX
    }

    /// Records that the attempt at `backend` failed. Returns whether LoadX may try another backend.
    pub fn failed(&mut self, backend: BackendId, failure: &Failure, replay: Replay, budget: &RetryBudget) -> bool {
        self.failed.push(backend);
        if self.failed.len() >= Self::MAX || !replay.whole {
            return false;
        }
        if failure.left_no_trace() {
            return true;
        }
        let was_late = self.has_timed_out;
        self.has_timed_out |= *failure == Failure::Silent;
        let allowed = self.resends < self.retry.resends_max
            && match failure {
                // The budget was asked when the response was not passed on.
                Failure::GrpcStatus { .. } | Failure::Status { .. } => true,
                // Control ends these attempts, so that they happen no more often than an ejection or a drain.
                Failure::GivenUp | Failure::DrainOver => self.is_repeatable(replay),
                // One further backend gets the time of a response; a third would make the client wait too long.
                Failure::Silent if was_late => false,
                Failure::Silent | Failure::Unanswered { .. } | Failure::HeadBrokeOff(_) | Failure::BadResponse(_) => {
                    self.is_repeatable(replay) && budget.take()
                }
                _ => false,
            };
        self.resends += u32::from(allowed);
        allowed
    }

    /// Whether the request may be sent to the same backend again on a new connection, because the backend has most likely
    /// closed an idle connection without a look at the request.
    pub fn may_resend(&mut self, failure: &Failure, replay: Replay) -> bool {
        // A backend of HTTP/2 can refuse a request of which LoadX has sent, and no longer has, a part of the content.
        if failure.left_no_trace() || !replay.whole {
            return replay.whole;
        }
        let is_unanswered = matches!(failure, Failure::Unanswered { .. });
        let allowed = is_unanswered && replay.idempotent && self.resends < Self::RENEWALS_MAX;
        self.resends += u32::from(allowed);
        allowed
    }

    /// The most times that a request is sent again because an idle connection was closed.
    const RENEWALS_MAX: u32 = 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, BackendSpec, Cluster, HealthPolicy, Ids, LimitPolicy};

    const IDEMPOTENT: Replay = Replay { idempotent: true, whole: true };

    fn refused() -> Failure {
        Failure::Connect(ConnectFailure { kind: ConnectFailureKind::Refused, reason: "connection refused".into() })
    }

    fn unanswered() -> Failure {
        Failure::Unanswered { reason: "connection reset".to_owned(), unsent: false }
    }

    /// Records each of `failures` at another backend; returns whether a further attempt is allowed after each failure.
    fn allowed(failures: impl IntoIterator<Item = Failure>, replay: Replay) -> Vec<bool> {
        let retry = RetryPolicy::default();
        let (mut ids, mut attempts) = (Ids::default(), Attempts::new(Time::ZERO, retry));
        let budget = RetryBudget::new(&retry.budget);
        failures.into_iter().map(|failure| attempts.failed(ids.backend(), &failure, replay, &budget)).collect()
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
    fn a_silent_backend_or_an_invalid_head_lets_another_backend_answer() {
        let failures = [Failure::Silent, Failure::BadResponse("no HTTP".to_owned())];
        assert_eq!(allowed(failures, IDEMPOTENT), [true, true]);
        let late = [Failure::Silent, Failure::Silent];
        assert_eq!(allowed(late, IDEMPOTENT), [true, false], "the client has waited long enough");
        let post = Replay { idempotent: false, whole: true };
        assert_eq!(allowed([Failure::Silent], post), [false]);
    }

    #[test]
    fn backends_that_failed_are_asked_again_after_a_pause_if_there_are_no_others() {
        let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
        let mut ids = Ids::default();
        let specs = |ports: &[u16]| ports.iter().map(|port| BackendSpec::new("127.0.0.1", *port)).collect();
        for ports in [&[1][..], &[1, 2]] {
            cluster.update(Time::ZERO, specs(ports), &mut ids);
            let view = cluster.view();
            let mut attempts = Attempts::new(Time::ZERO, RetryPolicy::default());
            let (mut pauses, mut asked) = (Vec::new(), Vec::new());
            loop {
                match attempts.choose(&*view, Time::ZERO, 0, None) {
                    Choice::Picked(pick) => {
                        let id = pick.backend().id();
                        asked.push(pick.index());
                        if !attempts.failed(id, &refused(), IDEMPOTENT, view.retry_budget()) {
                            break;
                        }
                    }
                    _ => match attempts.next_round(&view, 1 << 63) {
                        Some(pause) => pauses.push(pause.as_millis()),
                        None => break,
                    },
                }
            }
            assert_eq!(pauses, [25, 50]);
            let expected: &[usize] = if ports.len() == 1 { &[0, 0, 0] } else { &[0, 1, 0, 1] };
            assert_eq!(asked, expected, "the backend that failed last waits for the next round");
        }
    }

    #[test]
    fn a_backend_at_its_limit_is_no_other_backend() {
        let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
        let limits = LimitPolicy { per_backend: Some(crate::BackendLimit::Fixed(1)), ..LimitPolicy::default() };
        cluster.set_limits(&limits);
        let specs = [1, 2].map(|port| BackendSpec::new("127.0.0.1", port)).to_vec();
        cluster.update(Time::ZERO, specs, &mut Ids::default());
        let view = cluster.view();
        let attempts = Attempts::new(Time::ZERO, RetryPolicy::default());
        let first = attempts.choose(&*view, Time::ZERO, 0, None).picked().unwrap();
        assert!(attempts.has_other(&view, first.backend().id(), IDEMPOTENT));
        let _second = attempts.choose(&*view, Time::ZERO, 0, None).picked().unwrap();
        assert!(!attempts.has_other(&view, first.backend().id(), IDEMPOTENT));
        assert_eq!(attempts.choose(&*view, Time::ZERO, 0, None).picked().map(|pick| pick.index()), None);
    }

    #[test]
    fn pauses_have_a_bound() {
        let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
        cluster.update(Time::ZERO, vec![BackendSpec::new("127.0.0.1", 1)], &mut Ids::default());
        let view = cluster.view();
        let retry = RetryPolicy { resends_max: 10, ..RetryPolicy::default() };
        let mut attempts = Attempts::new(Time::ZERO, retry);
        let mut ids = Ids::default();
        let budget = RetryBudget::new(&retry.budget);
        let pauses = std::iter::from_fn(|| {
            attempts.failed(ids.backend(), &refused(), IDEMPOTENT, &budget);
            attempts.next_round(&view, u64::MAX)
        });
        let longest = pauses.max().unwrap();
        assert!(longest < Duration::from_millis(376), "{longest:?}");
    }

    #[test]
    fn a_broken_response_ends_the_exchange() {
        for failure in [Failure::BrokeOff("reset".to_owned()), Failure::ClientGone("left".to_owned())] {
            assert_eq!(allowed([failure], IDEMPOTENT), [false]);
        }
    }

    #[test]
    fn no_request_that_a_backend_may_have_seen_is_sent_again_without_a_budget() {
        let retry = RetryPolicy { budget: BudgetPolicy { percent: 0, per_second_min: 0 }, ..RetryPolicy::default() };
        let (mut ids, mut attempts) = (Ids::default(), Attempts::new(Time::ZERO, retry));
        let budget = RetryBudget::new(&retry.budget);
        assert!(!attempts.failed(ids.backend(), &unanswered(), IDEMPOTENT, &budget));
        assert!(attempts.failed(ids.backend(), &refused(), IDEMPOTENT, &budget), "no backend has seen the request");
    }

    #[test]
    fn only_the_config_lets_a_request_run_twice() {
        let post = Replay { idempotent: false, whole: true };
        let retry = RetryPolicy { non_idempotent: true, ..RetryPolicy::default() };
        for (retry, expected) in [(retry, true), (RetryPolicy::default(), false), (RetryPolicy::off(), false)] {
            let mut attempts = Attempts::new(Time::ZERO, retry);
            let budget = RetryBudget::new(&retry.budget);
            assert_eq!(attempts.failed(Ids::default().backend(), &unanswered(), post, &budget), expected);
        }
    }
}
