//! What control does for the limits of a cluster: those of its backends, the one of the cluster, and the circuit breaker.

use std::sync::Arc;

use super::Cluster;
use super::member::Member;
use crate::admit::{Adaptive, BackendLimit, Guards, LimitPolicy, Total};
use crate::health::breaker::{Breaker, Turned};
use crate::{Event, Time};

impl Cluster {
    /// Changes the limits of the cluster. Call [`update`](Cluster::update) afterwards, which applies them to the backends.
    pub fn set_limits(&mut self, limits: &LimitPolicy) {
        if *limits == self.limits {
            return;
        }
        self.limits = limits.clone();
        self.gate.set_policy(limits);
        match limits.per_cluster {
            // The exchanges in flight stay counted.
            Some(limit) => self.total.get_or_insert_default().set_limit(limit),
            // Exchanges that are counted must still be counted off.
            None => self.total.iter().for_each(|total| total.set_limit(u32::MAX)),
        }
        self.view_is_stale = true;
    }

    /// Applies the limits to the backends.
    pub(super) fn limit_backends(&mut self) {
        for member in &mut self.members {
            let weight = member.spec.weight;
            let limit = match self.limits.per_backend {
                None => None,
                Some(BackendLimit::Fixed(limit)) => Some(limit.saturating_mul(weight)),
                Some(BackendLimit::Adaptive) => {
                    Some(member.adaptive.get_or_insert_with(|| Adaptive::new(weight, member.load.in_flight())).limit())
                }
            };
            if self.limits.per_backend != Some(BackendLimit::Adaptive) {
                member.adaptive = None;
            }
            member.load.set_limit(limit);
        }
    }

    /// Takes over the limit of a backend that the former process found, if limits are adaptive.
    pub(crate) fn inherit_limit(&mut self, (host, port): (&str, u16), limit: u32) {
        let is_meant = |member: &&mut Member| *member.spec.host == *host && member.spec.port == port;
        if let Some(member) = self.members.iter_mut().find(is_meant)
            && let Some(adaptive) = &mut member.adaptive
        {
            adaptive.begin_at(limit);
            member.load.set_limit(Some(adaptive.limit()));
        }
    }

    /// Adapts the limits of the backends to the last second, after their tallies.
    pub(super) fn adapt_limits(&mut self) {
        let more: u32 = self.members.iter_mut().map(Member::adapt_limit).sum();
        // Not all that wait: an empty queue would count as the end of the overload.
        for _ in 0..more {
            if !self.gate.is_busy() {
                break;
            }
            self.gate.release();
        }
    }

    /// The guards of the next view.
    pub(super) fn guards(&mut self) -> Option<Guards> {
        match (&self.policy.breaker, &self.breaker) {
            (Some(_), None) => self.breaker = Some(Breaker::new()),
            (None, Some(_)) => self.breaker = None,
            _ => {}
        }
        let fuse = self.breaker.as_ref().map(|breaker| Arc::clone(breaker.fuse()));
        let total: Option<Arc<Total>> = self.total.clone();
        (fuse.is_some() || total.is_some()).then_some(Guards { fuse, total })
    }

    /// Opens or closes the circuit breaker by the attempts of the last second, after the tallies.
    pub(super) fn look_at_breaker(&mut self, now: Time) -> Option<Event> {
        let policy = self.policy.breaker.as_ref()?;
        let (ended, failed) = self.members.iter().fold((0, 0), |(ended, failed), member| {
            (ended + member.tally.ended_now(), failed + member.tally.failed_now())
        });
        let breaker = self.breaker.as_mut()?;
        let before = breaker.state();
        let turned = breaker.look(now, ended, failed, policy);
        if breaker.state() != before {
            // They learn that the breaker is open, or try.
            self.release_waiting();
        }
        Some(match turned? {
            Turned::Opened(reason) => Event::BreakerOpened { reason: reason.into() },
            Turned::Closed(reason) => Event::BreakerClosed { reason: reason.into() },
        })
    }
}

impl Member {
    /// Returns by how much the limit has risen.
    fn adapt_limit(&mut self) -> u32 {
        let Some(adaptive) = &mut self.adaptive else { return 0 };
        let before = adaptive.limit();
        let (successes, slowness) = self.tally.successes_now();
        adaptive.look(self.tally.ended_now(), (successes, slowness), self.load.in_flight());
        self.load.set_limit(Some(adaptive.limit()));
        adaptive.limit().saturating_sub(before)
    }
}
