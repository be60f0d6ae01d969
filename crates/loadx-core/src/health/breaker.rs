//! The circuit breaker of a cluster: when most requests fail at all backends together, no request gets a backend for a while.
//!
//! Outliers are backends that differ from the others. When all backends fail, none of them is one, and requests go on to them:
//! that is right as long as some succeed. A cluster whose clients have a better answer than a late failure, or whose backends
//! recover only without load, has a breaker. Open means no traffic but probes; then a few requests try.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::Time;

/// When the breaker of a cluster opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// The share of failed attempts of the last seconds that opens the breaker, in percent. Default 50.
    pub failed_percent: u32,
    /// The number of attempts of the last seconds below which the breaker stays closed. Default 20.
    pub attempts_min: u32,
    /// For how long no request gets a backend. Default 5 s.
    pub open: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        BreakerPolicy { failed_percent: 50, attempts_min: 20, open: Duration::from_secs(5) }
    }
}

/// The requests that try whether the backends have recovered.
const TRIALS: u32 = 5;

/// How much of the counts of earlier seconds remains after a second.
const REMAINS: f64 = 0.8;

/// What workers see of a breaker.
#[derive(Debug)]
pub(crate) struct Fuse {
    /// The requests that may still get a backend; [`CLOSED`](Self::CLOSED) for all.
    places: AtomicU32,
}

impl Fuse {
    const CLOSED: u32 = u32::MAX;

    /// Whether the next request may get a backend.
    pub(crate) fn admits(&self) -> bool {
        match self.places.load(Ordering::Relaxed) {
            Self::CLOSED => true,
            0 => false,
            _ => {
                let take = |places: u32| match places {
                    Self::CLOSED => Some(places),
                    places => places.checked_sub(1),
                };
                self.places.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
            }
        }
    }

    /// Whether no request gets a backend at present.
    pub(crate) fn is_open(&self) -> bool {
        self.places.load(Ordering::Relaxed) == 0
    }

    /// The places that are left of `given`.
    fn taken(&self, given: u32) -> u32 {
        given.saturating_sub(self.places.load(Ordering::Relaxed))
    }

    fn set(&self, places: u32) {
        self.places.store(places, Ordering::Relaxed);
    }
}

/// The breaker of a cluster, in control.
#[derive(Debug)]
pub(crate) struct Breaker {
    fuse: Arc<Fuse>,
    state: State,
    ended: f64,
    failed: f64,
}

#[derive(Copy, Clone, Debug, PartialEq)]
enum State {
    Closed,
    Open {
        until: Time,
    },
    /// A few requests try.
    Trying {
        /// The attempts that ended since, and those of them that failed.
        ended: u32,
        failed: u32,
        /// Until when attempts that have not ended do not count as failed.
        until: Time,
    },
}

/// What became of a breaker.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Turned {
    /// No request gets a backend; with the reason.
    Opened(String),
    /// All requests get backends again; with the reason.
    Closed(String),
}

impl Breaker {
    pub(crate) fn new() -> Self {
        let fuse = Arc::new(Fuse { places: AtomicU32::new(Fuse::CLOSED) });
        Breaker { fuse, state: State::Closed, ended: 0.0, failed: 0.0 }
    }

    pub(crate) fn fuse(&self) -> &Arc<Fuse> {
        &self.fuse
    }

