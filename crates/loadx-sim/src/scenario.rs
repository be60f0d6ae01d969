//! What is to be simulated.

use std::fmt;
use std::time::Duration;

use loadx_core::{Algorithm, AttemptPolicy, BackendSpec, HealthPolicy};

/// The most requests of a run: some minutes of computing.
const REQUESTS_MAX: f64 = 50_000_000.0;

/// A cluster, its load, and what happens to it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The policy that picks.
    pub algorithm: Algorithm,
    /// How backends are probed.
    pub health: HealthPolicy,
    /// How long attempts and exchanges may take.
    pub attempt: AttemptPolicy,
    /// Client connections at the same time; requests beyond wait. Each request has a connection of its own.
    pub max_connections: usize,
    /// The servers.
    pub backends: Vec<BackendModel>,
    /// Requests a second, on average.
    pub rate: f64,
    /// How long requests arrive.
    pub duration: Duration,
    /// How many clients send them; each has an address of its own.
    pub clients: u32,
    /// When backends are gone.
    pub outages: Vec<Outage>,
    /// Chooses arrivals and service times.
    pub seed: u64,
}

/// How service times are distributed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// Exponentially: many short ones, some long ones.
    #[default]
    Exponential,
    /// All the same.
    Fixed,
}

/// A server that can serve a number of requests at the same time.
#[derive(Clone, Debug)]
pub struct BackendModel {
    /// Its name, address and weight.
    pub spec: BackendSpec,
    /// How long a request takes once it is being served, on average.
    pub service: Duration,
    /// How the times of single requests are distributed around that.
    pub distribution: Service,
    /// How many requests are served at the same time; the others wait.
    pub parallel: usize,
}

/// A time during which a backend refuses connections; what it was serving breaks off.
#[derive(Clone, Debug, PartialEq)]
pub struct Outage {
    /// Which backend, by its place in [`Scenario::backends`].
    pub backend: usize,
    /// When the backend stops, from the start.
    pub from: Duration,
    /// When the backend starts again, from the start.
    pub until: Duration,
}

/// Why a scenario cannot be simulated.
#[derive(Clone, Debug, PartialEq)]
pub enum ScenarioError {
    /// There is no backend.
    NoBackends,
    /// The rate is not a positive number.
    Rate(f64),
    /// A backend serves nothing at all, or takes no time for it.
    Backend(String),
    /// An outage names a backend that is not there, or ends before it begins.
    Outage(Outage),
    /// Rate and duration come to more requests than can be kept.
    TooLong(f64),
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScenarioError::NoBackends => f.write_str("there is no backend to simulate"),
            ScenarioError::Rate(rate) => {
                write!(f, "the rate is {rate}; it must be a positive number of requests a second")
            }
            ScenarioError::Backend(name) => {
                write!(f, "backend {name} must serve at least 1 request at a time, each in more than no time")
            }
            ScenarioError::Outage(outage) => {
                write!(
                    f,
                    "an outage from {:?} until {:?} ends before it begins, or of a backend that is not there",
                    outage.from, outage.until
                )
            }
            ScenarioError::TooLong(requests) => {
                write!(f, "rate and duration come to {requests:.0} requests; {REQUESTS_MAX:.0} are possible")
            }
        }
    }
}

impl std::error::Error for ScenarioError {}

impl Scenario {
    /// What makes the results of a run less than they seem.
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
