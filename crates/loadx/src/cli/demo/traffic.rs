//! The steady traffic of the demo, on its own thread.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use loadx_load::{Origin, Plan, Target};

/// The number of requests in a batch; all of them are under way at the same time.
const BATCH: u64 = 20;
const CONCURRENCY: usize = 4;

/// The shortest time of a batch. Without this limit the demo would send thousands of requests per second while LoadX
/// answers at once, for example while no backend is in rotation.
const BATCH_TIME: Duration = Duration::from_millis(100);

/// The results of the requests so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) requests: u64,
    /// Requests without a complete response, or with a status of 500 and above.
    pub(super) failed: u64,
    by_backend: BTreeMap<String, u64>,
    /// Why the demo can send no more requests.
    pub(super) broken: Option<String>,
}

impl Counts {
    /// The number of requests that this backend answered.
    pub(super) fn of(&self, backend: &str) -> u64 {
        self.by_backend.get(backend).copied().unwrap_or_default()
    }
}

/// Traffic that runs until it is stopped.
pub(super) struct Traffic {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    counts: Mutex<Counts>,
    stop: AtomicBool,
}

impl Traffic {
    /// Starts to send requests to the LoadX on this port.
    pub(super) fn start(port: u16) -> io::Result<Self> {
        let origin = Origin { tls: false, host: Ipv4Addr::LOCALHOST.to_string(), port, socket: None };
        let target = Target { origin, path: "/".to_owned() };
        let plan = Plan::new(target, BATCH, CONCURRENCY, Duration::from_secs(5));
        let shared = Arc::<Shared>::default();
        let sender = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("loadx-traffic".to_owned()).spawn(move || send(&plan, &sender))?;
        Ok(Traffic { shared, thread })
    }

    pub(super) fn counts(&self) -> Counts {
        self.shared.counts().clone()
    }

    /// Finishes the running batch and sends no more requests.
    pub(super) fn stop(self) -> Counts {
        self.shared.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            tracing::error!("the traffic of the demo panicked");
        }
        self.shared.counts().clone()
    }
}

impl Shared {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn send(plan: &Plan, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let report = match loadx_load::run(plan, |_| {}, std::future::pending()) {
            Ok(results) => results.report(plan),
            Err(error) => {
                shared.counts().broken = Some(error.to_string());
                return;
            }
        };
        let mut counts = shared.counts();
        counts.requests += report.requests;
        counts.failed += report.failed;
        for (backend, count) in report.backends {
            *counts.by_backend.entry(backend).or_default() += count;
        }
        drop(counts);
        std::thread::sleep(BATCH_TIME.saturating_sub(began.elapsed()));
    }
}
