//! The whole proxy, its backends and its clients in one thread, in virtual time, on a network whose faults follow from
//! a seed. The tests check that each response reaches the client that sent the request, complete and unchanged or
//! visibly truncated; that LoadX retries only requests that may be retried; and that no connection is left at the end.
//!
//! A failure prints its seed. `LOADX_SEED=n cargo test -p loadx-proxy --test simulation` runs one seed, `LOADX_SEEDS=n`
//! runs the seeds 0 to n - 1.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod client;
mod conditions;
mod failing_backends;
mod failures;
mod h2_client;
mod h2_origin;
mod h2_silence;
mod h2_wire;
mod idle;
mod network;
mod origin;
mod overload;
mod plan;
mod scenario;
mod stream;
mod tls;
mod wire;

use std::panic::catch_unwind;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

#[test]
fn every_seed_runs_without_violations() {
    if let Some(seed) = number("LOADX_SEED") {
        println!("seed {seed}: {:?}", scenario::run(seed));
        return;
    }
    let mut all = std::collections::BTreeMap::new();
    for seed in 0..number("LOADX_SEEDS").unwrap_or(100) {
        match catch_unwind(|| scenario::run(seed)) {
            Ok(outcome) => {
                for (verdict, count) in outcome.verdicts {
                    *all.entry(verdict).or_insert(0) += count;
                }
            }
            Err(_) => panic!(
                "seed {seed} failed; to run the seed again: LOADX_SEED={seed} cargo test -p loadx-proxy --test simulation"
            ),
        }
    }
    println!("{all:?}");
}

#[test]
fn every_seed_runs_over_tls_without_violations() {
    if let Some(seed) = number("LOADX_SEED") {
        println!("seed {seed}: {:?}", scenario::run_over_tls(seed));
        return;
    }
    for seed in 0..number("LOADX_SEEDS").unwrap_or(24) {
        assert!(catch_unwind(|| scenario::run_over_tls(seed)).is_ok(), "seed {seed} failed over TLS");
    }
}

#[test]
fn every_seed_runs_over_http_2_without_violations() {
    if let Some(seed) = number("LOADX_SEED") {
        println!("seed {seed}: {:?}", scenario::run_over_h2(seed));
        return;
    }
    let mut all = std::collections::BTreeMap::new();
    for seed in 0..number("LOADX_SEEDS").unwrap_or(60) {
        match catch_unwind(|| scenario::run_over_h2(seed)) {
            Ok(outcome) => {
                for (verdict, count) in outcome.verdicts {
                    *all.entry(verdict).or_insert(0) += count;
                }
            }
            Err(_) => panic!("seed {seed} failed over HTTP/2"),
        }
    }
    println!("{all:?}");
}

#[test]
fn every_seed_runs_with_backends_of_http_2_without_violations() {
    if let Some(seed) = number("LOADX_SEED") {
        println!("seed {seed}: {:?}", scenario::run_before_h2(seed));
        return;
    }
    let mut all = std::collections::BTreeMap::new();
    for seed in 0..number("LOADX_SEEDS").unwrap_or(60) {
        match catch_unwind(|| scenario::run_before_h2(seed)) {
            Ok(outcome) => {
                for (verdict, count) in outcome.verdicts {
                    *all.entry(verdict).or_insert(0) += count;
                }
            }
            Err(_) => panic!("seed {seed} failed with backends of HTTP/2"),
        }
    }
    println!("{all:?}");
}

#[test]
fn a_backend_that_answers_no_ping_costs_no_request() {
    use std::time::Duration;
    // The PING goes out with the request if the connection was silent for long, otherwise after 10 s.
    let soon = h2_silence::second_request_after(Duration::from_secs(5));
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&soon), "{soon:?}");
    let later = h2_silence::second_request_after(Duration::from_millis(500));
    assert!((Duration::from_secs(14)..Duration::from_secs(16)).contains(&later), "{later:?}");
}

#[test]
fn a_client_that_is_gone_without_a_sign_loses_its_exchange() {
    use std::time::Duration;
    let (held, _) = h2_silence::exchange_of_a_silent_client(false);
    assert!((Duration::from_secs(79)..Duration::from_secs(82)).contains(&held), "{held:?}");
    let (held, pings) = h2_silence::exchange_of_a_silent_client(true);
    assert_eq!((held, pings), (Duration::from_secs(180), 2));
}

#[test]
fn a_backend_that_speaks_before_it_is_asked_is_not_believed() {
    let stray = "HTTP/1.1 200 OK\r\nX-Id: stray\r\nContent-Length: 0\r\n\r\n";
    // With these seeds, every request must get its planned response.
    for seed in (0..80).step_by(4) {
        scenario::run_with(seed, |net| net.greet(scenario::BACKEND.parse().unwrap(), stray));
    }
}

#[test]
fn a_seed_determines_the_run() {
    for seed in [1, 2, 3, 7] {
        assert_eq!(scenario::run(seed), scenario::run(seed), "seed {seed}");
        assert_eq!(scenario::run_over_h2(seed), scenario::run_over_h2(seed), "seed {seed} over HTTP/2");
        assert_eq!(scenario::run_before_h2(seed), scenario::run_before_h2(seed), "seed {seed} before HTTP/2");
    }
}
