//! How many clients change their backend when a cluster with `ip_hash` changes.

use std::net::{IpAddr, Ipv4Addr};

use super::describe::words::percent;
use super::{Change, Detail, Difference, Part};
use crate::config::{ClusterConfig, Config};
use crate::{Algorithm, Cluster, Ids, NameAnswer, Query, Rng as _, SplitMix64, Time, View};

/// The number of client addresses that stand for all clients: the share is exact to about one percent.
const CLIENTS: u64 = 20_000;

/// Adds the share of clients that change their backend to each cluster with `ip_hash` that differs, when every backend is
/// healthy.
pub(super) fn add_moves(old: &Config, new: &Config, differences: &mut Vec<Difference>) {
    for cluster in &new.clusters {
        let Some(former) = old.clusters.iter().find(|other| other.name == cluster.name) else { continue };
        let is_hashed = |cluster: &ClusterConfig| matches!(cluster.algorithm, Algorithm::IpHash(_));
        if !is_hashed(cluster) || !is_hashed(former) || former == cluster {
            continue;
        }
        // Only DNS knows how many backends a name becomes.
        if cluster.resolve_each != former.resolve_each && [cluster, former].into_iter().any(has_names) {
            continue;
        }
        let share = moved(former, cluster);
        let detail =
            Detail { key: "clients that change their backend".to_owned(), old: None, new: Some(percent(share)) };
        let is_this = |other: &&mut Difference| other.part == Part::Cluster && *other.name == *cluster.name;
        match differences.iter_mut().find(is_this) {
            Some(difference) => difference.details.push(detail),
            None if share > 0.0 => differences.push(Difference {
                part: Part::Cluster,
                of: None,
                name: cluster.name.to_string(),
                change: Change::Changed,
                details: vec![detail],
                effect: "the other clients keep their backend".to_owned(),
            }),
            None => {}
        }
    }
}

fn has_names(cluster: &ClusterConfig) -> bool {
    cluster.backends.iter().any(|backend| backend.literal_addresses().is_none())
}

/// The share of clients that get another backend.
fn moved(old: &ClusterConfig, new: &ClusterConfig) -> f64 {
    let (before, after) = (view(old), view(new));
    let mut rng = SplitMix64::new(1);
    let moved = (0..CLIENTS).filter(|_| {
        let client = IpAddr::V4(Ipv4Addr::from(rng.next_u64() as u32));
        backend(&before, client) != backend(&after, client)
    });
    moved.count() as f64 / CLIENTS as f64
}

/// The cluster with every backend in rotation. A name counts as one backend.
fn view(cluster: &ClusterConfig) -> std::sync::Arc<View> {
    let (mut members, mut ids) = (Cluster::new(cluster.algorithm, cluster.health.clone()), Ids::default());
    members.update(Time::ZERO, cluster.backends.clone(), &mut ids);
    let unresolved: Vec<_> =
        members.ids().filter(|id| members.spec(*id).is_some_and(|spec| spec.literal_addresses().is_none())).collect();
    for id in unresolved {
        members.resolved(id, NameAnswer::Addresses([(Ipv4Addr::LOCALHOST, 1).into()].into()));
    }
    members.view()
}

/// The backend of a client by host and port, as ip_hash takes them: another name in logs moves no client.
fn backend(view: &View, client: IpAddr) -> Option<String> {
    let query = Query { now: Time::ZERO, entropy: 0, key: view.key(client), tried: &[] };
    view.pick(&query).picked().map(|pick| pick.backend().spec.authority().to_ascii_lowercase())
}
