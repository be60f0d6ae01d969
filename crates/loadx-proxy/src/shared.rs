//! What all workers and control share.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use loadx_core::config::{ClientLimits, Config, Signature, Timeouts};
use loadx_core::{AttemptPolicy, View};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one running proxy shares among its threads.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The backends in rotation; control writes, workers read.
    pub(crate) view: ArcSwap<View>,
    pub(crate) settings: Settings,
    pub(crate) places: Places,
    /// Client connections, by worker.
    pub(crate) loads: Box<[WorkerLoad]>,
}

/// A published view in the hands of one worker. Its holders are counted there, without atomics: the
/// count that all workers share stays out of the request path.
#[derive(Clone, Debug)]
#[expect(clippy::redundant_allocation, reason = "two counts, one for this worker and one for all, are the point")]
pub(crate) struct LocalView(Rc<Arc<View>>);

impl LocalView {
    pub(crate) fn new(published: Arc<View>) -> Self {
        LocalView(Rc::new(published))
    }

    pub(crate) fn is(&self, published: &Arc<View>) -> bool {
        Arc::ptr_eq(&self.0, published)
    }
}

impl Deref for LocalView {
    type Target = View;

    fn deref(&self) -> &View {
        &self.0
    }
}

/// What of the config workers go by.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) timeouts: Timeouts,
    pub(crate) attempt: AttemptPolicy,
    pub(crate) client_limits: ClientLimits,
    pub(crate) signature: Signature,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) endpoints_allow: Vec<IpNet>,
    pub(crate) metrics: bool,
    pub(crate) max_connections: usize,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Self {
        Settings {
            timeouts: config.timeouts.clone(),
            attempt: config.timeouts.attempt(),
            client_limits: config.client_limits.clone(),
            signature: config.signature.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            endpoints_allow: config.endpoints_allow.clone(),
            metrics: config.metrics,
            max_connections: config.max_connections,
        }
    }
}

/// The places for client connections, over all workers.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// Clients that were accepted and wait for a place.
    awaited: AtomicUsize,
}

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Places { free: Arc::new(Semaphore::new(count)), awaited: AtomicUsize::new(0) }
    }

    /// A place, if one is free.
    pub(crate) fn try_take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// The next place that comes free.
    pub(crate) async fn take(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.free).acquire_owned().await.expect("the places are never closed")
    }

    /// Lets everybody know, while the guard lives, that somebody waits.
    pub(crate) fn wait(&self) -> Awaiting<'_> {
        self.awaited.fetch_add(1, Ordering::Relaxed);
        Awaiting(self)
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed) > 0
    }
}

/// Somebody waits for a place.
#[derive(Debug)]
pub(crate) struct Awaiting<'p>(&'p Places);

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.awaited.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's claim to be connected: its place among all connections, and in its worker's count.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    worker: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.loads[self.worker].0.fetch_sub(1, Ordering::Relaxed);
        self.shared.places.free.add_permits(1);
    }
}

/// How many client connections one worker has; written by that worker when one opens or closes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerLoad(AtomicUsize);

impl WorkerLoad {
    pub(crate) fn connections(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Takes up a place for a client of `worker`, for as long as it lives.
    pub(crate) fn place(self: &Arc<Self>, worker: usize, permit: OwnedSemaphorePermit) -> Place {
        // Given back by hand, which saves every client at rest half of what a permit takes.
        permit.forget();
        self.loads[worker].0.fetch_add(1, Ordering::Relaxed);
        Place { shared: Arc::clone(self), worker }
    }
}
