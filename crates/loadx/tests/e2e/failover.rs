//! Backends that stop, hang and return.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::{LoadX, Origin, TestBackend, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_backend_dies_under_load_and_no_request_fails() {
    let mut backends: Vec<TestBackend> =
        (1..=3).map(|number| TestBackend::start(&format!("backend-{number}"))).collect();
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let loadx =
        LoadX::with(&addresses, &json!({ "health_check_interval": 0.1, "workers": 2, "enable_logging": false }));
    let requests_to_first = || loadx.status()["backends"][0]["total_requests"].as_u64().unwrap();

    let bench = loadx.bench(20_000, 20, "/");
    eventually("load is under way", || (requests_to_first() > 200).then_some(()));
    backends[0].kill();
    loadx.wait_for_healthy(2);
    let results = bench.results();
    assert_eq!(results["failed"], 0, "{results}");
    assert_eq!(results["errors"], json!({}), "{results}");

    backends[0].restart();
    loadx.wait_for_healthy(3);
    let before = requests_to_first();
    assert_eq!(loadx.bench(30, 3, "/").results()["failed"], 0);
    assert_eq!(requests_to_first() - before, 10, "it serves again, its whole share");

    for backend in &mut backends {
        backend.kill();
    }
    loadx.wait_for_healthy(0);
    let response = loadx.get("/");
    assert_eq!(response.status, 503);
    assert_eq!(response.field("proxy-status"), Some("LoadX; error=destination_unavailable"));
    assert_eq!(response.json()["message"], "no backend is in rotation");
    assert_eq!(loadx.get("/__health__").status, 503);
    for backend in &mut backends {
        backend.restart();
    }
    loadx.wait_for_healthy(3);
    assert_eq!(loadx.get("/").status, 200);
    assert_eq!(loadx.get("/__health__").status, 200);
}

#[test]
fn a_backend_that_refuses_connections_is_ejected_before_the_next_probe() {
    let origin = Origin::answering(OK);
    // A port that refuses connections: bound once, and free again.
    let refusing = crate::support::unused_address();
    let loadx = LoadX::with(&[refusing, origin.address()], &json!({ "health_check_interval": 3600 }));
    for _ in 0..10 {
        assert_eq!(loadx.get("/").text(), "ok");
    }
    let status = loadx.status();
    assert_eq!(status["backends"][0]["healthy"], false);
    loadx.wait_for_log("is down");
}

#[test]
fn an_unhealthy_answer_takes_a_backend_out_and_a_healthy_one_back_in() {
    let backend = TestBackend::start_on("backend-1", 0, &["--unhealthy"]);
    let loadx = LoadX::with(&[backend.address], &json!({ "health_check_interval": 0.05 }));
    loadx.wait_for_healthy(0);
    assert_eq!(loadx.get("/").status, 503);
    let mut direct = crate::support::Client::connect(backend.address);
    assert_eq!(direct.send("POST /health/recover HTTP/1.1\r\nHost: a\r\n\r\n").response().status, 200);
    loadx.wait_for_healthy(1);
    assert_eq!(loadx.get("/").status, 200);
    loadx.wait_for_log("is down: probe failed: GET /health answered 503");
    loadx.wait_for_log("is up: probe answered 200");
}

#[test]
fn operators_see_an_open_breaker() {
    let is_broken = Arc::new(AtomicBool::new(true));
    let breaks = Arc::clone(&is_broken);
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            let broken = breaks.load(Ordering::SeqCst);
            connection.send(if broken { "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n" } else { OK });
        }
    });
    let settings = json!({
        "workers": 1, "resilience": { "retries": "off", "breaker": { "min_requests": 5, "open_time": 0.5 } },
    });
    let loadx = LoadX::with(&[origin.address()], &settings);
    let breaker = || loadx.status()["clusters"]["default"]["circuit_breaker"].as_str().unwrap().to_owned();
    assert_eq!(breaker(), "closed");
    let refused = eventually("the breaker is open", || {
        let response = loadx.get("/");
        (response.status == 503).then_some(response)
    });
    assert_eq!(refused.field("retry-after"), Some("1"));
    let message = refused.json()["message"].clone();
    assert_eq!(message, "most requests to the backends failed, and no request gets a backend; try again later");
    loadx.wait_for_log("the circuit breaker is open: 100 % of the requests failed");
    let said = loadx.ctl(&["status"]).stdout;
    assert!(said.contains("cluster default: the circuit breaker "), "{said}");
    is_broken.store(false, Ordering::SeqCst);
    eventually("the breaker is closed", || (loadx.get("/").status == 200 && breaker() == "closed").then_some(()));
    loadx.wait_for_log("the circuit breaker is closed again");
}

