//! What stays and what changes from plan to plan.

use super::*;
use crate::{Evidence, Query, SplitMix64};

fn config(text: &str) -> Config {
    crate::config::parse(text).unwrap()
}

fn two(second: &str) -> Config {
    config(&format!(
        r#"{{"routes": [{{"cluster": "a"}}, {{"hosts": ["b"], "cluster": "b"}}],
            "clusters": {{"a": {{"backends": ["127.0.0.1:1", "127.0.0.1:2"]}}, "b": {{"backends": [{second}]}}}}}}"#
    ))
}

fn refused() -> Observation {
    Observation { began: Time::ZERO, evidence: Evidence::ConnectFailed { reason: "refused".into() } }
}

fn serving(plan: &Plan, cluster: usize) -> Vec<String> {
    plan.clusters[cluster].view.load().backends().iter().map(|backend| backend.name().to_owned()).collect()
}

#[test]
fn backends_that_stay_keep_id_health_and_counts() {
    let (mut desired, events) = Desired::new(Time::ZERO, &two("\"127.0.0.1:3\""));
    assert_eq!(events.len(), 3);
    let first = Arc::clone(desired.plan());
    let view = first.clusters[0].view.load_full();
    let query = Query { now: Time::ZERO, entropy: 0, key: None, tried: &[] };
    let held = view.pick(&query).picked().unwrap();
    let down = view.backends()[1].id();
    assert!(desired.observe(Time::ZERO, down, &refused(), &mut SplitMix64::new(1)).is_some());
    assert!(desired.publish());

    let events = desired.apply(Time::ZERO, &two("\"127.0.0.1:4\""));
    desired.publish();
    assert_eq!(
        events.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["backend 127.0.0.1:4 of cluster b added", "backend 127.0.0.1:3 of cluster b removed"]
    );
    let second = Arc::clone(desired.plan());
    assert_eq!((first.generation, second.generation), (1, 2));
    assert_eq!(first.clusters[1].id, second.clusters[1].id);
    assert_eq!(serving(&second, 0), ["127.0.0.1:1"], "the second is still down");
    assert_eq!(second.clusters[0].view.load().backends()[0].in_flight(), 1);
    assert_eq!(serving(&first, 1), ["127.0.0.1:4"], "an exchange on the former plan sees the present view");
    drop(held);
}

fn drained(drain: bool) -> Config {
    config(&format!(
        r#"{{"drain_timeout": 10, "backend_servers": [
            {{"host": "127.0.0.1", "port": 1, "drain": {drain}}}, {{"host": "127.0.0.1", "port": 2}}]}}"#
    ))
}

#[test]
fn a_drained_backend_gets_no_new_requests_and_its_exchanges_end_at_the_limit() {
    let at = |seconds| Time::ZERO + std::time::Duration::from_secs(seconds);
    let (mut desired, _) = Desired::new(at(0), &drained(false));
    let view = desired.plan().clusters[0].view.load_full();
    let query = Query { now: Time::ZERO, entropy: 0, key: None, tried: &[] };
    let held = view.pick(&query).picked().unwrap();
    assert_eq!(held.backend().name(), "127.0.0.1:1");

    let events = desired.apply(at(1), &drained(true));
    desired.publish();
    assert_eq!(events[0].to_string(), "backend 127.0.0.1:1 is drained: no new requests");
    assert_eq!(serving(desired.plan(), 0), ["127.0.0.1:2"]);
    let drains = desired.drains(at(2));
    assert_eq!((&*drains[0].name, drains[0].in_flight, drains[0].left.as_secs()), ("127.0.0.1:1", 1, 9));
    desired.apply(at(3), &drained(true));
    assert_eq!(desired.drains(at(4))[0].left.as_secs(), 7, "another plan does not extend the drain");
    assert!(desired.end_drains(at(10)).is_empty() && !held.backend().is_cut());
    let over = desired.end_drains(at(11));
    assert_eq!(over[0].to_string(), "the drain of backend 127.0.0.1:1 is over; LoadX ends its running exchanges (1)");
    assert!(held.backend().is_cut() && desired.drains(at(11)).is_empty());

    let events = desired.apply(at(12), &drained(false));
    assert_eq!(events[0].to_string(), "backend 127.0.0.1:1 is no longer drained");
    assert!(!held.backend().is_cut());
    desired.apply(at(13), &drained(true));
    desired.apply(at(14), &drained(false));
    assert!(desired.end_drains(at(99)).is_empty() && !held.backend().is_cut(), "the drain was cancelled");
}

