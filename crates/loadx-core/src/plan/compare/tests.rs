//! The tests of [`compare()`].

use super::*;

mod behaviour;
mod order;
mod state;

fn differences(old: &str, new: &str) -> Vec<Difference> {
    compare(&crate::config::parse(old).unwrap(), &crate::config::parse(new).unwrap())
}

/// One line for each difference and each detail.
fn told(old: &str, new: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for difference in differences(old, new) {
        let of = difference.of.map(|of| format!(" of {of}")).unwrap_or_default();
        lines.push(format!("{:?} {:?} {}{of}", difference.change, difference.part, difference.name));
        for Detail { key, old, new } in difference.details {
            lines.push(format!("  {key}: {} -> {}", old.unwrap_or_default(), new.unwrap_or_default()));
        }
    }
    lines
}

const SMALL: &str = r#"{
    "listeners": [{"name": "web", "address": "127.0.0.1:8080"}],
    "routes": [{"name": "api", "path_prefix": "/api", "cluster": "app"}, {"name": "rest", "cluster": "app"}],
    "clusters": {"app": {"backends": ["10.0.0.1:80", "10.0.0.2:80"]}}
}"#;

#[test]
fn equal_configs_have_no_differences() {
    assert_eq!(told(SMALL, SMALL), [""; 0]);
    let with_comment = SMALL.replace("\"routes\"", "// the same\n\"routes\"");
    assert_eq!(told(SMALL, &with_comment), [""; 0]);
}

#[test]
fn parts_are_added_removed_and_changed() {
    let new = r#"{
        "listeners": [{"name": "web", "address": "127.0.0.1:8080", "endpoints": false}, {"name": "b", "address": "[::1]:81"}],
        "routes": [
            {"name": "rest", "cluster": "app", "timeouts": {"exchange": 10}},
            {"name": "api", "path_prefix": "/api", "split": [{"cluster": "app", "weight": 3}, {"cluster": "new", "weight": 1}]},
            {"name": "gone", "path": "/gone", "respond": {"status": 410}}
        ],
        "clusters": {
            "app": {"algorithm": "least_connections", "backends": ["10.0.0.1:80", {"host": "10.0.0.3", "port": 80, "weight": 3}]},
            "new": {"backends": ["10.0.0.9:80"]}
        },
        "workers": 3
    }"#;
    let exchange = differences(SMALL, new);
    assert_eq!(
        told(SMALL, new),
        [
            "Changed Listener 127.0.0.1:8080",
            "  endpoints: true -> false",
            "Added Listener [::1]:81",
            "Changed Route rest",
            "  timeouts.exchange: none -> 10 s",
            "Changed Route api",
            "  cluster: \"app\" -> \"app\" weight 3 (75.0 %), \"new\" weight 1 (25.0 %)",
            "Added Route gone",
            "Changed Route order",
            "  order: api, rest -> rest, api",
            "Changed Cluster app",
            "  algorithm: round_robin -> least_connections",
            "Changed Backend 10.0.0.1:80 of app",
            "  share by weight: 50.0 % -> 25.0 %",
            "Added Backend 10.0.0.3:80 of app",
            "Removed Backend 10.0.0.2:80 of app",
            "Added Cluster new",
            "Added Backend 10.0.0.9:80 of new",
            "Changed Setting workers",
            "  workers: one for each processor -> 3",
        ]
    );
    assert!(exchange.iter().all(|difference| !difference.effect.is_empty()), "{exchange:?}");
}

#[test]
fn a_cluster_with_ip_hash_tells_how_many_clients_move() {
    let with = |backends: &str| {
        format!(
            r#"{{"clusters": {{"app": {{"algorithm": "ip_hash", "backends": [{backends}]}}}}, "routes": [{{"cluster": "app"}}]}}"#
        )
    };
    let three = with(r#""10.0.0.1:80", "10.0.0.2:80", "app.internal:80""#);
    let two = with(r#""10.0.0.1:80", "10.0.0.2:80""#);
    for (old, new) in [(&three, &two), (&two, &three)] {
        let cluster = differences(old, new).into_iter().find(|difference| difference.part == Part::Cluster).unwrap();
        let share = cluster.details[0].new.as_deref().unwrap().trim_end_matches(" %").parse::<f64>().unwrap();
        assert!((32.0..35.0).contains(&share), "a third of the clients: {share}");
    }
    let other_weights = with(r#""10.0.0.1:80", {"host": "10.0.0.2", "port": 80, "weight": 3}"#);
    let lines = told(&two, &other_weights);
    assert!(lines.iter().any(|line| line.contains("clients that change their backend")), "{lines:?}");
}
