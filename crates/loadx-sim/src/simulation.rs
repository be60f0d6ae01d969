//! One run: events in, decisions by the core, consequences out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use loadx_core::{
    BackendId, Cluster, Event as Change, Evidence, Key, NameAnswer, Observation, Outcome, Pick, Query, Rng as _,
    SplitMix64, Time, Trace, Tries, View,
};

use crate::backend::{Backend, ExchangeId, exponential};
use crate::queue::EventQueue;
use crate::report::{BackendReport, Latency, Report, TimelineEntry};
use crate::scenario::{Scenario, ScenarioError};

/// How long a probe takes when the backend is there.
const PROBE_TIME: Duration = Duration::from_millis(1);

/// What happens next.
#[derive(Copy, Clone, Debug)]
enum Event {
    Arrival,
    Served {
        backend: usize,
        exchange: ExchangeId,
    },
    ProbeEnds {
        backend: usize,
        began: Time,
    },
    Goes(usize),
    ComesBack(usize),
    /// Control looks whether something is due.
    Control,
}

/// A request under way.
#[derive(Debug)]
struct Exchange {
    key: Key,
    arrived: Time,
    tries: Tries,
    pick: Option<Pick<Arc<View>>>,
}

/// Simulates `scenario`.
///
/// # Errors
/// When the scenario makes no sense.
pub fn simulate(scenario: &Scenario) -> Result<Report, ScenarioError> {
    scenario.check()?;
    let mut run = Run::new(scenario);
    while let Some((now, event)) = run.events.pop() {
        run.now = now;
        run.happen(event);
        if run.is_over() {
            break;
        }
    }
    Ok(run.report())
}

struct Run<'s> {
    scenario: &'s Scenario,
    now: Time,
    rng: SplitMix64,
    events: EventQueue<Event>,
    cluster: Cluster,
    /// When control will look next; earlier looks that are still queued find nothing to do.
    control_at: Option<Time>,
    backends: Vec<Backend>,
    answered: Vec<u64>,
    most_at_once: Vec<u32>,
    exchanges: Vec<Option<Exchange>>,
    under_way: usize,
    arriving: bool,
    requests: u64,
    failed: u64,
    retries: u64,
    latencies: Vec<Duration>,
    timeline: Vec<TimelineEntry>,
}

impl<'s> Run<'s> {
    fn new(scenario: &'s Scenario) -> Self {
        let rng = SplitMix64::new(scenario.seed);
        let mut cluster = Cluster::new(scenario.algorithm, scenario.health.clone());
        let specs = scenario.backends.iter().map(|backend| backend.spec.clone()).collect();
        cluster.update(Time::ZERO, specs);
        // Names lead somewhere here without DNS. Where is of no consequence: nobody connects.
        let somewhere: Arc<[SocketAddr]> = [SocketAddr::from((Ipv4Addr::LOCALHOST, 1))].into();
        for id in cluster.ids().collect::<Vec<_>>() {
            cluster.resolved(id, NameAnswer::Addresses(Arc::clone(&somewhere)));
        }
        let mut events = EventQueue::new();
        events.push(Time::ZERO, Event::Control);
        events.push(Time::ZERO, Event::Arrival);
        for outage in &scenario.outages {
            events.push(Time::ZERO + outage.from, Event::Goes(outage.backend));
            events.push(Time::ZERO + outage.until, Event::ComesBack(outage.backend));
        }
        let count = scenario.backends.len();
        Run {
            scenario,
            now: Time::ZERO,
            rng,
            events,
            cluster,
            control_at: Some(Time::ZERO),
            backends: scenario.backends.iter().cloned().map(Backend::new).collect(),
            answered: vec![0; count],
            most_at_once: vec![0; count],
            exchanges: Vec::new(),
            under_way: 0,
            arriving: true,
            requests: 0,
            failed: 0,
            retries: 0,
            latencies: Vec::new(),
            timeline: Vec::new(),
        }
    }

