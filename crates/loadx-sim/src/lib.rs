//! The balancing code of LoadX in virtual time: what would happen, before it does.
//!
//! The simulator drives the same [`loadx_core::Cluster`] as the proxy: the same picks, the same health
//! rules, the same events. Clients, backends and time are modelled. A run depends on its
//! [`Scenario`] alone, seed included, so that it can be repeated to the last request.
//!
//! The model of a backend is a queue: it serves so many requests at the same time, each for an
//! exponentially distributed time, and keeps the others waiting in order. Requests arrive as a Poisson
//! process. So the theory of queues says what must come out, and the tests hold the simulator to it.

mod backend;
mod queue;
mod report;
mod scenario;
mod simulation;

pub use report::{BackendReport, Latency, Report, TimelineEntry};
pub use scenario::{BackendModel, Outage, Scenario, ScenarioError};
pub use simulation::simulate;
