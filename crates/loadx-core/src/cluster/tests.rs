use super::*;
use crate::{Choice, Ended, Evidence, NoBackend, Outcome, Query, SplitMix64};
use std::time::Duration;

struct Fixture {
    cluster: Cluster,
    ids: Ids,
    rng: SplitMix64,
}

impl Fixture {
    fn new(ports: &[u16]) -> Self {
        let rng = SplitMix64::new(3);
        let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
        let mut ids = Ids::default();
        cluster.update(Time::ZERO, specs(ports), &mut ids);
        Fixture { cluster, ids, rng }
    }

    fn shows(&mut self, port: u16, now: Time, evidence: Evidence) -> Option<Event> {
        let id = self.id(port);
        self.cluster.observe(now, id, &Observation { began: now, evidence }, &mut self.rng)
    }

    /// Leaves probes as the only thing with a deadline.
    fn looks_at_nothing(&mut self) {
        let policy = HealthPolicy { outliers: None, ..HealthPolicy::default() };
        self.cluster.reconfigure(Time::ZERO, Algorithm::RoundRobin, policy);
        self.cluster.set_retry_budget(BudgetPolicy { percent: 0, per_second_min: 0 });
    }

    fn id(&self, port: u16) -> BackendId {
        self.cluster.ids().find(|id| self.cluster.spec(*id).unwrap().port == port).unwrap()
    }

    fn update(&mut self, now: Time, ports: &[u16]) -> Vec<Event> {
        self.cluster.update(now, specs(ports), &mut self.ids)
    }

    fn serving(&mut self) -> Vec<u16> {
        self.cluster.view().backends().iter().map(|backend| backend.spec.port).collect()
    }
}

/// A cluster that does nothing but probe.
fn only_probing() -> Cluster {
    let policy = HealthPolicy { outliers: None, ..HealthPolicy::default() };
    let mut cluster = Cluster::new(Algorithm::RoundRobin, policy);
    cluster.set_retry_budget(BudgetPolicy { percent: 0, per_second_min: 0 });
    cluster
}

fn specs(ports: &[u16]) -> Vec<BackendSpec> {
    ports.iter().map(|port| BackendSpec::new("127.0.0.1", *port)).collect()
}

fn query(now: Time) -> Query<'static> {
    Query { now, entropy: 0, key: None, tried: &[] }
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn refused() -> Evidence {
    Evidence::ConnectFailed { reason: "connection refused".into() }
}

#[test]
fn a_backend_that_is_down_gets_no_requests_until_it_recovers() {
    let mut fixture = Fixture::new(&[1, 2]);
    let event = fixture.shows(1, at(0), refused());
    assert_eq!(event.unwrap().to_string(), "backend 127.0.0.1:1 is down: cannot connect: connection refused");
    assert_eq!(fixture.serving(), [2]);
    let event = fixture.shows(1, at(2), Evidence::ProbePassed { status: 200 });
    assert_eq!(event.unwrap().to_string(), "backend 127.0.0.1:1 is up: probe answered 200");
    assert_eq!(fixture.serving(), [1, 2]);
}

#[test]
fn no_backend_is_picked_while_all_are_down() {
    let mut fixture = Fixture::new(&[1]);
    fixture.shows(1, at(0), refused());
    assert!(matches!(fixture.cluster.view().pick(&query(at(0))), Choice::None(NoBackend::NoneAdmitted)));
    assert_eq!(fixture.cluster.snapshot(at(5)).admitted(), 0);
    assert_eq!(fixture.cluster.snapshot(at(5)).backends[0].since, Duration::from_secs(5));
}

#[test]
fn only_a_failed_connect_becomes_an_observation() {
    let mut fixture = Fixture::new(&[1]);
    let view = fixture.cluster.view();
    let took = Duration::from_secs(5);
    let pick = |outcome| view.pick(&query(at(4))).picked().unwrap().finish(Ended::unanswered(outcome, took));
    let expected = Observation { began: at(4), evidence: Evidence::ConnectFailed { reason: "no route".into() } };
    assert_eq!(pick(Outcome::ConnectFailed("no route".into())), Some(expected));
    assert_eq!(pick(Outcome::Answered), None);
    assert_eq!(pick(Outcome::Broke("reset".into())), None);
}

#[test]
fn in_flight_counts_cannot_leak() {
    let mut fixture = Fixture::new(&[1]);
    let view = fixture.cluster.view();
    let first = view.pick(&query(at(0))).picked().unwrap();
    let second = view.pick(&query(at(0))).picked().unwrap();
    assert_eq!(view.backends()[0].in_flight(), 2);
    drop(first);
    second.finish(Ended::unanswered(Outcome::Broke("reset".into()), Duration::from_secs(1)));
    assert_eq!(view.backends()[0].in_flight(), 0);
}

#[test]
fn an_update_keeps_the_state_of_backends_that_stay() {
    let mut fixture = Fixture::new(&[1, 2]);
    fixture.shows(1, at(0), refused());
    let kept = fixture.id(2);
    let events = fixture.update(at(1), &[3, 2, 1]);
    assert_eq!(events, [Event::Added { id: fixture.id(3), backend: "127.0.0.1:3".into() }]);
    assert_eq!(fixture.id(2), kept);
    assert_eq!(fixture.serving(), [3, 2], "1 is still down");
    let gone = [fixture.id(1), fixture.id(3)];
    let events = fixture.update(at(2), &[2]);
    let removed = |id, port: u16| Event::Removed { id, backend: format!("127.0.0.1:{port}").into() };
    assert_eq!(events, [removed(gone[0], 1), removed(gone[1], 3)]);
    fixture.update(at(3), &[1, 2, 3]);
    assert!(gone.iter().all(|id| fixture.cluster.spec(*id).is_none()), "an id is never given out again");
}

