//! More requests than the backends can serve.
//!
//! Three backends serve ten requests at a time, each in 50 ms: 600 requests per second.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use loadx_proxy::{Listener as _, Network as _, start_local};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until};

use crate::conditions::Conditions;
use crate::network::SimNet;
use crate::scenario::in_virtual_time;
use crate::wire::{End, Framing, Wire, send};

const PARALLEL: usize = 10;
const SERVICE: Duration = Duration::from_millis(50);
const CAPACITY: usize = 3 * PARALLEL * 20;

/// The longest wait of an overloaded queue.
const QUEUE_BOUND: Duration = Duration::from_millis(50);

/// Requests of one client.
#[derive(Copy, Clone, Debug)]
struct Source {
    client: u8,
    per_second: usize,
    from: Duration,
    until: Duration,
    /// How often a request comes again at once after a 503.
    retries: u32,
}

/// What became of one request of a client, retries included.
#[derive(Clone, Debug)]
struct Fate {
    client: u8,
    at: Duration,
    took: Duration,
    status: u16,
    has_retry_after: bool,
}

fn run(limits: Option<Value>, sources: &[Source]) -> Vec<Fate> {
    in_virtual_time(async {
        let net = SimNet::new(1, Conditions::good());
        let backends: Vec<SocketAddr> = (1..=3).map(|host| SocketAddr::from(([10, 0, 1, host], 80))).collect();
        for at in &backends {
            tokio::task::spawn_local(backend(net.clone(), *at));
        }
        let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
        let mut config = json!({
            "proxy_host": "10.0.0.1", "workers": 2, "enable_logging": false, "max_connections": 100_000,
            "clusters": { "web": { "backends": backends, "health": { "probe": "off" } } },
        });
        if let Some(limits) = limits {
            config["resilience"] = json!({ "limits": limits, "retries": "off" });
        }
        let config = loadx_core::config::parse(&config.to_string()).unwrap();
        let proxy = start_local(&config, &net, 1, &<_>::default()).await.unwrap();
        let began = Instant::now();
        let fates = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = Vec::new();
        for source in sources {
            tasks.push(tokio::task::spawn_local(load(net.clone(), *source, began, Rc::clone(&fates))));
        }
        for task in tasks {
            task.await.unwrap();
        }
        // The last requests.
        sleep(Duration::from_secs(40)).await;
        proxy.stop().await;
        fates.take()
    })
}

async fn load(net: SimNet, source: Source, began: Instant, fates: Rc<RefCell<Vec<Fate>>>) {
    let count = (source.until - source.from).as_millis() as usize * source.per_second / 1_000;
    for number in 0..count {
        let at = source.from + Duration::from_secs(1) * number as u32 / source.per_second as u32;
        sleep_until(began + at).await;
        let (net, fates) = (net.clone(), Rc::clone(&fates));
        let from = SocketAddr::from(([10, 0, 2, source.client], 1_024 + (number % 60_000) as u16));
        tokio::task::spawn_local(async move {
            let begins = Instant::now();
            let mut answer = (503, false);
            for _ in 0..=source.retries {
                answer = request(&net, from).await;
                if answer.0 != 503 {
                    break;
                }
            }
            let (status, has_retry_after) = answer;
            let fate = Fate { client: source.client, at, took: begins.elapsed(), status, has_retry_after };
            fates.borrow_mut().push(fate);
        });
    }
}

async fn request(net: &SimNet, from: SocketAddr) -> (u16, bool) {
    let stream = net.connect_from(from, "10.0.0.1:8080".parse().unwrap()).await.unwrap();
    let mut wire = Wire::new(stream);
    let _ = send(&wire.stream, b"GET / HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n").await;
    let Ok(head) = wire.head().await else { return (0, false) };
    wire.body(head.framing().unwrap_or(Framing::Length(0))).await;
    (head.status(), head.field("retry-after").is_some())
}

async fn backend(net: SimNet, at: SocketAddr) {
    let listener = net.adopt(net.listen(at, 1).unwrap().remove(0)).unwrap();
    let places = Rc::new(Semaphore::new(PARALLEL));
    loop {
        let Ok((stream, _)) = poll_fn(|cx| listener.poll_accept(cx)).await else { continue };
        tokio::task::spawn_local(serve(Wire::new(stream), Rc::clone(&places)));
    }
}

async fn serve(mut wire: Wire, places: Rc<Semaphore>) -> Result<(), End> {
    loop {
        wire.head().await?;
        let place = places.acquire().await.unwrap();
        sleep(SERVICE).await;
        drop(place);
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        send(&wire.stream, response).await.map_err(|()| End::Broken)?;
    }
}

fn quantile(mut times: Vec<Duration>, quantile: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * quantile) as usize]
}

fn served(fates: &[Fate]) -> Vec<&Fate> {
    fates.iter().filter(|fate| fate.status == 200).collect()
}

fn fixed() -> Option<Value> {
    Some(json!({ "requests_per_backend": PARALLEL }))
}

const LASTS: Duration = Duration::from_secs(8);

fn source(client: u8, per_second: usize) -> Source {
    Source { client, per_second, from: Duration::ZERO, until: LASTS, retries: 0 }
}

