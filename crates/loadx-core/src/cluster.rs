//! A named set of backends with one policy, as control holds it: who belongs, who is admitted.
//!
//! A cluster has one writer. What it decides, it publishes as an immutable [`View`].

use std::net::SocketAddr;
use std::sync::Arc;

use crate::backend::{Backend, Load};
use crate::balance::{Algorithm, BalancerFactory};
use crate::health::Health;
use crate::{
    BackendId, BackendSnapshot, BackendSpec, Event, HealthPolicy, Observation, Rng, Snapshot, Standing, Time, View,
};

/// Backends, their health, and the view of them that workers share.
#[derive(Debug)]
pub struct Cluster {
    policy: HealthPolicy,
    members: Vec<Member>,
    next_id: u32,
    factory: BalancerFactory,
    view: Arc<View>,
    /// Whether who is admitted has changed since the view was made.
    view_is_stale: bool,
}

/// What DNS says of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameAnswer {
    /// It leads to these addresses, in the order to try.
    Addresses(Arc<[SocketAddr]>),
    /// It does not exist, or has no address. The reason, in words.
    Nowhere(Arc<str>),
    /// There was no answer. The reason, in words.
    Failed(Arc<str>),
}

#[derive(Debug)]
struct Member {
    id: BackendId,
    spec: BackendSpec,
    addresses: Arc<[SocketAddr]>,
    /// Set while the name does not resolve; shown, and no reason by itself to leave.
    unresolved: Option<Arc<str>>,
    /// Whether the last answer was that the name leads nowhere.
    leads_nowhere: bool,
    health: Health,
    load: Arc<Load>,
}

impl Member {
    fn admitted(&self) -> bool {
        self.health.standing() != Standing::Down && self.unreachable().is_none()
    }

    /// A look-up that failed says nothing, and keeps the addresses known before. That the name leads
    /// nowhere is an answer: whoever has those addresses now may be somebody else. It is believed at once
    /// of a backend that is down, and at the second time of one that is not.
    fn resolved(&mut self, answer: NameAnswer) -> Option<Event> {
        let backend = Arc::clone(&self.spec.name);
        let (reason, nowhere) = match answer {
            NameAnswer::Addresses(addresses) => {
                self.leads_nowhere = false;
                let was_unresolved = self.unresolved.take().is_some();
                if addresses == self.addresses && !was_unresolved {
                    return None;
                }
                let listed = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                self.addresses = addresses;
                return Some(Event::Resolved { backend, addresses: listed });
            }
            NameAnswer::Nowhere(reason) => (reason, true),
            NameAnswer::Failed(reason) => (reason, false),
        };
        let again = std::mem::replace(&mut self.leads_nowhere, nowhere);
        let gone = nowhere && (again || self.health.standing() == Standing::Down) && !self.addresses.is_empty();
        if gone {
            self.addresses = Arc::default();
        }
        let known = self.unresolved.replace(Arc::clone(&reason));
        let news = gone || known.as_ref() != Some(&reason);
        news.then_some(Event::Unresolved { backend, reason })
    }

    /// Why it cannot be connected to, whatever its health.
    fn unreachable(&self) -> Option<&Arc<str>> {
        self.unresolved.as_ref().filter(|_| self.addresses.is_empty())
    }
}

impl Cluster {
    /// A cluster without backends; [`update`](Cluster::update) brings them.
    pub fn new(algorithm: Algorithm, policy: HealthPolicy) -> Self {
        let mut factory = BalancerFactory::new(algorithm);
        let view = Arc::new(View { balancer: factory.balancer(&[]), backends: Box::default() });
        Cluster { policy, members: Vec::new(), next_id: 0, factory, view, view_is_stale: false }
    }

    /// What workers pick from, made anew if who is admitted has changed: once, however much has.
    pub fn view(&mut self) -> Arc<View> {
        if std::mem::take(&mut self.view_is_stale) {
            self.view = self.publish();
        }
        Arc::clone(&self.view)
    }

    /// How backends are probed.
    pub fn health_policy(&self) -> &HealthPolicy {
        &self.policy
    }

    /// Replaces the set of backends. One that was there before, by host and port, keeps its id, its
    /// health and its counts.
    pub fn update(&mut self, now: Time, specs: Vec<BackendSpec>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut former = std::mem::take(&mut self.members);
        for spec in specs {
            let known = former.iter().position(|member| member.spec.host == spec.host && member.spec.port == spec.port);
            let member = match known {
                Some(index) => Member { spec, ..former.swap_remove(index) },
                None => {
                    events.push(Event::Added { backend: Arc::clone(&spec.name) });
                    self.member(now, spec)
                }
            };
            self.members.push(member);
        }
        events.extend(former.into_iter().map(|member| Event::Removed { backend: member.spec.name }));
        self.view_is_stale = true;
        events
    }

