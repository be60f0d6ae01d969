//! What all workers and control share.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use loadx_core::View;
use loadx_core::config::{Config, Timeouts};
use tokio::sync::Semaphore;

/// What one running proxy shares among its threads.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The backends in rotation; control writes, workers read.
    pub(crate) view: ArcSwap<View>,
    pub(crate) settings: Settings,
    /// Client connections that may still be opened.
    pub(crate) slots: Arc<Semaphore>,
    /// Client connections, by worker.
    pub(crate) loads: Box<[WorkerLoad]>,
}

/// A published view in the hands of one worker. Counting its holders there, without atomics, keeps
/// the count that all workers share out of the request path.
#[derive(Debug)]
pub(crate) struct LocalView(Arc<View>);

impl LocalView {
    pub(crate) fn new(published: Arc<View>) -> Rc<Self> {
        Rc::new(LocalView(published))
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
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) endpoints_allow: Vec<IpNet>,
    pub(crate) metrics: bool,
    pub(crate) max_connections: usize,
}

impl Settings {
    pub(crate) fn new(config: &Config) -> Self {
        Settings {
            timeouts: config.timeouts.clone(),
            trusted_proxies: config.trusted_proxies.clone(),
            endpoints_allow: config.endpoints_allow.clone(),
            metrics: config.metrics,
            max_connections: config.max_connections,
        }
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
    /// Counts a client connection of `worker` for as long as the guard lives.
    pub(crate) fn count_connection(self: &Arc<Self>, worker: usize) -> OpenConnection {
        self.loads[worker].0.fetch_add(1, Ordering::Relaxed);
        OpenConnection { shared: Arc::clone(self), worker }
    }
}

/// A client connection that is counted.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    shared: Arc<Shared>,
    worker: usize,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shared.loads[self.worker].0.fetch_sub(1, Ordering::Relaxed);
    }
}
