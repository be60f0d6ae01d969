//! The input of the simulator.

use std::fmt;
use std::time::Duration;

use loadx_core::{Algorithm, AttemptPolicy, BackendSpec, HealthPolicy, HedgePolicy, LimitPolicy};

/// The most requests of a run: some minutes of computing time.
const REQUESTS_MAX: f64 = 50_000_000.0;

/// A cluster, its load, and its outages.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The algorithm of the cluster.
    pub algorithm: Algorithm,
    /// The health policy.
    pub health: HealthPolicy,
    /// The time limits of attempts and exchanges.
    pub attempt: AttemptPolicy,
    /// The requests at the same time at each backend, and the queue for the others.
    pub limits: LimitPolicy,
    /// When a second backend gets a request that the first one has not answered yet; `None`: never.
    pub hedge: Option<HedgePolicy>,
    /// The most client connections at the same time; further requests wait. Each request has its own connection.
    pub max_connections: usize,
    /// The backends.
    pub backends: Vec<BackendModel>,
    /// Requests per second, on average.
    pub rate: f64,
    /// The time during which requests arrive.
    pub duration: Duration,
    /// The number of clients; each has its own address.
    pub clients: u32,
    /// The outages of backends.
    pub outages: Vec<Outage>,
    /// The seed of arrivals and service times.
    pub seed: u64,
}

/// The distribution of service times.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// Exponential: many short times, some long times.
    #[default]
    Exponential,
    /// All times are equal.
    Fixed,
}

/// A backend that serves a number of requests at the same time.
#[derive(Clone, Debug)]
pub struct BackendModel {
    /// The name, address and weight of the backend.
    pub spec: BackendSpec,
    /// The mean service time of a request, without waiting.
    pub service: Duration,
    /// The distribution of the service times around the mean.
    pub distribution: Service,
    /// The number of requests that the backend serves at the same time; further requests wait.
    pub parallel: usize,
}

/// A time during which a backend refuses connections. Its running exchanges fail at the start of the outage.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    /// The position of the backend in [`Scenario::backends`].
    pub backend: usize,
    /// When the backend stops, from the start of the run.
    pub from: Duration,
    /// When the backend starts again, from the start of the run.
    pub until: Duration,
}

/// Why a scenario cannot be simulated.
#[derive(Clone, Debug, PartialEq)]
pub enum ScenarioError {
    /// The scenario has no backend.
    NoBackends,
    /// The rate is not a positive number.
    Rate(f64),
    /// A backend serves no request at a time, or has a service time of zero.
    Backend(String),
    /// An outage names an unknown backend, or ends before it begins.
    Outage(Outage),
    /// Rate and duration give more requests than the limit.
    TooLong(f64),
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScenarioError::NoBackends => f.write_str("the scenario has no backend"),
            ScenarioError::Rate(rate) => {
                write!(f, "the rate is {rate}; the rate must be a positive number of requests per second")
            }
            ScenarioError::Backend(name) => {
                write!(f, "backend {name} must serve at least 1 request at a time, with a service time above 0")
            }
            ScenarioError::Outage(outage) => {
                write!(
                    f,
                    "the outage from {:?} until {:?} ends before it begins, or names an unknown backend",
                    outage.from, outage.until
                )
            }
            ScenarioError::TooLong(requests) => {
                write!(f, "rate and duration give {requests:.0} requests; the most is {REQUESTS_MAX:.0}")
            }
        }
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// The reasons why the results of a run may mislead.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let served = |backend: &BackendModel| backend.parallel as f64 / backend.service.as_secs_f64();
        let capacity: f64 = self.backends.iter().map(served).sum();
        let warning = format!(
            "{:.0} requests/s arrive, and the backends can serve {capacity:.0}: \
             waiting times grow for as long as requests arrive",
            self.rate
        );
        if self.rate > capacity { vec![warning] } else { Vec::new() }
    }

    pub(crate) fn check(&self) -> Result<(), ScenarioError> {
        if self.backends.is_empty() {
            return Err(ScenarioError::NoBackends);
        }
        if !(self.rate.is_finite() && self.rate > 0.0) {
            return Err(ScenarioError::Rate(self.rate));
        }
        if let Some(idle) = self.backends.iter().find(|backend| backend.parallel == 0 || backend.service.is_zero()) {
            return Err(ScenarioError::Backend(idle.spec.name.to_string()));
        }
        let sound = |outage: &&Outage| outage.backend < self.backends.len() && outage.from < outage.until;
        if let Some(outage) = self.outages.iter().find(|outage| !sound(outage)) {
            return Err(ScenarioError::Outage(outage.clone()));
        }
        let requests = self.rate * self.duration.as_secs_f64();
        if requests > REQUESTS_MAX { Err(ScenarioError::TooLong(requests)) } else { Ok(()) }
    }
}
