//! The simulator: the balancing code of LoadX in virtual time.
//!
//! The simulator runs the same code as the proxy: [`loadx_core::Cluster`] decides on health, [`loadx_core::Attempts`]
//! decides on retries and deadlines, views pick. Clients, backends and time are modelled. A run depends only on its
//! [`Scenario`], which includes the seed, so that the same scenario gives the same run.
//!
//! A backend is modelled as a queue: the backend serves a number of requests at the same time and keeps the others
//! waiting in order. Requests arrive as a Poisson process. Queueing theory therefore gives the expected results, and
//! the tests compare the simulator with the theory. A backend also serves a request that LoadX has abandoned, as a real
//! backend would.

#![forbid(unsafe_code)]

mod backend;
mod chance;
mod queue;
mod report;
mod scenario;
mod simulation;

pub use report::{BackendReport, Latency, Report, TimelineEntry};
pub use scenario::{BackendModel, Outage, Scenario, ScenarioError, Service};
pub use simulation::simulate;
