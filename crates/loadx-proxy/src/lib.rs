//! All of LoadX's I/O: workers that carry exchanges, and the control that judges backends.
//!
//! A request's way, each step one module: accept (`worker`), head (`client`), route (`exchange/routing`), pick and
//! retry (`exchange`), connection (`pool`, or `origin` for a new one), both bodies (`relay`), metrics and access log.
//! Control (`control`) probes backends, resolves names, publishes plans and views, and answers the status endpoints.
//!
//! Everything is generic over the [`Network`], so that the whole proxy also runs on a simulated one.

mod address;
mod buffers;
mod clock;
mod context;
mod control;
mod date;
mod downstream;
mod exchange;
mod h1;
mod incoming;
mod io;
pub mod limits;
mod messages;
mod net;
mod patience;
mod pipes;
mod proxy;
mod relay;
mod request_id;
mod shared;
mod sides;
mod telemetry;
mod timer;
mod upstream;
mod worker;

pub use net::{Listener, Network, Resolved, Stream, Tcp};
pub use proxy::{ApplyError, Local, Running, StartError, start, start_local};