#[test]
fn with_hedging_another_backend_answers_for_one_that_hangs() {
    let hung = Origin::start(|connection| {
        while connection.request().is_some_and(|request| !request.starts_with("GET /late ")) {
            connection.send(OK);
        }
        connection.hold();
    });
    let other = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother");
    let settings = json!({
        "workers": 1, "request_timeout": 3_600, "algorithm": "round_robin",
        "resilience": { "outliers": "off", "retries": { "hedge": {} } },
    });
    let loadx = LoadX::with(&[hung.address(), other.address()], &settings);
    // So many that the usual time is known.
    for _ in 0..200 {
        assert_eq!(loadx.get("/").status, 200);
    }
    for _ in 0..2 {
        assert_eq!(loadx.get("/late").text(), "other");
    }
    let late = |origin: &Origin| origin.requests().into_iter().filter(|request| request.contains("/late")).collect();
    let (hung, other): (Vec<String>, Vec<String>) = (late(&hung), late(&other));
    assert!(!hung.is_empty() && hung.iter().all(|request| !request.contains("X-LoadX-Attempt")), "{hung:?}");
    let second = other.iter().filter(|request| request.contains("\r\nX-LoadX-Attempt: 2\r\n")).count();
    assert_eq!((second, other.len()), (hung.len(), 2), "{other:?}");
    let metrics = loadx.metrics();
    assert_eq!((&metrics["hedges"], &metrics["hedges_won"]), (&json!(second), &json!(second)));
}

/// An origin that closes each connection after one response, without Connection: close.
fn closing_after_each() -> Origin {
    Origin::start(|connection| {
        connection.request();
        connection.send(OK);
    })
}

#[test]
fn a_stale_idle_connection_does_not_fail_a_request() {
    let origin = closing_after_each();
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = loadx.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").response().text(), "ok");
    }
    assert_eq!(origin.requests().len(), 50);
}

#[test]
fn an_idempotent_request_with_its_whole_body_at_hand_is_sent_again() {
    let origin = closing_after_each();
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = loadx.client();
    for _ in 0..50 {
        let response = client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").response();
        assert_eq!(response.text(), "ok");
    }
    assert!(origin.requests().iter().all(|request| request.ends_with("\r\n\r\nhi")));
}

/// Behind a large upload LoadX expects another one, and reads little at first.
#[test]
fn a_small_request_behind_a_large_one_is_sent_again_whole() {
    const SMALL: usize = 20_000;
    // Ends at a small request that is not the first of its connection.
    let origin = Origin::start(|connection| {
        let mut is_first = true;
        while let Some(request) = connection.request() {
            if !is_first && request.len() < 2 * SMALL {
                return;
            }
            connection.send(OK);
            is_first = false;
        }
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "workers": 1 }));
    let mut client = loadx.client();
    let with_length = |bytes: usize| format!("Content-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{SMALL:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(SMALL));
    for small in [with_length(SMALL), chunked] {
        let before = origin.requests().len();
        for _ in 0..20 {
            for message in [&with_length(300_000), &small] {
                let response = client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{message}")).response();
                assert_eq!(response.text(), "ok");
            }
        }
        // Each small request reached the origin twice.
        assert_eq!(origin.requests().len() - before, 60);
    }
}

#[test]
fn an_idempotent_request_is_sent_again_and_a_post_never() {
    // The first connection reads a request and resets; later connections answer.
    let breaking = || {
        Origin::start(|connection| {
            // Later connections stay open: a close that comes late would cost a retry more.
            while connection.request().is_some() {
                if connection.number == 0 {
                    return connection.reset();
                }
                connection.send(OK);
            }
        })
    };
    let (first, second) = (breaking(), Origin::answering(OK));
    let loadx = LoadX::with(&[first.address(), second.address()], &json!({ "workers": 1 }));
    for _ in 0..4 {
        assert_eq!(loadx.get("/").status, 200);
    }
    assert_eq!(loadx.metrics()["retries"], 1);
    let post = breaking();
    let loadx = LoadX::before(&[post.address()]);
    let mut client = loadx.client();
    let response = client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").response();
    assert_eq!(response.status, 502);
    assert_eq!(response.json()["error"], "connection_terminated");
    assert_eq!(post.requests().len(), 1, "a POST is never sent twice");
}

