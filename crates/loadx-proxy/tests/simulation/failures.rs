//! What clients notice of a backend that fails, and what the backends get.

use std::time::Duration;

use serde_json::json;

use crate::failing_backends::{LOAD, Manner, REQUESTS, Run, Told};

fn one_is(manner: Manner) -> Told {
    Run::of([Manner::Good, manner, Manner::Good]).told()
}

/// After the fault the backend has its share again: the second ejection, of 20 s, began in the fault.
fn assert_returns(told: &Told) {
    let there = told.reached_between(1, 35, 40);
    assert!((160..175).contains(&there), "{there} requests");
}

#[test]
fn a_silent_backend_costs_idempotent_requests_two_seconds() {
    let told = one_is(Manner::Silent);
    assert_eq!(told.failed(), 0);
    assert!(told.worst() < Duration::from_millis(2_100), "{:?}", told.worst());
    assert!(told.reached_between(1, 3, 11) == 0, "the backend is out of rotation");
    assert_returns(&told);
}

#[test]
fn requests_leave_a_host_that_vanished_when_a_connect_times_out() {
    let told = one_is(Manner::Vanishes);
    assert_eq!(told.failed(), 0);
    assert!(told.worst() < Duration::from_millis(1_200), "{:?}", told.worst());
    assert!(told.reached_between(1, 3, 20) == 0);
    assert_returns(&told);
}

#[test]
fn with_hedging_few_clients_wait_for_a_response_that_is_late() {
    let hedged = json!({ "retries": { "hedge": { "percentile": 90, "min_delay": 0.02 } } });
    let without = Run::of([Manner::Stalls; 3]).told();
    assert!(without.p99() > Duration::from_millis(400), "the test can fail: {:?}", without.p99());
    let with = Run { resilience: hedged.clone(), ..Run::of([Manner::Stalls; 3]) }.told();
    assert_eq!(with.failed(), 0);
    assert!(with.p99() < Duration::from_millis(50), "{:?}", with.p99());
    let again = with.reached_in_all() - REQUESTS;
    assert!((60..=100).contains(&again), "{again} of 80 late responses were asked for again");
    let marked = with.reached.iter().flatten().filter(|(_, attempt)| attempt.as_deref() == Some("2")).count();
    assert_eq!(marked, again, "each second attempt has its number");
    let post = Run { method: "POST", resilience: hedged, ..Run::of([Manner::Stalls; 3]) }.told();
    assert_eq!(post.reached_in_all(), REQUESTS, "no request that may not be sent twice was sent twice");
}

#[test]
fn hedging_hides_no_backend_that_hangs() {
    let hedged = json!({ "retries": { "hedge": {}, "budget_percent": 50 } });
    let told = Run { resilience: hedged, ..Run::of([Manner::Good, Manner::HangsLater, Manner::Good]) }.told();
    assert_eq!(told.failed(), 0);
    assert_eq!(told.reached_between(1, 9, 16), 0, "the backend is out of rotation");
}

#[test]
fn hedging_stays_within_the_budget() {
    let hedged = json!({ "retries": {
        "hedge": { "percentile": 50, "min_delay": 0.01 }, "budget_percent": 5, "budget_per_second": 1,
    } });
    let told = Run { resilience: hedged, ..Run::of([Manner::Slow; 3]) }.told();
    assert_eq!(told.failed(), 0);
    let again = told.reached_in_all() - REQUESTS;
    // 5 % of 100 requests or one a second, for 40 s, and what the budget kept at the start.
    assert!((50..=5 * 40 + 60).contains(&again), "{again}");
}

#[test]
fn an_open_breaker_means_no_traffic() {
    let resilience = json!({ "breaker": { "open_time": 5 }, "retries": "off" });
    let told = Run { resilience, ..Run::of([Manner::Fails(10); 3]) }.told();
    // Open from the first second on; after each 5 s five requests try, and the breaker opens again.
    let in_fault: usize = (0..3).map(|backend| told.reached_between(backend, 2, 20)).sum();
    assert!((5..=20).contains(&in_fault), "{in_fault} requests reached the backends");
    let between: usize = (0..3).map(|backend| told.reached_between(backend, 2, 5)).sum();
    assert_eq!(between, 0, "no request reached a backend while the breaker was open");
    let after: usize = (0..3).map(|backend| told.reached_between(backend, 30, 40)).sum();
    assert!((950..=1_001).contains(&after), "{after} of the last 1,000 requests: the breaker is closed again");
}

