//! One run: a proxy, its backends and its clients on one network, and the checks at the end.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use loadx_core::config::{ClusterConfig, Config};
use loadx_core::{Rng as _, SplitMix64};
use loadx_proxy::start_local;
use serde_json::json;
use std::sync::Arc;
use tokio::time::Instant;

use crate::client::{Conversation, Verdict};
use crate::conditions::Conditions;
use crate::network::SimNet;
use crate::origin::{self, SharedRegistry, Version};
use crate::plan::{ClientAction, Faults, Framed, OriginAction, Plan};
use crate::stream::SimStream;
use crate::tls::SimTls;
use crate::wire::{Framing, Wire, send};

/// The first backend.
pub(crate) const BACKEND: &str = "10.0.1.0:80";
/// The addresses of the listeners.
const PROXIES: [&str; 3] = ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"];
const BACKENDS: usize = 3;

/// The outcome of a run.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) verdicts: BTreeMap<Verdict, usize>,
    /// A hash of all deliveries: equal for two equal runs.
    pub(crate) trace: u64,
}

thread_local! {
    /// The number of panics, which the runtime hides in tasks.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Counts the panics of all tasks.
fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
}

/// Runs the simulation of `seed`. Panics when a check fails.
pub(crate) fn run(seed: u64) -> Outcome {
    run_with(seed, |_| {})
}

/// Runs the simulation of `seed` on a network that `arrange` has changed.
pub(crate) fn run_with(seed: u64, arrange: impl Fn(&SimNet)) -> Outcome {
    run_over(seed, None, arrange)
}

/// Runs the simulation of `seed` with TLS on both sides of the proxy. The keys of TLS are random, so that two runs differ.
pub(crate) fn run_over_tls(seed: u64) -> Outcome {
    run_over(seed, Some(SimTls::new()), |_| {})
}

/// Runs the simulation of `seed` with clients that speak HTTP/2.
pub(crate) fn run_over_h2(seed: u64) -> Outcome {
    run_scenario(Scenario { h2: true, ..Scenario::new(seed) }, |_| {})
}

/// Runs the simulation of `seed` with backends that speak HTTP/2, and with clients of either version.
pub(crate) fn run_before_h2(seed: u64) -> Outcome {
    run_scenario(Scenario { h2: seed / 8 % 2 == 1, h2_origins: true, ..Scenario::new(seed) }, |_| {})
}

fn run_over(seed: u64, tls: Option<SimTls>, arrange: impl Fn(&SimNet)) -> Outcome {
    run_scenario(Scenario { tls, ..Scenario::new(seed) }, arrange)
}

fn run_scenario(scenario: Scenario, arrange: impl Fn(&SimNet)) -> Outcome {
    in_virtual_time(async {
        let hours = Duration::from_secs(8 * 3_600);
        arrange(&scenario.net);
        tokio::time::timeout(hours, scenario.run()).await.expect("the run ends within eight hours")
    })
}

