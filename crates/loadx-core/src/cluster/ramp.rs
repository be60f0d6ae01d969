//! Slow start: a backend that enters rotation gets its share little by little.
//!
//! Views have weights in tenths while a backend starts, so that every algorithm starts it slowly: all of them follow weights.

use std::time::Duration;

use super::Cluster;
use crate::Time;
use crate::backend::Backend;

/// How much of its share a backend gets.
#[derive(Debug)]
pub(super) struct Ramp {
    /// The tenths of its share, 1 to 10.
    tenths: u32,
    /// When the backend entered rotation, from the first look on.
    since: Option<Time>,
    /// Whether the backend was in rotation in the last view.
    was_admitted: bool,
}

const WHOLE: u32 = 10;

impl Ramp {
    pub(super) fn new() -> Self {
        Ramp { tenths: WHOLE, since: None, was_admitted: false }
    }

    /// Notes whether the backend is in the next view. A backend that enters begins with a tenth of its share if it starts slowly.
    pub(super) fn enter(&mut self, is_admitted: bool, starts_slowly: bool) {
        if is_admitted && !self.was_admitted && starts_slowly {
            (self.tenths, self.since) = (1, None);
        }
        self.was_admitted = is_admitted;
    }

    /// Returns whether the share has changed.
    fn look(&mut self, now: Time, lasts: Duration) -> bool {
        let since = *self.since.get_or_insert(now);
        let part = now.since(since).as_secs_f64() / lasts.as_secs_f64();
        let tenths = ((1.0 + 9.0 * part) as u32).min(WHOLE);
        std::mem::replace(&mut self.tenths, tenths) != tenths
    }

    pub(super) fn is_over(&self) -> bool {
        self.tenths == WHOLE
    }
}

impl Cluster {
    /// Raises the shares of the backends that start slowly.
    pub(super) fn raise_shares(&mut self, now: Time) {
        let starting = self.members.iter_mut().filter(|member| !member.ramp.is_over());
        let changes = starting.map(|member| match self.policy.slow_start {
            Some(lasts) => member.ramp.look(now, lasts),
            None => std::mem::replace(&mut member.ramp, Ramp { was_admitted: true, ..Ramp::new() }).tenths != WHOLE,
        });
        self.view_is_stale |= changes.fold(false, |any, changed| any | changed);
    }

    /// The backends of the next view, with their weights for now.
    pub(super) fn backends_in_rotation(&mut self) -> Box<[Backend]> {
        let starts_slowly = self.policy.slow_start.is_some();
        for member in &mut self.members {
            let is_admitted = member.admitted();
            member.ramp.enter(is_admitted, starts_slowly);
        }
        let admitted = || self.members.iter().filter(|member| member.ramp.was_admitted);
        // Without tenths, the schedules of weights stay short.
        let all_are_over = admitted().all(|member| member.ramp.is_over());
        let backend = |member: &super::Member| {
            let mut backend = member.backend();
            if !all_are_over {
                backend.weight = backend.weight.saturating_mul(member.ramp.tenths);
                backend.share = member.ramp.tenths * 100 / WHOLE;
            }
            backend
        };
        admitted().map(backend).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Algorithm, BackendSpec, Cluster, Evidence, HealthPolicy, Ids, Observation, Query, SplitMix64, Time};

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    /// The shares of two backends of 110 requests.
    fn shares(cluster: &mut Cluster) -> [usize; 2] {
        let view = cluster.view();
        let mut shares = [0; 2];
        for number in 0..110 {
            let query = Query { now: at(0), entropy: number, key: None, tried: &[] };
            let pick = view.pick(&query).picked().unwrap();
            shares[usize::from(pick.backend().addresses()[0].port()) - 1] += 1;
        }
        shares
    }

    #[test]
    fn a_backend_that_returns_gets_its_share_little_by_little() {
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections] {
            let policy = HealthPolicy { slow_start: Some(Duration::from_secs(9)), ..HealthPolicy::default() };
            let mut cluster = Cluster::new(algorithm, policy);
            let specs = [1, 2].map(|port| BackendSpec::new("127.0.0.1", port)).to_vec();
            cluster.update(at(0), specs, &mut Ids::default());
            assert_eq!(shares(&mut cluster), [55, 55], "backends that join together have equal shares");
            for second in 1..20 {
                cluster.look(at(second));
            }
            let id = cluster.ids().next().unwrap();
            let refused = Observation { began: at(20), evidence: Evidence::ConnectFailed { reason: "refused".into() } };
            cluster.observe(at(20), id, &refused, &mut SplitMix64::new(0));
            assert_eq!(shares(&mut cluster), [0, 110]);
            let good = Observation { began: at(21), evidence: Evidence::ProbePassed { status: 200 } };
            cluster.observe(at(21), id, &good, &mut SplitMix64::new(0));
            assert_eq!(shares(&mut cluster), [10, 100], "a tenth of the share of the other");
            let view = cluster.view();
            let query = Query { now: at(21), entropy: 0, key: None, tried: &[] };
            let scores = view.explain(1, &query).candidates.into_iter().map(|candidate| candidate.score);
            let told = ["0 in flight, weight 1, starts slowly with 10 %", "0 in flight, weight 1"];
            assert_eq!(scores.collect::<Vec<_>>(), told);
            let mut last = 10;
            for second in 22..=31 {
                cluster.look(at(second));
                let [share, _] = shares(&mut cluster);
                assert!(share >= last, "{share} after {last}");
                last = share;
            }
            assert_eq!(last, 55, "the whole share after nine seconds");
        }
    }

    #[test]
    fn a_backend_that_is_alone_has_its_whole_share_when_another_joins_later() {
        let policy =
            HealthPolicy { slow_start: Some(Duration::from_secs(3)), outliers: None, ..HealthPolicy::default() };
        let mut cluster = Cluster::new(Algorithm::RoundRobin, policy);
        let (mut ids, spec) = (Ids::default(), |port| BackendSpec::new("127.0.0.1", port));
        cluster.update(at(0), vec![spec(1)], &mut ids);
        cluster.view();
        for second in 1..6 {
            cluster.look(at(second));
            cluster.view();
        }
        cluster.update(at(6), vec![spec(1), spec(2)], &mut ids);
        assert_eq!(shares(&mut cluster), [100, 10]);
        let at_once = HealthPolicy { slow_start: None, outliers: None, ..HealthPolicy::default() };
        cluster.reconfigure(at(6), Algorithm::RoundRobin, at_once);
        cluster.update(at(6), vec![spec(1), spec(2)], &mut ids);
        cluster.look(at(7));
        assert_eq!(shares(&mut cluster), [55, 55], "without slow start no share stays small");
    }
}
