use std::time::Duration;

use super::*;
use crate::{
    Algorithm, BackendSpec, BudgetPolicy, Cluster, Ended, HealthPolicy, Ids, Outcome, Pick, Probe, Query, SplitMix64,
    View,
};

/// A cluster that gets requests second by second.
struct Fixture {
    cluster: Cluster,
    second: u64,
    told: Vec<String>,
}

impl Fixture {
    fn new(backends: u16, policy: HealthPolicy) -> Self {
        let mut cluster = Cluster::new(Algorithm::RoundRobin, policy);
        let specs = (1..=backends).map(|port| BackendSpec::new("b", port)).map(|spec| BackendSpec {
            host: "127.0.0.1".into(),
            name: format!("b{}", spec.port).into(),
            ..spec
        });
        cluster.update(Time::ZERO, specs.collect(), &mut Ids::default());
        let mut fixture = Fixture { cluster, second: 0, told: Vec::new() };
        fixture.look();
        fixture
    }

    fn now(&self) -> Time {
        Time::ZERO + Duration::from_secs(self.second)
    }

    fn look(&mut self) {
        self.second += 1;
        let events = self.cluster.look(self.now());
        self.told.extend(events.iter().map(ToString::to_string));
    }

    /// A second with `count` requests, each of which ends at once as `outcome` says for the port of its backend.
    fn serve(&mut self, count: usize, outcome: impl Fn(u16) -> Outcome) {
        self.requests(count, outcome);
        self.look();
    }

