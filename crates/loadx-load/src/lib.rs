//! The load generator: sends HTTP requests over many connections, and reports the result of every request.
//!
//! A load is a closed loop or an open loop. In a closed loop each connection sends its next request when the response
//! to the last request is complete. In an open loop requests leave on a schedule, and response times count from the
//! scheduled moment, so that the response times show a stall of the server; the times since requests were sent stand beside
//! them.
//!
//! The report is complete: a request without a complete response is an error of a named kind, and the report counts the
//! connections that the server closed.
//!
//! [`run`] returns a [`Report`], and runs as many threads as the plan wants. [`drive()`] runs in the calling thread, and passes
//! each [`Outcome`] to its caller. `client` speaks HTTP/1.1, `h2_client` HTTP/2.

#![forbid(unsafe_code)]

mod client;
mod compare;
mod drive;
mod h2_client;
mod html;
mod outcome;
mod plan;
mod reading;
mod report;
mod schedule;
mod search;
mod statistics;
mod tally;
mod target;
mod threads;
mod timeline;
mod timeout;
mod wire;

pub use compare::Comparison;
pub use drive::{Course, drive};
pub use outcome::{Answer, Failure, Outcome};
pub use plan::{Content, Plan, Protocol, Request, Reuse};
pub use report::{Latency, Moment, Report, RunResults, Schedule, Share};
pub use rustls::ClientConfig as TlsConfig;
pub use search::{Goal, Search};
pub use target::{Origin, Target};
pub use threads::{Live, Results, run};
