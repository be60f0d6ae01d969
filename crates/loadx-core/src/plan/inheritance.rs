//! What control knows about backends, for the process that takes over from this one: the new process need not begin with
//! unproven backends and unresolved names.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

use super::Desired;
use crate::{NameAnswer, Standing, Time};

/// What control knows about names and backends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inheritance {
    /// The number of the plan.
    generation: u64,
    /// The addresses of names.
    names: Vec<NameInheritance>,
    backends: Vec<BackendInheritance>,
    /// The limits of the exchanges in flight of backends.
    #[serde(default)]
    limits: Vec<LimitInheritance>,
}

/// The limit of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LimitInheritance {
    cluster: Arc<str>,
    host: Arc<str>,
    port: u16,
    limit: u32,
}

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct NameInheritance {
    host: Arc<str>,
    port: u16,
    addresses: Vec<SocketAddr>,
}

/// The health of a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct BackendInheritance {
    cluster: Arc<str>,
    host: Arc<str>,
    port: u16,
    is_up: bool,
    reason: Arc<str>,
}

impl Desired {
    /// What control knows about names and backends.
    pub fn inheritance(&self, now: Time) -> Inheritance {
        let names = self.known_addresses().map(|((host, port), addresses)| NameInheritance {
            host,
            port,
            addresses: addresses.to_vec(),
        });
        let names = names.collect();
        let backends = self.snapshot(now).into_iter().flat_map(|cluster| {
            let name = cluster.name;
            cluster.snapshot.backends.into_iter().filter_map(move |backend| {
                let is_up = match backend.standing? {
                    Standing::Unproven => return None,
                    Standing::Up => true,
                    Standing::Down => false,
                };
                Some(BackendInheritance {
                    cluster: Arc::clone(&name),
                    host: backend.host,
                    port: backend.port,
                    is_up,
                    reason: backend.reason,
                })
            })
        });
        let limits = self.snapshot(now).into_iter().flat_map(|cluster| {
            let name = cluster.name;
            cluster.snapshot.backends.into_iter().filter_map(move |backend| {
                let (cluster, limit) = (Arc::clone(&name), backend.limit?);
                Some(LimitInheritance { cluster, host: backend.host, port: backend.port, limit })
            })
        });
        let (backends, limits) = (backends.collect(), limits.collect());
        Inheritance { generation: self.plan().generation, names, backends, limits }
    }

    /// Takes over what another process knew, before the first plan is published. The numbers of plans go on. Names and backends that this config does not have are left out.
    pub fn inherit(&mut self, now: Time, inheritance: &Inheritance) {
        self.number_plans_after(inheritance.generation);
        for name in self.names() {
            let known = inheritance.names.iter().find(|known| known.host == name.host && known.port == name.port);
            if let Some(known) = known {
                let addresses = NameAnswer::Addresses(known.addresses.as_slice().into());
                self.resolved(now, name.id, addresses);
            }
        }
        let count = inheritance.backends.len().max(1) as u32;
        for (position, known) in inheritance.backends.iter().enumerate() {
            let Some(cluster) = self.cluster_mut(&known.cluster) else { continue };
            // The probes of the backends spread over an interval.
            let wait = cluster.health_policy().interval * position as u32 / count;
            let standing = if known.is_up { Standing::Up } else { Standing::Down };
            cluster.inherit(now, (&known.host, known.port), standing, &known.reason, wait);
        }
        for known in &inheritance.limits {
            if let Some(cluster) = self.cluster_mut(&known.cluster) {
                cluster.inherit_limit((&known.host, known.port), known.limit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::parse;
    use crate::{Evidence, Observation, SplitMix64};

    #[test]
    fn the_next_process_knows_health_and_addresses() {
        let config = parse(
            r#"{"clusters": {"app": {"backends": ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "app.internal:80"]}}}"#,
        )
        .unwrap();
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let (mut former, _) = Desired::new(at(0), &config);
        let ids: Vec<_> = former.snapshot(at(0))[0].snapshot.backends.iter().map(|backend| backend.id).collect();
        let mut rng = SplitMix64::new(1);
        for (id, evidence) in [
            (ids[0], Evidence::ProbePassed { status: 200 }),
            (ids[1], Evidence::ConnectFailed { reason: "connection refused".into() }),
        ] {
            former.observe(at(10), id, &Observation { began: at(10), evidence }, &mut rng);
        }
        former.resolved(at(10), ids[3], NameAnswer::Addresses(["10.0.0.1:80".parse().unwrap()].into()));
        let told = serde_json::to_string(&former.inheritance(at(20))).unwrap();

        let (mut next, _) = Desired::new(at(0), &config);
        next.inherit(at(100), &serde_json::from_str(&told).unwrap());
        let seen = next.snapshot(at(105)).remove(0).snapshot.backends;
        let shown: Vec<_> = seen
            .iter()
            .map(|one| (one.standing.unwrap(), &*one.reason, one.since.as_secs(), one.addresses.len()))
            .collect();
        assert_eq!(
            shown,
            [
                (Standing::Up, "probe answered 200", 5, 1),
                (Standing::Down, "cannot connect: connection refused", 5, 1),
                (Standing::Unproven, "not probed yet", 105, 1),
                (Standing::Unproven, "not probed yet", 105, 1),
            ]
        );
        next.publish();
        assert_eq!(next.plan().clusters[0].view.load().backends().len(), 3, "the one that is down gets no requests");
        assert_eq!(next.tick(at(100)).len(), 4, "the first of the backends that are up has its turn now");
    }
}