#[test]
fn a_silent_backend_is_504() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.take(1);
    });
    let loadx = LoadX::with(&[origin.address()], &json!({ "request_timeout": 0.2 }));
    let response = loadx.get("/");
    assert_eq!(response.status, 504);
    assert_eq!(response.json()["error"], "http_response_timeout");
    assert_eq!(origin.requests().len(), 1, "the backend may work on the request: no other backend gets it");
}

/// Answers 500 to every request but probes.
fn failing() -> Origin {
    Origin::start(|connection| {
        while let Some(request) = connection.request() {
            let status = if request.starts_with("GET /health ") { "200 OK" } else { "500 Internal Server Error" };
            connection.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno"));
        }
    })
}

#[test]
fn a_backend_that_answers_500_is_ejected_and_clients_get_the_answers_of_another() {
    let (failing, good) = (failing(), Origin::answering(OK));
    let loadx = LoadX::with(&[failing.address(), good.address()], &json!({ "workers": 1 }));
    for _ in 0..20 {
        assert_eq!(loadx.get("/").text(), "ok");
    }
    let backend = &loadx.status()["backends"][0];
    assert_eq!((&backend["state"], &backend["healthy"]), (&json!("ejected"), &json!(false)));
    assert_eq!(backend["reason"], "5 requests in a row failed, the last: answered 500");
    assert!(backend["ejected_seconds_left"].as_f64().unwrap() <= 10.0, "{backend}");
    loadx.wait_for_log("is ejected for 10 s: 5 requests in a row failed, the last: answered 500");
    let sent: Vec<String> = failing.requests().into_iter().filter(|request| !request.contains("/health ")).collect();
    // Control needs a moment to eject the backend.
    assert!((5..10).contains(&sent.len()), "{}", sent.len());
    let again: Vec<String> =
        good.requests().into_iter().filter(|request| request.contains("X-LoadX-Attempt: 2")).collect();
    assert_eq!(again.len(), sent.len(), "the backend learns that the request comes again");
    assert_eq!(loadx.metrics()["retries"], sent.len());
}

#[test]
fn a_500_is_passed_on_when_no_other_backend_may_answer() {
    let (first, second) = (failing(), failing());
    let loadx = LoadX::with(&[first.address(), second.address()], &json!({ "workers": 1 }));
    let response = loadx.get("/");
    assert_eq!(
        (response.status, response.text().as_str()),
        (500, "no"),
        "the response of the backend, not LoadX's own"
    );
    let mut client = loadx.client();
    let response =
        client.send("POST / HTTP/1.1\r\nHost: a\r\nX-LoadX-Attempt: 9\r\nContent-Length: 0\r\n\r\n").response();
    assert_eq!(response.status, 500);
    let all = [first.requests(), second.requests()].concat();
    let posts: Vec<&String> = all.iter().filter(|request| request.starts_with("POST")).collect();
    assert_eq!(posts.len(), 1, "a POST is not sent again");
    assert!(!posts[0].to_lowercase().contains("x-loadx-attempt"), "the number of a client is removed");
}

#[test]
fn a_connection_that_breaks_within_the_head_of_a_response_lets_another_backend_answer() {
    let breaking = Origin::start(|connection| {
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\nContent-");
        connection.reset();
    });
    let good = Origin::answering(OK);
    let settings = json!({ "workers": 1, "health_check_interval": 3600 });
    let loadx = LoadX::with(&[breaking.address(), good.address()], &settings);
    for _ in 0..4 {
        assert_eq!(loadx.get("/").text(), "ok");
    }
}

#[test]
fn the_config_decides_what_is_sent_again() {
    let (first, second) = (failing(), Origin::answering(OK));
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let with = |resilience| {
        let settings = json!({ "workers": 1, "resilience": resilience });
        LoadX::with(&[first.address(), second.address()], &settings)
    };
    let loadx = with(json!({ "retries": { "non_idempotent": true } }));
    assert_eq!(loadx.client().send(post).response().status, 200);
    let failed_of = |loadx: &LoadX, count| (0..count).filter(|_| loadx.get("/").status == 500).count();
    assert_eq!(failed_of(&with(json!({ "retries": { "statuses": [404] } })), 4), 2);
    assert_eq!(failed_of(&with(json!({ "retries": { "budget_percent": 0, "budget_per_second": 0 } })), 4), 2);
    assert_eq!(failed_of(&with(json!("off")), 20), 10, "nothing is ejected");
}
