//! Runs, compared with queueing theory and with the behaviour of the proxy.

use super::*;
use crate::{BackendModel, Outage, Service};
use loadx_core::{Algorithm, AttemptPolicy, BackendSpec, HealthPolicy, HedgePolicy, KeyPrefixes};

fn scenario(algorithm: Algorithm, backends: usize, parallel: usize, rate: f64) -> Scenario {
    let model = |index: usize| BackendModel {
        spec: BackendSpec::new("backend", 8_001 + index as u16),
        service: Duration::from_millis(10),
        distribution: Service::Exponential,
        parallel,
    };
    Scenario {
        algorithm,
        health: HealthPolicy::default(),
        attempt: AttemptPolicy {
            connect: Duration::from_secs(5),
            response: Duration::from_secs(30),
            exchange: None,
            retry_grpc: <_>::default(),
            retry: <_>::default(),
        },
        limits: <_>::default(),
        hedge: None,
        max_connections: usize::MAX,
        backends: (0..backends).map(model).collect(),
        rate,
        duration: Duration::from_secs(2_000),
        clients: 10_000,
        outages: Vec::new(),
        seed: 42,
    }
}

fn mean_ms(scenario: &Scenario) -> f64 {
    simulate(scenario).unwrap().latency.mean.as_secs_f64() * 1_000.0
}

#[test]
fn one_server_agrees_with_the_m_m_1_queue() {
    // M/M/1 at 80 %: 1 / (100/s - 80/s) = 50 ms.
    let mean = mean_ms(&scenario(Algorithm::RoundRobin, 1, 1, 80.0));
    assert!((mean - 50.0).abs() < 2.5, "{mean}");
}

#[test]
fn four_servers_agree_with_erlang_c() {
    // M/M/4 at 80 %: Erlang C is 0.5964, so 10 ms + 0.5964 / (400/s - 320/s) = 17.46 ms.
    let mean = mean_ms(&scenario(Algorithm::RoundRobin, 1, 4, 320.0));
    assert!((mean - 17.46).abs() < 0.5, "{mean}");
}

#[test]
fn least_connections_beats_round_robin_where_service_times_vary() {
    let by = |algorithm| mean_ms(&scenario(algorithm, 4, 1, 320.0));
    let (least, turns, hashed) =
        (by(Algorithm::LeastConnections), by(Algorithm::RoundRobin), by(Algorithm::IpHash(KeyPrefixes::default())));
    assert!(least < 0.8 * turns, "{least} {turns}");
    assert!(turns < hashed, "{turns} {hashed}");
}

#[test]
fn a_seed_replays_to_the_last_request() {
    let scenario = Scenario { duration: Duration::from_secs(60), ..scenario(Algorithm::LeastConnections, 3, 2, 200.0) };
    assert_eq!(simulate(&scenario), simulate(&scenario));
    assert_ne!(simulate(&scenario), simulate(&Scenario { seed: 43, ..scenario.clone() }));
}

#[test]
fn an_outage_costs_no_request_while_others_are_there() {
    let outage = Outage { backend: 1, from: Duration::from_secs(20), until: Duration::from_secs(40) };
    let scenario = Scenario {
        duration: Duration::from_secs(80),
        outages: vec![outage],
        ..scenario(Algorithm::RoundRobin, 3, 8, 300.0)
    };
    let report = simulate(&scenario).unwrap();
    assert_eq!(report.failed, 0);
    let told: Vec<&str> = report.timeline.iter().map(|entry| entry.what.as_str()).collect();
    assert_eq!(
        told,
        [
            "backend backend:8002 stops",
            "backend backend:8002 is down: cannot connect: connection refused",
            "backend backend:8002 starts",
            "backend backend:8002 is up: probe answered 200",
        ]
    );
    let back = report.timeline[3].at.as_secs_f64();
    assert!(back > 40.0 && back < 43.0, "two good probes, a second apart: {back}");
}

#[test]
fn requests_without_a_backend_count_as_failed() {
    let outage = Outage { backend: 0, from: Duration::from_secs(1), until: Duration::from_secs(5) };
    let scenario = Scenario {
        duration: Duration::from_secs(10),
        outages: vec![outage],
        ..scenario(Algorithm::RoundRobin, 1, 8, 100.0)
    };
    let report = simulate(&scenario).unwrap();
    assert!(report.failed > 300 && report.failed < 700, "{}", report.failed);
    assert_eq!(report.backends[0].answered + report.failed, report.requests);
}

#[test]
fn invalid_scenarios_are_refused() {
    let good = scenario(Algorithm::RoundRobin, 1, 1, 1.0);
    assert_eq!(
        simulate(&Scenario { rate: f64::NAN, ..good.clone() }).unwrap_err().to_string(),
        "the rate is NaN; the rate must be a positive number of requests per second"
    );
    assert_eq!(simulate(&Scenario { backends: Vec::new(), ..good.clone() }), Err(ScenarioError::NoBackends));
    assert!(simulate(&Scenario { rate: 1e9, ..good }).is_err());
}

