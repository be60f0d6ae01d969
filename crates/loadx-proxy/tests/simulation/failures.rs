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