#[test]
fn a_breaker_closes_again_although_requests_wait_at_the_limits() {
    let limits = json!({ "requests_per_backend": 2 });
    let resilience = json!({ "breaker": { "open_time": 1 }, "retries": "off", "outliers": "off", "limits": limits });
    let told = Run { resilience, ..Run::of([Manner::FailsSlowly; 3]) }.told();
    let after: usize = (0..3).map(|backend| told.reached_between(backend, 30, 40)).sum();
    assert!((950..=1_001).contains(&after), "{after} of the last 1,000 requests");
}

#[test]
fn a_second_attempt_that_fails_does_not_win() {
    let hedged = json!({ "outliers": "off", "retries": { "hedge": { "percentile": 60, "min_delay": 0.01 } } });
    let told = Run { resilience: hedged, ..Run::of([Manner::Stalls, Manner::Fails(3), Manner::Stalls]) }.told();
    assert_eq!(told.failed(), 0, "a late success is better than a quick failure");
}

#[test]
fn a_request_that_is_not_idempotent_reaches_one_backend_only() {
    let told = Run { method: "POST", ..Run::of([Manner::Good, Manner::BreaksHead, Manner::Good]) }.told();
    assert_eq!(told.reached_in_all(), REQUESTS, "no request was sent again");
    let failed = told.failed();
    assert!((5..=20).contains(&failed), "{failed} requests failed before the backend was ejected");
}

#[test]
fn a_backend_that_answers_500_is_ejected_and_no_client_notices() {
    for manner in [Manner::Fails(10), Manner::BreaksHead] {
        let told = one_is(manner);
        assert_eq!(told.failed(), 0, "{manner:?}");
        assert!(told.reached_between(1, 1, 9) == 0, "{manner:?}");
        assert_returns(&told);
        let again = told.reached[0].iter().chain(&told.reached[2]).filter(|(_, attempt)| attempt.is_some());
        assert!(again.clone().all(|(_, attempt)| attempt.as_deref() == Some("2")), "{manner:?}");
        assert_eq!(again.count(), told.reached_in_all() - REQUESTS, "{manner:?}: each further attempt has its number");
    }
}

#[test]
fn a_backend_that_fails_three_requests_of_ten_is_ejected() {
    let told = one_is(Manner::Fails(3));
    assert_eq!(told.failed(), 0);
    assert!(told.reached_between(1, 3, 10) == 0);
}

#[test]
fn a_backend_that_breaks_every_third_body_leaves() {
    let told = one_is(Manner::BreaksThirdBody);
    let failed = told.failed();
    assert!(failed > 0 && failed < 40, "{failed} requests failed");
    assert!(told.reached_between(1, 3, 10) == 0);
    assert_returns(&told);
}

#[test]
fn a_slow_backend_is_ejected() {
    let told = one_is(Manner::Slow);
    let slow = told.fates.iter().filter(|fate| fate.took > Duration::from_millis(50)).count();
    assert!(slow < 100, "{slow} requests were slow");
    assert!(told.reached_between(1, 3, 10) == 0);
    assert_returns(&told);
}

#[test]
fn a_fault_of_all_backends_is_not_multiplied() {
    let told = Run::of([Manner::Fails(10); 3]).told();
    assert_eq!(told.failed(), REQUESTS / 2, "all responses of the first 20 s are 500, and none later");
    let again = told.reached_in_all() - REQUESTS;
    // 20 % of 100 requests for 20 s, and what the budget kept at the start.
    assert!(again <= 400 + 30, "{again} requests were sent again");
    for backend in 0..3 {
        assert!(told.reached_between(backend, 10, 20) > 250, "no backend was ejected");
    }
}

#[test]
fn with_resilience_off_every_failure_reaches_the_client() {
    let told = Run { resilience: json!("off"), ..Run::of([Manner::Good, Manner::Fails(10), Manner::Good]) }.told();
    let share = REQUESTS / 2 / 3;
    assert!(told.failed().abs_diff(share) <= 1, "{} of {LOAD:?}", told.failed());
    assert_eq!(told.reached_in_all(), REQUESTS);
}