    fn member(&mut self, now: Time, spec: BackendSpec) -> Member {
        let id = BackendId::new(self.next_id);
        self.next_id += 1;
        Member {
            id,
            addresses: spec.literal_addresses().unwrap_or_default(),
            unresolved: None,
            leads_nowhere: false,
            spec,
            health: Health::new(now),
            load: Arc::default(),
        }
    }

    /// Takes in what DNS said of a backend's name.
    pub fn resolved(&mut self, id: BackendId, answer: NameAnswer) -> Option<Event> {
        let member = self.members.iter_mut().find(|member| member.id == id)?;
        let event = member.resolved(answer)?;
        self.view_is_stale = true;
        Some(event)
    }

    /// Takes in evidence about a backend. One that left the cluster meanwhile is nobody's concern.
    pub fn observe(
        &mut self,
        now: Time,
        id: BackendId,
        observation: &Observation,
        rng: &mut impl Rng,
    ) -> Option<Event> {
        let member = self.members.iter_mut().find(|member| member.id == id)?;
        let before = member.health.standing();
        if !member.health.observe(now, observation, &self.policy, rng) {
            return None;
        }
        let backend = Arc::clone(&member.spec.name);
        let reason = Arc::clone(member.health.reason());
        let event = match member.health.standing() {
            Standing::Down => Event::Ejected { backend, reason },
            Standing::Up | Standing::Unproven => Event::Admitted { backend, reason },
        };
        // Unproven and up look the same to workers.
        if before == Standing::Down || matches!(event, Event::Ejected { .. }) {
            self.view_is_stale = true;
        }
        Some(event)
    }

    /// When [`tick`](Cluster::tick) has something to do next.
    pub fn next_deadline(&self) -> Option<Time> {
        self.members.iter().filter(|member| !member.addresses.is_empty()).filter_map(|m| m.health.probe_due()).min()
    }

    /// The backends to probe now; each is owed an [`observe`](Cluster::observe).
    pub fn tick(&mut self, now: Time) -> Vec<BackendId> {
        self.members
            .iter_mut()
            .filter(|member| !member.addresses.is_empty())
            .filter_map(|member| member.health.take_probe(now).then_some(member.id))
            .collect()
    }

    /// A backend's description, while it belongs to the cluster.
    pub fn spec(&self, id: BackendId) -> Option<&BackendSpec> {
        self.members.iter().find(|member| member.id == id).map(|member| &member.spec)
    }

    /// Where a backend is to be reached, while it belongs to the cluster.
    pub fn addresses(&self, id: BackendId) -> Option<Arc<[SocketAddr]>> {
        self.members.iter().find(|member| member.id == id).map(|member| Arc::clone(&member.addresses))
    }