#[test]
fn every_algorithm_gets_the_same_arrivals_and_services() {
    let of = |algorithm| {
        let long = Scenario { duration: Duration::from_secs(60), ..scenario(algorithm, 3, 1_000, 200.0) };
        simulate(&long).unwrap()
    };
    let (turns, hashed) = (of(Algorithm::RoundRobin), of(Algorithm::IpHash(KeyPrefixes::default())));
    // No request waits, so that only arrivals and service times decide on the response times.
    assert_eq!((turns.requests, turns.latency), (hashed.requests, hashed.latency));
}

#[test]
fn a_backend_that_answers_too_late_fails_the_request_as_the_proxy_does() {
    let mut late = Scenario { duration: Duration::from_secs(10), ..scenario(Algorithm::RoundRobin, 2, 1_000, 20.0) };
    late.attempt.response = Duration::from_millis(50);
    for backend in &mut late.backends {
        backend.distribution = Service::Fixed;
        backend.service = Duration::from_millis(70);
    }
    let report = simulate(&late).unwrap();
    assert_eq!(report.failed, report.requests);
    // 10 s, for each second of which the budget has three retries, and what it kept before.
    assert!((30..=30 + 50).contains(&report.retries), "the budget limits the retries: {}", report.retries);
    assert_eq!(report.failures, BTreeMap::from([(504, report.requests)]));
    late.attempt.response = Duration::from_millis(71);
    assert_eq!(simulate(&late).unwrap().failed, 0);
}

#[test]
fn an_exchange_that_takes_too_long_fails() {
    let mut slow = Scenario { duration: Duration::from_secs(10), ..scenario(Algorithm::RoundRobin, 1, 1, 200.0) };
    slow.attempt.exchange = Some(Duration::from_millis(500));
    let report = simulate(&slow).unwrap();
    assert!(report.failures[&504] > 100, "{:?}", report.failures);
    assert!(report.latency.max <= Duration::from_millis(501), "{:?}", report.latency.max);
}

#[test]
fn clients_beyond_the_bound_wait_for_a_connection() {
    let bounded = Scenario { max_connections: 1, ..scenario(Algorithm::RoundRobin, 1, 4, 80.0) };
    // One connection in front of four servers is one server: M/M/1 at 80 %, as above.
    let mean = mean_ms(&bounded);
    assert!((mean - 50.0).abs() < 2.5, "{mean}");
    assert_eq!(simulate(&bounded).unwrap().backends[0].most_at_once, 1);
}

#[test]
fn demand_above_capacity_gives_a_warning() {
    let much = Scenario { duration: Duration::from_secs(2), ..scenario(Algorithm::RoundRobin, 2, 1, 250.0) };
    let warnings = simulate(&much).unwrap().warnings;
    assert_eq!(
        warnings,
        ["250 requests/s arrive, and the backends can serve 200: waiting times grow for as long as requests arrive"]
    );
    let enough = Scenario { duration: Duration::from_secs(2), ..scenario(Algorithm::RoundRobin, 2, 1, 150.0) };
    assert!(simulate(&enough).unwrap().warnings.is_empty());
}

#[test]
fn hedging_shortens_the_longest_times_within_the_budget() {
    let plain = Scenario { duration: Duration::from_secs(200), ..scenario(Algorithm::RoundRobin, 3, 100, 100.0) };
    let hedged = Scenario { hedge: Some(HedgePolicy::default()), ..plain.clone() };
    let (plain, hedged) = (simulate(&plain).unwrap(), simulate(&hedged).unwrap());
    // Without hedging 99 % of the exponential times are below 46 ms. With it, a second time begins at 30 ms.
    assert!(plain.latency.p99 > Duration::from_millis(44), "{:?}", plain.latency.p99);
    assert!(hedged.latency.p99 < plain.latency.p99 * 9 / 10, "{:?} {:?}", hedged.latency.p99, plain.latency.p99);
    assert!(hedged.retries > 0 && hedged.retries < hedged.requests / 10, "{} of {}", hedged.retries, hedged.requests);
    assert_eq!((plain.retries, hedged.failed), (0, 0));
}

#[test]
fn requests_beyond_the_limits_wait_in_turn_or_are_refused() {
    let mut crowded = Scenario { duration: Duration::from_secs(20), ..scenario(Algorithm::RoundRobin, 3, 10, 1_800.0) };
    for backend in &mut crowded.backends {
        (backend.distribution, backend.service) = (Service::Fixed, Duration::from_millis(50));
    }
    crowded.limits.per_backend = Some(loadx_core::BackendLimit::Fixed(10));
    let report = simulate(&crowded).unwrap();
    let served = report.requests - report.failed;
    assert!(served > 600 * 20 * 95 / 100, "{served} were served");
    assert_eq!(report.failures, BTreeMap::from([(503, report.failed)]));
    assert!(report.backends.iter().all(|backend| backend.most_at_once == 10));
    assert!(report.latency.p99 < Duration::from_millis(150), "{:?}", report.latency.p99);
    let calm = Scenario { rate: 300.0, ..crowded };
    assert_eq!(simulate(&calm).unwrap().failed, 0);
}
