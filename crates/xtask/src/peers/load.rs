//! The load on a contender: runs in its own thread, on one processor, and checks every response.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use loadx_load::{Answer, Content, Origin, Outcome, Plan, Request, Reuse, drive};
use tokio::sync::oneshot;

/// The number of connections that are opened at the same time for `Manner::Hold`.
const OPENING_MAX: usize = 32;

/// The time limit of a request. A contender that takes longer has stalled.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The task of a load.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) target: SocketAddr,
    pub(super) connections: usize,
    pub(super) head: Vec<u8>,
    pub(super) upload_bytes: u64,
    /// The size of the content of every response, in bytes.
    pub(super) content_bytes: u64,
    pub(super) manner: Manner,
}

/// When a connection sends its next request.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(super) enum Manner {
    /// After the response to the last request.
    Closed,
    /// After the response to the last request, on a new connection each time.
    Churn,
    /// On a schedule: this many requests per second, over all connections. Response times count from the scheduled
    /// moment.
    Rate(f64),
    /// The same, on a new connection each time.
    ChurnRate(f64),
    /// Never: each connection sends one request and stays open.
    Hold,
}

impl Work {
    fn plan(self) -> Plan {
        let (host, port) = (self.target.ip().to_string(), self.target.port());
        let origin = Origin { tls: false, host, port, socket: None };
        let request = Request { origin: 0, head: self.head, content: Content::Filler(self.upload_bytes) };
        let plan = Plan { timeout: TIMEOUT, ..Plan::endless(origin, request, self.connections) };
        match self.manner {
            Manner::Closed => plan,
            Manner::Churn => Plan { reuse: Reuse::PerRequest, ..plan },
            Manner::Rate(rate) => Plan { rate: Some(rate), ..plan },
            Manner::ChurnRate(rate) => Plan { rate: Some(rate), reuse: Reuse::PerRequest, ..plan },
            Manner::Hold => Plan {
                requests: Some(self.connections as u64),
                concurrency: self.connections.min(OPENING_MAX),
                reuse: Reuse::Held,
                ..plan
            },
        }
    }
}

/// The counts of a load so far.
#[derive(Debug, Default)]
pub(super) struct Counters {
    done: AtomicU64,
    errors: AtomicU64,
    recording: AtomicBool,
}

impl Counters {
    /// Complete and correct responses.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// All other requests.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    fn count(&self, outcome: &Outcome<'_>, content_bytes: u64, times: &mut Histogram<u64>) {
        let is_right = |answer: &Answer<'_>| answer.status == 200 && answer.content_bytes == content_bytes;
        // A connection that a contender closes without notice is a failure here, even if a second try succeeds.
        if outcome.reconnected || !outcome.result.as_ref().is_ok_and(is_right) {
            self.errors.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.done.fetch_add(1, Ordering::Relaxed);
        if self.recording.load(Ordering::Relaxed) {
            times.saturating_record(outcome.took.as_micros() as u64);
        }
    }
}

/// A running load.
pub(super) struct Load {
    counters: Arc<Counters>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<Histogram<u64>>>,
}

impl Load {
    /// Starts a load in its own thread, on one processor.
    pub(super) fn start(work: Work, processor: usize) -> io::Result<Load> {
        let counters = Arc::<Counters>::default();
        let shared = Arc::clone(&counters);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
            crate::processes::pin(processor)?;
            carry_out(work, shared, stopped)
        })?;
        Ok(Load { counters, stop, thread })
    }

    /// The counts of the load, also after its end.
    pub(super) fn counted(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Starts to record response times.
    pub(super) fn record(&self) {
        self.counters.recording.store(true, Ordering::Relaxed);
    }

    /// Ends the load. Returns the response times, in microseconds.
    pub(super) fn stop(self) -> io::Result<Histogram<u64>> {
        // The receiver is dropped when the load has failed; the thread returns the failure.
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| io::Error::other("the load panicked"))?
    }
}

fn carry_out(work: Work, counters: Arc<Counters>, stopped: oneshot::Receiver<()>) -> io::Result<Histogram<u64>> {
    let times = Histogram::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)?;
    let times = Rc::new(RefCell::new(times));
    let (shared, content_bytes) = (Rc::clone(&times), work.content_bytes);
    let observe = move |outcome: &Outcome<'_>| counters.count(outcome, content_bytes, &mut shared.borrow_mut());
    // This also completes when the `Load` is dropped, so that no load outlives its measurement.
    let stop = async { drop(stopped.await) };
    drive(&work.plan(), observe, stop)?;
    let times = times.borrow();
    Ok(times.clone())
}