    /// The ids of all backends, in the order of the config.
    pub fn ids(&self) -> impl Iterator<Item = BackendId> + '_ {
        self.members.iter().map(|member| member.id)
    }

    /// How the cluster stands.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let backends = self.members.iter().map(|member| BackendSnapshot {
            id: member.id,
            name: Arc::clone(&member.spec.name),
            host: Arc::clone(&member.spec.host),
            port: member.spec.port,
            weight: member.spec.weight,
            addresses: Arc::clone(&member.addresses),
            standing: member.health.standing(),
            admitted: member.admitted(),
            reason: member.unreachable().map_or_else(
                || Arc::clone(member.health.reason()),
                |reason| format!("does not resolve: {reason}").into(),
            ),
            since: now.since(member.health.since()),
            in_flight: member.load.in_flight(),
            last_probe: member.health.last_probe().map(|at| now.since(at)),
            probe_took: member.health.probe_took(),
        });
        Snapshot { algorithm: self.factory.algorithm(), backends: backends.collect() }
    }

    fn publish(&mut self) -> Arc<View> {
        let admitted = self.members.iter().filter(|member| member.admitted());
        let backends: Box<[Backend]> = admitted
            .map(|member| Backend {
                id: member.id,
                spec: member.spec.clone(),
                addresses: Arc::clone(&member.addresses),
                load: Arc::clone(&member.load),
            })
            .collect();
        Arc::new(View { balancer: self.factory.balancer(&backends), backends })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Evidence, Key, NoBackend, Outcome, Query, SplitMix64};
    use std::time::Duration;

    struct Fixture {
        cluster: Cluster,
        rng: SplitMix64,
    }

    impl Fixture {
        fn new(ports: &[u16]) -> Self {
            let rng = SplitMix64::new(3);
            let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
            cluster.update(Time::ZERO, specs(ports));
            Fixture { cluster, rng }
        }

        fn shows(&mut self, port: u16, now: Time, evidence: Evidence) -> Option<Event> {
            let id = self.id(port);
            self.cluster.observe(now, id, &Observation { began: now, evidence }, &mut self.rng)
        }

        fn id(&self, port: u16) -> BackendId {
            self.cluster.ids().find(|id| self.cluster.spec(*id).unwrap().port == port).unwrap()
        }

        fn serving(&mut self) -> Vec<u16> {
            self.cluster.view().backends().iter().map(|backend| backend.spec.port).collect()
        }
    }

    fn specs(ports: &[u16]) -> Vec<BackendSpec> {
        ports.iter().map(|port| BackendSpec::new("127.0.0.1", *port)).collect()
    }

    fn query() -> Query<'static> {
        Query { key: Key::from_ip([192, 0, 2, 1].into()), tried: &[] }
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn refused() -> Evidence {
        Evidence::ConnectFailed { reason: "connection refused".into() }
    }

    #[test]
    fn one_that_is_down_gets_nothing_until_it_is_back() {
        let mut fixture = Fixture::new(&[1, 2]);
        let event = fixture.shows(1, at(0), refused());
        assert_eq!(event.unwrap().to_string(), "backend 127.0.0.1:1 is down: cannot connect: connection refused");
        assert_eq!(fixture.serving(), [2]);
        let event = fixture.shows(1, at(2), Evidence::ProbePassed { status: 200 });
        assert_eq!(event.unwrap().to_string(), "backend 127.0.0.1:1 is up: probe answered 200");
        assert_eq!(fixture.serving(), [1, 2]);
    }

    #[test]
    fn all_down_is_an_answer() {
        let mut fixture = Fixture::new(&[1]);
        fixture.shows(1, at(0), refused());
        assert_eq!(fixture.cluster.view().pick(at(0), &query()).unwrap_err(), NoBackend::NoneAdmitted);
        assert_eq!(fixture.cluster.snapshot(at(5)).admitted(), 0);
        assert_eq!(fixture.cluster.snapshot(at(5)).backends[0].since, Duration::from_secs(5));
    }

    #[test]
    fn a_failed_connection_becomes_an_observation_and_nothing_else_does() {
        let mut fixture = Fixture::new(&[1]);
        let view = fixture.cluster.view();
        let pick = |outcome| view.pick(at(4), &query()).unwrap().finish(at(9), outcome);
        let expected = Observation { began: at(4), evidence: Evidence::ConnectFailed { reason: "no route".into() } };
        assert_eq!(pick(Outcome::ConnectFailed("no route".into())), Some(expected));
        assert_eq!(pick(Outcome::Answered), None);
        assert_eq!(pick(Outcome::Broke), None);
    }

    #[test]
    fn in_flight_counts_cannot_leak() {
        let mut fixture = Fixture::new(&[1]);
        let view = fixture.cluster.view();
        let first = view.pick(at(0), &query()).unwrap();
        let second = view.pick(at(0), &query()).unwrap();
        assert_eq!(view.backends()[0].in_flight(), 2);
        drop(first);
        second.finish(at(1), Outcome::Broke);
        assert_eq!(view.backends()[0].in_flight(), 0);
    }

    #[test]
    fn an_update_keeps_what_it_knows_of_those_who_stay() {
        let mut fixture = Fixture::new(&[1, 2]);
        fixture.shows(1, at(0), refused());
        let kept = fixture.id(2);
        let events = fixture.cluster.update(at(1), specs(&[3, 2, 1]));
        assert_eq!(events, [Event::Added { backend: "127.0.0.1:3".into() }]);
        assert_eq!(fixture.id(2), kept);
        assert_eq!(fixture.serving(), [3, 2], "1 is still down");
        let events = fixture.cluster.update(at(2), specs(&[2]));
        assert_eq!(events.len(), 2);
    }

    #[test]
    fn a_name_serves_once_it_resolves_and_keeps_its_addresses_when_dns_fails() {
        let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
        cluster.update(Time::ZERO, vec![BackendSpec::new("app", 80)]);
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
    fn probes_are_due_at_start_and_taken_once() {
        let mut fixture = Fixture::new(&[1, 2]);
        assert_eq!(fixture.cluster.next_deadline(), Some(Time::ZERO));
        assert_eq!(fixture.cluster.tick(Time::ZERO).len(), 2);
        assert_eq!(fixture.cluster.tick(Time::ZERO).len(), 0);
        assert_eq!(fixture.cluster.next_deadline(), None);
        fixture.shows(2, at(1), Evidence::ProbePassed { status: 204 });
        assert!(fixture.cluster.next_deadline().unwrap() > at(20));
    }

    #[test]
    fn a_name_that_leads_nowhere_does_not_keep_addresses_that_somebody_else_may_have_now() {
        let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
        cluster.update(Time::ZERO, vec![BackendSpec::new("app", 80)]);
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
        assert_eq!(cluster.next_deadline(), None, "nobody probes the address that it had");
    }
}
