//! Runs a plan in several threads.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::{mpsc, watch};

use crate::report::RunResults;
use crate::tally::Tally;
use crate::{Course, Plan, Report, drive};

/// The interval in which [`run`] tells its progress.
const TICK: Duration = Duration::from_millis(200);

/// The results of one run.
#[derive(Clone, Debug)]
pub struct Results {
    tally: Tally,
    course: Course,
}

/// A run in progress.
#[derive(Debug)]
pub struct Live {
    /// The time since the start.
    pub elapsed: Duration,
    /// Requests that ended, those of the warm-up included.
    pub requests: u64,
    /// Requests that failed, without those of the warm-up.
    pub failed: u64,
    tally: Tally,
}

impl Live {
    /// The response time that this share of the requests did not exceed, in milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        self.tally.quantile(share)
    }

    /// Bounds in milliseconds with the number of response times up to each, above the bound before; the last bound may be
    /// infinite.
    pub fn histogram(&self) -> Vec<(f64, u64)> {
        self.tally.histogram()
    }
}

impl Results {
    /// The report of this run.
    pub fn report(&self, plan: &Plan) -> Report {
        self.tally.report(plan, &self.course, self.measured(plan))
    }

    /// The time of the run without its warm-up.
    fn measured(&self, plan: &Plan) -> Duration {
        self.course.took.saturating_sub(plan.warm_up)
    }

    /// One report of repeated runs: all requests together, and the results of each run.
    pub fn join(runs: &[Results], plan: &Plan) -> Report {
        let (mut tally, mut course, mut measured) = (Tally::new(plan), Course::default(), Duration::ZERO);
        for run in runs {
            tally.follow(&run.tally, measured);
            measured += run.measured(plan);
            course.follow(&run.course);
        }
        let runs = runs.iter().map(|run| RunResults::of(&run.report(plan))).collect();
        Report { runs, ..tally.report(plan, &course, measured) }
    }
}

/// Runs `plan` in as many threads as it wants, and calls `progress` five times a second in the calling thread. When `stop`
/// completes, the run ends at once, and the results are those so far.
///
/// # Errors
/// When the system lacks a resource that the run needs, or when a task of the run panicked.
pub fn run(plan: &Plan, mut progress: impl FnMut(&Live), stop: impl Future<Output = ()>) -> io::Result<Results> {
    let threads = plan.threads.clamp(1, plan.concurrency.max(1));
    let tallies: Vec<Arc<Mutex<Tally>>> = (0..threads).map(|_| Arc::new(Mutex::new(Tally::new(plan)))).collect();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let began = Instant::now();
    let courses = runtime.block_on(async {
        let mut stop = pin!(stop);
        // Polls the stop first, so that a stop that listens for a signal listens before the first request.
        let mut is_stopped = poll_fn(|cx| Poll::Ready(stop.as_mut().poll(cx).is_ready())).await;
        let (order, ordered) = watch::channel(is_stopped);
        let (ended, mut ends) = mpsc::unbounded_channel();
        let mut joins = Vec::new();
        for (number, tally) in tallies.iter().enumerate() {
            let (part, tally, mut ordered, ended) =
                (plan.part(number, threads), Arc::clone(tally), ordered.clone(), ended.clone());
            let thread = std::thread::Builder::new().name("load".to_owned());
            joins.push(thread.spawn(move || {
                let observe = move |outcome: &crate::Outcome<'_>| lock(&tally).record(outcome);
                let stop = async move {
                    // The sender lives as long as the run.
                    let _ = ordered.wait_for(|is_stopped| *is_stopped).await;
                };
                let course = drive(&part, observe, stop);
                // The receiver lives until all threads have ended.
                let _ = ended.send(());
                course
            })?);
        }
        drop(ended);
        // However short the run, its beginning is told.
        progress(&live(plan, &tallies, began));
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
        let mut running = threads;
        while running > 0 {
            tokio::select! {
                () = &mut stop, if !is_stopped => {
                    is_stopped = true;
                    order.send_replace(true);
                }
                end = ends.recv() => running = if end.is_some() { running - 1 } else { 0 },
                _ = ticks.tick() => progress(&live(plan, &tallies, began)),
            }
        }
        let mut courses = Vec::new();
        for join in joins {
            courses.push(join.join().map_err(|_| io::Error::other("a thread of the load panicked"))??);
        }
        io::Result::Ok(courses)
    })?;
    runtime.shutdown_background();
    let mut course = Course::default();
    courses.iter().for_each(|other| course.join(other));
    Ok(Results { tally: sum(plan, &tallies), course })
}

fn lock(tally: &Mutex<Tally>) -> std::sync::MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

fn sum(plan: &Plan, tallies: &[Arc<Mutex<Tally>>]) -> Tally {
    let mut all = Tally::new(plan);
    tallies.iter().for_each(|tally| all.join(&lock(tally)));
    all
}

fn live(plan: &Plan, tallies: &[Arc<Mutex<Tally>>], began: Instant) -> Live {
    let tally = sum(plan, tallies);
    Live { elapsed: began.elapsed(), requests: tally.all(), failed: tally.failed(), tally }
}
