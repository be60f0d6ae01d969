//! The balancing code of LoadX in virtual time: what would happen, before it does.
//!
//! The simulator drives the same code as the proxy: [`loadx_core::Cluster`] judges health, [`loadx_core::Attempts`]
//! decides on retries and deadlines, views pick. Clients, backends and time are modelled. A run depends on its
//! [`Scenario`] alone, seed included, so that a run can be repeated to the last request.
//!
//! The model of a backend is a queue: the backend serves a number of requests at the same time and keeps the others
//! waiting in order. Requests arrive as a Poisson process. So the theory of queues says what must come out, and the
//! tests hold the simulator to the theory. A request that LoadX gives up is served all the same, as a real backend
//! would serve it.

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
