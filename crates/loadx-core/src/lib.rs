//! Every decision that LoadX makes: which backend answers, who is in rotation, what a config means.
//!
//! Nothing here does I/O, reads a clock, draws entropy or starts a thread: `now` and `rng` are
//! arguments, what changed is returned as [`Event`]s. That is why the same code runs in the proxy,
//! in the simulator and in tests.
//!
//! The caller drives a [`Cluster`] from one place (*control*) and shares its [`View`] with whoever
//! carries requests (*workers*):
//!
//! ```
//! use loadx_core::{Algorithm, Cluster, BackendSpec, HealthPolicy, Key, Outcome, Query, Time};
//!
//! let backends = vec![BackendSpec::new("127.0.0.1", 8001), BackendSpec::new("127.0.0.1", 8002)];
//! let mut cluster = Cluster::new(Algorithm::RoundRobin, HealthPolicy::default());
//! cluster.update(Time::ZERO, backends);
//!
//! let view = cluster.view();
//! let query = Query { key: Key::from_ip("192.0.2.7".parse().unwrap()), tried: &[] };
//! let pick = view.pick(Time::ZERO, &query).unwrap();
//! assert_eq!(pick.backend().name(), "127.0.0.1:8001");
//! pick.finish(Time::ZERO, Outcome::Answered);
//! ```

mod backend;
mod balance;
mod cluster;
pub mod config;
mod event;
mod health;
mod retry;
mod rng;
mod snapshot;
mod stable_hash;
mod time;
mod view;

pub use backend::{Backend, BackendId, BackendSpec};
pub use balance::{Algorithm, Key};
pub use cluster::{Cluster, NameAnswer};
pub use event::Event;
pub use health::{Evidence, HealthPolicy, Observation, Standing};
pub use retry::{Trace, Tries};
pub use rng::{Rng, SplitMix64};
pub use snapshot::{BackendSnapshot, Snapshot};
pub use time::Time;
pub use view::{NoBackend, Outcome, Pick, Query, View};
