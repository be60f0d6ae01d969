//! One run: applies the events in order, and calls the core for every decision.

mod hedge;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use loadx_core::{
    Attempts, BackendId, Choice, Cluster, ConnectFailure, ConnectFailureKind, Ended, Entered, Event as Change,
    Evidence, Failure, HedgeClock, Ids, Key, KeyPrefixes, NameAnswer, NoBackend, Observation, Outcome, Pick, Place,
    Replay, Stage, Time, Turn, View,
};

use crate::backend::{Backend, ExchangeNumber};
use crate::chance::Chances;
use crate::queue::EventQueue;
use crate::report::{BackendReport, Latencies, Report, TimelineEntry};
use crate::scenario::{Scenario, ScenarioError};

/// The duration of a probe of a backend that is up.
const PROBE_TIME: Duration = Duration::from_millis(1);

/// Requests of the simulator are GETs without a body.
const REPLAY: Replay = Replay { idempotent: true, whole: true };

/// An event of the run.
#[derive(Copy, Clone, Debug)]
enum Event {
    Arrival,
    Served {
        backend: usize,
        exchange: ExchangeNumber,
    },
    /// The backend of attempt number `attempt` has been silent for as long as the policy allows.
    Silent {
        exchange: ExchangeNumber,
        attempt: usize,
    },
    /// A second backend may get the request of attempt number `attempt`.
    Hedge {
        exchange: ExchangeNumber,
        attempt: usize,
    },
    /// The pause before another round of attempts is over.
    Again(ExchangeNumber),
    /// The time of an exchange in the queue may be over.
    QueueTime,
    /// The exchange has taken as long as the policy allows.
    TooLong(ExchangeNumber),
    ProbeEnds {
        backend: usize,
        began: Time,
    },
    Stops(usize),
    Starts(usize),
    /// Control runs the probes that are due.
    Control,
}

/// A request under way.
#[derive(Debug)]
struct Exchange {
    client: IpAddr,
    arrived: Time,
    attempts: Attempts,
    /// The status for the last failed attempt.
    failed_with: Option<u16>,
    pick: Option<Pick<Arc<View>>>,
    /// The second attempt beside the present one.
    second: Option<Pick<Arc<View>>>,
    /// Whether the exchange has been in the queue and has its turn.
    has_turn: bool,
    /// When the exchange first entered the queue.
    waits_since: Option<Time>,
}

/// Simulates `scenario`.
///
/// # Errors
/// When the scenario is not valid; see [`ScenarioError`].
pub fn simulate(scenario: &Scenario) -> Result<Report, ScenarioError> {
    scenario.check()?;
    let mut run = Run::new(scenario);
    while let Some((now, event)) = run.events.pop() {
        run.now = now;
        run.happen(event);
        run.take_turns();
        run.accept();
        run.take_turns();
        if run.is_over() {
            break;
        }
    }
    Ok(run.report())
}

struct Run<'s> {
    scenario: &'s Scenario,
    now: Time,
    chances: Chances,
    events: EventQueue<Event>,
    cluster: Cluster,
    /// The position of each backend in the scenario.
    positions: BTreeMap<BackendId, usize>,
    /// When control runs next; earlier `Control` events in the queue have no effect.
    control_at: Option<Time>,
    backends: Vec<Backend>,
    /// The exchanges under way, by number.
    exchanges: BTreeMap<ExchangeNumber, Exchange>,
    /// The exchanges that wait for a backend below its limit, in the order of their arrival.
    queued: Vec<(ExchangeNumber, Arc<Place>)>,
    /// Requests that wait for a client connection, because the limit of open connections is reached.
    unaccepted: VecDeque<(ExchangeNumber, IpAddr, Time)>,
    arriving: bool,
    requests: u64,
    failures: BTreeMap<u16, u64>,
    retries: u64,
    latencies: Latencies,
    timeline: Vec<TimelineEntry>,
}