    fn is_over(&self) -> bool {
        !self.arriving && self.under_way == 0
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival => self.arrival(),
            Event::Served { backend, exchange } => self.served(backend, exchange),
            Event::ProbeEnds { backend, began } => self.probe_ends(backend, began),
            Event::Goes(backend) => {
                self.tell(format!("backend {} goes", self.scenario.backends[backend].spec.name));
                for exchange in self.backends[backend].go() {
                    self.broke(exchange);
                }
            }
            Event::ComesBack(backend) => {
                self.tell(format!("backend {} comes back", self.scenario.backends[backend].spec.name));
                self.backends[backend].come_back();
            }
            Event::Control => self.control(),
        }
    }

    fn tell(&mut self, what: String) {
        self.timeline.push(TimelineEntry { at: self.now.since(Time::ZERO), what });
    }

    fn arrival(&mut self) {
        let client = self.rng.below(u64::from(self.scenario.clients.max(1))) as u32;
        let key = Key::from_ip(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + client)));
        self.requests += 1;
        self.under_way += 1;
        self.exchanges.push(Some(Exchange { key, arrived: self.now, tries: Tries::default(), pick: None }));
        self.go_on(self.exchanges.len() - 1);
        let next = self.now + exponential(Duration::from_secs_f64(1.0 / self.scenario.rate), &mut self.rng);
        if next.since(Time::ZERO) < self.scenario.duration {
            self.events.push(next, Event::Arrival);
        } else {
            self.arriving = false;
        }
    }

    /// Picks a backend for the exchange, and further ones while they refuse.
    fn go_on(&mut self, id: ExchangeId) {
        loop {
            let Some(exchange) = &mut self.exchanges[id] else { return };
            let query = Query { key: exchange.key, tried: exchange.tries.tried() };
            let Ok(pick) = Pick::choose(self.cluster.view(), self.now, &query) else { return self.fail(id) };
            let backend = pick.backend().id().index();
            if self.backends[backend].is_gone() {
                let backend_id = pick.backend().id();
                let may_go_on = exchange.tries.failed(backend_id, Trace::None);
                let refused = Outcome::ConnectFailed("connection refused".into());
                if let Some(observation) = pick.finish(self.now, refused) {
                    self.observe(backend_id, &observation);
                }
                if !may_go_on {
                    return self.fail(id);
                }
                self.retries += 1;
                continue;
            }
            self.most_at_once[backend] = self.most_at_once[backend].max(pick.backend().in_flight());
            exchange.pick = Some(pick);
            if self.backends[backend].arrive(id) {
                self.serve(backend, id);
            }
            return;
        }
    }

    fn serve(&mut self, backend: usize, exchange: ExchangeId) {
        let took = self.backends[backend].service_time(&mut self.rng);
        self.events.push(self.now + took, Event::Served { backend, exchange });
    }

    fn served(&mut self, backend: usize, id: ExchangeId) {
        let Some(finished) = self.backends[backend].finish(id) else { return };
        if let Some(next) = finished.next {
            self.serve(backend, next);
        }
        let Some(mut exchange) = self.exchanges[id].take() else { return };
        if let Some(pick) = exchange.pick.take() {
            pick.finish(self.now, Outcome::Answered);
        }
        self.answered[backend] += 1;
        self.latencies.push(self.now.since(exchange.arrived));
        self.under_way -= 1;
    }

    /// The backend went down with the exchange on it. It is sent again as the proxy would an idempotent one.
    fn broke(&mut self, id: ExchangeId) {
        let Some(exchange) = &mut self.exchanges[id] else { return };
        let Some(pick) = exchange.pick.take() else { return };
        let may_go_on = exchange.tries.failed(pick.backend().id(), Trace::Repeatable);
        pick.finish(self.now, Outcome::Broke);
        if !may_go_on {
            return self.fail(id);
        }
        self.retries += 1;
        self.go_on(id);
    }

    fn fail(&mut self, id: ExchangeId) {
        self.exchanges[id] = None;
        self.failed += 1;
        self.under_way -= 1;
    }

    fn control(&mut self) {
        self.control_at = None;
        for id in self.cluster.tick(self.now) {
            let ends = self.now + PROBE_TIME;
            self.events.push(ends, Event::ProbeEnds { backend: id.index(), began: self.now });
        }
        self.plan_control();
    }

    fn plan_control(&mut self) {
        if let Some(at) = self.cluster.next_deadline()
            && self.control_at.is_none_or(|planned| at < planned)
        {
            self.control_at = Some(at);
            self.events.push(at.max(self.now), Event::Control);
        }
    }

    fn probe_ends(&mut self, backend: usize, began: Time) {
        let evidence = match self.backends[backend].is_gone() {
            false => Evidence::ProbePassed { status: 200 },
            true => Evidence::ProbeFailed { reason: "connection refused".into() },
        };
        let id = self.cluster.ids().nth(backend);
        let id = id.expect("backends are neither added nor removed in a run");
        self.observe(id, &Observation { began, evidence });
    }

    fn observe(&mut self, id: BackendId, observation: &Observation) {
        if let Some(change) = self.cluster.observe(self.now, id, observation, &mut self.rng) {
            // That backends are up at the start is no news.
            if self.now > Time::ZERO + PROBE_TIME || matches!(change, Change::Ejected { .. }) {
                self.tell(change.to_string());
            }
        }
        self.plan_control();
    }

    fn report(mut self) -> Report {
        let names = self.scenario.backends.iter().map(|backend| Arc::clone(&backend.spec.name));
        let backends = names
            .zip(&self.answered)
            .zip(&self.most_at_once)
            .map(|((name, answered), most)| BackendReport { name, answered: *answered, most_at_once: *most })
            .collect();
        Report {
            requests: self.requests,
            failed: self.failed,
            retries: self.retries,
            latency: Latency::of(&mut self.latencies),
            backends,
            timeline: self.timeline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BackendModel, Outage};
    use loadx_core::{Algorithm, BackendSpec, HealthPolicy};

    fn scenario(algorithm: Algorithm, backends: usize, parallel: usize, rate: f64) -> Scenario {
        let model = |index: usize| BackendModel {
            spec: BackendSpec::new("backend", 8_001 + index as u16),
            service: Duration::from_millis(10),
            parallel,
        };
        Scenario {
            algorithm,
            health: HealthPolicy::default(),
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
    fn one_server_is_the_queue_of_the_textbook() {
        // M/M/1 at 80 %: 1 / (100/s - 80/s) = 50 ms.
        let mean = mean_ms(&scenario(Algorithm::RoundRobin, 1, 1, 80.0));
        assert!((mean - 50.0).abs() < 2.5, "{mean}");
    }

    #[test]
    fn four_at_a_time_is_erlangs_formula() {
        // M/M/4 at 80 %: Erlang C is 0.5964, so 10 ms + 0.5964 / (400/s - 320/s) = 17.46 ms.
        let mean = mean_ms(&scenario(Algorithm::RoundRobin, 1, 4, 320.0));
        assert!((mean - 17.46).abs() < 0.5, "{mean}");
    }

    #[test]
    fn least_connections_beats_round_robin_where_service_times_vary() {
        let by = |algorithm| mean_ms(&scenario(algorithm, 4, 1, 320.0));
        let (least, turns, hashed) =
            (by(Algorithm::LeastConnections), by(Algorithm::RoundRobin), by(Algorithm::IpHash));
        assert!(least < 0.8 * turns, "{least} {turns}");
        assert!(turns < hashed, "{turns} {hashed}");
    }

    #[test]
    fn a_seed_replays_to_the_last_request() {
        let scenario =
            Scenario { duration: Duration::from_secs(60), ..scenario(Algorithm::LeastConnections, 3, 2, 200.0) };
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
                "backend backend:8002 goes",
                "backend backend:8002 is down: cannot connect: connection refused",
                "backend backend:8002 comes back",
                "backend backend:8002 is up: probe answered 200",
            ]
        );
        let back = report.timeline[3].at.as_secs_f64();
        assert!(back > 40.0 && back < 43.0, "two good probes, a second apart: {back}");
    }

    #[test]
    fn all_gone_is_a_failure_that_is_counted() {
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
    fn nonsense_is_refused() {
        let good = scenario(Algorithm::RoundRobin, 1, 1, 1.0);
        assert_eq!(
            simulate(&Scenario { rate: f64::NAN, ..good.clone() }).unwrap_err().to_string(),
            "the rate is NaN; it must be a positive number of requests a second"
        );
        assert_eq!(simulate(&Scenario { backends: Vec::new(), ..good.clone() }), Err(ScenarioError::NoBackends));
        assert!(simulate(&Scenario { rate: 1e9, ..good }).is_err());
    }
}
