//! The normal form of a config: configs with the same behaviour that differ only in the order of lists become equal.

use std::time::Duration;

use crate::config::{ClusterConfig, Config, HealthKeys};
use crate::route::{Action, FieldEdits, Forward, Route};

/// The normal form. Listeners are in the order of their addresses and clusters in the order of their names, so that equal
/// positions in routes mean equal listeners and clusters.
pub(super) fn normal(config: &Config) -> Config {
    let mut config = config.clone();
    let listeners = sort(&mut config.listeners, |listener| (listener.at.host.clone(), listener.at.port));
    let clusters = sort(&mut config.clusters, |cluster| cluster.name.clone());
    for listener in &mut config.listeners {
        // For messages only.
        listener.listed = false;
    }
    config.clusters.iter_mut().for_each(normal_cluster);
    config.routes.iter_mut().for_each(|route| normal_route(route, &listeners, &clusters));
    for networks in [&mut config.trusted_proxies, &mut config.endpoints_allow] {
        make_set(networks);
    }
    // The defaults of the clusters, and each cluster has its own values.
    (config.timeouts.connect, config.timeouts.exchange) = (Duration::ZERO, None);
    config
}

/// Sorts `items`; returns the new position of each former position.
fn sort<T, K: Ord>(items: &mut Vec<T>, key: impl Fn(&T) -> K) -> Vec<usize> {
    let mut placed: Vec<(usize, T)> = std::mem::take(items).into_iter().enumerate().collect();
    placed.sort_by_key(|(_, item)| key(item));
    let mut positions = vec![0; placed.len()];
    for (position, (former, _)) in placed.iter().enumerate() {
        positions[*former] = position;
    }
    items.extend(placed.into_iter().map(|(_, item)| item));
    positions
}

fn make_set<T: Ord>(items: &mut Vec<T>) {
    items.sort_unstable();
    items.dedup();
}

fn normal_cluster(cluster: &mut ClusterConfig) {
    cluster.backends.sort_by(|a, b| (&a.host, a.port).cmp(&(&b.host, b.port)));
    // For messages only.
    cluster.health_keys = HealthKeys::default();
}

fn normal_route(route: &mut Route, listeners: &[usize], clusters: &[usize]) {
    let rules = &mut route.rules;
    rules.listeners.iter_mut().for_each(|position| *position = listeners[*position]);
    make_set(&mut rules.listeners);
    make_set(&mut rules.hosts);
    make_set(&mut rules.methods);
    rules.fields.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
    rules.query.sort_by(|a, b| (&a.name, &a.value).cmp(&(&b.name, &b.value)));
    make_set(&mut route.access.allow);
    make_set(&mut route.access.deny);
    normal_edits(&mut route.response_fields);
    if let Action::Forward(forward) = &mut route.action {
        normal_forward(forward, clusters);
    }
}

fn normal_forward(forward: &mut Forward, clusters: &[usize]) {
    for share in &mut forward.split {
        share.cluster = clusters[share.cluster];
    }
    forward.mirror = forward.mirror.map(|position| clusters[position]);
    normal_edits(&mut forward.request_fields);
    match &mut forward.split[..] {
        [only] => (only.weight, forward.sticky) = (1, false),
        // With `"split_by": "client"` the order decides which clients belong to which cluster.
        _ if forward.sticky => {}
        several => several.sort_by_key(|share| (share.cluster, share.weight)),
    }
}

/// LoadX removes all fields before it adds fields; the added fields keep their order in the message.
fn normal_edits(edits: &mut FieldEdits) {
    make_set(&mut edits.remove);
}