/// Runs `work` in virtual time. No task may panic.
pub(crate) fn in_virtual_time<T>(work: impl Future<Output = T>) -> T {
    count_panics();
    PANICS.set(0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    let outcome = runtime.block_on(work);
    drop(runtime);
    assert_eq!(PANICS.get(), 0, "a task panicked");
    outcome
}

struct Scenario {
    seed: u64,
    rng: SplitMix64,
    faults: Faults,
    /// Whether messages arrive in pieces of a few bytes.
    tiny: bool,
    net: SimNet,
    /// TLS of clients and origins, if LoadX has TLS on both sides.
    tls: Option<SimTls>,
    /// Whether clients speak HTTP/2.
    h2: bool,
    /// Whether backends speak HTTP/2.
    h2_origins: bool,
    registry: SharedRegistry,
    /// Whether the proxy has several listeners, routes and clusters, and plans that change during traffic.
    many: bool,
    /// The number of configs so far. Requests and responses carry the number of the config that they went by.
    configs: u64,
}

impl Scenario {
    fn new(seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let faults = [Faults::None, Faults::Recoverable, Faults::Any, Faults::Any][(seed % 4) as usize];
        let benign = faults != Faults::Any;
        let tiny = rng.below(4) == 0;
        let conditions = Conditions {
            delay: Duration::from_micros([0, 100, 20_000][rng.below(3) as usize]),
            piece: if tiny { 1 + rng.below(7) } else { 1 + rng.below(8_000) },
            window: if tiny { 64 + rng.below(400) as usize } else { 1_000 + rng.below(64_000) as usize },
            spurious: [0, 20, 5][rng.below(3) as usize],
            resets: if benign { 0 } else { [0, 50, 300][rng.below(3) as usize] },
            stalls: if benign { 0 } else { [0, 100, 1_000][rng.below(3) as usize] },
        };
        let many = seed / 4 % 2 == 1;
        let net = SimNet::new(rng.next_u64(), conditions);
        Scenario {
            seed,
            net,
            tls: None,
            h2: false,
            h2_origins: false,
            rng,
            faults,
            tiny,
            registry: SharedRegistry::default(),
            many,
            configs: 0,
        }
    }

    async fn run(mut self) -> Outcome {
        let config = loadx_core::config::parse(&self.config().to_string()).unwrap();
        for backend in 0..BACKENDS {
            tokio::task::spawn_local(self.backend(backend));
        }
        let keyring = self.tls.as_ref().map_or_else(Arc::default, SimTls::keyring);
        let mut proxy = Some(start_local(&config, &self.net, self.rng.next_u64(), &keyring).await.unwrap());
        let clients: Vec<_> =
            (0..3 + self.rng.below(8)).map(|number| tokio::task::spawn_local(self.client(number))).collect();
        let mut verdicts = BTreeMap::new();
        let mut last = config.clone();
        for _ in 0..if self.many { 2 + self.rng.below(8) } else { 0 } {
            tokio::time::sleep(Duration::from_millis(self.rng.below(4_000))).await;
            let config = self.other_config(&config);
            proxy.as_ref().expect("the proxy runs").handle().apply(config.clone()).await.unwrap();
            last = config;
        }
        if self.faults == Faults::Any && self.rng.below(4) == 0 {
            // Stops the proxy during traffic.
            tokio::time::sleep(Duration::from_millis(self.rng.below(15_000))).await;
            proxy.take().expect("the proxy runs").stop().await;
        }
        for client in clients {
            for (id, verdict) in client.await.unwrap() {
                self.check(id, verdict);
                *verdicts.entry(verdict).or_default() += 1;
            }
        }
        self.net.end_faults();
        if let Some(proxy) = proxy {
            self.check_nothing_in_use(&last).await;
            proxy.stop().await;
        }
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(self.net.open(), [], "ends of connections are left over");
        Outcome { verdicts, trace: self.net.trace() }
    }

    /// The config with other routes and clusters.
    ///
    /// A third listener comes and goes. Where clients must expect anything, the second listener goes too: a removed
    /// listener ends connections between two requests.
    fn other_config(&mut self, config: &Config) -> Config {
        let mut open = vec![0];
        let second = self.rng.below(3) > 0 || self.faults != Faults::Any;
        let third = self.rng.below(2) > 0;
        open.extend([1, 2].into_iter().zip([second, third]).filter(|(_, there)| *there).map(|(index, _)| index));
        let mut typed = json!({ "listeners": self.listeners(&open) });
        self.route_to_clusters(&mut typed);
        let other = loadx_core::config::parse(&typed.to_string()).unwrap();
        let attempt = config.clusters[0].attempt;
        let clusters = other.clusters.into_iter().map(|cluster| ClusterConfig { attempt, ..cluster }).collect();
        Config { listeners: other.listeners, routes: other.routes, clusters, ..config.clone() }
    }

    /// Two or three clusters of two or three backends each, and routes that send each request to one of them.
    fn route_to_clusters(&mut self, config: &mut serde_json::Value) {
        let mut clusters = serde_json::Map::new();
        let needed = if self.faults == Faults::Any { 1 } else { 2 };
        for name in ["even", "odd", "post"] {
            let missing = self.rng.below(4);
            let backends: Vec<_> = (0..BACKENDS as u64).filter(|n| *n != missing).collect();
            let backends: Vec<_> = backends
                .iter()
                .enumerate()
                .map(|(place, n)| {
                    // Each cluster keeps as many backends in rotation as its requests need.
                    let drain = place >= needed && self.rng.below(3) == 0;
                    json!({ "host": format!("10.0.1.{n}"), "port": 80, "weight": 1 + missing, "drain": drain })
                })
                .collect();
            let algorithm = ["round_robin", "least_connections", "ip_hash"][self.rng.below(3) as usize];
            let cluster = json!({ "algorithm": algorithm, "backends": backends, "tls": self.backend_tls(), "protocol": self.protocol() });
            clusters.insert(name.to_owned(), cluster);
        }
        let mut routes = vec![
            json!({ "name": "posts", "methods": ["POST"], "cluster": "post" }),
            json!({ "path_regex": "/.*[02468]", "listeners": ["first"], "cluster": "even", "timeouts": { "exchange": 60 } }),
            json!({ "split": [{ "cluster": "even", "weight": 1 }, { "cluster": "odd", "weight": 2 }], "split_by": "client" }),
        ];
        self.configs += 1;
        let marks = json!({ "set": { "x-plan": self.configs.to_string() } });
        for route in &mut routes {
            route["request_headers"] = marks.clone();
            route["response_headers"] = marks.clone();
        }
        if self.rng.below(2) == 0 {
            routes.insert(0, json!({ "hosts": ["nobody"], "respond": { "status": 404 } }));
        }
        config["clusters"] = clusters.into();
        config["routes"] = routes.into();
    }

    /// These listeners, by their positions in [`PROXIES`].
    fn listeners(&self, open: &[usize]) -> serde_json::Value {
        let names = ["first", "second", "third"];
        let listener = |index: &usize| {
            let mut listener = json!({ "name": names[*index], "address": PROXIES[*index] });
            if self.tls.is_some() {
                listener["tls"] = json!({ "auto": ["sim"] });
            }
            listener
        };
        open.iter().map(listener).collect()
    }

    /// TLS to the origins. They show a certificate of their own.
    fn backend_tls(&self) -> serde_json::Value {
        if self.tls.is_some() { json!({ "insecure": true }) } else { json!(false) }
    }

    /// The version of HTTP to the origins.
    fn protocol(&self) -> &'static str {
        if self.h2_origins { "h2" } else { "http/1.1" }
    }

    fn config(&mut self) -> serde_json::Value {
        let backends: Vec<_> = (0..BACKENDS).map(|n| json!({ "host": format!("10.0.1.{n}"), "port": 80 })).collect();
        let algorithm = ["round_robin", "least_connections", "ip_hash"][self.rng.below(3) as usize];
        let mut config = json!({
            "workers": 1 + self.rng.below(3),
            "algorithm": algorithm,
            "request_timeout": if self.faults == Faults::Any { 10 } else { 60 },
            "shutdown_grace": 5,
            "drain_timeout": if self.faults == Faults::Any { 2 } else { 600 },
            // A small window takes many round trips for a handshake.
            "connection_timeout": if self.tls.is_some() { 20 } else { 2 },
            "keepalive_timeout": 20,
            "backend_keepalive_timeout": 30,
            "tunnel_timeout": 60,
            "health_check_interval": 5,
            "enable_logging": false,
        });
        if self.many {
            config["listeners"] = self.listeners(&[0, 1]);
            self.route_to_clusters(&mut config);
        } else {
            config["proxy_host"] = "10.0.0.1".into();
            config["proxy_port"] = 8080.into();
            config["backend_servers"] = backends.into();
            config["backend_tls"] = self.backend_tls();
            config["backend_protocol"] = self.protocol().into();
            if self.tls.is_some() {
                config["tls"] = json!({ "auto": ["sim"] });
            }
        }
        // So many requests fail at the same moment here that the budget would decide on most of them.
        let retries = json!({ "budget_percent": 100, "budget_per_second": 1_000 });
        config["resilience"] = json!({ "retries": retries });
        if self.faults == Faults::Any {
            let mut set = |key: &str, value: u64| {
                if self.rng.below(4) == 0 {
                    config[key] = value.into();
                }
            };
            set("exchange_timeout", 15);
            set("max_requests_per_connection", 2);
            set("max_body_size", 5_000);
            set("max_connections", 4);
            set("min_body_rate", 0);
        }
        config
    }

    /// A backend; with [`Faults::Any`] the backend sometimes does not listen for a while.
    fn backend(&mut self, number: usize) -> impl Future<Output = ()> + use<> {
        let address = SocketAddr::from(([10, 0, 1, number as u8], 80));
        let (net, registry, benign) = (self.net.clone(), self.registry.clone(), self.faults != Faults::Any);
        // An upload that an origin refuses when a part has been sent is lost.
        let version = match self.h2_origins {
            true => Version::Http2 { ends_gently: benign },
            false => Version::Http1(self.tls.clone()),
        };
        let mut rng = SplitMix64::new(self.rng.next_u64());
        async move {
            loop {
                let serving =
                    tokio::task::spawn_local(origin::serve(net.clone(), address, registry.clone(), version.clone()));
                if benign || rng.below(2) == 0 {
                    return serving.await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(rng.below(20_000))).await;
                serving.abort();
                assert!(serving.await.unwrap_err().is_cancelled());
                tokio::time::sleep(Duration::from_millis(rng.below(5_000))).await;
            }
        }
    }

    /// A client with up to three connections, one after the other.
    fn client(&mut self, number: u64) -> impl Future<Output = Vec<(u64, Verdict)>> + use<> {
        let begins = Duration::from_millis(self.rng.below(10_000));
        let conversations: Vec<Conversation> =
            (0..1 + self.rng.below(3)).map(|connection| self.conversation(number * 100 + connection * 10)).collect();
        let (net, tls) = (self.net.clone(), self.tls.clone());
        let proxy = PROXIES[if self.many { number as usize % 2 } else { 0 }];
        async move {
            tokio::time::sleep(begins).await;
            let mut verdicts = Vec::new();
            for (turn, conversation) in conversations.iter().enumerate() {
                let from = SocketAddr::from(([10, 0, 2, number as u8], 1_000 + turn as u16));
                let ids = conversation.plans.iter().map(|plan| plan.id);
                let results = match net.connect_from(from, proxy.parse().unwrap()).await {
                    Ok(stream) => conversation.run(within(tls.as_ref(), &net, stream)).await,
                    // The proxy was stopped, or the listener was removed.
                    Err(_) => vec![Verdict::NoResponse; conversation.plans.len()],
                };
                verdicts.extend(ids.zip(results));
            }
            verdicts
        }
    }

    fn conversation(&mut self, first_id: u64) -> Conversation {
        let old = self.rng.below(6) == 0 && !self.h2;
        let count = if old { 1 } else { 1 + self.rng.below(4) };
        let mut plans: Vec<Plan> =
            (0..count).map(|number| Plan::draw(&mut self.rng, first_id + number, self.faults)).collect();
        for plan in &mut plans {
            if self.tiny {
                // A large body in tiny pieces would be a hundred thousand events.
                plan.request.length %= 1_000;
                plan.response.length %= 1_000;
            }
            if old && (plan.upgrades() || plan.request.framed != Framed::None) {
                // HTTP/1.0 has neither upgrades nor chunks.
                *plan = Plan::draw(&mut SplitMix64::new(0), plan.id, Faults::None);
                plan.method = "GET";
                plan.request.framed = Framed::None;
                plan.request.length = 0;
                plan.expect = false;
                plan.origin = OriginAction::Behaves;
            }
        }
        // No request can follow a switch to another protocol.
        if let Some(at) = plans.iter().position(Plan::upgrades) {
            plans.truncate(at + 1);
        }
        self.registry.borrow_mut().plans.extend(plans.iter().map(|plan| (plan.id, plan.clone())));
        let tunnels_may_end = self.faults == Faults::Any;
        let version = match (old, self.h2) {
            (_, true) => "HTTP/2.0",
            (true, _) => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        Conversation { version, plans, tunnels_may_end, is_secure: self.tls.is_some() }
    }

    /// Checks the result of one request.
    fn check(&self, id: u64, verdict: Verdict) {
        let registry = self.registry.borrow();
        let plan = &registry.plans[&id];
        let seen = registry.seen.get(&id).copied().unwrap_or(0);
        let most = if plan.is_idempotent() { 1 + loadx_core::RetryPolicy::default().resends_max as usize } else { 1 };
        assert!(seen <= most, "seed {}: {} backends saw {plan:?}", self.seed, seen);
        if verdict == Verdict::Complete {
            assert!(seen > 0);
        }
        if let Verdict::Error(status) = verdict {
            let known = [408, 413, 502, 503, 504];
            assert!(known.contains(&status), "{status} for {plan:?}");
        }
        // LoadX asks another backend after a 500, and the other one may speak before LoadX has asked.
        let replaced = self.net.greets() && plan.status == 500 && verdict == Verdict::Error(502);
        if self.faults != Faults::Any && !replaced {
            assert_eq!(
                verdict,
                Verdict::Complete,
                "seed {}: without faults, every request gets its response: {plan:?}",
                self.seed
            );
            assert_eq!(plan.client, ClientAction::Behaves);
        }
    }

    /// Checks that no connection and no buffer is in use after all clients have ended, and that only the backends of the
    /// last config are known and probed.
    async fn check_nothing_in_use(&self, last: &Config) {
        // Probes that are under way when their backend is removed.
        let settled = Instant::now() + Duration::from_secs(30);
        tokio::time::sleep(Duration::from_secs(200)).await;
        let wanted: BTreeSet<String> = last.backends().map(|(_, spec)| spec.authority()).collect();
        for (backend, at) in &self.registry.borrow().probed {
            let is_wanted = wanted.contains(&backend.to_string());
            assert!(is_wanted || *at < settled, "{backend} left the config, and is probed");
            assert!(!is_wanted || *at > settled, "{backend} is not probed any more");
        }
        let from = SocketAddr::from(([10, 0, 9, 9], 1));
        let stream = self.net.connect_from(from, PROXIES[0].parse().unwrap()).await.unwrap();
        let mut wire = Wire::new(within(self.tls.as_ref(), &self.net, stream));
        send(&wire.stream, b"GET /__status__ HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n").await.unwrap();
        let head = wire.head().await.unwrap();
        let body = wire.body(head.framing().unwrap_or(Framing::UntilClose)).await;
        assert_eq!(body.cut, None, "the status is cut: {}", String::from_utf8_lossy(&body.content));
        let status: serde_json::Value = serde_json::from_slice(&body.content).unwrap();
        let known: BTreeSet<String> =
            status["backends"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(known, wanted);
        for backend in status["backends"].as_array().unwrap() {
            assert_eq!(backend["active_connections"], 0, "{backend}");
        }
        assert_eq!(status["draining"], json!([]), "{status}");
        let connections = &status["connections"];
        assert_eq!((&connections["open"], &connections["idle_to_backends"]), (&json!(1), &json!(0)), "{status}");
        // The status request itself uses a buffer for its head and a buffer for its response.
        assert!(status["buffers_in_use"].as_u64().unwrap() <= 2, "{status}");
    }
}

/// The stream of a client.
fn within(tls: Option<&SimTls>, net: &SimNet, stream: SimStream) -> SimStream {
    match tls {
        Some(tls) => tls.of_client(net, stream),
        None => stream,
    }
}
