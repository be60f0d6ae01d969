//! The load generator: sends HTTP requests over many connections, and reports the result of every request.
//!
//! A load is a closed loop or an open loop. In a closed loop each connection sends its next request when the
//! answer to the last request is whole. In an open loop requests leave on a schedule, and response times
//! count from the scheduled moment, so that a server that stalls cannot hide the stall by holding up the load.
//!
//! Nothing is hidden: a request without a whole answer is an error of a named kind, and connections that had
//! to be opened again are counted.
//!
//! [`run`] makes a [`Report`]. [`drive()`] hands each [`Outcome`] to its caller.

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

/// Carries out `plan` and reports the results; `progress` gets the number of finished requests after each
/// request. When `stop` completes, the run ends at once, and the report holds the results so far.
///
/// # Errors
/// When the system lacks what a run needs, or when a task of the run panicked.
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
