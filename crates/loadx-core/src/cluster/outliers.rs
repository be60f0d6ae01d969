//! What control does once a second for a cluster: ejects the outliers, admits them again, and gives the budget of retries its
//! share. The limits and the circuit breaker follow in [`admission`](super::admission).

use std::sync::Arc;

use super::Cluster;
use super::member::Member;
use crate::admit::BackendLimit;
use crate::health::outlier::{Fault, OutlierPolicy, Tally, worst};
use crate::{BackendId, Event, Evidence, Observation, Standing, Time};

impl Cluster {
    /// When the next call of [`look`](Cluster::look) is due; `None` if there is nothing to do.
    pub(super) fn next_look(&self) -> Option<Time> {
        if self.has_lost {
            return Some(Time::ZERO);
        }
        let budget = &self.budget_policy;
        let has_use = self.policy.outliers.is_some()
            || self.policy.breaker.is_some()
            || self.limits.per_backend == Some(BackendLimit::Adaptive)
            || budget.percent + budget.per_second_min > 0
            || self.members.iter().any(|member| member.ejections.present().is_some() || !member.ramp.is_over());
        (has_use && !self.members.is_empty()).then_some(self.looked + OutlierPolicy::INTERVAL)
    }

    /// Looks at the attempts of the last second: compares the backends, ejects the worst outlier, admits the outliers whose
    /// ejection is over, and gives the budget of retries its share. Does nothing before the time is due.
    pub fn look(&mut self, now: Time) -> Vec<Event> {
        if self.next_look().is_none_or(|at| at > now) {
            return Vec::new();
        }
        if std::mem::take(&mut self.has_lost) && now < self.looked + OutlierPolicy::INTERVAL {
            // Not yet a second of counts, but perhaps too few backends.
            let policy = self.policy.outliers.clone();
            let events = policy.map(|policy| self.end_ejections(now, &policy)).unwrap_or_default();
            self.view_is_stale |= !events.is_empty();
            return events;
        }
        self.looked = now;
        for member in &mut self.members {
            member.tally.look(member.load.totals());
        }
        let attempts = self.members.iter().map(|member| u64::from(member.tally.ended_now())).sum();
        self.budget.give(attempts, &self.budget_policy);
        self.raise_shares(now);
        self.adapt_limits();
        let mut events = self.compare(now);
        self.view_is_stale |= !events.is_empty();
        events.extend(self.look_at_breaker(now));
        events
    }

    fn compare(&mut self, now: Time) -> Vec<Event> {
        let Some(policy) = self.policy.outliers.clone() else { return Vec::new() };
        let mut events = self.end_ejections(now, &policy);
        let compared: Vec<usize> = (0..self.members.len()).filter(|at| self.members[*at].admitted()).collect();
        let tallies: Vec<&Tally> = compared.iter().map(|position| &self.members[*position].tally).collect();
        if let Some((worst, fault)) = worst(&tallies, &policy) {
            events.extend(self.eject_outlier(now, compared[worst], &fault, &policy));
        }
        events
    }

    /// Admits the outliers whose ejection is over, and all outliers if too few backends are left without them.
    fn end_ejections(&mut self, now: Time, policy: &OutlierPolicy) -> Vec<Event> {
        let too_few = !self.stand_the_load(0, policy);
        let mut events = Vec::new();
        for member in &mut self.members {
            let Some(ejection) = member.ejections.present() else { continue };
            let is_over = ejection.until <= now;
            // A backend whose probes fail would get no requests anyway.
            let is_needed = too_few && member.health.standing() != Standing::Down;
            if !is_over && !is_needed {
                continue;
            }
            let reason = match is_over {
                true => format!("its ejection for {} s is over", ejection.until.since(ejection.since).as_secs_f64()),
                false => "too few other backends are left".to_owned(),
            };
            member.end_ejection(now);
            events.push(Event::Returned { backend: Arc::clone(&member.spec.name), reason: reason.into() });
        }
        events
    }

    /// Whether enough backends stay in rotation if `more` backends leave.
    fn stand_the_load(&self, more: usize, policy: &OutlierPolicy) -> bool {
        let wanted = self.members.iter().filter(|member| !member.spec.drain);
        let (all, admitted) =
            wanted.fold((0, 0), |(all, admitted), member| (all + 1, admitted + usize::from(member.admitted())));
        let out = all - admitted + more;
        admitted > more && out * 100 <= all * policy.out_percent_max as usize
    }

    fn eject_outlier(&mut self, now: Time, position: usize, fault: &Fault, policy: &OutlierPolicy) -> Option<Event> {
        if !self.stand_the_load(1, policy) {
            return None;
        }
        let member = &mut self.members[position];
        let reason = fault.reason();
        let lasts = member.ejections.begin(now, Arc::clone(&reason), policy);
        member.ejections_total += 1;
        member.tally.clear();
        member.load.forget_row();
        if let Fault::Silent { .. } = fault {
            member.load.set_given_up(true);
        }
        self.view_is_stale = true;
        Some(Event::OutlierEjected { backend: Arc::clone(&member.spec.name), reason, lasts })
    }

    /// Judges a backend at which several attempts in a row failed. The backend stays if the others fail as well.
    pub(super) fn judge_row(&mut self, now: Time, id: BackendId, observation: &Observation) -> Option<Event> {
        let policy = self.policy.outliers.clone()?;
        let position = *self.positions.get(&id)?;
        let member = &self.members[position];
        let is_late = |since: Option<Time>| since.is_some_and(|since| observation.began < since);
        if !member.admitted() || is_late(member.ejections.over_since()) {
            return None;
        }
        let (count, last) = match &observation.evidence {
            Evidence::FailedInARow { count, last } => (*count, last),
            // Without probes, nothing but the count of failures tells whether a backend is gone.
            Evidence::ConnectFailed { reason } | Evidence::ConnectTimedOut { reason } => {
                (member.load.failed_in_a_row(), reason)
            }
            _ => return None,
        };
        if count < policy.in_a_row {
            return None;
        }
        let others = self.members.iter().filter(|other| other.id != id && other.admitted());
        let (all, failing) = others.fold((0, 0), |(all, failing), other| {
            let fails = other.load.failed_in_a_row() * 2 >= policy.in_a_row;
            (all + 1, failing + usize::from(fails))
        });
        if failing * 2 > all {
            return None;
        }
        let fault = Fault::InARow { count, last: Arc::clone(last) };
        self.eject_outlier(now, position, &fault, &policy)
    }
}

impl Member {
    /// Forgets the attempts so far. The failures of a backend that went down say nothing about the backend that is up again.
    pub(super) fn forget_attempts(&mut self) {
        self.tally.forget(self.load.totals());
        self.load.forget_row();
    }

    pub(super) fn end_ejection(&mut self, now: Time) {
        self.ejections.end(now);
        self.tally.clear();
        self.load.forget_row();
        if self.health.standing() != Standing::Down {
            self.load.set_given_up(false);
        }
    }
}

#[cfg(test)]
mod tests;
