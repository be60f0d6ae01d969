//! One world: a proxy, its backends and its clients on one network, and what must hold when all is over.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use loadx_core::config::{ClusterConfig, Config};
use loadx_core::{Rng as _, SplitMix64};
use loadx_proxy::start_local;
use serde_json::json;

use crate::client::{Conversation, Verdict};
use crate::network::SimNet;
use crate::origin::{self, SharedBook};
use crate::plan::{ClientTurn, Framed, Manners, OriginTurn, Plan};
use crate::weather::Weather;
use crate::wire::{Framing, Wire, send};

/// The first of the backends.
pub(crate) const BACKEND: &str = "10.0.1.0:80";
/// Where the proxy listens.
const PROXIES: [&str; 2] = ["10.0.0.1:8080", "10.0.0.2:8080"];
const BACKENDS: usize = 3;

/// What became of a world.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) verdicts: BTreeMap<Verdict, usize>,
    /// The same for two runs in which the same happened.
    pub(crate) trace: u64,
}

thread_local! {
    /// Panics of tasks, which the runtime would swallow.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Has panics counted, wherever they happen.
pub(crate) fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
}

/// Lets the world of `seed` run to its end. Panics when something did not hold.
pub(crate) fn run(seed: u64) -> Outcome {
    run_with(seed, |_| {})
}

/// The same, of a world that `arrange` has changed before it begins.
pub(crate) fn run_with(seed: u64, arrange: impl Fn(&SimNet)) -> Outcome {
    count_panics();
    PANICS.set(0);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    let outcome = runtime.block_on(async {
        let hours = Duration::from_secs(8 * 3_600);
        let world = World::new(seed);
        arrange(&world.net);
        tokio::time::timeout(hours, world.run()).await.expect("nobody waits for ever")
    });
    drop(runtime);
    assert_eq!(PANICS.get(), 0, "a task panicked");
    outcome
}

