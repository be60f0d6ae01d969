//! Every decision of LoadX: which backend answers, which backends are in rotation, what a config means.
//!
//! This crate does no I/O, reads no clock, draws no random numbers and starts no thread: `now` and random numbers are
//! arguments, and functions return changes as [`Event`]s. The same code runs in the proxy, in the simulator and in
//! tests.
//!
//! *Control* drives a [`Cluster`] and shares its [`View`] with the *workers*, which carry requests:
//!
//! ```
//! use std::time::Duration;
//! use loadx_core::{Algorithm, BackendSpec, Cluster, Ended, HealthPolicy, Ids, Outcome, Query, Time};
//!
//! let backends = vec![BackendSpec::new("127.0.0.1", 8001), BackendSpec::new("127.0.0.1", 8002)];
//! let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
//! cluster.update(Time::ZERO, backends, &mut Ids::default());
//!
//! let view = cluster.view();
//! let key = view.key("192.0.2.7".parse().unwrap());
//! let pick = view.pick(&Query { now: Time::ZERO, entropy: 1, key, tried: &[] }).picked().unwrap();
//! assert_eq!(pick.backend().name(), "127.0.0.1:8001");
//! let took = Duration::from_millis(3);
//! pick.finish(Ended { outcome: Outcome::Answered, status: 200, first_byte: took, took });
//! ```

#![forbid(unsafe_code)]

mod admit;
mod attempt;
mod backend;
mod balance;
mod cluster;
pub mod config;
mod event;
mod explain;
mod health;
mod ids;
mod load;
pub mod plan;
mod rng;
pub mod route;
mod snapshot;
mod stable_hash;
mod time;
pub mod trial;
mod view;

pub use admit::{BackendLimit, Entered, Gate, LimitPolicy, Place, Turn};
pub use attempt::{
    AttemptPolicy, Attempts, BudgetPolicy, ConnectFailure, ConnectFailureKind, ErrorKind, Failure, FaultOf,
    GrpcStatuses, HedgeClock, HedgePolicy, ProxyError, Replay, RetryBudget, RetryPolicy, Stage, Statuses,
};
pub use backend::{Backend, BackendSpec};
pub use balance::{Algorithm, Key, KeyPrefixes, Query};
pub use cluster::{Cluster, NameAnswer};
pub use event::{ClusterEvent, Event};
pub use explain::{Candidate, PickExplanation};
pub use health::{
    BreakerPolicy, Evidence, HealthPolicy, HttpProbe, Observation, OutlierPolicy, Probe, ProbeMethod, Standing,
    StatusRanges,
};
pub use ids::{BackendId, ClusterId, Ids, ListenerId, RouteId};
pub use rng::{Rng, SplitMix64};
pub use snapshot::{BackendSnapshot, Snapshot};
pub use time::Time;
pub use view::{Choice, Ended, NoBackend, Outcome, Pick, View};