#[test]
fn a_backend_that_left_is_neither_probed_nor_judged() {
    let mut fixture = Fixture::new(&[1, 2]);
    let gone = fixture.id(1);
    fixture.update(at(0), &[2]);
    assert_eq!(fixture.cluster.tick(at(0)), [fixture.id(2)]);
    assert!(fixture.cluster.resolved(gone, NameAnswer::Nowhere("no such host".into())).is_none());
    let refused = Observation { began: at(0), evidence: refused() };
    assert!(fixture.cluster.observe(at(0), gone, &refused, &mut fixture.rng).is_none());
    assert_eq!(fixture.serving(), [2]);
}

#[test]
fn a_name_serves_once_it_resolves_and_keeps_its_addresses_when_dns_fails() {
    let mut cluster = only_probing();
    cluster.update(Time::ZERO, vec![BackendSpec::new("app", 80)], &mut Ids::default());
    let id = cluster.ids().next().unwrap();
    assert!(cluster.resolved(id, NameAnswer::Nowhere("no such host".into())).is_some());
    assert!(cluster.resolved(id, NameAnswer::Nowhere("no such host".into())).is_none(), "told once");
    assert!(cluster.view().backends().is_empty());
    assert_eq!(cluster.next_deadline(), None, "there is nothing to probe");
    assert!(cluster.resolved(id, NameAnswer::Addresses(["10.0.0.1:80".parse().unwrap()].into())).is_some());
    assert_eq!(cluster.view().backends().len(), 1);
    assert_eq!(cluster.next_deadline(), Some(Time::ZERO));
    cluster.resolved(id, NameAnswer::Failed("server failure".into()));
    assert_eq!(cluster.view().backends().len(), 1);
}

#[test]
fn without_probes_every_backend_serves_and_later_probes_begin_at_once() {
    let mut fixture = Fixture::new(&[1, 2]);
    fixture.cluster.tick(at(0));
    fixture.shows(2, at(0), refused());
    assert_eq!(fixture.serving(), [1]);
    fixture.looks_at_nothing();
    let off = HealthPolicy { probe: Probe::Off, outliers: None, ..HealthPolicy::default() };
    fixture.cluster.reconfigure(at(1), Algorithm::RoundRobin, off);
    fixture.update(at(1), &[1, 2]);
    assert_eq!(fixture.serving(), [1, 2]);
    let snapshot = fixture.cluster.snapshot(at(1));
    let shown = snapshot.backends.iter().map(|backend| (backend.standing, &*backend.reason));
    assert_eq!(shown.collect::<Vec<_>>(), [(None, "probes are off"); 2]);
    assert_eq!(fixture.cluster.next_deadline(), None);
    fixture.cluster.reconfigure(at(2), Algorithm::RoundRobin, HealthPolicy::default());
    fixture.update(at(2), &[1, 2]);
    assert_eq!(fixture.cluster.tick(at(2)).len(), 2, "the probe that ran when probes went off is forgotten");
}

#[test]
fn probes_are_due_at_start_and_taken_once() {
    let mut fixture = Fixture::new(&[1, 2]);
    fixture.looks_at_nothing();
    assert_eq!(fixture.cluster.next_deadline(), Some(Time::ZERO));
    assert_eq!(fixture.cluster.tick(Time::ZERO).len(), 2);
    assert_eq!(fixture.cluster.tick(Time::ZERO).len(), 0);
    assert_eq!(fixture.cluster.next_deadline(), None);
    fixture.shows(2, at(1), Evidence::ProbePassed { status: 204 });
    assert!(fixture.cluster.next_deadline().unwrap() > at(1), "the second probe comes at any time of the interval");
    fixture.shows(2, at(31), Evidence::ProbePassed { status: 204 });
    assert!(fixture.cluster.next_deadline().unwrap() > at(50));
}

#[test]
fn a_name_without_addresses_does_not_keep_addresses_that_another_server_may_use_now() {
    let mut cluster = only_probing();
    cluster.update(Time::ZERO, vec![BackendSpec::new("app", 80)], &mut Ids::default());
    let id = cluster.ids().next().unwrap();
    let there = || NameAnswer::Addresses(["10.0.0.1:80".parse().unwrap()].into());
    let nowhere = || NameAnswer::Nowhere("no such host".into());
    cluster.resolved(id, there());
    cluster.resolved(id, nowhere());
    assert_eq!(cluster.view().backends().len(), 1, "once may be a hiccup");
    assert!(cluster.resolved(id, nowhere()).is_some());
    assert_eq!(cluster.view().backends().len(), 0);
    assert!(cluster.resolved(id, nowhere()).is_none(), "told once");
    cluster.resolved(id, there());
    assert_eq!(cluster.view().backends().len(), 1);
    let refused = Observation { began: Time::ZERO, evidence: refused() };
    cluster.observe(Time::ZERO, id, &refused, &mut SplitMix64::new(0));
    cluster.resolved(id, nowhere());
    assert_eq!(cluster.next_deadline(), None, "LoadX does not probe the former address");
}
