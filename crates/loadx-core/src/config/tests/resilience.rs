//! The keys of `health` and `resilience` of a cluster.

use super::{faults, parse};
use crate::config::ClusterConfig;
use crate::{BackendLimit, BreakerPolicy, HealthPolicy, HedgePolicy, HttpProbe, Probe, ProbeMethod, StatusRanges};
use std::time::Duration;

fn cluster(keys: &str) -> String {
    format!(r#"{{"clusters": {{"a": {{"backends": ["h:1"], {keys}}}}}}}"#)
}

fn config_of(keys: &str) -> ClusterConfig {
    parse(&cluster(keys)).unwrap().clusters.remove(0)
}

fn fault_of(keys: &str) -> String {
    let mut faults = faults(&cluster(keys));
    assert_eq!(faults.len(), 1, "{keys}: {faults:?}");
    faults.remove(0)
}

#[test]
fn a_probe_of_http_has_all_parts_of_a_request() {
    let health = config_of(
        r#""health": {"path": "/up", "method": "HEAD", "host": "App.internal:81", "headers": {"X-A": "1"},
            "statuses": [204, "300-302"], "port": 9000, "fast_interval": 0.2, "start": "down"}"#,
    )
    .health;
    let probe = HttpProbe {
        method: ProbeMethod::Head,
        path: "/up".into(),
        host: Some("app.internal:81".into()),
        fields: vec![("X-A".into(), "1".into())],
        accepts: StatusRanges(vec![(204, 204), (300, 302)]),
        content: None,
    };
    let expected = HealthPolicy {
        probe: Probe::Http(Box::new(probe)),
        port: Some(9_000),
        fast_interval: Duration::from_millis(200),
        starts_up: false,
        ..HealthPolicy::default()
    };
    assert_eq!(health, expected);
}

#[test]
fn keys_of_health_that_do_not_go_together_are_faults() {
    for (health, told) in [
        (r#"{"probe": "tcp", "path": "/a"}"#, "\"path\" belongs to a probe of HTTP"),
        (r#"{"probe": "off", "start": "down"}"#, "\"start\": \"down\" waits for a good probe, and there are no probes"),
        (r#"{"method": "HEAD", "body": "ok"}"#, "\"body\" asks for content, and responses to HEAD have none"),
        (r#"{"method": "PUT"}"#, "cannot be \"PUT\""),
        (r#"{"headers": {"Host": "a"}}"#, "\"headers\" cannot have Host"),
        (r#"{"headers": {"Connection": "a"}}"#, "\"Connection\" cannot be changed"),
        (r#"{"headers": {"X-A": "1", "x-a": "2"}}"#, "are the same field"),
        (r#"{"statuses": []}"#, "\"statuses\" is empty"),
        (r#"{"statuses": ["300-200"]}"#, "neither a status from 200 to 599 nor a range"),
        (r#"{"statuses": [1000]}"#, "neither a status from 200 to 599 nor a range"),
        (r#"{"statuses": [true]}"#, "must be a status such as 200, or a range"),
        (r#"{"interval": 1, "fast_interval": 2}"#, "\"fast_interval\" is longer than \"interval\""),
    ] {
        let fault = fault_of(&format!(r#""health": {health}"#));
        assert!(fault.contains(told), "{health}: {fault}");
    }
}

#[test]
fn limits_breaker_and_hedge_have_their_values() {
    let config = config_of(
        r#""resilience": {"limits": {"requests_per_backend": "auto", "requests": 70}, "breaker": {"open_time": 2},
            "retries": {"hedge": {"percentile": 99}}}"#,
    );
    assert_eq!((config.limits.per_backend, config.limits.per_cluster), (Some(BackendLimit::Adaptive), Some(70)));
    let breaker = BreakerPolicy { open: Duration::from_secs(2), ..BreakerPolicy::default() };
    assert_eq!(config.health.breaker, Some(breaker));
    assert_eq!(config.hedge, Some(HedgePolicy { percentile: 99, ..HedgePolicy::default() }));
    let config = config_of(r#""resilience": {"limits": {"requests_per_backend": 3}}"#);
    assert_eq!((config.limits.per_backend, config.limits.per_cluster), (Some(BackendLimit::Fixed(3)), None));
    for (resilience, told) in [
        (r#"{"limits": {"queue": 3}}"#, "neither \"requests_per_backend\" nor \"requests\": nothing is limited"),
        (r#"{"limits": {"requests_per_backend": "all"}}"#, "must be a whole number from 1 to 1000000, or \"auto\""),
        (r#"{"limits": {"requests_per_backend": 0}}"#, "must be a whole number from 1 to 1000000, or \"auto\", not 0"),
        (r#"{"retries": {"hedge": {"percentile": 100}}}"#, "must be a whole number from 50 to 99"),
        (r#"{"breaker": true}"#, "must be an object"),
    ] {
        let fault = fault_of(&format!(r#""resilience": {resilience}"#));
        assert!(fault.contains(told), "{resilience}: {fault}");
    }
}
