//! The load generator: sends HTTP requests over many connections, and reports the result of every request.
//!
//! A load is a closed loop or an open loop. In a closed loop each connection sends its next request when the response
//! to the last request is complete. In an open loop requests leave on a schedule, and response times count from the
//! scheduled moment, so that the response times show a stall of the server.
//!
//! The report is complete: a request without a complete response is an error of a named kind, and the report counts the
//! connections that the server closed.
//!
//! [`run`] returns a [`Report`]. [`drive()`] passes each [`Outcome`] to its caller.

#![forbid(unsafe_code)]

mod client;
mod compare;
mod drive;
mod outcome;
mod plan;
mod reading;
mod report;
mod schedule;
mod tally;
mod target;
mod timeout;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

pub use compare::Comparison;
pub use drive::{Course, drive};
pub use outcome::{Answer, Failure, Outcome};
pub use plan::{Plan, Request, Reuse};
pub use report::{Latency, Report};
use tally::Tally;
pub use target::Target;

/// Runs `plan` and returns the results; calls `progress` with the number of finished requests after each request. When
/// `stop` completes, the run ends at once, and the report has the results so far.
///
/// # Errors
/// When the system lacks a resource that the run needs, or when a task of the run panicked.
pub fn run(plan: &Plan, mut progress: impl FnMut(u64) + 'static, stop: impl Future<Output = ()>) -> io::Result<Report> {
    let tally = Rc::new(RefCell::new(Tally::new()));
    let shared = Rc::clone(&tally);
    let course = drive(
        plan,
        move |outcome| {
            let mut tally = shared.borrow_mut();
            tally.record(outcome);
            progress(tally.done());
        },
        stop,
    )?;
    let report = tally.borrow().report(plan, &course);
    Ok(report)
}