#[test]
fn removed_backends_and_the_backends_of_removed_clusters_drain() {
    let at = |seconds| Time::ZERO + std::time::Duration::from_secs(seconds);
    let (mut desired, _) = Desired::new(at(0), &two("\"127.0.0.1:3\""));
    let query = Query { now: Time::ZERO, entropy: 0, key: None, tried: &[] };
    let views: Vec<_> = desired.plan().clusters.iter().map(|cluster| cluster.view.load_full()).collect();
    let held: Vec<_> = views.iter().map(|view| view.pick(&query).picked().unwrap()).collect();
    desired.apply(at(1), &config(r#"{"clusters": {"a": {"backends": ["127.0.0.1:2"]}}}"#));
    let names: Vec<_> = desired.drains(at(1)).iter().map(|drain| drain.name.to_string()).collect();
    assert_eq!(names, ["127.0.0.1:1", "127.0.0.1:3"]);
    let over: Vec<_> = desired.end_drains(at(601)).iter().map(ToString::to_string).collect();
    assert_eq!(over[1], "the drain of backend 127.0.0.1:3 of cluster b is over; LoadX ends its running exchanges (1)");
    assert!(held.iter().all(|pick| pick.backend().is_cut()));
}

#[test]
fn a_listener_keeps_its_id_by_its_address() {
    let with = |listeners: &str| {
        config(&format!(r#"{{"listeners": [{listeners}], "clusters": {{"a": {{"backends": ["127.0.0.1:1"]}}}}}}"#))
    };
    let (mut desired, _) = Desired::new(Time::ZERO, &with(r#"{"address": "127.0.0.1:1"}, {"address": "127.0.0.1:2"}"#));
    let first = Arc::clone(desired.plan());
    let other = with(r#"{"address": "127.0.0.1:3"}, {"name": "renamed", "address": "127.0.0.1:2"}"#);
    assert_eq!(desired.new_listeners(&other).map(|listener| listener.at.port).collect::<Vec<_>>(), [3]);
    desired.apply(Time::ZERO, &other);
    let second = Arc::clone(desired.plan());
    assert_eq!(second.listener(first.listeners[1].id), Some(1));
    assert_eq!(second.listener(first.listeners[0].id), None);
    assert_eq!(&*second.listeners[1].name, "renamed");
    desired.apply(Time::ZERO, &with(r#"{"address": "127.0.0.1:1"}"#));
    assert_ne!(desired.plan().listeners[0].id, first.listeners[0].id, "ids are never given out again");
}

#[test]
fn an_algorithm_may_change() {
    let with = |algorithm: &str| {
        config(&format!(r#"{{"algorithm": "{algorithm}", "backend_servers": [{{"host": "127.0.0.1", "port": 1}}]}}"#))
    };
    let (mut desired, _) = Desired::new(Time::ZERO, &with("round_robin"));
    let client = [192, 0, 2, 1].into();
    assert!(desired.plan().clusters[0].view.load().key(client).is_none());
    desired.apply(Time::ZERO, &with("ip_hash"));
    desired.publish();
    assert!(desired.plan().clusters[0].view.load().key(client).is_some());
}

#[test]
fn each_address_of_a_name_may_be_a_backend() {
    let (mut desired, _) =
        Desired::new(Time::ZERO, &config(r#"{"clusters": {"a": {"backends": ["app:80"], "resolve": "each"}}}"#));
    let name = desired.names()[0].id;
    assert_eq!(desired.names().len(), 1);
    let addresses = |list: &[&str]| NameAnswer::Addresses(list.iter().map(|at| at.parse().unwrap()).collect());
    desired.resolved(Time::ZERO, name, addresses(&["10.0.0.1:80", "10.0.0.2:80"]));
    desired.publish();
    assert_eq!(serving(desired.plan(), 0), ["app:80/10.0.0.1", "app:80/10.0.0.2"]);
    let kept = desired.plan().clusters[0].view.load().backends()[1].id();
    let events = desired.resolved(Time::ZERO, name, addresses(&["10.0.0.2:80", "10.0.0.3:80"]));
    assert_eq!(events.len(), 3, "{events:?}");
    desired.publish();
    assert_eq!(serving(desired.plan(), 0), ["app:80/10.0.0.2", "app:80/10.0.0.3"]);
    assert_eq!(desired.plan().clusters[0].view.load().backends()[0].id(), kept);
    assert!(desired.resolved(Time::ZERO, name, NameAnswer::Nowhere("gone".into())).is_empty());
    desired.publish();
    assert_eq!(serving(desired.plan(), 0).len(), 2);
}