    /// The state in one word: closed, open or trying.
    pub(crate) fn state(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::Trying { .. } => "trying",
        }
    }

    /// Takes in the attempts of the last second, and those of them that failed.
    pub(crate) fn look(&mut self, now: Time, ended: u32, failed: u32, policy: &BreakerPolicy) -> Option<Turned> {
        self.ended = self.ended * REMAINS + f64::from(ended);
        self.failed = self.failed * REMAINS + f64::from(failed);
        match self.state {
            State::Closed if self.ended < policy.attempts_min.into() => None,
            State::Closed => self
                .fails(policy)
                .then(|| self.open(now, policy, &format!("{} of the requests failed", self.percent()))),
            State::Open { until } if now < until => None,
            State::Open { .. } => {
                self.state = State::Trying { ended: 0, failed: 0, until: now + policy.open };
                self.fuse.set(TRIALS);
                None
            }
            State::Trying { ended: before, failed: failed_before, until } => {
                let (ended, failed) = (before + ended, failed_before + failed);
                self.state = State::Trying { ended, failed, until };
                self.judge(now, (ended, failed), until, policy)
            }
        }
    }

    /// Judges the requests that try: when all of them have ended, or when their time is over.
    fn judge(&mut self, now: Time, (ended, failed): (u32, u32), until: Time, policy: &BreakerPolicy) -> Option<Turned> {
        let taken = self.fuse.taken(TRIALS);
        let unanswered = taken.saturating_sub(ended);
        if taken == 0 || (unanswered > 0 && now < until) {
            return None;
        }
        (self.ended, self.failed) = (f64::from(ended.max(taken)), f64::from(failed + unanswered));
        let reason = format!("{} of the requests that tried failed", self.percent());
        if self.fails(policy) {
            return Some(self.open(now, policy, &reason));
        }
        (self.ended, self.failed) = (0.0, 0.0);
        self.state = State::Closed;
        self.fuse.set(Fuse::CLOSED);
        Some(Turned::Closed(reason))
    }

    fn fails(&self, policy: &BreakerPolicy) -> bool {
        self.failed * 100.0 >= self.ended * f64::from(policy.failed_percent)
    }

    fn percent(&self) -> String {
        format!("{:.0} %", self.failed / self.ended.max(1.0) * 100.0)
    }

    fn open(&mut self, now: Time, policy: &BreakerPolicy, reason: &str) -> Turned {
        self.state = State::Open { until: now + policy.open };
        self.fuse.set(0);
        Turned::Opened(format!("{reason}; no request gets a backend for {} s", policy.open.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        breaker: Breaker,
        policy: BreakerPolicy,
        second: u64,
    }

    impl Fixture {
        fn new() -> Self {
            Fixture { breaker: Breaker::new(), policy: BreakerPolicy::default(), second: 0 }
        }

        fn second(&mut self, ended: u32, failed: u32) -> &'static str {
            self.second += 1;
            self.breaker.look(Time::ZERO + Duration::from_secs(self.second), ended, failed, &self.policy);
            self.breaker.state()
        }

        fn admitted_of(&self, requests: u32) -> u32 {
            (0..requests).map(|_| u32::from(self.breaker.fuse().admits())).sum()
        }
    }

    #[test]
    fn open_means_no_traffic_and_then_a_few_requests_try() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.second(100, 49), "closed");
        assert_eq!(fixture.admitted_of(100), 100);
        assert_eq!(fixture.second(100, 60), "open");
        for _ in 0..4 {
            assert_eq!(fixture.admitted_of(100), 0);
            assert_eq!(fixture.second(0, 0), "open");
        }
        assert_eq!(fixture.second(0, 0), "trying");
        assert_eq!(fixture.admitted_of(100), TRIALS);
        assert_eq!(fixture.second(5, 3), "open", "those that tried failed");
        (0..4).for_each(|_| assert_eq!(fixture.second(0, 0), "open"));
        assert_eq!(fixture.second(0, 0), "trying");
        assert_eq!(fixture.admitted_of(5), TRIALS);
        assert_eq!(fixture.second(5, 0), "closed");
        assert_eq!(fixture.admitted_of(100), 100);
        assert_eq!(fixture.second(100, 0), "closed", "the failures before count no more");
    }

    #[test]
    fn few_requests_open_nothing() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.second(3, 3), "closed");
    }

    #[test]
    fn the_breaker_closes_when_those_that_tried_have_succeeded() {
        let mut fixture = Fixture::new();
        fixture.second(100, 100);
        (0..5).for_each(|_| {
            fixture.second(0, 0);
        });
        assert_eq!(fixture.second(0, 0), "trying", "nobody asks");
        assert_eq!(fixture.admitted_of(3), 3);
        assert_eq!(fixture.second(2, 0), "trying", "one of the three has not answered");
        assert_eq!(fixture.second(1, 0), "closed");
    }

    #[test]
    fn requests_that_hang_do_not_close_the_breaker() {
        let mut fixture = Fixture::new();
        fixture.second(100, 100);
        (0..5).for_each(|_| {
            fixture.second(0, 0);
        });
        assert_eq!(fixture.admitted_of(100), TRIALS);
        assert_eq!(fixture.second(2, 0), "trying", "three of five hang");
        (0..3).for_each(|_| assert_eq!(fixture.second(0, 0), "trying"));
        assert_eq!(fixture.second(0, 0), "open", "and are given up after the time of the breaker");
    }
}