impl<'s> Run<'s> {
    fn new(scenario: &'s Scenario) -> Self {
        let mut cluster = Cluster::new(scenario.algorithm, scenario.health.clone());
        cluster.set_retry_budget(scenario.attempt.retry.budget);
        cluster.set_limits(&scenario.limits);
        cluster.set_hedging(scenario.hedge);
        let specs = scenario.backends.iter().map(|backend| backend.spec.clone()).collect();
        cluster.update(Time::ZERO, specs, &mut Ids::default());
        let ids: Vec<BackendId> = cluster.ids().collect();
        // Names need no DNS here: every name has this address. The address does not matter, because nothing connects.
        let address: Arc<[SocketAddr]> = [SocketAddr::from((Ipv4Addr::LOCALHOST, 1))].into();
        for id in &ids {
            cluster.resolved(*id, NameAnswer::Addresses(Arc::clone(&address)));
        }
        let mut events = EventQueue::new();
        events.push(Time::ZERO, Event::Control);
        events.push(Time::ZERO, Event::Arrival);
        for outage in &scenario.outages {
            events.push(Time::ZERO + outage.from, Event::Stops(outage.backend));
            events.push(Time::ZERO + outage.until, Event::Starts(outage.backend));
        }
        Run {
            scenario,
            now: Time::ZERO,
            chances: Chances::new(scenario.seed),
            events,
            cluster,
            positions: ids.into_iter().enumerate().map(|(position, id)| (id, position)).collect(),
            control_at: Some(Time::ZERO),
            backends: scenario.backends.iter().cloned().map(Backend::new).collect(),
            exchanges: BTreeMap::new(),
            queued: Vec::new(),
            unaccepted: VecDeque::new(),
            arriving: true,
            requests: 0,
            failures: BTreeMap::new(),
            retries: 0,
            latencies: Latencies::new(),
            timeline: Vec::new(),
        }
    }