    fn requests(&mut self, count: usize, outcome: impl Fn(u16) -> Outcome) {
        for _ in 0..count {
            let view = self.cluster.view();
            let pick = choose(&view, self.now());
            let (id, port) = (pick.backend().id(), pick.backend().addresses()[0].port());
            let took = Duration::from_millis(1);
            let outcome = outcome(port);
            let status = if outcome == Outcome::Answered { 200 } else { 0 };
            if let Some(observation) = pick.finish(Ended { outcome, status, first_byte: took, took }) {
                let event = self.cluster.observe(self.now(), id, &observation, &mut SplitMix64::new(0));
                self.told.extend(event.iter().map(ToString::to_string));
            }
        }
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn serving(&mut self) -> Vec<u16> {
        self.cluster.view().backends().iter().map(|backend| backend.addresses()[0].port()).collect()
    }

    fn id(&mut self, port: u16) -> BackendId {
        self.cluster.ids().find(|id| self.cluster.spec(*id).unwrap().port == port).unwrap()
    }
}

fn choose(view: &View, now: Time) -> Pick<&View> {
    view.pick(&Query { now, entropy: 0, key: None, tried: &[] }).picked().unwrap()
}

/// Backends at these ports break every response.
fn broken(ports: &'static [u16]) -> impl Fn(u16) -> Outcome {
    move |port| if ports.contains(&port) { Outcome::Broke("reset".into()) } else { Outcome::Answered }
}

#[test]
fn five_failures_in_a_row_eject_for_ten_seconds() {
    let mut fixture = Fixture::new(3, HealthPolicy::default());
    fixture.serve(15, broken(&[2]));
    assert_eq!(fixture.told(), ["backend b2 is ejected for 10 s: 5 requests in a row failed, the last: reset"]);
    assert_eq!(fixture.serving(), [1, 3]);
    let snapshot = fixture.cluster.snapshot(fixture.now());
    assert_eq!(snapshot.backends[1].state(), "ejected");
    assert_eq!(snapshot.backends[1].ejected, Some(Duration::from_secs(9)));
    let probe = Observation { began: fixture.now(), evidence: Evidence::ProbePassed { status: 200 } };
    let id = fixture.id(2);
    (0..3).for_each(|_| drop(fixture.cluster.observe(fixture.now(), id, &probe, &mut SplitMix64::new(0))));
    assert_eq!(fixture.serving(), [1, 3], "good probes do not shorten the ejection");
    (0..9).for_each(|_| fixture.serve(10, broken(&[])));
    assert_eq!(fixture.told(), ["backend b2 is no longer ejected: its ejection for 10 s is over"]);
    assert_eq!(fixture.serving(), [1, 2, 3]);
}

#[test]
fn failures_before_a_backend_went_down_do_not_eject_the_backend_that_is_up_again() {
    let ejected = "backend b2 is ejected for 10 s: 50 % of the requests failed; at other backends 0 %";
    for goes_down in [false, true] {
        let mut fixture = Fixture::new(3, HealthPolicy::default());
        // Every second attempt at the second backend fails.
        let attempts = std::cell::Cell::new(0);
        fixture.requests(300, |port| {
            attempts.set(attempts.get() + usize::from(port == 2));
            if port == 2 && attempts.get() % 2 == 1 { Outcome::Broke("reset".into()) } else { Outcome::Answered }
        });
        if goes_down {
            let (id, now) = (fixture.id(2), fixture.now());
            for evidence in
                [Evidence::ConnectFailed { reason: "refused".into() }, Evidence::ProbePassed { status: 200 }]
            {
                let observation = Observation { began: now, evidence };
                assert!(fixture.cluster.observe(now, id, &observation, &mut SplitMix64::new(0)).is_some());
            }
        }
        fixture.look();
        assert_eq!(fixture.told(), if goes_down { vec![] } else { vec![ejected] });
    }
}

#[test]
fn a_fault_of_all_backends_ejects_none() {
    let mut fixture = Fixture::new(3, HealthPolicy::default());
    (0..20).for_each(|_| fixture.serve(60, broken(&[1, 2, 3])));
    assert_eq!(fixture.told(), [""; 0]);
    assert_eq!(fixture.serving(), [1, 2, 3]);
}

#[test]
fn at_most_half_of_the_backends_are_ejected() {
    let mut fixture = Fixture::new(4, HealthPolicy::default());
    fixture.serve(200, broken(&[1]));
    fixture.serve(200, broken(&[1, 2]));
    assert_eq!(fixture.serving(), [3, 4]);
    fixture.serve(200, broken(&[1, 2, 3]));
    assert_eq!(fixture.serving(), [3, 4]);
}

#[test]
fn outliers_return_when_too_few_other_backends_are_left() {
    let mut fixture = Fixture::new(3, HealthPolicy::default());
    fixture.serve(15, broken(&[2]));
    fixture.told();
    let refused = Observation { began: fixture.now(), evidence: Evidence::ConnectFailed { reason: "refused".into() } };
    let id = fixture.id(1);
    fixture.cluster.observe(fixture.now(), id, &refused, &mut SplitMix64::new(0));
    assert_eq!(fixture.serving(), [3]);
    let events = fixture.cluster.look(fixture.now());
    fixture.told.extend(events.iter().map(ToString::to_string));
    assert_eq!(fixture.told(), ["backend b2 is no longer ejected: too few other backends are left"]);
    assert_eq!(fixture.serving(), [2, 3]);
}

#[test]
fn a_backend_that_breaks_every_third_response_leaves() {
    let mut fixture = Fixture::new(3, HealthPolicy::default());
    let count = std::cell::Cell::new(0);
    let third = |port| {
        count.set(count.get() + u32::from(port == 2));
        let breaks = port == 2 && count.get().is_multiple_of(3);
        if breaks { Outcome::Broke("truncated".into()) } else { Outcome::Answered }
    };
    fixture.serve(90, third);
    assert_eq!(fixture.told(), ["backend b2 is ejected for 10 s: 33 % of the requests failed; at other backends 0 %"]);
}

#[test]
fn a_silent_backend_is_given_up_until_it_returns() {
    let mut fixture = Fixture::new(3, HealthPolicy::default());
    let view = fixture.cluster.view();
    let mut held = Vec::new();
    for _ in 0..2 {
        for _ in 0..30 {
            let pick = choose(&view, fixture.now());
            if pick.backend().addresses()[0].port() == 2 {
                held.push(pick);
            } else {
                let took = Duration::from_millis(1);
                pick.finish(Ended { outcome: Outcome::Answered, status: 200, first_byte: took, took });
            }
        }
        fixture.look();
    }
    assert_eq!(
        fixture.told(),
        ["backend b2 is ejected for 10 s: no answer for 2 s, and 20 more requests wait, while other backends answer"]
    );
    assert!(held[0].backend().is_given_up());
    (0..10).for_each(|_| fixture.look());
    assert_eq!(fixture.serving(), [1, 2, 3]);
    assert!(!held[0].backend().is_given_up());
}

#[test]
fn without_probes_refused_connections_in_a_row_eject_for_a_time() {
    let mut fixture = Fixture::new(3, HealthPolicy { probe: Probe::Off, ..HealthPolicy::default() });
    let refused = |port| if port == 2 { Outcome::ConnectFailed("refused".into()) } else { Outcome::Answered };
    fixture.serve(15, refused);
    assert_eq!(fixture.told(), ["backend b2 is ejected for 10 s: 5 requests in a row failed, the last: refused"]);
    (0..10).for_each(|_| fixture.look());
    assert_eq!(fixture.serving(), [1, 2, 3]);
}

#[test]
fn without_the_policy_nothing_is_compared() {
    let mut fixture = Fixture::new(3, HealthPolicy::default());
    fixture.serve(15, broken(&[2]));
    let off = HealthPolicy { outliers: None, probe: Probe::Off, ..HealthPolicy::default() };
    fixture.cluster.reconfigure(fixture.now(), Algorithm::RoundRobin, off);
    fixture.cluster.set_retry_budget(BudgetPolicy { percent: 0, per_second_min: 0 });
    assert_eq!(fixture.serving(), [1, 2, 3]);
    fixture.told();
    (0..3).for_each(|_| fixture.serve(200, broken(&[2])));
    assert_eq!(fixture.told(), [""; 0]);
    assert_eq!(fixture.cluster.next_look(), None);
}

#[test]
fn a_late_report_of_failures_before_the_return_does_not_eject_again() {
    let mut fixture = Fixture::new(3, HealthPolicy::default());
    let began = fixture.now();
    fixture.serve(15, broken(&[2]));
    (0..10).for_each(|_| fixture.look());
    let late = Observation { began, evidence: Evidence::FailedInARow { count: 5, last: "reset".into() } };
    let id = fixture.id(2);
    assert_eq!(fixture.cluster.observe(fixture.now(), id, &late, &mut SplitMix64::new(0)), None);
}

#[test]
fn the_budget_of_retries_follows_the_requests() {
    let mut fixture = Fixture::new(3, HealthPolicy::default());
    let view = fixture.cluster.view();
    while view.retry_budget().take() {}
    fixture.look();
    while view.retry_budget().take() {}
    fixture.look();
    while view.retry_budget().take() {}
    fixture.serve(103, broken(&[]));
    assert_eq!(std::iter::from_fn(|| view.retry_budget().take().then_some(())).count(), 20);
}

#[test]
fn an_ejected_backend_that_becomes_the_only_one_gets_requests() {
    let mut fixture = Fixture::new(2, HealthPolicy::default());
    fixture.serve(10, broken(&[2]));
    assert_eq!(fixture.serving(), [1]);
    let id = fixture.id(2);
    let left = vec![fixture.cluster.spec(id).unwrap().clone()];
    fixture.cluster.update(fixture.now(), left, &mut Ids::default());
    assert_eq!(fixture.serving(), [0; 0]);
    assert!(fixture.cluster.next_look().unwrap() <= fixture.now());
    fixture.cluster.look(fixture.now());
    assert_eq!(fixture.serving(), [2]);
}

#[test]
fn the_budget_of_a_single_backend_is_filled_too() {
    let mut fixture = Fixture::new(1, HealthPolicy { outliers: None, ..HealthPolicy::default() });
    fixture.cluster.set_retry_budget(BudgetPolicy { percent: 0, per_second_min: 2 });
    let view = fixture.cluster.view();
    while view.retry_budget().take() {}
    fixture.look();
    assert!(view.retry_budget().take());
}