struct World {
    seed: u64,
    rng: SplitMix64,
    manners: Manners,
    /// Whether messages arrive in pieces of a few bytes.
    tiny: bool,
    net: SimNet,
    book: SharedBook,
    /// Whether the proxy has several listeners, routes and clusters, and plans that change in mid-traffic.
    many: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let manners = [Manners::Good, Manners::Mendable, Manners::Bad, Manners::Bad][(seed % 4) as usize];
        let calm = manners != Manners::Bad;
        let tiny = rng.below(4) == 0;
        let weather = Weather {
            delay: Duration::from_micros([0, 100, 20_000][rng.below(3) as usize]),
            piece: if tiny { 1 + rng.below(7) } else { 1 + rng.below(8_000) },
            window: if tiny { 64 + rng.below(400) as usize } else { 1_000 + rng.below(64_000) as usize },
            spurious: [0, 20, 5][rng.below(3) as usize],
            resets: if calm { 0 } else { [0, 50, 300][rng.below(3) as usize] },
            stalls: if calm { 0 } else { [0, 100, 1_000][rng.below(3) as usize] },
        };
        let many = seed / 4 % 2 == 1;
        World { seed, net: SimNet::new(rng.next_u64(), weather), rng, manners, tiny, book: SharedBook::default(), many }
    }

    async fn run(mut self) -> Outcome {
        let config = loadx_core::config::parse(&self.config().to_string()).unwrap();
        for backend in 0..BACKENDS {
            tokio::task::spawn_local(self.backend(backend));
        }
        let mut proxy = Some(start_local(&config, &self.net, self.rng.next_u64()).await.unwrap());
        let clients: Vec<_> =
            (0..3 + self.rng.below(8)).map(|number| tokio::task::spawn_local(self.client(number))).collect();
        let mut verdicts = BTreeMap::new();
        for _ in 0..if self.many { 2 + self.rng.below(8) } else { 0 } {
            tokio::time::sleep(Duration::from_millis(self.rng.below(4_000))).await;
            let config = self.another(&config);
            proxy.as_ref().expect("it runs").apply(config).await.unwrap();
        }
        if self.manners == Manners::Bad && self.rng.below(4) == 0 {
            // In the midst of it all.
            tokio::time::sleep(Duration::from_millis(self.rng.below(15_000))).await;
            proxy.take().expect("it runs").stop().await;
        }
        for client in clients {
            for (id, verdict) in client.await.unwrap() {
                self.judge(id, verdict);
                *verdicts.entry(verdict).or_default() += 1;
            }
        }
        self.net.calm();
        if let Some(proxy) = proxy {
            self.is_at_rest().await;
            proxy.stop().await;
        }
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(self.net.open(), [], "ends of connections are left over");
        Outcome { verdicts, trace: self.net.trace() }
    }

    /// The config with other routes and clusters.
    fn another(&mut self, config: &Config) -> Config {
        let mut typed = json!({ "listeners": listeners() });
        self.route_to_clusters(&mut typed);
        let other = loadx_core::config::parse(&typed.to_string()).unwrap();
        let attempt = config.clusters[0].attempt;
        let clusters = other.clusters.into_iter().map(|cluster| ClusterConfig { attempt, ..cluster }).collect();
        Config { routes: other.routes, clusters, ..config.clone() }
    }

    /// Two or three clusters of two or three backends each, and routes that send each request to one of them.
    fn route_to_clusters(&mut self, config: &mut serde_json::Value) {
        let mut clusters = serde_json::Map::new();
        for name in ["even", "odd", "post"] {
            let missing = self.rng.below(4);
            let backends: Vec<_> = (0..BACKENDS as u64).filter(|n| *n != missing).collect();
            let backends: Vec<_> = backends
                .iter()
                .map(|n| json!({ "host": format!("10.0.1.{n}"), "port": 80, "weight": 1 + missing }))
                .collect();
            let algorithm = ["round_robin", "least_connections", "ip_hash"][self.rng.below(3) as usize];
            clusters.insert(name.to_owned(), json!({ "algorithm": algorithm, "backends": backends }));
        }
        let mut routes = vec![
            json!({ "name": "posts", "methods": ["POST"], "cluster": "post" }),
            json!({ "path_regex": "/.*[02468]", "listeners": ["first"], "cluster": "even", "timeouts": { "exchange": 60 } }),
            json!({ "split": [{ "cluster": "even", "weight": 1 }, { "cluster": "odd", "weight": 2 }], "split_by": "client" }),
        ];
        if self.rng.below(2) == 0 {
            routes.insert(0, json!({ "hosts": ["nobody"], "respond": { "status": 404 } }));
        }
        config["clusters"] = clusters.into();
        config["routes"] = routes.into();
    }

    fn config(&mut self) -> serde_json::Value {
        let backends: Vec<_> = (0..BACKENDS).map(|n| json!({ "host": format!("10.0.1.{n}"), "port": 80 })).collect();
        let algorithm = ["round_robin", "least_connections", "ip_hash"][self.rng.below(3) as usize];
        let mut config = json!({
            "workers": 1 + self.rng.below(3),
            "algorithm": algorithm,
            "request_timeout": if self.manners == Manners::Bad { 10 } else { 60 },
            "shutdown_grace": 5,
            "connection_timeout": 2,
            "keepalive_timeout": 20,
            "backend_keepalive_timeout": 30,
            "tunnel_timeout": 60,
            "health_check_interval": 5,
            "enable_logging": false,
        });
        if self.many {
            config["listeners"] = listeners();
            self.route_to_clusters(&mut config);
        } else {
            config["proxy_host"] = "10.0.0.1".into();
            config["proxy_port"] = 8080.into();
            config["backend_servers"] = backends.into();
        }
        if self.manners == Manners::Bad {
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

    /// A backend that, when it is not calm, is away for a while now and then.
    fn backend(&mut self, number: usize) -> impl Future<Output = ()> + use<> {
        let address = SocketAddr::from(([10, 0, 1, number as u8], 80));
        let (net, book, calm) = (self.net.clone(), self.book.clone(), self.manners != Manners::Bad);
        let mut rng = SplitMix64::new(self.rng.next_u64());
        async move {
            loop {
                let serving = tokio::task::spawn_local(origin::serve(net.clone(), address, book.clone()));
                if calm || rng.below(2) == 0 {
                    return serving.await.unwrap();
                }
                tokio::time::sleep(Duration::from_millis(rng.below(20_000))).await;
                serving.abort();
                assert!(serving.await.unwrap_err().is_cancelled());
                tokio::time::sleep(Duration::from_millis(rng.below(5_000))).await;
            }
        }
    }

    /// A client with a few connections, one after the other.
    fn client(&mut self, number: u64) -> impl Future<Output = Vec<(u64, Verdict)>> + use<> {
        let begins = Duration::from_millis(self.rng.below(10_000));
        let conversations: Vec<Conversation> =
            (0..1 + self.rng.below(3)).map(|connection| self.conversation(number * 100 + connection * 10)).collect();
        let net = self.net.clone();
        let proxy = PROXIES[if self.many { number as usize % 2 } else { 0 }];
        async move {
            tokio::time::sleep(begins).await;
            let mut verdicts = Vec::new();
            for (turn, conversation) in conversations.iter().enumerate() {
                let from = SocketAddr::from(([10, 0, 2, number as u8], 1_000 + turn as u16));
                let ids = conversation.plans.iter().map(|plan| plan.id);
                let held = match net.connect_from(from, proxy.parse().unwrap()).await {
                    Ok(stream) => conversation.hold(stream).await,
                    // It has been stopped.
                    Err(_) => vec![Verdict::Nothing; conversation.plans.len()],
                };
                verdicts.extend(ids.zip(held));
            }
            verdicts
        }
    }

    fn conversation(&mut self, first_id: u64) -> Conversation {
        let old = self.rng.below(6) == 0;
        let count = if old { 1 } else { 1 + self.rng.below(4) };
        let mut plans: Vec<Plan> =
            (0..count).map(|number| Plan::draw(&mut self.rng, first_id + number, self.manners)).collect();
        for plan in &mut plans {
            if self.tiny {
                // Each piece is an event; a large body would be a hundred thousand of them.
                plan.request.length %= 1_000;
                plan.response.length %= 1_000;
            }
            if old && (plan.upgrades() || plan.request.framed != Framed::None) {
                // HTTP/1.0 knows neither upgrades nor chunks.
                *plan = Plan::draw(&mut SplitMix64::new(0), plan.id, Manners::Good);
                plan.method = "GET";
                plan.request.framed = Framed::None;
                plan.request.length = 0;
                plan.expect = false;
                plan.origin = OriginTurn::Behaves;
            }
        }
        // Nothing follows what goes on in another protocol.
        if let Some(at) = plans.iter().position(Plan::upgrades) {
            plans.truncate(at + 1);
        }
        self.book.borrow_mut().plans.extend(plans.iter().map(|plan| (plan.id, plan.clone())));
        Conversation { version: if old { "HTTP/1.0" } else { "HTTP/1.1" }, plans }
    }

    /// What must hold for one request, whatever happened.
    fn judge(&self, id: u64, verdict: Verdict) {
        let book = self.book.borrow();
        let plan = &book.plans[&id];
        let seen = book.seen.get(&id).copied().unwrap_or(0);
        let most = if plan.is_idempotent() { 1 + loadx_core::Attempts::RESENDS_MAX } else { 1 };
        assert!(seen <= most, "seed {}: {} backends saw {plan:?}", self.seed, seen);
        if verdict == Verdict::Answered {
            assert!(seen > 0);
        }
        if let Verdict::Told(status) = verdict {
            let known = [408, 413, 502, 503, 504];
            assert!(known.contains(&status), "{status} for {plan:?}");
        }
        if self.manners != Manners::Bad {
            assert_eq!(verdict, Verdict::Answered, "seed {}: nothing need go wrong, but {plan:?}", self.seed);
            assert_eq!(plan.client, ClientTurn::Behaves);
        }
    }

    /// When all clients are gone, nothing is held for them any more.
    async fn is_at_rest(&self) {
        tokio::time::sleep(Duration::from_secs(200)).await;
        let from = SocketAddr::from(([10, 0, 9, 9], 1));
        let stream = self.net.connect_from(from, PROXIES[0].parse().unwrap()).await.unwrap();
        let mut wire = Wire::new(stream);
        send(&wire.stream, b"GET /__status__ HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n").await.unwrap();
        let head = wire.head().await.unwrap();
        let body = wire.body(head.framing().unwrap_or(Framing::UntilClose)).await;
        let status: serde_json::Value = serde_json::from_slice(&body.content).unwrap();
        for backend in status["backends"].as_array().unwrap() {
            assert_eq!(backend["active_connections"], 0, "{backend}");
        }
        let connections = &status["connections"];
        assert_eq!((&connections["open"], &connections["idle_to_backends"]), (&json!(1), &json!(0)), "{status}");
        // The head of the question itself, and the room for its answer.
        assert!(status["buffers_in_use"].as_u64().unwrap() <= 2, "{status}");
    }
}

fn listeners() -> serde_json::Value {
    json!([{ "name": "first", "address": PROXIES[0] }, { "name": "second", "address": PROXIES[1] }])
}