#[test]
fn three_times_the_capacity_is_served_at_capacity_and_the_rest_refused_at_once() {
    let after = Source { from: LASTS, until: LASTS + Duration::from_secs(3), ..source(100, CAPACITY / 2) };
    let sources: Vec<Source> = (0..20).map(|client| source(client, 3 * CAPACITY / 20)).chain([after]).collect();
    let all = run(fixed(), &sources);
    let (later, during): (Vec<Fate>, Vec<Fate>) = all.into_iter().partition(|fate| fate.client == 100);
    let wanted = CAPACITY * LASTS.as_secs() as usize;
    let good = served(&during);
    assert!(good.len() * 100 >= wanted * 95, "{} of {wanted} were served", good.len());
    // Without the first moments, in which the queue takes its time.
    let steady: Vec<&&Fate> = good.iter().filter(|fate| fate.at > Duration::from_secs(2)).collect();
    let p99 = quantile(steady.iter().map(|fate| fate.took).collect(), 0.99);
    assert!(p99 < 2 * SERVICE + QUEUE_BOUND, "{p99:?}");
    let refused: Vec<&Fate> =
        during.iter().filter(|fate| fate.status == 503 && fate.at > Duration::from_secs(2)).collect();
    assert!(refused.iter().all(|fate| fate.has_retry_after));
    let slowest = quantile(refused.iter().map(|fate| fate.took).collect(), 1.0);
    assert!(slowest < QUEUE_BOUND + Duration::from_millis(10), "{slowest:?}");
    assert_eq!(good.len() + during.iter().filter(|fate| fate.status == 503).count(), during.len());
    let recovered = later.iter().filter(|fate| fate.at > LASTS + Duration::from_secs(1));
    assert!(recovered.clone().all(|fate| fate.status == 200 && fate.took < SERVICE + Duration::from_millis(10)));
    assert!(recovered.count() > 500);
}

#[test]
fn a_limit_of_the_cluster_does_the_same() {
    let fates = run(Some(json!({ "requests": 3 * PARALLEL })), &[source(0, 3 * CAPACITY)]);
    let (wanted, good) = (CAPACITY * LASTS.as_secs() as usize, served(&fates));
    assert!(good.len() * 100 >= wanted * 95, "{} of {wanted} were served", good.len());
    let p99 = quantile(good.iter().map(|fate| fate.took).collect(), 0.99);
    assert!(p99 < Duration::from_secs(1) + 2 * SERVICE, "{p99:?}");
}

#[test]
fn an_adaptive_limit_finds_the_capacity() {
    let until =
        |from, until| Source { from: Duration::from_secs(from), until: Duration::from_secs(until), ..source(0, 0) };
    let quiet = Source { per_second: CAPACITY / 2, ..until(0, 4) };
    let storm = Source { client: 1, per_second: 3 * CAPACITY, ..until(4, 28) };
    let later = Source { client: 2, per_second: CAPACITY / 2, ..until(29, 32) };
    let fates = run(Some(json!({ "requests_per_backend": "auto" })), &[quiet, storm, later]);
    let steady: Vec<Fate> =
        fates.iter().filter(|fate| fate.at > Duration::from_secs(16) && fate.client == 1).cloned().collect();
    let (wanted, good) = (CAPACITY * 12, served(&steady));
    assert!(good.len() * 100 >= wanted * 95, "{} of {wanted} were served", good.len());
    let p99 = quantile(good.iter().map(|fate| fate.took).collect(), 0.99);
    assert!(p99 < 2 * SERVICE + QUEUE_BOUND, "{p99:?}");
    let quiet = fates.iter().filter(|fate| fate.client != 1);
    assert!(quiet.clone().all(|fate| fate.status == 200), "without overload every request is served");
    assert!(quiet.clone().filter(|fate| fate.client == 2).all(|fate| fate.took < SERVICE + Duration::from_millis(10)));
}

#[test]
fn a_greedy_client_costs_the_others_little() {
    let sources: Vec<Source> = std::iter::once(source(0, 27 * CAPACITY / 10))
        .chain((1..10).map(|client| source(client, CAPACITY / 30)))
        .collect();
    let fates = run(fixed(), &sources);
    let others: Vec<&Fate> = fates.iter().filter(|fate| fate.client > 0).collect();
    let failed = others.iter().filter(|fate| fate.status != 200).count();
    assert!(failed * 10 < others.len(), "{failed} of {} requests of the others failed", others.len());
    let greedy = fates.iter().filter(|fate| fate.client == 0 && fate.status == 200).count();
    assert!(greedy + others.len() > CAPACITY * LASTS.as_secs() as usize * 9 / 10, "the greedy client gets the rest");
}

#[test]
fn a_storm_of_retries_does_not_collapse_the_cluster() {
    let sources: Vec<Source> =
        (0..20).map(|client| Source { retries: 3, ..source(client, 2 * CAPACITY / 20) }).collect();
    let fates = run(fixed(), &sources);
    let wanted = CAPACITY * LASTS.as_secs() as usize;
    assert!(served(&fates).len() * 100 >= wanted * 95, "{} of {wanted}", served(&fates).len());
}

#[test]
fn without_overload_no_request_waits() {
    let fates = run(fixed(), &[source(0, CAPACITY / 2)]);
    assert!(fates.iter().all(|fate| fate.status == 200 && fate.took < SERVICE + Duration::from_millis(10)));
}

#[test]
fn without_limits_the_backends_queue_grows() {
    let fates = run(None, &[source(0, 2 * CAPACITY)]);
    assert!(quantile(fates.iter().map(|fate| fate.took).collect(), 0.9) > Duration::from_secs(2), "the test can fail");
}