    fn is_over(&self) -> bool {
        !self.arriving && self.exchanges.is_empty() && self.unaccepted.is_empty()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrival => self.arrival(),
            Event::Served { backend, exchange } => self.served(backend, exchange),
            Event::Silent { exchange, attempt } => {
                let waits = |exchange: &Exchange| exchange.attempts.failures() == attempt;
                if self.exchanges.get(&exchange).is_some_and(waits) {
                    self.attempt_failed(exchange, &Failure::Silent);
                }
            }
            Event::Hedge { exchange, attempt } => self.hedge(exchange, attempt),
            Event::Again(exchange) => self.attempt(exchange),
            // `take_turns` looks at every exchange in the queue.
            Event::QueueTime => {}
            Event::TooLong(exchange) => {
                if let Some(limit) = self.scenario.attempt.exchange {
                    self.attempt_failed(exchange, &Failure::TookTooLong { limit, stage: Stage::Waiting });
                }
            }
            Event::ProbeEnds { backend, began } => self.probe_ends(backend, began),
            Event::Stops(backend) => {
                self.tell(format!("backend {} stops", self.scenario.backends[backend].spec.name));
                let broken = Failure::Unanswered { reason: "connection reset".to_owned(), unsent: false };
                for exchange in self.backends[backend].stop() {
                    if self.ends_second(exchange, backend, &broken) {
                        continue;
                    }
                    self.attempt_failed(exchange, &broken);
                }
            }
            Event::Starts(backend) => {
                self.tell(format!("backend {} starts", self.scenario.backends[backend].spec.name));
                self.backends[backend].start();
            }
            Event::Control => self.control(),
        }
    }

    fn tell(&mut self, text: String) {
        self.timeline.push(TimelineEntry { at: self.now.since(Time::ZERO), what: text });
    }

    fn arrival(&mut self) {
        let number = self.requests;
        let client = self.chances.client(self.scenario.clients);
        let client = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + client));
        self.requests += 1;
        self.unaccepted.push_back((number, client, self.now));
        let next = self.now + self.chances.gap(self.scenario.rate);
        if next.since(Time::ZERO) < self.scenario.duration {
            self.events.push(next, Event::Arrival);
        } else {
            self.arriving = false;
        }
    }

    /// Begins the exchanges of waiting requests while client connections are free.
    fn accept(&mut self) {
        while self.exchanges.len() < self.scenario.max_connections
            && let Some((number, client, arrived)) = self.unaccepted.pop_front()
        {
            let attempts = Attempts::new(self.now, self.scenario.attempt.retry);
            if let Some(deadline) = attempts.exchange_deadline(&self.scenario.attempt) {
                self.events.push(deadline, Event::TooLong(number));
            }
            self.exchanges.insert(
                number,
                Exchange {
                    client,
                    arrived,
                    attempts,
                    failed_with: None,
                    pick: None,
                    second: None,
                    has_turn: false,
                    waits_since: None,
                },
            );
            self.attempt(number);
        }
    }

    /// Starts the next attempt of an exchange.
    fn attempt(&mut self, number: ExchangeNumber) {
        let Some(exchange) = self.exchanges.get_mut(&number) else { return };
        let view = self.cluster.view();
        let key = view.key(exchange.client);
        let is_first = exchange.attempts.failures() == 0;
        if is_first && !exchange.has_turn && view.gate().is_busy() {
            return self.wait(number);
        }
        let choice = exchange.attempts.choose(view, self.now, self.chances.entropy(number), key);
        let pick = match choice {
            Choice::Picked(pick) => pick,
            Choice::Wait if is_first => return self.wait(number),
            Choice::Wait => {
                let status = exchange.failed_with.unwrap_or(NoBackend::AtLimit.response().status);
                return self.fail(number, status);
            }
            Choice::None(NoBackend::AllTried)
                if let Some(pause) =
                    exchange.attempts.next_round(&self.cluster.view(), self.chances.entropy(number)) =>
            {
                return self.events.push(self.now + pause, Event::Again(number));
            }
            Choice::None(none) => {
                let status = exchange.failed_with.unwrap_or(none.response().status);
                return self.fail(number, status);
            }
        };
        self.retries += u64::from(exchange.attempts.failures() > 0);
        let position = self.positions[&pick.backend().id()];
        let in_flight = pick.backend().in_flight();
        exchange.pick = Some(pick);
        if self.backends[position].is_stopped() {
            let reason = "connection refused".into();
            let refused = ConnectFailure { kind: ConnectFailureKind::Refused, reason };
            return self.attempt_failed(number, &Failure::Connect(refused));
        }
        let attempt = exchange.attempts.failures();
        let silent_at = exchange.attempts.response_deadline(&self.scenario.attempt, self.now);
        self.events.push(silent_at, Event::Silent { exchange: number, attempt });
        if let Some(delay) = self.cluster.view().hedge().and_then(HedgeClock::delay) {
            self.events.push(self.now + delay, Event::Hedge { exchange: number, attempt });
        }
        if self.backends[position].arrive(number, in_flight) {
            self.serve(position, number);
        }
    }

    /// Puts an exchange into the queue.
    fn wait(&mut self, number: ExchangeNumber) {
        let Some(exchange) = self.exchanges.get_mut(&number) else { return };
        let view = self.cluster.view();
        let client = Key::from_ip(exchange.client, KeyPrefixes::default());
        let since = *exchange.waits_since.get_or_insert(self.now);
        match view.gate().enter(self.now, client, since) {
            Some(Entered { place, .. }) => {
                self.events.push(view.gate().deadline(&place), Event::QueueTime);
                self.queued.push((number, place));
            }
            None => self.fail(number, NoBackend::AtLimit.response().status),
        }
    }

    /// Lets the exchanges go on that have their turn, and refuses those that have waited long enough.
    fn take_turns(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut index = 0;
        while let Some((number, place)) = self.queued.get(index) {
            let (number, gate) = (*number, Arc::clone(self.cluster.view().gate()));
            let turn = match place.poll(&mut context) {
                Poll::Pending if self.now < gate.deadline(place) => None,
                Poll::Pending => Some(Turn::Refused),
                Poll::Ready(turn) => Some(turn),
            };
            let Some(turn) = turn else {
                index += 1;
                continue;
            };
            let (_, place) = self.queued.remove(index);
            if turn == Turn::Refused || self.now > gate.deadline(&place) {
                gate.leave(&place);
                self.fail(number, NoBackend::AtLimit.response().status);
            } else if let Some(exchange) = self.exchanges.get_mut(&number) {
                exchange.has_turn = true;
                self.attempt(number);
            }
            // A turn may have passed to an exchange before this one.
            index = 0;
        }
    }

    fn serve(&mut self, backend: usize, exchange: ExchangeNumber) {
        let is_there = |pick: &Pick<Arc<View>>| self.positions[&pick.backend().id()] == backend;
        let second = self.exchanges.get(&exchange).and_then(|exchange| exchange.second.as_ref());
        let model = &self.backends[backend].model;
        let took = match second.is_some_and(is_there) {
            true => self.chances.second_service(exchange, model),
            false => self.chances.service(exchange, model),
        };
        self.events.push(self.now + took, Event::Served { backend, exchange });
    }

    fn served(&mut self, backend: usize, number: ExchangeNumber) {
        let Some(finished) = self.backends[backend].finish(number) else { return };
        if let Some(next) = finished.next {
            self.serve(backend, next);
        }
        // A backend also serves requests that LoadX has abandoned.
        let asked = |pick: &Pick<Arc<View>>| self.positions[&pick.backend().id()] == backend;
        let Some(exchange) = self.exchanges.get_mut(&number) else { return };
        let pick = match exchange.second.take_if(|pick| asked(pick)) {
            Some(second) => {
                if let Some(first) = exchange.pick.take() {
                    let took = self.now.since(first.at());
                    first.finish(Ended::unanswered(Outcome::Overtaken, took));
                }
                second
            }
            None => match exchange.pick.take_if(|pick| asked(pick)) {
                Some(pick) => pick,
                None => return,
            },
        };
        let took = self.now.since(pick.at());
        pick.finish(Ended { outcome: Outcome::Answered, status: 200, first_byte: took, took });
        self.latencies.record(self.now.since(exchange.arrived));
        self.backends[backend].answered += 1;
        self.exchanges.remove(&number);
    }

    /// Ends a failed attempt: the core decides whether LoadX tries another backend.
    fn attempt_failed(&mut self, number: ExchangeNumber, failure: &Failure) {
        let Some(exchange) = self.exchanges.get_mut(&number) else { return };
        let Some(pick) = exchange.pick.take() else { return };
        exchange.second = None;
        let backend = pick.backend().id();
        let status = failure.response().map_or(499, |error| error.status);
        exchange.failed_with = Some(status);
        let view = self.cluster.view();
        let may_go_on = exchange.attempts.failed(backend, failure, REPLAY, view.retry_budget());
        let ended = Ended::unanswered(failure.outcome(), self.now.since(pick.at()));
        if let Some(observation) = pick.finish(ended) {
            self.observe(backend, &observation);
        }
        if may_go_on {
            self.attempt(number);
        } else {
            self.fail(number, status);
        }
    }

    fn fail(&mut self, number: ExchangeNumber, status: u16) {
        self.exchanges.remove(&number);
        *self.failures.entry(status).or_default() += 1;
    }

    fn control(&mut self) {
        self.control_at = None;
        for change in self.cluster.look(self.now) {
            self.tell(change.to_string());
        }
        for id in self.cluster.tick(self.now) {
            let ends = self.now + PROBE_TIME;
            self.events.push(ends, Event::ProbeEnds { backend: self.positions[&id], began: self.now });
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
        let evidence = match self.backends[backend].is_stopped() {
            false => Evidence::ProbePassed { status: 200 },
            true => Evidence::ProbeFailed { reason: "connection refused".into() },
        };
        let id = self.cluster.ids().nth(backend);
        let id = id.expect("backends are neither added nor removed in a run");
        self.observe(id, &Observation { began, evidence });
    }

    fn observe(&mut self, id: BackendId, observation: &Observation) {
        if let Some(change) = self.cluster.observe(self.now, id, observation, &mut self.chances.control) {
            // The timeline does not report backends that come up at the start.
            if self.now > Time::ZERO + PROBE_TIME || matches!(change, Change::Ejected { .. }) {
                self.tell(change.to_string());
            }
        }
        self.plan_control();
    }

    fn report(self) -> Report {
        let backends = self.backends.iter().map(|backend| BackendReport {
            name: Arc::clone(&backend.model.spec.name),
            answered: backend.answered,
            most_at_once: backend.most_at_once,
        });
        Report {
            requests: self.requests,
            failed: self.failures.values().sum(),
            failures: self.failures,
            retries: self.retries,
            latency: self.latencies.summary(),
            backends: backends.collect(),
            timeline: self.timeline,
            warnings: self.scenario.warnings(),
        }
    }
}

#[cfg(test)]
mod tests;
